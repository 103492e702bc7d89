"""Modules that `callgate bind` wrote, in use: a library of our own against gcc, and libraries that are installed."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("clang.cindex", reason="libclang is not installed", exc_type=ImportError)

import callgate as cg
from callgate.cli import main

HERE = Path(__file__).parent

HEADERS = {
    "zlib_c": ("zlib.h", "z"),
    "sqlite_c": ("sqlite3.h", "sqlite3"),
    "curl_c": ("curl/curl.h", "curl"),
    "sdl_c": ("SDL2/SDL.h", "SDL2-2.0"),
    "git_c": ("git2.h", "git2"),
}


def imported(path: Path) -> Any:
    """The module in a file, under a name of its own."""
    name = f"bound_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The module for an installed header, written once a session."""
    folder = tmp_path_factory.mktemp("modules")

    def write(name: str) -> Path:
        path = folder / f"{name}.py"
        header, library = HEADERS[name]
        if not path.exists():
            done = subprocess.run(
                [sys.executable, "-m", "callgate", "bind", header, "-l", library, "-o", str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            if "no such header" in done.stderr:
                pytest.skip(f"{header} is not installed")
            if "cannot load" in done.stderr:
                pytest.skip(f"the library {library} is not installed")
            assert done.returncode == 0, done.stderr
        return path

    return write


@pytest.fixture(scope="session")
def bound_file(build_library: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module for bound.h, and the library that gcc makes of bound.c."""
    library = build_library(HERE / "bound.c", ("-O1", f"-I{HERE}"))
    path = tmp_path_factory.mktemp("bound") / "bound.py"
    assert main(["bind", str(HERE / "bound.h"), "-l", str(library), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def bound_module(bound_file: Path) -> Any:
    return imported(bound_file)


@pytest.fixture
def bound_lib(bound_module: Any, build_library: Callable[..., Path], engine: str) -> Any:
    """The library of bound.c through the module's Protocol, on the engine under test."""
    library = build_library(HERE / "bound.c", ("-O1", f"-I{HERE}"))
    return cg.load(str(library), bound_module.Bound, engine=engine)


class TestOfOurOwn:
    def test_lists_what_it_leaves_out(self, bound_module: Any) -> None:
        assert bound_module.NOT_BOUND == (
            ("twice", "an inline function"),
            ("never_defined", "the library has no such symbol"),
        )
        assert bound_module.lib.sum_of(2, 3, 4) == 7

    def test_structs_have_the_compilers_sizes(self, bound_module: Any, bound_lib: Any) -> None:
        m = bound_module
        classes = [m.scalars, m.bits, m.packed, m.pack_two, m.aligned, m.nested, m.flexible, m.number]
        classes += [m.callbacks, m.extended, m.enums]
        assert [ctypes.sizeof(cls) for cls in classes] == [bound_lib.size_of(n) for n in range(len(classes))]

    def test_members_have_the_compilers_places(self, bound_module: Any, bound_lib: Any) -> None:
        m = bound_module
        offsets = [m.scalars.l.offset, m.packed.d.offset, m.pack_two.d.offset, m.aligned.i.offset, m.nested.grid.offset]
        offsets += [m.flexible.values.offset]
        assert offsets == [bound_lib.offset_of(n) for n in range(6)]
        c = m.callbacks()
        c.user = 0x1234
        assert bytes(c)[bound_lib.offset_of(6) :][:2] == b"\x34\x12"
        assert m.extended.after.offset == bound_lib.offset_of(7)
        n = m.nested()
        n.low = 0x0102
        assert bytes(n)[bound_lib.offset_of(8) :][:2] == b"\x02\x01"
        assert m.enums.last.offset == bound_lib.offset_of(9)

    def test_bit_fields_read_what_c_wrote(self, bound_module: Any, bound_lib: Any) -> None:
        bits = bound_module.bits()
        bound_lib.fill_bits(bits)
        assert (bits.a, bits.b, bits.c, bits.d, bits.e, bits.g) == (5, -3, 1000, 1, True, 9)

    def test_structs_and_unions_by_value(self, bound_module: Any, bound_lib: Any) -> None:
        m = bound_module
        made = bound_lib.midpoint(m.point(0.0, 2.0), m.point(4.0, 4.0))
        assert (made.x, made.y) == (2.0, 3.0)
        flipped = bound_lib.flip(m.small(1.5, 2.5, 7))
        assert (flipped.a, flipped.b, flipped.c) == (2.5, 1.5, -7)
        assert bound_lib.to_real(m.number(i=3)).d == 3.0

    @pytest.mark.parametrize("wrap", [lambda p: p, ctypes.byref, ctypes.pointer], ids=["instance", "byref", "pointer"])
    def test_a_pointer_to_a_struct_takes_the_struct(
        self, bound_module: Any, bound_lib: Any, wrap: Callable[[Any], Any]
    ) -> None:
        m = bound_module
        assert bound_lib.midpoint(a=m.point(0.0, 0.0), b=wrap(m.point(2.0, 4.0))).y == 2.0
        with pytest.raises(TypeError, match=r"argument 2 must be"):
            bound_lib.midpoint(m.point(), wrap(m.small()))

    def test_buffers(self, bound_lib: Any) -> None:
        assert bound_lib.total([1.0, 2.5], 2) == 3.5
        values = (ctypes.c_double * 3)(1, 2, 3)
        bound_lib.scale(values, 3, 2.0)
        assert list(values) == [2.0, 4.0, 6.0]

    def test_variable_arguments(self, bound_lib: Any) -> None:
        assert bound_lib.sum_of(4, 1, 2, 3, -7) == -1
        assert bound_lib.sum_of(0) == 0

    def test_callbacks_as_arguments_and_members(self, bound_module: Any, bound_lib: Any, engine: str) -> None:
        m = bound_module
        nodes = [m.node(number) for number in range(4)]
        for node, following in itertools.pairwise(nodes):
            node.next = ctypes.pointer(following)
        seen: list[int] = []

        def see(each: Any, user: Any) -> int:
            assert user is None
            seen.append(each.contents.value)
            return int(each.contents.value == 2)

        see.__annotations__ = {"each": cg.Ptr[m.node] | None, "user": cg.Ptr[None] | None, "return": cg.i32}
        visitor = cg.callback(see, engine=engine)
        assert bound_lib.visit(nodes[0], visitor, None) == 2
        assert seen == [0, 1, 2]

        def triple(x: cg.i32) -> cg.i32:
            return 3 * x

        callbacks = m.callbacks()
        assert bound_lib.apply(callbacks, 5) == -1
        kept = callbacks.change = cg.callback(triple, engine=engine)
        assert bound_lib.apply(callbacks, 5) == 15
        kept.close()

    def test_handles_and_out_parameters(self, bound_module: Any, bound_lib: Any) -> None:
        store = bound_lib.store_open(41)
        assert bound_lib.store_value(store) == 41
        bound_lib.store_close(store)
        out = cg.Ptr[bound_module.store]()
        assert bound_lib.store_open_at(out, 42) == 0
        assert bound_lib.store_value(out) == 42
        bound_lib.store_close(out)
        assert bound_lib.store_value(None) == -1

    def test_enums_and_flags(self, bound_module: Any, bound_lib: Any) -> None:
        m = bound_module
        assert bound_lib.next_colour(m.colour.RED) is m.colour.GREEN
        assert bound_lib.unite(m.mask.MASK_A, m.mask.MASK_B | m.mask.MASK_C) == 7

    def test_text(self, bound_module: Any, bound_lib: Any) -> None:
        m = bound_module
        assert bound_lib.name_of(m.colour.RED) == b"red"
        assert bound_lib.name_of(m.colour.GREEN) == "grün".encode()
        assert bound_lib.name_of(m.colour.UNKNOWN) is None
        names = bound_lib.list_names()
        assert (names[0], names[1], names[2]) == (b"one", b"two", None)

    def test_complex_numbers(self, bound_lib: Any) -> None:
        assert bound_lib.turned(2 + 1j) == -1 + 2j

    def test_names_of_parameters_are_keywords(self, bound_lib: Any) -> None:
        assert bound_lib.shadowed_names(lambda_=3, class_=10) == 7
        with pytest.raises(TypeError):
            bound_lib.store_close(arg1=None)

    def test_constants(self, bound_module: Any) -> None:
        assert (bound_module.BOUND_VERSION, bound_module.BOUND_LIMIT) == ("1.2", 16)
        assert bound_module.BOUND_ALL.value == (1 << 8 * ctypes.sizeof(ctypes.c_void_p)) - 1

    def test_documentation(self, bound_module: Any) -> None:
        assert bound_module.point.__doc__ == "A point in the plane."
        assert "a: one end" in bound_module.Bound.midpoint.__doc__


class TestInstalled:
    """A real call or more of each library."""

    def lib(self, name: str, written: Callable[[str], Path], engine: str) -> tuple[Any, Any]:
        module = imported(written(name))
        protocol = type(module.lib) and next(
            value
            for value in vars(module).values()
            if isinstance(value, type) and getattr(value, "_is_protocol", False) and value.__module__ == module.__name__
        )
        return module, cg.load(HEADERS[name][1], protocol, engine=engine)

    def test_zlib(self, written: Callable[[str], Path], engine: str) -> None:
        z, lib = self.lib("zlib_c", written, engine)
        assert lib.zlibVersion() == z.ZLIB_VERSION.encode() == z.lib.zlibVersion()
        assert lib.crc32(0, b"hello", 5) == 0x3610A686
        data = b"hello " * 100
        stream = z.z_stream()
        assert lib.deflateInit_(stream, z.Z_BEST_COMPRESSION, z.ZLIB_VERSION, ctypes.sizeof(stream)) == z.Z_OK
        source = ctypes.create_string_buffer(data, len(data))
        room = ctypes.create_string_buffer(100)
        stream.next_in, stream.avail_in = ctypes.cast(source, type(stream.next_in)), len(data)
        stream.next_out, stream.avail_out = ctypes.cast(room, type(stream.next_out)), len(room)
        assert lib.deflate(stream, z.Z_FINISH) == z.Z_STREAM_END
        assert lib.deflateEnd(stream) == z.Z_OK
        back, length = bytearray(len(data)), ctypes.c_ulong(len(data))
        assert lib.uncompress(back, length, room.raw[: stream.total_out], stream.total_out) == z.Z_OK
        assert (back, length.value) == (data, len(data))

    def test_sqlite(self, written: Callable[[str], Path], engine: str) -> None:
        sq, lib = self.lib("sqlite_c", written, engine)
        db = cg.Ptr[sq.sqlite3]()
        assert lib.sqlite3_open(":memory:", db) == sq.SQLITE_OK
        rows: list[list[bytes]] = []

        def row(user: Any, count: int, values: Any, names: Any) -> int:
            rows.append([ctypes.string_at(values[i]) for i in range(count)])
            return 0

        strings = cg.Ptr[cg.Ptr[cg.char]] | None
        row.__annotations__ = {
            "user": cg.Ptr[None] | None,
            "count": cg.i32,
            "values": strings,
            "names": strings,
            "return": cg.i32,
        }
        kept = cg.callback(row, engine=engine)
        script = "create table t(a, b); insert into t values (1, 'x'), (2, 'y')"
        assert lib.sqlite3_exec(db, script, None, None, None) == sq.SQLITE_OK
        assert lib.sqlite3_exec(db, "select * from t", kept, None, None) == sq.SQLITE_OK
        assert rows == [[b"1", b"x"], [b"2", b"y"]]
        assert lib.sqlite3_exec(db, "selec", None, None, None) == sq.SQLITE_ERROR
        assert lib.sqlite3_errmsg(db).startswith(b'near "selec"')
        statement = cg.Ptr[sq.sqlite3_stmt]()
        assert lib.sqlite3_prepare_v2(db, "select ?", -1, statement, None) == sq.SQLITE_OK
        assert lib.sqlite3_bind_text(statement, 1, b"text", 4, sq.SQLITE_TRANSIENT) == sq.SQLITE_OK
        assert lib.sqlite3_step(statement) == sq.SQLITE_ROW
        assert ctypes.string_at(lib.sqlite3_column_text(statement, 0)) == b"text"
        assert lib.sqlite3_finalize(statement) == sq.SQLITE_OK
        assert lib.sqlite3_close(db) == sq.SQLITE_OK

    def test_curl(self, written: Callable[[str], Path], engine: str, tmp_path: Path) -> None:
        curl, lib = self.lib("curl_c", written, engine)
        assert ctypes.string_at(lib.curl_version()).startswith(b"libcurl/")
        (tmp_path / "file").write_bytes(b"content")
        received = bytearray()

        def write(data: Any, size: int, count: int, user: Any) -> int:
            received.extend(ctypes.string_at(data, size * count))
            return size * count

        write.__annotations__ = {
            **{"data": cg.Ptr[cg.char] | None, "size": cg.usize, "count": cg.usize},
            **{"user": cg.Ptr[None] | None, "return": cg.usize},
        }
        kept = cg.callback(write, engine=engine)
        easy = lib.curl_easy_init()
        option = curl.CURLoption
        assert lib.curl_easy_setopt(easy, option.CURLOPT_URL, f"file://{tmp_path}/file") == curl.CURLcode.CURLE_OK
        assert lib.curl_easy_setopt(easy, option.CURLOPT_WRITEFUNCTION, ctypes.c_void_p(kept.address)) == 0
        assert lib.curl_easy_perform(easy) is curl.CURLcode.CURLE_OK
        lib.curl_easy_cleanup(easy)
        assert received == b"content"
        assert lib.curl_easy_strerror(curl.CURLcode.CURLE_URL_MALFORMAT).startswith(b"URL")

    def test_sdl(self, written: Callable[[str], Path], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
        sdl, lib = self.lib("sdl_c", written, engine)
        assert lib.SDL_Init(sdl.SDL_INIT_VIDEO) == 0
        try:
            assert lib.SDL_GetCurrentVideoDriver() == b"dummy"
            version = sdl.SDL_version()
            lib.SDL_GetVersion(version)
            assert (version.major, version.minor) >= (2, sdl.SDL_MINOR_VERSION)
            event = sdl.SDL_Event(type=sdl.SDL_EventType.SDL_USEREVENT)
            event.user.code = 7
            lib.SDL_FlushEvents(sdl.SDL_EventType.SDL_FIRSTEVENT, sdl.SDL_EventType.SDL_LASTEVENT)
            assert lib.SDL_PushEvent(event) == 1
            got = sdl.SDL_Event()
            assert lib.SDL_PollEvent(got) == 1
            assert (got.type, got.user.code) == (sdl.SDL_EventType.SDL_USEREVENT, 7)
        finally:
            lib.SDL_Quit()

    def test_libgit2(self, written: Callable[[str], Path], engine: str, tmp_path: Path) -> None:
        git, lib = self.lib("git_c", written, engine)
        assert lib.git_libgit2_init() > 0
        numbers = [ctypes.c_int() for _ in range(3)]
        assert lib.git_libgit2_version(*numbers) == 0
        assert f"{numbers[0].value}.{numbers[1].value}.{numbers[2].value}" == git.LIBGIT2_VERSION
        repository = cg.Ptr[git.git_repository]()
        assert lib.git_repository_init(repository, str(tmp_path / "repository"), 0) == 0
        assert lib.git_repository_is_empty(repository) == 1
        assert lib.git_repository_open(repository, str(tmp_path / "none")) == git.git_error_code.GIT_ENOTFOUND
        error = lib.git_error_last()
        assert b"failed to resolve path" in ctypes.string_at(error.contents.message)
        lib.git_repository_free(repository)
        assert lib.git_libgit2_shutdown() >= 0


class TestText:
    """What the tools of the trade say about the written modules."""

    def files(self, written: Callable[[str], Path], bound_file: Path) -> list[str]:
        found = [str(bound_file)]
        for name in HEADERS:
            try:
                found.append(str(written(name)))
            except pytest.skip.Exception:
                continue  # not installed: the others are judged
        return found

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        if find_spec(arguments[0]) is None:
            pytest.skip(f"{arguments[0]} is not installed in {sys.prefix}: pip install 'callgate[check]'")
        command = [sys.executable, "-m", *arguments]
        environment = {**os.environ, "MYPYPATH": str(Path(cg.__file__).parents[1])}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=500
        )

    def test_the_formatter_changes_nothing(
        self, written: Callable[[str], Path], bound_file: Path, tmp_path: Path
    ) -> None:
        files = self.files(written, bound_file)
        done = self.run("ruff", "format", "--isolated", "--line-length=120", "--diff", *files, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr

    def test_the_linter_finds_nothing(self, written: Callable[[str], Path], bound_file: Path, tmp_path: Path) -> None:
        files = self.files(written, bound_file)
        rules = "--select=E,F,W,I,B,UP,RUF"
        done = self.run(
            "ruff",
            "check",
            "--isolated",
            "--line-length=120",
            rules,
            "--ignore=E741,RUF001,RUF002,RUF003",
            *files,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("version", ["3.10", "3.13"])
    def test_the_type_checker_accepts_it(
        self, written: Callable[[str], Path], bound_file: Path, tmp_path: Path, version: str
    ) -> None:
        use = bound_file.with_name("use.py")
        use.write_text(
            "import ctypes\n"
            "from bound import callbacks, colour, lib, nested, node, point\n"
            "x: float = lib.midpoint(point(0.0, 1.0), point()).x\n"
            "y: bytes | None = lib.name_of(colour.RED)\n"
            "z: int = nested().low\n"
            "lib.visit(node(), None, None)\n"
            "lib.midpoint(point(), ctypes.byref(point()))\n"
            "lib.sum_of(2, 3, 4)\n"
            "lib.total([1.0], 1)\n"
            "callbacks().change = None\n"
        )
        wrong = bound_file.with_name("wrong.py")
        wrong.write_text(
            "from bound import colour, lib, point\n"
            "lib.midpoint(1, None)\n"
            "lib.name_of('red')\n"
            "lib.no_such_function()\n"
            "point().z\n"
            "lib.store_value(point())\n"
        )
        options = ("--strict", "--python-version", version, "--no-error-summary")
        done = self.run("mypy", *options, *self.files(written, bound_file), str(use), cwd=tmp_path)
        assert done.stdout == ""
        done = self.run("mypy", *options, str(wrong), cwd=bound_file.parent)
        assert [line.split(":")[1] for line in done.stdout.splitlines() if "error" in line] == ["2", "3", "4", "5", "6"]

    def test_the_other_type_checker_accepts_it(
        self, written: Callable[[str], Path], bound_file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(Path(cg.__file__).parents[1])]}))
        files = self.files(written, bound_file)
        done = self.run(
            "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path), "--outputjson", *files, cwd=tmp_path
        )
        report = json.loads(done.stdout[done.stdout.index("{") :])
        assert report["generalDiagnostics"] == []
        assert report["summary"]["filesAnalyzed"] == len(files)
