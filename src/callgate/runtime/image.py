"""Images in this process: found beside their modules, mapped from their files, their tables filled.

What is in an image is `lower.image`'s matter, who may have written its file `checked_file`'s.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from callgate import __version__
from callgate.errors import ImageError
from callgate.lower.callback import SLOT_BYTES, SLOT_THUNKS, SLOT_THUNKS_END
from callgate.lower.image import (
    TABLE_BYTES,
    THUNK_COUNT,
    check_facts,
    image_facts,
    read_image,
    slot_distance,
)
from callgate.lower.machine import Machine
from callgate.runtime.lifetime import keep_for_ever, permanent_memory
from callgate.target import IS_FREE_THREADED, Target

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}{'t' * IS_FREE_THREADED}"
"""The version of this interpreter as images name it."""


class ImageCode(NamedTuple):
    """The code of one shape in a mapped image, which stays mapped for ever."""

    address: int
    size_bytes: int


class SlotThunks(NamedTuple):
    """A batch of thunks, and the table of zeroed slots that they lead to: addresses, and the size of a thunk."""

    slots: int
    thunks: int
    thunk_bytes: int


class MappedImage:
    """An image in this process: `labels` gives the addresses of its routines, `slot_thunks` its batch of thunks.

    It is never unmapped, as C may have the address of a thunk.
    """

    def __init__(self, path: str, machine: Machine) -> None:
        """Map it; ImageError, which says what to do, where it is not to be trusted or for something else."""
        from callgate.runtime.checked_file import map_checked  # most processes have no images

        mapped = map_checked(path, TABLE_BYTES)
        try:
            image = read_image(mapped.data)
            check_facts(image.facts, image_facts(machine, THIS_PYTHON, __version__))
            if not image.labels.keys() >= {SLOT_THUNKS, SLOT_THUNKS_END}:
                raise ImageError("it has no thunks")
        except ImageError as problem:
            raise _refused(path, problem) from None
        self.path = path
        self.machine = machine
        self._mapped = mapped
        self._symbols = image.symbols
        self._shapes = image.shapes
        self.labels = {name: mapped.address + offset for name, offset in image.labels.items()}
        thunks, end = self.labels.pop(SLOT_THUNKS), self.labels.pop(SLOT_THUNKS_END)
        keep_for_ever(mapped)
        slots = permanent_memory(SLOT_BYTES * THUNK_COUNT)
        self.slot_thunks = SlotThunks(slots, thunks, (end - thunks) // THUNK_COUNT)

    def fill(self, resolve: Callable[[str], int]) -> None:
        """Fill the table of literals, which is only read from then on; ImageError where that is not to be done here."""
        words = []
        for symbol in reversed(self._symbols):
            kind, _, name = symbol.partition(":")
            try:
                words.append(self._slot(int(name)) if kind == "slot" else resolve(symbol))
            except (AttributeError, LookupError, ValueError):
                raise _refused(self.path, f"it asks for {symbol!r}, which this Python does not have") from None
        table = struct.pack(f"<{len(words)}Q", *words)
        ctypes.memmove(self._mapped.address - slot_distance(len(words) - 1), table, len(table))
        try:
            self._mapped.protect_table()
        except OSError as problem:
            raise ImageError(
                f"{self.path} is not run: its table cannot be made read-only ({problem}); "
                "let the security policy allow mprotect with PROT_READ"
            ) from None

    def _slot(self, index: int) -> int:
        return self.slot_thunks.slots + SLOT_BYTES * range(THUNK_COUNT)[index]

    def find(self, key: bytes) -> ImageCode | None:
        """The code of a shape, or None where it is not here."""
        found = self._shapes.get(key)
        return None if found is None else ImageCode(self._mapped.address + found[0], found[1])


def _refused(path: str, problem: object) -> ImageError:
    return ImageError(f"{path} is not run: {problem}; build it anew with `callgate build`")


def image_name(module: str, python: str, target: Target) -> str:
    """The file of a module's image for one Python, as in "3.13", and one target."""
    return f"{module}.cpython-{python.replace('.', '')}-{target.name}.gates"


def module_name(names: Mapping[str, object]) -> str:
    """What `callgate build` calls a module whose globals these are; a script by its file, "" where it has none."""
    name, file = names.get("__name__"), names.get("__file__")
    if name != "__main__":
        return name if isinstance(name, str) else ""
    spec_name = getattr(names.get("__spec__"), "name", None)
    if isinstance(spec_name, str):  # python -m
        return spec_name.removesuffix(".__main__")
    return os.path.splitext(os.path.basename(file))[0] if isinstance(file, str) else ""


def image_paths(names: Mapping[str, object], target: Target) -> Iterator[str]:
    """Where the images may lie that have the gates of a module whose globals these are.

    They are those of the module and of the packages that it is in: each beside its file, or all in the folder that
    CALLGATE_IMAGES names.
    """
    folder = os.environ.get("CALLGATE_IMAGES")
    name = module_name(names)
    file = names.get("__file__")
    while name:
        place = folder or (os.path.dirname(file) if isinstance(file, str) else "")
        if place:
            yield os.path.join(place, image_name(name, THIS_PYTHON, target))
        name = name.rpartition(".")[0]
        file = getattr(sys.modules.get(name), "__file__", None)
