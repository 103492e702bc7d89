"""Structs and unions as Python classes: `Struct`, `Union`, `field`, and the way between ctypes classes and Records.

A `Struct` is a ctypes.Structure whose fields come from annotations.  Our own layout (`layout`) decides where members
lie; ctypes' `_fields_` follow it: as they are where ctypes lays them out in the same way, else with explicit padding,
and with properties for bit-fields that ctypes would put elsewhere.

Long because the two classes carry their documentation, and what ctypes offers to a class is refused or kept one by one.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
from collections.abc import Mapping
from typing import Any

from callgate.c import annotations as c_annotations
from callgate.c import names
from callgate.c.record_classes import (
    HIDDEN,
    RECORD,
    Declared,
    Field,
    base_with_members,
    inherited_member,
    initialise,
    install_fields,
    names_in,
    record_of,
)
from callgate.c.types import Array, CType, Member, Pointer, Record, spell
from callgate.errors import DeclarationError

_STRUCTURE_TYPE = type(ctypes.Structure)
_UNION_TYPE = type(ctypes.Union)
_LARGEST_ALIGNMENT = 1 << 16


def field(
    *, bits: int | None = None, length: int | None = None, align: int | None = None, anonymous: bool = False
) -> Any:
    """Say more about a member of a Struct or Union than its annotation can.

    `bits` is the width of a bit-field (what does not fit is cut, as in C), `length` the number of elements of an
    `Array[T]`, `align` the member's least alignment in bytes (a power of two), `anonymous` lets the members of a nested
    struct be used directly.
    Raises DeclarationError for numbers that C does not allow.

    >>> class flags(Struct):
    ...     kind: names.uint = field(bits=3)
    ...     name: names.Array[names.char] = field(length=8)
    >>> flags(5, b"callgate").kind
    5
    """
    for name, value in (("bits", bits), ("length", length), ("align", align)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise DeclarationError(f"field(): {name}= must be an int, not {type(value).__name__}")
    if bits is not None and bits < 0:
        raise DeclarationError(f"field(): bits= must not be negative, not {bits}")
    if length is not None and length < 0:
        raise DeclarationError(f"field(): length= must not be negative, not {length}")
    if align is not None and (not 1 <= align <= _LARGEST_ALIGNMENT or align & (align - 1)):
        raise DeclarationError(f"field(): align= must be a power of two, not {align}")
    return Field(bits, length, align, anonymous)


# -- Struct and Union ---------------------------------------------------------------------------------------


_waiting: list[_Completion] = []
"""Classes whose annotations name something that is not defined yet."""


class _Completion:
    """Gives a class its fields, now or when the names in its annotations exist."""

    def __init__(self, cls: type, scopes: tuple[Mapping[str, object], ...], options: tuple[int, int]) -> None:
        self.cls = cls
        self.scopes = scopes
        self.options = options

    def __call__(self) -> None:
        """Complete the class; DeclarationError where that is not possible (yet)."""
        cls = self.cls
        declared = _declared_members(cls, self.scopes)
        tag = "union" if issubclass(cls, ctypes.Union) else "struct"
        pack, align = self.options
        members = tuple(
            Member(item.name, item.ctype, item.said.bits, item.said.align or 0, item.said.anonymous)
            for item in declared
        )
        for base in cls.__mro__[1:]:
            pending = base.__dict__.get("_callgate_pending")
            if pending is not None:
                base._callgate_pending()  # type: ignore[attr-defined]
        inherited = base_with_members(cls)
        if inherited is not None:
            members = (inherited_member(inherited), *members)
        _check_names(cls.__name__, members)
        record = Record(cls.__name__, tag, members, pack, align)
        if "_callgate_pending" in cls.__dict__:
            for name in ("_callgate_pending", "__new__", *_MAKING):
                delattr(cls, name)
        install_fields(cls, record, declared)
        setattr(cls, RECORD, record)


def _make_type(base: type) -> type:
    """The metaclass of Struct or of Union."""

    class RecordType(base):  # type: ignore[misc]
        by_name: type | None = None  # what a class with an __init__ of its own derives from as well

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: int) -> Any:
            for option in options:
                if option not in ("pack", "align"):
                    raise TypeError(f"{name}: a struct has no option {option!r}; pack= and align= are known")
            namespace.setdefault("__slots__", ())  # a misspelt member is an AttributeError
            if "__init__" in namespace and mcs.by_name and not any(issubclass(b, mcs.by_name) for b in bases):
                bases = (*(b for b in bases if b not in mcs.by_name.__mro__), mcs.by_name)
            return super().__new__(mcs, name, bases, namespace)

        def __init__(
            cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, pack: int = 0, align: int = 0
        ) -> None:
            super().__init__(name, bases, namespace)
            for option, value in (("pack", pack), ("align", align)):
                if not isinstance(value, int) or not 0 <= value <= _LARGEST_ALIGNMENT or value & (value - 1):
                    raise DeclarationError(f"{name}: {option}= must be a power of two, not {value!r}")
            if RECORD in namespace or "_fields_" in namespace or not _annotations_of(cls):
                return
            frame = sys._getframe(1)
            local_names = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
            scopes = ({name: cls}, local_names, frame.f_globals, vars(builtins))
            for ancestor in cls.__mro__[1:]:
                if "_callgate_pending" in ancestor.__dict__:
                    _complete_now(ancestor)
            completion = _Completion(cls, scopes, (pack, align))
            try:
                completion()
            except _NotDefined as problem:
                _postpone(cls, completion, problem)
            else:
                _complete_waiting(cls)

        def __mul__(cls, length: int) -> Any:
            pending = cls.__dict__.get("_callgate_pending")
            if pending is not None:  # an array has its size for ever
                _complete_now(cls)
            return super().__mul__(length)

    RecordType.__name__ = RecordType.__qualname__ = f"{base.__name__}OfCallgate"
    return RecordType


class _NotDefined(DeclarationError):
    """A name in an annotation that is not defined yet; to users a DeclarationError as any other."""


_NotDefined.__name__ = _NotDefined.__qualname__ = "DeclarationError"
_NotDefined.__module__ = DeclarationError.__module__


def _postpone(cls: type, completion: _Completion, problem: _NotDefined) -> None:
    """Wait for a later class; using this one before is an error."""

    def complete() -> None:
        completion()
        if completion in _waiting:
            _waiting.remove(completion)

    def refuse(made: type, *given: object, **named: object) -> object:
        _complete_now(cls)
        return made(*given, **named)

    def refusing(name: str) -> object:
        def make(made: type, *given: object) -> object:
            _complete_now(cls)
            return getattr(made, name)(*given)

        return classmethod(make)

    cls._callgate_pending = staticmethod(complete)  # type: ignore[attr-defined]
    cls.__new__ = refuse  # type: ignore[assignment, method-assign]
    for name in _MAKING:
        setattr(cls, name, refusing(name))
    _waiting.append(completion)


_MAKING = ("from_buffer", "from_buffer_copy", "from_address", "in_dll")
"""What makes instances beside the call of the class."""


def _complete_now(cls: Any) -> None:
    """Complete a class that waits, or raise what it waits for."""
    try:
        cls._callgate_pending()
    except _NotDefined as problem:
        raise DeclarationError(str(problem)) from problem.__cause__


def _complete_waiting(cls: type) -> None:
    """Try those again that wait, now that `cls` is defined."""
    for completion in list(_waiting):
        if completion.cls.__module__ != cls.__module__ or completion not in _waiting:
            continue
        *_, local_names, module_names, built_in = completion.scopes
        named = {cls.__name__: cls, completion.cls.__name__: completion.cls}
        tried = _Completion(completion.cls, (named, local_names, module_names, built_in), completion.options)
        try:
            tried()
        except DeclarationError:  # a name still, or what its first use will say
            continue
        if completion in _waiting:
            _waiting.remove(completion)
        _complete_waiting(completion.cls)


def _annotations_of(cls: type) -> dict[str, object]:
    """The class's own annotations; 3.14 evaluates them when asked, and gives their text where a name is missing."""
    own = cls.__dict__.get("__annotations__")
    if own is None and sys.version_info >= (3, 14):
        import annotationlib  # there is none before

        try:
            own = annotationlib.get_annotations(cls)
        except NameError:
            own = annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
    return dict(own) if own else {}


def _declared_members(cls: type, scopes: tuple[Mapping[str, object], ...]) -> list[Declared]:
    declared = []
    for name, annotation in _annotations_of(cls).items():
        where = f"{cls.__name__}.{name}"
        said = cls.__dict__.get(name, Field())
        if not isinstance(said, Field):
            if isinstance(getattr(said, "offset", None), int) or isinstance(said, property):
                said = Field()  # completed before
            else:
                raise DeclarationError(f"{where}: a member has no default; use field() for bits, length and align")
        try:
            resolved = c_annotations.resolve(annotation, scopes, where)
            inner = getattr(resolved, "__args__", (None,))[0]
            if getattr(resolved, "__origin__", None) is names.Ptr and isinstance(inner, str):
                resolved = names.Ptr.__class_getitem__(c_annotations.resolve(inner, scopes, where))
        except DeclarationError as problem:
            if isinstance(problem.__cause__, NameError):
                raise _NotDefined(str(problem)) from problem.__cause__
            raise
        ctype, python_type = _member_type(resolved, said, where)
        declared.append(Declared(name, ctype, python_type, said))
    return declared


def _member_type(annotation: object, said: Field, where: str) -> tuple[CType, type]:
    origin = getattr(annotation, "__origin__", None)
    if origin is names.Array:
        (element,) = annotation.__args__  # type: ignore[attr-defined]
        if said.length is None:
            raise DeclarationError(f"{where}: an array member needs its length: `= field(length=8)`")
        ctype, element_type = _member_type(element, Field(), where)
        made: Any = element_type
        return Array(ctype, said.length), made * said.length
    if said.length is not None:
        raise DeclarationError(f"{where}: length= is for arrays, as in `Array[u8] = field(length={said.length})`")
    if annotation is str or annotation is bytes:
        annotation = ctypes.c_char_p
    function = c_annotations.function_pointer_of(annotation, where)
    if function is not None:
        return function, ctypes.c_void_p
    annotation, is_nullable = c_annotations.strip_none(annotation, where)
    ctype, value_class = c_annotations.value_type(annotation, where)
    if value_class is None:
        raise DeclarationError(f"{where}: a member cannot be void")
    if is_nullable and not isinstance(ctype, Pointer):
        raise DeclarationError(f"{where}: only pointers can be None")
    if said.anonymous and not isinstance(ctype, Record):
        raise DeclarationError(f"{where}: only a struct or union can be anonymous, not {spell(ctype)}")
    if isinstance(ctype, Record) and ctype.members is None:
        raise DeclarationError(f"{where}: {spell(ctype)} is incomplete here; a member can only be a pointer to it")
    return ctype, value_class


def _check_names(name: str, members: tuple[Member, ...]) -> None:
    """Names that are reached through anonymous members must not be there twice (C11 6.7.2.1p13)."""
    seen: set[str] = set()
    waiting = list(members)
    while waiting:
        member = waiting.pop()
        if member.is_anonymous and isinstance(member.type, Record):
            waiting += member.type.members or ()
        if member.name in seen and not member.name.startswith(HIDDEN):
            raise DeclarationError(f"{name}: {member.name!r} is declared twice")
        if member.name:
            seen.add(member.name)


def _reduce(record: Any) -> tuple[Any, ...]:
    """A struct pickles and copies as its class and its bytes; pointers mean nothing elsewhere."""
    if _has_pointer(record_of(type(record))):
        raise ValueError("ctypes objects containing pointers cannot be pickled")
    return _restored, (type(record), bytes(record))


def _restored(cls: Any, data: bytes) -> Any:
    return cls.from_buffer_copy(data)


def _has_pointer(ctype: CType) -> bool:
    match ctype:
        case Pointer():
            return True
        case Array(element=element):
            return _has_pointer(element)
        case Record(members=members):
            return any(_has_pointer(member.type) for member in members or ())
    return False


def _shown(record: Any) -> str:
    declared = getattr(type(record), RECORD, None)
    shown = []
    for name in names_in(declared) if isinstance(declared, Record) else ():
        try:
            value = getattr(record, name)
        except ValueError:  # a wchar that is no character
            value = "?"
        if isinstance(value, ctypes.Array) and len(value) <= 16:
            value = list(value)
        shown.append(f"{name}={value!r}")
    return f"{type(record).__name__}({', '.join(shown)})"


class Struct(ctypes.Structure, metaclass=_make_type(_STRUCTURE_TYPE)):  # type: ignore[metaclass]
    """A C struct: annotations are its members; instances begin as zero.

    `class point(Struct, pack=1)` packs the members, `align=16` aligns the whole.  It is a ctypes.Structure, so
    `ctypes.sizeof`, `byref`, arrays (`point * 3`) and `Ptr[point]` work.

    >>> class point(Struct):
    ...     x: names.f64
    ...     y: names.f64
    >>> point(1.0, y=2.0)
    point(x=1.0, y=2.0)
    """

    __slots__ = ()
    __repr__ = _shown
    __reduce__ = _reduce


class Union(ctypes.Union, metaclass=_make_type(_UNION_TYPE)):  # type: ignore[metaclass]
    """A C union: annotations are its members, which share their memory.

    >>> class number(Union):
    ...     integer: names.i32
    ...     real: names.f32
    >>> number(real=1.0).integer == 0x3F800000
    True
    """

    __slots__ = ()
    __repr__ = _shown
    __reduce__ = _reduce


# -- classes for the records of C text ----------------------------------------------------------------------


def shell_of(record: Record) -> type:
    """A class without members yet, for a struct or union of C text: others may point to it."""
    base: Any = Union if record.tag == "union" else Struct
    shell: type = type(base)(record.name, (base,), {RECORD: None})
    return shell


def class_of(record: Record, records: dict[str, type]) -> type:
    """The class for a struct or union of C text, made once by name in `records`; Opaque where it is incomplete."""
    known = records.get(record.name)
    if known is not None and (record.members is None or getattr(known, RECORD, None) is not None):
        return known
    if record.members is None:
        return records.setdefault(record.name, type(record.name, (names.Opaque,), {}))
    cls: Any = known or shell_of(record)
    records[record.name] = cls  # before its members: they may point back to it
    setattr(cls, RECORD, record)
    declared = []
    for index, member in enumerate(record.members):
        if not member.name and member.bits is None:
            continue
        python_type = c_annotations.ctypes_of(member.type, records)
        name = member.name or f"_{index}"
        declared.append(Declared(name, member.type, python_type, Field(member.bits, None, None, member.is_anonymous)))
    install_fields(cls, record, declared)
    return cls  # type: ignore[no-any-return]


class _StructByName(Struct):
    """Where `super().__init__(...)` of a struct's own __init__ ends: that of ctypes counts hidden fields as well."""

    __init__ = initialise


class _UnionByName(Union):
    __init__ = initialise


type(Struct).by_name = _StructByName  # type: ignore[attr-defined]
type(Union).by_name = _UnionByName  # type: ignore[attr-defined]
