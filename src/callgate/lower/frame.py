"""The stack frame of a gate, drawn once: every offset from rsp that its code uses.

higher addresses
|  return address         |
|  saved registers        |  of gates that check their calls
|  self                   |
|  padding                |  keeps rsp a multiple of 16 at calls
|  views                  |  a Py_buffer for each argument that may hold one
|  keyword slots          |  an object pointer for each argument, for calls with keywords
|  out storage            |  16 bytes for each Out parameter, 16-aligned
|  quads                  |  16 bytes for each argument that is a long double in a vector register
|  several words          |  a result in several registers, or the object made for one in memory
|  what came back         |  of gates that check their calls: the stack pointer before and after, and the registers
|  scratch words          |  thread state, result, errno, value, "views are in use", argument objects
|  values                 |  8 bytes for each argument that Python passes
|  stack arguments        |  <- rsp
lower addresses
"""

from __future__ import annotations

from typing import NamedTuple

from callgate.abi.plan import CallPlan
from callgate.cpython.conversion import Conversion
from callgate.lower.machine import VIEW_BYTES


class Frame(NamedTuple):
    """Offsets from rsp in bytes, and the size that the prologue subtracts."""

    size_bytes: int
    values: int
    views: int
    view_count: int
    outs: int
    keywords: int
    quads: int
    saved: tuple[int, ...]
    self_slot: int
    state_slot: int
    result_slot: int
    errno_slot: int
    value_slot: int
    in_use_slot: int
    args_slot: int
    wide_slot: int
    check_slot: int

    def value(self, index: int) -> int:
        """Where the converted argument `index` is kept."""
        return self.values + 8 * index

    def out(self, index: int) -> int:
        """Where Out parameter `index` is stored by C."""
        return self.outs + 16 * index


def lay_out_frame(plan: CallPlan, conversion: Conversion, saved: tuple[int, ...] = ()) -> Frame:
    """Decide the frame of a gate; `saved` are the registers that it saves and checks."""
    count = len(conversion.steps)
    view_count = sum(step.may_own for step in conversion.steps)
    values = plan.stack_bytes
    scratch = values + 8 * count  # near rsp, so that offsets are short
    slots = [scratch + 8 * number for number in range(7)]
    wide_words = max(2, (plan.result.size_bytes + 7) // 8) if plan.result.pieces else 1
    slots.append(slots[-1] + 8 * wide_words)
    outs = slots[-1] + (8 * (2 + len(saved)) if saved else 0) + 15 & ~15
    quads = outs + 16 * len(conversion.outs)
    keywords = quads + 16 * sum(argument.is_quad for argument in plan.arguments)
    views = keywords + 8 * count
    size = views + VIEW_BYTES * view_count + 8 | 8  # with the return address a multiple of 16 (psABI 3.2.2)
    size += 8 * (len(saved) % 2)
    return Frame(size, values, views, view_count, outs, keywords, quads, saved, size - 8, *slots)
