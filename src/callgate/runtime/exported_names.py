"""The names that a shared library offers, read from its own tables: for what is said of a name that it has not.

Nothing here loads or calls anything.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator


def elf_symbols(path: str) -> Iterator[str]:
    """The names that an ELF file defines in its dynamic symbol table (gABI, "Symbol Table"); 64-bit little-endian."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path} is no 64-bit little-endian ELF file")
    table_offset = struct.unpack_from("<Q", data, 0x28)[0]
    entry_bytes, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table_offset + index * entry_bytes) for index in range(count)]
    for _, kind, _, _, offset, size, link, _, _, symbol_bytes in sections:
        if kind != 11:  # SHT_DYNSYM
            continue
        strings = sections[link][4]
        for position in range(offset, offset + size, symbol_bytes):
            name, _, _, section = struct.unpack_from("<IBBH", data, position)
            if section and name:  # defined here
                end = data.index(b"\0", strings + name)
                yield data[strings + name : end].decode("utf-8", "replace")


def pe_exports(base: int) -> Iterator[str]:
    """The names that a 64-bit Windows library exports (PE Format, "The .edata Section"), read where it is mapped."""

    def word(offset: int) -> int:
        return ctypes.c_uint32.from_address(base + offset).value

    header = word(0x3C)  # e_lfanew
    optional = header + 24  # after the signature and the COFF file header
    if word(0) & 0xFFFF != 0x5A4D or word(header) != 0x4550 or word(optional) & 0xFFFF != 0x20B:
        raise ValueError("this is no 64-bit PE image")
    table = word(optional + 112)  # the first data directory
    if table:
        count, names = word(table + 24), word(table + 32)
        for index in range(count):
            yield ctypes.string_at(base + word(names + 4 * index)).decode("utf-8", "replace")
