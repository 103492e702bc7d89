"""Two kinds of ELF files, made in memory for debuggers: the symbols of published code, and a tiny library.

Fields have the names of the System V gABI (chapter 4).  Nothing here touches the process.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_DYN = struct.Struct("<QQ")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian
_ET_REL, _ET_DYN = 1, 3
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64
_RETURNS = {"x86_64": b"\xc3", "aarch64": b"\xc0\x03\x5f\xd6"}
_PROGBITS, _SYMTAB, _STRTAB, _HASH, _DYNAMIC, _NOBITS, _DYNSYM = 1, 2, 3, 5, 6, 8, 11
_WRITE, _ALLOC, _EXECINSTR = 1, 2, 4
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_R, _W, _X = 4, 2, 1
_GLOBAL, _OBJECT, _FUNC = 1 << 4, 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 4, 5, 6, 10, 11
_PAGE = 0x10000  # the largest of the processors' pages


class Symbol(NamedTuple):
    """A function: where it begins in its section, how long it is, what it is called."""

    offset: int
    size_bytes: int
    name: str


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    address: int
    data: bytes
    size_bytes: int = 0  # of a section without data
    link: int = 0
    info: int = 0
    alignment: int = 8
    entry_bytes: int = 0


def symbol_file(architecture: str, address: int, size_bytes: int, symbols: Sequence[Symbol], eh_frame: bytes) -> bytes:
    """An object file that says what the code at an address is: function symbols and call frame information."""
    names, offsets = _strings([symbol.name for symbol in symbols])
    table = bytes(_SYM.size) + b"".join(
        _SYM.pack(offset, _GLOBAL | _FUNC, 0, 1, symbol.offset, symbol.size_bytes)
        for symbol, offset in zip(symbols, offsets, strict=True)
    )
    sections = [
        _Section(".text", _NOBITS, _ALLOC | _EXECINSTR, address, b"", size_bytes),
        _Section(".symtab", _SYMTAB, 0, 0, table, link=3, info=1, entry_bytes=_SYM.size),
        _Section(".strtab", _STRTAB, 0, 0, names, alignment=1),
    ]
    if eh_frame:
        sections.append(_Section(".eh_frame", _PROGBITS, _ALLOC, 0, eh_frame))
    return _file(architecture, _ET_REL, sections, [], _EHDR.size)


def descriptor_library(architecture: str) -> bytes:
    """A shared library that holds `__jit_debug_register_code`, which returns, and `__jit_debug_descriptor`.

    GDB looks for both names in the loaded objects ("JIT Compilation Interface" in its manual).
    """
    headers = _EHDR.size + 4 * _PHDR.size
    names, (function, descriptor) = _strings(["__jit_debug_register_code", "__jit_debug_descriptor"])
    hashed = struct.pack("<6I", 1, 3, 1, 0, 2, 0)  # one bucket: symbol 1, then symbol 2
    ret = _RETURNS[architecture]
    hash_at = headers
    symbols_at = hash_at + len(hashed)
    names_at = symbols_at + 3 * _SYM.size
    text_at = (names_at + len(names) + 3) & ~3
    dynamic_at = _PAGE
    dynamic = b"".join(
        _DYN.pack(tag, value)
        for tag, value in (
            (_DT_HASH, hash_at),
            (_DT_STRTAB, names_at),
            (_DT_SYMTAB, symbols_at),
            (_DT_STRSZ, len(names)),
            (_DT_SYMENT, _SYM.size),
            (0, 0),
        )
    )
    data_at = dynamic_at + len(dynamic)
    data = struct.pack("<IIQQ", 1, 0, 0, 0)  # version, action_flag, relevant_entry, first_entry
    symbols = (
        bytes(_SYM.size)
        + _SYM.pack(function, _GLOBAL | _FUNC, 0, 4, text_at, len(ret))
        + _SYM.pack(descriptor, _GLOBAL | _OBJECT, 0, 6, data_at, len(data))
    )
    writable = len(dynamic) + len(data)
    segments = [
        _PHDR.pack(_PT_LOAD, _R | _X, 0, 0, 0, text_at + len(ret), text_at + len(ret), _PAGE),
        _PHDR.pack(_PT_LOAD, _R | _W, dynamic_at, dynamic_at, dynamic_at, writable, writable, _PAGE),
        _PHDR.pack(_PT_DYNAMIC, _R | _W, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8),
        _PHDR.pack(_PT_GNU_STACK, _R | _W, 0, 0, 0, 0, 0, 16),
    ]
    sections = [
        _Section(".hash", _HASH, _ALLOC, hash_at, hashed, link=2, entry_bytes=4),
        _Section(".dynsym", _DYNSYM, _ALLOC, symbols_at, symbols, link=3, info=1, entry_bytes=_SYM.size),
        _Section(".dynstr", _STRTAB, _ALLOC, names_at, names, alignment=1),
        _Section(".text", _PROGBITS, _ALLOC | _EXECINSTR, text_at, ret, alignment=4),
        _Section(".dynamic", _DYNAMIC, _ALLOC | _WRITE, dynamic_at, dynamic, link=3, entry_bytes=_DYN.size),
        _Section(".data", _PROGBITS, _ALLOC | _WRITE, data_at, data),
    ]
    return _file(architecture, _ET_DYN, sections, segments, headers)


def _strings(names: Sequence[str]) -> tuple[bytes, list[int]]:
    """A string table, and where in it each name begins."""
    table = bytearray(b"\0")
    offsets = []
    for name in names:
        offsets.append(len(table))
        table += name.encode() + b"\0"
    return bytes(table), offsets


def _file(architecture: str, kind: int, sections: Sequence[_Section], segments: Sequence[bytes], first: int) -> bytes:
    """Put a file together.  In a library a section lies in the file where it lies in memory."""
    section_names, name_offsets = _strings([*(section.name for section in sections), ".shstrtab"])
    sections = [*sections, _Section(".shstrtab", _STRTAB, 0, 0, section_names, alignment=1)]
    body = bytearray(first)
    headers = [bytes(_SHDR.size)]
    for section, name in zip(sections, name_offsets, strict=True):
        is_placed = kind == _ET_DYN and bool(section.flags & _ALLOC)
        offset = section.address if is_placed else (len(body) + 7) & ~7
        if section.data:
            body += bytes(offset - len(body)) + section.data
        size = len(section.data) or section.size_bytes
        headers.append(
            _SHDR.pack(
                name,
                section.type,
                section.flags,
                section.address,
                offset,
                size,
                section.link,
                section.info,
                section.alignment,
                section.entry_bytes,
            )
        )
    body += bytes(-len(body) % 8)
    header = _EHDR.pack(
        _IDENT,
        kind,
        _MACHINES[architecture],
        1,
        0,
        _EHDR.size if segments else 0,
        len(body),
        0,
        _EHDR.size,
        _PHDR.size,
        len(segments),
        _SHDR.size,
        len(headers),
        len(headers) - 1,
    )
    body[: len(header)] = header
    body[len(header) : len(header) + len(b"".join(segments))] = b"".join(segments)
    return bytes(body) + b"".join(headers)
