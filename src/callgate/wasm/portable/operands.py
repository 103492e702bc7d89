"""The lines of a function in the making, and its operand stack of expressions that have not been evaluated yet."""

from __future__ import annotations

from typing import Any, Final

from callgate.wasm.portable.values import LONGEST, Value, exact, is_exact
from callgate.wasm.types import I32, I64
from callgate.wasm.validate import Body, Context

BITS: Final = {I32: 32, I64: 64}
Line = tuple[int, str, int]
"""Its indent, its text, the offset of the instruction that it is of."""


class Operands:
    """Lines, and what is on the stack where the next one goes."""

    def __init__(self, context: Context, body: Body) -> None:
        self.module = context.module
        self.functions = context.functions
        self.body = body
        self.stack: list[Value] = []
        self.lines: list[Line] = []
        self.indent = 1
        self.offset = 0
        self.constants: dict[str, Any] = {}
        # the last line, if it has just put a result into a slot: the slot, the number of the line, the lines
        self.fresh: tuple[str, int, list[Line]] | None = None

    # -- text ---------------------------------------------------------------------------------------------------------
    def emit(self, text: str, offset: int = 0) -> None:
        """A line."""
        self.fresh = None
        self.lines.append((self.indent, text, offset or self.offset))

    # -- the operand stack --------------------------------------------------------------------------------------------
    def settle(self, position: int) -> Value:
        """Evaluate an entry of the stack now."""
        value = self.stack[position]
        if value.constant is not None or value.text == f"s{position}":
            return value
        self.protect(-1 - position, position)
        self.emit(f"s{position} = {value.text}", value.trap)
        settled = Value(f"s{position}", value.low, value.high, frozenset((-1 - position,)), is_simple=True)
        settled.zeros = value.zeros
        self.stack[position] = settled
        return settled

    def protect(self, variable: int, below: int | None = None) -> None:
        """Evaluate entries that need the present value of a variable, which is about to get another."""
        for position, value in enumerate(self.stack if below is None else self.stack[:below]):
            if variable in value.uses and not (value.is_simple and variable == -1 - position):
                self.settle(position)

    def settle_all(self) -> None:
        """Evaluate all entries, each into its slot."""
        for position in range(len(self.stack)):
            self.settle(position)

    def in_turn(self, *, traps: bool = True) -> None:
        """Before something with effects: evaluate what has to come before it."""
        for position, value in enumerate(self.stack):
            if value.reads or (traps and value.trap):
                self.settle(position)

    def push(self, value: Value) -> None:
        """An expression; a long one is evaluated."""
        self.stack.append(value)
        if len(value.text) > LONGEST:
            self.settle(len(self.stack) - 1)

    def pop(self) -> Value:
        """The top."""
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Value]:
        """So many from the top, the deepest first."""
        if not count:
            return []
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def name(self, depth: int = 0) -> None:
        """An entry is about to be used twice: a name or a literal it must be."""
        position = len(self.stack) - 1 - depth
        if not self.stack[position].is_simple:
            self.settle(position)

    def exact_name(self, bits: int, depth: int = 0) -> None:
        """As `name`, and it must be the exact number."""
        position = len(self.stack) - 1 - depth
        value = self.stack[position]
        if value.constant is not None:
            return
        text = exact(value, bits)
        if value.is_simple and text == value.text:
            return
        low, high = (value.low, value.high) if is_exact(value, bits) else (0, (1 << bits) - 1)
        named = Value(text, low, high, value.uses, trap=value.trap, reads=value.reads)
        named.zeros = value.zeros
        self.stack[position] = named
        self.settle(position)

    def alone(self, count: int) -> None:
        """Of the top entries none may trap: the line has an instruction of its own that does."""
        for position in range(len(self.stack) - count, len(self.stack)):
            if self.stack[position].trap:
                self.settle(position)

    def join(self) -> None:
        """Of the two top entries at most one may trap."""
        if self.stack[-1].trap and self.stack[-2].trap:
            self.settle(len(self.stack) - 2)

    def result(self, text: str, low: int = 0, high: int = 0) -> None:
        """Evaluate an expression now and push it."""
        height = len(self.stack)
        self.protect(-1 - height)
        self.emit(f"s{height} = {text}")
        self.fresh = f"s{height}", len(self.lines) - 1, self.lines
        self.stack.append(Value(f"s{height}", low, high, frozenset((-1 - height,)), is_simple=True))

    def full(self, kind: int) -> tuple[int, int]:
        """What an integer of a type may be."""
        return (0, (1 << BITS[kind]) - 1) if kind in BITS else (0, 0)

    def text_of(self, value: Value, kind: int) -> str:
        """A value as variables, memories and functions have it."""
        return exact(value, BITS[kind]) if kind in BITS else value.text

    def constant(self, prefix: str, bits: int, thing: Any) -> str:
        """The name of a constant that has no literal."""
        name = f"{prefix}_{bits:x}"
        self.constants[name] = thing
        return name

    def widen(self, base: int, kinds: tuple[int, ...]) -> None:
        """The values from here on are in their slots, whatever they were."""
        del self.stack[base:]
        for position, kind in enumerate(kinds, base):
            low, high = self.full(kind)
            self.stack.append(Value(f"s{position}", low, high, frozenset((-1 - position,)), is_simple=True))

    def to_slot(self, position: int, value: Value, kind: int) -> None:
        """Put a value into a slot, exact."""
        text = self.text_of(value, kind)
        if text != f"s{position}":
            self.emit(f"s{position} = {text}", value.trap)

    def in_turn_but(self, count: int) -> None:
        """Evaluate what is below so many values at the top and has to be evaluated."""
        kept = self.pop_many(count)
        self.in_turn()
        self.stack += kept
        traps = [position for position in range(len(self.stack) - count, len(self.stack)) if self.stack[position].trap]
        for position in traps if len(traps) > 1 else ():
            self.settle(position)

    # -- what instructions make ---------------------------------------------------------------------------------------
    def pop_two(self) -> tuple[Value, Value]:
        """The two top entries, of which at most one may trap."""
        self.join()
        b, a = self.pop(), self.pop()
        return a, b

    def push_made(self, text: str, low: int, high: int, *operands: Value) -> None:
        """An expression made of others."""
        self.push(
            Value(
                text,
                low,
                high,
                frozenset().union(*[one.uses for one in operands]),
                trap=max([one.trap for one in operands]),
                reads=any(one.reads for one in operands),
            )
        )
