"""What an assembler makes: bytes, relocations, a listing.  Shared by every architecture; encodes nothing."""

from __future__ import annotations

import struct
from typing import NamedTuple

from callgate.errors import EngineError


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


class FrameRow(NamedTuple):
    """What the stack looks like from an offset on (a row of DWARF's call frame table).

    `depth_bytes` is the distance from the stack pointer to the frame's end, behind the return address; `saved` are the
    callee-saved registers and where each is saved, in bytes below that end.
    """

    offset: int
    depth_bytes: int
    saved: tuple[tuple[int, int], ...]


class Code(NamedTuple):
    """Position-independent machine code.

    `frames` is empty where the processor's lowering does not tell, `lines` unless a listing was asked for.
    """

    data: bytes
    relocations: tuple[Relocation, ...]
    labels: dict[str, int]
    lines: tuple[Line, ...] = ()
    frames: tuple[FrameRow, ...] = ()

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


def relocate(data: bytearray, site: int, kind: str, distance: int) -> None:
    """Fill in the distance in bytes from a relocation's site to the literal's slot, the addend included.

    Raises EngineError where the instruction cannot reach so far.
    """
    match kind:
        case "R_X86_64_GOTPCREL":  # psABI x86-64, table 4.10: word32, G + GOT + A - P
            struct.pack_into("<i", data, site, distance)
        case "R_AARCH64_LD_PREL_LO19":  # ELF for AArch64, 5.7.5: bits 5 to 23, S + A - P in words, within 1 MB
            if distance % 4 or not -(1 << 20) <= distance < 1 << 20:
                raise EngineError(f"a literal {distance} bytes away is out of reach: the function is too large")
            (word,) = struct.unpack_from("<I", data, site)
            struct.pack_into("<I", data, site, word & ~(0x7FFFF << 5) | (distance // 4 & 0x7FFFF) << 5)
        case _:
            raise AssertionError(f"unknown relocation {kind}")
