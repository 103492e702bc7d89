"""What is otherwise on Windows, shown with its facts put into this process."""

from __future__ import annotations

import pytest

import callgate
from callgate.c.types import WCHAR, Parameter, Passing
from callgate.cpython.conversion import Unbox, UnboxStep
from callgate.errors import EngineError, LibraryNotFoundError
from callgate.runtime import reference, shared_library, stack


def test_a_character_of_two_units_is_no_wchar_t_of_two_bytes() -> None:
    step = UnboxStep(Unbox.WIDE_CHARACTER, 2)
    formal = reference.Formal("put", 1, Parameter("c", WCHAR, Passing.VALUE), step, None)
    assert reference._wide_character(formal, "\uffff") == 0xFFFF
    with pytest.raises(ValueError) as caught:
        reference._wide_character(formal, "\U0001f600")
    assert str(caught.value) == (
        "put() argument 1 must be a character up to U+FFFF, not U+1F600: wchar_t has 2 bytes here; "
        "declare a wstr, or pass the two halves of its UTF-16"
    )


def test_the_process_is_no_library_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "IS_WINDOWS", True)
    with pytest.raises(LibraryNotFoundError) as caught:
        callgate.load(None)
    assert str(caught.value) == 'Windows finds no symbol without its DLL: name one, as in load("ucrtbase")'


def test_what_a_short_name_means_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "IS_WINDOWS", True)
    with pytest.raises(LibraryNotFoundError) as caught:
        callgate.load("nothere")
    first, *tried = str(caught.value).splitlines()
    assert first == "cannot load 'nothere'; tried:"
    assert [line.split(":")[0] for line in tried] == ["  nothere.dll", "  libnothere.dll"]


def test_stacks_are_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "IS_WINDOWS", True)
    with pytest.raises(EngineError) as caught:
        stack._take_node(65536, b"")
    assert str(caught.value) == (
        "calls have no stacks of their own on Windows yet: leave out stack_bytes=, or the Stack"
    )
