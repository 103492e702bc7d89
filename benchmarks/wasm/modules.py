"""The modules that the WebAssembly engine is measured and tried with: what they are, and how they are built.

Each exports `run(n)`, which gives a number that does not depend on who runs it.  Zig's C compiler builds them for
WebAssembly, gcc for this machine.  Sources of SQLite and zlib are fetched; the others stand beside this file.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from debian import CACHE, PROJECT, Unavailable, alone, complete_or_nothing, run, say, source_of

__all__ = ["FOLDER", "PROGRAMS", "Program", "Unavailable", "native_library", "wasm_module"]

HERE = Path(__file__).resolve().parent
FOLDER = CACHE / "wasm-modules"
ZIG_ENVIRONMENTS = (CACHE / "zig", PROJECT / ".venv")


class Program(NamedTuple):
    """A module: `run(size)` is what is measured, `run(small)` what a slow engine is asked; with what they must give."""

    name: str
    size: int
    result: int
    small: int
    small_result: int
    library: str = ""
    "A library of which it is made: sqlite or zlib."
    exports: tuple[str, ...] = ("run",)
    is_measured: bool = True


PROGRAMS = (
    Program("fib", 30, 832_040, 15, 610),
    Program("loops", 20_000_000, 2_330_609_279, 20_000, 153_643_934),
    Program("nbody", 100_000, -169_167_167_327, 200, -169_125_580_287),
    Program("mandelbrot", 256, 1_990_166, 16, 8279),
    Program("matmul", 200, 1_919_666, 16, 12_186),
    Program("sha256", 16 << 20, 1_318_444_092, 1 << 12, 3_598_476_654),
    Program("crc", 64 << 20, 3_222_391_895, 1 << 16, 2_141_868_243),
    Program("sqlite", 10_000, 1_290_823_626, 100, 3_128_393_898, "sqlite"),
    Program("zlib", 1 << 20, 2_389_058_602_862_763, 1 << 12, 9_687_906_952_211, "zlib"),
    Program("calls", 0, 0, 0, 0, exports=("run", "add", "empty"), is_measured=False),
)

SQLITE = tuple(
    f"-DSQLITE_{option}"
    for option in (
        "OS_OTHER=1",
        "THREADSAFE=0",
        "ENABLE_MEMSYS5",
        "ZERO_MALLOC",
        "TEMP_STORE=3",
        "OMIT_LOCALTIME",
        "OMIT_LOAD_EXTENSION",
        "OMIT_WAL",
        "DEFAULT_MEMSTATUS=0",
    )
)
ZLIB_FILES = ("adler32", "crc32", "deflate", "inffast", "inflate", "inftrees", "trees", "zutil")


def zig() -> list[str]:
    """The command of Zig's C compiler; Unavailable where there is none."""
    if shutil.which("zig"):
        return ["zig", "cc"]
    for environment in ZIG_ENVIRONMENTS:
        for packages in environment.glob("lib/python*/site-packages/ziglang/zig"):
            return [str(packages), "cc"]
    raise Unavailable("no Zig: python3 -m venv .cache/zig && .cache/zig/bin/pip install ziglang")


def library_sources(library: str) -> Path:
    """The folder with a library's C files, fetched now if it is not there."""
    folder = FOLDER / f"{library}-source"
    with alone(folder):
        if not folder.exists():
            with complete_or_nothing(folder) as partial:
                if library == "sqlite":  # the amalgamation, which Debian's sources do not have
                    if not shutil.which("npm"):
                        raise Unavailable("no npm to fetch SQLite's amalgamation with")
                    say("  SQLite's amalgamation, out of better-sqlite3")
                    run(["npm", "pack", "--silent", "better-sqlite3"], cwd=partial)
                    (archive,) = partial.glob("*.tgz")
                    run(["tar", "-xf", str(archive), "--strip-components=3", "package/deps/sqlite3"], cwd=partial)
                    archive.unlink()
                else:
                    source_of(library, "bookworm", partial)
    return folder


def sources(program: Program) -> tuple[list[str], list[str]]:
    """The C files of a program, and the options with which they are compiled."""
    files = [str(HERE / f"{program.name}.c")]
    options = ["-O2", "-w", "-fno-math-errno"]
    match program.library:
        case "sqlite":
            folder = library_sources("sqlite")
            return [*files, str(folder / "sqlite3.c")], [*options, f"-I{folder}", *SQLITE]
        case "zlib":
            folder = library_sources("zlib")
            return [*files, *(str(folder / f"{name}.c") for name in ZLIB_FILES)], [*options, f"-I{folder}", "-DZ_SOLO"]
        case _:
            return files, options


def wasm_module(program: Program) -> Path:
    """A program as a WebAssembly module without imports (but for `calls`), built now if it is not there."""
    path = FOLDER / f"{program.name}.wasm"
    if not is_current(path, program):
        files, options = sources(program)
        command = [*zig(), *options, "-fno-sanitize=undefined", "-Wl,--no-entry", "-Wl,--strip-debug"]
        if program.library:
            command += ["-target", "wasm32-wasi", "-mexec-model=reactor"]
        else:
            command += ["-target", "wasm32-freestanding", "-nostdlib"]
        command += [f"-Wl,--export={name}" for name in program.exports]
        compiled(command, files, path)
    return path


def native_library(program: Program) -> Path:
    """A program as gcc -O2 makes it for this machine: a shared library, built now if it is not there."""
    path = FOLDER / f"{program.name}.so"
    if not is_current(path, program):
        files, options = sources(program)
        compiled(["gcc", *options, "-shared", "-fPIC"], files, path)
    return path


def is_current(path: Path, program: Program) -> bool:
    """Is a built file newer than what it is made of?"""
    newest = max((HERE / f"{program.name}.c").stat().st_mtime, Path(__file__).stat().st_mtime)
    return path.exists() and path.stat().st_mtime > newest


def compiled(command: list[str], files: list[str], path: Path) -> None:
    """Compile under a temporary name, so that an interrupted build leaves nothing that counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    say(f"  {path.name}")
    partial = path.with_name(f".{path.name}.partial")
    run([*command, "-o", str(partial), *files])
    partial.rename(path)
