"""AArch64: processors see new instructions where old ones were run, because the instruction cache is cleared.

Hardware may get away without; qemu from 10 on keeps what it has translated until a program clears the cache.
"""

from __future__ import annotations

import os

import pytest
from children import run_child

from callgate.target import DATA_MODEL

pytestmark = pytest.mark.skipif(DATA_MODEL.architecture != "aarch64", reason="x86-64's caches see every write")

PROGRAM = """
    import ctypes, sys
    from callgate.asm.aarch64.assembler import Assembler
    from callgate.runtime import linux_memory
    if sys.argv[1] == "never cleared":
        linux_memory._flush = lambda address, size_bytes: None
    from callgate.runtime.code_memory import CodeMemory
    memory = CodeMemory(tuple(rung for rung in linux_memory.LADDER if rung.name == sys.argv[2]))
    addresses, results = set(), []
    for number in range(50):
        a = Assembler()
        a.movz_x(0, number)
        a.ret_lr()
        block = memory.publish(a.finish(), lambda symbol: 0)
        addresses.add(block.address)
        results.append(ctypes.CFUNCTYPE(ctypes.c_long)(block.address)())
        del block
    assert len(addresses) == 1, addresses
    print(results == list(range(50)))
"""


@pytest.mark.parametrize("rung", ["memfd", "file"])
def test_new_instructions_are_seen(rung: str) -> None:
    assert run_child(PROGRAM, "cleared", rung) == ("True\n", "")


def test_a_missing_flush_is_noticed() -> None:
    """The test above can fail: this machine shows it where nothing is cleared."""
    if "QEMU_CPU" not in os.environ:
        pytest.skip("hardware may see new instructions without being told")
    assert run_child(PROGRAM, "never cleared", "memfd") == ("False\n", "")
