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
                print("not supported")
                sys.exit(0)
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

    path = sys.argv[1]
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
def run(build_library: Callable[..., Path]) -> Callable[..., None]:
    path = str(build_library(WAITING))

    def run(program: str, **environment: str) -> None:
        out, _ = run_child(dedent(PREAMBLE) + dedent(program), path, **environment)
        if out.strip() == "not supported":
            pytest.skip("this kernel does not know the restriction")
        assert out.split() == ["done"]

    return run


def test_nothing_refused(run: Callable[..., None]) -> None:
    run("""
        check()
        assert memory() == "memfd"
        no_page_is_both()
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
        forbid_executable_memory()
        check(served_by="ctypes")
        must_refuse("executable memory is refused here (memfd: [Errno 13] Permission denied; anonymous pages: [Errno 13] mprotect: ")
        check("ctypes", "ctypes")
        assert memory() == ""
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


def test_unsupported_platform(run: Callable[..., None]) -> None:
    """Where no machine code can be made at all."""
    run("""
        from callgate.runtime import native
        native.HOST = None
        check(served_by="ctypes")
        must_refuse("no machine code can be made for this platform yet")
        print("done")
    """)
