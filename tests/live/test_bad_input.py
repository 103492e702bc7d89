"""Arguments made to break the machine: conversions that act, recursion, threads, and facts about objects left out.

What could take the interpreter down with it runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from telling import Float, Index, told

import callgate as cg
from callgate import Out, Ptr, Readable, Status, cstr, f64, i32
from callgate.cpython.layout import Layout
from callgate.errors import EngineError
from callgate.runtime import engine as engines
from callgate.runtime.native import NativeEngine
from callgate.runtime.probe import probe

CHILD_HEAD = """
import ctypes, enum, gc, sys, threading
from array import array
import callgate as cg
from callgate import Out, Ptr, Readable, Writable, Status, cstr, wstr, f64, i32
path, engine = sys.argv[1:]
sys.setrecursionlimit(1000)
class Index:
    def __init__(self, value, effect=lambda: None): self.value, self.effect = value, effect
    def __index__(self):
        self.effect()
        return self.value
"""

CHILDREN = {
    "an argument drops the gate that is called": """
        lib = cg.load(path, "size_t both_lengths(const char *a, const char *b); int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i);", engine=engine)
        def drop():
            global lib
            lib = None
            gc.collect()
        assert lib.weigh9(1, 1, 1, 1, 1, 1, 1, 1, Index(1, drop)) == 45
    """,
    "an argument empties the list of arguments": """
        lib = cg.load(path, "size_t length_and(long before, const char *s, long after);", engine=engine)
        for _ in range(100):
            arguments = ["", "é" * 1000, 5]
            arguments[0] = Index(1, lambda: (arguments.clear(), gc.collect()))
            assert lib.length_and(*arguments) == 2000 + 100 + 50000
            keywords = {"before": 0, "s": "é" * 1000, "after": 5}
            keywords["before"] = Index(1, lambda: (keywords.clear(), gc.collect()))
            assert lib.length_and(**keywords) == 2000 + 100 + 50000
    """,
    "an argument calls the gate again, without end": """
        lib = cg.load(path, "long id_long(long x);", engine=engine)
        endless = Index(1, lambda: lib.id_long(endless))
        try:
            lib.id_long(endless)
        except RecursionError:
            pass
        else:
            raise AssertionError
        assert lib.id_long(3) == 3
    """,
    "an argument resizes what another has exported": """
        lib = cg.load(path, "unsigned long byte_sum(const void *data, size_t count);", engine=engine)
        for _ in range(200):
            data = bytearray(b"\\1" * 10000)
            def resize():
                for change in (data.clear, lambda: data.extend(b"x" * 10**6), lambda: data.__delitem__(slice(None))):
                    try: change()
                    except BufferError: pass
                    else: raise AssertionError
            assert lib.byte_sum(data, Index(10000, resize)) == 10000
            view = memoryview(data)
            def release():
                try: view.release()
                except BufferError: pass
                resize()
            assert lib.byte_sum(view, Index(10000, release)) == 10000
    """,
    "a callback resizes the memory that C reads": """
        lib = cg.load(path, "void sum_after_call(const unsigned char *data, size_t count, void (*function)(void), unsigned long *sum);", engine=engine)
        for data in (bytearray(b"\\1" * 10000), array("B", b"\\1" * 10000)):
            def resize():
                try: data.extend(b"x" * 10**6)
                except BufferError: seen.append(1)
            seen, total = [], ctypes.c_ulong()
            lib.sum_after_call(data, 10000, ctypes.CFUNCTYPE(None)(resize), total)
            assert (total.value, seen) == (10000, [1])
    """,
    "an argument changes the enum that the result belongs to": """
        class Color(enum.IntEnum):
            RED = 0
            GREEN = 5
        lib = cg.load(path, engine=engine)
        @lib.function
        def id_i32(x: i32, /) -> Color: ...
        for value in (Index(5, Color._value2member_map_.clear), 5):
            try: id_i32(value)
            except ValueError as problem: assert str(problem) == "5 is not a valid Color"
    """,
    "a class whose values cannot be made by calling it": """
        class Pointer(ctypes.POINTER(ctypes.c_int)):
            _type_ = ctypes.c_int
            def __init__(self, *given): raise KeyError("no")
        lib = cg.load(path, engine=engine)
        @lib.function
        def int_pointer(p: Ptr[ctypes.c_int] | None, /) -> Pointer | None: ...
        assert int_pointer(None) is None
        for _ in range(100):  # what C returns is no new value: neither __new__ nor __init__ runs
            assert int_pointer((ctypes.c_int * 1)(7))[0] == 7
    """,
    "many threads bind and call the same functions for the first time": """
        text = "int id_int(int x); double id_f64(double x); size_t length(const char *s); long id_long(long x);"
        for _ in range(20):
            lib = cg.load(path, text, engine=engine)
            start, wrong = threading.Barrier(8), []
            def work():
                start.wait()
                for number in range(50):
                    if (lib.id_int(-number), lib.id_f64(number), lib.length("é" * number), lib.id_long(x=2**40)) != (-number, number, 2 * number, 2**40):
                        wrong.append(number)
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert not wrong
    """,
    "a list that changes while it is copied": """
        lib = cg.load(path, "long at_long(const long *items, long index); double at_f64(const double *items, long index);", engine=engine)
        class Float:
            def __float__(self): things.clear(); gc.collect(); return 2.0
        for _ in range(200):
            things = [10**6 + n for n in range(2000)]
            things[3] = Index(7, things.clear)
            assert lib.at_long(things, 1999) == 10**6 + 1999
            things = [float(n) for n in range(2000)]
            things[3] = Float()
            assert lib.at_f64(things, 1999) == 1999.0
    """,
    "more arguments than any function has": """
        lib = cg.load(path, "int id_int(int x); void set_flag(void);", engine=engine)
        for call in (lib.id_int, lib.set_flag):
            for count in (2, 100, 100000):
                try: call(*range(count))
                except TypeError as problem: assert f"({count} given)" in str(problem)
                else: raise AssertionError
                try: call(**{f"a{number}": number for number in range(count)})
                except TypeError: pass
                else: raise AssertionError
    """,
    "strings that do not encode, and failures in the middle": """
        lib = cg.load(path, "size_t both_lengths(const char *a, const char *b); size_t wide_length(const wchar_t *s); unsigned long byte_sum(const void *data, size_t count);", engine=engine)
        for number in range(2000):
            for bad in ("\\ud800" * (number % 50 + 1), "a\\0b", 5):
                try: lib.both_lengths("é" * number, bad)
                except (UnicodeEncodeError, ValueError, TypeError): pass
            try: lib.byte_sum(bytearray(b"x" * number), "x")
            except TypeError: pass
            assert lib.wide_length("\\U0001f600" * number) == number
    """,
    "finalizers that call gates during a call": """
        lib = cg.load(path, "size_t length(const char *s); int id_int(int x); long at_long(const long *items, long index);", engine=engine)
        class Final:
            def __init__(self): self.me = self
            def __del__(self): seen.append(lib.length("x" * 5) + lib.id_int(1))
        seen = []
        gc.set_threshold(1)
        for _ in range(300):
            Final()
            assert lib.at_long([1, Index(2), 3], Index(1)) == 2
            assert lib.length("é" * 100) == 200
        gc.set_threshold(700); gc.collect()
        assert seen and set(seen) == {6}
    """,
}


@pytest.mark.parametrize("script", CHILDREN.values(), ids=CHILDREN.keys())
def test_the_interpreter_survives(engine: str, targets: str, script: str) -> None:
    code = CHILD_HEAD + textwrap.dedent(script) + "\nprint('survived')\n"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, targets, engine],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_conversions_run_once_and_in_order(bound: Any) -> None:
    lib = bound(
        "int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i);"
    )
    seen: list[int] = []

    def index(number: int) -> Index:
        return Index(1, lambda: seen.append(number))

    assert lib.weigh9(*map(index, range(9))) == 45
    assert seen == [*range(9)]
    seen.clear()
    assert (
        told(lib.weigh9, index(0), 1, "2", index(3), 1, 1, 1, 1, 1)
        == "TypeError: weigh9() argument 3 must be int, not str"
    )
    assert seen == [0]  # the first argument that is wrong ends it
    seen.clear()
    lib.weigh9(i=index(8), h=index(7), a=index(0), b=1, c=1, d=1, e=1, f=1, g=1)
    assert seen == [0, 7, 8]


def test_exceptions_that_are_none(bound: Any) -> None:
    """SystemExit, KeyboardInterrupt and GeneratorExit leave a gate as they leave any builtin."""
    lib = bound("int id_int(int x); double id_f64(double x); unsigned long byte_sum(const void *data, size_t count);")
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):

        def leave(kind: type[BaseException] = kind) -> None:
            raise kind("mine")

        for call in (
            lambda: lib.id_int(Index(1, leave)),
            lambda: lib.id_f64(Float(1.0, leave)),
            lambda: lib.byte_sum(bytearray(1), Index(1, leave)),
        ):
            with pytest.raises(kind, match="mine"):
                call()


def test_threads_share_a_gate(bound: Any) -> None:
    lib = bound(
        "size_t length_and(long before, const char *s, long after); unsigned long byte_sum(const void *data, size_t count);",
        blocking=True,
    )
    wrong: list[object] = []

    def work(seed: int) -> None:
        for number in range(400):
            text = "é" * (number % 40)
            if lib.length_and(seed, text, Index(number)) != 2 * len(text) + 100 * seed + 10000 * number:
                wrong.append((seed, number))
            if lib.byte_sum(bytearray(b"\1" * number), number) != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- facts about objects that are not known -------------------------------------------------------------------------
MISSING: dict[str, Callable[[Layout], Layout]] = {
    "nothing": lambda layout: layout,
    "ints": lambda layout: layout._replace(ints=None),
    "floats": lambda layout: layout._replace(float_value_offset=None),
    "small ints": lambda layout: layout._replace(small_ints=None),
    "bytes": lambda layout: layout._replace(has_inline_bytes=False),
    "all": lambda layout: layout._replace(ints=None, float_value_offset=None, small_ints=None, has_inline_bytes=False),
}


@pytest.fixture(params=MISSING.values(), ids=MISSING.keys())
def poorer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, targets: str) -> Callable[..., Any]:
    """`load` with a native engine that does not know a fact of the object layout."""
    try:
        native = NativeEngine(request.param(probe()))
    except EngineError as reason:
        pytest.skip(f"no native engine: {reason}")
    monkeypatch.setitem(engines._made, "native", native)
    return lambda *declarations, **options: cg.load(targets, *declarations, engine="native", **options)


def test_every_fact_can_be_missing(poorer: Callable[..., Any]) -> None:
    lib = poorer(
        """int64_t weigh9(int a, int64_t b, short c, int8_t d, unsigned e, uint8_t f, int64_t g, int h, uint16_t i);
        double weigh_mixed(int a, double b, float c, long d, long double e, double f, float g, int h, double i, double j,
            float k, double l, double m, long n, long o, long p, long double q, float r, short s);
        size_t length(const char *s); size_t both_lengths(const char *a, const char *b); size_t length_and(long before, const char *s, long after);
        unsigned long byte_sum(const void *data, size_t count); unsigned long u8_sum(const unsigned char *data, size_t count);
        int8_t id_i8(int8_t x); uint64_t id_u64(uint64_t x); int64_t id_i64(int64_t x); _Bool id_bool(_Bool x); float id_f32(float x);
        char id_char(char x); struct counter; struct counter *counter_static(void); int counter_or(struct counter *c, int otherwise);
        const char *echo(const char *s); void set_flag(void); long at_long(const long *items, long index);"""
    )
    assert (
        lib.weigh9(-1, -(2**40), -3, -4, 2**32 - 1, 255, -7, -8, 65535)
        == -1 - 2 * 2**40 - 9 - 16 + 5 * (2**32 - 1) + 1530 - 49 - 64 + 9 * 65535
    )
    values = [-1, 2.0, 3.5, -4, 5.25, 6.0, -7.5, 8, 9.0, 10.0, 11.0, -12.0, 13.0, 14, -15, 16, 17.0, 18.5, -19]
    assert lib.weigh_mixed(*values) == sum(weight * value for weight, value in enumerate(values, 1))
    for value in (0, 1, -1, -5, -6, 127, -128, 0 * 2**100):
        assert repr(lib.id_i8(value)) == repr(lib.id_i64(value)) == repr(value)
    for value in (256, 257, 2**30 - 1, 2**30, 2**60, 2**63 - 1):
        assert lib.id_i64(value) == lib.id_u64(value) == value
        assert lib.id_i64(-value) == -value
    assert [lib.id_u64(2**64 - 1), lib.id_i64(-(2**63)), lib.id_u64(2**63)] == [2**64 - 1, -(2**63), 2**63]
    assert told(lib.id_i8, 128) == "OverflowError: id_i8() argument 1 must be in -128..127 (int8_t), not 128"
    assert told(lib.id_u64, -1) == f"OverflowError: id_u64() argument 1 must be in 0..{2**64 - 1} (uint64_t), not -1"
    assert told(lib.id_i8, 1.0) == "TypeError: id_i8() argument 1 must be int, not float"
    assert (lib.id_bool(True), lib.id_bool(False), lib.id_bool(1)) == (True, False, True)
    assert (lib.id_f32(0.5), lib.id_f32(1), repr(lib.id_f32(-0.0))) == (0.5, 1.0, "-0.0")
    assert told(lib.id_f32, 1e39) == "OverflowError: id_f32() argument 1 must be in the range of a C float, not 1e+39"
    for size in (0, 1, 15, 16, 17, 1000):
        assert lib.length(b"x" * size) == lib.length("x" * size) == size
        assert lib.both_lengths(b"x" * size, "é") == 1000 * size + 2
        assert (
            lib.byte_sum(b"\1" * size, size)
            == lib.u8_sum(b"\1" * size, size)
            == lib.u8_sum(bytearray(b"\1" * size), size)
            == size
        )
    assert (lib.length(None), lib.echo(None), lib.echo(b"text"), lib.id_char(b"c"), lib.set_flag()) == (
        2**64 - 1,
        None,
        b"text",
        b"c",
        None,
    )
    assert told(lib.length, b"a\0b") == "ValueError: length() argument 1 must not contain a NUL: embedded null byte"
    assert lib.length_and(after=2, before=1, s="ab") == 20102
    assert told(lib.length_and, 1) == "TypeError: length_and() takes exactly 3 arguments (1 given)"
    assert (lib.counter_or(lib.counter_static(), 0) >= 0, lib.counter_or(None, 9)) == (True, 9)
    assert lib.at_long([5, -6, 2**62], 2) == lib.at_long(array("l", [5, -6, 2**62]), 2) == 2**62


def test_every_fact_can_be_missing_for_results(poorer: Callable[..., Any]) -> None:
    lib = poorer()

    @lib.function
    def divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status: ...
    @lib.function(fails_if="negative")
    def fail_i32(result: i32, number: i32) -> i32: ...
    @lib.function(symbol="fail_i64", fails_if=lambda result: result > 300, error=lambda code: KeyError(code))
    def judged(result: cg.long, number: i32) -> cg.long: ...
    @lib.function(blocking=True)
    def id_f64(x: f64) -> f64: ...
    @lib.function
    def result_with_strings(s: cstr | None, out: Out[str | None], handle: Out[Ptr[None] | None]) -> i32: ...
    @lib.function
    def at_u64(items: Readable[cg.u64], index: cg.long) -> cg.u64: ...

    assert (divide(-17, 5), divide(600, 2), divide(0, 5)) == ((-3, -2), (300, 0), (0, 0))
    assert told(divide, 1, 0) == "CallError: divide() failed with status 33"
    assert (fail_i32(0, 5), fail_i32(256, 5), fail_i32(257, 5)) == (0, 256, 257)
    assert told(fail_i32, -1, 2).startswith("FileNotFoundError: [Errno 2]")
    assert (judged(-5, 0), judged(-6, 0), judged(256, 0), judged(257, 0)) == (-5, -6, 256, 257)
    assert told(judged, 301, 0) == "KeyError: 301"
    assert (id_f64(0.5), id_f64(2), repr(id_f64(-0.0))) == (0.5, 2.0, "-0.0")
    assert result_with_strings(None) == (-1, None, None)
    assert result_with_strings("été")[:2] == (5, "été")
    assert at_u64([1, 2**64 - 1], 1) == 2**64 - 1
