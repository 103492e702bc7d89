"""The `callgate` command: which subcommands there are, and how their errors end. Each subcommand is one module."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from callgate import __version__
from callgate.cli import bench, bind_header, build, demo, doctor, explain, run, wasm
from callgate.cli.terminal import CommandError
from callgate.errors import CallgateError, DeclarationError

_COMMANDS = (demo, bench, explain, bind_header, build, run, wasm, doctor)


class _Parser(argparse.ArgumentParser):
    """Reports a usage error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (`sys.argv[1:]` without it).

    Returns the exit code: the command's own, mostly 0; or 2 after an error, which is one line on stderr.

    >>> main(["explain", "int abs(int n"])
    2
    """
    parser = _Parser(prog="callgate", description="Native calls from Python through generated machine code.")
    parser.add_argument("--version", action="version", version=f"callgate {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leaving:  # --help, --version and usage errors have printed what there is to say
        return leaving.code if isinstance(leaving.code, int) else 0
    if isinstance(sys.stdout, io.TextIOWrapper) and arguments.command != "run":  # a program's output is its own
        sys.stdout.reconfigure(errors="replace")  # µ, – and ● where the terminal has no UTF-8
    try:
        status: int = arguments.run(arguments) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; keep the interpreter from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130
    except (CommandError, CallgateError, OSError) as problem:
        print(f"callgate {arguments.command}: {_one_line(problem)}", file=sys.stderr)
        return 2
    return status


def _one_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines()]
    if isinstance(problem, DeclarationError) and problem.line is not None:
        return lines[0]  # the rest repeats the declaration, which stands on the command line
    return " ".join(lines)
