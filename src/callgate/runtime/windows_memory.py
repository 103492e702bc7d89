"""Executable memory of Windows: a section with two views, or pages that are written and then made executable.

A section (a file mapping without a file) is seen readable and executable at one address for as long as it lives, and
readable and writable at another only while it is written.  Both ways are refused to a process with the policy
"prohibit dynamic code" (SetProcessMitigationPolicy, ProcessDynamicCodePolicy).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from callgate.runtime.executable import Executable, Piece, Rung

# winnt.h, memoryapi.h
PAGE_READWRITE = 0x04
PAGE_EXECUTE_READ = 0x20
PAGE_EXECUTE_READWRITE = 0x40
MEM_COMMIT = 0x1000
MEM_RESERVE = 0x2000
MEM_RELEASE = 0x8000
FILE_MAP_WRITE = 0x02
FILE_MAP_READ = 0x04
FILE_MAP_EXECUTE = 0x20
INVALID_HANDLE_VALUE = ctypes.c_void_p(-1).value

_DWORD, _BOOL, _HANDLE, _ADDRESS, _SIZE = (
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {  # the result first
    "VirtualAlloc": (_ADDRESS, _ADDRESS, _SIZE, _DWORD, _DWORD),
    "VirtualProtect": (_BOOL, _ADDRESS, _SIZE, _DWORD, ctypes.c_void_p),
    "VirtualFree": (_BOOL, _ADDRESS, _SIZE, _DWORD),
    "CreateFileMappingW": (_HANDLE, _HANDLE, ctypes.c_void_p, _DWORD, _DWORD, _DWORD, ctypes.c_wchar_p),
    "MapViewOfFile": (_ADDRESS, _HANDLE, _DWORD, _DWORD, _DWORD, _SIZE),
    "UnmapViewOfFile": (_BOOL, _ADDRESS),
    "CloseHandle": (_BOOL, _HANDLE),
    "GetCurrentProcess": (_HANDLE,),
    "FlushInstructionCache": (_BOOL, _HANDLE, _ADDRESS, _SIZE),
}


class Kernel32:
    """The functions of kernel32 that map memory; a result of zero is raised as OSError."""

    def __init__(self, library: Any) -> None:
        self._functions: dict[str, Any] = {}
        for name, (result, *parameters) in _PROTOTYPES.items():
            function = self._functions[name] = library[name]
            function.restype, function.argtypes = result, parameters

    def call(self, name: str, *arguments: Any) -> int:
        """Call one; what it returns."""
        result: int = self._functions[name](*arguments)
        if not result:
            code: int = vars(ctypes)["get_last_error"]()
            text = str(vars(ctypes)["FormatError"](code)).strip()
            raise OSError(f"{name}: {text} (error {code})")
        return result

    def flush(self, address: int, size_bytes: int) -> None:
        """Let every processor see new instructions."""
        self.call("FlushInstructionCache", self.call("GetCurrentProcess"), address, size_bytes)


_kernel32: Kernel32 | None = None


def get_kernel32() -> Kernel32:
    """The process's one, made when first needed."""
    global _kernel32  # noqa: PLW0603  # one per process
    if _kernel32 is None:
        _kernel32 = Kernel32(vars(ctypes)["WinDLL"]("kernel32", use_last_error=True))
    return _kernel32


class SectionMemory:
    """A section of the paging file, and its executable view."""

    def __init__(self, size_bytes: int) -> None:
        self._kernel32 = get_kernel32()
        self.size_bytes = size_bytes
        # The section allows what its views may be; no view is writable and executable.
        self._section = self._kernel32.call(
            "CreateFileMappingW",
            INVALID_HANDLE_VALUE,
            None,
            PAGE_EXECUTE_READWRITE,
            size_bytes >> 32,
            size_bytes & 0xFFFF_FFFF,
            None,
        )
        try:
            self.address = self._map(FILE_MAP_READ | FILE_MAP_EXECUTE)
        except OSError:
            self._kernel32.call("CloseHandle", self._section)
            raise

    def _map(self, access: int) -> int:
        return self._kernel32.call("MapViewOfFile", self._section, access, 0, 0, self.size_bytes)

    def write(self, pieces: Sequence[Piece]) -> None:
        """Through a view that exists for the moment."""
        view = self._map(FILE_MAP_READ | FILE_MAP_WRITE)
        for offset, data in pieces:
            ctypes.memmove(view + offset, data, len(data))
        self._kernel32.call("UnmapViewOfFile", view)
        for offset, data in pieces:
            self._kernel32.flush(self.address + offset, len(data))

    def release(self) -> None:
        """Unmap the view; the section goes with its last handle."""
        self._kernel32.call("UnmapViewOfFile", self.address)
        self._kernel32.call("CloseHandle", self._section)


class VirtualMemory:
    """Pages that are written once and then made executable."""

    def __init__(self, size_bytes: int) -> None:
        self._kernel32 = get_kernel32()
        self.size_bytes = size_bytes
        self.address = self._kernel32.call("VirtualAlloc", None, size_bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)

    def write(self, pieces: Sequence[Piece]) -> None:
        """Once: then the pages are executable, and no longer writable."""
        for offset, data in pieces:
            ctypes.memmove(self.address + offset, data, len(data))
        before = ctypes.c_uint32()
        self._kernel32.call(
            "VirtualProtect", self.address, self.size_bytes, PAGE_EXECUTE_READ, ctypes.addressof(before)
        )
        self._kernel32.flush(self.address, self.size_bytes)

    def release(self) -> None:
        """Give the pages back; MEM_RELEASE wants a size of 0."""
        self._kernel32.call("VirtualFree", self.address, 0, MEM_RELEASE)


def _section(size_bytes: int) -> Executable:
    return SectionMemory(size_bytes)


def _pages(size_bytes: int) -> Executable:
    return VirtualMemory(size_bytes)


_REMEDY = "let the process make dynamic code (the mitigation policy ProcessDynamicCodePolicy, or arbitrary code guard)"
LADDER: tuple[Rung, ...] = (
    Rung("section views", _section, True, _REMEDY),
    Rung("anonymous pages", _pages, False, _REMEDY),
)
