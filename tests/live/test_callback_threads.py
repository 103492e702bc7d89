"""Callbacks and threads: those that Python does not know, those that wait for the GIL, and forked processes."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from calling_back import SOURCE, Bind, Nothing, Problem, binder
from children import run_child
from telling import told

import callgate as cg
from callgate import f64, i32


@pytest.fixture
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE, ("-O2", "-pthread")))


@pytest.fixture
def bind(engine: str, path: str) -> Bind:
    return binder(path, engine)


@pytest.fixture
def worker(bind: Bind) -> Iterator[Callable[..., int]]:
    """`worker(f, x, count)`: one thread of C, the same for all calls of a test."""
    assert bind("worker_start() -> i32")() == 0
    yield bind("worker_call(f: F, x: i32, count: i32) -> i32", blocking=True)
    bind("worker_stop() -> None", blocking=True)()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What sys.unraisablehook gets: pairs of function and exception."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: seen.append((given.object, given.exc_value)))
    return seen


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def no_switches() -> Iterator[None]:
    """Who has the GIL keeps it until it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(300)
    yield
    sys.setswitchinterval(before)


def fail(x: int) -> int:
    raise Problem(x)


# -- threads that Python does not know -------------------------------------------------------------------------------


def test_results(bind: Bind) -> None:
    gate = bind("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
    threads = set()

    def function(x: int) -> int:
        threads.add(threading.get_ident())
        return 2 * x

    assert gate(function, 10, 5) == 2 * (10 + 11 + 12 + 13 + 14)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_thread_keeps_its_state(engine: str, worker: Any) -> None:
    if engine == "ctypes":
        pytest.skip("ctypes makes a state for every call")
    if sys.version_info >= (3, 15):
        pytest.skip("from 3.15 on Python keeps a thread's state under no key, and each callback gets one")
    local = threading.local()
    threads = []

    def count(x: int) -> int:
        local.count = getattr(local, "count", 0) + 1
        threads.append((threading.get_ident(), threading.current_thread()))
        return local.count

    assert worker(count, 0, 3) == 1 + 2 + 3
    assert worker(count, 0, 2) == 4 + 5
    assert not hasattr(local, "count")
    assert len(set(threads)) == 1
    assert threads[0][0] != threading.get_ident()


def test_exceptions_go_to_the_hook(engine: str, worker: Any, unraisable: list[Any]) -> None:
    assert worker(fail, 5, 1) == 0
    assert worker(lambda x: x, 5, 1) == 5  # nothing is left for the next call
    assert worker(fail, 6, 2) == 0
    assert [(str(problem), type(problem)) for _, problem in unraisable] == [(text, Problem) for text in ("5", "6", "7")]
    if engine == "native":  # ctypes names the function in the hook's err_msg, if at all
        assert [function for function, _ in unraisable] == [fail] * 3
    unraisable.clear()
    worker(lambda x: "text", 1, 1)
    assert [str(problem) for _, problem in unraisable] == ["the result of f() must be int, not str"]
    unraisable.clear()

    def ends(x: int) -> int:
        raise (SystemExit, KeyboardInterrupt)[x]

    assert worker(ends, 0, 2) == 0
    assert [type(problem) for _, problem in unraisable] == [SystemExit, KeyboardInterrupt]
    unraisable.clear()


def test_the_default_hook(path: str, engine: str) -> None:
    _, err = run_child(
        """
        import sys
        sys.path.insert(0, sys.argv[3])
        from calling_back import binder
        def wrong(x):
            raise ValueError("in a thread")
        gate = binder(*sys.argv[1:3])("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
        assert gate(wrong, 1, 1) == 0
        """,
        path,
        engine,
        str(SOURCE.parent),
    )
    assert "Exception ignored" in err
    assert err.endswith("ValueError: in a thread\n")
    assert "in wrong" in err
    assert "TypeError" not in err


def test_closed_for_a_foreign_thread(bind: Bind, engine: str, worker: Any, unraisable: list[Any]) -> None:
    def back(x: i32) -> i32:
        return x

    callback = cg.callback(back, engine=engine)
    bind("keep(f: K) -> None")(callback)
    assert worker(callback, 5, 1) == 5
    callback.close()
    call = bind("call_kept(x: i32) -> i32")
    gate = bind("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
    assert told(gate, callback, 1, 1) == "ValueError: back() is closed, and C cannot have it any more"
    assert told(call, 1) == "RuntimeError: back() was called by C after it was closed"
    assert unraisable == []


def test_closed_in_its_own_run(bind: Bind, engine: str, unraisable: list[Any]) -> None:
    gate = bind("in_thread(f: K, x: i32, count: i32) -> i32", blocking=True)

    def back(x: i32) -> i32:
        callback.close()
        raise Problem(x)

    callback = cg.callback(back, engine=engine)
    assert gate(callback, 5, 3) == 0
    assert [str(problem) for _, problem in unraisable] == ["5", *["back() was called by C after it was closed"] * 2]
    if engine == "native":
        assert unraisable[0][0].__name__ == "back"
    unraisable.clear()


def test_nested_in_a_foreign_thread(bind: Bind, worker: Any, unraisable: list[Any]) -> None:
    """A gate that a callback calls there raises what its own callbacks raise."""
    gates = [bind("sum_of(f: F, count: i32) -> i32", blocking=blocking) for blocking in (False, True)]
    threaded = bind("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
    caught: list[Any] = []

    def outer(x: int) -> int:
        for gate in gates:
            try:
                caught.append(gate(fail, 3))
            except Problem as problem:
                caught.append(str(problem))
            caught.append(gate(lambda y: y, 4))
        return threaded(lambda y: gates[1](lambda z: z, 3) + y, 1, 2)

    assert worker(outer, 1, 1) == 1 + 2 + 6
    assert worker(outer, 1, 1) == 9
    assert caught == ["0", 6] * 4
    assert unraisable == []

    def passes(x: int) -> int:
        return gates[x](fail, 3)

    assert worker(passes, 0, 2) == 0
    assert [str(problem) for _, problem in unraisable] == ["0", "0"]
    assert worker(lambda x: x, 5, 1) == 5
    unraisable.clear()


def test_many_at_once(bind: Bind, frequent_switches: None) -> None:
    gate = bind("in_threads(f: F, threads: i32, count: i32) -> i64", blocking=True)
    busy = bind("sum_of(f: F, count: i32) -> i32", blocking=True)
    ended = threading.Event()
    problems: list[Any] = []

    def work() -> None:
        while not ended.is_set():
            try:
                assert busy(lambda x: x, 20) == 190
                assert told(busy, fail, 3) == "Problem: 0"
            except BaseException as problem:
                problems.append(problem)
                return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert gate(lambda x: x, 16, 25) == sum(1000 * t + i for t in range(16) for i in range(25))
    finally:
        ended.set()
        for thread in threads:
            thread.join(100)
    assert problems == []


def test_states_go_with_their_threads(bind: Bind, engine: str) -> None:
    """2,000 threads leave nothing: no state, and nothing of what they put into a threading.local."""
    gate = bind("through_threads(f: F, threads: i32) -> i64", blocking=True)
    local = threading.local()
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def function(x: int) -> int:
        local.thing = Nothing()
        local.memory = bytearray(10_000)
        alive.add(local.thing)
        return x

    count = {"native": 2_000, "ctypes": 500}[engine]
    gate(function, 100)
    gc.collect()
    blocks, resident = sys.getallocatedblocks(), resident_bytes()
    frames = len(sys._current_frames())
    assert gate(function, count) == sum(2 * x + 1 for x in range(count))
    gate(lambda x: x, 1)  # the states of ended threads are cleared by later calls
    gc.collect()
    assert len(sys._current_frames()) <= frames + 1
    assert len(alive) <= 2
    assert sys.getallocatedblocks() - blocks < 200
    assert resident_bytes() - resident < 4 << 20


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_a_thread_may_be_joined_with_the_gil_held(bind: Bind) -> None:
    """A thread that called back before needs nothing of Python's to end."""
    assert bind("worker_start() -> i32")() == 0
    assert bind("worker_call(f: F, x: i32, count: i32) -> i32", blocking=True)(lambda x: x, 5, 1) == 5
    bind("worker_stop() -> None")()


# -- threads that wait for the GIL while Python does things to their callback ------------------------------------------


def back_of(number: int) -> Callable[[int], int]:
    def back(x: i32) -> i32:
        return number

    return back


@pytest.mark.parametrize("what", ["nothing", "closes", "frees"])
def test_a_waiting_thread(bind: Bind, engine: str, no_switches: None, unraisable: list[Any], what: str) -> None:
    start = bind("start_pending(f: K, x: i32) -> i32")
    finish = bind("finish_pending() -> i32", blocking=True)
    callback = cg.callback(back_of(7), engine=engine)
    assert start(callback, 1) == 0
    if what == "closes":
        callback.close()
    elif what == "frees":
        del callback
    assert finish() == (7 if what == "nothing" else 0)
    texts = {
        "nothing": [],
        "closes": ["back() was called by C after it was closed"],
        "frees": ["back() was called by C after it was freed; keep a reference to it as long as C has it"],
    }
    assert [str(problem) for _, problem in unraisable] == texts[what]
    unraisable.clear()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_waiting_thread_whose_thunk_another_gets(
    bind: Bind, engine: str, no_switches: None, unraisable: list[Any], is_closed: bool
) -> None:
    """Whatever it gets is a zero, or the result of a function with its own types."""
    if engine == "ctypes":
        pytest.skip("ctypes frees its closures")
    start = bind("start_pending(f: F, x: i32) -> i32")
    finish = bind("finish_pending() -> i32", blocking=True)
    callback = cg.callback(back_of(7), engine=engine)
    address = callback.address
    if is_closed:
        callback.close()
    assert start(ctypes.c_void_p(address), 1) == 0
    del callback

    def other(a: f64, b: f64) -> f64:
        raise AssertionError("called with the arguments of another type")

    others = [cg.callback(other, engine=engine) for _ in range(600)]
    for each in others:
        each.address
    assert finish() == 0
    assert [type(problem) for _, problem in unraisable] == [RuntimeError]
    unraisable.clear()


@pytest.mark.parametrize("blocking", [False, True])
def test_closing_while_others_call(bind: Bind, engine: str, frequent_switches: None, blocking: bool) -> None:
    """Calls by other threads end in a result or in the error, whatever the moment."""
    gate = bind("sum_of(f: K, count: i32) -> i32", blocking=blocking)
    calls: list[int] = []
    wrong: list[BaseException] = []
    made: list[Any] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                calls.append(gate(made[0], 50))
            except (RuntimeError, ValueError) as problem:
                if "was called by C after it was closed" not in str(problem) and "is closed" not in str(problem):
                    wrong.append(problem)
            except BaseException as problem:
                wrong.append(problem)

    made.append(cg.callback(back_of(1), engine=engine))
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        before, made[0] = made[0], cg.callback(back_of(1), engine=engine)
        before.close()
    ended.set()
    for thread in threads:
        thread.join(100)
    assert wrong == []
    assert set(calls) <= {50}


def test_the_first_address_by_many_threads(bind: Bind, engine: str, frequent_switches: None) -> None:
    for number in range(50):
        callback = cg.callback(back_of(number), engine=engine)
        barrier = threading.Barrier(4)
        addresses: list[int] = []

        def ask(callback: Any = callback, barrier: Any = barrier, addresses: Any = addresses) -> None:
            barrier.wait(100)
            addresses.append(callback.address)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert len(addresses) == 4
        assert len(set(addresses)) == 1


def test_finalizers_make_callbacks_while_one_is_made(path: str, engine: str) -> None:
    run_child(
        """
        import faulthandler, gc, sys
        faulthandler.dump_traceback_later(100, exit=True)
        sys.path.insert(0, sys.argv[3])
        from calling_back import binder
        import callgate as cg
        from callgate import i32
        gate = binder(*sys.argv[1:3])("call(f: F, x: i32) -> i32")
        class Finalized:
            def __init__(self):
                self.me = self
            def __del__(self):
                assert gate(lambda x: x, 5) == 5
        def back(x: i32) -> i32:
            return x
        gc.set_threshold(1)
        kept = []
        for number in range(700):
            Finalized()
            callback = cg.callback(back, engine=sys.argv[2])
            callback.address
            kept.append(callback)
        """,
        path,
        engine,
        str(SOURCE.parent),
    )


# -- signals and fork ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
def test_a_signal_during_a_callback(bind: Bind, blocking: bool) -> None:
    gate = bind("sum_of(f: F, count: i32) -> i32", blocking=blocking)
    calls = []

    def function(x: int) -> int:
        calls.append(x)
        if x == 3:
            signal.raise_signal(signal.SIGINT)
            for _ in range(100):
                pass
        return x

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            gate(function, 10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [0, 1, 2, 3]
    assert gate(lambda x: x, 10) == 45


FORK = """
    import faulthandler, os, sys, threading, traceback, warnings
    faulthandler.dump_traceback_later(100, exit=True)
    warnings.simplefilter("ignore")  # of fork and threads
    path, engine, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    from calling_back import binder
    import callgate as cg
    from callgate import i32
    bind = binder(path, engine)
    call = bind("call(f: F, x: i32) -> i32")
    keep, call_kept = bind("keep(f: K) -> None"), bind("call_kept(x: i32) -> i32")
    in_thread = bind("in_thread(f: F, x: i32, count: i32) -> i32", blocking=True)
    local = threading.local()

    def made(number):
        def back(x: i32) -> i32:
            return x + number
        return cg.callback(back, engine=engine)

    def fails(x):
        raise KeyError(x)

    def in_foreign_thread(x):
        local.thing = [x]
        return x

    def check(number):
        "All that callbacks do."
        new = [made(n) for n in range(400)]
        assert [call(each, number) for each in new] == list(range(number, number + 400))
        assert call_kept(number) == number + 1000
        try:
            call(fails, number)
        except KeyError as problem:
            assert problem.args == (number,)
        else:
            raise AssertionError("no exception")
        assert in_thread(in_foreign_thread, number, 2) == 2 * number + 1
        new[0].close()
        return new

    def finish(child):
        _, status = os.waitpid(child, 0)
        assert status == 0, status

    def fork(work):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return child

    kept = made(1000)
    keep(kept)
"""


def forking(path: str, engine: str, program: str) -> None:
    out, _ = run_child(
        dedent(FORK) + dedent(program) + "\nprint('done')\n", path, engine, str(SOURCE.parent), timeout_s=120
    )
    assert out.endswith("done\n")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@needs_fork
def test_fork_in_between(path: str, engine: str) -> None:
    forking(
        path,
        engine,
        """
        older = check(1)
        child = fork(lambda: [check(2), [call(each, 1) for each in older[1:]], check(3)])
        newer = check(4)
        finish(child)
        check(5)
        assert [call(each, 1) for each in older[1:]] == list(range(2, 401))
        """,
    )


@needs_fork
def test_fork_in_a_callback(path: str, engine: str) -> None:
    """Parent and child both return through C."""
    forking(
        path,
        engine,
        """
        children = []
        def forks(x):
            children.append(os.fork())
            return x + 1
        result = call(forks, 5)
        assert result == 6
        check(7)
        if children[0] == 0:
            os._exit(0)
        finish(children[0])
        """,
    )


@needs_fork
def test_fork_in_a_foreign_thread(path: str, engine: str) -> None:
    """The child's only thread is one that Python did not start."""
    forking(
        path,
        engine,
        """
        children = []
        def forks(x):
            local.thing = [x]
            def work():
                assert local.thing == [x]
                check(x)
            children.append(fork(work))
            return x
        assert in_thread(forks, 5, 2) == 11
        for child in children:
            finish(child)
        check(8)
        """,
    )


@needs_fork
def test_fork_while_states_of_ended_threads_wait(path: str, engine: str) -> None:
    forking(
        path,
        engine,
        """
        for number in range(3):
            in_thread(in_foreign_thread, number, 2)
            finish(fork(lambda: check(number)))
        check(5)
        """,
    )


DOOR = """
#include <unistd.h>
static volatile int waiting, opened;
void open_door(void) { opened = 1; }
int is_waiting(void) { return waiting; }
int call_and_wait(int (*f)(void)) {
    int result = f();
    waiting = 1;
    for (int i = 0; i < 30000 && !opened; i++) usleep(1000);
    return result;
}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the library is POSIX's")
def test_an_exception_that_c_sets_is_no_other_threads(build_library: Callable[..., Path], engine: str) -> None:
    if engine == "ctypes":
        pytest.skip("ctypes knows no exceptions of callbacks")
    library = cg.load(build_library(DOOR), "void open_door(void); int is_waiting(void);", engine=engine)

    @library.function(blocking=True)
    def call_and_wait(f: Callable[[], i32]) -> i32: ...

    api = ctypes.PyDLL(None)
    api.PyLong_AsLong.argtypes, api.PyLong_AsLong.restype = [ctypes.py_object], ctypes.c_long
    assert cg.accelerate(api).fast
    mine, others = Problem("mine"), []

    def fails() -> int:
        raise mine

    def work() -> None:
        try:
            others.append(call_and_wait(fails))
        except Problem as problem:
            others.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    while not library.is_waiting():
        time.sleep(0.001)
    assert told(api.PyLong_AsLong, "x") == "TypeError: 'str' object cannot be interpreted as an integer"
    library.open_door()
    thread.join()
    assert others == [mine]
