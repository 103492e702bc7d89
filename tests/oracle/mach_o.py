"""Apple's assembler text as GNU as reads it: what clang makes for macOS, so that it can be linked and run elsewhere.

Only what a C file of functions, constants and buffers needs: names lose their underscore, addresses get GNU's
relocations, sections and zeroed buffers the ELF directives.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_DROPPED = re.compile(r"\.(?:build_version|loh|subsections_via_symbols|file|loc|cfi_\w+)\b")
_BUFFER = re.compile(r"\.(?:zerofill\s+\w+,\w+,|comm\s+)(\w+),(\d+)(?:,(\d+))?")
_SYMBOL = re.compile(r"(?<![\w.])_(\w+)")
_LOCAL = re.compile(r"(?<![\w.])(?:l_|L)(\w+)")
_REPLACED = (
    (re.compile(r"ldr\s+(\w+), \[(\w+), (\w+)@GOTPAGEOFF\]"), r"add \1, \2, :lo12:\3"),
    (re.compile(r"([\w.]+)@PAGEOFF"), r":lo12:\1"),
    (re.compile(r"([\w.]+)@(?:GOT)?PAGE\b"), r"\1"),
)


def zig_compiler(target: str) -> tuple[str, ...]:
    """The command that compiles C for a target with Zig's clang; skips the test where there is none."""
    if importlib.util.find_spec("ziglang"):
        command = (sys.executable, "-m", "ziglang")
    elif pythons := sorted(ROOT.glob(".cache/zig/lib/python3*/site-packages/ziglang/zig")):
        command = (str(pythons[-1]),)
    else:
        pytest.skip("needs Zig: pip install ziglang")
    return (
        *command,
        "cc",
        "-target",
        target,
        "-g0",
        "-fno-sanitize=all",
        "-fno-stack-protector",
        "-D_FORTIFY_SOURCE=0",
    )


def as_elf(text: str) -> str:
    """The same functions and data for GNU as."""
    return "\n".join(_line(line) for line in text.splitlines()) + "\n"


def _line(line: str) -> str:
    if re.match(r"\s*\.asci", line):
        return line
    line = line.split(";")[0]
    directive = line.strip()
    if _DROPPED.match(directive):
        return ""
    if directive.startswith(".section"):
        return ".text" if "__text" in directive else ".data"
    if buffer := _BUFFER.match(directive):
        name, size, power = buffer.groups()
        return f".comm {name.removeprefix('_')},{size},{1 << int(power or 0)}"
    line = _LOCAL.sub(r".L\1", _SYMBOL.sub(r"\1", line))
    for pattern, replacement in _REPLACED:
        line = pattern.sub(replacement, line)
    return line
