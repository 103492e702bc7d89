"""A function's instructions beside the machine code that they became.

Instructions that were compiled together stand together: a comparison and its branch, operands and what takes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from callgate.asm.code import Code
from callgate.asm.x86_64.registers import NAMES_64, NAMES_XMM
from callgate.wasm.binary import ModuleData
from callgate.wasm.compile.dispatch import EMITTERS
from callgate.wasm.compile.function import Emitters, FunctionCompiler, Options, Shared
from callgate.wasm.compile.module import shared_of
from callgate.wasm.compile.values import XMM_TYPES
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import NAMES, FuncType, spell
from callgate.wasm.validate import BLOCK, ELSE, END, IF, LOOP, Body, Context, check_body

_CALLS: Final = ("call", "return_call", "ref.func")
_TYPED: Final = ("drop", "select", "else", "end")
"""What the immediates of these tell is not written."""


def spell_instruction(module: ModuleData, opcode: int, immediate: Any) -> str:
    """An instruction of a Body in the text format, functions by their names.

    >>> from callgate.wasm.binary import decode
    >>> spell_instruction(decode(b"\\0asm\\1\\0\\0\\0"), 0x44, 0x4000000000000000)
    'f64.const 2.0'
    """
    row = INSTRUCTIONS[opcode]
    name = row.name
    if immediate is None or name in _TYPED:
        return name
    if isinstance(immediate, FuncType):
        return name if immediate == FuncType((), ()) else f"{name} {immediate}"
    if name in _CALLS:
        return f"{name} {module.function_name(immediate)}"
    if name in ("call_indirect", "return_call_indirect"):
        return f"{name} {module.types[immediate[0]]}" + (f" in table {immediate[1]}" if immediate[1] else "")
    if name in ("f32.const", "f64.const"):
        size = 4 if name == "f32.const" else 8
        (number,) = struct.unpack("<f" if size == 4 else "<d", immediate.to_bytes(size, "little"))
        return f"{name} {number!r}" if number == number else f"{name} nan:{immediate:#x}"  # noqa: PLR0124
    if name == "v128.const":
        return f"{name} {immediate:#034x}"
    if name == "ref.null":
        return f"{name} {NAMES[immediate]}"
    numbers = immediate if isinstance(immediate, tuple) else (immediate,)
    if row.immediates and row.immediates[0].startswith("memory"):
        words = [f"offset={numbers[0]}"] if numbers[0] else []
        return " ".join([name, *words, *map(str, numbers[1:])])
    return " ".join([name, *map(str, numbers)])


def explain_function(context: Context, options: Options, number: int) -> str:
    """The listing of a function, by its number among all; it must not be an imported one."""
    body = check_body(context, number - context.module.imported_functions)
    return ListingCompiler(shared_of(context, options), body).compile().listing


class ListingCompiler(FunctionCompiler):
    """A compiler of functions whose `listing` has the WebAssembly instructions as well."""

    __slots__ = ("_cold_at", "_marks")

    def __init__(self, shared: Shared, body: Body) -> None:
        self._marks: list[tuple[int, int]] = []  # how many lines there are before an instruction's, and its number
        self._cold_at = 0
        super().__init__(shared, body, has_listing=True)

    def _emitters(self) -> Emitters:
        return {opcode: self._marking(emit) for opcode, emit in EMITTERS.items()}

    def _marking(self, emit: Callable[[FunctionCompiler, Any], None]) -> Callable[[FunctionCompiler, Any], None]:
        def mark_and_emit(compiler: FunctionCompiler, immediate: Any) -> None:
            self._marks.append((self.a.line_count, self.next - 1))
            emit(compiler, immediate)

        return mark_and_emit

    def _emit_cold(self) -> None:
        self._cold_at = self.a.line_count
        super()._emit_cold()

    def reach(self, opcode: int, callee: int) -> None:
        start = len(self.a.code)
        super().reach(opcode, callee)
        name = self.shared.context.module.function_name(callee)
        text = f"{'call' if opcode == 0xE8 else 'jmp'} {name}"
        self.a.record(start, is_instruction=True, text=text)

    def _listing(self, code: Code) -> str:
        """The head, then each instruction, by its offset in the module, above its code."""
        module = self.shared.context.module
        body = self.body
        name, number = module.function_name(body.number), f"function {body.number}"
        rows = [f"{number}{'' if name == number else f', {name}'}: {body.type}, {len(code.data):,} bytes of code"]
        rows += [f"  {line}" for line in self._locals()]
        marks = [*self._marks, (self._cold_at, len(body.instructions))]
        lines = code.listing().splitlines()
        rows += lines[: marks[0][0]]
        depth = 1
        for (start, first), (end, behind) in pairwise(marks):
            for opcode, immediate, offset in body.instructions[first:behind]:
                depth -= opcode in (ELSE, END)
                rows.append(f"{offset:#8x} {'  ' * depth}{spell_instruction(module, opcode, immediate)}")
                depth += opcode in (BLOCK, LOOP, IF, ELSE)
            rows += lines[start:end]
        if self._cold_at < len(lines):
            rows += ["out of line:", *lines[self._cold_at :]]
        return "\n".join(rows)

    def _locals(self) -> Sequence[str]:
        """Where each local is."""
        parameters = len(self.body.type.parameters)
        rows = []
        for local, value in enumerate(self.body.locals):
            pin = self.pins[local]
            names = NAMES_XMM if value in XMM_TYPES else NAMES_64
            what = "parameter" if local < parameters else "local"
            rows.append(f"{what} {local}: {spell((value,))[1:-1]} in {names[pin] if pin >= 0 else 'memory'}")
        return rows
