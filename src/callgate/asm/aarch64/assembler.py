"""The AArch64 assembler: one instruction and form, one row; every row is a plain method that appends four bytes.

A row's name is its mnemonic, with what tells its form: `_x` and `_w` registers of 64 and 32 bits, `_d`, `_s` and `_q`
floating-point ones, `_i` an immediate, `_m` memory at base + offset.  The letters that `describe` is given tell its
operands: `r` general register (31 is zr), `q` general register below 31, `p` general register or sp (31), `v` vector
register, `i` immediate of 12 bits, with or without 12 zeros behind, `h` immediate of 16 bits and `k` the bits it is
shifted by, `b` a bit mask of 32 bits, `n` a shift below 64, `o` a memory offset, `t` the offset of a pair, `a` a
distance ahead, `s` symbol, `L` label, `c` condition.  The destination comes first.

Encodings are those of the Arm Architecture Reference Manual, C4 and C6.
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.asm.aarch64.registers import NAMES_32, NAMES_64, NAMES_64_SP, NAMES_D, NAMES_Q, NAMES_S, ZR
from callgate.asm.code import Relocation
from callgate.asm.emitter import Emitter, Listing, describe, record, remember, rows_of

Names = tuple[str, ...]

CONDITIONS = {
    **{"eq": 0, "ne": 1, "hs": 2, "lo": 3, "mi": 4, "pl": 5, "vs": 6, "vc": 7},
    **{"hi": 8, "ls": 9, "ge": 10, "lt": 11, "gt": 12, "le": 13},
}
"""Condition codes (C1.2.4)."""


def encode_mask(mask: int) -> int | None:
    """N:immr:imms of a 32-bit bit mask immediate, in place; None for a mask that has no encoding (C3.4.2)."""
    if not 0 < mask < 0xFFFFFFFF:
        return None
    for size in (2, 4, 8, 16, 32):
        element = mask & ((1 << size) - 1)
        if mask != sum(element << place for place in range(0, 32, size)):
            continue
        ones = element.bit_count()
        for rotation in range(size):
            # ones in a row, rotated right
            run = (1 << ones) - 1
            if (run >> rotation | run << (size - rotation)) & ((1 << size) - 1) == element:
                return rotation << 16 | (~(2 * size - 1) & 0x3F | ones - 1) << 10
        return None
    return None


def fits_immediate(number: int) -> bool:
    """Whether `add` and `sub` can take a number: 12 bits, with or without 12 zeros behind."""
    return 0 <= number < 1 << 12 or (0 <= number < 1 << 24 and not number & 0xFFF)


def fits_offset(offset: int, size_bytes: int) -> bool:
    """Whether a load or store of `size_bytes` reaches an offset from its base."""
    return -256 <= offset < 256 or (0 <= offset < size_bytes << 12 and not offset % size_bytes)


def fits_pair(offset: int) -> bool:
    """Whether a pair of 8-byte registers can be loaded from an offset."""
    return not offset % 8 and -512 <= offset < 512


def _check_shift(shift: int) -> None:
    if not 0 <= shift < 64:
        raise OverflowError(f"{shift} is no shift of 64 bits")


def _offset_text(offset: int) -> str:
    return f", #{offset}" if offset else ""


def _memory(mnemonic: str, names: Names, size_bytes: int, opcode: int) -> Callable[[Assembler, int, int, int], None]:
    """A load or store at base + offset: the scaled form where the offset fits it, else the unscaled one (ldur, stur).

    `opcode` is the scaled form; the unscaled differs in bit 24.
    """
    scale = size_bytes.bit_length() - 1

    def emit(self: Assembler, register: int, base: int, offset: int = 0) -> None:
        if 0 <= offset < size_bytes << 12 and not offset & (size_bytes - 1):
            word = opcode | offset >> scale << 10
        elif -256 <= offset < 256:
            word = opcode & ~(1 << 24) | (offset & 0x1FF) << 12
        else:
            raise OverflowError(f"{mnemonic} cannot reach offset {offset}")
        self.emit_word(word | base << 5 | register)

    def text(register: int, base: int, offset: int = 0) -> str:
        is_scaled = offset >= 0 and not offset % size_bytes
        name = mnemonic if is_scaled else f"{mnemonic[:2]}u{mnemonic[2:]}"
        return f"{name} {names[register]}, [{NAMES_64_SP[base]}{_offset_text(offset)}]"

    describe(emit, f"{'r' if names in (NAMES_64, NAMES_32) else 'v'}po", text)
    emit.size_bytes = size_bytes  # type: ignore[attr-defined]  # for whoever tests what the offset may be
    return emit


def _pair(mnemonic: str, opcode: int, names: Names) -> Callable[[Assembler, int, int, int, int], None]:
    """`mnemonic r, r, [base, offset]` of 8-byte registers, the offset a multiple of 8 from -512 to 504."""

    def emit(self: Assembler, first: int, second: int, base: int, offset: int) -> None:
        if not fits_pair(offset):
            raise OverflowError(f"{mnemonic} cannot reach offset {offset}")
        self.emit_word(opcode | (offset >> 3 & 0x7F) << 15 | second << 10 | base << 5 | first)

    letter = "r" if names is NAMES_64 else "v"
    describe(
        emit,
        f"{letter}{letter}pt",
        lambda f, s, b, o: f"{mnemonic} {names[f]}, {names[s]}, [{NAMES_64_SP[b]}{_offset_text(o)}]",
    )
    return emit


def _immediate(number: int) -> int:
    if 0 <= number < 1 << 12:
        return number << 10
    if fits_immediate(number):
        return 1 << 22 | number >> 12 << 10
    raise OverflowError(f"{number} is no immediate of 12 bits")


def _immediate_text(number: int) -> str:
    return f"#{number}" if number < 1 << 12 else f"#{number >> 12}, lsl #12"


def _rri(mnemonic: str, opcode: int) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic x|sp, x|sp, #imm`."""

    def emit(self: Assembler, destination: int, source: int, immediate: int) -> None:
        self.emit_word(opcode | _immediate(immediate) | source << 5 | destination)

    describe(emit, "ppi", lambda d, s, i: f"{mnemonic} {NAMES_64_SP[d]}, {NAMES_64_SP[s]}, {_immediate_text(i)}")
    return emit


def _subs_i(opcode: int, names: Names) -> Callable[[Assembler, int, int, int], None]:
    """`subs r, r, #imm`; `cmp` where the destination is the zero register."""

    def emit(self: Assembler, destination: int, source: int, immediate: int) -> None:
        self.emit_word(opcode | _immediate(immediate) | source << 5 | destination)

    def text(destination: int, source: int, immediate: int) -> str:
        if destination == ZR:
            return f"cmp {names[source]}, {_immediate_text(immediate)}"
        return f"subs {names[destination]}, {names[source]}, {_immediate_text(immediate)}"

    describe(emit, "rqi", text)
    return emit


def _cmn_i(opcode: int, names: Names) -> Callable[[Assembler, int, int], None]:
    """`cmn r, #imm`: compare with a negative number."""

    def emit(self: Assembler, source: int, immediate: int) -> None:
        self.emit_word(opcode | _immediate(immediate) | source << 5 | ZR)

    describe(emit, "qi", lambda s, i: f"cmn {names[s]}, {_immediate_text(i)}")
    return emit


def _rrr(
    mnemonic: str, opcode: int, names: Names = NAMES_64, alias: str = ""
) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic r, r, r`; `alias` is what it is called where the destination is the zero register."""

    def emit(self: Assembler, destination: int, first: int, second: int) -> None:
        self.emit_word(opcode | second << 16 | first << 5 | destination)

    def text(destination: int, first: int, second: int) -> str:
        if alias and destination == ZR:
            return f"{alias} {names[first]}, {names[second]}"
        return f"{mnemonic} {names[destination]}, {names[first]}, {names[second]}"

    describe(emit, "rrr", text)
    return emit


def _rr(mnemonic: str, opcode: int, names: tuple[Names, Names], letters: str) -> Callable[[Assembler, int, int], None]:
    """`mnemonic r, r`."""

    def emit(self: Assembler, destination: int, source: int) -> None:
        self.emit_word(opcode | source << 5 | destination)

    describe(emit, letters, lambda d, s: f"{mnemonic} {names[0][d]}, {names[1][s]}")
    return emit


def _mov(opcode: int, names: Names, mnemonic: str = "mov") -> Callable[[Assembler, int, int], None]:
    """`mov r, r` or `mvn r, r`, which are `orr r, zr, r` and `orn r, zr, r`."""

    def emit(self: Assembler, destination: int, source: int) -> None:
        self.emit_word(opcode | source << 16 | ZR << 5 | destination)

    describe(emit, "rr", lambda d, s: f"{mnemonic} {names[d]}, {names[s]}")
    return emit


def _wide(mnemonic: str, opcode: int) -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic x, #imm16, lsl #shift`."""

    def emit(self: Assembler, register: int, immediate: int, shift: int = 0) -> None:
        if not 0 <= immediate < 1 << 16 or shift not in (0, 16, 32, 48):
            raise OverflowError(f"{mnemonic} of {immediate} shifted by {shift}")
        self.emit_word(opcode | shift >> 4 << 21 | immediate << 5 | register)

    describe(emit, "rhk", lambda r, i, s=0: f"{mnemonic} {NAMES_64[r]}, #{i}" + (f", lsl #{s}" if s else ""))
    return emit


def _mask(mnemonic: str, opcode: int, alias: str = "") -> Callable[[Assembler, int, int, int], None]:
    """`mnemonic w, w, #mask`."""

    def emit(self: Assembler, destination: int, source: int, mask: int) -> None:
        fields = encode_mask(mask)
        if fields is None:
            raise OverflowError(f"{mask:#x} is no bit mask that an instruction can hold")
        self.emit_word(opcode | fields | source << 5 | destination)

    def text(destination: int, source: int, mask: int) -> str:
        if destination == ZR:
            return f"{alias} {NAMES_32[source]}, #{mask:#x}"
        return f"{mnemonic} {NAMES_32[destination]}, {NAMES_32[source]}, #{mask:#x}"

    describe(emit, "rrb", text)
    return emit


class Assembler(Emitter):
    """The rows of AArch64."""

    __slots__ = ()

    def emit_word(self, word: int) -> None:
        """Append one instruction."""
        self.code += word.to_bytes(4, "little")

    # -- memory -------------------------------------------------------------------------------------------------------
    ldr_x = _memory("ldr", NAMES_64, 8, 0xF9400000)
    ldr_w = _memory("ldr", NAMES_32, 4, 0xB9400000)
    ldrh_w = _memory("ldrh", NAMES_32, 2, 0x79400000)
    ldrb_w = _memory("ldrb", NAMES_32, 1, 0x39400000)
    ldrsw_x = _memory("ldrsw", NAMES_64, 4, 0xB9800000)
    ldrsh_x = _memory("ldrsh", NAMES_64, 2, 0x79800000)
    ldrsb_x = _memory("ldrsb", NAMES_64, 1, 0x39800000)
    str_x = _memory("str", NAMES_64, 8, 0xF9000000)
    str_w = _memory("str", NAMES_32, 4, 0xB9000000)
    strh_w = _memory("strh", NAMES_32, 2, 0x79000000)
    strb_w = _memory("strb", NAMES_32, 1, 0x39000000)
    ldr_d = _memory("ldr", NAMES_D, 8, 0xFD400000)
    ldr_s = _memory("ldr", NAMES_S, 4, 0xBD400000)
    ldr_q = _memory("ldr", NAMES_Q, 16, 0x3DC00000)
    str_d = _memory("str", NAMES_D, 8, 0xFD000000)
    str_s = _memory("str", NAMES_S, 4, 0xBD000000)
    str_q = _memory("str", NAMES_Q, 16, 0x3D800000)
    ldp_x = _pair("ldp", 0xA9400000, NAMES_64)
    stp_x = _pair("stp", 0xA9000000, NAMES_64)
    ldp_d = _pair("ldp", 0x6D400000, NAMES_D)
    stp_d = _pair("stp", 0x6D000000, NAMES_D)

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    add_i = _rri("add", 0x91000000)
    sub_i = _rri("sub", 0xD1000000)
    subs_xi = _subs_i(0xF1000000, NAMES_64)
    subs_wi = _subs_i(0x71000000, NAMES_32)
    cmn_xi = _cmn_i(0xB1000000, NAMES_64)
    cmn_wi = _cmn_i(0x31000000, NAMES_32)
    add_x = _rrr("add", 0x8B000000)
    sub_x = _rrr("sub", 0xCB000000)
    subs_x = _rrr("subs", 0xEB000000, alias="cmp")
    subs_w = _rrr("subs", 0x6B000000, NAMES_32, alias="cmp")
    ands_x = _rrr("ands", 0xEA000000, alias="tst")
    ands_w = _rrr("ands", 0x6A000000, NAMES_32, alias="tst")
    orr_x = _rrr("orr", 0xAA000000)
    eor_w = _rrr("eor", 0x4A000000, NAMES_32)
    lsl_x = _rrr("lsl", 0x9AC02000)
    lsr_x = _rrr("lsr", 0x9AC02400)
    asr_x = _rrr("asr", 0x9AC02800)
    mul_x = _rrr("mul", 0x9B007C00)
    ands_wi = _mask("ands", 0x72000000, alias="tst")
    mov_x = _mov(0xAA000000, NAMES_64)
    mov_w = _mov(0x2A000000, NAMES_32)
    mvn_w = _mov(0x2A200000, NAMES_32, "mvn")
    movz_x = _wide("movz", 0xD2800000)
    movn_x = _wide("movn", 0x92800000)
    movk_x = _wide("movk", 0xF2800000)
    sxtb_x = _rr("sxtb", 0x93401C00, (NAMES_64, NAMES_32), "rr")
    sxth_x = _rr("sxth", 0x93403C00, (NAMES_64, NAMES_32), "rr")
    sxtw_x = _rr("sxtw", 0x93407C00, (NAMES_64, NAMES_32), "rr")
    uxtb_w = _rr("uxtb", 0x53001C00, (NAMES_32, NAMES_32), "rr")
    uxth_w = _rr("uxth", 0x53003C00, (NAMES_32, NAMES_32), "rr")
    rbit_x = _rr("rbit", 0xDAC00000, (NAMES_64, NAMES_64), "rr")
    clz_x = _rr("clz", 0xDAC01000, (NAMES_64, NAMES_64), "rr")

    # -- floating point and vectors -----------------------------------------------------------------------------------
    fmov_xd = _rr("fmov", 0x9E660000, (NAMES_64, NAMES_D), "rv")
    fmov_dx = _rr("fmov", 0x9E670000, (NAMES_D, NAMES_64), "vr")
    fmov_ws = _rr("fmov", 0x1E260000, (NAMES_32, NAMES_S), "rv")
    fmov_dd = _rr("fmov", 0x1E604000, (NAMES_D, NAMES_D), "vv")
    fcvt_sd = _rr("fcvt", 0x1E624000, (NAMES_S, NAMES_D), "vv")
    fcvt_ds = _rr("fcvt", 0x1E22C000, (NAMES_D, NAMES_S), "vv")

    # -- control ------------------------------------------------------------------------------------------------------
    def add_x_lsl(self, destination: int, first: int, second: int, shift: int) -> None:
        """`add x, x, x, lsl #shift`."""
        _check_shift(shift)
        self.emit_word(0x8B000000 | second << 16 | shift << 10 | first << 5 | destination)

    def add_sp_x(self, destination: int, register: int) -> None:
        """`add x|sp, sp, x`, in the extended form, where 31 is sp."""
        self.emit_word(0x8B2063E0 | register << 16 | destination)

    def sub_sp_x(self, register: int) -> None:
        """`sub sp, sp, x`, in the extended form, where 31 is sp."""
        self.emit_word(0xCB2063FF | register << 16)

    def neg_x(self, destination: int, source: int) -> None:
        """`neg x, x`."""
        self.emit_word(0xCB0003E0 | source << 16 | destination)

    def lsl_xi(self, destination: int, source: int, shift: int) -> None:
        """`lsl x, x, #shift`, which is ubfm."""
        _check_shift(shift)
        self.emit_word(0xD3400000 | (-shift & 63) << 16 | 63 - shift << 10 | source << 5 | destination)

    def lsr_xi(self, destination: int, source: int, shift: int) -> None:
        """`lsr x, x, #shift`, which is ubfm."""
        _check_shift(shift)
        self.emit_word(0xD340FC00 | shift << 16 | source << 5 | destination)

    def fcmp_d(self, first: int, second: int) -> None:
        """Compare two doubles."""
        self.emit_word(0x1E602000 | second << 16 | first << 5)

    def movi_d0(self, register: int) -> None:
        """`movi d, #0`."""
        self.emit_word(0x2F00E400 | register)

    def cmeq_16b_zero(self, destination: int, source: int) -> None:
        """Each of 16 bytes becomes ones where it is 0."""
        self.emit_word(0x4E209800 | source << 5 | destination)

    def shrn_8b_4(self, destination: int, source: int) -> None:
        """Each 16 bits shifted right by 4 and narrowed to 8: four bits for each byte of what was compared."""
        self.emit_word(0x0F0C8400 | source << 5 | destination)

    def br(self, register: int) -> None:
        """Jump to an address."""
        self.emit_word(0xD61F0000 | register << 5)

    def blr(self, register: int) -> None:
        """Call an address."""
        self.emit_word(0xD63F0000 | register << 5)

    def ret_lr(self) -> None:
        """Return to x30."""
        self.emit_word(0xD65F03C0)

    def mrs_tpidr(self, register: int) -> None:
        """Read the thread pointer, tpidr_el0."""
        self.emit_word(0xD53BD040 | register)

    def brk(self) -> None:
        """Raise a fault, for places that cannot be reached."""
        self.emit_word(0xD4200000)

    def b(self, label: str) -> None:
        """Jump to a label."""
        self._to_label(0x14000000, "R_AARCH64_JUMP26", label)

    def bl(self, label: str) -> None:
        """Call a label."""
        self._to_label(0x94000000, "R_AARCH64_CALL26", label)

    def b_cond(self, condition: str, label: str) -> None:
        """Jump to a label if a condition holds."""
        self._to_label(0x54000000 | CONDITIONS[condition], "R_AARCH64_CONDBR19", label)

    def cbz_x(self, register: int, label: str) -> None:
        """Jump to a label if a register is 0."""
        self._to_label(0xB4000000 | register, "R_AARCH64_CONDBR19", label)

    def cbnz_x(self, register: int, label: str) -> None:
        """Jump to a label if a register is not 0."""
        self._to_label(0xB5000000 | register, "R_AARCH64_CONDBR19", label)

    def cbz_w(self, register: int, label: str) -> None:
        """Jump to a label if the low half of a register is 0."""
        self._to_label(0x34000000 | register, "R_AARCH64_CONDBR19", label)

    def cbnz_w(self, register: int, label: str) -> None:
        """Jump to a label if the low half of a register is not 0."""
        self._to_label(0x35000000 | register, "R_AARCH64_CONDBR19", label)

    def ldr_literal(self, register: int, symbol: str) -> None:
        """Load the address of a symbol from the table slot that holds it."""
        self._relocations.append(Relocation(len(self.code), "R_AARCH64_LD_PREL_LO19", symbol, 0))
        self.emit_word(0x58000000 | register)

    def ldr_ahead(self, register: int, distance: int) -> None:
        """Load 8 bytes from `distance` bytes behind this instruction's address."""
        if distance % 4 or not 0 <= distance < 1 << 20:
            raise OverflowError(f"ldr cannot reach {distance} bytes ahead")
        self.emit_word(0x58000000 | distance >> 2 << 5 | register)

    describe(add_x_lsl, "rrrn", lambda d, f, s, n: f"add {NAMES_64[d]}, {NAMES_64[f]}, {NAMES_64[s]}, lsl #{n}")
    describe(add_sp_x, "pr", lambda d, r: f"add {NAMES_64_SP[d]}, sp, {NAMES_64[r]}")
    describe(sub_sp_x, "r", lambda r: f"sub sp, sp, {NAMES_64[r]}")
    describe(neg_x, "rr", lambda d, s: f"neg {NAMES_64[d]}, {NAMES_64[s]}")
    describe(lsl_xi, "rrn", lambda d, s, n: f"lsl {NAMES_64[d]}, {NAMES_64[s]}, #{n}")
    describe(lsr_xi, "rrn", lambda d, s, n: f"lsr {NAMES_64[d]}, {NAMES_64[s]}, #{n}")
    describe(fcmp_d, "vv", lambda f, s: f"fcmp {NAMES_D[f]}, {NAMES_D[s]}")
    describe(movi_d0, "v", lambda v: f"movi {NAMES_D[v]}, #0")
    describe(cmeq_16b_zero, "vv", lambda d, s: f"cmeq v{d}.16b, v{s}.16b, #0")
    describe(shrn_8b_4, "vv", lambda d, s: f"shrn v{d}.8b, v{s}.8h, #4")
    describe(br, "r", lambda r: f"br {NAMES_64[r]}")
    describe(blr, "r", lambda r: f"blr {NAMES_64[r]}")
    describe(ret_lr, "", lambda: "ret")
    describe(mrs_tpidr, "r", lambda r: f"mrs {NAMES_64[r]}, tpidr_el0")
    describe(brk, "", lambda: "brk #0")
    describe(b, "L", lambda label: f"b {label}")
    describe(bl, "L", lambda label: f"bl {label}")
    describe(b_cond, "cL", lambda c, label: f"b.{c} {label}")
    describe(cbz_x, "rL", lambda r, label: f"cbz {NAMES_64[r]}, {label}")
    describe(cbnz_x, "rL", lambda r, label: f"cbnz {NAMES_64[r]}, {label}")
    describe(cbz_w, "rL", lambda r, label: f"cbz {NAMES_32[r]}, {label}")
    describe(cbnz_w, "rL", lambda r, label: f"cbnz {NAMES_32[r]}, {label}")
    describe(ldr_literal, "rs", lambda r, s: f"ldr {NAMES_64[r]}, {s}")
    describe(ldr_ahead, "ra", lambda r, d: f"ldr {NAMES_64[r]}, .+{d}")

    # -- places -------------------------------------------------------------------------------------------------------
    def _to_label(self, word: int, kind: str, label: str) -> None:
        self._fixups.append((len(self.code), kind, label))
        self.emit_word(word)

    def _resolve(self, site: int, kind: str, label: str, distance: int) -> None:
        word = int.from_bytes(self.code[site : site + 4], "little")
        if kind == "R_AARCH64_CONDBR19":
            if not -(1 << 20) <= distance < 1 << 20:
                raise OverflowError(f"{label} is {distance} bytes away")
            word |= (distance >> 2 & 0x7FFFF) << 5
        else:
            if not -(1 << 27) <= distance < 1 << 27:
                raise OverflowError(f"{label} is {distance} bytes away")
            word |= distance >> 2 & 0x3FFFFFF
        self.code[site : site + 4] = word.to_bytes(4, "little")


class ListingAssembler(Listing, Assembler):
    """The same assembler, which also records the text of every line."""

    __slots__ = ()


ROWS = rows_of(Assembler)
"""Every row by name; its `operands` letters and `text` serve the listing and the oracle."""

remember(Assembler, ROWS, placed="sLc")
record(ListingAssembler, ROWS)
