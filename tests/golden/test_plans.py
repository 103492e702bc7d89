"""Golden call plans of conventions that this process need not have: where arguments and results travel, as text."""

from __future__ import annotations

import pytest
from test_listings import compare

from callgate.abi.plan import CallPlan, classify, classify_types
from callgate.c.declarations import parse_function
from callgate.c.types import (
    CHAR,
    DOUBLE,
    DOUBLE_COMPLEX,
    FLOAT,
    FLOAT_COMPLEX,
    INT,
    INT128,
    LONG,
    UNSIGNED_INT128,
    VOID,
    Array,
    CType,
    Member,
    Pointer,
    Record,
)
from callgate.errors import DeclarationError
from callgate.target import X86_64_LINUX, X86_64_WINDOWS

WINDOWS = [
    "void none(void)",
    "int mixed(int a, double b, char *c, float d, long e, long double f)",
    "long double widths(signed char a, unsigned short b, long long c, wchar_t d, size_t e, _Bool f)",
    "struct one { float x; }; struct one one(struct one s, int a)",
    "struct eight { int x; float y; }; struct eight eight(int a, int b, int c, int d, struct eight s)",
    "struct three { char x[3]; }; struct three three(struct three s, int a)",
    "struct point { double x, y; }; struct point scale(struct point p, double by, int a, struct point q, struct point r)",
    "union word { long long i; double d; }; union word word(union word w, double x)",
]


def plan_of(text: str) -> CallPlan:
    return classify(parse_function(text, X86_64_WINDOWS), X86_64_WINDOWS)


def test_windows() -> None:
    plans = [f"{text}\n{plan_of(text)}" for text in WINDOWS]
    variadic = classify_types([Pointer(CHAR, True), INT, DOUBLE, DOUBLE, DOUBLE], INT, X86_64_WINDOWS, is_variadic=True)
    plans.append(f"int printf(const char *, ...) given int, double, double, double\n{variadic}")
    for ctype in (INT128, UNSIGNED_INT128, FLOAT_COMPLEX, DOUBLE_COMPLEX):
        plans.append(f"{ctype.name} of itself\n{classify_types([ctype], ctype, X86_64_WINDOWS)}")
    compare("plans.x86_64-windows", "\n\n".join(plans))


@pytest.mark.parametrize(
    ("ctype", "problem"),
    [
        (Record("none", "struct", ()), "struct none is empty and cannot be passed by value on x86_64-windows"),
        (
            Record("wide", "struct", (Member("x", INT),), align_bytes=32),
            "struct wide is aligned to more than 16 bytes and cannot be passed by value",
        ),
    ],
)
def test_what_windows_refuses(ctype: CType, problem: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        classify_types([ctype], VOID, X86_64_WINDOWS)
    assert str(caught.value) == problem


def test_long_doubles_of_16_bytes_are_refused() -> None:
    """gcc's ms_abi on Linux has them; Windows itself has none."""
    target = X86_64_LINUX._replace(name="here", calling_convention="win64")
    with pytest.raises(DeclarationError) as caught:
        classify(parse_function("long double f(int)", target), target)
    assert str(caught.value) == "long double cannot be passed by value on here"


def test_arrays_are_pointers() -> None:
    plan = classify_types([Array(LONG, 4), FLOAT], LONG, X86_64_WINDOWS)
    assert [argument.registers for argument in plan.arguments] == [("rcx",), ("xmm1",)]
