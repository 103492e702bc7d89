"""Variadic gates: for each list of argument types a gate of its own, made once and kept.

C promotes variable arguments by their types (C11 6.5.2.2p6-7); Python's objects have types only when they come.  So a
variadic gate is a dispatcher: it compares the types of the variable arguments with those seen before and goes on in
the gate made for them.  Machine code does that for the types seen first, this module for the others.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, NoReturn

from callgate.c import names
from callgate.c.annotations import parameter_of, value_type
from callgate.c.layout import size_bytes
from callgate.c.types import (
    CHAR,
    DOUBLE,
    FLOAT,
    INT,
    VARIABLE,
    VOID,
    VOID_POINTER,
    FunctionPrototype,
    FunctionType,
    Kind,
    Parameter,
    Passing,
    Pointer,
    Scalar,
)
from callgate.errors import DeclarationError
from callgate.lower.machine import pack_variadic
from callgate.runtime import reference
from callgate.runtime.callbacks import gate_behind
from callgate.runtime.gate import Gate
from callgate.target import DATA_MODEL, IS_FREE_THREADED

MOST_ENTRIES = 32
"""How many lists of types machine code looks through; the others are found by a dict."""

_FUNCTION = Pointer(FunctionPrototype("void (*)()"))
_BYREF = type(ctypes.byref(ctypes.c_int()))


_adding = threading.RLock()  # a finalizer may call a variadic gate meanwhile


class VariadicGate(Gate):
    """The gate of a variadic function; `shapes` are the gates made so far, by the types of the variable arguments."""

    __slots__ = ("_bind", "_entries", "_replaced", "shapes")

    def __init__(self, *given: Any, bind: Callable[[FunctionType], Callable[..., Any]]) -> None:
        super().__init__(*given)
        self._bind = bind
        self.shapes: dict[tuple[object, ...], Callable[..., Any]] = {}
        self._entries: list[tuple[int, int, list[int]]] = []
        self._replaced: list[bytes] = []

    def _call_new(self, *given: object, **named: object) -> object:
        """Call with types that machine code does not know yet."""
        name, count = self.signature.name, len(self.signature.parameters)
        if named:
            self._refuse_arguments(len(given), tuple(named))
        if len(given) < count:
            raise TypeError(f"{name}() takes at least {count} argument{'s' * (count != 1)} ({len(given)} given)")
        variable = given[count:]
        # a builtin may be a gate or not: such a list of types stands for no one shape
        key = tuple(type(thing) if type(thing) is not BuiltinFunctionType else gate_behind for thing in variable)
        function = self.shapes.get(key)
        if function is None:
            function = self._new_shape(key, variable, count)
        return function(*given)

    def _refuse_arguments(self, count: int, keywords: tuple[str, ...] = ()) -> NoReturn:
        raise TypeError(f"{self.signature.name}() takes no keyword arguments")

    def _new_shape(self, key: tuple[object, ...], variable: tuple[object, ...], count: int) -> Callable[..., Any]:
        signature = self.signature
        added = tuple(
            variable_parameter(thing, f"{signature.name}() argument {number}")
            for number, thing in enumerate(variable, count + 1)
        )
        parameters = (*signature.parameters, *added)
        function = self._bind(signature._replace(parameters=parameters, positional_only=len(parameters)))
        function = self.shapes.setdefault(key, function)  # another thread may have been first
        record = getattr(function, "__self__", None)
        has_room = gate_behind not in key and len(self._entries) < MOST_ENTRIES
        if has_room and isinstance(record, Gate) and record.engine == "native":
            with _adding:
                self._entries.append((id(record), record.inside_address, [id(cls) for cls in key]))
                if IS_FREE_THREADED:
                    self._replaced.append(self._data)  # another thread may be looking through it
                self._data = pack_variadic(count, self._entries)
        return function


def variable_parameter(thing: object, where: str) -> Parameter:
    """How an object travels as a variable argument, by its type."""
    cls = type(thing)
    if isinstance(thing, names.CDATA):
        try:
            return _ctypes_parameter(cls, where)
        except DeclarationError:
            raise _refusal(thing, where) from None
    if isinstance(thing, float):
        return Parameter(VARIABLE, DOUBLE, Passing.VALUE)
    if isinstance(thing, (str, bytes)):
        return Parameter(VARIABLE, Pointer(CHAR, True), Passing.STRING)
    if isinstance(thing, bool) or reference.is_numpy_bool(thing):
        return Parameter(VARIABLE, INT, Passing.VALUE)
    if thing is None:
        return Parameter(VARIABLE, VOID_POINTER, Passing.HANDLE, True, ctypes.c_void_p)
    if isinstance(thing, _BYREF):
        return Parameter(VARIABLE, Pointer(VOID), Passing.WRITABLE)
    if isinstance(thing, names.Callback) or gate_behind(thing) is not None:
        return Parameter(VARIABLE, _FUNCTION, Passing.CALLBACK)
    is_array = hasattr(thing, "__array_interface__") and bool(getattr(thing, "ndim", None))
    if hasattr(cls, "__index__") and not is_array:
        return Parameter(VARIABLE, INT, Passing.VALUE)
    if hasattr(cls, "__float__") and not is_array:
        return Parameter(VARIABLE, DOUBLE, Passing.VALUE)
    raise _refusal(thing, where)


def _refusal(thing: object, where: str) -> TypeError:
    return TypeError(
        f"{where} cannot be a variable argument: {reference.type_name(thing)}; "
        "pass an int, a float, str, bytes, None or a ctypes value"
    )


def _ctypes_parameter(cls: type, where: str) -> Parameter:
    if issubclass(cls, ctypes.Array):
        return Parameter(VARIABLE, Pointer(VOID), Passing.WRITABLE)
    if issubclass(cls, (ctypes._Pointer, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p, names.FUNCTION_POINTER)):
        return Parameter(VARIABLE, VOID_POINTER, Passing.HANDLE, True, cls)
    if issubclass(cls, (ctypes.Structure, ctypes.Union)):
        return parameter_of(VARIABLE, cls, where)
    base = next((base for base in cls.__mro__ if "_type_" in base.__dict__), cls)
    ctype, _ = value_type(base, where)
    if not isinstance(ctype, Scalar):
        raise TypeError(f"{where} cannot be a variable argument: {cls.__name__}")
    return Parameter(VARIABLE, _promoted(ctype), Passing.VALUE, False, cls, None, ctype)


def _promoted(ctype: Scalar) -> Scalar:
    """The default argument promotions (C11 6.5.2.2p6)."""
    if ctype.kind is Kind.FLOATING:
        return DOUBLE if ctype == FLOAT else ctype
    return INT if size_bytes(ctype, DATA_MODEL) < size_bytes(INT, DATA_MODEL) else ctype
