"""Random callbacks on both engines: C functions built by gcc call Python with given values and check what comes back.

CALLGATE_CALLBACKS is how many are drawn (2,000 by default, half on each engine), CALLGATE_SEED the seed of the first
batch.  What arrives in Python and what C gets back is compared as bytes, without padding.  Narrow integers sometimes
come with garbage above them, which the convention allows.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import callgate
from callgate.abi.plan import Class, classify_types
from callgate.c import types as c
from callgate.c.types import Kind, Pointer, Record, Scalar, spell
from fuzz.classes import Classes, can_be_written, ctypes_scalar, words
from fuzz.generate import Index, Real, Whole
from fuzz.isolation import Watch, isolated
from fuzz.values import (
    FILL,
    IS_COMPILED,
    MAXIMUM_SEEN,
    NOT_COMPILED,
    PRELUDE,
    TARGET,
    Function,
    Value,
    braced,
    compile_library,
    draw_function,
)

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason=NOT_COMPILED)

ENGINES = ("native", "ctypes")
BATCH = 250
COUNT = int(os.environ.get("CALLGATE_CALLBACKS", "2000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
POINTER = Pointer(c.VOID)


def is_narrow(value: Value) -> bool:
    """Whether an argument leaves the upper bits of its register open."""
    return isinstance(value.ctype, Scalar) and value.ctype.kind is not Kind.FLOATING and len(value.image) < 8


def caller(function: Function, garbage: int) -> str:
    """The C function that calls back; with `garbage` above narrow integers unless that is 0."""
    types, lines = [], [f"{spell(function.result_type, 'result')};"] if function.result else []
    for index, value in enumerate(function.arguments):
        ctype, image = value.ctype, value.image
        if garbage and is_narrow(value):
            ctype, image = c.UNSIGNED_LONG, image + bytes((garbage,)) * (8 - len(image))
        types.append(ctype)
        lines.append(f"{spell(ctype, f'a{index}')};")
        if image:
            lines.append(f"memcpy(&a{index}, (unsigned char[]){braced(image)}, {len(image)});")
    names = ", ".join(f"a{index}" for index in range(len(types)))
    pointer = spell(function.result_type, f"(*)({', '.join(map(spell, types)) or 'void'})")
    call = f"(({pointer})callback)({names});"
    lines += ["START", "scramble();", f"result = {call}" if function.result else call]
    if function.result:
        lines.append(f"memcpy(seen, &result, {len(function.result.image)});")
    body = "".join(f"    {line}\n" for line in lines)
    return f"int {function.name}(void *callback)\n{{\n{body}    return -7;\n}}\n"


def python(classes: Classes, value: Value) -> Any:
    """The Python value of what lies in memory."""
    if isinstance(value.ctype, Record):
        return classes.of(value.ctype).from_buffer_copy(value.image)
    return ctypes_scalar(value.ctype).from_buffer_copy(value.image).value


def image_of(value: Value, item: object) -> bytes:
    """The memory of a Python value that arrived."""
    if isinstance(value.ctype, Record) or isinstance(item, ctypes.c_void_p):
        return bytes(item)  # type: ignore[call-overload, no-any-return]
    return bytes(ctypes_scalar(value.ctype)(item))


def annotation(classes: Classes, value: Value) -> Any:
    return callgate.Ptr[None] | None if value.ctype == POINTER else classes.annotation(value.ctype)


class Called:
    """The Python function that C calls: it keeps its arguments, and the first time may call C again."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.arguments: list[tuple[Any, ...]] = []
        self.again: Callable[[], Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        self.arguments.append(arguments)
        if self.again and len(self.arguments) == 1:
            assert self.again() == -7
        return self.result


def odd(random: Random, value: Value, item: Any) -> Any:
    """A result that is not the plain object of its type, now and then; an address must be an int."""
    if random.random() < 0.1 and type(item) is int:
        return random.choice((Whole, Whole if value.ctype == POINTER else Index))(item)
    return Real(item) if random.random() < 0.1 and type(item) is float else item


def bound(function: Function, library: Any, classes: Classes, called: Called, random: Random) -> Callable[[], Any]:
    """What calls the C function with a Python one."""
    given = [annotation(classes, value) for value in function.arguments]
    returned = annotation(classes, function.result) if function.result else None
    names = [f"a{index}" for index in range(len(given))]
    scope: dict[str, Any] = {"called": called}
    exec(f"def back({', '.join(names)}): return called({', '.join(names)})", scope)
    exec(f"def {function.name}(callback): ...", scope)
    back, declared = scope["back"], scope[function.name]
    is_kept = random.random() < 0.5
    marker = callgate.Callback if is_kept else Callable
    declared.__annotations__ = {"callback": marker[given, returned], "return": callgate.i32}
    if is_kept:
        back.__annotations__ = dict(zip([*names, "return"], [*given, returned], strict=True))
        back = callgate.callback(back)
    gate = library.function(blocking=random.random() < 0.3)(declared)
    if random.random() < 0.1:
        called.again = lambda: gate(back)
    return lambda: gate(back)


def problems_of(function: Function, classes: Classes, call: Callable[[], Any], called: Called, seen: Any) -> list[str]:
    problems = []
    if (returned := call()) != -7:
        problems.append(f"{returned!r} came back from C")
    if len(called.arguments) != (2 if called.again else 1):
        problems.append(f"called {len(called.arguments)} times")
    for arguments in called.arguments:
        for index, (value, item) in enumerate(zip(function.arguments, arguments, strict=True)):
            image = image_of(value, item)
            if value.differs(image):
                problems.append(f"a{index} is {words(item)}: {value.shown(image)}, expected {value.shown(value.image)}")
            if isinstance(value.ctype, Record) and type(item) is not classes.of(value.ctype):
                problems.append(f"a{index} is a {type(item).__name__}")
    size = len(function.result.image) if function.result else 0
    problems.append(function.result_problem(seen.raw[:size]))
    if seen.raw[size:].strip(bytes((FILL,))):
        problems.append("more was written than the result")
    return [problem for problem in problems if problem]


def problems_in(path: Path, engine: str, batch: Sequence[Function], watch: Watch) -> dict[int, str]:
    plain = ctypes.CDLL(str(path))
    seen = (ctypes.c_char * MAXIMUM_SEEN).in_dll(plain, "seen")
    library = callgate.load(str(path), engine=engine)
    classes = Classes()
    found = {}
    for index, function in enumerate(batch):
        watch(index)
        random = Random(function.name + function.records)  # the same while arguments are left out
        called = Called(odd(random, function.result, python(classes, function.result)) if function.result else None)
        try:
            call = bound(function, library, classes, called, random)
            problems = problems_of(function, classes, call, called, seen)
        except Exception:
            problems = [traceback.format_exc(limit=-3)]
        if problems:
            found[index] = "\n".join(problems)
    return found


def source(batch: Sequence[Function]) -> str:
    garbage = (0, 0x80, 0xA5, 0)
    return PRELUDE + "".join(
        f"\n{function.records}{caller(function, garbage[int(function.name[1:]) % 4])}" for function in batch
    )


def built(batch: Sequence[Function], directory: Path, engine: str, optimization: int) -> dict[int, str]:
    with TemporaryDirectory(dir=directory) as folder:
        path = compile_library(source(batch), Path(folder), optimization)
        return isolated(lambda watch: problems_in(path, engine, batch, watch))


def smallest(function: Function, directory: Path, engine: str, optimization: int) -> tuple[Function, str]:
    """The callback without the arguments that it fails without."""
    problem = built([function], directory, engine, optimization).get(0, "")
    candidates = [replace(function, result=None)]
    index = len(function.arguments)
    while problem and (candidates or index):
        if not candidates:
            index -= 1
            rest = function.arguments[:index] + function.arguments[index + 1 :]
            candidates = [replace(function, arguments=rest)]
        candidate = candidates.pop()
        if still := built([candidate], directory, engine, optimization).get(0):
            function, problem = candidate, still
    return function.without_unused_records(), problem


def returns_one_word(function: Function) -> bool:
    """Whether it comes back in one register, or where ctypes knows to write it."""
    plan = classify_types((), function.result_type, TARGET)
    is_in_several = len(plan.result.pieces) > 1 or plan.result.eightbyte_class is Class.X87
    return not (isinstance(function.result_type, Record) and is_in_several) and plan.result_pointer != "x8"


def functions(seed: int, count: int, engine: str) -> list[Function]:
    """Up to `count` callbacks that depend on the seed alone.

    Types that no class can say are left out, and for ctypes structs that do not come back in one word.
    """
    random = Random(seed)
    drawn = [draw_function(random, f"f{index}", more_scalars=(POINTER, POINTER)) for index in range(count)]
    if engine == "ctypes":
        drawn = [function if returns_one_word(function) else replace(function, result=None) for function in drawn]
    return [
        function
        for function in drawn
        if all(map(can_be_written, [*(value.ctype for value in function.arguments), function.result_type]))
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_random_callbacks(engine: str, tmp_path: Path) -> None:
    """The engines see callbacks of their own; half of them are made by `@callback`."""
    called = 0
    for number, done in enumerate(range(0, COUNT // 2, BATCH)):
        seed = SEED + 2 * number + ENGINES.index(engine)
        batch = functions(seed, min(BATCH, COUNT // 2 - done), engine)
        optimization = 2 * (number % 2)
        found = built(batch, tmp_path, engine, optimization)
        reports = []
        for index, problem in sorted(found.items())[:3]:
            small, words = smallest(batch[index], tmp_path, engine, optimization)
            reports.append(f"{small.records}{small.prototype}\n{words or problem}")
        assert not found, f"{engine}: {len(found)} of CALLGATE_SEED={seed} (-O{optimization}):\n" + "\n\n".join(reports)
        called += len(batch)
    print(f"{engine}: {called} callbacks, CALLGATE_SEED={SEED}", file=sys.stderr)
    assert called >= COUNT // 4
