"""Linear memories, as Python sees them.

A memory is reserved once, as large as it may ever become, so that it never moves: views stay valid when it grows, and
compiled code keeps its address in a register.  The system gives pages when they are touched first.  With guard pages
all addresses that an access can reach are reserved, and those behind the memory's end may not be touched.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.errors import OutOfBounds
from callgate.wasm.guard_pages import is_guarded, open_pages, reserve
from callgate.wasm.types import MOST_PAGES, PAGE_BYTES, Limits, MemoryType

_NO_RESERVE: Final = 0x4000 if sys.platform.startswith("linux") else 0
_CHUNK_BYTES: Final = 1 << 12


class Memory:
    """A linear memory: `Memory(1, 16)` has one page of 64 KiB and may grow to 16.

    Addresses are ints from 0; what lies outside raises OutOfBounds.  Raises MemoryError where the system refuses to
    reserve `maximum_pages`.  `bounds="guarded"` gives it guard pages: modules that are compiled so need them, others
    may use it as well; EngineError where there are none.

    >>> memory = Memory(1, 16)
    >>> memory.write(8, b"hello")
    >>> memory.read(8, 5), memory.size_bytes
    (b'hello', 65536)
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_mapping",
        "_pages",
        "_watchers",
        "data",
        "is_guarded",
        "maximum_pages",
        "type",
    )

    def __init__(
        self,
        minimum_pages: int,
        maximum_pages: int | None = None,
        *,
        most_bytes: int | None = None,
        bounds: str = "checked",
    ) -> None:
        self.is_guarded = is_guarded(bounds)
        most = MOST_PAGES if maximum_pages is None else maximum_pages
        if not 0 <= minimum_pages <= most <= MOST_PAGES:
            raise ValueError(f"a memory has from 0 to {MOST_PAGES} pages, not {minimum_pages} to {most}")
        if most_bytes is not None:
            most = min(most, most_bytes // PAGE_BYTES)
            if minimum_pages > most:
                raise MemoryError(
                    f"the module asks for {minimum_pages * PAGE_BYTES} bytes of memory, "
                    f"Limits.memory_bytes is {most_bytes}"
                )
        self.type = MemoryType(Limits(minimum_pages, maximum_pages))
        self.maximum_pages = most
        self._pages = minimum_pages
        self._watchers: list[Callable[[int], None]] = []  # who wants to know the size when it grows
        self._mapping: Any = reserve() if self.is_guarded else _reserve(most * PAGE_BYTES)
        self.data = memoryview(self._mapping).cast("B")
        self._address = 0
        if self.is_guarded and not open_pages(self.address, self.size_bytes):
            raise MemoryError(f"the system refuses {self.size_bytes} bytes of memory")

    def __repr__(self) -> str:
        return f"<wasm memory of {self._pages} pages, {self.maximum_pages} at most>"

    @property
    def size_bytes(self) -> int:
        """How large it is now."""
        return self._pages * PAGE_BYTES

    @property
    def pages(self) -> int:
        """How large it is now, in pages of 64 KiB."""
        return self._pages

    @property
    def address(self) -> int:
        """Where it lies in the host's memory."""
        if not self._address:
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        return self._address

    def grow(self, pages: int, /) -> int:
        """Make it larger by so many pages; the number it had, or -1 where that is too much."""
        before = self._pages
        if pages < 0 or before + pages > self.maximum_pages:
            return -1
        if self.is_guarded and not open_pages(self.address + before * PAGE_BYTES, pages * PAGE_BYTES):
            return -1
        self._pages = before + pages
        for tell in self._watchers:
            tell(self.size_bytes)
        return before

    def _check(self, address: int, size_bytes: int) -> None:
        if address < 0 or size_bytes < 0 or address + size_bytes > self._pages * PAGE_BYTES:
            raise OutOfBounds(
                f"out of bounds memory access: {size_bytes} bytes at {address:#x} of a memory of {self.size_bytes}"
            )

    def read(self, address: int, size_bytes: int, /) -> bytes:
        """A copy of so many bytes."""
        self._check(address, size_bytes)
        return bytes(self.data[address : address + size_bytes])

    def write(self, address: int, data: bytes | bytearray | memoryview, /) -> None:
        """Copy bytes into it."""
        source = memoryview(data).cast("B")
        self._check(address, len(source))
        self.data[address : address + len(source)] = source

    def view(self, address: int = 0, size_bytes: int | None = None, /) -> memoryview:
        """The memory itself, from an address to the end that it has now, or so many bytes; valid across `grow`."""
        size_bytes = self.size_bytes - address if size_bytes is None else size_bytes
        self._check(address, size_bytes)
        return self.data[address : address + size_bytes]

    def read_int(self, address: int, size_bytes: int = 4, /, *, signed: bool = False) -> int:
        """A little-endian integer of 1 to 8 bytes."""
        return int.from_bytes(self.read(address, size_bytes), "little", signed=signed)

    def write_int(self, address: int, value: int, size_bytes: int = 4, /) -> None:
        """Write a little-endian integer; OverflowError where it does not fit, signed or unsigned."""
        self.write(address, value.to_bytes(size_bytes, "little", signed=value < 0))

    def read_float(self, address: int, size_bytes: int = 8, /) -> float:
        """A float of 8 or 4 bytes."""
        value: float = struct.unpack("<d" if size_bytes == 8 else "<f", self.read(address, size_bytes))[0]
        return value

    def write_float(self, address: int, value: float, size_bytes: int = 8, /) -> None:
        """Write a float of 8 or 4 bytes."""
        self.write(address, struct.pack("<d" if size_bytes == 8 else "<f", value))

    def read_string(self, address: int, most_bytes: int | None = None, /) -> bytes:
        """The bytes up to the next NUL; OutOfBounds where there is none."""
        end = self.size_bytes if most_bytes is None else min(self.size_bytes, address + most_bytes)
        self._check(address, 0)
        for start in range(address, end, _CHUNK_BYTES):
            found = bytes(self.data[start : min(end, start + _CHUNK_BYTES)]).find(0)
            if found >= 0:
                return bytes(self.data[address : start + found])
        raise OutOfBounds(f"out of bounds memory access: the string at {address:#x} has no end")


def _reserve(size_bytes: int) -> mmap.mmap:
    size_bytes = max(size_bytes, mmap.PAGESIZE)
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size_bytes)
        return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except (OSError, ValueError) as problem:
        raise MemoryError(
            f"the system refuses to reserve {size_bytes} bytes of memory ({problem}); "
            "give the memory a lower maximum with Limits(memory_bytes=...)"
        ) from None
