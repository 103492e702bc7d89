"""Systems that refuse executable memory: what they allow is used, and where they allow none the ctypes engine serves."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import WAITING, run_child

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the restrictions are those of Linux on x86-64"
)

PREAMBLE = '''
    import array, ctypes, errno, os, struct, sys, tempfile
    import callgate as cg
    from callgate import i32, f64, u8, usize, Readable
    import callgate.library

    PROT_EXEC = 4
    MMAP, MPROTECT, PWRITE64, MEMFD_CREATE, PKEY_MPROTECT = 9, 10, 18, 319, 329
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

    def control(*words):
        if prctl(*words, *[0] * (5 - len(words))):
            code = ctypes.get_errno()
            if code == errno.EINVAL:
                sys.exit(print("skip: this kernel does not know the restriction"))
            raise OSError(code, os.strerror(code))

    def forbid_writable_then_executable():
        control(65, 1)  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN

    def install_filter(*blocks):
        """A seccomp filter: blocks of (code, jt, jf, k); falling through allows."""
        deny, allow = (0x06, 0, 0, 0x00050000 | errno.EACCES), (0x06, 0, 0, 0x7FFF0000)
        program = [instruction for block in blocks for instruction in block] + [allow]
        program = [deny if instruction == "deny" else instruction for instruction in program]
        packed = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
        memory = ctypes.create_string_buffer(packed, len(packed))
        header = ctypes.create_string_buffer(struct.pack("<H6xQ", len(program), ctypes.addressof(memory)))
        control(38, 1)  # PR_SET_NO_NEW_PRIVS
        control(22, 2, ctypes.addressof(header))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    LOAD_NUMBER, LOAD_PROTECTION = (0x20, 0, 0, 0), (0x20, 0, 0, 16 + 8 * 2)

    def denied(number):
        return [LOAD_NUMBER, (0x15, 0, 1, number), "deny"]

    def denied_if_executable(number):
        return [LOAD_NUMBER, (0x15, 0, 3, number), LOAD_PROTECTION, (0x45, 0, 1, PROT_EXEC), "deny"]

    def forbid_executable_memory():
        install_filter(*map(denied_if_executable, (MMAP, MPROTECT, PKEY_MPROTECT)), denied(MEMFD_CREATE))

    def forbid_memfd():
        install_filter(denied(MEMFD_CREATE))

    def forbid_executable_files():
        "mmap may make nothing executable, mprotect may."
        install_filter(denied(MEMFD_CREATE), denied_if_executable(MMAP))

    def mount(folder, options, is_executable=True):
        "A file system in memory, seen by this process only."
        libc = ctypes.CDLL(None, use_errno=True)
        CLONE_NEWNS, MS_NOEXEC, MS_REC, MS_PRIVATE = 0x20000, 8, 0x4000, 0x40000
        flags = ctypes.c_ulong(0 if is_executable else MS_NOEXEC)
        if (
            libc.unshare(CLONE_NEWNS)
            or libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
            or libc.mount(b"none", folder.encode(), b"tmpfs", flags, options.encode())
        ):
            problem = os.strerror(ctypes.get_errno())
            sys.exit(print(f"skip: file systems cannot be mounted here ({problem}), which needs root"))

    def new_folder():
        return tempfile.mkdtemp(dir=base)

    def doctor(*lines, status):
        "What `callgate doctor` says: its exit code, and lines that must be there."
        import contextlib, io
        from callgate.cli import main
        with contextlib.redirect_stdout(io.StringIO()) as text:
            assert main(["doctor"]) == status, text.getvalue()
        said = [" ".join(line.split()) for line in text.getvalue().splitlines()]
        for line in lines:
            assert any(one.startswith(line) for one in said), text.getvalue()
        return text.getvalue()

    path, base = sys.argv[1:]
    declarations = """
        int add(int a, int b); double halve(double x); void open_door(void);
        long wait_and_sum(const unsigned char *data, size_t count, long start);
    """

    def check(engine=None, served_by="native"):
        library = cg.load(path, declarations, engine=engine)
        engines = {cg.gate(function).engine for function in (library.add, library.halve, library.wait_and_sum)}
        assert engines == {served_by}, engines
        library.open_door()
        assert [library.add(2, -5), library.add(a=2**31 - 1, b=-1), library.halve(5)] == [-3, 2**31 - 2, 2.5]
        assert library.wait_and_sum(b"abc", 3, -1) == library.wait_and_sum([97, 98, 99], 3, -1) == 293
        assert library.wait_and_sum(bytearray(b"abc"), 3, 0) == 294
        for given, message in [
            ((1,), "add() takes exactly 2 arguments (1 given)"),
            (("1", 2), "add() argument 1 must be int, not str"),
            ((1, 2**31), "add() argument 2 must be in -2147483648..2147483647 (int), not 2147483648"),
        ]:
            try:
                library.add(*given)
            except (TypeError, OverflowError) as problem:
                assert str(problem) == message, problem
            else:
                raise AssertionError(given)
        return library

    def must_refuse(start):
        for _ in range(2):
            try:
                cg.load(path, declarations, engine="native").add
            except cg.EngineError as problem:
                assert str(problem).startswith(start), problem
            else:
                raise AssertionError("the native engine ran")

    def memory():
        from callgate.runtime.code_memory import MEMORY
        return MEMORY.rung

    def no_page_is_both():
        for line in open("/proc/self/maps"):
            assert not ("w" in line.split()[1] and "x" in line.split()[1]), line
'''


@pytest.fixture
def run(build_library: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    path = str(build_library(WAITING))

    def run(program: str, **environment: str) -> None:
        out, _ = run_child(dedent(PREAMBLE) + dedent(program), path, str(tmp_path), **environment)
        if out.startswith("skip: "):
            pytest.skip(out.strip().removeprefix("skip: "))
        assert out.split() == ["done"]

    return run


def test_nothing_refused(run: Callable[..., None]) -> None:
    run("""
        check()
        assert memory() == "memfd"
        no_page_is_both()
        said = doctor("gates are machine code here", "ok engine native, on memfd: ", status=0)
        assert "fails " not in said and "->" not in said
        print("done")
    """)


def test_memory_deny_write_execute(run: Callable[..., None]) -> None:
    """PR_SET_MDWE, which systemd's MemoryDenyWriteExecute= sets."""
    run("""
        forbid_writable_then_executable()
        check("native")
        assert memory() == "memfd"
        check()
        print("done")
    """)


def test_memory_deny_write_execute_without_memfd(run: Callable[..., None]) -> None:
    run("""
        forbid_writable_then_executable()
        forbid_memfd()
        check("native")
        assert memory() == "file"
        doctor(
            "off memory memfd: [Errno 13] Permission denied",
            "-> allow memfd_create and executable mappings of what it makes (in the seccomp filter or the security policy)",
            "off memory anonymous pages: [Errno 13] mprotect: Permission denied",
            "-> allow memory to become executable (systemd: MemoryDenyWriteExecute=no; SELinux: execmem; seccomp: mprotect)",
            "ok memory file: allowed",
            "ok engine native, on file: ",
            "gates are machine code here",
            status=0,
        )
        print("done")
    """)


def test_only_anonymous_pages(run: Callable[..., None]) -> None:
    run("""
        ctypes.CDLL(path)
        forbid_executable_files()
        check("native")
        assert memory() == "anonymous pages"
        no_page_is_both()
        print("done")
    """)


def test_no_executable_memory(run: Callable[..., None]) -> None:
    run("""
        loaded = ctypes.CDLL(path)
        import callgate.cli.doctor  # and with it extension modules, which no longer load afterwards
        forbid_executable_memory()
        check(served_by="ctypes")
        must_refuse("executable memory is refused here (memfd: [Errno 13] Permission denied; anonymous pages: [Errno 13] mprotect: ")
        check("ctypes", "ctypes")
        assert memory() == ""
        said = doctor(
            "ok layout ",
            "fails memory memfd: [Errno 13] Permission denied",
            "fails memory anonymous pages: [Errno 13] mprotect: Permission denied",
            "fails memory file: ",
            "-> set XDG_RUNTIME_DIR or TMPDIR to a folder of yours on a file system that is not mounted noexec",
            "fails engine executable memory is refused here (memfd: ",
            "the ctypes engine serves here: memfd: [Errno 13] Permission denied",
            status=1,
        )
        assert "report it" not in said
        print("done")
    """)


def test_no_executable_memory_but_native_wanted(run: Callable[..., None]) -> None:
    run(
        """
        loaded = ctypes.CDLL(path)
        forbid_executable_memory()
        must_refuse("executable memory is refused here (memfd: ")
        check("ctypes", "ctypes")
        try:
            check()
        except cg.EngineError as problem:
            assert "anonymous pages: [Errno 13] mprotect: Permission denied; file: " in str(problem), problem
            print("done")
        """,
        CALLGATE_ENGINE="native",
    )


def test_only_the_last_step_refused(run: Callable[..., None]) -> None:
    """MDWE refuses what the last rung does, seccomp what the others do."""
    run("""
        loaded = ctypes.CDLL(path)
        forbid_executable_files()
        forbid_writable_then_executable()
        check(served_by="ctypes")
        must_refuse("executable memory is refused here (memfd: ")
        print("done")
    """)


def test_refused_after_the_first_gates(run: Callable[..., None]) -> None:
    """A program that locks itself in once it runs: its gates stay, and its arena takes more."""
    run("""
        library = check()
        forbid_executable_memory()
        assert library.add(3, 4) == 7
        check()
        @library.function(symbol="add")
        def other(a: i32, b: i32, c: f64) -> i32: ...
        assert other(1, 2, 3) == 3
        assert cg.gate(other).engine == "native"
        print("done")
    """)


def test_no_descriptors_left(run: Callable[..., None]) -> None:
    run("""
        import resource
        library = check()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError as problem:
            assert problem.errno == errno.EMFILE
        made = []
        for count in range(2, 60):
            scope = dict(globals())
            exec(f"def add({', '.join(f'x{n}: i32' for n in range(count))}, /) -> i32: ...", scope)
            made.append(library.function(scope["add"]))
        assert {cg.gate(function).engine for function in made} == {"native"}
        assert sum(cg.gate(function).code_bytes for function in made) > 1 << 16
        for count, function in enumerate(made, 2):
            assert function(*range(100, 100 + count)) == 201
        print("done")
    """)


def test_descriptors_closed_by_a_daemon(run: Callable[..., None]) -> None:
    run("""
        library = check()
        os.closerange(3, 1000)
        files = [tempfile.TemporaryFile() for _ in range(10)]
        for count in range(2, 40):
            scope = dict(globals())
            exec(f"def add({', '.join(f'x{n}: i32' for n in range(count))}, /) -> i32: ...", scope)
            assert library.function(scope["add"])(*range(count)) == 1
        library.__dict__.clear()
        assert [file.seek(0, 2) for file in files] == [0] * 10
        check()
        print("done")
    """)


def test_folders_that_are_mounted_noexec(run: Callable[..., None]) -> None:
    """The first folder that lets files be executed is taken."""
    run("""
        folders = {name: new_folder() for name in ("XDG_RUNTIME_DIR", "TMPDIR", "XDG_CACHE_HOME")}
        mount(folders["XDG_RUNTIME_DIR"], "size=1m", is_executable=False)
        mount(folders["TMPDIR"], "size=1m", is_executable=False)
        mount(folders["XDG_CACHE_HOME"], "size=1m")
        os.environ.update(folders)
        forbid_writable_then_executable()
        forbid_memfd()
        check("native")
        assert memory() == "file"
        taken = folders["XDG_CACHE_HOME"]
        shown = [line for line in open("/proc/self/maps") if "callgate-" in line]
        assert shown and all("r-xp" in line and taken in line and "(deleted)" in line for line in shown), shown
        assert not any(map(os.listdir, folders.values()))
        no_page_is_both()
        print("done")
    """)


def test_every_folder_is_mounted_noexec(run: Callable[..., None]) -> None:
    run("""
        ctypes.CDLL(path)
        os.environ.update({name: base for name in ("XDG_RUNTIME_DIR", "TMPDIR", "XDG_CACHE_HOME")})
        for folder in ("/var/tmp", "/dev/shm", base):
            mount(folder, "size=1m", is_executable=False)
        forbid_writable_then_executable()
        forbid_memfd()
        check(served_by="ctypes")
        refused = "Operation not permitted"
        reason = f"{base}: mmap: {refused}, /var/tmp: mmap: {refused}, /dev/shm: mmap: {refused}"
        must_refuse("executable memory is refused here (memfd: [Errno 13] Permission denied; anonymous pages: ")
        doctor(
            f"fails memory file: {reason}",
            "-> set XDG_RUNTIME_DIR or TMPDIR to a folder of yours on a file system that is not mounted noexec",
            status=1,
        )
        assert not os.listdir(base)
        print("done")
    """)


def test_an_image_where_nothing_else_is_executable(run: Callable[..., None]) -> None:
    """Neither memory nor any folder that callgate would write to, but the file that was built."""
    run("""
        import subprocess
        folder, elsewhere = new_folder(), new_folder()
        os.chmod(folder, 0o755)
        with open(f"{folder}/bound.py", "w") as file:
            file.write(f"import callgate as cg\\nlibrary = cg.load({path!r}, {declarations!r})\\n")
        sys.path.insert(0, folder)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "callgate", "build", "bound", "-o", folder]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        os.environ.update({name: elsewhere for name in ("XDG_RUNTIME_DIR", "TMPDIR", "XDG_CACHE_HOME")})
        for place in ("/var/tmp", "/dev/shm", elsewhere):
            mount(place, "size=1m", is_executable=False)
        forbid_writable_then_executable()
        forbid_memfd()
        import bound
        check("native")
        assert memory() == ""
        no_page_is_both()
        assert any(line.split()[1] == "r-xp" and line.rstrip().endswith(".gates") for line in open("/proc/self/maps"))
        print("done")
    """)


def test_a_full_disk(run: Callable[..., None]) -> None:
    """It is noticed when the file is made, not by a signal when code in it runs."""
    run("""
        folders = {name: new_folder() for name in ("XDG_RUNTIME_DIR", "TMPDIR")}
        mount(folders["XDG_RUNTIME_DIR"], "size=16k")
        os.environ.update(folders)
        forbid_writable_then_executable()
        forbid_memfd()
        library = check("native")
        assert memory() == "file"
        assert any(folders["TMPDIR"] in line for line in open("/proc/self/maps"))
        assert not any(folders["XDG_RUNTIME_DIR"] in line for line in open("/proc/self/maps"))
        print("done")
    """)


def test_a_disk_that_fills_up(run: Callable[..., None]) -> None:
    """The arena that there is goes on; a further one is refused, and ctypes takes over."""
    run("""
        folder = new_folder()
        mount(folder, "size=96k")
        from callgate.runtime import linux_memory
        linux_memory.folders = lambda: [folder]
        forbid_writable_then_executable()
        forbid_memfd()
        library = check()
        engines = []
        for count in range(2, 120):
            scope = dict(globals())
            exec(f"def add({', '.join(f'x{n}: i32' for n in range(count))}, /) -> i32: ...", scope)
            function = library.function(scope["add"])
            engines.append(cg.gate(function).engine)
            assert function(*range(100, 100 + count)) == 201
        assert set(engines) == {"native", "ctypes"}
        try:
            library.function(engine="native")(scope["add"])
        except cg.EngineError as problem:
            assert f"file: {folder}: No space left on device" in str(problem), problem
            print("done")
    """)


UNKNOWN_PROCESSOR = """
    import os
    uname = os.uname()
    os.uname = lambda: os.uname_result((*uname[:4], "riscv64"))
"""


def test_an_unknown_processor(build_library: Callable[..., Path], tmp_path: Path) -> None:
    program = """
        check(served_by="ctypes")
        must_refuse("no machine code can be made for this platform yet")
        said = doctor(
            "fails target no machine code can be made for riscv64 on linux yet",
            "-> use one of the systems and Pythons under ",
            "fails engine no machine code can be made for this platform yet",
            "the ctypes engine serves here: no machine code can be made for riscv64 on linux yet",
            status=1,
        )
        print("done")
    """
    whole = dedent(UNKNOWN_PROCESSOR) + dedent(PREAMBLE) + dedent(program)
    out, _ = run_child(whole, str(build_library(WAITING)), str(tmp_path))
    assert out == "done\n"


def test_a_python_of_unknown_layout(run: Callable[..., None]) -> None:
    run("""
        from callgate.runtime import probe
        probe._TYPE_OFFSET = 16
        reason = "the type of 12345 is not found at offset 16 of the object"
        check(served_by="ctypes")
        must_refuse(reason)
        doctor(f"fails layout {reason}", f"fails engine {reason}", f"the ctypes engine serves here: {reason}", status=1)
        print("done")
    """)


@pytest.mark.parametrize(
    ("since", "probe", "lacking"),
    [
        ((3, 12), "probe_immortals = lambda: False", "None, True and False are counted: gates count them too"),
        ((3, 14), "free_lists = lambda: None", "the lists of freed ints and floats are not found: the C API makes those of results"),
    ],
)  # fmt: skip
def test_facts_of_later_pythons(run: Callable[..., None], since: tuple[int, int], probe: str, lacking: str) -> None:
    if sys.version_info < since:
        pytest.skip("this version has it in no case, and nothing is said")
    run(f"""
        from callgate.runtime import probe
        probe.{probe}
        check("native")
        doctor("off layout {lacking}", "gates are machine code here", status=0)
        print("done")
    """)


LOOKS_OTHERWISE = {
    "ints": ("int", "the form of ints is unknown: the C API converts them"),
    "floats": ("float", "the form of floats is unknown: the C API converts them"),
    "bytes": ("bytes", "the size of bytes is not where expected: the C API reads them"),
    "byref()": ("type(ctypes.byref(ctypes.c_int()))", "what byref() makes is unknown: Python converts it"),
}


@pytest.mark.parametrize("fact", LOOKS_OTHERWISE)
def test_objects_that_look_otherwise(run: Callable[..., None], fact: str) -> None:
    """What is missing costs time only: each fact by itself, disguised where the probe reads memory."""
    cls, lacking = LOOKS_OTHERWISE[fact]
    run(f"""
        import ctypes
        from callgate.runtime import probe
        honest, disguised = probe._memory, {cls}
        def memory(thing, size_bytes):
            data = bytearray(honest(thing, size_bytes))
            if type(thing) is disguised:
                for position in range(probe.HEADER_BYTES, size_bytes):
                    data[position] ^= 0x55
                if disguised is bytes:
                    data[probe.HEADER_BYTES + 8:] = honest(thing, size_bytes)[probe.HEADER_BYTES + 8:]
            return bytes(data)
        probe._memory = memory
        check("native")
        said = doctor("off layout {lacking}", "gates are machine code here", status=0)
        inline = said.partition("read inline: ")[2].splitlines()[0].split(", ")
        assert "{fact}" not in inline and len(inline) == {4 + (sys.version_info >= (3, 12)) + (sys.version_info >= (3, 14))}, said
        libm = cg.load("m", "double ldexp(double x, int exponent); double modf(double x, double *whole);")
        libc = cg.load("c", "long labs(long x); unsigned long strlen(const char *s);")
        whole = ctypes.c_double()
        assert [libm.ldexp(0.75, 3), libm.ldexp(3, -1), libm.modf(2.5, whole), whole.value] == [6.0, 1.5, 0.5, 2.0]
        assert [libc.labs(-5), libc.labs(-1 << 40), libc.strlen(b"abc"), libc.strlen(b"")] == [5, 1 << 40, 3, 0]
        cdll = ctypes.CDLL("libm.so.6")
        cdll.modf.argtypes, cdll.modf.restype = [ctypes.c_double, ctypes.POINTER(ctypes.c_double)], ctypes.c_double
        cg.accelerate(cdll)
        assert (cdll.modf(3.25, ctypes.byref(whole)), whole.value) == (0.25, 3.0)
        print("done")
    """)


def test_shared_ints_that_are_no_array(run: Callable[..., None]) -> None:
    run("""
        from callgate.runtime import probe
        probe.id = lambda thing: id(thing) + (1000 if type(thing) is int and thing == 1 else 0)
        check("native")
        doctor("off layout the shared ints are not one array: the C API makes ints of results", status=0)
        print("done")
    """)


def test_a_python_of_which_nothing_is_known(run: Callable[..., None]) -> None:
    run("""
        from callgate.runtime import probe
        probe.probe_ints = probe.probe_floats = probe.probe_small_ints = probe.probe_byref = lambda: None
        probe.probe_immortals = lambda: False
        check("native")
        doctor(
            "ok layout probed-",
            "off layout the form of ints is unknown: the C API converts them",
            "off layout the form of floats is unknown: the C API converts them",
            "off layout the shared ints are not one array: the C API makes ints of results",
            "off layout what byref() makes is unknown: Python converts it",
            "gates are machine code here",
            status=0,
        )
        print("done")
    """)


def test_unsupported_platform(run: Callable[..., None]) -> None:
    """Where no machine code can be made at all."""
    run("""
        from callgate.runtime import native
        native.HOST = None
        check(served_by="ctypes")
        must_refuse("no machine code can be made for this platform yet")
        print("done")
    """)
