"""The stub: two type checkers accept what programs write and refuse each misuse; its names are those of the package."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import callgate

HERE = Path(__file__).parent
TASKS = HERE / "tasks.py"
MISUSES = HERE / "misuses.py"
STUB = Path(callgate.__file__).with_suffix(".pyi")
ROOT = HERE.parents[1]

# The oldest and the newest Python that callgate is tested on.
VERSIONS = ("3.10", "3.13")

CASES_BEGIN = "# -- arguments\n"


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def need(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed in {sys.prefix}: pip install 'callgate[check]'")


def mypy_errors(file: Path, version: str) -> dict[int, str]:
    """The first error of each line."""
    need("mypy")
    done = run("-m", "mypy", "--strict", "--python-version", version, "--no-pretty", "--show-error-codes", file)
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    errors: dict[int, str] = {}
    for found in re.finditer(r"^(.*?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        assert Path(ROOT, found[1]).resolve() == file, found[0]
        errors.setdefault(int(found[2]), found[3])
    assert bool(errors) == bool(done.returncode), done.stdout
    return errors


def pyright_errors(file: Path, version: str) -> dict[int, str]:
    """The first error of each line."""
    need("pyright")
    # The wheel brings pyright and, by its extra `nodejs`, Node: nothing is fetched.
    options = ("--outputjson", "--pythonpath", sys.executable, "--pythonversion", version)
    done = run("-m", "pyright", *options, file)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout
    errors: dict[int, str] = {}
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            assert Path(one["file"]).resolve() == file, one
            errors.setdefault(one["range"]["start"]["line"] + 1, one["message"])
    assert bool(errors) == bool(done.returncode), done.stdout
    return errors


CHECKERS = {"mypy": mypy_errors, "pyright": pyright_errors}


def marked(pattern: str) -> dict[int, str]:
    """The lines of the misuses that carry a mark, by their number."""
    lines = MISUSES.read_text().splitlines()
    return {number: line for number, line in enumerate(lines, 1) if re.search(pattern, line)}


def test_tasks_run() -> None:
    done = run(TASKS)
    assert (done.stdout, done.stderr, done.returncode) == ("tasks done\n", "", 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("checker", CHECKERS)
def test_tasks_are_accepted(checker: str, version: str) -> None:
    assert CHECKERS[checker](TASKS, version) == {}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("checker", CHECKERS)
def test_misuses_are_refused(checker: str, version: str) -> None:
    errors = CHECKERS[checker](MISUSES, version)
    wanted = marked(r"# E\b")
    assert {line: text for line, text in wanted.items() if line not in errors} == {}, "accepted"
    assert {line: text for line, text in errors.items() if line not in wanted} == {}, "refused beyond the marks"


@pytest.mark.parametrize(("line", "statement"), marked("# runtime: TypeError").items())
def test_misuses_at_run_time(line: int, statement: str) -> None:
    text = MISUSES.read_text()
    namespace: dict[str, object] = {"__name__": "misuses"}
    exec(compile(text[: text.index(CASES_BEGIN)], MISUSES, "exec", dont_inherit=True), namespace)
    with pytest.raises(TypeError):
        exec(compile(statement, f"{MISUSES}:{line}", "exec", dont_inherit=True), namespace)


def public_names_of_stub() -> set[str]:
    names = set()
    for node in ast.parse(STUB.read_text()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.name for alias in aliases if alias.asname == alias.name}  # `X as X` exports X
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


def test_names_of_the_stub_are_those_of_the_package() -> None:
    assert public_names_of_stub() == set(callgate.__all__)
    assert set(callgate.__all__) <= set(dir(callgate))
    for name in callgate.__all__:
        assert getattr(callgate, name) is not None


def test_stub_agrees_with_the_package(tmp_path: Path) -> None:
    need("mypy")
    allowlist = HERE / "stubtest_allowlist.txt"
    options = ("--concise", "--allowlist", allowlist, "--ignore-unused-allowlist")
    done = run("-m", "mypy.stubtest", "callgate", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
