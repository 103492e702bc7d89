"""Float arithmetic, comparisons and conversions.

NaNs: arithmetic gives what the processor gives, which the specification allows; operations on signs keep every bit.
Each emitter is a few lines; there are many, and the table at the end names them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.values import CONSTANT, LOCAL, SLOT, Entry
from callgate.wasm.compile.xmm import binary, unary
from callgate.wasm.errors import IntegerOverflow, InvalidConversion
from callgate.wasm.types import F32, F64, I32, I64

Emit = Callable[[FunctionCompiler, object], None]


def least_or_most(value: int, *, is_least: bool) -> Emit:
    """min and max: a NaN wins, and -0 is less than 0 (4.3.3), unlike minsd and maxsd."""
    suffix = "sd" if value == F64 else "ss"
    zeros = "orps_xx" if is_least else "andps_xx"

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        operand = c.xmm(second, second_at)
        register = c.own_xmm(first, second_at - 1)
        differ, nan, done = c.label(), c.label(), c.label()
        getattr(a, f"ucomi{suffix}_xx")(register, operand)
        a.jcc("ne", differ)
        a.jcc("p", nan)
        getattr(a, zeros)(register, operand)
        a.jmp(done)
        a.label(nan)
        getattr(a, f"add{suffix}_xx")(register, operand)
        a.jmp(done)
        a.label(differ)
        getattr(a, f"{'min' if is_least else 'max'}{suffix}_xx")(register, operand)
        a.label(done)
        c.release_xmm(operand)
        c.push_xmm(register, value)

    return emit


def _sign(value: int) -> tuple[int, int]:
    """The bit of the sign, repeated over a register, and all others."""
    bits = 64 if value == F64 else 32
    sign = sum(1 << position for position in range(bits - 1, 128, bits))
    return sign, (1 << 128) - 1 - sign


def change_sign(value: int, name: str, *, keeps_sign: bool) -> Emit:
    """abs and neg: only the sign's bit changes, of NaNs too."""
    sign, others = _sign(value)
    mask = sign if keeps_sign else others

    def emit(c: FunctionCompiler, _: object) -> None:
        position = len(c.stack) - 1
        register = c.own_xmm(c.stack.pop(), position)
        scratch = c.take_xmm()
        c.a.movups_xL(scratch, c.constant(16, mask))
        getattr(c.a, name)(register, scratch)
        c.release_xmm(scratch)
        c.push_xmm(register, value)

    return emit


def copysign(value: int) -> Emit:
    """The first value with the sign of the second."""
    sign, others = _sign(value)

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        signed = c.own_xmm(second, second_at)
        register = c.own_xmm(first, second_at - 1)
        scratch = c.take_xmm()
        a.movups_xL(scratch, c.constant(16, sign))
        a.andps_xx(signed, scratch)
        a.movups_xL(scratch, c.constant(16, others))
        a.andps_xx(register, scratch)
        a.orps_xx(register, signed)
        c.release_xmm(scratch)
        c.release_xmm(signed)
        c.push_xmm(register, value)

    return emit


def compare(value: int, condition: str, *, is_swapped: bool = False) -> Emit:
    """lt, le, gt, ge: as "above", which is false for NaNs."""
    name = "ucomisd_xx" if value == F64 else "ucomiss_xx"

    def emit(c: FunctionCompiler, _: object) -> None:
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        right = c.xmm(second, second_at)
        left = c.xmm(first, second_at - 1)
        if is_swapped:
            left, right = right, left
        getattr(c.a, name)(left, right)
        c.release_xmm(left)
        c.release_xmm(right)
        c.finish_condition(condition)

    return emit


def equal(value: int, *, is_negated: bool) -> Emit:
    """eq and ne: the flags of equal and unordered are two, so that a number is made of them."""
    name = "ucomisd_xx" if value == F64 else "ucomiss_xx"

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        right = c.xmm(second, second_at)
        left = c.xmm(first, second_at - 1)
        register, other = c.take(), c.take()
        getattr(a, name)(left, right)
        a.setcc("p" if is_negated else "np", register)
        a.setcc("ne" if is_negated else "e", other)
        (a.or32_rr if is_negated else a.and32_rr)(register, other)
        a.movzx8_rr(register, register)
        c.free.append(other)
        c.release_xmm(left)
        if right != left:
            c.release_xmm(right)
        c.push(register, I32)

    return emit


# -- conversions ------------------------------------------------------------------------------------------------------


def truncate(source: int, value: int, *, is_signed: bool, saturates: bool) -> Emit:
    """A float to an integer: what does not fit traps, or becomes the nearest that fits, and NaN zero."""
    is_double = source == F64
    suffix = "sd" if is_double else "ss"
    bits = 32 if value == I32 else 64
    low, high = (-(1 << bits - 1), 1 << bits - 1) if is_signed else (0, 1 << bits)
    # what is greater than `low_limit` and less than `high` fits; a limit that is no number of the type moves down
    below = low - 1 if is_double and bits == 32 else low if low else -1
    allows_limit = low != 0 and not (is_double and bits == 32)
    size = 8 if is_double else 4

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        position = len(c.stack) - 1
        entry = c.stack.pop()
        number = c.xmm(entry, position)
        register = c.take()
        limit = c.take_xmm()
        # before the first branch, as a value that makes room for one must be stored on every path
        is_split = bits == 64 and not is_signed
        copy, bit = (c.take_xmm(), c.take()) if is_split else (-1, -1)
        move = getattr(a, f"mov{suffix}_xL")
        compare_name = getattr(a, f"ucomi{suffix}_xx")
        done = c.label() if saturates else ""
        compare_name(number, number)
        if saturates:
            ordered = c.label()
            a.mov_ri(register, 0)
            a.jcc("p", done)
            a.label(ordered)
        else:
            c.trap_if("p", InvalidConversion)
        move(limit, c.constant(size, _bits(float(high), size)))
        compare_name(number, limit)
        if saturates:
            a.mov_ri(register, high - 1)
            a.jcc("ae", done)
        else:
            c.trap_if("ae", IntegerOverflow)
        move(limit, c.constant(size, _bits(float(below), size)))
        compare_name(number, limit)
        if saturates:
            a.mov_ri(register, low & (1 << bits) - 1)
            a.jcc("b" if allows_limit else "be", done)
        else:
            c.trap_if("b" if allows_limit else "be", IntegerOverflow)
        if bits == 32 and is_signed:
            getattr(a, f"cvtt{suffix}2si32_rx")(register, number)
        elif bits == 32:
            getattr(a, f"cvtt{suffix}2si_rx")(register, number)
            a.mov32_rr(register, register)
        elif is_signed:
            getattr(a, f"cvtt{suffix}2si_rx")(register, number)
        else:  # from 2^63 on: less 2^63, and the highest bit set
            small, converted = c.label(), c.label()
            move(limit, c.constant(size, _bits(float(1 << 63), size)))
            compare_name(number, limit)
            a.jcc("b", small)
            a.movaps_xx(copy, number)
            getattr(a, f"sub{suffix}_xx")(copy, limit)
            getattr(a, f"cvtt{suffix}2si_rx")(register, copy)
            a.mov_ri(bit, 1 << 63)
            a.xor_rr(register, bit)
            a.jmp(converted)
            a.label(small)
            getattr(a, f"cvtt{suffix}2si_rx")(register, number)
            a.label(converted)
        if saturates:
            a.label(done)
        if is_split:
            c.release_xmm(copy)
            c.free.append(bit)
        c.release_xmm(limit)
        c.release_xmm(number)
        c.push(register, value)

    return emit


def _bits(number: float, size_bytes: int) -> int:
    import struct

    return int.from_bytes(struct.pack("<d" if size_bytes == 8 else "<f", number), "little")


def convert(source: int, value: int, *, is_signed: bool) -> Emit:
    """An integer to a float."""
    suffix = "sd" if value == F64 else "ss"

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        position = len(c.stack) - 1
        entry = c.stack.pop()
        number = c.gpr(entry, position)
        target = c.pin_that_follows()
        if target >= 0:
            c.settle_following()
        register = target if target >= 0 else c.take_xmm()
        a.xorps_xx(register, register)  # cvtsi2sd keeps the upper half, and would wait for it
        if source == I32 and is_signed:
            getattr(a, f"cvtsi2{suffix}32_xr")(register, number)
        elif is_signed or source == I32:
            getattr(a, f"cvtsi2{suffix}_xr")(register, number)
        else:  # from 2^63 on: half of it, rounded to odd, and twice the result
            large, done = c.label(), c.label()
            half, low = c.take(), c.take()
            a.test_rr(number, number)
            a.jcc("s", large)
            getattr(a, f"cvtsi2{suffix}_xr")(register, number)
            a.jmp(done)
            a.label(large)
            a.mov_rr(half, number)
            a.mov_rr(low, number)
            a.shr_ri(half, 1)
            a.and32_ri(low, 1)
            a.or_rr(half, low)
            getattr(a, f"cvtsi2{suffix}_xr")(register, half)
            getattr(a, f"add{suffix}_xx")(register, register)
            a.label(done)
            c.free += [half, low]
        c.release(number)
        c.finish(register, target, value)

    return emit


def float_to_bits(source: int, value: int, name: str) -> Emit:
    """reinterpret: a float's bits as an integer."""

    def emit(c: FunctionCompiler, _: object) -> None:
        position = len(c.stack) - 1
        entry = c.stack.pop()
        if entry.place in (SLOT, CONSTANT) or (entry.place == LOCAL and c.pins[entry.payload] < 0):
            if entry.place == CONSTANT:
                bits = 32 if source == F32 else 64
                payload = entry.payload - ((entry.payload >> bits - 1) << bits)
                c.stack.append(Entry(CONSTANT, value, payload))
                return
            register = c.take()
            c.load(register, Entry(entry.place, value, entry.payload), position)
            c.push(register, value)
            return
        number = c.xmm(entry, position)
        register = c.take()
        getattr(c.a, name)(number, register)
        c.release_xmm(number)
        c.push(register, value)

    return emit


def bits_to_float(source: int, value: int, name: str) -> Emit:
    """reinterpret: an integer as a float's bits."""

    def emit(c: FunctionCompiler, _: object) -> None:
        position = len(c.stack) - 1
        entry = c.stack.pop()
        if entry.place == CONSTANT:
            c.stack.append(Entry(CONSTANT, value, entry.payload & (1 << (32 if value == F32 else 64)) - 1))
            return
        number = c.gpr(entry, position)
        register = c.take_xmm()
        getattr(c.a, name)(register, number)
        c.release(number)
        c.push_xmm(register, value)

    return emit


_NEAREST, _FLOOR, _CEIL, _TRUNC = 8, 9, 10, 11
"""Immediates of roundsd (SDM volume 2): the mode, and 8 for no exception."""
ROUNDINGS: Final = {"nearest": _NEAREST, "floor": _FLOOR, "ceil": _CEIL, "trunc": _TRUNC}


def float_emitters() -> dict[str, Emit]:
    """By the instruction's name."""
    emitters: dict[str, Emit] = {}
    for value, name in ((F32, "f32"), (F64, "f64")):
        suffix = "sd" if value == F64 else "ss"
        for operation, commutes in (("add", True), ("sub", False), ("mul", True), ("div", False)):
            emitters[f"{name}.{operation}"] = binary(value, f"{operation}{suffix}", commutes=commutes)
        emitters[f"{name}.min"] = least_or_most(value, is_least=True)
        emitters[f"{name}.max"] = least_or_most(value, is_least=False)
        emitters[f"{name}.sqrt"] = unary(value, f"sqrt{suffix}", is_scalar=True)
        for rounding, mode in ROUNDINGS.items():
            emitters[f"{name}.{rounding}"] = unary(value, f"round{suffix}", mode, is_scalar=True)
        emitters[f"{name}.abs"] = change_sign(value, "andps_xx", keeps_sign=False)
        emitters[f"{name}.neg"] = change_sign(value, "xorps_xx", keeps_sign=True)
        emitters[f"{name}.copysign"] = copysign(value)
        emitters[f"{name}.lt"] = compare(value, "a", is_swapped=True)
        emitters[f"{name}.le"] = compare(value, "ae", is_swapped=True)
        emitters[f"{name}.gt"] = compare(value, "a")
        emitters[f"{name}.ge"] = compare(value, "ae")
        emitters[f"{name}.eq"] = equal(value, is_negated=False)
        emitters[f"{name}.ne"] = equal(value, is_negated=True)
        for integer, integer_name in ((I32, "i32"), (I64, "i64")):
            for sign, is_signed in (("s", True), ("u", False)):
                emitters[f"{integer_name}.trunc_{name}_{sign}"] = truncate(
                    value, integer, is_signed=is_signed, saturates=False
                )
                emitters[f"{integer_name}.trunc_sat_{name}_{sign}"] = truncate(
                    value, integer, is_signed=is_signed, saturates=True
                )
                emitters[f"{name}.convert_{integer_name}_{sign}"] = convert(integer, value, is_signed=is_signed)
    emitters["f32.demote_f64"] = unary(F32, "cvtsd2ss", is_scalar=True)
    emitters["f64.promote_f32"] = unary(F64, "cvtss2sd", is_scalar=True)
    emitters["i32.reinterpret_f32"] = float_to_bits(F32, I32, "movd_rx")
    emitters["i64.reinterpret_f64"] = float_to_bits(F64, I64, "movq_rx")
    emitters["f32.reinterpret_i32"] = bits_to_float(I32, F32, "movd_xr")
    emitters["f64.reinterpret_i64"] = bits_to_float(I64, F64, "movq_xr")
    return emitters
