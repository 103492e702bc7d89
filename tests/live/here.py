"""What differs between the systems that the live suite runs on: the sizes of C's types, and what is not there at all."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from typing import Any

import pytest

from callgate.target import IS_FREE_THREADED

IS_WINDOWS = os.name == "nt"
IS_MUSL = "musl" in str(sysconfig.get_config_var("SOABI"))
LONG_BITS = 8 * ctypes.sizeof(ctypes.c_long)
WCHAR_BITS = 8 * ctypes.sizeof(ctypes.c_wchar)
INT64 = "long" if LONG_BITS == 64 else "long long"
"""The name of int64_t."""
LONG = "long" if LONG_BITS == 64 else "int"
"""The name of ctypes' c_long, which is another name of c_int on Windows."""
C_INT = ctypes.c_int.__name__
C_LIBRARY = "ucrtbase" if IS_WINDOWS else None
"""What has the functions of C's library: a name for ctypes.CDLL and for cg.load."""
MATH_FILE = "ucrtbase.dll" if IS_WINDOWS else "libm.so.6"
"""The file with the functions of <math.h>, as the loader finds it (musl's loader takes this name for its own)."""


def wide_units(text: str) -> int:
    """How many wchar_t a text takes."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2 if WCHAR_BITS == 16 else len(text)


def posix_only(what: str) -> Any:
    """Marks a test of something that Windows does not have."""
    return pytest.mark.skipif(IS_WINDOWS, reason=f"POSIX only: {what}")


classes_are_freed = pytest.mark.skipif(
    IS_FREE_THREADED and sys.version_info < (3, 14),
    reason="a free-threaded CPython 3.13 keeps all classes, and every ctypes.CDLL has one, from its first thread on",
)
"""Marks a test of what goes when classes go."""
