"""Integer arithmetic and comparisons, conversions between integers, `select`, references.

Each emitter is a few lines; there are many, and the table at the end names them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.asm.x86_64.registers import RAX, RCX, RDX, RSP
from callgate.wasm.compile.function import NEGATED, FunctionCompiler
from callgate.wasm.compile.layout import TEMPORARIES, VMCTX
from callgate.wasm.compile.values import CONSTANT, LOCAL, REGISTER, SLOT, XMM, XMM_TYPES, Entry
from callgate.wasm.errors import DivisionByZero, IntegerOverflow
from callgate.wasm.types import FUNCREF, I32, I64

Emit = Callable[[FunctionCompiler, object], None]


def _is_short(entry: Entry) -> bool:
    """Whether a constant can be an immediate operand: 32 bits, their sign extended."""
    return entry.place == CONSTANT and -(1 << 31) <= entry.payload < 1 << 31


def _in_memory(c: FunctionCompiler, entry: Entry, position: int) -> int:
    """The place in the frame of a value that lies there, -1 of others."""
    if entry.place == SLOT:
        return c.slot(position)
    if entry.place == LOCAL and c.pins[entry.payload] < 0:
        return c.homes[entry.payload]
    return -1


def binary(value: int, name: str, *, commutes: bool = False) -> Emit:
    """add, sub, mul, and, or, xor: in the register of the first operand, or of the local that takes the result."""
    width = "32" if value == I32 else ""
    rr, rm, ri = f"{name}{width}_rr", f"{name}{width}_rm", f"{name}{width}_ri"
    is_product, is_sum, is_difference = name == "imul", name == "add", name == "sub"
    mov = f"mov{width}_rr"
    lea_rn, lea_rm = f"lea{width}_rn", f"lea{width}"

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        first_at = second_at - 1
        if commutes and (first.place == CONSTANT or (second.place == REGISTER and first.place != REGISTER)):
            first, second, first_at, second_at = second, first, second_at, first_at
        target = c.pin_that_follows()
        if target >= 0:
            if target == c.pin_of(second):
                if commutes:
                    first, second, first_at, second_at = second, first, second_at, first_at
                else:
                    target = -1
            if target >= 0:
                c.settle_following()
        is_short = _is_short(second)
        if (is_sum or (is_difference and is_short and second.payload != -(1 << 31))) and first.place == LOCAL:
            source = c.pins[first.payload]
            if source >= 0 and source != target:
                if is_short:
                    register = target if target >= 0 else c.take()
                    getattr(a, lea_rm)(register, source, second.payload if is_sum else -second.payload)
                    c.finish(register, target, value)
                    return
                other = second.payload if second.place == REGISTER else c.pin_of(second)
                if is_sum and other >= 0:
                    register = target if target >= 0 else other if second.place == REGISTER else c.take()
                    getattr(a, lea_rn)(register, source, other, 0)
                    if second.place == REGISTER and register != other:
                        c.free.append(other)
                    c.finish(register, target, value)
                    return
        if is_product and is_short:
            source = c.gpr(first, first_at)
            register = target if target >= 0 else source if source in TEMPORARIES else c.take()
            getattr(a, f"imul{width}_rri")(register, source, second.payload)
            if register != source:
                c.release(source)
            c.finish(register, target, value)
            return
        # operands that are to be loaded first: the second may need a register of its own
        memory = -1
        operand = -1
        if not is_short:
            memory = _in_memory(c, second, second_at)
            if memory < 0:
                operand = c.gpr(second, second_at)
        if target >= 0:
            register = target
            if first.place == REGISTER:
                getattr(a, mov)(register, first.payload)
                c.free.append(first.payload)
            elif c.pin_of(first) != register:
                c.load(register, first, first_at)
        else:
            register = c.own(first, first_at)
        if is_short:
            getattr(a, ri)(register, second.payload)
        elif memory >= 0:
            getattr(a, rm)(register, RSP, memory)
        else:
            getattr(a, rr)(register, operand)
            c.release(operand)
        c.finish(register, target, value)

    return emit


def compare(value: int, condition: str) -> Emit:
    """The comparisons, whose result stays in the flags where a branch follows."""
    width = "32" if value == I32 else ""
    swapped = {"b": "a", "a": "b", "be": "ae", "ae": "be", "l": "g", "g": "l", "le": "ge", "ge": "le"}

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        first_at = second_at - 1
        holds = condition
        if first.place == CONSTANT and second.place != CONSTANT:
            first, second, first_at, second_at = second, first, second_at, first_at
            holds = swapped.get(condition, condition)
        register = c.gpr(first, first_at)
        if _is_short(second):
            if second.payload == 0:
                getattr(a, f"test{width}_rr")(register, register)
            else:
                getattr(a, f"cmp{width}_ri")(register, second.payload)
        else:
            memory = _in_memory(c, second, second_at)
            if memory >= 0:
                getattr(a, f"cmp{width}_rm")(register, RSP, memory)
            else:
                operand = c.gpr(second, second_at)
                getattr(a, f"cmp{width}_rr")(register, operand)
                c.release(operand)
        c.release(register)
        c.finish_condition(holds)

    return emit


def equal_to_zero(value: int) -> Emit:
    """`eqz`."""

    def emit(c: FunctionCompiler, _: object) -> None:
        if c.condition:
            c.stack.pop()
            condition, c.condition = c.condition, ""
            c.finish_condition(NEGATED[condition])
            return
        position = len(c.stack) - 1
        register = c.gpr(c.stack.pop(), position)
        (c.a.test32_rr if value == I32 else c.a.test_rr)(register, register)
        c.release(register)
        c.finish_condition("e")

    return emit


def shift(value: int, name: str) -> Emit:
    """Shifts and rotations: by a constant, or by cl."""
    width = "32" if value == I32 else ""
    by_constant = f"{name}{width}_ri"
    by_cl = f"{name}{width}_rc"
    bits = 32 if value == I32 else 64

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        if second.place == CONSTANT:
            target = c.pin_that_follows()
            if target >= 0:
                c.settle_following()
                if c.pin_of(first) != target:
                    c.load(target, first, second_at - 1)
                    if first.place == REGISTER:
                        c.free.append(first.payload)
                register = target
            else:
                register = c.own(first, second_at - 1)
            count = second.payload & (bits - 1)
            if count:
                getattr(a, by_constant)(register, count)
            c.finish(register, target, value)
            return
        # the count goes to rcx; what is shifted must not be there
        if second.place == REGISTER and second.payload == RCX:
            register = c.own(first, second_at - 1)
        else:
            if first.place == REGISTER and first.payload == RCX:
                register = c.take()
                a.mov_rr(register, RCX)
            else:
                c.take_this(RCX)
                register = c.own(first, second_at - 1)
            c.load(RCX, second, second_at)
            if second.place == REGISTER:
                c.free.append(second.payload)
        getattr(a, by_cl)(register)
        c.free.append(RCX)
        c.push(register, value)

    return emit


def divide(value: int, *, is_signed: bool, is_remainder: bool) -> Emit:
    """Division: rdx:rax by the divisor.  The least number by -1 overflows; its remainder is 0."""
    width = "32" if value == I32 else ""

    def emit(c: FunctionCompiler, _: object) -> None:
        a = c.a
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        first_at = second_at - 1
        # the divisor: a register other than rax and rdx
        held = {entry.payload for entry in (first, second) if entry.place == REGISTER}
        for register in (RAX, RDX):
            if register not in held:
                c.take_this(register)
        divisor = c.pin_of(second)
        if divisor < 0:
            if second.place == REGISTER and second.payload not in (RAX, RDX):
                divisor = second.payload
            else:
                divisor = c.take()
                c.load(divisor, second, second_at)
        if first.place != REGISTER or first.payload != RAX:
            c.load(RAX, first, first_at)
            if first.place == REGISTER and first.payload != RDX:
                c.free.append(first.payload)
        is_constant = second.place == CONSTANT and second.payload not in (0, -1)
        if not is_constant:
            getattr(a, f"test{width}_rr")(divisor, divisor)
            c.trap_if("e", DivisionByZero)
        if not is_signed:
            a.xor32_rr(RDX, RDX)
            getattr(a, f"div{width}_r")(divisor)
        else:
            done = ""
            if not is_constant:
                usual = c.label()
                getattr(a, f"cmp{width}_ri")(divisor, -1)
                a.jcc("ne", usual)
                if is_remainder:
                    done = c.label()
                    a.xor32_rr(RDX, RDX)
                    a.jmp(done)
                else:
                    if value == I32:
                        a.cmp32_ri(RAX, -(1 << 31))
                    else:
                        a.mov_ri(RDX, 1 << 63)
                        a.cmp_rr(RAX, RDX)
                    c.trap_if("e", IntegerOverflow)
                a.label(usual)
            (a.cdq if value == I32 else a.cqo)()
            getattr(a, f"idiv{width}_r")(divisor)
            if done:
                a.label(done)
        c.release(divisor)
        result, other = (RDX, RAX) if is_remainder else (RAX, RDX)
        c.free.append(other)
        c.push(result, value)

    return emit


def unary(value: int, name: str) -> Emit:
    """An instruction from one register to another."""

    def emit(c: FunctionCompiler, _: object) -> None:
        position = len(c.stack) - 1
        source = c.gpr(c.stack.pop(), position)
        target = c.pin_that_follows()
        if target >= 0:
            c.settle_following()
        register = target if target >= 0 else source if source in TEMPORARIES else c.take()
        getattr(c.a, name)(register, source)
        if register != source:
            c.release(source)
        c.finish(register, target, value)

    return emit


def count_zeros(value: int, bit: str, counted: str) -> Emit:
    """clz and ctz: lzcnt and tzcnt where the processor has them, else bsr and bsf, which leave zero undefined."""
    bits = 32 if value == I32 else 64
    width = "32" if value == I32 else ""
    with_counted = unary(value, f"{counted}{width}_rr")

    def emit(c: FunctionCompiler, immediate: object) -> None:
        if counted in c.options.features:
            with_counted(c, immediate)
            return
        a = c.a
        position = len(c.stack) - 1
        entry = c.stack.pop()
        source = c.gpr(entry, position)
        register, other = c.take(), c.take()
        a.mov_ri(other, 2 * bits - 1 if bit == "bsr" else bits)
        getattr(a, f"{bit}{width}_rr")(register, source)
        getattr(a, f"cmov{width}")("e", register, other)
        if bit == "bsr":
            getattr(a, f"xor{width}_ri")(register, bits - 1)
        c.free.append(other)
        c.release(source)
        c.push(register, value)

    return emit


def population(value: int) -> Emit:
    """popcnt, which every processor with SSE4.2 has; else by adding neighbours."""
    width = "32" if value == I32 else ""
    with_popcnt = unary(value, f"popcnt{width}_rr")

    def emit(c: FunctionCompiler, immediate: object) -> None:
        if "popcnt" in c.options.features:
            with_popcnt(c, immediate)
            return
        a = c.a
        position = len(c.stack) - 1
        register = c.own(c.stack.pop(), position)
        copy, mask = c.take(), c.take()
        for shift_by, bits in ((1, 0x55), (2, 0x33), (4, 0x0F)):
            a.mov_ri(mask, int.from_bytes(bytes([bits]) * 8, "little"))
            a.mov_rr(copy, register)
            a.shr_ri(copy, shift_by)
            a.and_rr(copy, mask)
            a.and_rr(register, mask)
            a.add_rr(register, copy)
        a.mov_ri(mask, 0x0101_0101_0101_0101)
        a.imul_rr(register, mask)
        a.shr_ri(register, 56)
        c.free += [copy, mask]
        c.push(register, value)

    return emit


def wrap(c: FunctionCompiler, _: object) -> None:
    """i32.wrap_i64."""
    entry = c.stack.pop()
    if entry.place == CONSTANT:
        low = entry.payload & 0xFFFF_FFFF
        c.stack.append(Entry(CONSTANT, I32, low - ((low & 1 << 31) << 1)))
        return
    c.stack.append(entry)
    _wrap(c, None)


_wrap = unary(I32, "mov32_rr")


def select(c: FunctionCompiler, value: int) -> None:
    """The first of two values where the condition is not zero, else the second."""
    a = c.a
    if value in XMM_TYPES:
        condition = c.pop_condition()
        second_at = len(c.stack) - 1
        second = c.stack.pop()
        first = c.stack.pop()
        register = c.own_xmm(first, second_at - 1)
        over = c.label()
        a.jcc(condition, over)
        c.load_xmm(register, second, second_at)
        a.label(over)
        if second.place == XMM:
            c.free_xmm.append(second.payload)
        c.push_xmm(register, value)
        return
    condition = c.pop_condition()  # from here on moves only, they leave the flags
    second_at = len(c.stack) - 1
    second = c.stack.pop()
    first = c.stack.pop()
    register = c.own(first, second_at - 1)
    other = c.gpr(second, second_at)
    (a.cmov32 if value == I32 else a.cmov)(NEGATED[condition], register, other)
    c.release(other)
    c.push(register, value)


def ref_null(c: FunctionCompiler, value: int) -> None:
    c.stack.append(Entry(CONSTANT, value, 0))


def ref_is_null(c: FunctionCompiler, _: object) -> None:
    position = len(c.stack) - 1
    register = c.gpr(c.stack.pop(), position)
    c.a.test_rr(register, register)
    c.release(register)
    c.finish_condition("e")


def ref_func(c: FunctionCompiler, function: int) -> None:
    """The address of the function's record, which stands in the vmctx."""
    register = c.take()
    c.a.lea(register, VMCTX, c.shared.layout.record_at(function))
    c.push(register, FUNCREF)


_COMPARISONS: Final = {
    **{"eq": "e", "ne": "ne", "lt_s": "l", "lt_u": "b", "gt_s": "g"},
    **{"gt_u": "a", "le_s": "le", "le_u": "be", "ge_s": "ge", "ge_u": "ae"},
}


def integer_emitters() -> dict[str, Emit]:
    """By the instruction's name."""
    emitters: dict[str, Emit] = {}
    for value, name in ((I32, "i32"), (I64, "i64")):
        for operation, commutes in (("add", True), ("sub", False), ("and", True), ("or", True), ("xor", True)):
            emitters[f"{name}.{operation}"] = binary(value, operation, commutes=commutes)
        emitters[f"{name}.mul"] = binary(value, "imul", commutes=True)
        for suffix, condition in _COMPARISONS.items():
            emitters[f"{name}.{suffix}"] = compare(value, condition)
        emitters[f"{name}.eqz"] = equal_to_zero(value)
        for operation, mnemonic in (
            *(("shl", "shl"), ("shr_s", "sar"), ("shr_u", "shr"), ("rotl", "rol"), ("rotr", "ror")),
        ):
            emitters[f"{name}.{operation}"] = shift(value, mnemonic)
        for suffix, is_signed in (("s", True), ("u", False)):
            emitters[f"{name}.div_{suffix}"] = divide(value, is_signed=is_signed, is_remainder=False)
            emitters[f"{name}.rem_{suffix}"] = divide(value, is_signed=is_signed, is_remainder=True)
        emitters[f"{name}.clz"] = count_zeros(value, "bsr", "lzcnt")
        emitters[f"{name}.ctz"] = count_zeros(value, "bsf", "tzcnt")
        emitters[f"{name}.popcnt"] = population(value)
    emitters["i32.wrap_i64"] = wrap
    emitters["i64.extend_i32_u"] = unary(I64, "mov32_rr")
    emitters["i64.extend_i32_s"] = unary(I64, "movsxd_rr")
    emitters["i64.extend32_s"] = unary(I64, "movsxd_rr")
    emitters["i32.extend8_s"] = unary(I32, "movsx8_32_rr")
    emitters["i32.extend16_s"] = unary(I32, "movsx16_32_rr")
    emitters["i64.extend8_s"] = unary(I64, "movsx8_rr")
    emitters["i64.extend16_s"] = unary(I64, "movsx16_rr")
    emitters["select"] = select  # type: ignore[assignment]
    emitters["ref.null"] = ref_null  # type: ignore[assignment]
    emitters["ref.is_null"] = ref_is_null
    emitters["ref.func"] = ref_func  # type: ignore[assignment]
    return emitters
