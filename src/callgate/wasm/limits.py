"""What an instance may use."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """What an instance may use; None is no limit of its own.

    `fuel`: calls and rounds of loops in all, then OutOfFuel.  `timeout_s`: seconds for each call from Python, then
    TimedOut.  `memory_bytes`: what its memory may grow to.  `table_elements`: what each table may grow to.
    `stack_bytes`: how much of the thread's stack a call may use, then StackExhausted.
    """

    fuel: int | None = None
    timeout_s: float | None = None
    memory_bytes: int | None = None
    table_elements: int | None = None
    stack_bytes: int | None = None
