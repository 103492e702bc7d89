"""C++: an exception that would leave a gate or a callback ends the process with a message; one that is caught does not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import run_child

COMPILER = os.environ.get("CALLGATE_CXX", "g++")
pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"no C++ compiler: {COMPILER} is not on the PATH"
)

SOURCE = r"""
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <unistd.h>

struct Guard {
    bool &is_destroyed;
    explicit Guard(bool &flag) : is_destroyed(flag) { flag = false; }
    ~Guard() { is_destroyed = true; }
};
static bool is_destroyed;

extern "C" {
int throw_error(int x) {
    if (x) throw std::runtime_error("thrown " + std::to_string(x));
    return 7;
}
void throw_int(void) { throw 5; }
double throw_after(double x) { if (x > 0) throw std::out_of_range("too large"); return x; }
struct big { long words[5]; };
struct big throw_big(int x) { throw x; }
long throw_many(long, long, long, long, long, long, long h, double, long i) { throw h + i; }
int throw_variadic(const char *, ...) { throw std::runtime_error("variadic"); }
const char *throw_text(const char *text, int *out) { *out = 1; throw std::string(text); }
int catch_own(int x) {
    try {
        Guard guard(is_destroyed);
        return throw_error(x);
    } catch (const std::runtime_error &) {
        return is_destroyed ? -x : -1000;
    }
}
/* The exception would go through whatever f is. */
int call_and_catch(int (*f)(int), int x) {
    try {
        return f(x);
    } catch (const std::runtime_error &) {
        return -2;
    }
}
/* f returns before anything is thrown. */
int call_then_throw(int (*f)(int), int x) {
    try {
        Guard guard(is_destroyed);
        x = f(x);
        throw std::runtime_error("after the callback");
    } catch (const std::runtime_error &) {
        return is_destroyed ? x : -1000;
    }
}
static void *thread(void *f) {
    ((int (*)(int))f)(3);
    return 0;
}
int in_thread(int (*f)(int)) {
    pthread_t id;
    if (pthread_create(&id, 0, thread, (void *)f)) return -1;
    return pthread_join(id, 0);
}
static void *leaving(void *f) {
    int result = ((int (*)(int))f)(3);
    pthread_exit((void *)(long)result);
}
/* A thread that ends itself by unwinding, but not through anything of Python's. */
long ended_by_itself(int (*f)(int)) {
    pthread_t id;
    void *result = 0;
    if (pthread_create(&id, 0, leaving, (void *)f)) return -1;
    pthread_join(id, &result);
    return (long)result;
}
}
"""

PREAMBLE = """
    import sys, threading
    from collections.abc import Callable
    import callgate as cg
    from callgate import f64, i32, i64
    library = cg.load(sys.argv[1], engine=sys.argv[2])

    def bind(annotations, name, **options):
        scope = dict(globals())
        exec(f"def {name}{annotations}: ...", scope)
        return library.function(**options)(scope[name])

    class big(cg.Struct):
        words: cg.Array[i64] = cg.field(length=5)

    F = Callable[[i32], i32]
    throw_error = bind("(x: i32) -> i32", "throw_error")
    call_and_catch = bind("(f: F, x: i32) -> i32", "call_and_catch")
"""


@pytest.fixture(scope="module")
def cxx(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the built library."""
    folder = tmp_path_factory.mktemp("cxx")
    source, library = folder / "throws.cpp", folder / "libthrows.so"
    source.write_text(SOURCE)
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-pthread", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{COMPILER} cannot build a library: {done.stderr[-500:]}")
    return str(library)


Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(engine: str, cxx: str) -> Run:
    def run(program: str, status: int = 0) -> tuple[str, str]:
        return run_child(dedent(PREAMBLE) + dedent(program), cxx, engine, status=status, PYTHONUNBUFFERED="1")

    return run


def names_the_gate(err: str, name: str, cxx: str) -> None:
    """The message says which function of which library threw."""
    assert f"{name}()" in err, err
    assert Path(cxx).name in err, err


MANY = ", ".join(f"x{number}: {'f64' if number == 7 else 'i64'}" for number in range(9))
THROWING = {
    "plain": ("throw_error", "throw_error(3)"),
    "blocking": ("throw_error", 'bind("(x: i32) -> i32", "throw_error", blocking=True)(3)'),
    "errno": ("throw_error", 'bind("(x: i32) -> i32", "throw_error", fails_if="negative")(3)'),
    "no arguments": ("throw_int", 'bind("() -> None", "throw_int")()'),
    "floats": ("throw_after", 'bind("(x: f64) -> f64", "throw_after")(1.5)'),
    "struct": ("throw_big", 'bind("(x: i32) -> big", "throw_big")(1)'),
    "arguments on the stack": ("throw_many", f'bind("({MANY}) -> i64", "throw_many")(1, 2, 3, 4, 5, 6, 7, 0.5, 8)'),
    "variable arguments": (
        "throw_variadic",
        'bind("(x: cg.cstr, *rest: cg.VarArg) -> i32", "throw_variadic")("x", 1, 0.5)',
    ),
    "a buffer and an out": ("throw_text", 'bind("(x: cg.cstr, out: cg.Out[i32]) -> str", "throw_text")("some text")'),
    "C text": ("throw_error", 'cg.load(sys.argv[1], "int throw_error(int x);", engine=sys.argv[2]).throw_error(3)'),
    "accelerated": (
        "throw_error",
        "import ctypes\nold = ctypes.CDLL(sys.argv[1])\nold.throw_error.argtypes = [ctypes.c_int]\n"
        "assert cg.accelerate(old).fast\nold.throw_error(3)",
    ),
    "slow path": ("throw_error", "throw_error(True)"),
    "keywords": ("throw_error", "throw_error(x=3)"),
    "caught in Python": ("throw_error", "\ntry:\n    throw_error(3)\nexcept BaseException:\n    print('caught')"),
    "another thread": ("throw_error", "t = threading.Thread(target=throw_error, args=(3,)); t.start(); t.join()"),
}


@pytest.mark.parametrize("kind", THROWING)
def test_an_exception_out_of_a_gate(run: Run, engine: str, cxx: str, kind: str) -> None:
    if engine == "ctypes" and kind not in ("plain", "blocking"):
        return  # it calls as ctypes does
    name, program = THROWING[kind]
    out, err = run("print(throw_error(0))\n" + program + "\nprint('went on')\n", status=-signal.SIGABRT)
    assert out == "7\n"
    if engine == "native":
        names_the_gate(err, name, cxx)


def test_caught_inside(run: Run) -> None:
    out, err = run(
        """
        catch_own = bind("(x: i32) -> i32", "catch_own")
        print(catch_own(0), catch_own(5), [catch_own(x) for x in range(1, 4)])
        print(call_and_catch(lambda x: x + 1, 4))
        then = bind("(f: F, x: i32) -> i32", "call_then_throw")
        print(then(lambda x: x + 1, 4), then(lambda x: catch_own(x), 4), then(catch_own, 4))
        try:
            then(lambda x: 1 // 0, 4)
        except ZeroDivisionError:
            print("ZeroDivisionError")
        """
    )
    assert out == "7 -5 [-1, -2, -3]\n5\n5 -4 -4\nZeroDivisionError\n"
    assert err == ""


def test_a_gate_passed_as_a_function_pointer_may_throw(run: Run) -> None:
    """C++ calls C++: there is nothing of Python's between the throw and the catch."""
    out, err = run("print(call_and_catch(throw_error, 3), call_and_catch(throw_error, 0))")
    assert (out, err) == ("-2 7\n", "")


@pytest.mark.parametrize("blocking", [False, True])
def test_through_a_callback(run: Run, engine: str, cxx: str, blocking: bool) -> None:
    """An exception thrown below a gate that a callback calls does not go on into the C++ above the callback."""
    if engine == "ctypes":
        pytest.skip("ctypes lets C++ unwind the interpreter")
    out, err = run(
        f"""
        outer = bind("(f: F, x: i32) -> i32", "call_and_catch", blocking={blocking})
        print(outer(lambda x: throw_error(0), 4))
        print(outer(lambda x: throw_error(x), 4))
        """,
        status=-signal.SIGABRT,
    )
    assert out == "7\n"
    if engine == "native":
        names_the_gate(err, "throw_error", cxx)


def test_in_a_foreign_thread(run: Run, engine: str, cxx: str) -> None:
    out, err = run(
        """
        in_thread = bind("(f: F) -> i32", "in_thread", blocking=True)
        print(in_thread(lambda x: throw_error(0)))
        in_thread(lambda x: throw_error(x))
        print("went on")
        """,
        status=-signal.SIGABRT,
    )
    assert out == "0\n"
    if engine == "native":
        names_the_gate(err, "throw_error", cxx)


def test_threads_that_end_by_unwinding(run: Run) -> None:
    out, err = run('print(bind("(f: F) -> i64", "ended_by_itself", blocking=True)(lambda x: x + 1))')
    assert (out, err) == ("4\n", "")


def test_daemon_threads_at_the_end(run: Run) -> None:
    """Before 3.14 the interpreter ends them by unwinding, through gates and callbacks: that is no exception of C++."""
    for blocking in (False, True):
        out, err = run(
            f"""
            import time
            then = bind("(f: F, x: i32) -> i32", "call_then_throw", blocking={blocking})
            done = []
            def work():
                while True:
                    then(lambda x: x, 4)
                    done.append(1)
            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            while len(done) < 20:
                time.sleep(0.001)
            print("end")
            """
        )
        assert (out, err) == ("end\n", "")
