"""What WebAssembly costs in callgate, beside wasmtime, gcc's native code and pwasm: all in one process, in turns.

    python benchmarks/wasm/run.py [NAME ...] [--rounds N] [--sections programs,compile,calls,portable] [--json FILE]

Modules are those of modules.py, built when they are not there; wasmtime and pwasm are compared where installed.
Times are the least of the rounds; figures above one another come from the same rounds.  Compare the ratios:
milliseconds belong to this machine and this minute.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from modules import PROGRAMS, Program, Unavailable, native_library, wasm_module

from callgate import i64, wasm
from callgate.cli.contenders import assemble
from callgate.cli.rows import ROWS
from callgate.cli.terminal import Progress
from callgate.cli.timing import Turn, nanoseconds_a_call, without_gc
from callgate.errors import EngineError

SECTIONS = ("programs", "compile", "calls", "portable")
Call = Callable[[int], object]


class Bound(NamedTuple):
    """A figure and what it must not exceed (or, of a speed-up, not fall below)."""

    what: str
    figure: float
    limit: float
    is_least: bool = False

    @property
    def holds(self) -> bool:
        return self.figure >= self.limit if self.is_least else self.figure <= self.limit


class Skipped(Exception):
    """A contender that is not here; the text says why."""


def wasmtime() -> Any:
    """The package; Skipped where it is not installed."""
    try:
        return importlib.import_module("wasmtime")
    except ImportError:
        raise Skipped("wasmtime is not installed: pip install wasmtime") from None


# ----- contenders: each makes `run` of a program -----


def callgate_run(program: Program, **options: Any) -> Call:
    """`run` in callgate."""
    instance = wasm.load(wasm_module(program), **options)
    run: Call = instance.exports.run
    keep.append(instance)
    return run


def wasmtime_run(program: Program) -> Call:
    """`run` in wasmtime."""
    package = wasmtime()
    engine = package.Engine()
    store = package.Store(engine)
    instance = package.Instance(store, package.Module(engine, wasm_module(program).read_bytes()), [])
    return partial(instance.exports(store)["run"], store)


def native_run(program: Program) -> Call:
    """`run` as gcc -O2 made it."""
    run = ctypes.CDLL(str(native_library(program))).run
    run.restype = ctypes.c_int64
    return run


def pwasm_run(program: Program) -> Call:
    """`run` in pwasm, which makes Python source too."""
    try:
        pwasm: Any = importlib.import_module("pwasm")
    except ImportError:
        raise Skipped("pwasm is not installed: pip install pwasm") from None
    instance = pwasm.instantiate(pwasm.decode_module(wasm_module(program).read_bytes()))
    run: Call = instance.exports.run
    return run


CONTENDERS: dict[str, Callable[[Program], Call]] = {
    "wasmtime": wasmtime_run,
    "guarded": partial(callgate_run, engine="compiled", bounds="guarded"),
    "checked": partial(callgate_run, engine="compiled", bounds="checked"),
    "gcc": native_run,
}
SLOW: dict[str, Callable[[Program], Call]] = {
    "pwasm": pwasm_run,
    "portable": partial(callgate_run, engine="portable"),
}
keep: list[object] = []
"""Instances whose functions are in use."""


def contenders(makers: Mapping[str, Callable[[Program], Call]], program: Program) -> dict[str, Call]:
    """`run` of everyone who is here, having given the right result at the small size."""
    present = {}
    for name, make in makers.items():
        try:
            call = make(program)
            result = call(program.small)
        except (Skipped, Unavailable, EngineError) as reason:
            say_once(f"without {name}: {reason}")
            continue
        except Exception as error:  # a peer that cannot run a module is no reason to stop
            say_once(f"without {name} on {program.name}: {type(error).__name__}: {str(error)[:150]}")
            continue
        if result != program.small_result:
            say_once(
                f"without {name} on {program.name}: run({program.small}) gave {result}, not {program.small_result}"
            )
            continue
        present[name] = call
    return present


def least_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least time of each call over some rounds in which everyone takes a turn."""
    least = dict.fromkeys(calls, math.inf)
    order = list(calls)
    with without_gc():
        for _ in range(rounds):
            order.append(order.pop(0))  # nobody always runs after the same neighbour
            for name in order:
                start = perf_counter()
                calls[name]()
                least[name] = min(least[name], perf_counter() - start)
    return least


# ----- sections: each prints a table and gives its figures and bounds -----


def programs(chosen: Iterable[Program], rounds: int) -> tuple[dict[str, Any], list[Bound]]:
    """Execution of whole programs."""
    figures = {}
    print(f"{'run(n), ms':12}" + "".join(f"{name:>10}" for name in CONTENDERS) + "   guarded/wasmtime checked/wasmtime")
    for program in chosen:
        present = contenders(CONTENDERS, program)
        for name, call in [*present.items()]:
            if (result := call(program.size)) != program.result:
                say_once(f"without {name} on {program.name}: run({program.size}) gave {result}, not {program.result}")
                del present[name]
        seconds = least_seconds({name: partial(call, program.size) for name, call in present.items()}, rounds)
        figures[program.name] = seconds
        cells = [f"{seconds[name] * 1e3:10.2f}" if name in seconds else f"{'-':>10}" for name in CONTENDERS]
        ratios = [f"{ratio(seconds, name, 'wasmtime') or math.nan:17.2f}" for name in ("guarded", "checked")]
        print(f"{program.name:12}" + "".join(cells) + " ".join(ratios))
    bounds = []
    for name, mean_limit, limit in (("guarded", 1.15, 1.6), ("checked", 1.4, 2.0)):
        found = {program: ratio(seconds, name, "wasmtime") for program, seconds in figures.items()}
        ratios_found = {program: value for program, value in found.items() if value}
        if ratios_found:
            worst = max(ratios_found, key=ratios_found.__getitem__)
            bounds.append(Bound(f"{name}/wasmtime, geometric mean", geometric_mean(ratios_found.values()), mean_limit))
            bounds.append(Bound(f"{name}/wasmtime, the worst ({worst})", ratios_found[worst], limit))
    return figures, bounds


def compile_times(chosen: Iterable[Program], rounds: int) -> tuple[dict[str, Any], list[Bound]]:
    """From bytes to a module: compiled anew, and out of the cache."""
    figures: dict[str, Any] = {}
    bounds = []
    print(f"\n{'module, ms':12}{'KB':>8}{'compiled':>10}{'cached':>10}{'wasmtime':>10}")
    for program in chosen:
        try:
            path = wasm_module(program)
        except Unavailable as reason:
            say_once(f"without {program.name}: {reason}")
            continue
        data = path.read_bytes()
        calls: dict[str, Callable[[], object]] = {
            "compiled": partial(wasm.Module, data, engine="compiled", cache=False),
            "cached": partial(wasm.Module, data, engine="compiled", cache=True),
        }
        try:
            package = wasmtime()
            calls["wasmtime"] = partial(package.Module, package.Engine(), data)
        except Skipped as reason:
            say_once(f"without wasmtime: {reason}")
        calls["cached"]()
        seconds = least_seconds(calls, min(rounds, 3))
        figures[program.name] = {**seconds, "bytes": len(data)}
        cells = "".join(f"{seconds.get(name, math.nan) * 1e3:10.1f}" for name in ("compiled", "cached", "wasmtime"))
        print(f"{program.name:12}{len(data) / 1e3:8.0f}{cells}")
        if program.name == "sqlite":
            bounds.append(Bound("sqlite compiled, s", seconds["compiled"], 2))
            bounds.append(Bound("sqlite from the cache, ms", seconds["cached"] * 1e3, 10))
    return figures, bounds


def calls(chosen: Iterable[Program], rounds: int) -> tuple[dict[str, Any], list[Bound]]:
    """A call into WebAssembly, and a call from there into Python."""

    @wasm.host("env", "host")
    def host(x: i64, /) -> i64:
        return x + 1

    (program,) = (program for program in PROGRAMS if program.name == "calls")
    path = wasm_module(program)
    times = 1000
    turns: dict[str, dict[str, Turn]] = {"empty()": {}, "add(1, 2)": {}, f"run({times}), each a host call": {}}

    def compete(name: str, exports: Mapping[str, Callable[..., object]], *before: object) -> None:
        assert exports["add"](*before, 1, 2) == 3
        assert exports["run"](*before, times) == times
        for row, export, arguments in zip(turns, ("empty", "add", "run"), ((), (1, 2), (times,)), strict=True):
            turns[row][name] = Turn(exports[export], (*before, *arguments))

    for name in ("compiled", "portable"):
        try:
            instance = wasm.load(path, imports=[host], engine=name)
        except EngineError as reason:
            say_once(f"without {name}: {reason}")
            continue
        compete(name, {export: instance.exports[export] for export in program.exports})
    try:
        package = wasmtime()
        engine = package.Engine()
        store = package.Store(engine)
        kind = package.FuncType([package.ValType.i64()], [package.ValType.i64()])
        function = package.Func(store, kind, lambda x: x + 1)
        loaded = package.Instance(store, package.Module(engine, path.read_bytes()), [function])
        compete("wasmtime", {name: loaded.exports(store)[name] for name in program.exports}, store)
    except Skipped as reason:
        say_once(f"without wasmtime: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        field = assemble([row for row in ROWS if row.name == "add"], Path(folder), Progress(), is_quick=True)
    if field.entries and "extension" in field.entries[0].contest.turns:
        extension, _ = field.entries[0].contest.turns["extension"]
        turns["add(1, 2)"]["extension"] = Turn(extension, (1, 2))
    else:
        say_once(f"without the C extension: {field.skipped.get('extension', 'its row is missing')}")
    figures = {}
    names = ("compiled", "portable", "extension", "wasmtime")
    print(f"\n{'a call, ns':28}" + "".join(f"{name:>12}" for name in names))
    for row, contest in turns.items():
        is_host_call = row.startswith("run")
        each = nanoseconds_a_call(contest, 10 if is_host_call else 1000, rounds * 5)
        figures[row] = {name: spent / times if is_host_call else spent for name, spent in each.items()}
        cells = (f"{figures[row][name]:12.1f}" if name in figures[row] else f"{'-':>12}" for name in names)
        print(f"{row:28}" + "".join(cells))
    bounds = []
    add, host_call = figures["add(1, 2)"], figures[f"run({times}), each a host call"]
    for what, found, limit, is_least in (
        ("call, compiled/extension", ratio(add, "compiled", "extension"), 2.2, False),
        ("call, wasmtime/compiled", ratio(add, "wasmtime", "compiled"), 300, True),
        ("host call, wasmtime/compiled", ratio(host_call, "wasmtime", "compiled"), 50, True),
    ):
        if found:
            bounds.append(Bound(what, found, limit, is_least))
    return figures, bounds


def portable(chosen: Iterable[Program], rounds: int) -> tuple[dict[str, Any], list[Bound]]:
    """Portable mode at small sizes, with what it takes to load a module for each."""
    figures = {}
    bounds = []
    print(f"\n{'run(n), ms':12}{'n':>10}{'pwasm':>10}{'portable':>10}{'portable/pwasm':>16}")
    for program in chosen:
        present = contenders(SLOW, program)
        small = {name: partial(call, program.small) for name, call in present.items()}
        slowest = max(least_seconds(small, 1).values(), default=1.0)
        seconds = least_seconds(small, max(min(rounds, 5), min(100, int(0.2 / slowest))))  # many of short ones
        figures[program.name] = seconds
        cells = [f"{seconds[name] * 1e3:10.2f}" if name in seconds else f"{'-':>10}" for name in SLOW]
        found = ratio(seconds, "portable", "pwasm")
        print(f"{program.name:12}{program.small:10}" + "".join(cells) + f"{found or math.nan:16.2f}")
        if found:
            bounds.append(Bound(f"portable/pwasm, {program.name}", found, 1.0))
    return figures, bounds


def ratio(figures: Mapping[str, float], one: str, other: str) -> float | None:
    """The quotient of two figures; None where one is missing."""
    return figures[one] / figures[other] if one in figures and other in figures else None


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


said: set[str] = set()


def say_once(text: str) -> None:
    """Tell what is skipped on stderr, the first time."""
    if text not in said:
        said.add(text)
        print(text, file=sys.stderr, flush=True)


def main() -> int:
    measured = [program for program in PROGRAMS if program.is_measured]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(program.name for program in measured))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sections", default=",".join(SECTIONS), help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in seconds (of calls: ns)")
    given = parser.parse_args()
    chosen = [program for program in measured if not given.names or program.name in given.names]
    every = {"programs": programs, "compile": compile_times, "calls": calls, "portable": portable}
    figures = {}
    bounds: list[Bound] = []
    for section in given.sections.split(","):
        try:
            figures[section], more = every[section](chosen, given.rounds)
        except Unavailable as reason:
            say_once(f"without {section}: {reason}")
            continue
        bounds += more
    print()
    for bound in bounds:
        sign = ">=" if bound.is_least else "<="
        print(f"{'holds ' if bound.holds else 'MISSED'} {bound.what}: {bound.figure:.2f}, {sign} {bound.limit:g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    return 0 if all(bound.holds for bound in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
