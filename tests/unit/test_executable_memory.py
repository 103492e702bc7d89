"""The functions of systems that do not run here, above all for executable memory: which, with what, in which order."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callgate.errors import EngineError
from callgate.runtime import addresses, linux_memory, macos_memory, posix_memory, windows_memory
from callgate.runtime.code_memory import CodeMemory
from callgate.runtime.executable import Piece

SIZE = 8192
PIECES = [Piece(0, b"literals"), Piece(4096, b"code")]


class Function:
    """A function of a library that notes how it is called."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]], effect: Callable[..., Any]) -> None:
        self.name, self.calls, self.effect = name, calls, effect
        self.argtypes: list[Any] = []
        self.restype: Any = None

    def __call__(self, *given: Any) -> Any:
        assert len(given) == len(self.argtypes)
        for value, argtype in zip(given, self.argtypes, strict=True):
            argtype.from_param(value)
        self.calls.append((self.name, *given))
        return self.effect(*given)


class Library:
    """A library of such functions; `fails` is the name of one that returns 0."""

    def __init__(self, **effects: Callable[..., Any]) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.effects = effects
        self.fails = ""

    def __getitem__(self, name: str) -> Function:
        if name not in self.effects:
            raise AttributeError(f"function '{name}' not found")

        def effect(*given: Any) -> Any:
            return 0 if name == self.fails else self.effects[name](*given)

        return Function(name, self.calls, effect)

    def taken(self) -> list[tuple[Any, ...]]:
        """The calls since the last time."""
        calls = self.calls[:]
        self.calls.clear()
        return calls


class TestWindows:
    SECTION, PROCESS = 0x55, 0xFFFF_FFFF_FFFF_FFFF
    INVALID = 0xFFFF_FFFF_FFFF_FFFF

    @pytest.fixture
    def pages(self) -> Any:
        return ctypes.create_string_buffer(SIZE)

    @pytest.fixture
    def kernel32(self, pages: Any, monkeypatch: pytest.MonkeyPatch) -> Library:
        start = ctypes.addressof(pages)
        library = Library(
            CreateFileMappingW=lambda *_: self.SECTION,
            MapViewOfFile=lambda *_: start,
            UnmapViewOfFile=lambda *_: 1,
            CloseHandle=lambda *_: 1,
            VirtualAlloc=lambda *_: start,
            VirtualProtect=lambda *_: 1,
            VirtualFree=lambda *_: 1,
            GetCurrentProcess=lambda *_: self.PROCESS,
            FlushInstructionCache=lambda *_: 1,
        )
        monkeypatch.setattr(windows_memory, "_kernel32", windows_memory.Kernel32(library))
        monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
        monkeypatch.setattr(ctypes, "FormatError", lambda code: "Access is denied. ", raising=False)
        return library

    def test_section_views(self, kernel32: Library, pages: Any) -> None:
        """The executable view is never writable, the writable one never executable and soon gone."""
        start = ctypes.addressof(pages)
        memory = windows_memory.SectionMemory(SIZE)
        assert memory.address == start
        assert kernel32.taken() == [
            ("CreateFileMappingW", self.INVALID, None, 0x40, 0, SIZE, None),
            ("MapViewOfFile", self.SECTION, 0x24, 0, 0, SIZE),
        ]
        memory.write(PIECES)
        assert kernel32.taken() == [
            ("MapViewOfFile", self.SECTION, 0x06, 0, 0, SIZE),
            ("UnmapViewOfFile", start),
            ("GetCurrentProcess",),
            ("FlushInstructionCache", self.PROCESS, start, 8),
            ("GetCurrentProcess",),
            ("FlushInstructionCache", self.PROCESS, start + 4096, 4),
        ]
        assert (pages.raw[:8], pages.raw[4096:4100]) == (b"literals", b"code")
        memory.release()
        assert kernel32.taken() == [("UnmapViewOfFile", start), ("CloseHandle", self.SECTION)]

    def test_sections_of_more_than_4_gb(self, kernel32: Library) -> None:
        windows_memory.SectionMemory(5 << 32 | 0x3000)
        assert kernel32.taken()[0] == ("CreateFileMappingW", self.INVALID, None, 0x40, 5, 0x3000, None)

    def test_a_refused_view_closes_its_section(self, kernel32: Library) -> None:
        kernel32.fails = "MapViewOfFile"
        with pytest.raises(OSError, match=r"^MapViewOfFile: Access is denied\. \(error 5\)$"):
            windows_memory.SectionMemory(SIZE)
        assert kernel32.taken()[-1] == ("CloseHandle", self.SECTION)

    def test_pages(self, kernel32: Library, pages: Any) -> None:
        start = ctypes.addressof(pages)
        memory = windows_memory.VirtualMemory(SIZE)
        assert kernel32.taken() == [("VirtualAlloc", None, SIZE, 0x3000, 0x04)]
        memory.write(PIECES)
        protect, *rest = kernel32.taken()
        assert protect[:4] == ("VirtualProtect", start, SIZE, 0x20)
        assert rest == [("GetCurrentProcess",), ("FlushInstructionCache", self.PROCESS, start, SIZE)]
        assert (pages.raw[:8], pages.raw[4096:4100]) == (b"literals", b"code")
        memory.release()
        assert kernel32.taken() == [("VirtualFree", start, 0, 0x8000)]

    def test_dynamic_code_is_prohibited(self, kernel32: Library) -> None:
        kernel32.fails = "VirtualProtect"
        kernel32.effects["CreateFileMappingW"] = lambda *_: 0
        memory = CodeMemory(windows_memory.LADDER)
        with pytest.raises(EngineError) as caught:
            memory._place(memory._process(), code(), 64, {}, False)
        assert str(caught.value) == (
            "executable memory is refused here (section views: CreateFileMappingW: Access is denied. (error 5); "
            "anonymous pages: VirtualProtect: Access is denied. (error 5)); `callgate doctor` says what to do"
        )
        del caught  # whose frames hold the memory
        gc.collect()
        assert kernel32.taken()[-1][0] == "VirtualFree"


def code() -> Any:
    from callgate.asm.code import Code

    return Code(b"code", (), {})


class Libc:
    """mmap and its kin over a buffer."""

    def __init__(self, pages: Any) -> None:
        self.start = ctypes.addressof(pages)
        self.calls: list[tuple[Any, ...]] = []

    def mmap(self, *given: Any) -> int:
        self.calls.append(("mmap", *given))
        return self.start

    def munmap(self, *given: Any) -> None:
        self.calls.append(("munmap", *given))

    def mprotect(self, *given: Any) -> None:
        self.calls.append(("mprotect", *given))


class TestMacos:
    @pytest.fixture
    def pages(self) -> Any:
        return ctypes.create_string_buffer(SIZE)

    @pytest.fixture
    def libc(self, pages: Any, monkeypatch: pytest.MonkeyPatch) -> Libc:
        libc = Libc(pages)
        for module in (posix_memory, macos_memory):
            monkeypatch.setattr(module, "get_libc", lambda: libc)
        return libc

    @pytest.fixture
    def system(self, libc: Libc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
        library = Library(
            pthread_jit_write_protect_np=lambda *_: None,
            pthread_jit_write_protect_supported_np=lambda *_: 1,
            sys_icache_invalidate=lambda *_: None,
            memmove=ctypes.memmove,
        )
        monkeypatch.setattr(macos_memory, "_system", macos_memory.System(library))
        library.taken()
        yield library

    def test_jit_pages(self, system: Library, libc: Libc, pages: Any) -> None:
        memory = macos_memory.JitMemory(SIZE)
        assert libc.calls == [("mmap", SIZE, 7, 0x0802 | posix_memory.ANONYMOUS, -1)]
        assert gc.isenabled()
        memory.write(PIECES)
        assert gc.isenabled()
        start = libc.start
        assert system.taken() == [
            ("pthread_jit_write_protect_np", 0),
            ("memmove", start, b"literals", 8),
            ("memmove", start + 4096, b"code", 4),
            ("pthread_jit_write_protect_np", 1),
            ("sys_icache_invalidate", start, 8),
            ("sys_icache_invalidate", start + 4096, 4),
        ]
        assert (pages.raw[:8], pages.raw[4096:4100]) == (b"literals", b"code")
        memory.release()
        assert libc.calls[1:] == [("munmap", start, SIZE)]

    def test_processors_of_intel(self, system: Library, libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
        """They protect nothing by thread, so MAP_JIT pages would be writable and executable: ordinary ones are used."""
        system.effects["pthread_jit_write_protect_supported_np"] = lambda: 0
        monkeypatch.setattr(macos_memory, "_system", macos_memory.System(system))
        memory = CodeMemory(macos_memory.LADDER)
        arena, _ = memory._place(memory._process(), code(), 64, {}, False)
        assert memory.rung == "anonymous pages"
        assert memory.refusals == {"MAP_JIT": "this processor does not protect MAP_JIT pages by thread"}
        bytes_, start = arena.size_bytes, libc.start
        assert libc.calls == [
            ("mmap", bytes_, 3, 0x02 | posix_memory.ANONYMOUS, -1),
            ("mprotect", start, bytes_, 5),
        ]
        assert system.taken()[-1] == ("sys_icache_invalidate", start, bytes_)

    def test_errno_has_another_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(addresses, "IS_MACOS", True)
        monkeypatch.setattr(addresses, "function_address", lambda library, name: name)
        assert addresses.c_address("__errno_location") == "__error"
        assert addresses.c_address("memcpy") == "memcpy"

    def test_systems_before_macos_11(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(macos_memory, "_system", None)
        monkeypatch.setattr(ctypes, "PyDLL", lambda name: Library())
        with pytest.raises(OSError, match=r"^macOS 11 or later is needed: function 'pthread_jit_write_protect_np' not"):
            macos_memory.JitMemory(SIZE)


class TestInstructionCache:
    def test_x86_64_needs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", None)
        assert linux_memory._find_flush("x86_64")(0x1000, 64) is None

    def test_aarch64(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """__clear_cache takes the first address and the one behind the last."""
        library = Library(__clear_cache=lambda *_: None)
        monkeypatch.setattr(ctypes, "CDLL", {"libgcc_s.so.1": library}.__getitem__)
        linux_memory._find_flush("aarch64")(0x1000, 64)
        assert library.calls == [("__clear_cache", 0x1000, 0x1040)]

    @pytest.mark.parametrize("missing", ["library", "function"])
    def test_without_libgcc(self, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(name: str) -> Library:
            if missing == "library":
                raise OSError(f"{name}: cannot open shared object file")
            return Library()

        monkeypatch.setattr(ctypes, "CDLL", load)
        with pytest.raises(
            OSError, match=r"^the instruction cache cannot be cleared without libgcc: .*(open|not found)"
        ):
            linux_memory._find_flush("aarch64")

    @pytest.mark.skipif(not hasattr(linux_memory.os, "memfd_create"), reason="the rungs are those of Linux")
    @pytest.mark.parametrize("rung", linux_memory.LADDER, ids=lambda rung: rung.name)
    def test_every_write_is_followed_by_it(self, rung: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the executable addresses, when the bytes are there."""
        cleared = []

        def flush(address: int, size_bytes: int) -> None:
            cleared.append((address, size_bytes, ctypes.string_at(address, 4)))

        monkeypatch.setattr(linux_memory, "_flush", flush)
        memory = rung.allocate(SIZE)
        memory.write(PIECES)
        start = memory.address
        if rung.name == "anonymous pages":
            assert cleared == [(start, SIZE, b"lite")]
        else:
            assert cleared == [(start, 8, b"lite"), (start + 4096, 4, b"code")]
        memory.release()
