"""Loads and stores, memory.size, copy and fill, tables.

An address is an i32 that is zero-extended in its register, so that base + address + offset is one operand.  With
explicit checks the address is compared with the size less the extent first, unless an access at a higher offset
from the same local has been checked since the local was written: a memory never shrinks.  With guard pages nothing is
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.asm.x86_64.registers import RDI, RDX, RSI, RSP
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.layout import FILL, LIMIT_COUNT, LIMITS, MEMORY, MEMORY_BYTES, MOVE, TEMPORARIES, VMCTX
from callgate.wasm.compile.values import CONSTANT, LOCAL, REGISTER, SLOT, XMM_TYPES, Entry
from callgate.wasm.compile.variables import drop_entry
from callgate.wasm.compile.xmm import with_loaded
from callgate.wasm.errors import OutOfBounds, TableOutOfBounds
from callgate.wasm.types import F32, F64, I32, I64, V128

Emit = Callable[[FunctionCompiler, object], None]
_MOST_DISPLACEMENT: Final = (1 << 31) - 32


def address(c: FunctionCompiler, entry: Entry, position: int, offset: int, size_bytes: int) -> tuple[int, int]:
    """The index register and the displacement of an access that has been checked; -1 for no index.

    A temporary in it is the caller's to release.
    """
    a = c.a
    place, _, payload = entry
    if place == CONSTANT:
        absolute = (payload & 0xFFFF_FFFF) + offset
        if absolute + size_bytes <= c.shared.minimum_bytes and absolute <= _MOST_DISPLACEMENT:
            return -1, absolute
    index = c.gpr(entry, position)
    if offset > _MOST_DISPLACEMENT:
        total = index if index in TEMPORARIES else c.take()
        step = c.take()
        a.mov_ri(step, offset)
        if total != index:
            a.mov_rr(total, index)
        a.add_rr(total, step)
        c.release(step)
        index, offset = total, 0
        place = REGISTER
    if not c.options.is_guarded:
        extent = offset + size_bytes
        if place != LOCAL or c.checked.get(payload, 0) < extent:
            if extent < LIMIT_COUNT:
                a.cmp_rm(index, VMCTX, LIMITS + 8 * extent)
                c.trap_if("ae", OutOfBounds)
            else:
                end = c.take()
                a.lea(end, index, extent)
                a.cmp_rm(end, VMCTX, MEMORY_BYTES)
                c.trap_if("a", OutOfBounds)
                c.release(end)
            if place == LOCAL:
                c.checked[payload] = extent
    else:
        c.site_of_access()
    return index, offset


_FUSIBLE: Final = {
    ("mov32", I32): {
        opcode: f"{name}32_rn"
        for opcode, name in ((0x6A, "add"), (0x6B, "sub"), (0x71, "and"), (0x72, "or"), (0x73, "xor"))
    },
    ("mov", I64): {
        opcode: f"{name}_rn"
        for opcode, name in ((0x7C, "add"), (0x7D, "sub"), (0x83, "and"), (0x84, "or"), (0x85, "xor"))
    },
    ("movss", F32): {
        opcode: f"{name}ss" for opcode, name in ((0x92, "add"), (0x93, "sub"), (0x94, "mul"), (0x95, "div"))
    },
    ("movsd", F64): {
        opcode: f"{name}sd" for opcode, name in ((0xA0, "add"), (0xA1, "sub"), (0xA2, "mul"), (0xA3, "div"))
    },
}
"""By the load: the instructions that take what is loaded as their second operand, and the rows for both in one."""


def _fuse_integer(c: FunctionCompiler, row: str, index: int, displacement: int, value: int) -> None:
    """The instruction that follows, with what would be loaded as its second operand."""
    c.next += 1
    position = len(c.stack) - 1
    first = c.stack.pop()
    target = c.pin_that_follows()
    if target == index:
        target = -1
    if target >= 0:
        c.settle_following()
        register = target
        c.load(register, first, position)
        drop_entry(c, first)
    else:
        register = c.own(first, position)
    getattr(c.a, row)(register, MEMORY, index, displacement)
    c.release(index)
    if target >= 0:
        c.set_local()
    else:
        c.push(register, value)


def load_integer(name: str, size_bytes: int, value: int) -> Emit:
    """A load into a general register; a whole one may be the memory operand of the instruction that follows."""
    indexed, direct = f"{name}_rn", f"{name}_rm"
    fusible = _FUSIBLE.get((name, value), {})

    def emit(c: FunctionCompiler, offset: int) -> None:
        position = len(c.stack) - 1
        index, displacement = address(c, c.stack.pop(), position, offset, size_bytes)
        if index >= 0 and fusible:
            fused = fusible.get(c.following())
            if fused is not None:
                _fuse_integer(c, fused, index, displacement, value)
                return
        target = c.pin_that_follows()
        if target >= 0:
            c.settle_following()
        register = target if target >= 0 else index if index in TEMPORARIES else c.take()
        if index < 0:
            getattr(c.a, direct)(register, MEMORY, displacement)
        else:
            getattr(c.a, indexed)(register, MEMORY, index, displacement)
            if register != index:
                c.release(index)
        if target >= 0:
            c.set_local()
        else:
            c.push(register, value)

    return emit  # type: ignore[return-value]


def load_float(name: str, size_bytes: int, value: int) -> Emit:
    """A load into an XMM register; into that of the local that is set next, or as an operand of what follows."""
    indexed, direct = f"{name}_xn", f"{name}_xm"
    fusible = _FUSIBLE.get((name, value), {})

    def emit(c: FunctionCompiler, offset: int) -> None:
        position = len(c.stack) - 1
        index, displacement = address(c, c.stack.pop(), position, offset, size_bytes)
        if index >= 0 and fusible:
            fused = fusible.get(c.following())
            if fused is not None:
                with_loaded(c, fused, index, displacement, value)
                return
        target = c.pin_that_follows()
        if target >= 0:
            c.settle_following()
        register = target if target >= 0 else c.take_xmm()
        if index < 0:
            getattr(c.a, direct)(register, MEMORY, displacement)
        else:
            getattr(c.a, indexed)(register, MEMORY, index, displacement)
            c.release(index)
        if target >= 0:
            c.set_local()
        else:
            c.push_xmm(register, value)

    return emit  # type: ignore[return-value]


def store(name: str, size_bytes: int, value: int) -> Emit:
    """A store of an integer, a float or a vector."""
    is_xmm = value in XMM_TYPES
    indexed, direct = (f"{name}_nx", f"{name}_mx") if is_xmm else (f"{name}_nr", f"{name}_mr")
    immediate = f"{name}_ni"
    bits = 8 * size_bytes

    def emit(c: FunctionCompiler, offset: int) -> None:
        a = c.a
        position = len(c.stack) - 1
        entry = c.stack.pop()
        where = c.stack.pop()
        if entry.place == CONSTANT and not is_xmm:
            number = entry.payload & (1 << bits) - 1
            number -= (number >> bits - 1) << bits
            if -(1 << 31) <= number < 1 << 31:
                index, displacement = address(c, where, position - 1, offset, size_bytes)
                if index >= 0:
                    getattr(a, immediate)(MEMORY, index, displacement, number)
                    c.release(index)
                    return
                register = c.take()
                a.mov_ri(register, number)
                getattr(a, direct)(MEMORY, displacement, register)
                c.release(register)
                return
        register = c.xmm(entry, position) if is_xmm else c.gpr(entry, position)
        index, displacement = address(c, where, position - 1, offset, size_bytes)
        if index < 0:
            getattr(a, direct)(MEMORY, displacement, register)
        else:
            getattr(a, indexed)(MEMORY, index, displacement, register)
            c.release(index)
        if is_xmm:
            c.release_xmm(register)
        else:
            c.release(register)

    return emit  # type: ignore[return-value]


def memory_size(c: FunctionCompiler, _: object) -> None:
    register = c.take()
    c.a.mov_rm(register, VMCTX, MEMORY_BYTES)
    c.a.shr_ri(register, 16)
    c.push(register, I32)


def bulk(place: int, *, is_copy: bool) -> Emit:
    """memory.copy and memory.fill: checked, then memmove or memset by a stub, with rdi, rsi and rdx."""

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        first = len(c.stack) - 3
        # into their registers by way of the outgoing area, as they may be in each other's
        for number in range(3):
            entry = c.stack[first + number]
            c.store(RSP, 8 * number, entry, first + number)
            drop_entry(c, entry)
            c.stack[first + number] = Entry(SLOT, I32, 0)
        del c.stack[first:]
        c.spill()
        for register, number in ((RDI, 0), (RSI, 1), (RDX, 2)):
            c.take_this(register)
            a.mov32_rm(register, RSP, 8 * number)
        end = c.take()
        for register in (RDI, RSI) if is_copy else (RDI,):
            a.lea_rn(end, register, RDX, 0)
            a.cmp_rm(end, VMCTX, MEMORY_BYTES)
            c.trap_if("a", OutOfBounds)
        c.release(end)
        a.add_rr(RDI, MEMORY)
        if is_copy:
            a.add_rr(RSI, MEMORY)
        for local in c.xmm_saved:
            c.store_xmm(RSP, c.homes[local], c.pins[local], c.types[local])
        a.call_m(VMCTX, place)
        c.site(c.offset)
        for local in c.xmm_saved:
            c.load_home(local)
        c.free += [RDI, RSI, RDX]

    return emit


def table_get(c: FunctionCompiler, table: int) -> None:
    a = c.a
    position = len(c.stack) - 1
    index = c.own(c.stack.pop(), position)
    place = c.shared.layout.table_at(table)
    a.cmp_rm(index, VMCTX, place + 8)
    c.trap_if("ae", TableOutOfBounds)
    a.shl_ri(index, 3)
    a.add_rm(index, VMCTX, place)
    a.mov_rm(index, index, 0)
    c.push(index, c.shared.context.module.tables[table].element)


def table_set(c: FunctionCompiler, table: int) -> None:
    a = c.a
    position = len(c.stack) - 1
    entry = c.stack.pop()
    index_entry = c.stack.pop()
    value = c.gpr(entry, position)
    index = c.own(index_entry, position - 1)
    place = c.shared.layout.table_at(table)
    a.cmp_rm(index, VMCTX, place + 8)
    c.trap_if("ae", TableOutOfBounds)
    a.shl_ri(index, 3)
    a.add_rm(index, VMCTX, place)
    a.mov_mr(index, 0, value)
    c.release(index)
    c.release(value)


def table_size(c: FunctionCompiler, table: int) -> None:
    register = c.take()
    c.a.mov32_rm(register, VMCTX, c.shared.layout.table_at(table) + 8)
    c.push(register, I32)


def memory_emitters() -> dict[str, Emit]:
    """By the instruction's name."""
    emitters: dict[str, Emit] = {
        "i32.load": load_integer("mov32", 4, I32),
        "i64.load": load_integer("mov", 8, I64),
        "f32.load": load_float("movss", 4, F32),
        "f64.load": load_float("movsd", 8, F64),
        "v128.load": load_float("movups", 16, V128),
        "i32.store": store("mov32", 4, I32),
        "i64.store": store("mov", 8, I64),
        "f32.store": store("movss", 4, F32),
        "f64.store": store("movsd", 8, F64),
        "v128.store": store("movups", 16, V128),
        "i32.load8_s": load_integer("movsx8_32", 1, I32),
        "i32.load16_s": load_integer("movsx16_32", 2, I32),
        "i64.load8_s": load_integer("movsx8", 1, I64),
        "i64.load16_s": load_integer("movsx16", 2, I64),
        "i64.load32_s": load_integer("movsxd", 4, I64),
        "i64.load32_u": load_integer("mov32", 4, I64),
        "i64.store32": store("mov32", 4, I64),
        "memory.size": memory_size,
        "memory.copy": bulk(MOVE, is_copy=True),
        "memory.fill": bulk(FILL, is_copy=False),
        "table.get": table_get,  # type: ignore[dict-item]
        "table.set": table_set,  # type: ignore[dict-item]
        "table.size": table_size,  # type: ignore[dict-item]
    }
    for name, value in (("i32", I32), ("i64", I64)):
        for bits in (8, 16):
            emitters[f"{name}.load{bits}_u"] = load_integer(f"movzx{bits}", bits // 8, value)
            emitters[f"{name}.store{bits}"] = store(f"mov{bits}", bits // 8, value)
    return emitters
