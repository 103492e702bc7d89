"""C text up to its tokens: comments and preprocessor lines go, the numbers of `#define`s are kept.

What goes is blanked in place, so an offset means the same before and after; errors point into the text as given.
Declarations are not looked at here: `skipping`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from callgate.errors import DeclarationError


class Source(NamedTuple):
    """The text as it was given; errors point into it."""

    text: str

    def error(self, message: str, offset: int) -> DeclarationError:
        line = self.text.count("\n", 0, offset) + 1
        return self.error_at(message, line, offset - self.text.rfind("\n", 0, offset))

    def error_at(self, message: str, line: int, column: int) -> DeclarationError:
        lines = self.text.split("\n")
        source_line = lines[line - 1].rstrip("\r") if line <= len(lines) else ""
        # A tab is as wide as the terminal likes; a space keeps the caret under its character.
        return DeclarationError(message, line, column, source_line.replace("\t", " "))

    def offset(self, line: int, column: int) -> int:
        start = 0
        for _ in range(line - 1):
            start = self.text.find("\n", start) + 1
        return start + column - 1


class Macro(NamedTuple):
    """`#define name body`."""

    name: str
    body: str
    offset: int


class Comment(NamedTuple):
    """A comment's text and where it stands: [start, end)."""

    start: int
    end: int


class Token(NamedTuple):
    """A word, number, string, char or punctuation mark; "end" after the last."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


# --- comments ----------------------------------------------------------------------------------------------

_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')   # a literal hides comment marks
      | (/\*.*?\*/ | //(?:\\\r?\n|[^\n])*)
      | (/\*)""",
    re.VERBOSE | re.DOTALL,
)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def blank_comments(source: Source) -> tuple[str, tuple[Comment, ...]]:
    """The text without its comments, and where they were."""
    comments: list[Comment] = []

    def replace(found: re.Match[str]) -> str:
        if found[3]:
            raise source.error("this comment is never closed: add '*/'", found.start())
        if found[2]:
            comments.append(Comment(found.start(), found.end()))
            return _blank(found[0])
        return found[0]

    return _COMMENT.sub(replace, source.text), tuple(comments)


# --- directives --------------------------------------------------------------------------------------------

_DIRECTIVE = re.compile(r"[ \t\r\f\v\ufeff]*#[ \t]*(\w*)(.*)", re.DOTALL)
_DEFINE = re.compile(r"\s*([A-Za-z_]\w*)(\(?)(.*)", re.DOTALL | re.ASCII)
_CONDITIONS = {  # what is known without a compiler: this is C, and 0 and 1
    "defined(__cplusplus)": False,
    "defined__cplusplus": False,
    "__cplusplus": False,
    "!defined(__cplusplus)": True,
    "!defined__cplusplus": True,
    "0": False,
    "1": True,
}
_ONLY = "callgate understands '#define NAME number', include guards and #ifdef __cplusplus"


def blank_directives(source: Source, text: str) -> tuple[str, dict[str, Macro]]:
    """The text without its # lines and the groups they leave out, and the `#define`s."""
    return _Directives(source, text).blank()


class _Conditional(NamedTuple):
    offset: int
    is_active: bool
    is_known: bool = True  # False inside a group that is skipped anyway


class _Directives:
    """The preprocessor's lines: guards and includes ignored, numbers kept, the rest refused."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self.macros: dict[str, Macro] = {}
        self.conditionals: list[_Conditional] = []
        self.lines = self._logical_lines(text)

    @staticmethod
    def _logical_lines(text: str) -> list[tuple[int, str]]:
        """Lines with their offsets; a directive takes its continuation lines with it (C11 5.1.1.2)."""
        lines: list[tuple[int, str]] = []
        start = 0
        while start < len(text):
            end = text.find("\n", start)
            while end > 0 and text[start:end].rstrip("\r").endswith("\\") and "#" in text[start:end]:
                end = text.find("\n", end + 1)
            end = len(text) if end < 0 else end + 1
            lines.append((start, text[start:end]))
            start = end
        return lines

    def blank(self) -> tuple[str, dict[str, Macro]]:
        parts: list[str] = []
        for number, (start, line) in enumerate(self.lines):
            found = _DIRECTIVE.match(line)
            if found:
                self._directive(number, start + line.index("#"), start, found)
                parts.append(_blank(line))
            else:
                parts.append(line if self._is_active() else _blank(line))
        if self.conditionals:
            raise self.source.error("this condition is never closed: add '#endif'", self.conditionals[-1].offset)
        return "".join(parts).replace("\\\r\n", " \r\n").replace("\\\n", " \n"), self.macros

    def _is_active(self) -> bool:
        return not self.conditionals or self.conditionals[-1].is_active

    def _directive(self, number: int, offset: int, start: int, found: re.Match[str]) -> None:
        word = found[1]
        rest = found[2].replace("\\\r\n", " ").replace("\\\n", " ").strip()
        if word in ("if", "ifdef", "ifndef"):
            if self._is_active():
                self.conditionals.append(_Conditional(offset, self._holds(number, offset, word, rest)))
            else:
                self.conditionals.append(_Conditional(offset, False, is_known=False))
        elif word in ("else", "elif", "elifdef", "elifndef", "endif"):
            if not self.conditionals:
                raise self.source.error(f"#{word} without #if", offset)
            last = self.conditionals.pop()
            if word == "endif":
                return
            if word != "else" and last.is_known:
                raise self.source.error(f"#{word} is not understood: {_ONLY}", offset)
            self.conditionals.append(last._replace(is_active=last.is_known and not last.is_active))
        elif self._is_active():
            self._line(word, rest, offset, start + found.start(2), found[2])

    def _line(self, word: str, rest: str, offset: int, rest_offset: int, raw: str) -> None:
        # Line markers ("# 1 "math.h" 3") are what gcc -E writes between declarations; positions are those of this text.
        if word in ("include", "include_next", "", "line") or word.isdigit():
            if word == "" and rest:
                raise self.source.error(f"this # line is not understood: {_ONLY}", offset)
            return
        if word == "pragma" and rest == "once":
            return
        if word != "define":
            what = f"#{word} {rest.split()[0]}" if word == "pragma" and rest else f"#{word}"
            raise self.source.error(f"{what} is not understood: {_ONLY}; leave the line out", offset)
        found = _DEFINE.match(raw)
        if not found:
            raise self.source.error("#define needs a name and a number", offset)
        name = found[1]
        if found[2]:
            raise self.source.error(f"{name}() is a macro with parameters: {_ONLY}; leave it out", offset)
        body = found[3].replace("\\\r\n", "  ").replace("\\\n", " ").strip()
        body_offset = rest_offset + found.start(3) + len(found[3]) - len(found[3].lstrip())
        if body == name:
            return  # glibc's way to make an enumerator visible to #ifdef
        earlier = self.macros.get(name)
        if earlier and earlier.body.split() != body.split():
            raise self.source.error(f"{name} is defined twice: as '{earlier.body}' and as '{body}'", offset)
        self.macros[name] = Macro(name, body, body_offset if body else offset)

    def _holds(self, number: int, offset: int, word: str, rest: str) -> bool:
        is_negated = "!" if word == "ifndef" else ""
        condition = "".join(rest.split()) if word == "if" else f"{is_negated}defined({rest})"
        if condition in _CONDITIONS:
            return _CONDITIONS[condition]
        guard = re.fullmatch(r"!defined\(?(\w+)\)?", condition)
        if guard:
            if guard[1] in self.macros:
                return False  # the same header pasted twice
            following = next((line for _, line in self.lines[number + 1 :] if line.strip()), "")
            if re.match(rf"\s*#\s*define\s+{guard[1]}\b", following):
                return True
        raise self.source.error(
            f"#{word} {rest} is not understood: callgate evaluates no conditions but include guards and"
            " __cplusplus; paste only the branch that applies",
            offset,
        )


# --- tokens ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\r\f\v]+)
      | (?P<string>(?:L|u8|u|U)?"(?:\\.|[^"\\\n])*")
      | (?P<char>(?:L|u8|u|U)?'(?:\\.|[^'\\\n])+')
      | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
      | (?P<number>\.?[0-9](?:[eEpP][+-]|[A-Za-z0-9_.])*)
      | (?P<punctuation>\.\.\.|[][(){}*,;:=+\-/%&|^~!<>?.])""",
    re.VERBOSE,
)


def tokenize(source: Source, text: str) -> list[Token]:
    """The tokens of the text, and an "end" after them.  Operators come as single characters: no rule needs more."""
    tokens: list[Token] = []
    position = 1 if text.startswith("\ufeff") else 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise source.error(_unexpected(text[position]), position)
        kind = found.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, found[0], position))
        position = found.end()
    tokens.append(Token("end", "", tokens[-1].end if tokens else 0))
    return tokens


def _unexpected(character: str) -> str:
    if character in "\"'":
        return f"this literal is never closed: add {character}"
    if character == "#":
        return "'#' must be the first character of its line"
    if not character.isprintable() or ord(character) > 126:
        return f"unexpected character U+{ord(character):04X}"
    return f"unexpected character {character!r}"
