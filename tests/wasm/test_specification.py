"""Every script of the specification's suites v2, tail-call and extended-const, in both modes and for old processors.

The scripts are not part of this repository: `scripts/wasm-suites` fetches them, CALLGATE_WASM_SUITES names the folder if
it is another one than .cache/wasm-suites.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from spec_runner import ENGINES, SUITES, TOTALS, assertions, matches, run_script, scripts

from callgate.wasm import instance

SCRIPTS = {f"{suite}/{path.stem}": path for suite in TOTALS for path in scripts(suite)}


if not SCRIPTS:

    def test_the_suites_are_there() -> None:
        pytest.skip(
            f"no scripts of the specification in {SUITES}: run scripts/wasm-suites (or set CALLGATE_WASM_SUITES)"
        )


@pytest.mark.parametrize("suite", [suite for suite in TOTALS if SCRIPTS])
def test_the_suite_is_whole(suite: str) -> None:
    counted = [assertions(path) for path in scripts(suite)]
    about_text = sum(count[True] for count in counted)
    assert (len(counted), sum(count[False] for count in counted) + about_text, about_text) == TOTALS[suite]


@pytest.mark.parametrize("mode", [*ENGINES, "compiled for SSE4.1"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SCRIPTS[name]
    if mode not in ENGINES:
        monkeypatch.setattr(instance, "cpu_features", lambda: frozenset({"sse4.1"}))
    outcome = run_script(path, mode.split()[0])
    counted = assertions(path)
    assert (outcome.checked, outcome.about_text) == (counted[False], counted[True])
    assert not outcome.failures, "\n".join(outcome.failures[:20])


V128 = {"type": "v128", "lane_type": "f32", "value": ["0", "nan:canonical", "nan:arithmetic", "1065353216"]}


@pytest.mark.parametrize(
    ("number", "expected", "is_right"),
    [
        (0xFFFFFFFF, {"type": "i32", "value": "4294967295"}, True),
        (0xFFFFFFFF, {"type": "i32", "value": "-1"}, True),
        (0x1_00000000, {"type": "i32", "value": "0"}, False),  # something in a word's upper half
        (0x80000000, {"type": "f32", "value": "0"}, False),
        (0x7FC00000, {"type": "f32", "value": "nan:canonical"}, True),
        (0xFFC00000, {"type": "f32", "value": "nan:canonical"}, True),
        (0x7FC00001, {"type": "f32", "value": "nan:canonical"}, False),
        (0x7FC00001, {"type": "f32", "value": "nan:arithmetic"}, True),
        (0x7FA00001, {"type": "f32", "value": "nan:arithmetic"}, False),
        (0x7FF8 << 48, {"type": "f64", "value": "nan:canonical"}, True),
        (0x7FF4 << 48, {"type": "f64", "value": "nan:arithmetic"}, False),
        (0x3F800000_FFC00001_7FC00000_00000000, V128, True),
        (0x3F800000_FFC00001_7FC00001_00000000, V128, False),
        (0x3F800001_FFC00001_7FC00000_00000000, V128, False),
        (0x3F800000_FFC00001_7FC00000_80000000, V128, False),
    ],
)
def test_results_are_compared_by_their_bits(number: int, expected: dict[str, object], is_right: bool) -> None:
    assert matches(number, expected) is is_right


def test_what_is_wrong_is_reported(tmp_path: Path) -> None:
    i32 = [{"type": "i32", "value": "1"}]
    call = {"type": "invoke", "field": "none", "args": []}
    (tmp_path / "0.wasm").write_bytes(b"\0asm\1\0\0\0")
    (tmp_path / "1.wasm").write_bytes(b"\0asm\1\0\0")
    commands = [
        {"type": "module", "line": 1, "filename": "0.wasm"},
        {"type": "assert_malformed", "line": 2, "filename": "0.wasm", "text": "length", "module_type": "binary"},
        {"type": "assert_malformed", "line": 3, "filename": "1.wasm", "text": "length", "module_type": "binary"},
        {"type": "assert_malformed", "line": 4, "filename": "2.wat", "text": "length", "module_type": "text"},
        {"type": "assert_return", "line": 5, "action": call, "expected": i32},
        {"type": "assert_invalid", "line": 6, "filename": "1.wasm", "text": "", "module_type": "binary"},
    ]
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"commands": commands}))
    outcome = run_script(script, None)
    assert outcome[:2] == (4, 1)
    assert [line.partition(":")[2].partition(":")[0] for line in outcome.failures] == ["2", "5", "6"]
