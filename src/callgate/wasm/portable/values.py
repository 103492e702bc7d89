"""The operand stack while a body is translated: expressions that have not been evaluated yet.

An entry is text with what is known about it.  Integers are kept as any number that is right modulo 2^32 or 2^64; how
far it may lie is known, so that a mask is written only where the exact bits are asked for.
"""

from __future__ import annotations

from typing import Final

NOTHING: Final[frozenset[int]] = frozenset()
ONE_DIGIT: Final = 0x3FFF_FFFF
"""The largest integer of one digit in CPython."""
LONGEST: Final = 240
"""Expressions get no longer than about this many characters."""


class Value:
    """An expression.

    `text` is a name, a literal or in parentheses.  `low` and `high` bound an integer.  `uses` are the variables in it:
    a local's number, or -1 - height for a slot of the stack.  `trap` is the offset of an instruction in it that may
    trap (else 0), `reads` whether it reads what other instructions write: both must be evaluated in their turn.
    """

    __slots__ = ("constant", "high", "is_simple", "is_step", "low", "reads", "text", "trap", "uses", "zeros")

    def __init__(
        self,
        text: str,
        low: int = 0,
        high: int = 0,
        uses: frozenset[int] = NOTHING,
        *,
        is_simple: bool = False,
        constant: int | None = None,
        trap: int = 0,
        reads: bool = False,
    ) -> None:
        self.text = text
        self.low = low
        self.high = high
        self.uses = uses
        self.is_simple = is_simple
        self.is_step = False  # a sum that most often is in its type's range
        self.zeros = 0  # so many of the low bits are known to be zero
        self.constant = constant
        self.trap = trap
        self.reads = reads


def number(value: int) -> Value:
    """A constant integer, signed."""
    made = Value(str(value) if value >= 0 else f"({value})", value, value, is_simple=True, constant=value)
    made.zeros = (value & -value).bit_length() - 1 if value else 64
    return made


def exact(value: Value, bits: int) -> str:
    """The unsigned number of so many bits."""
    mask = (1 << bits) - 1
    if value.constant is not None:
        return str(value.constant & mask)
    if value.low >= 0 and value.high <= mask:
        return value.text
    if value.is_step:
        return f"(t if {step_test(f'(t := {value.text[1:-1]})', value, mask)} else t & {mask:#x})"
    return f"({value.text} & {mask:#x})"


def step_test(name: str, value: Value, mask: int) -> str:
    """Whether a step needs no mask; quick where numbers have one digit, and most often true."""
    if value.low >= 0:
        return f"{name} <= {ONE_DIGIT}"
    return f"{name} >= 0" if value.high <= mask else f"0 <= {name} <= {ONE_DIGIT}"


def is_exact(value: Value, bits: int) -> bool:
    """Is it the unsigned number?"""
    return value.low >= 0 and value.high < 1 << bits


def is_signed(value: Value, bits: int) -> bool:
    """Is it the signed number?"""
    half = 1 << bits - 1
    return value.low >= -half and value.high < half


def signed(value: Value, bits: int) -> str:
    """The signed number of so many bits."""
    half = 1 << bits - 1
    if value.constant is not None:
        return number((value.constant & 2 * half - 1 ^ half) - half).text
    if is_signed(value, bits):
        return value.text
    return f"(({exact(value, bits)} ^ {half:#x}) - {half:#x})"


def flipped(value: Value, bits: int) -> str:
    """A number that compares unsigned as the value does signed."""
    half = 1 << bits - 1
    if value.constant is not None:
        return str(value.constant & 2 * half - 1 ^ half)
    if is_signed(value, bits) and not is_exact(value, bits):
        return f"({value.text} + {half:#x})"
    return f"({exact(value, bits)} ^ {half:#x})"


def truth(value: Value, bits: int = 32) -> str:
    """True unless it is zero."""
    if value.low > -(1 << bits) and value.high < 1 << bits:
        return value.text
    return exact(value, bits)
