"""Every scalar type of C: boundaries, what converts to it, what does not, and the words of every refusal."""

from __future__ import annotations

import ctypes
import enum
import math
import operator
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from here import C_INT, INT64, LONG, LONG_BITS, WCHAR_BITS
from numpy_here import np
from telling import Float, Index, Problem, raising, told

import callgate as cg

# suffix in targets.c, spelling in C text, bits, signed, the annotation, and its canonical C name
INTEGERS: list[tuple[str, str, int, bool, Any, str]] = [
    ("i8", "int8_t", 8, True, cg.i8, "signed char"),
    ("i16", "int16_t", 16, True, cg.i16, "short"),
    ("i32", "int32_t", 32, True, cg.i32, "int"),
    ("i64", "int64_t", 64, True, cg.i64, INT64),
    ("u8", "uint8_t", 8, False, cg.u8, "unsigned char"),
    ("u16", "uint16_t", 16, False, cg.u16, "unsigned short"),
    ("u32", "uint32_t", 32, False, cg.u32, "unsigned int"),
    ("u64", "uint64_t", 64, False, cg.u64, f"unsigned {INT64}"),
    ("short", "short", 16, True, cg.short, "short"),
    ("ushort", "unsigned short", 16, False, cg.ushort, "unsigned short"),
    ("int", "int", 32, True, cg.int_, "int"),
    ("uint", "unsigned int", 32, False, cg.uint, "unsigned int"),
    ("long", "long", LONG_BITS, True, cg.long, LONG),
    ("ulong", "unsigned long", LONG_BITS, False, cg.ulong, f"unsigned {LONG}"),
    ("longlong", "long long", 64, True, cg.longlong, INT64),
    ("ulonglong", "unsigned long long", 64, False, cg.ulonglong, f"unsigned {INT64}"),
    ("isize", "ssize_t", 64, True, cg.isize, INT64),
    ("usize", "size_t", 64, False, cg.usize, f"unsigned {INT64}"),
]
FIXED = INTEGERS[:8]
by_suffix = pytest.mark.parametrize("integer", INTEGERS, ids=[row[0] for row in INTEGERS])


def limits(bits: int, is_signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)


def boundaries(low: int, high: int) -> list[int]:
    """Values of the range around everything that an implementation may treat apart: digits, small ints, widths."""
    edges = {low, high, 0, *(1 << n for n in range(64)), *(-(1 << n) for n in range(64)), -5, 256, 1 << 30, 1 << 60}
    near = {edge + step for edge in edges for step in (-1, 0, 1)}
    return sorted(value for value in near if low <= value <= high)


@by_suffix
def test_every_boundary_goes_through_and_comes_back(bound: Any, integer: tuple[Any, ...]) -> None:
    suffix, spelling, bits, is_signed, *_ = integer
    lib = bound(
        f"{spelling} id_{suffix}({spelling} x); long long wide_{suffix}({spelling} x); int call_count(void);"
        f"{spelling} seventh_{suffix}(long a, long b, long c, long d, long e, long f, double g, {spelling} x);"
    )
    call, wide, seventh = lib[f"id_{suffix}"], lib[f"wide_{suffix}"], lib[f"seventh_{suffix}"]
    values = boundaries(*limits(bits, is_signed))
    assert [call(value) for value in values] == values
    assert [seventh(1, 2, 3, 4, 5, 6, 7.0, value) for value in values] == values
    assert [wide(value) & (1 << 64) - 1 for value in values] == [value & (1 << 64) - 1 for value in values]


@by_suffix
def test_what_does_not_fit_is_refused_and_c_is_not_called(bound: Any, integer: tuple[Any, ...]) -> None:
    suffix, spelling, bits, is_signed, *_ = integer
    lib = bound(f"{spelling} id_{suffix}({spelling} x); int call_count(void);")
    call = lib[f"id_{suffix}"]
    low, high = limits(bits, is_signed)
    before = lib.call_count()
    for value in (low - 1, high + 1, low - 2, high + 256, -(1 << 63) - 1, 1 << 64, (1 << 64) + 1, -(1 << 64), 1 << 100):
        expected = f"OverflowError: id_{suffix}() argument 1 must be in {low}..{high} ({spelling}), not {value}"
        assert told(call, value) == expected
        assert told(call, Index(value)) == expected
    huge = f"OverflowError: id_{suffix}() argument 1 must be in {low}..{high} ({spelling}), not an int of 20001 bits"
    assert told(call, 1 << 20000) == huge
    assert told(call, -(1 << 20000)) == huge
    assert lib.call_count() == before


@by_suffix
def test_annotations_mean_the_same(typed_as: Any, integer: tuple[Any, ...]) -> None:
    suffix, _, bits, is_signed, annotation, canonical = integer
    call = typed_as(f"id_{suffix}", annotation, annotation)
    low, high = limits(bits, is_signed)
    assert [call(low), call(high)] == [low, high]
    assert told(call, high + 1) == (
        f"OverflowError: id_{suffix}() argument 1 must be in {low}..{high} ({canonical}), not {high + 1}"
    )


class Ten(int):
    """An int that lies about itself in every way that Python code could."""

    def __index__(self) -> int:
        raise Problem("__index__ of an int")

    def __int__(self) -> int:
        raise Problem("__int__ of an int")

    def __le__(self, other: object) -> bool:
        return True

    def __ge__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __abs__(self) -> int:
        return 0

    def __lt__(self, other: object) -> bool:
        return True


class Level(enum.IntEnum):
    LOW = -3
    HIGH = 70000


class Bits(enum.IntFlag):
    A = 1
    B = 1 << 20


@pytest.mark.parametrize(
    ("thing", "value"),
    [
        (True, 1), (False, 0), (0 * 2**100, 0), (2**100 - 2**100, 0), (int("0"), 0), (-(2**100) + 2**100 - 1, -1),
        (Ten(10), 10), (Ten(0), 0), (Level.LOW, -3), (Level.HIGH, 70000), (Bits.A | Bits.B, 0x100001),
        (Index(17), 17), (Index(-(2**31)), -(2**31)), (Index(Level.LOW), -3),
        (np.int8(-128), -128), (np.int16(-300), -300), (np.int32(2**31 - 1), 2**31 - 1), (np.int64(-70000), -70000),
        (np.uint8(255), 255), (np.uint16(65535), 65535), (np.uint32(7), 7), (np.uint64(2**31 - 1), 2**31 - 1),
        (np.longlong(-1), -1), (np.array(41), 41), (ctypes.c_long(3).value, 3),
    ],
    ids=lambda thing: f"{type(thing).__name__}-{getattr(thing, 'value', '')}",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Index(Level.LOW) returns a subclass of int
def test_what_an_int_may_be(bound: Any, thing: Any, value: int) -> None:
    lib = bound("int id_int(int x); long id_long(long x);")
    assert repr((lib.id_int(thing), lib.id_long(thing))) == repr((value, value))


@pytest.mark.parametrize(("suffix", "spelling"), [(row[0], row[1]) for row in FIXED], ids=[row[0] for row in FIXED])
@pytest.mark.parametrize(
    ("thing", "word"),
    [
        (1.0, "float"), (np.float64(1), "float64"), (np.float32(1), "float32"), (Decimal(1), "Decimal"),
        (Fraction(1), "Fraction"), (1j, "complex"), ("1", "str"), (b"1", "bytes"), (None, "None"), ([], "list"),
        (int, "type"), (Float(1.0), "Float"), (ctypes.c_int(1), C_INT),
    ],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
def test_what_an_int_may_not_be(bound: Any, suffix: str, spelling: str, thing: Any, word: str) -> None:
    call = bound(f"{spelling} id_{suffix}({spelling} x);")[f"id_{suffix}"]
    assert told(call, thing) == f"TypeError: id_{suffix}() argument 1 must be int, not {word}"


def test_a_lying_int_is_still_checked(bound: Any) -> None:
    lib = bound("signed char id_i8(signed char x); unsigned char id_u8(unsigned char x);")
    assert told(lib.id_i8, Ten(1000)) == (
        "OverflowError: id_i8() argument 1 must be in -128..127 (signed char), not 1000"
    )
    assert told(lib.id_u8, Ten(-1)) == "OverflowError: id_u8() argument 1 must be in 0..255 (unsigned char), not -1"


@pytest.mark.parametrize("spelling", ["int", "double", "float", "_Bool", "long double"])
def test_exceptions_of_the_argument_come_out_unchanged(bound: Any, spelling: str) -> None:
    suffix = {"int": "int", "double": "f64", "float": "f32", "_Bool": "bool", "long double": "longdouble"}[spelling]
    call = bound(f"{spelling} id_{suffix}({spelling} x);")[f"id_{suffix}"]
    things: list[Callable[[BaseException], Any]] = [lambda problem: Index(1, raising(problem))]
    if spelling not in ("int", "_Bool"):
        things.append(lambda problem: Float(1.0, raising(problem)))
    for thing in things:
        for problem in (Problem("mine"), TypeError("mine"), OverflowError("mine"), KeyboardInterrupt("mine")):
            with pytest.raises(type(problem)) as info:
                call(thing(problem))
            assert info.value is problem
            assert info.value.__cause__ is None and info.value.__context__ is None


@pytest.mark.parametrize("spelling", ["int", "unsigned long"])
def test_index_that_returns_no_int(bound: Any, spelling: str) -> None:
    suffix = {"int": "int", "unsigned long": "ulong"}[spelling]
    call = bound(f"{spelling} id_{suffix}({spelling} x);")[f"id_{suffix}"]
    assert told(call, Index("1")) == told(operator.index, Index("1"))


# -- results --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("suffix", "annotation", "bits", "value"),
    [
        ("i8", cg.i8, 0x7F, 127), ("i8", cg.i8, 0x80, -128), ("i8", cg.i8, 0xFFFFFF00, 0), ("u8", cg.u8, 0x1FF, 255),
        ("i16", cg.i16, 0x18000, -32768), ("u16", cg.u16, 0xFFFF8000, 32768), ("i32", cg.i32, 0x80000000, -(2**31)),
        ("u32", cg.u32, 0xFFFFFFFF, 2**32 - 1), ("i32", cg.i32, 0xFFFFFFFF, -1), ("bool", cg.bool_, 1, True),
        ("bool", bool, 0xFFFFFF00, False), ("char", cg.char, 0x141, b"A"), ("char", cg.char, 0xFF, b"\xff"),
        ("wchar", cg.wchar, 0x20AC, "€"), ("wchar", cg.wchar, 0x1F600, "\U0001f600" if WCHAR_BITS == 32 else "\uf600"), ("char", cg.char, 0, b"\0"),
        ("wchar", cg.wchar, 0, "\0"), ("wchar", cg.wchar, 0xD800, "\ud800"),
    ],
)  # fmt: skip
def test_results_ignore_the_rest_of_the_register(
    typed_as: Any, suffix: str, annotation: Any, bits: int, value: object
) -> None:
    assert repr(typed_as(f"dirty_{suffix}", cg.u64, annotation)(bits)) == repr(value)


@pytest.mark.skipif(WCHAR_BITS == 16, reason="wchar_t has 2 bytes: each is a character")
@pytest.mark.parametrize("bits", [0x110000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_wide_character_that_is_none(typed_as: Any, bits: int) -> None:
    assert told(typed_as("dirty_wchar", cg.u64, cg.wchar), bits) == "ValueError: chr() arg not in range(0x110000)"


@pytest.mark.parametrize("suffix", ["i64", "u64", "i16", "u32"])
def test_shared_small_ints_are_the_shared_ones(bound: Any, suffix: str) -> None:
    spelling = {row[0]: row[1] for row in INTEGERS}[suffix]
    call = bound(f"{spelling} id_{suffix}({spelling} x);")[f"id_{suffix}"]
    for value in (0, 1, 255, 256, *((-5, -1) if suffix.startswith("i") else ())):
        assert call(value) is int(str(value))
    for value in (257, 258, *((-6, -7) if suffix.startswith("i") else ())):
        assert call(value) == value


# -- floats ---------------------------------------------------------------------------------------------------------
INF, NAN = math.inf, math.nan
F32_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
DOUBLES = [
    0.0, -0.0, 1.0, -1.5, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2250738585072014e-308, INF, -INF,
    0.1, math.pi, 2.0**53 + 2,
]  # fmt: skip


def test_doubles_keep_every_bit(bound: Any) -> None:
    lib = bound("double id_f64(double x); uint64_t bits_f64(double x); double from_bits_f64(uint64_t bits);")
    for value in DOUBLES:
        assert repr(lib.id_f64(value)) == repr(value)
        assert struct.pack("<Q", lib.bits_f64(value)) == struct.pack("<d", value)
    for bits in (0x7FF8000000000000, 0xFFF8000000000001, 0x7FFFFFFFFFFFFFFF):
        value = lib.from_bits_f64(bits)
        assert math.isnan(value) and lib.bits_f64(value) == bits


def test_floats_round_as_c_rounds(bound: Any) -> None:
    lib = bound("float id_f32(float x); uint32_t bits_f32(float x); float from_bits_f32(uint32_t bits);")
    halfway = F32_MAX + (2.0**103 - 2.0**75)  # the last double that still rounds to the largest float
    values = [
        0.0, -0.0, 1.0, -1.5, 0.1, 1e-45, -1e-46, 1e-38, F32_MAX, -F32_MAX, math.nextafter(F32_MAX, 0) if
        hasattr(math, "nextafter") else 1.0, 16777217.0, halfway, INF, -INF,
    ]  # fmt: skip
    for value in values:
        assert struct.pack("<I", lib.bits_f32(value)) == struct.pack("<f", value)
        assert repr(lib.id_f32(value)) == repr(struct.unpack("<f", struct.pack("<f", value))[0])
    assert math.isnan(lib.id_f32(NAN)) and math.isnan(lib.from_bits_f32(0x7FC00001))
    for bits in (1, 0x80000001, 0x007FFFFF, 0x7F7FFFFF):
        assert lib.bits_f32(lib.from_bits_f32(bits)) == bits


@pytest.mark.parametrize("value", [1e39, -1e39, 1.7976931348623157e308, F32_MAX + 2.0**103, -(F32_MAX + 2.0**103)])
def test_a_float_does_not_become_infinite(bound: Any, value: float) -> None:
    lib = bound(
        "float id_f32(float x); float seventh_f32(long a, long b, long c, long d, long e, long f, double g, float x);"
    )
    assert (
        told(lib.id_f32, value)
        == f"OverflowError: id_f32() argument 1 must be in the range of a C float, not {value!r}"
    )
    for thing in (np.float64(value), Float(value), int(value)):
        assert told(lib.id_f32, thing).startswith(
            "OverflowError: id_f32() argument 1 must be in the range of a C float"
        )
    assert told(lib.seventh_f32, 1, 2, 3, 4, 5, 6, 7.0, value) == (
        f"OverflowError: seventh_f32() argument 8 must be in the range of a C float, not {value!r}"
    )


class Half(float):
    def __float__(self) -> float:
        raise Problem("__float__ of a float")


@pytest.mark.parametrize("suffix", ["f64", "f32", "longdouble"])
@pytest.mark.parametrize(
    ("thing", "value"),
    [
        (1, 1.0), (-3, -3.0), (0, 0.0), (True, 1.0), (2**24, 16777216.0), (Half(0.5), 0.5), (Float(2.5), 2.5),
        (Float(Half(0.25)), 0.25), (Index(9), 9.0), (Level.LOW, -3.0), (np.float64(1.5), 1.5), (np.float32(0.25), 0.25),
        (np.float16(0.5), 0.5), (np.longdouble(0.75), 0.75), (np.int8(-4), -4.0), (np.uint64(5), 5.0),
        (Decimal("0.125"), 0.125), (Fraction(1, 8), 0.125), (np.array(2.0), 2.0), (-(2**62), -(2.0**62)),
    ],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Float(Half) returns a subclass of float
def test_what_a_float_may_be(bound: Any, suffix: str, thing: Any, value: float) -> None:
    spelling = {"f64": "double", "f32": "float", "longdouble": "long double"}[suffix]
    lib = bound(
        f"{spelling} id_{suffix}({spelling} x);"
        f"{spelling} seventh_{suffix}(long a, long b, long c, long d, long e, long f, double g, {spelling} x);"
    )
    assert repr(lib[f"id_{suffix}"](thing)) == repr(value)
    assert repr(lib[f"seventh_{suffix}"](1, 2, 3, 4, 5, 6, 7.0, thing)) == repr(value)


@pytest.mark.parametrize("suffix", ["f64", "f32", "longdouble"])
@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("1", "TypeError: id_{}() argument 1 must be float, not str"),
        (b"1", "TypeError: id_{}() argument 1 must be float, not bytes"),
        (None, "TypeError: id_{}() argument 1 must be float, not None"),
        (1j, "TypeError: id_{}() argument 1 must be float, not complex"),
        ([1.0], "TypeError: id_{}() argument 1 must be float, not list"),
        (ctypes.c_double(1), "TypeError: id_{}() argument 1 must be float, not c_double"),
        (10**400, "OverflowError: int too large to convert to float"),
        (-(10**400), "OverflowError: int too large to convert to float"),
        (Index(10**400), "OverflowError: int too large to convert to float"),
        (Float("1"), told(float, Float("1"))),
        (Index("1"), told(operator.index, Index("1"))),
    ],
    ids=[
        "str",
        "bytes",
        "None",
        "complex",
        "list",
        "c_double",
        "huge",
        "-huge",
        "huge-index",
        "__float__",
        "__index__",
    ],
)
def test_what_a_float_may_not_be(bound: Any, suffix: str, thing: Any, message: str) -> None:
    spelling = {"f64": "double", "f32": "float", "longdouble": "long double"}[suffix]
    assert told(bound(f"{spelling} id_{suffix}({spelling} x);")[f"id_{suffix}"], thing) == message.format(suffix)


def test_long_doubles_travel_as_doubles_and_are_full_long_doubles_in_c(bound: Any) -> None:
    lib = bound("long double id_longdouble(long double x), third(void); int same_longdouble(long double a, double b);")
    for value in DOUBLES:
        assert repr(lib.id_longdouble(value)) == repr(value)
        assert lib.same_longdouble(value, value) == 1
    assert lib.third() == 1 / 3
    assert math.isnan(lib.id_longdouble(NAN))


# -- _Bool, char, wchar_t -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (True, "True"), (False, "False"), (1, "True"), (0, "False"), (0 * 2**100, "False"), (Index(1), "True"),
        (np.bool_(True), "True"), (np.bool_(False), "False"), (np.int8(1), "True"), (Bits.A, "True"), (Ten(1), "True"),
        (2, "OverflowError: id_bool() argument 1 must be True or False (_Bool), not 2"),
        (-1, "OverflowError: id_bool() argument 1 must be True or False (_Bool), not -1"),
        (Index(2**70), f"OverflowError: id_bool() argument 1 must be True or False (_Bool), not {2**70}"),
        (Ten(7), "OverflowError: id_bool() argument 1 must be True or False (_Bool), not 7"),
        (1.0, "TypeError: id_bool() argument 1 must be bool, not float"),
        (None, "TypeError: id_bool() argument 1 must be bool, not None"),
        ("", "TypeError: id_bool() argument 1 must be bool, not str"),
        ([], "TypeError: id_bool() argument 1 must be bool, not list"),
    ],
    ids=lambda thing: thing if isinstance(thing, str) and len(thing) < 6 else type(thing).__name__,
)  # fmt: skip
def test_bool(bound: Any, typed_as: Any, thing: Any, expected: str) -> None:
    assert told(bound("_Bool id_bool(_Bool x);").id_bool, thing) == expected
    assert told(typed_as("id_bool", bool, bool), thing) == expected
    assert told(typed_as("id_bool", cg.bool_, cg.bool_), thing) == expected


class Letters(bytes):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        raise Problem("__getitem__ of bytes")


def wide(character: str) -> str:
    """What a character beyond U+FFFF gives."""
    if WCHAR_BITS == 32:
        return repr(character)
    return (
        f"ValueError: id_wchar() argument 1 must be a character up to U+FFFF, not U+{ord(character):X}: wchar_t has 2 "
        "bytes here; declare a wstr, or pass the two halves of its UTF-16"
    )


class Words(str):
    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (b"a", "b'a'"), (b"\0", r"b'\x00'"), (b"\xff", r"b'\xff'"), (Letters(b"L"), "b'L'"),
        (b"", "TypeError: id_char() argument 1 must be bytes of length 1, not of length 0"),
        (b"ab", "TypeError: id_char() argument 1 must be bytes of length 1, not of length 2"),
        (Letters(b"abc"), "TypeError: id_char() argument 1 must be bytes of length 1, not of length 3"),
        ("a", "TypeError: id_char() argument 1 must be bytes of length 1, not str"),
        (97, "TypeError: id_char() argument 1 must be bytes of length 1, not int"),
        (bytearray(b"a"), "TypeError: id_char() argument 1 must be bytes of length 1, not bytearray"),
        (None, "TypeError: id_char() argument 1 must be bytes of length 1, not None"),
    ],
    ids=repr,
)  # fmt: skip
def test_char(bound: Any, typed_as: Any, thing: Any, expected: str) -> None:
    assert told(bound("char id_char(char x);").id_char, thing) == expected
    assert told(typed_as("id_char", cg.char, cg.char), thing) == expected


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("a", "'a'"), ("\0", r"'\x00'"), ("€", "'€'"),
        ("\U0001f600", wide("\U0001f600")), ("\U0010ffff", wide("\U0010ffff")),
        ("\ud800", r"'\ud800'"), (Words("w"), "'w'"),
        ("", "TypeError: id_wchar() argument 1 must be str of length 1, not of length 0"),
        ("ab", "TypeError: id_wchar() argument 1 must be str of length 1, not of length 2"),
        (Words("abc"), "TypeError: id_wchar() argument 1 must be str of length 1, not of length 3"),
        (b"a", "TypeError: id_wchar() argument 1 must be str of length 1, not bytes"),
        (97, "TypeError: id_wchar() argument 1 must be str of length 1, not int"),
        (None, "TypeError: id_wchar() argument 1 must be str of length 1, not None"),
    ],
    ids=ascii,
)  # fmt: skip
def test_wchar(bound: Any, typed_as: Any, thing: Any, expected: str) -> None:
    assert told(bound("wchar_t id_wchar(wchar_t x);").id_wchar, thing) == expected
    assert told(typed_as("id_wchar", cg.wchar, cg.wchar), thing) == expected


# -- enums ----------------------------------------------------------------------------------------------------------
class Color(enum.IntEnum):
    RED = 0
    GREEN = 5
    BLUE = 6


class Flags(enum.IntFlag):
    READ = 1
    WRITE = 2
    TOP = 1 << 31


class Wide(enum.IntEnum):
    LOW = -1
    HIGH = 1 << 40


def test_enums_by_value(typed_as: Any) -> None:
    turn = typed_as("next_color", Color, Color)
    assert turn(Color.RED) is Color.GREEN
    assert turn(5) is Color.BLUE
    assert told(turn, Color.BLUE) == "ValueError: 99 is not a valid Color"
    assert told(turn, 1.0) == "TypeError: next_color() argument 1 must be int, not float"
    assert told(turn, 2**31) == (
        f"OverflowError: next_color() argument 1 must be in -{2**31}..{2**31 - 1} (int), not {2**31}"
    )
    wide = typed_as("id_i64", Wide, Wide)
    assert wide(Wide.HIGH) is Wide.HIGH
    assert wide(-1) is Wide.LOW
    assert told(wide, 2) == "ValueError: 2 is not a valid Wide"


def test_flags_by_value(typed_as: Any) -> None:
    either = typed_as("or_flags", Flags, Flags, Flags)
    assert either(Flags.READ, Flags.WRITE) == Flags.READ | Flags.WRITE
    assert type(either(1, 2)) is Flags
    assert either(Flags.TOP, 0) is Flags.TOP
    assert int(either(Flags.TOP, 1)) == 2**31 + 1
    assert int(either(8, 1)) == 9  # an unknown bit is kept
    assert (
        told(either, -1, 0) == f"OverflowError: or_flags() argument 1 must be in 0..{2**32 - 1} (unsigned int), not -1"
    )


def test_enums_of_c_text_are_ints(bound: Any) -> None:
    lib = bound("enum color { RED, GREEN = 5, BLUE }; enum color next_color(enum color color);")
    assert (lib.RED, lib.GREEN, lib.BLUE) == (0, 5, 6)
    assert repr(lib.next_color(lib.GREEN)) == "6"
    assert repr(lib.next_color(6)) == "99"
    assert told(lib.next_color, "RED") == "TypeError: next_color() argument 1 must be int, not str"


# -- many arguments -------------------------------------------------------------------------------------------------
def test_arguments_in_registers_and_on_the_stack(bound: Any) -> None:
    lib = bound(
        """int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i);
        double weigh_mixed(int a, double b, float c, long d, long double e, double f, float g, int h, double i, double j,
            float k, double l, double m, long n, long o, long p, long double q, float r, short s);"""
    )
    assert lib.weigh9(-1, -(2**40), -3, -4, 2**32 - 1, 255, -7, -8, 65535) == (
        -1 - 2 * 2**40 - 9 - 16 + 5 * (2**32 - 1) + 6 * 255 - 49 - 64 + 9 * 65535
    )
    values = [-1, 2.0, 3.5, -4, 5.25, 6.0, -7.5, 8, 9.0, 10.0, 11.0, -12.0, 13.0, 14, -15, 16, 17.0, 18.5, -19]
    weighed = sum(weight * value for weight, value in enumerate(values, 1))
    assert lib.weigh_mixed(*values) == weighed
    boxed = [Float(value) if isinstance(value, float) else Index(value) for value in values]
    assert lib.weigh_mixed(*boxed) == weighed
    names = "abcdefghijklmnopqrs"
    assert lib.weigh_mixed(**dict(reversed([*zip(names, values, strict=True)]))) == weighed
    for number, value in enumerate(values):
        spoiled = [*values[:number], "?", *values[number + 1 :]]
        kind = "float" if isinstance(value, float) else "int"
        assert (
            told(lib.weigh_mixed, *spoiled) == f"TypeError: weigh_mixed() argument {number + 1} must be {kind}, not str"
        )


@pytest.mark.parametrize("count", [*range(13), 15, 16, 17, 24, 31, 40, 127, 300])
@pytest.mark.parametrize("kinds", ["int", "double", "mixed"])
def test_any_number_of_arguments(build_library: Any, engine: str, count: int, kinds: str) -> None:
    cycle = {"int": ["int"], "double": ["double"], "mixed": ["double", "long", "float", "long double", "short"]}[kinds]
    types = [cycle[number % len(cycle)] for number in range(count)]
    parameters = ", ".join(f"{ctype} a{number}" for number, ctype in enumerate(types)) or "void"
    total = " + ".join(f"{number + 1} * (double)a{number}" for number in range(count)) or "0"
    lib = cg.load(str(build_library(f"double weigh({parameters}) {{ return {total}; }}", ("-O1",))),
                  f"double weigh({parameters});", engine=engine)  # fmt: skip
    values = [
        (number % 7 - 3) * (0.5 if ctype in ("double", "float", "long double") else 1)
        for number, ctype in enumerate(types)
    ]
    weighed = sum((number + 1) * value for number, value in enumerate(values))
    assert lib.weigh(*values) == weighed
    assert lib.weigh(**{f"a{number}": value for number, value in reversed([*enumerate(values)])}) == weighed
    if count:
        assert told(lib.weigh, *values[:-1], None) == (
            f"TypeError: weigh() argument {count} must be {'float' if types[-1] in ('double', 'float', 'long double') else 'int'}, not None"
        )
        things = "arguments" if count > 1 else "argument"
        assert told(lib.weigh, *values, 1) == f"TypeError: weigh() takes exactly {count} {things} ({count + 1} given)"
    else:
        assert told(lib.weigh, 1) == "TypeError: weigh() takes no arguments (1 given)"
