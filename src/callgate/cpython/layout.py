"""What an object layout is: the offsets and forms that inline code relies on, as data.

A Layout is either named here (for listings made on any host) or probed from the live interpreter
(`runtime.probe`).  A fact that is None turns off the inline code that needs it; nothing is ever guessed.

    PyObject  0 ob_refcnt   8 ob_type    free-threaded: 24 ob_type, and everything below 16 bytes later
    int       16 ob_size (3.10, 3.11) or lv_tag (3.12 and later)   24 digits of 30 bits
    float     16 ob_fval
    free list  0 the first object   8 how many there are
    bytes     16 ob_size   32 ob_sval (NUL-terminated)
    ctypes    16 b_ptr, the address of the C data
    Gate      `_data` slot: a bytes object that holds the gate's constants
"""

from __future__ import annotations

from typing import NamedTuple

DIGIT_BITS = 30


class IntForm(NamedTuple):
    """How an int with one digit is recognised.

    `one_positive_digit` is the value of the word at `tag_offset` for a positive int of one digit.  `is_tagged`
    tells lv_tag (sign in the low two bits: 0 positive, 1 zero, 2 negative; digits counted from bit 3) from
    ob_size (sign and count in one signed number).
    """

    is_tagged: bool
    tag_offset: int
    digit_offset: int
    one_positive_digit: int


class SmallInts(NamedTuple):
    """The array of shared ints: `minimum` to `maximum`, each `stride_bytes` after the one before."""

    minimum: int
    maximum: int
    stride_bytes: int


class Layout(NamedTuple):
    """The facts that gates may rely on.  Offsets in bytes; None: not known, so not used.

    `has_thread_local_state` tells that `_PyThreadState_UncheckedGet` gives the calling thread's state (3.12 and later),
    not that of whatever thread holds the GIL.  `has_free_lists` tells that freed floats, and ints of one digit, wait in
    two lists (3.14 and later): the first word of each object is the address of the next, its type stays.
    `is_free_threaded` tells that threads run at once: reference counts are left to the C API, and what the routines
    share is locked.
    """

    name: str
    type_offset: int
    gate_data_offset: int
    bytes_size_offset: int
    bytes_data_offset: int
    cdata_pointer_offset: int
    has_immortals: bool
    ints: IntForm | None
    float_value_offset: int | None
    small_ints: SmallInts | None
    has_inline_bytes: bool = True
    has_thread_local_state: bool = False
    carg_value_offset: int | None = 32
    carg_object_offset: int = 48
    has_free_lists: bool = False
    is_free_threaded: bool = False


_OB_SIZE = IntForm(is_tagged=False, tag_offset=16, digit_offset=24, one_positive_digit=1)
_LV_TAG = IntForm(is_tagged=True, tag_offset=16, digit_offset=24, one_positive_digit=8)
_SMALL = SmallInts(-5, 256, 32)

CPYTHON_3_11 = Layout("cpython-3.11", 8, 16, 16, 32, 16, False, _OB_SIZE, 16, _SMALL)
CPYTHON_3_13 = Layout("cpython-3.13", 8, 16, 16, 32, 16, True, _LV_TAG, 16, _SMALL, has_thread_local_state=True)
CPYTHON_3_14 = CPYTHON_3_13._replace(name="cpython-3.14", carg_object_offset=64, has_free_lists=True)
CPYTHON_3_15 = CPYTHON_3_14._replace(name="cpython-3.15", small_ints=SmallInts(-5, 1024, 32))

_LV_TAG_32 = IntForm(is_tagged=True, tag_offset=32, digit_offset=40, one_positive_digit=8)
CPYTHON_3_13T = Layout(
    "cpython-3.13t", 24, 32, 32, 48, 32, True, _LV_TAG_32, 32, None, True, True, 48, 64, is_free_threaded=True
)

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (CPYTHON_3_11, CPYTHON_3_13, CPYTHON_3_14, CPYTHON_3_15, CPYTHON_3_13T)
}
"""Layouts by name; 3.10 is laid out as 3.11, 3.12 as 3.13."""

PYTHONS: dict[str, Layout] = {
    "3.10": CPYTHON_3_11,
    "3.11": CPYTHON_3_11,
    "3.12": CPYTHON_3_13,
    "3.13": CPYTHON_3_13,
    "3.14": CPYTHON_3_14,
    "3.15": CPYTHON_3_15,
}
"""The layouts of the versions that images can be made for without running them.

None is trusted: where an image is mapped, all of it must be what the probe finds.
"""
