"""Host functions: what modules import from Python."""

from __future__ import annotations

import builtins
import typing
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from callgate.c.annotations import read_def, resolve
from callgate.c.types import CallbackType
from callgate.errors import DeclarationError
from callgate.wasm.annotations import Value, locals_of, results_of, value_of
from callgate.wasm.types import FuncType

P = ParamSpec("P")
R = TypeVar("R")


class HostFunction(Generic[P, R]):
    """A Python function as modules import it; made by `wasm.host`.  Calling it calls the Python function."""

    __slots__ = (
        "__dict__",
        "__name__",
        "__weakref__",
        "address",
        "callback",
        "declared",
        "function",
        "module",
        "name",
        "signature",
        "takes_instance",
        "values",
    )

    def __init__(
        self,
        function: Callable[P, R],
        signature: FuncType,
        name: str,
        *,
        module: str = "",
        takes_instance: bool = False,
        address: int = 0,
        declared: CallbackType | None = None,
        values: tuple[Value, ...] = (),
    ) -> None:
        self.function = function
        self.signature = signature
        self.name = name
        self.module = module
        self.takes_instance = takes_instance
        self.address = address  # of a C function of that type, which is then called without Python
        self.declared = declared  # what Python gets and gives, where the annotations tell more than the signature
        self.values = values  # the parameters, where there is no such declaration
        self.callback: Any = None  # what compiled code calls, if it is the same for all instances
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = getattr(function, "__doc__", None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<wasm host function {self.module}.{self.name} {self.signature}>"


def host(module: str, name: str, /) -> Callable[[Callable[P, R]], HostFunction[P, R]]:
    """A Python function that modules import as `module`.`name`; its annotations give the types.

    Parameters are `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, bool, IntEnum classes, bytes for a v128, object for an
    externref, `wasm.Function | None` for a funcref; the result is one of them, None, or a tuple of several.  A first
    parameter annotated `wasm.Instance`, or `wasm.Instance[SomeProtocol]`, gets the instance that calls.  What the
    function raises goes through the WebAssembly code to whoever called that; a result of another type is a TypeError
    there.  Raises DeclarationError for annotations that are no types of WebAssembly.

    >>> from callgate import i32
    >>> @host("env", "add")
    ... def add(a: i32, b: i32) -> i32:
    ...     return a + b
    >>> add
    <wasm host function env.add (i32, i32) -> (i32)>
    >>> add(1, 2)
    3
    """
    for given in (module, name):
        if not isinstance(given, str):
            raise TypeError(f"host() takes the names of a module and of its import, not {given!r}")

    def decorate(function: Callable[P, R]) -> HostFunction[P, R]:
        read = read_host(function, locals_of(function, 1), name)
        return read.function(function, name, module)

    return decorate


class HostDef(NamedTuple):
    """What a Python function's annotations say."""

    signature: FuncType
    takes_instance: bool
    declared: CallbackType | None
    values: tuple[Value, ...]

    def function(self, function: Callable[P, R], name: str, module: str) -> HostFunction[P, R]:
        """The host function."""
        return HostFunction(function, name=name, module=module, **self._asdict())


def is_annotated(function: Callable[..., Any]) -> bool:
    """Whether a callable tells types at all; of one that doesn't, the import's own count."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    return hasattr(inner, "__code__") and bool(getattr(inner, "__annotations__", None))


def read_host(function: Callable[..., Any], local_names: Mapping[str, object] | None, name: str) -> HostDef:
    """Read a function's annotations; DeclarationError where one is missing or no type of WebAssembly."""
    from callgate.wasm.instance import Instance

    is_method = isinstance(function, MethodType)
    inner: Any = function.__func__ if isinstance(function, MethodType) else function
    code = getattr(inner, "__code__", None)
    annotations = getattr(inner, "__annotations__", {})
    takes_instance = False
    if code is not None and code.co_argcount > is_method:
        first = annotations.get(code.co_varnames[int(is_method)])
        if first is not None:
            scopes = (local_names or {}, inner.__globals__, vars(builtins))
            first = resolve(first, scopes, f"{inner.__name__}() parameter {code.co_varnames[int(is_method)]!r}")
            takes_instance = first is Instance or typing.get_origin(first) is Instance
    read = read_def(inner, local_names, skips_first=is_method + takes_instance)
    if read.is_variadic:
        raise DeclarationError(f"{read.name}(): functions of WebAssembly have no variable arguments")
    parameters = [value_of(one, hint, f"{read.name}() parameter {one!r}") for one, hint in read.parameters]
    where = f"{read.name}() result"
    results = [value_of("result", hint, where) for hint in results_of(read.result, where)]
    signature = FuncType(tuple([one.type for one in parameters]), tuple([one.type for one in results]))
    return HostDef(signature, takes_instance, _declared(read.name, parameters, results), tuple(parameters))


def _declared(name: str, parameters: list[Value], results: list[Value]) -> CallbackType | None:
    """The C declaration of a function of numbers."""
    given = [one.result for one in parameters if one.result is not None]
    returned = [one.parameter for one in results if one.parameter is not None]
    if len(given) < len(parameters) or len(returned) < len(results) or len(results) > 1:
        return None
    return CallbackType(name, tuple(given), returned[0] if returned else None)
