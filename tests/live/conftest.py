"""The library of the live suite, bound with the engine under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import callgate as cg

TARGETS = Path(__file__).with_name("targets.c")


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
