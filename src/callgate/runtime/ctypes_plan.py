"""Calls and closures of ctypes whose arguments travel where a call plan says.

ctypes passes no unions and no bit-fields by value, and libffi gets some structs wrong.  So for functions with values
of several words the plan decides here too: each piece in a register becomes a scalar argument of its own, and the whole
stack area one last struct, which is large enough to go to the stack as it is.  Registers come out as the plan says,
because exactly those that it uses are used, in its order.

On 64-bit Windows every argument takes one slot: a scalar, the bytes of a small struct as an int, or a copy's address.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from callgate.abi.plan import Argument, CallPlan, Class
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
