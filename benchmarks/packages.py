"""Published packages made faster by `callgate run --accelerate`, unchanged: their own tests, and what calls cost.

    python benchmarks/packages.py [NAME ...] [--no-tests] [--no-times] [--rounds N]

Makes a virtual environment for each package under .cache/packages, installs the package there (and its source
distribution where the wheel has no tests), runs the package's own tests without and with acceleration, then times some
operations: two processes, one plain and one accelerated, take turns; the least of many rounds counts.  Prints Markdown.

The same file is what runs inside those environments as the timed process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cache" / "packages"

Operations = dict[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Package:
    """A package: what to install, where its tests are, and what to time."""

    name: str
    requirements: tuple[str, ...]
    """The package first, pinned."""
    operations: Callable[[], Operations]
    """Run in the package's environment: operations by name."""
    tests: tuple[str, ...] = ()
    """Arguments of pytest; {source} is the unpacked source distribution, {work} an empty folder to run in."""
    needs_source: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    needs_display: bool = False
    dump: Callable[[], str] | None = None
    """Where no tests are published: what the package computes, to be the same with acceleration."""


# -- what is timed ---------------------------------------------------------------------------------------------------


def _clang() -> Operations:
    from clang import cindex

    program = (
        "struct point { double x, y; }; double dot(struct point a, struct point b) { return a.x * b.x + a.y * b.y; }"
    )
    unit = cindex.Index.create().parse("program.c", unsaved_files=[("program.c", program * 1)])
    cursor = next(child for child in unit.cursor.get_children() if child.spelling == "dot")
    other = next(unit.cursor.get_children())

    def walk() -> None:
        for node in unit.cursor.walk_preorder():
            _ = node.kind, node.spelling, node.type.spelling, node.location.line

    return {
        "`cursor.spelling` (first use)": lambda: cindex.conf.lib.clang_getCursorSpelling(cursor),
        "`cursor == other`": lambda: cursor == other,
        "`cursor.is_definition()`": cursor.is_definition,
        "walk of a syntax tree": walk,
    }


def _clang_dump() -> str:
    """All that a syntax tree of some headers tells, a line a node."""
    from clang import cindex

    program = "#include <stdio.h>\n#include <stdlib.h>\n#include <math.h>\nint main(void) { return (int)cos(1.5); }\n"
    arguments = [f"-I{folder}" for folder in Path("/usr/lib/gcc").glob("*/*/include")]
    unit = cindex.Index.create().parse("program.c", args=arguments, unsaved_files=[("program.c", program)])
    lines = []
    for node in unit.cursor.walk_preorder():
        place, extent, kind = node.location, node.extent, node.type
        taken = [argument.spelling for argument in node.get_arguments() or ()]
        told = (node.kind, node.spelling, node.displayname, node.get_usr(), node.linkage, taken)
        typed = (kind.kind, kind.spelling, kind.get_canonical().spelling, kind.get_size(), node.result_type.spelling)
        lines.append(f"{told} {typed} {place.line}:{place.column} {extent.start.offset} {node.is_definition()}")
    lines += [
        f"{token.kind} {token.spelling} {token.cursor.kind}" for token in unit.get_tokens(extent=unit.cursor.extent)
    ]
    lines += [str(problem) for problem in unit.diagnostics] + [str(one.include) for one in unit.get_includes()]
    return "\n".join(lines)


def _llvmlite() -> Operations:
    import llvmlite.binding as llvm

    text = "define i32 @add(i32 %a, i32 %b) {\nentry:\n  %sum = add i32 %a, %b\n  ret i32 %sum\n}\n"
    module = llvm.parse_assembly(text)
    function = module.get_function("add")
    entry = next(iter(function.blocks))

    return {
        "`function.name`": lambda: function.name,
        "`function.type`": lambda: function.type,
        "`module.get_function(name)`": lambda: module.get_function("add"),
        "list of a block's instructions": lambda: list(entry.instructions),
    }


def _pysdl2() -> Operations:
    import sdl2

    sdl2.SDL_Init(sdl2.SDL_INIT_VIDEO)
    surface = sdl2.SDL_CreateRGBSurface(0, 64, 64, 32, 0, 0, 0, 0)
    one, two = sdl2.SDL_Rect(1, 1, 2, 2), sdl2.SDL_Rect(2, 2, 2, 2)
    event = sdl2.SDL_Event()
    renderer = sdl2.SDL_CreateSoftwareRenderer(surface)

    return {
        "`SDL_GetTicks()`": sdl2.SDL_GetTicks,
        "`SDL_FillRect(surface, rect, color)`": lambda: sdl2.SDL_FillRect(surface, one, 0xFF00FF),
        "`SDL_HasIntersection(rect, rect)`": lambda: sdl2.SDL_HasIntersection(one, two),
        "`SDL_PollEvent(event)`": lambda: sdl2.SDL_PollEvent(event),
        "`SDL_SetRenderDrawColor(r, 1, 2, 3, 255)`": lambda: sdl2.SDL_SetRenderDrawColor(renderer, 1, 2, 3, 255),
    }


def _wasmtime() -> Operations:
    import wasmtime

    text = """(module (memory (export "memory") 1) (global (export "g") i32 (i32.const 42))
        (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, text), [])
    exports: Any = instance.exports(store)
    add, memory, global_ = exports["add"], exports["memory"], exports["g"]

    return {
        "`memory.size(store)`": lambda: memory.size(store),
        "`global.value(store)`": lambda: global_.value(store),
        "`add(store, 1, 2)`": lambda: add(store, 1, 2),
        "`ValType.i32()`": wasmtime.ValType.i32,
    }


def _pyopengl() -> Operations:
    import pygame

    pygame.display.init()
    pygame.display.set_mode((64, 64), pygame.OPENGL | pygame.DOUBLEBUF)
    from OpenGL import GL

    return {
        "`glGetError()`": lambda: GL.glGetError(),
        "`glColor3f(1, 0.5, 0)`": lambda: GL.glColor3f(1, 0.5, 0),
        "`glTranslatef(0, 0, 0)`": lambda: GL.glTranslatef(0, 0, 0),
        "`glIsEnabled(GL_BLEND)`": lambda: GL.glIsEnabled(GL.GL_BLEND),
    }


def _pyglet() -> Operations:
    import pyglet

    window = pyglet.window.Window(64, 64)
    from pyglet import gl

    color = (gl.GLfloat * 4)(0, 0, 0, 1)
    return {
        "`glGetError()`": lambda: gl.glGetError(),
        "`glClearColor(0, 0, 0, 1)`": lambda: gl.glClearColor(0, 0, 0, 1),
        "`glClearBufferfv(GL_COLOR, 0, color)`": lambda: gl.glClearBufferfv(gl.GL_COLOR, 0, color),
        "`glIsEnabled(GL_BLEND)`": lambda: gl.glIsEnabled(gl.GL_BLEND),
        "`window.dispatch_events()`": window.dispatch_events,
    }


_PYTEST = ("pytest==9.0.1",)
PACKAGES = (
    Package(
        "clang.cindex",
        ("libclang==18.1.1", *_PYTEST),
        _clang,
        dump=_clang_dump,
    ),
    Package(
        "llvmlite",
        ("llvmlite==0.50.0", *_PYTEST),
        _llvmlite,
        ("--pyargs", "llvmlite.tests"),
    ),
    Package(
        "PySDL2",
        ("pysdl2==0.9.17", "numpy", "pillow", *_PYTEST),
        _pysdl2,
        ("--import-mode=importlib", "{source}/sdl2/test"),
        needs_source=True,
        environment={"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "SDL_RENDER_DRIVER": "software"},
    ),
    Package(
        "wasmtime",
        ("wasmtime==50.0.1", *_PYTEST),
        _wasmtime,
        ("-o", "addopts=", "{source}/tests"),
        needs_source=True,
    ),
    Package(
        "PyOpenGL",
        ("pyopengl==3.1.10", "numpy", "pygame", "psutil", *_PYTEST),
        _pyopengl,
        ("{source}/tests",),
        needs_source=True,
        needs_display=True,
        environment={"SDL_AUDIODRIVER": "dummy"},
    ),
    Package(
        "pyglet",
        ("pyglet==2.1.19", "pillow", *_PYTEST),
        _pyglet,
        ("{source}/tests/unit",),
        needs_source=True,
        needs_display=True,
    ),
)


# -- inside a package's environment ----------------------------------------------------------------------------------


def _serve(package: Package) -> None:
    """Time the operations once for every line of stdin; a line of JSON with ns for each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer
    dump = package.dump() if package.dump else ""
    operations = package.operations()
    for operation in operations.values():
        operation()
    time.sleep(0.3)  # `callgate run` makes functions fast when no more are looked up
    counts = {name: _count(operation) for name, operation in operations.items()}
    print(json.dumps(dump), file=out, flush=True)
    for _ in sys.stdin:
        times = {name: _ns(operation, counts[name]) for name, operation in operations.items()}
        print(json.dumps(times), file=out, flush=True)


def _ns(operation: Callable[[], object], count: int) -> float:
    begun = time.perf_counter_ns()
    for _ in range(count):
        operation()
    return (time.perf_counter_ns() - begun) / count


def _count(operation: Callable[[], object]) -> int:
    """How many calls take some 2 ms."""
    _ns(operation, 10)
    return max(5, round(2e6 / _ns(operation, 20)))


# -- outside ---------------------------------------------------------------------------------------------------------


def _package(name: str) -> Package:
    return next(package for package in PACKAGES if package.name.lower() == name.lower())


def _run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], check=True, text=True, **options)


def _prepared(package: Package) -> Path:
    """The package's environment, made when it is missing; its interpreter."""
    folder = FOLDER / f"{package.name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "venv" / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing {package.name} ...", file=sys.stderr)
        base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        _run(base, "-m", "venv", folder / "venv")
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(*pip, "install", "-e", ROOT, *package.requirements)
        if package.needs_source:
            _run(*pip, "download", "--no-binary", ":all:", "--no-deps", "-d", folder, package.requirements[0])
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder / "unpacked", filter="data")
        (folder / "ready").touch()
    return python


@contextmanager
def _display() -> Iterator[None]:
    """A virtual screen, where there is none."""
    if os.environ.get("DISPLAY"):
        yield
        return
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "+extension", "GLX"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(write)
        with os.fdopen(read) as told:
            os.environ["DISPLAY"] = f":{int(told.readline())}"
        yield
    finally:
        os.environ.pop("DISPLAY", None)
        server.terminate()
        server.wait()


def _environment(package: Package) -> dict[str, str]:
    return {**os.environ, **package.environment}


def _tested(package: Package, python: Path, is_accelerated: bool) -> dict[str, str]:
    """Run the package's own tests; the outcome of each by name."""
    folder = python.parents[2]
    work = folder / "work"
    work.mkdir(exist_ok=True)
    results = folder / f"results-{'accelerated' if is_accelerated else 'plain'}.xml"
    results.unlink(missing_ok=True)
    source = next((folder / "unpacked").iterdir()) if package.needs_source else folder
    if package.needs_source:  # away from the package's source, which would hide the installed one
        for name in ("tests", "wasmtime"):
            if (source / name).exists() and not (work / name).exists():
                (work / name).symlink_to(source / name) if name == "tests" else (work / name).mkdir()
    arguments = [argument.format(source=source, work=work) for argument in package.tests]
    run = ("-m", "callgate", "run", "--accelerate", "--report") if is_accelerated else ()
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={results}")
    with (folder / f"{results.stem}.log").open("w") as log:
        subprocess.run(
            [str(python), "-X", "faulthandler", *run, "-m", "pytest", *options, *arguments],
            cwd=work,
            env=_environment(package),
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=900,
            check=False,
        )
    if not results.exists():
        return {}
    outcomes = {}
    for case in ElementTree.parse(results).iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return outcomes


def _counted(outcomes: dict[str, str]) -> str:
    if not outcomes:
        return "crashed"
    counts = Counter(outcomes.values())
    return ", ".join(f"{counts[what]} {word}" for what, word in _WORDS if counts[what])


_WORDS = (("passed", "passed"), ("failure", "failed"), ("error", "errors"), ("skipped", "skipped"))


def _timed(package: Package, python: Path, rounds: int) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    """What acceleration reported, and the least ns of each operation, plain and accelerated."""
    run = ("-m", "callgate", "run", "--accelerate", "--report")
    log = (python.parents[2] / "times.log").open("w+")
    children = []
    for options in ((), run):
        command = [str(python), "-X", "faulthandler", *options, __file__, "--serve", package.name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        children.append(subprocess.Popen(command, text=True, env=_environment(package), **pipes))  # type: ignore[call-overload]
    least: list[dict[str, float]] = [{}, {}]
    plain, accelerated = (_answer(child).splitlines() for child in children)
    for _ in range(rounds):
        for child, found in zip(children, least, strict=True):
            child.stdin.write("\n")
            child.stdin.flush()
            for name, ns in _answer(child).items():
                found[name] = min(ns, found.get(name, ns))
    for child in children:
        child.stdin.close()
        child.wait()
    log.seek(0)
    told = log.read()
    fast, left = (int(number) for number in re.findall(r"^callgate: (\d+) .* (\d+) left$", told, re.MULTILINE)[0])
    reasons = re.findall(r"^  (\d+ left: .*)$", told, re.MULTILINE)
    differing = sum(one != other for one, other in zip_longest(plain, accelerated))
    report = {"fast": fast, "left": left, "reasons": reasons, "dumped": len(plain), "differing": differing}
    return report, {name: (ns, least[1][name]) for name, ns in least[0].items()}


def _answer(child: subprocess.Popen[str]) -> Any:
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise RuntimeError(f"the process ended with {child.wait()}: {child.args}")
    return json.loads(line)


def main() -> None:
    """Install, test and time the packages named, or all; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(package.name for package in PACKAGES))
    parser.add_argument("--no-tests", action="store_true", help="leave the packages' own tests out")
    parser.add_argument("--no-times", action="store_true", help="leave the timing out")
    parser.add_argument("--plain", action="store_true", help="only run the tests, without acceleration")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(_package(given.serve))
        return
    summary = ["| package | fast | left | own tests, plain | own tests, accelerated | outcomes that differ |"]
    summary.append("|---|---|---|---|---|---|")
    costs = ["| package | operation | plain, ns | accelerated, ns | ratio |", "|---|---|---|---|---|"]
    reasons = []
    for package in [_package(name) for name in given.names] or PACKAGES:
        python = _prepared(package)
        with _display():
            row = _measured(package, python, given, costs, reasons)
        summary.append(f"| {package.requirements[0].replace('==', ' ')} | {' | '.join(row)} |")
    print("\n".join(summary), "\n".join(costs), "\n".join(reasons), sep="\n\n")


def _measured(
    package: Package, python: Path, given: argparse.Namespace, costs: list[str], reasons: list[str]
) -> list[str]:
    """One package's row of the summary; its costs and the reasons of what was left are appended."""
    row = ["", "", "not published", "", ""]
    if package.tests and not given.no_tests:
        plain = _tested(package, python, False)
        row[2] = _counted(plain)
        if not given.plain:
            accelerated = _tested(package, python, True)
            differing = [name for name in plain if plain[name] != accelerated.get(name)]
            row[3:] = _counted(accelerated), str(len(differing))
            for name in differing[:20]:
                print(f"{package.name}: {name}: {plain[name]}, now {accelerated.get(name)}", file=sys.stderr)
    if not given.no_times and not given.plain:
        report, times = _timed(package, python, given.rounds)
        if package.dump:
            row[2:] = [f"a dump of {report['dumped']} lines"] * 2 + [str(report["differing"])]
        row[0], row[1] = str(report["fast"]), str(report["left"])
        reasons += [f"- {package.name}: {reason}" for reason in report["reasons"][:5]]
        for name, (before, after) in times.items():
            costs.append(f"| {package.name} | {name} | {before:,.0f} | {after:,.0f} | {before / after:.1f} |")
    return row


if __name__ == "__main__":
    main()
