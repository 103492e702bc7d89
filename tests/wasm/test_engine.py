"""Which engine runs a module, and why not another."""

from __future__ import annotations

import pytest

from callgate import wasm
from callgate.errors import EngineError
from callgate.wasm import instance
from callgate.wasm.instance import choose_engine

EMPTY = b"\0asm\1\0\0\0"


@pytest.fixture
def compiled() -> None:
    try:
        choose_engine("compiled")
    except EngineError as reason:
        pytest.skip(f"no compiled mode here: {reason}")


def test_portable_is_always_there() -> None:
    assert wasm.Module(EMPTY, engine="portable").engine == "portable"


@pytest.mark.usefixtures("compiled")
def test_machine_code_is_taken_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLGATE_ENGINE", raising=False)
    assert wasm.Module(EMPTY, cache=False).engine == "compiled"
    monkeypatch.setenv("CALLGATE_ENGINE", "ctypes")
    assert wasm.Module(EMPTY, cache=False).engine == "portable"
    assert wasm.Module(EMPTY, cache=False, engine="compiled").engine == "compiled"


@pytest.mark.usefixtures("compiled")
def test_a_processor_without_sse41(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "cpu_features", lambda: frozenset({"popcnt"}))
    assert wasm.Module(EMPTY).engine == "portable"
    with pytest.raises(EngineError) as problem:
        wasm.Module(EMPTY, engine="compiled")
    assert str(problem.value) == (
        "WebAssembly is compiled for processors with SSE4.1, which /proc/cpuinfo does not show; "
        'engine="portable" runs everywhere'
    )


def test_another_word() -> None:
    with pytest.raises(ValueError) as problem:
        wasm.Module(EMPTY, engine="fast")
    assert str(problem.value) == 'engine=\'fast\' is neither "compiled" nor "portable"'
