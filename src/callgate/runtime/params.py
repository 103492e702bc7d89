"""Arguments as ctypes converts them, for accelerated gates: what their machine code leaves to Python.

The class's own from_param decides; what it gives back is read as ctypes reads it.  Refusals are ctypes' own errors.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from callgate.c import names
from callgate.c.types import Parameter
from callgate.cpython.conversion import NUMBERS, Element, UnboxStep

_CARG = type(ctypes.byref(ctypes.c_int()))
_CARG_VALUE = 32  # offset in PyCArgObject, which the probe of the layout checks
_POINTERS = (ctypes._Pointer, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p, names.FUNCTION_POINTER)
_MOST_NESTED = 100


class _Unknown(Exception):
    """Nothing that travels in one word."""


def to_word(number: int, parameter: Parameter, step: UnboxStep, thing: object) -> tuple[int, object]:
    """The word for an argument, and what must live until the call is over; ctypes.ArgumentError as ctypes raises it."""
    argtype: Any = parameter.python_type
    try:
        given = argtype.from_param(thing)
        data = _bytes_of(given, 0)
    except _Unknown:
        raise ctypes.ArgumentError(
            f"argument {number}: {_named(TypeError)}: Don't know how to convert parameter {number}"
        ) from None
    except Exception as problem:
        raise ctypes.ArgumentError(f"argument {number}: {_named(type(problem))}: {problem}") from None
    if step.element is Element.FLOATING:
        if step.size_bytes > 8:  # a long double: the value slot holds a double
            return int.from_bytes(
                bytes(ctypes.c_double(ctypes.c_longdouble.from_buffer_copy(data).value)), "little"
            ), given
        return int.from_bytes(data[: step.size_bytes], "little"), given
    is_signed = step.element is Element.SIGNED
    size = step.size_bytes if step.element in NUMBERS or step.element is Element.BYTE else 8
    return int.from_bytes(data[:size], "little", signed=is_signed), given


def _named(cls: type) -> str:
    """How this version's ArgumentError names the class of what went wrong."""
    return cls.__name__ if sys.version_info >= (3, 12) else repr(cls)


def _bytes_of(given: object, depth: int) -> bytes:
    """The first bytes of what ctypes would pass for an object that from_param gave back."""
    if given is None:
        return bytes(16)
    if isinstance(given, _CARG):
        return ctypes.string_at(id(given) + _CARG_VALUE, 16)
    if isinstance(given, ctypes.Array):
        return ctypes.addressof(given).to_bytes(16, "little")
    if isinstance(given, (ctypes._SimpleCData, *_POINTERS)):
        size = ctypes.sizeof(given)
        return ctypes.string_at(ctypes.addressof(given), size).ljust(16, b"\0")
    if isinstance(given, int):
        return (ctypes.c_int(given).value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(16, "little")
    if isinstance(given, bytes):
        return (ctypes.cast(ctypes.c_char_p(given), ctypes.c_void_p).value or 0).to_bytes(16, "little")
    if isinstance(given, str):
        return (ctypes.cast(ctypes.c_wchar_p(given), ctypes.c_void_p).value or 0).to_bytes(16, "little")
    inner = getattr(given, "_as_parameter_", None)
    if inner is not None and depth < _MOST_NESTED:
        return _bytes_of(inner, depth + 1)
    raise _Unknown
