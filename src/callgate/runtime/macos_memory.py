"""Executable memory of macOS: MAP_JIT pages, which each thread sees writable or executable, or ordinary pages.

On Apple's processors a thread turns all MAP_JIT pages from executable to writable and back, for itself alone, with
pthread_jit_write_protect_np.  Between the two it can run no gate; so it runs no Python either: the calls follow each
other inside one `map`, with the garbage collector off.
"""

from __future__ import annotations

import ctypes
import gc
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from callgate.runtime.executable import Executable, Piece, Rung
from callgate.runtime.posix_memory import ANONYMOUS, EXECUTE, PRIVATE, READ, WRITE, PageMemory, get_libc

MAP_JIT = 0x0800  # sys/mman.h


class System:
    """What macOS has beside mmap, called with the GIL held."""

    def __init__(self, library: Any) -> None:
        self.write_protect = library["pthread_jit_write_protect_np"]
        self.write_protect.argtypes, self.write_protect.restype = [ctypes.c_int], None
        self.invalidate = library["sys_icache_invalidate"]
        self.invalidate.argtypes, self.invalidate.restype = [ctypes.c_void_p, ctypes.c_size_t], None
        supported = library["pthread_jit_write_protect_supported_np"]
        supported.argtypes, supported.restype = [], ctypes.c_int
        self.protects_per_thread = bool(supported())
        self.move = library["memmove"]
        self.move.argtypes, self.move.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t], None


_system: System | None = None


def get_system() -> System:
    """The process's one, made when first needed."""
    global _system  # noqa: PLW0603  # one per process
    if _system is None:
        try:
            _system = System(ctypes.PyDLL(None))
        except AttributeError as missing:
            raise OSError(f"macOS 11 or later is needed: {missing}") from None
    return _system


class JitMemory:
    """MAP_JIT pages; writable for the thread that writes, while it writes."""

    def __init__(self, size_bytes: int) -> None:
        self._system = get_system()
        if not self._system.protects_per_thread:
            raise OSError("this processor does not protect MAP_JIT pages by thread")
        self.size_bytes = size_bytes
        flags = PRIVATE | ANONYMOUS | MAP_JIT
        self.address = get_libc().mmap(size_bytes, READ | WRITE | EXECUTE, flags, -1)

    def write(self, pieces: Sequence[Piece]) -> None:
        """No bytecode runs between the first step and the last, so no signal handler and no finalizer does."""
        system = self._system
        steps = [partial(system.write_protect, 0)]
        steps += [partial(system.move, self.address + offset, data, len(data)) for offset, data in pieces]
        steps.append(partial(system.write_protect, 1))
        steps += [partial(system.invalidate, self.address + offset, len(data)) for offset, data in pieces]
        steps_run: deque[object] = deque(maxlen=0)
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            steps_run.extend(map(partial.__call__, steps))
        finally:
            if was_enabled:
                gc.enable()

    def release(self) -> None:
        """Unmap the pages."""
        get_libc().munmap(self.address, self.size_bytes)


def _jit(size_bytes: int) -> Executable:
    return JitMemory(size_bytes)


def _pages(size_bytes: int) -> Executable:
    return PageMemory(size_bytes, get_system().invalidate)


LADDER: tuple[Rung, ...] = (
    Rung("MAP_JIT", _jit, True, "sign the interpreter with the entitlement com.apple.security.cs.allow-jit"),
    Rung(
        "anonymous pages",
        _pages,
        False,
        "sign the interpreter with the entitlement com.apple.security.cs.allow-unsigned-executable-memory",
    ),
)
