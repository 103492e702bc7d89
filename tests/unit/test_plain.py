"""The reader of plain prototypes agrees with the full reader wherever it reads at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callgate.c.declarations import _read, parse
from callgate.c.known_names import known_types
from callgate.c.plain import read_plain
from callgate.c.source import Source
from callgate.errors import DeclarationError
from callgate.target import X86_64_LINUX

KNOWN = known_types(X86_64_LINUX)
WORDS = ["int", "unsigned int", "int unsigned", "long long", "unsigned", "char", "signed char", "double", "long double"]
WORDS += [
    "void",
    "size_t",
    "uint8_t",
    "FILE",
    "sqlite3",
    "gzFile",
    "voidpc",
    "float",
    "long int",
    "_Bool",
    "wchar_t",
    "uLong",
]
WORDS += ["quux_t", "long float", "struct s", "va_list"]
NAMES = ["x", "y", "count", "__n", "in", "n1", "", "int", "x"]

types = st.tuples(
    st.sampled_from(["", "const "]), st.sampled_from(WORDS), st.sampled_from([" ", " *", "**", " * *", "*const "])
)
parameters = st.lists(st.tuples(types, st.sampled_from(NAMES)), max_size=5)


@st.composite
def prototypes(draw: st.DrawFn) -> str:
    result = "".join(draw(types))
    inner = ", ".join("".join(parts) + name for parts, name in draw(parameters))
    ending = draw(st.sampled_from([";", ";", ";", ";\n", "", " ; ;", ") ;"]))
    name = draw(st.sampled_from(["f", "g", "zlibVersion", "for", "EXPORT"]))
    return f"{result}{name}({inner or draw(st.sampled_from(['', 'void']))}){ending}"


@given(st.lists(prototypes(), min_size=1, max_size=3))
def test_agreement(texts: list[str]) -> None:
    text = "\n".join(texts)
    plain = read_plain(text, KNOWN)
    if plain is None:
        return
    full = _read(Source(text), X86_64_LINUX)
    assert plain == full.functions
    assert not full.refused


@pytest.mark.parametrize(
    "text",
    [
        "double hypot(double x, double y);",
        "void noop(void); int getpid();",
        "size_t strlen(const char *s);\nchar *strchr(const char *, int);",
        "int compress(uint8_t *dest, unsigned long *size, const uint8_t *source, unsigned long n);",
        "sqlite3_stmt *next(sqlite3 *db, sqlite3_stmt **all);",
    ],
)
def test_what_is_plain(text: str) -> None:
    assert read_plain(text, KNOWN) == _read(Source(text), X86_64_LINUX).functions


@pytest.mark.parametrize(
    "text",
    [
        "",
        "double hypot(double x, double y)",
        "extern double cos(double x);",
        "/* a comment */ int f(void);",
        "int f(int v[4]);",
        "int f(int (*g)(int));",
        "int printf(const char *format, ...);",
        "UINT f(void);",
        "int f(void), g(void);",
        "int f(int x); int f(long x);",
        "struct s f(void);",
        "int x;",
        "int f(const);",
        "int f(int,);",
        "int f(void *,void);",
    ],
)
def test_what_is_left_to_the_full_reader(text: str) -> None:
    assert read_plain(text, KNOWN) is None


def test_errors_come_from_the_full_reader() -> None:
    with pytest.raises(DeclarationError, match="line 2, column 7: unknown type name 'reel'"):
        parse("int g(void);\nint f(reel x);", X86_64_LINUX)
