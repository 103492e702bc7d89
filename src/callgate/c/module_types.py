"""C types as annotations: what stands for a type as an argument, a result, a member, an element."""

from __future__ import annotations

from collections.abc import Mapping

from callgate.c.header_model import (
    AliasOf,
    ArrayOf,
    EnumOf,
    EnumRef,
    Header,
    HeaderType,
    Named,
    NotCarried,
    Nothing,
    PointerTo,
    Prototype,
    RecordRef,
    holds,
    not_by_value,
    stripped,
)

_CHARACTERS = (Named("char", 1), Named("wchar", 2), Named("wchar", 4))
"""Text is copied where it arrives; what Python returns to C needs somebody who keeps it, so it is a pointer."""


class Annotations:
    """Writes annotations for one module and remembers which of callgate's names they use.

    `names` has the Python names of records and enums by key, of typedefs by name; `scoped` are the names that mean
    something else within some class of the module; `unfit` the structs that are shown as bytes.
    """

    def __init__(
        self, header: Header, names: Mapping[str, str], scoped: frozenset[str], unfit: frozenset[str] = frozenset()
    ) -> None:
        self.enums = header.enums
        self.names = names
        self.scoped = scoped
        self.imported: set[str] = set()
        self.aliases: set[str] = set()
        """Typedefs that the module has defined by now; others are spelled out."""
        self.shadowed: frozenset[str] = frozenset()
        """Members of the class that is written now: types of these names need another."""
        self.second_names: dict[str, str] = {}
        self.records = header.records
        self.unfit = unfit

    def of_callgate(self, name: str) -> str:
        """A name of callgate's, imported or with `cg.`."""
        if name in self.scoped:
            return f"cg.{name}"
        self.imported.add(name)
        return name

    def reference(self, name: str) -> str:
        """A name of the module's within the class that is written now."""
        if name not in self.shadowed:
            return name
        return self.second_names.setdefault(name, f"_{name}")

    def enum(self, ctype: EnumRef) -> str:
        """An enum's class; the integer where the class stands for another size, or there is none."""
        declared = self.enums.get(ctype.key)
        if declared is None or ctype.key not in self.names or not is_class_exact(declared):
            return self.of_callgate(ctype.scalar.name)
        return self.reference(self.names[ctype.key])

    def alias(self, ctype: HeaderType) -> str | None:
        """The name of a typedef that may stand for the type here."""
        if isinstance(ctype, AliasOf):
            if ctype.name in self.aliases:
                return self.reference(self.names[ctype.name])
            if isinstance(ctype.to, AliasOf):
                return self.alias(ctype.to)
        return None

    def argument(self, ctype: HeaderType) -> str:
        """An argument of a function: pointers to data are the caller's memory, pointers to what only C knows handles.

        A struct whose members are known is the caller's memory too: the instance itself can be passed then.
        """
        pointee, is_const = self._pointee(ctype)
        if pointee is None:
            return self.value(ctype)
        target = stripped(pointee)
        match target:
            case Nothing() | NotCarried():
                inner = "None"
            case Named(name="char") if is_const:
                return f"{self.of_callgate('cstr')} | None"
            case Named(name="wchar") if is_const:
                return f"{self.of_callgate('wstr')} | None"
            case Prototype():
                return self.result(ctype)
            case RecordRef(key=key) if self.records[key].fields is None:
                return self.result(ctype)
            case _:
                inner = self.element(pointee, "cstr")
        return f"{self.of_callgate('Readable' if is_const else 'Writable')}[{inner}] | None"

    def result(self, ctype: HeaderType) -> str:
        """A result, and what a callback is given or gives back."""
        if isinstance(stripped(ctype), Nothing):
            return "None"
        pointee, is_const = self._pointee(ctype)
        if pointee is None:
            return self.value(ctype)
        target = stripped(pointee)
        if is_const and target == Named("char", 1):
            return "bytes | None"
        if is_const and isinstance(target, Named) and target.name == "wchar":
            return f"{self.of_callgate('wstr')} | None"
        if alias := self._handle_alias(ctype):
            return f"{alias} | None"
        if isinstance(target, Prototype):
            return f"{self.alias(pointee) or self.callback(target)} | None"
        return f"{self.pointer(pointee)} | None"

    def member(self, ctype: HeaderType) -> str:
        """A member of a struct."""
        pointee, is_const = self._pointee(ctype) if not isinstance(stripped(ctype), ArrayOf) else (None, False)
        if pointee is None:
            return self.value(ctype)
        target = stripped(pointee)
        if is_const and target == Named("char", 1) and "bytes" not in self.shadowed:
            return "bytes | None"
        if isinstance(target, Prototype):
            alias = self.alias(ctype) or self.alias(pointee)
            return f"{alias or self.callback(target)} | None"
        return self._handle_alias(ctype) or self.pointer(pointee)

    def value(self, ctype: HeaderType) -> str:
        """A scalar, an enum or a struct by value."""
        alias = self.alias(ctype)
        if alias is not None:
            return alias
        match stripped(ctype):
            case Named(name=name):
                return self.of_callgate(name)
            case EnumRef() as enum:
                return self.enum(enum)
            case RecordRef(key=key):
                return self.reference(self.names[key])
            case NotCarried(python_type=python_type) if python_type:
                return python_type
        raise AssertionError(f"{ctype} is no value")  # refused before

    def element(self, ctype: HeaderType, text: str = "bytes") -> str:
        """What a pointer points to, inside the brackets; `text` stands for `const char *` there."""
        alias = self.alias(ctype)
        target = stripped(ctype)
        match target:
            case Nothing() | NotCarried():
                return "None"
            case ArrayOf(element=element):
                return self.element(element, text)  # its elements lie one after the other
            case PointerTo(to=to, is_const=is_const):
                pointee = stripped(to)
                if is_const and pointee == Named("char", 1):
                    return text if text == "bytes" else self.of_callgate(text)
                if is_const and isinstance(pointee, Named) and pointee.name == "wchar":
                    return self.of_callgate("wstr")
                if isinstance(pointee, Prototype):
                    return f"{self.of_callgate('Ptr')}[None]"
                return self._handle_alias(ctype) or self.pointer(to)
            case Prototype():
                return "None"
        return alias or self.value(target)

    def pointer(self, to: HeaderType) -> str:
        """A pointer as a handle; it gives integers, not members, where it points to an enum."""
        target = stripped(to)
        if isinstance(target, EnumRef):
            return f"{self.of_callgate('Ptr')}[{self.of_callgate(target.scalar.name)}]"
        return f"{self.of_callgate('Ptr')}[{self.element(to)}]"

    def callback(self, prototype: Prototype) -> str:
        """A pointer to a function; untyped where Python cannot be such a function."""
        if not self.is_callable(prototype):
            return f"{self.of_callgate('Ptr')}[None]"
        arguments = ", ".join(self.result(parameter) for parameter in prototype.parameters)
        pointee, _ = self._pointee(prototype.result)
        result = self.result(prototype.result)
        if pointee is not None and stripped(pointee) in _CHARACTERS:
            result = f"{self.pointer(pointee)} | None"
        return f"{self.of_callgate('Callback')}[[{arguments}], {result}]"

    def is_callable(self, prototype: Prototype) -> bool:
        """Whether a function of this type can be called and be written in Python."""
        travelling = (*prototype.parameters, prototype.result)
        return not prototype.is_variadic and not any(
            not_by_value(ctype, self.records) or holds(ctype, self.unfit, self.records) for ctype in travelling
        )

    def _pointee(self, ctype: HeaderType) -> tuple[HeaderType | None, bool]:
        """What a pointer, or an array as a parameter (C11 6.7.6.3p7), points to, and whether that is const."""
        match stripped(ctype):
            case PointerTo(to=to, is_const=is_const):
                return to, is_const
            case ArrayOf(element=element, is_const=is_const):
                return element, is_const
            case Prototype() as prototype:
                return prototype, False
        return None, False

    def _handle_alias(self, ctype: HeaderType) -> str | None:
        """The name of a typedef of a pointer, where it means the same everywhere."""
        return self.alias(ctype) if isinstance(ctype, AliasOf) and has_alias(ctype.to) else None


def has_alias(ctype: HeaderType) -> bool:
    """Whether a typedef of the type means the same everywhere: pointers to data depend on who owns the memory."""
    match ctype:
        case Named() | EnumRef() | RecordRef() | Prototype():
            return True
        case AliasOf(to=to):
            return has_alias(to)
        case PointerTo(to=to):
            return isinstance(stripped(to), RecordRef | Prototype)
    return False


def is_class_exact(enum: EnumOf) -> bool:
    """Whether callgate gives the enum's class the size that the compiler gives the enum."""
    values = [member.value for member in enum.members]
    fits = not values or (
        min(values) >= -(1 << 31) and max(values) < 1 << 32 and (min(values) >= 0 or max(values) < 1 << 31)
    )
    return enum.size_bytes == (4 if fits else 8)
