# mypy: disable-error-code="empty-body"
"""What both checkers must refuse: each line marked E, and no other line."""

from __future__ import annotations

from typing import Protocol

from callgate import i32, wasm

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


plugin = wasm.load(PLUGIN, Plugin, imports=[log])

plugin.exports.transform("x")  # E
plugin.exports.transform()  # E
plugin.exports.missing()  # E
text: str = plugin.exports.transform(1)  # E
wasm.load(5)  # E
wasm.load(PLUGIN, Plugin, imports=5)  # E
wasm.load(PLUGIN, Plugin, limit=5)  # E
wasm.load(PLUGIN, allocator=5)  # E
wasm.Limits(fuel="x")  # E
wasm.Limits(5)  # E
wasm.Module(PLUGIN).run()  # E
plugin.memory.read("x", 1)  # E
plugin.memory.write(0, "text")  # E
plugin.memory.read_struct(0, int)  # E
plugin.fuel_left = "x"  # E
plugin.exports = None  # E
log(plugin, "x", 1)  # E
log(5, 1, 1)  # E
wasm.host("env")  # E
wasm.host("env", "f")(5)  # E
wasm.Memory("1")  # E
