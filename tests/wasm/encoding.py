"""Pieces of WebAssembly's binary format, for tests that write modules (core specification, chapter 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from callgate.wasm.opcodes import OPCODES

MAGIC = b"\0asm\1\0\0\0"


class Signature(NamedTuple):
    """A function's type."""

    parameters: tuple[int, ...]
    results: tuple[int, ...]


def unsigned(number: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def signed(number: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while not -64 <= number < 64:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number & 0x7F)
    return bytes(out)


def vector(items: Sequence[bytes]) -> bytes:
    """A count and its items."""
    return unsigned(len(items)) + b"".join(items)


def section(number: int, content: bytes) -> bytes:
    """A section of a module."""
    return bytes([number]) + unsigned(len(content)) + content


def opcode(name: str) -> bytes:
    """An instruction's bytes, without immediates."""
    number = OPCODES[name]
    return bytes([number]) if number < 256 else bytes([number >> 8]) + unsigned(number & 0xFF)


def vector_of(data: bytes) -> bytes:
    """A count and bytes."""
    return unsigned(len(data)) + data
