"""The x86-64 assembler: one instruction and form, one row; every row is a plain method that appends bytes.

A row names its mnemonic, its opcode and the width of its operands as the manual's opcode column does (Intel SDM
volume 2).  The letters of a row's name tell its operands: `r` register, `m` memory at base + displacement,
`l` the literal of a symbol (a table slot addressed from RIP), `i` immediate, `x` XMM register.  The destination
comes first, memory is given as `base, displacement`.

Jumps to labels always take 32-bit displacements: gates are short, and one form is one thing to check.
Addressing with an index register is not here, nothing needs it.
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.asm.code import Relocation
from callgate.asm.emitter import Emitter, Listing, describe, record, remember, rows_of
from callgate.asm.x86_64.registers import NAMES_8, NAMES_16, NAMES_32, NAMES_64, NAMES_XMM

Names = tuple[str, ...]

_POINTER_WORDS = {128: "xmmword ptr", 64: "qword ptr", 32: "dword ptr", 16: "word ptr", 8: "byte ptr", 80: "tbyte ptr"}
_NAMES: dict[int, Names] = {64: NAMES_64, 32: NAMES_32, 16: NAMES_16, 8: NAMES_8}

CONDITIONS = {
    **{"o": 0, "no": 1, "b": 2, "ae": 3, "e": 4, "ne": 5, "be": 6, "a": 7},
    **{"s": 8, "ns": 9, "p": 10, "np": 11, "l": 12, "ge": 13, "le": 14, "g": 15},
}
"""Condition codes (SDM volume 1, appendix B)."""


def memory_text(width: int, base: int, displacement: int) -> str:
    """The Intel-syntax text of a memory operand: `qword ptr [rax+8]`."""
    offset = f"{displacement:+d}" if displacement else ""
    return f"{_POINTER_WORDS[width]} [{NAMES_64[base]}{offset}]"


def literal_text(width: int, symbol: str) -> str:
    """The text of a symbol's table slot: `qword ptr [rip+PyLong_Type]`."""
    return f"{_POINTER_WORDS[width]} [rip+{symbol}]"


def _append_memory(code: bytearray, register: int, base: int, displacement: int) -> None:
    """ModRM, SIB and displacement of [base + displacement] (SDM volume 2, tables 2-2 and 2-3)."""
    low = base & 7
    field = (register & 7) << 3 | low
    if displacement == 0 and low != 5:  # mod 00 with base 101 would mean RIP or no base
        code.append(field)
        if low == 4:  # rsp and r12 are reached through a SIB byte
            code.append(0x24)
    elif -128 <= displacement <= 127:
        code.append(0x40 | field)
        if low == 4:
            code.append(0x24)
        code.append(displacement & 0xFF)
    else:
        code.append(0x80 | field)
        if low == 4:
            code.append(0x24)
        code += displacement.to_bytes(4, "little", signed=True)


def _rr(mnemonic: str, opcode: int, width: int = 64) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r, r` with the source in the ModRM reg field (the /r of the r/m, r form)."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, destination: int, source: int) -> None:
        prefix = rex | (source & 8) >> 1 | destination >> 3
        if prefix != 0x40:
            self.code.append(prefix)
        self.code.append(opcode)
        self.code.append(0xC0 | (source & 7) << 3 | destination & 7)

    describe(emit, "rr", lambda d, s: f"{mnemonic} {names[d]}, {names[s]}")
    return emit


def _rr_load(
    mnemonic: str, opcode: bytes, width: int, source_names: Names, *, has_byte_source: bool = False
) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r, r` with the destination in the ModRM reg field (the /r of the r, r/m form)."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, destination: int, source: int) -> None:
        prefix = rex | (destination & 8) >> 1 | source >> 3
        if prefix != 0x40 or (has_byte_source and source >= 4):  # spl, bpl, sil, dil need an empty REX
            self.code.append(prefix)
        self.code += opcode
        self.code.append(0xC0 | (destination & 7) << 3 | source & 7)

    describe(emit, "rr", lambda d, s: f"{mnemonic} {names[d]}, {source_names[s]}")
    return emit


def _rm(
    mnemonic: str, opcode: bytes, width: int = 64, memory_width: int | None = None
) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic r, [base + displacement]`."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]
    bits = memory_width or width

    def emit(self: Assembler, register: int, base: int, displacement: int = 0) -> None:
        code = self.code
        prefix = rex | (register & 8) >> 1 | base >> 3
        if prefix != 0x40:
            code.append(prefix)
        code += opcode
        _append_memory(code, register, base, displacement)

    def text(register: int, base: int, displacement: int = 0) -> str:
        operand = memory_text(bits, base, displacement)
        return f"{mnemonic} {names[register]}, {operand.split('ptr ')[1] if mnemonic == 'lea' else operand}"

    describe(emit, "rm", text)
    return emit


def _mr(mnemonic: str, opcode: int, width: int = 64) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic [base + displacement], r`."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, base: int, displacement: int, register: int) -> None:
        code = self.code
        if width == 16:
            code.append(0x66)
        prefix = rex | (register & 8) >> 1 | base >> 3
        if prefix != 0x40 or (width == 8 and register >= 4):
            code.append(prefix)
        code.append(opcode)
        _append_memory(code, register, base, displacement)

    describe(emit, "mr", lambda b, d, r: f"{mnemonic} {memory_text(width, b, d)}, {names[r]}")
    return emit


def _rl(mnemonic: str, opcode: int, width: int = 64) -> Callable[[Assembler, int, str], None]:
    """`mnemonic r, [rip + literal]`."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, register: int, symbol: str) -> None:
        code = self.code
        prefix = rex | (register & 8) >> 1
        if prefix != 0x40:
            code.append(prefix)
        code.append(opcode)
        code.append((register & 7) << 3 | 5)
        self._literal(symbol)

    describe(emit, "rl", lambda r, s: f"{mnemonic} {names[r]}, {literal_text(width, s)}")
    return emit


def _l(mnemonic: str, opcode: int, extension: int) -> Callable[[Assembler, str], None]:
    """`mnemonic [rip + literal]` for jumps and calls, which need no REX.W."""

    def emit(self: Assembler, symbol: str) -> None:
        self.code.append(opcode)
        self.code.append(extension << 3 | 5)
        self._literal(symbol)

    describe(emit, "l", lambda s: f"{mnemonic} {literal_text(64, s)}")
    return emit


def _m(
    mnemonic: str, opcode: int, extension: int, width: int, rex: int = 0x40
) -> Callable[[Assembler, int, int], None]:
    """`mnemonic [base + displacement]`, the operation chosen by the ModRM reg field (the manual's /digit)."""

    def emit(self: Assembler, base: int, displacement: int = 0) -> None:
        prefix = rex | base >> 3
        if prefix != 0x40:
            self.code.append(prefix)
        self.code.append(opcode)
        _append_memory(self.code, extension, base, displacement)

    describe(emit, "m", lambda b, d=0: f"{mnemonic} {memory_text(width, b, d)}")
    return emit


def _r(mnemonic: str, opcode: int, extension: int, width: int = 64) -> Callable[[Assembler, int], None]:
    """`mnemonic r`, the operation chosen by the ModRM reg field."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, register: int) -> None:
        prefix = rex | register >> 3
        if prefix != 0x40:
            self.code.append(prefix)
        self.code.append(opcode)
        self.code.append(0xC0 | extension << 3 | register & 7)

    describe(emit, "r", lambda r: f"{mnemonic} {names[r]}")
    return emit


def _to_register(mnemonic: str, extension: int) -> Callable[[Assembler, int], None]:
    """`mnemonic r64` for jumps and calls, which need no REX.W: FF /digit."""

    def emit(self: Assembler, register: int) -> None:
        if register >= 8:
            self.code.append(0x41)
        self.code.append(0xFF)
        self.code.append(0xC0 | extension << 3 | register & 7)

    describe(emit, "r", lambda r: f"{mnemonic} {NAMES_64[r]}")
    return emit


def _thread_pointer(mnemonic: str) -> Callable[[Assembler, int], None]:
    """`mnemonic r64, fs:[0]`: the thread pointer, which is the first word of what it points to (psABI 3.4.6)."""

    def emit(self: Assembler, register: int) -> None:
        self.code += bytes((0x64, 0x48 | (register & 8) >> 1, 0x8B, (register & 7) << 3 | 4, 0x25, 0, 0, 0, 0))

    describe(emit, "r", lambda r: f"{mnemonic} {NAMES_64[r]}, qword ptr fs:[0]")
    return emit


def _stack(mnemonic: str, opcode: int) -> Callable[[Assembler, int], None]:
    """`push r` and `pop r`, the register in the opcode byte."""

    def emit(self: Assembler, register: int) -> None:
        if register >= 8:
            self.code.append(0x41)
        self.code.append(opcode | register & 7)

    describe(emit, "r", lambda r: f"{mnemonic} {NAMES_64[r]}")
    return emit


def _ri(mnemonic: str, extension: int, width: int = 64) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r, imm`: 83 /digit ib where the immediate fits a signed byte, else 81 /digit id."""
    rex = 0x48 if width == 64 else 0x40
    names = _NAMES[width]

    def emit(self: Assembler, register: int, immediate: int) -> None:
        code = self.code
        prefix = rex | register >> 3
        if prefix != 0x40:
            code.append(prefix)
        if -128 <= immediate <= 127:
            code.append(0x83)
            code.append(0xC0 | extension << 3 | register & 7)
            code.append(immediate & 0xFF)
        elif register == 0:  # the short form for rax
            code.append(extension << 3 | 5)
            code += immediate.to_bytes(4, "little", signed=True)
        else:
            code.append(0x81)
            code.append(0xC0 | extension << 3 | register & 7)
            code += immediate.to_bytes(4, "little", signed=True)

    describe(emit, "ri", lambda r, i: f"{mnemonic} {names[r]}, {i}")
    return emit


def _mi(mnemonic: str, extension: int, width: int = 64) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic [base + displacement], imm`, as `_ri`."""
    rex = 0x48 if width == 64 else 0x40

    def emit(self: Assembler, base: int, displacement: int, immediate: int) -> None:
        code = self.code
        prefix = rex | base >> 3
        if prefix != 0x40:
            code.append(prefix)
        is_byte = -128 <= immediate <= 127
        code.append(0x83 if is_byte else 0x81)
        _append_memory(code, extension, base, displacement)
        code += immediate.to_bytes(1 if is_byte else 4, "little", signed=True)

    describe(emit, "mi", lambda b, d, i: f"{mnemonic} {memory_text(width, b, d)}, {i}")
    return emit


def _mi_full(
    mnemonic: str, opcode: int, extension: int, width: int, immediate_bytes: int
) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic [base + displacement], imm` in the one form with a full immediate.

    Where the immediate is as wide as the operand, unsigned values are taken too; 64-bit operands extend its sign.
    """
    rex = 0x48 if width == 64 else 0x40
    is_extended = width > 8 * immediate_bytes

    def emit(self: Assembler, base: int, displacement: int, immediate: int) -> None:
        prefix = rex | base >> 3
        if prefix != 0x40:
            self.code.append(prefix)
        self.code.append(opcode)
        _append_memory(self.code, extension, base, displacement)
        self.code += immediate.to_bytes(immediate_bytes, "little", signed=is_extended or immediate < 0)

    describe(
        emit, "mi8" if immediate_bytes == 1 else "mi", lambda b, d, i: f"{mnemonic} {memory_text(width, b, d)}, {i}"
    )
    return emit


def _shift(mnemonic: str, extension: int) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r64, imm8`: D1 /digit for one place, else C1 /digit ib."""

    def emit(self: Assembler, register: int, count: int) -> None:
        if not 0 <= count <= 63:  # the processor would take it modulo 64
            raise OverflowError(f"{mnemonic} by {count} places")
        code = self.code
        code.append(0x48 | register >> 3)
        code.append(0xD1 if count == 1 else 0xC1)
        code.append(0xC0 | extension << 3 | register & 7)
        if count != 1:
            code.append(count)

    describe(emit, "rs", lambda r, i: f"{mnemonic} {NAMES_64[r]}, {i}")
    return emit


def _shift_cl(mnemonic: str, extension: int) -> Callable[[Assembler, int], None]:
    """`mnemonic r64, cl`: D3 /digit."""

    def emit(self: Assembler, register: int) -> None:
        self.code.append(0x48 | register >> 3)
        self.code.append(0xD3)
        self.code.append(0xC0 | extension << 3 | register & 7)

    describe(emit, "r", lambda r: f"{mnemonic} {NAMES_64[r]}, cl")
    return emit


def _xm(mnemonic: str, prefix: int, opcode: int, width: int) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic xmm, [base + displacement]`: mandatory prefix, 0F, opcode (0 for no prefix)."""

    def emit(self: Assembler, register: int, base: int, displacement: int = 0) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = 0x40 | (register & 8) >> 1 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code.append(opcode)
        _append_memory(code, register, base, displacement)

    describe(emit, "xm", lambda r, b, d=0: f"{mnemonic} {NAMES_XMM[r]}, {memory_text(width, b, d)}")
    return emit


def _mx(mnemonic: str, prefix: int, opcode: int, width: int) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic [base + displacement], xmm`."""

    def emit(self: Assembler, base: int, displacement: int, register: int) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = 0x40 | (register & 8) >> 1 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code.append(opcode)
        _append_memory(code, register, base, displacement)

    describe(emit, "mx", lambda b, d, r: f"{mnemonic} {memory_text(width, b, d)}, {NAMES_XMM[r]}")
    return emit


def _pair(
    mnemonic: str, prefix: int, opcode: int, names: tuple[Names, Names], letters: str, *, is_wide: bool = False
) -> Callable[[Assembler, int, int], None]:
    """A register form of SSE: the ModRM reg field first; `letters` tells XMM (`x`) from general (`r`) operands."""
    base_rex = 0x48 if is_wide else 0x40

    def emit(self: Assembler, register: int, source: int) -> None:
        code = self.code
        if prefix:
            code.append(prefix)
        rex = base_rex | (register & 8) >> 1 | source >> 3
        if rex != 0x40:
            code.append(rex)
        code.append(0x0F)
        code.append(opcode)
        code.append(0xC0 | (register & 7) << 3 | source & 7)

    describe(emit, letters, lambda r, s: f"{mnemonic} {names[0][r]}, {names[1][s]}")
    return emit


_XX = (NAMES_XMM, NAMES_XMM)


def _from_xmm(mnemonic: str, names: Names, *, is_wide: bool = False) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r, xmm` (66 0F 7E /r).  The XMM register, though the source, comes first as in the ModRM byte."""
    emit = _pair(mnemonic, 0x66, 0x7E, (NAMES_XMM, names), "xr", is_wide=is_wide)
    describe(emit, "xr", lambda x, r: f"{mnemonic} {names[r]}, {NAMES_XMM[x]}")
    return emit


class Assembler(Emitter):
    """The rows of x86-64."""

    __slots__ = ()

    # -- moves ------------------------------------------------------------------------------------------------------
    mov_rr = _rr("mov", 0x89)
    mov32_rr = _rr("mov", 0x89, 32)
    mov_rm = _rm("mov", b"\x8b")
    mov32_rm = _rm("mov", b"\x8b", 32)
    mov_mr = _mr("mov", 0x89)
    mov32_mr = _mr("mov", 0x89, 32)
    mov16_mr = _mr("mov", 0x89, 16)
    mov8_mr = _mr("mov", 0x88, 8)
    mov_rl = _rl("mov", 0x8B)
    mov_mi = _mi_full("mov", 0xC7, 0, 64, 4)
    mov32_mi = _mi_full("mov", 0xC7, 0, 32, 4)
    mov8_mi = _mi_full("mov", 0xC6, 0, 8, 1)
    lea = _rm("lea", b"\x8d")
    movsx8_rr = _rr_load("movsx", b"\x0f\xbe", 64, NAMES_8)
    movsx16_rr = _rr_load("movsx", b"\x0f\xbf", 64, NAMES_16)
    movsxd_rr = _rr_load("movsxd", b"\x63", 64, NAMES_32)
    movzx8_rr = _rr_load("movzx", b"\x0f\xb6", 32, NAMES_8, has_byte_source=True)
    movzx16_rr = _rr_load("movzx", b"\x0f\xb7", 32, NAMES_16)
    movsx8_rm = _rm("movsx", b"\x0f\xbe", 64, 8)
    movsx16_rm = _rm("movsx", b"\x0f\xbf", 64, 16)
    movsxd_rm = _rm("movsxd", b"\x63", 64, 32)
    movzx8_rm = _rm("movzx", b"\x0f\xb6", 32, 8)
    movzx16_rm = _rm("movzx", b"\x0f\xb7", 32, 16)
    mov_rt = _thread_pointer("mov")
    push = _stack("push", 0x50)
    pop = _stack("pop", 0x58)

    # -- integer arithmetic -----------------------------------------------------------------------------------------
    add_rr = _rr("add", 0x01)
    sub_rr = _rr("sub", 0x29)
    or_rr = _rr("or", 0x09)
    and32_rr = _rr("and", 0x21, 32)
    xor32_rr = _rr("xor", 0x31, 32)
    cmp_rr = _rr("cmp", 0x39)
    cmp32_rr = _rr("cmp", 0x39, 32)
    test_rr = _rr("test", 0x85)
    test32_rr = _rr("test", 0x85, 32)
    imul_rr = _rr_load("imul", b"\x0f\xaf", 64, NAMES_64)
    add_rl = _rl("add", 0x03)
    cmp_rl = _rl("cmp", 0x3B)
    cmp_rm = _rm("cmp", b"\x3b")
    cmp_mr = _mr("cmp", 0x39)
    add_ri = _ri("add", 0)
    sub_ri = _ri("sub", 5)
    and32_ri = _ri("and", 4, 32)
    cmp_ri = _ri("cmp", 7)
    cmp32_ri = _ri("cmp", 7, 32)
    add32_ri = _ri("add", 0, 32)
    sub32_ri = _ri("sub", 5, 32)
    cmp_mi = _mi("cmp", 7)
    cmp32_mi = _mi("cmp", 7, 32)
    cmp8_mi = _mi_full("cmp", 0x80, 7, 8, 1)
    test8_mi = _mi_full("test", 0xF6, 0, 8, 1)
    exchange_mr = _mr("xchg", 0x87)  # of memory it locks the bus by itself
    inc_m = _m("inc", 0xFF, 0, 64, 0x48)
    dec_m = _m("dec", 0xFF, 1, 64, 0x48)
    neg_r = _r("neg", 0xF7, 3)
    shl_ri = _shift("shl", 4)
    shr_ri = _shift("shr", 5)
    sar_ri = _shift("sar", 7)
    shl_rc = _shift_cl("shl", 4)
    shr_rc = _shift_cl("shr", 5)
    sar_rc = _shift_cl("sar", 7)
    bsf32_rr = _rr_load("bsf", b"\x0f\xbc", 32, NAMES_32)

    # -- SSE2 ---------------------------------------------------------------------------------------------------------
    movsd_xm = _xm("movsd", 0xF2, 0x10, 64)
    movss_xm = _xm("movss", 0xF3, 0x10, 32)
    movsd_mx = _mx("movsd", 0xF2, 0x11, 64)
    movss_mx = _mx("movss", 0xF3, 0x11, 32)
    movups_xm = _xm("movups", 0, 0x10, 128)
    movups_mx = _mx("movups", 0, 0x11, 128)
    movq_rx = _from_xmm("movq", NAMES_64, is_wide=True)
    movq_xr = _pair("movq", 0x66, 0x6E, (NAMES_XMM, NAMES_64), "xr", is_wide=True)
    movd_rx = _from_xmm("movd", NAMES_32)
    movaps_xx = _pair("movaps", 0, 0x28, _XX, "xx")
    cvtsd2ss_xx = _pair("cvtsd2ss", 0xF2, 0x5A, _XX, "xx")
    cvtss2sd_xx = _pair("cvtss2sd", 0xF3, 0x5A, _XX, "xx")
    cvtsd2ss_xm = _xm("cvtsd2ss", 0xF2, 0x5A, 64)
    cvtss2sd_xm = _xm("cvtss2sd", 0xF3, 0x5A, 32)
    ucomisd_xx = _pair("ucomisd", 0x66, 0x2E, _XX, "xx")
    pxor_xx = _pair("pxor", 0x66, 0xEF, _XX, "xx")
    pmovmskb_rx = _pair("pmovmskb", 0x66, 0xD7, (NAMES_32, NAMES_XMM), "rx")

    # -- x87, for long double -----------------------------------------------------------------------------------------
    fld64_m = _m("fld", 0xDD, 0, 64)
    fld80_m = _m("fld", 0xDB, 5, 80)
    fstp64_m = _m("fstp", 0xDD, 3, 64)
    fstp80_m = _m("fstp", 0xDB, 7, 80)

    # -- control ------------------------------------------------------------------------------------------------------
    call_m = _m("call", 0xFF, 2, 64)
    call_r = _to_register("call", 2)
    call_l = _l("call", 0xFF, 2)
    jmp_l = _l("jmp", 0xFF, 4)
    jmp_m = _m("jmp", 0xFF, 4, 64)

    def mov_ri(self, register: int, immediate: int) -> None:
        """Set a register to any 64-bit value in the shortest form: B8+rd id, REX.W C7 /0 id, REX.W B8+rd io."""
        code = self.code
        if 0 <= immediate <= 0xFFFFFFFF:
            if register >= 8:
                code.append(0x41)
            code.append(0xB8 | register & 7)
            code += immediate.to_bytes(4, "little")
        elif -(1 << 31) <= immediate < 0 or (1 << 64) - (1 << 31) <= immediate < 1 << 64:
            code.append(0x48 | register >> 3)
            code.append(0xC7)
            code.append(0xC0 | register & 7)
            code += (immediate & 0xFFFFFFFF).to_bytes(4, "little")
        else:
            code.append(0x48 | register >> 3)
            code.append(0xB8 | register & 7)
            code += immediate.to_bytes(8, "little", signed=immediate < 0)

    def pcmpeqb_xm(self, register: int, base: int, displacement: int = 0) -> None:
        """Compare 16 bytes with aligned memory (66 0F 74 /r)."""
        code = self.code
        code.append(0x66)
        rex = 0x40 | (register & 8) >> 1 | base >> 3
        if rex != 0x40:
            code.append(rex)
        code += b"\x0f\x74"
        _append_memory(code, register, base, displacement)

    def ret(self) -> None:
        """Return to the caller (C3)."""
        self.code.append(0xC3)

    def ud2(self) -> None:
        """Raise an invalid-opcode fault (0F 0B): for places that cannot be reached."""
        self.code += b"\x0f\x0b"

    def jcc(self, condition: str, label: str) -> None:
        """Jump to a label if a condition holds (0F 80+cc cd)."""
        self.code.append(0x0F)
        self.code.append(0x80 | CONDITIONS[condition])
        self._to_label(label)

    def jmp(self, label: str) -> None:
        """Jump to a label (E9 cd)."""
        self.code.append(0xE9)
        self._to_label(label)

    def call(self, label: str) -> None:
        """Call a label (E8 cd)."""
        self.code.append(0xE8)
        self._to_label(label)

    describe(mov_ri, "rI", lambda r, i: f"mov {NAMES_64[r] if i < 0 or i > 0xFFFFFFFF else NAMES_32[r]}, {i}")
    describe(
        pcmpeqb_xm, "xm", lambda r, b, d=0: f"pcmpeqb {NAMES_XMM[r]}, {memory_text(64, b, d).replace('q', 'xmm', 1)}"
    )
    describe(ret, "", lambda: "ret")
    describe(ud2, "", lambda: "ud2")
    describe(jcc, "cL", lambda c, label: f"j{c} {label}")
    describe(jmp, "L", lambda label: f"jmp {label}")
    describe(call, "L", lambda label: f"call {label}")

    # -- places -------------------------------------------------------------------------------------------------------
    def _literal(self, symbol: str) -> None:
        # psABI table 4.9: G + GOT + A - P; the instruction ends 4 bytes after the site, hence addend -4.
        self._relocations.append(Relocation(len(self.code), "R_X86_64_GOTPCREL", symbol, -4))
        self.code += b"\0\0\0\0"

    def _to_label(self, label: str) -> None:
        self._fixups.append((len(self.code), "R_X86_64_PC32", label))
        self.code += b"\0\0\0\0"

    def _resolve(self, site: int, kind: str, label: str, distance: int) -> None:
        self.code[site : site + 4] = (distance - 4).to_bytes(4, "little", signed=True)  # from the instruction's end


class ListingAssembler(Listing, Assembler):
    """The same assembler, which also records the text of every line."""

    __slots__ = ()


ROWS = rows_of(Assembler)
"""Every row by name; its `operands` letters and `text` serve the listing and the oracle."""

remember(Assembler, ROWS, placed="lLc")
record(ListingAssembler, ROWS)
