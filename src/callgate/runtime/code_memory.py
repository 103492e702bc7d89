"""Executable memory: where code is published and whence it is freed.

Code lies in arenas.  An arena is a file without a name (a memfd, or an unlinked temporary file) that is mapped
readable and executable; code gets there by `pwrite` to the file, so no address is ever writable and executable, and
none of the arena's addresses is ever writable.  Where the system refuses executable file mappings, fresh anonymous
pages are written and then made executable, a page range for each publication.  Where that is refused too, EngineError
says so and the ctypes engine serves.

An arena begins with its literal table: 8-byte slots with the addresses that code reaches by R_X86_64_GOTPCREL.

A forked child shares the pages of a file with its parent.  So it abandons the arenas it inherits: their code stays
callable, nothing is written to them or reused in them, and new code goes to arenas of the child's own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from callgate.asm.code import Code
from callgate.errors import EngineError

ARENA_BYTES = 1 << 16
TABLE_BYTES = 1 << 11  # 256 literals; gates and routines together use some 60
_ALIGNMENT = 32
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_SHARED, _MAP_PRIVATE, _MAP_ANONYMOUS = 1, 2, 0x20
_MAP_FAILED = ctypes.c_void_p(-1).value

Resolve = Callable[[str], int]


class Extent(NamedTuple):
    """A free range of an arena, offsets in bytes."""

    offset: int
    size_bytes: int


class Block:
    """Published code; its memory is free for other code once the block is unreferenced."""

    __slots__ = ("__weakref__", "address", "arena", "offset", "size_bytes")

    def __init__(self, arena: Arena, offset: int, size_bytes: int) -> None:
        self.arena = arena
        self.offset = offset
        self.size_bytes = size_bytes
        self.address = arena.address + offset

    def __del__(self) -> None:
        self.arena.free(self.offset, self.size_bytes)


class _Libc:
    """mmap and its kin, with their errors raised."""

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

    def mmap(self, size_bytes: int, protection: int, flags: int, descriptor: int) -> int:
        address: int = self._mmap(None, size_bytes, protection, flags, descriptor, 0)
        if address == _MAP_FAILED:
            self._raise("mmap")
        return address

    def munmap(self, address: int, size_bytes: int) -> None:
        if self._munmap(address, size_bytes):
            self._raise("munmap")

    def mprotect(self, address: int, size_bytes: int, protection: int) -> None:
        if self._mprotect(address, size_bytes, protection):
            self._raise("mprotect")

    def _raise(self, call: str) -> None:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


_libc: _Libc | None = None


def _get_libc() -> _Libc:
    global _libc  # noqa: PLW0603  # one per process, made when first needed
    if _libc is None:
        _libc = _Libc()
    return _libc


class Arena:
    """One executable mapping, its literal table and its free extents.

    `free` may run at any moment (it is called when a block dies), also while `allocate` runs in the same thread, so
    freed extents are only appended to a list, which is atomic, and merged by the next `allocate`.
    """

    def __init__(self, address: int, size_bytes: int, write: Callable[[bytes, int], None], close: Callable[[], None]):
        self.address = address
        self.size_bytes = size_bytes
        self._write = write
        self._close = close
        self._libc = _get_libc()
        self._literals: dict[str, int] = {}
        self._free = [Extent(TABLE_BYTES, size_bytes - TABLE_BYTES)]
        self._returned: list[Extent] = []
        self.pid = os.getpid()

    def allocate(self, size_bytes: int) -> int | None:
        """The offset of a free range, or None where there is none so large."""
        if self._returned:
            self._merge()
        for index, (offset, free_bytes) in enumerate(self._free):
            if free_bytes >= size_bytes:
                if free_bytes == size_bytes:
                    del self._free[index]
                else:
                    self._free[index] = Extent(offset + size_bytes, free_bytes - size_bytes)
                return offset
        return None

    def free(self, offset: int, size_bytes: int) -> None:
        """Give a range back."""
        self._returned.append(Extent(offset, size_bytes))

    def _merge(self) -> None:
        extents = self._free
        while self._returned:
            extents.append(self._returned.pop())
        extents.sort()
        merged = [extents[0]]
        for offset, size_bytes in extents[1:]:
            last = merged[-1]
            if last.offset + last.size_bytes == offset:
                merged[-1] = Extent(last.offset, last.size_bytes + size_bytes)
            else:
                merged.append(Extent(offset, size_bytes))
        self._free = merged

    @property
    def used_bytes(self) -> int:
        """How much is taken by blocks that live."""
        free = sum(extent.size_bytes for extent in self._free) + sum(extent.size_bytes for extent in self._returned)
        return self.size_bytes - TABLE_BYTES - free

    def write(self, code: Code, offset: int, resolve: Resolve) -> None:
        """Write code at an offset, its literals resolved through the arena's table."""
        data = bytearray(code.data)
        for site, kind, symbol, addend in code.relocations:
            if kind != "R_X86_64_GOTPCREL":
                raise AssertionError(f"unknown relocation {kind}")
            slot = self._literals.get(symbol)
            if slot is None:
                slot = 8 * len(self._literals)
                if slot >= TABLE_BYTES:
                    raise AssertionError("the literal table is full")
                self._write(struct.pack("<Q", resolve(symbol)), slot)
                self._literals[symbol] = slot
            struct.pack_into("<i", data, site, slot + addend - (offset + site))  # G + GOT + A - P
        self._write(bytes(data), offset)

    def __del__(self) -> None:
        self._close()
        self._libc.munmap(self.address, self.size_bytes)


def _map_file(descriptor: int) -> Arena:
    """An arena over a file; the descriptor is the arena's from now on."""
    try:
        os.ftruncate(descriptor, ARENA_BYTES)
        address = _get_libc().mmap(ARENA_BYTES, _PROT_READ | _PROT_EXEC, _MAP_SHARED, descriptor)
    except OSError:
        os.close(descriptor)
        raise

    def write(data: bytes, offset: int) -> None:
        if os.pwrite(descriptor, data, offset) != len(data):
            raise OSError("pwrite to executable memory was cut short")

    return Arena(address, ARENA_BYTES, write, lambda close=os.close: close(descriptor))  # type: ignore[misc]


def memfd_arena() -> Arena:
    """An arena over a memfd; OSError where the system refuses it."""
    return _map_file(os.memfd_create("callgate", os.MFD_CLOEXEC))


def file_arena() -> Arena:
    """An arena over an unlinked temporary file; OSError where no folder for one may be mapped executable."""
    import tempfile  # only this rung needs it

    problem: OSError | None = None
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), os.path.expanduser("~"), "/dev/shm"):
        if not folder:
            continue
        try:
            descriptor, path = tempfile.mkstemp(prefix="callgate-", dir=folder)
            os.unlink(path)
            return _map_file(descriptor)
        except OSError as error:
            problem = error
    raise problem or OSError("no folder for a temporary file")


def page_arena(size_bytes: int = ARENA_BYTES) -> Arena:
    """An arena for one publication: anonymous pages, written first and executable afterwards."""
    libc = _get_libc()
    size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    address = libc.mmap(size_bytes, _PROT_READ | _PROT_WRITE, _MAP_PRIVATE | _MAP_ANONYMOUS, -1)

    def write(data: bytes, offset: int) -> None:
        ctypes.memmove(address + offset, data, len(data))

    return Arena(address, size_bytes, write, lambda: None)


def _probe_pages() -> None:
    arena = page_arena(mmap.PAGESIZE)
    _get_libc().mprotect(arena.address, arena.size_bytes, _PROT_READ | _PROT_EXEC)


class CodeMemory:
    """All arenas of the process; safe to use from any thread and across fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arenas: list[Arena] = []
        self._make: Callable[[], Arena] | None = None
        self.rung = ""
        os.register_at_fork(after_in_child=self._abandon)

    def _abandon(self) -> None:
        """In a forked child: a new lock (another thread may have held it), and no arena to write to."""
        self._lock = threading.Lock()
        self._arenas = []

    def _choose(self) -> None:
        """Climb down the ladder until something is allowed."""
        reasons = []
        for rung, make in (("memfd", memfd_arena), ("file", file_arena)):
            try:
                self._arenas.append(make())
            except (OSError, AttributeError) as problem:  # AttributeError: no memfd_create
                reasons.append(f"{rung}: {problem}")
                continue
            self._make, self.rung = make, rung
            return
        try:
            _probe_pages()
        except OSError as problem:
            reasons.append(f"anonymous pages: {problem}")
            raise EngineError(f"executable memory is refused here ({'; '.join(reasons)})") from problem
        self.rung = "anonymous pages"

    def publish(self, code: Code, resolve: Resolve) -> Block:
        """Bring code into executable memory; EngineError where the system refuses.

        `resolve` gives the address of a symbol.  Costs one `pwrite` where its literals are known.
        """
        size_bytes = -(-len(code.data) // _ALIGNMENT) * _ALIGNMENT
        with self._lock:
            if not self.rung:
                self._choose()
            pid = os.getpid()
            if self._arenas and self._arenas[0].pid != pid:  # a fork that Python did not see
                self._arenas = []
            if self._make is None:
                return self._publish_pages(code, size_bytes, resolve)
            if size_bytes > ARENA_BYTES - TABLE_BYTES:
                raise EngineError(f"a gate of {size_bytes} bytes is larger than an arena")
            for arena in reversed(self._arenas):
                offset = arena.allocate(size_bytes)
                if offset is not None:
                    break
            else:
                self._arenas = [arena for arena in self._arenas if arena.used_bytes]
                try:
                    arena = self._make()
                except OSError as problem:
                    raise EngineError(f"executable memory is refused here: {problem}") from problem
                self._arenas.append(arena)
                offset = arena.allocate(size_bytes)
                assert offset is not None  # it is empty
            arena.write(code, offset, resolve)
            return Block(arena, offset, size_bytes)

    def _publish_pages(self, code: Code, size_bytes: int, resolve: Resolve) -> Block:
        try:
            arena = page_arena(TABLE_BYTES + size_bytes)
            offset = arena.allocate(size_bytes)
            assert offset is not None  # it is empty
            arena.write(code, offset, resolve)
            _get_libc().mprotect(arena.address, arena.size_bytes, _PROT_READ | _PROT_EXEC)
        except OSError as problem:
            raise EngineError(f"executable memory is refused here: {problem}") from problem
        return Block(arena, offset, size_bytes)

    def used_bytes(self) -> int:
        """How many bytes of the arenas are taken by code that lives (anonymous pages are not counted)."""
        with self._lock:
            return sum(arena.used_bytes for arena in self._arenas)


MEMORY = CodeMemory()
