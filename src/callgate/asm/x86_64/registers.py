"""Register numbers and names of x86-64 (Intel SDM volume 2, table 2-2 and 3.1.1.1)."""

from __future__ import annotations

from typing import Final

RAX: Final = 0
RCX: Final = 1
RDX: Final = 2
RBX: Final = 3
RSP: Final = 4
RBP: Final = 5
RSI: Final = 6
RDI: Final = 7
R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
R14: Final = 14
R15: Final = 15
XMM0: Final = 0
XMM1: Final = 1

NAMES_64: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
NAMES_32: Final = (
    *("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"),
    *("r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"),
)
NAMES_16: Final = (
    *("ax", "cx", "dx", "bx", "sp", "bp", "si", "di"),
    *("r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"),
)
NAMES_8: Final = (
    *("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"),
    *("r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"),
)
NAMES_XMM: Final = tuple(f"xmm{number}" for number in range(16))
