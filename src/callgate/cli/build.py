"""`callgate build`: the machine code of a module's gates, made ahead of time."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from callgate.building import build, declarations_of, machine_for
from callgate.cli.terminal import CommandError, importing

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "build",
        help="write the machine code of a module's gates to a file that is mapped when the module is imported",
        description="Import a module and write the machine code of all gates and callbacks that it declares to one "
        "file for each target and Python. It is used when it lies beside the module's file, or in the folder that "
        "CALLGATE_IMAGES names.",
        epilog="example: callgate build mypackage.native -o src/mypackage",
    )
    parser.add_argument("module", metavar="MODULE", help="the module's name, as it is imported")
    parser.add_argument("-o", "--output", metavar="DIR", default=".", help="the folder to write to (default: this one)")
    parser.add_argument(
        "--target",
        metavar="NAME",
        action="append",
        help="the machine to make it for; again for another (default: this one)",
    )
    parser.add_argument(
        "--python",
        metavar="X.Y",
        action="append",
        help="the Python to make it for; again for another (default: this one)",
    )
    parser.add_argument("--asm", action="store_true", help="write the code as annotated GNU assembly as well")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the images.

    Raises CommandError for a module that cannot be imported, EngineError for what no image can be made for, OSError.
    """
    machines = [
        machine_for(target, python) for target in arguments.target or [None] for python in arguments.python or [None]
    ]
    if not os.path.isdir(arguments.output):
        raise CommandError(f"{arguments.output} is no folder; make it first")
    with importing(arguments.module):
        declared = declarations_of(arguments.module)
    for line in declared.left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not declared.gates and not declared.callbacks:
        raise CommandError(
            f"{arguments.module} declares no functions and no callbacks when it is imported; name a module that does"
        )
    for machine, python in machines:
        for path, shape_count, size_bytes, doubt in build(
            arguments.module, arguments.output, declared, machine, python, with_assembly=arguments.asm
        ):
            print(f"{path}: {len(declared.gates)} gates of {shape_count} shapes, {size_bytes:,} bytes")
            if doubt:
                print(f"as it lies there, {doubt}", file=sys.stderr)
