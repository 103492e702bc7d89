"""The binary format: bytes to ModuleData.  Bodies stay bytes (`validate` reads them); nothing is judged but the format.

Core specification 2.0, chapter 5.  Every count is compared with the bytes that are left before anything is made of it,
and with the limits below, so that the time and the memory taken are linear in the size of the module.  Long as a
grammar is: a function for each section, in the standard's order.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import chain, repeat
from typing import Final, NamedTuple, TypeVar

from callgate.wasm.errors import BinaryError
from callgate.wasm.types import (
    FUNCREF,
    NAMES,
    REFERENCES,
    ExternType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
)

_T = TypeVar("_T")

MOST: Final = {
    **{"module bytes": 1 << 30, "types": 1_000_000, "functions": 1_000_000, "imports": 1_000_000},
    **{"exports": 1_000_000, "globals": 1_000_000, "tables": 100_000, "memories": 100},
    **{"elements segments": 10_000_000, "elements": 10_000_000, "data segments": 100_000, "name bytes": 100_000},
    **{"parameters": 1_000, "results": 1_000, "locals": 50_000, "labels": 65_520, "body bytes": 7_654_321},
}
"""What a module may have at most; those of the browsers' engines, which toolchains keep to."""


class Kind(Enum):
    """What an import or an export is."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3


class Import(NamedTuple):
    """Something that the module needs."""

    module: str
    name: str
    type: ExternType


class Export(NamedTuple):
    """Something that the module offers: the number among all functions, tables, memories or globals."""

    name: str
    kind: Kind
    number: int


class Expression(NamedTuple):
    """A constant expression: its instructions, as pairs of opcode and immediate, without the final `end`."""

    instructions: tuple[tuple[int, int], ...]
    offset: int


class Element(NamedTuple):
    """A segment of references.  Active where `table` is a number, else passive or, where `is_declarative`, neither."""

    type: int
    items: tuple[Expression, ...]
    table: int | None
    position: Expression | None
    is_declarative: bool
    offset: int


class Data(NamedTuple):
    """A segment of bytes, module[start:end].  Active where `memory` is a number."""

    start: int
    end: int
    memory: int | None
    position: Expression | None
    offset: int


class BodyBytes(NamedTuple):
    """A function's body: module[start:end], the locals first (`read_locals`)."""

    start: int
    end: int


class Custom(NamedTuple):
    """A custom section: module[start:end]."""

    name: str
    start: int
    end: int


class ModuleData(NamedTuple):
    """A decoded module.  Functions, tables, memories and globals are all of them, the imported ones first."""

    data: bytes
    types: tuple[FuncType, ...]
    imports: tuple[Import, ...]
    functions: tuple[int, ...]  # by type index
    tables: tuple[TableType, ...]
    memories: tuple[MemoryType, ...]
    globals: tuple[GlobalType, ...]
    initializers: tuple[Expression, ...]  # of the globals that are not imported
    exports: tuple[Export, ...]
    start: int | None
    elements: tuple[Element, ...]
    segments: tuple[Data, ...]
    has_data_count: bool
    bodies: tuple[BodyBytes, ...]
    customs: tuple[Custom, ...]
    name: str  # of the module, from the name section
    function_names: dict[int, str]  # where the name section, or else an export or the import, has one

    @property
    def imported_functions(self) -> int:
        """How many functions are imported."""
        return len(self.functions) - len(self.bodies)

    @property
    def imported_globals(self) -> int:
        """How many globals are imported."""
        return len(self.globals) - len(self.initializers)

    def function_name(self, index: int) -> str:
        """What to call a function: its name, or its number."""
        return self.function_names.get(index) or f"function {index}"


def leb_unsigned(data: bytes, position: int, bits: int) -> tuple[int, int]:
    """An unsigned LEB128 number of so many bits, and the position behind it (5.2.2)."""
    result = shift = 0
    start = position
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            raise BinaryError("integer representation too long", start)
    if result >> bits:
        raise BinaryError("integer too large", start)
    return result, position


def leb_signed(data: bytes, position: int, bits: int) -> tuple[int, int]:
    """A signed LEB128 number of so many bits, and the position behind it (5.2.2)."""
    result = shift = 0
    start = position
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            raise BinaryError("integer representation too long", start)
    if byte & 0x40:
        result -= 1 << shift
    if not -(1 << bits - 1) <= result < 1 << bits - 1:
        raise BinaryError("integer too large", start)
    return result, position


class _Reader:
    """A position in the module that goes up to `end`."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def byte(self) -> int:
        position = self.position
        if position >= self.end:
            raise BinaryError("unexpected end", position)
        self.position = position + 1
        return self.data[position]

    def u32(self) -> int:
        position = self.position
        if position < self.end and self.data[position] < 0x80:  # as most are
            self.position = position + 1
            return self.data[position]
        try:
            value, self.position = leb_unsigned(self.data, position, 32)
        except IndexError:
            raise BinaryError("unexpected end", self.end) from None
        if self.position > self.end:
            raise BinaryError("unexpected end", self.end)
        return value

    def signed(self, bits: int) -> int:
        try:
            value, self.position = leb_signed(self.data, self.position, bits)
        except IndexError:
            raise BinaryError("unexpected end", self.end) from None
        if self.position > self.end:
            raise BinaryError("unexpected end", self.end)
        return value

    def skip(self, size: int) -> int:
        """Go over so many bytes; where they began."""
        start = self.position
        if size > self.end - start:
            raise BinaryError("unexpected end", self.end)
        self.position = start + size
        return start

    def bytes(self, size: int) -> bytes:
        start = self.skip(size)
        return self.data[start : start + size]

    def name(self) -> str:
        start = self.position
        size = self.u32()
        raw = self.bytes(size)
        if size > MOST["name bytes"]:
            raise BinaryError(f"a name of {size} bytes, {MOST['name bytes']} at most", start)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise BinaryError("malformed UTF-8 encoding", start) from None

    def vector(self, what: str, item: Callable[[], _T]) -> tuple[_T, ...]:
        start = self.position
        count = self.u32()
        if count > self.end - self.position:  # an item has a byte at least
            raise BinaryError(f"unexpected end: {count} {what}", start)
        if count > MOST[what]:
            raise BinaryError(f"{count} {what}, {MOST[what]} at most", start)
        return tuple([item() for _ in range(count)])

    # -- types (5.3) --------------------------------------------------------------------------------------------------
    def value_type(self) -> int:
        start = self.position
        byte = self.byte()
        if byte not in NAMES:
            raise BinaryError("malformed value type", start)
        return byte

    def reference_type(self) -> int:
        start = self.position
        byte = self.byte()
        if byte not in REFERENCES:
            raise BinaryError("malformed reference type", start)
        return byte

    def function_type(self) -> FuncType:
        start = self.position
        if self.byte() != 0x60:
            raise BinaryError("malformed function type", start)
        return FuncType(self.vector("parameters", self.value_type), self.vector("results", self.value_type))

    def limits(self) -> Limits:
        start = self.position
        flag = self.byte()
        if flag > 1:
            raise BinaryError("malformed limits flags" if flag > 0x7F else "integer too large: limits flags", start)
        return Limits(self.u32(), self.u32() if flag else None)

    def table_type(self) -> TableType:
        return TableType(self.reference_type(), self.limits())

    def memory_type(self) -> MemoryType:
        return MemoryType(self.limits())

    def global_type(self) -> GlobalType:
        value = self.value_type()
        start = self.position
        mutability = self.byte()
        if mutability > 1:
            raise BinaryError("malformed mutability", start)
        return GlobalType(value, bool(mutability))

    # -- expressions (5.4.9) ------------------------------------------------------------------------------------------
    def expression(self) -> Expression:
        offset = self.position
        instructions: list[tuple[int, int]] = []
        while True:
            start = self.position
            match opcode := self.byte():
                case 0x0B:
                    return Expression(tuple(instructions), offset)
                case 0x41:
                    immediate = self.signed(32)
                case 0x42:
                    immediate = self.signed(64)
                case 0x43:
                    immediate = int.from_bytes(self.bytes(4), "little")
                case 0x44:
                    immediate = int.from_bytes(self.bytes(8), "little")
                case 0x23 | 0xD2:
                    immediate = self.u32()
                case 0xD0:
                    immediate = self.reference_type()
                case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:  # extended constant expressions: add, sub, mul
                    immediate = 0
                case 0xFD:
                    if self.u32() != 0x0C:
                        raise BinaryError("constant expression required", start)
                    opcode, immediate = 0xFD0C, int.from_bytes(self.bytes(16), "little")
                case _:
                    # what else stands here is an instruction that is not constant, or the bytes of none: the rules of
                    # validation decide, and they need no more than that it is there
                    instructions.append((opcode, 0))
                    self._skip_to_end()
                    return Expression(tuple(instructions), offset)
            instructions.append((opcode, immediate))

    def _skip_to_end(self) -> None:
        while self.byte() != 0x0B:
            pass

    def index_expression(self) -> Expression:
        """A function index where an expression is meant."""
        offset = self.position
        return Expression(((0xD2, self.u32()),), offset)

    # -- segments (5.5.12, 5.5.14) ------------------------------------------------------------------------------------
    def element(self) -> Element:
        offset = self.position
        flags = self.u32()
        if flags > 7:
            raise BinaryError("malformed elements segment kind", offset)
        is_active, has_table, has_expressions = not flags & 1, flags & 2, flags & 4
        table = position = None
        if is_active:
            table = self.u32() if has_table else 0
            position = self.expression()
        reference = FUNCREF
        if flags & 3:
            start = self.position
            if has_expressions:
                reference = self.reference_type()
            elif self.byte() != 0:
                raise BinaryError("malformed element kind", start)
        items = self.vector("elements", self.expression if has_expressions else self.index_expression)
        return Element(reference, items, table, position, flags & 3 == 3, offset)

    def segment(self) -> Data:
        offset = self.position
        flags = self.u32()
        if flags > 2:
            raise BinaryError("malformed data segment kind", offset)
        memory = position = None
        if flags != 1:
            memory = self.u32() if flags == 2 else 0
            position = self.expression()
        size = self.u32()
        start = self.skip(size)
        return Data(start, start + size, memory, position, offset)

    # -- the rest -----------------------------------------------------------------------------------------------------
    def body(self) -> BodyBytes:
        offset = self.position
        size = self.u32()
        start = self.skip(size)
        if size > MOST["body bytes"]:
            raise BinaryError(f"a body of {size} bytes, {MOST['body bytes']} at most", offset)
        return BodyBytes(start, start + size)


def read_locals(data: bytes, body: BodyBytes) -> tuple[tuple[int, ...], int]:
    """The types of a body's locals behind the parameters, and where its instructions begin (5.4.13)."""
    reader = _Reader(data, body.start, body.end)
    runs = reader.vector("locals", lambda: (reader.u32(), reader.value_type()))
    count = sum(run for run, _ in runs)
    if count > MOST["locals"]:
        raise BinaryError(f"too many locals: {count}, {MOST['locals']} at most", body.start)
    return tuple(chain.from_iterable(repeat(kind, run) for run, kind in runs)), reader.position


_KINDS: Final = {kind.value: kind for kind in Kind}
_MAGIC: Final = b"\0asm"
_VERSION: Final = (1).to_bytes(4, "little")
_ORDER: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11)
"""The order of the sections (5.5.16): the data count stands before the code."""


class _Sections:
    """What the sections have given so far."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.types: tuple[FuncType, ...] = ()
        self.imports: tuple[Import, ...] = ()
        self.functions: list[int] = []
        self.tables: list[TableType] = []
        self.memories: list[MemoryType] = []
        self.globals: list[GlobalType] = []
        self.initializers: list[Expression] = []
        self.exports: tuple[Export, ...] = ()
        self.start: int | None = None
        self.elements: tuple[Element, ...] = ()
        self.segments: tuple[Data, ...] = ()
        self.data_count: int | None = None
        self.bodies: tuple[BodyBytes, ...] = ()
        self.declared = 0  # functions, in the function section
        self.customs: list[Custom] = []

    def read(self, number: int, reader: _Reader) -> None:
        match number:
            case 1:
                self.types = reader.vector("types", reader.function_type)
            case 2:
                self.imports = reader.vector("imports", lambda: self._import(reader))
            case 3:
                indices = reader.vector("functions", reader.u32)
                self.declared = len(indices)
                self.functions += indices
            case 4:
                self.tables += reader.vector("tables", reader.table_type)
            case 5:
                self.memories += reader.vector("memories", reader.memory_type)
            case 6:
                for kind, initializer in reader.vector("globals", lambda: (reader.global_type(), reader.expression())):
                    self.globals.append(kind)
                    self.initializers.append(initializer)
            case 7:
                self.exports = reader.vector("exports", lambda: self._export(reader))
            case 8:
                self.start = reader.u32()
            case 9:
                self.elements = reader.vector("elements segments", reader.element)
            case 10:
                self.bodies = reader.vector("functions", reader.body)
            case 11:
                self.segments = reader.vector("data segments", reader.segment)
            case 12:
                self.data_count = reader.u32()

    def _import(self, reader: _Reader) -> Import:
        module, name = reader.name(), reader.name()
        start = reader.position
        kind: ExternType
        match reader.byte():
            case 0:
                index = reader.u32()
                self.functions.append(index)
                # validation refuses an unknown type
                kind = self.types[index] if index < len(self.types) else FuncType((), ())
            case 1:
                kind = reader.table_type()
                self.tables.append(kind)
            case 2:
                kind = reader.memory_type()
                self.memories.append(kind)
            case 3:
                kind = reader.global_type()
                self.globals.append(kind)
            case _:
                raise BinaryError("malformed import kind", start)
        return Import(module, name, kind)

    @staticmethod
    def _export(reader: _Reader) -> Export:
        name = reader.name()
        start = reader.position
        kind = _KINDS.get(reader.byte())
        if kind is None:
            raise BinaryError("malformed export kind", start)
        return Export(name, kind, reader.u32())

    def finish(self, end: int) -> ModuleData:
        if len(self.bodies) != self.declared:
            raise BinaryError("function and code section have inconsistent lengths", end)
        if self.data_count is not None and self.data_count != len(self.segments):
            raise BinaryError("data count and data section have inconsistent lengths", end)
        imported = (one.name for one in self.imports if isinstance(one.type, FuncType))
        function_names = dict(enumerate(imported))
        exported = [export for export in self.exports if export.kind is Kind.FUNCTION]
        function_names.update({export.number: export.name for export in reversed(exported)})
        name, named = _names(self.data, self.customs)
        function_names.update(named)
        return ModuleData(
            self.data,
            self.types,
            self.imports,
            tuple(self.functions),
            tuple(self.tables),
            tuple(self.memories),
            tuple(self.globals),
            tuple(self.initializers),
            self.exports,
            self.start,
            self.elements,
            self.segments,
            self.data_count is not None,
            self.bodies,
            tuple(self.customs),
            name,
            function_names,
        )


def _no_magic(data: bytes) -> str:
    if data[:1_000].lstrip().startswith((b"(", b";;")):
        return "magic header not detected: this is WebAssembly text; make a module of it, with wat2wasm for example"
    return "magic header not detected: a module begins with \\0asm"


def decode(data: bytes) -> ModuleData:
    """Decode a module; BinaryError with the offset where the bytes are none.

    >>> decode(b"\\0asm\\1\\0\\0\\0").functions
    ()
    >>> decode(b"\\0asm\\1\\0\\0\\0\\1\\2\\1")
    Traceback (most recent call last):
    ...
    callgate.wasm.errors.BinaryError: unexpected end (at byte 0xb)
    """
    if len(data) > MOST["module bytes"]:
        raise BinaryError(f"a module of {len(data)} bytes, {MOST['module bytes']} at most", 0)
    if data[:4] != _MAGIC:
        raise BinaryError(_no_magic(data) if len(data) >= 4 else "unexpected end", 0)
    if data[4:8] != _VERSION:
        raise BinaryError("unknown binary version" if len(data) >= 8 else "unexpected end", 4)
    reader = _Reader(data, 8, len(data))
    sections = _Sections(data)
    last = -1
    while reader.position < len(data):
        offset = reader.position
        number = reader.byte()
        if number > 12:
            raise BinaryError("malformed section id", offset)
        size = reader.u32()
        start = reader.skip(size)
        inner = _Reader(data, start, start + size)
        if number == 0:
            sections.customs.append(Custom(inner.name(), inner.position, inner.end))
            continue
        place = _ORDER.index(number)
        if place <= last:
            raise BinaryError("unexpected content after last section", offset)
        last = place
        sections.read(number, inner)
        if inner.position != inner.end:
            raise BinaryError("section size mismatch", inner.position)
    return sections.finish(reader.position)


def _names(data: bytes, customs: list[Custom]) -> tuple[str, dict[int, str]]:
    """The module's name and the functions' names from the name section (appendix 7.4.1); what is damaged is ignored."""
    name, functions = "", {}
    for custom in customs:
        if custom.name != "name":
            continue
        reader = _Reader(data, custom.start, custom.end)
        try:
            while reader.position < reader.end:
                kind = reader.byte()
                size = reader.u32()
                start = reader.skip(size)
                inner = _Reader(data, start, start + size)
                if kind == 0:
                    name = inner.name()
                elif kind == 1:
                    for _ in range(inner.u32()):
                        index = inner.u32()
                        functions[index] = inner.name()
        except BinaryError:  # a custom section cannot make a module invalid
            pass
    return name, functions
