"""Executable memory: extents, literals, the ladder, and that nothing is ever writable and executable."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from children import run_child
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callgate.asm.code import Code, Relocation, relocate
from callgate.errors import EngineError
from callgate.runtime import code_memory, linux_memory, posix_memory
from callgate.runtime.code_memory import (
    ARENA_BYTES,
    MEMORY,
    RUNGS,
    TABLE_BYTES,
    Arena,
    Block,
    CodeMemory,
    Extent,
)
from callgate.runtime.engine import native_engine
from callgate.runtime.executable import Executable, Piece, Rung
from callgate.runtime.linux_memory import LADDER
from callgate.target import HOST, IS_MACOS, IS_WINDOWS

fcntl = pytest.importorskip("fcntl", reason="POSIX only: descriptors")
if HOST is None or IS_WINDOWS or IS_MACOS:
    pytest.skip("the ladder is that of Linux, the code that of x86-64 and AArch64", allow_module_level=True)

IS_AARCH64 = HOST.architecture == "aarch64"


class Mapping(NamedTuple):
    """A line of /proc/self/maps."""

    start: int
    end: int
    permissions: str
    inode: int
    path: str


def mappings() -> list[Mapping]:
    made = []
    with open("/proc/self/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 5)
            start, end = (int(word, 16) for word in words[0].split("-"))
            made.append(Mapping(start, end, words[1], int(words[4]), words[5].strip() if len(words) > 5 else ""))
    return made


def writable_and_executable() -> set[Mapping]:
    return {mapping for mapping in mappings() if "w" in mapping.permissions and "x" in mapping.permissions}


def mapping_at(address: int) -> Mapping:
    (found,) = (mapping for mapping in mappings() if mapping.start <= address < mapping.end)
    return found


class Pretended:
    """Memory at no address."""

    def __init__(self, size_bytes: int) -> None:
        self.address = 0x10000
        self.size_bytes = size_bytes
        self.data = bytearray(size_bytes)

    def write(self, pieces: Sequence[Piece]) -> None:
        for offset, data in pieces:
            self.data[offset : offset + len(data)] = data

    def release(self) -> None:
        pass


def pretend_arena(size_bytes: int = ARENA_BYTES) -> tuple[Arena, bytearray]:
    """An arena over a bytearray, at no address."""
    memory = Pretended(size_bytes)
    return Arena(memory), memory.data


def returning(value: int, size_bytes: int = 6) -> Code:
    """mov eax, value; ret; filled up with int3.  AArch64 counts its instructions in words: movz, movk, ret; udf."""
    if IS_AARCH64:
        words = (0x52800000 | (value & 0xFFFF) << 5, 0x72A00000 | value >> 16 << 5, 0xD65F03C0)
        return Code(struct.pack("<3I", *words).ljust(size_bytes, b"\0"), (), {})
    return Code((b"\xb8" + struct.pack("<I", value) + b"\xc3").ljust(size_bytes, b"\xcc"), (), {})


def loading(symbol: str, before: int = 0) -> Code:
    """mov rax, [rip + symbol@GOTPCREL]; ret.  On AArch64 ldr x0, symbol; ret.  After so many bytes of instructions."""
    if IS_AARCH64:
        data = struct.pack("<I", 0xD503201F) * (before // 4) + struct.pack("<2I", 0x58000000, 0xD65F03C0)
        return Code(data, (Relocation(before, "R_AARCH64_LD_PREL_LO19", symbol, 0),), {})
    data = b"\x90" * before + b"\x48\x8b\x05\0\0\0\0\xc3"
    return Code(data, (Relocation(before + 3, "R_X86_64_GOTPCREL", symbol, -4),), {})


def call(block: Block) -> int:
    result: int = ctypes.CFUNCTYPE(ctypes.c_int64)(block.address)()
    return result


def nothing(symbol: str) -> int:
    raise AssertionError(symbol)


def refuse(size_bytes: int = 0) -> Executable:
    raise OSError("refused by the test")


def allowing(*names: str) -> tuple[Rung, ...]:
    """The ladder with all other rungs refused."""
    return tuple(rung if rung.name in names else rung._replace(allocate=refuse) for rung in LADDER)


@pytest.fixture(params=RUNGS)
def memory(request: pytest.FixtureRequest) -> CodeMemory:
    """Memory of its own on each rung."""
    memory = CodeMemory(allowing(request.param))
    assert call(memory.publish(returning(1), nothing)) == 1
    assert memory.rung == request.param
    return memory


class TestExtents:
    def test_first_fit(self) -> None:
        arena, _ = pretend_arena()
        assert arena.allocate(64) == TABLE_BYTES
        assert arena.allocate(32) == TABLE_BYTES + 64
        assert arena.allocate(ARENA_BYTES) is None
        rest = ARENA_BYTES - TABLE_BYTES - 96
        assert arena.allocate(rest + 32) is None
        assert arena.allocate(rest) == TABLE_BYTES + 96
        assert arena.allocate(32) is None
        assert arena.used_bytes == ARENA_BYTES - TABLE_BYTES

    def test_neighbours_are_merged(self) -> None:
        arena, _ = pretend_arena()
        offsets = [arena.allocate(96) for _ in range(4)]
        for index in (2, 0, 1):
            arena.free(Extent(offsets[index], 96))  # type: ignore[arg-type]
        assert arena.allocate(3 * 96) == offsets[0]
        arena.free(Extent(offsets[0], 3 * 96))  # type: ignore[arg-type]
        arena.free(Extent(offsets[3], 96))  # type: ignore[arg-type]
        assert arena.is_unused
        assert arena.allocate(ARENA_BYTES - TABLE_BYTES) == TABLE_BYTES

    def test_gaps_are_filled(self) -> None:
        arena, _ = pretend_arena()
        offsets = [arena.allocate(96) for _ in range(5)]
        arena.free(Extent(offsets[1], 96))  # type: ignore[arg-type]
        arena.free(Extent(offsets[3], 96))  # type: ignore[arg-type]
        assert arena.allocate(128) == TABLE_BYTES + 5 * 96
        assert arena.allocate(32) == offsets[1]
        assert arena.allocate(64) == offsets[1] + 32  # type: ignore[operator]
        assert arena.allocate(96) == offsets[3]

    def test_what_lived_at_a_fork_is_retired(self) -> None:
        arena, _ = pretend_arena()
        before = arena.allocate(ARENA_BYTES - TABLE_BYTES - 64)
        arena.forks += 1
        after = arena.allocate(64)
        assert before is not None and after is not None
        arena.free(Extent(before, ARENA_BYTES - TABLE_BYTES - 64), 0)
        arena.free(Extent(after, 64), 1)
        assert arena.used_bytes == 0
        assert arena.is_unused
        assert arena.allocate(96) is None
        assert arena.allocate(64) == after


class ArenaModel(RuleBasedStateMachine):
    """An arena against a set of used 32-byte units."""

    UNITS = 64

    def __init__(self) -> None:
        super().__init__()
        self.arena, _ = pretend_arena(TABLE_BYTES + 32 * self.UNITS)
        self.live: list[tuple[Extent, int]] = []
        self.retired: list[Extent] = []

    def units(self, extent: Extent) -> set[int]:
        first = (extent.offset - TABLE_BYTES) // 32
        return set(range(first, first + extent.size_bytes // 32))

    def taken(self) -> set[int]:
        return set().union(*(self.units(extent) for extent in [*(extent for extent, _ in self.live), *self.retired]))

    @rule(count=st.integers(1, 24))
    def allocate(self, count: int) -> None:
        taken = self.taken()
        runs = "".join("x" if unit in taken else "." for unit in range(self.UNITS))
        offset = self.arena.allocate(32 * count)
        expected = runs.find("." * count)  # first fit
        assert offset == (None if expected < 0 else TABLE_BYTES + 32 * expected)
        if offset is not None:
            self.live.append((Extent(offset, 32 * count), self.arena.forks))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        extent, forks = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        self.arena.free(extent, forks)
        if forks != self.arena.forks:
            self.retired.append(extent)

    @rule()
    def fork(self) -> None:
        self.arena.forks += 1

    @invariant()
    def it_knows_what_is_used(self) -> None:
        assert self.arena.used_bytes == sum(extent.size_bytes for extent, _ in self.live)
        assert self.arena.is_unused == (not self.live)


TestArenaModel = ArenaModel.TestCase


class TestLiterals:
    def test_each_address_has_one_slot(self) -> None:
        arena, memory = pretend_arena()
        addresses = {"a": 0x1111, "b": 0x2222, "c": 0x1111}
        for number, symbol in enumerate("abcabc"):
            offset = TABLE_BYTES + 32 * number
            arena.write(loading(symbol), offset, addresses.__getitem__)
            if IS_AARCH64:
                (word,) = struct.unpack_from("<I", memory, offset)
                literal_offset = offset + 4 * ((word >> 5 & 0x7FFFF) - (1 << 19))  # backwards
            else:
                literal_offset = offset + 7 + struct.unpack_from("<i", memory, offset + 3)[0]
            (literal,) = struct.unpack_from("<Q", memory, literal_offset)
            assert literal == addresses[symbol]
        assert memory[:TABLE_BYTES] == struct.pack("<QQ", 0x1111, 0x2222).ljust(TABLE_BYTES, b"\0")

    def test_room(self) -> None:
        arena, _ = pretend_arena()
        count = TABLE_BYTES // 8
        for address in range(count - 1):
            arena.write(loading("x"), TABLE_BYTES, lambda symbol, address=address: address)  # type: ignore[misc]
        assert arena.has_slots({0, 1, 5000})
        assert not arena.has_slots({5000, 5001})
        arena.write(loading("x"), TABLE_BYTES, lambda symbol: 5000)
        assert arena.has_slots({0, 5000})
        assert not arena.has_slots({5001})

    @pytest.mark.parametrize(
        ("distance", "word"),
        [
            (8, 0x58000050),  # ldr x16, .+8
            (-8, 0x58FFFFD0),  # ldr x16, .-8
            (-(1 << 20), 0x58800010),
            ((1 << 20) - 4, 0x587FFFF0),
        ],
    )
    def test_literals_of_aarch64(self, distance: int, word: int) -> None:
        data = bytearray(struct.pack("<3I", 0xD503201F, 0x58000010, 0xD61F0200))
        relocate(data, 4, "R_AARCH64_LD_PREL_LO19", distance)
        assert struct.unpack("<3I", data) == (0xD503201F, word, 0xD61F0200)
        relocate(data, 4, "R_AARCH64_LD_PREL_LO19", 0)  # whatever stood in the field
        assert struct.unpack("<3I", data) == (0xD503201F, 0x58000010, 0xD61F0200)

    @pytest.mark.parametrize("distance", [2, -(1 << 20) - 4, 1 << 20])
    def test_literals_of_aarch64_out_of_reach(self, distance: int) -> None:
        with pytest.raises(EngineError, match=rf"^a literal {distance} bytes away is out of reach: the function is"):
            relocate(bytearray(4), 0, "R_AARCH64_LD_PREL_LO19", distance)

    def test_an_arena_with_code_of_aarch64(self) -> None:
        arena, memory = pretend_arena()
        code = Code(struct.pack("<2I", 0xD503201F, 0x58000010), (Relocation(4, "R_AARCH64_LD_PREL_LO19", "x", 0),), {})
        arena.write(code, TABLE_BYTES, lambda symbol: 0x1234)
        assert memory[:8] == struct.pack("<Q", 0x1234)
        words = -(TABLE_BYTES + 4) // 4 & 0x7FFFF
        assert struct.unpack_from("<I", memory, TABLE_BYTES + 4) == (0x58000010 | words << 5,)

    def test_unknown_relocations(self) -> None:
        arena, _ = pretend_arena()
        code = Code(b"\0" * 8, (Relocation(0, "R_X86_64_64", "x", 0),), {})
        with pytest.raises(AssertionError, match="unknown relocation R_X86_64_64"):
            arena.write(code, TABLE_BYTES, lambda symbol: 1)

    def test_a_full_table_is_no_end(self, memory: CodeMemory) -> None:
        blocks = [memory.publish(loading(str(number)), int) for number in range(1000)]
        assert [call(block) for block in blocks] == list(range(1000))

    def test_many_literals_in_one_publication(self, memory: CodeMemory) -> None:
        count = TABLE_BYTES // 8
        made = loading("")
        data = made.data * count
        (first,) = made.relocations
        relocations = tuple(first._replace(site=8 * index + first.site, symbol=str(index)) for index in range(count))
        block = memory.publish(Code(data, relocations, {}), lambda symbol: 3 * int(symbol))
        function = ctypes.CFUNCTYPE(ctypes.c_int64)
        assert [function(block.address + 8 * index)() for index in range(count)] == list(range(0, 3 * count, 3))


class TestPublication:
    def test_many(self, memory: CodeMemory) -> None:
        blocks = [memory.publish(returning(number, 6 + number % 200), nothing) for number in range(1500)]
        assert [call(block) for block in blocks] == list(range(1500))
        addresses = [block.address for block in blocks]
        del blocks[::3]
        more = [memory.publish(returning(number, 6 + number % 300), nothing) for number in range(1500, 2500)]
        if memory.rung != "anonymous pages":
            assert set(addresses) & {block.address for block in more}  # memory is used again
        assert [call(block) for block in blocks] == [number for number in range(1500) if number % 3]
        assert [call(block) for block in more] == list(range(1500, 2500))

    def test_everything_freed(self, memory: CodeMemory) -> None:
        def owned() -> list[Mapping]:
            return [mapping for mapping in mappings() if "x" in mapping.permissions and "callgate" in mapping.path]

        others, used = len(owned()), memory.used_bytes()
        blocks = [memory.publish(returning(number, 4096), nothing) for number in range(100)]
        if memory.rung == "anonymous pages":
            addresses = [block.address for block in blocks]
            del blocks
            mapped = [range(mapping.start, mapping.end) for mapping in mappings() if "x" in mapping.permissions]
            assert not [address for address in addresses if any(address in pages for pages in mapped)]
            return
        assert memory.used_bytes() - used == 100 * 4096
        assert len(owned()) - others >= 100 * 4096 // ARENA_BYTES
        del blocks
        assert memory.used_bytes() == used
        memory.publish(returning(1), nothing)
        assert len(owned()) <= others + 1

    @pytest.mark.parametrize("size_bytes", [ARENA_BYTES - TABLE_BYTES, ARENA_BYTES - TABLE_BYTES + 1, 1 << 20])
    def test_large(self, memory: CodeMemory, size_bytes: int) -> None:
        block = memory.publish(returning(77, size_bytes), nothing)
        assert call(block) == 77
        last = loading("x", size_bytes // 4 * 4 - 8)
        if IS_AARCH64 and size_bytes == 1 << 20:
            with pytest.raises(EngineError, match=r"^a literal -[0-9]* bytes away is out of reach"):
                memory.publish(last, lambda symbol: 99)
        else:
            assert call(memory.publish(last, lambda symbol: 99)) == 99

    def test_alignment(self, memory: CodeMemory) -> None:
        assert {
            memory.publish(returning(1, size), nothing).address % code_memory._ALIGNMENT for size in range(6, 200, 7)
        } == {0}

    def test_a_resolver_that_fails(self, memory: CodeMemory) -> None:
        used = memory.used_bytes()

        def resolve(symbol: str) -> int:
            raise LookupError(symbol)

        for _ in range(3):
            with pytest.raises(LookupError, match="wanted"):
                memory.publish(loading("wanted"), resolve)
        assert memory.used_bytes() == used
        assert call(memory.publish(returning(5), nothing)) == 5

    def test_threads(self, memory: CodeMemory) -> None:
        problems: list[object] = []

        def work(first: int) -> None:
            kept: list[tuple[int, Block]] = []
            for number in range(first, first + 400):
                kept.append((number, memory.publish(returning(number, 6 + number % 500), nothing)))
                if number % 7 == 0:
                    del kept[::2]
            problems.extend((number, call(block)) for number, block in kept if call(block) != number)

        threads = [threading.Thread(target=work, args=(10_000 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems

    def test_from_a_finalizer_during_a_publication(self, memory: CodeMemory, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the collector runs in the middle of a publication may publish."""
        nested: list[tuple[int, Block]] = []
        write, allocate = Arena.write, Arena.allocate

        depth = 0

        def publish(value: int) -> None:
            nonlocal depth
            if depth < 3 and len(nested) < 100:
                depth += 1
                nested.append((value, memory.publish(returning(value, 40), nothing)))
                depth -= 1

        def interrupted_write(self: Arena, *given: object) -> None:
            publish(10_000 + len(nested))
            write(self, *given)  # type: ignore[arg-type]
            publish(20_000 + len(nested))

        def interrupted_allocate(self: Arena, size_bytes: int) -> int | None:
            publish(30_000 + len(nested))
            offset = allocate(self, size_bytes)
            publish(40_000 + len(nested))
            return offset

        monkeypatch.setattr(Arena, "write", interrupted_write)
        monkeypatch.setattr(Arena, "allocate", interrupted_allocate)
        blocks = [memory.publish(returning(number), nothing) for number in range(50)]
        assert [call(block) for block in blocks] == list(range(50))
        assert [call(block) for _, block in nested] == [value for value, _ in nested]
        assert len(nested) >= 100

    def test_from_a_fork_hook(self, memory: CodeMemory) -> None:
        memory.prepare_fork()
        block = memory.publish(returning(3), nothing)
        memory.end_fork()
        assert call(block) == 3

    @pytest.mark.parametrize("moment", ["before it begins", "when it writes", "when it writes to a new arena"])
    def test_a_fork_in_the_middle(self, moment: str) -> None:
        """A signal handler forks, and the child goes on with the publication when the parent uses the memory again."""
        out, _ = run_child(
            """
            import ctypes, os, sys, threading
            from callgate.asm.code import Code
            from callgate.runtime.code_memory import CodeMemory
            from callgate.target import HOST

            def returning(value):
                if HOST.architecture == "aarch64":
                    return Code((0x52800000 | value << 5).to_bytes(4, "little") + bytes.fromhex("c0035fd6"), (), {})
                return Code(bytes([0xB8, *value.to_bytes(4, "little"), 0xC3]), (), {})

            def call(block):
                return ctypes.CFUNCTYPE(ctypes.c_int)(block.address)()

            moment, memory, children = sys.argv[1], CodeMemory(), []
            ready, go = os.pipe()

            def fork():
                memory.prepare_fork()
                children.append(os.fork())
                if children[0]:
                    memory.end_fork()
                else:
                    os.read(ready, 1)

            class Lock:
                def __enter__(self):
                    if not children:
                        fork()
                    lock.acquire()
                def __exit__(self, *given):
                    lock.release()
                def acquire(self):
                    lock.acquire()
                def release(self):
                    lock.release()

            pwrite = os.pwrite
            def write(descriptor, data, offset):
                if not children:
                    fork()
                return pwrite(descriptor, data, offset)

            if moment != "when it writes to a new arena":
                kept = memory.publish(returning(1), int)
            process = memory._process()
            lock = process.lock
            if moment == "before it begins":
                process.lock = Lock()
            else:
                os.pwrite = write
            block = memory.publish(returning(2), int)
            if not children[0]:
                os._exit(call(block))
            assert call(block) == 2
            del block
            blocks = [memory.publish(returning(value), int) for value in range(10, 20)]
            os.write(go, b"x")
            print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]), [call(block) for block in blocks])
            """,
            moment,
        )
        assert out == "2 [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]\n"

    def test_memory_is_used_again(self, memory: CodeMemory) -> None:
        """What runs is what was written last: where the processor has to be told so, it is (qemu 10 notices)."""
        addresses = set()
        for value in range(300):
            block = memory.publish(returning(value), nothing)
            addresses.add(block.address)
            assert call(block) == value
            del block
        assert len(addresses) < 100


class TestProtection:
    def test_never_writable_and_executable(self, memory: CodeMemory, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is mapped before and after each write to an arena, and before each change of protection."""
        before = writable_and_executable()  # libffi's closures, where a test of this process made some
        seen: list[Mapping] = []
        write, protect = Arena.write, posix_memory.Libc.mprotect

        def watched_write(self: Arena, *given: object) -> None:
            seen.append(mapping_at(self.address))
            write(self, *given)  # type: ignore[arg-type]
            seen.append(mapping_at(self.address))

        def watched_protect(self: posix_memory.Libc, address: int, *given: int) -> None:
            seen.append(mapping_at(address))
            protect(self, address, *given)

        monkeypatch.setattr(Arena, "write", watched_write)
        monkeypatch.setattr(posix_memory.Libc, "mprotect", watched_protect)
        blocks = [memory.publish(loading(str(number)), int) for number in range(300)]
        shown = {"memfd": {"r-xs"}, "anonymous pages": {"rw-p", "r-xp"}, "file": {"r-xp"}}
        assert {mapping.permissions for mapping in seen} == shown[memory.rung]
        assert {mapping_at(block.address).permissions[:3] for block in blocks} == {"r-x"}
        assert not writable_and_executable() - before

    def test_no_other_mapping_of_the_file(self, memory: CodeMemory) -> None:
        """Not only the address of the code: no address shows the file's pages writable."""
        block = memory.publish(returning(1), nothing)
        mapping = mapping_at(block.address)
        if memory.rung != "anonymous pages":
            same = [other for other in mappings() if other.path == mapping.path and "w" in other.permissions]
            assert not same

    def test_descriptors_are_closed_on_exec(self, memory: CodeMemory) -> None:
        memory.publish(returning(1), nothing)
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue  # that of the listing
            if "callgate" in target:
                found.append(int(name))
        assert found or memory.rung == "anonymous pages"
        assert all(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for descriptor in found)
        assert not any(os.get_inheritable(descriptor) for descriptor in found)

    def test_files_have_no_name(self, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        memory = CodeMemory(allowing("file"))
        block = memory.publish(returning(4), nothing)
        assert call(block) == 4
        mapping = mapping_at(block.address)
        assert mapping.path.startswith(f"{tmp_path}/callgate-")
        assert mapping.path.endswith("(deleted)")
        assert os.listdir(tmp_path) == []


class TestDescriptors:
    """A program may close descriptors that are not its own."""

    def descriptor_of(self, block: Block) -> int:
        inode = mapping_at(block.address).inode
        for name in os.listdir("/proc/self/fd"):
            try:
                status = os.fstat(int(name))
            except OSError:
                continue
            if status.st_ino == inode and "callgate" in os.readlink(f"/proc/self/fd/{name}"):
                return int(name)
        raise AssertionError("no descriptor")

    @pytest.fixture
    def files(self, memory: CodeMemory) -> CodeMemory:
        if memory.rung == "anonymous pages":
            pytest.skip("anonymous pages have no descriptor")
        return memory

    def test_closed(self, files: CodeMemory) -> None:
        block = files.publish(returning(1), nothing)
        os.close(self.descriptor_of(block))
        other = files.publish(returning(2), nothing)
        assert (call(block), call(other)) == (1, 2)
        assert block.arena is not other.arena
        del block, other
        gc.collect()
        assert call(files.publish(returning(3), nothing)) == 3

    def test_used_again(self, files: CodeMemory, tmp_path: os.PathLike[str]) -> None:
        """Code goes to no file that the program opened under the number."""
        block = files.publish(returning(1), nothing)
        number = self.descriptor_of(block)
        path = os.path.join(tmp_path, "precious")
        with open(path, "wb") as file:
            file.write(b"precious" * 10_000)
        precious = os.open(path, os.O_RDWR)
        os.dup2(precious, number)
        os.close(precious)
        blocks = [files.publish(returning(value), nothing) for value in range(2, 30)]
        assert [call(one) for one in [block, *blocks]] == list(range(1, 30))
        del block, blocks
        files.publish(returning(1), nothing)
        gc.collect()
        assert os.path.samestat(os.fstat(number), os.stat(path))  # still open
        os.close(number)
        with open(path, "rb") as file:
            assert file.read() == b"precious" * 10_000


class TestLadder:
    def test_refused_everywhere(self) -> None:
        memory = CodeMemory(allowing())
        for _ in range(2):
            with pytest.raises(EngineError) as caught:
                memory.publish(returning(1), nothing)
            assert str(caught.value) == (
                "executable memory is refused here (memfd: refused by the test; anonymous pages: refused by the test; "
                "file: refused by the test); `callgate doctor` says what to do"
            )
        assert memory.used_bytes() == 0
        assert memory.rung == ""
        assert dict(memory.refusals) == dict.fromkeys(RUNGS, "refused by the test")
        memory.ladder = LADDER
        assert call(memory.publish(returning(8), nothing)) == 8
        assert memory.rung == "memfd"

    def test_what_is_refused_later(self) -> None:
        """Code still goes into the arena that there is, then down the ladder, and up again when that is allowed."""
        memory = CodeMemory()
        first = memory.publish(returning(1), nothing)
        memory.ladder = allowing("anonymous pages")
        second = memory.publish(returning(2), nothing)
        assert second.arena is first.arena
        third = memory.publish(returning(3, ARENA_BYTES - TABLE_BYTES), nothing)
        assert mapping_at(third.address).path == ""
        memory.ladder = allowing()
        with pytest.raises(EngineError, match="anonymous pages: refused by the test"):
            memory.publish(returning(4, ARENA_BYTES - TABLE_BYTES), nothing)
        memory.ladder = LADDER
        fourth = memory.publish(returning(4, ARENA_BYTES - TABLE_BYTES), nothing)
        assert "memfd:callgate" in mapping_at(fourth.address).path
        assert [call(block) for block in (first, second, third, fourth)] == [1, 2, 3, 4]

    def test_no_folder_for_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import tempfile

        def refuse_file(*given: object, **named: object) -> object:
            raise OSError("no folder here")

        monkeypatch.setattr(tempfile, "mkstemp", refuse_file)
        monkeypatch.setattr(linux_memory, "folders", lambda: ["/a", "/b"])
        with pytest.raises(EngineError, match=r"file: /a: no folder here, /b: no folder here\)"):
            CodeMemory(allowing("file")).publish(returning(1), nothing)

    def test_a_system_without_memfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "memfd_create")
        memory = CodeMemory()
        assert call(memory.publish(returning(6), nothing)) == 6
        assert memory.rung == "anonymous pages"
        assert dict(memory.refusals) == {"memfd": "there is no memfd_create"}

    def test_a_failed_mapping_closes_its_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        def refuse_mmap(self: object, *given: object) -> int:
            raise OSError("mmap: refused by the test")

        monkeypatch.setattr(posix_memory.Libc, "mmap", refuse_mmap)
        before = descriptors()
        for rung in LADDER:
            with pytest.raises(OSError, match="mmap: refused by the test"):
                rung.allocate(ARENA_BYTES)
        assert descriptors() == before

    def test_a_write_that_does_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a system would not show a file's new contents in a mapping, the rung is not used."""
        monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data))
        memory = CodeMemory()
        assert call(memory.publish(returning(7), nothing)) == 7
        assert memory.rung == "anonymous pages"
        assert memory.refusals["memfd"] == "what is written to the file does not show where it is mapped"

    def test_a_write_that_is_cut_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data) - 1)
        memory = CodeMemory()
        assert call(memory.publish(returning(7), nothing)) == 7
        assert memory.refusals["memfd"] == "pwrite to executable memory was cut short"


@given(st.lists(st.integers(6, 3000), min_size=1, max_size=60))
def test_blocks_do_not_overlap(sizes: list[int]) -> None:
    memory = CodeMemory()
    blocks = [memory.publish(returning(size, size), nothing) for size in sizes]
    ranges = sorted((block.address, block.address + size) for block, size in zip(blocks, sizes, strict=True))
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert [call(block) for block in blocks] == sizes
    assert memory.used_bytes() == sum(-(-size // code_memory._ALIGNMENT) * code_memory._ALIGNMENT for size in sizes)
    del blocks
    assert memory.used_bytes() == 0


def test_the_process_has_one_memory() -> None:
    try:
        native_engine()
    except EngineError as reason:
        pytest.skip(f"no machine code here: {reason}")
    assert MEMORY.rung in RUNGS
    assert MEMORY.used_bytes() > 0  # the routines
