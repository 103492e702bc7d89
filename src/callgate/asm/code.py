"""What an assembler makes: bytes, relocations, a listing.  Shared by every architecture; encodes nothing."""

from __future__ import annotations

from typing import NamedTuple


class Relocation(NamedTuple):
    """A place in the code that waits for an address (the r_offset, type, symbol and addend of an ELF Rela).

    The kinds in use are distances to the table slot that holds the symbol's address: R_X86_64_GOTPCREL, 32 bits wide,
    and R_AARCH64_LD_PREL_LO19, the words that an `ldr` of a literal counts, whose site is the instruction.
    """

    site: int
    kind: str
    symbol: str
    addend: int


class Line(NamedTuple):
    """One line of a listing: an instruction (or a label, whose `size_bytes` is 0) and why it is there."""

    offset: int
    size_bytes: int
    text: str
    comment: str


class Code(NamedTuple):
    """Position-independent machine code; `lines` is empty unless a listing was asked for."""

    data: bytes
    relocations: tuple[Relocation, ...]
    labels: dict[str, int]
    lines: tuple[Line, ...] = ()

    def listing(self) -> str:
        """Offset, hex and text of every instruction, with its comment."""
        rows = []
        for offset, size, text, comment in self.lines:
            if not size:
                rows.append(f"{text}:" + (f"{'':<{max(1, 63 - len(text))}}; {comment}" if comment else ""))
                continue
            row = f"  {offset:04x}  {self.data[offset : offset + size].hex():<22}  {text:<32}"
            rows.append(f"{row}; {comment}" if comment else row.rstrip())
        return "\n".join(rows)
