"""Locals, globals, constants, `drop` and `nop`: instructions that mostly emit nothing but move entries of the stack."""

from __future__ import annotations

from collections.abc import Callable

from callgate.asm.x86_64.registers import RSP
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.layout import VMCTX
from callgate.wasm.compile.values import CONSTANT, LOCAL, REGISTER, XMM, XMM_TYPES, Entry
from callgate.wasm.types import F32, F64, I32


def local_get(c: FunctionCompiler, local: int) -> None:
    c.stack.append(Entry(LOCAL, c.types[local], local))


def _write_local(c: FunctionCompiler, local: int, entry: Entry, position: int) -> None:
    """Move a value to a local.  A register it is in stays the caller's."""
    c.settle(local)
    c.checked.pop(local, None)
    value = c.types[local]
    pin = c.pins[local]
    if pin < 0:
        c.store(RSP, c.homes[local], entry, position)
    elif value in XMM_TYPES:
        c.load_xmm(pin, entry, position)
    elif entry.place == CONSTANT and not entry.payload:
        c.a.xor32_rr(pin, pin)
    else:
        c.load(pin, entry, position)


def local_set(c: FunctionCompiler, local: int) -> None:
    entry = c.stack.pop()
    if entry.place == LOCAL and entry.payload == local:
        return
    _write_local(c, local, entry, len(c.stack))
    drop_entry(c, entry)


def local_tee(c: FunctionCompiler, local: int) -> None:
    entry = c.stack.pop()
    if entry.place == LOCAL and entry.payload == local:
        c.stack.append(entry)
        return
    _write_local(c, local, entry, len(c.stack))
    if c.pins[local] < 0 and entry.place in (REGISTER, XMM, CONSTANT):
        c.stack.append(entry)
    else:
        drop_entry(c, entry)
        c.stack.append(Entry(LOCAL, c.types[local], local))


def drop_entry(c: FunctionCompiler, entry: Entry) -> None:
    """A value that is not wanted any more."""
    if entry.place == REGISTER:
        c.free.append(entry.payload)
    elif entry.place == XMM:
        c.free_xmm.append(entry.payload)


def drop(c: FunctionCompiler, _: object) -> None:
    drop_entry(c, c.stack.pop())


def nop(c: FunctionCompiler, _: object) -> None:
    pass


def number(value: int) -> Callable[[FunctionCompiler, int], None]:
    """The constants."""

    def emit(c: FunctionCompiler, bits: int) -> None:
        c.stack.append(Entry(CONSTANT, value, bits))

    return emit


def _global_place(c: FunctionCompiler, number: int) -> tuple[int, int, int]:
    """Base, offset and, to be released, the temporary of a global."""
    module = c.shared.context.module
    offset = c.shared.layout.global_at(number)
    if number < module.imported_globals and module.globals[number].is_mutable:
        register = c.take()
        c.a.mov_rm(register, VMCTX, offset)
        return register, 0, register
    return VMCTX, offset, -1


def global_get(c: FunctionCompiler, number: int) -> None:
    value = c.shared.context.module.globals[number].value
    base, offset, temporary = _global_place(c, number)
    a = c.a
    if value in XMM_TYPES:
        register = c.take_xmm()
        (a.movsd_xm if value == F64 else a.movss_xm if value == F32 else a.movups_xm)(register, base, offset)
        if temporary >= 0:
            c.release(temporary)
        c.push_xmm(register, value)
        return
    pin = c.pin_that_follows() if temporary < 0 else -1
    if pin >= 0:
        c.settle_following()
        (a.mov32_rm if value == I32 else a.mov_rm)(pin, base, offset)
        c.set_local()
        return
    register = temporary if temporary >= 0 else c.take()
    (a.mov32_rm if value == I32 else a.mov_rm)(register, base, offset)
    c.push(register, value)


def global_set(c: FunctionCompiler, number: int) -> None:
    entry = c.stack.pop()
    base, offset, temporary = _global_place(c, number)
    c.store(base, offset, entry, len(c.stack))
    if temporary >= 0:
        c.release(temporary)
    drop_entry(c, entry)
