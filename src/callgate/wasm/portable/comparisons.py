"""Comparisons of integers and floats as Python expressions."""

from __future__ import annotations

from typing import Any, Final

from callgate.wasm.portable.blocks import Blocks, Handler
from callgate.wasm.portable.integers import masked
from callgate.wasm.portable.values import ONE_DIGIT, Value, exact, flipped, is_exact, is_signed, signed, truth
from callgate.wasm.types import I32, I64, NAMES


def _eqz(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        t.push_made(f"(not {truth(a, bits)})", 0, 1, a)

    return handler


def _same_form(a: Value, b: Value, bits: int) -> tuple[str, str]:
    """Both numbers so that they are equal if they are equal modulo 2^bits."""
    if a.constant is None and b.constant is None:
        if is_signed(a, bits) and is_signed(b, bits):
            return a.text, b.text
        return exact(a, bits), exact(b, bits)
    other = a if a.constant is None else b
    if is_signed(other, bits) and not is_exact(other, bits):
        return signed(a, bits), signed(b, bits)
    return exact(a, bits), exact(b, bits)


def _equal(bits: int, operator: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        first, second = _same_form(a, b, bits)
        t.push_made(f"({first} {operator} {second})", 0, 1, a, b)

    return handler


def _less_u(bits: int, operator: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        t.push_made(f"({exact(a, bits)} {operator} {exact(b, bits)})", 0, 1, a, b)

    return handler


_MIRRORED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _less_s(bits: int, operator: str) -> Handler:
    half = 1 << bits - 1

    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.stack[-2], t.stack[-1]
        if is_signed(a, bits) and is_signed(b, bits):
            a, b = t.pop_two()
            t.push_made(f"({a.text} {operator} {b.text})", 0, 1, a, b)
            return
        if (a.constant is None) != (b.constant is None):
            a, b = t.pop_two()
            text = _against(a, b, bits, operator)
            t.push_made(text, 0, 1, a, b)
            return
        if a.constant is not None:
            a, b = t.pop_two()
            t.push_made(f"({signed(a, bits)} {operator} {signed(b, bits)})", 0, 1, a, b)
            return
        t.exact_name(bits, 1)
        t.exact_name(bits, 0)
        b, a = t.pop(), t.pop()
        quick = f"{a.text} {operator} {b.text}"
        slow = f"({a.text} ^ {half:#x}) {operator} ({b.text} ^ {half:#x})"
        t.push_made(f"({quick} if ({a.text} | {b.text}) <= {ONE_DIGIT} else {slow})", 0, 1, a, b)

    return handler


def _against(a: Value, b: Value, bits: int, operator: str) -> str:
    """Compare with a constant, signed, what may be on both sides of the half."""
    half = 1 << bits - 1
    if a.constant is not None:
        a, b, operator = b, a, _MIRRORED[operator]
    constant = b.constant
    assert constant is not None
    if operator == ">":
        operator, constant = ">=", constant + 1
    elif operator == "<=":
        operator, constant = "<", constant + 1
    if constant == half or not is_exact(masked(a, bits), bits):
        return f"({flipped(a, bits)} {operator} {constant + half})"
    text = exact(a, bits)
    if constant == 0:
        return f"({text} < {half:#x})" if operator == ">=" else f"({text} >= {half:#x})"
    if constant > 0:
        inside = f"{constant} <= {text} < {half:#x}"
        return f"({inside})" if operator == ">=" else f"(not {inside})"
    inside = f"{half:#x} <= {text} < {constant + 2 * half}"
    return f"(not {inside})" if operator == ">=" else f"({inside})"


def _ordered(operator: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        t.push_made(f"({a.text} {operator} {b.text})", 0, 1, a, b)

    return handler


_ORDERS: Final = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}


def comparisons() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    handlers: dict[str, Handler] = {}
    for kind, bits in ((I32, 32), (I64, 64)):
        name = NAMES[kind]
        handlers |= {f"{name}.eqz": _eqz(bits), f"{name}.eq": _equal(bits, "=="), f"{name}.ne": _equal(bits, "!=")}
        for order in ("lt", "gt", "le", "ge"):
            handlers[f"{name}.{order}_s"] = _less_s(bits, _ORDERS[order])
            handlers[f"{name}.{order}_u"] = _less_u(bits, _ORDERS[order])
    return handlers | {f"{name}.{order}": _ordered(_ORDERS[order]) for name in ("f32", "f64") for order in _ORDERS}
