"""What debuggers and profilers are told of published code: GDB's interface for JIT compilers, and perf's map.

Both on request, by CALLGATE_DEBUG=1 and CALLGATE_PERF=1.  Either makes code of its own for every gate, so that a
place in it has the gate's name.
"""

from __future__ import annotations

import ctypes
import os
import stat
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

from callgate.asm.code import Code
from callgate.runtime.elf import Symbol, descriptor_library, symbol_file
from callgate.runtime.environment import is_asked_for
from callgate.runtime.locks import ProcessLock
from callgate.runtime.unwind import frame_table
from callgate.target import DATA_MODEL, IS_WINDOWS

if TYPE_CHECKING:
    from callgate.runtime.gate import Gate

IS_DEBUGGED = is_asked_for("CALLGATE_DEBUG")
IS_PROFILED = is_asked_for("CALLGATE_PERF") and not IS_WINDOWS
NAMES_CODE = IS_DEBUGGED or IS_PROFILED
"""Whether places in code have the names of gates."""

_JIT_REGISTER, _JIT_UNREGISTER = 1, 2  # GDB's manual, "JIT Interface: Registering Code"


def tell(address: int, code: Code, name: str) -> object:
    """Tell who asked that code is published; it is taken back when what is returned goes."""
    if not NAMES_CODE:
        return None
    symbols = _symbols(code, name)
    if IS_PROFILED:
        _perf_map.add(address, symbols)
    return _debugger.add(address, code, symbols) if IS_DEBUGGED else None


def code_name(gate: Gate) -> str:
    """What a gate's code is called: its name, and the library's up to the first dot."""
    library = gate.library_name.partition(".")[0]
    return f"gate::{gate.name}::{library}" if library else f"gate::{gate.name}"


def _symbols(code: Code, name: str) -> list[Symbol]:
    """The routines in a piece of code, or all of it under one name."""
    starts = sorted((offset, label) for label, offset in code.labels.items() if label.startswith("callgate_"))
    if not starts:
        return [Symbol(0, len(code.data), name)]
    ends = [offset for offset, _ in starts[1:]] + [len(code.data)]
    return [Symbol(offset, end - offset, label) for (offset, label), end in zip(starts, ends, strict=True)]


class _PerfMap:
    """`/tmp/perf-PID.map`: a line a function, its address and size in hexadecimal and its name."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._is_refused = False
        os.register_at_fork(after_in_child=self._begin_again)

    def add(self, address: int, symbols: list[Symbol]) -> None:
        lines = [f"{address + symbol.offset:x} {symbol.size_bytes:x} {symbol.name}\n" for symbol in symbols]
        self._lines += lines
        self._write(lines)

    def _begin_again(self) -> None:
        """A forked child has a map of its own, and the same code so far."""
        self._write(self._lines)

    def _write(self, lines: list[str]) -> None:
        if self._is_refused or not lines:
            return
        path = f"/tmp/perf-{os.getpid()}.map"
        try:
            _append(path, "".join(lines).encode())
        except OSError as problem:
            self._is_refused = True
            warnings.warn(f"CALLGATE_PERF: {path} is not written: {problem}", RuntimeWarning, stacklevel=2)


def _append(path: str, data: bytes) -> None:
    """Append to a file of this user's; others can put files where its name is."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # of a FIFO
    descriptor = os.open(path, flags, 0o600)
    try:
        file = os.fstat(descriptor)
        if file.st_uid != os.geteuid() or not stat.S_ISREG(file.st_mode):
            raise OSError("it belongs to somebody else")
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


class _Entry(ctypes.Structure):
    """jit_code_entry"""

    _fields_ = (
        ("next_entry", ctypes.c_void_p),
        ("prev_entry", ctypes.c_void_p),
        ("symfile_addr", ctypes.c_void_p),
        ("symfile_size", ctypes.c_uint64),
    )


class _Descriptor(ctypes.Structure):
    """jit_descriptor"""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("action_flag", ctypes.c_uint32),
        ("relevant_entry", ctypes.c_void_p),
        ("first_entry", ctypes.c_void_p),
    )


class _Debugger:
    """The list of symbol files that GDB reads.

    GDB finds it by the names of two symbols in a loaded library.  No library here has them, so one is made in memory
    and loaded by the path that a debugger, another process, can open as well.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._library: Any = None
        self._is_refused = False
        self._entries: dict[int, tuple[_Entry, object]] = {}  # in the order of the list, the newest first in memory
        self._gone: deque[int] = deque()  # what finalizers leave, at any moment, to the next `add`

    def _load(self) -> None:
        if DATA_MODEL.system != "linux":
            raise OSError("symbols are made on Linux only")
        descriptor = os.memfd_create("callgate-gdb", os.MFD_CLOEXEC)  # stays open: debuggers come later
        os.write(descriptor, descriptor_library(DATA_MODEL.architecture))
        self._library = ctypes.PyDLL(f"/proc/{os.getpid()}/fd/{descriptor}")

    def add(self, address: int, code: Code, symbols: list[Symbol]) -> object:
        """Let GDB know the symbols and frames of code."""
        table = frame_table(address, len(code.data), code.frames) if code.frames else b""
        file = symbol_file(DATA_MODEL.architecture, address, len(code.data), symbols, table)
        with self._lock.here:
            if self._library is None:
                if self._is_refused:
                    return None
                try:
                    self._load()
                except OSError as problem:
                    self._is_refused = True
                    warnings.warn(f"CALLGATE_DEBUG: GDB is told nothing: {problem}", RuntimeWarning, stacklevel=2)
                    return None
            while self._gone:
                self._remove(self._gone.popleft())
            text = ctypes.create_string_buffer(file, len(file))
            descriptor = _Descriptor.in_dll(self._library, "__jit_debug_descriptor")
            first = descriptor.first_entry
            entry = _Entry(first, None, ctypes.addressof(text), len(file))
            place = ctypes.addressof(entry)
            if first:
                self._entries[first][0].prev_entry = place
            self._entries[place] = entry, text
            descriptor.first_entry = place
            self._notify(descriptor, place, _JIT_REGISTER)
        return _Told(self._gone, place)

    def _remove(self, place: int) -> None:
        entry, _text = self._entries[place]
        descriptor = _Descriptor.in_dll(self._library, "__jit_debug_descriptor")
        if entry.prev_entry:
            self._entries[entry.prev_entry][0].next_entry = entry.next_entry
        else:
            descriptor.first_entry = entry.next_entry
        if entry.next_entry:
            self._entries[entry.next_entry][0].prev_entry = entry.prev_entry
        self._notify(descriptor, place, _JIT_UNREGISTER)
        del self._entries[place]

    def _notify(self, descriptor: _Descriptor, place: int, action: int) -> None:
        descriptor.relevant_entry = place
        descriptor.action_flag = action
        self._library["__jit_debug_register_code"]()  # GDB has a breakpoint there
        descriptor.action_flag = 0
        descriptor.relevant_entry = None


class _Told:
    """Code that GDB knows until this goes."""

    __slots__ = ("_gone", "_place")

    def __init__(self, gone: deque[int], place: int) -> None:
        self._gone = gone
        self._place = place

    def __del__(self) -> None:
        self._gone.append(self._place)


if IS_PROFILED:
    _perf_map = _PerfMap()
if IS_DEBUGGED:
    _debugger = _Debugger()
