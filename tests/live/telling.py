"""How the live suite states what a call gives: as text, so that types, signs of zero and messages all count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def told(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """`repr` of what the call returns, or "Type: message" of what it raises."""
    try:
        return repr(call(*arguments, **keywords))
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"


class Index:
    """An object with `__index__`; `effect` is called first."""

    def __init__(self, value: Any, effect: Callable[[], object] = lambda: None) -> None:
        self.value = value
        self.effect = effect

    def __index__(self) -> Any:
        self.effect()
        return self.value


class Float:
    """An object with `__float__`; `effect` is called first."""

    def __init__(self, value: Any, effect: Callable[[], object] = lambda: None) -> None:
        self.value = value
        self.effect = effect

    def __float__(self) -> Any:
        self.effect()
        return self.value


class Problem(Exception):
    """An exception of the tests' own."""


def raising(problem: BaseException) -> Callable[[], object]:
    """A function that raises."""

    def effect() -> object:
        raise problem

    return effect
