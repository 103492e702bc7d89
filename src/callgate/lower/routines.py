"""The routines that all gates share: conversion of whatever the inline paths do not take, keywords, errors.

Ordinary functions of the C calling convention, assembled once for a process.  Objects that the machine code
does not know either go to the gate's Python methods (`_convert` and the `_refuse…` family of `runtime.gate`), which
convert them or raise: the rule for what is accepted is written there once, for both engines.

Long because `callgate_convert` is: one block for each kind of step, in the order of `Unbox`.

    callgate_convert(self, args, values, views) -> 0, or 1 with an exception set and every view released
    callgate_arrange(self, args, count, kwnames, out) -> 0, or 1 with an exception set
    callgate_release(views, count)
    callgate_fail(self, code, errno), callgate_null(self, which) -> 0, an exception set
    callgate_judge(self, result, errno) -> result, or 0 with an exception set and the result given up
    callgate_box_python(self, which, word), callgate_box_enum(members, type, value, is_unsigned) -> object, or 0
    callgate_raised() -> 1 where a callback of this thread left an exception, else 0
"""

from __future__ import annotations

from collections.abc import Callable

from callgate.asm.code import Code
from callgate.asm.x86_64.assembler import Assembler, ListingAssembler
from callgate.asm.x86_64.registers import (
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
    XMM1,
)
from callgate.cpython.conversion import Element, Unbox
from callgate.lower.machine import (
    DATA_NAMES,
    DATA_STEPS,
    ENTRY_CODE,
    ENTRY_GATE,
    ENTRY_TYPES,
    FLAG_NULLABLE,
    FLAG_SIGNED_BYTE,
    FLAG_WRITABLE,
    STEP_BYTES,
    STEP_OPERAND,
    VARIADIC_COUNT,
    VARIADIC_ENTRIES,
    VARIADIC_FIXED,
    VIEW_BYTES,
    VIEW_OBJECT,
    Machine,
)

# Flags of type objects and buffer requests, of the stable ABI (object.h, pybuffer.h).
_INT_SUBCLASS = 1 << 24
_BYTES_SUBCLASS = 1 << 27
_STR_SUBCLASS = 1 << 28
_PY_NB_FLOAT = 11  # typeslots.h
_READ_REQUEST = 0x04 | 0x08 | 0x10 | 0x20  # FORMAT, and C_CONTIGUOUS with the STRIDES and ND that it implies
_WRITE_REQUEST = _READ_REQUEST | 0x01

_VIEW_ITEMSIZE, _VIEW_LENGTH, _VIEW_FORMAT = 24, 16, 40  # offsets in Py_buffer
_SAVED = (RBX, RBP, R12, R13, R14, R15)


def lower_routines(machine: Machine, *, with_listing: bool = False) -> Code:
    """All shared routines in one Code; each starts at the label of its name."""
    a = ListingAssembler() if with_listing else Assembler()
    for emit in (_emit_convert, _emit_keywords, _emit_release, _emit_errors, _emit_variadic, _emit_judge, _emit_boxes):
        emit(a, machine)
    return a.finish()


def _enter(a: Assembler, name: str, scratch_bytes: int) -> None:
    """Save the callee-saved registers; `scratch_bytes` is 8 more than a multiple of 16."""
    a.label(name)
    for register in _SAVED:
        a.push(register)
    a.sub_ri(RSP, scratch_bytes)


def _leave(a: Assembler, scratch_bytes: int) -> None:
    a.add_ri(RSP, scratch_bytes)
    for register in reversed(_SAVED):
        a.pop(register)
    a.ret()


def _call_method(a: Assembler, name: str, arguments: Callable[[], None], count: int) -> None:
    """rax = self.name(...): `arguments` loads rdx, rcx (the first `count` objects); self is in rbx."""
    arguments()
    a.mov_rr(RDI, RBX)
    a.mov_rl(RSI, f"name:{name}")
    a.xor32_rr((RDX, RCX, R8)[count], (RDX, RCX, R8)[count])
    a.note("no vector registers: the callee is variadic")
    a.xor32_rr(RAX, RAX)
    a.call_l("PyObject_CallMethodObjArgs")


# -- convert ---------------------------------------------------------------------------------------
# rbx self   rbp the step   r12 its argument   r13 its value slot   r14 its view   r15 the object
# [rsp] overflow flag or size   [rsp+8] an int made by __index__, or a Python tuple   [rsp+16] args   [rsp+24] views
# [rsp+32] to [rsp+48] of a list: where the next item goes, the count of items, where the first went
_CONVERT_SCRATCH = 56
_FIELD_KIND, _FIELD_FLAGS, _FIELD_SIZE, _FIELD_ELEMENT, _FIELD_MINIMUM = 0, 1, 2, 3, 4


def _emit_convert(a: Assembler, machine: Machine) -> None:
    layout = machine.layout
    _enter(a, "callgate_convert", _CONVERT_SCRATCH)
    a.mov_rr(RBX, RDI)
    a.mov_rr(R12, RSI)
    a.mov_rr(R13, RDX)
    a.mov_rr(R14, RCX)
    a.mov_mr(RSP, 16, RSI)
    a.mov_mr(RSP, 24, RCX)
    a.mov_rm(RBP, RDI, layout.gate_data_offset)
    a.add_ri(RBP, layout.bytes_data_offset + DATA_STEPS)

    a.label("step")
    a.movzx8_rm(RAX, RBP, _FIELD_KIND)
    a.test32_rr(RAX, RAX)
    a.jcc("e", "converted")
    a.mov_rm(R15, R12, 0)
    for kind, label in (
        (Unbox.BUFFER, "buffer"),
        (Unbox.STRING, "string"),
        (Unbox.HANDLE, "handle"),
        (Unbox.WIDE_STRING, "wide_string"),
        (Unbox.DOUBLE, "double"),
        (Unbox.FLOAT, "double"),
        (Unbox.BOOL, "bool"),
        (Unbox.CHARACTER, "character"),
        (Unbox.WIDE_CHARACTER, "wide_character"),
        (Unbox.STRUCT, "struct"),
        (Unbox.RECORD, "record"),
        (Unbox.FUNCTION, "elsewhere"),
        (Unbox.WIDE, "elsewhere"),
        (Unbox.OBJECT, "object"),
        (Unbox.CDATA, "cdata"),
    ):
        a.cmp32_ri(RAX, int(kind))
        a.jcc("e", label)

    _emit_convert_int(a)
    _emit_convert_double(a)
    _emit_convert_bool_and_characters(a, machine)
    _emit_convert_string(a, machine)
    _emit_convert_wide_string(a, machine)
    _emit_convert_buffer(a, machine)
    _emit_convert_list(a, machine)
    _emit_convert_handle(a, machine)
    _emit_convert_record(a, machine)
    _emit_convert_in_python(a)

    a.note("the value is in rax; its step can hold a view")
    a.label("store_owner")
    a.add_ri(R14, VIEW_BYTES)
    a.label("store")
    a.mov_mr(R13, 0, RAX)
    a.add_ri(R12, 8)
    a.add_ri(R13, 8)
    a.add_ri(RBP, STEP_BYTES)
    a.jmp("step")

    a.label("converted")
    a.xor32_rr(RAX, RAX)
    _leave(a, _CONVERT_SCRATCH)

    a.note("an exception is set")
    a.label("convert_failed")
    a.mov_rm(RDI, RSP, 24)
    a.label("release_next")
    a.cmp_rr(RDI, R14)
    a.jcc("ae", "convert_released")
    a.mov_rr(R15, RDI)
    a.call_l("PyBuffer_Release")
    a.lea(RDI, R15, VIEW_BYTES)
    a.jmp("release_next")
    a.label("convert_released")
    a.mov_ri(RAX, 1)
    _leave(a, _CONVERT_SCRATCH)


def _emit_convert_int(a: Assembler) -> None:
    """Any int, or an object with __index__; what does not fit is refused in Python, which names the value."""
    a.label("int")
    a.mov_rr(RDI, R15)
    a.call_l("PyIndex_Check")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "python")
    a.mov_rr(RDI, R15)
    a.note("an int itself, or what __index__ makes")
    a.call_l("PyNumber_Index")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.mov_mr(RSP, 8, RAX)
    a.mov_rr(RDI, RAX)
    a.lea(RSI, RSP, 0)
    a.call_l("PyLong_AsLongLongAndOverflow")
    a.mov_rr(R15, RAX)
    a.movzx8_rm(RDX, RBP, _FIELD_SIZE)
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RDX)
    a.shl_ri(RCX, 3)
    a.cmp8_mi(RBP, _FIELD_KIND, int(Unbox.UNSIGNED))
    a.jcc("e", "unsigned")
    a.cmp32_mi(RSP, 0, 0)
    a.jcc("ne", "out_of_range")
    a.note("the same after sign extension from its size?")
    a.mov_rr(RAX, R15)
    a.shl_rc(RAX)
    a.sar_rc(RAX)
    a.cmp_rr(RAX, R15)
    a.jcc("e", "int_fits")
    a.jmp("out_of_range")

    a.label("unsigned")
    a.cmp32_mi(RSP, 0, 0)
    a.jcc("ne", "huge_unsigned")
    a.test_rr(R15, R15)
    a.jcc("s", "out_of_range")
    a.mov_rr(RAX, R15)
    a.shl_rc(RAX)
    a.shr_rc(RAX)
    a.cmp_rr(RAX, R15)
    a.jcc("ne", "out_of_range")

    a.label("int_fits")
    a.mov_rm(RDI, RSP, 8)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, R15)
    a.jmp("store")

    a.note("more than 63 bits: only uint64_t can still take it")
    a.label("huge_unsigned")
    a.cmp8_mi(RBP, _FIELD_SIZE, 8)
    a.jcc("ne", "out_of_range")
    a.cmp32_mi(RSP, 0, 0)
    a.jcc("l", "out_of_range")
    a.mov_rm(RDI, RSP, 8)
    a.call_l("PyLong_AsUnsignedLongLong")
    a.mov_rr(R15, RAX)
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.jcc("e", "int_fits")
    a.call_l("PyErr_Clear")

    a.note("Python refuses the int, not the object that made it")
    a.label("out_of_range")
    a.mov_rm(R15, RSP, 8)
    a.call("callgate_ask")
    a.mov_mr(RSP, 0, RAX)
    a.mov_rr(RDI, R15)
    a.call_l("Py_DecRef")
    a.mov_rm(RAX, RSP, 0)
    a.jmp("answered")


def _emit_convert_double(a: Assembler) -> None:
    """A float, or what has __float__ or __index__; a C float must not become infinite on the way."""
    a.label("double")
    a.mov_rr(RDI, R15)
    a.call_l("PyIndex_Check")
    a.test32_rr(RAX, RAX)
    a.jcc("ne", "has_float")
    a.mov_rr(RDI, R15)
    a.call_l("PyObject_Type")
    a.mov_mr(RSP, 8, RAX)
    a.mov_rr(RDI, RAX)
    a.mov_ri(RSI, _PY_NB_FLOAT)
    a.call_l("PyType_GetSlot")
    a.mov_mr(RSP, 0, RAX)
    a.mov_rm(RDI, RSP, 8)
    a.call_l("Py_DecRef")
    a.cmp_mi(RSP, 0, 0)
    a.jcc("e", "python")
    a.label("has_float")
    a.mov_rr(RDI, R15)
    a.call_l("PyFloat_AsDouble")
    a.movsd_mx(RSP, 0, XMM0)
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.jcc("ne", "convert_failed")
    a.mov_rm(RAX, RSP, 0)
    a.cmp8_mi(RBP, _FIELD_KIND, int(Unbox.FLOAT))
    a.jcc("ne", "store")
    a.movsd_xm(XMM0, RSP, 0)
    a.cvtsd2ss_xx(XMM1, XMM0)
    a.movd_rx(XMM1, RAX)
    a.note("an infinite float from a finite double?")
    a.mov32_rr(RCX, RAX)
    a.and32_ri(RCX, 0x7FFFFFFF)
    a.cmp32_ri(RCX, 0x7F800000)
    a.jcc("ne", "store")
    a.cvtss2sd_xx(XMM1, XMM1)
    a.ucomisd_xx(XMM0, XMM1)
    a.jcc("ne", "python")
    a.jmp("store")


def _emit_convert_bool_and_characters(a: Assembler, machine: Machine) -> None:
    """True and False; one byte; one character.  Everything else is Python's to judge."""
    a.label("bool")
    a.cmp_rl(R15, "Py_True")
    a.mov_ri(RAX, 1)
    a.jcc("e", "store")
    a.mov_ri(RAX, 0)
    a.cmp_rl(R15, "Py_False")
    a.jcc("e", "store")
    a.jmp("python")

    a.label("character")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, _BYTES_SUBCLASS)
    a.jcc("e", "python")
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_Size")
    a.cmp_ri(RAX, 1)
    a.jcc("ne", "python")
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_AsString")
    a.note("callees of some compilers rely on the caller's extension to 32 bits")
    load = a.movsx8_rm if machine.target.is_char_signed else a.movzx8_rm
    load(RAX, RAX, 0)
    a.jmp("store")

    a.label("wide_character")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, _STR_SUBCLASS)
    a.jcc("e", "python")
    a.mov_rr(RDI, R15)
    a.call_l("PyUnicode_GetLength")
    a.cmp_ri(RAX, 1)
    a.jcc("ne", "python")
    a.mov_rr(RDI, R15)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyUnicode_ReadChar")
    a.mov32_rr(RAX, RAX)
    a.jmp("store")

    a.note("eax = the type flags of the object in r15")
    a.label("callgate_type_flags")
    a.sub_ri(RSP, 8)
    a.mov_rm(RDI, R15, machine.layout.type_offset)
    a.call_l("PyType_GetFlags")
    a.add_ri(RSP, 8)
    a.ret()


def _no_view(a: Assembler) -> None:
    a.mov_mi(R14, VIEW_OBJECT, 0)


def _emit_none_is_null(a: Assembler, store: str = "store_owner", ask: str = "python_owner") -> None:
    """None is 0 where NULL is allowed; where it is not, Python raises."""
    label = f"not_none_{len(a.code)}"
    a.cmp_rl(R15, "Py_None")
    a.jcc("ne", label)
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("e", ask)
    a.xor32_rr(RAX, RAX)
    a.jmp(store)
    a.label(label)


def _emit_convert_string(a: Assembler, machine: Machine) -> None:
    """bytes as they are, str as UTF-8 (kept by the str itself), both without an embedded NUL; nothing is owned."""
    a.label("string")
    _emit_none_is_null(a, "store", "python")
    a.call("callgate_type_flags")
    a.mov_mr(RSP, 0, RAX)
    a.and32_ri(RAX, _BYTES_SUBCLASS)
    a.jcc("ne", "string_bytes")
    a.mov_rm(RAX, RSP, 0)
    a.and32_ri(RAX, _STR_SUBCLASS)
    a.jcc("e", "python")
    a.mov_rr(RDI, R15)
    a.lea(RSI, RSP, 0)
    a.call_l("PyUnicode_AsUTF8AndSize")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.jmp("string_check")
    a.label("string_bytes")
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_Size")
    a.mov_mr(RSP, 0, RAX)
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_AsString")
    a.label("string_check")
    a.mov_mr(RSP, 8, RAX)
    a.mov_rr(RDI, RAX)
    a.call_l("strlen")
    a.note("as long as C sees it?")
    a.cmp_rm(RAX, RSP, 0)
    a.jcc("ne", "python")
    a.mov_rm(RAX, RSP, 8)
    a.jmp("store")


def _emit_convert_wide_string(a: Assembler, machine: Machine) -> None:
    """str as wchar_t, copied into a bytes object that the view owns."""
    a.label("wide_string")
    _no_view(a)
    _emit_none_is_null(a)
    a.call("callgate_type_flags")
    a.and32_ri(RAX, _STR_SUBCLASS)
    a.jcc("e", "python_owner")
    a.mov_rr(RDI, R15)
    a.call_l("PyUnicode_GetLength")
    a.mov_mr(RSP, 0, RAX)
    a.note("length + 1 characters of 4 bytes")
    a.add_ri(RAX, 1)
    a.shl_ri(RAX, 2)
    a.mov_rr(RSI, RAX)
    a.xor32_rr(RDI, RDI)
    a.call_l("PyBytes_FromStringAndSize")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.mov_mr(R14, VIEW_OBJECT, RAX)
    a.mov_rr(RDI, RAX)
    a.call_l("PyBytes_AsString")
    a.mov_mr(RSP, 8, RAX)
    a.mov_rr(RDI, R15)
    a.mov_rr(RSI, RAX)
    a.mov_rm(RDX, RSP, 0)
    a.add_ri(RDX, 1)
    a.note("writes the terminating 0 as well")
    a.call_l("PyUnicode_AsWideChar")
    a.mov_rm(RDI, RSP, 8)
    a.call_l("wcslen")
    a.cmp_rm(RAX, RSP, 0)
    a.jcc("ne", "wide_nul")
    a.mov_rm(RAX, RSP, 8)
    a.jmp("store_owner")
    a.label("wide_nul")
    a.mov_rr(RDI, R14)
    a.call_l("PyBuffer_Release")
    _no_view(a)
    a.jmp("python_owner")


def _emit_convert_buffer(a: Assembler, machine: Machine) -> None:
    """A buffer of the right items, exported until the call is over; bytes for one-byte items need no export."""
    a.label("buffer")
    _no_view(a)
    _emit_none_is_null(a)
    a.note("bytes where one-byte items are read, of any length")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("ne", "buffer_view")
    a.cmp32_mi(RBP, _FIELD_MINIMUM, 0)
    a.jcc("ne", "buffer_view")
    a.movzx8_rm(RAX, RBP, _FIELD_ELEMENT)
    a.cmp32_ri(RAX, int(Element.BYTE))
    a.jcc("e", "buffer_bytes")
    a.cmp32_ri(RAX, int(Element.ANY))
    a.jcc("ne", "buffer_view")
    a.label("buffer_bytes")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, _BYTES_SUBCLASS)
    a.jcc("e", "buffer_view")
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_AsString")
    a.jmp("store_owner")

    a.label("buffer_view")
    a.note("pointers and structs are Python's to judge")
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.OTHER))
    a.jcc("e", "python_owner")
    a.mov_rr(RDI, R15)
    a.call_l("PyObject_CheckBuffer")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "list")
    a.mov_rr(RDI, R15)
    a.mov_rr(RSI, R14)
    a.mov_ri(RDX, _READ_REQUEST)
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("e", "buffer_get")
    a.mov_ri(RDX, _WRITE_REQUEST)
    a.label("buffer_get")
    a.call_l("PyObject_GetBuffer")
    a.test32_rr(RAX, RAX)
    a.jcc("ne", "buffer_refused")

    a.mov32_rm(RCX, RBP, _FIELD_MINIMUM)
    a.cmp_mr(R14, _VIEW_LENGTH, RCX)
    a.jcc("l", "buffer_unfit")
    a.movzx8_rm(RCX, RBP, _FIELD_ELEMENT)
    a.mov_rm(RAX, R14, _VIEW_FORMAT)
    a.note("no format means bytes")
    a.test_rr(RAX, RAX)
    a.jcc("e", "buffer_bytes_only")
    a.movzx8_rm(RDX, RAX, 0)
    a.note("native byte order: '@', '=', '<'")
    for mark in "@=<":
        a.cmp32_ri(RDX, ord(mark))
        a.jcc("e", "format_next")
    a.jmp("format_code")
    a.label("format_next")
    a.add_ri(RAX, 1)
    a.movzx8_rm(RDX, RAX, 0)
    a.label("format_code")
    a.cmp32_ri(RDX, 127)
    a.jcc("a", "buffer_unfit")
    a.mov_rl(RSI, "format_elements")
    a.add_rr(RSI, RDX)
    a.movzx8_rm(RDX, RSI, 0)
    a.note("void takes any items but pointers, whose value is meant")
    a.test32_rr(RCX, RCX)
    a.jcc("e", "buffer_void")
    a.movzx8_rm(RSI, RBP, _FIELD_SIZE)
    a.cmp_rm(RSI, R14, _VIEW_ITEMSIZE)
    a.jcc("ne", "buffer_unfit")
    a.note("one-byte items may be anything")
    a.cmp32_ri(RCX, int(Element.BYTE))
    a.jcc("e", "buffer_fits")
    a.note("one code and no more")
    a.cmp32_rr(RDX, RCX)
    a.jcc("ne", "buffer_unfit")
    a.cmp8_mi(RAX, 1, 0)
    a.jcc("ne", "buffer_unfit")
    a.label("buffer_fits")
    a.mov_rm(RAX, R14, 0)
    a.jmp("store_owner")
    a.label("buffer_void")
    a.cmp32_ri(RDX, int(Element.OTHER))
    a.jcc("ne", "buffer_fits")
    a.note("NumPy's complex numbers, 'Zd'; a 'Z' alone is a pointer")
    a.cmp8_mi(RAX, 0, ord("Z"))
    a.jcc("ne", "buffer_unfit")
    a.cmp8_mi(RAX, 1, 0)
    a.jcc("ne", "buffer_fits")
    a.jmp("buffer_unfit")
    a.label("buffer_bytes_only")
    a.cmp32_ri(RCX, int(Element.BYTE))
    a.jcc("e", "buffer_fits")
    a.test32_rr(RCX, RCX)
    a.jcc("e", "buffer_fits")

    a.label("buffer_unfit")
    a.mov_rr(RDI, R14)
    a.call_l("PyBuffer_Release")
    _no_view(a)
    a.jmp("python_owner")
    a.label("buffer_refused")
    a.note("Python finds the words for it")
    a.call_l("PyErr_Clear")
    _no_view(a)
    a.jmp("python_owner")


def _emit_convert_list(a: Assembler, machine: Machine) -> None:
    """A list of exact ints or floats, copied into a bytes object that the view owns.

    No Python code runs here, so the list cannot change on the way.  Any other item, or one that does not fit, leaves
    the whole list to Python.
    """
    type_offset = machine.layout.type_offset
    a.label("list")
    a.note("void takes no list, but an int as an address")
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.ANY))
    a.jcc("e", "handle_int")
    a.mov_rl(RAX, "PyList_Type")
    a.cmp_mr(R15, type_offset, RAX)
    a.jcc("ne", "python_owner")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("ne", "python_owner")
    a.movzx8_rm(RAX, RBP, _FIELD_ELEMENT)
    for element in (Element.SIGNED, Element.UNSIGNED, Element.FLOATING, Element.BYTE):
        a.cmp32_ri(RAX, int(element))
        a.jcc("e", "list_copy")
    a.jmp("python_owner")

    a.label("list_copy")
    a.mov_rr(RDI, R15)
    a.call_l("PyList_Size")
    a.mov_mr(RSP, 40, RAX)
    a.movzx8_rm(RCX, RBP, _FIELD_SIZE)
    a.imul_rr(RAX, RCX)
    a.mov32_rm(RDX, RBP, _FIELD_MINIMUM)
    a.cmp_rr(RAX, RDX)
    a.jcc("l", "python_owner")
    a.mov_rr(RSI, RAX)
    a.xor32_rr(RDI, RDI)
    a.call_l("PyBytes_FromStringAndSize")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.mov_mr(R14, VIEW_OBJECT, RAX)
    a.mov_rr(RDI, RAX)
    a.call_l("PyBytes_AsString")
    a.mov_mr(RSP, 32, RAX)
    a.mov_mr(RSP, 48, RAX)
    a.mov_mi(RSP, 8, 0)

    a.label("list_next")
    a.mov_rm(RSI, RSP, 8)
    a.cmp_rm(RSI, RSP, 40)
    a.jcc("ge", "list_copied")
    a.mov_rr(RDI, R15)
    a.call_l("PyList_GetItem")
    a.mov_rr(RDI, RAX)
    a.mov_rm(RAX, RDI, type_offset)
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.FLOATING))
    a.jcc("e", "list_float")
    a.cmp_rl(RAX, "PyLong_Type")
    a.jcc("ne", "list_unfit")
    a.lea(RSI, RSP, 0)
    a.call_l("PyLong_AsLongLongAndOverflow")
    a.cmp32_mi(RSP, 0, 0)
    a.jcc("ne", "list_unfit")
    a.movzx8_rm(RSI, RBP, _FIELD_SIZE)
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RSI)
    a.shl_ri(RCX, 3)
    a.mov_rr(RDI, RAX)
    a.shl_rc(RDI)
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.SIGNED))
    a.jcc("e", "list_signed")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_SIGNED_BYTE)
    a.jcc("ne", "list_signed")
    a.test_rr(RAX, RAX)
    a.jcc("s", "list_unfit")
    a.shr_rc(RDI)
    a.jmp("list_extended")
    a.label("list_signed")
    a.sar_rc(RDI)
    a.label("list_extended")
    a.note("the same when extended from its size?")
    a.cmp_rr(RDI, RAX)
    a.jcc("ne", "list_unfit")

    a.label("list_store")
    a.mov_rm(RDI, RSP, 32)
    for size_bytes, store in ((8, a.mov_mr), (4, a.mov32_mr), (2, a.mov16_mr)):
        a.cmp32_ri(RSI, size_bytes)
        a.jcc("ne", f"list_not_{size_bytes}")
        store(RDI, 0, RAX)
        a.label(f"list_not_{size_bytes}")
    a.cmp32_ri(RSI, 1)
    a.jcc("ne", "list_stored")
    a.mov8_mr(RDI, 0, RAX)
    a.label("list_stored")
    a.add_rr(RDI, RSI)
    a.mov_mr(RSP, 32, RDI)
    a.inc_m(RSP, 8)
    a.jmp("list_next")

    a.label("list_float")
    a.cmp_rl(RAX, "PyFloat_Type")
    a.jcc("ne", "list_unfit")
    a.call_l("PyFloat_AsDouble")
    a.movzx8_rm(RSI, RBP, _FIELD_SIZE)
    a.movq_rx(XMM0, RAX)
    a.cmp32_ri(RSI, 8)
    a.jcc("e", "list_store")
    a.note("long double items are Python's")
    a.cmp32_ri(RSI, 4)
    a.jcc("ne", "list_unfit")
    a.cvtsd2ss_xx(XMM1, XMM0)
    a.movd_rx(XMM1, RAX)
    a.mov32_rr(RCX, RAX)
    a.and32_ri(RCX, 0x7FFFFFFF)
    a.note("infinite: was it before?")
    a.cmp32_ri(RCX, 0x7F800000)
    a.jcc("ne", "list_store")

    a.label("list_unfit")
    a.mov_rr(RDI, R14)
    a.call_l("PyBuffer_Release")
    _no_view(a)
    a.jmp("python_owner")
    a.label("list_copied")
    a.mov_rm(RAX, RSP, 48)
    a.jmp("store_owner")


def _emit_convert_handle(a: Assembler, machine: Machine) -> None:
    """An instance of the declared pointer type: the pointer it holds.  NULL only where allowed."""
    a.label("handle")
    _no_view(a)
    _emit_none_is_null(a)
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("ne", "handle_int")
    a.mov_rm(RAX, R15, machine.layout.cdata_pointer_offset)
    a.mov_rm(RAX, RAX, 0)
    a.test_rr(RAX, RAX)
    a.jcc("ne", "store_owner")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("ne", "store_owner")
    a.jmp("python_owner")
    a.label("handle_int")
    a.note("an int is an address only for void *, whose size field is 0")
    a.cmp8_mi(RBP, _FIELD_SIZE, 0)
    a.jcc("ne", "python_owner")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, _INT_SUBCLASS)
    a.jcc("e", "python_owner")
    a.mov_rr(RDI, R15)
    a.call_l("PyLong_AsUnsignedLongLong")
    a.mov_mr(RSP, 0, RAX)
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.jcc("ne", "handle_range")
    a.mov_rm(RAX, RSP, 0)
    a.test_rr(RAX, RAX)
    a.jcc("ne", "store_owner")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("ne", "store_owner")
    a.jmp("python_owner")
    a.label("handle_range")
    a.call_l("PyErr_Clear")
    a.jmp("python_owner")


def _emit_convert_record(a: Assembler, machine: Machine) -> None:
    """An instance of the declared struct: the address of its data.  Functions and wide values are Python's."""
    a.label("struct")
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("e", "struct_data")
    a.note("a subclass?")
    a.mov_rm(RDI, R15, machine.layout.type_offset)
    a.mov_rm(RSI, RBP, STEP_OPERAND)
    a.call_l("PyType_IsSubtype")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "python")
    a.label("struct_data")
    a.mov_rm(RAX, R15, machine.layout.cdata_pointer_offset)
    a.jmp("store")
    a.note("a ctypes scalar: its value, widened")
    a.label("cdata")
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("ne", "python")
    a.mov_rm(RCX, R15, machine.layout.cdata_pointer_offset)
    a.movzx8_rm(RDX, RBP, _FIELD_SIZE)
    a.mov_rm(RAX, RCX, 0)
    a.cmp32_ri(RDX, 8)
    a.jcc("e", "store")
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.FLOATING))
    a.jcc("e", "cdata_float")
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RDX)
    a.shl_ri(RCX, 3)
    a.shl_rc(RAX)
    a.cmp8_mi(RBP, _FIELD_ELEMENT, int(Element.SIGNED))
    a.jcc("e", "cdata_signed")
    a.shr_rc(RAX)
    a.jmp("store")
    a.label("cdata_signed")
    a.sar_rc(RAX)
    a.jmp("store")
    a.note("a float is promoted to double")
    a.label("cdata_float")
    a.cvtss2sd_xm(XMM0, RCX, 0)
    a.movq_rx(XMM0, RAX)
    a.jmp("store")
    a.label("record")
    _no_view(a)
    _emit_none_is_null(a)
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("ne", "python_owner")
    a.mov_rm(RAX, R15, machine.layout.cdata_pointer_offset)
    a.jmp("store_owner")
    a.label("elsewhere")
    _no_view(a)
    a.cmp_rl(R15, "Py_None")
    a.jcc("ne", "python_owner")
    a.test8_mi(RBP, _FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("e", "python_owner")
    a.xor32_rr(RAX, RAX)
    a.jmp("store_owner")
    a.note("a Python object as it is")
    a.label("object")
    a.mov_rr(RAX, R15)
    a.jmp("store")


def _emit_convert_in_python(a: Assembler) -> None:
    """Ask the gate's _convert(index, object): (word, owner or None), or an exception."""
    a.label("python")
    a.call("callgate_ask")
    a.label("answered")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.mov_mr(RSP, 8, RAX)
    a.mov_rr(RDI, RAX)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyTuple_GetItem")
    a.mov_rr(RDI, RAX)
    a.call_l("PyLong_AsUnsignedLongLongMask")
    a.mov_mr(RSP, 0, RAX)
    a.mov_rm(RDI, RSP, 8)
    a.call_l("Py_DecRef")
    a.mov_rm(RAX, RSP, 0)
    a.jmp("store")

    a.label("python_owner")
    a.call("callgate_ask")
    a.test_rr(RAX, RAX)
    a.jcc("e", "convert_failed")
    a.note("the tuple keeps the owner alive; the owner itself might have a buffer to give back")
    a.mov_mr(R14, VIEW_OBJECT, RAX)
    a.add_ri(R14, VIEW_BYTES)
    a.mov_rr(RDI, RAX)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyTuple_GetItem")
    a.mov_rr(RDI, RAX)
    a.call_l("PyLong_AsUnsignedLongLongMask")
    a.jmp("store")

    a.note("rax = self._convert(index, object in r15)")
    a.label("callgate_ask")
    a.sub_ri(RSP, 24)
    a.mov_rr(RDI, R12)
    a.note("args, below the return address and 24 bytes")
    a.mov_rm(RAX, RSP, 32 + 16)
    a.sub_rr(RDI, RAX)
    a.shr_ri(RDI, 3)
    a.call_l("PyLong_FromLong")
    a.mov_mr(RSP, 0, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "ask_done")

    def arguments() -> None:
        a.mov_rr(RDX, RAX)
        a.mov_rr(RCX, R15)

    _call_method(a, "_convert", arguments, 2)
    a.mov_mr(RSP, 8, RAX)
    a.mov_rm(RDI, RSP, 0)
    a.call_l("Py_DecRef")
    a.mov_rm(RAX, RSP, 8)
    a.label("ask_done")
    a.add_ri(RSP, 24)
    a.ret()


# -- keywords --------------------------------------------------------------------------------------
# rbx self   rbp kwnames   r12 args   r13 out   r14 the names   r15 counter
# [rsp] count of positional arguments   [rsp+8] count of names   [rsp+16] keyword   [rsp+24] inner counter
_KEYWORDS_SCRATCH = 40


def _emit_keywords(a: Assembler, machine: Machine) -> None:
    """Bring positional and keyword arguments into the order of the declaration; kwnames may be 0 (a wrong count)."""
    layout = machine.layout
    _enter(a, "callgate_arrange", _KEYWORDS_SCRATCH)
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
    _leave(a, _KEYWORDS_SCRATCH)

    a.label("keywords_refused")
    a.mov_rm(RDI, RSP, 0)
    a.call_l("PyLong_FromLong")
    a.mov_mr(RSP, 24, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "keywords_raised")

    def arguments() -> None:
        a.mov_rr(RDX, RAX)
        a.mov_rr(RCX, RBP)

    _call_method(a, "_refuse_arguments", arguments, 2)
    a.mov_rm(RDI, RSP, 24)
    a.call_l("Py_DecRef")
    a.label("keywords_raised")
    a.mov_ri(RAX, 1)
    _leave(a, _KEYWORDS_SCRATCH)


def _emit_release(a: Assembler, machine: Machine) -> None:
    """Release `rsi` views from rdi on; those that hold nothing are skipped by PyBuffer_Release itself."""
    a.label("callgate_release")
    a.push(RBX)
    a.push(RBP)
    a.sub_ri(RSP, 8)
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
    a.add_ri(RSP, 8)
    a.pop(RBP)
    a.pop(RBX)
    a.ret()


def _emit_errors(a: Assembler, machine: Machine) -> None:
    """The calls into Python that only raise: each makes ints of its words, calls a method, drops what it returns."""
    for label, method, words in (
        ("callgate_null", "_refuse_null", 1),
        ("callgate_fail", "_fail", 2),
    ):
        _emit_raise(a, label, method, words)


def _emit_raise(a: Assembler, label: str, method: str, words: int) -> None:
    # rbx self   rbp, r12 the ints
    a.label(label)
    for register in (RBX, RBP, R12):
        a.push(register)
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

    _call_method(a, method, arguments, words)
    if words == 2:
        a.mov_rr(RDI, R12)
        a.call_l("Py_DecRef")
        a.label(f"{label}_drop")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.label(f"{label}_raised")
    a.xor32_rr(RAX, RAX)
    for register in (R12, RBP, RBX):
        a.pop(register)
    a.ret()


def _emit_variadic(a: Assembler, machine: Machine) -> None:
    """The code of every variadic gate: find the gate for the types of the arguments, and go on there.

    A variadic gate's data: 0 the count of fixed arguments, 8 the count of entries, then the entries: 0 the count of all
    arguments, 8 the gate, 16 its code, 24 the types of the variable arguments.  Where none fits Python makes one.
    """
    layout = machine.layout
    a.label("callgate_variadic")
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
    a.note("in the red zone")
    a.mov_mr(RSP, -8, R9)
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
    a.mov_rm(R9, RSP, -8)
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
    a.jmp_m(RAX, ENTRY_CODE)

    a.note("self._call_new(*args), which makes the gate and calls it")
    a.label("variadic_miss")
    for register in (RBX, RBP, R12):
        a.push(register)
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
    for register in (R12, RBP, RBX):
        a.pop(register)
    a.ret()

    a.label("variadic_keywords")
    a.push(RBX)
    a.push(RBP)
    a.sub_ri(RSP, 8)
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

    _call_method(a, "_refuse_arguments", arguments, 2)
    a.mov_rm(RDI, RSP, 0)
    a.call_l("Py_DecRef")
    a.label("variadic_refused")
    a.xor32_rr(RAX, RAX)
    a.add_ri(RSP, 8)
    a.pop(RBP)
    a.pop(RBX)
    a.ret()


def _emit_judge(a: Assembler, machine: Machine) -> None:
    """Call self._judge(result, errno) -> None or an exception; on an exception give up the result."""
    # rbx self   rbp result   r12 errno, then what came back
    a.label("callgate_judge")
    for register in (RBX, RBP, R12):
        a.push(register)
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

    _call_method(a, "_judge", arguments, 2)
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
    for register in (R12, RBP, RBX):
        a.pop(register)
    a.ret()


def _emit_boxes(a: Assembler, machine: Machine) -> None:
    """What the gate's Python methods make, and enum members; and whether a callback raised."""
    # rbx self   rbp, r12 the ints
    a.label("callgate_box_python")
    for register in (RBX, RBP, R12):
        a.push(register)
    a.mov_rr(RBX, RDI)
    a.mov_rr(R12, RDX)
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

    def arguments() -> None:
        a.mov_rr(RDX, RBP)
        a.mov_rr(RCX, R12)

    _call_method(a, "_box", arguments, 2)
    a.mov_rr(RDI, R12)
    a.mov_rr(R12, RAX)
    a.call_l("Py_DecRef")
    a.label("python_drop")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.mov_rr(RAX, R12)
    a.label("python_boxed")
    for register in (R12, RBP, RBX):
        a.pop(register)
    a.ret()

    a.note("as tp_new: calls a class that has a __new__ or __init__ of its own; what it makes must be an instance")
    a.label("callgate_call_type")
    a.push(RBX)
    a.push(RBP)
    a.sub_ri(RSP, 8)
    a.mov_rr(RBX, RDI)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyObject_CallObject")
    a.mov_rr(RBP, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", "type_called")
    a.mov_rm(RDI, RAX, machine.layout.type_offset)
    a.mov_rr(RSI, RBX)
    a.call_l("PyType_IsSubtype")
    a.test32_rr(RAX, RAX)
    a.mov_rr(RAX, RBP)
    a.jcc("ne", "type_called")
    a.mov_rr(RDI, RBP)
    a.call_l("Py_DecRef")
    a.mov_rl(RDI, "TypeError")
    a.mov_rl(RSI, "text_no_instance")
    a.call_l("PyErr_SetString")
    a.xor32_rr(RAX, RAX)
    a.label("type_called")
    a.add_ri(RSP, 8)
    a.pop(RBP)
    a.pop(RBX)
    a.ret()

    a.note("1 where a callback of this thread raised: its exception becomes the gate's")
    a.label("callgate_raised")
    a.sub_ri(RSP, 8)
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.jcc("e", "none_raised")
    a.mov_rl(RCX, "raised_count")
    a.dec_m(RCX, 0)
    a.mov_ri(RAX, 1)
    a.label("none_raised")
    a.add_ri(RSP, 8)
    a.ret()

    # rbx members (value -> member)   rbp the class   r12 the int
    a.label("callgate_box_enum")
    for register in (RBX, RBP, R12):
        a.push(register)
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
    for register in (R12, RBP, RBX):
        a.pop(register)
    a.ret()
