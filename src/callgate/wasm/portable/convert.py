"""Between values as Python programs have them, as translated code has them, and as words; functions of other kinds.

A program has signed integers; translated code has unsigned ones (see `numbers` for floats).  A v128 is bytes and an
externref the object itself on both sides.  A funcref is a Function to a program and a Record to translated code.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from callgate.c.layout import size_bytes
from callgate.c.types import Kind, Parameter, Passing, Result, Returning
from callgate.cpython.conversion import Box, Unbox, box_step, unbox_step
from callgate.runtime import ctypes_engine, reference
from callgate.target import DATA_MODEL
from callgate.wasm.annotations import Value
from callgate.wasm.compile.stubs import c_type, has_direct_stub
from callgate.wasm.errors import ClosedError
from callgate.wasm.host import HostFunction
from callgate.wasm.portable.calls import alive
from callgate.wasm.portable.numbers import f32_bits, f32_of_bits, f64_bits, f64_of_bits, round_f32
from callgate.wasm.store import Function, Store, function_of, hold_owner, pack
from callgate.wasm.types import F32, F64, FUNCREF, I32, I64, NAMES, REFERENCES, FuncType

_MASKS: Final = {I32: 0xFFFF_FFFF, I64: 0xFFFF_FFFF_FFFF_FFFF}
_KEYS: dict[FuncType, FuncType] = {}


def key_of(signature: FuncType) -> FuncType:
    """The one record that stands for a function type: types are compared by identity."""
    return _KEYS.setdefault(signature, signature)


# -- references -------------------------------------------------------------------------------------------------------


class Record:
    """A function as a funcref of translated code: `raw` is what that calls, `key` the type.

    It does not keep its instance, which may so have its own functions in its tables and be freed with its last
    reference; where records go from one instance to another, their stores keep both (see `Store`).  `foreign` is a
    function of compiled mode, which the record does keep.
    """

    __slots__ = ("_home", "foreign", "key", "number", "raw")

    def __init__(
        self, raw: Callable[..., Any], signature: FuncType, home: Any, number: int, foreign: Function | None = None
    ) -> None:
        self.raw = raw
        self.key = key_of(signature)
        self.number = number
        self.foreign = foreign
        self._home: weakref.ref[Any] | None = weakref.ref(home) if home is not None else None

    def function(self) -> Function:
        """The function as programs have it."""
        if self.foreign is not None or self._home is None:
            assert self.foreign is not None  # it has one or the other
            return self.foreign
        core = self._home()
        if core is None:
            raise ClosedError("the instance that has the function is being taken apart")
        found: Function = core.function(self.number)
        return found


def encode_reference(kind: int, value: Any, store: Store) -> Any:
    """A reference for translated code, whose instance has this store."""
    if kind != FUNCREF or value is None or isinstance(value, Record):
        return value
    function = function_of(value)
    if function.record:  # of compiled mode
        return Record(adapted(function, function.type, function.name, (), store), function.type, None, -1, function)
    hold_owner(function, store)
    return function.owner.record(function.number)


# -- values -----------------------------------------------------------------------------------------------------------


def to_python(kind: int, raw: Any) -> Any:
    """A value of translated code for a program."""
    if kind == I32:
        return (raw ^ 0x8000_0000) - 0x8000_0000
    if kind == I64:
        return (raw ^ 0x8000_0000_0000_0000) - 0x8000_0000_0000_0000
    return raw.function() if kind == FUNCREF and raw is not None else raw


def to_raw(kind: int, value: Any, where: str, store: Store) -> Any:
    """A program's value for translated code; TypeError, OverflowError or ValueError (`where` ...) for no such value."""
    if kind not in REFERENCES:
        return from_words((kind,), pack(kind, value, where, store))[0]
    if kind == FUNCREF and value is not None and not isinstance(function_of(value), Function):
        raise TypeError(f"{where} must be an exported function or None, not {type(value).__name__}")
    return encode_reference(kind, value, store)


def from_words(kinds: Sequence[int], words: Sequence[int]) -> list[Any]:
    """Values for translated code out of their bits."""
    given = iter(words)
    values: list[Any] = []
    for kind in kinds:
        word = next(given)
        match kind:
            case 0x7F:
                values.append(word & 0xFFFF_FFFF)
            case 0x7E:
                values.append(word & 0xFFFF_FFFF_FFFF_FFFF)
            case 0x7D:
                values.append(f32_of_bits(word & 0xFFFF_FFFF))
            case 0x7C:
                values.append(f64_of_bits(word & 0xFFFF_FFFF_FFFF_FFFF))
            case 0x7B:
                values.append((word | next(given) << 64).to_bytes(16, "little"))
            case _:
                raise TypeError(f"a {NAMES[kind]} has no bits in portable mode")
    return values


def to_words(kinds: Sequence[int], results: Any) -> list[int]:
    """The bits of what translated code has returned."""
    if not kinds:
        return []
    words: list[int] = []
    for kind, value in zip(kinds, (results,) if len(kinds) == 1 else results, strict=True):
        match kind:
            case 0x7F | 0x7E:
                words.append(int(value))
            case 0x7D:
                words.append(f32_bits(value))
            case 0x7C:
                words.append(f64_bits(value))
            case 0x7B:
                number = int.from_bytes(value, "little")
                words += [number & 0xFFFF_FFFF_FFFF_FFFF, number >> 64]
            case _:
                raise TypeError(f"a {NAMES[kind]} has no bits in portable mode")
    return words


# -- numbers as C declares them ---------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """How a number gets across: text where `{0}` is the value and `{1}` the name of `convert`, which always can."""

    text: str
    convert: Callable[[Any], Any]


def taking(name: str, number: int, parameter: Parameter, kind: int) -> Crossing:
    """As a gate takes an argument, with its errors; number 0 is the result of a function that C calls."""
    step = unbox_step(parameter, DATA_MODEL)
    formal = reference.Formal(name, number, parameter, step, None)
    if kind == F64:
        return Crossing("{0} if type({0}) is float else {1}({0})", lambda it: reference.to_value(formal, it)[0])
    if kind == F32:
        return Crossing("{1}({0})", lambda it: round_f32(reference.to_value(formal, it)[0]))
    mask = _MASKS[kind]
    text = "{1}({0})"
    if 8 * step.size_bytes == mask.bit_length() and step.kind in (Unbox.SIGNED, Unbox.UNSIGNED):
        low = -(mask >> 1) - 1 if step.kind is Unbox.SIGNED else 0
        text = f"{{0}} & {mask} if type({{0}}) is int and {low} <= {{0}} <= {low + mask} else {{1}}({{0}})"
    return Crossing(text, lambda it: int(reference.to_value(formal, it)[0]) & mask)


def giving(result: Result, kind: int) -> Crossing:
    """As a gate gives a result."""
    step = box_step(result, DATA_MODEL)
    number = Value(kind, None, result).number
    if kind in (F32, F64) or number is None:
        return Crossing("{0}", lambda raw: raw)
    bits = 8 * size_bytes(number, DATA_MODEL)
    mask, sign = (1 << bits) - 1, 1 << bits - 1
    is_whole = mask == _MASKS[kind] and step.kind in (Box.SIGNED, Box.UNSIGNED)
    match number.kind:
        case Kind.BOOLEAN:
            return Crossing("{1}({0})", lambda raw: ctypes_engine.box(step, result, raw & mask != 0))
        case Kind.SIGNED:
            text = f"({{0}} ^ {sign}) - {sign}" if is_whole else "{1}({0})"
            return Crossing(text, lambda raw: ctypes_engine.box(step, result, ((raw & mask) ^ sign) - sign))
    text = f"{{0}} & {mask}" if is_whole else "{1}({0})"
    return Crossing(text, lambda raw: ctypes_engine.box(step, result, raw & mask))


# -- functions that translated code calls -----------------------------------------------------------------------------


def host_function(function: HostFunction[..., Any], core: weakref.ref[Any], store: Store) -> Callable[..., Any]:
    """A host function as a function of translated code."""
    call: Callable[..., Any] = function.function
    if function.takes_instance:
        plain = call

        def call(*arguments: Any) -> Any:
            return plain(alive(core).facade(), *arguments)

    if has_direct_stub(function.signature):
        return _like_a_callback(call, function)
    return adapted(call, function.signature, function.__name__, function.values, store)


HOST_FILE: Final = "<wasm host function>"


def _like_a_callback(call: Callable[..., Any], function: HostFunction[..., Any]) -> Callable[..., Any]:
    """For numbers: a host function is given and gives what a callback of C would be."""
    (parameters, results), declared = function.signature, function.declared
    name = function.name if declared is None else declared.name
    shown = [Result(c_type(kind), Returning.VALUE) for kind in parameters] if declared is None else declared.parameters
    given = [giving(one, kind) for one, kind in zip(shown, parameters, strict=True)]
    names = ", ".join([f"a{at}" for at in range(len(given))])
    called = f"call({', '.join([one.text.format(f'a{at}', f'g{at}') for at, one in enumerate(given)])})"
    bindings: dict[str, Any] = {f"g{at}": one.convert for at, one in enumerate(given)}
    lines = [f"def make({', '.join(['call', *bindings, *(['t'] if results else [])])}):", f" def adapted({names}):"]
    if results:
        wanted = declared.result if declared is not None else None
        taken = taking(name, 0, wanted or Parameter("", c_type(results[0]), Passing.VALUE), results[0])
        lines += [f"  r = {called}", f"  return {taken.text.format('r', 't')}"]
        bindings["t"] = taken.convert
    else:
        lines.append(f"  {called}")
    made: Callable[..., Any] = made_of("\n".join([*lines, " return adapted"]), HOST_FILE)(call, **bindings)
    return made


@functools.lru_cache(1000)
def made_of(text: str, file: str) -> Callable[..., Callable[..., Any]]:
    """What makes functions: the `make` of a text."""
    scope: dict[str, Any] = {"place_keywords": reference.place_keywords}
    exec(compile(text, file, "exec", dont_inherit=True), scope)
    made: Callable[..., Callable[..., Any]] = scope["make"]
    return made


def adapted(
    call: Callable[..., Any], signature: FuncType, name: str, values: Sequence[Value], store: Store
) -> Callable[..., Any]:
    """A Python callable as a function of translated code; `values` tell how it wants its arguments."""
    parameters, results = signature
    shown: list[Value | None] = list(values) or [None] * len(parameters)
    where, count = f"the result of {name}()", len(results)

    def adapted_values(*arguments: Any) -> Any:
        given = [to_python(kind, one) for kind, one in zip(parameters, arguments, strict=True)]
        result = call(*[one if value is None else value.present(one) for one, value in zip(given, shown, strict=True)])
        if count == 1:
            return to_raw(results[0], result, where, store)
        if not count:
            return None
        if not isinstance(result, (tuple, list)):
            raise TypeError(f"{where} must be a tuple of {count} values, not {type(result).__name__}")
        if len(result) != count:
            raise ValueError(f"{where} must be a tuple of {count} values, not of {len(result)}")
        return tuple(
            [
                to_raw(kind, one, f"item {number} of {where}", store)
                for number, (kind, one) in enumerate(zip(results, result, strict=True))
            ]
        )

    return adapted_values


HOST_CODE: Final = adapted(abs, FuncType((), ()), "", (), Store()).__code__
"""The code of all such functions."""
