"""Host functions, instances and how long they live, memories, limits."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Protocol

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "live"))
from assemble import IS_CPYTHON, SMALL_STACKS, build, collect, load, module
from children import run_child

import callgate as cg
from callgate import f64, i32, i64, u32, wasm
from callgate.errors import DeclarationError

pytestmark = pytest.mark.usefixtures("mode")
CALLS = module(
    {
        "run": ("i32 -> i32", "local.get 0; call inner"),
        "inner": ("i32 -> i32", "local.get 0; call host"),
        "divide": ("i32 i32 -> i32", "local.get 0; local.get 1; i32.div_s"),
        "for_ever": ("->", "loop; br 0; end"),
        "deeper": ("i32 -> i32", "local.get 0; i32.const 1; i32.add; call deeper"),
        "rounds": ("i32 ->", "loop; local.get 0; i32.const 1; i32.sub; local.set 0; local.get 0; br_if 0; end"),
        "grow": ("i32 -> i32", "local.get 0; memory.grow"),
        "grow_table": ("i32 -> i32", "ref.null funcref; local.get 0; table.grow 0"),
        "load": ("i32 -> i32", "local.get 0; i32.load 0"),
        "stop": ("->", "unreachable"),
        "indirect": ("i32 -> i32", "i32.const 5; local.get 0; call_indirect i32->i32 0"),
        "convert": ("f64 -> i32", "local.get 0; i32.trunc_f64_s"),
        "fill": ("i32 ->", "local.get 0; i32.const 0; i32.const 2; memory.fill"),
        "get": ("i32 -> funcref", "local.get 0; table.get 0"),
        "set": ("i32 funcref ->", "local.get 0; local.get 1; table.set 0"),
    },
    imports=[("env", "host", "i32 -> i32")],
    memory="1 8",
    tables=["funcref 4 20"],
    elements=["run", "stop"],
    exports={"memory": "memory 0", "table": "table 0"},
    name="calls",
)


def same(value: i32) -> i32:
    return value


def calls(host: Any = same, **options: Any) -> Any:
    return load(CALLS, imports={"env": {"host": host}}, **options)


class TestHostFunctions:
    def test_the_calling_instance(self) -> None:
        seen: list[Any] = []

        @wasm.host("env", "host")
        def host(caller: wasm.Instance[Any], value: u32) -> u32:
            seen.append(caller)
            return value

        module_ = build(CALLS)
        one, two = module_.instantiate(imports=[host]), module_.instantiate(imports=[host])
        assert one.exports.run(1) == 1 and two.exports.run(-1) == -1 and one.exports.run(2) == 2
        assert seen[0] is one and seen[1] is two and seen[2] is one
        assert host(one, 5) == 5
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            host(one)

    def test_types(self) -> None:
        seen: list[Any] = []

        @wasm.host("env", "all")
        def all_(a: u32, b: i64, c: f64, d: bool, e: object, f: bytes, g: wasm.Function | None) -> tuple[i32, f64]:
            seen.extend((a, b, c, d, e, f, g))
            return 7, 0.5

        signature = "i32 i64 f64 i32 externref v128 funcref -> i32 f64"
        gets = "; ".join(f"local.get {number}" for number in range(7))
        data = module({"go": (signature, f"{gets}; call all")}, imports=[("env", "all", signature)])
        exports = load(data, imports=[all_]).exports
        assert exports.go(-1, 2, 3.0, 1, "x", bytes(16), exports.go) == (7, 0.5)
        assert seen[:6] == [0xFFFFFFFF, 2, 3.0, True, "x", bytes(16)] and seen[3] is True
        assert seen[6].type.results == (0x7F, 0x7C)

    @pytest.mark.parametrize(
        ("result", "error", "text"),
        [
            ("x", TypeError, r"the result of host\(\) must be int, not str"),
            (None, TypeError, r"the result of host\(\) must be int, not None"),
            (1 << 40, OverflowError, r"the result of host\(\) must be in -2147483648\.\.2147483647"),
        ],
    )
    def test_wrong_results(self, result: Any, error: type[Exception], text: str) -> None:
        def host(value: i32) -> i32:
            return result  # type: ignore[no-any-return]

        with pytest.raises(error, match=text):
            calls(host).exports.run(1)

    @pytest.mark.parametrize(
        ("result", "error", "text"),
        [
            (5, TypeError, r"the result of pair\(\) must be a tuple of 2 values, not int"),
            ((1,), ValueError, r"the result of pair\(\) must be a tuple of 2 values, not of 1"),
            ((1, "x"), TypeError, r"item 1 of the result of pair\(\) must be float, not str"),
        ],
    )
    def test_wrong_tuples(self, result: Any, error: type[Exception], text: str) -> None:
        def pair() -> tuple[i32, f64]:
            return result  # type: ignore[no-any-return]

        data = module({"go": ("-> i32 f64", "call pair")}, imports=[("env", "pair", "-> i32 f64")])
        with pytest.raises(error, match=text):
            load(data, imports=[("env", "pair", pair)]).exports.go()

    @pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_exceptions_pass_through(self, kind: type[BaseException]) -> None:
        problem = kind("text")

        def host(value: i32) -> i32:
            raise problem

        exports = calls(host).exports
        with pytest.raises(kind) as caught:
            exports.run(1)
        assert caught.value is problem
        assert [(one.number, one.name) for one in problem.wasm_frames] == [(2, "inner"), (1, "run")]  # type: ignore[attr-defined]
        if sys.version_info >= (3, 11):
            assert problem.__notes__[0].startswith(
                "WebAssembly functions that it went through:\n  in inner (function 2 "
            )
        assert exports.divide(6, 3) == 2

    def test_nested_traps(self) -> None:
        @wasm.host("env", "host")
        def host(caller: wasm.Instance[Any], value: i32) -> i32:
            if not value:
                caller.exports.stop()
            return int(caller.exports.run(value - 1))

        with pytest.raises(wasm.Unreachable) as caught:
            calls(host).exports.run(1)
        assert [one.name for one in caught.value.frames] == ["stop", "inner", "run", "inner", "run"]
        assert str(caught.value).startswith("unreachable\n  in stop (function 10 at byte 0x")

    def test_handled_inside(self) -> None:
        @wasm.host("env", "host")
        def host(caller: wasm.Instance[Any], value: i32) -> i32:
            try:
                return int(caller.exports.divide(1, value))
            except wasm.DivisionByZero:
                return -7

        exports = calls(host).exports
        assert exports.run(0) == -7 and exports.run(1) == 1

    def test_c_functions(self, mode: str) -> None:
        libc = cg.load("c", "int abs(int j);")
        before = sys.getprofile()
        seen: list[str] = []
        exports = calls(libc.abs).exports
        run = exports.run
        run(0)  # from now on the instance knows the thread
        sys.setprofile(lambda frame, event, argument: seen.append(event))
        result = run(-5)
        sys.setprofile(before)
        assert result == 5
        if mode == "compiled":  # C is called without Python in between
            assert "call" not in seen
        ctypes_abs = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).abs
        ctypes_abs.argtypes, ctypes_abs.restype = [ctypes.c_int], ctypes.c_int
        assert calls(ctypes_abs).exports.run(-5) == 5

    @pytest.mark.skipif(sys.platform == "win32", reason="close() is for POSIX")
    def test_gates_that_judge_go_through_python(self) -> None:
        libc = cg.load("c")

        @libc.function(fails_if="minus_one")
        def close(fd: i32) -> i32: ...

        with pytest.raises(OSError, match="Bad file descriptor"):
            calls(close).exports.run(-1)

    def test_things_without_annotations(self) -> None:
        assert calls(abs).exports.run(-5) == 5 and calls(lambda value: value + 1).exports.run(1) == 2

    def test_all_that_does_not_link_is_listed(self) -> None:
        def one(value: f64) -> i32:
            return 0

        def two(value: int) -> i32:
            return 0

        wanted = ["one i32 -> i32", "two i32 -> i32", "three i32 -> i32", "four i32 -> i32", "five i32 -> i32"]
        wanted += ["m memory 2 3", "t table funcref 1", "g global i32", "h global mutable i32"]
        imports = [("env", *text.split(" ", 1)) for text in wanted]
        libm = cg.load("m", "double cos(double x); double modf(double x, double *whole);")
        given = {"one": one, "two": two, "four": libm.cos, "five": libm.modf, "m": wasm.Memory(1, 3), "t": 5}
        given |= {"g": wasm.Global("i64", 1), "h": wasm.Global("i32", 1), "unused": 5}
        with pytest.raises(wasm.LinkError) as caught:
            load(module({}, imports=imports), imports={"env": given})  # type: ignore[arg-type]
        problems = caught.value.problems
        assert str(caught.value) == "\n".join(problems)
        assert problems[0] == (
            "incompatible import type for env.one: a function of (i32) -> (i32) is needed, not of (f64) -> (i32)"
        )
        assert problems[1].startswith("incompatible import type for env.two: two() parameter 'value': int has no width")
        assert problems[2] == "unknown import env.three: (i32) -> (i32) is not among the imports"
        assert problems[3].endswith("a function of (i32) -> (i32) is needed, not of (f64) -> (f64)")
        assert problems[4].endswith("modf(double x, double *whole) has other types than numbers of 32 and 64 bits")
        assert problems[5] == (
            "incompatible import type for env.m: a memory of 2 to 3 pages is needed, not "
            "<wasm memory of 1 pages, 3 at most>"
        )
        assert problems[6].endswith("a table of funcref, 1 and more elements is needed, not 5")
        assert problems[7].endswith("a constant global of i32 is needed, not <wasm constant global of i64: 1>")
        assert problems[8].endswith("a mutable global of i32 is needed, not <wasm constant global of i32: 1>")

    @pytest.mark.skipif(
        sys.platform == "win32" or not IS_CPYTHON,
        reason="a long double is a double there, and unknown to PyPy's ctypes",
    )
    def test_c_types_that_webassembly_has_not(self) -> None:
        libm = cg.load("m", "long double cosl(long double x);")
        with pytest.raises(wasm.LinkError, match="has other types than numbers of 32 and 64 bits"):
            calls(libm.cosl)

    def test_missing_imports_say_what_is_near(self) -> None:
        importing = module({}, imports=[("env", "log", "i32 ->"), ("wasi_snapshot_preview1", "proc_exit", "i32 ->")])
        with pytest.raises(wasm.LinkError) as caught:
            load(importing, imports={"ENV": {"log": print}, "env": {"lag": print}})
        assert str(caught.value) == (
            "unknown import env.log: (i32) -> () is not among the imports; the nearest of them is ENV.log\n"
            "unknown import wasi_snapshot_preview1.proc_exit: (i32) -> () is not among the imports\n"
            "callgate provides no WASI: compile for wasm32-freestanding or wasm32-unknown-unknown, or import host "
            "functions of these names"
        )
        assert len(caught.value.problems) == 2 and caught.value.hint.startswith("callgate provides no WASI")
        assert repr(wasm.Module(importing).imports[0]) == "Import(module='env', name='log', type=<(i32) -> ()>)"

    @pytest.mark.parametrize("imports", [5, "env", [5], {"env": 5}, [("env", 5)]])
    def test_imports_that_are_none(self, imports: Any) -> None:
        with pytest.raises(TypeError, match="imports"):
            load(CALLS, imports=imports)

    def test_declarations(self) -> None:
        with pytest.raises(DeclarationError, match=r"f\(\) parameter 'x': int has no width"):

            @wasm.host("env", "f")
            def f(x: int) -> None: ...

        with pytest.raises(TypeError, match="host\\(\\) takes the names of a module and of its import, not 5"):
            wasm.host("env", 5)  # type: ignore[arg-type]

    def test_exports_of_other_instances(self) -> None:
        one = calls(abs)
        two = load(CALLS, imports=[("env", "host", one.exports.run)])
        three = load(CALLS, imports={"env": {"host": two.exports["run"]}})
        del one, two
        collect()
        assert three.exports.run(-3) == 3
        data = module(
            {}, imports=[("a", "run", "i32 -> i32"), ("a", "memory", "memory 1")], exports={"memory": "memory 0"}
        )
        again = load(data, imports=[("a", three)])
        assert again.memory is three.memory


class TestInstances:
    def test_close(self, mode: str) -> None:
        with calls() as instance:
            run = instance.exports.run
            assert run(1) == 1
        instance.close()
        for call in (lambda: run(1), lambda: instance.exports.get(0), lambda: instance.exports.divide(1, 1)):
            with pytest.raises(wasm.ClosedError, match="the instance is closed"):
                call()
        assert repr(instance) == f"<wasm instance of calls, {mode}, closed>" and instance.memory.read(0, 1) == b"\0"

    def test_not_closed_while_it_runs(self) -> None:
        @wasm.host("env", "host")
        def host(caller: wasm.Instance[Any], value: i32) -> i32:
            caller.close()
            return value

        with pytest.raises(RuntimeError, match="the instance is running; close it when its calls have returned"):
            calls(host).exports.run(1)

    def test_threads(self) -> None:
        inside, go_on = threading.Event(), threading.Event()

        def host(value: i32) -> i32:
            inside.set()
            assert go_on.wait(60)
            return value

        instance = calls(host)
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(instance.exports.run(5)))
        thread.start()
        assert inside.wait(60)
        with pytest.raises(RuntimeError, match="the instance is in use by another thread; call it from one thread at"):
            instance.exports.divide(1, 1)
        go_on.set()
        thread.join()
        assert results == [5] and instance.exports.divide(4, 2) == 2

    def test_gates_outlive_their_instance(self) -> None:
        instance = calls()
        run, found = instance.exports.run, weakref.ref(instance)
        del instance
        if not IS_CPYTHON:
            collect()
        assert found() is None and run(5) == 5

    @pytest.mark.skipif(not IS_CPYTHON, reason="this interpreter frees nothing at once")
    def test_freed_at_once(self) -> None:
        def host(value: i32) -> i32:
            return value

        instance = calls(host)
        instance.exports.run(1)
        found, function = weakref.ref(instance._core), weakref.ref(host)
        del instance, host
        assert found() is None and function() is None

    @pytest.mark.parametrize("signature", ["i32 -> i32", "i32 externref -> i32"])
    def test_cycles_are_collected(self, signature: str) -> None:
        data = module(
            {"go": ("->", "")}, imports=[("env", "host", signature)], tables=["funcref 2"], exports={"t": "table 0"}
        )

        def build() -> weakref.ref[Any]:
            kept: list[Any] = []

            def host(*arguments):  # type: ignore[no-untyped-def]
                return len(kept)

            instance = load(data, imports=[("env", "host", host)])
            instance.exports.t[0] = instance.exports.go
            kept.append(instance)
            return weakref.ref(instance._core)

        found = build()
        collect()
        assert found() is None

    def test_references_keep_their_instance(self) -> None:
        one, two = calls(abs), calls()
        two.exports.set(3, one.exports.run)
        two.exports.table[2] = one.exports.run
        variable = wasm.Global("funcref", one.exports.run, mutable=True)
        table = one.exports.table
        found = weakref.ref(one._core)
        del one
        collect()
        assert two.exports.indirect(3) == two.exports.indirect(2) == variable.value(-5) == table[0](-5) == 5
        assert found() is not None
        variable.value = None
        del two, table, variable
        collect()
        assert found() is None

    def test_dropped_while_it_runs(self) -> None:
        kept: list[Any] = []

        def host(value: i32) -> i32:
            kept.clear()
            collect()
            return value

        kept.append(calls(host))
        assert kept[0].exports.run(5) == 5

    def test_called_by_a_finalizer_of_its_cycle(self) -> None:
        seen: list[object] = []

        class Last:
            instance: Any

            def __del__(self) -> None:
                try:
                    seen.append(self.instance.exports.run(5))
                except Exception as error:
                    seen.append(error)

        def build() -> None:
            last = Last()

            def host(value: i32) -> i32:
                return value if last else 0

            last.instance = calls(host)

        build()
        collect()
        (outcome,) = seen
        assert outcome == 5 or (isinstance(outcome, wasm.ClosedError) and "is being taken apart" in str(outcome))

    @pytest.mark.skipif(not IS_CPYTHON, reason="this interpreter counts no references")
    def test_no_references_leak(self) -> None:
        thing, instance = ["x"], calls(lambda value: value)
        before = sys.getrefcount(thing)
        for _ in range(100):
            instance.exports.run(1)
            with pytest.raises(TypeError):
                instance.exports.run(thing)
        assert sys.getrefcount(thing) == before

    def test_the_interpreter_ends_under_a_trace_function(self, mode: str) -> None:
        if mode == "portable":
            pytest.skip("nothing is done there when a thread ends")
        _, errors = run_child(
            f"""
            import sys
            sys.path[:0] = [{str(Path(__file__).parent)!r}]
            import assemble
            from test_instances import calls
            assemble.MODE = {mode!r}
            instance = calls(abs)
            instance.exports.run(1)
            sys.settrace(lambda *given: None)
            instance.exports.run("x")
            """,
            status=1,
        )
        assert errors.rstrip().endswith("TypeError: run() argument 1 must be int, not str")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_fork(self, mode: str) -> None:
        run_child(
            f"""
            import os, sys
            sys.path[:0] = [{str(Path(__file__).parent)!r}]
            import assemble
            from test_instances import calls
            assemble.MODE = {mode!r}
            instance = calls(abs)
            instance.exports.run(1)
            child = os.fork()
            if not child:
                instance.memory.write(0, b"child")
                os._exit(0 if instance.exports.run(-7) == 7 and instance.exports.load(0) else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert instance.memory.read(0, 5) == bytes(5)
            """
        )


class Point(cg.Struct):
    x: i32
    y: f64


class TestMemory:
    def test_reading_and_writing(self) -> None:
        memory = wasm.Memory(1, 4)
        memory.write_int(0, -2)
        memory.write_int(8, (1 << 64) - 1, 8)
        memory.write_float(16, 0.5)
        memory.write_float(24, 0.25, 4)
        memory.write_string(32, "text")
        memory.write_struct(48, Point(1, 2.5))
        assert (memory.read_int(0), memory.read_int(0, signed=True), memory.read_int(8, 8)) == (
            0xFFFFFFFE,
            -2,
            (1 << 64) - 1,
        )
        assert (memory.read_float(16), memory.read_float(24, 4), memory.read_string(32)) == (0.5, 0.25, b"text")
        with pytest.raises(wasm.OutOfBounds) as problem:
            memory.read_string(32, 4)
        assert str(problem.value) == (
            "out of bounds memory access: the string at 0x20 has no end in 4 bytes; read(address, size) needs none"
        )
        point = memory.read_struct(48, Point)
        assert (point.x, point.y) == (1, 2.5)
        shared = Point.from_buffer(memory.view(48))
        shared.x = 9
        assert memory.read_int(48) == 9

    def test_views_stay_valid(self) -> None:
        instance = calls()
        memory = instance.memory
        view = memory.view(65528)
        assert instance.exports.grow(1) == 1 and memory.pages == 2
        memory.write(65530, b"xyz")
        assert bytes(view[2:5]) == b"xyz" and len(view) == 8
        view[0] = 5
        assert memory.read(65528, 1) == b"\5"
        del memory, instance
        collect()
        assert bytes(view[2:5]) == b"xyz"

    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            ("read(65535, 2)", wasm.OutOfBounds, r"access: 2 bytes at 0xffff of a memory of 65536"),
            ("read(-1, 1)", wasm.OutOfBounds, r"1 bytes at -0x1 of"),
            ("read(0, -1)", ValueError, "a size is not negative: -1"),
            ("read('x', 1)", TypeError, "'str' object cannot be interpreted as an integer"),
            ("write(65536, b'x')", wasm.OutOfBounds, "1 bytes at 0x10000"),
            ("write(0, 'text')", TypeError, "a bytes-like object is required, not 'str'"),
            ("view(65537)", wasm.OutOfBounds, "0 bytes at 0x10001"),
            ("read_int(0, 9)", ValueError, "a number has 1 to 8 bytes, not 9"),
            ("read_float(0, 5)", ValueError, "a number has 4 to 8 bytes, not 5"),
            ("write_int(0, 1 << 32)", OverflowError, "4294967296 does not fit 4 bytes"),
            ("write_float(0, 'x')", TypeError, "a float is needed, not str"),
            ("write_string(0, 'a\\0')", ValueError, "embedded null byte"),
            ("read_struct(0, int)", TypeError, "a Struct or a ctypes structure is needed, not <class 'int'>"),
            ("read_struct(0, Host)", TypeError, r"Host\.inner\.p is a pointer of the host; .* pointers are u32"),
            ("grow('x')", TypeError, "'str' object cannot be interpreted as an integer"),
        ],
    )
    def test_refused(self, call: str, error: type[Exception], text: str) -> None:
        class Inner(ctypes.Structure):
            _fields_ = (("p", ctypes.c_void_p),)

        class Host(ctypes.Structure):
            _fields_ = (("n", ctypes.c_int), ("inner", Inner))

        with pytest.raises(error, match=text):
            eval(f"memory.{call}", {"memory": wasm.Memory(1), "Host": Host})

    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            ("Memory(2, 1)", ValueError, "a memory has from 0 to 65536 pages, not 2 to 1"),
            ("Table('i32', 1)", ValueError, "a table has elements of funcref or externref, not 'i32'"),
            ("Table('funcref', 2, 1)", ValueError, "a table has from 0 to 4294967295 elements, not 2 to 1"),
            ("Table('funcref', 1)[1]", wasm.TableOutOfBounds, "out of bounds table access: element 1 of 1"),
            ("Table('funcref', 1).__setitem__(0, 5)", TypeError, "an element of a table of funcref is an exported"),
            ("Global('int', 1)", ValueError, "a global has one of the types i32, i64, f32, f64, v128"),
            ("Global('i32', 'x')", TypeError, "a global of i32 must be int, not str"),
            ("Global('i32', 1 << 32)", OverflowError, r"a global of i32 must be in -2147483648\.\.4294967295"),
            ("Global('f32', 1e300)", OverflowError, "a global of f32 must be in the range of f32, not 1e"),
            ("setattr(Global('i32', 1), 'value', 2)", TypeError, "a constant global of i32 cannot be set"),
            ("Limits(fuel='x')", TypeError, r"Limits\(fuel=\) must be an int or None, not str"),
            ("Limits(memory_bytes=-1)", ValueError, r"Limits\(memory_bytes=\) must not be negative: -1"),
            ("Limits(timeout_s='x')", TypeError, r"Limits\(timeout_s=\) must be a number of seconds or None, not str"),
            ("Limits(timeout_s=-1)", ValueError, r"Limits\(timeout_s=\) must not be negative: -1"),
        ],
    )
    def test_things_that_cannot_be(self, call: str, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            eval(call, {**vars(wasm), "setattr": setattr})


class TestTraps:
    @pytest.mark.parametrize(
        ("call", "kind", "text"),
        [
            ("divide(1, 0)", wasm.DivisionByZero, "integer divide by zero"),
            ("divide(-(1 << 31), -1)", wasm.IntegerOverflow, "integer overflow"),
            ("convert(1e300)", wasm.IntegerOverflow, "integer overflow"),
            ("convert(float('nan'))", wasm.InvalidConversion, "invalid conversion to integer"),
            ("load(65533)", wasm.OutOfBounds, "out of bounds memory access"),
            ("fill(65535)", wasm.OutOfBounds, "out of bounds memory access"),
            ("stop()", wasm.Unreachable, "unreachable"),
            ("indirect(1)", wasm.IndirectCallMismatch, "indirect call type mismatch"),
            ("indirect(2)", wasm.UninitializedElement, "uninitialized element 2"),
            ("indirect(9)", wasm.UndefinedElement, "undefined element"),
            ("get(9)", wasm.TableOutOfBounds, "out of bounds table access"),
            ("deeper(0)", wasm.StackExhausted, "call stack exhausted"),
        ],
    )
    def test_family(self, call: str, kind: type[wasm.Trap], text: str) -> None:
        exports = calls().exports
        with pytest.raises(kind) as caught:
            eval(f"exports.{call}", {"exports": exports})
        trap, name = caught.value, call.partition("(")[0]
        assert isinstance(trap, wasm.Trap) and str(trap).startswith(f"{text}\n  in {name} (function ")
        assert trap.frames[0].name == name and isinstance(trap.frames[0].offset, int)
        assert exports.run(1) == 1


class TestLimits:
    def test_fuel_is_deterministic(self) -> None:
        left = []
        for _ in range(3):
            instance = calls(limits=wasm.Limits(fuel=10_000))
            instance.exports.rounds(1000)
            left.append(instance.fuel_left)
            with pytest.raises(wasm.OutOfFuel, match="all fuel is used up\n  in rounds") as caught:
                instance.exports.rounds(100_000)
            assert instance.fuel_left == 0 and caught.value.frames
            with pytest.raises(wasm.OutOfFuel):
                instance.exports.rounds(10)
            instance.fuel_left = 50
            assert instance.exports.divide(4, 2) == 2
        assert len(set(left)) == 1 and left[0] is not None and 8000 < left[0] < 10_000
        assert calls().fuel_left is None
        with pytest.raises(ValueError, match="the instance has no limit of fuel"):
            calls().fuel_left = 5
        with pytest.raises(TypeError, match=r"Limits\(fuel=\) must be an int or None, not str"):
            instance.fuel_left = "x"

    def test_timeout(self) -> None:
        exports = calls(limits=wasm.Limits(timeout_s=0.05)).exports
        for _ in range(2):
            with pytest.raises(wasm.TimedOut, match="the time limit is over\n  in for_ever") as caught:
                exports.for_ever()
            assert isinstance(caught.value, TimeoutError)
        assert exports.run(1) == 1

    def test_time_begins_when_another_instance_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        inner = load(
            module(
                {
                    "slow": (
                        "i32 -> i32",
                        "loop; local.get 0; i32.const 1; i32.sub; local.tee 0; br_if 0; end; i32.const 7",
                    )
                }
            ),
            limits=wasm.Limits(timeout_s=5),
        )
        exports = calls(inner.exports.slow).exports
        for _ in range(3):
            assert exports.run(300_000) == 7
            clock[0] += 10

    def test_other_threads_run(self) -> None:
        rounds = 0
        done = threading.Event()

        def count() -> None:
            nonlocal rounds
            while not done.is_set():
                rounds += 1

        thread = threading.Thread(target=count)
        exports = calls(limits=wasm.Limits(timeout_s=0.2)).exports
        thread.start()
        before = rounds
        with pytest.raises(wasm.TimedOut):
            exports.for_ever()
        done.set()
        thread.join()
        assert rounds > before + 100

    def test_memory_and_tables(self) -> None:
        instance = calls(limits=wasm.Limits(memory_bytes=3 << 16, table_elements=6))
        assert instance.exports.grow(3) == -1 and instance.exports.grow(2) == 1 and instance.memory.grow(1) == -1
        assert instance.exports.grow_table(3) == -1 and instance.exports.grow_table(2) == 4
        with pytest.raises(MemoryError, match=r"asks for 65536 bytes of memory, Limits\.memory_bytes is 1"):
            calls(limits=wasm.Limits(memory_bytes=1))
        with pytest.raises(MemoryError, match=r"a table of 4 elements, 0 at most \(Limits.table_elements\)"):
            calls(limits=wasm.Limits(table_elements=0))

    def test_stack_bytes(self) -> None:
        with pytest.raises(wasm.StackExhausted) as few:
            calls(limits=wasm.Limits(stack_bytes=10_000)).exports.deeper(0)
        with pytest.raises(wasm.StackExhausted) as more:
            calls(limits=wasm.Limits(stack_bytes=40_000)).exports.deeper(0)
        assert 2 * len(few.value.frames) < len(more.value.frames)

    @pytest.mark.skipif(not IS_CPYTHON, reason=SMALL_STACKS)
    def test_runaway_recursion_in_small_threads(self, mode: str) -> None:
        if mode == "portable" and sys.version_info < (3, 11):
            pytest.skip("before CPython 3.11 any recursive Python function overflows the stack of a small thread")
        sizes = [256 << 10, 16 << 20]
        if mode == "compiled":  # Python's own compiler wants more
            sizes.append(64 << 10)
        run_child(
            f"""
            import sys, threading
            sys.path[:0] = [{str(Path(__file__).parent)!r}]
            import assemble
            from test_instances import calls, wasm
            assemble.MODE = {mode!r}
            seen = []
            def recurse():
                try:
                    calls().exports.deeper(0)
                except wasm.StackExhausted as trap:
                    seen.append(len(trap.frames) > 10)
            recurse()
            for size in {sizes}:
                threading.stack_size(size)
                thread = threading.Thread(target=recurse)
                thread.start()
                thread.join()
            assert seen == [True] * {len(sizes) + 1}, seen
            """
        )

    def test_deep_reentrance(self) -> None:
        @wasm.host("env", "host")
        def host(caller: wasm.Instance[Any], value: i32) -> i32:
            return int(caller.exports.run(value - 1)) if value else 0

        exports = calls(host).exports
        assert exports.run(100) == 0
        with pytest.raises(RecursionError):
            exports.run(100_000)
        assert exports.run(3) == 0

    @pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is for POSIX")
    def test_control_c(self, mode: str) -> None:
        output, _ = run_child(
            f"""
            import os, signal, sys, threading, time
            sys.path[:0] = [{str(Path(__file__).parent)!r}]
            import assemble
            from test_instances import calls
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits none
            assemble.MODE = {mode!r}
            instance = calls()
            exports = instance.exports
            main = threading.get_ident()
            def is_inside():
                if {mode!r} == "compiled":
                    return instance._core.is_running
                return "for_ever" in sys._current_frames()[main].f_code.co_filename
            def interrupt():
                while not is_inside():
                    time.sleep(0.01)
                os.kill(os.getpid(), {int(signal.SIGINT)})
            threading.Thread(target=interrupt).start()
            try:
                exports.for_ever()
            except KeyboardInterrupt as problem:
                print(problem.wasm_frames[0].name, exports.divide(4, 2))
            """
        )
        assert output.split() == ["for_ever", "2"]


class Plugin(Protocol):
    def run(self, x: i32, /) -> i32: ...


def test_the_caller_is_typed() -> None:
    @wasm.host("env", "host")
    def host(caller: wasm.Instance[Plugin], value: i32) -> i32:
        return caller.exports.run(value - 1) if value else 42

    with load(CALLS, Plugin, imports=[host]) as plugin:
        assert plugin.exports.run(3) == 42
