"""Wrong objects for random functions with structs: both engines refuse them with the same words, and accept the same.

CALLGATE_SEED is the seed, CALLGATE_STRUCTS how many functions are drawn (a tenth of that: each is called many times).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import callgate
from callgate.c.types import Pointer
from fuzz import test_random_callbacks, test_random_structs, test_random_variadics, values
from fuzz.classes import Classes
from fuzz.generate import Index, Real, Whole
from fuzz.isolation import Watch, isolated
from fuzz.values import IS_COMPILED, NOT_COMPILED, compile_library

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason=NOT_COMPILED)

SEED = int(os.environ.get("CALLGATE_SEED", "1"))
COUNT = int(os.environ.get("CALLGATE_STRUCTS", "2000")) // 10


class Other(callgate.Struct):
    number: callgate.i64


class Failing:
    """An object whose conversions raise."""

    def __index__(self) -> int:
        raise LookupError("no index")

    def __float__(self) -> float:
        raise LookupError("no float")


def wrong_objects(right: object) -> list[Any]:
    """What may be passed instead of the right object; some of it is right too."""
    wrong: list[Any] = [
        *(
            None,
            True,
            -1,
            0,
            127,
            128,
            255,
            256,
            1 << 31,
            -(1 << 31) - 1,
            1 << 63,
            1 << 64,
            -(1 << 70),
            Index(5),
            Whole(6),
        ),
        *(0.5, float("inf"), float("nan"), 1e39, Real(2.5), 1j, "", "x", "€", "ab", "a\0b", b"", b"x", b"a\0b"),
        *(bytearray(b"x" * 20), [1] * 20, (), {}, object(), int, Failing(), Other(3), Other, ctypes.byref(Other())),
        *(ctypes.c_int(3), ctypes.c_double(0.5), (ctypes.c_ubyte * 20)(), ctypes.c_char_p(b"text"), lambda: 1),
    ]
    if isinstance(right, ctypes.Structure | ctypes.Union):
        cls: Any = type(right)
        below = type("Below", (cls,), {})
        wrong += [cls, ctypes.pointer(right), ctypes.byref(right), (cls * 2)(), bytes(right), below()]
    return wrong


Outcome = tuple[str, str]


def outcome(call: Callable[[], Any], expected: Sequence[values.Value] = ()) -> Outcome:
    """What a call ends in; of structs the bits that count, of the values expected."""
    try:
        returned = call()
    except Exception as problem:
        return type(problem).__name__, str(problem)
    items = returned if len(expected) > 1 else (returned,)
    return "returned", ", ".join(
        value.shown(bytes(item)) if value and isinstance(item, ctypes.Structure | ctypes.Union) else repr(item)
        for value, item in zip(expected or (None,), items, strict=True)
    )


def struct_outcomes(path: Path, engine: str, batch: Sequence[values.Function]) -> dict[str, Outcome]:
    way = test_random_structs.Written(path, engine)
    found = {}
    for function in batch:
        random = Random(function.name)
        bound = way.function(function, {})
        right = [way.python(value) for value in function.arguments]
        expected = [*([function.result] if function.result else []), *function.outs]
        for index in random.sample(range(len(right)), min(3, len(right))):
            for number, wrong in enumerate(wrong_objects(right[index])):
                given = [*right[:index], wrong, *right[index + 1 :]]
                what = f"{function.prototype} with a{index}, {number}: {type(wrong).__name__}"
                found[what] = outcome(lambda bound=bound, given=given: bound(*given), expected)
        found[f"{function.prototype} with one more"] = outcome(lambda bound=bound, right=right: bound(*right, 1))
        if right:
            found[f"{function.prototype} with one fewer"] = outcome(lambda bound=bound, right=right: bound(*right[1:]))
    return found


def callback_outcomes(path: Path, engine: str, batch: Sequence[values.Function]) -> dict[str, Outcome]:
    library = callgate.load(str(path), engine=engine)
    classes = Classes()
    found = {}
    for function in batch:
        if not function.result:
            continue
        right = test_random_callbacks.python(classes, function.result)
        called = test_random_callbacks.Called(right)
        call = test_random_callbacks.bound(function, library, classes, called, Random(function.name))
        called.again = None
        seen = (ctypes.c_char * len(function.result.image)).in_dll(ctypes.CDLL(str(path)), "seen")
        for number, wrong in enumerate(wrong_objects(right)):
            called.result = wrong
            kind, words = outcome(call)
            what = f"{function.prototype}, result {number}: {type(wrong).__name__}"
            returned = bytes(a & b for a, b in zip(seen.raw, function.result.mask, strict=True))
            if kind == "returned" and not isinstance(function.result_type, Pointer):  # an address is another each time
                words += f" {returned.hex(' ')}"
            found[what] = kind, words
    return found


def variadic_outcomes(path: Path, engine: str, records: Any) -> dict[str, Outcome]:
    take = test_random_variadics.Take(path, engine, 0, records, Classes())
    seen = (ctypes.c_char * 16).in_dll(ctypes.CDLL(str(path)), "seen")
    found = {}
    for number, wrong in enumerate(wrong_objects(Other())):
        for format in ("", "i", "l"):
            kind, words = outcome(lambda format=format, wrong=wrong: take.call(7, format, wrong))
            if isinstance(wrong, int | Index) and format:
                words += f" {seen.raw[4:8].hex(' ')}"
            found[f"{number}: {type(wrong).__name__} for {format!r}"] = kind, words
    return found


@pytest.mark.parametrize("kind", ["structs", "callbacks", "variadics"])
def test_both_engines_refuse_alike(kind: str, tmp_path: Path) -> None:
    print(f"CALLGATE_SEED={SEED}")
    outcomes: Callable[[Path, str, Any], dict[str, Outcome]]
    drawn: Any
    if kind == "structs":
        outcomes = struct_outcomes
        drawn = [f for f in values.python_functions(SEED, COUNT) if test_random_structs.is_writable(f)]
        path = compile_library(values.source(drawn), tmp_path)
    elif kind == "callbacks":
        outcomes = callback_outcomes
        drawn = test_random_callbacks.functions(SEED, COUNT, "ctypes")
        path = compile_library(test_random_callbacks.source(drawn), tmp_path)
    else:
        outcomes = variadic_outcomes
        drawn = test_random_variadics.draw_records(Random(SEED))
        path = compile_library(test_random_variadics.source(drawn, "native"), tmp_path)

    def found_in(engine: str) -> dict[str, Any]:
        def found(watch: Watch) -> dict[Any, Any]:
            return outcomes(path, engine, drawn)

        return isolated(found)  # type: ignore[return-value]

    native, by_ctypes = found_in("native"), found_in("ctypes")
    assert len(native) > 50, native
    assert native.keys() == by_ctypes.keys()
    different = [
        f"{what}\n  native {native[what]}\n  ctypes {by_ctypes[what]}"
        for what in native
        if native[what] != by_ctypes[what]
    ]
    assert not different, f"{len(different)} of {len(native)} differ:\n" + "\n".join(different[:20])
