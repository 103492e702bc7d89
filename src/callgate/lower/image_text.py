"""An image as GNU assembly, for review: `as` makes the same bytes of it.

What is said to the assembler beyond the listing: that the table of literals lies before the code at its distance
(`.org`), and on x86-64 that direct jumps take 32-bit displacements (`{disp32}`), for it would shorten them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from callgate.asm.code import Line
from callgate.lower.image import Built, Placed, slot_distance


class _Dialect(NamedTuple):
    """How `as` reads a processor's listing: `jump` finds what comes before and what is the label of a direct jump."""

    command: str
    comment: str
    opening: str
    jump: re.Pattern[str]
    long_jump: str


_DIALECTS = {
    "x86_64": _Dialect("as --64", "#", ".intel_syntax noprefix\n", re.compile(r"(j\w+ |call )([\w.]+)"), "{disp32} "),
    "aarch64": _Dialect(
        "aarch64-linux-gnu-as", "//", "", re.compile(r"(bl? |b\.\w+ |cbn?z \w+, )([A-Za-z_][\w.]*)"), ""
    ),
}

_HEAD = """\
{comment} {title}
{comment}
{comment} The code of an image from offset {code_offset:#x} of its contents, which is `code` here.  Before it lies the
{comment} table of literals: addresses that are filled in when the image is mapped.  Assemble it with `{command}`.

{opening}.text
"""


def image_text(built: Built, architecture: str, title: str) -> str:
    """The text for a processor; the pieces must have their listings.

    Assembled, .text is the table of literals, zeros up to the code, and then the bytes of the contents from
    `code_offset` on: the last of .text.
    """
    return "\n".join(_lines(built, _DIALECTS[architecture], title)) + "\n"


def _lines(built: Built, dialect: _Dialect, title: str) -> Iterator[str]:
    yield _HEAD.format(title=title, code_offset=built.code_offset, **dialect._asdict())
    count = len(built.symbols)
    for slot in reversed(range(count)):
        yield f"{_slot_label(built.symbols[slot])}: .quad 0"
    first = slot_distance(count - 1) if count else 0
    yield f".org {first + built.code_offset}"
    yield "code:"
    for number, placed in enumerate(built.placed):
        yield f".org code+{placed.offset - built.code_offset}"
        yield from _piece(placed, dialect, f"p{number}_")
    yield f".org code+{len(built.contents) - built.code_offset}"


def _piece(placed: Placed, dialect: _Dialect, prefix: str) -> Iterator[str]:
    piece, offset = placed
    sign = dialect.comment
    yield f"\n{sign} {piece.title}; offset {offset:#x}" + (f", shape {piece.key.hex()}" if piece.key else "")
    symbols = {relocation.site: relocation.symbol for relocation in piece.code.relocations}
    for line in piece.code.lines:
        remark = f"{sign} {line.comment}" if line.comment else ""
        if not line.size_bytes:
            yield f"{prefix}{line.text}:{'  ' * bool(remark)}{remark}"
        else:
            yield f"    {_instruction(line, symbols, dialect, prefix):<48}{remark}".rstrip()


def _instruction(line: Line, symbols: dict[int, str], dialect: _Dialect, prefix: str) -> str:
    for site in range(line.offset, line.offset + line.size_bytes):
        if site in symbols:
            return line.text.replace(symbols[site], _slot_label(symbols[site]))
    jump = dialect.jump.fullmatch(line.text)
    if jump is None:
        return line.text
    mnemonic, label = jump.groups()
    return f"{dialect.long_jump if mnemonic != 'call ' else ''}{mnemonic}{prefix}{label}"


def _slot_label(symbol: str) -> str:
    """A name for the slot of a symbol that can be no register and no operator."""
    return "at_" + re.sub(r"\W", lambda sign: f"_{ord(sign[0]):x}_", symbol)
