"""`callgate explain`: a declaration, where its arguments travel, the machine code of its gate; or a Wasm function."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import callgate
from callgate.cli.terminal import CommandError
from callgate.wasm.binary import Kind

MOST_NAMES = 20
"""So many functions are named where the one asked for is not there."""

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "explain",
        help="show where a function's arguments travel and the machine code of its gate, or that of a Wasm function",
        description="Show a C declaration, where its arguments travel and the annotated machine code of its gate. "
        "No library is needed. With --wasm: a function of a WebAssembly module beside the machine code it becomes.",
        epilog="example: callgate explain 'double hypot(double x, double y)'",
    )
    parser.add_argument("declaration", metavar="DECLARATION", nargs="?", help="the prototype of one C function")
    parser.add_argument("--target", metavar="NAME", help="the machine to show it for (default: x86_64-linux)")
    parser.add_argument("--layout", metavar="NAME", help="the layout of Python's objects (default: cpython-3.13)")
    parser.add_argument("--wasm", metavar="FILE", help="a WebAssembly module")
    parser.add_argument("--func", metavar="NAME", help="the name or the number of a function of that module")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the explanation.  Raises DeclarationError, and CommandError for an unknown target, layout or function."""
    if arguments.wasm is not None:
        if arguments.declaration or arguments.target or arguments.layout:
            raise CommandError("--wasm FILE goes with --func NAME and nothing else")
        print(explain_wasm(arguments.wasm, arguments.func))
        return
    if arguments.declaration is None or arguments.func is not None:
        raise CommandError("give the DECLARATION of a C function, or --wasm FILE --func NAME")
    try:
        print(callgate.explain(arguments.declaration, target=arguments.target, layout=arguments.layout))
    except ValueError as problem:
        raise CommandError(str(problem)) from None


def explain_wasm(path: str, name: str | None) -> str:
    """The listing of a function of a module, on this processor; CommandError where there is no such function."""
    from callgate.wasm.binary import decode
    from callgate.wasm.compile.function import Options
    from callgate.wasm.compile.listing import explain_function
    from callgate.wasm.errors import naming
    from callgate.wasm.instance import cpu_features
    from callgate.wasm.validate import check_module

    with naming(path):
        module = decode(Path(path).read_bytes())
        context = check_module(module)
    numbers = {module.function_name(number): number for number in range(len(module.functions))}
    numbers.update({export.name: export.number for export in module.exports if export.kind is Kind.FUNCTION})
    number = numbers.get(name or "", int(name) if name and name.isdecimal() else -1)
    if not 0 <= number < len(module.functions):
        some = ", ".join([one for one in numbers if not one.startswith("function ")][:MOST_NAMES]) or "by number only"
        raise CommandError(f"{path} has no function {name!r}; it has {some}" if name else f"--func is missing: {some}")
    if number < module.imported_functions:
        raise CommandError(f"function {name!r} is imported: the module has no code of it")
    with naming(path):
        return explain_function(context, Options(False, cpu_features()), number)
