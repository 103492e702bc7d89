"""Forked children: what parent and child do to their gates does not touch the other's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import WAITING, run_child

import callgate as cg
from callgate.runtime.engine import native_engine

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.parametrize(
        ("engine", "rung"),
        [("native", "memfd"), ("native", "file"), ("native", "anonymous pages"), ("ctypes", "no machine code")],
    ),
]

PREAMBLE = """
    import ctypes, gc, os, sys, threading, time, traceback, faulthandler
    import callgate as cg
    from callgate import i32, f64
    from callgate.runtime.code_memory import MEMORY

    library_path, engine, rung = sys.argv[1:]
    faulthandler.dump_traceback_later(100, exit=True)

    def refuse(size_bytes=0):
        raise OSError("refused by the test")

    MEMORY.ladder = tuple(
        one if one.name == rung else one._replace(allocate=refuse) for one in MEMORY.ladder
    )

    KINDS = ("i32", "f64", "cg.bool_", "cg.i8", "cg.u16")

    def bind(symbol, kinds, result="i32"):
        scope = dict(globals())
        exec(f"def {symbol}({', '.join(f'x{n}: {kind}' for n, kind in enumerate(kinds))}, /) -> {result}: ...", scope)
        return cg.load(library_path, engine=engine).function(scope[symbol])

    def bind_many(count, seed=0):
        "Functions of shapes of their own."
        made = []
        for number in range(count):
            digits = [(number + seed) // 5**place % 5 for place in range(6)]
            made.append(bind("add", ["i32", "i32", *(KINDS[digit] for digit in digits)]))
        return made

    def check_many(made, seed=0):
        for number, function in enumerate(made):
            digits = [(number + seed) // 5**place % 5 for place in range(6)]
            rest = [(1, 1.5, True, -1, 65535)[digit] for digit in digits]
            assert function(number, 10**6, *rest) == number + 10**6
            assert function(-(2**31), 7, *rest) == -(2**31) + 7
            try:
                function(1, "two", *rest)
            except TypeError as problem:
                assert str(problem) == "add() argument 2 must be int, not str", problem
            else:
                raise AssertionError("str was taken")

    def fork(child):
        "Run `child` in a forked process; the function returned waits for it."
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return lambda: finish(pid)

    def finish(pid):
        _, status = os.waitpid(pid, 0)
        assert status == 0, status

    class Gate:
        "Lets the other process go on."
        def __init__(self):
            self.reader, self.writer = os.pipe()
        def open(self, count=1):
            os.write(self.writer, b"x" * count)
        def wait(self):
            assert os.read(self.reader, 1) == b"x"

    def end():
        if engine == "native":
            assert MEMORY.rung == rung, MEMORY.rung
        print("done")
"""


@pytest.fixture
def run(engine: str, rung: str, build_library: Callable[..., Path]) -> Callable[[str], None]:
    if engine == "native":
        try:
            native_engine()
        except cg.EngineError as reason:
            pytest.skip(f"no native engine: {reason}")
    path = str(build_library(WAITING))

    def run(program: str) -> None:
        out, _ = run_child(dedent(PREAMBLE) + dedent(program), path, engine, rung)
        assert out.split() == ["done"]

    return run


def test_what_a_child_binds(run: Callable[[str], None]) -> None:
    """The parent's gates keep their results, those dropped by the child too."""
    run("""
        mine = bind_many(60)
        def child():
            global mine
            check_many(mine)
            del mine
            gc.collect()
            theirs = bind_many(120, seed=500)
            check_many(theirs, seed=500)
        waits = [fork(child) for _ in range(3)]
        check_many(mine)
        for wait in waits:
            wait()
        check_many(mine)
        more = bind_many(60, seed=2000)
        check_many(more, seed=2000)
        check_many(mine)
        end()
    """)


def test_what_a_parent_drops(run: Callable[[str], None]) -> None:
    """The child's inherited gates keep their results whatever the parent writes."""
    run("""
        mine = bind_many(60)
        dropped = Gate()
        def child():
            dropped.wait()
            check_many(mine)
        wait = fork(child)
        del mine
        gc.collect()
        other = bind_many(300, seed=3000)
        check_many(other, seed=3000)
        dropped.open()
        wait()
        check_many(other, seed=3000)
        end()
    """)


def test_what_lives_through_several_forks(run: Callable[[str], None]) -> None:
    run("""
        generations, waits, dropped = [], [], Gate()
        for number in range(6):
            generations.append(bind_many(20, seed=100 * number))
            kept = list(enumerate(generations))
            def child():
                dropped.wait()
                for number, made in kept:
                    check_many(made, seed=100 * number)
                check_many(bind_many(10, seed=7000), seed=7000)
            waits.append(fork(child))
            if number % 2:
                generations[number - 1] = bind_many(20, seed=100 * (number - 1))
            del kept, child
        generations.clear()
        last = bind_many(200, seed=9000)
        dropped.open(len(waits))
        for wait in waits:
            wait()
        check_many(last, seed=9000)
        end()
    """)


def test_memory_is_reused_after_a_fork(run: Callable[[str], None]) -> None:
    """What was written after the fork, or freed before it, nobody else runs."""
    run("""
        fork(lambda: None)()
        bind_many(30)
        start = MEMORY.used_bytes()
        fork(lambda: None)()
        def maps():
            return open("/proc/self/maps").read().count("callgate")
        before = maps()
        for number in range(20):
            check_many(bind_many(30, seed=100 * number), seed=100 * number)
            assert MEMORY.used_bytes() == start
        assert maps() <= before + 1
        end()
    """)


def test_grandchildren(run: Callable[[str], None]) -> None:
    run("""
        mine = bind_many(20)
        def child():
            theirs = bind_many(20, seed=300)
            def grandchild():
                check_many(mine)
                check_many(theirs, seed=300)
                own = bind_many(50, seed=600)
                check_many(own, seed=600)
            wait = fork(grandchild)
            theirs.extend(bind_many(20, seed=320))
            wait()
            check_many(mine)
            check_many(theirs, seed=300)
        fork(child)()
        check_many(mine)
        end()
    """)


def test_multiprocessing(run: Callable[[str], None]) -> None:
    run("""
        import multiprocessing
        context = multiprocessing.get_context("fork")
        mine = bind_many(10)
        def work(seed):
            check_many(mine)
            check_many(bind_many(15, seed), seed)
            return os.getpid()
        with context.Pool(3) as pool:
            processes = set(pool.map(work, range(0, 3000, 100)))
        assert os.getpid() not in processes
        check_many(mine)
        end()
    """)


@pytest.mark.parametrize("holds_gil", [True, False])
def test_a_fork_that_python_does_not_see(run: Callable[[str], None], holds_gil: bool) -> None:
    run(f"""
        libc = (ctypes.PyDLL if {holds_gil} else ctypes.CDLL)(None)
        mine = bind_many(20)
        for number in range(3):
            pid = libc.fork()
            if pid == 0:
                status = 1
                try:
                    check_many(mine)
                    del mine
                    gc.collect()
                    check_many(bind_many(100, seed=500), seed=500)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            finish(pid)
            check_many(mine)
        end()
    """)


def test_a_fork_during_a_publication(run: Callable[[str], None]) -> None:
    """The lock that another thread holds does not stop a child that Python did not prepare."""
    run("""
        mine = bind_many(5)
        bind("halve", ["f64"], "f64")
        holds, release = threading.Event(), threading.Event()
        def hold():
            with MEMORY._process().lock:
                holds.set()
                release.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        holds.wait()
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            status = 1
            try:
                check_many(mine)
                check_many(bind_many(20, seed=40), seed=40)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        finish(pid)
        release.set()
        thread.join()
        check_many(bind_many(20, seed=40), seed=40)
        end()
    """)


def test_threads_that_bind_while_the_process_forks(run: Callable[[str], None]) -> None:
    run("""
        is_over = False
        problems = []
        def work(seed):
            try:
                while not is_over:
                    check_many(bind_many(10, seed), seed)
            except BaseException as problem:
                problems.append(problem)
        mine = bind_many(10)
        threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        def child():
            check_many(mine)
            check_many(bind_many(20, seed=77), seed=77)
        try:
            for _ in range(15):
                wait = fork(child)
                check_many(mine)
                wait()
        finally:
            is_over = True
        for thread in threads:
            thread.join()
        assert not problems, problems
        check_many(mine)
        end()
    """)


def test_a_gate_that_runs_while_the_process_forks(run: Callable[[str], None]) -> None:
    run("""
        scope = cg.load(library_path, "void open_door(void); int waiting_count(void);", engine=engine)
        waits = cg.load(library_path, "long wait_and_sum(const unsigned char *data, size_t count, long start);",
                        blocking=True, engine=engine).wait_and_sum
        told = []
        thread = threading.Thread(target=lambda: told.append(waits(b"abc", 3, 0)))
        thread.start()
        while not scope.waiting_count():
            time.sleep(0.001)
        def child():
            global waits
            waits = None
            check_many(bind_many(30), 0)
            scope.open_door()
        fork(child)()
        assert not told
        scope.open_door()
        thread.join()
        assert told == [97 + 98 + 99]
        end()
    """)


@pytest.mark.parametrize("what", ["a callback", "a first stack", "a stack"])
def test_a_fork_while_another_thread_makes_what_there_is_one_lock_for(
    run: Callable[[str], None], engine: str, what: str
) -> None:
    """The child makes its own."""
    if engine == "ctypes" and what != "a callback":
        pytest.skip("the ctypes engine makes no stacks")
    program = """
        import signal
        from callgate.runtime import ctypes_callbacks, stack
        from callgate.runtime.engine import choose
        is_making, goes_on = threading.Event(), threading.Event()
        def slow(*given):
            if threading.current_thread() is thread:
                is_making.set()
                assert goes_on.wait(60)
            return real(*given)
        def make():
            if what == "a callback":
                def triple(n: i32) -> i32:
                    return 3 * n
                back = cg.callback(triple, engine=engine)
                assert ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int)(back.address)(5) == 15
            else:
                assert cg.load("c").function(stack_bytes=1 << 16, engine=engine)(labs)(-5) == 5
        def labs(n: cg.long) -> cg.long: ...
        class Nodes(list):
            def append(self, node):
                slow(node)
        native = choose(engine)
        if what == "a callback":
            place, name = (ctypes_callbacks, "make_closure") if native is None else (native, "install_callback")
        elif what == "a first stack":
            place, name = stack._Watch, "__init__"
        else:
            kept = cg.load("c").function(stack_bytes=1 << 16, engine=engine)(labs)
            place, name, stack._nodes = stack, "nodes_append", Nodes(stack._nodes)
        real = getattr(place, name, lambda node: None)
        setattr(place, name, slow)
        thread = threading.Thread(target=make)
        thread.start()
        assert is_making.wait(60)
        def child():
            signal.alarm(60)
            make()
        wait = fork(child)
        goes_on.set()
        thread.join()
        wait()
        make()
        end()
    """
    run(f"what = {what!r}\n{dedent(program)}")
