"""The Struct and Union classes that a user would write for a record, and Python values of what lies in memory."""

from __future__ import annotations

import ctypes
from typing import Any

import callgate
from callgate.c import types as c
from callgate.c.types import Array, CType, Enumeration, Kind, Member, Pointer, Record, Scalar

CTYPES: dict[str, Any] = {
    "signed char": ctypes.c_byte,
    "unsigned char": ctypes.c_ubyte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long": ctypes.c_long,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "int8_t": ctypes.c_int8,
    "int16_t": ctypes.c_int16,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "ssize_t": ctypes.c_ssize_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "long double": ctypes.c_longdouble,
    "_Bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "wchar_t": ctypes.c_wchar,
}


def ctypes_scalar(ctype: CType) -> Any:
    """The ctypes class of a scalar."""
    if isinstance(ctype, Pointer):
        return ctypes.c_void_p
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    assert isinstance(ctype, Scalar)
    return CTYPES[ctype.name]


class Classes:
    """Classes by record, each made once."""

    def __init__(self) -> None:
        self._made: dict[Record, Any] = {}

    def of(self, record: Record) -> Any:
        """The class of a record, as a class statement would make it."""
        if record not in self._made:
            self._made[record] = self._make(record)
        return self._made[record]

    def annotation(self, ctype: CType) -> Any:
        """The annotation of a parameter, a result or a member; an array's is its ctypes class."""
        match ctype:
            case Record():
                return self.of(ctype)
            case Array(element=element, length=length):
                return self.annotation(element) * length
        return ctypes_scalar(ctype)

    def _make(self, record: Record) -> Any:
        annotations: dict[str, Any] = {}
        namespace: dict[str, Any] = {"__annotations__": annotations}
        for index, member in enumerate(record.members or ()):
            ctype, keywords = member.type, {}
            annotation = self.annotation(ctype)
            name = member.name or f"anonymous{len(self._made)}_{index}"  # another than inside, which is made by now
            annotations[name] = annotation
            if isinstance(ctype, Array) and not isinstance(ctype.element, Array):
                annotations[name] = callgate.Array[self.annotation(ctype.element)]
                keywords["length"] = ctype.length
            if member.bits is not None:
                keywords["bits"] = member.bits
            if member.align_bytes:
                keywords["align"] = member.align_bytes
            if member.is_anonymous:
                keywords["anonymous"] = True
            if keywords:
                namespace[name] = callgate.field(**keywords)
        base: Any = callgate.Union if record.tag == "union" else callgate.Struct
        return type(base)(record.name, (base,), namespace, pack=record.pack_bytes, align=record.align_bytes)


def can_be_written(ctype: CType) -> bool:
    """Whether a class can say it: no members, unnamed bit-fields, bit-fields of characters are for C text alone."""
    if isinstance(ctype, Array):
        return can_be_written(ctype.element)
    if not isinstance(ctype, Record):
        return True
    if not ctype.members:
        return False
    for member in ctype.members:
        if not can_be_written(member.type):
            return False
        if member.bits is not None and (not member.name or member.type in (c.CHAR, c.WCHAR)):
            return False
    return True


def python_value(member: Member, bits: int) -> object:
    """The Python value of a scalar member or bit-field whose bits are given as a number."""
    ctype = member.type.base if isinstance(member.type, Enumeration) else member.type
    if member.bits is None:
        cls = ctypes_scalar(ctype)
        return cls.from_buffer_copy(bits.to_bytes(ctypes.sizeof(cls), "little")).value
    if ctype == c.BOOL:
        return bool(bits)
    assert isinstance(ctype, Scalar)
    is_negative = ctype.kind is Kind.SIGNED and bits >> (member.bits - 1)
    return bits - (1 << member.bits) if is_negative else bits


def words(item: object) -> str:
    """The repr of a value for a report; structs whose bits are no values of their members have none."""
    try:
        return repr(item)
    except ValueError as problem:
        return f"<{type(item).__name__}: {problem}>"
