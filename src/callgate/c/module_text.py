"""The text of a Python module that binds a header: the parts, in their order, and which names they have.

Types are written by `module_types` and `module_records`, lines are broken by `module_lines`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from callgate.c.doc_comments import first_sentence
from callgate.c.header_model import (
    AliasOf,
    EnumOf,
    EnumRef,
    FunctionOf,
    Header,
    HeaderType,
    NotBound,
    RecordOf,
    RecordRef,
    TypedefOf,
    children,
    holds,
    stripped,
)
from callgate.c.module_lines import docstring, folded, literal, quoted, with_remark
from callgate.c.module_names import ENUM_RESERVED, identifier, names_for, scoped_names, without_prefix
from callgate.c.module_records import fit, opaque_lines, record_lines
from callgate.c.module_selection import selected
from callgate.c.module_types import Annotations, has_alias
from callgate.c.passing import python_name
from callgate.target import DATA_MODEL


class Wishes(NamedTuple):
    """What a module is to be like.

    `libraries` are the candidates that it loads; `only` limits functions and constants (the whole name matches);
    `prefixes` are left out of names; `missing` are the functions that the library does not have, with the reason;
    `command` is shown in the module's docstring.
    """

    libraries: tuple[str, ...]
    only: str | None = None
    prefixes: tuple[str, ...] = ()
    missing: Mapping[str, str] = {}
    command: str = ""


class Module(NamedTuple):
    """A module's text, what it binds, and what it does not."""

    text: str
    functions: tuple[str, ...]
    types: tuple[str, ...]
    constants: tuple[str, ...]
    not_bound: tuple[NotBound, ...]


def module_of(header: Header, wishes: Wishes) -> Module:
    """Write the module that binds a header."""
    return _Writer(selected(header, wishes.only), wishes).module()


# --- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes one module."""

    def __init__(self, header: Header, wishes: Wishes) -> None:
        self.header = header
        self.wishes = wishes
        self.not_bound = list(header.not_bound)
        records = header.records.values()
        self.unfit = frozenset(
            record.key for record in records if record.fields is not None and fit(record, header) is None
        )
        self.functions = self._bindable()
        chosen = names_for(header, self.functions, wishes.prefixes)
        self.names = chosen.types
        self.constant_names = chosen.constants
        self.enumerator_names = chosen.enumerators
        self.method_names = chosen.methods
        self.protocol = chosen.protocol
        self.annotations = Annotations(header, self.names, scoped_names(header, chosen), self.unfit)
        self.written: set[str] = set()

    def _bindable(self) -> list[FunctionOf]:
        """The functions that can be bound; the others go to `not_bound`."""
        bindable, refused = [], []
        for function in self.header.functions:
            reason = function.refusal or self.wishes.missing.get(function.name, "")
            travelling = (function.result, *(parameter.type for parameter in function.parameters))
            if not reason and any(holds(ctype, self.unfit, self.header.records) for ctype in travelling):
                reason = "a struct whose layout no declaration gives"
            if reason:
                refused.append(NotBound(function.name, reason, function.location))
            else:
                bindable.append(function)
        self.not_bound = refused + self.not_bound
        return bindable

    # -- the parts

    def module(self) -> Module:
        """The whole module; imports are known last."""
        constants = self._constants()
        enums = [line for enum in self.header.enums.values() if enum.name for line in ["", "", *self._enum(enum)]]
        records = self._types()
        records += self._addresses()
        protocol = self._protocol()
        not_bound = self._not_bound()
        parts = [
            self._docstring(),
            [""],
            self._imports(bool(enums)),
            *([[""], constants] if constants else []),
            enums,
            records,
            protocol,
            not_bound,
        ]
        lines = [line for part in parts for line in part]
        types = tuple(self.names[key] for key in self.names)
        return Module(
            "\n".join(lines) + "\n",
            tuple(self.method_names[function.name] for function in self.functions),
            types,
            (*self.enumerator_names.values(), *self.constant_names.values()),
            tuple(self.not_bound),
        )

    def _docstring(self) -> list[str]:
        made = f"The library {self._libraries()} as {self.header.name} declares it."
        return docstring(f"{made}\n\nMade by: {self.wishes.command}" if self.wishes.command else made, 0)

    def _libraries(self) -> str:
        """The candidates in words, without the folders of this machine."""
        return " or ".join(PurePath(name).name for name in self.wishes.libraries)

    def _imports(self, has_enums: bool) -> list[str]:
        lines = ["from __future__ import annotations", ""]
        enums = {self._enum_base(enum) for enum in self.header.enums.values() if enum.name}
        if enums:
            lines.append(f"from enum import {', '.join(sorted(enums))}")
        typing = ["Protocol"] if self.functions else []
        if any(field.is_anonymous for record in self.header.records.values() for field in record.fields or ()):
            typing.append("TYPE_CHECKING")
        addresses = [constant for constant in self.header.constants if constant.pointer is not None and constant.value]
        if addresses:
            lines.insert(2, "import ctypes")
            typing.append("cast")
        if typing:
            lines.append(f"from typing import {', '.join(sorted(typing, key=_import_order))}")
        if len(lines) > 2:
            lines.append("")
        lines.append("import callgate as cg")
        if self.annotations.imported:
            names = sorted(self.annotations.imported, key=_import_order)
            lines += _import_lines(f"from callgate import {', '.join(names)}", names)
        return lines

    def _constants(self) -> list[str]:
        lines = []
        for enum in self.header.enums.values():
            if enum.name:
                continue
            for member in enum.members:
                value = f"{self.enumerator_names[member.name]} = {member.value}"
                lines += with_remark(value, member.doc, 0)
        for constant in self.header.constants:
            if constant.name in self.constant_names and constant.pointer is None:
                value = f"{self.constant_names[constant.name]} = {literal(constant.value, constant.is_hexadecimal)}"
                lines += with_remark(value, constant.doc, 0)
        return lines

    @staticmethod
    def _enum_base(enum: EnumOf) -> str:
        return "IntFlag" if is_flags([member.value for member in enum.members]) else "IntEnum"

    def _enum(self, enum: EnumOf) -> list[str]:
        base = self._enum_base(enum)
        lines = [f"class {self.names[enum.key]}({base}):", *docstring(enum.doc, 4)]
        if enum.doc and enum.members:
            lines.append("")
        taken: list[str] = []
        for member in enum.members:
            name = identifier(without_prefix(member.name, self.wishes.prefixes), taken, ENUM_RESERVED)
            taken.append(name)
            value = literal(member.value, base == "IntFlag")
            lines += with_remark(f"{name} = {value}", member.doc, 4)
        if not enum.members and not enum.doc:
            lines.append("    pass")
        return lines

    def _types(self) -> list[str]:
        """Handles first, then each type after what it needs to be evaluated."""
        lines: list[str] = []
        records = self.header.records.values()
        for record in records:
            if record.fields is None:
                lines += ["", "", *opaque_lines(record, self.names[record.key])]
                self.written.add(record.key)
        for enum in self.header.enums.values():
            self.written.add(enum.key)
        waiting: list[TypedefOf] = []
        was_alias = False
        for declared in self.header.types:
            block: list[str] = []
            if isinstance(declared, RecordOf) and declared.fields is not None:
                block = record_lines(declared, self.names[declared.key], self.header, self.annotations)
                block = ["", "", *self._second_names(), *block]
                self.written.add(declared.key)
                was_alias = False
            elif isinstance(declared, TypedefOf) and declared.name in self.names:
                waiting.append(declared)
            lines += block
            aliases = self._ready(waiting)
            if aliases:
                lines += (["", ""] if not was_alias else []) + aliases
                was_alias = True
        lines += self._second_names()
        return lines

    def _addresses(self) -> list[str]:
        """The constants that are pointers; they need the types."""
        lines: list[str] = []
        for constant in self.header.constants:
            if constant.name not in self.constant_names or constant.pointer is None:
                continue
            name = self.constant_names[constant.name]
            annotation = self._alias_of(constant.pointer)
            annotation = annotation or self.annotations.member(constant.pointer).removesuffix(" | None")
            number = constant.value if isinstance(constant.value, int) else 0
            pointer_bits = 8 * DATA_MODEL.pointer_bytes
            signed = number - (1 << pointer_bits) if number >> (pointer_bits - 1) else number
            if not number:
                value = "None"
            elif annotation.startswith("Ptr[") and annotation != "Ptr[None]":
                value = f"ctypes.cast({signed}, {annotation})"
            else:
                value = f"cast({quoted(annotation)}, ctypes.c_void_p({signed}))"
            lines += with_remark(f"{name} = {value}", constant.doc, 0)
        return ["", "", *lines] if lines else []

    def _alias_of(self, ctype: HeaderType) -> str | None:
        """A typedef for the type of a constant: clang gives the type behind it."""
        for declared in self.header.types:
            is_alias = isinstance(declared, TypedefOf) and declared.name in self.annotations.aliases
            if isinstance(declared, TypedefOf) and is_alias and stripped(declared.type) == stripped(ctype):
                return self.names[declared.name]
        return None

    def _second_names(self) -> list[str]:
        """Other names for types whose own name is a member where they are used."""
        names = {f"{second} = {first}" for first, second in self.annotations.second_names.items()}
        made = sorted(names - self.written)
        self.written |= names
        return [*made, "", ""] if made else []

    def _ready(self, waiting: list[TypedefOf]) -> list[str]:
        """The typedefs whose targets are written by now, each on a line."""
        lines: list[str] = []
        for typedef in list(waiting):
            if not has_alias(typedef.type):
                waiting.remove(typedef)
                del self.names[typedef.name]
                continue
            if any(key not in self.written for key in _runtime_keys(typedef.type)):
                continue
            waiting.remove(typedef)
            name = self.names[typedef.name]
            target = self.annotations.member(typedef.type).removesuffix(" | None")
            self.annotations.aliases.add(typedef.name)
            self.written.add(f"typedef {typedef.name}")
            if target != name:
                lines += with_remark(f"{name} = {target}", first_sentence(typedef.doc), 0)
        return lines

    def _protocol(self) -> list[str]:
        if not self.functions:
            return []
        lines = ["", "", f"class {self.protocol}(Protocol):", *docstring(f"The functions of {self._libraries()}.", 4)]
        was_short = False
        for function in self.functions:
            method = self._method(function)
            is_short = len(method) == 1
            if not (is_short and was_short):
                lines.append("")
            lines += method
            was_short = is_short
        names = ", ".join(quoted(name) for name in self.wishes.libraries)
        library = names if len(self.wishes.libraries) == 1 else f"({names})"
        return [*lines, "", "", *folded(f"lib = cg.load({library}, {self.protocol})")]

    def _method(self, function: FunctionOf) -> list[str]:
        name = self.method_names[function.name]
        annotations = self.annotations
        taken = ["self"]
        parts = ["self"]
        is_named = all(parameter.name for parameter in function.parameters)
        for number, parameter in enumerate(function.parameters, 1):
            chosen = identifier(python_name(parameter.name) or f"arg{number}", taken)
            taken.append(chosen)
            parts.append(f"{chosen}: {annotations.argument(parameter.type)}")
        if function.parameters and not is_named:
            parts.append("/")
        if function.is_variadic:
            parts.append(f"*{identifier('args', taken)}: {annotations.of_callgate('VarArg')}")
        lines = []
        if function.symbol != name:
            lines.append(f'    @cg.function(symbol="{function.symbol}")')
        signature = f"def {name}({', '.join(parts)}) -> {annotations.result(function.result)}:"
        if function.doc:
            return [*lines, *folded(signature, 4), *docstring(function.doc, 8), "        ..."]
        return [*lines, *folded(f"{signature} ...", 4)]

    def _not_bound(self) -> list[str]:
        if not self.not_bound:
            return []
        lines = ["", "NOT_BOUND = ("]
        for item in self.not_bound:
            lines += folded(f"({quoted(item.name)}, {quoted(item.reason)}),", 4)
        return [*lines, ")", '"""What the header has and this module does not: name and reason."""']


# --- details ---------------------------------------------------------------------------------------------------------


def _runtime_keys(ctype: HeaderType) -> Iterable[str]:
    """The types that must be there when an alias is evaluated."""
    match ctype:
        case RecordRef(key=key) | EnumRef(key=key):
            yield key
        case AliasOf(name=name, to=to) if has_alias(to):
            yield f"typedef {name}"
        case _:
            for inner in children(ctype):
                yield from _runtime_keys(inner)


def is_flags(values: Sequence[int]) -> bool:
    """Whether an enum's values are bits to be combined: at least three single bits, not just counted through.

    >>> is_flags([0, 1, 2, 4]), is_flags([1, 2, 3, 4]), is_flags([0, 1, 2])
    (True, False, False)
    """
    if any(value < 0 for value in values):
        return False
    filled = {value for value in values if value}
    bits = {value for value in filled if value & (value - 1) == 0}
    is_counted = len(filled) > 2 and max(filled) - min(filled) == len(filled) - 1
    return len(bits) >= 3 and 2 * len(bits) >= len(filled) and not is_counted


def _import_order(name: str) -> tuple[int, str]:
    """isort's order: constants, classes, the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, _natural(name))


def _natural(name: str) -> str:
    """Numbers within names sort as numbers."""
    return re.sub(r"[0-9]+", lambda found: found[0].zfill(6), name)


def _import_lines(line: str, names: Sequence[str]) -> list[str]:
    if len(line) <= 120:
        return [line]
    return ["from callgate import (", *(f"    {name}," for name in names), ")"]
