"""Objects that own memory or a library, and so must go last."""

from __future__ import annotations

import ctypes

from callgate.target import IS_CPYTHON


def untrack(thing: object) -> None:
    """Take an object from the garbage collector: its `__del__` runs when nothing refers to it, and not before.

    Of a cycle that is no longer reachable the collector first runs all finalizers, then takes it apart.  A finalizer
    may call a gate of the cycle, or keep it.  If what owns the gate's code were among the objects of the cycle, its own
    `__del__` might have run before.  So the owners are not the collector's; they must refer to nothing that refers to
    them.
    """
    if IS_CPYTHON:
        _untrack(thing)


if IS_CPYTHON:
    _untrack = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("PyObject_GC_UnTrack", ctypes.pythonapi))


def keep_for_ever(thing: object) -> None:
    """Never free: C may call into it at any time, also when the interpreter is gone."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def permanent_memory(size_bytes: int) -> int:
    """The address of zeroed memory that is never freed."""
    buffer = ctypes.create_string_buffer(size_bytes)
    keep_for_ever(buffer)
    return ctypes.addressof(buffer)
