"""What a C header declares, as plain records: made by `header`, rendered by `module_text`.

Names are C's here; what they are called in Python is decided when the module is written.  Records and enums refer to
each other by key (clang's USR), because structs refer to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple, TypeAlias


class Location(NamedTuple):
    """A place in a header; `file` is as short as it can be said."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


# --- types -----------------------------------------------------------------------------------------------------------


class Named(NamedTuple):
    """A scalar that callgate has a name for: `i32`, `usize`, `char`."""

    name: str
    size_bytes: int


class Nothing(NamedTuple):
    """`void`."""


class AliasOf(NamedTuple):
    """A typedef of the library's own."""

    name: str
    to: HeaderType


class RecordRef(NamedTuple):
    """A struct or union by value; `Header.records` has it."""

    key: str


class EnumRef(NamedTuple):
    """An enum; `scalar` is the integer type that carries it."""

    key: str
    scalar: Named


class PointerTo(NamedTuple):
    """A pointer; `is_const` tells whether what it points to is const."""

    to: HeaderType
    is_const: bool = False


class ArrayOf(NamedTuple):
    """An array; `length` is 0 for a flexible one."""

    element: HeaderType
    length: int
    is_const: bool = False


class Prototype(NamedTuple):
    """The type of a function."""

    parameters: tuple[HeaderType, ...]
    result: HeaderType
    is_variadic: bool = False


class NotCarried(NamedTuple):
    """A type that callgate has no name for: `what` names it, the size is for its place in a struct.

    `python_type` is what stands for it as an argument and result; where it is "" too, the type has no place in a call.
    """

    what: str
    size_bytes: int = 0
    align_bytes: int = 1
    python_type: str = ""


HeaderType: TypeAlias = "Named | Nothing | AliasOf | RecordRef | EnumRef | PointerTo | ArrayOf | Prototype | NotCarried"


# --- declarations ----------------------------------------------------------------------------------------------------


class FieldOf(NamedTuple):
    """A member of a struct or union; `bits` is the width of a bit-field, "" the name of what has none."""

    name: str
    type: HeaderType
    bits: int | None
    bit_offset: int
    size_bytes: int
    align_bytes: int
    is_anonymous: bool
    doc: str


class RecordOf(NamedTuple):
    """A struct or union; `fields` is None where only C knows them."""

    key: str
    name: str
    tag: str
    fields: tuple[FieldOf, ...] | None
    size_bytes: int
    align_bytes: int
    is_own: bool
    is_nested: bool
    doc: str
    location: Location


class EnumMember(NamedTuple):
    """An enumerator."""

    name: str
    value: int
    doc: str


class EnumOf(NamedTuple):
    """An enum; `name` is "" for an anonymous one."""

    key: str
    name: str
    members: tuple[EnumMember, ...]
    size_bytes: int
    is_own: bool
    doc: str
    location: Location


class TypedefOf(NamedTuple):
    """A typedef of the library's own."""

    name: str
    type: HeaderType
    doc: str
    location: Location


class ParameterOf(NamedTuple):
    """A parameter; `name` is "" where the header gives none."""

    name: str
    type: HeaderType


class FunctionOf(NamedTuple):
    """A function; `symbol` differs from its name where the header says so, `refusal` tells why it cannot be bound."""

    name: str
    symbol: str
    parameters: tuple[ParameterOf, ...]
    result: HeaderType
    is_variadic: bool
    is_inline: bool
    refusal: str
    doc: str
    location: Location


class ConstantOf(NamedTuple):
    """An object-like macro with a value; `is_hexadecimal` tells how the header writes it.

    `pointer` is the type of an address, as in `((destructor)-1)`, and None for other values.
    """

    name: str
    value: int | float | str | bytes
    is_hexadecimal: bool
    pointer: HeaderType | None
    doc: str
    location: Location


class NotBound(NamedTuple):
    """What the module does not have: the name in C and why."""

    name: str
    reason: str
    location: Location


Declared: TypeAlias = RecordOf | EnumOf | TypedefOf
"""What declares a type."""


class Header(NamedTuple):
    """All that a header declares.

    `types` are in an order in which what a struct holds by value comes before it.
    """

    name: str
    types: tuple[Declared, ...]
    functions: tuple[FunctionOf, ...]
    constants: tuple[ConstantOf, ...]
    not_bound: tuple[NotBound, ...]

    @property
    def records(self) -> dict[str, RecordOf]:
        """The structs and unions by key."""
        return {declared.key: declared for declared in self.types if isinstance(declared, RecordOf)}

    @property
    def enums(self) -> dict[str, EnumOf]:
        """The enums by key."""
        return {declared.key: declared for declared in self.types if isinstance(declared, EnumOf)}


def stripped(ctype: HeaderType) -> HeaderType:
    """The type behind typedefs."""
    while isinstance(ctype, AliasOf):
        ctype = ctype.to
    return ctype


def children(ctype: HeaderType) -> tuple[HeaderType, ...]:
    """The types that a type is made of."""
    match ctype:
        case AliasOf(to=to) | PointerTo(to=to) | ArrayOf(element=to):
            return (to,)
        case Prototype(parameters=parameters, result=result):
            return (*parameters, result)
        case _:
            return ()


def innermost(ctype: HeaderType) -> HeaderType:
    """The type behind typedefs and arrays."""
    ctype = stripped(ctype)
    while isinstance(ctype, ArrayOf):
        ctype = stripped(ctype.element)
    return ctype


def not_by_value(ctype: HeaderType, records: Mapping[str, RecordOf]) -> str:
    """What keeps a value from travelling in a call, or ""."""
    match stripped(ctype):
        case NotCarried(what=what, python_type=""):
            return what
        case RecordRef(key=key):
            return _not_in_struct(records.get(key), records)
    return ""


def _not_in_struct(record: RecordOf | None, records: Mapping[str, RecordOf]) -> str:
    if record is None or record.fields is None:
        return "an incomplete type"
    for field in record.fields:
        inner = innermost(field.type)
        what = inner.what if isinstance(inner, NotCarried) else not_by_value(inner, records)
        if what:
            return f"a {record.tag} with {what}"
    return ""


def holds(ctype: HeaderType, keys: Set[str], records: Mapping[str, RecordOf]) -> bool:
    """Whether a value is, or has in it, one of the structs `keys`."""
    inner = innermost(ctype)
    if not isinstance(inner, RecordRef):
        return False
    record = records.get(inner.key)
    fields = (record.fields if record else None) or ()
    return inner.key in keys or any(holds(field.type, keys, records) for field in fields)
