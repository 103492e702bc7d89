"""What lives how long: gates, their code, their definitions, their libraries."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from children import WAITING, run_child
from here import classes_are_freed

import callgate as cg
from callgate import cstr, f64, i32, i64
from callgate.runtime.code_memory import ARENA_BYTES, MEMORY

if not os.path.exists("/proc/self/maps"):
    pytest.skip("POSIX only: /proc tells what is mapped", allow_module_level=True)
pytestmark = pytest.mark.usefixtures("few_to_collect")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROUNDS = {"native": 100_000, "ctypes": 3_000}
KINDS = (cg.i8, cg.u16, i32, i64, f64, cg.f32, cstr, cg.bool_)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def mappings(word: str) -> list[str]:
    with open("/proc/self/maps", encoding="ascii") as file:
        return [line for line in file if word in line]


def declared(name: str, kinds: tuple[Any, ...], result: Any) -> Callable[..., Any]:
    """A function to declare, with a positional parameter of each kind."""
    names = [f"x{number}" for number in range(len(kinds))]
    scope: dict[str, Any] = {}
    exec(f"def {name}({', '.join(names)}{', /' if names else ''}): ...", scope)
    function: Callable[..., Any] = scope[name]
    function.__annotations__ = dict(zip([*names, "return"], [*kinds, result], strict=True))
    return function


def shapes(count: int) -> Iterator[tuple[Any, ...]]:
    """Parameter lists that all need machine code of their own."""
    lists = itertools.chain.from_iterable(itertools.product(KINDS, repeat=length) for length in itertools.count(1))
    return itertools.islice(lists, count)


def collect() -> None:
    """What the ctypes engine makes for a gate includes a class, and classes are cycles."""
    for _ in range(3):
        gc.collect()


@pytest.fixture
def copied(targets: str, tmp_path: Path) -> str:
    """The path of a copy of the targets that nothing else has loaded."""
    return str(shutil.copy(targets, tmp_path / f"copied-{os.urandom(4).hex()}.so"))


class TestGates:
    def test_a_dropped_gate_is_gone_at_once(self, bound: Callable[..., Any]) -> None:
        gc.disable()
        try:
            function = bound().function(declared("id_i32", (i32,), i32))
            record = weakref.ref(function.__self__)
            if cg.gate(function).engine == "native":
                itself, code = weakref.ref(function), weakref.ref(function.__self__._shape)
            else:
                itself = code = weakref.ref(function.__func__)
            assert function(5) == 5
            del function
            assert (record(), itself(), code()) == (None, None, None)
        finally:
            gc.enable()

    def test_a_dropped_gate_frees_its_code(self, bound: Callable[..., Any], engine: str) -> None:
        if engine == "ctypes":
            pytest.skip("the ctypes engine has no machine code")
        bound().function(declared("id_i32", (i32,), i32))  # what all gates share is there then
        collect()  # or what other tests left goes meanwhile
        before = MEMORY.used_bytes()
        kinds = (cg.u16,) * 11
        function = bound().function(declared("id_i32", kinds, i32))
        other = bound().function(declared("id_i16", kinds, i32))
        size = MEMORY.used_bytes() - before
        assert size >= cg.gate(function).code_bytes > 0
        assert cg.gate(function).code_address == cg.gate(other).code_address  # one shape
        del function
        assert MEMORY.used_bytes() - before == size
        del other
        assert MEMORY.used_bytes() == before

    @classes_are_freed
    @pytest.mark.parametrize("kinds", [(i32,), (cstr, f64)])
    def test_many_gates_of_one_shape(self, bound: Callable[..., Any], engine: str, kinds: tuple[Any, ...]) -> None:
        library = bound()
        declaration = declared("id_i32", kinds, i32)

        def make_and_drop(count: int) -> None:
            for _ in range(count):
                library.function(declaration)
            collect()

        rounds = ROUNDS[engine] // 2
        make_and_drop(1000)
        used, resident, blocks = MEMORY.used_bytes(), resident_bytes(), len(gc.get_objects())
        make_and_drop(rounds)
        assert MEMORY.used_bytes() == used
        assert len(gc.get_objects()) - blocks < 100
        assert resident_bytes() - resident < 4 << 20

    def test_many_gates_of_many_shapes(self, bound: Callable[..., Any], engine: str) -> None:
        library = bound()
        declarations = [declared("id_i32", kinds, i32) for kinds in shapes(300)]

        def make_and_drop() -> None:
            made = [library.function(declaration) for declaration in declarations]
            assert len({cg.gate(function).code_address for function in made}) == (300 if engine == "native" else 1)
            del made
            collect()

        make_and_drop()
        used, resident = MEMORY.used_bytes(), resident_bytes()
        for _ in range(4):
            make_and_drop()
            assert MEMORY.used_bytes() == used
        assert resident_bytes() - resident < 4 << 20

    def test_many_gates_alive_at_once(self, bound: Callable[..., Any], engine: str) -> None:
        library = bound()
        declaration = declared("id_i32", (i32,), i32)
        used = MEMORY.used_bytes()
        alive = [library.function(declaration) for _ in range(ROUNDS[engine] // 5)]
        assert [function(number) for number, function in enumerate(alive)] == list(range(len(alive)))
        del alive[::2]
        alive += [library.function(declaration) for _ in range(1000)]
        assert {function(-7) for function in alive} == {-7}
        alive.clear()
        library.__dict__.clear()
        assert MEMORY.used_bytes() == used

    def test_empty_arenas_are_unmapped(self, bound: Callable[..., Any], engine: str) -> None:
        if engine == "ctypes":
            pytest.skip("the ctypes engine has no machine code")
        library = bound()

        def arenas() -> int:
            return len(mappings("memfd:callgate"))

        before = arenas()
        made = [library.function(declared("id_i32", kinds, i32)) for kinds in shapes(600)]
        code_bytes = sum(cg.gate(function).code_bytes for function in made)
        assert arenas() - before + 1 >= code_bytes // ARENA_BYTES > 1  # the first arena may have had room
        del made
        library.__dict__.clear()
        library.function(declared("id_i32", (f64, f64, f64, i32, f64), i32))  # the next publication cleans up
        assert arenas() <= before + 1

    def test_a_failed_binding_leaves_nothing(self, bound: Callable[..., Any]) -> None:
        library = bound()
        used = MEMORY.used_bytes()
        for _ in range(10):
            with pytest.raises(cg.SymbolNotFoundError):
                library.function(declared("no_such_function", (f64,) * 9, i32))
            with pytest.raises(cg.DeclarationError):
                library.function(fails_if="negative")(declared("id_f64", (f64,) * 9, f64))
        assert MEMORY.used_bytes() == used

    def test_record_outlives_its_function(self, bound: Callable[..., Any]) -> None:
        record = cg.gate(bound().function(declared("id_i32", (i32,), i32)))
        assert record.name == "id_i32"
        assert "id_i32" in record.explain()
        assert (record.code_bytes > 0) == (record.engine == "native")

    def test_what_a_function_tells_of_itself_lives_with_it(self, bound: Callable[..., Any]) -> None:
        function = bound().function(declared("id_i32", (i32,), i32))
        name, doc, module = function.__name__, function.__doc__, function.__module__
        assert (function.__name__, function.__module__) == ("id_i32", "callgate")
        del function
        collect()
        assert (name, module) == ("id_i32", "callgate")
        assert "id_i32" in doc


class TestLibraries:
    def test_closed_with_its_last_gate(self, copied: str, engine: str) -> None:
        library = cg.load(copied, engine=engine)
        first = library.function(declared("id_i32", (i32,), i32))
        second = library.function(declared("id_f64", (f64,), f64))
        shared = weakref.ref(cg.gate(first).library)
        assert mappings(copied)
        del library
        collect()
        assert (first(3), second(2.5)) == (3, 2.5)
        del first
        assert second(0.5) == 0.5
        assert shared() is not None
        assert mappings(copied)
        del second
        collect()
        assert shared() is None
        assert not mappings(copied)

    def test_closed_without_gates(self, copied: str) -> None:
        library = cg.load(copied)
        assert "id_i32" in library
        del library
        assert not mappings(copied)

    def test_pending_declarations_keep_it(self, copied: str, engine: str) -> None:
        library = cg.load(copied, "int id_int(int x); double id_f64(double x);", engine=engine)
        assert library.id_int(4) == 4
        assert mappings(copied)
        function = library.id_f64
        del library
        collect()
        assert function(1.5) == 1.5
        del function
        collect()
        assert not mappings(copied)

    def test_each_load_closes_its_own(self, copied: str, engine: str) -> None:
        first, second = cg.load(copied, engine=engine), cg.load(copied, engine=engine)
        function = second.function(declared("id_i32", (i32,), i32))
        del first
        collect()
        assert function(9) == 9
        del second, function
        collect()
        assert not mappings(copied)

    def test_many_loads(self, copied: str, engine: str) -> None:
        for number in range(300):
            library = cg.load(copied, engine=engine)
            assert library.function(declared("id_i32", (i32,), i32))(number) == number
        del library
        collect()
        assert not mappings(copied)

    def test_a_plain_address_needs_no_library(self, engine: str, targets: str) -> None:
        address = ctypes.cast(ctypes.CDLL(targets).id_i32, ctypes.c_void_p).value
        function = cg.function(at=address, engine=engine)(declared("id_i32", (i32,), i32))
        assert function(-3) == -3
        assert cg.gate(function).library is None

    @classes_are_freed
    def test_gate_from_keeps_the_ctypes_function(self, copied: str, engine: str) -> None:
        foreign = ctypes.CDLL(copied).id_i32
        foreign.argtypes, foreign.restype = [ctypes.c_int32], ctypes.c_int32
        alive = weakref.ref(foreign)
        function = cg.gate_from(foreign, engine=engine)
        del foreign
        assert alive() is not None
        assert function(12) == 12
        del function
        collect()
        assert alive() is None


class TestCycles:
    """A gate in a cycle stays whole until the last finalizer of the cycle has run."""

    PREAMBLE = """
        import gc, shutil, sys, weakref
        import callgate as cg
        from callgate import i32, f64
        from callgate.target import IS_FREE_THREADED
        targets, engine = sys.argv[1:]
        gc.disable()

        def wanted(x: i32) -> i32: ...
        def maps(): return targets in open("/proc/self/maps").read()
    """

    def run(self, engine: str, copied: str, program: str) -> None:
        from textwrap import dedent

        out, _ = run_child(dedent(self.PREAMBLE) + dedent(program), copied, engine, PYTHONMALLOC="debug")
        assert out.split() == ["done"]

    def test_finalizers_may_call(self, engine: str, copied: str) -> None:
        program = """
            told = []
            class Owner:
                def __init__(self, library):
                    self.call = library.function(symbol="id_i32")(wanted)
                    self.me = self
                def __del__(self):
                    told.append(self.call(41))
            for _ in range(20):
                Owner(cg.load(targets, engine=engine))
                gc.collect()
            for _ in range(20):
                library = cg.load(targets, engine=engine)
                library.me = library
                library.owner = Owner(library)
                del library
                gc.collect()
            assert told == [41] * 40, told
            gc.collect()
            assert not maps()
            print("done")
        """
        self.run(engine, copied, program)

    def test_finalizers_may_keep(self, engine: str, copied: str) -> None:
        program = """
            kept = []
            class Owner:
                def __init__(self):
                    self.call = cg.load(targets, engine=engine).function(symbol="id_i32")(wanted)
                    self.me = self
                def __del__(self):
                    kept.append(self)
            Owner()
            gc.collect()
            others = [cg.load("m", engine=engine) for _ in range(10)]
            for other in others:
                @other.function
                def cos(x: f64, y: i32) -> f64: ...
                @other.function
                def sin(x: i32) -> f64: ...
            assert kept[0].call(-5) == -5
            assert maps()
            record = weakref.ref(kept[0].call.__self__)
            kept.clear()
            gc.collect()
            assert record() is None
            assert not maps()
            print("done")
        """
        self.run(engine, copied, program)

    def test_cycles_through_options_are_collected(self, engine: str, copied: str) -> None:
        program = """
            def make():
                library = cg.load(targets, engine=engine)
                def has_failed(result):
                    return result < library.least
                call = library.function(symbol="id_i32", fails_if=has_failed)(wanted)
                library.least = 3
                assert call(7) == 7
                try:
                    call(2)
                except OSError:
                    pass
                else:
                    raise AssertionError
                return weakref.ref(call.__self__)
            made = [make() for _ in range(50)]
            gc.collect()
            gc.collect()
            assert not any(record() for record in made)
            assert not maps()
            print("done")
        """
        self.run(engine, copied, program)

    def test_finalizers_may_bind(self, engine: str, copied: str) -> None:
        """The collector may run in the middle of a publication, and finalizers bind functions there."""
        program = """
            library = cg.load(targets, "int id_int(int x); double id_f64(double x);", engine=engine)
            gc.enable()
            gc.set_threshold(1)
            told, number = [], 0
            class Owner:
                def __init__(self):
                    self.me = self
                def __del__(self):
                    global number
                    number += 1
                    fresh = cg.load(targets, engine=engine)
                    names = ", ".join(f"x{index}: {'f64' if number >> index & 1 else 'i32'}" for index in range(10))
                    scope = dict(globals())
                    exec(f"def id_int({names}) -> i32: ...", scope)
                    told.append(fresh.function(symbol="call_count")(scope["id_int"]))
            for index in range(200):
                Owner()
                if IS_FREE_THREADED:  # the collector comes when a quarter of all is new, whatever the threshold
                    gc.collect()
                scope = dict(globals())
                exec(f"def id_int({', '.join(f'x{n}: i32' for n in range(index % 40))}) -> i32: ...", scope)
                library.function(symbol="call_count")(scope["id_int"])
            gc.set_threshold(700)
            assert len(told) > 100
            given = [1] * 10
            assert {call(*[1.0 if f"x{n}" in () else 1 for n in range(10)]) for call in told} == {0}
            print("done")
        """
        self.run(engine, copied, program)

    def test_finalizers_at_exit_may_call(self, engine: str, copied: str) -> None:
        program = """
            import builtins
            def floating(x: f64) -> f64: ...
            class Owner:
                def __init__(self):
                    self.call = cg.load(targets, engine=engine).function(symbol="id_f64")(floating)
                def __del__(self, print=print, TypeError=TypeError):
                    assert self.call(0.5) == 0.5
                    try:
                        self.call("x")
                    except TypeError:
                        print("done", flush=True)
            owner = Owner()
        """
        self.run(engine, copied, program)

    def test_the_last_finalizers_may_call(self, engine: str, copied: str) -> None:
        """When `builtins` goes, modules are empty: what is left of callgate is machine code."""
        if engine == "ctypes":
            pytest.skip("the ctypes engine is Python, whose modules are gone by then")
        program = """
            import builtins
            class Owner:
                def __init__(self):
                    self.call = cg.load(targets, engine=engine).function(symbol="id_i32")(wanted)
                    self.me = self
                def __del__(self, print=print):
                    if self.call(6) == 6 and self.call(-300) == -300:
                        print("done", flush=True)
            builtins.owner = Owner()
        """
        self.run(engine, copied, program)


class TestDroppedWhileItRuns:
    PREAMBLE = """
        import gc, sys, threading, time
        import callgate as cg
        from callgate import i32, f64, u8, usize, Readable
        targets, engine = sys.argv[1:]
        library = cg.load(targets, engine=engine)

        def disturb():
            "Publish other code where that of a dropped gate was."
            gc.collect()
            made = []
            for count in range(1, 7):
                for kind in ("f64", "i32", "cg.bool_", "cg.cstr"):
                    scope = dict(globals())
                    exec(f"def id_f64({', '.join(f'x{n}: {kind}' for n in range(count))}) -> f64: ...", scope)
                    made.append(cg.load("m", engine=engine).function(symbol="cos")(scope["id_f64"]))
            return made
        made = []
    """

    def run(self, engine: str, targets: str, program: str) -> None:
        from textwrap import dedent

        out, _ = run_child(dedent(self.PREAMBLE) + dedent(program), targets, engine, PYTHONMALLOC="debug")
        assert out.split() == ["done"]

    @pytest.mark.parametrize(
        ("kind", "method", "value"),
        [
            ("i32", "__index__", "77"),
            ("f64", "__float__", "0.5"),
            ("f64", "__index__", "8"),
            ("cg.bool_", "__index__", "1"),
        ],
    )
    @pytest.mark.parametrize("fails", [False, True])
    def test_by_its_own_argument(
        self, engine: str, copied: str, kind: str, method: str, value: str, fails: bool
    ) -> None:
        symbol = {"i32": "id_i32", "f64": "id_f64", "cg.bool_": "id_bool"}[kind]
        program = f"""
            class Wicked:
                def {method}(self):
                    global library
                    del globals()["{symbol}"]
                    library = None
                    made.extend(disturb())
                    if {fails}:
                        raise KeyError("wicked")
                    return {value}
            @library.function
            def {symbol}(x: {kind}) -> {kind}: ...
            library.__dict__.clear()
            def call():
                return {symbol}(Wicked())
            try:
                result = call()
            except KeyError as problem:
                result = problem.args[0]
            assert result == {"'wicked'" if fails else value}, result
            print("done")
        """
        self.run(engine, copied, program)

    @pytest.mark.parametrize(
        "call", ["weigh(*given)", "weigh(**dict(zip('abc', given)))", "weigh(given[0], c=given[2], b=given[1])"]
    )
    def test_by_one_of_several_arguments(self, engine: str, copied: str, call: str) -> None:
        program = f"""
            class Wicked:
                def __index__(self):
                    global library
                    del globals()["weigh"]
                    library = None
                    made.extend(disturb())
                    return 5
            @library.function(symbol="length_and")
            def weigh(a: cg.long, b: cg.cstr, c: cg.long) -> usize: ...
            library.__dict__.clear()
            given = [Wicked(), "four", 2]
            assert {call} == 4 + 500 + 20000
            print("done")
        """
        self.run(engine, copied, program)

    def test_by_its_predicate_and_its_error(self, engine: str, copied: str) -> None:
        program = """
            def wicked(result):
                global library
                globals().pop("id_i32", None)
                library = None
                made.extend(disturb())
                return result < 0
            for value in (5, -5):
                library = cg.load(targets, engine=engine)
                @library.function(fails_if=wicked, error=lambda code: LookupError(wicked(code), code))
                def id_i32(x: i32) -> i32: ...
                library.__dict__.clear()
                try:
                    result = id_i32(value)
                except LookupError as problem:
                    result = problem.args
                assert result == (5 if value == 5 else (True, -5)), result
            print("done")
        """
        self.run(engine, copied, program)

    def test_by_another_thread(self, engine: str, build_library: Callable[..., Path], tmp_path: Path) -> None:
        waiting = str(shutil.copy(build_library(WAITING), tmp_path / "waiting.so"))
        program = """
            text = b"waiting" * 100
            door = cg.load(targets, "void open_door(void); int waiting_count(void);", engine=engine)
            door.open_door, door.waiting_count
            @library.function(blocking=True)
            def wait_and_sum(data: Readable[u8], count: usize, start: cg.long) -> cg.long: ...
            library.__dict__.clear()
            library = None
            told = []
            def call():
                data = bytearray(text)
                told.append(globals().pop("wait_and_sum")(data, len(text), -7))
                data.append(0)
            thread = threading.Thread(target=call)
            thread.start()
            while not door.waiting_count():
                time.sleep(0.001)
            made += [disturb() for _ in range(5)]
            assert "wait_and_sum" not in globals()
            door.open_door()
            thread.join()
            assert told == [sum(text) - 7], told
            print("done")
        """
        self.run(engine, waiting, program)
