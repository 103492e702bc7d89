"""Executable memory of Linux: files without a name, written by `pwrite`; or pages written first and executable then.

A file that is mapped readable and executable, and written as a file, has no writable address at all.  A memfd is such
a file.  Where it is refused, anonymous pages are written and made executable; where that is (MemoryDenyWriteExecute),
a temporary file on a file system that allows execution.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence

from callgate.runtime.executable import Executable, Piece, Rung
from callgate.runtime.posix_memory import EXECUTE, PRIVATE, READ, SHARED, PageMemory, get_libc
from callgate.target import DATA_MODEL

_flush: Callable[[int, int], object] | None = None


def get_flush() -> Callable[[int, int], object]:
    """How the processors get to see new instructions; OSError where that needs a library that is not here."""
    global _flush  # noqa: PLW0603  # found once
    if _flush is None:
        _flush = _find_flush(DATA_MODEL.architecture)
    return _flush


def _find_flush(architecture: str) -> Callable[[int, int], object]:
    if architecture == "x86_64":  # its caches see every write (Intel SDM 3A 12.6)
        return lambda address, size_bytes: None
    try:
        clear = ctypes.CDLL("libgcc_s.so.1")["__clear_cache"]
    except (OSError, AttributeError) as problem:
        raise OSError(f"the instruction cache cannot be cleared without libgcc: {problem}") from None
    clear.argtypes, clear.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    return lambda address, size_bytes: clear(address, address + size_bytes)


class FileMemory:
    """A file without a name; the descriptor is this object's from now on.

    A program may close descriptors that are not its own (daemons do) and open others under their numbers.  So before
    anything is written or closed, the descriptor must still be that of the file.
    """

    def __init__(self, descriptor: int, size_bytes: int, sharing: int) -> None:
        self.size_bytes = size_bytes
        self._descriptor = descriptor
        try:
            self._flush = get_flush()
            os.ftruncate(descriptor, size_bytes)
            self._status = os.fstat(descriptor)
            self.address = get_libc().mmap(size_bytes, READ | EXECUTE, sharing, descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def write(self, pieces: Sequence[Piece]) -> None:
        """Write to the file; what the mapping then shows is compared, which no standard promises for a private one."""
        self._check()
        for offset, data in pieces:
            if os.pwrite(self._descriptor, data, offset) != len(data):
                raise OSError("pwrite to executable memory was cut short")
        for offset, data in pieces:
            if ctypes.string_at(self.address + offset, len(data)) != data:
                raise OSError("what is written to the file does not show where it is mapped")
            self._flush(self.address + offset, len(data))

    def _check(self) -> None:
        if not os.path.samestat(self._status, os.fstat(self._descriptor)):
            raise OSError("the descriptor of executable memory was closed and used again")

    def release(self) -> None:
        """Close the file, if it is still there, and unmap it."""
        try:
            self._check()
            os.close(self._descriptor)
        except OSError:
            pass  # closed already
        get_libc().munmap(self.address, self.size_bytes)


def _memfd(size_bytes: int) -> Executable:
    if not hasattr(os, "memfd_create"):
        raise OSError("there is no memfd_create")
    return FileMemory(os.memfd_create("callgate", os.MFD_CLOEXEC), size_bytes, SHARED)


def _pages(size_bytes: int) -> Executable:
    return PageMemory(size_bytes, get_flush())


def folders() -> list[str]:
    """Where a temporary file may be executable, in the order of trial."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    named = [os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR") or "/tmp", cache, "/var/tmp", "/dev/shm"]
    return list(dict.fromkeys(folder for folder in named if folder))


def _file(size_bytes: int) -> Executable:
    import tempfile  # only this rung needs it

    reasons = []
    for folder in folders():
        try:
            descriptor, path = tempfile.mkstemp(prefix="callgate-", dir=folder)
            os.unlink(path)
            # Private: policies that refuse shared executable mappings let those of libraries pass, which are private
            memory = FileMemory(descriptor, size_bytes, PRIVATE)
            try:
                os.posix_fallocate(descriptor, 0, size_bytes)  # a full disk says so now, not when code is written
            except OSError:
                memory.release()
                raise
            return memory
        except OSError as problem:
            reasons.append(f"{folder}: {problem.strerror or problem}")
    raise OSError(", ".join(reasons))


LADDER: tuple[Rung, ...] = (
    Rung(
        "memfd",
        _memfd,
        True,
        "allow memfd_create and executable mappings of what it makes (in the seccomp filter or the security policy)",
    ),
    Rung(
        "anonymous pages",
        _pages,
        False,
        "allow memory to become executable (systemd: MemoryDenyWriteExecute=no; SELinux: execmem; seccomp: mprotect)",
    ),
    Rung(
        "file",
        _file,
        True,
        "set XDG_RUNTIME_DIR or TMPDIR to a folder of yours on a file system that is not mounted noexec",
    ),
)
