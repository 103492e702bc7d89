"""Callbacks: what arrives, what C gets back, exceptions, references, and what may be passed."""

from __future__ import annotations

import array
import copy
import ctypes
import functools
import gc
import operator
import pickle
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling_back import SOURCE, Bind, Color, Nothing, Problem, big, binder, floats, small, thing, two
from children import run_child
from here import INT64, IS_WINDOWS, WCHAR_BITS
from telling import Index, raising, told

import callgate as cg
from callgate import Ptr, f64, i32
from callgate.runtime.code_memory import MEMORY
from callgate.target import DATA_MODEL, IS_FREE_THREADED


@pytest.fixture
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE, ("-O2", "-pthread")))


@pytest.fixture
def bind(engine: str, path: str) -> Bind:
    return binder(path, engine)


@pytest.fixture
def made(engine: str) -> Callable[[Any], Any]:
    """`@cg.callback` for the engine under test."""
    return functools.partial(cg.callback, engine=engine)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What sys.unraisablehook gets: pairs of function and exception."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: seen.append((given.object, given.exc_value)))
    return seen


def fail() -> int:
    raise Problem


def got(path: str, index: int, size: int) -> bytes:
    """What C got from the callback's call number `index`."""
    memory = ((ctypes.c_ubyte * 48) * 4).in_dll(ctypes.CDLL(path), "got")
    assert set(memory[index][size:]) == {0xA5}
    return bytes(memory[index][:size])


# -- what C gets -----------------------------------------------------------------------------------------------------

IS_ARM = DATA_MODEL.architecture == "aarch64"
LONG_DOUBLE_ONE = bytes(14) + b"\xff\x3f" if IS_ARM else bytes.fromhex("0000000000000080ff3f")
if DATA_MODEL.long_double_bytes == 8:
    LONG_DOUBLE_ONE = struct.pack("<d", 1.0)
BACK = [
    # suffix, annotation, what is returned, its memory
    ("i8", "i8", -3, b"\xfd"),
    ("u16", "u16", 65535, b"\xff\xff"),
    ("i32", "i32", -(2**31), struct.pack("<i", -(2**31))),
    ("u64", "u64", 2**64 - 1, b"\xff" * 8),
    ("f32", "f32", 0.5, struct.pack("<f", 0.5)),
    ("f64", "f64", -1.5, struct.pack("<d", -1.5)),
    ("longdouble", "longdouble", 1.0, LONG_DOUBLE_ONE),
    ("pointer", "Ptr[None] | None", 1 << 60, struct.pack("<Q", 1 << 60)),
    ("pointer", "Ptr[thing] | None", ctypes.cast(1 << 60, Ptr[thing]), struct.pack("<Q", 1 << 60)),
    ("small", "small", small(5, 0.5), struct.pack("<if", 5, 0.5)),
    ("two", "two", two(-5, 0.5), struct.pack("<qd", -5, 0.5)),
    ("floats", "floats", floats(1.0, 0.5), struct.pack("<dd", 1.0, 0.5)),
    ("big", "big", big((1, 2, 3, 4, 5)), struct.pack("<5q", 1, 2, 3, 4, 5)),
    ("i32", "Color", Color.GREEN, struct.pack("<i", 300)),
]
back = pytest.mark.parametrize(("suffix", "annotation", "value", "image"), BACK, ids=[f"{b[0]}-{b[1]}" for b in BACK])
ONE_WORD = {
    "two": "f() returns struct two: a callback of the ctypes engine returns one word",
    "floats": "f() returns struct floats: a callback of the ctypes engine returns one word",
    # x8, which says where a large result goes, does not reach a closure of ctypes
    **({"big": "f() returns struct big: a callback of the ctypes engine returns one word"} if IS_ARM else {}),
}
if IS_WINDOWS:
    ONE_WORD.clear()  # such structs are returned in memory


def getter(bind: Bind, engine: str, suffix: str, annotation: str) -> Any:
    """The C function that calls back; None where the engine refuses the type."""
    gate = bind(f"get_{suffix}(f: Callable[[i32], {annotation}]) -> None")
    if engine == "ctypes" and suffix in ONE_WORD:
        assert told(gate, lambda x: None) == f"DeclarationError: {ONE_WORD[suffix]}"
        return None
    return gate


@back
def test_results(bind: Bind, path: str, engine: str, suffix: str, annotation: str, value: Any, image: bytes) -> None:
    seen = []

    def function(x: int) -> Any:
        seen.append(x)
        return value

    gate = getter(bind, engine, suffix, annotation)
    if gate is None:
        return
    gate(function)
    assert seen == [0, 1, 2]
    assert [got(path, index, len(image)) for index in range(3)] == [image] * 3


@back
@pytest.mark.parametrize("kind", [Problem, KeyboardInterrupt])
def test_zero_after_an_exception(
    bind: Bind, path: str, engine: str, suffix: str, annotation: str, value: Any, image: bytes, kind: type
) -> None:
    gate = getter(bind, engine, suffix, annotation)
    if gate is None:
        return
    seen = []
    problem = kind("text")

    def function(x: int) -> Any:
        seen.append(x)
        if x == 1:
            raise problem
        return value

    with pytest.raises(kind) as info:
        gate(function)
    assert info.value is problem
    assert seen == [0, 1]  # the third call does nothing
    assert got(path, 0, len(image)) == image
    assert got(path, 1, len(image)) == got(path, 2, len(image)) == bytes(len(image))


@back
def test_zero_after_a_wrong_result(
    bind: Bind, path: str, engine: str, suffix: str, annotation: str, value: Any, image: bytes
) -> None:
    gate = getter(bind, engine, suffix, annotation)
    if gate is None:
        return
    with pytest.raises(TypeError, match=r"^the result of f\(\) must be .*, not Nothing$"):
        gate(lambda x: Nothing() if x else value)
    assert got(path, 0, len(image)) == image
    assert got(path, 1, len(image)) == got(path, 2, len(image)) == bytes(len(image))


@back
def test_zero_once_closed(
    bind: Bind, made: Any, path: str, engine: str, suffix: str, annotation: str, value: Any, image: bytes
) -> None:
    """Closed in its own run: that call gives its value, the others the zero of the type."""
    if getter(bind, engine, suffix, annotation) is None:
        return
    gate = bind(f"get_{suffix}(f: Callback[[i32], {annotation}]) -> None")

    def back(x: i32) -> Any:
        callback.close()
        return value

    back.__annotations__["return"] = eval(annotation, vars(sys.modules["calling_back"]))
    callback = made(back)
    with pytest.raises(RuntimeError, match=r"^back\(\) was called by C after it was closed$"):
        gate(callback)
    assert got(path, 0, len(image)) == image
    assert got(path, 1, len(image)) == got(path, 2, len(image)) == bytes(len(image))


def test_void(bind: Bind) -> None:
    gate = bind("get_void(f: Callable[[i32], None]) -> None")
    seen = []
    gate(seen.append)
    gate(lambda x: seen.append(x) or Nothing())  # what is returned is dropped
    assert seen == [0, 1, 2] * 2
    with pytest.raises(Problem):
        gate(lambda x: seen.append(x) or fail())
    assert seen == [0, 1, 2, 0, 1, 2, 0]


# -- results that are refused ----------------------------------------------------------------------------------------

WRONG_RESULTS = [
    ("i32", "i32", "text", "TypeError: the result of f() must be int, not str"),
    ("i32", "i32", None, "TypeError: the result of f() must be int, not None"),
    ("i32", "i32", 1.0, "TypeError: the result of f() must be int, not float"),
    ("i32", "i32", 2**31, "OverflowError: the result of f() must be in -2147483648..2147483647 (int), not 2147483648"),
    ("i32", "i32", -(2**31) - 1, "OverflowError: the result of f() must be in -2147483648..2147483647 (int), not -2147483649"),
    ("i32", "i32", 2**64, f"OverflowError: the result of f() must be in -2147483648..2147483647 (int), not {2**64}"),
    ("i8", "i8", 128, "OverflowError: the result of f() must be in -128..127 (signed char), not 128"),
    ("u16", "u16", -1, "OverflowError: the result of f() must be in 0..65535 (unsigned short), not -1"),
    ("u16", "u16", 65536, "OverflowError: the result of f() must be in 0..65535 (unsigned short), not 65536"),
    ("u64", "u64", 2**64, f"OverflowError: the result of f() must be in 0..{2**64 - 1} (unsigned {INT64}), not {2**64}"),
    ("f64", "f64", "1.0", "TypeError: the result of f() must be float, not str"),
    ("f64", "f64", None, "TypeError: the result of f() must be float, not None"),
    ("f64", "f64", 10**400, "OverflowError: int too large to convert to float"),
    ("f32", "f32", 1e300, "OverflowError: the result of f() must be in the range of a C float, not 1e+300"),
    ("pointer", "Ptr[thing]", None, "TypeError: the result of f() must be Ptr[thing], not None"),
    ("pointer", "Ptr[thing]", 5, "TypeError: the result of f() must be Ptr[thing], not int; for an address use ctypes.cast(address, Ptr[thing])"),
    ("pointer", "Ptr[thing]", Ptr[i32](), "TypeError: the result of f() must be Ptr[thing], not Ptr[i32]"),
    ("pointer", "Ptr[None]", -1, "OverflowError: the result of f() must be an address of 64 bits, not -1"),
    ("pointer", "Ptr[None]", 0, "TypeError: the result of f() must be Ptr[None], not NULL"),
    ("small", "small", None, "TypeError: the result of f() must be small, not None"),
    ("small", "small", two(), "TypeError: the result of f() must be small, not two"),
    ("big", "big", (1, 2, 3, 4, 5), "TypeError: the result of f() must be big, not tuple"),
    ("i32", "Color", "RED", "TypeError: the result of f() must be int, not str"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "annotation", "value", "text"), WRONG_RESULTS)
def test_wrong_results(bind: Bind, engine: str, suffix: str, annotation: str, value: Any, text: str) -> None:
    gate = getter(bind, engine, suffix, annotation)
    if gate is None:
        return
    calls = []
    assert told(gate, lambda x: calls.append(x) or value) == text
    assert calls == [0]


def test_results_are_converted_as_arguments_are(bind: Bind, path: str) -> None:
    gate = bind("call(f: F, x: i32) -> i32")
    assert gate(lambda x: True, 0) == 1
    assert gate(lambda x: Index(-7), 0) == -7
    assert told(gate, lambda x: Index(1, raising(KeyError("key"))), 0) == "KeyError: 'key'"
    assert told(gate, lambda x: Index("text"), 0) == told(operator.index, Index("text"))
    real = bind("get_f64(f: Callable[[i32], f64]) -> None")
    real(lambda x: 3)
    assert got(path, 1, 8) == struct.pack("<d", 3.0)


def test_wrong_arity(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")

    def none() -> int:
        return 1

    def needs_two(x: int, y: int) -> int:
        return 1

    name = "test_wrong_arity.<locals>."
    assert told(gate, none, 1) == f"TypeError: {name}none() takes 0 positional arguments but 1 was given"
    assert told(gate, needs_two, 1) == f"TypeError: {name}needs_two() missing 1 required positional argument: 'y'"
    assert gate(lambda *given: len(given), 1) == 1
    assert gate(lambda x, y=5: y, 1) == 5


# -- what arrives ----------------------------------------------------------------------------------------------------


def test_strings(bind: Bind) -> None:
    seen: list[Any] = []
    keep = lambda text: seen.append(text) or 1  # noqa: E731
    gates = [
        bind("give_string(f: Callable[[str], i32], text: cg.cstr | None) -> i32"),
        bind("give_string(f: Callable[[bytes], i32], text: cg.cstr | None) -> i32"),
        bind("give_string(f: Callable[[str | None], i32], text: cg.cstr | None) -> i32"),
        bind("give_string(f: Callable[[bytes | None], i32], text: cg.cstr | None) -> i32"),
    ]
    for gate in gates:
        gate(keep, "tëxt")
    assert seen == ["tëxt", "tëxt".encode(), "tëxt", "tëxt".encode()]
    seen.clear()
    null = "ValueError: argument 1 of f() is NULL; declare it `X | None` to get None"
    assert [told(gate, keep, None) for gate in gates] == [null, null, "1", "1"]
    assert seen == [None, None]
    assert told(gates[0], keep, b"\xff").startswith("UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff")
    wide = bind("give_wide(f: Callable[[cg.wstr], i32], text: cg.wstr | None) -> i32")
    assert wide(lambda text: len(text), "t\U0001f600") == 2
    assert told(wide, len, None) == null


def test_pointers(bind: Bind, path: str) -> None:
    number = ctypes.c_int(41)
    address = ctypes.addressof(number)
    seen: list[Any] = []

    def keep(p: Any) -> int:
        seen.append(p)
        return 1

    for annotation in ("Ptr[i32]", "Ptr[i32] | None"):
        gate = bind(f"give_ints(f: Callable[[{annotation}], i32], p: Ptr[i32] | None) -> i32")
        gate(keep, ctypes.byref(number))
        assert isinstance(seen[-1], Ptr[i32])
        assert ctypes.addressof(seen[-1].contents) == address
        seen[-1][0] += 1
        gate(keep, None)
    assert number.value == 43
    assert isinstance(seen[1], Ptr[i32])
    assert not seen[1]  # a pointer arrives as one, which is false
    assert seen[3] is None
    gate = bind("give_thing(f: Callable[[Ptr[thing]], i32], null: i32) -> i32")
    gate(keep, 0)
    assert type(seen[-1]) is Ptr[thing]
    gate(keep, 1)
    assert not seen[-1]
    for annotation, null in (("Ptr[None]", ctypes.c_void_p), ("Ptr[None] | None", type(None))):
        gate = bind(f"give_void(f: Callable[[{annotation}], i32], p: Ptr[None] | None) -> i32")
        gate(keep, address)
        assert seen[-1].value == address
        gate(keep, None)
        assert type(seen[-1]) is null


def test_function_pointers_arrive(bind: Bind, path: str, engine: str) -> None:
    add_one = ctypes.cast(ctypes.CDLL(path).add_one, ctypes.c_void_p).value
    gate = bind("give_function(f: Callable[[Callable[[i32], i32] | None], i32], null: i32) -> i32")
    call = bind("call(f: F, x: i32) -> i32")
    seen: list[Any] = []
    assert gate(lambda f: seen.append(f) or call(f, 5), 0) == 6
    assert seen[0].value == add_one
    assert gate(lambda f: 1 if f is None else 2, 1) == 1
    gate = bind("give_function(f: Callable[[Callable[[i32], i32]], i32], null: i32) -> i32")
    assert told(gate, lambda f: 1, 1) == "ValueError: argument 1 of f() is NULL; declare it `X | None` to get None"


def test_structs_and_enums_arrive(bind: Bind) -> None:
    gate = bind("give_big(f: Callable[[big], i32], first: i32) -> i32")
    seen: list[Any] = []
    assert gate(lambda value: seen.append(value) or sum(value.words), 10) == 24
    assert type(seen[0]) is big
    assert list(seen[0].words) == [10, 2, 3, 4, 5]  # a copy, which outlives the call
    gate = bind("give_color(f: Callable[[Color], i32], color: i32) -> i32")
    assert gate(lambda color: seen.append(color) or 1, 300) == 1
    assert seen[1] is Color.GREEN
    assert told(gate, lambda color: 1, 4) == "ValueError: 4 is not a valid Color"


def test_objects_arrive(bind: Bind) -> None:
    """The references that C holds stay C's."""
    gate = bind("give_void(f: Callable[[ctypes.py_object], i32], p: Ptr[None] | None) -> i32")
    thing = Nothing()
    before = sys.getrefcount(thing)
    for _ in range(100):
        assert gate(lambda given: given is thing, id(thing)) == 1
    assert sys.getrefcount(thing) == before


# -- exceptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, StopIteration, GeneratorExit, BaseException, MemoryError])
def test_every_kind_of_exception(bind: Bind, kind: type[BaseException]) -> None:
    problem = kind("text")

    def function(x: int) -> int:
        raise problem

    for blocking in (False, True):
        with pytest.raises(kind) as info:
            bind("call(f: F, x: i32) -> i32", blocking=blocking)(function, 1)
        assert info.value is problem


def test_the_first_exception_wins(bind: Bind) -> None:
    gate = bind("call_both(f: F, g: F, x: i32) -> i32")
    problems = [Problem("first"), Problem("second")]
    calls: list[str] = []

    def first(x: int) -> int:
        calls.append("first")
        raise problems[0]

    def second(x: int) -> int:
        calls.append("second")
        raise problems[1]

    def right(x: int) -> int:
        calls.append("right")
        return x

    for functions, expected in (
        ([first, second], problems[0]),
        ([right, second], problems[1]),
        ([first, right], problems[0]),
    ):
        with pytest.raises(Problem) as info:
            gate(*functions, 1)
        assert info.value is expected
    assert calls == ["first", "right", "second", "first"]
    assert gate(right, right, 3) == 3003


def test_the_traceback_names_the_callback(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")

    def function(x: int) -> int:
        raise Problem

    with pytest.raises(Problem) as info:
        gate(function, 1)
    names = [entry.name for entry in info.traceback]
    assert names[0] == "test_the_traceback_names_the_callback"
    assert names[-1] == "function"
    assert info.value.__context__ is None


def test_nested(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")
    caught = []

    def inner(x: int) -> int:
        raise Problem(x)

    def catches(x: int) -> int:
        try:
            gate(inner, x)
        except Problem as problem:
            caught.append(problem.args[0])
        return gate(lambda y: y + 1, x)

    def passes(x: int) -> int:
        return gate(inner, x)

    def replaces(x: int) -> int:
        try:
            return gate(inner, x)
        except Problem:
            raise KeyError(x) from None

    assert gate(catches, 5) == 6
    assert caught == [5]
    with pytest.raises(Problem, match=r"^6$"):
        gate(passes, 6)
    with pytest.raises(KeyError):
        gate(replaces, 7)
    assert gate(catches, 8) == 9


@pytest.mark.parametrize("blocking", [False, True])
def test_recursive(bind: Bind, blocking: bool) -> None:
    gate = bind("call_both(f: F, g: F, x: i32) -> i32", blocking=blocking)

    def count(x: int) -> int:
        return 1 if x == 0 else gate(count, lambda y: 0, x - 1) // 1000 + 1

    def fail(x: int) -> int:
        if x == 0:
            raise Problem("deep")
        return gate(fail, never, x - 1)

    def never(x: int) -> int:
        raise AssertionError("a callback after an exception")

    assert count(50) == 51
    with pytest.raises(Problem, match=r"^deep$"):
        gate(fail, never, 50)
    assert count(3) == 4


def test_recursion_without_end(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")

    def function(x: int) -> int:
        return gate(function, x)

    for _ in range(3):
        with pytest.raises(RecursionError):
            gate(function, 1)
    assert gate(lambda x: x, 7) == 7


def test_threads_have_their_own_exceptions(bind: Bind) -> None:
    gates = [bind("sum_of(f: F, count: i32) -> i32", blocking=blocking) for blocking in (True, False)]
    wrong: list[Any] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        gate = gates[number % 2 and 1]
        barrier.wait(100)
        for turn in range(100):
            problem = Problem(number, turn)

            def function(x: int, problem: Problem = problem) -> int:
                if x == problem.args[1] % 20:
                    raise problem
                return x

            try:
                result = gate(function, 10)
            except Problem as found:
                if found is not problem:
                    wrong.append(found)
            else:
                if turn % 20 < 10 or result != 45:
                    wrong.append(result)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


@pytest.mark.parametrize("blocking", [False, True])
def test_a_kept_callback_raises_in_a_later_call(bind: Bind, made: Any, blocking: bool) -> None:
    @made
    def back(x: i32) -> i32:
        raise Problem(x)

    bind("keep(f: K) -> None")(back)
    gate = bind("call_kept_twice(x: i32) -> i32", blocking=blocking)
    for x in (1, 2):
        with pytest.raises(Problem, match=f"^{x}$"):
            gate(x)
    assert bind("add_one(x: i32) -> i32", blocking=blocking)(1) == 2


def test_the_exception_comes_before_errno_and_judgement(bind: Bind) -> None:
    def never(result: object) -> Exception:
        raise AssertionError("the result of a call with an exception is judged")

    declaration = "fail_after(f: F, x: i32, number: i32) -> i32"
    gates = [
        bind(declaration, fails_if="minus_one"),
        bind(declaration, fails_if="negative", blocking=True),
        bind(declaration, fails_if="minus_one", error=never),
        bind(declaration, fails_if=never),
        bind(declaration.replace("-> i32", "-> Status")),
        bind(declaration.replace("-> i32", "-> Status"), error=never),
    ]
    for gate in gates:
        with pytest.raises(Problem):
            gate(lambda x: fail(), 1, 5)
    assert told(gates[0], lambda x: 1, 1, 2) == "FileNotFoundError: [Errno 2] No such file or directory"
    assert told(gates[4], lambda x: 1, 1, 2) == "CallError: fail_after() failed with status -1"


AFTER = [
    ("text_after(f: F, x: i32) -> str", {"free": "free_text"}, "text"),
    ("thing_after(f: F, x: i32) -> Ptr[thing]", {}, None),
    ("two_after(f: F, x: i32) -> two", {}, None),
    ("big_after(f: F, x: i32) -> big", {}, None),
    ("double_after(f: F, x: i32) -> f64", {}, 5.5),
    ("succeed_after(f: F, x: i32) -> Status", {}, cg.CallError),
    ("succeed_after(f: F, x: i32) -> i32", {"fails_if": "negative"}, 5),
    ("succeed_after(f: F, x: i32) -> i32", {"fails_if": lambda result: result < 0}, 5),
    ("succeed_after(f: F, x: i32) -> i32", {"blocking": True}, 5),
]
after = pytest.mark.parametrize(("declaration", "options", "result"), AFTER)


def left_after(run: Callable[[], object], rounds: int) -> int:
    """How many blocks more are allocated after `rounds` than before, once everything is warm."""
    gc.collect(0)
    gc.disable()  # so that all that is made stays young
    try:
        for _ in range(WARM):
            run()
        gc.collect(0)
        before = sys.getallocatedblocks()
        for _ in range(rounds):
            run()
        gc.collect(0)
        left = sys.getallocatedblocks() - before
        if left >= TOLERANCE:
            gc.collect()  # empties what the interpreter keeps of freed objects as well
            left = sys.getallocatedblocks() - before
        return left
    finally:
        gc.enable()


ROUNDS = {"native": 500, "ctypes": 150}
WARM = 30
TOLERANCE = 60


@after
def test_nothing_is_left_of_an_exception(
    bind: Bind, warm: None, engine: str, declaration: str, options: Any, result: Any
) -> None:
    gate = bind(declaration, **options)
    problem = Problem()

    def function(x: int) -> int:
        problem.__traceback__ = problem.__context__ = None
        raise problem

    def once() -> None:
        try:
            gate(function, 5)
        except Problem:
            problem.__traceback__ = None
        else:
            raise AssertionError("no exception")

    def right() -> None:
        try:
            found = gate(int, 5)
        except cg.CallError:
            found = cg.CallError
        assert result is None or found == result

    counts = sys.getrefcount(problem), sys.getrefcount(function)
    assert left_after(once, ROUNDS[engine]) < TOLERANCE
    assert left_after(right, ROUNDS[engine]) < TOLERANCE
    assert (sys.getrefcount(problem), sys.getrefcount(function)) == counts


def test_outs_after_an_exception(bind: Bind, warm: None, engine: str) -> None:
    gate = bind("out_of(f: F, number: Out[i32], thing: Out[Ptr[thing]], real: Out[f64]) -> Status")
    number, handle, real = gate(lambda x: 7)
    assert (number, bool(handle), real) == (7, True, 0.5)

    def once() -> None:
        try:
            gate(fails)
        except ZeroDivisionError:
            return
        raise AssertionError("no exception")

    def fails(x: int) -> float:
        return x / 0

    assert left_after(once, ROUNDS[engine]) < TOLERANCE


@pytest.mark.parametrize("blocking", [False, True])
def test_buffers_after_an_exception(bind: Bind, blocking: bool) -> None:
    gate = bind(
        "fold(f: Callable[[i64, i64], i64], data: Readable[u8], count: usize, start: i64) -> i64", blocking=blocking
    )
    writes = bind("fill(f: F, data: Writable[i32], count: usize) -> i32", blocking=blocking)
    data = bytearray(b"abc")
    numbers = array.array("i", [7, 7, 7])
    counts = sys.getrefcount(data), sys.getrefcount(numbers)

    def grows(total: int, item: int) -> int:
        with pytest.raises(BufferError):
            data.append(1)
        if item == ord("b"):
            raise Problem
        return total + item

    with pytest.raises(Problem):
        gate(grows, data, len(data), 0)
    data.append(ord("d"))
    assert gate(lambda total, item: total + item, data, len(data), 0) == sum(b"abcd")
    assert gate(lambda total, item: total + item, [1, 2, 3], 3, 0) == 6
    with pytest.raises(Problem):
        writes(lambda index: fail() if index else 5, numbers, 3)
    numbers.append(1)
    assert list(numbers) == [5, 0, 0, 1]
    assert (sys.getrefcount(data), sys.getrefcount(numbers)) == counts


def test_an_exception_is_freed_with_its_last_reference(bind: Bind) -> None:
    """It is in no cycle that only the collector would free."""
    gate = bind("call(f: F, x: i32) -> i32")

    def function(x: int) -> int:
        raise Problem

    def once() -> weakref.ref[Problem]:
        try:
            gate(function, 1)
        except Problem as problem:
            return weakref.ref(problem)
        raise AssertionError("no exception")

    gc.disable()
    try:
        assert once()() is None
    finally:
        gc.enable()


def test_what_is_passed_for_a_call_is_freed_after_it(bind: Bind) -> None:
    gates = [bind("call(f: F, x: i32) -> i32", blocking=blocking) for blocking in (False, True)]
    gc.disable()
    try:
        for gate in gates:
            marks = [Nothing() for _ in range(3)]
            gate(lambda x, mark=marks[0]: x, 1)
            told(gate, lambda x, mark=marks[1]: fail(), 1)
            assert told(gate, lambda x, mark=marks[2]: x, "text") == "TypeError: call() argument 2 must be int, not str"
            references = [weakref.ref(mark) for mark in marks]
            marks.clear()
            assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


# -- references ------------------------------------------------------------------------------------------------------


def test_references_of_arguments_and_results(bind: Bind) -> None:
    result = 10**9 + 7
    seen: list[Any] = []
    gate = bind("call(f: F, x: i32) -> i32")
    assert gate(lambda x: seen.append(x) or result, 10**6) == result
    counts = sys.getrefcount(seen[0])
    assert counts == 2
    counts = sys.getrefcount(result)
    for _ in range(50):
        gate(lambda x: result, 10**6)
        told(gate, lambda x: result + 2**31, 1)
    assert sys.getrefcount(result) == counts
    wrong = Nothing()
    text = "TypeError: the result of f() must be int, not Nothing"
    for _ in range(50):
        assert told(gate, lambda x: wrong, 1) == text
    counts = sys.getrefcount(wrong)
    assert counts == 2


PATHS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("sum_of(f: F, count: i32) -> i32", (lambda x: x + 10**6, 100), 100 * 10**6 + 4950),
    ("sum_of(f: F, count: i32) -> i32", (lambda x: Index(2**30 - 1), 2), 2**31 - 2),
    ("sum_of(f: F, count: i32) -> i32", (lambda x: None, 100), TypeError),
    ("sum_of(f: F, count: i32) -> i32", (lambda: 1, 100), TypeError),
    ("sum_of(f: F, count: i32) -> i32", (lambda x: 2**31, 100), OverflowError),
    ("sum_of(f: F, count: i32) -> i32", (5, 100), TypeError),
    ("sum_of(f: F, count: i32) -> i32", (int, "text"), TypeError),
    ("give_string(f: Callable[[str], i32], text: cg.cstr | None) -> i32", (len, "some text"), 9),
    ("give_string(f: Callable[[str], i32], text: cg.cstr | None) -> i32", (len, None), ValueError),
    ("give_string(f: Callable[[bytes], i32], text: cg.cstr | None) -> i32", (len, "some text"), 9),
    ("give_ints(f: Callable[[Ptr[i32]], i32], p: Ptr[i32]) -> i32", (lambda p: p[0], ctypes.pointer(ctypes.c_int(1000))), 1000),
    ("give_mixed(f: Callable[[i32, f64, str, Ptr[i32]], i32], p: Ptr[i32] | None) -> i32", (lambda *given: given[0], None), 1000),
    ("give_mixed(f: Callable[[i32, f64, cg.wchar, Ptr[i32]], i32], p: Ptr[i32] | None) -> i32", (lambda *given: given[0], None), ValueError if WCHAR_BITS == 32 else 1000),
    ("give_big(f: Callable[[big], i32], first: i32) -> i32", (lambda value: value.words[4], 10), 5),
    ("give_color(f: Callable[[Color], i32], color: i32) -> i32", (lambda color: color, 300), 300),
    ("give_color(f: Callable[[Color], i32], color: i32) -> i32", (lambda color: color, 4), ValueError),
    ("give_function(f: Callable[[Callable[[i32], i32]], i32], null: i32) -> i32", (lambda f: 1000, 0), 1000),
    ("get_f64(f: Callable[[i32], f64]) -> None", (lambda x: x + 0.25,), None),
    ("get_u64(f: Callable[[i32], u64]) -> None", (lambda x: 2**64 - 1 - x,), None),
    ("get_longdouble(f: Callable[[i32], longdouble]) -> None", (lambda x: 0.25,), None),
    ("get_big(f: Callable[[i32], big]) -> None", (lambda x: big(),), None),
    ("get_small(f: Callable[[i32], small]) -> None", (lambda x: small(),), None),
    ("get_pointer(f: Callable[[i32], Ptr[None] | None]) -> None", (lambda x: ctypes.c_void_p(5),), None),
    ("get_pointer(f: Callable[[i32], Ptr[thing]]) -> None", (lambda x: ctypes.cast(5, Ptr[thing]),), None),
    ("get_pointer(f: Callable[[i32], Ptr[thing]]) -> None", (lambda x: Ptr[thing](),), TypeError),
    ("get_void(f: Callable[[i32], None]) -> None", (lambda x: [x],), None),
]  # fmt: skip


@pytest.mark.parametrize(("declaration", "arguments", "result"), PATHS)
def test_no_path_leaves_anything(
    bind: Bind, warm: None, engine: str, declaration: str, arguments: Any, result: Any
) -> None:
    gate = bind(declaration)
    if engine == "ctypes" and any(f"get_{refused}(" in declaration for refused in ONE_WORD):
        pytest.skip("refused, as test_results tells")
    expected = result if isinstance(result, type) else ()

    def once() -> None:
        try:
            found = gate(*arguments)
        except expected:
            return
        assert found == result

    rounds = ROUNDS[engine] // (10 if arguments[-1] == 100 else 1)
    assert left_after(once, rounds) < TOLERANCE


def test_many_calls(bind: Bind, made: Any, engine: str) -> None:
    @made
    def back(x: i32) -> i32:
        return -x

    gate = bind("sum_of(f: K, count: i32) -> i32")
    count = {"native": 100_000, "ctypes": 20_000}[engine]
    gate(back, 1000)
    before = sys.getallocatedblocks()
    gate(back, count)
    assert abs(sys.getallocatedblocks() - before) < TOLERANCE


# -- what may be passed ----------------------------------------------------------------------------------------------


def test_any_callable(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")

    class Called:
        def __call__(self, x: int) -> int:
            return x + 2

        def method(self, x: int) -> int:
            return x + 3

        @staticmethod
        def static(x: int) -> int:
            return x + 4

        @classmethod
        def of_class(cls, x: int) -> int:
            return x + 5

    functions = [abs, int, Called(), Called().method, Called.static, Called.of_class, functools.partial(max, 4)]
    assert [gate(function, -1) for function in functions] == [1, -1, 1, 2, 3, 4, 4]
    assert gate([1, 2, 3].__getitem__, 1) == 2
    assert gate({5: 6}.get, 5) == 6
    for wrong, name in ((None, "None"), (5, "int"), ("text", "str"), (Called, "Called")):
        text = told(gate, wrong, 1)
        if wrong is Called:
            assert text == "TypeError: Called() takes no arguments"
        else:
            assert text == f"TypeError: call() argument 1 must be callable, not {name}"


def test_null(bind: Bind) -> None:
    gate = bind("call_or(f: F | None, otherwise: i32) -> i32")
    assert gate(None, 8) == 8
    assert gate(lambda x: x, 8) == 1
    assert gate(ctypes.c_void_p(), 8) == 8
    assert told(gate, 0, 8) == "TypeError: call_or() argument 1 must be callable or None, not int"
    kept = bind("call_or(f: K | None, otherwise: i32) -> i32")
    assert kept(None, 8) == 8
    plain = bind("call_or(f: F, otherwise: i32) -> i32")
    assert told(plain, None, 8) == "TypeError: call_or() argument 1 must be callable, not None"
    assert told(plain, ctypes.c_void_p(), 8) == "TypeError: call_or() argument 1 must be callable, not NULL"


def test_only_callbacks_where_c_keeps_them(bind: Bind, made: Any) -> None:
    gate = bind("call_or(f: K, otherwise: i32) -> i32")

    @made
    def back(x: i32) -> i32:
        return x + 5

    assert gate(back, 8) == 6
    assert gate(bind("add_one(x: i32) -> i32"), 8) == 2
    where = "TypeError: call_or() argument 1 must be a callback or a gate"
    hint = "; C keeps it: decorate it with @callgate.callback and keep a reference"
    assert told(gate, lambda x: x, 8) == f"{where}, not function{hint}"
    assert told(gate, abs, 8) == f"{where}, not builtin_function_or_method{hint}"
    assert told(gate, None, 8) == f"{where}, not None"
    assert told(gate, back.address, 8) == f"{where}, not int"
    assert (
        told(bind("call(f: F, x: i32) -> i32"), back.address, 8)
        == "TypeError: call() argument 1 must be callable, not int"
    )
    assert gate(ctypes.c_void_p(back.address), 8) == 6


def test_ctypes_functions(bind: Bind, path: str) -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    triple = prototype(lambda x: 3 * x)
    of_library = ctypes.CDLL(path).add_one
    for marker in "FK":
        gate = bind(f"call(f: {marker}, x: i32) -> i32")
        assert gate(triple, 5) == 15
        assert gate(of_library, 5) == 6
        assert gate(ctypes.cast(triple, ctypes.c_void_p), 5) == 15
        assert told(gate, prototype(), 5).endswith(", not NULL")


def test_gates_as_function_pointers(bind: Bind, engine: str) -> None:
    """C calls the target itself: no Python runs in between."""
    add_one = bind("add_one(x: i32) -> i32")
    gate = bind("sum_of(f: F, count: i32) -> i32")
    events: list[Any] = []

    def profiled(count: int) -> int:
        events.clear()
        sys.setprofile(lambda frame, event, argument: events.append(argument))
        try:
            gate(add_one, count)
        finally:
            sys.setprofile(None)
        return len(events)

    assert gate(add_one, 100) == 5050
    assert profiled(1) == profiled(100)
    assert not [thing for thing in events if thing is add_one]
    counts = sys.getrefcount(add_one)
    for _ in range(100):
        gate(add_one, 1)
    assert sys.getrefcount(add_one) == counts


def test_a_gate_is_the_target_but_its_methods_are_not(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")
    record = cg.gate(bind("add_one(x: i32) -> i32"))
    assert told(gate, record.explain, 1).startswith("TypeError: Gate.explain() takes 1 positional argument but 2 were")


def test_gates_of_another_type(bind: Bind) -> None:
    gate = bind("call(f: F, x: i32) -> i32")
    where = "TypeError: call() argument 1 must be a function like int (*)(int), not"
    assert told(gate, bind("add_half(x: f64) -> f64"), 1) == f"{where} double add_half(double)"
    assert told(gate, gate, 1) == f"{where} int call(int (*)(int), int)"
    assert told(gate, bind("calls_made() -> i64"), 1) == f"{where} {INT64} calls_made(void)"
    assert told(gate, bind("keep(f: K) -> None"), 1) == f"{where} void keep(int (*)(int))"
    wide = bind("get_f64(f: Callable[[i32], f64]) -> None")
    assert told(wide, bind("add_one(x: i32) -> i32")) == (
        "TypeError: get_f64() argument 1 must be a function like double (*)(int), not int add_one(int)"
    )


def test_callbacks_of_another_type(bind: Bind, made: Any) -> None:
    @made
    def other(x: f64, y: Ptr[i32]) -> None: ...

    for marker in "FK":
        gate = bind(f"call(f: {marker}, x: i32) -> i32")
        assert told(gate, other, 1) == (
            "TypeError: call() argument 1 must be a function like int (*)(int), not void other(double, int *)"
        )


def test_variadic_functions(bind: Bind, made: Any) -> None:
    @made
    def back(x: i32) -> i32:
        return x + 5

    gate = bind("call_variadic(x: i32, *rest: VarArg) -> i32")
    assert gate(3, back) == 8
    assert gate(3, ctypes.c_void_p(back.address)) == 8


def test_functions_as_results_are_gates(bind: Bind, engine: str) -> None:
    choose = bind("choose(which: i32) -> Callable[[i32], i32] | None")
    assert choose(0) is None
    function = choose(1)
    assert function(5) == 6
    assert cg.gate(function).engine == engine
    assert bind("call(f: F, x: i32) -> i32")(function, 7) == 8
    strict = bind("choose(which: i32) -> Callable[[i32], i32]")
    assert told(strict, 0) == "ValueError: choose() returned NULL; declare the result `X | None` to get None"


def test_the_other_engine(engine: str, path: str, bind: Bind) -> None:
    other = {"native": "ctypes", "ctypes": "native"}[engine]

    def back(x: i32) -> i32:
        if x == 5:
            raise Problem(x)
        return x + 10

    for kind in (engine, other):
        callback = cg.callback(back, engine=kind)
        assert callback.engine == kind
        for marker in "FK":
            gate = bind(f"call(f: {marker}, x: i32) -> i32")
            assert gate(callback, 1) == 11
            with pytest.raises(Problem):
                gate(callback, 5)
        bind("keep(f: K) -> None")(callback)
        assert bind("call_kept(x: i32) -> i32")(2) == 12
        callback.close()
        assert told(bind("call_kept(x: i32) -> i32"), 2) == "RuntimeError: back() was called by C after it was closed"
        assert told(gate, callback, 1) == "ValueError: back() is closed, and C cannot have it any more"


def test_engines_by_name() -> None:
    def back(x: i32) -> i32:
        return x

    assert told(lambda: cg.callback(back, engine="other")) == (
        "EngineError: engine=other: no such engine; choose native or ctypes"
    )
    out, _ = run_child(
        """
        import callgate as cg
        @cg.callback
        def back(x: cg.i32) -> cg.i32: return x
        print(back.engine, back)
        """,
        CALLGATE_ENGINE="ctypes",
    )
    assert out == "ctypes <callback int (*back)(int), ctypes>\n"


# -- the object ------------------------------------------------------------------------------------------------------


def test_inspection(made: Any, engine: str) -> None:
    def larger(a: Ptr[i32], b: Ptr[i32]) -> i32:
        return a[0] - b[0]

    callback = made(larger)
    assert repr(callback) == f"<callback int (*larger)(int *, int *), {engine}>"
    assert callback.__name__ == "larger"
    assert callback.engine == engine
    assert isinstance(callback, cg.Callback)
    assert callback.signature.name == "larger"
    assert [str(parameter.type) for parameter in callback.signature.parameters]
    assert callback([5], [3]) == 2  # the function itself: nothing is converted
    assert callback(a=[5], b=[3]) == 2
    assert told(callback, 1).endswith("larger() missing 1 required positional argument: 'b'")
    address = callback.address
    assert address and address == callback.address
    callback.close()
    callback.close()
    assert repr(callback) == "<callback int (*larger)(int *, int *), closed>"
    assert told(lambda: callback.address) == "ValueError: larger() is closed, and C cannot have it any more"
    assert callback([5], [3]) == 2

    @made
    def nothing() -> None: ...

    assert repr(nothing) == f"<callback void (*nothing)(void), {engine}>"
    assert nothing() is None


def test_refused_declarations(made: Any) -> None:
    def no_types(x, y): ...  # type: ignore[no-untyped-def]

    def text(x: i32) -> str: ...

    def many(*x: cg.VarArg) -> None: ...

    def plain(x: int) -> None: ...

    for function in (no_types, text, many, plain):
        assert told(made, function).startswith("DeclarationError: "), told(made, function)
    assert told(made, text) == (
        "DeclarationError: text(), result: nobody would keep the memory of str; return a Ptr to memory that lives"
    )


def with_function(made: Any) -> tuple[Any, weakref.ref[Any]]:
    """A callback, and a weak reference to its function."""
    function = back_of(5)
    return made(function), weakref.ref(function)


def test_freed_with_its_last_reference(bind: Bind, made: Any) -> None:
    gate = bind("call(f: K, x: i32) -> i32")
    gc.disable()
    try:
        callback, function = with_function(made)
        references = [weakref.ref(callback), function]
        assert gate(callback, 1) == 5
        del callback
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_cycles_are_collected(bind: Bind, made: Any) -> None:
    gate = bind("call(f: K, x: i32) -> i32")

    def cycle() -> weakref.ref[Any]:
        def back(x: i32) -> i32:
            return x if callback else 0

        callback = made(back)
        assert gate(callback, 3) == 3
        return weakref.ref(callback)

    references = [cycle() for _ in range(10)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 10


def test_finalizers_of_a_cycle_may_use_it(bind: Bind, made: Any, engine: str, unraisable: list[Any]) -> None:
    if engine == "ctypes":
        pytest.skip("what frees closures of ctypes is a finalizer too, and may come first")
    if IS_FREE_THREADED:
        pytest.skip("slots hold weak references, which the collector clears before finalizers run: an error says so")
    gate = bind("call(f: K, x: i32) -> i32")
    kept: list[Any] = []

    class Finalized:
        callback: Any

        def __del__(self) -> None:
            kept.append(gate(self.callback, 3))
            kept.append(self.callback)

    def cycle() -> None:
        def back(x: i32) -> i32:
            return x if thing else 0

        thing = Finalized()
        thing.callback = made(back)
        gate(thing.callback, 3)

    for _ in range(20):
        cycle()
    gc.collect()
    assert unraisable == []
    assert kept[::2] == [3] * 20
    others = [made(back_of(number)) for number in range(600)]  # nobody else gets what is still alive
    assert [gate(other, 0) for other in others] == list(range(600))
    assert [gate(callback, 4) for callback in kept[1::2]] == [4] * 20


def back_of(number: int) -> Callable[[int], int]:
    def back(x: i32) -> i32:
        return number

    return back


def test_copies(bind: Bind, made: Any) -> None:
    """There is one thunk, so there are no copies."""
    gate = bind("call(f: K, x: i32) -> i32")
    callback = made(back_of(5))
    assert gate(callback, 1) == 5
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError) as info:
            attempt(callback)
        assert str(info.value) == "a callback is an address in this process; it cannot be copied or pickled"
    assert gate(callback, 1) == 5


# -- memory ----------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("kind", ["passed", "made", "many alive"])
def test_made_and_dropped(bind: Bind, made: Any, warm: None, engine: str, kind: str) -> None:
    count = {"passed": 100_000, "made": 10_000, "many alive": 10_000}[kind] // {"native": 1, "ctypes": 10}[engine]
    gate = bind("call(f: F, x: i32) -> i32")
    alive: list[Any] = []

    def go(count: int) -> None:
        for number in range(count):
            if kind == "passed":
                assert gate(lambda x: x, number) == number
            else:
                callback = made(back_of(number))
                assert gate(callback, number) == number
                if kind == "many alive":
                    alive.append(callback)
                    del alive[:-1000]
        alive.clear()

    go(count // 5)
    gc.collect()
    code, blocks, resident = MEMORY.used_bytes(), sys.getallocatedblocks(), resident_bytes()
    go(count)
    gc.collect()
    assert MEMORY.used_bytes() == code
    assert sys.getallocatedblocks() - blocks < 500
    assert resident_bytes() - resident < 8 << 20


def test_thunks_are_used_again_late(bind: Bind, made: Any, engine: str) -> None:
    if engine == "ctypes":
        pytest.skip("ctypes frees its closures at once")
    gate = bind("call(f: F, x: i32) -> i32")
    callback = made(back_of(5))
    address = callback.address
    del callback
    for _ in range(100):
        made(back_of(6)).address
    text = "RuntimeError: back() was called by C after it was freed; keep a reference to it as long as C has it"
    assert told(gate, ctypes.c_void_p(address), 1) == text


@pytest.fixture(scope="session")
def warm(build_library: Callable[..., Path]) -> None:
    """All thunks had a callback once, and the closures that are kept for a while are so many."""
    for engine in ("native", "ctypes"):
        for number in range(700):
            cg.callback(back_of(number), engine=engine).address


@pytest.fixture(autouse=True)
def nothing_raised() -> Iterator[None]:
    """No test leaves an exception to a later call."""
    yield
    from callgate.runtime.callbacks import PENDING
    from callgate.runtime.native import RAISED_COUNT

    assert RAISED_COUNT.value == 0 or IS_FREE_THREADED  # there it says whether any callback ever raised
    assert not PENDING._raised
    assert not PENDING._depths
