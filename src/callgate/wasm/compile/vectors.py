"""Vectors of 128 bits: most instructions of WebAssembly are one of SSE4.1, the others a few.

Where a sequence wants a constant it stands behind the function's code.  Long because 236 instructions are: a row of the
table at the end for each, and an emitter for those that no instruction of the processor is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.compile.floats import ROUNDINGS
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.layout import MEMORY, TEMPORARIES
from callgate.wasm.compile.memory import address
from callgate.wasm.compile.values import CONSTANT
from callgate.wasm.compile.xmm import binary, unary
from callgate.wasm.types import F32, F64, I32, I64, V128

Emit = Callable[[FunctionCompiler, Any], None]


def _splat(value: int, bits: int) -> int:
    """A vector's bits of equal lanes."""
    return sum((value & (1 << bits) - 1) << position for position in range(0, 128, bits))


def _pop(c: FunctionCompiler) -> int:
    """The register of the top of the stack, not to be changed."""
    position = len(c.stack) - 1
    return c.xmm(c.stack.pop(), position)


def _pop_own(c: FunctionCompiler) -> int:
    """The register of the top of the stack, to be changed."""
    position = len(c.stack) - 1
    return c.own_xmm(c.stack.pop(), position)


def sequence(count: int, scratches: int, make: Callable[..., None]) -> Emit:
    """Several instructions: `make(c, first, ..., scratches...)` leaves the result in the first operand's register.

    The first operand's register may be changed, and so may those of the others be.
    """

    def emit(c: FunctionCompiler, _: object) -> None:
        operands = [_pop_own(c) for _ in range(count)][::-1]
        registers = operands + [c.take_xmm() for _ in range(scratches)]
        make(c, *registers)
        for register in registers[1:]:
            c.free_xmm.append(register)
        c.push_xmm(registers[0], V128)

    return emit


# -- comparisons ------------------------------------------------------------------------------------------------------


def _invert(c: FunctionCompiler, register: int) -> None:
    c.a.pxor_xL(register, c.constant(16, (1 << 128) - 1))


def not_equal(width: str) -> Emit:
    """ne: eq, and all bits turned."""

    def make(c: FunctionCompiler, a: int, b: int) -> None:
        getattr(c.a, f"pcmpeq{width}_xx")(a, b)
        _invert(c, a)

    return sequence(2, 0, make)


def at_most(width: str, *, is_swapped: bool) -> Emit:
    """le_s and ge_s: not greater."""

    def make(c: FunctionCompiler, a: int, b: int) -> None:
        if is_swapped:  # a >= b: not b > a
            getattr(c.a, f"pcmpgt{width}_xx")(b, a)
            c.a.movaps_xx(a, b)
        else:
            getattr(c.a, f"pcmpgt{width}_xx")(a, b)
        _invert(c, a)

    return sequence(2, 0, make)


def unsigned(width: str, name: str, *, is_negated: bool) -> Emit:
    """The unsigned comparisons: a <= b where the smaller of both is a."""
    extreme = f"p{name}u{width}_xx"

    def make(c: FunctionCompiler, a: int, b: int) -> None:
        getattr(c.a, extreme)(b, a)
        getattr(c.a, f"pcmpeq{width}_xx")(a, b)
        if is_negated:
            _invert(c, a)

    return sequence(2, 0, make)


def greater_64(*, is_swapped: bool, is_negated: bool) -> Emit:
    """gt_s of 64-bit lanes: pcmpgtq is SSE4.2; else by the upper halves, and where they are equal by a subtraction."""

    def make(c: FunctionCompiler, a: int, b: int, scratch: int) -> None:
        left, right = (b, a) if is_swapped else (a, b)
        if "sse4.2" in c.options.features:
            c.a.pcmpgtq_xx(left, right)
            if left != a:
                c.a.movaps_xx(a, left)
        else:
            c.a.movaps_xx(scratch, right)
            c.a.psubq_xx(scratch, left)  # its sign tells, where the upper halves are equal
            other = c.take_xmm()
            c.a.movaps_xx(other, left)
            c.a.pcmpeqd_xx(other, right)
            c.a.pand_xx(scratch, other)
            c.a.pcmpgtd_xx(left, right)
            c.a.por_xx(scratch, left)
            c.a.pshufd_xxi(a, scratch, 0xF5)
            c.a.psrad_xi(a, 31)
            c.free_xmm.append(other)
        if is_negated:
            _invert(c, a)

    return sequence(2, 1, make)


def float_comparison(suffix: str, predicate: int, *, is_swapped: bool = False) -> Emit:
    """cmpps with its predicate."""

    def make(c: FunctionCompiler, a: int, b: int) -> None:
        if is_swapped:
            getattr(c.a, f"cmp{suffix}_xxi")(b, a, predicate)
            c.a.movaps_xx(a, b)
        else:
            getattr(c.a, f"cmp{suffix}_xxi")(a, b, predicate)

    return sequence(2, 0, make)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def negate(width: str) -> Emit:
    def make(c: FunctionCompiler, a: int, zero: int) -> None:
        c.a.xorps_xx(zero, zero)
        getattr(c.a, f"psub{width}_xx")(zero, a)
        c.a.movaps_xx(a, zero)

    return sequence(1, 1, make)


def _absolute_64(c: FunctionCompiler, a: int, signs: int) -> None:
    c.a.pshufd_xxi(signs, a, 0xF5)
    c.a.psrad_xi(signs, 31)
    c.a.pxor_xx(a, signs)
    c.a.psubq_xx(a, signs)


def _product_64(c: FunctionCompiler, a: int, b: int, cross: int, other: int) -> None:
    """a * b = low * low + (low * high + high * low << 32)."""
    asm = c.a
    asm.movaps_xx(cross, a)
    asm.psrlq_xi(cross, 32)
    asm.pmuludq_xx(cross, b)
    asm.movaps_xx(other, b)
    asm.psrlq_xi(other, 32)
    asm.pmuludq_xx(other, a)
    asm.paddq_xx(cross, other)
    asm.psllq_xi(cross, 32)
    asm.pmuludq_xx(a, b)
    asm.paddq_xx(a, cross)


def _population(c: FunctionCompiler, a: int, low: int, counts: int) -> None:
    """The bits of each half of a byte, from a table."""
    asm = c.a
    asm.movaps_xx(low, a)
    asm.pand_xL(low, c.constant(16, _splat(0x0F, 8)))
    asm.psrlw_xi(a, 4)
    asm.pand_xL(a, c.constant(16, _splat(0x0F, 8)))
    table = c.constant(16, int.from_bytes(bytes(number.bit_count() for number in range(16)), "little"))
    asm.movups_xL(counts, table)
    asm.pshufb_xx(counts, low)
    asm.movups_xL(low, table)
    asm.pshufb_xx(low, a)
    asm.paddb_xx(counts, low)
    asm.movaps_xx(a, counts)


def _rounded_product(c: FunctionCompiler, a: int, b: int, overflow: int) -> None:
    """q15mulr_sat_s: pmulhrsw, whose only overflow gives 0x8000."""
    c.a.pmulhrsw_xx(a, b)
    c.a.movups_xL(overflow, c.constant(16, _splat(0x8000, 16)))
    c.a.pcmpeqw_xx(overflow, a)
    c.a.pxor_xx(a, overflow)


def _pairwise_bytes_signed(c: FunctionCompiler, a: int, ones: int) -> None:
    c.a.movups_xL(ones, c.constant(16, _splat(1, 8)))
    c.a.pmaddubsw_xx(ones, a)
    c.a.movaps_xx(a, ones)


def _pairwise_bytes_unsigned(c: FunctionCompiler, a: int, ones: int) -> None:
    c.a.movups_xL(ones, c.constant(16, _splat(1, 8)))
    c.a.pmaddubsw_xx(a, ones)


def _pairwise_words_signed(c: FunctionCompiler, a: int, ones: int) -> None:
    c.a.movups_xL(ones, c.constant(16, _splat(1, 16)))
    c.a.pmaddwd_xx(a, ones)


def _pairwise_words_unsigned(c: FunctionCompiler, a: int, high: int) -> None:
    c.a.movaps_xx(high, a)
    c.a.psrld_xi(high, 16)
    c.a.pand_xL(a, c.constant(16, _splat(0xFFFF, 32)))
    c.a.paddd_xx(a, high)


def extend(name: str, *, is_high: bool) -> Emit:
    """extend_low is one instruction; extend_high moves the upper half down first."""

    def make(c: FunctionCompiler, a: int) -> None:
        if is_high:
            c.a.pshufd_xxi(a, a, 0xEE)
        getattr(c.a, f"pmov{name}_xx")(a, a)

    return sequence(1, 0, make)


def extended_product(extension: str, product: str, *, is_high: bool) -> Emit:
    """extmul: both operands extended, then multiplied."""

    def make(c: FunctionCompiler, a: int, b: int) -> None:
        for register in (a, b):
            if is_high:
                c.a.pshufd_xxi(register, register, 0xEE)
            getattr(c.a, f"pmov{extension}_xx")(register, register)
        getattr(c.a, f"{product}_xx")(a, b)

    return sequence(2, 0, make)


def float_extreme(suffix: str, *, is_least: bool) -> Emit:
    """min and max of each lane: computed both ways, so that NaNs and the signs of zeros are in one of them."""
    bits = 32 if suffix == "ps" else 64
    shift = "psrld_xi" if bits == 32 else "psrlq_xi"
    name = f"{'min' if is_least else 'max'}{suffix}_xx"

    def make(c: FunctionCompiler, a: int, b: int, other: int) -> None:
        asm = c.a
        asm.movaps_xx(other, b)
        getattr(asm, name)(other, a)
        getattr(asm, name)(a, b)
        if is_least:
            asm.orps_xx(a, other)  # -0 if either is; a NaN has all of its exponent
            asm.movaps_xx(b, a)
            getattr(asm, f"cmp{suffix}_xxi")(b, a, 3)
        else:
            asm.movaps_xx(b, a)
            asm.xorps_xx(b, other)  # where both ways differ: zeros of both signs, or a NaN
            asm.orps_xx(a, b)
            getattr(asm, f"sub{suffix}_xx")(a, b)
            asm.movaps_xx(b, a)
            getattr(asm, f"cmp{suffix}_xxi")(b, a, 3)
        # where the result is a NaN: its payload is cut off, so that it is the canonical one
        quiet_shift = 10 if bits == 32 else 13
        if is_least:
            asm.orps_xx(a, b)
        getattr(asm, shift)(b, quiet_shift)
        asm.andnps_xx(b, a)
        asm.movaps_xx(a, b)

    return sequence(2, 1, make)


def _bits_kept(mask: int, name: str) -> Emit:
    def make(c: FunctionCompiler, a: int) -> None:
        getattr(c.a, name)(a, c.constant(16, mask))

    return sequence(1, 0, make)


# -- conversions ------------------------------------------------------------------------------------------------------


def _truncate_signed(c: FunctionCompiler, a: int, scratch: int) -> None:
    asm = c.a
    asm.movaps_xx(scratch, a)
    asm.cmpps_xxi(scratch, scratch, 0)  # all bits of what is no NaN
    asm.andps_xx(a, scratch)
    asm.pxor_xx(scratch, a)  # the sign: set where the number is not negative
    asm.cvttps2dq_xx(a, a)  # what does not fit gives 0x80000000
    asm.pand_xx(scratch, a)
    asm.psrad_xi(scratch, 31)
    asm.pxor_xx(a, scratch)  # too large: 0x7fffffff


def _truncate_unsigned(c: FunctionCompiler, a: int, limit: int, rest: int) -> None:
    asm = c.a
    asm.xorps_xx(limit, limit)
    asm.maxps_xx(a, limit)  # NaNs and negative numbers to 0
    asm.movups_xL(limit, c.constant(16, _splat(0x4F000000, 32)))  # 2^31
    asm.movaps_xx(rest, a)
    asm.subps_xx(rest, limit)
    asm.cmpps_xxi(limit, rest, 2)  # where 2^31 <= rest: it does not fit
    asm.cvttps2dq_xx(rest, rest)
    asm.pxor_xx(rest, limit)
    asm.xorps_xx(limit, limit)
    asm.pmaxsd_xx(rest, limit)
    asm.cvttps2dq_xx(a, a)
    asm.paddd_xx(a, rest)


def _convert_unsigned(c: FunctionCompiler, a: int, low: int) -> None:
    """Halves of 16 bits: the upper one halved, as it may be 2^32 - 2^16, and doubled again."""
    asm = c.a
    asm.movaps_xx(low, a)
    asm.pand_xL(low, c.constant(16, _splat(0xFFFF, 32)))
    asm.psubd_xx(a, low)
    asm.cvtdq2ps_xx(low, low)
    asm.psrld_xi(a, 1)
    asm.cvtdq2ps_xx(a, a)
    asm.addps_xx(a, a)
    asm.addps_xx(a, low)


def _truncate_doubles_signed(c: FunctionCompiler, a: int, scratch: int) -> None:
    asm = c.a
    asm.movaps_xx(scratch, a)
    asm.cmppd_xxi(scratch, scratch, 0)
    limit = c.take_xmm()
    asm.movups_xL(limit, c.constant(16, _splat(_DOUBLE_I32_MAX, 64)))
    asm.andps_xx(scratch, limit)  # the limit, 0 for NaNs: min gives its second operand for a NaN
    asm.minpd_xx(a, scratch)
    asm.cvttpd2dq_xx(a, a)
    c.free_xmm.append(limit)


_DOUBLE_I32_MAX: Final = 0x41DFFFFFFFC00000
_DOUBLE_U32_MAX: Final = 0x41EFFFFFFFE00000
_DOUBLE_2_52: Final = 0x4330000000000000


def _truncate_doubles_unsigned(c: FunctionCompiler, a: int, zero: int, limit: int) -> None:
    """The number plus 2^52 has it in the lower bits."""
    asm = c.a
    asm.xorps_xx(zero, zero)
    asm.maxpd_xx(a, zero)
    asm.movups_xL(limit, c.constant(16, _splat(_DOUBLE_U32_MAX, 64)))
    asm.minpd_xx(a, limit)
    asm.roundpd_xxi(a, a, 11)
    asm.movups_xL(limit, c.constant(16, _splat(_DOUBLE_2_52, 64)))
    asm.addpd_xx(a, limit)
    asm.shufps_xxi(a, zero, 0x88)


def _convert_doubles_unsigned(c: FunctionCompiler, a: int, exponent: int) -> None:
    asm = c.a
    asm.movups_xL(exponent, c.constant(16, _splat(0x43300000, 32)))
    asm.punpckldq_xx(a, exponent)
    asm.movups_xL(exponent, c.constant(16, _splat(_DOUBLE_2_52, 64)))
    asm.subpd_xx(a, exponent)


# -- shifts -----------------------------------------------------------------------------------------------------------


def shift(bits: int, name: str) -> Emit:
    """Lanes of 16, 32 or 64 bits by the same count, modulo their width."""

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        position = len(c.stack) - 1
        entry = c.stack.pop()
        if entry.place == CONSTANT:
            register = _pop_own(c)
            getattr(a, f"{name}_xi")(register, entry.payload & (bits - 1))
            c.push_xmm(register, V128)
            return
        count = c.own(entry, position)
        register = _pop_own(c)
        counts = c.take_xmm()
        a.and32_ri(count, bits - 1)
        a.movd_xr(counts, count)
        getattr(a, f"{name}_xx")(register, counts)
        c.free.append(count)
        c.free_xmm.append(counts)
        c.push_xmm(register, V128)

    return emit


def shift_bytes(name: str, *, is_arithmetic: bool = False) -> Emit:
    """i8x16: bytes as words, shifted, and packed again."""

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        position = len(c.stack) - 1
        count = c.own(c.stack.pop(), position)
        register = _pop_own(c)
        high, counts = c.take_xmm(), c.take_xmm()
        a.and32_ri(count, 7)
        if name != "shl":
            a.add32_ri(count, 8)
        a.movd_xr(counts, count)
        if name == "shl":
            # mask what comes over from the neighbour
            a.psllw_xx(register, counts)
            a.movups_xL(high, c.constant(16, _splat(0xFF, 8)))
            a.psllw_xx(high, counts)
            a.pand_xL(high, c.constant(16, _splat(0xFF, 16)))
            scratch = c.take_xmm()
            a.movaps_xx(scratch, high)
            a.psllw_xi(scratch, 8)
            a.por_xx(high, scratch)
            a.pand_xx(register, high)
            c.free_xmm.append(scratch)
        else:
            shift_words = a.psraw_xx if is_arithmetic else a.psrlw_xx
            a.movaps_xx(high, register)
            a.punpckhbw_xx(high, high)
            a.punpcklbw_xx(register, register)
            shift_words(high, counts)
            shift_words(register, counts)
            (a.packsswb_xx if is_arithmetic else a.packuswb_xx)(register, high)
        c.free.append(count)
        c.free_xmm += [high, counts]
        c.push_xmm(register, V128)

    return emit


def shift_right_64(c: FunctionCompiler, _: object) -> None:
    """i64x2.shr_s: logically, then the sign's bit, shifted as well, is extended."""
    a = c.a
    position = len(c.stack) - 1
    count = c.own(c.stack.pop(), position)
    register = _pop_own(c)
    sign, counts = c.take_xmm(), c.take_xmm()
    a.and32_ri(count, 63)
    a.movd_xr(counts, count)
    a.movups_xL(sign, c.constant(16, _splat(1 << 63, 64)))
    a.psrlq_xx(sign, counts)
    a.psrlq_xx(register, counts)
    a.pxor_xx(register, sign)
    a.psubq_xx(register, sign)
    c.free.append(count)
    c.free_xmm += [sign, counts]
    c.push_xmm(register, V128)


# -- lanes ------------------------------------------------------------------------------------------------------------


def splat_integer(bits: int) -> Emit:
    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        position = len(c.stack) - 1
        number = c.gpr(c.stack.pop(), position)
        register = c.take_xmm()
        if bits == 64:
            a.movq_xr(register, number)
            a.punpcklqdq_xx(register, register)
        else:
            a.movd_xr(register, number)
            _spread(c, register, bits)
        c.release(number)
        c.push_xmm(register, V128)

    return emit


def _spread(c: FunctionCompiler, register: int, bits: int) -> None:
    """Copy the lowest lane to all."""
    if bits == 8:
        c.a.pshufb_xL(register, c.constant(16, 0))
    elif bits == 16:
        c.a.pshuflw_xxi(register, register, 0)
        c.a.pshufd_xxi(register, register, 0)
    elif bits == 32:
        c.a.pshufd_xxi(register, register, 0)
    else:
        c.a.punpcklqdq_xx(register, register)


def splat_float(c: FunctionCompiler, bits: int) -> None:
    register = _pop_own(c)
    _spread(c, register, bits)
    c.push_xmm(register, V128)


def _extract(c: FunctionCompiler, letter: str, register: int, source: int, lane: int) -> None:
    """A lane to a general register; the form for words names the register first."""
    if letter == "w":
        c.a.pextrw_rxi(register, source, lane)
    else:
        getattr(c.a, f"pextr{letter}_xri")(source, register, lane)


def extract_integer(bits: int, extension: str) -> Emit:
    letter = {8: "b", 16: "w", 32: "d", 64: "q"}[bits]

    def emit(c: FunctionCompiler, lane: int) -> None:
        source = _pop(c)
        register = c.take()
        _extract(c, letter, register, source, lane)
        if extension:
            getattr(c.a, extension)(register, register)
        c.release_xmm(source)
        c.push(register, I64 if bits == 64 else I32)

    return emit


def extract_float(value: int) -> Emit:
    def emit(c: FunctionCompiler, lane: int) -> None:
        register = _pop_own(c)
        if lane:
            c.a.pshufd_xxi(register, register, 0xEE if value == F64 else lane)
        c.push_xmm(register, value)

    return emit


def replace_integer(bits: int) -> Emit:
    letter = {8: "b", 16: "w", 32: "d", 64: "q"}[bits]

    def emit(c: FunctionCompiler, lane: int) -> None:
        position = len(c.stack) - 1
        number = c.gpr(c.stack.pop(), position)
        register = _pop_own(c)
        getattr(c.a, f"pinsr{letter}_xri")(register, number, lane)
        c.release(number)
        c.push_xmm(register, V128)

    return emit


def replace_float(c: FunctionCompiler, value: int, lane: int) -> None:
    number = _pop(c)
    register = _pop_own(c)
    if value == F32:
        c.a.insertps_xxi(register, number, lane << 4)
    elif lane:
        c.a.movlhps_xx(register, number)
    else:
        c.a.movsd_xx(register, number)
    c.release_xmm(number)
    c.push_xmm(register, V128)


def shuffle(c: FunctionCompiler, lanes: int) -> None:
    """Two tables for pshufb: what comes from the other vector is zero in each."""
    second = _pop_own(c)
    first = _pop_own(c)
    picks = lanes.to_bytes(16, "little")
    of_first = bytes(pick if pick < 16 else 0x80 for pick in picks)
    of_second = bytes(pick - 16 if pick >= 16 else 0x80 for pick in picks)
    c.a.pshufb_xL(first, c.constant(16, int.from_bytes(of_first, "little")))
    c.a.pshufb_xL(second, c.constant(16, int.from_bytes(of_second, "little")))
    c.a.por_xx(first, second)
    c.free_xmm.append(second)
    c.push_xmm(first, V128)


def _swizzle(c: FunctionCompiler, a: int, picks: int, scratch: int) -> None:
    """Picks of 16 and more give zero: adding 0x70 with saturation sets their highest bit."""
    c.a.movups_xL(scratch, c.constant(16, _splat(0x70, 8)))
    c.a.paddusb_xx(picks, scratch)
    c.a.pshufb_xx(a, picks)


def _bitselect(c: FunctionCompiler, a: int, b: int, mask: int) -> None:
    c.a.pxor_xx(a, b)
    c.a.pand_xx(a, mask)
    c.a.pxor_xx(a, b)


def any_true(c: FunctionCompiler, _: object) -> None:
    source = _pop(c)
    c.a.ptest_xx(source, source)
    c.release_xmm(source)
    c.finish_condition("ne")


def all_true(width: str) -> Emit:
    def emit(c: FunctionCompiler, _: object) -> None:
        source = _pop(c)
        zeros = c.take_xmm()
        c.a.xorps_xx(zeros, zeros)
        getattr(c.a, f"pcmpeq{width}_xx")(zeros, source)
        c.a.ptest_xx(zeros, zeros)
        c.release_xmm(source)
        c.free_xmm.append(zeros)
        c.finish_condition("e")

    return emit


def bitmask(name: str, *, packs_words: bool = False) -> Emit:
    def emit(c: FunctionCompiler, _: object) -> None:
        source = _pop_own(c)
        register = c.take()
        if packs_words:
            zeros = c.take_xmm()
            c.a.xorps_xx(zeros, zeros)
            c.a.packsswb_xx(source, zeros)
            c.free_xmm.append(zeros)
        getattr(c.a, name)(register, source)
        c.free_xmm.append(source)
        c.push(register, I32)

    return emit


# -- memory -----------------------------------------------------------------------------------------------------------


def _indexed(c: FunctionCompiler, offset: int, size_bytes: int) -> tuple[int, int]:
    """An access with an index register in any case, which the caller releases."""
    position = len(c.stack) - 1
    index, displacement = address(c, c.stack.pop(), position, offset, size_bytes)
    if index < 0:
        index = c.take()
        c.a.mov_ri(index, displacement)
        displacement = 0
    return index, displacement


def load_extended(name: str) -> Emit:
    def emit(c: FunctionCompiler, offset: int) -> None:
        index, displacement = _indexed(c, offset, 8)
        register = c.take_xmm()
        getattr(c.a, f"pmov{name}_xn")(register, MEMORY, index, displacement)
        c.release(index)
        c.push_xmm(register, V128)

    return emit


def load_splat(bits: int) -> Emit:
    def emit(c: FunctionCompiler, offset: int) -> None:
        index, displacement = _indexed(c, offset, bits // 8)
        register = c.take_xmm()
        if bits < 32:
            number = index if index in TEMPORARIES else c.take()
            getattr(c.a, f"movzx{bits}_rn")(number, MEMORY, index, displacement)
            c.a.movd_xr(register, number)
            c.release(number)
        else:
            (c.a.movss_xn if bits == 32 else c.a.movsd_xn)(register, MEMORY, index, displacement)
            c.release(index)
        _spread(c, register, bits)
        c.push_xmm(register, V128)

    return emit


def load_zero(name: str, size_bytes: int) -> Emit:
    def emit(c: FunctionCompiler, offset: int) -> None:
        index, displacement = _indexed(c, offset, size_bytes)
        register = c.take_xmm()
        getattr(c.a, name)(register, MEMORY, index, displacement)
        c.release(index)
        c.push_xmm(register, V128)

    return emit


def load_lane(bits: int) -> Emit:
    letter = {8: "b", 16: "w", 32: "d", 64: "q"}[bits]
    load = {8: "movzx8_rn", 16: "movzx16_rn", 32: "mov32_rn", 64: "mov_rn"}[bits]

    def emit(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
        offset, lane = immediate
        register = _pop_own(c)
        index, displacement = _indexed(c, offset, bits // 8)
        number = index if index in TEMPORARIES else c.take()
        getattr(c.a, load)(number, MEMORY, index, displacement)
        getattr(c.a, f"pinsr{letter}_xri")(register, number, lane)
        c.release(number)
        c.push_xmm(register, V128)

    return emit


def store_lane(bits: int) -> Emit:
    letter = {8: "b", 16: "w", 32: "d", 64: "q"}[bits]
    store = {8: "mov8_nr", 16: "mov16_nr", 32: "mov32_nr", 64: "mov_nr"}[bits]

    def emit(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
        offset, lane = immediate
        source = _pop(c)
        index, displacement = _indexed(c, offset, bits // 8)
        number = c.take()
        _extract(c, letter, number, source, lane)
        getattr(c.a, store)(MEMORY, index, displacement, number)
        c.release(index)
        c.free.append(number)
        c.release_xmm(source)

    return emit


_WIDTHS: Final = {"i8x16": "b", "i16x8": "w", "i32x4": "d", "i64x2": "q"}
_BITS: Final = {"i8x16": 8, "i16x8": 16, "i32x4": 32, "i64x2": 64}


def vector_emitters() -> dict[str, Emit]:
    """By the instruction's name."""
    e: dict[str, Emit] = {
        "v128.not": sequence(1, 0, _invert),
        "v128.and": binary(V128, "pand", commutes=True),
        "v128.andnot": binary(V128, "pandn", is_swapped=True),
        "v128.or": binary(V128, "por", commutes=True),
        "v128.xor": binary(V128, "pxor", commutes=True),
        "v128.bitselect": sequence(3, 0, _bitselect),
        "v128.any_true": any_true,
        "i8x16.shuffle": shuffle,
        "i8x16.swizzle": sequence(2, 1, _swizzle),
        "i8x16.popcnt": sequence(1, 2, _population),
        "i16x8.q15mulr_sat_s": sequence(2, 1, _rounded_product),
        "i32x4.dot_i16x8_s": binary(V128, "pmaddwd", commutes=True),
        "i64x2.mul": sequence(2, 2, _product_64),
        "i16x8.mul": binary(V128, "pmullw", commutes=True),
        "i32x4.mul": binary(V128, "pmulld", commutes=True),
        "i64x2.abs": sequence(1, 1, _absolute_64),
        "i64x2.shr_s": shift_right_64,
        "i8x16.shl": shift_bytes("shl"),
        "i8x16.shr_s": shift_bytes("shr", is_arithmetic=True),
        "i8x16.shr_u": shift_bytes("shr"),
        "i16x8.shr_s": shift(16, "psraw"),
        "i32x4.shr_s": shift(32, "psrad"),
        "i16x8.extadd_pairwise_i8x16_s": sequence(1, 1, _pairwise_bytes_signed),
        "i16x8.extadd_pairwise_i8x16_u": sequence(1, 1, _pairwise_bytes_unsigned),
        "i32x4.extadd_pairwise_i16x8_s": sequence(1, 1, _pairwise_words_signed),
        "i32x4.extadd_pairwise_i16x8_u": sequence(1, 1, _pairwise_words_unsigned),
        "i8x16.narrow_i16x8_s": binary(V128, "packsswb"),
        "i8x16.narrow_i16x8_u": binary(V128, "packuswb"),
        "i16x8.narrow_i32x4_s": binary(V128, "packssdw"),
        "i16x8.narrow_i32x4_u": binary(V128, "packusdw"),
        "i8x16.bitmask": bitmask("pmovmskb_rx"),
        "i16x8.bitmask": bitmask("pmovmskb_rx", packs_words=True),
        "i32x4.bitmask": bitmask("movmskps_rx"),
        "i64x2.bitmask": bitmask("movmskpd_rx"),
        "i32x4.trunc_sat_f32x4_s": sequence(1, 1, _truncate_signed),
        "i32x4.trunc_sat_f32x4_u": sequence(1, 2, _truncate_unsigned),
        "f32x4.convert_i32x4_s": unary(V128, "cvtdq2ps"),
        "f32x4.convert_i32x4_u": sequence(1, 1, _convert_unsigned),
        "i32x4.trunc_sat_f64x2_s_zero": sequence(1, 1, _truncate_doubles_signed),
        "i32x4.trunc_sat_f64x2_u_zero": sequence(1, 2, _truncate_doubles_unsigned),
        "f64x2.convert_low_i32x4_s": unary(V128, "cvtdq2pd"),
        "f64x2.convert_low_i32x4_u": sequence(1, 1, _convert_doubles_unsigned),
        "f32x4.demote_f64x2_zero": unary(V128, "cvtpd2ps"),
        "f64x2.promote_low_f32x4": unary(V128, "cvtps2pd"),
        "v128.load8x8_s": load_extended("sxbw"),
        "v128.load8x8_u": load_extended("zxbw"),
        "v128.load16x4_s": load_extended("sxwd"),
        "v128.load16x4_u": load_extended("zxwd"),
        "v128.load32x2_s": load_extended("sxdq"),
        "v128.load32x2_u": load_extended("zxdq"),
        "v128.load32_zero": load_zero("movss_xn", 4),
        "v128.load64_zero": load_zero("movsd_xn", 8),
        "f32x4.splat": lambda c, _: splat_float(c, 32),
        "f64x2.splat": lambda c, _: splat_float(c, 64),
        "f32x4.extract_lane": extract_float(F32),
        "f64x2.extract_lane": extract_float(F64),
        "f32x4.replace_lane": lambda c, lane: replace_float(c, F32, lane),
        "f64x2.replace_lane": lambda c, lane: replace_float(c, F64, lane),
        "i8x16.extract_lane_s": extract_integer(8, "movsx8_32_rr"),
        "i8x16.extract_lane_u": extract_integer(8, ""),
        "i16x8.extract_lane_s": extract_integer(16, "movsx16_32_rr"),
        "i16x8.extract_lane_u": extract_integer(16, ""),
        "i32x4.extract_lane": extract_integer(32, ""),
        "i64x2.extract_lane": extract_integer(64, ""),
    }
    for bits in (8, 16, 32, 64):
        e[f"v128.load{bits}_splat"] = load_splat(bits)
        e[f"v128.load{bits}_lane"] = load_lane(bits)
        e[f"v128.store{bits}_lane"] = store_lane(bits)
    for shape, width in _WIDTHS.items():
        bits = _BITS[shape]
        e[f"{shape}.splat"] = splat_integer(bits)
        e[f"{shape}.replace_lane"] = replace_integer(bits)
        e[f"{shape}.add"] = binary(V128, f"padd{width}", commutes=True)
        e[f"{shape}.sub"] = binary(V128, f"psub{width}")
        e[f"{shape}.neg"] = negate(width)
        e[f"{shape}.eq"] = binary(V128, f"pcmpeq{width}", commutes=True)
        e[f"{shape}.ne"] = not_equal(width)
        e[f"{shape}.all_true"] = all_true(width)
        if width != "b":
            e[f"{shape}.shl"] = shift(bits, f"psll{width}")
            e[f"{shape}.shr_u"] = shift(bits, f"psrl{width}")
        if width == "q":
            e["i64x2.gt_s"] = greater_64(is_swapped=False, is_negated=False)
            e["i64x2.lt_s"] = greater_64(is_swapped=True, is_negated=False)
            e["i64x2.le_s"] = greater_64(is_swapped=False, is_negated=True)
            e["i64x2.ge_s"] = greater_64(is_swapped=True, is_negated=True)
            continue
        e[f"{shape}.abs"] = unary(V128, f"pabs{width}")
        e[f"{shape}.gt_s"] = binary(V128, f"pcmpgt{width}")
        e[f"{shape}.lt_s"] = binary(V128, f"pcmpgt{width}", is_swapped=True)
        e[f"{shape}.le_s"] = at_most(width, is_swapped=False)
        e[f"{shape}.ge_s"] = at_most(width, is_swapped=True)
        e[f"{shape}.le_u"] = unsigned(width, "min", is_negated=False)
        e[f"{shape}.gt_u"] = unsigned(width, "min", is_negated=True)
        e[f"{shape}.ge_u"] = unsigned(width, "max", is_negated=False)
        e[f"{shape}.lt_u"] = unsigned(width, "max", is_negated=True)
        for name in ("min", "max"):
            e[f"{shape}.{name}_s"] = binary(V128, f"p{name}s{width}", commutes=True)
            e[f"{shape}.{name}_u"] = binary(V128, f"p{name}u{width}", commutes=True)
        if width != "d":
            e[f"{shape}.avgr_u"] = binary(V128, f"pavg{width}", commutes=True)
            for sign in ("s", "us"):
                suffix = "s" if sign == "s" else "u"
                e[f"{shape}.add_sat_{suffix}"] = binary(V128, f"padd{sign}{width}", commutes=True)
                e[f"{shape}.sub_sat_{suffix}"] = binary(V128, f"psub{sign}{width}")
    for shape, source, letters in (("i16x8", "i8x16", "bw"), ("i32x4", "i16x8", "wd"), ("i64x2", "i32x4", "dq")):
        for sign, prefix in (("s", "sx"), ("u", "zx")):
            product = "pmullw" if letters == "bw" else "pmulld" if letters == "wd" else ""
            product = product or ("pmuldq" if sign == "s" else "pmuludq")
            for part, is_high in (("low", False), ("high", True)):
                e[f"{shape}.extend_{part}_{source}_{sign}"] = extend(f"{prefix}{letters}", is_high=is_high)
                e[f"{shape}.extmul_{part}_{source}_{sign}"] = extended_product(
                    f"{prefix}{letters}", product, is_high=is_high
                )
    for shape, suffix, bits in (("f32x4", "ps", 32), ("f64x2", "pd", 64)):
        for name in ("add", "sub", "mul", "div"):
            e[f"{shape}.{name}"] = binary(V128, f"{name}{suffix}")
        e[f"{shape}.sqrt"] = unary(V128, f"sqrt{suffix}")
        for rounding, mode in ROUNDINGS.items():
            e[f"{shape}.{rounding}"] = unary(V128, f"round{suffix}", mode)
        e[f"{shape}.abs"] = _bits_kept(_splat((1 << bits - 1) - 1, bits), "pand_xL")
        e[f"{shape}.neg"] = _bits_kept(_splat(1 << bits - 1, bits), "pxor_xL")
        e[f"{shape}.min"] = float_extreme(suffix, is_least=True)
        e[f"{shape}.max"] = float_extreme(suffix, is_least=False)
        e[f"{shape}.pmin"] = binary(V128, f"min{suffix}", is_swapped=True)
        e[f"{shape}.pmax"] = binary(V128, f"max{suffix}", is_swapped=True)
        for name, predicate, is_swapped in (
            *(("eq", 0, False), ("ne", 4, False), ("lt", 1, False)),
            *(("gt", 1, True), ("le", 2, False), ("ge", 2, True)),
        ):
            e[f"{shape}.{name}"] = float_comparison(suffix, predicate, is_swapped=is_swapped)
    return e
