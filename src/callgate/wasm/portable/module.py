"""Translated functions of a module, made when they are called first; instances share them.

Each function is a file of its own to Python, `<wasm NAME:NUMBER FUNCTION>`, whose lines `linecache` knows: tracebacks
show them and a debugger steps through them.
"""

from __future__ import annotations

import itertools
import linecache
import weakref
from types import CodeType
from typing import Any, Final, NamedTuple

from callgate.wasm.limits import poll_interval
from callgate.wasm.portable.translate import Translator
from callgate.wasm.validate import Context, Progress, check_body, checked_bodies

_SERIAL = itertools.count(1)


class Translated(NamedTuple):
    """A function of a module as Python has it: its number among all, and the offset of each of its lines.

    `words` is the number of its parameters, locals and values on the operand stack.
    """

    module: Any
    number: int
    code: CodeType
    offsets: tuple[int, ...]
    constants: dict[str, Any]
    has_tail_calls: bool
    words: int


FILES: Final[dict[str, Translated]] = {}
"""All translated functions that are alive, by the name of their file."""


_POLL_INTERVAL: Final = 1 << 10
"""Rounds of loops and calls between two looks at the limits."""


class PortableModule:
    """A module's functions in Python."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.module = context.module
        self.poll_interval = poll_interval(_POLL_INTERVAL, self.module)
        self._serial = next(_SERIAL)
        self._translated: dict[tuple[int, bool], Translated] = {}
        self._files: list[str] = []
        weakref.finalize(self, _forget, self._files)

    def check(self, progress: Progress | None) -> None:
        """Check all bodies; nothing is translated yet."""
        for _ in checked_bodies(self.context, progress):
            pass

    def function(self, number: int, *, is_metered: bool) -> Translated:
        """A function by its number among all."""
        found = self._translated.get((number, is_metered))
        if found is None:
            body = check_body(self.context, number - self.module.imported_functions)
            translator = Translator(self.context, body, is_metered=is_metered)
            source = translator.run()
            name = self.module.function_name(number)
            metered = " metered" if is_metered else ""
            shown = f"{self.module.name or 'module'}:{self._serial}{metered} {number} {name}"
            file = f"<wasm {shown if shown.isprintable() else ascii(shown)}>"
            scope = compile(source.text, file, "exec", dont_inherit=True)
            code = next(one for one in scope.co_consts if isinstance(one, CodeType))
            linecache.cache[file] = len(source.text), None, source.text.splitlines(keepends=True), file
            found = Translated(
                *(weakref.ref(self), number, code, source.offsets, source.constants),
                *(translator.has_tail_calls, len(body.locals) + body.deepest),
            )
            self._translated[number, is_metered] = FILES[file] = found
            self._files.append(file)
        return found

    def source(self, number: int, *, is_metered: bool = False) -> str:
        """The text of a function."""
        return "".join(linecache.getlines(self.function(number, is_metered=is_metered).code.co_filename))


def _forget(files: list[str]) -> None:
    for file in files:
        FILES.pop(file, None)
        linecache.cache.pop(file, None)
