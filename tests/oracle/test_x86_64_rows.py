"""Every row of the x86-64 assembler with boundary operands, against GNU as and, where it is installed, capstone.

A case is one row with one choice of operands.  All cases are assembled in one run of `as` from the row's own text,
so a row whose text and bytes disagree fails as surely as one whose encoding is wrong or longer than it need be.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from callgate.asm.code import Relocation
from callgate.asm.x86_64.assembler import CONDITIONS, Assembler
from callgate.asm.x86_64.assembler import ROWS as GATE_ROWS
from callgate.asm.x86_64.avx import AVX_ROWS
from callgate.asm.x86_64.avx import AvxAssembler as FullAssembler
from callgate.asm.x86_64.avx import AvxListingAssembler as ListingAssembler
from callgate.asm.x86_64.extended import EXTENDED_ROWS
from callgate.asm.x86_64.registers import RAX, RBP, RDI, RSP
from callgate.asm.x86_64.vectors import VECTOR_ROWS

ROWS = {**GATE_ROWS, **EXTENDED_ROWS, **VECTOR_ROWS, **AVX_ROWS}
assert len(ROWS) == len(GATE_ROWS) + len(EXTENDED_ROWS) + len(VECTOR_ROWS) + len(AVX_ROWS)

REGISTERS = range(16)
FEW_REGISTERS = (0, 4, 5, 7, 8, 12, 13, 15)
"""What matters to an encoding: rsp and rbp and their upper twins, the others with and without a REX bit."""
DISPLACEMENTS = (0, 1, -1, 127, 128, -128, -129, 255, 256, 2**31 - 1, -(2**31))
SIGNED_32 = (0, 1, -1, 127, 128, -128, -129, 255, 256, 65535, 0x12345678, 2**31 - 1, -(2**31))
UNSIGNED_32 = (2**31, 2**32 - 129, 2**32 - 128, 2**32 - 1)
EITHER_8 = (0, 1, -1, 15, 127, 128, -128, 254, 255)
ANY_64 = (
    *SIGNED_32,
    *UNSIGNED_32,
    2**32,
    -(2**31) - 1,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64 - 2**31,
    2**64 - 2**31 - 1,
    2**64 - 1,
    0x0123456789ABCDEF,
)
PLACES = range(1, 64)

BELOW, ABOVE, LITERAL = "below", "above", "literal"
"""The labels before and behind every instruction, and the symbol of every literal."""

ONE_OPERAND = {
    "r": REGISTERS,
    "x": REGISTERS,
    "i": SIGNED_32,
    "I": ANY_64,
    "8": EITHER_8,
    "s": PLACES,
    "S": range(1, 32),
    "b": (0, 1, 7, 127, 128, 255),
    "C": tuple(CONDITIONS),
    "h": (0, 1, -1, 127, -128),
    "k": (0, 1, -1, 127, 128, -128, -129, 32767, -32768),
    "l": (LITERAL,),
    "L": (BELOW, ABOVE),
    "c": tuple(CONDITIONS),
}
"""What is tried for each operand letter but `m`; `i8` counts as one letter, 8."""


class Case(NamedTuple):
    """One instruction: the row, its operands as the row's method takes them, and its text and bytes."""

    row: str
    operands: tuple[int | str, ...]
    text: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.row}{self.operands} `{self.text}`"


def operand_choices(row: str) -> Iterator[tuple[int | str, ...]]:
    """Every combination of boundary operands of a row."""
    choices: list[list[tuple[int | str, ...]]] = []
    is_of_avx = row in AVX_ROWS
    for letter in ROWS[row].operands.replace("i8", "8"):  # type: ignore[attr-defined]
        if letter == "m":
            choices.append(
                list(product(*(((0, 4, 5, 12, 13), (0, -128, 128)) if is_of_avx else (REGISTERS, DISPLACEMENTS))))
            )
        elif letter == "n":  # base, index, displacement; rsp is no index
            indices = [register for register in FEW_REGISTERS if register != RSP]
            choices.append(list(product(FEW_REGISTERS, indices, (0, 1, -128, 128, 2**31 - 1, -(2**31)))))
        elif letter == "x" and is_of_avx:
            choices.append([(0,), (7,), (8,), (15,)])
        elif letter in "rx" and "n" in ROWS[row].operands:  # type: ignore[attr-defined]
            choices.append([(register,) for register in FEW_REGISTERS])
        else:
            values = (*ONE_OPERAND[letter], *(UNSIGNED_32 if row == "mov32_mi" and letter == "i" else ()))
            choices.append([(value,) for value in values])
    for chosen in product(*choices):
        yield tuple(value for operand in chosen for value in operand)


def emit(row: str, operands: tuple[int | str, ...]) -> bytes:
    """The bytes of one instruction between its labels."""
    a = FullAssembler()
    a.label(BELOW)
    ROWS[row](a, *operands)
    a.label(ABOVE)
    return a.finish().data


@cache
def all_cases() -> list[Case]:
    return [
        Case(row, operands, ROWS[row].text(*operands), emit(row, operands))  # type: ignore[attr-defined]
        for row in ROWS
        for operands in operand_choices(row)
    ]


def run(*command: str | Path) -> bytes:
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr.decode()[:4000]}"
    return done.stdout


def gnu_bytes(cases: list[Case], folder: Path) -> list[bytes]:
    """What GNU as makes of the texts.  Their sizes come in a section of their own, as 16-bit words."""
    lines = [".intel_syntax noprefix", ".text"]
    for number, case in enumerate(cases):
        # 1b and 2f, as's local labels, stand for the places before and behind the instruction
        text = re.sub(rf"\b{BELOW}(?=]?$)", "1b", re.sub(rf"\b{ABOVE}(?=]?$)", "2f", case.text))
        is_direct = text != case.text
        lines.append(f"1: {'{disp32} ' if is_direct and case.row in ('jmp', 'jcc') else ''}{text} # {number}")
        lines.append("2: .pushsection .sizes; .word 2b-1b; .popsection")
    source, built = folder / "rows.s", folder / "rows.o"
    source.write_text("\n".join(lines) + "\n")
    run("as", "--64", "-o", built, source)
    run("objcopy", "-O", "binary", "-j", ".text", built, folder / "text")
    run("objcopy", "-O", "binary", "-j", ".sizes", "--set-section-flags", ".sizes=alloc", built, folder / "sizes")
    text, sizes = (folder / "text").read_bytes(), (folder / "sizes").read_bytes()
    assert len(sizes) == 2 * len(cases)
    instructions, start = [], 0
    for number in range(len(cases)):
        end = start + int.from_bytes(sizes[2 * number : 2 * number + 2], "little")
        instructions.append(text[start:end])
        start = end
    assert start == len(text)
    return instructions


def report(failures: list[str], count: int) -> str:
    shown = "\n".join(failures[:40])
    return f"{len(failures)} of {count} encodings differ:\n{shown}"


@pytest.mark.skipif(not (shutil.which("as") and shutil.which("objcopy")), reason="GNU as (binutils) is not installed")
def test_rows_equal_gnu_as(tmp_path: Path) -> None:
    theirs = gnu_bytes(all_cases(), tmp_path)
    failures = [
        f"{case}\n    callgate {case.data.hex(' ')}\n    GNU as   {expected.hex(' ')}"
        for case, expected in zip(all_cases(), theirs, strict=True)
        if case.data != expected
    ]
    assert not failures, report(failures, len(all_cases()))


PREDICATES = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord")


def as_written(text: str) -> str:
    """What capstone writes in a word of its own."""
    text = text.removesuffix(" qword ptr [rdi], qword ptr [rsi]")
    found = re.fullmatch(rf"cmp({'|'.join(PREDICATES)})(ps|pd) (.*)", text)
    return f"cmp{found[2]} {found[3]}, {PREDICATES.index(found[1])}" if found else text


def normal(text: str, bits: int) -> str:
    """An instruction's text without what assemblers vary freely: spaces, number bases, the sign of an immediate."""
    text = re.sub(r"\s*([-+,\[\]])\s*", r"\1", text.replace("movabs", "mov").replace("xword", "tbyte"))
    return re.sub(r"(?<=[-+, ])-?(0x[0-9a-f]+|\d+)\b", lambda number: str(int(number[0], 0) % (1 << bits)), text)


def test_rows_decode_to_their_text() -> None:
    capstone = pytest.importorskip("capstone")
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    failures = []
    for case in all_cases():
        decoded = [
            (size, as_written(f"{name} {operands}".strip()))
            for _, size, name, operands in decoder.disasm_lite(case.data, 0)
        ]
        text = case.text.replace(f"rip+{LITERAL}", "rip")
        text = re.sub(rf"\b{ABOVE}$", str(len(case.data)), re.sub(rf"\b{BELOW}$", "0", text))
        text = text.replace(f"rip+{ABOVE}", "rip").replace(f"rip+{BELOW}", f"rip-{len(case.data)}")
        bits = 64 if case.row == "mov_ri" else 8 if "byte ptr" in text else 32
        if case.row == "mov16_ni":  # capstone writes the immediate without a sign, displacements with it
            text = re.sub(r"-\d+$", lambda number: str(int(number[0]) % (1 << 16)), text)
        if [(size, normal(word, bits)) for size, word in decoded] != [(len(case.data), normal(text, bits))]:
            failures.append(f"{case}\n    callgate {case.data.hex(' ')}\n    capstone {decoded}")
    assert not failures, report(failures, len(all_cases()))


def test_a_literal_is_relocated_at_the_end_of_its_instruction() -> None:
    for case in all_cases():
        a = Assembler()
        ROWS[case.row](a, *case.operands) if LITERAL in case.operands else a.ret()
        code = a.finish()
        expected = (
            (Relocation(len(case.data) - 4, "R_X86_64_GOTPCREL", LITERAL, -4),) if LITERAL in case.operands else ()
        )
        assert code.relocations == expected, str(case)


def test_the_listing_assembler_emits_the_same_bytes() -> None:
    plain, listing = FullAssembler(), ListingAssembler()
    expected = []
    for number, case in enumerate(case for case in all_cases() if not {BELOW, ABOVE} & set(case.operands)):
        for a in (plain, listing):
            if number % 7 == 0:
                a.label(f"place {number}")
            a.note(f"note {number}")
            getattr(a, case.row)(*case.operands)
        if number % 7 == 0:
            expected.append((f"place {number}", b"", ""))
        expected.append((case.text, case.data, f"note {number}"))
    code, listed = plain.finish(), listing.finish()
    assert not code.lines
    assert listed.data == code.data
    assert listed.relocations == code.relocations
    assert listed.labels == code.labels
    seen, end = [], 0
    for line in listed.lines:
        assert line.offset == end, f"bytes {end:#x} to {line.offset:#x} have no line"
        end += line.size_bytes
        seen.append((line.text, listed.data[line.offset : end], line.comment))
    assert end == len(listed.data)
    assert seen == expected


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Assembler, ListingAssembler])
def test_labels_resolve_in_both_directions(make: type[Assembler]) -> None:
    a = make()
    a.jmp("end")
    a.label("start")
    a.jcc("ne", "start")
    a.call("end")
    a.jmp("start")
    a.label("end")
    a.call("end")
    code = a.finish()
    assert code.labels == {"start": 5, "end": 21}
    assert code.data.hex(" ") == (
        "e9 10 00 00 00  0f 85 fa ff ff ff  e8 05 00 00 00  e9 f0 ff ff ff  e8 fb ff ff ff".replace("  ", " ")
    )


@pytest.mark.parametrize("make", [Assembler, ListingAssembler])
def test_a_label_is_defined_once(make: type[Assembler]) -> None:
    a = make()
    a.label("here")
    a.ret()
    with pytest.raises(AssertionError, match="here is defined twice"):
        a.label("here")


def test_a_jump_to_nowhere_is_refused() -> None:
    a = Assembler()
    a.jmp("nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        a.finish()


# -- what does not fit ------------------------------------------------------------------------------------------------

BEYOND_32 = (2**31, 2**32 - 1, -(2**31) - 1, 2**63, 2**64, -(2**64))


def beyond(row: str, letter: str) -> tuple[int, ...]:
    """Values that an operand of a row cannot hold."""
    match letter:
        case "m" | "n":
            return BEYOND_32
        case "S":
            return (-1, 32, 63, 256)
        case "i" if row == "mov32_mi":
            return (2**32, -(2**31) - 1, 2**64)
        case "i":
            return BEYOND_32
        case "I":
            return (2**64, -(2**63) - 1, 2**64 + 1)
        case "8":
            return (256, -129, 2**31, 2**64)
        case "s":
            return (-1, 64, 65, 127, 128, 255, 256)
        case "h":
            return (128, -129, 256)
        case "k":
            return (32768, -32769, 65536)
        case "b":
            return (-1, 256)
    return ()


def unfit_operands() -> Iterator[tuple[str, tuple[int | str, ...]]]:
    for row, function in ROWS.items():
        letters = function.operands.replace("i8", "8")  # type: ignore[attr-defined]
        for place, letter in enumerate(letters):
            # one value that fits in every other place; registers with and without a REX bit, an SIB byte, the short form
            for register, value in product((RAX, RSP, RBP, 12, 15), beyond(row, letter)):
                operands: list[int | str] = []
                for other, other_letter in enumerate(letters):
                    if other_letter == "m":
                        operands += [register, value if other == place else 8]
                    elif other_letter == "n":
                        operands += [register, 15, value if other == place else 8]
                    else:
                        fitting = register if other_letter in "rx" else ONE_OPERAND[other_letter][0]
                        operands.append(value if other == place else fitting)
                yield row, tuple(operands)


def test_what_does_not_fit_is_refused() -> None:
    cases = list(unfit_operands())
    assert {row for row, _ in cases} == {row for row in ROWS if set(ROWS[row].operands) & set("mniIsSbhk")}  # type: ignore[attr-defined]
    taken = []
    for row, operands in cases:
        try:
            data = emit(row, operands)
        except OverflowError:
            continue
        taken.append(f"{row}{operands} became {data.hex(' ')}")
    assert not taken, "\n".join(taken[:40])


def test_immediates_as_wide_as_their_operand_are_signed_or_unsigned() -> None:
    for row, minus_one in (("mov32_mi", 2**32 - 1), ("mov8_mi", 255), ("cmp8_mi", 255), ("test8_mi", 255)):
        assert emit(row, (RDI, 0, minus_one)) == emit(row, (RDI, 0, -1))
