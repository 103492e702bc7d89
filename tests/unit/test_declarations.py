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
    UNSIGNED_INT,
    UNSIGNED_LONG,
    VOID,
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
    ("typedef struct { int x, y : 3; } p; p *f(p *a);", ["p *f(p *a)", "HANDLE", "-> HANDLE"]),
    (
        "typedef struct s *t; t f(t a, struct s b[4]);",
        ["struct s *f(struct s *a, struct s *b)", "HANDLE", "HANDLE", "-> HANDLE"],
    ),
    ("int fclose(FILE *f);", ["int fclose(FILE *f)", "HANDLE", "-> VALUE"]),
    # functions
    (
        "int f(int (*cb)(void *data, int), void *data);",
        ["int f(int (*cb)(void *, int), void *data)", "HANDLE", "WRITABLE", "-> VALUE"],
    ),
    ("int f(int cb(int));", ["int f(int (*cb)(int))", "HANDLE", "-> VALUE"]),
    (
        "typedef int cb(int); int f(cb a, cb *b);",
        ["int f(int (*a)(int), int (*b)(int))", "HANDLE", "HANDLE", "-> VALUE"],
    ),
    ("typedef double op(double x); op cos;", ["double cos(double x)", "VALUE", "-> VALUE"]),
    (
        "void (*signal(int sig, void (*func)(int)))(int);",
        ["void (*signal(int sig, void (*func)(int)))(int)", "VALUE", "HANDLE", "-> HANDLE"],
    ),
    ("int f(int (*cb)(const char *, ...));", ["int f(int (*cb)(const char *, ...))", "HANDLE", "-> VALUE"]),
    ("int f(void (*cb)(struct s));", ["int f(void (*cb)(struct s))", "HANDLE", "-> VALUE"]),
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
    ("typedef int (CALLBACK *cb) OF((int)); int f(cb c);", ["int f(int (*c)(int))", "HANDLE", "-> VALUE"]),
    ("#define MYAPI\nMYAPI int MYAPI f(void);", ["int f(void)", "-> VALUE"]),
    ("#define myapi\nmyapi int f(void);", ["int f(void)", "-> VALUE"]),
    ("int f(int a) { for (;;) { return a; } }", ["int f(int a)", "VALUE", "-> VALUE"]),
    ("/* one */ int /* two */ f( // three\n int a /* four;)( */ );", ["int f(int a)", "VALUE", "-> VALUE"]),
    ("\ufeff#include <a.h>\r\nint f(void);\r\n", ["int f(void)", "-> VALUE"]),
    ("int f(void);;", ["int f(void)", "-> VALUE"]),
    (
        "struct PACKED s { int a; struct { long b; } c; };\nint f(struct s *);",
        ["int f(struct s *)", "HANDLE", "-> VALUE"],
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
            Parameter("cb", Pointer(FunctionPrototype("int (*)(void *, int)")), Passing.HANDLE, is_nullable=True),
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


# --- what cannot be bound yet ------------------------------------------------------------------------------

REFUSED = [
    ("int f(const char *s, ...);", "f() takes variable arguments ('...'): this version of callgate cannot pass them"),
    ("int f(int a, struct s b);", "f() parameter 2 is 'struct s': this version of callgate cannot pass structs by value"),
    ("int f(union u a);", "f() parameter 1 is 'union u': this version of callgate cannot pass unions by value"),
    ("div_t f(int a, int b);", "f() returns 'div_t': this version of callgate cannot return structs and unions by value"),
    ("double _Complex f(void);", "f() returns 'double _Complex': this version of callgate cannot return complex numbers"),
    ("int f(float _Complex *z);", "f() parameter 1 is 'float _Complex *': this version of callgate cannot pass pointers to complex numbers"),
    ("int f(unsigned __int128 x);", "f() parameter 1 is 'unsigned __int128': this version of callgate cannot pass 128-bit integers"),
    ("int f(_Float128 x);", "f() parameter 1 is '_Float128': this version of callgate cannot pass 128-bit floating point"),
    ("int f(va_list a);", "f() parameter 1 is 'va_list': this version of callgate cannot pass lists of variable arguments"),
    ("int f(int m[3][4]);", "f() parameter 1 is 'int [3][4]': this version of callgate cannot pass pointers to arrays, and so arrays of arrays"),
    ("int f(int (*m)[4]);", "f() parameter 1 is 'int (*)[4]': this version of callgate cannot pass pointers to arrays, and so arrays of arrays"),
    ("extern int f;", "'f' is a variable, not a function: this version of callgate cannot bind it"),
    ("int f(int) __attribute__((ms_abi));", "f() has the attribute 'ms_abi', which changes how arguments travel: this version of callgate cannot follow it"),
    ("typedef float v __attribute__((vector_size(16))); int f(v a);", "f() parameter 1 is 'v __attribute__((vector_size))': this version of callgate cannot pass types with such an attribute"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_bound_leaves_the_rest_usable(text: str, message: str) -> None:
    found = read(f"int before(void);\n{text}\nint after(void);")
    assert list(found.functions) == ["before", "after"]
    column = re.search(r"\bf\b", text).start() + 1  # type: ignore[union-attr]
    assert list(found.refused) == ["f"]
    assert str(found.refused["f"]) == f"line 2, column {column}: {message}\n    {text}\n    {' ' * (column - 1)}^"


# --- mistakes ----------------------------------------------------------------------------------------------

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
    with pytest.raises(DeclarationError, match=r"printf\(\) takes variable arguments"):
        parse_function("int printf(const char *format, ...)", X86_64_LINUX)


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
        ["unsigned long adler32(unsigned long adler, const unsigned char *buf, unsigned int len)", "VALUE", "READABLE", "VALUE", "-> VALUE"],
        ["unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)", "VALUE", "READABLE", "VALUE", "-> VALUE"],
        ["const unsigned int *get_crc_table(void)", "-> HANDLE"],
        ["long gzseek64(struct gzFile_s *, long, int)", "HANDLE", "VALUE", "VALUE", "-> VALUE"],
    ], ["gzprintf"]),
    "glibc": (GLIBC, [
        ["double acos(double x)", "VALUE", "-> VALUE"],
        ["double __acos(double x)", "VALUE", "-> VALUE"],
        ["double modf(double x, double *iptr)", "VALUE", "WRITABLE", "-> VALUE"],
        ["long double acosl(long double x)", "VALUE", "-> VALUE"],
        ["int __fpclassify(double value)", "VALUE", "-> VALUE"],
        ["long long llabs(long long x)", "VALUE", "-> VALUE"],
    ], ["signgam"]),
    "sqlite3": (SQLITE, [
        ["const char *sqlite3_libversion(void)", "-> BYTES"],
        ["int sqlite3_open(const char *filename, sqlite3 **ppDb)", "STRING", "WRITABLE", "-> VALUE"],
        ["int sqlite3_close(sqlite3 *)", "HANDLE", "-> VALUE"],
        ["const char *sqlite3_errmsg(sqlite3 *)", "HANDLE", "-> BYTES"],
        ["int sqlite3_prepare_v2(sqlite3 *db, const char *zSql, int nByte, sqlite3_stmt **ppStmt, const char **pzTail)", "HANDLE", "STRING", "VALUE", "WRITABLE", "WRITABLE", "-> VALUE"],
        ["const unsigned char *sqlite3_column_text(sqlite3_stmt *, int iCol)", "HANDLE", "VALUE", "-> HANDLE"],
        ["long long sqlite3_column_int64(sqlite3_stmt *, int iCol)", "HANDLE", "VALUE", "-> VALUE"],
        ["int sqlite3_bind_text(sqlite3_stmt *, int, const char *, int, void (*)(void *))", "HANDLE", "VALUE", "STRING", "VALUE", "HANDLE", "-> VALUE"],
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
@given(st.sampled_from([text for text, _ in UNDERSTOOD]), st.data())
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
