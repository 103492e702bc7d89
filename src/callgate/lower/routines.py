"""The routines that all gates share: conversion of whatever the inline paths do not take, keywords, errors.

Ordinary functions of the C calling convention, assembled once for a process.  Objects that the machine code
does not know either go to the gate's Python methods (`_convert` and the `_refuse…` family of `runtime.gate`), which
convert them or raise: the rule for what is accepted is written there once, for both engines.

    callgate_arrange(self, args, count, kwnames, out) -> 0, or 1 with an exception set
    callgate_release(views, count)
    callgate_fail(self, code, errno), callgate_null(self, which) -> 0, an exception set
    callgate_changed(self, words) -> 0, an exception set (where calls are checked)
    callgate_judge(self, result, errno) -> result, or 0 with an exception set and the result given up
    callgate_box_python(self, which, word), callgate_box_enum(members, type, value, is_unsigned) -> object, or 0
    callgate_raised(): the zero flag is clear where a callback of this thread left an exception
    callgate_error_set(): the same, also where C set it

Long because it is a collection: each routine is a page, and none needs another but by its label.
"""

from __future__ import annotations

from callgate.asm.code import Code
from callgate.lower.conversion_routine import emit_convert
from callgate.lower.ctypes_routines import emit_ctypes_routines
from callgate.lower.machine import (
    DATA_NAMES,
    ENTRY_CODE,
    ENTRY_GATE,
    ENTRY_TYPES,
    VARIADIC_COUNT,
    VARIADIC_ENTRIES,
    VARIADIC_FIXED,
    VIEW_BYTES,
    VIEW_OBJECT,
    Machine,
)
from callgate.lower.operations import (
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    XMM0,
    Operations,
    operations,
)
from callgate.lower.routine import call_method, enter, leave
from callgate.lower.stacks import emit_stack_routines


def lower_routines(machine: Machine, *, with_listing: bool = False) -> Code:
    """All shared routines in one Code; each starts at the label of its name."""
    a = operations(machine.target, with_listing=with_listing)
    for emit in (
        _emit_personality,
        emit_convert,
        _emit_keywords,
        _emit_release,
        _emit_errors,
        _emit_variadic,
        _emit_judge,
        _emit_boxes,
        emit_ctypes_routines,
        emit_stack_routines,
    ):
        emit(a, machine)
    return a.finish()


_UA_SEARCH_PHASE, _UA_FORCE_UNWIND, _URC_CONTINUE_UNWIND = 1, 8, 8  # unwind.h


def _emit_personality(a: Operations, machine: Machine) -> None:
    """The personality routine of gates (psABI 6.2.5): exceptions are reported, forced unwinding passes."""
    a.label("callgate_personality")
    a.mov32_rr(RAX, RSI)
    a.and32_ri(RAX, _UA_SEARCH_PHASE | _UA_FORCE_UNWIND)
    a.cmp32_ri(RAX, _UA_SEARCH_PHASE)
    a.jcc("ne", "unwind_on")
    a.note("the callback that ends the process")
    a.mov_rl(RAX, "cxx_report")
    a.jmp_m(RAX, 0)
    a.label("unwind_on")
    a.mov_ri(RAX, _URC_CONTINUE_UNWIND)
    a.ret()


# -- keywords --------------------------------------------------------------------------------------
# rbx self   rbp kwnames   r12 args   r13 out   r14 the names   r15 counter
# [rsp] count of positional arguments   [rsp+8] count of names   [rsp+16] keyword   [rsp+24] inner counter
_KEYWORDS_SCRATCH = 40


def _emit_keywords(a: Operations, machine: Machine) -> None:
    """Bring positional and keyword arguments into the order of the declaration; kwnames may be 0 (a wrong count)."""
    layout = machine.layout
    enter(a, "callgate_arrange", _KEYWORDS_SCRATCH)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RCX)
    a.mov_rr(R12, RSI)
    a.mov_rr(R13, R8)
    a.mov_mr(RSP, 0, RDX)
    a.mov_rm(RAX, RDI, layout.gate_data_offset)
    a.mov_rm(R14, RAX, layout.bytes_data_offset + DATA_NAMES)
    a.mov_rr(RDI, R14)
    a.call_l("PyTuple_Size")
    a.mov_mr(RSP, 8, RAX)
    a.cmp_rm(RAX, RSP, 0)
    a.jcc("l", "keywords_refused")
    a.test_rr(RBP, RBP)
    a.jcc("e", "keywords_refused")

    a.note("out[i] = args[i], 0 beyond the positional ones")
    a.xor32_rr(RCX, RCX)
    a.mov_rr(RSI, R12)
    a.mov_rr(RDI, R13)
    a.label("copy")
    a.cmp_rm(RCX, RSP, 8)
    a.jcc("ge", "copied")
    a.xor32_rr(RAX, RAX)
    a.cmp_rm(RCX, RSP, 0)
    a.jcc("ge", "copy_store")
    a.mov_rm(RAX, RSI, 0)
    a.label("copy_store")
    a.mov_mr(RDI, 0, RAX)
    a.add_ri(RSI, 8)
    a.add_ri(RDI, 8)
    a.add_ri(RCX, 1)
    a.jmp("copy")
    a.label("copied")

    a.note("r12 = the first keyword's value")
    a.mov_rm(RAX, RSP, 0)
    a.shl_ri(RAX, 3)
    a.add_rr(R12, RAX)
    a.xor32_rr(R15, R15)
    a.label("next_keyword")
    a.mov_rr(RDI, RBP)
    a.call_l("PyTuple_Size")
    a.cmp_rr(R15, RAX)
    a.jcc("ge", "keywords_placed")
    a.mov_rr(RDI, RBP)
    a.mov_rr(RSI, R15)
    a.call_l("PyTuple_GetItem")
    a.mov_mr(RSP, 16, RAX)

    a.note("which parameter? names are interned: first by identity")
    a.mov_mi(RSP, 24, 0)
    a.label("by_identity")
    a.mov_rm(RSI, RSP, 24)
    a.cmp_rm(RSI, RSP, 8)
    a.jcc("ge", "not_identical")
    a.mov_rr(RDI, R14)
    a.call_l("PyTuple_GetItem")
    a.cmp_rm(RAX, RSP, 16)
    a.jcc("e", "found")
    a.inc_m(RSP, 24)
    a.jmp("by_identity")
    a.label("not_identical")
    a.mov_mi(RSP, 24, 0)
    a.label("by_value")
    a.mov_rm(RSI, RSP, 24)
    a.cmp_rm(RSI, RSP, 8)
    a.jcc("ge", "keywords_refused")
    a.mov_rr(RDI, R14)
    a.call_l("PyTuple_GetItem")
    a.note("positional-only names are None")
    a.cmp_rl(RAX, "Py_None")
    a.jcc("e", "by_value_next")
    a.mov_rr(RDI, RAX)
    a.mov_rm(RSI, RSP, 16)
    a.call_l("PyUnicode_Compare")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "found")
    a.label("by_value_next")
    a.inc_m(RSP, 24)
    a.jmp("by_value")

    a.label("found")
    a.mov_rm(RDI, RSP, 24)
    a.shl_ri(RDI, 3)
    a.add_rr(RDI, R13)
    a.note("given twice?")
    a.cmp_mi(RDI, 0, 0)
    a.jcc("ne", "keywords_refused")
    a.mov_rm(RAX, R12, 0)
    a.mov_mr(RDI, 0, RAX)
    a.add_ri(R12, 8)
    a.add_ri(R15, 1)
    a.jmp("next_keyword")

    a.label("keywords_placed")
    a.mov_rr(RDI, R13)
    a.xor32_rr(RCX, RCX)
    a.label("check_missing")
    a.cmp_rm(RCX, RSP, 8)
    a.jcc("ge", "keywords_complete")
    a.cmp_mi(RDI, 0, 0)
    a.jcc("e", "keywords_refused")
    a.add_ri(RDI, 8)
    a.add_ri(RCX, 1)
    a.jmp("check_missing")
    a.label("keywords_complete")
    a.xor32_rr(RAX, RAX)
    leave(a, _KEYWORDS_SCRATCH)

    a.label("keywords_refused")
    a.mov_rm(RDI, RSP, 0)
    a.call_l("PyLong_FromLong")
    a.mov_mr(RSP, 24, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "keywords_raised")

    def arguments() -> None:
        a.mov_rr(RDX, RAX)
        a.mov_rr(RCX, RBP)

    call_method(a, "_refuse_arguments", arguments, 2)
    a.mov_rm(RDI, RSP, 24)
    a.call_l("Py_DecRef")
    a.label("keywords_raised")
    a.mov_ri(RAX, 1)
    leave(a, _KEYWORDS_SCRATCH)


def _emit_release(a: Operations, machine: Machine) -> None:
    """Release `rsi` views from rdi on; those that hold nothing are skipped by PyBuffer_Release itself."""
    a.label("callgate_release")
    a.enter((RBX, RBP), 8)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RSI)
    a.label("release_one")
    a.cmp_mi(RBX, VIEW_OBJECT, 0)
    a.jcc("e", "release_skip")
    a.mov_rr(RDI, RBX)
    a.call_l("PyBuffer_Release")
    a.label("release_skip")
    a.add_ri(RBX, VIEW_BYTES)
    a.sub_ri(RBP, 1)
    a.jcc("ne", "release_one")
    a.leave((RBX, RBP), 8)
    a.ret()


def _emit_errors(a: Operations, machine: Machine) -> None:
    """The calls into Python that only raise: each makes ints of its words, calls a method, drops what it returns."""
    _emit_raise(a, "callgate_null", "_refuse_null", 1)
    _emit_raise(a, "callgate_fail", "_fail", 2)
    if machine.checks_calls:
        _emit_raise(a, "callgate_changed", "_refuse_changed", 1)


def _emit_raise(a: Operations, label: str, method: str, words: int) -> None:
    # rbx self   rbp, r12 the ints
    a.label(label)
    a.enter((RBX, RBP, R12), 0)
    a.mov_rr(RBX, RDI)
    a.mov_rr(R12, RDX)
    a.mov_rr(RDI, RSI)
    a.call_l("PyLong_FromLong")
    a.mov_rr(RBP, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", f"{label}_raised")
    if words == 2:
        a.mov_rr(RDI, R12)
        a.call_l("PyLong_FromLong")
        a.mov_rr(R12, RAX)
        a.test_rr(RAX, RAX)
        a.jcc("e", f"{label}_drop")

    def arguments() -> None:
        a.mov_rr(RDX, RBP)
        if words == 2:
            a.mov_rr(RCX, R12)

    call_method(a, method, arguments, words)
    if words == 2:
        a.mov_rr(RDI, R12)
        a.call_l("Py_DecRef")
        a.label(f"{label}_drop")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.label(f"{label}_raised")
    a.xor32_rr(RAX, RAX)
    a.leave((RBX, RBP, R12), 0)
    a.ret()


def _emit_variadic(a: Operations, machine: Machine) -> None:
    """The code of every variadic gate: find the gate for the types of the arguments, and go on there.

    A variadic gate's data: 0 the count of fixed arguments, 8 the count of entries, then the entries: 0 the count of all
    arguments, 8 the gate, 16 its code, 24 the types of the variable arguments.  Where none fits Python makes one.
    """
    layout = machine.layout
    a.label("callgate_variadic")
    a.accept()
    a.mov_rm(RAX, RDI, layout.gate_data_offset)
    a.add_ri(RAX, layout.bytes_data_offset)
    a.note("keyword arguments?")
    a.test_rr(RCX, RCX)
    a.jcc("ne", "variadic_keywords")
    a.note("r8 fixed arguments, r9 entries left, rax the entry")
    a.mov_rm(R8, RAX, VARIADIC_FIXED)
    a.mov_rm(R9, RAX, VARIADIC_COUNT)
    a.add_ri(RAX, VARIADIC_ENTRIES)
    a.label("variadic_entry")
    a.test_rr(R9, R9)
    a.jcc("e", "variadic_miss")
    a.mov_rm(R10, RAX, 0)
    a.cmp_rr(R10, RDX)
    a.jcc("ne", "variadic_next")
    a.note("r10 types left, r11 the argument, rcx the type")
    a.sub_rr(R10, R8)
    a.mov_rr(R11, R8)
    a.shl_ri(R11, 3)
    a.add_rr(R11, RSI)
    a.lea(RCX, RAX, ENTRY_TYPES)
    a.movq_xr(XMM0, R9)
    a.label("variadic_type")
    a.test_rr(R10, R10)
    a.jcc("e", "variadic_found")
    a.mov_rm(R9, R11, 0)
    a.mov_rm(R9, R9, layout.type_offset)
    a.cmp_rm(R9, RCX, 0)
    a.jcc("ne", "variadic_other")
    a.add_ri(R11, 8)
    a.add_ri(RCX, 8)
    a.sub_ri(R10, 1)
    a.jmp("variadic_type")
    a.label("variadic_other")
    a.movq_rx(XMM0, R9)
    a.mov_rm(R10, RAX, 0)
    a.label("variadic_next")
    a.sub_rr(R10, R8)
    a.shl_ri(R10, 3)
    a.add_rr(RAX, R10)
    a.add_ri(RAX, ENTRY_TYPES)
    a.sub_ri(R9, 1)
    a.jmp("variadic_entry")
    a.label("variadic_found")
    a.xor32_rr(RCX, RCX)
    a.mov_rm(RDI, RAX, ENTRY_GATE)
    a.jmp_m(RAX, ENTRY_CODE)  # behind what accepts

    a.note("self._call_new(*args), which makes the gate and calls it")
    a.label("variadic_miss")
    a.enter((RBX, RBP, R12), 0)
    a.mov_rr(RBX, RSI)
    a.mov_rr(RBP, RDX)
    a.mov_rl(RSI, "name:_call_new")
    a.call_l("PyObject_GetAttr")
    a.test_rr(RAX, RAX)
    a.jcc("e", "variadic_called")
    a.mov_rr(RSI, RBX)
    a.mov_rr(RDX, RBP)
    a.xor32_rr(RCX, RCX)
    a.mov_rr(RBX, RAX)
    a.mov_rr(RDI, RAX)
    a.call_l("PyObject_Vectorcall")
    a.mov_rr(RBP, RAX)
    a.mov_rr(RDI, RBX)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, RBP)
    a.label("variadic_called")
    a.leave((RBX, RBP, R12), 0)
    a.ret()

    a.label("variadic_keywords")
    a.enter((RBX, RBP), 8)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RCX)
    a.mov_rr(RDI, RDX)
    a.call_l("PyLong_FromLong")
    a.mov_mr(RSP, 0, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "variadic_refused")

    def arguments() -> None:
        a.mov_rr(RDX, RAX)
        a.mov_rr(RCX, RBP)

    call_method(a, "_refuse_arguments", arguments, 2)
    a.mov_rm(RDI, RSP, 0)
    a.call_l("Py_DecRef")
    a.label("variadic_refused")
    a.xor32_rr(RAX, RAX)
    a.leave((RBX, RBP), 8)
    a.ret()


def _emit_judge(a: Operations, machine: Machine) -> None:
    """Call self._judge(result, errno) -> None or an exception; on an exception give up the result."""
    # rbx self   rbp result   r12 errno, then what came back
    a.label("callgate_judge")
    a.enter((RBX, RBP, R12), 0)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RSI)
    a.mov32_rr(RDI, RDX)
    a.call_l("PyLong_FromLong")
    a.mov_rr(R12, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "judge_failed")

    def arguments() -> None:
        a.mov_rr(RDX, RBP)
        a.mov_rr(RCX, R12)

    call_method(a, "_judge", arguments, 2)
    a.mov_rr(RDI, R12)
    a.mov_rr(R12, RAX)
    a.call_l("Py_DecRef")
    a.test_rr(R12, R12)
    a.jcc("e", "judge_failed")
    a.mov_rr(RDI, R12)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, RBP)
    a.jmp("judge_done")
    a.label("judge_failed")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.xor32_rr(RAX, RAX)
    a.label("judge_done")
    a.leave((RBX, RBP, R12), 0)
    a.ret()


def _emit_boxes(a: Operations, machine: Machine) -> None:
    """What the gate's Python methods make, and enum members; and whether a callback raised."""
    # rbx self   rbp, r12, r13 the ints
    enter(a, "callgate_box_python", 8)
    a.mov_rr(RBX, RDI)
    a.mov_rr(R12, RDX)
    a.mov_rr(R13, RCX)
    a.mov_rr(RDI, RSI)
    a.call_l("PyLong_FromLong")
    a.mov_rr(RBP, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "python_boxed")
    a.mov_rr(RDI, R12)
    a.call_l("PyLong_FromUnsignedLong")
    a.mov_rr(R12, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "python_drop")
    a.mov_rr(RDI, R13)
    a.call_l("PyLong_FromUnsignedLong")
    a.mov_rr(R13, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "python_drop_two")

    def arguments() -> None:
        a.mov_rr(RDX, RBP)
        a.mov_rr(RCX, R12)
        a.mov_rr(R8, R13)

    call_method(a, "_box", arguments, 3)
    a.mov_rr(RDI, R13)
    a.mov_rr(R13, RAX)
    a.call_l("Py_DecRef")
    a.label("python_drop_two")
    a.mov_rr(RDI, R12)
    a.mov_rr(R12, R13)
    a.call_l("Py_DecRef")
    a.label("python_drop")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, R12)
    a.label("python_boxed")
    leave(a, 8)

    a.note("the zero flag is clear where a callback of this thread raised: its exception becomes the gate's")
    _emit_raised(a, "callgate_raised", is_counted=not machine.layout.is_free_threaded)
    a.note("where C sets exceptions itself the count stays: it may be of another thread, whose exception waits")
    _emit_raised(a, "callgate_error_set", is_counted=False)

    # rbx members (value -> member)   rbp the class   r12 the int
    a.label("callgate_box_enum")
    a.enter((RBX, RBP, R12), 0)
    a.mov_rr(RBX, RDI)
    a.mov_rr(RBP, RSI)
    a.mov_rr(RDI, RDX)
    a.test32_rr(RCX, RCX)
    a.jcc("ne", "enum_unsigned")
    a.call_l("PyLong_FromLong")
    a.jmp("enum_value")
    a.label("enum_unsigned")
    a.call_l("PyLong_FromUnsignedLong")
    a.label("enum_value")
    a.mov_rr(R12, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "enum_done")
    a.mov_rr(RDI, RBX)
    a.mov_rr(RSI, RAX)
    a.call_l("PyDict_GetItemWithError")
    a.test_rr(RAX, RAX)
    a.jcc("e", "enum_unknown")
    a.mov_rr(RBX, RAX)
    a.mov_rr(RDI, RAX)
    a.call_l("Py_IncRef")
    a.jmp("enum_found")
    a.note("the class composes flags, or raises ValueError")
    a.label("enum_unknown")
    a.mov_rr(RDI, RBP)
    a.mov_rr(RSI, R12)
    a.xor32_rr(RDX, RDX)
    a.xor32_rr(RAX, RAX)
    a.call_l("PyObject_CallFunctionObjArgs")
    a.mov_rr(RBX, RAX)
    a.label("enum_found")
    a.mov_rr(RDI, R12)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, RBX)
    a.label("enum_done")
    a.leave((RBX, RBP, R12), 0)
    a.ret()


def _emit_raised(a: Operations, name: str, *, is_counted: bool) -> None:
    a.label(name)
    a.enter((), 24)
    a.mov_mr(RSP, 0, RAX)
    a.movsd_mx(RSP, 8, XMM0)
    a.call_l("PyErr_Occurred")
    a.mov_rr(RCX, RAX)
    if is_counted:
        a.test_rr(RCX, RCX)
        a.jcc("e", "none_raised")
        a.mov_rl(RAX, "raised_count")
        a.cmp_mi(RAX, 0, 0)
        a.jcc("e", "none_raised")
        a.dec_m(RAX, 0)
        a.label("none_raised")
    a.mov_rm(RAX, RSP, 0)
    a.movsd_xm(XMM0, RSP, 8)
    a.leave((), 24)
    a.test_rr(RCX, RCX)
    a.ret()
