"""Tables and globals, as Python sees them, the values in them, and what keeps the things that they refer to alive.

Long because all of it says together when a reference may go where: apart, each half would ask the other.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from itertools import count as counting
from operator import index as as_index
from typing import Any, Final

from callgate.runtime.process_bound import not_copied
from callgate.wasm.compile.layout import RECORD_HOME
from callgate.wasm.errors import ClosedError, TableOutOfBounds
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
_MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


class Store:
    """Instances that may have each other's references, and so live together; the objects that externrefs stand for.

    Compiled code passes references on as words, which nobody counts.  So where a reference may go from one instance to
    another (a shared table, an imported function that takes one, a value that Python hands over), their stores become
    one, and it holds the instances whose functions may be out of their own.  An instance on its own holds its store and
    is not in it, so that it is freed with its last reference; what is in a store goes with the cycle collector.
    """

    __slots__ = ("__weakref__", "_handles", "_into", "_objects", "cores")

    def __init__(self) -> None:
        self.cores: list[Any] = []
        self._objects: dict[int, Any] = {}
        self._handles: dict[int, int] = {}
        self._into: Store | None = None

    def root(self) -> Store:
        """The store that it has become part of."""
        store = self
        while store._into is not None:
            store = store._into
        return store

    def join(self, other: Store) -> None:
        """Become one."""
        into, out_of = self.root(), other.root()
        if into is out_of:
            return
        out_of._into = into
        for core in out_of.cores:
            into.hold(core)
        into._objects.update(out_of._objects)
        into._handles.update(out_of._handles)
        out_of.cores, out_of._objects, out_of._handles = [], {}, {}

    def hold(self, core: Any) -> None:
        """Keep an instance."""
        cores = self.root().cores
        if not any(core is one for one in cores):
            cores.append(core)

    def handle(self, thing: object) -> int:
        """The number that stands for an object; it is kept as long as the instances here."""
        store = self.root()
        handle = store._handles.get(id(thing))
        if handle is None:
            handle = store._handles[id(thing)] = next(_HANDLES)
            store._objects[handle] = thing
        return handle

    def thing(self, handle: int) -> Any:
        """The object that a number stands for."""
        return self.root()._objects[handle]


_HANDLES = counting(1)


class Function:
    """A WebAssembly function as a reference: what funcref values and elements of tables are in Python.

    Calling it calls the function.  `type` is its FuncType.
    """

    __slots__ = ("__weakref__", "call", "name", "number", "owner", "record", "type")
    __reduce__ = not_copied("instantiate the module there")

    def __init__(self, type: FuncType, call: Any, name: str, owner: Any, record: int = 0, number: int = -1) -> None:
        self.type = type
        self.call = call  # the Python callable; None: the owner makes it
        self.name = name
        self.owner = owner  # the instance
        self.record = record  # the address of its record; 0 in portable mode
        self.number = number

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            self.call = self.owner.callable(self.number)
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

    __slots__ = ("__weakref__", "elements", "engine", "most", "native", "store", "type")
    __reduce__ = not_copied("make one there")

    def __init__(
        self, kind: str, minimum: int, maximum: int | None = None, *, most_elements: int | None = None
    ) -> None:
        element = VALUE_TYPES.get(kind)
        if element not in REFERENCES:
            raise ValueError(f"a table has elements of funcref or externref, not {kind!r}")
        most = 0xFFFF_FFFF if maximum is None else maximum
        if not 0 <= minimum <= most <= 0xFFFF_FFFF:
            raise ValueError(f"a table has from 0 to {0xFFFF_FFFF} elements, not {minimum} to {most}")
        self.type = TableType(element, Limits(minimum, maximum))
        self.most = min(most, MOST_ELEMENTS, MOST_ELEMENTS if most_elements is None else most_elements)
        if minimum > self.most:
            raise MemoryError(f"a table of {minimum} elements, {self.most} at most (Limits.table_elements)")
        # None, a Function (in portable mode the Record of one), or for externref any object
        self.elements: list[Any] = [None] * minimum
        self.engine = ""  # which engine's instances have it
        self.native: Any = None  # in place of the elements: the words that compiled code reads, kept by `native`
        self.store = Store()

    def __len__(self) -> int:
        return len(self.elements) if self.native is None else int(self.native.count)

    def __repr__(self) -> str:
        return f"<wasm {self.type}, {len(self)} now>"

    def _check(self, index: int) -> int:
        index = as_index(index)
        if not 0 <= index < len(self):
            raise TableOutOfBounds(f"out of bounds table access: element {index} of {len(self)}")
        return index

    def __getitem__(self, index: int) -> Any:
        index = self._check(index)
        if self.native is not None:
            return decode_reference(self.type.element, self.native.words[index], self.store)
        return _shown(self.type.element, self.elements[index])

    def __setitem__(self, index: int, value: Any) -> None:
        index = self._check(index)
        self.put(index, self._element(value))

    def _element(self, value: Any) -> Any:
        if self.type.element != FUNCREF:
            return value
        function = function_of(value)
        if function is not None and not isinstance(function, Function):
            raise TypeError(f"an element of a table of funcref is an exported function or None, not {value!r}")
        return function

    def put(self, index: int, value: Any) -> None:
        """Set an element that is known to be there and of the type."""
        if self.native is not None:
            self.native.words[index] = encode_reference(self.type.element, value, self.store)
        else:
            self.elements[index] = self._held(value)

    def grow(self, count: int, value: Any = None, /) -> int:
        """Append so many elements; the number there was, or -1 where that is too much."""
        return self.extend(as_index(count), self._held(self._element(value)))

    def extend(self, count: int, value: Any) -> int:
        """As `grow`, with an element that the list may have."""
        before = len(self)
        if count < 0 or before + count > self.most:
            return -1
        if self.native is not None:
            self.native.grow(count, encode_reference(self.type.element, value, self.store))
        else:
            self.elements += [value] * count
        return before

    def _held(self, value: Any) -> Any:
        """An element as the list has it."""
        return _portable(self.type.element, value, self.store) if self.engine == "portable" else value

    def references(self) -> list[Any]:
        """What it has while no engine's instance has it."""
        return self.elements if not self.engine else []

    def take(self) -> list[Any]:
        """Have the elements as translated code has them from now on; the list of them, always the same."""
        self.engine = "portable"
        self.elements[:] = map(self._held, self.elements)
        return self.elements


def _portable(kind: int, value: Any, store: Store) -> Any:
    """A reference as translated code has it."""
    from callgate.wasm.portable.convert import encode_reference as encode

    return encode(kind, value, store)


def _shown(kind: int, value: Any) -> Any:
    """A reference that is no word, as programs have it."""
    return value.function() if kind == FUNCREF and value is not None and not isinstance(value, Function) else value


def function_of(thing: Any) -> Any:
    """The Function behind an exported function (a gate keeps it as its library), or the thing itself."""
    if isinstance(thing, Function):
        return thing
    behind = getattr(getattr(getattr(thing, "__self__", None), "library", None), "function", None)
    if behind is None:
        behind = getattr(thing, "wasm_function", None)
    function = behind() if callable(behind) else None
    return function if isinstance(function, Function) else thing


# -- values as words -------------------------------------------------------------------------------------------------

_FORMATS: Final = {I32: "<i", I64: "<q", F32: "<f", F64: "<d"}


def pack(kind: int, value: Any, where: str, store: Store) -> tuple[int, int]:
    """A Python value as two words; TypeError, OverflowError or ValueError (`where` ...) for one of another type."""
    if kind in (I32, I64):
        if not hasattr(type(value), "__index__"):
            raise _mismatch(where, "int", value)
        number, bits = as_index(value), 32 if kind == I32 else 64
        if not -(1 << bits - 1) <= number < 1 << bits:
            raise OverflowError(
                f"{where} must be in {-(1 << bits - 1)}..{(1 << bits) - 1} ({NAMES[kind]}), not {number}"
            )
        return number & (1 << bits) - 1, 0
    if kind in (F32, F64):
        if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
            raise _mismatch(where, "float", value)
        try:
            data = struct.pack(_FORMATS[kind], value)
        except OverflowError:
            raise OverflowError(f"{where} must be in the range of {NAMES[kind]}, not {value!r}") from None
        return int.from_bytes(data, "little"), 0
    if kind == V128:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise _mismatch(where, "16 bytes", value)
        if len(value) != 16:
            raise ValueError(f"{where} must be 16 bytes (v128), not {len(value)}")
        low, high = struct.unpack("<QQ", value)
        return low, high
    if kind == FUNCREF and value is not None and not isinstance(function_of(value), Function):
        raise _mismatch(where, "an exported function or None", value)
    return encode_reference(kind, value, store), 0


def _mismatch(where: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{where} must be {wanted}, not {'None' if value is None else type(value).__name__}")


def unpack(kind: int, low: int, high: int, store: Store) -> Any:
    """The Python value of two words."""
    if kind in (I32, I64):
        bits = 32 if kind == I32 else 64
        low &= (1 << bits) - 1
        return low - (low >> bits - 1 << bits)
    if kind in (F32, F64):
        return struct.unpack_from(_FORMATS[kind], struct.pack("<Q", low))[0]
    if kind == V128:
        return struct.pack("<QQ", low, high)
    return decode_reference(kind, low, store)


class Global:
    """A global variable: `Global("i32", 666)`, `Global("f64", 0.5, mutable=True)`.

    >>> counter = Global("i64", 1, mutable=True)
    >>> counter.value += 1
    >>> counter.value
    2
    """

    __slots__ = ("__weakref__", "cell", "engine", "raw", "store", "type")
    __reduce__ = not_copied("make one there")

    def __init__(self, kind: str, value: Any, *, mutable: bool = False) -> None:
        number = VALUE_TYPES.get(kind)
        if number is None:
            raise ValueError(f"a global has one of the types {', '.join(VALUE_TYPES)}, not {kind!r}")
        self.type = GlobalType(number, mutable)
        self.store = Store()
        self.cell: Any = (ctypes.c_uint64 * 2)()  # the value as words
        self.engine = ""  # which engine's instances have it
        # where the value is instead in portable mode, and a reference before any engine has it
        self.raw: list[Any] | None = [None] if number in REFERENCES else None
        self.set(value)

    def __repr__(self) -> str:
        return f"<wasm {self.type}: {self.value!r}>"

    @property
    def value(self) -> Any:
        """Its value; settable where it is mutable."""
        if self.raw is not None:
            return self._from_raw(self.raw[0])
        return unpack(self.type.value, self.cell[0], self.cell[1], self.store)

    @value.setter
    def value(self, value: Any) -> None:
        if not self.type.is_mutable:
            raise TypeError(f"a {self.type} cannot be set")
        self.set(value)

    def _from_raw(self, raw: Any) -> Any:
        from callgate.wasm.portable.convert import to_python

        return _shown(self.type.value, raw) if self.type.value in REFERENCES else to_python(self.type.value, raw)

    def set(self, value: Any) -> None:
        """Set it, mutable or not; TypeError, OverflowError or ValueError for what is no value of its type."""
        kind, where = self.type.value, f"a global of {NAMES[self.type.value]}"
        if kind == FUNCREF and value is not None and not isinstance(function_of(value), Function):
            raise _mismatch(where, "an exported function or None", value)
        if self.raw is None:
            self.cell[0], self.cell[1] = pack(kind, value, where, self.store)
        elif self.engine == "portable":
            from callgate.wasm.portable.convert import to_raw

            self.raw[0] = to_raw(kind, value, where, self.store)
        else:
            self.raw[0] = function_of(value) if kind == FUNCREF else value

    def references(self) -> list[Any]:
        """What it has while no engine's instance has it."""
        return self.raw if self.raw is not None and not self.engine else []

    def take_raw(self) -> list[Any]:
        """Have the value as translated code has it from now on; the list that it is in, always the same."""
        kind = self.type.value
        if self.raw is None:
            from callgate.wasm.portable.convert import from_words

            self.raw = from_words((kind,), (self.cell[0], self.cell[1]))
        elif kind in REFERENCES:
            self.raw[0] = _portable(kind, self.raw[0], self.store)
        return self.raw

    def take_words(self) -> None:
        """Have the value as words, which a mutable one is from now on."""
        if self.raw is None:
            return
        kind = self.type.value
        if kind in REFERENCES:
            self.cell[0], self.raw = encode_reference(kind, self.raw[0], self.store), None
        else:  # a constant out of portable mode
            from callgate.wasm.portable.convert import to_words

            words = to_words((kind,), self.raw[0])
            self.cell[: len(words)] = words


# -- references as words ---------------------------------------------------------------------------------------------

_CORES: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Instances by the address of their vmctx, which is in each function's record."""


def encode_reference(kind: int, value: Any, store: Store) -> int:
    """The word that stands for a reference in compiled code: 0 for None, a record's address, a handle."""
    if value is None:
        return 0
    if kind != FUNCREF:
        return store.handle(value)
    function = function_of(value)
    if not isinstance(function, Function) or not function.record:
        raise TypeError(f"a funcref is an exported function of compiled mode or None, not {value!r}")
    hold_owner(function, store)
    return function.record


def hold_owner(function: Function, store: Store) -> None:
    """A reference to a function goes where this store is, which keeps the function's instance unless it is its own."""
    core = function.owner
    is_alone = not store.root().cores and core.store is store
    if not is_alone:
        store.join(core.store)
        store.hold(core)


def decode_reference(kind: int, word: int, store: Store) -> Any:
    """The reference that a word stands for."""
    if not word:
        return None
    if kind != FUNCREF:
        return store.thing(word)
    core = _CORES.get(ctypes.c_uint64.from_address(word + RECORD_HOME).value)
    if core is None:
        raise ClosedError("the instance that has the function is being taken apart")
    return core.function_at_record(word)


def register_core(vmctx: int, core: Any) -> None:
    """From now on records with this vmctx are this instance's."""
    _CORES[vmctx] = core
