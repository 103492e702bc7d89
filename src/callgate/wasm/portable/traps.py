"""Exceptions that leave translated code: which trap they mean, and which functions they have left.

No `try` stands in translated code.  Where a call came in, the traceback says what happened and where.
"""

from __future__ import annotations

import os
import struct
from types import TracebackType
from typing import Final

from callgate.wasm.errors import (
    DivisionByZero,
    Frame,
    OutOfBounds,
    StackExhausted,
    TableOutOfBounds,
    Trap,
    UndefinedElement,
    add_frames,
)
from callgate.wasm.portable.convert import HOST_CODE, HOST_FILE
from callgate.wasm.portable.entry import ENTRY_FILE, enter
from callgate.wasm.portable.module import FILES

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def explain(error: BaseException) -> BaseException:
    """The trap that an exception of translated code means; any other exception as it is."""
    frames, is_ours = _frames(error.__traceback__)
    if isinstance(error, Trap) or not is_ours or not frames:
        add_frames(error, frames)
        return error
    trap: type[Trap] | None = None
    if isinstance(error, RecursionError):
        trap = StackExhausted
    elif isinstance(error, ZeroDivisionError):
        trap = DivisionByZero
    elif isinstance(error, (IndexError, struct.error)):
        trap = _bounds(error)
    if trap is None:
        add_frames(error, frames)
        return error
    return trap(frames=frames)


def _bounds(error: BaseException) -> type[Trap]:
    """Which bounds an index was out of: those of what the instruction accesses."""
    traceback = error.__traceback__
    opcode = 0
    while traceback is not None:
        translated = FILES.get(traceback.tb_frame.f_code.co_filename)
        if translated is not None:
            opcode = translated.module().module.data[translated.offsets[traceback.tb_lineno - 1]]
        traceback = traceback.tb_next
    if opcode in (0x11, 0x13):
        return UndefinedElement
    return TableOutOfBounds if opcode in (0x25, 0x26) else OutOfBounds


def _frames(traceback: TracebackType | None) -> tuple[tuple[Frame, ...], bool]:
    """The WebAssembly functions of a traceback, the innermost first, and whether the error is of their making."""
    frames: list[Frame] = []
    is_ours = False
    is_first = True
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = code.co_filename
        if code is enter.__code__ or file == ENTRY_FILE:
            if not is_first:
                return tuple(reversed(frames)), False  # what is within that call, that call has told
            is_first = False
        if code is HOST_CODE or file == HOST_FILE:
            return tuple(reversed(frames)), False
        translated = FILES.get(file)
        if translated is not None:
            module = translated.module().module
            offset = translated.offsets[traceback.tb_lineno - 1]
            frames.append(Frame(translated.number, module.function_name(translated.number), offset))
        is_ours = translated is not None or file.startswith(_PACKAGE)
        traceback = traceback.tb_next
    return tuple(reversed(frames[-10_000:])), is_ours
