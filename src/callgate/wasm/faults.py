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
import os
import signal
import threading
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, NamedTuple

from callgate.asm.code import Code
from callgate.runtime.addresses import c_address
from callgate.runtime.code_memory import Block
from callgate.runtime.lifetime import keep_for_ever, permanent_memory
from callgate.runtime.stack import Action
from callgate.wasm.compile.faults import (
    NODE_BYTES,
    NODE_HIGH,
    NODE_LOW,
    NODE_NEXT,
    SIGSEGV,
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
        self._lock = threading.RLock()
        self._first = permanent_memory(8)
        self._free: list[int] = []  # nodes
        self._sigaction = ctypes.CDLL(None).sigaction
        self._levels: list[Level] = []
        self._top = -1  # the level that was first when somebody looked
        self._fault = self._publish_for_ever(
            lower_fault(), guarded_code=self._first, **{name: c_address(name) for name in ("sigaction", "raise")}
        )
        os.register_at_fork(after_in_child=self._after_fork)
        self.be_first()
        for module, name, keeps_hidden in _DOORS:
            setattr(module, name, self._door(getattr(module, name), keeps_hidden=keeps_hidden))

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it

    def _publish_for_ever(self, code: Code, **symbols: int) -> int:
        block = self._publish(code, **symbols)
        keep_for_ever(block)
        return block.address

    # -- code ---------------------------------------------------------------------------------------------------------
    def cover(self, owner: object, low: int, high: int) -> None:
        """Faults of this code are traps, as long as its owner lives."""
        with self._lock:
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
    def be_first(self, *, keeps_hidden: bool = True) -> None:
        """See to it that faults come to a handler of ours first.

        `keeps_hidden` says whether who hid it may pass on to it.
        """
        with self._lock:
            present = Action()
            self._sigaction(SIGSEGV, None, ctypes.byref(present))
            for number, level in enumerate(self._levels):
                if present.handler == level.address:
                    self._top = number
                    return
            self._install(self._top + 1 if keeps_hidden else max(self._top, 0), present)

    def _install(self, number: int, present: Action) -> None:
        """Install the handler of a level, with its handler before.

        That one runs with what it asked to be blocked, but for this: where a thread has a stack for signals, handlers
        run there, as the other stack may have overflowed.
        """
        if number == len(self._levels):
            before = Action.from_address(permanent_memory(ctypes.sizeof(Action)))
            code = lower_handler(ctypes.addressof(before))
            self._levels.append(Level(self._publish_for_ever(code, wasm_fault=self._fault), before))
        level = self._levels[number]
        ctypes.pointer(level.before)[0] = present
        flags = _SA_SIGINFO | _SA_ONSTACK | present.flags & _SA_NODEFER
        action = Action(level.address, present.mask, flags)
        self._sigaction(SIGSEGV, ctypes.byref(action), None)
        self._top = number

    def _door(self, original: Callable[..., Any], *, keeps_hidden: bool) -> Callable[..., Any]:
        """A function that may set a handler, after which this one is first again."""

        @wraps(original)
        def door(*arguments: Any, **named: Any) -> Any:
            if original is _SIGNAL and arguments[:1] != (SIGSEGV,):
                return original(*arguments, **named)
            self.be_first()
            try:
                return original(*arguments, **named)
            finally:
                self.be_first(keeps_hidden=keeps_hidden)

        return door


_SIGNAL: Final = vars(signal)["_signal"].signal  # what signal.signal calls
_DOORS: Final = (
    (faulthandler, "enable", True),
    (faulthandler, "disable", False),
    (vars(signal)["_signal"], "signal", False),
)
"""What sets a handler of SIGSEGV in Python, and whether it keeps the handler that it hides."""


def _write(address: int, word: int) -> None:
    ctypes.c_uint64.from_address(address).value = word
