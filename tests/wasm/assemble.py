"""A small assembler: modules from the words of the text format, one instruction a semicolon.

>>> module({"add": ("i32 i32 -> i32", "local.get 0; local.get 1; i32.add")})
b'\\x00asm...'
"""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import VALUE_TYPES

_ROWS = {row.name: row for row in reversed(INSTRUCTIONS.values())}
_KINDS = {"function": 0, "table": 1, "memory": 2, "global": 3}


def types(text: str) -> bytes:
    """`i32 f64` as a vector."""
    return vector([bytes([VALUE_TYPES[one]]) for one in text.split()])


def bounds(text: str) -> bytes:
    """`1` or `1 16`."""
    numbers = [int(one) for one in text.split()]
    return bytes([len(numbers) - 1]) + b"".join(map(unsigned, numbers))


class Assembler:
    """The functions and types of a module in the making."""

    def __init__(self, names: Sequence[str]) -> None:
        self.types: list[bytes] = []
        self.numbers = {name: number for number, name in enumerate(names)}

    def type(self, text: str) -> int:
        """The number of `i32 i32 -> f64`."""
        parameters, _, results = text.partition("->")
        encoded = b"\x60" + types(parameters) + types(results)
        if encoded not in self.types:
            self.types.append(encoded)
        return self.types.index(encoded)

    def body(self, text: str) -> bytes:
        """Instructions without the last `end`."""
        return b"".join(self._instruction(*one.split()) for one in text.split(";") if one.strip())

    def _instruction(self, name: str, *operands: str) -> bytes:
        row = _ROWS[name]
        given = list(operands)
        code = opcode(name)
        for kind in row.immediates:
            code += self._immediate(kind, given)
        assert not given, f"{name} {operands}"
        return code

    def _immediate(self, kind: str, given: list[str]) -> bytes:
        if kind.startswith("memory") and kind != "memory":
            return unsigned(0) + unsigned(int(given.pop(0)) if given else 0)
        match kind:
            case "block":
                return bytes([VALUE_TYPES[given.pop(0)] if given else 0x40])
            case "i32" | "i64":
                return signed(int(given.pop(0), 0))
            case "f32" | "f64":
                return struct.pack("<f" if kind == "f32" else "<d", float(given.pop(0)))
            case "reference":
                return bytes([VALUE_TYPES[given.pop(0)]])
            case "function":
                name = given.pop(0)
                return unsigned(self.numbers[name])
            case "type":
                text = given.pop(0).replace("(", "").replace(")", "").replace(",", " ").replace(">", "> ")
                return unsigned(self.type(text.replace("->", " -> ")))
            case "v128":
                return bytes.fromhex(given.pop(0))
            case _:
                return unsigned(int(given.pop(0)) if given else 0)


def module(
    functions: Mapping[str, tuple[str, str] | tuple[str, str, str]],
    *,
    imports: Sequence[tuple[str, str, str]] = (),
    memory: str | None = None,
    tables: Sequence[str] = (),
    globals_: Sequence[tuple[str, str]] = (),
    elements: Sequence[str] = (),
    data: Mapping[int, bytes] | None = None,
    passive: Sequence[bytes] = (),
    start: str | None = None,
    exports: Mapping[str, str] | None = None,
    name: str = "",
    customs: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """A module.  Functions are (type, body) or (type, locals, body), exported but for names that begin with `_`.

    An import's type is `i32 -> i32`, `memory 1`, `table funcref 2`, `global i32` or `global mutable i32`; a table is
    `funcref 2 10`, a global (`mutable i32`, `i32.const 5`), elements are functions put into table 0 from 0 on; `passive` are data segments behind those of `data`.  The
    memory, tables and globals are exported as `exports` has it: {"memory": "memory 0", "counter": "global 0"}.
    """
    imported = [one[1] for one in imports if "->" in one[2]]
    a = Assembler([*imported, *functions])
    wanted = [vector_of(one.encode()) + vector_of(two.encode()) + _import(a, text) for one, two, text in imports]
    declared = [unsigned(a.type(one[0])) for one in functions.values()]
    bodies = [_body(a, *one) for one in functions.values()]
    variables = [_global(one) + a.body(value) + b"\x0b" for one, value in globals_]
    offered = [(one, 0, a.numbers[one]) for one in functions if not one.startswith("_")]
    for one, place in (exports or {}).items():
        kind, number = place.split()
        offered.append((one, _KINDS[kind], a.numbers[number] if kind == "function" else int(number)))
    out = bytearray(MAGIC)
    out += section(1, vector(a.types))
    out += section(2, vector(wanted))
    out += section(3, vector(declared))
    out += section(4, vector([bytes([VALUE_TYPES[one.split()[0]]]) + bounds(one.partition(" ")[2]) for one in tables]))
    out += section(5, vector([bounds(memory)] if memory is not None else []))
    out += section(6, vector(variables))
    out += section(7, vector([vector_of(one.encode()) + bytes([kind]) + unsigned(n) for one, kind, n in offered]))
    if start is not None:
        out += section(8, unsigned(a.numbers[start]))
    numbers = [unsigned(a.numbers[one]) for one in elements]
    out += section(9, vector([b"\0" + a.body("i32.const 0") + b"\x0b" + vector(numbers)] if numbers else []))
    if passive:
        out += section(12, unsigned(len(data or {}) + len(passive)))
    out += section(10, vector([vector_of(body) for body in bodies]))
    segments = [b"\0\x41" + signed(at) + b"\x0b" + vector_of(content) for at, content in (data or {}).items()]
    out += section(11, vector([*segments, *[b"\1" + vector_of(content) for content in passive]]))
    names = vector([unsigned(number) + vector_of(one.encode()) for one, number in a.numbers.items()])
    out += section(0, vector_of(b"name") + (section(0, vector_of(name.encode())) if name else b"") + section(1, names))
    for one, content in customs:
        out += section(0, vector_of(one.encode()) + content)
    return bytes(out)


def _import(a: Assembler, text: str) -> bytes:
    if "->" in text:
        return b"\0" + unsigned(a.type(text))
    kind, _, rest = text.partition(" ")
    match kind:
        case "memory":
            return b"\2" + bounds(rest)
        case "table":
            return b"\1" + bytes([VALUE_TYPES[rest.split()[0]]]) + bounds(rest.partition(" ")[2])
    return b"\3" + _global(rest)


def _global(text: str) -> bytes:
    return bytes([VALUE_TYPES[text.split()[-1]], text.startswith("mutable")])


def _body(a: Assembler, signature: str, *rest: str) -> bytes:
    a.type(signature)
    locals_ = rest[0].split() if len(rest) == 2 else []
    runs = vector([b"\1" + bytes([VALUE_TYPES[one]]) for one in locals_])
    return runs + a.body(rest[-1]) + b"\x0b"


MODE: str | None = None
"""The mode that modules are loaded in: the fixture `mode` sets it."""


def load(data: bytes, *arguments: Any, **options: Any) -> Any:
    """wasm.load in the mode of the test, without the cache."""
    return wasm.load(data, *arguments, **{"cache": False, "engine": MODE, **options})


def build(data: bytes) -> wasm.Module:
    """wasm.Module in the mode of the test, without the cache."""
    return wasm.Module(data, cache=False, engine=MODE)


IS_CPYTHON = sys.implementation.name == "cpython"
SMALL_STACKS = "PyPy crashes where a thread's stack is smaller than it takes every stack for"


def collect() -> None:
    """Have the collector free all that is unreachable; PyPy's takes some rounds, with the finalizers."""
    for _ in range(1 if IS_CPYTHON else 4):
        gc.collect()
