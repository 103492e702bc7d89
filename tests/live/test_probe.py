"""Probing: what is found in this interpreter, and that a fact which does not hold turns its inline path off."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from here import C_LIBRARY, IS_WINDOWS

import callgate as cg
from callgate.abi.plan import classify
from callgate.c.declarations import parse_function
from callgate.cpython.conversion import Judgement, SavedError, convert
from callgate.cpython.layout import CPYTHON_3_13T, PYTHONS, IntForm, Layout, SmallInts
from callgate.errors import EngineError
from callgate.lower.call import lower_call
from callgate.lower.machine import Machine
from callgate.runtime import native as native_module
from callgate.runtime import probe as probe_module
from callgate.runtime.gate import Gate, GateBase, Options
from callgate.runtime.native import NativeEngine
from callgate.runtime.probe import probe
from callgate.target import AARCH64_LINUX, DATA_MODEL, HOST, IS_CPYTHON, IS_FREE_THREADED

if not IS_CPYTHON:
    pytest.skip("no gates are made for this interpreter's layout", allow_module_level=True)

IS_TAGGED = sys.version_info >= (3, 12)
native = pytest.mark.skipif(HOST is None, reason="no machine code can be made for this platform")
RealMemory = Callable[[object, int], bytes]
HEADER = probe_module.HEADER_BYTES


def test_the_known_facts() -> None:
    """cpython/layout.py names what these versions look like; probing finds the same."""
    named = {**PYTHONS, "3.13t": CPYTHON_3_13T}.get(f"3.{sys.version_info.minor}{'t' * IS_FREE_THREADED}")
    if named is None:
        pytest.skip("later versions are free to look otherwise")
    found = probe()
    if IS_WINDOWS:  # a long double is a double there, of which a byref() object has one
        named = named._replace(carg_object_offset=40)
    assert found._replace(name=named.name) == named
    assert found.name == f"probed-3.{sys.version_info.minor}"


def test_the_sizes_of_objects_agree() -> None:
    layout = probe()
    assert layout.bytes_data_offset == bytes.__basicsize__ - 1
    assert layout.float_value_offset == float.__basicsize__ - 8
    assert layout.ints is not None
    assert layout.ints.digit_offset == int.__basicsize__
    assert object.__basicsize__ <= layout.gate_data_offset < GateBase.__basicsize__
    assert object.__basicsize__ <= layout.cdata_pointer_offset < ctypes.c_int.__basicsize__


def test_gates_keep_their_data_where_the_probe_saw_it() -> None:
    """Gate adds slots behind that of GateBase."""
    gate = Gate.__new__(Gate)
    gate._data = b"where is it"
    (word,) = struct.unpack_from("<Q", ctypes.string_at(id(gate), Gate.__basicsize__), probe().gate_data_offset)
    assert word == id(gate._data)


def test_probing_changes_no_counts() -> None:
    watched = (None, True, False, 0, 1, 256, int, float, bytes)
    probe()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(200):
        probe()
    after = [sys.getrefcount(thing) for thing in watched]
    assert max(abs(now - then) for now, then in zip(after, before, strict=True)) < 100  # others count as well


class Disguise:
    """Shows the memory of some objects otherwise than it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def patch(self, cls: type, offset: int, change: Callable[[int], int]) -> None:
        """Let the words at an offset of the objects of a class be changed."""
        real: RealMemory = probe_module._memory

        def memory(thing: object, size_bytes: int) -> bytes:
            data = bytearray(real(thing, max(size_bytes, offset + 8)))
            if type(thing) is cls:
                (word,) = struct.unpack_from("<Q", data, offset)
                struct.pack_into("<Q", data, offset, change(word) & (1 << 64) - 1)
            return bytes(data[:size_bytes])

        self.monkeypatch.setattr(probe_module, "_memory", memory)


@pytest.fixture
def disguise(monkeypatch: pytest.MonkeyPatch) -> Disguise:
    return Disguise(monkeypatch)


@pytest.mark.parametrize(
    ("offset", "change"),
    [
        (0, lambda word: word + 1),
        (0, lambda word: word << 1),
        (0, lambda word: 0),
        (0, lambda word: -word),
        (0, lambda word: word | 4),
        (8, lambda word: word + 1),
        (8, lambda word: word << 2),
        (8, lambda word: 0),
    ],
)
def test_ints_that_look_otherwise(disguise: Disguise, offset: int, change: Callable[[int], int]) -> None:
    honest = probe()
    disguise.patch(int, HEADER + offset, change)
    assert probe() == honest._replace(ints=None)


def test_digits_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = probe()

    class Info:
        bits_per_digit = 15

    monkeypatch.setattr(sys, "int_info", Info())
    assert probe() == honest._replace(ints=None)


@pytest.mark.parametrize("change", [lambda word: word + 1, lambda word: 0, lambda word: word ^ 1 << 63])
def test_floats_that_look_otherwise(disguise: Disguise, change: Callable[[int], int]) -> None:
    honest = probe()
    disguise.patch(float, HEADER, change)
    assert probe() == honest._replace(float_value_offset=None)


def test_bytes_whose_size_lies_elsewhere(disguise: Disguise) -> None:
    honest = probe()
    disguise.patch(bytes, HEADER, lambda word: word + 1)
    assert probe() == honest._replace(has_inline_bytes=False)


def test_bytes_whose_data_lie_elsewhere(disguise: Disguise) -> None:
    disguise.patch(bytes, HEADER + 16, lambda word: word + 1)
    with pytest.raises(EngineError, match=f"the contents of bytes are not found at offset {HEADER + 16}"):
        probe()


@pytest.mark.parametrize("cls", [int, float, bytes, type(None), bool, tuple, ctypes.c_int])
def test_types_that_lie_elsewhere(disguise: Disguise, cls: type) -> None:
    disguise.patch(cls, HEADER - 8, lambda word: word + 16)
    with pytest.raises(EngineError, match=f"the type of .* is not found at offset {HEADER - 8} of"):
        probe()


def test_slots_that_lie_elsewhere(disguise: Disguise) -> None:
    honest = probe()
    disguise.patch(GateBase, honest.gate_data_offset, lambda word: word + 1)
    with pytest.raises(EngineError, match="the slots of an object are not found inside it"):
        probe()


def test_ctypes_objects_that_look_otherwise(disguise: Disguise) -> None:
    honest = probe()
    disguise.patch(ctypes.c_int64, honest.cdata_pointer_offset, lambda word: word + 1)
    with pytest.raises(EngineError, match="ctypes objects do not hold the address"):
        probe()


def test_counts_that_move(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))

    class Counting:
        @staticmethod
        def getrefcount(thing: object) -> int:
            return next(numbers)

    monkeypatch.setattr(probe_module, "sys", Counting)
    assert probe_module.probe_immortals() is False


def test_other_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "IS_CPYTHON", False)
    with pytest.raises(EngineError) as caught:
        probe()
    assert str(caught.value) == "cpython is not CPython: its objects cannot be read by machine code"


def test_free_threaded_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have gates on x86-64, where None, True and False are not counted."""
    monkeypatch.setattr(probe_module, "IS_FREE_THREADED", True)
    with monkeypatch.context() as patch:
        patch.setattr(probe_module, "DATA_MODEL", AARCH64_LINUX)
        with pytest.raises(EngineError) as caught:
            probe()
        assert str(caught.value) == "for free-threaded builds machine code is made on x86-64 only so far"
    if DATA_MODEL.architecture == "x86_64":
        monkeypatch.setattr(probe_module, "probe_immortals", lambda: False)
        with pytest.raises(EngineError) as caught:
            probe()
        assert str(caught.value) == (
            "None, True and False are counted here, which machine code does in no free-threaded build"
        )


def test_other_byte_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(EngineError, match="gates are made for 64-bit little-endian processors"):
        probe()


LISTED = [1 << 20, 0.5]
HAS_LISTS = sys.version_info >= (3, 14) and not IS_FREE_THREADED
has_lists = pytest.mark.skipif(not HAS_LISTS, reason="there is no list of freed ints that all threads use")


@has_lists
@pytest.mark.parametrize("first", LISTED)
def test_lists_of_freed_objects_are_found_again(first: float) -> None:
    lists = probe_module.free_lists()
    assert lists is not None
    assert probe_module.probe_free_list(first) == lists[LISTED.index(first)]


@has_lists
@native
@pytest.mark.parametrize(("text", "first"), [("long labs(long x)", 1 << 20), ("double fabs(double x)", 0.5)])
def test_gates_leave_the_lists_as_they_should_be(text: str, first: float) -> None:
    """However many results were made and freed: the probe wants to see the list empty, then filled and counted."""
    call: Any = cg.load("m", f"{text};")[parse_function(text, DATA_MODEL).name]
    for count in (1, 7, 99, 300):
        kept = [call(first + number) for number in range(count)]
        assert kept == [first + number for number in range(count)]
        del kept[::2]
        assert [call(-first - number) for number in range(count)] == [first + number for number in range(count)]
        del kept
        assert probe_module.probe_free_list(first) is not None


@has_lists
@pytest.mark.parametrize(("name", "value"), [("_STATE_BYTES", 1 << 10), ("_MOST_FREED", 5), ("_FREED", 0)])
def test_lists_that_look_otherwise(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    """Not in what is searched, not empty when all is taken, nothing freed: no list is found."""
    spare = [first + number for first in LISTED for number in range(50)]
    del spare
    monkeypatch.setattr(probe_module, name, value)
    assert [probe_module.probe_free_list(first) for first in LISTED] == [None, None]


@pytest.mark.parametrize("why", ["counted", "lost"])
def test_no_lists(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "counted":
        monkeypatch.setattr(sys, "gettotalrefcount", lambda: 0, raising=False)
    else:
        monkeypatch.setattr(probe_module, "probe_free_list", lambda first: None)
    probe_module.free_lists.cache_clear()
    assert probe_module.free_lists() is None
    assert not probe().has_free_lists
    with pytest.raises(EngineError) as caught:
        native_module._known_lists()
    assert str(caught.value) == "this interpreter has no free lists as the code expects them"
    monkeypatch.undo()
    probe_module.free_lists.cache_clear()
    assert (probe_module.free_lists() is not None) == HAS_LISTS


# -- what is made of the facts -----------------------------------------------------------------------------------------

TEXT = "long f(int a, double b, const char *c, const unsigned char *d, unsigned long e, float g)"
PATHS = {
    "an exact int?": lambda layout: layout._replace(ints=None),
    "an exact float?": lambda layout: layout._replace(float_value_offset=None),
    "exact bytes?": lambda layout: layout._replace(has_inline_bytes=False),
    "a shared small int?": lambda layout: layout._replace(small_ints=None),
    "one that was freed?": lambda layout: layout._replace(has_free_lists=False),
}


def listing(layout: Layout, text: str) -> str:
    assert HOST is not None
    signature = parse_function(text, DATA_MODEL)
    conversion = convert(
        signature, DATA_MODEL, judgement=Judgement.NEVER, saved_error=SavedError.NONE, is_blocking=False
    )
    return lower_call(classify(signature, HOST), conversion, Machine(HOST, layout), with_listing=True).listing()


@native
@pytest.mark.parametrize("path", PATHS)
def test_a_missing_fact_turns_its_path_off(path: str) -> None:
    simple = {
        "an exact int?": "void f(int a)",
        "an exact float?": "void f(double a)",
        "exact bytes?": "void f(const char *a)",
        "a shared small int?": "int f(void)",
        "one that was freed?": "double f(void)",
    }[path]
    layout = probe()._replace(has_free_lists=True, small_ints=SmallInts(-5, 256, 32))  # which are only read here
    without = PATHS[path](layout)
    assert path in listing(layout, simple)
    assert path not in listing(without, simple)
    assert path in listing(layout, TEXT)
    assert path not in listing(without, TEXT)


@native
def test_immortals_are_not_counted() -> None:
    """Without immortal objects None is given a reference, with them it is left alone."""
    layout = probe()._replace(small_ints=SmallInts(-5, 256, 32))
    counting = "add x16, x16, #1" if DATA_MODEL.architecture == "aarch64" else "inc"
    for text in ("void f(void)", "_Bool f(void)", "int f(void)"):
        assert counting in listing(layout._replace(has_immortals=False), text)
        assert counting not in listing(layout._replace(has_immortals=True), text)
    assert layout.has_immortals == IS_TAGGED


@native
@pytest.mark.parametrize("missing", ["none", *PATHS, "all"])
def test_results_without_a_fact(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates of an engine that does not know a fact give the same results."""
    layout = probe()
    for path, remove in PATHS.items():
        if missing in (path, "all"):
            layout = remove(layout)
    engine = NativeEngine(layout)
    libc = ctypes.CDLL(C_LIBRARY)

    def made(engine: NativeEngine, text: str) -> Any:
        signature = parse_function(text, DATA_MODEL)
        conversion = convert(
            signature, DATA_MODEL, judgement=Judgement.NEVER, saved_error=SavedError.NONE, is_blocking=False
        )
        address = ctypes.cast(getattr(libc, signature.name), ctypes.c_void_p).value
        assert address is not None
        return engine.install(Gate(signature, conversion, address, None, Options(), "native", engine.machine))

    labs, ldexp, strlen, memcmp = (
        made(engine, text)
        for text in (
            "long long llabs(long long x)",
            "double ldexp(double x, int exponent)",
            "unsigned long strlen(const char *s)",
            "int memcmp(const void *a, const void *b, unsigned long count)",
        )
    )
    del engine  # before its gates
    values = [
        0,
        1,
        -1,
        5,
        -5,
        256,
        257,
        -300,
        1 << 29,
        1 << 30,
        -(1 << 30),
        1 << 45,
        1 << 62,
        -(1 << 62),
        2**63 - 1,
        True,
    ]
    for value in values:
        assert labs(value) == abs(value)
        assert type(labs(value)) is int
    assert [ldexp(0.75, 3), ldexp(3, -1), ldexp(-1e308, 0)] == [6.0, 1.5, -1e308]
    assert [strlen(b""), strlen("é" * 50), strlen(b"x" * 300)] == [0, 100, 300]
    assert [memcmp(b"ab", bytearray(b"ab"), 2), memcmp(b"a", b"b", 1) < 0] == [0, True]
    for call, arguments, message in [
        (labs, (1.0,), "llabs() argument 1 must be int, not float"),
        (
            labs,
            (1 << 63,),
            "llabs() argument 1 must be in -9223372036854775808..9223372036854775807 (long long), not 9223372036854775808",
        ),
        (ldexp, ("x", 1), "ldexp() argument 1 must be float, not str"),
        (ldexp, (1.0, 1 << 31), "ldexp() argument 2 must be in -2147483648..2147483647 (int), not 2147483648"),
        (strlen, (b"a\0b",), "strlen() argument 1 must not contain a NUL: embedded null byte"),
        (memcmp, (1.5, b"", 0), "memcmp() argument 1 must be a readable buffer or None, not float"),
    ]:
        with pytest.raises((TypeError, OverflowError, ValueError)) as caught:
            call(*arguments)
        assert str(caught.value) == message


@native
def test_engines_do_not_share_routines() -> None:
    """The literals of two engines' code differ, though their names are the same."""
    first, second = NativeEngine(), NativeEngine(probe()._replace(ints=None))
    assert first._resolve("callgate_convert") != second._resolve("callgate_convert")
    assert first._resolve("PyLong_Type") == second._resolve("PyLong_Type") == id(int)


@native
def test_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_module, "HOST", None)
    with pytest.raises(EngineError) as caught:
        NativeEngine()
    assert str(caught.value) == "no machine code can be made for this platform yet"


def test_forms_of_ints() -> None:
    """The two forms, as the interpreter at hand has them."""
    assert probe_module.probe_ints() == IntForm(IS_TAGGED, HEADER, HEADER + 8, 8 if IS_TAGGED else 1)
    small = probe_module.probe_small_ints()
    if IS_FREE_THREADED:
        assert small is None  # their distance is no power of two
        return
    assert small is not None
    assert small == SmallInts(-5, small.maximum, 32)
    assert small.maximum >= 256
    for value in (-5, 0, 256):
        assert id(value) == id(0) + 32 * value


def test_small_ints_that_are_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = id

    def shuffled(thing: object) -> int:
        return identity(thing) + (1000 if thing == 1 else 0)

    monkeypatch.setattr(probe_module, "id", shuffled, raising=False)
    assert probe_module.probe_small_ints() is None
