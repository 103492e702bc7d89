"""What a system has to offer where code is to run: the interface, and the names that every system's file fills in.

`linux_memory`, `windows_memory` and `macos_memory` each have a LADDER: rungs that `code_memory` climbs down until one
is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """Bytes and where in the memory they go."""

    offset: int
    data: bytes


class Executable(Protocol):
    """Memory that is read and executed at its address, and written by `write` only."""

    address: int
    size_bytes: int

    def write(self, pieces: Sequence[Piece]) -> None:
        """Bring bytes in, so that every thread executes them from now on; OSError where the system refuses."""

    def release(self) -> None:
        """Give the memory back."""


class Rung(NamedTuple):
    """A way to get executable memory.

    `allocate` takes a size in bytes, of whole pages, and raises OSError with the system's reason where it is refused.
    What is not `is_refillable` is written once.  `remedy` tells what to do where it is refused.
    """

    name: str
    allocate: Callable[[int], Executable]
    is_refillable: bool
    remedy: str
