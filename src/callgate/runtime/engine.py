"""Which engine serves: the native one wherever it can run, the ctypes engine elsewhere or where it is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from callgate.errors import EngineError, ImageError
from callgate.runtime.debugging import IS_DEBUGGED, IS_PROFILED
from callgate.runtime.declared import Watch
from callgate.runtime.environment import is_asked_for
from callgate.runtime.image import MappedImage, image_paths
from callgate.runtime.locks import ProcessLock
from callgate.runtime.native import NativeEngine, machine_here
from callgate.target import HOST

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


IMAGES: dict[str, str] = {}
"""The images that were found, by path, each with why it is not used, or "" where it is."""

_asked: set[object] = set()  # modules whose images were looked for
_adopting = ProcessLock()


def what_forbids_images() -> str:
    """The variable of the environment that asks for what no gate of an image does, "" where there is none."""
    switches = {
        "CALLGATE_ENGINE": is_ctypes_asked_for(),
        "CALLGATE_CHECK": is_asked_for("CALLGATE_CHECK"),
        "CALLGATE_DEBUG": IS_DEBUGGED,
        "CALLGATE_PERF": IS_PROFILED,
    }
    return next((name for name, is_on in switches.items() if is_on), "")


def use_images_of(names: Mapping[str, object]) -> None:
    """Before a module's first declaration: take code from what `callgate build` made of it; `names` are its globals.

    An image that cannot be used is told of by a RuntimeWarning, and gates are made as if it were not there.  Nothing
    is said where there could be no machine code anyway.
    """
    key = names.get("__file__") or names.get("__name__")
    if key in _asked:
        return
    problems = []
    with _adopting.here:
        _asked.add(key)
        if HOST is None or Watch.current is not None or what_forbids_images():
            return
        for path in image_paths(names, HOST):
            if path not in IMAGES and os.path.lexists(path):
                try:
                    _take(path)
                    IMAGES[path] = ""
                except ImageError as problem:
                    IMAGES[path] = str(problem)
                    problems.append(IMAGES[path])
                except EngineError as problem:
                    IMAGES[path] = f"{path} is not run: {problem}"
    for text in problems:  # shown by code of the program's, which may import other modules
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _take(path: str) -> None:
    """Let the native engine take code from an image; where none could be made the image's routines make it run.

    Raises ImageError for an image that cannot be used, EngineError where no machine code can be made.
    """
    native = _made.get("native")
    image = MappedImage(path, native.machine if isinstance(native, NativeEngine) else machine_here())
    native = _made.get("native")  # another module may have been first
    if isinstance(native, NativeEngine):
        native.add_image(image)
    else:
        _made["native"] = NativeEngine(image.machine.layout, image)


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
