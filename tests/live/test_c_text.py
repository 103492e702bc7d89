"""C text that declares structs, function pointers, variable arguments and variables: used as a program uses it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from here import IS_WINDOWS, posix_only
from telling import told

import callgate as cg
from callgate import Ptr, Readable, Struct, Union, f64, i32
from callgate.c.declarations import parse
from callgate.c.layout import record_layout
from callgate.target import DATA_MODEL

SOURCE = r"""
#include <stdarg.h>
#include <stddef.h>

typedef struct point { int x, y; } pair;
pair swapped(pair p) { pair r = { p.y, p.x }; return r; }
int sum_of(const struct point *points, int count) {
    int sum = 0;
    for (int i = 0; i < count; i++) sum += points[i].x * 10 + points[i].y;
    return sum;
}
void move(struct point *p, int by) { p->x += by; p->y -= by; }
static struct point kept = { 1, 2 };
struct point *keep(int x) { kept.x = x; return &kept; }
void which(struct point **out) { *out = &kept; }

struct node { struct node *next; int value; };
int length(struct node *n) { int count = 0; for (; n; n = n->next) count++; return count; }

union word { int i; float f; };
struct owner { struct owned *first; union word *word; int id; };
struct owned { struct owner *owner; int id; };
int owner_of(struct owned o) { return o.owner->id * 100 + o.owner->first->id * 10 + o.owner->word->i; }

struct nested { struct { int a; union { int b; float c; }; } inner; struct { long d; }; struct point row[2]; int m[2][3]; };
double nested_sum(struct nested n) {
    return n.inner.a + 10 * n.inner.b + 100.0 * n.d + 1000 * n.row[1].y + 10000 * n.m[1][2];
}

struct bits { int a : 3; unsigned b : 5; int : 4; int c : 2; int : 0; int d : 1; _Bool e : 1; };
int bit_sum(struct bits b) { return b.a + 10 * b.b + 1000 * b.c + 10000 * b.d + 100000 * b.e; }
struct bits bits_made(int a) { struct bits b = { a, 31, 1, -1, 1 }; return b; }

struct __attribute__((packed)) packed { char a; long long b; };
long long packed_sum(struct packed p) { return p.a + p.b; }
struct aligned { char a; int b __attribute__((aligned(16))), c; };
long aligned_sum(struct aligned p) { return p.a + 10 * p.b + 100 * p.c; }

struct car { enum color { RED, GREEN = 5 } color; enum { OLD = 9 } age; };
int car_of(struct car c) { return c.color * 10 + c.age; }

typedef int (*operation)(int, int);
static int add(int a, int b) { return a + b; }
static int subtract(int a, int b) { return a - b; }
operation operation_of(char name) { return name == '+' ? add : name == '-' ? subtract : NULL; }
int apply(operation f, int a, int b) { return f ? f(a, b) : -1; }
struct operations { operation add; void (*done)(void *data); void *data; };
int run(struct operations *o, int a, int b) { int sum = o->add(a, b); if (o->done) o->done(o->data); return sum; }
int run_value(struct operations o, int a, int b) { return run(&o, a, b); }
int each(int (*visit)(struct point p, void *data), void *data, int count) {
    int sum = 0;
    for (int i = 0; i < count; i++) { struct point p = { i, -i }; sum += visit(p, data); }
    return sum;
}

int total(int count, ...) {
    va_list list;
    va_start(list, count);
    int sum = 0;
    while (count--) sum += va_arg(list, int);
    va_end(list);
    return sum;
}

int answer = 42;
struct point origin = { 3, 4 };
int table[4] = { 1, 2, 3, 4 };
double matrix[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
const char *words[] = { "one", "two", NULL };
operation current = subtract;
int read_answer(void) { return answer; }
int run_current(int a, int b) { return current(a, b); }
"""

TEXT = """
typedef struct point { int x, y; } pair;
pair swapped(pair p);
int sum_of(const struct point *points, int count);
void move(struct point *p, int by);
struct point *keep(int x);
void which(struct point **out);
"""


@pytest.fixture(scope="session")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


@pytest.fixture
def load(path: str, engine: str) -> Callable[..., Any]:
    """`load` for the library above, on the engine under test."""

    def declared(*declarations: Any) -> Any:
        return cg.load(path, *declarations, engine=engine)

    return declared


# -- structs ------------------------------------------------------------------------------------------------


def test_a_struct_of_the_text_is_a_class(load: Any) -> None:
    lib = load(TEXT)
    assert issubclass(lib.point, Struct) and lib.point is lib.pair is lib["point"]
    assert repr(lib.point(1, y=2)) == "point(x=1, y=2)"
    assert ctypes.sizeof(lib.point) == 8
    swapped = lib.swapped(lib.point(1, 2))
    assert (type(swapped), swapped.x, swapped.y) == (lib.point, 2, 1)
    assert sorted(dir(lib)) == sorted(["function", "keep", "move", "pair", "point", "sum_of", "swapped", "which"])


def test_structs_by_pointer(load: Any) -> None:
    lib = load(TEXT)
    point = lib.point(5, 7)
    lib.move(point, 2)
    lib.move(ctypes.byref(point), 1)
    assert (point.x, point.y) == (8, 4)
    assert lib.sum_of((lib.point * 2)(lib.point(1, 2), lib.point(3, 4)), 2) == 46
    assert lib.sum_of([lib.point(1, 2), lib.point(3, 4)], 2) == 46
    assert lib.sum_of(None, 0) == 0
    assert lib.keep(9).contents.x == 9
    out = ctypes.POINTER(lib.point)()
    lib.which(out)
    assert (out.contents.x, out.contents.y) == (9, 2)
    assert told(lib.swapped, (1, 2)) == "TypeError: swapped() argument 1 must be point, not tuple"
    assert told(lib.swapped, None) == "TypeError: swapped() argument 1 must be point, not None"
    assert told(lib.sum_of, b"12345678", 1) == (
        "TypeError: sum_of() argument 1 must be a readable point or None, not bytes"
    )


def test_each_load_has_classes_of_its_own(load: Any) -> None:
    one, other = load(TEXT), load(TEXT)
    assert one.point is not other.point
    assert told(one.swapped, other.point(1, 2)) == "TypeError: swapped() argument 1 must be point, not point"


def test_a_struct_that_points_to_itself(load: Any) -> None:
    lib = load("struct node { struct node *next; int value; }; int length(struct node *n);")
    last = lib.node(None, 1)
    first = lib.node(ctypes.pointer(last), 2)
    assert (lib.length(first), lib.length(last), lib.length(None)) == (2, 1, 0)
    assert type(first.next.contents) is lib.node and first.next.contents.value == 1


def test_structs_that_point_to_each_other_before_they_are_defined(load: Any) -> None:
    lib = load(
        """union word; struct owned;
        struct owner { struct owned *first; union word *word; int id; };
        union word { int i; float f; };
        struct owned { struct owner *owner; int id; };
        int owner_of(struct owned o);"""
    )
    assert issubclass(lib.word, Union) and issubclass(lib.owned, Struct) and issubclass(lib.owner, Struct)
    word, owned = lib.word(i=7), lib.owned(None, 5)
    owner = lib.owner(ctypes.pointer(owned), ctypes.pointer(word), 3)
    owned.owner = ctypes.pointer(owner)
    assert lib.owner_of(owned) == 357
    assert type(owner.word.contents) is lib.word and type(owner.first.contents) is lib.owned
    assert repr(lib.owned(None, 5)).endswith(", id=5)")


@pytest.mark.parametrize(
    "text",
    [
        "struct point; int sum_of(const struct point *p, int n); struct point swapped(struct point p); struct point { int x, y; };",
        "typedef struct point pair; int sum_of(const pair *p, int n); pair swapped(pair p); struct point { int x, y; };",
        "typedef struct point *at; int sum_of(const at p, int n); struct point { int x, y; } swapped(struct point p);",
    ],
)  # fmt: skip
def test_a_struct_may_be_declared_after_its_use(load: Any, text: str) -> None:
    lib = load(text)
    assert lib.sum_of(lib.point(3, 4), 1) == 34
    assert repr(lib.swapped(lib.point(1, 2))) == "point(x=2, y=1)"


def test_nested_and_anonymous_members(load: Any) -> None:
    lib = load(
        """struct point { int x, y; };
        struct nested { struct { int a; union { int b; float c; }; } inner; struct { long d; }; struct point row[2]; int m[2][3]; };
        double nested_sum(struct nested n);"""
    )
    nested = lib.nested()
    nested.inner.a, nested.inner.b, nested.d = 1, 2, 3
    nested.row[1] = lib.point(0, 4)
    nested.m[1][2] = 5
    assert lib.nested_sum(nested) == 54321
    nested.inner.c = 1.0
    assert nested.inner.b == 0x3F800000
    assert (type(nested.row[0]), len(nested.row), len(nested.m), len(nested.m[0])) == (lib.point, 2, 2, 3)
    assert sorted(set(dir(lib)) - {"function"}) == ["nested", "nested_sum", "point"]


def test_bit_fields(load: Any) -> None:
    lib = load(
        """struct bits { int a : 3; unsigned b : 5; int : 4; int c : 2; int : 0; int d : 1; _Bool e : 1; };
        int bit_sum(struct bits b); struct bits bits_made(int a);"""
    )
    assert lib.bit_sum(lib.bits(1, 2, -1, -1, True)) == 1 + 20 - 1000 - 10000 + 100000
    assert lib.bit_sum(lib.bits(a=-4, e=True)) == 99996
    made = lib.bits_made(-3)
    assert (made.a, made.b, made.c, made.d, made.e) == (-3, 31, 1, -1, True)
    assert repr(made) == "bits(a=-3, b=31, c=1, d=-1, e=True)"
    assert (ctypes.sizeof(lib.bits), told(lib.bits, 1, 2, 3, 0, 1, 6)) == (
        12 if IS_WINDOWS else 8,
        "TypeError: too many initializers",
    )


@pytest.mark.parametrize(
    "text",
    [
        "struct __attribute__((packed)) packed { char a; long long b; }; long long packed_sum(struct packed p);",
        "struct packed { char a; long long b; } __attribute__((packed)); long long packed_sum(struct packed p);",
        "typedef struct { char a; long long b; } __packed packed; long long packed_sum(packed p);",
    ],
)
def test_packed_structs(load: Any, text: str) -> None:
    lib = load(text)
    assert (ctypes.sizeof(lib.packed), lib.packed_sum(lib.packed(b"\1", 1 << 40))) == (9, (1 << 40) + 1)


def test_aligned_members(load: Any) -> None:
    lib = load("struct aligned { char a; int b __attribute__((aligned(16))), c; }; long aligned_sum(struct aligned p);")
    assert (ctypes.sizeof(lib.aligned), lib.aligned_sum(lib.aligned(b"\1", 2, 3))) == (32, 321)


def test_enums_inside_structs(load: Any) -> None:
    lib = load("struct car { enum color { RED, GREEN = 5 } color; enum { OLD = 9 } age; }; int car_of(struct car c);")
    assert lib.car_of(lib.car(lib.GREEN, lib.OLD)) == 59
    assert (lib.RED, lib.car(lib.GREEN, 0).color) == (0, 5)


def test_structs_of_the_standard_library(engine: str) -> None:
    libc = cg.load("c", "div_t div(int a, int b); ldiv_t ldiv(long a, long b);", engine=engine)
    assert (repr(libc.div(17, 5)), repr(libc.ldiv(-17, 5))) == ("div_t(quot=3, rem=2)", "ldiv_t(quot=-3, rem=-2)")


# -- function pointers --------------------------------------------------------------------------------------

OPERATIONS = """
typedef int (*operation)(int, int);
operation operation_of(char name);
int apply(operation f, int a, int b);
struct operations { operation add; void (*done)(void *data); void *data; };
int run(struct operations *o, int a, int b);
int run_value(struct operations o, int a, int b);
"""


@cg.callback
def multiply(a: i32, b: i32) -> i32:
    return a * b


def test_function_pointers_as_parameters_and_results(load: Any) -> None:
    lib = load(OPERATIONS)
    add = lib.operation_of(b"+")
    assert (add(2, 3), lib.operation_of(b"-")(2, 3), lib.operation_of(b"?")) == (5, -1, None)
    assert (lib.apply(add, 4, 5), lib.apply(multiply, 4, 5), lib.apply(None, 4, 5)) == (9, 20, -1)
    assert told(lib.apply, max, 4, 5) == (
        "TypeError: apply() argument 1 must be a callback or a gate or None, not builtin_function_or_method; "
        "C keeps it: decorate it with @callgate.callback and keep a reference"
    )


def test_function_pointers_as_members(load: Any) -> None:
    lib = load(OPERATIONS)
    seen: list[int] = []

    @cg.callback
    def done(data: Ptr[i32] | None) -> None:
        seen.append(data[0] if data else -1)

    number = ctypes.c_int(8)
    operations = lib.operations(multiply, done, ctypes.addressof(number))
    assert (lib.run(operations, 6, 7), lib.run_value(operations, 2, 3), seen) == (42, 6, [8, 8])
    assert (operations.add, operations.done) == (multiply.address, done.address)
    operations.add, operations.done = lib.operation_of(b"-"), None
    assert (lib.run(operations, 6, 7), seen, operations.done) == (-1, [8, 8], None)
    assert told(setattr, operations, "add", max) == (
        "TypeError: add must be a callback, a gate or a function pointer, not builtin_function_or_method"
    )


def test_a_callback_takes_structs_of_the_text(load: Any) -> None:
    lib = load("struct point { int x, y; }; int each(int (*visit)(struct point p, void *data), void *data, int count);")
    seen = []

    @cg.callback
    def visit(p: lib.point, data: Ptr[None] | None) -> i32:
        seen.append((type(p), p.x, p.y, data))
        return int(p.x)

    assert lib.each(visit, None, 3) == 3
    assert seen == [(lib.point, number, -number, None) for number in range(3)]


def test_variable_arguments(load: Any) -> None:
    lib = load("int total(int count, ...);")
    assert (lib.total(0), lib.total(3, 1, 2, 3), lib.total(1, True)) == (0, 6, 1)
    assert told(lib.total) == "TypeError: total() takes at least 1 argument (0 given)"
    assert told(lib.total, 1, 1 << 31).startswith("OverflowError: total() argument 2 ")


# -- variables ----------------------------------------------------------------------------------------------


def test_variables(load: Any) -> None:
    lib = load(
        """struct point { int x, y; }; typedef int (*operation)(int, int);
        extern int answer; extern struct point origin; extern int table[4]; extern double matrix[2][3];
        extern const char *words[]; extern operation current; extern int nowhere;
        int read_answer(void); int run_current(int a, int b); int sum_of(const struct point *points, int count);"""
    )
    assert lib.answer.value == lib.read_answer() == 42
    lib.answer.value = 43
    assert lib.read_answer() == 43
    lib.answer.value = 42
    assert (type(lib.origin), lib.origin.x, lib.sum_of(lib.origin, 1)) == (lib.point, 3, 34)
    assert (list(lib.table), [list(row) for row in lib.matrix]) == ([1, 2, 3, 4], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert [ctypes.cast(lib.words[i], ctypes.c_char_p).value for i in range(3)] == [b"one", b"two", None]
    assert lib.answer is lib.answer is lib["answer"]
    before = lib.current.value
    lib.current.value = multiply.address
    assert lib.run_current(6, 7) == 42
    lib.current.value = before
    assert lib.run_current(6, 7) == -1
    assert " has no symbol 'nowhere'" in told(lambda: lib.nowhere)


@posix_only("environ is a variable")
def test_the_environment_of_the_process(engine: str) -> None:
    """Where the interpreter's program names it, as Debian's do, libc's own lies unused."""
    libc = cg.load("c", "extern char **environ; char *getenv(const char *name);", engine=engine)
    assert type(libc.environ) is ctypes.POINTER(ctypes.POINTER(ctypes.c_char))
    first = ctypes.cast(libc.environ[0], ctypes.c_char_p).value
    assert first is not None and b"=" in first
    name, _, value = first.partition(b"=")
    assert ctypes.cast(libc.getenv(name), ctypes.c_char_p).value == value


# -- mistakes -----------------------------------------------------------------------------------------------


def test_a_redefinition_that_differs(load: Any) -> None:
    text = "struct point { int x, y; };\nint sum_of(const struct point *p, int n);\nstruct point { int x; };"
    with pytest.raises(cg.DeclarationError) as caught:
        load(text)
    assert str(caught.value) == (
        "line 3, column 8: 'struct point' is declared twice, with different members (line 1)\n"
        "    struct point { int x; };\n           ^"
    )
    assert load(text.replace("{ int x; }", "{ int x, y; }")).sum_of(None, 0) == 0


def test_a_refused_function_leaves_the_rest_usable(load: Any) -> None:
    lib = load("struct point; struct point swapped(struct point p);\nint read_answer(void);\nextern _Float128 answer;")
    assert lib.read_answer() == 42
    with pytest.raises(cg.DeclarationError) as caught:
        lib.swapped
    assert str(caught.value).splitlines()[0] == (
        "line 1, column 28: swapped() parameter 1 is 'struct point': this version of callgate cannot pass structs by "
        "value whose members are not declared"
    )
    assert told(lambda: lib.answer).startswith(
        "DeclarationError: line 3, column 18: 'answer' is '_Float128': this version of callgate cannot hold"
    )


# -- a Protocol that types the text -------------------------------------------------------------------------


class point(Struct):
    x: i32
    y: i32


class solid(Struct):
    x: f64
    y: f64


def test_a_protocol_types_structs_of_the_text(load: Any) -> None:
    class Typed(Protocol):
        def swapped(self, p: point, /) -> point: ...
        def sum_of(self, points: Readable[point] | None, count: i32, /) -> i32: ...
        def keep(self, x: i32, /) -> Ptr[point]: ...

    lib = load(TEXT, Typed)
    swapped = lib.swapped(point(1, 2))
    assert (type(swapped), swapped.x, swapped.y) == (point, 2, 1)
    assert lib.sum_of((point * 2)(point(1, 2), point(3, 4)), 2) == 46
    assert type(lib.keep(4)) is ctypes.POINTER(point)
    of_text = lib.point(5, 6)
    lib.move(of_text, 1)  # as the text says
    assert (of_text.x, of_text.y) == (6, 5)
    assert told(lib.swapped, of_text) == "TypeError: swapped() argument 1 must be point, not point"


def test_a_protocol_with_another_struct(load: Any) -> None:
    class Typed(Protocol):
        def swapped(self, p: solid, /) -> point: ...
        def sum_of(self, points: Readable[point], count: f64, /) -> i32: ...

    lib = load(TEXT, Typed)
    assert told(lambda: lib.swapped) == (
        "DeclarationError: swapped(): parameter 1 is struct solid in the Protocol, but pair in the C text"
    )
    assert told(lambda: lib.sum_of) == (
        "DeclarationError: sum_of(): parameter 2 is double in the Protocol, but int in the C text"
    )


def test_a_protocol_types_function_pointers_and_variable_arguments(load: Any) -> None:
    class Typed(Protocol):
        def apply(self, f: cg.Callback[[i32, i32], i32] | None, a: i32, b: i32, /) -> i32: ...
        def total(self, count: i32, *rest: cg.VarArg) -> i32: ...

    lib = load(OPERATIONS + "int total(int count, ...);", Typed)
    assert (lib.apply(multiply, 6, 7), lib.apply(None, 6, 7), lib.total(2, 3, 4)) == (42, -1, 7)


# -- places, as the compiler has them -----------------------------------------------------------------------

LAYOUTS = [
    "struct s { char a; long b; short c; };",
    "struct __attribute__((packed)) s { char a; long b; short c; };",
    "struct s { char a; long b; short c; } __attribute__((packed, aligned(4)));",
    "struct __attribute__((aligned(32))) s { char a; };",
    "struct s { char a; int b, c __attribute__((aligned(16))), d; };",
    "struct s { char a; __attribute__((aligned(16))) char b, c; };",
    "struct s { char a; int __attribute__((aligned(16))) b, c; };",
    "struct s { char a; int *__attribute__((aligned(32))) b, *c; };",
    "struct s { char a; int (*b)(int, int), (*c)(int) __attribute__((aligned(32))), *d; };",
    "struct s { char a; _Alignas(16) char b; _Alignas(double) char c; };",
    "struct s { char a; char b __attribute__((aligned(sizeof(long)))); char c __attribute__((aligned)); };",
    "struct s { char a; struct { char x; long y; } __attribute__((packed)) b; struct __attribute__((packed)) { char x; int y; } c; };",
    "struct s { char a; struct { char x; } __attribute__((aligned(16))) b, c; struct { char x; } d __attribute__((aligned(32))); };",
    "struct s { int a;; char b; int c __attribute__((aligned(16))); enum { A, B } d; };",
    "struct s { char a; enum __attribute__((packed)) { A, B = 300 } b; char c; enum { C } __attribute__((packed)) d; };",
    "struct s { int a : 3; unsigned b : 5; int : 4; int c : 2; int : 0; int d : 1; _Bool e : 1; };",
    "struct s { char a; long long b : 40; int c : 20; short d : 9; char e; };",
    pytest.param(
        "struct __attribute__((packed)) s { char a; long long b : 40; int c : 20; short : 0; short d : 9; char e; };",
        marks=pytest.mark.skipif(IS_WINDOWS, reason="gcc aligns it as `short : 0`; Microsoft's compiler has no such attribute"),
    ),
    "struct s { char a : 4; int b : 7 __attribute__((aligned(8))), c : 9; };",
    "union s { char a; int b : 20; short c[3]; };",
    "struct s { char a; union { short b; struct { char c, d; }; }; char e[3]; };",
    "struct in { char x; int y; }; struct s { char a; struct in b[3]; struct in *c; char d[sizeof(struct in)]; };",
    "struct s { char a; long double b; char c; float _Complex d; double _Complex e; __int128 f; };",
    "struct s { char a; double b[]; };",
]  # fmt: skip


def reached(text: str) -> list[tuple[str, int, int]]:
    """The members of `struct s` or `union s` that have a name, with the first and the end of their bits."""
    record = parse(text, DATA_MODEL).records["s"]
    found = []

    def walk(record: Any, base: int) -> None:
        for place in record_layout(record, DATA_MODEL).places:
            member = place.member
            if member.is_anonymous:
                walk(member.type, base + place.bit_offset)
            elif member.name:
                bits = member.bits
                if bits is None:
                    one = type(record)("one", "struct", (member._replace(align_bytes=0),), 1)
                    bits = 8 * record_layout(one, DATA_MODEL).size_bytes
                found.append((member.name, base + place.bit_offset, base + place.bit_offset + bits))

    walk(record, 0)
    return found


@pytest.mark.parametrize("text", LAYOUTS)
def test_members_lie_where_the_compiler_puts_them(build_library: Callable[..., Path], text: str) -> None:
    members = reached(text)
    keyword = "union" if text.startswith("union") else "struct"
    ones = "".join(
        f"case {number}: " + (f"x.{name} = -1;" if f"{name} : " in text else f"memset(&x.{name}, 255, sizeof x.{name});") + " break;"
        for number, (name, first, end) in enumerate(members)
        if end > first
    )  # fmt: skip
    library = build_library(
        f"#include <string.h>\n{text}\n"
        f"int size(void) {{ return sizeof({keyword} s); }}\nint alignment(void) {{ return _Alignof({keyword} s); }}\n"
        f"void ones(int member, unsigned char *to) {{ {keyword} s x; memset(&x, 0, sizeof x);\n"
        f"switch (member) {{ {ones} }}\nmemcpy(to, &x, sizeof x); }}"
    )
    lib = cg.load(library, "int size(void); int alignment(void); void ones(int member, unsigned char *to);")
    layout = record_layout(parse(text, DATA_MODEL).records["s"], DATA_MODEL)
    assert (layout.size_bytes, layout.align_bytes) == (lib.size(), lib.alignment())
    for number, (name, first, end) in enumerate(members):
        memory = bytearray(lib.size())
        lib.ones(number, memory)
        if "long double" in text and name == "b":
            memory[first // 8 : end // 8] = b"\xff" * ((end - first) // 8)  # all of it, padding too
        assert int.from_bytes(memory, "little") == (1 << end) - (1 << first), name
