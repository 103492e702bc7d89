"""Callbacks at their end: closed, freed or dropped while C has them, and called while the interpreter ends or is gone."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from calling_back import SOURCE, Bind, Problem, binder
from children import run_child
from here import C_LIBRARY
from telling import told

import callgate as cg
from callgate import i32
from callgate.target import IS_FREE_THREADED

CLOSED = "RuntimeError: back() was called by C after it was closed"
FREED = "RuntimeError: back() was called by C after it was freed; keep a reference to it as long as C has it"


@pytest.fixture
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE, ("-O2", "-pthread")))


@pytest.fixture
def bind(engine: str, path: str) -> Bind:
    return binder(path, engine)


def made(engine: str, function: Callable[[int], Any]) -> Any:
    """A callback around any function."""

    def back(x: i32) -> i32:
        return function(x)

    return cg.callback(back, engine=engine)


def test_closed(bind: Bind, engine: str) -> None:
    keep, call_kept = bind("keep(f: K) -> None"), bind("call_kept_twice(x: i32) -> i32")
    callback = made(engine, lambda x: x)
    keep(callback)
    assert call_kept(1) == 1002
    callback.close()
    for _ in range(3):
        assert told(call_kept, 1) == CLOSED
    assert callback(5) == 5
    assert told(keep, callback) == "ValueError: back() is closed, and C cannot have it any more"


def test_closed_before_c_had_it(bind: Bind, engine: str) -> None:
    callback = made(engine, lambda x: x)
    callback.close()
    assert told(bind("call(f: F, x: i32) -> i32"), callback, 1) == (
        "ValueError: back() is closed, and C cannot have it any more"
    )


def test_closed_in_its_own_run(bind: Bind, engine: str) -> None:
    def function(x: int) -> int:
        callback.close()
        return x + 5

    callback = made(engine, function)
    gate = bind("call_both(f: F, g: F, x: i32) -> i32")
    assert told(gate, callback, lambda x: x, 2) == "7002"
    assert told(gate, callback, lambda x: x, 2) == "ValueError: back() is closed, and C cannot have it any more"
    callback = made(engine, function)
    assert told(bind("sum_of(f: F, count: i32) -> i32"), callback, 2) == CLOSED


def test_freed_in_its_own_run(bind: Bind, engine: str) -> None:
    """The last reference is dropped inside: the function runs on."""
    callbacks: list[Any] = []
    seen: list[Any] = []

    def function(x: int) -> int:
        reference = weakref.ref(callbacks.pop())
        gc.collect()
        seen.append(x)
        for number in range(300):
            made(engine, lambda x, number=number: number).address
        seen.append(reference)
        if x == 6:
            raise Problem
        return x + 5

    bind_kept = bind("call_kept(x: i32) -> i32")
    for x in (5, 6):
        callbacks.append(made(engine, function))
        bind("keep(f: K) -> None")(callbacks[0])
        assert told(bind_kept, x) == ("10" if x == 5 else "Problem: ")
        assert seen[-2] == x
        assert seen[-1]() is None


def test_dropped_while_c_has_it(bind: Bind, engine: str) -> None:
    keep, call_kept = bind("keep(f: K) -> None"), bind("call_kept(x: i32) -> i32")
    keep(made(engine, lambda x: x))
    assert told(call_kept, 1) == FREED
    callback = made(engine, lambda x: x)
    keep(callback)
    callback.close()
    del callback
    assert told(call_kept, 1) == FREED


def test_what_is_passed_for_a_call_ends_with_it(bind: Bind, engine: str) -> None:
    if engine == "ctypes":
        pytest.skip("ctypes frees its closures")

    def back(x: int) -> int:
        return x

    bind("keep(back: F) -> None")(back)
    assert told(bind("call_kept(x: i32) -> i32"), 1) == FREED


def test_freeing_cannot_fail(path: str, engine: str) -> None:
    """At the recursion limit nothing of Python runs, and the callback is freed all the same."""
    if engine == "ctypes":
        pytest.skip("what keeps closures of ctypes a while longer is Python")
    run(
        path,
        engine,
        """
        call, keep, call_kept = bind("call(f: F, x: i32) -> i32"), bind("keep(f: K) -> None"), bind("call_kept(x: i32) -> i32")
        problems = []
        sys.unraisablehook = lambda given: problems.append(given.exc_value)
        def down(count, kept):
            if count:
                return down(count - 1, kept)
            kept.clear()
        limit = sys.getrecursionlimit()
        failed = 0
        for count in range(limit - 60, limit + 1):
            kept = [made(lambda x: x)]
            keep(kept[0])
            try:
                down(count, kept)
            except RecursionError:
                failed += 1
                kept.clear()
            try:
                call_kept(1)
            except RuntimeError as problem:
                assert "was called by C after it was freed" in str(problem)
            else:
                raise AssertionError("no exception")
        assert failed
        assert problems == [], problems
        """,
    )


# -- the interpreter ends --------------------------------------------------------------------------------------------

PREAMBLE = """
    import atexit, ctypes, faulthandler, gc, os, sys, threading, time
    faulthandler.dump_traceback_later(100, exit=True)
    path, engine, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    from calling_back import binder
    import callgate as cg
    from callgate import i32
    bind = binder(path, engine)

    def made(function):
        def back(x: i32) -> i32:
            return function(x)
        return cg.callback(back, engine=engine)
"""


def run(path: str, engine: str, program: str, **options: Any) -> tuple[str, str]:
    return run_child(dedent(PREAMBLE) + dedent(program), path, engine, str(SOURCE.parent), **options)


def of_machine_code(engine: str) -> None:
    if engine == "ctypes":
        pytest.skip("closures of ctypes cannot be called without an interpreter")


@pytest.mark.parametrize("allocator", ["mimalloc" if IS_FREE_THREADED else "pymalloc", "debug"])
def test_called_when_the_interpreter_is_gone(path: str, engine: str, allocator: str) -> None:
    of_machine_code(engine)
    out, err = run(
        path,
        engine,
        """
        def function(x):
            print("Python", flush=True)
            return 5
        kept = made(function)
        atexit.register(print, "atexit of Python")
        bind("call_at_exit(f: K) -> None")(kept)
        bind("call_in_destructor(f: K) -> None")(kept)
        assert bind("call(f: F, x: i32) -> i32")(kept, 1) == 5
        """,
        PYTHONMALLOC=allocator,
    )
    assert out == "Python\natexit of Python\natexit: 0\ndestructor: 0\n"
    assert err == ""


def test_called_when_it_was_dropped_long_ago(path: str, engine: str) -> None:
    of_machine_code(engine)
    out, err = run(
        path,
        engine,
        """
        bind("call_at_exit(f: K) -> None")(made(lambda x: 5))
        closed = made(lambda x: 5)
        bind("call_in_destructor(f: K) -> None")(closed)
        closed.close()
        """,
    )
    assert (out, err) == ("atexit: 0\ndestructor: 0\n", "")


def test_called_by_finalizers_of_the_end(path: str, engine: str) -> None:
    """While modules are taken apart, callbacks run or are ordinary errors."""
    out, err = run(
        path,
        engine,
        """
        import builtins
        call, keep, call_kept = bind("call(f: F, x: i32) -> i32"), bind("keep(f: K) -> None"), bind("call_kept(x: i32) -> i32")
        class Finalized:
            def __init__(self, name):
                self.name, self.me = name, self
                self.call, self.call_kept, self.write = call, call_kept, os.write
            def __del__(self, Exception=Exception):
                results = []
                for attempt in (lambda: self.call_kept(3), lambda: self.call(lambda x: x, 4)):
                    try:
                        results.append(str(attempt()))
                    except Exception:
                        results.append("refused")
                self.write(1, f"{self.name} {results[0]} {results[1]}\\n".encode())
        sys.kept = Finalized("sys")
        builtins.kept = Finalized("builtins")
        kept = Finalized("main")
        thread_local = threading.local()
        thread_local.kept = Finalized("local")
        def fails(x):
            raise KeyError
        sys.alive = [made(lambda x: x + 1)]
        keep(sys.alive[0])
        atexit.register(lambda: os.write(1, b"atexit %d\\n" % (call(fails, 5) if call_kept(5) != 6 else 6)))
        """,
        PYTHONMALLOC="debug",
    )
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["atexit", "6"]
    assert sorted(line[0] for line in lines[1:]) == ["builtins", "local", "main", "sys"]
    assert {line[1] for line in lines[1:]} <= {"4", "refused"}
    assert {line[2] for line in lines[1:]} <= {"4", "refused"}
    assert "Fatal" not in err


def test_states_of_ended_threads_at_the_end(path: str, engine: str) -> None:
    """What a foreign thread left in a threading.local calls back when the interpreter frees it."""
    if engine == "ctypes":
        pytest.skip("before 3.13 a state that ctypes releases cannot run finalizers that call back")
    _, err = run(
        path,
        engine,
        """
        call = bind("call(f: F, x: i32) -> i32")
        in_thread = bind("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
        local = threading.local()
        class Finalized:
            def __del__(self):
                call(lambda x: x, 1)
        def function(x):
            local.thing = Finalized()
            return x
        for number in range(3):
            in_thread(function, number, 2)
        """,
        PYTHONMALLOC="debug",
    )
    assert "Fatal" not in err


@pytest.mark.parametrize("threads", [1, 3])
def test_a_foreign_thread_goes_on_calling(path: str, engine: str, threads: int) -> None:
    if sys.version_info >= (3, 14):
        of_machine_code(engine)  # before, ctypes got away with it
    _, err = run(
        path,
        engine,
        f"""
        kept = made(lambda x: x)
        assert bind("go_on_calling(f: K, threads: i32) -> i32")(kept, {threads}) == 0
        calls = bind("calls_made() -> i64")
        while calls() < 200:
            time.sleep(0.001)
        """,
    )
    assert "Fatal" not in err


def test_foreign_threads_go_on_starting(path: str, engine: str) -> None:
    of_machine_code(engine)
    for _ in range(2):
        _, err = run(
            path,
            engine,
            """
            local = threading.local()
            def function(x):
                local.thing = [x]
                return x
            kept = made(function)
            assert [bind("go_on_starting(f: K) -> i32")(kept) for _ in range(2)] == [0, 0]
            calls = bind("calls_made() -> i64")
            while calls() < 50:
                time.sleep(0.001)
            """,
        )
        assert "Fatal" not in err


@pytest.mark.parametrize("blocking", [False, True])
def test_daemon_threads_in_callbacks(path: str, engine: str, blocking: bool) -> None:
    if engine == "ctypes" and IS_FREE_THREADED:
        pytest.skip("a free-threaded CPython that ends hangs once in a while on daemons in callbacks of ctypes")
    _, err = run(
        path,
        engine,
        f"""
        gate = bind("sum_of(f: F, count: i32) -> i32", blocking={blocking})
        done = []
        def work():
            while True:
                gate(lambda x: x, 50)
                done.append(1)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        while len(done) < 10:
            time.sleep(0.001)
        """,
    )
    assert "Fatal" not in err


def test_an_exception_that_ends_the_program(path: str, engine: str) -> None:
    out, err = run(
        path,
        engine,
        """
        def function(x):
            sys.exit(3)
        bind("call_at_exit(f: K) -> None")(kept := made(lambda x: 1)) if engine == "native" else None
        try:
            bind("sum_of(f: F, count: i32) -> i32")(function, 5)
        finally:
            print("finally", flush=True)
        """,
        status=3,
    )
    assert out.startswith("finally\n")
    assert err == ""


def test_exit_called_in_a_callback(path: str, engine: str) -> None:
    """C's own exit(), in the middle of a gate and a callback."""
    of_machine_code(engine)
    out, _ = run(
        path,
        engine,
        f"""
        libc = ctypes.PyDLL({C_LIBRARY!r})
        kept = made(lambda x: 1)
        bind("call_at_exit(f: K) -> None")(kept)
        bind("call(f: F, x: i32) -> i32")(lambda x: libc.exit(4), 5)
        """,
        status=4,
    )
    assert out == "atexit: 1\n"


@pytest.fixture(autouse=True)
def nothing_raised() -> Any:
    """No test leaves an exception to a later call."""
    yield
    from callgate.runtime.callbacks import PENDING
    from callgate.runtime.native import RAISED_COUNT

    assert RAISED_COUNT.value == 0 or IS_FREE_THREADED  # there it says whether any callback ever raised
    assert not PENDING._raised
    assert not PENDING._depths
