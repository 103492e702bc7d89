"""Which thread an instance is called from, and how much of its stack Wasm code may use."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.wasm.compile.layout import THREAD

if TYPE_CHECKING:
    from callgate.wasm.native.core import Core

_STACK_MARGIN_BYTES: Final = 256 << 10
"""What is left of a thread's stack for Python functions that Wasm code calls; of a small one, three quarters.

From 3.14 on CPython keeps the last 32 KiB of a stack and a guard page to itself: a trap that reaches Python there would
be Python's own RecursionError.
"""
CLOSED: Final = 1
"""In place of a thread pointer: no thread has it, so every entry asks."""


class _ThreadEnd:
    """Lets go of the instances that a thread has entered last: another thread may get the same thread pointer."""

    __slots__ = ("cores",)

    def __init__(self) -> None:
        self.cores: set[weakref.ref[Core]] = set()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            return  # the interpreter ends, and what modules had may be gone
        for reference in self.cores:
            core = reference()
            if core is not None and core.vmctx_words[THREAD // 8] != CLOSED and not core.is_running:
                core.vmctx_words[THREAD // 8] = 0


class _Adopted(threading.local):
    end: _ThreadEnd | None = None

    def of_thread(self) -> _ThreadEnd:
        """What ends with this thread."""
        if self.end is None:
            self.end = _ThreadEnd()
        self.end.cores = {one for one in self.end.cores if one() is not None}
        return self.end


ADOPTED = _Adopted()


def stack_low() -> int:
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
    return (address.value or 0) + min(_STACK_MARGIN_BYTES, size.value // 4 * 3)
