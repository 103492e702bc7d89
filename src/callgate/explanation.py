"""`callgate.explain`: a declaration, where its arguments travel, and the annotated machine code, as text.

The module is not called `explain`: importing it would put a module in the place of the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callgate.abi.plan import classify
from callgate.bind import with_python_types
from callgate.c.layout import size_bytes
from callgate.c.types import Array, FunctionType, Pointer, Void, declaration, spell
from callgate.cpython.conversion import Conversion, Judgement, convert
from callgate.cpython.layout import CPYTHON_3_13, LAYOUTS, Layout
from callgate.library import gate
from callgate.lower.call import lower_call
from callgate.lower.machine import Machine
from callgate.target import TARGETS, X86_64_LINUX, Target


def explain(function: Callable[..., Any] | str, *, target: str | None = None, layout: str | None = None) -> str:
    """Show how a function is called: declaration, layout of its types, plan, annotated listing.

    `function` is a gate, or a C declaration as text, which needs no library.  `target` is "x86_64-linux" (the only
    one yet); `layout` the object layout, "cpython-3.13" (also for 3.12) or "cpython-3.11" (also for 3.10).  A gate
    is shown as it is in this process unless one of them is given.

    Raises DeclarationError for bad C text, ValueError for an unknown target or layout.

    >>> print(explain("int abs(int n)").splitlines()[0])
    int abs(int n)
    """
    if isinstance(function, str):
        from callgate.c.declarations import parse_function  # a gate needs no parser

        signature = with_python_types(parse_function(function, _target(target)), {})
        conversion = convert(
            signature, _target(target), judgement=Judgement.NEVER, saves_errno=False, is_blocking=False
        )
        return explain_signature(signature, conversion, Machine(_target(target), _layout(layout)))
    record = gate(function)
    if target is None and layout is None:
        return record.explain()
    return explain_signature(record.signature, record.conversion, Machine(_target(target), _layout(layout)))


def _target(name: str | None) -> Target:
    if name is None:
        return X86_64_LINUX
    if name not in TARGETS:
        raise ValueError(f"unknown target {name!r}; known are {', '.join(TARGETS)}")
    return TARGETS[name]


def _layout(name: str | None) -> Layout:
    if name is None:
        return CPYTHON_3_13
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}; known are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def explain_signature(signature: FunctionType, conversion: Conversion, machine: Machine) -> str:
    """The text that `explain` gives for one function and machine; the golden listings are made of it."""
    plan = classify(signature, machine.target)
    code = lower_call(plan, conversion, machine, with_listing=True)
    parts = [
        declaration(signature),
        f"target {machine.target.name}, objects as in {machine.layout.name}",
        "types\n" + "\n".join(_type_lines(signature, machine.target)),
        str(plan),
        f"code: {len(code.data)} bytes, shared by all functions of this shape",
        code.listing(),
    ]
    return "\n\n".join(parts)


def _type_lines(signature: FunctionType, target: Target) -> list[str]:
    types = dict.fromkeys([*(parameter.type for parameter in signature.parameters), signature.result.type])
    lines = []
    for ctype in types:
        if isinstance(ctype, Void):
            continue
        passed = Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype
        lines.append(f"  {spell(ctype):<24} {size_bytes(passed, target)} bytes")
    return lines or ["  none"]
