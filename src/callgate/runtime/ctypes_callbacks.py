"""Callbacks of the ctypes engine: closures of ctypes with the conversions, errors and messages of machine code."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from callgate.abi.plan import CallPlan, Class, classify_types
from callgate.c.types import spell
from callgate.cpython.conversion import Box, BoxStep, convert_callback
from callgate.errors import DeclarationError
from callgate.runtime import ctypes_engine, reference
from callgate.runtime.callbacks import PENDING, refuse_null
from callgate.runtime.ctypes_plan import PlannedCall
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.c.types import Result
    from callgate.runtime.callbacks import Callback


def make_closure(callback: Callback) -> object:
    """A ctypes function pointer that calls the callback's Python function."""
    declared = callback.type
    conversion = convert_callback(declared, DATA_MODEL)
    plan = classify_types([parameter.type for parameter in declared.parameters], declared.result_type, DATA_MODEL)
    planned, prototype = _prototype(plan)
    if len(plan.result.pieces) > 1 or (plan.result.pieces and plan.result.eightbyte_class is Class.X87):
        raise DeclarationError(
            f"{declared.name}() returns {spell(declared.result_type)}: a callback of the ctypes engine returns one word"
        )
    boxes = tuple(zip(conversion.boxes, declared.parameters, strict=True))
    step, result_type = conversion.result, planned.result_type

    formal = callback.formal if step is not None else None
    reference_to = weakref.ref(callback)  # the callback owns the closure, not the other way round

    def box(index: int, step: BoxStep, parameter: Result, raw: object) -> object:
        if step.kind in ctypes_engine.POINTERS and not raw:
            if step.is_nullable:
                return None
            if step.kind is not Box.HANDLE:
                refuse_null(declared.name, index)
            raw = 0
        return ctypes_engine.box(step, parameter, raw)

    def finish(value: Any, raws: tuple[Any, ...]) -> Any:
        """What ctypes returns to C for a converted value, or for None the zero of its type."""
        if step is None:
            return None
        if plan.result_pointer:
            size = plan.result.size_bytes
            if value is None:
                ctypes.memset(raws[0], 0, size)
            else:
                ctypes.memmove(raws[0], value, size)
            return raws[0]
        if plan.result.pieces:
            word = result_type()
            if value is not None:
                ctypes.memmove(ctypes.addressof(word), value, plan.result.size_bytes)
            return word.value
        return 0 if value is None else value

    def call(*raws: Any) -> Any:
        if PENDING.is_set():
            return finish(None, raws)
        try:
            itself = reference_to()
            if itself is None:
                raise RuntimeError(
                    f"{declared.name}() was called by C after it was freed; keep a reference to it as long as C has it"
                )
            if itself._closed:
                raise RuntimeError(f"{declared.name}() was called by C after it was closed")
            arguments = [
                box(index, step, parameter, value)
                for index, ((step, parameter), value) in enumerate(zip(boxes, planned.values(raws), strict=True))
            ]
            returned = itself._function(*arguments)
            if formal is None:
                return None
            value, owner = reference.to_value(formal, returned)
            given = finish(value, raws)
            del owner  # what the value lies in must live until here
            return given
        except BaseException as problem:  # every exception belongs to the gate that called C
            if PENDING.put(problem):
                return finish(None, raws)
            raise  # nobody can take it up: ctypes gives it to sys.unraisablehook, and zero to C

    call.__name__ = call.__qualname__ = declared.name
    closure = prototype(call)
    if not callback._is_for_one_call:
        _LAST.append(closure)
    return closure


_LAST: deque[object] = deque(maxlen=256)
"""The last closures of callbacks that C keeps: it may call one too late, which is then an error and not a crash."""


@lru_cache(maxsize=256)
def _prototype(plan: CallPlan) -> tuple[PlannedCall, Any]:
    """The ctypes class of a function pointer; ctypes itself keeps each for ever."""
    planned = PlannedCall(plan)
    return planned, ctypes.CFUNCTYPE(planned.result_type, *planned.argument_types)
