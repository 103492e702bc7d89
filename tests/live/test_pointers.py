"""Handles: Ptr[T], Opaque, void *, function pointers; NULL; and who may stand in for whom."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from here import C_LIBRARY
from telling import Index, told

import callgate as cg
from callgate import Opaque, Out, Ptr, i32


class Counter(Opaque):
    """struct counter of the targets."""


class Other(Opaque):
    pass


class Visible(ctypes.Structure):
    _fields_ = (("value", ctypes.c_int), ("step", ctypes.c_double))


@pytest.fixture
def lib(bound: Any) -> Any:
    return bound(
        """struct counter; struct counter *counter_new(int value); void counter_free(struct counter *counter);
        int counter_next(struct counter *counter); int counter_or(struct counter *counter, int otherwise);
        struct counter *counter_static(void); struct counter *counter_none(void);
        int *int_pointer(int *p); void *void_pointer(void *p); uintptr_t address(const void *p);
        int call_it(int (*function)(int), int x); int call_with(void *function, void *data, int x);"""
    )


def test_handles_of_c_text(lib: Any) -> None:
    counter = lib.counter_new(41)
    assert type(counter).__name__ == "LP_counter" and type(counter)._type_.__name__ == "counter"
    assert type(lib.counter_static()) is type(counter)  # one class for one name
    assert (lib.counter_next(counter), lib.counter_or(counter, 0)) == (42, 42)
    assert lib.counter_or(None, -1) == lib.counter_or(type(counter)(), -1) == -1
    assert lib.counter_none() is None
    assert lib.counter_free(counter) is None
    assert bool(lib.counter_static()) is True


def test_typed_handles(typed_as: Any) -> None:
    new, following = typed_as("counter_new", i32, Ptr[Counter]), typed_as("counter_next", Ptr[Counter], i32)
    free = typed_as("counter_free", Ptr[Counter], None)
    counter = new(1)
    assert type(counter) is ctypes.POINTER(Counter)
    assert [following(counter) for _ in range(3)] == [2, 3, 4]
    assert following(ctypes.byref(counter.contents)) == 5
    assert following(ctypes.pointer(counter.contents)) == 6
    free(counter)
    assert told(typed_as("counter_none", Ptr[Counter])) == (
        "ValueError: counter_none() returned NULL; declare the result `X | None` to get None"
    )
    assert typed_as("counter_none", Ptr[Counter] | None)() is None
    assert type(typed_as("counter_static", Ptr[Counter] | None)()) is ctypes.POINTER(Counter)


def test_a_structure_can_be_seen_through_its_pointer(typed_as: Any) -> None:
    new, following = typed_as("counter_new", i32, Ptr[Visible]), typed_as("counter_next", Ptr[Visible], i32)
    pointer = new(10)
    assert (pointer.contents.value, pointer[0].step, bool(pointer)) == (10, 1.0, True)
    pointer.contents.value = 20
    assert following(pointer) == 21
    typed_as("counter_free", Ptr[Visible], None)(pointer)
    mine = Visible(5, 0.5)
    row = (Visible * 2)(Visible(7), Visible(9))
    for thing, value in (
        (ctypes.pointer(mine), 6), (ctypes.byref(mine), 7), (row, 8), (ctypes.byref(row, ctypes.sizeof(Visible)), 10),
        (type("Sub", (ctypes.POINTER(Visible),), {"_type_": Visible})(mine), 8), (ctypes.byref(type("Sub", (Visible,), {})(1)), 2),
    ):  # fmt: skip
        assert following(thing) == value


@pytest.mark.parametrize(
    ("thing", "word"),
    [
        (None, "None"), (ctypes.POINTER(Counter)(), "NULL"), (ctypes.pointer(Other()), "Ptr[Other]"), (Counter(), "Counter"),
        (ctypes.c_void_p(8), "c_void_p"), (b"data", "bytes"), (bytearray(8), "bytearray"), ("text", "str"), (1.5, "float"),
        (ctypes.byref(Other()), "CArgObject"), ((Other * 2)(), "Other_Array_2"), ([], "list"), (Counter, "_PyCStructType"),
        (ctypes.c_char_p(b"x"), "c_char_p"), (ctypes.pointer(ctypes.pointer(Counter())), "Ptr[Ptr[Counter]]"), (Index(8), "Index"),
    ],
    ids=lambda thing: type(thing).__name__,
)  # fmt: skip
def test_what_a_typed_handle_may_not_be(typed_as: Any, thing: Any, word: str) -> None:
    word = type(Counter).__name__ if thing is Counter else word
    call = typed_as("counter_or", Ptr[Counter], i32, i32)
    assert told(call, thing, 3) == f"TypeError: counter_or() argument 1 must be Ptr[Counter], not {word}"
    nullable = typed_as("counter_or", Ptr[Counter] | None, i32, i32)
    if word in ("None", "NULL"):
        assert nullable(thing, 3) == 3
    else:
        assert (
            told(nullable, thing, 3) == f"TypeError: counter_or() argument 1 must be Ptr[Counter] or None, not {word}"
        )


def test_an_int_is_no_typed_handle(typed_as: Any) -> None:
    for number in (0, 8, True, -1, 1 << 70):
        assert told(typed_as("counter_next", Ptr[Counter], i32), number) == (
            "TypeError: counter_next() argument 1 must be Ptr[Counter], not int; for an address use "
            "ctypes.cast(address, Ptr[Counter])"
        )
    assert told(typed_as("counter_next", Ptr[Counter] | None, i32), 8) == (
        "TypeError: counter_next() argument 1 must be Ptr[Counter] or None, not int; for an address use "
        "ctypes.cast(address, Ptr[Counter])"
    )
    assert told(typed_as("call_it", ctypes.CFUNCTYPE(i32, i32), i32, i32), 8, 1) == (
        "TypeError: call_it() argument 1 must be a function pointer, not int; for an address use ctypes.c_void_p(address)"
    )


def test_void_handles(lib: Any, typed_as: Any) -> None:
    call, nullable = typed_as("address", Ptr[None], cg.u64), typed_as("address", Ptr[None] | None, cg.u64)
    number = ctypes.c_int(5)
    here = ctypes.addressof(number)
    row = (ctypes.c_int * 2)()
    for thing, value in (
        (ctypes.c_void_p(here), here), (here, here), (ctypes.byref(number), here), (ctypes.pointer(number), here), (number, here),
        (row, ctypes.addressof(row)), (type("Sub", (ctypes.c_void_p,), {})(here), here), ((1 << 64) - 1, (1 << 64) - 1),
        (ctypes.cast(here, ctypes.c_char_p), here), (True, 1),
    ):  # fmt: skip
        assert call(thing) == nullable(thing) == value
    for null in (None, 0, ctypes.c_void_p(), ctypes.c_void_p(0), ctypes.POINTER(ctypes.c_int)()):
        word = "None" if null is None else "NULL"
        assert nullable(null) == 0
        assert told(call, null) == f"TypeError: address() argument 1 must be Ptr[None], not {word}"
    for thing, word in (
        (b"data", "bytes"),
        ("text", "str"),
        (bytearray(1), "bytearray"),
        (1.0, "float"),
        (Index(8), "Index"),
    ):
        assert told(call, thing) == f"TypeError: address() argument 1 must be Ptr[None], not {word}"
    for number_out in (-1, 1 << 64, -(1 << 100)):
        assert told(call, number_out) == (
            f"OverflowError: address() argument 1 must be an address of 64 bits, not {number_out}"
        )
    echo = typed_as("void_pointer", Ptr[None], Ptr[None])
    assert type(echo(here)) is ctypes.c_void_p and echo(here).value == here
    assert told(typed_as("void_pointer", Ptr[None] | None, Ptr[None]), None) == (
        "ValueError: void_pointer() returned NULL; declare the result `X | None` to get None"
    )
    assert lib.void_pointer(None) is None
    assert lib.void_pointer(row).value == ctypes.addressof(row)


def test_results_that_are_pointers_to_scalars(lib: Any) -> None:
    row = (ctypes.c_int * 3)(4, 5, 6)
    pointer = lib.int_pointer(row)
    assert type(pointer) is ctypes.POINTER(ctypes.c_int)
    assert (pointer[0], pointer[2], pointer.contents.value, bool(pointer)) == (4, 6, 4, True)
    pointer[1] = 50
    assert row[1] == 50
    assert ctypes.addressof(lib.int_pointer(pointer).contents) == ctypes.addressof(row)
    assert lib.int_pointer(None) is None


def test_each_result_is_a_pointer_of_its_own(typed_as: Any) -> None:
    call = typed_as("counter_static", Ptr[Visible])
    first, second = call(), call()
    first.contents = Visible(99)
    assert second.contents.value != 99 and call().contents.value == second.contents.value


def test_out_handles(typed_as: Any) -> None:
    opened = typed_as("counter_open", i32, Out[Ptr[Visible]], cg.Status)
    counter = opened(3)
    assert type(counter) is ctypes.POINTER(Visible) and counter.contents.value == 3
    typed_as("counter_free", Ptr[Visible], None)(counter)
    assert told(opened, -1) == "CallError: counter_open() failed with status 1"
    assert told(typed_as("counter_open", i32, Out[Ptr[Visible]], i32), -1) == (
        "ValueError: counter_open() left x2 NULL; declare it `Out[X | None]` to get None"
    )
    assert typed_as("counter_open", i32, Out[Ptr[Visible] | None], i32)(-1) == (1, None)
    assert typed_as("counter_open", i32, Out[Ptr[None] | None], i32)(-1) == (1, None)


# -- function pointers ----------------------------------------------------------------------------------------------
def test_function_pointers(lib: Any, typed_as: Any) -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    double = prototype(lambda x: 2 * x)
    address = ctypes.cast(double, ctypes.c_void_p)
    call = typed_as("call_it", prototype, i32, i32)
    assert call(double, 21) == lib.call_it(double, 21) == lib.call_it(address, 21) == 42
    assert call(ctypes.cast(address, prototype), 4) == 8
    assert call(address, 4) == 8
    absolute = ctypes.CDLL(C_LIBRARY).abs
    assert lib.call_it(absolute, -5) == call(absolute, -5) == 5

    @cg.callback
    def triple(x: i32) -> i32:
        return 3 * x

    assert lib.call_it(triple, 5) == 15
    assert lib.call_it(cg.load("c", "int abs(int x);").abs, -6) == 6
    assert told(lib.call_it, cg.load("m", "double fabs(double x);").fabs, 1) == (
        "TypeError: call_it() argument 1 must be a function like int (*)(int), not double fabs(double)"
    )
    for thing, word in (
        (None, "None"),
        (prototype(), "NULL"),
        (lambda x: x, "function"),
        (abs, "builtin_function_or_method"),
        ("f", "str"),
    ):
        assert told(call, thing, 1) == f"TypeError: call_it() argument 1 must be a function pointer, not {word}"
        if thing is not None and word != "NULL":
            assert told(lib.call_it, thing, 1) == (
                f"TypeError: call_it() argument 1 must be a callback or a gate or None, not {word}"
                + callable(thing) * "; C keeps it: decorate it with @callgate.callback and keep a reference"
            )
    assert told(lib.call_it, 8, 1) == "TypeError: call_it() argument 1 must be a callback or a gate or None, not int"
    with_data = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int)(lambda data, x: data[0] + x)
    assert lib.call_with(with_data, ctypes.byref(ctypes.c_int(40)), 2) == 42
    assert lib.call_with(ctypes.cast(with_data, ctypes.c_void_p).value, ctypes.c_int(1), 2) == 3


def test_a_callback_may_call_gates(lib: Any) -> None:
    """Down and up eight times through C and Python."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    deeper = prototype(lambda x: lib.call_it(deeper, x - 1) + 1 if x else 100)
    assert lib.call_it(deeper, 8) == 108


def test_an_exception_in_a_ctypes_callback_does_not_reach_the_gate(bound: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    lib = bound("void call_plain(void (*function)(void)); int id_int(int x);")
    assert lib.call_plain(ctypes.CFUNCTYPE(None)(lambda: 1 // 0)) is None
    assert seen == [ZeroDivisionError]
    assert lib.id_int(-1) == -1


def test_a_library_that_only_its_gates_keep(bound: Any) -> None:
    call = bound("int call_it(int (*function)(int), int x);").call_it
    drop = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: globals().update(call=None) or x)
    globals()["call"] = call
    del call
    assert globals()["call"](drop, 5) == 5
