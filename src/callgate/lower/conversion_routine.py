"""callgate_convert: the conversion of every argument that a gate's inline path does not take.

Objects that the machine code does not know either go to the gate's Python methods: the rule for what is accepted is
written there once, for both engines.

Long because it is one routine: a block for each kind of step, in the order of `Unbox`.

    callgate_convert(self, args, values, views) -> 0, or 1 with an exception set and every view released
"""

from __future__ import annotations

from callgate.cpython.conversion import Element, Unbox
from callgate.lower.ctypes_routines import emit_convert_param
from callgate.lower.machine import (
    DATA_STEPS,
    FLAG_NULLABLE,
    FLAG_SIGNED_BYTE,
    FLAG_WRITABLE,
    STEP_BYTES,
    STEP_OPERAND,
    VIEW_BYTES,
    VIEW_OBJECT,
    Machine,
)
from callgate.lower.operations import R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, XMM0, XMM1, Operations
from callgate.lower.routine import (
    BYTES_SUBCLASS,
    FIELD_ELEMENT,
    FIELD_FLAGS,
    FIELD_KIND,
    FIELD_MINIMUM,
    FIELD_SIZE,
    INT_SUBCLASS,
    STR_SUBCLASS,
    call_method,
    enter,
    leave,
    no_view,
)

_PY_NB_FLOAT = 11  # typeslots.h
_READ_REQUEST = 0x04 | 0x08 | 0x10 | 0x20  # FORMAT, and C_CONTIGUOUS with the STRIDES and ND that it implies
_WRITE_REQUEST = _READ_REQUEST | 0x01

_VIEW_ITEMSIZE, _VIEW_LENGTH, _VIEW_FORMAT = 24, 16, 40  # offsets in Py_buffer


# -- convert ---------------------------------------------------------------------------------------
# rbx self   rbp the step   r12 its argument   r13 its value slot   r14 its view   r15 the object
# [rsp] overflow flag or size   [rsp+8] an int made by __index__, or a Python tuple   [rsp+16] args   [rsp+24] views
# [rsp+32] to [rsp+48] of a list: where the next item goes, the count of items, where the first went
_CONVERT_SCRATCH = 56


def emit_convert(a: Operations, machine: Machine) -> None:
    layout = machine.layout
    enter(a, "callgate_convert", _CONVERT_SCRATCH)
    a.mov_rr(RBX, RDI)
    a.mov_rr(R12, RSI)
    a.mov_rr(R13, RDX)
    a.mov_rr(R14, RCX)
    a.mov_mr(RSP, 16, RSI)
    a.mov_mr(RSP, 24, RCX)
    a.mov_rm(RBP, RDI, layout.gate_data_offset)
    a.add_ri(RBP, layout.bytes_data_offset + DATA_STEPS)

    a.label("step")
    a.movzx8_rm(RAX, RBP, FIELD_KIND)
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
        (Unbox.PARAM, "param"),
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
    emit_convert_param(a, machine)
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
    leave(a, _CONVERT_SCRATCH)

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
    leave(a, _CONVERT_SCRATCH)


def _emit_convert_int(a: Operations) -> None:
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
    a.movzx8_rm(RDX, RBP, FIELD_SIZE)
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RDX)
    a.shl_ri(RCX, 3)
    a.cmp8_mi(RBP, FIELD_KIND, int(Unbox.UNSIGNED))
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
    a.cmp8_mi(RBP, FIELD_SIZE, 8)
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


def _emit_convert_double(a: Operations) -> None:
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
    a.cmp8_mi(RBP, FIELD_KIND, int(Unbox.FLOAT))
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


def _emit_convert_bool_and_characters(a: Operations, machine: Machine) -> None:
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
    a.and32_ri(RAX, BYTES_SUBCLASS)
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
    a.and32_ri(RAX, STR_SUBCLASS)
    a.jcc("e", "python")
    a.mov_rr(RDI, R15)
    a.call_l("PyUnicode_GetLength")
    a.cmp_ri(RAX, 1)
    a.jcc("ne", "python")
    a.mov_rr(RDI, R15)
    a.xor32_rr(RSI, RSI)
    a.call_l("PyUnicode_ReadChar")
    a.mov32_rr(RAX, RAX)
    if machine.target.wchar_bytes == 2:
        a.note("one that UTF-16 has in two?")
        a.cmp32_ri(RAX, 0xFFFF)
        a.jcc("a", "python")
    a.jmp("store")

    a.note("eax = the type flags of the object in r15")
    a.label("callgate_type_flags")
    a.enter((), 8)
    a.mov_rm(RDI, R15, machine.layout.type_offset)
    a.call_l("PyType_GetFlags")
    a.leave((), 8)
    a.ret()


def emit_none_is_null(a: Operations, store: str = "store_owner", ask: str = "python_owner") -> None:
    """None is 0 where NULL is allowed; where it is not, Python raises."""
    label = f"not_none_{len(a.code)}"
    a.cmp_rl(R15, "Py_None")
    a.jcc("ne", label)
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("e", ask)
    a.xor32_rr(RAX, RAX)
    a.jmp(store)
    a.label(label)


def _emit_convert_string(a: Operations, machine: Machine) -> None:
    """bytes as they are, str as UTF-8 (kept by the str itself), both without an embedded NUL; nothing is owned."""
    a.label("string")
    emit_none_is_null(a, "store", "python")
    a.call("callgate_type_flags")
    a.mov_mr(RSP, 0, RAX)
    a.and32_ri(RAX, BYTES_SUBCLASS)
    a.jcc("ne", "string_bytes")
    a.mov_rm(RAX, RSP, 0)
    a.and32_ri(RAX, STR_SUBCLASS)
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


def _emit_convert_wide_string(a: Operations, machine: Machine) -> None:
    """str as wchar_t, copied into a bytes object that the view owns."""
    a.label("wide_string")
    no_view(a)
    emit_none_is_null(a)
    a.call("callgate_type_flags")
    a.and32_ri(RAX, STR_SUBCLASS)
    a.jcc("e", "python_owner")
    a.mov_rr(RDI, R15)
    a.call_l("PyUnicode_GetLength")
    a.mov_mr(RSP, 0, RAX)
    a.note("length + 1 characters of 4 bytes, or as many pairs of 2")
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
    if machine.target.wchar_bytes == 2:
        a.add_rr(RDX, RDX)
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
    no_view(a)
    a.jmp("python_owner")


def _emit_convert_buffer(a: Operations, machine: Machine) -> None:
    """A buffer of the right items, exported until the call is over; bytes for one-byte items need no export."""
    a.label("buffer")
    no_view(a)
    emit_none_is_null(a)
    a.note("bytes where one-byte items are read, of any length")
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("ne", "buffer_view")
    a.cmp32_mi(RBP, FIELD_MINIMUM, 0)
    a.jcc("ne", "buffer_view")
    a.movzx8_rm(RAX, RBP, FIELD_ELEMENT)
    a.cmp32_ri(RAX, int(Element.BYTE))
    a.jcc("e", "buffer_bytes")
    a.cmp32_ri(RAX, int(Element.ANY))
    a.jcc("ne", "buffer_view")
    a.label("buffer_bytes")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, BYTES_SUBCLASS)
    a.jcc("e", "buffer_view")
    a.mov_rr(RDI, R15)
    a.call_l("PyBytes_AsString")
    a.jmp("store_owner")

    a.label("buffer_view")
    a.note("pointers and structs are Python's to judge")
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.OTHER))
    a.jcc("e", "python_owner")
    a.mov_rr(RDI, R15)
    a.call_l("PyObject_CheckBuffer")
    a.test32_rr(RAX, RAX)
    a.jcc("e", "list")
    a.mov_rr(RDI, R15)
    a.mov_rr(RSI, R14)
    a.mov_ri(RDX, _READ_REQUEST)
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("e", "buffer_get")
    a.mov_ri(RDX, _WRITE_REQUEST)
    a.label("buffer_get")
    a.call_l("PyObject_GetBuffer")
    a.test32_rr(RAX, RAX)
    a.jcc("ne", "buffer_refused")

    a.mov32_rm(RCX, RBP, FIELD_MINIMUM)
    a.cmp_mr(R14, _VIEW_LENGTH, RCX)
    a.jcc("l", "buffer_unfit")
    a.movzx8_rm(RCX, RBP, FIELD_ELEMENT)
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
    a.movzx8_rm(RSI, RBP, FIELD_SIZE)
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
    no_view(a)
    a.jmp("python_owner")
    a.label("buffer_refused")
    a.note("Python finds the words for it")
    a.call_l("PyErr_Clear")
    no_view(a)
    a.jmp("python_owner")


def _emit_convert_list(a: Operations, machine: Machine) -> None:
    """A list of exact ints or floats, copied into a bytes object that the view owns.

    No Python code runs here, so the list cannot change on the way.  Any other item, or one that does not fit, leaves
    the whole list to Python.
    """
    type_offset = machine.layout.type_offset
    a.label("list")
    a.note("void takes no list, but an int as an address")
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.ANY))
    a.jcc("e", "handle_int")
    if machine.layout.is_free_threaded:
        a.note("another thread may change the list meanwhile")
        a.jmp("python_owner")
        return
    a.mov_rl(RAX, "PyList_Type")
    a.cmp_mr(R15, type_offset, RAX)
    a.jcc("ne", "python_owner")
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_WRITABLE)
    a.jcc("ne", "python_owner")
    a.movzx8_rm(RAX, RBP, FIELD_ELEMENT)
    for element in (Element.SIGNED, Element.UNSIGNED, Element.FLOATING, Element.BYTE):
        a.cmp32_ri(RAX, int(element))
        a.jcc("e", "list_copy")
    a.jmp("python_owner")

    a.label("list_copy")
    a.mov_rr(RDI, R15)
    a.call_l("PyList_Size")
    a.mov_mr(RSP, 40, RAX)
    a.movzx8_rm(RCX, RBP, FIELD_SIZE)
    a.imul_rr(RAX, RCX)
    a.mov32_rm(RDX, RBP, FIELD_MINIMUM)
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
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.FLOATING))
    a.jcc("e", "list_float")
    a.cmp_rl(RAX, "PyLong_Type")
    a.jcc("ne", "list_unfit")
    a.lea(RSI, RSP, 0)
    a.call_l("PyLong_AsLongLongAndOverflow")
    a.cmp32_mi(RSP, 0, 0)
    a.jcc("ne", "list_unfit")
    a.movzx8_rm(RSI, RBP, FIELD_SIZE)
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RSI)
    a.shl_ri(RCX, 3)
    a.mov_rr(RDI, RAX)
    a.shl_rc(RDI)
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.SIGNED))
    a.jcc("e", "list_signed")
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_SIGNED_BYTE)
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
    a.movzx8_rm(RSI, RBP, FIELD_SIZE)
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
    no_view(a)
    a.jmp("python_owner")
    a.label("list_copied")
    a.mov_rm(RAX, RSP, 48)
    a.jmp("store_owner")


def _emit_convert_handle(a: Operations, machine: Machine) -> None:
    """An instance of the declared pointer type: the pointer it holds.  NULL only where allowed."""
    a.label("handle")
    no_view(a)
    emit_none_is_null(a)
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("ne", "handle_int")
    a.mov_rm(RAX, R15, machine.layout.cdata_pointer_offset)
    a.mov_rm(RAX, RAX, 0)
    a.test_rr(RAX, RAX)
    a.jcc("ne", "store_owner")
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("ne", "store_owner")
    a.jmp("python_owner")
    a.label("handle_int")
    a.note("an int is an address only for void *, whose size field is 0")
    a.cmp8_mi(RBP, FIELD_SIZE, 0)
    a.jcc("ne", "python_owner")
    a.call("callgate_type_flags")
    a.and32_ri(RAX, INT_SUBCLASS)
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
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("ne", "store_owner")
    a.jmp("python_owner")
    a.label("handle_range")
    a.call_l("PyErr_Clear")
    a.jmp("python_owner")


def _emit_convert_record(a: Operations, machine: Machine) -> None:
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
    a.movzx8_rm(RDX, RBP, FIELD_SIZE)
    a.mov_rm(RAX, RCX, 0)
    a.cmp32_ri(RDX, 8)
    a.jcc("e", "store")
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.FLOATING))
    a.jcc("e", "cdata_float")
    a.mov_ri(RCX, 8)
    a.sub_rr(RCX, RDX)
    a.shl_ri(RCX, 3)
    a.shl_rc(RAX)
    a.cmp8_mi(RBP, FIELD_ELEMENT, int(Element.SIGNED))
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
    no_view(a)
    emit_none_is_null(a)
    a.mov_rm(RAX, R15, machine.layout.type_offset)
    a.cmp_rm(RAX, RBP, STEP_OPERAND)
    a.jcc("ne", "python_owner")
    a.mov_rm(RAX, R15, machine.layout.cdata_pointer_offset)
    a.jmp("store_owner")
    a.label("elsewhere")
    no_view(a)
    a.cmp_rl(R15, "Py_None")
    a.jcc("ne", "python_owner")
    a.test8_mi(RBP, FIELD_FLAGS, FLAG_NULLABLE)
    a.jcc("e", "python_owner")
    a.xor32_rr(RAX, RAX)
    a.jmp("store_owner")
    a.note("a Python object as it is")
    a.label("object")
    a.mov_rr(RAX, R15)
    a.jmp("store")


def _emit_convert_in_python(a: Operations) -> None:
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
    a.label("answered_owner")
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

    _emit_ask(a, "callgate_ask", "_convert")
    _emit_ask(a, "callgate_decode", "_decode")


def _emit_ask(a: Operations, name: str, method: str) -> None:
    """A subroutine of callgate_convert: rax = self.method(index, object in r15)."""
    a.label(name)
    a.enter((), 24)
    a.mov_rr(RDI, R12)
    a.note("args, below the return address and 24 bytes")
    a.mov_rm(RAX, RSP, 32 + 16)
    a.sub_rr(RDI, RAX)
    a.shr_ri(RDI, 3)
    a.call_l("PyLong_FromLong")
    a.mov_mr(RSP, 0, RAX)
    a.test_rr(RAX, RAX)
    a.jcc("e", f"{name}_done")

    def arguments() -> None:
        a.mov_rr(RDX, RAX)
        a.mov_rr(RCX, R15)

    call_method(a, method, arguments, 2)
    a.mov_mr(RSP, 8, RAX)
    a.mov_rm(RDI, RSP, 0)
    a.call_l("Py_DecRef")
    a.mov_rm(RAX, RSP, 8)
    a.label(f"{name}_done")
    a.leave((), 24)
    a.ret()
