"""The straight path from a declaration to a callable, and nothing beside it.

declaration -> FunctionType -> Conversion -> CallPlan -> Code -> published address -> installed builtin
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from callgate.c.annotations import ctypes_of
from callgate.c.types import (
    Enumeration,
    FunctionType,
    Kind,
    Passing,
    Pointer,
    Result,
    Returning,
    Scalar,
)
from callgate.cpython.conversion import Judgement, convert
from callgate.errors import DeclarationError, EngineError
from callgate.runtime import ctypes_engine, trace
from callgate.runtime.engine import choose, is_native_asked_for
from callgate.runtime.gate import JUDGEMENTS, Gate, Options, judgement_of
from callgate.runtime.variadic import VariadicGate
from callgate.target import DATA_MODEL

_IS_TRACED = os.environ.get("CALLGATE_TRACE", "0") not in ("", "0")


def bind(signature: FunctionType, address: int, library: object, options: Options) -> Callable[..., Any]:
    """Make the callable for a C function at `address`.

    `library` is kept alive by the gate.  Raises DeclarationError for options that do not fit the result, EngineError
    where `options.engine` cannot run.
    """
    if signature.is_variadic:
        return _bind_variadic(signature, address, library, options)
    return _bind_fixed(signature, address, library, options)


def _bind_fixed(signature: FunctionType, address: int, library: object, options: Options) -> Callable[..., Any]:
    """A function of as many arguments as `signature` has, the variable ones of one call among them."""
    judgement = _judgement(signature, options)
    conversion = convert(
        signature,
        DATA_MODEL,
        judgement=judgement,
        saves_errno=options.fails_if is not None and options.error is None,
        is_blocking=options.blocking,
    )
    native = choose(options.engine)
    machine = native.machine if native is not None else None
    gate = Gate(signature, conversion, address, library, options, "native" if native is not None else "ctypes", machine)
    try:
        function = native.install(gate) if native is not None else ctypes_engine.install(gate)
    except EngineError:  # executable memory may be refused later than at first
        if is_native_asked_for(options.engine):
            raise
        gate.engine = "ctypes"
        function = ctypes_engine.install(gate)
    if _IS_TRACED:
        function = trace.traced(function, gate)
    return function  # type: ignore[return-value]


def _bind_variadic(signature: FunctionType, address: int, library: object, options: Options) -> Callable[..., Any]:
    """The dispatcher of a variadic function; each list of argument types becomes a gate when it first comes."""

    conversion = convert(
        signature,
        DATA_MODEL,
        judgement=_judgement(signature, options),
        saves_errno=options.fails_if is not None and options.error is None,
        is_blocking=options.blocking,
    )
    if conversion.outs:
        raise DeclarationError(f"{signature.name}(): a variadic function cannot have Out parameters")
    native = choose(options.engine)
    gate = VariadicGate(
        signature,
        conversion,
        address,
        library,
        options,
        "native" if native is not None else "ctypes",
        native.machine if native is not None else None,
        bind=lambda shape: _bind_fixed(shape, address, library, options),
    )
    function = native.install_variadic(gate) if native is not None else ctypes_engine.install_variadic(gate)
    if _IS_TRACED:
        function = trace.traced(function, gate)
    return function  # type: ignore[return-value]


def with_python_types(signature: FunctionType, records: dict[str, type]) -> FunctionType:
    """Give a FunctionType from C text the ctypes classes of its handles; `records` has the opaque types by name."""
    parameters = tuple(
        parameter._replace(python_type=ctypes_of(parameter.type, records))
        if parameter.passing is Passing.HANDLE and parameter.python_type is None
        else parameter._replace(python_type=_element_type(parameter.type.to, records))
        if parameter.passing in (Passing.READABLE, Passing.WRITABLE)
        and isinstance(parameter.type, Pointer)
        and isinstance(parameter.type.to, Pointer)
        else parameter
        for parameter in signature.parameters
    )
    result = signature.result
    if result.returning is Returning.HANDLE and result.python_type is None:
        result = result._replace(python_type=ctypes_of(result.type, records))
    return signature._replace(parameters=parameters, result=result)


def _element_type(pointee: Pointer, records: dict[str, type]) -> type:
    return ctypes_of(pointee, records)


def _judgement(signature: FunctionType, options: Options) -> Judgement:
    """When the result means failure; DeclarationError where the result cannot be judged so."""
    fails_if, name = options.fails_if, signature.name
    if fails_if is not None and not callable(fails_if) and fails_if not in JUDGEMENTS:
        raise DeclarationError(f"{name}(): fails_if={fails_if!r} is none of {', '.join(map(repr, JUDGEMENTS))}")
    if options.error is not None and not callable(options.error):
        raise DeclarationError(f"{name}(): error= must be a callable that takes the result and returns an exception")
    result = signature.result
    if fails_if is None and result.returning is not Returning.STATUS and isinstance(result.type, Pointer):
        # `error` alone judges a number; a pointer fails by being NULL
        return Judgement.ZERO if options.error is not None else Judgement.NEVER
    judgement = judgement_of(options, is_status=result.returning is Returning.STATUS)
    _check_judgeable(name, judgement, result)
    return judgement


def _check_judgeable(name: str, judgement: Judgement, result: Result) -> None:
    ctype = result.type
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    match judgement:
        case Judgement.NEVER:
            return
        case Judgement.PREDICATE:
            if result.returning is Returning.NOTHING:
                raise DeclarationError(f"{name}(): a void result cannot be judged by fails_if")
            return
        case Judgement.ZERO:
            if not isinstance(ctype, Pointer):
                raise DeclarationError(f'{name}(): fails_if="null" needs a pointer result')
            return
    is_int = isinstance(ctype, Scalar) and ctype.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BOOLEAN)
    is_pointer_minus_one = judgement is Judgement.MINUS_ONE and isinstance(ctype, Pointer)  # MAP_FAILED
    if not is_int and not is_pointer_minus_one:
        raise DeclarationError(f"{name}(): the result is no integer, so fails_if or error= cannot judge it")
    if judgement is Judgement.NEGATIVE and isinstance(ctype, Scalar) and ctype.kind is not Kind.SIGNED:
        raise DeclarationError(f'{name}(): fails_if="negative" needs a signed result')
