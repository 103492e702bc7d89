"""Every program in examples/ runs, on both engines, and prints what it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

PROMISED = {
    "quick_tour.py": (
        r"FileNotFoundError|No such file",
        r"OverflowError: distance\(\)",
        r"TypeError: hypot\(\)",
    ),
    "zlib_stream.py": (
        r"zlib 1\.\S+: 1,\d{3},\d{3} bytes in, \d\d,\d{3} bytes out, crc32 0x[0-9a-f]{8}",
        r"^1 green bottles",
        r"level 42: stream error",
    ),
    "sqlite.py": (
        r"Saturn +146 moons  8\.27e\+14 km³\nJupiter +95 moons  1\.43e\+15 km³",
        r"SqliteError: per_moon\(\): .*division.* in: select .* = 'Mars' \(from ZeroDivisionError",
        r"many moons: \{'name': 'Saturn', 'moons': '146'\}",
        r"ValueError: invalid literal",
        r"select 'it''s ' \|\| 42",
    ),
    "curl.py": (
        r"libcurl/\d",
        r"200 58000 b'Hello from the other thread!'",
        r"'HTTP/1.0 301 .*', 'Location: /page', 'HTTP/1.0 200 OK', 'X-Agent: callgate'",
        r"CurlError: HTTP response code said error\nCurlError: Unsupported protocol",
    ),
    "openssl_digest.py": (
        r"sha256 +d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
        r"CryptoError: unsupported",
    ),
    "sdl2.py": (
        r"81 x 81, \d+ bytes a line\nrectangles: 585\n",
        r"^░░▒▒░░░░▒▒░░░░▒▒░░█{18}░░▒▒",
        r"picture: b'BM' \d{5} bytes\nevent: 0x8000 42",
        r"SdlError: Couldn't open ",
    ),
    "libclang_ast.py": (
        r"struct of 16 bytes: x, y",
        r"enum: RED, GREEN",
        r"defines  double dot\(point a, point b\)",
        r"declares point \* ?nearest\(const point \* ?points, unsigned long count, point to, double \* ?distance\)",
        r"defines  int main\(\)",
    ),
    "rust_library/geometry.py": (
        r"sum: \(3\.0, 4\.0\)\nlength: 13\.0",
        r"sorted: \[\(0\.0, 0\.0\), \(0\.0, 4\.0\), \(3\.0, 0\.0\), \(3\.0, 4\.0\)\] length: 13\.0",
        r"svg: M0,0 L0,4 L3,0 L3,4\nsvg of nothing: None\ntexts that Rust got back: 1\n",
        r"ZeroDivisionError: ",
    ),
    "zig_library/series.py": (
        r"60 values, mean 0\.0\d\d, deviation 0\.7\d\d",
        r"^[▁-█]{60}\n[▁-█]{60}\n[▁-█]{60}\n",
        r"nothing: None texts in use: 0",
    ),
}
"""Regular expressions that are found in the output, by example."""

TOOLS = {"rust_library/geometry.py": "rustc", "zig_library/series.py": "zig"}


def test_every_example_is_tested() -> None:
    assert {str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.py")} == set(PROMISED)


@pytest.mark.parametrize("example", PROMISED)
def test_example(example: str, engine: str) -> None:
    environment = {**os.environ, "CALLGATE_ENGINE": engine, "PATH": _path(), "PYTHONIOENCODING": "utf-8"}
    tool = TOOLS.get(example)
    if tool and not shutil.which(tool, path=environment["PATH"]):
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(EXAMPLES / example)],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=300,
        check=False,
    )
    missing = re.search(r"LibraryNotFoundError: (.*)", done.stderr)
    if missing:
        pytest.skip(missing[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for promise in PROMISED[example]:
        assert re.search(promise, done.stdout, re.MULTILINE), f"{promise}\n\nis not in\n\n{done.stdout}"


def _path() -> str:
    """The PATH, with the Zig that .ci/run installs."""
    zig = [str(file.parent) for file in ROOT.glob(".cache/zig/lib/python3*/site-packages/ziglang/zig")]
    return os.pathsep.join([*os.environ.get("PATH", "").split(os.pathsep), *zig])
