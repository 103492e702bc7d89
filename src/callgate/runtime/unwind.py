"""Unwind information for gates, so that a C++ exception that leaves C ends the process with the gate's name.

C++ unwinds by tables (DWARF call frame information, as in .eh_frame).  Where the C++ runtime is in the process, each
gate's code gets a table that says how large its frame is and names a personality routine.  That routine lets forced
unwinding pass (the end of a thread), and for an exception calls `report` here, which ends the process: no exception
can cross Python's own frames.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import struct
import sys
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

from callgate.asm.code import FrameRow
from callgate.target import HOST

_RUNTIMES = ("libstdc++.so.6", "libc++abi.so.1")
_dlopen = getattr(_ctypes, "dlopen", None)
_RTLD_NOLOAD = 4  # bits/dlfcn.h
_DW_CFA_DEF_CFA, _DW_CFA_OFFSET, _DW_CFA_RESTORE = 0x0C, 0x80, 0xC0
_DW_CFA_ADVANCE_LOC4, _DW_CFA_DEF_CFA_OFFSET, _DW_CFA_NOP = 0x04, 0x0E, 0


class _Processor(NamedTuple):
    """How DWARF numbers a processor's registers, and what its frames are before their first instruction.

    `numbers` has the DWARF number for each register that a row names; `depth_bytes` is how much of the frame the call
    itself has made, `begin` what the CIE says besides of it.
    """

    stack_pointer: int
    return_address: int
    numbers: tuple[int, ...]
    depth_bytes: int
    begin: bytes


_PROCESSORS = {
    # psABI, figure 3.36: the call has pushed the return address
    "x86_64": _Processor(
        7, 16, (0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15), 8, bytes((_DW_CFA_OFFSET | 16, 1))
    ),
    "aarch64": _Processor(31, 30, tuple(range(32)), 0, b""),  # DWARF for AArch64, 4.1: it is in x30
}
_PROCESSOR = _PROCESSORS["x86_64" if HOST is None else HOST.architecture]


class _Look:
    """Whether a library was loaded since the last look for a C++ runtime."""

    is_due = True
    seen: frozenset[str] = frozenset()

    def loaded(self, name: str) -> None:
        """A library is loaded; the same again brings nothing new."""
        if name not in self.seen:
            self.seen |= {name}
            self.is_due = True


LOOK = _Look()


def is_cxx_here() -> bool:
    """Whether a C++ runtime is loaded whose unwinder reads such tables: that of Windows reads others."""
    if _dlopen is None:
        return False
    for name in _RUNTIMES:
        try:
            _ctypes.dlclose(_dlopen(name, os.RTLD_LAZY | _RTLD_NOLOAD))
        except OSError:
            continue
        return True
    return False


def _uleb(number: int) -> bytes:
    encoded = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        encoded.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _entry(body: bytes) -> bytes:
    padded = body.ljust((len(body) + 4 + 7) // 8 * 8 - 4, bytes([_DW_CFA_NOP]))
    return struct.pack("<I", len(padded)) + padded


def frame_table(address: int, size_bytes: int, rows: Sequence[FrameRow], personality: int = 0) -> bytes:
    """The .eh_frame of one piece of code: a CIE, an FDE, the terminator."""
    augmentation = struct.pack("<BQ", 0, personality) if personality else b""  # DW_EH_PE_absptr
    cie = (
        struct.pack("<IB", 0, 1)
        + (b"zP\0" if personality else b"z\0")
        + _uleb(1)
        + b"\x78"  # data alignment -8, as SLEB128
        + _uleb(_PROCESSOR.return_address)
        + _uleb(len(augmentation))
        + augmentation
        + bytes((_DW_CFA_DEF_CFA, _PROCESSOR.stack_pointer, _PROCESSOR.depth_bytes))
        + _PROCESSOR.begin
    )
    first = _entry(cie)
    fde = struct.pack("<IQQ", len(first) + 4, address, size_bytes) + _uleb(0) + _program(rows)
    return first + _entry(fde) + bytes(4)


def _program(rows: Sequence[FrameRow]) -> bytes:
    """The instructions that make the rows of a table; of several rows at one place the last holds."""
    program = bytearray()
    place, depth, numbers = 0, _PROCESSOR.depth_bytes, _PROCESSOR.numbers
    where: dict[int, int] = {}
    for index, row in enumerate(rows):
        if index + 1 < len(rows) and rows[index + 1].offset == row.offset:
            continue
        saved = dict(row.saved)
        if (row.depth_bytes, saved) == (depth, where):
            continue
        if row.offset != place:
            program += struct.pack("<BI", _DW_CFA_ADVANCE_LOC4, row.offset - place)
        if row.depth_bytes != depth:
            program += bytes((_DW_CFA_DEF_CFA_OFFSET,)) + _uleb(row.depth_bytes)
        for register in where.keys() - saved.keys():
            program.append(_DW_CFA_RESTORE | numbers[register])
        for register, below in saved.items():
            if where.get(register) != below:
                program += bytes((_DW_CFA_OFFSET | numbers[register],)) + _uleb(below // 8)
        place, depth, where = row.offset, row.depth_bytes, saved
    return bytes(program)


class FrameTables:
    """The tables of the gates' code, registered with the unwinder."""

    def __init__(self, personality: int) -> None:
        self._personality = personality
        self._unwinder = ctypes.CDLL("libgcc_s.so.1")
        self._unwinder._Unwind_GetIP.restype = ctypes.c_void_p
        self._unwinder._Unwind_GetCFA.restype = ctypes.c_void_p
        self._register = self._unwinder["__register_frame"]
        self._deregister = self._unwinder["__deregister_frame"]
        self._starts: list[int] = []
        self._shapes: dict[int, tuple[int, int]] = {}

    def add(self, address: int, size_bytes: int, rows: Sequence[FrameRow], self_slot: int) -> object:
        """Register one gate's code; the table is taken back when what is returned goes.

        None where another thread has begun to do so.  No lock: a finalizer may come between and register others.
        """
        shape = size_bytes, self_slot
        if self._shapes.setdefault(address, shape) is not shape:
            return None
        table = ctypes.create_string_buffer(frame_table(address, size_bytes, rows, self._personality))
        insort(self._starts, address)
        self._register(table)
        return _Registered(self, address, table)

    def remove(self, address: int, table: Any) -> None:
        """Take one table back."""
        self._deregister(table)
        self._starts.remove(address)
        del self._shapes[address]

    def report(self, version: int, actions: int, kind: int, exception: object, context: Any) -> int:
        """An exception has come to a gate's frame: say which, and end the process."""
        name = "a gate"
        place = self._unwinder._Unwind_GetIP(context)
        index = bisect_right(self._starts, place) - 1
        if index >= 0:
            _, self_slot = self._shapes[self._starts[index]]
            stack = self._unwinder._Unwind_GetCFA(context)
            address = ctypes.c_void_p.from_address(stack + self_slot).value
            if address:
                gate: Any = ctypes.cast(address, ctypes.py_object).value
                name = f"{gate.signature.name}()" + (f" of {gate.library_name}" if gate.library_name else "")
        language = "C++ " if kind & ~0xFF == _GNU_CXX or kind & ~0xFF == _CLANG_CXX else ""
        sys.stderr.write(
            f"callgate: a {language}exception left {name}; it cannot pass through a gate, so the process ends here. "
            "Catch it in the library.\n"
        )
        sys.stderr.flush()
        os.abort()


_GNU_CXX = int.from_bytes(b"GNUCC++\0", "big")
_CLANG_CXX = int.from_bytes(b"CLNGC++\0", "big")


class _Registered:
    """A table that is taken back when this goes."""

    __slots__ = ("_address", "_table", "_tables")

    def __init__(self, tables: FrameTables, address: int, table: Any) -> None:
        self._tables = tables
        self._address = address
        self._table = table

    def __del__(self) -> None:
        self._tables.remove(self._address, self._table)
