"""Hundreds of values on the operand stack: each arrives, wherever it was kept meanwhile."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, Signature, opcode, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.errors import EngineError
from callgate.wasm.types import F64, I32, I64

MASK = (1 << 64) - 1


def module(signature: Signature, declared: bytes, code: bytes) -> bytes:
    """A module whose only function is exported as f."""
    kind = b"\x60" + vector_of(bytes(signature.parameters)) + vector_of(bytes(signature.results))
    return MAGIC + b"".join(
        (
            section(1, vector([kind])),
            section(3, vector([b"\0"])),
            section(7, vector([vector_of(b"f") + b"\0\0"])),
            section(10, vector([vector_of(declared + code + b"\x0b")])),
        )
    )


def sums(seed: int, count: int) -> tuple[bytes, int]:
    """A function of (7, 5), one of i64 and one of f64, that piles up values and adds them; and what it gives."""
    draw = random.Random(seed)
    code = b""
    whole, real = 7, 5
    values = []
    for number in range(count):
        match draw.randrange(7):
            case 0 | 1:
                code += opcode("local.get") + unsigned(0)
                values.append(whole)
            case 2:
                code += opcode("local.get") + unsigned(1) + opcode("i64.trunc_sat_f64_s")
                values.append(real)
            case 3:
                code += opcode("i64.const") + signed(number)
                values.append(number)
            case 4:
                whole = draw.randrange(1000)
                code += opcode("i64.const") + signed(whole) + opcode("local.set") + unsigned(0)
            case 5:
                real = draw.randrange(1000)
                code += opcode("f64.const") + struct.pack("<d", real) + opcode("local.set") + unsigned(1)
            case _:
                taken = draw.randrange(2)
                code += opcode("i32.const") + signed(taken) + opcode("if") + b"\x40"
                code += opcode("i64.const") + signed(number) + opcode("local.set") + unsigned(0) + opcode("end")
                whole = number if taken else whole
    for place in range(len(values) - 1):
        code += opcode("i64.add" if place % 3 else "i64.xor")
    total = values.pop()
    for place in range(len(values)):
        other = values.pop()
        total = (total + other if place % 3 else total ^ other) & MASK
    return module(Signature((I64, F64), (I64,)), b"\0", code), total


@pytest.mark.parametrize("mode", ["compiled", "portable"])
@pytest.mark.parametrize("seed", range(12))
def test_values_arrive(seed: int, mode: str) -> None:
    data, total = sums(seed, 60 + 60 * seed)
    try:
        instance = wasm.load(data, engine=mode, cache=False)
    except EngineError as reason:
        pytest.skip(str(reason))
    assert instance.exports.f(7, 5.0) & MASK == total


@pytest.mark.parametrize("mode", ["compiled", "portable"])
def test_parameters_of_deep_blocks(mode: str) -> None:
    """Values below an if stay while its arms use as many again."""
    push = b"".join(
        opcode("local.get") + b"\0" + opcode("i32.const") + signed(k) + opcode("i32.add") for k in range(100)
    )
    add = opcode("i32.add") * 99
    arm = push + add + opcode("local.set") + b"\0"
    code = (
        push + opcode("local.get") + b"\0" + opcode("if") + b"\x40" + arm + opcode("else") + arm + arm + opcode("end")
    )
    code += add + opcode("local.get") + b"\0" + opcode("i32.xor")
    try:
        instance = wasm.load(module(Signature((I32,), (I32,)), b"\0", code), engine=mode, cache=False)
    except EngineError as reason:
        pytest.skip(str(reason))

    def expected(x: int) -> int:
        def total(y: int) -> int:
            return sum(y + k for k in range(100)) & 0xFFFFFFFF

        return total(x) ^ (total(x) if x else total(total(x)))

    for x in (0, 1, 77):
        assert instance.exports.f(x) & 0xFFFFFFFF == expected(x)
