"""The value of a C constant expression (C11 6.6): numbers of `#define`s, enumerators and array lengths.

Arithmetic is C's: literals have C's types, unsigned values wrap, signed overflow is an error.
Expressions arrive as pycparser nodes; that library has no type stubs, hence `Node`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from callgate.target import Target

Node: TypeAlias = Any


class NotConstant(Exception):
    """The expression has no value here; the text says why, `node` where (None: the whole expression)."""

    def __init__(self, reason: str, node: Node = None) -> None:
        super().__init__(reason)
        self.node = node


class Value(NamedTuple):
    """A number with its C type: the width of an integer (0 for floating point) and its signedness."""

    number: int | float
    bits: int = 32
    is_unsigned: bool = False


_INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)([uUlL]{0,3})")
_FLOATING = re.compile(
    r"((?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+"
    r"|0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)([fFlL]?)"
)
_CHARACTER = re.compile(r"'(?:([^\\'\n])|\\(?:([abfnrtv\\'\"?])|([0-7]{1,3})|x([0-9a-fA-F]{1,2})))'")
_ESCAPES = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))
_SUFFIXES = {"", "u", "l", "ul", "lu", "ll", "ull", "llu"}
_LONGEST_LITERAL = 80  # digits; nothing longer fits 64 bits or says more than a double holds


def literal(text: str, target: Target) -> Value | None:
    """The value of one literal token, None where it is no number."""
    if len(text) > _LONGEST_LITERAL:
        raise NotConstant("the number has too many digits")
    if found := _INTEGER.fullmatch(text):
        suffix = found[2].lower()
        if suffix not in _SUFFIXES or "lL" in found[2] or "Ll" in found[2]:
            return None
        return _integer(found[1], suffix, target)
    if found := _FLOATING.fullmatch(text):
        digits, suffix = found[1], found[2].lower()
        try:
            number = float.fromhex(digits) if digits[:2] in ("0x", "0X") else float(digits)
        except (ValueError, OverflowError):
            raise NotConstant(f"{text} is out of range") from None
        return _real(number, 4 if suffix == "f" else 8)
    if found := _CHARACTER.fullmatch(text):
        plain, escape, octal, hexadecimal = found.groups()
        code = ord(plain or _ESCAPES.get(escape or "", "\0"))
        if octal or hexadecimal:
            code = int(octal, 8) if octal else int(hexadecimal, 16)
        if code > 127 and plain is None and target.is_char_signed:
            code -= 256
        return Value(code) if plain is None or code < 128 else None
    return None


def _real(number: float, size_bytes: int) -> Value:
    """A floating value as its type holds it."""
    try:
        rounded = float(struct.unpack("f", struct.pack("f", number))[0]) if size_bytes == 4 else number
    except OverflowError:
        rounded = math.inf
    if not math.isfinite(rounded):
        raise NotConstant("the value is out of range")
    return Value(rounded, 0)


def _integer(digits: str, suffix: str, target: Target) -> Value:
    """C11 6.4.4.1p5: the first type of the list that holds the value; decimals without u stay signed."""
    is_decimal = digits[0] != "0"
    number = int(digits, 8 if digits[0] == "0" and digits.isdecimal() else 0)
    long_bits = 8 * target.long_bytes
    widths = [32] if "l" not in suffix else []
    widths += [long_bits] if "ll" not in suffix else []
    for bits in [*widths, 64]:
        if "u" not in suffix and number < 1 << bits - 1:
            return Value(number, bits)
        if ("u" in suffix or not is_decimal) and number < 1 << bits:
            return Value(number, bits, True)
    raise NotConstant(f"{digits} does not fit 64 bits")


def evaluate(node: Node, lookup: Callable[[str], Value], size_of: Callable[[Node], Value], target: Target) -> Value:
    """The value of a constant expression.

    `lookup` gives the value of a name; `size_of` the type of a cast, as a Value whose number is its size in bytes.
    Both raise NotConstant, as this does.
    """

    def value(node: Node) -> Value:
        match type(node).__name__:
            case "Constant":
                found = literal(node.value, target)
                if found is None:
                    raise NotConstant(f"{node.value} is not a number", node)
                return found
            case "ID":
                return lookup(node.name)
            case "UnaryOp" if node.op == "sizeof":
                return Value(size_of(node.expr).number, 8 * target.pointer_bytes, True)
            case "UnaryOp":
                return _unary(node.op, value(node.expr))
            case "BinaryOp" if node.op in ("&&", "||"):
                left = bool(value(node.left).number)
                return Value(int(left if left == (node.op == "||") else bool(value(node.right).number)))
            case "BinaryOp":
                return _binary(node.op, value(node.left), value(node.right))
            case "TernaryOp":
                return value(node.iftrue if value(node.cond).number else node.iffalse)
            case "Cast":
                return _converted(value(node.expr).number, size_of(node.to_type))
        raise NotConstant("it is not a constant expression", node)

    return value(node)


def _converted(number: int | float, to: Value) -> Value:
    """C11 6.3.1: `to.number` is the size in bytes; bits of 0 say floating point, of 1 _Bool."""
    if to.bits == 0:
        return _real(float(number), int(to.number))
    if to.bits == 1:
        return Value(int(bool(number)))
    wrapped = _wrap(int(number), to.bits, to.is_unsigned)
    return Value(wrapped, to.bits, to.is_unsigned) if to.bits >= 32 else Value(wrapped)


def _wrap(number: int, bits: int, is_unsigned: bool) -> int:
    number &= (1 << bits) - 1
    return number if is_unsigned or number < 1 << bits - 1 else number - (1 << bits)


def _checked(number: int, bits: int, is_unsigned: bool) -> Value:
    wrapped = _wrap(number, bits, is_unsigned)
    if wrapped != number and not is_unsigned:
        raise NotConstant("the value overflows a signed integer")
    return Value(wrapped, bits, is_unsigned)


def _unary(op: str, operand: Value) -> Value:
    number, bits, is_unsigned = operand
    if op == "!":
        return Value(int(not number))
    if isinstance(number, float):
        if op in "+-":
            return Value(-number if op == "-" else number, 0)
    elif op == "-":
        return _checked(-number, bits, is_unsigned)
    elif op == "+":
        return operand
    elif op == "~":
        return Value(_wrap(~number, bits, is_unsigned), bits, is_unsigned)
    raise NotConstant(f"the operator {op} has no constant value here")


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_BITWISE: dict[str, Callable[[int, int], int]] = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}


def _binary(op: str, left: Value, right: Value) -> Value:
    a, b = left.number, right.number
    if isinstance(a, float) or isinstance(b, float):
        return _floating(op, float(a), float(b))
    if op in ("<<", ">>"):
        if not 0 <= b < left.bits:
            raise NotConstant(f"the shift by {b} is out of range")
        shifted = a << b if op == "<<" else a >> b
        # 1 << 31 overflows by the letter of C11 6.5.7p4; every compiler, and so every header, means the bits.
        return Value(_wrap(shifted, left.bits, left.is_unsigned), left.bits, left.is_unsigned)
    bits = max(left.bits, right.bits)  # C11 6.3.1.8
    is_unsigned = any(v.is_unsigned and v.bits == bits for v in (left, right))
    a, b = _wrap(a, bits, is_unsigned), _wrap(b, bits, is_unsigned)
    if op in _COMPARISONS:
        return Value(int(_COMPARISONS[op](a, b)))
    if op in _BITWISE:
        return Value(_wrap(_BITWISE[op](a, b), bits, is_unsigned), bits, is_unsigned)
    if op in _ARITHMETIC:
        return _checked(_ARITHMETIC[op](a, b), bits, is_unsigned)
    if op in ("/", "%"):
        if b == 0:
            raise NotConstant("division by zero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # C truncates towards zero
        return _checked(quotient if op == "/" else a - b * quotient, bits, is_unsigned)
    raise NotConstant(f"the operator {op} has no constant value here")


def _floating(op: str, a: float, b: float) -> Value:
    if op in _COMPARISONS:
        return Value(int(_COMPARISONS[op](a, b)))
    if op in _ARITHMETIC:
        return _real(_ARITHMETIC[op](a, b), 8)
    if op == "/" and b:
        return _real(a / b, 8)
    raise NotConstant(f"the operator {op} has no constant value here")
