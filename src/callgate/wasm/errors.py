"""What WebAssembly modules can be blamed for: the errors of decoding, validation and linking, and the traps."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from callgate.errors import CallgateError


class _BadModule(CallgateError, ValueError):
    """What a module is refused for; `file` is the path that it came from, "" for bytes."""

    file = ""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.file}: {text}" if self.file else text


class BinaryError(_BadModule):
    """Bytes that are no WebAssembly module; `offset` is the place in the module, `file` the path of that."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset:#x})")
        self.message = message
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.offset), self.__dict__


class ValidationError(_BadModule):
    """A module that is well formed and breaks the rules; `offset` is the place where there is one, `file` its path."""

    def __init__(self, message: str, offset: int | None = None, function: str | None = None) -> None:
        where = [] if function is None else [f"in {function}"]
        where += [] if offset is None else [f"at byte {offset:#x}"]
        super().__init__(f"{message} ({', '.join(where)})" if where else message)
        self.message = message
        self.offset = offset
        self.function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.offset, self.function), self.__dict__


@contextmanager
def naming(source: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Let a module's errors tell the file that it came from."""
    try:
        yield
    except (BinaryError, ValidationError) as problem:
        if not isinstance(source, bytes):
            problem.file = os.fspath(source)
        raise


class LinkError(CallgateError, ImportError):
    """Imports, or exports that a Protocol declares, that are missing or of another type.

    The message lists them all, `problems` has a line each; `hint` is what to do next, where that is known.
    """

    def __init__(self, problems: tuple[str, ...], hint: str = "") -> None:
        super().__init__("\n".join([*problems, hint] if hint else problems))
        self.problems = problems
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.hint), self.__dict__


class ClosedError(CallgateError, ValueError):
    """A call of an instance that has been closed."""


class Frame(NamedTuple):
    """A place in a WebAssembly backtrace: the function's number and name, the instruction's offset."""

    number: int
    name: str
    offset: int | None

    def __str__(self) -> str:
        name = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in self.name)
        return f"{name} (function {self.number}{'' if self.offset is None else f' at byte {self.offset:#x}'})"


_FRAMES_SHOWN = 10


class Trap(CallgateError, RuntimeError):
    """WebAssembly code that was stopped; `frames` are the functions that it was in, the innermost first."""

    text = "trap"

    def __init__(self, text: str | None = None, frames: tuple[Frame, ...] = ()) -> None:
        super().__init__(text or self.text)
        self.frames = frames

    def __str__(self) -> str:
        """The text, and the backtrace, of which only the ends where it is long."""
        frames = [str(frame) for frame in self.frames]
        if len(frames) > 2 * _FRAMES_SHOWN:
            left_out = f"{len(frames) - 2 * _FRAMES_SHOWN} more"
            frames = [*frames[:_FRAMES_SHOWN], left_out, *frames[-_FRAMES_SHOWN:]]
        return "\n  in ".join([super().__str__(), *frames])


def add_frames(problem: BaseException, frames: tuple[Frame, ...]) -> None:
    """Tell an exception which WebAssembly functions it has left: a Trap's `frames`, else `wasm_frames` and a note."""
    if not frames:
        return
    if isinstance(problem, Trap):
        problem.frames += frames
        return
    problem.wasm_frames = (*getattr(problem, "wasm_frames", ()), *frames)  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11):
        problem.add_note("\n".join(["WebAssembly functions that it went through:", *[f"  in {one}" for one in frames]]))


class OutOfBounds(Trap, IndexError):
    """An access outside of the memory."""

    text = "out of bounds memory access"


class TableOutOfBounds(Trap, IndexError):
    """An access outside of a table by an instruction that copies, fills or reads it."""

    text = "out of bounds table access"


class UndefinedElement(Trap, IndexError):
    """An indirect call with an index outside of the table."""

    text = "undefined element"


class UninitializedElement(Trap):
    """An indirect call of a null reference."""

    text = "uninitialized element"


class IndirectCallMismatch(Trap):
    """An indirect call of a function of another type."""

    text = "indirect call type mismatch"


class DivisionByZero(Trap, ZeroDivisionError):
    """An integer division by zero."""

    text = "integer divide by zero"


class IntegerOverflow(Trap, OverflowError):
    """A quotient or a truncated float that the integer type does not hold."""

    text = "integer overflow"


class InvalidConversion(Trap):
    """A NaN that is to become an integer."""

    text = "invalid conversion to integer"


class Unreachable(Trap):
    """The instruction `unreachable`: abort(), a panic, a failed assertion."""

    text = "unreachable"


class StackExhausted(Trap, RecursionError):
    """Calls that are nested too deeply."""

    text = "call stack exhausted"


class OutOfFuel(Trap):
    """`Limits.fuel` is used up."""

    text = "all fuel is used up"


class TimedOut(Trap, TimeoutError):
    """`Limits.timeout_s` is over."""

    text = "the time limit is over"


TRAPS: tuple[type[Trap], ...] = (
    *(OutOfBounds, TableOutOfBounds, UndefinedElement, UninitializedElement, IndirectCallMismatch),
    *(DivisionByZero, IntegerOverflow, InvalidConversion, Unreachable, StackExhausted),
)
"""What compiled code traps with, by its number there."""
