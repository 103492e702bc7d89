"""All functions of a module to one block of code, position-independent."""

from __future__ import annotations

import gc
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from callgate.wasm.compile.function import Compiled, FunctionCompiler, Options, Shared, too_much_code
from callgate.wasm.compile.layout import HIDDEN, area_of, layout_of
from callgate.wasm.types import PAGE_BYTES, V128
from callgate.wasm.validate import Context, Progress, check_body, checked_bodies

ENGINE_VERSION: Final = 6
"""Changed whenever the same module gives other code, or code wants another vmctx."""


_CODE_BYTES: Final = 4 << 20
_CODE_BYTES_PER_BYTE: Final = 64
"""How much code bodies may become: real ones become 2 to 3 times as large; the rest is for multi-value."""


class CompiledModule(NamedTuple):
    """The code of a module: `starts[n]` is where the n-th function that is not imported begins.

    `sites` are triples: where a call returns to, the instruction in the module, the distance from rsp to the return
    address; sorted by the first.  Guarded code has one before each access as well, for a fault of it, and may run with
    guarded memories only.
    """

    code: bytes | memoryview
    starts: Sequence[int]
    sites: Sequence[int]
    is_guarded: bool

    def site_at(self, offset: int) -> tuple[int, int] | None:
        """The instruction and the depth for a place that a call returns to, or for one in an access that faulted."""
        low, high = 0, len(self.sites) // 3
        while low < high:
            middle = (low + high) // 2
            if self.sites[3 * middle] <= offset:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        return self.sites[3 * low - 3 + 1], self.sites[3 * low - 3 + 2]

    def function_at(self, offset: int) -> int:
        """The number, among those that are not imported, of the function that a place lies in."""
        return bisect_right(self.starts, offset) - 1


def compile_module(context: Context, options: Options, progress: Progress | None = None) -> CompiledModule:
    """Check and compile every body; ValidationError or BinaryError where one breaks the rules."""
    imported = context.module.imported_functions
    shared = shared_of(context, options)
    code = bytearray()
    starts, sites = array("I"), array("I")
    calls: list[tuple[int, int]] = []
    with _collector_paused():
        for body in checked_bodies(context, progress):
            compiled = FunctionCompiler(shared, body).compile()
            code += b"\xcc" * (-len(code) % 16)
            start = len(code)
            starts.append(start)
            code += compiled.data
            if len(code) > shared.most_code_bytes:
                raise too_much_code(shared)
            for place, callee in compiled.calls:
                calls.append((start + place, callee))
            sites.extend(_site_words(compiled, start))
    for place, callee in calls:
        struct.pack_into("<i", code, place, starts[callee - imported] - (place + 4))
    return CompiledModule(bytes(code), starts, sites, options.is_guarded)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the collector of cycles, which looks at half a million instructions again and again and finds none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compile_apart(shared: Shared, number: int) -> CompiledModule:
    """Compile a function whose calls go by the records; `number` counts those that are not imported."""
    compiled = FunctionCompiler(shared, check_body(shared.context, number)).compile()
    starts, sites = array("I", [0]), array("I", _site_words(compiled, 0))
    return CompiledModule(compiled.data, starts, sites, shared.options.is_guarded)


def _site_words(compiled: Compiled, start: int) -> list[int]:
    return [word for site in sorted(compiled.sites) for word in (start + site.code, site.module, site.depth_bytes)]


def shared_of(context: Context, options: Options, *, is_lazy: bool = False) -> Shared:
    """What the functions of a module share."""
    module = context.module
    return Shared(
        context,
        layout_of(module),
        tuple([area_of(signature) for signature in module.types]),
        options,
        module.memories[0].limits.minimum * PAGE_BYTES if module.memories else 0,
        any(V128 in types for signature in module.types for types in signature)
        or any(variable.value == V128 for variable in module.globals),
        {name: module.imported_functions + number for number, name in enumerate(HIDDEN)},
        _CODE_BYTES + _CODE_BYTES_PER_BYTE * sum(body.end - body.start for body in module.bodies),
        is_lazy,
    )
