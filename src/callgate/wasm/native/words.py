"""Words of memory, as compiled code reads and writes them."""

from __future__ import annotations

import ctypes
from typing import Any, Final

Words = ctypes.c_uint64
MASK: Final = 0xFFFF_FFFF
MASK_64: Final = 0xFFFF_FFFF_FFFF_FFFF


def word_at(address: int) -> Any:
    """A word of memory."""
    return Words.from_address(address)


def forget(places: list[Any], place: Any) -> None:
    """Take out what may not be there any more."""
    if place in places:
        places.remove(place)
