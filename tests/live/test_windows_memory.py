"""Executable memory of Windows where it runs: each rung gives code that runs, and none is writable where it is executed."""

from __future__ import annotations

import ctypes
import struct

import pytest

from callgate.asm.code import Code, Relocation
from callgate.runtime.code_memory import ARENA_BYTES, CodeMemory
from callgate.target import IS_WINDOWS

if not IS_WINDOWS:
    pytest.skip("the memory is that of Windows", allow_module_level=True)

from callgate.runtime.windows_memory import LADDER

PAGE_EXECUTE_READ = 0x20


class Region(ctypes.Structure):
    """MEMORY_BASIC_INFORMATION of winnt.h."""

    _fields_ = (
        ("base", ctypes.c_void_p),
        ("allocation", ctypes.c_void_p),
        ("first_protection", ctypes.c_uint32),
        ("partition", ctypes.c_uint16),
        ("size_bytes", ctypes.c_size_t),
        ("state", ctypes.c_uint32),
        ("protection", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
    )


def protection(address: int) -> int:
    region = Region()
    query = ctypes.WinDLL("kernel32").VirtualQuery
    query.argtypes, query.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_size_t
    assert query(address, ctypes.addressof(region), ctypes.sizeof(region))
    return int(region.protection)


def loading(symbol: str) -> Code:
    """mov rax, [rip + symbol@GOTPCREL]; ret."""
    return Code(b"\x48\x8b\x05\0\0\0\0\xc3", (Relocation(3, "R_X86_64_GOTPCREL", symbol, -4),), {})


def returning(value: int, size_bytes: int) -> Code:
    """mov eax, value; ret; filled up with int3."""
    return Code((b"\xb8" + struct.pack("<I", value) + b"\xc3").ljust(size_bytes, b"\xcc"), (), {})


def call(address: int) -> int:
    result: int = ctypes.CFUNCTYPE(ctypes.c_int64)(address)()
    return result


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
def test_a_rung(rung: object) -> None:
    memory = CodeMemory((rung,))  # type: ignore[arg-type]
    blocks = [memory.publish(loading(str(value)), int) for value in range(300)]
    blocks += [memory.publish(returning(value, value), int) for value in range(300, 900)]
    blocks.append(memory.publish(returning(900, ARENA_BYTES), int))
    assert [call(block.address) for block in blocks] == list(range(901))
    assert {protection(block.address) for block in blocks} == {PAGE_EXECUTE_READ}
    assert len({block.address for block in blocks}) == 901
    addresses = [block.address for block in blocks[:-1:2]]
    del blocks[:-1:2]
    more = [memory.publish(returning(value, 40), int) for value in range(1000, 1300)]
    assert [call(block.address) for block in more] == list(range(1000, 1300))
    if rung is LADDER[0]:
        assert set(addresses) & {block.address for block in more}  # memory is used again
    assert [call(block.address) for block in blocks] == [*range(1, 901, 2), 900]
