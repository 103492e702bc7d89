"""The error family of callgate, and nothing else.

Every error that callgate itself finds derives from :class:`CallgateError` and from the built-in
class that a Python programmer would catch for it.  Errors in the arguments of a call are plain
TypeError, ValueError and OverflowError, as for any builtin.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class CallgateError(Exception):
    """Base class of the errors that callgate defines."""


class DeclarationError(CallgateError, TypeError):
    """A declaration that has no meaning in C: an annotation without a C type, malformed C text.

    For C text, `line` and `column` (both from 1) tell the place and `source_line` is the line itself;
    for annotations they are None.
    """

    def __init__(
        self, message: str, line: int | None = None, column: int | None = None, source_line: str | None = None
    ) -> None:
        self.line = line
        self.column = column
        self.source_line = source_line
        if line is not None and column is not None and source_line is not None:
            message = f"line {line}, column {column}: {message}\n    {source_line}\n    {' ' * (column - 1)}^"
        super().__init__(message)


class LibraryNotFoundError(CallgateError, OSError):
    """No candidate of a library could be loaded; the message tells what was tried."""


class SymbolNotFoundError(CallgateError, AttributeError):
    """A library has no such symbol; the message names the nearest ones."""


class CallError(CallgateError):
    """A function returned a failing status and its declaration gives no `error=`.

    `function` is the function's name, `code` the status it returned.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(function, code)
        self.function = function
        self.code = code

    def __str__(self) -> str:
        return f"{self.function}() failed with status {self.code}"


class ConventionError(CallgateError, RuntimeError):
    """Under CALLGATE_CHECK: a C function came back without the caller's registers or stack pointer."""


class EngineError(CallgateError, RuntimeError):
    """An engine was asked for by name and cannot run here; the message says why."""


class ImageError(CallgateError, OSError):
    """A file of machine code that is not run: of unknown hands, damaged, or made for something else."""


def unreachable(value: NoReturn) -> NoReturn:
    """Close a `match` or an if-chain over a closed set (typing.assert_never, which 3.10 lacks)."""
    raise AssertionError(f"unhandled case: {value!r}")
