"""Sub-interpreters: gates work in them, callbacks are refused."""

from __future__ import annotations

import sys

import pytest
from children import run_child

from callgate.target import IS_CPYTHON

if not IS_CPYTHON or sys.platform == "win32":
    pytest.skip("the interpreters here are CPython's on POSIX systems", allow_module_level=True)

PROGRAM = """
import sys
kind, engine = sys.argv[1:]
code = f'''
engine = {engine!r}
try:
    import callgate as cg
    from callgate import f64, i32, cstr, usize
    from collections.abc import Callable
    libc = cg.load("c", "int abs(int x); size_t strlen(const char *s); double atof(const char *s);", engine=engine)
    print(libc.abs(-4), libc.strlen("text"), libc.atof(b"2.5"), libc.abs.__self__.engine)
    try:
        libc.abs("x")
    except TypeError:
        print("TypeError")
    def back(x: i32) -> i32: return x
    try:
        cg.callback(back, engine=engine).address
    except cg.EngineError as problem:
        print(problem)
except ImportError as problem:
    print("ImportError", problem)
'''
if sys.version_info >= (3, 13):
    import _interpreters
    number = _interpreters.create(kind)
    problem = _interpreters.exec(number, code)
    _interpreters.destroy(number)
else:
    import _xxsubinterpreters
    number = _xxsubinterpreters.create(isolated=kind == "isolated")
    problem = _xxsubinterpreters.run_string(number, code)
    _xxsubinterpreters.destroy(number)
print(problem)
"""


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_a_sub_interpreter(kind: str, engine: str) -> None:
    out, _ = run_child(PROGRAM, kind, engine)
    if kind == "isolated" and sys.version_info[:2] == (3, 12):
        assert out == "ImportError module _ctypes does not support loading in subinterpreters\nNone\n"
        return
    assert out == (
        f"4 4 2.5 {engine}\nTypeError\n"
        "back() cannot be called by C in a sub-interpreter, for threads that come from C belong to the main one: make "
        "callbacks in the main interpreter, or in a process of its own\nNone\n"
    )
