"""CALLGATE_CHECK=1 on 64-bit Arm: `test_check` there, with callees of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from children import run_child

from callgate.target import AARCH64_LINUX, HOST

pytestmark = pytest.mark.skipif(HOST != AARCH64_LINUX, reason="the callees are assembly of AArch64")

CALLEES = r"""
#define CALLEE(name, text) __asm__(".globl " #name "\n.type " #name ", @function\n" #name ":\n" text)
CALLEE(clobbers_x19, "add x0, x0, 1; mov x19, 0; ret");
CALLEE(clobbers_some, "mov x20, 7; mov x25, 8; mov x28, 9; ret");
CALLEE(clobbers_frame, "mov x29, 0; ret");
CALLEE(clobbers_all, "mov x19, 0; mov x20, 0; mov x21, 0; mov x22, 0; mov x23, 0; mov x24, 0; mov x25, 0; mov x26, 0;"
       "mov x27, 0; mov x28, 0; mov x29, 0; ret");
CALLEE(takes_too_much, "add sp, sp, 16; ret");
CALLEE(leaves_some, "sub sp, sp, 64; ret");
CALLEE(does_both, "sub sp, sp, 32; mov x24, 0; ret");
CALLEE(long_double, "mov x26, 0; ret");
CALLEE(floats, "fsqrt d0, d0; mov x27, 0; ret");
CALLEE(calls_back, "stp x19, x30, [sp, -16]!; blr x0; ldp x19, x30, [sp], 16; mov x21, 0; ret");
CALLEE(keeps_all, "stp x19, x20, [sp, -96]!; stp x21, x22, [sp, 16]; stp x23, x24, [sp, 32]; stp x25, x26, [sp, 48];"
       "stp x27, x28, [sp, 64]; stp x29, x30, [sp, 80]; mov x19, 0; mov x25, 0; mov x29, 0;"
       "ldp x21, x22, [sp, 16]; ldp x23, x24, [sp, 32]; ldp x25, x26, [sp, 48]; ldp x27, x28, [sp, 64];"
       "ldp x29, x30, [sp, 80]; ldp x19, x20, [sp], 96; add x0, x0, 2; ret");
struct big { long words[5]; };
struct big big_result(long x) { struct big b = {{x, x, x, x, x}}; return b; }
long many(long a, long b, long c, long d, long e, long f, long g, long h, long i, double j)
{ return a + b + c + d + e + f + g + h + i + j; }
"""

PREAMBLE = """
    import sys
    import callgate as cg
    from collections.abc import Callable
    from callgate import i32, i64, f64
    library = cg.load(sys.argv[1], engine="native")
    def reported(function, *given):
        # what is kept in registers across the call must be whole afterwards
        kept = [object() for _ in range(4)]
        for number in range(5):
            try:
                function(*given)
            except cg.ConventionError as problem:
                told = str(problem)
            else:
                raise SystemExit("nothing reported")
        assert len(kept) == 4
        print(told.partition(": it does not follow the calling convention aapcs64. ")[0].partition(".so ")[2])
    def bind(name, annotations="(x: i64) -> i64", **options):
        scope = dict(globals())
        exec(f"def {name}{annotations}: ...", scope)
        return library.function(**options)(scope[name])
"""


@pytest.fixture
def checked(build_library: Callable[..., Path]) -> Callable[[str], list[str]]:
    path = build_library(CALLEES)

    def run(program: str) -> list[str]:
        out, error = run_child(dedent(PREAMBLE) + dedent(program), str(path), CALLGATE_CHECK="1")
        assert not error
        return out.splitlines()

    return run


def test_reported_by_name(checked: Callable[[str], list[str]]) -> None:
    """On the inline path, the slow path, with the GIL released and errno kept."""
    problems = {
        "clobbers_x19": "did not bring back x19",
        "clobbers_some": "did not bring back x20, x25, x28",
        "clobbers_frame": "did not bring back x29",
        "clobbers_all": "did not bring back " + ", ".join(f"x{number}" for number in range(19, 30)),
        "takes_too_much": "left the stack pointer 16 bytes above where it was",
        "leaves_some": "left the stack pointer 64 bytes below where it was",
        "does_both": "left the stack pointer 32 bytes below where it was and did not bring back x24",
    }
    told = checked(f"""
        for name in {list(problems)}:
            reported(bind(name), 5)
            reported(bind(name), True)
            reported(bind(name, blocking=True, fails_if="negative"), 5)
    """)
    assert told == [problem for problem in problems.values() for _ in range(3)]


def test_other_results_and_what_keeps_to_the_convention(checked: Callable[[str], list[str]]) -> None:
    told = checked("""
        reported(bind("floats", "(x: f64) -> f64"), 2.0)
        reported(bind("floats", "(x: i64, text: cg.cstr, out: cg.Out[i64]) -> None"), 1, b"some text")
        reported(cg.load(sys.argv[1], "long double long_double(void);", engine="native").long_double)
        reported(bind("calls_back", "(f: Callable[[], i64]) -> i64"), lambda: 3)
        print(bind("keeps_all")(40))
        text = "struct big { long words[5]; }; struct big big_result(long x);"
        print(list(cg.load(sys.argv[1], text, engine="native").big_result(7).words))
        print(bind("many", "(a: i64, b: i64, c: i64, d: i64, e: i64, f: i64, g: i64, h: i64, i: i64, j: f64) -> i64")(
            *range(9), 0.5))
        print(bind("keeps_all", stack_bytes=1 << 16)(40))
    """)
    assert told[:4] == [f"did not bring back {name}" for name in ("x27", "x27", "x26", "x21")]
    assert told[4:] == ["42", "[7, 7, 7, 7, 7]", "36", "42"]
