"""Modules and instances: loading, linking, exports."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeAlias, TypeVar, overload

from callgate.errors import EngineError
from callgate.runtime.engine import choose, native_engine
from callgate.runtime.process_bound import not_copied
from callgate.target import HOST
from callgate.wasm.annotations import locals_of
from callgate.wasm.binary import Import, Kind, ModuleData, decode
from callgate.wasm.errors import naming
from callgate.wasm.exports import Exports
from callgate.wasm.guard_pages import is_guarded
from callgate.wasm.host import HostFunction
from callgate.wasm.limits import Limits
from callgate.wasm.linking import link
from callgate.wasm.memory import Memory
from callgate.wasm.protocols import Plan, plan_exports
from callgate.wasm.types import ExternType
from callgate.wasm.validate import check_module

L = TypeVar("L")

Imports: TypeAlias = (
    Sequence["HostFunction[..., Any] | tuple[str, str, Any] | tuple[str, Instance[Any]]"]
    | Mapping[str, "Instance[Any] | Mapping[str, Any]"]
)
AllocatorNames: TypeAlias = "str | tuple[str, str] | None"


class Module:
    """A WebAssembly module, decoded, checked and compiled once; `instantiate` runs it any number of times.

    `engine` is "compiled", "portable" or None for what runs here.  `bounds="guarded"` leaves the check of addresses to
    unmapped pages around the memory.  `cache=False` neither reads nor writes kept machine code; `lazy=True` compiles
    each function when it is first called.  `progress(done, whole)` is told how far the compilation is.

    Raises OSError for a file that cannot be read, BinaryError and ValidationError for what is no valid module,
    EngineError for an engine or bounds that cannot be had here.

    >>> Module(bytes.fromhex("0061736d01000000")).exports
    {}
    """

    __reduce__ = not_copied("load its bytes there")

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
        if isinstance(source, (bytearray, memoryview)):
            source = bytes(source)
        if not isinstance(source, (bytes, str, os.PathLike)):
            raise TypeError(f"a module is a path or bytes, not {type(source).__name__}")
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        with naming(source):
            self.data: ModuleData = decode(data)
            self._context = check_module(self.data)
            self.engine = choose_engine(engine)
            if guarded and self.engine != "compiled":
                raise EngineError('guard pages are for compiled code only; use bounds="checked"')
            if self.engine == "portable":
                from callgate.wasm.portable.module import PortableModule

                self._code = PortableModule(self._context)
                self._code.check(progress)
                return
            from callgate.wasm.compile.function import Options
            from callgate.wasm.native.images import image_of

            options = Options(guarded, cpu_features())
            self._image = image_of(self._context, options, progress, cache=cache, lazy=lazy)

    @property
    def name(self) -> str:
        """The module's name, "" where it has none."""
        return self.data.name

    @property
    def imports(self) -> tuple[Import, ...]:
        """What it needs: module, name and type of each."""
        return self.data.imports

    @property
    def exports(self) -> dict[str, ExternType]:
        """What it offers: the type of each, by name."""
        data = self.data
        types: dict[Kind, Sequence[ExternType]] = {
            Kind.FUNCTION: [data.types[index] for index in data.functions],
            **{Kind.TABLE: data.tables, Kind.MEMORY: data.memories, Kind.GLOBAL: data.globals},
        }
        return {export.name: types[export.kind][export.number] for export in data.exports}

    @property
    def custom_sections(self) -> tuple[tuple[str, bytes], ...]:
        """Names and contents of the sections that mean nothing to the specification, in their order."""
        return tuple([(one.name, self.data.data[one.start : one.end]) for one in self.data.customs])

    def __repr__(self) -> str:
        return f"<wasm module {self.name or 'without a name'}, {self.engine}>"

    @overload
    def instantiate(
        self, /, *, imports: Imports = (), limits: Limits | None = None, allocator: AllocatorNames = None
    ) -> Instance[Exports]: ...
    @overload
    def instantiate(
        self,
        exports: Callable[..., L],
        /,
        *,
        imports: Imports = (),
        limits: Limits | None = None,
        allocator: AllocatorNames = None,
    ) -> Instance[L]: ...
    def instantiate(
        self,
        exports: Any = None,
        /,
        *,
        imports: Imports = (),
        limits: Limits | None = None,
        allocator: AllocatorNames = None,
    ) -> Instance[Any]:
        """Run it: link the imports, write the segments, call the start function.  All as of `load`."""
        return self._instantiate(exports, imports, limits, allocator, locals_of(exports, 1))

    def _instantiate(
        self,
        exports: Any,
        imports: Any,
        limits: Limits | None,
        allocator: AllocatorNames,
        local_names: Mapping[str, object] | None,
    ) -> Instance[Any]:
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits= takes wasm.Limits(...), not {limits!r}")
        limits = limits or Limits()
        plans = plan_exports(exports, self.data, local_names, allocator) if exports is not None else {}
        linked = link(self.data, imports, limits, self.engine, self._bounds)
        things = linked.functions, linked.tables, linked.memories, linked.globals
        facade = _Facade(self, plans)
        core: Any
        if self.engine == "portable":
            from callgate.wasm.portable.core import PortableCore

            core = PortableCore(self._code, *things, limits, facade)
        else:
            from callgate.wasm.native.core import Core

            core = Core(self._image, *things, limits, facade)
        instance = facade(core)
        core.initialize()
        return instance


class _Facade:
    """The Instance that stands for a core: the same as long as somebody has it."""

    __slots__ = ("_module", "_plans", "_reference")

    def __init__(self, module: Module, plans: Mapping[str, Plan]) -> None:
        self._module = module
        self._plans = plans
        self._reference: weakref.ref[Instance[Any]] | None = None

    def __call__(self, core: Any) -> Instance[Any]:
        instance = self._reference() if self._reference is not None else None
        if instance is None:
            instance = object.__new__(Instance)
            instance._core = core
            instance._module = self._module
            instance._exports = Exports(core, self._plans)
            self._reference = weakref.ref(instance)
        return instance


_FEATURES: Final = {
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx": "avx",
    "popcnt": "popcnt",
    "abm": "lzcnt",
    "bmi1": "tzcnt",
}
"""What compiled code uses of a processor, by the system's words for it; without the first no code is compiled."""


@functools.cache
def cpu_features() -> frozenset[str]:
    """What of the optional instructions the processor has, and the system allows."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return frozenset(_FEATURES[flag] for flag in flags if flag in _FEATURES)


def choose_engine(engine: str | None) -> str:
    """Which engine runs: "compiled" where machine code is allowed, else "portable"."""
    if engine not in (None, "compiled", "portable"):
        raise ValueError(f'engine={engine!r} is neither "compiled" nor "portable"')
    if engine == "portable":
        return engine
    try:
        if engine is None and choose(None) is None:
            return "portable"
        native_engine()
        if HOST is None or (HOST.architecture, HOST.system) != ("x86_64", "linux"):
            raise EngineError("WebAssembly is compiled on x86-64 Linux only")
        if "sse4.1" not in cpu_features():
            raise EngineError("WebAssembly is compiled for processors with SSE4.1, which /proc/cpuinfo does not show")
        from callgate.wasm.native.stubs import stubs

        stubs()  # raises where gates are those of an image and no memory may become executable
    except EngineError as reason:
        if engine == "compiled":
            raise EngineError(f'{reason}; engine="portable" runs everywhere') from None
        return "portable"
    return "compiled"


class Instance(Generic[L]):
    """A running module, from `load` or `Module.instantiate`.  As a context manager it is closed at the end.

    Any thread may call it, one at a time.  It lives as long as it, one of its exported functions or another instance
    that imports from it is referenced.
    """

    __slots__ = ("__weakref__", "_core", "_exports", "_module")
    __reduce__ = not_copied("instantiate the module there")

    _core: Any
    _exports: Exports
    _module: Module

    def __init__(self) -> None:
        raise TypeError("instances come from wasm.load() or Module.instantiate()")

    def __repr__(self) -> str:
        state = ", closed" if self._core.is_closed else ""
        return f"<wasm instance of {self._module.name or 'a module without a name'}, {self._module.engine}{state}>"

    @property
    def exports(self) -> L:
        """What it exports, as the Protocol types it, or else Exports."""
        return self._exports  # type: ignore[return-value]

    @property
    def module(self) -> Module:
        """The module that it is an instance of."""
        return self._module

    @property
    def memory(self) -> Memory:
        """Its memory; AttributeError where it has none."""
        if not self._core.memories:
            raise AttributeError("the module has no memory")
        memory: Memory = self._core.memories[0]
        return memory

    @property
    def memories(self) -> tuple[Memory, ...]:
        """All memories that it has, its own and imported ones."""
        return tuple(self._core.memories)

    @property
    def fuel_left(self) -> int | None:
        """What is left of Limits.fuel, None where there is no such limit; settable, to go on with more or less."""
        left: int | None = self._core.fuel_left()
        return left

    @fuel_left.setter
    def fuel_left(self, fuel: int) -> None:
        if self._core.limits.fuel is None:
            raise ValueError("the instance has no limit of fuel; give it one with Limits(fuel=...)")
        self._core.set_fuel(Limits(fuel=fuel).fuel)

    def call_raw(self, name: str, words: Sequence[int]) -> list[int]:
        """Call an exported function with the bits of its arguments, two words for a v128; the bits of its results."""
        for export in self._module.data.exports:
            if export.name == name and export.kind is Kind.FUNCTION:
                results: list[int] = self._core.call_raw(export.number, words)
                return results
        raise TypeError(f"{name!r} is no exported function")

    def close(self) -> None:
        """Refuse calls from Python from now on (ClosedError); its memory can still be read.  Twice does nothing.

        Raises RuntimeError while a call is running.  Other instances that import its functions go on calling them.
        """
        self._core.close()

    def __enter__(self) -> Instance[L]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@overload
def load(
    source: str | os.PathLike[str] | bytes,
    /,
    *,
    imports: Imports = (),
    limits: Limits | None = None,
    allocator: AllocatorNames = None,
    engine: str | None = None,
    bounds: str = "checked",
    cache: bool = True,
    lazy: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Instance[Exports]: ...
@overload
def load(
    source: str | os.PathLike[str] | bytes,
    exports: Callable[..., L],
    /,
    *,
    imports: Imports = (),
    limits: Limits | None = None,
    allocator: AllocatorNames = None,
    engine: str | None = None,
    bounds: str = "checked",
    cache: bool = True,
    lazy: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Instance[L]: ...
def load(
    source: str | os.PathLike[str] | bytes,
    exports: Any = None,
    /,
    *,
    imports: Imports = (),
    limits: Limits | None = None,
    allocator: AllocatorNames = None,
    engine: str | None = None,
    bounds: str = "checked",
    cache: bool = True,
    lazy: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Instance[Any]:
    """Load a WebAssembly module, a file or bytes, and run it.

    `exports` is a Protocol class whose methods type the exported functions; without it their own types do.  `imports`
    are host functions (`wasm.host`), `(module, name, thing)`, `(module, instance)`, or a mapping of modules to
    instances or to mappings of names to things; a thing is a Python function with annotations, a gate, an export of an
    instance, a Memory, Table or Global.  `limits` bounds what it may use.  `allocator` names the exports that strings
    travel through: `("malloc", "free")`, which is looked for first, or `"cabi_realloc"`.  The rest is as for Module.

    Returns the Instance.  Raises OSError for a file that cannot be read, BinaryError and ValidationError for what is
    no valid module, DeclarationError for a Protocol without meaning, LinkError with every import and export that is
    missing or of another type, MemoryError for more memory than the limits or the system allow, a Trap if the module's
    start function or a segment traps.

    >>> add = bytes.fromhex("0061736d010000000107016002" "7f7f017f030201000707010361" "646400000a09010700200020016a0b")
    >>> with load(add) as instance:
    ...     instance.exports.add(1, 2)
    3
    """
    module = Module(source, engine=engine, bounds=bounds, cache=cache, lazy=lazy, progress=progress)
    return module._instantiate(exports, imports, limits, allocator, locals_of(exports, 1))
