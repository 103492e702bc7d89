"""`callgate bind`: a typed Python module from a C header."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.c.header import read_header
from callgate.c.header_model import FunctionOf, Header, NotBound
from callgate.c.module_text import Module, Wishes, module_of
from callgate.c.translation_unit import HeaderError, Reading
from callgate.cli.terminal import CommandError, Progress
from callgate.errors import LibraryNotFoundError
from callgate.runtime.shared_library import SharedLibrary, open_library

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "bind",
        help="write a typed Python module from a C header",
        description="Read a C header with libclang and write a Python module with its functions, types and constants.",
        epilog="example: callgate bind sqlite3.h -l sqlite3 -o sqlite3_c.py",
    )
    parser.add_argument("header", metavar="HEADER", help="a path, or a name as in #include <HEADER>")
    parser.add_argument(
        *("-l", "--library"),
        metavar="LIB",
        action="append",
        required=True,
        help="the library that the module loads: a short name, a file name or a path; again for another candidate",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the module to write (default: standard output)")
    parser.add_argument("-I", metavar="DIR", dest="include", action="append", default=[], help="a folder with headers")
    parser.add_argument(
        "-D", metavar="NAME[=VALUE]", dest="define", action="append", default=[], help="a macro to define before"
    )
    parser.add_argument("--before", metavar="HEADER", action="append", default=[], help="a header to include before")
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="bind functions, constants and types whose whole name matches, and what they need",
    )
    parser.add_argument(
        "--prefix", metavar="PREFIX", action="append", default=[], help="leave PREFIX out of the names in Python"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the module.

    Raises CommandError for a header that cannot be read, OSError for a file that cannot be written.
    """
    _check_pattern(arguments.only)
    if "" in arguments.library:
        raise CommandError("-l needs the name of a library")
    progress = Progress()
    reading = Reading(tuple(arguments.include), tuple(arguments.define), tuple(arguments.before))
    try:
        header = read_header(arguments.header, reading, progress.say)
        progress.say(f"writing {arguments.output or 'the module'}")
        libraries = tuple(arguments.library)
        shared = _opened(libraries)
        missing = {} if shared is None else _missing(header, shared)
        wishes = Wishes(libraries, arguments.only, tuple(arguments.prefix), missing, _command(arguments))
        module = module_of(header, wishes)
    except HeaderError as problem:
        progress.clear()
        for line in problem.diagnostics:
            print(line, file=sys.stderr)
        raise CommandError(str(problem)) from None
    progress.clear()
    if not (module.functions or module.types or module.constants):
        raise CommandError(f"{arguments.header} declares nothing to bind{' that matches' if arguments.only else ''}")
    if arguments.output:
        Path(arguments.output).write_text(module.text, encoding="utf-8", newline="\n")
    else:
        sys.stdout.write(module.text)
    _report(arguments, module)


def _check_pattern(pattern: str | None) -> None:
    """CommandError for what is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as problem:
        raise CommandError(f"--only {pattern!r} is no regular expression: {problem}") from None


def _opened(libraries: tuple[str, ...]) -> SharedLibrary | None:
    """The library, to look for its symbols; a note where it cannot be loaded here."""
    try:
        return open_library(libraries)
    except LibraryNotFoundError as problem:
        first = str(problem).partition("\n")[0].partition(";")[0]
        print(f"callgate bind: {first}; its symbols are not checked", file=sys.stderr)
        return None


def _missing(header: Header, shared: SharedLibrary) -> dict[str, str]:
    """The functions that the library does not export, and the reason to give."""
    return {
        function.name: _why_missing(function)
        for function in header.functions
        if not function.refusal and shared.find(function.symbol) is None
    }


def _why_missing(function: FunctionOf) -> str:
    if function.is_inline:
        return "an inline function"
    named = "" if function.symbol == function.name else f": {function.symbol}"
    return f"the library has no such symbol{named}"


def _command(arguments: argparse.Namespace) -> str:
    """The command line that makes the module again, without what belongs to this machine alone."""
    words = ["callgate", "bind", _portable(arguments.header)]
    for library in arguments.library:
        words += ["-l", _portable(library)]
    for macro in arguments.define:
        words += ["-D", macro]
    for header in arguments.before:
        words += ["--before", _portable(header)]
    if arguments.only is not None:
        words += ["--only", arguments.only]
    for prefix in arguments.prefix:
        words += ["--prefix", prefix]
    return shlex.join(words)


def _portable(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _report(arguments: argparse.Namespace, module: Module) -> None:
    """Say on stderr what was made, and what was left and why."""
    counts = (
        (len(module.functions), "function"),
        (len(module.types), "type"),
        (len(module.constants), "constant"),
    )
    made = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    left = f"; {len(module.not_bound)} not bound:" if module.not_bound else ""
    print(f"{arguments.header}: {made}{left}", file=sys.stderr)
    by_reason: dict[str, list[NotBound]] = {}
    for item in module.not_bound:
        by_reason.setdefault(item.reason.partition(":")[0], []).append(item)
    for reason, items in by_reason.items():
        named = [f"{item.name} ({item.location.file}:{item.location.line})" for item in items]
        text = f"{reason}: {', '.join(named)}"
        lines = textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
