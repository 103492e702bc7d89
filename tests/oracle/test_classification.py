"""The call plan of random functions against gcc's callees: each value is put where the plan says, and must arrive.

A trampoline in assembly loads all argument registers and the stack as it is told and stores all result registers, so
nothing but `classify` is tested: no gate is made.  CALLGATE_PLANS is how many functions are drawn, CALLGATE_SEED the
seed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from callgate.abi.plan import Argument, CallPlan, Class, classify_types
from callgate.target import HOST, X86_64_LINUX
from fuzz.isolation import Watch, isolated
from fuzz.values import MAXIMUM_SEEN, MS_ABI, Function, as_ms_abi, functions, source

COUNT = int(os.environ.get("CALLGATE_PLANS", "2000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
BATCH = 250

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and HOST == X86_64_LINUX and hasattr(os, "fork")),
    reason="needs gcc and fork on x86-64 Linux",
)

# void call_plan(void *function, const void *registers, const void *stack, size_t stack_bytes, void *results)
# registers: rdi rsi rdx rcx r8 r9 rax, xmm0..xmm7 (8 bytes each); results: rax rdx (8 bytes each) xmm0 xmm1, then st0,
# then a byte that tells whether there is one.  What an ms_abi callee expects is among them.
TRAMPOLINE = """
__asm__(
    ".text\\n .globl call_plan\\n call_plan:\\n"
    "push %rbp\\n mov %rsp, %rbp\\n push %rbx\\n push %r12\\n push %r13\\n push %r14\\n"
    "mov %rdi, %rbx\\n mov %rsi, %r12\\n mov %r8, %r14\\n"
    "and $-64, %rsp\\n sub %rcx, %rsp\\n mov %rdx, %rsi\\n mov %rsp, %rdi\\n rep movsb\\n"
    "movsd 56(%r12), %xmm0\\n movsd 64(%r12), %xmm1\\n movsd 72(%r12), %xmm2\\n movsd 80(%r12), %xmm3\\n"
    "movsd 88(%r12), %xmm4\\n movsd 96(%r12), %xmm5\\n movsd 104(%r12), %xmm6\\n movsd 112(%r12), %xmm7\\n"
    "mov 0(%r12), %rdi\\n mov 8(%r12), %rsi\\n mov 16(%r12), %rdx\\n mov 24(%r12), %rcx\\n"
    "mov 32(%r12), %r8\\n mov 40(%r12), %r9\\n mov 48(%r12), %rax\\n"
    "call *%rbx\\n"
    "mov %rax, 0(%r14)\\n mov %rdx, 8(%r14)\\n movups %xmm0, 16(%r14)\\n movups %xmm1, 32(%r14)\\n"
    "cmpb $0, 64(%r14)\\n je 1f\\n fstpt 48(%r14)\\n 1:\\n"
    "lea -32(%rbp), %rsp\\n pop %r14\\n pop %r13\\n pop %r12\\n pop %rbx\\n pop %rbp\\n ret\\n");
"""
REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax", *(f"xmm{number}" for number in range(8)))
RESULTS = {"rax": 0, "rdx": 8, "xmm0": 16, "xmm1": 32, "st0": 48}
GARBAGE = 0xA5


def places(argument: Argument) -> list[tuple[int, int, str]]:
    """Offset in the value, size, and register of all that travels in registers."""
    if argument.pieces:
        return [(piece.offset_bytes, piece.size_bytes, piece.register) for piece in argument.pieces]
    return [(0, argument.size_bytes, argument.register)] if argument.register else []


def call(library: ctypes.CDLL, function: Function, plan: CallPlan) -> list[str]:
    registers = {name: bytes((GARBAGE,)) * 8 for name in REGISTERS}
    stack = bytearray((GARBAGE,)) * (plan.stack_bytes + 63 & ~63)
    copies = ctypes.create_string_buffer(plan.stack_bytes + 16)
    for argument, value in zip(plan.arguments, function.arguments, strict=True):
        in_registers = places(argument)
        if argument.copy_offset is not None:
            copy = (ctypes.addressof(copies) + 15 & ~15) + argument.copy_offset
            ctypes.memmove(copy, value.image, len(value.image))
            if argument.register:
                registers[argument.register] = struct.pack("<Q", copy)
            else:
                struct.pack_into("<Q", stack, argument.stack_offset, copy)
            continue
        for offset, size, register in in_registers:
            registers[register] = value.image[offset : offset + size].ljust(8, bytes((GARBAGE,)))
        if not in_registers and value.image:
            stack[argument.stack_offset : argument.stack_offset + len(value.image)] = value.image
    memory = ctypes.create_string_buffer(bytes((GARBAGE,)) * plan.result.size_bytes + bytes(64))
    memory_address = ctypes.addressof(memory) + 63 & ~63
    if plan.result_pointer:
        registers[plan.result_pointer] = struct.pack("<Q", memory_address)
    results = ctypes.create_string_buffer(bytes((GARBAGE,)) * 64 + bytes((plan.result.register == "st0",)) + bytes(8))
    seen = (ctypes.c_char * MAXIMUM_SEEN).in_dll(library, "seen")
    address = ctypes.cast(library[function.name], ctypes.c_void_p)
    library.call_plan(address, b"".join(registers.values()), bytes(stack), ctypes.c_size_t(len(stack)), results)
    problems = function.problems(seen.raw)
    if plan.result.eightbyte_class is Class.MEMORY:
        problems.append(function.result_problem(ctypes.string_at(memory_address, plan.result.size_bytes)))
        if struct.unpack("<Q", results.raw[:8])[0] != memory_address:
            problems.append("the address of the result is not in rax")
    else:
        returned = bytearray(plan.result.size_bytes)
        for offset, size, register in places(plan.result):
            returned[offset : offset + size] = results.raw[RESULTS[register] :][:size]
        problems.append(function.result_problem(bytes(returned)))
    if ctypes.c_ubyte.in_dll(library, "misaligned").value:
        problems.append("the stack was not aligned to 16 bytes")
    return [problem for problem in problems if problem]


def problems_in(path: Path, batch: Sequence[Function], watch: Watch) -> dict[int, str]:
    library = ctypes.CDLL(str(path))
    found = {}
    for index, function in enumerate(batch):
        watch(index)
        target = MS_ABI if function.attribute else X86_64_LINUX
        plan = classify_types([value.ctype for value in function.arguments], function.result_type, target)
        if problems := call(library, function, plan):
            found[index] = "\n".join([*problems, str(plan)])
    return found


def built(batch: Sequence[Function], directory: Path, optimization: int) -> dict[int, str]:
    with TemporaryDirectory(dir=directory) as folder:
        text, path = Path(folder, "callees.c"), Path(folder, "callees.so")
        text.write_text(source(batch) + TRAMPOLINE)
        command = ["gcc", f"-O{optimization}", "-w", "-Wno-psabi", "-shared", "-fPIC", "-o", str(path), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[:4000]
        return isolated(lambda watch: problems_in(path, batch, watch))


def smallest(function: Function, directory: Path, optimization: int) -> tuple[Function, str]:
    """The function without the arguments that it fails without."""
    problem = built([function], directory, optimization).get(0, "")
    candidates = [replace(function, result=None)]
    index = len(function.arguments)
    while problem and (candidates or index):
        if not candidates:
            index -= 1
            rest = function.arguments[:index] + function.arguments[index + 1 :]
            candidates = [replace(function, arguments=rest)]
        candidate = candidates.pop()
        if still := built([candidate], directory, optimization).get(0):
            function, problem = candidate, still
    return function.without_unused_records(), problem


@pytest.mark.parametrize("convention", ["sysv", "ms_abi"])
@pytest.mark.parametrize("has_wide", [False, True])
def test_values_arrive_where_the_plan_says(has_wide: bool, convention: str, tmp_path: Path) -> None:
    for number, done in enumerate(range(0, COUNT // 2, BATCH)):
        seed = SEED + number
        batch = functions(seed, min(BATCH, COUNT // 2 - done), has_wide=has_wide)
        if convention == "ms_abi":
            batch = as_ms_abi(batch)
        found = built(batch, tmp_path, 2 * (number % 2))
        reports = []
        for index, problem in sorted(found.items())[:3]:
            small, words = smallest(batch[index], tmp_path, 2 * (number % 2))
            reports.append(f"{small.records}{small.prototype}\n{words or problem}")
        assert not found, f"{len(found)} of CALLGATE_SEED={seed}:\n" + "\n\n".join(reports)
