"""The operations of the lowering on AArch64, each in one to four instructions.

    rdi rsi rdx rcx r8 r9    x0 to x5: arguments; 16, 17 and 18 are x6, x7 and x8, which call plans name,
                             19 and 20 are x12 and x13, which nobody else uses
    rax                      x9: the result of a call is moved there, and back before a return
    r10 r11                  x10 x11
    rbx rbp r12 to r15       x19 to x24; 21 to 25 are x25 to x29, for the check of calls alone
    rsp                      sp
    xmm0 to xmm7             v0 to v7; xmm8 to xmm15 are v16 to v23

x16, x17 and v24 are scratch within one operation.  `leave` gives back x30, the return address, which `enter` keeps at
the top of its frame.

Some pairs of operations become one instruction: a comparison with 0 and the jump behind it (`cbz`), accesses to
neighbouring words (`ldp`, `stp`), a result and its move to x0, a call's result and the one store that wants it.
"Above n" becomes "n + 1 or above" where only that number is an immediate.

Long because it is a collection: each operation is a few lines, and none needs another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from callgate.abi.aapcs64 import VARIANTS
from callgate.asm.aarch64.assembler import (
    Assembler,
    ListingAssembler,
    encode_mask,
    fits_immediate,
    fits_offset,
    fits_pair,
)
from callgate.asm.aarch64.registers import IP0, IP1, LR, NAMES_64, SP, ZR
from callgate.asm.code import Code, FrameRow
from callgate.lower.operations import R10, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RSI, RSP
from callgate.target import Target

Row = Callable[[int, int, int], None]

_X0 = 0
_NUMBERS = (9, 3, 2, 19, 31, 20, 1, 0, 4, 5, 10, 11, 21, 22, 23, 24, 6, 7, 8, 12, 13, 25, 26, 27, 28, 29)
"""The register for each number of `operations`."""
_RAX = _NUMBERS[RAX]
_VECTORS = (*range(8), *range(16, 24))
_SCRATCH_V = 24
_GENERAL = {"x0": RDI, "x1": RSI, "x2": 2, "x3": RCX, "x4": 8, "x5": 9, "x6": 16, "x7": 17, "x8": 18}
_VECTOR = {f"v{number}": number for number in range(8)}
_RESULT = {"x0": RAX, "x1": RSI}
_CONDITIONS = {
    **{"e": "eq", "ne": "ne", "b": "lo", "ae": "hs", "be": "ls", "a": "hi"},
    **{"s": "mi", "ns": "pl", "l": "lt", "ge": "ge", "le": "le", "g": "gt"},
}
_TAKING = 0xAA0003E0 | _X0 << 16 | _RAX
"""mov x9, x0."""
_VARIABLES_BYTES = 32
_MOVED = (
    (0xFF200000, 0x8B000000),
    (0xFFC00000, 0x91000000),
    (0xFFC00000, 0xF9400000),
    (0xFF800000, 0xD2800000),
    (0xFF000000, 0x58000000),
)
"""Masks and opcodes of what can have another destination as well: add, ldr, movz, ldr of a literal."""
_COUNTED = b"".join(
    word.to_bytes(4, "little")
    for word in (0xF9400000 | _RAX << 5 | IP0, 0x91000400 | IP0 << 5 | IP0, 0xF9000000 | _RAX << 5 | IP0)
)
"""ldr x16, [x9]; add x16, x16, #1; str x16, [x9]: a reference to the result is counted."""
_VARIADIC = {"PyObject_CallMethodObjArgs": 2, "PyObject_CallFunctionObjArgs": 1}
"""The variadic functions of the interpreter that code calls, and how many arguments they name; at most four follow."""
_WITHOUT_RESULT = frozenset(
    ("PyEval_RestoreThread", "PyTuple_SetItem", "Py_DecRef", "_Py_Dealloc", "PyBuffer_Release", "PyErr_Clear")
)
"""Functions that give nothing, or what no code looks at."""
_PAIRS = {
    0xF9400000: ("ldr_x", "ldp_x"),
    0xF9000000: ("str_x", "stp_x"),
    0xFD400000: ("ldr_d", "ldp_d"),
    0xFD000000: ("str_d", "stp_d"),
}
"""Accesses to 8 bytes at a scaled offset, by opcode: their rows, and those of pairs."""
_OPCODE_MASK = 0xFFC00000
_STORE, _STORES_64 = 0xB9000000, 1 << 30
"""str of a word or, with one bit more, of 8 bytes, at an offset that is scaled."""
_WORD_MASK = 0xFFFFFFFF


class Plain(Assembler):
    """Operations without a listing."""

    __slots__ = (
        "_after_leave",
        "_before_leave",
        "_bounded",
        "_compared",
        "_last_label",
        "_left",
        "_lost_flags",
        "_rows",
        "_taken",
        "_target",
    )
    thunk_bytes = 32
    spare: tuple[int, ...] = (19, 20)
    kept: tuple[int, ...] = ()
    accept_bytes = 0
    # AAPCS64 6.1.1, without d8 to d15
    callee_saved: Mapping[int, str] = {r: NAMES_64[_NUMBERS[r]] for r in (RBX, RBP, R12, R13, R14, R15, *range(21, 26))}

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._rows: list[FrameRow] = []
        self._left: FrameRow | None = None  # the frame that `leave` undid
        self._target = target
        self._compared: tuple[int, int, bool] | None = (
            None  # the end of a comparison with 0, its register, is it 64 bits
        )
        # the end of a comparison with a number that takes an instruction, the register, the next number, is it 64 bits
        self._bounded: tuple[int, int, int, bool] | None = None
        self._lost_flags = -1  # where a jump was made of comparison and branch: nobody can look at the flags there
        self._last_label = -1
        self._taken = -1  # where a result was moved to x9
        self._before_leave = self._after_leave = -1

    @property
    def general(self) -> Mapping[str, int]:
        return _GENERAL

    @property
    def vector(self) -> Mapping[str, int]:
        return _VECTOR

    @property
    def result_general(self) -> Mapping[str, int]:
        return _RESULT

    def label(self, name: str) -> None:
        super().label(name)
        self._last_label = len(self.code)
        if name.startswith("callgate_"):
            self._rows.append(FrameRow(len(self.code), 0, ()))

    def finish(self) -> Code:
        return super().finish()._replace(frames=tuple(self._rows))

    # -- frames, calls and jumps ---------------------------------------------------------------------------------------
    def accept(self) -> None:
        pass  # the interpreter's convention is the lowering's

    def enter(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        size = _frame_bytes(registers, scratch_bytes)
        self._rows.append(FrameRow(len(self.code), 0, ()))
        self._add(SP, SP, -size)
        self._rows.append(FrameRow(len(self.code), size, ()))
        for offset, register in _saved(registers, size):
            self._access(self.str_x, 8, register, SP, offset)
        self._rows.append(FrameRow(len(self.code), size, _saved_rows(registers)))

    def frame_rows(self, scratch_bytes: int) -> tuple[FrameRow, ...]:
        frame = Plain(self._target)
        frame.enter((), scratch_bytes)
        return tuple(frame._rows)

    def leave(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        size = _frame_bytes(registers, scratch_bytes)
        self._before_leave = len(self.code)
        for offset, register in _saved(registers, size):
            self._access(self.ldr_x, 8, register, SP, offset)
        self._rows.append(FrameRow(len(self.code), size, ()))
        self._add(SP, SP, size)
        self._rows.append(FrameRow(len(self.code), 0, ()))
        self._left = FrameRow(0, size, _saved_rows(registers))
        self._after_leave = len(self.code)

    def ret(self) -> None:
        self._move_result()
        self.ret_lr()
        self._go_on()

    def _go_on(self) -> None:
        """Behind a way out: inside the frame again."""
        if self._left is not None:
            self._rows.append(self._left._replace(offset=len(self.code)))
            self._left = None

    def _move_result(self) -> None:
        """x0 = x9; where the last instruction before `leave` makes x9 and nothing jumps behind it, it makes x0."""
        place = self._before_leave - 4
        if place >= 0 and self._after_leave == len(self.code):
            counted = bytes(self.code[place - 8 : place + 4]) == _COUNTED
            if counted:
                place -= 12
            word = int.from_bytes(self.code[place : place + 4], "little")
            if (
                self._last_label <= place
                and word & 31 == _RAX
                and any(word & mask == opcode for mask, opcode in _MOVED)
            ):
                self.code[place : place + 4] = (word & ~31 | _X0).to_bytes(4, "little")
                self._rename(place, f" x{_RAX},", f" x{_X0},")
                if counted:
                    for site in (place + 4, place + 12):
                        self.code[site] &= 0x1F  # the base, bits 5 to 9
                        self.code[site + 1] &= 0xFC
                        self._rename(site, f"[x{_RAX}]", f"[x{_X0}]")
                return
            if word == _TAKING and self._last_label <= place:
                return  # it is in x0 still
        self.mov_x(_X0, _RAX)

    def _rename(self, place: int, old: str, new: str) -> None:
        """Correct the listing."""

    def _unwrite(self) -> None:
        """Take the last instruction back."""
        del self.code[-4:]

    def _take_result(self) -> None:
        """x9 = x0, behind a call."""
        self._taken = len(self.code)
        self.mov_x(_RAX, _X0)

    @property
    def _has_just_taken(self) -> bool:
        """Whether the last instruction took a result."""
        return self._taken == len(self.code) - 4 and self._last_label <= self._taken

    def _untake(self) -> None:
        """The last instruction took a result; no longer."""
        self._unwrite()
        self._taken = -1

    def _lose_result(self) -> None:
        """Behind this x9 is another: a result that at most one store has used need not have been moved there."""
        if self._has_just_taken:
            self._untake()
        elif self._taken == len(self.code) - 8 and self._last_label <= self._taken:
            word = int.from_bytes(self.code[-4:], "little")
            register, base = word & 31, word >> 5 & 31
            if word & 0xBFC00000 != _STORE or (register == _RAX) == (base == _RAX):
                return
            self._unwrite()
            self._untake()
            row = self.str_x if word & _STORES_64 else self.str_w
            offset = (word >> 10 & 0xFFF) << (3 if word & _STORES_64 else 2)
            row(_X0 if register == _RAX else register, _X0 if base == _RAX else base, offset)

    def call(self, label: str) -> None:
        self._lose_result()
        self.bl(label)
        self._take_result()

    def call_l(self, symbol: str) -> None:
        self._lose_result()
        on_stack = symbol in _VARIADIC and VARIANTS[self._target.calling_convention].variables_on_stack
        row = self._rows[-1] if on_stack else None
        if row:
            self._push_variables(_VARIADIC[symbol])
        self.ldr_literal(IP0, symbol)
        self.blr(IP0)
        if row:
            self._add(SP, SP, _VARIABLES_BYTES)
            self._rows.append(row._replace(offset=len(self.code)))
        if symbol not in _WITHOUT_RESULT:
            self._take_result()

    def _push_variables(self, first: int) -> None:
        """The four registers from `first` on, as variable arguments on the stack."""
        self._add(SP, SP, -_VARIABLES_BYTES)
        row = self._rows[-1]
        self._rows.append(row._replace(offset=len(self.code), depth_bytes=row.depth_bytes + _VARIABLES_BYTES))
        for place in (0, 2):
            self.stp_x(first + place, first + place + 1, SP, 8 * place)

    def call_m(self, base: int, displacement: int = 0, *, gives_rax: bool = True) -> None:
        if base != RAX:
            self._lose_result()
        self._load(IP0, base, displacement)
        self.blr(IP0)
        if gives_rax:
            self._take_result()

    def call_r(self, register: int) -> None:
        self.blr(_NUMBERS[register])
        self._take_result()

    def call_api_m(self, base: int, displacement: int = 0) -> None:
        self.call_m(base, displacement)

    def keep_result_m(self, base: int, displacement: int) -> None:
        register = _RAX
        if self._has_just_taken:
            self._untake()
            register = _X0
        self._access(self.str_x, 8, register, _NUMBERS[base], displacement)

    def clear_result32_m(self) -> None:
        register = _RAX
        if self._has_just_taken:
            self._untake()
            register = _X0
        self.str_w(ZR, register, 0)

    def jmp(self, label: str) -> None:
        self.b(label)

    def jmp_l(self, symbol: str) -> None:
        self.ldr_literal(IP0, symbol)
        self.br(IP0)
        self._go_on()

    def jmp_m(self, base: int, displacement: int = 0) -> None:
        self._load(IP0, base, displacement)
        self.br(IP0)
        self._go_on()

    def jcc(self, condition: str, label: str) -> None:
        end = len(self.code)
        if self._lost_flags == end:
            raise AssertionError("a second jump after a comparison with 0 that became one instruction")
        compared = self._compared
        if compared is not None and compared[0] == end and self._last_label < end and condition in ("e", "ne"):
            self._unwrite()
            _, register, is_wide = compared
            wide, narrow = (self.cbz_x, self.cbz_w) if condition == "e" else (self.cbnz_x, self.cbnz_w)
            (wide if is_wide else narrow)(register, label)
            self._lost_flags = len(self.code)
            return
        bounded = self._bounded
        if bounded is not None and bounded[0] == end and self._last_label < end and condition == "a":
            self._unwrite()
            self._unwrite()
            _, register, bound, is_wide = bounded
            (self.subs_xi if is_wide else self.subs_wi)(ZR, register, bound)
            self._lost_flags = len(self.code) + 4
            condition = "ae"
        self.b_cond(_CONDITIONS[condition], label)

    def call_near(self, label: str) -> None:
        self.bl(label)

    def ret_near(self) -> None:
        self.ret_lr()

    def drop_return(self) -> None:
        pass

    def thunk(self, slot: int, displacement: int) -> None:
        start = len(self.code)
        self.ldr_ahead(_NUMBERS[R10], self.thunk_bytes - 8)
        self._load(IP0, R10, displacement)
        self.br(IP0)
        while len(self.code) < start + self.thunk_bytes - 8:
            self.brk()
        self.code += slot.to_bytes(8, "little")

    def vector_count(self, count: int) -> None:
        pass

    def set_stack(self, register: int) -> None:
        self.add_i(SP, _NUMBERS[register], 0)

    def thread_pointer(self, register: int) -> None:
        self.mrs_tpidr(_NUMBERS[register])

    # -- moves ---------------------------------------------------------------------------------------------------------
    def _access(self, row: Row, size_bytes: int, register: int, base: int, offset: int) -> None:
        """Emit a memory row at any offset; `register` and `base` are numbers of AArch64."""
        if fits_offset(offset, size_bytes):
            if size_bytes != 8 or not self._pairs(row, register, base, offset):
                row(register, base, offset)
            return
        self._sum(IP1, base, offset)
        row(register, IP1, 0)

    def _pairs(self, row: Row, register: int, base: int, offset: int) -> bool:
        """Make a pair of this access and the last instruction, where that is its neighbour; whether it did."""
        end = len(self.code)
        if end in (self._last_label, self._before_leave) or not end or offset % 8:
            return False
        word = int.from_bytes(self.code[-4:], "little")
        single, pair = _PAIRS.get(word & _OPCODE_MASK, ("", ""))
        if not single or row != getattr(self, single) or word >> 5 & 31 != base:
            return False
        other, other_offset = word & 31, (word >> 10 & 0xFFF) << 3
        if abs(offset - other_offset) != 8 or not fits_pair(min(offset, other_offset)):
            return False
        if (single == "ldr_x" and other == base) or (pair.startswith("ld") and other == register):
            return False
        self._unwrite()
        first, second = (register, other) if offset < other_offset else (other, register)
        getattr(self, pair)(first, second, base, min(offset, other_offset))
        return True

    def _sum(self, destination: int, source: int, number: int) -> None:
        """destination = source + number, of whatever size; only x17 is scratch."""
        self._set(IP1, number)
        if source == SP:
            self.add_sp_x(destination, IP1)
        else:
            self.add_x(destination, source, IP1)

    def _load(self, register: int, base: int, displacement: int) -> None:
        """Load 8 bytes into a register of AArch64."""
        self._access(self.ldr_x, 8, register, _NUMBERS[base], displacement)

    def _set(self, register: int, number: int) -> None:
        """Set a register of AArch64 to a 64-bit number, in as many instructions as it has halves that matter."""
        halves = [number >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
        is_inverted = halves.count(0xFFFF) > halves.count(0)
        filler = 0xFFFF if is_inverted else 0
        matter = [(16 * place, half) for place, half in enumerate(halves) if half != filler] or [(0, filler)]
        for index, (shift, half) in enumerate(matter):
            if index:
                self.movk_x(register, half, shift)
            elif is_inverted:
                self.movn_x(register, half ^ 0xFFFF, shift)
            else:
                self.movz_x(register, half, shift)

    def mov_rr(self, destination: int, source: int) -> None:
        if RSP in (destination, source):
            self.add_i(_NUMBERS[destination], _NUMBERS[source], 0)
        else:
            self.mov_x(_NUMBERS[destination], _NUMBERS[source])

    def mov32_rr(self, destination: int, source: int) -> None:
        self.mov_w(_NUMBERS[destination], _NUMBERS[source])

    def mov_ri(self, register: int, immediate: int) -> None:
        self._set(_NUMBERS[register], immediate)

    def _load_over(self, row: Row, size_bytes: int, register: int, base: int, displacement: int) -> None:
        """A load that may take the place of a result in x9, or read where it points."""
        source = _NUMBERS[base]
        if register == RAX and base != RAX:
            self._lose_result()
        elif register == base == RAX and self._has_just_taken:
            self._untake()
            source = _X0
        self._access(row, size_bytes, _NUMBERS[register], source, displacement)

    def mov_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._load_over(self.ldr_x, 8, register, base, displacement)

    def mov_pair_rm(self, first: int, second: int, base: int, displacement: int) -> None:
        assert first != base  # it is loaded first where the pair is out of reach
        if fits_pair(displacement):
            self.ldp_x(_NUMBERS[first], _NUMBERS[second], _NUMBERS[base], displacement)
        else:
            self._load(_NUMBERS[first], base, displacement)
            self._load(_NUMBERS[second], base, displacement + 8)

    def mov32_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._load_over(self.ldr_w, 4, register, base, displacement)

    def mov_mr(self, base: int, displacement: int, register: int) -> None:
        self._access(self.str_x, 8, _NUMBERS[register], _NUMBERS[base], displacement)

    def mov32_mr(self, base: int, displacement: int, register: int) -> None:
        self._access(self.str_w, 4, _NUMBERS[register], _NUMBERS[base], displacement)

    def mov16_mr(self, base: int, displacement: int, register: int) -> None:
        self._access(self.strh_w, 2, _NUMBERS[register], _NUMBERS[base], displacement)

    def mov8_mr(self, base: int, displacement: int, register: int) -> None:
        self._access(self.strb_w, 1, _NUMBERS[register], _NUMBERS[base], displacement)

    def _number(self, immediate: int) -> int:
        """A register with a number to store."""
        if not immediate:
            return ZR
        self._set(IP0, immediate)
        return IP0

    def mov_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._access(self.str_x, 8, self._number(immediate), _NUMBERS[base], displacement)

    def mov32_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._access(self.str_w, 4, self._number(immediate & _WORD_MASK), _NUMBERS[base], displacement)

    def mov_rl(self, register: int, symbol: str) -> None:
        if register == RAX:
            self._lose_result()
        self.ldr_literal(_NUMBERS[register], symbol)

    def lea(self, register: int, base: int, displacement: int = 0) -> None:
        self._add(_NUMBERS[register], _NUMBERS[base], displacement)

    def _add(self, destination: int, source: int, number: int) -> None:
        if fits_immediate(number):
            self.add_i(destination, source, number)
        elif fits_immediate(-number):
            self.sub_i(destination, source, -number)
        else:
            self._sum(destination, source, number)

    def movzx8_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldrb_w, 1, _NUMBERS[register], _NUMBERS[base], displacement)

    def movzx16_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldrh_w, 2, _NUMBERS[register], _NUMBERS[base], displacement)

    def movsx8_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldrsb_x, 1, _NUMBERS[register], _NUMBERS[base], displacement)

    def movsx16_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldrsh_x, 2, _NUMBERS[register], _NUMBERS[base], displacement)

    def movsxd_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldrsw_x, 4, _NUMBERS[register], _NUMBERS[base], displacement)

    def movzx8_rr(self, destination: int, source: int) -> None:
        self.uxtb_w(_NUMBERS[destination], _NUMBERS[source])

    def movzx16_rr(self, destination: int, source: int) -> None:
        self.uxth_w(_NUMBERS[destination], _NUMBERS[source])

    def movsx8_rr(self, destination: int, source: int) -> None:
        self.sxtb_x(_NUMBERS[destination], _NUMBERS[source])

    def movsx16_rr(self, destination: int, source: int) -> None:
        self.sxth_x(_NUMBERS[destination], _NUMBERS[source])

    def movsxd_rr(self, destination: int, source: int) -> None:
        self.sxtw_x(_NUMBERS[destination], _NUMBERS[source])

    # -- integers ------------------------------------------------------------------------------------------------------
    def add_rr(self, destination: int, source: int) -> None:
        self.add_x(_NUMBERS[destination], _NUMBERS[destination], _NUMBERS[source])

    def sub_rr(self, destination: int, source: int) -> None:
        if destination == RSP:
            self.sub_sp_x(_NUMBERS[source])
        else:
            self.subs_x(_NUMBERS[destination], _NUMBERS[destination], _NUMBERS[source])

    def or_rr(self, destination: int, source: int) -> None:
        self.orr_x(_NUMBERS[destination], _NUMBERS[destination], _NUMBERS[source])

    def imul_rr(self, destination: int, source: int) -> None:
        self.mul_x(_NUMBERS[destination], _NUMBERS[destination], _NUMBERS[source])

    def xor32_rr(self, destination: int, source: int) -> None:
        if destination == source:
            self.mov_x(_NUMBERS[destination], ZR)
        else:
            self.eor_w(_NUMBERS[destination], _NUMBERS[destination], _NUMBERS[source])

    def add_ri(self, register: int, immediate: int) -> None:
        self._add(_NUMBERS[register], _NUMBERS[register], immediate)

    def sub_ri(self, register: int, immediate: int) -> None:
        if register == RSP:
            self._add(SP, SP, -immediate)
        elif fits_immediate(immediate):
            self.subs_xi(_NUMBERS[register], _NUMBERS[register], immediate)
        else:
            self._set(IP1, immediate)
            self.subs_x(_NUMBERS[register], _NUMBERS[register], IP1)

    def and32_ri(self, register: int, immediate: int) -> None:
        self._mask(_NUMBERS[register], _NUMBERS[register], immediate & _WORD_MASK)

    def _mask(self, destination: int, source: int, mask: int) -> None:
        if encode_mask(mask) is not None:
            self.ands_wi(destination, source, mask)
        else:
            self._set(IP1, mask)
            self.ands_w(destination, source, IP1)

    def add_rl(self, register: int, symbol: str) -> None:
        self.ldr_literal(IP0, symbol)
        self.add_x(_NUMBERS[register], _NUMBERS[register], IP0)

    def index_rl(self, register: int, shift: int, symbol: str) -> None:
        self.ldr_literal(IP0, symbol)
        self.add_x_lsl(_NUMBERS[register], IP0, _NUMBERS[register], shift)

    def neg_r(self, register: int) -> None:
        self.neg_x(_NUMBERS[register], _NUMBERS[register])

    def shl_ri(self, register: int, count: int) -> None:
        self.lsl_xi(_NUMBERS[register], _NUMBERS[register], count)

    def shr_ri(self, register: int, count: int) -> None:
        self.lsr_xi(_NUMBERS[register], _NUMBERS[register], count)

    def shl_rc(self, register: int) -> None:
        self.lsl_x(_NUMBERS[register], _NUMBERS[register], _NUMBERS[RCX])

    def shr_rc(self, register: int) -> None:
        self.lsr_x(_NUMBERS[register], _NUMBERS[register], _NUMBERS[RCX])

    def sar_rc(self, register: int) -> None:
        self.asr_x(_NUMBERS[register], _NUMBERS[register], _NUMBERS[RCX])

    def exchange_mr(self, base: int, displacement: int, register: int) -> None:
        raise AssertionError("no code is made for free-threaded builds here")

    def inc_m(self, base: int, displacement: int = 0) -> None:
        self._load(IP0, base, displacement)
        self.add_i(IP0, IP0, 1)
        self._access(self.str_x, 8, IP0, _NUMBERS[base], displacement)

    def dec_m(self, base: int, displacement: int = 0) -> None:
        self._load(IP0, base, displacement)
        self.subs_xi(IP0, IP0, 1)
        self._access(self.str_x, 8, IP0, _NUMBERS[base], displacement)

    # -- comparisons ---------------------------------------------------------------------------------------------------
    def _compare(self, register: int, immediate: int, *, is_wide: bool) -> None:
        """Compare a register of AArch64 with a number."""
        if fits_immediate(immediate):
            (self.subs_xi if is_wide else self.subs_wi)(ZR, register, immediate)
            if not immediate:
                self._compared = (len(self.code), register, is_wide)
        elif fits_immediate(-immediate):
            (self.cmn_xi if is_wide else self.cmn_wi)(register, -immediate)
        else:
            start = len(self.code)
            self._set(IP1, immediate)
            (self.subs_x if is_wide else self.subs_w)(ZR, register, IP1)
            if fits_immediate(immediate + 1) and len(self.code) == start + 8:
                self._bounded = (len(self.code), register, immediate + 1, is_wide)

    def cmp_rr(self, destination: int, source: int) -> None:
        self.subs_x(ZR, _NUMBERS[destination], _NUMBERS[source])

    def cmp32_rr(self, destination: int, source: int) -> None:
        self.subs_w(ZR, _NUMBERS[destination], _NUMBERS[source])

    def cmp_ri(self, register: int, immediate: int) -> None:
        self._compare(_NUMBERS[register], immediate, is_wide=True)

    def cmp32_ri(self, register: int, immediate: int) -> None:
        self._compare(_NUMBERS[register], immediate, is_wide=False)

    def cmp_rm(self, register: int, base: int, displacement: int = 0) -> None:
        self._load(IP0, base, displacement)
        self.subs_x(ZR, _NUMBERS[register], IP0)

    def cmp_mr(self, base: int, displacement: int, register: int) -> None:
        self._load(IP0, base, displacement)
        self.subs_x(ZR, IP0, _NUMBERS[register])

    def cmp_rl(self, register: int, symbol: str) -> None:
        self.ldr_literal(IP0, symbol)
        self.subs_x(ZR, _NUMBERS[register], IP0)

    def cmp_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._load(IP0, base, displacement)
        self._compare(IP0, immediate, is_wide=True)

    def cmp32_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._access(self.ldr_w, 4, IP0, _NUMBERS[base], displacement)
        self._compare(IP0, immediate, is_wide=False)

    def cmp8_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._access(self.ldrb_w, 1, IP0, _NUMBERS[base], displacement)
        self._compare(IP0, immediate, is_wide=False)

    def test_rr(self, destination: int, source: int) -> None:
        self.ands_x(ZR, _NUMBERS[destination], _NUMBERS[source])
        if destination == source:
            self._compared = (len(self.code), _NUMBERS[destination], True)

    def test32_rr(self, destination: int, source: int) -> None:
        self.ands_w(ZR, _NUMBERS[destination], _NUMBERS[source])
        if destination == source:
            self._compared = (len(self.code), _NUMBERS[destination], False)

    def test8_mi(self, base: int, displacement: int, immediate: int) -> None:
        self._access(self.ldrb_w, 1, IP0, _NUMBERS[base], displacement)
        self._mask(ZR, IP0, immediate)

    def has_all32_ri(self, register: int, mask: int) -> None:
        self.mvn_w(_NUMBERS[register], _NUMBERS[register])
        self.note("infinite or NaN: look closer")
        self._mask(ZR, _NUMBERS[register], mask)

    def nul_mask_rm(self, register: int, base: int) -> None:
        self.ldr_q(_SCRATCH_V, _NUMBERS[base], 0)
        self.cmeq_16b_zero(_SCRATCH_V, _SCRATCH_V)
        self.shrn_8b_4(_SCRATCH_V, _SCRATCH_V)
        self.fmov_xd(_NUMBERS[register], _SCRATCH_V)

    def nul_index_r(self, register: int) -> None:
        self.rbit_x(_NUMBERS[register], _NUMBERS[register])
        self.clz_x(_NUMBERS[register], _NUMBERS[register])
        self.lsr_xi(_NUMBERS[register], _NUMBERS[register], 2)

    # -- floating point ------------------------------------------------------------------------------------------------
    def movsd_xm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldr_d, 8, _VECTORS[register], _NUMBERS[base], displacement)

    def movss_xm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldr_s, 4, _VECTORS[register], _NUMBERS[base], displacement)

    def movsd_mx(self, base: int, displacement: int, register: int) -> None:
        self._access(self.str_d, 8, _VECTORS[register], _NUMBERS[base], displacement)

    def movss_mx(self, base: int, displacement: int, register: int) -> None:
        self._access(self.str_s, 4, _VECTORS[register], _NUMBERS[base], displacement)

    def movups_xm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldr_q, 16, _VECTORS[register], _NUMBERS[base], displacement)

    def movups_mx(self, base: int, displacement: int, register: int) -> None:
        self._access(self.str_q, 16, _VECTORS[register], _NUMBERS[base], displacement)

    def movq_rx(self, source: int, register: int) -> None:
        self.fmov_xd(_NUMBERS[register], _VECTORS[source])

    def movq_xr(self, register: int, source: int) -> None:
        self.fmov_dx(_VECTORS[register], _NUMBERS[source])

    def movd_rx(self, source: int, register: int) -> None:
        self.fmov_ws(_NUMBERS[register], _VECTORS[source])

    def cvtsd2ss_xx(self, destination: int, source: int) -> None:
        self.fcvt_sd(_VECTORS[destination], _VECTORS[source])

    def cvtss2sd_xx(self, destination: int, source: int) -> None:
        self.fcvt_ds(_VECTORS[destination], _VECTORS[source])

    def cvtsd2ss_xm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldr_d, 8, _SCRATCH_V, _NUMBERS[base], displacement)
        self.fcvt_sd(_VECTORS[register], _SCRATCH_V)

    def cvtss2sd_xm(self, register: int, base: int, displacement: int = 0) -> None:
        self._access(self.ldr_s, 4, _SCRATCH_V, _NUMBERS[base], displacement)
        self.fcvt_ds(_VECTORS[register], _SCRATCH_V)

    def ucomisd_xx(self, destination: int, source: int) -> None:
        self.fcmp_d(_VECTORS[destination], _VECTORS[source])

    def pxor_xx(self, destination: int, source: int) -> None:
        assert destination == source
        self.movi_d0(_VECTORS[destination])

    # -- long double: a quad in memory, or a double on Apple's systems; x87's stack is v0, with a double ---------------
    def fld64_m(self, base: int, displacement: int = 0) -> None:
        self.movsd_xm(0, base, displacement)

    def fld80_m(self, base: int, displacement: int = 0) -> None:
        if self._target.long_double_bytes == 16:
            self.movups_xm(0, base, displacement)
            self.quad_to_double()
        else:
            self.movsd_xm(0, base, displacement)

    def fstp64_m(self, base: int, displacement: int = 0) -> None:
        self.movsd_mx(base, displacement, 0)

    def fstp80_m(self, base: int, displacement: int = 0) -> None:
        if self._target.long_double_bytes == 16:
            self.double_to_quad()
            self.movups_mx(base, displacement, 0)
        else:
            self.movsd_mx(base, displacement, 0)

    def fstp64_x(self, register: int, base: int, displacement: int) -> None:
        pass  # there already

    def quad_to_double(self) -> None:
        self._call_plainly("__trunctfdf2")

    def double_to_quad(self) -> None:
        self._call_plainly("__extenddftf2")

    def _call_plainly(self, symbol: str) -> None:
        """Call a function whose result is in v0."""
        self.ldr_literal(IP0, symbol)
        self.blr(IP0)


class Listing(Plain, ListingAssembler):
    """The same, with a listing."""

    __slots__ = ()

    def _rename(self, place: int, old: str, new: str) -> None:
        for index in range(len(self._recorded) - 1, -1, -1):
            offset, is_instruction, text, comment = self._recorded[index]
            if offset == place and is_instruction:
                self._recorded[index] = (offset, is_instruction, text.replace(old, new, 1), comment)
                return

    def _lose_result(self) -> None:
        pending, self._comment = self._comment, ""  # of the instruction that follows
        super()._lose_result()
        self._comment = pending or self._comment

    def _unwrite(self) -> None:
        super()._unwrite()
        _, _, _, comment = self._recorded.pop()
        self._comment = comment or self._comment


def _frame_bytes(registers: tuple[int, ...], scratch_bytes: int) -> int:
    size = scratch_bytes + 8 * len(registers) + 8
    assert size % 16 == 0
    return size


def _saved_rows(registers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The same, in bytes below the frame's end."""
    return tuple((number, 8 * place) for place, number in enumerate((LR, *(_NUMBERS[r] for r in registers)), 1))


def _saved(registers: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    """Where a frame keeps what: the return address on top, then the registers."""
    return [(size - 8 * place, number) for place, number in enumerate((LR, *(_NUMBERS[r] for r in registers)), 1)]
