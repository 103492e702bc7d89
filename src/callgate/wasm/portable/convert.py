"""Between values as Python programs have them, as translated code has them, and as words.

A program has signed integers; translated code has unsigned ones (see `numbers` for floats).  A v128 is bytes and a
reference the object itself on both sides.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from callgate.wasm.portable.numbers import f32_bits, f32_of_bits, f64_bits, f64_of_bits
from callgate.wasm.store import Function, function_of, pack
from callgate.wasm.types import F32, F64, FUNCREF, I32, I64, NAMES, REFERENCES, FuncType

_BITS = {I32: 32, I64: 64}


def to_python(kind: int, raw: Any) -> Any:
    """A value of translated code for a program."""
    if kind == I32:
        return (raw ^ 0x8000_0000) - 0x8000_0000
    if kind == I64:
        return (raw ^ 0x8000_0000_0000_0000) - 0x8000_0000_0000_0000
    return raw


def to_raw(kind: int, value: Any, where: str) -> Any:
    """A program's value for translated code; TypeError, OverflowError or ValueError (`where` ...) for no such value."""
    if kind not in REFERENCES:
        low, high = pack(kind, value, where, _NO_STORE)
        return from_words((kind,), (low, high))[0]
    if kind == FUNCREF and value is not None:
        function = function_of(value)
        if not isinstance(function, Function):
            raise TypeError(f"{where} must be an exported function or None, not {type(value).__name__}")
        return function
    return value


_NO_STORE: Any = None  # numbers need none


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


def entry_of(core: Any, number: int, name: str, signature: FuncType) -> Callable[..., Any]:
    """A function of an instance as a program calls it."""
    entry = _maker(signature)(core, f"f{number}", name)
    entry.__name__ = entry.__qualname__ = name
    entry.wasm_function = functools.partial(core.function, number)
    made: Callable[..., Any] = entry
    return made


ENTRY_FILE: Final = "<wasm entry>"
_ENTRY = """\
def make(core, key, name):
    namespace = core.namespace
    release = core._lock.release
    def entry(*arguments):
        if len(arguments) != {count}:
            wrong_count(name, {count}, len(arguments))
        {unpack}
        if not core.acquire(False):
            core.refuse()
        core.depth += 1
        try:
            if core._is_metered and core.depth == 1:
                core.begin()
            r = namespace[key]({names})
        except Exception as error:
            problem = core.explain(error)
            if problem is error:
                raise
            raise problem.with_traceback(error.__traceback__) from None
        finally:
            core.depth -= 1
            release()
        {finish}
    return entry
"""


@functools.cache
def _maker(signature: FuncType) -> Callable[..., Any]:
    """What makes the entries of functions of a type."""
    parameters, results = signature
    # what C has no type for is converted otherwise in compiled mode too: unsigned integers are taken there
    is_plain = len(results) <= 1 and min((*parameters, *results), default=F64) >= F64
    lines = []
    if parameters:
        lines.append(f"{', '.join([f'a{at}' for at in range(len(parameters))])}, = arguments")
    for at, kind in enumerate(parameters):
        convert = (
            f"argument(name, {at + 1}, {kind}, a{at})"
            if is_plain
            else f"value({kind}, a{at}, name + '() argument {at + 1}')"
        )
        slow = f"a{at} = {convert}"
        match kind:
            case 0x7F:
                lines.append(
                    f"a{at} = a{at} & 0xffffffff if type(a{at}) is int and -0x80000000 <= a{at} <= 0x7fffffff "
                    f"else {convert}"
                )
            case 0x7C:
                lines.append(f"if type(a{at}) is not float: {slow}")
            case _:
                lines.append(slow)
    match len(results):
        case 0:
            finish = "return None"
        case 1:
            finish = f"return {_python_text(results[0], 'r')}"
        case _:
            finish = "return " + ", ".join([_python_text(kind, f"r[{at}]") for at, kind in enumerate(results)])
    text = _ENTRY.format(
        count=len(parameters),
        unpack="\n        ".join(lines) or "pass",
        names=", ".join([f"a{at}" for at in range(len(parameters))]),
        finish=finish,
    )
    scope: dict[str, Any] = {"argument": _argument, "value": to_raw, "wrong_count": _wrong_count}
    exec(compile(text, ENTRY_FILE, "exec"), scope)
    made: Callable[..., Any] = scope["make"]
    return made


def _python_text(kind: int, name: str) -> str:
    if kind == I32:
        return f"({name} ^ 0x80000000) - 0x80000000"
    if kind == I64:
        return f"({name} ^ 0x8000000000000000) - 0x8000000000000000"
    return name


def _argument(name: str, number: int, kind: int, value: Any) -> Any:
    """A program's argument for translated code, with the errors of a gate."""
    wanted = {I32: "int", I64: "int", F32: "float", F64: "float"}.get(kind)
    if wanted is None:
        return to_raw(kind, value, f"{name}() argument {number}")
    is_int = hasattr(type(value), "__index__")
    if wanted == "int":
        if not is_int:
            raise TypeError(f"{name}() argument {number} must be int, not {_type_name(value)}")
        integer = operator.index(value)
        half = 1 << _BITS[kind] - 1
        if not -half <= integer < half:
            raise OverflowError(
                f"{name}() argument {number} must be in {-half}..{half - 1} (int{_BITS[kind]}_t), not {integer}"
            )
        return integer & 2 * half - 1
    if not is_int and not hasattr(type(value), "__float__"):
        raise TypeError(f"{name}() argument {number} must be float, not {_type_name(value)}")
    return to_raw(kind, value, f"{name}() argument {number}")


def _type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _wrong_count(name: str, wanted: int, given: int) -> None:
    plural = "" if wanted == 1 else "s"
    raise TypeError(f"{name}() takes exactly {wanted} argument{plural} ({given} given)")
