"""The operations that the lowering emits, and the registers it names: one lowering for every processor.

They are the instructions of x86-64 as far as gates need them, under their names there (`asm.x86_64`), with the few that
cannot be said in one instruction everywhere: entering and leaving a frame, near calls, the search for a NUL.  On x86-64
an operation is the instruction of its name; on AArch64 it is one to four (`lower/aarch64.py`).  What holds everywhere:

- A 32-bit result clears the upper half of its register.  Memory is [base + displacement], words are little-endian.
- Comparisons are `cmp`, `test` and `ucomisd`; after `and32_ri`, `sub_ri`, `sub_rr` and `dec_m` the conditions "e" and
  "ne" hold as well.  `mov`, `lea`, loads and stores keep them, `xor32_rr` does not.
- A called function takes rdi, rsi, rdx, rcx, r8, r9 and xmm0 to xmm7, gives rax or xmm0, and keeps rbx, rbp and r12 to
  r15.
- Nothing is kept below rsp.

The frame that `enter` makes is the same everywhere, so that offsets are decided once (`lower/frame.py`):

    |  stack arguments        |  [rsp + scratch + 8 for each register + 8]
    |  return address         |
    |  saved registers        |  the first on top
    |  scratch                |  <- rsp, a multiple of 16
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol

from callgate.asm.code import Code, FrameRow
from callgate.lower.machine import Machine
from callgate.target import Target

RAX: Final = 0
RCX: Final = 1
RDX: Final = 2
RBX: Final = 3
RSP: Final = 4
RBP: Final = 5
RSI: Final = 6
RDI: Final = 7
R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
R14: Final = 14
R15: Final = 15
XMM0: Final = 0
XMM1: Final = 1
XMM15: Final = 15


class Operations(Protocol):
    """What emits: one for each processor."""

    code: bytearray

    @property
    def general(self) -> Mapping[str, int]:
        """The registers of a call plan that carry integers, as the numbers above (or further ones)."""

    @property
    def vector(self) -> Mapping[str, int]:
        """The registers of a call plan that carry floating values."""

    @property
    def callee_saved(self) -> Mapping[int, str]:
        """The registers that a C function brings back as they were, and what the processor calls them."""

    @property
    def result_general(self) -> Mapping[str, int]:
        """The registers in which a plan returns integers, as `ret` wants them."""

    @property
    def spare(self) -> tuple[int, ...]:
        """Two more registers that calls change and no plan names, where the processor has them; it then loads pairs."""

    @property
    def thunk_bytes(self) -> int:
        """The size of a thunk."""

    @property
    def kept(self) -> tuple[int, ...]:
        """The registers that called functions change here, and that C wants kept by what it calls."""

    @property
    def accept_bytes(self) -> int:
        """The size of what `accept` emits."""

    # -- text ------------------------------------------------------------------------------------------
    def label(self, name: str) -> None: ...
    def note(self, comment: str) -> None: ...
    def finish(self) -> Code: ...

    # -- frames, calls and jumps -----------------------------------------------------------------------
    def accept(self) -> None:
        """Begin a function that the interpreter calls, with at most four arguments: they go to rdi, rsi, rdx, rcx."""

    def enter(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        """Save callee-saved registers and make room; the whole, with the return address, is a multiple of 16."""

    def frame_rows(self, scratch_bytes: int) -> tuple[FrameRow, ...]:
        """The rows of code that begins with `enter((), scratch_bytes)`, as far as its body goes."""

    def leave(self, registers: tuple[int, ...], scratch_bytes: int) -> None:
        """Undo `enter`; `ret` or a jump follows."""

    def ret(self) -> None:
        """Return what is in rax (or xmm0) to a caller that used `call`, `call_l`, `call_m` or `call_r`, or to C."""

    def call(self, label: str) -> None: ...
    def call_l(self, symbol: str) -> None: ...
    def call_r(self, register: int) -> None: ...
    def call_m(self, base: int, displacement: int = 0, *, gives_rax: bool = True) -> None:
        """Call a C function whose arguments are where its plan has them."""

    def call_api_m(self, base: int, displacement: int = 0) -> None:
        """Call a function of the interpreter, with arguments as `call_l` takes them."""

    def keep_result_m(self, base: int, displacement: int) -> None:
        """Store what the last call gave in rax, which nobody looks at any more."""

    def clear_result32_m(self) -> None:
        """The 4 bytes whose address the last call gave in rax, which nobody looks at any more, become 0."""

    def jmp(self, label: str) -> None: ...
    def jmp_l(self, symbol: str) -> None: ...
    def jmp_m(self, base: int, displacement: int = 0) -> None: ...
    def jcc(self, condition: str, label: str) -> None: ...

    def call_near(self, label: str) -> None:
        """Call a subroutine of the same frame, which changes what it says and no more."""

    def ret_near(self) -> None:
        """Return from it."""

    def drop_return(self) -> None:
        """Stay, instead of returning from it: the frame is as before the call."""

    def thunk(self, slot: int, displacement: int) -> None:
        """r10 = slot, then jump to where [slot + displacement] points; padded to `thunk_bytes`."""

    def vector_count(self, count: int) -> None:
        """Tell a variadic function how many vector registers carry arguments, where it wants to know."""

    def set_stack(self, register: int) -> None:
        """rsp = register, a multiple of 16: what follows runs on another stack."""

    def thread_pointer(self, register: int) -> None:
        """A word that tells the threads alive from one another."""

    # -- moves -----------------------------------------------------------------------------------------
    def mov_rr(self, destination: int, source: int) -> None: ...
    def mov32_rr(self, destination: int, source: int) -> None: ...
    def mov_ri(self, register: int, immediate: int) -> None: ...
    def mov_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def mov32_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def mov_pair_rm(self, first: int, second: int, base: int, displacement: int) -> None: ...
    def mov_mr(self, base: int, displacement: int, register: int) -> None: ...
    def mov32_mr(self, base: int, displacement: int, register: int) -> None: ...
    def mov16_mr(self, base: int, displacement: int, register: int) -> None: ...
    def mov8_mr(self, base: int, displacement: int, register: int) -> None: ...
    def mov_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def mov32_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def mov_rl(self, register: int, symbol: str) -> None: ...
    def lea(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movzx8_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movzx16_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movsx8_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movsx16_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movsxd_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movzx8_rr(self, destination: int, source: int) -> None: ...
    def movzx16_rr(self, destination: int, source: int) -> None: ...
    def movsx8_rr(self, destination: int, source: int) -> None: ...
    def movsx16_rr(self, destination: int, source: int) -> None: ...
    def movsxd_rr(self, destination: int, source: int) -> None: ...

    # -- integers --------------------------------------------------------------------------------------
    def add_rr(self, destination: int, source: int) -> None: ...
    def sub_rr(self, destination: int, source: int) -> None: ...
    def or_rr(self, destination: int, source: int) -> None: ...
    def imul_rr(self, destination: int, source: int) -> None: ...
    def xor32_rr(self, destination: int, source: int) -> None: ...
    def add_ri(self, register: int, immediate: int) -> None: ...
    def sub_ri(self, register: int, immediate: int) -> None: ...
    def and32_ri(self, register: int, immediate: int) -> None: ...
    def add_rl(self, register: int, symbol: str) -> None: ...
    def index_rl(self, register: int, shift: int, symbol: str) -> None:
        """The register shifted left, plus the address of a symbol."""

    def neg_r(self, register: int) -> None: ...
    def shl_ri(self, register: int, count: int) -> None: ...
    def shr_ri(self, register: int, count: int) -> None: ...
    def shl_rc(self, register: int) -> None: ...
    def shr_rc(self, register: int) -> None: ...
    def sar_rc(self, register: int) -> None: ...
    def exchange_mr(self, base: int, displacement: int, register: int) -> None:
        """In one step for all threads: the word in memory and the register change places."""

    def inc_m(self, base: int, displacement: int = 0) -> None: ...
    def dec_m(self, base: int, displacement: int = 0) -> None: ...

    # -- comparisons -----------------------------------------------------------------------------------
    def cmp_rr(self, destination: int, source: int) -> None: ...
    def cmp32_rr(self, destination: int, source: int) -> None: ...
    def cmp_ri(self, register: int, immediate: int) -> None: ...
    def cmp32_ri(self, register: int, immediate: int) -> None: ...
    def cmp_rm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def cmp_mr(self, base: int, displacement: int, register: int) -> None: ...
    def cmp_rl(self, register: int, symbol: str) -> None: ...
    def cmp_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def cmp32_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def cmp8_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def test_rr(self, destination: int, source: int) -> None: ...
    def test32_rr(self, destination: int, source: int) -> None: ...
    def test8_mi(self, base: int, displacement: int, immediate: int) -> None: ...
    def has_all32_ri(self, register: int, mask: int) -> None:
        """Condition "e" where the register has all bits of a mask set.  Changes the register."""

    def nul_mask_rm(self, register: int, base: int) -> None:
        """Not 0 where one of the 16 bytes at [base], which is a multiple of 16, is 0.  Uses xmm15."""

    def nul_index_r(self, register: int) -> None:
        """Which of them is the first, from that mask."""

    # -- floating point --------------------------------------------------------------------------------
    def movsd_xm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movss_xm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movsd_mx(self, base: int, displacement: int, register: int) -> None: ...
    def movss_mx(self, base: int, displacement: int, register: int) -> None: ...
    def movups_xm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def movups_mx(self, base: int, displacement: int, register: int) -> None: ...
    def movq_rx(self, source: int, register: int) -> None: ...
    def movq_xr(self, register: int, source: int) -> None: ...
    def movd_rx(self, source: int, register: int) -> None: ...
    def cvtsd2ss_xx(self, destination: int, source: int) -> None: ...
    def cvtss2sd_xx(self, destination: int, source: int) -> None: ...
    def cvtsd2ss_xm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def cvtss2sd_xm(self, register: int, base: int, displacement: int = 0) -> None: ...
    def ucomisd_xx(self, destination: int, source: int) -> None: ...
    def pxor_xx(self, destination: int, source: int) -> None: ...

    # -- long double: in memory, and as a double on x87's stack or what stands for it; may change what a call does ---
    def fld64_m(self, base: int, displacement: int = 0) -> None: ...
    def fld80_m(self, base: int, displacement: int = 0) -> None: ...
    def fstp64_m(self, base: int, displacement: int = 0) -> None: ...
    def fstp80_m(self, base: int, displacement: int = 0) -> None: ...

    def fstp64_x(self, register: int, base: int, displacement: int) -> None:
        """That double to an xmm register, xmm0; by way of memory where need be."""

    def quad_to_double(self) -> None:
        """xmm0, a long double of class SSE, becomes a double.  Changes what a call changes."""

    def double_to_quad(self) -> None:
        """The other way round."""


def checked_registers(machine: Machine) -> tuple[int, ...]:
    """The registers that the gates of a machine save and check: those that C must bring back, or none."""
    return tuple(operations(machine.target).callee_saved) if machine.checks_calls else ()


_loaded: dict[tuple[str, str], Any] = {}


def load(module: str, name: str) -> Any:
    """A name of a module of this package, which is imported when it is first wanted: images need no lowering.

    The collector rests meanwhile: a finalizer that it runs may call gates, and would find half a module.
    """
    found = _loaded.get((module, name))
    if found is None:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            found = _loaded[module, name] = getattr(import_module(f"callgate.lower.{module}"), name)
        finally:
            if was_enabled:
                gc.enable()
    return found


def operations(target: Target, *, with_listing: bool = False) -> Operations:
    """What emits code for a target."""
    is_arm = target.architecture == "aarch64"
    module = "aarch64" if is_arm else "win64" if target.system == "windows" else "x86_64"
    emitter = load(module, "Listing" if with_listing else "Plain")
    made: Operations = emitter(target) if is_arm else emitter()
    return made
