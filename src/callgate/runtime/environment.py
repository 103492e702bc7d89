"""What the environment asks of callgate: the variables that are switches."""

from __future__ import annotations

import os


def is_asked_for(variable: str) -> bool:
    """Whether an environment variable is set to something other than 0."""
    return os.environ.get(variable, "0") not in ("", "0")
