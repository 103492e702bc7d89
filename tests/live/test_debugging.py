"""What debuggers and profilers see: GDB's backtrace through gates, backtrace(), perf's map, faulthandler's traces."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import run_child

from callgate.target import HOST

pytestmark = pytest.mark.skipif(
    HOST is None or HOST.system != "linux", reason="symbols are made on Linux, where there is machine code"
)

SOURCE = r"""
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#define APART __attribute__((noinline))
APART int innermost_function(int x) { if (x) raise(SIGTRAP); return 2; }
APART int stops(int x) { return innermost_function(x) + 1; }
APART int calls(int (*f)(int), int x) { return f(x) + 1; }
APART int where(void **places, int count) { return backtrace(places, count); }
APART int crashes(int x) { return *(volatile int *)(long)x; }
"""

PREAMBLE = """
    import os, sys
    from collections.abc import Callable
    import callgate as cg
    from callgate import i32, u64
    library = cg.load(sys.argv[1], "int stops(int x); int crashes(int x);", engine="native")
    @library.function
    def calls(f: Callable[[i32], i32], x: i32) -> i32: ...
    @library.function
    def where(places: cg.Writable[u64], count: i32) -> i32: ...
"""


STOPS = """
    class Number:
        def __index__(self):
            return library.stops(7)
    calls(lambda x: library.stops(Number()), 4)
"""
GDB = ("-nx", "-q", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load no")


def frames_of_stops(debuggee: str) -> tuple[str, ...]:
    """What a backtrace shows from the innermost function on."""
    stem = Path(debuggee).name.partition(".")[0]
    return (
        "in innermost_function ",
        "in stops ",
        f"in gate::stops::{stem} ",
        "in callgate_convert ",
        f"in gate::stops::{stem} ",
        "in callgate_callback ",
        "in calls ",
        f"in gate::calls::{stem} ",
    )


@pytest.fixture
def debuggee(build_library: Callable[..., Path]) -> str:
    return str(build_library(SOURCE))


def test_gdb_shows_the_whole_stack(debuggee: str, tmp_path: Path) -> None:
    """C above the gate, the gate by name, the routine that converts, the callback, the interpreter down to its start."""
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("gdb is not on the PATH")
    with open(sys.executable, "rb") as program:
        if program.read(4) != b"\x7fELF":
            pytest.skip(f"{sys.executable} is no program that gdb can run")
    script = tmp_path / "stops.py"
    script.write_text(dedent(PREAMBLE) + dedent(STOPS))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALLGATE_")}
    done = subprocess.run(
        [gdb, *GDB, "-ex", "run", "-ex", "bt", "--args", sys.executable, str(script), debuggee],
        env={**environment, "CALLGATE_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    if "SIGTRAP" not in done.stdout:
        if "ptrace" in done.stderr or "Couldn't" in done.stderr or "Cannot" in done.stderr:
            pytest.skip(f"gdb cannot run a program here: {done.stderr.strip()[-200:]}")
        raise AssertionError(done.stdout + done.stderr)
    rest = done.stdout
    for expected in (*frames_of_stops(debuggee), "main"):
        before, found, rest = rest.partition(expected)
        assert found, f"{expected!r} is not in\n{done.stdout}\n{done.stderr}"
        assert "??" not in before, done.stdout


def test_gdb_shows_the_whole_stack_on_aarch64(debuggee: str, tmp_path: Path) -> None:
    """The same by way of qemu, which runs this interpreter and lets a GDB of another processor in."""
    wrapper = Path(sys.executable).read_bytes()
    if not wrapper.startswith(b"#!") or b"qemu-aarch64" not in wrapper:
        pytest.skip("no interpreter that qemu-aarch64 runs (scripts/machines)")
    gdb = shutil.which("gdb-multiarch")
    if gdb is None:
        pytest.skip("gdb-multiarch is not on the PATH")
    *_, root, _, program = re.findall("'([^']*)'", wrapper.decode())
    script, socket = tmp_path / "stops.py", tmp_path / "gdb"
    script.write_text(dedent(PREAMBLE) + dedent(STOPS))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLGATE_")}
    stopped = subprocess.Popen(
        [sys.executable, str(script), debuggee],
        env={**inherited, "CALLGATE_DEBUG": "1", "QEMU_GDB": str(socket)},
        stdin=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():  # qemu waits there, before the first instruction
            assert stopped.poll() is None
            time.sleep(0.05)
        folders = [f"{root}/{place}/aarch64-linux-gnu" for place in ("lib", "usr/lib")]
        commands = [
            "set sysroot",
            f"set solib-search-path {':'.join(folders)}",
            f"file {program}",
            f"target remote {socket}",
            "continue",
            "bt",
            "kill",
        ]
        done = subprocess.run(
            [gdb, *GDB, *(word for command in commands for word in ("-ex", command))],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
    finally:
        stopped.kill()
        stopped.wait()
    rest = done.stdout
    for expected in (*frames_of_stops(debuggee), "in PyEval_EvalCode "):  # of Debian's interpreter few names are known
        _, found, rest = rest.partition(expected)
        assert found, f"{expected!r} is not in\n{done.stdout}\n{done.stderr}"


def test_gdb_is_told_when_gates_go(debuggee: str) -> None:
    """The list that GDB reads holds what lives."""
    out, error = run_child(
        dedent(PREAMBLE)
        + dedent("""
        from callgate.runtime.debugging import _debugger, _Descriptor
        def listed():
            count, previous = 0, None
            place = _Descriptor.in_dll(_debugger._library, "__jit_debug_descriptor").first_entry
            while place:
                entry = _debugger._entries[place][0]
                assert entry.prev_entry == previous
                count, previous, place = count + 1, place, entry.next_entry
            assert count == len(_debugger._entries)
            return count
        before = listed()
        for _ in range(20):
            many = [cg.load(sys.argv[1], f"int {name}(int x);", engine="native") for name in ("stops", "crashes")]
            functions = [many[0].stops, many[1].crashes]
        assert listed() <= before + 5, (before, listed())
        """),
        debuggee,
        CALLGATE_DEBUG="1",
    )
    assert (out, error) == ("", "")


@pytest.mark.parametrize("check", ["0", "1"])
def test_backtrace_passes_gates(debuggee: str, check: str) -> None:
    """C's own backtrace() goes on into the interpreter."""
    program = """
        import ctypes
        places = (ctypes.c_uint64 * 100)()
        count = where(places, 100)
        gate = cg.gate(where)
        inside = [index for index, place in enumerate(places[:count])
                  if gate.code_address < place < gate.code_address + gate.code_bytes]
        assert len(inside) == 1 and inside[0] < 3, (inside, list(places[:count]))
        print(count - inside[0] > 4)
    """
    out, error = run_child(dedent(PREAMBLE) + dedent(program), debuggee, CALLGATE_DEBUG="1", CALLGATE_CHECK=check)
    assert (out, error) == ("True\n", "")


def test_perf_map(debuggee: str) -> None:
    """Every gate, the routines, callbacks; a forked child has a map of its own."""
    program = """
        other, crashes = cg.load(sys.argv[1], engine="native"), library.crashes  # made when asked for
        assert library.stops(0) == calls(lambda x: x + 2, 0) == 3
        def lines():
            path = f"/tmp/perf-{os.getpid()}.map"
            text = open(path).read()
            assert os.stat(path).st_mode & 0o777 == 0o600
            os.unlink(path)
            return [line.split(" ", 2) for line in text.splitlines()]
        pid = os.fork()
        if not pid:
            @other.function(symbol="stops")
            def in_child(x: i32) -> i32: ...
            names = {name.split("::")[1] for _, _, name in lines() if name.startswith("gate::")}
            os._exit(names != {"stops", "crashes", "calls", "where", "in_child"})
        assert os.waitpid(pid, 0)[1] == 0
        found = {name: (int(address, 16), int(size, 16)) for address, size, name in lines()}
        for function in (library.stops, library.crashes, calls):
            gate = cg.gate(function)
            assert found["gate::" + gate.name + "::" + gate.library_name.partition(".")[0]] == (gate.code_address, gate.code_bytes)
        assert {"callgate_convert", "callgate_raised", "callgate_callback", "callgate_thunks"} <= found.keys()
        assert cg.gate(library.stops).code_address != cg.gate(library.crashes).code_address
    """
    assert run_child(dedent(PREAMBLE) + dedent(program), debuggee, CALLGATE_PERF="1") == ("", "")


@pytest.mark.parametrize("make", ['os.symlink("/tmp/nowhere", path)', "os.mkfifo(path)"])
def test_perf_map_of_somebody_else(debuggee: str, make: str) -> None:
    """A link under the map's name is not followed, a FIFO not waited for: a warning, once."""
    program = """
        import warnings
        path = f"/tmp/perf-{os.getpid()}.map"
        MAKE
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                import callgate as cg
                library = cg.load(sys.argv[1], "int stops(int x); int crashes(int x);", engine="native")
                assert library.stops(0) == 3
        finally:
            os.unlink(path)
        assert not os.path.exists("/tmp/nowhere")
        print(len(told), told[0].category.__name__, str(told[0].message).replace(path, "PATH").split(": [")[0])
    """
    program = dedent(program).replace("MAKE", make)
    out, error = run_child("import os, sys\n" + program, debuggee, CALLGATE_PERF="1")
    assert (out, error) == ("1 RuntimeWarning CALLGATE_PERF: PATH is not written\n", "")


def test_without_a_request_code_is_shared(debuggee: str) -> None:
    program = """
        assert cg.gate(library.stops).code_address == cg.gate(library.crashes).code_address
        assert not os.path.exists(f"/tmp/perf-{os.getpid()}.map")
    """
    assert run_child(dedent(PREAMBLE) + dedent(program), debuggee) == ("", "")


def test_a_crash_names_the_gate_under_trace(debuggee: str) -> None:
    """faulthandler prints Python's frames; the one that counts and times is called as the gate is."""
    _, error = run_child(
        dedent(PREAMBLE) + "def outer():\n    library.crashes(16)\nouter()\n", debuggee, status=-11, CALLGATE_TRACE="1"
    )
    lines = [line.strip() for line in error.splitlines()]
    first = next(index for index, line in enumerate(lines) if line.startswith("File "))
    assert lines[first].startswith(f'File "<gate of {Path(debuggee).name}>", line ')
    assert lines[first].endswith(" in crashes")
    assert lines[first + 1].endswith(" in outer")
