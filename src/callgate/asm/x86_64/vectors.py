"""The rows of SSE up to SSE4.2 that vectors of 128 bits need; their names and operands as in `extended`."""

from __future__ import annotations

from typing import Final

from callgate.asm.emitter import record, remember, rows_of
from callgate.asm.x86_64.assembler import ROWS
from callgate.asm.x86_64.extended import (
    EXTENDED_ROWS,
    ExtendedAssembler,
    ExtendedListingAssembler,
    pair_immediate,
    shift_immediate,
    wide_pair,
    xl,
    xn,
)
from callgate.asm.x86_64.registers import NAMES_32, NAMES_64, NAMES_XMM

_WITH_66: Final = """
paddb FC        paddw FD        paddd FE        paddq D4        psubb F8        psubw F9        psubd FA
psubq FB        paddsb EC       paddsw ED       paddusb DC      paddusw DD      psubsb E8       psubsw E9
psubusb D8      psubusw D9      pminsb 38 38    pminub DA       pminsw EA       pminuw 38 3A    pminsd 38 39
pminud 38 3B    pmaxsb 38 3C    pmaxub DE       pmaxsw EE       pmaxuw 38 3E    pmaxsd 38 3D    pmaxud 38 3F
pavgb E0        pavgw E3        pmullw D5       pmulld 38 40    pmuludq F4      pmuldq 38 28    pmulhw E5
pmulhuw E4      pmaddwd F5      pmaddubsw 38 04 pmulhrsw 38 0B  pcmpeqb 74      pcmpeqw 75      pcmpeqd 76
pcmpeqq 38 29   pcmpgtb 64      pcmpgtw 65      pcmpgtd 66      pcmpgtq 38 37   packsswb 63     packuswb 67
packssdw 6B     packusdw 38 2B  pshufb 38 00    punpcklbw 60    punpckhbw 68    punpcklwd 61    punpckhwd 69
punpckldq 62    punpckhdq 6A    punpcklqdq 6C   punpckhqdq 6D   pmovsxbw 38 20  pmovsxwd 38 23  pmovsxdq 38 25
pmovzxbw 38 30  pmovzxwd 38 33  pmovzxdq 38 35  psllw F1        pslld F2        psllq F3        psraw E1
psrad E2        psrlw D1        psrld D2        psrlq D3        pand DB         pandn DF        por EB
pabsb 38 1C     pabsw 38 1D     pabsd 38 1E     ptest 38 17     addpd 58        subpd 5C        mulpd 59
divpd 5E        minpd 5D        maxpd 5F        sqrtpd 51       cvttpd2dq E6    cvtpd2ps 5A     unpcklpd 14
"""
"""With the prefix 66: mnemonic and opcode behind 0F."""
_PLAIN: Final = """
addps 58        subps 5C        mulps 59        divps 5E        minps 5D        maxps 5F        sqrtps 51
cvtdq2ps 5B     cvtps2pd 5A     movlhps 16      movhlps 12      unpcklps 14
"""
"""Without a prefix."""


def _rows(table: str) -> list[tuple[str, bytes]]:
    words = table.split()
    rows: list[tuple[str, bytes]] = []
    for word in words:
        if len(word) == 2:
            mnemonic, opcode = rows[-1]
            rows[-1] = mnemonic, opcode + bytes.fromhex(word)
        else:
            rows.append((word, b""))
    return rows


PAIRS: Final = _rows(_WITH_66)
"""Mnemonics and opcodes behind 0F, with the prefix 66."""
PLAIN_PAIRS: Final = _rows(_PLAIN)
"""Those without a prefix."""


class VectorAssembler(ExtendedAssembler):
    """The rows of x86-64 for WebAssembly, vectors included."""

    __slots__ = ()

    for _name, _opcode in PAIRS:
        locals()[f"{_name}_xx"] = wide_pair(_name, 0x66, _opcode)
    for _name, _opcode in PLAIN_PAIRS:
        locals()[f"{_name}_xx"] = wide_pair(_name, 0, _opcode)
    cvttps2dq_xx = wide_pair("cvttps2dq", 0xF3, b"\x5b")
    cvtdq2pd_xx = wide_pair("cvtdq2pd", 0xF3, b"\xe6")
    movss_xx = wide_pair("movss", 0xF3, b"\x10")
    movsd_xx = wide_pair("movsd", 0xF2, b"\x10")
    movmskps_rx = wide_pair("movmskps", 0, b"\x50", (NAMES_32, NAMES_XMM), "rx")
    movmskpd_rx = wide_pair("movmskpd", 0x66, b"\x50", (NAMES_32, NAMES_XMM), "rx")
    cmpps_xxi = pair_immediate("cmpps", 0, b"\xc2")
    cmppd_xxi = pair_immediate("cmppd", 0x66, b"\xc2")
    shufps_xxi = pair_immediate("shufps", 0, b"\xc6")
    pshufd_xxi = pair_immediate("pshufd", 0x66, b"\x70")
    pshuflw_xxi = pair_immediate("pshuflw", 0xF2, b"\x70")
    roundps_xxi = pair_immediate("roundps", 0x66, b"\x3a\x08")
    roundpd_xxi = pair_immediate("roundpd", 0x66, b"\x3a\x09")
    insertps_xxi = pair_immediate("insertps", 0x66, b"\x3a\x21")
    pinsrb_xri = pair_immediate("pinsrb", 0x66, b"\x3a\x20", (NAMES_XMM, NAMES_32), "xrb")
    pinsrw_xri = pair_immediate("pinsrw", 0x66, b"\xc4", (NAMES_XMM, NAMES_32), "xrb")
    pinsrd_xri = pair_immediate("pinsrd", 0x66, b"\x3a\x22", (NAMES_XMM, NAMES_32), "xrb")
    pinsrq_xri = pair_immediate("pinsrq", 0x66, b"\x3a\x22", (NAMES_XMM, NAMES_64), "xrb", is_wide=True)
    pextrb_xri = pair_immediate("pextrb", 0x66, b"\x3a\x14", (NAMES_XMM, NAMES_32), "xrb", is_reversed=True)
    pextrw_rxi = pair_immediate("pextrw", 0x66, b"\xc5", (NAMES_32, NAMES_XMM), "rxb")
    pextrd_xri = pair_immediate("pextrd", 0x66, b"\x3a\x16", (NAMES_XMM, NAMES_32), "xrb", is_reversed=True)
    pextrq_xri = pair_immediate(
        "pextrq", 0x66, b"\x3a\x16", (NAMES_XMM, NAMES_64), "xrb", is_wide=True, is_reversed=True
    )
    psllw_xi = shift_immediate("psllw", 0x71, 6)
    pslld_xi = shift_immediate("pslld", 0x72, 6)
    psllq_xi = shift_immediate("psllq", 0x73, 6)
    psrlw_xi = shift_immediate("psrlw", 0x71, 2)
    psrld_xi = shift_immediate("psrld", 0x72, 2)
    psrlq_xi = shift_immediate("psrlq", 0x73, 2)
    psraw_xi = shift_immediate("psraw", 0x71, 4)
    psrad_xi = shift_immediate("psrad", 0x72, 4)
    pshufb_xL = xl("pshufb", 0x66, b"\x38\x00", 128)
    pand_xL = xl("pand", 0x66, b"\xdb", 128)
    pxor_xL = xl("pxor", 0x66, b"\xef", 128)
    pmovsxbw_xn = xn("pmovsxbw", 0x66, b"\x38\x20", 64)
    pmovzxbw_xn = xn("pmovzxbw", 0x66, b"\x38\x30", 64)
    pmovsxwd_xn = xn("pmovsxwd", 0x66, b"\x38\x23", 64)
    pmovzxwd_xn = xn("pmovzxwd", 0x66, b"\x38\x33", 64)
    pmovsxdq_xn = xn("pmovsxdq", 0x66, b"\x38\x25", 64)
    pmovzxdq_xn = xn("pmovzxdq", 0x66, b"\x38\x35", 64)


class VectorListingAssembler(ExtendedListingAssembler, VectorAssembler):
    """The same assembler, which also records the text of every line."""

    __slots__ = ()


VECTOR_ROWS = rows_of(VectorAssembler)
"""The rows of this module by name."""

remember(VectorAssembler, VECTOR_ROWS, placed="lL")
record(VectorListingAssembler, {**ROWS, **EXTENDED_ROWS, **VECTOR_ROWS})
