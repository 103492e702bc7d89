"""Variadic functions: what may be a variable argument, how it travels, and what becomes of the gates made for it."""

from __future__ import annotations

import array
import ctypes
import enum
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import pytest
from numpy_here import np
from tests.live.children import WAITING, run_child
from tests.live.here import IS_WINDOWS, posix_only
from tests.live.telling import Float, Index, Problem, raising, told

import callgate as cg
from callgate import (
    Out,
    Ptr,
    Status,
    Struct,
    Union,
    VarArg,
    Writable,
    char,
    cstr,
    f64,
    i32,
    i64,
)
from callgate.target import DATA_MODEL

SOURCE = r"""
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct pair { double x; int n; };
struct bytes3 { unsigned char b[3]; };
struct large { long long items[5]; };
union word { int i; float f; };
/* d int, l long long, f double, L long double, s string, p pointer, P struct pair, B struct bytes3, G struct large, U union word, c int (*)(int) */
int describe(char *out, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *end = out;
    for (; *format; format++) {
        if (end != out) *end++ = ' ';
        switch (*format) {
        case 'd': end += sprintf(end, "%d", va_arg(list, int)); break;
        case 'l': end += sprintf(end, "%lld", va_arg(list, long long)); break;
        case 'f': end += sprintf(end, "%.17g", va_arg(list, double)); break;
        case 'L': end += sprintf(end, "%.17Lg", va_arg(list, long double)); break;
        case 's': { const char *s = va_arg(list, const char *); end += sprintf(end, "%s", s ? s : "NULL"); break; }
        case 'p': end += sprintf(end, "%llu", (unsigned long long)va_arg(list, void *)); break;
        case 'P': { struct pair p = va_arg(list, struct pair); end += sprintf(end, "{%g %d}", p.x, p.n); break; }
        case 'B': { struct bytes3 b = va_arg(list, struct bytes3); end += sprintf(end, "{%d %d %d}", b.b[0], b.b[1], b.b[2]); break; }
        case 'G': { struct large g = va_arg(list, struct large); end += sprintf(end, "{%lld %lld}", g.items[0], g.items[4]); break; }
        case 'U': { union word w = va_arg(list, union word); end += sprintf(end, "{%d}", w.i); break; }
        case 'c': end += sprintf(end, "%d", va_arg(list, int (*)(int))(20)); break;
        case 'w': *va_arg(list, int *) = 77; end += sprintf(end, "w"); break;
        }
    }
    *end = 0;
    va_end(list);
    return (int)(end - out);
}
int fail(int number, ...) { va_list list; va_start(list, number); errno = va_arg(list, int); va_end(list); return number; }
double total(int count, ...) {
    va_list list;
    double sum = 0;
    va_start(list, count);
    while (count--) sum += va_arg(list, double);
    va_end(list);
    return sum;
}
void *pick(int which, ...) { va_list list; void *p = 0; va_start(list, which); for (; which >= 0; which--) p = va_arg(list, void *); va_end(list); return p; }
const char *word(int which, ...) { va_list list; const char *p = 0; va_start(list, which); for (; which >= 0; which--) p = va_arg(list, char *); va_end(list); return p; }
struct pair made(int n, ...) { va_list list; va_start(list, n); struct pair p = {va_arg(list, double), n}; va_end(list); return p; }
int twice(int x) { return 2 * x; }
int plain(int x) { return x; }
"""


class Pair(Struct):
    x: f64
    n: i32


class Bytes3(Struct):
    b: ctypes.c_ubyte * 3  # type: ignore[valid-type]


class Large(ctypes.Structure):
    _fields_ = (("items", ctypes.c_longlong * 5),)


class Word(Union):
    i: i32
    f: cg.f32


class Color(enum.IntEnum):
    RED = 3


class Real(float, enum.Enum):
    HALF = 0.5


class Text(str):
    pass


class Whole(int):
    pass


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


@pytest.fixture
def library(engine: str, path: str) -> Any:
    return cg.load(path, engine=engine)


@pytest.fixture
def describe(library: Any) -> Callable[..., str]:
    """What the callee sees: `describe("df", 1, 2.5)` is "1 2.5"."""

    @library.function
    def describe(out: Writable[char], format: cstr, *args: VarArg) -> i32: ...

    out = ctypes.create_string_buffer(1000)

    def call(format: str, *args: Any) -> str:
        count = describe(out, format, *args)
        assert count == len(out.value)
        return out.value.decode()

    call.gate = describe  # type: ignore[attr-defined]
    return call


# -- what travels ----------------------------------------------------------------------------------------------------

c = ctypes
BUFFER = c.create_string_buffer(b"array")
NUMBER = c.c_int(5)
SUBCLASS = type("SUBCLASS", (c.c_short,), {})

TAKEN: list[tuple[str, Any, str]] = [
    *[("d", number, str(number)) for number in (0, 1, -1, 255, -256, 2**30, 2**31 - 1, -(2**31))],
    ("d", True, "1"),
    ("d", Color.RED, "3"),
    ("d", Whole(7), "7"),
    ("d", Index(-9), "-9"),
    ("d", np.int8(-3), "-3"),
    ("d", np.int64(7), "7"),
    ("d", np.uint16(65535), "65535"),
    ("f", 1.5, "1.5"),
    ("f", -0.0, "-0"),
    ("f", float("inf"), "inf"),
    ("f", Real.HALF, "0.5"),
    ("f", np.float64(0.1), "0.10000000000000001"),
    ("f", np.float32(0.5), "0.5"),
    ("f", Float(2.5), "2.5"),
    ("f", Fraction(1, 4), "0.25"),
    ("f", Decimal("0.125"), "0.125"),
    ("s", "é", "é"),
    ("s", b"bytes", "bytes"),
    ("s", Text("text"), "text"),
    ("s", "", ""),
    ("s", None, "NULL"),
    ("p", None, "0"),
    ("d", c.c_byte(-5), "-5"),
    ("d", c.c_ubyte(200), "200"),
    ("d", c.c_short(-300), "-300"),
    ("d", c.c_ushort(65535), "65535"),
    ("d", c.c_int(-1), "-1"),
    ("d", c.c_uint(2**32 - 1), "-1"),
    ("l", c.c_longlong(-(2**63)), str(-(2**63))),
    ("l", c.c_ulonglong(2**64 - 1), "-1"),
    ("l", c.c_int64(2**40), str(2**40)),
    ("l", c.c_size_t(3), "3"),
    ("d", c.c_bool(True), "1"),
    ("d", c.c_char(b"z"), "122"),
    ("d", c.c_char(b"\xff"), "-1" if DATA_MODEL.is_char_signed else "255"),
    ("d", c.c_wchar("€"), str(ord("€"))),
    ("f", c.c_float(0.1), "0.10000000149011612"),
    ("f", c.c_double(0.1), "0.10000000000000001"),
    ("L", c.c_longdouble(0.25), "0.25"),
    ("d", SUBCLASS(-6), "-6"),
    ("s", c.c_char_p(b"pointer"), "pointer"),
    ("s", c.c_char_p(), "NULL"),
    ("p", c.c_wchar_p(), "0"),
    ("p", c.c_void_p(2**64 - 1), str(2**64 - 1)),
    ("p", c.c_void_p(), "0"),
    ("p", Ptr[i32](), "0"),
    ("s", BUFFER, "array"),
    ("s", c.byref(BUFFER), "array"),
    ("s", c.byref(BUFFER, 2), "ray"),
    ("s", c.pointer(BUFFER), "array"),
    ("s", c.cast(BUFFER, Ptr[char]), "array"),
    ("s", c.cast(BUFFER, c.c_void_p), "array"),
    ("P", Pair(0.5, 7), "{0.5 7}"),
    ("B", Bytes3((1, 2, 3)), "{1 2 3}"),
    ("G", Large((1, 0, 0, 0, 5)), "{1 5}"),
    ("U", Word(-4), "{-4}"),
    ("c", c.CFUNCTYPE(c.c_int, c.c_int)(lambda x: x + 1), "21"),
]


@pytest.mark.parametrize(("letter", "thing", "seen"), TAKEN, ids=lambda item: repr(item)[:20])
def test_what_travels(describe: Any, letter: str, thing: Any, seen: str) -> None:
    assert describe(letter, thing) == seen
    numbers = [0.5] * 9 + [1] * 7
    assert (
        describe("f" * 9 + "d" * 7 + letter + "fd", *numbers, thing, 2.5, 2) == "0.5 " * 9 + "1 " * 7 + seen + " 2.5 2"
    )


REFUSED: list[tuple[Any, str]] = [
    *[
        (number, f"OverflowError: describe() argument 3 must be in -2147483648..2147483647 (int), not {number}; pass a wider one as c_int64({number})")
        for number in (2**31, -(2**31) - 1, 2**32 - 1, 2**62)
    ],
    (np.int64(2**40), f"OverflowError: describe() argument 3 must be in -2147483648..2147483647 (int), not {2**40}; pass a wider one as c_int64({2**40})"),
    (Index(2**40), f"OverflowError: describe() argument 3 must be in -2147483648..2147483647 (int), not {2**40}; pass a wider one as c_int64({2**40})"),
    ("a\0b", "ValueError: describe() argument 3 must not contain a NUL: embedded null byte"),
    (b"a\0b", "ValueError: describe() argument 3 must not contain a NUL: embedded null byte"),
    ("\ud800", "UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
    (Index(None, raising(Problem("index"))), "Problem: index"),
    (Float(None, raising(Problem("float"))), "Problem: float"),
    *[
        (thing, f"TypeError: describe() argument 3 cannot be a variable argument: {name}; pass an int, a float, str, bytes, None or a ctypes value")
        for thing, name in (
            (bytearray(b"x"), "bytearray"), (memoryview(b"x"), "memoryview"), (array.array("b", b"x"), "array"), ([1], "list"),
            ((1,), "tuple"), ({}, "dict"), (1j, "complex"), (object(), "object"), (sys, "module"), (c.c_int, type(c.c_int).__name__),
            (lambda x: x, "function"), (Pair, type(Pair).__name__),
        )
    ],
    (c.py_object(1), "TypeError: describe() argument 3 cannot be a variable argument: py_object"),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "text"), REFUSED, ids=lambda item: repr(item)[:30].split(" at 0x")[0])
def test_what_does_not_travel(describe: Any, thing: Any, text: str) -> None:
    for _ in range(2):
        assert told(describe, "d", thing) == text
        later = text.replace("argument 3", "argument 12")
        assert told(describe, "d" * 10, *range(9), thing) == later


def test_hints_name_a_type_that_fits(describe: Any) -> None:
    start = "OverflowError: describe() argument 3 must be in -2147483648..2147483647 (int), not"
    assert told(describe, "d", 2**63) == f"{start} {2**63}; pass a wider one as c_uint64({2**63})"
    assert told(describe, "d", 2**64) == f"{start} {2**64}"
    assert told(describe, "d", 2**200) == f"{start} an int of 201 bits"


def test_numpy_bools_are_ints(describe: Any) -> None:
    assert (describe("d", np.True_), describe("dd", np.False_, np.bool_(1))) == ("1", "0 1")


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_numpy_arrays_are_refused(describe: Any, shape: tuple[int, ...]) -> None:
    for kind in (np.int32, np.float64):
        assert told(describe, "p", np.zeros(shape, kind)) == (
            "TypeError: describe() argument 3 cannot be a variable argument: ndarray; "
            "pass an int, a float, str, bytes, None or a ctypes value"
        )


class Big(ctypes.BigEndianStructure):
    _fields_ = (("x", ctypes.c_int),)


@pytest.mark.parametrize("thing", [Big(), cg.Opaque(), c.c_int.__ctype_be__(5)], ids=lambda thing: type(thing).__name__)
def test_records_that_cannot_travel(describe: Any, thing: Any) -> None:
    assert told(describe, "p", thing).startswith("TypeError: describe() argument 3 cannot be a variable argument: ")


def test_memory_is_written(describe: Any) -> None:
    number, numbers = c.c_int(), (c.c_int * 3)()
    assert describe("www", c.byref(number), numbers, c.byref(numbers, 8)) == "w w w"
    assert (number.value, list(numbers)) == (77, [77, 0, 77])


def test_functions_travel(describe: Any, library: Any, engine: str) -> None:
    @library.function
    def twice(x: i32, /) -> i32: ...
    @cg.callback
    def tripled(x: i32) -> i32:
        return 3 * x

    assert describe("ccdc", twice, tripled, 5, twice) == "40 60 5 40"
    assert describe("p", twice) == str(cg.gate(twice).address)
    assert told(describe, "p", describe.gate) == (
        "TypeError: describe() argument 3 must be a callback or a gate, not describe(), which is variadic"
    )
    tripled.close()
    assert told(describe, "c", tripled) == "ValueError: tripled() is closed, and C cannot have it any more"


def test_builtins_are_refused_after_gates(describe: Any, library: Any) -> None:
    """A gate may be a builtin too, so the types alone do not tell."""

    @library.function
    def twice(x: i32, /) -> i32: ...

    assert describe("c", twice) == "40"
    for wrong in (len, [].append):
        text = told(describe, "c", wrong)
        assert text.startswith("TypeError: describe() argument 3 ")
        assert "builtin_function_or_method" in text


def test_many_of_each_kind(describe: Any) -> None:
    numbers = [number + 0.5 for number in range(20)]
    assert describe("f" * 20, *numbers) == " ".join(map(str, numbers))
    assert describe("d" * 40, *range(40)) == " ".join(map(str, range(40)))
    assert describe("dfs" * 12, *(1, 2.5, "x") * 12) == " ".join(["1 2.5 x"] * 12)
    assert describe("PBGU" * 4, *(Pair(1, 2), Bytes3((1, 2, 3)), Large((4,)), Word(9)) * 4) == " ".join(
        ["{1 2} {1 2 3} {4 0} {9}"] * 4
    )
    assert describe("") == ""


def test_the_type_decides_each_time(describe: Any) -> None:
    """More lists of types than the table of the machine code holds, first as they are made and then as they are found."""
    kinds = [("d", 7, "7"), ("f", 2.5, "2.5"), ("s", "text", "text"), ("l", c.c_longlong(9), "9")]
    calls = [(a, b, e) for a in kinds for b in kinds for e in kinds]
    for _ in range(3):
        for call in (*calls, *reversed(calls)):
            letters, things, seen = zip(*call, strict=True)
            assert describe("".join(letters), *things) == " ".join(seen)
    assert len(cg.gate(describe.gate).shapes) == 64
    assert describe("dfs", True, np.float64(1), b"x") == "1 1 x"


def test_subclasses_are_types_of_their_own(describe: Any) -> None:
    class Strange(float):
        def __index__(self) -> int:
            return 3

    assert describe("f", Strange(1.5)) == "1.5"
    for number in range(40):
        made = type(f"Made{number}", (int,), {})
        assert describe("d", made(number)) == str(number)


# -- what the fixed arguments say ------------------------------------------------------------------------------------


def test_counts_and_keywords(describe: Any) -> None:
    gate = describe.gate
    out = c.create_string_buffer(9)
    for given in ((), (out,)):
        assert told(gate, *given) == f"TypeError: describe() takes at least 2 arguments ({len(given)} given)"
    for keywords in ({"format": "x"}, {"out": out}, {"args": 1}, {"x": 1}):
        assert told(gate, out, "x", **keywords) == "TypeError: describe() takes no keyword arguments"
        assert told(gate, **keywords) == "TypeError: describe() takes no keyword arguments"
    assert gate(out, "d", 5, **{}) == 1


def test_one_fixed_argument(library: Any) -> None:
    @library.function
    def total(count: i32, /, *args: VarArg) -> f64: ...

    assert told(total) == "TypeError: total() takes at least 1 argument (0 given)"
    assert (total(0), total(3, 0.5, 1.5, c.c_float(2))) == (0.0, 4.0)
    assert told(total, 2**31) == (
        f"OverflowError: total() argument 1 must be in -2147483648..2147483647 (int), not {2**31}"
    )


def test_fixed_arguments_are_checked(describe: Any) -> None:
    gate, out = describe.gate, c.create_string_buffer(9)
    assert told(gate, "x", "d", 5) == "TypeError: describe() argument 1 must be a writable buffer of char, not str"
    assert told(gate, b"x", "d", 5) == (
        "TypeError: describe() argument 1 must be a writable buffer of char, not read-only bytes"
    )
    assert told(gate, None, "d", 5) == "TypeError: describe() argument 1 must be a writable buffer of char, not None"
    assert told(gate, out, 5, 5) == "TypeError: describe() argument 2 must be str or bytes, not int"
    assert told(gate, out, "x\0", 5) == ("ValueError: describe() argument 2 must not contain a NUL: embedded null byte")
    data = bytearray(20)
    assert told(gate, data, 5, 5) == "TypeError: describe() argument 2 must be str or bytes, not int"
    data += b"x"  # not exported any more


def test_results_of_every_kind(library: Any) -> None:
    @library.function
    def pick(which: i32, /, *args: VarArg) -> Ptr[None] | None: ...
    @library.function(symbol="pick")
    def pick_always(which: i32, /, *args: VarArg) -> Ptr[None]: ...
    @library.function
    def word(which: i32, /, *args: VarArg) -> str: ...
    @library.function(symbol="word")
    def word_bytes(which: i32, /, *args: VarArg) -> bytes | None: ...
    @library.function
    def made(n: i32, /, *args: VarArg) -> Pair: ...
    @library.function(symbol="total")
    def void(count: i32, /, *args: VarArg) -> None: ...

    assert (pick(0, None), pick(1, None, c.c_void_p(16)).value) == (None, 16)
    assert told(pick_always, 0, None) == (
        "ValueError: pick_always() returned NULL; declare the result `X | None` to get None"
    )
    assert (word(1, "a", "é"), word_bytes(0, b"\xff"), word_bytes(0, None)) == ("é", b"\xff", None)
    assert told(word, 0, b"\xff") == (
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    )
    assert repr(made(3, 1.5)) == "Pair(x=1.5, n=3)"
    assert void(1, 1.0) is None


def test_failures(library: Any) -> None:
    @library.function(symbol="fail", fails_if="negative")
    def by_errno(number: i32, /, *args: VarArg) -> i32: ...
    @library.function(symbol="fail", error=lambda code: Problem(code))
    def by_error(number: i32, /, *args: VarArg) -> Status: ...
    @library.function(symbol="fail")
    def status(number: i32, /, *args: VarArg) -> Status: ...
    @library.function(symbol="fail", fails_if=lambda result: result == 3)
    def by_predicate(number: i32, /, *args: VarArg) -> i32: ...

    assert by_errno(5, 2) == 5
    assert told(by_errno, -1, 2) == "FileNotFoundError: [Errno 2] No such file or directory"
    assert cg.errno() == 2
    assert told(by_errno, -7, 0, "x") == "OSError: [Errno 0] fail() failed with result -7 and set no errno".replace(
        "fail()", "by_errno()"
    )
    assert told(by_error, 4, 1) == "Problem: 4"
    assert by_error(0, 1) is None
    assert told(status, 4, 1) == "CallError: status() failed with status 4"
    assert by_predicate(2, 13) == 2
    assert cg.errno() == 13
    assert told(by_predicate, 3, 17) == "FileExistsError: [Errno 17] File exists"


def test_open_from_libc(engine: str, tmp_path: Path) -> None:
    import os

    libc = cg.load("c", engine=engine)

    @libc.function(fails_if="minus_one", symbol="_open" if IS_WINDOWS else "open")
    def open(path: cstr, flags: i32, /, *args: VarArg) -> i32: ...

    descriptor = open(str(tmp_path / "new"), os.O_CREAT | os.O_WRONLY, 0o640)
    os.close(descriptor)
    assert IS_WINDOWS or (tmp_path / "new").stat().st_mode & 0o777 & ~0o27 == 0o640 & ~0o27
    assert told(open, str(tmp_path / "none"), os.O_RDONLY) == "FileNotFoundError: [Errno 2] No such file or directory"


@posix_only("the C runtime of Windows has no symbol printf")
def test_printf_itself() -> None:
    for engine in ("native", "ctypes"):
        out, _ = run_child(PRINTF, engine)
        assert out == "7 2.50 word\n1099511627776 x\n[   é]\n"


PRINTF = r"""
import sys, ctypes
import callgate as cg
from callgate import VarArg, cstr, i32, Ptr
libc = cg.load("c", engine=sys.argv[1])
@libc.function
def printf(format: cstr, *args: VarArg) -> i32: ...
@libc.function
def fflush(stream: Ptr[None] | None) -> i32: ...
assert printf("%d %.2f %s\n", 7, 2.5, b"word") == 12
assert printf("%lld %c\n", ctypes.c_longlong(1 << 40), ord("x")) == 16
printf(b"[%5s]\n", "é")
fflush(None)
"""


# -- declaring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("f(x: i32, *args: i32) -> i32", "f() parameter '*args': variable arguments are declared as `*args: VarArg`"),
        ("f(x: i32, *rest) -> i32", "f() parameter '*rest': variable arguments are declared as `*rest: VarArg`"),
        ("f(x: i32, *args: VarArg, y: i32) -> i32", "f(): C has no keyword-only parameters"),
        ("f(x: i32, **args: VarArg) -> i32", "f(): C has no keyword-only parameters"),
        ("f(x: VarArg) -> i32", "f() parameter 'x': VarArg is for the variable arguments: `*args: VarArg`"),
        ("f(*args: VarArg) -> i32", "f(): C wants a parameter before the variable ones"),
        ("f(x: i32, y: Out[i32], *args: VarArg) -> i32", "f(): a variadic function cannot have Out parameters"),
        ("f(y: Out[i32], x: i32, *args: VarArg) -> i32", "f(): a variadic function cannot have Out parameters"),
        ("f(x: i32, *args: VarArg) -> VarArg", "f() result: VarArg has no C type; use a ctypes type or a name of callgate"),
        ("f(x: i32 = 3, *args: VarArg) -> i32", "f(): C has no default arguments; leave the default out"),
    ],
)  # fmt: skip
def test_misdeclared(library: Any, declared: str, text: str) -> None:
    scope = {"library": library, "i32": i32, "Out": Out, "VarArg": VarArg}
    assert told(exec, f"@library.function(symbol='plain')\ndef {declared}: ...", scope) == f"DeclarationError: {text}"


def test_no_callback_is_variadic() -> None:
    def given(x: i32, *args: VarArg) -> i32:
        return x

    assert told(cg.callback, given) == ("DeclarationError: given(): C cannot call a callback with variable arguments")


def test_three_ways_to_declare(engine: str, path: str) -> None:
    class Typed(Protocol):
        def total(self, count: i32, /, *numbers: VarArg) -> f64:
            "The sum."

        @cg.function(symbol="total")
        def total_too(self, count: i32, /, *args: VarArg) -> f64: ...

    text = "double total(int count, ...); const char *word(int, ...);"
    protocol, plain = cg.load(path, Typed, engine=engine), cg.load(path, text, engine=engine)
    both = cg.load(path, text, Typed, engine=engine)
    for function in (protocol.total, protocol.total_too, plain.total, both.total):
        assert function(2, 1.5, 2.5) == 4.0
    assert plain.word(0, "x") == b"x"
    assert protocol.total.__doc__ == "The sum.\n\ndouble total(int count, ...)"
    record = cg.gate(plain.total)
    assert (repr(record).split(" of ")[0], record.engine) == ("<gate double total(int count, ...)", engine)
    assert "double total(int count, ...)" in record.explain()


@pytest.mark.parametrize(
    ("text", "declared"),
    [("double total(int count, ...);", "total(self, count: i32, /) -> f64"), ("int plain(int x);", "plain(self, x: i32, /, *args: VarArg) -> i32")],
)  # fmt: skip
def test_protocol_and_text_agree_about_variable_arguments(path: str, text: str, declared: str) -> None:
    scope: dict[str, Any] = {"Protocol": Protocol, "i32": i32, "f64": f64, "VarArg": VarArg}
    exec(f"class Typed(Protocol):\n  def {declared}: ...", scope)
    name = declared.partition("(")[0]
    assert told(lambda: cg.load(path, text, scope["Typed"])[name]).startswith(f"DeclarationError: {name}(): ")


def test_it_tells_about_itself(describe: Any) -> None:
    import inspect

    gate = describe.gate
    assert str(inspect.signature(gate)) == "(out, format, /, *args)"
    assert (gate.__name__, gate.__doc__) == ("describe", "int describe(char *out, const char *format, ...)")


# -- threads, lifetimes ----------------------------------------------------------------------------------------------


def test_blocking(engine: str, build_library: Callable[..., Path]) -> None:
    """The GIL is released: this thread opens the door the other waits for."""
    source = WAITING + (
        "#include <stdarg.h>\nlong long wait_any(int count, ...) { va_list l; va_start(l, count); long long sum = wait_and_sum(0, 0, 0);"
        " while (count--) sum += va_arg(l, long long); va_end(l); return sum; }"
    )
    library = cg.load(str(build_library(source)), "int waiting_count(void); void open_door(void);", engine=engine)

    @library.function(blocking=True)
    def wait_any(count: i32, /, *args: VarArg) -> i64: ...

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(wait_any(2, c.c_longlong(5), c.c_longlong(1 << 40))))
    thread.start()
    while not library.waiting_count():
        pass
    library.open_door()
    thread.join(60)
    assert results == [5 + (1 << 40)]


def test_threads_meet_new_types_at_once(library: Any, describe: Any) -> None:
    gate = describe.gate
    classes = [type(f"Class{number}", (int,), {}) for number in range(60)]
    barrier = threading.Barrier(6, timeout=60)
    wrong: list[object] = []

    def run(shift: int) -> None:
        out = c.create_string_buffer(100)
        barrier.wait()
        for index in range(len(classes)):
            cls = classes[(index + shift * 7 * (shift % 2)) % len(classes)]
            gate(out, "dfs", cls(index), 0.5, str(shift))
            if out.value != f"{index} 0.5 {shift}".encode():
                wrong.append(out.value)

    threads = [threading.Thread(target=run, args=(shift,)) for shift in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (wrong, len(cg.gate(gate).shapes)) == ([], 60)


def test_an_argument_calls_the_gate(describe: Any) -> None:
    inner: list[str] = []

    def effect() -> None:
        inner.append(describe("sf", "inner", 0.5))
        if len(inner) < 3:
            describe("d", Index(1, effect))

    assert describe("ds", Index(5, effect), "outer") == "5 outer"
    assert inner == ["inner 0.5"] * 3


def test_everything_is_freed(engine: str, path: str) -> None:
    def use() -> list[weakref.ref[Any]]:
        library = cg.load(path, engine=engine)

        @library.function
        def total(count: i32, /, *args: VarArg) -> f64: ...

        class Own(float):
            pass

        assert total(2, Own(1.5), 2.5) == 4.0
        record = cg.gate(total)
        shapes = [weakref.ref(cg.gate(shape)) for shape in record.shapes.values()]
        return [weakref.ref(record), weakref.ref(library), weakref.ref(Own), *shapes]

    gone = use()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def test_references_are_exact(engine: str, path: str) -> None:
    out, _ = run_child(LEAKS, path, engine, "10000" if engine == "native" else "1000", timeout_s=300)
    assert out == "exact\n"


LEAKS = r"""
import ctypes, gc, sys
import callgate as cg
from callgate import Struct, VarArg, Writable, char, cstr, f64, i32
path, engine, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = cg.load(path, engine=engine)
@library.function
def describe(out: Writable[char], format: cstr, *args: VarArg) -> i32: ...
@library.function
def word(which: i32, /, *args: VarArg) -> bytes: ...
@library.function
def fail(number: i32, /, *args: VarArg) -> cg.Status: ...
class Pair(Struct):
    x: f64
    n: i32
class Boom:
    def __index__(self): raise KeyError
out, text, data, number, pair, boom = bytearray(200), "é" * 30, b"x" * 30, 1 << 29, Pair(1, 2), Boom()
buffer, pointer, long = ctypes.create_string_buffer(9), ctypes.pointer(ctypes.c_int(5)), ctypes.c_longlong(7)
by = ctypes.byref(buffer)
def failing(kind, function, *given):
    try:
        function(*given)
    except kind:
        return
    raise AssertionError(function)
calls = {
    "strings": lambda: describe(out, "ss", text, data), "numbers": lambda: describe(out, "dlf", number, long, 0.5),
    "struct": lambda: describe(out, "P", pair), "memory": lambda: describe(out, "ppp", buffer, pointer, by),
    "bytes": lambda: word(0, data), "status": lambda: failing(cg.CallError, fail, 3, 1), "none": lambda: describe(out, "p", None),
    "raises": lambda: failing(KeyError, describe, out, "sd", text, boom), "range": lambda: failing(OverflowError, describe, out, "sd", text, 1 << 40),
    "refused": lambda: failing(TypeError, describe, out, "sd", text, []), "count": lambda: failing(TypeError, describe, out),
    "keyword": lambda: failing(TypeError, lambda: describe(out, "d", number, x=text)), "fixed": lambda: failing(TypeError, describe, out, 5, text),
    "many": lambda: describe(out, "sdsdsdsd", text, 1, data, 2, text, 3, data, 4),
}
for index in range(40): describe(out, "d", type("Other", (int,), {})(5))  # the table of the machine code is full
calls["found by dict"] = lambda: describe(out, "sfs", text, 0.5, data)
things = [out, text, data, number, pair, boom, buffer, pointer, long, by, Pair, None, int, str]
for name, call in calls.items():
    for _ in range(50): call()
    gc.collect()
    references, blocks = [sys.getrefcount(thing) for thing in things], sys.getallocatedblocks()
    for _ in range(rounds): call()
    gc.collect()
    assert all(abs(a - b) < 50 for a, b in zip([sys.getrefcount(thing) for thing in things], references)), name
    assert abs(sys.getallocatedblocks() - blocks) < 100, (name, sys.getallocatedblocks() - blocks)
    out += b"x"  # not exported any more
    del out[-1:]
print("exact")
"""
