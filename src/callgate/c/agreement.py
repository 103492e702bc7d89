"""Whether two declarations mean the same C types to a caller."""

from __future__ import annotations

from collections.abc import Sequence

from callgate.c.layout import record_layout, size_bytes
from callgate.c.types import (
    VOID,
    Array,
    CType,
    Enumeration,
    FunctionPrototype,
    Kind,
    Pointer,
    Record,
    Scalar,
    Void,
)
from callgate.errors import DeclarationError
from callgate.target import Target


def _kind_and_size(ctype: CType, target: Target) -> tuple[object, int]:
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if isinstance(ctype, Scalar):
        return ctype.kind, size_bytes(ctype, target)
    if isinstance(ctype, Record):
        try:
            return "a struct", record_layout(ctype, target).size_bytes
        except DeclarationError:
            return "a struct", 0
    return ("nothing", 0) if ctype == VOID else ("a pointer", target.pointer_bytes)


def agree(one: CType, other: CType, target: Target) -> bool:
    """Whether two types are the same to a caller; what void *, structs and functions point to is left open."""
    if _kind_and_size(one, target) != _kind_and_size(other, target):
        return False
    pointees = [t.to if isinstance(t, Pointer) else t.element for t in (one, other) if isinstance(t, (Pointer, Array))]
    if len(pointees) != 2 or any(isinstance(t, (Void, Record, FunctionPrototype)) for t in pointees):
        return True
    sizes = [_kind_and_size(t, target) for t in pointees]
    are_bytes = all(size == 1 and kind is not Kind.BOOLEAN for kind, size in sizes)
    return are_bytes or agree(pointees[0], pointees[1], target)


def disagreement(one: Sequence[CType], other: Sequence[CType], target: Target) -> int | None:
    """The index of the first pair of types that are not the same, -1 for another count, None where all agree."""
    if len(one) != len(other):
        return -1
    for index, pair in enumerate(zip(one, other, strict=True)):
        if not agree(*pair, target):
            return index
    return None
