"""The ways of declaring, bound and called; types of every scope; text and Protocol that disagree."""

from __future__ import annotations

import ctypes
import enum
from array import array
from pathlib import Path
from typing import Annotated, Any, Optional, Protocol

import pytest
from here import INT64
from telling import Problem, told

import callgate as cg
from callgate import DeclarationError, Opaque, Out, Ptr, Readable, Status, Writable, cstr, f64, i32, u32


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5
    BLUE = 6


class Targets(Protocol):
    def id_i32(self, x: i32, /) -> i32:
        "An identity."

    def length(self, s: cstr, /) -> cg.usize: ...
    @cg.function
    def divide(self, a: i32, b: i32, quotient: Out[i32], remainder: Out[i32]) -> Status: ...
    @cg.function(fails_if="negative", error=Problem)
    def fail_i32(self, result: i32, number: i32, /) -> i32: ...
    @cg.function(symbol="id_f64")
    def same(self, x: f64) -> f64: ...
    @cg.function(required=False)
    def missing(self, x: f64) -> f64: ...
    def missing_too(self, x: f64) -> f64: ...


class More(Targets, Protocol):
    def id_u32(self, x: u32, /) -> u32: ...
    def length(self, s: cstr | None, /) -> cg.usize: ...  # type: ignore[override]  # another type for the same


class Plain(More):
    """A class that is no Protocol itself declares as well."""

    def id_bool(self, x: bool, /) -> bool: ...


# -- Protocols ------------------------------------------------------------------------------------------------------
def test_protocol(bound: Any, targets: str) -> None:
    lib = bound(Targets)
    assert (lib.id_i32(-5), lib.length("abc"), lib.divide(b=5, a=17), lib.same(x=0.5), lib.fail_i32(3, 0)) == (
        -5,
        3,
        (3, 2),
        0.5,
        3,
    )
    assert told(lib.fail_i32, -3, 0) == "Problem: -3"
    assert lib.missing is None and lib["missing"] is None
    assert told(lambda: lib.missing_too).startswith(
        f"SymbolNotFoundError: {Path(targets).name} has no symbol 'missing_too'"
    )
    assert not hasattr(lib, "missing_too")
    assert "An identity." in lib.id_i32.__doc__
    assert lib.id_i32 is lib.id_i32 is lib["id_i32"]
    assert told(lib.length, None) == "TypeError: length() argument 1 must be str or bytes, not None"


def test_inherited_protocols(bound: Any) -> None:
    for protocol in (More, Plain):
        lib = bound(protocol)
        assert (lib.id_i32(1), lib.id_u32(2**32 - 1), lib.divide(9, 2), lib.length(None)) == (
            1,
            2**32 - 1,
            (4, 1),
            2**64 - 1,
        )
    assert bound(Plain).id_bool(True) is True


def test_local_protocols_and_types(targets: str, engine: str) -> None:
    class counter(Opaque): ...

    width = ctypes.c_int16

    class Local(Protocol):
        def counter_static(self) -> Ptr[counter]: ...
        def counter_or(self, counter: Ptr[counter] | None, otherwise: width) -> i32: ...
        @cg.function(symbol="id_i16")
        def narrow(self, x: width) -> width: ...

    lib = cg.load(targets, Local, engine=engine)
    assert type(lib.counter_static()) is ctypes.POINTER(counter)
    assert (lib.counter_or(None, 7), lib.narrow(-1)) == (7, -1)
    assert told(lib.narrow, 2**15) == "OverflowError: narrow() argument 1 must be in -32768..32767 (short), not 32768"


def test_functions_with_local_types(bound: Any) -> None:
    lib = bound()

    class Level(enum.IntEnum):
        LOW = 1

    narrow = ctypes.c_int8

    @lib.function
    def id_i8(x: narrow, /) -> narrow: ...

    @lib.function(symbol="id_int")
    def level(x: Level, /) -> Level: ...

    assert id_i8(-128) == lib.id_i8(-128) == lib["id_i8"](-128) == -128
    assert level(Level.LOW) is Level.LOW
    assert told(level, 2) == f"ValueError: 2 is not a valid {Level.__qualname__}"


def test_names_that_are_nowhere(bound: Any) -> None:
    lib = bound()

    def id_i32(x: nowhere, /) -> i32: ...  # noqa: F821

    assert told(lib.function, id_i32) == (
        "DeclarationError: id_i32() parameter 'x': cannot evaluate the annotation 'nowhere': name 'nowhere' is not defined"
    )


def test_annotations_of_every_kind(bound: Any) -> None:
    class Kinds(Protocol):
        def id_i32(self, x: Annotated[int, ctypes.c_int], /) -> Annotated[int, ctypes.c_int]: ...
        def id_f64(self, x: float, /) -> float: ...
        def id_bool(self, x: bool, /) -> bool: ...
        def length(self, s: str | bytes | None, /) -> ctypes.c_size_t: ...
        def word(self, which: i32, /) -> Optional[str]: ...  # noqa: UP045
        def void_pointer(
            self, p: Annotated[int, ctypes.c_void_p] | None, /
        ) -> Annotated[int, ctypes.c_void_p] | None: ...
        def next_color(self, color: Color, /) -> Color: ...
        def at_f64(self, items: Readable[float], index: cg.long, /) -> float: ...
        def fill_i32(self, items: Writable[ctypes.c_int], count: cg.usize, value: i32, /) -> None: ...

    lib = bound(Kinds)
    assert (lib.id_i32(1), lib.id_f64(2), lib.id_bool(True), lib.length(None), lib.word(4)) == (
        1,
        2.0,
        True,
        2**64 - 1,
        None,
    )
    assert (lib.void_pointer(None), lib.void_pointer(8).value, lib.next_color(5)) == (None, 8, Color.BLUE)
    assert lib.at_f64(array("d", [1.5]), 0) == 1.5
    numbers = array("i", [0, 0])
    lib.fill_i32(numbers, 2, 7)
    assert list(numbers) == [7, 7]


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        ("def id_i32(x: int) -> i32: ...", "id_i32() parameter 'x': int has no width in C; choose one of i8, i16, i32, i64, u8, u16, u32, u64, "
         "isize, usize, short, int_, long, uint, ulong"),
        ("def id_i32(x) -> i32: ...", "id_i32() parameter 'x' has no annotation; give its C type, as in `x: i32`"),
        ("def id_i32(x: i32): ...", "id_i32() result has no annotation; write `-> None` for void"),
        ("def id_i32(x: i32 = 5) -> i32: ...", "id_i32(): C has no default arguments; leave the default out"),
        ("def id_i32(*, x: i32) -> i32: ...", "id_i32(): C has no keyword-only parameters"),
        ("def id_i32(**x: i32) -> i32: ...", "id_i32(): C has no keyword-only parameters"),
        ("def id_i32(*x: i32) -> i32: ...", "id_i32() parameter '*x': variable arguments are declared as `*x: VarArg`"),
        ("def id_i32(*x: cg.VarArg) -> i32: ...", "id_i32(): C wants a parameter before the variable ones"),
        ("def id_i32(x: cg.VarArg) -> i32: ...", "id_i32() parameter 'x': VarArg is for the variable arguments: `*args: VarArg`"),
        ("def id_i32(x: i32 | None) -> i32: ...", "id_i32() parameter 'x': only pointers can be None"),
        ("def id_i32(x: i32) -> i32 | None: ...", "id_i32() result: only pointers can be None"),
        ("def id_i32(x: Status) -> i32: ...", "id_i32() parameter 'x': Status is for results; use i32"),
        ("def id_i32(x: i32) -> cstr: ...", "id_i32() result: cstr is for arguments; as a result write str (decoded from UTF-8) or bytes"),
        ("def f(a: i32, b: Out[i32], c: i32) -> i32: ...", "f(): Out parameters must be all leading or all trailing"),
        ("def f(a: Out[i32 | None]) -> i32: ...", "f() parameter 'a': only pointers can be None"),
        ("def f(a: Out[None]) -> i32: ...", "f() parameter 'a': Out needs the type of a value, not None"),
        ("def f(a: Hidden) -> i32: ...", "f() parameter 'a': Hidden has no members; only a pointer to it can be passed"),
        ("def f(a: i32) -> Hidden: ...", "f() result: Hidden has no members; only a pointer to it can be passed"),
        ("def f(a: Visible | None) -> i32: ...", "f() parameter 'a': only pointers can be None"),
        ("def f(a: Swapped) -> i32: ...", "Swapped has the byte order of another machine; C cannot take it by value"),
        ("def f(a: Readable[Visible * 2]) -> i32: ...", "f() parameter 'a': an array of structures is not supported by this version of callgate; leave out its length"),
        ("def f(a: list) -> i32: ...", "f() parameter 'a': list has no C type; use a ctypes type or a name of callgate"),
    ],
    ids=lambda value: value if value.startswith("def") else "",
)  # fmt: skip
def test_declarations_that_mean_nothing(bound: Any, declare: str, message: str) -> None:
    class Visible(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int),)

    class Hidden(Opaque): ...

    class Swapped(ctypes.BigEndianStructure):
        _fields_ = (("a", ctypes.c_int),)

    scope = {**globals(), "Visible": Visible, "Hidden": Hidden, "Swapped": Swapped}
    exec(declare, scope)
    function = scope[declare[4 : declare.index("(")]]
    lib = bound()
    assert told(lib.function, function) == f"DeclarationError: {message}"
    with pytest.raises(TypeError):  # DeclarationError is one
        lib.function(function)


# -- C text ---------------------------------------------------------------------------------------------------------
def test_c_text(bound: Any) -> None:
    lib = bound(
        """#define LIMIT 40
        typedef int number; enum color { RED, GREEN = 5, BLUE }; struct counter;
        number id_int(number x);  /* an identity */
        struct counter *counter_static(void); size_t length(const char *s); void nothing(struct counter by_value);"""
    )
    assert (lib.LIMIT, lib.GREEN, lib.id_int(-1), lib.length(b"ab")) == (40, 5, -1, 2)
    assert sorted(set(dir(lib)) - {"function"}) == [
        "BLUE",
        "GREEN",
        "LIMIT",
        "RED",
        "counter_static",
        "id_int",
        "length",
        "nothing",
    ]
    with pytest.raises(DeclarationError) as info:
        lib.nothing
    assert (info.value.line, "structs by value" in str(info.value)) == (4, True)
    with pytest.raises(DeclarationError) as info:
        bound("int id_int(int x;")
    assert info.value.line == 1


def test_c_text_typed_by_a_protocol(bound: Any) -> None:
    text = """enum color { RED, GREEN = 5, BLUE }; struct counter; int id_int(int x); size_t length(const char *s);
    enum color next_color(enum color color); int divide(int a, int b, int *quotient, int *remainder); long id_long(long x);
    struct counter *counter_static(void); unsigned long u8_sum(const unsigned char *data, size_t count); const char *word(int which);"""

    class Typed(Protocol):
        def length(self, s: cstr, /) -> cg.usize: ...
        def next_color(self, color: Color, /) -> Color: ...
        @cg.function
        def divide(self, a: i32, b: i32, /, quotient: Out[i32], remainder: Out[i32]) -> Status: ...
        def counter_static(self) -> Ptr[None]: ...
        def u8_sum(self, data: Readable[cg.char], count: cg.usize) -> cg.ulong: ...
        def word(self, which: i32) -> str: ...

    lib = bound(text, Typed)
    assert (lib.id_int(1), lib.id_long(2), lib.GREEN) == (1, 2, 5)  # as the text says
    assert told(lib.length, None) == "TypeError: length() argument 1 must be str or bytes, not None"
    assert lib.next_color(Color.RED) is Color.GREEN
    assert lib.divide(17, 5) == (3, 2)
    assert type(lib.counter_static()) is ctypes.c_void_p
    assert lib.u8_sum(b"ab", 2) == 97 + 98
    assert lib.word(2) == "été"


@pytest.mark.parametrize(
    ("text", "declare", "message"),
    [
        ("int id_i32(int x);", "def id_i32(self, x: cg.i64) -> i32: ...", f"parameter 1 is {INT64} in the Protocol, but int in the C text"),
        ("int id_i32(int x);", "def id_i32(self, x: cg.u32) -> i32: ...", "parameter 1 is unsigned int in the Protocol, but int in the C text"),
        ("int id_i32(int x);", "def id_i32(self, x: i32) -> None: ...", "result is void in the Protocol, but int in the C text"),
        ("void id_i32(int x);", "def id_i32(self, x: i32) -> i32: ...", "result is int in the Protocol, but void in the C text"),
        ("double id_f64(double x);", "def id_f64(self, x: cg.f32) -> f64: ...", "parameter 1 is float in the Protocol, but double in the C text"),
        ("int id_i32(int x);", "def id_i32(self, x: i32, y: i32) -> i32: ...", "the Protocol has 2 parameters, the C text 1: int id_i32(int x)"),
        ("int id_i32(int x);", "def id_i32(self) -> i32: ...", "the Protocol has 0 parameters, the C text 1: int id_i32(int x)"),
        ("int id_i32(int x);", "def id_i32(self, x: cstr) -> i32: ...", "parameter 1 is const char * in the Protocol, but int in the C text"),
        ("char *word(int which);", "def word(self, which: i32) -> i32: ...", "result is int in the Protocol, but char * in the C text"),
        ("int at(int *p);", "def at(self, p: Readable[f64]) -> i32: ...", "parameter 1 is const double * in the Protocol, but int * in the C text"),
        ("int at(int *p);", "def at(self, p: Out[cg.i64]) -> i32: ...", f"parameter 1 is {INT64} * in the Protocol, but int * in the C text"),
        ("int *at(void);", "def at(self) -> Ptr[cg.u8]: ...", "result is unsigned char * in the Protocol, but int * in the C text"),
        ("int at(int **p);", "def at(self, p: Readable[i32]) -> i32: ...", "parameter 1 is const int * in the Protocol, but int ** in the C text"),
    ],
)  # fmt: skip
def test_text_and_protocol_that_disagree(bound: Any, text: str, declare: str, message: str) -> None:
    scope = {**globals()}
    exec(f"class Typed(Protocol):\n    {declare}", scope)
    name = declare[4 : declare.index("(")]
    lib = bound(text, scope["Typed"])
    assert told(lambda: getattr(lib, name)) == f"DeclarationError: {name}(): {message}"


@pytest.mark.parametrize(
    ("text", "declare"),
    [
        ("int at(void *p);", "def at(self, p: Readable[f64]) -> i32: ..."),
        ("int at(int *p);", "def at(self, p: Readable[None]) -> i32: ..."),
        ("int at(const char *p);", "def at(self, p: Readable[cg.u8]) -> i32: ..."),
        ("int at(unsigned char *p);", "def at(self, p: cstr) -> i32: ..."),
        ("struct s; int at(struct s *p);", "def at(self, p: Ptr[Counter]) -> i32: ..."),
        ("struct s; int at(struct s **p);", "def at(self, p: Out[Ptr[Counter]]) -> i32: ..."),
        ("int at(int p[2]);", "def at(self, p: Writable[ctypes.c_int * 2]) -> i32: ..."),
        ("int at(int p[2]);", "def at(self, p: Writable[i32]) -> i32: ..."),
        ("int at(const char **p);", "def at(self, p: Out[str | None]) -> i32: ..."),
        ("enum e { A }; int at(enum e *p);", "def at(self, p: Out[Color]) -> i32: ..."),
        ("enum e { A }; enum e at(enum e p);", "def at(self, p: Color) -> Color: ..."),
        ("unsigned at(int (*f)(int));", "def at(self, p: Ptr[None]) -> u32: ..."),
        ("int at(size_t a, ssize_t b, long c, int64_t d);", "def at(self, a: cg.u64, b: cg.i64, c: cg.long, d: cg.longlong) -> i32: ..."),
    ],
)  # fmt: skip
def test_text_and_protocol_that_agree(bound: Any, text: str, declare: str) -> None:
    class Counter(Opaque): ...

    scope = {**globals(), "Counter": Counter}
    exec(f"class Typed(Protocol):\n    {declare}", scope)
    with pytest.raises(cg.SymbolNotFoundError):  # the targets have no such symbol: agreement is checked before
        bound(text, scope["Typed"]).at


# -- functions at an address and of ctypes ----------------------------------------------------------------------------
def test_functions_at_an_address(targets: str, engine: str) -> None:
    library = ctypes.CDLL(targets)
    address = ctypes.cast(library.id_i32, ctypes.c_void_p).value

    @cg.function(at=address, engine=engine)
    def anything(x: i32) -> i32: ...

    assert (anything(-9), anything(x=9)) == (-9, 9)
    assert (cg.gate(anything).address, cg.gate(anything).library) == (address, None)
    assert told(anything, "") == "TypeError: anything() argument 1 must be int, not str"

    def declared(x: i32) -> i32: ...

    for at, message in (
        (0, "ValueError: at= must be an address, not 0x0"), (-1, "ValueError: at= must be positive"),
        (1 << 64, "ValueError: at= must be an address, not 0x10000000000000000"), ("8", "TypeError: at= must be an int, not str"),
    ):  # fmt: skip
        assert told(cg.function(at=at, engine=engine), declared) == message
    assert told(cg.function, declared) == (
        "DeclarationError: declared(): outside a Protocol use @library.function, or give the address with at="
    )
    assert told(cg.function, at=address, wrong=1) == (
        "TypeError: function() has no option 'wrong'; the options are at, blocking, engine, error, fails_if, free, length, required, stack_bytes, symbol"
    )


def test_gates_from_ctypes_functions(targets: str, engine: str) -> None:
    library = ctypes.CDLL(targets)

    def gate(name: str, restype: Any, *argtypes: Any, **options: Any) -> Any:
        function = library[name]  # a fresh one each time
        function.argtypes, function.restype = argtypes, restype
        return cg.gate_from(function, engine=engine, **options)

    assert gate("id_i32", ctypes.c_int, ctypes.c_int)(-3) == -3
    assert gate("length", ctypes.c_size_t, ctypes.c_char_p)(b"abc") == 3
    assert gate("length", ctypes.c_size_t, ctypes.c_char_p)(None) == 2**64 - 1
    assert gate("word", ctypes.c_char_p, ctypes.c_int)(1) == b"word"
    assert gate("word", ctypes.c_char_p, ctypes.c_int)(4) is None
    assert gate("set_flag", None)() is None
    assert gate("u8_sum", ctypes.c_ulong, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_size_t)(bytearray(b"ab"), 2) == 195
    summed = gate("byte_sum", ctypes.c_ulong, ctypes.c_void_p, ctypes.c_size_t, blocking=True)
    assert (summed(bytearray(b"ab"), 2), summed(None, 0), cg.gate(summed).conversion.is_blocking) == (195, 0, True)
    number = ctypes.c_int(5)
    pointer = gate("int_pointer", ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    assert (pointer(ctypes.byref(number))[0], pointer(number)[0], pointer(None)) == (5, 5, None)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    assert gate("call_it", ctypes.c_int, prototype, ctypes.c_int)(prototype(lambda x: x + 1), 1) == 2
    assert cg.gate_from(prototype(lambda x: x * 3), engine=engine)(5) == 15
    assert (
        told(gate("id_i32", ctypes.c_int, ctypes.c_int), 1.0) == "TypeError: id_i32() argument 1 must be int, not float"
    )
    assert told(gate("id_i32", ctypes.c_int, ctypes.c_int), x=1) == "TypeError: id_i32() takes no keyword arguments"


def test_ctypes_functions_that_have_no_gate(targets: str, engine: str) -> None:
    function = ctypes.CDLL(targets).id_i32
    assert told(cg.gate_from, len) == "TypeError: gate_from() takes a ctypes function, not builtin_function_or_method"
    assert told(cg.gate_from, function) == "DeclarationError: id_i32(): set argtypes before making a gate from it"
    function.argtypes = [ctypes.py_object]
    assert told(cg.gate_from, function) == (
        "DeclarationError: id_i32() argument 1: py_object has no C type; use a ctypes type or a name of callgate"
    )
    function.argtypes, function.restype = [ctypes.c_int], lambda result: result
    assert told(cg.gate_from, function).startswith("DeclarationError: id_i32(): restype <function ")
    function.restype, function.errcheck = ctypes.c_int, lambda *arguments: 0
    assert (
        told(cg.gate_from, function)
        == "DeclarationError: id_i32(): errcheck has no place in a gate; use fails_if= and error="
    )
    null = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)()
    assert told(cg.gate_from, null) == "ValueError: function() is NULL"
