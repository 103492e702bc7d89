"""Portable instances: the functions of a module in a namespace of their own, and what their text names there."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType, TracebackType
from typing import Any, Final

from callgate.c.types import FunctionType as Declared
from callgate.c.types import Result, Returning
from callgate.wasm.annotations import Value
from callgate.wasm.binary import Expression
from callgate.wasm.errors import (
    ClosedError,
    DivisionByZero,
    Frame,
    IndirectCallMismatch,
    OutOfBounds,
    OutOfFuel,
    StackExhausted,
    TableOutOfBounds,
    TimedOut,
    Trap,
    UndefinedElement,
    UninitializedElement,
    add_frames,
)
from callgate.wasm.host import HostFunction
from callgate.wasm.limits import Limits
from callgate.wasm.memory import Memory
from callgate.wasm.portable import numbers, vectors
from callgate.wasm.portable.convert import ENTRY_FILE, entry_of, from_words, to_python, to_raw, to_words
from callgate.wasm.portable.module import FILES, PortableModule
from callgate.wasm.store import Function, Global, Table
from callgate.wasm.types import FUNCREF, FuncType

POLL_INTERVAL: Final = 1 << 10
"""Loop iterations and calls between two looks at the limits."""
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LETTERS: Final[Any] = "hHiIQd"
"""The formats of the items that memory is accessed by."""
_KEYS: dict[FuncType, FuncType] = {}


def key_of(signature: FuncType) -> FuncType:
    """The one record that stands for a function type: types are compared by identity."""
    return _KEYS.setdefault(signature, signature)


class Tail:
    """A tail call that whoever called has to make."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments


def _trampoline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes the tail calls which another one asks for."""

    def call(*arguments: Any) -> Any:
        result = function(*arguments)
        while type(result) is Tail:
            called = result.function
            result = getattr(called, "tail", called)(*result.arguments)
        return result

    call.tail = function  # type: ignore[attr-defined]
    return call


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


class PortableCore:
    """A running instance in portable mode; the interface of `native.Core`."""

    def __init__(
        self,
        code: PortableModule,
        functions: Sequence[Any],
        tables: Sequence[Table],
        memories: Sequence[Memory],
        globals_: Sequence[Global],
        limits: Limits,
        facade: Callable[[PortableCore], Any],
    ) -> None:
        self.code = code
        self.module = module = code.module
        self.limits = limits
        self._facade = facade
        self.explain = explain
        self.tables = list(tables)
        self.memories = list(memories)
        self.globals = list(globals_)
        self.fuel = limits.fuel
        self.depth = 0
        self._deadline = 0.0
        self._is_metered = limits.fuel is not None or limits.timeout_s is not None
        self._lock = threading.RLock()
        self.acquire: Callable[[bool], bool] = self._lock.acquire
        self._functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()
        self.dropped_elements: set[int] = set()
        self.dropped_data: set[int] = set()
        self._counter = [0]
        self._granted = 0
        self._refill()
        self.namespace: dict[str, Any] = {
            **NAMES,
            **{f"K{number}": key_of(signature) for number, signature in enumerate(module.types)},
            **{f"T{number}": table.elements for number, table in enumerate(tables)},
            **{f"g{number}": variable.make_raw() for number, variable in enumerate(globals_)},
            **{"c": self._counter, "poll": self._poll, "bad_call": self._bad_call, "reference": self.function},
        }
        self._place_cells()
        self._place_memory()
        for name in _BOUND:
            self.namespace[name] = getattr(self, name)
        for number, function in enumerate(functions):
            self.namespace[f"f{number}"] = self._import(number, function)
        for number in range(module.imported_functions, len(module.functions)):
            self.namespace[f"f{number}"] = self._stub(number)

    def _place_cells(self) -> None:
        """Cells through which a float is rounded to f32, and f64 and i64 change into one another."""
        cell = bytearray(8)
        self.namespace.update(F=memoryview(bytearray(4)).cast("f"), D=memoryview(cell).cast("d"))
        self.namespace["Q"] = memoryview(cell).cast("Q")

    def _place_memory(self) -> None:
        if not self.memories:
            return
        memory, core = self.memories[0], weakref.ref(self)

        def tell(size_bytes: int) -> None:
            instance = core()
            if instance is not None:
                now = memory.data[:size_bytes]
                views = {f"m{letter}": now.cast(letter) for letter in _LETTERS}
                instance.namespace.update(views, m=now, n=now.cast("b"))

        memory._watchers.append(tell)
        weakref.finalize(self, _forget, memory._watchers, tell)
        tell(memory.size_bytes)

    # -- functions ----------------------------------------------------------------------------------------------------
    def signature(self, number: int) -> FuncType:
        """The type of a function."""
        return self.module.types[self.module.functions[number]]

    def _stub(self, number: int) -> Callable[..., Any]:
        """In place of a function that has not been called yet."""
        core = weakref.ref(self)

        def stub(*arguments: Any) -> Any:
            return core().translate(number)(*arguments)  # type: ignore[union-attr]

        return stub

    def translate(self, number: int) -> Callable[..., Any]:
        """Translate a function and put it in its place."""
        translated = self.code.function(number, is_metered=self._is_metered)
        self.namespace.update(translated.constants)
        plain = FunctionType(translated.code, self.namespace, self.module.function_name(number))
        function = _trampoline(plain) if translated.has_tail_calls else plain
        self.namespace[f"f{number}"] = function
        known = self._functions.get(number)
        if known is not None:
            known.raw = function
        return function

    def _import(self, number: int, function: Any) -> Callable[..., Any]:
        """What an imported function is to translated code."""
        if isinstance(function, Function):
            self._functions[number] = function
            adapt(function)
            raw: Callable[..., Any] = function.raw
            return raw if not _is_stub(raw) else _late(function)
        return _host(function, weakref.ref(self))

    def function(self, number: int) -> Function:
        """A function as a reference; the same as long as somebody has it."""
        found = self._functions.get(number)
        if found is None:
            signature = self.signature(number)
            found = Function(signature, None, self.module.function_name(number), self, number=number)
            found.key = key_of(signature)
            found.raw = self.namespace[f"f{number}"]
            self._functions[number] = found
        return found

    def callable(self, number: int) -> Callable[..., Any]:
        """What Python calls for a function."""
        return entry_of(self, number, self.module.function_name(number), self.signature(number))

    def gate(self, number: int, declared: Declared) -> Callable[..., Any]:
        """A function as a Protocol declares it, with C types of the same sizes and kinds."""
        from callgate.wasm.exports import TypedFunction
        from callgate.wasm.protocols import TypedCall

        signature = self.signature(number)
        takes = [
            Value(kind, one, Result(one.type, Returning.VALUE))
            for kind, one in zip(signature.parameters, declared.parameters, strict=True)
        ]
        gives = [Value(kind, None, declared.result) for kind in signature.results]
        names = tuple(
            [one.name if at >= declared.positional_only else None for at, one in enumerate(declared.parameters)]
        )
        call = TypedCall(declared.name, declared.doc, names, tuple(takes), tuple(gives), None)
        return TypedFunction(self, number, call, None)

    def share(self) -> None:
        """References are objects here, which keep their instances."""

    def call_raw(self, number: int, words: Sequence[int]) -> list[int]:
        """Call a function with its arguments' bits, two words for a v128; the results' bits."""
        signature = self.signature(number)
        return to_words(signature.results, self.enter(number, from_words(signature.parameters, words)))

    def enter(self, number: int, arguments: Sequence[Any]) -> Any:
        """Call a function from outside, with and for values as translated code has them."""
        if not self.acquire(False):
            self.refuse()
        self.depth += 1
        try:
            if self._is_metered and self.depth == 1:
                self.begin()
            return self.namespace[f"f{number}"](*arguments)
        except Exception as error:
            problem = explain(error)
            if problem is error:
                raise
            raise problem.with_traceback(error.__traceback__) from None
        finally:
            self.depth -= 1
            self._lock.release()

    def facade(self) -> Any:
        """The Instance that stands for it."""
        return self._facade(self)

    def refuse(self) -> None:
        """Why a call cannot be made now."""
        if self.acquire is _closed:
            raise ClosedError("the instance is closed")
        raise RuntimeError(
            "the instance is in use by another thread; call it from one thread at a time, or instantiate the "
            "module once for each"
        )

    @property
    def is_closed(self) -> bool:
        """Whether it refuses calls."""
        return self.acquire is _closed

    @property
    def is_running(self) -> bool:
        """Whether a call is under way."""
        return self.depth > 0

    def close(self) -> None:
        """Refuse calls from now on."""
        if self.depth:
            raise RuntimeError("the instance is running; close it when its calls have returned")
        self.acquire = _closed

    # -- limits -------------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """A call from outside begins: its time runs."""
        if self.limits.timeout_s is not None:
            self._deadline = time.monotonic() + self.limits.timeout_s

    def _refill(self) -> None:
        self._granted = POLL_INTERVAL if self.fuel is None else min(POLL_INTERVAL, self.fuel)
        self._counter[0] = self._granted

    def _poll(self) -> None:
        """Polls are used up: look at the limits."""
        if self.fuel is not None:
            self.fuel -= self._granted
            if self.fuel <= 0:
                self.fuel = self._granted = self._counter[0] = 0
                raise OutOfFuel
        self._refill()
        if self.limits.timeout_s is not None and time.monotonic() > self._deadline:
            raise TimedOut

    def set_fuel(self, fuel: int | None) -> None:
        """Go on with so much."""
        self.fuel = fuel
        self._refill()

    def fuel_left(self) -> int | None:
        """What is left of Limits.fuel."""
        return None if self.fuel is None else max(0, self.fuel - self._granted + self._counter[0])

    # -- what instructions call ---------------------------------------------------------------------------------------
    def _bad_call(self, function: Any, index: int) -> None:
        """An indirect call of no function, of one of another type, or of one that is not adapted yet."""
        if function is None:
            raise UninitializedElement(f"{UninitializedElement.text} {int(index)}")
        if function.key is not None:
            raise IndirectCallMismatch
        adapt(function)

    def memory_grow(self, pages: int) -> int:
        """Grow memory 0."""
        return self.memories[0].grow(pages)

    def memory_copy(self, to: int, start: int, count: int) -> None:
        """Copy within memory 0."""
        memory = self.memories[0]
        if start + count > memory.size_bytes or to + count > memory.size_bytes:
            raise OutOfBounds
        memory.data[to : to + count] = memory.data[start : start + count]

    def memory_fill(self, to: int, value: int, count: int) -> None:
        """Fill a part of memory 0."""
        memory = self.memories[0]
        if to + count > memory.size_bytes:
            raise OutOfBounds
        memory.data[to : to + count] = bytes((value & 255,)) * count

    def memory_init(self, to: int, start: int, count: int, segment: int) -> None:
        """Copy from a data segment."""
        data = self.module.segments[segment]
        size = 0 if segment in self.dropped_data else data.end - data.start
        memory = self.memories[0]
        if start + count > size or to + count > memory.size_bytes:
            raise OutOfBounds
        memory.data[to : to + count] = self.module.data[data.start + start : data.start + start + count]

    def data_drop(self, segment: int) -> None:
        """Let go of a data segment."""
        self.dropped_data.add(segment)

    def table_grow(self, table: int, count: int, value: Any) -> int:
        """Append to a table."""
        return self.tables[table].grow(count, value)

    def table_fill(self, table: int, start: int, value: Any, count: int) -> None:
        """Fill a part of a table."""
        elements = self.tables[table].elements
        if start + count > len(elements):
            raise TableOutOfBounds
        elements[start : start + count] = [value] * count

    def table_copy(self, to: int, start: int, count: int, target: int, source: int) -> None:
        """Copy between tables."""
        into, out_of = self.tables[target].elements, self.tables[source].elements
        if start + count > len(out_of) or to + count > len(into):
            raise TableOutOfBounds
        into[to : to + count] = out_of[start : start + count]

    def table_init(self, to: int, start: int, count: int, segment: int, table: int) -> None:
        """Copy from an element segment."""
        element = self.module.elements[segment]
        items = () if segment in self.dropped_elements else element.items
        elements = self.tables[table].elements
        if start + count > len(items) or to + count > len(elements):
            raise TableOutOfBounds
        elements[to : to + count] = [self.evaluate(item) for item in items[start : start + count]]

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
                    stack.append(self.function(immediate))
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

    def initialize(self) -> None:
        """Set the globals, then write the active segments (4.5.4), then run the start function."""
        module = self.module
        for number, expression in enumerate(module.initializers, module.imported_globals):
            self.namespace[f"g{number}"][0] = self.evaluate(expression)
        for number, element in enumerate(module.elements):
            if element.table is not None and element.position is not None:
                self.table_init(self.evaluate(element.position), 0, len(element.items), number, element.table)
            if element.table is not None or element.is_declarative:
                self.dropped_elements.add(number)
        for number, segment in enumerate(module.segments):
            if segment.memory is not None and segment.position is not None:
                self.memory_init(self.evaluate(segment.position), 0, segment.end - segment.start, number)
                self.dropped_data.add(number)
        if module.start is not None:
            self.callable(module.start)()


_BOUND: Final = (
    *("memory_grow", "memory_copy", "memory_fill", "memory_init", "data_drop"),
    *("table_grow", "table_fill", "table_copy", "table_init", "elem_drop"),
)


def _closed(blocking: bool) -> bool:
    return False


def _forget(watchers: list[Any], watcher: Any) -> None:
    if watcher in watchers:
        watchers.remove(watcher)


def _is_stub(function: Any) -> bool:
    return getattr(function, "__name__", "") == "stub"


def _late(function: Function) -> Callable[..., Any]:
    """A function of another instance that has not been translated yet."""

    def late(*arguments: Any) -> Any:
        return function.raw(*arguments)

    return late


def adapt(function: Function) -> None:
    """Let translated code call a function of whatever engine."""
    if function.raw is None:
        function.raw = _foreign(function, function.type, function.name, ())
        function.key = key_of(function.type)


def _foreign(call: Callable[..., Any], signature: FuncType, name: str, values: Sequence[Value]) -> Callable[..., Any]:
    """A Python callable as a function of translated code; `values` tell how it wants its arguments."""
    parameters, results = signature
    shown: list[Value | None] = list(values) or [None] * len(parameters)
    where, count = f"the result of {name}()", len(results)

    def foreign(*arguments: Any) -> Any:
        given = [to_python(kind, one) for kind, one in zip(parameters, arguments, strict=True)]
        result = call(*[one if value is None else value.present(one) for one, value in zip(given, shown, strict=True)])
        if count == 1:
            return to_raw(results[0], result, where)
        if not count:
            return None
        if not isinstance(result, (tuple, list)):
            raise TypeError(f"{where} must be a tuple of {count} values, not {type(result).__name__}")
        if len(result) != count:
            raise ValueError(f"{where} must be a tuple of {count} values, not of {len(result)}")
        return tuple(
            [
                to_raw(kind, one, f"item {number} of {where}")
                for number, (kind, one) in enumerate(zip(results, result, strict=True))
            ]
        )

    return foreign


def _host(function: HostFunction[..., Any], core: weakref.ref[PortableCore]) -> Callable[..., Any]:
    call: Callable[..., Any] = function.function
    if function.takes_instance:
        plain = call

        def call(*arguments: Any) -> Any:
            return plain(core().facade(), *arguments)  # type: ignore[union-attr]

    return _foreign(call, function.signature, function.__name__, function.values)


# -- traps ------------------------------------------------------------------------------------------------------------


def explain(error: Exception) -> Exception:
    """The trap that an exception of translated code means; any other exception as it is."""
    frames, is_ours = _frames(error.__traceback__)
    if isinstance(error, Trap) or not is_ours or not frames:
        add_frames(error, frames)
        return error
    trap: type[Trap] | None = None
    if isinstance(error, RecursionError):
        trap = StackExhausted
    elif isinstance(error, ZeroDivisionError):
        trap = DivisionByZero
    elif isinstance(error, (IndexError, struct.error)):
        trap = _bounds(error)
    if trap is None:
        add_frames(error, frames)
        return error
    return trap(frames=frames)


def _bounds(error: Exception) -> type[Trap]:
    """Which bounds an index was out of: those of what the instruction accesses."""
    traceback = error.__traceback__
    opcode = 0
    while traceback is not None:
        translated = FILES.get(traceback.tb_frame.f_code.co_filename)
        if translated is not None:
            opcode = translated.module().module.data[translated.offsets[traceback.tb_lineno - 1]]
        traceback = traceback.tb_next
    if opcode in (0x11, 0x13):
        return UndefinedElement
    return TableOutOfBounds if opcode in (0x25, 0x26) else OutOfBounds


def _frames(traceback: TracebackType | None) -> tuple[tuple[Frame, ...], bool]:
    """The WebAssembly functions of a traceback, the innermost first, and whether the error is of their making."""
    frames: list[Frame] = []
    is_ours = False
    is_first = True
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = code.co_filename
        if code is PortableCore.enter.__code__ or file == ENTRY_FILE:
            if not is_first:
                return tuple(reversed(frames)), False  # what is within that call, that call has told
            is_first = False
        translated = FILES.get(file)
        if translated is not None:
            module = translated.module().module
            offset = translated.offsets[traceback.tb_lineno - 1]
            frames.append(Frame(translated.number, module.function_name(translated.number), offset))
        is_ours = translated is not None or file.startswith(_PACKAGE)
        traceback = traceback.tb_next
    return tuple(reversed(frames[-10_000:])), is_ours


__all__ = ["FUNCREF", "NAMES", "PortableCore", "PortableModule", "adapt", "explain", "key_of"]
