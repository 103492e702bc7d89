"""Addresses in the live process: C API functions, objects, libc.  Nothing is written here."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from callgate.target import IS_CPYTHON, IS_MACOS, IS_WINDOWS

_void_p = ctypes.c_void_p

_UCRT = "ucrtbase"  # the C library of the interpreter, and its errno
_WINDOWS_C = {
    "__errno_location": (_UCRT, "_errno"),
    **{name: (_UCRT, name) for name in ("calloc", "free", "strlen", "wcslen", "memcpy", "memset")},
    "pthread_mutex_lock": ("kernel32", "AcquireSRWLockExclusive"),
    "pthread_mutex_unlock": ("kernel32", "ReleaseSRWLockExclusive"),
    "pthread_spin_lock": ("kernel32", "AcquireSRWLockExclusive"),  # zeros are one that is free
    "pthread_spin_unlock": ("kernel32", "ReleaseSRWLockExclusive"),
    "pthread_getspecific": ("kernel32", "FlsGetValue"),  # unlike TlsGetValue with a function at a thread's end
    "pthread_setspecific": ("kernel32", "FlsSetValue"),
    "set_python_key": ("kernel32", "TlsSetValue"),  # Python's own key is of that kind
    **{name: ("kernel32", name) for name in ("GetLastError", "SetLastError")},
}
"""What stands for functions of the POSIX C library, and Windows' own: the DLL, and the name there."""

_POSIX_C = {"set_python_key": "pthread_setspecific"}
_MACOS_C = {**_POSIX_C, "__errno_location": "__error"}
"""What functions that code names are called there."""

_WINDOWS_API = {
    "PyLong_FromLong": "PyLong_FromLongLong",
    "PyLong_FromUnsignedLong": "PyLong_FromUnsignedLongLong",
}
"""Functions whose `long` is 64 bits wide elsewhere."""


def function_address(library: ctypes.CDLL, name: str) -> int:
    """The address of a symbol of a library; AttributeError where there is none."""
    address: int | None = _void_p.from_address(ctypes.addressof(getattr(library, name))).value
    if not address:
        raise AttributeError(f"{name} is NULL")
    return address


def c_address(name: str) -> int:
    """The address of a function of the C library, or of what stands for it on Windows."""
    if not IS_WINDOWS:
        names = _MACOS_C if IS_MACOS else _POSIX_C
        return function_address(ctypes.CDLL(None), names.get(name, name))
    library, name = _WINDOWS_C[name]
    return function_address(ctypes.CDLL(library), name)


def initialize_spin_lock(address: int) -> None:
    """Make the zeroed 8 bytes at an address a lock that is free."""
    if not IS_WINDOWS:
        ctypes.CDLL(None).pthread_spin_init(_void_p(address), 0)


def gcc_address(name: str) -> int:
    """The address of a function of the compiler's own library."""
    return function_address(ctypes.CDLL("libgcc_s.so.1"), name)


def api_address(name: str) -> int:
    """The address of a function or object of the C API; AttributeError where this interpreter has none."""
    if IS_WINDOWS:
        name = _WINDOWS_API.get(name, name)
    symbol = ctypes.c_char.in_dll(ctypes.pythonapi, name) if name.endswith("_Type") else None
    if symbol is not None:
        return ctypes.addressof(symbol)
    return function_address(ctypes.pythonapi, name)


@cache
def is_main_interpreter() -> bool:
    """Whether this code runs in the process's first interpreter, to which the C API attaches threads."""
    if not IS_CPYTHON:
        return True
    current, main = (
        ctypes.PYFUNCTYPE(ctypes.c_void_p)((f"PyInterpreterState_{name}", ctypes.pythonapi)) for name in ("Get", "Main")
    )
    return bool(current() == main())


def bytes_address(data: bytes) -> int:
    """The address of a bytes object's first byte, good as long as the object lives."""
    address: int | None = ctypes.cast(ctypes.c_char_p(data), _void_p).value
    assert address is not None  # bytes have memory
    return address


def interned(name: str) -> str:
    """The one str object for a name."""
    return sys.intern(name)
