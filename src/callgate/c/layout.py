"""Sizes and alignments of C types on a target (psABI 3.1.2 and the data model of `Target`)."""

from __future__ import annotations

from callgate.c.types import Array, CType, Enumeration, FunctionPrototype, Pointer, Record, Scalar, Void
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
        case Record(name=name, tag=tag):
            raise DeclarationError(f"{tag} {name} is incomplete: it has no size".lstrip())
        case Void() | FunctionPrototype():
            raise DeclarationError("void and functions have no size")
