"""Modules and instances: loading, linking, exports."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from callgate.errors import EngineError
from callgate.wasm.binary import Kind, ModuleData, decode
from callgate.wasm.errors import LinkError
from callgate.wasm.guard_pages import is_guarded
from callgate.wasm.host import HostFunction, signature_of
from callgate.wasm.limits import Limits
from callgate.wasm.memory import Memory
from callgate.wasm.store import Function, Global, Table, function_of
from callgate.wasm.types import NAMES, ExternType, FuncType, GlobalType, MemoryType, TableType
from callgate.wasm.validate import check_module

L = TypeVar("L")


class Module:
    """A WebAssembly module, decoded, checked and compiled once; `instantiate` runs it any number of times."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        /,
        *,
        engine: str | None = None,
        bounds: str = "checked",
        cache: bool = True,
        lazy: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        guarded = is_guarded(bounds)
        self._bounds = bounds
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        self.data: ModuleData = decode(data)
        self._context = check_module(self.data)
        self.engine = choose_engine(engine)
        if guarded and self.engine != "compiled":
            raise EngineError('guard pages are for compiled code only; use bounds="checked"')
        from callgate.wasm.compile.function import Options
        from callgate.wasm.images import image_of

        options = Options(guarded, cpu_features())
        self._image = image_of(self._context, options, progress, cache=cache, lazy=lazy)

    def instantiate(
        self, exports: Callable[..., L] | None = None, /, *, imports: Any = (), limits: Limits | None = None
    ) -> Instance[L]:
        """Run it: link the imports, write the segments, call the start function."""
        limits = limits or Limits()
        linked = link(self.data, imports, limits, self._bounds)
        from callgate.wasm.native import Core

        core = Core(self._image, linked.functions, linked.tables, linked.memories, linked.globals, limits, Instance._of)
        instance: Instance[L] = Instance._of(core)
        core.initialize()
        return instance


@functools.cache
def cpu_features() -> frozenset[str]:
    """What of the optional instructions the processor has."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    names = {
        "popcnt": "popcnt",
        "abm": "lzcnt",
        "bmi1": "tzcnt",
        "bmi2": "bmi2",
        "avx": "avx",
        "sse4_1": "sse4.1",
        "sse4_2": "sse4.2",
    }
    return frozenset(names[flag] for flag in flags if flag in names)


def choose_engine(engine: str | None) -> str:
    """Which engine runs: "compiled" where machine code is allowed, else "portable"."""
    if engine not in (None, "compiled", "portable"):
        raise ValueError(f'engine={engine!r} is neither "compiled" nor "portable"')
    if engine == "portable":
        raise EngineError("portable mode is not there yet")
    return "compiled"


class Linked:
    """What a module's tables of things are, imported and own."""

    def __init__(self) -> None:
        self.functions: list[Any] = []
        self.tables: list[Table] = []
        self.memories: list[Memory] = []
        self.globals: list[Global] = []


def link(module: ModuleData, imports: Any, limits: Limits, bounds: str) -> Linked:
    """Find what the module imports; LinkError with all that is missing or of the wrong type."""
    given = _given(imports)
    linked = Linked()
    problems = []
    for module_name, name, wanted in module.imports:
        where = f"{module_name}.{name}"
        if (module_name, name) not in given:
            problems.append(f"unknown import {where}: {wanted} is not among the imports")
            continue
        thing = given[module_name, name]
        problem = _take(linked, thing, wanted, where)
        if problem:
            problems.append(problem)
        elif bounds == "guarded" and isinstance(thing, Memory) and not thing.is_guarded:
            problems.append(
                f'incompatible import type for {where}: a module with bounds="guarded" needs a memory with guard '
                'pages, as Memory(..., bounds="guarded") and the modules that are loaded so have'
            )
    if problems:
        raise LinkError(tuple(problems))
    for table in module.tables[len(linked.tables) :]:
        linked.tables.append(Table(NAMES[table.element], *table.limits, most_elements=limits.table_elements))
    for memory in module.memories[len(linked.memories) :]:
        linked.memories.append(Memory(*memory.limits, most_bytes=limits.memory_bytes, bounds=bounds))
    for variable in module.globals[len(linked.globals) :]:
        linked.globals.append(_own_global(variable))
    return linked


def _own_global(kind: GlobalType) -> Global:
    zero: Any = 0 if kind.value >= 0x7E else 0.0 if kind.value >= 0x7C else bytes(16) if kind.value == 0x7B else None
    return Global(NAMES[kind.value], zero, mutable=kind.is_mutable)


def _given(imports: Any) -> dict[tuple[str, str], Any]:
    """All that is offered, by module and name."""
    given: dict[tuple[str, str], Any] = {}
    if isinstance(imports, Mapping):
        for module_name, things in imports.items():
            names = things.exports if isinstance(things, Instance) else things
            for name in names:
                given[module_name, name] = names[name]
        return given
    for one in imports:
        if isinstance(one, HostFunction):
            given[one.module, one.name] = one
        elif isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], Instance):
            for name in one[1].exports:
                given[one[0], name] = one[1].exports[name]
        elif isinstance(one, tuple) and len(one) == 3:
            given[one[0], one[1]] = one[2]
        else:
            raise TypeError(f"imports are host functions, (module, name, thing) or (module, instance), not {one!r}")
    return given


def _take(linked: Linked, thing: Any, wanted: ExternType, where: str) -> str:
    """Add an import to what is linked; what is wrong with it, or nothing."""
    if isinstance(wanted, FuncType):
        function = function_of(thing)
        if isinstance(function, (Function, HostFunction)):
            found = function.type if isinstance(function, Function) else function.signature
        elif callable(function):
            record = getattr(function, "__self__", None)
            address = getattr(record, "address", 0) if hasattr(record, "plan") else 0
            if address:
                found = wanted
                function = HostFunction(thing, wanted, where, address=address)
            else:
                found, takes_instance, annotations = signature_of(function, where)
                function = HostFunction(function, found, where, takes_instance=takes_instance, annotations=annotations)
        else:
            return f"incompatible import type for {where}: a function of {wanted} is needed, not {thing!r}"
        if found != wanted:
            return f"incompatible import type for {where}: a function of {wanted} is needed, not of {found}"
        linked.functions.append(function)
        return ""
    if isinstance(wanted, TableType) and isinstance(thing, Table):
        if thing.type.element == wanted.element and wanted.limits.admits(len(thing), thing.type.limits.maximum):
            linked.tables.append(thing)
            return ""
    elif isinstance(wanted, MemoryType) and isinstance(thing, Memory):
        if wanted.limits.admits(thing.pages, thing.type.limits.maximum):
            linked.memories.append(thing)
            return ""
    elif isinstance(wanted, GlobalType) and isinstance(thing, Global) and thing.type == wanted:
        linked.globals.append(thing)
        return ""
    return f"incompatible import type for {where}: a {wanted} is needed, not {thing!r}"


class Exports(Mapping[str, Any]):
    """What an instance exports, by attribute and by name."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._module: ModuleData = core.module
        self._numbers = {export.name: export for export in self._module.exports}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        made = self._made.get(name)
        if made is None:
            _, kind, number = self._numbers[name]
            match kind:
                case Kind.FUNCTION:
                    made = self._core.callable(number)
                case Kind.TABLE:
                    made = self._core.tables[number]
                case Kind.MEMORY:
                    made = self._core.memories[number]
                case Kind.GLOBAL:
                    made = self._core.globals[number]
            self._made[name] = made
        return made

    def __getattr__(self, name: str) -> Any:
        if name not in self._numbers:
            raise AttributeError(f"the module exports no {name!r}; it exports {', '.join(self._numbers) or 'nothing'}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._numbers})


class Instance(Generic[L]):
    """A running module."""

    __slots__ = ("__weakref__", "_core", "_exports")

    _core: Any
    _exports: Exports

    def __init__(self) -> None:
        raise TypeError("instances come from wasm.load() or Module.instantiate()")

    @classmethod
    def _of(cls, core: Any) -> Instance[Any]:
        instance = object.__new__(cls)
        instance._core = core
        instance._exports = Exports(core)
        return instance

    @property
    def exports(self) -> L:
        """What it exports."""
        return self._exports  # type: ignore[return-value]

    @property
    def memory(self) -> Memory:
        """Its memory."""
        if not self._core.memories:
            raise AttributeError("the module has no memory")
        memory: Memory = self._core.memories[0]
        return memory

    def call_raw(self, name: str, words: Sequence[int]) -> list[int]:
        """Call an exported function with the bits of its arguments, two words for a v128; the bits of its results."""
        _, kind, number = self._exports._numbers[name]
        if kind is not Kind.FUNCTION:
            raise TypeError(f"{name!r} is no function")
        results: list[int] = self._core.call_raw(number, words)
        return results

    def close(self) -> None:
        """Refuse calls from now on."""
        self._core.close()

    def __enter__(self) -> Instance[L]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def load(
    source: str | os.PathLike[str] | bytes,
    exports: Callable[..., Any] | None = None,
    /,
    *,
    imports: Any = (),
    limits: Limits | None = None,
    engine: str | None = None,
    bounds: str = "checked",
    cache: bool = True,
    lazy: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Instance[Any]:
    """Load a module and run it."""
    module = Module(source, engine=engine, bounds=bounds, cache=cache, lazy=lazy, progress=progress)
    return module.instantiate(exports, imports=imports, limits=limits)
