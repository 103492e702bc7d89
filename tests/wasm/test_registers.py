"""Values that lie where they are in each other's way: what compiled code once got wrong."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of

from callgate import wasm
from callgate.wasm.types import I64

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
