"""Valid modules that ask for too much: tables, memories, frames, depth, time.  Each gets an error, nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from assemble import IS_CPYTHON, SMALL_STACKS
from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.wasm.binary import decode
from callgate.wasm.types import FUNCREF, I32, I64, V128

CALL_ITSELF = opcode("call") + b"\0"
TABLE = {4: vector([bytes([FUNCREF, 0, 1])])}
MEMORY = {5: vector([b"\0\1"])}


def module(
    code: bytes = b"",
    parameters: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
    declared: bytes = b"\0",
    sections: dict[int, bytes] | None = None,
) -> bytes:
    """A module whose only function is exported as f, with further sections."""
    every = {
        1: vector([b"\x60" + vector_of(bytes(parameters)) + vector_of(bytes(results))]),
        3: vector([b"\0"]),
        7: vector([vector_of(b"f") + b"\0\0"]),
        10: vector([vector_of(declared + code + b"\x0b")]),
        **(sections or {}),
    }
    return MAGIC + b"".join(section(number, every[number]) for number in sorted(every))


def load(data: bytes, mode: str, **options: Any) -> Any:
    """The exports of a module."""
    return wasm.load(data, engine=mode, cache=False, **options).exports


@pytest.mark.parametrize("count", [0xFFFFFFFF, 100_000_000])
def test_a_table_without_end(count: int, mode: str) -> None:
    data = module(sections={4: vector([bytes([FUNCREF, 0]) + unsigned(count)])})
    with pytest.raises(MemoryError, match=rf"a table of {count} elements.*Limits\.table_elements"):
        load(data, mode)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 100_000_000])
def test_growing_a_table_without_end(count: int, mode: str) -> None:
    code = opcode("ref.null") + bytes([FUNCREF]) + opcode("i32.const") + signed(count - (count >> 31 << 32))
    exports = load(module(code + opcode("table.grow") + b"\0", results=(I32,), sections=TABLE), mode)
    assert exports.f() == -1


def test_a_memory_beyond_the_limit(mode: str) -> None:
    data = module(sections={5: vector([b"\0" + unsigned(65536)])})
    with pytest.raises(MemoryError, match=r"Limits\.memory_bytes is 1048576"):
        load(data, mode, limits=wasm.Limits(memory_bytes=1 << 20))


def test_growing_a_memory_beyond_the_limit(mode: str) -> None:
    code = opcode("i32.const") + signed(16) + opcode("memory.grow") + b"\0"
    exports = load(module(code, results=(I32,), sections=MEMORY), mode, limits=wasm.Limits(memory_bytes=1 << 20))
    assert exports.f() == -1


@pytest.mark.parametrize("kind", [I32, I64, V128])
def test_frames_of_many_locals(kind: int, mode: str) -> None:
    exports = load(module(CALL_ITSELF, declared=b"\1" + unsigned(50_000) + bytes([kind])), mode)
    with pytest.raises(wasm.StackExhausted):
        exports.f()


def test_a_frame_of_many_values(mode: str) -> None:
    values = (opcode("i32.const") + b"\0") * 20_000
    drops = opcode("drop") * 20_000
    assert load(module(values + drops), mode).f() is None
    with pytest.raises(wasm.StackExhausted):
        load(module(values + CALL_ITSELF + drops), mode).f()


def test_many_arguments_and_results(mode: str) -> None:
    arguments = b"".join(opcode("local.get") + unsigned(number) for number in range(1000))
    with pytest.raises(wasm.StackExhausted):
        load(module(arguments + CALL_ITSELF, parameters=(I64,) * 1000), mode).f(*range(1000))
    with pytest.raises(wasm.StackExhausted):
        load(module(CALL_ITSELF, results=(I64,) * 1000), mode).f()


@pytest.mark.skipif(not IS_CPYTHON, reason=SMALL_STACKS)
def test_depth_in_a_thread_with_a_small_stack(mode: str) -> None:
    if mode == "portable" and sys.version_info < (3, 11):
        pytest.skip("before CPython 3.11 any recursive Python function overflows the stack of a small thread")
    exports = load(module(CALL_ITSELF), mode)
    caught: list[BaseException] = []

    def call() -> None:
        try:
            exports.f()
        except BaseException as error:
            caught.append(error)

    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    call()
    assert [type(error) for error in caught] == [wasm.StackExhausted] * 2


@pytest.mark.parametrize(
    ("limits", "error"), [(wasm.Limits(timeout_s=0.05), wasm.TimedOut), (wasm.Limits(fuel=100_000), wasm.OutOfFuel)]
)
def test_a_loop_without_end(limits: wasm.Limits, error: type[wasm.Trap], mode: str) -> None:
    exports = load(module(opcode("loop") + b"\x40" + opcode("br") + b"\0" + b"\x0b"), mode, limits=limits)
    with pytest.raises(error):
        exports.f()


def test_a_fill_of_nearly_all_addresses(mode: str) -> None:
    code = b"".join(opcode("i32.const") + signed(number) for number in (16, 1, -1)) + opcode("memory.fill") + b"\0"
    with pytest.raises(wasm.OutOfBounds):
        load(module(code, sections=MEMORY), mode).f()


@pytest.mark.skipif(not IS_CPYTHON, reason=SMALL_STACKS)
def test_a_thread_that_ended_is_forgotten(mode: str) -> None:
    """A later thread may have the same thread pointer and a smaller stack: what is known of the first would be wrong."""
    exports = load(module(CALL_ITSELF), mode)
    outcomes: list[str] = []

    def call() -> None:
        try:
            exports.f()
        except wasm.StackExhausted:
            outcomes.append("exhausted")

    before = threading.stack_size()
    try:
        for size, what in ((128 << 20, call), (1 << 20, int), (2 << 20, call), (1 << 20, int), (512 << 10, call)):
            threading.stack_size(size)
            thread = threading.Thread(target=what)
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert outcomes == ["exhausted"] * 3


def test_functions_are_named_after_exports() -> None:
    names = [b"first", b"second"]
    data = module(sections={7: vector([vector_of(name) + b"\0\0" for name in names])})
    assert decode(data).function_name(0) == "first"
    assert decode(module(sections={7: vector([])})).function_name(0) == "function 0"


def test_names_make_no_lines_of_a_backtrace(mode: str) -> None:
    name = "a\n  in fake (function 1)"
    data = module(opcode("unreachable"), sections={7: vector([vector_of(name.encode()) + b"\0\0"])})
    with pytest.raises(wasm.Unreachable) as caught:
        load(data, mode)[name]()
    assert len(str(caught.value).splitlines()) == 2
    assert caught.value.frames[0].name == name
