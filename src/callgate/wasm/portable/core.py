"""Portable instances: the functions of a module in a namespace of their own, and what their text names there."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, Final

from callgate.c.types import FunctionType as Declared
from callgate.wasm.errors import ClosedError, Frame, OutOfFuel, TimedOut
from callgate.wasm.limits import BULK_STEP_BYTES, Limits, slices
from callgate.wasm.memory import Memory
from callgate.wasm.portable.calls import FRAME_BYTES, MOST_COUNTED_ARGUMENTS, alive, bounded, late, timed, trampoline
from callgate.wasm.portable.convert import Record, adapted, from_words, host_function, key_of, to_words
from callgate.wasm.portable.entry import enter, entry_of, typed_entry
from callgate.wasm.portable.instructions import FUNCTIONS, NAMES, Instructions, bad_call
from callgate.wasm.portable.module import PortableModule
from callgate.wasm.portable.traps import explain
from callgate.wasm.store import Function, Global, Store, Table
from callgate.wasm.types import REFERENCES, FuncType, TableType

_LETTERS: Final[Any] = "hHiIQd"
"""The formats of the items that memory is accessed by."""


class PortableCore(Instructions):
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
        self.store = Store()
        self.tables = list(tables)
        self.memories = list(memories)
        self.globals = list(globals_)
        self.fuel = limits.fuel
        self.depth = 0
        self._deadline = 0.0
        self.is_timed = limits.timeout_s is not None
        self._is_metered = limits.fuel is not None or self.is_timed
        self._room = [limits.stack_bytes or 0]
        self._calls = [sys.getrecursionlimit()]
        self._lock = threading.RLock()
        self.acquire: Callable[[bool], bool] = self._lock.acquire
        self.release = self._lock.release
        self._functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()
        self._records: dict[int, Record] = {}
        self.dropped_elements: set[int] = set()
        self.dropped_data: set[int] = set()
        self._counter = [0]
        self._granted = 0
        self._refill()
        self._share()
        self.namespace: dict[str, Any] = {
            **NAMES,
            **{f"K{number}": key_of(signature) for number, signature in enumerate(module.types)},
            **{f"T{number}": table.take() for number, table in enumerate(tables)},
            **{f"g{number}": variable.take_raw() for number, variable in enumerate(globals_)},
            **{"c": self._counter, "bad_call": bad_call},
        }
        # functions have the namespace and it has them: it is emptied when the instance goes, which nothing in it holds
        namespace = self.namespace
        namespace["core"] = weakref.ref(self, lambda _: namespace.clear())
        self._place_cells()
        self._place_memory()
        for name in ("poll", "record", *FUNCTIONS):
            self.namespace[name] = _weakly(namespace["core"], getattr(PortableCore, name))
        self._imports = functions
        for number, function in enumerate(functions):
            self.namespace[f"f{number}"] = self._import(number, function)
        for number in range(module.imported_functions, len(module.functions)):
            self.namespace[f"f{number}"] = self._stub(number)

    def _share(self) -> None:
        """Have one store with what references may come from, before any do."""
        imported = sum(isinstance(one.type, TableType) for one in self.module.imports)
        for number, table in enumerate(self.tables):
            if number < imported:
                self._share_with(table.store)
            else:
                table.store = self.store
        for number, variable in enumerate(self.globals):
            if number >= self.module.imported_globals:
                variable.store = self.store
            elif variable.type.value in REFERENCES:
                self._share_with(variable.store)

    def _share_with(self, store: Store) -> None:
        """References may go to and from what has this store."""
        self.store.join(store)
        self.store.hold(self)

    def share(self) -> None:
        """A table or a global that may hold references to its functions goes out."""
        self.store.hold(self)

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
            return alive(core).translate(number)(*arguments)

        return stub

    def translate(self, number: int) -> Callable[..., Any]:
        """Translate a function and put it in its place."""
        translated = self.code.function(number, is_metered=self._is_metered)
        self.namespace.update(translated.constants)
        plain = FunctionType(translated.code, self.namespace, self.module.function_name(number))
        function: Callable[..., Any] = trampoline(plain) if translated.has_tail_calls else plain
        frame = Frame(number, self.module.function_name(number), translated.offsets[0])
        if len(self.signature(number).parameters) > MOST_COUNTED_ARGUMENTS:
            function = bounded(function, 1, self._calls, frame)
        if self.limits.stack_bytes is not None:
            function = bounded(function, FRAME_BYTES + 8 * translated.words, self._room, frame)
        self.namespace[f"f{number}"] = function
        if number in self._records:
            self._records[number].raw = function
        return function

    def _import(self, number: int, function: Any) -> Callable[..., Any]:
        """What an imported function is to translated code."""
        if not isinstance(function, Function):
            return host_function(function, self.namespace["core"], self.store)
        signature, owner = function.type, function.owner
        is_sharing = not {*signature.parameters, *signature.results}.isdisjoint(REFERENCES)
        if function.record:  # of compiled mode
            return adapted(function, signature, function.name, (), self.store)
        if is_sharing:
            owner.share()
            self._share_with(owner.store)
        key = f"f{function.number}"
        if owner.is_timed:
            return timed(owner, key)
        raw: Callable[..., Any] = owner.namespace[key]
        return raw if getattr(raw, "__name__", "") != "stub" else late(owner.namespace, key)

    def record(self, number: int) -> Record:
        """A function as a funcref of translated code."""
        found = self._records.get(number)
        if found is None:
            found = Record(self.namespace[f"f{number}"], self.signature(number), self, number)
            self._records[number] = found
        return found

    def function(self, number: int) -> Function:
        """A function as a reference; the same as long as somebody has it."""
        if number < self.module.imported_functions and isinstance(self._imports[number], Function):
            return self._imports[number]  # type: ignore[no-any-return]
        found = self._functions.get(number)
        if found is None:
            found = Function(self.signature(number), None, self.module.function_name(number), self, number=number)
            self._functions[number] = found
        return found

    def callable(self, number: int) -> Callable[..., Any]:
        """What Python calls for a function."""
        return entry_of(self, number, self.module.function_name(number), self.signature(number))

    def gate(self, number: int, declared: Declared) -> Callable[..., Any]:
        """A function as a Protocol declares it, with C types of the same sizes and kinds."""
        return typed_entry(self, number, declared)

    def call_raw(self, number: int, words: Sequence[int]) -> list[int]:
        """Call a function with its arguments' bits, two words for a v128; the results' bits."""
        signature = self.signature(number)
        return to_words(signature.results, enter(self, number, from_words(signature.parameters, words)))

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
        interval = self.code.poll_interval
        self._granted = interval if self.fuel is None else min(interval, self.fuel)
        self._counter[0] = self._granted

    def poll(self) -> None:
        """Polls are used up: look at the limits."""
        if self.fuel is not None:
            self.fuel -= self._granted - self._counter[0]
            if self.fuel <= 0:
                self.fuel = self._granted = self._counter[0] = 0
                raise OutOfFuel
        self._refill()
        self._look_at_time()

    def _look_at_time(self) -> None:
        if self.limits.timeout_s is not None and time.monotonic() > self._deadline:
            raise TimedOut

    def _charge(self, size_bytes: int) -> None:
        """An instruction is going to fill or copy so much."""
        self._counter[0] -= size_bytes // BULK_STEP_BYTES
        if self._counter[0] <= 0:
            self.poll()

    def _slices(self, count: int, unit_bytes: int = 1) -> Iterator[tuple[int, int]]:
        """As `limits.slices`, with a look at the time after each."""
        for part in slices(count, unit_bytes):
            yield part
            self._look_at_time()

    def set_fuel(self, fuel: int | None) -> None:
        """Go on with so much."""
        self.fuel = fuel
        self._refill()

    def fuel_left(self) -> int | None:
        """What is left of Limits.fuel."""
        return None if self.fuel is None else max(0, self.fuel - self._granted + self._counter[0])

    def initialize(self) -> None:
        """Set the globals, then write the active segments (4.5.4), then run the start function."""
        module = self.module
        for number, expression in enumerate(module.initializers, module.imported_globals):
            self.namespace[f"g{number}"][0] = self.evaluate(expression)
        for number, element in enumerate(module.elements):
            if element.table is not None and element.position is not None:
                where = self.evaluate(element.position), 0, len(element.items), number, element.table
                self._check_elements(*where)
                self._write_elements(*where)
            if element.table is not None or element.is_declarative:
                self.dropped_elements.add(number)
        for number, segment in enumerate(module.segments):
            if segment.memory is not None and segment.position is not None:
                place = self.evaluate(segment.position), 0, segment.end - segment.start, number
                self._check_data(*place)
                self._write_data(*place)
                self.dropped_data.add(number)
        if module.start is not None:
            self.callable(module.start)()


def _closed(blocking: bool) -> bool:
    return False


def _weakly(core: weakref.ref[PortableCore], method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an instance, as what the instance has holds it."""

    def bound(*arguments: Any) -> Any:
        return method(alive(core), *arguments)

    return bound


def _forget(watchers: list[Any], watcher: Any) -> None:
    if watcher in watchers:
        watchers.remove(watcher)
