"""Host functions: what modules import from Python."""

from __future__ import annotations

import ctypes
import typing
from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar

from callgate.errors import DeclarationError
from callgate.wasm.types import EXTERNREF, F32, F64, I32, I64, V128, FuncType

P = ParamSpec("P")
R = TypeVar("R")

_TYPES: Final[dict[object, int]] = {
    **{ctypes.c_int32: I32, ctypes.c_uint32: I32, ctypes.c_int64: I64, ctypes.c_uint64: I64},
    **{ctypes.c_float: F32, ctypes.c_double: F64, float: F64, bytes: V128, object: EXTERNREF, Any: EXTERNREF},
}
UNSIGNED: Final = frozenset((ctypes.c_uint32, ctypes.c_uint64))


class HostFunction(Generic[P, R]):
    """A Python function as modules import it; made by `wasm.host`.  Calling it calls the Python function."""

    __slots__ = ("__name__", "address", "annotations", "function", "module", "name", "signature", "takes_instance")

    def __init__(
        self,
        function: Callable[P, R],
        signature: FuncType,
        name: str,
        *,
        module: str = "",
        takes_instance: bool = False,
        address: int = 0,
        annotations: tuple[Any, ...] = (),
    ) -> None:
        self.function = function
        self.signature = signature
        self.name = name
        self.module = module
        self.takes_instance = takes_instance
        self.address = address  # of a C function of that type, which is then called without Python
        self.annotations = annotations  # of parameters and results, where they tell more than the signature
        self.__name__ = getattr(function, "__name__", name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<wasm host function {self.module}.{self.name} {self.signature}>"


def host(module: str, name: str, /) -> Callable[[Callable[P, R]], HostFunction[P, R]]:
    """A Python function that modules import as `module`.`name`; its annotations give the types.

    `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `bytes` for a v128, `object` for an externref; a tuple for several
    results.
    A first parameter annotated `wasm.Instance` gets the instance that calls.  Raises DeclarationError for others.

    >>> from callgate import i32
    >>> @host("env", "add")
    ... def add(a: i32, b: i32) -> i32:
    ...     return a + b
    >>> add
    <wasm host function env.add (i32, i32) -> (i32)>
    """

    def decorate(function: Callable[P, R]) -> HostFunction[P, R]:
        signature, takes_instance, annotations = signature_of(function, f"{module}.{name}")
        return HostFunction(
            function, signature, name, module=module, takes_instance=takes_instance, annotations=annotations
        )

    return decorate


def signature_of(function: Callable[..., Any], where: str) -> tuple[FuncType, bool, tuple[Any, ...]]:
    """The type that a function's annotations give, whether it takes the instance, and the annotations."""
    from callgate.wasm.instance import Instance

    hints = typing.get_type_hints(function)
    code = getattr(function, "__code__", None)
    if code is None:
        raise DeclarationError(f"{where}: {function!r} has no annotations that could be read")
    names = list(code.co_varnames[: code.co_argcount])
    if getattr(function, "__self__", None) is not None:
        names = names[1:]
    takes_instance = bool(names) and (typing.get_origin(hints.get(names[0])) or hints.get(names[0])) is Instance
    if takes_instance:
        names = names[1:]
    missing = [name for name in names if name not in hints]
    if missing:
        raise DeclarationError(f"{where}: parameter {missing[0]!r} has no annotation")
    parameters = tuple(hints[name] for name in names)
    result = hints.get("return", type(None))
    results: tuple[Any, ...] = () if result in (None, type(None)) else (result,)
    if typing.get_origin(result) is tuple:
        results = typing.get_args(result)
    types = tuple(_value_type(one, where) for one in parameters), tuple(_value_type(one, where) for one in results)
    return FuncType(*types), takes_instance, (*parameters, *results)


def _value_type(annotation: Any, where: str) -> int:
    value = _TYPES.get(annotation)
    if value is None:
        shown = getattr(annotation, "__name__", repr(annotation))
        raise DeclarationError(
            f"{where}: {shown} is no WebAssembly type; write i32, u32, i64, u64, f32, f64, bytes (v128) or object "
            "(externref)"
        )
    return value
