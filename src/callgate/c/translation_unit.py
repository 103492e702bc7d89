"""Parsing a header with libclang: arguments, errors, and which of the files that it includes are the library's own.

libclang is an optional dependency and is imported when a header is read; it has no type stubs, hence `Clang`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from callgate.c import freestanding
from callgate.c.doc_comments import decoded
from callgate.errors import CallgateError
from callgate.target import IS_MACOS, IS_WINDOWS

Clang: TypeAlias = Any

MAIN = "callgate-bind.c"
_ERROR = 3  # CXDiagnostic_Error


class HeaderError(CallgateError):
    """A header that cannot be read; `diagnostics` are clang's errors, a line each, with file, line and column."""

    def __init__(self, message: str, diagnostics: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.diagnostics = tuple(diagnostics)


class Reading(NamedTuple):
    """How a header is to be read.

    `include` are folders to search, `define` macros as `NAME` or `NAME=VALUE`, `before` headers to include first.
    """

    include: tuple[str, ...] = ()
    define: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


def load_clang() -> Clang:
    """libclang's Python package, with the functions that it leaves undeclared; HeaderError where there is none."""
    try:
        clang = importlib.import_module("clang.cindex")
    except ImportError:
        raise HeaderError("reading headers needs libclang: pip install 'callgate[headers]'") from None
    try:
        _declare(clang, clang.conf.lib)
    except (clang.LibclangError, AttributeError) as problem:
        raise HeaderError(f"libclang cannot be loaded: {problem}; pip install 'callgate[headers]'") from None
    return clang


def _declare(clang: Clang, lib: Clang) -> None:
    """Give functions of libclang their types (clang-c/Index.h)."""
    evaluation = [ctypes.c_void_p]
    for name, argtypes, restype in (
        ("clang_Cursor_Evaluate", [clang.Cursor], ctypes.c_void_p),
        ("clang_Cursor_isFunctionInlined", [clang.Cursor], ctypes.c_uint),
        ("clang_Cursor_isMacroFunctionLike", [clang.Cursor], ctypes.c_uint),
        ("clang_EvalResult_getKind", evaluation, ctypes.c_int),
        ("clang_EvalResult_getAsLongLong", evaluation, ctypes.c_longlong),
        ("clang_EvalResult_isUnsignedInt", evaluation, ctypes.c_uint),
        ("clang_EvalResult_getAsUnsigned", evaluation, ctypes.c_ulonglong),
        ("clang_EvalResult_getAsDouble", evaluation, ctypes.c_double),
        ("clang_EvalResult_dispose", evaluation, None),
        ("clang_getFunctionTypeCallingConv", [clang.Type], ctypes.c_int),
        ("clang_Type_getValueType", [clang.Type], clang.Type),
    ):
        function = getattr(lib, name)
        function.argtypes, function.restype = argtypes, restype
        if restype is clang.Type:
            function.errcheck = clang.Type.from_result


def parse(clang: Clang, name: str, reading: Reading, more: str) -> Clang:
    """The translation unit that includes the header, with `more` after it."""
    text = "".join(f"{_include(one, reading)}\n" for one in (*reading.before, name))
    files = [(MAIN, text + more)]
    files += [(f"{freestanding.FOLDER}/{name}", content) for name, content in freestanding.HEADERS.items()]
    arguments = [
        "-x",
        "c",
        "-std=gnu11",
        "-ferror-limit=0",
        "-w",
        "-nobuiltininc",
        "-isystem",
        freestanding.FOLDER,
        "-fretain-comments-from-system-headers",
    ]
    arguments += [f"-I{folder}" for folder in reading.include]
    arguments += [f"-D{macro}" for macro in reading.define]
    arguments += _system_arguments()
    unit_class = clang.TranslationUnit
    try:
        return clang.Index.create().parse(
            MAIN,
            arguments,
            unsaved_files=files,
            options=unit_class.PARSE_DETAILED_PROCESSING_RECORD | unit_class.PARSE_SKIP_FUNCTION_BODIES,
        )
    except clang.TranslationUnitLoadError:
        raise HeaderError(f"libclang cannot read {name}") from None


def _include(name: str, reading: Reading) -> str:
    """The line that includes a header: a path as it is, a name as clang finds it; folders that are given come first."""
    if not name or not name.isprintable() or set(name) & set('"<>'):
        raise HeaderError(f"{name!r} is no header")
    path = Path(name)
    is_given = any((Path(folder) / name).is_file() for folder in reading.include)
    if path.is_file() and (path.is_absolute() or not is_given):
        return f'#include "{str(path.resolve()).replace(chr(92), "/")}"'
    return f"#include <{name}>"


def _system_arguments() -> list[str]:
    """Where the SDK is, on systems whose headers have no fixed place."""
    if not IS_MACOS:
        return []
    import subprocess

    try:
        done = subprocess.run(["xcrun", "--show-sdk-path"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return ["-isysroot", done.stdout.strip()]


def check(unit: Clang, name: str) -> None:
    """HeaderError with clang's errors, if there are any."""
    errors = [diagnostic for diagnostic in unit.diagnostics if diagnostic.severity >= _ERROR]
    if not errors:
        return
    first = errors[0]
    if re.search(r"file not found$", first.spelling) and first.location.file.name == MAIN:
        raise HeaderError(f"{name}: no such header; say where it is with -I DIR, or install the library's headers")
    lines = [f"{_shown(error.location)}: {error.spelling}" for error in errors]
    count = "an error" if len(lines) == 1 else f"{len(lines)} errors"
    raise HeaderError(f"{name} has {count}", lines)


def _shown(location: Any) -> str:
    file = location.file.name if location.file else "<command line>"
    return f"{file}:{location.line}:{location.column}"


# --- which files are the library's -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _system_folders() -> set[str]:
    """Folders that hold the headers of many libraries, so that lying beside each other says nothing."""
    if IS_WINDOWS:
        return set()
    folders = {"/usr/include", "/usr/local/include", "/opt/homebrew/include", "/opt/local/include"}
    with contextlib.suppress(OSError):
        folders |= {entry.path for entry in os.scandir("/usr/include") if entry.is_dir() and "-linux-" in entry.name}
    return {os.path.realpath(folder) for folder in folders}


def own_files(unit: Clang) -> tuple[str, ...]:
    """The files of a unit that belong to the library, the header first.

    The header; what an own file includes with quotation marks; what lies in the header's folder or below, unless that
    is one for the headers of all libraries; there, what lies in a folder named after the header (git2.h, git2/).
    """
    inclusions = list(unit.get_includes())
    first = max((index for index, inclusion in enumerate(inclusions) if inclusion.depth == 1), default=None)
    if first is None:
        return ()
    main = inclusions[first].include.name
    folder = os.path.realpath(os.path.dirname(main))
    if folder in _system_folders():
        folder = os.path.join(folder, Path(main).stem)
    own = [main]
    lines: dict[str, list[bytes]] = {}
    for inclusion in inclusions[first + 1 :]:
        included, source = inclusion.include.name, inclusion.source.name
        if source not in own or included in own or included.startswith(freestanding.FOLDER):
            continue
        is_beside = os.path.realpath(included).startswith(folder + os.sep)
        if is_beside or _is_quoted(inclusion.location, lines):
            own.append(included)
    return tuple(own)


def _is_quoted(location: Any, lines: dict[str, list[bytes]]) -> bool:
    name = location.file.name
    if name not in lines:
        lines[name] = Path(name).read_bytes().split(b"\n")
    return bool(lines[name][location.line - 1][location.column - 1 : location.column] == b'"')


class ClangText:
    """Text of headers that need not be UTF-8: libclang's Python package decodes strictly."""

    def __init__(self, clang: Clang) -> None:
        lib = clang.conf.lib
        # by index: a function object of our own, without the package's conversions
        self._comment = _prototype(lib, "clang_Cursor_getRawCommentText", [clang.Cursor], clang._CXString)
        self._token = _prototype(lib, "clang_getTokenSpelling", [clang.TranslationUnit, clang.Token], clang._CXString)
        self._characters = _prototype(lib, "clang_getCString", [clang._CXString], ctypes.c_char_p)

    def comment(self, cursor: Any) -> str:
        """The documentation comment of a declaration, or ""."""
        return self._decoded(self._comment(cursor))

    def tokens(self, cursor: Any) -> tuple[str, ...]:
        """The tokens of a cursor."""
        return tuple(self._decoded(self._token(token._tu, token)) for token in cursor.get_tokens())

    def _decoded(self, string: Any) -> str:
        return decoded(self._characters(string) or b"")


def _prototype(lib: Clang, name: str, argtypes: list[Any], restype: Any) -> Any:
    function = lib[name]
    function.argtypes, function.restype = argtypes, restype
    return function


@lru_cache(maxsize=4096)
def short_name(file: str) -> str:
    """A header's name as an include line gives it, without the folders of this machine."""
    path = os.path.realpath(file)
    for folder in sorted(_system_folders(), key=len, reverse=True):
        if path.startswith(folder + os.sep):
            return path[len(folder) + 1 :]
    return os.path.basename(path)
