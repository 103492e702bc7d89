"""The command: what each subcommand prints, writes and returns. No test looks at how long anything took."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import callgate as cg
from callgate.cli import bench, contenders, main, rows
from callgate.cli.contenders import Kit, compiler
from callgate.cli.rows import ROWS
from callgate.cli.timing import Turn, nanoseconds_a_call

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The JSON figures of one quick run."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    assert main(["bench", "--quick", "--json", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(contenders, "compiler", lambda: None)
    yield


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints."""
    done = subprocess.run(
        [sys.executable, "-m", "callgate", "demo"], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "callgate: the following arguments are required: COMMAND; see callgate --help"),
            (["explain"], "callgate explain: give the DECLARATION of a C function, or --wasm FILE --func NAME"),
            (["explain", "int f(int"], "callgate explain: line 1, column 6: '(' is never closed"),
            (["explain", "duble f(int n)"], "callgate explain: line 1, column 1: unknown type name 'duble'"),
            (["explain", "int f(int n)", "--target", "pdp-11"], "callgate explain: unknown target 'pdp-11'"),
            (["explain", "int f(int n)", "--layout", "pypy"], "callgate explain: unknown layout 'pypy'"),
            (["build"], "callgate build: the following arguments are required: MODULE"),
            (["bench", "mul"], "callgate bench: argument ROW: no row 'mul'; the rows are noop, add,"),
            (["bench", "--json", "/no/such/folder/f"], "callgate bench: [Errno 2] No such file or directory"),
            (["waltz"], "callgate: argument COMMAND: invalid choice: 'waltz'"),
        ],
    )
    def test_is_one_line_on_stderr_and_exit_code_2(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(message)
        assert err.count("\n") == 1 and err.endswith("\n")

    def test_a_plot_without_matplotlib_says_what_to_install(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
        assert main(["bench", "--plot", "chart.png"]) == 2
        assert "pip install callgate[plot]" in capsys.readouterr().err

    @pytest.mark.skipif(not Path("/dev/null").exists(), reason="no POSIX shell")
    def test_a_reader_that_has_seen_enough_is_no_error(self) -> None:
        command = f"'{sys.executable}' -m callgate explain 'int abs(int n)' | head -n 1"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("int abs(int n)\n", "")


class TestHelp:
    def test_lists_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        assert re.search(r"demo .*bench .*explain ", capsys.readouterr().out, re.DOTALL)

    @pytest.mark.parametrize("command", ["demo", "bench", "explain"])
    def test_of_each_command(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        assert main([command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: callgate {command}")

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"callgate {cg.__version__}\n"

    def test_import_callgate_does_not_import_the_command(self) -> None:
        code = "import sys, callgate; sys.exit(any(m.startswith(('callgate.cli', 'argparse')) for m in sys.modules))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDoctor:
    @pytest.mark.parametrize(
        ("wanted", "text"), [("ctypes", "asks for the ctypes engine"), ("turbo", "no such engine")]
    )
    def test_another_engine_is_wanted(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: str, text: str
    ) -> None:
        monkeypatch.setenv("CALLGATE_ENGINE", wanted)
        assert main(["doctor"]) == 1
        lines = capsys.readouterr().out.splitlines()
        found = lines.index(f"fails engine    CALLGATE_ENGINE={wanted}: {text}")
        assert lines[found + 1].strip() == "-> unset CALLGATE_ENGINE"
        if not any(line.startswith("fails") for line in lines[:found]):
            assert lines[-1] == f"the ctypes engine serves here: CALLGATE_ENGINE={wanted}: {text}"

    def test_json(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
        status = main(["doctor", "--json"])
        report = json.loads(capsys.readouterr().out)
        assert report["native"] is (status == 0)
        assert all(set(finding) == {"subject", "status", "text", "remedy"} for finding in report["findings"])
        subjects = [finding["subject"] for finding in report["findings"]]
        assert list(dict.fromkeys(subjects)) == [
            *["python", "target", "layout", "memory", "engine", "callbacks"][: len(set(subjects)) - 1],
            "wasm",
        ]
        assert report["native"] is all(finding["status"] != "fails" for finding in report["findings"])

    def test_a_wrong_result_is_told(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
        if main(["doctor"]):
            pytest.skip("no machine code can be made here")
        monkeypatch.setattr(cg, "gate_from", lambda function, engine: lambda *given: 7)
        assert main(["doctor"]) == 1
        assert "fails engine    a gate returned something wrong\n" in capsys.readouterr().out

    def test_callbacks_that_cannot_be_made(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(function: object, engine: str) -> None:
            raise LookupError("refused by the test")

        monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
        if main(["doctor"]):
            pytest.skip("no machine code can be made here")
        monkeypatch.setattr(cg, "callback", refuse)
        capsys.readouterr()
        assert main(["doctor"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[-5:-3] == [
            "fails callbacks LookupError: refused by the test",
            '                -> give functions that take callbacks engine="ctypes"; report it, with the text of this command',
        ]
        assert lines[-2:] == [
            "",
            "gates are machine code here, but there are no callbacks: LookupError: refused by the test",
        ]

    def test_webassembly(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
        main(["doctor"])
        assert re.search(
            r"^ok    wasm      compiled, with .*sse4.1.*: a module returned what it should$"
            r"|^off   wasm      portable mode: \S.*$",
            capsys.readouterr().out,
            re.MULTILINE,
        )
        monkeypatch.setenv("CALLGATE_ENGINE", "ctypes")
        main(["doctor"])
        assert "\noff   wasm      portable mode: " in capsys.readouterr().out


class TestExplain:
    def test_prints_what_explain_returns(self, capsys: pytest.CaptureFixture[str]) -> None:
        declaration = "double hypot(double x, double y)"
        assert main(["explain", declaration]) == 0
        assert capsys.readouterr().out == cg.explain(declaration) + "\n"

    def test_for_another_layout(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--target", "x86_64-linux", "--layout", "cpython-3.11"]
        assert main(["explain", "int abs(int n)", *options]) == 0
        assert "objects as in cpython-3.11" in capsys.readouterr().out

    def test_as_a_module(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "callgate", "explain", "int abs(int n)"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("int abs(int n)\n")
        assert done.stderr == ""

    def test_does_not_hide_the_function_explain(self) -> None:
        code = "import callgate.cli, callgate; callgate.cli.main(['explain', 'int abs(int n)']); callgate.explain('int abs(int n)')"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


class TestBench:
    def test_json_has_what_its_documentation_says(self, report: dict[str, object]) -> None:
        keys = "callgate python implementation processor engine calls rounds rows skipped binding"
        assert list(report) == keys.split()
        assert report["engine"] in ("native", "ctypes")
        assert report["rounds"] >= 25

    def test_every_row_is_measured_or_left_out_with_a_reason(self, report: dict[str, object]) -> None:
        measured = [row["row"] for row in report["rows"]]
        left_out = [name.removeprefix("row ") for name in report["skipped"] if name.startswith("row ")]
        assert sorted(measured + left_out) == sorted(row.name for row in ROWS)

    def test_every_contender_is_measured_or_left_out_with_a_reason(self, report: dict[str, object]) -> None:
        for row in report["rows"]:
            assert {"gate", "ctypes"} <= set(row["ns"])
            absent = set(contenders.NAMES) - set(row["ns"]) - set(report["skipped"])
            assert absent == ({"extension"} - set(report["skipped"]) if row["row"] == "qsort" else set())
            assert all(isinstance(ns, float) for ns in row["ns"].values())
            assert set(row["ratios"]) <= {"gate/extension", "ctypes/gate", "cffi_api/gate"}

    def test_what_the_rows_call(self, report: dict[str, object]) -> None:
        expected = {
            "add": ([12345, 67890], 80235),
            "accelerate": ([12345, 67890], 80235),
            "accelerate-held": ([12345, 67890], 80235),
            "point-sum": ([[1.5, 2.5]], 4.0),
            "point-make": ([1.5, 2.5], [1.5, 2.5]),
            "callback": (["lambda a, b: a + b", 1000], sum(range(1000))),
            "snprintf": (["64 bytes", 64, "%d %f", 5, 2.5], "5 2.500000"),
            "qsort": (["10000 ints, shuffled", "lambda a, b: a[0] - b[0]"], "sorted"),
        }
        if compiler() is None:
            expected |= dict.fromkeys(("add", "accelerate", "accelerate-held"), ([-12345], 12345))
        for row in report["rows"]:
            if row["row"] in expected:
                assert (row["operands"], row["result"]) == expected[row["row"]]

    def test_calls_rounds_and_callbacks_of_each_row(self, report: dict[str, object]) -> None:
        assert (report["calls"], report["rounds"]) == (10_000, 25)
        for row in report["rows"]:
            counts = (row["calls"], row["rounds"], row["callbacks"])
            assert counts == {"callback": (10, 25, 1000), "qsort": (1, 3, 1)}.get(row["row"], (10_000, 25, 1))

    def test_the_binding_section(self, report: dict[str, object]) -> None:
        binding = report["binding"]
        spreads = {name: value for name, value in binding.items() if isinstance(value, dict)}
        assert len(spreads) == 8
        assert all(list(spread) == ["median_us", "least_us"] for spread in spreads.values())
        assert {
            "import_ctypes_ms",
            "import_callgate_ms",
            "first_annotated_ms",
            "first_text_ms",
            "first_typedef_ms",
        } <= set(binding)
        if report["engine"] == "native":
            assert binding["shapes"] == 100
            assert 0 < binding["code_bytes_least"] <= binding["code_bytes_average"] <= binding["code_bytes_most"]

    def test_prints_one_line_a_row_with_its_operands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "--quick", "add", "blocking-add"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        names = "|".join(row.name for row in ROWS)
        lines = [line for line in out.splitlines() if re.match(f"({names}) ", line)]
        assert [line.split()[0] for line in lines] == ["add", "blocking-add"]
        assert all("12345" in line for line in lines)
        assert "release the GIL in blocking-add only" in out
        assert "declaration through first call" in out

    @pytest.mark.usefixtures("no_compiler")
    def test_without_a_compiler_the_system_s_functions_are_called(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "--quick"]) == 0
        out = capsys.readouterr().out
        for shown in ("labs(-12345)", "fma(1.5, 2.5, 3.5)", "strlen(b'hello world 1234')"):
            assert shown in out
        assert "C extension: left out, no C compiler" in out
        assert "row noop: left out, its function needs a C compiler" in out

    @pytest.mark.skipif(compiler() is None, reason="no C compiler")
    def test_a_contender_that_returns_something_else_is_found(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rows, "_ctypes_function", lambda *what: lambda *arguments: 1)
        assert main(["bench", "--quick", "add"]) == 2
        assert capsys.readouterr().err == "callgate bench: add: the gate returns 80235, but ctypes 1\n"

    @pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
    def test_plot(self, tmp_path: Path) -> None:
        path = tmp_path / "chart.png"
        assert main(["bench", "--quick", "--plot", str(path), "add", "qsort"]) == 0
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_everyone_is_called_with_the_operands_of_its_own_after_preparing(self) -> None:
        seen: list[tuple[object, ...]] = []
        turns = {name: Turn(lambda *given, name=name: seen.append((name, *given)), (1, name)) for name in "ab"}
        figures = nanoseconds_a_call(turns, calls=2, rounds=2, prepare=lambda: seen.append(("prepared",)))
        once = {name: [("prepared",), (name, 1, name), (name, 1, name)] for name in "ab"}
        assert seen == [*once["b"], *once["a"], *once["a"], *once["b"]]
        assert list(figures) == ["a", "b"]

    def test_figures_of_callbacks_are_for_one_and_those_of_long_calls_in_ms(self) -> None:
        kit = Kit(None, None, None, None, is_quick=True)
        contest = rows.Contest("", (), "", {name: Turn(lambda: None, ()) for name in ("gate", "ctypes")})
        ns = {"gate": 2e6, "ctypes": 5e6}

        def lines(row: rows.Row) -> list[str]:
            entry = contenders.Entry(row, row.compete(kit), None)
            report = bench.Report("native", 25, [bench.Figures(entry, ns, 1, 3)], {}, None)
            return bench.table(report)

        sort = lines(rows.Row("sort", lambda kit: contest, is_long=True))
        assert re.fullmatch("sort +2.0 +– +5.0( +–){3} +2.50 +–", sort[4])
        assert any(line.startswith("sort: ms of processor time, 3 rounds") for line in sort)
        back = lines(rows.Row("back", lambda kit: contest, callbacks=7))
        assert "back: ns a callback, 7 in a call, 1 calls a round" in back


class TestDemo:
    @pytest.mark.parametrize(
        "line",
        [
            r"  m\.j0\(0\) +1\.0",
            r'  c\.strtoul\("0xC0FFEE", None, 16\) +12648430',
            r'  access\("/no/such/file", 0\) +FileNotFoundError: \[Errno 2\] No such file or directory',
            r"  c\.abs\(7\.0\) +TypeError: abs\(\) argument 1 must be int, not float",
            r"      OverflowError: abs\(\) argument 1 must be in -2147483648\.\.2147483647 \(int\), not 2147483648",
            r"  add +12345, 67890 .*|  add +labs\(-12345\) .*",
        ],
    )
    def test_shows(self, shown: str, line: str) -> None:
        assert re.search(f"^{line}$", shown, re.MULTILINE)

    @pytest.mark.parametrize(
        ("library", "line"),
        [
            ("z", r"  hex\(z\.crc32\(0, text, len\(text\)\)\) +'0x5b8ec414'"),
            ("z", r"  back == text +True"),
            ("z", r"      ZlibError: buffer error"),
            ("sqlite3", r"  Jupiter     95"),
            ("sqlite3", r'  list\(run\("select \* from planets"\)\) +SqliteError: no such table: planets'),
        ],
    )
    def test_shows_a_library_where_it_is_present(self, shown: str, library: str, line: str) -> None:
        try:
            cg.load(library)
        except cg.LibraryNotFoundError:
            line = f"  lib{library} is not on this system, so this part is left out."
        assert re.search(f"^{line}$", shown, re.MULTILINE)

    def test_fits_a_terminal_and_has_no_colour(self, shown: str) -> None:
        assert "\x1b" not in shown
        assert max(map(len, shown.splitlines())) <= 110


def test_quick_tour_runs() -> None:
    script = REPOSITORY / "examples" / "quick_tour.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "OverflowError: distance() argument 1" in done.stdout
