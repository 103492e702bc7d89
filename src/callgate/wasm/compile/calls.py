"""Calls, tail calls, and the instructions that are calls of Python functions.

A callee finds its arguments in the caller's outgoing area (`layout.Area`); what is on the stack below them is in its
slots by then, float locals are in theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.asm.x86_64.registers import RAX, RCX, RSP
from callgate.wasm.compile.control import copy_entry, return_
from callgate.wasm.compile.frame import emit_epilogue
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.layout import (
    HIDDEN,
    IMPORT_CODE,
    IMPORT_VMCTX,
    MEMORY,
    MEMORY_BASE,
    RECORD_CODE,
    RECORD_TYPE,
    RECORD_VMCTX,
    VMCTX,
    Area,
    area_of,
)
from callgate.wasm.compile.values import CONSTANT, SLOT, XMM_TYPES, Entry
from callgate.wasm.compile.variables import drop_entry
from callgate.wasm.errors import IndirectCallMismatch, UndefinedElement, UninitializedElement
from callgate.wasm.types import I32, V128, FuncType


def _pass_arguments(c: FunctionCompiler, signature: FuncType, area: Area) -> None:
    """Take the arguments off the stack into the outgoing area; what is below is out of the registers."""
    count = len(signature.parameters)
    c.bound_code(count + len(signature.results))
    first = len(c.stack) - count
    for index in range(count):
        entry = c.stack[first + index]
        c.store(RSP, area.arguments[index], entry, first + index)
        drop_entry(c, entry)
        c.stack[first + index] = Entry(SLOT, entry.type, 0)  # it is passed; nothing moves it again
    del c.stack[first:]
    c.spill()


def _save_floats(c: FunctionCompiler) -> None:
    for local in c.xmm_saved:
        c.store_xmm(RSP, c.homes[local], c.pins[local], c.types[local])


def _restore_floats(c: FunctionCompiler) -> None:
    for local in c.xmm_saved:
        c.load_home(local)


def _take_results(c: FunctionCompiler, results: tuple[int, ...], area: Area) -> None:
    """Push what a call has left."""
    _restore_floats(c)
    if not results:
        return
    if results[0] in XMM_TYPES:
        c.free_xmm.remove(0)
        c.push_xmm(0, results[0])
    else:
        c.free.remove(RAX)
        c.push(RAX, results[0])
    for value, offset in zip(results[1:], area.results, strict=True):
        target = c.slot(len(c.stack))
        if value == V128:
            scratch = c.free_xmm[-1]
            c.a.movups_xm(scratch, RSP, offset)
            c.a.movups_mx(RSP, target, scratch)
        else:
            c.a.mov_rm(RCX, RSP, offset)
            c.a.mov_mr(RSP, target, RCX)
        c.stack.append(Entry(SLOT, value, 0))
    c.narrow(len(c.stack) - len(results))  # the arguments may have been as many: the stack has not grown


def call(c: FunctionCompiler, callee: int) -> None:
    module = c.shared.context.module
    signature = c.shared.context.functions[callee]
    area = c.shared.areas[module.functions[callee]]
    _pass_arguments(c, signature, area)
    _save_floats(c)
    if callee < module.imported_functions:
        _call_import(c, callee)
    elif c.shared.is_lazy:
        c.a.call_m(VMCTX, c.shared.layout.record_at(callee) + RECORD_CODE)
        c.site(c.offset)
    else:
        c.reach(0xE8, callee)
        c.site(c.offset)
    _take_results(c, signature.results, area)


def _call_import(c: FunctionCompiler, number: int) -> None:
    """Call a function of another instance, or a host function, whose stub takes what it needs for a vmctx."""
    a = c.a
    place = c.shared.layout.import_at(number)
    a.mov_rm(RAX, VMCTX, place + IMPORT_CODE)
    a.mov_rm(VMCTX, VMCTX, place + IMPORT_VMCTX)
    _call_elsewhere(c)


def _call_elsewhere(c: FunctionCompiler) -> None:
    """Call rax; rbx is the callee's."""
    a = c.a
    a.mov_rm(MEMORY, VMCTX, MEMORY_BASE)
    a.call_r(RAX)
    c.site(c.offset)
    a.mov_rm(VMCTX, RSP, c.vmctx_home)
    a.mov_rm(MEMORY, VMCTX, MEMORY_BASE)


def call_hidden(name: str, *, immediates: int = 0, result: int = 0) -> Callable[[FunctionCompiler, object], None]:
    """An instruction that is a call of a host function; its immediates are passed behind its operands, as i32."""

    def emit(c: FunctionCompiler, immediate: object) -> None:
        numbers = immediate if isinstance(immediate, tuple) else (immediate,) if immediates else ()
        for one in numbers:
            c.stack.append(Entry(CONSTANT, I32, one))
        count = HIDDEN_OPERANDS[name] + immediates
        types = tuple(entry.type for entry in c.stack[len(c.stack) - count :])
        signature = FuncType(types, (result,) if result else ())
        area = area_of(signature)
        _pass_arguments(c, signature, area)
        _save_floats(c)
        _call_import(c, c.shared.hidden[name])
        _take_results(c, signature.results, area)

    return emit


HIDDEN_OPERANDS: Final = {
    **{"memory.grow": 1, "memory.init": 3, "data.drop": 0, "table.grow": 2},
    **{"table.fill": 3, "table.copy": 3, "table.init": 3, "elem.drop": 0},
}
assert set(HIDDEN_OPERANDS) == set(HIDDEN)


def _load_record(c: FunctionCompiler, type_index: int, table: int) -> int:
    """The record that an indirect call means, in a temporary; traps where there is none or one of another type."""
    a = c.a
    position = len(c.stack) - 1
    index = c.own(c.stack.pop(), position)
    place = c.shared.layout.table_at(table)
    a.cmp_rm(index, VMCTX, place + 8)
    c.trap_if("ae", UndefinedElement)
    record = c.take()
    a.mov32_rr(record, index)
    a.shl_ri(record, 3)
    a.add_rm(record, VMCTX, place)
    a.mov_rm(record, record, 0)
    a.test_rr(record, record)
    c.trap_if("e", UninitializedElement, index)
    a.mov32_rm(index, VMCTX, c.shared.layout.type_at(type_index))
    a.cmp32_rm(index, record, RECORD_TYPE)
    c.trap_if("ne", IndirectCallMismatch)
    c.release(index)
    return record


def call_indirect(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    signature = c.shared.context.module.types[type_index]
    area = c.shared.areas[type_index]
    record = _load_record(c, type_index, table)
    _pass_arguments(c, signature, area)
    _save_floats(c)
    a = c.a
    a.mov_rm(VMCTX, record, RECORD_VMCTX)
    a.mov_rm(RAX, record, RECORD_CODE)
    c.release(record)
    _call_elsewhere(c)
    _take_results(c, signature.results, area)


# -- tail calls -------------------------------------------------------------------------------------------------------


def _tail_arguments(c: FunctionCompiler, signature: FuncType, area: Area) -> None:
    """Move the arguments of a tail call to where this function's own lie, by way of slots: they may be read there."""
    count = len(signature.parameters)
    c.bound_code(count)
    first = len(c.stack) - count
    c.flush()
    incoming = c.frame_bytes + 8 * len(c.saved) + 8
    for index in range(count):
        copy_entry(c, c.stack[first + index], first + index, incoming + area.arguments[index])
    del c.stack[first:]


def return_call(c: FunctionCompiler, callee: int) -> None:
    module = c.shared.context.module
    signature = c.shared.context.functions[callee]
    area = c.shared.areas[module.functions[callee]]
    if callee < module.imported_functions or area.size_bytes > c.area.size_bytes:
        call(c, callee)
        return_(c, None)
        return
    _tail_arguments(c, signature, area)
    emit_epilogue(c)
    if c.shared.is_lazy:
        c.a.jmp_m(VMCTX, c.shared.layout.record_at(callee) + RECORD_CODE)
        return
    c.reach(0xE9, callee)


def return_call_indirect(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    signature = c.shared.context.module.types[type_index]
    area = c.shared.areas[type_index]
    if area.size_bytes > c.area.size_bytes:
        call_indirect(c, immediate)
        return_(c, None)
        return
    a = c.a
    record = _load_record(c, type_index, table)
    c.flush()
    base = c.frames[-1].base
    stack = c.stack[base:]
    other, scratch = c.label(), c.take()
    a.mov_rm(scratch, record, RECORD_VMCTX)
    a.cmp_rr(scratch, VMCTX)
    c.release(scratch)
    a.jcc("ne", other)
    _tail_arguments(c, signature, area)
    a.mov_rm(RAX, record, RECORD_CODE)
    emit_epilogue(c)
    a.jmp_r(RAX)
    c.stack[base:] = stack
    a.label(other)
    _pass_arguments(c, signature, area)
    _save_floats(c)
    a.mov_rm(VMCTX, record, RECORD_VMCTX)
    a.mov_rm(RAX, record, RECORD_CODE)
    c.release(record)
    _call_elsewhere(c)
    _take_results(c, signature.results, area)
    return_(c, None)
