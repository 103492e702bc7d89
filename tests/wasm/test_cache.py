"""Compiled modules on disk: found again, and never run where somebody else may have written them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from encoding import opcode, section, signed, vector, vector_of

from callgate import wasm
from callgate.errors import EngineError
from callgate.runtime.checked_file import HEADER_BYTES, MappedFile
from callgate.runtime.engine import native_engine
from callgate.wasm import cache
from callgate.wasm.cache import LEAST_BYTES, cache_folder, evict, key_of, path_of
from callgate.wasm.compile.function import Options
from callgate.wasm.types import I32

try:
    native_engine()
    wasm.Module(b"\0asm\1\0\0\0", engine="compiled")
except EngineError as reason:
    pytest.skip(f"no compiled mode here: {reason}", allow_module_level=True)


def module(constant: int, size_bytes: int = LEAST_BYTES) -> bytes:
    """A module of this size at least: `add` returns the sum of its argument and a constant, `fall` traps."""
    add = b"\0" + opcode("local.get") + b"\0" + opcode("i32.const") + signed(constant) + opcode("i32.add") + b"\x0b"
    fall = b"\0\0\x0b"
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, vector([b"\x60" + vector_of(bytes([I32])) + vector_of(bytes([I32])), b"\x60\0\0"])),
            section(3, vector([b"\0", b"\1"])),
            section(7, vector([vector_of(b"add") + b"\0\0", vector_of(b"fall") + b"\0\1"])),
            section(10, vector([vector_of(add), vector_of(fall)])),
            section(0, vector_of(b"padding") + bytes(size_bytes)),
        )
    )


DATA = module(5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that compiled modules are kept in."""
    monkeypatch.setenv("CALLGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wasm"


def load(data: bytes = DATA) -> bool:
    """Load a module, and look whether it works; whether its code was mapped from a file."""
    loaded = wasm.Module(data, engine="compiled")
    instance = loaded.instantiate()
    assert instance.exports.add(37) == (42 if data == DATA else 43)
    with pytest.raises(wasm.Unreachable, match="unreachable") as caught:
        instance.exports.fall()
    assert [frame.name for frame in caught.value.frames] == ["fall"]
    return isinstance(loaded._image._owner, MappedFile)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


class TestUse:
    def test_the_second_time_the_file_is_run(self, folder: Path) -> None:
        assert not load()
        assert load() and load()
        path = only_file(folder)
        kept = wasm.Module(DATA)
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        assert {line[1] for line in lines} == {"r-xp"}
        assert kept.instantiate().exports.add(1) == 6

    def test_only_its_owner_may_read_it(self, folder: Path) -> None:
        before = os.umask(0)
        try:
            load()
        finally:
            os.umask(before)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert only_file(folder).stat().st_mode & 0o777 == 0o600

    def test_code_runs_on_when_the_file_is_gone(self, folder: Path) -> None:
        load()
        instance = wasm.load(DATA)
        only_file(folder).unlink()
        assert instance.exports.add(1) == 6
        assert not load()

    def test_lazy_modules_use_what_is_there(self, folder: Path) -> None:
        assert wasm.load(DATA, lazy=True).exports.add(1) == 6
        assert not folder.exists()
        load()
        assert isinstance(wasm.Module(DATA, lazy=True)._image._owner, MappedFile)

    def test_guard_pages(self, folder: Path) -> None:
        """Faults in code from a file, and in code that was compiled lazily, are traps."""
        read = b"\0\x20\0" + opcode("i32.load") + b"\2\0\x0b"
        data = b"\0asm\1\0\0\0" + b"".join(
            (
                section(1, vector([b"\x60" + vector_of(bytes([I32])) + vector_of(bytes([I32]))])),
                section(3, vector([b"\0"])),
                section(5, vector([b"\0\1"])),
                section(7, vector([vector_of(b"read") + b"\0\0"])),
                section(10, vector([vector_of(read)])),
                section(0, vector_of(b"padding") + bytes(LEAST_BYTES)),
            )
        )
        for lazy, is_mapped in ((True, False), (False, False), (False, True)):
            loaded = wasm.Module(data, bounds="guarded", lazy=lazy)
            assert isinstance(loaded._image._owner, MappedFile) is is_mapped
            exports = loaded.instantiate().exports
            assert exports.read(65532) == 0
            with pytest.raises(wasm.OutOfBounds) as caught:
                exports.read(65533)
            assert [frame.name for frame in caught.value.frames] == ["read"]

    @pytest.mark.parametrize("arguments", [{"cache": False}, {}])
    def test_off(self, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, bool]) -> None:
        if not arguments:
            monkeypatch.setenv("CALLGATE_CACHE", "")
        wasm.Module(DATA, **arguments)
        assert not folder.exists()

    def test_small_modules_are_compiled_sooner(self, folder: Path) -> None:
        wasm.Module(module(5, 1000))
        assert not folder.exists()

    def test_invalid_modules_are_not_kept(self, folder: Path) -> None:
        data = DATA.replace(opcode("i32.add") + b"\x0b", opcode("i64.add") + b"\x0b")
        for _ in range(2):
            with pytest.raises(wasm.ValidationError, match="type mismatch"):
                wasm.Module(data)
        assert not folder.exists()

    def test_processes_that_write_at_once(self, folder: Path) -> None:
        folder.parent.mkdir()
        (folder.parent / "module.wasm").write_bytes(DATA)
        program = "import sys; from callgate import wasm; print(wasm.load(sys.argv[1]).exports.add(1))"
        command = [sys.executable, "-c", program, str(folder.parent / "module.wasm")]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        assert [child.communicate()[0] for child in children] == ["6\n"] * 4
        assert load()
        only_file(folder)


class TestWhere:
    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"CALLGATE_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b/wasm"),
            ({"CALLGATE_CACHE": "~/b"}, "/home/x/b/wasm"),
            ({"XDG_CACHE_HOME": "/c"}, "/c/callgate/wasm"),
            ({"XDG_CACHE_HOME": "relative"}, "/home/x/.cache/callgate/wasm"),
            ({}, "/home/x/.cache/callgate/wasm"),
            ({"CALLGATE_CACHE": ""}, None),
        ],
    )
    def test_folder(self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None) -> None:
        for name in ("CALLGATE_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": "/home/x", **variables}.items():
            monkeypatch.setenv(name, value)
        assert cache_folder() == (Path(expected) if expected else None)

    def test_the_key_is_of_all_that_code_depends_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = Options(False, frozenset(("avx", "bmi2")))
        keys = [key_of(DATA, plain), key_of(DATA + b"\0", plain), key_of(DATA, plain._replace(is_guarded=True))]
        keys.append(key_of(DATA, plain._replace(features=frozenset(("avx",)))))
        for name in ("ENGINE_VERSION", "__version__"):
            monkeypatch.setattr(cache, name, "another")
            keys.append(key_of(DATA, plain))
        assert len(set(keys)) == len(keys)
        monkeypatch.undo()
        assert key_of(DATA, Options(False, frozenset(("bmi2", "avx")))) == keys[0]


def change(place: int) -> Callable[[Path], None]:
    """Flip a bit."""

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return spoil


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def let_the_group_write(path: Path) -> None:
    path.chmod(0o620)


def let_all_write(path: Path) -> None:
    path.chmod(0o602)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def swap(path: Path) -> None:
    """The file of another module under this one's name."""
    load(module(6))
    (other,) = set(path.parent.iterdir()) - {path}
    other.rename(path)


def give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


def put_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


SPOILED = [change(0), change(HEADER_BYTES), change(HEADER_BYTES + 40), change(HEADER_BYTES + 70), change(-1)]
SPOILED += [shorten, empty, lengthen, let_the_group_write, let_all_write, link, swap, give_away, put_a_pipe]


class TestWhatMustNotBeRun:
    @pytest.mark.parametrize("spoil", SPOILED)
    def test_is_compiled_anew(self, folder: Path, spoil: Callable[[Path], None]) -> None:
        load()
        spoil(only_file(folder))
        assert not load()
        assert load()  # it was replaced

    @pytest.mark.parametrize("mode", [0o770, 0o702])
    def test_in_a_folder_that_others_may_write_to(self, folder: Path, mode: int) -> None:
        load()
        folder.chmod(mode)
        assert not load() and not load()

    def test_in_a_folder_of_another(self, folder: Path) -> None:
        load()
        give_away(folder)
        assert not load() and not load()

    def test_a_folder_in_its_place(self, folder: Path) -> None:
        load()
        path = only_file(folder)
        path.unlink()
        path.mkdir()
        assert not load() and not load()


class TestWithoutAPlace:
    def test_a_folder_that_cannot_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("CALLGATE_CACHE", str(tmp_path / "file"))
        assert not load() and not load()

    def test_a_full_disk(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(path: str, contents: bytes, mode: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(cache, "write_checked", write)
        assert not load() and not load()
        assert not list(folder.iterdir())

    def test_nobody_at_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CALLGATE_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", home)
        assert cache_folder() is None
        assert not load()


class TestEviction:
    def test_what_was_not_used_for_longest_goes_first(self, tmp_path: Path) -> None:
        for age in range(4):
            path = path_of(tmp_path, bytes([age]))
            path.write_bytes(bytes(100))
            os.utime(path, (1000 - age, 1000 - age))
        evict(tmp_path, 250)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["00.image", "01.image"]

    def test_what_the_dead_left_goes_and_nothing_else(self, tmp_path: Path) -> None:
        names = [".00.image.abc", "notes.txt"]
        for name in names:
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (0, 0))
        (tmp_path / ".01.image.def").touch()  # somebody is at it
        evict(tmp_path, 0)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".01.image.def", "notes.txt"]

    def test_use_counts(self, folder: Path) -> None:
        load()
        os.utime(only_file(folder), (0, 0))
        load()
        assert only_file(folder).stat().st_mtime > time.time() - 1000

    def test_writing_makes_room(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load()
        first = only_file(folder)
        monkeypatch.setattr(cache, "MOST_BYTES", 0)
        load(module(6))
        assert only_file(folder) != first
