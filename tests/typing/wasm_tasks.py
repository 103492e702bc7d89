# mypy: disable-error-code="empty-body"
"""What programs write with callgate.wasm: runs as it stands, and both checkers accept it."""

from __future__ import annotations

from typing import Any, Protocol

from callgate import f64, i32, wasm

PLUGIN = bytes.fromhex(
    "0061736d01000000010b0260027f7f0060017f017f020b0103656e76036c6f67000003020101040100050401010110060100"
    "071602097472616e73666f726d0001066d656d6f727902000901000a0f010d00410841051000200041026c0b0b0b01004108"
    "0b0568656c6c6f0018046e616d6501110200036c6f6701097472616e73666f726d"
)
said: list[str] = []


class Plugin(Protocol):
    def transform(self, x: i32, /) -> i32: ...


@wasm.host("env", "log")
def log(caller: wasm.Instance[Plugin], address: i32, size: i32) -> None:
    said.append(caller.memory.read(address, size).decode())


limits = wasm.Limits(fuel=10**7, timeout_s=1.0, memory_bytes=16 << 20)
with wasm.load(PLUGIN, Plugin, imports=[log], limits=limits) as plugin:
    try:
        r: int = plugin.exports.transform(3)
    except wasm.OutOfFuel as problem:
        frames: tuple[wasm.Frame, ...] = problem.frames
        raise
    log(plugin, 8, 4)
    left: int | None = plugin.fuel_left
assert r == 6 and said == ["hello", "hell"] and left is not None

module: wasm.Module = wasm.Module(PLUGIN)
untyped: wasm.Instance[wasm.Exports] = module.instantiate(imports={"env": {"log": log}})
result: object = untyped.exports.transform(4)
assert result == 8 and untyped.exports["transform"](5) == 10
memory: wasm.Memory = untyped.memory
text: bytes = memory.read_string(8)
memory.view()[0] = 5
number: int = memory.read_int(0)


@wasm.host("env", "half")
def half(x: f64, y: object) -> tuple[f64, i32]:
    return x / 2, 1


pair: tuple[float, int] = half(3.0, None)
other: wasm.Instance[Plugin] = module.instantiate(Plugin, imports=[("env", "log", print), ("other", untyped)])
table: Any = wasm.Table("funcref", 1)[0]

print("tasks done")
