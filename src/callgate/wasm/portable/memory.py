"""Loads, stores, tables and what else touches more than the operand stack, as lines of Python; and the vectors.

An address outside of the memory makes `m[…]` raise IndexError and a struct's method its error; the core makes a trap of
both.  Vector instructions are calls of the functions in `vectors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.opcodes import INSTRUCTIONS, Instruction
from callgate.wasm.portable.translate import Translator
from callgate.wasm.portable.values import Value, exact

Handler = Callable[[Translator, Any], None]

_LOADS: Final = {  # name: (text of {0}, an address, and the result's bounds)
    "i32.load": ("load_I(m, {0})[0]", 0, 0xFFFF_FFFF),
    "i64.load": ("load_Q(m, {0})[0]", 0, 0xFFFF_FFFF_FFFF_FFFF),
    "f64.load": ("load_d(m, {0})[0]", 0, 0),
    "i32.load8_s": ("n[{0}]", -128, 127),
    "i32.load8_u": ("m[{0}]", 0, 255),
    "i32.load16_s": ("load_h(m, {0})[0]", -32768, 32767),
    "i32.load16_u": ("load_H(m, {0})[0]", 0, 65535),
    "i64.load8_s": ("n[{0}]", -128, 127),
    "i64.load8_u": ("m[{0}]", 0, 255),
    "i64.load16_s": ("load_h(m, {0})[0]", -32768, 32767),
    "i64.load16_u": ("load_H(m, {0})[0]", 0, 65535),
    "i64.load32_s": ("load_i(m, {0})[0]", -0x8000_0000, 0x7FFF_FFFF),
    "i64.load32_u": ("load_I(m, {0})[0]", 0, 0xFFFF_FFFF),
}
_STORES: Final = {  # name: (text of an address and a value, bits of the integer that is stored)
    "i32.store": ("store_I(m, {0}, {1})", 32),
    "i64.store": ("store_Q(m, {0}, {1})", 64),
    "f64.store": ("store_d(m, {0}, {1})", 0),
    "i32.store8": ("m[{0}] = {1}", 8),
    "i32.store16": ("store_H(m, {0}, {1})", 16),
    "i64.store8": ("m[{0}] = {1}", 8),
    "i64.store16": ("store_H(m, {0}, {1})", 16),
    "i64.store32": ("store_I(m, {0}, {1})", 32),
}


def _address(value: Value, offset: int) -> str:
    if value.constant is not None:
        return str((value.constant & 0xFFFF_FFFF) + offset)
    return f"{exact(value, 32)} + {offset}" if offset else exact(value, 32)


def _load(name: str) -> Handler:
    form, low, high = _LOADS[name]

    def handler(t: Translator, offset: int) -> None:
        t.alone(1)
        value = t.pop()
        text = form.format(_address(value, offset))
        t.push(Value(text, low, high, value.uses, trap=t.offset, reads=True))

    return handler


def _load_f32(t: Translator, offset: int) -> None:
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
    form, bits = _STORES[name]

    def handler(t: Translator, offset: int) -> None:
        t.alone(2)
        value, address = t.pop(), t.pop()
        t.in_turn()
        t.emit(form.format(_address(address, offset), exact(value, bits) if bits else value.text))

    return handler


def _store_f32(t: Translator, offset: int) -> None:
    t.alone(2)
    t.name()
    value, address = t.pop(), t.pop()
    t.in_turn()
    at = _address(address, offset)
    t.emit(f"if {value.text} == {value.text}: store_f(m, {at}, {value.text})")
    t.emit(f"else: store_I(m, {at}, f32_bits({value.text}))")


def _size(t: Translator, immediate: Any) -> None:
    t.push(Value("(len(m) >> 16)", 0, 65536, reads=True))


def _effect(name: str, count: int, *, immediates: int = 0, results: int = 0) -> Handler:
    """A call of a function of the core: so many i32 or references from the stack, then the immediates."""

    def handler(t: Translator, immediate: Any) -> None:
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


def _memory_grow(t: Translator, immediate: Any) -> None:
    t.alone(1)
    value = t.pop()
    t.in_turn()
    t.result(f"memory_grow({exact(value, 32)})", -1, 65536)


def _table_get(t: Translator, table: int) -> None:
    t.alone(1)
    index = t.pop()
    t.in_turn()
    t.result(f"T{table}[{exact(index, 32)}]")


def _table_set(t: Translator, table: int) -> None:
    t.alone(2)
    value, index = t.pop(), t.pop()
    t.in_turn()
    t.emit(f"T{table}[{exact(index, 32)}] = {value.text}")


def _table_size(t: Translator, table: int) -> None:
    t.push(Value(f"len(T{table})", 0, 0xFFFF_FFFF, reads=True))


def _table_grow(t: Translator, table: int) -> None:
    t.alone(2)
    count, value = t.pop(), t.pop()
    t.in_turn()
    t.result(f"table_grow({table}, {exact(count, 32)}, {value.text})", -1, 0x7FFF_FFFF)


def _table_fill(t: Translator, table: int) -> None:
    t.alone(3)
    start, value, count = t.pop_many(3)
    t.in_turn()
    t.emit(f"table_fill({table}, {exact(start, 32)}, {value.text}, {exact(count, 32)})")


def _vector(row: Instruction) -> Handler:
    """A vector instruction: a function of its operands, then its immediates; with `m` and an address for memory."""
    name = row.name.replace(".", "_")
    kinds = row.parameters or ()
    is_access = bool(row.immediates) and row.immediates[0].startswith("memory")

    def handler(t: Translator, immediate: Any) -> None:
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


def _vector_constant(t: Translator, bits: int) -> None:
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
