"""How functions of translated code get at each other where a plain Python call is not enough."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.errors import ClosedError, Frame, StackExhausted

FRAME_BYTES: Final = 128
"""What a call counts for `Limits.stack_bytes`, besides 8 for each parameter, local and value."""

MOST_COUNTED_ARGUMENTS: Final = 30 if sys.version_info >= (3, 15) else 1 << 16
"""CPython 3.15 does not count calls with more arguments: they recurse until memory is used up."""


def alive(core: weakref.ref[Any]) -> Any:
    """An instance that is called; ClosedError for finalizers of a cycle with it, which the collector takes apart."""
    found = core()
    if found is None:
        raise ClosedError("the instance is being taken apart by the garbage collector")
    return found


class Tail:
    """A tail call that whoever called has to make."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments


def trampoline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes the tail calls which another one asks for."""

    def call(*arguments: Any) -> Any:
        result = function(*arguments)
        while type(result) is Tail:
            called = result.function
            result = getattr(called, "tail", called)(*result.arguments)
        return result

    call.tail = function  # type: ignore[attr-defined]
    return call


def bounded(function: Callable[..., Any], size: int, room: list[int], frame: Frame) -> Callable[..., Any]:
    """A function that takes so much of the room while it runs, in bytes or calls."""

    def call(*arguments: Any) -> Any:
        try:
            room[0] -= size
            if room[0] < 0:
                raise StackExhausted(frames=(frame,))
            return function(*arguments)
        finally:
            room[0] += size

    if hasattr(function, "tail"):
        call.tail = function.tail  # type: ignore[attr-defined]
    return call


def late(namespace: dict[str, Any], key: str) -> Callable[..., Any]:
    """A function of another instance that has not been translated yet."""

    def call(*arguments: Any) -> Any:
        return namespace[key](*arguments)

    return call


def timed(core: Any, key: str) -> Callable[..., Any]:
    """A function of an instance whose time begins to run when another instance calls it."""

    def call(*arguments: Any) -> Any:
        core.depth += 1
        try:
            if core.depth == 1:
                core.begin()
            return core.namespace[key](*arguments)
        finally:
            core.depth -= 1

    return call
