"""NumPy as `np`, or what stands in for it where an interpreter has none: a test that uses it is skipped, and no other.

Values in a test's parameters are made when tests are collected; there the stand-in gives ABSENT, and conftest.py skips
the case.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

REASON = "NumPy is not here"


class _Absent:
    """What NumPy would have made."""

    def __repr__(self) -> str:
        return "absent"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self()

    def __call__(self, *_: object, **__: object) -> Any:
        if "PYTEST_CURRENT_TEST" in os.environ:
            pytest.skip(REASON)
        return self

    def __getitem__(self, _: object) -> Any:
        return self()


ABSENT = _Absent()


def needs_numpy(value: object) -> bool:
    """Whether a parameter of a test is or holds what NumPy would have made."""
    return value is ABSENT or (isinstance(value, tuple) and any(needs_numpy(one) for one in value))


np: Any
try:
    import numpy as np
except ImportError:
    np = ABSENT
