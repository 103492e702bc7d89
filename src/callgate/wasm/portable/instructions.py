"""Instructions that are functions: what translated code calls by name, besides arithmetic and vectors."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from callgate.wasm.binary import Expression, ModuleData
from callgate.wasm.errors import IndirectCallMismatch, OutOfBounds, TableOutOfBounds, UninitializedElement
from callgate.wasm.limits import REFERENCE_BYTES
from callgate.wasm.memory import Memory
from callgate.wasm.portable import numbers, vectors
from callgate.wasm.portable.calls import Tail
from callgate.wasm.portable.convert import Record
from callgate.wasm.store import Table


def _nan_f32(memory: memoryview, address: int) -> float:
    return numbers.f32_of_bits(int.from_bytes(memory[address : address + 4], "little"))


def _store(letter: str) -> Callable[[memoryview, int, Any], None]:
    """What stores a number of a format at an address of a memory."""
    item = struct.Struct(f"<{letter}")
    if sys.implementation.name == "cpython":
        return item.pack_into
    size, pack = item.size, item.pack

    def store(memory: memoryview, address: int, value: Any) -> None:  # PyPy packs into no view of a mapping
        if address + size > len(memory):
            raise OutOfBounds
        memory[address : address + size] = pack(value)

    return store


NAMES: Final[dict[str, Any]] = {
    **numbers.NAMES,
    **vectors.NAMES,
    **{f"load_{letter}": struct.Struct(f"<{letter}").unpack_from for letter in "hHiIQfd"},
    **{f"store_{letter}": _store(letter) for letter in "HIQfd"},
    **{"Tail": Tail, "nan_f32": _nan_f32, "zero_v128": bytes(16), "len": len},
}
"""What translated code finds in every namespace."""


def bad_call(record: Record | None, index: int) -> None:
    """An indirect call of no function, or of one of another type."""
    if record is None:
        raise UninitializedElement(f"{UninitializedElement.text} {int(index)}")
    raise IndirectCallMismatch


class Instructions:
    """The part of an instance that instructions reach; operands are unsigned."""

    module: ModuleData
    tables: list[Table]
    memories: list[Memory]
    namespace: dict[str, Any]
    dropped_elements: set[int]
    dropped_data: set[int]

    def record(self, number: int) -> Record:
        """A function as a funcref of translated code."""
        raise NotImplementedError

    def _charge(self, size_bytes: int) -> None:
        """An instruction is going to fill or copy so much."""
        raise NotImplementedError

    def _slices(self, count: int, unit_bytes: int = 1) -> Iterator[tuple[int, int]]:
        """As `limits.slices`, with a look at the time after each."""
        raise NotImplementedError

    def memory_grow(self, pages: int) -> int:
        """Grow memory 0."""
        return self.memories[0].grow(pages)

    def memory_copy(self, to: int, start: int, count: int) -> None:
        """Copy within memory 0."""
        memory = self.memories[0]
        if start + count > memory.size_bytes or to + count > memory.size_bytes:
            raise OutOfBounds
        self._charge(count)
        for first, last in self._slices(count):
            at = count - last if to > start else first  # what is copied may overlap
            memory.data[to + at : to + at + last - first] = memory.data[start + at : start + at + last - first]

    def memory_fill(self, to: int, value: int, count: int) -> None:
        """Fill a part of memory 0."""
        memory = self.memories[0]
        if to + count > memory.size_bytes:
            raise OutOfBounds
        self._charge(count)
        for first, last in self._slices(count):
            memory.data[to + first : to + last] = bytes((value & 255,)) * (last - first)

    def memory_init(self, to: int, start: int, count: int, segment: int) -> None:
        """Copy from a data segment."""
        self._check_data(to, start, count, segment)
        self._charge(count)
        for first, last in self._slices(count):
            self._write_data(to + first, start + first, last - first, segment)

    def _check_data(self, to: int, start: int, count: int, segment: int) -> None:
        data = self.module.segments[segment]
        size = 0 if segment in self.dropped_data else data.end - data.start
        if start + count > size or to + count > self.memories[0].size_bytes:
            raise OutOfBounds

    def _write_data(self, to: int, start: int, count: int, segment: int) -> None:
        start += self.module.segments[segment].start
        self.memories[0].data[to : to + count] = self.module.data[start : start + count]

    def data_drop(self, segment: int) -> None:
        """Let go of a data segment."""
        self.dropped_data.add(segment)

    def table_grow(self, table: int, count: int, value: Any) -> int:
        """Append to a table."""
        target = self.tables[table]
        before = len(target)
        if before + count > target.most:
            return -1
        self._charge(REFERENCE_BYTES * count)
        for first, last in self._slices(count, REFERENCE_BYTES):
            target.extend(last - first, value)
        return before

    def table_fill(self, table: int, start: int, value: Any, count: int) -> None:
        """Fill a part of a table."""
        elements = self.tables[table].elements
        if start + count > len(elements):
            raise TableOutOfBounds
        self._charge(REFERENCE_BYTES * count)
        for first, last in self._slices(count, REFERENCE_BYTES):
            elements[start + first : start + last] = [value] * (last - first)

    def table_copy(self, to: int, start: int, count: int, target: int, source: int) -> None:
        """Copy between tables."""
        into, out_of = self.tables[target].elements, self.tables[source].elements
        if start + count > len(out_of) or to + count > len(into):
            raise TableOutOfBounds
        self._charge(REFERENCE_BYTES * count)
        into[to : to + count] = out_of[start : start + count]

    def table_init(self, to: int, start: int, count: int, segment: int, table: int) -> None:
        """Copy from an element segment."""
        self._check_elements(to, start, count, segment, table)
        self._charge(REFERENCE_BYTES * count)
        for first, last in self._slices(count, REFERENCE_BYTES):
            self._write_elements(to + first, start + first, last - first, segment, table)

    def _check_elements(self, to: int, start: int, count: int, segment: int, table: int) -> None:
        size = 0 if segment in self.dropped_elements else len(self.module.elements[segment].items)
        if start + count > size or to + count > len(self.tables[table].elements):
            raise TableOutOfBounds

    def _write_elements(self, to: int, start: int, count: int, segment: int, table: int) -> None:
        items = self.module.elements[segment].items[start : start + count]
        self.tables[table].elements[to : to + count] = [self.evaluate(item) for item in items]

    def elem_drop(self, segment: int) -> None:
        """Let go of an element segment."""
        self.dropped_elements.add(segment)

    # -- constant expressions -----------------------------------------------------------------------------------------
    def evaluate(self, expression: Expression) -> Any:
        """The value of a constant expression."""
        stack: list[Any] = []
        for opcode, immediate in expression.instructions:
            mask = numbers.MASK_32 if opcode < 0x70 else numbers.MASK_64
            match opcode:
                case 0x23:
                    stack.append(self.namespace[f"g{immediate}"][0])
                case 0xD0:
                    stack.append(None)
                case 0xD2:
                    stack.append(self.record(immediate))
                case 0x6A | 0x7C:
                    stack.append(stack.pop() + stack.pop() & mask)
                case 0x6B | 0x7D:
                    stack.append(-stack.pop() + stack.pop() & mask)
                case 0x6C | 0x7E:
                    stack.append(stack.pop() * stack.pop() & mask)
                case 0x41:
                    stack.append(immediate & numbers.MASK_32)
                case 0x42:
                    stack.append(immediate & numbers.MASK_64)
                case 0x43:
                    stack.append(numbers.f32_of_bits(immediate))
                case 0x44:
                    stack.append(numbers.f64_of_bits(immediate))
                case _:
                    stack.append(immediate.to_bytes(16, "little"))
        return stack.pop()


FUNCTIONS: Final = (
    *("memory_grow", "memory_copy", "memory_fill", "memory_init", "data_drop"),
    *("table_grow", "table_fill", "table_copy", "table_init", "elem_drop"),
)
"""The instructions among its methods."""
