"""Who is compared by `callgate bench`, on which functions, and how the compiled ones are built."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from callgate.cli.terminal import CommandError, Progress
from callgate.library import gate, load

NAMES = {
    "gate": "gate",
    "extension": "C extension",
    "ctypes": "ctypes",
    "cffi_abi": "cffi ABI mode",
    "cffi_api": "cffi API mode",
}
"""The contenders by their keys in the JSON figures."""

_TARGETS = "callgate_bench_targets"
_I64, _F64 = ctypes.c_int64, ctypes.c_double


class Call(NamedTuple):
    """A C function and the operands it is timed with."""

    declaration: str
    argtypes: tuple[Any, ...]
    restype: Any
    arguments: tuple[object, ...]
    library: str = ""  # a short name; "" is the library compiled from bench_targets.c

    @property
    def symbol(self) -> str:
        """The function's name in its library."""
        found = re.search(r"(\w+)\(", self.declaration)
        assert found
        return found[1]


class Row(NamedTuple):
    """A line of the table; `substitute` is called instead where there is no compiler."""

    name: str
    call: Call
    substitute: Call | None = None
    is_blocking: bool = False


_ADD = Call("int64_t add(int64_t a, int64_t b)", (_I64, _I64), _I64, (12345, 67890))
_LABS = Call("long labs(long n)", (ctypes.c_long,), ctypes.c_long, (-12345,), "c")
_TEXT = b"hello world 1234"

ROWS = (
    Row("noop", Call("void noop(void)", (), None, ())),
    Row("add", _ADD, _LABS),
    Row(
        "fma",
        Call("double fma3(double a, double b, double c)", (_F64,) * 3, _F64, (1.5, 2.5, 3.5)),
        Call("double fma(double a, double b, double c)", (_F64,) * 3, _F64, (1.5, 2.5, 3.5), "m"),
    ),
    Row(
        "strlen",
        Call("size_t length(const char *s)", (ctypes.c_char_p,), ctypes.c_size_t, (_TEXT,)),
        Call("size_t strlen(const char *s)", (ctypes.c_char_p,), ctypes.c_size_t, (_TEXT,), "c"),
    ),
    Row(
        "add8",
        Call(
            "int64_t add8(int a, int b, int c, int d, int e, int f, int g, int h)",
            (ctypes.c_int,) * 8,
            _I64,
            (1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000),
        ),
    ),
    Row("blocking-add", _ADD, _LABS, is_blocking=True),
)


class Entry(NamedTuple):
    """A row as it can be timed here: the functions of the contenders that are present."""

    row: Row
    call: Call
    functions: dict[str, Callable[..., object]]
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


def assemble(rows: list[Row], folder: Path, progress: Progress) -> Field:
    """Build and load every contender that can be had; compiled ones go to `folder`.

    Raises CommandError where contenders disagree about a result.
    """
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
    cffi_abi = cffi_api = None
    try:
        cffi_abi = _cffi()
        if targets is not None:
            progress.say("compiling the cffi module")
            cffi_api = _cffi_api_module(cffi_abi, folder)
    except Unavailable as reason:
        for name in ("cffi_api",) if cffi_abi else ("cffi_abi", "cffi_api"):
            skipped.setdefault(name, str(reason))

    entries = []
    for row in rows:
        call = row.call if targets is not None else row.substitute
        if call is None:
            skipped[f"row {row.name}"] = "its function needs a C compiler"
            continue
        made = _gate(call, call.library or str(targets), row.is_blocking)
        path = gate(made).library.path  # type: ignore[attr-defined]  # the file that a short name found
        functions: dict[str, Callable[..., object]] = {"gate": made}
        if extension is not None:
            functions["extension"] = getattr(extension, f"{call.symbol}_blocking" if row.is_blocking else call.symbol)
        functions["ctypes"] = _ctypes_function(call, path)
        if cffi_abi is not None:
            functions["cffi_abi"] = _cffi_abi_function(cffi_abi, call, path)
        if cffi_api is not None:
            functions["cffi_api"] = getattr(cffi_api.lib, call.symbol)
        entries.append(Entry(row, call, functions, _agreed_result(row, call, functions)))
    progress.clear()
    return Field(entries, skipped)


def _agreed_result(row: Row, call: Call, functions: dict[str, Callable[..., object]]) -> object:
    results = {name: function(*call.arguments) for name, function in functions.items()}
    expected = results["gate"]
    for name, result in results.items():
        if type(result) is not type(expected) or result != expected:
            raise CommandError(f"{row.name}: the gate returns {expected!r}, but {NAMES[name]} {result!r}")
    return expected


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _gate(call: Call, path: str, is_blocking: bool) -> Callable[..., object]:
    library = load(path, f"#include <stdint.h>\n{call.declaration};", blocking=is_blocking)
    function: Callable[..., object] = library[call.symbol]
    return function


def _ctypes_function(call: Call, path: str) -> Callable[..., object]:
    function = ctypes.CDLL(path)[call.symbol]
    function.argtypes = call.argtypes
    function.restype = call.restype
    return function


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


def _cffi_abi_function(cffi: Any, call: Call, path: str) -> Callable[..., object]:
    ffi = cffi.FFI()
    ffi.cdef(f"{call.declaration};")
    library = ffi.dlopen(path)
    function: Callable[..., object] = getattr(library, call.symbol)
    return function


def _cffi_api_module(cffi: Any, folder: Path) -> Any:
    declarations = "".join(f"{declaration};\n" for declaration in dict.fromkeys(row.call.declaration for row in ROWS))
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    ffi.set_source("bench_cffi", f"#include <stdint.h>\n#include <stddef.h>\n{declarations}")
    source = folder / "bench_cffi.c"
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it tells what it writes
        ffi.emit_c_code(str(source))
    return _compiled_module("bench_cffi", source, folder)
