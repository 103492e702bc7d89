//! A small library in Zig with a C ABI: `export` makes a name visible, `extern struct` is laid out as in C.

const std = @import("std");

const allocator = std.heap.page_allocator;

/// 24 bytes by value: the caller provides the memory for it, behind the scenes.
pub const Summary = extern struct {
    count: usize,
    mean: f64,
    deviation: f64,
};

/// A slice of Zig comes as a pointer and a length.
export fn summarize(values: [*]const f64, count: usize) Summary {
    var mean: f64 = 0;
    var squares: f64 = 0;
    for (values[0..count], 1..) |value, n| {
        const delta = value - mean;
        mean += delta / @as(f64, @floatFromInt(n));
        squares += delta * (value - mean);
    }
    const divisor: f64 = @floatFromInt(@max(count, 2) - 1);
    return .{ .count = count, .mean = mean, .deviation = @sqrt(squares / divisor) };
}

/// Replace every value by what the caller's function makes of it.
export fn transform(values: [*]f64, count: usize, function: *const fn (f64) callconv(.c) f64) void {
    for (values[0..count]) |*value| value.* = function(value.*);
}

/// A line of bars, as a text that the caller gives back with `release`; null where there is nothing to show.
export fn sparkline(values: [*]const f64, count: usize) ?[*:0]u8 {
    if (count == 0) return null;
    const low = std.mem.min(f64, values[0..count]);
    const high = std.mem.max(f64, values[0..count]);
    const text = allocator.allocSentinel(u8, 3 * count, 0) catch return null;
    for (values[0..count], 0..) |value, i| {
        const level: u8 = if (high > low) @intFromFloat(7 * (value - low) / (high - low)) else 0;
        // U+2581 … U+2588, three bytes each in UTF-8.
        @memcpy(text[3 * i ..][0..3], &[3]u8{ 0xe2, 0x96, 0x81 + level });
    }
    in_use += 1;
    return text.ptr;
}

export fn release(text: [*:0]u8) void {
    allocator.free(std.mem.span(text));
    in_use -= 1;
}

/// How many texts have not come back.
export fn texts_in_use() u32 {
    return in_use;
}

var in_use: u32 = 0;
