"""Images: gates whose machine code was made ahead of time, and what is said of images that are not to be run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest
from children import run_child

from callgate import __version__
from callgate.cli import main
from callgate.cpython.layout import PYTHONS
from callgate.errors import EngineError, ImageError
from callgate.lower.image import read_image
from callgate.lower.machine import Machine
from callgate.runtime.checked_file import HEADER_BYTES, write_checked
from callgate.runtime.engine import native_engine
from callgate.runtime.image import THIS_PYTHON, MappedImage, image_name
from callgate.runtime.native import NativeEngine, machine_here

try:
    native_engine()
except EngineError as reason:
    pytest.skip(f"no machine code here: {reason}", allow_module_level=True)
if sys.platform == "win32":
    pytest.skip("files of machine code are not mapped on Windows", allow_module_level=True)

MACHINE = machine_here()
TARGET = MACHINE.target
if TARGET.system != "linux":
    pytest.skip("images are made for Linux", allow_module_level=True)
NAME = image_name("bound", THIS_PYTHON, TARGET)

SOURCE = """
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
typedef struct { double x, y; } point;
typedef struct { long words[5]; } large;
typedef int (*binary)(int, int);
int add(int a, int b) { return a + b; }
double sum9(double a, double b, double c, double d, double e, double f, double g, double h, double i)
    { return a + b + c + d + e + f + g + h + i; }
point turned(point p) { point r = {-p.y, p.x}; return r; }
large grown(large l, long by) { for (int i = 0; i < 5; i++) l.words[i] += by; return l; }
int fail(int code) { errno = code; return -1; }
const char *greeting(void) { return "hello"; }
long count(const unsigned char *data, size_t size) { long n = 0; while (size--) n += data[size]; return n; }
int halve(int n, int *rest) { *rest = n % 2; return n / 2; }
int fold(const int *numbers, int count, binary f, int start)
    { for (int i = 0; i < count; i++) start = f(start, numbers[i]); return start; }
binary adder(void) { return add; }
int total(int count, ...) {
    va_list rest; va_start(rest, count); int n = 0;
    while (count--) n += va_arg(rest, int);
    va_end(rest); return n;
}
"""

BOUND = """
import ctypes, os
from collections.abc import Callable
from typing import Protocol
import callgate as cg
from callgate import Callback, Out, Ptr, Readable, Struct, f64, i32, long, u8, usize

class Point(Struct):
    x: f64
    y: f64

class Large(Struct):
    words: cg.Array[long] = cg.field(length=5)

class Bound(Protocol):
    def add(self, a: i32, b: i32) -> i32: ...
    def sum9(self, a: f64, b: f64, c: f64, d: f64, e: f64, f: f64, g: f64, h: f64, i: f64, /) -> f64: ...
    def turned(self, p: Point, /) -> Point: ...
    def grown(self, l: Large, by: long, /) -> Large: ...
    @cg.function(fails_if="minus_one")
    def fail(self, code: i32, /) -> i32: ...
    def greeting(self) -> str: ...
    @cg.function(blocking=True)
    def count(self, data: Readable[u8], size: usize, /) -> long: ...
    def halve(self, n: i32, rest: Out[i32], /) -> i32: ...
    def fold(self, numbers: Readable[i32], count: i32, f: Callable[[i32, i32], i32], start: i32, /) -> i32: ...
    @cg.function(symbol="add", stack_bytes=1 << 20)
    def add_apart(self, a: i32, b: i32, /) -> i32: ...
    def adder(self) -> Callable[[i32, i32], i32]: ...
    def total(self, count: i32, *args: cg.VarArg) -> i32: ...

path = os.environ["BOUND_LIBRARY"]
bound = cg.load(path, Bound)
in_c = cg.load(path, "int add(int a, int b); struct div { int quot, rem; }; unsigned char nothing_here(long n);")
fast = ctypes.CDLL(path)
fast.count.argtypes, fast.count.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_long
cg.accelerate(fast)
three = bound.total(2, 1, 2)

@cg.callback
def times(a: i32, b: i32) -> i32:
    return a * b

@cg.callback
def ends(p: Ptr[i32], x: f64) -> None:
    raise AssertionError
"""

CHECK = """
    import ctypes, errno, os, sys, warnings
    import callgate as cg
    from callgate.runtime.code_memory import MEMORY
    from callgate.runtime.engine import IMAGES

    def forbid_memory():
        "No memory may become executable but that of files, and callgate's own files neither."
        ctypes.CDLL(None).prctl(65, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # PR_SET_MDWE, where the kernel knows it
        def refuse(size):
            raise OSError("refused")
        MEMORY.ladder = tuple(rung._replace(allocate=refuse) for rung in MEMORY.ladder)

    def check(engine="native"):
        import bound as module
        bound, Point, Large = module.bound, module.Point, module.Large
        names = "add sum9 turned grown fail greeting count halve fold adder add_apart".split()
        gates = [cg.gate(getattr(bound, name)) for name in names] + [cg.gate(module.in_c.add)]
        assert {gate.engine for gate in gates} == {engine}, [gate.engine for gate in gates]
        assert bound.add(2, b=-5) == module.in_c.add(2, -5) == -3
        assert bound.sum9(*range(9)) == 36.0
        turned = bound.turned(Point(1, 2))
        assert (turned.x, turned.y) == (-2.0, 1.0)
        assert list(bound.grown(Large((1, 2, 3, 4, 5)), 10).words) == [11, 12, 13, 14, 15]
        try:
            bound.fail(errno.ENOENT)
        except FileNotFoundError:
            pass
        assert bound.greeting() == "hello"
        assert bound.add_apart(3, 4) == 7
        assert bound.count(b"abc", 3) == bound.count([97, 98, 99], 3) == 294
        assert bound.halve(7) == (3, 1)
        assert bound.fold([1, 2, 3], 3, lambda a, b: 10 * a + b, 0) == 123
        assert bound.fold([1, 2, 3], 3, module.times, 1) == 6
        assert bound.fold([1, 2, 3], 3, bound.add, 1) == 7
        try:
            bound.fold([1, 2, 3], 3, lambda a, b: a // 0, 1)
        except ZeroDivisionError:
            pass
        assert bound.adder()(3, 4) == 7
        assert bound.total(2, 1, 2) == 3
        assert module.fast.count(b"abc", 3) == 294
        for given, message in [
            ((1,), "add() takes exactly 2 arguments (1 given)"),
            (("1", 2), "add() argument 1 must be int, not str"),
            ((1, 2**31), "add() argument 2 must be in -2147483648..2147483647 (int), not 2147483648"),
        ]:
            try:
                bound.add(*given)
            except (TypeError, OverflowError) as problem:
                assert str(problem) == message, problem
            else:
                raise AssertionError(given)
        return module
"""


class Place(NamedTuple):
    """A folder with the module and its image, and the library that it loads."""

    folder: Path
    library: Path

    @property
    def image(self) -> Path:
        return self.folder / NAME

    def run(self, program: str, **environment: str) -> str:
        """Run a program after CHECK's definitions; what it prints."""
        path = os.pathsep.join([str(self.folder), *sys.path])
        given = {"BOUND_LIBRARY": str(self.library), "PYTHONPATH": path, **environment}
        return run_child(dedent(CHECK) + dedent(program), **given)[0]


@pytest.fixture(scope="module")
def built(build_library: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The module with its image."""
    library = build_library(SOURCE)
    folder = tmp_path_factory.mktemp("images")
    folder.chmod(0o755)
    (folder / "bound.py").write_text(BOUND, encoding="utf-8")
    run_child(
        "import sys; from callgate.cli import main; assert main(sys.argv[1:]) == 0",
        *("build", "bound", "-o", str(folder)),
        PYTHONPATH=os.pathsep.join([str(folder), *sys.path]),
        BOUND_LIBRARY=str(library),
    )
    return Place(folder, library)


@pytest.fixture
def place(built: Place, tmp_path: Path) -> Place:
    """A copy that may be spoiled."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "copy"
    folder.mkdir(mode=0o755)
    for name in ("bound.py", NAME):
        shutil.copy(built.folder / name, folder)
    return built._replace(folder=folder)


class TestUse:
    def test_everything_runs_without_any_memory_for_code(self, built: Place) -> None:
        out = built.run("""
            forbid_memory()
            module = check()
            assert [cg.gate(f).engine for f in (module.fast.count, module.bound.total)] == ["native"] * 2
            assert module.times.engine == "native"
            assert MEMORY.rung == ""
            for line in open("/proc/self/maps"):
                assert not ("w" in line.split()[1] and "x" in line.split()[1]), line
            print(IMAGES)
        """)
        assert out == f"{ {str(built.image): ''} }\n"

    def test_all_code_is_the_files(self, built: Place) -> None:
        """No shape is made anew where memory is allowed."""
        out = built.run("""
            module = check()
            lines = [line.split() for line in open("/proc/self/maps")]
            (lines,) = ([line for line in lines if line[-1] == next(iter(IMAGES))],)
            assert [line[1] for line in lines] == ["r-xp"], lines
            start, end = (int(word, 16) for word in lines[0][0].split("-"))
            for name in dir(module.bound):
                function = getattr(module.bound, name)
                if name not in ("function", "total"):
                    assert start <= cg.gate(function)._shape.block.address < end, name
            print(MEMORY.rung or "none")
        """)
        assert out == "none\n"

    def test_the_rest_is_made_in_memory(self, built: Place) -> None:
        out = built.run("""
            module = check()
            assert module.bound.total(3, 1, 2, 3) == 6
            other = cg.load(module.path, "long count(const unsigned char *data, unsigned long n);")
            assert other.count(b"a", 1) == 97
            other = cg.load(module.path, "float add(float a, int b, double c, short d);")
            other.add(1.0, 2, 3.0, 4)
            print(cg.gate(other.add).engine, MEMORY.rung != "")
        """)
        assert out == "native True\n"

    def test_the_rest_is_for_ctypes_where_no_memory_is(self, built: Place) -> None:
        out = built.run("""
            forbid_memory()
            module = check()
            assert module.bound.total(3, 1, 2, 3) == 6
            other = cg.load(module.path, "int halve(short a, int *b, short c);")
            number = ctypes.c_int()
            assert other.halve(9, number, 4) == 4
            print(cg.gate(other.halve).engine)
        """)
        assert out == "ctypes\n"

    def test_callbacks_end_with_the_thunks(self, built: Place) -> None:
        out = built.run("""
            forbid_memory()
            module = check()
            def less(a: cg.i32, b: cg.i32) -> cg.i32:
                return a - b
            kept = []
            try:
                while True:
                    kept.append(cg.callback(less))
                    assert module.bound.fold([1], 1, kept[-1], 5) == 4
            except cg.EngineError as problem:
                print(problem)
            assert len(kept) > 250, len(kept)
            kept.clear()
            assert module.bound.fold([1], 1, cg.callback(less), 5) == 4
        """)
        assert out.startswith("no more callbacks can live at once: executable memory is refused here (memfd: refused; ")

    def test_an_engine_that_was_refused_before(self, place: Place) -> None:
        out = place.run("""
            forbid_memory()
            path = os.environ["BOUND_LIBRARY"]
            first = cg.load(path, "int add(int a, int b);")
            check()
            print(cg.gate(first.add).engine)
        """)
        assert out == "native\n"  # it is bound when first used

    def test_with_an_engine_from_before(self, built: Place) -> None:
        out = built.run("""
            first = cg.load(os.environ["BOUND_LIBRARY"], "int add(int a, int b);")
            assert first.add(1, 2) == 3
            used = MEMORY.used_bytes()
            module = check()
            assert MEMORY.used_bytes() == used
            print(first.add(3, 4))
        """)
        assert out == "7\n"

    def test_forked_children(self, built: Place) -> None:
        out = built.run("""
            module = check()
            child = os.fork()
            if child == 0:
                check()
                os._exit(17)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
            print(module.bound.add(1, 1))
        """)
        assert out == "2\n"

    def test_engine_ctypes_wants_no_image(self, built: Place) -> None:
        out = built.run("import bound; print(bound.bound.add(1, 2), IMAGES)", CALLGATE_ENGINE="ctypes")
        assert out == "3 {}\n"

    def test_checked_calls_want_no_image(self, built: Place) -> None:
        """Gates of images check nothing."""
        assert built.run("check(); print(IMAGES)", CALLGATE_CHECK="1") == "{}\n"


class TestMeanwhile:
    """What may happen while an image is taken: it must be waited for by nobody who cannot."""

    def test_another_module_is_imported_by_what_shows_warnings(self, place: Place) -> None:
        os.truncate(place.image, 10)
        (place.folder / "other.py").write_text("import callgate as cg\nlibc = cg.load('c', 'int abs(int n);')\n")
        out = place.run("""
            def show(message, *more):
                import other
                print(other.libc.abs(-1))
            warnings.showwarning = show
            check()
        """)
        assert out == "1\n"

    def test_a_fork_by_another_thread(self, built: Place) -> None:
        out = built.run("""
            import signal, threading
            from callgate.runtime import checked_file
            map_checked, is_taking, goes_on = checked_file.map_checked, threading.Event(), threading.Event()
            def slow(*given):
                is_taking.set()
                goes_on.wait()
                return map_checked(*given)
            checked_file.map_checked = slow
            thread = threading.Thread(target=check)
            thread.start()
            is_taking.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                libc = cg.load("c", "int abs(int n);")
                os._exit(libc.abs(-17))
            goes_on.set()
            thread.join()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *IMAGES.values())
        """)
        assert out == "17 \n"

    def test_another_image_by_a_finalizer(self, place: Place) -> None:
        """Both serve."""
        package = place.folder / "other"
        package.mkdir()
        shutil.copy(place.folder / "bound.py", package / "__init__.py")
        shutil.copy(place.image, package / image_name("other", THIS_PYTHON, TARGET))
        out = place.run("""
            forbid_memory()
            from callgate.runtime import checked_file
            map_checked = checked_file.map_checked
            def interrupted(*given):
                checked_file.map_checked = map_checked
                import other
                return map_checked(*given)
            checked_file.map_checked = interrupted
            module = check()
            import other
            print(cg.gate(other.bound.add).engine, *(os.path.basename(path) for path in IMAGES))
        """)
        assert out == f"native {image_name('other', THIS_PYTHON, TARGET)} {NAME}\n"


class TestPlaces:
    def test_the_folder_of_the_environment(self, place: Place, tmp_path: Path) -> None:
        folder = tmp_path / "elsewhere"
        folder.mkdir(mode=0o755)
        image = place.image.rename(folder / NAME)
        assert place.run("check(); print(*IMAGES)") == "\n"
        assert place.run("check(); print(*IMAGES)", CALLGATE_IMAGES=str(folder)) == f"{image}\n"

    def test_the_package_that_a_module_is_in(self, place: Place) -> None:
        package = place.folder / "outer"
        package.mkdir()
        (package / "__init__.py").touch()
        (place.folder / "bound.py").rename(package / "inner.py")
        image = place.image.rename(package / image_name("outer", THIS_PYTHON, TARGET))
        out = place.run("import outer.inner; print(cg.gate(outer.inner.bound.add).engine, *IMAGES)")
        assert out == f"native {image}\n"

    def test_a_script(self, place: Place) -> None:
        code = place.folder / "bound.py"
        code.write_text(f"{BOUND}\nfrom callgate.runtime.engine import IMAGES; print(*IMAGES)\n", encoding="utf-8")
        for how in ([str(code)], ["-m", "bound"]):
            environment = {**os.environ, "BOUND_LIBRARY": str(place.library), "PYTHONPATH": os.pathsep.join(sys.path)}
            environment.pop("CALLGATE_ENGINE", None)
            done = subprocess.run(
                [sys.executable, *how], cwd=place.folder, env=environment, capture_output=True, text=True, check=False
            )
            assert (done.stdout, done.stderr) == (f"{place.image}\n", "")


class TestBuilding:
    def test_what_is_in_it(self, built: Place) -> None:
        image = read_image(built.image.read_bytes()[HEADER_BYTES:])
        assert image.facts["callgate"] == __version__
        assert (image.facts["target"], image.facts["Python"]) == (TARGET.name, THIS_PYTHON)
        assert len(image.shapes) > 12
        assert {"callgate_convert", "callgate_release", "callgate_attach", "callgate_thunks"} <= image.labels.keys()

    def test_it_is_the_same_each_time(self, built: Place, tmp_path: Path) -> None:
        _, err = run_child(
            "import sys; from callgate.cli import main; assert main(sys.argv[1:]) == 0",
            *("build", "bound", "-o", str(tmp_path)),
            PYTHONPATH=os.pathsep.join([str(built.folder), *sys.path]),
            BOUND_LIBRARY=str(built.library),
            PYTHONHASHSEED="7",
        )
        assert (tmp_path / NAME).read_bytes() == built.image.read_bytes()
        assert err == f"left out: nothing_here: {built.library.name} has no symbol 'nothing_here'\n"

    def test_for_other_pythons(self, built: Place, tmp_path: Path) -> None:
        out, _ = run_child(
            "import sys; from callgate.cli import main; assert main(sys.argv[1:]) == 0",
            *("build", "bound", "-o", str(tmp_path), *(word for python in PYTHONS for word in ("--python", python))),
            PYTHONPATH=os.pathsep.join([str(built.folder), *sys.path]),
            BOUND_LIBRARY=str(built.library),
        )
        names = [f"bound.cpython-{digits}-{TARGET.name}.gates" for digits in ("310", "311", "312", "313", "314", "315")]
        assert sorted(os.listdir(tmp_path)) == names
        for line, name in zip(out.splitlines(), names, strict=True):
            assert line.startswith(f"{tmp_path / name}: ")
            assert " gates of " in line

    def build(self, place: Place, *arguments: str, status: int = 0) -> tuple[str, str]:
        return run_child(
            "import sys; from callgate.cli import main; sys.exit(main(sys.argv[1:]))",
            *("build", *arguments),
            status=status,
            PYTHONPATH=os.pathsep.join([str(place.folder), *sys.path]),
            BOUND_LIBRARY=str(place.library),
        )

    def test_where_it_would_not_be_run(self, built: Place, tmp_path: Path) -> None:
        """It may be meant for another place, so it is written."""
        tmp_path.chmod(0o775)
        _, err = self.build(built, "bound", "-o", str(tmp_path))
        assert err.splitlines()[1:] == [
            f"as it lies there, {tmp_path / NAME} is not run: its folder {tmp_path} may be written by others than its "
            "owner (mode 775); chmod go-w, and build it anew if you do not trust them"
        ]
        assert (tmp_path / NAME).read_bytes() == built.image.read_bytes()

    def test_links_are_not_followed(self, built: Place, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        names = [NAME, NAME.replace(".gates", ".s")]
        for name in names:
            (tmp_path / name).symlink_to(precious)
        self.build(built, "bound", "-o", str(tmp_path), "--asm")
        assert precious.read_text() == "precious"
        assert sorted(os.listdir(tmp_path)) == sorted([*names, "precious"])
        assert not any((tmp_path / name).is_symlink() for name in names)

    def test_a_module_that_goes_elsewhere(self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its folders are those of the command line."""
        (place.folder / "goes.py").write_text(
            "import os, sys, callgate as cg\nlibc = cg.load('c', 'int abs(int n);')\nsys.path.clear()\nos.chdir('/')\n"
        )
        monkeypatch.chdir(tmp_path)
        (tmp_path / "made").mkdir(mode=0o755)
        out, _ = self.build(place, "goes", "-o", "made")
        assert out.startswith(f"made/{image_name('goes', THIS_PYTHON, TARGET)}: 1 gates of 2 shapes, ")
        assert os.listdir(tmp_path / "made") == [image_name("goes", THIS_PYTHON, TARGET)]

    @pytest.mark.skipif(THIS_PYTHON not in PYTHONS, reason="the layout of this Python is only probed")
    def test_the_layout_by_name_is_the_one_probed(self) -> None:
        assert PYTHONS[THIS_PYTHON]._replace(name="") == MACHINE.layout._replace(name="")

    @pytest.mark.parametrize(
        ("target", "assembler"), [("x86_64-linux", "as --64"), ("aarch64-linux", "aarch64-linux-gnu-as")]
    )
    def test_the_assembler_makes_the_same_bytes(
        self, built: Place, tmp_path: Path, target: str, assembler: str
    ) -> None:
        command = assembler.split()
        if target.startswith("x86_64") and TARGET.architecture != "x86_64":
            pytest.skip("`as` is not x86-64's")
        copy = command[0].removesuffix("as") + "objcopy"
        if not shutil.which(command[0]) or not shutil.which(copy):
            pytest.skip(f"there is no {command[0]} here, or no {copy}")
        run_child(
            "import sys; from callgate.cli import main; assert main(sys.argv[1:]) == 0",
            *("build", "bound", "-o", str(tmp_path), "--asm", "--target", target, "--python", "3.13"),
            PYTHONPATH=os.pathsep.join([str(built.folder), *sys.path]),
            BOUND_LIBRARY=str(built.library),
        )
        stem = tmp_path / f"bound.cpython-313-{target}"
        made, raw = tmp_path / "image.o", tmp_path / "image.bin"
        subprocess.run([*command, "-o", str(made), f"{stem}.s"], check=True)
        subprocess.run([copy, "-O", "binary", "-j", ".text", str(made), str(raw)], check=True)
        contents = Path(f"{stem}.gates").read_bytes()[HEADER_BYTES:]
        image = read_image(contents)
        start = min([*image.labels.values(), *(offset for offset, _ in image.shapes.values())])
        assembled = raw.read_bytes()
        code = contents[start:]
        assert len(code) > 10_000
        assert assembled[-len(code) :] == code
        assert not any(assembled[: -len(code)])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["no_such_module"],
                "importing no_such_module failed with ModuleNotFoundError: No module named 'no_such_module'; install it, "
                "or let PYTHONPATH name its folder",
            ),
            (
                ["no_such_module.py"],
                "importing no_such_module.py failed with ModuleNotFoundError: No module named 'no_such_module'; write "
                "its name without .py",
            ),
            (["./bound"], "./bound is not the name of a module; write it as in `import package.module`"),
            (
                ["json"],
                "json declares no functions and no callbacks when it is imported; name a module that does",
            ),
            (["json", "-o", "/no/such/folder"], "/no/such/folder is no folder; make it first"),
            (
                ["json", "--target", "pdp-11"],
                "images are made for x86_64-linux, aarch64-linux, not for pdp-11; choose with --target",
            ),
            (
                ["json", "--target", "x86_64-windows"],
                "images are made for x86_64-linux, aarch64-linux, not for x86_64-windows; choose with --target",
            ),
            (
                ["json", "--python", "2.7"],
                f"the objects of Python 2.7 are not known here (known are {', '.join(PYTHONS)}); "
                "run `callgate build` with that Python",
            ),
        ],
    )
    def test_refused(self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["build", *arguments]) == 2
        assert capsys.readouterr().err == f"callgate build: {message}\n"


def refusal(path: Path, machine: Machine = MACHINE) -> str:
    with pytest.raises(ImageError) as caught:
        MappedImage(str(path), machine)
    return str(caught.value).removeprefix(f"{path} is not run: ")


ANEW = "; build it anew with `callgate build`"


class TestBadImages:
    """More of files that are not to be trusted is in test_checked_file.py."""

    def changed(self, place: Place, old: str, new: str) -> Path:
        """An image with another fact in it, and its checksum right."""
        contents = place.image.read_bytes()[HEADER_BYTES:]
        assert contents.count(f"{old}\n".encode()) == 1 and len(old) == len(new)
        write_checked(str(place.image), contents.replace(old.encode(), new.encode()))
        return place.image

    def test_for_another_target(self, place: Place) -> None:
        other = TARGET.name[::-1]
        path = self.changed(place, f"target={TARGET.name}", f"target={other}")
        assert refusal(path) == f"it is for target {other}, and this is {TARGET.name}{ANEW}"

    def test_for_another_python(self, place: Place) -> None:
        path = self.changed(place, f"Python={THIS_PYTHON}", f"Python={THIS_PYTHON[::-1]}")
        assert refusal(path) == f"it is for Python {THIS_PYTHON[::-1]}, and this is {THIS_PYTHON}{ANEW}"

    def test_of_another_callgate(self, place: Place) -> None:
        other = __version__[:-1] + "x"
        path = self.changed(place, f"callgate={__version__}", f"callgate={other}")
        assert refusal(path) == f"it is for callgate {other}, and this is {__version__}{ANEW}"

    def test_of_another_format(self, place: Place) -> None:
        assert refusal(self.changed(place, "format=1", "format=9")) == f"it is for format 9, and this is 1{ANEW}"

    def test_for_other_objects(self, place: Place) -> None:
        """What the probe says decides, not the version."""
        machine = MACHINE._replace(layout=MACHINE.layout._replace(float_value_offset=None))
        assert refusal(place.image, machine) == (
            f"it is for a Python with other objects: float_value_offset is 16 there and None here{ANEW}"
        )

    @pytest.mark.parametrize(
        ("contents", "problem"),
        [
            (b"short", "this is no image: unpack_from requires a buffer of at least 32 bytes"),
            (b"\xff" * 64, "the image's directory leads beyond its end"),
            (bytes(64), "it is for format None, and this is 1"),
        ],
        ids=["short", "no directory", "zeros"],
    )
    def test_of_other_contents(self, place: Place, contents: bytes, problem: str) -> None:
        write_checked(str(place.image), contents)
        assert refusal(place.image).startswith(problem)

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            (b" callgate_thunks\n", b" callgate_thinks\n", "it has no thunks"),
            (b"\n0", b"\n-", "the image's code lies beyond its end"),
            (b"\nslot:255\n", b"\nslot:256\n", "it asks for 'slot:256', which this Python does not have"),
            (b"\nslot:255\n", b"\nslot:x55\n", "it asks for 'slot:x55', which this Python does not have"),
            (b"\nPyLong_Type\n", b"\nPyLong_Tape\n", "it asks for 'PyLong_Tape', which this Python does not have"),
        ],
        ids=["no thunks", "a negative place", "a slot too many", "no slot", "a symbol"],
    )
    def test_of_contents_that_make_no_sense(self, place: Place, old: bytes, new: bytes, problem: str) -> None:
        contents = place.image.read_bytes()[HEADER_BYTES:]
        assert old in contents
        write_checked(str(place.image), contents.replace(old, new, 1))
        with pytest.raises(ImageError) as caught:
            NativeEngine(MACHINE.layout, MappedImage(str(place.image), MACHINE))
        assert str(caught.value) == f"{place.image} is not run: {problem}{ANEW}"

    @pytest.mark.parametrize(
        ("module", "function"),
        [("posix_memory.Libc", "mmap"), ("posix_memory.Libc", "mprotect"), ("checked_file.os", "pread")],
    )
    def test_the_system_refuses(self, place: Place, module: str, function: str) -> None:
        """Whatever it is, the module is imported and its functions work."""
        out = place.run(f"""
            from callgate.runtime import checked_file, image, posix_memory
            real = {module}.{function}
            def refuse(*given, **named):
                if sys._getframe(1).f_code.co_filename == checked_file.__file__:
                    raise OSError(12, "refused by the test")
                return real(*given, **named)
            {module}.{function} = refuse
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check()
            print(*(warning.message for warning in caught))
        """)
        assert out.startswith(f"{place.image} is not run: it")
        assert "refused by the test" in out

    def test_nothing_is_said_where_no_code_can_be_made(self, place: Place) -> None:
        """As by PyPy, beside the image of a CPython of its version."""
        out = place.run("""
            from callgate.runtime import probe
            probe.IS_CPYTHON = False
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check("ctypes")
            print(caught, *IMAGES.values())
        """)
        assert out == (
            f"[] {place.image} is not run: {sys.implementation.name} is not CPython: its objects cannot be read by "
            "machine code\n"
        )

    def test_tampered(self, place: Place) -> None:
        with open(place.image, "r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(b"\xcc")
        assert refusal(place.image) == f"its contents are not what was written (wrong checksum){ANEW}"

    def test_truncated(self, place: Place) -> None:
        size = place.image.stat().st_size
        os.truncate(place.image, size - 1000)
        assert refusal(place.image) == f"it has {size - 1000} bytes, not {size}{ANEW}"

    def test_in_a_folder_that_others_may_write(self, place: Place) -> None:
        place.folder.chmod(0o777)
        assert refusal(place.image) == (
            f"its folder {place.folder} may be written by others than its owner (mode 777); "
            "chmod go-w, and build it anew if you do not trust them"
        )

    def test_swapped_between_check_and_use(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was opened is what is checked and run."""
        other = place.folder / "other"
        other.write_bytes(b"of somebody else")
        fstat = os.fstat

        def swap(descriptor: int) -> os.stat_result:
            if other.exists() and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.replace(other, place.image)
            return fstat(descriptor)

        monkeypatch.setattr(os, "fstat", swap)
        image = MappedImage(str(place.image), MACHINE)
        assert place.image.read_bytes() == b"of somebody else"
        assert "callgate_convert" in image.labels

    def test_code_is_made_in_memory_instead(self, place: Place) -> None:
        place.folder.chmod(0o777)
        out = place.run("""
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                module = check()
            for warning in caught:
                print(warning.category.__name__, warning.filename == module.__file__, warning.message)
            assert list(IMAGES.values()) == [str(caught[0].message)]
            print(MEMORY.rung != "")
        """)
        assert out.splitlines() == [
            f"RuntimeWarning True {place.image} is not run: its folder {place.folder} may be written by others than its "
            "owner (mode 777); chmod go-w, and build it anew if you do not trust them",
            "True",
        ]

    def test_ctypes_serves_where_no_memory_is_either(self, place: Place) -> None:
        os.truncate(place.image, 1000)
        out = place.run("""
            warnings.simplefilter("ignore")
            forbid_memory()
            import bound
            print(cg.gate(bound.bound.add).engine, bound.bound.add(1, 2), cg.gate(bound.bound.total).engine)
        """)
        assert out == "ctypes 3 ctypes\n"


class TestDoctor:
    def diagnose(self, place: Place, program: str) -> list[str]:
        """The lines about images, and the last one."""
        out = place.run(f"from callgate.cli import main; {program}; main(['doctor', 'bound'])")
        lines = out.splitlines()
        return [line for line in lines if line.startswith("image ") or " image  " in line] + lines[-1:]

    def test_in_use(self, built: Place) -> None:
        lines = self.diagnose(built, "pass")
        assert lines == [f"ok    image     {built.image}: in use", "gates are machine code here"]

    def test_in_use_where_no_memory_is(self, built: Place) -> None:
        lines = self.diagnose(built, "forbid_memory()")
        assert lines[0] == f"ok    image     {built.image}: in use"
        assert lines[-1].startswith("the ctypes engine serves here what the image has not: ")

    def test_webassembly_where_no_memory_is(self, built: Place) -> None:
        out = built.run("""
            forbid_memory()
            import bound
            from callgate import wasm
            print(wasm.Module(b"\\0asm\\1\\0\\0\\0").engine)
            try:
                wasm.Module(b"\\0asm\\1\\0\\0\\0", engine="compiled")
            except cg.EngineError as problem:
                print(problem)
        """)
        engine, problem = out.splitlines()
        assert engine == "portable"
        assert problem.startswith("executable memory is refused here (") and problem.endswith(
            '; engine="portable" runs everywhere'
        )

    @pytest.mark.parametrize("variable", ["CALLGATE_ENGINE", "CALLGATE_CHECK", "CALLGATE_DEBUG", "CALLGATE_PERF"])
    def test_not_looked_for(self, built: Place, variable: str) -> None:
        value = "ctypes" if variable == "CALLGATE_ENGINE" else "1"
        out = built.run("from callgate.cli import main; main(['doctor', 'bound'])", **{variable: value})
        said = [" ".join(line.split()) for line in out.splitlines()]
        place = said.index(f"off image none is looked for where {variable}={value} is set")
        assert said[place + 1] == f"-> unset {variable}"

    def test_none(self, place: Place) -> None:
        place.image.unlink()
        lines = self.diagnose(place, "pass")
        assert lines[0] == f"off   image     bound has none that is called {NAME} and looked for here"

    def test_refused(self, place: Place) -> None:
        os.truncate(place.image, 10)
        lines = self.diagnose(place, "pass")
        assert (
            lines[0]
            == f"off   image     {place.image} is not run: it is not an image of this version of callgate{ANEW}"
        )
