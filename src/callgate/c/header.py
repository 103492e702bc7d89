"""Reading a C header with libclang into the records of `header_model`.

Nothing here knows Python's names or writes text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, TypeAlias

from callgate.c.doc_comments import Remarks, cleaned, first_sentence
from callgate.c.header_macros import MacroReader
from callgate.c.header_model import (
    Declared,
    EnumMember,
    EnumOf,
    EnumRef,
    FieldOf,
    FunctionOf,
    Header,
    Location,
    NotBound,
    ParameterOf,
    RecordOf,
    RecordRef,
    TypedefOf,
    not_by_value,
)
from callgate.c.header_types import TypeReader, is_named
from callgate.c.translation_unit import MAIN, ClangText, Reading, check, load_clang, own_files, parse, short_name
from callgate.target import IS_MACOS

Clang: TypeAlias = Any
Cursor: TypeAlias = Any


def read_header(name: str, reading: Reading, say: Callable[[str], None]) -> Header:
    """Read a header, found as a path or in the folders of `reading` and the system.

    `say` is told what is going on.  Raises HeaderError for a header that is missing or has errors, and where libclang
    is not installed.
    """
    clang = load_clang()
    say(f"reading {name}")
    unit = parse(clang, name, reading, "")
    check(unit, name)
    return _Reader(clang, unit, name, reading, say).read()


# --- reading ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one translation unit: the declarations of own files, and the types that they need."""

    def __init__(self, clang: Clang, unit: Clang, name: str, reading: Reading, say: Callable[[str], None]) -> None:
        self.clang = clang
        self.unit = unit
        self.name = name
        self.reading = reading
        self.say = say
        self.own = own_files(unit)
        self.remarks = Remarks()
        self.text = ClangText(clang)
        self.kinds = clang.CursorKind
        self.not_bound: list[NotBound] = []
        self.types: dict[str, Declared] = {}
        self.functions: dict[str, FunctionOf] = {}
        self.waiting: list[tuple[Cursor, str]] = []
        self.names = self._typedef_names()
        self.type_of = TypeReader(clang, self._record, self._enum, self._is_own).type_of

    def read(self) -> Header:
        macros = []
        own = set(self.own)
        declarations = []
        for cursor in self.unit.cursor.get_children():
            file = cursor.location.file
            if file is None or file.name not in own:
                continue
            if cursor.kind == self.kinds.MACRO_DEFINITION:
                macros.append(cursor)
            else:
                declarations.append(cursor)
        self.say(f"reading {len(declarations)} declarations")
        for cursor in declarations:
            self._declaration(cursor)
        self._read_waiting()
        self.say(f"evaluating {len(macros)} macros")
        reader = MacroReader(self.clang, self.unit, self.location, self._remark)
        candidates = reader.candidates(macros)
        probed = parse(self.clang, self.name, self.reading, reader.probes(candidates))
        constants, refused = reader.constants(candidates, probed, MAIN, len(self.reading.before) + 2, self.type_of)
        self._read_waiting()
        records = {key: declared for key, declared in self.types.items() if isinstance(declared, RecordOf)}
        functions = tuple(
            function._replace(refusal=_refusal(function, records)) for function in self.functions.values()
        )
        order = {short_name(file): position for position, file in enumerate(self.own)}
        not_bound = [*self.not_bound, *reader.refused, *refused]
        not_bound = [item for item in not_bound if item.name not in self.functions]  # a macro that stands for it
        not_bound.sort(key=lambda item: (order.get(item.location.file, 0), item.location.line))
        name = PurePath(self.name).name if PurePath(self.name).is_absolute() else self.name
        return Header(name, tuple(self.types.values()), functions, tuple(constants), tuple(not_bound))

    def location(self, cursor: Cursor) -> Location:
        """Where a cursor is, with the file's name as an include line would give it."""
        location = cursor.location
        return Location(short_name(location.file.name) if location.file else "", location.line, location.column)

    def _doc(self, cursor: Cursor) -> str:
        """The documentation comment of a cursor, or ""."""
        return cleaned(self.text.comment(cursor))

    def _is_own(self, cursor: Cursor) -> bool:
        file = cursor.location.file
        return file is not None and file.name in self.own

    def _typedef_names(self) -> dict[str, str]:
        """The name that each struct, union and enum has from a typedef: one that repeats the tag, else the first."""
        names: dict[str, str] = {}
        for cursor in self.unit.cursor.get_children():
            if cursor.kind != self.kinds.TYPEDEF_DECL:
                continue
            target = cursor.underlying_typedef_type
            while target.kind == self.clang.TypeKind.ELABORATED:
                target = target.get_named_type()
            if target.kind not in (self.clang.TypeKind.RECORD, self.clang.TypeKind.ENUM):
                continue
            declaration = target.get_declaration()
            tag = declaration.spelling
            key = declaration.get_usr()
            if key not in names or cursor.spelling == tag:
                names[key] = cursor.spelling
        return names

    def _key(self, cursor: Cursor) -> str:
        """What identifies a struct, union or enum: clang's USR, which those without a name share within another."""
        usr = str(cursor.get_usr())
        return usr if is_named(cursor) or usr in self.names else f"{usr}@{cursor.hash}"

    def _name(self, cursor: Cursor) -> str:
        """The name of a struct, union or enum; "" for an anonymous one."""
        known = self.names.get(cursor.get_usr(), "")
        return known or (cursor.spelling if is_named(cursor) else "")

    def _declaration(self, cursor: Cursor) -> None:
        kinds = self.kinds
        kind = cursor.kind
        if kind == kinds.FUNCTION_DECL:
            self._function(cursor)
        elif kind in (kinds.STRUCT_DECL, kinds.UNION_DECL):
            if is_named(cursor) or cursor.get_usr() in self.names:
                self._record(cursor, cursor.is_definition(), "")
        elif kind == kinds.ENUM_DECL:
            self._enum(cursor)
        elif kind == kinds.TYPEDEF_DECL:
            self._typedef(cursor)
        elif kind == kinds.VAR_DECL and cursor.storage_class != self.clang.StorageClass.STATIC:
            self.not_bound.append(NotBound(cursor.spelling, "a variable", self.location(cursor)))

    # -- types

    def _typedef(self, cursor: Cursor) -> None:
        name = cursor.spelling
        key = f"typedef {name}"
        if key in self.types:
            return
        target = self.type_of(cursor.underlying_typedef_type)
        if isinstance(target, RecordRef | EnumRef) and self._called(target) == name:
            return
        self.types[key] = TypedefOf(name, target, self._doc(cursor), self.location(cursor))

    def _called(self, reference: RecordRef | EnumRef) -> str:
        return self.names.get(reference.key, "") or reference.key.rpartition("@")[2]

    def _record(self, cursor: Cursor, by_value: bool, suggested: str) -> str:
        """Note a struct or union, defined before what holds it by value; the result is its key."""
        key = self._key(cursor)
        definition = cursor.get_definition()
        known = self.types.get(key)
        is_wanted = by_value and definition is not None and isinstance(known, RecordOf) and known.fields is None
        if known is not None and not is_wanted:
            return key
        name = self._name(cursor) or suggested
        if definition is None:
            self.types[key] = self._opaque(cursor, key, name)
        elif by_value:
            self.types.pop(key, None)
            self._define(definition, key, name, self._is_own(definition))
        else:
            self.waiting.append((definition, name))
        return key

    def _read_waiting(self) -> None:
        """What is only pointed to: own structs have come by themselves, others follow.

        What another library keeps to itself, by an underscore, stays a handle; it waits to the end, for somebody may
        hold it by value.
        """
        private: list[tuple[Cursor, str]] = []
        while self.waiting:
            cursor, name = self.waiting.pop(0)
            if not self._is_own(cursor) and cursor.spelling.startswith("_"):
                private.append((cursor, name))
            else:
                self._record(cursor, True, name)
        for cursor, name in private:
            key = self._key(cursor)
            if key not in self.types:
                self.types[key] = self._opaque(cursor, key, name)

    def _opaque(self, cursor: Cursor, key: str, name: str) -> RecordOf:
        is_own = self._is_own(cursor)
        doc = self._doc(cursor) if is_own else ""
        return RecordOf(key, name, "struct", None, 0, 0, is_own, False, doc, self.location(cursor))

    def _define(self, cursor: Cursor, key: str, name: str, is_own: bool) -> None:
        ctype = cursor.type
        tag = "union" if cursor.kind == self.kinds.UNION_DECL else "struct"
        parent = cursor.semantic_parent
        is_nested = not is_named(cursor) and parent.kind in (self.kinds.STRUCT_DECL, self.kinds.UNION_DECL)
        fields = tuple(self._field(field, name, number) for number, field in enumerate(ctype.get_fields()))
        self.types[key] = RecordOf(
            key,
            name,
            tag,
            fields,
            ctype.get_size(),
            ctype.get_align(),
            is_own,
            is_nested,
            self._doc(cursor) if is_own else "",
            self.location(cursor),
        )

    def _field(self, cursor: Cursor, record: str, number: int) -> FieldOf:
        name = cursor.spelling if cursor.spelling.isidentifier() else ""
        is_anonymous = not name and not cursor.is_bitfield()
        ctype = self.type_of(cursor.type, suggested=f"{record}_{name or number}", by_value=True)
        return FieldOf(
            name,
            ctype,
            cursor.get_bitfield_width() if cursor.is_bitfield() else None,
            cursor.get_field_offsetof(),
            max(0, cursor.type.get_size()),
            max(1, cursor.type.get_align()),
            is_anonymous,
            (first_sentence(self._doc(cursor)) or self._remark(cursor)) if self._is_own(cursor) else "",
        )

    def _remark(self, cursor: Cursor) -> str:
        """The comment behind a cursor on its line."""
        end = cursor.extent.end
        return self.remarks.behind(end.file.name, end.line, end.column) if end.file else ""

    def _enum(self, cursor: Cursor, suggested: str = "") -> str:
        definition = cursor.get_definition() or cursor
        key = self._key(definition)
        if key in self.types:
            return key
        members = tuple(
            EnumMember(
                child.spelling,
                child.enum_value,
                first_sentence(self._doc(child)) or self._remark(child),
            )
            for child in definition.get_children()
            if child.kind == self.kinds.ENUM_CONSTANT_DECL
        )
        self.types[key] = EnumOf(
            key,
            self._name(definition) or suggested,
            members,
            definition.type.get_size(),
            self._is_own(definition),
            self._doc(definition),
            self.location(definition),
        )
        return key

    # -- functions

    def _function(self, cursor: Cursor) -> None:
        name = cursor.spelling
        parameters = tuple(
            ParameterOf(argument.spelling, self.type_of(argument.type)) for argument in cursor.get_arguments()
        )
        ctype = cursor.type
        symbol = cursor.mangled_name or name
        if IS_MACOS:
            symbol = symbol.removeprefix("_")
        is_static = cursor.storage_class == self.clang.StorageClass.STATIC
        is_inline = bool(self.clang.conf.lib.clang_Cursor_isFunctionInlined(cursor))
        refusal = ""
        if is_static:
            refusal = "a static function" if not is_inline else "an inline function"
        elif self.clang.conf.lib.clang_getFunctionTypeCallingConv(ctype.get_canonical()) != 1:  # CXCallingConv_C
            refusal = "another calling convention"
        made = FunctionOf(
            name,
            symbol.removeprefix("\x01"),
            parameters,
            self.type_of(ctype.get_result()),
            ctype.kind == self.clang.TypeKind.FUNCTIONPROTO and ctype.is_function_variadic(),
            is_inline,
            refusal,
            self._doc(cursor),
            self.location(cursor),
        )
        before = self.functions.get(name)
        if before is not None:  # declared again: what the first left out may stand here
            has_names = all(parameter.name for parameter in before.parameters) and before.parameters
            made = before._replace(
                parameters=before.parameters if has_names else made.parameters or before.parameters,
                doc=before.doc or made.doc,
                refusal=before.refusal or made.refusal,
                is_inline=before.is_inline or made.is_inline,
            )
        self.functions[name] = made


def _refusal(function: FunctionOf, records: Mapping[str, RecordOf]) -> str:
    """Why a function cannot be bound, from what travels by value."""
    if function.refusal:
        return function.refusal
    for ctype in (*(parameter.type for parameter in function.parameters), function.result):
        if what := not_by_value(ctype, records):
            return what
    if function.is_variadic and not function.parameters:
        return "variable arguments and no others"
    return ""
