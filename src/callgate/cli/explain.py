"""`callgate explain`: a declaration, where its arguments travel, and the machine code of its gate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import callgate
from callgate.cli.terminal import CommandError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "explain",
        help="show where a function's arguments travel and the machine code of its gate",
        description="Show a C declaration, where its arguments travel and the annotated machine code of its gate. "
        "No library is needed.",
        epilog="example: callgate explain 'double hypot(double x, double y)'",
    )
    parser.add_argument("declaration", metavar="DECLARATION", help="the prototype of one C function")
    parser.add_argument("--target", metavar="NAME", help="the machine to show it for (default: x86_64-linux)")
    parser.add_argument("--layout", metavar="NAME", help="the layout of Python's objects (default: cpython-3.13)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the explanation.  Raises DeclarationError, and CommandError for an unknown target or layout."""
    try:
        print(callgate.explain(arguments.declaration, target=arguments.target, layout=arguments.layout))
    except ValueError as problem:
        raise CommandError(str(problem)) from None
