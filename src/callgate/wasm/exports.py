"""What an instance exports, as Python has it: gates, functions that convert, memories, tables, globals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import index as as_index
from typing import TYPE_CHECKING, Any

from callgate.c.types import Kind as NumberKind
from callgate.runtime.process_bound import not_copied
from callgate.runtime.reference import place_keywords
from callgate.wasm.annotations import Value
from callgate.wasm.binary import Export, Kind
from callgate.wasm.protocols import Allocator, Form, Plan, Text, TypedCall
from callgate.wasm.store import Function, pack
from callgate.wasm.types import F32, F64, FUNCREF, I32, I64

if TYPE_CHECKING:
    from inspect import Signature

_MASK = 0xFFFF_FFFF


class Exports:
    """What an instance exports, by attribute and by name: `exports.add(1, 2)`, `exports["add"]`, `"add" in exports`.

    Functions are gates, typed by the Protocol or by their own types; a Memory, Table or Global is itself.
    """

    __slots__ = ("__core", "__dict__", "__exports", "__plans", "__weakref__")
    __reduce__ = not_copied("instantiate the module there")

    def __init__(self, core: Any, plans: Mapping[str, Plan]) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_Exports__core", core)
        set_slot(self, "_Exports__plans", plans)
        set_slot(self, "_Exports__exports", {export.name: export for export in core.module.exports})

    def __getitem__(self, name: str) -> Any:
        if name in self.__dict__:
            return self.__dict__[name]
        plan = self.__plans.get(name)
        if plan is None and name not in self.__exports:
            raise KeyError(f"the module exports no {name!r}")
        made = self.__dict__[name] = (
            make_export(self.__core, self.__exports[name]) if plan is None else make_planned(self.__core, plan)
        )
        return made

    def __getattr__(self, name: str) -> Any:
        if name not in self.__exports and name not in self.__plans:
            offered = ", ".join(self.__exports) or "nothing"
            offered = offered if len(offered) < 500 else f"{offered[:500]}..."
            raise AttributeError(f"the module exports no {name!r}; it exports {offered}")
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"exports cannot be set: {name!r}")

    def __contains__(self, name: object) -> bool:
        return name in self.__exports

    def __iter__(self) -> Iterator[str]:
        return iter(self.__exports)

    def __len__(self) -> int:
        return len(self.__exports)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__exports, *self.__plans})

    def __repr__(self) -> str:
        return f"<wasm exports {', '.join(self.__exports)}>"


def make_export(core: Any, export: Export) -> Any:
    """An export by its own type."""
    match export.kind:
        case Kind.FUNCTION:
            return core.callable(export.number)
        case Kind.MEMORY:
            return core.memories[export.number]
        case Kind.TABLE:
            core.share()
            return core.tables[export.number]
        case Kind.GLOBAL:
            if core.module.globals[export.number].value not in (I32, I64, F32, F64):
                core.share()
            return core.globals[export.number]


def make_planned(core: Any, plan: Plan) -> Any:
    """An export as a Protocol declares it."""
    if plan.kind is None:
        return None
    if plan.gate is not None:
        return core.gate(plan.number, plan.gate)
    if plan.call is not None:
        return TypedFunction(core, plan.number, plan.call, plan.allocator)
    return make_export(core, Export(plan.name, plan.kind, plan.number))


class TypedFunction:
    """A function that takes or gives strings, references, vectors or several results, as a Protocol types it."""

    __slots__ = ("__dict__", "__name__", "__weakref__", "_allocator", "_call", "_core", "_declared", "_free", "_number")
    __reduce__ = not_copied("instantiate the module there")

    def __init__(self, core: Any, number: int, declared: TypedCall, allocator: Allocator | None) -> None:
        self.__name__ = declared.name
        self.__doc__ = declared.doc or None
        self._core = core
        self._number = number
        self._declared = declared
        self._call = core.callable(number)
        self._allocator = _Allocation(core, allocator, declared.name) if allocator is not None else None
        self._free = _freeing(core, declared.free) if declared.free is not None else None

    def wasm_function(self) -> Function:
        """The function as a reference."""
        found: Function = self._core.function(self._number)
        return found

    @property
    def __signature__(self) -> Signature:
        """What it takes, for `help()`, editors and `inspect.signature`."""
        from inspect import Parameter, Signature

        positional, either = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD
        names = enumerate(self._declared.names, 1)
        return Signature([Parameter(name or f"arg{number}", either if name else positional) for number, name in names])

    def __repr__(self) -> str:
        return f"<wasm function {self.__name__}{self._core.signature(self._number)}>"

    def __call__(self, *given: Any, **named: Any) -> Any:
        declared, allocator = self._declared, self._allocator
        placed = place_keywords(declared.name, declared.names, given, named)
        arguments = [
            _text(thing, one, f"{declared.name}() argument {number}")
            if isinstance(one, Text)
            else accept(one, thing, f"{declared.name}() argument {number}")
            for number, (one, thing) in enumerate(zip(declared.takes, placed, strict=True), 1)
        ]
        if allocator is None:
            return self._present(self._call(*arguments))
        held: list[tuple[int, int]] = []
        try:
            words: list[Any] = []
            for one, thing in zip(declared.takes, arguments, strict=True):
                if isinstance(one, Text):
                    words += allocator.put(thing, one, held)
                else:
                    words.append(thing)
            result = self._present(self._call(*words))
        except BaseException:
            allocator.release_after_failure(held)
            raise
        allocator.release(held)
        return result

    def _present(self, result: Any) -> Any:
        gives = self._declared.gives
        if not gives:
            return None
        if isinstance(gives[0], Text):
            return self._read(gives[0], result)
        if len(gives) == 1:
            return gives[0].present(result)
        return tuple([one.present(thing) for one, thing in zip(gives, result, strict=True) if isinstance(one, Value)])

    def _read(self, text: Text, result: Any) -> str | bytes | None:
        """A returned text; it is freed even if it cannot be read."""
        memory = self._core.memories[0]
        returned = address = (result[0] if isinstance(result, tuple) else result) & _MASK
        size = 0
        try:
            match text.form:
                case Form.PAIR:
                    size = result[1] & _MASK
                case Form.RECORD:
                    size = memory.read_int(address + 4)
                    address = memory.read_int(address)
            if not address and (text.form is Form.CSTR or not size):
                if text.is_nullable:
                    return None
                if text.form is Form.CSTR:
                    raise ValueError(f"{self.__name__}() returned NULL; declare its result `| None` to get None")
            data: bytes = memory.read_string(address) if text.form is Form.CSTR else memory.read(address, size)
            return data.decode() if text.is_str else data
        finally:
            if self._free is not None and returned:
                self._free(returned, size)


def accept(value: Value, thing: Any, where: str) -> Any:
    """An argument as the function without types takes it."""
    if value.type in (F32, F64):
        pack(value.type, thing, where, _NO_STORE)
    if value.number is None or value.type in (F32, F64):
        return thing
    if not hasattr(type(thing), "__index__"):
        raise TypeError(f"{where} must be int, not {'None' if thing is None else type(thing).__name__}")
    number, bits = as_index(thing), 32 if value.type == I32 else 64
    if value.number.kind is NumberKind.UNSIGNED:
        if not 0 <= number < 1 << bits:
            raise OverflowError(f"{where} must be in 0..{(1 << bits) - 1} ({value.number.name}), not {number}")
        return number - (number >> bits - 1 << bits)
    if value.number.kind is NumberKind.BOOLEAN:
        if number not in (0, 1):
            raise OverflowError(f"{where} must be True or False (_Bool), not {number}")
        return number
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        raise OverflowError(f"{where} must be in {low}..{high} ({value.number.name}), not {number}")
    return number


_NO_STORE: Any = None
assert FUNCREF not in (F32, F64)  # numbers need no store


def _text(thing: Any, text: Text, where: str) -> bytes | None:
    """The bytes of an argument."""
    if thing is None and text.is_nullable:
        return None
    if isinstance(thing, str) and text.is_str:
        data = thing.encode()
    elif isinstance(thing, bytes) or (not text.is_str and isinstance(thing, (bytearray, memoryview))):
        data = bytes(thing)
    else:
        raise TypeError(f"{where} must be {text.words}, not {'None' if thing is None else type(thing).__name__}")
    if text.form is Form.CSTR and b"\0" in data:
        raise ValueError(f"{where} must not contain a NUL: embedded null byte")
    return data


def _signed(word: int) -> int:
    return word - (word >> 31 << 32)


def _freeing(core: Any, number: int) -> Callable[[int, int], object]:
    """A function that frees, called with an address and a size, which it may not want."""
    free = core.callable(number)
    if len(core.signature(number).parameters) == 1:
        return lambda address, size: free(_signed(address))
    return lambda address, size: free(_signed(address), _signed(size))


class _Allocation:
    """The module's allocator at work for the arguments of a function."""

    __slots__ = ("_allocate", "_free", "_memory", "_name", "_realloc")

    def __init__(self, core: Any, allocator: Allocator, name: str) -> None:
        function = core.callable(allocator.allocate)
        self._allocate = None if allocator.is_realloc else function
        self._realloc = function if allocator.is_realloc else None
        self._free = _freeing(core, allocator.free) if allocator.free is not None else None
        self._memory = core.memories[0] if core.memories else None
        self._name = name

    def put(self, data: bytes | None, text: Text, held: list[tuple[int, int]]) -> list[int]:
        """Copy a text into the module's memory; the arguments that stand for it."""
        is_pair = text.form is Form.PAIR
        if data is None:
            return [0, 0] if is_pair else [0]
        content = data if is_pair else data + b"\0"
        size = max(1, len(content))
        if self._allocate is not None:
            address = self._allocate(_signed(size)) & _MASK
        else:
            assert self._realloc is not None
            address = self._realloc(0, 0, 1, _signed(size)) & _MASK
        if not address:
            raise MemoryError(f"{self._name}(): the module has no {size} bytes left for an argument")
        held.append((address, size))
        assert self._memory is not None
        self._memory.write(address, content)
        return [_signed(address), len(data)] if is_pair else [_signed(address)]

    def release(self, held: list[tuple[int, int]]) -> None:
        """Free what was allocated, unless it belongs to the function that got it."""
        if self._free is not None:
            while held:
                self._free(*held.pop())

    def release_after_failure(self, held: list[tuple[int, int]]) -> None:
        """The same for a call that has failed, whose error counts; where no fuel is left, nothing can be freed."""
        while held:
            try:
                self.release(held)
            except Exception:
                continue
