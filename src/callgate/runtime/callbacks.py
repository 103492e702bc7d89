"""Callbacks: Python functions that C calls, and what is passed where C wants a function pointer.

A Callback owns a slot of a table and so a thunk, the address that C gets (see `lower.callback` for what the slot
holds).  Thunks are published in batches and never given back: C may call one after its callback is gone, which is
then an error with a name and not a jump into the void.  Freed slots are used again as late as possible.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from types import BuiltinFunctionType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from callgate.c import names
from callgate.c.agreement import disagreement
from callgate.c.types import CallbackType, CType, FunctionPrototype, FunctionType, Passing, Pointer, spell
from callgate.cpython.conversion import Unbox, convert_callback
from callgate.errors import EngineError
from callgate.lower.callback import (
    SLOT_BYTES,
    SLOT_FREED,
    SLOT_LOCK,
    SLOT_MESSAGE,
    SLOT_NEXT,
    SLOT_RECORD,
    SLOT_STUB,
    SLOT_THUNK,
)
from callgate.lower.image import THUNK_COUNT
from callgate.runtime import reference
from callgate.runtime.addresses import initialize_spin_lock, is_main_interpreter
from callgate.runtime.locks import ProcessLock
from callgate.runtime.probe import HEADER_BYTES, GateBase
from callgate.runtime.trace import IS_TRACED, traced_callback
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.runtime.image import SlotThunks
    from callgate.runtime.reference import Formal

_BYTES_DATA = HEADER_BYTES + 16  # as the probe checks
_CAPSULE_POINTER = HEADER_BYTES  # the first field of a capsule
_Words = ctypes.c_uint64 * (SLOT_BYTES // 8)


class Thunks:
    """The slots that are free, and the making of more.

    Taking and freeing are single steps of machine code, so that no other thread, finalizer or signal comes between.
    `take`, `give` are its routines, `make` gives THUNK_COUNT more thunks with their slots, or None where it has let go
    of the reserve instead, `unused` is where the thunks of new slots lead.  Where threads run at once
    `set_record(slot, weak reference or 0)` is the routine that says whose a slot is.
    """

    def __init__(
        self,
        take: Callable[[], object],
        give: Callable[[int, int, int], None],
        make: Callable[[], SlotThunks | None],
        unused: int,
        set_record: Callable[[int, int], None] | None = None,
    ) -> None:
        self._take = take
        self._give = give
        self._make = make
        self._unused = unused
        self._set_record = set_record
        self._texts: dict[int, tuple[bytes, bytes]] = {}
        self._grow()
        self._check_capsules()

    def take(self, name: str) -> tuple[object, Any]:
        """A free slot for a callback of that name: its owner, whose end frees it, and its words."""
        anchor = self._take()
        while anchor is None:  # those freed last wait, so that late calls are noticed
            self._grow()
            anchor = self._take()
        slot: int = ctypes.c_uint64.from_address(id(anchor) + _CAPSULE_POINTER).value
        texts = self._texts.get(slot)
        words = _Words.from_address(slot)
        closed = f"{name}() was called by C after it was closed".encode()
        freed = f"{name}() was called by C after it was freed; keep a reference to it as long as C has it".encode()
        if texts is None or texts[0] != closed:
            self._texts[slot] = closed, freed  # they live until the slot has others
        closed, freed = self._texts[slot]
        words[SLOT_MESSAGE // 8] = id(closed) + _BYTES_DATA
        words[SLOT_FREED // 8] = id(freed) + _BYTES_DATA
        return anchor, words

    def put_record(self, callback: Callback, words: Any) -> None:
        """From now on C's calls are the callback's; its function is in its slot."""
        if self._set_record is None:
            words[SLOT_RECORD // 8] = id(callback)
        else:  # by a weak reference, which says whether the callback lives while another thread frees it
            record = weakref.ref(callback)
            self._set_record(ctypes.addressof(words), id(record))

    def drop_record(self, words: Any) -> None:
        """From now on a call by C is an error."""
        if self._set_record is None:
            words[SLOT_RECORD // 8] = 0
        else:
            self._set_record(ctypes.addressof(words), 0)

    def _check_capsules(self) -> None:
        """Capsules are read in memory: ctypes would make an interrupt or a recursion error one of its own."""
        prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        anchor, words = self.take("probe")
        if prototype(("PyCapsule_GetPointer", ctypes.pythonapi))(anchor, None) != ctypes.addressof(words):
            raise EngineError("the pointer of a capsule is not found inside it, so that callbacks cannot be made")

    def _grow(self) -> None:
        made = self._make()
        if made is None:
            return
        slots, thunks, thunk_bytes = made
        for index in range(THUNK_COUNT):
            slot = slots + SLOT_BYTES * index
            words = _Words.from_address(slot)
            words[SLOT_STUB // 8] = self._unused
            words[SLOT_NEXT // 8] = slot + SLOT_BYTES
            words[SLOT_THUNK // 8] = thunks + thunk_bytes * index
            if self._set_record is not None:
                initialize_spin_lock(slot + SLOT_LOCK)
        self._give(slots, slots + SLOT_BYTES * (THUNK_COUNT - 1), THUNK_COUNT)


class Callback(GateBase, names.Callback):
    """A Python function as C calls it; made by `callgate.callback`, or for one call from any callable.

    Calling it calls the Python function.  `address` is what C gets, `close()` ends it: C calling it then is an error.
    It lives as long as it is referenced; C must not call it longer.
    """

    # _anchor owns the slot and comes first: an object that is taken apart loses its slots in alphabetical order
    __slots__ = (
        "__name__",
        "__weakref__",
        "_anchor",
        "_closed",
        "_closure",
        "_formal",
        "_function",
        "_is_for_one_call",
        "_stub",
        "_thunks",
        "_words",
        "engine",
        "type",
    )

    def __init__(
        self,
        function: Callable[..., object],
        callback_type: CallbackType,
        engine: str,
        *,
        is_for_one_call: bool = False,
    ) -> None:
        self._is_for_one_call = is_for_one_call
        self._function = traced_callback(function, callback_type.name) if IS_TRACED else function
        self.type = callback_type
        self.engine = engine
        self._closed = False
        self._anchor: object = None
        self._words: Any = None
        self._thunks: Thunks | None = None
        self._closure: object = None
        self._formal: Formal | None = None
        self._stub: object = None
        self.__name__ = callback_type.name

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._function(*given, **named)

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.engine
        return f"<callback {spell(_prototype(self.type), self.type.name)}, {state}>"

    @property
    def signature(self) -> CallbackType:
        """The declaration."""
        return self.type

    @property
    def address(self) -> int:
        """The address that C calls; ValueError once it is closed."""
        return self.address_for(self.engine)

    def address_for(self, engine: str) -> int:
        """The address for a gate of an engine: machine code, or a closure of ctypes."""
        if self._closed:
            raise ValueError(f"{self.type.name}() is closed, and C cannot have it any more")
        if self._closure is None and self._words is None and not is_main_interpreter():
            raise EngineError(
                f"{self.type.name}() cannot be called by C in a sub-interpreter, for threads that come from C belong "
                "to the main one: make callbacks in the main interpreter, or in a process of its own"
            )
        if engine == "ctypes":
            if self._closure is None:
                make_closure = _late("ctypes_callbacks", "make_closure")
                with _LOCK.here:
                    if self._closure is None:
                        self._closure = make_closure(self)
            closure: Any = self._closure
            return ctypes.c_void_p.from_buffer(closure.function).value or 0
        if self._words is None:
            native = _late("engine", "native_engine")()
            with _LOCK.here:
                if self._words is None:
                    native.install_callback(self)
        address: int = self._words[SLOT_THUNK // 8]
        return address

    def close(self) -> None:
        """End it: from now on a call by C is an error.  Closing twice does nothing."""
        self._closed = True
        if self._thunks is not None:
            self._thunks.drop_record(self._words)
        if self._closure is not None:
            self._closure.close()  # type: ignore[attr-defined]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a callback is an address in this process; it cannot be copied or pickled")

    # -- for machine code and the ctypes engine ----------------------------------------------------------------------
    @property
    def formal(self) -> Formal:
        """The result as the reference conversion needs it."""
        if self._formal is None:
            result = self.type.result
            assert result is not None  # void is not converted
            step = convert_callback(self.type, DATA_MODEL).result
            assert step is not None  # as the result
            element = getattr(result.python_type, "_type_", None) if step.kind is Unbox.HANDLE else None
            self._formal = reference.Formal(
                self.type.name, 0, result, step, element if isinstance(element, type) else None, None, self.engine
            )
        return self._formal

    def _convert(self, index: int, thing: object) -> tuple[int, object]:
        value, owner = reference.to_value(self.formal, thing)
        if isinstance(value, float):
            size = self.formal.step.size_bytes
            value = int.from_bytes(struct.pack("<f" if size == 4 else "<d", value), "little")
        return value & 0xFFFF_FFFF_FFFF_FFFF, owner

    def _box(self, which: int, word: int, length: int) -> object:
        return _late("boxing", "box_word")(self.type.parameters[which], word, None)

    def _refuse_null(self, which: int) -> NoReturn:
        refuse_null(self.type.name, which)


def refuse_null(name: str, which: int) -> NoReturn:
    """An argument that C gave is NULL."""
    raise ValueError(f"argument {which + 1} of {name}() is NULL; declare it `X | None` to get None")


_imported: dict[str, Any] = {}


def _late(module: str, name: str) -> Any:
    """A function of a module that imports this one; kept, for a finalizer may want it when no import works any more."""
    found = _imported.get(name)
    if found is None:
        found = _imported[name] = getattr(import_module(f"callgate.runtime.{module}"), name)
    return found


def _prototype(callback_type: CallbackType) -> Pointer:
    parameters = tuple(parameter.type for parameter in callback_type.parameters)
    return Pointer(FunctionPrototype(callback_type.prototype, parameters, callback_type.result_type))


_LOCK = ProcessLock()  # of the first address of a callback


# -- what is passed where C wants a function -------------------------------------------------------------------------


def pass_function(formal: Formal, thing: object, expected: str) -> tuple[int, object]:
    """The address for a function pointer parameter, and what must live until the call is over."""
    parameter = formal.parameter
    if isinstance(thing, Callback):
        _check(formal, thing.type.name, [p.type for p in thing.type.parameters], thing.type.result_type)
        return thing.address_for(formal.engine), thing
    record = gate_behind(thing)
    if record is not None:
        signature: FunctionType = record.signature
        if signature.is_variadic:
            raise TypeError(f"{formal.where} must be {expected}, not {signature.name}(), which is variadic")
        _check(formal, signature.name, [p.type for p in signature.parameters], signature.result.type)
        return record.address, thing
    if isinstance(thing, (names.FUNCTION_POINTER, ctypes.c_void_p)):
        address: int | None = ctypes.c_void_p.from_buffer(thing).value
        if address:
            return address, thing
        if formal.step.is_nullable:
            return 0, None
        raise TypeError(f"{formal.where} must be {expected}, not NULL")
    wanted = parameter.python_type
    if callable(thing) and parameter.passing is Passing.CALLABLE and isinstance(wanted, CallbackType):
        callback = Callback(thing, wanted, formal.engine, is_for_one_call=True)
        return callback.address_for(formal.engine), callback
    hint = ""
    if callable(thing) and parameter.passing is Passing.CALLBACK:
        hint = "; C keeps it: decorate it with @callgate.callback and keep a reference"
    raise TypeError(f"{formal.where} must be {expected}, not {reference.type_name(thing)}{hint}")


def gate_behind(thing: object) -> Any:
    """The record of a gate's function, None for anything else, bound methods of a record included."""
    record = getattr(thing, "__self__", None) if isinstance(thing, (BuiltinFunctionType, MethodType)) else None
    if not isinstance(record, GateBase) or not isinstance(getattr(record, "signature", None), FunctionType):
        return None
    is_method = isinstance(thing, MethodType) and thing.__func__.__module__ != "callgate"
    return None if is_method else record


def _check(formal: Formal, name: str, parameters: list[CType], result: CType) -> None:
    """Refuse a function of other C types than the parameter's."""
    pointer = formal.parameter.type
    prototype = pointer.to if isinstance(pointer, Pointer) else None
    if not isinstance(prototype, FunctionPrototype) or prototype.parameters is None:
        return
    wrong = disagreement([*prototype.parameters, prototype.result], [*parameters, result], DATA_MODEL)
    if wrong is not None:
        theirs = spell(result, f"{name}({', '.join(map(spell, parameters)) or 'void'})")
        raise TypeError(f"{formal.where} must be a function like {prototype.spelling}, not {theirs}")


# -- exceptions under the ctypes engine ------------------------------------------------------------------------------


class Pending:
    """The exceptions that callbacks of the ctypes engine left, by thread; gates of that engine raise them."""

    def __init__(self) -> None:
        self._raised: dict[int, BaseException] = {}
        self._depths: dict[int, int] = {}

    def enter(self) -> None:
        """A gate calls C."""
        thread = threading.get_ident()
        self._depths[thread] = self._depths.get(thread, 0) + 1

    def leave(self) -> None:
        """C has returned: raise what a callback left."""
        thread = threading.get_ident()
        depth = self._depths.pop(thread) - 1
        if depth:
            self._depths[thread] = depth
        raised = self._raised.pop(thread, None) if self._raised else None
        if raised is not None:
            try:
                raise raised
            finally:
                del raised  # its traceback has this frame

    def is_set(self) -> bool:
        """Whether a callback of this thread has raised and no gate has taken it up."""
        return bool(self._raised) and threading.get_ident() in self._raised

    def put(self, problem: BaseException) -> bool:
        """Keep an exception for the gate below; False where there is none."""
        thread = threading.get_ident()
        if not self._depths.get(thread):
            return False
        self._raised[thread] = problem
        return True


PENDING = Pending()
