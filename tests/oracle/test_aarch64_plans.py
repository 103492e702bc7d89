"""The call plans of 64-bit Arm against callees that compilers build, run by qemu: each value is put where the plan says.

gcc builds them for Linux, Zig's clang for macOS: what it makes is linked for Linux and run there, calls are calls.

A program for Arm reads what registers and stack shall hold at each call, puts it there and writes down what the callee
saw and which registers came back: nothing but `classify` is tested, no gate is made.  CALLGATE_PLANS is how many
functions are drawn, CALLGATE_SEED the seed.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from callgate.abi.plan import Argument, CallPlan, classify_types
from callgate.target import AARCH64_LINUX, AARCH64_MACOS, HOST, X86_64_LINUX, Target
from fuzz.values import Function, as_aarch64, functions, source
from oracle.mach_o import as_elf, zig_compiler

COUNT = int(os.environ.get("CALLGATE_PLANS", "2000")) // 4
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
BATCH = 250
COMPILER = "aarch64-linux-gnu-gcc"
QEMU = "qemu-aarch64"

# struct call, then the registers x0 to x8 and (16 bytes each) v0 to v7, then the stack, then fixups: where the address
# of something on the stack is wanted, or (-1) that of the memory for the result
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern unsigned char seen[], misaligned;
extern void call_plan(void *function, void *registers, void *stack, void *results);
__asm__(
    ".text\n .globl call_plan\n call_plan:\n"
    "stp x29, x30, [sp, -48]!\n stp x19, x20, [sp, 16]\n str x21, [sp, 32]\n mov x19, sp\n mov x20, x3\n"
    "mov sp, x2\n mov x16, x0\n mov x17, x1\n"
    "ldp q0, q1, [x17, 80]\n ldp q2, q3, [x17, 112]\n ldp q4, q5, [x17, 144]\n ldp q6, q7, [x17, 176]\n"
    "ldp x0, x1, [x17]\n ldp x2, x3, [x17, 16]\n ldp x4, x5, [x17, 32]\n ldp x6, x7, [x17, 48]\n ldr x8, [x17, 64]\n"
    "blr x16\n"
    "stp x0, x1, [x20]\n stp q0, q1, [x20, 16]\n stp q2, q3, [x20, 48]\n"
    "mov sp, x19\n ldr x21, [sp, 32]\n ldp x19, x20, [sp, 16]\n ldp x29, x30, [sp], 48\n ret\n");

struct call { int function, stack_bytes, fixups, seen_bytes, memory_bytes; };
struct fixup { int at, offset; };
static unsigned char registers[208] __attribute__((aligned(16)));
static unsigned char results[80] __attribute__((aligned(16)));
static unsigned char memory[1 << 16] __attribute__((aligned(64)));
static unsigned char room[1 << 20] __attribute__((aligned(64)));

static void need(void *to, size_t size, FILE *file)
{
    if (size && fread(to, size, 1, file) != 1)
        abort();
}

int main(int count, char **names)
{
    FILE *calls = fopen(names[1], "rb");
    struct call call;
    while (fread(&call, sizeof call, 1, calls) == 1) {
        unsigned char *stack = room + sizeof room - call.stack_bytes;
        need(registers, sizeof registers, calls);
        need(stack, call.stack_bytes, calls);
        memset(memory, 0xA5, sizeof memory);
        while (call.fixups--) {
            struct fixup fixup;
            need(&fixup, sizeof fixup, calls);
            unsigned char *at = fixup.at < 208 ? registers + fixup.at : stack + fixup.at - 208;
            void *address = fixup.offset < 0 ? memory : stack + fixup.offset;
            memcpy(at, &address, 8);
        }
        call_plan(callees[call.function], registers, stack, results);
        fwrite(&misaligned, 1, 1, stdout);
        fwrite(seen, call.seen_bytes, 1, stdout);
        fwrite(results, sizeof results, 1, stdout);
        fwrite(memory, call.memory_bytes, 1, stdout);
        fflush(stdout);
    }
    return 0;
}
"""
REGISTER_BYTES = 208
PLACES = {f"x{number}": 8 * number for number in range(9)} | {f"v{number}": 80 + 16 * number for number in range(8)}
RESULTS = {"x0": 0, "x1": 8, **{f"v{number}": 16 + 16 * number for number in range(4)}}
RESULT_BYTES = 80
GARBAGE = b"\xa5"
MORE_SEEN = 16
"""How many bytes after the arguments are looked at: nothing may be there."""

pytestmark = pytest.mark.skipif(
    not (HOST == X86_64_LINUX and shutil.which(COMPILER) and shutil.which(QEMU)),
    reason=f"needs {COMPILER} and {QEMU} on x86-64 Linux",
)


def parts(argument: Argument) -> list[tuple[int, int, str]]:
    """Offset in the value, size, and register of all that travels in registers."""
    if argument.pieces:
        return [(piece.offset_bytes, piece.size_bytes, piece.register) for piece in argument.pieces]
    return [(0, argument.size_bytes, argument.register)] if argument.register else []


def call_text(index: int, function: Function, plan: CallPlan) -> bytes:
    """What the program reads for one call."""
    area = bytearray(GARBAGE * (REGISTER_BYTES + plan.stack_bytes))
    fixups = []
    for argument, value in zip(plan.arguments, function.arguments, strict=True):
        if argument.copy_offset is not None:
            at = PLACES[argument.register] if argument.register else REGISTER_BYTES + argument.stack_offset
            fixups.append((at, argument.copy_offset))
            start = REGISTER_BYTES + argument.copy_offset
            area[start : start + len(value.image)] = value.image
        elif in_registers := parts(argument):
            for offset, size, register in in_registers:
                area[PLACES[register] : PLACES[register] + size] = value.image[offset : offset + size]
        elif value.image:
            start = REGISTER_BYTES + argument.stack_offset
            area[start : start + len(value.image)] = value.image
    if plan.result_pointer:
        fixups.append((PLACES[plan.result_pointer], -1))
    assert len(area) == REGISTER_BYTES + plan.stack_bytes, "the plan's stack area is too small"
    head = struct.pack("<5i", index, plan.stack_bytes, len(fixups), seen_bytes(function), plan.result.size_bytes)
    return head + bytes(area) + b"".join(struct.pack("<2i", *fixup) for fixup in fixups)


def seen_bytes(function: Function) -> int:
    return sum(len(value.image) for value in function.arguments) + MORE_SEEN


def problems_of(function: Function, plan: CallPlan, answer: bytes) -> list[str]:
    """What the program's answer to a call shows to be wrong."""
    end = 1 + seen_bytes(function)
    seen, results, memory = answer[1:end], answer[end : end + RESULT_BYTES], answer[end + RESULT_BYTES :]
    problems = function.problems(seen)
    if answer[0]:
        problems.append("the stack was not aligned to 16 bytes")
    returned = bytearray(plan.result.size_bytes)
    for offset, size, register in parts(plan.result):
        returned[offset : offset + size] = results[RESULTS[register] :][:size]
    problems.append(function.result_problem(memory if plan.result_pointer else bytes(returned)))
    return [problem for problem in problems if problem]


def build(batch: Sequence[Function], directory: Path, target: Target, optimization: int) -> Path:
    """The program with the callees of a batch."""
    callees, text, assembly = directory / "callees.c", directory / "program.c", directory / "callees.s"
    callees.write_text(source(batch))
    names = [function.name for function in batch]
    declared = "".join(f"extern char {name}[];\n" for name in names)
    text.write_text(f"{declared}static void *const callees[] = {{ {', '.join(names)} }};\n{PROGRAM}")
    compiler: tuple[str, ...] = (COMPILER, "-Wno-psabi")
    if target is AARCH64_MACOS:
        compiler = (*zig_compiler("aarch64-macos"), "-mllvm", "-aarch64-neon-syntax=generic")
    run(*compiler, f"-O{optimization}", "-w", "-S", "-o", assembly, callees)
    if target is AARCH64_MACOS:
        assembly.write_text(as_elf(assembly.read_text("latin-1")), "latin-1")
    run(COMPILER, "-w", "-fno-builtin", "-static", "-o", directory / "program", text, assembly)
    return directory / "program"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]


def check(batch: Sequence[Function], directory: Path, target: Target, optimization: int) -> list[str]:
    """Build and run a batch; a report for each function that fails, the shortest first."""
    program, calls = build(batch, directory, target, optimization), directory / "calls"
    plans = [
        classify_types([value.ctype for value in function.arguments], function.result_type, target)
        for function in batch
    ]
    pairs = list(zip(batch, plans, strict=True))
    calls.write_bytes(b"".join(call_text(index, *pair) for index, pair in enumerate(pairs)))
    ran = subprocess.run([QEMU, program, calls], capture_output=True, check=False)
    reports = []
    start = 0
    for function, plan in pairs:
        size = 1 + seen_bytes(function) + RESULT_BYTES + plan.result.size_bytes
        answer = ran.stdout[start : start + size]
        start += size
        problems = problems_of(function, plan, answer) if len(answer) == size else ["the program died"]
        if problems:
            small = function.without_unused_records()
            reports.append("\n".join([small.records + small.prototype, *problems, str(plan)]))
        if len(answer) < size:
            break
    return sorted(reports, key=len)


@pytest.mark.parametrize("has_wide", [False, True])
@pytest.mark.parametrize("target", [AARCH64_LINUX, AARCH64_MACOS], ids=lambda target: target.name)
def test_values_arrive_where_the_plan_says(target: Target, has_wide: bool, tmp_path: Path) -> None:
    for number, done in enumerate(range(0, COUNT, BATCH)):
        seed = SEED + number
        batch = as_aarch64(functions(seed, min(BATCH, COUNT - done), has_wide=has_wide), target)
        reports = check(batch, tmp_path, target, 2 * (number % 2))
        assert not reports, f"{len(reports)} of CALLGATE_SEED={seed}:\n" + "\n\n".join(reports[:3])
