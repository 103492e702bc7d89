//! A small library in Rust with a C ABI: what a caller from outside sees is marked `extern "C"`.

use std::ffi::{c_char, c_int, CString};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Point {
    x: f64,
    y: f64,
}

/// Two structs by value in, one out: on x86-64 all of it in vector registers.
#[no_mangle]
pub extern "C" fn point_add(a: Point, b: Point) -> Point {
    Point { x: a.x + b.x, y: a.y + b.y }
}

/// The length of a line through the points. A slice comes as a pointer and a length.
///
/// # Safety
/// `points` must be valid for `count` points.
#[no_mangle]
pub unsafe extern "C" fn path_length(points: *const Point, count: usize) -> f64 {
    let points = std::slice::from_raw_parts(points, count);
    points.windows(2).map(|pair| (pair[1].x - pair[0].x).hypot(pair[1].y - pair[0].y)).sum()
}

/// Sort the points in place, as the caller's function compares them.
///
/// # Safety
/// `points` must be valid for `count` points and not be used by others meanwhile.
#[no_mangle]
pub unsafe extern "C" fn path_sort(points: *mut Point, count: usize, compare: extern "C" fn(Point, Point) -> c_int) {
    std::slice::from_raw_parts_mut(points, count).sort_by(|a, b| compare(*a, *b).cmp(&0));
}

/// The points as text for SVG, or NULL for none. The caller gives the text back with `string_free`.
///
/// # Safety
/// `points` must be valid for `count` points.
#[no_mangle]
pub unsafe extern "C" fn path_to_svg(points: *const Point, count: usize) -> *mut c_char {
    if count == 0 {
        return std::ptr::null_mut();
    }
    let points = std::slice::from_raw_parts(points, count);
    let steps: Vec<String> = points.iter().map(|p| format!("{},{}", p.x, p.y)).collect();
    CString::new(format!("M{}", steps.join(" L"))).map_or(std::ptr::null_mut(), CString::into_raw)
}

/// # Safety
/// `text` must come from this library, and not be used again.
#[no_mangle]
pub unsafe extern "C" fn string_free(text: *mut c_char) {
    if !text.is_null() {
        drop(CString::from_raw(text));
        FREED.fetch_add(1, Relaxed);
    }
}

/// How many texts came back.
#[no_mangle]
pub extern "C" fn texts_freed() -> u32 {
    FREED.load(Relaxed)
}

static FREED: AtomicU32 = AtomicU32::new(0);
