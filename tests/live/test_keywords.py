"""Keyword arguments, counts of arguments, and how a gate shows itself."""

from __future__ import annotations

import gc
import inspect
import itertools
import sys
from typing import Any, Protocol

import pytest
from telling import Index, told

import callgate as cg
from callgate import Out, Status, f64, i32

WEIGHTS = "int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i"


@pytest.fixture
def lib(bound: Any) -> Any:
    return bound(
        f"""int64_t weigh9({WEIGHTS}); int id_int(int); int fail_i32(int result, int number); void set_flag(void);
        size_t length_and(long before, const char *s, long after); int import(int x); int function(int lambda);
        unsigned long byte_sum(const void *data, size_t count);"""
    )


def test_keywords_in_every_order(lib: Any) -> None:
    arguments = {"before": 3, "s": "abc", "after": 7}
    for order in itertools.permutations(arguments.items()):
        assert lib.length_and(**dict(order)) == 70303
    for order in itertools.permutations([("s", b"abc"), ("after", Index(7))]):
        assert lib.length_and(3, **dict(order)) == 70303
    assert lib.length_and(3, "abc", after=7) == lib.length_and(3, b"abc", 7, **{}) == 70303


def test_many_keywords(lib: Any) -> None:
    names = "abcdefghi"
    expected = sum(weight * weight for weight in range(1, 10))
    for split in range(10):
        keywords = {name: value for value, name in reversed([*enumerate(names, 1)]) if value > split}
        assert lib.weigh9(*range(1, split + 1), **keywords) == expected


def test_names_that_are_not_interned(lib: Any) -> None:
    for name in ("before", "s", "after"):
        made = "".join([name[:1], name[1:]])  # equal, and another object where there are two letters or more
        rest = {key: value for key, value in (("before", 1), ("s", "x"), ("after", 2)) if key != name}
        assert lib.length_and(**rest, **{made: {"before": 1, "s": "x", "after": 2}[name]}) == 20101
    assert lib.length_and(**{type("S", (str,), {})("s"): "x"}, before=1, after=2) == 20101


@pytest.mark.parametrize(
    ("given", "keywords", "message"),
    [
        ((), {}, "length_and() takes exactly 3 arguments (0 given)"),
        ((1,), {}, "length_and() takes exactly 3 arguments (1 given)"),
        ((1, "s", 2, 3), {}, "length_and() takes exactly 3 arguments (4 given)"),
        ((1,) * 300, {}, "length_and() takes exactly 3 arguments (300 given)"),
        ((), {"before": 1}, "length_and() missing required argument 's' (pos 2)"),
        ((1,), {"after": 1}, "length_and() missing required argument 's' (pos 2)"),
        ((), {"s": "", "after": 1}, "length_and() missing required argument 'before' (pos 1)"),
        ((1, "s"), {"before": 2}, "argument for length_and() given by name ('before') and position (1)"),
        ((1, "s", 2), {"s": "t"}, "argument for length_and() given by name ('s') and position (2)"),
        ((1, "s", 2), {"x": 2}, "length_and() got an unexpected keyword argument 'x'"),
        ((1, "s", 2, 3), {"x": 2}, "length_and() takes exactly 3 arguments (5 given)"),
        ((1, "s"), {"x": 2}, "length_and() got an unexpected keyword argument 'x'"),
        ((1, "s"), {"After": 2}, "length_and() got an unexpected keyword argument 'After'"),
        ((1, "s"), {"": 2}, "length_and() got an unexpected keyword argument ''"),
        ((1, "s"), {"été": 2}, "length_and() got an unexpected keyword argument 'été'"),
        ((1, "s"), {"\ud800": 2}, r"length_and() got an unexpected keyword argument '\ud800'"),
        ((), {"x": 1, "before": 1}, "length_and() got an unexpected keyword argument 'x'"),
        ((), {"before": 1, "s": "", "after": 1, "x": 1}, "length_and() got an unexpected keyword argument 'x'"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_match(lib: Any, given: tuple[Any, ...], keywords: dict[str, Any], message: str) -> None:
    assert told(lib.length_and, *given, **keywords) == f"TypeError: {message}"


def test_conversions_name_arguments_by_number(lib: Any) -> None:
    assert told(lib.length_and, after="x", s="", before=1) == "TypeError: length_and() argument 3 must be int, not str"
    assert told(lib.length_and, after="x", s=1, before=1) == (
        "TypeError: length_and() argument 2 must be str or bytes or None, not int"
    )


def test_counts(lib: Any) -> None:
    assert told(lib.id_int) == "TypeError: id_int() takes exactly 1 argument (0 given)"
    assert told(lib.id_int, 1, 2) == "TypeError: id_int() takes exactly 1 argument (2 given)"
    assert told(lib.set_flag, 1) == "TypeError: set_flag() takes no arguments (1 given)"
    assert told(lib.set_flag, x=1) == "TypeError: set_flag() takes no keyword arguments"
    assert lib.set_flag(**{}) is lib.set_flag(*()) is None


def test_parameters_without_names_are_positional(lib: Any) -> None:
    for keywords in ({"x": 1}, {"": 1}, {"arg1": 1}):
        assert told(lib.id_int, **keywords) == "TypeError: id_int() takes no keyword arguments"
        assert told(lib.id_int, 1, **keywords) == "TypeError: id_int() takes no keyword arguments"


def test_positional_only_parameters(bound: Any) -> None:
    class Targets(Protocol):
        @cg.function(symbol="fail_i32")
        def none(self, result: i32, number: i32, /) -> i32: ...
        @cg.function(symbol="fail_i32")
        def first(self, result: i32, /, number: i32) -> i32: ...
        @cg.function(symbol="divide")
        def outs(self, a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status: ...
        @cg.function(symbol="two_first")
        def leading(self, low: Out[i32], high: Out[f64], /, x: i32) -> None: ...

    lib = bound(Targets)
    assert (lib.none(5, 0), lib.first(5, 0), lib.first(5, number=0)) == (5, 5, 5)
    assert told(lib.none, 5, number=0) == "TypeError: none() takes no keyword arguments"
    assert told(lib.first, result=5, number=0) == "TypeError: first() got an unexpected keyword argument 'result'"
    assert told(lib.first, number=0) == "TypeError: first() takes exactly 2 arguments (1 given)"
    assert told(lib.first, 5) == "TypeError: first() takes exactly 2 arguments (1 given)"
    assert (lib.outs(b=5, a=17), lib.outs(17, b=5)) == ((3, 2), (3, 2))
    assert told(lib.outs, 1, 2, quotient=1) == "TypeError: outs() got an unexpected keyword argument 'quotient'"
    assert (lib.leading(7), lib.leading(x=7)) == ((6, 7.5), (6, 7.5))
    assert told(lib.leading, low=7) == "TypeError: leading() got an unexpected keyword argument 'low'"


def test_keywords_that_are_words_of_python(lib: Any) -> None:
    assert getattr(lib, "import")(1) == 3
    assert lib["function"](1) == 2


def test_kwargs_with_keys_that_are_no_strings(lib: Any) -> None:
    assert told(lambda: lib.length_and(1, "s", **{1: 2})).startswith("TypeError: ")  # type: ignore[misc]


# -- what a gate shows ----------------------------------------------------------------------------------------------
def test_signatures_and_docs(lib: Any, typed_as: Any) -> None:
    assert str(inspect.signature(lib.length_and)) == "(before, s, after)"
    assert str(inspect.signature(lib.id_int)) == "(arg1, /)"
    assert str(inspect.signature(lib.set_flag)) == "()"
    assert str(inspect.signature(typed_as("fail_i32", i32, i32, i32))) == "(x1, x2, /)"
    assert str(inspect.signature(typed_as("divide", i32, i32, Out[i32], Out[i32], Status))) == "(x1, x2, /)"
    assert lib.length_and.__name__ == lib.length_and.__qualname__.rpartition(".")[2] == "length_and"
    assert lib.length_and.__doc__ == "size_t length_and(long before, const char *s, long after)"


def test_the_record_of_a_gate(lib: Any, engine: str) -> None:
    record = cg.gate(lib.length_and)
    assert record is lib.length_and.__self__ and isinstance(record, cg.Gate)
    assert (record.name, record.engine, bool(record.listing), bool(record.code_bytes)) == (
        "length_and", engine, engine == "native", engine == "native",
    )  # fmt: skip
    assert (
        repr(record)
        == f"<gate size_t length_and(long before, const char *s, long after) of {record.library}, {engine}>"
    )
    assert "argument 2" in str(record.plan)
    for thing in (len, lambda: 0, None, [].append):
        assert told(cg.gate, thing) == f"TypeError: {thing!r} is not a gate"


# -- nothing written in Python runs in a call -------------------------------------------------------------------------
def test_no_python_runs_in_a_native_call(bound: Any, typed_as: Any, engine: str) -> None:
    if engine != "native":
        pytest.skip("the ctypes engine is written in Python")
    import array
    import ctypes
    import enum

    np = pytest.importorskip("numpy")

    class Color(enum.IntEnum):
        RED = 0
        GREEN = 5
        BLUE = 6

    lib = bound(
        f"""int64_t weigh9({WEIGHTS}); size_t length_and(long before, const char *s, long after); size_t wide_length(const wchar_t *s);
        unsigned long byte_sum(const void *data, size_t count); float id_f32(float x); double id_f64(double x);
        _Bool id_bool(_Bool x); char id_char(char x); wchar_t id_wchar(wchar_t x); int64_t at_i64(const int64_t *items, long index);
        double at_f64(const double *items, long index); uint64_t id_u64(uint64_t x); int8_t id_i8(int8_t x);
        struct counter; struct counter *counter_static(void); int counter_or(struct counter *counter, int otherwise);
        void *void_pointer(void *p); const char *echo(const char *s); long double id_longdouble(long double x);
        void fill_i32(int32_t *items, size_t count, int32_t value);"""
    )
    divide = typed_as("divide", i32, i32, Out[i32], Out[i32], Status)
    opened = typed_as("result_with_strings", cg.cstr | None, Out[str | None], Out[cg.Ptr[None] | None], i32)
    turn = typed_as("next_color", Color, Color)
    judged = typed_as("fail_i32", i32, i32, i32, fails_if="negative")
    blocking = typed_as("id_i32", i32, i32, blocking=True)
    echo_handle = typed_as("void_pointer", cg.Ptr[None], cg.Ptr[None])
    handle = lib.counter_static()
    void, complexes = ctypes.c_void_p(8), np.array([1j])
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (lib.weigh9, (-1, 2**62, 3, -4, 5, 6, -(2**62), 0, 9), {}), (lib.weigh9, (True, np.int64(2), 3, 4, 5, 6, 7, Color.RED, 9), {}),
        (lib.length_and, (1, "é", 2), {}), (lib.length_and, (1, b"x", 2), {}), (lib.length_and, (1,), {"after": 2, "s": "x"}),
        (lib.length_and, (1, "", 2), {}), (lib.wide_length, ("é",), {}), (lib.wide_length, (None,), {}),
        *((lib.byte_sum, (data, 1), {}) for data in (b"x", bytearray(b"x"), memoryview(b"x"), array.array("d", [1]), np.zeros(2), complexes)),
        (lib.id_f32, (1.5,), {}), (lib.id_f32, (1,), {}), (lib.id_f32, (np.float32(1),), {}), (lib.id_f64, (np.float64(2),), {}),
        (lib.id_f64, (float("inf"),), {}), (lib.id_f32, (float("nan"),), {}), (lib.id_bool, (True,), {}), (lib.id_char, (b"x",), {}),
        (lib.id_wchar, ("x",), {}), (lib.at_i64, ([1, -2, 2**40], 1), {}), (lib.at_f64, ([1.0, 2.0], 1), {}), (lib.at_f64, (np.zeros(3), 1), {}),
        (lib.id_u64, (2**64 - 1,), {}), (lib.id_i8, (-128,), {}), (lib.counter_static, (), {}), (lib.counter_or, (handle, 1), {}),
        (lib.counter_or, (None, 1), {}), (echo_handle, (void,), {}), (echo_handle, (8,), {}), (lib.void_pointer, (2**64 - 1,), {}), (lib.void_pointer, (None,), {}),
        (lib.echo, ("text",), {}), (lib.id_longdouble, (1.5,), {}), (lib.fill_i32, (array.array("i", [1]), 1, 2), {}), (divide, (7, 2), {}),
        (opened, ("x",), {}), (opened, (None,), {}), (turn, (Color.RED,), {}), (turn, (5,), {}), (judged, (1, 2), {}), (blocking, (-1,), {}),
    ]  # fmt: skip
    seen: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            seen.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")

    gc.disable()  # a collection runs callbacks of its own, Hypothesis's among them
    try:
        for call, given, keywords in calls:
            sys.setprofile(profile)
            try:
                call(*given, **keywords)
            finally:
                sys.setprofile(None)
            assert not seen, (call, given)
    finally:
        gc.enable()
