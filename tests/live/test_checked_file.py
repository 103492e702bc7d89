"""Files of machine code: what is mapped is what was checked, and what is doubtful is refused."""

from __future__ import annotations

import ctypes
import errno
import gc
import hashlib
import os
import platform
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import run_child

import callgate.errors
from callgate.runtime import checked_file, posix_memory
from callgate.runtime.checked_file import HEADER_BYTES, MAGIC, map_checked, write_checked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files of machine code are not mapped on Windows")

ANEW = "build it anew with `callgate build`"
CODE = {  # return 42
    "x86_64": b"\xb8\x2a\0\0\0\xc3",
    "aarch64": struct.pack("<II", 0x52800540, 0xD65F03C0),
}
RETURNING_42 = CODE.get(platform.machine(), b"none") + b"and some words"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A good one."""
    tmp_path.chmod(0o755)
    path = tmp_path / "gates.image"
    write_checked(str(path), RETURNING_42)
    return path


def refusal(path: Path) -> str:
    """What is said of a file, without its name."""
    descriptors = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    with pytest.raises(callgate.errors.ImageError) as caught:
        map_checked(str(path))
    assert isinstance(caught.value, OSError)
    message = str(caught.value)
    assert message.startswith(f"{path} is not run: ")
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    return message.removeprefix(f"{path} is not run: ")


def change(path: Path, contents: bytes) -> None:
    """Write behind callgate's back, into the same file."""
    with open(path, "r+b") as file:
        file.truncate()
        file.write(contents)


class TestGood:
    def test_it_runs(self, image: Path) -> None:
        if platform.machine() not in CODE:
            pytest.skip(f"no code for {platform.machine()}")
        mapped = map_checked(str(image))
        assert ctypes.CFUNCTYPE(ctypes.c_int)(mapped.address)() == 42
        assert bytes(mapped.data) == RETURNING_42
        assert mapped.data.readonly

    def test_it_is_never_writable(self, image: Path) -> None:
        mapped = map_checked(str(image), 100)
        with open("/proc/self/maps", encoding="utf-8") as file:
            (line,) = (line for line in file if str(image) in line)
        assert line.split()[1] == "r-xp"
        assert int(line.split("-")[0], 16) == mapped.address - HEADER_BYTES

    def test_the_table_in_front(self, image: Path) -> None:
        mapped = map_checked(str(image), 5000)
        table_bytes = mapped.address - HEADER_BYTES - mapped.table_address
        assert table_bytes >= 5000
        ctypes.memset(mapped.table_address, 0x55, table_bytes)
        mapped.protect_table()
        assert ctypes.string_at(mapped.table_address, table_bytes) == b"\x55" * table_bytes
        with open("/proc/self/maps", encoding="utf-8") as file:
            lines = [line.split()[1] for line in file if line.startswith(f"{mapped.table_address:x}-")]
        assert lines == ["r--p"]
        assert bytes(mapped.data) == RETURNING_42
        other = map_checked(str(image))
        assert other.table_address == other.address - HEADER_BYTES
        other.protect_table()  # nothing
        assert bytes(other.data) == RETURNING_42

    def test_it_goes_with_the_last_reference(self, image: Path) -> None:
        def maps() -> int:
            with open("/proc/self/maps", encoding="utf-8") as file:
                return file.read().count(str(image))

        mapped = [map_checked(str(image), 1) for _ in range(3)]
        assert maps() == 3
        mapped.clear()
        assert maps() == 0

    def test_a_mapped_one_outlives_its_name_and_the_next_one(self, image: Path) -> None:
        mapped = map_checked(str(image))
        write_checked(str(image), b"the next one")
        assert bytes(mapped.data) == RETURNING_42
        assert bytes(map_checked(str(image)).data) == b"the next one"
        image.unlink()
        assert bytes(mapped.data) == RETURNING_42

    def test_how_it_is_written(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert stat.S_IMODE(image.stat().st_mode) == 0o644
        data = image.read_bytes()
        assert data[:32] == MAGIC + struct.pack("<QQ", len(RETURNING_42), 0)
        assert data[32:64] == hashlib.sha256(RETURNING_42).digest()
        assert data[64:] == RETURNING_42

        def fail(*_: object) -> None:
            raise OSError("refused by the test")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="refused by the test"):
            write_checked(str(image), b"half of it")
        assert [path.name for path in image.parent.iterdir()] == [image.name]
        assert image.read_bytes() == data

    def test_a_relative_name_and_a_linked_folder(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        link = image.parent / "link"
        link.symlink_to(image.parent)
        assert bytes(map_checked(str(link / image.name)).data) == RETURNING_42
        monkeypatch.chdir(image.parent)
        assert bytes(map_checked(image.name).data) == RETURNING_42

    def test_owned_by_root_for_a_user(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can make files of root's")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert bytes(map_checked(str(image)).data) == RETURNING_42


class TestHands:
    """Who else could have written it."""

    @pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o622])
    def test_a_file_that_others_may_write(self, image: Path, mode: int) -> None:
        image.chmod(mode)
        assert refusal(image) == (
            f"it may be written by others than its owner (mode {mode:o}); "
            "chmod go-w, and build it anew if you do not trust them"
        )

    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777, 0o2775])
    def test_a_folder_that_others_may_write(self, image: Path, mode: int) -> None:
        image.parent.chmod(mode)
        assert refusal(image) == (
            f"its folder {image.parent} may be written by others than its owner (mode {mode:o}); "
            "chmod go-w, and build it anew if you do not trust them"
        )

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_of_another_user(self, image: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = image if what == "file" else image.parent
        if os.geteuid() == 0:
            os.chown(path, 12345, -1)
        elif what == "folder":
            pytest.skip("only root can give one of the two away")
        else:
            real = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: real + 1)
        user = os.geteuid()
        message = refusal(image)
        assert f"belongs to user {path.stat().st_uid}, not to root or user {user}, who runs this; " in message
        assert message.startswith("it " if what == "file" and os.getuid() == 0 else "its folder ")
        assert message.endswith("; build it as the user who runs it, or give it to root")


class TestNames:
    def test_a_symbolic_link(self, image: Path) -> None:
        link = image.with_name("link")
        link.symlink_to(image)
        assert refusal(link) == "it is a symbolic link; name the file itself, or copy it there"

    def test_missing(self, image: Path) -> None:
        missing = image.with_name("missing")
        assert refusal(missing) == f"it cannot be opened (No such file or directory); {ANEW}"
        deep = image.parent / "no" / "folder"
        assert refusal(deep) == f"it cannot be opened (No such file or directory); {ANEW}"

    def test_no_file(self, image: Path) -> None:
        folder = image.with_name("folder")
        folder.mkdir()
        pipe = image.with_name("pipe")
        os.mkfifo(pipe)
        for path in (folder, pipe, Path("/dev/null")):
            assert refusal(path) == "it is not a regular file; name the file that was built"

    @pytest.mark.parametrize("step", ["_map", "_check_hands"])
    def test_swapped_between_check_and_use(
        self, image: Path, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once it is opened (`_map`) or its folder is (`_check_hands`), another thing of that name is not looked at."""
        real: Callable[..., object] = getattr(checked_file, step)

        def swap(*given: object) -> object:
            if step == "_map":
                evil = tmp_path / "evil"
                write_checked(str(evil), b"evil")
                evil.replace(image)
            elif image.parent.exists():
                folder = image.parent.rename(tmp_path.with_name(tmp_path.name + "-away"))
                assert (folder / image.name).exists()
                image.parent.mkdir(0o777)
                write_checked(str(image), b"evil")
            monkeypatch.undo()
            return real(*given)

        monkeypatch.setattr(checked_file, step, swap)
        assert bytes(map_checked(str(image)).data) == RETURNING_42
        assert bytes(map_checked(str(image)).data) == b"evil"


class TestDamage:
    def test_truncated(self, image: Path) -> None:
        whole = image.read_bytes()
        for size in (len(whole) - 1, HEADER_BYTES + 1, HEADER_BYTES):
            change(image, whole[:size])
            assert refusal(image) == f"it has {size} bytes, not {len(whole)}; {ANEW}"
        for size in (HEADER_BYTES - 1, 16, 15, 0):
            change(image, whole[:size])
            assert refusal(image) == f"it is not an image of this version of callgate; {ANEW}"

    def test_longer(self, image: Path) -> None:
        whole = image.read_bytes()
        change(image, whole + b"\xcc")
        assert refusal(image) == f"it has {len(whole) + 1} bytes, not {len(whole)}; {ANEW}"

    def test_without_contents(self, image: Path) -> None:
        change(image, MAGIC + struct.pack("<QQ", 0, 0) + hashlib.sha256(b"").digest())
        assert refusal(image) == f"it has no contents; {ANEW}"

    def test_an_absurd_size(self, image: Path) -> None:
        change(image, MAGIC + struct.pack("<QQ", (1 << 64) - 1, 0) + hashlib.sha256(b"").digest())
        assert refusal(image) == f"it has 64 bytes, not {(1 << 64) + 63}; {ANEW}"

    def test_any_changed_bit(self, image: Path) -> None:
        whole = image.read_bytes()
        for place in [*range(32, 64, 5), *range(64, len(whole))]:
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            change(image, bytes(changed))
            assert refusal(image) == f"its contents are not what was written (wrong checksum); {ANEW}"
        change(image, whole)
        map_checked(str(image))

    def test_a_changed_bit_of_the_head(self, image: Path) -> None:
        whole = image.read_bytes()
        for bit in range(8 * 32):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            change(image, bytes(changed))
            said = refusal(image)
            assert said.startswith(
                f"it has {len(whole)} bytes, not " if 16 <= bit // 8 < 24 else "it"
            ) and said.endswith(ANEW)
            if bit // 8 >= 24:
                assert said == f"its head is damaged; {ANEW}"

    def test_without_memory(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*given: object) -> int:
            raise OSError(errno.ENOMEM, "mmap: Cannot allocate memory")

        monkeypatch.setattr(posix_memory.Libc, "mmap", refuse)
        assert refusal(image) == (
            "it cannot be mapped (mmap: Cannot allocate memory); allow the process more memory (ulimit -v)"
        )

    def test_something_else(self, image: Path) -> None:
        for contents in (b"\x7fELF" * 40, b"callgate image 2" + bytes(60), b"x" * 5000):
            change(image, contents)
            assert refusal(image) == f"it is not an image of this version of callgate; {ANEW}"

    def test_no_memory_is_kept(self, image: Path) -> None:
        whole = image.read_bytes()
        change(image, whole[:-1] + b"?")
        refusal(image)
        gc.collect()  # pytest keeps the traceback
        with open("/proc/self/maps", encoding="utf-8") as file:
            assert str(image) not in file.read()


def test_executable_files_refused(image: Path) -> None:
    """As on a file system that is mounted noexec, or by a policy."""
    out, _ = run_child(
        """
        import sys
        from callgate.errors import ImageError
        from callgate.runtime import checked_file
        real = checked_file.get_libc()
        class Refusing:
            def mmap(self, size, protection, *rest):
                if protection & 4:
                    raise PermissionError(1, "Operation not permitted")
                return real.mmap(size, protection, *rest)
            munmap = real.munmap
        checked_file.get_libc = Refusing
        try:
            checked_file.map_checked(sys.argv[1])
        except ImageError as problem:
            print(problem)
        """,
        str(image),
    )
    assert out == (
        f"{image} is not run: it cannot be mapped executable (Operation not permitted); put it on a file system that is "
        "not mounted noexec, or let the security policy allow it\n"
    )
