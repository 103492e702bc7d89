"""Integer arithmetic as Python expressions: operands are any number that is right modulo 2^32 or 2^64."""

from __future__ import annotations

from typing import Any, Final

from callgate.wasm.portable.blocks import Blocks, Handler
from callgate.wasm.portable.values import Value, exact, is_exact, is_signed, number, signed
from callgate.wasm.types import I32, I64, NAMES

_SPARE_BITS: Final = 20
"""A sum may be so many bits longer than its type before it is masked."""


def _kept_short(value: Value, bits: int, more: int = _SPARE_BITS) -> Value:
    """The value, masked if it has become too long."""
    limit = 1 << bits + more
    if -limit < value.low and value.high < limit:
        return value
    return masked(value, bits)


def masked(value: Value, bits: int) -> Value:
    if value.constant is not None or is_exact(value, bits):
        return value
    masked = Value(exact(value, bits), 0, (1 << bits) - 1, value.uses, trap=value.trap, reads=value.reads)
    masked.zeros = value.zeros
    return masked


def _signed_constant(value: int, bits: int) -> int:
    half = 1 << bits - 1
    return (value & 2 * half - 1 ^ half) - half


def _add(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        if a.constant is not None and b.constant is not None:
            t.stack.append(number(_signed_constant(a.constant + b.constant, bits)))
            return
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        text = f"({a.text} + {b.text})"
        if b.constant is not None and b.constant < 0:
            text = f"({a.text} - {-b.constant})"
        is_step = a.is_simple and b.is_simple and is_exact(a, bits) and (is_exact(b, bits) or b.constant is not None)
        t.push_made(text, a.low + b.low, a.high + b.high, a, b)
        t.stack[-1].is_step = is_step
        t.stack[-1].zeros = min(a.zeros, b.zeros)

    return handler


def _sub(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        text = f"(-{b.text})" if a.constant == 0 else f"({a.text} - {b.text})"
        t.push_made(text, a.low - b.high, a.high - b.low, a, b)

    return handler


def _mul(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        a, b = _kept_short(a, bits, 1), _kept_short(b, bits, 1)
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        t.push_made(f"({a.text} * {b.text})", min(corners), max(corners), a, b)

    return handler


def _and(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        if a.constant is not None:
            a, b = b, a
        if b.constant is not None:
            constant = b.constant & (1 << bits) - 1
            high = min(a.high, constant) if a.low >= 0 else constant
            t.push_made(f"({a.text} & {constant})", 0, high, a, b)
            t.stack[-1].zeros = max(a.zeros, b.zeros)
            return
        if a.low >= 0 or b.low >= 0:
            high = min([one.high for one in (a, b) if one.low >= 0])
            t.push_made(f"({a.text} & {b.text})", 0, high, a, b)
            return
        t.push_made(f"({a.text} & {b.text})", *_either(a, b), a, b)

    return handler


def _either(a: Value, b: Value) -> tuple[int, int]:
    """What bitwise operations of two numbers can give."""
    bits = max(one.bit_length() for one in (a.low, a.high, b.low, b.high))
    return (0 if a.low >= 0 and b.low >= 0 else -(1 << bits)), (1 << bits) - 1


def _bitwise(bits: int, operator: str) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        a, b = _kept_short(a, bits), _kept_short(b, bits)
        if b.constant is not None and a.low >= 0:
            b = Value(exact(b, bits), b.constant & (1 << bits) - 1, b.constant & (1 << bits) - 1, is_simple=True)
        t.push_made(f"({a.text} {operator} {b.text})", *_either(a, b), a, b)

    return handler


def _count(value: Value, bits: int) -> str:
    """A shift's count."""
    if value.constant is not None:
        return str(value.constant & bits - 1)
    if value.low >= 0 and value.high < bits:
        return value.text
    return f"({value.text} & {bits - 1})"


def _shl(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
        if b.constant is not None:
            count = b.constant & bits - 1
            a = _kept_short(a, bits, 8)
            if count == 0:
                t.push(a)
                return
            t.push_made(f"({a.text} << {count})", a.low << count, a.high << count, a)
            t.stack[-1].zeros = a.zeros + count
            return
        a = _kept_short(a, bits, 8)
        most = bits - 1 if b.low < 0 or b.high >= bits else b.high
        low, high = min(a.low << most, a.low), max(a.high << most, a.high)
        t.push_made(f"({a.text} << {_count(b, bits)})", low, high, a, b)

    return handler


def _shr(bits: int, *, is_signed_shift: bool) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a, b = t.pop_two()
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
            t.push_made(f"({text} >> {count})", low >> count, high >> count, a, b)
        else:
            t.push_made(f"({text} >> {_count(b, bits)})", min(low, 0), max(high, 0), a, b)

    return handler


def _rotate(bits: int, *, is_left: bool) -> Handler:
    mask = (1 << bits) - 1

    def handler(t: Blocks, immediate: Any) -> None:
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
            t.push_made(f"(({text} << {count} | {text} >> {bits - count}) & {mask:#x})", 0, mask, a, b)
            return
        count_text = _count(b, bits)
        if is_left:
            rotated = f"(({text} << {count_text} | {text} >> {bits} - {count_text}) & {mask:#x})"
        else:
            rotated = f"(({text} >> {count_text} | {text} << {bits} - {count_text}) & {mask:#x})"
        t.push_made(rotated, 0, mask, a, b)

    return handler


def _clz(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        t.push_made(f"({bits} - ({exact(a, bits)}).bit_length())", 0, bits, a)

    return handler


def _ctz(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        t.exact_name(bits)
        a = t.pop()
        text = exact(a, bits)
        t.push_made(f"((({text} & -{text}).bit_length() - 1) if {text} else {bits})", 0, bits, a)

    return handler


def _popcnt(bits: int) -> Handler:
    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        t.push_made(f"({exact(a, bits)}).bit_count()", 0, bits, a)

    return handler


def _divide(bits: int, operation: str) -> Handler:
    kind, _, sign = operation.partition("_")

    def handler(t: Blocks, immediate: Any) -> None:
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
                t.push_made(f"({exact(a, bits)} {operator} {divisor})", 0, high, a)
                return
            t.exact_name(bits, 1)
            t.pop()
            a = t.pop()
            text = exact(a, bits)
            positive = f"{text} {operator} {divisor}"
            negative = f"-(({mask + 1} - {text}) {operator} {divisor})"
            low, high = (-(half // divisor), half // divisor) if kind == "div" else (1 - divisor, divisor - 1)
            t.push_made(f"({positive} if {text} < {half:#x} else {negative})", low, high, a)
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

    def handler(t: Blocks, immediate: Any) -> None:
        a = t.pop()
        if is_signed(a, size):
            t.push(a)
            return
        low_bits = Value(f"({a.text} & {2 * half - 1:#x})", 0, 2 * half - 1, a.uses, trap=a.trap, reads=a.reads)
        if is_exact(a, size):
            low_bits = a
        t.push_made(signed(low_bits, size), -half, half - 1, a)

    return handler


def _extend_s(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    low, high = (a.low, a.high) if is_signed(a, 32) else (-(1 << 31), (1 << 31) - 1)
    t.push_made(signed(a, 32), low, high, a)


def _extend_u(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    if a.constant is not None:
        t.stack.append(number(a.constant & 0xFFFF_FFFF))
        return
    t.push(masked(a, 32))


def _wrap(t: Blocks, immediate: Any) -> None:
    a = t.pop()
    if a.constant is not None:
        a = number(_signed_constant(a.constant, 32))
    t.push(a)


def integers() -> dict[str, Handler]:
    """What translates these instructions, by name."""
    handlers: dict[str, Handler] = {}
    for kind, bits in ((I32, 32), (I64, 64)):
        own: dict[str, Handler] = {
            **{"add": _add(bits), "sub": _sub(bits), "mul": _mul(bits), "and": _and(bits)},
            **{"or": _bitwise(bits, "|"), "xor": _bitwise(bits, "^"), "shl": _shl(bits)},
            **{"shr_u": _shr(bits, is_signed_shift=False), "shr_s": _shr(bits, is_signed_shift=True)},
            **{"rotl": _rotate(bits, is_left=True), "rotr": _rotate(bits, is_left=False)},
            **{"clz": _clz(bits), "ctz": _ctz(bits), "popcnt": _popcnt(bits)},
            **{name: _divide(bits, name) for name in ("div_s", "div_u", "rem_s", "rem_u")},
            **{"extend8_s": _extend(bits, 8), "extend16_s": _extend(bits, 16), "extend32_s": _extend(bits, 32)},
        }
        handlers |= {f"{NAMES[kind]}.{name}": handler for name, handler in own.items()}
    return handlers | {"i32.wrap_i64": _wrap, "i64.extend_i32_s": _extend_s, "i64.extend_i32_u": _extend_u}
