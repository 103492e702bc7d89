"""Random structs, callbacks and variadic calls leave nothing behind, whether they succeed or fail.

Each call is made some hundred times; Python's memory blocks must not grow with it.  Cycles are collected before they
are counted, but machine code must not make any.  CALLGATE_SEED is the seed.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

import callgate
from fuzz import test_random_callbacks, test_random_structs, test_random_variadics, values
from fuzz.classes import Classes
from fuzz.values import IS_COMPILED, NOT_COMPILED, compile_library

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason=NOT_COMPILED)

SEED = int(os.environ.get("CALLGATE_SEED", "1"))
COUNT = 40
CALLS = 150

Calls = Iterator[tuple[str, Callable[[], object]]]


def failing(call: Callable[[], object], *expected: type[Exception]) -> Callable[[], object]:
    def attempt() -> None:
        try:
            call()
        except expected:
            return
        raise AssertionError("it did not fail")

    return attempt


def struct_calls(engine: str, directory: Path) -> Calls:
    batch = [f for f in values.python_functions(SEED, COUNT) if test_random_structs.is_writable(f)]
    way = test_random_structs.Written(compile_library(values.source(batch), directory), engine)
    for function in batch:
        random = Random(function.name + function.records)
        bound = way.function(function, test_random_structs.draw_options(random, function))
        given = [test_random_structs.draw_passed(random, v, way.python(v)) for v in function.arguments]
        yield function.prototype, lambda bound=bound, given=given: bound(*given)
        if given:
            wrong = [*given[:-1], object()]
            yield f"{function.prototype}, refused", failing(lambda bound=bound, wrong=wrong: bound(*wrong), TypeError)


def callback_calls(engine: str, directory: Path) -> Calls:
    batch = test_random_callbacks.functions(SEED, COUNT, engine)
    library = callgate.load(str(compile_library(test_random_callbacks.source(batch), directory)), engine=engine)
    classes = Classes()
    for function in batch:
        random = Random(function.name + function.records)
        result = test_random_callbacks.python(classes, function.result) if function.result else None
        called = Forgetful(result)
        call = test_random_callbacks.bound(function, library, classes, called, random)
        yield function.prototype, call
        called.again = None
        called.result = KeyError
        yield f"{function.prototype}, raising", failing(call, KeyError)
        if function.result:
            called.result = object()
            yield f"{function.prototype}, bad result", failing(call, TypeError)


class Forgetful(test_random_callbacks.Called):
    """A callback that keeps nothing, and raises where its result is an exception."""

    def __call__(self, *arguments: Any) -> Any:
        if self.result is KeyError:
            raise KeyError
        return self.result


def variadic_calls(engine: str, directory: Path) -> Calls:
    random = Random(SEED)
    records = test_random_variadics.draw_records(random)
    classes = Classes()
    path = compile_library(test_random_variadics.source(records, engine), directory)
    takes = [
        test_random_variadics.Take(path, engine, number, records, classes)
        for number in range(len(test_random_variadics.FIXED))
    ]
    for number in range(COUNT):
        take = takes[number % len(takes)]
        drawn = test_random_variadics.draw_call(random, records, engine)
        first = take.fixed([values.draw_value(random, ctype) for ctype in take.types])
        format = "".join(passed.letter for passed in drawn)
        given = [*first, format, *(passed.make(classes) for passed in drawn)]
        yield f"{number} {format}", lambda take=take, given=given: take.call(*given)
        yield (
            f"{number} {format}, refused",
            failing(lambda take=take, given=given: take.call(*given, object()), TypeError),
        )


@pytest.fixture
def collected() -> Iterator[None]:
    """Collections that look at new objects alone, which is some hundred times faster."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("calls", [struct_calls, callback_calls, variadic_calls])
def test_nothing_is_left_behind(calls: Callable[[str, Path], Calls], engine: str, tmp_path: Path) -> None:
    print(f"CALLGATE_SEED={SEED}")
    warmed = False
    for what, call in calls(engine, tmp_path):
        for _ in range(20 if warmed else 400):  # caches, and the slots of callbacks, fill up once
            call()
        warmed = True
        grown = float("inf")
        for _ in range(3):  # something else may have grown meanwhile: a cache, a list of free objects
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(CALLS):
                call()
            gc.collect()
            grown = min(grown, (sys.getallocatedblocks() - before) / CALLS)
            if grown < 0.3:
                break
        assert grown < 0.3, f"{engine}: {grown} blocks a call are left by {what}"


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("calls", [struct_calls, callback_calls, variadic_calls])
def test_machine_code_makes_no_cycles(calls: Callable[[str, Path], Calls], tmp_path: Path) -> None:
    if not callgate_is_native():
        pytest.skip("no native engine")
    for what, call in calls("native", tmp_path):
        with suppress(Exception):
            call()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                call()
            found = gc.collect()
        finally:
            gc.enable()
        assert found < 10, f"{found} objects in cycles are left by {what}"


def callgate_is_native() -> bool:
    return callgate.gate(callgate.load("c", "int abs(int number);").abs).engine == "native"
