"""The System V calling convention of x86-64 (psABI 1.0, section 3.2.3), for scalars and pointers.

Supported: INTEGER and SSE scalars in registers and on the stack, `long double` (class X87: always on the stack as
an argument, st0 as a result).  Structs, complex numbers and variable arguments raise DeclarationError.

        higher addresses
        |  stack argument n       |
        |  ...                    |
        |  stack argument 0       |  <- rsp at the call, a multiple of 16
        lower addresses
"""

from __future__ import annotations

from callgate.abi.plan import Argument, CallPlan, Class
from callgate.c.layout import size_bytes
from callgate.c.types import Array, CType, Enumeration, FunctionType, Kind, Pointer, Scalar, Void, spell
from callgate.errors import DeclarationError
from callgate.target import Target

INTEGER_REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
SSE_REGISTERS = tuple(f"xmm{number}" for number in range(8))


def class_of(ctype: CType) -> Class:
    """The class of a scalar (psABI 3.2.3, "Classification", the list of basic types)."""
    match ctype:
        case Scalar(name="long double"):
            return Class.X87
        case Scalar(kind=Kind.FLOATING):
            return Class.SSE
        case Scalar() | Enumeration() | Pointer() | Array():
            return Class.INTEGER
        case Void():
            return Class.NO_CLASS
        case _:
            raise DeclarationError(f"{spell(ctype)} cannot be passed by value")


def _passed(ctype: CType) -> CType:
    """The type that is really passed: an array parameter is a pointer (C11 6.7.6.3p7)."""
    return Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype


def classify_sysv(function: FunctionType, target: Target) -> CallPlan:
    """Give each argument its register or stack slot, left to right (psABI 3.2.3, "Passing")."""
    if function.is_variadic:
        raise DeclarationError(f"{function.name}() is variadic, which cannot be called yet")
    integers = iter(INTEGER_REGISTERS)
    vectors = iter(SSE_REGISTERS)
    arguments = []
    stack_bytes = 0
    vector_count = 0
    for parameter in function.parameters:
        ctype = _passed(parameter.type)
        size = size_bytes(ctype, target)
        klass = class_of(ctype)
        register = ""
        if klass is Class.INTEGER:
            register = next(integers, "")
        elif klass is Class.SSE:
            register = next(vectors, "")
            vector_count += bool(register)
        if register:
            arguments.append(Argument(ctype, size, klass, register))
            continue
        if size > 8:  # "aligned to its type's alignment, at least 8": long double is 16-aligned
            stack_bytes = stack_bytes + 15 & ~15
        arguments.append(Argument(ctype, size, klass, "", stack_bytes))
        stack_bytes += max(8, size)
    result = function.result.type
    klass = class_of(result)
    place = {Class.INTEGER: "rax", Class.SSE: "xmm0", Class.X87: "st0", Class.NO_CLASS: ""}[klass]
    result_bytes = 0 if klass is Class.NO_CLASS else size_bytes(result, target)
    return CallPlan(
        "sysv",
        tuple(arguments),
        Argument(result, result_bytes, klass, place),
        stack_bytes + 15 & ~15,
        vector_count,
    )
