"""What the commands share at the terminal: their error, progress, headings. Nothing that computes."""

from __future__ import annotations

import os
import sys


class CommandError(Exception):
    """A command cannot go on; the message is all that its user sees."""


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
