"""`callgate.accelerate`: existing ctypes functions become gates in place, and behave as ctypes has them.

A gate takes the place of a ctypes function wherever that is found: in its library, in modules, in dicts, lists, slots
and closures.  Ints wrap, `from_param`, errcheck and the rest are ctypes' own, and what a gate does not know (keywords,
another count of arguments) goes to the ctypes function as before.  What cannot be kept is left alone and named.

The module is not called `accelerate`: importing it would put a module in the place of the function.

Long because functions are found in many kinds of places, and each is put back in its own way.
"""

from __future__ import annotations

import ctypes
import gc
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CellType, ClassMethodDescriptorType, MemberDescriptorType, ModuleType, NoneType
from types import FunctionType as PythonFunction
from typing import Any

from callgate.bind import bind_ctypes
from callgate.c import names, types
from callgate.c.annotations import scalar_of, value_type
from callgate.c.types import FunctionType, Parameter, Passing, Pointer, Result, Returning
from callgate.cpython.conversion import CtypesRules
from callgate.errors import DeclarationError, EngineError
from callgate.runtime.engine import native_engine, use_images_of
from callgate.runtime.gate import Gate, Options
from callgate.runtime.unwind import LOOK
from callgate.target import IS_FREE_THREADED

_HOLDS_GIL, _USES_ERRNO, _USES_LAST_ERROR, _CDECL = 0x4, 0x8, 0x10, 0x1  # FUNCFLAG_… of ctypes
_PARAMFLAG_OUT = 2


class CannotAccelerate(Exception):
    """Why a function stays as it is."""


class Report:
    """What `accelerate` did: `fast` names the functions that are gates now, `left` says of the others why they are not.

    `undo()` puts the ctypes functions back.
    """

    def __init__(self) -> None:
        self._fast: dict[str, tuple[Any, Any]] = {}
        self._left: dict[str, str] = {}
        self._places: list[Callable[[], None]] = []

    @property
    def fast(self) -> tuple[str, ...]:
        """The names of the functions that became gates."""
        return tuple(self._fast)

    @property
    def left(self) -> dict[str, str]:
        """The functions that stayed as they are, each with the reason."""
        return dict(self._left)

    def undo(self) -> None:
        """Put the ctypes functions back wherever gates took their place.  A second time does nothing."""
        places, self._places = self._places, []
        for restore in reversed(places):
            restore()
        self._fast.clear()

    def __repr__(self) -> str:
        return f"<accelerated {len(self._fast)} functions, left {len(self._left)}>"


def accelerate(
    target: ctypes.CDLL | ModuleType,
    /,
    *,
    blocking: bool | None = None,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
) -> Report:
    """Make the declared ctypes functions of a library or module fast, in place.

    `target` is a CDLL or PyDLL, or a module with ctypes functions and libraries.  A function with `argtypes` becomes a
    gate that behaves as before: it accepts, returns and raises what ctypes does.  The GIL is released where the library
    released it, unless `blocking` says otherwise for all.  `only` and `skip` are names of functions.

    Returns a Report.  Declare `argtypes`, `restype` and `errcheck` before; setting them on a gate is an AttributeError.
    Raises TypeError for another target.

    >>> libm = ctypes.CDLL("libm.so.6")
    >>> libm.cos.argtypes, libm.cos.restype = [ctypes.c_double], ctypes.c_double
    >>> report = accelerate(libm)
    >>> report.fast, libm.cos(0)
    (('cos',), 1.0)
    """
    if not isinstance(target, (ctypes.CDLL, ModuleType)):
        raise TypeError(f"accelerate() takes a ctypes library or a module, not {type(target).__name__}")
    use_images_of(sys._getframe(1).f_globals)
    wanted = None if only is None else frozenset([only] if isinstance(only, str) else only)
    unwanted = frozenset([skip] if isinstance(skip, str) else skip or ())
    report = Report()
    chosen = [
        (name, function)
        for name, function in _functions(target)
        if name not in unwanted and (wanted is None or name in wanted)
    ]
    accelerate_functions(chosen, report, blocking)
    if wanted is not None:
        for name in sorted(wanted - report._fast.keys() - report._left.keys()):
            report._left[name] = "there is no ctypes function of this name here"
    return report


def accelerate_functions(
    functions: Iterable[tuple[str, Any]],
    report: Report,
    blocking: bool | None,
    *,
    yields: bool = False,
    only_in_modules: bool = False,
) -> None:
    """Make gates of functions, with their names, and add to the report.

    With `yields` a function that is declared anew later becomes the ctypes function again; else that is an error.
    `only_in_modules` is for a thread beside the program's: the collector would show it objects that are being made.
    """
    replaced: dict[int, tuple[Any, Any]] = {}
    LOOK.is_due = True  # ctypes may have loaded anything
    for name, function in functions:
        if id(function) in replaced:
            continue
        try:
            gate = gate_for(function, blocking)
        except (CannotAccelerate, DeclarationError, EngineError) as reason:
            report._left[name] = str(reason)
            continue
        gate.__self__.yields = yields
        replaced[id(function)] = (function, gate)
        report._fast[name] = (function, gate)
    if replaced:
        _show_declarations()
        replace = replace_in_modules if only_in_modules else replace_everywhere
        report._places += replace(replaced)


def _functions(target: ctypes.CDLL | ModuleType) -> Iterator[tuple[str, Any]]:
    """The ctypes functions of a library, or of a module and the libraries in it, with their names."""
    libraries = [target] if isinstance(target, ctypes.CDLL) else []
    if isinstance(target, ModuleType):
        for name, thing in list(vars(target).items()):
            if isinstance(thing, names.FUNCTION_POINTER):
                yield name, thing
            elif isinstance(thing, ctypes.CDLL):
                libraries.append(thing)
    for library in libraries:
        for name, thing in list(vars(library).items()):
            if isinstance(thing, names.FUNCTION_POINTER) and not name.startswith("_FuncPtr"):
                yield name, thing


# -- a gate for a ctypes function ------------------------------------------------------------------------------------


def gate_for(function: Any, blocking: bool | None) -> Any:
    """The gate that takes the place of a ctypes function; CannotAccelerate says why there is none."""
    name = getattr(function, "__name__", "function")
    flags = type(function)._flags_
    if function.argtypes is None:
        raise CannotAccelerate("argtypes is not set, so ctypes converts each argument by its own type")
    if flags & ~(_HOLDS_GIL | _USES_ERRNO | _CDECL):
        raise CannotAccelerate("its calling convention or its use of GetLastError is not C's plain one")
    if _output_flags(function):
        raise CannotAccelerate("paramflags make some of its parameters results")
    address = ctypes.cast(function, ctypes.c_void_p).value
    if not address:
        raise CannotAccelerate("it is a NULL pointer")
    if _is_python_callable(function):
        raise CannotAccelerate("it is a callback: the function behind it is Python")
    own = sorted(set(vars(function)) - {"__name__", "__qualname__", "__doc__", "__module__"})
    if own:
        raise CannotAccelerate(f"it carries attributes of its own, which a gate cannot: {', '.join(own)}")
    parameters = tuple(_parameter(argtype, f"argument {number}") for number, argtype in enumerate(function.argtypes, 1))
    signature = FunctionType(name, parameters, _result(function.restype), False, len(parameters))
    holds_gil = bool(flags & _HOLDS_GIL)
    rules = CtypesRules(
        calls_errcheck=function.errcheck is not None,
        checks_error=holds_gil,
        swaps_errno=bool(flags & _USES_ERRNO),
    )
    options = Options(blocking=not holds_gil if blocking is None else blocking)
    return bind_ctypes(signature, address, function, _library_of(function), options, rules)


def _parameter(argtype: Any, where: str) -> Parameter:
    scalar = scalar_of(argtype)
    is_struct = isinstance(argtype, type) and issubclass(argtype, (ctypes.Structure, ctypes.Union))
    if (scalar is not None or is_struct) and _has_own_from_param(argtype):
        raise CannotAccelerate(f"{where} has a from_param of its own")
    if scalar is not None:
        return Parameter("", scalar, Passing.CTYPES, False, argtype)
    if is_struct:
        ctype, _ = value_type(argtype, where)
        return Parameter("", ctype, Passing.CTYPES, False, argtype)
    if not hasattr(argtype, "from_param"):
        raise CannotAccelerate(f"{where} has no from_param")
    if not isinstance(argtype, type) or not issubclass(argtype, names.CDATA) or _has_own_from_param(argtype):
        return Parameter("", types.VOID_POINTER, Passing.CTYPES, False, argtype, None, types.INT)
    if issubclass(argtype, ctypes.Array):
        return Parameter("", types.VOID_POINTER, Passing.CTYPES, False, argtype, None, types.VOID)
    takes_none = issubclass(argtype, (ctypes._Pointer, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p))
    held = types.VOID_POINTER if takes_none and issubclass(argtype, ctypes._Pointer) else None
    return Parameter("", types.VOID_POINTER, Passing.CTYPES, takes_none, argtype, None, held)


def _has_own_from_param(cls: type) -> bool:
    """Whether a class, or a base of it, converts arguments in Python."""
    found = (base.__dict__["from_param"] for base in cls.__mro__ if "from_param" in base.__dict__)
    return not isinstance(next(found, None), (NoneType, ClassMethodDescriptorType))  # some of ctypes' own have one


def _result(restype: Any) -> Result:
    if restype is None:
        return Result(types.VOID, Returning.NOTHING)
    if not isinstance(restype, type):
        return Result(types.INT, Returning.CALLED, False, restype)
    scalar = scalar_of(restype)
    is_plain = "_type_" in restype.__dict__  # subclasses of simple types come back as they are
    if scalar is not None:
        if is_plain:
            return Result(scalar, Returning.VALUE)
        if scalar.kind is types.Kind.FLOATING:
            raise CannotAccelerate(
                f"its result is a {restype.__name__}, a class of its own for a floating point number"
            )
        return Result(scalar, Returning.INSTANCE, False, restype)
    if issubclass(restype, ctypes.c_char_p):
        returning = Returning.BYTES if restype is ctypes.c_char_p else Returning.INSTANCE
        return Result(Pointer(types.CHAR, True), returning, True, restype)
    if issubclass(restype, ctypes.c_wchar_p):
        returning = Returning.WIDE_STRING if restype is ctypes.c_wchar_p else Returning.INSTANCE
        return Result(Pointer(types.WCHAR, True), returning, True, restype)
    if issubclass(restype, ctypes.c_void_p):
        returning = Returning.ADDRESS if restype is ctypes.c_void_p else Returning.INSTANCE
        return Result(types.VOID_POINTER, returning, True, restype)
    if issubclass(restype, ctypes.py_object):
        return Result(types.VOID_POINTER, Returning.OBJECT, False, restype)
    if issubclass(restype, (ctypes._Pointer, names.FUNCTION_POINTER)):
        return Result(types.VOID_POINTER, Returning.INSTANCE, False, restype)
    if issubclass(restype, (ctypes.Structure, ctypes.Union)):
        ctype, _ = value_type(restype, "the result")
        return Result(ctype, Returning.VALUE, False, restype)
    if callable(restype) and not issubclass(restype, names.CDATA):
        return Result(types.INT, Returning.CALLED, False, restype)
    raise CannotAccelerate(f"its result {restype.__name__} is of no kind that a gate returns")


# -- what ctypes does not tell: read from the object, where a probe found it -----------------------------------------


def _word_offset(thing: object, wanted: object) -> int | None:
    """The offset of a reference to `wanted` inside an object, or None."""
    size = type(thing).__basicsize__
    words = struct.unpack(f"<{size // 8}Q", ctypes.string_at(id(thing), size // 8 * 8))
    return 8 * words.index(id(wanted)) if id(wanted) in words else None


class _Probes:
    """Where a function pointer object keeps its paramflags and its Python callable; None where not found."""

    def __init__(self) -> None:
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
        paramflags = ((1, "probe"),)
        flagged = prototype(("Py_IsInitialized", ctypes.pythonapi), paramflags)
        self.paramflags = _word_offset(flagged, paramflags)

        def probe(number: int) -> int:
            return number

        self.callable = _word_offset(prototype(probe), probe)


_probes: list[_Probes] = []


def _get_probes() -> _Probes:
    if not _probes:
        _probes.append(_Probes())
    return _probes[0]


def _word_at(thing: object, offset: int) -> int:
    word: int = struct.unpack("<Q", ctypes.string_at(id(thing) + offset, 8))[0]
    return word


def _output_flags(function: Any) -> bool:
    """Whether paramflags turn parameters into results; a function whose flags cannot be seen counts as having such."""
    offset = _get_probes().paramflags
    if offset is None:
        return True
    word = _word_at(function, offset)
    if not word:
        return False
    flags = ctypes.cast(word, ctypes.py_object).value
    return any(item and item[0] and item[0] & _PARAMFLAG_OUT for item in flags)


def _is_python_callable(function: Any) -> bool:
    offset = _get_probes().callable
    return offset is not None and _word_at(function, offset) not in (0, id(function))  # itself: a C function


# -- taking the place ------------------------------------------------------------------------------------------------


def replace_everywhere(
    replaced: dict[int, tuple[Any, Any]],
) -> list[Callable[[], None]]:
    """Put each gate where its function is referred to; how to put the functions back, place by place."""
    places: list[Callable[[], None]] = []
    functions = [pair[0] for pair in replaced.values()]
    ours = {id(functions), id(replaced), *(id(pair) for pair in replaced.values())}
    seen = gc.get_referrers(*functions)
    for holder in [*seen, *_unseen(seen)]:
        # no attribute of a foreign object is asked for: it may have hooks of its own
        if id(holder) in ours or isinstance(holder, Gate):
            continue
        _replace_in(holder, replaced, places)
    return places


def _unseen(seen: list[Any]) -> list[dict[str, Any]]:
    """The dicts of modules and classes that the collector does not know of, less those that it has `seen`.

    When the first thread starts, a free-threaded CPython 3.13 makes modules and classes immortal, and takes them away
    from it.
    """
    if not _HIDES_FROM_COLLECTOR:
        return []
    known = set(map(id, seen))
    modules = [vars(module) for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return [holder for holder in [*modules, *(holder for holder, _ in _class_dicts())] if id(holder) not in known]


_HIDES_FROM_COLLECTOR = IS_FREE_THREADED and sys.version_info < (3, 14)


def _class_dicts() -> Iterator[tuple[dict[str, Any], type]]:
    """The dict of every class that there is, with the class."""
    waiting: list[type] = [object]
    met: set[int] = set()
    while waiting:
        cls = waiting.pop()
        if id(cls) not in met:
            met.add(id(cls))
            waiting += type.__subclasses__(cls)
            for holder in gc.get_referents(type.__getattribute__(cls, "__dict__")):  # what the proxy stands for
                yield holder, cls


def _classes_of(holder: dict[str, Any]) -> list[type]:
    """The classes whose dict this is."""
    if _HIDES_FROM_COLLECTOR:
        return [cls for found, cls in _class_dicts() if found is holder]
    return [cls for cls in gc.get_referrers(holder) if isinstance(cls, type)]


def replace_in_modules(replaced: dict[int, tuple[Any, Any]]) -> list[Callable[[], None]]:
    """The same in modules and in the functions' own libraries only."""
    places: list[Callable[[], None]] = []
    libraries = {id(library): library for function, _ in replaced.values() if (library := _library_of(function))}
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    for holder in [*libraries.values(), *modules]:
        _replace_in(vars(holder), replaced, places)
    return places


def _library_of(function: Any) -> Any:
    """The CDLL that a function was looked up in, or None."""
    return (function._objects or {}).get("0")


def _replace_in(holder: Any, replaced: dict[int, tuple[Any, Any]], places: list[Callable[[], None]]) -> None:
    """Replace functions in one object that refers to some: dicts, lists, cells, slots."""

    def matching(thing: Any) -> Any:
        pair = replaced.get(id(thing))
        return pair[1] if pair is not None and pair[0] is thing else None

    if isinstance(holder, dict):
        is_of_class = "__module__" in holder and "__doc__" in holder and "__name__" not in holder
        classes = (
            _classes_of(holder)
            if is_of_class and any(matching(value) is not None for value in list(holder.values()))
            else []
        )
        for key, value in list(holder.items()):
            gate = matching(value)
            if gate is not None:
                _replace_item(holder, key, gate, classes, places)
    elif type(holder) is list:
        for index, value in enumerate(holder):
            gate = matching(value)
            if gate is not None:
                holder[index] = gate
                places.append(lambda value=value, gate=gate: _restore_in_list(holder, gate, value))  # type: ignore[misc]
    elif isinstance(holder, CellType):
        value = holder.cell_contents
        gate = matching(value)
        if gate is not None:
            holder.cell_contents = gate
            places.append(lambda: _restore_attribute(holder, "cell_contents", gate, value))
    elif not isinstance(holder, (tuple, type, PythonFunction, type(sys._getframe()))):
        attributes = _instance_dict(holder)
        for key, value in list(attributes.items()) if attributes is not None else []:
            gate = matching(value)
            if gate is not None and attributes is not None:  # kept inside the object until somebody asks
                _replace_item(attributes, key, gate, [], places)
        for slot in [slot for cls in type(holder).__mro__ for slot in vars(cls).values()]:
            value = _slot_value(slot, holder) if isinstance(slot, MemberDescriptorType) else None
            gate = matching(value)
            if gate is not None:
                slot.__set__(holder, gate)
                places.append(lambda slot=slot, gate=gate, value=value: _restore_slot(slot, holder, gate, value))  # type: ignore[misc]


# Each place is given back only where the gate still stands: the program may have put something else there.
def _replace_item(
    holder: dict[Any, Any], key: Any, gate: Any, classes: list[type], places: list[Callable[[], None]]
) -> None:
    original = dict.__getitem__(holder, key)

    def put(thing: Any) -> None:
        dict.__setitem__(holder, key, thing)
        for cls in classes:
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))

    def restore() -> None:
        if dict.get(holder, key) is gate:
            put(original)

    put(gate)
    places.append(restore)


def _restore_in_list(holder: list[Any], gate: Any, original: Any) -> None:
    for index, thing in enumerate(holder):
        if thing is gate:
            holder[index] = original


def _restore_attribute(holder: Any, name: str, gate: Any, original: Any) -> None:
    if getattr(holder, name) is gate:
        setattr(holder, name, original)


def _restore_slot(slot: MemberDescriptorType, holder: Any, gate: Any, original: Any) -> None:
    if _slot_value(slot, holder) is gate:
        slot.__set__(holder, original)


def _instance_dict(holder: Any) -> dict[Any, Any] | None:
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        return None
    return attributes if isinstance(attributes, dict) else None


def _slot_value(slot: MemberDescriptorType, holder: Any) -> Any:
    try:
        return slot.__get__(holder, type(holder))
    except AttributeError:  # not set
        return None


# -- argtypes, restype and errcheck of gates -------------------------------------------------------------------------


def _original_of(function: Any) -> Any:
    """The ctypes function whose place a gate took: casts and functions that take pointers want that."""
    record = getattr(function, "__self__", None)
    if isinstance(record, Gate) and record.original is not None:
        return record.original
    raise AttributeError(f"{type(function).__name__!r} object has no attribute '_as_parameter_'")


def _declaration(attribute: str) -> property:
    """A property of all builtins: on an accelerated gate the ctypes function's declaration, elsewhere no attribute."""

    def original(function: Any) -> Any:
        record = getattr(function, "__self__", None)
        if isinstance(record, Gate) and record.original is not None:
            return record.original
        raise AttributeError(f"{type(function).__name__!r} object has no attribute {attribute!r}")

    def get(function: Any) -> Any:
        return getattr(original(function), attribute)

    def put(function: Any, value: Any) -> None:
        declared, name = original(function), function.__name__
        if function.__self__.yields:
            setattr(declared, attribute, value)
            native_engine().give_way(function)
            return
        raise AttributeError(
            f"{name}() is a gate since accelerate(): set its {attribute} before that, or call undo() of the report, "
            f"set it and accelerate again (skip={name!r} leaves the function alone)"
        )

    def delete(function: Any) -> None:
        put(function, None)

    return property(get, put, delete, doc=f"The {attribute} of the ctypes function that a gate took the place of.")


_shown: list[bool] = []


def _show_declarations() -> None:
    """Let gates show `argtypes`, `restype` and `errcheck`, and refuse to change them with a sentence.

    A builtin has no attributes of its own, so they are added to the type, once.
    """
    if _shown:
        return
    builtin = type(len)
    attributes: dict[str, Any] = gc.get_referents(builtin.__dict__)[0]
    for attribute in ("argtypes", "restype", "errcheck"):
        attributes[attribute] = _declaration(attribute)
    attributes["_as_parameter_"] = property(_original_of, doc="What ctypes passes for an accelerated gate.")
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(builtin))
    _shown.append(True)
