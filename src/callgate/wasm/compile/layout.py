"""Where compiled code finds things: registers, the vmctx of an instance, the activation of a call from C, records.

    rbx   vmctx: the instance's words, below          r14   activation: the frame of the call that came from C
    r15   the memory's first byte                     rsp   the function's frame (drawn in `frame`)

    rax rcx rdx rsi rdi, xmm0-xmm5   values of the operand stack; a call may change them
    rbp r8-r13                       integer locals, whoever uses one brings it back
    xmm6-xmm15                       float and vector locals, stored by the caller around calls

vmctx, 8-byte words:

    MEMORY_BYTES   size of memory 0        MEMORY_BASE     its address
    COUNTER        polls until the slow path (32 bits)
    POLL, TRAP     addresses of the stubs  MOVE, FILL      of those of memory.copy and memory.fill
    LAZY           address of the stub that has a function compiled
    LIMITS         by extent: the lowest address that an access of so many bytes must not have
    then           imports                 16 bytes each: code, vmctx to call it with
                   tables                  16 bytes each: address of the elements, their number
                   globals                 16 bytes each: the value, or the address of a mutable imported one's
                   type ids                4 bytes each, by type index
                   function records        48 bytes each: what a funcref points to (RECORD_...)

A call from C (an *entry*) puts an activation on the stack: the lowest address that Wasm frames may use, and above it
what unwinding restores.  So a trap needs no more than r14 to leave, whatever instances' functions lie between.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from callgate.asm.x86_64.registers import R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI
from callgate.wasm.binary import ModuleData
from callgate.wasm.errors import TRAPS
from callgate.wasm.types import PAGE_BYTES, V128, FuncType

VMCTX: Final = RBX
ACTIVATION: Final = R14
MEMORY: Final = R15
TEMPORARIES: Final = (RAX, RCX, RDX, RSI, RDI)
PINS: Final = (RBP, R12, R13, R8, R9, R10, R11)
XMM_TEMPORARIES: Final = (0, 1, 2, 3, 4, 5)
XMM_PINS: Final = (6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

MEMORY_BYTES: Final = 0
MEMORY_BASE: Final = 8
COUNTER: Final = 16
POLL: Final = 24
TRAP: Final = 32
MOVE: Final = 40
FILL: Final = 48
THREAD: Final = 56
"""The thread pointer of the thread that last entered."""
STACK_LOW: Final = 64
"""The lowest address that Wasm frames may use on that thread."""
STACK_BYTES: Final = 72
"""How much a call from C may use of it."""
DEPTH: Final = 80
"""How many entries are open."""
ENTRIES: Final = 88
"""How many calls came from C while none was open."""
LIMITS: Final = 96
"""The first of LIMIT_COUNT words: how large the memory is, less the extent (offset and size) of an access, plus one."""
LIMIT_COUNT: Final = 129
LAZY: Final = LIMITS + 8 * LIMIT_COUNT
"""The address of the stub for functions that are not compiled yet."""
FIRST_IMPORT: Final = -(-(LAZY + 8) // 16) * 16

IMPORT_CODE: Final = 0
IMPORT_VMCTX: Final = 8
RECORD_BYTES: Final = 48
RECORD_CODE: Final = 0
RECORD_VMCTX: Final = 8
RECORD_TYPE: Final = 16
RECORD_COMPILED: Final = 24
"""Of a lazily compiled function: its code, or 0; RECORD_CODE is that of its stub until then."""
RECORD_HOME: Final = 32
"""The vmctx of the instance that the record is in, whoever's the function is."""

ACTIVATION_LIMIT: Final = 0
"""Of the activation: the lowest address of the stack that Wasm frames may use."""

TRAP_NUMBERS: Final = {trap: number for number, trap in enumerate(TRAPS)}
"""How code names a trap."""

RESERVED_BYTES: Final = (1 << 33) + PAGE_BYTES
"""What a guarded memory reserves: an address and an offset are below 2^32 each, an access has up to 16 bytes."""


def slot_bytes(value: int) -> int:
    """What a value takes where it is passed in memory."""
    return 16 if value == V128 else 8


LEAST_AREA_BYTES: Final = 64
"""Tail calls among functions that take no more (results behind the first and arguments) use no stack."""


class Area(NamedTuple):
    """The memory between a caller and a callee: results behind the first, then the arguments.

    Offsets are from rsp before the call.  Results come first, so that a function which is left by a tail call finds
    the place that its caller looks at.  It has LEAST_AREA_BYTES at least, so that tail calls of other types find room.
    """

    arguments: tuple[int, ...]
    results: tuple[int, ...]
    size_bytes: int


def area_of(signature: FuncType) -> Area:
    """Where arguments and results of a function lie.  The first result travels in rax or xmm0."""
    offset = 0
    results = []
    for value in signature.results[1:]:
        results.append(offset)
        offset += slot_bytes(value)
    arguments = []
    for value in signature.parameters:
        arguments.append(offset)
        offset += slot_bytes(value)
    return Area(tuple(arguments), tuple(results), max(offset, LEAST_AREA_BYTES))


HIDDEN: Final = (
    *("memory.grow", "memory.init", "data.drop", "table.grow", "table.fill", "table.copy", "table.init", "elem.drop"),
)
"""Instructions that are calls of host functions, as imports behind the module's own."""


def memory_words(size_bytes: int) -> list[int]:
    """The words of LIMITS for a size."""
    return [max(0, size_bytes - extent + 1) for extent in range(LIMIT_COUNT)]


class VmLayout(NamedTuple):
    """Offsets in the vmctx of a module's instances."""

    imports: int
    tables: int
    globals: int
    types: int
    records: int
    size_bytes: int

    def import_at(self, number: int) -> int:
        """The words of an imported function."""
        return self.imports + 16 * number

    def table_at(self, number: int) -> int:
        """The words of a table."""
        return self.tables + 16 * number

    def global_at(self, number: int) -> int:
        """The words of a global."""
        return self.globals + 16 * number

    def type_at(self, number: int) -> int:
        """The id of a type."""
        return self.types + 4 * number

    def record_at(self, function: int) -> int:
        """The record of a function."""
        return self.records + RECORD_BYTES * function


def layout_of(module: ModuleData) -> VmLayout:
    """Lay out the vmctx for a module."""
    tables = FIRST_IMPORT + 16 * (module.imported_functions + len(HIDDEN))
    globals_ = tables + 16 * len(module.tables)
    types = globals_ + 16 * len(module.globals)
    records = -(-(types + 4 * len(module.types)) // 16) * 16
    return VmLayout(FIRST_IMPORT, tables, globals_, types, records, records + RECORD_BYTES * len(module.functions))
