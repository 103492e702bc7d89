"""`callgate bench`: what a call costs through a gate, a hand-written C extension, ctypes and cffi.

The file that `--json` writes:

    callgate, python, implementation, processor, engine    what was measured, on what
    calls, rounds                                           calls in a round; rounds, of which the least counts
    rows                                                    a list, an object for each row
      row, declaration, operands, blocking, result          what was called
      calls, rounds                                         the row's own
      callbacks                                             how often C calls back in a call, for a row of callbacks
      ns                                                    by contender: ns a call, or a callback where C calls
                                                            back, net of an empty loop; processor time where
                                                            calls is 1
      ratios                                                "gate/extension", "ctypes/gate", "cffi_api/gate"
    skipped                                                 contender (or "row NAME") to the reason
    binding                                                 fields of BindingCosts; a Spread is {median_us, least_us}

Contenders are "gate", "extension", "ctypes", "cffi_abi" and "cffi_api"; who is absent has no key.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate import __version__
from callgate.cli.binding_costs import FUNCTIONS, PROCESSES, BindingCosts, Spread, measure_binding
from callgate.cli.contenders import NAMES, Entry, assemble
from callgate.cli.rows import COMPARE, ROWS, Row
from callgate.cli.terminal import CommandError, Progress, heading
from callgate.cli.timing import nanoseconds_a_call
from callgate.runtime.engine import choose

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_RATIOS = (("gate", "extension"), ("ctypes", "gate"), ("cffi_api", "gate"))
_CALLS = 10_000
"""Calls in a round: few enough that some rounds pass undisturbed on a machine with other work."""
_ROUNDS, _QUICK_ROUNDS = 200, 25
_LONG_ROUNDS = 3
"""For a row that takes hundreds of milliseconds a call."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    names = ", ".join(row.name for row in ROWS)
    parser = subparsers.add_parser(
        "bench",
        help="measure what a call costs, beside ctypes, cffi and a C extension",
        description="Measure what a call costs through a gate, a hand-written C extension, ctypes and cffi, in one "
        "process and in turns, and what binding costs. Contenders that are missing here are named with the reason.",
        epilog=f"rows: {names}. Compare the ratios; nanoseconds belong to this machine and this minute.",
    )
    parser.add_argument("rows", metavar="ROW", nargs="*", type=_row, help="measure these rows only")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw a bar chart (needs matplotlib); .png, .svg or .pdf")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: seconds instead of half a minute")
    parser.set_defaults(run=run)


def _row(name: str) -> Row:
    for row in ROWS:
        if row.name == name:
            return row
    raise argparse.ArgumentTypeError(f"no row {name!r}; the rows are {', '.join(row.name for row in ROWS)}")


class Figures(NamedTuple):
    """One row's figures: ns a call (or a callback) by contender; calls in a round, rounds."""

    entry: Entry
    ns: dict[str, float]
    calls: int
    rounds: int

    def ratio(self, over: str, under: str) -> float | None:
        """How many times longer `over` takes than `under`; None where one is absent or takes no time."""
        if over not in self.ns or not self.ns.get(under):
            return None
        return self.ns[over] / self.ns[under]


class Report(NamedTuple):
    """All that was measured."""

    engine: str
    rounds: int
    figures: list[Figures]
    skipped: dict[str, str]
    binding: BindingCosts | None


def run(arguments: argparse.Namespace) -> None:
    """Measure and print; raises CommandError where a file cannot be drawn, OSError where it cannot be written."""
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install callgate[plot]")
    with ExitStack() as files:
        # opened before the work, so that a wrong path does not cost it
        json_file = files.enter_context(open(arguments.json, "w", encoding="utf-8")) if arguments.json else None
        report = measure(arguments.rows or list(ROWS), is_quick=arguments.quick, has_binding=True)
        print(heading(f"callgate {__version__}, {_python()}, {processor()}"))
        print("\n".join(table(report)))
        if report.binding is not None:
            print("\n" + "\n".join(binding_table(report.binding)))
        if json_file is not None:
            json.dump(as_json(report), json_file, indent=2, ensure_ascii=False)
            json_file.write("\n")
    if arguments.plot:
        plot(report, arguments.plot)


def measure(rows: list[Row], *, is_quick: bool, has_binding: bool) -> Report:
    """Measure the rows and, if wanted, the costs of binding."""
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="callgate-bench-") as name:
        folder = Path(name)
        field = assemble(list(dict.fromkeys(rows)), folder, progress, is_quick=is_quick)
        figures = []
        for entry in field.entries:
            progress.say(f"measuring {entry.row.name}")
            figures.append(_figures(entry, is_quick=is_quick))
        progress.clear()
        binding = measure_binding(folder, progress) if has_binding else None
    engine = "native" if choose(None) is not None else "ctypes"
    return Report(engine, _rounds(is_quick=is_quick), figures, field.skipped, binding)


def _rounds(*, is_quick: bool) -> int:
    return _QUICK_ROUNDS if is_quick else _ROUNDS


def _figures(entry: Entry, *, is_quick: bool) -> Figures:
    row, contest = entry.row, entry.contest
    calls = 1 if row.is_long else _CALLS // row.callbacks
    rounds = _LONG_ROUNDS if row.is_long else _rounds(is_quick=is_quick)
    clock = thread_time_ns if row.is_long else perf_counter_ns  # no long call passes undisturbed by other work
    ns = nanoseconds_a_call(contest.turns, calls, rounds, contest.prepare, clock)
    return Figures(entry, {name: spent / row.callbacks for name, spent in ns.items()}, calls, rounds)


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def processor() -> str:
    """The processor's name, as its maker or else the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # no Linux
    return platform.processor() or platform.machine()


# --- as text ---------------------------------------------------------------------------------------------------
_COLUMNS = (
    ("gate", "", ""),
    ("extension", "C", "ext"),
    ("ctypes", "", ""),
    ("cffi_abi", "cffi", "ABI"),
    ("cffi_api", "cffi", "API"),
)
_RATIO_HEADS = (("gate", "/ext"), ("ctypes", "/gate"), ("cffi API", "/gate"))


def table(report: Report) -> list[str]:
    """The rows as lines of text."""
    wide = max(19, *(len(figures.entry.contest.shown) for figures in report.figures), 0)
    lines = [
        f"{report.engine} engine; ns a call, least of {report.rounds} rounds of {_CALLS:,} calls, less an empty loop",
        "",
        _line("", " " * wide, [top or name for name, top, _ in _COLUMNS], [top for top, _ in _RATIO_HEADS]),
        _line(
            "row", f"{'operands':<{wide}}", [below for _, _, below in _COLUMNS], [below for _, below in _RATIO_HEADS]
        ),
    ]
    for figures in report.figures:
        row, contest, _ = figures.entry
        unit = 1e6 if row.is_long else 1
        costs = [_figure(figures.ns[name] / unit if name in figures.ns else None, 1) for name, _, _ in _COLUMNS]
        ratios = [_figure(figures.ratio(over, under), 2) for over, under in _RATIOS]
        lines.append(_line(row.name, f"{contest.shown:<{wide}}", costs, ratios))
    lines += ["", *_remarks(report.figures)]
    for name, reason in report.skipped.items():
        lines += textwrap.wrap(f"{NAMES.get(name, name)}: left out, {reason}", 108, subsequent_indent="  ")
    return lines


def _remarks(figures: list[Figures]) -> Iterator[str]:
    """What the rows of the table do not tell."""
    names = " and ".join(one.entry.row.name for one in figures if one.entry.row.is_blocking)
    held = (
        f"release the GIL in {names} only, ctypes and cffi always" if names else "hold the GIL, ctypes and cffi do not"
    )
    yield f"gates and the C extension {held}"
    for row, calls, rounds in ((one.entry.row, one.calls, one.rounds) for one in figures):
        if row.callbacks > 1:
            yield f"{row.name}: ns a callback, {row.callbacks:,} in a call, {calls:,} calls a round"
        if row.is_long:
            yield f"{row.name}: ms of processor time, {rounds} rounds of one call, with the comparator {COMPARE}"


def _line(name: str, operands: str, costs: list[str], ratios: list[str]) -> str:
    cells = [f"{cell:>7}" for cell in costs] + [
        f"{cell:>{width}}" for cell, width in zip(ratios, (8, 8, 9), strict=True)
    ]
    return f"{name:<16}{operands}{''.join(cells)}"


def _figure(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits if value < 10 else 1 if value < 10_000 else 0}f}"


def binding_table(costs: BindingCosts) -> list[str]:
    """The costs of binding as lines of text."""

    def line(what: str, spread: Spread) -> str:
        return f"{what:<44}{spread.median_us:>10.1f} µs{spread.least_us:>10.1f} µs"

    def once(what: str, milliseconds: float) -> str:
        return f"{what:<44}{'':>13}{milliseconds:>10.2f} ms"

    return [
        heading(f"{'binding: declaration through first call':<44}{'median':>13}{'least':>13}"),
        line("annotations, new shape", costs.annotated_new),
        line("annotations, known shape", costs.annotated_known),
        line("C text, new shape", costs.text_new),
        line("C text, known shape", costs.text_known),
        line("C text with a typedef, new shape", costs.typedef_new),
        line("  of which pycparser", costs.typedef_new_pycparser),
        line("C text with a typedef, known shape", costs.typedef_known),
        line("  of which pycparser", costs.typedef_known_pycparser),
        f"{FUNCTIONS} functions each; machine code {costs.code_bytes_average:.0f} bytes a gate on average "
        f"({costs.code_bytes_least}–{costs.code_bytes_most}, {costs.shapes} shapes)",
        "",
        heading(f"{'once a process, each beyond the line above':<44}{'':>13}{'least':>13}"),
        once("import ctypes", costs.import_ctypes_ms),
        once("import callgate", costs.import_callgate_ms),
        once("the first annotated gate", costs.first_annotated_ms),
        once("the first gate from C text", costs.first_text_ms),
        once("the first gate from C text with a typedef", costs.first_typedef_ms),
        f"{PROCESSES} processes",
    ]


# --- as data and as a picture ----------------------------------------------------------------------------------
def as_json(report: Report) -> dict[str, Any]:
    """The figures as the module's docstring gives them."""
    rows = []
    for figures in report.figures:
        row, contest, result = figures.entry
        ratios = {f"{over}/{under}": figures.ratio(over, under) for over, under in _RATIOS}
        rows.append(
            {
                "row": row.name,
                "declaration": contest.declaration,
                "operands": [one.decode() if isinstance(one, bytes) else one for one in contest.operands],
                "blocking": row.is_blocking,
                "result": result.decode() if isinstance(result, bytes) else result,
                "calls": figures.calls,
                "rounds": figures.rounds,
                "callbacks": row.callbacks,
                "ns": figures.ns,
                "ratios": {name: ratio for name, ratio in ratios.items() if ratio is not None},
            }
        )
    binding = report.binding._asdict() if report.binding is not None else {}
    return {
        "callgate": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "processor": processor(),
        "engine": report.engine,
        "calls": _CALLS,
        "rounds": report.rounds,
        "rows": rows,
        "skipped": report.skipped,
        "binding": {name: value._asdict() if isinstance(value, Spread) else value for name, value in binding.items()},
    }


def plot(report: Report, path: str) -> None:
    """Draw the rows as groups of bars: ns on a logarithmic scale, and ms in a panel of their own."""
    figure_module: Any = importlib.import_module("matplotlib.figure")
    panels = [
        ("ns a call, or a callback", 1.0, [one for one in report.figures if not one.entry.row.is_long]),
        ("ms a call", 1e6, [one for one in report.figures if one.entry.row.is_long]),
    ]
    panels = [panel for panel in panels if panel[2]]
    present = [name for name in NAMES if any(name in figures.ns for figures in report.figures)]
    figure = figure_module.Figure(figsize=(3 + 1.5 * len(report.figures), 5), layout="constrained")
    widths = [len(figures) + 0.5 for _, _, figures in panels]
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0] if panels else []
    for axes, (label, unit, panel) in zip(grid, panels, strict=True):
        width = 0.8 / max(1, len(present))
        for index, name in enumerate(present):
            shown = [(group, figures.ns[name] / unit) for group, figures in enumerate(panel) if name in figures.ns]
            places = [group + (index - (len(present) - 1) / 2) * width for group, _ in shown]
            bars = axes.bar(places, [height for _, height in shown], width, label=NAMES[name])
            axes.bar_label(bars, fmt="%.0f", fontsize=7)
        axes.set_yscale("log" if unit == 1.0 else "linear")
        axes.set_ylabel(label)
        ticks = [f"{figures.entry.row.name}\n{_broken(figures.entry.contest.shown)}" for figures in panel]
        axes.set_xticks(range(len(panel)), ticks, fontsize=7)
    figure.suptitle(f"{_python()}, {processor()}", fontsize=10)
    if len(grid):
        grid[0].legend()
    try:
        figure.savefig(path)
    except ValueError as problem:  # an ending that names no picture format
        raise CommandError(f"--plot: {problem}") from None


def _broken(text: str) -> str:
    """The operands in lines that fit under a group of bars."""
    return "\n".join(textwrap.wrap(text, 18, break_long_words=False))
