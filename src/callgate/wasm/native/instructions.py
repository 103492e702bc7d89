"""Instructions that are Python functions, constant expressions, and what happens when a module is instantiated."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callgate.wasm.binary import Expression
from callgate.wasm.compile.layout import HIDDEN
from callgate.wasm.errors import OutOfBounds, TableOutOfBounds
from callgate.wasm.host import HostFunction
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
    data = core.module.segments[segment]
    size = 0 if segment in core.dropped_data else data.end - data.start
    memory = core.memories[0]
    if start + count > size or to + count > memory.size_bytes:
        raise OutOfBounds
    memory.data[to : to + count] = core.module.data[data.start + start : data.start + start + count]


def data_drop(core: Core, segment: int) -> None:
    """Let go of a data segment."""
    core.dropped_data.add(segment)


def table_grow(core: Core, word: int, count: int, table: int) -> int:
    """Append to a table."""
    target = core.tables[table]
    before, count = len(target), count & MASK
    if before + count > target.most:
        return -1
    target.native.grow(count, word & MASK_64)
    return before


def table_fill(core: Core, start: int, word: int, count: int, table: int) -> None:
    """Fill a part of a table."""
    start, count = start & MASK, count & MASK
    words = core.tables[table].native
    if start + count > words.count:
        raise TableOutOfBounds
    words.words[start : start + count] = [word & MASK_64] * count


def table_copy(core: Core, to: int, start: int, count: int, target: int, source: int) -> None:
    """Copy between tables."""
    to, start, count = to & MASK, start & MASK, count & MASK
    into, out_of = core.tables[target].native, core.tables[source].native
    if start + count > out_of.count or to + count > into.count:
        raise TableOutOfBounds
    into.words[to : to + count] = out_of.words[start : start + count]


def table_init(core: Core, to: int, start: int, count: int, segment: int, table: int) -> None:
    """Copy from an element segment."""
    to, start, count = to & MASK, start & MASK, count & MASK
    element = core.module.elements[segment]
    items = () if segment in core.dropped_elements else element.items
    words = core.tables[table].native
    if start + count > len(items) or to + count > words.count:
        raise TableOutOfBounds
    for position, item in enumerate(items[start : start + count], to):
        words.words[position] = evaluate(core, item)[0]


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
            table_init(core, evaluate(core, element.position)[0], 0, len(element.items), number, element.table)
        if element.table is not None or element.is_declarative:
            core.dropped_elements.add(number)
    for number, segment in enumerate(module.segments):
        if segment.memory is not None and segment.position is not None:
            memory_init(core, evaluate(core, segment.position)[0], 0, segment.end - segment.start, number)
            core.dropped_data.add(number)
    if module.start is not None:
        core.callable(module.start)()
