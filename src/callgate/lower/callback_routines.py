"""The routines that all callbacks share: how a thread comes by the GIL, calls of gone callbacks, the list of slots.

Long because it is a collection: each routine is a page, and none needs another but by its label.
"""

from __future__ import annotations

from callgate.asm.code import Code
from callgate.lower.callback import (
    FOREIGN,
    FREE_COUNT,
    FREE_HEAD,
    FREE_RESERVE,
    FREE_TAIL,
    KNOWN,
    NESTED,
    NO_STATE_KEY,
    NODE_BYTES,
    NODE_DEPTH,
    NODE_NEXT,
    NODE_STATE,
    NONE,
    SLOT_FREED,
    SLOT_FUNCTION,
    SLOT_LOCK,
    SLOT_MESSAGE,
    SLOT_NEXT,
    SLOT_RECORD,
    SLOT_STUB,
)
from callgate.lower.machine import Machine
from callgate.lower.operations import R12, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, XMM0, Operations, operations


def lower_callback_routines(machine: Machine, *, with_listing: bool = False) -> Code:
    """The routines that all stubs share, and those for slots.

    callgate_attach() -> a mode; callgate_detach(mode); callgate_callback_failed(mode, function);
    callgate_gone(slot, mode) raises; callgate_unused, where the thunks of slots lead that never had a callback;
    callgate_thread_ends(node), the destructor of `thread_key`; callgate_drain() clears the states of ended threads;
    callgate_take_slot() -> a capsule, or None; callgate_free_slot(capsule), its destructor;
    callgate_give_slots(first, last, count).  Where threads run at once, callgate_hold(slot, stub) -> the record, held,
    or 0; callgate_set_record(slot, weak reference or 0).
    """
    a = operations(machine.target, with_listing=with_listing)
    if machine.layout.is_free_threaded:
        _emit_hold(a)
        _emit_set_record(a)
    for emit in (
        _emit_attach,
        _emit_detach,
        _emit_failed,
        _emit_gone,
        _emit_unused,
        _emit_thread_ends,
        _emit_drain,
        _emit_take_slot,
        _emit_free_slot,
        _emit_give_slots,
    ):
        emit(a, machine)
    return a.finish()


def _emit_get_node(a: Operations) -> None:
    """rax = this thread's node, or 0."""
    a.mov_rl(RDI, "thread_key")
    a.mov32_rm(RDI, RDI, 0)
    a.call_l("pthread_getspecific")


def _emit_attach(a: Operations, machine: Machine) -> None:
    """Take the GIL.  A thread that Python did not start gets a thread state, which stays until the thread ends."""
    a.label("callgate_attach")
    a.enter((RBX,), 0)
    a.call_l("Py_IsInitialized")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "attach_refused")
    a.note("taking the GIL would end this thread now")
    a.call_l("Py_IsFinalizing")
    a.test32_rr(RAX, RAX)
    a.jcc("ne", "attach_refused")
    a.call_l("PyGILState_GetThisThreadState")
    a.test_rr(RAX, RAX)
    a.jcc("e", "new_thread")
    a.call_l("PyGILState_Ensure")
    a.note("a state made for an earlier callback?")
    _emit_get_node(a)
    a.test_rr(RAX, RAX)
    a.jcc("ne", "old_thread")
    a.mov_ri(RAX, KNOWN)
    a.leave((RBX,), 0)
    a.ret()
    a.label("old_thread")
    a.inc_m(RAX, NODE_DEPTH)
    a.cmp_mi(RAX, NODE_DEPTH, 1)
    a.mov_ri(RAX, NESTED)
    a.jcc("ne", "attach_done")
    a.label("is_foreign")
    a.mov_ri(RAX, FOREIGN)
    a.label("attach_done")
    a.leave((RBX,), 0)
    a.ret()

    a.label("new_thread")
    a.call_l("PyGILState_Ensure")
    a.note("can its state be kept, and deleted by another thread?")
    a.mov_rl(RAX, "state_key")
    a.cmp32_mi(RAX, 0, NO_STATE_KEY)
    a.jcc("e", "is_foreign")
    a.note("counted twice, released once: the state stays with the thread")
    a.call_l("PyGILState_Ensure")
    a.mov_ri(RDI, 1)
    a.mov_ri(RSI, NODE_BYTES)
    a.call_l("calloc")
    a.test_rr(RAX, RAX)
    a.jcc("e", "is_foreign")
    a.mov_rr(RBX, RAX)
    a.call_l("PyGILState_GetThisThreadState")
    a.mov_mr(RBX, NODE_STATE, RAX)
    a.inc_m(RBX, NODE_DEPTH)
    a.mov_rr(RSI, RBX)
    a.mov_rl(RDI, "thread_key")
    a.mov32_rm(RDI, RDI, 0)
    a.call_l("pthread_setspecific")
    a.call("drain")
    a.jmp("is_foreign")

    a.label("attach_refused")
    a.mov_ri(RAX, NONE)
    a.leave((RBX,), 0)
    a.ret()


_UNLOCKED = 1  # PyGILState_UNLOCKED


def _emit_detach(a: Operations, machine: Machine) -> None:
    a.label("callgate_detach")
    a.enter((), 8)
    a.cmp32_ri(RDI, KNOWN)
    a.jcc("e", "detach_release")
    _emit_get_node(a)
    a.test_rr(RAX, RAX)
    a.jcc("e", "detach_release")
    a.dec_m(RAX, NODE_DEPTH)
    a.label("detach_release")
    a.mov_ri(RDI, _UNLOCKED)
    a.leave((), 8)
    a.jmp_l("PyGILState_Release")


def _emit_failed(a: Operations, machine: Machine) -> None:
    a.label("callgate_callback_failed")
    a.cmp32_ri(RDI, FOREIGN)
    a.jcc("e", "nobody_raises")
    a.mov_rl(RCX, "raised_count")
    if machine.layout.is_free_threaded:
        a.note("threads cannot count together; from now on every gate asks")
        a.mov_mi(RCX, 0, 1)
    else:
        a.inc_m(RCX, 0)
    a.ret()
    a.label("nobody_raises")
    a.mov_rr(RDI, RSI)
    a.jmp_l("PyErr_WriteUnraisable")


def _emit_gone(a: Operations, machine: Machine) -> None:
    """C calls a callback that is closed or freed: an error, with the GIL held."""
    # rbx the mode
    a.label("callgate_gone")
    a.enter((RBX,), 0)
    a.mov32_rr(RBX, RSI)
    a.mov_rm(RSI, RDI, SLOT_MESSAGE)
    a.mov_rl(RDI, "RuntimeError")
    a.call_l("PyErr_SetString")
    a.mov32_rr(RDI, RBX)
    a.note("whose it was is in the message")
    a.xor32_rr(RSI, RSI)
    a.leave((RBX,), 0)
    a.jmp("callgate_callback_failed")


def _emit_unused(a: Operations, machine: Machine) -> None:
    """C calls an address that never was a callback's: it can only guess what it gets."""
    a.label("callgate_unused")
    a.xor32_rr(RAX, RAX)
    a.pxor_xx(XMM0, XMM0)
    a.ret()


def _emit_thread_ends(a: Operations, machine: Machine) -> None:
    """The destructor of the key: a foreign thread ends, and its node goes to the list."""
    # rbx the node
    a.label("callgate_thread_ends")
    a.accept()
    a.enter((RBX,), 0)
    a.mov_rr(RBX, RDI)
    a.mov_rl(RDI, "ended_lock")
    a.call_l("pthread_mutex_lock")
    a.mov_rl(RCX, "ended_nodes")
    a.mov_rm(RAX, RCX, 0)
    a.mov_mr(RBX, NODE_NEXT, RAX)
    a.mov_mr(RCX, 0, RBX)
    a.mov_rl(RDI, "ended_lock")
    a.leave((RBX,), 0)
    a.jmp_l("pthread_mutex_unlock")


def _emit_drain(a: Operations, machine: Machine) -> None:
    """Clear the states of threads that ended; the GIL is held."""
    # rbx the node
    a.label("callgate_drain")
    a.accept()
    a.label("drain")
    a.enter((RBX,), 0)
    a.mov_rl(RCX, "ended_nodes")
    a.cmp_mi(RCX, 0, 0)
    a.jcc("e", "drained")
    a.note("an interpreter that ends clears them itself")
    a.call_l("Py_IsFinalizing")
    a.test32_rr(RAX, RAX)
    a.jcc("ne", "drained")
    a.mov_rl(RDI, "ended_lock")
    a.call_l("pthread_mutex_lock")
    a.mov_rl(RCX, "ended_nodes")
    a.mov_rm(RBX, RCX, 0)
    a.mov_mi(RCX, 0, 0)
    a.mov_rl(RDI, "ended_lock")
    a.call_l("pthread_mutex_unlock")
    a.label("drain_next")
    a.test_rr(RBX, RBX)
    a.jcc("e", "drained")
    a.mov_rm(RDI, RBX, NODE_STATE)
    a.call_l("PyThreadState_Clear")
    a.mov_rm(RDI, RBX, NODE_STATE)
    a.call_l("PyThreadState_Delete")
    a.note("from 3.12 on that forgets the deleting thread's own state: say it again")
    a.call_l("PyThreadState_Get")
    a.mov_rr(RSI, RAX)
    a.mov_rl(RDI, "state_key")
    a.mov32_rm(RDI, RDI, 0)
    a.call_l("set_python_key")
    a.mov_rr(RDI, RBX)
    a.mov_rm(RBX, RBX, NODE_NEXT)
    a.call_l("free")
    a.jmp("drain_next")
    a.label("drained")
    a.leave((RBX,), 0)
    a.ret()


def _emit_take_slot(a: Operations, machine: Machine) -> None:
    """A capsule with the slot that has been free for longest; None where only the reserve is left."""
    a.label("callgate_take_slot")
    a.accept()
    a.enter((RBX,), 0)
    a.call("drain")
    _lock(a, machine, "pthread_mutex_lock")
    a.mov_rl(RCX, "free_slots")
    a.mov_rm(RAX, RCX, FREE_COUNT)
    a.cmp_rm(RAX, RCX, FREE_RESERVE)
    a.jcc("be", "only_the_reserve")
    a.mov_rm(RBX, RCX, FREE_HEAD)
    a.mov_rm(RAX, RBX, SLOT_NEXT)
    a.mov_mr(RCX, FREE_HEAD, RAX)
    a.dec_m(RCX, FREE_COUNT)
    _lock(a, machine, "pthread_mutex_unlock")
    a.mov_mi(RBX, SLOT_NEXT, 0)
    a.mov_rr(RDI, RBX)
    a.xor32_rr(RSI, RSI)
    a.mov_rl(RDX, "callgate_free_slot")
    a.mov_rm(RDX, RDX, 0)
    a.call_l("PyCapsule_New")
    a.leave((RBX,), 0)
    a.ret()
    a.label("only_the_reserve")
    _lock(a, machine, "pthread_mutex_unlock")
    a.mov_rl(RDI, "Py_None")
    a.mov_rr(RBX, RDI)
    a.call_l("Py_IncRef")
    a.mov_rr(RAX, RBX)
    a.leave((RBX,), 0)
    a.ret()


def _emit_free_slot(a: Operations, machine: Machine) -> None:
    """The destructor of a slot's capsule: nothing in it can fail."""
    a.label("callgate_free_slot")
    a.accept()
    a.enter((), 8)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyCapsule_GetPointer")
    if machine.layout.is_free_threaded:
        a.mov_mr(RSP, 0, RAX)
        a.mov_rr(RDI, RAX)
        a.xor32_rr(RSI, RSI)
        a.call("set_record")
        a.mov_rm(RAX, RSP, 0)
    a.leave((), 8)
    if not machine.layout.is_free_threaded:
        a.mov_mi(RAX, SLOT_RECORD, 0)
    a.mov_mi(RAX, SLOT_FUNCTION, 0)
    a.mov_rm(RCX, RAX, SLOT_FREED)
    a.mov_mr(RAX, SLOT_MESSAGE, RCX)
    a.mov_rr(RDI, RAX)
    a.mov_rr(RSI, RAX)
    a.mov_ri(RDX, 1)
    a.jmp("give_slots")


def _emit_give_slots(a: Operations, machine: Machine) -> None:
    """Append a chain of slots, rdi to rsi, rdx of them, to the free ones."""
    a.label("callgate_give_slots")
    a.accept()
    a.label("give_slots")
    if machine.layout.is_free_threaded:
        # rbx the first   rbp the last   r12 their count
        a.enter((RBX, RBP, R12), 0)
        a.mov_rr(RBX, RDI)
        a.mov_rr(RBP, RSI)
        a.mov_rr(R12, RDX)
        _lock(a, machine, "pthread_mutex_lock")
        a.mov_rr(RDI, RBX)
        a.mov_rr(RSI, RBP)
        a.mov_rr(RDX, R12)
    a.mov_rl(RCX, "free_slots")
    a.mov_mi(RSI, SLOT_NEXT, 0)
    a.mov_rm(RAX, RCX, FREE_COUNT)
    a.test_rr(RAX, RAX)
    a.jcc("e", "first_slots")
    a.mov_rm(RAX, RCX, FREE_TAIL)
    a.mov_mr(RAX, SLOT_NEXT, RDI)
    a.jmp("slots_chained")
    a.label("first_slots")
    a.mov_mr(RCX, FREE_HEAD, RDI)
    a.label("slots_chained")
    a.mov_mr(RCX, FREE_TAIL, RSI)
    a.mov_rm(RAX, RCX, FREE_COUNT)
    a.add_rr(RAX, RDX)
    a.mov_mr(RCX, FREE_COUNT, RAX)
    if machine.layout.is_free_threaded:
        _lock(a, machine, "pthread_mutex_unlock")
        a.leave((RBX, RBP, R12), 0)
    a.ret()


# -- where threads run at once -------------------------------------------------------------------------------------
# Nothing that could wait for other threads is called with a lock held: whoever waits for the lock cannot be stopped,
# and the world is stopped to collect garbage and to fork.


def _lock(a: Operations, machine: Machine, step: str) -> None:
    """Lock or unlock the list of free slots; where a GIL is held that is lock enough."""
    if machine.layout.is_free_threaded:
        a.mov_rl(RDI, "slots_lock")
        a.call_l(step)


def _emit_hold(a: Operations) -> None:
    """Hold the record of a slot, if the slot is still that of a callback of this stub's and the callback lives."""
    # rbx the slot   rbp the stub, then the weak reference   [rsp] the record
    a.label("callgate_hold")
    a.enter((RBX, RBP), 8)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RSI)
    a.mov_mi(RSP, 0, 0)
    a.add_ri(RDI, SLOT_LOCK)
    a.call_l("pthread_spin_lock")
    a.cmp_mr(RBX, SLOT_STUB, RBP)
    a.mov_rm(RBP, RBX, SLOT_RECORD)
    a.jcc("e", "hold_reference")
    a.xor32_rr(RBP, RBP)
    a.label("hold_reference")
    a.mov_rr(RDI, RBP)
    a.note("0 is no object to it")
    a.call_l("Py_IncRef")
    a.lea(RDI, RBX, SLOT_LOCK)
    a.call_l("pthread_spin_unlock")
    a.test_rr(RBP, RBP)
    a.jcc("e", "held")
    a.mov_rr(RDI, RBP)
    a.lea(RSI, RSP, 0)
    a.call_l("PyWeakref_GetRef")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.label("held")
    a.mov_rm(RAX, RSP, 0)
    a.leave((RBX, RBP), 8)
    a.ret()


def _emit_set_record(a: Operations) -> None:
    """Put a weak reference into a slot, or 0; the slot owns what it has."""
    # rbx the slot   rbp the new one, then the old one
    a.label("callgate_set_record")
    a.accept()
    a.label("set_record")
    a.enter((RBX, RBP), 8)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RSI)
    a.mov_rr(RDI, RSI)
    a.call_l("Py_IncRef")
    a.lea(RDI, RBX, SLOT_LOCK)
    a.call_l("pthread_spin_lock")
    a.mov_rm(RAX, RBX, SLOT_RECORD)
    a.mov_mr(RBX, SLOT_RECORD, RBP)
    a.mov_rr(RBP, RAX)
    a.lea(RDI, RBX, SLOT_LOCK)
    a.call_l("pthread_spin_unlock")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.leave((RBX, RBP), 8)
    a.ret()
