"""Register numbers and names of AArch64 (Arm ARM C1.2.5, AAPCS64 6.1.1)."""

from __future__ import annotations

from typing import Final

IP0: Final = 16
"""The two registers that code between a call and its callee may change; here scratch of single operations."""
IP1: Final = 17
LR: Final = 30
SP: Final = 31
"""In most places; elsewhere 31 is the zero register."""
ZR: Final = 31

NAMES_64: Final = (*(f"x{number}" for number in range(31)), "xzr")
NAMES_32: Final = (*(f"w{number}" for number in range(31)), "wzr")
NAMES_64_SP: Final = (*NAMES_64[:31], "sp")
NAMES_D: Final = tuple(f"d{number}" for number in range(32))
NAMES_S: Final = tuple(f"s{number}" for number in range(32))
NAMES_Q: Final = tuple(f"q{number}" for number in range(32))
