"""Which engine serves: `engine=` of a function, of a library, CALLGATE_ENGINE, and what is possible."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from children import run_child
from here import MATH_FILE

import callgate as cg
from callgate import f64, i32
from callgate.runtime import engine as engine_module
from callgate.runtime import native as native_module
from callgate.runtime.engine import choose, native_engine

try:
    native_engine()
    HAS_NATIVE = True
except cg.EngineError:
    HAS_NATIVE = False

BEST = "native" if HAS_NATIVE else "ctypes"
needs_native = pytest.mark.skipif(not HAS_NATIVE, reason="no machine code can be made here")
TEXT = "double cos(double x); int abs(int x);"
REFUSAL = "no machine code can be made for this platform yet"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLGATE_ENGINE", raising=False)


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a platform that no machine code can be made for."""
    monkeypatch.setattr(engine_module, "_made", {})
    monkeypatch.setattr(native_module, "HOST", None)


def engine_of(library: Any, **options: Any) -> str:
    @library.function(**options)
    def cos(x: f64) -> f64: ...

    assert cos(0.0) == 1.0
    engine: str = cg.gate(cos).engine
    return engine


def of_protocol(engine: str | None, own: str | None) -> str:
    class LibM(Protocol):
        @cg.function(engine=own)
        def cos(self, x: f64, /) -> f64: ...

    library = cg.load("m", LibM, engine=engine)
    assert library.cos(0.0) == 1.0
    return cg.gate(library.cos).engine


def of_text(engine: str | None) -> str:
    library = cg.load("m", TEXT, engine=engine)
    assert library.cos(0.0) == 1.0
    return cg.gate(library.cos).engine


def at_address(engine: str | None) -> str:
    address = ctypes.cast(ctypes.CDLL(MATH_FILE).cos, ctypes.c_void_p).value

    @cg.function(at=address, engine=engine)
    def cos(x: f64) -> f64: ...

    assert cos(0.0) == 1.0
    return cg.gate(cos).engine


def from_ctypes(engine: str | None) -> str:
    foreign = ctypes.CDLL(MATH_FILE).cos
    foreign.argtypes, foreign.restype = [ctypes.c_double], ctypes.c_double
    function = cg.gate_from(foreign, engine=engine)
    assert function(0.0) == 1.0
    return cg.gate(function).engine


WAYS: dict[str, Callable[[str | None], str]] = {
    "function": lambda engine: engine_of(cg.load("m"), engine=engine),
    "library": lambda engine: engine_of(cg.load("m", engine=engine)),
    "protocol": lambda engine: of_protocol(engine, None),
    "protocol's function": lambda engine: of_protocol(None, engine),
    "text": of_text,
    "address": at_address,
    "gate_from": from_ctypes,
}


@pytest.mark.parametrize("way", WAYS)
class TestEveryWay:
    def test_default(self, way: str) -> None:
        assert WAYS[way](None) == BEST

    def test_ctypes(self, way: str) -> None:
        assert WAYS[way]("ctypes") == "ctypes"

    @needs_native
    def test_native(self, way: str) -> None:
        assert WAYS[way]("native") == "native"

    def test_unknown(self, way: str) -> None:
        with pytest.raises(cg.EngineError) as caught:
            WAYS[way]("turbo")
        assert str(caught.value) == "engine=turbo: no such engine; choose native or ctypes"

    def test_variable(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CALLGATE_ENGINE", "ctypes")
        assert WAYS[way](None) == "ctypes"
        monkeypatch.setenv("CALLGATE_ENGINE", "")
        assert WAYS[way](None) == BEST
        monkeypatch.setenv("CALLGATE_ENGINE", "Native")
        with pytest.raises(cg.EngineError) as caught:
            WAYS[way](None)
        assert str(caught.value) == "CALLGATE_ENGINE=Native: no such engine; choose native or ctypes"

    @needs_native
    def test_what_is_declared_goes_before_the_variable(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CALLGATE_ENGINE", "ctypes")
        assert WAYS[way]("native") == "native"
        monkeypatch.setenv("CALLGATE_ENGINE", "native")
        assert WAYS[way]("ctypes") == "ctypes"
        monkeypatch.setenv("CALLGATE_ENGINE", "turbo")
        assert (WAYS[way]("ctypes"), WAYS[way]("native")) == ("ctypes", "native")

    def test_no_native(self, way: str, no_native: None, monkeypatch: pytest.MonkeyPatch) -> None:
        assert WAYS[way](None) == "ctypes"
        assert WAYS[way]("ctypes") == "ctypes"
        for _ in range(2):
            with pytest.raises(cg.EngineError) as caught:
                WAYS[way]("native")
            assert str(caught.value) == REFUSAL
        monkeypatch.setenv("CALLGATE_ENGINE", "native")
        with pytest.raises(cg.EngineError) as caught:
            WAYS[way](None)
        assert str(caught.value) == REFUSAL
        assert WAYS[way]("ctypes") == "ctypes"


@needs_native
@pytest.mark.parametrize(
    ("library", "function", "served"), [("ctypes", "native", "native"), ("native", "ctypes", "ctypes")]
)
def test_a_function_goes_before_its_library(library: str, function: str, served: str) -> None:
    loaded = cg.load("m", engine=library)
    assert engine_of(loaded, engine=function) == served
    assert engine_of(loaded) == library
    assert of_protocol(library, function) == served


@needs_native
def test_engines_in_one_library() -> None:
    library = cg.load("c")

    @library.function(engine="ctypes")
    def labs(x: cg.long) -> cg.long: ...

    @library.function
    def abs(x: i32) -> i32: ...

    assert (cg.gate(labs).engine, cg.gate(abs).engine) == ("ctypes", "native")
    assert (labs(-3), abs(-3)) == (3, 3)
    assert cg.gate(labs).listing == ""
    assert cg.gate(abs).listing
    assert (cg.gate(labs).code_bytes, cg.gate(labs).code_address) == (0, 0)
    assert "ctypes" in repr(cg.gate(labs))


def test_a_failed_probe_is_reported_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def probe() -> None:
        tries.append(1)
        raise cg.EngineError("ints have moved to the moon")

    if native_module.HOST is None:
        pytest.skip("no machine code can be made here")
    monkeypatch.setattr(engine_module, "_made", {})
    monkeypatch.setattr(native_module, "probe", probe)
    assert choose(None) is None
    assert choose("ctypes") is None
    for _ in range(3):
        with pytest.raises(cg.EngineError, match=r"^ints have moved to the moon$"):
            choose("native")
    assert len(tries) == 1


@needs_native
def test_one_engine_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that come first at the same time get the same engine."""
    monkeypatch.setattr(engine_module, "_made", {})
    barrier = threading.Barrier(8)
    probe = native_module.probe

    def slow_probe() -> object:
        barrier.wait()
        return probe()

    monkeypatch.setattr(native_module, "probe", slow_probe)
    found = []
    threads = [threading.Thread(target=lambda: found.append(native_engine())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert choose("native") is found[0]


@pytest.mark.parametrize(("variable", "expected"), [("native", BEST), ("ctypes", "ctypes"), ("", BEST)])
def test_a_program(variable: str, expected: str) -> None:
    if variable == "native" and not HAS_NATIVE:
        pytest.skip("no machine code can be made here")
    out, _ = run_child(
        """
        import callgate as cg
        library = cg.load("m", "double cos(double x);")
        print(cg.gate(library.cos).engine, library.cos(0.0))
        """,
        CALLGATE_ENGINE=variable,
    )
    assert out == f"{expected} 1.0\n"


def test_a_program_with_an_unknown_engine() -> None:
    """`import callgate` and `load` do no more than they must; the first function tells."""
    _, error = run_child(
        """
        import callgate as cg
        library = cg.load("m", "double cos(double x);")
        library.cos
        """,
        status=1,
        CALLGATE_ENGINE="fast",
    )
    assert error.splitlines()[-1] == (
        "callgate.errors.EngineError: CALLGATE_ENGINE=fast: no such engine; choose native or ctypes"
    )


def test_memory_refused_later_than_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """After gates were made natively, the next one falls back, unless the native engine is asked for."""
    monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
    first = cg.load("c", "int abs(int n);")
    if cg.gate(first.abs).engine != "native":
        pytest.skip("no native engine here")

    def refuse(*_: object) -> None:
        raise cg.EngineError("refused by the test")

    text = "int toupper(int a);"
    monkeypatch.setattr(native_module.NativeEngine, "install", refuse)
    second = cg.load("c", text)
    assert (second.toupper(97), cg.gate(second.toupper).engine) == (65, "ctypes")
    with pytest.raises(cg.EngineError, match=r"^refused by the test$"):
        cg.load("c", text, engine="native").toupper(97)
    assert first.abs(-3) == 3
