"""Which code lies where, and the Wasm functions on a machine stack."""

from __future__ import annotations

import weakref
from bisect import bisect_right, insort
from itertools import count as counting
from typing import TYPE_CHECKING, Final

from callgate.wasm.errors import Frame
from callgate.wasm.native.words import word_at

if TYPE_CHECKING:
    from callgate.wasm.native.images import Image

_IMAGES: list[tuple[int, int, weakref.ref[Image]]] = []
"""Mapped code by address, sorted; the second is another one for each."""
_NUMBERS: Final = counting(1)


def note_image(image: Image) -> None:
    """Code has been mapped; it is forgotten with the image."""
    entry = (image.address, next(_NUMBERS), weakref.ref(image))
    insort(_IMAGES, entry)  # no Python code runs in it, so no other thread
    weakref.finalize(image, _IMAGES.remove, entry)


def _image_of(address: int, images: list[tuple[int, int, weakref.ref[Image]]]) -> Image | None:
    index = bisect_right(images, (address + 1,)) - 1
    if index < 0:
        return None
    image = images[index][2]()
    return image if image is not None and address <= image.address + len(image.compiled.code) else None


def backtrace(site: int, stack: int, activation: int) -> tuple[Frame, ...]:
    """The Wasm functions from a place that has called, outwards to the entry."""
    frames: list[Frame] = []
    images = _IMAGES[:]  # other threads may drop some meanwhile
    while stack < activation and len(frames) < 10_000:
        image = _image_of(site, images)
        found = image.compiled.site_at(site - image.address) if image is not None else None
        if image is None or found is None:
            break
        offset, depth = found
        number = image.first + image.compiled.function_at(site - image.address - 1)
        frames.append(Frame(number, image.module.function_name(number), offset))
        site = word_at(stack + depth).value
        stack += depth + 8
    return tuple(frames)
