"""What of modules and instances can be copied and pickled, and what is said of the rest."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from assemble import load
from test_exports import NUMBERS, TEXTS, Texts

import callgate as cg
from callgate import wasm

ADVICE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Instance": (lambda instance: instance, "instantiate the module there"),
    "Exports": (lambda instance: instance.exports, "instantiate the module there"),
    "Module": (lambda instance: instance.module, "load its bytes there"),
    "Memory": (lambda instance: instance.memory, "send what `read` gives"),
    "Table": (lambda instance: instance.exports.table, "make one there"),
    "Global": (lambda instance: instance.exports.counter, "make one there"),
    "Function": (lambda instance: instance.exports.table[0], "instantiate the module there"),
}


@pytest.mark.usefixtures("mode")
class TestWhatBelongsToTheProcess:
    @pytest.mark.parametrize("name", ADVICE)
    @pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_is_not_copied(self, name: str, way: Callable[[object], object]) -> None:
        find, advice = ADVICE[name]
        instance = load(NUMBERS)
        with pytest.raises(TypeError) as problem:
            way(find(instance))
        assert str(problem.value) == f"cannot copy or pickle {name!r}, which belongs to this process; {advice}"
        assert instance.exports.add(1, 2) == 3

    def test_functions(self) -> None:
        texts = load(TEXTS, Texts)
        with pytest.raises(TypeError, match="cannot copy or pickle 'TypedFunction'"):
            pickle.dumps(texts.exports.echo)
        numbers = load(NUMBERS)
        assert copy.deepcopy(numbers.exports.add) is numbers.exports.add


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            wasm.BinaryError("unexpected end", 11),
            wasm.ValidationError("type mismatch", 5, "add"),
            wasm.LinkError(("unknown import a.b", "unknown import a.c"), "do this"),
            wasm.DivisionByZero(None, (wasm.Frame(1, "f", 2),)),
        ],
    )
    def test_are_pickled(self, error: Exception) -> None:
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_limits_are_pickled() -> None:
    limits = wasm.Limits(fuel=5, timeout_s=0.5)
    assert pickle.loads(pickle.dumps(limits)) == copy.deepcopy(limits) == limits


def test_libraries_and_gates_are_not() -> None:
    library = cg.load("m", "double cos(double x);")
    for thing, name, advice in (
        (library, "Library", "load the library there"),
        (cg.gate(library.cos), "Gate", "declare the function there"),
    ):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError) as problem:
                way(thing)
            assert str(problem.value) == f"cannot copy or pickle {name!r}, which belongs to this process; {advice}"
    assert library.cos(0.0) == 1.0
