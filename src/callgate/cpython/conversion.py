"""The steps from Python objects to C values and back, as data.

A FunctionType says what Python passes; here that becomes numbers: kinds, sizes and flags that the lowering turns
into inline code and that the shared conversion routine reads from a gate's data at run time.  Two functions with
equal conversions (and equal call plans) share their machine code: the conversion is their shape.

Long because each kind of step is a member with a sentence of its own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from callgate.c.layout import size_bytes
from callgate.c.types import (
    VOID_POINTER,
    Array,
    CallbackType,
    CType,
    Enumeration,
    FunctionPrototype,
    FunctionType,
    Kind,
    Parameter,
    Passing,
    Pointer,
    Record,
    Result,
    Returning,
    Scalar,
    Void,
    spell,
)
from callgate.errors import DeclarationError, unreachable
from callgate.target import Target


class Unbox(IntEnum):
    """How an object becomes a C value; the numbers are stored in a gate's data."""

    END = 0
    SIGNED = 1
    UNSIGNED = 2
    DOUBLE = 3
    FLOAT = 4
    BOOL = 5
    STRING = 6
    BUFFER = 7
    HANDLE = 8
    CHARACTER = 9
    WIDE_CHARACTER = 10
    WIDE_STRING = 11
    STRUCT = 12  # by value: the word is the address of the object's data
    RECORD = 13  # a pointer to a struct, given as an object of its class
    FUNCTION = 14
    WIDE = 15  # more than a word: the word is the address of a copy
    OBJECT = 16
    CDATA = 17  # a ctypes scalar of one class, in variable arguments
    PARAM = 18  # as the from_param of a ctypes class has it


class Element(IntEnum):
    """What the items of a buffer must be; the numbers are stored in a gate's data."""

    ANY = 0  # void: any contiguous buffer
    SIGNED = 1
    UNSIGNED = 2
    FLOATING = 3
    BOOL = 4
    WIDE_CHARACTER = 5
    BYTE = 6  # one-byte items of any kind
    OTHER = 7  # pointers and structs: the reference conversion decides
    CLASS = 8  # of a PARAM, and of a STRUCT as ctypes converts it: what a from_param makes lives during the call


class UnboxStep(NamedTuple):
    """The conversion of one argument.

    `size_bytes` is that of the value or, for BUFFER, of one item (0 for void); a void handle has size 0.
    `minimum_bytes` is what a buffer must hold at least.  `is_signed_byte` matters for lists only: buffers of bytes
    may be of either sign.  A PARAM that `is_writable` is of a POINTER class, for which objects with `_as_parameter_`
    are looked into.
    """

    kind: Unbox
    size_bytes: int
    is_nullable: bool = False
    is_writable: bool = False
    element: Element = Element.ANY
    minimum_bytes: int = 0
    is_signed_byte: bool = False

    @property
    def is_pointer(self) -> bool:
        """Whether None may stand for NULL."""
        return self.kind in _POINTERS

    @property
    def may_own(self) -> bool:
        """Whether the conversion may hold an object or a buffer until the call is over."""
        if self.kind is Unbox.STRUCT:
            return self.element is Element.CLASS
        return self.kind in _OWNING or (self.kind is Unbox.PARAM and self.element not in NUMBERS)


NUMBERS = (Element.SIGNED, Element.UNSIGNED, Element.FLOATING)
"""The elements of a PARAM that is a number; any other may be an object with memory."""

_OWNING = frozenset((Unbox.BUFFER, Unbox.HANDLE, Unbox.WIDE_STRING, Unbox.RECORD, Unbox.FUNCTION, Unbox.WIDE))
_POINTERS = _OWNING - {Unbox.WIDE} | {Unbox.STRING}  # the bytes of a string are the argument's own


class Box(IntEnum):
    """How a C value becomes an object."""

    NONE = 0
    SIGNED = 1
    UNSIGNED = 2
    DOUBLE = 3
    FLOAT = 4
    LONG_DOUBLE = 5
    BOOL = 6
    CHARACTER = 7
    WIDE_CHARACTER = 8
    STRING = 9
    BYTES = 10
    WIDE_STRING = 11
    HANDLE = 12
    ENUM = 13
    STRUCT = 14
    WIDE = 15  # more than a word
    PYTHON = 16  # a pointer that the gate's `_box` makes an object of
    OBJECT = 17
    ADDRESS = 18
    CALLED = 19  # what a Python function makes of a C int


class BoxStep(NamedTuple):
    """The conversion of one result or filled Out parameter.

    Enums say in `is_unsigned` how their base extends.  `keeps_null` makes an object of NULL as of any other pointer.
    The length of an array is argument `length_step` of those that Python passes, or Out `length_out`.
    """

    kind: Box
    size_bytes: int
    is_nullable: bool = False
    is_unsigned: bool = False
    keeps_null: bool = False
    length_step: int | None = None
    length_out: int | None = None


class OutStep(NamedTuple):
    """An Out parameter: its place among the C arguments and the conversion of what C stored."""

    position: int
    box: BoxStep


class Judgement(IntEnum):
    """The condition under which a result means failure."""

    NEVER = 0
    NEGATIVE = 1
    MINUS_ONE = 2
    ZERO = 3
    NONZERO = 4
    PREDICATE = 5


class SavedError(IntEnum):
    """What is cleared before a call and read right after it: why the call failed, where the result says that it did."""

    NONE = 0
    ERRNO = 1
    LAST = 2  # GetLastError, of Windows


class CtypesRules(NamedTuple):
    """What a gate does as the ctypes function did whose place it takes.

    `calls_errcheck`: errcheck(result, function, arguments) has the last word.  `checks_error`: C may set a Python
    exception.  `swaps_errno`: errno is exchanged with ctypes' own copy around the call.
    """

    calls_errcheck: bool = False
    checks_error: bool = False
    swaps_errno: bool = False


class Conversion(NamedTuple):
    """Everything about a function's conversions that its machine code depends on.

    `positions` gives the C argument that each step fills.  `drops_result` is true for a Status.  With `is_on_stack` C
    runs on a stack of the gate's own.
    """

    steps: tuple[UnboxStep, ...]
    positions: tuple[int, ...]
    outs: tuple[OutStep, ...]
    result: BoxStep
    drops_result: bool
    judgement: Judgement
    saved_error: SavedError
    is_blocking: bool
    is_variadic: bool = False
    ctypes: CtypesRules | None = None
    is_on_stack: bool = False

    @property
    def depends_on_plan(self) -> bool:
        """Whether the same conversions can go with different call plans: values that are not one eightbyte."""
        return (
            self.is_variadic
            or self.result.kind in (Box.STRUCT, Box.WIDE)
            or any(step.kind in (Unbox.STRUCT, Unbox.WIDE) for step in self.steps)
        )


_BY_KIND = {
    Kind.SIGNED: (Unbox.SIGNED, Box.SIGNED, Element.SIGNED),
    Kind.UNSIGNED: (Unbox.UNSIGNED, Box.UNSIGNED, Element.UNSIGNED),
    Kind.BOOLEAN: (Unbox.BOOL, Box.BOOL, Element.BOOL),
    Kind.CHARACTER: (Unbox.CHARACTER, Box.CHARACTER, Element.BYTE),
    Kind.WIDE_CHARACTER: (Unbox.WIDE_CHARACTER, Box.WIDE_CHARACTER, Element.WIDE_CHARACTER),
}


def _unbox_value(ctype: CType, target: Target) -> UnboxStep:
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if isinstance(ctype, Record):
        return UnboxStep(Unbox.STRUCT, 0)
    if ctype == VOID_POINTER:
        return UnboxStep(Unbox.OBJECT, target.pointer_bytes)
    if not isinstance(ctype, Scalar):
        raise DeclarationError(f"{spell(ctype)} cannot be passed by value")
    size = size_bytes(ctype, target)
    if ctype.kind is Kind.FLOATING:
        return UnboxStep(Unbox.FLOAT if size == 4 else Unbox.DOUBLE, size)
    if ctype.kind is Kind.COMPLEX or size > 8:
        return UnboxStep(Unbox.WIDE, size)
    return UnboxStep(_BY_KIND[ctype.kind][0], size)


def _unbox_cdata(held: CType, target: Target) -> UnboxStep:
    """A ctypes scalar as a variable argument, read from its memory and widened."""
    if not isinstance(held, Scalar):
        raise DeclarationError(f"{spell(held)} is no scalar")
    kind, size = held.kind, size_bytes(held, target)
    if size > 8:
        return UnboxStep(Unbox.DOUBLE, 8)
    if kind is Kind.FLOATING:
        return UnboxStep(Unbox.CDATA, size, element=Element.FLOATING)
    is_signed = kind is Kind.SIGNED or (kind is Kind.CHARACTER and target.is_char_signed)
    return UnboxStep(Unbox.CDATA, size, element=Element.SIGNED if is_signed else Element.UNSIGNED)


def element_of(ctype: CType, target: Target) -> tuple[Element, int, int]:
    """What a buffer for the pointer or array type `ctype` must hold: item class, item bytes, minimum bytes."""
    minimum = 0
    if isinstance(ctype, Array):
        pointee = ctype.element
        minimum = size_bytes(ctype, target)
    elif isinstance(ctype, Pointer):
        pointee = ctype.to
    else:
        raise DeclarationError(f"{ctype} is no pointer")
    if isinstance(pointee, Enumeration):
        pointee = pointee.base
    match pointee:
        case Scalar(kind=kind):
            size = size_bytes(pointee, target)
            if size == 1 and kind is not Kind.BOOLEAN:
                return Element.BYTE, 1, minimum
            if kind is Kind.COMPLEX or (size > 8 and kind is not Kind.FLOATING):
                return Element.OTHER, size, minimum
            return (Element.FLOATING if kind is Kind.FLOATING else _BY_KIND[kind][2]), size, minimum
        case Void():
            return Element.ANY, 0, minimum
        case Record() | FunctionPrototype():
            return Element.OTHER, 0, minimum
        case _:
            return Element.OTHER, target.pointer_bytes, minimum


def _pointee_kind(ctype: CType) -> Kind | None:
    pointee = ctype.element if isinstance(ctype, Array) else ctype.to if isinstance(ctype, Pointer) else ctype
    return pointee.kind if isinstance(pointee, Scalar) else None


def _unbox_param(parameter: Parameter, target: Target) -> UnboxStep:
    """An argument as ctypes converts it: ints wrap, and what machine code does not know goes to from_param."""
    ctype = parameter.type
    if isinstance(ctype, Record):
        return UnboxStep(Unbox.STRUCT, 0, element=Element.CLASS)
    if isinstance(ctype, Scalar) and size_bytes(ctype, target) <= 8:
        element = Element.FLOATING if ctype.kind is Kind.FLOATING else _BY_KIND[ctype.kind][2]
        if element not in NUMBERS:
            element = Element.BYTE  # a bool or a character: from_param knows
        return UnboxStep(Unbox.PARAM, size_bytes(ctype, target), element=element)
    if isinstance(ctype, Scalar):
        return UnboxStep(Unbox.PARAM, size_bytes(ctype, target), element=Element.FLOATING)
    is_pointer_class = parameter.held == VOID_POINTER
    element = Element.OTHER
    if parameter.held is not None and not is_pointer_class:
        element = Element.ANY if isinstance(parameter.held, Void) else Element.CLASS
    return UnboxStep(Unbox.PARAM, target.pointer_bytes, parameter.is_nullable, is_pointer_class, element)


def unbox_step(parameter: Parameter, target: Target) -> UnboxStep:
    """The conversion of one argument that Python passes."""
    nullable = parameter.is_nullable
    match parameter.passing:
        case Passing.VALUE if parameter.held is not None:
            return _unbox_cdata(parameter.held, target)
        case Passing.VALUE:
            return _unbox_value(parameter.type, target)
        case Passing.STRING:
            return UnboxStep(Unbox.STRING, 1, nullable)
        case Passing.WIDE_STRING:
            return UnboxStep(Unbox.WIDE_STRING, target.wchar_bytes, nullable)
        case Passing.READABLE | Passing.WRITABLE:
            if isinstance(parameter.type, Pointer) and isinstance(parameter.type.to, Record):
                is_writable = parameter.passing is Passing.WRITABLE
                return UnboxStep(Unbox.RECORD, target.pointer_bytes, nullable, is_writable, Element.OTHER)
            element, size, minimum = element_of(parameter.type, target)
            is_writable = parameter.passing is Passing.WRITABLE
            is_signed_byte = element is Element.BYTE and _pointee_kind(parameter.type) is Kind.SIGNED
            return UnboxStep(Unbox.BUFFER, size, nullable, is_writable, element, minimum, is_signed_byte)
        case Passing.HANDLE:
            is_void = isinstance(parameter.type, Pointer) and isinstance(parameter.type.to, Void)
            return UnboxStep(Unbox.HANDLE, 0 if is_void else target.pointer_bytes, nullable)
        case Passing.CTYPES:
            return _unbox_param(parameter, target)
        case Passing.CALLABLE | Passing.CALLBACK:
            return UnboxStep(Unbox.FUNCTION, target.pointer_bytes, nullable)
        case Passing.OUT:
            raise DeclarationError("an Out parameter is not passed")
        case _:
            unreachable(parameter.passing)


_POINTER_BOXES = {
    Returning.STRING: Box.STRING,
    Returning.BYTES: Box.BYTES,
    Returning.WIDE_STRING: Box.WIDE_STRING,
    Returning.HANDLE: Box.HANDLE,
    Returning.FUNCTION: Box.PYTHON,
    Returning.OBJECT: Box.OBJECT,
    Returning.ADDRESS: Box.ADDRESS,
}


def box_step(result: Result, target: Target) -> BoxStep:
    """The conversion of a result."""
    ctype = result.type
    if result.returning is Returning.NOTHING:
        return BoxStep(Box.NONE, 0)
    if result.returning is Returning.ARRAY or result.is_owned:
        return BoxStep(Box.PYTHON, target.pointer_bytes, result.is_nullable)
    if result.returning is Returning.INSTANCE:
        return BoxStep(Box.HANDLE, target.pointer_bytes, keeps_null=True)
    if result.returning is Returning.CALLED:
        return BoxStep(Box.CALLED, size_bytes(ctype, target))
    pointer_box = _POINTER_BOXES.get(result.returning)
    if pointer_box is not None:
        return BoxStep(pointer_box, target.pointer_bytes, result.is_nullable)
    is_enum = isinstance(ctype, Enumeration)
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    if isinstance(ctype, Record):
        return BoxStep(Box.STRUCT, size_bytes(ctype, target))
    if not isinstance(ctype, Scalar):
        raise DeclarationError(f"{spell(ctype)} cannot be returned by value")
    size = size_bytes(ctype, target)
    if ctype.kind is Kind.COMPLEX or (size > 8 and ctype.kind is not Kind.FLOATING):
        return BoxStep(Box.WIDE, size)
    if ctype.kind is Kind.FLOATING:
        return BoxStep({4: Box.FLOAT, 8: Box.DOUBLE}.get(size, Box.LONG_DOUBLE), size)
    is_unsigned = ctype.kind is not Kind.SIGNED
    if is_enum and result.python_type is not None:
        return BoxStep(Box.ENUM, size, is_unsigned=is_unsigned)
    return BoxStep(_BY_KIND[ctype.kind][1], size, is_unsigned=is_unsigned)


def convert(
    function: FunctionType,
    target: Target,
    *,
    judgement: Judgement,
    saved_error: SavedError,
    is_blocking: bool,
    ctypes: CtypesRules | None = None,
) -> Conversion:
    """The conversions of a function."""
    steps = []
    positions = []
    outs = []
    for position, parameter in enumerate(function.parameters):
        if parameter.out is not None:
            outs.append(OutStep(position, box_step(parameter.out, target)))
        else:
            steps.append(unbox_step(parameter, target))
            positions.append(position)
    steps = [_with_pointee(step, len(steps)) for step in steps]
    result = box_step(function.result, target)
    if isinstance(function.result.length, str):
        result = _with_length(result, function, function.result.length, positions)
    return Conversion(
        tuple(steps),
        tuple(positions),
        tuple(outs),
        result,
        function.result.returning is Returning.STATUS,
        judgement,
        saved_error,
        is_blocking,
        function.is_variadic,
        ctypes,
    )


STEP_BYTES = 16
"""What one step takes in a gate's data (see `lower.machine`)."""


def _with_pointee(step: UnboxStep, count: int) -> UnboxStep:
    """A PARAM of a POINTER class: `minimum_bytes` says how far behind the step the pointee's class is found.

    Behind the steps come END, the result, errcheck, and a place for the pointee of each argument.
    """
    if step.kind is not Unbox.PARAM or not step.is_writable:
        return step
    return step._replace(minimum_bytes=STEP_BYTES * (count + 3))


def _with_length(box: BoxStep, function: FunctionType, name: str, positions: list[int]) -> BoxStep:
    """Where the length of an array that `function` returns is found."""
    outs = 0
    for position, parameter in enumerate(function.parameters):
        declared = parameter.type if parameter.out is None else parameter.out.type
        is_number = isinstance(declared, Scalar) and declared.kind in (Kind.SIGNED, Kind.UNSIGNED)
        if not is_number:
            outs += parameter.out is not None
            continue
        if parameter.name == name and position in positions and parameter.passing is Passing.VALUE:
            return box._replace(length_step=positions.index(position))
        if parameter.name == name and parameter.out is not None:
            return box._replace(length_out=outs)
        outs += parameter.out is not None
    raise DeclarationError(f"{function.name}(): length={name!r} is no parameter with a number")


class CallbackConversion(NamedTuple):
    """Everything about a callback's conversions that its machine code depends on."""

    boxes: tuple[BoxStep, ...]
    result: UnboxStep | None

    @property
    def depends_on_plan(self) -> bool:
        """Whether the same conversions can go with different plans: values that are not one eightbyte."""
        is_several = any(box.kind in (Box.STRUCT, Box.WIDE) for box in self.boxes)
        return is_several or (self.result is not None and self.result.kind in (Unbox.STRUCT, Unbox.WIDE))


def convert_callback(callback: CallbackType, target: Target) -> CallbackConversion:
    """The conversions of a function that C calls."""
    boxes = tuple(box_step(parameter, target) for parameter in callback.parameters)
    # a NULL handle arrives as one, which is false
    boxes = tuple(box._replace(keeps_null=True) if box.kind is Box.HANDLE else box for box in boxes)
    return CallbackConversion(boxes, None if callback.result is None else unbox_step(callback.result, target))
