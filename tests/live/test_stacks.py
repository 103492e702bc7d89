"""Calls on stacks of their own: that they are there, that Python is not, who may use one when, overflows."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import run_child

import callgate as cg
from callgate import Array, DeclarationError, Out, Struct, f64, i32, i64, longdouble, raw
from callgate.runtime.engine import choose
from callgate.target import DATA_MODEL

SOURCE = Path(__file__).with_name("stacks.c")
SIZE = 1 << 16
IN_USE = (
    "{name}() is running on its stack already, in another thread or further out in this one; for more than one call at "
    "a time declare it once for each, or without stack_bytes="
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="stacks of their own are made on Linux")
native_only = pytest.mark.skipif(choose(None) is None, reason="ctypes calls on the thread's own stack")


@pytest.fixture(scope="module")
def path(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE, ("-O1",)))


@pytest.fixture
def library(engine: str, path: str) -> Any:
    return cg.load(path, engine=engine)


def deep(levels: i64) -> i64: ...
def here() -> i64: ...
def call_each(f: Callable[[i64], i64], count: i64) -> i64: ...
def split(n: i64, high: Out[i64], low: Out[i64]) -> None: ...
def long_double_sum(a: longdouble, b: longdouble) -> i64: ...


class large(Struct):
    a: i64
    b: i64
    c: i64
    d: i64


class four(Struct):
    a: f64
    b: f64
    c: f64
    d: f64


class pair(Struct):
    x: f64
    n: i64


Every = Callable[[i64, i64, i64, i64, i64, i64, i64, f64, large, pair], large]


def every_kind(
    a: f64, b: f64, c: f64, d: f64, e: f64, f: f64, g: f64, h: f64, i: f64, j: i32, large_: large, p: pair, cb: Every
) -> f64: ...
def turned(whole: large) -> large: ...
def sum_four(f: Callable[[i64], four], n: i64) -> f64: ...


# -- gates ---------------------------------------------------------------------------------------------
@on_linux
@native_only
def test_c_is_on_the_stack_and_comes_back(path: str) -> None:
    library = cg.load(path)
    plain, own = library.function(here), library.function(stack_bytes=SIZE)(here)
    before = plain()
    assert abs(before - own()) > SIZE
    assert cg.gate(own).stack.size_bytes == SIZE
    assert abs(plain() - before) < SIZE


def test_recursion_deeper_than_a_small_thread(library: Any) -> None:
    function = library.function(stack_bytes=64 << 20)(deep)
    if cg.gate(function).engine == "ctypes":
        assert function(100) == 100
        return
    results: list[int] = []
    threading.stack_size(1 << 18)
    try:
        thread = threading.Thread(target=lambda: results.append(function(20_000)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
    assert results == [20_000]


@pytest.mark.parametrize("blocking", [False, True])
def test_arguments_and_results_of_every_kind(library: Any, blocking: bool) -> None:
    """In registers and on the stack, there and back, and in a callback."""
    if DATA_MODEL.architecture == "aarch64" and cg.gate(library.function(deep)).engine == "ctypes":
        pytest.skip("closures of ctypes do not give the register in which a large result's address comes")
    given: list[Any] = []

    def back(*words: Any) -> large:
        *numbers, whole, p = words
        given.append((numbers, (whole.a, whole.b, whole.c, whole.d), (p.x, p.n)))
        return large(5, 0, 0, 7)

    options = {"stack_bytes": SIZE, "blocking": blocking}
    function = library.function(**options)(every_kind)
    floats = [float(number) for number in range(9)]
    result = function(*floats, 10, large(1, 2, 3, 4), pair(1.5, 2), back)
    assert result == 36 + 10 + 5 + 3.5 + 500 + 7000
    assert given == [([1, 2, 3, 4, 5, 6, 7, 8.5], (1, 2, 3, 4), (1.5, 2))]
    made = library.function(**options)(turned)(large(1, 2, 3, 4))
    assert (made.a, made.b, made.c, made.d) == (4, 3, 2, 1)
    assert library.function(**options)(split)(45) == (4, 5)
    if DATA_MODEL.architecture != "aarch64":  # where gates do not move 16 bytes of long double yet
        assert library.function(**options)(long_double_sum)(1.25, 2.75) == 4


@pytest.mark.parametrize("blocking", [False, True])
def test_callbacks_run_python_on_the_threads_stack(library: Any, blocking: bool) -> None:
    """Python code of any depth, from a stack that has no room for it."""
    function = library.function(stack_bytes=1 << 14, blocking=blocking)(call_each)

    def recursive(levels: int) -> int:
        return 0 if not levels else 1 + sorted([recursive(levels - 1)], key=lambda one: one)[0]

    assert function(lambda number: recursive(50) + number, 4) == 206
    assert function(lambda number: function_of_another(lambda inner: inner + number, 3), 3) == 18


ENDLESS = """
import sys, threading
from collections.abc import Callable
import callgate as cg
from callgate import i64

@cg.load(sys.argv[1]).function(stack_bytes=1 << 14)
def call_each(f: Callable[[i64], i64], count: i64) -> i64: ...

def python(number):
    return python(number + 1)

def through_c(number):
    return sorted([number], key=through_c)[0]

def try_both():
    for endless in (python, through_c):
        try:
            call_each(endless, 2)
        except RecursionError:
            print(endless.__name__, call_each(lambda number: number, 3))

try_both()
threading.stack_size(1 << 23)  # glibc's; the recursion limit means more than what musl gives
thread = threading.Thread(target=try_both)
thread.start()
thread.join()
"""


def test_endless_recursion_in_a_callback_is_a_recursion_error(engine: str, path: str) -> None:
    """Python measures the stack it runs on (from 3.14 on by the stack pointer): the thread's, not that of the call."""
    out, _ = run_child(ENDLESS, path, CALLGATE_ENGINE=engine)
    assert out == "python 3\nthrough_c 3\n" * 2


def function_of_another(f: Callable[[int], int], count: int) -> int:
    return sum(f(number) for number in range(count))


def test_a_callback_that_returns_four_words_in_registers(library: Any) -> None:
    """As 64-bit Arm does with floats: all of them go back to where C waits."""
    function = library.function(stack_bytes=SIZE)(sum_four)
    if DATA_MODEL.architecture == "aarch64" and cg.gate(function).engine == "ctypes":
        pytest.skip("closures of ctypes return no floats in four registers")
    assert function(lambda n: four(n, 2, 3, 4), 1) == 4321


def test_an_exception_of_a_callback(library: Any) -> None:
    function = library.function(stack_bytes=SIZE)(call_each)
    with pytest.raises(ZeroDivisionError):
        function(lambda number: 1 // number, 3)
    assert function(lambda number: number, 3) == 3


def test_re_entry_is_refused(library: Any) -> None:
    function = library.function(stack_bytes=SIZE)(call_each)
    with pytest.raises(RuntimeError) as caught:
        function(lambda number: function(lambda inner: inner, 2), 2)
    assert str(caught.value) == IN_USE.format(name="call_each")
    assert function(lambda number: number, 3) == 3


def test_another_function_in_a_callback(library: Any) -> None:
    """Stacks in use nest."""
    outer, inner = (library.function(stack_bytes=SIZE)(call_each) for _ in range(2))
    assert outer(lambda number: inner(lambda one: one + number, 3), 3) == 18


def test_two_threads_at_once_are_refused(library: Any) -> None:
    function = library.function(stack_bytes=SIZE, blocking=True)(call_each)
    entered, leave = threading.Event(), threading.Event()

    def wait(number: int) -> int:
        entered.set()
        assert leave.wait(60)
        return number

    thread = threading.Thread(target=lambda: function(wait, 1))
    thread.start()
    try:
        assert entered.wait(60)
        with pytest.raises(RuntimeError) as caught:
            function(lambda number: number, 2)
        assert str(caught.value) == IN_USE.format(name="call_each")
    finally:
        leave.set()
        thread.join()
    assert function(lambda number: number, 3) == 3


def test_one_after_the_other_from_many_threads(library: Any) -> None:
    function = library.function(stack_bytes=SIZE)(deep)
    results: list[int] = []
    for _ in range(20):
        thread = threading.Thread(target=lambda: results.append(function(20)))
        thread.start()
        thread.join()
    assert results == [20] * 20


def test_bad_arguments_leave_the_stack_free(library: Any) -> None:
    function = library.function(stack_bytes=SIZE)(deep)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^deep\(\) argument 1 must be int, not str$"):
            function("x")
    assert function(3) == 3


SIZES = [
    (5, "a stack needs at least 16384 bytes, not 5"),
    (-1, "a stack needs at least 16384 bytes, not -1"),
    (1.5, "a stack's size must be an int of bytes, not float"),
    ("64k", "a stack's size must be an int of bytes, not str"),
    (True, "a stack's size must be an int of bytes, not bool"),
]


@pytest.mark.parametrize(("size", "text"), SIZES, ids=lambda case: repr(case)[:12])
def test_bad_sizes(library: Any, size: Any, text: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        library.function(stack_bytes=size)(deep)
    assert str(caught.value) == f"deep(): stack_bytes={size!r}: {text}"
    kind = ValueError if isinstance(size, int) and size is not True else TypeError
    with pytest.raises(kind) as bare:
        cg.Stack(size)
    assert type(bare.value) is kind
    assert str(bare.value) == text


@pytest.mark.parametrize("size", [1 << 50, 1 << 70])
def test_no_room(size: int) -> None:
    with pytest.raises(MemoryError) as caught:
        cg.Stack(size)
    assert str(caught.value) == f"there is no room for a stack of {size} bytes"


def test_arguments_that_fill_the_stack(library: Any) -> None:
    class page(Struct):
        data: Array[i64] = cg.field(length=500)

    def large_argument(p: page) -> i64: ...

    with pytest.raises(DeclarationError) as caught:
        library.function(symbol="here", stack_bytes=1 << 14)(large_argument)
    assert str(caught.value) == ("large_argument(): stack_bytes=16384 is too little for its arguments: 20384 at least")


def test_gates_give_their_stacks_back(library: Any) -> None:
    """Without it, address space is gone: 2000 stacks of 256 MiB are more than half a terabyte."""
    for _ in range(2000):
        assert library.function(stack_bytes=1 << 28)(deep)(2) == 2


# -- Stack ---------------------------------------------------------------------------------------------
def test_stack_tells_its_size() -> None:
    stack = cg.Stack(20_000)
    assert stack.size_bytes % 4096 == 0
    assert 20_000 <= stack.size_bytes < 20_000 + 65_536
    assert not stack.is_in_use
    assert repr(stack) == f"<stack of {stack.size_bytes} bytes, free>"


def test_stack_is_no_base_class_and_does_not_pickle() -> None:
    import pickle

    with pytest.raises(TypeError, match=r"^Stack cannot be a base class$"):
        type("Mine", (cg.Stack,), {})
    with pytest.raises(TypeError, match=r"^cannot pickle a Stack: it is memory of this process$"):
        pickle.dumps(cg.Stack(SIZE))


def test_a_stack_is_made_once_and_whole() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'size_bytes'"):
        cg.Stack.__new__(cg.Stack)  # type: ignore[call-arg]
    stack = cg.Stack(SIZE)
    node = stack.node
    stack.__init__(SIZE)  # type: ignore[misc]
    assert stack.node == node


@native_only
def test_a_stack_without_memory_of_its_own_is_refused(path: str) -> None:
    """As one is that was made while ctypes was asked for, or by object.__new__."""
    out, _ = run_child(
        """
        import os, sys
        import callgate as cg
        from callgate import raw
        address = cg.gate(cg.load(sys.argv[1], "long here(void);").here).address
        os.environ["CALLGATE_ENGINE"] = "ctypes"
        other = cg.Stack(1 << 16)
        del os.environ["CALLGATE_ENGINE"]
        for stack in (other, object.__new__(cg.Stack)):
            try:
                raw.call_on(stack, address)
            except TypeError as problem:
                print(problem)
        """,
        path,
    )
    assert out.splitlines() == [
        "call_on() argument 1 must be a Stack with memory of its own; this one was made while ctypes was asked for",
        "call_on() argument 1 must be a Stack that Stack(size_bytes) made",
    ]


def test_call_on_refuses_a_stack_in_use(path: str) -> None:
    stack = cg.Stack(SIZE)
    library = cg.load(path)
    address = cg.gate(library.function(here)).address
    call_each_address = cg.gate(library.function(call_each)).address
    caught: list[str] = []

    @cg.callback
    def again(number: i64) -> i64:
        assert stack.is_in_use
        try:
            raw.call_on(stack, address)
        except RuntimeError as error:
            caught.append(str(error))
        return number

    assert raw.call_on(stack, call_each_address, again.address, 2) == 1
    assert (
        caught
        == [
            "raw.call_on(): a call is running on this Stack already, in another thread or further out in this one; make a "
            "Stack for each"
        ]
        * 2
    )
    assert not stack.is_in_use


@on_linux
@native_only
def test_memory_goes_with_the_last_reference() -> None:
    def mapped_kib() -> int:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmSize"))

    gc.collect()
    before = mapped_kib()
    stacks = [cg.Stack(1 << 30) for _ in range(8)]
    assert mapped_kib() - before >= 8 << 20
    del stacks
    assert mapped_kib() - before < 1 << 20


@on_linux
@native_only
def test_not_while_it_is_in_use(path: str) -> None:
    """The arguments of the call hold it."""
    stacks = [cg.Stack(SIZE)]
    library = cg.load(path)
    address = cg.gate(library.function(call_each)).address

    @cg.callback
    def drop(number: i64) -> i64:
        stacks.clear()
        gc.collect()
        return number

    assert raw.call_on(stacks[0], address, drop.address, 3) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@native_only
def test_a_forked_child_has_the_stacks_of_other_threads_free(path: str) -> None:
    out, _ = run_child(
        """
        import os, sys, threading
        import callgate as cg
        from callgate import i64
        from collections.abc import Callable

        library = cg.load(sys.argv[1])

        @library.function(stack_bytes=1 << 16, blocking=True)
        def call_each(f: Callable[[i64], i64], count: i64) -> i64: ...

        entered, leave = threading.Event(), threading.Event()

        def wait(number):
            entered.set()
            leave.wait(60)
            return number

        thread = threading.Thread(target=lambda: call_each(wait, 1))
        thread.start()
        entered.wait(60)
        child = os.fork()
        if not child:
            os._exit(call_each(lambda number: number + 1, 3))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        leave.set()
        thread.join()
        """,
        path,
    )
    assert out == "6\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@native_only
@pytest.mark.parametrize(
    "calls", ["lambda n: call_each(change, n)", "lambda n: raw.call_on(stack, address, change.address, n)"]
)
def test_a_stack_is_the_callers_although_another_thread_used_it_last(path: str, calls: str) -> None:
    """An argument lets another thread use the stack; the child that the call then forks still runs on it."""
    out, _ = run_child(
        f"""
        import os, sys, threading
        import callgate as cg
        from callgate import i64, raw
        from collections.abc import Callable

        library = cg.load(sys.argv[1])
        stack = cg.Stack(1 << 16)

        @library.function(stack_bytes=1 << 16)
        def call_each(f: Callable[[i64], i64], count: i64) -> i64: ...

        address = cg.gate(call_each).address
        children = []

        @cg.callback
        def change(number: i64) -> i64:
            children.append(os.fork())
            if not children[-1]:
                try:
                    call(0)
                except RuntimeError:
                    os._exit(7)
            return number

        class Late:
            def __index__(self):
                thread = threading.Thread(target=lambda: call(0))
                thread.start()
                thread.join()
                return 1

        call = {calls}
        call(0)
        call(Late())
        print(os.waitstatus_to_exitcode(os.waitpid(children[-1], 0)[1]))
        """,
        path,
    )
    assert out == "7\n"


# -- overflows -----------------------------------------------------------------------------------------
OVERFLOW = """
import faulthandler, sys, threading
import callgate as cg
from callgate import i64, raw

faulthandler.disable()
library = cg.load(sys.argv[1])
@library.function(stack_bytes=1 << 17)
def deep(levels: i64) -> i64: ...
plain = cg.gate(deep).address
{before}
assert deep(50) == 50
print("fits", flush=True)
{last}
"""
MESSAGE = "callgate: deep() overflowed its stack of 131072 bytes; it needs a larger stack_bytes=\n"


def overflow(path: str, last: str, before: str = "") -> str:
    program = OVERFLOW.format(before=before, last=last)
    out, error = run_child(program, path, status=-signal.SIGSEGV)
    assert out == "fits\n"
    return without_qemu(error)


def without_qemu(error: str) -> str:
    """What the program wrote: an emulator adds a line of its own."""
    return "".join(line for line in error.splitlines(keepends=True) if not line.startswith("qemu: "))


@on_linux
@native_only
def test_an_overflow_names_the_gate(path: str) -> None:
    assert overflow(path, "deep(10**6)") == MESSAGE


@on_linux
@native_only
def test_an_overflow_in_a_thread(path: str) -> None:
    """The thread got a stack for signal handlers when it first used the gate."""
    assert overflow(path, "t = threading.Thread(target=deep, args=(10**6,)); t.start(); t.join()") == MESSAGE


@on_linux
@native_only
def test_an_overflow_in_a_raw_call(path: str) -> None:
    text = "callgate: a raw call overflowed its Stack of 65536 bytes; it needs a larger Stack\n"
    assert overflow(path, "raw.call_on(cg.Stack(1 << 16), plain, 10**6)") == text


FAULTHANDLER_FIRST = """
import faulthandler, sys
import callgate as cg
from callgate import i64

assert faulthandler.is_enabled()
@cg.load(sys.argv[1]).function(stack_bytes=1 << 17)
def deep(levels: i64) -> i64: ...
{last}
"""


@on_linux
@native_only
def test_faulthandler_prints_where(path: str) -> None:
    """It was there first: the message, then its traceback."""
    _, error = run_child(FAULTHANDLER_FIRST.format(last="deep(10**6)"), path, status=-signal.SIGSEGV)
    assert error.startswith(MESSAGE + "Fatal Python error: Segmentation fault\n")
    assert 'File "<string>", line ' in error


@on_linux
@native_only
def test_other_faults_are_as_before(path: str) -> None:
    """The handler passes on what is no overflow of a Stack."""
    _, error = run_child(
        FAULTHANDLER_FIRST.format(last="import ctypes; ctypes.string_at(8)"), path, status=-signal.SIGSEGV
    )
    assert error.startswith("Fatal Python error: Segmentation fault\n")
    program = OVERFLOW.format(before="", last="import ctypes; ctypes.string_at(8)")
    out, error = run_child(program, path, status=-signal.SIGSEGV)
    assert (out, without_qemu(error)) == ("fits\n", "")
    program = OVERFLOW.format(before="", last="import os, signal; os.kill(os.getpid(), signal.SIGSEGV); print('on')")
    out, error = run_child(program, path, status=-signal.SIGSEGV)
    assert (out, without_qemu(error)) == ("fits\n", "")


@on_linux
@native_only
def test_no_handler_without_a_stack(path: str) -> None:
    out, _ = run_child(
        """
        import ctypes, sys
        import callgate as cg
        from callgate import raw

        def handler():
            action = (ctypes.c_uint64 * 32)()
            ctypes.CDLL(None).sigaction(11, None, action)
            return action[0]

        before = handler()
        library = cg.load(sys.argv[1], "long here(void);")
        raw.call(cg.gate(library.here).address)
        assert handler() == before
        cg.Stack(1 << 16)
        assert handler() != before
        print("ok")
        """,
        path,
    )
    assert out == "ok\n"
