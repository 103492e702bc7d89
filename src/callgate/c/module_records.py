"""Structs and unions as classes, with what `field()` must say for them to lie as the compiler lays them out."""

from __future__ import annotations

import re
from typing import NamedTuple

from callgate.c import types
from callgate.c.header_model import (
    ArrayOf,
    EnumRef,
    FieldOf,
    Header,
    HeaderType,
    Named,
    NotCarried,
    PointerTo,
    RecordOf,
    RecordRef,
    innermost,
    stripped,
)
from callgate.c.layout import RecordLayout, record_layout
from callgate.c.module_lines import docstring, with_remark
from callgate.c.module_names import MEMBER_RESERVED, identifier
from callgate.c.module_types import Annotations
from callgate.errors import DeclarationError
from callgate.target import DATA_MODEL

_BIT_FIELD_CARRIERS = {
    ("signed", 1): types.INT8,
    ("signed", 2): types.INT16,
    ("signed", 4): types.INT32,
    ("signed", 8): types.INT64,
    ("unsigned", 1): types.UINT8,
    ("unsigned", 2): types.UINT16,
    ("unsigned", 4): types.UINT32,
    ("unsigned", 8): types.UINT64,
}


class Fit(NamedTuple):
    """What makes a class lie as the struct does in C: `pack=`, `align=`, and the fields' own `align=` by index."""

    pack_bytes: int
    align_bytes: int
    field_aligns: dict[int, int]


def members(record: RecordOf) -> list[FieldOf]:
    """The fields that a class shows: what has no size only moves the next one, but for a flexible array at the end."""
    fields = record.fields or ()
    return [
        field
        for field in fields
        if field.bits != 0 and (field.bits or field.size_bytes or _is_flexible(field, field is fields[-1], record))
    ]


def _is_flexible(field: FieldOf, is_last: bool, record: RecordOf) -> bool:
    return is_last and record.tag == "struct" and isinstance(stripped(field.type), ArrayOf)


def fit(record: RecordOf, header: Header) -> Fit | None:
    """Find a Fit, the simplest first; None where there is none, and the class can only be bytes."""
    for may_align in (False, True):
        for pack_bytes in (0, 1, 2, 4, 8):
            found = _fit_packed(record, header, pack_bytes, may_align)
            if found is not None:
                return found
    return None


def _fit_packed(record: RecordOf, header: Header, pack_bytes: int, may_align: bool) -> Fit | None:
    aligns: dict[int, int] = {}
    while True:
        layout = _layout(record, header, pack_bytes, 0, aligns)
        if layout is None:
            return None
        wrong = _first_wrong(record, layout)
        if wrong is None:
            break
        index, found = wrong
        wanted = members(record)[index].bit_offset
        if not may_align or wanted < found or wanted % 8 or index in aligns:
            return None
        offset = wanted // 8
        aligns[index] = min(offset & -offset, record.align_bytes)
    align_bytes = record.align_bytes if layout.align_bytes < record.align_bytes else 0
    whole = _layout(record, header, pack_bytes, align_bytes, aligns)
    if whole and (whole.size_bytes, whole.align_bytes) == (record.size_bytes, record.align_bytes):
        return Fit(pack_bytes, align_bytes, aligns)
    return None


def _layout(
    record: RecordOf, header: Header, pack_bytes: int, align_bytes: int, aligns: dict[int, int]
) -> RecordLayout | None:
    made = []
    for index, field in enumerate(members(record)):
        ctype = _carrier(field) if field.bits is not None else _stand_in(field, header)
        made.append(types.Member(f"m{index}", ctype, field.bits, aligns.get(index, _own_align(field.type))))
    try:
        return record_layout(types.Record("trial", record.tag, tuple(made), pack_bytes, align_bytes), DATA_MODEL)
    except DeclarationError:
        return None


def _first_wrong(record: RecordOf, layout: RecordLayout) -> tuple[int, int] | None:
    for index, (field, place) in enumerate(zip(members(record), layout.places, strict=True)):
        if field.bit_offset != place.bit_offset:
            return index, place.bit_offset
    return None


def _carrier(field: FieldOf) -> types.Scalar:
    ctype = stripped(field.type)
    if isinstance(ctype, EnumRef):
        ctype = ctype.scalar
    if isinstance(ctype, Named) and ctype.name == "bool_":
        return types.BOOL
    return _BIT_FIELD_CARRIERS["signed", field.size_bytes]


def _stand_in(field: FieldOf, header: Header) -> types.CType:
    """A type of the size and alignment that the annotation of a field has."""
    ctype = stripped(field.type)
    size = types.Array(types.UINT8, field.size_bytes)
    if isinstance(ctype, ArrayOf) and not field.size_bytes:
        return types.Array(_block(types.Array(types.UINT8, 1), natural_align(ctype, header)), 0)
    return _block(size, natural_align(ctype, header))


def _block(size: types.Array, align_bytes: int) -> types.Record:
    return types.Record("block", "struct", (types.Member("bytes", size),), 0, align_bytes)


def natural_align(ctype: HeaderType, header: Header) -> int:
    """The alignment of what an annotation stands for, in bytes."""
    match stripped(ctype):
        case Named(size_bytes=size):
            return size
        case EnumRef(scalar=scalar):
            return scalar.size_bytes
        case PointerTo():
            return DATA_MODEL.pointer_bytes
        case ArrayOf(element=element):
            return natural_align(element, header)
        case RecordRef(key=key):
            return header.records[key].align_bytes
    return 1


def _own_align(ctype: HeaderType) -> int:
    """The alignment that must be said for what is shown as bytes."""
    inner = innermost(ctype)
    return inner.align_bytes if isinstance(inner, NotCarried) else 0


# --- text ------------------------------------------------------------------------------------------------------------


def opaque_lines(record: RecordOf, name: str) -> list[str]:
    """The class of a handle."""
    if not record.doc:
        return [f"class {name}(cg.Opaque): ..."]
    return [f"class {name}(cg.Opaque):", *docstring(record.doc, 4)]


def record_lines(record: RecordOf, name: str, header: Header, annotations: Annotations) -> list[str]:
    """The class of a struct or union."""
    base = "cg.Union" if record.tag == "union" else "cg.Struct"
    if not members(record):
        return [f"class {name}({base}):", *(docstring(record.doc, 4) or ["    pass"])]
    found = fit(record, header)
    if found is None:
        return _bytes_lines(record, name, base, annotations)
    options = [base]
    if found.pack_bytes:
        options.append(f"pack={found.pack_bytes}")
    if found.align_bytes:
        options.append(f"align={found.align_bytes}")
    lines = [f"class {name}({', '.join(options)}):", *docstring(record.doc, 4)]
    taken: list[str] = []
    python_names = []
    for number, field in enumerate(members(record)):
        python_names.append(identifier(field.name or f"{_path(record)}_{number}", taken, MEMBER_RESERVED))
        taken.append(python_names[-1])
    annotations.shadowed = frozenset(taken)
    try:
        body: list[str] = []
        for number, (field, python_name) in enumerate(zip(members(record), python_names, strict=True)):
            align = found.field_aligns.get(number, _own_align(field.type))
            line = _field_line(field, python_name, align, annotations)
            body += with_remark(line, field.doc, 4)
        shown = _anonymous_members(record, header, annotations)
    finally:
        annotations.shadowed = frozenset()
    if shown:
        body += ["", "    if TYPE_CHECKING:", *(f"        {line}" for line in shown)]
    if lines[1:] and body:
        lines.append("")
    return [*lines, *(body or ([] if lines[1:] else ["    pass"]))]


def _path(record: RecordOf) -> str:
    """What tells the nameless members of nested structs apart: Python shows them all in the outermost."""
    numbers = re.search(r"(?:_[0-9]+)+$", record.name) if record.is_nested else None
    return numbers[0] if numbers else ""


def _bytes_lines(record: RecordOf, name: str, base: str, annotations: Annotations) -> list[str]:
    """A class that has the size and alignment, and no members."""
    array, u8, field = (annotations.of_callgate(word) for word in ("Array", "u8", "field"))
    return [
        f"class {name}({base}):",
        *docstring(record.doc or "A layout that no declaration gives: only bytes are shown.", 4),
        "",
        f"    _bytes: {array}[{u8}] = {field}(length={record.size_bytes}, align={record.align_bytes})",
    ]


def _field_line(field: FieldOf, name: str, align: int, annotations: Annotations) -> str:
    said = []
    ctype = stripped(field.type)
    if field.bits is not None:
        carrier = ctype.scalar if isinstance(ctype, EnumRef) else ctype
        word = {"char": "i8", "wchar": "i32"}.get(carrier.name, carrier.name) if isinstance(carrier, Named) else "i32"
        annotation = annotations.alias(field.type) if word == getattr(carrier, "name", "") else None
        annotation = annotation or annotations.of_callgate(word)
        said.append(f"bits={field.bits}")
    elif isinstance(ctype, NotCarried) or (isinstance(ctype, ArrayOf) and _own_align(ctype)):
        annotation = f"{annotations.of_callgate('Array')}[{annotations.of_callgate('u8')}]"
        said.append(f"length={field.size_bytes}")
    elif isinstance(ctype, ArrayOf):
        length, element = ctype.length, ctype.element
        while isinstance(inner := stripped(element), ArrayOf):  # rows lie one after the other
            length, element = length * inner.length, inner.element
        annotation = f"{annotations.of_callgate('Array')}[{_array_element(element, annotations)}]"
        said.append(f"length={length}")
    else:
        annotation = annotations.member(field.type)
    if align:
        said.append(f"align={align}")
    if field.is_anonymous:
        said.append("anonymous=True")
    if not said:
        return f"{name}: {annotation}"
    return f"{name}: {annotation} = {annotations.of_callgate('field')}({', '.join(said)})"


def _array_element(element: HeaderType, annotations: Annotations) -> str:
    return annotations.member(element).removesuffix(" | None")


def _anonymous_members(record: RecordOf, header: Header, annotations: Annotations) -> list[str]:
    """The members of anonymous members, for type checkers: Python finds them by itself."""
    shown = []
    for field in members(record):
        ctype = stripped(field.type)
        if not field.is_anonymous or not isinstance(ctype, RecordRef):
            continue
        inner = header.records[ctype.key]
        for member in members(inner):
            if member.name:
                line = _field_line(member, identifier(member.name), 0, annotations)
                shown.append(line.split(" = ")[0])
            else:
                shown += _anonymous_members(inner._replace(fields=(member,)), header, annotations)
    return shown
