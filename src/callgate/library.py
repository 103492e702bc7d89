"""Libraries as users see them: `load`, Library, `function`, and what they declare.

Long because all four ways of declaring meet here, each with the docstring that users read.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType as PythonFunction
from typing import TYPE_CHECKING, Any

from callgate.bind import bind, with_python_types
from callgate.c import names, types
from callgate.c.agreement import agree
from callgate.c.annotations import callback_type, ctypes_of, function_type, parameter_of, result_of, value_type
from callgate.c.types import (
    CType,
    FunctionType,
    Parameter,
    Passing,
    Pointer,
    Result,
    Returning,
    declaration,
)
from callgate.errors import DeclarationError, SymbolNotFoundError
from callgate.runtime.callbacks import Callback, gate_behind
from callgate.runtime.declared import Watch
from callgate.runtime.engine import choose, use_images_of
from callgate.runtime.gate import LAST, Gate, Options
from callgate.runtime.process_bound import not_copied
from callgate.runtime.shared_library import SharedLibrary, open_library
from callgate.target import DATA_MODEL

if TYPE_CHECKING:
    from callgate.c.declarations import Declarations

_OPTIONS = "__callgate_options__"
_FUNCTION_OPTIONS = frozenset(Options._fields)


class _Defaults:
    """What holds for all functions of a library."""

    __slots__ = ("blocking", "engine", "error")

    def __init__(
        self,
        blocking: bool = False,
        error: Callable[[int], BaseException] | str | None = None,
        engine: str | None = None,
    ) -> None:
        self.blocking = blocking
        self.error = error
        self.engine = engine

    def options(self, given: Mapping[str, Any], signature: FunctionType) -> Options:
        """A function's own options before the library's; a library's `error` judges only what can fail."""
        options = Options(**given)
        can_fail = signature.result.returning is Returning.STATUS or options.fails_if is not None
        return options._replace(
            blocking=options.blocking if "blocking" in given else self.blocking,
            error=options.error if options.error is not None or not can_fail else self.error,
            engine=options.engine if options.engine is not None else self.engine,
        )


def _locals_of(function: Callable[..., Any], depth: int) -> Mapping[str, object] | None:
    """The caller's local names, where a string annotation may mean them: a declaration inside a function."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return None
    return dict(sys._getframe(depth + 1).f_locals)


def _check_options(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in _FUNCTION_OPTIONS:
            known = ", ".join(sorted(_FUNCTION_OPTIONS))
            raise TypeError(f"function() has no option {name!r}; the options are {known}")


class Library:
    """A loaded library and the functions declared for it.

    Its attributes are the library's functions and constants, and `function`, the decorator that declares one more;
    `library["name"]` is always the symbol's function, `"name" in library` tests whether the symbol exists.
    Functions of a Protocol or of C text are bound when first used.
    """

    __slots__ = ("__defaults", "__dict__", "__pending", "__records", "__shared", "__weakref__")
    __reduce__ = not_copied("load the library there")

    def __init__(
        self,
        shared: SharedLibrary,
        defaults: _Defaults,
        pending: dict[str, Callable[[], Any]],
        records: dict[str, type],
    ) -> None:
        self.__shared = shared
        self.__defaults = defaults
        self.__pending = pending
        self.__records = records
        if Watch.current is not None:
            Watch.current.libraries.append(self)

    def __getattr__(self, name: str) -> Any:
        pending = self.__pending.get(name)
        if pending is None:
            if name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            raise self.__undeclared(name)
        made = pending()
        self.__dict__[name] = made
        return made

    def __undeclared(self, name: str) -> AttributeError:
        if self.__shared.find(name) is not None:
            return AttributeError(
                f"{self.__shared} has {name!r}, but it is not declared; declare it with @library.function, a Protocol "
                "or C text"
            )
        import difflib

        known = sorted({*self.__pending, *self.__dict__})
        near = difflib.get_close_matches(name, known, 3)
        if near:
            return AttributeError(f"{name!r} is not declared; the nearest declared names are {', '.join(near)}")
        try:
            self.__shared.address(name)
        except SymbolNotFoundError as problem:
            return problem
        return AttributeError(name)

    def __getitem__(self, name: str) -> Any:
        if name in self.__dict__:
            return self.__dict__[name]
        pending = self.__pending.get(name)
        if pending is not None:
            return getattr(self, name) if name != "function" else self.__bind_hidden(name, pending)
        self.__shared.address(name)  # raises for a symbol that is not there
        raise self.__undeclared(name)

    def __bind_hidden(self, name: str, pending: Callable[[], Any]) -> Any:
        made = pending()
        self.__dict__[name] = made
        return made

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.__shared.find(name) is not None

    def __dir__(self) -> list[str]:
        return sorted({*self.__pending, *self.__dict__, "function"})

    def __repr__(self) -> str:
        names = sorted({*self.__pending, *self.__dict__})
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        return f"<library {self.__shared}: {shown or 'nothing declared yet'}>"

    def function(self, declared: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Declare one function: `@library.function` or `@library.function(fails_if="negative")` over a def with `...`.

        Options: `symbol` (its name in the library, where it differs), `at` (an address instead), `required=False`
        (None where the symbol is missing), `blocking`, `fails_if`, `error`, `engine`, `free` (the name of the library's
        function, or a gate, that releases the result), `length` (of a result `Array[T]`: a number, a parameter's name,
        or the unsigned type of a count before the items), `stack_bytes` (C runs on a stack of that size).  Raises
        SymbolNotFoundError and DeclarationError at once.
        """
        if declared is None:
            _check_options(options)

            def decorate(function: Callable[..., Any]) -> Any:
                made = self.__declare(function, options, _locals_of(function, 1))
                return made

            return decorate
        return self.__declare(declared, options, _locals_of(declared, 1))

    def __declare(
        self, function: Callable[..., Any], options: Mapping[str, Any], local_names: Mapping[str, object] | None
    ) -> Any:
        use_images_of(getattr(function, "__globals__", {}))
        signature = function_type(function, local_names)
        made = bind_symbol(self.__shared, signature, self.__defaults.options(options, signature))
        self.__dict__[signature.name] = made
        return made


def bind_symbol(shared: SharedLibrary, signature: FunctionType, options: Options) -> Callable[..., Any] | None:
    """Bind a symbol of a library, or the address of `at`; None where it is missing and not required."""
    if options.at is not None:
        return bind(signature, _checked_address(options.at), None, options)
    if isinstance(options.free, str):
        options = options._replace(free=_freeing(shared, options.free))
    elif options.free is not None:
        options = options._replace(free=_adapted(options.free))
    symbol = options.symbol or signature.name
    if options.required:
        address = shared.address(symbol)
    else:
        found = shared.find(symbol)
        if found is None:
            return None
        address = found
    return bind(signature, address, shared, options)


def _freeing(shared: SharedLibrary, name: str) -> Callable[[object], object]:
    """The gate of a library's function that frees: void name(void *)."""
    pointer = Parameter("pointer", types.VOID_POINTER, Passing.HANDLE, True, ctypes.c_void_p)
    gate = bind(
        FunctionType(name, (pointer,), Result(types.VOID, Returning.NOTHING), False, 1),
        shared.address(name),
        shared,
        Options(),
    )

    def free(handle: Any) -> None:
        gate(ctypes.cast(handle, ctypes.c_void_p))

    return free


def _adapted(free: Callable[[Any], object]) -> Callable[[Any], object]:
    """A gate that frees takes the pointer type that it declares."""
    record = gate_behind(free)
    parameters = record.signature.parameters if record is not None else ()
    wanted = parameters[0].python_type if parameters else None
    if not isinstance(wanted, type) or not issubclass(wanted, ctypes._Pointer):
        return free
    return lambda handle: free(ctypes.cast(handle, wanted))


def errno() -> int:
    """The errno of this thread's last call that failed, or that a predicate of `fails_if` judged; 0 before any.

    Of a function with `error="last"` it is what GetLastError said.

    >>> libc = load("c")
    >>> @libc.function(fails_if="minus_one")
    ... def close(fd: names.i32) -> names.i32: ...
    >>> close(-1)
    Traceback (most recent call last):
    ...
    OSError: [Errno 9] Bad file descriptor
    >>> errno()
    9
    """
    return LAST.errno


def _checked_address(address: object) -> int:
    if not isinstance(address, int):
        raise TypeError(f"at= must be an int, not {type(address).__name__}")
    if not 0 < address < 1 << 64:
        raise ValueError(f"at= must be an address, not {address:#x}" if address >= 0 else "at= must be positive")
    return address


def load(
    name: str | os.PathLike[str] | Sequence[str] | None,
    declarations: Any = None,
    typed: Any = None,
    /,
    *,
    blocking: bool = False,
    error: Callable[[int], BaseException] | str | None = None,
    engine: str | None = None,
) -> Any:
    """Load a library and declare its functions.

    `name` is a short name ("m", "sqlite3"), a file name or path, a sequence of candidates, or None for the process.
    `declarations` is a Protocol class, or C text, which `typed` (a Protocol class) may type further; without it
    functions are declared by `@library.function`.  `blocking`, `error` and `engine` hold for all its functions.

    Returns a Library.  Raises LibraryNotFoundError (what was tried) and DeclarationError.

    >>> m = load("m", "double hypot(double x, double y);")
    >>> m.hypot(3.0, 4.0)
    5.0
    """
    use_images_of(sys._getframe(1).f_globals)
    shared = open_library(name)
    defaults = _Defaults(blocking, error, engine)
    records: dict[str, type] = {}
    if declarations is None:
        if typed is not None:
            raise TypeError("load() takes typed= only together with C text")
        return Library(shared, defaults, {}, records)
    if isinstance(declarations, str):
        pending, c_functions = _pending_of_text(declarations, shared, defaults, records)
        if typed is not None:
            protocol = _pending_of_protocol(typed, shared, defaults, _locals_of(typed, 1), c_functions)
            pending = {**pending, **protocol}
        return Library(shared, defaults, pending, records)
    if typed is not None:
        raise TypeError("load() takes C text before a Protocol that types it, or a Protocol alone")
    pending = _pending_of_protocol(declarations, shared, defaults, _locals_of(declarations, 1), {})
    return Library(shared, defaults, pending, records)


def _pending_of_text(
    text: str, shared: SharedLibrary, defaults: _Defaults, records: dict[str, type]
) -> tuple[dict[str, Callable[[], Any]], dict[str, FunctionType]]:
    from callgate.c.declarations import parse  # most programs declare in Python

    parsed = parse(text, DATA_MODEL)
    pending: dict[str, Callable[[], Any]] = {}
    for name, value in parsed.constants.items():
        pending[name] = lambda value=value: value  # type: ignore[misc]
    _define_records(parsed, records)
    for name in parsed.records:
        pending[name] = lambda cls=records[name]: cls  # type: ignore[misc]
    for name, ctype in parsed.variables.items():
        pending[name] = _variable_binding(shared, name, ctype, records)
    for name, refusal in parsed.refused.items():
        pending[name] = _raising(refusal)
    for name, signature in parsed.functions.items():
        pending[name] = _binding(shared, signature, defaults, records)
    return pending, parsed.functions


def _define_records(parsed: Declarations, records: dict[str, type]) -> None:
    """The classes of the structs and unions of C text; a tag and a typedef of one record share a class."""
    from callgate.c.structures import class_of, shell_of  # most texts have none

    shells: dict[object, type] = {}
    for name, record in parsed.records.items():  # first all of them, for they may point to each other
        key = id(record.members) if record.members else name  # () is one object
        shell = shells.get(key)
        if shell is None:
            shell = shells[key] = shell_of(record)
        records[name] = shell
    for record in parsed.records.values():
        class_of(record, records)


def _variable_binding(shared: SharedLibrary, name: str, ctype: CType, records: dict[str, type]) -> Callable[[], Any]:
    return lambda: _variable_at(shared, name, ctype, records)


def _variable_at(shared: SharedLibrary, name: str, ctype: CType, records: dict[str, type]) -> Any:
    address = shared.variable_address(name)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared))  # the library stays, whoever keeps the variable
    if isinstance(ctype, types.Array) and not ctype.length:
        return ctypes.cast(address, ctypes.POINTER(ctypes_of(ctype.element, records)))
    cls: Any = ctypes_of(ctype, records)
    return cls.from_address(address)


def variable(library: Library, name: str, declared: Any, /) -> Any:
    """A global variable of a library, as the ctypes object that lies at its address: reading it reads C's memory.

    `declared` is its type: a scalar (`.value` reads and writes it), a Struct, `Ptr[T]`, a ctypes array.
    The library stays loaded from then on.  Raises SymbolNotFoundError and DeclarationError.

    >>> from callgate import Ptr
    >>> variable(load(None), "environ", Ptr[bytes])[0] is not None
    True
    """
    if not isinstance(library, Library):
        raise TypeError(f"variable() takes a Library, not {type(library).__name__}")
    ctype, cls = value_type(declared, f"variable {name!r}")
    if cls is None:
        raise DeclarationError(f"variable {name!r}: void has no value")
    shared: SharedLibrary = library._Library__shared
    address = shared.variable_address(name)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared))  # the library stays, whoever keeps the variable
    del ctype
    located: Any = cls
    return located.from_address(address)


def _raising(problem: DeclarationError) -> Callable[[], Any]:
    def refuse() -> Any:
        raise problem

    return refuse


def _binding(
    shared: SharedLibrary, signature: FunctionType, defaults: _Defaults, records: dict[str, type]
) -> Callable[[], Any]:
    return lambda: bind_symbol(shared, with_python_types(signature, records), defaults.options({}, signature))


def _pending_of_protocol(
    protocol: Any,
    shared: SharedLibrary,
    defaults: _Defaults,
    local_names: Mapping[str, object] | None,
    c_functions: Mapping[str, FunctionType],
) -> dict[str, Callable[[], Any]]:
    if not isinstance(protocol, type):
        raise TypeError(f"load() needs a Protocol class or C text, not {type(protocol).__name__}")
    pending: dict[str, Callable[[], Any]] = {}
    for cls in reversed(protocol.__mro__):
        if cls is object or cls.__module__ in ("typing", "typing_extensions"):
            continue
        for name, function in vars(cls).items():
            if not isinstance(function, PythonFunction) or (name.startswith("_") and name.endswith("__")):
                continue
            if function.__module__ in ("typing", "typing_extensions"):
                continue  # what Protocol itself puts into the class
            pending[name] = _protocol_binding(function, shared, defaults, local_names, c_functions.get(name))
    if not pending:
        raise DeclarationError(f"{protocol.__name__} declares no function")
    return pending


def _protocol_binding(
    function: Callable[..., Any],
    shared: SharedLibrary,
    defaults: _Defaults,
    local_names: Mapping[str, object] | None,
    c_function: FunctionType | None,
) -> Callable[[], Any]:
    def make() -> Any:
        signature = function_type(function, local_names, skips_self=True)
        if c_function is not None:
            _check_agreement(signature, c_function)
        return bind_symbol(shared, signature, defaults.options(getattr(function, _OPTIONS, {}), signature))

    return make


def _check_agreement(signature: FunctionType, c_function: FunctionType) -> None:
    """A Protocol that types C text must mean the same C types."""
    name = signature.name
    if signature.is_variadic != c_function.is_variadic:
        which = "the Protocol" if signature.is_variadic else "the C text"
        raise DeclarationError(f"{name}(): only {which} has variable arguments: {declaration(c_function)}")
    if len(signature.parameters) != len(c_function.parameters):
        raise DeclarationError(
            f"{name}(): the Protocol has {len(signature.parameters)} parameters, the C text "
            f"{len(c_function.parameters)}: {declaration(c_function)}"
        )
    pairs = [(a.type, b.type) for a, b in zip(signature.parameters, c_function.parameters, strict=True)]
    pairs.append((signature.result.type, c_function.result.type))
    for number, (python, c) in enumerate(pairs, 1):
        if not agree(python, c, DATA_MODEL):
            what = "result" if number == len(pairs) else f"parameter {number}"
            raise DeclarationError(
                f"{name}(): {what} is {types.spell(python)} in the Protocol, but {types.spell(c)} in the C text"
            )


def function(declared: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a C function: in a Protocol, to give it options or Out parameters; elsewhere with `at=`, an address.

    Options as for `Library.function`.

    >>> import ctypes
    >>> from callgate import f64
    >>> address = ctypes.cast(ctypes.CDLL("libm.so.6").cos, ctypes.c_void_p).value
    >>> @function(at=address)
    ... def cosine(x: f64) -> f64: ...
    >>> cosine(0.0)
    1.0
    """
    _check_options(options)
    if declared is None:

        def decorate(function: Callable[..., Any]) -> Any:
            return _declare_alone(function, options, _locals_of(function, 1))

        return decorate
    return _declare_alone(declared, options, _locals_of(declared, 1))


def _declare_alone(
    declared: Callable[..., Any], options: Mapping[str, Any], local_names: Mapping[str, object] | None
) -> Any:
    if "at" in options:
        use_images_of(getattr(declared, "__globals__", {}))
        signature = function_type(declared, local_names)
        given = _Defaults().options(options, signature)
        return bind(signature, _checked_address(given.at), None, given)
    scope = getattr(declared, "__qualname__", "").rpartition(".")[0]
    if not scope or scope.endswith("<locals>"):
        name = getattr(declared, "__name__", repr(declared))
        raise DeclarationError(f"{name}(): outside a Protocol use @library.function, or give the address with at=")
    setattr(declared, _OPTIONS, dict(options))
    return declared


def gate(function: Callable[..., Any]) -> Gate:
    """The record of a gate: `signature`, `plan`, `address`, `listing`, `engine`, `library`, `explain()`.

    Raises TypeError for what is no gate.

    >>> m = load("m", "double cos(double x);")
    >>> gate(m.cos).engine in ("native", "ctypes")
    True
    """
    record = getattr(function, "__self__", None)
    if not isinstance(record, Gate):
        raise TypeError(f"{function!r} is not a gate")
    return record


def callback(function: Callable[..., Any], /, *, engine: str | None = None) -> Callback:
    """A Python function that C may keep and call: `@callback` over a def whose annotations give the C types.

    It lives as long as it is referenced, until `close()`.  Raises DeclarationError for annotations without C types.

    >>> from callgate import Ptr, i32
    >>> @callback
    ... def larger(a: Ptr[i32], b: Ptr[i32]) -> i32:
    ...     return a[0] - b[0]
    >>> larger
    <callback int (*larger)(int *, int *), ...>
    """
    use_images_of(sys._getframe(1).f_globals)
    declared = callback_type(function, _locals_of(function, 1))
    if Watch.current is not None and engine != "ctypes":
        Watch.current.callbacks.append(declared)
    native = choose(engine)
    return Callback(function, declared, "native" if native is not None else "ctypes")


def gate_from(function: Any, /, *, blocking: bool = False, engine: str | None = None) -> Callable[..., Any]:
    """A gate for a ctypes function whose `argtypes` and `restype` are set.

    Pointers may be None as in ctypes; `void *` and `POINTER(T)` parameters take buffers too.  The GIL is held unless
    `blocking`.  Raises DeclarationError for a function without argtypes, with errcheck, or with types that have no
    gate.

    >>> import ctypes
    >>> cos = ctypes.CDLL("libm.so.6").cos
    >>> cos.argtypes, cos.restype = [ctypes.c_double], ctypes.c_double
    >>> gate_from(cos)(0.0)
    1.0
    """
    use_images_of(sys._getframe(1).f_globals)
    if not isinstance(function, names.FUNCTION_POINTER):
        raise TypeError(f"gate_from() takes a ctypes function, not {type(function).__name__}")
    name = getattr(function, "__name__", "function")
    if function.argtypes is None:
        raise DeclarationError(f"{name}(): set argtypes before making a gate from it")
    if getattr(function, "errcheck", None):
        raise DeclarationError(f"{name}(): errcheck has no place in a gate; use fails_if= and error=")
    parameters = []
    for number, argtype in enumerate(function.argtypes, 1):
        where = f"{name}() argument {number}"
        if isinstance(argtype, type) and issubclass(argtype, (ctypes._Pointer, ctypes.c_void_p)):
            parameter = parameter_of("", argtype, where)
            element = getattr(argtype, "_type_", None)
            parameter = parameter._replace(
                passing=Passing.WRITABLE, python_type=element if isinstance(element, type) else None
            )
        else:
            parameter = parameter_of("", argtype, where)
        parameters.append(parameter._replace(is_nullable=parameter.passing is not Passing.VALUE))
    signature = FunctionType(
        name, tuple(parameters), _ctypes_result(name, function.restype), False, len(parameters), ""
    )
    address = ctypes.cast(function, ctypes.c_void_p).value
    if not address:
        raise ValueError(f"{name}() is NULL")
    return bind(signature, address, function, Options(blocking=blocking, engine=engine))


def _ctypes_result(name: str, restype: Any) -> Result:
    if restype is ctypes.c_char_p:
        return Result(Pointer(types.CHAR, True), Returning.BYTES, is_nullable=True)
    if restype is not None and not isinstance(restype, type):
        raise DeclarationError(f"{name}(): restype {restype!r} is a function; use fails_if= and error=")
    result = result_of(restype, f"{name}() restype")
    return result._replace(is_nullable=isinstance(result.type, Pointer))
