"""Every row of the AArch64 assembler with boundary operands, against GNU as.

A case is one row with one choice of operands.  All cases are assembled in one run of `as` from the row's own text,
so a row whose text and bytes disagree fails as surely as one whose encoding is wrong.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from callgate.asm.aarch64.assembler import CONDITIONS, ROWS, Assembler, ListingAssembler, encode_mask, fits_offset
from callgate.asm.code import Relocation

AS, OBJCOPY = "aarch64-linux-gnu-as", "aarch64-linux-gnu-objcopy"
REGISTERS = (0, 1, 2, 4, 8, 15, 16, 30, 31)
"""Each bit of a field alone, all of them, and those that mean something of their own."""

BELOW, ABOVE, LITERAL = "below", "above", "literal"
"""The labels before and behind every instruction, and the symbol of every literal."""

OFFSETS = (0, 1, -1, 2, 4, 8, 16, 254, 255, 256, -255, -256, 4095, 8190, 16380, 32760, 65520)


def bit_masks() -> list[int]:
    """All 32-bit masks that an instruction holds: a run of ones in an element of 2 to 32 bits, rotated and repeated."""
    masks = set()
    for size in (2, 4, 8, 16, 32):
        for ones, rotation in product(range(1, size), range(size)):
            bits = f"{(1 << ones) - 1:0{size}b}"
            masks.add(int((bits[rotation:] + bits[:rotation]) * (32 // size), 2))
    return sorted(masks)


ONE_OPERAND: dict[str, tuple[int | str, ...]] = {
    "r": REGISTERS,
    "q": REGISTERS[:-1],
    "p": REGISTERS,
    "v": REGISTERS,
    "i": (0, 1, 0x7FF, 0x800, 0xFFF, 0x1000, 0x800000, 0xFFF000),
    "h": (0, 1, 0x8000, 0xFFFF),
    "k": (0, 16, 32, 48),
    "b": tuple(bit_masks()),
    "n": (0, 1, 31, 32, 62, 63),
    "t": (0, 8, -8, 256, 504, -512),
    "a": (0, 4, 8, 0xFFFFC),
    "s": (LITERAL,),
    "L": (BELOW, ABOVE),
    "c": tuple(CONDITIONS),
}
"""What is tried for each operand letter but `o`, which depends on the row."""


class Case(NamedTuple):
    """One instruction: the row, its operands as the row's method takes them, and its text and bytes."""

    row: str
    operands: tuple[int | str, ...]
    text: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.row}{self.operands} `{self.text}`"


def letters_of(row: str) -> str:
    letters = ROWS[row].operands  # type: ignore[attr-defined]
    assert isinstance(letters, str)
    return letters


def offset_choices(row: str) -> tuple[int, ...]:
    size: int = ROWS[row].size_bytes  # type: ignore[attr-defined]
    return tuple(offset for offset in OFFSETS if fits_offset(offset, size))


def choices(row: str, letter: str) -> tuple[int | str, ...]:
    if letter == "o":
        return offset_choices(row)
    if "b" in letters_of(row) and letter == "r":
        return (0, 1, 30, 31)  # there are 1,302 masks
    return ONE_OPERAND[letter]


def emit(row: str, operands: tuple[int | str, ...]) -> bytes:
    """The bytes of one instruction between its labels."""
    a = Assembler()
    a.label(BELOW)
    ROWS[row](a, *operands)
    a.label(ABOVE)
    return a.finish().data


@cache
def all_cases() -> list[Case]:
    return [
        Case(row, operands, ROWS[row].text(*operands), emit(row, operands))  # type: ignore[attr-defined]
        for row in ROWS
        for operands in product(*(choices(row, letter) for letter in letters_of(row)))
    ]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]


@pytest.mark.skipif(not (shutil.which(AS) and shutil.which(OBJCOPY)), reason=f"{AS} (binutils) is not installed")
def test_rows_equal_gnu_as(tmp_path: Path) -> None:
    source, built, text = tmp_path / "rows.s", tmp_path / "rows.o", tmp_path / "text"
    # 1b and 2f, as's local labels, stand for the places before and behind the instruction
    texts = [re.sub(rf"\b{BELOW}$", "1b", re.sub(rf"\b{ABOVE}$", "2f", case.text)) for case in all_cases()]
    source.write_text("".join(f"1: {line} // {number}\n2:\n" for number, line in enumerate(texts)))
    run(AS, "-o", built, source)
    run(OBJCOPY, "-O", "binary", "-j", ".text", built, text)
    theirs = text.read_bytes()
    assert len(theirs) == 4 * len(all_cases())
    failures = [
        f"{case}\n    callgate {case.data.hex(' ')}\n    GNU as   {theirs[start : start + 4].hex(' ')}"
        for start, case in zip(range(0, len(theirs), 4), all_cases(), strict=True)
        if case.data != theirs[start : start + 4]
    ]
    assert not failures, f"{len(failures)} of {len(all_cases())} encodings differ:\n" + "\n".join(failures[:40])


def test_every_letter_is_tried() -> None:
    assert {letter for row in ROWS for letter in letters_of(row)} == {*ONE_OPERAND, "o"}


def test_masks_are_those_of_a_run() -> None:
    masks = set(bit_masks())
    assert all(encode_mask(mask) is not None for mask in masks)
    near = {mask ^ 1 << bit for mask in masks for bit in range(32)} | set(range(1 << 12)) | {0, 0xFFFFFFFF, 1 << 32, -1}
    assert [mask for mask in near - masks if encode_mask(mask) is not None] == []


def test_a_literal_is_relocated_at_its_instruction() -> None:
    for row in ROWS:
        a = Assembler()
        a.brk()
        ROWS[row](a, *(choices(row, letter)[0] for letter in letters_of(row)))
        a.label(BELOW)
        expected = (Relocation(4, "R_AARCH64_LD_PREL_LO19", LITERAL, 0),) if "s" in letters_of(row) else ()
        assert a.finish().relocations == expected, row


def test_the_listing_assembler_emits_the_same_bytes() -> None:
    plain, listing = Assembler(), ListingAssembler()
    cases = [case for case in all_cases() if not {BELOW, ABOVE} & set(case.operands)]
    for case in cases:
        for a in (plain, listing):
            getattr(a, case.row)(*case.operands)
    code, listed = plain.finish(), listing.finish()
    assert (listed.data, listed.relocations) == (code.data, code.relocations)
    assert listed.data == b"".join(case.data for case in cases)
    assert [line.text for line in listed.lines] == [case.text for case in cases]


# -- labels -----------------------------------------------------------------------------------------------------------


def test_labels_resolve_in_both_directions() -> None:
    a = Assembler()
    a.b("end")
    a.label("start")
    a.b_cond("ne", "start")
    a.cbz_x(3, "end")
    a.bl("start")
    a.label("end")
    a.cbnz_w(4, "start")
    code = a.finish()
    assert code.labels == {"start": 4, "end": 16}
    words = [int.from_bytes(code.data[place : place + 4], "little") for place in range(0, len(code.data), 4)]
    assert [f"{word:08x}" for word in words] == ["14000004", "54000001", "b4000043", "97fffffe", "35ffffa4"]


CONDITIONAL = {"b_cond": ("ne",), "cbz_x": (1,), "cbnz_x": (1,), "cbz_w": (1,), "cbnz_w": (1,)}


@pytest.mark.parametrize("row", CONDITIONAL)
def test_a_conditional_jump_reaches_a_mebibyte(row: str) -> None:
    for size, reaches in (((1 << 20) - 8, True), ((1 << 20) - 4, False)):
        a = Assembler()
        getattr(a, row)(*CONDITIONAL[row], "far")
        a.code += bytes(size)
        a.label("far")
        if reaches:
            assert int.from_bytes(a.finish().data[:4], "little") >> 5 & 0x7FFFF == 0x3FFFF
        else:
            with pytest.raises(OverflowError, match="far is 1048576 bytes away"):
                a.finish()


def test_a_jump_to_nowhere_is_refused() -> None:
    a = Assembler()
    a.b("nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        a.finish()


# -- what does not fit ------------------------------------------------------------------------------------------------


def beyond(row: str, letter: str) -> tuple[int, ...]:
    """Values that an operand of a row cannot hold."""
    match letter:
        case "i":
            return (-1, 0x1001, 0xFFF001, 0x1000000, 1 << 32)
        case "h":
            return (-1, 1 << 16)
        case "k":
            return (1, -16, 64)
        case "b":
            return (0, 0b101, 0xFFFFFFFF, 1 << 32, -1)
        case "n":
            return (-1, 64)
        case "t":
            return (4, 1, 512, -520)
        case "a":
            return (-4, 2, 1 << 20)
        case "o":
            size: int = ROWS[row].size_bytes  # type: ignore[attr-defined]
            return (-257, size << 12, (size << 12) + 1, 257 if size > 1 else 4096, 1 << 31)
    return ()


@pytest.mark.parametrize("row", [row for row in ROWS if set(letters_of(row)) & set("ihkbntao")])
def test_what_does_not_fit_is_refused(row: str) -> None:
    letters = letters_of(row)
    fitting = [choices(row, letter)[1 if letter == "b" else 0] for letter in letters]
    for place, letter in enumerate(letters):
        for value in beyond(row, letter):
            operands = (*fitting[:place], value, *fitting[place + 1 :])
            with pytest.raises(OverflowError):
                emit(row, operands)
