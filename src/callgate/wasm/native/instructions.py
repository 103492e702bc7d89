"""Instructions that are Python functions, constant expressions, and what happens when a module is instantiated."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callgate.wasm.binary import Expression
from callgate.wasm.compile.layout import HIDDEN
from callgate.wasm.errors import OutOfBounds, TableOutOfBounds
from callgate.wasm.host import HostFunction
from callgate.wasm.limits import REFERENCE_BYTES
from callgate.wasm.native.words import MASK, MASK_64
from callgate.wasm.types import I32, I64, FuncType

if TYPE_CHECKING:
    from callgate.wasm.native.core import Core


def memory_grow(core: Core, pages: int) -> int:
    """Grow memory 0."""
    return core.memories[0].grow(pages & MASK)


def memory_init(core: Core, to: int, start: int, count: int, segment: int) -> None:
    """Copy from a data segment."""
    to, start, count = to & MASK, start & MASK, count & MASK
    _check_data(core, to, start, count, segment)
    core.charge(count)
    for first, last in core.slices(count):
        _write_data(core, to + first, start + first, last - first, segment)


def _check_data(core: Core, to: int, start: int, count: int, segment: int) -> None:
    data = core.module.segments[segment]
    size = 0 if segment in core.dropped_data else data.end - data.start
    if start + count > size or to + count > core.memories[0].size_bytes:
        raise OutOfBounds


def _write_data(core: Core, to: int, start: int, count: int, segment: int) -> None:
    start += core.module.segments[segment].start
    core.memories[0].data[to : to + count] = core.module.data[start : start + count]


def data_drop(core: Core, segment: int) -> None:
    """Let go of a data segment."""
    core.dropped_data.add(segment)


def table_grow(core: Core, word: int, count: int, table: int) -> int:
    """Append to a table."""
    target = core.tables[table]
    before, count = len(target), count & MASK
    if before + count > target.most:
        return -1
    core.charge(REFERENCE_BYTES * count)
    target.native.grow(count, 0)
    if word:
        _fill_table(core, table, before, word, count)
    return before


def table_fill(core: Core, start: int, word: int, count: int, table: int) -> None:
    """Fill a part of a table."""
    start, count = start & MASK, count & MASK
    words = core.tables[table].native
    if start + count > words.count:
        raise TableOutOfBounds
    core.charge(REFERENCE_BYTES * count)
    _fill_table(core, table, start, word, count)


def _fill_table(core: Core, table: int, start: int, word: int, count: int) -> None:
    words = core.tables[table].native
    for first, last in core.slices(count, REFERENCE_BYTES):
        words.words[start + first : start + last] = [word & MASK_64] * (last - first)


def table_copy(core: Core, to: int, start: int, count: int, target: int, source: int) -> None:
    """Copy between tables."""
    to, start, count = to & MASK, start & MASK, count & MASK
    into, out_of = core.tables[target].native, core.tables[source].native
    if start + count > out_of.count or to + count > into.count:
        raise TableOutOfBounds
    core.charge(REFERENCE_BYTES * count)
    size = REFERENCE_BYTES
    ctypes.memmove(
        ctypes.addressof(into.words) + size * to, ctypes.addressof(out_of.words) + size * start, size * count
    )


def table_init(core: Core, to: int, start: int, count: int, segment: int, table: int) -> None:
    """Copy from an element segment."""
    to, start, count = to & MASK, start & MASK, count & MASK
    _check_elements(core, to, start, count, segment, table)
    core.charge(REFERENCE_BYTES * count)
    for first, last in core.slices(count, REFERENCE_BYTES):
        _write_elements(core, to + first, start + first, last - first, segment, table)


def _check_elements(core: Core, to: int, start: int, count: int, segment: int, table: int) -> None:
    size = 0 if segment in core.dropped_elements else len(core.module.elements[segment].items)
    if start + count > size or to + count > core.tables[table].native.count:
        raise TableOutOfBounds


def _write_elements(core: Core, to: int, start: int, count: int, segment: int, table: int) -> None:
    items = core.module.elements[segment].items[start : start + count]
    core.tables[table].native.words[to : to + count] = [evaluate(core, item)[0] for item in items]


def elem_drop(core: Core, segment: int) -> None:
    """Let go of an element segment."""
    core.dropped_elements.add(segment)


_FUNCTIONS: Final[dict[str, tuple[Callable[..., Any], FuncType]]] = {
    "memory.grow": (memory_grow, FuncType((I32,), (I32,))),
    "memory.init": (memory_init, FuncType((I32,) * 4, ())),
    "data.drop": (data_drop, FuncType((I32,), ())),
    "table.grow": (table_grow, FuncType((I64, I32, I32), (I32,))),
    "table.fill": (table_fill, FuncType((I32, I64, I32, I32), ())),
    "table.copy": (table_copy, FuncType((I32,) * 5, ())),
    "table.init": (table_init, FuncType((I32,) * 5, ())),
    "elem.drop": (elem_drop, FuncType((I32,), ())),
}


def hidden_functions(core: Core) -> list[HostFunction[Any, Any]]:
    """The functions behind the instructions of `layout.HIDDEN`, in that order; references come as words."""
    reference = weakref.ref(core)

    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: int) -> Any:
            return function(reference(), *arguments)

        return call

    return [HostFunction(bound(_FUNCTIONS[name][0]), _FUNCTIONS[name][1], name) for name in HIDDEN]


# -- constant expressions ---------------------------------------------------------------------------------------------


def evaluate(core: Core, expression: Expression) -> tuple[int, int]:
    """The value of a constant expression, as two words."""
    stack: list[int] = []
    for opcode, immediate in expression.instructions:
        match opcode:
            case 0x23:
                cell = core.globals[immediate].cell
                stack.append(cell[0] | cell[1] << 64)
            case 0xD0:
                stack.append(0)
            case 0xD2:
                stack.append(core.record(immediate))
            case 0x6A | 0x7C:
                stack.append(stack.pop() + stack.pop())
            case 0x6B | 0x7D:
                stack.append(-stack.pop() + stack.pop())
            case 0x6C | 0x7E:
                stack.append(stack.pop() * stack.pop())
            case 0x41:
                stack.append(immediate & MASK)
            case _:
                stack.append(immediate)
    value = stack.pop()
    if expression.instructions[-1][0] in (0x41, 0x6A, 0x6B, 0x6C):
        value &= MASK
    return value & MASK_64, value >> 64 & MASK_64


def initialize(core: Core) -> None:
    """Set the globals, then write the active segments (4.5.4), then run the start function."""
    module = core.module
    for number, expression in enumerate(module.initializers, module.imported_globals):
        cell = core.globals[number].cell
        cell[0], cell[1] = evaluate(core, expression)
    for number, element in enumerate(module.elements):
        if element.table is not None and element.position is not None:
            where = evaluate(core, element.position)[0], 0, len(element.items), number, element.table
            _check_elements(core, *where)
            _write_elements(core, *where)
        if element.table is not None or element.is_declarative:
            core.dropped_elements.add(number)
    for number, segment in enumerate(module.segments):
        if segment.memory is not None and segment.position is not None:
            place = evaluate(core, segment.position)[0], 0, segment.end - segment.start, number
            _check_data(core, *place)
            _write_data(core, *place)
            core.dropped_data.add(number)
    if module.start is not None:
        core.callable(module.start)()
