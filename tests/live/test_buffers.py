"""Memory of the caller: every exporter, every item type, lists, lengths, and what may happen to it during a call."""

from __future__ import annotations

import ctypes
import sys
from array import array
from typing import Any

import pytest
from here import LONG_BITS
from numpy_here import np
from telling import Index, Problem, raising, told

import callgate as cg
from callgate import Readable, Writable

INT_CODES, LONG_CODES = ("i", "lq") if LONG_BITS == 64 else ("il", "q")
# suffix in targets.c, element, its short name, format codes that fit, values
ELEMENTS: list[tuple[str, Any, str, str, list[Any]]] = [
    ("i16", cg.i16, "i16", "h", [-(2**15), 0, 2**15 - 1]),
    ("u16", cg.u16, "u16", "H", [0, 1, 2**16 - 1]),
    ("i32", cg.i32, "i32", INT_CODES, [-(2**31), 0, 2**31 - 1]),
    ("u32", cg.u32, "u32", INT_CODES.upper(), [0, 1, 2**32 - 1]),
    ("i64", cg.i64, "i64", LONG_CODES, [-(2**63), 0, 2**63 - 1]),
    ("u64", cg.u64, "u64", LONG_CODES.upper(), [0, 1, 2**64 - 1]),
    ("f32", cg.f32, "f32", "f", [-1.5, 0.0, 2.0**127]),
    ("f64", cg.f64, "f64", "d", [-1.5, 0.0, 1e300]),
]
BYTES = [("i8", cg.i8, "i8", [-128, 0, 127]), ("u8", cg.u8, "u8", [0, 1, 255])]
elements = pytest.mark.parametrize("element", ELEMENTS, ids=[row[0] for row in ELEMENTS])
CODES = "bBhHiIlLqQfd"


def at(typed_as: Any, suffix: str, element: Any, access: Any = Readable) -> Any:
    """`items[index]`, by the declared access."""
    return typed_as(f"at_{suffix}", access[element], cg.long, element)


def fill(typed_as: Any, suffix: str, element: Any) -> Any:
    return typed_as(f"fill_{suffix}", Writable[element], cg.usize, element, None)


# -- what fits ------------------------------------------------------------------------------------------------------
@elements
def test_every_exporter_of_the_right_items_is_read(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, _, codes, values = element
    call = at(typed_as, suffix, cls)
    numpy_array = np.array(values, dtype=cls)
    frozen = numpy_array.copy()
    frozen.flags.writeable = False
    things = [
        *(array(code, values) for code in codes), numpy_array, frozen, memoryview(numpy_array), memoryview(frozen),
        (cls * 3)(*values), ctypes.byref((cls * 3)(*values)), ctypes.cast((cls * 3)(*values), ctypes.POINTER(cls)),
        memoryview(numpy_array.tobytes()).cast(codes[0]), values, numpy_array.reshape(1, 3), numpy_array.reshape(3, 1),
        np.array([values, values], dtype=cls), np.concatenate([numpy_array] * 2)[:3],
    ]  # fmt: skip
    for thing in things:
        assert [call(thing, index) for index in range(3)] == values


@elements
def test_every_writable_exporter_is_written(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, _, codes, values = element
    call = fill(typed_as, suffix, cls)
    value = values[2]
    for thing in (
        *(array(code, values) for code in codes), np.array(values, dtype=cls), (cls * 3)(*values),
        memoryview(bytearray(3 * ctypes.sizeof(cls))).cast(codes[0]), memoryview(array(codes[0], values)),
    ):  # fmt: skip
        call(thing, 2, value)
        assert list(thing)[:2] == [value] * 2
        assert list(thing)[2] == (0 if isinstance(thing, memoryview) and isinstance(thing.obj, bytearray) else value)
    scalar = cls()
    call(scalar, 1, value)
    assert scalar.value == value
    pair = (cls * 2)()
    call(ctypes.byref(pair), 2, value)
    call(ctypes.cast(ctypes.byref(pair), ctypes.POINTER(cls)), 1, values[1])
    assert list(pair) == [values[1], value]


@elements
def test_items_of_another_type_are_refused(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, short, codes, _ = element
    read, write = at(typed_as, suffix, cls), fill(typed_as, suffix, cls)
    for code in CODES:
        if code in codes:
            continue
        for thing in (array(code, [1, 2]), np.array([1, 2], dtype=code), memoryview(array(code, [1]))):
            found = memoryview(thing).format
            word = type(thing).__name__
            assert told(read, thing, 0) == (
                f"TypeError: at_{suffix}() argument 1 must be a readable buffer of {short}, not {word} of format {found!r}"
            )
            assert told(write, thing, 0, 0) == (
                f"TypeError: fill_{suffix}() argument 1 must be a writable buffer of {short}, not {word} of format {found!r}"
            )


@elements
def test_what_has_no_such_items_is_refused(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, short, _, _ = element
    read = at(typed_as, suffix, cls)
    head = f"TypeError: at_{suffix}() argument 1 must be a readable buffer of {short}"
    size = ctypes.sizeof(cls)
    swapped = np.array([1], dtype=np.dtype(cls).newbyteorder(">"))
    rows: list[tuple[Any, str]] = [
        (b"12345678", f"{head}, not bytes of format 'B'"),
        (bytearray(8), f"{head}, not bytearray of format 'B'"),
        (swapped, f"{head}, not ndarray of format {memoryview(swapped).format!r}"),
        (np.array([True] * 8), f"{head}, not ndarray of format '?'"),
        (np.array([1j]), f"{head}, not ndarray of format 'Zd'"),
        (np.zeros(2, dtype=f"S{size}"), f"{head}, not ndarray of format '{size}s'"),
        (np.zeros(2, dtype=[("x", cls)]), f"{head}, not ndarray of format {memoryview(np.zeros(2, dtype=[('x', cls)])).format!r}"),
        (np.array([None]), f"{head}, not ndarray of format 'O'"),
        ("12345678", f"{head}, not str"),
        ((1, 2), f"{head}, not tuple"),
        ({1}, f"{head}, not set"),
        (1.5, f"{head}, not float"),
        (None, f"{head}, not None"),
        (object(), f"{head}, not object"),
        (1 << 40, f"{head}, not int; for an address use ctypes.cast(address, Ptr[{short}])"),
        (ctypes.c_void_p(8), f"{head}, not c_void_p of format {memoryview(ctypes.c_void_p()).format!r}"),
        (ctypes.byref(ctypes.c_char()), f"{head}, not CArgObject"),
        (ctypes.POINTER(cls)(), f"{head}, not NULL"),
    ]  # fmt: skip
    for thing, message in rows:
        assert told(read, thing, 0) == message
    assert told(read, np.array(["2020"], dtype="M8[s]"), 0) == (f"{head}: cannot include dtype 'M' in a buffer")


def test_longs_of_both_names_are_one(typed_as: Any) -> None:
    twin, cls = ("longlong", cg.longlong) if LONG_BITS == 64 else ("int", cg.int_)
    for thing in (*(array(code, [7]) for code in ("lq" if LONG_BITS == 64 else "li")), np.array([7], dtype=cls), (ctypes.c_long * 1)(7)):  # fmt: skip
        assert at(typed_as, "long", cg.long)(thing, 0) == at(typed_as, twin, cls)(thing, 0) == 7


@pytest.mark.parametrize("row", BYTES, ids=["i8", "u8"])
def test_bytes_of_any_kind(typed_as: Any, row: tuple[Any, ...]) -> None:
    suffix, cls, _, values = row
    raw = bytes(value & 255 for value in values)
    call = at(typed_as, suffix, cls)
    for thing in (
        raw, bytearray(raw), memoryview(raw), array("b", array("b", raw)), array("B", raw), np.frombuffer(raw, "i1"),
        np.frombuffer(raw, "u1"), np.frombuffer(raw, "S1"), (cls * 3)(*values), ctypes.create_string_buffer(raw, 3),
        memoryview(raw).cast("c"), memoryview(bytearray(raw)).cast("b"), values, type("B", (bytes,), {})(raw),
        ctypes.cast((cls * 3)(*values), ctypes.POINTER(cls)),
    ):  # fmt: skip
        assert [call(thing, index) for index in range(3)] == values
    write = fill(typed_as, suffix, cls)
    for thing in (
        bytearray(3),
        array("b", [0] * 3),
        np.zeros(3, "i1"),
        np.zeros(3, bool),
        ctypes.create_string_buffer(3),
    ):
        write(thing, 2, values[2])
        assert bytes(thing) == bytes([values[2]] * 2) + b"\0"


def test_booleans_characters_and_long_doubles(typed_as: Any) -> None:
    read = at(typed_as, "bool", cg.bool_)
    for thing in (np.array([False, True]), (ctypes.c_bool * 2)(False, True), [False, True], [0, 1]):
        assert (read(thing, 0), read(thing, 1)) == (False, True)
    assert told(read, b"\0\1", 0) == (
        "TypeError: at_bool() argument 1 must be a readable buffer of bool_, not bytes of format 'B'"
    )
    assert told(read, [True, 2], 0) == "OverflowError: at_bool() argument 1 item 1 must be True or False (_Bool), not 2"

    read = at(typed_as, "wchar", cg.wchar)
    for thing in (ctypes.create_unicode_buffer("a€"), ["a", "€"]):
        assert (read(thing, 0), read(thing, 1)) == ("a", "€")
    assert told(read, ["a", "bc"], 0) == (
        "TypeError: at_wchar() argument 1 item 1 must be str of length 1, not of length 2"
    )
    assert told(read, "a€", 0) == "TypeError: at_wchar() argument 1 must be a readable buffer of wchar, not str"

    read = at(typed_as, "char", cg.char)
    for thing in (b"ab", bytearray(b"ab"), [97, 98], np.array([97, 98], "u1")):
        assert (read(thing, 0), read(thing, 1)) == (b"a", b"b")

    read = at(typed_as, "longdouble", cg.longdouble)
    for thing in (
        np.array([0.5, 1.5], np.longdouble),
        (ctypes.c_longdouble * 2)(0.5, 1.5),
        [0.5, 1.5],
        [Index(0), 1.5],
    ):
        assert read(thing, 1) == 1.5
    name = "f64" if ctypes.c_longdouble is ctypes.c_double else "longdouble"
    assert told(read, np.array([0.5j]), 0) == (
        f"TypeError: at_longdouble() argument 1 must be a readable buffer of {name}, not ndarray of format 'Zd'"
    )


# -- void -----------------------------------------------------------------------------------------------------------
def test_void_takes_any_contiguous_memory(bound: Any, typed_as: Any) -> None:
    class Pair(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int16), ("b", ctypes.c_int16))

    complexes = np.array([1 + 2j, 3 - 4j])
    pair = Pair(1, 2)
    for thing in (
        b"\1\2\3\4", bytearray(b"\1\2\3\4"), array("d", [1.5]), np.arange(4), np.zeros((2, 3)), complexes, pair,
        complexes.astype(np.complex64), np.zeros(2, dtype=[("x", "i4"), ("y", "f8")]), (Pair * 2)(pair, pair), np.zeros(2, "S3"),
        np.zeros(2, "U3"), memoryview(b"\1\2\3\4"), ctypes.c_double(1.5), np.float64(1.5), np.array(7),
        np.array([1, 2], dtype=">i4"), (ctypes.c_void_p * 2)(1, 2), (ctypes.c_char_p * 2)(b"a", b"b"),
    ):  # fmt: skip
        size = memoryview(thing).nbytes
        expected = sum(memoryview(thing).tobytes())
        assert typed_as("byte_sum", Readable[None], cg.usize, cg.ulong)(thing, size) == expected
        assert bound("unsigned long byte_sum(const void *p, size_t n);").byte_sum(thing, size) == expected


def test_void_takes_pointers_for_where_they_point(typed_as: Any) -> None:
    address = typed_as("address", Readable[None], ctypes.c_uint64)
    number = ctypes.c_int(5)
    here = ctypes.addressof(number)
    function = ctypes.CFUNCTYPE(None)(int)
    for thing in (
        number, ctypes.byref(number), ctypes.pointer(number), ctypes.c_void_p(here), here, Ten(here),
        ctypes.cast(here, ctypes.c_char_p), ctypes.cast(here, ctypes.c_wchar_p),
    ):  # fmt: skip
        assert address(thing) == here
    assert address(function) == ctypes.cast(function, ctypes.c_void_p).value
    assert address(ctypes.byref(number, 3)) == here + 3
    head = "TypeError: address() argument 1 must be a readable buffer"
    for thing, message in (
        (None, f"{head}, not None"), (0, f"{head}, not NULL"), (False, f"{head}, not NULL"),
        (ctypes.c_void_p(), f"{head}, not NULL"), (ctypes.POINTER(ctypes.c_int)(), f"{head}, not NULL"),
        (1.5, f"{head}, not float"), ("text", f"{head}, not str"), ([1], f"{head}, not list"),
        (np.array([None]), f"{head}, not ndarray of format 'O'"), (Index(8), f"{head}, not Index"),
        (-1, "OverflowError: address() argument 1 must be an address of 64 bits, not -1"),
        (1 << 64, f"OverflowError: address() argument 1 must be an address of 64 bits, not {1 << 64}"),
        (Ten(-1), "OverflowError: address() argument 1 must be an address of 64 bits, not -1"),
    ):  # fmt: skip
        assert told(address, thing) == message
    nullable = typed_as("address", Readable[None] | None, ctypes.c_uint64)
    assert [nullable(thing) for thing in (None, 0, ctypes.c_void_p(), ctypes.POINTER(ctypes.c_int)())] == [0] * 4
    assert nullable(2**64 - 1) == 2**64 - 1


class Ten(int):
    def __le__(self, other: object) -> bool:
        return True

    def __ge__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return False


# -- shape, access, length ------------------------------------------------------------------------------------------
def test_only_contiguous_memory_is_passed(typed_as: Any) -> None:
    read, write = at(typed_as, "i32", cg.i32), fill(typed_as, "i32", cg.i32)
    base = np.arange(12, dtype="i4").reshape(3, 4)
    for thing in (
        base[:, 1],
        base[::2],
        base.T,
        np.asfortranarray(base),
        base.ravel()[::-1],
        memoryview(base.ravel())[::2],
    ):
        assert told(read, thing, 0) == "BufferError: at_i32() argument 1 must be C-contiguous; pass a contiguous copy"
        assert (
            told(write, thing, 0, 0)
            == "BufferError: fill_i32() argument 1 must be C-contiguous; pass a contiguous copy"
        )
    for thing in (base[1], base[1:3], base[1:2, 1:3], memoryview(base.ravel())[4:6], np.asfortranarray(base[0])):
        assert read(thing, 0) == np.ravel(thing)[0]
    raw = memoryview(bytearray(b"abcdef"))
    total = typed_as("u8_sum", Readable[cg.u8], cg.usize, cg.ulong)
    assert total(raw[1:3], 2) == 98 + 99
    assert told(total, raw[::2], 3) == "BufferError: u8_sum() argument 1 must be C-contiguous; pass a contiguous copy"
    total = typed_as("byte_sum", Readable[None], cg.usize, cg.ulong)
    assert told(total, base.T, 3) == "BufferError: byte_sum() argument 1 must be C-contiguous; pass a contiguous copy"


def test_read_only_memory_is_not_written(typed_as: Any) -> None:
    frozen = np.zeros(2, "i4")
    frozen.flags.writeable = False
    write = fill(typed_as, "i32", cg.i32)
    head = "TypeError: fill_i32() argument 1 must be a writable buffer of i32, not"
    for thing, word in (
        (frozen, "read-only ndarray"), (b"12345678", "read-only bytes"), (memoryview(array("i", [1])).toreadonly(), "read-only memoryview"),
        ([1, 2], "list"), (np.int32(1), "read-only int32"),
    ):  # fmt: skip
        assert told(write, thing, 0, 0) == f"{head} {word}"
    reverse = typed_as("reverse_bytes", Writable[None], cg.usize, None)
    head = "TypeError: reverse_bytes() argument 1 must be a writable buffer, not"
    for thing, word in (
        (b"ab", "read-only bytes"),
        (memoryview(b"ab"), "read-only memoryview"),
        ("ab", "str"),
        ([1], "list"),
    ):
        assert told(reverse, thing, 2) == f"{head} {word}"
    data = bytearray(b"abc")
    reverse(data, 3)
    assert data == b"cba"


def test_empty_memory(typed_as: Any) -> None:
    total = typed_as("u8_sum", Readable[cg.u8], cg.usize, cg.ulong)
    void = typed_as("byte_sum", Readable[None], cg.usize, cg.ulong)
    write = fill(typed_as, "i32", cg.i32)
    for thing in (
        b"",
        bytearray(),
        memoryview(b""),
        np.zeros(0, "u1"),
        array("B"),
        (ctypes.c_ubyte * 0)(),
        np.zeros((0, 3), "u1"),
    ):
        assert total(thing, 0) == void(thing, 0) == 0
    assert total([], 0) == 0
    for thing in (array("i"), np.zeros(0, "i4"), (ctypes.c_int * 0)()):
        write(thing, 0, 1)


def test_memory_must_hold_what_an_array_parameter_says(bound: Any, typed_as: Any) -> None:
    lib = bound("int first_of_two(int pair[2]); int sum_of_two(const int pair[2]); int fill_two(int pair[2]);")
    pair = typed_as("fill_two", Writable[ctypes.c_int * 2], cg.i32)
    reader = typed_as("sum_of_two", Readable[ctypes.c_int * 2], cg.i32)
    for thing in (array("i", [0, 0]), np.zeros(3, "i4"), (ctypes.c_int * 2)(), memoryview(array("i", [0] * 5))):
        assert lib.fill_two(thing) == pair(thing) == 0
        assert list(thing)[:2] == [11, 22]
        assert lib.sum_of_two(thing) == reader(thing) == 33
    assert lib.sum_of_two([3, 4]) == reader([3, 4]) == 7
    assert lib.sum_of_two([3, 4, 5]) == 7
    assert lib.first_of_two(ctypes.cast((ctypes.c_int * 2)(8, 9), ctypes.POINTER(ctypes.c_int))) == 8
    one = (ctypes.c_int * 1)()
    for thing, size in (
        (array("i", [0]), 1), (array("i"), 0), (np.zeros(1, "i4"), 1), (one, 1), (ctypes.c_int(), 1), (ctypes.byref(one), 1),
        (ctypes.byref((ctypes.c_int * 2)(), 4), 1),
    ):  # fmt: skip
        assert (
            told(lib.fill_two, thing)
            == f"ValueError: fill_two() argument 1 must hold at least 2 items of i32, not {size}"
        )
        assert told(pair, thing) == told(lib.fill_two, thing)
    for call in (lib.sum_of_two, reader):
        assert told(call, [1]) == "ValueError: sum_of_two() argument 1 must hold at least 2 items of i32, not 1"
        assert told(call, []) == "ValueError: sum_of_two() argument 1 must hold at least 2 items of i32, not 0"


# -- lists ----------------------------------------------------------------------------------------------------------
@elements
def test_lists_are_copied(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, _, _, values = element
    call = at(typed_as, suffix, cls)
    things = [*values, True, Index(3), np.int8(5)]
    assert [call(things, index) for index in range(len(things))] == [*values, 1, 3, 5]
    assert call(type("L", (list,), {})(values), 2) == values[2]
    long = [values[number % 3] for number in range(10_000)]
    assert [call(long, index) for index in (0, 1, 5000, 9999)] == [long[index] for index in (0, 1, 5000, 9999)]


@elements
def test_an_item_that_does_not_convert_is_named(typed_as: Any, element: tuple[Any, ...]) -> None:
    suffix, cls, _, _, values = element
    call = at(typed_as, suffix, cls)
    kind = "float" if suffix.startswith("f") else "int"
    head = f"TypeError: at_{suffix}() argument 1 item 2 must be {kind}, not"
    for thing, word in (("1", "str"), (None, "None"), ([1], "list"), (1j, "complex")):
        assert told(call, [*values[:2], thing], 0) == f"{head} {word}"
    problem = Problem("mine")
    with pytest.raises(Problem) as info:
        call([values[0], Index(1, raising(problem))], 0)
    assert info.value is problem
    if kind == "int":
        assert told(call, [1, 1.0], 0) == f"TypeError: at_{suffix}() argument 1 item 1 must be int, not float"
        low, high = values[0], values[2]
        assert told(call, [1, 2, 3, high + 1], 0).startswith(
            f"OverflowError: at_{suffix}() argument 1 item 3 must be in {low}..{high} ("
        )
        assert told(call, [low - 1], 0).startswith(
            f"OverflowError: at_{suffix}() argument 1 item 0 must be in {low}..{high} ("
        )
    if suffix == "f32":
        assert told(call, [0.0, 1e39], 0) == (
            "OverflowError: at_f32() argument 1 item 1 must be in the range of a C float, not 1e+39"
        )


@pytest.mark.parametrize("row", BYTES, ids=["i8", "u8"])
def test_lists_of_bytes_keep_their_sign(typed_as: Any, row: tuple[Any, ...]) -> None:
    suffix, cls, _, values = row
    call = at(typed_as, suffix, cls)
    low, high = values[0], values[2]
    name = {"i8": "signed char", "u8": "unsigned char"}[suffix]
    for value in (low - 1, high + 1):
        assert told(call, [0, value], 0) == (
            f"OverflowError: at_{suffix}() argument 1 item 1 must be in {low}..{high} ({name}), not {value}"
        )
        assert told(call, [True, value], 0) == told(call, [0, value], 0)


def test_a_list_that_changes_while_it_is_copied(typed_as: Any) -> None:
    call = typed_as("sum_of_two", Readable[ctypes.c_int * 2], cg.i32)
    things: list[Any] = []
    things += [Index(1, things.clear), 2]
    assert call(things) == 3
    things = []
    things += [Index(1, lambda: things.extend([9] * 1000)), 2]
    assert call(things) == 3


def test_pointers_in_lists_and_arrays(bound: Any) -> None:
    lib = bound("long pointer_sum(int **rows, long count); long total_length(const char **words, long count);")
    numbers = [ctypes.c_int(value) for value in (1, 20, 300)]
    pointers = (ctypes.POINTER(ctypes.c_int) * 3)(*map(ctypes.pointer, numbers))
    assert lib.pointer_sum(pointers, 3) == 321
    words = (ctypes.c_char_p * 2)(b"one", b"three")
    assert lib.total_length(words, 2) == lib.total_length(ctypes.c_char_p(b"eight"), 1) + 3 == 8
    assert lib.total_length(ctypes.cast(words, ctypes.POINTER(ctypes.POINTER(ctypes.c_char))), 2) == 8
    assert told(lib.pointer_sum, [1], 1) == (
        "TypeError: pointer_sum() argument 1 must be a writable buffer of Ptr[i32] or None, not list"
    )
    assert told(lib.pointer_sum, array("q", [1]), 1) == (
        "TypeError: pointer_sum() argument 1 must be a writable buffer of Ptr[i32] or None, not array of format 'q'"
    )
    assert told(lib.pointer_sum, (ctypes.POINTER(ctypes.c_int64) * 1)(), 1).startswith(
        "TypeError: pointer_sum() argument 1 must be a writable buffer of Ptr[i32] or None, not "
    )


def test_structures_and_their_arrays(typed_as: Any) -> None:
    class Pair(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_int))

    class Other(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_int))

    call = typed_as("sum_of_two", Readable[Pair], cg.i32)
    for thing in (
        Pair(1, 2),
        (Pair * 2)(Pair(1, 2)),
        ctypes.byref(Pair(1, 2)),
        ctypes.pointer(Pair(1, 2)),
        type("Sub", (Pair,), {})(1, 2),
        [Pair(1, 2)],
    ):
        assert call(thing) == 3
    for item, word in ((Other(), "Other"), (1, "int"), (None, "None")):
        assert told(call, [Pair(), item]) == f"TypeError: sum_of_two() argument 1 item 1 must be Pair, not {word}"
    head = "TypeError: sum_of_two() argument 1 must be a readable Pair, not "
    for thing, word in (
        (Other(1, 2), "Other"), (ctypes.pointer(Other(1, 2)), "Ptr[Other]"), (array("i", [1, 2]), "array"),
        (np.zeros(1, [("a", "i4"), ("b", "i4")]), "ndarray"), (ctypes.byref(Other()), "CArgObject"),
        ((Other * 2)(), "Other_Array_2"), (memoryview(Pair()), "memoryview"), (bytes(8), "bytes"), (None, "None"),
        (8, "int; for an address use ctypes.cast(address, Ptr[Pair])"),
    ):  # fmt: skip
        assert told(call, thing) == f"{head}{word}"
    nullable = typed_as("sum_of_two", Readable[Pair] | None, cg.i32)
    assert told(nullable, Other()) == "TypeError: sum_of_two() argument 1 must be a readable Pair or None, not Other"
    fill_two = typed_as("fill_two", Writable[Pair], cg.i32)
    pair = Pair()
    fill_two(pair)
    assert (pair.a, pair.b) == (11, 22)
    assert told(fill_two, Other()) == "TypeError: fill_two() argument 1 must be a writable Pair, not Other"
    assert told(typed_as, "sum_of_two", Readable[Pair * 2], cg.i32) == (
        "DeclarationError: sum_of_two() parameter 'x1': an array of structures is not supported by this version of "
        "callgate; leave out its length"
    )


def test_rows_lie_one_after_the_other(typed_as: Any) -> None:
    call = typed_as("sum_of_two", Readable[ctypes.c_int * 2 * 3], cg.i32)
    for thing in (
        np.arange(6, dtype="i4").reshape(3, 2),
        (ctypes.c_int * 2 * 3)((0, 1)),
        array("i", range(6)),
        [0, 1, 2, 3, 4, 5],
    ):
        assert call(thing) == 1
    for thing in (np.arange(5, dtype="i4"), (ctypes.c_int * 5)(), [0] * 5):
        assert told(call, thing) == "ValueError: sum_of_two() argument 1 must hold at least 6 items of i32, not 5"


# -- during the call ------------------------------------------------------------------------------------------------
def test_memory_is_held_during_the_call(bound: Any) -> None:
    lib = bound(
        """void sum_after_call(const unsigned char *data, size_t count, void (*function)(void), unsigned long *sum);
        unsigned long u8_sum(const unsigned char *data, size_t count);"""
    )
    data = bytearray(b"\1\2\3")
    attempts: list[str] = []

    def resize() -> None:
        attempts.append(told(data.extend, b"x" * 100_000))

    total = ctypes.c_ulong()
    lib.sum_after_call(data, 3, ctypes.CFUNCTYPE(None)(resize), total)
    held = "BufferError: Existing exports of data: object cannot be re-sized"
    assert (total.value, attempts) == (6, [held])
    assert lib.u8_sum(data, Index(3, resize)) == 6
    assert attempts == [held] * 2
    resize()
    assert attempts == [held, held, "None"] and len(data) == 100_003


@pytest.mark.parametrize(
    "last", ["text", Index(3, raising(Problem("mine"))), 2**64, None], ids=["str", "raises", "range", "None"]
)
def test_nothing_is_held_after_a_refusal(bound: Any, typed_as: Any, last: Any) -> None:
    calls = [bound("unsigned long u8_sum(const unsigned char *data, size_t count);").u8_sum,
             typed_as("byte_sum", Writable[None], cg.usize, cg.ulong)]  # fmt: skip
    for call in calls:
        data = bytearray(b"\1\2\3")
        with pytest.raises((TypeError, OverflowError, Problem)):
            call(data, last)
        try:
            call(data, last)
        except (TypeError, OverflowError, Problem) as problem:
            assert problem.__traceback__ is not None  # the traceback is alive, with every frame in it
            data.append(4)
        assert call(data, 4) == 10


def test_nothing_is_held_after_the_buffer_itself_is_refused(typed_as: Any) -> None:
    call = typed_as("sum_of_two", Readable[ctypes.c_int * 2], cg.i32)
    for thing in (array("i", [1]), array("d", [1, 2, 3])):
        try:
            call(thing)
        except (TypeError, ValueError) as problem:
            assert problem.__traceback__ is not None
            thing.append(2)
    assert call(array("i", [1, 2])) == 3


def test_nothing_is_held_after_c_failed(typed_as: Any) -> None:
    call = typed_as("byte_sum", Readable[None], cg.usize, cg.ulong, fails_if="nonzero", error=Problem)
    data = bytearray(b"\1")
    for _ in range(3):
        try:
            call(data, 1)
        except Problem as problem:
            assert problem.args == (1,) or problem.__traceback__
            data.append(1)
    assert len(data) == 4


def test_several_buffers_are_held_and_released(bound: Any) -> None:
    lib = bound("long sum_all(const int32_t *a, long na, const double *b, long nb, const unsigned char *c, long nc);")
    a, b, c = array("i", [1, 2]), array("d", [10.0, 20.0]), bytearray(b"\x64")
    attempts: list[str] = []

    def resize() -> None:
        for thing, item in ((a, 1), (b, 1.0), (c, 1)):
            attempts.append(told(thing.append, item))  # type: ignore[attr-defined]

    assert lib.sum_all(a, 2, b, 2, c, Index(1, resize)) == 133
    assert [attempt.partition(":")[0] for attempt in attempts] == ["BufferError"] * 3
    assert told(lib.sum_all, a, 2, b, 2, c, "x") == "TypeError: sum_all() argument 6 must be int, not str"
    resize()
    assert attempts[3:] == ["None"] * 3
    assert lib.sum_all(None, 0, None, 0, None, 0) == 0
    assert lib.sum_all([1], 1, [2.0], 1, [3], 1) == 6


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes written in Python export buffers from 3.12 on")
def test_exporters_written_in_python(typed_as: Any) -> None:
    released: list[int] = []

    class Exporter:
        def __init__(self, problem: BaseException | None = None) -> None:
            self.data = bytearray(b"\1\2\3")
            self.problem = problem

        def __buffer__(self, flags: int) -> memoryview:
            if self.problem is not None:
                raise self.problem
            return memoryview(self.data)

        def __release_buffer__(self, view: memoryview) -> None:
            released.append(len(view))
            view.release()

    total = typed_as("u8_sum", Readable[cg.u8], cg.usize, cg.ulong)
    thing = Exporter()
    assert total(thing, Index(3, lambda: released.append(-1))) == 6
    assert released[0] == -1 and released[-1] == 3
    thing.data.append(4)
    for problem in (Problem("mine"), TypeError("mine"), BufferError("mine"), ValueError("mine")):
        with pytest.raises(type(problem)) as info:
            total(Exporter(problem), 3)
        assert info.value is problem

    class Interrupted(Exporter):
        def __buffer__(self, flags: int) -> memoryview:
            self.problem, problem = None, self.problem
            if problem is not None:
                raise problem
            return memoryview(self.data)

    with pytest.raises(KeyboardInterrupt):  # and not asked again, when it might be content
        total(Interrupted(KeyboardInterrupt()), 3)

    class Sly(bytes):
        def __buffer__(self, flags: int) -> memoryview:
            raise Problem("__buffer__ of bytes")

        def __release_buffer__(self, view: memoryview) -> None:
            raise Problem("__release_buffer__ of bytes")

    assert total(Sly(b"\1\2"), 2) == 3
    assert typed_as("length", cg.cstr, cg.usize)(Sly(b"ab")) == 2

    class Slyer(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_int))

        def __release_buffer__(self, view: memoryview) -> None:
            released.append(-2)

    assert typed_as("sum_of_two", Readable[Slyer], cg.i32)(Slyer(1, 2)) == 3
    assert -2 not in released
