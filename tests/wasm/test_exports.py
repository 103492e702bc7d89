"""Exports: by their own types, typed by Protocols, and strings that travel through the module's allocator."""

from __future__ import annotations

import enum
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from assemble import IS_CPYTHON, build, load, module

import callgate as cg
from callgate import cstr, f32, f64, i8, i32, i64, u8, u32, u64, wasm
from callgate.errors import DeclarationError

pytestmark = pytest.mark.usefixtures("mode")
HAS_LONG_DOUBLE = pytest.mark.skipif(sys.platform == "win32", reason="a long double is a double there")

NUMBERS = module(
    {
        "add": ("i32 i32 -> i32", "local.get 0; local.get 1; i32.add"),
        "wide": ("i64 -> i64", "local.get 0"),
        "half": ("f32 -> f32", "local.get 0; f32.const 0.5; f32.mul"),
        "twice": ("f64 -> f64", "local.get 0; local.get 0; f64.add"),
        "nothing": ("->", ""),
        "swap": ("i32 i64 -> i64 i32", "local.get 1; local.get 0"),
        "same": ("externref -> externref", "local.get 0"),
        "vector": ("v128 -> v128", "local.get 0"),
        "get": ("-> i32", "i32.const 5"),
        "callee": ("-> funcref", "ref.func get"),
    },
    memory="1 4",
    tables=["funcref 2 4"],
    globals_=[("mutable i32", "i32.const 7")],
    elements=["get"],
    exports={"memory": "memory 0", "table": "table 0", "counter": "global 0"},
    name="numbers",
    customs=[("producers", b"by hand")],
)


class Color(enum.IntEnum):
    RED = 0
    GREEN = 3


class TestWithoutProtocol:
    def test_functions(self, mode: str) -> None:
        exports = load(NUMBERS).exports
        assert exports.add(1, 2) == 3 and exports["add"] is exports.add and exports.add.__name__ == "add"
        if mode == "compiled":  # functions are gates
            assert cg.gate(exports.add).engine == "native"
        assert (exports.wide(-1), exports.half(3.0), exports.twice(0.25), exports.nothing()) == (-1, 1.5, 0.5, None)

    def test_names_of_python_methods(self) -> None:
        assert load(NUMBERS).exports.get() == 5

    def test_other_types(self) -> None:
        exports = load(NUMBERS).exports
        thing = object()
        assert exports.swap(1, 2) == (2, 1)
        assert exports.same(thing) is thing and exports.same(None) is None
        assert exports.vector(b"0123456789abcdef") == b"0123456789abcdef"
        assert exports.callee()() == 5 and exports.callee().type.results == (0x7F,)

    def test_things(self) -> None:
        exports = load(NUMBERS).exports
        exports.counter.value += 1
        assert exports.counter.value == 8
        assert exports.table[0]() == 5 and exports.table[1] is None and len(exports.table) == 2
        assert exports.memory.pages == 1

    def test_as_a_mapping(self) -> None:
        exports = load(NUMBERS).exports
        assert "add" in exports and "sub" not in exports and len(exports) == 13 and "add" in dir(exports)
        assert list(exports)[:2] == ["add", "wide"]

    def test_unknown(self) -> None:
        exports = load(NUMBERS).exports
        with pytest.raises(AttributeError, match=r"the module exports no 'sub'; it exports add, wide, half"):
            _ = exports.sub
        with pytest.raises(KeyError, match="the module exports no 'sub'"):
            _ = exports["sub"]
        with pytest.raises(AttributeError, match="exports cannot be set: 'add'"):
            exports.add = 5

    @pytest.mark.parametrize(
        ("name", "arguments", "error", "text"),
        [
            ("add", (1,), TypeError, r"add\(\) takes exactly 2 arguments \(1 given\)"),
            ("add", (1, "2"), TypeError, r"add\(\) argument 2 must be int, not str"),
            ("add", (1, 1 << 31), OverflowError, r"add\(\) argument 2 must be in -2147483648\.\.2147483647"),
            ("twice", (None,), TypeError, r"twice\(\) argument 1 must be float, not None"),
            ("swap", (1,), TypeError, r"swap\(\) takes exactly 2 arguments \(1 given\)"),
            ("swap", (1, 1.5), TypeError, r"swap\(\) argument 2 must be int, not float"),
            ("swap", (1 << 32, 1), OverflowError, r"swap\(\) argument 1 must be in -2147483648\.\.4294967295 \(i32\)"),
            ("vector", (b"short",), ValueError, r"vector\(\) argument 1 must be 16 bytes \(v128\), not 5"),
            ("vector", (5,), TypeError, r"vector\(\) argument 1 must be 16 bytes, not int"),
        ],
    )
    def test_bad_arguments(self, name: str, arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            load(NUMBERS).exports[name](*arguments)


class Numbers(Protocol):
    counter: wasm.Global
    memory: wasm.Memory
    table: wasm.Table

    def add(self, a: u32, b: u32) -> u32:
        "The sum."

    def wide(self, a: u64, /) -> u64: ...
    def half(self, x: f32, /) -> f32: ...
    def twice(self, x: float, /) -> float: ...
    def nothing(self) -> None: ...
    def swap(self, a: u32, b: i64) -> tuple[i64, u32]:
        "Exchange."

    def same(self, thing: object, /) -> object: ...
    def vector(self, value: bytes, /) -> bytes: ...
    def get(self) -> i32: ...
    def callee(self) -> wasm.Function | None: ...
    @cg.function(required=False)
    def missing(self) -> None: ...


class TestProtocols:
    def test_all(self) -> None:
        exports = load(NUMBERS, Numbers).exports
        assert exports.add(0xFFFFFFFF, 0) == 0xFFFFFFFF and exports.add(b=2, a=1) == 3
        assert exports.wide((1 << 64) - 1) == (1 << 64) - 1
        assert (exports.half(3.0), exports.twice(2), exports.nothing(), exports.get()) == (1.5, 4.0, None, 5)
        assert exports.swap(b=-1, a=0xFFFFFFFF) == (-1, 0xFFFFFFFF)
        assert exports.same([1]) == [1] and exports.vector(bytes(16)) == bytes(16)
        found = exports.callee()
        assert found is not None and found() == 5
        assert exports.counter.value == 7 and exports.memory.pages == 1 and len(exports.table) == 2
        assert exports.missing is None

    def test_doc_strings(self) -> None:
        exports = load(NUMBERS, Numbers).exports
        assert exports.add.__doc__ is not None and exports.add.__doc__.startswith("The sum.")
        assert exports.swap.__doc__ == "Exchange." and exports.swap.__name__ == "swap"

    def test_signatures(self) -> None:
        exports = load(TEXTS, Texts).exports
        assert str(inspect.signature(exports.strlen)) == "(arg1, /)"
        assert str(inspect.signature(exports.size)) == "(data)"

    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            ("exports.add(1, c=2)", TypeError, r"add\(\) got an unexpected keyword argument 'c'"),
            ("exports.swap(1, c=2)", TypeError, r"swap\(\) got an unexpected keyword argument 'c'"),
            ("exports.swap(-1, 2)", OverflowError, r"swap\(\) argument 1 must be in 0\.\.4294967295 \(.*\), not -1"),
            ("exports.swap('x', 2)", TypeError, r"swap\(\) argument 1 must be int, not str"),
            ("exports.add(-1, 2)", OverflowError, r"add\(\) argument 1 must be in 0\.\.4294967295"),
            ("exports.half('x')", TypeError, r"half\(\) argument 1 must be float, not str"),
        ],
    )
    def test_bad_arguments(self, call: str, error: type[Exception], text: str) -> None:
        exports = load(NUMBERS, Numbers).exports
        with pytest.raises(error, match=text):
            eval(call, {"exports": exports})

    def test_narrow_types_and_enums(self) -> None:
        class Narrow(Protocol):
            def get(self) -> bool: ...
            def add(self, a: Color, b: u8) -> Color: ...
            @cg.function(symbol="add")
            def add8(self, a: i8, b: bool) -> i32: ...

        exports = load(NUMBERS, Narrow).exports
        assert exports.get() is True
        assert exports.add(Color.RED, 3) is Color.GREEN and exports.add8(-1, True) == 0
        with pytest.raises(OverflowError, match=r"add\(\) argument 2 must be in 0\.\.255"):
            exports.add(Color.RED, 256)

    def test_all_that_does_not_fit_is_listed(self) -> None:
        class Wrong(Protocol):
            memory: wasm.Table

            def add(self, a: f64, b: i32, /) -> i32: ...
            def wide(self, a: i32, /) -> i32: ...
            def sub(self, a: i32, /) -> i32: ...
            def table(self) -> None: ...
            def nothing(self, text: str, /) -> None: ...

        with pytest.raises(wasm.LinkError) as caught:
            load(NUMBERS, Wrong)
        assert [line.replace(", ".join(load(NUMBERS).exports), "...") for line in caught.value.problems] == [
            "incompatible export add: it is (i32, i32) -> (i32), the Protocol says (f64, i32) -> (i32)",
            "incompatible export wide: it is (i64) -> (i64), the Protocol says (i32) -> (i32)",
            "unknown export sub: the module exports "
            "add, callee, counter, get, half, memory, nothing, same, swap, table, twice, vector, wide",
            "incompatible export table: it is a table, no function",
            "incompatible export nothing: it is () -> (), the Protocol says (str), where a str or bytes is i32 or i32, "
            "i32 -> ()",
            "incompatible export memory: it is a memory, no table",
        ]

    @pytest.mark.parametrize(
        ("annotations", "text"),
        [
            ("a: int, b: i32) -> i32", r"add\(\) parameter 'a': int has no width in WebAssembly; write i32, "),
            ("a, b: i32) -> i32", r"add\(\) parameter 'a' has no annotation"),
            ("a: i32, b: i32)", r"add\(\) result has no annotation"),
            ("a: i32, b: i32) -> tuple[i32, ...]", r"add\(\) result: a tuple of results has the type of each"),
            pytest.param(
                *(
                    "a: cg.Ptr[i32], b: i32) -> i32",
                    r"add\(\) parameter 'a': .* is no type of WebAssembly; write i32, u32",
                ),
                marks=pytest.mark.skipif(not IS_CPYTHON, reason="PyPy's ctypes makes other pointers"),
            ),
            pytest.param("a: cg.longdouble, b: i32) -> i32", r"is no type of WebAssembly", marks=HAS_LONG_DOUBLE),
            ("a: i32, *b: cg.VarArg) -> i32", r"add\(\): functions of WebAssembly have no variable arguments"),
            ("a: i32, b: i32 = 0) -> i32", r"add\(\): C has no default arguments"),
            ("a: i32, b: i32) -> tuple[str, i32]", r"add\(\) result: a str or bytes is the only result"),
        ],
    )
    def test_declarations_without_meaning(self, annotations: str, text: str) -> None:
        names = {"cg": cg, "i32": i32, "Protocol": Protocol}
        exec(f"class Wrong(Protocol):\n    def add(self, {annotations}: ...", names)
        with pytest.raises(DeclarationError, match=text):
            load(NUMBERS, names["Wrong"])

    def test_options_without_meaning(self) -> None:
        class Wrong(Protocol):
            @cg.function(fails_if="negative")
            def add(self, a: i32, b: i32, /) -> i32: ...

        class Free(Protocol):
            @cg.function(free="get")
            def add(self, a: i32, b: i32, /) -> i32: ...

        class Empty(Protocol): ...

        class Attribute(Protocol):
            add: int

        with pytest.raises(DeclarationError, match=r"add\(\): fails_if= means nothing for a WebAssembly export; free"):
            load(NUMBERS, Wrong)
        with pytest.raises(DeclarationError, match=r"add\(\): free= needs a result that is str or bytes"):
            load(NUMBERS, Free)
        with pytest.raises(DeclarationError, match="Empty declares no export"):
            load(NUMBERS, Empty)
        with pytest.raises(DeclarationError, match=r"Attribute\.add: an export that is no function is a wasm\.Memory"):
            load(NUMBERS, Attribute)
        with pytest.raises(TypeError, match="exports are typed by a Protocol class, not 'Numbers'"):
            load(NUMBERS, "Numbers")

    def test_nothing_runs_before_it_fits(self) -> None:
        seen: list[int] = []

        def note() -> None:
            seen.append(1)

        data = module({"begin": ("->", "call note")}, imports=[("env", "note", "->")], start="begin")

        class Wrong(Protocol):
            def begin(self, x: i32, /) -> None: ...

        with pytest.raises(wasm.LinkError):
            load(data, Wrong, imports={"env": {"note": note}})
        assert not seen
        load(data, imports={"env": {"note": note}})
        assert seen


TEXTS = module(
    {
        "malloc": (
            "i32 -> i32",
            "global.get 0; i32.const 1; i32.add; global.set 0; global.get 1; global.get 1; local.get 0; i32.add;"
            "global.set 1",
        ),
        "free": ("i32 ->", "global.get 0; i32.const 1; i32.sub; global.set 0; local.get 0; drop"),
        "free2": ("i32 i32 ->", "local.get 0; call free; local.get 1; global.set 2"),
        "strlen": (
            "i32 -> i32",
            "i32",
            "local.get 0; local.set 1; block; loop; local.get 1; i32.load8_u; i32.eqz; br_if 1;"
            "local.get 1; i32.const 1; i32.add; local.set 1; br 0; end; end; local.get 1; local.get 0; i32.sub",
        ),
        "size": ("i32 i32 -> i32", "local.get 1"),
        "echo": ("i32 -> i32", "local.get 0"),
        "both": ("i32 i32 -> i32 i32", "local.get 0; local.get 1"),
        "fixed": ("-> i32", "i32.const 8"),
        "null": ("-> i32", "i32.const 0"),
        "lost": ("-> i32", "i32.const 65535"),
        "crash": ("i32 ->", "unreachable"),
        "put": (
            "i32 i32 i32 i32 i64 -> i64",
            "local.get 1; local.get 3; i32.add; i64.extend_i32_u; local.get 4; i64.add",
        ),
        "cabi_realloc": ("i32 i32 i32 i32 -> i32", "local.get 3; call malloc"),
        "record": (
            "i32 i32 -> i32",
            "i32.const 32; local.get 0; i32.store; i32.const 36; local.get 1; i32.store; i32.const 32",
        ),
        "cabi_post_record": ("i32 ->", "local.get 0; global.set 2"),
    },
    memory="1",
    globals_=[("mutable i32", "i32.const 0"), ("mutable i32", "i32.const 1024"), ("mutable i32", "i32.const 0")],
    data={8: "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode() + b"\0", 65535: b"x"},
    exports={"memory": "memory 0", "live": "global 0", "freed": "global 2"},
)


class Texts(Protocol):
    live: wasm.Global
    freed: wasm.Global

    def strlen(self, text: str, /) -> i32: ...
    def size(self, data: bytes) -> i32: ...
    @cg.function(symbol="strlen")
    def cstrlen(self, text: cstr | None, /) -> i32: ...
    @cg.function(free="free")
    def echo(self, text: str, /) -> str: ...
    @cg.function(free="free2")
    def both(self, text: str, /) -> bytes: ...
    def fixed(self) -> str: ...
    def null(self) -> str | None: ...
    @cg.function(symbol="null")
    def not_null(self) -> str: ...
    def lost(self) -> bytes: ...
    def crash(self, text: str, /) -> None: ...
    def put(self, key: str, value: bytes, extra: i64) -> u64: ...


class TestStrings:
    def test_arguments(self) -> None:
        exports = load(TEXTS, Texts).exports
        assert exports.strlen("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n") == 5 and exports.strlen("") == 0
        assert exports.size(data=b"a\0b") == 3 and exports.size(bytearray(5)) == 5
        assert exports.cstrlen("ab") == exports.cstrlen(b"ab") == 2
        assert exports.put("key", b"value", extra=-1) == 7
        assert exports.live.value == 0

    def test_results(self) -> None:
        exports = load(TEXTS, Texts).exports
        assert exports.fixed() == "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n" and exports.null() is None
        assert exports.echo("text") == "text" and exports.live.value == -1  # freed by both sides, as declared
        assert exports.both("abc") == b"abc" and exports.freed.value == 3

    def test_freed_after_a_trap(self) -> None:
        exports = load(TEXTS, Texts).exports
        with pytest.raises(wasm.Unreachable):
            exports.crash("text")
        assert exports.live.value == 0

    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            ("exports.strlen(5)", TypeError, r"strlen\(\) argument 1 must be str or bytes, not int"),
            ("exports.strlen(None)", TypeError, r"strlen\(\) argument 1 must be str or bytes, not None"),
            ("exports.strlen('a\\0')", ValueError, r"strlen\(\) argument 1 must not contain a NUL: embedded null byte"),
            ("exports.size('text')", TypeError, r"size\(\) argument 1 must be a bytes-like object, not str"),
            (
                "exports.put('a', b'', 1 << 63)",
                OverflowError,
                r"put\(\) argument 3 must be in -9223372036854775808\.\.",
            ),
            ("exports.put('a')", TypeError, r"put\(\) takes exactly 3 arguments \(1 given\)"),
            ("exports.not_null()", ValueError, r"not_null\(\) returned NULL; declare its result `\| None`"),
            ("exports.lost()", wasm.OutOfBounds, "out of bounds memory access: the string at 0xffff has no end"),
        ],
    )
    def test_refused(self, call: str, error: type[Exception], text: str) -> None:
        exports = load(TEXTS, Texts).exports
        with pytest.raises(error, match=text):
            eval(call, {"exports": exports})
        assert exports.live.value == 0

    def test_canonical_abi(self) -> None:
        class Canonical(Protocol):
            live: wasm.Global
            freed: wasm.Global

            def record(self, text: str, /) -> str: ...
            def size(self, text: str, /) -> i32: ...

        exports = load(TEXTS, Canonical, allocator="cabi_realloc").exports
        assert exports.record("text") == "text"
        assert exports.freed.value == 32  # cabi_post_record got what record returned
        assert exports.size("abc") == 3 and exports.live.value == 2  # what is passed belongs to the function

    def test_allocators_that_are_none(self) -> None:
        class Sized(Protocol):
            def add(self, text: str, /) -> i32: ...

        with pytest.raises(wasm.LinkError, match=r"add: a str or bytes needs the module's allocator, .*allocator=\("):
            load(NUMBERS, Sized)
        with pytest.raises(wasm.LinkError, match=r"incompatible export alloc: no function of that name is exported"):
            load(TEXTS, Texts, allocator=("alloc", "free"))
        with pytest.raises(
            wasm.LinkError, match=r"incompatible export put: it is .* its type must be \(i32\) -> \(i32\)"
        ):
            load(TEXTS, Texts, allocator=("put", "free"))
        with pytest.raises(TypeError, match=r"allocator= is the names of two exports"):
            load(TEXTS, Texts, allocator=5)

    def test_no_memory_left(self) -> None:
        data = module(
            {"malloc": ("i32 -> i32", "i32.const 0"), "free": ("i32 ->", ""), "size": ("i32 -> i32", "local.get 0")},
            memory="1",
        )

        class Sized(Protocol):
            def size(self, text: str, /) -> i32: ...

        with pytest.raises(MemoryError, match=r"size\(\): the module has no 4 bytes left for an argument"):
            load(data, Sized).exports.size("abc")


C_TEXT = """
static unsigned char heap[1 << 16];
static unsigned used;
int live;
int count_live(void) { return live; }
void *malloc(unsigned size) { void *at = heap + used; used += (size + 7) & ~7u; live++; return at; }
void free(void *at) { if (at) live--; }
char *upper(const char *text) {
    unsigned size = 0;
    while (text[size]) size++;
    char *out = malloc(size + 1);
    for (unsigned i = 0; i <= size; i++) out[i] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i];
    return out;
}
unsigned sum(const unsigned char *data, unsigned size) { unsigned s = 0; while (size--) s += *data++; return s; }
void fail(const char *text) { __builtin_trap(); }
"""


class FromC(Protocol):
    @cg.function(free="free")
    def upper(self, text: str, /) -> str: ...
    def sum(self, data: bytes, /) -> u32: ...
    def fail(self, text: str, /) -> None: ...
    def count_live(self) -> i32: ...


@pytest.mark.skipif(sys.platform == "win32", reason="Zig is a program of the machine that runs wine")
def test_strings_of_a_c_module(tmp_path: Path) -> None:
    zigs = sorted(Path(__file__).parents[2].glob(".cache/zig/lib/python3*/site-packages/ziglang/zig"))
    zig = shutil.which("zig") or (str(zigs[0]) if zigs else None)
    if zig is None:
        pytest.skip("needs Zig: python3 -m venv .cache/zig && .cache/zig/bin/pip install ziglang")
    source, built = tmp_path / "texts.c", tmp_path / "texts.wasm"
    source.write_text(C_TEXT)
    names = ("malloc", "free", "upper", "sum", "fail", "count_live")
    command = [zig, "cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib", "-fno-builtin", "-Wl,--no-entry"]
    command += [*[f"-Wl,--export={name}" for name in names], "-o", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    exports = load(built, FromC).exports
    assert exports.upper("stra\N{LATIN SMALL LETTER SHARP S}e") == "STRA\N{LATIN SMALL LETTER SHARP S}E"
    assert exports.sum(bytes(range(100))) == 4950
    with pytest.raises(wasm.Unreachable, match="unreachable\n  in fail"):
        exports.fail("text")
    assert exports.count_live() == 0


def test_modules_tell_what_they_are(mode: str) -> None:
    one = build(NUMBERS)
    assert one.name == "numbers" and one.engine == mode and repr(one) == f"<wasm module numbers, {mode}>"
    assert str(one.exports["add"]) == "(i32, i32) -> (i32)" and len(one.exports) == 13
    assert str(one.exports["memory"]) == "memory of 1 to 4 pages"
    assert ("producers", b"by hand") in one.custom_sections and one.imports == ()
    instance = one.instantiate()
    assert instance.module is one and instance.memories == (instance.memory,)
    assert repr(instance) == f"<wasm instance of numbers, {mode}>"
    data = module({}, imports=[("env", "f", "i32 ->"), ("env", "m", "memory 1")])
    assert [f"{a}.{b}: {c}" for a, b, c in build(data).imports] == [
        "env.f: (i32) -> ()",
        "env.m: memory of 1 and more pages",
    ]


@pytest.mark.parametrize(
    ("source", "options", "error", "text"),
    [
        (5, {}, TypeError, "a module is a path or bytes, not int"),
        ("/nonexistent.wasm", {}, FileNotFoundError, "nonexistent"),
        (NUMBERS, {"engine": "jit"}, ValueError, 'engine=\'jit\' is neither "compiled" nor "portable"'),
        (NUMBERS, {"bounds": "none"}, ValueError, 'bounds=\'none\' is neither "checked" nor "guarded"'),
        (NUMBERS, {"limits": 5}, TypeError, r"limits= takes wasm\.Limits\(\.\.\.\), not 5"),
        (b"", {}, wasm.BinaryError, r"\(at byte 0x0\)"),
    ],
)
def test_what_is_no_module(source: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        load(source, **options)


def test_instances_come_from_load() -> None:
    with pytest.raises(TypeError, match=r"instances come from wasm\.load\(\) or Module\.instantiate\(\)"):
        wasm.Instance()
    with pytest.raises(AttributeError, match="the module has no memory"):
        _ = load(module({})).memory
