"""Who is compared by `callgate bench`, and how the compiled ones are built."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate.cli.terminal import CommandError, Progress

if TYPE_CHECKING:
    from callgate.cli.rows import Contest, Row

NAMES = {
    "gate": "gate",
    "extension": "C extension",
    "ctypes": "ctypes",
    "cffi_abi": "cffi ABI mode",
    "cffi_api": "cffi API mode",
}
"""The contenders by their keys in the JSON figures."""

_TARGETS = "callgate_bench_targets"

_DECLARATIONS = """
    typedef struct { double x, y; } point;
    void noop(void);
    int64_t add(int64_t a, int64_t b);
    double fma3(double a, double b, double c);
    size_t length(const char *s);
    int64_t add8(int a, int b, int c, int d, int e, int f, int g, int h);
    double point_sum(point p);
    point point_make(double x, double y);
    int64_t fold(int64_t (*step)(int64_t, int64_t), int64_t count);
"""
"""What bench_targets.c defines."""

_CFFI_DECLARATIONS = """
    int snprintf(char *text, size_t size, const char *format, ...);
    void qsort_ints(int *base, size_t count, size_t size, int (*compare)(const int *, const int *));
    extern "Python" int64_t bench_step(int64_t, int64_t);
    extern "Python" int bench_compare(const int *, const int *);
"""
_CFFI_SOURCE = """
    #include <stddef.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    static void qsort_ints(int *base, size_t count, size_t size, int (*compare)(const int *, const int *))
    {
        qsort(base, count, size, (int (*)(const void *, const void *))compare);
    }
"""


class Kit(NamedTuple):
    """What contenders are made from; None for what is absent."""

    targets: Path | None
    """The library compiled from bench_targets.c."""
    extension: Any
    cffi: Any
    """The package."""
    cffi_module: Any
    """The module compiled in its API mode."""
    is_quick: bool


class Entry(NamedTuple):
    """A row as it can be timed here, and the result that all contenders agree on."""

    row: Row
    contest: Contest
    result: object


class Field(NamedTuple):
    """All that is compared: the entries, and for whoever is absent the reason."""

    entries: list[Entry]
    skipped: dict[str, str]


class Unavailable(Exception):
    """A contender, or what it is compiled with, cannot be had here; the message says why."""


def compiler() -> list[str] | None:
    """The command of the C compiler: $CC, or the first of gcc and cc; None where there is none."""
    command = shlex.split(os.environ.get("CC", ""))
    for candidate in (command, ["gcc"], ["cc"]):
        if candidate and shutil.which(candidate[0]):
            return candidate
    return None


def compile_shared(sources: list[Path], to: Path, *options: str) -> None:
    """Compile C files into a shared object.  Raises Unavailable with the compiler's first complaint."""
    command = compiler()
    if command is None:
        raise Unavailable("no C compiler: neither gcc nor cc is on the PATH")
    done = subprocess.run(
        [*command, "-O3", "-shared", "-fPIC", *map(str, sources), "-o", str(to), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise Unavailable(f"{command[0]} failed: {complaints[0] if complaints else f'exit code {done.returncode}'}")


def assemble(rows: list[Row], folder: Path, progress: Progress, *, is_quick: bool) -> Field:
    """Build and load every contender that can be had; compiled ones go to `folder`.

    Raises CommandError where contenders disagree about a result.
    """
    kit, skipped = _kit(folder, progress, is_quick=is_quick)
    entries = []
    for row in rows:
        try:
            contest = row.compete(kit)
        except Unavailable as reason:
            skipped[f"row {row.name}"] = str(reason)
            continue
        entries.append(Entry(row, contest, _agreed_result(row, contest)))
    progress.clear()
    return Field(entries, skipped)


def _kit(folder: Path, progress: Progress, *, is_quick: bool) -> tuple[Kit, dict[str, str]]:
    """Build what can be built here, and for what cannot the reason."""
    skipped: dict[str, str] = {}
    targets: Path | None = None
    progress.say("compiling the C functions")
    try:
        targets = _targets(folder)
    except Unavailable as reason:
        skipped["extension"] = skipped["cffi_api"] = str(reason)
    extension = None
    if targets is not None:
        try:
            progress.say("compiling the C extension")
            extension = _extension(folder)
        except Unavailable as reason:
            skipped["extension"] = str(reason)
    cffi = cffi_module = None
    try:
        cffi = _cffi()
        if targets is not None:
            progress.say("compiling the cffi module")
            cffi_module = _cffi_api_module(cffi, folder)
    except Unavailable as reason:
        for name in ("cffi_api",) if cffi else ("cffi_abi", "cffi_api"):
            skipped.setdefault(name, str(reason))
    return Kit(targets, extension, cffi, cffi_module, is_quick), skipped


def _agreed_result(row: Row, contest: Contest) -> object:
    results = {}
    for name, (function, arguments) in contest.turns.items():
        contest.prepare()
        results[name] = contest.outcome(function(*arguments))
    expected = results["gate"]
    for name, result in results.items():
        if type(result) is not type(expected) or result != expected:
            raise CommandError(f"{row.name}: the gate returns {expected!r}, but {NAMES[name]} {result!r}")
    return expected


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _python_include() -> str:
    folder = sysconfig.get_paths()["include"]
    if not os.path.exists(os.path.join(folder, "Python.h")):
        raise Unavailable(f"no Python.h in {folder}; install this Python's headers")
    return folder


def _compiled_module(name: str, source: Path, folder: Path) -> ModuleType:
    """Compile an extension module against the targets, and import it."""
    path = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    link = (f"-I{_python_include()}", f"-L{folder}", f"-l{_TARGETS}", f"-Wl,-rpath,{folder}")
    compile_shared([source], path, *link)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _targets(folder: Path) -> Path:
    path = folder / f"lib{_TARGETS}.so"
    compile_shared([_source("bench_targets.c")], path)
    return path


def _extension(folder: Path) -> ModuleType:
    return _compiled_module("bench_extension", _source("bench_extension.c"), folder)


def _cffi() -> Any:
    try:
        return importlib.import_module("cffi")
    except ImportError:
        raise Unavailable("cffi is not installed") from None


def _cffi_api_module(cffi: Any, folder: Path) -> Any:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS + _CFFI_DECLARATIONS)
    ffi.set_source("bench_cffi", _CFFI_SOURCE + _DECLARATIONS)
    source = folder / "bench_cffi.c"
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it tells what it writes
        ffi.emit_c_code(str(source))
    return _compiled_module("bench_cffi", source, folder)
