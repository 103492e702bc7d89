"""Threads: binding, calling, dropping, and waiting, all at once."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from children import WAITING, run_child
from here import C_LIBRARY, posix_only

import callgate as cg
from callgate import f64, i32
from callgate.runtime.code_memory import MEMORY

THREADS = 8
KINDS = {"i32": (i32, 7), "f64": (f64, 0.5), "bool": (cg.bool_, True), "cstr": (cg.cstr, b"text"), "u8": (cg.u8, 255)}


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def waiting(build_library: Callable[..., Path]) -> str:
    return str(build_library(WAITING))


def declared(name: str, kinds: tuple[str, ...]) -> Callable[..., Any]:
    names = [f"x{number}" for number in range(2 + len(kinds))]
    scope: dict[str, Any] = {}
    exec(f"def {name}({', '.join(names)}): ...", scope)
    function: Callable[..., Any] = scope[name]
    function.__annotations__ = dict(
        zip([*names, "return"], [i32, i32, *(KINDS[kind][0] for kind in kinds), i32], strict=True)
    )
    return function


def at_once(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run `work(number)` in threads that start together; raise what they raise."""
    barrier = threading.Barrier(count)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    for problem in problems:
        raise problem


def check(function: Callable[..., int], kinds: tuple[str, ...], number: int) -> None:
    rest = [KINDS[kind][1] for kind in kinds]
    assert function(number, 10**6, *rest) == number + 10**6
    assert (
        function(x0=-number, x1=10**6, **{f"x{2 + index}": value for index, value in enumerate(rest)}) == 10**6 - number
    )
    with pytest.raises(TypeError, match=r"^add\(\) argument 1 must be int, not str$"):
        function("1", 10**6, *rest)
    with pytest.raises(OverflowError):
        function(number, 1 << 31, *rest)


def test_one_shape(engine: str, waiting: str) -> None:
    """All threads bind the same shape, which no gate has yet."""
    gc.collect()  # what other tests left
    used = MEMORY.used_bytes()

    for _ in range(20):
        kinds = ("u8", "f64", "cstr")
        gates: list[Any] = []

        def work(number: int, kinds: tuple[str, ...] = kinds, gates: list[Any] = gates) -> None:
            function = cg.load(waiting, engine=engine).function(declared("add", kinds))
            check(function, kinds, number)
            gates.append(function)

        at_once(work)
        assert len(gates) == THREADS
        for number, function in enumerate(gates):
            check(function, kinds, number)
        gates.clear()
        del function
    gc.collect()
    assert MEMORY.used_bytes() == used


def test_many_shapes(engine: str, waiting: str) -> None:
    gc.collect()  # what other tests left
    used = MEMORY.used_bytes()
    names = list(KINDS)

    def work(number: int) -> None:
        library = cg.load(waiting, engine=engine)
        kept = []
        for index in range(40):
            # Neighbours make the same shapes at about the same time
            seed = index + 5 * (number // 2)
            kinds = tuple(names[seed // 5**place % 5] for place in range(4))
            kept.append((library.function(declared("add", kinds)), kinds))
            check(*kept[-1], index)
            if index % 5 == 4:
                del kept[::2]
        for function, kinds in kept:
            check(function, kinds, number)

    at_once(work)
    gc.collect()
    assert MEMORY.used_bytes() == used


def test_one_gate(engine: str, waiting: str) -> None:
    function = cg.load(waiting, engine=engine).function(declared("add", ("cstr",)))

    def work(number: int) -> None:
        for index in range(300):
            check(function, ("cstr",), number * 1000 + index)

    at_once(work)


def test_one_library(engine: str, waiting: str) -> None:
    """Functions of C text, bound when first used, by all threads at once."""
    for _ in range(20):
        library = cg.load(waiting, "int add(int a, int b); double halve(double x);", engine=engine)

        def work(number: int, library: Any = library) -> None:
            assert library.add(number, 5) == number + 5
            assert library.halve(number) == number / 2

        at_once(work)


def test_dropping(engine: str, waiting: str) -> None:
    """Gates are dropped by threads other than those that made them."""
    shared: list[Any] = []
    kinds = [("u8",) * length for length in range(1, 12)]

    def work(number: int) -> None:
        library = cg.load(waiting, engine=engine)
        for index in range(60):
            mine = kinds[(index + number) % len(kinds)]
            shared.append((library.function(declared("add", mine)), mine))
            if index % 3 == 0:
                while len(shared) > 5:
                    try:
                        function, its = shared.pop(0)
                    except IndexError:
                        break
                    check(function, its, index)

    at_once(work)
    for function, its in shared:
        check(function, its, 1)


def test_blocking_calls_run_side_by_side(engine: str, waiting: str) -> None:
    """All are in C at the same time, or the door would never be opened."""
    library = cg.load(waiting, "void close_door(void); void open_door(void); int waiting_count(void);", engine=engine)
    library.close_door()
    waits = cg.load(
        waiting,
        "long wait_and_sum(const unsigned char *data, size_t count, long start);",
        blocking=True,
        engine=engine,
    ).wait_and_sum
    data = [bytearray([number] * 100) for number in range(THREADS)]

    def work(number: int) -> None:
        if number == THREADS:
            while library.waiting_count() < THREADS:
                pass
            with pytest.raises(BufferError):
                data[0].append(1)  # held by the call
            library.open_door()
        else:
            assert waits(data[number], 100, -number) == 99 * number

    at_once(work, THREADS + 1)
    for one in data:
        one.append(1)


def test_calls_in_threads_of_c_libraries(engine: str, waiting: str) -> None:
    """ctypes callbacks run gates in the middle of other gates."""
    import ctypes

    add = cg.load(waiting, engine=engine).function(declared("add", ()))
    compare_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))

    def work(number: int) -> None:
        compare = compare_type(lambda a, b: add(a[0], -b[0]))
        sort = ctypes.CDLL(C_LIBRARY).qsort
        sort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, compare_type]
        sort.restype = None
        numbers = (ctypes.c_int * 50)(*((37 * index + number) % 50 for index in range(50)))
        cg.gate_from(sort, engine=engine)(numbers, 50, 4, compare)
        assert list(numbers) == sorted(numbers)

    at_once(work)


PREAMBLE = """
    import atexit, sys, threading, time
    import callgate as cg
    path, engine = sys.argv[1:]
    declarations = "long wait_and_sum(const unsigned char *data, size_t count, long start);"
    others = "int add(int a, int b); void open_door(void); void close_door(void); int waiting_count(void);"
"""


def run(program: str, waiting: str, engine: str) -> None:
    out, error = run_child(dedent(PREAMBLE) + dedent(program), waiting, engine)
    assert out.split() == ["done"], (out, error)
    assert "Fatal" not in error


def test_the_first_use(engine: str, waiting: str) -> None:
    """Threads that are the first to use callgate make one engine, whose routines stay."""
    run(
        """
        sys.setswitchinterval(1e-6)
        barrier, made, problems = threading.Barrier(8), [], []
        def work(number):
            try:
                barrier.wait()
                add = cg.load(path, others, engine=engine).add
                made.append(add)
                assert add(number, b=2) == number + 2
            except BaseException as problem:
                problems.append(problem)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems, problems
        import gc
        gc.collect()
        for add in made:
            try:
                add("1", b=2)
            except TypeError as problem:
                assert str(problem) == "add() argument 1 must be int, not str"
            assert add(b=1 << 20, a=-7) == (1 << 20) - 7
        print("done")
        """,
        waiting,
        engine,
    )


@pytest.mark.parametrize("comes_back", ["before the end", "during the end", "never"])
def test_a_daemon_in_a_blocking_call_at_exit(engine: str, waiting: str, comes_back: str) -> None:
    """The interpreter ends such threads when they want the GIL back; the process ends as it should."""
    run(
        f"""
        library = cg.load(path, others, engine=engine)
        waits = cg.load(path, declarations, blocking=True, engine=engine).wait_and_sum
        library.close_door()
        def work():
            while True:
                waits(bytearray(b"abc"), 3, 0)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        while library.waiting_count() < 4:
            time.sleep(0.001)
        class Last:
            "Opens the door when modules are cleared, and gives the threads time to come back."
            def __del__(self, open_door=library.open_door, sleep=time.sleep):
                open_door()
                sleep(0.3)
        if {comes_back!r} == "before the end":
            library.open_door()
            time.sleep(0.05)
        elif {comes_back!r} == "during the end":
            last = Last()
        print("done", flush=True)
        """,
        waiting,
        engine,
    )


@posix_only("an alarm is a signal")
def test_interrupted(engine: str, waiting: str) -> None:
    """A signal handler runs when the call is over, and may call and bind."""
    run(
        """
        import signal
        library = cg.load(path, others + "double halve(double x);", engine=engine)
        assert (library.add(1, 2), library.halve(1)) == (3, 0.5)  # nothing is left to be imported
        told = []
        def handle(number, frame):
            fresh = cg.load(path, "double halve(double x);", engine=engine)
            told.append((fresh.halve(3.0), library.add(1, 2)))
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        end = time.monotonic() + 1
        while time.monotonic() < end and len(told) < 100:
            scope = {"cg": cg}
            exec(f"def add(a: cg.i32, b: cg.i32, {', '.join(f'x{n}: cg.f64' for n in range(len(told) % 30 + 1))}) -> cg.i32: ...", scope)
            fresh = cg.load(path, engine=engine).function(scope["add"])
            assert fresh(20, 22, *[0.5] * (len(fresh.__self__.signature.parameters) - 2)) == 42
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(told) > 5
        assert set(told) == {(1.5, 3)}
        print("done")
        """,
        waiting,
        engine,
    )
