"""The operations of the lowering on 64-bit Windows: System V inside, Microsoft's convention at the edges.

The lowering gives and takes arguments in rdi, rsi, rdx, rcx, r8, r9 and changes rsi and rdi as it likes.  The
interpreter, compiled by Microsoft's rules, takes them in rcx, rdx, r8, r9 and above 32 bytes of home space, and wants
rsi and rdi back; so calls of its functions move the arguments, and what it calls begins with `accept`.  C functions of
the user's are no edge: their plan names the registers.

    what `accept` makes
    |  home of rdx            |  [rsp + 16 at entry]: rsi
    |  home of rcx            |  [rsp + 8 at entry]:  rdi
    |  return address         |
    |  padding                |
    |  return address inside  |  <- rsp as the lowering finds it

Of the vector registers only xmm0 to xmm5 are free to change, so that xmm5 stands for the scratch register xmm15.
"""

from __future__ import annotations

from collections.abc import Mapping

from callgate.asm.x86_64.assembler import ListingAssembler
from callgate.asm.x86_64.registers import R8, R9, R11, RAX, RCX, RDI, RDX, RSI, RSP
from callgate.lower import x86_64

_SCRATCH, _XMM5 = 15, 5
_INSIDE = "callgate_"
"""What the names of routines begin with, which are inside; what else is called is the interpreter's or the system's."""

_CALL_BYTES = 48  # home space and the fifth and sixth argument
_HOME_RCX, _HOME_RDX = 8, 16  # above the return address
_PAGE_BYTES = 4096


class Plain(x86_64.Plain):
    """Operations without a listing."""

    __slots__ = ()
    accept_bytes = 46
    kept = (RSI, RDI)
    callee_saved: Mapping[int, str] = {**x86_64.Plain.callee_saved, RSI: "rsi", RDI: "rdi"}

    def accept(self) -> None:
        start = len(self.code)
        label = f"inside_{start}"
        self.note("from the interpreter: rsi and rdi are to be kept")
        self.mov_mr(RSP, _HOME_RCX, RDI)
        self.mov_mr(RSP, _HOME_RDX, RSI)
        self.mov_rr(RDI, RCX)
        self.mov_rr(RSI, RDX)
        self.mov_rr(RDX, R8)
        self.mov_rr(RCX, R9)
        self.sub_ri(RSP, 8)
        self.call(label)
        self.add_ri(RSP, 8)
        self.mov_rm(RDI, RSP, _HOME_RCX)
        self.mov_rm(RSI, RSP, _HOME_RDX)
        self.ret()
        self.label(label)
        assert len(self.code) - start == self.accept_bytes, len(self.code) - start

    def enter(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        """Frames of a page or more touch every page first, from above: a stack grows by the page below its guard page.

        Changes rax and r11 then.
        """
        pages = (8 * len(registers) + scratch_bytes) // _PAGE_BYTES
        if pages:
            label = f"probe_{len(self.code)}"
            self._row((), 0)
            self.note("the stack grows page by page")
            self.mov_ri(RAX, pages)
            self.lea(R11, RSP, 0)
            self.label(label)
            self.sub_ri(R11, _PAGE_BYTES)
            self.mov_mi(R11, 0, 0)
            self.sub_ri(RAX, 1)
            self.jcc("ne", label)
        super().enter(registers, scratch_bytes)

    def _give(self) -> None:
        """Six arguments go to their Windows places; what a function does not take does no harm."""
        self.sub_ri(RSP, _CALL_BYTES)
        self.mov_mr(RSP, 32, R8)
        self.mov_mr(RSP, 40, R9)
        self.mov_rr(R9, RCX)
        self.mov_rr(R8, RDX)
        self.mov_rr(RDX, RSI)
        self.mov_rr(RCX, RDI)

    def call_l(self, symbol: str) -> None:
        if symbol.startswith(_INSIDE):
            super().call_l(symbol)
            return
        self._give()
        super().call_l(symbol)
        self.add_ri(RSP, _CALL_BYTES)

    def jmp_l(self, symbol: str) -> None:
        if symbol.startswith(_INSIDE):
            super().jmp_l(symbol)
            return
        self.note("a multiple of 16")
        self.sub_ri(RSP, 8)
        self.call_l(symbol)
        self.add_ri(RSP, 8)
        self.ret()

    def call_api_m(self, base: int, displacement: int = 0) -> None:
        self._give()
        self.call_m(base, displacement)
        self.add_ri(RSP, _CALL_BYTES)

    # -- the scratch register --------------------------------------------------------------------------
    def nul_mask_rm(self, register: int, base: int) -> None:
        self.pxor_xx(_XMM5, _XMM5)
        self.pcmpeqb_xm(_XMM5, base)
        self.pmovmskb_rx(register, _XMM5)

    def cvtsd2ss_xm(self, register: int, base: int, displacement: int = 0) -> None:
        super().cvtsd2ss_xm(_vector(register), base, displacement)

    def movss_mx(self, base: int, displacement: int, register: int) -> None:
        super().movss_mx(base, displacement, _vector(register))

    def movd_rx(self, source: int, register: int) -> None:
        super().movd_rx(_vector(source), register)


def _vector(register: int) -> int:
    return _XMM5 if register == _SCRATCH else register


class Listing(Plain, ListingAssembler):
    """The same, with a listing."""

    __slots__ = ()
