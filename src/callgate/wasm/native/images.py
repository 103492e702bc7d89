"""Where the code of a module comes from: the cache, the compiler, or the compiler function by function."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Any, Final

from callgate.asm.code import Code
from callgate.errors import ImageError
from callgate.runtime.code_memory import MEMORY, Block
from callgate.runtime.locks import ProcessLock
from callgate.wasm import cache as files
from callgate.wasm.binary import ModuleData
from callgate.wasm.compile.function import Options
from callgate.wasm.compile.layout import layout_of
from callgate.wasm.compile.module import (
    CompiledModule,
    compile_apart,
    compile_module,
    shared_of,
)
from callgate.wasm.compile.stubs import LAZY_STUB_BYTES, lower_lazy_stubs
from callgate.wasm.faults import Faults
from callgate.wasm.limits import poll_interval
from callgate.wasm.native.backtraces import note_image
from callgate.wasm.native.stubs import stubs
from callgate.wasm.validate import Context, Progress, checked_bodies

_POLL_INTERVAL: Final = 1 << 17
_FAULTS: list[Faults] = []
_FAULTS_LOCK = ProcessLock()


def faults() -> Faults:
    """The process's handlers of SIGSEGV, installed with the first guarded code."""
    with _FAULTS_LOCK.here:
        if not _FAULTS:
            _FAULTS.append(Faults(stubs().publish))
        return _FAULTS[0]


class Image:
    """The code of a module in executable memory; instances share it.

    `compiled` has the functions from the one numbered `first` on.
    """

    def __init__(self, module: ModuleData, compiled: CompiledModule, owner: Any, address: int, first: int) -> None:
        self.module = module
        self.compiled = compiled
        self._owner = owner  # a block, or a mapped file
        self.address = address
        self.first = first
        if compiled.is_guarded:
            faults().cover(self, address, address + len(compiled.code))
        if compiled.code:
            note_image(self)

    @cached_property
    def poll_interval(self) -> int:
        """Rounds of loops and calls between two looks at signals, limits and other threads."""
        return poll_interval(_POLL_INTERVAL, self.module)

    def compile_function(self, number: int) -> int:
        """The address of the code of a function that is compiled when first called."""
        return self.address + self.compiled.starts[number - self.first]


def publish_image(module: ModuleData, compiled: CompiledModule) -> Image:
    """Bring a module's code into the gates' code memory."""
    block = publish_code(compiled.code)
    return Image(module, compiled, block, block.address, module.imported_functions)


def publish_code(code: bytes | memoryview) -> Block:
    """Publish code that refers to nothing."""
    return MEMORY.publish(Code(bytes(code), (), {}), lambda symbol: 0)


def image_of(context: Context, options: Options, progress: Progress | None, *, cache: bool, lazy: bool) -> Image:
    """The code of a module; ValidationError or BinaryError where a body breaks the rules.

    What is in the cache is used; what is not is compiled, and put there unless it is compiled lazily.
    """
    module = context.module
    folder = files.cache_folder() if cache and len(module.data) >= files.LEAST_BYTES else None
    key = files.key_of(module.data, options) if folder is not None else b""
    if folder is not None:
        with contextlib.suppress(OSError, ImageError):  # what must not be run is made anew
            compiled, file, address = files.map_module(files.path_of(folder, key), key, is_guarded=options.is_guarded)
            return Image(module, compiled, file, address, module.imported_functions)
    if lazy:
        return LazyImage(context, options, progress)
    made = compile_module(context, options, progress)
    if folder is not None:
        with contextlib.suppress(OSError):  # a full disk, a folder that is only read: it works without
            files.store(folder, key, made)
    return publish_image(module, made)


class LazyImage(Image):
    """Stubs in place of functions; each has its function compiled when it is first called.

    Code is never changed: calls among functions go by the records in the vmctx (`layout`), which lead to the stubs at
    first.
    """

    def __init__(self, context: Context, options: Options, progress: Progress | None) -> None:
        module = context.module
        for _ in checked_bodies(context, progress):
            pass
        first = module.imported_functions
        stubs = lower_lazy_stubs(layout_of(module), range(first, len(module.functions)))
        starts = range(0, len(stubs.data), LAZY_STUB_BYTES)
        block = publish_code(stubs.data)
        compiled = CompiledModule(stubs.data, starts, (), options.is_guarded)
        super().__init__(module, compiled, block, block.address, first)
        self._shared = shared_of(context, options, is_lazy=True)
        self._functions: dict[int, Image] = {}

    def compile_function(self, number: int) -> int:
        """Compile a function where that has not been done, maybe for another instance."""
        found = self._functions.get(number)
        if found is None:
            compiled = compile_apart(self._shared, number - self.first)
            block: Any = publish_code(compiled.code)
            image = Image(self.module, compiled, block, block.address, number)
            found = self._functions.setdefault(number, image)  # another thread may have been faster
        return found.address
