"""The rows of `callgate bench`: which C functions are called, with what, and how each contender calls them."""

from __future__ import annotations

import ctypes
import random
import re
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

from callgate import Ptr, VarArg, Writable, char, cstr, f64, function, i32, i64, usize
from callgate.acceleration import accelerate
from callgate.cli.contenders import Kit, Unavailable
from callgate.cli.timing import Turn
from callgate.library import gate, load

_I64, _F64 = ctypes.c_int64, ctypes.c_double


class Contest(NamedTuple):
    """A row as it can be run here: what each contender that is present calls.

    `outcome` makes of a call's result what all contenders must agree on.
    """

    declaration: str
    operands: tuple[object, ...]
    shown: str
    turns: dict[str, Turn]
    outcome: Callable[[Any], object] = lambda result: result
    prepare: Callable[[], object] = lambda: None


class Row(NamedTuple):
    """A line of the table.  `compete` raises Unavailable where the gate's function cannot be had."""

    name: str
    compete: Callable[[Kit], Contest]
    is_blocking: bool = False
    callbacks: int = 1
    """How often C calls back in a call; the figures are for one time."""
    is_long: bool = False
    """Whether a call takes so long that it is timed alone, and shown in ms."""


# --- one call, operands as they are -----------------------------------------------------------------------------
class Call(NamedTuple):
    """A C function and the operands it is timed with."""

    declaration: str
    argtypes: tuple[Any, ...]
    restype: Any
    arguments: tuple[object, ...]
    library: str = ""  # a short name; "" is the library compiled from bench_targets.c

    @property
    def symbol(self) -> str:
        """The function's name in its library."""
        found = re.search(r"(\w+)\(", self.declaration)
        assert found
        return found[1]


def _plain(kit: Kit, call: Call, substitute: Call | None = None, is_blocking: bool = False) -> Contest:
    """The contest over `call`, or over `substitute` where there is no compiler."""
    if kit.targets is None:
        if substitute is None:
            raise Unavailable("its function needs a C compiler")
        call = substitute
    path = call.library or str(kit.targets)
    made = load(path, f"#include <stdint.h>\n{call.declaration};", blocking=is_blocking)[call.symbol]
    path = gate(made).library.path  # type: ignore[attr-defined]  # the file that a short name found
    functions: dict[str, Callable[..., object]] = {"gate": made}
    if kit.extension is not None:
        functions["extension"] = getattr(kit.extension, f"{call.symbol}_blocking" if is_blocking else call.symbol)
    functions["ctypes"] = _ctypes_function(path, call.symbol, call.argtypes, call.restype)
    for name, _, library in _cffi_modes(kit, f"{call.declaration};", path):
        functions[name] = getattr(library, call.symbol)
    turns = {name: Turn(function, call.arguments) for name, function in functions.items()}
    return Contest(call.declaration, call.arguments, _shown(call), turns)


def _shown(call: Call) -> str:
    """The operands, and which function is called where it is a substitute for the row's own."""
    shown = [repr(argument) for argument in call.arguments]
    if len(shown) > 4:
        shown = [*shown[:2], f"… {shown[-1]}"]
    text = ", ".join(shown) or "none"
    return f"{call.symbol}({text})" if call.library else text


def _ctypes_function(path: str, symbol: str, argtypes: tuple[Any, ...], restype: Any) -> Callable[..., object]:
    function = ctypes.CDLL(path)[symbol]
    function.argtypes = argtypes
    function.restype = restype
    return function


def _cffi_modes(kit: Kit, declarations: str, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Contender, FFI and library of each mode of cffi that is present; the API mode has declared everything."""
    if kit.cffi is not None:
        ffi = kit.cffi.FFI()
        ffi.cdef(declarations)
        yield "cffi_abi", ffi, ffi.dlopen(path)
    if kit.cffi_module is not None:
        yield "cffi_api", kit.cffi_module.ffi, kit.cffi_module.lib


def _accelerated(kit: Kit, call: Call, substitute: Call, blocking: bool | None) -> Contest:
    """As the plain contest, the gate made by accelerate(); `blocking` None keeps to the rule of CDLL."""
    contest = _plain(kit, call, substitute, is_blocking=blocking is None)
    call = call if kit.targets is not None else substitute
    path = gate(contest.turns["gate"].function).library.path  # type: ignore[attr-defined]
    library = ctypes.CDLL(path)
    function = getattr(library, call.symbol)
    function.argtypes, function.restype = call.argtypes, call.restype
    report = accelerate(library, blocking=blocking)
    if call.symbol not in report.fast:
        raise Unavailable(f"accelerate() leaves {call.symbol} as it was: {report.left.get(call.symbol)}")
    contest.turns["gate"] = Turn(getattr(library, call.symbol), call.arguments)
    return contest


def _raw(kit: Kit, call: Call) -> Contest:
    """As the plain contest, the gate a raw call of the same function, which gets the address as well."""
    from callgate import raw  # which asks for the engine

    contest = _plain(kit, call)
    address = gate(contest.turns["gate"].function).address
    contest.turns["gate"] = Turn(raw.call, (address, *call.arguments))
    return contest


def _on_own_stack(kit: Kit, call: Call) -> Contest:
    """As the plain contest, the function on a stack of its own."""
    contest = _plain(kit, call)
    contest.turns["gate"] = Turn(load(_targets(kit), _OnOwnStack).add, call.arguments)
    return contest


class _OnOwnStack(Protocol):
    @function(stack_bytes=1 << 16)
    def add(self, a: i64, b: i64, /) -> i64: ...


# --- structs, callbacks, variable arguments ---------------------------------------------------------------------
class Point(ctypes.Structure):
    """The struct of bench_targets.c, the same class for the gate, ctypes and the extension."""

    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]  # noqa: RUF012  # as ctypes documents it

    x: float
    y: float


class _Targets(Protocol):
    def point_sum(self, p: Point, /) -> f64: ...

    def point_make(self, x: f64, y: f64, /) -> Point: ...

    def fold(self, step: Callable[[i64, i64], i64], count: i64, /) -> i64: ...


class _LibC(Protocol):
    def qsort(
        self, base: Writable[i32], count: usize, size: usize, compare: Callable[[Ptr[i32], Ptr[i32]], i32], /
    ) -> None: ...

    def snprintf(self, text: Writable[char], size: usize, format: cstr, /, *values: VarArg) -> i32: ...


_POINT = "typedef struct { double x, y; } point;"


def _targets(kit: Kit) -> str:
    if kit.targets is None:
        raise Unavailable("its function needs a C compiler")
    return str(kit.targets)


def _point_sum(kit: Kit) -> Contest:
    path = _targets(kit)
    declaration = "double point_sum(point p)"
    point = Point(1.5, 2.5)
    turns = {"gate": Turn(load(path, _Targets).point_sum, (point,))}
    if kit.extension is not None:
        kit.extension.set_point(Point)
        turns["extension"] = Turn(kit.extension.point_sum, (point,))
    turns["ctypes"] = Turn(_ctypes_function(path, "point_sum", (Point,), _F64), (point,))
    for name, ffi, library in _cffi_modes(kit, f"{_POINT} {declaration};", path):
        turns[name] = Turn(library.point_sum, (ffi.new("point *", (1.5, 2.5))[0],))
    return Contest(declaration, ((1.5, 2.5),), "point(1.5, 2.5)", turns)


def _point_make(kit: Kit) -> Contest:
    path = _targets(kit)
    declaration = "point point_make(double x, double y)"
    functions: dict[str, Callable[..., object]] = {"gate": load(path, _Targets).point_make}
    if kit.extension is not None:
        kit.extension.set_point(Point)
        functions["extension"] = kit.extension.point_make
    functions["ctypes"] = _ctypes_function(path, "point_make", (_F64, _F64), Point)
    for name, _, library in _cffi_modes(kit, f"{_POINT} {declaration};", path):
        functions[name] = library.point_make
    operands = (1.5, 2.5)
    turns = {name: Turn(function, operands) for name, function in functions.items()}
    return Contest(declaration, operands, "1.5, 2.5", turns, outcome=lambda point: (point.x, point.y))


def _cffi_callback(ffi: Any, library: Any, signature: str, extern: str, function: Callable[..., int]) -> Any:
    """The function as cffi documents it for each mode: extern "Python" where that is compiled, else a closure."""
    if hasattr(library, extern):
        ffi.def_extern(name=extern)(function)
        return getattr(library, extern)
    return ffi.callback(signature, function)


_CALLBACKS = 1000
_STEP = "lambda a, b: a + b"
COMPARE = "lambda a, b: a[0] - b[0]"


def _python_function(source: str) -> Callable[..., int]:
    """The function, its code compiled anew for each contender: the interpreter specialises code for what it meets."""
    function: Callable[..., int] = eval(source)
    return function


def _callback(kit: Kit) -> Contest:
    """C calls a lambda, by the rule of each contender: the gate holds the GIL, ctypes and cffi release it."""
    path = _targets(kit)
    declaration = "int64_t fold(int64_t (*step)(int64_t, int64_t), int64_t count)"

    turns = {"gate": Turn(load(path, _Targets).fold, (_python_function(_STEP), _CALLBACKS))}
    if kit.extension is not None:
        turns["extension"] = Turn(kit.extension.fold, (_python_function(_STEP), _CALLBACKS))
    prototype = ctypes.CFUNCTYPE(_I64, _I64, _I64)
    turns["ctypes"] = Turn(
        _ctypes_function(path, "fold", (prototype, _I64), _I64), (prototype(_python_function(_STEP)), _CALLBACKS)
    )
    for name, ffi, library in _cffi_modes(kit, f"{declaration};", path):
        pointer = _cffi_callback(ffi, library, "int64_t(int64_t, int64_t)", "bench_step", _python_function(_STEP))
        turns[name] = Turn(library.fold, (pointer, _CALLBACKS))
    return Contest(declaration, (_STEP, _CALLBACKS), _STEP, turns)


def _qsort(kit: Kit) -> Contest:
    """Every contender sorts the same array, shuffled anew before each turn, with a comparator that gets pointers.

    There is no hand-written extension here: its author would compare in C.
    """
    count = 10_000 if kit.is_quick else 100_000
    shuffled = array("i", random.Random(0).sample(range(count), count))
    items = array("i", shuffled)
    ordered = array("i", range(count))

    def shuffle() -> None:
        items[:] = shuffled

    turns = {"gate": Turn(load("c", _LibC).qsort, (items, count, 4, _python_function(COMPARE)))}
    path = gate(turns["gate"].function).library.path  # type: ignore[attr-defined]
    pointer = ctypes.POINTER(ctypes.c_int)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
    function = _ctypes_function(path, "qsort", (pointer, ctypes.c_size_t, ctypes.c_size_t, prototype), None)
    turns["ctypes"] = Turn(
        function, ((ctypes.c_int * count).from_buffer(items), count, 4, prototype(_python_function(COMPARE)))
    )
    declaration = "void qsort(int *base, size_t count, size_t size, int (*compare)(const int *, const int *))"
    for name, ffi, library in _cffi_modes(kit, f"{declaration};", path):
        comparator = _cffi_callback(
            ffi, library, "int(const int *, const int *)", "bench_compare", _python_function(COMPARE)
        )
        sort = library.qsort if name == "cffi_abi" else library.qsort_ints
        turns[name] = Turn(sort, (ffi.from_buffer("int[]", items), count, 4, comparator))
    return Contest(
        declaration,
        (f"{count} ints, shuffled", COMPARE),
        f"{count:,} ints, in ms",
        turns,
        outcome=lambda result: "sorted" if items == ordered else "not sorted",
        prepare=shuffle,
    )


def _snprintf(kit: Kit) -> Contest:
    size, text_format = 64, b"%d %f"
    text = bytearray(size)
    turns = {"gate": Turn(load("c", _LibC).snprintf, (text, size, text_format, 5, 2.5))}
    path = gate(turns["gate"].function).library.path  # type: ignore[attr-defined]
    if kit.extension is not None:
        turns["extension"] = Turn(kit.extension.snprintf, (text, size, text_format, 5, 2.5))
    argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p)
    function = _ctypes_function(path, "snprintf", argtypes, ctypes.c_int)
    chars = (ctypes.c_char * size).from_buffer(text)
    turns["ctypes"] = Turn(function, (chars, size, text_format, 5, ctypes.c_double(2.5)))
    declaration = "int snprintf(char *text, size_t size, const char *format, ...)"
    for name, ffi, library in _cffi_modes(kit, f"{declaration};", path):
        values = (ffi.cast("int", 5), ffi.cast("double", 2.5))
        turns[name] = Turn(library.snprintf, (ffi.from_buffer("char[]", text), size, text_format, *values))
    return Contest(
        declaration,
        (f"{size} bytes", size, text_format, 5, 2.5),
        "buffer, 64, b'%d %f', 5, 2.5",
        turns,
        outcome=lambda length: bytes(text[:length]),
        prepare=lambda: text.__setitem__(slice(None), bytes(size)),
    )


_ADD = Call("int64_t add(int64_t a, int64_t b)", (_I64, _I64), _I64, (12345, 67890))
_LABS = Call("long labs(long n)", (ctypes.c_long,), ctypes.c_long, (-12345,), "c")
_TEXT = b"hello world 1234"
_FMA_OPERANDS = (1.5, 2.5, 3.5)

ROWS = (
    Row("noop", partial(_plain, call=Call("void noop(void)", (), None, ()))),
    Row("add", partial(_plain, call=_ADD, substitute=_LABS)),
    Row(
        "fma",
        partial(
            _plain,
            call=Call("double fma3(double a, double b, double c)", (_F64,) * 3, _F64, _FMA_OPERANDS),
            substitute=Call("double fma(double a, double b, double c)", (_F64,) * 3, _F64, _FMA_OPERANDS, "m"),
        ),
    ),
    Row(
        "strlen",
        partial(
            _plain,
            call=Call("size_t length(const char *s)", (ctypes.c_char_p,), ctypes.c_size_t, (_TEXT,)),
            substitute=Call("size_t strlen(const char *s)", (ctypes.c_char_p,), ctypes.c_size_t, (_TEXT,), "c"),
        ),
    ),
    Row(
        "add8",
        partial(
            _plain,
            call=Call(
                "int64_t add8(int a, int b, int c, int d, int e, int f, int g, int h)",
                (ctypes.c_int,) * 8,
                _I64,
                (1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000),
            ),
        ),
    ),
    Row("blocking-add", partial(_plain, call=_ADD, substitute=_LABS, is_blocking=True), is_blocking=True),
    Row("accelerate", partial(_accelerated, call=_ADD, substitute=_LABS, blocking=None), is_blocking=True),
    Row("accelerate-held", partial(_accelerated, call=_ADD, substitute=_LABS, blocking=False)),
    Row("raw-call", partial(_raw, call=_ADD)),
    Row("own-stack", partial(_on_own_stack, call=_ADD)),
    Row("point-sum", _point_sum),
    Row("point-make", _point_make),
    Row("callback", _callback, callbacks=_CALLBACKS),
    Row("snprintf", _snprintf),
    Row("qsort", _qsort, is_long=True),
)
