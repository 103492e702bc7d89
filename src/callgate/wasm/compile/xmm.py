"""Instructions on floats and vectors that are one of the processor's: in SSE's form, or in AVX's where there is one.

SSE changes its first operand, which is copied where it is wanted later, and takes no vector from memory that is not
aligned.  AVX writes to a third register and takes its second operand from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callgate.asm.x86_64.registers import RSP
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.layout import MEMORY, XMM_TEMPORARIES
from callgate.wasm.compile.values import CONSTANT, LOCAL, SLOT, XMM, Entry
from callgate.wasm.types import V128

Emit = Callable[[FunctionCompiler, Any], None]


def binary(value: int, name: str, *, commutes: bool = False, is_swapped: bool = False) -> Emit:
    """An instruction of two operands of a type, given to the processor the other way round where `is_swapped`."""
    sse = {form: f"{name}_x{form}" for form in "xmL"}
    avx = {form: f"v{name}_xx{form}" for form in "xmL"}
    is_vector = value == V128

    def emit(c: FunctionCompiler, _: object) -> None:
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        first_at = second_at - 1
        has_avx = c.has_avx
        if is_swapped or (commutes and second.place == XMM and first.place != XMM):
            first, second, first_at, second_at = second, first, second_at, first_at
        target = c.pin_that_follows()
        if target >= 0:
            if not has_avx and target == c.pin_of(second):
                if commutes:
                    first, second, first_at, second_at = second, first, second_at, first_at
                else:
                    target = -1
            if target >= 0:
                c.settle_following()
        form, operand = (
            ("x", (c.xmm(second, second_at),)) if is_vector and not has_avx else _operand(c, second, second_at)
        )
        if has_avx:
            left = c.xmm(first, first_at)
            register = target if target >= 0 else _result_in(c, left, operand[0] if form == "x" else -1)
            getattr(c.a, avx[form])(register, left, *operand)
            if left != register:
                c.release_xmm(left)
        else:
            left = -1
            register = _first_in(c, first, first_at, target)
            getattr(c.a, sse[form])(register, *operand)
        if form == "x" and operand[0] not in (register, left):
            c.release_xmm(operand[0])
        c.finish(register, target, value)

    return emit


def _operand(c: FunctionCompiler, entry: Entry, position: int) -> tuple[str, tuple[Any, ...]]:
    """Where an operand is that may be in memory: the letter of the row's form, and what the row takes."""
    if entry.place == SLOT:
        return "m", (RSP, c.slot(position))
    if entry.place == LOCAL and c.pins[entry.payload] < 0:
        return "m", (RSP, c.homes[entry.payload])
    if entry.place == CONSTANT and entry.payload:
        return "L", (c.constant_of(entry.type, entry.payload),)
    return "x", (c.xmm(entry, position),)


def _result_in(c: FunctionCompiler, left: int, right: int) -> int:
    """A temporary for a result: that of an operand, if one is in one."""
    if left in XMM_TEMPORARIES:
        return left
    return right if right in XMM_TEMPORARIES else c.take_xmm()


def _first_in(c: FunctionCompiler, entry: Entry, position: int, target: int) -> int:
    """The first operand in a register that may be changed: `target`, or where that is -1 a temporary."""
    if target < 0:
        return c.own_xmm(entry, position)
    if c.pin_of(entry) != target:
        c.load_xmm(target, entry, position)
    if entry.place == XMM:
        c.free_xmm.append(entry.payload)
    return target


def with_loaded(c: FunctionCompiler, name: str, index: int, displacement: int, value: int) -> None:
    """The instruction that follows a load, whose second operand is what would be loaded."""
    c.next += 1
    position = len(c.stack) - 1
    first = c.stack.pop()
    target = c.pin_that_follows()
    if target >= 0:
        c.settle_following()
    if c.has_avx:
        left = c.xmm(first, position)
        register = target if target >= 0 else _result_in(c, left, -1)
        getattr(c.a, f"v{name}_xxn")(register, left, MEMORY, index, displacement)
        if left != register:
            c.release_xmm(left)
    else:
        register = _first_in(c, first, position, target)
        getattr(c.a, f"{name}_xn")(register, MEMORY, index, displacement)
    c.release(index)
    c.finish(register, target, value)


def unary(value: int, name: str, *operands: int, is_scalar: bool = False) -> Emit:
    """An instruction from one register to another.

    That of a scalar leaves the upper half of its register as it was, and waits for who wrote it; AVX's does not.
    """
    sse = f"{name}_xx{'i' if operands else ''}"
    avx = f"v{name}_xxx{'i' if operands else ''}"

    def emit(c: FunctionCompiler, _: object) -> None:
        position = len(c.stack) - 1
        source = c.xmm(c.stack.pop(), position)
        target = c.pin_that_follows()
        if target >= 0:
            c.settle_following()
        register = target if target >= 0 else source if source in XMM_TEMPORARIES else c.take_xmm()
        if is_scalar and c.has_avx:
            getattr(c.a, avx)(register, source, source, *operands)
        else:
            getattr(c.a, sse)(register, source, *operands)
        if register != source:
            c.release_xmm(source)
        c.finish(register, target, value)

    return emit
