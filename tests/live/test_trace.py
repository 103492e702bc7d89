"""CALLGATE_TRACE=1: what is counted, and the report at exit."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import WAITING, run_child
from here import posix_only

PREAMBLE = """
    import inspect, pickle, sys, threading, time
    import callgate as cg
    from callgate import i32, f64
    path, engine = sys.argv[1:]
    library = cg.load(path, "int add(int a, int b); double halve(double x); void open_door(void);", engine=engine)
    libc = cg.load("c", engine=engine)
    @library.function(symbol="nap")
    def hold(microseconds: cg.uint) -> i32: ...
    @library.function(symbol="nap", blocking=True)
    def release(microseconds: cg.uint) -> i32: ...
"""


@pytest.fixture
def report(engine: str, build_library: Callable[..., Path]) -> Callable[..., str]:
    path = str(build_library(WAITING))

    def report(program: str, trace: str = "1") -> str:
        out, error = run_child(dedent(PREAMBLE) + dedent(program), path, engine, CALLGATE_TRACE=trace)
        assert out.split() == ["done"]
        return error

    return report


def rows(report: str) -> dict[str, list[str]]:
    """The table's rows by the gate's name."""
    head, *lines = report.splitlines()
    assert re.split(r"  +", head) == ["callgate trace", "calls", "total ms", "longest us", "long GIL holds"]
    return {line.split()[0]: line.split()[1:] for line in lines if not line.startswith("held the GIL")}


def test_counts_and_long_holds(report: Callable[..., str]) -> None:
    told = report("""
        for number in range(500):
            assert library.add(number, b=1) == number + 1
        for _ in range(3):
            hold(20_000)
        for _ in range(2):
            release(30_000)
        print("done")
    """)
    found = rows(told)
    assert set(found) == {"add", "hold", "release"}
    assert found["add"][0] == "500"
    calls, total_ms, longest_us, holds = found["hold"]
    assert (calls, holds) == ("3", "3")
    assert float(total_ms) >= 60
    assert float(longest_us) >= 20_000
    calls, total_ms, longest_us, holds = found["release"]
    assert (calls, holds) == ("2", "released")
    assert float(total_ms) >= 60
    assert float(longest_us) >= 30_000
    advice = told.splitlines()[-1]
    assert advice.startswith("held the GIL for more than 10 us; consider blocking=True: hold")
    assert "release" not in advice
    assert list(found) == sorted(found, key=lambda name: -float(found[name][1]))


def test_failing_calls_count(report: Callable[..., str]) -> None:
    told = report("""
        for arguments in [(1,), (1, "x"), (1, 2, 3), (1, 2)]:
            try:
                library.add(*arguments)
            except TypeError as problem:
                assert str(problem).startswith("add() "), problem
        print("done")
    """)
    assert rows(told)["add"][0] == "4"


def test_traced_gates_are_gates(report: Callable[..., str]) -> None:
    told = report("""
        add = library.add
        record = cg.gate(add)
        assert (record.name, record.engine, add.__name__) == ("add", engine, "add")
        assert str(inspect.signature(add)) == "(a, b)", inspect.signature(add)
        assert str(inspect.signature(library.open_door)) == "()"
        assert "add" in cg.explain(add)
        del record
        assert add(2, 3) == add(b=3, a=2) == 5
        print("done")
    """)
    assert rows(told)["add"][0] == "2"


def test_threads(report: Callable[..., str]) -> None:
    told = report("""
        add = library.add
        def work():
            for number in range(2000):
                add(number, number)
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("done")
    """)
    assert rows(told)["add"][0] == "12000"


def test_nothing_called(report: Callable[..., str]) -> None:
    assert rows(report('print("done")')) == {}


@pytest.mark.parametrize("trace", ["", "0"])
def test_off(report: Callable[..., str], trace: str) -> None:
    told = report(
        """
        assert library.add(1, 2) == 3
        hold(20_000)
        from callgate.runtime import trace
        assert not trace._counts
        print("done")
        """,
        trace,
    )
    assert told == ""


def test_nothing_bound() -> None:
    out, error = run_child("import callgate as cg; cg.load('c'); print('done')", CALLGATE_TRACE="1")
    assert (out, error) == ("done\n", "")


def test_from_a_finalizer(report: Callable[..., str]) -> None:
    """A traced call may run wherever the collector does."""
    told = report("""
        import gc
        assert library.add(2, 2) == 4
        gc.set_threshold(1)
        class Owner:
            def __init__(self):
                self.me = self
            def __del__(self):
                assert library.add(1, 1) == 2
        for _ in range(500):
            Owner()
            library.add(2, 2)
        gc.set_threshold(700)
        gc.collect()
        print("done")
    """)
    assert rows(told)["add"][0] == "1001"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_goes_on(report: Callable[..., str]) -> None:
    """Though another thread held the lock."""
    told = report("""
        import os, warnings
        from callgate.runtime import trace
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        assert library.add(2, 2) == 4
        holds, over = threading.Event(), threading.Event()
        def hold_lock():
            with trace._lock.here:
                holds.set()
                over.wait()
        thread = threading.Thread(target=hold_lock)
        thread.start()
        holds.wait()
        pid = os.fork()
        if pid == 0:
            os._exit(library.add(40, 2))
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        over.set()
        thread.join()
        print("done")
    """)
    assert rows(told)["add"][0] == "1"


@posix_only("the C runtime of Windows has no symbol snprintf")
def test_a_variadic_call_counts_once(report: Callable[..., str]) -> None:
    """Though a gate for the types of its arguments makes it."""
    told = report("""
        libc = cg.load("c", "int snprintf(char *s, size_t n, const char *format, ...);", engine=engine)
        buffer = bytearray(64)
        for number in range(5):
            assert libc.snprintf(buffer, 64, b"%d", number) == 1
            assert libc.snprintf(buffer, 64, b"%d %.1f", number, 0.5) == 5
        print("done")
    """)
    assert rows(told)["snprintf"][0] == "10"


def test_callbacks_count_and_are_no_holding(report: Callable[..., str]) -> None:
    """The time that a gate's callbacks take is Python's, which gives the GIL up."""
    told = report("""
        from collections.abc import Callable
        @libc.function
        def qsort(a: cg.Writable[cg.i8], n: cg.usize, size: cg.usize, compar: Callable[[cg.Ptr[cg.i8], cg.Ptr[cg.i8]], i32]) -> None: ...
        def compare(a, b):
            time.sleep(0.02)
            return -1
        for _ in range(2):
            qsort(bytearray(2), 2, 1, compare)
        print("done")
    """)
    found = rows(told)
    assert found["compar"][0] == "2"
    assert found["compar"][3] == "callback"
    assert float(found["compar"][1]) >= 40
    assert found["qsort"][0] == "2"
    assert float(found["qsort"][1]) >= 40


def test_gates_made_again_share_a_row(report: Callable[..., str]) -> None:
    told = report("""
        for _ in range(3):
            again = cg.load(path, "int add(int a, int b);", engine=engine)
            assert again.add(1, 1) == 2
        print("done")
    """)
    assert rows(told)["add"][0] == "3"


def test_accelerated(report: Callable[..., str], engine: str) -> None:
    told = report("""
        import ctypes
        old = ctypes.CDLL(path)
        old.add.argtypes = [ctypes.c_int, ctypes.c_int]
        if engine == "native":
            assert cg.accelerate(old).fast
            assert old.add.restype is ctypes.c_int
            assert len(old.add.argtypes) == 2
        assert old.add(2, 3) == 5
        print("done")
    """)
    assert {name: row[0] for name, row in rows(told).items()} == ({"add": "1"} if engine == "native" else {})
