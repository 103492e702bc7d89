"""The code between C and compiled WebAssembly: entries, host stubs, traps, polls.  Nothing of a module is in it.

An entry is what a gate calls, by a thunk that puts the function's code in r10 and the instance's vmctx in r11:

    rsp ->  area         results behind the first, arguments (layout.Area)
    r14 ->  activation   the lowest address for Wasm frames; the entry's vmctx
            r15 r14 r13 r12 rbp rbx   saved
            return address

A trap, or an exception in a host function, leaves from wherever it is: rsp from r14, what was saved, return.  What
Python is told comes by callbacks, whose exception the gate raises, as of any C function.

Longer than other modules, because both ways over the border share what they save and how they leave.
"""

from __future__ import annotations

from callgate.abi.plan import classify_types
from callgate.asm.code import Code
from callgate.asm.x86_64.extended import ExtendedAssembler
from callgate.asm.x86_64.registers import (
    NAMES_64,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
)
from callgate.c.types import DOUBLE, FLOAT, INT32, INT64, VOID, CType
from callgate.target import Target
from callgate.wasm.compile.layout import (
    COUNTER,
    DEPTH,
    ENTRIES,
    IMPORT_CODE,
    IMPORT_VMCTX,
    LAZY,
    MEMORY_BASE,
    RECORD_COMPILED,
    STACK_BYTES,
    STACK_LOW,
    THREAD,
    VmLayout,
    area_of,
)
from callgate.wasm.compile.values import XMM_TYPES
from callgate.wasm.limits import BULK_STEP_BYTES
from callgate.wasm.types import F32, F64, I32, I64, FuncType

_SAVED = (RBX, RBP, R12, R13, R14, R15)
_ACTIVATION_BYTES = 24  # with it rsp is a multiple of 16 where the area is
_KEPT_ACROSS = (R8, R9, R10, R11)
"""Pins that C may change."""
_C_TYPES: dict[int, CType] = {I32: INT32, I64: INT64, F32: FLOAT, F64: DOUBLE}

HOST_ADDRESS = 16
"""Of a host record, which host stubs get for a vmctx: the C function's address."""
HOST_KEY = 24
"""Of a host record: what tells such a function which one it is."""
HOST_BYTES = 32


def c_type(value: int) -> CType:
    """The C type that stands for a value type; references travel as words."""
    return _C_TYPES.get(value, INT64)


def has_direct_stub(signature: FuncType) -> bool:
    """Whether C functions have this type: numbers, and no more than one result."""
    return len(signature.results) <= 1 and all(
        value in _C_TYPES for value in (*signature.parameters, *signature.results)
    )


def _xmm(register: str) -> int:
    return int(register.removeprefix("xmm"))


def _emit_enter(a: ExtendedAssembler, area_bytes: int, arguments_label: str) -> None:
    """The frame of an entry; r10 and r11 as the thunk left them, argument registers are kept."""
    for register in _SAVED:
        a.push(register)
    a.mov_rr(RBX, R11)
    a.note("does the instance know this thread?")
    a.mov_rt(RAX)
    a.cmp_rm(RAX, RBX, THREAD)
    a.jcc("ne", "adopt")
    a.label(arguments_label)
    a.mov_rm(RAX, RBX, DEPTH)
    a.cmp_ri(RAX, 1)
    a.note("the outermost?")
    a.adc_mi(RBX, ENTRIES, 0)
    a.inc_m(RBX, DEPTH)
    a.sub_ri(RSP, _ACTIVATION_BYTES + area_bytes)
    a.lea(R14, RSP, area_bytes)
    a.note("the lowest address for Wasm frames")
    a.mov_rr(RAX, RSP)
    a.sub_rm(RAX, RBX, STACK_BYTES)
    a.mov_rm(RBP, RBX, STACK_LOW)
    a.cmp_rr(RAX, RBP)
    a.cmov("l", RAX, RBP)
    a.mov_mr(R14, 0, RAX)
    a.mov_mr(R14, 8, RBX)
    a.mov_rm(R15, RBX, MEMORY_BASE)


def _emit_leave(a: ExtendedAssembler, area_bytes: int) -> None:
    a.mov_rm(RBX, R14, 8)
    a.dec_m(RBX, DEPTH)
    a.add_ri(RSP, _ACTIVATION_BYTES + area_bytes)
    for register in reversed(_SAVED):
        a.pop(register)
    a.ret()


def _emit_adopt(a: ExtendedAssembler, registers: tuple[int, ...], vectors: int) -> None:
    """Another thread than before, or a closed instance: Python decides.  Keeps what arguments travel in."""
    a.label("adopt")
    kept = (*registers, R10)
    size = 8 * len(kept) + 8 * vectors
    size += -(size + 8) % 16
    a.sub_ri(RSP, size)
    for index, register in enumerate(kept):
        a.mov_mr(RSP, 8 * index, register)
    for index in range(vectors):
        a.movsd_mx(RSP, 8 * (len(kept) + index), index)
    a.mov_rr(RDI, RBX)
    a.mov_rr(RSI, RAX)
    a.call_l("wasm_adopt")
    a.mov32_rr(RBP, RAX)
    for index, register in enumerate(kept):
        a.mov_rm(register, RSP, 8 * index)
    for index in range(vectors):
        a.movsd_xm(index, RSP, 8 * (len(kept) + index))
    a.add_ri(RSP, size)
    a.note("0: it raised")
    a.test32_rr(RBP, RBP)
    a.jcc("ne", "adopted")
    a.xor32_rr(RAX, RAX)
    a.xorps_xx(0, 0)
    for register in reversed(_SAVED):
        a.pop(register)
    a.ret()


def lower_entry(signature: FuncType, target: Target) -> Code:
    """What C calls for functions of a type that C functions have."""
    a = ExtendedAssembler()
    area = area_of(signature)
    result = c_type(signature.results[0]) if signature.results else VOID
    plan = classify_types([c_type(value) for value in signature.parameters], result, target)
    size = -(-area.size_bytes // 16) * 16
    a.label("entry")
    _emit_enter(a, size, "adopted")
    incoming = size + _ACTIVATION_BYTES + 8 * len(_SAVED) + 8
    for value, argument, offset in zip(signature.parameters, plan.arguments, area.arguments, strict=True):
        if not argument.register:
            a.mov_rm(RAX, RSP, incoming + argument.stack_offset)
            a.mov_mr(RSP, offset, RAX)
        elif value in XMM_TYPES:
            a.movsd_mx(RSP, offset, _xmm(argument.register))
        else:
            a.mov_mr(RSP, offset, NAMES_64.index(argument.register))
    a.call_r(R10)
    _emit_leave(a, size)
    integers = tuple(
        NAMES_64.index(one.register) for one in plan.arguments if one.register and not one.register.startswith("xmm")
    )
    _emit_adopt(a, integers, sum(one.register.startswith("xmm") for one in plan.arguments))
    return a.finish()


def lower_area_entry(signature: FuncType) -> Code:
    """What C calls for functions of any type: rdi points to the area, behind which the first result is put."""
    a = ExtendedAssembler()
    area = area_of(signature)
    size = -(-area.size_bytes // 16) * 16
    a.label("entry")
    _emit_enter(a, size, "adopted")
    a.mov_mr(R14, 16, RDI)
    if size:
        a.mov_rr(RSI, RDI)
        a.lea(RDI, RSP, 0)
        a.mov_ri(RCX, size // 8)
        a.rep_movsq()
    a.call_r(R10)
    a.mov_rm(RDI, R14, 16)
    if signature.results:
        if signature.results[0] in XMM_TYPES:
            a.movups_mx(RDI, size, 0)
        else:
            a.mov_mr(RDI, size, RAX)
    if size:
        a.lea(RSI, RSP, 0)
        a.mov_ri(RCX, size // 8)
        a.rep_movsq()
    _emit_leave(a, size)
    _emit_adopt(a, (RDI,), 0)
    return a.finish()


def area_bytes(signature: FuncType) -> int:
    """Where an area entry puts the first result; 16 bytes are behind it."""
    return -(-area_of(signature).size_bytes // 16) * 16


# -- from Wasm to C ---------------------------------------------------------------------------------------------------


def _emit_host_enter(a: ExtendedAssembler, stack_bytes: int) -> None:
    a.label("entry")
    a.push(RBP)
    a.mov_rr(RBP, RSP)
    for register in _KEPT_ACROSS:
        a.push(register)
    a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS) - stack_bytes)
    a.and_ri(RSP, -16)


def _emit_host_leave(a: ExtendedAssembler) -> None:
    """Back to Wasm, or, where the function or a callback in it raised, out of it."""
    a.mov_rl(RCX, "raised_count")
    a.cmp_mi(RCX, 0, 0)
    a.jcc("ne", "raised")
    a.label("not_raised")
    a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS))
    for register in reversed(_KEPT_ACROSS):
        a.pop(register)
    a.pop(RBP)
    a.ret()
    a.note("some callback raised: one of this thread's?")
    a.label("raised")
    a.sub_ri(RSP, 32)
    a.mov_mr(RSP, 0, RAX)
    a.movups_mx(RSP, 16, 0)
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.mov_rm(RAX, RSP, 0)
    a.movups_xm(0, RSP, 16)
    a.jcc("e", "not_raised")
    a.jmp_l("wasm_unwind")


def _emit_unwind_raised(a: ExtendedAssembler) -> None:
    """An exception is set: Python is told where the code was that it leaves; rbp has the frame of a host stub."""
    a.label("unwind")
    a.sub_ri(RSP, 48)
    a.and_ri(RSP, -16)
    for function in ("PyErr_Fetch", "PyErr_NormalizeException"):
        for index, register in enumerate((RDI, RSI, RDX)):
            a.lea(register, RSP, 8 * index)
        a.call_l(function)
    a.mov_rm(RDI, RSP, 8)
    a.mov_rm(RSI, RBP, 8)
    a.lea(RDX, RBP, 16)
    a.mov_rr(RCX, R14)
    a.call_l("wasm_raised")
    a.note("has it raised itself? the first exception counts")
    a.call_l("PyErr_Occurred")
    a.test_rr(RAX, RAX)
    a.jcc("e", "restore")
    a.mov_rl(RCX, "raised_count")
    a.dec_m(RCX, 0)
    a.label("restore")
    for index, register in enumerate((RDI, RSI, RDX)):
        a.mov_rm(register, RSP, 8 * index)
    a.call_l("PyErr_Restore")
    emit_unwind(a)


def emit_unwind(a: ExtendedAssembler) -> None:
    """Leave the entry whose activation is in r14."""
    a.mov_rm(RBX, R14, 8)
    a.dec_m(RBX, DEPTH)
    a.lea(RSP, R14, _ACTIVATION_BYTES)
    a.xor32_rr(RAX, RAX)
    a.xorps_xx(0, 0)
    for register in reversed(_SAVED):
        a.pop(register)
    a.ret()


def lower_host(signature: FuncType, target: Target) -> Code:
    """What Wasm code calls for a C function; rbx is its host record."""
    a = ExtendedAssembler()
    area = area_of(signature)
    result = c_type(signature.results[0]) if signature.results else VOID
    plan = classify_types([c_type(value) for value in signature.parameters], result, target)
    _emit_host_enter(a, plan.stack_bytes)
    for value, argument, offset in zip(signature.parameters, plan.arguments, area.arguments, strict=True):
        place = 16 + offset
        if argument.register.startswith("xmm"):
            register = _xmm(argument.register)
            (a.movsd_xm if value == F64 else a.movss_xm)(register, RBP, place)
        elif argument.register:
            register = NAMES_64.index(argument.register)
            (a.mov32_rm if value == I32 else a.mov_rm)(register, RBP, place)
        else:
            a.mov_rm(RAX, RBP, place)
            a.mov_mr(RSP, argument.stack_offset, RAX)
    a.call_m(RBX, HOST_ADDRESS)
    if signature.results == (I32,):
        a.mov32_rr(RAX, RAX)
    _emit_host_leave(a)
    return a.finish()


def lower_area_host(signature: FuncType) -> Code:
    """What Wasm code calls for a Python function of any type.

    It gets the area's address, the record's key, and the address of this call's place for the first result.
    """
    a = ExtendedAssembler()
    _emit_host_enter(a, 16)
    a.lea(RDI, RBP, 16)
    a.mov_rm(RSI, RBX, HOST_KEY)
    a.mov_rr(RDX, RSP)
    a.call_m(RBX, HOST_ADDRESS)
    if signature.results:
        if signature.results[0] in XMM_TYPES:
            a.movups_xm(0, RSP, 0)
        elif signature.results[0] == I32:
            a.mov32_rm(RAX, RSP, 0)
        else:
            a.mov_rm(RAX, RSP, 0)
    _emit_host_leave(a)
    return a.finish()


# -- what compiled code calls for itself ------------------------------------------------------------------------------


def lower_common() -> Code:
    """What every instance has: `trap` (rax = its number, r8 what its text may name), `poll`, `move` and `fill`.

    The last two are memmove and memset, with rdi, rsi and rdx.  They take fuel by the bytes; where polls are used up
    Python does the rest, in slices.
    """
    a = ExtendedAssembler()
    a.label("trap")
    a.mov_rr(RDI, RAX)
    a.mov_rm(RSI, RSP, 0)
    a.lea(RDX, RSP, 8)
    a.mov_rr(RCX, R14)
    a.and_ri(RSP, -16)
    a.call_l("wasm_trap")
    emit_unwind(a)

    a.label("poll")
    a.push(RBP)
    a.mov_rr(RBP, RSP)
    for register in _KEPT_ACROSS:
        a.push(register)
    a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS) - 160)
    a.and_ri(RSP, -16)
    for index in range(10):
        a.movups_mx(RSP, 16 * index, 6 + index)
    a.mov_rr(RDI, RBX)
    a.call_l("wasm_poll")
    a.mov_rl(RCX, "raised_count")
    a.cmp_mi(RCX, 0, 0)
    a.jcc("e", "polled")
    a.push(RAX)
    a.sub_ri(RSP, 8)
    a.call_l("PyErr_Occurred")
    a.add_ri(RSP, 8)
    a.mov_rr(RCX, RAX)
    a.pop(RAX)
    a.test_rr(RCX, RCX)
    a.jcc("ne", "unwind")
    a.label("polled")
    a.mov32_mr(RBX, COUNTER, RAX)
    for index in range(10):
        a.movups_xm(6 + index, RSP, 16 * index)
    a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS))
    for register in reversed(_KEPT_ACROSS):
        a.pop(register)
    a.pop(RBP)
    a.ret()
    _emit_unwind_raised(a)

    a.note("rax: the record of a function of rbx, which its stub was called for")
    a.label("lazy")
    a.mov_rm(RCX, RAX, RECORD_COMPILED)
    a.test_rr(RCX, RCX)
    a.jcc("e", "compile")
    a.jmp_r(RCX)
    a.label("compile")
    a.push(RBP)
    a.mov_rr(RBP, RSP)
    for register in _KEPT_ACROSS:
        a.push(register)
    a.and_ri(RSP, -16)
    a.mov_rr(RDI, RBX)
    a.mov_rr(RSI, RAX)
    a.call_l("wasm_compile")
    a.note("0: it raised")
    a.test_rr(RAX, RAX)
    a.jcc("e", "unwind")
    a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS))
    for register in reversed(_KEPT_ACROSS):
        a.pop(register)
    a.pop(RBP)
    a.jmp_r(RAX)

    for label, symbol in (("move", "memmove"), ("fill", "memset")):
        a.label(label)
        a.push(RBP)
        a.mov_rr(RBP, RSP)
        for register in _KEPT_ACROSS:
            a.push(register)
        a.and_ri(RSP, -16)
        a.mov_rr(RAX, RDX)
        a.shr_ri(RAX, BULK_STEP_BYTES.bit_length() - 1)
        a.mov32_rm(RCX, RBX, COUNTER)
        a.sub32_rr(RCX, RAX)
        a.mov32_mr(RBX, COUNTER, RCX)
        a.jcc("s", f"{label}_slowly")
        a.call_l(symbol)
        a.label(f"after_{label}")
        a.lea(RSP, RBP, -8 * len(_KEPT_ACROSS))
        for register in reversed(_KEPT_ACROSS):
            a.pop(register)
        a.pop(RBP)
        a.ret()
        a.label(f"{label}_slowly")
        a.mov_rr(RCX, RDX)
        a.mov_rr(RDX, RSI)
        a.mov_rr(RSI, RDI)
        a.mov_rr(RDI, RBX)
        a.call_l(f"wasm_{label}")
        a.note("0: it raised")
        a.test_rr(RAX, RAX)
        a.jcc("ne", f"after_{label}")
        a.jmp("unwind")
    return a.finish()


def lower_import_jump(place: int) -> Code:
    """What goes on from an instance's function to one that it imports, whose words are at `place`."""
    a = ExtendedAssembler()
    a.label("entry")
    a.mov_rm(RAX, RBX, place + IMPORT_CODE)
    a.mov_rm(RBX, RBX, place + IMPORT_VMCTX)
    a.mov_rm(R15, RBX, MEMORY_BASE)
    a.jmp_r(RAX)
    return a.finish()


LAZY_STUB_BYTES = 16


def lower_lazy_stubs(layout: VmLayout, functions: range) -> Code:
    """What stands for functions until they are compiled, LAZY_STUB_BYTES each."""
    a = ExtendedAssembler()
    for number in functions:
        a.lea(RAX, RBX, layout.record_at(number))
        a.jmp_m(RBX, LAZY)
        a.code += b"\xcc" * (-len(a.code) % LAZY_STUB_BYTES)
    return a.finish()


def lower_thunk(code: int, vmctx: int) -> Code:
    """What a gate calls for a function of an instance: an entry, with what it needs."""
    a = ExtendedAssembler()
    a.label("entry")
    a.mov_ri(R11, vmctx)
    a.mov_ri(R10, code)
    a.jmp_l("wasm_entry")
    return a.finish()
