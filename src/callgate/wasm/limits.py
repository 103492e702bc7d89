"""What an instance may use."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from callgate.wasm.binary import ModuleData

BULK_STEP_BYTES: Final = 64
"""What an instruction may fill or copy for each step of fuel; it is charged before anything is written."""
REFERENCE_BYTES: Final = 8
"""What an element of a table counts as."""
_SLICE_BYTES: Final = 1 << 22
"""What is filled or copied between two looks at signals and the time: some milliseconds."""
_LARGE_BODY_BYTES: Final = 32 << 10
"""A round of a loop is taken to be short in functions up to this size."""


def poll_interval(rounds: int, module: ModuleData) -> int:
    """How many rounds and calls there are between two looks: fewer where a body is so large that each may take long."""
    largest = max([body.end - body.start for body in module.bodies], default=0)
    return max(1, rounds * _LARGE_BODY_BYTES // max(_LARGE_BODY_BYTES, largest))


def slices(count: int, unit_bytes: int = 1) -> Iterator[tuple[int, int]]:
    """The parts, from and up to, in which an instruction fills or copies so many bytes or elements."""
    step = _SLICE_BYTES // unit_bytes // unit_bytes  # what isn't bytes is slower by itself
    for first in range(0, count, step):
        yield first, min(first + step, count)


class _Limits(NamedTuple):
    fuel: int | None
    timeout_s: float | None
    memory_bytes: int | None
    table_elements: int | None
    stack_bytes: int | None


class Limits(_Limits):
    """What an instance may use; None is no limit of its own.

    `fuel`: calls and rounds of loops in all, then OutOfFuel; a function that neither loops nor calls costs nothing, an
    instruction that fills or copies memory 1 for each 64 bytes, of a table 1 for each 8 elements.
    `timeout_s`: seconds for each call from Python, then TimedOut.  `memory_bytes`: what its memory may grow to.
    `table_elements`: what each table may grow to.  `stack_bytes`: how much of the thread's stack a call may use, then
    StackExhausted; in portable mode a function counts as 128 bytes and 8 for each of its parameters, locals and values.

    Raises TypeError and ValueError for what is no such number.

    >>> Limits(fuel=10**6, timeout_s=0.5)
    Limits(fuel=1000000, timeout_s=0.5, memory_bytes=None, table_elements=None, stack_bytes=None)
    """

    __slots__ = ()

    def __new__(
        cls,
        *,
        fuel: int | None = None,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        table_elements: int | None = None,
        stack_bytes: int | None = None,
    ) -> Limits:
        counts = {"fuel": fuel, "memory_bytes": memory_bytes}
        counts |= {"table_elements": table_elements, "stack_bytes": stack_bytes}
        for name, count in counts.items():
            if count is None:
                continue
            if not hasattr(type(count), "__index__") or isinstance(count, bool):
                raise TypeError(f"Limits({name}=) must be an int or None, not {type(count).__name__}")
            if index(count) < 0:
                raise ValueError(f"Limits({name}=) must not be negative: {count}")
        if timeout_s is not None:
            if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool):
                raise TypeError(
                    f"Limits(timeout_s=) must be a number of seconds or None, not {type(timeout_s).__name__}"
                )
            if not timeout_s >= 0:
                raise ValueError(f"Limits(timeout_s=) must not be negative: {timeout_s}")
        return super().__new__(cls, fuel, timeout_s, memory_bytes, table_elements, stack_bytes)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), self._asdict()
