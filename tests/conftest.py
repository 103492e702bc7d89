"""What several suites need: both engines, and C libraries built by the compiler at hand.

CALLGATE_CC names another compiler, as a command line: what an interpreter for another processor calls is not built by
the gcc of this one.
"""

from __future__ import annotations

import gc
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from callgate.errors import EngineError
from callgate.runtime.engine import native_engine

os.environ["CALLGATE_CACHE"] = ""  # tests neither read nor write the user's compiled modules


@pytest.fixture(params=("native", "ctypes"))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine: each test runs on both."""
    if request.param == "native":
        try:
            native_engine()
        except EngineError as reason:
            pytest.skip(f"no native engine: {reason}")
    return str(request.param)


@pytest.fixture(scope="module")
def few_to_collect() -> Iterator[None]:
    """Collections look at what a module's tests make, not at all the tests there are: some ten times faster."""
    gc.collect()
    if not hasattr(gc, "freeze"):  # as in PyPy
        yield
        return
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def build_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a shared library from a C file (`Path`) or C text (`str`); a source is compiled once a session."""
    candidates = [shlex.split(os.environ["CALLGATE_CC"])] if "CALLGATE_CC" in os.environ else [["gcc"], ["cc"]]
    compiler = next((command for command in candidates if shutil.which(command[0])), None)
    folder = tmp_path_factory.mktemp("libraries")
    built: dict[tuple[Path | str, tuple[str, ...]], Path] = {}

    def build(source: Path | str, options: Sequence[str] = ("-O2",)) -> Path:
        if compiler is None:
            names = " nor ".join(command[0] for command in candidates)
            pytest.skip(f"no C compiler: {names} is not on the PATH")
        key = (source, tuple(options))
        if key not in built:
            file = source
            if isinstance(source, str):
                file = folder / f"source{len(built)}.c"
                file.write_text(source)
            library = folder / f"lib{len(built)}.so"
            command = [*compiler, *options, "-shared", "-fPIC", "-w", "-o", str(library), str(file), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            built[key] = library
        return built[key]

    return build
