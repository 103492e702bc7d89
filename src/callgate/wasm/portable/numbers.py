"""Scalar arithmetic that takes more than an expression: what translated code calls by name.

Integers are unsigned: 0 to 2^32-1 or 2^64-1.  An f64 is a Python float, its NaN's bits included.  An f32 is a Python
float whose value an f32 has; a NaN keeps its sign and has the f32's payload at the top of its own, so that quiet and
signalling NaNs of both types correspond.  Core specification 2.0, 4.3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.errors import IntegerOverflow, InvalidConversion, Unreachable

MASK_32: Final = 0xFFFF_FFFF
MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF
_SIGN_32: Final = 0x8000_0000
_SIGN_64: Final = 0x8000_0000_0000_0000
_INF: Final = float("inf")
DEFAULT_NAN: Final = _INF - float("inf")
"""What the processor makes of an invalid operation."""
_WHOLE: Final = 4503599627370496.0
"""From 2^52 on every f64 is an integer."""


def unreachable() -> None:
    """The instruction `unreachable`."""
    raise Unreachable


# -- integers ---------------------------------------------------------------------------------------------------------


def div_s32(a: int, b: int) -> int:
    """i32.div_s; the quotient may be negative."""
    a = (a ^ _SIGN_32) - _SIGN_32
    b = (b ^ _SIGN_32) - _SIGN_32
    if (a < 0) == (b < 0):
        quotient = a // b
        if quotient == _SIGN_32:
            raise IntegerOverflow
        return quotient
    return -(-a // b)


def div_s64(a: int, b: int) -> int:
    """i64.div_s; the quotient may be negative."""
    a = (a ^ _SIGN_64) - _SIGN_64
    b = (b ^ _SIGN_64) - _SIGN_64
    if (a < 0) == (b < 0):
        quotient = a // b
        if quotient == _SIGN_64:
            raise IntegerOverflow
        return quotient
    return -(-a // b)


def rem_s32(a: int, b: int) -> int:
    """i32.rem_s; the remainder may be negative."""
    a = (a ^ _SIGN_32) - _SIGN_32
    b = (b ^ _SIGN_32) - _SIGN_32
    return a % abs(b) if a >= 0 else -(-a % abs(b))


def rem_s64(a: int, b: int) -> int:
    """i64.rem_s; the remainder may be negative."""
    a = (a ^ _SIGN_64) - _SIGN_64
    b = (b ^ _SIGN_64) - _SIGN_64
    return a % abs(b) if a >= 0 else -(-a % abs(b))


# -- the bits of floats -----------------------------------------------------------------------------------------------

_bits_of_double = struct.Struct("<d").pack
_double_of_bits = struct.Struct("<Q").pack


def f64_bits(value: float) -> int:
    """The bits of an f64."""
    return int.from_bytes(_bits_of_double(value), "little")


def f64_of_bits(bits: int) -> float:
    """The f64 of some bits."""
    value: float = struct.unpack("<d", _double_of_bits(bits))[0]
    return value


def f32_bits(value: float) -> int:
    """The bits of an f32."""
    if not math.isnan(value):
        return int.from_bytes(struct.pack("<f", value), "little")
    bits = f64_bits(value)
    return bits >> 32 & _SIGN_32 | 0x7F80_0000 | bits >> 29 & 0x7F_FFFF


def f32_of_bits(bits: int) -> float:
    """The f32 of some bits."""
    if bits & 0x7F80_0000 == 0x7F80_0000 and bits & 0x7F_FFFF:
        return f64_of_bits((bits & _SIGN_32) << 32 | 0x7FF0_0000_0000_0000 | (bits & 0x7F_FFFF) << 29)
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def round_f32(value: float) -> float:
    """The nearest f32; NaNs become quiet."""
    if math.isnan(value):
        return f32_of_bits(f32_bits(value) | 0x40_0000)
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(_INF, value)
    return rounded


def f32_of_int(value: int) -> float:
    """The f32 nearest to an integer of 64 bits: where the f64 is not exact, rounded to odd first."""
    size = value.bit_length()
    if size > 53:
        lost = size - 53
        value = value >> lost << lost | (1 << lost if value & (1 << lost) - 1 else 0)
    return round_f32(float(value))


# -- floats -----------------------------------------------------------------------------------------------------------


def fdiv(a: float, b: float) -> float:
    """A division by zero."""
    if math.isnan(a):
        return a + a
    if not a:
        return DEFAULT_NAN
    return math.copysign(_INF, math.copysign(1.0, a) * math.copysign(1.0, b))


def fmin(a: float, b: float) -> float:
    """The lesser: neither is less, so they are equal, maybe zeros, or one is NaN."""
    if math.isnan(a) or math.isnan(b):
        return a + b
    return a if math.copysign(1.0, a) < 0 else b


def fmax(a: float, b: float) -> float:
    """The greater, as `fmin`."""
    if math.isnan(a) or math.isnan(b):
        return a + b
    return b if math.copysign(1.0, a) < 0 else a


def quiet(value: float) -> float:
    """A NaN that is made quiet, any other value as it is."""
    return value if not math.isnan(value) else value + value


def sqrt(value: float) -> float:
    """The square root of what is less than zero or NaN."""
    if math.isnan(value):
        return value + value
    return DEFAULT_NAN


def _rounding(round_finite: Callable[[float], int]) -> Callable[[float], float]:
    def rounded(value: float) -> float:
        if -_WHOLE < value < _WHOLE:
            return math.copysign(float(round_finite(value)), value)
        return value if not math.isnan(value) else value + value

    return rounded


ceil: Final = _rounding(math.ceil)
floor: Final = _rounding(math.floor)
trunc: Final = _rounding(math.trunc)
nearest: Final = _rounding(round)


def bad_trunc(value: float) -> int:
    """An f32 or f64 that is to become an integer and does not fit."""
    if math.isnan(value):
        raise InvalidConversion
    raise IntegerOverflow


def saturate(value: float, least: int, most: int) -> int:
    """The integer next to a float that does not fit."""
    if math.isnan(value):
        return 0
    return least if value < 0 else most


NAMES: Final[dict[str, Any]] = {
    **{"unreachable": unreachable, "div_s32": div_s32, "div_s64": div_s64, "rem_s32": rem_s32, "rem_s64": rem_s64},
    **{"f32_bits": f32_bits, "f32_of_bits": f32_of_bits, "f32_of_int": f32_of_int, "fdiv": fdiv, "fmin": fmin},
    **{"fmax": fmax, "quiet": quiet, "sqrt": math.sqrt, "bad_sqrt": sqrt, "ceil": ceil, "floor": floor},
    **{"trunc": trunc, "nearest": nearest, "bad_trunc": bad_trunc, "saturate": saturate, "copysign": math.copysign},
    **{"inf": _INF, "abs": abs, "float": float, "int": int},
}
"""What translated code finds under which name."""
