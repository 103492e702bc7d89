"""Sizes, alignments and the places of members: how C types lie in memory on a target (psABI 3.1.2).

The rules for bit-fields are those of the Itanium and System V compilers (psABI 3.1.2, "Bit-Fields"): a bit-field lies
within one unit of its declared type, shares that unit with its neighbours, and counts for the alignment of the whole
unless it is unnamed (under AAPCS64 even then).  On Windows they are Microsoft's: see `_ms_record_layout`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from callgate.c.types import (
    Array,
    CType,
    Enumeration,
    FunctionPrototype,
    Kind,
    Member,
    Pointer,
    Record,
    Scalar,
    Void,
    spell,
)
from callgate.errors import DeclarationError
from callgate.target import Target

# Sizes that every target of callgate shares; the others come from the Target record.
_FIXED_BYTES = {
    "_Bool": 1,
    "char": 1,
    "signed char": 1,
    "unsigned char": 1,
    "int8_t": 1,
    "uint8_t": 1,
    "short": 2,
    "unsigned short": 2,
    "int16_t": 2,
    "uint16_t": 2,
    "int": 4,
    "unsigned int": 4,
    "int32_t": 4,
    "uint32_t": 4,
    "float": 4,
    "long long": 8,
    "unsigned long long": 8,
    "int64_t": 8,
    "uint64_t": 8,
    "double": 8,
    "__int128": 16,
    "unsigned __int128": 16,
    "float _Complex": 8,
    "double _Complex": 16,
}


def size_bytes(ctype: CType, target: Target) -> int:
    """The size of a type in bytes; DeclarationError for an incomplete one."""
    match ctype:
        case Scalar(name=name):
            fixed = _FIXED_BYTES.get(name)
            if fixed is not None:
                return fixed
            if name in ("long", "unsigned long"):
                return target.long_bytes
            if name in ("size_t", "ssize_t"):
                return target.pointer_bytes
            if name == "wchar_t":
                return target.wchar_bytes
            if name == "long double":
                return target.long_double_bytes
            raise DeclarationError(f"the size of {name!r} is not known")
        case Enumeration(base=base):
            return size_bytes(base, target)
        case Pointer():
            return target.pointer_bytes
        case Array(element=element, length=length):
            return size_bytes(element, target) * length
        case Record():
            return record_layout(ctype, target).size_bytes
        case Void() | FunctionPrototype():
            raise DeclarationError("void and functions have no size")


def align_bytes(ctype: CType, target: Target) -> int:
    """The alignment of a type in bytes; DeclarationError for an incomplete one."""
    match ctype:
        case Array(element=element):
            return align_bytes(element, target)
        case Record():
            return record_layout(ctype, target).align_bytes
        case Scalar(kind=Kind.COMPLEX):
            return size_bytes(ctype, target) // 2  # as an array of two of its parts (C11 6.2.5p13)
        case _:
            return size_bytes(ctype, target)


def natural_align_bytes(ctype: CType, target: Target) -> int:
    """The alignment without what is asked for a whole struct or union (AAPCS64 5.9, "natural alignment")."""
    return align_bytes(ctype._replace(align_bytes=0) if isinstance(ctype, Record) else ctype, target)


class Place(NamedTuple):
    """Where a member lies: `bit_offset` from the beginning of the record, and the member."""

    bit_offset: int
    member: Member

    @property
    def offset_bytes(self) -> int:
        """The byte that the member begins in."""
        return self.bit_offset // 8


class RecordLayout(NamedTuple):
    """The size and alignment of a struct or union, and the places of its members in order of declaration."""

    size_bytes: int
    align_bytes: int
    places: tuple[Place, ...]


def _round_up(number: int, multiple: int) -> int:
    return (number + multiple - 1) // multiple * multiple


@lru_cache(maxsize=1024)
def record_layout(record: Record, target: Target) -> RecordLayout:
    """Lay out a struct or union; DeclarationError for an incomplete one, or a bit-field that C does not allow.

    >>> from callgate.c.types import CHAR, INT
    >>> from callgate.target import X86_64_LINUX
    >>> layout = record_layout(Record("s", "struct", (Member("a", CHAR), Member("b", INT))), X86_64_LINUX)
    >>> layout.size_bytes, layout.align_bytes, [place.offset_bytes for place in layout.places]
    (8, 4, [0, 4])
    """
    if record.members is None:
        raise DeclarationError(f"{record.tag} {record.name} is incomplete: it has no size".lstrip())
    if target.system == "windows":
        return _ms_record_layout(record, target)
    is_union = record.tag == "union"
    position = 0  # in bits: where the next member may begin
    end = 0  # in bits: the largest member of a union
    align = max(1, record.align_bytes)
    counts_unnamed = (
        target.calling_convention == "aapcs64"
    )  # "whether or not the bit-field is named"; Apple keeps to psABI
    places = []
    for member in record.members:
        _check_member(record, member, is_last=member is record.members[-1])
        size = 8 * size_bytes(member.type, target)
        member_align = align_bytes(member.type, target)
        if record.pack_bytes:
            member_align = min(member_align, record.pack_bytes)
        member_align = max(member_align, member.align_bytes)
        if is_union:
            position = 0
        if member.bits is None:
            position = _round_up(position, 8 * member_align)
            align = max(align, member_align)
        else:
            _check_bits(record, member, size)
            position = _bit_field_position(
                position, member, record.pack_bytes, 8 * align_bytes(member.type, target), size
            )
            if member.name and member.bits:
                align = max(align, member_align)
            elif counts_unnamed:  # packing does not reach a width of 0
                align = max(align, member_align if member.bits else align_bytes(member.type, target))
            size = member.bits
        places.append(Place(position, member))
        position += size
        end = max(end, position)
    return RecordLayout(_round_up(_round_up(end, 8) // 8, align), align, tuple(places))


def _ms_record_layout(record: Record, target: Target) -> RecordLayout:
    """The same for a target of Microsoft's ("C bit fields" and "Storage and alignment of structures").

    Bit-fields that follow each other share a unit where their types are of one size and they fit; a unit is as large
    and as aligned as the type, however few of its bits are used.  A width of 0 ends a unit that is begun, and is
    nothing elsewhere.
    """
    assert record.members is not None  # the caller has looked
    is_union = record.tag == "union"
    position = end = 0  # in bits, as above
    unit_bits = unit_end = 0  # the unit that the next bit-field may share; 0 where there is none
    align = max(1, record.align_bytes)
    places = []
    for member in record.members:
        _check_member(record, member, is_last=member is record.members[-1])
        size = 8 * size_bytes(member.type, target)
        member_align = align_bytes(member.type, target)
        if record.pack_bytes:
            member_align = min(member_align, record.pack_bytes)
        member_align = max(member_align, member.align_bytes)
        if member.bits is not None:
            _check_bits(record, member, size)
        is_shared = bool(unit_bits) and member.bits is not None and unit_bits == size
        if is_union:
            position = unit_bits = 0
        elif member.bits is None or not is_shared or not member.bits or position + member.bits > unit_end:
            if unit_bits:
                position = unit_end
            if member.bits == 0 and not unit_bits:
                places.append(Place(position, member))
                continue
            unit_bits = 0
            position = _round_up(position, 8 * member_align)
        align = max(align, member_align)
        places.append(Place(position, member))
        if member.bits:
            if not unit_bits:
                unit_bits, unit_end = size, position + size
            position += member.bits
            end = max(end, unit_end)
        elif member.bits is None:
            position += size
            end = max(end, position)
    return RecordLayout(_round_up(_round_up(end, 8) // 8, align), align, tuple(places))


def _bit_field_position(position: int, member: Member, pack_bytes: int, type_align_bits: int, size_bits: int) -> int:
    """Where a bit-field begins, in bits.

    "A bit-field must entirely reside in a storage unit appropriate for its declared type"; a width of 0 ends the unit,
    packed or not; packing gives up the units.
    """
    assert member.bits is not None  # the caller's branch
    if member.bits == 0:
        return _round_up(position, type_align_bits)
    if member.align_bytes:
        position = _round_up(position, 8 * member.align_bytes)
    if pack_bytes:
        return position
    unit = position % type_align_bits
    if _round_up(unit + member.bits, type_align_bits) > size_bits:
        return _round_up(position, type_align_bits)
    return position


def _check_member(record: Record, member: Member, *, is_last: bool) -> None:
    where = f"member {member.name or '(unnamed)'!r} of {spell(record)}"
    if isinstance(member.type, Void | FunctionPrototype):
        raise DeclarationError(f"{where} has no size: {spell(member.type)}")
    if isinstance(member.type, Array) and not member.type.length and not (is_last and record.tag != "union"):
        raise DeclarationError(f"{where}: an array without a length must be the last member of a struct")


def _check_bits(record: Record, member: Member, size_bits: int) -> None:
    where = f"bit-field {member.name or '(unnamed)'!r} of {spell(record)}"
    ctype = member.type.base if isinstance(member.type, Enumeration) else member.type
    if not isinstance(ctype, Scalar) or ctype.kind in (Kind.FLOATING, Kind.COMPLEX):
        raise DeclarationError(f"{where} must be of an integer type, not {spell(member.type)}")
    assert member.bits is not None  # the caller's branch
    if ctype.kind is Kind.BOOLEAN:
        size_bits = 1
    if not (0 if not member.name else 1) <= member.bits <= size_bits:
        raise DeclarationError(f"{where} has {member.bits} bits; {spell(member.type)} allows 1 to {size_bits}")
