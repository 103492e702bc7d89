"""The values of a header's macros: libclang evaluates them.

Each object-like macro initializes a variable in a second translation unit; what clang finds constant there is a
constant, and its errors tell which macros are something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from callgate.c.header_model import ConstantOf, HeaderType, Location, NotBound
from callgate.c.translation_unit import ClangText

Clang: TypeAlias = Any
Cursor: TypeAlias = Any

_PREFIX = "callgate_value_of_"
_ADDRESS_PREFIX = "callgate_address_of_"
_LINES = 4  # of a probe
_INTEGER, _FLOATING = 1, 2  # CXEval_Int, CXEval_Float
_ERROR = 3  # CXDiagnostic_Error
_DISTURBING = frozenset(
    (
        *("{", "}", ";", "extern", "static", "typedef", "inline", "__inline", "__inline__", "return", "if", "else"),
        *("for", "while", "do", "switch", "case", "goto", "asm", "__asm__"),
    )
)
"""Tokens that no constant has, and that could spoil the lines after it."""
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "e": 27}


class Macro(NamedTuple):
    """An object-like macro: the tokens it stands for and its place."""

    name: str
    tokens: tuple[str, ...]
    location: Location
    doc: str


class MacroReader:
    """Sorts out macros, writes the probes, and reads their values."""

    def __init__(
        self, clang: Clang, unit: Clang, location: Callable[[Cursor], Location], remark: Callable[[Cursor], str]
    ) -> None:
        self.clang = clang
        self.location = location
        self.remark = remark
        self.lib = clang.conf.lib
        self.text = ClangText(clang)
        self.refused: list[NotBound] = []
        self._definitions = {
            cursor.spelling: cursor
            for cursor in unit.cursor.get_children()
            if cursor.kind == clang.CursorKind.MACRO_DEFINITION
        }
        self._disturbing: dict[str, bool] = {}

    def candidates(self, cursors: Sequence[Cursor]) -> list[Macro]:
        """The macros that may be constants; function-like ones and those that cannot be go to `refused`."""
        last = {cursor.spelling: cursor for cursor in cursors}
        made = []
        for name, cursor in last.items():
            if self.lib.clang_Cursor_isMacroFunctionLike(cursor):
                self.refused.append(NotBound(name, "a function-like macro", self.location(cursor)))
                continue
            tokens = self._body(cursor)
            if not tokens:
                continue  # an include guard, a decoration
            if self._is_disturbing(name):
                self.refused.append(NotBound(name, "a macro that is no constant", self.location(cursor)))
                continue
            made.append(Macro(name, tokens, self.location(cursor), self.remark(cursor)))
        return made

    def _body(self, cursor: Cursor) -> tuple[str, ...]:
        """What a macro stands for: the tokens behind its name."""
        return self.text.tokens(cursor)[1:]

    def _is_disturbing(self, name: str) -> bool:
        """Whether a macro expands to something that spoils the lines after it."""
        known = self._disturbing.get(name)
        if known is not None:
            return known
        self._disturbing[name] = False  # a macro does not expand in itself
        cursor = self._definitions.get(name)
        if cursor is None:
            return False
        tokens = self._body(cursor)
        is_unbalanced = any(tokens.count(left) != tokens.count(right) for left, right in (("(", ")"), ("[", "]")))
        found = (
            is_unbalanced
            or not _DISTURBING.isdisjoint(tokens)
            or any(self._is_disturbing(token) for token in tokens if token in self._definitions)
        )
        self._disturbing[name] = found
        return found

    def probes(self, macros: Sequence[Macro]) -> str:
        """C text that gives each macro's value to a variable, `_LINES` for one; none where it has been undefined."""
        return "".join(
            f"#ifdef {name}\n"
            f"__auto_type {_PREFIX}{name} = {name};\n"
            f"__UINTPTR_TYPE__ {_ADDRESS_PREFIX}{name} = (__UINTPTR_TYPE__)({name});\n"
            "#endif\n"
            for name in (macro.name for macro in macros)
        )

    def constants(
        self, macros: Sequence[Macro], unit: Clang, main: str, first_line: int, type_of: Callable[[Any], HeaderType]
    ) -> tuple[list[ConstantOf], list[NotBound]]:
        """The values, and the macros that have none; `unit` has the probes in the file `main` from `first_line`."""
        failed = {
            diagnostic.location.line
            for diagnostic in unit.diagnostics
            if diagnostic.severity >= _ERROR and diagnostic.location.file and diagnostic.location.file.name == main
        }
        variables = {
            cursor.spelling: cursor
            for cursor in unit.cursor.get_children()
            if cursor.kind == self.clang.CursorKind.VAR_DECL and cursor.spelling.startswith("callgate_")
        }
        constants, refused = [], []
        for number, macro in enumerate(macros):
            line = first_line + 1 + _LINES * number
            variable = variables.get(_PREFIX + macro.name)
            if variable is None and line not in failed:
                continue  # undefined at the end
            value, pointer = None, None
            if variable is not None and line not in failed:
                value = self._value(variable)
                if value is None and variable.type.get_canonical().kind == self.clang.TypeKind.POINTER:
                    value = self._evaluated(variables.get(_ADDRESS_PREFIX + macro.name))
                    pointer = type_of(variable.type)
            if value is None:
                refused.append(NotBound(macro.name, _no_constant(macro), macro.location))
                continue
            is_hexadecimal = any(token[:2] in ("0x", "0X") for token in macro.tokens) or "<<" in macro.tokens
            constants.append(ConstantOf(macro.name, value, is_hexadecimal, pointer, macro.doc, macro.location))
        return constants, refused

    def _value(self, variable: Cursor) -> int | float | str | bytes | None:
        if variable.type.get_canonical().kind == self.clang.TypeKind.POINTER:
            return self._string(variable)
        return self._evaluated(variable)

    def _evaluated(self, variable: Cursor | None) -> int | float | None:
        """A variable's value, if clang finds it constant."""
        if variable is None:
            return None
        result = self.lib.clang_Cursor_Evaluate(variable)
        if not result:
            return None
        try:
            kind = self.lib.clang_EvalResult_getKind(result)
            if kind == _FLOATING:
                number = float(self.lib.clang_EvalResult_getAsDouble(result))
                return number if number - number == 0 else None  # an infinity has no literal
            if kind != _INTEGER:
                return None
            if self.lib.clang_EvalResult_isUnsignedInt(result):
                return int(self.lib.clang_EvalResult_getAsUnsigned(result))
            return int(self.lib.clang_EvalResult_getAsLongLong(result))
        finally:
            self.lib.clang_EvalResult_dispose(result)

    def _string(self, variable: Cursor) -> str | bytes | None:
        """The value of a string literal, in parentheses or not; wide ones have none."""
        cursor = variable
        while cursor.kind != self.clang.CursorKind.STRING_LITERAL:
            inner = list(cursor.get_children())
            if len(inner) != 1 or cursor.kind == self.clang.CursorKind.CALL_EXPR:
                return None
            cursor = inner[0]
        spelling = str(cursor.spelling)
        if not spelling.startswith('"'):
            return None
        content = unescaped(spelling[1:-1])
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return content
        return content if "\0" in text else text


def unescaped(text: str) -> bytes:
    r"""The bytes that the inside of a C string literal stands for (C11 6.4.4.4).

    >>> unescaped(r'a\n\x41\102\"')
    b'a\nAB"'
    """

    def replace(found: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = found.groups()
        if octal:
            return bytes([int(octal, 8) & 255])
        if hexadecimal:
            return bytes([int(hexadecimal, 16) & 255])
        return bytes([_ESCAPES.get(letter.decode(), letter[0])])

    return re.sub(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", replace, text.encode("utf-8"), flags=re.DOTALL)


def _no_constant(macro: Macro) -> str:
    return "a macro that is no constant: " + " ".join(macro.tokens[:12]) + (" …" if len(macro.tokens) > 12 else "")
