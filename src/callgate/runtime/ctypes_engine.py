"""The ctypes engine: the same declarations, conversions, results and errors, without machine code."""

from __future__ import annotations

import ctypes
import sys
import types
from _ctypes import CFuncPtr
from collections.abc import Callable

from callgate.c.annotations import ctypes_of
from callgate.c.types import CType, Enumeration, Kind, Result, Scalar
from callgate.cpython.conversion import Box, BoxStep, Judgement
from callgate.errors import unreachable
from callgate.runtime import reference
from callgate.runtime.gate import Gate
from callgate.runtime.native import text_signature
from callgate.target import DATA_MODEL

_CDECL, _HOLDS_GIL, _USES_ERRNO = 0x1, 0x4, 0x8  # FUNCFLAG_… of ctypes


def _raw_type(ctype: CType) -> type:
    """The ctypes class that travels: plain ints for characters, c_void_p for every pointer."""
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if not isinstance(ctype, Scalar):
        return ctypes.c_void_p
    if ctype.kind is Kind.CHARACTER:
        return ctypes.c_byte if DATA_MODEL.is_char_signed else ctypes.c_ubyte
    if ctype.kind is Kind.WIDE_CHARACTER:
        return {2: ctypes.c_uint16, 4: ctypes.c_uint32}[ctypes.sizeof(ctypes.c_wchar)]
    return ctypes_of(ctype, {})


def box(step: BoxStep, result: Result, value: object) -> object:
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
            return ctypes.cast(value, result.python_type)  # type: ignore[arg-type]
        case Box.ENUM:
            return result.python_type(value)  # type: ignore[operator]
        case _:
            unreachable(step.kind)


_POINTERS = (Box.STRING, Box.BYTES, Box.WIDE_STRING, Box.HANDLE)


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


def _make_call(gate: Gate) -> Callable[..., object]:
    signature, conversion = gate.signature, gate.conversion
    name = signature.name
    argument_types = [_raw_type(parameter.type) for parameter in signature.parameters]
    result_type = None if conversion.result.kind is Box.NONE else _raw_type(signature.result.type)
    errno_flag = _USES_ERRNO if conversion.saves_errno else 0
    gil_flag = 0 if conversion.is_blocking else _HOLDS_GIL

    class Function(CFuncPtr):
        _argtypes_ = tuple(argument_types)
        _restype_ = result_type
        _flags_ = _CDECL | gil_flag | errno_flag

    function = Function(gate.address)
    formals = gate.formals
    positions = conversion.positions
    names = gate.keyword_names
    count = len(formals)
    outs = [
        (out.position, out.box, declared, _raw_type(declared.type))
        for out in conversion.outs
        if (declared := signature.parameters[out.position].out) is not None
    ]

    def call(gate: Gate, /, *given: object, **keywords: object) -> object:
        if keywords or len(given) != count:
            given = tuple(reference.place_keywords(name, names, given, keywords))
        words: list[object] = [None] * len(argument_types)
        converted = [reference.to_value(formal, thing) for formal, thing in zip(formals, given, strict=True)]
        try:
            for position, word in zip(positions, [pair[0] for pair in converted], strict=True):
                words[position] = word
            return call_c(gate, words)
        finally:
            converted.clear()  # the traceback of an exception keeps this frame, and must not keep buffers exported

    def call_c(gate: Gate, words: list[object]) -> object:
        cells = []
        for position, _, _, cell_type in outs:
            cell = cell_type()
            words[position] = ctypes.addressof(cell)
            cells.append(cell)
        if errno_flag:
            before = ctypes.set_errno(0)
            raw = function(*words)
            errno = ctypes.set_errno(before)
        else:
            raw = function(*words)
            errno = 0
        code = int(raw) if isinstance(raw, int) else 0
        judgement = conversion.judgement
        if _has_failed(judgement, code, conversion.result):
            gate._fail(code, errno)
        values = []
        if not conversion.drops_result or judgement is Judgement.PREDICATE:
            value = _box_checked(gate, conversion.result, signature.result, raw, 0)
            if judgement is Judgement.PREDICATE:
                gate._judge(value, errno)
            if conversion.result.kind is not Box.NONE and not conversion.drops_result:
                values.append(value)
        for index, ((_, step, declared, _), cell) in enumerate(zip(outs, cells, strict=True), 1):
            values.append(_box_checked(gate, step, declared, cell.value, index))
        if len(values) > 1:
            return tuple(values)
        return values[0] if values else None

    call.__name__ = name
    call.__qualname__ = name
    text = text_signature(signature)
    head, _, doc = text.partition("\n--\n\n")
    call.__doc__ = doc
    call.__text_signature__ = head.replace("(", "($self, " if count else "($self", 1)[len(name) :]  # type: ignore[attr-defined]
    call.__module__ = "callgate"
    return call


def _box_checked(gate: Gate, step: BoxStep, result: Result, value: object, which: int) -> object:
    if step.kind in _POINTERS and not value:
        if step.is_nullable:
            return None
        gate._refuse_null(which)
    return box(step, result, value)
