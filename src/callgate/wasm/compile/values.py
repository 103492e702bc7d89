"""The operand stack while a body is compiled: where each of its values is, and which registers are free.

An entry is (place, type, payload): a constant's bits, the number of a local that has not been read yet, a register, or
the slot in the frame that belongs to the entry's position.  Values stay where they are until an instruction wants them
elsewhere; a local that is written, a call and the border of a block move them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from callgate.asm.x86_64.registers import RSP
from callgate.wasm.compile.layout import TEMPORARIES, XMM_TEMPORARIES
from callgate.wasm.types import F32, F64, I32, V128

CONSTANT: Final = 0
LOCAL: Final = 1
REGISTER: Final = 2
XMM: Final = 3
SLOT: Final = 4

XMM_TYPES: Final = frozenset((F32, F64, V128))

WINDOW: Final = 64
"""How many values on top of the stack may be elsewhere than in their slots: looking for them takes no longer."""


class Entry(NamedTuple):
    """A value of the operand stack."""

    place: int
    type: int
    payload: int


class Values:
    """The operand stack and the registers for it.

    `pins` has the register of each local, -1 where it lies in memory; `homes` its place in the frame.
    """

    __slots__ = ("a", "first_slot", "free", "free_xmm", "homes", "pins", "slot_bytes", "stack", "types")

    def __init__(self, a: Any) -> None:
        self.a = a
        self.stack: list[Entry] = []
        self.free = list(TEMPORARIES[::-1])
        self.free_xmm = list(XMM_TEMPORARIES[::-1])
        self.pins: list[int] = []
        self.homes: list[int] = []
        self.types: tuple[int, ...] = ()
        self.first_slot = 0
        self.slot_bytes = 8

    # -- the part of the stack that is looked at -----------------------------------------------------------------------
    def window(self) -> Iterable[tuple[int, Entry]]:
        """The top of the stack with the positions; what is deeper is a constant or in its slot."""
        start = len(self.stack) - WINDOW
        return enumerate(self.stack) if start <= 0 else enumerate(self.stack[start:], start)

    def narrow(self, before: int) -> None:
        """The stack grew from this depth: values that are now below the window go to their slots."""
        for position in range(max(0, before - WINDOW), len(self.stack) - WINDOW):
            entry = self.stack[position]
            if entry.place not in (CONSTANT, SLOT):
                self._store_entry(position, entry)
                if entry.place == REGISTER:
                    self.free.append(entry.payload)
                elif entry.place == XMM:
                    self.free_xmm.append(entry.payload)

    # -- registers ----------------------------------------------------------------------------------------------------
    def take(self) -> int:
        """A free temporary; where there is none, the deepest value in one goes to its slot."""
        if self.free:
            return self.free.pop()
        for position, entry in self.window():
            if entry.place == REGISTER:
                self._store_entry(position, entry)
                return entry.payload
        raise AssertionError("no temporary is free and none is in use")

    def take_xmm(self) -> int:
        """As `take`, an XMM register."""
        if self.free_xmm:
            return self.free_xmm.pop()
        for position, entry in self.window():
            if entry.place == XMM:
                self._store_entry(position, entry)
                return entry.payload
        raise AssertionError("no temporary is free and none is in use")

    def take_this(self, register: int) -> None:
        """Take a certain temporary, whose value moves to its slot."""
        if register in self.free:
            self.free.remove(register)
            return
        for position, entry in self.window():
            if entry.place == REGISTER and entry.payload == register:
                self._store_entry(position, entry)
                return
        raise AssertionError(f"register {register} is in use")

    def release(self, register: int) -> None:
        """Give a register back; nothing for that of a local."""
        if register in TEMPORARIES:
            self.free.append(register)

    def release_xmm(self, register: int) -> None:
        """As `release`, an XMM register."""
        if register in XMM_TEMPORARIES:
            self.free_xmm.append(register)

    def release_all(self) -> None:
        """No value is in a register."""
        self.free = list(TEMPORARIES[::-1])
        self.free_xmm = list(XMM_TEMPORARIES[::-1])

    # -- entries ------------------------------------------------------------------------------------------------------
    def push(self, register: int, value: int) -> None:
        """A value in a temporary."""
        self.stack.append(Entry(REGISTER, value, register))

    def push_xmm(self, register: int, value: int) -> None:
        """A value in an XMM temporary."""
        self.stack.append(Entry(XMM, value, register))

    def slot(self, position: int) -> int:
        """The place in the frame of the value at a position of the stack."""
        return self.first_slot + self.slot_bytes * position

    def pin_of(self, entry: Entry) -> int:
        """The register of the local that a value is still to be read from; -1 where it is not in one."""
        return self.pins[entry.payload] if entry.place == LOCAL else -1

    def gpr(self, entry: Entry, position: int) -> int:
        """The register that has an integer or a reference: a temporary, or a local's, which must not be changed.

        `position` is the entry's in the stack, from which it has been taken.
        """
        place, _value, payload = entry
        if place == REGISTER:
            return payload
        if place == LOCAL:
            pin = self.pins[payload]
            if pin >= 0:
                return pin
        register = self.take()
        self.load(register, entry, position)
        return register

    def own(self, entry: Entry, position: int) -> int:
        """As `gpr`, a temporary that may be changed."""
        if entry.place == REGISTER:
            return entry.payload
        register = self.take()
        self.load(register, entry, position)
        return register

    def load(self, register: int, entry: Entry, position: int) -> None:
        """Move an integer or a reference into a register; flags stay as they are."""
        place, value, payload = entry
        a = self.a
        if place == CONSTANT:
            a.mov_ri(register, payload & (0xFFFF_FFFF if value == I32 else 0xFFFF_FFFF_FFFF_FFFF))
            return
        if place == REGISTER or (place == LOCAL and self.pins[payload] >= 0):
            source = payload if place == REGISTER else self.pins[payload]
            if source != register:
                (a.mov32_rr if value == I32 else a.mov_rr)(register, source)
            return
        offset = self.homes[payload] if place == LOCAL else self.slot(position)
        (a.mov32_rm if value == I32 else a.mov_rm)(register, RSP, offset)

    def xmm(self, entry: Entry, position: int) -> int:
        """The XMM register that has a float or a vector: a temporary, or a local's, which must not be changed."""
        place, _value, payload = entry
        if place == XMM:
            return payload
        if place == LOCAL:
            pin = self.pins[payload]
            if pin >= 0:
                return pin
        register = self.take_xmm()
        self.load_xmm(register, entry, position)
        return register

    def own_xmm(self, entry: Entry, position: int) -> int:
        """As `xmm`, a temporary that may be changed."""
        if entry.place == XMM:
            return entry.payload
        register = self.take_xmm()
        self.load_xmm(register, entry, position)
        return register

    def load_xmm(self, register: int, entry: Entry, position: int) -> None:
        """Move a float or a vector into an XMM register; flags stay as they are."""
        place, value, payload = entry
        a = self.a
        if place == CONSTANT:
            self.constant_xmm(register, value, payload)
            return
        if place == XMM or (place == LOCAL and self.pins[payload] >= 0):
            source = payload if place == XMM else self.pins[payload]
            if source != register:
                a.movaps_xx(register, source)
            return
        offset = self.homes[payload] if place == LOCAL else self.slot(position)
        if value == F64:
            a.movsd_xm(register, RSP, offset)
        elif value == F32:
            a.movss_xm(register, RSP, offset)
        else:
            a.movups_xm(register, RSP, offset)

    def constant_xmm(self, register: int, value: int, bits: int) -> None:
        """Load a constant, whose bits come through a general register or from the end of the function."""
        raise NotImplementedError

    # -- moving entries -----------------------------------------------------------------------------------------------
    def store(self, base: int, offset: int, entry: Entry, position: int) -> None:
        """Store a value in memory; flags stay as they are."""
        place, value, payload = entry
        a = self.a
        if value in XMM_TYPES:
            if place == CONSTANT and value != V128:
                if value == F32:
                    a.mov32_mi(base, offset, payload)
                    return
                if -(1 << 31) <= payload < 1 << 31:
                    a.mov_mi(base, offset, payload)
                    return
            register = self.xmm(entry, position)
            self.store_xmm(base, offset, register, value)
            if place != XMM:
                self.release_xmm(register)
            return
        if place == CONSTANT:
            if value == I32:
                a.mov32_mi(base, offset, payload & 0xFFFF_FFFF)
                return
            if -(1 << 31) <= payload < 1 << 31:
                a.mov_mi(base, offset, payload)
                return
        register = self.gpr(entry, position)
        (a.mov32_mr if value == I32 else a.mov_mr)(base, offset, register)
        if place != REGISTER:
            self.release(register)

    def store_xmm(self, base: int, offset: int, register: int, value: int) -> None:
        """Store a float or a vector from a register."""
        if value == F64:
            self.a.movsd_mx(base, offset, register)
        elif value == F32:
            self.a.movss_mx(base, offset, register)
        else:
            self.a.movups_mx(base, offset, register)

    def _store_entry(self, position: int, entry: Entry) -> None:
        """Move a value to its slot; its register is the caller's."""
        self.store(RSP, self.slot(position), entry, position)
        self.stack[position] = Entry(SLOT, entry.type, 0)

    def spill(self) -> None:
        """Move all values in temporaries to their slots."""
        for position, entry in self.window():
            if entry.place == REGISTER:
                self._store_entry(position, entry)
                self.free.append(entry.payload)
            elif entry.place == XMM:
                self._store_entry(position, entry)
                self.free_xmm.append(entry.payload)

    def flush(self) -> None:
        """Move all values but constants to their slots, as at the border of a block."""
        for position in range(max(0, len(self.stack) - WINDOW), len(self.stack)):
            entry = self.stack[position]  # now: storing one that is in memory may have moved another
            if entry.place in (REGISTER, XMM, LOCAL):
                self._store_entry(position, entry)
                if entry.place == REGISTER:
                    self.free.append(entry.payload)
                elif entry.place == XMM:
                    self.free_xmm.append(entry.payload)

    def settle(self, local: int) -> None:
        """Read a local that is about to be written for the values of the stack that are still to be read from it."""
        for position, (place, value, payload) in self.window():
            if place == LOCAL and payload == local:
                entry = self.stack[position]
                if value in XMM_TYPES:
                    register = self.take_xmm()
                    self.load_xmm(register, entry, position)
                    self.stack[position] = Entry(XMM, value, register)
                else:
                    register = self.take()
                    self.load(register, entry, position)
                    self.stack[position] = Entry(REGISTER, value, register)
