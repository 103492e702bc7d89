"""A checked body to the text of a Python function.

Parameters and locals are l0, l1, …; a value of the operand stack that has been evaluated is in s0, s1, … by its height.
Most are not: they are expressions that are put together until something asks for them.  What may trap has a line of its
own, by which a traceback gives the offset of the instruction.  `structure` and `blocks` say what becomes of blocks and
branches; `variables`, `integers`, `comparisons`, `floats` and `memory` have the instructions.

What the text may name besides: fN the functions, gN lists with the value of each global, TN the lists of a table's
elements, KN the function types, `m` the memory as bytes, and what `core.NAMES` lists.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.portable.blocks import Blocks, Handler, Loop
from callgate.wasm.portable.comparisons import comparisons
from callgate.wasm.portable.floats import floats
from callgate.wasm.portable.integers import integers
from callgate.wasm.portable.memory import memory_instructions
from callgate.wasm.portable.operands import Line
from callgate.wasm.portable.variables import variables
from callgate.wasm.types import F32, F64, I32, I64, V128
from callgate.wasm.validate import BLOCK, ELSE, END, IF, LOOP, Body, Context

_ENDS: Final = frozenset((0x00, 0x0C, 0x0E, 0x0F, 0x12, 0x13))


class Source(NamedTuple):
    """The text of a function.

    `offsets` has the place in the module of each of its lines; `constants` are names that it takes for granted.
    """

    text: str
    offsets: tuple[int, ...]
    constants: dict[str, Any]


class Translator(Blocks):
    """A translation."""

    def __init__(self, context: Context, body: Body, *, is_metered: bool) -> None:
        super().__init__(context, body, is_metered=is_metered)
        self.has_tail_calls = any(opcode in (0x12, 0x13) for opcode, _, _ in body.instructions)

    def run(self) -> Source:
        """Translate."""
        body = self.body
        if self.structure.has_states:
            self.state(-2)
            self.lines = self.pieces[self.states[-2]] = []
            self.loops.append(Loop(None))
        if self.is_metered and any(map(_is_call, body.instructions)):
            self.meter()
        for index, (opcode, immediate, offset) in enumerate(body.instructions):
            self.offset = offset
            if opcode == END:
                self.end_()
                continue
            if opcode == ELSE:
                self.else_()
                continue
            if opcode in (BLOCK, LOOP, IF):
                self.open_(index, opcode, immediate)
                continue
            if 0x0C <= opcode <= 0x0E:
                self.branch_(opcode, self.structure.branches[index])
            else:
                _HANDLERS[opcode](self, immediate)
            if opcode in _ENDS:
                self.is_live = False
        return self._finish()

    def _finish(self) -> Source:
        body = self.body
        lines = self.lines
        if self.structure.has_states:
            lines = [(1, "s = 0", 0), (1, "while True:", 0)]
            self._tree(lines, 0, len(self.pieces), 2)
        count = len(body.type.parameters)
        head: list[Line] = []
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

    def _tree(self, lines: list[Line], low: int, high: int, indent: int) -> None:
        """Search for the piece whose number is `s`, from low to high."""
        if high - low == 1:
            piece = self.pieces[low]
            lines.extend([(indent + inner - 1, text, offset) for inner, text, offset in piece] or [(indent, "pass", 0)])
            return
        middle = (low + high) // 2
        lines.append((indent, f"if s < {middle}:", 0))
        self._tree(lines, low, middle, indent + 1)
        lines.append((indent, "else:", 0))
        self._tree(lines, middle, high, indent + 1)


def _is_call(instruction: tuple[int, Any, int]) -> bool:
    """Whether compiled code calls here, and so counts calls of the function that it is in: for the same fuel."""
    opcode = instruction[0]
    return 0x10 <= opcode <= 0x13 or opcode == 0x40 or 0xFC08 <= opcode < 0xFD00


_ZEROS: Final = {I32: "0", I64: "0", F32: "0.0", F64: "0.0", V128: "zero_v128"}
_ROWS: Final = {**variables(), **integers(), **comparisons(), **floats(), **memory_instructions()}
_HANDLERS: Final[dict[int, Handler]] = {
    opcode: _ROWS[row.name] for opcode, row in INSTRUCTIONS.items() if row.name in _ROWS
}
"""What translates each instruction, by opcode."""
