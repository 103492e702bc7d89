"""Calls and closures of ctypes whose arguments travel where a call plan says.

ctypes passes no unions and no bit-fields by value, and libffi gets some structs wrong.  So for functions with values
of several words the plan decides here too: each piece in a register becomes a scalar argument of its own, and the whole
stack area one last struct, which is large enough to go to the stack as it is.  Registers come out as the plan says,
because exactly those that it uses are used, in its order.

On 64-bit Windows every argument takes one slot: a scalar, the bytes of a small struct as an int, or a copy's address.

On AArch64 a large struct goes by address and registers are skipped, so there every register and every eightbyte of the
stack is a scalar argument of its own (`ArmCall`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from callgate.abi.plan import Argument, CallPlan, Class, Piece
from callgate.c.annotations import ctypes_of
from callgate.c.types import CType, Enumeration, Kind, Scalar, spell
from callgate.errors import EngineError
from callgate.target import DATA_MODEL


def raw_type(ctype: CType) -> Any:
    """The ctypes class of a scalar that travels: plain ints for characters, c_void_p for every pointer."""
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if not isinstance(ctype, Scalar):
        return ctypes.c_void_p
    if ctype.kind is Kind.CHARACTER:
        return ctypes.c_byte if DATA_MODEL.is_char_signed else ctypes.c_ubyte
    if ctype.kind is Kind.WIDE_CHARACTER:
        return {2: ctypes.c_uint16, 4: ctypes.c_uint32}[ctypes.sizeof(ctypes.c_wchar)]
    return ctypes_of(ctype, {})


class _RawLongDouble(ctypes.c_longdouble):
    """A long double that ctypes returns as it is, all of its bytes."""


def _two_words(classes: Sequence[Class]) -> type:
    fields = [(f"piece{index}", _WORDS[klass]) for index, klass in enumerate(classes)]
    return type("TwoWords", (ctypes.Structure,), {"_fields_": fields})


_WORDS: dict[Class, Any] = {Class.INTEGER: ctypes.c_uint64, Class.SSE: ctypes.c_double, Class.X87: _RawLongDouble}


def memory(size_bytes: int) -> Any:
    """Zeroed memory, aligned as any C type needs it."""
    pairs = max(1, (size_bytes + 15) // 16)
    return (ctypes.c_longdouble * (16 // ctypes.sizeof(ctypes.c_longdouble) * pairs))()


class PlannedCall:
    """How the arguments and the result of one function are handed to ctypes."""

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan
        self.is_by_slot = plan.convention == "win64"
        if any(piece.size_bytes > 8 for piece in plan.result.pieces) and self.is_by_slot:
            raise EngineError(f"{spell(plan.result.type)} comes back in 16 bytes of xmm0, which ctypes cannot read")
        types: list[Any] = [ctypes.c_void_p] if plan.result_pointer else []
        for argument in plan.arguments:
            if self.is_by_slot:
                types.append(_slot_type(argument))
            elif argument.pieces:
                types += [_WORDS[piece.eightbyte_class] for piece in argument.pieces]
            elif argument.register:
                types.append(raw_type(argument.type))
        self.area_type: Any = None
        if plan.stack_bytes and not self.is_by_slot:
            # more than two eightbytes of class MEMORY: never in registers
            fields = [("words", ctypes.c_longdouble * max(2, plan.stack_bytes // 16))]
            self.area_type = type("StackArea", (ctypes.Structure,), {"_fields_": fields})
            types.append(self.area_type)
        self.argument_types = tuple(types)
        pieces = plan.result.pieces
        self.result_type: Any
        if plan.result_pointer:
            self.result_type = ctypes.c_void_p
        elif len(pieces) == 2:
            self.result_type = _two_words([piece.eightbyte_class for piece in pieces])
        elif pieces:
            self.result_type = _WORDS[pieces[0].eightbyte_class]
        else:
            self.result_type = None if plan.result.eightbyte_class is Class.NO_CLASS else raw_type(plan.result.type)

    # -- calls -------------------------------------------------------------------------------------
    def pack(self, words: Sequence[Any], result: Any) -> list[Any]:
        """The ctypes arguments for `words`: values, or the addresses of values of several words."""
        given: list[Any] = [ctypes.addressof(result)] if self.plan.result_pointer else []
        area: Any = self.area_type() if self.area_type is not None else None
        for argument, word in zip(self.plan.arguments, words, strict=True):
            if self.is_by_slot:
                given.append(_to_slot(argument, word))
            elif argument.pieces:
                data = ctypes.string_at(word, argument.size_bytes)
                for piece in argument.pieces:
                    part = data[piece.offset_bytes : piece.offset_bytes + piece.size_bytes].ljust(8, b"\0")
                    given.append(_WORDS[piece.eightbyte_class].from_buffer_copy(part))
            elif argument.register:
                given.append(word)
            elif argument.eightbyte_class is not Class.NO_CLASS:
                data = _stack_bytes(argument, word)
                ctypes.memmove(ctypes.addressof(area) + argument.stack_offset, data, len(data))
        if area is not None:
            given.append(area)
        return given

    def unpack(self, raw: Any, result: Any) -> None:
        """Bring a result of several words from its registers to `result`, memory of its size."""
        pieces = self.plan.result.pieces
        if self.plan.result_pointer or not pieces:
            return
        if len(pieces) == 1:
            raw = raw if isinstance(raw, _RawLongDouble) else self.result_type(raw)
        start = ctypes.addressof(result)
        for index, piece in enumerate(pieces):
            size = 10 if piece.eightbyte_class is Class.X87 else piece.size_bytes  # 80 bits
            ctypes.memmove(start + piece.offset_bytes, ctypes.addressof(raw) + 8 * index, size)

    # -- closures -------------------------------------------------------------------------------------
    def values(self, raws: Sequence[Any]) -> list[Any]:
        """The values behind the raw arguments of a closure: scalars, or memory with values of several words."""
        rest = iter(raws)
        if self.plan.result_pointer:
            next(rest)
        values: list[Any] = []
        on_stack = []
        for argument in self.plan.arguments:
            if self.is_by_slot:
                values.append(_from_slot(argument, next(rest)))
            elif argument.pieces:
                block = memory(argument.size_bytes)
                for piece in argument.pieces:
                    word = _WORDS[piece.eightbyte_class](next(rest))
                    ctypes.memmove(
                        ctypes.addressof(block) + piece.offset_bytes, ctypes.addressof(word), piece.size_bytes
                    )
                values.append(block)
            elif argument.register:
                values.append(next(rest))
            else:
                on_stack.append((len(values), argument))
                values.append(None)
        area = next(rest, None)
        for index, argument in on_stack:
            values[index] = _from_stack(argument, area)
        return values


def _is_memory(argument: Argument) -> bool:
    """Whether what fits one slot lies in memory for Python."""
    return bool(argument.pieces) or argument.eightbyte_class is Class.MEMORY


def _slot_type(argument: Argument) -> Any:
    if argument.copy_offset is not None:
        return ctypes.c_void_p
    return ctypes.c_uint64 if _is_memory(argument) else raw_type(argument.type)


def _to_slot(argument: Argument, word: Any) -> Any:
    """What is passed in one slot; a copy lives as long as what refers to it."""
    if not _is_memory(argument):
        return word
    data = ctypes.string_at(word, argument.size_bytes)
    if argument.copy_offset is None:
        return int.from_bytes(data, "little")
    copy = memory(argument.size_bytes)
    ctypes.memmove(copy, data, len(data))
    return ctypes.byref(copy)


def _from_slot(argument: Argument, raw: Any) -> Any:
    """A scalar, or memory with the value that came in or behind a slot."""
    if not _is_memory(argument):
        return raw
    block = memory(argument.size_bytes)
    data = raw.to_bytes(8, "little") if argument.copy_offset is None else ctypes.string_at(raw, argument.size_bytes)
    ctypes.memmove(block, data, argument.size_bytes)
    return block


class ArmCall(PlannedCall):
    """The same under AAPCS64: x0 to x7, v0 to v7 and the stack as images, an argument of ctypes for each word.

    Words that nothing uses are 0.  A result in memory is a struct that libffi finds too large for registers.
    """

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan
        registers = [register for argument in plan.arguments for register in argument.registers]
        has_quads = any(size == 16 for argument in plan.arguments for _, size, _ in _parts(argument))
        vector: Any = _RawLongDouble if has_quads else ctypes.c_double
        counts = [max((int(name[1:]) + 1 for name in registers if name[0] == kind), default=0) for kind in "xv"]
        if plan.stack_bytes:
            counts = [8, 8]
        self._copies = min((a.copy_offset for a in plan.arguments if a.copy_offset is not None), default=None)
        self._stack_bytes = plan.stack_bytes if self._copies is None else self._copies
        words = [ctypes.c_uint64] * counts[0] + [vector] * counts[1] + [ctypes.c_uint64] * (self._stack_bytes // 8)
        self.argument_types = tuple(words)
        # where each word lies in an image of x0 to x7, v0 to v7 and the stack
        self._offsets = [8 * number for number in range(counts[0])]
        self._offsets += [_VECTORS + 16 * number for number in range(counts[1])]
        self._offsets += range(_STACK, _STACK + self._stack_bytes, 8)
        pieces = plan.result.pieces
        self.result_type: Any
        if plan.result_pointer:
            fields: list[Any] = [("words", ctypes.c_uint64 * max(3, (plan.result.size_bytes + 7) // 8))]
            self.result_type = type("Memory", (ctypes.Structure,), {"_fields_": fields})
        elif len(pieces) > 1:
            fields = [(f"piece{number}", _piece_type(piece)) for number, piece in enumerate(pieces)]
            self.result_type = type("Pieces", (ctypes.Structure,), {"_fields_": fields})
        elif pieces:
            self.result_type = _piece_type(pieces[0])
        else:
            self.result_type = None if plan.result.eightbyte_class is Class.NO_CLASS else raw_type(plan.result.type)

    def pack(self, words: Sequence[Any], result: Any) -> list[Any]:
        image = memory(_STACK + self.plan.stack_bytes)
        start = ctypes.addressof(image)
        for argument, word in zip(self.plan.arguments, words, strict=True):
            if argument.eightbyte_class is Class.NO_CLASS:
                continue
            is_in_memory = argument.pieces or argument.eightbyte_class is Class.MEMORY
            data = ctypes.string_at(word, argument.size_bytes) if is_in_memory else _stack_bytes(argument, word)
            if argument.copy_offset is not None:
                copy = start + _STACK + argument.copy_offset
                ctypes.memmove(copy, data, len(data))
                data = copy.to_bytes(8, "little")
            for offset, size, place in _parts(argument):
                ctypes.memmove(start + place, data[offset : offset + size], size)
        given = [
            cls.from_buffer_copy(image, offset) for cls, offset in zip(self.argument_types, self._offsets, strict=True)
        ]
        if given:
            given[0].copies = image  # as long as C has their addresses
        return given

    def unpack(self, raw: Any, result: Any) -> None:
        start = ctypes.addressof(result)
        if self.plan.result_pointer:
            ctypes.memmove(start, ctypes.addressof(raw), self.plan.result.size_bytes)
            return
        pieces = self.plan.result.pieces
        if len(pieces) == 1 and not isinstance(raw, _RawLongDouble):
            raw = self.result_type(raw)
        for piece in pieces:
            ctypes.memmove(start + piece.offset_bytes, ctypes.addressof(raw) + piece.offset_bytes, piece.size_bytes)

    def values(self, raws: Sequence[Any]) -> list[Any]:
        image = memory(_STACK + self._stack_bytes)
        start = ctypes.addressof(image)
        for cls, offset, raw in zip(self.argument_types, self._offsets, raws, strict=True):
            word = raw if isinstance(raw, cls) else cls(raw)
            ctypes.memmove(start + offset, ctypes.addressof(word), ctypes.sizeof(cls))
        values: list[Any] = []
        for argument in self.plan.arguments:
            block = memory(argument.size_bytes)
            into = ctypes.addressof(block)
            for offset, size, place in _parts(argument):
                if argument.copy_offset is None:
                    ctypes.memmove(into + offset, start + place, size)
                else:
                    ctypes.memmove(into, ctypes.c_uint64.from_address(start + place).value, argument.size_bytes)
            is_plain = not argument.pieces and argument.eightbyte_class in (Class.INTEGER, Class.SSE)
            values.append(raw_type(argument.type).from_address(into).value if is_plain else block)
        return values


_VECTORS = 8 * 8
_STACK = _VECTORS + 8 * 16


def _parts(argument: Argument) -> list[tuple[int, int, int]]:
    """Offset in the value, size, and place in an ArmCall's image of what travels; of a copy its address."""
    size = argument.size_bytes if argument.copy_offset is None else 8
    if argument.eightbyte_class is Class.NO_CLASS:
        return []
    if argument.pieces:
        return [(piece.offset_bytes, piece.size_bytes, _place(piece.register)) for piece in argument.pieces]
    return [(0, size, _place(argument.register) if argument.register else _STACK + argument.stack_offset)]


def _place(register: str) -> int:
    number = int(register[1:])
    return 8 * number if register[0] == "x" else _VECTORS + 16 * number


def _piece_type(piece: Piece) -> Any:
    if piece.eightbyte_class is Class.INTEGER:
        return ctypes.c_uint64
    return {4: ctypes.c_float, 8: ctypes.c_double, 16: _RawLongDouble}[piece.size_bytes]


def planned_call(plan: CallPlan) -> PlannedCall:
    """How ctypes makes the calls of a plan."""
    return ArmCall(plan) if plan.convention in ("aapcs64", "apple_arm64") else PlannedCall(plan)


def _stack_bytes(argument: Argument, word: Any) -> bytes:
    """What lies on the stack for an argument."""
    if argument.eightbyte_class is Class.MEMORY:
        return ctypes.string_at(word, argument.size_bytes)
    if isinstance(word, float):
        return bytes(raw_type(argument.type)(word))
    return (int(word or 0) & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")


def _from_stack(argument: Argument, area: Any) -> Any:
    if argument.eightbyte_class is Class.NO_CLASS:
        return memory(0)
    start = ctypes.addressof(area) + argument.stack_offset
    if argument.eightbyte_class is Class.MEMORY:
        block = memory(argument.size_bytes)
        ctypes.memmove(ctypes.addressof(block), start, argument.size_bytes)
        return block
    return raw_type(argument.type).from_address(start).value
