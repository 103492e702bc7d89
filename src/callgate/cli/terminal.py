"""What the commands share at the terminal: their error, progress, headings. Nothing that computes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BAR_WIDTH = 30


class CommandError(Exception):
    """A command cannot go on; the message is all that its user sees."""


@contextmanager
def importing(module: str) -> Iterator[None]:
    """While a module is imported, as `python -m` would find it; CommandError where that fails.

    The working directory is afterwards what it was.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise CommandError(f"{module} is not the name of a module; write it as in `import package.module`")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    except Exception as problem:
        text = f"importing {module} failed with {type(problem).__name__}: {problem}"
        if isinstance(problem, ModuleNotFoundError) and problem.name and f"{module}.".startswith(f"{problem.name}."):
            is_file = module.endswith(".py")
            text += "; write its name without .py" if is_file else "; install it, or let PYTHONPATH name its folder"
        raise CommandError(text) from problem
    finally:
        os.chdir(folder)
        with suppress(ValueError):  # the module has taken it away
            sys.path.remove(folder)


class Progress:
    """One line on stderr that says what is going on; silent unless stderr is a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def say(self, what: str) -> None:
        """Replace the line."""
        if self._is_shown:
            print(f"\r\x1b[K{what} …", end="", file=sys.stderr, flush=True)

    def bar(self, what: str, done: int, whole: int) -> None:
        """Replace the line by a bar, which is full when all is done."""
        filled = _BAR_WIDTH * done // max(1, whole)
        self.say(f"{what} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {100 * done // max(1, whole)} %")

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def heading(text: str) -> str:
    """`text` in bold where stdout is a terminal that shows it."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        return f"\x1b[1m{text}\x1b[0m"
    return text
