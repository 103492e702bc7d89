"""The calling convention of 64-bit Arm (AAPCS64 2024Q3, section 6), and Apple's variant of it.

Supported: scalars, pointers, structs and unions, `__int128`, complex numbers; `long double` is what the target's data
model says, on Linux a quad-precision float (16 bytes in a vector register).  Short vectors and `_Float16` have no
C type here.  What differs from one variant to the other is data, `VARIANTS`; the rules are written once.

        higher addresses
        |  copies of what travels by reference, 16-aligned
        |  stack argument n       |
        |  ...                    |
        |  stack argument 0       |  <- sp at the call, a multiple of 16
        lower addresses
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from callgate.abi.plan import Argument, CallPlan, Class, Piece
from callgate.c.layout import align_bytes, natural_align_bytes, record_layout, size_bytes
from callgate.c.types import Array, CType, Kind, Pointer, Record, Scalar, Void, spell
from callgate.errors import DeclarationError
from callgate.target import Target

INTEGER_REGISTERS = tuple(f"x{number}" for number in range(8))
VECTOR_REGISTERS = tuple(f"v{number}" for number in range(8))
RESULT_POINTER = "x8"
MOST_MEMBERS = 4  # of a homogeneous aggregate (5.9.5.1)


class Variant(NamedTuple):
    """How a platform reads the standard.

    Scalars, and homogeneous aggregates, take at least `slot_bytes` of the stack and are aligned to as much.  Where
    `begins_pairs_even`, a value aligned to 16 bytes begins in a register of even number (C.10).  Where
    `ignores_aligned`, an attribute of the whole struct does not count for where it travels (B.6).  Where
    `variables_on_stack`, no variable argument travels in a register.
    """

    slot_bytes: int
    begins_pairs_even: bool
    ignores_aligned: bool
    variables_on_stack: bool


VARIANTS = {
    #                         slot  even  B.6  variables
    "aapcs64": Variant(8, True, True, False),
    # Apple, "Writing ARM64 code for Apple platforms", the differences from the standard
    "apple_arm64": Variant(1, False, False, True),
}


class Homogeneous(NamedTuple):
    """A homogeneous aggregate, or a floating value: `length` elements of `element_bytes`."""

    element_bytes: int
    length: int


def homogeneous(ctype: CType, target: Target) -> Homogeneous | None:
    """The floating elements that a value is made of, one to four of a kind and nothing else; None for any other.

    AAPCS64 5.9.5: an HFA.  Each member counts as often as it is there, of a union's the most; padding makes it another
    type.
    """
    elements = _elements(ctype, target)
    if elements is None or not 1 <= elements.length <= MOST_MEMBERS:
        return None
    is_whole = elements.element_bytes * elements.length == size_bytes(ctype, target)
    return elements if is_whole else None


def _elements(ctype: CType, target: Target) -> Homogeneous | None:
    """The same without the limits: how many there are, 0 for nothing at all; None for what is not floating."""
    match ctype:
        case Scalar(kind=Kind.FLOATING):
            return Homogeneous(size_bytes(ctype, target), 1)
        case Scalar(kind=Kind.COMPLEX):
            return Homogeneous(size_bytes(ctype, target) // 2, 2)
        case Array(element=element, length=length):
            one = _elements(element, target) if length else None
            return one and Homogeneous(one.element_bytes, one.length * length)
        case Record(tag=tag):
            element_bytes = count = 0
            for place in record_layout(ctype, target).places:
                if place.member.bits == 0:
                    continue
                inner = _elements(place.member.type, target) if place.member.bits is None else None
                if inner is None or (inner.length and element_bytes not in (0, inner.element_bytes)):
                    return None
                element_bytes = inner.element_bytes or element_bytes
                count = max(count, inner.length) if tag == "union" else count + inner.length
            return Homogeneous(element_bytes, count)
    return None


def _round_up(number: int, multiple: int) -> int:
    return (number + multiple - 1) // multiple * multiple


class _Registers:
    """The next registers and stacked argument, as stage A sets them up: NGRN, NSRN and NSAA."""

    def __init__(self) -> None:
        self.ngrn = 0
        self.nsrn = 0
        self.nsaa = 0

    def take_integers(self, count: int) -> tuple[str, ...]:
        """So many consecutive registers; none where they do not suffice, and then never again (C.13)."""
        taken = INTEGER_REGISTERS[self.ngrn : self.ngrn + count]
        self.ngrn += count
        if len(taken) == count:
            return taken
        self.ngrn = len(INTEGER_REGISTERS)
        return ()

    def take_vectors(self, count: int) -> tuple[str, ...]:
        """The same for vector registers (C.3)."""
        taken = VECTOR_REGISTERS[self.nsrn : self.nsrn + count]
        self.nsrn += count
        if len(taken) == count:
            return taken
        self.nsrn = len(VECTOR_REGISTERS)
        return ()

    def push(self, size: int, alignment: int) -> int:
        """A place on the stack."""
        offset = _round_up(self.nsaa, alignment)
        self.nsaa = offset + size
        return offset


def _by_reference(ctype: CType, size: int, registers: _Registers, *, is_stacked: bool) -> Argument:
    """B.4: the address of a copy travels; where the copy lies is decided when all arguments have their place."""
    names = () if is_stacked else registers.take_integers(1)
    if names:
        return Argument(ctype, size, Class.MEMORY, names[0], copy_offset=0)
    return Argument(ctype, size, Class.MEMORY, "", registers.push(8, 8), copy_offset=0)


def _argument(
    ctype: CType, registers: _Registers, variant: Variant, target: Target, *, is_variable: bool = False
) -> Argument:
    """Where one argument travels: stages B and C."""
    size = 0 if isinstance(ctype, Void) else size_bytes(ctype, target)
    if not size:
        return Argument(ctype, 0, Class.NO_CLASS, "")
    alignment = align_bytes(ctype, target)
    if alignment > 16:
        raise DeclarationError(f"{spell(ctype)} is aligned to more than 16 bytes and cannot be passed by value")
    if variant.ignores_aligned:
        alignment = natural_align_bytes(ctype, target)
    is_record = isinstance(ctype, Record)
    is_stacked = is_variable and variant.variables_on_stack
    elements = homogeneous(ctype, target)
    if is_record and elements is None and size > 16:
        return _by_reference(ctype, size, registers, is_stacked=is_stacked)
    klass = Class.INTEGER if elements is None else Class.SSE
    has_pieces = is_record or size > 8 if elements is None else is_record or elements.length > 1
    names: tuple[str, ...] = ()
    step = 8
    if is_stacked:
        pass
    elif elements is not None:  # C.1, C.2
        step = elements.element_bytes
        names = registers.take_vectors(elements.length)
    else:
        if alignment == 16 and variant.begins_pairs_even:  # C.10
            registers.ngrn = _round_up(registers.ngrn, 2)
        names = registers.take_integers((size + 7) // 8)  # C.9, C.11, C.12
    if not names:  # C.4 to C.6, C.14 to C.17
        slot = 8 if is_stacked or (is_record and elements is None) else variant.slot_bytes
        offset = registers.push(_round_up(size, slot), max(slot, alignment))
        return Argument(ctype, size, Class.MEMORY if has_pieces else klass, "", offset)
    if not has_pieces:
        return Argument(ctype, size, klass, names[0])
    pieces = tuple(
        Piece(step * index, min(step, size - step * index), klass, register) for index, register in enumerate(names)
    )
    return Argument(ctype, size, klass, "", 0, pieces)


def _result(ctype: CType, variant: Variant, target: Target) -> Argument:
    """Where the result travels (6.9): as the first argument would, or in memory that x8 points to."""
    result = _argument(ctype, _Registers(), variant, target)
    if result.copy_offset is None:
        return result
    return Argument(ctype, result.size_bytes, Class.MEMORY, "")


def classify_aapcs64(
    parameters: Sequence[CType], result_type: CType, target: Target, *, variable_count: int = 0
) -> CallPlan:
    """Give each argument its registers or stack slot, left to right (AAPCS64 6.8.2).

    The last `variable_count` of them are those of a variadic function that its declaration does not name.
    """
    variant = VARIANTS[target.calling_convention]
    result = _result(result_type, variant, target)
    registers = _Registers()
    arguments = []
    first_variable = len(parameters) - variable_count
    for number, ctype in enumerate(parameters):
        passed = Pointer(ctype.element, ctype.is_const) if isinstance(ctype, Array) else ctype
        arguments.append(_argument(passed, registers, variant, target, is_variable=number >= first_variable))
    stack_bytes = _round_up(registers.nsaa, 16)
    for number, argument in enumerate(arguments):
        if argument.copy_offset is not None:
            arguments[number] = argument._replace(copy_offset=stack_bytes)
            stack_bytes += _round_up(argument.size_bytes, 16)
    return CallPlan(
        target.calling_convention,
        tuple(arguments),
        result,
        stack_bytes,
        sum(register in VECTOR_REGISTERS for argument in arguments for register in argument.registers),
        result_pointer=RESULT_POINTER if result.eightbyte_class is Class.MEMORY else "",
        stack_pointer="sp",
    )
