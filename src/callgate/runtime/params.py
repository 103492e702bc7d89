"""Arguments as ctypes converts them, for accelerated gates: what their machine code leaves to Python.

The class's own from_param decides; what it gives back is read as ctypes reads it.  Refusals are ctypes' own errors.
"""

from __future__ import annotations

import ctypes
from typing import Any

from callgate.c import names
from callgate.c.types import Parameter
from callgate.cpython.conversion import NUMBERS, Element, UnboxStep
from callgate.runtime.probe import probe_byref
from callgate.target import DATA_MODEL, IS_CPYTHON

_CARG = type(ctypes.byref(ctypes.c_int()))
_CARG_VALUE = (probe_byref() or (None,))[0] if IS_CPYTHON else None
_POINTERS = (ctypes._Pointer, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p, names.FUNCTION_POINTER)
_FLOATS = (ctypes.c_float, ctypes.c_double, ctypes.c_longdouble)
_MOST_NESTED = 100
_LONG_BITS = 8 * DATA_MODEL.long_bytes  # ctypes reads an int as such


class CallOriginal(Exception):
    """ctypes itself can pass this argument, a gate cannot."""


def argument_error(number: int, problem: BaseException) -> BaseException:
    """The error that ctypes makes of an exception of from_param; what is no Exception stays what it is."""
    if not isinstance(problem, Exception):
        return problem
    return ctypes.ArgumentError(f"argument {number}: {type(problem).__name__}: {problem}")


def to_word(number: int, parameter: Parameter, step: UnboxStep, thing: object) -> tuple[int, object]:
    """The word for an argument, and what must live until the call is over; ctypes.ArgumentError as ctypes raises it.

    Raises CallOriginal for what does not travel in one word.
    """
    argtype: Any = parameter.python_type
    try:
        given = argtype.from_param(thing)
    except Exception as problem:
        raise argument_error(number, problem) from None
    return word_of(number, step, given)


def word_of(number: int, step: UnboxStep, given: object) -> tuple[int, object]:
    """The word for what from_param gave back, and what must live until the call is over."""
    try:
        data = _bytes_of(given, 0, step.element is Element.FLOATING)
    except CallOriginal:
        raise
    except Exception as problem:  # of a property _as_parameter_
        raise argument_error(number, problem) from None
    if step.element is Element.FLOATING:
        if step.size_bytes > 8:  # a long double: the value slot holds a double
            return int.from_bytes(
                bytes(ctypes.c_double(ctypes.c_longdouble.from_buffer_copy(data).value)), "little"
            ), given
        return int.from_bytes(data[: step.size_bytes], "little"), given
    is_signed = step.element is Element.SIGNED
    size = step.size_bytes if step.element in NUMBERS or step.element is Element.BYTE else 8
    return int.from_bytes(data[:size], "little", signed=is_signed), given


def to_struct(number: int, parameter: Parameter, thing: object) -> tuple[int, object]:
    """The address of a struct by value; ctypes.ArgumentError as ctypes raises it."""
    argtype: Any = parameter.python_type
    try:
        given = argtype.from_param(thing)
    except Exception as problem:
        raise argument_error(number, problem) from None
    if not isinstance(given, (ctypes.Structure, ctypes.Union)):
        raise CallOriginal
    return ctypes.addressof(given), given


def _bytes_of(given: object, depth: int, is_number: bool) -> bytes:
    """The first bytes of what ctypes would pass for an object that from_param gave back."""
    if given is None:
        return bytes(16)
    if isinstance(given, _CARG):
        if _CARG_VALUE is None:  # where its value lies is not known
            raise CallOriginal
        return ctypes.string_at(id(given) + _CARG_VALUE, 16)
    if isinstance(given, ctypes.Array):
        return ctypes.addressof(given).to_bytes(16, "little")
    if isinstance(given, ctypes._SimpleCData) and isinstance(given.value, int) and not isinstance(given, _POINTERS):
        return (given.value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(16, "little")
    if isinstance(given, _FLOATS) and not is_number:
        raise CallOriginal
    if isinstance(given, (ctypes._SimpleCData, *_POINTERS)):
        size = ctypes.sizeof(given)
        return ctypes.string_at(ctypes.addressof(given), size).ljust(16, b"\0")
    if isinstance(given, int):
        if not -(1 << _LONG_BITS - 1) <= given < 1 << _LONG_BITS:
            raise CallOriginal  # which refuses it
        return (ctypes.c_int(given).value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(16, "little")
    if isinstance(given, bytes):
        return (ctypes.cast(ctypes.c_char_p(given), ctypes.c_void_p).value or 0).to_bytes(16, "little")
    if isinstance(given, str):
        return (ctypes.cast(ctypes.c_wchar_p(given), ctypes.c_void_p).value or 0).to_bytes(16, "little")
    if hasattr(given, "_as_parameter_") and depth < _MOST_NESTED:
        return _bytes_of(given._as_parameter_, depth + 1, is_number)
    if isinstance(given, (ctypes.Structure, ctypes.Union)):
        raise CallOriginal
    raise CallOriginal
