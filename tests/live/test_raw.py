"""Raw calls: words to an address, on both engines, and every word that is none."""

from __future__ import annotations

import ctypes
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from here import IS_WINDOWS

import callgate as cg
from callgate import i64

SOURCE = Path(__file__).with_name("stacks.c")
WORDS = (0, 1, -1, 2**30 - 1, 2**30, -(2**30), 2**60 - 1, 2**60, -(2**60), 2**63 - 1, -(2**63), 2**63, 2**64 - 1)


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


@pytest.fixture
def raw(engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """callgate.raw as it is on an engine."""
    monkeypatch.setenv("CALLGATE_ENGINE", engine)
    module = importlib.import_module("callgate.raw")
    yield importlib.reload(module)
    monkeypatch.undo()
    importlib.reload(module)


@cache
def library(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(path)


def address_of(path: str, name: str) -> int:
    address = ctypes.cast(library(path)[name], ctypes.c_void_p).value
    assert address is not None
    return address


def calls(raw: ModuleType) -> list[Callable[..., int]]:
    """Both functions, so that they take the same arguments; Windows has no stacks of their own."""
    if IS_WINDOWS:
        return [raw.call]
    stack = cg.Stack(1 << 16)
    return [raw.call, lambda *words: raw.call_on(stack, *words)]


class Index:
    """No int, but as good as one."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_no_word_to_nine(raw: ModuleType, path: str) -> None:
    """All that fits into registers, and more."""
    count_words, nothing = address_of(path, "count_words"), address_of(path, "nothing")
    for call in calls(raw):
        assert call(nothing) == -1
        for count in range(10):
            assert call(count_words, count, *range(1, count + 1)) == count


def test_32_words(raw: ModuleType, path: str) -> None:
    words = [(-1) ** number * 4**number for number in range(31)] + [2**64 - 1]
    expected = sum(word * weight for weight, word in enumerate(words, 1))
    expected = (expected + 2**63) % 2**64 - 2**63
    for call in calls(raw):
        assert call(address_of(path, "weigh"), *words) == expected
        assert call(Index(address_of(path, "weigh")), *map(Index, words)) == expected


@pytest.mark.parametrize("word", WORDS)
def test_every_size_of_word(raw: ModuleType, path: str, word: int) -> None:
    signed = (word + 2**63) % 2**64 - 2**63
    for call in calls(raw):
        for given in (word, Index(word)):
            assert call(address_of(path, "sum"), given, 0) == signed
            assert call(address_of(path, "sum"), 0, given) == signed


def test_the_result_is_a_signed_word(raw: ModuleType, path: str) -> None:
    for call in calls(raw):
        assert call(address_of(path, "largest")) == 2**63 - 1
        assert call(address_of(path, "smallest")) == -(2**63)


def test_bools_are_ints(raw: ModuleType, path: str) -> None:
    for call in calls(raw):
        assert call(address_of(path, "sum"), True, True) == 2


REFUSED = [
    ((), TypeError, "{f}() takes at least {least} argument{s} ({none} given)"),
    ((0,), ValueError, "{f}() argument {a} must be the address of a function, not 0"),
    ((0, 5), ValueError, "{f}() argument {a} must be the address of a function, not 0"),
    (("x",), TypeError, "{f}() argument {a} must be int, not str"),
    ((None,), TypeError, "{f}() argument {a} must be int, not None"),
    ((1 << 64,), OverflowError, "{f}() argument {a} must be in {words} (a word), not 18446744073709551616"),
    (("here", 1.0), TypeError, "{f}() argument {b} must be int, not float"),
    (("here", 1, b"x"), TypeError, "{f}() argument {c} must be int, not bytes"),
    (("here", 1, 2**64), OverflowError, "{f}() argument {c} must be in {words} (a word), not 18446744073709551616"),
    (("here", -(2**63) - 1), OverflowError, "{f}() argument {b} must be in {words} (a word), not -9223372036854775809"),
    (("here", -(2**64)), OverflowError, "{f}() argument {b} must be in {words} (a word), not -18446744073709551616"),
    (("here", Index(2**64)), OverflowError, "{f}() argument {b} must be in {words} (a word), not 18446744073709551616"),
    (("here", 1 << 500), OverflowError, "{f}() argument {b} must be in {words} (a word), not an int of 501 bits"),
    (("here", *[0] * 33), TypeError, "{f}() takes at most {most} arguments ({many} given)"),
]


@pytest.mark.parametrize(("given", "kind", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(raw: ModuleType, path: str, given: tuple[Any, ...], kind: type[Exception], text: str) -> None:
    given = tuple(address_of(path, "here") if word == "here" else word for word in given)
    for function, call, shift in zip(("call", "call_on"), calls(raw), (0, 1), strict=False):
        with pytest.raises(kind) as caught:
            call(*given)
        assert type(caught.value) is kind
        assert str(caught.value) == text.format(
            f=function, least=1 + shift, s="s" * shift, none=shift, most=33 + shift, many=34 + shift,
            a=1 + shift, b=2 + shift, c=3 + shift, words="-9223372036854775808..18446744073709551615",
        )  # fmt: skip


def test_an_index_that_raises(raw: ModuleType, path: str) -> None:
    class Bad:
        def __index__(self) -> int:
            raise KeyError("mine")

    for call in calls(raw):
        with pytest.raises(KeyError, match="mine"):
            call(address_of(path, "sum"), 1, Bad())


@pytest.mark.parametrize("thing", [None, 5, "stack", b"x" * 64, cg.Stack], ids=repr)
def test_no_stack(raw: ModuleType, path: str, thing: Any) -> None:
    name = "None" if thing is None else type(thing).__name__
    with pytest.raises(TypeError, match=rf"^call_on\(\) argument 1 must be Stack, not {name}$"):
        raw.call_on(thing, address_of(path, "here"))


def test_keywords_are_refused(raw: ModuleType, path: str) -> None:
    with pytest.raises(TypeError, match="keyword"):
        raw.call(address_of(path, "here"), word=1)


def test_an_exception_of_a_callback_comes_out(raw: ModuleType, path: str) -> None:
    @cg.callback
    def fails(number: i64) -> i64:
        raise KeyError(number)

    @cg.callback
    def doubles(number: i64) -> i64:
        return 2 * number

    for call in calls(raw):
        with pytest.raises(KeyError):
            call(address_of(path, "call_each"), fails.address, 3)
        assert call(address_of(path, "call_each"), doubles.address, 4) == 12


def test_what_they_tell() -> None:
    from callgate import raw

    assert str(inspect.signature(raw.call)) == "(address, /, *words)"
    assert str(inspect.signature(raw.call_on)) == "(stack, address, /, *words)"
    assert raw.call.__module__ == "callgate.raw"
    assert "0 to 32 words" in (raw.call.__doc__ or "")
    assert cg.raw is raw


def test_builtins_pickle() -> None:
    import pickle

    from callgate import raw

    assert pickle.loads(pickle.dumps(raw.call)) is raw.call
