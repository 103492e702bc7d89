"""Many threads at once bind, call, drop, create callbacks and close them under others that call them.

The program runs in an interpreter of its own, with `faulthandler` and a time limit: what goes wrong here crashes or
hangs.  On a free-threaded build the threads truly run at once, and do more rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from children import run_child

from callgate.target import IS_FREE_THREADED

LIBRARY = """
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
struct pair { long a; double b; };
typedef int function_int(int);
int add(int a, int b) { return a + b; }
double half(double x) { return x / 2; }
int nap(int us) { usleep(us); return us; }
long sum(const unsigned char *data, size_t size) { long s = 0; for (size_t i = 0; i < size; i++) s += data[i]; return s; }
size_t length(const char *text) { size_t n = 0; while (text[n]) n++; return n; }
struct pair swap(struct pair p) { struct pair q = {(long)p.b, (double)p.a}; return q; }
void both(long x, long *twice, double *third) { *twice = 2 * x; *third = x / 3.0; }
int call(function_int *f, int x) { return f(x); }
int call_at(long address, int x) { return ((function_int *)address)(x); }
long triple(long x) { return 3 * x; }
int print(char *buffer, size_t size, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int count = vsnprintf(buffer, size, format, list);
    va_end(list);
    return count;
}
"""

PROGRAM = """
import ctypes, faulthandler, gc, random, sys, threading, time
faulthandler.dump_traceback_later(100, exit=True)
import callgate as cg
from callgate import Array, Callback, Out, Readable, Struct, VarArg, Writable, cstr, f64, i8, i32, i64, raw, u8, usize
from collections.abc import Callable

path, engine, threads, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.setswitchinterval(1e-5)
problems, offered, kept = [], [], []

class pair(Struct):
    a: i64
    b: f64

def declared():
    library = cg.load(path, engine=engine)
    def add(a: i32, b: i32) -> i32: ...
    def half(x: f64) -> f64: ...
    def nap(us: i32) -> i32: ...
    def sum(data: Readable[u8], size: usize) -> i64: ...
    def length(text: cstr) -> usize: ...
    def swap(p: pair) -> pair: ...
    def both(x: i64, twice: Out[i64], third: Out[f64]) -> None: ...
    def call(f: Callable[[i32], i32], x: i32) -> i32: ...
    def call_at(address: i64, x: i32) -> i32: ...
    def print(buffer: Writable[i8], size: usize, format: cstr, *values: VarArg) -> i32: ...
    functions = add, half, nap, sum, length, swap, both, call, call_at, print
    return {f.__name__: library.function(blocking=f.__name__ == "nap")(f) for f in functions}

common = declared()
triple = ctypes.cast(ctypes.CDLL(path).triple, ctypes.c_void_p).value
stack = cg.Stack(1 << 16)

class Mine(Exception):
    pass

def expect(thing, wanted):
    if thing != wanted:
        raise AssertionError(f"{thing!r} where {wanted!r} was expected")

def plain(f, number, turn):
    expect(f["add"](number, turn), number + turn)
    expect(f["add"](-number, 1 << 30), (1 << 30) - number)
    expect(f["half"](float(turn)), turn / 2)
    expect(f["nap"](number), number)
    expect(f["sum"](bytes([number]) * turn, turn), number * turn)
    expect(f["sum"]([number] * turn, turn), number * turn)
    expect(f["sum"](bytearray([number]) * turn, turn), number * turn)
    expect(f["length"]("\\u00e9" * turn), 2 * turn)
    given = f["swap"](pair(number, turn))
    expect((given.a, given.b), (turn, float(number)))
    expect(f["both"](turn), (2 * turn, turn / 3.0))
    for wrong in ((), (1,), ("x", 1), (1 << 40, 1)):
        try:
            f["add"](*wrong)
        except (TypeError, OverflowError):
            continue
        raise AssertionError(f"add{wrong} was taken")

def variadic(f, number, turn):
    choices = [(number, b"%d"), (number + 0.5, b"%.1f"), (b"text", b"%s"), (ctypes.c_longlong(1 << 40), b"%lld")]
    random.Random(number * 1000 + turn).shuffle(choices)
    values, formats = zip(*choices[:1 + turn % 4])
    room = ctypes.create_string_buffer(200)
    count = f["print"](room, 200, b" ".join(formats), *values)
    wanted = b" ".join(formats).replace(b"%lld", b"%d") % tuple(getattr(v, "value", v) for v in values)
    expect((room.value, count), (wanted, len(wanted)))

def calling_back(f, number, turn):
    expect(f["call"](lambda x: x + number, turn), turn + number)
    def fails(x):
        raise Mine(number, x)
    try:
        f["call"](fails, turn)
    except Mine as problem:
        expect(problem.args, (number, turn))
    else:
        raise AssertionError("nothing was raised")
    expect(f["call"](lambda x: f["call"](lambda y: y * 2, x) + 1, turn), 2 * turn + 1)

def closing(f, number, turn):
    '''Callbacks of all threads, called by all, closed and dropped by their owners meanwhile.'''
    def back(x: i32) -> i32:
        return x + 1
    mine = cg.callback(back, engine=engine)
    offered.append(mine.address)
    for address in offered[-threads:]:
        try:
            expect(f["call_at"](address, turn), turn + 1)
        except RuntimeError as problem:
            assert "was called by C after it was" in str(problem), problem
    if number % 2 or engine == "ctypes":
        mine.close()
    if engine == "ctypes":  # frees the closure, which C must not call
        kept.append(mine)

def on_a_stack(f, number, turn):
    try:
        expect(raw.call_on(stack, triple, turn), 3 * turn)
    except RuntimeError as problem:
        assert "a call is running on this Stack already" in str(problem), problem
    own = cg.Stack(1 << 15)
    expect(raw.call_on(own, triple, turn), 3 * turn)

def work(number):
    try:
        start.wait()
        for turn in range(1, rounds + 1):
            own = declared()
            for f in (own, common):
                plain(f, number, turn)
                variadic(f, number, turn)
                calling_back(f, number, turn)
                closing(f, number, turn)
            on_a_stack(own, number, turn)
            del own, f
            if turn % 16 == number:
                gc.collect()
    except BaseException as problem:
        import traceback
        problems.append("".join(traceback.format_exception(problem)))

start = threading.Barrier(threads)
running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
for thread in running: thread.start()
for thread in running: thread.join()
print(len(problems), "problems", *problems[:3])
"""


def test_everything_at_once(build_library: Callable[..., Path], engine: str) -> None:
    threads, rounds = (8, 40) if IS_FREE_THREADED else (4, 8)
    out, _ = run_child(PROGRAM, str(build_library(LIBRARY)), engine, str(threads), str(rounds), timeout_s=110)
    assert out == "0 problems\n"
