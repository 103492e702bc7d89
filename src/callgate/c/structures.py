"""Structs and unions as Python classes: `Struct`, `Union`, `field`, and the way between ctypes classes and Records.

A `Struct` is a ctypes.Structure whose fields come from annotations.  Our own layout (`layout`) decides where members
lie; ctypes' `_fields_` follow it: as they are where ctypes lays them out in the same way, else with explicit padding,
and with properties for bit-fields that ctypes would put elsewhere.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
from collections.abc import Mapping
from operator import index as to_index
from typing import Any, NamedTuple

from callgate.c import annotations as c_annotations
from callgate.c import names, types
from callgate.c.agreement import disagreement
from callgate.c.layout import Place, RecordLayout, record_layout, size_bytes
from callgate.c.types import Array, CType, Enumeration, Kind, Member, Pointer, Record, Scalar, spell
from callgate.errors import DeclarationError
from callgate.target import DATA_MODEL

_STRUCTURE_TYPE = type(ctypes.Structure)
_UNION_TYPE = type(ctypes.Union)
_RECORD = "__callgate_record__"
_HIDDEN = "_callgate_"
_LARGEST_ALIGNMENT = 1 << 16


class Field(NamedTuple):
    """What `field()` says about a member."""

    bits: int | None = None
    length: int | None = None
    align: int | None = None
    anonymous: bool = False


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


# -- Records of ctypes classes ------------------------------------------------------------------------------


def record_of(cls: type) -> Record:
    """The Record of a ctypes.Structure or Union; its layout is checked against the one that ctypes made.

    Raises DeclarationError for classes without fields, of foreign byte order, with fields that C has no type for, and
    where ctypes lays the class out otherwise than C does.
    """
    known = cls.__dict__.get(_RECORD)
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
    base = _base_with_members(cls)
    own = cls.__dict__.get("_fields_")
    if own is None and base is None:
        return Record(cls.__name__, tag)
    anonymous = frozenset(cls.__dict__.get("_anonymous_", ()))
    members = [] if base is None else [_inherited_member(base)]
    for item in own or ():
        name, field_type = item[0], item[1]
        bits = item[2] if len(item) > 2 else None
        ctype, _ = c_annotations.value_type(field_type, f"{cls.__name__}.{name}")
        members.append(Member(name, ctype, bits, 0, name in anonymous))
    pack = getattr(cls, "_pack_", 0)
    align = getattr(cls, "_align_", 0)
    return Record(cls.__name__, tag, tuple(members), pack, align)


def _base_with_members(cls: type) -> type | None:
    """The class that `cls` inherits members from."""
    for base in cls.__mro__[1:]:
        if base.__dict__.get("_fields_") is not None or isinstance(base.__dict__.get(_RECORD), Record):
            return base
    return None


def _inherited_member(base: type) -> Member:
    """A base is the first member, as in C."""
    return Member(f"{_HIDDEN}{base.__name__}", record_of(base), None, 0, True)


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


# -- Struct and Union ---------------------------------------------------------------------------------------


class _Declared(NamedTuple):
    """One annotated member: its name, C type, ctypes class, and what `field()` said."""

    name: str
    ctype: CType
    python_type: type
    said: Field


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
        inherited = _base_with_members(cls)
        if inherited is not None:
            members = (_inherited_member(inherited), *members)
        _check_names(cls.__name__, members)
        record = Record(cls.__name__, tag, members, pack, align)
        if "_callgate_pending" in cls.__dict__:
            for name in ("_callgate_pending", "__new__", *_MAKING):
                delattr(cls, name)
        _install_fields(cls, record, declared)
        setattr(cls, _RECORD, record)


def _make_type(base: type) -> type:
    """The metaclass of Struct or of Union."""

    class RecordType(base):  # type: ignore[misc]
        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: int) -> Any:
            for option in options:
                if option not in ("pack", "align"):
                    raise TypeError(f"{name}: a struct has no option {option!r}; pack= and align= are known")
            namespace.setdefault("__slots__", ())  # a misspelt member is an AttributeError
            return super().__new__(mcs, name, bases, namespace)

        def __init__(
            cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, pack: int = 0, align: int = 0
        ) -> None:
            super().__init__(name, bases, namespace)
            for option, value in (("pack", pack), ("align", align)):
                if not isinstance(value, int) or not 0 <= value <= _LARGEST_ALIGNMENT or value & (value - 1):
                    raise DeclarationError(f"{name}: {option}= must be a power of two, not {value!r}")
            if _RECORD in namespace or "_fields_" in namespace or not _annotations_of(cls):
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
    """The class's own annotations, evaluated where the interpreter evaluates late (3.14)."""
    own = cls.__dict__.get("__annotations__")
    if own is None and sys.version_info >= (3, 14):
        own = cls.__annotations__
    return dict(own) if own else {}


def _declared_members(cls: type, scopes: tuple[Mapping[str, object], ...]) -> list[_Declared]:
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
        declared.append(_Declared(name, ctype, python_type, said))
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


def _install_fields(cls: type, record: Record, declared: list[_Declared]) -> None:
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
        if anonymous:
            cls._anonymous_ = anonymous  # type: ignore[attr-defined]
        cls._fields_ = plain  # type: ignore[attr-defined]
        for item in declared:
            if item.said.anonymous:
                for name, member_property in _reached_through(item, cls).items():
                    setattr(cls, name, member_property)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
        return
    _install_padded(cls, record, layout, declared, anonymous)


def _is_boolean_bit_field(item: _Declared) -> bool:
    """ctypes reads and writes all bits of the byte."""
    return item.said.bits is not None and isinstance(item.ctype, Scalar) and item.ctype.kind is Kind.BOOLEAN


def _is_function(ctype: CType) -> bool:
    return isinstance(ctype, Pointer) and isinstance(ctype.to, types.FunctionPrototype)


def _lies_alike(base: type, plain: list[Any], layout: RecordLayout, record: Record) -> bool:
    """Whether ctypes, left to itself, lays the fields out as C does."""
    namespace: dict[str, object] = {"_fields_": plain}
    if record.pack_bytes:
        namespace["_pack_"] = record.pack_bytes
    kind = ctypes.Union if issubclass(base, ctypes.Union) else ctypes.Structure
    if getattr(base, "_fields_", None):
        return False if record.align_bytes or record.pack_bytes else not _difference_of_trial(base, namespace, layout)
    return not _difference_of_trial(kind, namespace, layout)


def _difference_of_trial(base: type, namespace: dict[str, object], layout: RecordLayout) -> str:
    if hasattr(base, _RECORD):
        namespace = {**namespace, _RECORD: Record("trial", "struct", ())}
    try:
        trial = type(base)("trial", (base,), namespace)
    except (TypeError, ValueError) as problem:
        return str(problem)
    return _difference(trial, layout) or ("" if ctypes.alignment(trial) == layout.align_bytes else "its alignment")


def _names_in(record: Record) -> list[str]:
    """The names that positional arguments of the class mean: of a base's members first."""
    found = []
    for member in record.members or ():
        if member.name.startswith(_HIDDEN) and isinstance(member.type, Record):
            found += _names_in(member.type)
        elif member.name:
            found.append(member.name)
    return found


def _check_names(name: str, members: tuple[Member, ...]) -> None:
    """Names that are reached through anonymous members must not be there twice (C11 6.7.2.1p13)."""
    seen: set[str] = set()
    waiting = list(members)
    while waiting:
        member = waiting.pop()
        if member.is_anonymous and isinstance(member.type, Record):
            waiting += member.type.members or ()
        if member.name in seen and not member.name.startswith(_HIDDEN):
            raise DeclarationError(f"{name}: {member.name!r} is declared twice")
        if member.name:
            seen.add(member.name)


def _install_padded(
    cls: type, record: Record, layout: RecordLayout, declared: list[_Declared], anonymous: tuple[str, ...]
) -> None:
    """Fields at given offsets: packed, with padding between, bit-fields as properties over their bytes."""
    by_name = {item.name: item for item in declared}
    inherited = _base_with_members(cls)
    own = layout.places[0 if inherited is None else 1 :]
    inherited_bytes = 0 if inherited is None else ctypes.sizeof(inherited)
    if issubclass(cls, ctypes.Union):
        fields, properties = _union_fields(own, by_name, layout)
    else:
        fields, properties = _struct_fields(own, by_name, layout, inherited_bytes)
    cls._pack_ = 1  # type: ignore[attr-defined]
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
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))  # before 3.13 a union's setattr forgets to
    names_in_order = tuple(_names_in(record))

    def initialise(self: Any, *given: object, **named: object) -> None:
        if len(given) > len(names_in_order):
            raise TypeError("too many initializers")
        for name, value in zip(names_in_order, given, strict=False):
            if name in named:
                raise TypeError(f"duplicate values for field {name!r}")
            setattr(self, name, value)
        for name, value in named.items():
            setattr(self, name, value)

    cls.__init__ = initialise  # type: ignore[misc]


_Fields = tuple[list[tuple[str, type]], dict[str, property]]


def _struct_fields(
    places: tuple[Place, ...], by_name: Mapping[str, _Declared], layout: RecordLayout, position: int
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
            fields.append((f"{_HIDDEN}{position}", ctypes.c_uint8 * (offset - position)))
        name = member.name
        if _is_function(member.type):
            name = f"{_HIDDEN}{member.name}"
            properties[member.name] = _function_property(name, member)
        python_type = by_name[member.name].python_type
        fields.append((name, python_type))
        position = offset + ctypes.sizeof(python_type)
    if layout.size_bytes > position:
        fields.append((f"{_HIDDEN}{position}", ctypes.c_uint8 * (layout.size_bytes - position)))
    return fields, properties


def _union_fields(places: tuple[Place, ...], by_name: Mapping[str, _Declared], layout: RecordLayout) -> _Fields:
    fields: list[tuple[str, type]] = [(f"{_HIDDEN}all", ctypes.c_uint8 * layout.size_bytes)]
    properties: dict[str, property] = {}
    for place in places:
        member = place.member
        if member.bits is not None:
            properties[member.name] = _bits_property(place, member)
        elif _is_function(member.type):
            fields.append((f"{_HIDDEN}{member.name}", ctypes.c_void_p))
            properties[member.name] = _function_property(f"{_HIDDEN}{member.name}", member)
        else:
            fields.append((member.name, by_name[member.name].python_type))
    return fields, properties


def _reached_through(item: _Declared, cls: type) -> dict[str, property]:
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
    declared = getattr(type(record), _RECORD, None)
    shown = []
    for name in _names_in(declared) if isinstance(declared, Record) else ():
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
    shell: type = type(base)(record.name, (base,), {_RECORD: None})
    return shell


def class_of(record: Record, records: dict[str, type]) -> type:
    """The class for a struct or union of C text, made once by name in `records`; Opaque where it is incomplete."""
    known = records.get(record.name)
    if known is not None and (record.members is None or getattr(known, _RECORD, None) is not None):
        return known
    if record.members is None:
        return records.setdefault(record.name, type(record.name, (names.Opaque,), {}))
    cls: Any = known or shell_of(record)
    records[record.name] = cls  # before its members: they may point back to it
    setattr(cls, _RECORD, record)
    declared = []
    for index, member in enumerate(record.members):
        if not member.name and member.bits is None:
            continue
        python_type = c_annotations.ctypes_of(member.type, records)
        name = member.name or f"_{index}"
        declared.append(_Declared(name, member.type, python_type, Field(member.bits, None, None, member.is_anonymous)))
    _install_fields(cls, record, declared)
    return cls  # type: ignore[no-any-return]


def class_bytes(cls: type) -> int:
    """The size of a record's class in bytes, as our layout has it."""
    return size_bytes(record_of(cls), DATA_MODEL)
