"""The vector instructions: a function of bytes each, by the instruction's name with `_` for `.`.

A v128 is 16 bytes, its lanes little-endian.  Lanes are taken out, calculated with, and put together again; what a lane
undergoes is what the scalar instruction of that type does.  Core specification 2.0, 4.3.1 and 4.4.3.
"""

from __future__ import annotations

import itertools
import math
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from callgate.wasm.errors import OutOfBounds
from callgate.wasm.portable import numbers
from callgate.wasm.portable.numbers import f32_bits, f32_of_bits, round_f32

V128 = bytes
Lanes = Sequence[Any]
NAMES: Final[dict[str, Callable[..., Any]]] = {}

_INTEGERS: Final = (("i8x16", 8, "b"), ("i16x8", 16, "h"), ("i32x4", 32, "i"), ("i64x2", 64, "q"))
_LETTERS: Final = {8: "b", 16: "h", 32: "i", 64: "q"}
_FLOATS: Final = (("f32x4", 32), ("f64x2", 64))


def _unpacker(bits: int, sign: str) -> Callable[[V128], Lanes]:
    letter = _LETTERS[bits]
    return struct.Struct(f"<{128 // bits}{letter if sign == 's' else letter.upper()}").unpack


def _unpack_f32(vector: V128) -> list[float]:
    lanes = struct.unpack("<4f", vector)
    if not any(map(math.isnan, lanes)):
        return list(lanes)
    return [f32_of_bits(bits) for bits in struct.unpack("<4I", vector)]


def _pack_f32(*lanes: float) -> V128:
    return struct.pack("<4I", *[f32_bits(lane) for lane in lanes])


def _signed(bits: int) -> Callable[[V128], Lanes]:
    return _unpacker(bits, "s")


def _unsigned(bits: int) -> Callable[[V128], Lanes]:
    return _unpacker(bits, "u")


def _packer(bits: int) -> Callable[..., V128]:
    return struct.Struct(f"<{128 // bits}{_LETTERS[bits].upper()}").pack


_UNPACK_FLOATS: Final[dict[int, Callable[[V128], Lanes]]] = {32: _unpack_f32, 64: struct.Struct("<2d").unpack}
_PACK_FLOATS: Final[dict[int, Callable[..., V128]]] = {32: _pack_f32, 64: struct.Struct("<2d").pack}


def _number(vector: V128) -> int:
    return int.from_bytes(vector, "little")


# -- shapes of functions ----------------------------------------------------------------------------------------------


def _unary(
    unpack: Callable[[V128], Lanes], function: Callable[[Any], Any], pack: Callable[..., V128]
) -> Callable[[V128], V128]:
    return lambda a: pack(*[function(x) for x in unpack(a)])


def _binary(
    unpack: Callable[[V128], Lanes], function: Callable[[Any, Any], Any], pack: Callable[..., V128]
) -> Callable[[V128, V128], V128]:
    return lambda a, b: pack(*[function(x, y) for x, y in zip(unpack(a), unpack(b), strict=True)])


def _wrapping(bits: int, function: Callable[..., int]) -> Callable[..., int]:
    mask = (1 << bits) - 1
    return lambda *operands: function(*operands) & mask


def _truths(bits: int, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], int]:
    mask = (1 << bits) - 1
    return lambda x, y: mask if function(x, y) else 0


def _clamped(bits: int, sign: str, function: Callable[..., int]) -> Callable[..., int]:
    mask = (1 << bits) - 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if sign == "s" else (0, mask)
    return lambda *operands: min(max(function(*operands), low), high) & mask


def _shift(unpack: Callable[[V128], Lanes], bits: int, function: Callable[[int, int], int]) -> Callable[..., V128]:
    pack, mask = _packer(bits), (1 << bits) - 1
    return lambda a, count: pack(*[function(x, count & bits - 1) & mask for x in unpack(a)])


def _splat(pack: Callable[..., V128], count: int, mask: int) -> Callable[[Any], V128]:
    if mask:
        return lambda x: pack(*[x & mask] * count)
    return lambda x: pack(*[x] * count)


def _extract(unpack: Callable[[V128], Lanes], mask: int) -> Callable[[V128, int], Any]:
    if mask:
        return lambda a, lane: unpack(a)[lane] & mask
    return lambda a, lane: unpack(a)[lane]


def _replace(pack: Callable[..., bytes], size: int, mask: int) -> Callable[[V128, Any, int], V128]:
    def replace(a: V128, x: Any, lane: int) -> V128:
        return a[: lane * size] + pack(x & mask if mask else x) + a[lane * size + size :]

    return replace


def _half(unpack: Callable[[V128], Lanes], which: str) -> Callable[[V128], Lanes]:
    """The lower or the upper half of the lanes."""

    def half(vector: V128) -> Lanes:
        lanes = unpack(vector)
        middle = len(lanes) // 2
        return lanes[:middle] if which == "low" else lanes[middle:]

    return half


def _pairs(unpack: Callable[[V128], Lanes], pack: Callable[..., V128], mask: int) -> Callable[[V128], V128]:
    def pairwise(a: V128) -> V128:
        lanes = unpack(a)
        return pack(*[(x + y) & mask for x, y in zip(lanes[::2], lanes[1::2], strict=True)])

    return pairwise


def _narrow(bits: int, sign: str) -> Callable[[V128, V128], V128]:
    unpack, pack, clamp = _signed(2 * bits), _packer(bits), _clamped(bits, sign, lambda x: x)
    return lambda a, b: pack(*[clamp(x) for x in (*unpack(a), *unpack(b))])


# -- integers ---------------------------------------------------------------------------------------------------------


def _integer_rows() -> None:
    for shape, bits, _ in _INTEGERS:
        signed, unsigned, pack, mask = _signed(bits), _unsigned(bits), _packer(bits), (1 << bits) - 1
        rows: dict[str, Callable[..., Any]] = {
            "add": _binary(unsigned, _wrapping(bits, operator.add), pack),
            "sub": _binary(unsigned, _wrapping(bits, operator.sub), pack),
            "mul": _binary(unsigned, _wrapping(bits, operator.mul), pack),
            "neg": _unary(unsigned, _wrapping(bits, operator.neg), pack),
            "abs": _unary(signed, _wrapping(bits, abs), pack),
            "eq": _binary(unsigned, _truths(bits, operator.eq), pack),
            "ne": _binary(unsigned, _truths(bits, operator.ne), pack),
            "shl": _shift(unsigned, bits, operator.lshift),
            "shr_s": _shift(signed, bits, operator.rshift),
            "shr_u": _shift(unsigned, bits, operator.rshift),
            "splat": _splat(pack, 128 // bits, mask),
            "replace_lane": _replace(struct.Struct(f"<{_LETTERS[bits].upper()}").pack, bits // 8, mask),
            "all_true": lambda a, unpack=unsigned: int(all(unpack(a))),
            "bitmask": lambda a, unpack=signed: sum([1 << at for at, x in enumerate(unpack(a)) if x < 0]),
            "avgr_u": _binary(unsigned, lambda x, y: (x + y + 1) >> 1, pack),
        }
        for sign, unpack in (("s", signed), ("u", unsigned)):
            rows |= {
                f"lt_{sign}": _binary(unpack, _truths(bits, operator.lt), pack),
                f"gt_{sign}": _binary(unpack, _truths(bits, operator.gt), pack),
                f"le_{sign}": _binary(unpack, _truths(bits, operator.le), pack),
                f"ge_{sign}": _binary(unpack, _truths(bits, operator.ge), pack),
                f"min_{sign}": _binary(unpack, _wrapping(bits, min), pack),
                f"max_{sign}": _binary(unpack, _wrapping(bits, max), pack),
                f"add_sat_{sign}": _binary(unpack, _clamped(bits, sign, operator.add), pack),
                f"sub_sat_{sign}": _binary(unpack, _clamped(bits, sign, operator.sub), pack),
                f"extract_lane_{sign}": _extract(unpack, 0xFFFF_FFFF),
            }
        rows["extract_lane"] = _extract(unsigned, mask)
        for name, function in rows.items():
            NAMES[f"{shape}_{name}"] = function
    for (narrow, bits, _), (wide, _, _) in itertools.pairwise(_INTEGERS):
        pack, mask = _packer(2 * bits), (1 << 2 * bits) - 1
        for sign in "su":
            unpack = _unpacker(bits, sign)
            NAMES[f"{wide}_extadd_pairwise_{narrow}_{sign}"] = _pairs(unpack, pack, mask)
            NAMES[f"{narrow}_narrow_{wide}_{sign}"] = _narrow(bits, sign)
            for which in ("low", "high"):
                half = _half(unpack, which)
                NAMES[f"{wide}_extend_{which}_{narrow}_{sign}"] = _unary(half, _wrapping(2 * bits, operator.pos), pack)
                multiplied = _binary(half, _wrapping(2 * bits, operator.mul), pack)
                NAMES[f"{wide}_extmul_{which}_{narrow}_{sign}"] = multiplied


def _popcnt(a: V128) -> V128:
    return bytes([x.bit_count() for x in a])


def _q15mulr(x: int, y: int) -> int:
    return (x * y + 0x4000) >> 15


def _dot(a: V128, b: V128) -> V128:
    unpack = _signed(16)
    products = [x * y for x, y in zip(unpack(a), unpack(b), strict=True)]
    return _packer(32)(*[(x + y) & 0xFFFF_FFFF for x, y in zip(products[::2], products[1::2], strict=True)])


def _swizzle(a: V128, lanes: V128) -> V128:
    return bytes([a[lane] if lane < 16 else 0 for lane in lanes])


def _shuffle(a: V128, b: V128, lanes: int) -> V128:
    both = a + b
    return bytes([both[lane] for lane in lanes.to_bytes(16, "little")])


# -- bits -------------------------------------------------------------------------------------------------------------

_ONES: Final = (1 << 128) - 1


def _bits(function: Callable[..., int]) -> Callable[..., V128]:
    return lambda *vectors: function(*map(_number, vectors)).to_bytes(16, "little")


# -- floats -----------------------------------------------------------------------------------------------------------


def _divide(x: float, y: float) -> float:
    return x / y if y else numbers.fdiv(x, y)


def _root(x: float) -> float:
    return math.sqrt(x) if x >= 0.0 else numbers.sqrt(x)


def _least(x: float, y: float) -> float:
    return x if x < y else y if y < x else numbers.fmin(x, y)


def _greatest(x: float, y: float) -> float:
    return x if x > y else y if y > x else numbers.fmax(x, y)


def _float_rows() -> None:
    for shape, bits in _FLOATS:
        unpack, pack, integers = _UNPACK_FLOATS[bits], _PACK_FLOATS[bits], _packer(bits)

        def rounded(function: Callable[..., float], is_single: bool = bits == 32) -> Callable[..., float]:
            return (lambda *operands: round_f32(function(*operands))) if is_single else function

        rows: dict[str, Callable[..., Any]] = {
            "add": _binary(unpack, rounded(operator.add), pack),
            "sub": _binary(unpack, rounded(operator.sub), pack),
            "mul": _binary(unpack, rounded(operator.mul), pack),
            "div": _binary(unpack, rounded(_divide), pack),
            "min": _binary(unpack, _least, pack),
            "max": _binary(unpack, _greatest, pack),
            "pmin": _binary(unpack, lambda x, y: y if y < x else x, pack),
            "pmax": _binary(unpack, lambda x, y: y if x < y else x, pack),
            "eq": _binary(unpack, _truths(bits, operator.eq), integers),
            "ne": _binary(unpack, _truths(bits, operator.ne), integers),
            "lt": _binary(unpack, _truths(bits, operator.lt), integers),
            "gt": _binary(unpack, _truths(bits, operator.gt), integers),
            "le": _binary(unpack, _truths(bits, operator.le), integers),
            "ge": _binary(unpack, _truths(bits, operator.ge), integers),
            "abs": _unary(unpack, abs, pack),
            "neg": _unary(unpack, operator.neg, pack),
            "sqrt": _unary(unpack, rounded(_root), pack),
            "ceil": _unary(unpack, numbers.ceil, pack),
            "floor": _unary(unpack, numbers.floor, pack),
            "trunc": _unary(unpack, numbers.trunc, pack),
            "nearest": _unary(unpack, numbers.nearest, pack),
            "splat": _splat(pack, 128 // bits, 0),
            "extract_lane": _extract(unpack, 0),
        }
        for name, function in rows.items():
            NAMES[f"{shape}_{name}"] = function
    NAMES["f32x4_replace_lane"] = _replace(lambda x: struct.pack("<I", f32_bits(x)), 4, 0)
    NAMES["f64x2_replace_lane"] = _replace(struct.Struct("<d").pack, 8, 0)


def _truncated(sign: str) -> Callable[[float], int]:
    low, high = (-(1 << 31), (1 << 31) - 1) if sign == "s" else (0, (1 << 32) - 1)

    def truncate(x: float) -> int:
        if low - 1 < x < high + 1:
            return int(x) & 0xFFFF_FFFF
        return numbers.saturate(x, low, high) & 0xFFFF_FFFF

    return truncate


def _conversions() -> None:
    pack = _packer(32)
    for sign in "su":
        truncate, unpack = _truncated(sign), _unpacker(32, sign)
        NAMES[f"i32x4_trunc_sat_f32x4_{sign}"] = _unary(_unpack_f32, truncate, pack)
        NAMES[f"i32x4_trunc_sat_f64x2_{sign}_zero"] = lambda a, truncate=truncate: pack(
            *[truncate(x) for x in struct.unpack("<2d", a)], 0, 0
        )
        NAMES[f"f32x4_convert_i32x4_{sign}"] = _unary(unpack, lambda x: round_f32(float(x)), _pack_f32)
        NAMES[f"f64x2_convert_low_i32x4_{sign}"] = _unary(_half(unpack, "low"), float, struct.Struct("<2d").pack)
    NAMES["f32x4_demote_f64x2_zero"] = lambda a: _pack_f32(*[round_f32(x) for x in struct.unpack("<2d", a)], 0.0, 0.0)
    NAMES["f64x2_promote_low_f32x4"] = _unary(_half(_unpack_f32, "low"), numbers.quiet, struct.Struct("<2d").pack)


# -- memory -----------------------------------------------------------------------------------------------------------


def _read(memory: memoryview, address: int, size: int) -> bytes:
    data = bytes(memory[address : address + size])
    if len(data) != size:
        raise OutOfBounds
    return data


def _write(memory: memoryview, address: int, data: bytes) -> None:
    if address + len(data) > len(memory):
        raise OutOfBounds
    memory[address : address + len(data)] = data


def _extending(bits: int, sign: str) -> Callable[[memoryview, int], V128]:
    letter = _LETTERS[bits] if sign == "s" else _LETTERS[bits].upper()
    unpack = struct.Struct(f"<{64 // bits}{letter}").unpack
    pack = struct.Struct(f"<{64 // bits}{_LETTERS[2 * bits] if sign == 's' else _LETTERS[2 * bits].upper()}").pack
    return lambda memory, address: pack(*unpack(_read(memory, address, 8)))


def _access_rows() -> None:
    NAMES["v128_load"] = lambda memory, address: _read(memory, address, 16)
    NAMES["v128_store"] = _write_vector
    for bits in (8, 16, 32):
        for sign in "su":
            NAMES[f"v128_load{bits}x{64 // bits}_{sign}"] = _extending(bits, sign)
    for bits in (8, 16, 32, 64):
        size = bits // 8

        def splat(memory: memoryview, address: int, size: int = size) -> V128:
            return _read(memory, address, size) * (16 // size)

        def zero(memory: memoryview, address: int, size: int = size) -> V128:
            return _read(memory, address, size) + bytes(16 - size)

        def load_lane(memory: memoryview, address: int, a: V128, lane: int, size: int = size) -> V128:
            return a[: lane * size] + _read(memory, address, size) + a[lane * size + size :]

        def store_lane(memory: memoryview, address: int, a: V128, lane: int, size: int = size) -> None:
            _write(memory, address, a[lane * size : lane * size + size])

        NAMES[f"v128_load{bits}_splat"] = splat
        NAMES[f"v128_load{bits}_zero"] = zero
        NAMES[f"v128_load{bits}_lane"] = load_lane
        NAMES[f"v128_store{bits}_lane"] = store_lane


def _write_vector(memory: memoryview, address: int, a: V128) -> None:
    _write(memory, address, a)


_integer_rows()
_float_rows()
_conversions()
_access_rows()
NAMES.update(
    {
        "v128_not": _bits(lambda a: a ^ _ONES),
        "v128_and": _bits(operator.and_),
        "v128_andnot": _bits(lambda a, b: a & (b ^ _ONES)),
        "v128_or": _bits(operator.or_),
        "v128_xor": _bits(operator.xor),
        "v128_bitselect": _bits(lambda a, b, c: a & c | b & (c ^ _ONES)),
        "v128_any_true": lambda a: int(any(a)),
        "i8x16_popcnt": _popcnt,
        "i8x16_swizzle": _swizzle,
        "i8x16_shuffle": _shuffle,
        "i16x8_q15mulr_sat_s": _binary(_signed(16), _clamped(16, "s", _q15mulr), _packer(16)),
        "i32x4_dot_i16x8_s": _dot,
    }
)
