"""The names that declarations are written with: scalars, pointers, markers.

Imported by `import callgate`, so nothing heavier than ctypes is imported here.  At run time the scalar names are
ctypes types; to a type checker they are `float`, `int`, `str | bytes` (see the package's stub file).
"""

from __future__ import annotations

import ctypes
from _ctypes import CFuncPtr
from types import GenericAlias

CDATA = ctypes.Structure.__mro__[1]
"""The base class of all ctypes objects (`_ctypes._CData`), which has no public name."""

FUNCTION_POINTER = CFuncPtr
"""The base class of ctypes function pointers."""

f32 = ctypes.c_float
f64 = ctypes.c_double
i8 = ctypes.c_int8
i16 = ctypes.c_int16
i32 = ctypes.c_int32
i64 = ctypes.c_int64
u8 = ctypes.c_uint8
u16 = ctypes.c_uint16
u32 = ctypes.c_uint32
u64 = ctypes.c_uint64
isize = ctypes.c_ssize_t
usize = ctypes.c_size_t
short = ctypes.c_short
ushort = ctypes.c_ushort
int_ = ctypes.c_int
uint = ctypes.c_uint
long = ctypes.c_long
ulong = ctypes.c_ulong
longlong = ctypes.c_longlong
ulonglong = ctypes.c_ulonglong
longdouble = ctypes.c_longdouble
bool_ = ctypes.c_bool
char = ctypes.c_char
wchar = ctypes.c_wchar
cstr = ctypes.c_char_p
wstr = ctypes.c_wchar_p

SHORT_NAMES: dict[object, str] = {
    ctypes.c_longdouble: "longdouble",  # first: on Windows it is c_double, whose name counts
    ctypes.c_float: "f32",
    ctypes.c_double: "f64",
    ctypes.c_int8: "i8",
    ctypes.c_int16: "i16",
    ctypes.c_int32: "i32",
    ctypes.c_int64: "i64",
    ctypes.c_uint8: "u8",
    ctypes.c_uint16: "u16",
    ctypes.c_uint32: "u32",
    ctypes.c_uint64: "u64",
    ctypes.c_bool: "bool_",
    ctypes.c_char: "char",
    ctypes.c_wchar: "wchar",
    ctypes.c_char_p: "cstr",
    ctypes.c_wchar_p: "wstr",
}
"""The ctypes scalar types and the names that messages use for them."""


class Opaque(ctypes.Structure):
    """Base class of handles whose contents only C knows: `class sqlite3(Opaque): ...`, used as `Ptr[sqlite3]`."""


_POINTEES: dict[object, object] = {bytes: ctypes.c_char_p, float: ctypes.c_double, bool: ctypes.c_bool}


def element_type(pointee: object) -> object:
    """The ctypes class for what is written inside `Ptr[…]`, `Readable[…]`, `Writable[…]`; None is void.

    A name that stands for no ctypes class is returned as it is, for the caller to judge.
    """
    try:
        return _POINTEES.get(pointee, pointee)
    except TypeError:  # unhashable
        return pointee


class Ptr:
    """A pointer: `Ptr[T]` is the ctypes pointer type to T; `Ptr[None]` is `void *` (ctypes.c_void_p).

    Values have `p[i]`, `p.contents` and a truth value (false for NULL), as ctypes pointers do.
    """

    def __class_getitem__(cls, pointee: object) -> object:
        if pointee is None:
            return ctypes.c_void_p
        element = element_type(pointee)
        if isinstance(element, type) and issubclass(element, CDATA):
            pointer: object = ctypes.POINTER(element)  # type: ignore[type-var]
            return pointer
        return GenericAlias(cls, (pointee,))  # a name, a callable, a mistake: judged with the declaration


class Readable:
    """`Readable[T]`: `const T *`, memory of the caller that the function reads."""

    def __class_getitem__(cls, element: object) -> GenericAlias:
        return GenericAlias(cls, (element,))


class Writable:
    """`Writable[T]`: `T *`, memory of the caller that the function may write."""

    def __class_getitem__(cls, element: object) -> GenericAlias:
        return GenericAlias(cls, (element,))


class Array:
    """`Array[T]`: an array inside a struct, its length given by `field(length=…)`."""

    def __class_getitem__(cls, element: object) -> GenericAlias:
        return GenericAlias(cls, (element,))


class Callback:
    """`Callback[[A, B], R]`: a function pointer that C keeps.  Takes what `callback` makes, or a gate."""

    __slots__ = ()

    def __class_getitem__(cls, signature: object) -> GenericAlias:
        if isinstance(signature, tuple) and len(signature) == 2 and isinstance(signature[0], list):
            return GenericAlias(Callback, (*signature[0], signature[1]))
        return GenericAlias(Callback, (..., signature))  # judged with the declaration


class VarArg:
    """The annotation of `*args` in a variadic function: `def printf(format: cstr, *args: VarArg) -> i32`."""


class Out:
    """`Out[T]`: `T *` that the function fills.  It is not passed; its value is returned."""

    def __class_getitem__(cls, element: object) -> GenericAlias:
        return GenericAlias(cls, (element,))


class Status(int):
    """An int result that says whether the call failed; judged by `fails_if` and `error`, then dropped."""

    __slots__ = ()
