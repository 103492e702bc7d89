"""Results and Out parameters of every kind, alone and together, and that nobody's references are lost or kept."""

from __future__ import annotations

import ctypes
import enum
import math
import sys
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from here import WCHAR_BITS
from telling import Index, told

import callgate as cg
from callgate import Out, Ptr, Readable, Status, cstr, i32

SCALARS: list[tuple[str, Any, list[Any]]] = [
    ("i8", cg.i8, [-128, -6, -5, 0, 127]),
    ("i16", cg.i16, [-(2**15), -6, 256, 257, 2**15 - 1]),
    ("i32", cg.i32, [-(2**31), -6, -5, 256, 257, 2**31 - 1]),
    ("i64", cg.i64, [-(2**63), -(2**30) + 1, -6, -5, 256, 257, 2**30 - 1, 2**30, 2**60, 2**63 - 1]),
    ("u8", cg.u8, [0, 255]),
    ("u16", cg.u16, [0, 256, 257, 2**16 - 1]),
    ("u32", cg.u32, [0, 2**30 - 1, 2**30, 2**31, 2**32 - 1]),
    ("u64", cg.u64, [0, 256, 257, 2**30 - 1, 2**30, 2**63, 2**64 - 6, 2**64 - 5, 2**64 - 1]),
    ("f32", cg.f32, [0.0, -0.0, 0.5, 1.5 * 2.0**127, math.inf]),
    ("f64", cg.f64, [0.0, -0.0, 0.1, 5e-324, -math.inf]),
    ("longdouble", cg.longdouble, [0.0, -0.0, 0.1, 1e308]),
    ("bool", cg.bool_, [False, True]),
    ("char", cg.char, [b"\0", b"a", b"\xff"]),
    ("wchar", cg.wchar, ["\0", "a", "\U0001f600" if WCHAR_BITS == 32 else "€"]),
]
scalars = pytest.mark.parametrize("scalar", SCALARS, ids=[row[0] for row in SCALARS])


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


@scalars
def test_results_and_outs_of_every_scalar(typed_as: Any, scalar: tuple[str, Any, list[Any]]) -> None:
    suffix, cls, values = scalar
    result, out = typed_as(f"id_{suffix}", cls, cls), typed_as(f"out_{suffix}", cls, Out[cls], None)
    item = typed_as(f"at_{suffix}", Readable[cls], cg.long, cls)
    for value in values:
        assert repr(result(value)) == repr(out(value)) == repr(value)
        assert repr(item((cls * 2)(values[0], value), 1)) == repr(value)


@pytest.mark.parametrize(
    ("suffix", "cls", "first"), [("i64", cg.i64, 1 << 20), ("u32", cg.u32, 1 << 20), ("f64", cg.f64, 0.5)]
)
def test_results_from_freed_objects(typed_as: Any, suffix: str, cls: Any, first: float) -> None:
    """More results at a time than the interpreter keeps freed objects, and as many freed again: each its own."""
    result, out = typed_as(f"id_{suffix}", cls, cls), typed_as(f"out_{suffix}", cls, Out[cls], None)
    for _ in range(3):
        kept = [call(first + number) for number in range(150) for call in (result, out)]
        assert kept == [first + number for number in range(150) for _ in range(2)]
        assert len({id(thing) for thing in kept}) == len(kept)
        assert len({sys.getrefcount(thing) for thing in kept}) == 1
        assert {type(thing) for thing in kept} == {type(first)}
        del kept


def test_nothing_is_none(typed_as: Any) -> None:
    assert typed_as("clear_flag", None)() is None
    assert typed_as("set_errno", i32, None)(0) is None


def test_singletons_are_themselves(typed_as: Any) -> None:
    call = typed_as("id_bool", bool, bool)
    assert call(True) is True and call(False) is False
    assert typed_as("out_bool", bool, Out[bool], None)(True) is True


# -- outs -----------------------------------------------------------------------------------------------------------
def test_one_out_comes_alone_or_behind_the_result(typed_as: Any) -> None:
    assert typed_as("result_and_out", cg.f64, Out[cg.long], cg.f64)(2.5) == (0.5, 2)
    assert repr(typed_as("leave_out", Out[i32], None)()) == "0"  # what C left is zero


def test_leading_and_trailing_outs(typed_as: Any) -> None:
    assert typed_as("two_first", Out[i32], Out[cg.f64], i32, None)(7) == (6, 7.5)
    divide = typed_as("divide", i32, i32, Out[i32], Out[i32], Status)
    assert divide(17, 5) == (3, 2)
    assert told(divide, 1, 0) == "CallError: divide() failed with status 33"
    assert typed_as("divide", i32, i32, Out[i32], Out[i32], i32)(1, 0) == (33, 0, 0)
    assert told(divide, 1, "0") == "TypeError: divide() argument 2 must be int, not str"
    assert told(divide, 1) == "TypeError: divide() takes exactly 2 arguments (1 given)"
    assert told(divide, 1, 2, 3) == "TypeError: divide() takes exactly 2 arguments (3 given)"
    first = typed_as("two_first", Out[i32], Out[cg.f64], i32, None)
    assert told(first, "7") == "TypeError: two_first() argument 1 must be int, not str"


def test_outs_of_many_kinds(typed_as: Any) -> None:
    outs = [cg.i8, cg.u16, cg.f32, cg.longdouble, cg.bool_, cg.char, cg.wchar, str]
    call = typed_as("eight_outs", *(Out[out] for out in outs), None)
    assert repr(call()) == "(-8, 65535, 0.5, 2.5, True, b'f', '€', 'eighth')"
    assert told(call, 1) == "TypeError: eight_outs() takes no arguments (1 given)"


def test_outs_whose_pointers_travel_on_the_stack(typed_as: Any) -> None:
    call = typed_as("outs_on_stack", *[cg.long] * 6, Out[cg.f64], Out[cg.long], None)
    assert call(1, 2, 3, 4, 5, -6) == (9.0, -720)
    assert call(1, 2, 3, 4, 5, Index(-6)) == (9.0, -720)


def test_outs_that_are_null(typed_as: Any) -> None:
    strict = typed_as("result_with_strings", cstr | None, Out[str], Out[Ptr[None]], i32)
    text, pointer = strict("word")[1:]
    assert text == "word" and type(pointer) is ctypes.c_void_p and pointer.value
    assert (
        told(strict, None) == "ValueError: result_with_strings() left x2 NULL; declare it `Out[X | None]` to get None"
    )
    second = typed_as("result_with_strings", cstr | None, Out[str | None], Out[Ptr[None]], i32)
    assert (
        told(second, None) == "ValueError: result_with_strings() left x3 NULL; declare it `Out[X | None]` to get None"
    )
    loose = typed_as("result_with_strings", cstr | None, Out[bytes | None], Out[Ptr[None] | None], i32)
    assert loose(None) == (-1, None, None)


def test_outs_that_are_enums(typed_as: Any) -> None:
    call = typed_as("out_color", i32, Out[Color], None)
    assert call(5) is Color.GREEN
    assert told(call, 1) == "ValueError: 1 is not a valid Color"


def test_scalars_in_and_out(typed_as: Any) -> None:
    level = ctypes.c_uint64(2**40)
    call = typed_as("raise_level", cg.Writable[cg.u64], None)
    assert call(level) is None and level.value == 2**40 + 1
    call(level)
    assert level.value == 2**40 + 2


# -- references -----------------------------------------------------------------------------------------------------
def repeated(call: Callable[[], object], count: int = 3000) -> None:
    for _ in range(count):
        call()


@pytest.mark.parametrize("thing", [None, True, False, 0, 5, 256], ids=repr)
def test_shared_results_are_counted_right(typed_as: Any, thing: Any) -> None:
    """On interpreters that count the references of None and of small ints, each call must take one and give it back."""
    if thing is None:
        call = typed_as("clear_flag", None)
        nulls = typed_as("word", i32, str | None)
        calls = [call, lambda: nulls(4)]
    elif isinstance(thing, bool):
        flag = typed_as("id_bool", bool, bool)
        out = typed_as("out_bool", bool, Out[bool], None)
        calls = [lambda: flag(thing), lambda: out(thing)]
    else:
        result, both = typed_as("id_i32", i32, i32), typed_as("divide", i32, i32, Out[i32], Out[i32], i32)
        calls = [lambda: result(thing), lambda: both(thing, 1)]
    before = sys.getrefcount(thing)
    for each in calls:
        repeated(each)
    assert abs(sys.getrefcount(thing) - before) < 50


def references(*things: object) -> list[int]:
    return [sys.getrefcount(thing) for thing in things]


def test_arguments_keep_their_references(bound: Any, typed_as: Any) -> None:
    lib = bound(
        """int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i);
        size_t both_lengths(const char *a, const char *b); size_t wide_length(const wchar_t *s);
        long sum_all(const int32_t *a, long na, const double *b, long nb, const unsigned char *c, long nc);
        double id_f64(double x); struct counter; int counter_or(struct counter *counter, int otherwise);
        struct counter *counter_static(void);"""
    )
    big, text, data, wide = 2**40 + 5, "é" * 50, b"x" * 50, "\U0001f600" * 20
    ints, doubles, byte, listed = array("i", [1]), array("d", [1.0]), bytearray(b"\1"), [1, 2, 2**40, Index(4)]
    index, length, number, handle = Index(1 << 20), Index(len(data)), 1234.5, lib.counter_static()
    sum_of_i64 = typed_as("at_i64", Readable[cg.i64], cg.long, cg.i64)
    problem = Index(0, lambda: 1 // 0)
    rows: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (lib.weigh9, (1, big, 2, 3, 4, 5, index, 7, 8)), (lib.both_lengths, (text, data)), (lib.wide_length, (wide,)),
        (lib.sum_all, (ints, 1, doubles, 1, byte, 1)), (lib.sum_all, (ints, 1, doubles, 1, data, length)), (lib.id_f64, (number,)),
        (lib.counter_or, (handle, index)), (sum_of_i64, (listed, 3)), (lib.both_lengths, (text, index)), (lib.both_lengths, (data, b"a\0")),
        (lib.sum_all, (ints, 1, doubles, 1, byte, problem)), (lib.weigh9, (1, big, 2, 3, 4, 5, index, 7, number)),
        (lib.weigh9, (1, big, big)), (lib.id_f64, (10**400,)), (lib.sum_all, (ints, problem, doubles, 1, byte, 1)),
        (lib.sum_all, (doubles, 1, ints, 1, byte, 1)), (lib.wide_length, (wide + "\0",)),
    ]  # fmt: skip
    everything = [
        big,
        text,
        data,
        wide,
        ints,
        doubles,
        byte,
        listed,
        index,
        length,
        number,
        handle,
        problem,
        listed[2],
        *(row[0] for row in rows),
    ]
    for call, arguments in rows:
        told(call, *arguments)
        before = references(*everything)
        repeated(lambda: told(call, *arguments), 200)  # noqa: B023
        assert references(*everything) == before
    for thing in (ints, doubles, byte):
        thing.append(1)  # type: ignore[attr-defined]  # nothing is exported


def test_results_are_owned_by_the_caller(bound: Any, typed_as: Any) -> None:
    lib = bound("const char *echo(const char *s); double id_f64(double x); int64_t id_i64(int64_t x);")
    opened = typed_as("result_with_strings", cstr | None, Out[str], Out[Ptr[None]], cg.i32)
    for call in (
        lambda: lib.echo(b"text"),
        lambda: lib.id_f64(1.5),
        lambda: lib.id_i64(2**40),
        lambda: opened("word")[1],
        lambda: opened("word")[2],
        lambda: opened("word"),
    ):
        assert sys.getrefcount(call()) == 1 + (sys.version_info < (3, 14))


@pytest.mark.usefixtures("few_to_collect")
def test_memory_does_not_grow(bound: Any, typed_as: Any) -> None:
    """Every path that makes objects, many times; what a leak of one object a call would leave cannot be overlooked."""
    import gc
    import tracemalloc

    lib = bound("const char *echo(const char *s); size_t wide_length(const wchar_t *s); int64_t id_i64(int64_t x);")
    at = typed_as("at_i64", Readable[cg.i64], cg.long, cg.i64)
    outs = typed_as("result_with_strings", cstr | None, Out[str], Out[Ptr[None]], cg.i32)
    judged = typed_as("fail_i64", cg.i64, i32, cg.i64, fails_if=lambda result: result > 10**15)
    calls: list[Callable[[], object]] = [
        lambda: lib.echo("é" * 10), lambda: lib.wide_length("é" * 10), lambda: lib.id_i64(Index(2**50)),
        lambda: at([1, 2, 3], 0), lambda: at([1, Index(2), 3], 0), lambda: outs("word"), lambda: told(outs, None),
        lambda: told(at, [1, "2"], 0), lambda: judged(10**14, 0), lambda: told(judged, 10**16, 0), lambda: told(lib.echo, b"a\0b"),
        lambda: told(lib.id_i64, x=1), lambda: lib.id_i64(x=10**10), lambda: told(lib.id_i64),
    ]  # fmt: skip
    for call in calls:
        repeated(call, 50)
        gc.collect()
        tracemalloc.start()
        try:
            repeated(call, 100)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            repeated(call, 1000)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 12_000  # an object has 16 bytes and more
        finally:
            tracemalloc.stop()
