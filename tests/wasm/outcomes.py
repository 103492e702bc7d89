"""What engines make of a module, and where they differ.

As a program it compares engines on random modules, each in a child process:

    python tests/wasm/outcomes.py --first 0 --count 1000
    python tests/wasm/outcomes.py --first 17 --write module.wasm
    python tests/wasm/outcomes.py --stacks --engines wasmtime,compiled     # those of random_stacks
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from random_modules import random_calls, random_module
from random_stacks import STACK_CALLS, random_stack_module

from callgate import wasm

Calls = Sequence[tuple[str, tuple[int, ...]]]


class Outcome(NamedTuple):
    """What an engine made of a module: a line a call, then the memory and the globals."""

    calls: tuple[str, ...]
    memory: str
    globals: tuple[int, ...]


Exports = Callable[[str, tuple[int, ...]], object]


def outcome(calls: Calls, call: Exports, memory: Callable[[], bytes], trap: type[Exception]) -> Outcome:
    """Make the calls through `call`."""
    lines = []
    for name, arguments in calls:
        call("refuel", ())
        try:
            lines.append(f"{name}{arguments} = {numbers(call(name, arguments))}")
        except trap as error:
            lines.append(f"{name}{arguments}: {trap_text(str(error))}")
    digest = hashlib.sha256(memory())
    return Outcome(tuple(lines), digest.hexdigest(), numbers(call("globals", ())))


def numbers(result: Any) -> tuple[int, ...]:
    """A call's results, however many."""
    if result is None:
        return ()
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


_TEXTS = (
    "integer divide by zero",
    "integer overflow",
    "out of bounds memory access",
    "out of bounds table access",
    "undefined element",
    "uninitialized element",
    "indirect call type mismatch",
    "invalid conversion to integer",
    "unreachable",
    "call stack exhausted",
)


def trap_text(message: str) -> str:
    """The specification's words in a trap's message; an index outside a table is one thing here."""
    for text in _TEXTS:
        if text in message:
            return "out of bounds table access" if text == "undefined element" else text
    return message


def callgate_outcome(data: bytes, calls: Calls, **options: Any) -> Outcome:
    """The outcome in callgate."""
    with wasm.load(data, cache=False, **options) as instance:
        memory = instance.memory
        return outcome(
            calls,
            lambda name, arguments: instance.exports[name](*arguments),
            lambda: memory.read(0, memory.size_bytes),
            wasm.Trap,
        )


def wasmtime_outcome(data: bytes, calls: Calls) -> Outcome:
    """The outcome in wasmtime; ImportError where it is not installed."""
    wasmtime: Any = importlib.import_module("wasmtime")

    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, data), []).exports(store)
    memory = exports["memory"]
    return outcome(
        calls,
        lambda name, arguments: exports[name](store, *arguments),
        lambda: bytes(memory.read(store, 0, memory.data_len(store))),
        wasmtime.Trap,
    )


def difference(one: Outcome, other: Outcome) -> str | None:
    """The first thing in which two outcomes differ."""
    for mine, theirs in zip(one.calls, other.calls, strict=True):
        if mine != theirs:
            return f"{mine}\n  and {theirs}"
    if one.globals != other.globals:
        return f"globals {one.globals}\n    and {other.globals}"
    return "memory" if one.memory != other.memory else None


ENGINES: dict[str, Callable[[bytes, Calls], Outcome]] = {
    "wasmtime": wasmtime_outcome,
    "portable": lambda data, calls: callgate_outcome(data, calls, engine="portable"),
    "compiled": lambda data, calls: callgate_outcome(data, calls, engine="compiled"),
    "guarded": lambda data, calls: callgate_outcome(data, calls, engine="compiled", bounds="guarded"),
}


def apart(work: Callable[[], object]) -> object:
    """The result of a call in a forked child; its exception's or its death's description as a str."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            result: object = work()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        with os.fdopen(writer, "wb") as file:
            pickle.dump(result, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        pickled = file.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(pickled) if pickled else f"died with status {status}"


def compare(data: bytes, calls: Calls, names: Sequence[str]) -> Iterator[str]:
    """The differences that a module shows."""
    outcomes = {name: apart(lambda name=name: ENGINES[name](data, calls)) for name in names}  # type: ignore[misc]
    first, *others = names
    for name in names:
        if isinstance(outcomes[name], str):
            yield f"{name}: {outcomes[name]}"
    for name in others:
        one, other = outcomes[first], outcomes[name]
        if isinstance(one, Outcome) and isinstance(other, Outcome) and (found := difference(one, other)):
            yield f"{first} and {name}: {found}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--engines", default=",".join(ENGINES), help="the first is compared with the others")
    parser.add_argument("--no-simd", action="store_true")
    parser.add_argument("--write", metavar="FILE", help="write the first seed's module and stop")
    parser.add_argument("--stacks", action="store_true", help="modules of random_stacks")
    given = parser.parse_args()

    def module(seed: int) -> bytes:
        return random_stack_module(seed) if given.stacks else random_module(seed, with_simd=not given.no_simd)

    if given.write:
        with open(given.write, "wb") as file:
            file.write(module(given.first))
        return 0
    started = time.monotonic()
    bad = 0
    for seed in range(given.first, given.first + given.count):
        data = module(seed)
        found = list(compare(data, STACK_CALLS if given.stacks else random_calls(seed, data), given.engines.split(",")))
        bad += bool(found)
        for line in found:
            print(f"seed {seed}: {line}", flush=True)
    print(f"{given.count} modules, {bad} with differences, {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
