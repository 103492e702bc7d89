"""Compiled mode in the live process: code mapped, stubs published, instances laid out in memory.

`compile.layout` says what compiled code finds where.  What it asks of Python (a trap, a poll, a new thread,
memory.grow) comes by callbacks, which raise as any callback does; the gate that entered raises.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import count as counting
from typing import Any, Final

from callgate.asm.code import Code
from callgate.bind import bind
from callgate.c.types import INT64, VOID, CallbackType, FunctionType, Parameter, Passing, Result, Returning
from callgate.errors import EngineError
from callgate.runtime.addresses import c_address
from callgate.runtime.callbacks import Callback
from callgate.runtime.code_memory import MEMORY, Block
from callgate.runtime.engine import native_engine
from callgate.runtime.gate import Options as GateOptions
from callgate.runtime.locks import ProcessLock
from callgate.runtime.reference import count_message
from callgate.target import HOST, Target
from callgate.wasm.binary import Expression, ModuleData
from callgate.wasm.compile.layout import (
    COUNTER,
    DEPTH,
    ENTRIES,
    FILL,
    HIDDEN,
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
    area_of,
    layout_of,
    memory_words,
)
from callgate.wasm.compile.module import CompiledModule
from callgate.wasm.compile.stubs import (
    HOST_BYTES,
    HOST_KEY,
    HOST_RESULT,
    area_bytes,
    c_type,
    has_direct_stub,
    lower_area_entry,
    lower_area_host,
    lower_common,
    lower_entry,
    lower_host,
    lower_import_jump,
    lower_thunk,
)
from callgate.wasm.errors import (
    TRAPS,
    ClosedError,
    Frame,
    OutOfBounds,
    OutOfFuel,
    TableOutOfBounds,
    TimedOut,
    UninitializedElement,
    add_frames,
)
from callgate.wasm.faults import Faults
from callgate.wasm.host import HostFunction
from callgate.wasm.memory import Memory
from callgate.wasm.store import (
    Function,
    Global,
    Store,
    Table,
    encode_reference,
    pack,
    register_core,
    unpack,
)
from callgate.wasm.types import F32, I32, I64, REFERENCES, V128, FuncType, TableType

POLL_INTERVAL: Final = 1 << 17
"""Loop iterations and calls between two looks at signals, limits and other threads."""
_STACK_MARGIN_BYTES: Final = 256 << 10
"""What is left of a thread's stack for Python functions that Wasm code calls."""
_CLOSED: Final = 1
"""In place of a thread pointer: no thread has it, so every entry asks."""
_Words = ctypes.c_uint64


def word_at(address: int) -> Any:
    """A word of memory."""
    return _Words.from_address(address)


# -- stubs ------------------------------------------------------------------------------------------------------------


class Stubs:
    """The code between C and Wasm, one for each function type; the callbacks behind it."""

    def __init__(self) -> None:
        engine = native_engine()
        self._resolve_name = engine.address_of
        self._callbacks = {
            "wasm_trap": _callback("trap", 5, _trap, returns=False),
            "wasm_poll": _callback("poll", 1, _poll, returns=True),
            "wasm_raised": _callback("raised", 4, _raised, returns=False),
            "wasm_adopt": _callback("adopt", 2, _adopt, returns=True),
            "wasm_compile": _callback("compile", 2, _compile, returns=True),
        }
        self.host_callback = _callback("host", 2, _call_host, returns=False)
        code = lower_common()
        self._common = self.publish(code)
        self.labels = {label: self._common.address + offset for label, offset in code.labels.items()}
        self._entries: dict[tuple[str, FuncType], Block] = {}
        self._blocks: list[Block] = []

    def publish(self, code: Code, **symbols: int) -> Block:
        """Publish code; `symbols` are addresses besides those that are known here."""

        def resolve(symbol: str) -> int:
            if symbol in symbols:
                return symbols[symbol]
            if symbol in self._callbacks:
                return self._callbacks[symbol].address
            if symbol == "wasm_unwind":
                return self.labels["unwind"]
            if symbol in ("memmove", "memset"):
                return c_address(symbol)
            return self._resolve_name(symbol)

        return MEMORY.publish(code, resolve)

    def stub(self, kind: str, signature: FuncType) -> int:
        """The address of the entry, the area entry, the host or the area host stub for a type."""
        block = self._entries.get((kind, signature))
        if block is None:
            match kind:
                case "entry":
                    code = lower_entry(signature, _target())
                case "area_entry":
                    code = lower_area_entry(signature)
                case "host":
                    code = lower_host(signature, _target())
                case _:
                    code = lower_area_host(signature)
            block = self._entries.setdefault((kind, signature), self.publish(code))  # threads may race
        return block.address


def _target() -> Target:
    if HOST is None:
        raise EngineError("no calling convention is known for this machine")
    return HOST


_STUBS: list[Stubs] = []


def stubs() -> Stubs:
    """The process's stubs, made when first needed; where two threads make some, the first ones are used."""
    if not _STUBS:
        _STUBS.append(Stubs())
    return _STUBS[0]


def _callback(name: str, count: int, function: Callable[..., Any], *, returns: bool) -> Callback:
    """A callback that takes words."""
    result = Parameter("", INT64, Passing.VALUE) if returns else None
    declared = CallbackType(f"wasm_{name}", tuple(Result(INT64, Returning.VALUE) for _ in range(count)), result)
    return Callback(function, declared, "native")


# -- what code asks of Python -----------------------------------------------------------------------------------------

_CORES: weakref.WeakValueDictionary[int, Core] = weakref.WeakValueDictionary()
"""Instances by the address of their vmctx."""
_IMAGES: list[tuple[int, int, weakref.ref[Image]]] = []
"""Mapped code by address, sorted; the second is another one for each."""


def _trap(number: int, site: int, stack: int, activation: int, detail: int) -> None:
    trap = TRAPS[number]
    text = f"{trap.text} {detail & _MASK}" if trap is UninitializedElement else trap.text
    raise trap(text, backtrace(site, stack, activation))


def _core_at(vmctx: int) -> Core:
    core = _CORES.get(vmctx)
    if core is None:
        raise _taken_apart()
    return core


def _taken_apart() -> ClosedError:
    """For finalizers of a cycle with an instance in it, which the collector is taking apart."""
    return ClosedError("the instance is being taken apart by the garbage collector")


def _poll(vmctx: int) -> int:
    return _core_at(vmctx).poll()


def _adopt(vmctx: int, thread: int) -> int:
    return _core_at(vmctx).adopt(thread)


def _raised(problem: int, site: int, stack: int, activation: int) -> None:
    """An exception is about to leave WebAssembly code: tell it where it was."""
    add_frames(ctypes.cast(problem, ctypes.py_object).value, backtrace(site, stack, activation))


def _compile(vmctx: int, record: int) -> int:
    return _core_at(vmctx).compile_function(record)


def _image_of(address: int) -> Image | None:
    index = bisect_right(_IMAGES, (address + 1,)) - 1
    if index < 0:
        return None
    image = _IMAGES[index][2]()
    return image if image is not None and address <= image.address + len(image.compiled.code) else None


def backtrace(site: int, stack: int, activation: int) -> tuple[Frame, ...]:
    """The Wasm functions from a place that has called, outwards to the entry."""
    frames: list[Frame] = []
    while stack < activation and len(frames) < 10_000:
        image = _image_of(site)
        found = image.compiled.site_at(site - image.address) if image is not None else None
        if image is None or found is None:
            break
        offset, depth = found
        number = image.first + image.compiled.function_at(site - image.address - 1)
        frames.append(Frame(number, image.module.function_name(number), offset))
        site = word_at(stack + depth).value
        stack += depth + 8
    return tuple(frames)


_FAULTS: list[Faults] = []
_FAULTS_LOCK = ProcessLock()


def faults() -> Faults:
    """The process's handlers of SIGSEGV, installed with the first guarded code."""
    with _FAULTS_LOCK.here:
        if not _FAULTS:
            _FAULTS.append(Faults(stubs().publish))
        return _FAULTS[0]


class Image:
    """The code of a module in executable memory; instances share it.

    `compiled` has the functions from the one numbered `first` on.
    """

    def __init__(self, module: ModuleData, compiled: CompiledModule, owner: Any, address: int, first: int) -> None:
        self.module = module
        self.compiled = compiled
        self._owner = owner  # a block, or a mapped file
        self.address = address
        self.first = first
        if compiled.is_guarded:
            faults().cover(self, address, address + len(compiled.code))
        if compiled.code:
            entry = (address, next(_IDS), weakref.ref(self))
            insort(_IMAGES, entry)  # no Python code runs in it, so no other thread
            weakref.finalize(self, _IMAGES.remove, entry)

    def compile_function(self, number: int) -> int:
        """The address of the code of a function that is compiled when first called."""
        return self.address + self.compiled.starts[number - self.first]


def publish_image(module: ModuleData, compiled: CompiledModule) -> Image:
    """Bring a module's code into the gates' code memory."""
    block = publish_code(compiled.code)
    return Image(module, compiled, block, block.address, module.imported_functions)


def publish_code(code: bytes | memoryview) -> Block:
    """Publish code that refers to nothing."""
    return MEMORY.publish(Code(bytes(code), (), {}), lambda symbol: 0)


# -- types ------------------------------------------------------------------------------------------------------------

_TYPE_IDS: dict[FuncType, int] = {}
_IDS: Final = counting(1)


def type_id(signature: FuncType) -> int:
    """A number for a function type, the same in all modules of the process."""
    return _TYPE_IDS.get(signature) or _TYPE_IDS.setdefault(signature, next(_IDS))


# -- instances --------------------------------------------------------------------------------------------------------


class _Words64:
    """The elements of a table as compiled code reads them."""

    def __init__(self, table: Table) -> None:
        self.places: list[int] = []  # in vmctx
        elements = [encode_reference(table.type.element, one, table.store) for one in table.elements]
        table.elements = []
        self.count = len(elements)
        self.words: Any = (_Words * max(1, self.count))(*elements)
        self._former: list[Any] = []  # an instance that is being taken apart may still look there

    def tell(self, place: int) -> None:
        """Write where the elements are into an instance."""
        word_at(place).value = ctypes.addressof(self.words)
        word_at(place + 8).value = self.count

    def grow(self, more: int, word: int) -> None:
        """Append a word so many times."""
        before, count = self.count, self.count + more
        if count > len(self.words):
            self._former.append(self.words)
            words = (_Words * max(count, 2 * before))()
            ctypes.memmove(words, self.words, 8 * before)
            self.words = words
        if word:
            self.words[before:count] = [word] * more
        self.count = count
        for place in self.places:
            self.tell(place)


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
        self.vmctx_words = (_Words * (self.layout.size_bytes // 8 + 2))()
        self.vmctx = ctypes.addressof(self.vmctx_words)
        _CORES[self.vmctx] = self
        register_core(self.vmctx, self)
        self._kept: list[Any] = []
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
                self._share_with(table.store)
            else:
                table.store = self.store
            if table.native is None:
                table.native = _Words64(table)
            place = self.vmctx + self.layout.table_at(number)
            table.native.places.append(place)
            table.native.tell(place)
            weakref.finalize(self, _forget, table.native.places, place)

    def _share_with(self, store: Store) -> None:
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
            weakref.finalize(self, _forget, memory._watchers, tell)
            tell(memory.size_bytes)
            self.vmctx_words[MEMORY_BASE // 8] = memory.address

    def _place_functions(self, functions: Sequence[Any]) -> None:
        module, layout, words = self.module, self.layout, self.vmctx_words
        self._imports = functions
        for number, signature in enumerate(module.types):
            ctypes.c_uint32.from_address(self.vmctx + layout.type_at(number)).value = type_id(signature)
        for number, function in enumerate(functions):
            signature = module.types[module.functions[number]]
            code, vmctx = self._import(function, signature)
            place = layout.import_at(number) // 8
            words[place], words[place + 1] = code, vmctx
            record = layout.record_at(number) // 8
            words[record], words[record + 1], words[record + 2] = code, vmctx, type_id(signature)
            words[record + RECORD_HOME // 8] = self.vmctx
        imported = len(functions)
        for number, function in enumerate(self._hidden()):
            code, vmctx = self._import(function, function.signature)
            place = layout.import_at(imported + number) // 8
            words[place], words[place + 1] = code, vmctx
        for number, start in enumerate(self.image.compiled.starts):
            record = layout.record_at(imported + number) // 8
            signature = module.types[module.functions[imported + number]]
            words[record] = self.image.address + start
            words[record + 1] = self.vmctx
            words[record + 2] = type_id(signature)
            words[record + RECORD_HOME // 8] = self.vmctx

    def _import(self, function: Any, signature: FuncType) -> tuple[int, int]:
        """Code and vmctx to call an imported function with."""
        self._kept.append(function)
        if isinstance(function, Function):
            if not {*signature.parameters, *signature.results}.isdisjoint(REFERENCES):
                function.owner.share()
                self._share_with(function.owner.store)
            return word_at(function.record).value, word_at(function.record + 8).value
        record = (_Words * (HOST_BYTES // 8))()
        self._kept.append(record)
        address = ctypes.addressof(record)
        if function.address:
            record[2] = function.address
            return stubs().stub("host", signature), address
        if has_direct_stub(signature):
            callback = self._callback_of(function, signature)
            self._kept.append(callback)
            record[2] = callback.address
            return stubs().stub("host", signature), address
        record[2] = stubs().host_callback.address
        record[HOST_KEY // 8] = address
        host = _AreaHost(self._bound(function), function, signature, self.store)
        _HOSTS[address] = host
        self._kept.append(host)
        return stubs().stub("area_host", signature), address

    def _callback_of(self, function: HostFunction[..., Any], signature: FuncType) -> Callback:
        """What C calls for a host function; the same for all instances, if it doesn't want to know which."""
        if function.callback is not None:
            return function.callback  # type: ignore[no-any-return]
        declared = function.declared
        if declared is None:
            result = Parameter("", c_type(signature.results[0]), Passing.VALUE) if signature.results else None
            parameters = tuple([Result(c_type(value), Returning.VALUE) for value in signature.parameters])
            declared = CallbackType(function.name, parameters, result)
        callback = Callback(self._bound(function), declared, "native")
        if not function.takes_instance and function.module:
            function.callback = callback
        return callback

    def _bound(self, function: HostFunction[..., Any]) -> Callable[..., Any]:
        """A host function's Python function, with the calling instance where it wants that."""
        if not function.takes_instance:
            return function.function
        plain, reference = function.function, weakref.ref(self)

        def call(*arguments: Any) -> Any:
            core = reference()
            assert core is not None  # it calls
            return plain(core.facade(), *arguments)

        return call

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
            if number < imported and variable.type.value in REFERENCES:
                self._share_with(variable.store)
            if number >= imported:
                variable.store = self.store
                own = (_Words * 2).from_buffer(self.vmctx_words, place)
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
            return self.gate(number, _declared(name, signature))
        return _Converter(self, number, signature, name)

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
        self._kept.append(block)
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
        signature = self.module.types[self.module.functions[number]]
        area = area_of(signature)
        size = area_bytes(signature)
        buffer = (_Words * (size // 8 + 2))()
        given = iter(words)
        for value, offset in zip(signature.parameters, area.arguments, strict=True):
            buffer[offset // 8] = next(given)
            if value == V128:
                buffer[offset // 8 + 1] = next(given)
        self.raw(number)(ctypes.addressof(buffer))
        results = []
        for value, offset in zip(signature.results, (size, *area.results), strict=False):
            word = buffer[offset // 8]
            results.append(word & _MASK if value in (I32, F32) else word)
            if value == V128:
                results.append(buffer[offset // 8 + 1])
        return results

    # -- limits -------------------------------------------------------------------------------------------------------
    def _refill(self) -> int:
        """How many polls are granted until the next look."""
        granted = POLL_INTERVAL if self.fuel is None else max(0, min(POLL_INTERVAL, self.fuel - 1))
        self._granted = granted + 1
        ctypes.c_int32.from_address(self.vmctx + COUNTER).value = granted
        return granted

    def poll(self) -> int:
        """Polls are used up: look at the limits.  That Python runs has let signals and threads have their turn."""
        if self.fuel is not None:
            self.fuel -= self._granted
            if self.fuel <= 0:
                self.fuel = 0
                self._granted = 0
                ctypes.c_int32.from_address(self.vmctx + COUNTER).value = 0
                raise OutOfFuel
        if self.limits.timeout_s is not None:
            call = self.vmctx_words[ENTRIES // 8]
            now = time.monotonic()
            if call != self._call:
                self._call = call
                self._deadline = now + self.limits.timeout_s
            elif now > self._deadline:
                self._call = -1
                self._refill()
                raise TimedOut
        return self._refill()

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
        if words[THREAD // 8] == _CLOSED:
            raise ClosedError("the instance is closed")
        if words[DEPTH // 8]:
            raise RuntimeError(
                "the instance is in use by another thread; call it from one thread at a time, or instantiate the "
                "module once for each"
            )
        if self.image.compiled.is_guarded:
            faults().be_first()
        words[STACK_LOW // 8] = _stack_low()
        words[THREAD // 8] = thread
        _ADOPTED.of_thread().cores.add(weakref.ref(self))
        return 1

    @property
    def is_running(self) -> bool:
        """Whether a call is inside."""
        return bool(self.vmctx_words[DEPTH // 8])

    @property
    def is_closed(self) -> bool:
        """Whether calls are refused."""
        return bool(self.vmctx_words[THREAD // 8] == _CLOSED)

    def close(self) -> None:
        """Refuse calls from now on."""
        if self.is_running:
            raise RuntimeError("the instance is running; close it when its calls have returned")
        self.vmctx_words[THREAD // 8] = _CLOSED

    # -- instructions that are Python functions -----------------------------------------------------------------------
    def _hidden(self) -> list[HostFunction[Any, Any]]:
        """The functions behind the instructions of `layout.HIDDEN`, in that order; references come as words."""
        three = (I32, I32, I32)
        rows: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "memory.grow": ((I32,), (I32,)),
            "memory.init": ((*three, I32), ()),
            "data.drop": ((I32,), ()),
            "table.grow": ((I64, I32, I32), (I32,)),
            "table.fill": ((I32, I64, I32, I32), ()),
            "table.copy": ((*three, I32, I32), ()),
            "table.init": ((*three, I32, I32), ()),
            "elem.drop": ((I32,), ()),
        }
        core = weakref.ref(self)

        def bound(name: str) -> Callable[..., Any]:
            method = getattr(Core, name.replace(".", "_"))

            def call(*arguments: int) -> Any:
                return method(core(), *arguments)

            return call

        return [HostFunction(bound(name), FuncType(*rows[name]), name) for name in HIDDEN]

    def memory_grow(self, pages: int) -> int:
        """Grow memory 0."""
        return self.memories[0].grow(pages & _MASK)

    def memory_init(self, to: int, start: int, count: int, segment: int) -> None:
        """Copy from a data segment."""
        to, start, count = to & _MASK, start & _MASK, count & _MASK
        data = self.module.segments[segment]
        size = 0 if segment in self.dropped_data else data.end - data.start
        memory = self.memories[0]
        if start + count > size or to + count > memory.size_bytes:
            raise OutOfBounds
        memory.data[to : to + count] = self.module.data[data.start + start : data.start + start + count]

    def data_drop(self, segment: int) -> None:
        """Let go of a data segment."""
        self.dropped_data.add(segment)

    def table_grow(self, word: int, count: int, table: int) -> int:
        """Append to a table."""
        target = self.tables[table]
        before, count = len(target), count & _MASK
        if before + count > target.most:
            return -1
        target.native.grow(count, word & _MASK_64)
        return before

    def table_fill(self, start: int, word: int, count: int, table: int) -> None:
        """Fill a part of a table."""
        start, count = start & _MASK, count & _MASK
        words = self.tables[table].native
        if start + count > words.count:
            raise TableOutOfBounds
        words.words[start : start + count] = [word & _MASK_64] * count

    def table_copy(self, to: int, start: int, count: int, target: int, source: int) -> None:
        """Copy between tables."""
        to, start, count = to & _MASK, start & _MASK, count & _MASK
        into, out_of = self.tables[target].native, self.tables[source].native
        if start + count > out_of.count or to + count > into.count:
            raise TableOutOfBounds
        into.words[to : to + count] = out_of.words[start : start + count]

    def table_init(self, to: int, start: int, count: int, segment: int, table: int) -> None:
        """Copy from an element segment."""
        to, start, count = to & _MASK, start & _MASK, count & _MASK
        element = self.module.elements[segment]
        items = () if segment in self.dropped_elements else element.items
        words = self.tables[table].native
        if start + count > len(items) or to + count > words.count:
            raise TableOutOfBounds
        for position, item in enumerate(items[start : start + count], to):
            words.words[position] = self.evaluate(item)[0]

    def elem_drop(self, segment: int) -> None:
        """Let go of an element segment."""
        self.dropped_elements.add(segment)

    # -- constant expressions -----------------------------------------------------------------------------------------
    def evaluate(self, expression: Expression) -> tuple[int, int]:
        """The value of a constant expression, as two words."""
        stack: list[int] = []
        for opcode, immediate in expression.instructions:
            match opcode:
                case 0x23:
                    cell = self.globals[immediate].cell
                    stack.append(cell[0] | cell[1] << 64)
                case 0xD0:
                    stack.append(0)
                case 0xD2:
                    stack.append(self.record(immediate))
                case 0x6A | 0x7C:
                    stack.append(stack.pop() + stack.pop())
                case 0x6B | 0x7D:
                    stack.append(-stack.pop() + stack.pop())
                case 0x6C | 0x7E:
                    stack.append(stack.pop() * stack.pop())
                case 0x41 | 0x6A | 0x6B | 0x6C:
                    stack.append(immediate & _MASK)
                case _:
                    stack.append(immediate)
        value = stack.pop()
        if expression.instructions[-1][0] in (0x41, 0x6A, 0x6B, 0x6C):
            value &= _MASK
        return value & _MASK_64, value >> 64 & _MASK_64

    def initialize(self) -> None:
        """Set the globals, then write the active segments (4.5.4), then run the start function."""
        module = self.module
        for number, expression in enumerate(module.initializers, module.imported_globals):
            cell = self.globals[number].cell
            cell[0], cell[1] = self.evaluate(expression)
        for number, element in enumerate(module.elements):
            if element.table is not None and element.position is not None:
                self.table_init(self.evaluate(element.position)[0], 0, len(element.items), number, element.table)
            if element.table is not None or element.is_declarative:
                self.dropped_elements.add(number)
        for number, segment in enumerate(module.segments):
            if segment.memory is not None and segment.position is not None:
                self.memory_init(self.evaluate(segment.position)[0], 0, segment.end - segment.start, number)
                self.dropped_data.add(number)
        if module.start is not None:
            self.callable(module.start)()


_MASK: Final = 0xFFFF_FFFF
_MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


class Holder:
    """What a gate of an exported function keeps alive."""

    __slots__ = ("block", "core", "number")

    def __init__(self, core: Core, number: int, block: Block) -> None:
        self.core = core
        self.number = number
        self.block = block

    @property
    def _name(self) -> str:
        """How a gate calls what it is from."""
        return self.core.module.name or "a WebAssembly module"

    def function(self) -> Function:
        """The function as a reference."""
        return self.core.function(self.number)


class _ThreadEnd:
    """Lets go of the instances that a thread has entered last: another thread may get the same thread pointer."""

    __slots__ = ("cores",)

    def __init__(self) -> None:
        self.cores: set[weakref.ref[Core]] = set()

    def __del__(self) -> None:
        for reference in self.cores:
            core = reference()
            if core is not None and core.vmctx_words[THREAD // 8] != _CLOSED and not core.is_running:
                core.vmctx_words[THREAD // 8] = 0


class _Adopted(threading.local):
    end: _ThreadEnd | None = None

    def of_thread(self) -> _ThreadEnd:
        """What ends with this thread."""
        if self.end is None:
            self.end = _ThreadEnd()
        self.end.cores = {one for one in self.end.cores if one() is not None}
        return self.end


_ADOPTED = _Adopted()


def _declared(name: str, signature: FuncType) -> FunctionType:
    """A function of numbers as a C declaration."""
    result = (
        Result(c_type(signature.results[0]), Returning.VALUE) if signature.results else Result(VOID, Returning.NOTHING)
    )
    parameters = tuple(Parameter("", c_type(value), Passing.VALUE) for value in signature.parameters)
    return FunctionType(name, parameters, result)


def _forget(places: list[Any], place: Any) -> None:
    if place in places:
        places.remove(place)


class _AreaHost:
    """A host function that is called with the area."""

    __slots__ = ("__weakref__", "_arguments", "_call", "_name", "_results", "_store")

    def __init__(
        self, call: Callable[..., Any], function: HostFunction[..., Any], signature: FuncType, store: Store
    ) -> None:
        area = area_of(signature)
        self._call = call
        self._name = getattr(function, "__name__", function.name)
        self._store = store
        values = function.values or (None,) * len(signature.parameters)
        self._arguments = list(zip(signature.parameters, area.arguments, values, strict=True))
        self._results = list(zip(signature.results, (0, *area.results), strict=False))

    def __call__(self, area: int, first: int) -> None:
        arguments = [_read(kind, area + offset, self._store) for kind, offset, _ in self._arguments]
        results = self._call(
            *[
                thing if value is None else value.present(thing)
                for thing, (_, _, value) in zip(arguments, self._arguments, strict=True)
            ]
        )
        where, count = f"the result of {self._name}()", len(self._results)
        if not count:
            return
        if count == 1:
            results = (results,)
        elif not isinstance(results, (tuple, list)):
            raise TypeError(f"{where} must be a tuple of {count} values, not {type(results).__name__}")
        elif len(results) != count:
            raise ValueError(f"{where} must be a tuple of {count} values, not of {len(results)}")
        for number, ((kind, offset), thing) in enumerate(zip(self._results, results, strict=True)):
            what = where if count == 1 else f"item {number} of {where}"
            _write(kind, area + offset if number else first, thing, what, self._store)


_HOSTS: weakref.WeakValueDictionary[int, _AreaHost] = weakref.WeakValueDictionary()
"""Host functions that are called with the area, by their record."""


def _call_host(area: int, record: int) -> None:
    """A host function of a type that C functions don't have."""
    host = _HOSTS.get(record)
    if host is None:
        raise _taken_apart()
    host(area, record + HOST_RESULT)


def _read(kind: int, address: int, store: Store) -> Any:
    """A value in memory as Python has it."""
    return unpack(kind, word_at(address).value, word_at(address + 8).value if kind == V128 else 0, store)


def _write(kind: int, address: int, thing: Any, where: str, store: Store) -> None:
    """A Python value to memory; TypeError, OverflowError or ValueError for one that is none of the type."""
    low, high = pack(kind, thing, where, store)
    word_at(address).value = low
    if kind == V128:
        word_at(address + 8).value = high


class _Converter:
    """A function of a type that C functions don't have, as Python calls it."""

    __slots__ = ("__name__", "_call", "_core", "_number", "_signature")

    def __init__(self, core: Core, number: int, signature: FuncType, name: str) -> None:
        self._core = core
        self._number = number
        self._signature = signature
        self._call = core.raw(number)
        self.__name__ = name

    def wasm_function(self) -> Function:
        """The function as a reference."""
        return self._core.function(self._number)

    def __repr__(self) -> str:
        return f"<wasm function {self.__name__}{self._signature}>"

    def __call__(self, *arguments: Any) -> Any:
        signature, store = self._signature, self._core.store
        if len(arguments) != len(signature.parameters):
            raise TypeError(count_message(self.__name__, len(signature.parameters), len(arguments)))
        area, size = area_of(signature), area_bytes(signature)
        buffer = (_Words * (size // 8 + 2))()
        base = ctypes.addressof(buffer)
        for position, (kind, offset, argument) in enumerate(
            zip(signature.parameters, area.arguments, arguments, strict=True), 1
        ):
            _write(kind, base + offset, argument, f"{self.__name__}() argument {position}", store)
        self._call(base)
        if not signature.results:
            return None
        places = (size, *area.results)
        results = tuple(
            [_read(kind, base + offset, store) for kind, offset in zip(signature.results, places, strict=True)]
        )
        return results[0] if len(results) == 1 else results


def _stack_low() -> int:
    """The lowest address that Wasm frames may use of this thread's stack."""
    libc = ctypes.CDLL(None)
    attributes = (ctypes.c_uint64 * 16)()
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_void_p
    thread = ctypes.c_void_p(libc.pthread_self())
    if libc.pthread_getattr_np(thread, attributes):
        raise OSError("the bounds of the thread's stack are not known")
    libc.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    libc.pthread_attr_destroy(attributes)
    return (address.value or 0) + min(_STACK_MARGIN_BYTES, size.value // 2)
