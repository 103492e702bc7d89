"""CALLGATE_CHECK=1: a C function that does not bring back the caller's registers or stack pointer is reported by name."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import run_child
from here import IS_WINDOWS

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the callees are assembly of x86-64"
)

CALLEES = r"""
#include <errno.h>
#ifdef _WIN32
#define CALLEE(name, text) __asm__(".globl " #name "\n" #name ":\n" text)
#define FIRST "%rcx"
#define HOME "32"
#else
#define CALLEE(name, text) __asm__(".globl " #name "\n.type " #name ", @function\n" #name ":\n" text)
#define FIRST "%rdi"
#define HOME "0"
#endif
CALLEE(clobbers_rbx, "lea 1(" FIRST "), %rax; xor %ebx, %ebx; ret");
CALLEE(clobbers_two, "mov " FIRST ", %rax; mov $7, %ebp; mov $8, %r15d; ret");
CALLEE(clobbers_five, "mov $7, %ebx; mov $7, %ebp; mov $7, %r12d; mov $7, %r13d; mov $7, %r14d; ret");
CALLEE(clobbers_all, "xor %ebx, %ebx; xor %ebp, %ebp; xor %r12d, %r12d; mov %r12, %r13; mov %r12, %r14; mov %r12, %r15; ret");
CALLEE(clobbers_string_registers, "mov $7, %esi; mov $7, %edi; ret");
CALLEE(takes_arguments_off, "mov $3, %eax; ret $16");
CALLEE(leaves_arguments, "pop %rcx; sub $64, %rsp; mov $3, %eax; jmp *%rcx");
CALLEE(does_both, "xor %ebx, %ebx; ret $8");
CALLEE(clobbers_last, "xor %r15d, %r15d; ret $8");
CALLEE(long_double, "fld1; xor %ebx, %ebx; ret");
CALLEE(floats, "sqrtsd %xmm0, %xmm0; xor %r12d, %r12d; ret");
CALLEE(keeps_all, "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; xor %ebx, %ebx; xor %ebp, %ebp;"
       "xor %r12d, %r12d; xor %r13d, %r13d; xor %r14d, %r14d; xor %r15d, %r15d;"
       "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; lea 2(" FIRST "), %rax; ret");
/* Calls back, then forgets rbx. */
CALLEE(calls_back, "push %rbx; sub $" HOME ", %rsp; call *" FIRST "; add $" HOME ", %rsp; pop %rcx; xor %ebx, %ebx; ret");
typedef long long word;
struct big { word words[5]; };
struct big big_result(word x) { struct big b = {{x, x, x, x, x}}; return b; }
word many(word a, word b, word c, word d, word e, word f, word g, double h) { return a + b + c + d + e + f + g + h; }
word fails(word x) { errno = 5; return -x; }
"""

PREAMBLE = """
    import sys
    import callgate as cg
    from collections.abc import Callable
    from callgate import i32, i64, f64
    library = cg.load(sys.argv[1], engine=sys.argv[2])
    def reported(function, *given):
        # what is kept in registers across the call must be whole afterwards
        kept = [object() for _ in range(4)]
        total = 0
        for number in range(50):
            try:
                function(*given)
            except cg.ConventionError as problem:
                total += number
            else:
                raise SystemExit("nothing reported")
        assert total == sum(range(50)) and len(kept) == 4
        try:
            function(*given)
        except RuntimeError as problem:
            print(problem)
    def bind(name, annotations="(x: i64) -> i64", **options):
        scope = dict(globals())
        exec(f"def {name}{annotations}: ...", scope)
        return library.function(**options)(scope[name])
"""


@pytest.fixture
def checked(build_library: Callable[..., Path], tmp_path: Path) -> Callable[..., list[str]]:
    path = build_library(CALLEES)

    def run(program: str, engine: str = "native", check: str = "1") -> list[str]:
        out, error = run_child(dedent(PREAMBLE) + dedent(program), str(path), engine, CALLGATE_CHECK=check)
        assert not error
        return [line.replace(path.name, "LIBRARY").replace(str(path.parent) + "/", "") for line in out.splitlines()]

    return run


CONVENTION = "win64" if IS_WINDOWS else "sysv"
END = f": it does not follow the calling convention {CONVENTION}. Compile it for that, or see whether this is the function that is meant"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("clobbers_rbx", "did not bring back rbx"),
        ("clobbers_two", "did not bring back rbp, r15"),
        ("clobbers_five", "did not bring back rbx, rbp, r12, r13, r14"),
        ("clobbers_all", "did not bring back rbx, rbp, r12, r13, r14, r15"),
        ("takes_arguments_off", "left the stack pointer 16 bytes above where it was"),
        ("leaves_arguments", "left the stack pointer 64 bytes below where it was"),
        ("does_both", "left the stack pointer 8 bytes above where it was and did not bring back rbx"),
        ("clobbers_last", "left the stack pointer 8 bytes above where it was and did not bring back r15"),
    ],
)
def test_reported_by_name(checked: Callable[..., list[str]], name: str, problem: str) -> None:
    """On the inline path, the slow path, with the GIL released, with errno kept."""
    told = checked(f"""
        reported(bind("{name}"), 5)
        reported(bind("{name}"), True)
        reported(bind("{name}", blocking=True), 5)
        reported(bind("{name}", fails_if="negative"), 5)
    """)
    assert told == [f"{name}() of LIBRARY {problem}{END}"] * 4


@pytest.mark.skipif(not IS_WINDOWS, reason="callees of System V may change rsi and rdi")
def test_what_only_windows_wants_back(checked: Callable[..., list[str]]) -> None:
    told = checked('reported(bind("clobbers_string_registers"), 5)')
    assert told == [f"clobbers_string_registers() of LIBRARY did not bring back rsi, rdi{END}"]


def test_other_results_and_arguments(checked: Callable[..., list[str]]) -> None:
    told = checked("""
        from callgate import load
        reported(bind("floats", "(x: f64) -> f64"), 2.0)
        reported(bind("floats", "(x: i64, text: cg.cstr, out: cg.Out[i64]) -> None"), 1, b"some text")
        text = load(sys.argv[1], "long double long_double(void);", engine=sys.argv[2])
        reported(text.long_double)
        import ctypes
        old = ctypes.CDLL(sys.argv[1])
        old.clobbers_rbx.argtypes = [ctypes.c_long]
        assert cg.accelerate(old).fast
        reported(old.clobbers_rbx, 4)
        reported(bind("clobbers_rbx", "(x: i64, *rest: cg.VarArg) -> i64"), 1, 2, 0.5)
    """)
    assert [line.split(" of ")[0] for line in told] == [
        "floats()",
        "floats()",
        "long_double()",
        "clobbers_rbx()",
        "clobbers_rbx()",
    ]
    assert all("did not bring back" in line for line in told)


def test_what_follows_the_convention_is_not_reported(checked: Callable[..., list[str]]) -> None:
    told = checked("""
        class big(cg.Struct):
            words: cg.Array[i64] = cg.field(length=5)
        for blocking in (False, True):
            print(bind("keeps_all", blocking=blocking)(4), bind("keeps_all", blocking=blocking)(x=True))
        print(list(bind("big_result", "(x: i64) -> big")(3).words))
        names = "abcdefg"
        print(bind("many", "(" + ", ".join(f"{n}: i64" for n in names) + ", h: f64) -> i64")(1, 2, 3, 4, 5, 6, 7, 8.0))
        try:
            bind("fails", fails_if="negative")(3)
        except OSError as problem:
            print(problem.errno)
        for wrong in (("x",), (), (1, 2), (1 << 70,)):
            try:
                bind("keeps_all")(*wrong)
            except (TypeError, OverflowError) as problem:
                print(type(problem).__name__)
    """)
    assert told == ["6 3", "6 3", "[3, 3, 3, 3, 3]", "36", "5", "TypeError", "TypeError", "TypeError", "OverflowError"]


def test_the_exception_of_a_callback_comes_first(checked: Callable[..., list[str]]) -> None:
    told = checked("""
        calls_back = bind("calls_back", "(f: Callable[[], i32]) -> i32")
        def fail():
            raise KeyError("from the callback")
        for _ in range(3):
            try:
                calls_back(fail)
            except KeyError as problem:
                print(problem)
        reported(calls_back, lambda: 5)
    """)
    assert told == ["'from the callback'"] * 3 + [f"calls_back() of LIBRARY did not bring back rbx{END}"]


@pytest.mark.parametrize(("engine", "check"), [("native", "0"), ("native", ""), ("ctypes", "1")])
def test_only_on_request_and_by_machine_code(checked: Callable[..., list[str]], engine: str, check: str) -> None:
    told = checked('print(bind("keeps_all")(4), cg.gate(bind("keeps_all")).listing.count("changed"))', engine, check)
    assert told == ["6 0"]
