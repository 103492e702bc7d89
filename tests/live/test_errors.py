"""Failing results: fails_if of each kind, predicates, error=, Status, errno, and the defaults of a library."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from telling import Problem, told

import callgate as cg
from callgate import Out, Ptr, Status, cstr, i32
from callgate.target import IS_FREE_THREADED

ENOENT = f"FileNotFoundError: [Errno {errno.ENOENT}] {os.strerror(errno.ENOENT)}"


def silent(name: str, code: object) -> str:
    return f"OSError: [Errno 0] {name}() failed with result {code} and set no errno"


# -- fails_if -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("suffix", "annotation", "fails_if", "good", "bad"),
    [
        ("i32", i32, "negative", [0, 1, 2**31 - 1], [-1, -2, -(2**31)]),
        ("i8", cg.i8, "negative", [0, 127], [-1, -128]),
        ("i64", cg.i64, "negative", [0, 2**63 - 1], [-1, -(2**63)]),
        ("i32", i32, "minus_one", [0, 1, -2, -(2**31)], [-1]),
        ("i8", cg.i8, "minus_one", [0, 1, -2, 127], [-1]),
        ("i64", cg.i64, "minus_one", [0, -2, 2**32 - 1], [-1]),
        ("u32", cg.u32, "minus_one", [0, 1, 2**31], [2**32 - 1]),
        ("u16", cg.u16, "minus_one", [0, 1, 2**15], [2**16 - 1]),
        ("u64", cg.u64, "minus_one", [0, 2**32 - 1, 2**63], [2**64 - 1]),
        ("i32", i32, "nonzero", [0], [1, -1, 256, -(2**31)]),
        ("i8", cg.i8, "nonzero", [0], [1, -128]),
        ("u16", cg.u16, "nonzero", [0], [1, 2**16 - 1]),
        ("u64", cg.u64, "nonzero", [0], [1, 2**63, 2**64 - 1]),
        ("bool", bool, "nonzero", [False], [True]),
    ],
)  # fmt: skip
def test_results_that_fail(
    typed_as: Any, suffix: str, annotation: Any, fails_if: str, good: list[Any], bad: list[Any]
) -> None:
    name = f"fail_{suffix}"
    call = typed_as(name, annotation, i32, annotation, fails_if=fails_if)
    judged = typed_as(
        name, annotation, i32, annotation, fails_if=fails_if, error=lambda code: Problem(code, type(code))
    )
    for value in good:
        assert repr(call(value, errno.ENOENT)) == repr(value)
        assert repr(judged(value, 0)) == repr(value)
    for value in bad:
        assert told(call, value, errno.ENOENT) == ENOENT
        assert told(call, value, 0) == silent(name, int(value))
        assert told(judged, value, 0) == f"Problem: ({int(value)}, <class 'int'>)"


def test_pointers_that_fail(typed_as: Any) -> None:
    null = typed_as("fail_pointer", Ptr[None] | None, i32, Ptr[None], fails_if="null")
    assert null(8, errno.ENOENT).value == 8
    assert told(null, None, errno.ENOENT) == ENOENT
    assert told(null, None, 0) == silent("fail_pointer", 0)
    text = typed_as("fail_string", cstr | None, i32, str, fails_if="null", error=Problem)
    assert text("x", 0) == "x"
    assert told(text, None, 0) == "Problem: 0"
    mapped = typed_as("fail_pointer", Ptr[None] | None, i32, Ptr[None] | None, fails_if="minus_one", error=Problem)
    assert (mapped(None, 0), mapped(5, 0).value) == (None, 5)
    assert told(mapped, 2**64 - 1, 0) == f"Problem: {2**64 - 1}"
    judged = typed_as("fail_pointer", Ptr[None] | None, i32, Ptr[None], error=Problem)  # error= alone: NULL fails
    assert told(judged, None, 0) == "Problem: 0"
    assert judged(9, 0).value == 9


def test_predicates(typed_as: Any) -> None:
    seen: list[Any] = []

    def over_ten(result: Any) -> bool:
        seen.append(result)
        return bool(result > 10)

    call = typed_as("fail_i32", i32, i32, i32, fails_if=over_ten)
    assert (call(10, 0), seen) == (10, [10])
    assert told(call, 11, errno.ENOENT) == ENOENT
    assert told(call, 11, 0) == silent("fail_i32", 11)
    judged = typed_as("fail_f64", cg.f64, i32, cg.f64, fails_if=over_ten, error=Problem)
    assert judged(0.5, 0) == 0.5
    assert told(judged, 11.5, 0) == "Problem: 0"  # no int to give
    text = typed_as(
        "fail_string",
        cstr | None,
        i32,
        str | None,
        fails_if=lambda result: result is None or result == "bad",
        error=Problem,
    )
    assert text("good", 0) == "good"
    assert told(text, "bad", 0) == told(text, None, 0) == "Problem: 0"
    strict = typed_as("fail_string", cstr | None, i32, str, fails_if=lambda result: True, error=Problem)
    assert told(strict, None, 0) == "ValueError: fail_string() returned NULL; declare the result `X | None` to get None"
    big = typed_as("fail_u64", cg.u64, i32, cg.u64, fails_if=over_ten, error=Problem)
    assert told(big, 2**64 - 1, 0) == f"Problem: {2**64 - 1}"
    outs = typed_as("divide", i32, i32, Out[i32], Out[i32], i32, fails_if=lambda result: result == 33, error=Problem)
    assert outs(7, 2) == (0, 3, 1)
    assert told(outs, 7, 0) == "Problem: 33"
    status = typed_as(
        "divide", i32, i32, Out[i32], Out[i32], Status, fails_if=lambda result: result == 33, error=Problem
    )
    assert status(7, 2) == (3, 1)
    assert told(status, 7, 0) == "Problem: 33"


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


def test_enum_results_are_judged(typed_as: Any) -> None:
    call = typed_as(
        "fail_i32", i32, i32, Color, fails_if=lambda color: color is Color.GREEN, error=lambda code: Problem(code)
    )
    assert call(0, 0) is Color.RED
    assert told(call, 5, 0) == "Problem: 5"
    call = typed_as("fail_i32", i32, i32, Color, fails_if="negative", error=Problem)
    assert told(call, -7, 0) == "Problem: -7"
    assert told(call, 7, 0) == "ValueError: 7 is not a valid Color"


def test_a_predicate_that_raises(typed_as: Any) -> None:
    problem = Problem("mine")

    def raises(result: object) -> bool:
        raise problem

    for call in (
        typed_as("fail_i32", i32, i32, i32, fails_if=raises), typed_as("divide", i32, i32, Out[i32], Out[i32], Status, fails_if=raises)
    ):  # fmt: skip
        with pytest.raises(Problem) as info:
            call(1, 1)
        assert info.value is problem
    truth = typed_as("fail_i32", i32, i32, i32, fails_if=lambda result: NoTruth())
    assert told(truth, 1, 0) == "Problem: no truth"


class NoTruth:
    def __bool__(self) -> bool:
        raise Problem("no truth")


# -- error ----------------------------------------------------------------------------------------------------------
def test_what_error_may_give(typed_as: Any) -> None:
    def failing(error: Any) -> str:
        return told(typed_as("fail_i32", i32, i32, i32, error=error), 5, errno.ENOENT)

    problem = Problem("one")
    assert failing(lambda code: problem) == "Problem: one"
    assert failing(Problem) == "Problem: 5"
    assert failing(OSError) == "OSError: 5"
    assert failing(lambda code: None) == "TypeError: fail_i32(): error= must return an exception, not None"
    assert failing(lambda code: "text") == "TypeError: fail_i32(): error= must return an exception, not str"
    assert failing(lambda code: Problem) == "TypeError: fail_i32(): error= must return an exception, not type"
    assert failing(lambda: Problem()).startswith("TypeError: ")
    assert failing(lambda code: 1 // 0).startswith("ZeroDivisionError: ")
    with pytest.raises(KeyboardInterrupt):
        typed_as("fail_i32", i32, i32, i32, error=lambda code: KeyboardInterrupt())(1, 0)


def test_status(typed_as: Any) -> None:
    call = typed_as("fail_i32", i32, i32, Status)
    assert call(0, 5) is None
    assert told(call, -3, errno.ENOENT) == "CallError: fail_i32() failed with status -3"
    with pytest.raises(cg.CallError) as info:
        call(7, 0)
    assert (info.value.function, info.value.code, isinstance(info.value, cg.CallgateError)) == ("fail_i32", 7, True)
    assert told(typed_as("fail_i32", i32, i32, Status, fails_if="negative"), -3, errno.ENOENT) == ENOENT
    assert typed_as("fail_i32", i32, i32, Status, fails_if="negative")(3, errno.ENOENT) is None
    assert told(typed_as("fail_i32", i32, i32, Status, error=Problem), 4, 0) == "Problem: 4"


# -- options that do not fit ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("result", "options", "message"),
    [
        (i32, {"fails_if": "neg"}, "fails_if='neg' is none of 'negative', 'minus_one', 'null', 'nonzero'"),
        (i32, {"fails_if": 5}, "fails_if=5 is none of 'negative', 'minus_one', 'null', 'nonzero'"),
        (i32, {"error": 5}, "error= must be a callable that takes the result and returns an exception, or \"last\""),
        (i32, {"error": "first", "fails_if": "negative"}, "error= must be a callable that takes the result and returns an exception, or \"last\""),
        (i32, {"fails_if": "null"}, 'fails_if="null" needs a pointer result'),
        (cg.u32, {"fails_if": "negative"}, 'fails_if="negative" needs a signed result'),
        (bool, {"fails_if": "negative"}, 'fails_if="negative" needs a signed result'),
        (cg.f64, {"fails_if": "negative"}, "the result is no integer, so fails_if or error= cannot judge it"),
        (cg.f64, {"error": Problem}, "the result is no integer, so fails_if or error= cannot judge it"),
        (str, {"fails_if": "negative"}, "the result is no integer, so fails_if or error= cannot judge it"),
        (cg.char, {"fails_if": "nonzero"}, "the result is no integer, so fails_if or error= cannot judge it"),
        (None, {"fails_if": "nonzero"}, "the result is no integer, so fails_if or error= cannot judge it"),
        (None, {"error": Problem}, "the result is no integer, so fails_if or error= cannot judge it"),
        (None, {"fails_if": bool}, "a void result cannot be judged by fails_if"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_result(typed_as: Any, result: Any, options: dict[str, Any], message: str) -> None:
    assert told(lambda: typed_as("fail_i32", i32, i32, result, **options)) == f"DeclarationError: fail_i32(): {message}"


# -- errno ----------------------------------------------------------------------------------------------------------
def test_errno_is_cleared_before_and_read_after(bound: Any, typed_as: Any) -> None:
    set_errno, judged = (
        bound("void set_errno(int number);").set_errno,
        typed_as("get_errno_judged", i32, fails_if="negative"),
    )
    set_errno(errno.EDOM)
    assert judged() == 0
    call = typed_as("fail_i32", i32, i32, i32, fails_if="negative")
    set_errno(errno.EDOM)
    assert told(call, -1, 0) == silent("fail_i32", -1)
    for number in (errno.EPERM, errno.EINTR, errno.EAGAIN, 133, 100_000):
        with pytest.raises(OSError) as info:
            call(-1, number)
        assert (info.value.errno, info.value.strerror) == (number, os.strerror(number))
        assert type(info.value) is type(OSError(number, ""))


def test_the_errno_that_ctypes_keeps_is_left_alone(typed_as: Any) -> None:
    call = typed_as("fail_i32", i32, i32, i32, fails_if="negative")
    ctypes.set_errno(42)
    assert call(1, errno.ENOENT) == 1
    assert told(call, -1, errno.ENOENT) == ENOENT
    assert ctypes.get_errno() == 42


def test_errno_of_a_blocking_function(typed_as: Any) -> None:
    call = typed_as("fail_i32", i32, i32, i32, fails_if="negative", blocking=True)
    assert told(call, -1, errno.ENOENT) == ENOENT
    assert told(call, -1, 0) == silent("fail_i32", -1)
    assert call(5, errno.ENOENT) == 5


def test_errno_belongs_to_the_thread(typed_as: Any) -> None:
    call = typed_as("fail_i32", i32, i32, i32, fails_if="negative", blocking=True)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(500):
            try:
                call(-1, number)
            except OSError as problem:
                if problem.errno != number:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- defaults of a library ------------------------------------------------------------------------------------------
def test_an_error_for_the_whole_library(bound: Any) -> None:
    lib = bound(error=Problem)

    @lib.function
    def fail_i32(result: i32, number: i32) -> i32: ...

    assert fail_i32(5, 0) == 5  # a plain result is no status

    @lib.function(symbol="fail_i32")
    def status(result: i32, number: i32) -> Status: ...

    assert told(status, 5, 0) == "Problem: 5"

    @lib.function(symbol="fail_i32", fails_if="negative")
    def negative(result: i32, number: i32) -> i32: ...

    assert (negative(5, 0), told(negative, -5, 0)) == (5, "Problem: -5")

    @lib.function(symbol="fail_i32", error=KeyError)
    def own(result: i32, number: i32) -> Status: ...

    assert told(own, 5, 0) == "KeyError: 5"

    @lib.function
    def fail_f64(result: cg.f64, number: i32) -> cg.f64: ...

    assert fail_f64(1.5, 0) == 1.5


def test_blocking_for_the_whole_library(bound: Any) -> None:
    lib = bound("int id_int(int x); long id_long(long x);", blocking=True)
    assert cg.gate(lib.id_int).conversion.is_blocking
    one = bound(blocking=True)

    @one.function(blocking=False)
    def id_int(x: i32) -> i32: ...

    assert not cg.gate(id_int).conversion.is_blocking
    assert not cg.gate(bound("int id_int(int x);").id_int).conversion.is_blocking


# -- the GIL --------------------------------------------------------------------------------------------------------
@pytest.fixture
def setting_flag(bound: Any) -> Iterator[None]:
    """Another thread that sets the flag of the targets whenever it gets to run."""
    set_flag = bound("void set_flag(void);").set_flag
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            set_flag()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("setting_flag")
def test_blocking_functions_let_other_threads_run_and_others_do_not(typed_as: Any) -> None:
    def never(result: int) -> bool:
        return result < 0

    for options in ({}, {"fails_if": "negative"}, {"fails_if": never}):
        assert typed_as("clear_and_wait_for_flag", i32, i32, blocking=True, **options)(20_000) == 1
        assert IS_FREE_THREADED or typed_as("clear_and_wait_for_flag", i32, i32, **options)(30) == 0


def test_memory_stays_held_while_others_run(typed_as: Any) -> None:
    call = typed_as(
        "sum_after_call", cg.Readable[cg.u8], cg.usize, Ptr[None], cg.Writable[cg.ulong], None, blocking=True
    )
    attempts: list[str] = []

    def meddle() -> None:  # in another thread, while the first is in C without the GIL
        thread = threading.Thread(target=lambda: attempts.append(told(owner.append, 1)))
        thread.start()
        thread.join()

    callback = ctypes.CFUNCTYPE(None)(meddle)
    memory = bytearray(b"\1\2\3")
    numbers = array("B", memory)
    for data, owner in (  # noqa: B007  # meddle reads it
        (memory, memory), (memoryview(memory)[1:], memory), (numbers, numbers),
    ):  # fmt: skip
        total = ctypes.c_ulong()
        call(data, len(data), callback, total)
        assert total.value == sum(data)
    assert [attempt.partition(":")[0] for attempt in attempts] == ["BufferError"] * 3
