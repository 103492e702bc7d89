"""What a Protocol declares of a module's exports, and how it fits what the module has.

Everything is compared before anything runs: `plan_exports` gives a plan for each member, or one LinkError for all.
"""

from __future__ import annotations

import builtins
import ctypes
from collections.abc import Callable, Mapping
from enum import Enum
from types import FunctionType as PythonFunction
from typing import Any, Final, NamedTuple

from callgate.c.annotations import read_def, resolve, strip_none
from callgate.c.types import VOID, FunctionType, Result, Returning
from callgate.errors import DeclarationError
from callgate.wasm.annotations import Value, results_of, value_of
from callgate.wasm.binary import Kind, ModuleData
from callgate.wasm.errors import LinkError
from callgate.wasm.memory import Memory
from callgate.wasm.store import Function, Global, Table
from callgate.wasm.types import I32, NAMES, V128, FuncType, spell

OPTIONS: Final = "__callgate_options__"
_KNOWN_OPTIONS: Final = ("free", "required", "symbol")
_KINDS: Final = {Memory: Kind.MEMORY, Table: Kind.TABLE, Global: Kind.GLOBAL, Function: Kind.FUNCTION}


class Form(Enum):
    """How a str or bytes lies in the module's memory."""

    CSTR = "char *"  # up to a NUL
    PAIR = "address, length"
    RECORD = "address of (address, length)"  # what the canonical ABI returns


class Text(NamedTuple):
    """A str or bytes that travels through the module's memory."""

    is_str: bool
    is_nullable: bool
    form: Form | None  # None: what fits

    @property
    def words(self) -> str:
        """What a parameter takes, for messages."""
        words = "str or bytes" if self.is_str else "a bytes-like object"
        return f"{words} or None" if self.is_nullable else words


class TypedCall(NamedTuple):
    """A function that Python code converts for: strings, references, vectors, several results."""

    name: str
    doc: str
    names: tuple[str | None, ...]  # of the parameters that may be given by keyword
    takes: tuple[Value | Text, ...]
    gives: tuple[Value | Text, ...]
    free: int | None  # the function that frees a returned text


class Allocator(NamedTuple):
    """The module's own allocation: numbers of functions.  With `is_realloc` what is passed belongs to the function."""

    allocate: int
    free: int | None
    is_realloc: bool


class Plan(NamedTuple):
    """What a member of a Protocol is made of; of a function, as a gate has it or as Python code converts."""

    name: str
    kind: Kind | None  # None: there is no such export, and none required
    number: int
    gate: FunctionType | None = None
    call: TypedCall | None = None
    allocator: Allocator | None = None


class _Member(NamedTuple):
    name: str
    symbol: str
    is_required: bool
    free: str | None
    method: Callable[..., Any] | None
    kind: Kind | None


def plan_exports(
    protocol: Any, module: ModuleData, local_names: Mapping[str, object] | None, allocator: object
) -> dict[str, Plan]:
    """The plan for each member, by the export's name and the member's.

    DeclarationError for a Protocol that means nothing, LinkError for one that the module does not fit.
    """
    members = _members(protocol, local_names)
    planner = _Planner(module, allocator)
    plans: dict[str, Plan] = {}
    problems: list[str] = []
    for member in members:
        try:
            plan = planner.plan(member, local_names)
        except LinkError as problem:
            problems += problem.problems
        else:
            plans[member.name] = plan
    if problems:
        raise LinkError(tuple(problems))
    for member in members:
        plans.setdefault(member.symbol, plans[member.name])
    return plans


def _members(protocol: Any, local_names: Mapping[str, object] | None) -> list[_Member]:
    if not isinstance(protocol, type):
        raise TypeError(f"exports are typed by a Protocol class, not {protocol!r}")
    members: dict[str, _Member] = {}
    for cls in reversed(protocol.__mro__):
        if cls is object or cls.__module__ in ("typing", "typing_extensions", "collections.abc"):
            continue
        for name, thing in vars(cls).items():
            if isinstance(thing, PythonFunction) and not name.startswith("_"):
                members[name] = _method(name, thing)
        scopes: tuple[Mapping[str, object], ...] = (local_names or {}, _module_names(cls), vars(builtins))
        for name, annotation in getattr(cls, "__annotations__", {}).items():
            where = f"{cls.__name__}.{name}"
            kind = _KINDS.get(resolve(annotation, scopes, where))  # type: ignore[call-overload]
            if kind is None:
                raise DeclarationError(
                    f"{where}: an export that is no function is a wasm.Memory, wasm.Table or wasm.Global"
                )
            members[name] = _Member(name, name, True, None, None, kind)
    if not members:
        raise DeclarationError(f"{protocol.__name__} declares no export")
    return list(members.values())


def _module_names(cls: type) -> Mapping[str, object]:
    import sys

    return vars(sys.modules.get(cls.__module__, sys))


def _method(name: str, function: Callable[..., Any]) -> _Member:
    options: Mapping[str, Any] = getattr(function, OPTIONS, {})
    for option in options:
        if option not in _KNOWN_OPTIONS:
            raise DeclarationError(
                f"{name}(): {option}= means nothing for a WebAssembly export; {', '.join(_KNOWN_OPTIONS)} do"
            )
    free = options.get("free")
    if free is not None and not isinstance(free, str):
        raise DeclarationError(f"{name}(): free= is the name of an export that frees the result, not {free!r}")
    return _Member(name, options.get("symbol") or name, options.get("required", True), free, function, Kind.FUNCTION)


class _Planner:
    def __init__(self, module: ModuleData, allocator: object) -> None:
        self.module = module
        self.exports = {export.name: export for export in module.exports}
        self._wanted = allocator
        self._allocator: Allocator | None = None
        if allocator is not None:
            self._allocator = self._named(allocator)

    def signature(self, number: int) -> FuncType:
        """The type of a function."""
        return self.module.types[self.module.functions[number]]

    def plan(self, member: _Member, local_names: Mapping[str, object] | None) -> Plan:
        """The plan for a member; LinkError where it does not fit."""
        export = self.exports.get(member.symbol)
        if export is None:
            if not member.is_required:
                return Plan(member.name, None, 0)
            near = ", ".join(sorted(self.exports)) or "nothing"
            near = near if len(near) < 500 else f"{near[:500]}..."
            raise LinkError((f"unknown export {member.symbol}: the module exports {near}",))
        if export.kind is not member.kind:
            wanted = str(member.kind and member.kind.name.lower())
            raise LinkError((f"incompatible export {member.symbol}: it is a {export.kind.name.lower()}, no {wanted}",))
        if member.method is None:
            return Plan(member.name, export.kind, export.number)
        return self._function(member, member.method, export.number, local_names)

    def _function(
        self, member: _Member, method: Callable[..., Any], number: int, local_names: Mapping[str, object] | None
    ) -> Plan:
        declared = read_def(method, local_names, skips_first=1)
        name = declared.name
        if declared.is_variadic:
            raise DeclarationError(f"{name}(): functions of WebAssembly have no variable arguments")
        takes = [_item(one, hint, f"{name}() parameter {one!r}") for one, hint in declared.parameters]
        where = f"{name}() result"
        gives = [_item("result", hint, where) for hint in results_of(declared.result, where)]
        if len(gives) > 1 and any(isinstance(one, Text) for one in gives):
            raise DeclarationError(f"{where}: a str or bytes is the only result")
        signature = self.signature(number)
        fitted = _fit(takes, signature.parameters)
        results = self._fit_results(gives, signature.results)
        if fitted is None or results is None:
            said = f"{_spell(takes)} -> {_spell(gives)}"
            raise LinkError((f"incompatible export {member.symbol}: it is {signature}, the Protocol says {said}",))
        doc = method.__doc__ or ""
        positional = max(0, method.__code__.co_posonlyargcount - 1)
        gate = _gate(name, fitted, results, positional, doc)
        has_text = any(isinstance(one, Text) for one in (*fitted, *results))
        free = self._free(member, results)
        if gate is not None and not has_text:
            return Plan(name, Kind.FUNCTION, number, gate)
        names = tuple([one if place >= positional else None for place, (one, _) in enumerate(declared.parameters)])
        call = TypedCall(name, doc, names, tuple(fitted), tuple(results), free)
        needs = any(isinstance(one, Text) for one in fitted)
        return Plan(name, Kind.FUNCTION, number, None, call, self._needed(name) if needs else None)

    def _fit_results(self, gives: list[Value | Text], types: tuple[int, ...]) -> list[Value | Text] | None:
        if len(gives) == 1 and isinstance(gives[0], Text):
            text = gives[0]
            if types == (V128,) and not text.is_str:
                return [Value(V128)]
            if types == (I32, I32):
                return [text._replace(form=Form.PAIR)]
            if types == (I32,):
                found = self._found()
                return [text._replace(form=Form.RECORD if found is not None and found.is_realloc else Form.CSTR)]
            return None
        fits = len(gives) == len(types) and all(
            isinstance(one, Value) and one.type == kind for one, kind in zip(gives, types, strict=True)
        )
        return gives if fits else None

    # -- allocation ---------------------------------------------------------------------------------------------------
    def _needed(self, name: str) -> Allocator:
        found = self._found()
        if found is None:
            raise LinkError(
                (
                    f"{name}: a str or bytes needs the module's allocator, and it exports neither malloc and free nor "
                    "cabi_realloc; name its own with allocator=(allocate, free)",
                )
            )
        return found

    def _found(self) -> Allocator | None:
        """The allocator that was named, else the one with a name that is known."""
        if self._allocator is None and self._wanted is None:
            self._wanted = False
            for known in (("malloc", "free"), "cabi_realloc"):
                names = (known,) if isinstance(known, str) else known
                if all(one in self.exports and self.exports[one].kind is Kind.FUNCTION for one in names):
                    self._allocator = self._named(known)
                    break
        return self._allocator

    def _named(self, names: object) -> Allocator:
        match names:
            case str():
                return Allocator(self._number(names, [FuncType((I32,) * 4, (I32,))]), None, True)
            case (str(allocate), str(free)):
                return Allocator(self._number(allocate, [FuncType((I32,), (I32,))]), self._number(free, _FREES), False)
        raise TypeError(
            "allocator= is the names of two exports, (allocate, free), or that of one with the type of cabi_realloc, "
            f"not {names!r}"
        )

    def _number(self, name: str, types: list[FuncType]) -> int:
        export = self.exports.get(name)
        found = self.signature(export.number) if export is not None and export.kind is Kind.FUNCTION else None
        if export is None or found not in types:
            wanted = " or ".join(map(str, types))
            what = f"it is {found}" if found is not None else "no function of that name is exported"
            raise LinkError((f"incompatible export {name}: {what}, its type must be {wanted}",))
        return export.number

    def _free(self, member: _Member, results: list[Value | Text]) -> int | None:
        """What releases a text that is returned."""
        is_text = bool(results) and isinstance(results[0], Text)
        if member.free is not None:
            if not is_text:
                raise DeclarationError(f"{member.name}(): free= needs a result that is str or bytes")
            return self._number(member.free, _FREES)
        found = self._found()
        after = self.exports.get(f"cabi_post_{member.symbol}")
        if is_text and found is not None and found.is_realloc and after is not None:
            return self._number(after.name, [_FREES[0]])
        return None


_FREES: Final = [FuncType((I32,), ()), FuncType((I32, I32), ())]


def _item(name: str, annotation: object, where: str) -> Value | Text:
    plain, is_nullable = strip_none(annotation, where)
    if plain is ctypes.c_char_p:
        return Text(True, is_nullable, Form.CSTR)
    if plain is str or plain is bytes:
        return Text(plain is str, is_nullable, None)
    return value_of(name, annotation, where)


def _fit(takes: list[Value | Text], types: tuple[int, ...]) -> list[Value | Text] | None:
    """What each parameter is, so that all of them are the function's; None where they are not.

    Texts are one parameter of the function each, or two: the number of parameters tells.
    """
    for form in (Form.CSTR, Form.PAIR):
        fitted: list[Value | Text] = []
        at = 0
        for one in takes:
            wanted = types[at] if at < len(types) else None
            if isinstance(one, Value):
                if one.type != wanted:
                    break
                at += 1
                fitted.append(one)
            elif wanted == V128 and not one.is_str:
                at += 1
                fitted.append(Value(V128))
            else:
                text = one if one.form is not None else one._replace(form=form)
                count = 2 if text.form is Form.PAIR else 1
                if types[at : at + count] != (I32,) * count:
                    break
                at += count
                fitted.append(text)
        if len(fitted) == len(takes) and at == len(types):
            return fitted
    return None


def _spell(items: list[Value | Text]) -> str:
    if all(isinstance(one, Value) for one in items):
        return spell(tuple([one.type for one in items if isinstance(one, Value)]))
    shown = [NAMES[one.type] if isinstance(one, Value) else ("str" if one.is_str else "bytes") for one in items]
    return f"({', '.join(shown)}), where a str or bytes is i32 or i32, i32"


def _gate(
    name: str, takes: list[Value | Text], gives: list[Value | Text], positional: int, doc: str
) -> FunctionType | None:
    """The declaration of a function of numbers."""
    parameters = [one.parameter for one in takes if isinstance(one, Value) and one.parameter is not None]
    results = [one.result for one in gives if isinstance(one, Value) and one.result is not None]
    if len(parameters) < len(takes) or len(results) < len(gives) or len(results) > 1:
        return None
    result = results[0] if results else Result(VOID, Returning.NOTHING)
    return FunctionType(name, tuple(parameters), result, False, positional, doc)
