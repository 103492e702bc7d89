"""Calls from Python: what a gate keeps alive, functions whose arguments are converted here, calls with bits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from callgate.c.types import VOID, FunctionType, Parameter, Passing, Result, Returning
from callgate.runtime.code_memory import Block
from callgate.runtime.reference import place_keywords
from callgate.wasm.compile.layout import area_of
from callgate.wasm.compile.stubs import area_bytes, c_type
from callgate.wasm.native.hosts import read_value, write_value
from callgate.wasm.native.words import MASK, Words
from callgate.wasm.store import Function
from callgate.wasm.types import F32, I32, V128, FuncType

if TYPE_CHECKING:
    from callgate.wasm.native.core import Core


class Holder:
    """What a gate of an exported function keeps alive."""

    __slots__ = ("block", "core", "number")

    def __init__(self, core: Core, number: int, block: Block) -> None:
        self.core = core
        self.number = number
        self.block = block

    @property
    def _name(self) -> str:
        """How a gate calls what it is from."""
        return self.core.module.name or "a WebAssembly module"

    def function(self) -> Function:
        """The function as a reference."""
        return self.core.function(self.number)


def declare(name: str, signature: FuncType) -> FunctionType:
    """A function of numbers as a C declaration."""
    result = (
        Result(c_type(signature.results[0]), Returning.VALUE) if signature.results else Result(VOID, Returning.NOTHING)
    )
    parameters = tuple(Parameter("", c_type(value), Passing.VALUE) for value in signature.parameters)
    return FunctionType(name, parameters, result)


class Converter:
    """A function of a type that C functions don't have, as Python calls it."""

    __slots__ = ("__name__", "_call", "_core", "_number", "_signature")

    def __init__(self, core: Core, number: int, signature: FuncType, name: str) -> None:
        self._core = core
        self._number = number
        self._signature = signature
        self._call = core.raw(number)
        self.__name__ = name

    def wasm_function(self) -> Function:
        """The function as a reference."""
        return self._core.function(self._number)

    def __repr__(self) -> str:
        return f"<wasm function {self.__name__}{self._signature}>"

    def __call__(self, *given: Any, **named: Any) -> Any:
        signature, store = self._signature, self._core.store
        arguments = place_keywords(self.__name__, (None,) * len(signature.parameters), given, named)
        area, size = area_of(signature), area_bytes(signature)
        buffer = (Words * (size // 8 + 2))()
        base = ctypes.addressof(buffer)
        for position, (kind, offset, argument) in enumerate(
            zip(signature.parameters, area.arguments, arguments, strict=True), 1
        ):
            write_value(kind, base + offset, argument, f"{self.__name__}() argument {position}", store)
        self._call(base)
        if not signature.results:
            return None
        places = (size, *area.results)
        results = tuple(
            [read_value(kind, base + offset, store) for kind, offset in zip(signature.results, places, strict=True)]
        )
        return results[0] if len(results) == 1 else results


def call_raw(core: Core, number: int, words: Sequence[int]) -> list[int]:
    """Call a function with its arguments' bits, two words for a v128; the results' bits."""
    signature = core.module.types[core.module.functions[number]]
    area = area_of(signature)
    size = area_bytes(signature)
    buffer = (Words * (size // 8 + 2))()
    given = iter(words)
    for value, offset in zip(signature.parameters, area.arguments, strict=True):
        buffer[offset // 8] = next(given)
        if value == V128:
            buffer[offset // 8 + 1] = next(given)
    core.raw(number)(ctypes.addressof(buffer))
    results = []
    for value, offset in zip(signature.results, (size, *area.results), strict=False):
        word = buffer[offset // 8]
        results.append(word & MASK if value in (I32, F32) else word)
        if value == V128:
            results.append(buffer[offset // 8 + 1])
    return results
