"""Callbacks of the ctypes engine: closures of ctypes with the conversions, errors and messages of machine code."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from callgate.c.types import Pointer, Record, spell
from callgate.cpython.conversion import Box, BoxStep, convert_callback
from callgate.errors import DeclarationError
from callgate.runtime import ctypes_engine, reference
from callgate.runtime.callbacks import PENDING
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.c.types import Result
    from callgate.runtime.callbacks import Callback


def make_closure(callback: Callback) -> object:
    """A ctypes function pointer that calls the callback's Python function."""
    declared = callback.type
    conversion = convert_callback(declared, DATA_MODEL)
    result = declared.result
    if result is not None and isinstance(result.type, Record):
        raise DeclarationError(
            f"{declared.name}() returns {spell(result.type)}: ctypes has no callbacks that return structs"
        )
    argument_types = [ctypes_engine.raw_type(parameter.type) for parameter in declared.parameters]
    result_type = None if result is None else ctypes_engine.raw_type(result.type)
    boxes = tuple(zip(conversion.boxes, declared.parameters, strict=True))
    function = callback._function
    step = conversion.result

    def box(index: int, step: BoxStep, parameter: Result, raw: object) -> object:
        if step.kind in ctypes_engine.POINTERS and not raw:
            if step.is_nullable:
                return None
            if step.kind is not Box.HANDLE:
                callback._refuse_null(index)
            raw = 0
        return ctypes_engine.box(step, parameter, raw)

    def call(*raws: object) -> object:
        zero = 0 if result_type is not None else None
        if PENDING.is_set():
            return zero
        try:
            if callback._closed:
                raise RuntimeError(f"{declared.name}() was called by C after it was closed")
            arguments = [
                box(index, step, parameter, raw)
                for index, ((step, parameter), raw) in enumerate(zip(boxes, raws, strict=True))
            ]
            returned = function(*arguments)
            if step is None or result is None:
                return None
            value, _ = reference.to_value(callback.formal, returned)
        except BaseException as problem:  # every exception belongs to the gate that called C
            PENDING.put(problem, function)
            return zero
        if isinstance(result.type, Pointer):
            return value or None
        return value

    prototype = ctypes.CFUNCTYPE(result_type, *argument_types)
    return prototype(call)
