"""Values that lie where they are in each other's way: what compiled code once got wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.wasm.binary import decode
from callgate.wasm.compile.function import FunctionCompiler, Options
from callgate.wasm.compile.layout import TEMPORARIES, XMM_TEMPORARIES
from callgate.wasm.compile.module import shared_of
from callgate.wasm.compile.values import REGISTER, XMM
from callgate.wasm.instance import cpu_features
from callgate.wasm.opcodes import INSTRUCTIONS, Instruction
from callgate.wasm.types import F32, F64, I32, I64, V128
from callgate.wasm.validate import check_body, check_module

MASK = (1 << 64) - 1


def get(local: int) -> bytes:
    return opcode("local.get") + unsigned(local)


def plus(number: int) -> bytes:
    return opcode("i64.const") + signed(number) + opcode("i64.add")


def instance(types: list[tuple[int, int]], bodies: list[bytes]) -> wasm.Instance[object]:
    """Functions from some i64 to some i64; the first is exported as f."""
    signatures = [b"\x60" + vector_of(bytes([I64]) * few) + vector_of(bytes([I64]) * many) for few, many in types]
    return wasm.load(
        MAGIC
        + section(1, vector(signatures))
        + section(3, vector([unsigned(number) for number in range(len(bodies))]))
        + section(7, vector([vector_of(b"f") + b"\0\0"]))
        + section(10, vector([vector_of(b"\0" + body + b"\x0b") for body in bodies])),
        cache=False,
    )


def folded(values: list[int]) -> int:
    """What `FOLD` makes of the stack, whose top is the last."""
    result = values[-1]
    for value in reversed(values[:-1]):
        result = (value - result) & MASK
    return result - (result >> 63 << 64)


FOLD = opcode("i64.sub")


def test_a_block_while_every_register_is_in_use() -> None:
    """The local that is read once has no register, and takes that of a value above it on its way to its slot."""
    code = get(0) + b"".join(get(1) + plus(number) for number in range(1, 6)) + b"\x02\x40\x0b" + 5 * FOLD
    with instance([(2, 1)], [code]) as one:
        assert one.exports["f"](1000, 7) == folded([1000, 8, 9, 10, 11, 12])


def test_a_call_of_as_many_results_as_arguments() -> None:
    count = 80
    given = b"".join(get(0) + plus(number) for number in range(count))
    block = b"\x02" + bytes([I64]) + get(0) + plus(5) + b"\x0b"
    code = given + opcode("call") + unsigned(1) + block + block + (count + 1) * FOLD
    same = b"".join(get(number) for number in range(count))
    with instance([(1, 1), (count, count)], [code, same]) as one:
        assert one.exports["f"](100) == folded([*range(100, 100 + count), 105, 105])


def test_a_conversion_that_branches_while_every_register_is_in_use() -> None:
    values = b"".join(get(0) + plus(number) for number in range(1, 6))
    number = get(0) + opcode("f64.convert_i64_s") + opcode("i64.trunc_f64_u")
    with instance([(1, 1)], [values + number + 5 * FOLD]) as one:
        assert one.exports["f"](7) == folded([8, 9, 10, 11, 12, 7])


class Checked(FunctionCompiler):
    """Looks at the registers after each instruction: each is free or has one value."""

    def _emitters(self) -> Mapping[int, Callable[[FunctionCompiler, Any], None]]:
        return {opcode: self.checked_emitter(emit) for opcode, emit in super()._emitters().items()}

    @staticmethod
    def checked_emitter(
        emit: Callable[[FunctionCompiler, Any], None],
    ) -> Callable[[FunctionCompiler, Any], None]:
        def emit_and_look(c: FunctionCompiler, immediate: object) -> None:
            emit(c, immediate)
            used = [entry.payload for entry in c.stack if entry.place == REGISTER]
            used_xmm = [entry.payload for entry in c.stack if entry.place == XMM]
            assert sorted(c.free + used) == sorted(TEMPORARIES)
            assert sorted(c.free_xmm + used_xmm) == sorted(XMM_TEMPORARIES)

        return emit_and_look


def in_full_registers(row: Instruction) -> bytes:
    """A function that has a value in every temporary, and in locals, around an instruction, and then opens a block."""
    kinds = [I32, I64, F32, F64, V128]
    fill = b"".join(get(number) for number in range(5)) + 8 * (opcode("global.get") + unsigned(1))
    fill += 8 * (opcode("global.get") + unsigned(3))
    operands = b"".join(opcode("global.get") + unsigned(kinds.index(kind)) for kind in row.parameters or ())
    immediates = b"".join(
        bytes(16) if one == "lanes32" else b"\0" if one.startswith("lane") else b"\0\x85\1" for one in row.immediates
    )
    code = fill + operands + opcode(row.name) + immediates + b"\x02\x40\x0b"
    code += (21 + len(row.results)) * opcode("drop")
    cells = [bytes([kind, 1]) + opcode(name) + bytes(size) + b"\x0b" for kind, name, size in CONSTANTS]
    return (
        MAGIC
        + section(1, vector([b"\x60" + vector_of(bytes(kinds)) + b"\0"]))
        + section(3, vector([b"\0"]))
        + section(5, vector([b"\0\1"]))
        + section(6, vector(cells))
        + section(10, vector([vector_of(b"\0" + code + b"\x0b")]))
    )


CONSTANTS = (
    *((I32, "i32.const", 1), (I64, "i64.const", 1), (F32, "f32.const", 4), (F64, "f64.const", 8)),
    (V128, "v128.const", 16),
)
PLAIN = [
    row
    for row in INSTRUCTIONS.values()
    if row.parameters
    and len(row.results) < 2
    and {*row.parameters, *row.results} <= {I32, I64, F32, F64, V128}
    and all(one.startswith(("memory", "lane")) and one != "memory" for one in row.immediates)
]


@pytest.mark.parametrize("features", [frozenset(), cpu_features()], ids=["none", "those of this machine"])
@pytest.mark.parametrize("is_guarded", [False, True], ids=["checked", "guarded"])
def test_registers_are_free_or_have_a_value(features: frozenset[str], is_guarded: bool) -> None:
    assert len(PLAIN) > 350
    for row in PLAIN:
        context = check_module(decode(in_full_registers(row)))
        shared = shared_of(context, Options(is_guarded, features))
        Checked(shared, check_body(context, 0)).compile()
