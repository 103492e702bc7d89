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
from operator import index
from typing import Any, Final, TypeVar

from callgate.c.names import FUNCTION_POINTER
from callgate.runtime.process_bound import not_copied
from callgate.wasm.errors import OutOfBounds
from callgate.wasm.guard_pages import is_guarded, open_pages, reserve
from callgate.wasm.types import MOST_PAGES, PAGE_BYTES, Limits, MemoryType

_NO_RESERVE: Final = 0x4000 if sys.platform.startswith("linux") else 0
S = TypeVar("S", bound="ctypes.Structure | ctypes.Union | ctypes.Array[Any]")

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
    __reduce__ = not_copied("send what `read` gives")

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
        before, pages = self._pages, index(pages)
        if pages < 0 or before + pages > self.maximum_pages:
            return -1
        if self.is_guarded and not open_pages(self.address + before * PAGE_BYTES, pages * PAGE_BYTES):
            return -1
        self._pages = before + pages
        for tell in self._watchers:
            tell(self.size_bytes)
        return before

    def _check(self, address: int, size_bytes: int) -> tuple[int, int]:
        address, size_bytes = index(address), index(size_bytes)
        if size_bytes < 0:
            raise ValueError(f"a size is not negative: {size_bytes}")
        if address < 0 or address + size_bytes > self._pages * PAGE_BYTES:
            raise OutOfBounds(
                f"out of bounds memory access: {size_bytes} bytes at {address:#x} of a memory of {self.size_bytes}"
            )
        return address, size_bytes

    def read(self, address: int, size_bytes: int, /) -> bytes:
        """A copy of so many bytes."""
        address, size_bytes = self._check(address, size_bytes)
        return bytes(self.data[address : address + size_bytes])

    def write(self, address: int, data: bytes | bytearray | memoryview, /) -> None:
        """Copy the bytes of any contiguous buffer into it."""
        source = memoryview(data).cast("B")
        address, size_bytes = self._check(address, len(source))
        self.data[address : address + size_bytes] = source

    def view(self, address: int = 0, size_bytes: int | None = None, /) -> memoryview:
        """The memory itself, from an address to the end that it has now, or so many bytes.

        It stays valid, and as long as it is, when the memory grows: `numpy.frombuffer(memory.view(), "<f8")`.
        """
        if size_bytes is None:
            size_bytes = max(0, self.size_bytes - index(address))
        address, size_bytes = self._check(address, size_bytes)
        return self.data[address : address + size_bytes]

    def read_int(self, address: int, size_bytes: int = 4, /, *, signed: bool = False) -> int:
        """A little-endian integer of 1 to 8 bytes."""
        _check_size(size_bytes, range(1, 9))
        return int.from_bytes(self.read(address, size_bytes), "little", signed=signed)

    def write_int(self, address: int, value: int, size_bytes: int = 4, /) -> None:
        """Write a little-endian integer; OverflowError where it does not fit, signed or unsigned."""
        _check_size(size_bytes, range(1, 9))
        value = index(value)
        if not -(1 << 8 * size_bytes - 1) <= value < 1 << 8 * size_bytes:
            raise OverflowError(f"{value} does not fit {size_bytes} bytes")
        self.write(address, (value & (1 << 8 * size_bytes) - 1).to_bytes(size_bytes, "little"))

    def read_float(self, address: int, size_bytes: int = 8, /) -> float:
        """A float of 8 or 4 bytes."""
        _check_size(size_bytes, (4, 8))
        value: float = struct.unpack("<d" if size_bytes == 8 else "<f", self.read(address, size_bytes))[0]
        return value

    def write_float(self, address: int, value: float, size_bytes: int = 8, /) -> None:
        """Write a float of 8 or 4 bytes."""
        _check_size(size_bytes, (4, 8))
        if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
            raise TypeError(f"a float is needed, not {type(value).__name__}")
        self.write(address, struct.pack("<d" if size_bytes == 8 else "<f", value))

    def read_string(self, address: int, most_bytes: int | None = None, /) -> bytes:
        """The bytes up to the next NUL; OutOfBounds where there is none."""
        address, _ = self._check(address, 0)
        end = self.size_bytes if most_bytes is None else min(self.size_bytes, address + index(most_bytes))
        for start in range(address, end, _CHUNK_BYTES):
            found = bytes(self.data[start : min(end, start + _CHUNK_BYTES)]).find(0)
            if found >= 0:
                return bytes(self.data[address : start + found])
        within = "" if most_bytes is None else f" in {index(most_bytes)} bytes; read(address, size) needs none"
        raise OutOfBounds(f"out of bounds memory access: the string at {address:#x} has no end{within}")

    def write_string(self, address: int, text: str | bytes, /) -> None:
        """Write a text (UTF-8) and a NUL; ValueError where it contains one."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        if b"\0" in data:
            raise ValueError("a C string must not contain a NUL: embedded null byte")
        self.write(address, data + b"\0")

    def read_struct(self, address: int, cls: type[S], /) -> S:
        """A copy of a Struct, or of any ctypes structure, union or array of them.

        The layout is that of the class: WebAssembly's C has 32-bit pointers, size_t and long, so write `u32` and `i32`
        for them; TypeError for a class that has pointers of the host.  `cls.from_buffer(memory.view(address))` is one
        that lies in the memory itself.
        """
        _check_class(cls)
        found: Any = cls.from_buffer_copy(self.read(address, ctypes.sizeof(cls)))
        return found  # type: ignore[no-any-return]

    def write_struct(self, address: int, value: ctypes.Structure | ctypes.Union | ctypes.Array[Any], /) -> None:
        """Write a struct; as `read_struct`."""
        _check_class(type(value))
        self.write(address, bytes(memoryview(value).cast("B")))


def _check_size(size_bytes: int, allowed: range | tuple[int, ...]) -> None:
    if size_bytes not in allowed:
        raise ValueError(f"a number has {allowed[0]} to {allowed[-1]} bytes, not {size_bytes!r}")


def _check_class(cls: Any) -> None:
    if not isinstance(cls, type) or not issubclass(cls, (ctypes.Structure, ctypes.Union, ctypes.Array)):
        raise TypeError(f"a Struct or a ctypes structure is needed, not {cls!r}")
    pointer = _pointer_in(cls)
    if pointer:
        raise TypeError(f"{pointer} is a pointer of the host; in a module's memory pointers are u32")


def _pointer_in(cls: Any, where: str = "") -> str:
    """The first member that is a pointer."""
    where = where or cls.__name__
    if issubclass(cls, ctypes.Array):
        return _pointer_in(cls._type_, f"{where}[]")
    if issubclass(cls, (ctypes.Structure, ctypes.Union)):
        found = (_pointer_in(member[1], f"{where}.{member[0]}") for member in getattr(cls, "_fields_", ()))
        return next((one for one in found if one), "")
    is_pointer = issubclass(cls, (ctypes._Pointer, FUNCTION_POINTER)) or getattr(cls, "_type_", "") in (
        "z",
        "Z",
        "P",
        "O",
    )
    return where if is_pointer else ""


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
