"""CALLGATE_TRACE=1: count and time every gate, and report at exit those that held the GIL too long.

Tracing puts a Python function before the gate, so traced programs are slower; the times are those of the calls.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from time import perf_counter_ns

from callgate.runtime.gate import Gate

LONG_HOLD_NS = 10_000
"""Holding the GIL longer than this is worth a `blocking=True`."""


class Count:
    """The calls of one gate: how many, how long altogether, the longest, and how many held the GIL too long."""

    __slots__ = ("calls", "is_blocking", "long_holds", "longest_ns", "name", "total_ns")

    def __init__(self, name: str, is_blocking: bool) -> None:
        self.name = name
        self.is_blocking = is_blocking
        self.calls = 0
        self.total_ns = 0
        self.longest_ns = 0
        self.long_holds = 0


_counts: list[Count] = []
_lock = threading.RLock()  # a finalizer or signal handler may call a gate while this thread counts


def _renew_lock() -> None:
    """In a forked child: another thread may have held the lock."""
    global _lock  # noqa: PLW0603  # one per process
    _lock = threading.RLock()


def traced(function: object, gate: Gate) -> object:
    """A bound method of the gate that times each call of `function`."""
    from types import MethodType

    count = Count(gate.name, gate.conversion.is_blocking)
    with _lock:
        if not _counts:
            atexit.register(report)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_renew_lock)
        _counts.append(count)

    def call(gate: Gate, /, *given: object, **keywords: object) -> object:
        start = perf_counter_ns()
        try:
            return function(*given, **keywords)  # type: ignore[operator]
        finally:
            spent = perf_counter_ns() - start
            with _lock:  # no calls inside: where the interpreter makes none, it runs no finalizers either
                count.calls += 1
                count.total_ns += spent
                if spent > count.longest_ns:  # noqa: PLR1730
                    count.longest_ns = spent
                if spent > LONG_HOLD_NS and not count.is_blocking:
                    count.long_holds += 1

    call.__name__ = gate.name
    call.__qualname__ = gate.name
    call.__doc__ = getattr(function, "__doc__", None)
    text = getattr(function, "__text_signature__", None)
    if text and not text.startswith("($self"):
        text = text.replace("(", "($self, " if text != "()" else "($self", 1)
    if text:
        call.__text_signature__ = text  # type: ignore[attr-defined]
    return MethodType(call, gate)


def report_text() -> str:
    """The table of all traced gates that were called, the longest in total first."""
    with _lock:
        called = sorted((count for count in _counts if count.calls), key=lambda count: -count.total_ns)
        lines = [f"{'callgate trace':<32} {'calls':>10} {'total ms':>10} {'longest us':>11} {'long GIL holds':>15}"]
        for count in called:
            holds = "released" if count.is_blocking else str(count.long_holds)
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
