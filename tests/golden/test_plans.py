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
from callgate.target import AARCH64_LINUX, AARCH64_MACOS, X86_64_LINUX, X86_64_WINDOWS, Target

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
HUGE = Record("huge", "struct", (Member("x", Array(LONG, 3)),))

ARM = [
    *WINDOWS,
    "long double f(long double a, double b, long double c)",
    "struct hfa { float x, y, z; }; struct hfa hfa(struct hfa a, struct hfa b, struct hfa c, float d, double e)",
    "struct deep { struct { double x[2]; } a; union { double y; double z[2]; } b; }; struct deep deep(int i, struct deep a)",
    "struct five { float x[5]; }; struct five five(struct five a)",
    "struct quad { long double x[2]; }; struct quad quad(struct quad a)",
    "struct pair { long x; int y; }; struct pair pair(char a, struct pair b, int c, int d, int e, int f, struct pair g, int h)",
    "struct even { __int128 x; }; struct even even(int a, struct even b, int c, __int128 d, __int128 e, int f)",
    "struct big { long x[3]; }; struct big big(struct big a, int b, int c, int d, int e, int f, int g, int h, struct big i)",
    "int many(int a, int b, int c, int d, int e, int f, int g, int h, _Bool i, signed char j, short k, int l, char m, long n)",
    "float reals(double a, double b, double c, double d, double e, double f, double g, double h, float i, float j, double k)",
    "int last(struct { float x, y; } a, double b[7], int c, struct { double x[3]; } d, struct { double x[3]; } e, float f)",
]
TWO_OF_16_REGISTERS = [
    ("__int128 from an even register, but on Apple's", [INT, INT128, INT, INT128, INT128, INT]),
    ("aligned as a whole: counts on Apple's alone", [LONG] * 9 + [Record("s", "struct", (Member("x", LONG),), 0, 16)]),
    ("an aligned member counts", [INT, Record("s", "struct", (Member("x", LONG, align_bytes=16),)), LONG]),
]


def plan_of(text: str, target: Target = X86_64_WINDOWS) -> CallPlan:
    return classify(parse_function(text, target), target)


@pytest.mark.parametrize("target", [AARCH64_LINUX, AARCH64_MACOS], ids=lambda target: target.name)
def test_arm(target: Target) -> None:
    """The registers that the standard gives, and what is otherwise on Apple's machines."""
    plans = [f"{text}\n{plan_of(text, target)}" for text in ARM]
    variables: list[CType] = [
        INT,
        DOUBLE,
        INT128,
        Record("p", "struct", (Member("x", DOUBLE),) * 2),
        HUGE,
        FLOAT_COMPLEX,
    ]
    variadic = classify_types(
        [Pointer(CHAR, True), *variables], INT, target, is_variadic=True, variable_count=len(variables)
    )
    plans.append(f"int printf(const char *, ...) given int, double, __int128, and structs\n{variadic}")
    plans += [f"{what}\n{classify_types(types, VOID, target)}" for what, types in TWO_OF_16_REGISTERS]
    for ctype in (INT128, UNSIGNED_INT128, FLOAT_COMPLEX, DOUBLE_COMPLEX):
        plans.append(f"{ctype.name} of itself\n{classify_types([ctype], ctype, target)}")
    compare(f"plans.{target.name}", "\n\n".join(plans))


@pytest.mark.parametrize("target", [AARCH64_LINUX, AARCH64_MACOS], ids=lambda target: target.name)
def test_arm_refuses_wide_alignment(target: Target) -> None:
    with pytest.raises(DeclarationError) as caught:
        classify_types([Record("wide", "struct", (Member("x", INT),), align_bytes=32)], VOID, target)
    assert str(caught.value) == "struct wide is aligned to more than 16 bytes and cannot be passed by value"


@pytest.mark.parametrize("target", [AARCH64_LINUX, AARCH64_MACOS], ids=lambda target: target.name)
@pytest.mark.parametrize(
    "members",
    [
        pytest.param((Member("x", FLOAT), Member("y", DOUBLE)), id="two kinds"),
        pytest.param((Member("x", FLOAT), Member("y", INT)), id="an int"),
        pytest.param((Member("x", FLOAT), Member("y", FLOAT, None, 8)), id="padding"),
        pytest.param((Member("x", FLOAT), Member("y", INT, 3)), id="bits"),
        pytest.param((Member("x", DOUBLE), Member("y", Array(DOUBLE, 0))), id="an open array"),
        pytest.param((Member("x", Array(FLOAT, 5)),), id="five"),
    ],
)
def test_what_is_not_homogeneous(members: tuple[Member, ...], target: Target) -> None:
    plan = classify_types([Record("s", "struct", members)], VOID, target)
    assert plan.arguments[0].registers[0] == "x0"


def test_empty_structs_and_widths_of_nothing_do_not_count() -> None:
    empty = Record("none", "struct", ())
    record = Record("s", "struct", (Member("e", empty), Member("x", FLOAT), Member("", INT, 0), Member("y", FLOAT)))
    plan = classify_types([empty, record], VOID, AARCH64_LINUX)
    assert [argument.registers for argument in plan.arguments] == [(), ("v0", "v1")]


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
