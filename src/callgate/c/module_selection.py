"""Which of a header's declarations a module gets: those that are asked for, and the types that they need."""

from __future__ import annotations

import re

from callgate.c.header_model import (
    AliasOf,
    EnumOf,
    EnumRef,
    Header,
    HeaderType,
    RecordOf,
    RecordRef,
    TypedefOf,
    children,
)


def selected(header: Header, only: str | None) -> Header:
    """The header without what `only` leaves out, and without foreign types that nothing needs."""
    pattern = re.compile(only or ".*")
    functions = tuple(function for function in header.functions if pattern.fullmatch(function.name))
    constants = tuple(constant for constant in header.constants if pattern.fullmatch(constant.name))
    not_bound = tuple(item for item in header.not_bound if pattern.fullmatch(item.name))
    by_key: dict[str, RecordOf | EnumOf | TypedefOf] = {_key(declared): declared for declared in header.types}
    needed: set[str] = set()

    def need(key: str) -> None:
        declared = by_key.get(key)
        if declared is None or key in needed:
            return
        needed.add(key)
        match declared:
            case RecordOf(fields=fields):
                for field in fields or ():
                    need_types(field.type)
            case TypedefOf(type=ctype):
                need_types(ctype)

    def need_types(ctype: HeaderType) -> None:
        match ctype:
            case RecordRef(key=key) | EnumRef(key=key):
                need(key)
            case AliasOf(name=name):
                need(f"typedef {name}")
        for inner in children(ctype):
            need_types(inner)

    for function in functions:
        if not function.refusal:
            for ctype in (function.result, *(parameter.type for parameter in function.parameters)):
                need_types(ctype)
    for constant in constants:
        if constant.pointer is not None and constant.value:
            need_types(constant.pointer)
    for key, declared in by_key.items():
        is_own = declared.is_own if not isinstance(declared, TypedefOf) else True
        names = [declared.name] if declared.name else []
        if isinstance(declared, EnumOf) and (not declared.name or only):
            names += [member.name for member in declared.members]
        is_nested = isinstance(declared, RecordOf) and declared.is_nested
        if is_own and not is_nested and any(pattern.fullmatch(name) for name in names):
            need(key)
    kept = tuple(declared for key, declared in by_key.items() if key in needed)
    return Header(header.name, kept, functions, constants, not_bound)


def _key(declared: RecordOf | EnumOf | TypedefOf) -> str:
    return f"typedef {declared.name}" if isinstance(declared, TypedefOf) else declared.key
