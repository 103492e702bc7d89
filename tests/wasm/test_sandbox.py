"""What hostile code may take: time and fuel of instructions that fill and copy, code that branches and calls grow to,
stack of tail calls, and results of host functions that are called while they give theirs.

Both modes where a mode is not named.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "live"))
from assemble import load, module
from children import run_child
from encoding import MAGIC, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.errors import EngineError
from callgate.wasm.compile import module as compiler

PAGE = 1 << 16
BULK = module(
    {
        "fill": ("i32 i32 i32 ->", "local.get 0; local.get 1; local.get 2; memory.fill"),
        "copy": ("i32 i32 i32 ->", "local.get 0; local.get 1; local.get 2; memory.copy"),
        "init": ("i32 i32 i32 ->", "local.get 0; local.get 1; local.get 2; memory.init 0"),
        "grow": ("i32 -> i32", "ref.func fill; local.get 0; table.grow 0"),
        "fill_table": ("i32 i32 ->", "local.get 0; ref.null funcref; local.get 1; table.fill 0"),
        "copy_table": ("i32 i32 i32 ->", "local.get 0; local.get 1; local.get 2; table.copy 0 0"),
        "fill_for_ever": ("i32 ->", "loop; i32.const 0; i32.const 1; local.get 0; memory.fill; br 0; end"),
    },
    memory="64 4096",
    tables=["funcref 4 2000000"],
    elements=["fill"],
    passive=[bytes(range(256)) * 16],
    exports={"memory": "memory 0", "table": "table 0"},
)


@pytest.fixture(params=["compiled", "guarded", "portable"])
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "compiled": {"engine": "compiled"},
        "guarded": {"engine": "compiled", "bounds": "guarded"},
        "portable": {"engine": "portable"},
    }
    chosen = options[request.param]
    try:
        wasm.Module(b"\0asm\1\0\0\0", cache=False, **chosen)
    except EngineError as reason:
        pytest.skip(str(reason))
    return chosen


@pytest.fixture
def compiled() -> dict[str, Any]:
    try:
        wasm.Module(b"\0asm\1\0\0\0", cache=False, engine="compiled")
    except EngineError as reason:
        pytest.skip(str(reason))
    return {"engine": "compiled"}


class TestBulkInstructions:
    @pytest.mark.parametrize(
        ("call", "arguments", "steps"),
        [
            ("fill", (0, 1, 63), 0),
            ("fill", (0, 1, 64), 1),
            ("fill", (0, 1, 64 * PAGE), 64 * PAGE // 64),
            ("copy", (1, 0, 640), 10),
            ("init", (0, 0, 4096), 64),
            ("grow", (800,), 100),
            ("fill_table", (0, 4), 0),
            ("copy_table", (0, 1, 3), 0),
        ],
    )
    def test_fuel_by_the_bytes(self, mode: dict[str, Any], call: str, arguments: Any, steps: int) -> None:
        exports = (instance := load(BULK, limits=wasm.Limits(fuel=10**6), **mode)).exports
        before = instance.fuel_left
        assert before == 10**6, "what is written at the start is not counted"
        exports[call](*arguments)
        used = before - instance.fuel_left
        exports[call](*arguments[:-1], 0)
        assert used - (before - used - instance.fuel_left) == steps

    def test_nothing_is_written_without_fuel(self, mode: dict[str, Any]) -> None:
        instance = load(BULK, limits=wasm.Limits(fuel=100), **mode)
        with pytest.raises(wasm.OutOfFuel):
            instance.exports.fill(0, 7, 64 * 200)
        assert instance.memory.read(0, 2) == bytes(2)
        instance.fuel_left = 1000
        instance.exports.fill(0, 7, 64 * 200)
        assert instance.memory.read(64 * 200 - 1, 2) == b"\7\0"
        with pytest.raises(wasm.OutOfFuel):
            instance.exports.grow(10_000)
        assert len(instance.exports.table) == 4

    def test_bounds_come_before_fuel(self, mode: dict[str, Any]) -> None:
        instance = load(BULK, limits=wasm.Limits(fuel=100), **mode)
        with pytest.raises(wasm.OutOfBounds):
            instance.exports.fill(1, 7, 64 * PAGE)
        assert instance.memory.read(1, 1) == b"\0" and instance.fuel_left > 0

    @pytest.mark.parametrize("distance", [-5_000_001, -1, 1, 5_000_001])
    def test_slices_overlap_as_one_copy(self, mode: dict[str, Any], distance: int) -> None:
        size = 17 * PAGE * 16 - 1
        with load(BULK, **mode) as instance:
            assert instance.memory.grow(300) == 64
            pattern = bytes(range(251)) * (size // 251 + 1)
            start, to = (0, distance) if distance > 0 else (-distance, 0)
            instance.memory.write(start, pattern[:size])
            instance.exports.copy(to, start, size)
            assert instance.memory.read(to, size) == pattern[:size]

    def test_ctrl_c_and_time_while_memory_is_filled(self, mode: dict[str, Any]) -> None:
        with load(BULK, **mode) as instance:
            instance.memory.grow(4032)
            started = threading.Event()

            def interrupt() -> None:
                started.wait()
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGINT)

            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                with pytest.raises(KeyboardInterrupt):
                    started.set()
                    instance.exports.fill_for_ever(4096 * PAGE - 1)
            finally:
                thread.join()
                signal.signal(signal.SIGINT, before)
        with load(BULK, limits=wasm.Limits(timeout_s=0.05), **mode) as instance:
            instance.memory.grow(4032)
            with pytest.raises(wasm.TimedOut) as problem:
                instance.exports.fill_for_ever(4096 * PAGE - 1)
            assert problem.value.frames[0].name == "fill_for_ever"

    def test_one_instruction_is_done_in_slices(self, mode: dict[str, Any]) -> None:
        """A time limit that is over at once stops it between two of them."""
        with load(BULK, limits=wasm.Limits(timeout_s=0), **mode) as instance:
            instance.memory.grow(4032)
            with pytest.raises(wasm.TimedOut):
                instance.exports.fill(0, 1, 4096 * PAGE)
            assert instance.memory.read(4096 * PAGE - 1, 1) == b"\0"


def test_rounds_that_take_long_are_looked_at_more_often(mode: dict[str, Any]) -> None:
    """A hundred thousand instructions in a loop: the time limit, which is over at once, is seen after some rounds."""
    round_ = "global.get 0; i32.const 1; i32.add; global.set 0; " + "nop; " * 100_000
    data = module(
        {"spin": ("->", f"loop; {round_} br 0; end")},
        globals_=[("mutable i32", "i32.const 0")],
        exports={"rounds": "global 0"},
    )
    with load(data, limits=wasm.Limits(timeout_s=0), **mode) as instance:
        with pytest.raises(wasm.TimedOut):
            instance.exports.spin()
        assert instance.exports.rounds.value < (500 if mode["engine"] == "portable" else 100_000)


class TestResultsOfHosts:
    def test_each_call_has_its_own(self, mode: dict[str, Any]) -> None:
        """The second result calls the function again while the first has been given."""
        data = module({"go": ("-> i32 i32", "call pair")}, imports=[("env", "pair", "-> i32 i32")])

        class Late:
            def __index__(self) -> int:
                assert instance.exports.go() == (20, 21)
                return 11

        answers: list[tuple[Any, Any]] = [(20, 21), (10, Late())]
        instance = load(data, imports={"env": {"pair": lambda: answers.pop()}}, **mode)
        assert instance.exports.go() == (10, 11)


class TestTailCalls:
    @pytest.mark.parametrize(
        ("there", "back"),
        [
            ("return_call eight", "return_call one"),
            (
                f"i32.const 1; return_call_indirect {','.join(['i32'] * 8)}->i32 0",
                "i32.const 0; return_call_indirect i32->i32 0",
            ),
        ],
    )
    def test_to_functions_of_more_arguments(self, mode: dict[str, Any], there: str, back: str) -> None:
        counted = "local.get 0; i32.eqz; if; i32.const 42; return; end; "
        values = "; ".join(["i32.const 7"] * 7)
        data = module(
            {
                "one": ("i32 -> i32", f"{counted}local.get 0; i32.const 1; i32.sub; {values}; {there}"),
                "eight": ("i32 i32 i32 i32 i32 i32 i32 i32 -> i32", f"{counted}local.get 0; {back}"),
            },
            tables=["funcref 2"],
            elements=["one", "eight"],
        )
        with load(data, limits=wasm.Limits(stack_bytes=1 << 16), **mode) as instance:
            assert instance.exports.one(20_000) == 42


class TestCodeIsLinear:
    """Some bytes of a body that move a thousand values are refused before their code fills memory."""

    VALUES = 1000

    def refused(self, types: list[bytes], functions: list[int], bodies: list[bytes], options: dict[str, Any]) -> None:
        data = MAGIC + section(1, vector(types)) + section(3, vector([unsigned(one) for one in functions]))
        data += section(10, vector([vector_of(b"\0" + body + b"\x0b") for body in bodies]))
        with pytest.raises(EngineError) as problem:
            wasm.Module(data, cache=False, **options)
        assert str(problem.value).startswith("the module would become more than ")
        assert str(problem.value).endswith(
            " bytes of machine code, most of them to move the values that its branches and calls take along; "
            'engine="portable" runs it'
        )
        wasm.Module(data, engine="portable")

    def test_labels_of_a_table(self, compiled: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiler, "_CODE_BYTES", 1 << 16)
        results = vector([b"\x7f"] * self.VALUES)
        depth = 100
        body = (b"\x02" + signed(0)) * depth + b"\x41\0" * (self.VALUES + 1)
        body += b"\x0e" + vector([unsigned(one) for one in range(depth)]) + b"\0" + b"\x0b" * depth
        self.refused([b"\x60\0" + results], [0], [body], compiled)

    def test_calls(self, compiled: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiler, "_CODE_BYTES", 1 << 16)
        many = vector([b"\x7f"] * self.VALUES)
        bodies = [b"\x41\0" * self.VALUES, b"\x41\0" * self.VALUES + b"\x10\1" * 200]
        self.refused([b"\x60\0" + many, b"\x60" + many + many], [0, 1, 0], [bodies[0], bodies[0], bodies[1]], compiled)

    def test_functions_together(self, compiled: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiler, "_CODE_BYTES", 1 << 16)
        many = vector([b"\x7f"] * self.VALUES)
        drop = b"\x10\0" + b"\x0f"  # call, return: five bytes each
        self.refused([b"\x60\0" + many], [0] * 300, [b"\x41\0" * self.VALUES] + [drop] * 299, compiled)


def writable_code() -> set[str]:
    """The mappings of this process that are writable and executable."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in lines if "w" in line.split()[1] and "x" in line.split()[1]}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("bounds", ["checked", "guarded"])
def test_nothing_is_writable_and_executable(
    compiled: dict[str, Any], bounds: str, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLGATE_CACHE", str(tmp_path))
    before = writable_code()
    large = module({"run": ("-> i32", "i32.const 1; " + "drop; i32.const 2; " * 6000)})
    for _ in range(2):  # compiled, then from the cache
        with wasm.load(large, bounds=bounds, lazy=lazy, **compiled) as instance:
            assert instance.exports.run() == 2
            assert writable_code() <= before
    with load(BULK, bounds=bounds, lazy=lazy, **compiled) as instance:
        instance.exports.fill(0, 1, 1000)
        assert writable_code() <= before


def little_memory(options: str, limit: str) -> str:
    """What a child says that loads a module of 4 GiB at most and may have 1 GiB more than it has."""
    out, _ = run_child(
        f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from assemble import load, module

        data = module({{"grow": ("i32 -> i32", "local.get 0; memory.grow")}}, memory="1 65536")
        little = module({{"grow": ("i32 -> i32", "local.get 0; memory.grow")}}, memory="1 2")
        load(little, {options}).exports.grow(1)
        most = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 30)
        resource.setrlimit(resource.{limit}, (most, most))
        try:
            instance = load(data, {options})
        except MemoryError as problem:
            print(f"MemoryError: {{problem}}")
            print(load(little, {options}).exports.grow(1))
        else:
            print(instance.exports.grow(60_000), instance.exports.grow(1))
        """
    )
    return out


@pytest.mark.parametrize("engine", ["compiled", "portable"])
def test_little_memory(engine: str) -> None:
    try:
        wasm.Module(b"\0asm\1\0\0\0", cache=False, engine=engine)
    except EngineError as reason:
        pytest.skip(str(reason))
    assert little_memory(f'engine="{engine}"', "RLIMIT_AS") == (
        "MemoryError: the system refuses to reserve 4294967296 bytes of memory ([Errno 12] Cannot allocate memory); "
        "give the memory a lower maximum with Limits(memory_bytes=...)\n1\n"
    )


def test_little_memory_behind_guard_pages(compiled: dict[str, Any]) -> None:
    """Addresses are no memory: only what grows is refused (as where the kernel does not promise more than it has)."""
    assert little_memory('engine="compiled", bounds="guarded"', "RLIMIT_DATA") == "-1 1\n"


def test_the_page_on_security_names_tests_that_are_there() -> None:
    folder = Path(__file__).parent
    page = (folder.parents[1] / "docs" / "security.md").read_text()
    file, named = "", 0
    for first, name in re.findall(r"`(test_\w+\.py)?::(\w+)`", page) + re.findall(r"`(test_\w+\.py)()`", page):
        file = first or file
        text = (folder / file).read_text()
        assert not name or re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), f"{file}::{name}"
        named += 1
    assert named > 30
