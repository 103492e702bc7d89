"""The handler of SIGSEGV that makes a fault of guarded code a trap.  How it is installed is `wasm.faults`' affair.

Guarded code compares no address with the size of a memory.  An access reaches from r15 less far than
RESERVED_BYTES, and what of that is not memory may not be touched, so the processor compares.  A fault is such an access
if all of this holds:

    the kernel says so                  si_code above 0: nobody has sent the signal
    an instruction of guarded code      rip lies in the range of a node
    it touched the reservation          r15 <= si_addr < r15 + RESERVED_BYTES

Then the instruction becomes a call of the instance's trap stub, as a check would have made it: the return address is a
byte behind its first, so that the trap finds the site of the access before it.  Everything else is the business of who
handled the signal before.

    node   0   where the code begins       8   where it ends, 0 while it is nobody's       16   the next node
"""

from __future__ import annotations

from typing import Final

from callgate.asm.code import Code
from callgate.asm.x86_64.extended import ExtendedAssembler
from callgate.asm.x86_64.registers import R8, R10, R12, RAX, RBX, RCX, RDI, RDX, RSI, RSP
from callgate.wasm.compile.layout import RESERVED_BYTES, TRAP, TRAP_NUMBERS
from callgate.wasm.errors import OutOfBounds

NODE_LOW, NODE_HIGH, NODE_NEXT, NODE_BYTES = 0, 8, 16, 24

SIGSEGV: Final = 11
_SI_CODE, _SI_ADDR = 8, 16  # offsetof(siginfo_t, …) on Linux
# offsetof(ucontext_t, uc_mcontext.gregs[REG_…]) on x86-64 Linux
_CONTEXT_R15, _CONTEXT_RBX, _CONTEXT_RAX, _CONTEXT_RSP, _CONTEXT_RIP = (40 + 8 * n for n in (7, 11, 13, 15, 16))
_SIG_IGN = 1


def lower_fault() -> Code:
    """What all handlers share: the signal, its siginfo_t and ucontext_t; r10 is the sigaction of the handler before."""
    a = ExtendedAssembler()
    a.label("fault")
    a.cmp32_mi(RSI, _SI_CODE, 0)
    a.jcc("le", "pass_on")
    a.note("guarded code?")
    a.mov_rm(RAX, RDX, _CONTEXT_RIP)
    a.mov_rl(RCX, "guarded_code")
    a.mov_rm(RCX, RCX, 0)
    a.label("node")
    a.test_rr(RCX, RCX)
    a.jcc("e", "pass_on")
    a.cmp_rm(RAX, RCX, NODE_LOW)
    a.jcc("b", "next")
    a.cmp_rm(RAX, RCX, NODE_HIGH)
    a.jcc("b", "found")
    a.label("next")
    a.mov_rm(RCX, RCX, NODE_NEXT)
    a.jmp("node")
    a.label("found")
    a.note("its memory?")
    a.mov_rm(R8, RDX, _CONTEXT_R15)
    a.test_rr(R8, R8)
    a.jcc("e", "pass_on")
    a.mov_rm(RCX, RSI, _SI_ADDR)
    a.sub_rr(RCX, R8)
    a.mov_ri(R8, RESERVED_BYTES)
    a.cmp_rr(RCX, R8)
    a.jcc("ae", "pass_on")
    a.note("as though it had called the trap stub")
    a.add_ri(RAX, 1)
    a.mov_rm(RCX, RDX, _CONTEXT_RSP)
    a.sub_ri(RCX, 8)
    a.mov_mr(RCX, 0, RAX)
    a.mov_mr(RDX, _CONTEXT_RSP, RCX)
    a.mov_rm(RCX, RDX, _CONTEXT_RBX)
    a.mov_rm(RCX, RCX, TRAP)
    a.mov_mr(RDX, _CONTEXT_RIP, RCX)
    a.mov_ri(RAX, TRAP_NUMBERS[OutOfBounds])
    a.mov_mr(RDX, _CONTEXT_RAX, RAX)
    a.ret()

    a.label("pass_on")
    a.mov_rm(RAX, R10, 0)
    a.cmp_ri(RAX, _SIG_IGN)
    a.jcc("b", "by_default")
    a.jcc("e", "ignored")
    a.jmp_r(RAX)
    a.note("of what somebody sent nothing comes, a fault ends the process all the same")
    a.label("ignored")
    a.cmp32_mi(RSI, _SI_CODE, 0)
    a.jcc("le", "done")
    a.label("by_default")
    a.push(RBX)
    a.mov32_rm(RBX, RSI, _SI_CODE)
    a.mov_ri(RDI, SIGSEGV)
    a.mov_rr(RSI, R10)
    a.xor32_rr(RDX, RDX)
    a.call_l("sigaction")
    a.cmp32_ri(RBX, 0)
    a.pop(RBX)
    a.note("a fault comes again when the instruction does")
    a.jcc("g", "done")
    a.mov_ri(RDI, SIGSEGV)
    a.jmp_l("raise")
    a.label("done")
    a.ret()
    return a.finish()


def lower_door() -> Code:
    """PyObject_Call, and a sigaction behind it, before another thread can have the GIL.

    Takes what PyObject_Call takes, the sigaction to set, and where to put the one before.
    """
    a = ExtendedAssembler()
    a.label("door")
    a.push(RBX)
    a.push(R12)
    a.sub_ri(RSP, 8)
    a.mov_rr(RBX, RCX)
    a.mov_rr(R12, R8)
    a.call_l("PyObject_Call")
    a.mov_mr(RSP, 0, RAX)
    a.mov_ri(RDI, SIGSEGV)
    a.mov_rr(RSI, RBX)
    a.mov_rr(RDX, R12)
    a.call_l("sigaction")
    a.mov_rm(RAX, RSP, 0)
    a.add_ri(RSP, 8)
    a.pop(R12)
    a.pop(RBX)
    a.ret()
    return a.finish()


def lower_handler(before: int) -> Code:
    """A handler, with the address of the sigaction of the one before."""
    a = ExtendedAssembler()
    a.label("handler")
    a.mov_ri(R10, before)
    a.jmp_l("wasm_fault")
    return a.finish()
