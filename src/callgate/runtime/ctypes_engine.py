"""The ctypes engine: the same declarations, conversions, results and errors, without machine code."""

from __future__ import annotations

import ctypes
import sys
import types
from _ctypes import CFuncPtr
from collections.abc import Callable
from typing import Any

from callgate.c.types import FunctionType, Result
from callgate.cpython.conversion import Box, BoxStep, Judgement, SavedError
from callgate.errors import unreachable
from callgate.runtime import boxing, reference
from callgate.runtime.callbacks import PENDING
from callgate.runtime.ctypes_plan import memory, planned_call, raw_type
from callgate.runtime.gate import Gate
from callgate.runtime.native import text_signature
from callgate.runtime.variadic import VariadicGate

_CDECL, _HOLDS_GIL, _USES_ERRNO, _USES_LAST_ERROR = 0x1, 0x4, 0x8, 0x10  # FUNCFLAG_… of ctypes

_SAVED_ERRORS: dict[SavedError, tuple[int, Callable[[int], int]]] = {
    SavedError.NONE: (0, lambda _: 0),
    SavedError.ERRNO: (_USES_ERRNO, ctypes.set_errno),
    SavedError.LAST: (_USES_LAST_ERROR, vars(ctypes).get("set_last_error", ctypes.set_errno)),
}
"""The flag with which ctypes swaps an error of the system with its own copy, and what sets that copy."""


_BASES: tuple[Any, ...] = (ctypes.Structure, ctypes.Union, ctypes._Pointer, ctypes._SimpleCData, CFuncPtr)


def new_record(cls: Any) -> Any:
    """A zeroed instance of a ctypes class, made without a __new__ or __init__ of Python's."""
    return next(base for base in _BASES if issubclass(cls, base)).__new__(cls)


def box(step: BoxStep, result: Result, value: object, gate: Gate | None = None, length: int = 0) -> object:
    """A raw value of ctypes to what Python gets; pointers must not be NULL."""
    match step.kind:
        case Box.NONE:
            return None
        case Box.SIGNED | Box.UNSIGNED | Box.DOUBLE | Box.FLOAT | Box.LONG_DOUBLE | Box.BOOL:
            return value
        case Box.CHARACTER:
            return bytes((value & 0xFF,))  # type: ignore[operator]
        case Box.WIDE_CHARACTER:
            return chr(min(value, sys.maxunicode + 1))  # type: ignore[call-overload]  # one error for all that are none
        case Box.STRING:
            return ctypes.string_at(value).decode()  # type: ignore[arg-type]
        case Box.BYTES:
            return ctypes.string_at(value)  # type: ignore[arg-type]
        case Box.WIDE_STRING:
            return ctypes.wstring_at(value)  # type: ignore[arg-type]
        case Box.HANDLE:
            if result.python_type is ctypes.c_void_p:
                return ctypes.c_void_p(value)  # type: ignore[arg-type]
            handle = new_record(result.python_type)
            ctypes.c_void_p.from_buffer(handle).value = value  # type: ignore[assignment]
            return handle
        case Box.ENUM:
            return result.python_type(value)  # type: ignore[operator]
        case Box.STRUCT:
            cls: Any = result.python_type
            made = new_record(cls)
            ctypes.memmove(ctypes.addressof(made), ctypes.addressof(value), step.size_bytes)  # type: ignore[arg-type]
            return made
        case Box.WIDE:
            return boxing.box_word(result, ctypes.addressof(value), gate)  # type: ignore[arg-type]
        case Box.PYTHON:
            return boxing.box_word(result, value, gate, length)  # type: ignore[arg-type]
        case Box.ADDRESS:
            return value
        case Box.CALLED:
            return result.python_type(value)  # type: ignore[operator]
        case Box.OBJECT:
            return ctypes.cast(value, ctypes.py_object).value  # type: ignore[arg-type]
        case _:
            unreachable(step.kind)


POINTERS = (Box.STRING, Box.BYTES, Box.WIDE_STRING, Box.HANDLE, Box.PYTHON, Box.OBJECT, Box.ADDRESS)
_SEVERAL_WORDS = (Box.STRUCT, Box.WIDE)


def _has_failed(judgement: Judgement, code: int, step: BoxStep) -> bool:
    if judgement is Judgement.NEGATIVE:
        return code < 0
    if judgement is Judgement.MINUS_ONE:
        return code in (-1, (1 << 8 * step.size_bytes) - 1)
    if judgement is Judgement.ZERO:
        return code == 0
    return judgement is Judgement.NONZERO and code != 0


def install(gate: Gate) -> object:
    """Make the callable of a gate: a bound method of the gate, as a builtin's `__self__` is."""
    function = types.MethodType(_make_call(gate), gate)
    return function


def install_variadic(gate: VariadicGate) -> object:
    """The same for a variadic gate, which looks for the gate that fits the arguments' types."""

    def call(gate: VariadicGate, /, *given: object, **named: object) -> object:
        return gate._call_new(*given, **named)

    describe(call, gate.signature)
    return types.MethodType(call, gate)


def _make_call(gate: Gate) -> Callable[..., object]:
    signature, conversion = gate.signature, gate.conversion
    name = signature.name
    # values of several words travel as a call plan says
    planned = planned_call(gate.plan) if conversion.depends_on_plan else None
    if planned is not None:
        argument_types, result_type = planned.argument_types, planned.result_type
    else:
        argument_types = tuple(raw_type(parameter.type) for parameter in signature.parameters)
        result_type = None if conversion.result.kind is Box.NONE else raw_type(signature.result.type)
    error_flag, swap_error = _SAVED_ERRORS[conversion.saved_error]
    gil_flag = 0 if conversion.is_blocking else _HOLDS_GIL

    class Function(CFuncPtr):
        _argtypes_ = argument_types
        _restype_ = result_type
        _flags_ = _CDECL | gil_flag | error_flag

    function = Function(gate.address)
    formals = gate.formals
    positions = conversion.positions
    names = gate.keyword_names
    count = len(formals)
    word_count = len(signature.parameters)
    result_bytes = conversion.result.size_bytes
    is_several_words = conversion.result.kind in _SEVERAL_WORDS
    outs = [
        (out.position, out.box, declared)
        for out in conversion.outs
        if (declared := signature.parameters[out.position].out) is not None
    ]

    def call(gate: Gate, /, *given: object, **keywords: object) -> object:
        if keywords or len(given) != count:
            given = tuple(reference.place_keywords(name, names, given, keywords))
        words: list[object] = [None] * word_count
        converted = [reference.to_value(formal, thing) for formal, thing in zip(formals, given, strict=True)]
        try:
            for position, (word, _) in zip(positions, converted, strict=True):
                words[position] = word
            return call_c(gate, words)
        finally:
            converted.clear()  # the traceback of an exception keeps this frame, and must not keep buffers exported

    def length_of(words: list[Any], cells: list[Any]) -> int:
        """The length of an array that is the result, as a word."""
        box = conversion.result
        if box.length_step is not None:
            return int(words[positions[box.length_step]]) & 0xFFFF_FFFF_FFFF_FFFF
        if box.length_out is not None:
            return int(cells[box.length_out].value) & 0xFFFF_FFFF_FFFF_FFFF
        return 0

    def call_c(gate: Gate, words: list[object]) -> object:
        cells = []
        for position, step, declared in outs:
            cell = memory(step.size_bytes) if step.kind in _SEVERAL_WORDS else raw_type(declared.type)()
            words[position] = ctypes.addressof(cell)
            cells.append(cell)
        result = memory(result_bytes) if is_several_words else None
        given = words if planned is None else planned.pack(words, result)
        stack = gate.stack
        if stack is not None:
            stack._claim()
        PENDING.enter()
        try:
            before = swap_error(0)
            raw = function(*given)
            errno = swap_error(before)
        finally:
            if stack is not None:
                stack._release()
            PENDING.leave()
        if planned is not None and is_several_words:
            planned.unpack(raw, result)
            raw = result
        code = int(raw) if isinstance(raw, int) else 0
        judgement = conversion.judgement
        if _has_failed(judgement, code, conversion.result):
            gate._fail(code, errno)
        values = []
        if not conversion.drops_result or judgement is Judgement.PREDICATE:
            value = _box_checked(gate, conversion.result, signature.result, raw, 0, length_of(words, cells))
            if judgement is Judgement.PREDICATE:
                gate._judge(value, errno)
            if conversion.result.kind is not Box.NONE and not conversion.drops_result:
                values.append(value)
        for index, ((_, step, declared), cell) in enumerate(zip(outs, cells, strict=True), 1):
            stored = cell if step.kind in _SEVERAL_WORDS else cell.value
            try:
                values.append(_box_checked(gate, step, declared, stored, index))
            except BaseException:
                gate._free_outs([_word_of(cell) for cell in cells], index)
                raise
        if len(values) > 1:
            return tuple(values)
        return values[0] if values else None

    describe(call, signature)
    return call


def describe(call: Callable[..., object], signature: FunctionType) -> None:
    """Name and document a call as a builtin would be."""
    name = signature.name
    call.__name__ = name
    call.__qualname__ = name
    head, _, doc = text_signature(signature).partition("\n--\n\n")
    call.__doc__ = doc
    parameters = head[len(name) + 1 :]
    call.__text_signature__ = f"($self{', ' * (parameters != ')')}{parameters}"  # type: ignore[attr-defined]
    call.__module__ = "callgate"


def _word_of(cell: Any) -> int:
    """The pointer in the storage of an Out, 0 for what is none."""
    return (cell.value or 0) if isinstance(cell, ctypes.c_void_p) else 0


def _box_checked(gate: Gate, step: BoxStep, result: Result, value: object, which: int, length: int = 0) -> object:
    if step.kind in POINTERS and not value:
        if step.is_nullable:
            return None
        gate._refuse_null(which)
    return box(step, result, value, gate, length)
