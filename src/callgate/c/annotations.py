"""Python annotations to C: the one place that knows which ctypes type is which C type.

Reads the signature of a function whose body is `...` and gives its FunctionType; resolves string annotations;
maps ctypes classes to C types and back.

Long because each kind of annotation, and each that is refused, has a few lines of its own.
"""

from __future__ import annotations

import builtins
import ctypes
import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate.c import names, types
from callgate.c.types import (
    CHAR,
    VOID,
    VOID_POINTER,
    Array,
    CallbackType,
    CType,
    Enumeration,
    FunctionPrototype,
    FunctionType,
    Parameter,
    Passing,
    Pointer,
    Record,
    Result,
    Returning,
    Scalar,
    Void,
)
from callgate.errors import DeclarationError

if TYPE_CHECKING:
    from typing import TypeGuard

_POINTER = ctypes._Pointer

# Several ctypes names are one class: c_long is c_int64 and c_ssize_t, on Windows c_int and c_int32, and there
# c_longdouble is c_double.  The later entry wins, so the fixed widths come before the plain names.
_SCALARS: dict[object, Scalar] = {
    ctypes.c_int8: types.INT8,
    ctypes.c_int16: types.INT16,
    ctypes.c_int32: types.INT32,
    ctypes.c_int64: types.INT64,
    ctypes.c_uint8: types.UINT8,
    ctypes.c_uint16: types.UINT16,
    ctypes.c_uint32: types.UINT32,
    ctypes.c_uint64: types.UINT64,
    ctypes.c_longlong: types.LONG_LONG,
    ctypes.c_ulonglong: types.UNSIGNED_LONG_LONG,
    ctypes.c_long: types.LONG,
    ctypes.c_ulong: types.UNSIGNED_LONG,
    ctypes.c_byte: types.SIGNED_CHAR,
    ctypes.c_ubyte: types.UNSIGNED_CHAR,
    ctypes.c_short: types.SHORT,
    ctypes.c_ushort: types.UNSIGNED_SHORT,
    ctypes.c_int: types.INT,
    ctypes.c_uint: types.UNSIGNED_INT,
    ctypes.c_float: types.FLOAT,
    ctypes.c_longdouble: types.LONG_DOUBLE,
    ctypes.c_double: types.DOUBLE,
    ctypes.c_bool: types.BOOL,
    ctypes.c_char: types.CHAR,
    ctypes.c_wchar: types.WCHAR,
    float: types.DOUBLE,
    bool: types.BOOL,
}

_CTYPES: dict[str, type] = {scalar.name: python for python, scalar in _SCALARS.items() if python not in (float, bool)}  # type: ignore[misc]
_CTYPES.update(
    {
        **{"int8_t": ctypes.c_int8, "int16_t": ctypes.c_int16, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64},
        **{"uint8_t": ctypes.c_uint8, "uint16_t": ctypes.c_uint16, "uint32_t": ctypes.c_uint32},
        **{"uint64_t": ctypes.c_uint64, "size_t": ctypes.c_size_t, "ssize_t": ctypes.c_ssize_t},
        **{"long": ctypes.c_long, "unsigned long": ctypes.c_ulong, "long double": ctypes.c_longdouble},
        **{"long long": ctypes.c_longlong, "unsigned long long": ctypes.c_ulonglong},
    }
)

_WIDTHS = "i8, i16, i32, i64, u8, u16, u32, u64, isize, usize, short, int_, long, uint, ulong"
_LATER = "is not supported by this version of callgate"


def ctypes_of(ctype: CType, records: dict[str, type]) -> type:
    """The ctypes class of a C type; opaque records are made once by name in `records`.

    `void *` is c_void_p, `char *` is POINTER(c_char) (so that its address survives).
    """
    match ctype:
        case Scalar(name=name) if name in _CTYPES:
            return _CTYPES[name]
        case Enumeration(base=base):
            return _CTYPES[base.name]
        case Pointer(to=Void()) | Pointer(to=FunctionPrototype()):
            return ctypes.c_void_p
        case Pointer(to=Array(element=element)):
            return ctypes.POINTER(ctypes_of(element, records))
        case Pointer(to=Scalar(name=name)) if name not in _CTYPES:
            return ctypes.c_void_p  # ctypes has no such type to point to
        case Scalar(name="float _Complex"):
            return ctypes.c_float * 2
        case Scalar(name="double _Complex"):
            return ctypes.c_double * 2
        case Pointer(to=to):
            return ctypes.POINTER(ctypes_of(to, records))
        case Array(element=element, length=length):
            item: Any = ctypes_of(element, records)
            return item * length  # type: ignore[no-any-return]
        case Record():
            from callgate.c.structures import class_of  # most declarations have none

            return class_of(ctype, records)
        case _:
            raise DeclarationError(f"{types.spell(ctype)} has no ctypes type")


def _is_class(annotation: object) -> TypeGuard[type]:
    return isinstance(annotation, type) and not isinstance(annotation, GenericAlias)  # 3.10 takes aliases for types


def _is_enum(cls: type) -> bool:
    """IntEnum and IntFlag, which have no class of their own in common."""
    return issubclass(cls, int) and issubclass(cls, enum.Enum)


def _describe(annotation: object) -> str:
    return annotation.__qualname__ if _is_class(annotation) else repr(annotation)


def _refuse(annotation: object, where: str) -> DeclarationError:
    if annotation is int:
        return DeclarationError(f"{where}: int has no width in C; choose one of {_WIDTHS}")
    origin = getattr(annotation, "__origin__", None)
    if origin is names.Ptr:
        return DeclarationError(f"{where}: {_describe(annotation)} points to nothing that C knows")
    if annotation is Callable or origin is Callable or annotation is names.Callback:
        return DeclarationError(f"{where}: a function pointer needs its types, as in Callable[[i32], f64]")
    if origin is names.Array or annotation is names.Array:
        return DeclarationError(f"{where}: Array is for members of structs; use Readable or Writable here")
    return DeclarationError(f"{where}: {_describe(annotation)} has no C type; use a ctypes type or a name of callgate")


def strip_none(annotation: object, where: str) -> tuple[object, bool]:
    """`X | None` and Optional[X] to (X, True)."""
    is_union = isinstance(annotation, UnionType)
    if not is_union:
        typing = sys.modules.get("typing")
        is_union = typing is not None and getattr(annotation, "__origin__", None) is typing.Union
    if not is_union:
        return annotation, False
    arguments: tuple[object, ...] = annotation.__args__  # type: ignore[attr-defined]
    others = [argument for argument in arguments if argument is not type(None)]
    if set(others) == {str, bytes}:
        return str, len(others) < len(arguments)
    if len(others) == len(arguments) or len(others) != 1:
        raise DeclarationError(f"{where}: a union can only be `X | None`, not {annotation}")
    return others[0], True


def _strip_annotated(annotation: object) -> object:
    """`Annotated[int, ctypes.c_void_p]` to its first ctypes class."""
    metadata = getattr(annotation, "__metadata__", None)
    if metadata is None:
        return annotation
    for item in metadata:
        if isinstance(item, type) and issubclass(item, names.CDATA):
            return item
    return getattr(annotation, "__origin__", annotation)


def _enumeration(cls: type) -> Enumeration:
    """A C enum for an IntEnum or IntFlag: int, or the first of unsigned int, long and unsigned long that fits."""
    values = [member.value for member in cls.__members__.values()]  # type: ignore[attr-defined]
    low, high = min(values, default=0), max(values, default=0)
    if low >= -(1 << 31) and high < 1 << 31:
        base = types.INT
    elif low >= 0 and high < 1 << 32:
        base = types.UNSIGNED_INT
    else:
        base = types.INT64 if high < 1 << 63 else types.UINT64
    return Enumeration(cls.__name__, base, ())


def pointee(annotation: object, where: str) -> tuple[CType, type | None]:
    """The C type and the ctypes class of what `Readable[…]`, `Writable[…]` or a ctypes pointer points to."""
    element = _strip_annotated(annotation)
    if element is None or element is type(None):
        return VOID, None
    element = names.element_type(element)
    scalar = _SCALARS.get(element) if _is_class(element) else None
    if scalar is not None:
        return scalar, element  # type: ignore[return-value]
    if _is_class(element):
        if element is ctypes.c_void_p:
            return VOID_POINTER, element
        if element is ctypes.c_char_p:
            return Pointer(CHAR, True), element
        if element is ctypes.c_wchar_p:
            return Pointer(types.WCHAR, True), element
        if issubclass(element, _POINTER):
            to, _ = pointee(element._type_, where)
            return Pointer(to), element
        if issubclass(element, (ctypes.Structure, ctypes.Union)):
            return Record(element.__name__, ""), element
        if issubclass(element, ctypes.Array):
            inner, cls = pointee(element._type_, where)
            length = getattr(element, "_length_", 0)
            if isinstance(inner, Record):
                raise DeclarationError(f"{where}: an array of structures {_LATER}; leave out its length")
            if isinstance(inner, types.Array):  # rows lie one after the other
                return types.Array(inner.element, inner.length * length), cls
            return types.Array(inner, length), cls
        if _is_enum(element):
            enumeration = _enumeration(element)
            return enumeration, _CTYPES[enumeration.base.name]
    raise _refuse(annotation, where)


def value_type(annotation: object, where: str) -> tuple[CType, type | None]:
    """The C type and the ctypes class of a member, or of what travels by value; structs with their members."""
    element = names.element_type(_strip_annotated(annotation))
    if _is_class(element):
        if issubclass(element, (ctypes.Structure, ctypes.Union)):
            from callgate.c.record_classes import record_of  # most declarations have none

            return record_of(element), element
        if issubclass(element, ctypes.Array):
            inner, _ = value_type(element._type_, where)
            return types.Array(inner, getattr(element, "_length_", 0)), element
        if issubclass(element, names.FUNCTION_POINTER):
            return Pointer(FunctionPrototype("void (*)()")), element
        if issubclass(element, ctypes.py_object):
            return VOID_POINTER, element
        if _is_enum(element):
            enumeration = _enumeration(element)
            return enumeration, _CTYPES[enumeration.base.name]
    return pointee(element, where)


def _callable_arguments(annotation: object) -> tuple[object, ...] | None:
    """The arguments and the result of `Callable[[A, B], R]` or `Callback[[A, B], R]`, or None for something else."""
    origin = getattr(annotation, "__origin__", None)
    if origin is Callable or origin is names.Callback:
        arguments: tuple[object, ...] = annotation.__args__  # type: ignore[attr-defined]
        return arguments
    return None


def callback_type_of(annotation: object, name: str, where: str) -> CallbackType | None:
    """What `Callable[[A, B], R]` or `Callback[[A, B], R]` declares, seen as a function that Python implements."""
    arguments = _callable_arguments(annotation)
    if arguments is None:
        return None
    *given, returned = arguments
    if Ellipsis in given:
        raise DeclarationError(f"{where}: {_NEEDS_TYPES}")
    return _callback_type(name, given, returned, where)


_NEEDS_TYPES = "a function pointer needs the types of its arguments, as in Callable[[i32], f64]"
_GIVEN_BACK = (Passing.VALUE, Passing.HANDLE, Passing.CALLBACK)


def _callback_type(name: str, given: Sequence[object], returned: object, where: str) -> CallbackType:
    parameters = tuple(result_of(item, f"{where}, argument {number}") for number, item in enumerate(given, 1))
    if any(parameter.returning in (Returning.NOTHING, Returning.STATUS) for parameter in parameters):
        raise DeclarationError(f"{where}: an argument of a function pointer cannot be void")
    if returned is None or returned is type(None):
        return CallbackType(name, parameters)
    result = parameter_of("result", returned, f"{where}, result")
    if result.passing not in _GIVEN_BACK:
        raise DeclarationError(
            f"{where}, result: nobody would keep the memory of {_describe(returned)}; return a Ptr to memory that lives"
        )
    return CallbackType(name, parameters, result)


def pointed_function_of(annotation: object, name: str, where: str) -> FunctionType | None:
    """The same annotation seen as a function that Python calls."""
    arguments = _callable_arguments(annotation)
    if arguments is None:
        return None
    *given, returned = arguments
    if Ellipsis in given:
        raise DeclarationError(f"{where}: {_NEEDS_TYPES}")
    parameters = tuple(parameter_of("", item, f"{where}, argument {number}") for number, item in enumerate(given, 1))
    result = result_of(returned, f"{where}, result")
    return FunctionType(name, parameters, result, False, len(parameters), "")


def prototype_of(callback: CallbackType) -> Pointer:
    """The C type of a pointer to such a function."""
    parameters = tuple(parameter.type for parameter in callback.parameters)
    return Pointer(FunctionPrototype(callback.prototype, parameters, callback.result_type))


def function_pointer_of(annotation: object, where: str) -> Pointer | None:
    """The C type that `Callable[…]` and `Callback[…]` stand for, or None for something else."""
    annotation, _ = strip_none(_strip_annotated(annotation), where)
    callback = callback_type_of(annotation, "callback", where)
    return None if callback is None else prototype_of(callback)


def scalar_of(cls: object) -> Scalar | None:
    """The C scalar of a ctypes simple type or of a subclass of one, None for pointers and everything else."""
    for base in getattr(cls, "__mro__", ()):
        scalar = _SCALARS.get(base)
        if scalar is not None and base not in (float, bool):
            return scalar
    return None


def _pointer_to(to: CType, is_const: bool) -> Pointer | types.Array:
    """A pointer parameter; a fixed-size array stays one, for its length."""
    if isinstance(to, types.Array):
        return types.Array(to.element, to.length, is_const)
    return Pointer(to, is_const)


def parameter_of(name: str, annotation: object, where: str) -> Parameter:
    """The C parameter that an annotation declares."""
    annotation, is_nullable = strip_none(_strip_annotated(annotation), where)
    annotation = _strip_annotated(annotation)
    scalar = _SCALARS.get(annotation) if _is_class(annotation) else None
    if scalar is not None:
        if is_nullable:
            raise DeclarationError(f"{where}: only pointers can be None")
        return Parameter(name, scalar, Passing.VALUE)
    if annotation in (ctypes.c_char_p, str, bytes):
        return Parameter(name, Pointer(CHAR, True), Passing.STRING, is_nullable)
    if annotation is ctypes.c_wchar_p:
        return Parameter(name, Pointer(types.WCHAR, True), Passing.WIDE_STRING, is_nullable)
    if annotation is ctypes.c_void_p:
        return Parameter(name, VOID_POINTER, Passing.HANDLE, is_nullable, ctypes.c_void_p)
    callback = callback_type_of(annotation, name, where)
    if callback is not None:
        is_kept = getattr(annotation, "__origin__", None) is names.Callback
        passing = Passing.CALLBACK if is_kept else Passing.CALLABLE
        return Parameter(name, prototype_of(callback), passing, is_nullable, callback)
    if isinstance(annotation, GenericAlias):
        origin = annotation.__origin__
        (inner,) = annotation.__args__ if len(annotation.__args__) == 1 else (None,)
        if origin is names.Readable or origin is names.Writable:
            to, element = pointee(inner, where)
            is_readable = origin is names.Readable
            passing = Passing.READABLE if is_readable else Passing.WRITABLE
            return Parameter(name, _pointer_to(to, is_readable), passing, is_nullable, element)
        if origin is names.Out:
            if is_nullable:
                raise DeclarationError(f"{where}: an Out parameter is not passed, so it cannot be None")
            out = result_of(inner, where)
            if out.returning in (Returning.NOTHING, Returning.STATUS):
                raise DeclarationError(f"{where}: Out needs the type of a value, not {_describe(inner)}")
            return Parameter(name, Pointer(out.type), Passing.OUT, False, None, out)
    if _is_class(annotation):
        if issubclass(annotation, _POINTER):
            to, _ = pointee(annotation._type_, where)
            return Parameter(name, Pointer(to), Passing.HANDLE, is_nullable, annotation)
        if issubclass(annotation, names.FUNCTION_POINTER):
            prototype = FunctionPrototype("void (*)()")
            return Parameter(name, Pointer(prototype), Passing.HANDLE, is_nullable, annotation)
        if _is_enum(annotation):
            return Parameter(name, _enumeration(annotation), Passing.VALUE, is_nullable, annotation)
        if issubclass(annotation, (ctypes.Structure, ctypes.Union)):
            return Parameter(name, _by_value(annotation, is_nullable, where), Passing.VALUE, False, annotation)
        if annotation is complex:
            return Parameter(name, types.DOUBLE_COMPLEX, Passing.VALUE)
        if issubclass(annotation, names.Status):
            raise DeclarationError(f"{where}: Status is for results; use i32")
        if annotation is names.VarArg:
            raise DeclarationError(f"{where}: VarArg is for the variable arguments: `*args: VarArg`")
    raise _refuse(annotation, where)


def result_of(annotation: object, where: str) -> Result:
    """The C result that an annotation declares."""
    annotation, is_nullable = strip_none(_strip_annotated(annotation), where)
    annotation = _strip_annotated(annotation)
    if annotation is None or annotation is type(None):
        return Result(VOID, Returning.NOTHING)
    scalar = _SCALARS.get(annotation) if _is_class(annotation) else None
    if scalar is not None:
        if is_nullable:
            raise DeclarationError(f"{where}: only pointers can be None")
        return Result(scalar, Returning.VALUE)
    if annotation is names.Status:
        return Result(types.INT, Returning.STATUS)
    if annotation is str:
        return Result(Pointer(CHAR, True), Returning.STRING, is_nullable)
    if annotation is bytes:
        return Result(Pointer(CHAR, True), Returning.BYTES, is_nullable)
    if annotation is ctypes.c_wchar_p:
        return Result(Pointer(types.WCHAR, True), Returning.WIDE_STRING, is_nullable)
    if annotation is ctypes.c_char_p:
        raise DeclarationError(f"{where}: cstr is for arguments; as a result write str (decoded from UTF-8) or bytes")
    if annotation is ctypes.c_void_p:
        return Result(VOID_POINTER, Returning.HANDLE, is_nullable, ctypes.c_void_p)
    if isinstance(annotation, GenericAlias) and annotation.__origin__ is names.Array:
        to, element = value_type(annotation.__args__[0], where)
        if element is None:
            raise DeclarationError(f"{where}: an array has items; void is none")
        return Result(Pointer(to), Returning.ARRAY, is_nullable, element)
    if _is_class(annotation):
        if issubclass(annotation, _POINTER):
            to, _ = pointee(annotation._type_, where)
            return Result(Pointer(to), Returning.HANDLE, is_nullable, annotation)
        if _is_enum(annotation):
            return Result(_enumeration(annotation), Returning.VALUE, False, annotation)
        if issubclass(annotation, (ctypes.Structure, ctypes.Union)):
            return Result(_by_value(annotation, is_nullable, where), Returning.VALUE, False, annotation)
        if annotation is complex:
            return Result(types.DOUBLE_COMPLEX, Returning.VALUE)
        if issubclass(annotation, ctypes.py_object):
            return Result(VOID_POINTER, Returning.OBJECT, is_nullable, annotation)
    pointed = pointed_function_of(annotation, "function", where)
    if pointed is not None:
        parameters = tuple(parameter.type for parameter in pointed.parameters)
        spelling = types.declaration(pointed._replace(name="(*)"))
        prototype = FunctionPrototype(spelling, parameters, pointed.result.type)
        return Result(Pointer(prototype), Returning.FUNCTION, is_nullable, pointed)
    raise _refuse(annotation, where)


def _by_value(cls: type, is_nullable: bool, where: str) -> Record:
    """The Record of a struct that travels by value."""
    from callgate.c.record_classes import record_of  # most declarations have none

    if is_nullable:
        raise DeclarationError(f"{where}: only pointers can be None")
    record = record_of(cls)
    if record.members is None:
        raise DeclarationError(f"{where}: {cls.__name__} has no members; only a pointer to it can be passed")
    return record


class _Names(dict[str, object]):
    """The names that a string annotation may use: locals of the declaring scope, then its module, then builtins."""

    def __init__(self, scopes: tuple[Mapping[str, object], ...]) -> None:
        super().__init__()
        self.scopes = scopes

    def __missing__(self, name: str) -> object:
        for scope in self.scopes:
            if name in scope:
                return scope[name]
        raise NameError(f"name {name!r} is not defined")


def resolve(annotation: object, scopes: tuple[Mapping[str, object], ...], where: str) -> object:
    """The object that a string annotation names; plain names are looked up without eval."""
    if not isinstance(annotation, str):
        return annotation
    if annotation.isidentifier():
        for scope in scopes:
            if annotation in scope:
                return scope[annotation]
    try:
        return eval(annotation, {"__builtins__": {"__import__": __import__}}, _Names(scopes))  # typing imports from C
    except DeclarationError:
        raise
    except Exception as problem:
        raise DeclarationError(f"{where}: cannot evaluate the annotation {annotation!r}: {problem}") from problem


_HAS_VARARGS, _HAS_VARKEYWORDS = 0x04, 0x08  # inspect.CO_VARARGS, CO_VARKEYWORDS, without importing inspect
_IS_RESUMED = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


class Def(NamedTuple):
    """What a def says: each parameter's name and resolved annotation, the result's, and whether there is `*args`."""

    name: str
    parameters: list[tuple[str, object]]
    result: object
    is_variadic: bool


def read_def(
    function: Callable[..., object],
    local_names: Mapping[str, object] | None,
    *,
    skips_first: int = 0,
    is_callback: bool = False,
) -> Def:
    """Read the annotations of a function but for its first parameters.

    DeclarationError where one is missing or cannot be evaluated.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        raise DeclarationError(f"{function!r} is not a function written in Python; a declaration is a def with `...`")
    name = function.__name__
    try:
        annotations = function.__annotations__
    except NameError as problem:  # 3.14 evaluates here
        raise DeclarationError(f"{name}(): {problem}") from problem
    is_variadic = bool(code.co_flags & _HAS_VARARGS)
    if code.co_flags & _HAS_VARKEYWORDS or code.co_kwonlyargcount:
        raise DeclarationError(f"{name}(): C has no keyword-only parameters")
    if code.co_flags & _IS_RESUMED:
        raise DeclarationError(
            f"{name}(): native code returns once; use a plain def without async and yield; asyncio.to_thread awaits"
        )
    if function.__defaults__:
        raise DeclarationError(f"{name}(): C has no default arguments; leave the default out")
    scopes: tuple[Mapping[str, object], ...] = (function.__globals__, vars(builtins))
    closure = function.__closure__
    if closure:
        cells = {}
        for variable, cell in zip(code.co_freevars, closure, strict=True):
            try:
                cells[variable] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        scopes = (cells, *scopes)
    if local_names is not None:
        scopes = (local_names, *scopes)
    parameters = []
    for variable in code.co_varnames[skips_first : code.co_argcount]:
        where = f"{name}() parameter {variable!r}"
        if variable not in annotations:
            raise DeclarationError(f"{where} has no annotation; give its C type, as in `{variable}: i32`")
        parameters.append((variable, resolve(annotations[variable], scopes, where)))
    if is_variadic and not is_callback:
        variable = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        where = f"{name}() parameter '*{variable}'"
        if resolve(annotations.get(variable), scopes, where) is not names.VarArg:
            raise DeclarationError(f"{where}: variable arguments are declared as `*{variable}: VarArg`")
        if not parameters:
            raise DeclarationError(f"{name}(): C wants a parameter before the variable ones")
    where = f"{name}() result"
    if "return" not in annotations:
        raise DeclarationError(f"{where} has no annotation; write `-> None` for void")
    return Def(name, parameters, resolve(annotations["return"], scopes, where), is_variadic)


def function_type(
    function: Callable[..., object], local_names: Mapping[str, object] | None = None, *, skips_self: bool = False
) -> FunctionType:
    """The FunctionType that a Python function's annotations declare.

    `local_names` are searched first (types of an enclosing function); `skips_self` leaves out the first parameter,
    for methods of a Protocol.  DeclarationError names the function and the parameter.
    """
    name, declared, returned, is_variadic = read_def(function, local_names, skips_first=int(skips_self))
    parameters = [
        parameter_of(variable, annotation, f"{name}() parameter {variable!r}") for variable, annotation in declared
    ]
    result = result_of(returned, f"{name}() result")
    _check_outs(name, parameters)
    passed = [parameter for parameter in parameters if parameter.out is None]
    positional = max(0, function.__code__.co_posonlyargcount - (1 if skips_self else 0))
    positional_only = sum(parameter.out is None for parameter in parameters[:positional])
    return FunctionType(
        name, tuple(parameters), result, is_variadic, min(positional_only, len(passed)), function.__doc__ or ""
    )


def callback_type(function: Callable[..., object], local_names: Mapping[str, object] | None = None) -> CallbackType:
    """The CallbackType that the annotations of a Python function declare, for C to call it."""
    name, declared, returned, is_variadic = read_def(function, local_names, is_callback=True)
    if is_variadic:
        raise DeclarationError(f"{name}(): C cannot call a callback with variable arguments")
    return _callback_type(name, [annotation for _, annotation in declared], returned, f"{name}()")


def _check_outs(name: str, parameters: list[Parameter]) -> None:
    """Out parameters stand all at the beginning or all at the end, so that a type checker can follow."""
    outs = [parameter.out is not None for parameter in parameters]
    count = sum(outs)
    if count and not (all(outs[:count]) or all(outs[-count:])):
        raise DeclarationError(f"{name}(): Out parameters must be all leading or all trailing")
