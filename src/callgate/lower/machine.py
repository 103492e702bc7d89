"""What code is made for: a target and an object layout, and the shape of the data that a gate carries.

A gate's data is one bytes object.  Its machine code, shared by all gates of one shape, finds it through `self`:

    0   the address of the C function
    8   the tuple of parameter names (None for a positional-only one)
    16  a step of 16 bytes for each argument:
            0 kind   1 flags   2 size   3 element   4 minimum_bytes (4 bytes)   8 operand (a type, or 0)
        then a step whose kind is END
        then 16 bytes for each result, the C result first, then the outs: two words, 0 where unused, such as
            a type and its members, or the address of the callable that judges or makes the result
        then, where calls run on a stack of their own, the node of that stack

A variadic gate's data are another list, of what it has bound so far:

    0   how many arguments are fixed
    8   how many entries there are
        the entries: 0 how many arguments   8 the gate   16 its code   24 the types of the variable ones, a word each
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from callgate.cpython.conversion import Unbox, UnboxStep
from callgate.cpython.layout import Layout
from callgate.errors import EngineError
from callgate.target import Target

DATA_TARGET = 0
DATA_NAMES = 8
DATA_STEPS = 16
STEP_BYTES = 16
STEP_OPERAND = 8
FLAG_NULLABLE = 1
FLAG_WRITABLE = 2
FLAG_SIGNED_BYTE = 4
VARIADIC_FIXED, VARIADIC_COUNT, VARIADIC_ENTRIES = 0, 8, 16
ENTRY_GATE, ENTRY_CODE, ENTRY_TYPES = 8, 16, 24
VIEW_BYTES = 80  # sizeof(Py_buffer)
VIEW_OBJECT = 8  # offsetof(Py_buffer, obj)

_HEAD = struct.Struct("<QQ")
_STEP = struct.Struct("<BBBBIQ")
_WORD = struct.Struct("<Q")


_LOWERED = ("sysv", "win64", "aapcs64", "apple_arm64")
"""The calling conventions that code is made for."""


class Machine(NamedTuple):
    """A target and the layout of the interpreter's objects on it."""

    target: Target
    layout: Layout
    checks_calls: bool = False  # whether gates see to it that C brings registers and stack back (CALLGATE_CHECK)


def check_code_is_made(machine: Machine) -> None:
    """Raise EngineError for a target that has no lowering."""
    if machine.target.calling_convention not in _LOWERED:
        raise EngineError(f"no code can be made for {machine.target.name} yet")


def step_operand_offset(index: int) -> int:
    """Where the operand of argument `index` lies in a gate's data."""
    return DATA_STEPS + STEP_BYTES * index + STEP_OPERAND


def result_operand_offset(step_count: int, index: int) -> int:
    """Where the operands of result `index` (0 is the C result, outs follow) lie in a gate's data."""
    return DATA_STEPS + STEP_BYTES * (step_count + 1 + index)


def pack_steps(steps: tuple[UnboxStep, ...], result_count: int) -> bytes:
    """What the data of all gates of a shape have in common: everything from DATA_STEPS on, the operands 0."""
    parts = [
        _STEP.pack(
            int(step.kind),
            FLAG_NULLABLE * step.is_nullable
            | FLAG_WRITABLE * step.is_writable
            | FLAG_SIGNED_BYTE * step.is_signed_byte,
            step.size_bytes,
            int(step.element),
            step.minimum_bytes,
            0,
        )
        for step in steps
    ]
    parts.append(_STEP.pack(int(Unbox.END), 0, 0, 0, 0, 0))
    return b"".join(parts) + bytes(STEP_BYTES * result_count)


def pack_variadic(fixed: int, entries: Sequence[tuple[int, int, Sequence[int]]]) -> bytes:
    """The data of a variadic gate: each entry is a gate, its code, and the types of the variable arguments."""
    parts = [_HEAD.pack(fixed, len(entries))]
    for gate, code, types in entries:
        parts.append(struct.pack(f"<{3 + len(types)}Q", fixed + len(types), gate, code, *types))
    return b"".join(parts)


def pack_data(address: int, names: int, steps: bytes, operands: Sequence[tuple[int, int]]) -> bytes:
    """The data of one gate; `operands` are (offset, word) pairs."""
    head = _HEAD.pack(address, names)
    if not operands:
        return head + steps
    data = bytearray(head + steps)
    for offset, word in operands:
        _WORD.pack_into(data, offset, word)
    return bytes(data)
