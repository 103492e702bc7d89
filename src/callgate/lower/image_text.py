"""An image as GNU assembly, for review: `as` makes the same bytes of it.

Two things are said to the assembler that a listing need not say: direct jumps take 32-bit displacements (`{disp32}`,
for it would shorten them), and the table of literals lies before the code at its distance (`.org`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from callgate.lower.image import Built, Placed, slot_distance

_JUMP = re.compile(r"(j\w+|call) ([\w.]+)")  # to a label: others have an operand in memory
_LITERAL = re.compile(r"\[rip\+([^\]]+)\]")

_HEAD = """\
# {title}
#
# The code of an image from offset {code_offset:#x} of its contents, which is `code` here.  Before it lies the table of
# literals: addresses that are filled in when the image is mapped.  Assemble it with `as --64`.

.intel_syntax noprefix
.text
"""


def image_text(built: Built, title: str) -> str:
    """The text; the pieces must have their listings.

    Assembled, .text is the table of literals, zeros up to the code, and then the bytes of the contents from
    `code_offset` on: the last of .text.
    """
    return "\n".join(_lines(built, title)) + "\n"


def _lines(built: Built, title: str) -> Iterator[str]:
    yield _HEAD.format(title=title, code_offset=built.code_offset)
    count = len(built.symbols)
    for slot in reversed(range(count)):
        yield f"{_slot_label(built.symbols[slot])}: .quad 0"
    first = slot_distance(count - 1) if count else 0
    yield f".org {first + built.code_offset}"
    yield "code:"
    for number, placed in enumerate(built.placed):
        yield f".org code+{placed.offset - built.code_offset}"
        yield from _piece(placed, f"p{number}_")
    yield f".org code+{len(built.contents) - built.code_offset}"


def _piece(placed: Placed, prefix: str) -> Iterator[str]:
    piece, offset = placed
    yield f"\n# {piece.title}; offset {offset:#x}" + (f", shape {piece.key.hex()}" if piece.key else "")
    for _, size_bytes, text, comment in piece.code.lines:
        remark = f"# {comment}" if comment else ""
        if not size_bytes:
            yield f"{prefix}{text}:{'  ' * bool(remark)}{remark}"
        else:
            yield f"    {_instruction(text, prefix):<48}{remark}".rstrip()


def _instruction(text: str, prefix: str) -> str:
    jump = _JUMP.fullmatch(text)
    if jump is not None:
        mnemonic, label = jump.groups()
        return f"{'' if mnemonic == 'call' else '{disp32} '}{mnemonic} {prefix}{label}"
    return _LITERAL.sub(lambda literal: f"[rip+{_slot_label(literal[1])}]", text)


def _slot_label(symbol: str) -> str:
    """A name for the slot of a symbol that can be no register and no operator."""
    return "at_" + re.sub(r"\W", lambda sign: f"_{ord(sign[0]):x}_", symbol)
