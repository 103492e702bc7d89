"""What the commands share at the terminal: their error, progress, headings. Nothing that computes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class CommandError(Exception):
    """A command cannot go on; the message is all that its user sees."""


@contextmanager
def importing(module: str) -> Iterator[None]:
    """While a module is imported, as `python -m` would find it; CommandError where that fails."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    except Exception as problem:
        raise CommandError(f"importing {module} failed with {type(problem).__name__}: {problem}") from problem
    finally:
        sys.path.remove(os.getcwd())


class Progress:
    """One line on stderr that says what is going on; silent unless stderr is a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def say(self, what: str) -> None:
        """Replace the line."""
        if self._is_shown:
            print(f"\r\x1b[K{what} …", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def heading(text: str) -> str:
    """`text` in bold where stdout is a terminal that shows it."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        return f"\x1b[1m{text}\x1b[0m"
    return text
