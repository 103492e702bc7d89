"""Portable mode: what shows that functions are Python source, and what its own design has to get right."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, opcode, section, unsigned, vector, vector_of

from callgate import i32, wasm
from callgate.errors import CallgateError
from callgate.wasm.types import I32

LOCAL = b"\x20\0"
LOOP_FOREVER = b"\x03\x40\x0c\0\x0b\0"  # loop br 0 end unreachable


def module(*bodies: bytes, imports: bytes = b"", imported: int = 0, locals_: bytes = b"\0") -> bytes:
    """Functions f0, f1, … of type (i32) -> i32, with a memory of a page that may grow to 2 and a table of one."""
    one = bytes([I32])
    return MAGIC + b"".join(
        (
            section(1, vector([b"\x60" + vector_of(one) + vector_of(one)])),
            imports and section(2, imports),
            section(3, vector([b"\0"] * len(bodies))),
            section(4, vector([bytes([0x70, 0, 1])])),
            section(5, vector([b"\1\1\2"])),
            section(
                7, vector([vector_of(f"f{n}".encode()) + b"\0" + unsigned(n + imported) for n in range(len(bodies))])
            ),
            section(10, vector([vector_of(locals_ + body + b"\x0b") for body in bodies])),
        )
    )


def load(*bodies: bytes, limits: wasm.Limits | None = None, **options: Any) -> Any:
    return wasm.load(module(*bodies, **options), engine="portable", limits=limits)


def import_of(name: str) -> bytes:
    return vector([vector_of(b"env") + vector_of(name.encode()) + b"\0\0"])


def test_a_traceback_shows_the_source() -> None:
    loaded = load(LOCAL + opcode("i32.load") + b"\2\4", LOCAL + b"\x10\0")
    with pytest.raises(wasm.OutOfBounds) as raised:
        loaded.exports.f1(-8)
    assert [frame.name for frame in raised.value.frames] == ["f0", "f1"]
    data = module(LOCAL + opcode("i32.load") + b"\2\4", LOCAL + b"\x10\0")
    first, second = (frame.offset for frame in raised.value.frames)
    assert first is not None and second is not None
    assert (data[first], data[second]) == (0x28, 0x10)
    shown = "".join(traceback.format_exception(raised.value))
    assert "return (mI[l0 + 4 >> 2] if not l0 & 3 else load_I(m, l0 + 4)[0])" in shown
    assert "<wasm module:" in shown


def test_source_is_let_go_with_its_module() -> None:
    loaded = load(LOCAL)
    assert loaded.exports.f0(5) == 5
    (name,) = loaded._core.code._files
    assert linecache.getlines(name)[0] == "def f0(l0):\n"
    del loaded
    for _ in range(3):  # PyPy runs finalizers one round later
        gc.collect()
    assert name not in linecache.cache


@pytest.mark.parametrize(
    ("body", "trap", "text"),
    [
        (b"\0", wasm.Unreachable, "unreachable"),
        (LOCAL + b"\x41\0" + opcode("i32.div_s"), wasm.DivisionByZero, "integer divide by zero"),
        (b"\x41\x07" + LOCAL + opcode("i32.rem_u"), wasm.DivisionByZero, "integer divide by zero"),
        (b"\x43\0\0\xc0\x7f" + opcode("i32.trunc_f32_s"), wasm.InvalidConversion, "invalid conversion to integer"),
        (b"\x43\0\0\x80\x7f" + opcode("i32.trunc_f32_s"), wasm.IntegerOverflow, "integer overflow"),
        (LOCAL + b"\x41\1" + b"\x11\0\0", wasm.UndefinedElement, "undefined element"),
        (LOCAL + LOCAL + b"\x11\0\0", wasm.UninitializedElement, "uninitialized element 0"),
        (b"\x41\x7f\x25\0\x1a" + LOCAL, wasm.TableOutOfBounds, "out of bounds table access"),
        (b"\x41\x7f" + opcode("i32.load8_u") + b"\0\0", wasm.OutOfBounds, "out of bounds memory access"),
        (b"\x41\x7f" + LOCAL + opcode("i32.store8") + b"\0\0" + LOCAL, wasm.OutOfBounds, "out of bounds memory access"),
        (LOCAL + b"\x10\0", wasm.StackExhausted, "call stack exhausted"),
    ],
)
def test_traps(body: bytes, trap: type[wasm.Trap], text: str) -> None:
    loaded = load(body)
    with pytest.raises(trap) as raised:
        loaded.exports.f0(0)
    assert str(raised.value).startswith(text)
    assert raised.value.frames[0].name == "f0"
    with pytest.raises(trap):  # and it may be called again
        loaded.exports.f0(0)


def test_fuel() -> None:
    loaded = load(LOOP_FOREVER, LOCAL, limits=wasm.Limits(fuel=5000))
    loaded.exports.f1(1)
    assert loaded.fuel_left == 5000  # it neither loops nor calls
    with pytest.raises(wasm.OutOfFuel) as raised:
        loaded.exports.f0(0)
    assert raised.value.frames[0].name == "f0"
    assert loaded.fuel_left == 0
    assert loaded.exports.f1(1) == 1
    with pytest.raises(wasm.OutOfFuel):
        loaded.exports.f0(0)


def test_timeout() -> None:
    loaded = load(LOOP_FOREVER, LOCAL, limits=wasm.Limits(timeout_s=0.05))
    for _ in range(2):
        with pytest.raises(wasm.TimedOut):
            loaded.exports.f0(0)
    assert loaded.exports.f1(3) == 3


def test_exceptions_of_host_functions_come_through() -> None:
    class Odd(Exception):
        pass

    @wasm.host("env", "fails")
    def fails(kind: i32, /) -> i32:
        raise (Odd, IndexError, ZeroDivisionError, RecursionError)[kind]("as it was")

    loaded = wasm.load(
        module(LOCAL + b"\x10\0", imports=import_of("fails"), imported=1), imports=[fails], engine="portable"
    )
    for kind, error in enumerate((Odd, IndexError, ZeroDivisionError, RecursionError)):
        with pytest.raises(error, match="as it was") as raised:
            loaded.exports.f0(kind)
        assert type(raised.value) is error


def test_a_trap_of_an_inner_call_comes_through_the_host() -> None:
    @wasm.host("env", "again")
    def again(x: i32, /) -> i32:
        result: int = loaded.exports.f1(x)
        return result

    loaded = wasm.load(
        module(LOCAL + b"\x10\0", b"\0", imports=import_of("again"), imported=1), imports=[again], engine="portable"
    )
    with pytest.raises(wasm.Unreachable) as raised:
        loaded.exports.f0(1)
    assert [frame.name for frame in raised.value.frames] == ["f1", "f0"]


def test_one_thread_at_a_time_and_closing() -> None:
    inside, leave = threading.Event(), threading.Event()

    @wasm.host("env", "wait")
    def wait(x: i32, /) -> i32:
        inside.set()
        leave.wait(20)
        with pytest.raises(RuntimeError, match="running"):
            loaded.close()
        return x

    loaded = wasm.load(
        module(LOCAL + b"\x10\0", LOCAL, imports=import_of("wait"), imported=1), imports=[wait], engine="portable"
    )
    thread = threading.Thread(target=loaded.exports.f0, args=(1,))
    thread.start()
    assert inside.wait(20)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        loaded.exports.f1(1)
    leave.set()
    thread.join()
    assert loaded.exports.f1(2) == 2
    loaded.close()
    with pytest.raises(CallgateError, match="the instance is closed"):
        loaded.exports.f1(2)


@pytest.mark.parametrize("depth", [10, 25, 150])
def test_deep_nesting(depth: int) -> None:
    """Loops within one another, each of which is left for the outermost and repeated from the innermost."""
    inner = LOCAL + b"\x45\x0d" + unsigned(depth)  # br_if out of all
    inner += LOCAL + b"\x41\1\x6b\x22\0\x0d\0"  # local 0 - 1; br_if 0
    body = b"\x02\x40" + b"\x03\x40" * depth + inner + b"\x0b" * depth + b"\x0b" + LOCAL
    assert load(body).exports.f0(7) == 0


@pytest.mark.parametrize("count", [2, 5, 40, 300])
def test_switches(count: int) -> None:
    """Blocks within one another and a br_table: case n gives 3 n, what is above gives -1."""
    body = b"\x02\x40" * (count + 1) + LOCAL
    body += b"\x0e" + vector([unsigned(n) for n in range(count)]) + unsigned(count)
    for n in range(count):
        number = n * 3
        body += b"\x0b\x41" + (bytes([number]) if number < 64 else bytes([number & 127 | 128, number >> 7])) + b"\x0f"
    body += b"\x0b\x41\x7f"
    run = load(body).exports.f0
    assert [run(n) for n in (0, 1, count - 1, count, count + 1, -1)] == [0, 3, 3 * count - 3, -1, -1, -1]


def test_an_argument_is_checked_as_by_a_gate() -> None:
    run = load(LOCAL).exports.f0
    with pytest.raises(TypeError, match=r"f0\(\) takes exactly 1 argument \(2 given\)"):
        run(1, 2)
    with pytest.raises(TypeError, match=r"f0\(\) argument 1 must be int, not str"):
        run("1")
    with pytest.raises(OverflowError, match=r"f0\(\) argument 1 must be in -2147483648..2147483647"):
        run(1 << 31)
    assert run(-1) == -1 and run(True) == 1 and type(run(True)) is int


@pytest.mark.parametrize(("name", "size"), [("i32.load", 4), ("i32.load16_s", 2), ("i32.load8_s", 1)])
@pytest.mark.parametrize("offset", [0, 1, 4])
def test_every_alignment(name: str, size: int, offset: int) -> None:
    """Also addresses that are constant, known to be aligned, or beyond the end by some of the bytes."""
    access = opcode(name) + b"\0" + unsigned(offset)
    loaded = load(LOCAL + access, LOCAL + b"\x41\2\x74" + access, b"\x41\7" + access)
    loaded.memory.write(0, bytes(range(200, 256)) * 2)
    loaded.memory.write(65528, bytes(range(250, 258 - 2)) + b"\0\1")
    for address in (0, 1, 2, 3, 5, 8):
        for run, place in ((loaded.exports.f0, address), (loaded.exports.f1, 4 * address), (loaded.exports.f2, 7)):
            expected = loaded.memory.read_int(place + offset, size, signed=True)
            assert run(address) == expected
    assert loaded.exports.f0(65536 - size - offset) == loaded.memory.read_int(65536 - size, size, signed=True)
    for address in range(65536 - size - offset + 1, 65540):
        with pytest.raises(wasm.OutOfBounds):
            loaded.exports.f0(address)


def test_every_alignment_of_stores() -> None:
    access = opcode("i32.store") + b"\0\4"
    number = b"\x41\xef\xfd\xb6\xf5\x7d"  # 0xdeadbeef
    loaded = load(LOCAL + number + access + LOCAL, LOCAL + b"\x41\2\x74" + number + access + LOCAL)
    for address in (0, 1, 2, 3, 65528):
        for run, place in ((loaded.exports.f0, address), (loaded.exports.f1, 4 * address & 0xFFFF)):
            loaded.memory.write(place + 4, bytes(4))
            run(place if run is loaded.exports.f0 else place >> 2)
            assert loaded.memory.read_int(place + 4) == 0xDEADBEEF
    for address in (65529, 65530, 65531, 65532, 70000, -4, -1):
        with pytest.raises(wasm.OutOfBounds):
            loaded.exports.f0(address)


def test_memory_is_shared_and_grows() -> None:
    grows = load(LOCAL + b"\x40\0", LOCAL + opcode("i32.load8_u") + b"\0\0")
    memory = grows.memory
    view = memory.view(0, 4)
    with pytest.raises(wasm.OutOfBounds):
        grows.exports.f1(65536)
    assert (grows.exports.f0(1), grows.exports.f0(1)) == (1, -1)
    memory.write(65536, b"\x2a")
    assert grows.exports.f1(65536) == 42
    view[0] = 9
    assert grows.exports.f1(0) == 9
