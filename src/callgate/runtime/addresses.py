"""Addresses in the live process: C API functions, objects, libc.  Nothing is written here."""

from __future__ import annotations

import ctypes
import sys

_void_p = ctypes.c_void_p


def function_address(library: ctypes.CDLL, name: str) -> int:
    """The address of a symbol of a library; AttributeError where there is none."""
    address: int | None = _void_p.from_address(ctypes.addressof(getattr(library, name))).value
    if not address:
        raise AttributeError(f"{name} is NULL")
    return address


def api_address(name: str) -> int:
    """The address of a function or object of the C API; AttributeError where this interpreter has none."""
    symbol = ctypes.c_char.in_dll(ctypes.pythonapi, name) if name.endswith("_Type") else None
    if symbol is not None:
        return ctypes.addressof(symbol)
    return function_address(ctypes.pythonapi, name)


def bytes_address(data: bytes) -> int:
    """The address of a bytes object's first byte, good as long as the object lives."""
    address: int | None = ctypes.cast(ctypes.c_char_p(data), _void_p).value
    assert address is not None  # bytes have memory
    return address


def interned(name: str) -> str:
    """The one str object for a name."""
    return sys.intern(name)
