"""Programs compiled from C give the results that they give natively.

Zig builds them (`.cache/zig`, see .ci/run); those made of a library only where `scripts/wasm-modules` has built them,
as continuous integration does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "wasm"))
from modules import FOLDER, PROGRAMS, Program, Unavailable, wasm_module

from callgate import i64, wasm
from callgate.errors import EngineError

MODES: dict[str, dict[str, Any]] = {
    "compiled": {"engine": "compiled"},
    "guarded": {"engine": "compiled", "bounds": "guarded"},
    "portable": {"engine": "portable"},
}


def load(program: Program, mode: str, **options: Any) -> wasm.Instance[Any]:
    """The program in a mode; skips where one of them cannot be had."""
    if program.library and not (FOLDER / f"{program.name}.wasm").exists():
        pytest.skip(f"{program.name} is not built: scripts/wasm-modules {program.name}")
    try:
        path = wasm_module(program)
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        return wasm.load(path, **MODES[mode], **options)
    except EngineError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", [program for program in PROGRAMS if program.is_measured], ids=lambda one: one.name)
def test_the_small_run(program: Program, mode: str) -> None:
    with load(program, mode) as instance:
        assert instance.exports.run(program.small) == program.small_result
        assert instance.exports.run(program.small) == program.small_result


@pytest.mark.parametrize("name", ["fib", "nbody", "matmul", "mandelbrot"])
def test_the_whole_run_compiled(name: str) -> None:
    (program,) = (program for program in PROGRAMS if program.name == name)
    with load(program, "compiled") as instance:
        assert instance.exports.run(program.size) == program.result


@pytest.mark.parametrize("mode", MODES)
def test_host_calls(mode: str) -> None:
    (program,) = (program for program in PROGRAMS if program.name == "calls")

    @wasm.host("env", "host")
    def host(x: i64, /) -> i64:
        return x + 1

    with load(program, mode, imports=[host]) as instance:
        assert instance.exports.run(1000) == 1000
        assert instance.exports.add(1 << 40, -1) == (1 << 40) - 1
        assert instance.exports.empty() is None
