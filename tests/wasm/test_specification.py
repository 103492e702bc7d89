"""Every script of the specification's suites v2, tail-call and extended-const, in both modes.

The scripts are not part of this repository: `scripts/wasm-suites` fetches them, CALLGATE_WASM_SUITES names the folder if
it is another one than .cache/wasm-suites.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from spec_runner import ENGINES, SUITES, TOTALS, assertions, run_script, scripts

SCRIPTS = {f"{suite}/{path.stem}": path for suite in TOTALS for path in scripts(suite)}


@pytest.mark.skipif(bool(SCRIPTS), reason="the suites are there")
def test_the_suites_are_there() -> None:
    pytest.skip(f"no scripts of the specification in {SUITES}: run scripts/wasm-suites (or set CALLGATE_WASM_SUITES)")


@pytest.mark.parametrize("suite", [suite for suite in TOTALS if SCRIPTS])
def test_the_suite_is_whole(suite: str) -> None:
    counted = [assertions(path) for path in scripts(suite)]
    about_text = sum(count[True] for count in counted)
    assert (len(counted), sum(count[False] for count in counted) + about_text, about_text) == TOTALS[suite]


@pytest.mark.parametrize("mode", ENGINES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, mode: str) -> None:
    path = SCRIPTS[name]
    outcome = run_script(path, mode)
    counted = assertions(path)
    assert (outcome.checked, outcome.about_text) == (counted[False], counted[True])
    assert not outcome.failures, "\n".join(outcome.failures[:20])
