"""Memory operations of AArch64 at displacements that no load or store reaches: the address is made first."""

from __future__ import annotations

import inspect
import re

import pytest

from callgate.lower.aarch64 import Listing
from callgate.lower.operations import R11, RBX, RSP
from callgate.target import AARCH64_LINUX

OTHER = {"register": R11, "immediate": 0x1_2345_6789, "first": R11, "second": 0}
BASES = {"sp": RSP, "x19": RBX}
FAR = (0, 8, 504, 512, 0x7FF8, 0x8000, 0xFFFF, 0x1_0000, 0x12_3458, 1 << 24, (1 << 31) - 16, -8, -257, -0x1_0008)


def operations_on_memory() -> list[str]:
    """Every operation that has a base and a displacement."""
    names = [name for name, method in inspect.getmembers(Listing, inspect.isfunction) if not name.startswith("_")]
    names.remove("exchange_mr")  # of free-threaded builds, for which no code is made here
    names.remove("fstp64_x")  # needs no memory here
    return [
        name
        for name in names
        if {"base", "displacement"} <= inspect.signature(getattr(Listing, name)).parameters.keys()
    ]


def addresses(a: Listing, base: str) -> list[int]:
    """Where instructions access memory, as distances from the base, or what the last one makes x11."""
    values: dict[str, int] = {base: 0}
    accessed = []
    for line in a.finish().lines:
        mnemonic, _, operands = line.text.partition(" ")
        memory = re.search(r"\[(\w+)(?:, #(-?\d+))?\]", operands)
        words = [word.lstrip("#") for word in operands.split(", ")]
        if memory:
            start = values[memory[1]] + int(memory[2] or 0)
            accessed += [start, start + 8] if mnemonic == "ldp" else [start]
            values.pop(words[0], None)  # what is loaded is no address
        elif mnemonic in ("movz", "movn", "movk"):
            shift = int(words[2].removeprefix("lsl #")) if len(words) > 2 else 0
            part = int(words[1]) << shift
            kept = values.get(words[0], 0) & ~(0xFFFF << shift) if mnemonic == "movk" else 0
            values[words[0]] = ~part if mnemonic == "movn" else kept | part
        elif mnemonic in ("add", "sub") and words[1] in values:
            shift = int(words[3].removeprefix("lsl #")) if len(words) > 3 else 0
            number = values[words[2]] if words[2] in values else int(words[2]) << shift if words[2].isdigit() else 0
            values[words[0]] = values[words[1]] + (number if mnemonic == "add" else -number)
    return accessed or [values["x11"]]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", operations_on_memory())
def test_any_displacement_is_reached(name: str, base: str) -> None:
    method = getattr(Listing, name)
    wanted = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    for displacement in FAR:
        a = Listing(AARCH64_LINUX)
        given = {"base": BASES[base], "displacement": displacement, "gives_rax": True, "source": R11}
        method(a, **{word: {**OTHER, **given}[word] for word in wanted})
        reached = set(addresses(a, base))
        assert reached == ({displacement, displacement + 8} if name == "mov_pair_rm" else {displacement}), displacement


@pytest.mark.parametrize("size_bytes", [8, 504, 4088, 4096 + 8, 70_000 - 8, (1 << 24) + 8])
def test_frames_of_any_size(size_bytes: int) -> None:
    """sp moves in one instruction, so that the table for unwinders holds at every place."""
    a = Listing(AARCH64_LINUX)
    a.enter((), size_bytes)
    a.leave((), size_bytes)
    a.ret()
    code = a.finish()
    moves = [line for line in code.lines if line.text.startswith(("add sp", "sub sp"))]
    assert len(moves) == 2
    assert next(row.depth_bytes for row in code.frames if row.offset == moves[0].offset + 4) == size_bytes + 8
    assert a.frame_rows(size_bytes) == code.frames[:3]
