"""What the suites of the interface share: each test runs in both modes, where there are both."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import assemble

from callgate import wasm
from callgate.errors import EngineError

if sys.implementation.name == "pypy":  # its JIT compiler (7.3.19) now and then aborts the process at the validator
    importlib.import_module("pypyjit").set_param("off")


@pytest.fixture(params=("compiled", "portable"))
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a mode, which `assemble.load` and `assemble.build` take; skipped where there is none such."""
    try:
        wasm.Module(b"\0asm\1\0\0\0", engine=request.param, cache=False)
    except EngineError as reason:
        pytest.skip(f"no compiled mode here: {reason}")
    monkeypatch.setattr(assemble, "MODE", request.param)
    return str(request.param)
