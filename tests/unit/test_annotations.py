"""Annotations to C: what each declares, and the words of every refusal."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from typing import Annotated, Optional

import pytest

from callgate import (
    Array,
    Callback,
    DeclarationError,
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    VarArg,
    Writable,
    bool_,
    char,
    cstr,
    f32,
    f64,
    i8,
    i16,
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
from callgate.c.annotations import ctypes_of, function_type, parameter_of, result_of
from callgate.c.types import Passing, Returning, declaration, spell


class Handle(Opaque): ...


class Color(enum.IntEnum):
    RED = 1
    BLUE = 2


class Wide(enum.IntFlag):
    HIGH = 1 << 31


class Huge(enum.IntEnum):
    LOW = -1
    HIGH = 1 << 40


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


class Either(ctypes.Union):
    _fields_ = (("i", ctypes.c_int), ("f", ctypes.c_float))


class Swapped(ctypes.BigEndianStructure):
    _fields_ = (("x", ctypes.c_int),)


@pytest.mark.parametrize(
    ("annotation", "text", "passing", "is_nullable"),
    [
        (f64, "double x", Passing.VALUE, False),
        (float, "double x", Passing.VALUE, False),
        (f32, "float x", Passing.VALUE, False),
        (longdouble, "long double x", Passing.VALUE, False),
        (i8, "signed char x", Passing.VALUE, False),
        (u8, "unsigned char x", Passing.VALUE, False),
        (i16, "short x", Passing.VALUE, False),
        (u16, "unsigned short x", Passing.VALUE, False),
        (i32, "int x", Passing.VALUE, False),
        (u32, "unsigned int x", Passing.VALUE, False),
        (i64, "long x", Passing.VALUE, False),
        (u64, "unsigned long x", Passing.VALUE, False),
        (usize, "unsigned long x", Passing.VALUE, False),
        (bool, "_Bool x", Passing.VALUE, False),
        (bool_, "_Bool x", Passing.VALUE, False),
        (char, "char x", Passing.VALUE, False),
        (wchar, "wchar_t x", Passing.VALUE, False),
        (Color, "enum Color x", Passing.VALUE, False),
        (cstr, "const char *x", Passing.STRING, False),
        (str, "const char *x", Passing.STRING, False),
        (bytes, "const char *x", Passing.STRING, False),
        (str | bytes | None, "const char *x", Passing.STRING, True),
        (cstr | None, "const char *x", Passing.STRING, True),
        (wstr, "const wchar_t *x", Passing.WIDE_STRING, False),
        (Readable[f64], "const double *x", Passing.READABLE, False),
        (Readable[u8] | None, "const unsigned char *x", Passing.READABLE, True),
        (Readable[None], "const void *x", Passing.READABLE, False),
        (Readable[ctypes.c_int * 4], "const int x[4]", Passing.READABLE, False),
        (Writable[Ptr[Handle]], "Handle **x", Passing.WRITABLE, False),
        (Writable[bytes], "const char **x", Passing.WRITABLE, False),
        (Writable[Color], "enum Color *x", Passing.WRITABLE, False),
        (Ptr[f64], "double *x", Passing.HANDLE, False),
        (Optional[Ptr[Handle]], "Handle *x", Passing.HANDLE, True),  # noqa: UP045  # the older spelling counts too
        (Ptr[None], "void *x", Passing.HANDLE, False),
        (Annotated[int, ctypes.c_void_p], "void *x", Passing.HANDLE, False),
        (ctypes.POINTER(ctypes.c_int), "int *x", Passing.HANDLE, False),
        (Out[f64], "double *x", Passing.OUT, False),
        (Out[Ptr[Handle] | None], "Handle **x", Passing.OUT, False),
        (Point, "struct Point x", Passing.VALUE, False),
        (Either, "union Either x", Passing.VALUE, False),
        (complex, "double _Complex x", Passing.VALUE, False),
        (Readable[Point], "const Point *x", Passing.READABLE, False),
        (Writable[Point] | None, "Point *x", Passing.WRITABLE, True),
        (Ptr[Point], "Point *x", Passing.HANDLE, False),
        (Out[Point], "struct Point *x", Passing.OUT, False),
        (Callable[[i32, Ptr[None]], f64], "double (*x)(int, void *)", Passing.CALLABLE, False),
        (Callable[[], None] | None, "void (*x)(void)", Passing.CALLABLE, True),
        (Callback[[Point], Point], "struct Point (*x)(struct Point)", Passing.CALLBACK, False),
        (Callback[[bytes], None] | None, "void (*x)(const char *)", Passing.CALLBACK, True),
    ],
    ids=str,
)
def test_parameters(annotation: object, text: str, passing: Passing, is_nullable: bool) -> None:
    parameter = parameter_of("x", annotation, "f()")
    assert (spell(parameter.type, "x"), parameter.passing, parameter.is_nullable) == (text, passing, is_nullable)


@pytest.mark.parametrize(
    ("annotation", "text", "returning", "is_nullable"),
    [
        (None, "void", Returning.NOTHING, False),
        (i32, "int", Returning.VALUE, False),
        (Status, "int", Returning.STATUS, False),
        (str, "const char *", Returning.STRING, False),
        (bytes | None, "const char *", Returning.BYTES, True),
        (wstr, "const wchar_t *", Returning.WIDE_STRING, False),
        (Ptr[Handle], "Handle *", Returning.HANDLE, False),
        (Ptr[None] | None, "void *", Returning.HANDLE, True),
        (Color, "enum Color", Returning.VALUE, False),
        (Point, "struct Point", Returning.VALUE, False),
        (complex, "double _Complex", Returning.VALUE, False),
        (Callable[[i32], i32], "int (*)(int)", Returning.FUNCTION, False),
        (Callable[[i32], i32] | None, "int (*)(int)", Returning.FUNCTION, True),
    ],
    ids=str,
)
def test_results(annotation: object, text: str, returning: Returning, is_nullable: bool) -> None:
    result = result_of(annotation, "f()")
    assert (spell(result.type), result.returning, result.is_nullable) == (text, returning, is_nullable)


def test_enums_take_the_first_base_that_fits() -> None:
    assert [parameter_of("x", cls, "f()").type.base.name for cls in (Color, Wide, Huge)] == [
        "int",
        "unsigned int",
        "int64_t",
    ]


WIDTHS = "i8, i16, i32, i64, u8, u16, u32, u64, isize, usize, short, int_, long, uint, ulong"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (int, f"f(): int has no width in C; choose one of {WIDTHS}"),
        (list, "f(): list has no C type; use a ctypes type or a name of callgate"),
        (Readable[int], f"f(): int has no width in C; choose one of {WIDTHS}"),
        (Readable[str], "f(): str has no C type; use a ctypes type or a name of callgate"),
        (Ptr["later"], "f(): callgate.c.names.Ptr['later'] points to nothing that C knows"),
        (f64 | None, "f(): only pointers can be None"),
        (i32 | f64, f"f(): a union can only be `X | None`, not {i32 | f64}"),
        (Out[i32] | None, "f(): an Out parameter is not passed, so it cannot be None"),
        (Out[None], "f(): Out needs the type of a value, not None"),
        (Out[Status], "f(): Out needs the type of a value, not Status"),
        (Status, "f(): Status is for results; use i32"),
        (Handle, "f(): Handle has no members; only a pointer to it can be passed"),
        (Point | None, "f(): only pointers can be None"),
        (Swapped, "Swapped has the byte order of another machine; C cannot take it by value"),
        (
            Readable[Point * 2],
            "f(): an array of structures is not supported by this version of callgate; leave out its length",
        ),
        (Array[f64], "f(): Array is for members of structs; use Readable or Writable here"),
        (VarArg, "f(): VarArg is for the variable arguments: `*args: VarArg`"),
        (Callable, "f(): a function pointer needs its types, as in Callable[[i32], f64]"),
        (Callable[..., i32], "f(): a function pointer needs the types of its arguments, as in Callable[[i32], f64]"),
        (Callable[[int], i32], f"f(), argument 1: int has no width in C; choose one of {WIDTHS}"),
        (Callable[[i32], int], f"f(), result: int has no width in C; choose one of {WIDTHS}"),
        (
            Callback[[cstr], None],
            "f(), argument 1: cstr is for arguments; as a result write str (decoded from UTF-8) or bytes",
        ),
        (Callback[[i32, None], i32], "f(): an argument of a function pointer cannot be void"),
        (
            Callback[[i32], str],
            "f(), result: nobody would keep the memory of str; return a Ptr to memory that lives",
        ),
        (None, "f(): None has no C type; use a ctypes type or a name of callgate"),
        (3, "f(): 3 has no C type; use a ctypes type or a name of callgate"),
    ],
    ids=str,
)
def test_refused_parameters(annotation: object, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parameter_of("x", annotation, "f()")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (cstr, "f(): cstr is for arguments; as a result write str (decoded from UTF-8) or bytes"),
        (f64 | None, "f(): only pointers can be None"),
        (
            Readable[u8],
            "f(): callgate.c.names.Readable[ctypes.c_ubyte] has no C type; use a ctypes type or a name of callgate",
        ),
        (int, f"f(): int has no width in C; choose one of {WIDTHS}"),
        (Handle, "f(): Handle has no members; only a pointer to it can be passed"),
        (Array[None], "f(): an array has items; void is none"),
        (Callable[[int], i32], f"f(), argument 1: int has no width in C; choose one of {WIDTHS}"),
    ],
    ids=str,
)
def test_refused_results(annotation: object, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        result_of(annotation, "f()")
    assert str(caught.value) == message


def no_annotation(x) -> i32: ...  # type: ignore[no-untyped-def]
def no_result(x: i32): ...  # type: ignore[no-untyped-def]
def variadic(x: i32, *rest: i32) -> i32: ...
def only_variable(*rest: VarArg) -> i32: ...
def keywords(x: i32, **rest: i32) -> i32: ...
def keyword_only(*, x: i32) -> i32: ...
def default(x: i32 = 3) -> i32: ...
async def awaited(x: i32) -> i32: ...
def middle_out(x: i32, y: Out[i32], z: i32) -> i32: ...
def unknown_name(x: i33) -> i32: ...  # type: ignore[name-defined]  # noqa: F821
def not_evaluable(x: Readable[u8, u8][0]) -> i32: ...  # type: ignore[type-arg]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, "no_annotation() parameter 'x' has no annotation; give its C type, as in `x: i32`"),
        (no_result, "no_result() result has no annotation; write `-> None` for void"),
        (variadic, "variadic() parameter '*rest': variable arguments are declared as `*rest: VarArg`"),
        (only_variable, "only_variable(): C wants a parameter before the variable ones"),
        (keywords, "keywords(): C has no keyword-only parameters"),
        (keyword_only, "keyword_only(): C has no keyword-only parameters"),
        (default, "default(): C has no default arguments; leave the default out"),
        (
            awaited,
            "awaited(): native code returns once; use a plain def without async and yield; asyncio.to_thread awaits",
        ),
        (middle_out, "middle_out(): Out parameters must be all leading or all trailing"),
        (
            unknown_name,
            "unknown_name() parameter 'x': cannot evaluate the annotation 'i33': name 'i33' is not defined",
        ),
        (len, "<built-in function len> is not a function written in Python; a declaration is a def with `...`"),
    ],
    ids=lambda value: getattr(value, "__name__", "message"),
)
def test_refused_functions(function: Callable[..., object], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        function_type(function)
    assert str(caught.value) == message


def test_an_annotation_that_does_not_evaluate_names_itself() -> None:
    with pytest.raises(DeclarationError, match=r"^not_evaluable\(\) parameter 'x': cannot evaluate the annotation "):
        function_type(not_evaluable)


def leading(a: Out[i32], b: Out[f64], c: i32, /, d: cstr) -> i64:
    "Doc."


def test_function_type() -> None:
    signature = function_type(leading)
    assert declaration(signature) == "long leading(int *a, double *b, int c, const char *d)"
    assert (signature.positional_only, signature.doc) == (1, "Doc.")


def printing(format: cstr, *rest: VarArg) -> i32: ...


def test_variable_arguments() -> None:
    signature = function_type(printing)
    assert declaration(signature) == "int printing(const char *format, ...)"
    assert (signature.is_variadic, [p.name for p in signature.parameters]) == (True, ["format"])


def test_locals_are_searched_first() -> None:
    class Local(Opaque): ...

    def f(x: Ptr[Local]) -> Ptr[Local]: ...

    assert declaration(function_type(f, locals())) == "Local *f(Local *x)"
    with pytest.raises(DeclarationError, match="name 'Local' is not defined"):
        function_type(f)


def test_ctypes_of_makes_an_opaque_type_once() -> None:
    records: dict[str, type] = {}
    ctype = result_of(Ptr[Handle], "f()").type
    assert ctypes_of(ctype, records) is ctypes_of(ctype, records)
    assert list(records) == ["Handle"]
