"""What the emissions of routines share: entering and leaving, calling a method, the fields of a step."""

from __future__ import annotations

from collections.abc import Callable

from callgate.lower.machine import VIEW_OBJECT
from callgate.lower.operations import R8, R9, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, Operations

# Flags of type objects, of the stable ABI (object.h).
INT_SUBCLASS = 1 << 24
BYTES_SUBCLASS = 1 << 27
STR_SUBCLASS = 1 << 28

SAVED = (RBX, RBP, R12, R13, R14, R15)

# Offsets of the fields of a step (see `machine`).
FIELD_KIND, FIELD_FLAGS, FIELD_SIZE, FIELD_ELEMENT, FIELD_MINIMUM = 0, 1, 2, 3, 4


def enter(a: Operations, name: str, scratch_bytes: int) -> None:
    """Save the callee-saved registers; `scratch_bytes` is 8 more than a multiple of 16."""
    a.label(name)
    a.enter(SAVED, scratch_bytes)


def leave(a: Operations, scratch_bytes: int) -> None:
    a.leave(SAVED, scratch_bytes)
    a.ret()


def call_method(a: Operations, name: str, arguments: Callable[[], None], count: int) -> None:
    """rax = self.name(...): `arguments` loads rdx, rcx, r8 (the first `count` objects); self is in rbx."""
    arguments()
    a.mov_rr(RDI, RBX)
    a.mov_rl(RSI, f"name:{name}")
    end = (RDX, RCX, R8, R9)[count]
    a.xor32_rr(end, end)
    a.note("no vector registers: the callee is variadic")
    a.xor32_rr(RAX, RAX)
    a.call_l("PyObject_CallMethodObjArgs")


def no_view(a: Operations) -> None:
    a.mov_mi(R14, VIEW_OBJECT, 0)
