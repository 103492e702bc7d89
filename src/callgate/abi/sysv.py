"""The System V calling convention of x86-64 (psABI 1.0, section 3.2.3).

Supported: scalars, pointers, `long double`, `__int128`, complex numbers of float and double, structs and unions.
`long double _Complex`, vectors and decimals raise DeclarationError.

        higher addresses
        |  stack argument n       |
        |  ...                    |
        |  stack argument 0       |  <- rsp at the call, a multiple of 16
        lower addresses
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from callgate.abi.plan import Argument, CallPlan, Class, Piece
from callgate.c.layout import align_bytes, record_layout, size_bytes
from callgate.c.types import (
    Array,
    CType,
    Enumeration,
    Kind,
    Pointer,
    Record,
    Scalar,
    Void,
    spell,
)
from callgate.errors import DeclarationError
from callgate.target import Target

INTEGER_REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
SSE_REGISTERS = tuple(f"xmm{number}" for number in range(8))
INTEGER_RESULTS = ("rax", "rdx")
SSE_RESULTS = ("xmm0", "xmm1")
_WIDE_INTEGERS = ("__int128", "unsigned __int128")


def class_of(ctype: CType) -> Class:
    """The class of a scalar of one eightbyte, or of long double (psABI 3.2.3, the list of basic types)."""
    match ctype:
        case Scalar(name="long double"):
            return Class.X87
        case Scalar(kind=Kind.FLOATING):
            return Class.SSE
        case Scalar(kind=Kind.COMPLEX):
            raise DeclarationError(f"{spell(ctype)} cannot be passed by value")
        case Scalar() | Enumeration() | Pointer() | Array():
            return Class.INTEGER
        case Void():
            return Class.NO_CLASS
        case _:
            raise DeclarationError(f"{spell(ctype)} cannot be passed by value")


def merge(a: Class, b: Class) -> Class:
    """Combine the classes of two fields that share an eightbyte.

    psABI 3.2.3: the rules run in the standard's order; the first that matches wins.
    """
    if a is b:
        return a
    if a is Class.NO_CLASS:
        return b
    if b is Class.NO_CLASS:
        return a
    if Class.MEMORY in (a, b):
        return Class.MEMORY
    if Class.INTEGER in (a, b):
        return Class.INTEGER
    if a in _X87 or b in _X87:
        return Class.MEMORY
    return Class.SSE


_X87 = (Class.X87, Class.X87UP)


def eightbyte_classes(ctype: CType, target: Target) -> tuple[Class, ...]:
    """The classes of a value's eightbytes; (MEMORY,) for what does not travel in registers, () for nothing at all."""
    size = size_bytes(ctype, target)
    if not size:
        return ()
    # "If the size of an object is larger than eight eightbytes …", and rule 5(c): without vectors, than two
    if size > 16:
        return (Class.MEMORY,)
    classes = [Class.NO_CLASS] * ((size + 7) // 8)
    _classify_at(ctype, 0, classes, target)
    if Class.MEMORY in classes:  # 5(a)
        return (Class.MEMORY,)
    if Class.X87UP in classes and (classes[0] is not Class.X87 or classes[1] is not Class.X87UP):  # 5(b)
        return (Class.MEMORY,)
    return tuple(classes)


def _classify_at(ctype: CType, offset: int, classes: list[Class], target: Target) -> None:
    """Merge the classes of a value at `offset` bytes into those of the eightbytes around it."""
    match ctype:
        case Record():
            # a struct within is classified by the whole algorithm (rule 4), its own cleanup (5b) included
            own = [Class.NO_CLASS] * len(classes)
            for place in record_layout(ctype, target).places:
                member = place.member
                if member.bits is not None:
                    first = 8 * offset + place.bit_offset
                    for index in range(first // 64, (first + member.bits + 63) // 64 if member.bits else 0):
                        own[index] = merge(own[index], Class.INTEGER)
                else:
                    _classify_at(member.type, offset + place.offset_bytes, own, target)
            if Class.X87UP in own and own[0] is not Class.X87:
                own[0] = Class.MEMORY
            for index, klass in enumerate(own):
                classes[index] = merge(classes[index], klass)
            return
        case Array(element=element, length=length):
            step = size_bytes(element, target)
            for index in range(length):
                _classify_at(element, offset + step * index, classes, target)
            return
    if offset % align_bytes(ctype, target):  # "… or it contains unaligned fields, it has class MEMORY"
        classes[0] = Class.MEMORY
        return
    parts: tuple[Class, ...]
    match ctype:
        case Scalar(name="long double"):
            parts = (Class.X87, Class.X87UP)
        case Scalar(name=name) if name in _WIDE_INTEGERS:
            parts = (Class.INTEGER, Class.INTEGER)
        case Scalar(name="double _Complex"):
            parts = (Class.SSE, Class.SSE)
        case Scalar(name="float _Complex"):
            # two floats, which need not share an eightbyte
            for part in (offset, offset + 4):
                classes[part // 8] = merge(classes[part // 8], Class.SSE)
            return
        case _:
            parts = (class_of(ctype),)
    for index, klass in enumerate(parts, offset // 8):
        classes[index] = merge(classes[index], klass)


def _is_plain(ctype: CType) -> bool:
    """Whether a value is one eightbyte or a long double, which travels without pieces."""
    match ctype:
        case Record():
            return False
        case Scalar(name=name, kind=kind):
            return kind is not Kind.COMPLEX and name not in _WIDE_INTEGERS
        case _:
            return True


def _pieces(
    classes: tuple[Class, ...], size: int, integers: Sequence[str], vectors: Sequence[str]
) -> tuple[Piece, ...] | None:
    """A piece for each eightbyte from the registers that are free; None where they do not suffice for all."""
    free = {Class.INTEGER: iter(integers), Class.SSE: iter(vectors)}
    pieces = []
    for index, klass in enumerate(classes):
        if klass is Class.NO_CLASS:
            continue  # padding alone travels as nothing
        register = next(free[klass], "")
        if not register:
            return None
        pieces.append(Piece(8 * index, min(8, size - 8 * index), klass, register))
    return tuple(pieces)


def _passed(ctype: CType) -> CType:
    """The type that is really passed: an array parameter is a pointer (C11 6.7.6.3p7)."""
    return Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype


class _Registers:
    """The registers not yet taken, and the stack area so far."""

    def __init__(self) -> None:
        self.integers = list(INTEGER_REGISTERS)
        self.vectors = list(SSE_REGISTERS)
        self.stack_bytes = 0

    def take(self, klass: Class) -> str:
        free = self.integers if klass is Class.INTEGER else self.vectors if klass is Class.SSE else []
        return free.pop(0) if free else ""

    def push(self, size: int, alignment: int) -> int:
        """A place on the stack: "aligned to its type's alignment, at least 8"."""
        alignment = max(8, alignment)
        offset = (self.stack_bytes + alignment - 1) // alignment * alignment
        self.stack_bytes = offset + (size + 7) // 8 * 8
        return offset

    def remove(self, names: Iterator[str]) -> None:
        for name in names:
            (self.integers if name in self.integers else self.vectors).remove(name)


def _argument(ctype: CType, registers: _Registers, target: Target) -> Argument:
    size = size_bytes(ctype, target)
    if _is_plain(ctype):
        klass = class_of(ctype)
        register = registers.take(klass)
        if register:
            return Argument(ctype, size, klass, register)
        return Argument(ctype, size, klass, "", registers.push(size, align_bytes(ctype, target)))
    classes = eightbyte_classes(ctype, target)
    if all(klass is Class.NO_CLASS for klass in classes):
        return Argument(ctype, 0, Class.NO_CLASS, "")
    if classes[0] is Class.MEMORY or Class.X87 in classes:
        if align_bytes(ctype, target) > 16:
            raise DeclarationError(f"{spell(ctype)} is aligned to more than 16 bytes and cannot be passed by value")
        return Argument(ctype, size, Class.MEMORY, "", registers.push(size, align_bytes(ctype, target)))
    # "If there are no registers available for any eightbyte of an argument, the whole argument is passed on the stack."
    pieces = _pieces(classes, size, registers.integers, registers.vectors)
    if pieces is None:
        return Argument(ctype, size, Class.MEMORY, "", registers.push(size, align_bytes(ctype, target)))
    registers.remove(piece.register for piece in pieces)
    return Argument(ctype, size, classes[0], "", 0, pieces)


def _result(ctype: CType, target: Target) -> Argument:
    """Where the result travels (psABI 3.2.3, "Returning of Values")."""
    if _is_plain(ctype):
        klass = class_of(ctype)
        place = {Class.INTEGER: "rax", Class.SSE: "xmm0", Class.X87: "st0", Class.NO_CLASS: ""}[klass]
        return Argument(ctype, 0 if klass is Class.NO_CLASS else size_bytes(ctype, target), klass, place)
    classes = eightbyte_classes(ctype, target)
    size = size_bytes(ctype, target)
    if all(klass is Class.NO_CLASS for klass in classes):
        return Argument(ctype, 0, Class.NO_CLASS, "")
    if classes[0] is Class.MEMORY:
        return Argument(ctype, size, Class.MEMORY, "rax")
    if Class.X87 in classes:
        return Argument(ctype, size, Class.X87, "st0", 0, (Piece(0, 16, Class.X87, "st0"),))
    pieces = _pieces(classes, size, INTEGER_RESULTS, SSE_RESULTS)
    assert pieces is not None  # two eightbytes at most
    return Argument(ctype, size, classes[0], "", 0, pieces)


def classify_sysv(
    parameters: Sequence[CType], result_type: CType, target: Target, *, is_variadic: bool = False
) -> CallPlan:
    """Give each argument its registers or stack slot, left to right (psABI 3.2.3, "Passing")."""
    registers = _Registers()
    result = _result(result_type, target)
    # "the caller provides space for the return value and passes the address of this storage in %rdi"
    result_pointer = registers.take(Class.INTEGER) if result.eightbyte_class is Class.MEMORY else ""
    arguments = tuple(_argument(_passed(ctype), registers, target) for ctype in parameters)
    return CallPlan(
        "sysv",
        arguments,
        result,
        registers.stack_bytes + 15 & ~15,
        len(SSE_REGISTERS) - len(registers.vectors),
        is_variadic,
        result_pointer,
    )
