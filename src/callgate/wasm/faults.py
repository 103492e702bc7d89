"""SIGSEGV in the live process: who gets it, and which code is guarded.  The handler's code is `compile.faults`.

The handler is installed with the first guarded code and stays.  It passes on what is none of its own to who was there
before.  Who comes later hides it, and every fault of guarded code would look like a crash; so it looks whether it is
still the first, and puts itself before the other if not: when faulthandler or signal.signal have set a handler, when an
instance is made, and when a thread first calls one.

The other may pass on to the handler that it hid.  If that passed on to the other, they would do so for ever.  So each
time another handler, with its own handler before it, is put in front:

    level 1  ->  faulthandler's, later than level 0  ->  level 0  ->  who was there in the beginning
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, NamedTuple

from callgate.asm.code import Code
from callgate.runtime.addresses import c_address
from callgate.runtime.code_memory import Block
from callgate.runtime.lifetime import keep_for_ever, permanent_memory
from callgate.runtime.locks import ProcessLock
from callgate.runtime.stack import Action
from callgate.wasm.compile.faults import (
    NODE_BYTES,
    NODE_HIGH,
    NODE_LOW,
    NODE_NEXT,
    SIGSEGV,
    lower_door,
    lower_fault,
    lower_handler,
)

_SA_SIGINFO, _SA_ONSTACK, _SA_NODEFER = 4, 0x08000000, 0x40000000
_NODES: Final = 64  # made at a time
Publish = Callable[..., Block]


class Level(NamedTuple):
    """A handler, and the sigaction of who had the signal before it."""

    address: int
    before: Action


class Faults:
    """The process's handlers of SIGSEGV, and the ranges of guarded code."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._lock = ProcessLock()
        self._first = permanent_memory(8)
        self._free: list[int] = []  # nodes
        self._sigaction = ctypes.CDLL(None).sigaction
        self._levels: list[Level] = []
        self._top = -1  # the level that was first when somebody looked
        code_of_c = {name: c_address(name) for name in ("sigaction", "raise")}
        self._fault = self._publish_for_ever(lower_fault(), guarded_code=self._first, **code_of_c)
        door = self._publish_for_ever(lower_door(), **code_of_c)
        self._call = ctypes.PYFUNCTYPE(*[ctypes.py_object] * 4, ctypes.c_void_p, ctypes.c_void_p)(door)
        self._spare = self._make_level()
        self.be_first()
        for module, name, keeps_hidden in _DOORS:
            setattr(module, name, self._door(getattr(module, name), keeps_hidden=keeps_hidden))

    def _publish_for_ever(self, code: Code, **symbols: int) -> int:
        block = self._publish(code, **symbols)
        keep_for_ever(block)
        return block.address

    # -- code ---------------------------------------------------------------------------------------------------------
    def cover(self, owner: object, low: int, high: int) -> None:
        """Faults of this code are traps, as long as its owner lives."""
        with self._lock.here:
            if not self._free:
                self._make_nodes()
            node = self._free.pop()
            _write(node + NODE_LOW, low)
            _write(node + NODE_HIGH, high)
        weakref.finalize(owner, self._uncover, node).atexit = False  # type: ignore[misc]

    def _make_nodes(self) -> None:
        nodes = permanent_memory(_NODES * NODE_BYTES)
        first = ctypes.c_uint64.from_address(self._first).value
        for node in range(nodes, nodes + _NODES * NODE_BYTES, NODE_BYTES):
            _write(node + NODE_NEXT, first)
            first = node
            self._free.append(node)
        _write(self._first, first)

    def _uncover(self, node: int) -> None:
        """Without the lock: it may run at any moment."""
        _write(node + NODE_HIGH, 0)
        self._free.append(node)

    # -- the handlers -------------------------------------------------------------------------------------------------
    def be_first(self) -> None:
        """See to it that faults come to a handler of ours first."""
        with self._lock.here:
            present = Action()
            self._sigaction(SIGSEGV, None, ctypes.byref(present))
            number = self._level_of(present)
            if number >= 0:
                self._top = number
            else:
                self._install(self._top + 1, present)

    def _level_of(self, action: Action) -> int:
        """The level whose handler it is; -1 for others."""
        return next((number for number, level in enumerate(self._levels) if level.address == action.handler), -1)

    def _install(self, number: int, before: Action) -> None:
        if number == len(self._levels):
            self._levels.append(self._make_level())
        level = self._levels[number]
        ctypes.pointer(level.before)[0] = before
        self._sigaction(SIGSEGV, ctypes.byref(_action_of(level)), None)
        self._top = number

    def _make_level(self) -> Level:
        before = Action.from_address(permanent_memory(ctypes.sizeof(Action)))
        code = lower_handler(ctypes.addressof(before))
        return Level(self._publish_for_ever(code, wasm_fault=self._fault), before)

    def _door(self, original: Callable[..., Any], *, keeps_hidden: bool) -> Callable[..., Any]:
        """A function that may set a handler, before which one of ours is put again."""

        @wraps(original)
        def door(*arguments: Any, **named: Any) -> Any:
            if original is _SIGNAL and arguments[:1] != (SIGSEGV,):
                return original(*arguments, **named)
            with self._lock.here:
                self.be_first()
                spare = self._spare
                try:
                    # guarded code runs with the GIL held, so there is no moment at which a fault could find the other
                    action = _action_of(spare)
                    return self._call(
                        original, arguments, named, ctypes.addressof(action), ctypes.addressof(spare.before)
                    )
                finally:
                    number = self._level_of(spare.before)
                    if number >= 0:
                        self._install(number, self._levels[number].before)
                    else:  # it may pass on to what it has hidden, or has forgotten that
                        self._install(self._top + keeps_hidden, spare.before)

        return door


def _action_of(level: Level) -> Action:
    """What installs a handler.

    The one before runs with what it asked to be blocked, but for this: where a thread has a stack for signals, handlers
    run there, as the other stack may have overflowed.
    """
    flags = _SA_SIGINFO | _SA_ONSTACK | level.before.flags & _SA_NODEFER
    return Action(level.address, level.before.mask, flags)


_SIGNAL: Final = vars(signal)["_signal"].signal  # what signal.signal calls
_DOORS: Final = (
    (faulthandler, "enable", True),
    (faulthandler, "disable", False),
    (vars(signal)["_signal"], "signal", False),
)
"""What sets a handler of SIGSEGV in Python, and whether it keeps the handler that it hides."""


def _write(address: int, word: int) -> None:
    ctypes.c_uint64.from_address(address).value = word
