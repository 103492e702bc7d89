"""clang's types as those of `header_model`.  What a struct holds and what an enum counts is read by `header`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from callgate.c.header_model import (
    AliasOf,
    ArrayOf,
    EnumRef,
    HeaderType,
    Named,
    NotCarried,
    Nothing,
    PointerTo,
    Prototype,
    RecordRef,
)

Clang: TypeAlias = Any
Cursor: TypeAlias = Any
Type: TypeAlias = Any

# clang's kind -> callgate's name
_SCALARS = {
    "BOOL": "bool_",
    "CHAR_U": "char",
    "CHAR_S": "char",
    "SCHAR": "i8",
    "UCHAR": "u8",
    "SHORT": "short",
    "USHORT": "ushort",
    "INT": "i32",
    "UINT": "uint",
    "LONG": "long",
    "ULONG": "ulong",
    "LONGLONG": "longlong",
    "ULONGLONG": "ulonglong",
    "FLOAT": "f32",
    "DOUBLE": "f64",
    "LONGDOUBLE": "longdouble",
}

_STANDARD = {
    **{f"int{bits}_t": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}_t": f"u{bits}" for bits in (8, 16, 32, 64)},
    **{"size_t": "usize", "ssize_t": "isize", "ptrdiff_t": "isize", "intptr_t": "isize", "uintptr_t": "usize"},
    "wchar_t": "wchar",
}
"""Typedefs of the C library that callgate has a name for (stdint.h, stddef.h)."""

_VA_LISTS = frozenset(("va_list", "__builtin_va_list", "__gnuc_va_list", "__va_list"))

_NOT_CARRIED = {
    "INT128": "a 128-bit integer",
    "UINT128": "a 128-bit integer",
    "FLOAT128": "a 128-bit floating-point number",
    "FLOAT16": "a 16-bit floating-point number",
    "HALF": "a 16-bit floating-point number",
    "BFLOAT16": "a 16-bit floating-point number",
    "VECTOR": "a vector",
    "EXTVECTOR": "a vector",
    "COMPLEX": "a complex number",
    "BLOCKPOINTER": "a block",
}


def is_named(cursor: Cursor) -> bool:
    """Whether a struct, union or enum has a tag (clang describes the others in words)."""
    return bool(re.fullmatch(r"[A-Za-z_$][\w$]*", cursor.spelling))


class TypeReader:
    """Reads types; structs and enums are handed to `record` and `enum`, which give their keys."""

    def __init__(
        self,
        clang: Clang,
        record: Callable[[Cursor, bool, str], str],
        enum: Callable[[Cursor, str], str],
        is_own: Callable[[Cursor], bool],
    ) -> None:
        self.clang = clang
        self.kinds = clang.TypeKind
        self.record = record
        self.enum = enum
        self.is_own = is_own

    def type_of(self, ctype: Type, *, suggested: str = "", by_value: bool = False) -> HeaderType:
        """The record for a type; `suggested` names a struct that has no name, `by_value` wants its contents."""
        kinds = self.kinds
        kind = ctype.kind
        match kind.name:
            case "VOID":
                return Nothing()
            case "ELABORATED":
                return self.type_of(ctype.get_named_type(), suggested=suggested, by_value=by_value)
            case "TYPEDEF":
                return self._typedef(ctype, by_value)
            case "RECORD":
                return RecordRef(self.record(ctype.get_declaration(), by_value, suggested))
            case "ENUM":
                declaration = ctype.get_declaration()
                carrier = self.type_of(declaration.enum_type.get_canonical())
                if not isinstance(carrier, Named):
                    return NotCarried("an enum of unknown size", max(0, ctype.get_size()), max(1, ctype.get_align()))
                return EnumRef(self.enum(declaration, suggested), carrier)
            case "POINTER":
                pointee = ctype.get_pointee()
                return PointerTo(self.type_of(pointee, suggested=suggested), pointee.is_const_qualified())
            case "CONSTANTARRAY" | "INCOMPLETEARRAY" | "VARIABLEARRAY" | "DEPENDENTSIZEDARRAY":
                length = ctype.element_count if kind == kinds.CONSTANTARRAY else 0
                element = ctype.element_type
                inner = self.type_of(element, suggested=suggested, by_value=by_value)
                is_const = element.is_const_qualified() or (isinstance(inner, ArrayOf) and inner.is_const)
                return ArrayOf(inner, length, is_const)
            case "FUNCTIONPROTO":
                return Prototype(
                    tuple(self.type_of(parameter) for parameter in ctype.argument_types()),
                    self.type_of(ctype.get_result()),
                    ctype.is_function_variadic(),
                )
            case "FUNCTIONNOPROTO":
                return Prototype((), self.type_of(ctype.get_result()))
            case "ATOMIC":
                return self.type_of(self.clang.conf.lib.clang_Type_getValueType(ctype), by_value=by_value)
            case name if name in _SCALARS:
                return Named(_SCALARS[name], ctype.get_size())
        return self._other(ctype, suggested, by_value)

    def _typedef(self, ctype: Type, by_value: bool) -> HeaderType:
        declaration = ctype.get_declaration()
        name = declaration.spelling
        if name in _VA_LISTS:
            return NotCarried("a va_list", max(0, ctype.get_size()), max(1, ctype.get_align()))
        target = declaration.underlying_typedef_type
        if self.is_own(declaration):
            made = self.type_of(target, suggested=name, by_value=by_value)
            if isinstance(made, RecordRef | EnumRef):
                return made
            return AliasOf(name, made)
        if name in _STANDARD and ctype.get_canonical().kind.name in _SCALARS:
            return Named(_STANDARD[name], ctype.get_size())
        return self.type_of(target, suggested=name, by_value=by_value)

    def _other(self, ctype: Type, suggested: str, by_value: bool) -> HeaderType:
        """What is written in a roundabout way (typeof), and what has no place in a call."""
        name = ctype.kind.name
        canonical = ctype.get_canonical()
        if name not in _NOT_CARRIED and canonical.kind != ctype.kind:
            return self.type_of(canonical, suggested=suggested, by_value=by_value)
        what = _NOT_CARRIED.get(name, "")
        python_type = ""
        if name == "COMPLEX":
            part = ctype.element_type.kind.name
            what = {"LONGDOUBLE": "a long double complex number", "FLOAT": "a float complex number"}.get(part, what)
            python_type = "complex" if part == "DOUBLE" else ""
        if not what:
            what = "a _BitInt" if "_BitInt" in canonical.spelling else f"the type {canonical.spelling}"
        return NotCarried(what, max(0, ctype.get_size()), max(1, ctype.get_align()), python_type)
