"""C text to the records of `types`: what a pasted prototype means to Python.

`source` and `skipping` make the text readable, pycparser gives its tree, and this module says what each node means.
The rules of passing stand in `passing`; where arguments travel is not known here (`abi`).
pycparser is imported when first used, and touched in `_tree` only; it has no type stubs, hence `Node`.
The file is long because one reader owns all the names of a text: types, enumerators and macros refer to each other.
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from callgate.c.constants import Node, NotConstant, Value, evaluate, literal
from callgate.c.known_names import SPECIFIERS, known_types
from callgate.c.layout import align_bytes, record_layout, size_bytes
from callgate.c.passing import (
    ATTRIBUTE,
    CannotBind,
    decayed,
    not_held,
    not_passed,
    parameter_of,
    python_name,
    result_of,
)
from callgate.c.plain import read_plain
from callgate.c.record_attributes import LayoutAttribute, attributes_of
from callgate.c.skipping import Cleaned, clean
from callgate.c.source import Source
from callgate.c.types import (
    CHAR,
    INT,
    LONG,
    LONG_LONG,
    SHORT,
    SIGNED_CHAR,
    UNSIGNED_CHAR,
    UNSIGNED_INT,
    UNSIGNED_LONG,
    UNSIGNED_LONG_LONG,
    UNSIGNED_SHORT,
    Array,
    CType,
    Enumeration,
    FunctionPrototype,
    FunctionType,
    Kind,
    Member,
    Parameter,
    Pointer,
    Record,
    Scalar,
    Void,
    declaration,
    spell,
)
from callgate.errors import DeclarationError
from callgate.target import Target

MOST_INDIRECTIONS = 16
"""Pointers to pointers to …: more is a mistake, and records this deep would overflow whoever walks them."""

_THIS_VERSION = "this version of callgate cannot"
_LARGEST_ALIGNMENT = 16
"""`aligned` without a number: the largest of any type of the target (x86-64)."""
_UNALIGNED = "a member can be packed only together with its whole struct"


class Declarations(NamedTuple):
    """What a text declares.

    `refused` gives, for each name that is good C but cannot be bound, the error to raise when somebody uses it.
    `records` are the structs and unions with members, by tag and by typedef name, in order of declaration.
    """

    functions: dict[str, FunctionType]
    constants: dict[str, int | float]
    refused: dict[str, DeclarationError]
    typedefs: dict[str, CType]
    records: dict[str, Record]
    variables: dict[str, CType]


def parse(text: str, target: Target) -> Declarations:
    """Read C declarations.

    Parameters: `text`, what a header says; `target`, whose sizes `long`, `size_t` and `wchar_t` have.
    Raises DeclarationError, with line, column and the line, for anything that is not understood.

    >>> from callgate.target import X86_64_LINUX
    >>> parse("#define LIMIT 0x10\\ndouble cos(double x);", X86_64_LINUX).constants
    {'LIMIT': 16}
    """
    plain = read_plain(text, known_types(target))
    if plain is not None:
        return Declarations(plain, {}, {}, {}, {}, {})
    try:
        return _read(Source(text), target)
    except RecursionError:
        raise DeclarationError("the declarations are nested too deeply to be read") from None


def parse_function(text: str, target: Target) -> FunctionType:
    """Read one prototype; its ';' may be left out.  Typedefs and structs that it needs may stand before it.

    Raises DeclarationError where the text is not exactly one function, or that function cannot be bound.

    >>> from callgate.target import X86_64_LINUX
    >>> parse_function("double hypot(double x, double y)", X86_64_LINUX).parameters[1].name
    'y'
    """
    found = parse(f"{text}\n;", target)
    names = [*found.functions, *found.refused]
    if len(names) != 1:
        what = f"{len(names)} were declared ({', '.join(names[:4])})" if names else "none was declared"
        raise DeclarationError(f"exactly one function is expected here, and {what}")
    for error in found.refused.values():
        raise error
    return found.functions[names[0]]


def _read(source: Source, target: Target) -> Declarations:
    known = known_types(target)
    cleaned = clean(source, frozenset(known))
    if cleaned.is_empty:
        raise DeclarationError("no declaration was found in the text: write one, such as 'double cos(double x);'")
    used = {name: known[name] for name in sorted(cleaned.words & known.keys() - cleaned.declared)}
    reader = _Reader(source, cleaned, used, target)
    for node in _tree(source, cleaned.text, used):
        reader.declare(node)
    reader.complete()
    reader.define_macros()
    return Declarations(
        reader.functions, reader.constants, reader.refused, reader.typedefs, reader.records, reader.variables
    )


# --- pycparser ---------------------------------------------------------------------------------------------

_PARSE_ERROR = re.compile(r":(\d+):(\d+): (.*)", re.DOTALL)


def _tree(source: Source, text: str, known: dict[str, CType]) -> list[Node]:
    """The external declarations of `text`; the names of `known` count as types (line 1 is theirs)."""
    parser = importlib.import_module("pycparser.c_parser")
    prelude = "".join(f"typedef int {name};" for name in known)
    try:
        tree = parser.CParser().parse(f"{prelude}\n{text}")
    except parser.ParseError as error:
        raise _parse_error(source, str(error)) from None
    except RecursionError:
        raise
    except Exception as error:
        # On text that is no C its internal assertions and attribute errors come out as they are.
        raise DeclarationError(f"the text is not understood as C ({type(error).__name__} in its parser)") from error
    return list(tree.ext)[len(known) :]


def _parse_error(source: Source, text: str) -> DeclarationError:
    found = _PARSE_ERROR.match(text)
    if not found:
        end = len(source.text.rstrip())
        return source.error("the text ends in the middle of a declaration", end)
    message = found[3]
    if message.startswith("before: "):
        message = f"'{message[len('before: ') :]}' is not expected here"
    elif message == "Invalid multiple types specified":
        message = "two types stand here: a ';' or ',' may be missing between them"
    else:
        message = message[:1].lower() + message[1:]
    return source.error_at(message, max(1, int(found[1]) - 1), int(found[2]))


# --- reading the tree --------------------------------------------------------------------------------------

_Qualified: TypeAlias = "tuple[CType, bool]"  # a type and whether it is const


_ENUM = (INT, UNSIGNED_INT, LONG, UNSIGNED_LONG, LONG_LONG, UNSIGNED_LONG_LONG)
_PACKED_ENUM = (UNSIGNED_CHAR, SIGNED_CHAR, UNSIGNED_SHORT, SHORT, UNSIGNED_INT, *_ENUM)
"""The first type that holds all values; gcc prefers unsigned ones where nothing is negative."""


class _Use(NamedTuple):
    """A function's declaration, and how many structs had members when it was read."""

    node: Node
    function: Node
    known_records: int


class _Reader:
    """The names declared so far, and what each further declaration adds."""

    def __init__(self, source: Source, cleaned: Cleaned, known: dict[str, CType], target: Target) -> None:
        self.source = source
        self.cleaned = cleaned
        self.target = target
        self.functions: dict[str, FunctionType] = {}
        self.constants: dict[str, int | float] = {}
        self.refused: dict[str, DeclarationError] = {}
        self.typedefs: dict[str, CType] = {}
        self.records: dict[str, Record] = {}
        self.variables: dict[str, CType] = {}
        self._complete: dict[CType, Record] = {}  # a record known by name to the one with members
        self._types: dict[str, _Qualified] = {name: (ctype, False) for name, ctype in known.items()}
        self._function_nodes: dict[str, Node] = {}  # typedefs of function types: `fn f;` declares a function
        self._enums: dict[str, Enumeration] = {}
        self._enum_nodes: dict[int, Enumeration] = {}
        self._records: dict[str, Record] = {}  # the tag behind a typedef name
        self._values: dict[str, Value] = {}
        self._pending: set[str] = set()  # macros being evaluated: one of them again is a circle
        self._record_nodes: dict[int, Record] = {}
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", source.text))]
        self._anonymous = 0
        self._tags: dict[str, tuple[str, int]] = {}  # a tag to its keyword and line: they share one name space
        self._uses: dict[str, _Use] = {}
        self._typedef_nodes: dict[str, Node] = {}
        self._own_layouts: set[LayoutAttribute] = set()  # those that belong to a struct, an enum or a member
        self._parameter_names: set[str] = set()  # of the function being read: lengths may refer to them
        self._lines: dict[str, int] = {}

    def error(self, message: str, node: Node) -> DeclarationError:
        coord = getattr(node, "coord", None)
        if coord is None:
            return DeclarationError(message)
        return self.source.error_at(message, coord.line - 1, coord.column or 1)  # line 1 is the prelude's

    def declare(self, node: Node) -> None:
        """One external declaration (C11 6.9)."""
        self._declare_enums(node)
        match type(node).__name__:
            case "Typedef":
                self._declare_typedef(node)
            case "Decl" if node.name is not None:
                self._declare_name(node)
            case "Decl" if type(node.type).__name__ in ("Struct", "Union"):
                record = self._record(node.type, type(node.type).__name__.lower())
                if attribute := self._attribute(node):
                    message = f"{spell(record)} has the attribute '{attribute}': {_THIS_VERSION} follow it"
                    raise self.error(message, node)
            case "Decl" | "StaticAssert" | "Pragma":
                pass
            case kind:
                raise self.error(f"this is not understood as a declaration ({kind})", node)

    def complete(self) -> None:
        """What was declared before the members of its structs were known, once more; the names of structs, compared.

        C11 6.7.2.1p3: a struct may be incomplete where it is only pointed to, or named by a prototype.
        """
        for name, use in list(self._uses.items()):
            if use.known_records < len(self._complete) and (name in self.functions or name in self.refused):
                self._define_function(use.node, use.function)
        for name, ctype in self.variables.items():
            self.variables[name] = self._completed(ctype)
        for name, node in self._typedef_nodes.items():
            named = self.typedefs[name]
            keyword, line = self._tags.get(name, ("", 0))
            if not isinstance(named, Record) or keyword not in ("struct", "union"):
                continue
            if self._canonical(named) != self._canonical(Record(name, keyword)):
                tagged = f"'{keyword} {name}' (line {line})"
                raise self.error(
                    f"'{name}' names two types, this one and {tagged}: Python has one class for both", node
                )

    def _declare_typedef(self, node: Node) -> None:
        name = node.name
        ctype, is_const = self._resolve(node.type)
        if attribute := self._attribute(node) or self._aligned(node):
            ctype = Scalar(f"{name} {ATTRIBUTE}{attribute}))", Kind.UNSIGNED)
        elif isinstance(ctype, Record) and type(node.type.type).__name__ in ("Struct", "Union"):
            ctype = self._named_record(name, node, ctype)
        self._check_depth(ctype, node)
        earlier = self.typedefs.get(name)
        if earlier is not None and self._canonical(earlier) != self._canonical(ctype):
            message = (
                f"'{name}' is declared twice: as '{spell(earlier)}' (line {self._lines[name]}) and as '{spell(ctype)}'"
            )
            raise self.error(message, node)
        if type(node.type).__name__ == "FuncDecl":
            self._function_nodes[name] = node.type
        self.typedefs[name] = ctype
        self._types[name] = (ctype, is_const)
        self._lines[name] = self._line(node)
        self._typedef_nodes[name] = node

    def _named_record(self, name: str, node: Node, tagged: Record) -> Record:
        """A struct shown by the name of its typedef, which is the one that the header gives to its users."""
        ctype = Record(name, "")
        full = self._complete.get(tagged)
        if node.type.type.name is not None:
            self._records[name] = tagged
        else:
            earlier = self._complete.get(ctype)
            if earlier is not None and full is not None and earlier.members != full.members:
                line = self._lines[name]
                raise self.error(f"'{name}' is declared twice, with different members (line {line})", node)
            self._record_nodes[id(node.type.type)] = ctype  # `typedef struct { … } a, *b;`
        if full is not None:
            self._complete_typedef(name, full)
        return ctype

    def _complete_typedef(self, name: str, full: Record) -> None:
        full = full._replace(name=name, has_tag=False)
        self._complete[Record(name, "")] = full
        self.records[name] = full

    def _aligned(self, node: Node) -> str:
        """A layout attribute behind the name of a typedef changes the type, in ways that are not followed, or ""."""
        if not self.cleaned.layouts or node.coord is None:
            return ""
        first, end = self._extent(node)
        return next(
            (
                "aligned"
                for attribute in self.cleaned.layouts
                if first <= attribute.start < end and attribute not in self._own_layouts and not attribute.is_packed
            ),
            "",
        )  # gcc ignores `packed` there

    def _extent(self, node: Node) -> tuple[int, int]:
        """The offsets of the external declaration that a node stands in."""
        starts = (0, *self.cleaned.starts, len(self.source.text))
        here = bisect_right(starts, self._offset(node))
        return starts[here - 1], starts[min(here, len(starts) - 1)]

    def _offset(self, node: Node) -> int:
        return self._line_starts[int(node.coord.line) - 2] + int(node.coord.column or 1) - 1  # line 1 is the prelude's

    def _declare_name(self, node: Node) -> None:
        """A function or a variable."""
        function = self._function_node(node.type)
        if function is None:
            self._declare_variable(node)
        else:
            self._define_function(node, function)

    def _declare_variable(self, node: Node) -> None:
        name = node.name
        if name in self.functions or name in self._uses:
            self._conflict(node, "a variable")
        ctype = self._completed(self._resolve(node.type)[0])
        self._check_depth(ctype, node)
        earlier = self.variables.get(name)
        if earlier is not None:
            if self._canonical(earlier) != self._canonical(ctype) or not _lengths_agree(earlier, ctype):
                line = self._lines[name]
                message = f"'{name}' is declared twice: as '{_spell(earlier)}' (line {line}) and as '{_spell(ctype)}'"
                raise self.error(message, node)
            if isinstance(ctype, Array) and not ctype.length:
                return  # C11 6.7.6.2: the earlier declaration may have said the length
        if isinstance(ctype, Void):
            raise self.error("a variable cannot be void", node)
        self._lines[name] = self._line(node)
        if attribute := self._attribute(node):
            self.refused[name] = self.error(
                f"'{name}' has the attribute '{attribute}': {_THIS_VERSION} follow it", node
            )
        elif what := not_held(ctype):
            self.refused[name] = self.error(f"'{name}' is '{_spell(ctype)}': {_THIS_VERSION} hold {what}", node)
        else:
            self.variables[name] = ctype

    def _define_function(self, node: Node, function: Node) -> None:
        name, use = node.name, self._uses.get(node.name)
        if name in self.variables or (name in self.refused and use is None):
            self._conflict(node, "a function")
        if name in self.refused and use and use.node is not node and use.known_records < len(self._complete):
            self._define_function(use.node, use.function)  # its structs may have members by now
        try:
            new = self._function(node, function)
        except CannotBind as reason:
            if name in self.functions:
                self._conflict(node, "a function that is not the same")
            self.refused[name] = self.error(f"{name}() {reason}", node)
            self._uses[name] = _Use(node, function, len(self._complete))
            return
        old = self.functions.get(name)
        if name in self.refused:
            if self._uses[name].node is not node:
                self._conflict(node, f"'{declaration(new)}'")
            del self.refused[name]
        if old is not None:
            if self._signature(old) != self._signature(new):
                self._conflict(node, f"'{declaration(new)}'")
            if old.positional_only < new.positional_only or (old.doc and not new.doc):
                return
        self.functions[name] = new
        self._lines[name] = self._line(node)
        self._uses[name] = _Use(node, function, len(self._complete))

    def _conflict(self, node: Node, new: str) -> None:
        name = node.name
        earlier = "something else"
        if name in self.functions:
            earlier = f"'{declaration(self.functions[name])}' (line {self._lines[name]})"
        elif name in self.variables:
            earlier = f"'{spell(self.variables[name], name)}' (line {self._lines[name]})"
        raise self.error(f"'{name}' is declared twice: as {earlier} and as {new}", node)

    def _line(self, node: Node) -> int:
        return int(node.coord.line) - 1 if node.coord else 0

    # functions

    def _function_node(self, node: Node) -> Node | None:
        """The FuncDecl of a declared name, through a typedef of a function type too."""
        if type(node).__name__ == "FuncDecl":
            return node
        if type(node).__name__ == "TypeDecl" and type(node.type).__name__ == "IdentifierType":
            names = node.type.names
            return self._function_nodes.get(names[0]) if len(names) == 1 else None
        return None

    def _function(self, node: Node, function: Node) -> FunctionType:
        if attribute := self._attribute(node):
            raise CannotBind(
                f"has the attribute '{attribute}', which changes how arguments travel: {_THIS_VERSION} follow it"
            )
        returned = self._resolve(function.type)[0]  # first, as it stands: it may define a struct
        self._parameter_names = set()
        parameters: list[Parameter] = []
        is_variadic = False
        for number, parameter in enumerate(self._parameter_nodes(function), 1):
            if type(parameter).__name__ == "EllipsisParam":
                is_variadic = True
                continue
            ctype = self._completed(self._resolve(parameter.type)[0])
            self._check_depth(ctype, node)
            try:
                parameters.append(parameter_of(python_name(parameter.name), ctype))
            except CannotBind as what:
                raise CannotBind(f"parameter {number} is '{_spell(ctype)}': {_THIS_VERSION} pass {what}") from None
        ctype = self._completed(returned)
        self._check_depth(ctype, node)
        if isinstance(ctype, FunctionPrototype | Array):
            raise self.error(f"{node.name}() returns '{_spell(ctype)}', and C functions return no such thing", node)
        try:
            result = result_of(ctype)
        except CannotBind as what:
            raise CannotBind(f"returns '{_spell(ctype)}': {_THIS_VERSION} return {what}") from None
        names = [p.name for p in parameters]
        is_named = all(names) and len(set(names)) == len(names)
        return FunctionType(
            node.name,
            tuple(parameters),
            result,
            is_variadic,
            positional_only=0 if is_named and not is_variadic else len(names),
            doc=self._doc(node),
        )

    def _parameter_nodes(self, function: Node) -> Iterator[Node]:
        """The parameters, checked to be declarations; `(void)` and `()` have none."""
        parameters = function.args.params if function.args is not None else []
        if len(parameters) == 1 and type(parameters[0]).__name__ == "Typename":
            ctype, _ = self._resolve(parameters[0].type)
            if isinstance(ctype, Void):
                return
        for parameter in parameters:
            if type(parameter).__name__ not in ("Decl", "Typename", "EllipsisParam"):
                raise self.error("a parameter must begin with its type", parameter)
            if type(parameter).__name__ != "EllipsisParam" and isinstance(self._resolve(parameter.type)[0], Void):
                raise self.error("a parameter cannot be void", parameter)
            self._parameter_names.add(getattr(parameter, "name", None) or "")
            yield parameter

    def _attribute(self, node: Node) -> str:
        """A skipped attribute of this declaration that changes what it means to a call, or ""."""
        if not self.cleaned.attributes or node.coord is None:
            return ""
        first, end = self._extent(node)
        return next((token.text for token in self.cleaned.attributes if first <= token.start < end), "")

    def _doc(self, node: Node) -> str:
        """The comment that ends right above the declaration, or follows it on its last line."""
        text, starts, comments = self.source.text, self.cleaned.starts, self.cleaned.comments
        if not starts or not comments or node.coord is None:
            return ""
        name = self._offset(node)
        chunk = max(0, bisect_right(starts, name) - 1)
        start = starts[chunk]
        first = last = bisect_right(comments, start, key=lambda comment: comment.start) - 1
        if (
            last >= 0
            and re.fullmatch(r"[ \t]*\r?\n?[ \t]*", text[comments[last].end : start])
            and self._opens_line(last)
        ):
            while first > 0 and text[comments[first].start :].startswith("//") and self._opens_line(first - 1):
                between = text[comments[first - 1].end : comments[first].start]
                if not text.startswith("//", comments[first - 1].start) or not re.fullmatch(r"\r?\n[ \t]*", between):
                    break
                first -= 1
            return _comment_text(text[comments[first].start : comments[last].end])
        if chunk + 1 < len(starts) and "\n" not in text[start : starts[chunk + 1]]:
            return ""  # one of several on a line: whose the comment is nobody knows
        end = text.find(";", name)
        following = bisect_right(comments, end, key=lambda comment: comment.start)
        if end >= 0 and following < len(comments):
            comment = comments[following]
            if not text[end + 1 : comment.start].strip(" \t"):
                return _comment_text(text[comment.start : comment.end])
        return ""

    def _opens_line(self, index: int) -> bool:
        start = self.cleaned.comments[index].start
        return not self.source.text[self.source.text.rfind("\n", 0, start) + 1 : start].strip()

    # types

    def _resolve(self, node: Node) -> _Qualified:
        """The type that a chain of declarators means."""
        match type(node).__name__:
            case "TypeDecl":
                ctype, is_const = self._base(node.type)
                if isinstance(ctype, Array) and "const" in node.quals:
                    return ctype._replace(is_const=True), True  # C11 6.7.3p9: it is the elements that are const
                return ctype, is_const or "const" in node.quals
            case "PtrDecl":
                ctype, is_const = self._resolve(node.type)
                return Pointer(ctype, is_const), "const" in node.quals
            case "ArrayDecl":
                ctype, is_const = self._resolve(node.type)
                if type(node.type).__name__ == "ArrayDecl" and node.type.dim is None:
                    raise self.error("only the first length of an array may be left out", node)
                # C11 6.7.3p9: const belongs to the elements, so the innermost array says it
                return Array(ctype, self._length(node.dim), is_const and not isinstance(ctype, Array)), is_const
            case "FuncDecl":
                return self._prototype(node), False
            case "Typename" | "Decl":
                return self._resolve(node.type)
            case "Struct" | "Union" | "Enum" | "IdentifierType":  # a member without a name
                return self._base(node)
            case kind:
                raise self.error(f"this type is not understood ({kind})", node)

    def _base(self, node: Node) -> _Qualified:
        match type(node).__name__:
            case "IdentifierType":
                names = node.names
                if len(names) == 1 and names[0] in self._types:
                    return self._types[names[0]]
                words = tuple(sorted(name for name in names if name != "int"))
                if "signed" in words and "char" not in words and "unsigned" not in words and words.count("signed") == 1:
                    words = tuple(word for word in words if word != "signed")
                ctype = SPECIFIERS.get(words)
                if ctype is None or names.count("int") > (
                    not {"char", "float", "double", "void", "_Bool"} & set(words)
                ):
                    raise self.error(f"'{' '.join(names)}' is not a C type", node)
                return ctype, False
            case "Struct" | "Union" as kind:
                return self._record(node, kind.lower()), False
            case "Enum":
                self._check_tag(node, "enum")
                if id(node) in self._enum_nodes:
                    return self._enum_nodes[id(node)], False
                return self._enums.get(node.name, Enumeration(node.name, INT)), False
            case kind:
                raise self.error(f"this type is not understood ({kind})", node)

    def _length(self, dim: Node) -> int:
        """An array's length; 0 where there is none, or only the call knows it (`double x[n]`)."""
        if dim is None:
            return 0
        try:
            length = self._value(dim).number
        except NotConstant as reason:
            if self._names_in(dim) & (self._parameter_names | {"*"}):
                return 0
            raise self.error(f"the length of an array cannot be worked out: {reason}", reason.node or dim) from None
        if not isinstance(length, int) or not 0 <= length < 1 << 62:
            raise self.error(f"an array cannot have {length} elements", dim)
        return length

    def _check_tag(self, node: Node, keyword: str) -> None:
        """C11 6.7.2.3p3: structs, unions and enums share one name space."""
        if not node.name:
            return
        earlier, line = self._tags.setdefault(node.name, (keyword, self._line(node)))
        if earlier != keyword:
            raise self.error(
                f"'{node.name}' is declared twice: as '{earlier} {node.name}' (line {line}) and as "
                f"'{keyword} {node.name}'",
                node,
            )

    def _record(self, node: Node, tag: str) -> Record:
        """A struct or union by its name; a definition is kept."""
        known = self._record_nodes.get(id(node))
        if known is not None:
            return known
        self._check_tag(node, tag)
        self._anonymous += not node.name
        record = Record(node.name or f"(anonymous {self._anonymous})", tag)
        self._record_nodes[id(node)] = record
        if node.decls is None:
            return record
        attributes = attributes_of(self.cleaned.text, tag, self._offset(node), self.cleaned.layouts)
        self._own_layouts.update(attributes.own, *attributes.members.values())
        self._check_attributes(record, attributes.body)
        is_packed = any(attribute.is_packed for attribute in attributes.own)
        align = max((self._alignment(attribute) for attribute in attributes.own), default=0)
        members: list[Member] = []
        nodes: list[Node] = []
        for member in node.decls:
            if type(member.type).__name__ == "Enum" and member.name is None and member.bitsize is None:
                continue  # it declares enumerators, and no member
            said = () if member.coord is None else attributes.of_member(self.cleaned.text, self._offset(member))
            if not is_packed and any(attribute.is_packed for attribute in said):
                raise self.error(_UNALIGNED, member)
            member_align = max((self._alignment(attribute) for attribute in said), default=0)
            members.append(self._member(member, record, member_align))
            nodes.append(member if member.coord is not None else member.bitsize)
        full = Record(record.name, tag, _with_names(members), 1 if is_packed else 0, align)
        self._check_members(full, nodes, node)
        earlier = self._complete.get(record)
        if earlier is not None and earlier != full:
            line = self._lines[f"{tag} {node.name}"]
            raise self.error(f"'{tag} {record.name}' is declared twice, with different members (line {line})", node)
        self._complete[record] = full
        if node.name:
            self._lines[f"{tag} {node.name}"] = self._line(node)
            self.records[node.name] = full
        for named, tagged in self._records.items():
            if tagged == record:
                self._complete_typedef(named, full)
        return record

    def _check_attributes(self, record: Record, body: tuple[int, int]) -> None:
        """Refuse what is inside the braces and would move members, or the arguments of functions they point to."""
        for attribute in self.cleaned.attributes:
            if body[0] < attribute.start < body[1]:
                where = f"a member of {spell(record)} has the attribute '{attribute.text}'"
                raise self.source.error(f"{where}: {_THIS_VERSION} follow it", attribute.start)

    def _alignment(self, attribute: LayoutAttribute) -> int:
        """The bytes that an `aligned` asks for; 0 for `packed`."""
        if attribute.is_packed:
            return 0
        if not attribute.argument:
            return _LARGEST_ALIGNMENT
        try:
            number = self._aligned_to(attribute.argument)
        except (NotConstant, DeclarationError) as reason:
            raise self.source.error(f"the alignment cannot be worked out: {reason}", attribute.start) from None
        if not isinstance(number, int) or number < 0 or number & (number - 1) or number > 1 << 28:
            raise self.source.error(f"an alignment must be a power of two, not {number}", attribute.start)
        return number

    def _aligned_to(self, argument: str) -> int | float:
        """The value of a constant expression, or the alignment of a type: C11 6.7.5p6."""
        of_type = re.fullmatch(r"(?:_Alignof|alignof|__alignof__|__alignof)\s*\((.*)\)", argument)
        if of_type is None:
            try:
                return self._value(self._expression(argument)).number
            except NotConstant:
                if not re.fullmatch(r"[\w\s*]+", argument) or argument.isdecimal():
                    raise
        size = self._expression(f"sizeof({of_type[1] if of_type else argument})")
        if type(size.expr).__name__ != "Typename":
            raise NotConstant(f"'{argument}' is not known")
        return align_bytes(self._completed(self._resolve(size.expr.type)[0]), self.target)

    def _member(self, node: Node, record: Record, align: int) -> Member:
        """One member; what is pointed to stays a name, so that structs may refer to each other."""
        place = node if node.coord is not None else node.bitsize  # an unnamed bit-field has none
        ctype = self._completed_value(self._resolve(node.type)[0])
        where = f"member '{node.name or '(unnamed)'}' of {spell(record)}"
        bits = None
        if node.bitsize is not None:
            width = self._evaluate(node.bitsize, node.bitsize, "the width of a bit-field").number
            if not isinstance(width, int) or width < 0:
                raise self.error(f"a bit-field cannot have {width} bits", place)
            bits = width
        if isinstance(ctype, FunctionPrototype):
            raise self.error(f"{where} is a function: C has only pointers to functions there, '(*{node.name})'", place)
        if what := not_held(ctype, is_member=True):
            raise self.error(f"{where} is '{_spell(ctype)}': {_THIS_VERSION} hold {what}", place)
        is_anonymous = node.name is None and bits is None
        if is_anonymous and (type(node.type).__name__ not in ("Struct", "Union") or node.type.name is not None):
            message = f"a member of {spell(record)} has no name: only structs and unions without a tag need none"
            raise self.error(message, place)
        return Member(node.name or "", ctype, bits, align, is_anonymous)

    def _check_members(self, full: Record, nodes: list[Node], node: Node) -> None:
        """Each name once, anonymous members' included, and each member with a place."""
        names: set[str] = set()
        for member, place in zip(full.members or (), nodes, strict=True):
            for name in _reached(member):
                if name in names:
                    raise self.error(f"'{name}' is a member of {spell(full)} twice", place)
                names.add(name)
        try:
            size = record_layout(full, self.target).size_bytes
        except DeclarationError as problem:
            raise self.error(str(problem), self._misplaced(full, nodes) or node) from None
        if size >= 1 << 62:
            raise self.error(f"{spell(full)} would have {size} bytes", node)

    def _misplaced(self, full: Record, nodes: list[Node]) -> Node | None:
        """The first member that has no place; a char behind it, so that only the last may be open."""
        members = full.members or ()
        for count in range(1, len(members)):
            try:
                record_layout(full._replace(members=(*members[:count], Member("", CHAR))), self.target)
            except DeclarationError:
                return nodes[count - 1]
        return nodes[-1] if nodes else None

    def _completed(self, ctype: CType) -> CType:
        """A type with the members of the struct that it is, holds, or points to, where they are known."""
        match ctype:
            case Pointer(to=Record() | FunctionPrototype() as to):
                return ctype._replace(to=self._completed(to))
            case FunctionPrototype(parameters=parameters, result=result):
                known = None if parameters is None else tuple(map(self._completed, parameters))
                return ctype._replace(parameters=known, result=self._completed(result))
            case Array(element=element):
                return ctype._replace(element=self._completed(element))
        return self._completed_value(ctype)

    def _completed_value(self, ctype: CType) -> CType:
        """A type with the members of the struct that it is or holds."""
        match ctype:
            case Record(members=None):
                return self._complete.get(ctype, ctype)
            case Array(element=element):
                return ctype._replace(element=self._completed_value(element))
        return ctype

    def _prototype(self, node: Node) -> FunctionPrototype:
        """A function type: its spelling with `(*)` for its name, and the types in it."""
        parameters = []
        types: list[CType] | None = []
        for parameter in self._parameter_nodes(node):
            if type(parameter).__name__ == "EllipsisParam":
                parameters.append("...")
                types = None
                continue
            ctype = decayed(self._completed(self._resolve(parameter.type)[0]))
            parameters.append(_spell(ctype))
            if types is not None:
                types.append(ctype)
        ctype = self._completed(self._resolve(node.type)[0])
        spelling = spell(ctype, f"(*)({', '.join(parameters) or 'void'})")
        return FunctionPrototype(spelling, None if types is None else tuple(types), ctype)

    def _check_depth(self, ctype: CType, node: Node) -> None:
        depth = 0
        while isinstance(ctype, Pointer | Array):
            ctype = ctype.to if isinstance(ctype, Pointer) else ctype.element
            depth += 1
        if depth > MOST_INDIRECTIONS:
            raise self.error(f"more than {MOST_INDIRECTIONS} pointers and arrays inside each other", node)

    def _canonical(self, ctype: CType) -> object:
        """A key that two compatible types share (C11 6.2.7): names of one size and kind are one."""
        match ctype:
            case Pointer(to=to, is_const=is_const):
                return ("pointer", self._canonical(to), is_const)
            case Array(element=element, is_const=is_const):
                return ("pointer", self._canonical(element), is_const)
            case Enumeration():
                return self._canonical(INT)  # int or unsigned int as the compiler likes; passed alike
            case Record(name=name, tag=tag, has_tag=has_tag):
                plain = Record(name, tag if has_tag else "")
                return plain if plain.tag else self._records.get(name, plain)
            case Scalar(kind=kind) if not not_passed(ctype):
                if kind is Kind.WIDE_CHARACTER or (kind is Kind.CHARACTER and self.target.is_char_signed):
                    kind = Kind.SIGNED
                return (kind, size_bytes(ctype, self.target))
            case _:
                return "function" if isinstance(ctype, FunctionPrototype) else ctype

    def _signature(self, function: FunctionType) -> object:
        return self._canonical(function.result.type), tuple(self._canonical(p.type) for p in function.parameters)

    # constants

    def _declare_enums(self, node: Node) -> None:
        """Every enum inside a declaration, inner ones too: enumerators have file scope (C11 6.7.2.2)."""
        waiting = [node]
        while waiting:
            inner = waiting.pop()
            if type(inner).__name__ == "Enum" and inner.values is not None:
                self._declare_enum(inner)
            waiting.extend(child for _, child in reversed(inner.children()))

    def _declare_enum(self, node: Node) -> None:
        members: list[tuple[str, int]] = []
        number = -1
        for member in node.values.enumerators:
            if member.value is None:
                number += 1
            else:
                value = self._evaluate(member.value, member.value, f"the value of {member.name}").number
                if not isinstance(value, int):
                    raise self.error(f"the value of {member.name} is not an integer", member.value)
                number = value
            if not -(1 << 63) <= number < 1 << 64:
                raise self.error(f"the value of {member.name} does not fit 64 bits", member)
            if member.name in self.cleaned.macros or self._values.get(member.name, Value(number)).number != number:
                raise self.error(f"'{member.name}' is declared twice, with different values", member)
            members.append((member.name, number))
            bits = 32 if -(1 << 31) <= number < 1 << 31 else 64
            self._values[member.name] = Value(number, bits, number >= 1 << 63)
            self.constants[member.name] = number
        self._check_tag(node, "enum")
        attributes = attributes_of(self.cleaned.text, "enum", self._offset(node), self.cleaned.layouts)
        self._own_layouts.update(attributes.own)
        if any(not attribute.is_packed for attribute in attributes.own):
            raise self.error(f"an enum with the attribute 'aligned': {_THIS_VERSION} follow it", node)
        base = self._enum_base([value for _, value in members], _PACKED_ENUM if attributes.own else _ENUM)
        if base is None:
            raise self.error("no integer type holds all values of this enum", node)
        enumeration = Enumeration(node.name or "", base, tuple(members))
        self._enum_nodes[id(node)] = enumeration
        if node.name:
            earlier = self._enums.setdefault(node.name, enumeration)
            if earlier != enumeration:
                raise self.error(f"'enum {node.name}' is declared twice, with different members", node)

    def _enum_base(self, values: list[int], bases: tuple[Scalar, ...]) -> Scalar | None:
        low, high = min(values, default=0), max(values, default=0)
        for base in bases:
            bits = 8 * size_bytes(base, self.target)
            is_unsigned = base.kind is Kind.UNSIGNED
            if (0 if is_unsigned else -(1 << bits - 1)) <= low and high < 1 << (bits if is_unsigned else bits - 1):
                return base
        return None

    def define_macros(self) -> None:
        for name, macro in self.cleaned.macros.items():
            try:
                self.constants[name] = self._macro(name).number
            except NotConstant as reason:
                raise self.source.error(
                    f"'#define {name} {macro.body}' is not a number that callgate can work out: {reason}", macro.offset
                ) from None

    def _names_in(self, node: Node) -> set[str]:
        """The names that an expression uses."""
        names = {node.name} if type(node).__name__ == "ID" else set()
        return names.union(*(self._names_in(child) for _, child in node.children()))

    def _evaluate(self, node: Node, place: Node, what: str) -> Value:
        try:
            return self._value(node)
        except NotConstant as reason:
            raise self.error(f"{what} cannot be worked out: {reason}", reason.node or place) from None

    def _value(self, node: Node) -> Value:
        is_whole = type(node).__name__ == "ID"
        return evaluate(node, lambda name: self._named(name, is_whole), self._size, self.target)

    def _named(self, name: str, is_whole: bool) -> Value:
        """The value of a constant's name, alone or (not `is_whole`) within a larger expression."""
        macro = self.cleaned.macros.get(name)
        if macro is None:
            if name not in self._values:
                raise NotConstant(f"'{name}' is not known")
            return self._values[name]
        # C pastes the words of a macro: 1+2 becomes 1+2*3 in NAME*3.  The value would be wrong without a warning.
        if not is_whole and not re.fullmatch(r"[+-]?[\w.]+|'.*'", macro.body) and not _is_parenthesised(macro.body):
            raise NotConstant(f"'{name}' stands for '{macro.body}', which needs parentheses to be used inside another")
        return self._macro(name)

    def _macro(self, name: str) -> Value:
        """The value of `#define name body`, worked out once."""
        if name in self._values:
            return self._values[name]
        if name in self._pending:
            raise NotConstant(f"'{name}' refers to itself")
        body = self.cleaned.macros[name].body
        self._pending.add(name)
        try:
            value = literal(body, self.target) or self._value(self._expression(body))
        finally:
            self._pending.discard(name)
        self._values[name] = value
        return value

    def _expression(self, body: str) -> Node:
        """The tree of a macro's body."""
        if re.search(r"[\"{};]", body):
            raise NotConstant("it is not a constant expression")
        words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", body))
        types = {name: self._types[name][0] for name in words if name in self._types}
        try:
            trees = _tree(Source(body), f"enum {{ value = {' '.join(body.split())} }};", types)
        except DeclarationError:
            raise NotConstant("it is not a constant expression") from None
        if len(trees) == 1 and type(trees[0]).__name__ == "Decl" and type(trees[0].type).__name__ == "Enum":
            members = trees[0].type.values.enumerators
            if len(members) == 1 and members[0].value is not None:
                return members[0].value
        raise NotConstant("it is not a constant expression")

    def _size(self, node: Node) -> Value:
        """What `sizeof` and casts need of a type name: see `constants.evaluate`."""
        if type(node).__name__ != "Typename":
            raise NotConstant("only types have a size here", node)
        ctype = self._completed_value(self._resolve(node.type)[0])
        if isinstance(ctype, Enumeration):
            ctype = ctype.base
        try:
            size = size_bytes(ctype, self.target)
        except DeclarationError:
            raise NotConstant(f"the size of '{_spell(ctype)}' is not known", node) from None
        if not isinstance(ctype, Scalar):
            return Value(size, -1)
        match ctype.kind:
            case Kind.FLOATING:
                return Value(size, 0)
            case Kind.BOOLEAN:
                return Value(size, 1)
            case Kind.CHARACTER:
                return Value(size, 8, not self.target.is_char_signed)
            case kind:
                return Value(size, 8 * size, kind is Kind.UNSIGNED)


def _is_parenthesised(body: str) -> bool:
    depth = 0
    for position, character in enumerate(body):
        depth += (character == "(") - (character == ")")
        if depth == 0 and position < len(body) - 1:
            return False
    return True


# --- what crosses ------------------------------------------------------------------------------------------


def _lengths_agree(one: CType, other: CType) -> bool:
    """Whether two array types have the same lengths, where both say one."""
    while isinstance(one, Array) and isinstance(other, Array):
        if one.length and other.length and one.length != other.length:
            return False
        one, other = one.element, other.element
    return True


def _with_names(members: list[Member]) -> tuple[Member, ...]:
    """The members, anonymous ones with a name of their own: ctypes needs one."""
    taken = {member.name for member in members}
    named = []
    for index, member in enumerate(members):
        name = f"_{index}"
        while name in taken:
            name = f"_{name}"
        named.append(member._replace(name=name) if member.is_anonymous else member)
    return tuple(named)


def _reached(member: Member) -> Iterator[str]:
    """The names by which a member is reached: an anonymous struct's members are those of the outer one."""
    if member.is_anonymous and isinstance(member.type, Record):
        for inner in member.type.members or ():
            yield from _reached(inner)
    elif member.name:
        yield member.name


def _spell(ctype: CType) -> str:
    """The spelling for messages; a pointer to an array needs the parentheses that `spell` leaves out."""
    if isinstance(ctype, Pointer) and isinstance(ctype.to, Array):
        return (
            spell(ctype.to, "(*)") if not isinstance(ctype.to.element, Array) else f"{_spell(ctype.to.element)} (*)[]"
        )
    return spell(ctype).replace("[0]", "[]")


def _comment_text(text: str) -> str:
    """A comment without its marks."""
    lines = []
    for line in text.splitlines():
        bare = re.sub(r"^\s*(?://+[!<]*|/\*+[!<]*|\*+(?!/))?|\s*\*+/\s*$", "", line).strip()
        lines.append(bare)
    return "\n".join(lines).strip()
