"""Names of C as names of Python: keywords, prefixes, what Python would mangle, and what is taken already."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from callgate.c.header_model import EnumOf, FunctionOf, Header, Named, RecordOf, TypedefOf, stripped

MODULE_RESERVED = frozenset(
    (
        *("cg", "lib", "annotations", "bytes", "cast", "complex", "ctypes"),
        *("IntEnum", "IntFlag", "Protocol", "TYPE_CHECKING", "NOT_BOUND"),
    )
)
"""Names of a generated module that mean something else there."""

FUNCTION_RESERVED = frozenset(("function", "bytes", "complex"))
"""`Library.function` declares functions; the others are annotations."""

MEMBER_RESERVED = frozenset(("_fields_", "_pack_", "_anonymous_", "_align_", "_layout_"))
ENUM_RESERVED = frozenset(("mro", "name", "value"))


def identifier(name: str, taken: Iterable[str] = (), reserved: frozenset[str] = frozenset()) -> str:
    """A Python identifier for a C name, none of `taken`.

    >>> identifier("lambda"), identifier("__data"), identifier("x", ["x"])
    ('lambda_', 'data', 'x_')
    """
    made = name.replace("$", "_")
    if made.startswith("__"):  # mangled in a class
        made = made.lstrip("_") or "_"
    if not made.isidentifier():
        made = f"_{made}"
    if keyword.iskeyword(made) or made in reserved:
        made += "_"
    while made in taken:
        made += "_"
    return made


def without_prefix(name: str, prefixes: Sequence[str]) -> str:
    """A name without the first of `prefixes` that leaves a usable one."""
    for prefix in prefixes:
        rest = name.removeprefix(prefix)
        if rest != name and rest.isidentifier() and not keyword.iskeyword(rest):
            return rest
    return name


def class_name(header: str) -> str:
    """The name of the Protocol for a header: `curl/curl.h` gives Curl.

    >>> class_name("SDL2/SDL.h"), class_name("my-lib.h")
    ('SDL', 'MyLib')
    """
    stem = header.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    words = "".join(character if character.isalnum() else " " for character in stem).split()
    made = "".join(word[:1].upper() + word[1:] for word in words)
    return made if made.isidentifier() else f"Lib{made}"


class Names(NamedTuple):
    """The names of a module: of types by key (typedefs by name), of the others by their names in C."""

    protocol: str
    types: dict[str, str]
    methods: dict[str, str]
    enumerators: dict[str, str]
    constants: dict[str, str]


def names_for(header: Header, functions: Sequence[FunctionOf], prefixes: Sequence[str]) -> Names:
    """Give everything its name: functions among themselves, then types, enumerators and constants."""
    methods: dict[str, str] = {}
    for function in functions:
        name = identifier(without_prefix(function.name, prefixes), methods.values(), FUNCTION_RESERVED)
        methods[function.name] = name
    declared_names = {declared.name for declared in header.types} | {constant.name for constant in header.constants}
    protocol = class_name(header.name)
    if protocol in declared_names or protocol in methods.values():
        protocol += "Library"
    taken = {protocol}

    def take(c_name: str) -> str:
        name = identifier(without_prefix(c_name, prefixes), taken, MODULE_RESERVED)
        taken.add(name)
        return name

    types: dict[str, str] = {}
    enumerators: dict[str, str] = {}
    anonymous = 0
    for declared in header.types:
        if isinstance(declared, EnumOf) and not declared.name:
            enumerators.update({member.name: take(member.name) for member in declared.members})
            continue
        if isinstance(declared, TypedefOf) and _is_callgates(declared):
            continue
        anonymous += not declared.name
        c_name = declared.name or f"_anonymous_{anonymous}"
        if isinstance(declared, RecordOf) and declared.is_nested:
            c_name = f"_{c_name}"
        if without_prefix(c_name, prefixes) in methods.values():
            # struct stat and the function stat have namespaces of their own in C only
            c_name = f"{_tag(declared)}_{without_prefix(c_name, prefixes)}"
        types[declared.name if isinstance(declared, TypedefOf) else declared.key] = take(c_name)
    constants = {
        constant.name: take(constant.name)
        for constant in header.constants
        if constant.name not in methods and constant.name not in enumerators  # a macro that stands for itself
    }
    return Names(protocol, types, methods, enumerators, constants)


def _tag(declared: RecordOf | EnumOf | TypedefOf) -> str:
    match declared:
        case RecordOf(tag=tag):
            return tag
        case EnumOf():
            return "enum"
        case TypedefOf():
            return "type"


def _is_callgates(typedef: TypedefOf) -> bool:
    """Whether a typedef has the name and the meaning of one of callgate's names."""
    target = stripped(typedef.type)
    return isinstance(target, Named) and target.name == typedef.name


def scoped_names(header: Header, names: Names) -> frozenset[str]:
    """All names that mean something of the module's own in some scope of it."""
    scoped = {names.protocol, *names.types.values(), *names.constants.values(), *names.enumerators.values()}
    scoped.update(names.methods.values())
    for record in header.records.values():
        scoped.update(field.name for field in record.fields or ())
    for enum in header.enums.values():
        scoped.update(member.name for member in enum.members)
    return frozenset(scoped)
