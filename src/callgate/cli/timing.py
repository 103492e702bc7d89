"""Timing calls: a loop of its own for every contender, in turns, the least of many rounds, less an empty loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter_ns
from typing import Any, NamedTuple


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Turn(NamedTuple):
    """A call that is timed: `function(*arguments)`."""

    function: Callable[..., object]
    arguments: tuple[object, ...]


def _compiled_loop(body: str, arguments: tuple[object, ...], clock: Callable[[], int]) -> Callable[..., int]:
    """A function `loop(call, turns, *arguments)` that returns the nanoseconds that it takes by `clock`.

    Compiled anew for each contender: the interpreter specialises a call site for what it calls, so contenders that
    share one would slow each other.  Call and arguments are locals.
    """
    names = ", ".join(f"a{number}" for number in range(len(arguments)))
    scope: dict[str, Any] = {"clock": clock}
    exec(
        f"def loop(call, turns{', ' + names if names else ''}):\n"
        f"    start = clock()\n"
        f"    for _ in turns:\n"
        f"        {body.format(names=names)}\n"
        f"    return clock() - start\n",
        scope,
    )
    loop: Callable[..., int] = scope["loop"]
    return loop


def nanoseconds_a_call(
    turns: Mapping[str, Turn],
    calls: int,
    rounds: int,
    prepare: Callable[[], object] = lambda: None,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, float]:
    """The cost in ns of a call of each of `turns`, measured in turns in one process.

    Each of `rounds` rounds times `calls` calls of everyone, after `prepare()`, and as many turns of an empty loop; the
    least counts.
    """
    loops = {name: _compiled_loop("call({names})", turn.arguments, clock) for name, turn in turns.items()}
    most = max((turn.arguments for turn in turns.values()), key=len, default=())
    empty = _compiled_loop("pass", most, clock)
    least = dict.fromkeys(turns, 1 << 63)
    least_empty = 1 << 63
    order = list(turns)
    with without_gc():
        for _ in range(rounds):
            order.append(order.pop(0))  # nobody always runs after the same neighbour
            for name in order:
                function, arguments = turns[name]
                prepare()
                least[name] = min(least[name], loops[name](function, repeat(None, calls), *arguments))
            least_empty = min(least_empty, empty(None, repeat(None, calls), *most))
    return {name: max(0, spent - least_empty) / calls for name, spent in least.items()}
