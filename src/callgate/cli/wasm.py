"""`callgate wasm`: run a WebAssembly module's function, say what is in a module, compile one ahead of time."""

from __future__ import annotations

import argparse
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.cli.terminal import CommandError, Progress, heading
from callgate.errors import ImageError
from callgate.wasm.binary import Kind, ModuleData, decode
from callgate.wasm.errors import LinkError, Trap, naming
from callgate.wasm.limits import Limits
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import EXTERNREF, F32, F64, I32, I64, NAMES, V128, FuncType, GlobalType
from callgate.wasm.validate import BLOCK, IF, LOOP, check_body, check_module

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

TRAPPED = 134
"""The exit status after a trap: that of a process that aborts."""
_SCALES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the commands' arguments."""
    parser = subparsers.add_parser(
        "wasm",
        help="run, inspect or compile WebAssembly modules",
        description="Run a function of a WebAssembly module, say what is in one, or compile modules ahead of time.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="wasm_command", required=True)

    one = commands.add_parser(
        "run",
        help="call a function of a module and print what it returns",
        description="Call an exported function and print its results, one a line. Arguments are numbers as in Python "
        "(also hexadecimal, inf and nan); 0x… with 32 digits for a v128. A trap prints the WebAssembly backtrace and "
        f"ends with status {TRAPPED}.",
        epilog="example: callgate wasm run math.wasm --invoke add 2 -5",
    )
    one._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)")  # what begins so is an argument, not an option
    one.add_argument("file", metavar="FILE", help="the module")
    one.add_argument(
        "--invoke",
        metavar=("NAME", "ARG"),
        nargs="+",
        default=["_start"],
        help="the exported function, and its arguments (default: _start)",
    )
    one.add_argument("--fuel", metavar="N", type=int, help="stop after so many calls and rounds of loops")
    one.add_argument("--timeout", metavar="SECONDS", type=float, help="stop after so long")
    one.add_argument("--memory", metavar="BYTES", type=_size, help="what the memory may grow to: 1000000, 64K, 16M, 1G")
    one.add_argument("--engine", choices=("compiled", "portable"), help="how to run it (default: what runs here)")
    one.set_defaults(run=run_module)

    one = commands.add_parser(
        "inspect",
        help="say what a module imports, exports and contains",
        description="Check a module and say what it imports, exports and contains, and which features it uses.",
    )
    one.add_argument("file", metavar="FILE", help="the module")
    one.set_defaults(run=inspect)

    one = commands.add_parser(
        "compile",
        help="compile modules now, so that they are loaded at once later",
        description="Compile modules and keep their code in the cache, where loading them finds it.",
    )
    one.add_argument("files", metavar="FILE", nargs="+", help="a module")
    one.add_argument(
        "-o", "--output", metavar="DIR", help="the cache to write to: what CALLGATE_CACHE is when they are loaded"
    )
    one.add_argument("--bounds", choices=("checked", "guarded"), default="checked", help="for modules loaded with that")
    one.set_defaults(run=compile_modules)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 1000000, 64K, 16M or 1G")
    return int(found[1]) * _SCALES[found[2]]


def _read(path: str) -> ModuleData:
    with naming(path):
        return decode(Path(path).read_bytes())


def _bar(path: str) -> tuple[Progress, Callable[[int, int], None]]:
    progress = Progress()
    return progress, lambda done, whole: progress.bar(f"compiling {Path(path).name}", done, whole)


# -- run --------------------------------------------------------------------------------------------------------------


def run_module(arguments: argparse.Namespace) -> int:
    """Call a function and print its results.

    Raises CommandError where there is no such function or an argument is none of its type.
    """
    from callgate import wasm

    name, *words = arguments.invoke
    progress, tell = _bar(arguments.file)
    try:
        module = wasm.Module(arguments.file, engine=arguments.engine, progress=tell)
    finally:
        progress.clear()
    signature = _exported_type(module.data, arguments.file, name)
    values = parse_arguments(signature, words, name)
    limits = Limits(fuel=arguments.fuel, timeout_s=arguments.timeout, memory_bytes=arguments.memory)
    try:
        instance = module.instantiate(limits=limits)
        result = instance.exports[name](*values)
    except LinkError as problem:
        needed = ", ".join(f"{one.module}.{one.name}: {one.type}" for one in module.data.imports)
        raise CommandError(
            f"{arguments.file} needs imports, which only a program can give (wasm.load(…, imports=[…])): {needed}"
            + (f"; {problem.hint}" if problem.hint else "")
        ) from problem
    except Trap as trap:
        print(f"callgate wasm: {type(trap).__name__}: {trap}", file=sys.stderr)
        return TRAPPED
    results = result if len(signature.results) > 1 else [result][: len(signature.results)]
    for value, kind in zip(results, signature.results, strict=True):
        print(f"0x{value[::-1].hex()}" if kind == V128 else value)
    return 0


def _exported_type(module: ModuleData, path: str, name: str) -> FuncType:
    types = {
        export.name: module.types[module.functions[export.number]]
        for export in module.exports
        if export.kind is Kind.FUNCTION
    }
    if name not in types:
        offered = ", ".join(f"{other}{signature}" for other, signature in types.items()) or "no function"
        hint = "; call one with --invoke NAME [ARG ...]" if name == "_start" and types else ""
        raise CommandError(f"{path} exports no function {name!r}; it exports {offered}{hint}")
    return types[name]


def parse_arguments(signature: FuncType, words: Sequence[str], name: str) -> list[Any]:
    """Words as values of a function's parameters; CommandError where they are none.

    >>> parse_arguments(FuncType((I32, F64), ()), ["0xffffffff", "inf"], "f")
    [-1, inf]
    """
    if len(words) != len(signature.parameters):
        raise CommandError(f"{name}{signature} takes {len(signature.parameters)} arguments, not {len(words)}")
    values = []
    for word, kind in zip(words, signature.parameters, strict=True):
        try:
            values.append(_parse(word, kind))
        except (ValueError, OverflowError):
            raise CommandError(f"{word!r} is no {NAMES[kind]}, which {name}{signature} takes") from None
    return values


def _parse(word: str, kind: int) -> Any:
    if kind in (I32, I64):
        bits = 32 if kind == I32 else 64
        number = int(word, 0)
        if not -(1 << bits - 1) <= number < 1 << bits:
            raise OverflowError
        return number - (1 << bits) if number >= 1 << bits - 1 else number
    if kind in (F32, F64):
        number_f = float.fromhex(word) if "0x" in word.lower() else float(word)
        struct.pack("<f" if kind == F32 else "<d", number_f)  # OverflowError for a double that is no float
        return number_f
    if kind == V128:
        return int(word, 0).to_bytes(16, "little")
    if kind == EXTERNREF:
        return word
    if word != "null":
        raise ValueError
    return None


# -- inspect ----------------------------------------------------------------------------------------------------------


def inspect(arguments: argparse.Namespace) -> None:
    """Say what is in a module.  Raises BinaryError or ValidationError for one that is none."""
    module = _read(arguments.file)
    print("\n".join(description(arguments.file, module)))


def description(path: str, module: ModuleData) -> Iterator[str]:
    """What `inspect` prints."""
    with naming(path):
        features = used_features(module)
    code = sum(body.end - body.start for body in module.bodies)
    yield heading(f"{path}: {len(module.data):,} bytes, valid")
    if module.name:
        yield f"name       {module.name}"
    yield f"functions  {len(module.bodies):,}, {code:,} bytes of code, {len(module.types):,} types"
    yield f"features   {', '.join(features) or 'those of WebAssembly 1.0'}"
    if module.start is not None:
        yield f"start      {module.function_name(module.start)}"
    if module.segments:
        data = sum(segment.end - segment.start for segment in module.segments)
        yield f"data       {len(module.segments):,} segments, {data:,} bytes"
    if module.elements:
        items = sum(len(element.items) for element in module.elements)
        yield f"elements   {len(module.elements):,} segments, {items:,} references"
    imported = {kind: sum(isinstance(one.type, kind) for one in module.imports) for kind in (FuncType, GlobalType)}
    yield f"tables     {', '.join(map(str, module.tables)) or 'none'}"
    yield f"memories   {', '.join(map(str, module.memories)) or 'none'}"
    yield f"globals    {len(module.globals):,}, {imported[GlobalType]:,} of them imported"
    for custom in module.customs:
        yield f"custom     {custom.name!r}, {custom.end - custom.start:,} bytes"
    yield heading(f"imports: {len(module.imports):,}")
    for one in module.imports:
        yield f"  {one.module}.{one.name}: {_spell(one.type)}"
    yield heading(f"exports: {len(module.exports):,}")
    spaces: dict[Kind, Sequence[Any]] = {
        Kind.FUNCTION: [module.types[index] for index in module.functions],
        **{Kind.TABLE: module.tables, Kind.MEMORY: module.memories, Kind.GLOBAL: module.globals},
    }
    for name, kind, number in module.exports:
        yield f"  {name}: {_spell(spaces[kind][number])}"


def _spell(type: object) -> str:
    return f"function {type}" if isinstance(type, FuncType) else str(type)


_FEATURES = {
    "sign extension": r"i\d\d\.extend\d+_s",
    "saturating conversions": r"i\d\d\.trunc_sat_f\d\d_.",
    "bulk memory": r"memory\.(copy|fill|init)|data\.drop|table\.(copy|init)|elem\.drop",
    "reference types": r"table\.(get|set|grow|size|fill)|ref\..*",
    "tail calls": r"return_call.*",
}


def used_features(module: ModuleData) -> list[str]:
    """What of later versions than 1.0 a module uses; ValidationError or BinaryError where a body breaks the rules."""
    context = check_module(module)
    opcodes: set[int] = set()
    blocks: set[Any] = set()
    for number in range(len(module.bodies)):
        instructions = check_body(context, number).instructions
        opcodes.update([opcode for opcode, _, _ in instructions])
        blocks.update([immediate for opcode, immediate, _ in instructions if opcode in (BLOCK, LOOP, IF)])
    names = {INSTRUCTIONS[opcode].name for opcode in opcodes}
    found = [what for what, pattern in _FEATURES.items() if any(re.fullmatch(pattern, name) for name in names)]
    if any(opcode >= 0xFD00 for opcode in opcodes) or any(V128 in kinds for one in module.types for kinds in one):
        found.append("vectors")
    if any(len(one.results) > 1 for one in module.types) or any(one.parameters for one in blocks):
        found.append("several results")
    shared = [one.type for one in module.imports]
    shared += [module.globals[number] for _, kind, number in module.exports if kind is Kind.GLOBAL]
    if any(isinstance(one, GlobalType) and one.is_mutable for one in shared):
        found.append("mutable globals shared")
    return found


# -- compile ----------------------------------------------------------------------------------------------------------


def compile_modules(arguments: argparse.Namespace) -> None:
    """Compile modules into the cache.

    Raises BinaryError or ValidationError for what is no module, CommandError where nothing can be kept, OSError.
    """
    from callgate.wasm.cache import LEAST_BYTES, cache_folder, key_of, map_module, path_of, store
    from callgate.wasm.compile.function import Options
    from callgate.wasm.compile.module import compile_module
    from callgate.wasm.instance import cpu_features

    folder = Path(arguments.output) / "wasm" if arguments.output else cache_folder()
    if folder is None:
        raise CommandError("there is no cache: CALLGATE_CACHE is empty, or there is no home folder; name one with -o")
    options = Options(arguments.bounds == "guarded", cpu_features())
    for file in arguments.files:
        module = _read(file)
        if len(module.data) < LEAST_BYTES:
            print(f"{file}: smaller than {LEAST_BYTES:,} bytes, so it is compiled whenever it is loaded")
            continue
        started = time.perf_counter()
        progress, tell = _bar(file)
        try:
            with naming(file):
                compiled = compile_module(check_module(module), options, tell)
        finally:
            progress.clear()
        took_s = time.perf_counter() - started
        key = key_of(module.data, options)
        store(folder, key, compiled)
        try:
            map_module(path_of(folder, key), key, is_guarded=options.is_guarded)
        except ImageError as problem:
            raise CommandError(f"what was written will not be used: {problem}") from None
        print(
            f"{file}: {len(compiled.starts):,} functions, {len(compiled.code):,} bytes of machine code "
            f"in {took_s:.2f} s: {path_of(folder, key)}"
        )
