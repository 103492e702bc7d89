"""What is otherwise on Windows, shown with its facts put into this process."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from children import run_child
from here import IS_WINDOWS
from telling import told

import callgate as cg
from callgate import Ptr, Status, i32, u32, wstr
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
        cg.load(None)
    assert str(caught.value) == 'Windows finds no symbol without its DLL: name one, as in load("ucrtbase")'


def test_what_a_short_name_means_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "IS_WINDOWS", True)
    with pytest.raises(LibraryNotFoundError) as caught:
        cg.load("nothere")
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


@pytest.mark.skipif(IS_WINDOWS, reason="it is there on Windows")
def test_the_last_error_is_of_windows(typed_as: Any) -> None:
    assert told(typed_as, "fail_i32", i32, i32, i32, error="last") == (
        'DeclarationError: fail_i32(): error="last" is GetLastError, which is there on Windows only; '
        "leave error= out for errno"
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
            cg.load(name, TEXT, engine=engine)
        assert str(caught.value).startswith(f"cannot load {name!r}; tried:\n  ")
    with os.add_dll_directory(tmp_path):
        for name in names:
            assert cg.load(name, TEXT, engine=engine).id_int(-7) == -7


@on_windows
def test_paths_of_dlls(engine: str, targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / f"paths {engine}.dll"
    shutil.copy(targets, other)
    monkeypatch.chdir(tmp_path)
    for path in (other, str(other), other.as_posix(), f".\\{other.name}", f"./{other.name}"):
        assert cg.load(path, TEXT, engine=engine).id_int(3) == 3
    no_dll = tmp_path / "text.dll"
    no_dll.write_text("this is no library")
    for path in (no_dll, tmp_path / "missing.dll"):
        said = told(cg.load, path, engine=engine)
        assert (
            said.startswith(f"LibraryNotFoundError: cannot load {str(path)!r}; tried:\n  ")
            and said.count(path.name) == 2
        )


@on_windows
def test_functions_of_the_system(engine: str) -> None:
    kernel = cg.load(
        "kernel32",
        "unsigned GetCurrentProcessId(void); void SetLastError(unsigned code); unsigned GetLastError(void);"
        "unsigned GetModuleFileNameW(void *module, wchar_t *name, unsigned size);"
        "int MulDiv(int number, int numerator, int denominator);",
        engine=engine,
    )
    assert kernel.GetCurrentProcessId() == os.getpid()
    assert kernel.MulDiv(-(2**31) + 1, 3, 7) == round((-(2**31) + 1) * 3 / 7)


@on_windows
class TestLastError:
    """`error="last"`: GetLastError, cleared before the call and read right after it."""

    MISSING = "FileNotFoundError: [WinError 2] "

    def missing(self, call: Any, *arguments: Any) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            call(*arguments)
        assert (caught.value.winerror, caught.value.errno) == (2, errno.ENOENT)
        assert str(caught.value) == str(vars(ctypes)["WinError"](2))
        assert cg.errno() == 2

    @pytest.mark.parametrize("blocking", [False, True])
    def test_of_the_system(self, engine: str, tmp_path: Path, blocking: bool) -> None:
        kernel = cg.load("kernel32", error="last", engine=engine, blocking=blocking)

        @kernel.function(fails_if="minus_one")
        def GetFileAttributesW(name: wstr) -> u32: ...
        @kernel.function(error="last")
        def DeleteFileW(name: wstr) -> i32: ...
        @kernel.function(symbol="DeleteFileW")
        def delete(name: wstr) -> Status: ...
        @kernel.function(fails_if="null")
        def GetModuleHandleW(name: wstr) -> Ptr[None]: ...
        @kernel.function(fails_if=lambda handle: handle is None, symbol="GetModuleHandleW")
        def module(name: wstr) -> Ptr[None] | None: ...

        nowhere = str(tmp_path / "nowhere")
        assert GetFileAttributesW(str(tmp_path)) & 0x10  # a directory
        self.missing(GetFileAttributesW, nowhere)
        for function in (DeleteFileW, delete):
            self.missing(function, nowhere)
            (tmp_path / "file").touch()
            assert function("\\\\?\\" + str(tmp_path / "file")) == (None if function is delete else 1)
        assert GetModuleHandleW("kernel32") and module("kernel32")
        for function in (GetModuleHandleW, module):
            with pytest.raises(OSError) as caught:
                function("nothere")
            assert caught.value.winerror == cg.errno() == 126  # ERROR_MOD_NOT_FOUND
        for call in (lambda: GetFileAttributesW("a\0b"), lambda: DeleteFileW(5)):
            with pytest.raises((ValueError, TypeError)):
                call()

    def test_is_cleared_and_kept(self, engine: str) -> None:
        kernel = cg.load("kernel32", "void SetLastError(unsigned code); unsigned GetLastError(void);", engine=engine)

        @kernel.function(symbol="GetLastError", fails_if=lambda code: True, error="last")
        def silent() -> u32: ...

        kernel.SetLastError(5)
        with pytest.raises(OSError) as caught:
            silent()
        assert str(caught.value) == "[Errno 0] silent() failed with result 0 and set no last error"

        @kernel.function(symbol="SetLastError", fails_if=lambda result: True, error="last")
        def fail(code: u32) -> u32: ...

        for code in (5, 0x8007_0005, 0xFFFF_FFFF):
            with pytest.raises(OSError) as caught:
                fail(code)
            signed = ctypes.c_int32(code).value
            assert (caught.value.winerror, str(caught.value)) == (signed, str(vars(ctypes)["WinError"](signed)))
            assert cg.errno() == signed

    def test_in_each_thread(self, engine: str) -> None:
        kernel = cg.load("kernel32", engine=engine)

        @kernel.function(symbol="SetLastError", fails_if=lambda result: True, error="last", blocking=True)
        def fail(code: u32) -> u32: ...

        def codes(code: int) -> set[int | None]:
            seen = set()
            for _ in range(200):
                with pytest.raises(OSError) as caught:
                    fail(code)
                seen.add(caught.value.winerror)
            return seen

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(codes, range(1, 9))) == [{code} for code in range(1, 9)]

    def test_an_int_is_never_null(self, typed_as: Any) -> None:
        assert told(typed_as, "fail_i32", i32, i32, i32, error="last", fails_if="null") == (
            'DeclarationError: fail_i32(): fails_if="null" needs a pointer result'
        )

    @pytest.mark.parametrize("result", [None, cg.f64, cg.char], ids=str)
    def test_what_it_cannot_judge(self, typed_as: Any, result: Any) -> None:
        said = "DeclarationError: fail_i32(): "
        assert told(typed_as, "fail_i32", i32, i32, result, error="last") == (
            f"{said}the result is no integer, so fails_if or error= cannot judge it"
        )


GUARDED = """
import ctypes, os, threading
import callgate as cg
from callgate import Array, Struct, field, u8, u32

class Huge(Struct):
    bytes: Array[u8] = field(length=200_000)

library = cg.load("kernel32", engine="native")
@library.function
def GetCurrentProcessId(ignored: Huge) -> u32: ...

kernel = ctypes.WinDLL("kernel32")
kernel.VirtualFree.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_ulong
kernel.VirtualProtect.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_ulong, ctypes.c_void_p
CONTEXT_BYTES, CONTEXT_RSP = 1232, 0x98
MEM_DECOMMIT, PAGE_READWRITE, PAGE_GUARD = 0x4000, 4, 0x100

def shorten_stack():
    "Leave 64 KiB of this thread's stack, then a guard page, and nothing below but what the system adds to it."
    low, high = ctypes.c_size_t(), ctypes.c_size_t()
    kernel.GetCurrentThreadStackLimits(ctypes.byref(low), ctypes.byref(high))
    memory = ctypes.create_string_buffer(CONTEXT_BYTES + 16)
    context = ctypes.addressof(memory) + 15 & ~15
    kernel.RtlCaptureContext(ctypes.c_void_p(context))
    stack_pointer = ctypes.c_size_t.from_address(context + CONTEXT_RSP).value
    assert low.value < stack_pointer < high.value
    guard = stack_pointer - 0x10000 & ~4095
    lowest = low.value + 0x10000
    assert guard - lowest > 500_000
    assert kernel.VirtualFree(lowest, guard - lowest, MEM_DECOMMIT)
    assert kernel.VirtualProtect(guard, 4096, PAGE_READWRITE | PAGE_GUARD, ctypes.byref(ctypes.c_ulong()))

def run():
    huge = Huge()
    shorten_stack()
    assert GetCurrentProcessId(huge) == os.getpid()
    print("grown", flush=True)

threading.stack_size(4 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


@on_windows
def test_large_frames_let_the_stack_grow() -> None:
    """A frame that passes over the guard page without touching it would end the process."""
    assert run_child(GUARDED)[0].split() == ["grown"]
