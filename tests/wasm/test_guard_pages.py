"""bounds="guarded": the same traps as with checks, and every other fault as without callgate.

What traps by a fault, and what crashes, runs in child processes.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "live"))
from children import run_child
from encoding import MAGIC, opcode, section, signed, unsigned, vector, vector_of
from spec_runner import SUITES

from callgate import wasm
from callgate.errors import EngineError
from callgate.runtime.engine import native_engine
from callgate.target import HOST, X86_64_LINUX
from callgate.wasm import guard_pages
from callgate.wasm.compile.layout import RESERVED_BYTES
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import NAMES, PAGE_BYTES

try:
    native_engine()
    wasm.Module(b"\0asm\1\0\0\0", engine="compiled")
except EngineError as reason:
    pytest.skip(f"no compiled mode here: {reason}", allow_module_level=True)
if HOST != X86_64_LINUX:
    pytest.skip("guard pages are there on x86-64 Linux only", allow_module_level=True)

I32 = 0x7F
OFFSETS = (0, 24, (1 << 31) - 32, (1 << 31) - 31, 0xFFFF_FFFF)
SCRIPTS = (
    *("address", "align", "bulk", "data", "imports", "linking", "memory", "memory_grow", "memory_init", "memory_trap"),
    *("simd_address", "simd_load", "simd_load_extend", "simd_load_splat", "simd_store", "simd_store8_lane"),
)


# -- modules ----------------------------------------------------------------------------------------------------------
class Function:
    """A function to be written: its type, its instructions, and the name it is exported by."""

    def __init__(self, parameters: tuple[int, ...], results: tuple[int, ...], code: bytes, name: str = "") -> None:
        self.type = b"\x60" + vector_of(bytes(parameters)) + vector_of(bytes(results))
        self.code = code
        self.name = name


def write(functions: list[Function], memory: bytes = b"\x01\x01\x04", *, imports_memory: bool = False) -> bytes:
    """A module of functions with a memory of one page, four at most; it exports the memory as "memory"."""
    exports = [vector_of(one.name.encode()) + b"\0" + unsigned(number) for number, one in enumerate(functions)]
    return MAGIC + b"".join(
        (
            section(1, vector([one.type for one in functions])),
            section(2, vector([vector_of(b"env") + vector_of(b"memory") + b"\x02" + memory]))
            if imports_memory
            else b"",
            section(3, vector([unsigned(number) for number in range(len(functions))])),
            b"" if imports_memory else section(5, vector([memory])),
            section(7, vector([*exports, vector_of(b"memory") + b"\x02\0"])),
            section(10, vector([vector_of(b"\0" + one.code + b"\x0b") for one in functions])),
        )
    )


def get(local: int) -> bytes:
    return opcode("local.get") + unsigned(local)


LOAD = opcode("i32.load") + b"\0\0"
STORE = opcode("i64.store") + b"\0\0"
LITTLE = write(
    [
        Function((I32,), (I32,), get(0) + LOAD, "load"),
        Function((I32, 0x7E), (), get(0) + get(1) + STORE, "store"),
        Function((I32,), (I32,), get(0) + opcode("memory.grow") + b"\0", "grow"),
        Function((I32,), (I32,), get(0) + opcode("call") + b"\0" + get(0) + opcode("i32.add"), "outer"),
    ]
)


def accesses() -> Iterator[Function]:
    """A function for each instruction that loads or stores, at several offsets; and loads that are operands."""
    for row in INSTRUCTIONS.values():
        if row.parameters is None or not any(one.startswith("memory") and one != "memory" for one in row.immediates):
            continue
        lane = b"\0" if any(one.startswith("lane") for one in row.immediates) else b""
        for offset in OFFSETS:
            code = b"".join(map(get, range(len(row.parameters)))) + opcode(row.name) + b"\0" + unsigned(offset) + lane
            yield Function(row.parameters, row.results, code, f"{row.name}+{offset}")
        addresses = [] if len(row.parameters) > 1 else (0, PAGE_BYTES - 4, PAGE_BYTES, -1)
        for address in addresses:
            code = opcode("i32.const") + signed(address) + opcode(row.name) + b"\0\0" + lane
            yield Function((), row.results, code, f"{row.name} at {address}")
    for operation, load, value in (
        *(("i32.add", "i32.load", I32), ("i64.sub", "i64.load", 0x7E)),
        *(("f32.mul", "f32.load", 0x7D), ("f64.div", "f64.load", 0x7C)),
    ):
        code = get(1) + get(0) + opcode(load) + b"\0\0" + opcode(operation)
        yield Function((I32, value), (value,), code, f"{operation} of {load}")


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of LITTLE."""
    path = tmp_path_factory.mktemp("guarded") / "little.wasm"
    path.write_bytes(LITTLE)
    return str(path)


START = """
import ctypes, faulthandler, gc, os, signal, sys, threading
import callgate as cg
from callgate import raw, wasm
from callgate.wasm import OutOfBounds

def load(bounds="guarded", **options):
    return wasm.load(sys.argv[1], bounds=bounds, **options)

def trap(instance, times=1):
    for _ in range(times):
        for address in 65533, 65536, -1:
            try:
                instance.exports.load(address)
            except OutOfBounds as error:
                assert str(error).startswith("out of bounds memory access\\n  in load (function 0 at byte 0x"), error
            else:
                raise AssertionError("no trap")
    assert instance.exports.load(65532) == 0
"""
FATAL = "Fatal Python error: Segmentation fault"
REAL_FAULT = "ctypes.string_at(8)"


def run(program: str, *arguments: str, status: int = 0, **environment: str) -> tuple[str, str]:
    """Run a program behind START; its output, and what it wrote to stderr."""
    return run_child(f"{START}\n{dedent(program)}", *arguments, status=status, **environment)


# -- the same as with checks ------------------------------------------------------------------------------------------
COMPARE = """
import json
functions = json.loads(sys.argv[2])

def outcomes(bounds):
    instance = load(bounds, cache=False)
    found, memory = [], instance.memory
    for name, kinds in functions:
        extra = 9 if "v128" in kinds[1:] else 3
        for address in (0, 65520, 65521, 65528, 65529, 65532, 65533, 65535, 65536, -1):
            memory.write(65504, bytes(range(32)))
            words = [address & 0xFFFF_FFFF, *(0x4142_4344_4546_4748 + 7 * n for n in range(extra))]
            words = words[: sum(2 if kind == "v128" else 1 for kind in kinds)]
            try:
                result = instance.call_raw(name, words)
            except OutOfBounds as trap:
                result = [str(trap)]
            found.append((name, address, result, memory.read(65504, 32), memory.read(0, 64)))
            if not kinds:
                break
    return found

checked, guarded = outcomes("checked"), outcomes("guarded")
for one, other in zip(checked, guarded):
    assert one == other, (one, other)
print(sum(isinstance(row[2][0], str) for row in checked if row[2]), len(checked))
"""


def test_every_access_traps_as_with_checks(tmp_path: Path) -> None:
    """The same results, texts, backtraces and memory: of a store that crosses the end nothing is written."""
    import json

    functions = list(accesses())
    path = tmp_path / "accesses.wasm"
    path.write_bytes(write(functions))
    names = [(one.name, [NAMES[value] for value in one.type[2 : 2 + one.type[1]]]) for one in functions]
    out, _ = run(COMPARE, str(path), json.dumps(names))
    traps, calls = map(int, out.split())
    assert calls > 2000 and 0.5 < traps / calls < 0.9


def test_a_store_across_the_end_writes_nothing(little: str) -> None:
    run(
        """
        instance = load()
        memory = instance.memory
        for address in range(65529, 65536):
            memory.write(65520, bytes(range(16)))
            try:
                instance.exports.store(address, -1)
            except OutOfBounds:
                assert memory.read(65520, 16) == bytes(range(16))
            else:
                raise AssertionError(address)
        instance.exports.store(65528, -1)
        assert memory.read(65520, 16) == bytes(range(8)) + b"\\xff" * 8
        """,
        little,
    )


def test_scripts_of_the_specification() -> None:
    """Those of memory; `spec_runner.py --engine guarded` runs all."""
    paths = [SUITES / "v2" / f"{name}.json" for name in SCRIPTS]
    if not all(path.exists() for path in paths):
        pytest.skip(f"no scripts of the specification in {SUITES}: run scripts/wasm-suites")
    run(
        """
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from spec_runner import GUARDED, assertions, run_script
        for path in map(Path, sys.argv[2:]):
            outcome = run_script(path, GUARDED)
            assert outcome.checked == assertions(path)[False] and not outcome.failures, outcome.failures[:20]
        """,
        str(Path(__file__).parent),
        *map(str, paths),
    )


def test_backtrace(little: str) -> None:
    out, _ = run(
        """
        for bounds in "guarded", "checked":
            try:
                load(bounds).exports.outer(-1)
            except OutOfBounds as trap:
                print([(frame.name, frame.number, hex(frame.offset)) for frame in trap.frames])
        """,
        little,
    )
    one, other = out.splitlines()
    assert one == other and one.startswith("[('load', 0, ") and "('outer', 3, " in one


@pytest.mark.parametrize("options", ["lazy=True, cache=False", "cache=True"])
def test_lazy_and_cached(options: str, tmp_path: Path) -> None:
    path = tmp_path / "large.wasm"
    path.write_bytes(LITTLE + section(0, vector_of(b"padding") + bytes(1 << 15)))
    for _ in range(2):  # the second time its code is mapped
        run(f"trap(load({options}))", str(path), CALLGATE_CACHE=str(tmp_path / "cache"))


# -- memories ---------------------------------------------------------------------------------------------------------
def test_growing(little: str) -> None:
    run(
        """
        instance = load()
        exports, memory = instance.exports, instance.memory
        view = memory.view()
        trap(instance)
        assert exports.grow(1) == 1 and exports.load(65533) == exports.load(131068) == 0
        assert memory.grow(2) == 2 and exports.load(262140) == 0
        assert exports.grow(1) == -1 and memory.grow(1) == -1 and exports.grow(0) == 4
        try:
            exports.load(262141)
        except OutOfBounds:
            view[0] = 7
            assert exports.load(0) == 7 and memory.size_bytes == 262144
            del instance, exports, memory
            gc.collect()
            assert view[0] == 7
        """,
        little,
    )


def test_memories_between_modules(tmp_path: Path) -> None:
    """A module with checks may use a guarded memory, of Python or of a guarded module, and traps by its checks."""
    path = tmp_path / "imports.wasm"
    path.write_bytes(write([Function((I32,), (I32,), get(0) + LOAD, "load")], imports_memory=True))
    run(
        """
        memory = wasm.Memory(1, 4, bounds="guarded")
        users = [load(bounds, imports=[("env", "memory", memory)]) for bounds in ("guarded", "checked", "guarded")]
        for user in users:
            trap(user)
        users.append(load("checked", imports=[("env", "memory", users[0].exports.memory)]))
        memory.grow(1)
        memory.write_int(131068, 5)
        for user in users:
            assert user.exports.load(131068) == 5
        """,
        str(path),
    )


def test_a_memory_without_guard_pages_is_refused() -> None:
    data = write([Function((I32,), (I32,), get(0) + LOAD, "load")], imports_memory=True)
    module = wasm.Module(data, bounds="guarded", cache=False)
    with pytest.raises(wasm.LinkError) as caught:
        module.instantiate(imports=[("env", "memory", wasm.Memory(1, 4))])
    assert str(caught.value) == (
        'incompatible import type for env.memory: a module with bounds="guarded" needs a memory with guard pages, as '
        'Memory(..., bounds="guarded") and the modules that are loaded so have'
    )


def test_addresses_are_given_back() -> None:
    """128 TiB are all that a process has."""
    for _ in range((1 << 47) // RESERVED_BYTES + 100):
        wasm.Memory(1, bounds="guarded").write(0, b"used")
    memory = wasm.Memory(1, bounds="guarded")
    view = memory.view(8, 4)
    del memory
    gc.collect()
    view[:] = b"kept"
    assert bytes(view) == b"kept"


def test_code_that_is_freed_is_nobodys(little: str) -> None:
    run(
        """
        from callgate.wasm.native.images import faults
        instance = load()
        free = len(faults()._free)
        for _ in range(50):
            trap(load())
            gc.collect()
        assert len(faults()._free) == free
        trap(instance)
        """,
        little,
    )


def test_no_addresses_left(little: str) -> None:
    out, _ = run(
        """
        import resource
        module = wasm.Module(sys.argv[1], bounds="guarded")
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
        try:
            module.instantiate()
        except MemoryError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        trap(module.instantiate())
        """,
        little,
    )
    assert out == (
        f"the system refuses to reserve the {RESERVED_BYTES} bytes of addresses that guard pages take (mmap: [Errno 12] "
        'Cannot allocate memory); allow the process more addresses (ulimit -v), or use bounds="checked"\n'
    ).replace("mmap: [Errno 12] ", "[Errno 12] mmap: ")


def test_bad_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: list[Callable[..., Any]] = [wasm.load, wasm.Module, lambda _, bounds: wasm.Memory(1, bounds=bounds)]
    for load in loaders:
        with pytest.raises(ValueError, match=r"""^bounds='fast' is neither "checked" nor "guarded"$"""):
            load(LITTLE, bounds="fast")
    monkeypatch.setattr(guard_pages, "HOST", None)
    for load in loaders:
        with pytest.raises(EngineError, match=r'^guard pages are there on x86-64 Linux only; use bounds="checked"$'):
            load(LITTLE, bounds="guarded")


# -- who else handles SIGSEGV -----------------------------------------------------------------------------------------
# name: before the first guarded module, behind it, how often faulthandler reports the real fault at the end
ORDERS = {
    "never": ("faulthandler.disable()", "", 0),
    "before": ("", "", 1),
    "after": ("faulthandler.disable()", "faulthandler.enable()", 1),
    "no longer": ("", "faulthandler.disable()", 0),
    "again and again": ("", "for _ in range(50): faulthandler.disable(); trap(instance); faulthandler.enable()", 1),
    "enabled twice": ("", "faulthandler.enable(); faulthandler.enable(all_threads=False)", 1),
    "behind our back": (
        "faulthandler.disable(); enable = faulthandler.enable",
        "enable(); instance = load()",
        1,
    ),
    "behind our back, a thread comes": (
        "faulthandler.disable(); enable = faulthandler.enable",
        "enable(); t = threading.Thread(target=trap, args=(instance,)); t.start(); t.join()",
        1,
    ),
    "a stack before": ("stack = cg.Stack(1 << 16)", "", 1),
    "a stack after": ("", "stack = cg.Stack(1 << 16)", 1),
    "a stack between": ("faulthandler.disable()", "stack = cg.Stack(1 << 16); faulthandler.enable(); load()", 1),
    "a dump to come": ("", "faulthandler.dump_traceback_later(1000); faulthandler.cancel_dump_traceback_later()", 1),
}


@pytest.mark.parametrize("order", ORDERS)
def test_traps_and_real_faults(order: str, little: str) -> None:
    before, after, reports = ORDERS[order]
    program = f"""
{before}
instance = load()
trap(instance)
{after}
trap(instance)
print("trapped", flush=True)
{REAL_FAULT}
"""
    out, error = run(program, little, status=-signal.SIGSEGV)
    assert out.splitlines()[-1] == "trapped"
    assert error.count(FATAL) == reports and ("string_at" in error) == bool(reports)
    if not reports:
        assert error == ""


@pytest.mark.parametrize("enabled", [True, False])
def test_touching_guard_pages_from_c(enabled: bool, little: str) -> None:
    """What C does is no trap, wherever it is."""
    program = f"""
        {"pass" if enabled else "faulthandler.disable()"}
        instance = load()
        trap(instance)
        ctypes.string_at(instance.memory.address + instance.memory.size_bytes, 1)
        """
    _, error = run(program, little, status=-signal.SIGSEGV)
    assert error.count(FATAL) == enabled


def test_handlers_of_python(little: str) -> None:
    """signal.signal(SIGSEGV) gets what others send, before and after; real faults are not its business."""
    out, _ = run(
        """
        faulthandler.disable()
        def handler(number, frame):
            print("handled", signal.Signals(number).name)
        signal.signal(signal.SIGSEGV, handler)
        instance = load()
        os.kill(os.getpid(), signal.SIGSEGV)
        trap(instance)
        assert signal.signal(signal.SIGSEGV, signal.SIG_IGN) is handler
        trap(instance)
        os.kill(os.getpid(), signal.SIGSEGV)
        for _ in range(100):
            signal.signal(signal.SIGSEGV, handler)
            trap(instance)
        signal.raise_signal(signal.SIGSEGV)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        trap(instance)
        print("trapped", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        """,
        little,
        status=-signal.SIGSEGV,
    )
    assert out == "handled SIGSEGV\nhandled SIGSEGV\ntrapped\n"


def test_ignored_signals_do_not_hide_faults(little: str) -> None:
    program = f"""
        faulthandler.disable()
        signal.signal(signal.SIGSEGV, signal.SIG_IGN)
        trap(load())
        os.kill(os.getpid(), signal.SIGSEGV)
        print("on", flush=True)
        {REAL_FAULT}
        """
    out, error = run(program, little, status=-signal.SIGSEGV)
    assert (out, error) == ("on\n", "")


def test_what_the_functions_refuse(little: str) -> None:
    """faulthandler's and signal's functions are the same for who calls them."""
    out, _ = run(
        """
        def errors():
            for call in (
                lambda: faulthandler.enable(file=object()),
                lambda: faulthandler.enable(every=1),
                lambda: signal.signal(signal.SIGSEGV, 5.0),
                lambda: faulthandler.disable(1),
            ):
                try:
                    yield call()
                except Exception as error:
                    yield f"{type(error).__name__}: {error}"
        before = list(errors())
        instance = load()
        assert list(errors()) == before, (list(errors()), before)
        trap(instance)
        assert faulthandler.is_enabled() and faulthandler.disable() and not faulthandler.disable()
        assert faulthandler.enable.__name__ == "enable" and faulthandler.enable.__doc__
        trap(instance)
        print(len(before))
        """,
        little,
    )
    assert out == "4\n"


def test_registered_signals(little: str) -> None:
    _, error = run(
        """
        faulthandler.register(signal.SIGUSR1)
        trap(load())
        os.kill(os.getpid(), signal.SIGUSR1)
        """,
        little,
    )
    assert error.startswith(("Current thread", "Stack (most recent call first)"))


RECOVERING = """
#include <signal.h>
#include <sys/mman.h>
static char *page;
static int count;
static struct sigaction before;
static void handle(int number, siginfo_t *info, void *context) {
    char *address = info->si_addr;
    if (info->si_code > 0 && page <= address && address < page + 4096) {
        count++;
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
    } else if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler == SIG_DFL) {
        sigaction(SIGSEGV, &before, 0);
    } else {
        before.sa_handler(number);
    }
}
void handle_faults(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &action, &before);
}
int touch(void) {
    mprotect(page, 4096, PROT_NONE);
    page[7] = 1;
    return count;
}
"""


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("reports", [0, 1])
def test_a_handler_in_c_that_recovers(
    place: str, reports: int, little: str, build_library: Callable[..., Path]
) -> None:
    """Faults that it knows it goes on handling, whether it is before or behind ours; others end as they did."""
    first, last = ("library.handle_faults()", "") if place == "before" else ("", "library.handle_faults(); load()")
    program = f"""
        {"pass" if reports else "faulthandler.disable()"}
        library = ctypes.CDLL(sys.argv[2])
        {first}
        instance = load()
        {last}
        for count in range(1, 10):
            trap(instance)
            assert library.touch() == count
        print("trapped", flush=True)
        {REAL_FAULT}
        """
    out, error = run(program, little, str(build_library(RECOVERING)), status=-signal.SIGSEGV)
    assert out == "trapped\n" and error.count(FATAL) == reports


@pytest.mark.parametrize("stack_is_first", [True, False])
@pytest.mark.parametrize("reports", [0, 1])
def test_overflows_of_stacks(
    stack_is_first: bool, reports: int, little: str, build_library: Callable[..., Path]
) -> None:
    """They have their message, then whoever was there reports them."""
    path = build_library(Path(__file__).parent.parent / "live" / "stacks.c")
    steps = [
        "instance = load(); trap(instance)",
        "@library.function(stack_bytes=1 << 17)\ndef deep(levels: cg.i64) -> cg.i64: ...",
    ]
    if stack_is_first:
        steps.reverse()
    program = "\n".join(
        [
            "" if reports else "faulthandler.disable()",
            "library = cg.load(sys.argv[2])",
            *steps,
            "assert deep(50) == 50",
            "trap(load())",
            "print('fits', flush=True)",
            "deep(10**6)",
        ]
    )
    out, error = run(program, little, str(path), status=-signal.SIGSEGV)
    assert out == "fits\n"
    message = "callgate: deep() overflowed its stack of 131072 bytes; it needs a larger stack_bytes=\n"
    assert error.startswith(message) and error.count(FATAL) == reports


# -- threads and forks ------------------------------------------------------------------------------------------------
def test_threads(little: str) -> None:
    """Faults of several threads at once, while faulthandler comes and goes."""
    run(
        """
        sys.setswitchinterval(1e-6)
        module = wasm.Module(sys.argv[1], bounds="guarded")
        failures = []
        def work():
            try:
                for _ in range(5):
                    trap(module.instantiate(), 20)
            except BaseException as error:
                failures.append(error)
        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            faulthandler.disable()
            faulthandler.enable()
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        assert not failures, failures
        """,
        little,
    )


def test_threads_that_come_first(little: str) -> None:
    """What the process has once is made once."""
    for bounds in "guarded", "checked":
        run(
            """
            sys.setswitchinterval(1e-6)
            failures = []
            def work():
                try:
                    for _ in range(3):
                        trap(load(sys.argv[2]), 10)
                except BaseException as error:
                    failures.append(error)
            threads = [threading.Thread(target=work) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures, failures
            """,
            little,
            bounds,
        )


def test_forks(little: str) -> None:
    """Children trap, those of threads too, and what they load; the parent goes on."""
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        instance = load()
        def fork():
            child = os.fork()
            if not child:
                try:
                    trap(instance, 3)
                    trap(load(cache=False), 3)
                    faulthandler.disable()
                    faulthandler.enable()
                    trap(instance)
                    os._exit(7)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            trap(instance)
        fork()
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        """,
        little,
    )


def test_callbacks_and_nested_instances(tmp_path: Path) -> None:
    """A trap inside a host function's own call leaves the inner call only; the outer goes on."""
    functions = [
        Function((I32,), (I32,), get(0) + opcode("call") + b"\0" + get(0) + LOAD + opcode("i32.add"), "through"),
    ]
    one = b"\x60" + vector_of(bytes([I32])) + vector_of(bytes([I32]))
    data = MAGIC + b"".join(
        (
            section(1, vector([one])),
            section(2, vector([vector_of(b"env") + vector_of(b"inner") + b"\0\0"])),
            section(3, vector([b"\0"])),
            section(5, vector([b"\0\x01"])),
            section(7, vector([vector_of(b"through") + b"\0\x01"])),
            section(10, vector([vector_of(b"\0" + functions[0].code + b"\x0b")])),
        )
    )
    path = tmp_path / "through.wasm"
    path.write_bytes(data)
    (tmp_path / "little.wasm").write_bytes(LITTLE)
    run(
        """
        inner = wasm.load(sys.argv[2], bounds="guarded")
        @wasm.host("env", "inner")
        def call(address: cg.i32) -> cg.i32:
            trap(inner)
            return inner.exports.load(0)
        outer = load(imports=[call])
        assert outer.exports.through(0) == 0
        for address in 65536, -1:
            try:
                outer.exports.through(address)
            except OutOfBounds as error:
                assert [frame.name for frame in error.frames] == ["through"]
            else:
                raise AssertionError
        """,
        str(path),
        str(tmp_path / "little.wasm"),
    )
