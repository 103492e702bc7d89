"""The System V classification of scalars, and the plan as data."""

from __future__ import annotations

import pytest

from callgate.abi.plan import Class, classify
from callgate.c.declarations import parse_function
from callgate.c.layout import size_bytes
from callgate.c.types import (
    CHAR,
    INT,
    LONG_DOUBLE,
    VOID,
    WCHAR,
    Array,
    FunctionPrototype,
    FunctionType,
    Kind,
    Parameter,
    Passing,
    Pointer,
    Record,
    Result,
    Returning,
    Scalar,
    declaration,
    spell,
)
from callgate.errors import DeclarationError
from callgate.target import X86_64_LINUX


def places(text: str) -> list[str]:
    plan = classify(parse_function(text, X86_64_LINUX), X86_64_LINUX)
    return [argument.register or f"+{argument.stack_offset}" for argument in plan.arguments]


@pytest.mark.parametrize(
    ("text", "expected", "stack_bytes", "vectors"),
    [
        ("void f(void)", [], 0, 0),
        ("int f(int a, double b, char *c)", ["rdi", "xmm0", "rsi"], 0, 1),
        (
            "int f(int a, int b, int c, int d, int e, int f, int g)",
            ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "+0"],
            16,
            0,
        ),
        (
            "int f(float a, float b, float c, float d, float e, float f, float g, float h, float i, int j)",
            [*(f"xmm{n}" for n in range(8)), "+0", "rdi"],
            16,
            8,
        ),
        # long double: 16 bytes, 16-aligned, never in a register
        ("int f(long double a, int b)", ["+0", "rdi"], 16, 0),
        (
            "int f(int a, int b, int c, int d, int e, int f, int g, long double h, int i)",
            ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "+0", "+16", "+32"],
            48,
            0,
        ),
        ("int f(int a[4], const char *b)", ["rdi", "rsi"], 0, 0),
    ],
)
def test_places(text: str, expected: list[str], stack_bytes: int, vectors: int) -> None:
    plan = classify(parse_function(text, X86_64_LINUX), X86_64_LINUX)
    assert places(text) == expected
    assert (plan.stack_bytes, plan.vector_registers) == (stack_bytes, vectors)


@pytest.mark.parametrize(
    ("text", "klass", "place"),
    [
        ("void f(void)", Class.NO_CLASS, ""),
        ("int f(void)", Class.INTEGER, "rax"),
        ("const char *f(void)", Class.INTEGER, "rax"),
        ("float f(void)", Class.SSE, "xmm0"),
        ("long double f(void)", Class.X87, "st0"),
    ],
)
def test_results(text: str, klass: Class, place: str) -> None:
    result = classify(parse_function(text, X86_64_LINUX), X86_64_LINUX).result
    assert (result.eightbyte_class, result.register) == (klass, place)


def test_what_is_not_known_raises() -> None:
    nothing = Result(VOID, Returning.NOTHING)
    variadic = FunctionType("f", (), nothing, is_variadic=True)
    with pytest.raises(DeclarationError, match=r"^f\(\) is variadic, which cannot be called yet$"):
        classify(variadic, X86_64_LINUX)
    by_value = FunctionType("f", (Parameter("s", Record("s"), Passing.VALUE),), nothing)
    with pytest.raises(DeclarationError, match=r"^struct s is incomplete: it has no size$"):
        classify(by_value, X86_64_LINUX)
    with pytest.raises(DeclarationError, match=r"^no calling convention is known for target mars$"):
        classify(FunctionType("f", (), nothing), X86_64_LINUX._replace(name="mars", calling_convention="martian"))


@pytest.mark.parametrize(
    ("ctype", "text"),
    [
        (Pointer(CHAR, True), "const char *x"),
        (Pointer(Pointer(CHAR, True)), "const char **x"),
        (Pointer(Pointer(CHAR, True), True), "const char *const *x"),
        (Array(INT, 4), "int x[4]"),
        (Array(INT, 4, True), "const int x[4]"),
        (Pointer(FunctionPrototype("int (*)(void *)")), "int (*x)(void *)"),
        (Pointer(Record("tm")), "struct tm *x"),
        (Pointer(Record("sqlite3", "")), "sqlite3 *x"),
        (VOID, "void x"),
    ],
)
def test_spelling(ctype: object, text: str) -> None:
    assert spell(ctype, "x") == text


@pytest.mark.parametrize(
    "text",
    [
        "double hypot(double x, double y)",
        "void noop(void)",
        "const char *const *names(const char *const *list)",
        "int poll(struct pollfd *fds, unsigned long count, int timeout)",
    ],
)
def test_a_declaration_prints_as_it_was_written(text: str) -> None:
    assert declaration(parse_function(text, X86_64_LINUX)) == text


def test_sizes() -> None:
    assert size_bytes(LONG_DOUBLE, X86_64_LINUX) == 16
    assert size_bytes(WCHAR, X86_64_LINUX) == 4
    assert size_bytes(Array(INT, 3), X86_64_LINUX) == 12
    with pytest.raises(DeclarationError, match="the size of 'quux' is not known"):
        size_bytes(Scalar("quux", Kind.SIGNED), X86_64_LINUX)
    with pytest.raises(DeclarationError, match="void and functions have no size"):
        size_bytes(VOID, X86_64_LINUX)
