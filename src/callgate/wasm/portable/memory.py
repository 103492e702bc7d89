"""Loads, stores, tables and what else touches more than the operand stack, as lines of Python; and the vectors.

An address outside of the memory makes `m[…]` raise IndexError and a struct's method its error; the core makes a trap of
both.  Vector instructions are calls of the functions in `vectors`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from callgate.wasm.opcodes import INSTRUCTIONS, Instruction
from callgate.wasm.portable.blocks import Blocks, Handler
from callgate.wasm.portable.values import Value, exact

_LOADS: Final = {  # name: (the letter of the format, and the result's bounds)
    "i32.load": ("I", 0, 0xFFFF_FFFF),
    "i64.load": ("Q", 0, 0xFFFF_FFFF_FFFF_FFFF),
    "f64.load": ("d", 0, 0),
    "i32.load8_s": ("b", -128, 127),
    "i32.load8_u": ("B", 0, 255),
    "i32.load16_s": ("h", -32768, 32767),
    "i32.load16_u": ("H", 0, 65535),
    "i64.load8_s": ("b", -128, 127),
    "i64.load8_u": ("B", 0, 255),
    "i64.load16_s": ("h", -32768, 32767),
    "i64.load16_u": ("H", 0, 65535),
    "i64.load32_s": ("i", -0x8000_0000, 0x7FFF_FFFF),
    "i64.load32_u": ("I", 0, 0xFFFF_FFFF),
}
_STORES: Final = {  # name: (the letter of the format, bits of the integer that is stored)
    "i32.store": ("I", 32),
    "i64.store": ("Q", 64),
    "f64.store": ("d", 0),
    "i32.store8": ("B", 8),
    "i32.store16": ("H", 16),
    "i64.store8": ("B", 8),
    "i64.store16": ("H", 16),
    "i64.store32": ("I", 32),
}


_SHIFTS: Final = {"b": 0, "B": 0, "h": 1, "H": 1, "i": 2, "I": 2, "d": 3, "Q": 3}
_IS_LITTLE: Final = sys.byteorder == "little"
"""Whether items of views are as in the memory."""


def _address(value: Value, offset: int) -> str:
    if value.constant is not None:
        return str((value.constant & 0xFFFF_FFFF) + offset)
    return f"{exact(value, 32)} + {offset}" if offset else exact(value, 32)


def _is_aligned(value: Value, offset: int, shift: int) -> bool:
    """Whether an access can go by whole items of a view of the memory."""
    return _IS_LITTLE and value.zeros >= shift and not offset & (1 << shift) - 1


def _index(value: Value, offset: int, shift: int) -> str:
    if value.constant is not None:
        return str((value.constant & 0xFFFF_FFFF) + offset >> shift)
    return f"{_address(value, offset)} >> {shift}"


def _load_text(letter: str, value: Value, offset: int) -> str:
    """Of items of a view where the address is aligned, which most are and few are known to be."""
    shift = _SHIFTS[letter]
    if not shift:
        return f"{'m' if letter == 'B' else 'n'}[{_address(value, offset)}]"
    if _is_aligned(value, offset, shift):
        return f"m{letter}[{_index(value, offset, shift)}]"
    anywhere = f"load_{letter}(m, {_address(value, offset)})[0]"
    if not _IS_LITTLE or offset & (1 << shift) - 1:
        return anywhere
    name = exact(value, 32)
    return f"(m{letter}[{_index(value, offset, shift)}] if not {name} & {(1 << shift) - 1} else {anywhere})"


def _load(name: str) -> Handler:
    letter, low, high = _LOADS[name]

    def handler(t: Blocks, offset: int) -> None:
        t.alone(1)
        shift = _SHIFTS[letter]
        if shift and not _is_aligned(t.stack[-1], offset, shift):
            t.exact_name(32)
        value = t.pop()
        text = _load_text(letter, value, offset)
        t.push(Value(text, low, high, value.uses, trap=t.offset, reads=True))

    return handler


def _load_f32(t: Blocks, offset: int) -> None:
    t.alone(1)
    value = t.pop()
    t.in_turn()
    address = _address(value, offset)
    if not value.is_simple or -1 - len(t.stack) in value.uses:
        t.emit(f"a = {address}")  # the result takes its place
        address = "a"
    t.result(f"load_f(m, {address})[0]")
    name = t.stack[-1].text
    t.emit(f"if {name} != {name}: {name} = nan_f32(m, {address})")


def _store(name: str) -> Handler:
    letter, bits = _STORES[name]

    def handler(t: Blocks, offset: int) -> None:
        t.alone(2)
        shift = _SHIFTS[letter]
        if shift and not _is_aligned(t.stack[-2], offset, shift):
            t.exact_name(32, 1)
        value, address = t.pop(), t.pop()
        t.in_turn()
        text = exact(value, bits) if bits else value.text
        place = _address(address, offset)
        if not shift:
            t.emit(f"m[{place}] = {text}")
        elif _is_aligned(address, offset, shift):
            t.emit(f"m{letter}[{_index(address, offset, shift)}] = {text}")
        elif _IS_LITTLE and not offset & (1 << shift) - 1:
            t.emit(f"if {exact(address, 32)} & {(1 << shift) - 1}: store_{letter}(m, {place}, {text})")
            t.emit(f"else: m{letter}[{place} >> {shift}] = {text}")
        else:
            t.emit(f"store_{letter}(m, {place}, {text})")

    return handler


def _store_f32(t: Blocks, offset: int) -> None:
    t.alone(2)
    t.name()
    value, address = t.pop(), t.pop()
    t.in_turn()
    at = _address(address, offset)
    t.emit(f"if {value.text} == {value.text}: store_f(m, {at}, {value.text})")
    t.emit(f"else: store_I(m, {at}, f32_bits({value.text}))")


def _size(t: Blocks, immediate: Any) -> None:
    t.push(Value("(len(m) >> 16)", 0, 65536, reads=True))


def _effect(name: str, count: int, *, immediates: int = 0, results: int = 0) -> Handler:
    """A call of a function of the core: so many i32 or references from the stack, then the immediates."""

    def handler(t: Blocks, immediate: Any) -> None:
        t.alone(count)
        values = t.pop_many(count)
        t.in_turn()
        given = immediate if isinstance(immediate, tuple) else (immediate,)
        texts = [exact(value, 32) for value in values] + [str(number) for number in given[:immediates]]
        call = f"{name}({', '.join(texts)})"
        if results:
            t.result(call, 0, 0xFFFF_FFFF)
        else:
            t.emit(call)

    return handler


def _memory_grow(t: Blocks, immediate: Any) -> None:
    t.alone(1)
    value = t.pop()
    t.in_turn()
    t.result(f"memory_grow({exact(value, 32)})", -1, 65536)


def _table_get(t: Blocks, table: int) -> None:
    t.alone(1)
    index = t.pop()
    t.in_turn()
    t.result(f"T{table}[{exact(index, 32)}]")


def _table_set(t: Blocks, table: int) -> None:
    t.alone(2)
    value, index = t.pop(), t.pop()
    t.in_turn()
    t.emit(f"T{table}[{exact(index, 32)}] = {value.text}")


def _table_size(t: Blocks, table: int) -> None:
    t.push(Value(f"len(T{table})", 0, 0xFFFF_FFFF, reads=True))


def _table_grow(t: Blocks, table: int) -> None:
    t.alone(2)
    count, value = t.pop(), t.pop()
    t.in_turn()
    t.result(f"table_grow({table}, {exact(count, 32)}, {value.text})", -1, 0x7FFF_FFFF)


def _table_fill(t: Blocks, table: int) -> None:
    t.alone(3)
    start, value, count = t.pop_many(3)
    t.in_turn()
    t.emit(f"table_fill({table}, {exact(start, 32)}, {value.text}, {exact(count, 32)})")


def _vector(row: Instruction) -> Handler:
    """A vector instruction: a function of its operands, then its immediates; with `m` and an address for memory."""
    name = row.name.replace(".", "_")
    kinds = row.parameters or ()
    is_access = bool(row.immediates) and row.immediates[0].startswith("memory")

    def handler(t: Blocks, immediate: Any) -> None:
        t.alone(len(kinds))
        values = t.pop_many(len(kinds))
        given = immediate if isinstance(immediate, tuple) else () if immediate is None else (immediate,)
        texts = [t.text_of(value, kind) for value, kind in zip(values, kinds, strict=True)]
        if is_access:
            t.in_turn()
            texts[0] = _address(values[0], given[0])
            given = given[1:]
            texts.insert(0, "m")
        call = f"{name}({', '.join([*texts, *map(str, given)])})"
        if not row.results:
            t.emit(call)
        elif is_access:
            t.result(call)
        else:
            uses: frozenset[int] = frozenset().union(*[value.uses for value in values])
            reads = any(value.reads for value in values)
            t.push(Value(call, *t.full(row.results[0]), uses, reads=reads))

    return handler


def _vector_constant(t: Blocks, bits: int) -> None:
    t.stack.append(Value(t.constant("k128", bits, bits.to_bytes(16, "little")), is_simple=True))


def memory_instructions() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    return {
        **{row.name: _vector(row) for row in INSTRUCTIONS.values() if row.opcode >> 8 == 0xFD},
        **{name: _load(name) for name in _LOADS},
        **{name: _store(name) for name in _STORES},
        **{"f32.load": _load_f32, "f32.store": _store_f32, "memory.size": _size, "memory.grow": _memory_grow},
        **{"memory.copy": _effect("memory_copy", 3), "memory.fill": _effect("memory_fill", 3)},
        **{"memory.init": _effect("memory_init", 3, immediates=1), "data.drop": _effect("data_drop", 0, immediates=1)},
        **{"table.init": _effect("table_init", 3, immediates=2), "table.copy": _effect("table_copy", 3, immediates=2)},
        **{"elem.drop": _effect("elem_drop", 0, immediates=1), "table.get": _table_get, "table.set": _table_set},
        **{"table.size": _table_size, "table.grow": _table_grow, "table.fill": _table_fill},
        "v128.const": _vector_constant,
    }
