"""The reference conversion: what an argument may be, and the words of every refusal.

The ctypes engine converts with these functions; machine code asks them whenever its own quick paths do not take an
object.  So both engines accept the same and refuse it in the same words.  Long because each kind of parameter has
rules and words of its own.
"""

from __future__ import annotations

import ctypes
import struct
from operator import index
from typing import Any, NamedTuple

from callgate.c import names
from callgate.c.types import (
    VARIABLE,
    Array,
    Enumeration,
    FunctionPrototype,
    Kind,
    Parameter,
    Passing,
    Pointer,
    Record,
    Scalar,
    spell,
)
from callgate.cpython.conversion import Element, Unbox, UnboxStep
from callgate.errors import unreachable
from callgate.runtime import callbacks, params

_POINTER = ctypes._Pointer
_BYREF = type(ctypes.byref(ctypes.c_int()))
_POINTER_VALUES = (_POINTER, names.FUNCTION_POINTER, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p)
_void_p = ctypes.c_void_p

FORMAT_ELEMENTS: dict[str, Element] = {
    **dict.fromkeys("bhilqn", Element.SIGNED),
    **dict.fromkeys("BHILQN", Element.UNSIGNED),
    **dict.fromkeys("efdg", Element.FLOATING),
    "?": Element.BOOL,
    **dict.fromkeys("uw", Element.WIDE_CHARACTER),
    **dict.fromkeys("csp", Element.BYTE),
    **dict.fromkeys("&PzZXO", Element.OTHER),
}
"""What the format codes of buffers mean (struct module, PEP 3118, ctypes)."""

FORMAT_TABLE = bytes(FORMAT_ELEMENTS.get(chr(code), 0) for code in range(128))
"""The same for machine code: an element by the code's number, 0 where it is none of them."""


class Formal(NamedTuple):
    """One parameter as the conversion needs it; `element` is the ctypes class of a buffer's items, None for void.

    `item` is the index of an item of a list that is being copied.  Number 0 is the result of a callback.  Functions
    that are passed get an address for `engine`.
    """

    function: str
    number: int
    parameter: Parameter
    step: UnboxStep
    element: type | None
    item: int | None = None
    engine: str = "native"

    @property
    def where(self) -> str:
        """How messages name it."""
        if not self.number:
            return f"the result of {self.function}()"
        item = "" if self.item is None else f" item {self.item}"
        return f"{self.function}() argument {self.number}{item}"


def _short_name(cls: type | None) -> str:
    if cls is None:
        return "None"
    name = names.SHORT_NAMES.get(cls)
    if name is None and issubclass(cls, _POINTER):
        return f"Ptr[{_short_name(cls._type_)}]"
    return name or cls.__name__


def type_name(thing: object) -> str:
    """How messages call an object that was not expected: None, or the name of its type, a pointer as it is written."""
    if isinstance(thing, _POINTER):
        return _short_name(type(thing))
    return "None" if thing is None else type(thing).__name__


def expected(formal: Formal) -> str:
    """What a parameter takes, for messages."""
    parameter, step = formal.parameter, formal.step
    match step.kind:
        case Unbox.SIGNED | Unbox.UNSIGNED:
            words = "int"
        case Unbox.DOUBLE | Unbox.FLOAT:
            words = "float"
        case Unbox.BOOL:
            words = "bool"
        case Unbox.CHARACTER:
            words = "bytes of length 1"
        case Unbox.WIDE_CHARACTER:
            words = "str of length 1"
        case Unbox.STRING:
            words = "str or bytes"
        case Unbox.WIDE_STRING:
            words = "str"
        case Unbox.BUFFER:
            access = "writable" if step.is_writable else "readable"
            words = f"a {access} buffer" + (f" of {_short_name(formal.element)}" if formal.element else "")
        case Unbox.HANDLE:
            to = parameter.type.to if isinstance(parameter.type, Pointer) else None
            is_function = isinstance(to, FunctionPrototype)
            words = "a function pointer" if is_function else f"Ptr[{_short_name(formal.element)}]"
        case Unbox.STRUCT:
            words = _short_name(_class(formal))
        case Unbox.RECORD:
            access = "writable" if parameter.passing is Passing.WRITABLE else "readable"
            words = f"a {access} {_short_name(formal.element)}"
        case Unbox.FUNCTION:
            words = _FUNCTIONS[parameter.passing is Passing.CALLABLE]
        case Unbox.WIDE:
            words = "complex" if _is_complex(parameter) else "int"
        case Unbox.CDATA:
            words = _short_name(_class(formal))
        case Unbox.PARAM:
            words = _short_name(_class(formal))
        case Unbox.OBJECT:
            words = "an object"
        case Unbox.END:
            raise AssertionError("END is no conversion")
        case _:
            unreachable(step.kind)
    return f"{words} or None" if step.is_nullable else words


_FUNCTIONS = {True: "callable", False: "a callback or a gate"}


def _class(formal: Formal) -> type | None:
    wanted = formal.parameter.python_type
    return wanted if isinstance(wanted, type) else None


def _is_complex(parameter: Parameter) -> bool:
    return isinstance(parameter.type, Scalar) and parameter.type.kind is Kind.COMPLEX


def _mismatch(formal: Formal, thing: object) -> TypeError:
    return TypeError(f"{formal.where} must be {expected(formal)}, not {type_name(thing)}")


def _null(formal: Formal) -> TypeError:
    return TypeError(f"{formal.where} must be {expected(formal)}, not NULL")


def _int(formal: Formal, thing: object) -> int:
    step = formal.step
    if formal.parameter.name == VARIABLE and is_numpy_bool(thing):
        thing = bool(thing)
    if not hasattr(type(thing), "__index__"):
        raise _mismatch(formal, thing)
    value = _index(thing)
    bits = 8 * step.size_bytes
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if step.kind is Unbox.SIGNED else (0, (1 << bits) - 1)
    if not low <= value <= high:
        ctype = formal.parameter.type
        name = ctype.base.name if isinstance(ctype, Enumeration) else spell(ctype)
        shown = str(value) if abs(value) < 1 << 128 else f"an int of {value.bit_length()} bits"
        hint = _wider(value) if formal.parameter.name == VARIABLE else ""
        raise OverflowError(f"{formal.where} must be in {low}..{high} ({name}), not {shown}{hint}")
    return value


def _wider(value: int) -> str:
    """What to do with a variable argument that is wider than an int."""
    if -(1 << 63) <= value < 1 << 63:
        return f"; pass a wider one as c_int64({value})"
    return f"; pass a wider one as c_uint64({value})" if 0 <= value < 1 << 64 else ""


# Objects of subclasses are read as what they are, by the methods of int, bytes and str: their own cannot change that.
def _index(thing: object) -> int:
    return int.__index__(index(thing))  # type: ignore[arg-type]


def _exact_bytes(thing: bytes) -> bytes:
    return thing if type(thing) is bytes else bytes.__getitem__(thing, slice(None))


def _float(formal: Formal, thing: object) -> float:
    if formal.parameter.name == VARIABLE and isinstance(thing, ctypes.c_longdouble):
        thing = thing.value
    if isinstance(thing, float):
        value = float.__float__(thing)
    elif hasattr(type(thing), "__float__") or hasattr(type(thing), "__index__"):
        value = float(thing)  # type: ignore[arg-type]
    else:
        raise _mismatch(formal, thing)
    if formal.step.kind is Unbox.FLOAT:
        try:
            struct.pack("<f", value)
        except OverflowError:
            raise OverflowError(f"{formal.where} must be in the range of a C float, not {value!r}") from None
    return value


def is_numpy_bool(thing: object) -> bool:
    """Whether a thing is one of NumPy's truth values, which have no __index__ any more."""
    return type(thing).__module__ == "numpy" and type(thing).__name__ in ("bool", "bool_")


def _bool(formal: Formal, thing: object) -> int:
    if thing is True or thing is False:
        return int(thing)
    if is_numpy_bool(thing):
        return int(bool(thing))  # before __index__, which NumPy once gave it and deprecated
    if hasattr(type(thing), "__index__"):
        value = _index(thing)
        if value not in (0, 1):
            raise OverflowError(f"{formal.where} must be True or False (_Bool), not {value}")
        return value
    raise _mismatch(formal, thing)


def _character(formal: Formal, thing: object) -> int:
    if not isinstance(thing, bytes):
        raise _mismatch(formal, thing)
    data = _exact_bytes(thing)
    if len(data) != 1:
        raise TypeError(f"{formal.where} must be {expected(formal)}, not of length {len(data)}")
    return data[0]


def _wide_character(formal: Formal, thing: object) -> int:
    if not isinstance(thing, str):
        raise _mismatch(formal, thing)
    text = str.__str__(thing)
    if len(text) != 1:
        raise TypeError(f"{formal.where} must be {expected(formal)}, not of length {len(text)}")
    if formal.step.size_bytes == 2 and ord(text) > 0xFFFF:
        raise ValueError(
            f"{formal.where} must be a character up to U+FFFF, not U+{ord(text):X}: wchar_t has 2 bytes here; "
            "declare a wstr, or pass the two halves of its UTF-16"
        )
    return ord(text)


def address_of_bytes(data: bytes) -> int:
    """The address of the first of the bytes, valid as long as they live."""
    address: int | None = ctypes.cast(ctypes.c_char_p(data), _void_p).value
    assert address is not None  # bytes have memory
    return address


def _pointer_value(thing: object) -> int:
    """The pointer that a ctypes pointer, function pointer, c_void_p, c_char_p or byref() holds."""
    if isinstance(thing, names.CDATA):  # cast() would make a cycle of every such object
        held: int | None = _void_p.from_buffer(thing).value  # type: ignore[arg-type]
        return held or 0
    value: int | None = ctypes.cast(thing, _void_p).value  # type: ignore[arg-type]
    return value or 0


def _string(formal: Formal, thing: object) -> tuple[int, object]:
    if isinstance(thing, (str, bytes)):
        data = _exact_bytes(thing) if isinstance(thing, bytes) else str.encode(thing)
        if b"\0" in data:
            raise ValueError(f"{formal.where} must not contain a NUL: embedded null byte")
        return address_of_bytes(data), data
    raise _mismatch(formal, thing)


def _wide_string(formal: Formal, thing: object) -> tuple[int, object]:
    if not isinstance(thing, str):
        raise _mismatch(formal, thing)
    text = str.__str__(thing)
    if "\0" in text:
        raise ValueError(f"{formal.where} must not contain a NUL: embedded null character")
    owner = ctypes.create_unicode_buffer(text)
    return ctypes.addressof(owner), owner


def _checked(formal: Formal, address: int, owner: object) -> tuple[int, object]:
    if not address and not formal.step.is_nullable:
        raise _null(formal)
    return address, owner


def _holds_enough(formal: Formal, size_bytes: int) -> None:
    step = formal.step
    if size_bytes < step.minimum_bytes:
        size = ctypes.sizeof(formal.element) if formal.element is not None else 1
        raise ValueError(
            f"{formal.where} must hold at least {step.minimum_bytes // size} items of {_short_name(formal.element)}, "
            f"not {size_bytes // size}"
        )


def _from_ctypes(formal: Formal, thing: object) -> tuple[int, object] | None:
    """The address that a ctypes object stands for, or None where its kind does not fit."""
    element = formal.element
    is_void = formal.step.element is Element.ANY and formal.step.kind is Unbox.BUFFER
    is_void = is_void or (formal.step.kind is Unbox.HANDLE and formal.step.size_bytes == 0)
    if isinstance(thing, _BYREF):
        target: object = getattr(thing, "_obj", None)
        if not is_void and not _is_element(target, element):
            return None
        return _memory(formal, thing, target, _pointer_value(thing))
    if is_void and isinstance(thing, _POINTER_VALUES):
        return _checked(formal, _pointer_value(thing), thing)
    if isinstance(thing, _POINTER):
        pointee = type(thing)._type_
        if pointee is element and not _is_element(thing, element):
            return _checked(formal, _pointer_value(thing), thing)
    if element is ctypes.c_char and isinstance(thing, ctypes.c_char_p) and not formal.step.is_writable:
        return _checked(formal, _pointer_value(thing), thing)
    if formal.step.kind is Unbox.HANDLE and not is_void:
        is_array = isinstance(thing, ctypes.Array) and thing._type_ is element
        return (ctypes.addressof(thing), thing) if is_array else None  # type: ignore[arg-type]
    if isinstance(thing, names.CDATA) and (is_void or _is_element(thing, element)):
        return _memory(formal, thing, thing, ctypes.addressof(thing))  # type: ignore[arg-type]
    return None


def _memory(formal: Formal, thing: object, target: object, address: int) -> tuple[int, object]:
    """The memory of a ctypes object from `address` on: `thing` itself, or the target of a byref()."""
    size_bytes = ctypes.addressof(target) + ctypes.sizeof(target) - address  # type: ignore[arg-type]
    _holds_enough(formal, size_bytes)
    if formal.step.kind is Unbox.STRING and b"\0" not in ctypes.string_at(address, size_bytes):
        raise ValueError(f"{formal.where} must end with a NUL, and {type_name(target)} has none")
    return address, thing


def _is_element(thing: object, element: type | None) -> bool:
    """Whether a ctypes object is one item, or an array of items (also in several dimensions)."""
    if element is None:
        return False
    cls: Any = type(thing)
    while issubclass(cls, ctypes.Array):
        cls = cls._type_
    if cls is not type(thing) and issubclass(cls, element) and ctypes.sizeof(cls) != ctypes.sizeof(element):
        return False  # C would step through larger items with the declared stride
    return issubclass(cls, element) or _CHARACTER_POINTERS.get(element) is cls


_CHARACTER_POINTERS: dict[type, type] = {
    ctypes.c_char_p: ctypes.POINTER(ctypes.c_char),
    ctypes.POINTER(ctypes.c_char): ctypes.c_char_p,
    ctypes.c_wchar_p: ctypes.POINTER(ctypes.c_wchar),
    ctypes.POINTER(ctypes.c_wchar): ctypes.c_wchar_p,
}
"""The two classes that ctypes has for one C type."""


def _fits_element(formal: Formal, view: memoryview) -> bool:
    """Whether the items of a buffer are of the declared type; the rule of the machine code, in the same order."""
    step = formal.step
    code = view.format[1:] if view.format[:1] in ("@", "=", "<") else view.format
    found = FORMAT_ELEMENTS.get(code[:1], Element.ANY)
    if step.element is Element.ANY:
        return found is not Element.OTHER or (code[0] == "Z" and len(code) > 1)  # NumPy's complex, not a pointer
    if step.element is Element.OTHER or view.itemsize != step.size_bytes:
        return False
    return step.element is Element.BYTE or (found is step.element and len(code) == 1)


def _buffer(formal: Formal, thing: object) -> tuple[int, object]:
    step = formal.step
    if isinstance(thing, bytes):
        thing = _exact_bytes(thing)
    try:
        view = memoryview(thing)  # type: ignore[arg-type]
    except (TypeError, BufferError, ValueError) as problem:
        if problem.__traceback__ is not None and problem.__traceback__.tb_next is not None:
            raise  # out of a __buffer__ written in Python
        if isinstance(problem, TypeError):
            raise _mismatch(formal, thing) from None
        # an exporter that cannot describe itself
        raise TypeError(f"{formal.where} must be {expected(formal)}: {problem}") from None
    with view:  # released when an exception leaves here; what is exported below stays so
        if step.is_writable and view.readonly:
            raise TypeError(f"{formal.where} must be {expected(formal)}, not read-only {type_name(thing)}")
        if not _fits_element(formal, view):
            wrong = f"{type_name(thing)} of format {view.format!r}"
            raise TypeError(f"{formal.where} must be {expected(formal)}, not {wrong}")
        if not view.c_contiguous:
            raise BufferError(f"{formal.where} must be C-contiguous; pass a contiguous copy")
        _holds_enough(formal, view.nbytes)
        if isinstance(thing, bytes):
            return address_of_bytes(thing), thing
        if view.readonly:
            owner = view.tobytes()  # C only reads it
            return address_of_bytes(owner), owner
        exported = (ctypes.c_char * view.nbytes).from_buffer(view)
        return ctypes.addressof(exported), exported


def _list(formal: Formal, things: list[object]) -> tuple[int, object]:
    """A list, copied item by item into an array."""
    element = formal.element
    step = formal.step
    if step.is_writable or element is None or (step.element is Element.OTHER and step.kind is not Unbox.RECORD):
        raise _mismatch(formal, things)
    things = list.copy(things)  # Python code of an item may change the list
    if step.kind is Unbox.RECORD:
        return _records(formal, things, element)
    _holds_enough(formal, len(things) * ctypes.sizeof(element))
    pointee = _pointee(formal.parameter)
    item_step = UnboxStep(_ITEM_STEPS[step.element], step.size_bytes)
    if step.is_signed_byte:
        item_step = UnboxStep(Unbox.SIGNED, 1)
    elif step.element is Element.FLOATING and step.size_bytes == 4:
        item_step = UnboxStep(Unbox.FLOAT, 4)
    item = Parameter("", pointee, Passing.VALUE)
    values = [
        to_value(Formal(formal.function, formal.number, item, item_step, None, index), thing)[0]
        for index, thing in enumerate(things)
    ]
    items: list[object] = list(values)
    if element is ctypes.c_wchar:
        items = [chr(int(value)) for value in values]
    elif element is ctypes.c_char:
        items = [bytes((int(value),)) for value in values]
    owner: ctypes.Array[ctypes.c_char] = (element * len(items))(*items)  # type: ignore[operator]
    return ctypes.addressof(owner), owner


def _records(formal: Formal, things: list[object], element: Any) -> tuple[int, object]:
    """A list of structs, copied one after the other."""
    for number, thing in enumerate(things):
        if not isinstance(thing, element):
            raise TypeError(f"{formal.where} item {number} must be {_short_name(element)}, not {type_name(thing)}")
    owner = (element * len(things))(*things)
    return ctypes.addressof(owner), owner


_ITEM_STEPS = {
    Element.SIGNED: Unbox.SIGNED,
    Element.UNSIGNED: Unbox.UNSIGNED,
    Element.FLOATING: Unbox.DOUBLE,
    Element.BOOL: Unbox.BOOL,
    Element.WIDE_CHARACTER: Unbox.WIDE_CHARACTER,
    Element.BYTE: Unbox.UNSIGNED,
}


def _pointee(parameter: Parameter) -> Scalar | Record | Enumeration | Pointer:
    ctype = parameter.type
    inner = ctype.element if isinstance(ctype, Array) else ctype.to if isinstance(ctype, Pointer) else ctype
    return inner  # type: ignore[return-value]


def _address_int(formal: Formal, thing: int) -> tuple[int, object]:
    address = _index(thing)
    if not 0 <= address < 1 << 64:
        raise OverflowError(f"{formal.where} must be an address of 64 bits, not {address}")
    return _checked(formal, address, None)


def _pointer(formal: Formal, thing: object) -> tuple[int, object]:
    """READABLE and WRITABLE: memory of the caller."""
    found = _from_ctypes(formal, thing)
    if found is not None:
        return found
    is_void = formal.step.element is Element.ANY
    if isinstance(thing, int) and is_void:
        return _address_int(formal, thing)
    if isinstance(thing, list):
        return _list(formal, thing)
    if isinstance(thing, int):
        raise TypeError(
            f"{formal.where} must be {expected(formal)}, not int; for an address use "
            f"ctypes.cast(address, Ptr[{_short_name(formal.element)}])"
        )
    if formal.step.kind is Unbox.RECORD:
        raise _mismatch(formal, thing)
    return _buffer(formal, thing)


def _handle(formal: Formal, thing: object) -> tuple[int, object]:
    wanted = formal.parameter.python_type
    if isinstance(wanted, type) and isinstance(thing, wanted):
        return _checked(formal, _pointer_value(thing), thing)
    found = _from_ctypes(formal, thing)
    if found is not None:
        return found
    is_void = formal.step.size_bytes == 0
    to = formal.parameter.type.to if isinstance(formal.parameter.type, Pointer) else None
    if isinstance(to, FunctionPrototype) and isinstance(thing, (names.FUNCTION_POINTER, ctypes.c_void_p)):
        return _checked(formal, _pointer_value(thing), thing)
    if isinstance(thing, int):
        if is_void:
            return _address_int(formal, thing)
        cast = f"cast(address, Ptr[{_short_name(formal.element)}])"
        pointer = "c_void_p(address)" if isinstance(to, FunctionPrototype) else cast
        raise TypeError(f"{formal.where} must be {expected(formal)}, not int; for an address use ctypes.{pointer}")
    raise _mismatch(formal, thing)


def to_value(formal: Formal, thing: object) -> tuple[int | float, object]:
    """Convert one argument: its value or address, and what must live until the call is over.

    Raises TypeError for the wrong type, NULL, read-only memory or wrong items; OverflowError for an int out of
    range; ValueError for an embedded NUL and a buffer that is too short; BufferError for one not contiguous.
    """
    step = formal.step
    if thing is None and step.is_pointer:
        if step.is_nullable:
            return 0, None
        raise _mismatch(formal, thing)
    match step.kind:
        case Unbox.CDATA:
            return _cdata_value(formal, thing), None
        case Unbox.SIGNED | Unbox.UNSIGNED:
            return _int(formal, thing), None
        case Unbox.DOUBLE | Unbox.FLOAT:
            return _float(formal, thing), None
        case Unbox.BOOL:
            return _bool(formal, thing), None
        case Unbox.CHARACTER:
            return _character(formal, thing), None
        case Unbox.WIDE_CHARACTER:
            return _wide_character(formal, thing), None
        case Unbox.STRING:
            found = _from_ctypes(formal, thing)
            return found if found is not None else _string(formal, thing)
        case Unbox.WIDE_STRING:
            return _wide_string(formal, thing)
        case Unbox.BUFFER:
            return _pointer(formal, thing)
        case Unbox.HANDLE:
            return _handle(formal, thing)
        case Unbox.STRUCT if formal.parameter.passing is Passing.CTYPES:
            return params.to_struct(formal.number, formal.parameter, thing)
        case Unbox.STRUCT:
            return _struct(formal, thing)
        case Unbox.RECORD:
            return _pointer(formal, thing)
        case Unbox.FUNCTION:
            return callbacks.pass_function(formal, thing, expected(formal))
        case Unbox.WIDE:
            return _wide(formal, thing)
        case Unbox.PARAM:
            return params.to_word(formal.number, formal.parameter, step, thing)
        case Unbox.OBJECT:
            return id(thing), thing
        case Unbox.END:
            raise AssertionError("END is no conversion")
        case _:
            unreachable(step.kind)


def _cdata_value(formal: Formal, thing: object) -> int | float:
    """The value of a ctypes scalar."""
    wanted = _class(formal)
    if wanted is None or type(thing) is not wanted:
        raise _mismatch(formal, thing)
    value = thing.value  # type: ignore[attr-defined]
    if isinstance(value, bytes):
        return int.from_bytes(value, "little", signed=formal.step.element is Element.SIGNED)
    return ord(value) if isinstance(value, str) else value


def _struct(formal: Formal, thing: object) -> tuple[int, object]:
    """A struct by value: where its bytes lie."""
    wanted = _class(formal)
    if wanted is None or not isinstance(thing, wanted):
        raise _mismatch(formal, thing)
    return ctypes.addressof(thing), thing  # type: ignore[arg-type]


def _wide(formal: Formal, thing: object) -> tuple[int, object]:
    """A complex number or an int of 128 bits: a copy in memory."""
    size = formal.step.size_bytes
    if _is_complex(formal.parameter):
        if not isinstance(thing, complex) and not any(
            hasattr(type(thing), name) for name in ("__complex__", "__float__", "__index__")
        ):
            raise _mismatch(formal, thing)
        value = complex(thing)  # type: ignore[call-overload]
        try:
            data = struct.pack("<2f" if size == 8 else "<2d", value.real, value.imag)
        except OverflowError:
            raise OverflowError(f"{formal.where} must be in the range of C floats, not {value!r}") from None
    else:
        ctype = formal.parameter.type
        is_signed = isinstance(ctype, Scalar) and ctype.kind is Kind.SIGNED
        data = _int(
            formal._replace(step=UnboxStep(Unbox.SIGNED if is_signed else Unbox.UNSIGNED, size)), thing
        ).to_bytes(size, "little", signed=is_signed)
    return address_of_bytes(data), data


def from_wide(ctype: Scalar, data: bytes) -> object:
    """The Python value of a complex number or an int of 128 bits."""
    if ctype.kind is Kind.COMPLEX:
        return complex(*struct.unpack("<2f" if len(data) == 8 else "<2d", data))
    return int.from_bytes(data, "little", signed=ctype.kind is Kind.SIGNED)


def count_message(function: str, count: int, given: int) -> str:
    """CPython's words for a wrong number of arguments."""
    if not count:
        return f"{function}() takes no arguments ({given} given)"
    return f"{function}() takes exactly {count} argument{'s' * (count != 1)} ({given} given)"


def place_keywords(
    function: str, keyword_names: tuple[str | None, ...], given: tuple[object, ...], keywords: dict[str, object]
) -> list[object]:
    """The arguments in the order of the declaration; TypeError in CPython's words."""
    count = len(keyword_names)
    if keywords and not any(keyword_names):
        raise TypeError(f"{function}() takes no keyword arguments")
    if len(given) > count or (not keywords and len(given) < count):
        raise TypeError(count_message(function, count, len(given) + len(keywords)))
    missing = object()
    placed = [*given, *[missing] * (count - len(given))]
    for name, value in keywords.items():
        if name not in keyword_names:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        index = keyword_names.index(name)
        if placed[index] is not missing:
            raise TypeError(f"argument for {function}() given by name ({name!r}) and position ({index + 1})")
        placed[index] = value
    for index, value in enumerate(placed):
        if value is missing:
            absent = keyword_names[index]
            if absent is None:
                raise TypeError(count_message(function, count, len(given) + len(keywords)))
            raise TypeError(f"{function}() missing required argument {absent!r} (pos {index + 1})")
    return placed
