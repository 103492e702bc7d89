# mypy: disable-error-code="empty-body"
"""Build a Rust library and call it: structs by value, slices, strings that Rust owns, a comparison in Python.

Needs rustc.  Run it: python examples/rust_library/geometry.py
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import callgate as cg
from callgate import Readable, Struct, Writable, f64, i32, u32, usize

SOURCE = Path(__file__).with_name("geometry.rs")
LIBRARY = Path(__file__).parents[2] / "build" / "examples" / "libgeometry.so"


def build() -> Path:
    """The library, compiled when its source is newer."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        LIBRARY.parent.mkdir(parents=True, exist_ok=True)
        options = ("--crate-type", "cdylib", "--edition", "2021", "-O", "-o", str(LIBRARY))
        subprocess.run(["rustc", *options, str(SOURCE)], check=True)
    return LIBRARY


class Point(Struct):  # #[repr(C)] struct Point
    x: f64
    y: f64


class Geometry(Protocol):
    def point_add(self, a: Point, b: Point) -> Point: ...

    # A slice is a pointer and a length; a sequence of points is an array of C.
    def path_length(self, points: Readable[Point], count: usize) -> f64: ...
    def path_sort(self, points: Writable[Point], count: usize, compare: Callable[[Point, Point], i32]) -> None: ...

    # Option<String>: NULL is None. The text is copied, and Rust gets its own back.
    @cg.function(free="string_free")
    def path_to_svg(self, points: Readable[Point], count: usize) -> str | None: ...
    def texts_freed(self) -> u32: ...


def main() -> None:
    geometry = cg.load(build(), Geometry)
    end = geometry.point_add(Point(1, 2), b=Point(2, 2))
    print(f"sum: ({end.x}, {end.y})")

    path = (Point * 4)(Point(3, 4), Point(0, 0), Point(3, 0), Point(0, 4))
    print("length:", geometry.path_length(path, len(path)))
    geometry.path_sort(path, len(path), lambda a, b: (a.x > b.x) - (a.x < b.x) or (a.y > b.y) - (a.y < b.y))
    print("sorted:", [(point.x, point.y) for point in path], "length:", geometry.path_length(path, len(path)))

    print("svg:", geometry.path_to_svg(path, len(path)))
    print("svg of nothing:", geometry.path_to_svg(path, 0))
    print("texts that Rust got back:", geometry.texts_freed())

    # An exception in the comparison comes out here, when Rust is done.
    try:
        geometry.path_sort(path, len(path), lambda a, b: 1 // 0)
    except ZeroDivisionError as problem:
        print("ZeroDivisionError:", problem)


if __name__ == "__main__":
    main()
