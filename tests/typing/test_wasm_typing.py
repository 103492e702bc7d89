"""callgate.wasm under two type checkers: they accept what programs write and refuse each misuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_typing import CHECKERS, VERSIONS

from callgate import wasm
from callgate.errors import EngineError

HERE = Path(__file__).parent
TASKS = HERE / "wasm_tasks.py"
MISUSES = HERE / "wasm_misuses.py"


def test_tasks_run() -> None:
    try:
        wasm.load(b"\0asm\1\0\0\0", cache=False)
    except EngineError as reason:
        pytest.skip(str(reason))
    done = subprocess.run([sys.executable, str(TASKS)], capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("tasks done\n", "", 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("checker", CHECKERS)
def test_tasks_are_accepted(checker: str, version: str) -> None:
    assert CHECKERS[checker](TASKS, version) == {}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("checker", CHECKERS)
def test_misuses_are_refused(checker: str, version: str) -> None:
    errors = CHECKERS[checker](MISUSES, version)
    wanted = {n: line for n, line in enumerate(MISUSES.read_text().splitlines(), 1) if re.search(r"# E$", line)}
    assert {line: text for line, text in wanted.items() if line not in errors} == {}, "accepted"
    assert {line: text for line, text in errors.items() if line not in wanted} == {}, "refused beyond the marks"
