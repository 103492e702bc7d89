"""The text of documentation comments without their decoration: what a docstring or a remark shows."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

# Doxygen's commands, with \ or @: those that become words, those that go, those whose whole line goes.
_WORDS = (
    (re.compile(r"[\\@]param(?:\[[^\]]*\])?\s+(\S+)"), r"\1:"),
    (re.compile(r"[\\@](?:returns?|result)\b\s*"), "Returns: "),
    (re.compile(r"[\\@]retval\s+(\S+)"), r"Returns \1:"),
    (re.compile(r"[\\@](?:sa|see)\b\s*"), "See "),
    (re.compile(r"[\\@]since\b\s*"), "Since: "),
    (re.compile(r"[\\@](note|warning|deprecated|remarks?|threadsafety|todo)\b\s*"), lambda m: m[1].capitalize() + ": "),
    (re.compile(r"[\\@](?:brief|short|details)\b\s*"), ""),
    (re.compile(r"[\\@](?:c|p|a|e|b|em|ref|link|endlink)\s+"), ""),
)
_DROPPED_LINE = re.compile(
    r"\s*[\\@](?:(?:end)?(?:code|verbatim)\b|(?:name|ingroup|addtogroup|category|macro)\b|[{}]).*"
)
_ABOUT_SOMETHING_ELSE = re.compile(r"[\\@](?:file|defgroup|name|addtogroup|mainpage|page)\b|[\\@]\{")


def decoded(text: bytes) -> str:
    """UTF-8, or else Latin-1, which old headers have in names of people."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _undecorated(raw: str) -> list[str]:
    """The lines of a comment without /**, *, */, ///."""
    lines = []
    for line in raw.replace("\r\n", "\n").split("\n"):
        text = line.strip()
        if text.startswith(("///", "//!")):
            lines.append(text[3:].removeprefix("<"))
            continue
        if text.startswith("//"):
            lines.append(text[2:])
            continue
        is_first = text.startswith("/*")
        text = re.sub(r"\s*\**\*/$", "", text if is_first else line.rstrip())
        lines.append(re.sub(r"^/\*[*!]*<?" if is_first else r"^\s*\*+(?=\s|$)", "", text))
    return lines


def cleaned(raw: str | None) -> str:
    """The text of a comment: no decoration, no markup commands, no blank lines at the ends or in pairs.

    >>> cleaned("/** @brief The length.\\n *  @param s a string\\n */")
    'The length.\\ns: a string'
    """
    if not raw or _ABOUT_SOMETHING_ELSE.search(raw) or re.fullmatch(r"/\*+/", raw):
        return ""
    kept: list[str] = []
    for line in _undecorated(raw):
        if _DROPPED_LINE.fullmatch(line):
            continue
        text = line
        for pattern, words in _WORDS:
            text = pattern.sub(words, text)
        text = "".join(character if character.isprintable() else " " for character in text.expandtabs(4)).rstrip()
        if text or (kept and kept[-1]):
            kept.append(text)
    while kept and not kept[-1]:
        kept.pop()
    rest = textwrap.dedent("\n".join(kept[1:])).split("\n") if kept[1:] else []
    return "\n".join([line.strip() for line in kept[:1]] + _hanging(rest))


def _hanging(lines: list[str]) -> list[str]:
    """What continues the line of a parameter is indented by four."""
    made, continues = [], False
    for line in lines:
        if continues and line.startswith(" "):
            line = "    " + line.strip()  # noqa: PLW2901
        else:
            continues = bool(re.match(r"(?:[\w.]+|Returns [^:]+):(?: |$)", line))
        made.append(line)
    return made


def first_sentence(doc: str) -> str:
    """The first paragraph on one line: what fits behind a member."""
    return " ".join(doc.split("\n\n")[0].split())


_LONGEST_REMARK = 4  # lines


class Remarks:
    """The comments behind declarations on their lines, of any style: clang keeps documentation comments only."""

    def __init__(self) -> None:
        self._lines: dict[str, list[bytes]] = {}

    def behind(self, file: str, line: int, column: int) -> str:
        """The comment that follows a place (line and column from 1) on its line, perhaps after `,` or `;`; else ""."""
        if file not in self._lines:
            try:
                self._lines[file] = Path(file).read_bytes().split(b"\n")
            except OSError:
                self._lines[file] = []
        lines = self._lines[file][line - 1 : line - 1 + _LONGEST_REMARK]
        if not lines:
            return ""
        rest = decoded(lines[0][column - 1 :]).strip().lstrip(",;").strip()
        if rest.startswith("//"):
            return first_sentence(cleaned(rest))
        if not rest.startswith("/*"):
            return ""
        for following in lines[1:]:
            if "*/" in rest:
                break
            rest += "\n" + decoded(following).rstrip()
        return first_sentence(cleaned(rest)) if rest.find("*/") == len(rest) - 2 else ""
