"""`callgate.explain`: a declaration, where its arguments travel, and the annotated machine code, as text.

The module is not called `explain`: importing it would put a module in the place of the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callgate.abi.plan import classify, classify_types
from callgate.asm.code import Code
from callgate.bind import with_python_types
from callgate.c.layout import record_layout, size_bytes
from callgate.c.types import (
    Array,
    CallbackType,
    FunctionPrototype,
    FunctionType,
    Pointer,
    Record,
    Void,
    declaration,
    spell,
)
from callgate.cpython.conversion import Conversion, Judgement, SavedError, convert, convert_callback
from callgate.cpython.layout import CPYTHON_3_13, LAYOUTS, Layout
from callgate.errors import EngineError
from callgate.library import gate
from callgate.lower.call import lower_call
from callgate.lower.callback import lower_callback
from callgate.lower.machine import Machine
from callgate.runtime.callbacks import Callback
from callgate.target import TARGETS, X86_64_LINUX, Target


def explain(function: Callable[..., Any] | str, *, target: str | None = None, layout: str | None = None) -> str:
    """Show how a function is called: declaration, layout of its types, plan, annotated listing.

    `function` is a gate, a callback, or a C declaration as text, which needs no library.  `target` is "x86_64-linux",
    "x86_64-macos", "x86_64-windows", "aarch64-linux" or "aarch64-macos" (the text says where no code can be made
    yet); `layout` the object layout, "cpython-3.11" (also for 3.10), "cpython-3.13" (also for 3.12), "cpython-3.14" or
    "cpython-3.15".
    A gate is shown as it is in this process unless one of them is given.

    Raises DeclarationError for bad C text, ValueError for an unknown target or layout.

    >>> print(explain("int abs(int n)").splitlines()[0])
    int abs(int n)
    """
    if isinstance(function, str):
        from callgate.c.declarations import parse_function  # a gate needs no parser

        signature = with_python_types(parse_function(function, _target(target)), {})
        conversion = convert(
            signature, _target(target), judgement=Judgement.NEVER, saved_error=SavedError.NONE, is_blocking=False
        )
        return explain_signature(signature, conversion, Machine(_target(target), _layout(layout)))
    if isinstance(function, Callback):
        return explain_callback(function.type, Machine(_target(target), _layout(layout)))
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
    parts = [
        declaration(signature),
        f"target {machine.target.name}, objects as in {machine.layout.name}",
        "types\n" + "\n".join(_type_lines(signature, machine.target)),
        str(plan),
        _code_text(lambda: lower_call(plan, conversion, machine, with_listing=True), "functions of this shape"),
    ]
    return "\n\n".join(parts)


def _code_text(lower: Callable[[], Code], sharers: str) -> str:
    """The listing of what `lower` makes, or why it makes nothing."""
    try:
        code = lower()
    except EngineError as refusal:
        return f"code: {refusal}"
    return f"code: {len(code.data)} bytes, shared by all {sharers}\n\n{code.listing()}"


def _type_lines(signature: FunctionType, target: Target) -> list[str]:
    types = dict.fromkeys([*(parameter.type for parameter in signature.parameters), signature.result.type])
    lines = []
    for ctype in types:
        if isinstance(ctype, Void):
            continue
        passed = Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype
        lines.append(f"  {spell(ctype):<24} {size_bytes(passed, target)} bytes")
        if isinstance(ctype, Record) and ctype.members is not None:
            lines += _member_lines(ctype, target)
    return lines or ["  none"]


def _member_lines(record: Record, target: Target) -> list[str]:
    """Where the members of a struct lie."""
    lines = []
    for place in record_layout(record, target).places:
        member = place.member
        where = f"+{place.offset_bytes}"
        if member.bits is not None:
            where += f", {member.bits} bits from bit {place.bit_offset % 8}"
        lines.append(f"    {where:<6} {spell(member.type, member.name)}")
    return lines


def explain_callback(declared: CallbackType, machine: Machine) -> str:
    """The same text for a function that C calls; the golden listings are made of it."""
    types = [parameter.type for parameter in declared.parameters]
    plan = classify_types(types, declared.result_type, machine.target)
    conversion = convert_callback(declared, machine.target)
    parts = [
        spell(Pointer(FunctionPrototype(declared.prototype)), declared.name),
        f"target {machine.target.name}, objects as in {machine.layout.name}",
        str(plan),
        _code_text(
            lambda: lower_callback(plan, conversion, machine, with_listing=True),
            "callbacks of this shape; C enters by a thunk",
        ),
    ]
    return "\n\n".join(parts)
