"""The call plan: where every argument and the result of one C call travel.  Frozen data that prints.

Whoever needs to know (lowering, explain, other generators) reads the plan; only `classify` decides.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from callgate.c.types import CType, FunctionType, Void, spell
from callgate.errors import DeclarationError
from callgate.target import Target


class Class(Enum):
    """The classes of psABI 3.2.3 that scalars can have."""

    INTEGER = "INTEGER"
    SSE = "SSE"
    X87 = "X87"
    NO_CLASS = "NO_CLASS"


class Argument(NamedTuple):
    """One argument: its type, size, class, and its register's name, or "" where it lies at `stack_offset`."""

    type: CType
    size_bytes: int
    eightbyte_class: Class
    register: str
    stack_offset: int = 0

    def __str__(self) -> str:
        place = self.register or f"[rsp+{self.stack_offset}]"
        return f"{spell(self.type):<24} {self.eightbyte_class.value:<9} {place}"


class CallPlan(NamedTuple):
    """Where the arguments and the result of a call travel.

    `stack_bytes` is the size of the argument area, a multiple of 16 as the convention wants it at the call.
    """

    convention: str
    arguments: tuple[Argument, ...]
    result: Argument
    stack_bytes: int
    vector_registers: int

    def __str__(self) -> str:
        lines = [f"convention {self.convention}, {self.stack_bytes} bytes of stack arguments"]
        lines += [f"  argument {number}  {argument}" for number, argument in enumerate(self.arguments, 1)]
        if isinstance(self.result.type, Void):
            lines.append("  result      void")
        else:
            lines.append(f"  result      {self.result}")
        return "\n".join(lines)


def classify(function: FunctionType, target: Target) -> CallPlan:
    """Decide where the arguments and the result of `function` travel on `target`.

    Raises DeclarationError for a type whose way is not known.
    """
    from callgate.abi import sysv  # the conventions read the records above

    if target.calling_convention == "sysv":
        return sysv.classify_sysv(function, target)
    raise DeclarationError(f"no calling convention is known for target {target.name}")
