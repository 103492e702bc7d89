"""What C hands over: memory to be freed, arrays, variables, errno, and pointers to functions."""

from __future__ import annotations

import ctypes
import enum
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from numpy_here import np
from tests.live.children import run_child
from tests.live.here import C_LIBRARY, LONG_BITS, WCHAR_BITS
from tests.live.telling import Problem, told

import callgate as cg
from callgate import (
    Array,
    Opaque,
    Out,
    Ptr,
    Status,
    Struct,
    bool_,
    char,
    cstr,
    f32,
    f64,
    i8,
    i32,
    i64,
    longdouble,
    u8,
    u16,
    u32,
    u64,
    usize,
    wchar,
    wstr,
)

SOURCE = r"""
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
/* Every block is counted: how many there are, how many were freed, how often something was freed that was none. */
static void *blocks[4096];
static long made, freed, mistakes;
void *get(size_t size) {
    for (int i = 0; i < 4096; i++) if (!blocks[i]) { made++; return blocks[i] = calloc(1, size ? size : 1); }
    abort();
}
void release(void *p) {
    for (int i = 0; i < 4096; i++) if (p && blocks[i] == p) { blocks[i] = 0; freed++; free(p); return; }
    mistakes++;
}
int release_int(void *p) { release(p); return 0; }
long get_made(void) { return made; }
long get_freed(void) { return freed; }
long get_mistakes(void) { return mistakes; }
char *text(const char *s) { return s ? strcpy(get(strlen(s) + 1), s) : 0; }
wchar_t *wide(const wchar_t *s) { return s ? wcscpy(get(4 * (wcslen(s) + 1)), s) : 0; }
wchar_t *beyond(void) { wchar_t *s = get(8); s[0] = 0x110000; return s; }
struct thing { int value; double weight; };
struct thing *thing(int value) { struct thing *t; if (value < 0) return 0; t = get(sizeof *t); t->value = value; return t; }
void *handle(int n) { return n < 0 ? 0 : get(n); }
int texts(const char *a, const char *b, char **first, char **second) { *first = text(a); *second = text(b); return 0; }
int make(int code, const char *s, int value, char **string, struct thing **t) {
    *string = 0; *t = 0;
    if (code) return code;
    *string = text(s); *t = thing(value);
    return 0;
}
char *named(const char *s, char **other) { *other = text("other"); return text(s); }
int failing(int code, char **string) { *string = text("left behind"); errno = 17; return code; }
int mixed(const char *plain, const char *s, const char **borrowed, char **string) { *borrowed = plain; *string = text(s); return 5; }
double *ramp(long count) { double *d = get(8 * (count > 0 ? count : 0)); for (long i = 0; i < count; i++) d[i] = i + 0.5; return d; }
double *ramp_out(int n, int *count) { *count = n; return ramp(n); }
double *ramp_out_first(unsigned char *count, int n) { *count = (unsigned char)n; return ramp(*count); }
double *no_ramp(long count) { return 0; }
struct { uint16_t count; double items[3]; } counted = {3, {1.5, 2.5, 3.5}};
struct { uint64_t count; uint8_t items[3]; } counted64 = {3, {1, 2, 3}};
void *get_counted(void) { return &counted; }
void *get_counted64(uint64_t count) { counted64.count = count; return &counted64; }
void *owned_counted(unsigned count) { unsigned *p = get(4 + 4 * count); p[0] = count; for (unsigned i = 0; i < count; i++) p[i + 1] = i * i; return p; }
static int numbers[5] = {1, 2, 3, 4, 5};
int *get_numbers(signed char a, int8_t count, int b) { return numbers; }
unsigned char *get_bytes(uint64_t count) { return (unsigned char *)numbers; }
struct thing things[3] = {{1, 0.5}, {2, 1.5}, {3, 2.5}};
struct thing *get_things(size_t count) { return things; }
const char *words[3] = {"one", "two", 0};
const char **get_words(void) { return words; }
bool flags[3] = {true, false, true};
bool *get_flags(void) { return flags; }
wchar_t letters[3] = L"abc";
wchar_t *get_letters(void) { return letters; }
long double longs[2] = {0.5, 1.5};
long double *get_longs(void) { return longs; }
float floats[2] = {0.5, 1.5};
float *get_floats(void) { return floats; }
int counter = 41;
double ratio = 0.5;
const char *greeting = "hello";
struct thing *current = &things[1];
int table[4] = {1, 2, 3, 4};
int next_counter(void) { return ++counter; }
int twice(int x) { return 2 * x; }
int negative(int x) { return -x; }
typedef int (*function)(int);
function choose(int which) { return which == 0 ? 0 : which == 1 ? twice : negative; }
function (*chooser(void))(int) { return choose; }
const char *same(const char *s) { return s; }
const char *(*texter(void))(const char *) { return same; }
int choose_out(int which, function *out) { *out = choose(which); return 0; }
int set_errno(int number) { errno = number; return -1; }
int apply(function f, int x) { return f(x); }
struct operations { function call; } operations = {twice};
"""


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


@pytest.fixture
def library(engine: str, path: str) -> Any:
    return cg.load(path, engine=engine)


class Blocks:
    """The library's count of its blocks."""

    def __init__(self, path: str) -> None:
        self.library = cg.load(path, "long get_made(void); long get_freed(void); long get_mistakes(void);")
        self.start = self.counts()

    def counts(self) -> tuple[int, int, int]:
        library = self.library
        return library.get_made(), library.get_freed(), library.get_mistakes()

    def __call__(self) -> tuple[int, int]:
        """How many blocks were made and how many freed since the last time; nothing else may have been freed."""
        made, freed, mistakes = (now - then for now, then in zip(self.counts(), self.start, strict=True))
        self.start = self.counts()
        assert mistakes == 0
        return made, freed


@pytest.fixture
def blocks(path: str) -> Iterator[Blocks]:
    counted = Blocks(path)
    yield counted
    assert counted() == (0, 0), "blocks that nobody asked for"


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What sys.unraisablehook is told."""
    told_of: list[str] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda what: told_of.append(f"{what.exc_type.__name__}: {what.exc_value}")
    )
    return told_of


class Thing(Struct):
    value: i32
    weight: f64


class Stone(Opaque):
    """A struct that only the library knows."""


class Color(enum.IntEnum):
    ONE = 1
    TWO = 2
    THREE = 3


# -- free= -----------------------------------------------------------------------------------------------------------


def test_strings_are_copied_and_freed(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def text(s: cstr | None, /) -> str: ...
    @library.function(symbol="text", free="release")
    def data(s: cstr | None, /) -> bytes | None: ...
    @library.function(free="release")
    def wide(s: wstr | None, /) -> wstr: ...
    @library.function(free="release")
    def beyond() -> wstr: ...

    assert (text("é" * 50), blocks()) == ("é" * 50, (1, 1))
    assert (data(b"\xff\xfe"), blocks()) == (b"\xff\xfe", (1, 1))
    assert (wide("\U0001f600é"), blocks()) == ("\U0001f600é", (1, 1))
    assert (text(""), wide(""), blocks()) == ("", "", (2, 2))
    assert (data(None), blocks()) == (None, (0, 0))
    assert told(text, None) == "ValueError: text() returned NULL; declare the result `X | None` to get None"
    assert told(wide, None) == "ValueError: wide() returned NULL; declare the result `X | None` to get None"
    assert blocks() == (0, 0)
    assert told(text, b"\xff") == (
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    )
    assert blocks() == (1, 1)
    if WCHAR_BITS == 32:
        assert told(beyond).startswith("ValueError: ")
        assert blocks() == (1, 1)


def test_free_may_be_a_gate_or_any_callable(library: Any, blocks: Blocks) -> None:
    @library.function
    def release(p: Ptr[None], /) -> None: ...
    @library.function
    def release_int(p: Ptr[None], /) -> i32: ...
    @library.function(symbol="release", blocking=True)
    def released(p: Ptr[None], /) -> None: ...

    seen: list[object] = []

    def by_hand(p: Any) -> None:
        seen.append(type(p))
        release(p)

    for free in (release, release_int, released, by_hand, "release", "release_int"):

        @library.function(free=free)
        def text(s: cstr, /) -> str: ...
        @library.function(free=free)
        def thing(value: i32, /) -> Ptr[Thing]: ...

        assert (text("x"), blocks()) == ("x", (1, 1))
        assert thing(5).contents.value == 5
        assert blocks() == (1, 1)
    assert seen == [ctypes.c_void_p, ctypes.POINTER(Thing)]


@pytest.mark.parametrize("pointer", [Ptr[None], Ptr[char], Ptr[u8], Ptr[f64], Ptr[Thing]], ids=lambda cls: cls.__name__)
def test_a_gate_that_frees_may_have_a_type(library: Any, blocks: Blocks, pointer: Any) -> None:
    """The memory is the function's whatever the declaration calls it."""

    @library.function
    def release(p: pointer, /) -> None: ...
    @library.function(free=release)
    def text(s: cstr, /) -> str: ...
    @library.function(free=release)
    def thing(value: i32, /) -> Ptr[Thing]: ...
    @library.function(free=release)
    def handle(size: i32, /) -> Ptr[None]: ...
    @library.function(free=release, length="count")
    def ramp(count: i64, /) -> Array[f64]: ...

    assert (text("x"), blocks()) == ("x", (1, 1))
    assert thing(5).contents.value == 5
    assert blocks() == (1, 1)
    assert handle(5).value
    assert blocks() == (1, 1)
    assert list(ramp(2)) == [0.5, 1.5]
    assert blocks() == (1, 1)


def test_handles_are_freed_when_collected(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def thing(value: i32, /) -> Ptr[Thing] | None: ...
    @library.function(symbol="thing", free="release")
    def stone(value: i32, /) -> Ptr[Stone]: ...
    @library.function(free="release")
    def handle(size: i32, /) -> Ptr[None] | None: ...

    one, two = thing(1), stone(2)
    assert one is not None
    three = handle(8)
    assert blocks() == (3, 0)
    inside = one.contents
    again = ctypes.cast(two, Ptr[Thing])
    del one, two
    assert blocks() == (0, 0)
    assert (inside.value, again.contents.value) == (1, 2)
    del inside
    assert blocks() == (0, 1)
    del again, three
    gc.collect()  # ctypes.cast makes cycles
    assert blocks() == (0, 2)
    assert (thing(-1), handle(-1), blocks()) == (None, None, (0, 0))
    assert told(stone, -1) == "ValueError: stone() returned NULL; declare the result `X | None` to get None"
    assert blocks() == (0, 0)
    cycle = [thing(1)]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.collect()
    assert blocks() == (1, 1)


def test_a_handle_keeps_its_library(engine: str, path: str, blocks: Blocks) -> None:
    def opened() -> tuple[Any, Any]:
        library = cg.load(path, engine=engine)

        @library.function(free="release")
        def thing(value: i32, /) -> Ptr[Thing]: ...

        return thing(7), weakref.ref(cg.gate(thing))

    handle, gate = opened()
    gc.collect()
    assert gate() is None
    assert handle.contents.value == 7
    del handle
    assert blocks() == (1, 1)


def test_outs_are_freed(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def texts(a: cstr | None, b: cstr | None, first: Out[str], second: Out[bytes | None], /) -> Status: ...
    @library.function(free="release")
    def make(
        code: i32, s: cstr | None, value: i32, string: Out[str | None], thing: Out[Ptr[Thing] | None], /
    ) -> Status: ...

    assert (texts("a", "b"), blocks()) == (("a", b"b"), (2, 2))
    assert (texts("a", None), blocks()) == (("a", None), (1, 1))
    string, thing = make(0, "x", 5)
    assert (string, thing.contents.value, blocks()) == ("x", 5, (2, 1))
    del thing
    assert blocks() == (0, 1)
    assert told(make, 3, "x", 5) == "CallError: make() failed with status 3"
    assert (make(0, None, -1), blocks()) == ((None, None), (0, 0))


def test_only_the_result_is_freed_where_both_could(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def named(s: cstr, other: Out[Ptr[None]], /) -> str: ...
    @library.function
    def release(p: Ptr[None], /) -> None: ...

    text, other = named("x")
    assert (text, blocks()) == ("x", (2, 1))
    release(other)
    assert blocks() == (0, 1)


def test_every_out_is_freed_when_one_cannot_be_read(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def texts(a: cstr | None, b: cstr | None, first: Out[str], second: Out[str], /) -> Status: ...

    problem = "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert (told(texts, "a", b"\xff"), blocks()) == (problem, (2, 2))
    assert (told(texts, "a", None), blocks()) == (
        "ValueError: texts() left second NULL; declare it `Out[X | None]` to get None",
        (1, 1),
    )


def test_outs_after_one_that_cannot_be_read_are_freed(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def texts(a: cstr | None, b: cstr | None, first: Out[str], second: Out[str], /) -> Status: ...

    problem = "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert (told(texts, b"\xff", "b"), blocks()) == (problem, (2, 2))


def test_outs_after_one_that_is_null_are_freed(library: Any, blocks: Blocks) -> None:
    @library.function(free="release")
    def texts(a: cstr | None, b: cstr | None, first: Out[str], second: Out[str], /) -> Status: ...

    assert (told(texts, None, "b"), blocks()) == (
        "ValueError: texts() left first NULL; declare it `Out[X | None]` to get None",
        (1, 1),
    )


def test_a_result_is_freed_when_an_out_cannot_be_read(library: Any, blocks: Blocks) -> None:
    @library.function(symbol="named", free="release")
    def string(s: cstr, other: Out[Ptr[None]], /) -> bytes: ...

    assert told(string, "x").startswith("(b'x', c_void_p(")
    assert blocks() == (2, 1)


def test_a_free_that_raises(library: Any, blocks: Blocks, unraised: list[str]) -> None:
    @library.function
    def release(p: Ptr[None], /) -> None: ...

    def free(p: Any) -> None:
        release(p)
        raise Problem("free")

    @library.function(free=free)
    def text(s: cstr, /) -> str: ...
    @library.function(free=free)
    def thing(value: i32, /) -> Ptr[Thing]: ...
    @library.function(free=free, length="count")
    def ramp(count: i64, /) -> Array[f64]: ...

    assert (told(text, "x"), blocks(), unraised) == ("Problem: free", (1, 1), [])
    with pytest.raises(Problem) as raised:
        text(b"\xff")
    assert (type(raised.value.__context__), blocks()) == (UnicodeDecodeError, (1, 1))
    handle, view = thing(3), ramp(3)
    assert unraised == []
    del handle
    assert (blocks(), unraised) == ((2, 1), ["Problem: free"])
    del view
    assert (blocks(), unraised) == ((0, 1), ["Problem: free"] * 2)


def test_a_free_that_raises_for_one_of_two(library: Any, blocks: Blocks) -> None:
    @library.function
    def release(p: Ptr[None], /) -> None: ...

    def free(p: Any) -> None:
        release(p)
        raise Problem("free")

    @library.function(free=free)
    def texts(a: cstr, b: cstr, first: Out[str], second: Out[bytes], /) -> Status: ...

    assert (told(texts, "a", "b"), blocks()) == ("Problem: free", (2, 2))


def test_a_result_that_fails_is_freed(library: Any, blocks: Blocks) -> None:
    @library.function(free="release", fails_if=lambda text: text == "bad", error=lambda code: Problem(code))
    def text(s: cstr, /) -> str: ...
    @library.function(free="release", fails_if="null", error=lambda code: Problem(code))
    def thing(value: i32, /) -> Ptr[Thing]: ...

    assert (text("good"), told(text, "bad"), blocks()) == ("good", "Problem: 0", (2, 2))
    assert (thing(1).contents.value, told(thing, -1), blocks()) == (1, "Problem: 0", (1, 1))


def test_what_fails_has_left_nothing(library: Any, blocks: Blocks) -> None:
    """What a failing function stored is not looked at."""

    @library.function(free="release", fails_if="negative")
    def failing(code: i32, string: Out[str], /) -> i32: ...

    assert (failing(3), blocks()) == ((3, "left behind"), (1, 1))
    assert told(failing, -1) == "FileExistsError: [Errno 17] File exists"
    assert blocks() == (1, 0)


def test_in_other_threads(library: Any, blocks: Blocks) -> None:
    @library.function(free="release", blocking=True)
    def text(s: cstr, /) -> str: ...
    @library.function(free="release")
    def thing(value: i32, /) -> Ptr[Thing]: ...

    lock = threading.Lock()  # the library's own table has none
    kept: list[Any] = []

    def run() -> None:
        for number in range(50):
            with lock:
                assert text(str(number)) == str(number)
                kept.append(thing(number))
                if number % 3:
                    del kept[0]

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    kept.clear()
    assert blocks() == (400, 400)


FREE_ERRORS = [
    ("free='release'", "text(s: cstr) -> i32", "text(): free= needs a result, or an Out, that is a string, a pointer or an array"),
    ("free='release'", "text(s: cstr) -> None", "text(): free= needs a result, or an Out, that is a string, a pointer or an array"),
    ("free='release'", "text(s: cstr, o: Out[i32]) -> Status", "text(): free= needs a result, or an Out, that is a string, a pointer or an array"),
    ("free='release'", "choose(x: i32) -> Callable[[i32], i32]", "choose(): free= needs a result, or an Out, that is a string, a pointer or an array"),
    ("free=5", "text(s: cstr) -> str", "text(): free= must be the name of a function of the library, or a gate"),
    ("free=b'release'", "text(s: cstr) -> str", "text(): free= must be the name of a function of the library, or a gate"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "declared", "text"), FREE_ERRORS)
def test_a_free_that_does_not_fit(library: Any, option: str, declared: str, text: str) -> None:
    scope = {"library": library, "Callable": Callable, **{name: getattr(cg, name) for name in cg.__all__}}
    assert told(exec, f"@library.function({option})\ndef {declared}: ...", scope) == f"DeclarationError: {text}"


def test_a_free_that_is_missing(library: Any, path: str) -> None:
    def text(s: cstr, /) -> str: ...  # type: ignore[empty-body]

    problem = told(library.function(free="no_such_release"), text)
    assert problem.startswith("SymbolNotFoundError: ")
    assert "'no_such_release'" in problem or "no_such_release" in problem


def test_free_in_a_protocol_and_at_an_address(engine: str, path: str, blocks: Blocks) -> None:
    class Texts(Protocol):
        @cg.function(free="release")
        def text(self, s: cstr, /) -> str: ...

    library = cg.load(path, Texts, engine=engine)
    assert (library.text("é"), blocks()) == ("é", (1, 1))
    address = cg.gate(library.text).address

    @library.function
    def release(p: Ptr[None], /) -> None: ...
    @cg.function(at=address, free=release, engine=engine)
    def placed(s: cstr, /) -> str: ...

    assert (placed("x"), blocks()) == ("x", (1, 1))


EXIT = r"""
import ctypes, sys
import callgate as cg
from callgate import Array, Ptr, f64, i32, i64
path, engine = sys.argv[1:3]
library = cg.load(path, engine=engine)
@library.function
def release(p: Ptr[None], /) -> None: ...
def free(p):
    release(p)
    print("freed", type(p).__name__, flush=True)
    if len(sys.argv) > 3: raise ValueError("late")
@library.function(free=free)
def handle(size: i32, /) -> Ptr[None]: ...
@library.function(free=free, length="count")
def ramp(count: i64, /) -> Array[f64]: ...
kept, view = handle(8), ramp(3)
cycle = [handle(8)]
cycle.append(cycle)
class Late:
    def __del__(self): print("view", list(view) if view is not None else None, flush=True)
print("end", flush=True)
"""


def test_everything_is_freed_at_exit(engine: str, path: str) -> None:
    out, err = run_child(EXIT, path, engine)
    assert (out, err) == ("end\n" + "freed c_void_p\n" * 3, "")


def test_a_free_that_raises_at_exit(engine: str, path: str) -> None:
    out, err = run_child(EXIT, path, engine, "raise")
    assert (out, err.count("ValueError: late")) == ("end\n" + "freed c_void_p\n" * 3, 3)


# -- arrays ----------------------------------------------------------------------------------------------------------


I32 = "i" if LONG_BITS == 64 else "l"


def test_length_is_a_number(library: Any) -> None:
    @library.function(length=3)
    def get_numbers(a: i8, count: i8, b: i32, /) -> Array[i32]: ...
    @library.function(length=0, symbol="get_numbers")
    def nothing(a: i8, count: i8, b: i32, /) -> Array[i32]: ...

    view = get_numbers(0, 0, 0)
    assert (type(view), view.format, view.shape, view.readonly, view.tolist()) == (
        memoryview, I32, (3,), False, [1, 2, 3],
    )  # fmt: skip
    empty = nothing(0, 0, 0)
    assert (type(empty), empty.format, empty.shape, empty.nbytes) == (memoryview, I32, (0,), 0)


def test_length_is_a_parameter(library: Any) -> None:
    @library.function(length="count")
    def get_numbers(a: i8, count: i8, b: i32, /) -> Array[i32]: ...
    @library.function(length="count", symbol="get_numbers", blocking=True)
    def released(a: i8, count: i8, b: i32) -> Array[i32]: ...
    @library.function(length="count")
    def get_bytes(count: u64, /) -> Array[u8]: ...

    assert (get_numbers(9, 2, 9).tolist(), get_numbers(9, 0, 9).tolist()) == ([1, 2], [])
    assert released(b=9, count=3, a=1).tolist() == [1, 2, 3]
    assert bytes(get_bytes(5)) == b"\1\0\0\0\2"
    for function in (get_numbers, released):
        name = function.__name__
        assert told(function, 0, -1, 0) == f"ValueError: {name}() returned an array whose length is -1"
        assert told(function, 0, -128, 0) == f"ValueError: {name}() returned an array whose length is -128"
    assert get_bytes(1 << 62).nbytes == 1 << 62


def test_length_is_an_out(library: Any, blocks: Blocks) -> None:
    @library.function(length="count", free="release")
    def ramp_out(n: i32, count: Out[i32], /) -> Array[f64]: ...
    @library.function(length="count", free="release")
    def ramp_out_first(count: Out[u8], n: i32, /) -> Array[f64]: ...

    view, count = ramp_out(3)
    assert (view.tolist(), count) == ([0.5, 1.5, 2.5], 3)
    del view
    assert blocks() == (1, 1)
    view, count = ramp_out_first(200)
    assert (len(view), view[199], count) == (200, 199.5, 200)
    del view
    assert blocks() == (1, 1)
    empty, count = ramp_out(0)
    assert (empty.tolist(), empty.format, count, blocks()) == ([], "d", 0, (1, 1))


def test_an_array_that_cannot_be_is_freed(library: Any, blocks: Blocks) -> None:
    @library.function(length="count", free="release")
    def ramp_out(n: i32, count: Out[i32], /) -> Array[f64]: ...
    @library.function(length="count", free="release")
    def ramp(count: i64, /) -> Array[f64]: ...

    assert (told(ramp_out, -5), blocks()) == ("ValueError: ramp_out() returned an array whose length is -5", (1, 1))
    assert (told(ramp, -(2**63)), blocks()) == (
        f"ValueError: ramp() returned an array whose length is {-(2**63)}",
        (1, 1),
    )


def test_an_array_that_is_too_large(library: Any) -> None:
    @library.function(length=1 << 61, symbol="get_numbers")
    def many(a: i8, count: i8, b: i32, /) -> Array[f64]: ...

    assert told(many, 0, 0, 0) == f"ValueError: many() returned an array whose length is {1 << 61}"


def test_length_stands_before_the_items(library: Any, blocks: Blocks) -> None:
    @library.function(length=u16)
    def get_counted() -> Array[f64]: ...
    @library.function(length=u64)
    def get_counted64(count: u64, /) -> Array[u8]: ...
    @library.function(length=u32, free="release")
    def owned_counted(count: u32, /) -> Array[i32]: ...

    assert get_counted().tolist() == [1.5, 2.5, 3.5]
    assert bytes(get_counted64(3)) == b"\1\2\3"
    assert told(get_counted64, (1 << 63) + 1).startswith(
        "ValueError: get_counted64() returned an array whose length is "
    )
    view = owned_counted(5)
    assert view.tolist() == [0, 1, 4, 9, 16]
    half = view[2:]
    del view
    assert (half.tolist(), blocks()) == ([4, 9, 16], (1, 0))
    del half
    assert blocks() == (0, 1)
    assert (owned_counted(0).tolist(), blocks()) == ([], (1, 1))


def test_items_of_every_kind(library: Any) -> None:
    @library.function(length="count")
    def get_things(count: usize, /) -> Array[Thing]: ...
    @library.function(length=3)
    def get_words() -> Array[cstr]: ...
    @library.function(length=3)
    def get_flags() -> Array[bool_]: ...
    @library.function(length=3)
    def get_letters() -> Array[wchar]: ...
    @library.function(length=2)
    def get_longs() -> Array[longdouble]: ...
    @library.function(length=2)
    def get_floats() -> Array[f32]: ...
    @library.function(length=3, symbol="get_numbers")
    def get_colors(a: i8, count: i8, b: i32, /) -> Array[Color]: ...
    @library.function(length=4, symbol="get_numbers")
    def get_chars(a: i8, count: i8, b: i32, /) -> Array[char]: ...
    @library.function(length=3, symbol="get_words")
    def get_pointers() -> Array[Ptr[char]]: ...
    @library.function(length=3, symbol="get_words")
    def get_addresses() -> Array[Ptr[None]]: ...

    things = get_things(3)
    assert (repr(things[1]), len(things), isinstance(things, ctypes.Array)) == ("Thing(value=2, weight=1.5)", 3, True)
    assert len(get_things(0)) == 0
    assert list(get_words()) == [b"one", b"two", None]
    assert get_flags().tolist() == [True, False, True]
    assert get_letters()[:] == "abc"
    assert list(get_longs()) == [0.5, 1.5]
    assert (get_floats().tolist(), get_floats().format) == ([0.5, 1.5], "f")
    assert list(get_colors(0, 0, 0)) == [1, 2, 3]
    assert bytes(get_chars(0, 0, 0)) == b"\1\0\0\0"
    assert (get_pointers()[0][0], bool(get_pointers()[2])) == (b"o", False)
    assert get_addresses()[2] is None


def test_numpy_shares_the_memory(library: Any, blocks: Blocks) -> None:
    @library.function(length="count", free="release")
    def ramp(count: i64, /) -> Array[f64]: ...
    @library.function(length="count")
    def get_things(count: usize, /) -> Array[Thing]: ...

    view = ramp(1000)
    items = np.asarray(view)
    assert (items.dtype, items.shape, items.sum()) == (np.float64, (1000,), 500_000.0)
    items[3] = 7
    assert view[3] == 7.0
    tail = items[500:]
    del view, items
    assert (tail[0], blocks()) == (500.5, (1, 0))
    del tail
    assert blocks() == (0, 1)
    things = np.asarray(get_things(3))
    assert things["weight"].tolist() == [0.5, 1.5, 2.5]
    things["value"][0] = 9
    assert get_things(1)[0].value == 9
    things["value"][0] = 1
    assert np.asarray(ramp(0)).shape == (0,)
    assert blocks() == (1, 1)


def test_a_view_keeps_the_library(engine: str, path: str) -> None:
    def opened() -> tuple[Any, Any]:
        library = cg.load(path, engine=engine)

        @library.function(length=3)
        def get_numbers(a: i8, count: i8, b: i32, /) -> Array[i32]: ...

        return get_numbers(0, 0, 0), weakref.ref(cg.gate(get_numbers))

    view, gate = opened()
    gc.collect()
    assert gate() is not None
    items = np.asarray(view)
    del view
    gc.collect()
    assert (gate() is not None, items.tolist()) == (True, [1, 2, 3])
    del items
    gc.collect()
    assert gate() is None


def test_arrays_may_be_null(library: Any) -> None:
    @library.function(length="count", free="release")
    def no_ramp(count: i64, /) -> Array[f64] | None: ...
    @library.function(length="count", free="release", symbol="no_ramp")
    def always(count: i64, /) -> Array[f64]: ...

    assert (no_ramp(3), no_ramp(-3)) == (None, None)
    assert told(always, 3) == "ValueError: always() returned NULL; declare the result `X | None` to get None"


LENGTH_ERRORS = [
    ("", "ramp(count: i64) -> Array[f64]", "ramp(): an array needs length=: a number, the name of the parameter that has it, or the type of the count that stands before the items"),
    ("length='n'", "ramp(count: i64) -> Array[f64]", "ramp(): length='n' is no parameter with a number"),
    ("length='count'", "ramp(count: f64) -> Array[f64]", "ramp(): length='count' is no parameter with a number"),
    ("length='count'", "ramp(count: cstr) -> Array[f64]", "ramp(): length='count' is no parameter with a number"),
    ("length='count'", "ramp(count: Out[f64]) -> Array[f64]", "ramp(): length='count' is no parameter with a number"),
    ("length='count'", "ramp(count: Out[str]) -> Array[f64]", "ramp(): length='count' is no parameter with a number"),
    ("length=-1", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=True", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=1.5", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=i32", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=f64", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=int", "ramp(count: i64) -> Array[f64]", "ramp(): length= must be a number, a parameter's name or an unsigned type"),
    ("length=3", "ramp(count: i64) -> Ptr[f64]", "ramp(): length= is for a result that is an array, as in `-> Array[f64]`"),
    ("length=3", "ramp(count: i64) -> None", "ramp(): length= is for a result that is an array, as in `-> Array[f64]`"),
    ("length=3", "ramp(count: i64) -> Array[None]", "ramp() result: an array has items; void is none"),
    ("length=3", "ramp(count: i64) -> Array[int]", "ramp() result: int has no width in C; choose one of i8, i16, i32, i64, u8, u16, u32, u64, isize, usize, short, int_, long, uint, ulong"),
    ("length=3", "ramp(count: Array[f64]) -> i32", "ramp() parameter 'count': Array is for members of structs; use Readable or Writable here"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "declared", "text"), LENGTH_ERRORS)
def test_a_length_that_does_not_fit(library: Any, option: str, declared: str, text: str) -> None:
    scope = {"library": library, **{name: getattr(cg, name) for name in cg.__all__}}
    assert told(exec, f"@library.function({option})\ndef {declared}: ...", scope) == f"DeclarationError: {text}"


# -- errno -----------------------------------------------------------------------------------------------------------


def test_errno_belongs_to_a_thread(library: Any) -> None:
    @library.function(fails_if="negative")
    def set_errno(number: i32, /) -> i32: ...
    @library.function(symbol="set_errno", fails_if=lambda result: False)
    def judged(number: i32, /) -> i32: ...
    @library.function(symbol="set_errno")
    def unjudged(number: i32, /) -> i32: ...
    @library.function(symbol="set_errno", fails_if="negative", error=lambda code: Problem(code))
    def by_code(number: i32, /) -> i32: ...

    seen: list[int] = []
    step = threading.Barrier(2, timeout=60)

    def other() -> None:
        seen.append(cg.errno())
        assert told(set_errno, 13).startswith("PermissionError")
        seen.append(cg.errno())
        step.wait()
        step.wait()
        seen.append(cg.errno())

    assert told(set_errno, 2).startswith("FileNotFoundError")
    thread = threading.Thread(target=other)
    thread.start()
    step.wait()
    assert cg.errno() == 2
    assert (judged(5), cg.errno()) == (-1, 5)
    step.wait()
    thread.join(60)
    assert seen == [0, 13, 13]
    unjudged(7)
    assert (cg.errno(), told(by_code, 9), cg.errno()) == (5, "Problem: -1", 5)
    assert told(cg.errno, 1) == "TypeError: errno() takes 0 positional arguments but 1 was given"


# -- variables -------------------------------------------------------------------------------------------------------


def test_variables(library: Any) -> None:
    @library.function
    def next_counter() -> i32: ...

    counter = cg.variable(library, "counter", i32)
    before = counter.value
    assert (type(counter), next_counter(), counter.value) == (ctypes.c_int, before + 1, before + 1)
    counter.value = 100
    assert next_counter() == 101
    counter.value = 41
    assert cg.variable(library, "ratio", f64).value == 0.5
    assert cg.variable(library, "ratio", float).value == 0.5
    assert cg.variable(library, "greeting", cstr).value == b"hello"
    assert cg.variable(library, "greeting", bytes).value == b"hello"
    assert cg.variable(library, "greeting", Ptr[char])[1] == b"e"
    assert repr(cg.variable(library, "current", Ptr[Thing]).contents) == "Thing(value=2, weight=1.5)"
    assert repr(cg.variable(library, "things", Thing * 3)[2]) == "Thing(value=3, weight=2.5)"
    assert list(cg.variable(library, "table", i32 * 4)) == [1, 2, 3, 4]
    assert cg.variable(library, "counter", Color).value == 41
    assert ctypes.addressof(cg.variable(library, "table", i32)) == ctypes.addressof(
        cg.variable(library, "table", i32 * 4)
    )


def test_a_variable_that_is_a_struct_of_functions(library: Any) -> None:
    class Operations(Struct):
        call: Callable[[i32], i32]

    @library.function
    def apply(f: Callable[[i32], i32], x: i32, /) -> i32: ...

    operations = cg.variable(library, "operations", Operations)
    assert operations.call == library["apply"].__self__.library.address("twice")
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    assert prototype(operations.call)(21) == 42


def test_a_variable_outlives_its_library(engine: str, path: str) -> None:
    def opened() -> Any:
        return cg.variable(cg.load(path, engine=engine), "ratio", f64)

    ratio = opened()
    gc.collect()
    assert ratio.value == 0.5


def test_wrong_variables(library: Any) -> None:
    assert told(cg.variable, library, "no_such_variable", i32).startswith("SymbolNotFoundError: ")
    for wrong, text in [
        (int, "int has no width in C; choose one of i8, i16, i32, i64, u8, u16, u32, u64, isize, usize, short, int_, long, uint, ulong"),
        (list, "list has no C type; use a ctypes type or a name of callgate"),
        (Array[i32], "Array is for members of structs; use Readable or Writable here"),
        (Callable[[i32], i32], "a function pointer needs its types, as in Callable[[i32], f64]"),
        ("i32", "'i32' has no C type; use a ctypes type or a name of callgate"),
        (5, "5 has no C type; use a ctypes type or a name of callgate"),
    ]:  # fmt: skip
        assert told(cg.variable, library, "counter", wrong) == f"DeclarationError: variable 'counter': {text}"
    assert told(cg.variable, library, "counter", None) == "DeclarationError: variable 'counter': void has no value"
    for wrong, kind in ((ctypes.CDLL(C_LIBRARY), "CDLL"), ("c", "str"), (None, "NoneType")):
        assert told(cg.variable, wrong, "counter", i32) == f"TypeError: variable() takes a Library, not {kind}"


def test_variables_of_c_text(engine: str, path: str) -> None:
    library = cg.load(
        path,
        "struct thing { int value; double weight; }; extern int counter; extern struct thing things[3];"
        "extern struct thing *current; extern int table[]; extern const char *greeting; extern int missing;",
        engine=engine,
    )
    assert (library.counter.value, library.things[2].value, library.current[0].weight) == (41, 3, 1.5)
    assert (library.table[3], library["counter"] is library.counter) == (4, True)
    assert told(lambda: library.missing).startswith("SymbolNotFoundError: ")


# -- functions as results --------------------------------------------------------------------------------------------


def test_functions_are_gates(library: Any, engine: str) -> None:
    @library.function
    def choose(which: i32, /) -> Callable[[i32], i32] | None: ...
    @library.function(symbol="choose")
    def always(which: i32, /) -> Callable[[i32], i32]: ...
    @library.function
    def choose_out(which: i32, out: Out[Callable[[i32], i32] | None], /) -> Status: ...
    @library.function
    def apply(f: Callable[[i32], i32], x: i32, /) -> i32: ...

    twice, negative = choose(1), choose(2)
    assert twice is not None and negative is not None
    assert (twice(21), negative(21), choose(0)) == (42, -21, None)
    assert told(always, 0) == "ValueError: always() returned NULL; declare the result `X | None` to get None"
    assert (cg.gate(twice).engine, cg.gate(twice).library is cg.gate(choose).library) == (engine, True)
    name = twice.__name__
    assert told(twice) == f"TypeError: {name}() takes exactly 1 argument (0 given)"
    assert told(twice, "x") == f"TypeError: {name}() argument 1 must be int, not str"
    assert told(twice, x=1) == f"TypeError: {name}() takes no keyword arguments"
    assert (
        told(twice, 2**31)
        == f"OverflowError: {name}() argument 1 must be in -2147483648..2147483647 (int), not {2**31}"
    )
    assert (choose_out(1)(4), choose_out(0)) == (8, None)
    assert (apply(negative, 3), apply(always(1), 3)) == (-3, 6)


def test_functions_that_python_could_not_implement(library: Any) -> None:
    """Python only calls them."""

    @library.function
    def chooser() -> Callable[[i32], Callable[[i32], i32]]: ...
    @library.function
    def texter() -> Callable[[cstr], bytes]: ...

    assert chooser()(2)(5) == -5
    assert texter()("abc") == b"abc"


def test_functions_outlive_their_library(engine: str, path: str) -> None:
    def opened() -> Any:
        library = cg.load(path, engine=engine)

        @library.function
        def choose(which: i32, /) -> Callable[[i32], i32]: ...

        return choose(1)

    function = opened()
    gc.collect()
    assert function(4) == 8


def test_functions_of_c_text(engine: str, path: str) -> None:
    text = "typedef int (*function)(int); function choose(int which); function (*chooser(void))(int);"
    library = cg.load(path, text, engine=engine)
    assert (library.choose(1)(8), library.choose(0), library.chooser()(2)(3)) == (16, None, -3)


def test_gates_of_functions_are_freed(library: Any) -> None:
    @library.function
    def choose(which: i32, /) -> Callable[[i32], i32]: ...

    gone = [weakref.ref(cg.gate(choose(which))) for which in (1, 2) for _ in range(50)]
    gc.collect()
    assert [reference() for reference in gone] == [None] * 100


# -- references ------------------------------------------------------------------------------------------------------

LEAKS = r"""
import ctypes, gc, sys
from collections.abc import Callable
import callgate as cg
from callgate import Array, Out, Ptr, Status, Struct, cstr, f64, i8, i32, i64
path, engine, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = cg.load(path, "long get_made(void); long get_freed(void);", engine=engine)
class Thing(Struct):
    value: i32
    weight: f64
@library.function(free="release")
def text(s: cstr, /) -> str: ...
@library.function(free="release")
def thing(value: i32, /) -> Ptr[Thing]: ...
@library.function(free="release", length="count")
def ramp(count: i64, /) -> Array[f64]: ...
@library.function(length=3)
def get_numbers(a: i8, count: i8, b: i32, /) -> Array[i32]: ...
@library.function(free="release")
def make(code: i32, s: cstr | None, value: i32, string: Out[str | None], thing: Out[Ptr[Thing] | None], /) -> Status: ...
@library.function
def choose(which: i32, /) -> Callable[[i32], i32]: ...
data, bad = b"x" * 50, b"\xff" * 50
def failing(kind, function, *given):
    try:
        function(*given)
    except kind:
        return
    raise AssertionError(function)
calls = {
    "text": lambda: text(data), "bad text": lambda: failing(UnicodeDecodeError, text, bad), "thing": lambda: thing(3),
    "null": lambda: failing(ValueError, thing, -1), "ramp": lambda: ramp(5), "no ramp": lambda: ramp(0), "numbers": lambda: get_numbers(0, 0, 0),
    "make": lambda: make(0, data, 5), "status": lambda: failing(cg.CallError, make, 3, data, 5), "function": lambda: choose(1)(3),
}
for name, call in calls.items():
    count = rounds // 10 if name == "function" else rounds
    for _ in range(50): call()
    gc.collect()
    things = [data, bad, Thing, library]
    references, blocks = [sys.getrefcount(thing) for thing in things], sys.getallocatedblocks()
    for _ in range(count): call()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == references, name
    assert sys.getallocatedblocks() - blocks < 100, (name, sys.getallocatedblocks() - blocks)
    assert library.get_made() == library.get_freed(), name
print("exact")
"""


def test_references_are_exact(engine: str, path: str) -> None:
    out, _ = run_child(LEAKS, path, engine, "5000" if engine == "native" else "1000", timeout_s=300)
    assert out == "exact\n"
