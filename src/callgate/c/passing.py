"""How Python hands over what C text declares: the rules of passing, with NULL allowed everywhere.

Shared by the two readers of C text, `declarations` and `plain`.
"""

from __future__ import annotations

from functools import lru_cache

from callgate.c.known_names import NOT_PASSED, NOT_POINTED_TO
from callgate.c.types import (
    CHAR,
    WCHAR,
    Array,
    CallbackType,
    CType,
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

ATTRIBUTE = "__attribute__(("
"""In a Scalar's name: a type changed by an attribute that is not followed."""


class CannotBind(Exception):
    """Good C, but no engine can do it: the text says what."""


def python_name(name: str | None) -> str:
    """glibc writes `__x` so that no macro of ours can meet it; Python callers write `x`."""
    stripped = (name or "").lstrip("_")
    return stripped if stripped.isidentifier() else name or ""


def decayed(ctype: CType) -> CType:
    """A parameter's type as C11 6.7.6.3p7-8 adjusts it; arrays of known length keep it for the check of buffers."""
    match ctype:
        case FunctionPrototype():
            return Pointer(ctype)
        case Array(element=Record() | Array() as element, is_const=is_const):
            return Pointer(element, is_const)
        case Array(element=element, length=0, is_const=is_const):
            return Pointer(element, is_const)
    return ctype


def not_passed(ctype: CType, *, is_pointed_to: bool = False) -> str:
    """The word for a scalar that no engine carries, or ""."""
    if isinstance(ctype, Scalar):
        if ATTRIBUTE in ctype.name:
            return "types with such an attribute"
        return (NOT_POINTED_TO if is_pointed_to else NOT_PASSED).get(ctype, "")
    return ""


def not_held(ctype: CType, *, is_member: bool = False) -> str:
    """The word for a type that no object in memory stands for, or ""; `is_member` of a struct, which gives its size."""
    while isinstance(ctype, Array):
        ctype = ctype.element
    return not_passed(ctype, is_pointed_to=not is_member)


def _check_carried(ctype: CType) -> None:
    """Refuse what no engine passes, by value or pointed to."""
    if isinstance(ctype, Record):
        if ctype.members is None:
            what = {"struct": "structs", "union": "unions"}.get(ctype.tag, "structs and unions")
            raise CannotBind(f"{what} by value whose members are not declared")
        return
    pointed = False
    while isinstance(ctype, Pointer | Array):
        ctype = ctype.to if isinstance(ctype, Pointer) else ctype.element
        if isinstance(ctype, Array):
            raise CannotBind("pointers to arrays, and so arrays of arrays")
        pointed = True
    if what := not_passed(ctype, is_pointed_to=pointed):
        raise CannotBind(("pointers to " if pointed else "") + what)


@lru_cache(maxsize=1024)
def parameter_of(name: str, declared: CType) -> Parameter:
    """How Python hands over a parameter of C text; NULL is allowed everywhere."""
    ctype = decayed(declared)
    _check_carried(ctype)
    match ctype:
        case Pointer(to=FunctionPrototype(parameters=known)):
            passing = Passing.HANDLE if known is None else Passing.CALLBACK
        case Pointer(to=Record(members=None)):
            passing = Passing.HANDLE
        case Pointer(to=to, is_const=True) if to == CHAR:
            passing = Passing.STRING
        case Pointer(to=to, is_const=True) if to == WCHAR:
            passing = Passing.WIDE_STRING
        case Pointer(is_const=is_const) | Array(is_const=is_const):
            passing = Passing.READABLE if is_const else Passing.WRITABLE
        case _:
            return Parameter(name, ctype, Passing.VALUE)
    return Parameter(name, ctype, passing, is_nullable=True)


@lru_cache(maxsize=256)
def result_of(ctype: CType) -> Result:
    """What Python gets back from a function of C text."""
    _check_carried(ctype)
    match ctype:
        case Void():
            return Result(ctype, Returning.NOTHING)
        case Pointer(to=FunctionPrototype() as prototype) if _is_callable(prototype):
            return Result(ctype, Returning.FUNCTION, is_nullable=True)
        case Pointer(to=to, is_const=True) if to == CHAR:
            return Result(ctype, Returning.BYTES, is_nullable=True)
        case Pointer(to=to, is_const=True) if to == WCHAR:
            return Result(ctype, Returning.WIDE_STRING, is_nullable=True)
        case Pointer():
            return Result(ctype, Returning.HANDLE, is_nullable=True)
    return Result(ctype, Returning.VALUE)


def _is_callable(prototype: FunctionPrototype) -> bool:
    """Whether Python can call through a pointer to such a function; others stay pointers."""
    if prototype.parameters is None:
        return False
    try:
        function_of(prototype, "")
    except CannotBind:
        return False
    return True


def function_of(prototype: FunctionPrototype, name: str) -> FunctionType:
    """The function that Python calls through a pointer of C text."""
    assert prototype.parameters is not None  # the caller's test
    parameters = tuple(parameter_of("", ctype) for ctype in prototype.parameters)
    return FunctionType(name, parameters, result_of(prototype.result), False, len(parameters))


def callback_of(prototype: FunctionPrototype, name: str) -> CallbackType:
    """The function that C calls through a pointer of C text; CannotBind where Python cannot implement it."""
    assert prototype.parameters is not None  # the caller's test
    parameters = tuple(result_of(decayed(ctype)) for ctype in prototype.parameters)
    result = prototype.result
    if isinstance(result, Void):
        return CallbackType(name, parameters)
    if isinstance(result, Pointer):
        return CallbackType(name, parameters, Parameter("result", result, Passing.HANDLE, is_nullable=True))
    return CallbackType(name, parameters, parameter_of("result", result))
