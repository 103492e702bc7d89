"""The straight path from a declaration to a callable, and nothing beside it.

declaration -> FunctionType -> Conversion -> CallPlan -> Code -> published address -> installed builtin
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callgate.c.annotations import ctypes_of, scalar_of
from callgate.c.passing import CannotBind, callback_of, function_of
from callgate.c.types import (
    CallbackType,
    Enumeration,
    FunctionPrototype,
    FunctionType,
    Kind,
    Parameter,
    Passing,
    Pointer,
    Record,
    Result,
    Returning,
    Scalar,
)
from callgate.cpython.conversion import CtypesRules, Judgement, SavedError
from callgate.errors import DeclarationError, EngineError
from callgate.runtime import ctypes_engine, trace
from callgate.runtime.declared import Declared, Watch
from callgate.runtime.engine import choose, engine_beside_ctypes, is_native_asked_for
from callgate.runtime.gate import JUDGEMENTS, Gate, Options, judgement_of
from callgate.runtime.stack import LEAST_BYTES, Stack, stack_of_gate
from callgate.runtime.variadic import VariadicGate
from callgate.target import DATA_MODEL, IS_WINDOWS


def bind(signature: FunctionType, address: int, library: object, options: Options) -> Callable[..., Any]:
    """Make the callable for a C function at `address`.

    `library` is kept alive by the gate.  Raises DeclarationError for options that do not fit the result, EngineError
    where `options.engine` cannot run.
    """
    signature = _with_options(signature, options)
    if signature.is_variadic:
        return _bind_variadic(signature, address, library, options)
    return _traced(*_bind_fixed(signature, address, library, options))


def _traced(function: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    """Under CALLGATE_TRACE: the function that counts and times the calls of another."""
    return trace.traced(function, gate) if trace.IS_TRACED else function  # type: ignore[return-value]


_FREEABLE = (Returning.STRING, Returning.BYTES, Returning.WIDE_STRING, Returning.HANDLE, Returning.ARRAY)


def _with_options(signature: FunctionType, options: Options) -> FunctionType:
    """What `free` and `length` say about the results; DeclarationError where they do not fit."""
    name, result = signature.name, signature.result
    if result.returning is Returning.ARRAY:
        result = result._replace(length=_length(name, options.length))
    elif options.length is not None:
        raise DeclarationError(f"{name}(): length= is for a result that is an array, as in `-> Array[f64]`")
    if options.free is None:
        return signature._replace(result=result) if result is not signature.result else signature
    if not callable(options.free):
        raise DeclarationError(f"{name}(): free= must be the name of a function of the library, or a gate")
    if result.returning in _FREEABLE:
        return signature._replace(result=result._replace(is_owned=True))
    parameters = tuple(
        parameter._replace(out=parameter.out._replace(is_owned=True))
        if parameter.out is not None and parameter.out.returning in _FREEABLE
        else parameter
        for parameter in signature.parameters
    )
    if parameters == signature.parameters:
        raise DeclarationError(f"{name}(): free= needs a result, or an Out, that is a string, a pointer or an array")
    return signature._replace(parameters=parameters)


def _length(name: str, length: object) -> int | str | Scalar:
    if length is None:
        raise DeclarationError(
            f"{name}(): an array needs length=: a number, the name of the parameter that has it, or the type of the "
            "count that stands before the items"
        )
    if isinstance(length, int) and not isinstance(length, bool) and length >= 0:
        return length
    if isinstance(length, str):
        return length
    scalar = scalar_of(length)
    if scalar is None or scalar.kind is not Kind.UNSIGNED:
        raise DeclarationError(f"{name}(): length= must be a number, a parameter's name or an unsigned type")
    return scalar


def _bind_fixed(
    signature: FunctionType, address: int, library: object, options: Options
) -> tuple[Callable[..., Any], Gate]:
    """A function of as many arguments as `signature` has, the variable ones of one call among them."""
    declared = declare(signature, options)
    if Watch.current is not None and options.engine != "ctypes":
        Watch.current.gates.append(declared)
    conversion = declared.conversion(DATA_MODEL)
    native = choose(options.engine)
    machine = native.machine if native is not None else None
    stack = _stack(signature.name, options, is_native=native is not None)
    conversion = conversion._replace(is_on_stack=stack is not None and bool(stack.node))
    gate = Gate(signature, conversion, address, library, options, "native" if native is not None else "ctypes", machine)
    gate.stack = stack
    if stack is not None:
        _check_room(gate, stack)
    gate._bind_pointer = _bind_pointer
    try:
        function = native.install(gate) if native is not None else ctypes_engine.install(gate)
    except EngineError:  # executable memory may be refused later than at first
        if is_native_asked_for(options.engine):
            raise
        gate.engine = "ctypes"
        function = ctypes_engine.install(gate)
    return function, gate  # type: ignore[return-value]


def declare(signature: FunctionType, options: Options) -> Declared:
    """A function with what its options mean for its conversions; DeclarationError where they do not fit it."""
    saved_error = _saved_error(signature.name, options)
    return Declared(
        signature,
        _judgement(signature, options),
        saved_error,
        is_blocking=options.blocking,
        is_on_stack=options.stack_bytes is not None,
    )


def _stack(name: str, options: Options, *, is_native: bool) -> Stack | None:
    """The stack that `stack_bytes` asks for."""
    if options.stack_bytes is None:
        return None
    try:
        return stack_of_gate(options.stack_bytes, name, is_native=is_native)
    except (TypeError, ValueError) as problem:
        raise DeclarationError(f"{name}(): stack_bytes={options.stack_bytes!r}: {problem}") from None


def _check_room(gate: Gate, stack: Stack) -> None:
    """The stack arguments must leave room for the function."""
    needed = gate.plan.stack_bytes + LEAST_BYTES
    if needed > stack.size_bytes:
        raise DeclarationError(
            f"{gate.name}(): stack_bytes={gate.options.stack_bytes} is too little for its arguments: {needed} at least"
        )


def bind_ctypes(
    signature: FunctionType,
    address: int,
    original: object,
    library: object,
    options: Options,
    rules: CtypesRules,
) -> Callable[..., Any]:
    """A gate that takes the place of a ctypes function; EngineError where there is no machine code, or none wanted."""
    declared = Declared(signature, Judgement.NEVER, SavedError.NONE, options.blocking, rules)
    if Watch.current is not None:
        Watch.current.gates.append(declared)
    native = engine_beside_ctypes()
    conversion = declared.conversion(DATA_MODEL)
    gate = Gate(signature, conversion, address, library, options, "native", native.machine)
    gate.original = original
    gate.errcheck = getattr(original, "errcheck", None)
    return _traced(native.install(gate), gate)  # type: ignore[arg-type]


def _bind_pointer(signature: FunctionType, address: int, gate: Gate) -> Callable[..., Any]:
    """A function that C handed over as a pointer: a gate under the rules of the gate it came from."""
    options = Options(blocking=gate.options.blocking, engine=gate.options.engine)
    return bind(signature, address, gate.library, options)


def declared_with(declared: Declared) -> tuple[list[Declared], list[CallbackType]]:
    """What a declaration brings with it: the functions that it returns as pointers, and the callbacks that it takes."""
    signature = declared.signature
    results = [signature.result, *(parameter.out for parameter in signature.parameters if parameter.out is not None)]
    functions = [
        declare(result.python_type, Options(blocking=declared.is_blocking))
        for result in results
        if result.returning is Returning.FUNCTION and isinstance(result.python_type, FunctionType)
    ]
    callbacks = [
        parameter.python_type
        for parameter in signature.parameters
        if parameter.passing in (Passing.CALLABLE, Passing.CALLBACK) and isinstance(parameter.python_type, CallbackType)
    ]
    return functions, callbacks


def _bind_variadic(signature: FunctionType, address: int, library: object, options: Options) -> Callable[..., Any]:
    """The dispatcher of a variadic function; each list of argument types becomes a gate when it first comes."""

    conversion = declare(signature, options).conversion(DATA_MODEL)
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
        bind=lambda shape: _bind_fixed(shape, address, library, options)[0],
    )
    function = native.install_variadic(gate) if native is not None else ctypes_engine.install_variadic(gate)
    return _traced(function, gate)  # type: ignore[arg-type]


def with_python_types(signature: FunctionType, records: dict[str, type]) -> FunctionType:
    """Give a FunctionType from C text the ctypes classes of its handles and structs; `records` has them by name."""
    parameters = tuple(_typed_parameter(parameter, records) for parameter in signature.parameters)
    return signature._replace(parameters=parameters, result=_typed_result(signature.result, records))


def _typed_parameter(parameter: Parameter, records: dict[str, type]) -> Parameter:
    if parameter.python_type is not None:
        return parameter
    ctype = parameter.type
    match parameter.passing:
        case Passing.HANDLE:
            return parameter._replace(python_type=ctypes_of(ctype, records))
        case Passing.READABLE | Passing.WRITABLE if isinstance(ctype, Pointer):
            if isinstance(ctype.to, (Pointer, Record)):
                return parameter._replace(python_type=ctypes_of(ctype.to, records))
        case Passing.VALUE if isinstance(ctype, Record):
            return parameter._replace(python_type=ctypes_of(ctype, records))
        case Passing.CALLBACK if isinstance(ctype, Pointer) and isinstance(ctype.to, FunctionPrototype):
            return parameter._replace(python_type=_typed_callback(ctype.to, parameter.name, records))
    return parameter


def _typed_result(result: Result, records: dict[str, type]) -> Result:
    if result.python_type is not None:
        return result
    ctype = result.type
    if result.returning is Returning.HANDLE or (result.returning is Returning.VALUE and isinstance(ctype, Record)):
        return result._replace(python_type=ctypes_of(ctype, records))
    if (
        result.returning is Returning.FUNCTION
        and isinstance(ctype, Pointer)
        and isinstance(ctype.to, FunctionPrototype)
    ):
        return result._replace(python_type=with_python_types(function_of(ctype.to, "function"), records))
    return result


def _typed_callback(prototype: FunctionPrototype, name: str, records: dict[str, type]) -> CallbackType | None:
    """None where Python cannot implement such a function, so that only gates and pointers are taken."""
    try:
        declared = callback_of(prototype, name or "callback")
    except CannotBind:
        return None
    parameters = tuple(_typed_result(parameter, records) for parameter in declared.parameters)
    result = None if declared.result is None else _typed_parameter(declared.result, records)
    return CallbackType(declared.name, parameters, result)


def _saved_error(name: str, options: Options) -> SavedError:
    """Which error of the system a failing result is explained by; DeclarationError for an `error` that is none."""
    error = options.error
    if error is None:
        return SavedError.NONE if options.fails_if is None else SavedError.ERRNO
    if callable(error):
        return SavedError.NONE
    if error != "last":
        raise DeclarationError(
            f'{name}(): error= must be a callable that takes the result and returns an exception, or "last"'
        )
    if not IS_WINDOWS:
        raise DeclarationError(
            f'{name}(): error="last" is GetLastError, which is there on Windows only; leave error= out for errno'
        )
    return SavedError.LAST


def _judgement(signature: FunctionType, options: Options) -> Judgement:
    """When the result means failure; DeclarationError where the result cannot be judged so."""
    fails_if, name = options.fails_if, signature.name
    if fails_if is not None and not callable(fails_if) and fails_if not in JUDGEMENTS:
        raise DeclarationError(f"{name}(): fails_if={fails_if!r} is none of {', '.join(map(repr, JUDGEMENTS))}")
    result = signature.result
    if fails_if is None and result.returning is not Returning.STATUS and isinstance(result.type, Pointer):
        # `error` alone judges a number; a pointer fails by being NULL
        return Judgement.ZERO if options.error is not None else Judgement.NEVER
    judgement = judgement_of(options, is_status=result.returning is Returning.STATUS)
    _check_judgeable(name, judgement, result, options)
    return judgement


def _check_judgeable(name: str, judgement: Judgement, result: Result, options: Options) -> None:
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
            if isinstance(ctype, Pointer):
                return
            if options.fails_if == "null":
                raise DeclarationError(f'{name}(): fails_if="null" needs a pointer result')
    is_int = isinstance(ctype, Scalar) and ctype.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BOOLEAN)
    is_pointer_minus_one = judgement is Judgement.MINUS_ONE and isinstance(ctype, Pointer)  # MAP_FAILED
    if not is_int and not is_pointer_minus_one:
        raise DeclarationError(f"{name}(): the result is no integer, so fails_if or error= cannot judge it")
    if judgement is Judgement.NEGATIVE and isinstance(ctype, Scalar) and ctype.kind is not Kind.SIGNED:
        raise DeclarationError(f'{name}(): fails_if="negative" needs a signed result')
