"""Probing: read live objects and find the layout that gates may rely on.

A fact that cannot be seen in the objects is left out (its inline path is then not made); where not even the object
header is as expected there is no layout at all, and the ctypes engine serves.  Nothing here writes memory.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache

from callgate.cpython.layout import DIGIT_BITS, IntForm, Layout, SmallInts
from callgate.errors import EngineError
from callgate.target import DATA_MODEL, IS_CPYTHON, IS_FREE_THREADED

HEADER_BYTES: int = getattr(object, "__basicsize__", 16)
"""What every object begins with: 16 bytes, 32 in free-threaded builds (PyPy does not say; it has no gates)."""

_TYPE_OFFSET = HEADER_BYTES - 8
_BYTES_DATA_OFFSET = HEADER_BYTES + 16

_STATE_BYTES = 1 << 14
"""How much of a PyInterpreterState is searched; all of it is more than ten times as much."""
_MOST_FREED = 200  # more than any free list holds
_FREED = 4
_ATTEMPTS = 3  # another thread may free something at the wrong moment


class GateBase:
    """The one slot that machine code reads; `runtime.gate.Gate` adds the others behind it."""

    __slots__ = ("_data",)
    _data: bytes


def _memory(thing: object, size_bytes: int) -> bytes:
    return ctypes.string_at(id(thing), size_bytes)


def _word(thing: object, offset: int) -> int:
    word: int = struct.unpack_from("<q", _memory(thing, offset + 8), offset)[0]
    return word


def _find_word(thing: object, wanted: int, size_bytes: int) -> int | None:
    memory = _memory(thing, size_bytes)
    for offset in range(0, size_bytes, 8):
        if struct.unpack_from("<Q", memory, offset)[0] == wanted:
            return offset
    return None


def probe_ints() -> IntForm | None:
    """How ints of one digit look, or None where they look like nothing known."""
    values = (1, 2, 255, 257, 12345, 67890, (1 << 30) - 1)
    tag, digits = HEADER_BYTES, HEADER_BYTES + 8
    digits_match = all(_word(value, digits) & 0xFFFFFFFF == abs(value) for one in values for value in (one, -one))
    if not digits_match or sys.int_info.bits_per_digit != DIGIT_BITS:
        return None
    large = [value for value in values if value > 1024]  # beyond every version's shared ints, which may be marked
    positive = {_word(value, tag) for value in large}
    negative = {_word(-value, tag) for value in large}
    two_digits = {_word(1 << 30, tag), _word((1 << 45) + 7, tag)}
    zero = _word(0, tag)
    if positive == {1} and negative == {-1} and two_digits == {2} and zero == 0:
        return IntForm(is_tagged=False, tag_offset=tag, digit_offset=digits, one_positive_digit=1)
    if positive == {8} and negative == {8 | 2} and two_digits == {16} and zero & 3 == 1 and zero >> 3 == 0:
        return IntForm(is_tagged=True, tag_offset=tag, digit_offset=digits, one_positive_digit=8)
    return None


def probe_floats() -> int | None:
    """The offset of a float's value, or None."""
    for value in (1.5, -2.25, 1e300):
        if _memory(value, HEADER_BYTES + 8)[HEADER_BYTES:] != struct.pack("<d", value):
            return None
    return HEADER_BYTES


def probe_small_ints() -> SmallInts | None:
    """The range and stride of the shared ints, or None where they are not one array."""
    stride = id(1) - id(0)
    if stride <= 0 or stride & stride - 1:
        return None

    def is_shared(value: int) -> bool:
        made = int(str(value))  # made anew, not a constant of this code
        return made is int(str(value)) and id(made) - id(0) == value * stride

    low, high = 0, 0
    while low > -64 and is_shared(low - 1):
        low -= 1
    while high < 1 << 14 and is_shared(high + 1):
        high += 1
    return SmallInts(low, high, stride) if high >= 1 else None


def probe_immortals() -> bool:
    """Whether None, True, False and the shared ints need no reference counting."""
    for thing in (None, True, False, 0, 1):
        before = sys.getrefcount(thing)
        held = [thing] * 1000
        if sys.getrefcount(thing) != before or not held:
            return False
    return True


def probe_byref() -> tuple[int, int] | None:
    """The offsets of the value in what byref() makes, and of the object behind it; None if they are not seen."""
    number = ctypes.c_int64(0x1234567890)
    given = ctypes.byref(number)
    size_bytes: int = getattr(type(given), "__basicsize__", 0)
    value = _find_word(given, ctypes.addressof(number), size_bytes)
    thing = _find_word(given, id(number), size_bytes)
    return (value, thing) if value is not None and thing is not None and value < thing else None


def probe_free_list(first: float) -> int | None:
    """The address of this interpreter's list of freed objects like `first`, a float or an int; None if it is not seen.

    A few are freed, and the word is looked for that becomes the address of the last of them, before one that counts.
    """
    get_state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyInterpreterState_Get", ctypes.pythonapi))
    address: int = get_state()
    state = (ctypes.c_char * _STATE_BYTES).from_address(address)
    things = [first + number for number in range(_MOST_FREED)]  # now the list is empty
    chain = [id(thing) for thing in things[:_FREED]]
    heads = [(ctypes.c_char * 16).from_address(place) for place in chain]
    held, before = b"".join(heads), bytes(state)
    del things[:_FREED]  # the first is freed last
    freed, after = b"".join(heads), bytes(state)
    # No int or float comes or goes between those two lines.
    cls = id(type(first))
    if held != struct.pack("<2Q", 1, cls) * _FREED:
        return None
    if freed != b"".join(struct.pack("<2Q", following, cls) for following in (*chain[1:], 0)):
        return None
    offset = after.find(struct.pack("<2Q", chain[0], _FREED))
    return address + offset if offset >= 0 and before[offset : offset + 16] == bytes(16) else None


@cache
def free_lists() -> tuple[int, int] | None:
    """The addresses of the lists of freed ints and of freed floats; None where objects are freed otherwise.

    Before 3.14 ints have none.  Builds that count all references want to hear of each object that is made.
    """
    if IS_FREE_THREADED or sys.version_info < (3, 14) or hasattr(sys, "gettotalrefcount"):
        return None
    for _ in range(_ATTEMPTS):
        ints, floats = probe_free_list(1 << 20), probe_free_list(1.5)
        if ints is not None and floats is not None:
            return ints, floats
    return None


def probe() -> Layout:
    """The layout of this interpreter; EngineError where gates cannot be made for it at all."""
    if not IS_CPYTHON:
        raise EngineError(f"{sys.implementation.name} is not CPython: its objects cannot be read by machine code")
    if IS_FREE_THREADED and DATA_MODEL.architecture != "x86_64":
        raise EngineError("for free-threaded builds machine code is made on x86-64 only so far")
    if sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise EngineError("gates are made for 64-bit little-endian processors")
    for thing in (12345, 1.5, b"bytes", None, True, (), ctypes.c_int()):
        if _word(thing, _TYPE_OFFSET) != id(type(thing)):
            raise EngineError(f"the type of {thing!r} is not found at offset {_TYPE_OFFSET} of the object")
    sample = b"callgate probes bytes"
    data = _memory(sample, _BYTES_DATA_OFFSET + len(sample) + 1)
    if data[_BYTES_DATA_OFFSET:] != sample + b"\0":
        raise EngineError(f"the contents of bytes are not found at offset {_BYTES_DATA_OFFSET}")
    gate = GateBase()
    gate._data = sample
    gate_data_offset = _find_word(gate, id(sample), GateBase.__basicsize__)
    if gate_data_offset is None:
        raise EngineError("the slots of an object are not found inside it")
    number = ctypes.c_int64(0x1234567890)
    pointer_offset = _find_word(number, ctypes.addressof(number), HEADER_BYTES + 16)
    if pointer_offset is None:
        raise EngineError("ctypes objects do not hold the address of their data where expected")
    byref = probe_byref()
    has_immortals = probe_immortals()
    if IS_FREE_THREADED and not has_immortals:
        raise EngineError("None, True and False are counted here, which machine code does in no free-threaded build")
    return Layout(
        name=f"probed-{sys.version_info.major}.{sys.version_info.minor}",
        type_offset=_TYPE_OFFSET,
        gate_data_offset=gate_data_offset,
        bytes_size_offset=HEADER_BYTES,
        bytes_data_offset=_BYTES_DATA_OFFSET,
        cdata_pointer_offset=pointer_offset,
        has_immortals=has_immortals,
        ints=probe_ints(),
        float_value_offset=probe_floats(),
        small_ints=probe_small_ints(),
        has_inline_bytes=_word(sample, HEADER_BYTES) == len(sample),
        has_thread_local_state=sys.version_info >= (3, 12),
        carg_value_offset=byref[0] if byref is not None else None,
        carg_object_offset=byref[1] if byref is not None else 0,
        has_free_lists=free_lists() is not None,
        is_free_threaded=IS_FREE_THREADED,
    )
