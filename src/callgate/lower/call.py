"""lower_call: a call plan and its conversions become the machine code of a gate."""

from __future__ import annotations

from callgate.abi.plan import CallPlan
from callgate.asm.code import Code
from callgate.cpython.conversion import Conversion
from callgate.lower.machine import Machine, check_code_is_made
from callgate.lower.operations import load, operations
from callgate.target import Target


def lower_call(plan: CallPlan, conversion: Conversion, machine: Machine, *, with_listing: bool = False) -> Code:
    """The trampoline for all functions of one shape; its entry is the METH_FASTCALL | METH_KEYWORDS signature.

    The code is position-independent and knows no address: symbols are relocations, the C function's address and
    everything else that belongs to one gate is read from the gate's data.
    """
    check_code_is_made(machine)
    code: Code = load("gate", "lower_gate")(plan, conversion, machine, with_listing=with_listing)
    return code


def accept_bytes(target: Target) -> int:
    """How far behind its entry machine code enters a gate, with arguments as the lowering has them."""
    return operations(target).accept_bytes
