"""CALLGATE_TRACE=1: count and time every gate and callback, and report at exit those that held the GIL too long.

Tracing puts a Python function before the gate, so traced programs are slower; the times are those of the calls.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from callgate.runtime.environment import is_asked_for
from callgate.runtime.locks import ProcessLock

if TYPE_CHECKING:
    from callgate.runtime.gate import Gate

IS_TRACED = is_asked_for("CALLGATE_TRACE")

LONG_HOLD_NS = 10_000
"""Holding the GIL longer than this is worth a `blocking=True`."""

HELD, RELEASED, CALLBACK = "held", "released", "callback"


class Count:
    """The calls of one function: how many, how long altogether, the longest, and how many held the GIL too long."""

    __slots__ = ("calls", "kind", "long_holds", "longest_ns", "name", "total_ns")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.calls = 0
        self.total_ns = 0
        self.longest_ns = 0
        self.long_holds = 0

    def add(self, spent: int, inside: int) -> None:
        """One more call; Python ran for `inside` of it."""
        with _lock.here:  # no calls inside: where the interpreter makes none, it runs no finalizers either
            self.calls += 1
            self.total_ns += spent
            if spent > self.longest_ns:  # noqa: PLR1730
                self.longest_ns = spent
            if spent - inside > LONG_HOLD_NS and self.kind == HELD:
                self.long_holds += 1


class _Callbacks(threading.local):
    spent_ns = 0  # in callbacks of this thread


_counts: dict[tuple[str, str, str], Count] = {}
_callbacks = _Callbacks()
_lock = ProcessLock()


def _count(name: str, library: str, kind: str) -> Count:
    """The count of a function: gates made again and callbacks made for one call go on counting."""
    with _lock.here:
        if not _counts:
            atexit.register(report)
        return _counts.setdefault((name, library, kind), Count(name, kind))


def traced(function: object, gate: Gate) -> object:
    """A bound method of the gate that times each call of `function`."""
    from types import MethodType

    count = _count(gate.name, gate.library_name, RELEASED if gate.conversion.is_blocking else HELD)

    def call(gate: Gate, /, *given: object, **keywords: object) -> object:
        before = _callbacks.spent_ns
        start = perf_counter_ns()
        try:
            return function(*given, **keywords)  # type: ignore[operator]
        finally:
            count.add(perf_counter_ns() - start, _callbacks.spent_ns - before)

    # tracebacks, faulthandler's too, and profilers name the gate and its library
    origin = f"<gate of {gate.library_name}>" if gate.library_name else "<gate>"
    call.__code__ = call.__code__.replace(co_name=gate.name, co_filename=origin)
    call.__name__ = gate.name
    call.__qualname__ = gate.name
    call.__doc__ = getattr(function, "__doc__", None)
    text = getattr(function, "__text_signature__", None)
    if text and not text.startswith("($self"):
        text = text.replace("(", "($self, " if text != "()" else "($self", 1)
    if text:
        call.__text_signature__ = text  # type: ignore[attr-defined]
    if gate.original is not None:  # what packages read of their functions
        for attribute in ("argtypes", "restype", "errcheck"):
            setattr(call, attribute, getattr(gate.original, attribute, None))
        call._as_parameter_ = gate.original  # type: ignore[attr-defined]
    return MethodType(call, gate)


def traced_callback(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The Python function of a callback, timed."""
    count = _count(name, "", CALLBACK)

    def call(*given: object, **keywords: object) -> object:
        before = _callbacks.spent_ns
        start = perf_counter_ns()
        try:
            return function(*given, **keywords)
        finally:
            spent = perf_counter_ns() - start
            _callbacks.spent_ns = before + spent  # what gates inside it spent in callbacks is in that
            count.add(spent, 0)

    return call


def report_text() -> str:
    """The table of all functions that were called, the longest in total first."""
    with _lock.here:
        called = sorted((count for count in _counts.values() if count.calls), key=lambda count: -count.total_ns)
        lines = [f"{'callgate trace':<32} {'calls':>10} {'total ms':>10} {'longest us':>11} {'long GIL holds':>15}"]
        for count in called:
            holds = str(count.long_holds) if count.kind == HELD else count.kind
            lines.append(
                f"{count.name:<32} {count.calls:>10} {count.total_ns / 1e6:>10.3f} {count.longest_ns / 1e3:>11.1f} "
                f"{holds:>15}"
            )
        advised = [count.name for count in called if count.long_holds]
    if advised:
        names = ", ".join(advised)
        lines.append(f"held the GIL for more than {LONG_HOLD_NS // 1000} us; consider blocking=True: {names}")
    return "\n".join(lines)


def report() -> None:
    """Write the table to stderr; runs at exit."""
    print(report_text(), file=sys.stderr)
