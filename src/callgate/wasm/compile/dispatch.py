"""What compiles each instruction, by opcode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from callgate.wasm.compile import function as f
from callgate.wasm.compile.floats import float_emitters
from callgate.wasm.compile.integers import integer_emitters
from callgate.wasm.compile.memory import memory_emitters
from callgate.wasm.compile.vectors import vector_emitters
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import F32, F64, I32, I64, V128

_CONTROL: Final[dict[str, Any]] = {
    "unreachable": f.unreachable,
    "nop": f.nop,
    "block": f.block,
    "loop": f.loop,
    "if": f.if_,
    "else": f.else_,
    "end": f.end,
    "br": f.br,
    "br_if": f.br_if,
    "br_table": f.br_table,
    "return": f.return_,
    "call": f.call,
    "call_indirect": f.call_indirect,
    "return_call": f.return_call,
    "return_call_indirect": f.return_call_indirect,
    "drop": f.drop,
    "local.get": f.local_get,
    "local.set": f.local_set,
    "local.tee": f.local_tee,
    "global.get": f.global_get,
    "global.set": f.global_set,
    "i32.const": f.number(I32),
    "i64.const": f.number(I64),
    "f32.const": f.number(F32),
    "f64.const": f.number(F64),
    "v128.const": f.number(V128),
    "memory.grow": f.call_hidden("memory.grow", result=I32),
    "memory.init": f.call_hidden("memory.init", immediates=1),
    "data.drop": f.call_hidden("data.drop", immediates=1),
    "table.grow": f.call_hidden("table.grow", immediates=1, result=I32),
    "table.fill": f.call_hidden("table.fill", immediates=1),
    "table.copy": f.call_hidden("table.copy", immediates=2),
    "table.init": f.call_hidden("table.init", immediates=2),
    "elem.drop": f.call_hidden("elem.drop", immediates=1),
}
_BY_NAME: Final[dict[str, Any]] = {
    **_CONTROL,
    **integer_emitters(),
    **float_emitters(),
    **memory_emitters(),
    **vector_emitters(),
}

EMITTERS: Final[dict[int, Callable[[f.FunctionCompiler, Any], None]]] = {
    opcode: _BY_NAME[row.name] for opcode, row in INSTRUCTIONS.items()
}
