"""Executable memory: where code is published and whence it is freed.

Code lies in arenas.  An arena is memory of the system that is read and executed at its address and written by other
ways (`linux_memory`, `windows_memory`, `macos_memory`): no address is ever writable and executable.  Each system has a
ladder of such ways, climbed down until one is allowed.  On the lower rungs memory is written once, so each publication
gets pages of its own.  Where every rung is refused, EngineError says so and the ctypes engine serves.

An arena begins with its literal table: 8-byte slots with the addresses that code reaches by R_X86_64_GOTPCREL or
R_AARCH64_LD_PREL_LO19.

A forked child shares the pages of a file with its parent.  So the child abandons the arenas it inherits: their code
stays callable, nothing is written to them or reused in them, and new code goes to arenas of the child's own.  The
parent, too, reuses no memory whose code the child may still call: what lived at the fork is retired when it is freed.
So is what was being published (a signal handler may fork): the child goes on, and writes the same bytes once more.
(Of a fork behind Python's back, by C's own fork(), only the child learns: its parent may then reuse freed memory.)
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from callgate.asm.code import Code, relocate
from callgate.errors import EngineError
from callgate.runtime.executable import Executable, Piece, Rung
from callgate.runtime.lifetime import untrack
from callgate.runtime.posix_memory import in_pages
from callgate.runtime.process_bound import not_copied
from callgate.target import IS_MACOS, IS_WINDOWS

if IS_WINDOWS:
    from callgate.runtime.windows_memory import LADDER
elif IS_MACOS:
    from callgate.runtime.macos_memory import LADDER
else:
    from callgate.runtime.linux_memory import LADDER

ARENA_BYTES = 1 << 16
TABLE_BYTES = 1 << 11  # 256 literals; gates and routines together use some 60
_ALIGNMENT = 64  # a line of the instruction cache

RUNGS = tuple(rung.name for rung in LADDER)
"""The names of this system's rungs, the best first."""

Resolve = Callable[[str], int]


class Extent(NamedTuple):
    """A free range of an arena, offsets in bytes."""

    offset: int
    size_bytes: int


class Block:
    """Published code; its memory is free for other code once the block is unreferenced."""

    __slots__ = ("__weakref__", "address", "arena", "extent", "forks")
    __reduce__ = not_copied("make the code there")

    def __init__(self, arena: Arena, extent: Extent, forks: int) -> None:
        """`forks`: how many there had been when the publication began."""
        self.arena = arena
        self.extent = extent
        self.address = arena.address + extent.offset
        self.forks = forks
        untrack(self)

    def __del__(self) -> None:
        self.arena.free(self.extent, self.forks)


class Arena:
    """One executable mapping, its literal table and its free extents.

    `free` may run at any moment (it is called when a block dies), also while `allocate` runs in the same thread, so
    freed extents are only appended to a list, which is atomic, and merged by the next `allocate`.
    """

    def __init__(self, memory: Executable) -> None:
        self.address = memory.address
        self.size_bytes = memory.size_bytes
        self.forks = 0  # of the process, as long as it writes to the arena
        self._memory = memory
        self._slots: dict[int, int] = {}  # where in the table an address stands
        self._free = [Extent(TABLE_BYTES, memory.size_bytes - TABLE_BYTES)]
        self._returned: list[Extent] = []
        self._retired: list[Extent] = []  # freed, but a forked child may run it
        self._allocated = 0

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
                self._allocated += 1
                return offset
        return None

    def free(self, extent: Extent, forks: int = 0) -> None:
        """Give a range back that was allocated after so many forks."""
        (self._returned if forks == self.forks else self._retired).append(extent)

    def _merge(self) -> None:
        extents = self._free
        while self._returned:
            extents.append(self._returned.pop())
            self._allocated -= 1
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
        unused = [*self._free, *self._returned, *self._retired]
        return self.size_bytes - TABLE_BYTES - sum(extent.size_bytes for extent in unused)

    @property
    def is_unused(self) -> bool:
        """Whether no block in it lives."""
        return self._allocated == len(self._returned) + len(self._retired)

    def has_slots(self, addresses: set[int]) -> bool:
        """Whether the literal table has or can take these addresses."""
        return 8 * len(self._slots.keys() | addresses) <= TABLE_BYTES

    def write(self, code: Code, offset: int, resolve: Resolve) -> None:
        """Write code at an offset, its literals resolved through the arena's table."""
        data = bytearray(code.data)
        slots = dict(self._slots)
        pieces = []
        for site, kind, symbol, addend in code.relocations:
            address = resolve(symbol)
            slot = slots.get(address)
            if slot is None:
                slot = slots[address] = 8 * len(slots)
                pieces.append(Piece(slot, struct.pack("<Q", address)))
            relocate(data, site, kind, slot + addend - (offset + site))
        pieces.append(Piece(offset, bytes(data)))
        self._memory.write(pieces)
        self._slots = slots

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_finalizing():  # the process's end unmaps as well, and gates may be called until then
            self._memory.release()


class _Process:
    """The arenas that one process writes to."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.arenas: list[Arena] = []
        self.forks = 0
        self.is_publishing = False


class CodeMemory:
    """All arenas of the process; safe to use from any thread, from finalizers and signal handlers, and across fork."""

    def __init__(self, ladder: tuple[Rung, ...] = LADDER) -> None:
        self.ladder = ladder
        self._processes: dict[int, _Process] = {}
        self._refusals: dict[str, str] = {}
        self.rung = ""  # of the ladder: where the first publication found memory

    @property
    def refusals(self) -> Mapping[str, str]:
        """The rungs that were refused, each with the reason that the system gave last."""
        return MappingProxyType(self._refusals)

    def _process(self) -> _Process:
        """This process's arenas; in a forked child new ones, with a new lock (another thread may have held it)."""
        pid = os.getpid()
        process = self._processes.get(pid)
        if process is None:
            process = self._processes.setdefault(pid, _Process())
            for other in self._processes.keys() - {pid}:
                self._processes.pop(other, None)
        return process

    def prepare_fork(self) -> None:
        """Before a fork: let no other thread publish until it is over."""
        self._process().lock.acquire()

    def end_fork(self) -> None:
        """After a fork, in the parent: retire what the child may call."""
        process = self._process()
        process.forks += 1
        for arena in process.arenas:
            arena.forks = process.forks
        process.lock.release()

    def publish(self, code: Code, resolve: Resolve) -> Block:
        """Bring code into executable memory; EngineError where the system refuses.

        `resolve` gives the address of a symbol.  Costs one `pwrite` where its literals are known.
        """
        addresses = {relocation.symbol: resolve(relocation.symbol) for relocation in code.relocations}
        size_bytes = -(-len(code.data) // _ALIGNMENT) * _ALIGNMENT
        process = self._process()
        with process.lock:
            forks = process.forks
            if process is not self._process():  # a signal handler has forked meanwhile
                return self.publish(code, resolve)
            # A finalizer or a signal handler may publish while this thread does: it writes to a new arena
            is_nested, process.is_publishing = process.is_publishing, True
            try:
                arena, offset = self._place(process, code, size_bytes, addresses, is_nested)
            finally:
                process.is_publishing = is_nested
            if len(process.arenas) > 1:
                process.arenas = [other for other in process.arenas if other is arena or not other.is_unused]
            return Block(arena, Extent(offset, size_bytes), forks)

    def _place(
        self, process: _Process, code: Code, size_bytes: int, addresses: dict[str, int], is_nested: bool
    ) -> tuple[Arena, int]:
        """Write code into an arena that has room, or into a new one."""
        for arena in [] if is_nested else process.arenas[::-1]:
            offset = self._write(arena, code, size_bytes, addresses)
            if offset is not None:
                return arena, offset
        wanted_bytes = in_pages(TABLE_BYTES + size_bytes)
        names = [rung.name for rung in self.ladder]
        for name, allocate, is_refillable, _ in self.ladder[names.index(self.rung) if self.rung else 0 :]:
            try:
                arena = Arena(allocate(max(wanted_bytes, ARENA_BYTES) if is_refillable else wanted_bytes))
                offset = arena.allocate(size_bytes)
                assert offset is not None  # it is empty
                arena.write(code, offset, addresses.__getitem__)
            except OSError as problem:
                self._refusals[name] = str(problem)
                continue
            if is_refillable:
                arena.forks = process.forks
                process.arenas.append(arena)
            self.rung = self.rung or name
            return arena, offset
        reasons = "; ".join(f"{name}: {self._refusals[name]}" for name in names if name in self._refusals)
        raise EngineError(f"executable memory is refused here ({reasons}); `callgate doctor` says what to do")

    def _write(self, arena: Arena, code: Code, size_bytes: int, addresses: dict[str, int]) -> int | None:
        """Write code into an arena in use; None where it has no room or can no longer be written."""
        if not arena.has_slots(set(addresses.values())):
            return None
        forks = arena.forks
        offset = arena.allocate(size_bytes)
        if offset is not None:
            try:
                arena.write(code, offset, addresses.__getitem__)
            except (OSError, EngineError):  # a full disk, a lost descriptor, literals out of reach
                arena.free(Extent(offset, size_bytes), forks)
                return None
        return offset

    def used_bytes(self) -> int:
        """How many bytes of this process's arenas are taken by code that lives (anonymous pages are not counted)."""
        process = self._process()
        with process.lock:
            return sum(arena.used_bytes for arena in process.arenas)


MEMORY = CodeMemory()

if hasattr(os, "register_at_fork"):
    # In the child `_process` sees the new process id.
    os.register_at_fork(before=MEMORY.prepare_fork, after_in_parent=MEMORY.end_fork)
