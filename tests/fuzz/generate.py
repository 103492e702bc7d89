"""Random C functions and calls of them, for `oracle.abi_targets` to build.

`draw_signature` draws from anything that has the methods of `random.Random`.  `strategy()` lends it Hypothesis's
choices, so that a failure shrinks; `signatures(seed, count)` gives it `random.Random(seed)`, which is some hundred
times faster and is what the long runs use.  Both depend on the seed alone.

Values crowd at the boundaries: of the C type, of the digits of Python's ints, of float's range.  What is passed is
mostly the plain object of the type and sometimes another that the declaration takes as well, so that every call has
its chance to leave the inline path.
"""

from __future__ import annotations

import array
import ctypes
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from random import Random

from hypothesis import strategies

from oracle.abi_targets import (
    BY_SPELLING,
    MAXIMUM_PARAMETERS,
    NULL_SEEN,
    NUMBERS,
    SCALARS,
    STRING_BYTES,
    WIDE_CHARACTERS,
    Argument,
    Kind,
    Observed,
    Options,
    Returned,
    Scalar,
    Signature,
)

INTEGERS = tuple(scalar for scalar in SCALARS if scalar.kind in (Kind.SIGNED, Kind.UNSIGNED))
FLOATS = tuple(scalar for scalar in SCALARS if scalar.kind is Kind.FLOATING)
NARROW = tuple(scalar for scalar in SCALARS if scalar.is_narrow)
ARRAY_CODES = {Kind.SIGNED: {1: "b", 2: "h", 4: "i", 8: "l"}, Kind.UNSIGNED: {1: "B", 2: "H", 4: "I", 8: "L"}}
FLOAT_CODES = {4: "f", 8: "d"}


class Index:
    """An object that is an integer by `__index__` alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Index({self.value})"


class Whole(int):
    """An int of another class."""


class Real(float):
    """A float of another class."""


# -- values -----------------------------------------------------------------------------------------------------------


def draw_int(random: Random, low: int, high: int) -> int:
    """An int of low..high: its ends, powers of two and their neighbours (PyLong's digits have 30 bits), any."""
    match random.randrange(4):
        case 0:
            return random.choice((low, low + 1, high - 1, high))
        case 1:
            value = (1 << random.randrange(high.bit_length() + 1)) + random.choice((-1, 0, 1))
            return max(low, min(high, random.choice((value, -value))))
        case 2:
            return max(low, min(high, random.randrange(-6, 258)))
        case _:
            return random.randint(low, high)


def draw_float(random: Random) -> float:
    """A double: zeros, infinities, NaN, the ends of the normal and subnormal numbers of both widths, any."""
    match random.randrange(5):
        case 0:
            return random.choice((0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 1.0, -1.0, 0.1, 1e300, -1e-300))
        case 1:
            ends = (
                5e-324,
                2.2250738585072014e-308,
                1.7976931348623157e308,
                1e-45,
                1.17549435e-38,
                3.4028234663852886e38,
            )
            return random.choice(ends) * random.choice((1.0, -1.0))
        case 2:
            return math.ldexp(random.choice((1.0, -1.0)) * random.randint(1, (1 << 53) - 1), random.randint(-160, 70))
        case 3:
            return float(random.randint(-1000, 1000)) / 8
        case _:
            (value,) = struct.unpack("<d", random.getrandbits(64).to_bytes(8, "little"))
            return math.nan if math.isnan(value) else value


def draw_value(random: Random, scalar: Scalar) -> object:
    """A value of a type as Python holds it."""
    bits = 8 * scalar.size_bytes
    match scalar.kind:
        case Kind.SIGNED:
            return draw_int(random, -(1 << bits - 1), (1 << bits - 1) - 1)
        case Kind.UNSIGNED:
            return draw_int(random, 0, (1 << bits) - 1)
        case Kind.BOOLEAN:
            return random.random() < 0.5
        case Kind.CHARACTER:
            return bytes((draw_int(random, 0, 255),))
        case Kind.WIDE_CHARACTER:
            return draw_character(random)
        case _:
            value = draw_float(random)
            if scalar.size_bytes == 4:
                try:
                    struct.pack("<f", value)
                except OverflowError:  # out of a float's range, which callgate refuses
                    return math.copysign(3.4028234663852886e38, value)
            return value


def draw_character(random: Random) -> str:
    ends = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)
    return chr(random.choice((random.choice(ends), random.randrange(32, 127))))


def draw_text(random: Random, length: int) -> str:
    """A string without NUL."""
    return "".join(draw_character(random).replace("\0", "z") for _ in range(random.randint(0, length)))


# -- arguments --------------------------------------------------------------------------------------------------------


def same(value: object) -> Callable[[], object]:
    return lambda: value


def draw_scalar_argument(random: Random, scalar: Scalar) -> Argument:
    plain = draw_value(random, scalar)
    passed = plain
    is_odd = random.random() < 0.1
    match scalar.kind, plain:
        case ((Kind.SIGNED | Kind.UNSIGNED), int()) if is_odd:
            passed = random.choice((Index, Whole))(plain)
            if plain in (0, 1) and random.random() < 0.5:
                passed = bool(plain)
        case Kind.BOOLEAN, bool() if is_odd:
            passed = random.choice((int, Index))(plain)
        case Kind.FLOATING, float() if is_odd:
            passed = Real(plain)
            if random.random() < 0.5:
                whole = draw_int(random, -(1 << 64), 1 << 64)
                passed, plain = random.choice((int, Index))(whole), float(whole)
    is_promoted = scalar.is_narrow and random.random() < 0.25
    seen = scalar.encode(plain)
    if is_promoted:
        seen = int.from_bytes(seen, "little", signed=scalar.kind in (Kind.SIGNED, Kind.CHARACTER)).to_bytes(
            4, "little", signed=scalar.kind in (Kind.SIGNED, Kind.CHARACTER)
        )
    return Argument(scalar.spelling, Observed.VALUE, seen, same(passed), scalar, plain, is_promoted)


def draw_string_argument(random: Random) -> Argument:
    spelling = "const char *"
    if random.random() < 0.1:
        return Argument(spelling, Observed.STRING, NULL_SEEN, same(None))
    passed: object
    if random.random() < 0.5:
        passed = draw_text(random, STRING_BYTES)
        data = passed.encode()
    else:
        data = bytes(random.randint(1, 255) for _ in range(random.randint(0, 2 * STRING_BYTES)))
        passed = data
    seen = data[:STRING_BYTES].ljust(STRING_BYTES, b"\0")
    if isinstance(passed, bytes) and random.random() < 0.1:
        return Argument(spelling, Observed.STRING, seen, partial(ctypes.c_char_p, data))
    return Argument(spelling, Observed.STRING, seen, same(passed))


def draw_wide_string_argument(random: Random) -> Argument:
    spelling = "const wchar_t *"
    if random.random() < 0.1:
        return Argument(spelling, Observed.WIDE_STRING, NULL_SEEN, same(None))
    text = draw_text(random, 2 * WIDE_CHARACTERS)
    seen = text[:WIDE_CHARACTERS].ljust(WIDE_CHARACTERS, "\0").encode("utf-32-le")
    return Argument(spelling, Observed.WIDE_STRING, seen, same(text))


def draw_memory_argument(random: Random, scalar: Scalar) -> Argument:
    """`T *` or `const T *`, and some memory of the caller that holds such items."""
    is_const = random.random() < 0.5 and scalar.kind not in (Kind.CHARACTER, Kind.WIDE_CHARACTER)  # those are strings
    spelling = f"{'const ' if is_const else ''}{scalar.spelling} *"
    if random.random() < 0.08:
        return Argument(spelling, Observed.MEMORY, NULL_SEEN, same(None))
    is_long_double = scalar.ctypes_class is ctypes.c_longdouble
    count = random.randint(1, 1 if is_long_double else 5)
    values = [draw_value(random, scalar) for _ in range(count)]
    data = b"".join(map(scalar.encode, values))
    make = draw_memory(random, scalar, values, data, is_const=is_const)
    written = b""
    if not is_const and random.random() < 0.7:
        written = scalar.encode(draw_value(random, scalar))
    return Argument(spelling, Observed.MEMORY, data[:16], make, written=written)


def draw_memory(
    random: Random, scalar: Scalar, values: list[object], data: bytes, *, is_const: bool
) -> Callable[[], object]:
    """One of the objects that can stand for memory with these items."""
    cls = scalar.ctypes_class
    items = (cls * len(values)) if len(values) > 1 else cls
    makes: list[Callable[[], object]] = [lambda: items(*values)]
    makes.append(lambda: ctypes.byref(items(*values)))
    makes.append(lambda: ctypes.pointer(cls(values[0])) if len(values) == 1 else (cls * len(values))(*values))
    code = ARRAY_CODES.get(scalar.kind, FLOAT_CODES if scalar.kind is Kind.FLOATING else {}).get(scalar.size_bytes)
    if code:
        makes.append(lambda: array.array(code, data))
        makes.append(lambda: memoryview(array.array(code, data)))
    if scalar.size_bytes == 1 and scalar.kind is not Kind.BOOLEAN:
        makes.append(lambda: bytearray(data))
        makes.append(lambda: memoryview(bytearray(data)))
        if is_const:
            makes.append(lambda: data)
            makes.append(lambda: memoryview(data))
    if is_const:
        makes.append(lambda: list(values))
    return random.choice(makes)


def draw_void_argument(random: Random) -> Argument:
    """`void *`: NULL, an address, or memory of any kind."""
    spelling = random.choice(("void *", "const void *"))
    if random.random() < 0.1:
        return Argument(spelling, Observed.MEMORY, NULL_SEEN, same(None))
    if random.random() < 0.5:
        address = draw_int(random, 0, (1 << 64) - 1)
        passed = random.choice((address, address, Whole(address), ctypes.c_void_p(address)))
        return Argument(spelling, Observed.VALUE, address.to_bytes(8, "little"), same(passed))
    memory = draw_memory_argument(random, random.choice([s for s in SCALARS if s.size_bytes < 10]))
    while memory.seen == NULL_SEEN or isinstance(memory.make(), list):
        memory = draw_memory_argument(random, BY_SPELLING["unsigned char"])
    if memory.spelling.startswith("const "):
        spelling = "const void *"
    return replace(memory, spelling=spelling)


def draw_argument(random: Random, pool: tuple[Scalar, ...]) -> Argument:
    if pool is not SCALARS or random.random() < 0.6:
        return draw_scalar_argument(random, random.choice(pool))
    match random.randrange(8):
        case 0 | 1:
            return draw_string_argument(random)
        case 2:
            return draw_wide_string_argument(random)
        case 3 | 4:
            return draw_void_argument(random)
        case _:
            return draw_memory_argument(random, random.choice(SCALARS))


# -- results ----------------------------------------------------------------------------------------------------------


def draw_returned(random: Random, *, is_annotated: bool = False) -> Returned:
    match random.randrange(12):
        case 0:
            return Returned("void", Kind.NOTHING)
        case 1:
            if is_annotated and random.random() < 0.5:
                text = draw_text(random, 40)
                return Returned("const char *", Kind.DECODED, python=text, text=text.encode() + b"\0")
            if random.random() < 0.2:
                return Returned("const char *", Kind.STRING, bytes(8))
            data = bytes(random.randint(1, 255) for _ in range(random.choice((0, 1, 2, 15, 300))))
            return Returned("const char *", Kind.STRING, python=data, text=data + b"\0")
        case 2:
            if random.random() < 0.2:
                return Returned("const wchar_t *", Kind.WIDE_STRING, bytes(8))
            text = draw_text(random, 20)
            return Returned("const wchar_t *", Kind.WIDE_STRING, python=text, text=f"{text}\0".encode("utf-32-le"))
        case 3:
            address = random.choice((0, draw_int(random, 0, (1 << 64) - 1)))
            scalar = random.choice((None, *SCALARS))
            spelling = scalar.spelling if scalar else "void"
            is_const = scalar is None or scalar.kind not in (Kind.CHARACTER, Kind.WIDE_CHARACTER)
            if is_const and random.random() < 0.5:
                spelling = f"const {spelling}"
            return Returned(f"{spelling} *", Kind.POINTER, address.to_bytes(8, "little"), address or None, scalar)
        case _:
            return draw_returned_scalar(random, random.choice(SCALARS))


def draw_returned_scalar(random: Random, scalar: Scalar) -> Returned:
    if scalar.ctypes_class is ctypes.c_longdouble and random.random() < 0.5:
        # more digits and exponents than a double has: rounded to the nearest (C11 6.3.1.5p2)
        significand, power = random.getrandbits(64) | 1 << 63, random.randint(-1100, 1100)
        data = significand.to_bytes(8, "little") + (power + 16383).to_bytes(2, "little")
        try:
            python = float(Fraction(significand) * Fraction(2) ** (power - 63))
        except OverflowError:
            python = math.inf
        return Returned(scalar.spelling, scalar.kind, data, python, scalar)
    value = draw_value(random, scalar)
    data = scalar.encode(value)
    if isinstance(value, float) and scalar.size_bytes == 4:
        (value,) = struct.unpack("<f", data)
    garbage = b""
    if len(data) < 8 and random.random() < 0.5:
        garbage = bytes(random.choice((0, 0x80, 0xFF, random.randrange(256))) for _ in range(8 - len(data)))
    return Returned(scalar.spelling, scalar.kind, data, value, scalar, garbage=garbage)


def draw_out(random: Random) -> Argument:
    """An Out parameter."""
    returned = replace(draw_returned(random, is_annotated=True), garbage=b"")
    while returned.kind is Kind.NOTHING:
        returned = draw_returned_scalar(random, random.choice(INTEGERS))
        returned = replace(returned, garbage=b"")
    storage_bytes = {10: 16, 0: 8}.get(len(returned.data), len(returned.data))
    return Argument("void *", Observed.MEMORY, bytes(storage_bytes), same(None), out=returned)


def draw_options(random: Random, returned: Returned) -> Options:
    """Options that fit the result, whether it fails then or not."""
    judgements = [""] * 4
    scalar = returned.scalar if returned.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BOOLEAN) else None
    is_pointer = returned.kind not in NUMBERS
    if scalar:
        judgements += ["minus_one", "nonzero"]
    if returned.kind is Kind.SIGNED:
        judgements += ["negative"]
    if is_pointer:
        judgements += ["null"]
    if returned.kind is not Kind.NOTHING:
        judgements += ["predicate"]
    fails_if = random.choice(judgements)
    return Options(
        is_blocking=random.random() < 0.25,
        fails_if=fails_if,
        predicate_answer=random.random() < 0.5,
        has_error=bool(scalar) and random.random() < 0.15,
        is_status=returned.spelling == "int" and random.random() < 0.6,
        errno=random.choice((0, 1, 2, 11, 133)),
    )


# -- signatures -------------------------------------------------------------------------------------------------------


def draw_signature(random: Random, name: str = "f0") -> Signature:
    """A function of 0 to 20 parameters and one call of it."""
    count = random.randint(0, random.choice((3, 8, MAXIMUM_PARAMETERS, MAXIMUM_PARAMETERS)))
    pool = random.choice((SCALARS, SCALARS, SCALARS, SCALARS, INTEGERS, FLOATS, NARROW, (random.choice(SCALARS),)))
    arguments = [draw_argument(random, pool) for _ in range(count)]
    options = None
    is_annotated = random.random() < 0.35
    returned = draw_returned(random, is_annotated=is_annotated)
    if is_annotated and random.random() < 0.1:  # may be a Status
        returned = draw_returned_scalar(random, BY_SPELLING["int"])
    if is_annotated:
        options = draw_options(random, returned)
        outs = [draw_out(random) for _ in range(random.choice((0, 0, 1, 2, 4)))][: MAXIMUM_PARAMETERS - count]
        arguments = random.choice((outs + arguments, arguments + outs))
    keyword_count = random.randint(1, count) if count and random.random() < 0.05 else 0
    return Signature(name, tuple(arguments), returned, keyword_count, options)


def strategy(name: str = "f0") -> strategies.SearchStrategy[Signature]:
    """Signatures for Hypothesis, which shrinks towards few parameters and plain values."""
    return strategies.randoms(use_true_random=False).map(lambda random: draw_signature(random, name))


def signatures(seed: int, count: int) -> list[Signature]:
    """`count` signatures named f0, f1, … that depend on the seed alone."""
    random = Random(seed)
    return [draw_signature(random, f"f{index}") for index in range(count)]
