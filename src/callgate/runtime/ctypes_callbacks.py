"""Callbacks of the ctypes engine: closures of ctypes with the conversions, errors and messages of machine code."""

from __future__ import annotations

import ctypes
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from callgate.abi.plan import CallPlan, Class, classify_types
from callgate.c.types import spell
from callgate.cpython.conversion import Box, BoxStep, convert_callback
from callgate.errors import DeclarationError
from callgate.runtime import ctypes_engine, reference
from callgate.runtime.callbacks import PENDING, refuse_null
from callgate.runtime.ctypes_plan import ArmCall, PlannedCall, planned_call
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.c.types import Result
    from callgate.runtime.callbacks import Callback


_LAST: deque[object] = deque(maxlen=256)
"""The closures of callbacks freed last: C, which kept them, may call one too late, which is an error, not a crash."""


class Closure:
    """What a callback owns: the ctypes function pointer, and how to tell that its end has come.

    The Python function lives in `state`, not in the function pointer, which may outlive the callback.
    """

    __slots__ = ("function", "is_kept", "state")

    def __init__(self, function: object, state: list[Any], *, is_kept: bool) -> None:
        self.function = function
        self.state = state
        self.is_kept = is_kept

    def close(self) -> None:
        """From now on a call is an error."""
        self.state[1] = "closed"

    def __del__(self, last: deque[object] = _LAST) -> None:  # bound here: at the end of all modules are empty
        self.state[:] = None, "freed; keep a reference to it as long as C has it"
        if self.is_kept:
            last.append(self.function)


def make_closure(callback: Callback) -> Closure:
    """A ctypes function pointer that calls the callback's Python function."""
    declared = callback.type
    conversion = convert_callback(declared, DATA_MODEL)
    plan = classify_types([parameter.type for parameter in declared.parameters], declared.result_type, DATA_MODEL)
    planned, prototype = _prototype(plan)
    is_several_words = len(plan.result.pieces) > 1 or (plan.result.pieces and plan.result.eightbyte_class is Class.X87)
    if is_several_words or (plan.result_pointer and isinstance(planned, ArmCall)):
        raise DeclarationError(
            f"{declared.name}() returns {spell(declared.result_type)}: a callback of the ctypes engine returns one word"
        )
    boxes = tuple(zip(conversion.boxes, declared.parameters, strict=True))
    step, result_type = conversion.result, planned.result_type

    formal = callback.formal if step is not None else None
    state: list[Any] = [callback._function, ""]

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
            called, end = state
            if end:
                raise RuntimeError(f"{declared.name}() was called by C after it was {end}")
            arguments = [
                box(index, step, parameter, value)
                for index, ((step, parameter), value) in enumerate(zip(boxes, planned.values(raws), strict=True))
            ]
            returned = called(*arguments)
            if formal is None:
                return None
            value, owner = reference.to_value(formal, returned)
            given = finish(value, raws)
            del owner  # what the value lies in must live until here
            return given
        except BaseException as problem:  # every exception belongs to the gate that called C
            if not PENDING.put(problem):
                _report(problem, declared.name)
            return finish(None, raws)

    call.__name__ = call.__qualname__ = declared.name
    closure = prototype(call)
    return Closure(closure, state, is_kept=not callback._is_for_one_call)


def _report(problem: BaseException, name: str) -> None:
    """Give an exception that nobody can take up to sys.unraisablehook, as ctypes does with one out of a closure."""

    def raising() -> None:
        raise problem

    raising.__name__ = raising.__qualname__ = name
    ctypes.CFUNCTYPE(None)(raising)()


@lru_cache(maxsize=256)
def _prototype(plan: CallPlan) -> tuple[PlannedCall, Any]:
    """The ctypes class of a function pointer; ctypes itself keeps each for ever."""
    planned = planned_call(plan)
    return planned, ctypes.CFUNCTYPE(planned.result_type, *planned.argument_types)
