"""WebAssembly: modules run in a sandbox, behind the same interface as native libraries."""

from __future__ import annotations

from callgate.wasm.errors import (
    BinaryError,
    ClosedError,
    DivisionByZero,
    Frame,
    IndirectCallMismatch,
    IntegerOverflow,
    InvalidConversion,
    LinkError,
    OutOfBounds,
    OutOfFuel,
    StackExhausted,
    TableOutOfBounds,
    TimedOut,
    Trap,
    UndefinedElement,
    UninitializedElement,
    Unreachable,
    ValidationError,
)
from callgate.wasm.exports import Exports
from callgate.wasm.host import HostFunction, host
from callgate.wasm.instance import Instance, Module, load
from callgate.wasm.limits import Limits
from callgate.wasm.memory import Memory
from callgate.wasm.store import Function, Global, Table

__all__ = [
    "BinaryError",
    "ClosedError",
    "DivisionByZero",
    "Exports",
    "Frame",
    "Function",
    "Global",
    "HostFunction",
    "IndirectCallMismatch",
    "Instance",
    "IntegerOverflow",
    "InvalidConversion",
    "Limits",
    "LinkError",
    "Memory",
    "Module",
    "OutOfBounds",
    "OutOfFuel",
    "StackExhausted",
    "Table",
    "TableOutOfBounds",
    "TimedOut",
    "Trap",
    "UndefinedElement",
    "UninitializedElement",
    "Unreachable",
    "ValidationError",
    "host",
    "load",
]
