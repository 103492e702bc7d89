"""Random valid modules give the same results, memories, globals and traps in every mode, and in wasmtime if it is there.

CALLGATE_WASM_SEEDS=FIRST:COUNT chooses the modules; `python tests/wasm/outcomes.py` runs for longer.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from outcomes import ENGINES, callgate_outcome, difference, wasmtime_outcome
from random_modules import random_calls, random_module
from random_stacks import STACK_CALLS, random_stack_module

from callgate.errors import EngineError
from callgate.wasm.binary import decode
from callgate.wasm.validate import check_body, check_module

FIRST, COUNT = map(int, os.environ.get("CALLGATE_WASM_SEEDS", "0:25").split(":"))
SEEDS = range(FIRST, FIRST + COUNT)


def test_a_seed_always_makes_the_same_module() -> None:
    assert random_module(FIRST) == random_module(FIRST)
    assert random_module(FIRST) != random_module(FIRST + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_module_is_valid(seed: int) -> None:
    module = decode(random_module(seed))
    context = check_module(module)
    for number in range(len(module.bodies)):
        check_body(context, number)


@pytest.mark.parametrize("other", [name for name in ENGINES if name not in ("portable", "wasmtime")])
@pytest.mark.parametrize("seed", SEEDS)
def test_compiled_and_portable_agree(seed: int, other: str) -> None:
    data = random_module(seed)
    calls = random_calls(seed, data)
    try:
        found = ENGINES[other](data, calls)
    except EngineError as reason:
        pytest.skip(f"no compiled mode: {reason}")
    assert difference(callgate_outcome(data, calls, engine="portable"), found) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_wasmtime_agrees(seed: int) -> None:
    pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    data = random_module(seed)
    calls = random_calls(seed, data)
    assert difference(wasmtime_outcome(data, calls), callgate_outcome(data, calls)) is None


@pytest.mark.parametrize("seed", SEEDS[: COUNT // 2])  # they are larger
def test_stacks_agree(seed: int) -> None:
    """Modules that keep every register in use, in every mode, and in wasmtime if it is there."""
    data = random_stack_module(seed)
    check_module(decode(data))
    expected = callgate_outcome(data, STACK_CALLS, engine="portable")
    for name, run in ENGINES.items():
        if name == "portable" or (name == "wasmtime" and find_spec("wasmtime") is None):
            continue
        try:
            found = run(data, STACK_CALLS)
        except EngineError as reason:
            pytest.skip(f"no compiled mode: {reason}")
        assert difference(expected, found) is None, name
