"""Which engine serves: the native one wherever it can run, the ctypes engine elsewhere or where it is asked for."""

from __future__ import annotations

import os

from callgate.errors import EngineError
from callgate.runtime.native import NativeEngine

_ENGINES = ("native", "ctypes")
_made: dict[str, NativeEngine | EngineError] = {}  # the one native engine, or why there is none


def native_engine() -> NativeEngine:
    """The process's native engine; EngineError with the reason where there can be none."""
    native = _made.get("native")
    if native is None:
        try:
            native = NativeEngine()
        except EngineError as reason:
            native = reason
        native = _made.setdefault("native", native)  # another thread may have been first
    if isinstance(native, EngineError):
        raise EngineError(str(native))
    return native


def choose(wanted: str | None) -> NativeEngine | None:
    """The engine for a function, None for the ctypes engine.

    `wanted` is the declaration's `engine=`; without it the environment variable CALLGATE_ENGINE decides, and
    without that the native engine wherever it can run.  Asked for by name, it must run: EngineError.
    """
    source = "engine="
    if wanted is None:
        wanted = os.environ.get("CALLGATE_ENGINE") or None
        source = "CALLGATE_ENGINE="
    if wanted == "ctypes":
        return None
    if wanted is not None and wanted not in _ENGINES:
        raise EngineError(f"{source}{wanted}: no such engine; choose native or ctypes")
    try:
        return native_engine()
    except EngineError:
        if wanted is not None:
            raise
        return None


def is_ctypes_asked_for() -> bool:
    """Whether CALLGATE_ENGINE names the ctypes engine, so that what ctypes serves already stays with it."""
    return os.environ.get("CALLGATE_ENGINE") == "ctypes"


def engine_beside_ctypes() -> NativeEngine:
    """The engine for functions that ctypes serves already; EngineError with the reason where they stay with ctypes."""
    if is_ctypes_asked_for():
        raise EngineError("CALLGATE_ENGINE=ctypes asks for ctypes")
    choose(None)  # refuses what names no engine
    return native_engine()


def is_native_asked_for(wanted: str | None) -> bool:
    """Whether `engine=` or CALLGATE_ENGINE names the native engine, so that no other may take its place."""
    return (wanted or os.environ.get("CALLGATE_ENGINE")) == "native"
