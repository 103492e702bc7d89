"""Both modes at once: the same words, the same fuel, and instances of one beside instances of the other."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from assemble import module
from test_exports import NUMBERS, TEXTS, Color, Numbers, Texts
from test_instances import CALLS

import callgate as cg
from callgate import f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, wasm
from callgate.errors import EngineError

MODES = ("compiled", "portable")


@pytest.fixture(autouse=True)
def _both() -> None:
    try:
        wasm.Module(b"\0asm\1\0\0\0", engine="compiled", cache=False)
    except EngineError as reason:
        pytest.skip(f"there is one mode here: {reason}")


def load(mode: str, data: bytes, *arguments: Any, **options: Any) -> Any:
    return wasm.load(data, *arguments, engine=mode, cache=False, **options)


def outcome(call: str, names: dict[str, Any]) -> tuple[type, str]:
    """What a call comes to: the type and the text of its result or its exception."""
    try:
        result = eval(call, names)
    except Exception as error:
        return type(error), str(error)
    return type(result), repr(result)


class Narrow(Protocol):
    def get(self) -> bool: ...
    @cg.function(symbol="add")
    def narrow(self, a: i8, b: u16) -> u8: ...
    @cg.function(symbol="add")
    def signed(self, a: u8, b: bool) -> i16: ...
    @cg.function(symbol="add")
    def truth(self, a: i32, b: i32, /) -> bool: ...
    @cg.function(symbol="add")
    def color(self, a: Color, b: i32) -> Color: ...
    @cg.function(symbol="wide")
    def unsigned(self, a: i64, /) -> u64: ...
    def half(self, x: f32, /) -> f32: ...
    def twice(self, x: f64, /) -> f64: ...


ARGUMENTS = [
    *("0", "-1", "1 << 31", "-(1 << 31)", "(1 << 32) - 1", "1 << 32", "1 << 63", "-(1 << 63)", "1 << 64", "10 ** 40"),
    *("True", "1.5", "float('inf')", "1e300", "'x'", "b'x'", "None", "bytes(16)", "object", "2.0 ** 40", "Color.GREEN"),
]
FUNCTIONS = {
    None: ("wide(_)", "half(_)", "twice(_)", "add(_, 1)", "add(1, _)", "swap(_, 1)", "swap(1, _)", "vector(_)"),
    Numbers: ("wide(_)", "half(_)", "twice(_)", "add(_, 1)", "swap(_, 1)", "swap(1, _)", "vector(_)"),
    Narrow: (
        *("narrow(_, 3)", "narrow(1, _)", "signed(_, True)", "signed(5, _)", "truth(_, 0)", "color(_, 1)"),
        *("color(0, _)", "unsigned(_)", "half(_)", "twice(_)"),
    ),
}


@pytest.mark.parametrize("protocol", FUNCTIONS)
def test_every_argument(protocol: type | None) -> None:
    exports = [load(mode, NUMBERS, *([] if protocol is None else [protocol])).exports for mode in MODES]
    for call in FUNCTIONS[protocol]:
        for argument in ARGUMENTS:
            text = f"e.{call.replace('_', argument, 1)}"
            compiled, portable = (outcome(text, {"e": one, "Color": Color}) for one in exports)
            assert compiled == portable, text


@pytest.mark.parametrize(
    ("protocol", "call"),
    [
        *[(None, call) for call in ("add()", "add(1)", "add(1, 2, 3)", "add(a=1, b=2)", "add(1, b=2)", "nothing(1)")],
        *[(None, call) for call in ("swap()", "swap(1, 2, 3)", "swap(1, b=2)", "vector()", "nothing(x=1)")],
        *[(Numbers, call) for call in ("add(1, c=2)", "add(1, a=2)", "add(b=1)", "swap(b=1)", "swap(1, a=1)", "wide(a=1)")],
        *[(Numbers, call) for call in ("missing", "add.__name__", "swap.__name__", "add.__doc__", "callee().type")],
        *[(Narrow, call) for call in ("color(Color.RED, 3)", "color(0, 7)", "truth(256, 0)", "truth(-1, 0)")],
        *[(Narrow, call) for call in ("narrow(-1, 65535)", "narrow(-128, 0)", "signed(255, 1)", "unsigned(-1)")],
    ],
)  # fmt: skip
def test_the_same_words(protocol: type | None, call: str) -> None:
    compiled, portable = (
        outcome(f"e.{call}", {"e": load(mode, NUMBERS, *([protocol] if protocol else [])).exports, "Color": Color})
        for mode in MODES
    )
    assert compiled == portable


@pytest.mark.parametrize(
    "call",
    [
        "strlen(5)",
        "strlen('a\\0')",
        "size('x')",
        "put('a')",
        "not_null()",
        "lost()",
        "crash('x')",
        "echo('x')",
        "fixed()",
    ],
)
def test_the_same_words_about_strings(call: str) -> None:
    compiled, portable = (outcome(f"e.{call}", {"e": load(mode, TEXTS, Texts).exports}) for mode in MODES)
    assert compiled == portable


RESULTS = [
    "0",
    "-1",
    "1 << 31",
    "1 << 40",
    "1.5",
    "'x'",
    "None",
    "True",
    "float('nan')",
    "1e300",
    "(1, 2)",
    "Color.GREEN",
]


@pytest.mark.parametrize("kind", ["i32", "i64", "f32", "f64"])
@pytest.mark.parametrize("annotation", ["", "u32", "u64", "bool", "i8", "f32", "f64", "Color"])
def test_every_result_of_a_host_function(kind: str, annotation: str) -> None:
    names: dict[str, Any] = {**globals(), "u32": u32}
    exec(f"def host(number: i32){f' -> {annotation}' if annotation else ''}: return eval(RESULTS[number])", names)
    host = names["host"]
    if not annotation:
        host.__annotations__.clear()
    data = module({"go": (f"i32 -> {kind}", "local.get 0; call host")}, imports=[("env", "host", f"i32 -> {kind}")])
    found = []
    for mode in MODES:
        try:
            go = load(mode, data, imports={"env": {"host": host}}).exports.go
        except wasm.LinkError as error:
            found.append([(type(error), str(error))])
            continue
        found.append([outcome(f"go({number})", {"go": go}) for number in range(len(RESULTS))])
    assert found[0] == found[1]


@pytest.mark.parametrize("annotation", ["i32", "u32", "bool", "i8", "u16", "Color"])
def test_every_argument_of_a_host_function(annotation: str) -> None:
    seen: list[Any] = []
    names: dict[str, Any] = {**globals(), "seen": seen}
    exec(f"def host(value: {annotation}) -> None: seen.append(value)", names)
    data = module({"go": ("i32 ->", "local.get 0; call host")}, imports=[("env", "host", "i32 ->")])
    found = []
    for mode in MODES:
        exports = load(mode, data, imports={"env": {"host": names["host"]}}).exports
        for value in (0, 1, 3, -1, 128, 255, 256, 65537, -(1 << 31)):
            seen.clear()
            found.append((mode, value, outcome(f"go({value})", {"go": exports.go}), [(type(one), one) for one in seen]))
    half = len(found) // 2
    assert [one[1:] for one in found[:half]] == [one[1:] for one in found[half:]]


@pytest.mark.parametrize(
    "call",
    [
        *("divide(1, 0)", "divide(-(1 << 31), -1)", "convert(1e300)", "convert(float('nan'))", "load(65533)"),
        *("fill(65535)", "stop()", "indirect(1)", "indirect(2)", "indirect(9)", "get(9)", "set(9, None)", "set(0, 5)"),
        *("run(5)", "run(-5)", "set(0, Color)"),
    ],
)
def test_the_same_traps(call: str) -> None:
    """With the same functions and offsets in their backtraces."""

    def host(value: i32) -> i32:
        if value < 0:
            raise KeyError(value)
        return value

    found = []
    for mode in MODES:
        exports = load(mode, CALLS, imports={"env": {"host": host}}).exports
        try:
            found.append(eval(f"exports.{call}", {"exports": exports, "Color": Color}))
        except Exception as error:
            frames = getattr(error, "frames", getattr(error, "wasm_frames", ()))
            found.append((type(error), str(error), frames))
    assert found[0] == found[1]


FUEL = module(
    {
        "leaf": ("i32 -> i32", "local.get 0; i32.const 1; i32.add"),
        "calls": ("i32 -> i32", "local.get 0; call leaf; call leaf; call calls_none"),
        "calls_none": ("i32 -> i32", "local.get 0; i32.const 0; i32.const 0; i32.const 0; memory.fill"),
        "sum": (
            "i32 -> i32",
            "i32",
            "loop; local.get 1; local.get 0; i32.add; local.set 1; local.get 0; i32.const 1; i32.sub; local.tee 0;"
            "br_if 0; end; local.get 1",
        ),
        "recurse": (
            "i32 -> i32",
            "local.get 0; if i32; local.get 0; i32.const 1; i32.sub; call recurse; else; i32.const 5; call sum; end",
        ),
        "nested": (
            "i32 -> i32",
            "i32",
            "loop; local.get 0; i32.const 3; i32.and; i32.const 1; i32.add; local.set 1; loop; local.get 1; i32.const 1;"
            "i32.sub; local.tee 1; br_if 0; end; local.get 0; i32.const 1; i32.sub; local.tee 0; br_if 0; end;"
            "local.get 0; call calls",
        ),
    },
    memory="1",
)


@pytest.mark.parametrize("fuel", [1, 2, 3, 5, 7, 50, 1000, 1025, 5000])
@pytest.mark.parametrize("call", ["leaf(1)", "calls(1)", "sum(1000)", "recurse(40)", "nested(100)", "calls_none(3)"])
def test_the_same_fuel(fuel: int, call: str) -> None:
    found = []
    for mode in MODES:
        instance = load(mode, FUEL, limits=wasm.Limits(fuel=fuel))
        found.append((outcome(f"e.{call}", {"e": instance.exports}), instance.fuel_left))
        found[-1] += (outcome(f"e.{call}", {"e": instance.exports}), instance.fuel_left)  # type: ignore[operator]
    assert found[0] == found[1]


@pytest.mark.parametrize(("giver", "taker"), [MODES, MODES[::-1]])
class TestBesideEachOther:
    def test_functions(self, giver: str, taker: str) -> None:
        inner = load(giver, CALLS, imports={"env": {"host": lambda value: value * 2}})
        outer = load(taker, CALLS, imports={"env": {"host": inner.exports.run}})
        assert outer.exports.run(-21) == -42 and outer.exports.run(1 << 29) == 1 << 30

    def test_every_type(self, giver: str, taker: str) -> None:
        kinds = ("i32", "i64", "f32", "f64", "v128", "externref")
        functions = {f"id_{kind}": (f"{kind} -> {kind}", "local.get 0") for kind in kinds}
        inner = load(giver, module({**functions, "swap": ("i32 f64 -> f64 i32", "local.get 1; local.get 0")}))
        signatures = {**{f"id_{kind}": f"{kind} -> {kind}" for kind in kinds}, "swap": "i32 f64 -> f64 i32"}
        outer = load(
            taker,
            module(
                {
                    f"go_{name}": (
                        text,
                        "".join(f"local.get {n}; " for n in range(1 + (name == "swap"))) + f"call {name}",
                    )
                    for name, text in signatures.items()
                },
                imports=[("inner", name, text) for name, text in signatures.items()],
            ),
            imports=[("inner", inner)],
        )
        call = outer.exports
        thing = object()
        assert call.go_id_i32(-(1 << 31)) == -(1 << 31) and call.go_id_i64(-(1 << 63)) == -(1 << 63)
        assert call.go_id_f32(0.1) == wasm.Global("f32", 0.1).value and call.go_id_f64(-0.1) == -0.1
        assert math.isnan(call.go_id_f64(math.nan)) and math.copysign(1, call.go_id_f32(-0.0)) == -1
        assert call.go_id_v128(bytes(range(16))) == bytes(range(16)) and call.go_id_externref(thing) is thing
        assert call.go_swap(7, 0.5) == (0.5, 7)

    def test_traps_and_exceptions(self, giver: str, taker: str) -> None:
        def host(value: i32) -> i32:
            raise KeyError("text")

        inner = load(giver, CALLS, imports={"env": {"host": host}})
        names = ["inner", "run", "inner", "run"]
        with pytest.raises(KeyError, match="text") as caught:
            load(taker, CALLS, imports={"env": {"host": inner.exports.run}}).exports.run(1)
        assert [one.name for one in caught.value.wasm_frames] == names  # type: ignore[attr-defined]
        with pytest.raises(wasm.OutOfBounds) as trap:
            load(taker, CALLS, imports={"env": {"host": inner.exports.load}}).exports.run(1 << 20)
        assert [one.name for one in trap.value.frames] == ["load", "inner", "run"]
        assert str(trap.value).startswith("out of bounds memory access\n  in load (function 9 at byte 0x")
        with pytest.raises(wasm.StackExhausted):
            load(taker, CALLS, imports={"env": {"host": inner.exports.deeper}}).exports.run(0)
        assert inner.exports.divide(4, 2) == 2

    def test_calls_that_alternate(self, giver: str, taker: str) -> None:
        instances: list[Any] = []

        def host(value: i32) -> i32:
            if value == 0:
                instances[0].exports.stop()
            return int(instances[value % 2].exports.run(value - 1))

        instances += [load(mode, CALLS, imports={"env": {"host": host}}) for mode in (giver, taker)]
        with pytest.raises(wasm.Unreachable) as caught:
            instances[0].exports.run(3)
        assert [one.name for one in caught.value.frames] == ["stop", *["inner", "run"] * 4]

    def test_a_memory(self, giver: str, taker: str) -> None:
        inner = load(giver, CALLS, imports={"env": {"host": abs}})
        code = module(
            {
                "load": ("i32 -> i32", "local.get 0; i32.load 0"),
                "store": ("i32 i32 ->", "local.get 0; local.get 1; i32.store 0"),
                "grow": ("-> i32", "i32.const 1; memory.grow"),
            },
            imports=[("inner", "memory", "memory 1 8")],
        )
        outer = load(taker, code, imports=[("inner", inner)])
        outer.exports.store(8, -5)
        assert inner.exports.load(8) == -5 and inner.memory.read_int(8, signed=True) == -5
        assert outer.exports.grow() == 1 and inner.exports.load(65536) == 0
        assert inner.exports.grow(1) == 2
        outer.exports.store(2 * 65536, 7)
        assert inner.exports.load(2 * 65536) == 7
        for exports in (inner.exports, outer.exports):
            with pytest.raises(wasm.OutOfBounds):
                exports.load(3 * 65536)

    def test_tables_and_globals_are_of_one_mode(self, giver: str, taker: str) -> None:
        data = module(
            {"get": ("-> i32", "global.get 0")},
            tables=["funcref 1 2"],
            globals_=[("mutable i32", "i32.const 1"), ("i32", "i32.const 7"), ("funcref", "ref.null funcref")],
            exports={"table": "table 0", "variable": "global 0", "constant": "global 1", "reference": "global 2"},
        )
        inner = load(giver, data)
        wanted = [("inner", "variable", "global mutable i32"), ("inner", "table", "table funcref 1")]
        wanted.append(("inner", "reference", "global funcref"))
        with pytest.raises(wasm.LinkError) as caught:
            load(taker, module({}, imports=wanted), imports=[("inner", inner)])
        assert caught.value.problems == (
            f"incompatible import for inner.variable: <wasm mutable global of i32: 1> is used in {giver} mode and "
            f"cannot be in {taker} mode",
            f"incompatible import for inner.table: <wasm table of funcref, 1 to 2 elements, 1 now> is used in {giver} "
            f"mode and cannot be in {taker} mode",
            f"incompatible import for inner.reference: <wasm constant global of funcref: None> is used in {giver} mode "
            f"and cannot be in {taker} mode",
        )
        code = module({"get": ("-> i32", "global.get 0")}, imports=[("inner", "constant", "global i32")])
        assert load(taker, code, imports=[("inner", inner)]).exports.get() == 7

    def test_tables_and_globals_before_they_are_used(self, giver: str, taker: str) -> None:
        """Functions of compiled mode may be in them everywhere, those of portable mode only there."""
        run = load(giver, CALLS, imports={"env": {"host": abs}}).exports.run
        table, variable = wasm.Table("funcref", 2), wasm.Global("funcref", run, mutable=True)
        table[1] = run
        assert table[1](-5) == variable.value(-5) == 5
        data = module(
            {
                "go": ("i32 -> i32", "local.get 0; i32.const 1; call_indirect i32->i32 0"),
                "put": ("->", "i32.const 0; global.get 0; table.set 0"),
                "call": ("i32 -> i32", "call put; local.get 0; i32.const 0; call_indirect i32->i32 0"),
            },
            imports=[("env", "table", "table funcref 2"), ("env", "variable", "global mutable funcref")],
        )
        imports = {"env": {"table": table, "variable": variable}}
        if taker == "compiled":
            with pytest.raises(wasm.LinkError) as caught:
                load(taker, data, imports=imports)
            assert [line.partition(": ")[2].rpartition("> ")[2] for line in caught.value.problems] == [
                "has functions of portable mode and cannot be in compiled mode"
            ] * 2
            return
        exports = load(taker, data, imports=imports).exports
        assert exports.go(-7) == exports.call(-7) == 7 and table[0](-8) == 8
        assert variable.value(-9) == 9

    def test_references_to_functions(self, giver: str, taker: str) -> None:
        """Compiled code has no reference to a function of portable mode."""
        run = load(giver, CALLS, imports={"env": {"host": abs}}).exports.run
        outer = load(taker, CALLS, imports={"env": {"host": abs}})
        if taker == "compiled":
            for put in (outer.exports.set, outer.exports.table.__setitem__):
                with pytest.raises(
                    TypeError, match="a funcref is an exported function of compiled mode or None, not <"
                ):
                    put(3, run)
            return
        outer.exports.set(3, run)
        outer.exports.table[2] = run
        assert outer.exports.indirect(3) == outer.exports.indirect(2) == 5
        assert outer.exports.get(3)(-6) == outer.exports.table[2](-6) == 6

    def test_limits_of_each(self, giver: str, taker: str) -> None:
        """An instance's own limits bound it, whoever calls."""
        spin = {"spin": ("i32 -> i32", "loop; br 0; end; i32.const 0")}
        for limits, trap in ((wasm.Limits(fuel=500), wasm.OutOfFuel), (wasm.Limits(timeout_s=0.05), wasm.TimedOut)):
            inner = load(giver, module(spin), limits=limits)
            outer = load(taker, CALLS, imports={"env": {"host": inner.exports.spin}})
            with pytest.raises(trap) as caught:
                outer.exports.run(1)
            assert [one.name for one in caught.value.frames] == ["spin", "inner", "run"]
