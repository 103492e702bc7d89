"""All functions of a module to one block of code, position-independent."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from callgate.wasm.compile.function import FunctionCompiler, Options, Shared
from callgate.wasm.compile.layout import HIDDEN, area_of, layout_of
from callgate.wasm.types import PAGE_BYTES, V128
from callgate.wasm.validate import Context, check_body

ENGINE_VERSION: Final = 1
"""Changed whenever the same module gives other code, or code wants another vmctx."""


class CompiledModule(NamedTuple):
    """The code of a module: `starts[n]` is where the n-th function that is not imported begins.

    `sites` are triples: where a call returns to, the instruction in the module, the distance from rsp to the return
    address; sorted by the first.
    """

    code: bytes
    starts: array[int]
    sites: array[int]

    def site_at(self, offset: int) -> tuple[int, int] | None:
        """The instruction and the depth for a place that a call returns to."""
        low, high = 0, len(self.sites) // 3
        while low < high:
            middle = (low + high) // 2
            if self.sites[3 * middle] < offset:
                low = middle + 1
            else:
                high = middle
        if 3 * low < len(self.sites) and self.sites[3 * low] == offset:
            return self.sites[3 * low + 1], self.sites[3 * low + 2]
        return None

    def function_at(self, offset: int) -> int:
        """The number, among those that are not imported, of the function that a place lies in."""
        return bisect_right(self.starts, offset) - 1


def compile_module(
    context: Context, options: Options, progress: Callable[[int, int], object] | None = None
) -> CompiledModule:
    """Check and compile every body; ValidationError or BinaryError where one breaks the rules.

    `progress(done, all)` is called now and then.
    """
    module = context.module
    shared = shared_of(context, options)
    code = bytearray()
    starts, sites = array("I"), array("I")
    calls: list[tuple[int, int]] = []
    for number in range(len(module.bodies)):
        compiled = FunctionCompiler(shared, check_body(context, number)).compile()
        code += b"\xcc" * (-len(code) % 16)
        start = len(code)
        starts.append(start)
        code += compiled.data
        for place, callee in compiled.calls:
            calls.append((start + place, callee))
        for site in sorted(compiled.sites):
            sites.extend((start + site.code, site.module, site.depth_bytes))
        if progress is not None and number % 64 == 0:
            progress(number, len(module.bodies))
    imported = module.imported_functions
    for place, callee in calls:
        struct.pack_into("<i", code, place, starts[callee - imported] - (place + 4))
    if progress is not None:
        progress(len(module.bodies), len(module.bodies))
    return CompiledModule(bytes(code), starts, sites)


def shared_of(context: Context, options: Options) -> Shared:
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
    )
