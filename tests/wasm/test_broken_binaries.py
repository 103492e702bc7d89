"""Broken binaries: the decoder and the validator refuse them with their own errors, in time linear in their size.

Valid modules are cut off at every byte, changed by bits and bytes, spliced, and given counts that promise more than there
is.  Nothing may come but BinaryError and ValidationError; what is still valid is fine.  `CALLGATE_WASM_MUTATIONS` says how
many random changes there are.
"""

from __future__ import annotations

import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of
from random_modules import random_module

from callgate import wasm
from callgate.errors import EngineError
from callgate.wasm import BinaryError, ValidationError
from callgate.wasm.binary import decode
from callgate.wasm.opcodes import OPCODES
from callgate.wasm.types import F32, FUNCREF, I32
from callgate.wasm.validate import check_body, check_module

MUTATIONS = int(os.environ.get("CALLGATE_WASM_MUTATIONS", "4000"))
HUGE = (0x7F, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def check(data: bytes) -> bool:
    """Is it a valid module?  Raises whatever is no refusal."""
    try:
        module = decode(data)
        context = check_module(module)
        for number in range(len(module.bodies)):
            check_body(context, number)
    except (BinaryError, ValidationError) as problem:
        if problem.offset is not None:
            assert 0 <= problem.offset <= len(data), f"offset {problem.offset} of {len(data)} bytes: {problem}"
        assert str(problem)
        return False
    return True


def function(code: bytes, parameters: bytes = b"", results: bytes = b"", declared: bytes = b"\0") -> bytes:
    """A module of one function, with a memory and a table."""
    body = declared + code
    return MAGIC + b"".join(
        (
            section(1, vector([b"\x60" + vector_of(parameters) + vector_of(results)])),
            section(3, vector([b"\0"])),
            section(4, vector([bytes([FUNCREF, 0, 1])])),
            section(5, vector([b"\0\1"])),
            section(10, vector([vector_of(body)])),
        )
    )


def with_names(data: bytes) -> bytes:
    """The module and a name section, and a custom section of no meaning."""
    names = b"\0" + vector_of(vector_of(b"module")) + b"\1" + vector_of(vector([b"\0" + vector_of(b"first")]))
    return data + section(0, vector_of(b"name") + names) + section(0, vector_of(b"other") + b"\xff" * 20)


def imports() -> bytes:
    """A module that imports one thing of each kind, and exports them."""
    entries = [b"\0\0", bytes([1, FUNCREF, 1, 1, 2]), b"\2\1\1\2", bytes([3, I32, 1])]
    names = [b"function", b"table", b"memory", b"global"]
    return MAGIC + b"".join(
        (
            section(1, vector([b"\x60\0\0"])),
            section(
                2, vector([vector_of(b"env") + vector_of(name) + one for name, one in zip(names, entries, strict=True)])
            ),
            section(7, vector([vector_of(name) + bytes([kind, 0]) for kind, name in enumerate(names)])),
            section(8, b"\0"),
        )
    )


MODULES = {
    "imports": with_names(imports()),
    "random": with_names(random_module(1)),
    "random2": random_module(5),
    "small": function(b"\x0b"),
}


def test_the_modules_are_valid() -> None:
    assert all(check(data) for data in MODULES.values())


@pytest.mark.parametrize("name", MODULES)
def test_cut_off_at_every_byte(name: str) -> None:
    data = MODULES[name]
    ends = range(len(data)) if len(data) < 1500 else sorted(random.Random(2).sample(range(len(data)), 1500))
    valid = [end for end in ends if check(data[:end])]
    assert len(valid) < 20  # between sections


@pytest.mark.parametrize("name", MODULES)
def test_every_bit(name: str) -> None:
    data = MODULES[name]
    places = range(len(data)) if len(data) < 300 else random.Random(3).sample(range(len(data)), 300)
    for place in places:
        for bit in range(8):
            check(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])


def changed(data: bytes, draw: random.Random) -> bytes:
    """Some random changes."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        place = draw.randrange(len(out))
        match draw.randrange(6):
            case 0:
                out[place] = draw.randrange(256)
            case 1:
                out[place:place] = draw.randbytes(draw.randint(1, 4))
            case 2:
                del out[place : place + draw.randint(1, 8)]
            case 3:
                start = draw.randrange(len(out))
                out[place:place] = out[start : start + draw.randint(1, 40)]
            case 4:
                out[place : place + 1] = unsigned(draw.choice(HUGE))
            case _:
                out[place : place + 5] = b"\x80\x80\x80\x80\x80\x80"[: draw.randint(1, 6)]
    return bytes(out)


@pytest.mark.parametrize("part", range(8))
def test_random_changes(part: int) -> None:
    for number in range(part, MUTATIONS, 8):
        draw = random.Random(number)
        base = random_module(draw.randrange(40)) if number % 10 == 0 else MODULES[draw.choice([*MODULES])]
        data = changed(base, draw)
        try:
            check(data)
        except Exception as error:
            error.add_note(f"change {number}") if hasattr(error, "add_note") else print(f"change {number}")
            raise


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("number", range(1, 13))
def test_a_count_beyond_the_end(number: int, count: int) -> None:
    assert not check(MAGIC + section(number, unsigned(count)))
    assert not check(MAGIC + section(number, unsigned(count) + b"\0" * 50))
    assert not check(MAGIC + bytes([number]) + unsigned(count) + b"\0")


@pytest.mark.parametrize("count", HUGE)
def test_counts_within_bodies(count: int) -> None:
    assert not check(function(opcode("br_table") + unsigned(count) + b"\0\0\x0b"))
    assert not check(function(b"\x1c" + unsigned(count) + b"\x0b"))
    assert not check(function(b"\x0b", declared=b"\1" + unsigned(max(count, 50_001)) + bytes([I32])))
    assert not check(function(b"\x0b", declared=unsigned(count) + b"\1" + bytes([I32])))
    assert not check(function(opcode("local.get") + unsigned(count) + opcode("drop") + b"\x0b"))


def test_locals_that_add_up() -> None:
    runs = vector([unsigned(0x7FFFFFFF) + bytes([F32])] * 8)
    with pytest.raises(BinaryError, match="locals"):
        check_body(check_module(decode(function(b"\x0b", declared=runs))), 0)


def nested(depth: int) -> bytes:
    return function(b"\x02\x40" * depth + b"\x0b" * (depth + 1))


def wide(count: int) -> bytes:
    return function((opcode("i32.const") + b"\0") * count + opcode("drop") * count + b"\x0b")


def table(count: int) -> bytes:
    code = opcode("i32.const") + b"\0" + opcode("br_table") + vector([b"\0"] * count) + b"\0"
    return function(code + b"\x0b")


def dead(count: int) -> bytes:
    return function(opcode("unreachable") + opcode("i32.add") * count + opcode("drop") + b"\x0b")


def locals_and_gets(count: int) -> bytes:
    runs = vector([b"\1" + bytes([I32])] * min(count, 40_000))
    return function((opcode("local.get") + b"\0" + opcode("drop")) * count + b"\x0b", declared=runs)


def many_types(count: int) -> bytes:
    return MAGIC + section(1, vector([b"\x60\1" + bytes([I32]) + b"\1" + bytes([I32])] * count))


def many_exports(count: int) -> bytes:
    exports = [vector_of(f"{number:06}".encode()) + b"\0\0" for number in range(count)]
    bodies = section(10, vector([vector_of(b"\0\x0b")]))
    types = section(1, vector([b"\x60\0\0"])) + section(3, vector([b"\0"]))
    return MAGIC + types + section(7, vector(exports)) + bodies


def branches_out(count: int) -> bytes:
    """A br_table whose every target is another block, as many as half of the count is long."""
    depth = max(1, min(count // 2, 2000))
    code = b"\x02\x40" * depth + opcode("i32.const") + b"\0" + opcode("br_table")
    return function(
        code + vector([unsigned(number % depth) for number in range(count)]) + b"\0" + b"\x0b" * (depth + 1)
    )


def constants(count: int) -> bytes:
    """A global whose constant expression is long."""
    code = opcode("i32.const") + signed(1) + (opcode("i32.const") + signed(1) + opcode("i32.add")) * count
    return MAGIC + section(6, vector([bytes([I32, 0]) + code + b"\x0b"]))


GROWING: dict[str, Callable[[int], bytes]] = {
    "nested": nested,
    "wide": wide,
    "table": table,
    "dead": dead,
    "locals": locals_and_gets,
    "types": many_types,
    "exports": many_exports,
    "branches": branches_out,
    "constants": constants,
}


@pytest.mark.parametrize("name", GROWING)
def test_work_grows_with_the_size_only(name: str) -> None:
    """Memory as a measure of the work done on a hostile module: times on a busy machine prove nothing."""
    peaks = []
    sizes = []
    for count in (4_000, 16_000):
        data = GROWING[name](count)
        tracemalloc.start()
        check(data)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(len(data))
    assert peaks[1] <= peaks[0] * (sizes[1] / sizes[0]) * 2 + 1_000_000
    assert peaks[1] <= 2_000_000 + 1000 * sizes[1]


@pytest.mark.parametrize("name", GROWING)
def test_steps_grow_with_the_size_only(name: str) -> None:
    """As many lines are run for a byte of a large module as for one of a small module."""
    steps = []
    for count in (1_000, 8_000):
        data = GROWING[name](count)
        lines = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal lines
            lines += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            check(data)
        finally:
            sys.settrace(before)
        steps.append(lines / len(data))
    assert steps[1] <= steps[0] * 2 + 1


ZERO = opcode("i32.const") + b"\0"
WIDE: dict[str, Callable[[int], bytes]] = {
    "ifs": lambda n: function(ZERO * n + (ZERO + b"\x04\x40") * n + b"\x0b" * n + opcode("drop") * n + b"\x0b"),
    "blocks": lambda n: function(ZERO * n + b"\x02\x40" * n + b"\x0b" * n + opcode("drop") * n + b"\x0b"),
    "loops": lambda n: function(ZERO * n + b"\x03\x40" * n + b"\x0b" * n + opcode("drop") * n + b"\x0b"),
    "calls": lambda n: function(ZERO * n + b"\x10\0" * n + opcode("drop") * n + b"\x0b"),
    "branches": lambda n: function(b"\x02\x40" + ZERO * n + (ZERO + b"\x0d\0") * n + opcode("drop") * n + b"\x0b\x0b"),
    "locals": lambda n: function(
        b"\x20\0" * n + (ZERO + b"\x21\0") * n + opcode("drop") * n + b"\x0b", declared=vector([b"\1" + bytes([I32])])
    ),
}
"""Functions with many values on the stack, and many instructions that could look at all of them."""


def steps_of(data: bytes, engine: str) -> int:
    """How many lines of Python are run to make a module ready in a mode."""
    lines = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    wasm.load(function(b"\x0b"), engine=engine, cache=False)
    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        wasm.Module(data, engine=engine, cache=False)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("mode", ["compiled", "portable"])
@pytest.mark.parametrize("name", WIDE)
def test_wide_stacks_are_compiled_in_linear_time(name: str, mode: str) -> None:
    try:
        wasm.Module(function(b"\x0b"), engine=mode)
    except EngineError as reason:
        pytest.skip(str(reason))
    small, large = WIDE[name](200), WIDE[name](1600)
    try:
        assert steps_of(large, mode) <= 20 * steps_of(small, mode)
    except EngineError as reason:
        assert "nest" in str(reason)  # a mode may refuse what is nested too deeply


def test_deep_nesting_needs_no_recursion() -> None:
    assert check(nested(100_000)) in (True, False)  # not RecursionError


def test_every_opcode_alone() -> None:
    for number in (*range(256), *range(0xFC00, 0xFC20), *range(0xFD00, 0xFE00)):
        code = bytes([number]) if number < 256 else bytes([number >> 8]) + unsigned(number & 0xFF)
        for rest in (b"", b"\0", b"\0\0", b"\0" * 16, b"\xff" * 40):
            check(function(code + rest + b"\x0b"))
            check(function(opcode("unreachable") + code + rest + b"\x0b"))
    assert OPCODES["unreachable"] == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\0as", b"\0asm", b"\0asm\1\0\0", b"\0asm\2\0\0\0", b"\0asm\1\0\1\0", b"MZ" * 9, b"\x7fELF" * 9],
)
def test_what_is_no_module(data: bytes) -> None:
    with pytest.raises(BinaryError):
        decode(data)


def test_a_large_module_of_nothing_is_quickly_refused() -> None:
    started = time.process_time()
    assert not check(MAGIC + b"\x0c" * (8 << 20))
    assert time.process_time() - started < 5
