"""Structs and unions: how they are declared and used in Python, and how they travel."""

from __future__ import annotations

import copy
import ctypes
import enum
import gc
import itertools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.live.children import run_child
from tests.live.here import C_INT, IS_WINDOWS
from tests.live.telling import told

import callgate as cg
from callgate import (
    Array,
    Callback,
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    Struct,
    Union,
    Writable,
    bool_,
    char,
    cstr,
    f64,
    field,
    i8,
    i32,
    i64,
    long,
    longdouble,
    u8,
    u16,
    u32,
    usize,
    wchar,
)

SOURCE = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
struct point { double x, y; };
struct tagged { int kind; union { int64_t number; double real; char text[8]; } value; };
struct node { int value; struct node *next; };
struct huge { unsigned char bytes[70000]; };
struct flags { int32_t low : 3; uint32_t middle : 6; int64_t high : 40; };
struct packed { uint8_t kind; int64_t value; uint16_t tail; } __attribute__((packed));
struct operations { int (*first)(int); int (*second)(int); };
struct line { struct point from, to; };
struct small { char c; short s; };
struct aligned { char c; int value __attribute__((aligned(16))); };
struct point mirrored(struct point p) { return (struct point){p.y, p.x}; }
double dot(struct point a, struct point b) { return a.x * b.x + a.y * b.y; }
struct small swapped(struct small s) { return (struct small){(char)s.s, s.c}; }
struct tagged tag(int kind, double real) { struct tagged t = {kind}; t.value.real = real; return t; }
long list_sum(const struct node *n) { long sum = 0; for (; n; n = n->next) sum += n->value; return sum; }
long node_sum(struct node n) { return n.value + list_sum(n.next); }
struct huge filled(unsigned char byte) { struct huge h; memset(&h, byte, sizeof h); return h; }
long huge_sum(struct huge h) { long sum = 0; for (size_t i = 0; i < sizeof h.bytes; i++) sum += h.bytes[i]; return sum; }
struct flags changed(struct flags f) { return (struct flags){-f.low, f.middle + 1, f.high * 2}; }
struct packed twice(struct packed p) { return (struct packed){p.kind * 2, p.value * 2, p.tail * 2}; }
int both(struct operations o, int x) { return (o.first ? o.first(x) : -1) * 100 + (o.second ? o.second(x) : -1); }
struct operations chosen(struct operations o, int which) { if (which) o.first = 0; else o.second = 0; return o; }
double length2(const struct line *l) { double x = l->to.x - l->from.x, y = l->to.y - l->from.y; return x * x + y * y; }
int is_null(const struct point *p) { return !p; }
int move(struct point *p, double x) { if (!p) return -1; p->x += x; return 0; }
int midpoint(const struct line *l, struct point *result) { result->x = 7; if (!l) return 5; *result = (struct point){(l->from.x + l->to.x) / 2, (l->from.y + l->to.y) / 2}; return 0; }
double sum_points(const struct point *p, size_t count) { double sum = 0; for (size_t i = 0; i < count; i++) sum += p[i].x + p[i].y; return sum; }
struct point *first(struct point *p) { return p; }
int aligned_value(struct aligned a) { return a.value + a.c; }
int twice_int(int x) { return 2 * x; }
struct point global_point = {1.5, 2.5};
struct triple { double x, y, z; };
double triple(struct triple t, int n) { return t.x + t.y + t.z + n; }
struct empty {};
int after_empty(struct empty e, int x) { return x; }
static struct point kept[2] = {{1, 2}, {3, 4}};
struct line outs(char *letter, struct point **handle, const char **text) {
    struct line l = {{1, 2}, {3, 4}};
    *letter = 'x', *handle = kept, *text = "\xff";
    return l;
}
double first_kept(void) { return kept[0].x; }
"""


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


@pytest.fixture
def library(engine: str, path: str) -> Any:
    return cg.load(path, engine=engine)


class Point(Struct):
    x: f64
    y: f64


class Line(Struct):
    start: Point
    end: Point


class Node(Struct):
    value: i32
    next: Ptr[Node]


class Flags(Struct):
    low: i32 = field(bits=3)
    middle: u32 = field(bits=6)
    high: i64 = field(bits=40)


class Packed(Struct, pack=1):
    kind: u8
    value: i64
    tail: u16


class Operations(Struct):
    first: Callable[[i32], i32]
    second: Callback[[i32], i32] | None


class Value(Union):
    number: i64
    real: f64
    text: Array[char] = field(length=8)


class Tagged(Struct):
    kind: i32
    value: Value = field(anonymous=True)


class Color(enum.IntEnum):
    RED = 1
    GREEN = 2


NAMES = {
    name: thing
    for name, thing in globals().items()
    if name in cg.__all__ or name in ("Callable", "Point", "Color", "ctypes")
}


_numbers = itertools.count()


def made(text: str, **more: Any) -> dict[str, Any]:
    """The names after running declarations, which are not compiled under `from __future__ import annotations`."""
    scope = {**NAMES, "__name__": f"declarations{next(_numbers)}", **more}
    exec(compile(text, "<declarations>", "exec", dont_inherit=True), scope)
    return scope


def refused(text: str, **more: Any) -> str:
    """What declarations raise."""
    return told(made, text, **more)


def offsets(cls: Any) -> dict[str, int]:
    return {name: getattr(cls, name).offset for name, *_ in cls._fields_}


# -- declaring -------------------------------------------------------------------------------------------------------


def test_members_in_order() -> None:
    assert repr((Point(), Point(1), Point(1, 2.5), Point(y=3), Point(1, y=4))) == (
        "(Point(x=0.0, y=0.0), Point(x=1.0, y=0.0), Point(x=1.0, y=2.5), Point(x=0.0, y=3.0), Point(x=1.0, y=4.0))"
    )
    assert (ctypes.sizeof(Point), ctypes.alignment(Point), offsets(Point)) == (16, 8, {"x": 0, "y": 8})


def test_without_the_future() -> None:
    scope = made("class pair(Struct):\n  a: i8\n  b: i64\n  c: Array[u16] = field(length=3)\nresult = pair(1, 2)")
    assert (repr(scope["result"]), offsets(scope["pair"]), ctypes.sizeof(scope["pair"])) == (
        "pair(a=1, b=2, c=[0, 0, 0])",
        {"a": 0, "b": 8, "c": 16},
        24,
    )


def test_local_types_under_the_future() -> None:
    class Inner(Struct):
        a: i8

    length = 3

    class Outer(Struct):
        inner: Inner
        inners: Array[Inner] = field(length=length)
        pointer: Ptr[Inner]

    def declare() -> Any:
        class Innermost(Struct):
            a: i32
            b: i64 = field(bits=7)

        return Innermost

    assert repr(Outer(Inner(1)).inner) == "Inner(a=1)"
    assert offsets(Outer) == {"inner": 0, "inners": 1, "pointer": 8}
    assert declare() is not declare()
    assert repr(declare()(1, 2)) == "Innermost(a=1, b=2)"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Point(1, 2, 3), "TypeError: too many initializers"),
        (lambda: Point(1, x=2), "TypeError: duplicate values for field 'x'"),
        (lambda: Point("1"), "TypeError: must be real number, not str"),
        (lambda: Node("1"), "TypeError: 'str' object cannot be interpreted as an integer"),
        (lambda: Flags(1, 2, 3, 4), "TypeError: too many initializers"),
        (lambda: Flags(1, low=2), "TypeError: duplicate values for field 'low'"),
        (lambda: Operations(None, None, None), "TypeError: too many initializers"),
        (lambda: Operations(None, first=None), "TypeError: duplicate values for field 'first'"),
        (lambda: Line(1), "TypeError: expected Point instance, got int"),
        (lambda: Node(1, Point()), "TypeError: incompatible types, Point instance instead of LP_Node instance"),
        (lambda: hash(Point()), "TypeError: unhashable type"),
    ],
)
def test_wrong_initializers(call: Callable[[], object], text: str) -> None:
    assert told(call) == text


@pytest.mark.parametrize("make", [Point, Flags, Packed, Operations, Value, Tagged], ids=lambda cls: cls.__name__)
def test_unknown_members_are_attribute_errors(make: Any) -> None:
    text = f"AttributeError: {make.__name__!r} object has no attribute 'z'"
    assert told(setattr, make(), "z", 1).startswith(text)
    assert told(make, z=1).startswith(text)
    assert told(lambda: make().z).startswith(text)


DECLARATION_ERRORS = {
    "x: int": "S.x: int has no width in C; choose one of i8, i16, i32, i64, u8, u16, u32, u64, isize, usize, short, "
    "int_, long, uint, ulong",
    "x: list": "S.x: list has no C type; use a ctypes type or a name of callgate",
    "x: None": "S.x: a member cannot be void",
    "x: Array[None] = field(length=1)": "S.x: a member cannot be void",
    "x: Array[i32]": "S.x: an array member needs its length: `= field(length=8)`",
    "x: i32 = field(length=3)": "S.x: length= is for arrays, as in `Array[u8] = field(length=3)`",
    "x: i32 = 3": "S.x: a member has no default; use field() for bits, length and align",
    "x: Callable": "S.x: a function pointer needs its types, as in Callable[[i32], f64]",
    "x: Callable[..., i32]": "S.x: a function pointer needs the types of its arguments, as in Callable[[i32], f64]",
    "x: Opaque": "S.x: struct Opaque is incomplete here; a member can only be a pointer to it",
    "x: 'S'": "S.x: struct S is incomplete here; a member can only be a pointer to it",
    "x: i32 | i64": f"S.x: a union can only be `X | None`, not ctypes.{i32.__name__} | ctypes.{i64.__name__}",
    "x: '1 +'": "S.x: cannot evaluate the annotation '1 +': invalid syntax (<string>, line 1)",
    "x: complex": "S.x: complex has no C type; use a ctypes type or a name of callgate",
    "x: i32 = field(bits=0)": "bit-field 'x' of struct S has 0 bits; int allows 1 to 32",
    "x: i32 = field(bits=33)": "bit-field 'x' of struct S has 33 bits; int allows 1 to 32",
    "x: bool_ = field(bits=2)": "bit-field 'x' of struct S has 2 bits; _Bool allows 1 to 1",
    "x: f64 = field(bits=3)": "bit-field 'x' of struct S must be of an integer type, not double",
    "x: Ptr[i32] = field(bits=3)": "bit-field 'x' of struct S must be of an integer type, not int *",
    "x: Array[i32] = field(bits=3, length=2)": "bit-field 'x' of struct S must be of an integer type, not int [2]",
    "x: i32 = field(bits=-1)": "field(): bits= must not be negative, not -1",
    "x: i32 = field(bits='3')": "field(): bits= must be an int, not str",
    "x: i32 = field(bits=True)": "field(): bits= must be an int, not bool",
    "x: Array[i32] = field(length=-1)": "field(): length= must not be negative, not -1",
    "x: Array[i32] = field(length=1.0)": "field(): length= must be an int, not float",
    "x: i32 = field(align=0)": "field(): align= must be a power of two, not 0",
    "x: i32 = field(align=3)": "field(): align= must be a power of two, not 3",
    "x: Array[i32] = field(length=0)\n  y: i32": "member 'x' of struct S: an array without a length must be the last "
    "member of a struct",
}


@pytest.mark.parametrize("member", DECLARATION_ERRORS, ids=str)
def test_members_that_c_has_not(member: str) -> None:
    assert refused(f"class S(Struct):\n  {member}") == f"DeclarationError: {DECLARATION_ERRORS[member]}"


@pytest.mark.parametrize("option", ["pack=3", "pack=-1", "pack='x'", "align=3", "align=-8", "align=None"])
def test_options_of_the_class(option: str) -> None:
    name, _, value = option.partition("=")
    assert refused(f"class S(Struct, {option}):\n  x: i32") == (
        f"DeclarationError: S: {name}= must be a power of two, not {value}"
    )


def test_only_pointers_can_be_none() -> None:
    assert refused("class S(Struct):\n  x: i32 | None") == "DeclarationError: S.x: only pointers can be None"
    assert made("class S(Struct):\n  x: Ptr[i32] | None\n  y: cstr | None")["S"]().y is None


def test_kinds_of_members() -> None:
    class Everything(Struct):
        text: cstr
        data: bytes
        handle: Ptr[None]
        color: Color
        one: wchar
        word: Array[wchar] = field(length=4)
        large: longdouble
        rows: ctypes.c_int16 * 3 * 2  # type: ignore[valid-type]
        yes: bool_
        pointers: Array[Ptr[None]] = field(length=2)

    thing = Everything(b"a", b"b", 5, Color.GREEN, "é", "abc", 1.5, yes=True)
    thing.rows[1][2] = 7
    assert repr(thing).partition(", rows=")[0] == (
        "Everything(text=b'a', data=b'b', handle=5, color=2, one='é', word='abc', large=1.5"
    )
    assert (list(thing.rows[1]), thing.yes, list(thing.pointers)) == ([0, 0, 7], True, [None, None])
    assert told(setattr, thing, "text", "x") == "TypeError: bytes or integer address expected instead of str instance"


def test_a_flexible_array_has_no_size() -> None:
    class Flexible(Struct):
        count: i32
        items: Array[i32] = field(length=0)

    assert (ctypes.sizeof(Flexible), Flexible.items.offset, repr(Flexible(3))) == (4, 4, "Flexible(count=3, items=[])")


def test_methods_properties_and_constants() -> None:
    class Thing(Struct):
        __slots__ = ("remark",)
        SIZE = 8
        value: i32

        @property
        def twice(self) -> int:
            return self.value * 2

    thing = Thing(4)
    thing.remark = "mine"
    assert (thing.twice, Thing.SIZE, thing.remark, repr(thing)) == (8, 8, "mine", "Thing(value=4)")


def test_own_init() -> None:
    class Plain(Struct):
        x: i32
        y: i32

        def __init__(self, y: int) -> None:
            super().__init__(7, y)

    class Special(Struct):
        call: Callable[[i32], i32]
        x: i32
        yes: bool_ = field(bits=1)

        def __init__(self, x: int) -> None:
            super().__init__(None, x, yes=True)

    assert (repr(Plain(5)), repr(Special(5))) == ("Plain(x=7, y=5)", "Special(call=None, x=5, yes=True)")


def test_own_init_of_a_base_and_of_bits() -> None:
    class Bits(Struct):
        yes: bool_ = field(bits=1)
        x: i32

        def __init__(self, x: int) -> None:
            super().__init__(True, x)

    class Special(Struct):
        call: Callable[[i32], i32]
        x: i32
        yes: bool_ = field(bits=1)

        def __init__(self, x: int) -> None:
            super().__init__(None, x, yes=True)

    class More(Special):
        z: i32

    assert repr(Bits(5)) == "Bits(yes=True, x=5)"
    assert repr(More(6)) == "More(call=None, x=6, yes=True, z=0)"


def test_members_named_like_parts_of_callgate() -> None:
    class Odd(Struct):
        field: i32
        bits: i32
        _private: i32
        __mangled: i32
        items: i32

    assert repr(Odd(1, 2, 3, 4, 5)) == "Odd(field=1, bits=2, _private=3, _Odd__mangled=4, items=5)"


# -- layout ----------------------------------------------------------------------------------------------------------


def test_packed_and_aligned() -> None:
    class Two(Struct, pack=2):
        kind: u8
        value: i64

    class Member(Struct):
        kind: u8
        value: i32 = field(align=16)
        tail: u8

    class Whole(Struct, align=32):
        kind: u8

    class Both(Struct, pack=1, align=4):
        kind: u8
        value: i64

    class Holder(Struct):
        first: u8
        whole: Whole

    assert (ctypes.sizeof(Packed), offsets(Packed)) == (11, {"kind": 0, "value": 1, "tail": 9})
    assert (ctypes.sizeof(Two), Two.value.offset) == (10, 2)
    assert (ctypes.sizeof(Member), Member.value.offset, Member.tail.offset) == (32, 16, 20)
    assert (ctypes.sizeof(Whole), ctypes.sizeof(Both), Both.value.offset) == (32, 12, 1)
    assert (ctypes.sizeof(Holder), Holder.whole.offset) == (64, 32)


def test_bit_fields() -> None:
    flags = Flags()
    for value, low in ((3, 3), (-4, -4), (-1, -1), (0, 0)):
        flags.low = value
        assert flags.low == low
    flags.middle, flags.high = 63, -(1 << 39)
    assert repr(flags) == "Flags(low=0, middle=63, high=-549755813888)"
    if IS_WINDOWS:  # bit-fields of another size begin anew
        assert bytes(flags) == (63 << 3).to_bytes(8, "little") + (1 << 39).to_bytes(8, "little")
    else:
        assert bytes(flags) == (63 << 3 | 1 << (9 + 39)).to_bytes(8, "little")
    flags.high = (1 << 39) - 1
    assert (flags.low, flags.middle, flags.high) == (0, 63, (1 << 39) - 1)


def test_bit_fields_keep_the_low_bits() -> None:
    """As C and ctypes do it."""
    flags = Flags(4, 64, 1 << 39)
    assert repr(flags) == "Flags(low=-4, middle=0, high=-549755813888)"
    assert repr(Flags(-5, -1, 1 << 70)) == "Flags(low=3, middle=63, high=0)"


class Bools(Struct):
    a: bool_ = field(bits=1)
    b: bool_ = field(bits=1)


@pytest.mark.parametrize("name", ["low", "middle", "high"])
def test_bit_fields_take_ints_only(name: str) -> None:
    for wrong in ("12", 1.5, None, b"1", [1]):
        flags = Flags(1, 1, 1)
        kind = type(wrong).__name__
        assert told(setattr, flags, name, wrong) == f"TypeError: {kind!r} object cannot be interpreted as an integer"
        assert repr(flags) == "Flags(low=1, middle=1, high=1)"
    setattr(flags, name, True)


def test_boolean_bit_fields() -> None:
    bools = Bools(True, False)
    assert (bools.a, bools.b, bytes(bools)) == (True, False, b"\1")
    bools.b = 1
    bools.a = 0
    assert (bools.a, bools.b, bytes(bools)) == (False, True, b"\2")


def test_a_boolean_bit_field_is_true_for_all_but_zero() -> None:
    bools = Bools(2, False)
    assert (bools.a, bools.b) == (True, False)


def test_unions() -> None:
    value = Value(real=1.0)
    assert (value.number, ctypes.sizeof(Value), ctypes.alignment(Value)) == (0x3FF0_0000_0000_0000, 8, 8)
    assert repr(Value(5)) == "Value(number=5, real=2.5e-323, text=b'\\x05')"

    class Odd(Union, align=16):
        a: u8 = field(bits=3)
        b: i32
        c: Array[u8] = field(length=17)

    odd = Odd(b=0xFF)
    assert (odd.a, ctypes.sizeof(Odd)) == (7, 32)
    odd.a = 1
    assert odd.b == 0xF9


def test_anonymous_members() -> None:
    class Inner(Struct):
        low: u32 = field(bits=3)
        rest: u32 = field(bits=29)

    class Middle(Union):
        inner: Inner = field(anonymous=True)
        all: u32

    class Outer(Struct):
        kind: i32
        middle: Middle = field(anonymous=True)
        call: Callable[[i32], i32]

    outer = Outer(1)
    outer.all = 0xFF
    assert (outer.low, outer.rest, outer.middle.inner.low) == (7, 31, 7)
    outer.rest = 0
    assert outer.all == 7
    assert ctypes.sizeof(Outer) == 16
    tagged = Tagged(3)
    tagged.real = 0.5
    assert (tagged.value.real, tagged.number) == (0.5, 0x3FE0_0000_0000_0000)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ("x: i32 = field(anonymous=True)", "S.x: only a struct or union can be anonymous, not int"),
        ("x: f64\n  p: Point = field(anonymous=True)", "S: 'x' is declared twice"),
    ],
)
def test_anonymous_members_that_c_has_not(members: str, problem: str) -> None:
    assert refused(f"class S(Struct):\n  {members}") == f"DeclarationError: {problem}"


def test_arrays_of_structs() -> None:
    class Polygon(Struct):
        count: i32
        points: Array[Point] = field(length=3)
        pairs: Array[Flags] = field(length=2)

    polygon = Polygon(3)
    polygon.points[1] = Point(1, 2)
    polygon.points[2].y = 5
    polygon.pairs[1].high = -3
    assert repr(list(polygon.points)) == "[Point(x=0.0, y=0.0), Point(x=1.0, y=2.0), Point(x=0.0, y=5.0)]"
    assert (polygon.pairs[0].high, polygon.pairs[1].high) == (0, -3)
    assert told(lambda: polygon.points[3]) == "IndexError: invalid index"
    assert told(setattr, polygon, "points", 5) == "TypeError: expected Point_Array_3 instance, got int"
    assert ctypes.sizeof(Polygon) == 56 + 2 * ctypes.sizeof(Flags)


# -- recursion and classes that come later ---------------------------------------------------------------------------


def test_a_list() -> None:
    last = Node(2)
    first = Node(1, ctypes.pointer(last))
    assert (first.next.contents.value, bool(last.next)) == (2, False)
    scope = made("class N(Struct):\n  v: i32\n  n: 'Ptr[N]'")
    assert repr(scope["N"](1, ctypes.pointer(scope["N"](7))).n.contents.v) == "7"


def test_two_that_point_to_each_other() -> None:
    scope = made(
        "class A(Struct):\n  b: 'Ptr[B]'\n  n: i32\n"
        "try: A()\nexcept Exception as problem: early = f'{problem}'\n"
        "class B(Struct):\n  a: 'Ptr[A]'\n  n: i32\n"
        "a = A(n=1); b = B(ctypes.pointer(a), 2); a.b = ctypes.pointer(b)"
    )
    a = scope["a"]
    assert a.b.contents.a.contents.n == 1
    assert scope["early"] == "A.b: cannot evaluate the annotation 'Ptr[B]': name 'B' is not defined"

    def locally() -> tuple[Any, Any]:
        class First(Struct):
            second: Ptr[Second]

        class Second(Struct):
            first: Ptr[First]

        return First, Second

    first, second = locally()
    one = first()
    assert second(ctypes.pointer(one)).first.contents.second is not None
    assert first.second.size == 8


def test_a_member_that_is_defined_later() -> None:
    scope = made("class A(Struct):\n  b: 'B'\n  n: i32\nclass B(Struct):\n  v: i64\nresult = A(B(3), 4)")
    assert (repr(scope["result"]), ctypes.sizeof(scope["A"])) == ("A(b=B(v=3), n=4)", 16)


@pytest.mark.parametrize("use", ["A()", "class S(Struct):\n  a: A\nS()", "class S(A): pass\nS()"])
def test_a_class_that_stays_incomplete(use: str) -> None:
    text = refused(f"class A(Struct):\n  b: 'Ptr[Missing]'\n{use}")
    assert text.partition(": ")[2] == (
        "A.b: cannot evaluate the annotation 'Ptr[Missing]': name 'Missing' is not defined"
    )


def test_incomplete_classes_in_declarations(library: Any) -> None:
    scope = made("class A(Struct):\n  b: 'Ptr[Missing]'")
    text = told(made, "@library.function\ndef node_sum(a: A) -> long: ...", library=library, **scope)
    assert text.endswith("cannot evaluate the annotation 'Ptr[Missing]': name 'Missing' is not defined")

    class Empty(ctypes.Structure):
        pass

    text = told(made, "@library.function\ndef node_sum(a: Empty) -> long: ...", library=library, Empty=Empty)
    assert text == (
        "DeclarationError: node_sum() parameter 'a': Empty has no members; only a pointer to it can be passed"
    )


def test_several_classes_wait_for_one() -> None:
    scope = made(
        "class A(Struct):\n  b: 'Ptr[B]'\nclass H(Struct):\n  a: A\nclass G(Struct):\n  h: H\n  b: 'Ptr[B]'\n"
        "class B(Struct):\n  n: i32\nresult = A(), H(), G(), B(5)"
    )
    assert [ctypes.sizeof(scope[name]) for name in "ABGH"] == [8, 4, 16, 8]


def test_a_subclass_of_a_class_that_waits() -> None:
    text = refused("class A(Struct):\n  b: 'Ptr[B]'\nclass H(A):\n  z: i64\nclass B(Struct):\n  n: i32")
    assert text.partition(": ")[2] == "A.b: cannot evaluate the annotation 'Ptr[B]': name 'B' is not defined"


def test_an_array_of_a_class_that_waits() -> None:
    text = "class A(Struct):\n  b: 'Ptr[B]'\n{}\nclass B(Struct):\n  n: i32\n"
    for use in ("A * 3", "A.from_buffer(bytearray(8))", "A.from_address(8)", "A.from_buffer_copy(bytes(8))"):
        problem = refused(text.format(use)).partition(": ")[2]
        assert problem == "A.b: cannot evaluate the annotation 'Ptr[B]': name 'B' is not defined"


# -- inheritance -----------------------------------------------------------------------------------------------------


def test_a_subclass_has_more_members() -> None:
    class Named(Point):
        number: i64

    class Same(Point):
        def length2(self) -> float:
            return self.x**2 + self.y**2

    assert (repr(Named(1, 2, 3)), offsets(Named), ctypes.sizeof(Named)) == (
        "Named(x=1.0, y=2.0, number=3)",
        {"number": 16},
        24,
    )
    assert (Same(3, 4).length2(), repr(Same(1)), ctypes.sizeof(Same)) == (25.0, "Same(x=1.0, y=0.0)", 16)


def test_a_base_is_the_first_member() -> None:
    scope = made(
        "class A(Struct):\n  x: i64\n  c: i8\nclass B(A):\n  d: i8\nb = B(1, 2, 3)\n"
        "class P(Struct, pack=1):\n  c: u8\n  x: i64\nclass Q(P):\n  y: i32\nq = Q(1, 2, 3)"
    )
    assert (repr(scope["b"]), ctypes.sizeof(scope["B"]), scope["B"].d.offset) == ("B(x=1, c=2, d=3)", 24, 16)
    assert (repr(scope["q"]), scope["Q"].x.offset, scope["Q"].y.offset) == ("Q(c=1, x=2, y=3)", 1, 12)


# -- function pointers -----------------------------------------------------------------------------------------------


def test_function_pointer_members(engine: str, path: str) -> None:
    library = cg.load(path, engine=engine)

    @library.function
    def both(operations: Operations, x: i32, /) -> i32: ...
    @library.function
    def chosen(operations: Operations, which: i32, /) -> Operations: ...
    @library.function
    def twice_int(x: i32, /) -> i32: ...

    @cg.callback
    def tripled(x: i32) -> i32:
        return 3 * x

    operations = Operations(tripled, twice_int)
    assert both(operations, 5) == 1510
    assert both(Operations(twice_int, tripled), 5) == 1015
    operations.second = None
    assert (operations.second, both(operations, 5)) == (None, 1499)
    operations.second = tripled.address
    assert both(operations, 5) == 1515
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    kept = prototype(lambda x: 7 * x)
    operations.first = kept
    assert both(operations, 5) == 3515
    operations.first = ctypes.c_void_p(cg.gate(twice_int).address)
    assert both(operations, 5) == 1015
    given = chosen(operations, 0)
    assert (given.first, given.second) == (cg.gate(twice_int).address, None)
    assert both(given, 1) == 199
    for wrong in ("x", 1.5, len, lambda x: x, b"abc", object()):
        assert told(setattr, operations, "first", wrong) == (
            f"TypeError: first must be a callback, a gate or a function pointer, not {type(wrong).__name__}"
        )
    assert operations.first == cg.gate(twice_int).address
    tripled.close()
    assert told(Operations, tripled) == "ValueError: tripled() is closed, and C cannot have it any more"


@pytest.mark.parametrize("wrong", [-1, 1 << 64, 1 << 70])
def test_a_function_pointer_is_an_address(wrong: int) -> None:
    operations = Operations()
    assert told(setattr, operations, "first", wrong) == (
        f"OverflowError: first must be an address of 64 bits, not {wrong}"
    )
    assert operations.first is None


# -- as ctypes has it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [Point(1, 2), Flags(1, 2, 3), Packed(1, 2, 3), Line(Point(1, 2))], ids=repr)
def test_copies(thing: Any) -> None:
    for again in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert (type(again), repr(again), bytes(again)) == (type(thing), repr(thing), bytes(thing))
        assert ctypes.addressof(again) != ctypes.addressof(thing)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("thing", [Node(1), Operations()], ids=lambda thing: type(thing).__name__)
def test_structs_with_pointers_are_not_copied(make: Callable[[Any], Any], thing: Any) -> None:
    assert told(make, thing) == "ValueError: ctypes objects containing pointers cannot be pickled"


def test_ctypes_and_structs_mix(library: Any) -> None:
    class CPoint(ctypes.Structure):
        _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double))

    class CLine(ctypes.Structure):
        _fields_ = (("start", Point), ("end", CPoint))

    class Mixed(Struct):
        start: CPoint
        end: Point

    line = Mixed(CPoint(1, 2), Point(4, 6))

    @library.function
    def length2(line: Readable[Mixed], /) -> f64: ...

    assert length2(line) == 25.0

    @library.function(symbol="length2")
    def length2_ctypes(line: Readable[CLine], /) -> f64: ...

    assert length2_ctypes(CLine(Point(1, 2), CPoint(1, 5))) == 9.0
    assert ctypes.cast(ctypes.pointer(line), ctypes.POINTER(Line)).contents.end.y == 6.0
    assert repr((Point * 2)(Point(1, 2))[0]) == "Point(x=1.0, y=2.0)"
    assert Point.from_buffer_copy(bytes(16)).x == 0.0
    data = bytearray(16)
    Point.from_buffer(data).y = 1.0
    assert data[14:] == b"\xf0\x3f"
    assert isinstance(memoryview(Point(1, 2)), memoryview)


def test_a_struct_in_a_plain_ctypes_library(path: str) -> None:
    plain = ctypes.CDLL(path)
    plain.mirrored.argtypes, plain.mirrored.restype = [Point], Point
    assert repr(plain.mirrored(Point(1, 2))) == "Point(x=2.0, y=1.0)"
    plain.node_sum.argtypes, plain.node_sum.restype = [Node], ctypes.c_long
    assert plain.node_sum(Node(1, ctypes.pointer(Node(5)))) == 6
    plain.list_sum.argtypes = [ctypes.POINTER(Node)]
    assert plain.list_sum(ctypes.byref(Node(9))) == 9


def structure(name: str, *fields: Any, base: Any = ctypes.Structure, **more: Any) -> Any:
    return type(base)(name, (base,), {**more, "_fields_": list(fields)})


c_int, c_char = ctypes.c_int, ctypes.c_char
_INNER = structure("inner", ("a", c_int), ("b", c_int))
_BASE = structure("base", ("a", ctypes.c_long), ("b", c_char))
_BIG = structure("big", ("x", c_int), base=ctypes.BigEndianStructure)

OTHER_STRUCTURES: list[tuple[Any, str]] = [
    (structure("empty"), "struct empty is empty and cannot be passed by value on x86_64-windows" if IS_WINDOWS else "taken"),
    (structure("little", ("x", c_int), base=ctypes.LittleEndianStructure), "taken"),
    (structure("packed1", ("a", c_char), ("x", c_int), _pack_=1), "taken"),
    (structure("packed2", ("a", c_char), ("x", ctypes.c_long), _pack_=2), "taken"),
    (structure("bits", ("a", ctypes.c_uint32, 3), ("b", ctypes.c_uint32, 30)), "taken"),
    (structure("bits_of_two", ("a", ctypes.c_uint8, 3), ("b", ctypes.c_uint16, 12)), "taken"),
    (structure("union_of_bits", ("a", c_int, 3), ("b", c_int), base=ctypes.Union), "taken"),
    (structure("anonymous", ("i", _INNER), ("c", c_int), _anonymous_=("i",)), "taken"),
    (structure("object", ("x", ctypes.py_object)), "taken"),
    (structure("function", ("x", ctypes.CFUNCTYPE(None))), "taken"),
    (structure("flexible", ("n", c_int), ("x", c_int * 0)), "taken"),
    (structure("same", base=_BASE), "taken"),
    (type(ctypes.Structure)("bare", (ctypes.Structure,), {}), "f() parameter 'x': bare has no members; only a pointer to it can be passed"),
    (Opaque, "f() parameter 'x': Opaque has no members; only a pointer to it can be passed"),
    (Struct, "f() parameter 'x': Struct has no members; only a pointer to it can be passed"),
    (ctypes.Union, "f() parameter 'x': Union has no members; only a pointer to it can be passed"),
    (_BIG, "big has the byte order of another machine; C cannot take it by value"),
    (structure("with_big", ("x", _BIG)), "big has the byte order of another machine; C cannot take it by value"),
    (structure("big_member", ("x", c_int.__ctype_be__)), f"big_member.x: {C_INT} has no C type; use a ctypes type or a name of callgate"),
    (
        structure("packed_bits", ("a", ctypes.c_uint32, 3), ("b", ctypes.c_uint32, 30), _pack_=1),
        "taken" if IS_WINDOWS else "ctypes lays packed_bits out otherwise than C: it has 8 bytes, C gives it 5",
    ),
    (structure("twice", ("a", c_int), ("a", ctypes.c_int64)), "ctypes lays twice out otherwise than C: a lies at bit 64, in C at bit 0"),
    (structure("middle", ("x", c_int * 0), ("n", c_int)), "member 'x' of struct middle: an array without a length must be the last member of a struct"),
    (c_int * 3, f"f() parameter 'x': {C_INT}_Array_3 has no C type; use a ctypes type or a name of callgate"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "outcome"), OTHER_STRUCTURES, ids=lambda item: getattr(item, "__name__", ""))
def test_any_structure_of_ctypes(library: Any, cls: Any, outcome: str) -> None:
    """Declaring is enough: the function is never called."""
    text = told(
        made, "@library.function(symbol='twice_int')\ndef f(x: cls) -> i32: ...\nresult = f", cls=cls, library=library
    )
    assert text.startswith("{") if outcome == "taken" else text == f"DeclarationError: {outcome}"


def test_fields_that_are_set_late(library: Any) -> None:
    class Late(ctypes.Structure):
        pass

    text = "@library.function(symbol='swapped')\ndef f(x: Late) -> Late: ...\nresult = f"
    assert told(made, text, library=library, Late=Late) == (
        "DeclarationError: f() parameter 'x': Late has no members; only a pointer to it can be passed"
    )
    Late._fields_ = [("c", ctypes.c_char), ("s", ctypes.c_short)]
    given = made(text, library=library, Late=Late)["result"](Late(b"\5", 65))
    assert (given.c, given.s) == (b"A", 5)


# -- by value --------------------------------------------------------------------------------------------------------


def test_by_value(library: Any) -> None:
    @library.function
    def mirrored(p: Point) -> Point: ...
    @library.function
    def dot(a: Point, b: Point, /) -> f64: ...
    @library.function
    def tag(kind: i32, real: f64, /) -> Tagged: ...
    @library.function
    def changed(flags: Flags, /) -> Flags: ...
    @library.function
    def twice(packed: Packed, /) -> Packed: ...
    @library.function
    def node_sum(node: Node, /) -> long: ...

    given = Point(1, 2)
    result = mirrored(given)
    assert (repr(result), repr(given), type(result)) == ("Point(x=2.0, y=1.0)", "Point(x=1.0, y=2.0)", Point)
    assert repr(mirrored(p=given)) == "Point(x=2.0, y=1.0)"
    assert dot(given, result) == 4.0
    assert repr(tag(5, 0.5).value) == "Value(number=4602678819172646912, real=0.5, text=b'')"
    assert repr(changed(Flags(-3, 62, -(1 << 38)))) == "Flags(low=3, middle=63, high=-549755813888)"
    assert repr(twice(Packed(1, 1 << 40, 3))) == "Packed(kind=2, value=2199023255552, tail=6)"
    assert node_sum(Node(1, ctypes.pointer(Node(2, ctypes.pointer(Node(3)))))) == 6


def test_by_value_refusals(library: Any) -> None:
    @library.function
    def dot(a: Point, b: Point, /) -> f64: ...

    class Other(Struct):
        x: f64
        y: f64

    class Sub(Point):
        z: f64

    class Stranger:
        _as_parameter_ = Point(1, 2)

    one = Point(1, 2)
    assert dot(one, Sub(3, 4, 5)) == 11.0
    for wrong, kind in [
        (None, "None"),
        (Other(1, 2), "Other"),
        (Line(), "Line"),
        (ctypes.pointer(one), "Ptr[Point]"),
        (ctypes.byref(one), "CArgObject"),
        ((Point * 1)(one), "Point_Array_1"),
        (bytes(16), "bytes"),
        (bytearray(16), "bytearray"),
        ((1.0, 2.0), "tuple"),
        (ctypes.addressof(one), "int"),
        (1.5, "float"),
        (Point, "PyCStructType" if False else type(Point).__name__),
        (Stranger(), "Stranger"),
    ]:
        assert told(dot, wrong, one) == f"TypeError: dot() argument 1 must be Point, not {kind}"
        assert told(dot, one, wrong) == f"TypeError: dot() argument 2 must be Point, not {kind}"
    assert told(dot, one) == "TypeError: dot() takes exactly 2 arguments (1 given)"


def test_nullable_structs_are_refused(library: Any) -> None:
    for text in ("def f(p: Point | None) -> i32: ...", "def f(p: i32) -> Point | None: ..."):
        where = "parameter 'p'" if "(p: Point" in text else "result"
        assert told(made, f"@library.function(symbol='dot')\n{text}", library=library) == (
            f"DeclarationError: f() {where}: only pointers can be None"
        )
    text = "@library.function(symbol='dot')\ndef f(p: i32, o: Out[Point | None]) -> None: ..."
    assert told(made, text, library=library) == "DeclarationError: f() parameter 'o': only pointers can be None"


def test_structs_have_no_results_to_judge(library: Any) -> None:
    for option in ("fails_if='negative'", "fails_if='nonzero'", "fails_if='minus_one'", "error=ValueError"):
        text = f"@library.function({option})\ndef mirrored(p: Point) -> Point: ..."
        assert told(made, text, library=library) == (
            "DeclarationError: mirrored(): the result is no integer, so fails_if or error= cannot judge it"
        )
    text = "@library.function(fails_if='null')\ndef mirrored(p: Point) -> Point: ..."
    assert told(made, text, library=library) == ('DeclarationError: mirrored(): fails_if="null" needs a pointer result')

    @library.function(symbol="mirrored", fails_if=lambda point: point.x < 0, error=lambda code: ValueError(code))
    def checked(p: Point, /) -> Point: ...

    assert repr(checked(Point(1, 2))) == "Point(x=2.0, y=1.0)"
    assert told(checked, Point(1, -2)) == "ValueError: 0"


def test_results_are_made_without_new_and_init(library: Any) -> None:
    """As ctypes does: what C returns is no new value."""
    calls: list[str] = []

    class Own(Struct):
        x: f64
        y: f64

        def __init__(self, *given: float) -> None:
            calls.append("init")
            super().__init__(*given)

        @property
        def total(self) -> float:
            return self.x + self.y

    class New(Point):
        def __new__(cls, *given: object) -> Any:
            calls.append("new")
            raise KeyError("no instance")

    @library.function
    def mirrored(p: Point, /) -> Own: ...
    @library.function(symbol="mirrored")
    def mirrored_new(p: Point, /) -> New: ...

    given = Point(1, 2)
    result = mirrored(given)
    assert (type(result), result.total, calls) == (Own, 3.0, [])
    result = mirrored_new(given)
    assert (type(result), repr(result), calls) == (New, "New(x=2.0, y=1.0)", [])
    assert (repr(mirrored(New.from_buffer_copy(given))), calls) == ("Own(x=2.0, y=1.0)", [])


def test_finalizers_of_results_run_once(library: Any) -> None:
    gone: list[float] = []

    class Finalized(Struct):
        x: f64
        y: f64

        def __del__(self) -> None:
            gone.append(self.x)

    @library.function
    def mirrored(p: Point, /) -> Finalized: ...

    result = mirrored(Point(1, 2))
    result.x = 8
    assert gone == []
    del result
    gc.collect()
    assert gone == [8.0]
    mirrored(Point(1, 5))
    assert gone == [8.0, 5.0]


def test_huge_structs(library: Any) -> None:
    class Huge(Struct):
        bytes: Array[u8] = field(length=70_000)

    @library.function
    def filled(byte: u8, /) -> Huge: ...
    @library.function
    def huge_sum(huge: Huge, /) -> long: ...

    huge = filled(3)
    assert (bytes(huge) == b"\3" * 70_000, huge_sum(huge)) == (True, 210_000)
    huge.bytes[69_999] = 4
    assert huge_sum(huge) == 210_001
    assert "bytes=<" in repr(huge)
    assert told(huge_sum, None) == "TypeError: huge_sum() argument 1 must be Huge, not None"


def test_structs_without_bytes(library: Any) -> None:
    class Empty(Struct):
        pass

    assert (repr(Empty()), ctypes.sizeof(Empty)) == ("Empty()", 0)
    text = told(made, "@library.function\ndef after_empty(e: Empty, x: i32) -> i32: ...", Empty=Empty, library=library)
    assert (
        text
        == "DeclarationError: after_empty() parameter 'e': Empty has no members; only a pointer to it can be passed"
    )
    bare = structure("bare")
    if IS_WINDOWS:
        text = told(made, "@library.function\ndef after_empty(e: bare) -> None: ...", bare=bare, library=library)
        assert text == "DeclarationError: struct bare is empty and cannot be passed by value on x86_64-windows"
        return

    @library.function
    def after_empty(e: bare, x: i32, /) -> i32: ...  # type: ignore[valid-type]

    assert after_empty(bare(), 5) == 5


def test_aligned_members_travel(library: Any) -> None:
    class Aligned(Struct):
        c: i8
        value: i32 = field(align=16)

    @library.function
    def aligned_value(thing: Aligned, /) -> i32: ...

    for _ in range(50):
        assert aligned_value(Aligned(2, 40)) == 42


# -- pointers to structs ---------------------------------------------------------------------------------------------


def test_readable_and_writable_structs(library: Any) -> None:
    @library.function
    def is_null(p: Readable[Point] | None, /) -> i32: ...
    @library.function
    def sum_points(points: Readable[Point], count: usize, /) -> f64: ...
    @library.function(symbol="sum_points")
    def sum_pointer(points: Ptr[Point], count: usize, /) -> f64: ...
    @library.function
    def move(p: Writable[Point], x: f64, /) -> Status: ...

    one = Point(1, 2)
    points = (Point * 3)(one, one, Point(5, 5))

    class Sub(Point):
        z: f64

    assert (is_null(None), is_null(one)) == (1, 0)
    for function in (sum_points, sum_pointer):
        assert function(ctypes.byref(one), 1) == 3.0
        assert function(ctypes.pointer(one), 1) == 3.0
        assert function(points, 3) == 16.0
        assert function(ctypes.byref(points, 32), 1) == 10.0
    assert sum_points(one, 1) == 3.0
    assert sum_points(Sub(7, 8, 9), 1) == 15.0
    move(one, 4)
    move(ctypes.byref(one), 4)
    move(points[1], 10)
    assert (one.x, points[1].x, points[0].x) == (9.0, 11.0, 1.0)
    for wrong, kind in [
        (bytes(16), "bytes"),
        (bytearray(16), "bytearray"),
        (memoryview(bytes(16)), "memoryview"),
        ((1.0, 2.0), "tuple"),
        (Line(), "Line"),
        (ctypes.byref(Line()), "CArgObject"),
        (ctypes.pointer(Line()), "Ptr[Line]"),
        (ctypes.c_void_p(ctypes.addressof(one)), "c_void_p"),
        (1.5, "float"),
        ("x", "str"),
    ]:
        assert told(sum_points, wrong, 1) == (
            f"TypeError: sum_points() argument 1 must be a readable Point, not {kind}"
        )
        assert told(move, wrong, 1) == f"TypeError: move() argument 1 must be a writable Point, not {kind}"
        assert told(sum_pointer, wrong, 1) == f"TypeError: sum_pointer() argument 1 must be Ptr[Point], not {kind}"
    assert told(is_null, "x") == "TypeError: is_null() argument 1 must be a readable Point or None, not str"
    assert told(sum_pointer, one, 1) == "TypeError: sum_pointer() argument 1 must be Ptr[Point], not Point"
    for function, what in ((sum_points, "a readable Point"), (sum_pointer, "Ptr[Point]")):
        name = function.__name__
        assert told(function, None, 0) == f"TypeError: {name}() argument 1 must be {what}, not None"
        assert told(function, Ptr[Point](), 0) == f"TypeError: {name}() argument 1 must be {what}, not NULL"
        assert told(function, ctypes.addressof(one), 1) == (
            f"TypeError: {name}() argument 1 must be {what}, not int; for an address use "
            "ctypes.cast(address, Ptr[Point])"
        )


def test_an_array_of_a_larger_subclass_is_no_array_of_its_base(library: Any) -> None:
    @library.function
    def sum_points(points: Readable[Point], count: usize, /) -> f64: ...

    class Sub(Point):
        z: f64

    class Same(Point):
        pass

    subs = (Sub * 2)(Sub(1, 1, 100), Sub(1, 1, 100))
    assert sum_points((Same * 2)(Same(1, 2), Same(3, 4)), 2) == 10.0
    for wrong, kind in ((subs, "Sub_Array_2"), (ctypes.byref(subs), "CArgObject")):
        assert told(sum_points, wrong, 2) == f"TypeError: sum_points() argument 1 must be a readable Point, not {kind}"


def test_lists_of_structs_are_copied(library: Any) -> None:
    @library.function
    def sum_points(points: Readable[Point], count: usize, /) -> f64: ...
    @library.function(symbol="sum_points")
    def sum_writable(points: Writable[Point], count: usize, /) -> f64: ...
    @library.function(symbol="sum_points")
    def sum_pointer(points: Ptr[Point], count: usize, /) -> f64: ...

    class Sub(Point):
        z: f64

    one = Point(1, 2)
    assert (sum_points([one, Point(3, 4), one], 3), sum_points([], 0), sum_points([Sub(5, 6, 7), one], 2)) == (
        13,
        0,
        14,
    )
    assert (sum_points((Point * 0)(), 0), sum_points((Point * 3)(one)[0:2], 2)) == (0.0, 3.0)
    for wrong, kind in (
        (1.0, "float"),
        (None, "None"),
        ((1, 2), "tuple"),
        (Line(), "Line"),
        (ctypes.pointer(one), "Ptr[Point]"),
    ):
        assert (
            told(sum_points, [one, wrong], 2) == f"TypeError: sum_points() argument 1 item 1 must be Point, not {kind}"
        )
    assert told(sum_writable, [one], 1) == "TypeError: sum_writable() argument 1 must be a writable Point, not list"
    assert told(sum_pointer, [one], 1) == "TypeError: sum_pointer() argument 1 must be Ptr[Point], not list"


def test_results_that_are_pointers(library: Any) -> None:
    @library.function
    def first(p: Writable[Point] | None, /) -> Ptr[Point] | None: ...
    @library.function(symbol="first")
    def first_or_error(p: Writable[Point] | None, /) -> Ptr[Point]: ...

    one = Point(1, 2)
    pointer = first(one)
    assert pointer is not None
    pointer.contents.x = 9
    assert (one.x, pointer[0].y, first(None)) == (9.0, 2.0, None)
    assert told(first_or_error, None) == (
        "ValueError: first_or_error() returned NULL; declare the result `X | None` to get None"
    )


def test_structs_that_are_filled(library: Any) -> None:
    @library.function
    def midpoint(line: Readable[Line] | None, result: Out[Point], /) -> Status: ...
    @library.function(symbol="midpoint", error=lambda code: ValueError(code))
    def own_error(line: Readable[Line] | None, result: Out[Point], /) -> Status: ...
    @library.function(symbol="midpoint")
    def with_result(line: Readable[Line] | None, result: Out[Point], /) -> i32: ...

    line = Line(Point(0, 2), Point(4, 4))
    assert repr(midpoint(line)) == "Point(x=2.0, y=3.0)"
    assert repr(with_result(None)) == "(5, Point(x=7.0, y=0.0))"
    assert told(midpoint, None) == "CallError: midpoint() failed with status 5"
    assert told(own_error, None) == "ValueError: 5"


def test_an_out_that_fails_beside_a_result_in_memory(engine: str, path: str) -> None:
    """What was made is dropped, and nothing else: neither what C points to, nor what a character or pointer was."""
    out, _ = run_child(
        """
        import sys
        import callgate as cg
        from callgate import Out, Ptr, Struct, char, f64

        class Point(Struct):
            x: f64
            y: f64
        class Line(Struct):
            start: Point
            end: Point
        library = cg.load(sys.argv[1], "double first_kept(void);", engine=sys.argv[2])
        @library.function
        def outs(letter: Out[char], handle: Out[Ptr[Point]], text: Out[str]) -> Line: ...
        @library.function(symbol="outs", fails_if=lambda line: False, blocking=True)
        def judged(letter: Out[char], handle: Out[Ptr[Point]], text: Out[str]) -> Line: ...
        @library.function(symbol="outs", fails_if=lambda line: line.end.x == 3)
        def failed(letter: Out[char], handle: Out[Ptr[Point]], text: Out[bytes]) -> Line: ...
        @library.function(symbol="outs", fails_if=lambda line: False)
        def fits(letter: Out[char], handle: Out[Ptr[Point]], text: Out[bytes]) -> Line: ...
        for _ in range(100):
            for function, kind in ((outs, UnicodeDecodeError), (judged, UnicodeDecodeError), (failed, OSError)):
                try:
                    function()
                except kind:
                    assert library.first_kept() == 1
                else:
                    raise SystemExit("nothing raised")
            line, letter, handle, text = fits()
            assert (line.start.x, line.end.y, letter, handle[1].y, text) == (1, 4, b"x", 4, b"\\xff")
        print("kept")
        """,
        path,
        engine,
    )
    assert out == "kept\n"


# -- nothing is left -------------------------------------------------------------------------------------------------


def test_references_are_exact(engine: str, path: str) -> None:
    """100,000 calls of each kind; neither blocks nor memory grow."""
    out, _ = run_child(LEAKS, path, engine, "100000" if engine == "native" else "4000", timeout_s=300)
    assert out == "exact\n"


LEAKS = r"""
import ctypes, gc, sys
import callgate as cg
from callgate import Array, Out, Ptr, Readable, Status, Struct, f64, field, i32, u8, long
path, engine, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = cg.load(path, engine=engine)
class Point(Struct):
    x: f64
    y: f64
class Line(Struct):
    start: Point
    end: Point
class Small(Struct):
    c: cg.i8
    s: cg.i16
class Huge(Struct):
    bytes: Array[u8] = field(length=70_000)
class Own(Point):
    def __new__(cls, *given): return super().__new__(cls)
@library.function
def mirrored(p: Point) -> Point: ...
@library.function(symbol="mirrored")
def own(p: Point) -> Own: ...
@library.function
def swapped(p: Small) -> Small: ...
@library.function
def dot(a: Point, b: Point, /) -> f64: ...
@library.function
def midpoint(line: Readable[Line] | None, result: Out[Point], /) -> Status: ...
@library.function(symbol="midpoint", blocking=True)
def released(line: Readable[Line] | None, result: Out[Point], /) -> Status: ...
@library.function
def filled(byte: u8, /) -> Huge: ...
@library.function
def first(p: Ptr[Point], /) -> Ptr[Point]: ...
one, line, small, pointer = Point(1, 2), Line(), Small(1, 2), ctypes.pointer(Point())
def failing(function, *given):
    try:
        function(*given)
    except (TypeError, cg.CallError):
        return
    raise AssertionError(function)
calls = {
    "result": lambda: mirrored(one), "keyword": lambda: mirrored(p=one), "own": lambda: own(one),
    "small": lambda: swapped(small), "refused": lambda: failing(dot, one, 5),
    "refused first": lambda: failing(dot, None, one), "filled": lambda: midpoint(line),
    "failed": lambda: failing(midpoint, None), "released": lambda: released(line), "failed released": lambda: failing(released, None),
    "pointer": lambda: first(pointer),
}
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
huge = {"huge": lambda: filled(1)}
for name, call in [*calls.items(), *huge.items()]:
    count = rounds if name in calls else rounds // 100
    for _ in range(50): call()
    things = [one, line, small, pointer, Point, Own, Line, Huge]
    gc.collect()
    references, blocks, memory = [sys.getrefcount(thing) for thing in things], sys.getallocatedblocks(), resident()
    for _ in range(count): call()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == references, name
    assert abs(sys.getallocatedblocks() - blocks) < 100, (name, sys.getallocatedblocks() - blocks)
    assert resident() - memory < 4 << 20, (name, resident() - memory)
print("exact")
"""


# -- not one byte beyond ---------------------------------------------------------------------------------------------

EDGE_SIZES = [*range(1, 18), 24, 33, 40]
EDGE_SOURCE = "#include <stdarg.h>\n" + "".join(
    f"""
struct bytes{size} {{ unsigned char b[{size}]; }};
long sum{size}(struct bytes{size} s) {{ long sum = 0; for (int i = 0; i < {size}; i++) sum += s.b[i]; return sum; }}
long late{size}(long a, long b, long c, long d, long e, long f, struct bytes{size} s) {{ return a + b + c + d + e + f + sum{size}(s); }}
long any{size}(int n, ...) {{ va_list l; va_start(l, n); struct bytes{size} s = va_arg(l, struct bytes{size}); va_end(l); return sum{size}(s) + n; }}
"""
    for size in EDGE_SIZES
)
EDGE_SOURCE += """
struct floats1 { float f[1]; }; float fsum1(struct floats1 s) { return s.f[0]; }
struct floats3 { float f[3]; }; float fsum3(struct floats3 s) { return s.f[0] + s.f[1] + s.f[2]; }
struct mixed { double d; char c; } __attribute__((packed)); double fmixed(struct mixed s) { return s.d + s.c; }
"""
EDGE = r"""
import ctypes, mmap, sys
import callgate as cg
from callgate import Array, Struct, VarArg, f32, f64, field, i8, i32, long, u8
path, engine, sizes = sys.argv[1], sys.argv[2], eval(sys.argv[3])
library = cg.load(path, engine=engine)
if sys.platform == "win32":
    protect = ctypes.WinDLL("kernel32").VirtualProtect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    def forbid(address, size): return protect(address, size, 1, ctypes.byref(ctypes.c_int()))
else:
    mprotect = ctypes.CDLL(None).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    def forbid(address, size): return not mprotect(address, size, 0)
pages = mmap.mmap(-1, 3 * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
for page in (0, 2):
    assert forbid(start + page * mmap.PAGESIZE, mmap.PAGESIZE)
first, end = start + mmap.PAGESIZE, start + 2 * mmap.PAGESIZE
class Floats1(Struct):
    f: Array[f32] = field(length=1)
class Floats3(Struct):
    f: Array[f32] = field(length=3)
class Mixed(Struct, pack=1):
    d: f64
    c: i8
@library.function
def fsum1(s: Floats1) -> f32: ...
@library.function
def fsum3(s: Floats3) -> f32: ...
@library.function
def fmixed(s: Mixed) -> f64: ...
for size in sizes:
    class Bytes(Struct):
        b: Array[u8] = field(length=size)
    @library.function(symbol=f"sum{size}")
    def total(s: Bytes, /) -> long: ...
    @library.function(symbol=f"sum{size}", blocking=True)
    def released(s: Bytes, /) -> long: ...
    @library.function(symbol=f"late{size}")
    def late(a: long, b: long, c: long, d: long, e: long, f: long, s: Bytes, /) -> long: ...
    @library.function(symbol=f"any{size}")
    def variable(n: i32, *args: VarArg) -> long: ...
    for address in (first, end - size):
        thing = Bytes.from_address(address)
        for index in range(size): thing.b[index] = index + 1
        expected = size * (size + 1) // 2
        given = total(thing), released(thing), late(1, 2, 3, 4, 5, 6, thing), variable(1, thing), variable(2, thing)
        assert given == (expected, expected, expected + 21, expected + 1, expected + 2), (size, given)
for cls, function, given, expected in ((Floats1, fsum1, (1.5,), 1.5), (Floats3, fsum3, (1, 2, 4), 7.0)):
    thing = cls.from_address(end - ctypes.sizeof(cls))
    thing.f[:] = given
    assert function(thing) == expected
thing = Mixed.from_address(end - 9)
thing.d, thing.c = 2.5, 4
assert fmixed(thing) == 6.5
print("unharmed", flush=True)
import os
os._exit(0)
"""


def test_no_byte_beyond_a_struct_is_read(engine: str, build_library: Callable[..., Path]) -> None:
    path = str(build_library(EDGE_SOURCE))
    out, _ = run_child(EDGE, path, engine, repr(EDGE_SIZES))
    assert out == "unharmed\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated late from 3.14 on")
def test_a_member_that_points_to_its_own_struct_without_quotes() -> None:
    scope: dict[str, Any] = {"Struct": cg.Struct, "Ptr": cg.Ptr, "i32": cg.i32}
    program = "class node(Struct):\n    value: i32\n    next: Ptr[node]\nclass pair(Struct):\n    first: node\n"
    exec(compile(program, "late", "exec", dont_inherit=True), scope)
    tail = scope["node"](2)
    head = scope["node"](1, ctypes.pointer(tail))
    assert head.next[0].value == 2
    assert ctypes.sizeof(scope["pair"]) == 16
