"""The call plan: where every argument and the result of one C call travel.  Frozen data that prints.

Whoever needs to know (lowering, explain, other generators) reads the plan; only `classify` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from callgate.c.types import VARIABLE, CType, FunctionType, Void, spell
from callgate.errors import DeclarationError
from callgate.target import Target


class Class(Enum):
    """The classes of psABI 3.2.3."""

    INTEGER = "INTEGER"
    SSE = "SSE"
    X87 = "X87"
    X87UP = "X87UP"
    NO_CLASS = "NO_CLASS"
    MEMORY = "MEMORY"


class Piece(NamedTuple):
    """A part of a value that travels in a register of its own: at most an eightbyte, `offset_bytes` into the value."""

    offset_bytes: int
    size_bytes: int
    eightbyte_class: Class
    register: str


class Argument(NamedTuple):
    """One argument: its type, size, class, and its register's name, or "" where it lies at `stack_offset`.

    A value of several eightbytes in registers, and every struct in registers, has `pieces` instead, one for each
    eightbyte; `eightbyte_class` is then that of the first.  A struct of class MEMORY lies on the stack whole; as a
    result it is written to where the hidden first argument points.

    With a `copy_offset` (class MEMORY too) what travels in `register` or at `stack_offset` is the address of a copy,
    which the caller makes at that offset of the argument area and the callee may change.  `twin` is the integer
    register that a float for a variadic function travels in as well.
    """

    type: CType
    size_bytes: int
    eightbyte_class: Class
    register: str
    stack_offset: int = 0
    pieces: tuple[Piece, ...] = ()
    copy_offset: int | None = None
    twin: str = ""

    @property
    def memory_offset(self) -> int:
        """Where in the argument area the caller puts a value of class MEMORY, or its copy."""
        return self.stack_offset if self.copy_offset is None else self.copy_offset

    @property
    def is_quad(self) -> bool:
        """Whether it is one floating value of 16 bytes, which travels in a vector register."""
        return self.eightbyte_class is Class.SSE and self.size_bytes == 16 and not self.pieces

    @property
    def registers(self) -> tuple[str, ...]:
        """The registers that it takes."""
        if self.pieces:
            return tuple(piece.register for piece in self.pieces)
        return (self.register,) if self.register else ()

    def __str__(self) -> str:
        return self.text("rsp")

    def text(self, stack_pointer: str) -> str:
        """Type, class and place; places on the stack from where `stack_pointer` points at the call."""
        if self.pieces:
            classes = ", ".join(piece.eightbyte_class.value for piece in self.pieces)
            return f"{spell(self.type):<24} {classes:<9} {', '.join(self.registers)}"
        place = self.register or f"[{stack_pointer}+{self.stack_offset}]"
        if self.twin:
            place += f", {self.twin}"
        if self.copy_offset is not None:
            place += f" = {stack_pointer}+{self.copy_offset}, the copy"
        if self.eightbyte_class is Class.NO_CLASS:
            place = "nowhere"
        return f"{spell(self.type):<24} {self.eightbyte_class.value:<9} {place}"


class CallPlan(NamedTuple):
    """Where the arguments and the result of a call travel.

    `stack_bytes` is the size of the argument area, copies included, a multiple of 16 as the convention wants it at the
    call.  `vector_registers` counts those that carry arguments; where `is_variadic`, the callee wants it in al.
    `result_pointer` is the register with the address that a result of class MEMORY is written to, or "";
    `stack_pointer` is what the processor calls its own.
    """

    convention: str
    arguments: tuple[Argument, ...]
    result: Argument
    stack_bytes: int
    vector_registers: int
    is_variadic: bool = False
    result_pointer: str = ""
    stack_pointer: str = "rsp"

    def __str__(self) -> str:
        lines = [f"convention {self.convention}, {self.stack_bytes} bytes of stack arguments"]
        if self.result_pointer:
            lines.append(f"  hidden      {'address of the result':<24} {'INTEGER':<9} {self.result_pointer}")
        for number, argument in enumerate(self.arguments, 1):
            lines.append(f"  argument {number}  {argument.text(self.stack_pointer)}")
        if self.is_variadic:
            lines.append(f"  variadic    {'vector registers used':<24} {self.vector_registers:<9} al")
        if isinstance(self.result.type, Void):
            lines.append("  result      void")
        elif self.result_pointer and not self.result.register:
            lines.append(f"  result      {spell(self.result.type):<24} {'MEMORY':<9} [{self.result_pointer}]")
        else:
            lines.append(f"  result      {self.result}")
        return "\n".join(lines)


def classify(function: FunctionType, target: Target) -> CallPlan:
    """Decide where the arguments and the result of a function travel; DeclarationError where that is not known."""
    types = [parameter.type for parameter in function.parameters]
    variable_count = sum(parameter.name == VARIABLE for parameter in function.parameters)
    return classify_types(
        types, function.result.type, target, is_variadic=function.is_variadic, variable_count=variable_count
    )


def classify_types(
    parameters: Sequence[CType],
    result: CType,
    target: Target,
    *,
    is_variadic: bool = False,
    variable_count: int = 0,
) -> CallPlan:
    """The same for types alone, as for a function that C calls; the last `variable_count` are variable arguments."""
    from callgate.abi import aapcs64, sysv, win64  # the conventions read the records above

    match target.calling_convention:
        case "sysv":
            return sysv.classify_sysv(parameters, result, target, is_variadic=is_variadic)
        case "win64":
            return win64.classify_win64(parameters, result, target, is_variadic=is_variadic)
        case "aapcs64" | "apple_arm64":
            return aapcs64.classify_aapcs64(parameters, result, target, variable_count=variable_count)
    raise DeclarationError(f"no calling convention is known for target {target.name}")
