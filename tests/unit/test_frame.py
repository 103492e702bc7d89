"""The frame of a gate: slots do not overlap, and the stack is aligned at the call (psABI 3.2.2)."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callgate.abi.plan import classify
from callgate.c.declarations import parse_function
from callgate.cpython.conversion import Judgement, SavedError, convert
from callgate.lower.frame import lay_out_frame
from callgate.lower.machine import (
    STEP_BYTES,
    VIEW_BYTES,
    pack_data,
    pack_steps,
    result_operand_offset,
    step_operand_offset,
)
from callgate.target import X86_64_LINUX

TYPES = ["int", "double", "long double", "const char *", "const double *", "void *", "unsigned char", "float"]


@given(st.lists(st.sampled_from(TYPES), max_size=40), st.sampled_from(["void", "long", "double"]))
def test_slots(types: list[str], result: str) -> None:
    text = f"{result} f({', '.join(types) or 'void'})"
    signature = parse_function(text, X86_64_LINUX)
    plan = classify(signature, X86_64_LINUX)
    conversion = convert(
        signature, X86_64_LINUX, judgement=Judgement.NEVER, saved_error=SavedError.NONE, is_blocking=True
    )
    frame = lay_out_frame(plan, conversion)
    count = len(types)
    ranges = [
        (0, plan.stack_bytes),
        (frame.values, 8 * count),
        (frame.outs, 16 * len(conversion.outs)),
        (frame.keywords, 8 * count),
        (frame.views, VIEW_BYTES * frame.view_count),
        *((slot, 8) for slot in (frame.self_slot, frame.state_slot, frame.result_slot)),
        *((slot, 8) for slot in (frame.errno_slot, frame.value_slot, frame.in_use_slot)),
    ]
    taken = sorted((start, start + size) for start, size in ranges if size)
    assert all(before[1] <= after[0] for before, after in pairwise(taken))
    assert taken[-1][1] <= frame.size_bytes
    assert frame.size_bytes % 16 == 8
    assert frame.outs % 16 == 0


def test_the_data_of_a_gate() -> None:
    signature = parse_function("int f(int a, void *b)", X86_64_LINUX)
    conversion = convert(
        signature, X86_64_LINUX, judgement=Judgement.NEVER, saved_error=SavedError.NONE, is_blocking=False
    )
    steps = pack_steps(conversion.steps, 1)
    offset, result = step_operand_offset(1), result_operand_offset(2, 0)
    data = pack_data(0x1122, 0x3344, steps, [(offset, 0x55), (result + 8, 0x66)])
    assert len(data) == 16 + STEP_BYTES * 4
    words = [int.from_bytes(data[at : at + 8], "little") for at in (0, 8, offset, result, result + 8)]
    assert words == [0x1122, 0x3344, 0x55, 0, 0x66]
    assert data[result - STEP_BYTES] == 0  # the END step
    assert pack_data(0x1122, 0x3344, steps, []) == pack_data(0x1122, 0x3344, steps, [(offset, 0)])
