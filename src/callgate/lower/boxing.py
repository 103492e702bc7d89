"""Boxing: C values in rax, xmm0, st0 or memory become Python objects.

Used by gates for results and Out parameters, and by callbacks for arguments.  What it needs of either is the same:
an assembler, a layout, a frame with `self_slot` and `result_slot`, and the count of steps in the data that `self`
carries.
"""

from __future__ import annotations

from typing import Protocol

from callgate.cpython.conversion import Box, BoxStep
from callgate.cpython.layout import DIGIT_BITS, Layout
from callgate.errors import unreachable
from callgate.lower.machine import result_operand_offset
from callgate.lower.operations import R11, RAX, RCX, RDI, RDX, RSI, RSP, XMM0, Operations

POINTER_BOXES = frozenset((Box.STRING, Box.BYTES, Box.WIDE_STRING, Box.HANDLE, Box.PYTHON, Box.OBJECT, Box.ADDRESS))
"""Boxes of pointers, which can be NULL."""

FLOATING_BOXES = frozenset((Box.DOUBLE, Box.FLOAT, Box.LONG_DOUBLE))

UNROLLED_BYTES = 64
"""Memory up to this size is copied word by word, more by memcpy."""


class BoxingFrame(Protocol):
    """What boxing needs of a stack frame: offsets from rsp."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def self_slot(self) -> int: ...
    @property
    def result_slot(self) -> int: ...


def emit_copy(
    a: Operations, destination: int, offset: int, source: int, source_offset: int, size: int, through: int = RDX
) -> None:
    """Copy a few bytes through a register, none beyond the size."""
    done = 0
    while size - done >= 8:
        a.mov_rm(through, source, source_offset + done)
        a.mov_mr(destination, offset + done, through)
        done += 8
    for width, load, store in ((4, a.mov32_rm, a.mov32_mr), (2, a.movzx16_rm, a.mov16_mr), (1, a.movzx8_rm, a.mov8_mr)):
        if size - done >= width:
            load(through, source, source_offset + done)
            store(destination, offset + done, through)
            done += width


class Boxing:
    """The emission of boxes; a base of what emits gates and callbacks."""

    def __init__(self, assembler: Operations, layout: Layout, frame: BoxingFrame, step_count: int) -> None:
        self.a = assembler
        self.layout = layout
        self.frame: BoxingFrame = frame
        self.step_count = step_count
        self.saved: tuple[int, ...] = ()

    def _extend(self, step: BoxStep) -> None:
        a = self.a
        is_unsigned = step.is_unsigned or step.kind in (Box.BOOL, Box.CHARACTER, Box.WIDE_CHARACTER, Box.UNSIGNED)
        match step.size_bytes, is_unsigned:
            case 1, True:
                a.movzx8_rr(RAX, RAX)
            case 1, False:
                a.movsx8_rr(RAX, RAX)
            case 2, True:
                a.movzx16_rr(RAX, RAX)
            case 2, False:
                a.movsx16_rr(RAX, RAX)
            case 4, True:
                a.mov32_rr(RAX, RAX)
            case 4, False:
                a.movsxd_rr(RAX, RAX)
            case _:
                pass

    def _leave_frame(self) -> None:
        self.a.leave(self.saved, self.frame.size_bytes)

    def _finish_box(self, *, is_tail: bool) -> None:
        if is_tail:
            self._leave_frame()
            self.a.ret()

    def _tail(self, symbol: str, *, is_tail: bool) -> None:
        """Call a C API function, or end by jumping to it."""
        if is_tail:
            self._leave_frame()
            self.a.jmp_l(symbol)
        else:
            self.a.call_l(symbol)

    def _box_none(self) -> None:
        self.a.mov_rl(RAX, "Py_None")
        self._incref()

    def _incref(self) -> None:
        if not self.layout.has_immortals:
            self.a.inc_m(RAX, 0)

    def _box(self, step: BoxStep, label: str, operand: int, *, is_tail: bool) -> None:
        """Box rax, xmm0 or st0 into rax (0 on error); `is_tail` ends the gate."""
        a, frame = self.a, self.frame
        match step.kind:
            case Box.NONE:
                self._box_none()
            case Box.SIGNED | Box.UNSIGNED:
                self._box_int(step, label, is_tail=is_tail)
                return
            case Box.DOUBLE:
                self._box_double(label, is_tail=is_tail)
                return
            case Box.FLOAT:
                a.cvtss2sd_xx(XMM0, XMM0)
                self._box_double(label, is_tail=is_tail)
                return
            case Box.LONG_DOUBLE:
                a.fstp64_x(XMM0, RSP, frame.result_slot)
                self._box_double(label, is_tail=is_tail)
                return
            case Box.BOOL:
                a.test32_rr(RAX, RAX)
                a.mov_rl(RAX, "Py_True")
                a.jcc("ne", f"{label}_true")
                a.mov_rl(RAX, "Py_False")
                a.label(f"{label}_true")
                self._incref()
            case Box.CHARACTER:
                a.mov_mr(RSP, frame.result_slot, RAX)
                a.lea(RDI, RSP, frame.result_slot)
                a.mov_ri(RSI, 1)
                a.call_l("PyBytes_FromStringAndSize")
            case Box.WIDE_CHARACTER:
                a.mov_rr(RDI, RAX)
                self._tail("PyUnicode_FromOrdinal", is_tail=is_tail)
                return
            case Box.STRUCT | Box.WIDE:
                raise AssertionError("values of several words are boxed from memory")
            case Box.STRING | Box.BYTES | Box.WIDE_STRING | Box.HANDLE | Box.PYTHON | Box.OBJECT | Box.ADDRESS:
                self._box_pointer(step, label, operand, is_tail=is_tail)
                return
            case Box.CALLED:
                a.movsxd_rr(RDI, RAX)
                a.call_l("PyLong_FromLong")
                a.mov_mr(RSP, frame.result_slot, RAX)
                a.test_rr(RAX, RAX)
                a.jcc("e", f"{label}_done")
                self._load_operands(operand)
                a.mov_rm(RSI, RSP, frame.result_slot)
                a.xor32_rr(RDX, RDX)
                a.xor32_rr(RAX, RAX)
                a.call_l("PyObject_CallFunctionObjArgs")
                a.mov_rm(RDI, RSP, frame.result_slot)
                a.mov_mr(RSP, frame.result_slot, RAX)
                a.call_l("Py_DecRef")
                a.mov_rm(RAX, RSP, frame.result_slot)
                a.label(f"{label}_done")
            case Box.ENUM:
                self._load_operands(operand)
                a.mov_rr(RDX, RAX)
                a.mov_ri(RCX, int(step.is_unsigned))
                self._tail("callgate_box_enum", is_tail=is_tail)
                return
            case _:
                unreachable(step.kind)
        self._finish_box(is_tail=is_tail)

    def _take_freed(self, symbol: str, otherwise: str) -> None:
        """rax = the first object of a free list, with one reference; `otherwise` where there is none."""
        a = self.a
        a.note("one that was freed?")
        a.mov_rl(RCX, symbol)
        a.mov_rm(RAX, RCX, 0)
        a.test_rr(RAX, RAX)
        a.jcc("e", otherwise)
        a.note("the next")
        a.mov_rm(RDX, RAX, 0)
        a.mov_mr(RCX, 0, RDX)
        a.dec_m(RCX, 8)
        a.mov_mi(RAX, 0, 1)

    def _finish_inline(self, label: str, *, is_tail: bool) -> None:
        """The object is in rax; what follows is for the others."""
        if is_tail:
            self._finish_box(is_tail=True)
        else:
            self.a.jmp(f"{label}_boxed")

    def _box_double(self, label: str, *, is_tail: bool) -> None:
        a = self.a
        offset = self.layout.float_value_offset if self.layout.has_free_lists else None
        if offset is not None:
            self._take_freed("free_floats", f"{label}_new")
            a.movsd_mx(RAX, offset, XMM0)
            self._finish_inline(label, is_tail=is_tail)
            a.label(f"{label}_new")
        self._tail("PyFloat_FromDouble", is_tail=is_tail)
        if offset is not None and not is_tail:
            a.label(f"{label}_boxed")

    def _load_operands(self, operand: int) -> None:
        """rdi, rsi = the two operands of a result."""
        a, layout = self.a, self.layout
        offset = layout.bytes_data_offset + result_operand_offset(self.step_count, operand)
        a.mov_rm(R11, RSP, self.frame.self_slot)
        a.mov_rm(R11, R11, layout.gate_data_offset)
        a.mov_rm(RDI, R11, offset)
        a.mov_rm(RSI, R11, offset + 8)

    def _box_int(self, step: BoxStep, label: str, *, is_tail: bool) -> None:
        a, small, form = self.a, self.layout.small_ints, self.layout.ints
        is_wide = step.kind is Box.UNSIGNED and step.size_bytes == 8
        if small is not None:
            shift = small.stride_bytes.bit_length() - 1
            a.note("a shared small int?")
            if is_wide:
                a.cmp_ri(RAX, small.maximum + 1)
            else:
                a.lea(RCX, RAX, -small.minimum)
                a.cmp_ri(RCX, small.maximum - small.minimum + 1)
            a.jcc("ae", f"{label}_large")
            a.index_rl(RAX, shift, "small_int_0")
            self._incref()
            self._finish_inline(label, is_tail=is_tail)
            a.label(f"{label}_large")
        a.mov_rr(RDI, RAX)
        if self.layout.has_free_lists and form is not None and small is not None:
            a.note("one positive digit?")
            a.cmp_ri(RDI, (1 << DIGIT_BITS) - 1)
            a.jcc("a", f"{label}_new")
            self._take_freed("free_ints", f"{label}_new")
            a.mov_mi(RAX, form.tag_offset, form.one_positive_digit)
            a.mov32_mr(RAX, form.digit_offset, RDI)
            self._finish_inline(label, is_tail=is_tail)
            a.label(f"{label}_new")
        self._tail("PyLong_FromUnsignedLong" if is_wide else "PyLong_FromLong", is_tail=is_tail)
        if not is_tail and small is not None:
            a.label(f"{label}_boxed")

    def _box_pointer(self, step: BoxStep, label: str, operand: int, *, is_tail: bool) -> None:
        a = self.a
        can_be_null = step.is_nullable or self._refuses_null(step)
        if can_be_null:
            a.test_rr(RAX, RAX)
            a.jcc("e", f"{label}_null")
        match step.kind:
            case Box.STRING:
                a.mov_rr(RDI, RAX)
                a.call_l("PyUnicode_FromString")
            case Box.BYTES:
                a.mov_rr(RDI, RAX)
                a.call_l("PyBytes_FromString")
            case Box.WIDE_STRING:
                a.mov_rr(RDI, RAX)
                a.mov_ri(RSI, -1)
                a.call_l("PyUnicode_FromWideChar")
            case Box.ADDRESS:
                a.mov_rr(RDI, RAX)
                a.call_l("PyLong_FromUnsignedLong")
            case Box.OBJECT:
                pass  # the reference is C's to give, as ctypes has it
            case Box.PYTHON:
                a.mov_rr(RDX, RAX)
                self._load_length(step, operand)
                self._box_in_python(operand)
            case _:
                a.mov_mr(RSP, self.frame.result_slot, RAX)
                self._new_record(operand)
                a.test_rr(RAX, RAX)
                a.jcc("e", f"{label}_done")
                a.mov_rm(RCX, RAX, self.layout.cdata_pointer_offset)
                a.mov_rm(RDX, RSP, self.frame.result_slot)
                a.mov_mr(RCX, 0, RDX)
        if not can_be_null:
            a.label(f"{label}_done")
            self._finish_box(is_tail=is_tail)
            return
        a.jmp(f"{label}_done")
        a.label(f"{label}_null")
        if step.is_nullable:
            self._box_none()
        elif step.kind is Box.PYTHON and operand:
            a.note("refused in Python, which frees the Outs behind it")
            a.xor32_rr(RDX, RDX)
            self._load_length(step, operand)
            self._box_in_python(operand)
        else:
            a.mov_rm(RDI, RSP, self.frame.self_slot)
            a.mov_ri(RSI, operand)
            a.call_l("callgate_null")
        a.label(f"{label}_done")
        self._finish_box(is_tail=is_tail)

    def _refuses_null(self, step: BoxStep) -> bool:
        """Whether NULL is an error where it is not None."""
        return not step.keeps_null

    def _new_record(self, operand: int) -> None:
        """rax = a new instance of the ctypes class of a result, made by the class's own tp_new."""
        a, layout = self.a, self.layout
        offset = layout.bytes_data_offset + result_operand_offset(self.step_count, operand)
        a.mov_rm(R11, RSP, self.frame.self_slot)
        a.mov_rm(R11, R11, layout.gate_data_offset)
        a.mov_rm(RDI, R11, offset)
        a.mov_rl(RSI, "empty_tuple")
        a.xor32_rr(RDX, RDX)
        a.note("tp_new(type, (), 0)")
        a.call_api_m(R11, offset + 8)

    def _load_length(self, step: BoxStep, operand: int) -> None:
        """rcx = the length that goes with a pointer, or where the Outs lie: nothing but gates has them."""
        self.a.xor32_rr(RCX, RCX)

    def _box_in_python(self, operand: int) -> None:
        """rax = self._box(operand, the word in rdx, the length in rcx)."""
        a = self.a
        a.mov_rm(RDI, RSP, self.frame.self_slot)
        a.mov_ri(RSI, operand)
        a.call_l("callgate_box_python")

    def _box_memory(
        self, step: BoxStep, label: str, operand: int, offset: int, *, is_tail: bool, is_reference: bool = False
    ) -> None:
        """Box a value of several words from [rsp + offset], or from where the word there points."""
        a = self.a
        find = a.mov_rm if is_reference else a.lea
        if step.kind is Box.WIDE:
            find(RDX, RSP, offset)
            a.xor32_rr(RCX, RCX)
            self._box_in_python(operand)
            self._finish_box(is_tail=is_tail)
            return
        self._new_record(operand)
        a.test_rr(RAX, RAX)
        a.jcc("e", f"{label}_done")
        a.note("its data")
        a.mov_rm(RCX, RAX, self.layout.cdata_pointer_offset)
        if step.size_bytes <= UNROLLED_BYTES:
            if is_reference:
                a.mov_rm(RSI, RSP, offset)
                emit_copy(a, RCX, 0, RSI, 0, step.size_bytes)
            else:
                emit_copy(a, RCX, 0, RSP, offset, step.size_bytes)
        else:
            a.mov_mr(RSP, self.frame.result_slot, RAX)
            a.mov_rr(RDI, RCX)
            find(RSI, RSP, offset)
            a.mov_ri(RDX, step.size_bytes)
            a.call_l("memcpy")
            a.mov_rm(RAX, RSP, self.frame.result_slot)
        a.label(f"{label}_done")
        self._finish_box(is_tail=is_tail)
