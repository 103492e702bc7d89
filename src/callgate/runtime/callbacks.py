"""Callbacks: Python functions that C calls, and what is passed where C wants a function pointer.

A Callback owns a slot of a table and so a thunk, the address that C gets (see `lower.callback` for what the slot
holds).  Thunks are published in batches and never given back: C may call one after its callback is gone, which is
then an error with a name and not a jump into the void.  Freed slots are used again as late as possible.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from callgate.c import names
from callgate.c.agreement import disagreement
from callgate.c.types import CallbackType, CType, FunctionPrototype, FunctionType, Passing, Pointer, spell
from callgate.cpython.conversion import Unbox, convert_callback
from callgate.lower.callback import SLOT_BYTES, THUNK_BYTES
from callgate.runtime import reference
from callgate.runtime.probe import GateBase
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.runtime.reference import Formal

THUNKS_PER_BATCH = 256
_SLOT = struct.Struct("<QQQQ")


class Thunks:
    """The slots that are free, and the making of more.

    `publish` makes machine code that stays for ever and gives its address; `closed` is the address of the routine
    for slots without a callback.
    """

    def __init__(self, publish: Callable[[int, int], int], closed: int) -> None:
        self._publish = publish
        self._closed = closed
        self._free: deque[tuple[int, int]] = deque()
        self._messages: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def take(self) -> tuple[int, int]:
        """A free slot: its address and its thunk's."""
        free = self._free
        if len(free) < THUNKS_PER_BATCH // 2:  # those freed last wait, so that late calls are noticed
            with self._lock:
                if len(free) < THUNKS_PER_BATCH // 2:
                    self._grow()
        return free.popleft()

    def _grow(self) -> None:
        table = _permanent_memory(SLOT_BYTES * THUNKS_PER_BATCH)
        thunks = self._publish(table, THUNKS_PER_BATCH)
        for index in range(THUNKS_PER_BATCH):
            self.close(
                table + SLOT_BYTES * index, "a callback", b"a function pointer was called that belongs to no callback"
            )
        self._free.extend(
            (table + SLOT_BYTES * index, thunks + THUNK_BYTES * index) for index in range(THUNKS_PER_BATCH)
        )

    def fill(self, slot: int, stub: int, record: object, function: object) -> None:
        """Let a slot lead to a callback."""
        ctypes.memmove(slot, _SLOT.pack(stub, id(record), id(function), 0), SLOT_BYTES)

    def close(self, slot: int, name: str, message: bytes | None = None) -> None:
        """Let a slot lead to an error."""
        text = message or f"{name}() was called by C after it was closed".encode()
        self._messages[slot] = text  # lives until the slot has another
        ctypes.memmove(slot, _SLOT.pack(self._closed, 0, 0, reference.address_of_bytes(text)), SLOT_BYTES)

    def give_back(self, place: tuple[int, int]) -> None:
        """Free a closed slot."""
        self._free.append(place)


def _permanent_memory(size_bytes: int) -> int:
    """Zeroed memory that is never freed."""
    buffer = ctypes.create_string_buffer(size_bytes)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))
    return ctypes.addressof(buffer)


class Callback(GateBase, names.Callback):
    """A Python function as C calls it; made by `callgate.callback`, or for one call from any callable.

    Calling it calls the Python function.  `address` is what C gets, `close()` ends it: C calling it then is an error.
    It lives as long as it is referenced; C must not call it longer.
    """

    __slots__ = (
        "__name__",
        "__weakref__",
        "_closed",
        "_closures",
        "_formal",
        "_function",
        "_kept",
        "_place",
        "_thunks",
        "engine",
        "type",
    )

    def __init__(self, function: Callable[..., object], callback_type: CallbackType, engine: str) -> None:
        self._function = function
        self.type = callback_type
        self.engine = engine
        self._closed = False
        self._place: tuple[int, int] | None = None
        self._thunks: Thunks | None = None
        self._closures: object = None
        self._formal: Formal | None = None
        self._kept: object = None
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
        if engine == "ctypes":
            if self._closures is None:
                from callgate.runtime.ctypes_callbacks import make_closure  # only where it is needed

                self._closures = make_closure(self)
            return ctypes.cast(self._closures, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
        if self._place is None:
            from callgate.runtime.engine import native_engine

            native_engine().install_callback(self)
        assert self._place is not None  # install_callback
        return self._place[1]

    def close(self) -> None:
        """End it: from now on a call by C is an error.  Closing twice does nothing."""
        self._closed = True
        if self._place is not None and self._thunks is not None:
            self._thunks.close(self._place[0], self.type.name)

    def __del__(self) -> None:
        place, thunks = getattr(self, "_place", None), getattr(self, "_thunks", None)
        if place is not None and thunks is not None:
            thunks.close(
                place[0],
                self.type.name,
                f"{self.type.name}() was called by C after it was freed; keep it as long as C has it".encode(),
            )
            thunks.give_back(place)

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
        from callgate.runtime.boxing import box_word

        return box_word(self.type.parameters[which], word, None)

    def _refuse_null(self, which: int) -> NoReturn:
        refuse_null(self.type.name, which)


def refuse_null(name: str, which: int) -> NoReturn:
    """An argument that C gave is NULL."""
    raise ValueError(f"argument {which + 1} of {name}() is NULL; declare it `X | None` to get None")


def _prototype(callback_type: CallbackType) -> Pointer:
    parameters = tuple(parameter.type for parameter in callback_type.parameters)
    return Pointer(FunctionPrototype(callback_type.prototype, parameters, callback_type.result_type))


# -- what is passed where C wants a function -------------------------------------------------------------------------


def pass_function(formal: Formal, thing: object, expected: str) -> tuple[int, object]:
    """The address for a function pointer parameter, and what must live until the call is over."""
    parameter = formal.parameter
    if isinstance(thing, Callback):
        _check(formal, thing.type.name, [p.type for p in thing.type.parameters], thing.type.result_type)
        return thing.address_for(formal.engine), thing
    record = getattr(thing, "__self__", None)
    signature = getattr(record, "signature", None)
    if isinstance(record, GateBase) and isinstance(signature, FunctionType):
        _check(formal, signature.name, [p.type for p in signature.parameters], signature.result.type)
        return record.address, thing  # type: ignore[attr-defined]
    if isinstance(thing, (names.FUNCTION_POINTER, ctypes.c_void_p)):
        address: int | None = ctypes.cast(thing, ctypes.c_void_p).value
        if address:
            return address, thing
        if formal.step.is_nullable:
            return 0, None
        raise TypeError(f"{formal.where} must be {expected}, not NULL")
    wanted = parameter.python_type
    if callable(thing) and parameter.passing is Passing.CALLABLE and isinstance(wanted, CallbackType):
        callback = Callback(thing, wanted, formal.engine)
        return callback.address_for(formal.engine), callback
    hint = ""
    if callable(thing) and parameter.passing is Passing.CALLBACK:
        hint = "; C keeps it: decorate it with @callgate.callback and keep a reference"
    raise TypeError(f"{formal.where} must be {expected}, not {reference.type_name(thing)}{hint}")


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
            raise raised

    def is_set(self) -> bool:
        """Whether a callback of this thread has raised and no gate has taken it up."""
        return bool(self._raised) and threading.get_ident() in self._raised

    def put(self, problem: BaseException, function: object) -> None:
        """Keep an exception for the gate below, or report it where there is none."""
        thread = threading.get_ident()
        if self._depths.get(thread):
            self._raised[thread] = problem
        else:
            sys.unraisablehook(_Unraisable((type(problem), problem, problem.__traceback__, None, function)))


class _Unraisable(tuple):  # type: ignore[type-arg]
    """What `sys.unraisablehook` gets."""

    __slots__ = ()
    exc_type = property(lambda self: self[0])
    exc_value = property(lambda self: self[1])
    exc_traceback = property(lambda self: self[2])
    err_msg = property(lambda self: self[3])
    object = property(lambda self: self[4])


PENDING = Pending()
