"""Instructions that only calculate, as Python expressions: integers, floats, conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.portable.translate import Translator
from callgate.wasm.portable.values import (
    ONE_DIGIT,
    Value,
    exact,
    flipped,
    is_exact,
    is_signed,
    number,
    signed,
    truth,
)
from callgate.wasm.types import F32, F64, I32, I64, VALUE_TYPES

Handler = Callable[[Translator, Any], None]
_SPARE_BITS: Final = 20
"""A sum may be so many bits longer than its type before it is masked."""


def _two(t: Translator) -> tuple[Value, Value]:
    t.join()
    b, a = t.pop(), t.pop()
    return a, b


def _push(t: Translator, text: str, low: int, high: int, *operands: Value) -> None:
    t.push(
        Value(
            text,
            low,
            high,
            frozenset().union(*[one.uses for one in operands]),
            trap=max([one.trap for one in operands]),
            reads=any(one.reads for one in operands),
        )
    )


def _kept_short(value: Value, bits: int, more: int = _SPARE_BITS) -> Value:
    """The value, masked if it has become too long."""
    limit = 1 << bits + more
    if -limit < value.low and value.high < limit:
        return value
    return _masked(value, bits)


def _masked(value: Value, bits: int) -> Value:
    if value.constant is not None or is_exact(value, bits):
        return value
    masked = Value(exact(value, bits), 0, (1 << bits) - 1, value.uses, trap=value.trap, reads=value.reads)
    masked.zeros = value.zeros
    return masked


def _signed_constant(value: int, bits: int) -> int:
    half = 1 << bits - 1
    return (value & 2 * half - 1 ^ half) - half


# -- integers ---------------------------------------------------------------------------------------------------------


def _add(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        if a.constant is not None and b.constant is not None:
            t.stack.append(number(_signed_constant(a.constant + b.constant, bits)))
            return
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        text = f"({a.text} + {b.text})"
        if b.constant is not None and b.constant < 0:
            text = f"({a.text} - {-b.constant})"
        is_step = a.is_simple and b.is_simple and is_exact(a, bits) and (is_exact(b, bits) or b.constant is not None)
        _push(t, text, a.low + b.low, a.high + b.high, a, b)
        t.stack[-1].is_step = is_step
        t.stack[-1].zeros = min(a.zeros, b.zeros)

    return handler


def _sub(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        text = f"(-{b.text})" if a.constant == 0 else f"({a.text} - {b.text})"
        _push(t, text, a.low - b.high, a.high - b.low, a, b)

    return handler


def _mul(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        a, b = _kept_short(a, bits, 1), _kept_short(b, bits, 1)
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        _push(t, f"({a.text} * {b.text})", min(corners), max(corners), a, b)

    return handler


def _and(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        if a.constant is not None:
            a, b = b, a
        if b.constant is not None:
            constant = b.constant & (1 << bits) - 1
            high = min(a.high, constant) if a.low >= 0 else constant
            _push(t, f"({a.text} & {constant})", 0, high, a, b)
            t.stack[-1].zeros = max(a.zeros, b.zeros)
            return
        if a.low >= 0 or b.low >= 0:
            high = min([one.high for one in (a, b) if one.low >= 0])
            _push(t, f"({a.text} & {b.text})", 0, high, a, b)
            return
        _push(t, f"({a.text} & {b.text})", *_either(a, b), a, b)

    return handler


def _either(a: Value, b: Value) -> tuple[int, int]:
    """What bitwise operations of two numbers can give."""
    bits = max(one.bit_length() for one in (a.low, a.high, b.low, b.high))
    return (0 if a.low >= 0 and b.low >= 0 else -(1 << bits)), (1 << bits) - 1


def _bitwise(bits: int, operator: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        if b.constant is not None and a.low >= 0:
            b = Value(exact(b, bits), b.constant & (1 << bits) - 1, b.constant & (1 << bits) - 1, is_simple=True)
        _push(t, f"({a.text} {operator} {b.text})", *_either(a, b), a, b)

    return handler


def _count(value: Value, bits: int) -> str:
    """A shift's count."""
    if value.constant is not None:
        return str(value.constant & bits - 1)
    if value.low >= 0 and value.high < bits:
        return value.text
    return f"({value.text} & {bits - 1})"


def _shl(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        if b.constant is not None:
            count = b.constant & bits - 1
            a = _kept_short(a, bits, 8)
            if count == 0:
                t.push(a)
                return
            _push(t, f"({a.text} << {count})", a.low << count, a.high << count, a)
            t.stack[-1].zeros = a.zeros + count
            return
        a = _kept_short(a, bits, 8)
        most = bits - 1 if b.low < 0 or b.high >= bits else b.high
        low, high = min(a.low << most, a.low), max(a.high << most, a.high)
        _push(t, f"({a.text} << {_count(b, bits)})", low, high, a, b)

    return handler


def _shr(bits: int, *, is_signed_shift: bool) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        if is_signed_shift and not (is_exact(a, bits) and a.high < 1 << bits - 1):
            text, low, high = signed(a, bits), -(1 << bits - 1), (1 << bits - 1) - 1
            if is_signed(a, bits):
                low, high = a.low, a.high
        else:
            text, low, high = exact(a, bits), 0, (1 << bits) - 1
            if is_exact(a, bits):
                low, high = a.low, a.high
        if b.constant is not None:
            count = b.constant & bits - 1
            _push(t, f"({text} >> {count})", low >> count, high >> count, a, b)
        else:
            _push(t, f"({text} >> {_count(b, bits)})", min(low, 0), max(high, 0), a, b)

    return handler


def _rotate(bits: int, *, is_left: bool) -> Handler:
    mask = (1 << bits) - 1

    def handler(t: Translator, immediate: Any) -> None:
        if t.stack[-1].constant is None:
            t.join()
            t.name(0)
        t.exact_name(bits, 1)
        b, a = t.pop(), t.pop()
        text = exact(a, bits)
        if b.constant is not None:
            count = (b.constant if is_left else -b.constant) & bits - 1
            if not count:
                t.push(a)
                return
            _push(t, f"(({text} << {count} | {text} >> {bits - count}) & {mask:#x})", 0, mask, a, b)
            return
        count_text = _count(b, bits)
        if is_left:
            rotated = f"(({text} << {count_text} | {text} >> {bits} - {count_text}) & {mask:#x})"
        else:
            rotated = f"(({text} >> {count_text} | {text} << {bits} - {count_text}) & {mask:#x})"
        _push(t, rotated, 0, mask, a, b)

    return handler


def _clz(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        _push(t, f"({bits} - ({exact(a, bits)}).bit_length())", 0, bits, a)

    return handler


def _ctz(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        t.exact_name(bits)
        a = t.pop()
        text = exact(a, bits)
        _push(t, f"((({text} & -{text}).bit_length() - 1) if {text} else {bits})", 0, bits, a)

    return handler


def _popcnt(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        _push(t, f"({exact(a, bits)}).bit_count()", 0, bits, a)

    return handler


def _divide(bits: int, operation: str) -> Handler:
    kind, _, sign = operation.partition("_")

    def handler(t: Translator, immediate: Any) -> None:
        divisor = t.stack[-1].constant
        half = 1 << bits - 1
        mask = 2 * half - 1
        is_unsigned = sign == "u"
        if not is_unsigned and divisor is not None and divisor > 0:
            is_unsigned = is_exact(t.stack[-2], bits) and t.stack[-2].high < half
        operator = "//" if kind == "div" else "%"
        if divisor is not None and divisor & mask and (is_unsigned or divisor > 0):
            divisor &= mask
            if is_unsigned:
                t.pop()
                a = t.pop()
                high = a.high if is_exact(a, bits) else mask
                high = high // divisor if kind == "div" else min(high, divisor - 1)
                _push(t, f"({exact(a, bits)} {operator} {divisor})", 0, high, a)
                return
            t.exact_name(bits, 1)
            t.pop()
            a = t.pop()
            text = exact(a, bits)
            positive = f"{text} {operator} {divisor}"
            negative = f"-(({mask + 1} - {text}) {operator} {divisor})"
            low, high = (-(half // divisor), half // divisor) if kind == "div" else (1 - divisor, divisor - 1)
            _push(t, f"({positive} if {text} < {half:#x} else {negative})", low, high, a)
            return
        t.alone(2)
        b, a = t.pop(), t.pop()
        t.in_turn()
        if is_unsigned:
            t.result(f"{exact(a, bits)} {operator} {exact(b, bits)}", 0, mask)
        else:
            t.result(f"{kind}_s{bits}({exact(a, bits)}, {exact(b, bits)})", -half, half - 1)

    return handler


def _extend(bits: int, size: int) -> Handler:
    half = 1 << size - 1

    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        if is_signed(a, size):
            t.push(a)
            return
        low_bits = Value(f"({a.text} & {2 * half - 1:#x})", 0, 2 * half - 1, a.uses, trap=a.trap, reads=a.reads)
        if is_exact(a, size):
            low_bits = a
        _push(t, signed(low_bits, size), -half, half - 1, a)

    return handler


def _extend_s(t: Translator, immediate: Any) -> None:
    a = t.pop()
    low, high = (a.low, a.high) if is_signed(a, 32) else (-(1 << 31), (1 << 31) - 1)
    _push(t, signed(a, 32), low, high, a)


def _extend_u(t: Translator, immediate: Any) -> None:
    a = t.pop()
    if a.constant is not None:
        t.stack.append(number(a.constant & 0xFFFF_FFFF))
        return
    t.push(_masked(a, 32))


def _wrap(t: Translator, immediate: Any) -> None:
    a = t.pop()
    if a.constant is not None:
        a = number(_signed_constant(a.constant, 32))
    t.push(a)


# -- comparisons ------------------------------------------------------------------------------------------------------


def _eqz(bits: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        _push(t, f"(not {truth(a, bits)})", 0, 1, a)

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
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        first, second = _same_form(a, b, bits)
        _push(t, f"({first} {operator} {second})", 0, 1, a, b)

    return handler


def _less_u(bits: int, operator: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        _push(t, f"({exact(a, bits)} {operator} {exact(b, bits)})", 0, 1, a, b)

    return handler


_MIRRORED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _less_s(bits: int, operator: str) -> Handler:
    half = 1 << bits - 1

    def handler(t: Translator, immediate: Any) -> None:
        a, b = t.stack[-2], t.stack[-1]
        if is_signed(a, bits) and is_signed(b, bits):
            a, b = _two(t)
            _push(t, f"({a.text} {operator} {b.text})", 0, 1, a, b)
            return
        if (a.constant is None) != (b.constant is None):
            a, b = _two(t)
            text = _against(a, b, bits, operator)
            _push(t, text, 0, 1, a, b)
            return
        if a.constant is not None:
            a, b = _two(t)
            _push(t, f"({signed(a, bits)} {operator} {signed(b, bits)})", 0, 1, a, b)
            return
        t.exact_name(bits, 1)
        t.exact_name(bits, 0)
        b, a = t.pop(), t.pop()
        quick = f"{a.text} {operator} {b.text}"
        slow = f"({a.text} ^ {half:#x}) {operator} ({b.text} ^ {half:#x})"
        _push(t, f"({quick} if ({a.text} | {b.text}) <= {ONE_DIGIT} else {slow})", 0, 1, a, b)

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
    if constant == half or not is_exact(_masked(a, bits), bits):
        return f"({flipped(a, bits)} {operator} {constant + half})"
    text = exact(a, bits)
    if constant == 0:
        return f"({text} < {half:#x})" if operator == ">=" else f"({text} >= {half:#x})"
    if constant > 0:
        inside = f"{constant} <= {text} < {half:#x}"
        return f"({inside})" if operator == ">=" else f"(not {inside})"
    inside = f"{half:#x} <= {text} < {constant + 2 * half}"
    return f"(not {inside})" if operator == ">=" else f"({inside})"


# -- floats -----------------------------------------------------------------------------------------------------------


def _compare_float(operator: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        _push(t, f"({a.text} {operator} {b.text})", 0, 1, a, b)

    return handler


def _finish(t: Translator, kind: int, text: str, *operands: Value) -> None:
    """The result of arithmetic: an f32 is rounded."""
    if kind == F64:
        _push(t, text, 0, 0, *operands)
        return
    t.emit(f"F[0] = {text}", max([one.trap for one in operands]))
    t.result("F[0]")


def _operation(kind: int, operator: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a, b = _two(t)
        _finish(t, kind, f"({a.text} {operator} {b.text})", a, b)

    return handler


def _fdiv(kind: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        t.join()
        t.name(1)
        t.name(0)
        b, a = t.pop(), t.pop()
        _finish(t, kind, f"({a.text} / {b.text} if {b.text} else fdiv({a.text}, {b.text}))", a, b)

    return handler


def _extreme(operator: str, function: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        t.name(1)
        t.name(0)
        b, a = t.pop(), t.pop()
        x, y = a.text, b.text
        _push(t, f"({x} if {x} {operator} {y} else {y} if {y} {operator} {x} else {function}({x}, {y}))", 0, 0, a, b)

    return handler


def _call(name: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        _push(t, f"{name}({a.text})", 0, 0, a)

    return handler


def _neg(t: Translator, immediate: Any) -> None:
    a = t.pop()
    _push(t, f"(-{a.text})", 0, 0, a)


def _sqrt(kind: int) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        t.name()
        a = t.pop()
        _finish(t, kind, f"(sqrt({a.text}) if {a.text} >= 0.0 else bad_sqrt({a.text}))", a)

    return handler


def _copysign(t: Translator, immediate: Any) -> None:
    a, b = _two(t)
    _push(t, f"copysign({a.text}, {b.text})", 0, 0, a, b)


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

    def handler(t: Translator, immediate: Any) -> None:
        t.name()
        a = t.pop()
        other = f"saturate({a.text}, {least}, {most})" if saturates else f"bad_trunc({a.text})"
        text = f"(int({a.text}) if {test.format(a.text)} else {other})"
        if saturates:
            _push(t, text, least, most, a)
        else:
            t.in_turn()
            t.result(text, least, most)

    return handler


def _convert(kind: int, bits: int, sign: str) -> Handler:
    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        text = signed(a, bits) if sign == "s" else exact(a, bits)
        if kind == F64:
            _push(t, f"float({text})", 0, 0, a)
        elif bits == 32:
            _finish(t, kind, text, a)
        else:
            _push(t, f"f32_of_int({text})", 0, 0, a)

    return handler


def _demote(t: Translator, immediate: Any) -> None:
    a = t.pop()
    _finish(t, F32, a.text, a)


def _through(to: str, out_of: str, bits: int) -> Handler:
    """Reinterpret by way of a cell that has both types."""

    def handler(t: Translator, immediate: Any) -> None:
        a = t.pop()
        text = exact(a, 64) if to == "Q" else a.text
        t.emit(f"{to}[0] = {text}", a.trap)
        t.result(f"{out_of}[0]", 0, (1 << bits) - 1 if bits else 0)

    return handler


def _bits_of_f32(t: Translator, immediate: Any) -> None:
    a = t.pop()
    _push(t, f"f32_bits({a.text})", 0, 0xFFFF_FFFF, a)


def _f32_of_bits(t: Translator, immediate: Any) -> None:
    a = t.pop()
    _push(t, f"f32_of_bits({exact(a, 32)})", 0, 0, a)


def arithmetic() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    handlers: dict[str, Handler] = {}
    for kind, bits in ((I32, 32), (I64, 64)):
        own: dict[str, Handler] = {
            **{"add": _add(bits), "sub": _sub(bits), "mul": _mul(bits), "and": _and(bits)},
            **{"or": _bitwise(bits, "|"), "xor": _bitwise(bits, "^"), "shl": _shl(bits)},
            **{"shr_u": _shr(bits, is_signed_shift=False), "shr_s": _shr(bits, is_signed_shift=True)},
            **{"rotl": _rotate(bits, is_left=True), "rotr": _rotate(bits, is_left=False)},
            **{"clz": _clz(bits), "ctz": _ctz(bits), "popcnt": _popcnt(bits), "eqz": _eqz(bits)},
            **{name: _divide(bits, name) for name in ("div_s", "div_u", "rem_s", "rem_u")},
            **{"extend8_s": _extend(bits, 8), "extend16_s": _extend(bits, 16), "extend32_s": _extend(bits, 32)},
            **{"eq": _equal(bits, "=="), "ne": _equal(bits, "!=")},
        }
        for name, operator in (("lt", "<"), ("gt", ">"), ("le", "<="), ("ge", ">=")):
            own[f"{name}_s"] = _less_s(bits, operator)
            own[f"{name}_u"] = _less_u(bits, operator)
        for name, handler in own.items():
            handlers[f"{_NAME[kind]}.{name}"] = handler
        for source in ("f32", "f64"):
            for sign in "su":
                handlers[f"{_NAME[kind]}.trunc_{source}_{sign}"] = _truncate(bits, sign, saturates=False)
                handlers[f"{_NAME[kind]}.trunc_sat_{source}_{sign}"] = _truncate(bits, sign, saturates=True)
    for kind in (F32, F64):
        own = {
            **{name: _call(name) for name in ("abs", "ceil", "floor", "trunc", "nearest")},
            **{"neg": _neg, "sqrt": _sqrt(kind), "copysign": _copysign, "div": _fdiv(kind)},
            **{"add": _operation(kind, "+"), "sub": _operation(kind, "-"), "mul": _operation(kind, "*")},
            **{"min": _extreme("<", "fmin"), "max": _extreme(">", "fmax")},
            **{name: _compare_float(operator) for name, operator in _ORDERS.items()},
            **{f"convert_i{bits}_{sign}": _convert(kind, bits, sign) for bits in (32, 64) for sign in "su"},
        }
        for name, handler in own.items():
            handlers[f"{_NAME[kind]}.{name}"] = handler
    return handlers | {
        **{"i32.wrap_i64": _wrap, "i64.extend_i32_s": _extend_s, "i64.extend_i32_u": _extend_u},
        **{"f32.demote_f64": _demote, "f64.promote_f32": _call("quiet"), "i32.reinterpret_f32": _bits_of_f32},
        **{"f32.reinterpret_i32": _f32_of_bits, "i64.reinterpret_f64": _through("D", "Q", 64)},
        "f64.reinterpret_i64": _through("Q", "D", 0),
    }


_NAME: Final = {kind: name for name, kind in VALUE_TYPES.items()}
_ORDERS: Final = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}
