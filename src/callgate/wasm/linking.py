"""Linking: what a module imports is found among what is offered, and has the type that the module wants."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from callgate.c.layout import size_bytes
from callgate.c.names import FUNCTION_POINTER
from callgate.c.types import CType, Enumeration, FunctionType, Kind, Passing, Returning, Scalar, declaration
from callgate.errors import DeclarationError
from callgate.library import gate_from
from callgate.runtime.callbacks import gate_behind
from callgate.target import DATA_MODEL
from callgate.wasm.binary import ModuleData
from callgate.wasm.errors import LinkError
from callgate.wasm.exports import Exports
from callgate.wasm.host import HostFunction, is_annotated, read_host
from callgate.wasm.limits import Limits
from callgate.wasm.memory import Memory
from callgate.wasm.store import Function, Global, Table, function_of
from callgate.wasm.types import (
    F32,
    F64,
    I32,
    I64,
    NAMES,
    REFERENCES,
    ExternType,
    FuncType,
    GlobalType,
    MemoryType,
    TableType,
)

_SUGGESTIONS: Final = 10  # a module may ask for a million imports, and a search takes its time
_WASI: Final = ("wasi_", "wasi:")
WASI_HINT: Final = (
    "callgate provides no WASI: compile for wasm32-freestanding or wasm32-unknown-unknown, or import host functions "
    "of these names"
)


class Linked:
    """A module's functions that are imported; its tables, memories and globals, the imported ones first."""

    def __init__(self) -> None:
        self.functions: list[Function | HostFunction[..., Any]] = []
        self.tables: list[Table] = []
        self.memories: list[Memory] = []
        self.globals: list[Global] = []


def link(module: ModuleData, imports: Any, limits: Limits, engine: str, bounds: str) -> Linked:
    """Find what the module imports; LinkError with all that is missing or of the wrong type."""
    given = offered(imports)
    linked = Linked()
    problems: list[str] = []
    for module_name, name, wanted in module.imports:
        where = f"{module_name}.{name}"
        if (module_name, name) in given:
            thing = given[module_name, name]
            thing = thing.resolve() if isinstance(thing, _Export) else thing
            problem = _take(linked, thing, wanted, where, engine) or _foreign(thing, engine, where)
            if not problem and bounds == "guarded" and isinstance(thing, Memory) and not thing.is_guarded:
                problem = (
                    f'incompatible import type for {where}: a module with bounds="guarded" needs a memory with guard '
                    'pages, as Memory(..., bounds="guarded") and the modules that are loaded so have'
                )
        else:
            problem = f"unknown import {where}: {wanted} is not among the imports"
            if len(problems) < _SUGGESTIONS:
                problem += _suggestion(name, given)
        if problem:
            problems.append(problem)
    if problems:
        needs_wasi = any(one.module.startswith(_WASI) and (one.module, one.name) not in given for one in module.imports)
        raise LinkError(tuple(problems), WASI_HINT if needs_wasi else "")
    for table in module.tables[len(linked.tables) :]:
        linked.tables.append(Table(NAMES[table.element], *table.limits, most_elements=limits.table_elements))
    for memory in module.memories[len(linked.memories) :]:
        linked.memories.append(Memory(*memory.limits, most_bytes=limits.memory_bytes, bounds=bounds))
    for variable in module.globals[len(linked.globals) :]:
        linked.globals.append(_own_global(variable))
    shared: list[Table | Global] = [*linked.tables, *linked.globals]
    for one in shared:
        one.engine = one.engine or engine
    return linked


def _suggestion(wanted: str, given: Iterable[tuple[str, str]]) -> str:
    import difflib

    offered = {name: f"{module_name}.{name}" for module_name, name in given if isinstance(name, str)}
    near = difflib.get_close_matches(wanted, offered, 1)
    return f"; the nearest of them is {offered[near[0]]}" if near else ""


def _foreign(thing: Any, engine: str, where: str) -> str:
    """What is wrong with something that has been in instances of another engine, or nothing."""
    if not isinstance(thing, (Table, Global)) or thing.engine == engine:
        return ""
    if not thing.engine:
        if engine == "compiled" and any(isinstance(one, Function) and not one.record for one in thing.references()):
            what = "has functions of portable mode"
            return f"incompatible import for {where}: {thing!r} {what} and cannot be in compiled mode"
        return ""
    if isinstance(thing, Global) and not thing.type.is_mutable and thing.type.value not in REFERENCES:
        return ""
    return f"incompatible import for {where}: {thing!r} is used in {thing.engine} mode and cannot be in {engine} mode"


def _own_global(kind: GlobalType) -> Global:
    zero: Any = {I32: 0, I64: 0, F32: 0.0, F64: 0.0}.get(kind.value, bytes(16) if kind.value == 0x7B else None)
    return Global(NAMES[kind.value], zero, mutable=kind.is_mutable)


class _Export(NamedTuple):
    """An export of another instance, made when it is wanted."""

    exports: Exports
    name: str

    def resolve(self) -> Any:
        """The thing."""
        return self.exports[self.name]


def offered(imports: Any) -> dict[tuple[str, str], Any]:
    """All that is offered, by module and name; TypeError for what offers nothing.

    More may be offered than the module imports, and the later of two things of a name counts.
    """
    from callgate.wasm.instance import Instance

    given: dict[tuple[str, str], Any] = {}
    if isinstance(imports, Mapping):
        for module_name, things in imports.items():
            if isinstance(things, Instance):
                _offer_exports(given, module_name, things)
            elif isinstance(things, Mapping):
                given.update({(module_name, name): thing for name, thing in things.items()})
            else:
                raise TypeError(
                    f"imports of {module_name!r} are an Instance or a mapping of names to things, not {things!r}"
                )
        return given
    if isinstance(imports, (str, bytes)) or not hasattr(imports, "__iter__"):
        raise TypeError(f"imports= takes a sequence or a mapping, not {imports!r}")
    for one in imports:
        match one:
            case HostFunction():
                given[one.module, one.name] = one
            case (str(module_name), Instance()):
                _offer_exports(given, module_name, one[1])
            case (str(module_name), str(name), thing):
                given[module_name, name] = thing
            case _:
                raise TypeError(
                    f"imports are functions decorated with wasm.host, (module, name, thing) or (module, instance), "
                    f"not {one!r}"
                )
    return given


def _offer_exports(given: dict[tuple[str, str], Any], module_name: str, instance: Any) -> None:
    exports: Exports = instance._exports
    given.update({(module_name, name): _Export(exports, name) for name in exports})


def _take(linked: Linked, thing: Any, wanted: ExternType, where: str, engine: str) -> str:
    """Add an import to what is linked; what is wrong with it, or nothing."""
    match wanted:
        case FuncType():
            return _take_function(linked, thing, wanted, where, engine)
        case TableType():
            if (
                isinstance(thing, Table)
                and thing.type.element == wanted.element
                and wanted.limits.admits(len(thing), thing.type.limits.maximum)
            ):
                linked.tables.append(thing)
                return ""
        case MemoryType():
            if isinstance(thing, Memory) and wanted.limits.admits(thing.pages, thing.type.limits.maximum):
                linked.memories.append(thing)
                return ""
        case GlobalType():
            if isinstance(thing, Global) and thing.type == wanted:
                linked.globals.append(thing)
                return ""
    return f"incompatible import type for {where}: a {wanted} is needed, not {thing!r}"


def _take_function(linked: Linked, thing: Any, wanted: FuncType, where: str, engine: str) -> str:
    try:
        found = _function(thing, wanted, where)
    except (DeclarationError, ValueError) as problem:
        return f"incompatible import type for {where}: {problem}"
    if found is None:
        return f"incompatible import type for {where}: a function of {wanted} is needed, not {thing!r}"
    signature = found.type if isinstance(found, Function) else found.signature
    if signature != wanted:
        return f"incompatible import type for {where}: a function of {wanted} is needed, not of {signature}"
    if (
        engine == "compiled"
        and isinstance(found, Function)
        and (not found.record or found.owner.limits.timeout_s is not None)
    ):
        # of portable mode, or of an instance whose time begins when it is called: Python code to compiled code
        found = HostFunction(found, signature, found.name)
    linked.functions.append(found)
    return ""


def _function(thing: Any, wanted: FuncType, where: str) -> Function | HostFunction[..., Any] | None:
    """What an import of a function is made of; None for what is no function."""
    thing = function_of(thing)
    if isinstance(thing, (Function, HostFunction)):
        return thing
    if isinstance(thing, FUNCTION_POINTER):
        thing = gate_from(thing)
    name = where.rpartition(".")[2]
    gate = gate_behind(thing)
    if gate is not None:
        return _of_gate(thing, gate, name)
    if not callable(thing):
        return None
    if is_annotated(thing):
        return read_host(thing, None, name).function(thing, name, "")
    return HostFunction(thing, wanted, name)


def _of_gate(thing: Callable[..., Any], gate: Any, name: str) -> HostFunction[..., Any]:
    """A C function: called by compiled code itself, unless the gate has more to do than to call it."""
    signature = gate_signature(gate.signature)
    options = gate.options
    is_plain = options.fails_if is None and options.error is None and not options.blocking
    is_plain = is_plain and options.stack_bytes is None and gate.engine == "native"
    return HostFunction(thing, signature, name, address=gate.address if is_plain else 0)


def gate_signature(signature: FunctionType) -> FuncType:
    """The type of a C function; DeclarationError where WebAssembly has none such."""
    shown = declaration(signature)
    types = [_number(parameter.type, shown) for parameter in signature.parameters]
    if signature.is_variadic or any(one.passing is not Passing.VALUE for one in signature.parameters):
        raise DeclarationError(f"{shown} takes more than numbers")
    match signature.result.returning:
        case Returning.NOTHING:
            return FuncType(tuple(types), ())
        case Returning.VALUE:
            return FuncType(tuple(types), (_number(signature.result.type, shown),))
    raise DeclarationError(f"{shown} returns no number")


def _number(ctype: CType, shown: str) -> int:
    ctype = ctype.base if isinstance(ctype, Enumeration) else ctype
    if isinstance(ctype, Scalar):
        size = size_bytes(ctype, DATA_MODEL)
        if ctype.kind is Kind.FLOATING and size <= ctypes.sizeof(ctypes.c_double):
            return F32 if size == 4 else F64
        if ctype.kind in (Kind.SIGNED, Kind.UNSIGNED) and size in (4, 8):
            return I32 if size == 4 else I64
    raise DeclarationError(f"{shown} has other types than numbers of 32 and 64 bits")
