"""Blocks and branches: where values lie at a label, and the moves that bring them there."""

from __future__ import annotations

from callgate.asm.x86_64.registers import RAX, RSP
from callgate.wasm.compile.frame import emit_epilogue
from callgate.wasm.compile.function import NEGATED, FunctionCompiler, OpenBlock
from callgate.wasm.compile.layout import COUNTER, POLL, VMCTX
from callgate.wasm.compile.values import CONSTANT, LOCAL, REGISTER, SLOT, XMM, XMM_TYPES, Entry
from callgate.wasm.compile.variables import drop_entry
from callgate.wasm.errors import Unreachable
from callgate.wasm.types import I32, FuncType
from callgate.wasm.validate import BLOCK, ELSE, IF, LOOP

# -- blocks -----------------------------------------------------------------------------------------------------------


def _open(c: FunctionCompiler, opcode: int, type: FuncType) -> OpenBlock:
    frame = OpenBlock(opcode, type, len(c.stack) - len(type.parameters), c.label())
    c.frames.append(frame)
    return frame


def _parameters_to_slots(c: FunctionCompiler, count: int) -> None:
    """The parameters of a loop must lie where branches put them."""
    first = len(c.stack) - count
    for position in range(first, len(c.stack)):
        entry = c.stack[position]
        if entry.place != SLOT:
            c.store(RSP, c.slot(position), entry, position)
            drop_entry(c, entry)
            c.stack[position] = Entry(SLOT, entry.type, 0)


def block(c: FunctionCompiler, type: FuncType) -> None:
    c.flush()
    _open(c, BLOCK, type)


def loop(c: FunctionCompiler, type: FuncType) -> None:
    c.flush()
    _parameters_to_slots(c, len(type.parameters))
    frame = _open(c, LOOP, type)
    c.checked.clear()
    a = c.a
    a.label(frame.label)
    a.sub32_mi(VMCTX, COUNTER, 1)
    slow, back, offset = c.label(), c.label(), c.offset
    a.jcc("s", slow)
    a.label(back)

    def emit() -> None:
        a.label(slow)
        a.note("signals, limits, other threads")
        a.call_m(VMCTX, POLL)
        c.site(offset)
        a.jmp(back)

    c.cold.append(emit)


def if_(c: FunctionCompiler, type: FuncType) -> None:
    condition = c.pop_condition()
    c.flush()
    _parameters_to_slots(c, len(type.parameters))
    frame = _open(c, IF, type)
    frame.else_label = c.label()
    frame.else_entries = c.stack[frame.base :]  # what is deeper stays as it is
    c.a.jcc(NEGATED[condition], frame.else_label)


def else_(c: FunctionCompiler, is_reached: bool) -> None:
    frame = c.frames[-1]
    if is_reached:
        _make_room(c, frame)
        _move_results(c, frame)
        c.a.jmp(frame.label)
    frame.opcode = ELSE
    c.a.label(frame.else_label)
    c.checked.clear()
    c.stack[frame.base :] = frame.else_entries
    c.release_all()


def end(c: FunctionCompiler, is_reached: bool) -> None:
    frame = c.frames.pop()
    if is_reached and frame.opcode != LOOP:
        _make_room(c, frame)
        _move_results(c, frame)
    a = c.a
    results = frame.type.results
    if not c.frames:
        a.label(c.epilogue)
        emit_epilogue(c)
        a.ret()
        return
    if frame.opcode == IF:  # without else: what it takes is what it leaves
        if results:
            a.jmp(frame.label) if is_reached else None
            a.label(frame.else_label)
            c.stack[frame.base :] = frame.else_entries
            c.release_all()
            _move_results(c, frame)
        else:
            a.label(frame.else_label)
    if frame.opcode == LOOP:
        # what falls out of a loop comes from one place: its results are where they are, those of dead code anywhere
        if not is_reached:
            del c.stack[frame.base :]
            c.release_all()
            _push_results(c, frame)
        return
    del c.stack[frame.base :]
    c.release_all()
    a.label(frame.label)
    c.checked.clear()
    _push_results(c, frame)


def _push_results(c: FunctionCompiler, frame: OpenBlock) -> None:
    """Results of a block as `_move_results` puts them."""
    results = frame.type.results
    if len(results) == 1:
        if results[0] in XMM_TYPES:
            c.free_xmm.remove(0)
            c.push_xmm(0, results[0])
        else:
            c.free.remove(RAX)
            c.push(RAX, results[0])
    else:
        c.stack += [Entry(SLOT, value, 0) for value in results]


def _move_results(c: FunctionCompiler, frame: OpenBlock) -> None:
    """Bring what a branch to a block takes along to where the block wants it.  The stack stays as it is described.

    One result of a block travels in rax or xmm0; several, and the parameters of a loop, in the slots.
    """
    types = frame.label_types
    count = len(types)
    if not count:
        return
    c.bound_code(count)
    first = len(c.stack) - count
    if not c.frames or frame is c.frames[0]:
        _move_to_return(c, types, first)
        return
    if count == 1 and frame.opcode != LOOP:
        entry = c.stack[first]
        if types[0] in XMM_TYPES:
            c.load_xmm(0, entry, first)
        else:
            c.load(RAX, entry, first)
        return
    _move_to_slots(c, types, first, frame.base)


def _move_to_slots(c: FunctionCompiler, types: tuple[int, ...], first: int, base: int) -> None:
    """Copy the top of the stack to lower slots, the lowest first.

    What is in registers there, below or above, is not touched: copies go through a register that has nothing.
    """
    for index in range(len(types)):
        position = first + index
        entry = c.stack[position]
        target = c.slot(base + index)
        if entry.place == SLOT and c.slot(position) == target:
            continue
        copy_entry(c, entry, position, target)


def copy_entry(c: FunctionCompiler, entry: Entry, position: int, target: int) -> None:
    """Store a value in the frame without changing which registers are in use."""
    value = entry.type
    if entry.place in (REGISTER, XMM) or (entry.place == LOCAL and c.pins[entry.payload] >= 0):
        c.store(RSP, target, entry, position)
        return
    if value in XMM_TYPES:
        scratch = c.free_xmm[-1] if c.free_xmm else -1
        if scratch < 0:
            raise AssertionError("no XMM register is free at a branch")
        c.load_xmm(scratch, entry, position)
        c.store_xmm(RSP, target, scratch, value)
        return
    if entry.place == CONSTANT and (value == I32 or -(1 << 31) <= entry.payload < 1 << 31):
        c.store(RSP, target, entry, position)
        return
    scratch = c.free[-1] if c.free else -1
    if scratch < 0:
        raise AssertionError("no register is free at a branch")
    c.load(scratch, entry, position)
    (c.a.mov32_mr if value == I32 else c.a.mov_mr)(RSP, target, scratch)


def _move_to_return(c: FunctionCompiler, types: tuple[int, ...], first: int) -> None:
    """Results of the function: the first in rax or xmm0, the others where the caller looks for them."""
    incoming = c.frame_bytes + 8 * len(c.saved) + 8
    for index in range(1, len(types)):
        copy_entry(c, c.stack[first + index], first + index, incoming + c.area.results[index - 1])
    entry = c.stack[first]
    if types[0] in XMM_TYPES:
        c.load_xmm(0, entry, first)
    else:
        c.load(RAX, entry, first)


# -- branches ---------------------------------------------------------------------------------------------------------


def br(c: FunctionCompiler, depth: int) -> None:
    frame = c.frames[-1 - depth]
    _make_room(c, frame)
    _move_results(c, frame)
    c.a.jmp(frame.label)


def _make_room(c: FunctionCompiler, frame: OpenBlock) -> None:
    """Moves to a label need a register of each kind; where none is free, values go to their slots."""
    needs_slots = len(frame.label_types) > 1 or (frame.opcode == LOOP and frame.label_types)
    if needs_slots and not (c.free and c.free_xmm):
        c.spill()


def br_if(c: FunctionCompiler, depth: int) -> None:
    frame = c.frames[-1 - depth]
    types = frame.label_types
    if types and (len(types) > 1 or frame.opcode == LOOP) and (len(c.free) < 2 or len(c.free_xmm) < 2):
        c.spill()  # moves only, which leave the flags
    condition = c.pop_condition()
    if not types:
        c.a.jcc(condition, frame.label)
        return
    over = c.label()
    c.a.jcc(NEGATED[condition], over)
    _move_results(c, frame)
    c.a.jmp(frame.label)
    c.a.label(over)


def br_table(c: FunctionCompiler, depths: tuple[int, ...]) -> None:
    a = c.a
    position = len(c.stack) - 1
    index = c.own(c.stack.pop(), position)
    frame = c.frames[-1 - depths[-1]]
    if frame.label_types:
        c.spill()
    default = _jump_target(c, depths[-1])
    targets = {depths[-1]: default}
    count = len(depths) - 1
    if not count:
        c.release(index)
        a.jmp(default)
        _emit_jump_targets(c, targets)
        return
    for depth in dict.fromkeys(depths):
        if depth not in targets:
            targets[depth] = _jump_target(c, depth)
    a.cmp32_ri(index, count)
    a.jcc("ae", default)
    table = c.take()
    label = c.label()
    a.lea_label(table, label)
    a.shl_ri(index, 2)
    a.movsxd_rn(index, table, index, 0)
    a.add_rr(index, table)
    a.jmp_r(index)
    c.release(index)
    c.release(table)
    _emit_jump_targets(c, targets)
    names = [targets[depth] for depth in depths[:-1]]

    def emit() -> None:
        a.data(b"\xcc" * (-len(a.code) % 4), "(alignment)")
        a.label(label)
        start = len(a.code)
        for name in names:
            a.distance(name, len(a.code) - start)

    c.cold.append(emit)


def _jump_target(c: FunctionCompiler, depth: int) -> str:
    """The label to jump to for a depth: the block's own, or that of the moves to it."""
    frame = c.frames[-1 - depth]
    return c.label() if frame.label_types else frame.label


def _emit_jump_targets(c: FunctionCompiler, targets: dict[int, str]) -> None:
    for depth, label in targets.items():
        frame = c.frames[-1 - depth]
        if frame.label_types:
            c.a.label(label)
            _move_results(c, frame)
            c.a.jmp(frame.label)


def return_(c: FunctionCompiler, _: object) -> None:
    br(c, len(c.frames) - 1)


def unreachable(c: FunctionCompiler, _: object) -> None:
    c.emit_trap(Unreachable, c.offset)
