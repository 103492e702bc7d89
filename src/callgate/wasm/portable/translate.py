"""A checked body to the text of a Python function.

Parameters and locals are l0, l1, …; a value of the operand stack that has been evaluated is in s0, s1, … by its height.
Most are not: they are expressions that are put together until something asks for them.  What may trap has a line of its
own, by which a traceback gives the offset of the instruction.  `structure` says what becomes of blocks and branches;
`arithmetic` has the instructions that only calculate.

What the text may name besides: fN the functions, gN lists with the value of each global, TN the lists of a table's
elements, KN the function types, `m` the memory as bytes, and what `core.NAMES` lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.portable.structure import RETURN, Branch, structure_of
from callgate.wasm.portable.values import LONGEST, Value, exact, is_exact, number, step_test, truth
from callgate.wasm.types import F32, F64, I32, I64, V128, FuncType
from callgate.wasm.validate import BLOCK, ELSE, END, IF, LOOP, Body, Context

BITS: Final = {I32: 32, I64: 64}
_ENDS: Final = frozenset((0x00, 0x0C, 0x0E, 0x0F, 0x12, 0x13))


class Source(NamedTuple):
    """The text of a function.

    `offsets` has the place in the module of each of its lines; `constants` are names that it takes for granted.
    """

    text: str
    offsets: tuple[int, ...]
    constants: dict[str, Any]


class _Construct:
    """A block, loop or if that is open."""

    __slots__ = ("base", "first_is_live", "ifs", "is_flat", "loop", "opcode", "start", "type")

    def __init__(self, start: int, opcode: int, type: FuncType, base: int, *, is_flat: bool) -> None:
        self.start = start
        self.opcode = opcode
        self.type = type
        self.base = base
        self.is_flat = is_flat
        self.first_is_live = False  # whether the end of an if's first arm is reached
        self.ifs = 0  # that are open because branches skip the rest
        self.loop: _Loop | None = None


class _Loop:
    """A Python loop that is open; `crossing` are branches that leave it for one further out."""

    __slots__ = ("construct", "crossing", "is_left")

    def __init__(self, construct: _Construct | None) -> None:
        self.construct = construct
        self.crossing: dict[int, tuple[_Loop, str]] = {}
        self.is_left = False  # by a break that belongs to it


class Translator:
    """The state of a translation."""

    def __init__(self, context: Context, body: Body, *, is_metered: bool) -> None:
        self.module = context.module
        self.functions = context.functions
        self.body = body
        self.is_metered = is_metered
        self.structure = structure_of(body)
        self.stack: list[Value] = []
        self.lines: list[tuple[int, str, int]] = []
        self.indent = 1
        self.offset = 0
        self.is_live = True
        self.constructs: list[_Construct] = []
        self.loops: list[_Loop] = []
        self.needs_flag = False
        self.constants: dict[str, Any] = {}
        self._fresh: tuple[str, int, list[tuple[int, str, int]]] | None = None
        self._states: dict[int, int] = {}
        self._pieces: dict[int, list[tuple[int, str, int]]] = {}
        self.has_tail_calls = any(opcode in (0x12, 0x13) for opcode, _, _ in body.instructions)

    # -- text ---------------------------------------------------------------------------------------------------------
    def emit(self, text: str, offset: int = 0) -> None:
        """A line."""
        self._fresh = None
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
        self._fresh = f"s{height}", len(self.lines) - 1, self.lines
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

    # -- control ------------------------------------------------------------------------------------------------------
    def run(self) -> Source:
        """Translate."""
        body = self.body
        handlers = _handlers()
        if self.structure.has_states:
            self._state(-2)
            self.lines = self._pieces[self._states[-2]] = []
            self.loops.append(_Loop(None))
        if self.is_metered and any(map(_is_call, body.instructions)):
            self.meter()
        for index, (opcode, immediate, offset) in enumerate(body.instructions):
            self.offset = offset
            if opcode == END:
                self._end(index)
                continue
            if opcode == ELSE:
                self._else(index)
                continue
            if opcode in (BLOCK, LOOP, IF):
                self._open(index, opcode, immediate)
                continue
            if 0x0C <= opcode <= 0x0E:
                self._branch(opcode, self.structure.branches[index])
            else:
                handlers[opcode](self, immediate)
            if opcode in _ENDS:
                self.is_live = False
        return self._finish()

    def meter(self) -> None:
        """Count a call or a round of a loop."""
        self.emit("c[0] -= 1")
        self.emit("if c[0] <= 0: poll()")

    def _finish(self) -> Source:
        body = self.body
        lines = self.lines
        if self.structure.has_states:
            lines = [(1, "s = 0", 0), (1, "while True:", 0)]
            self._tree(lines, 0, len(self._pieces), 2)
        count = len(body.type.parameters)
        head: list[tuple[int, str, int]] = []
        names = ", ".join(f"l{local}" for local in range(count))
        suffix = "_tail" if self.has_tail_calls else ""
        head.append((0, f"def f{body.number}{suffix}({names}):", 0))
        rest = list(enumerate(body.locals))[count:]
        for zero in ("0", "0.0", "None", "zero_v128"):
            same = [f"l{local}" for local, kind in rest if _ZEROS.get(kind, "None") == zero and body.weights[local]]
            for start in range(0, len(same), 40):
                head.append((1, f"{' = '.join(same[start : start + 40])} = {zero}", 0))
        if self.needs_flag:
            head.append((1, "b = 0", 0))
        first = body.instructions[0][2]
        lines = head + lines
        text = "\n".join([" " * indent + line for indent, line, _ in lines])
        return Source(text + "\n", tuple([offset or first for _, _, offset in lines]), self.constants)

    def _tree(self, lines: list[tuple[int, str, int]], low: int, high: int, indent: int) -> None:
        """Search for the piece whose number is `s`, from low to high."""
        if high - low == 1:
            piece = self._pieces[low]
            lines.extend([(indent + inner - 1, text, offset) for inner, text, offset in piece] or [(indent, "pass", 0)])
            return
        middle = (low + high) // 2
        lines.append((indent, f"if s < {middle}:", 0))
        self._tree(lines, low, middle, indent + 1)
        lines.append((indent, "else:", 0))
        self._tree(lines, middle, high, indent + 1)

    def _state(self, label: int) -> int:
        """The number of a piece of code that begins at a label."""
        state = self._states.get(label)
        if state is None:
            state = self._states[label] = len(self._states)
            self._pieces[state] = []
        return state

    def _place(self, label: int) -> None:
        """What follows is the piece that begins at a label."""
        self.lines = self._pieces[self._state(label)]
        self._fresh = None

    def _open(self, index: int, opcode: int, kind: FuncType) -> None:
        structure = self.structure
        condition = None
        if opcode == IF:
            condition = self.pop()
        self.settle_all()
        is_flat = index in structure.is_flat
        base = len(self.stack) - len(kind.parameters)
        construct = _Construct(index, opcode, kind, base, is_flat=is_flat)
        self.constructs.append(construct)
        if opcode == LOOP:
            # a loop's parameters may be other values in the next round, and no constants
            for position in range(base, len(self.stack)):
                value = self.stack[position]
                if value.constant is not None:
                    self._slot(position, value, kind.parameters[position - base])
            self._widen(base, kind.parameters)
        if opcode == IF:
            # both arms begin with the same parameters, in their slots
            for position in range(base, len(self.stack)):
                self._slot(position, self.stack[position], kind.parameters[position - base])
            self._widen(base, kind.parameters)
        if is_flat:
            if opcode == LOOP:
                self._go(2 * index + 1)
                self._place(2 * index + 1)
            elif condition is not None:
                target = -3 - index
                self.emit(f"if not {truth(condition)}:", condition.trap)
                self.indent += 1
                self._go(target)
                self.emit("continue")
                self.indent -= 1
        elif index in structure.has_loop:
            construct.loop = _Loop(construct)
            self.loops.append(construct.loop)
            if condition is not None and condition.trap:
                self.stack.append(condition)
                condition = self.settle(len(self.stack) - 1)
                self.stack.pop()
            self.emit("while True:")
            self.indent += 1
        if opcode == LOOP and self.is_metered:
            self.meter()
        if condition is not None and not is_flat:
            self.emit(f"if {truth(condition)}:", condition.trap)
            self.indent += 1

    def _widen(self, base: int, kinds: tuple[int, ...]) -> None:
        """The values from here on are in their slots, whatever they were."""
        del self.stack[base:]
        for position, kind in enumerate(kinds, base):
            low, high = self.full(kind)
            self.stack.append(Value(f"s{position}", low, high, frozenset((-1 - position,)), is_simple=True))

    def _slot(self, position: int, value: Value, kind: int) -> None:
        """Put a value into a slot, exact."""
        text = self.text_of(value, kind)
        if text != f"s{position}":
            self.emit(f"s{position} = {text}", value.trap)

    def _go(self, label: int) -> None:
        self.emit(f"s = {self._state(label)}")

    def _results(self, construct: _Construct) -> None:
        """Put a construct's results into their slots."""
        count = len(construct.type.results)
        values = self.stack[len(self.stack) - count :]
        for position, (value, kind) in enumerate(zip(values, construct.type.results, strict=True), construct.base):
            self._slot(position, value, kind)

    def _else(self, index: int) -> None:
        construct = self.constructs[-1]
        construct.first_is_live = was_live = self.is_live
        if was_live:
            self.in_turn_but(len(construct.type.results))
            self._results(construct)
        self.is_live = True
        self._widen(construct.base, construct.type.parameters)
        if construct.is_flat:
            if was_live:
                self._leave_piece(construct)
            self._place(-3 - construct.start)
            return
        self._pass()
        self.indent -= 1
        self.emit("else:")
        self.indent += 1

    def _leave_piece(self, construct: _Construct) -> None:
        """From the end of the first arm on behind the if."""
        label = self.structure.exits[construct.start]
        if label == RETURN:
            self.emit("return")
        else:
            self._go(label)

    def _pass(self) -> None:
        """A block of Python must not be empty."""
        last = self.lines[-1] if self.lines else None
        if last is not None and last[0] < self.indent and last[1].endswith(":"):
            self.emit("pass")

    def _end(self, index: int) -> None:
        if not self.constructs:
            if self.is_live:
                self.in_turn_but(len(self.body.type.results))
                self._return()
            return
        construct = self.constructs.pop()
        live = self.is_live
        if live:
            self.in_turn_but(len(construct.type.results))
            self._results(construct)
        start = construct.start
        has_else = start in self.structure.elses
        if construct.is_flat:
            if construct.opcode == IF and not has_else:
                # what the false condition skips to is what follows
                if live:
                    self._go(-3 - start)
                self._place(-3 - start)
                live = True
            label = 2 * start
            if label in self._states and self.structure.exits[start] == label:
                if live:
                    self._go(label)
                self._place(label)
                live = True
        else:
            if construct.opcode == IF:
                self._pass()
                self.indent -= 1
                live = live or construct.first_is_live or not has_else
            if construct.ifs:
                self._pass()
                self.indent -= construct.ifs
                live = True
            loop = construct.loop
            if loop is not None:
                if live:
                    self.emit("break")
                self._pass()
                self.indent -= 1
                self.loops.pop()
                live = live or loop.is_left
                self._cross(loop)
        self.is_live = live
        self._widen(construct.base, construct.type.results)

    def in_turn_but(self, count: int) -> None:
        """Evaluate what is below so many values at the top and has to be evaluated."""
        kept = self.pop_many(count)
        self.in_turn()
        self.stack += kept
        traps = [position for position in range(len(self.stack) - count, len(self.stack)) if self.stack[position].trap]
        for position in traps if len(traps) > 1 else ():
            self.settle(position)

    def _cross(self, loop: _Loop) -> None:
        """Behind a loop: go on with the branches that left it for one further out."""
        if not loop.crossing:
            return
        top = self.loops[-1]
        here = {flag: action for flag, (target, action) in loop.crossing.items() if target is top}
        beyond = {flag: place for flag, place in loop.crossing.items() if flag not in here}
        is_only = len(here) == 1 and not beyond
        for flag, action in here.items():
            self.emit("if b:" if is_only else f"if b == {flag}:")
            self.indent += 1
            self.emit("b = 0")
            self.emit(action)
            self.indent -= 1
            if action == "break":
                top.is_left = True
        if beyond:
            self.emit("if b: break")
            top.crossing.update(beyond)

    def _jump(self, branch: Branch) -> list[str]:
        """The lines that go to a label, values being in their slots."""
        if branch.label == RETURN:
            return [self.return_text()]
        construct = next((one for one in reversed(self.constructs) if one.start == branch.server), None)
        assert construct is not None
        if construct.is_flat:
            loop, action = self.loops[0], "continue"
            lines = [f"s = {self._state(branch.label)}"]
        else:
            assert construct.loop is not None
            loop = construct.loop
            action = "continue" if branch.label == 2 * branch.server + 1 else "break"
            lines = []
        if loop is self.loops[-1]:
            if action == "break":
                loop.is_left = True
            return [*lines, action]
        flag = 1 if construct.is_flat else 2 * branch.server + 2 + (action == "break")
        self.needs_flag = True
        self.loops[-1].crossing[flag] = loop, action
        return [*lines, f"b = {flag}", "break"]

    def arity(self, branch: Branch) -> tuple[int, tuple[int, ...]]:
        """Where a branch leaves its values, and their types."""
        if branch.named == RETURN:
            return 0, self.body.type.results
        construct = next(one for one in reversed(self.constructs) if one.start == branch.named)
        return construct.base, construct.type.parameters if construct.opcode == LOOP else construct.type.results

    def _move(self, branch: Branch) -> list[str]:
        """The lines that bring the top values to where a branch leaves them, and go."""
        if branch.label == RETURN:
            return [self.return_text()]
        base, kinds = self.arity(branch)
        lines = []
        for position, (value, kind) in enumerate(
            zip(self.stack[len(self.stack) - len(kinds) :], kinds, strict=True), base
        ):
            text = self.text_of(value, kind)
            if text != f"s{position}":
                lines.append(f"s{position} = {text}")
        return lines + self._jump(branch)

    def _lines(self, lines: list[str]) -> None:
        for line in lines:
            self.emit(line)

    def _under(self, head: str, lines: list[str], offset: int = 0) -> None:
        """A block of Python; of one line in the line."""
        if len(lines) == 1 and not lines[0].startswith(("if", "while")):
            self.emit(f"{head} {lines[0]}", offset)
            return
        self.emit(head, offset)
        self.indent += 1
        self._lines(lines)
        self.indent -= 1

    def _branch(self, opcode: int, branches: tuple[Branch, ...]) -> None:
        if opcode == 0x0C:
            self.in_turn()
            self._lines(self._move(branches[0]))
            return
        if opcode == 0x0D:
            self._keep_condition()
            condition = self.pop()
            construct = self.constructs[-1] if self.constructs else None
            if (
                construct is not None
                and not construct.is_flat
                and construct.start == branches[0].server
                and construct.start in self.structure.has_ifs
            ):
                self.emit(f"if {_negated(truth(condition))}:", condition.trap)
                self.indent += 1
                construct.ifs += 1
                return
            self._under(f"if {truth(condition)}:", self._move(branches[0]), condition.trap)
            return
        self._table(branches)

    def _keep_condition(self) -> None:
        """Evaluate what has to come before a conditional branch; its condition, on top, may stay an expression."""
        condition = self.pop()
        self.in_turn()
        self.stack.append(condition)

    def _table(self, branches: tuple[Branch, ...]) -> None:
        self.alone(1)
        self.exact_name(32)
        self._keep_condition()
        index = self.pop()
        text = exact(index, 32)
        count = len(branches) - 1
        if count == 0:
            self._lines(self._move(branches[0]))
            return
        states = self._states_of(branches) if self.structure.has_states and len(set(branches)) > 2 else None
        if states is not None:
            lines = [f"s = ({', '.join(map(str, states[:-1]))},)[{text}] if {text} < {count} else {states[-1]}"]
            if len(self.loops) == 1:
                lines.append("continue")
            else:
                self.needs_flag = True
                self.loops[-1].crossing[1] = self.loops[0], "continue"
                lines += ["b = 1", "break"]
            self._lines(lines)
            return
        runs: list[tuple[int, Branch]] = []  # where the indices of a branch begin
        for number_, branch in enumerate(branches):
            if not runs or runs[-1][1] != branch:
                runs.append((number_, branch))
        self._search(text, runs, 0, len(runs))

    def _search(self, text: str, runs: list[tuple[int, Branch]], low: int, high: int) -> None:
        """Find the run that an index is in."""
        if high - low == 1:
            self._lines(self._move(runs[low][1]))
            return
        middle = low + 1 if high - low <= 3 else (low + high) // 2
        self.emit(f"if {text} < {runs[middle][0]}:")
        self.indent += 1
        self._search(text, runs, low, middle)
        self.indent -= 1
        self._search(text, runs, middle, high)

    def _states_of(self, branches: tuple[Branch, ...]) -> list[int] | None:
        """The pieces of code at the labels of a table, if they take no values and all are pieces."""
        if self.arity(branches[0])[1]:
            return None
        flat = {one.start for one in self.constructs if one.is_flat} | {RETURN}
        if any(branch.server not in flat for branch in branches):
            return None
        if RETURN not in self._states and any(branch.label == RETURN for branch in branches):
            self._pieces[self._state(RETURN)].append((1, "return", 0))
        return [self._state(branch.label) for branch in branches]

    def return_text(self) -> str:
        """A return with the values on top."""
        kinds = self.body.type.results
        values = self.stack[len(self.stack) - len(kinds) :]
        texts = [self.text_of(value, kind) for value, kind in zip(values, kinds, strict=True)]
        if not texts:
            return "return"
        return f"return {texts[0]}" if len(texts) == 1 else f"return ({', '.join(texts)})"

    def _return(self) -> None:
        count = len(self.body.type.results)
        trap = max([value.trap for value in self.stack[len(self.stack) - count :]], default=0) if count else 0
        self.emit(self.return_text(), trap)


def _is_call(instruction: tuple[int, Any, int]) -> bool:
    """Whether compiled code calls here, and so counts calls of the function that it is in: for the same fuel."""
    opcode = instruction[0]
    return 0x10 <= opcode <= 0x13 or opcode == 0x40 or 0xFC08 <= opcode < 0xFD00


def _negated(text: str) -> str:
    return text[5:-1] if text.startswith("(not ") else f"not {text}"


_ZEROS: Final = {I32: "0", I64: "0", F32: "0.0", F64: "0.0", V128: "zero_v128"}
_ALL: dict[int, Callable[[Translator, Any], None]] = {}


def _handlers() -> dict[int, Callable[[Translator, Any], None]]:
    """What translates each instruction, by opcode."""
    if not _ALL:
        from callgate.wasm.portable.arithmetic import arithmetic
        from callgate.wasm.portable.memory import memory_instructions

        rows = {**_control(), **arithmetic(), **memory_instructions()}
        _ALL.update({opcode: rows[row.name] for opcode, row in INSTRUCTIONS.items() if row.name in rows})
    return _ALL


# -- instructions of control, calls and variables ---------------------------------------------------------------------


def _unreachable(t: Translator, immediate: Any) -> None:
    t.in_turn()
    t.emit("unreachable()")


def _nop(t: Translator, immediate: Any) -> None:
    pass


def _return(t: Translator, immediate: Any) -> None:
    t.in_turn_but(len(t.body.type.results))
    t._return()


def _drop(t: Translator, immediate: Any) -> None:
    value = t.pop()
    if value.trap:
        t.emit(value.text, value.trap)


def _select(t: Translator, kind: Any) -> None:
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


def _local_get(t: Translator, local: int) -> None:
    low, high = t.full(t.body.locals[local])
    t.stack.append(Value(f"l{local}", low, high, frozenset((local,)), is_simple=True))


def _assign(t: Translator, local: int) -> None:
    value = t.pop()
    fresh = t._fresh
    text = t.text_of(value, t.body.locals[local])
    is_fresh = fresh is not None and fresh[0] == text and fresh[2] is t.lines
    if fresh is not None and is_fresh and not any(local in other.uses for other in t.stack):
        indent, line, offset = t.lines[fresh[1]]
        t.lines[fresh[1]] = indent, f"l{local}{line.removeprefix(text)}", offset
        t._fresh = None
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


def _local_set(t: Translator, local: int) -> None:
    _assign(t, local)


def _local_tee(t: Translator, local: int) -> None:
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


def _global_get(t: Translator, variable: int) -> None:
    kind, is_mutable = t.module.globals[variable]
    low, high = t.full(kind)
    t.push(Value(f"g{variable}[0]", low, high, is_simple=not is_mutable, reads=is_mutable))


def _global_set(t: Translator, variable: int) -> None:
    value = t.pop()
    t.in_turn()
    t.emit(f"g{variable}[0] = {t.text_of(value, t.module.globals[variable].value)}", value.trap)


def _const_int(t: Translator, bits: int) -> None:
    t.stack.append(number(bits))


def _const_f32(t: Translator, bits: int) -> None:
    from callgate.wasm.portable.numbers import f32_of_bits

    _float(t, f32_of_bits(bits), bits, "k32")


def _const_f64(t: Translator, bits: int) -> None:
    from callgate.wasm.portable.numbers import f64_of_bits

    _float(t, f64_of_bits(bits), bits, "k64")


def _float(t: Translator, value: float, bits: int, prefix: str) -> None:
    if not math.isfinite(value):
        text = t.constant(prefix, bits, value)
    else:
        text = repr(value) if value >= 0 and not repr(value).startswith("-") else f"({value!r})"
    t.stack.append(Value(text, is_simple=True))


def _finish_call(t: Translator, call: str, results: tuple[int, ...], uses: frozenset[int]) -> None:
    base = len(t.stack)
    if not results:
        t.emit(call)
    elif len(results) == 1:
        t.push(Value(call, *t.full(results[0]), uses, trap=t.offset, reads=True))
    else:
        for position in range(base, base + len(results)):
            t.protect(-1 - position)
        t.emit(f"{', '.join(f's{base + at}' for at in range(len(results)))} = {call}")
        t._widen(base, results)


def _arguments(t: Translator, signature: FuncType) -> tuple[str, frozenset[int]]:
    t.alone(len(signature.parameters))
    values = t.pop_many(len(signature.parameters))
    t.in_turn()
    uses = frozenset().union(*[value.uses for value in values])
    texts = [t.text_of(value, kind) for value, kind in zip(values, signature.parameters, strict=True)]
    return ", ".join(texts), uses


def _call(t: Translator, callee: int) -> None:
    signature = t.functions[callee]
    arguments, uses = _arguments(t, signature)
    _finish_call(t, f"f{callee}({arguments})", signature.results, uses)


def _indirect(t: Translator, immediate: tuple[int, int]) -> tuple[str, FuncType, frozenset[int]]:
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


def _call_indirect(t: Translator, immediate: tuple[int, int]) -> None:
    arguments, signature, uses = _indirect(t, immediate)
    _finish_call(t, f"x.raw({arguments})", signature.results, uses)
    if len(signature.results) == 1:
        t.settle(len(t.stack) - 1)  # another call sets x


def _return_call(t: Translator, callee: int) -> None:
    arguments, _ = _arguments(t, t.functions[callee])
    t.emit(f"return Tail(f{callee}, ({arguments}{',' if arguments else ''}))")


def _return_call_indirect(t: Translator, immediate: tuple[int, int]) -> None:
    arguments, _, _ = _indirect(t, immediate)
    t.emit(f"return Tail(x.raw, ({arguments}{',' if arguments else ''}))")


def _ref_null(t: Translator, kind: int) -> None:
    t.stack.append(Value("None", is_simple=True))


def _ref_is_null(t: Translator, immediate: Any) -> None:
    value = t.pop()
    t.push(Value(f"({value.text} is None)", 0, 1, value.uses, trap=value.trap, reads=value.reads))


def _ref_func(t: Translator, callee: int) -> None:
    t.push(Value(f"record({callee})"))


def _control() -> dict[str, Callable[[Translator, Any], None]]:
    return {
        **{"unreachable": _unreachable, "nop": _nop, "return": _return, "drop": _drop, "select": _select},
        **{"call": _call, "call_indirect": _call_indirect, "return_call": _return_call},
        **{"return_call_indirect": _return_call_indirect, "local.get": _local_get, "local.set": _local_set},
        **{"local.tee": _local_tee, "global.get": _global_get, "global.set": _global_set, "i32.const": _const_int},
        **{"i64.const": _const_int, "f32.const": _const_f32, "f64.const": _const_f64, "ref.null": _ref_null},
        **{"ref.is_null": _ref_is_null, "ref.func": _ref_func},
    }
