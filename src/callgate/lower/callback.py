"""Callbacks: what C calls when it calls a Python function.

C enters through a thunk, which says in r10 where the callback's slot is and jumps to the stub of its shape:

    slot   0   the stub
           8   the record of the callback, whose data the shared routines read; 0: closed, freed, or never used
           16  the Python function
           24  the text of the error that a call without a record is
           32  the next free slot
           40  the text that takes its place when the callback is freed
           48  the thunk
           56  a lock, where threads run at once

A stub keeps the arguments, makes sure that the thread holds the GIL, holds the record and the function, boxes, calls,
and converts the result.  Where a Python function raises, the exception stays set and `raised_count` is raised: the gate
that called C takes it up; until then further callbacks of the thread do nothing, and C gets zeros.  In a thread that
Python did not start nobody is there to take it up, and it goes to sys.unraisablehook.

A foreign thread gets a thread state at its first callback and keeps it; a node under `thread_key` says so and counts
the callbacks under way.  Where Python keeps its thread states under no key (3.15), which would have to be put right
when another thread's state is deleted, each of its callbacks has a state of its own.  When the thread ends its
node goes to a list, and whoever attaches next clears the state: the thread itself must not wait for the GIL, which
somebody who joins it may hold.

Where threads run at once (a free-threaded build) the record of a slot is a weak reference, read under the slot's lock:
another thread may be closing or freeing the callback.  `raised_count` then says only whether any callback ever raised.

The frame of a stub:

    higher addresses
    |  stack arguments        |
    |  return address         |
    |  padding                |  keeps rsp a multiple of 16 at calls
    |  view                   |  a Py_buffer, for results that may hold an object
    |  objects                |  a free slot (PY_VECTORCALL_ARGUMENTS_OFFSET), then the boxed arguments
    |  registers              |  the arguments that came in registers, 8 bytes each
    |  scratch words          |  rbx, record, result object, value (2), how the GIL came, its state, hidden pointer,
    |                         |  function, stub, where the frame was
    lower addresses             <- rsp

Where C runs on a stack of its own (`lower/stacks.py`) the frame, with C's stack arguments, moves to the thread's stack
before anything of Python's runs, and the result goes back to where the frame was.

Long because it is one stub's emission, block by block; the routines that stubs share are in `callback_routines`.
"""

from __future__ import annotations

from typing import NamedTuple

from callgate.abi.plan import Argument, CallPlan, Class
from callgate.asm.code import Code
from callgate.cpython.conversion import Box, BoxStep, CallbackConversion, Unbox
from callgate.lower.boxing import POINTER_BOXES, UNROLLED_BYTES, Boxing, emit_copy
from callgate.lower.machine import VIEW_BYTES, Machine, check_code_is_made
from callgate.lower.operations import (
    R10,
    RAX,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    XMM0,
    Operations,
    operations,
)
from callgate.lower.stacks import STACKS_IN_USE
from callgate.target import Target

SLOT_STUB, SLOT_RECORD, SLOT_FUNCTION, SLOT_MESSAGE = 0, 8, 16, 24
SLOT_NEXT, SLOT_FREED, SLOT_THUNK, SLOT_LOCK = 32, 40, 48, 56
SLOT_BYTES = 64
"""The offsets of a callback's slot, and its size."""

SLOT_THUNKS, SLOT_THUNKS_END = "callgate_thunks", "callgate_thunks_end"
"""The labels around what `lower_slot_thunks` makes."""

HELD, KNOWN, FOREIGN, NESTED, NONE = 0, 1, 2, 3, 4
"""How a callback came by the GIL: its thread held it; it had a thread state of Python's; it is foreign; it is foreign
and this callback comes below another; the interpreter is gone."""

_MODES, _MOVED = 15, 16
"""Where the frame has moved, the mode has one bit more."""

FREE_HEAD, FREE_TAIL, FREE_COUNT, FREE_RESERVE = 0, 8, 16, 24
"""The list of free slots, first in first out.  Those beyond the reserve are handed out."""

NODE_STATE, NODE_DEPTH, NODE_NEXT, NODE_BYTES = 0, 8, 16, 24
"""What a foreign thread has under `thread_key`."""

NO_STATE_KEY = 0x7FFF_FFFF
"""In the place of the key under which Python keeps thread states: there is none."""

_ARGUMENTS_OFFSET = 1 << 63  # PY_VECTORCALL_ARGUMENTS_OFFSET


class _Frame(NamedTuple):
    """Offsets from rsp in bytes."""

    size_bytes: int
    saved_rbx: int
    self_slot: int
    result_slot: int
    value: int
    mode: int
    state: int
    hidden: int
    function: int
    stub: int
    moved_from: int
    registers: int
    objects: int
    view: int

    def object(self, index: int) -> int:
        """Where boxed argument `index` is kept."""
        return self.objects + 8 * (index + 1)

    @property
    def stack_arguments(self) -> int:
        """Where C's stack arguments begin: above the return address."""
        return self.size_bytes + 8


def _lay_out(plan: CallPlan, conversion: CallbackConversion) -> _Frame:
    value_words = max(2, (plan.result.size_bytes + 7) // 8) if plan.result.pieces else 2
    mode = 24 + 8 * value_words
    registers = mode + 8 * 6
    objects = registers + sum(_register_bytes(argument) for argument in plan.arguments)
    view = objects + 8 * (1 + len(plan.arguments))
    has_view = conversion.result is not None and conversion.result.may_own
    size = view + VIEW_BYTES * has_view | 8  # with the return address a multiple of 16 (psABI 3.2.2)
    return _Frame(
        size, 0, 8, 16, 24, mode, mode + 8, mode + 16, mode + 24, mode + 32, mode + 40, registers, objects, view
    )


def _register_bytes(argument: Argument) -> int:
    """The room in which an argument that came in registers is kept: as it lies in memory, in whole words."""
    if argument.pieces:
        return (argument.size_bytes + 7) // 8 * 8
    return (16 if argument.is_quad else 8) * len(argument.registers)


def lower_callback(
    plan: CallPlan, conversion: CallbackConversion, machine: Machine, *, with_listing: bool = False
) -> Code:
    """The stub for all callbacks of one shape, entered by their thunks."""
    check_code_is_made(machine)
    stub = _Stub(plan, conversion, machine, operations(machine.target, with_listing=with_listing))
    stub.emit()
    return stub.a.finish()


def lower_thunks(table: int, count: int, target: Target) -> Code:
    """`count` thunks, each of `thunk_bytes(target)`; thunk i leads to slot i of the table at address `table`."""
    a = operations(target)
    for index in range(count):
        a.thunk(table + SLOT_BYTES * index, SLOT_STUB)
    return a.finish()


def thunk_bytes(target: Target) -> int:
    """The size of a thunk."""
    return operations(target).thunk_bytes


def lower_slot_thunks(count: int, target: Target, *, with_listing: bool = False) -> Code:
    """The same for code that knows no address: thunk i finds its slot's address by the symbol `slot:i`."""
    a = operations(target, with_listing=with_listing)
    a.label(SLOT_THUNKS)
    for index in range(count):
        a.mov_rl(R10, f"slot:{index}")
        a.jmp_m(R10, SLOT_STUB)
    a.label(SLOT_THUNKS_END)
    return a.finish()


class _Stub(Boxing):
    """The emission of one stub."""

    def __init__(self, plan: CallPlan, conversion: CallbackConversion, machine: Machine, assembler: Operations) -> None:
        frame = _lay_out(plan, conversion)
        super().__init__(assembler, machine.layout, frame, 1)
        self.places = frame
        self.plan = plan
        self.conversion = conversion
        self.has_thread_local_state = machine.layout.has_thread_local_state

    def emit(self) -> None:
        """Emit every block, hot ones first."""
        a, frame = self.a, self.places
        a.label("entry")
        a.enter((), frame.size_bytes)
        for index, register in enumerate(a.kept):
            a.note("into the home space")
            a.mov_mr(RSP, frame.stack_arguments + 8 * index, register)
        a.mov_mr(RSP, frame.saved_rbx, RBX)
        a.mov_rr(RBX, R10)
        self._save_arguments()
        if self.layout.is_free_threaded:
            a.mov_rm(RAX, RBX, SLOT_STUB)
            a.mov_mr(RSP, frame.stub, RAX)
        self._check_gil()
        a.label("attached")
        a.note("does any call run on a stack of its own?")
        a.mov_rl(RCX, "stacks")
        a.cmp_mi(RCX, STACKS_IN_USE, 0)
        a.jcc("ne", "find_home")
        a.label("at_home")
        a.note("has a callback before raised?")
        a.mov_rl(RCX, "raised_count")
        a.cmp_mi(RCX, 0, 0)
        a.jcc("ne", "raised_before")
        a.label("go")
        a.note("record and function live until the call is over")
        if self.layout.is_free_threaded:
            a.mov_rr(RDI, RBX)
            a.mov_rm(RSI, RSP, frame.stub)
            a.call_l("callgate_hold")
        else:
            a.mov_rm(RAX, RBX, SLOT_RECORD)
        a.test_rr(RAX, RAX)
        a.jcc("e", "gone")
        a.mov_mr(RSP, frame.self_slot, RAX)
        if not self.layout.is_free_threaded:
            a.inc_m(RAX, 0)
        a.mov_rm(RAX, RBX, SLOT_FUNCTION)
        a.mov_mr(RSP, frame.function, RAX)
        self._hold(RAX, "function")
        self._box_arguments()
        self._call()
        self._drop_arguments(len(self.plan.arguments), "called")
        a.note("did it raise?")
        a.mov_rm(RDI, RSP, frame.result_slot)
        a.test_rr(RDI, RDI)
        a.jcc("e", "raised")
        self._convert_result()
        a.label("finish")
        a.mov_rm(RAX, RSP, frame.function)
        self._drop(RAX, "function_done")
        a.mov_rm(RAX, RSP, frame.self_slot)
        self._drop(RAX, "record")
        a.label("detach")
        a.cmp32_mi(RSP, frame.mode, HELD)
        a.jcc("ne", "give_back")
        a.label("leave")
        self._load_result()
        a.mov_rm(RBX, RSP, frame.saved_rbx)
        for index, register in enumerate(a.kept):
            a.mov_rm(register, RSP, frame.stack_arguments + 8 * index)
        a.leave((), frame.size_bytes)
        a.ret()
        self._emit_cold()

    # -- arguments -------------------------------------------------------------------------------------
    def _save_arguments(self) -> None:
        a, frame = self.a, self.places
        if self.plan.result_pointer:
            a.note("where the result goes")
            a.mov_mr(RSP, frame.hidden, self.a.general[self.plan.result_pointer])
        offset = frame.registers
        for argument in self.plan.arguments:
            places = [(piece.register, piece.offset_bytes, piece.size_bytes) for piece in argument.pieces]
            scalar_bytes = 16 if argument.is_quad else 8
            for register, place, size_bytes in places or [(name, 0, scalar_bytes) for name in argument.registers]:
                if register not in a.vector:
                    a.mov_mr(RSP, offset + place, a.general[register])
                else:
                    store = {16: a.movups_mx, 4: a.movss_mx}.get(size_bytes, a.movsd_mx)
                    store(RSP, offset + place, a.vector[register])
            offset += _register_bytes(argument)

    def _check_gil(self) -> None:
        """HELD where this thread has the GIL; it is taken in the cold part otherwise."""
        a, frame = self.a, self.places
        a.note("does this thread hold the GIL?")
        a.call_l("PyThreadState_GetUnchecked")
        if not self.has_thread_local_state:
            a.note("the state of whatever thread holds it")
            a.mov_mr(RSP, frame.state, RAX)
            a.call_l("PyGILState_GetThisThreadState")
            a.cmp_rm(RAX, RSP, frame.state)
            a.jcc("ne", "attach")
        a.test_rr(RAX, RAX)
        a.jcc("e", "attach")
        a.mov32_mi(RSP, frame.mode, HELD)

    def _box_arguments(self) -> None:
        a, frame = self.a, self.places
        offset = frame.registers
        for index, (argument, box) in enumerate(zip(self.plan.arguments, self.conversion.boxes, strict=True)):
            a.note(f"argument {index + 1}")
            source = offset if argument.registers else frame.stack_arguments + argument.stack_offset
            offset += _register_bytes(argument)
            if box.kind in (Box.STRUCT, Box.WIDE):
                is_reference = argument.copy_offset is not None
                self._box_memory(box, f"box_{index}", index, source, is_tail=False, is_reference=is_reference)
            else:
                self._load(argument, box, source)
                self._box(box, f"box_{index}", index, is_tail=False)
            a.mov_mr(RSP, frame.object(index), RAX)
            if _can_fail(box):
                a.test_rr(RAX, RAX)
                a.jcc("e", f"unboxed_{index}")

    def _load(self, argument: Argument, box: BoxStep, source: int) -> None:
        """Bring an argument to where its boxing expects it, widened."""
        a = self.a
        match box.kind:
            case Box.DOUBLE:
                a.movsd_xm(XMM0, RSP, source)
            case Box.FLOAT:
                a.movss_xm(XMM0, RSP, source)
            case Box.LONG_DOUBLE:
                a.fld80_m(RSP, source)
            case _:
                a.mov_rm(RAX, RSP, source)
                if box.kind not in POINTER_BOXES:
                    self._extend(box)

    def _box_pointer(self, step: BoxStep, label: str, operand: int, *, is_tail: bool) -> None:
        if step.kind is not Box.OBJECT:
            super()._box_pointer(step, label, operand, is_tail=is_tail)
            return
        a = self.a
        a.note("an object that C only lends")
        a.test_rr(RAX, RAX)
        a.jcc("e", f"{label}_null")
        self._hold(RAX, label)
        a.jmp(f"{label}_done")
        a.label(f"{label}_null")
        a.mov_rm(RDI, RSP, self.places.self_slot)
        a.mov_ri(RSI, operand)
        a.call_l("callgate_null")
        a.label(f"{label}_done")

    def _call(self) -> None:
        a, frame = self.a, self.places
        a.note("the Python function")
        a.mov_rm(RDI, RSP, frame.function)
        a.lea(RSI, RSP, frame.object(0))
        a.mov_ri(RDX, len(self.plan.arguments) | _ARGUMENTS_OFFSET)
        a.xor32_rr(RCX, RCX)
        a.call_l("PyObject_Vectorcall")
        a.mov_mr(RSP, frame.result_slot, RAX)

    def _drop_arguments(self, count: int, label: str) -> None:
        for index in range(count):
            self.a.mov_rm(RAX, RSP, self.places.object(index))
            self._drop(RAX, f"{label}_{index}")

    def _hold(self, register: int, label: str) -> None:
        """Take a reference to the object in a register (rax)."""
        a = self.a
        if self.layout.is_free_threaded:
            a.mov_mr(RSP, self.places.result_slot, register)
            a.mov_rr(RDI, register)
            a.call_l("Py_IncRef")
            a.mov_rm(register, RSP, self.places.result_slot)
            return
        if self.layout.has_immortals:
            a.cmp32_mi(register, 0, 0)
            a.jcc("l", f"{label}_held")
        a.inc_m(register, 0)
        a.label(f"{label}_held")

    def _drop(self, register: int, label: str) -> None:
        """Give up a reference to the object in a register (rax)."""
        a = self.a
        if self.layout.is_free_threaded:
            a.mov_rr(RDI, register)
            a.call_l("Py_DecRef")
            return
        if self.layout.has_immortals:
            a.note("immortal?")
            a.cmp32_mi(register, 0, 0)
            a.jcc("l", f"{label}_kept")
        a.dec_m(register, 0)
        a.jcc("ne", f"{label}_kept")
        a.mov_rr(RDI, register)
        a.call_l("_Py_Dealloc")
        a.label(f"{label}_kept")

    # -- the result -------------------------------------------------------------------------------------
    def _convert_result(self) -> None:
        """Convert the object in rdi (also in the result slot) into the value slot; give up the object."""
        a, frame, step = self.a, self.places, self.conversion.result
        if step is None:
            a.mov_rr(RAX, RDI)
            self._drop(RAX, "result")
            return
        form = self.layout.ints
        if step.kind in (Unbox.SIGNED, Unbox.UNSIGNED) and form is not None:
            a.mov_rl(RAX, "PyLong_Type")
            a.note("an exact int of one positive digit?")
            a.cmp_mr(RDI, self.layout.type_offset, RAX)
            a.jcc("ne", "convert")
            a.cmp_mi(RDI, form.tag_offset, form.one_positive_digit)
            a.jcc("ne", "convert")
            a.mov32_rm(RAX, RDI, form.digit_offset)
            bits = 8 * step.size_bytes - (step.kind is Unbox.SIGNED)
            if bits < 30:
                a.cmp32_ri(RAX, (1 << bits) - 1)
                a.jcc("a", "convert")
            a.mov_mr(RSP, frame.value, RAX)
        elif step.kind is Unbox.DOUBLE and step.size_bytes == 8 and self.layout.float_value_offset is not None:
            a.mov_rl(RAX, "PyFloat_Type")
            a.note("an exact float?")
            a.cmp_mr(RDI, self.layout.type_offset, RAX)
            a.jcc("ne", "convert")
            a.mov_rm(RAX, RDI, self.layout.float_value_offset)
            a.mov_mr(RSP, frame.value, RAX)
        else:
            a.jmp("convert")
        a.label("converted")
        if step.kind in (Unbox.STRUCT, Unbox.WIDE):
            self._take_memory()
        if step.may_own:
            a.lea(RDI, RSP, frame.view)
            a.mov_ri(RSI, 1)
            a.call_l("callgate_release")
        a.mov_rm(RAX, RSP, frame.result_slot)
        self._drop(RAX, "result")

    def _take_memory(self) -> None:
        """Copy a value of several words out of the object before that goes."""
        a, frame = self.a, self.places
        size = self.plan.result.size_bytes
        a.mov_rm(RSI, RSP, frame.value)
        if self.plan.result_pointer:
            a.mov_rm(RDI, RSP, frame.hidden)
            if size <= UNROLLED_BYTES:
                emit_copy(a, RDI, 0, RSI, 0, size)
            else:
                a.mov_ri(RDX, size)
                a.call_l("memcpy")
        else:
            emit_copy(a, RSP, frame.value, RSI, 0, size)

    def _load_result(self) -> None:
        a, frame, result = self.a, self.places, self.plan.result
        if self.plan.result_pointer:
            a.mov_rm(RAX, RSP, frame.hidden)
            return
        if result.pieces:
            for piece in result.pieces:
                if piece.eightbyte_class is Class.X87:
                    a.fld80_m(RSP, frame.value)
                elif piece.size_bytes == 16:
                    a.movups_xm(self.a.vector[piece.register], RSP, frame.value + piece.offset_bytes)
                elif piece.eightbyte_class is Class.SSE:
                    a.movsd_xm(self.a.vector[piece.register], RSP, frame.value + piece.offset_bytes)
                else:
                    a.mov_rm(self.a.result_general[piece.register], RSP, frame.value + piece.offset_bytes)
            return
        match result.eightbyte_class:
            case Class.SSE:
                a.movsd_xm(XMM0, RSP, frame.value)
                if result.is_quad:
                    a.double_to_quad()
            case Class.X87:
                a.fld64_m(RSP, frame.value)
            case Class.INTEGER:
                a.mov_rm(RAX, RSP, frame.value)

    # -- the cold part -------------------------------------------------------------------------------------
    def _emit_cold(self) -> None:
        a, frame, step = self.a, self.places, self.conversion.result
        a.note("take the GIL, with a thread state made where there is none")
        a.label("attach")
        a.mov_rm(RAX, RBX, SLOT_STUB)
        a.mov_mr(RSP, frame.stub, RAX)
        a.call_l("callgate_attach")
        a.mov32_mr(RSP, frame.mode, RAX)
        a.cmp32_ri(RAX, NONE)
        a.jcc("e", "no_interpreter")
        a.note("while this thread waited, the slot may have gone to a callback of another shape")
        a.mov_rm(RAX, RSP, frame.stub)
        a.cmp_rm(RAX, RBX, SLOT_STUB)
        a.jcc("e", "attached")
        a.jmp("gone")
        a.label("no_interpreter")
        a.note("the interpreter is gone, or going")
        self._emit_zero()
        a.jmp("leave")

        a.note("by a callback of this thread, whose exception is still set?")
        a.label("raised_before")
        a.call_l("PyErr_Occurred")
        a.test_rr(RAX, RAX)
        a.jcc("e", "go")
        self._emit_zero()
        a.jmp("detach")

        if step is not None:
            a.label("convert")
            a.mov_rm(RDI, RSP, frame.self_slot)
            a.lea(RSI, RSP, frame.result_slot)
            a.lea(RDX, RSP, frame.value)
            a.lea(RCX, RSP, frame.view)
            a.call_l("callgate_convert")
            a.test32_rr(RAX, RAX)
            a.jcc("ne", "unconverted")
            a.jmp("converted")
            a.label("unconverted")
            a.mov_rm(RAX, RSP, frame.result_slot)
            self._drop(RAX, "refused")

        a.label("raised")
        a.note("this thread's gate, or the hook for what nobody can raise")
        a.mov32_rm(RDI, RSP, frame.mode)
        a.and32_ri(RDI, _MODES)
        a.mov_rm(RSI, RSP, frame.function)
        a.call_l("callgate_callback_failed")
        self._emit_zero()
        a.jmp("finish")

        a.note("closed, or freed")
        a.label("gone")
        a.mov_rr(RDI, RBX)
        a.mov32_rm(RSI, RSP, frame.mode)
        a.and32_ri(RSI, _MODES)
        a.call_l("callgate_gone")
        self._emit_zero()
        a.jmp("detach")

        for index, box in enumerate(self.conversion.boxes):
            if _can_fail(box):
                a.label(f"unboxed_{index}")
                self._drop_arguments(index, f"unboxed_{index}")
                a.jmp("raised")

        a.note("give the GIL back")
        a.label("give_back")
        a.mov32_rm(RDI, RSP, frame.mode)
        a.and32_ri(RDI, _MODES)
        a.jcc("e", "given_back")
        a.call_l("callgate_detach")
        a.label("given_back")
        a.cmp32_mi(RSP, frame.mode, _MOVED)
        a.jcc("b", "leave")
        self._move_back()
        a.jmp("leave")

        a.note("is this one of those calls?")
        a.label("find_home")
        self._move_home()
        a.jmp("at_home")

    def _move_home(self) -> None:
        """Move the frame, with the return address and C's stack arguments, to the thread's own stack."""
        a, frame = self.a, self.places
        size = frame.stack_arguments + self.plan.stack_bytes
        a.lea(RDI, RSP, 0)
        a.call_l("callgate_home")
        a.test_rr(RAX, RAX)
        a.jcc("e", "at_home")
        a.lea(RDI, RAX, -size)
        a.lea(RSI, RSP, 0)
        a.mov_ri(RDX, size)
        a.call_l("memcpy")
        a.lea(RCX, RSP, 0)
        a.note("to the thread's own stack")
        a.set_stack(RAX)
        a.mov_mr(RSP, frame.moved_from, RCX)
        a.mov32_rm(RAX, RSP, frame.mode)
        a.add_ri(RAX, _MOVED)
        a.mov32_mr(RSP, frame.mode, RAX)

    def _move_back(self) -> None:
        """Take the result to where C waits for it."""
        a, frame = self.a, self.places
        a.mov_rm(RCX, RSP, frame.moved_from)
        for offset in range(frame.value, frame.mode, 8):
            a.mov_rm(RAX, RSP, offset)
            a.mov_mr(RCX, offset, RAX)
        a.set_stack(RCX)

    def _emit_zero(self) -> None:
        """C gets the zero of the result type."""
        a, frame = self.a, self.places
        for offset in range(frame.value, frame.mode, 8):
            a.mov_mi(RSP, offset, 0)
        if self.plan.result_pointer:
            a.mov_rm(RDI, RSP, frame.hidden)
            a.xor32_rr(RSI, RSI)
            a.mov_ri(RDX, self.plan.result.size_bytes)
            a.call_l("memset")


def _can_fail(box: BoxStep) -> bool:
    return box.kind not in (Box.BOOL, Box.NONE)
