"""A running instance in compiled mode."""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from callgate.bind import bind
from callgate.c.types import INT64, VOID, FunctionType, Parameter, Passing, Result, Returning
from callgate.runtime.code_memory import Block
from callgate.runtime.gate import Options as GateOptions
from callgate.wasm.compile.layout import (
    COUNTER,
    DEPTH,
    ENTRIES,
    FILL,
    LAZY,
    LIMIT_COUNT,
    LIMITS,
    MEMORY_BASE,
    MEMORY_BYTES,
    MOVE,
    POLL,
    RECORD_BYTES,
    RECORD_CODE,
    RECORD_COMPILED,
    RECORD_HOME,
    STACK_BYTES,
    STACK_LOW,
    THREAD,
    TRAP,
    layout_of,
    memory_words,
)
from callgate.wasm.compile.stubs import has_direct_stub, lower_import_jump, lower_thunk
from callgate.wasm.errors import ClosedError, OutOfFuel, TimedOut
from callgate.wasm.limits import BULK_STEP_BYTES, slices
from callgate.wasm.memory import Memory
from callgate.wasm.native.calls import Converter, Holder, call_raw, declare
from callgate.wasm.native.hosts import host_words
from callgate.wasm.native.images import Image, faults
from callgate.wasm.native.instructions import hidden_functions, initialize
from callgate.wasm.native.stubs import CORES, stubs
from callgate.wasm.native.tables import Elements, type_id
from callgate.wasm.native.threads import ADOPTED, CLOSED, stack_low
from callgate.wasm.native.words import Words, forget, word_at
from callgate.wasm.store import Function, Global, Store, Table, register_core
from callgate.wasm.types import REFERENCES, FuncType, TableType


class Core:
    """A running instance: its vmctx, and what must live as long as code may run in it."""

    def __init__(
        self,
        image: Image,
        functions: Sequence[Any],
        tables: Sequence[Table],
        memories: Sequence[Memory],
        globals_: Sequence[Global],
        limits: Any,
        facade: Callable[[Core], Any],
    ) -> None:
        module = image.module
        if image.compiled.is_guarded:
            faults().be_first()
        self.image = image
        self.module = module
        self.layout = layout_of(module)
        self.limits = limits
        self._facade = facade
        self.fuel: int | None = limits.fuel
        self._call = -1
        self._deadline = 0.0
        self.store = Store()
        self.vmctx_words = (Words * (self.layout.size_bytes // 8 + 2))()
        self.vmctx = ctypes.addressof(self.vmctx_words)
        CORES[self.vmctx] = self
        register_core(self.vmctx, self)
        self.kept: list[Any] = []
        self._functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()
        self.dropped_elements: set[int] = set()
        self.dropped_data: set[int] = set()
        words = self.vmctx_words
        labels = stubs().labels
        for place, label in ((POLL, "poll"), (TRAP, "trap"), (MOVE, "move"), (FILL, "fill"), (LAZY, "lazy")):
            words[place // 8] = labels[label]
        words[STACK_BYTES // 8] = limits.stack_bytes if limits.stack_bytes is not None else 1 << 46
        self._refill()
        self._place_memories(memories)
        self._place_functions(functions)
        self._place_globals(globals_)
        self._place_tables(tables)

    def _place_tables(self, tables: Sequence[Table]) -> None:
        self.tables = list(tables)
        imported = sum(isinstance(one.type, TableType) for one in self.module.imports)
        for number, table in enumerate(tables):
            if number < imported:
                self.share_with(table.store)
            else:
                table.store = self.store
            if table.native is None:
                table.native = Elements(table)
            place = self.vmctx + self.layout.table_at(number)
            table.native.places.append(place)
            table.native.tell(place)
            weakref.finalize(self, forget, table.native.places, place)

    def share_with(self, store: Store) -> None:
        """References may go to and from what has this store."""
        self.store.join(store)
        self.store.hold(self)

    def share(self) -> None:
        """A table or a global that may hold references to its functions goes out."""
        self.store.hold(self)

    def _place_memories(self, memories: Sequence[Memory]) -> None:
        self.memories = list(memories)
        if memories:
            memory = memories[0]
            words = self.vmctx_words

            def tell(size_bytes: int) -> None:
                words[MEMORY_BYTES // 8] = size_bytes
                words[LIMITS // 8 : LIMITS // 8 + LIMIT_COUNT] = memory_words(size_bytes)  # type: ignore[assignment]

            memory._watchers.append(tell)
            weakref.finalize(self, forget, memory._watchers, tell)
            tell(memory.size_bytes)
            self.vmctx_words[MEMORY_BASE // 8] = memory.address

    def _place_functions(self, functions: Sequence[Any]) -> None:
        module, layout, words = self.module, self.layout, self.vmctx_words
        self._imports = functions
        for number, signature in enumerate(module.types):
            ctypes.c_uint32.from_address(self.vmctx + layout.type_at(number)).value = type_id(signature)
        for number, function in enumerate(functions):
            signature = module.types[module.functions[number]]
            code, vmctx = host_words(self, function, signature)
            place = layout.import_at(number) // 8
            words[place], words[place + 1] = code, vmctx
            record = layout.record_at(number) // 8
            words[record], words[record + 1], words[record + 2] = code, vmctx, type_id(signature)
            words[record + RECORD_HOME // 8] = self.vmctx
        imported = len(functions)
        for number, function in enumerate(hidden_functions(self)):
            code, vmctx = host_words(self, function, function.signature)
            place = layout.import_at(imported + number) // 8
            words[place], words[place + 1] = code, vmctx
        for number, start in enumerate(self.image.compiled.starts):
            record = layout.record_at(imported + number) // 8
            signature = module.types[module.functions[imported + number]]
            words[record] = self.image.address + start
            words[record + 1] = self.vmctx
            words[record + 2] = type_id(signature)
            words[record + RECORD_HOME // 8] = self.vmctx

    def function_at_record(self, record: int) -> Function:
        """The function of one of its records."""
        return self.function((record - self.vmctx - self.layout.records) // RECORD_BYTES)

    def compile_function(self, record: int) -> int:
        """Have a function compiled, now that it is called for the first time; its code from now on."""
        number = (record - self.vmctx - self.layout.records) // RECORD_BYTES
        address = self.image.compile_function(number)
        word_at(record + RECORD_CODE).value = word_at(record + RECORD_COMPILED).value = address
        return address

    def facade(self) -> Any:
        """The Instance that stands for it."""
        return self._facade(self)

    def _place_globals(self, globals_: Sequence[Global]) -> None:
        module, layout = self.module, self.layout
        self.globals = list(globals_)
        imported = module.imported_globals
        for number, variable in enumerate(globals_):
            place = layout.global_at(number)
            variable.take_words()
            if number < imported and variable.type.value in REFERENCES:
                self.share_with(variable.store)
            if number >= imported:
                variable.store = self.store
                own = (Words * 2).from_buffer(self.vmctx_words, place)
                own[0], own[1] = variable.cell[0], variable.cell[1]
                variable.cell = own
            elif module.globals[number].is_mutable:
                self.vmctx_words[place // 8] = ctypes.addressof(variable.cell)
            else:
                self.vmctx_words[place // 8], self.vmctx_words[place // 8 + 1] = variable.cell[0], variable.cell[1]

    # -- calls --------------------------------------------------------------------------------------------------------
    def record(self, number: int) -> int:
        """The address of a function's record."""
        return self.vmctx + self.layout.record_at(number)

    def function(self, number: int) -> Function:
        """A function as a reference; the same as long as somebody has it."""
        if number < self.module.imported_functions and isinstance(self._imports[number], Function):
            return self._imports[number]  # type: ignore[no-any-return]
        found = self._functions.get(number)
        if found is None:
            signature = self.module.types[self.module.functions[number]]
            found = Function(signature, None, self.module.function_name(number), self, self.record(number), number)
            self._functions[number] = found
        return found

    def signature(self, number: int) -> FuncType:
        """The type of a function."""
        return self.module.types[self.module.functions[number]]

    def callable(self, number: int) -> Callable[..., Any]:
        """What Python calls for a function: a gate where C has its type, else a function that converts."""
        signature = self.module.types[self.module.functions[number]]
        name = self.module.function_name(number)
        if has_direct_stub(signature):
            return self.gate(number, declare(name, signature))
        return Converter(self, number, signature, name)

    def gate(self, number: int, declared: FunctionType) -> Callable[..., Any]:
        """A gate for a function, declared with C types of the same sizes and kinds."""
        signature = self.module.types[self.module.functions[number]]
        holder = Holder(self, number, self._thunk(number, "entry", signature))
        return bind(declared, holder.block.address, holder, GateOptions(engine="native"))

    def _thunk(self, number: int, kind: str, signature: FuncType) -> Block:
        address = word_at(self.record(number)).value
        if number < self.module.imported_functions:
            address = self._import_jump(number)
        code = lower_thunk(address, self.vmctx)
        return stubs().publish(code, wasm_entry=stubs().stub(kind, signature))

    def _import_jump(self, number: int) -> int:
        """Code of this instance that goes on to an imported function."""
        block = stubs().publish(lower_import_jump(self.layout.import_at(number)))
        self.kept.append(block)
        return block.address

    def raw(self, number: int) -> Callable[[Any], None]:
        """A gate that takes the address of the area."""
        signature = self.module.types[self.module.functions[number]]
        holder = Holder(self, number, self._thunk(number, "area_entry", signature))
        declared = FunctionType(
            self.module.function_name(number),
            (Parameter("area", INT64, Passing.VALUE),),
            Result(VOID, Returning.NOTHING),
        )
        return bind(declared, holder.block.address, holder, GateOptions(engine="native"))

    def call_raw(self, number: int, words: Sequence[int]) -> list[int]:
        """Call a function with its arguments' bits, two words for a v128; the results' bits."""
        return call_raw(self, number, words)

    # -- limits -------------------------------------------------------------------------------------------------------
    def _refill(self) -> int:
        """How many polls are granted until the next look."""
        interval = self.image.poll_interval
        granted = interval if self.fuel is None else max(0, min(interval, self.fuel - 1))
        self._granted = granted + 1
        ctypes.c_int32.from_address(self.vmctx + COUNTER).value = granted
        return granted

    def poll(self) -> int:
        """Polls are used up: look at the limits.  That Python runs has let signals and threads have their turn."""
        if self.fuel is not None:
            counter = ctypes.c_int32.from_address(self.vmctx + COUNTER)
            self.fuel -= self._granted - (counter.value + 1)
            if self.fuel <= 0:
                self.fuel = self._granted = counter.value = 0
                raise OutOfFuel
        granted = self._refill()
        self.look_at_time()
        return granted

    def look_at_time(self) -> None:
        """TimedOut where the call has taken its time."""
        if self.limits.timeout_s is not None:
            call = self.vmctx_words[ENTRIES // 8]
            now = time.monotonic()
            if call != self._call:
                self._call = call
                self._deadline = now + self.limits.timeout_s
            elif now > self._deadline:
                self._call = -1
                raise TimedOut

    def charge(self, size_bytes: int) -> None:
        """An instruction is going to fill or copy so much."""
        counter = ctypes.c_int32.from_address(self.vmctx + COUNTER)
        counter.value -= size_bytes // BULK_STEP_BYTES
        if counter.value < 0:
            self.poll()

    def slices(self, count: int, unit_bytes: int = 1) -> Iterator[tuple[int, int]]:
        """As `limits.slices`, with a look at the time after each; that Python runs lets signals have their turn."""
        for part in slices(count, unit_bytes):
            yield part
            self.look_at_time()

    def fill(self, to: int, byte: int, count: int) -> None:
        """memory.fill where polls are used up: addresses are the process's, bounds are checked, fuel is taken."""
        self.poll()
        for first, last in self.slices(count):
            ctypes.memset(to + first, byte, last - first)

    def move(self, to: int, source: int, count: int) -> None:
        """memory.copy, as `fill`; from the end where it moves up, as what is copied may overlap."""
        self.poll()
        for first, last in self.slices(count):
            at = count - last if to > source else first
            ctypes.memmove(to + at, source + at, last - first)

    def fuel_left(self) -> int | None:
        """What is left of Limits.fuel."""
        if not self.fuel:
            return self.fuel
        counter = ctypes.c_int32.from_address(self.vmctx + COUNTER).value
        return max(0, self.fuel - (self._granted - (counter + 1)))

    def set_fuel(self, fuel: int | None) -> None:
        """Go on with so much."""
        self.fuel = fuel
        self._refill()

    def adopt(self, thread: int) -> int:
        """A call from another thread than the last: allowed while no other is inside."""
        words = self.vmctx_words
        if words[THREAD // 8] == CLOSED:
            raise ClosedError("the instance is closed")
        if words[DEPTH // 8]:
            raise RuntimeError(
                "the instance is in use by another thread; call it from one thread at a time, or instantiate the "
                "module once for each"
            )
        if self.image.compiled.is_guarded:
            faults().be_first()
        words[STACK_LOW // 8] = stack_low()
        words[THREAD // 8] = thread
        ADOPTED.of_thread().cores.add(weakref.ref(self))
        return 1

    @property
    def is_running(self) -> bool:
        """Whether a call is inside."""
        return bool(self.vmctx_words[DEPTH // 8])

    @property
    def is_closed(self) -> bool:
        """Whether calls are refused."""
        return bool(self.vmctx_words[THREAD // 8] == CLOSED)

    def close(self) -> None:
        """Refuse calls from now on."""
        if self.is_running:
            raise RuntimeError("the instance is running; close it when its calls have returned")
        self.vmctx_words[THREAD // 8] = CLOSED

    def initialize(self) -> None:
        """Set the globals, then write the active segments (4.5.4), then run the start function."""
        initialize(self)
