"""CALLGATE_ENGINE=ctypes where ctypes serves already: everything stays as it is, and the reason is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from children import run_child
from here import C_LIBRARY

from callgate.errors import EngineError
from callgate.runtime.engine import native_engine

try:
    native_engine()
    HAS_NATIVE = True
except EngineError:
    HAS_NATIVE = False

DECLARED = f"""
    import ctypes
    library = ctypes.CDLL({C_LIBRARY!r})
    library.abs.argtypes, library.abs.restype = [ctypes.c_int], ctypes.c_int
    library.labs.restype = ctypes.c_long
    functions = before = [library.abs, library.labs]
"""


def test_accelerate() -> None:
    out, _ = run_child(
        DECLARED
        + """
    import callgate as cg
    from callgate.runtime import engine
    report = cg.accelerate(library)
    assert report.fast == () and [*report.left] == ["abs", "labs"]
    assert report.left["labs"].startswith("argtypes is not set")
    assert [library.abs, library.labs] == before and type(library.abs) is library._FuncPtr
    library.abs.argtypes = [ctypes.c_long]  # a gate would not have it
    assert library.abs(-3) == 3
    assert not engine._made
    report.undo()
    print(report.left["abs"])
    """,
        CALLGATE_ENGINE="ctypes",
    )
    assert out == "CALLGATE_ENGINE=ctypes asks for ctypes\n"


@pytest.mark.skipif(not HAS_NATIVE, reason="no machine code can be made here")
@pytest.mark.parametrize("wanted", ["", "native"])
def test_accelerate_otherwise(wanted: str) -> None:
    out, _ = run_child(
        DECLARED + "\n    import callgate as cg\n    print(cg.accelerate(library).fast)", CALLGATE_ENGINE=wanted
    )
    assert out == "('abs',)\n"


def test_accelerate_with_an_unknown_engine() -> None:
    out, _ = run_child(
        DECLARED + "\n    import callgate as cg\n    print(cg.accelerate(library).left['abs'])", CALLGATE_ENGINE="turbo"
    )
    assert out == "CALLGATE_ENGINE=turbo: no such engine; choose native or ctypes\n"


PROGRAM = f"""
import builtins, ctypes, json, sys
importing, looking_up = builtins.__import__, ctypes.CDLL.__getitem__
library = ctypes.CDLL({C_LIBRARY!r})
library.abs.argtypes, library.abs.restype = [ctypes.c_int], ctypes.c_int
import colorsys  # functions that are declared become gates when an import ends
print(json.dumps([type(library.abs).__name__, library.abs(-3), importing.__module__, looking_up.__module__]))
"""


def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str) -> tuple[list[object], str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setenv("CALLGATE_ENGINE", wanted)
    done = subprocess.run(
        [sys.executable, "-m", "callgate", "run", "--accelerate", "--report", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[object] = json.loads(done.stdout)
    return said, done.stderr


def test_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, report = run_program(tmp_path, monkeypatch, "ctypes")
    assert said == ["_FuncPtr", 3, "builtins", "ctypes"]
    assert report == "callgate: nothing made fast, since CALLGATE_ENGINE=ctypes asks for ctypes\n"


@pytest.mark.skipif(not HAS_NATIVE, reason="no machine code can be made here")
def test_run_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, report = run_program(tmp_path, monkeypatch, "")
    assert said == ["builtin_function_or_method", 3, "callgate.cli.run", "callgate.cli.run"]
    assert report.startswith("callgate: 1 functions made fast")
