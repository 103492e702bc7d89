"""`callgate build`: the images of a module, made ahead of time.

The module is imported, and what it declares meanwhile is watched; the functions of its libraries that are bound when
first used are bound as well.  Then each target and Python gets an image with the code of all shapes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from callgate import __version__
from callgate.abi.plan import classify, classify_types
from callgate.bind import declared_with
from callgate.c.types import CallbackType, declaration
from callgate.cpython.conversion import convert_callback
from callgate.cpython.layout import PYTHONS, Layout
from callgate.errors import CallgateError, EngineError
from callgate.library import Library
from callgate.lower.call import lower_call
from callgate.lower.callback import lower_callback
from callgate.lower.image import Built, Piece, build_image, image_facts, shape_key
from callgate.lower.image_text import image_text
from callgate.lower.machine import Machine
from callgate.runtime.checked_file import why_refused, write_checked, write_whole
from callgate.runtime.declared import Declared, Watch
from callgate.runtime.image import THIS_PYTHON, image_name
from callgate.runtime.native import PERSONALITY
from callgate.runtime.probe import probe
from callgate.target import HOST, TARGETS, Target


class Written(NamedTuple):
    """A file that was written, how many shapes of gates and callbacks it has, and why it is not run where it lies."""

    path: str
    shape_count: int
    size_bytes: int
    doubt: str = ""


class Declarations(NamedTuple):
    """What a module declares; `left_out` has what could not be bound, and why."""

    gates: tuple[Declared, ...]
    callbacks: tuple[CallbackType, ...]
    left_out: tuple[str, ...]


def declarations_of(module: str) -> Declarations:
    """Import a module and gather what it declares.

    Raises ImportError, and whatever else the import raises.
    """
    watch = Watch.current = Watch()
    try:
        importlib.import_module(module)
        left_out = _bind_all(library for library in watch.libraries if isinstance(library, Library))
    finally:
        Watch.current = None
    gates, callbacks = list(watch.gates), list(watch.callbacks)
    for declared in gates:  # grows meanwhile
        functions, taken = declared_with(declared)
        gates += functions
        callbacks += taken
    return Declarations(tuple(gates), tuple(callbacks), tuple(left_out))


def _bind_all(libraries: Iterable[Library]) -> list[str]:
    left_out = []
    for library in libraries:
        for name in dir(library):
            try:
                getattr(library, name)
            except CallgateError as problem:
                left_out.append(f"{name}: {problem}")
    return left_out


def machine_for(target_name: str | None, python: str | None) -> tuple[Machine, str]:
    """What an image is made for, with the Python's version; None: as in this process.

    Raises EngineError for what no image can be made for.
    """
    version = python if python is not None else THIS_PYTHON
    return Machine(_target(target_name), _layout(version)), version


def _target(name: str | None) -> Target:
    target = HOST if name is None else TARGETS.get(name)
    if target is None or target.system != "linux":
        known = ", ".join(known.name for known in TARGETS.values() if known.system == "linux")
        raise EngineError(f"images are made for {known}, not for {name or 'this machine'}; choose with --target")
    return target


def _layout(version: str) -> Layout:
    if version == THIS_PYTHON:
        return probe()
    if version not in PYTHONS:
        raise EngineError(
            f"the objects of Python {version} are not known here (known are {', '.join(PYTHONS)}); "
            "run `callgate build` with that Python"
        )
    return PYTHONS[version]


def build(
    module: str, folder: str, declared: Declarations, machine: Machine, python: str, *, with_assembly: bool = False
) -> Iterator[Written]:
    """Write a module's image for one machine and Python, and its text where that is wanted.

    Raises EngineError for a target that has no lowering, DeclarationError for a type that the target does not have,
    OSError.
    """
    built = image_of(declared, machine, python, with_listing=with_assembly)
    path = os.path.join(folder, image_name(module, python, machine.target))
    write_checked(path, built.contents)
    count = sum(bool(placed.piece.key) for placed in built.placed)
    is_ours = HOST is not None and HOST.system == machine.target.system
    yield Written(path, count, len(built.contents), why_refused(path) if is_ours else "")
    if with_assembly:
        text = image_text(built, machine.target.architecture, f"{module} for {machine.target.name} and Python {python}")
        path = f"{path.removesuffix('.gates')}.s"
        write_whole(path, text.encode())
        yield Written(path, count, len(text.encode()))


def image_of(declared: Declarations, machine: Machine, python: str, *, with_listing: bool = False) -> Built:
    """The image of what was declared, for one machine and Python."""
    pieces: dict[bytes, Piece] = {}
    target = machine.target
    for one in declared.gates:
        conversion, plan = one.conversion(target), classify(one.signature, target)
        key = shape_key(conversion, plan)
        if key not in pieces:
            code = lower_call(plan, conversion, machine, with_listing=with_listing)
            pieces[key] = Piece(key, f"gates as for {declaration(one.signature)}", code)
    for called in (*declared.callbacks, PERSONALITY):
        callback_conversion = convert_callback(called, target)
        plan = classify_types([parameter.type for parameter in called.parameters], called.result_type, target)
        key = shape_key(callback_conversion, plan)
        if key not in pieces:
            code = lower_callback(plan, callback_conversion, machine, with_listing=with_listing)
            pieces[key] = Piece(key, f"callbacks as {called.name}", code)
    facts = image_facts(machine, python, __version__)
    return build_image(machine, facts, pieces.values(), with_listing=with_listing)
