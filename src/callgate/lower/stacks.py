"""Stacks of their own: how a call goes to one and comes back, how callbacks leave it, what an overflow does.

Every Stack has a node, which stays for ever (a later Stack may get it), so that a signal handler can read the chain:

    node   0   the thread that used it last, as `thread_pointer` gives it
           8   1 while a call runs on it
           16  its top: where the rsp of the thread's own stack is kept during a call, and behind that this node
           24  the lowest address that may be used    32  the end
           40  where the guard pages below begin
           48  the message of an overflow             56  its size in bytes
           64  the next node

    higher addresses
    |  node                   |
    |  rsp of the gate        |  <- top, a multiple of 16
    |  stack arguments        |  <- rsp at the call
    |  ...                    |
    |  guard pages            |
    lower addresses

A call claims the node while it holds the GIL, or in one step where threads run at once.  Python code never runs on such
a stack, whose place and size its own checks know nothing of: what C calls back goes to the thread's stack first, below
the gate's frame.
"""

from __future__ import annotations

from callgate.cpython.conversion import Conversion
from callgate.cpython.layout import Layout
from callgate.lower.machine import Machine, result_operand_offset
from callgate.lower.operations import (
    R10,
    R11,
    RAX,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    Operations,
)
from callgate.lower.routine import call_method
from callgate.target import Target

NODE_THREAD, NODE_IN_USE, NODE_TOP, NODE_LOW, NODE_HIGH, NODE_GUARD = 0, 8, 16, 24, 32, 40
NODE_MESSAGE, NODE_MESSAGE_BYTES, NODE_NEXT, NODE_BYTES = 48, 56, 64, 72

STACKS_FIRST, STACKS_IN_USE, STACKS_BYTES = 0, 8, 16
"""The cell `stacks`: the first node, and how many calls are under way on any of them."""

TOP_BYTES = 16
"""What lies above the top."""

SIGNAL_STACK_BYTES = 1 << 16
"""The stack of signal handlers that a thread gets which has none."""

_SS_DISABLE = 2
_SI_ADDR = 16  # offsetof(siginfo_t, si_addr) on Linux
_STDERR = 2
_SIG_IGN = 1


def has_stacks(target: Target) -> bool:
    """Whether calls can run on stacks of their own there."""
    return target.system == "linux"


def stack_operand_offset(conversion: Conversion) -> int:
    """Where a gate's data has the node of its stack: behind the operands of its results."""
    return result_operand_offset(len(conversion.steps), 1 + len(conversion.outs))


# -- in gates ------------------------------------------------------------------------------------------
def emit_check_thread(a: Operations, node: int, scratch: int, unknown: str) -> None:
    """Jump where the calling thread is not the one that used the stack last."""
    a.note("the thread that used the stack last?")
    a.thread_pointer(scratch)
    a.cmp_rm(scratch, node, NODE_THREAD)
    a.jcc("ne", unknown)


def emit_claim(a: Operations, layout: Layout, node: int, scratch: int, taken: str) -> None:
    """Make the stack this call's; jump where another has it.

    Since `emit_check_thread` the conversion of an argument may have let another thread use it: its thread is said anew.
    """
    a.note("is a call on that stack?")
    if layout.is_free_threaded:
        a.mov_ri(scratch, 1)
        a.exchange_mr(node, NODE_IN_USE, scratch)
        a.test_rr(scratch, scratch)
        a.jcc("ne", taken)
        _emit_own(a, node, scratch)
        a.note("threads cannot count together; from now on every callback looks where it is")
        a.mov_rl(scratch, "stacks")
        a.mov_mi(scratch, STACKS_IN_USE, 1)
        return
    a.cmp_mi(node, NODE_IN_USE, 0)
    a.jcc("ne", taken)
    a.mov_mi(node, NODE_IN_USE, 1)
    _emit_own(a, node, scratch)
    a.mov_rl(scratch, "stacks")
    a.inc_m(scratch, STACKS_IN_USE)


def _emit_own(a: Operations, node: int, scratch: int) -> None:
    a.thread_pointer(scratch)
    a.mov_mr(node, NODE_THREAD, scratch)


def emit_release(a: Operations, layout: Layout, node: int, scratch: int) -> None:
    """Undo `emit_claim`."""
    a.mov_mi(node, NODE_IN_USE, 0)
    if layout.is_free_threaded:
        return
    a.mov_rl(scratch, "stacks")
    a.dec_m(scratch, STACKS_IN_USE)


def emit_go(a: Operations, argument_bytes: int, skip: str = "") -> None:
    """To the stack of the node in r10, with the stack arguments; rax is scratch.

    `skip` is where the flags "e" lead past the copying, to a label that this makes.
    """
    a.note("to the other stack")
    a.mov_rm(R10, R10, NODE_TOP)
    a.lea(RAX, RSP, 0)
    a.mov_mr(R10, 0, RAX)
    if skip:
        a.jcc("e", skip)
    for offset in range(0, argument_bytes, 8):
        a.mov_rm(RAX, RSP, offset)
        a.mov_mr(R10, offset - argument_bytes, RAX)
    if skip:
        a.label(skip)
    if argument_bytes:
        a.lea(R10, R10, -argument_bytes)
    a.set_stack(R10)


def emit_come_back(a: Operations, argument_bytes: int) -> None:
    """Back to the thread's stack; r10 is the node.  Results are kept."""
    a.note("back")
    a.mov_rm(R10, RSP, argument_bytes + 8)
    a.mov_rm(R11, RSP, argument_bytes)
    a.set_stack(R11)


# -- routines ------------------------------------------------------------------------------------------
def emit_stack_routines(a: Operations, machine: Machine) -> None:
    """What gates and callbacks call, and what the process needs from the first Stack on.

    callgate_prepare_stack(self, node): 0, or 1 with an exception set: `self._prepare_stack()` makes the thread ready.
    callgate_refuse_stack(self): 0, an exception set.
    callgate_home(rsp): the rsp of the thread's own stack if the given one lies on a Stack, else 0.
    callgate_fault(signal, info, context): the handler of SIGSEGV.
    callgate_stack_thread_ends(memory): the destructor of a thread's key, with the address of its signal stack, or 1
    where it brought its own.
    callgate_thread() -> what nodes have as the thread.
    """
    _emit_for_calls(a)
    if has_stacks(machine.target):
        _emit_fault(a)
        _emit_thread_ends(a)
        a.label("callgate_thread")
        a.thread_pointer(RAX)
        a.ret()


def _emit_for_calls(a: Operations) -> None:
    # rbx self   [rsp] the node
    a.label("callgate_prepare_stack")
    a.enter((RBX,), 16)
    a.mov_mr(RSP, 0, RSI)
    a.mov_rr(RBX, RDI)
    call_method(a, "_prepare_stack", lambda: None, 0)
    a.test_rr(RAX, RAX)
    a.jcc("e", "unprepared")
    a.mov_rr(RDI, RAX)
    a.call_l("Py_DecRef")
    a.mov_rm(RCX, RSP, 0)
    a.thread_pointer(RAX)
    a.mov_mr(RCX, NODE_THREAD, RAX)
    a.xor32_rr(RAX, RAX)
    a.leave((RBX,), 16)
    a.ret()
    a.label("unprepared")
    a.mov_ri(RAX, 1)
    a.leave((RBX,), 16)
    a.ret()

    a.label("callgate_refuse_stack")
    a.enter((RBX,), 0)
    a.mov_rr(RBX, RDI)
    call_method(a, "_refuse_stack", lambda: None, 0)
    a.note("it raised")
    a.xor32_rr(RAX, RAX)
    a.leave((RBX,), 0)
    a.ret()

    a.label("callgate_home")
    a.mov_rl(RCX, "stacks")
    a.mov_rm(RCX, RCX, STACKS_FIRST)
    a.label("home_node")
    a.test_rr(RCX, RCX)
    a.jcc("e", "is_home")
    a.cmp_rm(RDI, RCX, NODE_LOW)
    a.jcc("b", "home_next")
    a.cmp_rm(RDI, RCX, NODE_HIGH)
    a.jcc("b", "not_home")
    a.label("home_next")
    a.mov_rm(RCX, RCX, NODE_NEXT)
    a.jmp("home_node")
    a.label("not_home")
    a.mov_rm(RAX, RCX, NODE_TOP)
    a.mov_rm(RAX, RAX, 0)
    a.ret()
    a.label("is_home")
    a.xor32_rr(RAX, RAX)
    a.ret()


def _emit_fault(a: Operations) -> None:
    """Name the overflow, if it is one; then whoever handled the signal before has it."""
    # [rsp] signal   [rsp+8] info   [rsp+16] context
    a.label("callgate_fault")
    a.enter((), 24)
    a.mov_mr(RSP, 0, RDI)
    a.mov_mr(RSP, 8, RSI)
    a.mov_mr(RSP, 16, RDX)
    a.note("the address that was touched")
    a.mov_rm(RAX, RSI, _SI_ADDR)
    a.mov_rl(RCX, "stacks")
    a.mov_rm(RCX, RCX, STACKS_FIRST)
    a.label("fault_node")
    a.test_rr(RCX, RCX)
    a.jcc("e", "no_overflow")
    a.cmp_mi(RCX, NODE_IN_USE, 0)
    a.jcc("e", "fault_next")
    a.cmp_rm(RAX, RCX, NODE_GUARD)
    a.jcc("b", "fault_next")
    a.cmp_rm(RAX, RCX, NODE_LOW)
    a.jcc("b", "overflow")
    a.label("fault_next")
    a.mov_rm(RCX, RCX, NODE_NEXT)
    a.jmp("fault_node")

    a.label("overflow")
    a.mov_ri(RDI, _STDERR)
    a.mov_rm(RSI, RCX, NODE_MESSAGE)
    a.mov_rm(RDX, RCX, NODE_MESSAGE_BYTES)
    a.call_l("write")
    a.note("the instruction faults again, and the handler before this one sees it")
    _emit_restore(a)
    a.leave((), 24)
    a.ret()

    a.label("no_overflow")
    a.mov_rl(R10, "handler_before")
    a.cmp_mi(R10, 0, _SIG_IGN)
    a.jcc("be", "by_default")
    a.mov_rm(RDI, RSP, 0)
    a.mov_rm(RSI, RSP, 8)
    a.mov_rm(RDX, RSP, 16)
    a.leave((), 24)
    a.jmp_m(R10, 0)
    a.label("by_default")
    _emit_restore(a)
    a.note("some process may have sent it")
    a.mov_rm(RDI, RSP, 0)
    a.leave((), 24)
    a.jmp_l("raise")


def _emit_restore(a: Operations) -> None:
    a.mov_rm(RDI, RSP, 0)
    a.mov_rl(RSI, "handler_before")
    a.xor32_rr(RDX, RDX)
    a.call_l("sigaction")


def _emit_thread_ends(a: Operations) -> None:
    """A thread that used Stacks ends: its address may become another's, and its signal stack goes."""
    # rbx the memory   [rsp] a stack_t
    a.label("callgate_stack_thread_ends")
    a.enter((RBX,), 32)
    a.mov_rr(RBX, RDI)
    a.thread_pointer(RAX)
    a.mov_rl(RCX, "stacks")
    a.mov_rm(RCX, RCX, STACKS_FIRST)
    a.label("ends_node")
    a.test_rr(RCX, RCX)
    a.jcc("e", "ends_last")
    a.cmp_rm(RAX, RCX, NODE_THREAD)
    a.jcc("ne", "ends_next")
    a.mov_mi(RCX, NODE_THREAD, 0)
    a.label("ends_next")
    a.mov_rm(RCX, RCX, NODE_NEXT)
    a.jmp("ends_node")
    a.label("ends_last")
    a.cmp_ri(RBX, 1)
    a.jcc("e", "ends_done")
    a.mov_mi(RSP, 0, 0)
    a.mov_mi(RSP, 8, _SS_DISABLE)
    a.mov_mi(RSP, 16, 0)
    a.lea(RDI, RSP, 0)
    a.xor32_rr(RSI, RSI)
    a.call_l("sigaltstack")
    a.mov_rr(RDI, RBX)
    a.mov_ri(RSI, SIGNAL_STACK_BYTES)
    a.call_l("munmap")
    a.label("ends_done")
    a.leave((RBX,), 32)
    a.ret()
