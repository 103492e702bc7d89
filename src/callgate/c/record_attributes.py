"""`packed` and `aligned` in C text: which struct, union, enum or member each attribute belongs to, by its place.

The parser does not see attributes; they are blanked before, so that offsets stay.  Here their places are compared with
the braces, semicolons and commas of the blanked text.  What an argument is worth is not known here: `declarations`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

_PACKED = "packed"
_ALIGNED = frozenset(("aligned", "align", "Alignas", "alignas"))


class LayoutAttribute(NamedTuple):
    """A `packed` or `aligned` at an offset of the text; `argument` is what its parentheses hold, "" for none."""

    start: int
    is_packed: bool
    argument: str = ""


def is_layout_word(word: str) -> bool:
    """Whether a word of an attribute, or a macro in its place such as `__packed`, changes a layout."""
    return word.strip("_") == _PACKED or word.strip("_") in _ALIGNED


def layout_attributes(text: str, tokens: list[tuple[int, str]]) -> tuple[LayoutAttribute, ...]:
    """The attributes among (offset, word) pairs, in order; `text` is what they stand in."""
    found = []
    for start, word in tokens:
        if word.strip("_") == _PACKED:
            found.append(LayoutAttribute(start, True))
        elif is_layout_word(word):
            found.append(LayoutAttribute(start, False, _argument(text, start + len(word))))
    return tuple(sorted(found))


def _argument(text: str, position: int) -> str:
    """What stands in the parentheses that follow, "" where there are none."""
    opening = re.compile(r"\s*\(").match(text, position)
    if opening is None:
        return ""
    depth = 0
    for offset in range(opening.end() - 1, len(text)):
        depth += (text[offset] == "(") - (text[offset] == ")")
        if not depth:
            return " ".join(text[opening.end() : offset].split())
    return ""


class RecordAttributes(NamedTuple):
    """What attributes say about one struct, union or enum: about itself, and about its members.

    The key of a member is the number of its declaration and of its declarator, counted by semicolons and commas; the
    declarator -1 means all of the declaration.  `body` are the offsets of its braces.
    """

    own: tuple[LayoutAttribute, ...]
    members: dict[tuple[int, int], tuple[LayoutAttribute, ...]]
    body: tuple[int, int]

    def of_member(self, blanked: str, position: int) -> tuple[LayoutAttribute, ...]:
        """The attributes of the member whose name stands at `position`."""
        if not self.members:
            return ()
        outer = _outermost(blanked[self.body[0] + 1 : position])
        declaration = outer.count(";")
        found = self.members.get((declaration, -1), ())
        return found + self.members.get((declaration, outer.rpartition(";")[2].count(",")), ())


def attributes_of(
    blanked: str, keyword: str, position: int, attributes: tuple[LayoutAttribute, ...]
) -> RecordAttributes:
    """The attributes of the `keyword` ("struct", "union", "enum") whose keyword, tag or brace is at `position`."""
    start = position
    if re.compile(rf"{keyword}\b").match(blanked, position) is None:
        start = blanked.rfind(keyword, 0, position)
    opening = blanked.index("{", position)
    closing = _closing(blanked, opening)
    own = []
    members: dict[tuple[int, int], tuple[LayoutAttribute, ...]] = {}
    for attribute in attributes[bisect_left(attributes, (start,)) :]:
        place = attribute.start
        is_before = start <= place < opening
        is_behind = place > closing and not blanked[closing + 1 : place].strip()
        if is_before or is_behind:
            own.append(attribute)
        elif place > closing:
            break
        elif opening < place:
            key = _member(blanked[opening + 1 : place], blanked[place:closing])
            if key is not None:
                members[key] = (*members.get(key, ()), attribute)
    return RecordAttributes(tuple(own), members, (opening, closing))


_HEAD = re.compile(r"\b(?:struct|union|enum)\b[\s\w]*")


def _member(before: str, after: str) -> tuple[int, int] | None:
    """The key of the member that an attribute between two texts belongs to; None where it is an inner record's own."""
    if before.count("{") != before.count("}"):
        return None
    outer = _outermost(before)
    declaration = outer.count(";")
    here = outer.rpartition(";")[2]
    heads = list(_HEAD.finditer(here))
    if heads and heads[-1].end() == len(here) and re.match(r"[\s\w]*\{", after):
        return None  # struct __attribute__((packed)) inner { … }
    if before.rstrip().endswith("}"):
        return None  # struct { … } __attribute__((packed))
    commas = here.count(",")
    rest = re.split(r"[,;:]", _outermost(after), maxsplit=1)[0]
    is_of_all = commas == 0 and "*" not in here and re.search(r"\w", rest) is not None
    return declaration, -1 if is_of_all else commas


def _closing(text: str, opening: int) -> int:
    depth = 0
    for offset in range(opening, len(text)):
        depth += (text[offset] == "{") - (text[offset] == "}")
        if not depth:
            return offset
    return len(text) - 1


def _outermost(text: str) -> str:
    """The text without what stands in brackets of any kind; the brackets stay."""
    kept, depth = [], 0
    for character in text:
        depth -= character in ")]}"
        if depth <= 0:
            kept.append(character)
        depth += character in "([{"
    return "".join(kept)
