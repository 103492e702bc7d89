"""Blocks, loops, ifs and branches as text: what `structure` has decided becomes lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callgate.wasm.portable.operands import Line, Operands
from callgate.wasm.portable.structure import RETURN, Branch, structure_of
from callgate.wasm.portable.values import exact, truth
from callgate.wasm.types import FuncType
from callgate.wasm.validate import IF, LOOP, Body, Context


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
        self.loop: Loop | None = None


class Loop:
    """A Python loop that is open; `crossing` are branches that leave it for one further out."""

    __slots__ = ("construct", "crossing", "is_left")

    def __init__(self, construct: _Construct | None) -> None:
        self.construct = construct
        self.crossing: dict[int, tuple[Loop, str]] = {}
        self.is_left = False  # by a break that belongs to it


class Blocks(Operands):
    """Operands, and the blocks that are open around the next line."""

    def __init__(self, context: Context, body: Body, *, is_metered: bool) -> None:
        super().__init__(context, body)
        self.is_metered = is_metered
        self.structure = structure_of(body)
        self.is_live = True
        self.constructs: list[_Construct] = []
        self.loops: list[Loop] = []
        self.needs_flag = False
        self.states: dict[int, int] = {}
        self.pieces: dict[int, list[Line]] = {}

    def meter(self) -> None:
        """Count a call or a round of a loop."""
        self.emit("c[0] -= 1")
        self.emit("if c[0] <= 0: poll()")

    def state(self, label: int) -> int:
        """The number of a piece of code that begins at a label."""
        state = self.states.get(label)
        if state is None:
            state = self.states[label] = len(self.states)
            self.pieces[state] = []
        return state

    def _place(self, label: int) -> None:
        """What follows is the piece that begins at a label."""
        self.lines = self.pieces[self.state(label)]
        self.fresh = None

    def open_(self, index: int, opcode: int, kind: FuncType) -> None:
        """A block, loop or if."""
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
                    self.to_slot(position, value, kind.parameters[position - base])
            self.widen(base, kind.parameters)
        if opcode == IF:
            # both arms begin with the same parameters, in their slots
            for position in range(base, len(self.stack)):
                self.to_slot(position, self.stack[position], kind.parameters[position - base])
            self.widen(base, kind.parameters)
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
            construct.loop = Loop(construct)
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

    def _go(self, label: int) -> None:
        self.emit(f"s = {self.state(label)}")

    def _results(self, construct: _Construct) -> None:
        """Put a construct's results into their slots."""
        count = len(construct.type.results)
        values = self.stack[len(self.stack) - count :]
        for position, (value, kind) in enumerate(zip(values, construct.type.results, strict=True), construct.base):
            self.to_slot(position, value, kind)

    def else_(self) -> None:
        """The second arm of an if."""
        construct = self.constructs[-1]
        construct.first_is_live = was_live = self.is_live
        if was_live:
            self.in_turn_but(len(construct.type.results))
            self._results(construct)
        self.is_live = True
        self.widen(construct.base, construct.type.parameters)
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

    def end_(self) -> None:
        """The end of a block, loop, if, or of the function."""
        if not self.constructs:
            if self.is_live:
                self.in_turn_but(len(self.body.type.results))
                self.emit_return()
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
            if label in self.states and self.structure.exits[start] == label:
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
        self.widen(construct.base, construct.type.results)

    def _cross(self, loop: Loop) -> None:
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
            lines = [f"s = {self.state(branch.label)}"]
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

    def branch_(self, opcode: int, branches: tuple[Branch, ...]) -> None:
        """br, br_if, br_table."""
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
        if RETURN not in self.states and any(branch.label == RETURN for branch in branches):
            self.pieces[self.state(RETURN)].append((1, "return", 0))
        return [self.state(branch.label) for branch in branches]

    def return_text(self) -> str:
        """A return with the values on top."""
        kinds = self.body.type.results
        values = self.stack[len(self.stack) - len(kinds) :]
        texts = [self.text_of(value, kind) for value, kind in zip(values, kinds, strict=True)]
        if not texts:
            return "return"
        return f"return {texts[0]}" if len(texts) == 1 else f"return ({', '.join(texts)})"

    def emit_return(self) -> None:
        """A return, at the end or in the middle."""
        count = len(self.body.type.results)
        trap = max([value.trap for value in self.stack[len(self.stack) - count :]], default=0) if count else 0
        self.emit(self.return_text(), trap)


def _negated(text: str) -> str:
    return text[5:-1] if text.startswith("(not ") else f"not {text}"


Handler = Callable[[Blocks, Any], None]
"""What translates an instruction, given its immediate."""
