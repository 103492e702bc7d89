"""ctypes classes and Records: what a class means to C, and a class's fields where our layout puts its members.

Fields are as ctypes makes them where it arrives at the same places; else they get explicit padding between them, and
bit-fields and function pointers become properties.

Long because the ways of ctypes differ from C's in many places, each with a sentence of its own.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from operator import index as to_index
from typing import Any, NamedTuple

from callgate.c import annotations as c_annotations
from callgate.c import names, types
from callgate.c.agreement import disagreement
from callgate.c.layout import Place, RecordLayout, record_layout, size_bytes
from callgate.c.types import CType, Enumeration, Kind, Member, Pointer, Record, Scalar, spell
from callgate.errors import DeclarationError
from callgate.target import DATA_MODEL, IS_CPYTHON

RECORD = "__callgate_record__"
HIDDEN = "_callgate_"


class Field(NamedTuple):
    """What `field()` says about a member."""

    bits: int | None = None
    length: int | None = None
    align: int | None = None
    anonymous: bool = False


def record_of(cls: type) -> Record:
    """The Record of a ctypes.Structure or Union; its layout is checked against the one that ctypes made.

    Raises DeclarationError for classes without fields, of foreign byte order, with fields that C has no type for, and
    where ctypes lays the class out otherwise than C does.
    """
    known = cls.__dict__.get(RECORD)
    if isinstance(known, Record):
        return known
    record = _described(cls)
    if record.members is not None:
        _check_layout(cls, record)
    return record


def _described(cls: type) -> Record:
    tag = "union" if issubclass(cls, ctypes.Union) else "struct"
    pending = getattr(cls, "_callgate_pending", None)
    if pending is not None:
        pending()  # one that waits for it waits for the same
    if getattr(cls, "_swappedbytes_", None) is not None or any(
        base.__name__.startswith(("_swapped", "BigEndian")) for base in cls.__mro__
    ):
        raise DeclarationError(f"{cls.__name__} has the byte order of another machine; C cannot take it by value")
    base = base_with_members(cls)
    own = cls.__dict__.get("_fields_")
    if own is None and base is None:
        return Record(cls.__name__, tag)
    anonymous = frozenset(cls.__dict__.get("_anonymous_", ()))
    members = [] if base is None else [inherited_member(base)]
    for item in own or ():
        name, field_type = item[0], item[1]
        bits = item[2] if len(item) > 2 else None
        ctype, _ = c_annotations.value_type(field_type, f"{cls.__name__}.{name}")
        members.append(Member(name, ctype, bits, 0, name in anonymous))
    pack = getattr(cls, "_pack_", 0)
    align = getattr(cls, "_align_", 0)
    return Record(cls.__name__, tag, tuple(members), pack, align)


def base_with_members(cls: type) -> type | None:
    """The class that `cls` inherits members from."""
    for base in cls.__mro__[1:]:
        if base.__dict__.get("_fields_") is not None or isinstance(base.__dict__.get(RECORD), Record):
            return base
    return None


def inherited_member(base: type) -> Member:
    """A base is the first member, as in C."""
    return Member(f"{HIDDEN}{base.__name__}", record_of(base), None, 0, True)


def _check_layout(cls: type, record: Record) -> None:
    layout = record_layout(record, DATA_MODEL)
    difference = _difference(cls, layout)
    if difference:
        raise DeclarationError(f"ctypes lays {cls.__name__} out otherwise than C: {difference}")


def _difference(cls: type, layout: RecordLayout) -> str:
    """How a ctypes class lies otherwise than `layout` says, or ""."""
    size = ctypes.sizeof(cls)
    if size != layout.size_bytes:
        return f"it has {size} bytes, C gives it {layout.size_bytes}"
    for place in layout.places:
        member = place.member
        descriptor = getattr(cls, member.name, None) if member.name else None
        offset = getattr(descriptor, "offset", None)
        if offset is None:
            continue
        if member.bits is None:
            found = 8 * offset
        else:
            low, width = _bits_of(descriptor)
            found = 8 * offset + low
            storage = size_bytes(member.type, DATA_MODEL)
            if offset < 0 or low + width > 8 * storage or offset + storage > size:
                return f"the storage of {member.name} lies outside"  # ctypes writes all of it
            if width != member.bits:
                return f"{member.name} has {width} bits, not {member.bits}"
        if found != place.bit_offset:
            return f"{member.name} lies at bit {found}, in C at bit {place.bit_offset}"
    return ""


def _bits_of(descriptor: Any) -> tuple[int, int]:
    """The first bit and the width of a ctypes bit-field."""
    if sys.version_info >= (3, 14):
        return descriptor.bit_offset, descriptor.bit_size
    return descriptor.size & 0xFFFF, descriptor.size >> 16


class Declared(NamedTuple):
    """One annotated member: its name, C type, ctypes class, and what `field()` said."""

    name: str
    ctype: CType
    python_type: type
    said: Field


def install_fields(cls: type, record: Record, declared: list[Declared]) -> None:
    """Give a class the ctypes fields that lie where our layout puts its members."""
    layout = record_layout(record, DATA_MODEL)
    plain: list[Any] = [
        (item.name, item.python_type) if item.said.bits is None else (item.name, item.python_type, item.said.bits)
        for item in declared
    ]
    for item in declared:
        if isinstance(cls.__dict__.get(item.name), Field):
            delattr(cls, item.name)
    anonymous = tuple(item.name for item in declared if item.said.anonymous)
    base = cls.__mro__[1]
    needs_properties = any(_is_function(item.ctype) or _is_boolean_bit_field(item) for item in declared)
    if not needs_properties and _lies_alike(base, plain, layout, record):
        if record.pack_bytes:
            cls._pack_ = record.pack_bytes  # type: ignore[attr-defined]
            cls._layout_ = PACKED_LAYOUT  # type: ignore[attr-defined]
        if anonymous:
            cls._anonymous_ = anonymous  # type: ignore[attr-defined]
        cls._fields_ = plain  # type: ignore[attr-defined]
        for item in declared:
            if item.said.anonymous:
                for name, member_property in _reached_through(item, cls).items():
                    setattr(cls, name, member_property)
        attributes_changed(cls)
        return
    _install_padded(cls, record, layout, declared, anonymous)


def attributes_changed(cls: type) -> None:
    """Let the interpreter look the attributes of a class up anew: before 3.13 a union's setattr forgets to say so."""
    if IS_CPYTHON:
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


PACKED_LAYOUT = "ms"
"""What ctypes from 3.14 on wants `_layout_` to be where `_pack_` is given: packing follows Microsoft's rule in it."""


def _is_boolean_bit_field(item: Declared) -> bool:
    """ctypes reads and writes all bits of the byte."""
    return item.said.bits is not None and isinstance(item.ctype, Scalar) and item.ctype.kind is Kind.BOOLEAN


def _is_function(ctype: CType) -> bool:
    return isinstance(ctype, Pointer) and isinstance(ctype.to, types.FunctionPrototype)


def _lies_alike(base: type, plain: list[Any], layout: RecordLayout, record: Record) -> bool:
    """Whether ctypes, left to itself, lays the fields out as C does."""
    namespace: dict[str, object] = {"_fields_": plain}
    if record.pack_bytes:
        namespace["_pack_"] = record.pack_bytes
        namespace["_layout_"] = PACKED_LAYOUT
    kind = ctypes.Union if issubclass(base, ctypes.Union) else ctypes.Structure
    if getattr(base, "_fields_", None):
        return False if record.align_bytes or record.pack_bytes else not _difference_of_trial(base, namespace, layout)
    return not _difference_of_trial(kind, namespace, layout)


def _difference_of_trial(base: type, namespace: dict[str, object], layout: RecordLayout) -> str:
    if hasattr(base, RECORD):
        namespace = {**namespace, RECORD: Record("trial", "struct", ())}
    try:
        trial = type(base)("trial", (base,), namespace)
    except (TypeError, ValueError) as problem:
        return str(problem)
    return _difference(trial, layout) or ("" if ctypes.alignment(trial) == layout.align_bytes else "its alignment")


def names_in(record: Record) -> list[str]:
    """The names that positional arguments of the class mean: of a base's members first."""
    found = []
    for member in record.members or ():
        if member.name.startswith(HIDDEN) and isinstance(member.type, Record):
            found += names_in(member.type)
        elif member.name:
            found.append(member.name)
    return found


def _install_padded(
    cls: type, record: Record, layout: RecordLayout, declared: list[Declared], anonymous: tuple[str, ...]
) -> None:
    """Fields at given offsets: packed, with padding between, bit-fields as properties over their bytes."""
    by_name = {item.name: item for item in declared}
    inherited = base_with_members(cls)
    own = layout.places[0 if inherited is None else 1 :]
    inherited_bytes = 0 if inherited is None else ctypes.sizeof(inherited)
    if issubclass(cls, ctypes.Union):
        fields, properties = _union_fields(own, by_name, layout)
    else:
        fields, properties = _struct_fields(own, by_name, layout, inherited_bytes)
    cls._pack_ = 1  # type: ignore[attr-defined]
    if sys.version_info >= (3, 14):
        cls._layout_ = PACKED_LAYOUT  # type: ignore[attr-defined]  # every gap is a field of its own here
    if sys.version_info >= (3, 13):
        cls._align_ = layout.align_bytes  # type: ignore[attr-defined]
    if anonymous:
        cls._anonymous_ = anonymous  # type: ignore[attr-defined]
    cls._fields_ = fields  # type: ignore[attr-defined]
    difference = _difference(cls, layout)
    if difference:
        raise DeclarationError(f"{cls.__name__} cannot be laid out as C does: {difference}")
    for item in declared:
        if item.said.anonymous and isinstance(item.ctype, Record):
            properties.update(_reached_through(item, cls))
    for name, member_property in properties.items():
        setattr(cls, name, member_property)
    attributes_changed(cls)
    if cls.__init__ in _OF_CTYPES:  # type: ignore[misc]  # a class with one of its own keeps it
        cls.__init__ = initialise  # type: ignore[misc]


_OF_CTYPES = (ctypes.Structure.__init__, ctypes.Union.__init__)


def initialise(self: Any, *given: object, **named: object) -> None:
    """Set members by name, whatever hidden fields lie between them; as the __init__ of ctypes."""
    names_in_order = names_in(getattr(type(self), RECORD))
    if len(given) > len(names_in_order):
        raise TypeError("too many initializers")
    for name, value in zip(names_in_order, given, strict=False):
        if name in named:
            raise TypeError(f"duplicate values for field {name!r}")
        setattr(self, name, value)
    for name, value in named.items():
        setattr(self, name, value)


_Fields = tuple[list[tuple[str, type]], dict[str, property]]


def _struct_fields(
    places: tuple[Place, ...], by_name: Mapping[str, Declared], layout: RecordLayout, position: int
) -> _Fields:
    fields: list[tuple[str, type]] = []
    properties: dict[str, property] = {}
    for place in places:
        member = place.member
        if member.bits is not None:
            if member.name and member.bits:
                properties[member.name] = _bits_property(place, member)
            continue
        offset = place.offset_bytes
        if offset > position:
            fields.append((f"{HIDDEN}{position}", ctypes.c_uint8 * (offset - position)))
        name = member.name
        if _is_function(member.type):
            name = f"{HIDDEN}{member.name}"
            properties[member.name] = _function_property(name, member)
        python_type = by_name[member.name].python_type
        fields.append((name, python_type))
        position = offset + ctypes.sizeof(python_type)
    if layout.size_bytes > position:
        fields.append((f"{HIDDEN}{position}", ctypes.c_uint8 * (layout.size_bytes - position)))
    return fields, properties


def _union_fields(places: tuple[Place, ...], by_name: Mapping[str, Declared], layout: RecordLayout) -> _Fields:
    fields: list[tuple[str, type]] = [(f"{HIDDEN}all", ctypes.c_uint8 * layout.size_bytes)]
    properties: dict[str, property] = {}
    for place in places:
        member = place.member
        if member.bits is not None:
            properties[member.name] = _bits_property(place, member)
        elif _is_function(member.type):
            fields.append((f"{HIDDEN}{member.name}", ctypes.c_void_p))
            properties[member.name] = _function_property(f"{HIDDEN}{member.name}", member)
        else:
            fields.append((member.name, by_name[member.name].python_type))
    return fields, properties


def _reached_through(item: Declared, cls: type) -> dict[str, property]:
    """The properties of an anonymous member, as the outer record's own."""
    reached = {}
    for name in dir(item.python_type):
        inner = getattr(item.python_type, name)
        if isinstance(inner, property) and not hasattr(cls, name):
            reached[name] = property(
                lambda self, name=name: getattr(getattr(self, item.name), name),  # type: ignore[misc]
                lambda self, value, name=name: setattr(getattr(self, item.name), name, value),  # type: ignore[misc]
                doc=inner.__doc__,
            )
    return reached


def _bits_property(place: Place, member: Member) -> property:
    """A bit-field that ctypes would put elsewhere: read and written bit by bit from its bytes."""
    first, bits = place.bit_offset, member.bits or 0
    start, end = first // 8, (first + bits + 7) // 8
    shift = first - 8 * start
    mask = (1 << bits) - 1
    ctype = member.type.base if isinstance(member.type, Enumeration) else member.type
    is_signed = isinstance(ctype, Scalar) and ctype.kind is Kind.SIGNED
    is_bool = isinstance(ctype, Scalar) and ctype.kind is Kind.BOOLEAN

    def read(self: Any) -> int:
        data = ctypes.string_at(ctypes.addressof(self) + start, end - start)
        value = int.from_bytes(data, "little") >> shift & mask
        if is_bool:
            return bool(value)
        return value - (1 << bits) if is_signed and value >> (bits - 1) else value

    def write(self: Any, value: int) -> None:
        data = ctypes.string_at(ctypes.addressof(self) + start, end - start)
        kept = int.from_bytes(data, "little") & ~(mask << shift)
        given = int(bool(value)) if is_bool else to_index(value)
        written = (kept | (given & mask) << shift).to_bytes(end - start, "little")
        ctypes.memmove(ctypes.addressof(self) + start, written, len(written))

    return property(read, write, doc=f"bit-field of {bits} bits at bit {first}")


def _function_property(hidden: str, member: Member) -> property:
    """A function pointer: takes a callback, a gate, a ctypes function pointer or None; gives the address or None."""

    def read(self: Any) -> int | None:
        value: int | None = getattr(self, hidden)
        return value

    def write(self: Any, value: object) -> None:
        setattr(self, hidden, address_of_function(value, member))

    return property(read, write, doc=spell(member.type, member.name))


def address_of_function(value: object, member: Member) -> int | None:
    """The address of what C can call: a callback, a gate, a ctypes function pointer, an address; None is NULL."""
    where = member.name
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 1 << 64:
            raise OverflowError(f"{where} must be an address of 64 bits, not {value}")
        return value
    if isinstance(value, (names.FUNCTION_POINTER, ctypes.c_void_p)):
        return ctypes.cast(value, ctypes.c_void_p).value
    record = getattr(value, "__self__", value)
    address = getattr(record, "address", None)
    if isinstance(address, int):
        _check_agreement(getattr(record, "signature", None), member)
        return address
    raise TypeError(f"{where} must be a callback, a gate or a function pointer, not {type(value).__name__}")


def _check_agreement(declared: object, member: Member) -> None:
    """Refuse a function of other C types than the member's."""
    prototype = member.type.to if isinstance(member.type, Pointer) else None
    if not isinstance(prototype, types.FunctionPrototype) or prototype.parameters is None:
        return
    if isinstance(declared, types.CallbackType):
        theirs: list[CType] = [*(parameter.type for parameter in declared.parameters), declared.result_type]
    elif isinstance(declared, types.FunctionType):
        theirs = [*(parameter.type for parameter in declared.parameters), declared.result.type]
    else:
        return
    if disagreement([*prototype.parameters, prototype.result], theirs, DATA_MODEL) is not None:
        *parameters, result = theirs
        shown = spell(result, f"{declared.name}({', '.join(map(spell, parameters)) or 'void'})")
        raise TypeError(f"{member.name} must be a function like {prototype.spelling}, not {shown}")
