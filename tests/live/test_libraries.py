"""Finding libraries and symbols, and the words for what is not there."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import pytest
from here import C_LIBRARY, IS_MUSL, IS_WINDOWS, MATH_FILE, posix_only
from telling import told

import callgate as cg
from callgate import f64, i32

TEXT = "int id_int(int x); double id_f64(double x); int nowhere_to_be_found(int x);"


# -- libraries ------------------------------------------------------------------------------------------------------
def test_short_names_paths_and_the_process(engine: str, targets: str) -> None:
    for name in ("m", MATH_FILE, ["no-such-library", "m"], ("libno-such.so.9", MATH_FILE)):
        assert cg.load(name, "double cos(double x);", engine=engine).cos(0.0) == 1.0
    for path in (targets, Path(targets), [targets], [Path("/no/such.so"), Path(targets)]):
        assert cg.load(path, TEXT, engine=engine).id_int(-3) == -3
    assert cg.load(C_LIBRARY, "int abs(int x);", engine=engine).abs(-3) == 3
    assert cg.load("c", "int abs(int x);", engine=engine).abs(-4) == 4


def test_a_relative_path(engine: str, targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(targets, tmp_path / "here.so")
    monkeypatch.chdir(tmp_path)
    assert cg.load("./here.so", TEXT, engine=engine).id_int(1) == 1


@posix_only("the words are those of its loader")
def test_a_library_that_is_not_there(engine: str, tmp_path: Path) -> None:
    no_elf = tmp_path / "text.so"
    no_elf.write_text("this is no library")
    missing = tmp_path / "missing.so"
    nowhere = "No such file or directory" if IS_MUSL else "cannot open shared object file: No such file or directory"

    def why(file: object, problem: str = nowhere) -> str:
        return f"\n  Error loading shared library {file}: {problem}" if IS_MUSL else f"\n  {file}: {problem}"

    assert told(cg.load, missing, engine=engine) == (
        f"LibraryNotFoundError: cannot load {str(missing)!r}; tried:{why(missing)}"
    )
    assert told(cg.load, "no-such-library", engine=engine) == (
        f"LibraryNotFoundError: cannot load 'no-such-library'; tried:{why('libno-such-library.so')}"
    )
    assert told(cg.load, ["no-such-library", str(missing), str(no_elf)]) == (
        f"LibraryNotFoundError: cannot load 'no-such-library' or {str(missing)!r} or {str(no_elf)!r}; tried:"
        + why("libno-such-library.so")
        + why(missing)
        + why(no_elf, "Exec format error" if IS_MUSL else "file too short")
    )
    with pytest.raises(OSError) as info:
        cg.load("no-such-library")
    assert isinstance(info.value, (cg.LibraryNotFoundError, cg.CallgateError))


def test_names_that_cannot_be() -> None:
    assert told(cg.load, []) == "ValueError: load() needs at least one candidate"
    assert told(cg.load, "") == "TypeError: a library's name must be a non-empty str, not ''"
    assert told(cg.load, ["", "m"]) == "TypeError: a library's name must be a non-empty str, not ''"
    assert told(lambda: cg.load("m", "double cos(double x);", engine="fast").cos) == (
        "EngineError: engine=fast: no such engine; choose native or ctypes"
    )


def test_what_load_takes(targets: str) -> None:
    class Empty(Protocol): ...

    class Typed(Protocol):
        def id_int(self, x: i32) -> i32: ...

    assert told(cg.load, targets, None, Typed) == "TypeError: load() takes typed= only together with C text"
    assert told(cg.load, targets, Typed, Typed) == (
        "TypeError: load() takes C text before a Protocol that types it, or a Protocol alone"
    )
    assert told(cg.load, targets, 5) == "TypeError: load() needs a Protocol class or C text, not int"
    assert told(cg.load, targets, Empty) == "DeclarationError: Empty declares no function"
    assert told(cg.load, targets, "") == (
        "DeclarationError: no declaration was found in the text: write one, such as 'double cos(double x);'"
    )


# -- symbols --------------------------------------------------------------------------------------------------------
def test_attributes_items_and_membership(bound: Any) -> None:
    lib = bound(TEXT)
    assert lib.id_int is lib["id_int"] is lib.id_int
    assert ("id_int" in lib, "id_i8" in lib, "nowhere_to_be_found" in lib, "id_in" in lib, 5 in lib, "" in lib) == (
        True, True, False, False, False, False,
    )  # fmt: skip
    assert IS_WINDOWS or "printf" in lib  # through what the library itself needs
    assert [name for name in dir(lib) if not name.startswith("_")] == [
        "function",
        "id_f64",
        "id_int",
        "nowhere_to_be_found",
    ]
    assert (
        repr(bound(TEXT))
        == f"<library {os.path.basename(cg.gate(lib.id_int).library.path)}: id_f64, id_int, nowhere_to_be_found>"
    )
    assert repr(bound()).endswith(": nothing declared yet>")


def test_symbols_that_are_not_there(bound: Any) -> None:
    lib = bound(TEXT)
    name = os.path.basename(cg.gate(lib.id_int).library.path)
    missing = f"SymbolNotFoundError: {name} has no symbol 'nowhere_to_be_found'"
    assert told(lambda: lib.nowhere_to_be_found) == told(lambda: lib["nowhere_to_be_found"]) == missing
    assert told(lambda: bound()["id_u3"]).startswith(
        f"SymbolNotFoundError: {name} has no symbol 'id_u3'; the nearest are id_u"
    )
    assert (
        told(lambda: bound()["weihg9"]) == f"SymbolNotFoundError: {name} has no symbol 'weihg9'; the nearest are weigh9"
    )
    with pytest.raises(AttributeError):
        lib.nowhere_to_be_found
    assert not hasattr(lib, "nowhere_to_be_found") and hasattr(lib, "id_int")


def test_names_that_are_not_declared(bound: Any) -> None:
    lib = bound(TEXT)
    name = os.path.basename(cg.gate(lib.id_int).library.path)
    undeclared = f"AttributeError: {name} has 'id_i8', but it is not declared; declare it with @library.function, a Protocol or C text"
    assert told(lambda: lib.id_i8) == told(lambda: lib["id_i8"]) == undeclared
    assert told(lambda: lib.id_imt) == "AttributeError: 'id_imt' is not declared; the nearest declared names are id_int"
    assert told(lambda: lib.__wrapped__) == "AttributeError: __wrapped__"


def test_functions_by_decorator(bound: Any) -> None:
    lib = bound()
    name = os.path.basename(str(lib).split()[1].rstrip(":"))

    @lib.function
    def id_int(x: i32) -> i32: ...

    assert lib.id_int is id_int is lib["id_int"]

    @lib.function(symbol="id_f64")
    def same(x: f64) -> f64: ...

    assert (lib.same is same, same(0.5)) == (True, 0.5)

    def id_imt(x: i32) -> i32: ...

    assert told(lib.function, id_imt).startswith(
        f"SymbolNotFoundError: {name} has no symbol 'id_imt'; the nearest are id_int"
    )
    assert lib.function(required=False)(id_imt) is None and lib.id_imt is None
    assert told(lib.function, wrong=1) == (
        "TypeError: function() has no option 'wrong'; the options are at, blocking, engine, error, fails_if, free, length, required, stack_bytes, symbol"
    )
    assert (
        told(lib.function, 5)
        == "DeclarationError: 5 is not a function written in Python; a declaration is a def with `...`"
    )
    assert told(lib.function, len) == (
        "DeclarationError: <built-in function len> is not a function written in Python; a declaration is a def with `...`"
    )


def test_a_declaration_may_be_replaced(bound: Any) -> None:
    lib = bound(TEXT)
    assert lib.id_int(5) == 5

    @lib.function
    def id_int(x: i32, /) -> cg.u32: ...

    assert lib.id_int is id_int
    assert lib.id_int(-1) == 2**32 - 1


def test_at_beside_a_library(bound: Any, targets: str) -> None:
    address = ctypes.cast(ctypes.CDLL(targets).id_int, ctypes.c_void_p).value

    @bound().function(at=address)
    def elsewhere(x: i32) -> i32: ...

    assert (elsewhere(4), cg.gate(elsewhere).address, cg.gate(elsewhere).library) == (4, address, None)


def test_one_function_on_another_engine(bound: Any, engine: str) -> None:
    other = {"native": "ctypes", "ctypes": "native"}[engine]
    lib = bound()

    @lib.function(engine=other)
    def id_int(x: i32) -> i32: ...

    assert (cg.gate(id_int).engine, id_int(3)) == (other, 3)

    @lib.function
    def id_f64(x: f64) -> f64: ...

    assert cg.gate(id_f64).engine == engine


@pytest.mark.parametrize("wanted", ["native", "ctypes", "slow"])
def test_the_environment_chooses(targets: str, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("CALLGATE_ENGINE", wanted)
    lib = cg.load(targets, TEXT)
    if wanted == "slow":
        assert told(lambda: lib.id_int) == "EngineError: CALLGATE_ENGINE=slow: no such engine; choose native or ctypes"
    else:
        assert cg.gate(lib.id_int).engine == wanted
    assert cg.gate(cg.load(targets, TEXT, engine="ctypes").id_int).engine == "ctypes"
