"""The operations of the lowering on x86-64: the assembler's rows, and what takes several of them."""

from __future__ import annotations

from collections.abc import Mapping

from callgate.asm.x86_64.assembler import Assembler, ListingAssembler
from callgate.asm.x86_64.registers import NAMES_64, NAMES_XMM, R10, R12, R13, R14, R15, RAX, RBP, RBX, RSP

_XMM15 = 15
_GENERAL = {name: number for number, name in enumerate(NAMES_64)}
_VECTOR = {name: number for number, name in enumerate(NAMES_XMM)}
_INT3 = 0xCC


class Plain(Assembler):
    """Operations without a listing."""

    __slots__ = ()
    thunk_bytes = 16
    callee_saved: tuple[int, ...] = (RBX, RBP, R12, R13, R14, R15)  # psABI 3.2.1
    kept: tuple[int, ...] = ()
    accept_bytes = 0
    spare: tuple[int, ...] = ()

    @property
    def general(self) -> Mapping[str, int]:
        return _GENERAL

    @property
    def vector(self) -> Mapping[str, int]:
        return _VECTOR

    @property
    def result_general(self) -> Mapping[str, int]:
        return _GENERAL

    def accept(self) -> None:
        pass  # the interpreter's convention is the lowering's

    def call_api_m(self, base: int, displacement: int = 0) -> None:
        self.call_m(base, displacement)

    def enter(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        for register in registers:
            self.push(register)
        if scratch_bytes:
            self.sub_ri(RSP, scratch_bytes)

    def leave(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        if scratch_bytes:
            self.add_ri(RSP, scratch_bytes)
        for register in reversed(registers):
            self.pop(register)

    def call_near(self, label: str) -> None:
        self.call(label)

    def ret_near(self) -> None:
        self.ret()

    def drop_return(self) -> None:
        self.note("drop the return address")
        self.add_ri(RSP, 8)

    def thunk(self, slot: int, displacement: int) -> None:
        start = len(self.code)
        self.mov_ri(R10, slot)
        self.jmp_m(R10, displacement)
        while len(self.code) < start + self.thunk_bytes:
            self.code.append(_INT3)

    def index_rl(self, register: int, shift: int, symbol: str) -> None:
        self.shl_ri(register, shift)
        self.add_rl(register, symbol)

    def vector_count(self, count: int) -> None:
        self.note("vector registers in use")
        self.mov_ri(RAX, count)

    def set_stack(self, register: int) -> None:
        self.mov_rr(RSP, register)

    def thread_pointer(self, register: int) -> None:
        self.mov_rt(register)

    def call_m(self, base: int, displacement: int = 0, *, gives_rax: bool = True) -> None:
        super().call_m(base, displacement)

    def quad_to_double(self) -> None:
        raise AssertionError("a long double is x87's here")

    double_to_quad = quad_to_double

    def mov_pair_rm(self, first: int, second: int, base: int, displacement: int) -> None:
        raise AssertionError("there is no load of pairs")

    def nul_mask_rm(self, register: int, base: int) -> None:
        self.pxor_xx(_XMM15, _XMM15)
        self.pcmpeqb_xm(_XMM15, base)
        self.pmovmskb_rx(register, _XMM15)

    def nul_index_r(self, register: int) -> None:
        self.bsf32_rr(register, register)


class Listing(Plain, ListingAssembler):
    """The same, with a listing."""

    __slots__ = ()
