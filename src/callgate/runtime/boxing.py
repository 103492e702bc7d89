"""Boxes that are made in Python, for both engines: values of several words, functions, arrays, and what is freed."""

from __future__ import annotations

import array
import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callgate.c.layout import align_bytes, size_bytes
from callgate.c.types import FunctionType, Pointer, Result, Returning, Scalar
from callgate.runtime import reference
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.runtime.gate import Gate


_VIEWED = "bBhHiIlLqQfd?"
"""The ctypes codes of items that a memoryview can show."""


def box_word(result: Result, word: int, gate: Gate | None, length: int = 0) -> object:
    """The object for a word of C: a pointer, or the address of a value of several words.

    `gate` is the one whose result it is, None for an argument of a callback; `length` that of an array.
    """
    match result.returning:
        case Returning.FUNCTION:
            return _function(result, word, gate)
        case Returning.VALUE:
            assert isinstance(result.type, Scalar)  # Box.WIDE
            return reference.from_wide(result.type, ctypes.string_at(word, size_bytes(result.type, DATA_MODEL)))
    assert gate is not None  # the others are results of gates
    if result.returning is Returning.ARRAY:
        return _array(result, word, gate, length)
    if result.returning is Returning.HANDLE:
        handle = _handle(result, word)
        weakref.finalize(handle, _free(gate), _handle(result, word))
        return handle
    return _freed_string(result, word, gate)


def _free(gate: Gate) -> Callable[[object], object]:
    free = gate.options.free
    assert callable(free)  # the binding made it so
    return free


def release(gate: Gate, word: int) -> None:
    """Free what nobody got."""
    _free(gate)(ctypes.c_void_p(word))


def _handle(result: Result, word: int) -> Any:
    if result.python_type is ctypes.c_void_p:
        return ctypes.c_void_p(word)
    return ctypes.cast(word, result.python_type)  # type: ignore[arg-type]


def _freed_string(result: Result, word: int, gate: Gate) -> str | bytes:
    """A copy of a string, which is freed whether or not it can be decoded."""
    try:
        if result.returning is Returning.WIDE_STRING:
            return ctypes.wstring_at(word)
        data = ctypes.string_at(word)
        return data.decode() if result.returning is Returning.STRING else data
    finally:
        _free(gate)(ctypes.c_void_p(word))


def _array(result: Result, word: int, gate: Gate, length: int) -> object:
    """A view of C's own memory; an array of what a memoryview cannot show is a ctypes array."""
    element: Any = result.python_type
    start = word
    if isinstance(result.length, int):
        length = result.length
    elif isinstance(result.length, Scalar):
        assert isinstance(result.type, Pointer)  # an array's type
        size, align = size_bytes(result.length, DATA_MODEL), align_bytes(result.type.to, DATA_MODEL)
        length = int.from_bytes(ctypes.string_at(word, size), "little")
        start += (size + align - 1) // align * align
    try:
        items = (element * length).from_address(start)
    except (OverflowError, ValueError, MemoryError):
        if result.is_owned:
            _free(gate)(ctypes.c_void_p(word))
        told = length - (1 << 64) if length >> 63 else length
        raise ValueError(f"{gate.signature.name}() returned an array whose length is {told}") from None
    items._gate = gate  # the library lives as long as its memory is seen
    if result.is_owned:
        weakref.finalize(items, _free(gate), ctypes.c_void_p(word))
    if issubclass(element, (ctypes.Structure, ctypes.Union, ctypes._Pointer, ctypes.Array)):
        return items
    code = "B" if element is ctypes.c_char else element._type_
    if code not in _VIEWED:
        return items
    if not length:  # nothing of C's, and a view of no bytes cannot be cast
        return memoryview(array.array("B" if code == "?" else code))
    view: Any = memoryview(items).cast("B")
    return view.cast(code)


def _function(result: Result, address: int, gate: Gate | None) -> object:
    """A pointer to a function as a gate; to a callback's argument, which has no gate, as a plain pointer."""
    signature = result.python_type
    if gate is None or gate._bind_pointer is None or not isinstance(signature, FunctionType):
        return ctypes.c_void_p(address)
    return gate._bind_pointer(signature, address, gate)
