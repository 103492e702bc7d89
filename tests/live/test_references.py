"""Reference counts are exact on every path: each call here is made some 20,000 times, and nothing may be left of it."""

# ruff: noqa: F401, SIM105  (the declarations below are text; suppress() would allocate)

from __future__ import annotations

import array
import ctypes
import enum
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from here import WCHAR_BITS, wide_units
from numpy_here import np

import callgate as cg
from callgate import (
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    Writable,
    cstr,
    f32,
    f64,
    i8,
    i32,
    i64,
    isize,
    u8,
    u16,
    u64,
    usize,
)

pytestmark = pytest.mark.usefixtures("few_to_collect")

SOURCE = r"""
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
int64_t add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
uint64_t as_u64(uint64_t x) { return x; }
signed char as_i8(signed char x) { return x; }
unsigned short as_u16(unsigned short x) { return x; }
double half(double x) { return x / 2; }
float half_f32(float x) { return x / 2; }
long double half_longdouble(long double x) { return x / 2; }
bool negated(bool x) { return !x; }
char as_char(char x) { return x; }
wchar_t as_wchar(wchar_t x) { return x; }
void nothing(void) {}
size_t length(const char *s) { return s ? strlen(s) : 99; }
size_t wide_length(const wchar_t *s) { return s ? wcslen(s) : 99; }
const char *echo(const char *s) { return s; }
const wchar_t *wide_echo(const wchar_t *s) { return s; }
int is_null(const void *p) { return !p; }
int64_t sum_u8(const unsigned char *data, size_t count) {
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += data[i];
    return sum;
}
double dot(const double *a, const double *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}
double first_f32(const float *a) { return a[0]; }
void touch(double *a, size_t count) { if (count) a[0] = 1; }
int pair_sum(const int pair[2]) { return pair[0] + pair[1]; }
int many(const char *a, const unsigned char *b, double *c, const int *d, const wchar_t *e, void *f, int g) { return g; }
struct thing { int value; };
static struct thing things[2] = {{1}, {2}};
struct thing *find(int which) { return which < 0 ? 0 : &things[which]; }
int value_of(const struct thing *thing) { return thing ? thing->value : -1; }
int *int_pointer(int *p) { return p; }
void *void_pointer(void *p) { return p; }
int divide(int a, int b, int *quotient, int *remainder) {
    if (!b) return 33;
    *quotient = a / b;
    *remainder = a % b;
    return 0;
}
int open_thing(int which, struct thing **out) { *out = find(which); return which < 0; }
int describe(int which, const char **text, struct thing **thing, double *x, bool *yes, char *c, wchar_t *w, const wchar_t **wide) {
    *text = which & 1 ? 0 : "text";
    *thing = which & 2 ? 0 : &things[0];
    *wide = which & 4 ? 0 : L"wide";
    *x = 0.5;
    *yes = true;
    *c = 'c';
    *w = L'w';
    return which;
}
int color(int which) { return which; }
void out_color(int which, int *out) { *out = which; }
int fail(int result, int number) { errno = number; return result; }
void *fail_pointer(void *result, int number) { errno = number; return result; }
double fail_f64(double result) { return result; }
"""

ROUNDS = {"native": 20_000, "ctypes": 3_000}
TOLERANCE = 60  # what the interpreter's own caches may take or give


class Thing(Opaque):
    """A struct of the library."""


class Color(enum.IntEnum):
    RED = 3
    GREEN = 300


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Problem(Exception):
    """An exception of the tests' own."""


class Text(str):
    pass


class Blob(bytes):
    pass


class Number(int):
    pass


class Index:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value.__class__(*self.value.args)
        return self.value


class Float:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __float__(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value.__class__(*self.value.args)
        return self.value


class Case(NamedTuple):
    """A call: the function, what it is given, and what comes of it (a value, or the type of an exception)."""

    name: str
    declare: str
    arguments: Sequence[Any]
    outcome: Any
    keywords: dict[str, Any] = {}  # noqa: RUF012  # never changed
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed


def always(value: Any) -> Callable[[Any], Any]:
    """A callable that returns the value, or raises it anew where it is an exception."""

    def answer(result: Any) -> Any:
        if isinstance(value, Exception):
            raise value.__class__(*value.args)
        return value

    return answer


LARGE = 1 << 62
thing_pointer = Ptr[Thing]
int_pointer = Ptr[cg.int_]


def pointer_to_thing() -> Any:
    return ctypes.cast(ctypes.addressof(ctypes.c_int64()), thing_pointer)


SCALARS = [
    Case("small int", "add(a: i64, b: i64) -> i64", (3, 4), 7),
    Case("negative int", "add(a: i64, b: i64) -> i64", (-3, -400), -403),
    Case("two digits", "add(a: i64, b: i64) -> i64", (1 << 40, 1 << 41), (1 << 40) + (1 << 41)),
    Case("three digits", "add(a: i64, b: i64) -> i64", (LARGE, -5), LARGE - 5),
    Case("the least int", "add(a: i64, b: i64) -> i64", (-1 << 63, 0), -1 << 63),
    Case("unsigned", "as_u64(x: u64) -> u64", ((1 << 64) - 1,), (1 << 64) - 1),
    Case("unsigned, small", "as_u64(x: u64) -> u64", (200,), 200),
    Case("bool as int", "add(a: i64, b: i64) -> i64", (True, False), 1),
    Case("int subclass", "add(a: i64, b: i64) -> i64", (Number(5), Number(1 << 40)), 5 + (1 << 40)),
    Case("__index__", "add(a: i64, b: i64) -> i64", (Index(5), Index(1 << 62)), 5 + (1 << 62)),
    Case("__index__ raises", "add(a: i64, b: i64) -> i64", (5, Index(Problem("no"))), Problem),
    Case("__index__ gives no int", "add(a: i64, b: i64) -> i64", (5, Index("x")), TypeError),
    Case("__index__ out of range", "add(a: i64, b: i64) -> i64", (5, Index(1 << 63)), OverflowError),
    Case("numpy int", "add(a: i64, b: i64) -> i64", (np.int64(5), np.uint8(7)), 12),
    Case("float as int", "add(a: i64, b: i64) -> i64", (5, 1.0), TypeError),
    Case("too large", "add(a: i64, b: i64) -> i64", (5, 1 << 63), OverflowError),
    Case("much too large", "add(a: i64, b: i64) -> i64", (1 << 200, 3), OverflowError),
    Case("too large for u64", "as_u64(x: u64) -> u64", (1 << 64,), OverflowError),
    Case("negative for u64", "as_u64(x: u64) -> u64", (-1,), OverflowError),
    Case("i8", "as_i8(x: i8) -> i8", (-128,), -128),
    Case("too large for i8", "as_i8(x: i8) -> i8", (128,), OverflowError),
    Case("too large for u16", "as_u16(x: u16) -> u16", (1 << 16,), OverflowError),
    Case("large int result", "add(a: i64, b: i64) -> i64", (100_000, 1), 100_001),
    Case("float", "half(x: f64) -> f64", (5.0,), 2.5),
    Case("int as float", "half(x: f64) -> f64", (5,), 2.5),
    Case("huge int as float", "half(x: f64) -> f64", (10**400,), OverflowError),
    Case("__float__", "half(x: f64) -> f64", (Float(3.0),), 1.5),
    Case("__float__ raises", "half(x: f64) -> f64", (Float(Problem("no")),), Problem),
    Case("__float__ gives no float", "half(x: f64) -> f64", (Float("x"),), TypeError),
    Case("__index__ as float", "half(x: f64) -> f64", (Index(3),), 1.5),
    Case("numpy float", "half(x: f64) -> f64", (np.float64(3),), 1.5),
    Case("str as float", "half(x: f64) -> f64", ("3",), TypeError),
    Case("f32", "half_f32(x: f32) -> f32", (5.0,), 2.5),
    Case("f32 infinite", "half_f32(x: f32) -> f32", (float("inf"),), float("inf")),
    Case("f32 too large", "half_f32(x: f32) -> f32", (1e300,), OverflowError),
    Case("long double", "half_longdouble(x: cg.longdouble) -> cg.longdouble", (5.0,), 2.5),
    Case("true", "negated(x: cg.bool_) -> cg.bool_", (True,), False),
    Case("false", "negated(x: cg.bool_) -> cg.bool_", (False,), True),
    Case("numpy bool", "negated(x: cg.bool_) -> cg.bool_", (np.bool_(False),), True),
    Case("2 as bool", "negated(x: cg.bool_) -> cg.bool_", (2,), OverflowError),
    Case("str as bool", "negated(x: cg.bool_) -> cg.bool_", ("x",), TypeError),
    Case("char", "as_char(x: cg.char) -> cg.char", (b"x",), b"x"),
    Case("two chars", "as_char(x: cg.char) -> cg.char", (b"xy",), TypeError),
    Case("wchar", "as_wchar(x: cg.wchar) -> cg.wchar", ("é",), "é"),
    Case(
        "wchar beyond",
        "as_wchar(x: cg.wchar) -> cg.wchar",
        ("\U0001f600",),
        "\U0001f600" if WCHAR_BITS == 32 else ValueError,
    ),
    Case("two wchars", "as_wchar(x: cg.wchar) -> cg.wchar", ("xy",), TypeError),
    Case("nothing", "nothing() -> None", (), None),
    Case("released", "add(a: i64, b: i64) -> i64", (1000, 2000), 3000, {}, {"blocking": True}),
    Case("released, nothing", "nothing() -> None", (), None, {}, {"blocking": True}),
]

STRINGS = [
    Case("bytes", "length(s: cstr) -> usize", (b"x" * 40,), 40),
    Case("str", "length(s: cstr) -> usize", ("x" * 40,), 40),
    Case("str, not ASCII", "length(s: cstr) -> usize", ("é" * 40,), 80),
    Case("str subclass", "length(s: cstr) -> usize", (Text("é" * 40),), 80),
    Case("bytes subclass", "length(s: cstr) -> usize", (Blob(b"x" * 40),), 40),
    Case("no string", "length(s: cstr) -> usize", (5,), TypeError),
    Case("None as string", "length(s: cstr) -> usize", (None,), TypeError),
    Case("None as NULL", "length(s: cstr | None) -> usize", (None,), 99),
    Case("NUL in bytes", "length(s: cstr) -> usize", (b"x\0" * 20,), ValueError),
    Case("NUL in str", "length(s: cstr) -> usize", ("x\0" * 20,), ValueError),
    Case("surrogates", "length(s: cstr) -> usize", ("\udc80" * 20,), UnicodeEncodeError),
    Case("c_char_p", "length(s: cstr) -> usize", (ctypes.c_char_p(b"word"),), 4),
    Case("char array", "length(s: cstr) -> usize", (ctypes.create_string_buffer(b"word"),), 4),
    Case("NULL c_char_p", "length(s: cstr) -> usize", (ctypes.c_char_p(),), TypeError),
    Case("wide", "wide_length(s: cg.wstr) -> usize", ("word" * 5,), 20),
    Case("wide, not ASCII", "wide_length(s: cg.wstr) -> usize", ("é\U0001f600" * 5,), wide_units("é\U0001f600" * 5)),
    Case("NUL in wide", "wide_length(s: cg.wstr) -> usize", ("x\0y" * 5,), ValueError),
    Case("bytes as wide", "wide_length(s: cg.wstr) -> usize", (b"x",), TypeError),
    Case("None as wide", "wide_length(s: cg.wstr | None) -> usize", (None,), 99),
    Case("str result", "echo(s: cstr) -> str", (b"abc" * 9,), "abc" * 9),
    Case("str result, undecodable", "echo(s: cstr) -> str", (b"\xff" * 9,), UnicodeDecodeError),
    Case("str result, NULL", "echo(s: cstr | None) -> str", (None,), ValueError),
    Case("str result, None", "echo(s: cstr | None) -> str | None", (None,), None),
    Case("bytes result", "echo(s: cstr) -> bytes", ("é" * 9,), "é".encode() * 9),
    Case("bytes result, NULL", "echo(s: cstr | None) -> bytes", (None,), ValueError),
    Case("bytes result, None", "echo(s: cstr | None) -> bytes | None", (None,), None),
    Case("wide result", "wide_echo(s: cg.wstr) -> cg.wstr", ("é" * 9,), "é" * 9),
    Case("wide result, NULL", "wide_echo(s: cg.wstr | None) -> cg.wstr", (None,), ValueError),
    Case("released, string", "echo(s: cstr) -> str", ("é" * 9,), "é" * 9, {}, {"blocking": True}),
]

ITEMS = np.arange(8, dtype=np.float64)
BUFFERS = [
    Case("bytes as u8", "sum_u8(data: Readable[u8], count: usize) -> i64", (b"abc", 3), 294),
    Case("bytearray", "sum_u8(data: Readable[u8], count: usize) -> i64", (bytearray(b"abc"), 3), 294),
    Case("memoryview", "sum_u8(data: Readable[u8], count: usize) -> i64", (memoryview(bytearray(b"abc")), 3), 294),
    Case("a view of bytes", "sum_u8(data: Readable[u8], count: usize) -> i64", (memoryview(b"abc"), 3), 294),
    Case("list", "sum_u8(data: Readable[u8], count: usize) -> i64", ([97, 98, 99], 3), 294),
    Case("list with __index__", "sum_u8(data: Readable[u8], count: usize) -> i64", ([97, Index(98), 99], 3), 294),
    Case("list with str", "sum_u8(data: Readable[u8], count: usize) -> i64", ([97, 98, "x"], 3), TypeError),
    Case("list out of range", "sum_u8(data: Readable[u8], count: usize) -> i64", ([97, 98, 256], 3), OverflowError),
    Case("numpy u8", "sum_u8(data: Readable[u8], count: usize) -> i64", (np.array([97, 98], np.uint8), 2), 195),
    Case("ctypes array", "sum_u8(data: Readable[u8], count: usize) -> i64", ((ctypes.c_ubyte * 2)(97, 98), 2), 195),
    Case("byref", "sum_u8(data: Readable[u8], count: usize) -> i64", (ctypes.byref(ctypes.c_ubyte(9)), 1), 9),
    Case("pointer", "sum_u8(data: Readable[u8], count: usize) -> i64", (ctypes.pointer(ctypes.c_ubyte(9)), 1), 9),
    Case("str as buffer", "sum_u8(data: Readable[u8], count: usize) -> i64", ("abc", 3), TypeError),
    Case("None as buffer", "sum_u8(data: Readable[u8], count: usize) -> i64", (None, 0), TypeError),
    Case("None as no buffer", "sum_u8(data: Readable[u8] | None, count: usize) -> i64", (None, 0), 0),
    Case(
        "array",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        (array.array("d", [1, 2]), array.array("d", [3, 4]), 2),
        11.0,
    ),
    Case("numpy", "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64", (ITEMS, ITEMS[:2], 2), 1.0),
    Case("float lists", "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64", ([1.5, 2.5], [2.0, 2.0], 2), 8.0),
    Case(
        "lists with ints",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        ([1, 2], [2.0, Float(2.0)], 2),
        6.0,
    ),
    Case(
        "list with None",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        ([1.5, 2.5], [2.0, None], 2),
        TypeError,
    ),
    Case(
        "wrong items",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        (array.array("d", [1]), array.array("f", [1]), 1),
        TypeError,
    ),
    Case(
        "wrong numpy items",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        (ITEMS, np.arange(3), 1),
        TypeError,
    ),
    Case(
        "not contiguous",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        (ITEMS, ITEMS[::2], 1),
        BufferError,
    ),
    Case(
        "read-only numpy",
        "dot(a: Readable[f64], b: Readable[f64], n: usize) -> f64",
        (np.frombuffer(b"\0" * 16), ITEMS, 2),
        0.0,
    ),
    Case("f32 list", "first_f32(a: Readable[f32]) -> f64", ([0.5],), 0.5),
    Case("f32 list too large", "first_f32(a: Readable[f32]) -> f64", ([1e300],), OverflowError),
    Case("writable array", "touch(a: Writable[f64], count: usize) -> None", (array.array("d", [0, 0]), 2), None),
    Case("writable numpy", "touch(a: Writable[f64], count: usize) -> None", (np.zeros(3), 3), None),
    Case("writable scalar", "touch(a: Writable[f64], count: usize) -> None", (ctypes.c_double(), 1), None),
    Case("writable ctypes array", "touch(a: Writable[f64], count: usize) -> None", ((ctypes.c_double * 3)(), 3), None),
    Case("not writable", "touch(a: Writable[f64], count: usize) -> None", (np.frombuffer(b"\0" * 16), 2), TypeError),
    Case("list as writable", "touch(a: Writable[f64], count: usize) -> None", ([1.0], 1), TypeError),
    Case("void, bytearray", "is_null(p: Readable[None]) -> i32", (bytearray(b"abc"),), 0),
    Case("void, array", "is_null(p: Readable[None]) -> i32", (array.array("h", [1]),), 0),
    Case("void, None", "is_null(p: Readable[None] | None) -> i32", (None,), 1),
    Case("void, numpy", "is_null(p: Writable[None]) -> i32", (np.zeros(4, np.int16),), 0),
    Case(
        "released, buffer",
        "sum_u8(data: Readable[u8], count: usize) -> i64",
        (bytearray(b"abc"), 3),
        294,
        {},
        {"blocking": True},
    ),
    Case(
        "released, list",
        "sum_u8(data: Readable[u8], count: usize) -> i64",
        ([97, 98, 99], 3),
        294,
        {},
        {"blocking": True},
    ),
]

POINTERS = [
    Case("handle", "value_of(thing: Ptr[Thing] | None) -> i32", (None,), -1),
    Case("NULL handle", "value_of(thing: Ptr[Thing]) -> i32", (thing_pointer(),), TypeError),
    Case("None handle", "value_of(thing: Ptr[Thing]) -> i32", (None,), TypeError),
    Case("int as handle", "value_of(thing: Ptr[Thing]) -> i32", (5,), TypeError),
    Case("handle result", "find(which: i32) -> Ptr[Thing]", (1,), thing_pointer),
    Case("handle result, NULL", "find(which: i32) -> Ptr[Thing]", (-1,), ValueError),
    Case("handle result, None", "find(which: i32) -> Ptr[Thing] | None", (-1,), None),
    Case(
        "pointer through",
        "int_pointer(p: Ptr[cg.int_]) -> Ptr[cg.int_]",
        (ctypes.pointer(ctypes.c_int(4)),),
        int_pointer,
    ),
    Case(
        "byref as handle", "int_pointer(p: Ptr[cg.int_]) -> Ptr[cg.int_]", (ctypes.byref(ctypes.c_int(4)),), int_pointer
    ),
    Case("array as handle", "int_pointer(p: Ptr[cg.int_]) -> Ptr[cg.int_]", ((ctypes.c_int * 3)(),), int_pointer),
    Case("address", "void_pointer(p: Ptr[None]) -> Ptr[None]", (1 << 40,), ctypes.c_void_p),
    Case("address too large", "void_pointer(p: Ptr[None]) -> Ptr[None]", (1 << 64,), OverflowError),
    Case("negative address", "void_pointer(p: Ptr[None]) -> Ptr[None]", (-1,), OverflowError),
    Case("address subclass", "void_pointer(p: Ptr[None]) -> Ptr[None]", (Number(1 << 40),), ctypes.c_void_p),
    Case("address 0", "void_pointer(p: Ptr[None]) -> Ptr[None]", (0,), TypeError),
    Case("c_void_p", "void_pointer(p: Ptr[None]) -> Ptr[None]", (ctypes.c_void_p(7),), ctypes.c_void_p),
    Case("any pointer", "void_pointer(p: Ptr[None]) -> Ptr[None]", (ctypes.pointer(ctypes.c_int(4)),), ctypes.c_void_p),
]

RESULTS = [
    Case("outs", "divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status", (17_000, 5), (3400, 0)),
    Case(
        "outs, status failing",
        "divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status",
        (17, 0),
        cg.CallError,
    ),
    Case(
        "outs and result", "divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> i32", (17, 5), (0, 3, 2)
    ),
    Case("out handle", "open_thing(which: i32, out: Out[Ptr[Thing]]) -> Status", (1,), thing_pointer),
    Case("out handle, status", "open_thing(which: i32, out: Out[Ptr[Thing]]) -> Status", (-1,), cg.CallError),
    Case("out handle, NULL", "open_thing(which: i32, out: Out[Ptr[Thing]]) -> None", (-1,), ValueError),
    Case("out handle, None", "open_thing(which: i32, out: Out[Ptr[Thing] | None]) -> None", (-1,), None),
    *(
        Case(
            f"eight outs, {which}",
            "describe(which: i32, text: Out[str], thing: Out[Ptr[Thing]], x: Out[f64], yes: Out[cg.bool_], c: Out[cg.char],"
            " w: Out[cg.wchar], wide: Out[cg.wstr]) -> i32",
            (which,),
            ValueError if which & 7 else tuple,
        )
        for which in (0, 1, 2, 4, 8)
    ),
    Case("enum", "color(which: i32) -> Color", (3,), Color.RED),
    Case("enum, large", "color(which: i32) -> Color", (300,), Color.GREEN),
    Case("enum, no member", "color(which: i32) -> Color", (4,), ValueError),
    Case("enum argument", "color(which: Color) -> i32", (Color.GREEN,), 300),
    Case("flags", "color(which: i32) -> Flags", (3,), Flags.A | Flags.B),
    Case("out enum", "out_color(which: i32, out: Out[Color]) -> None", (3,), Color.RED),
    Case("out enum, no member", "out_color(which: i32, out: Out[Color]) -> None", (4,), ValueError),
    Case("status", "color(which: i32) -> Status", (0,), None),
    Case("status failing", "color(which: i32) -> Status", (7,), cg.CallError),
]

FAILURES = [
    Case("negative", "fail(result: i32, number: i32) -> i32", (5000, 2), 5000, {}, {"fails_if": "negative"}),
    Case(
        "negative failing",
        "fail(result: i32, number: i32) -> i32",
        (-1, 2),
        FileNotFoundError,
        {},
        {"fails_if": "negative"},
    ),
    Case("no errno", "fail(result: i32, number: i32) -> i32", (-1, 0), OSError, {}, {"fails_if": "negative"}),
    Case(
        "minus_one failing",
        "fail(result: i32, number: i32) -> i32",
        (-1, 11),
        BlockingIOError,
        {},
        {"fails_if": "minus_one"},
    ),
    Case(
        "nonzero failing",
        "fail(result: i32, number: i32) -> Status",
        (1, 1),
        PermissionError,
        {},
        {"fails_if": "nonzero"},
    ),
    Case(
        "null failing",
        "fail_pointer(result: Ptr[None] | None, number: i32) -> Ptr[None]",
        (None, 2),
        OSError,
        {},
        {"fails_if": "null"},
    ),
    Case(
        "null not failing",
        "fail_pointer(result: Ptr[None] | None, number: i32) -> Ptr[None]",
        (9, 2),
        ctypes.c_void_p,
        {},
        {"fails_if": "null"},
    ),
    Case("error", "fail(result: i32, number: i32) -> i32", (7, 2), Problem, {}, {"error": Problem}),
    Case("error not called", "fail(result: i32, number: i32) -> i32", (0, 2), 0, {}, {"error": Problem}),
    Case(
        "error raising", "fail(result: i32, number: i32) -> i32", (7, 2), Problem, {}, {"error": always(Problem("x"))}
    ),
    Case("error giving none", "fail(result: i32, number: i32) -> i32", (7, 2), TypeError, {}, {"error": always("x")}),
    Case(
        "error, released",
        "fail(result: i32, number: i32) -> i32",
        (7, 2),
        Problem,
        {},
        {"error": Problem, "blocking": True},
    ),
    Case("predicate", "fail(result: i32, number: i32) -> i32", (70_000, 2), 70_000, {}, {"fails_if": always(False)}),
    Case(
        "predicate true",
        "fail(result: i32, number: i32) -> i32",
        (70_000, 2),
        FileNotFoundError,
        {},
        {"fails_if": always(True)},
    ),
    Case(
        "predicate raising",
        "fail(result: i32, number: i32) -> i32",
        (70_000, 2),
        Problem,
        {},
        {"fails_if": always(Problem("x"))},
    ),
    Case(
        "predicate with error",
        "fail(result: i32, number: i32) -> i32",
        (7, 2),
        Problem,
        {},
        {"fails_if": always(True), "error": Problem},
    ),
    Case("predicate on a string", "echo(s: cstr) -> str", (b"abc" * 9,), "abc" * 9, {}, {"fails_if": always(False)}),
    Case("predicate on a string, true", "echo(s: cstr) -> str", (b"abc" * 9,), OSError, {}, {"fails_if": always(True)}),
    Case(
        "predicate on a handle", "find(which: i32) -> Ptr[Thing]", (1,), thing_pointer, {}, {"fails_if": always(False)}
    ),
    Case("predicate on NULL", "find(which: i32) -> Ptr[Thing]", (-1,), ValueError, {}, {"fails_if": always(False)}),
    Case("predicate on None", "find(which: i32) -> Ptr[Thing] | None", (-1,), None, {}, {"fails_if": always(False)}),
    Case("predicate on a float", "fail_f64(result: f64) -> f64", (0.5,), 0.5, {}, {"fails_if": always(False)}),
    Case(
        "predicate on a status",
        "fail(result: i32, number: i32) -> Status",
        (70_000, 2),
        None,
        {},
        {"fails_if": always(False)},
    ),
    *(
        Case(
            f"predicate and outs, {answer}",
            "divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> i32",
            (17_000, 5),
            outcome,
            {},
            {"fails_if": always(answer)},
        )
        for answer, outcome in ((False, (0, 3400, 0)), (True, OSError))
    ),
    Case(
        "predicate, released, buffer",
        "sum_u8(data: Readable[u8], count: usize) -> i64",
        (bytearray(b"abc" * 9), 27),
        2646,
        {},
        {"fails_if": always(False), "blocking": True},
    ),
    Case(
        "predicate failing, buffer",
        "sum_u8(data: Readable[u8], count: usize) -> i64",
        (bytearray(b"abc" * 9), 27),
        OSError,
        {},
        {"fails_if": always(True)},
    ),
]

MANY = "many(a: cstr, b: Readable[u8], c: Writable[f64], d: Readable[cg.int_], e: cg.wstr, f: Ptr[None], g: i32) -> i32"


def seven(place: int | None = None, wrong: Any = None) -> list[Any]:
    """Arguments for `many`, the one at a place replaced."""
    made = ["é" * 9, bytearray(b"abc"), array.array("d", [1, 2]), [1, 2, 1000], "wide" * 3, ctypes.c_void_p(7), 1234]
    if place is not None:
        made[place] = wrong
    return made


SEVEN_NAMES = "abcdefg"
ARGUMENTS = [
    Case("all seven", MANY, seven(), 1234),
    *(Case(f"argument {place + 1} fails", MANY, seven(place, object()), TypeError) for place in range(7)),
    *(Case(f"argument {place + 1} is None", MANY, seven(place, None), TypeError) for place in range(7)),
    Case("the last raises", MANY, seven(6, Index(Problem("no"))), Problem),
    Case("the list raises", MANY, seven(3, [1, Index(Problem("no"))]), Problem),
    Case("by name", MANY, (), 1234, dict(zip(SEVEN_NAMES, seven(), strict=True))),
    Case("by name, backwards", MANY, (), 1234, dict(list(zip(SEVEN_NAMES, seven(), strict=True))[::-1])),
    Case("the last by name", MANY, seven()[:6], 1234, {"g": 1234}),
    Case("by name, failing", MANY, seven()[:5], TypeError, {"g": "x", "f": 5}),
    Case("one missing", MANY, seven()[:5], TypeError, {"g": 1234}),
    Case("one twice", MANY, seven(), TypeError, {"a": "x"}),
    Case("one unknown", MANY, seven()[:6], TypeError, {"h": 5}),
    Case("too few", MANY, seven()[:6], TypeError),
    Case("too many", MANY, [*seven(), 5], TypeError),
    Case("too many, by name", MANY, seven(), TypeError, {"h": 5}),
    Case("positional only", "add(a: i64, b: i64, /) -> i64", (1,), TypeError, {"b": 2}),
    Case("no parameters", "nothing() -> None", (5,), TypeError),
    Case("no parameters, by name", "nothing() -> None", (), TypeError, {"x": 5}),
    Case("a pair", "pair_sum(pair: Readable[cg.int_ * 2]) -> i32", ([1, 2],), 3),
    Case("too short a pair", "pair_sum(pair: Readable[cg.int_ * 2]) -> i32", ([1],), ValueError),
    Case("too short an array", "pair_sum(pair: Readable[cg.int_ * 2]) -> i32", (array.array("i", [1]),), ValueError),
]

CASES = [*SCALARS, *STRINGS, *BUFFERS, *POINTERS, *RESULTS, *FAILURES, *ARGUMENTS]


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


def bind(path: str, engine: str, declaration: str, options: dict[str, Any]) -> Callable[..., Any]:
    scope = dict(globals())
    exec(f"def {declaration}: ...", scope)
    function: Callable[..., Any] = cg.load(path, engine=engine).function(**options)(scope[declaration.split("(")[0]])
    return function


def counts(things: Iterable[Any]) -> list[int]:
    return [sys.getrefcount(thing) for thing in things]


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def leaves_nothing(call: Callable[[int], object], watched: Sequence[Any], rounds: int) -> None:
    """Call it often: no object may gain or lose references, and no memory may stay."""
    call(300)
    gc.collect()
    before = counts(watched)
    memory = blocks()
    call(rounds)
    difference = blocks() - memory
    after = counts(watched)
    gained = [
        (thing, now - then)
        for thing, then, now in zip(watched, before, after, strict=True)
        if abs(now - then) > TOLERANCE
    ]
    assert not gained
    assert abs(difference) <= TOLERANCE


def resize(thing: Any) -> None:
    """An object whose buffer is still exported refuses this."""
    if isinstance(thing, (bytearray, array.array)):
        thing.append(thing[0])
        thing.pop()
    elif isinstance(thing, list):
        for item in thing:
            resize(item)


SHARED = (None, True, False, -5, -1, 0, 1, 2, 3, 7, 12, 99, 256, (), b"", "", b"x", "x", b"c")


@pytest.mark.filterwarnings("ignore:In future, it will be an error for 'np.bool:DeprecationWarning")  # NumPy 1 and 2.0
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_calls(case: Case, engine: str, path: str) -> None:
    function = bind(path, engine, case.declare, case.options)
    arguments, keywords, outcome = tuple(case.arguments), case.keywords, case.outcome
    is_error = isinstance(outcome, type) and issubclass(outcome, Exception)
    if is_error:
        with pytest.raises(outcome) as caught:
            function(*arguments, **keywords)
        assert type(caught.value) is outcome or issubclass(OSError, outcome)
        del caught
    else:
        result = function(*arguments, **keywords)
        assert isinstance(result, outcome) if isinstance(outcome, type) else result == outcome
        assert isinstance(outcome, type) or type(result) is type(outcome)
        del result

    def call(rounds: int) -> None:
        if is_error:
            for _ in repeat(None, rounds):
                try:
                    function(*arguments, **keywords)
                except outcome:
                    pass
        elif keywords:
            for _ in repeat(None, rounds):
                function(*arguments, **keywords)
        else:
            for _ in repeat(None, rounds):
                function(*arguments)

    items = [item for thing in arguments if isinstance(thing, list) for item in thing]
    watched = [*arguments, *keywords.values(), *items, *keywords, *case.options.values(), *SHARED]
    watched += [function, function.__self__, Thing, thing_pointer, int_pointer, Color, Color.RED, Flags, Problem]  # type: ignore[attr-defined]
    watched += [type(thing) for thing in arguments]
    rounds = ROUNDS[engine] // (4 if is_error else 1)
    leaves_nothing(call, watched, rounds)
    for thing in [*arguments, *keywords.values()]:
        resize(thing)


def test_small_int_results(engine: str, path: str) -> None:
    """100,000 calls whose results are shared ints leave not one block behind."""
    add = bind(path, engine, "add(a: i64, b: i64, /) -> i64", {})
    rounds = 100_000 if engine == "native" else 20_000
    numbers = [*range(-5, 257)]

    def call(rounds: int) -> None:
        for _ in repeat(None, rounds // len(numbers)):
            for number in numbers:
                add(number, 0)

    call(rounds)
    before = blocks()
    call(rounds)
    assert abs(blocks() - before) <= 20
    leaves_nothing(call, [add, *numbers], rounds)


def test_results_are_owned(engine: str, path: str) -> None:
    """What a call returns has one reference, that of the caller."""
    for declaration, arguments in [
        ("add(a: i64, b: i64) -> i64", (100_000, 1)),
        ("as_u64(x: u64) -> u64", ((1 << 64) - 1,)),
        ("half(x: f64) -> f64", (3.0,)),
        ("half_f32(x: f32) -> f32", (3.0,)),
        ("echo(s: cstr) -> str", ("a longer text",)),
        ("echo(s: cstr) -> bytes", ("a longer text",)),
        ("wide_echo(s: cg.wstr) -> cg.wstr", ("a longer text",)),
        ("find(which: i32) -> Ptr[Thing]", (1,)),
        ("divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status", (17_000, 5)),
    ]:
        result = bind(path, engine, declaration, {})(*arguments)
        # `result`, and before 3.14 the argument of getrefcount
        assert sys.getrefcount(result) == 1 + (sys.version_info < (3, 14)), declaration


def test_items_of_tuples_are_owned(engine: str, path: str) -> None:
    divide = bind(path, engine, "divide(a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> i32", {})
    result = divide(1_000_003, 101)
    references = sys.getrefcount(result[1])
    assert references == 2  # the tuple, and the argument of getrefcount
    assert result == (0, 9901, 2)


@pytest.mark.parametrize("blocking", [False, True])
def test_buffers_are_held_during_the_call_and_not_after(engine: str, path: str, blocking: bool) -> None:
    """Python code that runs during the conversion finds the earlier buffers exported."""
    many = bind(path, engine, MANY, {"blocking": blocking})
    data, items = bytearray(b"abc"), array.array("d", [1, 2])
    told: list[str] = []

    class Nosy:
        def __index__(self) -> int:
            for thing in (data, items):
                try:
                    thing.append(1)
                except BufferError:
                    told.append(type(thing).__name__)
            return 55

    for _ in range(50):
        assert many("a", data, items, [1], "e", 7, Nosy()) == 55
        data.append(1)
        items.append(1)
    assert told == ["bytearray", "array"] * 50


def test_gates_as_values(engine: str, path: str) -> None:
    """Gates are ordinary objects to everything that calls them."""
    add = bind(path, engine, "add(a: i64, b: i64) -> i64", {})

    def call(rounds: int) -> None:
        for _ in repeat(None, rounds):
            sum(map(add, (1, 2, 3), (4, 5, 6)))
            add(*[1, 2])
            add(**{"a": 1, "b": 2})

    leaves_nothing(call, [add, 1, 2, 3, *SHARED], ROUNDS[engine] // 4)


_ = (i8, i32, isize, u16)  # named by the declarations alone
