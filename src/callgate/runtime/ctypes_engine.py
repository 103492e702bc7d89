"""The ctypes engine: the same declarations, conversions, results and errors, without machine code."""

from __future__ import annotations

import ctypes
import sys
import types
from _ctypes import CFuncPtr
from collections.abc import Callable
from functools import lru_cache

from callgate.abi.plan import Class
from callgate.abi.sysv import eightbyte_classes
from callgate.c.annotations import ctypes_of
from callgate.c.layout import align_bytes, size_bytes
from callgate.c.types import FLOAT, CType, Enumeration, FunctionType, Kind, Record, Result, Scalar, spell
from callgate.cpython.conversion import VARIABLE, Box, BoxStep, Judgement, Unbox
from callgate.errors import DeclarationError, unreachable
from callgate.runtime import boxing, reference
from callgate.runtime.callbacks import PENDING
from callgate.runtime.gate import Gate
from callgate.runtime.native import text_signature
from callgate.runtime.variadic import VariadicGate
from callgate.target import DATA_MODEL

_CDECL, _HOLDS_GIL, _USES_ERRNO = 0x1, 0x4, 0x8  # FUNCFLAG_… of ctypes


def raw_type(ctype: CType) -> type:
    """The ctypes class that travels: plain ints for characters, c_void_p for every pointer."""
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if isinstance(ctype, Record):
        return _surrogate(ctype)
    if not isinstance(ctype, Scalar):
        return ctypes.c_void_p
    if ctype.kind is Kind.COMPLEX or (ctype.kind is not Kind.FLOATING and size_bytes(ctype, DATA_MODEL) > 8):
        return _surrogate(ctype)
    if ctype.kind is Kind.CHARACTER:
        return ctypes.c_byte if DATA_MODEL.is_char_signed else ctypes.c_ubyte
    if ctype.kind is Kind.WIDE_CHARACTER:
        return {2: ctypes.c_uint16, 4: ctypes.c_uint32}[ctypes.sizeof(ctypes.c_wchar)]
    return ctypes_of(ctype, {})


@lru_cache(maxsize=256)
def _surrogate(ctype: CType) -> type:
    """A ctypes struct that travels as `ctype` does: ctypes passes no unions, and no bit-fields, by value."""
    size = size_bytes(ctype, DATA_MODEL)
    fields: list[tuple[str, type]] = []
    if align_bytes(ctype, DATA_MODEL) == 16 and not isinstance(ctype, Scalar) and size > 16:
        fields.append(("all", ctypes.c_longdouble * (size // 16)))
    elif size > 16:
        fields.append(("all", ctypes.c_uint8 * size))
    else:
        classes = eightbyte_classes(ctype, DATA_MODEL)
        if Class.MEMORY in classes:
            raise DeclarationError(
                f"the ctypes engine cannot pass {spell(ctype)}, whose members are not aligned, by value"
            )
        for index, klass in enumerate(classes):
            rest = min(8, size - 8 * index)
            if klass is Class.X87:
                fields.append(("all", ctypes.c_longdouble))
                break
            if klass is Class.SSE:
                parts = (
                    [ctypes.c_double]
                    if rest == 8 and not _is_loosely_aligned(ctype)
                    else [ctypes.c_float] * (rest // 4)
                )
            else:
                parts = [ctypes.c_uint64] if rest == 8 and not _is_loosely_aligned(ctype) else [ctypes.c_uint8] * rest
            fields += [(f"part{index}_{number}", part) for number, part in enumerate(parts)]
    return type("Surrogate", (ctypes.Structure,), {"_fields_": fields})


def _is_loosely_aligned(ctype: CType) -> bool:
    """A struct whose size is no multiple of 8 must not be aligned to 8 either."""
    return align_bytes(ctype, DATA_MODEL) < 8


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
        case Box.STRUCT:
            made: object = result.python_type.__new__(result.python_type)  # type: ignore[attr-defined]
            ctypes.memmove(ctypes.addressof(made), ctypes.addressof(value), step.size_bytes)  # type: ignore[arg-type]
            return made
        case Box.WIDE:
            return boxing.box_word(result, ctypes.addressof(value))  # type: ignore[arg-type]
        case Box.PYTHON:
            return boxing.box_word(result, value)  # type: ignore[arg-type]
        case Box.OBJECT:
            return ctypes.cast(value, ctypes.py_object).value  # type: ignore[arg-type]
        case _:
            unreachable(step.kind)


POINTERS = (Box.STRING, Box.BYTES, Box.WIDE_STRING, Box.HANDLE, Box.PYTHON, Box.OBJECT)
_BY_ADDRESS = (Unbox.STRUCT, Unbox.WIDE)


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

    _describe(call, gate.signature)
    return types.MethodType(call, gate)


def _make_call(gate: Gate) -> Callable[..., object]:
    signature, conversion = gate.signature, gate.conversion
    name = signature.name
    argument_types = [
        ctypes.c_double if parameter.name == VARIABLE and parameter.type == FLOAT else raw_type(parameter.type)
        for parameter in signature.parameters
    ]
    result_type = None if conversion.result.kind is Box.NONE else raw_type(signature.result.type)
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
        (out.position, out.box, declared, raw_type(declared.type))
        for out in conversion.outs
        if (declared := signature.parameters[out.position].out) is not None
    ]

    def call(gate: Gate, /, *given: object, **keywords: object) -> object:
        if keywords or len(given) != count:
            given = tuple(reference.place_keywords(name, names, given, keywords))
        words: list[object] = [None] * len(argument_types)
        converted = [reference.to_value(formal, thing) for formal, thing in zip(formals, given, strict=True)]
        try:
            for position, step, (word, _) in zip(positions, conversion.steps, converted, strict=True):
                is_struct = step.kind in _BY_ADDRESS
                words[position] = argument_types[position].from_address(word) if is_struct else word
            return call_c(gate, words)
        finally:
            converted.clear()  # the traceback of an exception keeps this frame, and must not keep buffers exported

    def call_c(gate: Gate, words: list[object]) -> object:
        cells = []
        for position, _, _, cell_type in outs:
            cell = cell_type()
            words[position] = ctypes.addressof(cell)
            cells.append(cell)
        PENDING.enter()
        try:
            if errno_flag:
                before = ctypes.set_errno(0)
                raw = function(*words)
                errno = ctypes.set_errno(before)
            else:
                raw = function(*words)
                errno = 0
        finally:
            PENDING.leave()
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
            stored = cell if step.kind in (Box.STRUCT, Box.WIDE) else cell.value
            values.append(_box_checked(gate, step, declared, stored, index))
        if len(values) > 1:
            return tuple(values)
        return values[0] if values else None

    _describe(call, signature)
    return call


def _describe(call: Callable[..., object], signature: FunctionType) -> None:
    """Name and document a call as a builtin would be."""
    name = signature.name
    call.__name__ = name
    call.__qualname__ = name
    head, _, doc = text_signature(signature).partition("\n--\n\n")
    call.__doc__ = doc
    parameters = head[len(name) + 1 :]
    call.__text_signature__ = f"($self{', ' * (parameters != ')')}{parameters}"  # type: ignore[attr-defined]
    call.__module__ = "callgate"


def _box_checked(gate: Gate, step: BoxStep, result: Result, value: object, which: int) -> object:
    if step.kind in POINTERS and not value:
        if step.is_nullable:
            return None
        gate._refuse_null(which)
    return box(step, result, value)
