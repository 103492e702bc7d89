"""Timing calls: a loop of its own for every contender, in turns, the least of many rounds, less an empty loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter_ns
from typing import Any


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


def _compiled_loop(body: str, arguments: tuple[object, ...]) -> Callable[..., int]:
    """A function `loop(call, turns, *arguments)` that takes nanoseconds.

    Compiled anew for each contender: the interpreter specialises a call site for what it calls, so contenders that
    share one would slow each other.  Call and arguments are locals.
    """
    names = ", ".join(f"a{number}" for number in range(len(arguments)))
    scope: dict[str, Any] = {"clock": perf_counter_ns}
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
    functions: Mapping[str, Callable[..., object]], arguments: tuple[object, ...], calls: int, rounds: int
) -> dict[str, float]:
    """The cost of `function(*arguments)` in ns for each of `functions`, measured in turns in one process.

    Each of `rounds` rounds times `calls` calls of everyone and as many turns of an empty loop; the least counts.
    """
    loops = {name: _compiled_loop("call({names})", arguments) for name in functions}
    empty = _compiled_loop("pass", arguments)
    least = dict.fromkeys(functions, 1 << 63)
    least_empty = 1 << 63
    order = list(functions)
    with without_gc():
        for _ in range(rounds):
            order.append(order.pop(0))  # nobody always runs after the same neighbour
            for name in order:
                least[name] = min(least[name], loops[name](functions[name], repeat(None, calls), *arguments))
            least_empty = min(least_empty, empty(None, repeat(None, calls), *arguments))
    return {name: max(0, spent - least_empty) / calls for name, spent in least.items()}
