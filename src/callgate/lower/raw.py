"""The builtins `raw.call` and `raw.call_on`: words in, a word out, any address.

Entered as METH_FASTCALL functions: rdi = self (the module), rsi = the argument objects, rdx = their count.  Ints of up
to 64 bits are read here; what is no exact int, or does not fit, goes to a function of the module, which gives the int
for it or raises.

    higher addresses
    |  return address         |
    |  words                  |  the address of the C function, then the arguments that travel in registers
    |  scratch words          |  self, result, arguments, source, destination, left, to come, behind, node
    |  stack arguments        |  <- rsp
    lower addresses

Long because two builtins read words in three ways each: as is usual, one of another count, one by one.
"""

from __future__ import annotations

from typing import NamedTuple

from callgate.abi.plan import CallPlan, classify_types
from callgate.asm.code import Code
from callgate.c import types
from callgate.cpython.conversion import Box, BoxStep
from callgate.cpython.layout import DIGIT_BITS
from callgate.errors import EngineError
from callgate.lower.boxing import Boxing
from callgate.lower.machine import Machine, check_code_is_made
from callgate.lower.operations import (
    R8,
    R9,
    R10,
    R11,
    RAX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    Operations,
    operations,
)
from callgate.lower.stacks import emit_check_thread, emit_claim, emit_come_back, emit_go, emit_release

MOST_WORDS = 32
"""How many arguments a raw call takes."""

_USUAL = 2
"""The count of words for which the builtins need no jump."""

_SIGN_BIT = 2  # of lv_tag
_RESULT = BoxStep(Box.SIGNED, 8)
_WORD_TYPE = types.INT64


class _Frame(NamedTuple):
    """Offsets from rsp in bytes."""

    size_bytes: int
    self_slot: int
    result_slot: int
    arguments: int
    source: int
    destination: int
    left: int
    to_come: int
    behind: int
    node: int
    words: int


def _plan(count: int, machine: Machine) -> CallPlan:
    return classify_types((_WORD_TYPE,) * count, _WORD_TYPE, machine.target)


def lower_raw(machine: Machine, *, with_listing: bool = False) -> Code:
    """The builtins, at the labels `callgate_call` and `callgate_call_on`; EngineError where ints are not known."""
    check_code_is_made(machine)
    if machine.layout.ints is None:
        raise EngineError("the ints of this interpreter look like nothing known")
    a = operations(machine.target, with_listing=with_listing)
    for name, is_on_stack in (("call", False), ("call_on", True)):
        _Raw(a, machine, name, is_on_stack=is_on_stack).emit()
    return a.finish()


class _Raw(Boxing):
    """The emission of one of them."""

    def __init__(self, assembler: Operations, machine: Machine, name: str, *, is_on_stack: bool) -> None:
        self.plan = _plan(MOST_WORDS, machine)
        self.in_registers = [argument.register for argument in self.plan.arguments if argument.register]
        scratch = self.plan.stack_bytes
        slots = [scratch + 8 * number for number in range(10)]
        size = slots[-1] + 8 * (1 + len(self.in_registers)) | 8
        frame = _Frame(size, *slots)
        super().__init__(assembler, machine.layout, frame, 0)
        self.places = frame
        self.name = name
        self.is_on_stack = is_on_stack

    def _label(self, name: str) -> str:
        return f"{self.name}_{name}"

    def emit(self) -> None:
        """Emit every block, hot ones first."""
        a, frame = self.a, self.places
        assert self.layout.ints is not None  # lower_raw
        fixed = 1 + self.is_on_stack
        at_once = 1 + len(self.in_registers)
        a.label(f"callgate_{self.name}")
        a.accept()
        a.enter((), frame.size_bytes)
        if self.is_on_stack:
            self._keep_arguments()
        a.note(f"{_USUAL} words?")
        a.cmp_ri(RDX, fixed + _USUAL)
        a.jcc("ne", self._label("not_usual"))
        if self.is_on_stack:
            a.label(self._label("counted"))
            self._take_stack()
            a.cmp_ri(RDX, 1 + _USUAL)
            a.jcc("ne", self._label("other_count"))
        self._read_quickly(_USUAL)
        a.label(self._label("go"))
        if self.is_on_stack:
            a.mov_rm(R10, RSP, frame.node)
            emit_claim(a, self.layout, R10, RAX, self._label("taken"))
            a.cmp_mi(RSP, frame.behind, 0)
            emit_go(a, self.plan.stack_bytes, self._label("gone"))
        a.vector_count(0)
        a.note("call C")
        a.call_r(R11)
        if self.is_on_stack:
            emit_come_back(a, self.plan.stack_bytes)
            emit_release(a, self.layout, R10, R11)
        a.note("did a callback raise?")
        a.mov_rl(RCX, "raised_count")
        a.cmp_mi(RCX, 0, 0)
        a.jcc("ne", self._label("raised"))
        a.label(self._label("not_raised"))
        self._box(_RESULT, self._label("result"), 0, is_tail=True)
        a.label(self._label("not_usual"))
        if not self.is_on_stack:
            self._keep_arguments()
        a.note(f"{fixed} to {fixed + MOST_WORDS} arguments")
        a.lea(RAX, RDX, -fixed)
        a.cmp_ri(RAX, MOST_WORDS + 1)
        a.jcc("ae", self._label("count"))
        if self.is_on_stack:
            a.jmp(self._label("counted"))
            a.label(self._label("other_count"))
        others = [count for count in range(at_once) if count != _USUAL]
        for count in others:
            a.cmp_ri(RDX, 1 + count)
            a.jcc("e", self._label(f"with_{count}"))
        self._read_all(at_once)
        a.jmp(self._label("go"))
        for count in others:
            a.label(self._label(f"with_{count}"))
            self._read_quickly(count)
            a.jmp(self._label("go"))
        for count in range(at_once):
            a.label(self._label(f"slow_{count}"))
            if count == _USUAL and not self.is_on_stack:
                self._keep_arguments()
            a.mov_ri(RDX, 1 + count)
            a.jmp(self._label("all"))
        self._emit_cold(at_once)

    def _keep_arguments(self) -> None:
        self.a.mov_mr(RSP, self.places.self_slot, RDI)
        self.a.mov_mr(RSP, self.places.arguments, RSI)

    def _take_stack(self) -> None:
        """The first argument is a Stack."""
        a, layout, frame = self.a, self.layout, self.places
        a.label(self._label("again"))
        a.mov_rm(RAX, RSI, 0)
        a.mov_rl(R10, "Stack")
        a.note("a Stack?")
        a.cmp_mr(RAX, layout.type_offset, R10)
        a.jcc("ne", self._label("no_stack"))
        a.mov_rm(RCX, RAX, layout.gate_data_offset)
        a.note("made by Stack()?")
        a.test_rr(RCX, RCX)
        a.jcc("e", self._label("no_stack"))
        a.mov_rm(RCX, RCX, layout.bytes_data_offset)
        emit_check_thread(a, RCX, R10, self._label("new_thread"))
        a.mov_mr(RSP, frame.node, RCX)
        a.add_ri(RSI, 8)
        a.sub_ri(RDX, 1)

    def _read_quickly(self, count: int) -> None:
        """An address and `count` ints of one positive digit, straight to where they travel."""
        a, form, frame = self.a, self.layout.ints, self.places
        assert form is not None
        slow = self._label(f"slow_{count}")
        a.mov_rm(RAX, RSI, 0)
        a.mov_rl(R10, "PyLong_Type")
        a.note("an exact int?")
        a.cmp_mr(RAX, self.layout.type_offset, R10)
        a.jcc("ne", slow)
        a.note("of two positive digits, as addresses are?")
        a.cmp_mi(RAX, form.tag_offset, 16 if form.is_tagged else 2)
        a.jcc("ne", slow)
        a.mov32_rm(R11, RAX, form.digit_offset + 4)
        a.mov32_rm(RAX, RAX, form.digit_offset)
        a.shl_ri(R11, DIGIT_BITS)
        a.add_rr(R11, RAX)
        registers = [(a.general[name], number) for number, name in enumerate(self.in_registers[:count], 1)]
        for register, number in sorted(registers, key=lambda pair: pair[0] == RSI):
            a.note(f"word {number}")
            a.mov_rm(RAX, RSI, 8 * number)
            a.cmp_mr(RAX, self.layout.type_offset, R10)
            a.jcc("ne", slow)
            a.cmp_mi(RAX, form.tag_offset, form.one_positive_digit)
            a.jcc("ne", slow)
            if register not in (RDI, RSI):
                a.mov32_rm(register, RAX, form.digit_offset)
        # Nothing can fail any more: self and the arguments give up their registers.
        for register, number in registers:
            if register == RDI:
                a.mov_rm(RDI, RSI, 8 * number)
                a.mov32_rm(RDI, RDI, form.digit_offset)
        if any(register == RSI for register, _ in registers):
            a.mov32_rm(RSI, RAX, form.digit_offset)
        if self.is_on_stack:
            a.mov_mi(RSP, frame.behind, 0)

    def _read_all(self, at_once: int) -> None:
        """Words of any form and number: the address to r11, the others to their registers and the stack."""
        a, frame = self.a, self.places
        a.label(self._label("all"))
        a.note("those that travel in registers first")
        a.xor32_rr(R9, R9)
        a.cmp_ri(RDX, at_once)
        a.jcc("a", self._label("many"))
        a.label(self._label("shared_out"))
        a.mov_mr(RSP, frame.behind, R9)
        a.lea(R8, RSP, frame.words)
        a.mov_rl(R10, "PyLong_Type")
        self._read_words()
        a.note("more?")
        a.test_rr(R9, R9)
        a.jcc("ne", self._label("more"))
        a.note("an address?")
        a.mov_rm(R11, RSP, frame.words)
        a.test_rr(R11, R11)
        a.jcc("e", self._label("null"))
        for number, register in enumerate(self.in_registers, 1):
            a.mov_rm(a.general[register], RSP, frame.words + 8 * number)

    def _read_words(self) -> None:
        """Read rdx ints from [rsi] on, to [r8] on; r10 is their type."""
        a, form = self.a, self.layout.ints
        assert form is not None
        a.label(self._label("next"))
        a.mov_rm(RAX, RSI, 0)
        a.note("an exact int?")
        a.cmp_mr(RAX, self.layout.type_offset, R10)
        a.jcc("ne", self._label("python"))
        a.mov_rm(RCX, RAX, form.tag_offset)
        a.note("one positive digit?")
        a.cmp_ri(RCX, form.one_positive_digit)
        a.jcc("ne", self._label("other"))
        a.mov32_rm(RAX, RAX, form.digit_offset)
        a.label(self._label("word"))
        a.mov_mr(R8, 0, RAX)
        a.add_ri(RSI, 8)
        a.add_ri(R8, 8)
        a.sub_ri(RDX, 1)
        a.jcc("ne", self._label("next"))

    def _emit_other(self) -> None:
        """Read the exact int in rax, whose tag is in rcx: of up to three digits, and either sign."""
        a, form = self.a, self.layout.ints
        assert form is not None
        a.label(self._label("other"))
        a.note("r11 = the count of digits, rcx = 2 where it is negative")
        a.mov_rr(R11, RCX)
        if form.is_tagged:
            a.shr_ri(R11, 3)
            a.and32_ri(RCX, _SIGN_BIT)
        else:
            a.xor32_rr(RCX, RCX)
            a.test_rr(R11, R11)
            a.jcc("ns", self._label("signed"))
            a.neg_r(R11)
            a.mov_ri(RCX, _SIGN_BIT)
            a.label(self._label("signed"))
        a.mov_mr(RSP, self.places.left, RDX)
        a.xor32_rr(RDX, RDX)
        a.cmp_ri(R11, 1)
        a.jcc("b", self._label("whole"))
        a.mov32_rm(RDX, RAX, form.digit_offset)
        a.jcc("e", self._label("whole"))
        a.cmp_ri(R11, 3)
        a.jcc("a", self._label("long"))
        a.mov32_rm(R11, RAX, form.digit_offset + 4)
        a.shl_ri(R11, DIGIT_BITS)
        a.add_rr(RDX, R11)
        a.mov_rm(R11, RAX, form.tag_offset)
        a.jmp(self._label("third"))
        a.label(self._label("whole"))
        a.mov_rr(RAX, RDX)
        a.mov_rm(RDX, RSP, self.places.left)
        a.test_rr(RCX, RCX)
        a.jcc("e", self._label("word"))
        a.neg_r(RAX)
        a.note("down to -2**63")
        a.test_rr(RAX, RAX)
        a.jcc("s", self._label("word"))
        a.label(self._label("python"))
        self._ask_python()

        a.label(self._label("third"))
        a.note("three digits?")
        if form.is_tagged:
            a.shr_ri(R11, 3)
        else:
            a.test_rr(RCX, RCX)
            a.jcc("e", self._label("counted_again"))
            a.neg_r(R11)
            a.label(self._label("counted_again"))
        a.cmp_ri(R11, 3)
        a.jcc("ne", self._label("whole"))
        a.mov32_rm(RAX, RAX, form.digit_offset + 8)
        a.note("below 2**64")
        a.cmp32_ri(RAX, 15)
        a.jcc("a", self._label("long"))
        a.shl_ri(RAX, 2 * DIGIT_BITS)
        a.add_rr(RDX, RAX)
        a.jmp(self._label("whole"))
        a.label(self._label("long"))
        a.mov_rm(RDX, RSP, self.places.left)
        a.jmp(self._label("python"))

    def _ask_python(self) -> None:
        """The int for the object at [rsi], from the module's function; its index counts from 0."""
        a, frame = self.a, self.places
        a.mov_mr(RSP, frame.source, RSI)
        a.mov_mr(RSP, frame.destination, R8)
        a.mov_mr(RSP, frame.left, RDX)
        a.mov_mr(RSP, frame.to_come, R9)
        a.mov_rr(RDI, RSI)
        a.mov_rm(RAX, RSP, frame.arguments)
        a.sub_rr(RDI, RAX)
        a.shr_ri(RDI, 3)
        a.call_l("PyLong_FromSsize_t")
        a.mov_mr(RSP, frame.result_slot, RAX)
        a.test_rr(RAX, RAX)
        a.jcc("e", self._label("failed"))
        a.mov_rr(RDX, RAX)
        a.mov_rm(RCX, RSP, frame.source)
        a.mov_rm(RCX, RCX, 0)
        a.xor32_rr(R8, R8)
        self._call_module("word")
        a.mov_rm(RDI, RSP, frame.result_slot)
        a.mov_mr(RSP, frame.result_slot, RAX)
        a.call_l("Py_DecRef")
        a.mov_rm(RDI, RSP, frame.result_slot)
        a.test_rr(RDI, RDI)
        a.jcc("e", self._label("failed"))
        a.call_l("PyLong_AsUnsignedLongLongMask")
        a.mov_rm(RDI, RSP, frame.result_slot)
        a.mov_mr(RSP, frame.result_slot, RAX)
        a.call_l("Py_DecRef")
        a.mov_rm(RAX, RSP, frame.result_slot)
        a.mov_rm(RSI, RSP, frame.source)
        a.mov_rm(R8, RSP, frame.destination)
        a.mov_rm(RDX, RSP, frame.left)
        a.mov_rm(R9, RSP, frame.to_come)
        a.mov_rl(R10, "PyLong_Type")
        a.jmp(self._label("word"))

    def _call_module(self, function: str) -> None:
        """rax = a function of the module's, called with the objects from rdx on, up to a 0."""
        a = self.a
        a.mov_rm(RDI, RSP, self.places.self_slot)
        a.mov_rl(RSI, f"name:_{self.name}_{function}")
        a.note("no vector registers: the callee is variadic")
        a.xor32_rr(RAX, RAX)
        a.call_l("PyObject_CallMethodObjArgs")

    def _emit_cold(self, at_once: int) -> None:
        a, frame = self.a, self.places
        a.label(self._label("many"))
        a.mov_rr(R9, RDX)
        a.sub_ri(R9, at_once)
        a.mov_ri(RDX, at_once)
        a.jmp(self._label("shared_out"))
        a.label(self._label("more"))
        a.mov_rr(RDX, R9)
        a.xor32_rr(R9, R9)
        stack_offset = self.plan.arguments[len(self.in_registers)].stack_offset
        a.lea(R8, RSP, stack_offset)
        a.jmp(self._label("next"))
        self._emit_other()

        a.note("0 is no address: refused there")
        a.label(self._label("null"))
        a.mov_rm(RSI, RSP, frame.arguments)
        if self.is_on_stack:
            a.add_ri(RSI, 8)
        a.jmp(self._label("python"))

        a.label(self._label("count"))
        a.mov_rr(RDI, RDX)
        a.call_l("PyLong_FromSsize_t")
        a.mov_mr(RSP, frame.result_slot, RAX)
        a.test_rr(RAX, RAX)
        a.jcc("e", self._label("failed"))
        a.mov_rr(RDX, RAX)
        a.xor32_rr(RCX, RCX)
        self._call_module("refuses_count")
        a.mov_rm(RDI, RSP, frame.result_slot)
        a.call_l("Py_DecRef")
        a.jmp(self._label("failed"))

        if self.is_on_stack:
            a.label(self._label("no_stack"))
            a.mov_rr(RDX, RAX)
            a.xor32_rr(RCX, RCX)
            self._call_module("refuses_stack")
            a.jmp(self._label("failed"))
            a.note("a thread that may have no stack for signal handlers")
            a.label(self._label("new_thread"))
            a.mov_mr(RSP, frame.left, RDX)
            a.mov_rr(RDI, RAX)
            a.mov_rr(RSI, RCX)
            a.call_l("callgate_prepare_stack")
            a.test32_rr(RAX, RAX)
            a.jcc("ne", self._label("failed"))
            a.mov_rm(RSI, RSP, frame.arguments)
            a.mov_rm(RDX, RSP, frame.left)
            a.jmp(self._label("again"))
            a.label(self._label("taken"))
            a.mov_rm(RDI, RSP, frame.arguments)
            a.mov_rm(RDI, RDI, 0)
            a.call_l("callgate_refuse_stack")
            a.jmp(self._label("failed"))

        a.note("some callback raised: of this thread?")
        a.label(self._label("raised"))
        a.call_l("callgate_raised")
        a.jcc("e", self._label("not_raised"))
        a.label(self._label("failed"))
        a.xor32_rr(RAX, RAX)
        a.leave((), frame.size_bytes)
        a.ret()
