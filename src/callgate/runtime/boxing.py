"""Boxes that are made in Python, for both engines: values of several words, and functions."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from callgate.c.layout import size_bytes
from callgate.c.types import FunctionType, Result, Returning, Scalar
from callgate.runtime import reference
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.runtime.gate import Gate


def box_word(result: Result, word: int, gate: Gate | None) -> object:
    """The object for a word of C: a pointer, or the address of a value of several words.

    `gate` is the one whose result it is, None for an argument of a callback.
    """
    if result.returning is Returning.VALUE:
        assert isinstance(result.type, Scalar)  # Box.WIDE
        return reference.from_wide(result.type, ctypes.string_at(word, size_bytes(result.type, DATA_MODEL)))
    if result.returning is Returning.CALLED:
        assert callable(result.python_type)  # a restype that is a function
        return result.python_type(ctypes.c_int(word & 0xFFFF_FFFF).value)
    if result.returning is Returning.FUNCTION:
        return _function(result, word, gate)
    raise AssertionError(f"{result} is not boxed in Python")


def _function(result: Result, address: int, gate: Gate | None) -> object:
    """A pointer to a function as a gate; to a callback's argument, which has no gate, as a plain pointer."""
    signature = result.python_type
    if gate is None or gate._bind_pointer is None or not isinstance(signature, FunctionType):
        return ctypes.c_void_p(address)
    return gate._bind_pointer(signature, address, gate)
