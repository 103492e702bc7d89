"""What it costs before the first call: importing, declaring and binding, and the machine code that it makes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

import callgate
from callgate.cli.contenders import Unavailable, compile_shared
from callgate.cli.terminal import CommandError, Progress
from callgate.cli.timing import without_gc
from callgate.library import gate, load

PROCESSES = 10
FUNCTIONS = 100

_C_NAMES = {
    **{f"i{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}_t" for bits in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
}
_KNOWN = ("i64", "i64", "i64")

_IMPORTS = """
from time import perf_counter_ns as clock
a = clock()
import ctypes
b = clock()
import callgate
c = clock()
libm = callgate.load("m")
@libm.function
def cos(x: callgate.f64) -> callgate.f64: ...
cos(0.0)
d = clock()
callgate.load("m", "float cosf(float x);").cosf(0.0)
e = clock()
callgate.load("m", "typedef float real; real sinf(real x);").sinf(0.0)
f = clock()
print(b - a, c - b, d - c, e - d, f - e)
"""


class Spread(NamedTuple):
    """Microseconds a function, over many functions."""

    median_us: float
    least_us: float


class BindingCosts(NamedTuple):
    """The costs of binding.

    Milliseconds are the least of PROCESSES fresh processes, each beyond what stands before it: `import ctypes`,
    `import callgate`, the first annotated gate, which imports what binds, the first from C text that is a plain
    prototype, and the first from C text with a typedef, which imports pycparser.

    Each Spread is over FUNCTIONS functions, from declaration through first call: `annotated` by the decorator, `text`
    by a plain prototype, `typedef` by a typedef and a prototype; for a `new` shape, whose machine code is made, and
    for a `known` one; `pycparser` is the part of the figure before it that pycparser takes.  Bytes are those of the
    machine code of the new shapes of the annotated functions.
    """

    import_ctypes_ms: float
    import_callgate_ms: float
    first_annotated_ms: float
    first_text_ms: float
    first_typedef_ms: float
    annotated_new: Spread
    annotated_known: Spread
    text_new: Spread
    text_known: Spread
    typedef_new: Spread
    typedef_new_pycparser: Spread
    typedef_known: Spread
    typedef_known_pycparser: Spread
    shapes: int
    code_bytes_average: float
    code_bytes_least: int
    code_bytes_most: int


class _Function(NamedTuple):
    """A function to bind: its symbol, and its types with the result first, by their short names."""

    symbol: str
    types: tuple[str, ...]

    @property
    def declaration(self) -> str:
        result, *parameters = (_C_NAMES[name] for name in self.types)
        return f"{result} {self.symbol}({', '.join(f'{ctype} a{number}' for number, ctype in enumerate(parameters))})"

    @property
    def arguments(self) -> tuple[float, ...]:
        return tuple(1.5 if name.startswith("f") else 1 for name in self.types[1:])

    @property
    def annotated_source(self) -> str:
        result, *parameters = self.types
        formals = ", ".join(f"a{number}: {name}" for number, name in enumerate(parameters))
        arguments = ", ".join(map(repr, self.arguments))
        return f"@library.function\ndef {self.symbol}({formals}) -> {result}: ...\n{self.symbol}({arguments})\n"


def measure_binding(folder: Path, progress: Progress) -> BindingCosts:
    """Take the costs; where there is a compiler, from functions compiled into `folder`.

    Without one, libc's `labs` is declared with every signature: it reads one integer register and touches no memory.
    """
    progress.say("measuring imports")
    import_ctypes_ms, import_callgate_ms, first_annotated_ms, first_text_ms, first_typedef_ms = _imports_ms()
    progress.say("measuring declarations")
    signatures = _signatures(3 * FUNCTIONS)
    try:
        path = folder / "libcallgate_bench_shapes.so"
        symbols = [f"new{number}" for number in range(3 * FUNCTIONS)], [f"known{number}" for number in range(FUNCTIONS)]
        _compile_functions([*map(_Function, symbols[0], signatures), *(_Function(s, _KNOWN) for s in symbols[1])], path)
        library_name = str(path)
    except Unavailable:
        labs = gate(load("c", "long labs(long n);").labs)
        symbols = ["labs"] * 3 * FUNCTIONS, ["labs"] * FUNCTIONS
        library_name = labs.library.path  # type: ignore[attr-defined]
    new = list(map(_Function, symbols[0], signatures))
    known = [_Function(symbol, _KNOWN) for symbol in symbols[1]]

    kept: list[object] = []  # a shape is known while a gate of it lives
    with without_gc():
        annotated = _annotated_binder(library_name, kept)
        annotated(known[0])  # imports what binding imports, and makes the known shape
        annotated_known = _spread([annotated(one) for one in known])
        before = len(kept)
        annotated_new = _spread([annotated(one) for one in new[:FUNCTIONS]])
        made = [gate(one) for one in kept[before:]]  # type: ignore[arg-type]
        with _TimedParser() as parser:
            text, typedef = _text_binder(library_name, kept), _text_binder(library_name, kept, "typedef int number; ")
            text(known[0])
            typedef(known[0])
            text_known, _ = _text_spreads(text, known, parser)
            text_new, _ = _text_spreads(text, new[FUNCTIONS : 2 * FUNCTIONS], parser)
            typedef_known, typedef_known_pycparser = _text_spreads(typedef, known, parser)
            typedef_new, typedef_new_pycparser = _text_spreads(typedef, new[2 * FUNCTIONS :], parser)
    progress.clear()
    code_bytes = [record.code_bytes for record in made]
    return BindingCosts(
        import_ctypes_ms=import_ctypes_ms,
        import_callgate_ms=import_callgate_ms,
        first_annotated_ms=first_annotated_ms,
        first_text_ms=first_text_ms,
        first_typedef_ms=first_typedef_ms,
        annotated_new=annotated_new,
        annotated_known=annotated_known,
        text_new=text_new,
        text_known=text_known,
        typedef_new=typedef_new,
        typedef_new_pycparser=typedef_new_pycparser,
        typedef_known=typedef_known,
        typedef_known_pycparser=typedef_known_pycparser,
        shapes=len({record.code_address for record in made}),
        code_bytes_average=sum(code_bytes) / len(code_bytes),
        code_bytes_least=min(code_bytes),
        code_bytes_most=max(code_bytes),
    )


def _imports_ms() -> list[float]:
    environment = dict(os.environ)
    parent = str(Path(callgate.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (parent, environment.get("PYTHONPATH"))))
    command = [sys.executable, "-c", _IMPORTS]
    taken = []
    for _ in range(PROCESSES):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(f"a fresh process failed: {(done.stderr.splitlines() or ['no output'])[-1]}")
        taken.append([int(figure) / 1e6 for figure in done.stdout.split()])
    return [min(figures) for figures in zip(*taken, strict=True)]


def _signatures(count: int) -> list[tuple[str, ...]]:
    """Different signatures of one to four parameters, the same ones in every run."""
    draw = random.Random(1)
    seen: dict[tuple[str, ...], None] = {}
    while len(seen) < count:
        types = tuple(draw.choices(list(_C_NAMES), k=draw.randint(2, 5)))
        if types != _KNOWN:
            seen[types] = None
    return list(seen)


def _compile_functions(functions: list[_Function], to: Path) -> None:
    source = to.with_suffix(".c")
    bodies = "".join(f"{function.declaration} {{ return 1; }}\n" for function in functions)
    source.write_text(f"#include <stdint.h>\n{bodies}", encoding="utf-8")
    compile_shared([source], to)


def _annotated_binder(library_name: str, kept: list[object]) -> Callable[[_Function], int]:
    """What binds a function by its decorator and calls it, and returns the nanoseconds."""
    library = load(library_name)
    scope: dict[str, Any] = {name: getattr(callgate, name) for name in _C_NAMES}
    scope["library"] = library

    def bind(one: _Function) -> int:
        code = compile(one.annotated_source, "<declaration>", "exec", dont_inherit=True)
        start = perf_counter_ns()
        exec(code, scope)
        spent = perf_counter_ns() - start
        kept.append(scope[one.symbol])
        return spent

    return bind


def _text_binder(library_name: str, kept: list[object], before: str = "") -> Callable[[_Function], int]:
    """What binds a function by C text, `before` and its prototype, and calls it, and returns the nanoseconds."""

    def bind(one: _Function) -> int:
        text, symbol, arguments = f"{before}{one.declaration};", one.symbol, one.arguments
        start = perf_counter_ns()
        made = getattr(load(library_name, text), symbol)
        made(*arguments)
        spent = perf_counter_ns() - start
        kept.append(made)
        return spent

    return bind


def _text_spreads(
    bind: Callable[[_Function], int], functions: list[_Function], parser: _TimedParser
) -> tuple[Spread, Spread]:
    whole, parsing = [], []
    for one in functions:
        parser.spent_ns = 0
        whole.append(bind(one))
        parsing.append(parser.spent_ns)
    return _spread(whole), _spread(parsing)


def _spread(nanoseconds: list[int]) -> Spread:
    return Spread(median(nanoseconds) / 1000, min(nanoseconds) / 1000)


class _TimedParser:
    """While entered, the time that pycparser takes is added to `spent_ns`."""

    def __init__(self) -> None:
        self.spent_ns = 0

    def __enter__(self) -> _TimedParser:
        self._module = import_module("pycparser.c_parser")
        self._original = original = self._module.CParser
        outer = self

        class Timed:
            def parse(self, text: str) -> object:
                start = perf_counter_ns()
                try:
                    return original().parse(text)
                finally:
                    outer.spent_ns += perf_counter_ns() - start

        self._module.CParser = Timed  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        self._module.CParser = self._original  # type: ignore[attr-defined]
