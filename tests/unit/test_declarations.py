"""C text: what is understood, what is refused and how the refusal reads, and that nothing else ever comes out."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callgate.c.declarations import Declarations, parse, parse_function
from callgate.c.types import (
    CHAR,
    DOUBLE,
    INT,
    INT32,
    LONG,
    SHORT,
    SIGNED_CHAR,
    UNSIGNED_CHAR,
    UNSIGNED_INT,
    UNSIGNED_LONG,
    UNSIGNED_SHORT,
    VOID,
    VOID_POINTER,
    Array,
    Enumeration,
    FunctionPrototype,
    FunctionType,
    Parameter,
    Passing,
    Pointer,
    Record,
    Result,
    Returning,
    declaration,
    spell,
)
from callgate.errors import DeclarationError
from callgate.target import X86_64_LINUX


def read(text: str) -> Declarations:
    return parse(text, X86_64_LINUX)


def flat(function: FunctionType) -> list[str]:
    """A function as a list: its prototype in canonical C, then how each part crosses."""
    return [
        declaration(function),
        *(p.passing.name for p in function.parameters),
        f"-> {function.result.returning.name}",
    ]


def failure(text: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        read(text)
    return caught.value


# --- passing -----------------------------------------------------------------------------------------------

UNDERSTOOD = [
    # scalars
    ("double hypot(double x, double y);", ["double hypot(double x, double y)", "VALUE", "VALUE", "-> VALUE"]),
    ("int f(void);", ["int f(void)", "-> VALUE"]),
    ("int f();", ["int f(void)", "-> VALUE"]),
    ("void f(char c);", ["void f(char c)", "VALUE", "-> NOTHING"]),
    ("long unsigned int f(short int a, signed b);", ["unsigned long f(short a, int b)", "VALUE", "VALUE", "-> VALUE"]),
    ("long long int f(unsigned long long a);", ["long long f(unsigned long long a)", "VALUE", "-> VALUE"]),
    ("int f(const int a, volatile long b);", ["int f(int a, long b)", "VALUE", "VALUE", "-> VALUE"]),
    ("bool f(wchar_t w, _Bool b);", ["_Bool f(wchar_t w, _Bool b)", "VALUE", "VALUE", "-> VALUE"]),
    ("int32_t f(uint8_t a, size_t b);", ["int32_t f(uint8_t a, size_t b)", "VALUE", "VALUE", "-> VALUE"]),
    (
        "off_t f(pid_t p, mode_t m, ssize_t s, time_t t);",
        ["long f(int32_t p, uint32_t m, ssize_t s, long t)", *["VALUE"] * 4, "-> VALUE"],
    ),
    (
        "float_t f(double_t a, _Float64 b, _Float32 c);",
        ["float f(double a, double b, float c)", *["VALUE"] * 3, "-> VALUE"],
    ),
    # strings and memory
    ("int f(const char *s);", ["int f(const char *s)", "STRING", "-> VALUE"]),
    ("int f(char const *const s);", ["int f(const char *s)", "STRING", "-> VALUE"]),
    ("int f(const wchar_t *s);", ["int f(const wchar_t *s)", "WIDE_STRING", "-> VALUE"]),
    ("int f(char *s);", ["int f(char *s)", "WRITABLE", "-> VALUE"]),
    ("int f(const signed char *s);", ["int f(const signed char *s)", "READABLE", "-> VALUE"]),
    ("int f(const void *p, void *q);", ["int f(const void *p, void *q)", "READABLE", "WRITABLE", "-> VALUE"]),
    ("int f(const double *p, double *q);", ["int f(const double *p, double *q)", "READABLE", "WRITABLE", "-> VALUE"]),
    (
        "int f(const char **p, char *const *q);",
        ["int f(const char **p, char *const *q)", "WRITABLE", "READABLE", "-> VALUE"],
    ),
    (
        "int f(double x[], const double y[3]);",
        ["int f(double *x, const double y[3])", "WRITABLE", "READABLE", "-> VALUE"],
    ),
    (
        "int f(int n, double x[n], int y[static 4]);",
        ["int f(int n, double *x, int y[4])", "VALUE", "WRITABLE", "WRITABLE", "-> VALUE"],
    ),
    (
        "int f(int n, int m, double x[n * m], int y[*]);",
        ["int f(int n, int m, double *x, int *y)", "VALUE", "VALUE", "WRITABLE", "WRITABLE", "-> VALUE"],
    ),
    (
        "typedef unsigned char id_[16]; int f(const id_ a, id_ b);",
        ["int f(const unsigned char a[16], unsigned char b[16])", "READABLE", "WRITABLE", "-> VALUE"],
    ),
    # records
    ("int f(struct s *a, const union u *b);", ["int f(struct s *a, const union u *b)", "HANDLE", "HANDLE", "-> VALUE"]),
    ("typedef struct s t; int f(t *a, t **b);", ["int f(t *a, t **b)", "HANDLE", "WRITABLE", "-> VALUE"]),
    ("typedef struct { int x, y : 3; } p; p *f(p *a);", ["p *f(p *a)", "WRITABLE", "-> HANDLE"]),
    (
        "struct s { int x; }; struct s f(struct s a, const struct s *b);",
        ["struct s f(struct s a, const struct s *b)", "VALUE", "READABLE", "-> VALUE"],
    ),
    (
        "union u { int x; float y; }; union u f(union u a, union u **b);",
        ["union u f(union u a, union u **b)", "VALUE", "WRITABLE", "-> VALUE"],
    ),
    (
        "typedef struct s { int x; } t; t f(struct s a, t *b);",
        ["t f(struct s a, t *b)", "VALUE", "WRITABLE", "-> VALUE"],
    ),
    (
        "typedef struct { int x; } t, *tp; t f(tp a, const t b[2]);",
        ["t f(t *a, const t *b)", "WRITABLE", "READABLE", "-> VALUE"],
    ),
    ("struct s { int x; } f(struct s a);", ["struct s f(struct s a)", "VALUE", "-> VALUE"]),
    ("struct s { int x; } f(struct t { int y; } a);", ["struct s f(struct t a)", "VALUE", "-> VALUE"]),
    ("div_t f(ldiv_t a, lldiv_t b);", ["div_t f(ldiv_t a, lldiv_t b)", "VALUE", "VALUE", "-> VALUE"]),
    ("struct s { int n; double x[]; }; int f(struct s a);", ["int f(struct s a)", "VALUE", "-> VALUE"]),
    # records whose members are declared after the function
    (
        "struct s; int f(struct s *a, struct s b); struct s { int x; };",
        ["int f(struct s *a, struct s b)", "WRITABLE", "VALUE", "-> VALUE"],
    ),
    (
        "typedef struct s t; t f(t a, struct s *b); struct s { int x; };",
        ["t f(t a, struct s *b)", "VALUE", "WRITABLE", "-> VALUE"],
    ),
    (
        "typedef union u *t; union u f(const t a); union u { int x; };",
        ["union u f(union u *a)", "WRITABLE", "-> VALUE"],
    ),
    # numbers beyond the scalars of ctypes
    ("double _Complex f(float _Complex z);", ["double _Complex f(float _Complex z)", "VALUE", "-> VALUE"]),
    ("_Complex double f(__complex__ float z);", ["double _Complex f(float _Complex z)", "VALUE", "-> VALUE"]),
    (
        "unsigned __int128 f(__int128 x, __uint128_t y);",
        ["unsigned __int128 f(__int128 x, unsigned __int128 y)", "VALUE", "VALUE", "-> VALUE"],
    ),
    # variable arguments
    ("int f(const char *s, ...);", ["int f(const char *s, ...)", "STRING", "-> VALUE"]),
    ("void f(int n, double, ...);", ["void f(int n, double, ...)", "VALUE", "VALUE", "-> NOTHING"]),
    (
        "typedef struct s *t; t f(t a, struct s b[4]);",
        ["struct s *f(struct s *a, struct s *b)", "HANDLE", "HANDLE", "-> HANDLE"],
    ),
    ("int fclose(FILE *f);", ["int fclose(FILE *f)", "HANDLE", "-> VALUE"]),
    # functions
    (
        "int f(int (*cb)(void *data, int), void *data);",
        ["int f(int (*cb)(void *, int), void *data)", "CALLBACK", "WRITABLE", "-> VALUE"],
    ),
    ("int f(int cb(int));", ["int f(int (*cb)(int))", "CALLBACK", "-> VALUE"]),
    (
        "typedef int cb(int); int f(cb a, cb *b);",
        ["int f(int (*a)(int), int (*b)(int))", "CALLBACK", "CALLBACK", "-> VALUE"],
    ),
    ("typedef double op(double x); op cos;", ["double cos(double x)", "VALUE", "-> VALUE"]),
    (
        "void (*signal(int sig, void (*func)(int)))(int);",
        ["void (*signal(int sig, void (*func)(int)))(int)", "VALUE", "CALLBACK", "-> FUNCTION"],
    ),
    (
        "typedef int (*op)(struct s *, double); op f(op a, op *b);",
        [
            "int (*f(int (*a)(struct s *, double), int (**b)(struct s *, double)))(struct s *, double)",
            "CALLBACK",
            "WRITABLE",
            "-> FUNCTION",
        ],
    ),
    ("int f(int (*cb)(void));", ["int f(int (*cb)(void))", "CALLBACK", "-> VALUE"]),
    ("int f(void (*cb)(void (*inner)(int)));", ["int f(void (*cb)(void (*)(int)))", "CALLBACK", "-> VALUE"]),
    # pointers that can be passed on, but not called or implemented in Python
    ("int (*f(void))(const char *, ...);", ["int (*f(void))(const char *, ...)", "-> HANDLE"]),
    ("int (*f(void))(va_list);", ["int (*f(void))(va_list)", "-> HANDLE"]),
    ("long double _Complex (*f(void))(int);", ["long double _Complex (*f(void))(int)", "-> HANDLE"]),
    ("int f(int (*cb)(const char *, ...));", ["int f(int (*cb)(const char *, ...))", "HANDLE", "-> VALUE"]),
    ("int f(void (*cb)(struct s));", ["int f(void (*cb)(struct s))", "CALLBACK", "-> VALUE"]),
    # results
    ("const char *f(void);", ["const char *f(void)", "-> BYTES"]),
    ("const wchar_t *f(void);", ["const wchar_t *f(void)", "-> WIDE_STRING"]),
    ("char *f(void);", ["char *f(void)", "-> HANDLE"]),
    ("const unsigned char *f(void);", ["const unsigned char *f(void)", "-> HANDLE"]),
    ("void *f(void);", ["void *f(void)", "-> HANDLE"]),
    # words that say nothing about a call
    ('extern "C" int f(void);', ["int f(void)", "-> VALUE"]),
    ('extern "C" { int f(void); }', ["int f(void)", "-> VALUE"]),
    (
        "extern int f(char *__restrict a, char *restrict b) __attribute__ ((__nonnull__ (1)));",
        ["int f(char *a, char *b)", "WRITABLE", "WRITABLE", "-> VALUE"],
    ),
    ("_Noreturn void f(int);", ["void f(int)", "VALUE", "-> NOTHING"]),
    ("[[nodiscard]] int f(void);", ["int f(void)", "-> VALUE"]),
    ('__extension__ extern int f(void) __asm__ ("" "__f64") __THROW __wur;', ["int f(void)", "-> VALUE"]),
    ("extern int f(void) __THROW __nonnull ((1)) __attribute_pure__;", ["int f(void)", "-> VALUE"]),
    ("__declspec(dllexport) int __cdecl f(void);", ["int f(void)", "-> VALUE"]),
    ("SDL_DECLSPEC int SDLCALL f(int FAR *p) SDL_PRINTF_VARARG_FUNC(2);", ["int f(int *p)", "WRITABLE", "-> VALUE"]),
    ("SQLITE_API SQLITE_DEPRECATED int f(void);", ["int f(void)", "-> VALUE"]),
    ("ZEXTERN const char * ZEXPORT f OF((void));", ["const char *f(void)", "-> BYTES"]),
    ("extern int f __P ((int a)) ;", ["int f(int a)", "VALUE", "-> VALUE"]),
    ("typedef int (CALLBACK *cb) OF((int)); int f(cb c);", ["int f(int (*c)(int))", "CALLBACK", "-> VALUE"]),
    ("#define MYAPI\nMYAPI int MYAPI f(void);", ["int f(void)", "-> VALUE"]),
    ("#define myapi\nmyapi int f(void);", ["int f(void)", "-> VALUE"]),
    ("int f(int a) { for (;;) { return a; } }", ["int f(int a)", "VALUE", "-> VALUE"]),
    ("/* one */ int /* two */ f( // three\n int a /* four;)( */ );", ["int f(int a)", "VALUE", "-> VALUE"]),
    ("\ufeff#include <a.h>\r\nint f(void);\r\n", ["int f(void)", "-> VALUE"]),
    ("int f(void);;", ["int f(void)", "-> VALUE"]),
    (
        "struct LIB_API s { int a; struct { long b; } c; };\nint f(struct s *);",
        ["int f(struct s *)", "WRITABLE", "-> VALUE"],
    ),
    ('_Static_assert(sizeof(int) == 4, "x"); int f(void);', ["int f(void)", "-> VALUE"]),
]


@pytest.mark.parametrize(("text", "expected"), UNDERSTOOD, ids=[text for text, _ in UNDERSTOOD])
def test_a_prototype_says_how_each_part_crosses(text: str, expected: list[str]) -> None:
    found = read(text)
    assert not found.refused
    assert [flat(function) for function in found.functions.values()] == [expected]


def test_records_are_exact() -> None:
    text = "enum e { A, B }; typedef struct db db; const char *f(enum e k, db *d, int v[2], int (*cb)(void *, int), char c);"
    assert read(text).functions["f"] == FunctionType(
        "f",
        (
            Parameter("k", Enumeration("e", INT, (("A", 0), ("B", 1))), Passing.VALUE),
            Parameter("d", Pointer(Record("db", "")), Passing.HANDLE, is_nullable=True),
            Parameter("v", Array(INT, 2), Passing.WRITABLE, is_nullable=True),
            Parameter(
                "cb",
                Pointer(FunctionPrototype("int (*)(void *, int)", (VOID_POINTER, INT), INT)),
                Passing.CALLBACK,
                is_nullable=True,
            ),
            Parameter("c", CHAR, Passing.VALUE),
        ),
        Result(Pointer(CHAR, True), Returning.BYTES, is_nullable=True),
    )


@pytest.mark.parametrize(
    ("text", "positional_only"),
    [
        ("int f(void);", 0),
        ("int f(int a, int b);", 0),
        ("int f(int, int b);", 2),
        ("int f(int a, int);", 2),
        ("int f(int from, int lambda);", 0),
        ("int f(int __a, int a);", 2),
    ],
)
def test_keywords_work_where_all_parameters_are_named(text: str, positional_only: int) -> None:
    assert read(text).functions["f"].positional_only == positional_only


def test_names_lose_the_underscores_of_glibc() -> None:
    function = read("int f(int __fd, const void *__buf, int _, int _1);").functions["f"]
    assert [p.name for p in function.parameters] == ["fd", "buf", "_", "_1"]


def test_a_comment_above_or_beside_is_the_doc() -> None:
    functions = read(
        "/* Not a doc. */\n\n/**\n * Opens.\n * Twice.\n */\nint a(void);\n"
        "// One,\n// two.\nint b(void);\nint c(void); /* Beside. */\nint d(void);\nint e(void); int f(void); // whose?\n"
    ).functions
    assert {name: function.doc for name, function in functions.items()} == {
        "a": "Opens.\nTwice.",
        "b": "One,\ntwo.",
        "c": "Beside.",
        "d": "",
        "e": "",
        "f": "whose?",
    }


def test_a_second_equal_declaration_is_welcome() -> None:
    text = "int f(int); int f(int x); typedef struct s t; int g(t *a); int g(struct s *b); size_t h(void); unsigned long h(void);"
    found = read(text)
    assert [declaration(f) for f in found.functions.values()] == [
        "int f(int x)",
        "int g(struct s *b)",
        "unsigned long h(void)",
    ]


def test_static_functions_have_no_symbol() -> None:
    found = read("static inline UINT f(UINT x) { for (;;) ; }\nstatic int g(int);\ninline int h(int x) { return x; }")
    assert list(found.functions) == ["h"] and not found.refused


def test_the_text_wins_over_the_known_names() -> None:
    assert read("typedef double uInt; uInt f(void);").functions["f"].result.type == DOUBLE
    assert read("typedef long Bytef; void f(Bytef b);").functions["f"].parameters[0].type == LONG


def test_known_names_may_name_parameters() -> None:
    assert flat(read("int f(int uint, char *bool);").functions["f"])[0] == "int f(int uint, char *bool)"


def test_typedefs_are_kept() -> None:
    assert read("typedef int32_t id; typedef id *ids;").typedefs == {"id": INT32, "ids": Pointer(INT32)}


# --- constants ---------------------------------------------------------------------------------------------

CONSTANTS = [
    ("10", 10), ("-7", -7), ("(-7)", -7), ("0x1F", 31), ("017", 15), ("0b101", 5), ("42UL", 42), ("42ull", 42),
    ("2147483648", 2147483648), ("0xFFFFFFFF", 0xFFFFFFFF), ("~0u", 0xFFFFFFFF), ("~0", -1), ("-1u", 0xFFFFFFFF),
    ("(1 << 4) | 3", 19), ("1 << 31", -(1 << 31)), ("1u << 31", 1 << 31), ("1LL << 40", 1 << 40),
    ("-7 / 2", -3), ("-7 % 2", -1), ("7 > 3 ? 5 : 6", 5), ("!3", 0), ("1 && 0 || 1", 1), ("-1 < 0u", 0),
    ("'a'", 97), (r"'\n'", 10), (r"'\x41'", 65), (r"'\377'", -1), ("1.5", 1.5), ("1e3", 1000.0), ("2.f", 2.0),
    ("0.1f", 0.10000000149011612), ("0x1p-2", 0.25), ("1 / 2.0", 0.5), ("(unsigned char)300", 44), ("(size_t)-1", 2**64 - 1),
    ("sizeof(long) * 8", 64), ("sizeof(void *)", 8), ("(double)3", 3.0), ("1 \\\n + 2", 3), ("5 /* five */", 5),
]  # fmt: skip


@pytest.mark.parametrize(("body", "value"), CONSTANTS, ids=[body for body, _ in CONSTANTS])
def test_a_define_is_a_number_by_the_rules_of_c(body: str, value: float) -> None:
    found = read(f"#define N {body}\n").constants["N"]
    assert found == value and type(found) is type(value)


def test_constants_refer_to_each_other() -> None:
    found = read(
        "#define A 4\nenum { B = A + 1, C, D = 'x' };\n#define E (B * 2)\nvoid f(int v[E]);\n#define F A\n#define G 0.5"
    )
    assert found.constants == {"A": 4, "B": 5, "C": 6, "D": 120, "E": 10, "F": 4, "G": 0.5}
    assert found.functions["f"].parameters[0].type == Array(INT, 10)


def test_inner_enums_and_self_named_macros_count() -> None:
    assert read("struct s { enum { A = 3,\n#define A A\n B } k; };").constants == {"A": 3, "B": 4}


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ("A", INT),
        ("A = -1", INT),
        ("A = 0x80000000", UNSIGNED_INT),
        ("A = -1, B = 0x80000000", LONG),
        ("A = 1ul << 63", UNSIGNED_LONG),
    ],
)
def test_an_enum_has_the_base_that_holds_its_values(values: str, base: object) -> None:
    ctype = read(f"enum e {{ {values} }}; void f(enum e x);").functions["f"].parameters[0].type
    assert isinstance(ctype, Enumeration) and ctype.base == base


# --- structs and unions ------------------------------------------------------------------------------------


def members(record: Record) -> list[str]:
    """The members as C would declare them; "= n" for bits, "@ n" for a wanted alignment."""
    return [
        spell(member.type, member.name)
        + (f" = {member.bits}" if member.bits is not None else "")
        + (f" @ {member.align_bytes}" if member.align_bytes else "")
        for member in record.members or ()
    ]


RECORDS = [
    ("struct s { int x, *y; const char *z; };", {"s": ["int x", "int *y", "const char *z"]}),
    ("union s { long x; double y; };", {"s": ["long x", "double y"]}),
    ("typedef struct { int x; } s;", {"s": ["int x"]}),
    ("typedef struct tag { int x; } s;", {"tag": ["int x"], "s": ["int x"]}),
    ("typedef struct s s; struct s { int x; };", {"s": ["int x"]}),
    ("typedef struct tag s, *p; struct tag { p next; };", {"tag": ["struct tag *next"], "s": ["struct tag *next"]}),
    ("struct s { struct s *next; struct s **last; };", {"s": ["struct s *next", "struct s **last"]}),
    (
        "struct b; struct a { struct b *b; }; struct b { struct a *a; }; struct a { struct b *b; };",
        {"a": ["struct b *b"], "b": ["struct a *a"]},
    ),
    ("struct s { struct t { int x; } a[3], *b; };", {"t": ["int x"], "s": ["struct t a[3]", "struct t *b"]}),
    (
        "struct s { struct { int x; }; int _1; union { int y; float z; }; };",
        {"s": ["struct (anonymous 1) _0", "int _1", "union (anonymous 2) _2"]},
    ),
    ("struct s { int _1; struct { int x; }; };", {"s": ["int _1", "struct (anonymous 1) __1"]}),
    (
        "struct s { int x : 3, y : 4; unsigned : 5; int : 0; _Bool z : 1; };",
        {"s": ["int x = 3", "int y = 4", "unsigned int = 5", "int = 0", "_Bool z = 1"]},
    ),
    (
        "#define N 4\nenum e { A = 2 }; struct t { int x; };\n"
        "struct s { char x[N + 1]; int y : N; enum e z[A]; int m[2][3]; char t[sizeof(struct t)]; };",
        {"t": ["int x"], "s": ["char x[5]", "int y = 4", "enum e z[2]", "int m[2][3]", "char t[4]"]},
    ),
    ("struct s { enum { A } x; enum e { B = 5 } y; enum { C }; };", {"s": ["int x", "enum e y"]}),
    (
        "typedef int (*op)(int); struct s { op f; void (*g)(struct s *, ...); op h[2]; };",
        {"s": ["int (*f)(int)", "void (*g)(struct s *, ...)", "int (*h[2])(int)"]},
    ),
    ("struct s { int n; double x[]; };", {"s": ["int n", "double x[0]"]}),
    ("struct s { };", {"s": []}),
    ("struct s { const int x; volatile int y; int *restrict z; };", {"s": ["int x", "int y", "int *z"]}),
    ("struct s { int x; }; struct s { int x; };", {"s": ["int x"]}),
    ("int f(struct s { int x; } *a);", {"s": ["int x"]}),
    ("extern struct s { int x; } v;", {"s": ["int x"]}),
    (
        "struct s { char x __attribute__((aligned(8))); int y, z __attribute__((aligned(2 * 8))), w; };",
        {"s": ["char x @ 8", "int y", "int z @ 16", "int w"]},
    ),
    (
        "struct s { _Alignas(8) char x; _Alignas(long double) char y, z; int __attribute__((aligned)) v, w; };",
        {"s": ["char x @ 8", "char y @ 16", "char z @ 16", "int v @ 16", "int w @ 16"]},
    ),
    ("struct s { char x __aligned(4); int *__attribute__((aligned(32))) y, *z; };", {"s": ["char x @ 4", "int *y @ 32", "int *z"]}),
    ("#define A 8\nstruct s { char x __attribute__((__aligned__(A))); };", {"s": ["char x @ 8"]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RECORDS, ids=[text for text, _ in RECORDS])
def test_structs_and_unions_have_these_members(text: str, expected: dict[str, list[str]]) -> None:
    assert {name: members(record) for name, record in read(text).records.items()} == expected


@pytest.mark.parametrize(
    ("text", "pack_bytes", "align_bytes"),
    [
        ("struct s { char x; long y; };", 0, 0),
        ("struct __attribute__((packed)) s { char x; long y; };", 1, 0),
        ("struct s { char x; long y; } __attribute__((__packed__));", 1, 0),
        ("typedef struct { char x; long y; } __attribute__((packed)) s;", 1, 0),
        ("typedef struct __attribute__((packed)) { char x; long y; } s;", 1, 0),
        ("typedef struct tag { char x; long y; } __attribute__((packed, aligned(4))) s;", 1, 4),
        ("struct __attribute__((aligned(32))) s { char x; };", 0, 32),
        ("struct s { char x; } __attribute__((deprecated)) __attribute__((aligned(sizeof(long))));", 0, 8),
        ("struct s { char x; } __attribute__((aligned));", 0, 16),
        ("struct __declspec(align(32)) s { char x; };", 0, 32),
        ("struct __packed s { char x; };", 1, 0),
        ("struct s { char x; } __packed;", 1, 0),
        ("struct s { char x; } __packed __aligned(2);", 1, 2),
        ("struct s { char x; long y __attribute__((packed)); } __attribute__((packed));", 1, 0),
        ("typedef struct { char x; } s __attribute__((packed));", 0, 0),  # behind the name it says nothing, to gcc too
        ("struct t { char x; } __attribute__((packed)); struct s { char x; };", 0, 0),
        ("struct s { struct { char x; } __attribute__((packed)) y; };", 0, 0),
        ("struct s { struct __attribute__((packed)) t { char x; } y; };", 0, 0),
        ("struct s { char x; }; int f(void) __attribute__((aligned(64)));", 0, 0),
        ("struct s { char x; }; extern int v __attribute__((aligned(64)));", 0, 0),
    ],
)
def test_attributes_belong_to_the_struct_they_stand_at(text: str, pack_bytes: int, align_bytes: int) -> None:
    record = read(text).records["s"]
    assert (record.pack_bytes, record.align_bytes) == (pack_bytes, align_bytes)


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ("A = 255", UNSIGNED_CHAR), ("A = -1", SIGNED_CHAR), ("A = 256", UNSIGNED_SHORT), ("A = -1, B = 200", SHORT),
        ("A = 70000", UNSIGNED_INT), ("A = -70000", INT), ("A = 1l << 40", LONG),
    ],
)  # fmt: skip
def test_a_packed_enum_is_as_small_as_its_values(values: str, base: object) -> None:
    for text in (f"enum __attribute__((packed)) e {{ {values} }};", f"enum e {{ {values} }} __attribute__((packed));"):
        ctype = read(f"{text} void f(enum e x);").functions["f"].parameters[0].type
        assert isinstance(ctype, Enumeration) and ctype.base == base


def test_a_typedef_and_its_tag_are_one_record() -> None:
    found = read("typedef struct tag { int x; } name; name f(struct tag a, name *b, struct tag *c);")
    tagged, named = found.records["tag"], found.records["name"]
    assert (spell(tagged), spell(named)) == ("struct tag", "name")
    assert tagged.members is named.members
    assert [p.type for p in found.functions["f"].parameters] == [tagged, Pointer(named), Pointer(tagged)]


# --- variables ---------------------------------------------------------------------------------------------

VARIABLES = [
    ("extern int x;", {"x": "int x"}),
    ("int x = 5;", {"x": "int x"}),
    ("extern int x; extern int x; int x;", {"x": "int x"}),
    ("extern char **environ;", {"environ": "char **environ"}),
    ("extern int a, *b, c[3];", {"a": "int a", "b": "int *b", "c": "int c[3]"}),
    ("extern const double table[2][3];", {"table": "const double table[2][3]"}),
    ("extern int table[];", {"table": "int table[0]"}),
    ("extern int table[]; extern int table[4]; extern int table[];", {"table": "int table[4]"}),
    ("extern int (*hook)(void *, int), plain(int);", {"hook": "int (*hook)(void *, int)"}),
    ("extern struct point { int x, y; } origin;", {"origin": "struct point origin"}),
    ("typedef enum { A } e; extern e x;", {"x": "int x"}),
    ("static int hidden; static struct s { int x; } too; extern int shown;", {"shown": "int shown"}),
]


@pytest.mark.parametrize(("text", "expected"), VARIABLES, ids=[text for text, _ in VARIABLES])
def test_variables(text: str, expected: dict[str, str]) -> None:
    assert {name: spell(ctype, name) for name, ctype in read(text).variables.items()} == expected


def test_a_variable_of_a_struct_declared_later_has_its_members() -> None:
    found = read("extern struct point origin, row[2]; struct point { int x, y; };")
    point = found.records["point"]
    assert found.variables == {"origin": point, "row": Array(point, 2)}


# --- directives --------------------------------------------------------------------------------------------


def test_guards_includes_and_cplusplus_are_ignored() -> None:
    text = """
#ifndef LIB_H
#  define LIB_H
#pragma once
#include <stddef.h>
# 12 "lib.h" 3
#if defined(__cplusplus)
extern "C" {
don't look here
#else
int in_c(void);
#endif
#if 0
int nowhere(void);
#  ifdef WHATEVER
#  elif MORE
#  endif
#endif
int f(void);
#ifdef __cplusplus
}
#endif
#endif /* LIB_H */
"""
    assert list(read(text).functions) == ["in_c", "f"]
    assert list(read(text + text).functions) == ["in_c", "f"]


# --- what cannot be bound ----------------------------------------------------------------------------------

REFUSED = [
    ("int f(int a, struct s b);", "f() parameter 2 is 'struct s': this version of callgate cannot pass structs by value whose members are not declared"),
    ("int f(union u a);", "f() parameter 1 is 'union u': this version of callgate cannot pass unions by value whose members are not declared"),
    ("fpos_t f(int a, int b);", "f() returns 'fpos_t': this version of callgate cannot return structs and unions by value whose members are not declared"),
    ("long double _Complex f(void);", "f() returns 'long double _Complex': this version of callgate cannot return complex numbers of long double"),
    ("int f(int a, _Complex long double z, ...);", "f() parameter 2 is 'long double _Complex': this version of callgate cannot pass complex numbers of long double"),
    ("int f(float _Complex *z);", "f() parameter 1 is 'float _Complex *': this version of callgate cannot pass pointers to complex numbers"),
    ("int f(unsigned __int128 *x);", "f() parameter 1 is 'unsigned __int128 *': this version of callgate cannot pass pointers to 128-bit integers"),
    ("const __int128 *f(void);", "f() returns 'const __int128 *': this version of callgate cannot return pointers to 128-bit integers"),
    ("_Float16 f(__bf16 x);", "f() parameter 1 is '__bf16': this version of callgate cannot pass 16-bit floating point"),
    ("_Decimal64 f(void);", "f() returns '_Decimal64': this version of callgate cannot return decimal floating point"),
    ("int f(_Float128 x);", "f() parameter 1 is '_Float128': this version of callgate cannot pass 128-bit floating point"),
    ("int f(va_list a);", "f() parameter 1 is 'va_list': this version of callgate cannot pass lists of variable arguments"),
    ("int f(int m[3][4]);", "f() parameter 1 is 'int [3][4]': this version of callgate cannot pass pointers to arrays, and so arrays of arrays"),
    ("int f(const int m[3][4]);", "f() parameter 1 is 'const int [3][4]': this version of callgate cannot pass pointers to arrays, and so arrays of arrays"),
    ("int f(int (*m)[4]);", "f() parameter 1 is 'int (*)[4]': this version of callgate cannot pass pointers to arrays, and so arrays of arrays"),
    ("int f(va_list *a);", "f() parameter 1 is 'va_list *': this version of callgate cannot pass pointers to lists of variable arguments"),
    ("extern _Float128 f;", "'f' is '_Float128': this version of callgate cannot hold 128-bit floating point"),
    ("extern long double _Complex f[2];", "'f' is 'long double _Complex [2]': this version of callgate cannot hold complex numbers of long double"),
    ("extern double _Complex f;", "'f' is 'double _Complex': this version of callgate cannot hold complex numbers"),
    ("extern float f __attribute__((vector_size(16)));", "'f' has the attribute 'vector_size': this version of callgate cannot follow it"),
    ("int f(int) __attribute__((ms_abi));", "f() has the attribute 'ms_abi', which changes how arguments travel: this version of callgate cannot follow it"),
    ("typedef float v __attribute__((vector_size(16))); int f(v a);", "f() parameter 1 is 'v __attribute__((vector_size))': this version of callgate cannot pass types with such an attribute"),
    ("typedef double v __attribute__((aligned(16))); int f(v *a);", "f() parameter 1 is 'v __attribute__((aligned)) *': this version of callgate cannot pass pointers to types with such an attribute"),
    ("typedef union { int *a; long *b; } v __attribute__((transparent_union)); int f(v a);", "f() parameter 1 is 'v __attribute__((transparent_union))': this version of callgate cannot pass types with such an attribute"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_bound_leaves_the_rest_usable(text: str, message: str) -> None:
    found = read(f"int before(void);\n{text}\nint after(void);")
    assert list(found.functions) == ["before", "after"]
    column = re.search(r"\bf\b", text).start() + 1  # type: ignore[union-attr]
    assert list(found.refused) == ["f"]
    assert str(found.refused["f"]) == f"line 2, column {column}: {message}\n    {text}\n    {' ' * (column - 1)}^"


# --- mistakes ----------------------------------------------------------------------------------------------

MACRO_OF_LAYOUT = "what '{}' does to the layout is not known: write __attribute__((packed)) or __attribute__((aligned(n))) in its place"
# The mark ¦ stands before the character that the error points at.
MISTAKES = [
    ("¦UINT f(void);", "unknown type name 'UINT': declare it first, for instance 'typedef int UINT;'"),
    ("¦UINT WINAPI f(void);", "unknown type name 'UINT': declare it first, for instance 'typedef int UINT;'"),
    ("CURL_EXTERN ¦CURL *init(void);", "unknown type name 'CURL': declare it first, for instance 'typedef struct CURL CURL;'"),
    ("int f(int a, ¦foo_t b);", "unknown type name 'foo_t': declare it first, for instance 'typedef int foo_t;'"),
    ("int f(int (*cb)(¦foo_t));", "unknown type name 'foo_t': if it is a parameter's name (K&R style), write its type too: 'int foo_t'"),
    ("struct s { ¦UINT x; };", "unknown type name 'UINT': declare it first, for instance 'typedef int UINT;'"),
    ("typedef ¦UINT size_t;", "unknown type name 'UINT': declare it first, for instance 'typedef int UINT;'"),
    ("#define UINT unsigned\n¦UINT f(void);", "unknown type name 'UINT': it is a #define, but not of a number; write a typedef"),
    ("¦f(void);", "'f' has no result type: C has no implicit int; write 'int f(...)' or 'void'"),
    ("¦const f(void);", None),
    ("int f(¦a, b) int a; int b; { return a; }", "unknown type name 'a': if it is a parameter's name (K&R style), write its type too: 'int a'"),
    ("¦__MATHCALL (cos,, (_Mdouble_ __x));", "'__MATHCALL(...)' looks like a macro, which only a preprocessor expands: paste the prototype itself (gcc -E prints it)"),
    ("int ¦foo bar(int);", "'foo' is not known here: not a type, a qualifier or a macro"),
    ("int f(int)¦\nint g(int);", "';' is missing after ')'"),
    ("int f(int)¦ __THROW\nUINT g(int);", "';' is missing after ')'"),
    ("int f(int)¦", "';' is missing after ')'"),
    ("int a¦ int b;", "';' is missing after 'a'"),
    ("typedef int foo¦\nint f(foo x);", "';' is missing after 'foo'"),
    ("struct s { int a; }¦ int f(void);", "';' is missing after '}'"),
    ("struct s { int a¦ };", "';' is missing after 'a'"),
    ("int f(int a¦ int b);", "',' is missing after 'a'"),
    ("int f(int a,¦);", "a parameter is missing here"),
    ("int f¦(int a;", "'(' is never closed"),
    ("int f(int a)¦);", "')' closes nothing"),
    ("int f(int a) ¦{ return a;", "'{' is never closed"),
    ("int v¦[3;", "'[' is never closed"),
    ('extern "C" ¦{ int f(void);', "'{' is never closed"),
    ('extern ¦"C++" int f(void);', 'the linkage "C++" is not C'),
    ("int f(void); ¦/* open", "this comment is never closed: add '*/'"),
    ('int f(void) __asm__(¦"open);', 'this literal is never closed: add "'),
    ("int f(void ¦@);", "unexpected character '@'"),
    ("int f(¦\xa0void);", "unexpected character U+00A0"),
    ("int f(¦#void);", "'#' must be the first character of its line"),
    ("int f(¦short double x);", "'short double' is not a C type"),
    ("int f(¦void x);", None),
    ("int f(int x ¦= 3);", "'=' is not expected here: ',' may be missing before it"),
    ("int f(int ¦&x);", "'&' is not expected here: ',' may be missing before it"),
    ("¦return 5;", "'return' is not expected in a declaration"),
    ("¦class A { int x; };", None),
    ("int ¦f(int)(int);", "f() returns 'int (*)(int)', and C functions return no such thing"),
    ("int ¦f(int *****************p);", "more than 16 pointers and arrays inside each other"),
    ("int f(int);\nint ¦f(long);", "'f' is declared twice: as 'int f(int)' (line 1) and as 'int f(long)'"),
    ("int f(int);\nextern int ¦f;", "'f' is declared twice: as 'int f(int)' (line 1) and as a variable"),
    ("typedef int t;\ntypedef long ¦t;", "'t' is declared twice: as 'int' (line 1) and as 'long'"),
    ("extern int f;\nint ¦f(int);", "'f' is declared twice: as 'int f' (line 1) and as a function"),
    ("extern int v;\nextern long ¦v;", "'v' is declared twice: as 'int' (line 1) and as 'long'"),
    ("extern int v[3];\nextern int ¦v[4];", "'v' is declared twice: as 'int [3]' (line 1) and as 'int [4]'"),
    ("extern void ¦v;", "a variable cannot be void"),
    ("int f(struct s a);\nstruct s { int x; };\nint ¦f(int a);", "'f' is declared twice: as 'int f(struct s a)' (line 1) and as 'int f(int a)'"),
    # structs
    ("struct s { int a; };\nstruct ¦s { long a; };", "'struct s' is declared twice, with different members (line 1)"),
    ("typedef struct { int a; } s;\ntypedef struct { int b; } ¦s;", "'s' is declared twice, with different members (line 1)"),
    ("struct s;\nunion ¦s { int a; };", "'s' is declared twice: as 'struct s' (line 1) and as 'union s'"),
    ("enum s { A };\nint f(struct ¦s *a);", "'s' is declared twice: as 'enum s' (line 1) and as 'struct s'"),
    ("struct s { int a; };\ntypedef struct { int a; } ¦s;", "'s' names two types, this one and 'struct s' (line 1): Python has one class for both"),
    ("struct s { struct s ¦inner; };", "struct s is incomplete: it has no size"),
    ("struct t;\nstruct s { int a; struct t ¦b[2]; };", "struct t is incomplete: it has no size"),
    ("struct s { int a; int ¦a; };", "'a' is a member of struct s twice"),
    ("struct s { int a; union ¦{ long b; char c; int a; }; };", "'a' is a member of struct s twice"),
    ("struct s { int ¦a[]; int b; };", "member 'a' of struct s: an array without a length must be the last member of a struct"),
    ("union u { int b; int ¦a[]; };", "member 'a' of union u: an array without a length must be the last member of a struct"),
    ("struct s { int ¦a[3][]; };", "only the first length of an array may be left out"),
    ("struct s { int a[¦n]; };", "the length of an array cannot be worked out: 'n' is not known"),
    ("struct ¦s { int a[2147483648][2147483648]; };", "struct s would have 18446744073709551616 bytes"),
    ("struct s { void ¦v; };", "member 'v' of struct s has no size: void"),
    ("struct s { void ¦f(void); };", "member 'f' of struct s is a function: C has only pointers to functions there, '(*f)'"),
    ("struct s { ¦int; };", "a member of struct s has no name: only structs and unions without a tag need none"),
    ("struct s { struct ¦t { int a; }; };", "a member of struct s has no name: only structs and unions without a tag need none"),
    ("struct s { _Float128 ¦q; };", "member 'q' of struct s is '_Float128': this version of callgate cannot hold 128-bit floating point"),
    ("struct s { va_list ¦a; };", "member 'a' of struct s is 'va_list': this version of callgate cannot hold lists of variable arguments"),
    ("struct s { long double _Complex ¦z[2]; };", "member 'z' of struct s is 'long double _Complex [2]': this version of callgate cannot hold complex numbers of long double"),
    ("struct s { int ¦a : 33; };", "bit-field 'a' of struct s has 33 bits; int allows 1 to 32"),
    ("struct s { _Bool ¦a : 2; };", "bit-field 'a' of struct s has 2 bits; _Bool allows 1 to 1"),
    ("struct s { int b : 3, ¦a : 0; };", "bit-field 'a' of struct s has 0 bits; int allows 1 to 32"),
    ("struct s { float : ¦3; };", "bit-field '(unnamed)' of struct s must be of an integer type, not float"),
    ("struct s { int : -¦1; };", "a bit-field cannot have -1 bits"),
    ("typedef struct { int a; } t;\nstruct s { ¦t; };", "a member of struct s has no name: only structs and unions without a tag need none"),
    ("struct s { int ¦a : -1; };", "a bit-field cannot have -1 bits"),
    ("struct s { int ¦a : 1.5; };", "a bit-field cannot have 1.5 bits"),
    ("struct s { int a : ¦N; };", "the width of a bit-field cannot be worked out: 'N' is not known"),
    ("struct s { float ¦a : 3; };", "bit-field 'a' of struct s must be of an integer type, not float"),
    ("struct s { int ¦*a : 3; };", "bit-field 'a' of struct s must be of an integer type, not int *"),
    # attributes of structs
    ("struct s { char a; long ¦b __attribute__((packed)); };", "a member can be packed only together with its whole struct"),
    ("struct s { char a __attribute__((¦aligned(3))); };", "an alignment must be a power of two, not 3"),
    ("struct s { char a; } __attribute__((¦aligned(struct t)));", "the alignment cannot be worked out: struct t is incomplete: it has no size"),
    ("struct s { char a; } __attribute__((¦aligned(N)));", "the alignment cannot be worked out: 'N' is not known"),
    ("struct s { float x __attribute__((¦vector_size(16))); };", "a member of struct s has the attribute 'vector_size': this version of callgate cannot follow it"),
    ("struct s { int (*f)(int) __attribute__((¦ms_abi)); };", "a member of struct s has the attribute 'ms_abi': this version of callgate cannot follow it"),
    ("struct ¦s { int a; } __attribute__((ms_struct));", "struct s has the attribute 'ms_struct': this version of callgate cannot follow it"),
    ("typedef double d __attribute__((aligned(16)));\nstruct s { d ¦x; };", "member 'x' of struct s is 'd __attribute__((aligned))': this version of callgate cannot hold types with such an attribute"),
    ("¦enum e { A } __attribute__((aligned(8)));", "an enum with the attribute 'aligned': this version of callgate cannot follow it"),
    ("struct ¦PACKED s { char a; long b; };", MACRO_OF_LAYOUT.format("PACKED")),
    ("typedef struct ¦GCC_PACKED { char a; long b; } s;", MACRO_OF_LAYOUT.format("GCC_PACKED")),
    ("struct s { char a; long b; } ¦ATTR_PACKED;", MACRO_OF_LAYOUT.format("ATTR_PACKED")),
    ("typedef struct { char a; long b; } ¦PACK s;", MACRO_OF_LAYOUT.format("PACK")),
    ("struct s { char a; long b ¦_ALIGNED(32); };", MACRO_OF_LAYOUT.format("_ALIGNED")),
    ("struct s { ¦ALIGN16 char a; };", MACRO_OF_LAYOUT.format("ALIGN16")),
    ("enum { A = 1, ¦A = 2 };", None),
    ("enum { A = ¦1 / 0 };", "the value of A cannot be worked out: division by zero"),
    ("enum { A = ¦B };", "the value of A cannot be worked out: 'B' is not known"),
    ("int f(int v[¦N]);", "the length of an array cannot be worked out: 'N' is not known"),
    ("#define N ¦\"text\"", "'#define N \"text\"' is not a number that callgate can work out: it is not a constant expression"),
    ("#define N ¦08", "'#define N 08' is not a number that callgate can work out: it is not a constant expression"),
    ("#define N ¦99999999999999999999", "'#define N 99999999999999999999' is not a number that callgate can work out: 99999999999999999999 does not fit 64 bits"),
    ("#define N ¦2147483647 + 1", "'#define N 2147483647 + 1' is not a number that callgate can work out: the value overflows a signed integer"),
    ("#define N ¦(N)", "'#define N (N)' is not a number that callgate can work out: 'N' refers to itself"),
    ("#define A 1 + 2\n#define B ¦A * 2", "'#define B A * 2' is not a number that callgate can work out: 'A' stands for '1 + 2', which needs parentheses to be used inside another"),
    ("#define N 1\n¦#define N 2", "N is defined twice: as '1' and as '2'"),
    ("¦#define F(x) x", "F() is a macro with parameters: callgate understands '#define NAME number', include guards and #ifdef __cplusplus; leave it out"),
    ("¦#undef N", "#undef is not understood: callgate understands '#define NAME number', include guards and #ifdef __cplusplus; leave the line out"),
    ("¦#pragma pack(1)", "#pragma pack(1) is not understood: callgate understands '#define NAME number', include guards and #ifdef __cplusplus; leave the line out"),
    ("int f(void);\n  ¦#if FOO > 1\n#endif", "#if FOO > 1 is not understood: callgate evaluates no conditions but include guards and __cplusplus; paste only the branch that applies"),
    ("¦#ifdef _WIN32\n#endif", "#ifdef _WIN32 is not understood: callgate evaluates no conditions but include guards and __cplusplus; paste only the branch that applies"),
    ("¦#ifndef A\n#define A\nint f(void);", "this condition is never closed: add '#endif'"),
    ("¦#endif", "#endif without #if"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_one_clear_error(marked: str, message: str | None) -> None:
    text = marked.replace("¦", "")
    offset = marked.index("¦")
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    error = failure(text)
    if message is None:  # the wording or the place is pycparser's, or not worth pinning
        assert error.line == line and error.source_line == text.split("\n")[line - 1]
        return
    source_line = text.split("\n")[line - 1]
    assert str(error) == f"line {line}, column {column}: {message}\n    {source_line}\n    {' ' * (column - 1)}^"
    assert (error.line, error.column, error.source_line) == (line, column, source_line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "// nothing\n/* here */",
        "#include <math.h>\n",
        "#ifndef A\n#define A\n#endif",
        'extern "C" { }',
        ";",
    ],
)
def test_an_empty_text_is_an_error(text: str) -> None:
    assert str(failure(text)) == "no declaration was found in the text: write one, such as 'double cos(double x);'"


def test_columns_survive_what_is_skipped() -> None:
    error = failure("/* a\n b */ZEXTERN __attribute__((x)) int\tZEXPORT /* c */ f OF((FOO x));")
    assert (error.line, error.column) == (2, 59)
    assert str(error).splitlines()[1:] == [
        "     b */ZEXTERN __attribute__((x)) int ZEXPORT /* c */ f OF((FOO x));",
        " " * 62 + "^",
    ]


# --- one prototype -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "double hypot(double x, double y)",
        "double hypot(double x, double y);",
        "double hypot(double x, double y) // dist",
    ],
)
def test_one_function_needs_no_semicolon(text: str) -> None:
    assert flat(parse_function(text, X86_64_LINUX))[0] == "double hypot(double x, double y)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int f(int); int g(int)", "exactly one function is expected here, and 2 were declared (f, g)"),
        ("typedef int t", "exactly one function is expected here, and none was declared"),
        ("", "no declaration was found in the text: write one, such as 'double cos(double x);'"),
    ],
)
def test_one_function_is_exactly_one(text: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_function(text, X86_64_LINUX)
    assert str(caught.value) == message


def test_one_function_that_cannot_be_bound_raises_its_refusal() -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_function("int vprintf(const char *format, va_list ap)", X86_64_LINUX)
    assert str(caught.value) == (
        "line 1, column 5: vprintf() parameter 2 is 'va_list': this version of callgate cannot pass lists of variable"
        " arguments\n    int vprintf(const char *format, va_list ap)\n        ^"
    )


# --- blocks as people paste them ---------------------------------------------------------------------------

ZLIB = """\
ZEXTERN const char * ZEXPORT zlibVersion OF((void));
ZEXTERN int ZEXPORT deflate OF((z_streamp strm, int flush));
ZEXTERN uLong ZEXPORT deflateBound OF((z_streamp strm,
                                       uLong sourceLen));
/*
     deflateBound() returns an upper bound on the compressed size
*/

ZEXTERN int ZEXPORT compress OF((Bytef *dest,   uLongf *destLen,
                                 const Bytef *source, uLong sourceLen));
ZEXTERN int ZEXPORT uncompress OF((Bytef *dest,   uLongf *destLen,
                                   const Bytef *source, uLong sourceLen));
ZEXTERN int ZEXPORT inflateBack OF((z_streamp strm,
                                    in_func in, void FAR *in_desc,
                                    out_func out, void FAR *out_desc));
ZEXTERN int ZEXPORTVA gzprintf Z_ARG((gzFile file, const char *format, ...));
ZEXTERN uLong ZEXPORT adler32 OF((uLong adler, const Bytef *buf, uInt len));
ZEXTERN uLong ZEXPORT crc32 OF((uLong crc, const Bytef *buf, uInt len));
ZEXTERN const z_crc_t FAR * ZEXPORT get_crc_table    OF((void));
ZEXTERN z_off_t ZEXPORT gzseek64(gzFile, z_off64_t, int);
"""

GLIBC = """\
# 53 "/usr/include/x86_64-linux-gnu/bits/mathcalls.h" 3 4
extern double acos (double __x) __attribute__ ((__nothrow__ , __leaf__)); extern double __acos (double __x) __attribute__ ((__nothrow__ , __leaf__));
extern double modf (double __x, double *__iptr) __attribute__ ((__nothrow__ , __leaf__)) __attribute__ ((__nonnull__ (2)));
extern long double acosl (long double __x) __attribute__ ((__nothrow__ , __leaf__));
extern int __fpclassify (double __value) __attribute__ ((__nothrow__ , __leaf__))
     __attribute__ ((__const__));
__extension__ extern long long int llabs (long long int __x) __attribute__ ((__nothrow__ , __leaf__)) __attribute__ ((__const__)) ;
extern int signgam;
extern int vprintf (const char *__restrict __format, __gnuc_va_list __arg);
"""

SQLITE = """\
typedef struct sqlite3 sqlite3;
SQLITE_API const char *sqlite3_libversion(void);
SQLITE_API int sqlite3_open(
  const char *filename,   /* Database filename (UTF-8) */
  sqlite3 **ppDb          /* OUT: SQLite db handle */
);
SQLITE_API int sqlite3_close(sqlite3*);
SQLITE_API const char *sqlite3_errmsg(sqlite3*);
SQLITE_API int sqlite3_prepare_v2(
  sqlite3 *db,            /* Database handle */
  const char *zSql,       /* SQL statement, UTF-8 encoded */
  int nByte,              /* Maximum length of zSql in bytes. */
  sqlite3_stmt **ppStmt,  /* OUT: Statement handle */
  const char **pzTail     /* OUT: Pointer to unused portion of zSql */
);
SQLITE_API const unsigned char *sqlite3_column_text(sqlite3_stmt*, int iCol);
SQLITE_API sqlite3_int64 sqlite3_column_int64(sqlite3_stmt*, int iCol);
SQLITE_API int sqlite3_bind_text(sqlite3_stmt*,int,const char*,int,void(*)(void*));
#define SQLITE_OK           0   /* Successful result */
#define SQLITE_OPEN_WAL     0x00080000  /* VFS only */
#define SQLITE_IOERR        10
#define SQLITE_IOERR_READ   (SQLITE_IOERR | (1<<8))
"""

STANDARD = "double acos(double x); float acosf(float x); long double acosl(long double x);"

BLOCKS = {
    "zlib": (ZLIB, [
        ["const char *zlibVersion(void)", "-> BYTES"],
        ["int deflate(z_stream *strm, int flush)", "HANDLE", "VALUE", "-> VALUE"],
        ["unsigned long deflateBound(z_stream *strm, unsigned long sourceLen)", "HANDLE", "VALUE", "-> VALUE"],
        ["int compress(unsigned char *dest, unsigned long *destLen, const unsigned char *source, unsigned long sourceLen)", "WRITABLE", "WRITABLE", "READABLE", "VALUE", "-> VALUE"],
        ["int uncompress(unsigned char *dest, unsigned long *destLen, const unsigned char *source, unsigned long sourceLen)", "WRITABLE", "WRITABLE", "READABLE", "VALUE", "-> VALUE"],
        ["int inflateBack(z_stream *strm, unsigned int (*in)(void *, const unsigned char **), void *in_desc, int (*out)(void *, unsigned char *, unsigned int), void *out_desc)", "HANDLE", "HANDLE", "WRITABLE", "HANDLE", "WRITABLE", "-> VALUE"],
        ["int gzprintf(struct gzFile_s *file, const char *format, ...)", "HANDLE", "STRING", "-> VALUE"],
        ["unsigned long adler32(unsigned long adler, const unsigned char *buf, unsigned int len)", "VALUE", "READABLE", "VALUE", "-> VALUE"],
        ["unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)", "VALUE", "READABLE", "VALUE", "-> VALUE"],
        ["const unsigned int *get_crc_table(void)", "-> HANDLE"],
        ["long gzseek64(struct gzFile_s *, long, int)", "HANDLE", "VALUE", "VALUE", "-> VALUE"],
    ], []),
    "glibc": (GLIBC, [
        ["double acos(double x)", "VALUE", "-> VALUE"],
        ["double __acos(double x)", "VALUE", "-> VALUE"],
        ["double modf(double x, double *iptr)", "VALUE", "WRITABLE", "-> VALUE"],
        ["long double acosl(long double x)", "VALUE", "-> VALUE"],
        ["int __fpclassify(double value)", "VALUE", "-> VALUE"],
        ["long long llabs(long long x)", "VALUE", "-> VALUE"],
    ], ["vprintf"]),
    "sqlite3": (SQLITE, [
        ["const char *sqlite3_libversion(void)", "-> BYTES"],
        ["int sqlite3_open(const char *filename, sqlite3 **ppDb)", "STRING", "WRITABLE", "-> VALUE"],
        ["int sqlite3_close(sqlite3 *)", "HANDLE", "-> VALUE"],
        ["const char *sqlite3_errmsg(sqlite3 *)", "HANDLE", "-> BYTES"],
        ["int sqlite3_prepare_v2(sqlite3 *db, const char *zSql, int nByte, sqlite3_stmt **ppStmt, const char **pzTail)", "HANDLE", "STRING", "VALUE", "WRITABLE", "WRITABLE", "-> VALUE"],
        ["const unsigned char *sqlite3_column_text(sqlite3_stmt *, int iCol)", "HANDLE", "VALUE", "-> HANDLE"],
        ["long long sqlite3_column_int64(sqlite3_stmt *, int iCol)", "HANDLE", "VALUE", "-> VALUE"],
        ["int sqlite3_bind_text(sqlite3_stmt *, int, const char *, int, void (*)(void *))", "HANDLE", "VALUE", "STRING", "VALUE", "CALLBACK", "-> VALUE"],
    ], []),
    "standard": (STANDARD, [
        ["double acos(double x)", "VALUE", "-> VALUE"],
        ["float acosf(float x)", "VALUE", "-> VALUE"],
        ["long double acosl(long double x)", "VALUE", "-> VALUE"],
    ], []),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_a_pasted_block_works(name: str) -> None:
    text, functions, refused = BLOCKS[name]
    found = read(text)
    assert [flat(function) for function in found.functions.values()] == functions
    assert list(found.refused) == refused
    assert found.variables == ({"signgam": INT} if name == "glibc" else {})


def test_the_constants_of_a_pasted_block() -> None:
    assert read(SQLITE).constants == {
        "SQLITE_OK": 0,
        "SQLITE_OPEN_WAL": 0x80000,
        "SQLITE_IOERR": 10,
        "SQLITE_IOERR_READ": 266,
    }


# --- nothing else ever comes out ---------------------------------------------------------------------------

TEXT_OF_WORDS = r"""
int ( ) * ; , { } [ ] struct enum typedef f x = 1 ... const static inline return /* */ // # \ " ' OF (( )) FOO foo uInt
size_t extern "C" __attribute__ union : _Atomic _Static_assert sizeof double _Complex << ? - 'a' offsetof volatile
s [ ] 3 :3 {int_a;} __packed PACKED __attribute__((packed)) __attribute__((aligned(8))) __aligned(f) _Alignas(int) va_list
"""
WORDS = TEXT_OF_WORDS.split()
PIECES = st.sampled_from(
    [*WORDS, "\n", "\t", "\n#define A 1\n", "\n#if 0\n", "\n#endif\n", "\x00", "é", "\ufeff", "\r", "\x0c", "\u2028"]
)


def outcome(text: str) -> None:
    try:
        assert isinstance(read(text), Declarations)
    except DeclarationError as error:
        assert str(error)


@settings(deadline=None)  # the first example imports the parser
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    outcome(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=24))
def test_any_words_are_read_or_refused(pieces: list[str]) -> None:
    outcome(" ".join(pieces))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([text for text, _ in UNDERSTOOD + RECORDS]), st.data())
def test_any_edit_is_read_or_refused(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 6)))
    outcome(text[:start] + data.draw(st.one_of(st.just(""), PIECES)) + text[end:])


@pytest.mark.parametrize(
    "text",
    [
        "int f" + "(int" * 5000 + ")" * 5000 + ";",
        "int " + "*" * 20000 + "f(void);",
        "int f(int x" + "[1]" * 5000 + ");",
        "#define A " + "-" * 20000 + "1",
        "#define A " + "(" * 5000 + "1" + ")" * 5000,
        "".join(f"typedef t{i} *t{i + 1};\n" for i in range(3000)).replace("t0", "int"),
        "\n".join(f"#define A{i} (A{i + 1})" for i in range(3000)),
        "enum { A = " + "1 + " * 5000 + "1 };",
        "{" * 5000,
    ],
    ids=["parameters", "pointers", "arrays", "signs", "parentheses", "typedefs", "macros", "sums", "braces"],
)
def test_depth_is_an_error_too(text: str) -> None:
    assert isinstance(failure(text), DeclarationError)


def test_floats_stay_finite() -> None:
    assert all(math.isfinite(value) for value in read("#define A 1e308\n#define B 4.9e-324").constants.values())
    assert "out of range" in str(failure("#define A 1e999"))


def test_importing_the_module_does_not_import_pycparser() -> None:
    code = "import sys, callgate.c.declarations; sys.exit('pycparser' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_void_is_no_parameter_behind_a_typedef() -> None:
    assert read("typedef void nothing; nothing f(nothing);").functions["f"] == FunctionType(
        "f", (), Result(VOID, Returning.NOTHING)
    )
