"""The functions of callbacks.c, declared by lines of text."""

# ruff: noqa: F401  (the declarations are text)

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import callgate as cg
from callgate import (
    Array,
    Callback,
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    Struct,
    VarArg,
    Writable,
    f32,
    f64,
    i8,
    i32,
    i64,
    longdouble,
    u8,
    u16,
    u64,
    usize,
)

SOURCE = Path(__file__).with_name("callbacks.c")
F = Callable[[i32], i32]
K = Callback[[i32], i32]


class thing(Opaque):
    """A struct of the library."""


class small(Struct):
    a: i32
    b: f32


class two(Struct):
    a: i64
    b: f64


class floats(Struct):
    a: f64
    b: f64


class big(Struct):
    words: Array[i64] = cg.field(length=5)


class Color(enum.IntEnum):
    RED = 3
    GREEN = 300


class Problem(Exception):
    """An exception of the tests' own."""


Bind = Callable[..., Any]


def binder(path: object, engine: str) -> Bind:
    """`bind("call(f: F, x: i32) -> i32", **options)` declares a function of the library."""
    library = cg.load(str(path), engine=engine)

    def bind(declaration: str, **options: Any) -> Any:
        scope: dict[str, Any] = {}
        exec(f"def {declaration}: ...", globals(), scope)
        (function,) = scope.values()
        return library.function(**options)(function)

    return bind


class Nothing:
    """What can be referred to weakly."""
