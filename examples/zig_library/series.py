# mypy: disable-error-code="empty-body"
"""Build a Zig library and call it: a struct by value, slices, a function of the caller's, strings that Zig owns.

Needs Zig: `pip install ziglang`, or `zig` on the path.  Run it: python examples/zig_library/series.py
"""

import importlib.util
import math
import shutil
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import callgate as cg
from callgate import Readable, Struct, Writable, f64, u32, usize

SOURCE = Path(__file__).with_name("series.zig")
LIBRARY = Path(__file__).parents[2] / "build" / "examples" / "libseries.so"


def compiler() -> list[str]:
    """How to run Zig here; LookupError where it is missing."""
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang"]
    if zig := shutil.which("zig"):
        return [zig]
    raise LookupError("Zig is not installed: pip install ziglang")


def build() -> Path:
    """The library, compiled when its source is newer."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        LIBRARY.parent.mkdir(parents=True, exist_ok=True)
        options = ("build-lib", "-dynamic", "-O", "ReleaseSafe", f"-femit-bin={LIBRARY}", str(SOURCE))
        subprocess.run([*compiler(), *options], check=True)
    return LIBRARY


class Summary(Struct):  # extern struct
    count: usize
    mean: f64
    deviation: f64


class Series(Protocol):
    def summarize(self, values: Readable[f64], count: usize) -> Summary: ...
    def transform(self, values: Writable[f64], count: usize, function: Callable[[f64], f64]) -> None: ...
    @cg.function(free="release")
    def sparkline(self, values: Readable[f64], count: usize) -> str | None: ...
    def texts_in_use(self) -> u32: ...


def main() -> None:
    series = cg.load(build(), Series)
    values = array("d", (math.sin(i / 3) for i in range(60)))  # a list would do, a NumPy array as well

    summary = series.summarize(values, len(values))
    print(f"{summary.count} values, mean {summary.mean:.3f}, deviation {summary.deviation:.3f}")
    print(series.sparkline(values, len(values)))

    # Zig calls Python for every value ...
    series.transform(values, len(values), lambda value: value * abs(value))
    print(series.sparkline(values, len(values)))

    # ... or C: a gate passed as a function means its C function, and no Python runs in between.
    libm = cg.load("m", "double fabs(double x);")
    series.transform(values, len(values), libm.fabs)
    print(series.sparkline(values, len(values)))

    print("nothing:", series.sparkline(values, 0), "texts in use:", series.texts_in_use())


if __name__ == "__main__":
    main()
