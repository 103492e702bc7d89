"""The rows of AVX: what SSE does to its first operand, from two registers to a third (SDM volume 2, 2.3).

The second operand may be memory that is aligned to nothing.  Names are those of SSE with a `v`, and a letter more for
the operand that is read: `addsd_xx` here is `vaddsd_xxx`.  Only the lower 128 bits of registers are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.asm.emitter import Row, describe, record, remember, rows_of
from callgate.asm.x86_64.assembler import _POINTER_WORDS, ROWS, _append_memory, memory_text
from callgate.asm.x86_64.extended import EXTENDED_ROWS, _append_indexed, indexed_text
from callgate.asm.x86_64.registers import NAMES_XMM
from callgate.asm.x86_64.vectors import PAIRS, PLAIN_PAIRS, VECTOR_ROWS, VectorAssembler, VectorListingAssembler

_PREFIXES: Final = {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}
_MAPS: Final = {b"": 1, b"\x38": 2, b"\x3a": 3}
_ONE_OPERAND: Final = ("pabs", "pmov", "ptest", "sqrtp", "cvt")
"""How the names of instructions begin that read one register alone: AVX has nothing to give them."""
_ONLY_REGISTERS: Final = ("movlhps", "movhlps")
_COMMUTE: Final = (
    *("paddb", "paddw", "paddd", "paddq", "paddsb", "paddsw", "paddusb", "paddusw", "pminub", "pminsw", "pmaxub"),
    *("pmaxsw", "pavgb", "pavgw", "pmullw", "pmuludq", "pmulhw", "pmulhuw", "pmaddwd", "pcmpeqb", "pcmpeqw", "pcmpeqd"),
    *("pand", "por", "pxor"),
)
"""Those whose operands `as` exchanges where that makes the instruction shorter; it leaves floats as they are."""
_SCALARS: Final = {
    f"{name}{suffix}": (prefix, bytes((opcode,)), width)
    for name, opcode in (("add", 0x58), ("mul", 0x59), ("sub", 0x5C), ("div", 0x5E))
    for suffix, prefix, width in (("ss", 0xF3, 32), ("sd", 0xF2, 64))
}
_FROM_ONE: Final = {
    "sqrtss": (0xF3, b"\x51"),
    "sqrtsd": (0xF2, b"\x51"),
    "cvtsd2ss": (0xF2, b"\x5a"),
    "cvtss2sd": (0xF3, b"\x5a"),
}
"""Of one operand; the upper half of the result is another's, here the same one's, so that nobody else is waited for."""


def _vex(code: bytearray, prefix: int, opcode: bytes, register: int, first: int, base: int, index: int = 0) -> None:
    """The VEX prefix and the opcode; the short form has the opcodes behind 0F alone, and extends no operand but one."""
    low = (15 - first) << 3 | _PREFIXES[prefix]
    extended = (~register & 8) << 4
    if len(opcode) == 1 and base < 8 and index < 8:
        code += bytes((0xC5, extended | low))
    else:
        extended |= (~index & 8) << 3 | (~base & 8) << 2
        code += bytes((0xC4, extended | _MAPS[opcode[:-1]], low))
    code.append(opcode[-1])


def _xxx(mnemonic: str, prefix: int, opcode: bytes) -> Row:
    """`mnemonic xmm, xmm, xmm`."""
    commutes = mnemonic[1:] in _COMMUTE

    def order(first: int, second: int) -> tuple[int, int]:
        return (second, first) if commutes and first < 8 <= second else (first, second)

    def emit(self: AvxAssembler, register: int, first: int, second: int) -> None:
        first, second = order(first, second)
        _vex(self.code, prefix, opcode, register, first, second)
        self.code.append(0xC0 | (register & 7) << 3 | second & 7)

    def text(register: int, first: int, second: int) -> str:
        first, second = order(first, second)
        return f"{mnemonic} {NAMES_XMM[register]}, {NAMES_XMM[first]}, {NAMES_XMM[second]}"

    describe(emit, "xxx", text)
    return emit


def _xxxi(mnemonic: str, prefix: int, opcode: bytes) -> Row:
    """`mnemonic xmm, xmm, xmm, imm8`."""
    plain = _xxx(mnemonic, prefix, opcode)

    def emit(self: AvxAssembler, register: int, first: int, second: int, immediate: int) -> None:
        plain(self, register, first, second)
        self.code += immediate.to_bytes(1, "little")

    describe(emit, "xxxb", lambda r, f, s, i: f"{mnemonic} {NAMES_XMM[r]}, {NAMES_XMM[f]}, {NAMES_XMM[s]}, {i}")
    return emit


def _xxm(mnemonic: str, prefix: int, opcode: bytes, width: int) -> Row:
    """`mnemonic xmm, xmm, [base + displacement]`."""

    def emit(self: AvxAssembler, register: int, first: int, base: int, displacement: int = 0) -> None:
        _vex(self.code, prefix, opcode, register, first, base)
        _append_memory(self.code, register, base, displacement)

    def text(register: int, first: int, base: int, displacement: int = 0) -> str:
        return f"{mnemonic} {NAMES_XMM[register]}, {NAMES_XMM[first]}, {memory_text(width, base, displacement)}"

    describe(emit, "xxm", text)
    return emit


def _xxn(mnemonic: str, prefix: int, opcode: bytes, width: int) -> Row:
    """`mnemonic xmm, xmm, [base + index + displacement]`."""

    def emit(self: AvxAssembler, register: int, first: int, base: int, index: int, displacement: int = 0) -> None:
        _vex(self.code, prefix, opcode, register, first, base, index)
        _append_indexed(self.code, register, base, index, displacement)

    def text(register: int, first: int, base: int, index: int, displacement: int = 0) -> str:
        operand = indexed_text(width, base, index, displacement)
        return f"{mnemonic} {NAMES_XMM[register]}, {NAMES_XMM[first]}, {operand}"

    describe(emit, "xxn", text)
    return emit


def _xxl(mnemonic: str, prefix: int, opcode: bytes, width: int) -> Row:
    """`mnemonic xmm, xmm, [rip + label]`."""
    word = _POINTER_WORDS[width]

    def emit(self: AvxAssembler, register: int, first: int, label: str) -> None:
        _vex(self.code, prefix, opcode, register, first, 0)
        self.code.append((register & 7) << 3 | 5)
        self._to_label(label)

    describe(emit, "xxL", lambda r, f, label: f"{mnemonic} {NAMES_XMM[r]}, {NAMES_XMM[f]}, {word} [rip+{label}]")
    return emit


class AvxAssembler(VectorAssembler):
    """The rows of x86-64 for WebAssembly, those of AVX included."""

    __slots__ = ()

    _make: Callable[..., Row]
    for _prefix, _table in ((0x66, [*PAIRS, ("pxor", b"\xef")]), (0, PLAIN_PAIRS)):
        for _name, _opcode in _table:
            if _name.startswith(_ONE_OPERAND):
                continue
            locals()[f"v{_name}_xxx"] = _xxx(f"v{_name}", _prefix, _opcode)
            if _name not in _ONLY_REGISTERS:
                locals()[f"v{_name}_xxm"] = _xxm(f"v{_name}", _prefix, _opcode, 128)
                locals()[f"v{_name}_xxL"] = _xxl(f"v{_name}", _prefix, _opcode, 128)
    for _name, (_prefix, _opcode, _width) in _SCALARS.items():
        locals()[f"v{_name}_xxx"] = _xxx(f"v{_name}", _prefix, _opcode)
        for _letter, _make in (("m", _xxm), ("n", _xxn), ("L", _xxl)):
            locals()[f"v{_name}_xx{_letter}"] = _make(f"v{_name}", _prefix, _opcode, _width)
    for _name, (_prefix, _opcode) in _FROM_ONE.items():
        locals()[f"v{_name}_xxx"] = _xxx(f"v{_name}", _prefix, _opcode)
    vroundss_xxxi = _xxxi("vroundss", 0x66, b"\x3a\x0a")
    vroundsd_xxxi = _xxxi("vroundsd", 0x66, b"\x3a\x0b")


class AvxListingAssembler(VectorListingAssembler, AvxAssembler):
    """The same assembler, which also records the text of every line."""

    __slots__ = ()


AVX_ROWS = rows_of(AvxAssembler)
"""The rows of this module by name."""

remember(AvxAssembler, AVX_ROWS, placed="lL")
record(AvxListingAssembler, {**ROWS, **EXTENDED_ROWS, **VECTOR_ROWS, **AVX_ROWS})
