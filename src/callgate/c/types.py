"""The vocabulary of declarations: C types, and a function's signature as Python sees it.  Pure data.

Sizes are not here (they depend on the target: `layout`), nor is any parsing (`annotations`, `declarations`).
A type from the ctypes world travels through these records as an opaque `python_type`; only
`annotations` and the runtime look inside.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias


class Kind(Enum):
    """What a scalar's bits mean."""

    SIGNED = "signed integer"
    UNSIGNED = "unsigned integer"
    FLOATING = "floating point"
    BOOLEAN = "boolean"
    CHARACTER = "character"  # plain char as a character: bytes of length 1
    WIDE_CHARACTER = "wide character"  # wchar_t: str of length 1
    COMPLEX = "complex"


class Scalar(NamedTuple):
    """A C arithmetic type; `name` is its canonical C spelling, the key of `layout`'s table."""

    name: str
    kind: Kind


class Void(NamedTuple):
    """`void`: no value, or the element of an untyped pointer."""

    name: str = "void"


class Member(NamedTuple):
    """A member of a struct or union.

    `bits` is the width of a bit-field (0: the next one starts a new unit), `align_bytes` the least alignment that
    the declaration asks for (0: its type's).  An anonymous struct or union has `is_anonymous`; unnamed bit-fields
    have the name "".
    """

    name: str
    type: CType
    bits: int | None = None
    align_bytes: int = 0
    is_anonymous: bool = False


class Record(NamedTuple):
    """A struct or union.

    `tag` is "struct" or "union", "" where a typedef hides it and the members do not matter.  `members` is None where
    only the name is known.  `pack_bytes` is the most that a member is aligned to (`#pragma pack`, 0: no limit),
    `align_bytes` the least alignment of the whole.  Without `has_tag` it is known by a typedef's name.
    """

    name: str
    tag: str = "struct"
    members: tuple[Member, ...] | None = None
    pack_bytes: int = 0
    align_bytes: int = 0
    has_tag: bool = True


class Enumeration(NamedTuple):
    """A C enum: `base` carries its values; `members` are (name, value) in order of declaration."""

    name: str
    base: Scalar
    members: tuple[tuple[str, int], ...] = ()


class Pointer(NamedTuple):
    """A pointer; `is_const` tells whether the pointed-to type is const."""

    to: CType
    is_const: bool = False


class Array(NamedTuple):
    """`T name[length]`.  As a parameter it is a pointer whose buffer must hold at least `length` elements."""

    element: CType
    length: int
    is_const: bool = False


class FunctionPrototype(NamedTuple):
    """The pointed-to type of a function pointer: its C spelling with `(*)` for the name, and the types in it.

    `parameters` is None where the pointer can be passed but not called.
    """

    spelling: str
    parameters: tuple[CType, ...] | None = None
    result: CType = Void()


CType: TypeAlias = "Scalar | Void | Record | Enumeration | Pointer | Array | FunctionPrototype"

SIGNED_CHAR = Scalar("signed char", Kind.SIGNED)
UNSIGNED_CHAR = Scalar("unsigned char", Kind.UNSIGNED)
CHAR = Scalar("char", Kind.CHARACTER)
SHORT = Scalar("short", Kind.SIGNED)
UNSIGNED_SHORT = Scalar("unsigned short", Kind.UNSIGNED)
INT = Scalar("int", Kind.SIGNED)
UNSIGNED_INT = Scalar("unsigned int", Kind.UNSIGNED)
LONG = Scalar("long", Kind.SIGNED)
UNSIGNED_LONG = Scalar("unsigned long", Kind.UNSIGNED)
LONG_LONG = Scalar("long long", Kind.SIGNED)
UNSIGNED_LONG_LONG = Scalar("unsigned long long", Kind.UNSIGNED)
INT8 = Scalar("int8_t", Kind.SIGNED)
INT16 = Scalar("int16_t", Kind.SIGNED)
INT32 = Scalar("int32_t", Kind.SIGNED)
INT64 = Scalar("int64_t", Kind.SIGNED)
UINT8 = Scalar("uint8_t", Kind.UNSIGNED)
UINT16 = Scalar("uint16_t", Kind.UNSIGNED)
UINT32 = Scalar("uint32_t", Kind.UNSIGNED)
UINT64 = Scalar("uint64_t", Kind.UNSIGNED)
SIZE = Scalar("size_t", Kind.UNSIGNED)
SSIZE = Scalar("ssize_t", Kind.SIGNED)
FLOAT = Scalar("float", Kind.FLOATING)
DOUBLE = Scalar("double", Kind.FLOATING)
LONG_DOUBLE = Scalar("long double", Kind.FLOATING)
INT128 = Scalar("__int128", Kind.SIGNED)
UNSIGNED_INT128 = Scalar("unsigned __int128", Kind.UNSIGNED)
FLOAT_COMPLEX = Scalar("float _Complex", Kind.COMPLEX)
DOUBLE_COMPLEX = Scalar("double _Complex", Kind.COMPLEX)
BOOL = Scalar("_Bool", Kind.BOOLEAN)
WCHAR = Scalar("wchar_t", Kind.WIDE_CHARACTER)
VOID = Void()
VOID_POINTER = Pointer(VOID)


class Passing(Enum):
    """How Python hands over one parameter."""

    VALUE = "value"  # a scalar or enum by value
    STRING = "string"  # const char *: str or bytes without NUL
    WIDE_STRING = "wide string"  # const wchar_t *: str without NUL
    READABLE = "readable"  # const T *: memory of the caller that C reads
    WRITABLE = "writable"  # T *: memory of the caller that C writes
    HANDLE = "handle"  # T *: a pointer value (Ptr[T]); also function pointers
    OUT = "out"  # T *: storage the gate provides; the value is returned
    CALLABLE = "callable"  # function pointer, used during the call only
    CALLBACK = "callback"  # function pointer that C keeps
    CTYPES = "ctypes"  # whatever the ctypes class `python_type` makes of it


class Returning(Enum):
    """What Python gets from a C result (or from a filled Out parameter)."""

    NOTHING = "nothing"  # void
    VALUE = "value"
    STATUS = "status"  # judged, then dropped
    STRING = "str"  # char * decoded from UTF-8, copied
    BYTES = "bytes"  # char * copied
    WIDE_STRING = "wide str"  # wchar_t * copied
    HANDLE = "handle"  # T * as a ctypes pointer
    FUNCTION = "function"  # function pointer as a gate
    OBJECT = "object"  # a Python object that C hands over (py_object)
    ADDRESS = "address"  # T * as an int
    INSTANCE = "instance"  # a ctypes object of the class `python_type`, NULL as any other value
    ARRAY = "array"  # T * as a memoryview of declared length
    CALLED = "called"  # what the function `python_type` makes of an int


class Result(NamedTuple):
    """A result type and how it comes back.

    `python_type` is the enum class of an enum value, the ctypes class of a handle or a struct, the FunctionType of a
    function pointer (None in C text, where the runtime makes one).  NULL gives None where `is_nullable`, else
    ValueError.  What `is_owned` is freed by the gate's `free`.  `length` is that of an array: a number, the name of the
    parameter that has it, or the type of the count that stands before the items in memory.
    """

    type: CType
    returning: Returning
    is_nullable: bool = False
    python_type: object = None
    is_owned: bool = False
    length: int | str | Scalar | None = None


class Parameter(NamedTuple):
    """One parameter of a declaration.

    `type` is the C parameter's type: a Scalar, Enumeration or Record for VALUE, else a Pointer or Array.
    `python_type` is the enum class or the ctypes class of a struct (VALUE), the ctypes class of a handle or of a
    buffer's element, the CallbackType of a function pointer; None in C text.
    `name` is "" where C text gives none.  `out` describes what comes back for OUT and is None otherwise.  `held` is
    the type of the ctypes object behind an argument whose C type is another: a scalar that is promoted to `type` as a
    variable argument; in what accelerate() declares, void for an array, void * for a POINTER class, int for a class
    that is none of ctypes'.
    """

    name: str
    type: CType
    passing: Passing
    is_nullable: bool = False
    python_type: object = None
    out: Result | None = None
    held: CType | None = None


VARIABLE = "..."
"""The name of parameters that are variable arguments: those of a call to a variadic function."""


class FunctionType(NamedTuple):
    """A function as declared: what both engines, `explain` and `classify` read.

    The first `positional_only` of the parameters that Python passes cannot be given by keyword.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: Result
    is_variadic: bool = False
    positional_only: int = 0
    doc: str = ""

    def __str__(self) -> str:
        return declaration(self)


class CallbackType(NamedTuple):
    """A function that C calls and Python implements.

    Each of `parameters` describes, as a Result does, what Python gets; `result` what it gives back.
    """

    name: str
    parameters: tuple[Result, ...]
    result: Parameter | None = None

    @property
    def result_type(self) -> CType:
        """The C type of the result."""
        return VOID if self.result is None else self.result.type

    @property
    def prototype(self) -> str:
        """The C spelling, with `(*)` for the name."""
        parts = [spell(parameter.type) for parameter in self.parameters]
        return spell(self.result_type, f"(*)({', '.join(parts) or 'void'})")


def spell(ctype: CType, declarator: str = "") -> str:
    """The C spelling of a type around a declarator: `spell(Pointer(CHAR, True), "s")` is `const char *s`."""
    if isinstance(ctype, Scalar):  # nearly all are
        return f"{ctype.name} {declarator}" if declarator else ctype.name
    match ctype:
        case Pointer(to=FunctionPrototype(spelling=spelling)):
            return spelling.replace("(*)", f"(*{declarator})", 1)
        case Pointer(to=to, is_const=is_const):
            if not is_const:
                return spell(to, f"*{declarator}")
            return (
                spell(to, f"const *{declarator}") if isinstance(to, Pointer) else f"const {spell(to, f'*{declarator}')}"
            )
        case Array(element=Pointer() as element, length=length, is_const=True):
            return spell(element, f"const {declarator}[{length}]")
        case Array(element=element, length=length, is_const=is_const):
            return ("const " if is_const else "") + spell(element, f"{declarator}[{length}]")
        case Record(name=name, tag=tag):
            word = f"{tag} {name}" if tag and ctype.has_tag else name
        case Enumeration(name=name, base=base):
            word = f"enum {name}" if name else base.name
        case FunctionPrototype(spelling=spelling):
            return spelling
        case Void(name=word):
            pass
    return f"{word} {declarator}" if declarator else word


def declaration(function: FunctionType) -> str:
    """The C prototype of a function, on one line: `double hypot(double x, double y)`."""
    parts = [spell(p.type, p.name) for p in function.parameters]
    if function.is_variadic:
        parts.append("...")
    return spell(function.result.type, f"{function.name}({', '.join(parts) or 'void'})")
