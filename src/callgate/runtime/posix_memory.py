"""mmap and its kin, with their errors raised, and the pages that every POSIX system has."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence

from callgate.runtime.executable import Piece

READ, WRITE, EXECUTE = 1, 2, 4  # PROT_…
SHARED, PRIVATE, FIXED = 1, 2, 0x10  # MAP_…, the same on Linux and macOS
ANONYMOUS: int = getattr(mmap, "MAP_ANONYMOUS", 0x20)
_MAP_FAILED = ctypes.c_void_p(-1).value


def in_pages(size_bytes: int) -> int:
    """The size rounded up to whole pages."""
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


class Libc:
    """The functions of the C library that map memory."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._mmap = libc.mmap
        self._mmap.restype = ctypes.c_void_p
        self._mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        ]
        self._munmap = libc.munmap
        self._munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._mprotect = libc.mprotect
        self._mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def mmap(self, size_bytes: int, protection: int, flags: int, descriptor: int, address: int | None = None) -> int:
        """Map memory (at `address` with FIXED); its address."""
        mapped: int = self._mmap(address, size_bytes, protection, flags, descriptor, 0)
        if mapped == _MAP_FAILED:
            self._raise("mmap")
        return mapped

    def munmap(self, address: int, size_bytes: int) -> None:
        """Take a mapping away."""
        if self._munmap(address, size_bytes):
            self._raise("munmap")

    def mprotect(self, address: int, size_bytes: int, protection: int) -> None:
        """Change what may be done with pages."""
        if self._mprotect(address, size_bytes, protection):
            self._raise("mprotect")

    def _raise(self, call: str) -> None:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


_libc: Libc | None = None


def get_libc() -> Libc:
    """The process's one, made when first needed."""
    global _libc  # noqa: PLW0603  # one per process
    if _libc is None:
        _libc = Libc()
    return _libc


class PageMemory:
    """Anonymous pages that are written once and then made executable.

    `flush(address, size_bytes)` lets the processors see new instructions.
    """

    def __init__(self, size_bytes: int, flush: Callable[[int, int], object]) -> None:
        self.size_bytes = size_bytes
        self._flush = flush
        self.address = get_libc().mmap(size_bytes, READ | WRITE, PRIVATE | ANONYMOUS, -1)

    def write(self, pieces: Sequence[Piece]) -> None:
        """Once: then the pages are executable, and no longer writable."""
        for offset, data in pieces:
            ctypes.memmove(self.address + offset, data, len(data))
        get_libc().mprotect(self.address, self.size_bytes, READ | EXECUTE)
        self._flush(self.address, self.size_bytes)

    def release(self) -> None:
        """Unmap the pages."""
        get_libc().munmap(self.address, self.size_bytes)
