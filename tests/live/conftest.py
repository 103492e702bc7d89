"""The library of the live suite, bound with the engine under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy_here import REASON, needs_numpy

import callgate as cg
from callgate.target import IS_CPYTHON

TARGETS = Path(__file__).with_name("targets.c")


PYPY_LACKS = {
    "longdouble": "PyPy's ctypes has no long double",
    "long_double": "PyPy's ctypes has no long double",
    "long double": "PyPy's ctypes has no long double",
    "arguments_in_registers_and_on_the_stack": "PyPy's ctypes has no long double",
    "test_any_number_of_arguments[ctypes-mixed": "PyPy's ctypes has no long double",
    "test_wchar[ctypes-'abc'": "PyPy's ctypes takes the first of many wide characters",
    "test_a_wide_character_that_is_none": "PyPy says otherwise which wide characters there are not",
    "test_wide_strings_as_results": "PyPy takes any number for a wide character",
    "test_subclasses_are_what_they_hold": "PyPy's ctypes asks a str's subclass for its length",
    "test_ctypes_strings": "PyPy's arrays of char have no buffer that callgate could measure",
    "test_a_char_array_without_a_nul": "PyPy's arrays of char have no buffer that callgate could measure",
    "test_char_pointers_of_c_text": "PyPy's pointers have no address that callgate could read",
    "test_memory_stays_held": "PyPy frees objects later",
    "test_blocking_functions_let": "PyPy's ctypes always lets other threads run",
    "test_a_library_that_is_not_there": "PyPy words it otherwise",
    "test_functions_by_decorator": "PyPy's builtins are functions",
    "test_one_function_on_another_engine": "there is one engine",
    "test_the_environment_chooses[native": "there is one engine",
}
"""What the ctypes engine cannot do on PyPy: part of a test's name, and why."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(needs_numpy(value) for value in values):
            item.add_marker(pytest.mark.skip(reason=REASON))
    for item in [] if IS_CPYTHON else items:
        for part, reason in PYPY_LACKS.items():
            if part in item.name:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def targets(build_library: Callable[..., Path]) -> str:
    """The path of the built targets.c."""
    return str(build_library(TARGETS))


@pytest.fixture
def bound(engine: str, targets: str) -> Callable[..., Any]:
    """`load` for the targets, on the engine under test."""

    def load(*declarations: Any, **options: Any) -> Any:
        return cg.load(targets, *declarations, engine=engine, **options)

    return load


@pytest.fixture
def typed_as(bound: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the targets from annotations: `typed_as("id_i32", i32, i32, **options)`, the result last."""

    def declare(
        symbol: str, *annotations: Any, name: str | None = None, positional: bool = True, **options: Any
    ) -> Any:
        names = [f"x{number}" for number in range(1, len(annotations))]
        scope: dict[str, Any] = {}
        parameters = ", ".join(names) + (", /" if names and positional else "")
        exec(f"def {name or symbol}({parameters}): ...", scope)
        function = scope[name or symbol]
        function.__annotations__ = dict(zip([*names, "return"], annotations, strict=True))
        return bound().function(**({"symbol": symbol} if name else {}), **options)(function)

    return declare
