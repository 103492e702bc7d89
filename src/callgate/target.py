"""What a target machine is: data models and calling conventions by name; and HOST, the only platform test.

No other module of the package looks at `sys.platform`, `os.name` or the processor.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NamedTuple


class Target(NamedTuple):
    """A processor, an operating system and the C data model they agree on.

    Sizes are in bytes.  `name` is what `explain --target` takes.
    """

    name: str
    architecture: str
    system: str
    calling_convention: str
    pointer_bytes: int
    long_bytes: int
    wchar_bytes: int
    long_double_bytes: int
    is_char_signed: bool


# name, architecture, system, calling convention; bytes of: pointer, long, wchar_t, long double; is char signed
X86_64_LINUX = Target("x86_64-linux", "x86_64", "linux", "sysv", 8, 8, 4, 16, True)
X86_64_MACOS = Target("x86_64-macos", "x86_64", "macos", "sysv", 8, 8, 4, 16, True)
X86_64_WINDOWS = Target("x86_64-windows", "x86_64", "windows", "win64", 8, 4, 2, 8, True)
AARCH64_LINUX = Target("aarch64-linux", "aarch64", "linux", "aapcs64", 8, 8, 4, 16, False)
AARCH64_MACOS = Target("aarch64-macos", "aarch64", "macos", "apple_arm64", 8, 8, 4, 8, True)

TARGETS: dict[str, Target] = {
    target.name: target for target in (X86_64_LINUX, X86_64_MACOS, X86_64_WINDOWS, AARCH64_LINUX, AARCH64_MACOS)
}
"""The targets that callgate knows: types are laid out for all of them; `lower` says which it makes code for."""


IS_WINDOWS = sys.platform == "win32"
IS_MACOS = sys.platform == "darwin"
_MACHINE = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")


def _host() -> Target | None:
    if sys.maxsize <= 1 << 32:
        return None
    if sys.platform.startswith("linux"):
        return {"x86_64": X86_64_LINUX, "aarch64": AARCH64_LINUX}.get(_MACHINE)
    if IS_WINDOWS and _MACHINE == "AMD64":
        return X86_64_WINDOWS
    return None


HOST: Target | None = _host()
"""The target of this process, or None where callgate can make no code for it (the ctypes engine serves then)."""

DATA_MODEL: Target = HOST or Target(
    "host",
    _MACHINE,
    "windows" if IS_WINDOWS else sys.platform,
    "unknown",
    ctypes.sizeof(ctypes.c_void_p),
    ctypes.sizeof(ctypes.c_long),
    ctypes.sizeof(ctypes.c_wchar),
    ctypes.sizeof(ctypes.c_longdouble),
    ctypes.c_byte(-1).value == -1,
)
"""The sizes of this process's C types, whether or not code can be made for it."""

IS_FREE_THREADED = "free-threading build" in sys.version
IS_CPYTHON = sys.implementation.name == "cpython"
