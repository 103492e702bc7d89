"""The calling convention of 64-bit Windows on x86-64 (Microsoft, "x64 calling convention"; gcc's ms_abi).

Every argument takes one slot, whatever it is; the first four slots are registers, an integer and a vector one each.
Values of 1, 2, 4 or 8 bytes travel in their slot, all others as the address of a copy that the caller makes and the
callee may change.  There is one convention: "stdcall" and its like are the same here.

Supported: scalars, pointers, structs and unions, complex numbers, `__int128` (as gcc and clang have it).
`long double` is a double, as the target's data model says; a wider one (of gcc's ms_abi) raises DeclarationError.

        higher addresses
        |  copies of what travels by reference, 16-aligned
        |  stack argument n       |
        |  ...                    |
        |  stack argument 4       |  <- rsp + 32
        |  home of slots 3 to 0   |  the callee's to use  <- rsp at the call, a multiple of 16
        lower addresses
"""

from __future__ import annotations

from collections.abc import Sequence

from callgate.abi.plan import Argument, CallPlan, Class, Piece
from callgate.c.layout import align_bytes, size_bytes
from callgate.c.types import Array, CType, Kind, Pointer, Record, Scalar, Void, spell
from callgate.errors import DeclarationError
from callgate.target import Target

INTEGER_REGISTERS = ("rcx", "rdx", "r8", "r9")
VECTOR_REGISTERS = ("xmm0", "xmm1", "xmm2", "xmm3")
HOME_BYTES = 32
_SLOT_SIZES = (1, 2, 4, 8)


def _is_floating(ctype: CType, target: Target) -> bool:
    if not (isinstance(ctype, Scalar) and ctype.kind is Kind.FLOATING):
        return False
    if size_bytes(ctype, target) > 8:
        raise DeclarationError(f"{spell(ctype)} cannot be passed by value on {target.name}")
    return True


def _size(ctype: CType, target: Target) -> int:
    """The size of what is passed; compilers do not agree on that of an empty struct."""
    size = size_bytes(ctype, target)
    if not size:
        raise DeclarationError(f"{spell(ctype)} is empty and cannot be passed by value on {target.name}")
    return size


def _is_in_one_piece(ctype: CType) -> bool:
    """Whether a value that fits a slot lies in memory: what is no scalar to Python."""
    return isinstance(ctype, Record) or (isinstance(ctype, Scalar) and ctype.kind is Kind.COMPLEX)


def _argument(ctype: CType, slot: int, copy_offset: int, target: Target, *, is_variadic: bool) -> Argument:
    """One argument; a copy that it needs lies at `copy_offset`."""
    passed: CType = Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype
    size = _size(passed, target)
    is_in_register = slot < len(INTEGER_REGISTERS)
    register = INTEGER_REGISTERS[slot] if is_in_register else ""
    stack_offset = 0 if is_in_register else 8 * slot
    if _is_floating(passed, target):
        twin = register if is_variadic else ""
        vector = VECTOR_REGISTERS[slot] if is_in_register else ""
        return Argument(passed, size, Class.SSE, vector, stack_offset, twin=twin)
    if size not in _SLOT_SIZES:
        return Argument(passed, size, Class.MEMORY, register, stack_offset, copy_offset=copy_offset)
    if not _is_in_one_piece(passed):
        return Argument(passed, size, Class.INTEGER, register, stack_offset)
    if not is_in_register:
        return Argument(passed, size, Class.MEMORY, "", stack_offset)
    return Argument(passed, size, Class.INTEGER, "", 0, (Piece(0, size, Class.INTEGER, register),))


def _result(ctype: CType, target: Target) -> Argument:
    """Where the result travels ("Return values")."""
    if isinstance(ctype, Void):
        return Argument(ctype, 0, Class.NO_CLASS, "")
    size = _size(ctype, target)
    if _is_floating(ctype, target):
        return Argument(ctype, size, Class.SSE, "xmm0")
    if isinstance(ctype, Scalar) and ctype.name in ("__int128", "unsigned __int128"):
        return Argument(ctype, size, Class.SSE, "", 0, (Piece(0, 16, Class.SSE, "xmm0"),))
    if size not in _SLOT_SIZES:
        return Argument(ctype, size, Class.MEMORY, "rax")
    if _is_in_one_piece(ctype):
        return Argument(ctype, size, Class.INTEGER, "", 0, (Piece(0, size, Class.INTEGER, "rax"),))
    return Argument(ctype, size, Class.INTEGER, "rax")


def classify_win64(
    parameters: Sequence[CType], result_type: CType, target: Target, *, is_variadic: bool = False
) -> CallPlan:
    """Give each argument its slot, left to right, and those that travel by reference a place for their copy."""
    result = _result(result_type, target)
    result_pointer = INTEGER_REGISTERS[0] if result.eightbyte_class is Class.MEMORY else ""
    first = 1 if result_pointer else 0
    stack_bytes = max(HOME_BYTES, 8 * (first + len(parameters))) + 15 & ~15
    arguments = []
    for slot, ctype in enumerate(parameters, first):
        if not isinstance(ctype, Array) and align_bytes(ctype, target) > 16:
            raise DeclarationError(f"{spell(ctype)} is aligned to more than 16 bytes and cannot be passed by value")
        argument = _argument(ctype, slot, stack_bytes, target, is_variadic=is_variadic)
        if argument.copy_offset is not None:
            stack_bytes += argument.size_bytes + 15 & ~15
        arguments.append(argument)
    return CallPlan("win64", tuple(arguments), result, stack_bytes, 0, result_pointer=result_pointer)
