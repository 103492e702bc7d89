"""What compiles each instruction, by opcode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.compile import calls, control, variables
from callgate.wasm.compile.floats import float_emitters
from callgate.wasm.compile.function import FunctionCompiler
from callgate.wasm.compile.integers import integer_emitters
from callgate.wasm.compile.memory import memory_emitters
from callgate.wasm.compile.vectors import vector_emitters
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import F32, F64, I32, I64, V128

_CONTROL: Final[dict[str, Any]] = {
    "unreachable": control.unreachable,
    "nop": variables.nop,
    "block": control.block,
    "loop": control.loop,
    "if": control.if_,
    "else": control.else_,
    "end": control.end,
    "br": control.br,
    "br_if": control.br_if,
    "br_table": control.br_table,
    "return": control.return_,
    "call": calls.call,
    "call_indirect": calls.call_indirect,
    "return_call": calls.return_call,
    "return_call_indirect": calls.return_call_indirect,
    "drop": variables.drop,
    "local.get": variables.local_get,
    "local.set": variables.local_set,
    "local.tee": variables.local_tee,
    "global.get": variables.global_get,
    "global.set": variables.global_set,
    "i32.const": variables.number(I32),
    "i64.const": variables.number(I64),
    "f32.const": variables.number(F32),
    "f64.const": variables.number(F64),
    "v128.const": variables.number(V128),
    "memory.grow": calls.call_hidden("memory.grow", result=I32),
    "memory.init": calls.call_hidden("memory.init", immediates=1),
    "data.drop": calls.call_hidden("data.drop", immediates=1),
    "table.grow": calls.call_hidden("table.grow", immediates=1, result=I32),
    "table.fill": calls.call_hidden("table.fill", immediates=1),
    "table.copy": calls.call_hidden("table.copy", immediates=2),
    "table.init": calls.call_hidden("table.init", immediates=2),
    "elem.drop": calls.call_hidden("elem.drop", immediates=1),
}
_BY_NAME: Final[dict[str, Any]] = {
    **_CONTROL,
    **integer_emitters(),
    **float_emitters(),
    **memory_emitters(),
    **vector_emitters(),
}

EMITTERS: Final[dict[int, Callable[[FunctionCompiler, Any], None]]] = {
    opcode: _BY_NAME[row.name] for opcode, row in INSTRUCTIONS.items()
}
