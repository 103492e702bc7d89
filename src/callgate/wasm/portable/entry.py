"""Functions of an instance as a program calls them.

Nearly all of a call is made of text for the function's type, as gates are; a Protocol's declaration is converted by the
reference conversion, so that both modes take the same and refuse it in the same words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from callgate.c.types import FunctionType, Parameter, Passing, Result, Returning
from callgate.runtime.ctypes_engine import describe
from callgate.wasm.compile.stubs import c_type, has_direct_stub
from callgate.wasm.portable.convert import Crossing, giving, made_of, taking, to_python, to_raw
from callgate.wasm.types import FUNCREF, I32, I64, FuncType

ENTRY_FILE: Final = "<wasm entry>"
_TEXT = """\
def make(core, key, name, names{bindings}):
    namespace = core.namespace
    release = core.release
    def entry(*arguments, **named):
        if named or len(arguments) != {count}:
            arguments = place_keywords(name, names, arguments, named)
        {unpack}
        if not core.acquire(False):
            core.refuse()
        core.depth += 1
        try:
            if core.is_timed and core.depth == 1:
                core.begin()
            r = namespace[key]({arguments})
        except BaseException as error:
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


def entry_of(core: Any, number: int, name: str, signature: FuncType) -> Callable[..., Any]:
    """A function of an instance by its own type."""
    if has_direct_stub(signature):
        taken = [
            taking(name, at, Parameter("", c_type(kind), Passing.VALUE), kind)
            for at, kind in enumerate(signature.parameters, 1)
        ]
        given = [giving(Result(c_type(kind), Returning.VALUE), kind) for kind in signature.results]
    else:  # what C has no type for
        taken = [_taking(core, name, at, kind) for at, kind in enumerate(signature.parameters, 1)]
        given = [Crossing(_GIVEN.get(kind, "{0}"), functools.partial(to_python, kind)) for kind in signature.results]
    entry = _entry(core, number, name, (None,) * len(taken), taken, given)
    entry.__name__ = entry.__qualname__ = name
    made: Callable[..., Any] = entry
    return made


def typed_entry(core: Any, number: int, declared: FunctionType) -> Callable[..., Any]:
    """A function of an instance as a Protocol declares it, with C types of the same sizes and kinds."""
    signature: FuncType = core.signature(number)
    taken = [
        taking(declared.name, at, parameter, kind)
        for at, (parameter, kind) in enumerate(zip(declared.parameters, signature.parameters, strict=True), 1)
    ]
    given = [giving(declared.result, kind) for kind in signature.results]
    names = [one.name if at >= declared.positional_only else None for at, one in enumerate(declared.parameters)]
    entry = _entry(core, number, declared.name, tuple(names), taken, given)
    describe(entry, declared)
    made: Callable[..., Any] = entry
    return made


def _taking(core: Any, name: str, at: int, kind: int) -> Crossing:
    where, store = f"{name}() argument {at}", core.store
    return Crossing("{1}({0})", lambda it: to_raw(kind, it, where, store))


_GIVEN: Final = {
    I32: "({0} ^ 0x80000000) - 0x80000000",
    I64: "({0} ^ 0x8000000000000000) - 0x8000000000000000",
    FUNCREF: "{1}({0})",
}


def _entry(
    core: Any, number: int, name: str, names: tuple[str | None, ...], taken: list[Crossing], given: list[Crossing]
) -> Any:
    arguments = [f"a{at}" for at in range(len(taken))]
    unpack = [f"{', '.join(arguments)}, = arguments"] if arguments else []
    unpack += [f"{a} = {one.text.format(a, f't{a}')}" for a, one in zip(arguments, taken, strict=True)]
    results = ["r"] if len(given) == 1 else [f"r[{at}]" for at in range(len(given))]
    shown = [one.text.format(r, f"g{at}") for at, (r, one) in enumerate(zip(results, given, strict=True))]
    bindings = {f"t{a}": one.convert for a, one in zip(arguments, taken, strict=True)}
    bindings |= {f"g{at}": one.convert for at, one in enumerate(given)}
    text = _TEXT.format(
        bindings="".join([f", {one}" for one in bindings]),
        count=len(taken),
        unpack="\n        ".join(unpack) or "pass",
        arguments=", ".join(arguments),
        finish=f"return {', '.join(shown)}" if shown else "return None",
    )
    entry: Any = made_of(text, ENTRY_FILE)(core, f"f{number}", name, names, **bindings)
    entry.wasm_function = functools.partial(core.function, number)
    return entry


def enter(core: Any, number: int, arguments: Sequence[Any]) -> Any:
    """Call a function from outside, with and for values as translated code has them."""
    if not core.acquire(False):
        core.refuse()
    core.depth += 1
    try:
        if core.is_timed and core.depth == 1:
            core.begin()
        return core.namespace[f"f{number}"](*arguments)
    except BaseException as error:
        problem = core.explain(error)
        if problem is error:
            raise
        raise problem.with_traceback(error.__traceback__) from None
    finally:
        core.depth -= 1
        core.release()
