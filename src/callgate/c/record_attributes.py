"""`packed` and `aligned` in C text: which struct, union or member each attribute belongs to, by its place.

The parser does not see attributes; they are blanked before, so that offsets stay.  Here their places are compared with
the braces of the blanked text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ARGUMENT = re.compile(r"\(\s*(\d+)\s*\)")
_LARGEST_ALIGNMENT = 16  # `aligned` without a number: the target's largest (gcc on x86-64)


class LayoutAttribute(NamedTuple):
    """A `packed` or `aligned` at an offset of the text; `align_bytes` is 0 for `packed`."""

    start: int
    align_bytes: int


def layout_attributes(text: str, tokens: list[tuple[int, str]]) -> tuple[LayoutAttribute, ...]:
    """The attributes among (offset, word) pairs; `text` is what they stand in."""
    found = []
    for start, word in tokens:
        bare = word.strip("_")
        if bare == "packed":
            found.append(LayoutAttribute(start, 0))
        elif bare in ("aligned", "Alignas", "alignas"):
            argument = _ARGUMENT.match(text, start + len(word))
            found.append(LayoutAttribute(start, int(argument[1]) if argument else _LARGEST_ALIGNMENT))
    return tuple(found)


class RecordAttributes(NamedTuple):
    """What attributes say about one struct or union: about itself, and about its members by their number."""

    is_packed: bool
    align_bytes: int
    members: dict[int, int]  # the member's declaration, counted by semicolons, to its alignment; 0 where it is packed


def attributes_of(
    blanked: str, keyword: int, attributes: tuple[LayoutAttribute, ...]
) -> tuple[RecordAttributes, tuple[int, int]]:
    """The attributes of the record whose definition begins at or after `keyword`, and the offsets of its braces."""
    opening = blanked.index("{", keyword)
    closing = _closing(blanked, opening)
    is_packed, align = False, 0
    members: dict[int, int] = {}
    for attribute in attributes:
        start = attribute.start
        is_before = keyword <= start < opening
        is_behind = start > closing and not blanked[closing + 1 : start].strip()
        if is_before or is_behind:
            is_packed |= not attribute.align_bytes
            align = max(align, attribute.align_bytes)
        elif opening < start < closing:
            between = blanked[opening + 1 : start]
            if between.count("{") == between.count("}") and not between.rstrip().endswith("}"):
                number = _without_inner(between).count(";")
                members[number] = attribute.align_bytes
    return RecordAttributes(is_packed, align, members), (opening, closing)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for offset in range(opening, len(text)):
        depth += (text[offset] == "{") - (text[offset] == "}")
        if not depth:
            return offset
    return len(text) - 1


def _without_inner(text: str) -> str:
    """The text without what stands in inner braces."""
    kept, depth = [], 0
    for character in text:
        depth += character == "{"
        if not depth:
            kept.append(character)
        depth -= character == "}"
    return "".join(kept)
