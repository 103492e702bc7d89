"""The rows that compiled WebAssembly needs besides those of gates: indexed memory, integer and float arithmetic.

As in `assembler`, a row is one instruction and form, its letters tell its operands.  Here besides: `n` is memory at
base + index + displacement, `C` a condition, `h` and `k` are immediates of 8 and 16 bits, `b` is a byte.  VEX and EVEX
encodings are not here.
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.asm.emitter import Listing, describe, record, remember, rows_of
from callgate.asm.x86_64.assembler import (
    _POINTER_WORDS,
    CONDITIONS,
    ROWS,
    Assembler,
    Names,
    _append_memory,
    _m,
    _mi,
    _pair,
    _r,
    _ri,
    _rm,
    _rr,
    _rr_load,
    memory_text,
)
from callgate.asm.x86_64.registers import NAMES_8, NAMES_16, NAMES_32, NAMES_64, NAMES_XMM

_NAMES: dict[int, Names] = {64: NAMES_64, 32: NAMES_32, 16: NAMES_16, 8: NAMES_8}


def indexed_text(width: int, base: int, index: int, displacement: int) -> str:
    """The text of an indexed operand: `dword ptr [r15+rax+8]`."""
    offset = f"{displacement:+d}" if displacement else ""
    return f"{_POINTER_WORDS[width]} [{NAMES_64[base]}+{NAMES_64[index]}{offset}]"


def _append_indexed(code: bytearray, register: int, base: int, index: int, displacement: int) -> None:
    """ModRM, SIB and displacement of [base + index + displacement] (SDM volume 2, table 2-3)."""
    field = (register & 7) << 3 | 4
    sib = (index & 7) << 3 | base & 7
    if displacement == 0 and base & 7 != 5:
        code.append(field)
        code.append(sib)
    elif -128 <= displacement <= 127:
        code.append(0x40 | field)
        code.append(sib)
        code.append(displacement & 0xFF)
    else:
        code.append(0x80 | field)
        code.append(sib)
        code += displacement.to_bytes(4, "little", signed=True)


def _rn(
    mnemonic: str, opcode: bytes, width: int = 64, memory_width: int | None = None
) -> Callable[[ExtendedAssembler, int, int, int, int], None]:
    """`mnemonic r, [base + index + displacement]`."""
    wide = 0x48 if width == 64 else 0x40
    names = _NAMES[width]
    bits = memory_width or width

    def emit(self: ExtendedAssembler, register: int, base: int, index: int, displacement: int = 0) -> None:
        code = self.code
        rex = wide | (register & 8) >> 1 | (index & 8) >> 2 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code += opcode
        _append_indexed(code, register, base, index, displacement)

    def text(register: int, base: int, index: int, displacement: int = 0) -> str:
        operand = indexed_text(bits, base, index, displacement)
        return f"{mnemonic} {names[register]}, {operand.split('ptr ')[1] if mnemonic == 'lea' else operand}"

    describe(emit, "rn", text)
    return emit


def _nr(mnemonic: str, opcode: int, width: int) -> Callable[[ExtendedAssembler, int, int, int, int], None]:
    """`mnemonic [base + index + displacement], r`."""
    wide = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: ExtendedAssembler, base: int, index: int, displacement: int, register: int) -> None:
        code = self.code
        if width == 16:
            code.append(0x66)
        rex = wide | (register & 8) >> 1 | (index & 8) >> 2 | base >> 3
        if rex != 0x40 or (width == 8 and register >= 4):
            code.append(rex)
        code.append(opcode)
        _append_indexed(code, register, base, index, displacement)

    describe(emit, "nr", lambda b, i, d, r: f"{mnemonic} {indexed_text(width, b, i, d)}, {names[r]}")
    return emit


def _ni(mnemonic: str, width: int) -> Callable[[ExtendedAssembler, int, int, int, int], None]:
    """`mov [base + index + displacement], imm`: C6 /0 ib, C7 /0 iw or id, its sign extended to 64 bits."""
    wide = 0x48 if width == 64 else 0x40
    immediate_bytes = min(width // 8, 4)

    def emit(self: ExtendedAssembler, base: int, index: int, displacement: int, immediate: int) -> None:
        code = self.code
        if width == 16:
            code.append(0x66)
        rex = wide | (index & 8) >> 2 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0xC6 if width == 8 else 0xC7)
        _append_indexed(code, 0, base, index, displacement)
        code += immediate.to_bytes(immediate_bytes, "little", signed=True)

    letters = {8: "nh", 16: "nk"}.get(width, "ni")
    describe(emit, letters, lambda b, i, d, v: f"{mnemonic} {indexed_text(width, b, i, d)}, {v}")
    return emit


def xn(
    mnemonic: str, prefix: int, opcode: bytes, width: int
) -> Callable[[ExtendedAssembler, int, int, int, int], None]:
    """`mnemonic xmm, [base + index + displacement]`: mandatory prefix, opcode behind 0F."""

    def emit(self: ExtendedAssembler, register: int, base: int, index: int, displacement: int = 0) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = 0x40 | (register & 8) >> 1 | (index & 8) >> 2 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code += opcode
        _append_indexed(code, register, base, index, displacement)

    describe(emit, "xn", lambda r, b, i, d=0: f"{mnemonic} {NAMES_XMM[r]}, {indexed_text(width, b, i, d)}")
    return emit


def _nx(
    mnemonic: str, prefix: int, opcode: bytes, width: int
) -> Callable[[ExtendedAssembler, int, int, int, int], None]:
    """`mnemonic [base + index + displacement], xmm`."""
    load = xn(mnemonic, prefix, opcode, width)

    def emit(self: ExtendedAssembler, base: int, index: int, displacement: int, register: int) -> None:
        load(self, register, base, index, displacement)

    describe(emit, "nx", lambda b, i, d, r: f"{mnemonic} {indexed_text(width, b, i, d)}, {NAMES_XMM[r]}")
    return emit


def _rotate(mnemonic: str, extension: int, width: int) -> Callable[[ExtendedAssembler, int, int], None]:
    """`mnemonic r, imm8`, shifts and rotations: D1 /digit for one place, else C1 /digit ib."""
    wide = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: ExtendedAssembler, register: int, count: int) -> None:
        if not 0 <= count < width:  # the processor would take it modulo the width
            raise OverflowError(f"{mnemonic} by {count} places")
        code = self.code
        rex = wide | register >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0xD1 if count == 1 else 0xC1)
        code.append(0xC0 | extension << 3 | register & 7)
        if count != 1:
            code.append(count)

    describe(emit, "rs" if width == 64 else "rS", lambda r, i: f"{mnemonic} {names[r]}, {i}")
    return emit


def _rotate_cl(mnemonic: str, extension: int, width: int) -> Callable[[ExtendedAssembler, int], None]:
    """`mnemonic r, cl`: D3 /digit."""
    emit = _r(mnemonic, 0xD3, extension, width)
    describe(emit, "r", lambda r: f"{mnemonic} {_NAMES[width][r]}, cl")
    return emit


def _counted(mnemonic: str, opcode: int, width: int) -> Callable[[ExtendedAssembler, int, int], None]:
    """`mnemonic r, r` with the prefix F3: lzcnt, tzcnt, popcnt."""
    wide = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: ExtendedAssembler, destination: int, source: int) -> None:
        code = self.code
        code.append(0xF3)
        rex = wide | (destination & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code.append(opcode)
        code.append(0xC0 | (destination & 7) << 3 | source & 7)

    describe(emit, "rr", lambda d, s: f"{mnemonic} {names[d]}, {names[s]}")
    return emit


def _imul(width: int) -> Callable[[ExtendedAssembler, int, int, int], None]:
    """`imul r, r, imm32`: 69 /r id."""
    wide = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: ExtendedAssembler, destination: int, source: int, immediate: int) -> None:
        code = self.code
        rex = wide | (destination & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        is_byte = -128 <= immediate <= 127
        code.append(0x6B if is_byte else 0x69)
        code.append(0xC0 | (destination & 7) << 3 | source & 7)
        code += immediate.to_bytes(1 if is_byte else 4, "little", signed=True)

    describe(emit, "rri", lambda d, s, i: f"imul {names[d]}, {names[s]}, {i}")
    return emit


def xl(mnemonic: str, prefix: int, opcode: bytes, width: int) -> Callable[[ExtendedAssembler, int, str], None]:
    """`mnemonic xmm, [rip + label]`."""

    def emit(self: ExtendedAssembler, register: int, label: str) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        if register >= 8:
            code.append(0x44)
        code.append(0x0F)
        code += opcode
        code.append((register & 7) << 3 | 5)
        self._to_label(label)

    describe(emit, "xL", lambda r, label: f"{mnemonic} {NAMES_XMM[r]}, {_POINTER_WORDS[width]} [rip+{label}]")
    return emit


def _plain(mnemonic: str, code: bytes) -> Callable[[ExtendedAssembler], None]:
    """An instruction without operands."""

    def emit(self: ExtendedAssembler) -> None:
        self.code += code

    describe(emit, "", lambda: mnemonic)
    return emit


_XX = (NAMES_XMM, NAMES_XMM)


def wide_pair(
    mnemonic: str, prefix: int, opcode: bytes, names: tuple[Names, Names] = _XX, letters: str = "xx", suffix: str = ""
) -> Callable[[ExtendedAssembler, int, int], None]:
    """A register form of SSE with any opcode behind 0F."""

    def emit(self: ExtendedAssembler, register: int, source: int) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = 0x40 | (register & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code += opcode
        code.append(0xC0 | (register & 7) << 3 | source & 7)

    describe(emit, letters, lambda r, s: f"{mnemonic} {names[0][r]}, {names[1][s]}{suffix}")
    return emit


def pair_immediate(
    mnemonic: str,
    prefix: int,
    opcode: bytes,
    names: tuple[Names, Names] = _XX,
    letters: str = "xxb",
    *,
    is_wide: bool = False,
    is_reversed: bool = False,
) -> Callable[[ExtendedAssembler, int, int, int], None]:
    """A register form of SSE with a byte behind: roundsd, pshufd, pinsrb.

    The ModRM reg field comes first; where `is_reversed`, as in pextrb, it is the source.
    """
    wide = 0x48 if is_wide else 0x40

    def emit(self: ExtendedAssembler, register: int, source: int, immediate: int) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = wide | (register & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code += opcode
        code.append(0xC0 | (register & 7) << 3 | source & 7)
        code += immediate.to_bytes(1, "little")

    if is_reversed:
        describe(emit, letters, lambda r, s, i: f"{mnemonic} {names[1][s]}, {names[0][r]}, {i}")
    else:
        describe(emit, letters, lambda r, s, i: f"{mnemonic} {names[0][r]}, {names[1][s]}, {i}")
    return emit


def shift_immediate(mnemonic: str, opcode: int, extension: int) -> Callable[[ExtendedAssembler, int, int], None]:
    """`mnemonic xmm, imm8`: 66 0F opcode /digit ib."""

    def emit(self: ExtendedAssembler, register: int, count: int) -> None:
        code = self.code
        code.append(0x66)
        if register >= 8:
            code.append(0x41)
        code.append(0x0F)
        code.append(opcode)
        code.append(0xC0 | extension << 3 | register & 7)
        code += count.to_bytes(1, "little")

    describe(emit, "xb", lambda r, i: f"{mnemonic} {NAMES_XMM[r]}, {i}")
    return emit


def _xm(mnemonic: str, prefix: int, opcode: bytes, width: int) -> Callable[[ExtendedAssembler, int, int, int], None]:
    """`mnemonic xmm, [base + displacement]` with any opcode behind 0F."""

    def emit(self: ExtendedAssembler, register: int, base: int, displacement: int = 0) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = 0x40 | (register & 8) >> 1 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code += opcode
        _append_memory(code, register, base, displacement)

    describe(emit, "xm", lambda r, b, d=0: f"{mnemonic} {NAMES_XMM[r]}, {memory_text(width, b, d)}")
    return emit


class ExtendedAssembler(Assembler):
    """The rows of x86-64 for WebAssembly."""

    __slots__ = ()

    # -- memory at base + index + displacement ------------------------------------------------------------------------
    mov32_rn = _rn("mov", b"\x8b", 32)
    mov_rn = _rn("mov", b"\x8b")
    movzx8_rn = _rn("movzx", b"\x0f\xb6", 32, 8)
    movzx16_rn = _rn("movzx", b"\x0f\xb7", 32, 16)
    movsx8_rn = _rn("movsx", b"\x0f\xbe", 64, 8)
    movsx16_rn = _rn("movsx", b"\x0f\xbf", 64, 16)
    movsxd_rn = _rn("movsxd", b"\x63", 64, 32)
    movsx8_32_rn = _rn("movsx", b"\x0f\xbe", 32, 8)
    movsx16_32_rn = _rn("movsx", b"\x0f\xbf", 32, 16)
    movsx8_32_rm = _rm("movsx", b"\x0f\xbe", 32, 8)
    movsx16_32_rm = _rm("movsx", b"\x0f\xbf", 32, 16)
    add32_rn = _rn("add", b"\x03", 32)
    add_rn = _rn("add", b"\x03")
    sub32_rn = _rn("sub", b"\x2b", 32)
    sub_rn = _rn("sub", b"\x2b")
    and32_rn = _rn("and", b"\x23", 32)
    and_rn = _rn("and", b"\x23")
    or32_rn = _rn("or", b"\x0b", 32)
    or_rn = _rn("or", b"\x0b")
    xor32_rn = _rn("xor", b"\x33", 32)
    xor_rn = _rn("xor", b"\x33")
    cmp32_rn = _rn("cmp", b"\x3b", 32)
    cmp_rn = _rn("cmp", b"\x3b")
    lea_rn = _rn("lea", b"\x8d")
    lea32_rn = _rn("lea", b"\x8d", 32)
    lea32 = _rm("lea", b"\x8d", 32)
    mov32_nr = _nr("mov", 0x89, 32)
    mov_nr = _nr("mov", 0x89, 64)
    mov16_nr = _nr("mov", 0x89, 16)
    mov8_nr = _nr("mov", 0x88, 8)
    mov_ni = _ni("mov", 64)
    mov32_ni = _ni("mov", 32)
    mov16_ni = _ni("mov", 16)
    mov8_ni = _ni("mov", 8)
    movss_xn = xn("movss", 0xF3, b"\x10", 32)
    movsd_xn = xn("movsd", 0xF2, b"\x10", 64)
    movups_xn = xn("movups", 0, b"\x10", 128)
    movss_nx = _nx("movss", 0xF3, b"\x11", 32)
    movsd_nx = _nx("movsd", 0xF2, b"\x11", 64)
    movups_nx = _nx("movups", 0, b"\x11", 128)

    # -- integer arithmetic -------------------------------------------------------------------------------------------
    add32_rr = _rr("add", 0x01, 32)
    sub32_rr = _rr("sub", 0x29, 32)
    or32_rr = _rr("or", 0x09, 32)
    and_rr = _rr("and", 0x21)
    xor_rr = _rr("xor", 0x31)
    imul32_rr = _rr_load("imul", b"\x0f\xaf", 32, NAMES_32)
    add32_rm = _rm("add", b"\x03", 32)
    sub32_rm = _rm("sub", b"\x2b", 32)
    and32_rm = _rm("and", b"\x23", 32)
    or32_rm = _rm("or", b"\x0b", 32)
    xor32_rm = _rm("xor", b"\x33", 32)
    cmp32_rm = _rm("cmp", b"\x3b", 32)
    imul32_rm = _rm("imul", b"\x0f\xaf", 32)
    add_rm = _rm("add", b"\x03")
    sub_rm = _rm("sub", b"\x2b")
    and_rm = _rm("and", b"\x23")
    or_rm = _rm("or", b"\x0b")
    xor_rm = _rm("xor", b"\x33")
    imul_rm = _rm("imul", b"\x0f\xaf")
    or32_ri = _ri("or", 1, 32)
    xor32_ri = _ri("xor", 6, 32)
    and_ri = _ri("and", 4)
    or_ri = _ri("or", 1)
    xor_ri = _ri("xor", 6)
    sub32_mi = _mi("sub", 5, 32)
    adc_mi = _mi("adc", 2)
    add32_mi = _mi("add", 0, 32)
    imul32_rri = _imul(32)
    imul_rri = _imul(64)
    neg32_r = _r("neg", 0xF7, 3, 32)
    div_r = _r("div", 0xF7, 6)
    div32_r = _r("div", 0xF7, 6, 32)
    idiv_r = _r("idiv", 0xF7, 7)
    idiv32_r = _r("idiv", 0xF7, 7, 32)
    cdq = _plain("cdq", b"\x99")
    cqo = _plain("cqo", b"\x48\x99")
    rep_movsq = _plain("rep movsq", b"\xf3\x48\xa5")
    shl32_ri = _rotate("shl", 4, 32)
    shr32_ri = _rotate("shr", 5, 32)
    sar32_ri = _rotate("sar", 7, 32)
    rol32_ri = _rotate("rol", 0, 32)
    ror32_ri = _rotate("ror", 1, 32)
    rol_ri = _rotate("rol", 0, 64)
    ror_ri = _rotate("ror", 1, 64)
    shl32_rc = _rotate_cl("shl", 4, 32)
    shr32_rc = _rotate_cl("shr", 5, 32)
    sar32_rc = _rotate_cl("sar", 7, 32)
    rol32_rc = _rotate_cl("rol", 0, 32)
    ror32_rc = _rotate_cl("ror", 1, 32)
    rol_rc = _rotate_cl("rol", 0, 64)
    ror_rc = _rotate_cl("ror", 1, 64)
    bsr32_rr = _rr_load("bsr", b"\x0f\xbd", 32, NAMES_32)
    bsr_rr = _rr_load("bsr", b"\x0f\xbd", 64, NAMES_64)
    bsf_rr = _rr_load("bsf", b"\x0f\xbc", 64, NAMES_64)
    lzcnt32_rr = _counted("lzcnt", 0xBD, 32)
    lzcnt_rr = _counted("lzcnt", 0xBD, 64)
    tzcnt32_rr = _counted("tzcnt", 0xBC, 32)
    tzcnt_rr = _counted("tzcnt", 0xBC, 64)
    popcnt32_rr = _counted("popcnt", 0xB8, 32)
    popcnt_rr = _counted("popcnt", 0xB8, 64)
    movsx8_32_rr = _rr_load("movsx", b"\x0f\xbe", 32, NAMES_8, has_byte_source=True)
    movsx16_32_rr = _rr_load("movsx", b"\x0f\xbf", 32, NAMES_16)
    push_m = _m("push", 0xFF, 6, 64)
    pop_m = _m("pop", 0x8F, 0, 64)

    # -- floats -------------------------------------------------------------------------------------------------------
    addsd_xx = _pair("addsd", 0xF2, 0x58, _XX, "xx")
    subsd_xx = _pair("subsd", 0xF2, 0x5C, _XX, "xx")
    mulsd_xx = _pair("mulsd", 0xF2, 0x59, _XX, "xx")
    divsd_xx = _pair("divsd", 0xF2, 0x5E, _XX, "xx")
    minsd_xx = _pair("minsd", 0xF2, 0x5D, _XX, "xx")
    maxsd_xx = _pair("maxsd", 0xF2, 0x5F, _XX, "xx")
    sqrtsd_xx = _pair("sqrtsd", 0xF2, 0x51, _XX, "xx")
    addss_xx = _pair("addss", 0xF3, 0x58, _XX, "xx")
    subss_xx = _pair("subss", 0xF3, 0x5C, _XX, "xx")
    mulss_xx = _pair("mulss", 0xF3, 0x59, _XX, "xx")
    divss_xx = _pair("divss", 0xF3, 0x5E, _XX, "xx")
    minss_xx = _pair("minss", 0xF3, 0x5D, _XX, "xx")
    maxss_xx = _pair("maxss", 0xF3, 0x5F, _XX, "xx")
    sqrtss_xx = _pair("sqrtss", 0xF3, 0x51, _XX, "xx")
    addsd_xm = _xm("addsd", 0xF2, b"\x58", 64)
    subsd_xm = _xm("subsd", 0xF2, b"\x5c", 64)
    mulsd_xm = _xm("mulsd", 0xF2, b"\x59", 64)
    divsd_xm = _xm("divsd", 0xF2, b"\x5e", 64)
    addss_xm = _xm("addss", 0xF3, b"\x58", 32)
    subss_xm = _xm("subss", 0xF3, b"\x5c", 32)
    mulss_xm = _xm("mulss", 0xF3, b"\x59", 32)
    divss_xm = _xm("divss", 0xF3, b"\x5e", 32)
    addsd_xn = xn("addsd", 0xF2, b"\x58", 64)
    subsd_xn = xn("subsd", 0xF2, b"\x5c", 64)
    mulsd_xn = xn("mulsd", 0xF2, b"\x59", 64)
    divsd_xn = xn("divsd", 0xF2, b"\x5e", 64)
    addss_xn = xn("addss", 0xF3, b"\x58", 32)
    subss_xn = xn("subss", 0xF3, b"\x5c", 32)
    mulss_xn = xn("mulss", 0xF3, b"\x59", 32)
    divss_xn = xn("divss", 0xF3, b"\x5e", 32)
    addsd_xL = xl("addsd", 0xF2, b"\x58", 64)
    subsd_xL = xl("subsd", 0xF2, b"\x5c", 64)
    mulsd_xL = xl("mulsd", 0xF2, b"\x59", 64)
    divsd_xL = xl("divsd", 0xF2, b"\x5e", 64)
    addss_xL = xl("addss", 0xF3, b"\x58", 32)
    subss_xL = xl("subss", 0xF3, b"\x5c", 32)
    mulss_xL = xl("mulss", 0xF3, b"\x59", 32)
    divss_xL = xl("divss", 0xF3, b"\x5e", 32)
    movss_xL = xl("movss", 0xF3, b"\x10", 32)
    movsd_xL = xl("movsd", 0xF2, b"\x10", 64)
    movups_xL = xl("movups", 0, b"\x10", 128)
    ucomiss_xx = _pair("ucomiss", 0, 0x2E, _XX, "xx")
    roundsd_xxi = pair_immediate("roundsd", 0x66, b"\x3a\x0b")
    roundss_xxi = pair_immediate("roundss", 0x66, b"\x3a\x0a")
    andps_xx = _pair("andps", 0, 0x54, _XX, "xx")
    andnps_xx = _pair("andnps", 0, 0x55, _XX, "xx")
    orps_xx = _pair("orps", 0, 0x56, _XX, "xx")
    xorps_xx = _pair("xorps", 0, 0x57, _XX, "xx")
    movd_xr = _pair("movd", 0x66, 0x6E, (NAMES_XMM, NAMES_32), "xr")
    cvtsi2sd_xr = _pair("cvtsi2sd", 0xF2, 0x2A, (NAMES_XMM, NAMES_64), "xr", is_wide=True)
    cvtsi2sd32_xr = _pair("cvtsi2sd", 0xF2, 0x2A, (NAMES_XMM, NAMES_32), "xr")
    cvtsi2ss_xr = _pair("cvtsi2ss", 0xF3, 0x2A, (NAMES_XMM, NAMES_64), "xr", is_wide=True)
    cvtsi2ss32_xr = _pair("cvtsi2ss", 0xF3, 0x2A, (NAMES_XMM, NAMES_32), "xr")
    cvttsd2si_rx = _pair("cvttsd2si", 0xF2, 0x2C, (NAMES_64, NAMES_XMM), "rx", is_wide=True)
    cvttsd2si32_rx = _pair("cvttsd2si", 0xF2, 0x2C, (NAMES_32, NAMES_XMM), "rx")
    cvttss2si_rx = _pair("cvttss2si", 0xF3, 0x2C, (NAMES_64, NAMES_XMM), "rx", is_wide=True)
    cvttss2si32_rx = _pair("cvttss2si", 0xF3, 0x2C, (NAMES_32, NAMES_XMM), "rx")

    # -- conditions and places ----------------------------------------------------------------------------------------
    def setcc(self, condition: str, register: int) -> None:
        """Set a register's low byte to whether a condition holds (0F 90+cc /0)."""
        code = self.code
        if register >= 4:
            code.append(0x40 | register >> 3)
        code.append(0x0F)
        code.append(0x90 | CONDITIONS[condition])
        code.append(0xC0 | register & 7)

    def cmov32(self, condition: str, destination: int, source: int) -> None:
        """Move 32 bits where a condition holds (0F 40+cc /r)."""
        self._cmov(0x40, condition, destination, source)

    def cmov(self, condition: str, destination: int, source: int) -> None:
        """Move 64 bits where a condition holds (REX.W 0F 40+cc /r)."""
        self._cmov(0x48, condition, destination, source)

    def _cmov(self, wide: int, condition: str, destination: int, source: int) -> None:
        code = self.code
        rex = wide | (destination & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code.append(0x40 | CONDITIONS[condition])
        code.append(0xC0 | (destination & 7) << 3 | source & 7)

    def lea_label(self, register: int, label: str) -> None:
        """The address of a label (REX.W 8D /r with RIP)."""
        self.code += bytes((0x48 | (register & 8) >> 1, 0x8D, (register & 7) << 3 | 5))
        self._to_label(label)

    def distance(self, label: str, offset: int) -> None:
        """A word of a table: how far a label is from the table's beginning, `offset` bytes back."""
        self._fixups.append((len(self.code), "distance", label))
        self.data(offset.to_bytes(4, "little"), f"to {label}")

    def _resolve(self, site: int, kind: str, label: str, distance: int) -> None:
        if kind == "distance":
            distance += int.from_bytes(self.code[site : site + 4], "little") + 4
        super()._resolve(site, kind, label, distance)

    def jmp_r(self, register: int) -> None:
        """Jump to the address in a register (FF /4)."""
        if register >= 8:
            self.code.append(0x41)
        self.code += bytes((0xFF, 0xE0 | register & 7))

    describe(setcc, "Cr", lambda c, r: f"set{c} {NAMES_8[r]}")
    describe(cmov32, "Crr", lambda c, d, s: f"cmov{c} {NAMES_32[d]}, {NAMES_32[s]}")
    describe(cmov, "Crr", lambda c, d, s: f"cmov{c} {NAMES_64[d]}, {NAMES_64[s]}")
    describe(lea_label, "rL", lambda r, label: f"lea {NAMES_64[r]}, [rip+{label}]")
    describe(jmp_r, "r", lambda r: f"jmp {NAMES_64[r]}")


class ExtendedListingAssembler(Listing, ExtendedAssembler):
    """The same assembler, which also records the text of every line."""

    __slots__ = ()


EXTENDED_ROWS = rows_of(ExtendedAssembler)
"""The rows of this module by name."""

remember(ExtendedAssembler, EXTENDED_ROWS, placed="lL")
record(ExtendedListingAssembler, {**ROWS, **EXTENDED_ROWS})
