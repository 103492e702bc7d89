"""`callgate bind`: what is read from a header, and the text and meaning of the module that is written."""

from __future__ import annotations

import ctypes
import enum
import importlib.util
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("clang.cindex", reason="libclang is not installed", exc_type=ImportError)

from callgate.c import freestanding
from callgate.c.doc_comments import Remarks, cleaned, first_sentence
from callgate.c.header import read_header
from callgate.c.header_macros import unescaped
from callgate.c.header_model import Header, NotCarried, RecordOf
from callgate.c.module_lines import docstring, folded, with_remark
from callgate.c.module_names import class_name, identifier, without_prefix
from callgate.c.module_records import fit
from callgate.c.module_text import Module, Wishes, is_flags, module_of
from callgate.c.translation_unit import HeaderError, Reading
from callgate.cli import main

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a header; the result is its path."""

    def write(text: str, name: str = "thing.h") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def read(write: Write) -> Callable[..., Header]:
    """Read a header's text."""

    def read(text: str, *, include: Sequence[str] = (), define: Sequence[str] = ()) -> Header:
        return read_header(str(write(text)), Reading(tuple(include), tuple(define)), lambda what: None)

    return read


@pytest.fixture
def bind(read: Callable[..., Header]) -> Callable[..., Module]:
    """Write the module for a header's text."""

    def bind(text: str, *, define: Sequence[str] = (), **wishes: Any) -> Module:
        return module_of(read(text, define=define), Wishes(("c",), **wishes))

    return bind


@pytest.fixture
def load(bind: Callable[..., Module]) -> Iterator[Callable[..., Any]]:
    """Execute the module for a header's text; its library is the C library."""
    made: list[str] = []

    def load(text: str, **wishes: Any) -> Any:
        name = f"bound_{len(made)}"
        module = types.ModuleType(name)
        sys.modules[name] = module
        made.append(name)
        exec(compile(bind(text, **wishes).text, f"{name}.py", "exec"), vars(module))
        return module

    yield load
    for name in made:
        del sys.modules[name]


def line_with(text: str, what: str) -> str:
    """The only line that has `what`, without its margin."""
    found = [line.strip() for line in text.splitlines() if what in line]
    assert len(found) == 1, found
    return found[0]


def one_line(text: str) -> str:
    """A module's text with every statement on one line."""
    return re.sub(r",? ?([)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", re.sub(r"\s*\n\s+", " ", text)))


TYPES = """
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wchar.h>
struct s { int a; };
union u { int a; float b; };
enum e { E0, E1 };
typedef struct opaque opaque;
typedef struct opaque *opaque_ptr;
typedef struct s *s_ptr;
typedef int (*function)(struct s *, const char *, void *);
typedef void plain(double);
typedef unsigned char byte;
typedef void *pointer;
typedef const char *text;
typedef char name[16];
typedef float vector __attribute__((vector_size(16)));
"""


class TestArguments:
    @pytest.mark.parametrize(
        ("declared", "annotation"),
        [
            ("char x", "char"),
            ("signed char x", "i8"),
            ("unsigned char x", "u8"),
            ("short x", "short"),
            ("unsigned short x", "ushort"),
            ("int x", "i32"),
            ("unsigned x", "uint"),
            ("long x", "long"),
            ("unsigned long x", "ulong"),
            ("long long x", "longlong"),
            ("unsigned long long x", "ulonglong"),
            ("int8_t x", "i8"),
            ("uint16_t x", "u16"),
            ("int32_t x", "i32"),
            ("uint64_t x", "u64"),
            ("size_t x", "usize"),
            ("ssize_t x", "isize"),
            ("ptrdiff_t x", "isize"),
            ("uintptr_t x", "usize"),
            ("off_t x", "long"),
            ("bool x", "bool_"),
            ("_Bool x", "bool_"),
            ("wchar_t x", "wchar"),
            ("float x", "f32"),
            ("double x", "f64"),
            ("long double x", "longdouble"),
            ("const int x", "i32"),
            ("volatile int x", "i32"),
            ("_Atomic(int) x", "i32"),
            ("__typeof__(1L) x", "long"),
            ("enum e x", "e"),
            ("struct s x", "s"),
            ("union u x", "u"),
            ("byte x", "byte"),
            ("double _Complex x", "complex"),
            ("double _Complex *x", "Writable[None] | None"),
            ("const char *x", "cstr | None"),
            ("text x", "cstr | None"),
            ("char *x", "Writable[char] | None"),
            ("const wchar_t *x", "wstr | None"),
            ("const int *x", "Readable[i32] | None"),
            ("int *x", "Writable[i32] | None"),
            ("int *restrict x", "Writable[i32] | None"),
            ("const unsigned char *x", "Readable[u8] | None"),
            ("const byte *x", "Readable[byte] | None"),
            ("void *x", "Writable[None] | None"),
            ("const void *x", "Readable[None] | None"),
            ("pointer x", "Writable[None] | None"),
            ("struct s *x", "Writable[s] | None"),
            ("const struct s *x", "Readable[s] | None"),
            ("s_ptr x", "Writable[s] | None"),
            ("opaque_ptr x", "opaque_ptr | None"),
            ("struct s **x", "Writable[Ptr[s]] | None"),
            ("s_ptr *x", "Writable[s_ptr] | None"),
            ("struct s x[2]", "Writable[s] | None"),
            ("opaque *x", "Ptr[opaque] | None"),
            ("struct never *x", "Ptr[never] | None"),
            ("opaque **x", "Writable[Ptr[opaque]] | None"),
            ("char **x", "Writable[Ptr[char]] | None"),
            ("const char **x", "Writable[cstr] | None"),
            ("const char *const *x", "Readable[cstr] | None"),
            ("void **x", "Writable[Ptr[None]] | None"),
            ("int ***x", "Writable[Ptr[Ptr[i32]]] | None"),
            ("enum e *x", "Writable[e] | None"),
            ("int x[3]", "Writable[i32] | None"),
            ("const int x[]", "Readable[i32] | None"),
            ("double x[static 2]", "Writable[f64] | None"),
            ("const float x[][4]", "Readable[f32] | None"),
            ("name x", "Writable[char] | None"),
            ("function x", "function | None"),
            ("plain *x", "plain | None"),
            ("plain x", "plain | None"),
            ("int (*x)(int, double)", "Callback[[i32, f64], i32] | None"),
            ("void (*x)(void)", "Callback[[], None] | None"),
            ("const char *(*x)(struct s)", "Callback[[s], Ptr[char] | None] | None"),
            ("void (*x)(const char *, ...)", "Ptr[None] | None"),
            ("vector *x", "Writable[None] | None"),
            ("const __int128 *x", "Readable[None] | None"),
        ],
    )
    def test_of_each_type(self, bind: Callable[..., Module], declared: str, annotation: str) -> None:
        text = bind(f"{TYPES}void call({declared});").text
        assert line_with(text, "def call(") == f"def call(self, x: {annotation}) -> None: ..."

    @pytest.mark.parametrize(
        ("declared", "reason"),
        [
            ("void call(va_list list)", "a va_list"),
            ("void call(vector x)", "a vector"),
            ("void call(__int128 x)", "a 128-bit integer"),
            ("long double _Complex call(void)", "a long double complex number"),
            ("float _Complex call(void)", "a float complex number"),
            ("struct w { double _Complex z; }; void call(struct w x)", "a struct with a complex number"),
            ("void call(_BitInt(7) x)", "a _BitInt"),
            ("struct w { vector v; }; void call(struct w x)", "a struct with a vector"),
            ("union w { struct { vector v[2]; } in; }; union w call(void)", "a union with a struct with a vector"),
            ("static inline int call(int x) { return x; }", "an inline function"),
            ("static int call(int x)", "a static function"),
            ("__attribute__((ms_abi)) void call(int x)", "another calling convention"),
        ],
    )
    def test_that_nothing_carries_leave_the_function_out(
        self, bind: Callable[..., Module], declared: str, reason: str
    ) -> None:
        module = bind(f"{TYPES}{declared};")
        assert "call" not in module.functions
        assert [(item.name, item.reason) for item in module.not_bound] == [("call", reason)]
        assert f'("call", "{reason}"),' in module.text

    def test_without_names_are_positional(self, bind: Callable[..., Module]) -> None:
        text = bind("int call(int, int named);").text
        assert "def call(self, arg1: i32, named: i32, /) -> i32: ..." in text

    def test_take_their_names_from_the_declaration_that_has_them(self, bind: Callable[..., Module]) -> None:
        text = bind("int call(int); int call(int named); int call(int other);").text
        assert "def call(self, named: i32) -> i32: ..." in text

    def test_have_names_that_python_allows(self, bind: Callable[..., Module]) -> None:
        text = bind("void call(int lambda, int class, int None, int self, int __x, int x, int match);").text
        assert line_with(text, "def call(") == (
            "def call(self, lambda_: i32, class_: i32, None_: i32, self_: i32, x: i32, x_: i32, match: i32) -> None: ..."
        )

    def test_variable_ones(self, bind: Callable[..., Module]) -> None:
        text = bind("int call(const char *format, ...); int other(int, ...);").text
        assert "def call(self, format: cstr | None, *args: VarArg) -> i32: ..." in text
        assert "def other(self, arg1: i32, /, *args: VarArg) -> i32: ..." in text

    def test_of_an_old_declaration_are_none(self, bind: Callable[..., Module]) -> None:
        assert "def call(self) -> i32: ..." in bind("int call();").text


class TestResults:
    @pytest.mark.parametrize(
        ("declared", "annotation"),
        [
            ("void", "None"),
            ("unsigned long", "ulong"),
            ("enum e", "e"),
            ("struct s", "s"),
            ("byte", "byte"),
            ("double _Complex", "complex"),
            ("const char *", "bytes | None"),
            ("char *", "Ptr[char] | None"),
            ("const wchar_t *", "wstr | None"),
            ("void *", "Ptr[None] | None"),
            ("const void *", "Ptr[None] | None"),
            ("const double *", "Ptr[f64] | None"),
            ("opaque *", "Ptr[opaque] | None"),
            ("s_ptr", "s_ptr | None"),
            ("const char *const *", "Ptr[bytes] | None"),
            ("const wchar_t **", "Ptr[wstr] | None"),
            ("char **", "Ptr[Ptr[char]] | None"),
            ("function", "function | None"),
        ],
    )
    def test_of_each_type(self, bind: Callable[..., Module], declared: str, annotation: str) -> None:
        text = bind(f"{TYPES}{declared} call(void);").text
        assert line_with(text, "def call(") == f"def call(self) -> {annotation}: ..."

    def test_a_function_pointer_written_around_the_function(self, bind: Callable[..., Module]) -> None:
        assert (
            "def call(self, which: i32) -> Callback[[i32], None] | None: ..."
            in bind("void (*call(int which))(int);").text
        )


class TestStructs:
    @pytest.mark.parametrize(
        ("declared", "annotation"),
        [
            ("int x", "i32"),
            ("enum e x", "e"),
            ("struct s x", "s"),
            ("const char *x", "bytes | None"),
            ("char *x", "Ptr[char]"),
            ("void *x", "Ptr[None]"),
            ("struct s *x", "Ptr[s]"),
            ("s_ptr x", "s_ptr"),
            ("struct thing *x", "Ptr[thing]"),
            ("double **x", "Ptr[Ptr[f64]]"),
            ("enum e *x", "Ptr[uint]"),
            ("char x[8]", "Array[char] = field(length=8)"),
            ("struct s x[2]", "Array[s] = field(length=2)"),
            ("int x[2][3]", "Array[i32] = field(length=6)"),
            ("const char *x[2]", "Array[bytes] = field(length=2)"),
            ("const char **x", "Ptr[bytes]"),
            ("unsigned x : 3", "uint = field(bits=3)"),
            ("bool x : 1", "bool_ = field(bits=1)"),
            ("enum e x : 2", "uint = field(bits=2)"),
            ("int x __attribute__((aligned(16)))", "i32 = field(align=16)"),
            ("int (*x)(int)", "Callback[[i32], i32] | None"),
            ("function x", "function | None"),
            ("void (*x)(int, ...)", "Ptr[None] | None"),
            ("vector x", "Array[u8] = field(length=16, align=16)"),
            ("long double _Complex x", "Array[u8] = field(length=32, align=16)"),
            ("__int128 x[2]", "Array[u8] = field(length=32, align=16)"),
        ],
    )
    def test_members_of_each_type(
        self, load: Callable[..., Any], bind: Callable[..., Module], declared: str, annotation: str
    ) -> None:
        header = f"{TYPES}struct thing {{ char first; {declared}; int last; }};"
        text = bind(header).text
        body = text[text.index("class thing(cg.Struct):") :].splitlines()[1:4]
        assert body == ["    first: char", f"    x: {annotation}", "    last: i32"]
        assert ctypes.sizeof(load(header).thing) > 5

    def test_a_flexible_array(self, load: Callable[..., Any]) -> None:
        module = load("struct thing { int n; double values[]; };")
        assert ctypes.sizeof(module.thing) == 8
        assert module.thing.values.offset == 8

    def test_that_point_to_each_other(self, load: Callable[..., Any]) -> None:
        module = load(
            "struct b; struct a { struct b *other; struct a *next; };"
            "struct b { struct a first; struct c *more; }; struct c { struct b whole; };"
        )
        a, b, c = module.a(), module.b(), module.c()
        a.other, b.more = ctypes.pointer(b), ctypes.pointer(c)
        assert ctypes.addressof(a.other.contents.more.contents) == ctypes.addressof(c)
        assert ctypes.sizeof(module.c) == 24
        assert not a.next

    def test_nested_ones_get_names(self, load: Callable[..., Any]) -> None:
        module = load(
            "struct outer { struct named { int a; } n; struct { short b; } inner; union { int i; float f; } many[3];"
            " struct { int p; } *far; };"
        )
        assert ctypes.sizeof(module.named) == 4
        outer = module.outer()
        outer.inner.b = 5
        outer.many[1].f = 1.0
        assert (outer.inner.b, outer.many[1].i) == (5, 0x3F800000)
        assert ctypes.sizeof(module.outer) == 32

    def test_anonymous_members_are_reached_directly(
        self, load: Callable[..., Any], bind: Callable[..., Module]
    ) -> None:
        header = "struct thing { int kind; union { int i; struct { short low, high; }; }; };"
        module = load(header)
        thing = module.thing(kind=1)
        thing.i = 0x50003
        assert (thing.low, thing.high) == (3, 5)
        text = bind(header).text
        assert "_1: _thing_1 = field(anonymous=True)" in text
        assert "    if TYPE_CHECKING:\n        i: i32\n        low: short\n        high: short\n" in text

    def test_nameless_members_of_nested_ones_are_told_apart(self, load: Callable[..., Any]) -> None:
        module = load(
            "struct thing { union { void *a; unsigned long : 64; }; union { unsigned : 8; struct { int b; struct { int c; }; }; };"
            " int d; };"
        )
        thing = module.thing(d=1)
        thing.a, thing.b, thing.c = 2, 3, 4
        assert (thing.a, thing.b, thing.c, thing.d) == (2, 3, 4, 1)
        assert [int.from_bytes(bytes(thing)[at : at + 4], "little") for at in (0, 8, 12, 16)] == [2, 3, 4, 1]

    def test_several_anonymous_members_are_different(
        self, load: Callable[..., Any], bind: Callable[..., Module]
    ) -> None:
        header = "struct thing { union { int a; char b; }; union { double c; char d[32]; }; enum { X } e; enum { Y = 7 } f; };"
        module = load(header)
        assert (module.thing.c.offset, ctypes.sizeof(module.thing)) == (8, 48)
        assert (module.thing_e.X, module.thing_f.Y) == (0, 7)
        assert "        a: i32\n        b: char\n        c: f64\n        d: Array[char]\n" in bind(header).text

    def test_without_members_take_no_space(self, load: Callable[..., Any]) -> None:
        module = load(
            "struct empty {}; struct thing { struct empty at; int a; char here[0]; int b; };"
            "union u { int a; char bytes[0]; struct empty e; }; struct none { char none[0]; };"
        )
        sizes = [ctypes.sizeof(cls) for cls in (module.empty, module.thing, module.u, module.none)]
        assert sizes == [0, 8, 4, 0]
        assert module.thing.b.offset == 4

    def test_bit_fields_share_and_begin_units(self, load: Callable[..., Any]) -> None:
        module = load(
            "struct thing { unsigned a : 3; int b : 5; unsigned : 2; unsigned c : 10; unsigned : 0; unsigned d : 1;"
            " unsigned char e : 4; };"
        )
        assert ctypes.sizeof(module.thing) == 8
        thing = module.thing()
        thing.a, thing.b, thing.c, thing.d, thing.e = 5, -3, 1000, 1, 9
        assert (thing.a, thing.b, thing.c, thing.d, thing.e) == (5, -3, 1000, 1, 9)
        first = int.from_bytes(bytes(thing)[:4], "little")
        assert (first & 7, first >> 3 & 31, first >> 10 & 1023) == (5, 29, 1000)
        assert bytes(thing)[4] == 1 | 9 << 1

    @pytest.mark.parametrize(
        ("declared", "options", "size"),
        [
            ("struct __attribute__((packed)) thing { char a; int b; double c; };", "cg.Struct, pack=1", 13),
            (
                "#pragma pack(push, 2)\nstruct thing { char a; int b; double c; };\n#pragma pack(pop)",
                "cg.Struct, pack=2",
                14,
            ),
            ("#pragma pack(4)\nstruct thing { char a; double c; };", "cg.Struct, pack=4", 12),
            ("struct thing { int a; } __attribute__((aligned(32)));", "cg.Struct, align=32", 32),
            ("struct __attribute__((packed, aligned(4))) thing { char a; int b; };", "cg.Struct, pack=1, align=4", 8),
            ("union __attribute__((packed)) thing { char a; int b; };", "cg.Union, pack=1", 4),
        ],
    )
    def test_packed_and_aligned(
        self, load: Callable[..., Any], bind: Callable[..., Module], declared: str, options: str, size: int
    ) -> None:
        assert f"class thing({options}):" in bind(declared).text
        assert ctypes.sizeof(load(declared).thing) == size

    def test_one_packed_member_is_found(self, load: Callable[..., Any]) -> None:
        module = load("struct thing { char a; int b __attribute__((packed)); short c; };")
        offsets = [getattr(module.thing, name).offset for name in "abc"]
        assert (offsets, ctypes.sizeof(module.thing)) == ([0, 1, 6], 8)

    def test_a_layout_that_cannot_be_said_shows_bytes(
        self, read: Callable[..., Header], bind: Callable[..., Module]
    ) -> None:
        header = read(
            "struct thing { int a; }; struct thing call(struct thing x); int other(struct thing *x);"
            "typedef void (*callback)(struct thing x); void third(callback c);"
        )
        record, callback = header.types
        assert isinstance(record, RecordOf) and record.fields is not None
        odd = record._replace(fields=(record.fields[0]._replace(bit_offset=24),), size_bytes=12)
        header = header._replace(types=(odd, callback))
        assert fit(odd, header) is None
        module = module_of(header, Wishes(("c",)))
        assert "_bytes: Array[u8] = field(length=12, align=4)" in module.text
        assert module.functions == ("other", "third")
        assert "callback = Ptr[None]\n" in module.text
        assert [item.reason for item in module.not_bound] == ["a struct whose layout no declaration gives"]

    def test_names_of_members_that_python_would_not_take(self, load: Callable[..., Any]) -> None:
        module = load("struct thing { int class; int __hidden; int None; int _fields_; int self; };")
        names = [name for name, *_ in module.thing._fields_]
        assert names == ["class_", "hidden", "None_", "_fields__", "self"]

    def test_members_named_like_types(self, load: Callable[..., Any], bind: Callable[..., Module]) -> None:
        header = (
            "typedef struct { int x; } point; struct thing { point point; point *other; int i32; const char *bytes; };"
        )
        text = bind(header).text
        assert "_point = point\n" in text
        assert "    point: _point\n    other: Ptr[_point]\n    i32: cg.i32\n    bytes: Ptr[char]\n" in text
        assert ctypes.sizeof(load(header).thing) == 32

    def test_of_other_headers_come_where_they_are_needed(self, bind: Callable[..., Module]) -> None:
        text = bind(
            "#include <stdio.h>\n#include <time.h>\n"
            "struct thing { struct timespec at; }; int call(FILE *file, const struct tm *when);"
        ).text
        assert "class FILE(cg.Opaque): ..." in text
        assert "class timespec(cg.Struct):\n    tv_sec: long\n    tv_nsec: long\n" in text
        assert "class tm(cg.Struct):" in text
        assert "itimerspec" not in text
        assert "file: Ptr[FILE] | None, when: Readable[tm] | None" in text


class TestTypedefs:
    def test_name_the_struct_that_has_no_other_name(self, bind: Callable[..., Module]) -> None:
        text = bind("typedef struct { int a; } first; typedef struct tag { int a; } second; typedef second third;").text
        assert "class first(cg.Struct):" in text
        assert "class second(cg.Struct):" in text
        assert "third = second\n" in text
        assert "tag" not in text

    def test_of_scalars_and_handles_are_aliases(self, load: Callable[..., Any]) -> None:
        module = load(
            "typedef unsigned long big; typedef big bigger; typedef struct h_s *handle; typedef int (*visit)(handle, big);"
            "bigger call(handle h, visit v);"
        )
        assert module.bigger is module.big is ctypes.c_ulong
        assert issubclass(module.handle, ctypes._Pointer)
        assert module.Thing.call.__annotations__ == {"h": "handle | None", "v": "visit | None", "return": "bigger"}

    def test_wait_for_the_struct_that_they_point_to(self, bind: Callable[..., Module]) -> None:
        text = bind("typedef struct thing *ptr; struct thing { ptr next; };").text
        assert "    next: Ptr[thing]\n\n\nptr = Ptr[thing]\n" in text

    def test_that_repeat_a_name_of_callgate_add_nothing(self, load: Callable[..., Any]) -> None:
        module = load("typedef unsigned char u8; typedef long i32; u8 call(u8 x, i32 y, int z);")
        assert module.u8 is ctypes.c_ubyte
        assert module.i32 is ctypes.c_long
        assert module.Thing.call.__annotations__ == {"x": "u8", "y": "i32", "z": "cg.i32", "return": "u8"}


class TestEnums:
    def test_values(self, load: Callable[..., Any]) -> None:
        module = load("enum e { A, B = 5, C, D = -2, E = B | 2, F = 'x' };")
        assert issubclass(module.e, enum.IntEnum)
        assert {member.name: member.value for member in module.e} == {"A": 0, "B": 5, "C": 6, "D": -2, "E": 7, "F": 120}

    def test_bits_are_flags(self, load: Callable[..., Any]) -> None:
        module = load("enum f { NONE, A = 1, B = 2, C = 4, ALL = 7 };")
        assert issubclass(module.f, enum.IntFlag)
        assert module.f.A | module.f.B == 3

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0, 1, 2], False),
            ([1, 2, 3, 4], False),
            ([0, 1, 2, 3, 4, 5], False),
            ([1, 2, 4], True),
            ([0, 1, 2, 4, 8, 0x7FFFFFFF], True),
            ([-1, 1, 2, 4], False),
            ([1, 2, 4, 5, 6, 7, 9, 10, 11], False),
            ([], False),
        ],
    )
    def test_which_are_flags(self, values: list[int], expected: bool) -> None:
        assert is_flags(values) is expected

    def test_anonymous_ones_are_constants(self, load: Callable[..., Any], bind: Callable[..., Module]) -> None:
        header = "enum { A = 10, B }; struct s { enum { C = 3 } kind; };"
        module = load(header)
        assert (module.A, module.B) == (10, 11)
        assert bind(header).constants == ("A", "B")
        assert module.s_kind.C == 3

    def test_of_other_sizes_are_integers_in_signatures(self, bind: Callable[..., Module]) -> None:
        text = bind(
            "enum __attribute__((packed)) tiny { A, B }; struct s { enum tiny t; }; enum tiny call(enum tiny x);"
        ).text
        assert "class tiny(IntEnum):" in text
        assert "    t: u8\n" in text
        assert "def call(self, x: u8) -> u8: ..." in text

    def test_wide_ones(self, load: Callable[..., Any]) -> None:
        module = load("enum u { A = 0x80000000u }; enum w { B = 0x100000000ll }; struct s { enum u u; enum w w; };")
        assert module.u.A.value == 1 << 31
        assert ctypes.sizeof(module.s) == 16

    def test_names_that_enum_classes_keep_for_themselves(self, load: Callable[..., Any]) -> None:
        module = load("enum e { mro, name, value, None, lambda, __x };")
        assert [member.name for member in module.e] == ["mro_", "name_", "value_", "None_", "lambda_", "x"]


class TestMacros:
    @pytest.mark.parametrize(
        ("body", "value"),
        [
            ("5", "5"),
            ("(-5)", "-5"),
            ("0x1F", "0x1F"),
            ("(1 << 4 | 3)", "0x13"),
            ("(OTHER + 1)", "8"),
            ("LATER", "9"),
            ("TWICE(21)", "42"),
            ("0xFFFFFFFFFFFFFFFFull", "0xFFFFFFFFFFFFFFFF"),
            ("(~0u)", "4294967295"),
            ("(-9223372036854775807LL - 1)", "-9223372036854775808"),
            ("'x'", "120"),
            ("sizeof(double)", "8"),
            ("((unsigned char)300)", "44"),
            ("(OTHER > 3 ? 1 : 2)", "1"),
            ("ENUMERATOR", "4"),
            ("2.5", "2.5"),
            ("1e3f", "1000.0"),
            ("(1.0 / 3)", "0.3333333333333333"),
            ('"text"', '"text"'),
            ('("text")', '"text"'),
            ('"a" "b" VERSION', '"ab1.2"'),
            (r'"say \"hi\" \\ \n\t\x41\102"', r"""'say "hi" \\ \n\tAB'"""),
            ('"it\'s"', '"it\'s"'),
            ('"é"', '"é"'),
            (r'"\xff"', r'b"\xff"'),
            (r'"a\0b"', r'b"a\x00b"'),
        ],
    )
    def test_with_a_value(self, bind: Callable[..., Module], body: str, value: str) -> None:
        text = bind(
            '#define OTHER 7\n#define VERSION "1.2"\n#define TWICE(x) ((x) * 2)\nenum { ENUMERATOR = 4 };\n'
            f"#define MACRO {body}\n#define LATER 9\n"
        ).text
        assert line_with(text, "MACRO = ") == f"MACRO = {value}"

    @pytest.mark.parametrize(
        "body",
        [
            "unsigned int",
            "nowhere",
            "call()",
            "{ 0, 1 }",
            "extern",
            "__attribute__((unused))",
            'L"wide"',
            "do {",
            "(1",
            "1 +",
            "1, 2",
            "return 0;",
            "SPOILER",
            "&variable",
            "1.0 / 0",
        ],
    )
    def test_without_one_are_listed_and_disturb_no_other(self, bind: Callable[..., Module], body: str) -> None:
        module = bind(
            "int call(void);\nextern int variable;\n#define SPOILER } ; {\n#define FIRST 1\n"
            f"#define MACRO {body}\n#define LAST 2\n"
        )
        assert module.constants == ("FIRST", "LAST")
        reasons = {item.name: item.reason for item in module.not_bound}
        assert reasons["MACRO"].startswith("a macro that is no constant")

    def test_empty_and_undefined_ones_are_nothing(self, bind: Callable[..., Module]) -> None:
        module = bind(
            "#ifndef GUARD_H\n#define GUARD_H\n#define EXPORT\n#define GONE 5\n#undef GONE\nEXPORT int call(void);\n#endif\n"
        )
        assert (module.constants, module.not_bound, module.functions) == ((), (), ("call",))

    def test_defined_again_have_the_last_value(self, bind: Callable[..., Module]) -> None:
        assert line_with(bind("#define A 1\n#undef A\n#define A 2\n").text, "A = ") == "A = 2"

    def test_with_parameters_are_listed(self, bind: Callable[..., Module]) -> None:
        module = bind("#define DOUBLE(x) ((x) * 2)\nint call(int x);\n#define call(x) (call)(x)\n")
        assert [(item.name, item.reason) for item in module.not_bound] == [("DOUBLE", "a function-like macro")]
        assert module.functions == ("call",)

    def test_pointers(self, load: Callable[..., Any]) -> None:
        module = load(
            "typedef void (*destructor)(void *); struct s { int a; };\n#define STATIC ((destructor)0)\n"
            "#define TRANSIENT ((destructor)-1)\n#define FAILED ((void *)-1)\n#define SPECIAL ((struct s *)16)\n"
        )
        assert module.STATIC is None
        assert module.TRANSIENT.value == module.FAILED.value == (1 << 8 * ctypes.sizeof(ctypes.c_void_p)) - 1
        assert ctypes.addressof(module.SPECIAL.contents) == 16

    def test_of_other_headers_stay_there(self, bind: Callable[..., Module]) -> None:
        assert bind("#include <limits.h>\n#include <stdio.h>\n#define MOST INT_MAX\n").constants == ("MOST",)

    def test_that_stand_for_themselves_say_nothing_new(self, bind: Callable[..., Module]) -> None:
        module = bind("enum { RED, BLUE };\n#define RED RED\nenum e { ONE = 1 };\n#define ONE ONE\n")
        assert module.constants == ("RED", "BLUE", "ONE")

    def test_named_like_keywords_and_like_names_of_the_module(self, load: Callable[..., Any]) -> None:
        module = load(
            "#define None 7\n#define lambda 8\n#define lib 9\n#define cg 10\n#define Protocol 11\nint abs(int x);"
        )
        assert (module.None_, module.lambda_, module.lib_, module.cg_, module.Protocol_) == (7, 8, 9, 10, 11)
        assert module.lib.abs(-3) == 3

    @pytest.mark.parametrize(
        ("literal", "value"),
        [(r"a\n", b"a\n"), (r"\x41\102\"\\", b'AB"\\'), (r"\0", b"\0"), ("é", "é".encode()), (r"\?", b"?")],
    )
    def test_escapes(self, literal: str, value: bytes) -> None:
        assert unescaped(literal) == value


class TestComments:
    @pytest.mark.parametrize(
        ("comment", "text"),
        [
            ("/** One line. */", "One line."),
            ("/*! Qt's style. */", "Qt's style."),
            ("/// First.\n/// Second.", "First.\nSecond."),
            ("//! Bang.", "Bang."),
            (
                "/**\n * Adds.\n *\n * @param a one\n * \\param[in] b two\n * @return the sum\n */",
                "Adds.\n\na: one\nb: two\nReturns: the sum",
            ),
            ("/**\n * @brief Short.\n * @sa other\n */", "Short.\nSee other"),
            ("/**\n * Uses \\c this and @ref that.\n */", "Uses this and that."),
            ('/** Ends with a quote" */', 'Ends with a quote"'),
            ("/**\n   First\n   second\n     deeper.\n */", "First\nsecond\n  deeper."),
            (
                "/** Sum.\n *\n * @param a one\n *          and more\n * @return it\n */",
                "Sum.\n\na: one\n    and more\nReturns: it",
            ),
        ],
    )
    def test_become_docstrings(self, load: Callable[..., Any], comment: str, text: str) -> None:
        module = load(
            f"{comment}\nint call(int a, int b);\n{comment}\nstruct thing {{ int a; }};\n{comment}\nenum e {{ A }};"
        )
        for documented in (module.Thing.call, module.thing, module.e):
            assert [line.strip() for line in documented.__doc__.strip().splitlines()] == [
                line.strip() for line in text.splitlines()
            ]
        assert cleaned(comment) == text

    @pytest.mark.parametrize("hard", ['"""', "\\", 'a\\"', "\\n", '"', "\\\\"])
    def test_of_any_characters_are_kept(self, load: Callable[..., Any], hard: str) -> None:
        module = load(f"/** Say {hard} */\nint call(void);")
        assert module.Thing.call.__doc__.strip() == f"Say {hard}"

    def test_behind_members(self, bind: Callable[..., Module]) -> None:
        text = bind(
            "struct thing {\n  int a; //!< the first\n  int b; /**< the second */\n  int c; /* plain */\n  int d; // slashes\n"
            "  int e; /* two\n            lines */\n  int f;\n};\nenum e {\n  A, /**< one */\n  B  ///< two\n};\n"
            "#define SIZE 5 /* of it */\n"
        ).text
        for line in ("a: i32  # the first", "b: i32  # the second", "c: i32  # plain", "d: i32  # slashes"):
            assert f"    {line}\n" in text
        assert "    e: i32  # two lines\n    f: i32\n" in text
        assert "    A = 0  # one\n    B = 1  # two\n" in text
        assert "SIZE = 5  # of it\n" in text

    def test_long_ones_are_wrapped(self, bind: Callable[..., Module]) -> None:
        words = "word " * 60
        text = bind(f"/** {words}*/\nint call(void);\nstruct thing {{ int a; /**< {words}*/ }};").text
        assert max(map(len, text.splitlines())) <= 120
        assert text.count("word") == 120

    def test_need_not_be_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "old.h"
        path.write_bytes(
            b'/** Gr\xfc\xdfe. */\nint call(void);\n#define TEXT "\xfc"\n#define SIZE 5 /* \xfc */\n'
            b"#define BAD \xfc\nstruct s {\n  int a; /* \xfc */\n};\n"
        )
        module = module_of(read_header(str(path), Reading(), lambda what: None), Wishes(("c",)))
        assert '"""Grüße."""' in module.text
        assert 'TEXT = b"\\xfc"\nSIZE = 5  # ü\n' in module.text
        assert "    a: i32  # ü\n" in module.text
        assert module.not_bound[0].reason.endswith("no constant: ü")

    def test_about_the_file_belong_to_no_function(self, load: Callable[..., Any]) -> None:
        assert load("/** @file thing.h */\nint call(void);").Thing.call.__doc__ is None

    def test_that_are_none(self) -> None:
        assert cleaned(None) == cleaned("") == cleaned("/***/") == ""
        assert first_sentence("One\nmore.\n\nTwo.") == "One more."

    def test_remarks_end_with_their_lines(self, tmp_path: Path) -> None:
        file = tmp_path / "x.h"
        file.write_text("int a; /* one */ int b;\nint c; /* open\n")
        remarks = Remarks()
        assert remarks.behind(str(file), 1, 6) == ""
        assert remarks.behind(str(file), 2, 6) == ""
        assert remarks.behind(str(tmp_path / "none.h"), 1, 1) == ""


class TestNames:
    def test_of_functions_that_python_would_not_take(
        self, load: Callable[..., Any], bind: Callable[..., Module]
    ) -> None:
        header = (
            "int import(int x); int __private(int x); int __dunder__(int x); int function(int x); int bytes(int x);"
        )
        assert bind(header).functions == ("import_", "private", "dunder__", "function_", "bytes_")
        text = bind(header).text
        assert '    @cg.function(symbol="__private")\n    def private(self, x: i32) -> i32: ...\n' in text
        load(header)

    def test_of_symbols_that_the_header_renames(self, load: Callable[..., Any]) -> None:
        assert load('int absolute(int x) __asm__("abs");').lib.absolute(-4) == 4

    def test_structs_and_functions_may_share_one(self, load: Callable[..., Any]) -> None:
        module = load("struct stat { int a; }; int stat(struct stat *s); struct stat make(void);")
        assert module.Thing.stat.__annotations__ == {"s": "Writable[struct_stat] | None", "return": "i32"}
        assert ctypes.sizeof(module.struct_stat) == 4

    def test_without_prefixes(self, bind: Callable[..., Module], load: Callable[..., Any]) -> None:
        header = (
            "#define ABC_MAX 5\nenum abc_kind { ABC_ONE, ABC_2 }; typedef struct abc_thing abc_thing;"
            'int abc_abs(abc_thing *t) __asm__("abs"); int abc_import(void); int labs_(void);'
        )
        module = bind(header, prefixes=("abc_", "ABC_"))
        assert module.functions == ("abs", "abc_import", "labs_")
        assert module.types == ("kind", "thing")
        assert module.constants == ("MAX",)
        assert "    ONE = 0\n    ABC_2 = 1\n" in module.text
        assert '@cg.function(symbol="abs")' not in module.text
        assert load(header, prefixes=("abc_", "ABC_")).lib.abs(None) == 0

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ("zlib.h", "Zlib"),
            ("curl/curl.h", "Curl"),
            ("my-lib.h", "MyLib"),
            ("a.b.h", "A"),
            ("7z.h", "Lib7z"),
            ("/x/y.hpp", "Y"),
        ],
    )
    def test_of_the_protocol(self, header: str, name: str) -> None:
        assert class_name(header) == name

    def test_of_the_protocol_where_it_is_taken(self, bind: Callable[..., Module]) -> None:
        assert "class ThingLibrary(Protocol):" in bind("struct Thing { int a; }; int call(void);").text

    @pytest.mark.parametrize(
        ("name", "taken", "made"),
        [
            ("x", (), "x"),
            ("x", ("x", "x_"), "x__"),
            ("class", (), "class_"),
            ("__a", (), "a"),
            ("__", (), "_"),
            ("a$b", (), "a_b"),
            ("__1", (), "_1"),
        ],
    )
    def test_identifiers(self, name: str, taken: tuple[str, ...], made: str) -> None:
        assert identifier(name, taken) == made

    def test_a_prefix_that_leaves_no_name_stays(self) -> None:
        assert [without_prefix(name, ("ab_",)) for name in ("ab_c", "ab_", "ab_1", "ab_if", "x")] == [
            "c",
            "ab_",
            "ab_1",
            "ab_if",
            "x",
        ]


class TestWhatBelongsToTheLibrary:
    def functions(self, header: Path, *include: Path) -> set[str]:
        reading = Reading(tuple(str(folder) for folder in include))
        return {function.name for function in read_header(str(header), reading, lambda what: None).functions}

    def test_its_folder_and_below(self, write: Write) -> None:
        write("int beside(void);", "lib/beside.h")
        write("int below(void);", "lib/more/below.h")
        write("int other(void);", "elsewhere/other.h")
        path = write(
            "#include <beside.h>\n#include <more/below.h>\n#include <other.h>\n#include <stdlib.h>\nint own(void);",
            "lib/thing.h",
        )
        assert self.functions(path, path.parent, path.parent.parent / "elsewhere") == {"beside", "below", "own"}

    def test_what_it_includes_with_quotation_marks(self, write: Write) -> None:
        write("#include <third.h>\nint other(void);", "elsewhere/other.h")
        write("int third(void);", "elsewhere/third.h")
        path = write('#include "other.h"\nint own(void);', "lib/thing.h")
        assert self.functions(path, path.parent.parent / "elsewhere") == {"other", "own"}

    def test_what_others_keep_to_themselves_is_a_handle_unless_somebody_holds_it(self, write: Write) -> None:
        write(
            "struct _a { int x; }; struct _b { int x; }; struct c { struct _b in; }; struct d { int x; };",
            "elsewhere/other.h",
        )
        path = write(
            "#include <other.h>\nstruct e { struct d in; };"
            "void call(struct _a *a, struct _b *b, struct c *c, struct d *d, struct e *e);",
            "lib/thing.h",
        )
        header = read_header(str(path), Reading((str(path.parent.parent / "elsewhere"),)), lambda what: None)
        known = {record.name: record.fields is not None for record in header.records.values()}
        assert known == {"_a": False, "_b": True, "c": True, "d": True, "e": True}
        order = list(known)
        assert order.index("_b") < order.index("c") and order.index("d") < order.index("e")

    def test_a_header_found_by_its_name(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write("int own(void);", "include/lib/thing.h")
        header = read_header("lib/thing.h", Reading((str(tmp_path / "include"),)), lambda what: None)
        assert [function.name for function in header.functions] == ["own"]
        monkeypatch.chdir(tmp_path / "include")
        assert [f.name for f in read_header("lib/thing.h", Reading(), lambda what: None).functions] == ["own"]

    def test_macros_that_are_given(self, bind: Callable[..., Module]) -> None:
        header = "#ifdef WITH\nint with(void);\n#endif\n#define SIZE (LEVEL * 2)\nint call(void);"
        assert bind(header, define=("WITH", "LEVEL=4")).functions == ("with_", "call")
        assert "SIZE = 8\n" in bind(header, define=("LEVEL=4",)).text

    def test_headers_that_must_come_before(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("typedef int earlier_t;\n#define EARLIER 1\nint earlier(void);", "before/first.h")
        path = write("#define LATER (EARLIER + 1)\n#define OTHER { 1 }\n#define LAST 3\nearlier_t abs(size_t x);")
        before = ["--before", str(tmp_path / "before/first.h"), "--before", "stddef.h"]
        assert main(["bind", str(path), "-l", "c", *before]) == 0
        out, err = capsys.readouterr()
        assert "Made by: callgate bind thing.h -l c --before first.h --before stddef.h\n" in out
        assert "LATER = 2\nLAST = 3\n" in out
        assert "def abs(self, x: usize) -> i32: ..." in out
        assert "EARLIER =" not in out and "def earlier" not in out
        assert "1 function, 0 types, 2 constants; 1 not bound" in err

    def test_only_what_matches_and_needs(self, bind: Callable[..., Module]) -> None:
        module = bind(
            "struct a { int x; }; struct b { struct a in; }; struct c { int x; }; enum e { E }; typedef int number;\n"
            "#define ONE 1\n#define TWO 2\nnumber get_b(struct b *b); int put(struct c *c); enum e get_not(__int128 x);",
            only="get_.*|O.*",
        )
        assert module.functions == ("get_b",)
        assert set(module.types) == {"number", "a", "b"}
        assert module.constants == ("ONE",)
        assert [item.name for item in module.not_bound] == ["get_not"]

    def test_the_guard_for_cxx_is_no_obstacle(self, bind: Callable[..., Module]) -> None:
        text = '#ifdef __cplusplus\nextern "C" {\n#endif\nint call(void);\n#ifdef __cplusplus\n}\n#endif\n'
        assert bind(text).functions == ("call",)


class TestFreestandingHeaders:
    def test_all_can_be_included_alone_and_together(self, read: Callable[..., Header]) -> None:
        for name in freestanding.HEADERS:
            assert read(f"#include <{name}>\n#include <{name}>\nint call(void);").functions
        everything = "".join(f"#include <{name}>\n" for name in freestanding.HEADERS)
        header = read(f"{everything}int call(size_t a, wchar_t b, atomic_int c, __m128 d, va_list e, max_align_t f);")
        (function,) = header.functions
        assert isinstance(function.parameters[3].type, NotCarried)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("INT_MAX", 2**31 - 1),
            ("INT_MIN", -(2**31)),
            ("UINT_MAX", 2**32 - 1),
            ("CHAR_BIT", 8),
            ("SHRT_MIN", -(2**15)),
            ("LLONG_MAX", 2**63 - 1),
            ("ULONG_MAX", ctypes.c_ulong(-1).value),
            ("SIZE_MAX", ctypes.c_size_t(-1).value),
            ("INT64_C(5)", 5),
            ("DBL_DIG", 15),
            ("DBL_MAX", sys.float_info.max),
            ("true", 1),
        ],
    )
    def test_limits(self, read: Callable[..., Header], name: str, value: int | float) -> None:
        header = read(
            f"#include <limits.h>\n#include <stdint.h>\n#include <float.h>\n#include <stdbool.h>\n#define X {name}\n"
        )
        assert [constant.value for constant in header.constants] == [value]


class TestLines:
    @pytest.mark.parametrize("length", [60, 112, 113, 130, 180, 400])
    def test_every_way_of_breaking_is_the_formatters(self, tmp_path: Path, length: int) -> None:
        ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
        if not Path(ruff).exists():
            pytest.skip("ruff is not installed")
        types = ", ".join(["Ptr[None] | None"] * (length // 18))
        source = [
            *folded(f"name = Callback[[{types}], i32]"),
            "",
            "",
            "class A:",
            *folded(f"member: Callback[[{types}], i32] | None", 4),
            *folded(f"other: Callback[[{types}, Callback[[{types}], None] | None], i32] | None", 4),
            "",
            *folded(f"def f(self, a: Callback[[{types}], i32] | None, b: i32) -> i32: ...", 4),
            "",
            *folded(f"def g(self, a: i32, b: i32) -> Callback[[{types}], i32] | None: ...", 4),
            "",
            *folded(f"def h(self, {', '.join(f'a{n}: i32' for n in range(length // 10))}) -> i32: ...", 4),
            "",
            "",
            *folded(f'pair = (("{"x" * (length // 2)}", "{"(" * (length // 3)}"),)'),
        ]
        file = tmp_path / "lines.py"
        file.write_text("\n".join(source) + "\n")
        done = subprocess.run(
            [ruff, "format", "--isolated", "--line-length", "120", "--diff", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        assert done.returncode == 0, done.stderr

    def test_remarks_go_above_where_they_do_not_fit(self) -> None:
        assert with_remark("a: i32", "short", 4) == ["    a: i32  # short"]
        assert with_remark("a: i32", "word " * 30, 4)[-1] == "    a: i32"
        assert all(len(line) <= 120 for line in with_remark("a: i32", "word " * 30, 4))

    def test_docstrings_that_end_in_a_quotation_mark(self) -> None:
        assert docstring('x"', 4) == ['    """x"', '    """']
        assert docstring("", 4) == []


class TestCommand:
    HEADER = "/** Absolute value. */\nint abs(int n);\n#define LIMIT 3\n#define MACRO(x) x\nint not_there(void);\n"

    def test_writes_a_module_and_a_report(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "made.py"
        assert main(["bind", str(write(self.HEADER)), "-l", "c", "-o", str(output)]) == 0
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            f"{tmp_path / 'thing.h'}: 1 function, 0 types, 1 constant; 2 not bound:",
            "  the library has no such symbol: not_there (thing.h:5)",
            "  a function-like macro: MACRO (thing.h:4)",
        ]
        text = output.read_text(encoding="utf-8")
        assert text.startswith('"""The library c as thing.h declares it.\n\nMade by: callgate bind thing.h -l c\n"""\n')
        assert str(tmp_path) not in text
        spec = importlib.util.spec_from_file_location("made", output)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.lib.abs(-5) == 5
        assert module.lib.abs(n=-5) == 5
        assert module.NOT_BOUND == (("not_there", "the library has no such symbol"), ("MACRO", "a function-like macro"))

    def test_a_path_may_have_any_characters(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(self.HEADER, "with space/é/th'ing.h")
        assert main(["bind", str(path), "-l", "c", "-I", str(path.parent)]) == 0
        out = capsys.readouterr().out
        assert out.startswith('"""The library c as th\'ing.h declares it.')
        assert "class ThIng(Protocol):" in out

    def test_writes_to_standard_output(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bind", str(write(self.HEADER)), "-l", "c"]) == 0
        assert "def abs(self, n: i32) -> i32:" in capsys.readouterr().out

    def test_gives_the_same_text_every_time_and_everywhere(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        texts = set()
        for folder in ("a", "b/c", "a"):
            path = write(TYPES + self.HEADER, f"{folder}/thing.h")
            assert main(["bind", str(path), "-l", "c", "-I", str(path.parent)]) == 0
            texts.add(capsys.readouterr().out)
        assert len(texts) == 1

    def test_shows_the_options_that_matter(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["-l", "c", "-l", "m", "-D", "X=1", "--only", "a.*", "--prefix", "q_", "-I", "/usr/include"]
        assert main(["bind", str(write(self.HEADER)), *arguments]) == 0
        out = capsys.readouterr().out
        assert "Made by: callgate bind thing.h -l c -l m -D X=1 --only 'a.*' --prefix q_\n" in out
        assert 'lib = cg.load(("c", "m"), Thing)\n' in out
        assert "LIMIT" not in out

    def test_a_library_that_is_not_here_is_a_note(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bind", str(write(self.HEADER)), "-l", "nowhere_to_be_found"]) == 0
        out, err = capsys.readouterr()
        assert err.startswith("callgate bind: cannot load 'nowhere_to_be_found'; its symbols are not checked\n")
        assert "def not_there(self)" in out

    def test_errors_in_the_header_are_clangs(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write("int good(void);\nint bad(unknown_t x);\nstruct s { int a b; };")
        output = tmp_path / "made.py"
        assert main(["bind", str(path), "-l", "c", "-o", str(output)]) == 2
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert out == ""
        assert lines[0] == f"{path}:2:9: unknown type name 'unknown_t'"
        assert lines[1] == f"{path}:3:17: expected ';' at end of declaration list"
        assert lines[-1] == f"callgate bind: {path} has 2 errors"
        assert not output.exists()

    def test_an_included_header_that_is_missing_is_an_error_of_the_header(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write("#include <not_there.h>\n")
        assert main(["bind", str(path), "-l", "c"]) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"{path}:1:10: 'not_there.h' file not found",
            f"callgate bind: {path} has an error",
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["nothere.h", "-l", "c"],
                "nothere.h: no such header; say where it is with -I DIR, or install the library's headers",
            ),
            (["/no/such/nothere.h", "-l", "c"], "/no/such/nothere.h: no such header; say where it is with -I DIR"),
            (["stdio.h"], "the following arguments are required: -l/--library; see callgate bind --help"),
            (["stdio.h", "-l", ""], "-l needs the name of a library"),
            ([".", "-l", "c"], ".: no such header"),
            (["/", "-l", "c"], "/: no such header"),
            (["", "-l", "c"], "'' is no header"),
            (['a">b.h', "-l", "c"], "'a\">b.h' is no header"),
            (["a\nb.h", "-l", "c"], "'a\\nb.h' is no header"),
            (["stdio.h", "-l", "c", "--only", "("], "--only '(' is no regular expression"),
            (["stdio.h", "-l", "c", "--only", "nothing_like_it"], "stdio.h declares nothing to bind that matches"),
            (
                ["stdio.h", "-l", "c", "--only", "puts", "-o", "/no/such/folder/f.py"],
                "[Errno 2] No such file or directory",
            ),
        ],
    )
    def test_other_errors_are_one_line(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        assert main(["bind", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"callgate bind: {message}")
        assert err.count("\n") == 1

    def test_without_libclang_it_says_what_to_install(
        self, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "clang.cindex", None)
        assert main(["bind", str(write(self.HEADER)), "-l", "c"]) == 2
        assert (
            capsys.readouterr().err
            == "callgate bind: reading headers needs libclang: pip install 'callgate[headers]'\n"
        )

    def test_a_broken_libclang_is_said(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        clang = importlib.import_module("clang.cindex")

        class Broken:
            @property
            def lib(self) -> object:
                raise clang.LibclangError("no such file")

        monkeypatch.setattr(clang, "conf", Broken())
        with pytest.raises(HeaderError, match="libclang cannot be loaded: no such file"):
            read_header(str(write(self.HEADER)), Reading(), lambda what: None)

    def test_tells_what_it_is_doing(self, write: Write) -> None:
        said: list[str] = []
        read_header(str(write(self.HEADER)), Reading(), said.append)
        assert [words.split()[0] for words in said] == ["reading", "reading", "evaluating"]
