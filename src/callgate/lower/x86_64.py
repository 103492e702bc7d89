"""The operations of the lowering on x86-64: the assembler's rows, and what takes several of them."""

from __future__ import annotations

from collections.abc import Mapping

from callgate.asm.code import Code, FrameRow
from callgate.asm.x86_64.assembler import Assembler, ListingAssembler
from callgate.asm.x86_64.registers import NAMES_64, NAMES_XMM, R10, R12, R13, R14, R15, RAX, RBP, RBX, RSP

_XMM15 = 15
_GENERAL = {name: number for number, name in enumerate(NAMES_64)}
_VECTOR = {name: number for number, name in enumerate(NAMES_XMM)}
_INT3 = 0xCC


class Plain(Assembler):
    """Operations without a listing; the rows of the frames are recorded on the way.

    A function begins at a label that begins with `callgate_`.  What follows a way out (`leave`, then a return or a
    jump to elsewhere) is inside the frame again.
    """

    __slots__ = ("_left", "_rows")
    thunk_bytes = 16
    callee_saved: Mapping[int, str] = {r: NAMES_64[r] for r in (RBX, RBP, R12, R13, R14, R15)}  # psABI 3.2.1
    kept: tuple[int, ...] = ()
    accept_bytes = 0
    spare: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[FrameRow] = []
        self._left: tuple[tuple[int, ...], int] | None = None  # the frame that `leave` undid

    def finish(self) -> Code:
        return super().finish()._replace(frames=tuple(self._rows))

    def _row(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        saved = tuple((register, 16 + 8 * index) for index, register in enumerate(registers))
        self._rows.append(FrameRow(len(self.code), 8 + 8 * len(registers) + scratch_bytes, saved))

    def label(self, name: str) -> None:
        super().label(name)
        if name.startswith("callgate_"):
            self._row((), 0)

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
        self._row((), 0)
        for index, register in enumerate(registers):
            self.push(register)
            self._row(registers[: index + 1], 0)
        if scratch_bytes:
            self.sub_ri(RSP, scratch_bytes)
            self._row(registers, scratch_bytes)

    def frame_rows(self, scratch_bytes: int) -> tuple[FrameRow, ...]:
        # sub rsp, imm8 or imm32
        return FrameRow(0, 8, ()), FrameRow(4 if scratch_bytes < 128 else 7, 8 + scratch_bytes, ())

    def leave(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        if scratch_bytes:
            self.add_ri(RSP, scratch_bytes)
            self._row(registers, 0)
        for index in reversed(range(len(registers))):
            self.pop(registers[index])
            self._row(registers[:index], 0)
        self._left = registers, scratch_bytes

    def _go_on(self) -> None:
        """Behind a way out: inside the frame again."""
        if self._left is not None:
            self._row(*self._left)
            self._left = None

    def ret(self) -> None:
        super().ret()
        self._go_on()

    def jmp_l(self, symbol: str) -> None:
        super().jmp_l(symbol)
        self._go_on()

    def jmp_m(self, base: int, displacement: int = 0) -> None:
        super().jmp_m(base, displacement)
        self._go_on()

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

    def keep_result_m(self, base: int, displacement: int) -> None:
        self.mov_mr(base, displacement, RAX)

    def clear_result32_m(self) -> None:
        self.mov32_mi(RAX, 0, 0)

    def has_all32_ri(self, register: int, mask: int) -> None:
        self.and32_ri(register, mask)
        self.note("infinite or NaN: look closer")
        self.cmp32_ri(register, mask)

    def fstp64_x(self, register: int, base: int, displacement: int) -> None:
        self.fstp64_m(base, displacement)
        self.movsd_xm(register, base, displacement)

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
