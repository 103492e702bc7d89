"""The frame of a function: what lies where in it, which locals have registers, its prologue and its epilogue.

The frame, from rsp up:

    outgoing     results and arguments of calls (layout.Area), as large as the largest
    slots        of the operand stack, one for each position
    locals       those without a register, and the places of float locals around calls
    vmctx        rbx, where functions of other instances are called
    saved        the pins this function uses, pushed
                 return address
    incoming     results and arguments; arguments without a register stay there

Depth never changes between prologue and epilogue, so a return address tells how large its frame is: backtraces need no
more than a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.asm.x86_64.registers import RAX, RSP
from callgate.wasm.compile.layout import (
    ACTIVATION,
    ACTIVATION_LIMIT,
    COUNTER,
    PINS,
    POLL,
    TRAP,
    TRAP_NUMBERS,
    VMCTX,
    XMM_PINS,
)
from callgate.wasm.compile.values import XMM_TYPES
from callgate.wasm.errors import StackExhausted
from callgate.wasm.types import F32, F64, I32, V128

if TYPE_CHECKING:
    from callgate.wasm.compile.function import FunctionCompiler

LITTLE_FRAME_BYTES: Final = 1024
"""Functions that call nothing and take no more than this do not look how much stack is left."""


def lay_out(c: FunctionCompiler) -> None:
    """Decide where everything lies in the frame, and emit the prologue."""
    body, module = c.body, c.shared.context.module
    outgoing = 0
    calls_others = False
    imported = module.imported_functions
    has_vectors = c.shared.has_vectors or V128 in body.locals
    has_calls = False
    for opcode, immediate, _ in body.instructions:
        if opcode in {16, 18}:
            area = c.shared.areas[module.functions[immediate]]
            calls_others = calls_others or immediate < imported
        elif opcode in {17, 19}:
            area = c.shared.areas[immediate[0]]
            calls_others = True
        elif opcode >= 0x3F:
            if opcode >= 0xFD00:
                has_vectors = True
            elif opcode >= 0xFC08 or opcode == 0x40:
                calls_others = has_calls = True
                outgoing = max(outgoing, 48)
            continue
        else:
            continue
        has_calls = True
        outgoing = max(outgoing, area.size_bytes)
    c.slot_bytes = 16 if has_vectors else 8
    c.outgoing_bytes = outgoing
    c.first_slot = outgoing
    offset = outgoing + c.slot_bytes * body.deepest
    _choose_pins(c)
    first_variable = len(body.type.parameters)
    homes = [0] * len(body.locals)
    for local in c.used:
        value = body.locals[local]
        if local >= first_variable and (c.pins[local] < 0 or (value in XMM_TYPES and has_calls)):
            homes[local] = offset
            offset += 16 if value == V128 else 8
    c.vmctx_home = -1
    if calls_others:
        c.vmctx_home = offset
        offset += 8
    pinned = [local for local in c.used if c.pins[local] >= 0]
    taken = {c.pins[local] for local in pinned if body.locals[local] not in XMM_TYPES}
    c.saved = [pin for pin in PINS if pin in taken]
    c.xmm_saved = [local for local in pinned if body.locals[local] in XMM_TYPES]
    c.frame_bytes = offset
    incoming = offset + 8 * len(c.saved) + 8
    for local in range(first_variable):
        homes[local] = incoming + c.area.arguments[local]
    c.homes = homes
    is_little = not has_calls and offset <= LITTLE_FRAME_BYTES
    _emit_prologue(c, incoming, is_little=is_little)


def _choose_pins(c: FunctionCompiler) -> None:
    """Give the locals that are used most a register."""
    body = c.body
    c.pins = [-1] * len(body.locals)
    integers = []
    floats = []
    for local in c.used:
        weight = body.weights[local]
        if body.locals[local] in XMM_TYPES:
            if weight > 1 + 2 * body.calls:  # a call stores and loads it
                floats.append((-weight, local))
        elif weight > 2:
            integers.append((-weight, local))
    for candidates, registers in ((integers, PINS), (floats, XMM_PINS)):
        candidates.sort()
        for (_, local), register in zip(candidates, registers, strict=False):
            c.pins[local] = register


def _emit_prologue(c: FunctionCompiler, incoming: int, *, is_little: bool) -> None:
    a = c.a
    a.label("entry")
    if not is_little:
        if c.frame_bytes > LITTLE_FRAME_BYTES:
            a.lea(RAX, RSP, -c.frame_bytes)
            a.cmp_rm(RAX, ACTIVATION, ACTIVATION_LIMIT)
        else:
            a.cmp_rm(RSP, ACTIVATION, ACTIVATION_LIMIT)
        a.jcc("b", "exhausted")
        a.sub32_mi(VMCTX, COUNTER, 1)
        a.jcc("s", "poll_entry")
        a.label("polled")
        c.cold.append(lambda: _emit_entry_slow_paths(c))
    for pin in c.saved:
        a.push(pin)
    if c.frame_bytes:
        a.sub_ri(RSP, c.frame_bytes)
    if c.vmctx_home >= 0:
        a.mov_mr(RSP, c.vmctx_home, VMCTX)
    _initialize_locals(c)


def _emit_entry_slow_paths(c: FunctionCompiler) -> None:
    """Out of line, before the frame is made."""
    a = c.a
    a.label("exhausted")
    offset = c.instructions[0][2]
    a.note(StackExhausted.text)
    a.mov_ri(RAX, TRAP_NUMBERS[StackExhausted])
    a.call_m(VMCTX, TRAP)
    c.site_at_entry(offset)
    a.label("poll_entry")
    a.note("signals, limits, other threads")
    a.call_m(VMCTX, POLL)
    c.site_at_entry(offset)
    a.jmp("polled")


def _initialize_locals(c: FunctionCompiler) -> None:
    """Load the parameters that have a register; zero the variables."""
    a, body = c.a, c.body
    parameters = len(body.type.parameters)
    zero_is_ready = False
    for local in c.used:
        value, pin = body.locals[local], c.pins[local]
        if local < parameters:
            if pin >= 0:
                home = c.homes[local]
                if value == I32:
                    a.mov32_rm(pin, RSP, home)
                elif value == F64:
                    a.movsd_xm(pin, RSP, home)
                elif value == F32:
                    a.movss_xm(pin, RSP, home)
                elif value == V128:
                    a.movups_xm(pin, RSP, home)
                else:
                    a.mov_rm(pin, RSP, home)
            continue
        if pin >= 0:
            if value in XMM_TYPES:
                a.xorps_xx(pin, pin)
            else:
                a.xor32_rr(pin, pin)
            continue
        if not zero_is_ready:
            a.xor32_rr(RAX, RAX)
            zero_is_ready = True
        a.mov_mr(RSP, c.homes[local], RAX)
        if value == V128:
            a.mov_mr(RSP, c.homes[local] + 8, RAX)


def emit_epilogue(c: FunctionCompiler) -> None:
    """Take the frame down; `ret`, or a jump of a tail call, follows."""
    a = c.a
    if c.frame_bytes:
        a.add_ri(RSP, c.frame_bytes)
    for pin in reversed(c.saved):
        a.pop(pin)
