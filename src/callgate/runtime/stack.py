"""Stacks of their own for calls, and what names their overflows.

`lower/stacks.py` draws a stack and has the machine code.  With the ctypes engine, and where no code for other stacks is
made, calls run on the thread's own stack; who may use a Stack when is the same everywhere.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Callable
from operator import index
from typing import NoReturn, final

from callgate.errors import EngineError
from callgate.lower.stacks import (
    NODE_BYTES,
    NODE_GUARD,
    NODE_HIGH,
    NODE_IN_USE,
    NODE_LOW,
    NODE_MESSAGE,
    NODE_MESSAGE_BYTES,
    NODE_NEXT,
    NODE_THREAD,
    NODE_TOP,
    SIGNAL_STACK_BYTES,
    STACKS_BYTES,
    STACKS_FIRST,
    STACKS_IN_USE,
    TOP_BYTES,
    has_stacks,
)
from callgate.runtime.lifetime import permanent_memory, untrack
from callgate.runtime.locks import ProcessLock
from callgate.runtime.posix_memory import ANONYMOUS, PRIVATE, READ, WRITE, get_libc, in_pages
from callgate.runtime.probe import GateBase
from callgate.target import DATA_MODEL, IS_WINDOWS

LEAST_BYTES = 1 << 14
"""The smallest stack: what the system's own functions and a signal handler need."""

_GUARD_BYTES = 1 << 16  # more than a page, so that a function with a big frame does not step over it
_MOST_BYTES = 1 << 46  # beyond it lies no memory of a process
_NO_ACCESS = 0
_NORESERVE, _STACK = 0x4000, 0x20000  # MAP_… of Linux
_SIGSEGV = 11
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000
_SS_DISABLE = 2
_WORD = struct.Struct("<Q")

STACKS = (ctypes.c_uint64 * (STACKS_BYTES // 8))()
"""The first node, and how many calls are under way."""


class Action(ctypes.Structure):
    """struct sigaction of glibc and musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _SignalStack(ctypes.Structure):  # stack_t
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size_bytes", ctypes.c_size_t))


HANDLER_BEFORE = Action()
"""Who handled SIGSEGV before the first Stack was made."""


@final
class Stack(GateBase):
    """A stack for calls: `Stack(size_bytes)`, used by `raw.call_on`, by one call at a time.

    The size is rounded up to whole pages; memory is taken as far as it is used.  Below lies a guard: an overflow ends
    the process with a message and SIGSEGV.  The memory is freed with the last reference.

    Raises TypeError for a size that is no int, ValueError for one below 16384 bytes, MemoryError where there is no
    room.

    >>> Stack(100_000)
    <stack of 102400 bytes, free>
    """

    __slots__ = ("__weakref__", "_lock", "_message", "_node", "_user", "size_bytes")

    def __new__(cls, size_bytes: int) -> Stack:
        checked = checked_size(size_bytes)
        stack = super().__new__(cls)
        stack._make(checked, "", is_native=_is_native())
        return stack

    def __init_subclass__(cls) -> None:
        raise TypeError("Stack cannot be a base class")

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_node", 0) and not _is_finalizing():
            _give_node(self._node)

    def _make(self, size_bytes: int, function: str, *, is_native: bool) -> None:
        """Take the memory; for a function if that has a name."""
        self._user = function
        self._lock = threading.Lock()
        self._node = 0
        self.size_bytes = in_pages(size_bytes)
        if is_native:
            owner = f"{function}() overflowed its stack" if function else "a raw call overflowed its Stack"
            remedy = "stack_bytes=" if function else "Stack"
            text = f"callgate: {owner} of {self.size_bytes} bytes; it needs a larger {remedy}\n"
            self._message = text.encode(errors="backslashreplace")
            self._node = _take_node(self.size_bytes, self._message)
        self._data = _WORD.pack(self._node or ctypes.addressof(_NO_NODE))
        untrack(self)

    def __repr__(self) -> str:
        return f"<stack of {self.size_bytes} bytes, {'in use' if self.is_in_use else 'free'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a Stack: it is memory of this process")

    @property
    def node(self) -> int:
        """What machine code knows it by; 0 where calls run on the thread's own stack."""
        return self._node

    @property
    def is_in_use(self) -> bool:
        """Whether a call is running on it."""
        return self._lock.locked() if not self._node else bool(_read(self._node + NODE_IN_USE))

    # -- for machine code, and for the ctypes engine ---------------------------------------------------
    def _prepare_stack(self) -> None:
        """Make the calling thread ready to use it; RuntimeError where a call of another thread is on it."""
        if not self._node:
            raise TypeError(
                "call_on() argument 1 must be a Stack with memory of its own; this one was made while ctypes was "
                "asked for"
            )
        if self.is_in_use:
            self._refuse_stack()
        _prepare_thread()

    def _refuse_stack(self) -> NoReturn:
        if self._user:
            raise RuntimeError(
                f"{self._user}() is running on its stack already, in another thread or further out in this one; for "
                "more than one call at a time declare it once for each, or without stack_bytes="
            )
        raise RuntimeError(
            "raw.call_on(): a call is running on this Stack already, in another thread or further out in this one; "
            "make a Stack for each"
        )

    def _claim(self) -> None:
        """For the ctypes engine, which calls on the thread's own stack; undone by `_release`."""
        if self.is_in_use or not self._lock.acquire(blocking=False):
            self._refuse_stack()

    def _release(self) -> None:
        self._lock.release()


def stack_of_gate(size_bytes: object, function: str, *, is_native: bool) -> Stack:
    """The stack of a gate with `stack_bytes=`; raises as `Stack` does."""
    checked = checked_size(size_bytes)
    stack: Stack = GateBase.__new__(Stack)
    stack._make(checked, function, is_native=is_native and has_stacks(DATA_MODEL))
    return stack


def checked_size(size_bytes: object) -> int:
    """A size that a stack can have; TypeError, ValueError, MemoryError."""
    if isinstance(size_bytes, bool) or not hasattr(size_bytes, "__index__"):
        raise TypeError(f"a stack's size must be an int of bytes, not {type(size_bytes).__name__}")
    size = index(size_bytes)
    if size < LEAST_BYTES:
        raise ValueError(f"a stack needs at least {LEAST_BYTES} bytes, not {size}")
    if size > _MOST_BYTES:
        raise MemoryError(f"there is no room for a stack of {size} bytes")
    return size


def _is_native() -> bool:
    from callgate.runtime.engine import choose  # the engine reads the cells above

    return has_stacks(DATA_MODEL) and choose(None) is not None


# -- nodes ---------------------------------------------------------------------------------------------
_NO_NODE = (ctypes.c_uint64 * (NODE_BYTES // 8))()
"""What machine code finds of a Stack without memory: no thread ever used it, so that `_prepare_stack` is asked."""

_nodes: list[int] = []
_free_nodes: list[int] = []


def _read(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def _write(address: int, word: int) -> None:
    ctypes.c_uint64.from_address(address).value = word


def _take_node(size_bytes: int, message: bytes) -> int:
    """Map a stack; its node."""
    if IS_WINDOWS:
        raise EngineError("calls have no stacks of their own on Windows yet: leave out stack_bytes=, or the Stack")
    _watch()
    libc = get_libc()
    whole = _GUARD_BYTES + size_bytes
    try:
        address = libc.mmap(whole, READ | WRITE, PRIVATE | ANONYMOUS | _NORESERVE | _STACK, -1)
    except OSError:
        raise MemoryError(f"there is no room for a stack of {size_bytes} bytes") from None
    libc.mprotect(address, _GUARD_BYTES, _NO_ACCESS)
    try:
        node = _free_nodes.pop()
        is_new = False
    except IndexError:
        node = permanent_memory(NODE_BYTES)
        is_new = True
    low, high = address + _GUARD_BYTES, address + whole
    top = high - TOP_BYTES
    _write(top + 8, node)
    for offset, word in (
        (NODE_THREAD, 0),
        (NODE_IN_USE, 0),
        (NODE_TOP, top),
        (NODE_MESSAGE, ctypes.cast(ctypes.c_char_p(message), ctypes.c_void_p).value or 0),
        (NODE_MESSAGE_BYTES, len(message)),
        (NODE_LOW, low),
        (NODE_HIGH, high),
        (NODE_GUARD, address),
    ):
        _write(node + offset, word)
    if is_new:
        with _chaining.here:
            _nodes.append(node)
            _write(node + NODE_NEXT, STACKS[STACKS_FIRST // 8])
            STACKS[STACKS_FIRST // 8] = node
    return node


_chaining = ProcessLock()


def _give_node(node: int) -> None:
    """Unmap the stack of a node that nobody uses any more."""
    guard, high = _read(node + NODE_GUARD), _read(node + NODE_HIGH)
    for offset in (NODE_GUARD, NODE_HIGH, NODE_LOW, NODE_TOP, NODE_THREAD, NODE_MESSAGE_BYTES):
        _write(node + offset, 0)
    get_libc().munmap(guard, high - guard)
    _free_nodes.append(node)


# -- the process and its threads -----------------------------------------------------------------------
class _Watch:
    """What the first Stack brings: the handler, the key of threads, what a fork resets."""

    def __init__(self, routine: Callable[[str], int]) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.thread = ctypes.CFUNCTYPE(ctypes.c_uint64)(routine("callgate_thread"))
        self.key = ctypes.c_uint()
        ends = ctypes.c_void_p(routine("callgate_stack_thread_ends"))
        if self.libc.pthread_key_create(ctypes.byref(self.key), ends):
            raise EngineError("the system has no key left for the signal stacks of threads")
        os.register_at_fork(after_in_child=self._after_fork)
        action = Action(routine("callgate_fault"), flags=_SA_SIGINFO | _SA_ONSTACK)
        self.libc.sigaction(_SIGSEGV, ctypes.byref(action), ctypes.byref(HANDLER_BEFORE))

    def _after_fork(self) -> None:
        """The other threads' calls are not in this process."""
        mine, in_use = self.thread(), 0
        for node in _nodes:
            if _read(node + NODE_THREAD) == mine:
                in_use += _read(node + NODE_IN_USE)
            else:
                _write(node + NODE_THREAD, 0)
                _write(node + NODE_IN_USE, 0)
        STACKS[STACKS_IN_USE // 8] = in_use

    def prepare_thread(self) -> None:
        """Give the calling thread a stack for signal handlers, unless it has one, and note when it ends."""
        self.libc.pthread_getspecific.restype = ctypes.c_void_p
        if self.libc.pthread_getspecific(self.key):
            return
        present = _SignalStack()
        self.libc.sigaltstack(None, ctypes.byref(present))
        memory = 1
        if present.flags & _SS_DISABLE:
            memory = get_libc().mmap(SIGNAL_STACK_BYTES, READ | WRITE, PRIVATE | ANONYMOUS, -1)
            mine = _SignalStack(memory, 0, SIGNAL_STACK_BYTES)
            self.libc.sigaltstack(ctypes.byref(mine), None)
        self.libc.pthread_setspecific(self.key, ctypes.c_void_p(memory))


_watches: list[_Watch] = []
_watching = ProcessLock()


def _watch() -> _Watch:
    if not _watches:
        from callgate.runtime.engine import native_engine

        native = native_engine()
        with _watching.here:
            if not _watches:
                _watches.append(_Watch(native.routine))
    return _watches[0]


def _prepare_thread() -> None:
    _watch().prepare_thread()
