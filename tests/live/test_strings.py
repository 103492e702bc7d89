"""Strings in both directions: char and wchar_t, NUL, None, surrogates, subclasses, every length near a vector's."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from here import C_INT, WCHAR_BITS, wide_units
from telling import Problem, told

import callgate as cg
from callgate import Out, Readable, cstr, wstr

LENGTHS = [0, 1, 2, 7, 14, 15, 16, 17, 30, 31, 32, 33, 47, 48, 63, 64, 65, 4095, 4096, 4097, 100_000]


class Text(str):
    """A str that lies wherever Python code could."""

    def encode(self, *arguments: Any) -> bytes:
        raise Problem("encode of a str")

    def __contains__(self, item: Any) -> bool:
        return False

    def __len__(self) -> int:
        return 3

    def __str__(self) -> str:
        return "other"


class Data(bytes):
    def __contains__(self, item: Any) -> bool:
        return False

    def __len__(self) -> int:
        return 3

    def __bytes__(self) -> bytes:
        return b"other"


@pytest.fixture
def lib(bound: Any) -> Any:
    """The string functions, from C text: None is NULL everywhere."""
    return bound(
        """size_t length(const char *s); size_t wide_length(const wchar_t *s);
        const char *echo(const char *s); char *echo_mutable(const char *s); const wchar_t *wide_echo(const wchar_t *s);
        size_t both_lengths(const char *a, const char *b); size_t length_and(long before, const char *s, long after);
        const char *word(int which); const wchar_t *wide_word(int which);"""
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length(lib: Any, length: int) -> None:
    data = b"x" * length
    text = data.decode()
    assert [lib.length(data), lib.length(text), lib.length(Data(data)), lib.wide_length(text)] == [length] * 4
    assert [lib.echo(data), lib.echo(text)] == [data] * 2
    assert lib.wide_echo(text) == text
    assert lib.both_lengths(data, b"abc") == 1000 * length + 3
    assert lib.both_lengths("abc", data) == 3000 + length
    assert lib.length_and(1, data, 2) == length + 20100


@pytest.mark.parametrize("length", [length for length in LENGTHS if 0 < length < 100])
def test_a_nul_is_found_wherever_it_is(lib: Any, length: int) -> None:
    refused = "ValueError: length() argument 1 must not contain a NUL: embedded null "
    wide = "ValueError: wide_length() argument 1 must not contain a NUL: embedded null character"
    for place in {0, length // 2, length - 1}:
        data = b"x" * place + b"\0" + b"x" * (length - 1 - place)
        assert told(lib.length, data) == refused + "byte"
        assert told(lib.length, data.decode()) == refused + "byte"
        assert told(lib.length, Data(data)) == refused + "byte"
        assert told(lib.length, Text(data.decode())) == refused + "byte"
        assert told(lib.wide_length, data.decode()) == wide
        assert told(lib.wide_length, Text(data.decode())) == wide
        assert (
            told(lib.both_lengths, "a", data)
            == refused.replace("length() argument 1", "both_lengths() argument 2") + "byte"
        )


@pytest.mark.parametrize(
    ("text", "size"), [("é", 2), ("€uro", 6), ("\U0001f600", 4), ("\x7f\x80", 3), ("é" * 50, 100), ("\udbff"[:0], 0)]
)
def test_str_travels_as_utf_8(lib: Any, text: str, size: int) -> None:
    assert lib.length(text) == size == len(text.encode())
    assert lib.echo(text).decode() == text
    assert lib.wide_length(text) == wide_units(text)
    assert lib.wide_echo(text) == text


def test_surrogates(lib: Any) -> None:
    refused = r"UnicodeEncodeError: 'utf-8' codec can't encode character '\ud800' in position 1: surrogates not allowed"
    assert told(lib.length, "a\ud800b") == refused
    assert told(lib.both_lengths, b"", "a\ud800b") == refused
    assert lib.wide_length("a\ud800b") == 3
    assert lib.wide_echo("a\ud800b") == "a\ud800b"


def test_subclasses_are_what_they_hold(lib: Any) -> None:
    assert lib.echo(Text("four")) == b"four"
    assert lib.wide_echo(Text("four")) == "four"
    assert lib.echo(Data(b"four")) == b"four"


def test_none_is_null_where_it_may_be(lib: Any, typed_as: Any) -> None:
    assert lib.length(None) == lib.wide_length(None) == 2**64 - 1
    assert (lib.echo(None), lib.wide_echo(None), lib.word(4), lib.wide_word(4)) == (None, None, None, None)
    length, wide = typed_as("length", cstr, cg.usize), typed_as("wide_length", wstr, cg.usize)
    assert told(length, None) == "TypeError: length() argument 1 must be str or bytes, not None"
    assert told(wide, None) == "TypeError: wide_length() argument 1 must be str, not None"
    for annotation in (cstr | None, str | None, bytes | None, str | bytes | None):
        assert typed_as("length", annotation, cg.usize)(None) == 2**64 - 1
    assert typed_as("wide_length", wstr | None, cg.usize)(None) == 2**64 - 1


@pytest.mark.parametrize(
    ("thing", "word"),
    [(1, "int"), (1.5, "float"), (bytearray(b"x"), "bytearray"), (memoryview(b"x"), "memoryview"), (["x"], "list"),
     (ctypes.c_int(1), C_INT), (ctypes.c_void_p(0), "c_void_p"), (str, "type"), (ctypes.c_wchar_p("x"), "c_wchar_p")],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
def test_what_a_string_may_not_be(lib: Any, typed_as: Any, thing: Any, word: str) -> None:
    assert told(lib.length, thing) == f"TypeError: length() argument 1 must be str or bytes or None, not {word}"
    assert told(lib.length_and, 1, thing, 1) == (
        f"TypeError: length_and() argument 2 must be str or bytes or None, not {word}"
    )
    assert told(typed_as("length", cstr, cg.usize), thing) == (
        f"TypeError: length() argument 1 must be str or bytes, not {word}"
    )
    assert told(lib.wide_length, thing) == f"TypeError: wide_length() argument 1 must be str or None, not {word}"
    assert told(lib.wide_length, b"x") == "TypeError: wide_length() argument 1 must be str or None, not bytes"


def test_ctypes_strings(lib: Any, typed_as: Any) -> None:
    length = typed_as("length", cstr, cg.usize)
    buffer = ctypes.create_string_buffer(b"text", 10)
    for thing in (
        ctypes.c_char_p(b"text"), buffer, ctypes.byref(buffer), ctypes.cast(buffer, ctypes.POINTER(ctypes.c_char))
    ):  # fmt: skip
        assert lib.length(thing) == length(thing) == 4
    assert length(ctypes.byref(buffer, 1)) == 3
    for null in (ctypes.c_char_p(), ctypes.POINTER(ctypes.c_char)()):
        assert lib.length(null) == 2**64 - 1
        assert told(length, null) == "TypeError: length() argument 1 must be str or bytes, not NULL"


def test_a_char_array_without_a_nul_is_no_string(lib: Any) -> None:
    array = (ctypes.c_char * 3)(b"a", b"b", b"c")
    for thing in (array, ctypes.byref(array)):
        assert (
            told(lib.length, thing)
            == "ValueError: length() argument 1 must end with a NUL, and c_char_Array_3 has none"
        )
    assert lib.length((ctypes.c_char * 3)(b"a", b"b")) == 2


# -- results --------------------------------------------------------------------------------------------------------
def test_strings_as_results(typed_as: Any) -> None:
    as_str, as_bytes = typed_as("word", cg.i32, str), typed_as("word", cg.i32, bytes)
    assert [as_str(which) for which in range(3)] == ["", "word", "été"]
    assert [as_bytes(which) for which in range(4)] == [b"", b"word", "été".encode(), b"\xff\xfe"]
    assert told(as_str, 3) == (
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    )
    null = "ValueError: word() returned NULL; declare the result `X | None` to get None"
    assert told(as_str, 4) == told(as_bytes, 4) == null
    assert typed_as("word", cg.i32, str | None)(4) is None
    assert typed_as("word", cg.i32, bytes | None)(4) is None
    assert typed_as("word", cg.i32, str | None)(1) == "word"


def test_wide_strings_as_results(typed_as: Any) -> None:
    wide = typed_as("wide_word", cg.i32, wstr)
    assert [wide(which) for which in range(3)] == ["", "word", "é\U0001f600"]
    if WCHAR_BITS == 32:
        assert told(wide, 3) == "ValueError: character U+110000 is not in range [U+0000; U+10ffff]"
    assert told(wide, 4) == "ValueError: wide_word() returned NULL; declare the result `X | None` to get None"
    assert typed_as("wide_word", cg.i32, wstr | None)(4) is None


def test_char_pointers_of_c_text(lib: Any) -> None:
    assert lib.echo("été") == "été".encode()  # const char *: bytes
    pointer = lib.echo_mutable(data := b"text")  # char *: a pointer, whose address survives
    assert isinstance(pointer, ctypes.POINTER(ctypes.c_char))
    assert ctypes.cast(pointer, ctypes.c_char_p).value == data
    assert lib.echo_mutable(None) is None


def test_strings_as_outs(typed_as: Any) -> None:
    assert typed_as("out_string", cstr | None, Out[str], None)("été") == "été"
    assert typed_as("out_string", cstr | None, Out[bytes], None)("été") == "été".encode()
    assert typed_as("out_wide_string", wstr | None, Out[wstr], None)("é\U0001f600") == "é\U0001f600"
    assert typed_as("out_string", cstr | None, Out[str | None], None)(None) is None
    for symbol, argument, out in (
        ("out_string", cstr, str),
        ("out_string", cstr, bytes),
        ("out_wide_string", wstr, wstr),
    ):
        call = typed_as(symbol, argument | None, Out[out], None)
        assert told(call, None) == f"ValueError: {symbol}() left x2 NULL; declare it `Out[X | None]` to get None"


def test_data_with_nuls_is_a_buffer(typed_as: Any) -> None:
    assert typed_as("u8_sum", Readable[cg.u8], cg.usize, cg.ulong)(b"\1\0\2", 3) == 3
    assert typed_as("u8_sum", Readable[cg.char], cg.usize, cg.ulong)(b"\1\0\2", 3) == 3


def test_a_str_keeps_its_encoding_during_the_call(lib: Any) -> None:
    """Many arguments of fresh strings, each of whose encodings is a fresh object."""
    for number in range(300):
        text = "é" * number
        assert lib.both_lengths(text, text + "é") == 1000 * (2 * number) + 2 * number + 2
