"""Floats and conversions as Python expressions: an f64 is a float, an f32 one that has been rounded."""

from __future__ import annotations

from typing import Any

from callgate.wasm.portable.blocks import Blocks, Handler
from callgate.wasm.portable.values import Value, exact, signed
from callgate.wasm.types import F32, F64, I32, I64, NAMES


def _finish(t: Blocks, kind: int, text: str, *operands: Value) -> None:
    """The result of arithmetic: an f32 is rounded."""
    if kind == F64:
        t.push_made(text, 0, 0, *operands)
        return
    t.emit(f"F[0] = {text}", max([one.trap for one in operands]))
    t.result("F[0]")


def _operation(kind: int, operator: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        _finish(t, kind, f"({a.text} {operator} {b.text})", a, b)

    return handler


def _fdiv(kind: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        t.join()
        t.name(1)
        t.name(0)
        b, a = t.pop(), t.pop()
        _finish(t, kind, f"({a.text} / {b.text} if {b.text} else fdiv({a.text}, {b.text}))", a, b)

    return handler


def _extreme(operator: str, function: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        t.name(1)
        t.name(0)
        b, a = t.pop(), t.pop()
        x, y = a.text, b.text
        t.push_made(f"({x} if {x} {operator} {y} else {y} if {y} {operator} {x} else {function}({x}, {y}))", 0, 0, a, b)

    return handler


def _call(name: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        t.push_made(f"{name}({a.text})", 0, 0, a)

    return handler


def _neg(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    t.push_made(f"(-{a.text})", 0, 0, a)


def _sqrt(kind: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        t.name()
        a = t.pop()
        _finish(t, kind, f"(sqrt({a.text}) if {a.text} >= 0.0 else bad_sqrt({a.text}))", a)

    return handler


def _copysign(t: Blocks, immediate: Any) -> None:
    a, b = t.pop_two()
    t.push_made(f"copysign({a.text}, {b.text})", 0, 0, a, b)


# -- conversions ------------------------------------------------------------------------------------------------------


def _truncate(bits: int, sign: str, *, saturates: bool) -> Handler:
    half = 1 << bits - 1
    least, most = (-half, half - 1) if sign == "s" else (0, 2 * half - 1)
    # the bounds are floats next to the integers that fit; 2^63 itself and -2^63 are floats
    if sign == "u":
        test = "-1.0 < {0} < " + f"{float(2 * half)!r}"
    elif bits == 32:
        test = "-2147483649.0 < {0} < 2147483648.0"
    else:
        test = "-9223372036854775808.0 <= {0} < 9223372036854775808.0"

    def handler(t: Blocks, immediate: Any) -> None:
        t.name()
        a = t.pop()
        other = f"saturate({a.text}, {least}, {most})" if saturates else f"bad_trunc({a.text})"
        text = f"(int({a.text}) if {test.format(a.text)} else {other})"
        if saturates:
            t.push_made(text, least, most, a)
        else:
            t.in_turn()
            t.result(text, least, most)

    return handler


def _convert(kind: int, bits: int, sign: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        text = signed(a, bits) if sign == "s" else exact(a, bits)
        if kind == F64:
            t.push_made(f"float({text})", 0, 0, a)
        elif bits == 32:
            _finish(t, kind, text, a)
        else:
            t.push_made(f"f32_of_int({text})", 0, 0, a)

    return handler


def _demote(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    _finish(t, F32, a.text, a)


def _through(to: str, out_of: str, bits: int) -> Handler:
    """Reinterpret by way of a cell that has both types."""

    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        text = exact(a, 64) if to == "Q" else a.text
        t.emit(f"{to}[0] = {text}", a.trap)
        t.result(f"{out_of}[0]", 0, (1 << bits) - 1 if bits else 0)

    return handler


def _bits_of_f32(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    t.push_made(f"f32_bits({a.text})", 0, 0xFFFF_FFFF, a)


def _f32_of_bits(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    t.push_made(f"f32_of_bits({exact(a, 32)})", 0, 0, a)


def floats() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    handlers: dict[str, Handler] = {}
    for kind in (F32, F64):
        own: dict[str, Handler] = {
            **{name: _call(name) for name in ("abs", "ceil", "floor", "trunc", "nearest")},
            **{"neg": _neg, "sqrt": _sqrt(kind), "copysign": _copysign, "div": _fdiv(kind)},
            **{"add": _operation(kind, "+"), "sub": _operation(kind, "-"), "mul": _operation(kind, "*")},
            **{"min": _extreme("<", "fmin"), "max": _extreme(">", "fmax")},
            **{f"convert_i{bits}_{sign}": _convert(kind, bits, sign) for bits in (32, 64) for sign in "su"},
        }
        name = NAMES[kind]
        handlers |= {f"{name}.{one}": handler for one, handler in own.items()}
        for other, bits in ((I32, 32), (I64, 64)):
            for sign in "su":
                handlers[f"{NAMES[other]}.trunc_{name}_{sign}"] = _truncate(bits, sign, saturates=False)
                handlers[f"{NAMES[other]}.trunc_sat_{name}_{sign}"] = _truncate(bits, sign, saturates=True)
    return handlers | {
        **{"f32.demote_f64": _demote, "f64.promote_f32": _call("quiet"), "i32.reinterpret_f32": _bits_of_f32},
        **{"f32.reinterpret_i32": _f32_of_bits, "i64.reinterpret_f64": _through("D", "Q", 64)},
        "f64.reinterpret_i64": _through("Q", "D", 0),
    }
