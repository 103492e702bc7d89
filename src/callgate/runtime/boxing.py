"""Boxes that are made in Python, for both engines: values of several words, and functions."""

from __future__ import annotations

import ctypes

from callgate.c.layout import size_bytes
from callgate.c.types import Result, Returning, Scalar
from callgate.runtime import reference
from callgate.target import DATA_MODEL


def box_word(result: Result, word: int) -> object:
    """The object for a word of C: a pointer, or the address of a value of several words."""
    if result.returning is Returning.VALUE:
        assert isinstance(result.type, Scalar)  # Box.WIDE
        return reference.from_wide(result.type, ctypes.string_at(word, size_bytes(result.type, DATA_MODEL)))
    raise AssertionError(f"{result} is not boxed in Python")
