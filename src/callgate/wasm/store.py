"""Tables and globals, as Python sees them: the things besides memories that modules share."""

from __future__ import annotations

import ctypes
import struct
import weakref
from typing import Any, Final

from callgate.wasm.errors import TableOutOfBounds
from callgate.wasm.types import (
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    NAMES,
    REFERENCES,
    V128,
    VALUE_TYPES,
    FuncType,
    GlobalType,
    Limits,
    TableType,
)

MOST_ELEMENTS: Final = 10_000_000


class Function:
    """A WebAssembly function as a reference: what funcref values and elements of tables are in Python.

    Calling it calls the function.  `type` is its FuncType.
    """

    __slots__ = ("__weakref__", "call", "name", "owner", "record", "type")

    def __init__(self, type: FuncType, call: Any, name: str, owner: object, record: int = 0) -> None:
        self.type = type
        self.call = call  # the Python callable
        self.name = name
        self.owner = owner  # the instance, or whatever has to live as long
        self.record = record  # the address of its record, in compiled mode

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __repr__(self) -> str:
        return f"<wasm function {self.name}{self.type}>"


class Table:
    """A table of references: `Table("funcref", 10, 20)` has 10 elements and may grow to 20.

    >>> table = Table("externref", 2)
    >>> table[0] = "anything"
    >>> table[0], table[1], len(table)
    ('anything', None, 2)
    """

    __slots__ = ("__weakref__", "elements", "most", "native", "type")

    def __init__(
        self, kind: str, minimum: int, maximum: int | None = None, *, most_elements: int | None = None
    ) -> None:
        element = VALUE_TYPES.get(kind)
        if element not in REFERENCES:
            raise ValueError(f"a table has elements of funcref or externref, not {kind!r}")
        self.type = TableType(element, Limits(minimum, maximum))
        self.most = min(maximum if maximum is not None else MOST_ELEMENTS, most_elements or MOST_ELEMENTS)
        if minimum > self.most:
            raise MemoryError(f"a table of {minimum} elements, {self.most} at most (Limits.table_elements)")
        self.elements: list[Any] = [None] * minimum  # None, a Function, or for externref any object
        self.native: Any = None  # the words that compiled code reads, kept by `native`

    def __len__(self) -> int:
        return len(self.elements)

    def __repr__(self) -> str:
        return f"<wasm {self.type}, {len(self.elements)} now>"

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self.elements):
            raise TableOutOfBounds(f"out of bounds table access: element {index} of {len(self.elements)}")

    def __getitem__(self, index: int) -> Any:
        self._check(index)
        if self.native is not None:
            return self.native.get(index)
        return self.elements[index]

    def __setitem__(self, index: int, value: Any) -> None:
        self._check(index)
        if self.type.element == FUNCREF and value is not None and not isinstance(function_of(value), Function):
            raise TypeError(f"an element of a table of funcref is an exported function or None, not {value!r}")
        self.put(index, function_of(value) if self.type.element == FUNCREF else value)

    def put(self, index: int, value: Any) -> None:
        """Set an element that is known to be there and of the type."""
        self.elements[index] = value
        if self.native is not None:
            self.native.put(index, value)

    def grow(self, count: int, value: Any = None) -> int:
        """Append so many elements; the number there was, or -1 where that is too much."""
        before = len(self.elements)
        if count < 0 or before + count > self.most:
            return -1
        self.elements += [value] * count
        if self.native is not None:
            self.native.grow(before, value)
        return before


def function_of(thing: Any) -> Any:
    """The Function behind an exported function (a gate keeps it as its library), or the thing itself."""
    if isinstance(thing, Function):
        return thing
    behind = getattr(getattr(getattr(thing, "__self__", None), "library", None), "function", None)
    if behind is None:
        behind = getattr(thing, "wasm_function", None)
    function = behind() if callable(behind) else None
    return function if isinstance(function, Function) else thing


_FORMATS: Final = {I32: "<i", I64: "<q", F32: "<f", F64: "<d"}


class Global:
    """A global variable: `Global("i32", 666)`, `Global("f64", 0.5, mutable=True)`.

    >>> counter = Global("i64", 1, mutable=True)
    >>> counter.value += 1
    >>> counter.value
    2
    """

    __slots__ = ("__weakref__", "cell", "type")

    def __init__(self, kind: str, value: Any, *, mutable: bool = False) -> None:
        number = VALUE_TYPES.get(kind)
        if number is None:
            raise ValueError(f"a global has one of the types {', '.join(VALUE_TYPES)}, not {kind!r}")
        self.type = GlobalType(number, mutable)
        self.cell: Any = (ctypes.c_uint64 * 2)()
        self.set(value)

    def __repr__(self) -> str:
        return f"<wasm {self.type}: {self.value!r}>"

    @property
    def value(self) -> Any:
        """Its value; settable where it is mutable."""
        kind = self.type.value
        if kind in _FORMATS:
            return struct.unpack_from(_FORMATS[kind], self.cell)[0]
        if kind == V128:
            return bytes(self.cell)
        return decode_reference(kind, self.cell[0])

    @value.setter
    def value(self, value: Any) -> None:
        if not self.type.is_mutable:
            raise TypeError(f"a {self.type} cannot be set")
        self.set(value)

    def set(self, value: Any) -> None:
        """Set it, mutable or not; TypeError, OverflowError or ValueError for what is no value of its type."""
        kind = self.type.value
        if kind in (I32, I64):
            bits = 32 if kind == I32 else 64
            if not isinstance(value, int):
                raise TypeError(f"a global of {NAMES[kind]} is an int, not {type(value).__name__}")
            if not -(1 << bits - 1) <= value < 1 << bits:
                raise OverflowError(f"{value} does not fit {NAMES[kind]}")
            self.cell[0] = value & (1 << bits) - 1
        elif kind in (F32, F64):
            struct.pack_into(_FORMATS[kind], self.cell, 0, value)
        elif kind == V128:
            if len(value) != 16:
                raise ValueError(f"a v128 is 16 bytes, not {len(value)}")
            self.cell[0], self.cell[1] = struct.unpack("<QQ", value)
        else:
            self.cell[0] = encode_reference(kind, value)


# -- references as words ----------------------------------------------------------------------------------------------

_FUNCTIONS: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""What has the function of a record, by blocks of records: see `owner_of_record`."""
_HANDLES: dict[int, int] = {}
_OBJECTS: list[Any] = [None]


def encode_reference(kind: int, value: Any) -> int:
    """The word that stands for a reference in compiled code: 0 for None, a record's address, a handle."""
    if value is None:
        return 0
    if kind == FUNCREF:
        function = function_of(value)
        if not isinstance(function, Function) or not function.record:
            raise TypeError(f"a funcref is an exported function of compiled mode or None, not {value!r}")
        return function.record
    handle = _HANDLES.get(id(value))
    if handle is None:
        handle = len(_OBJECTS)
        _OBJECTS.append(value)
        _HANDLES[id(value)] = handle
    return handle


def decode_reference(kind: int, word: int) -> Any:
    """The reference that a word stands for."""
    if not word:
        return None
    if kind == FUNCREF:
        vmctx = ctypes.c_uint64.from_address(word + 8).value
        core = _FUNCTIONS.get(vmctx)
        if core is None:
            raise LookupError("a funcref of an instance that is gone")
        return core.function_at_record(word)
    return _OBJECTS[word]


def register_core(vmctx: int, core: Any) -> None:
    """From now on records with this vmctx are this instance's."""
    _FUNCTIONS[vmctx] = core
