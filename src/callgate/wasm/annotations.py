"""Python annotations to values of WebAssembly: the one place that says what `i32`, `bool` or an IntEnum is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, get_args, get_origin

from callgate.c.annotations import parameter_of, result_of, strip_none
from callgate.c.layout import size_bytes
from callgate.c.types import Enumeration, Kind, Parameter, Passing, Result, Returning, Scalar
from callgate.errors import DeclarationError
from callgate.target import DATA_MODEL
from callgate.wasm.store import Function
from callgate.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, V128

_HINT: Final = (
    "write i32, u32, i64, u64, f32, f64, bool, an IntEnum, bytes (v128), object (externref) or "
    "wasm.Function | None (funcref)"
)


class Value(NamedTuple):
    """What an annotation says: the type of the value, and, of a number, how C and Python see it."""

    type: int
    parameter: Parameter | None = None
    result: Result | None = None

    @property
    def number(self) -> Scalar | None:
        """The C type of a number."""
        ctype = self.result.type if self.result is not None else None
        ctype = ctype.base if isinstance(ctype, Enumeration) else ctype
        return ctype if isinstance(ctype, Scalar) else None

    def present(self, thing: Any) -> Any:
        """A value as Python shall see it, from the plain int or float."""
        if self.result is None or self.number is None:
            return thing
        if isinstance(self.result.type, Enumeration) and isinstance(self.result.python_type, type):
            return self.result.python_type(thing)
        if self.number.kind is Kind.BOOLEAN:
            return bool(thing)
        if self.number.kind is Kind.UNSIGNED:
            return thing & (1 << 8 * size_bytes(self.number, DATA_MODEL)) - 1
        return thing


def value_of(name: str, annotation: object, where: str) -> Value:
    """The value that an annotation declares; DeclarationError where it is none of WebAssembly's."""
    if annotation is object or annotation is Any:
        return Value(EXTERNREF)
    if annotation is bytes:
        return Value(V128)
    if annotation is Function or strip_none(annotation, where)[0] is Function:
        return Value(FUNCREF)
    if annotation is int:
        raise DeclarationError(f"{where}: int has no width in WebAssembly; {_HINT}")
    parameter, result = parameter_of(name, annotation, where), result_of(annotation, where)
    ctype = result.type.base if isinstance(result.type, Enumeration) else result.type
    if parameter.passing is Passing.VALUE and result.returning is Returning.VALUE and isinstance(ctype, Scalar):
        size = size_bytes(ctype, DATA_MODEL)
        if ctype.kind is Kind.FLOATING and size <= 8:
            return Value(F32 if size == 4 else F64, parameter, result)
        if ctype.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BOOLEAN) and size <= 8:
            return Value(I64 if size == 8 else I32, parameter, result)
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    raise DeclarationError(f"{where}: {shown} is no type of WebAssembly; {_HINT}")


def results_of(annotation: object, where: str) -> tuple[object, ...]:
    """The annotations of a function's results: none for None, those in a tuple, else the one."""
    if annotation is None or annotation is type(None):
        return ()
    if get_origin(annotation) is tuple:
        found = get_args(annotation)
        if not found or Ellipsis in found:
            raise DeclarationError(f"{where}: a tuple of results has the type of each, as in tuple[i32, i64]")
        return found
    return (annotation,)


def locals_of(thing: Callable[..., Any], depth: int) -> Mapping[str, object] | None:
    """The local names of a caller, where string annotations may mean them: what is declared inside of a function."""
    if "<locals>" not in getattr(thing, "__qualname__", ""):
        return None
    return dict(sys._getframe(depth + 1).f_locals)
