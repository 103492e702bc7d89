"""What is otherwise on Windows, shown with its facts put into this process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from here import IS_WINDOWS
from telling import told

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
    assert len(tried) == 2 and "nothere.dll" in tried[0] and "libnothere.dll" in tried[1]


def test_stacks_are_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "IS_WINDOWS", True)
    with pytest.raises(EngineError) as caught:
        stack._take_node(65536, b"")
    assert str(caught.value) == (
        "calls have no stacks of their own on Windows yet: leave out stack_bytes=, or the Stack"
    )


# -- on Windows itself -----------------------------------------------------------------------------------------------

on_windows = pytest.mark.skipif(not IS_WINDOWS, reason="Windows only")
TEXT = "int id_int(int x);"


@on_windows
def test_dlls_are_looked_for_where_the_process_says(engine: str, targets: str, tmp_path: Path) -> None:
    for name in (f"plain_{engine}.dll", f"libprefixed_{engine}.dll"):
        shutil.copy(targets, tmp_path / name)
    names = (f"plain_{engine}", f"plain_{engine}.dll", f"prefixed_{engine}")
    for name in names:
        with pytest.raises(LibraryNotFoundError) as caught:
            callgate.load(name, TEXT, engine=engine)
        assert str(caught.value).startswith(f"cannot load {name!r}; tried:\n  ")
    with os.add_dll_directory(tmp_path):
        for name in names:
            assert callgate.load(name, TEXT, engine=engine).id_int(-7) == -7


@on_windows
def test_paths_of_dlls(engine: str, targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / f"paths {engine}.dll"
    shutil.copy(targets, other)
    monkeypatch.chdir(tmp_path)
    for path in (other, str(other), other.as_posix(), f".\\{other.name}", f"./{other.name}"):
        assert callgate.load(path, TEXT, engine=engine).id_int(3) == 3
    no_dll = tmp_path / "text.dll"
    no_dll.write_text("this is no library")
    for path in (no_dll, tmp_path / "missing.dll"):
        said = told(callgate.load, path, engine=engine)
        assert (
            said.startswith(f"LibraryNotFoundError: cannot load {str(path)!r}; tried:\n  ")
            and said.count(path.name) == 2
        )


@on_windows
def test_functions_of_the_system(engine: str) -> None:
    kernel = callgate.load(
        "kernel32",
        "unsigned GetCurrentProcessId(void); void SetLastError(unsigned code); unsigned GetLastError(void);"
        "unsigned GetModuleFileNameW(void *module, wchar_t *name, unsigned size);"
        "int MulDiv(int number, int numerator, int denominator);",
        engine=engine,
    )
    assert kernel.GetCurrentProcessId() == os.getpid()
    assert kernel.MulDiv(-(2**31) + 1, 3, 7) == round((-(2**31) + 1) * 3 / 7)
