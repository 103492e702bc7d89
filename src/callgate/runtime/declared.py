"""What a program declares, and the watch that `callgate build` keeps over it."""

from __future__ import annotations

from typing import NamedTuple

from callgate.c.types import CallbackType, FunctionType
from callgate.cpython.conversion import Conversion, CtypesRules, Judgement, SavedError, convert
from callgate.lower.stacks import has_stacks
from callgate.target import Target


class Declared(NamedTuple):
    """A function with all that its machine code depends on, for whatever target that is made."""

    signature: FunctionType
    judgement: Judgement
    saved_error: SavedError
    is_blocking: bool
    ctypes: CtypesRules | None = None
    is_on_stack: bool = False

    def conversion(self, target: Target) -> Conversion:
        """Its conversions on a target; DeclarationError where there are none."""
        conversion = convert(
            self.signature,
            target,
            judgement=self.judgement,
            saved_error=self.saved_error,
            is_blocking=self.is_blocking,
            ctypes=self.ctypes,
        )
        return conversion._replace(is_on_stack=self.is_on_stack and has_stacks(target))


class Watch:
    """What is declared while it is `current`: gates, callbacks, and the libraries whose functions are bound later."""

    current: Watch | None = None

    def __init__(self) -> None:
        self.gates: list[Declared] = []
        self.callbacks: list[CallbackType] = []
        self.libraries: list[object] = []
