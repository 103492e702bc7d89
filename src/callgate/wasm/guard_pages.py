"""Memory with guard pages: addresses that are reserved, of which as many may be touched as the memory has bytes."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Final

from callgate.errors import EngineError
from callgate.runtime.posix_memory import ANONYMOUS, PRIVATE, READ, WRITE, get_libc
from callgate.target import HOST, X86_64_LINUX
from callgate.wasm.compile.layout import RESERVED_BYTES

_NO_ACCESS: Final = 0
_NO_RESERVE: Final = 0x4000  # MAP_NORESERVE of Linux


def is_guarded(bounds: str) -> bool:
    """What `bounds=` asks for; ValueError for what is neither, EngineError where guard pages cannot be had."""
    if bounds not in ("checked", "guarded"):
        raise ValueError(f'bounds={bounds!r} is neither "checked" nor "guarded"')
    if bounds == "guarded" and HOST != X86_64_LINUX:
        raise EngineError('guard pages are there on x86-64 Linux only; use bounds="checked"')
    return bounds == "guarded"


def reserve() -> Any:
    """All addresses that an access can reach, none of which may be touched yet, as an array of bytes.

    They are given back when the array and all views of it are gone.
    """
    try:
        address = get_libc().mmap(RESERVED_BYTES, _NO_ACCESS, PRIVATE | ANONYMOUS | _NO_RESERVE, -1)
    except OSError as problem:
        raise MemoryError(
            f"the system refuses to reserve the {RESERVED_BYTES} bytes of addresses that guard pages take ({problem}); "
            'allow the process more addresses (ulimit -v), or use bounds="checked"'
        ) from None
    array = (ctypes.c_ubyte * RESERVED_BYTES).from_address(address)
    weakref.finalize(array, get_libc().munmap, address, RESERVED_BYTES).atexit = False  # type: ignore[misc]
    return array


def open_pages(address: int, size_bytes: int) -> bool:
    """Let a part of what is reserved be read and written; False where the system refuses."""
    if size_bytes:
        try:
            get_libc().mprotect(address, size_bytes, READ | WRITE)
        except OSError:
            return False
    return True
