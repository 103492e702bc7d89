"""Instructions of control that are no blocks, calls, variables and constants."""

from __future__ import annotations

import math
from typing import Any

from callgate.wasm.portable.blocks import Blocks, Handler
from callgate.wasm.portable.numbers import f32_of_bits, f64_of_bits
from callgate.wasm.portable.operands import BITS
from callgate.wasm.portable.values import Value, number, step_test, truth
from callgate.wasm.types import FuncType


def _unreachable(t: Blocks, immediate: Any) -> None:
    t.in_turn()
    t.emit("unreachable()")


def _nop(t: Blocks, immediate: Any) -> None:
    pass


def _return(t: Blocks, immediate: Any) -> None:
    t.in_turn_but(len(t.body.type.results))
    t.emit_return()


def _drop(t: Blocks, immediate: Any) -> None:
    value = t.pop()
    if value.trap:
        t.emit(value.text, value.trap)


def _select(t: Blocks, kind: Any) -> None:
    for depth in (2, 1):
        position = len(t.stack) - 1 - depth
        if t.stack[position].trap:
            t.settle(position)
    first, second, condition = t.pop_many(3)
    t.push(
        Value(
            f"({first.text} if {truth(condition)} else {second.text})",
            min(first.low, second.low),
            max(first.high, second.high),
            first.uses | second.uses | condition.uses,
            trap=condition.trap,
            reads=first.reads or second.reads or condition.reads,
        )
    )


def _local_get(t: Blocks, local: int) -> None:
    low, high = t.full(t.body.locals[local])
    t.stack.append(Value(f"l{local}", low, high, frozenset((local,)), is_simple=True))


def _assign(t: Blocks, local: int) -> None:
    value = t.pop()
    fresh = t.fresh
    text = t.text_of(value, t.body.locals[local])
    is_fresh = fresh is not None and fresh[0] == text and fresh[2] is t.lines
    if fresh is not None and is_fresh and not any(local in other.uses for other in t.stack):
        indent, line, offset = t.lines[fresh[1]]
        t.lines[fresh[1]] = indent, f"l{local}{line.removeprefix(text)}", offset
        t.fresh = None
        return
    t.protect(local)
    if text == f"l{local}":
        return
    if value.is_step and text != value.text:
        t.emit(f"l{local} = {value.text[1:-1]}", value.trap)
        mask = (1 << BITS[t.body.locals[local]]) - 1
        test = step_test(f"l{local}", value, mask)
        if value.low >= 0:
            test = test.replace("<=", ">")
        else:
            test = test.replace(">=", "<") if value.high <= mask else f"not {test}"
        t.emit(f"if {test}: l{local} &= {mask:#x}")
        return
    t.emit(f"l{local} = {text}", value.trap)


def _local_set(t: Blocks, local: int) -> None:
    _assign(t, local)


def _local_tee(t: Blocks, local: int) -> None:
    value = t.stack[-1]
    _assign(t, local)
    kind = t.body.locals[local]
    if value.constant is not None:
        t.stack.append(value)
        return
    low, high = t.full(kind)
    if value.low >= low and value.high <= high:
        low, high = value.low, value.high
    t.stack.append(Value(f"l{local}", low, high, frozenset((local,)), is_simple=True))


def _global_get(t: Blocks, variable: int) -> None:
    kind, is_mutable = t.module.globals[variable]
    low, high = t.full(kind)
    t.push(Value(f"g{variable}[0]", low, high, is_simple=not is_mutable, reads=is_mutable))


def _global_set(t: Blocks, variable: int) -> None:
    value = t.pop()
    t.in_turn()
    t.emit(f"g{variable}[0] = {t.text_of(value, t.module.globals[variable].value)}", value.trap)


def _const_int(t: Blocks, bits: int) -> None:
    t.stack.append(number(bits))


def _const_f32(t: Blocks, bits: int) -> None:
    _float(t, f32_of_bits(bits), bits, "k32")


def _const_f64(t: Blocks, bits: int) -> None:
    _float(t, f64_of_bits(bits), bits, "k64")


def _float(t: Blocks, value: float, bits: int, prefix: str) -> None:
    if not math.isfinite(value):
        text = t.constant(prefix, bits, value)
    else:
        text = repr(value) if value >= 0 and not repr(value).startswith("-") else f"({value!r})"
    t.stack.append(Value(text, is_simple=True))


def _finish_call(t: Blocks, call: str, results: tuple[int, ...], uses: frozenset[int]) -> None:
    base = len(t.stack)
    if not results:
        t.emit(call)
    elif len(results) == 1:
        t.push(Value(call, *t.full(results[0]), uses, trap=t.offset, reads=True))
    else:
        for position in range(base, base + len(results)):
            t.protect(-1 - position)
        t.emit(f"{', '.join(f's{base + at}' for at in range(len(results)))} = {call}")
        t.widen(base, results)


def _arguments(t: Blocks, signature: FuncType) -> tuple[str, frozenset[int]]:
    t.alone(len(signature.parameters))
    values = t.pop_many(len(signature.parameters))
    t.in_turn()
    uses = frozenset().union(*[value.uses for value in values])
    texts = [t.text_of(value, kind) for value, kind in zip(values, signature.parameters, strict=True)]
    return ", ".join(texts), uses


def _call(t: Blocks, callee: int) -> None:
    signature = t.functions[callee]
    arguments, uses = _arguments(t, signature)
    _finish_call(t, f"f{callee}({arguments})", signature.results, uses)


def _indirect(t: Blocks, immediate: tuple[int, int]) -> tuple[str, FuncType, frozenset[int]]:
    """Look a function up; its arguments, and its type."""
    number_, table = immediate
    signature = t.module.types[number_]
    t.alone(1 + len(signature.parameters))
    t.exact_name(32)
    index = t.pop()
    arguments, uses = _arguments(t, signature)
    t.emit(f"x = T{table}[{index.text}]")
    t.emit(f"if x is None or x.key is not K{number_}: bad_call(x, {index.text})")
    return arguments, signature, uses


def _call_indirect(t: Blocks, immediate: tuple[int, int]) -> None:
    arguments, signature, uses = _indirect(t, immediate)
    _finish_call(t, f"x.raw({arguments})", signature.results, uses)
    if len(signature.results) == 1:
        t.settle(len(t.stack) - 1)  # another call sets x


def _return_call(t: Blocks, callee: int) -> None:
    arguments, _ = _arguments(t, t.functions[callee])
    t.emit(f"return Tail(f{callee}, ({arguments}{',' if arguments else ''}))")


def _return_call_indirect(t: Blocks, immediate: tuple[int, int]) -> None:
    arguments, _, _ = _indirect(t, immediate)
    t.emit(f"return Tail(x.raw, ({arguments}{',' if arguments else ''}))")


def _ref_null(t: Blocks, kind: int) -> None:
    t.stack.append(Value("None", is_simple=True))


def _ref_is_null(t: Blocks, immediate: Any) -> None:
    value = t.pop()
    t.push(Value(f"({value.text} is None)", 0, 1, value.uses, trap=value.trap, reads=value.reads))


def _ref_func(t: Blocks, callee: int) -> None:
    t.push(Value(f"record({callee})"))


def variables() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    return {
        **{"unreachable": _unreachable, "nop": _nop, "return": _return, "drop": _drop, "select": _select},
        **{"call": _call, "call_indirect": _call_indirect, "return_call": _return_call},
        **{"return_call_indirect": _return_call_indirect, "local.get": _local_get, "local.set": _local_set},
        **{"local.tee": _local_tee, "global.get": _global_get, "global.set": _global_set, "i32.const": _const_int},
        **{"i64.const": _const_int, "f32.const": _const_f32, "f64.const": _const_f64, "ref.null": _ref_null},
        **{"ref.is_null": _ref_is_null, "ref.func": _ref_func},
    }
