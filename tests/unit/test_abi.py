"""The System V classification, and the plan as data."""

from __future__ import annotations

import pytest

from callgate.abi.plan import Class, Piece, classify, classify_types
from callgate.abi.sysv import eightbyte_classes, merge
from callgate.c.declarations import parse_function
from callgate.c.layout import record_layout, size_bytes
from callgate.c.types import (
    CHAR,
    DOUBLE,
    DOUBLE_COMPLEX,
    FLOAT,
    FLOAT_COMPLEX,
    INT,
    INT128,
    LONG,
    LONG_DOUBLE,
    SHORT,
    UNSIGNED_CHAR,
    VOID,
    WCHAR,
    Array,
    CType,
    FunctionPrototype,
    FunctionType,
    Kind,
    Member,
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
from callgate.target import AARCH64_LINUX, AARCH64_MACOS, X86_64_LINUX, Target


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


def struct(*types: CType, tag: str = "struct", **options: int) -> Record:
    members = (Member(f"m{index}", ctype) for index, ctype in enumerate(types))
    return Record("s", tag, tuple(members), **options)


def union(*types: CType) -> Record:
    return struct(*types, tag="union")


def bit_fields(*fields: tuple[CType, int]) -> Record:
    return Record("s", "struct", tuple(Member(f"m{n}", ctype, bits) for n, (ctype, bits) in enumerate(fields)))


def places_of(*types: CType, result: CType = VOID) -> list[str]:
    """The registers or the stack offset of each argument."""
    plan = classify_types(types, result, X86_64_LINUX)
    return [" ".join(argument.registers) or f"+{argument.stack_offset}" for argument in plan.arguments]


NO, INTEGER, SSE = Class.NO_CLASS, Class.INTEGER, Class.SSE
X87, X87UP, MEMORY = Class.X87, Class.X87UP, Class.MEMORY


@pytest.mark.parametrize(
    ("a", "b", "merged"),
    [
        # psABI 3.2.3, rule 4, (a) to (f)
        *((klass, klass, klass) for klass in Class),
        *((klass, NO, klass) for klass in Class),
        *((klass, MEMORY, MEMORY) for klass in Class),
        *((klass, INTEGER, INTEGER) for klass in (SSE, X87, X87UP)),
        (X87, SSE, MEMORY),
        (X87UP, SSE, MEMORY),
        (X87, X87UP, MEMORY),
    ],
)
def test_merge(a: Class, b: Class, merged: Class) -> None:
    assert merge(a, b) is merge(b, a) is merged


@pytest.mark.parametrize(
    ("ctype", "classes", "argument", "result"),
    [
        # one eightbyte
        (struct(CHAR), [INTEGER], "rdi", "rax"),
        (struct(FLOAT), [SSE], "xmm0", "xmm0"),
        (struct(FLOAT, FLOAT), [SSE], "xmm0", "xmm0"),
        (struct(FLOAT, INT), [INTEGER], "rdi", "rax"),
        (struct(INT, FLOAT), [INTEGER], "rdi", "rax"),
        (struct(Array(CHAR, 3)), [INTEGER], "rdi", "rax"),
        (struct(Pointer(VOID)), [INTEGER], "rdi", "rax"),
        (union(INT, DOUBLE), [INTEGER], "rdi", "rax"),
        (union(FLOAT, DOUBLE), [SSE], "xmm0", "xmm0"),
        (struct(union(FLOAT, INT), FLOAT), [INTEGER], "rdi", "rax"),
        # two
        (struct(DOUBLE, INT), [SSE, INTEGER], "xmm0 rdi", "xmm0 rax"),
        (struct(INT, DOUBLE), [INTEGER, SSE], "rdi xmm0", "rax xmm0"),
        (struct(DOUBLE, DOUBLE), [SSE, SSE], "xmm0 xmm1", "xmm0 xmm1"),
        (struct(LONG, LONG), [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        (struct(Array(CHAR, 16)), [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        (struct(Array(CHAR, 9)), [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        (struct(FLOAT, FLOAT, FLOAT), [SSE, SSE], "xmm0 xmm1", "xmm0 xmm1"),
        (struct(FLOAT, FLOAT, INT, FLOAT), [SSE, INTEGER], "xmm0 rdi", "xmm0 rax"),
        (struct(Array(FLOAT, 3), SHORT), [SSE, INTEGER], "xmm0 rdi", "xmm0 rax"),
        (union(Array(DOUBLE, 2), INT), [INTEGER, SSE], "rdi xmm0", "rax xmm0"),
        (union(struct(LONG, DOUBLE), struct(DOUBLE, FLOAT)), [INTEGER, SSE], "rdi xmm0", "rax xmm0"),
        (INT128, [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        (FLOAT_COMPLEX, [SSE], "xmm0", "xmm0"),
        (DOUBLE_COMPLEX, [SSE, SSE], "xmm0 xmm1", "xmm0 xmm1"),
        (struct(INT, FLOAT_COMPLEX), [INTEGER, SSE], "rdi xmm0", "rax xmm0"),
        # an eightbyte of padding alone takes no register
        (struct(DOUBLE, align_bytes=16), [SSE, NO], "xmm0", "xmm0"),
        (struct(INT, align_bytes=16), [INTEGER, NO], "rdi", "rax"),
        # bit-fields are INTEGER
        (bit_fields((INT, 3), (UNSIGNED_CHAR, 2)), [INTEGER], "rdi", "rax"),
        (bit_fields((LONG, 40), (LONG, 40)), [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        # nothing
        (struct(), [], "", ""),
        (struct(Array(struct(), 4)), [], "", ""),
        # long double: memory as an argument, st0 as a result
        (struct(LONG_DOUBLE), [X87, X87UP], "+0", "st0"),
        (union(LONG_DOUBLE, LONG_DOUBLE), [X87, X87UP], "+0", "st0"),
        # the cleanup: X87UP behind another class than X87
        (union(LONG_DOUBLE, LONG), [MEMORY], "+0", "memory"),
        (union(LONG_DOUBLE, DOUBLE), [MEMORY], "+0", "memory"),
        (union(Array(LONG, 2), union(SHORT, LONG_DOUBLE)), [MEMORY], "+0", "memory"),  # in the inner one as well
        # more than two eightbytes
        (struct(LONG, LONG, CHAR), [MEMORY], "+0", "memory"),
        (struct(Array(FLOAT, 5)), [MEMORY], "+0", "memory"),
        (struct(LONG_DOUBLE, LONG_DOUBLE), [MEMORY], "+0", "memory"),
        # members that are not aligned
        (struct(CHAR, LONG, pack_bytes=1), [MEMORY], "+0", "memory"),
        (struct(INT, DOUBLE, pack_bytes=4), [MEMORY], "+0", "memory"),
        (struct(LONG, CHAR, pack_bytes=1), [INTEGER, INTEGER], "rdi rsi", "rax rdx"),
        (struct(FLOAT, FLOAT_COMPLEX, pack_bytes=1), [SSE, SSE], "xmm0 xmm1", "xmm0 xmm1"),
    ],
)
def test_records(ctype: CType, classes: list[Class], argument: str, result: str) -> None:
    assert list(eightbyte_classes(ctype, X86_64_LINUX)) == classes
    (passed,) = classify_types([ctype], VOID, X86_64_LINUX).arguments
    assert (" ".join(passed.registers) or ("+0" if passed.size_bytes else "")) == argument
    plan = classify_types([], ctype, X86_64_LINUX)
    if result == "memory":
        assert (plan.result.eightbyte_class, plan.result_pointer, plan.result.register) == (MEMORY, "rdi", "rax")
    else:
        assert (" ".join(plan.result.registers), plan.result_pointer) == (result, "")


def test_pieces() -> None:
    """The bytes of a value that each register holds; the last may be fewer than eight."""
    (argument,) = classify_types([struct(DOUBLE, Array(CHAR, 3), align_bytes=1)], VOID, X86_64_LINUX).arguments
    assert argument.pieces == (Piece(0, 8, SSE, "xmm0"), Piece(8, 8, INTEGER, "rdi"))
    (argument,) = classify_types([struct(Array(CHAR, 11))], VOID, X86_64_LINUX).arguments
    assert argument.pieces == (Piece(0, 8, INTEGER, "rdi"), Piece(8, 3, INTEGER, "rsi"))


def test_an_argument_is_never_split() -> None:
    """What no longer fits goes to the stack whole; smaller ones behind it still get registers."""
    pair, mixed, doubles = struct(LONG, LONG), struct(LONG, DOUBLE), struct(DOUBLE, DOUBLE)
    assert places_of(*[INT] * 5, pair, INT, INT) == ["rdi", "rsi", "rdx", "rcx", "r8", "+0", "r9", "+16"]
    assert places_of(*[INT] * 6, mixed, DOUBLE)[6:] == ["+0", "xmm0"]
    assert places_of(*[DOUBLE] * 8, mixed, INT)[8:] == ["+0", "rdi"]
    assert places_of(*[DOUBLE] * 7, doubles, FLOAT, FLOAT)[7:] == ["+0", "xmm7", "+16"]
    assert places_of(pair, pair, INT, pair, INT) == ["rdi rsi", "rdx rcx", "r8", "+0", "r9"]
    assert places_of(*[INT] * 5, INT128, INT)[5:] == ["+0", "r9"]


def test_the_stack() -> None:
    """Eightbytes, aligned as the type but to 8 at least; class MEMORY takes no register."""
    big = struct(Array(CHAR, 17))
    assert places_of(big, INT, big, INT) == ["+0", "rdi", "+24", "rsi"]
    assert places_of(struct(Array(CHAR, 17)), struct(LONG_DOUBLE), big) == ["+0", "+32", "+48"]
    assert places_of(*[INT] * 7, INT128)[6:] == ["+0", "+16"]
    assert places_of(struct(), INT, struct(), big) == ["+0", "rdi", "+0", "+0"]
    assert classify_types([big], VOID, X86_64_LINUX).stack_bytes == 32


def test_a_hidden_pointer_takes_the_first_register() -> None:
    big = struct(LONG, LONG, LONG)
    assert places_of(INT, struct(LONG, LONG), result=big) == ["rsi", "rdx rcx"]
    assert places_of(*[INT] * 6, result=big) == ["rsi", "rdx", "rcx", "r8", "r9", "+0"]


def test_variable_arguments_travel_as_others_do() -> None:
    plan = classify_types([Pointer(CHAR, True), INT, DOUBLE, DOUBLE], INT, X86_64_LINUX, is_variadic=True)
    assert [argument.register for argument in plan.arguments] == ["rdi", "rsi", "xmm0", "xmm1"]
    assert (plan.is_variadic, plan.vector_registers) == (
        True,
        2,
    )  # "%al is used to indicate the number of vector registers"
    assert classify_types([INT, *[DOUBLE] * 11], INT, X86_64_LINUX, is_variadic=True).vector_registers == 8


def test_what_is_not_known_raises() -> None:
    nothing = Result(VOID, Returning.NOTHING)
    by_value = FunctionType("f", (Parameter("s", Record("s"), Passing.VALUE),), nothing)
    with pytest.raises(DeclarationError, match=r"^struct s is incomplete: it has no size$"):
        classify(by_value, X86_64_LINUX)
    with pytest.raises(
        DeclarationError, match=r"^struct s is aligned to more than 16 bytes and cannot be passed by value$"
    ):
        classify_types([struct(INT, align_bytes=32)], VOID, X86_64_LINUX)
    assert classify_types([], struct(INT, align_bytes=32), X86_64_LINUX).result_pointer == "rdi"
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


@pytest.mark.parametrize(
    ("target", "aligns"),
    [(X86_64_LINUX, [1, 1, 1]), (AARCH64_MACOS, [1, 1, 1]), (AARCH64_LINUX, [4, 4, 1])],
    ids=lambda given: getattr(given, "name", ""),
)
def test_unnamed_bit_fields_count_for_the_alignment_on_arm_linux(target: Target, aligns: list[int]) -> None:
    """AAPCS64, "Bit-fields subdivision"; Apple keeps to the rule of x86-64.  Packing reaches no width of 0."""
    wide, none = Member("", INT, 5), Member("", INT, 0)
    records = [Record("s", "struct", (Member("a", CHAR), member)) for member in (wide, none)]
    records.append(Record("s", "struct", (Member("a", CHAR), wide), 1))
    assert [record_layout(record, target).align_bytes for record in records] == aligns
