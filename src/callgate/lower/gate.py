"""Gates: the inline paths, the way to the shared routines, the call, and boxing.

A gate is entered as a METH_FASTCALL | METH_KEYWORDS function: rdi = self (the Gate), rsi = the argument objects,
rdx = their count (positional ones), rcx = the tuple of keyword names or 0.  It is laid out as

    entry      count the arguments
    bound      the inline path: check and unbox each argument, straight into its register ("direct"), or into
               its value slot where something must be called before C is ("spilled")
    ready      spilled only: release the GIL, clear errno, load the registers; then call C, save errno, take the
               GIL, judge, box
    cold       blocks for negative ints and None, then `slow`: convert all arguments by the shared routine

The slow path starts again from rdi and rsi, so the inline path keeps both until nothing can fail any more: the
argument that travels in rdi is unboxed last but one, that in rsi last.

Registers of the inline path: rax the object at hand, r10 the type last compared with,
r11 scratch and then the gate's data, xmm15 scratch.

This file is long because it is one function's emission, block by block; the tables it reads are elsewhere.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple

from callgate.abi.plan import Argument, CallPlan, Class, Piece
from callgate.asm.code import Code
from callgate.cpython.conversion import (
    Box,
    BoxStep,
    Conversion,
    CtypesRules,
    Element,
    Judgement,
    SavedError,
    Unbox,
    UnboxStep,
)
from callgate.cpython.layout import DIGIT_BITS
from callgate.errors import DeclarationError, unreachable
from callgate.lower.boxing import FLOATING_BOXES, POINTER_BOXES, UNROLLED_BYTES, Boxing, emit_copy
from callgate.lower.frame import Frame, lay_out_frame
from callgate.lower.machine import (
    DATA_TARGET,
    Machine,
    result_operand_offset,
    step_operand_offset,
)
from callgate.lower.operations import (
    R8,
    R10,
    R11,
    RAX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    XMM0,
    XMM15,
    Operations,
    checked_registers,
    operations,
)
from callgate.lower.stacks import (
    emit_check_thread,
    emit_claim,
    emit_come_back,
    emit_go,
    emit_release,
    stack_operand_offset,
)

_INTS = (Unbox.SIGNED, Unbox.UNSIGNED)  # looked up once: members of an enum are slow to reach
_FLOATS = (Unbox.DOUBLE, Unbox.FLOAT)
_EXTENSIONS = {
    (1, Unbox.SIGNED): "movsx8_rr",
    (2, Unbox.SIGNED): "movsx16_rr",
    (4, Unbox.SIGNED): "movsxd_rr",
    (1, Unbox.UNSIGNED): "movzx8_rr",
    (2, Unbox.UNSIGNED): "movzx16_rr",
    (4, Unbox.UNSIGNED): "mov32_rr",
}
_NEAR_BYTES = 1 << 12
"""How far a stack pointer can be from what it was and still be recognized."""
_INT_ELEMENTS = (Element.SIGNED, Element.UNSIGNED)
_BY_ADDRESS = (Unbox.STRUCT, Unbox.WIDE)
"""Values of several words: what is unboxed is where they lie."""


def lower_gate(plan: CallPlan, conversion: Conversion, machine: Machine, *, with_listing: bool) -> Code:
    """See `lower.call.lower_call`."""
    gate = _Gate(plan, conversion, machine, operations(machine.target, with_listing=with_listing))
    gate.emit()
    return gate.a.finish()


class _Way(NamedTuple):
    """How one Python argument travels: its number among them, from 0, its conversion, its place in the C call."""

    number: int
    step: UnboxStep
    argument: Argument


def _is_int(step: UnboxStep) -> bool:
    return step.kind in _INTS or (step.kind is Unbox.PARAM and step.element in _INT_ELEMENTS)


def _is_float(step: UnboxStep) -> bool:
    return step.kind in _FLOATS or (step.kind is Unbox.PARAM and step.element is Element.FLOATING)


def _are_a_pair(way: _Way, following: _Way | None) -> bool:
    """Whether two arguments are neighbours and numbers."""
    if following is None or following.number != way.number + 1:
        return False
    return all(_is_int(each.step) or _is_float(each.step) for each in (way, following))


def is_copied_by_call(argument: Argument) -> bool:
    """Whether a struct on the stack is so large that memcpy copies it."""
    return argument.eightbyte_class is Class.MEMORY and argument.size_bytes > UNROLLED_BYTES


class _Gate(Boxing):
    """The emission of one gate; `cold` collects what is emitted after the hot path."""

    def __init__(self, plan: CallPlan, conversion: Conversion, machine: Machine, assembler: Operations) -> None:
        self.plan = plan
        self.conversion = conversion
        frame = lay_out_frame(plan, conversion, checked_registers(machine))
        super().__init__(assembler, machine.layout, frame, len(conversion.steps))
        self.frame: Frame = frame
        self.saved = frame.saved
        self.ways = [
            _Way(index, step, plan.arguments[position])
            for index, (step, position) in enumerate(zip(conversion.steps, conversion.positions, strict=True))
        ]
        # Objects that C writes into are made before the call: the result where it goes to memory, Out structs.
        self.makes_result = plan.result.eightbyte_class is Class.MEMORY
        self.made_outs = [index for index, out in enumerate(conversion.outs) if out.box.kind is Box.STRUCT]
        self.rules = conversion.ctypes or CtypesRules()
        self.is_spilled = (
            conversion.is_blocking
            or self.rules.swaps_errno
            or conversion.saved_error is not SavedError.NONE
            or self.makes_result
            or bool(self.made_outs)
            or conversion.result.length_step is not None
            or plan.result.is_quad
            or any(is_copied_by_call(argument) or argument.is_quad for argument in plan.arguments)
        )
        self.has_inline_path = all(self._is_inline(way.step) for way in self.ways)
        self.pointer_results = conversion.result.kind in POINTER_BOXES or any(
            out.box.kind in POINTER_BOXES for out in conversion.outs
        )
        # What happens after the call needs the gate for operands and for errors.
        self.needs_self_after = (
            self.is_spilled
            or conversion.is_on_stack
            or conversion.ctypes is not None
            or bool(conversion.outs)
            or self.pointer_results
            or conversion.result.kind in (Box.ENUM, Box.STRUCT, Box.WIDE, Box.CALLED)
            or conversion.judgement is not Judgement.NEVER
        )
        self.boxes_plainly = not (conversion.outs or self.frame.view_count or conversion.drops_result) and (
            conversion.judgement is not Judgement.PREDICATE and not self.rules.calls_errcheck
        )
        self.is_several_words = bool(plan.result.pieces)
        # Apple's variant gives each stack argument its own size and no more.
        self.packs_stack = plan.convention == "apple_arm64"
        # Where the processor has a register to spare it keeps the gate's data until C is called.
        self.data_register: int | None = None
        if assembler.spare and self.has_inline_path and not self.is_spilled:
            self.data_register = assembler.spare[0]
        self.target_register = R11 if self.data_register is None else self.data_register
        self.reads_self_slot = False
        self.is_self_in_rdi = True
        self.type_in_r10 = ""
        self.others: list[tuple[_Way, int, int]] = []  # ints, the register of the object, and where their value goes
        self.nulls: list[tuple[_Way, int]] = []  # nullable pointers given as something unexpected

    def _takes(self, register: int, argument: Argument) -> bool:
        return any(self.a.general.get(name) == register for name in argument.registers)

    def _rank(self, way: _Way) -> int:
        """The order of unboxing: what takes rdi comes late, what takes rsi last."""
        return 2 if self._takes(RSI, way.argument) else 1 if self._takes(RDI, way.argument) else 0

    # -- what can be inline ----------------------------------------------------------------------------
    def _is_inline(self, step: UnboxStep) -> bool:
        layout = self.layout
        if step.kind in _INTS:
            return layout.ints is not None
        if step.kind in _FLOATS:
            return layout.float_value_offset is not None
        if step.kind is Unbox.PARAM:
            if step.element is Element.FLOATING:
                return layout.float_value_offset is not None
            return step.element is Element.OTHER or (step.element in _INT_ELEMENTS and layout.ints is not None)
        match step.kind:
            case Unbox.BOOL:
                return layout.ints is not None
            case Unbox.STRING:
                return layout.has_inline_bytes
            case Unbox.BUFFER:
                # Other buffers go through the shared routine; bytes is what C reads most.
                is_bytes_like = step.element in (Element.BYTE, Element.ANY)
                return layout.has_inline_bytes and is_bytes_like and not step.is_writable and not step.minimum_bytes
            case Unbox.HANDLE | Unbox.STRUCT | Unbox.RECORD | Unbox.OBJECT:
                return True
            case _:
                return False

    # -- the whole gate --------------------------------------------------------------------------------
    def emit(self) -> None:
        """Emit every block, hot ones first."""
        a, frame = self.a, self.frame
        count = len(self.ways)
        a.label("entry")
        a.accept()
        a.enter(frame.saved, frame.size_bytes)
        a.note("keep self")
        a.mov_mr(RSP, frame.self_slot, RDI)
        a.note("keyword arguments?")
        a.test_rr(RCX, RCX)
        a.jcc("ne", "unusual")
        a.note(f"exactly {count} argument{'s' * (count != 1)}")
        if count:
            a.cmp_ri(RDX, count)
        else:
            a.test_rr(RDX, RDX)
        a.jcc("ne", "unusual")
        a.label("bound")
        self.reads_self_slot = self.needs_self_after
        if self.data_register is not None:
            a.note("the gate's data")
            a.mov_rm(self.data_register, RDI, self.layout.gate_data_offset)
        if self.conversion.is_on_stack:
            data = self.data_register
            if data is None:
                data = RAX
                a.mov_rm(RAX, RDI, self.layout.gate_data_offset)
            self._load_stack(RAX, data)
            emit_check_thread(a, RAX, R10, "new_thread")
        if self.rules.calls_errcheck:
            a.note("for errcheck")
            a.mov_mr(RSP, self.frame.args_slot, RSI)
        if self.has_inline_path:
            self._emit_inline_path()
            self._emit_ready()
            self._emit_call_and_after()
            self._emit_cold_unboxing()
            if self.ways:
                self._emit_slow()
                if not self.is_spilled:
                    self._emit_loads()
                    self._load_target()
                a.jmp("ready")
        else:
            self._emit_slow()
            if not self.is_spilled:
                self._emit_loads()
                self._load_target()
            self._emit_ready()
            self._emit_call_and_after()
        self._emit_errors()

    # -- the inline path -------------------------------------------------------------------------------
    def _emit_inline_path(self) -> None:
        a, frame = self.a, self.frame
        if frame.view_count:
            a.note("no views are held")
            a.mov32_mi(RSP, frame.in_use_slot, 0)
        ways = self.ways
        if not self.is_spilled:
            ways = sorted(ways, key=self._rank)
            if len(ways) > 1 and self._rank(ways[-1]) == 2 and self._rank(ways[-2]) == 1:
                self.reads_self_slot = True  # a check follows the loss of rdi
        loaded: _Way | None = None
        for way, following in zip_longest(ways, ways[1:]):
            a.note(f"argument {way.number + 1}")
            obj = RAX
            if way is loaded:
                obj = a.spare[1]
            elif a.spare and _are_a_pair(way, following):
                a.mov_pair_rm(RAX, a.spare[1], RSI, 8 * way.number)
                loaded = following
            else:
                a.mov_rm(RAX, RSI, 8 * way.number)
            self._emit_unbox(way, obj)
            if self._takes(RDI, way.argument) and not self.is_spilled:
                self.is_self_in_rdi = False
        if not self.is_spilled:
            self._emit_target(in_self_slot=not self.is_self_in_rdi)

    def _load_target(self) -> None:
        """Load the gate's data, whose first word is the C function's address, where the call expects it."""
        register = self.target_register
        self.a.mov_rm(register, RSP, self.frame.self_slot)
        self.a.note("the gate's data")
        self.a.mov_rm(register, register, self.layout.gate_data_offset)

    def _emit_target(self, *, in_self_slot: bool) -> None:
        """The same on the inline path, unless a register has it since the entry."""
        if self.data_register is not None:
            return
        if in_self_slot and self.reads_self_slot:
            self._load_target()
        elif not in_self_slot:
            self.a.note("the gate's data")
            self.a.mov_rm(R11, RDI, self.layout.gate_data_offset)
        # else: r11 was loaded before rdi was given up

    def _load_stack(self, register: int, data: int) -> None:
        """Load the node of the gate's stack from its data."""
        self.a.note("the gate's stack")
        self.a.mov_rm(register, data, self.layout.bytes_data_offset + stack_operand_offset(self.conversion))

    def _compare_type(self, obj: int, symbol: str, comment: str) -> None:
        """Compare the type of the object in a register with a type, which stays in r10 for the next argument."""
        a = self.a
        if self.type_in_r10 != symbol:
            a.mov_rl(R10, symbol)
            self.type_in_r10 = symbol
        a.note(comment)
        a.cmp_mr(obj, self.layout.type_offset, R10)

    def _emit_unbox(self, way: _Way, obj: int) -> None:
        """Check and unbox one argument, which is in rax or, where it is a number, in another register.

        Jumps away where it is not of the expected form.
        """
        a, step, argument = self.a, way.step, way.argument
        is_last_before_rdi = (
            self._takes(RDI, argument) and not self.is_spilled and not self.reads_self_slot and self.is_self_in_rdi
        )
        if _is_int(step):
            self._unbox_int(way, obj, loads_target=is_last_before_rdi)
            return
        if _is_float(step):
            self._unbox_float(way, obj)
            return
        match step.kind:
            case Unbox.PARAM:
                self._compare_operand_type(way, "the declared class?")
                a.mov_rm(RAX, RAX, self.layout.cdata_pointer_offset)
                a.mov_rm(RAX, RAX, 0)
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
            case Unbox.BOOL:
                a.cmp_rl(RAX, "Py_True")
                a.jcc("e", f"bool_{way.number}")
                a.cmp_rl(RAX, "Py_False")
                a.jcc("ne", "slow")
                a.label(f"bool_{way.number}")
                assert self.layout.ints is not None  # _is_inline
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
                a.note("True and False are ints")
                destination = self._target_register(way)
                a.mov32_rm(destination, RAX, self.layout.ints.digit_offset)
                self._deliver(way, destination)
                return
            case Unbox.STRING:
                self._check_bytes(way)
                self._scan_for_nul()
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
                a.lea(RAX, RAX, self.layout.bytes_data_offset)
            case Unbox.BUFFER:
                self._check_bytes(way)
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
                a.lea(RAX, RAX, self.layout.bytes_data_offset)
            case Unbox.OBJECT:
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
            case Unbox.STRUCT | Unbox.RECORD:
                self._compare_operand_type(way, "the declared struct?")
                a.note("its data")
                a.mov_rm(RAX, RAX, self.layout.cdata_pointer_offset)
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
            case Unbox.HANDLE:
                self._compare_operand_type(way, "the declared pointer type?")
                a.mov_rm(RAX, RAX, self.layout.cdata_pointer_offset)
                a.mov_rm(RAX, RAX, 0)
                if not step.is_nullable:
                    a.note("NULL is refused there")
                    a.test_rr(RAX, RAX)
                    a.jcc("e", "slow")
                if is_last_before_rdi:
                    self._emit_target(in_self_slot=False)
            case _:
                raise AssertionError(f"{step.kind!r} is not inline")
        self._deliver(way, RAX)
        if step.is_nullable:
            a.label(f"next_{way.number}")

    def _compare_operand_type(self, way: _Way, comment: str) -> None:
        """Compare the type of the object in rax with the class in the gate's data."""
        a = self.a
        data = self._emit_data()
        a.mov_rm(R11, data, self.layout.bytes_data_offset + step_operand_offset(way.number))
        a.note(comment)
        a.cmp_mr(RAX, self.layout.type_offset, R11)
        self._jump_unexpected(way)

    def _emit_data(self) -> int:
        """The register with the gate's data: r11, loaded from wherever self is, where no other has it."""
        if self.data_register is not None:
            return self.data_register
        if self.is_self_in_rdi:
            self.a.mov_rm(R11, RDI, self.layout.gate_data_offset)
        else:
            self.a.mov_rm(R11, RSP, self.frame.self_slot)
            self.a.mov_rm(R11, R11, self.layout.gate_data_offset)
        return R11

    def _jump_unexpected(self, way: _Way) -> None:
        """Leave the inline path after a failed type comparison; None may still be NULL."""
        if way.step.is_nullable:
            label = f"none_{way.number}"
            self.nulls.append((way, self._target_register(way)))
            self.a.jcc("ne", label)
        else:
            self.a.jcc("ne", "slow")

    def _check_bytes(self, way: _Way) -> None:
        a = self.a
        a.mov_rl(R11, "PyBytes_Type")
        a.note("exact bytes?")
        a.cmp_mr(RAX, self.layout.type_offset, R11)
        self._jump_unexpected(way)

    def _scan_for_nul(self) -> None:
        """Find the first NUL of the bytes at rax, 16 at a time; it must be the one after the last byte.

        Loads are aligned, so none crosses into a page that is not there; an object that is not aligned (static
        ones) goes the slow way.
        """
        a, layout = self.a, self.layout
        number = len(self.a.code)
        a.note("aligned data?")
        a.lea(R11, RAX, layout.bytes_data_offset)
        a.mov_rr(R10, R11)
        a.and32_ri(R10, 15)
        a.jcc("ne", "slow")
        a.label(f"scan_{number}")
        a.nul_mask_rm(R10, R11)
        a.add_ri(R11, 16)
        a.test_rr(R10, R10)
        a.jcc("e", f"scan_{number}")
        a.nul_index_r(R10)
        a.add_rr(R11, R10)
        a.sub_rr(R11, RAX)
        a.sub_ri(R11, 16 + layout.bytes_data_offset)
        a.note("no NUL inside")
        a.cmp_rm(R11, RAX, layout.bytes_size_offset)
        a.jcc("ne", "slow")
        self.type_in_r10 = ""

    def _target_register(self, way: _Way) -> int:
        """The register that takes the value, or rax where the value goes to memory."""
        if self.is_spilled or not way.argument.register:
            return RAX
        return self.a.general[way.argument.register]

    def _deliver(self, way: _Way, source: int) -> None:
        """Bring an integer or pointer value to its register, its stack slot, or its value slot."""
        a = self.a
        if self.is_spilled:
            a.mov_mr(RSP, self.frame.value(way.number), source)
        elif way.step.kind in _BY_ADDRESS:
            self._deliver_memory(way.argument, source)
        elif way.argument.register:
            destination = self.a.general[way.argument.register]
            if destination != source:
                a.mov_rr(destination, source)
        else:
            self._store_on_stack(way.argument, source)

    def _store_on_stack(self, argument: Argument, source: int) -> None:
        """Bring an integer or pointer value to its place on the stack."""
        a = self.a
        stores = {4: a.mov32_mr, 2: a.mov16_mr, 1: a.mov8_mr} if self.packs_stack else {}
        stores.get(argument.size_bytes, a.mov_mr)(RSP, argument.stack_offset, source)

    def _deliver_memory(self, argument: Argument, base: int) -> None:
        """Bring a value of several words from where `base` points to its registers or its place on the stack."""
        a = self.a
        self.type_in_r10 = ""
        if argument.pieces:
            for piece in argument.pieces:
                self._load_piece(piece, base)
            return
        size, place = argument.size_bytes, argument.memory_offset
        done = 0
        if self.packs_stack or argument.copy_offset is not None:
            emit_copy(a, RSP, place, base, 0, size, R10)  # r11 may hold the gate's data already
            self._deliver_copy(argument)
            return
        while size - done >= 8:
            a.mov_rm(R10, base, done)
            a.mov_mr(RSP, place + done, R10)
            done += 8
        if size - done:
            self._load_integer(R10, base, done, size - done, R11)
            a.mov_mr(RSP, place + done, R10)

    def _deliver_copy(self, argument: Argument) -> None:
        """Bring the address of a copy to its register or its place on the stack, where the value goes by one."""
        a = self.a
        if argument.copy_offset is None:
            return
        a.note("the address of the copy")
        if argument.register:
            a.lea(a.general[argument.register], RSP, argument.copy_offset)
        else:
            a.lea(R10, RSP, argument.copy_offset)
            a.mov_mr(RSP, argument.stack_offset, R10)

    def _load_piece(self, piece: Piece, base: int) -> None:
        a = self.a
        a.note(f"bytes {piece.offset_bytes} to {piece.offset_bytes + piece.size_bytes - 1}")
        if piece.eightbyte_class is Class.SSE:
            # what is left of an eightbyte is a float, or padding
            load = {16: a.movups_xm, 8: a.movsd_xm}.get(piece.size_bytes, a.movss_xm)
            if piece.size_bytes >= 4:
                load(self.a.vector[piece.register], base, piece.offset_bytes)
            return
        # r11 may hold the gate's data already
        self._load_integer(self.a.general[piece.register], base, piece.offset_bytes, piece.size_bytes, R10)

    def _load_integer(self, register: int, base: int, offset: int, size: int, scratch: int) -> None:
        """Load `size` bytes, none beyond them; sizes that no load has are put together of two that overlap."""
        a = self.a
        single = {8: a.mov_rm, 4: a.mov32_rm, 2: a.movzx16_rm, 1: a.movzx8_rm}.get(size)
        if single is not None:
            single(register, base, offset)
            return
        part = 2 if size == 3 else 4
        load = a.movzx16_rm if part == 2 else a.mov32_rm
        load(scratch, base, offset + size - part)
        a.shl_ri(scratch, 8 * (size - part))
        load(register, base, offset)
        a.or_rr(register, scratch)

    def _unbox_int(self, way: _Way, obj: int, *, loads_target: bool) -> None:
        a, step = self.a, way.step
        form = self.layout.ints
        assert form is not None  # _is_inline
        self._compare_type(obj, "PyLong_Type", "an exact int?")
        a.jcc("ne", "slow")
        a.note("one positive digit?")
        a.cmp_mi(obj, form.tag_offset, form.one_positive_digit)
        a.jcc("ne", f"other_{way.number}")
        destination = self._target_register(way)
        wraps = step.kind is Unbox.PARAM
        value_bits = 8 * step.size_bytes - (step.kind is Unbox.SIGNED)
        if wraps and step.size_bytes < 4:
            a.mov32_rm(RAX, obj, form.digit_offset)
            a.label(f"value_{way.number}")
            self._wrap(step, RAX)
            if loads_target:
                self._emit_target(in_self_slot=False)
            self._deliver(way, RAX)
            self.others.append((way, obj, RAX))
            return
        if value_bits < DIGIT_BITS and not wraps:
            a.mov32_rm(RAX, obj, form.digit_offset)
            a.note(f"fits {step.size_bytes} byte{'s' * (step.size_bytes > 1)}?")
            a.cmp32_ri(RAX, (1 << value_bits) - 1)
            a.jcc("a", "slow")
            a.label(f"value_{way.number}")
            if loads_target:
                self._emit_target(in_self_slot=False)
            self._deliver(way, RAX)
            self.others.append((way, obj, RAX))
            return
        if loads_target:
            # rdi is lost with the load; the cold block comes back behind it with its value in rax
            self._emit_target(in_self_slot=False)
        a.mov32_rm(destination, obj, form.digit_offset)
        a.label(f"value_{way.number}")
        self._deliver(way, destination)
        self.others.append((way, obj, destination))

    def _wrap(self, step: UnboxStep, register: int) -> None:
        """Cut an int to its C type, as ctypes does, and widen it again."""
        kind = Unbox.SIGNED if step.element is Element.SIGNED else Unbox.UNSIGNED
        extension = _EXTENSIONS.get((step.size_bytes, kind))
        if extension is not None:
            getattr(self.a, extension)(register, register)

    def _unbox_float(self, way: _Way, obj: int) -> None:
        a, step, argument = self.a, way.step, way.argument
        offset = self.layout.float_value_offset
        assert offset is not None  # _is_inline
        self._compare_type(obj, "PyFloat_Type", "an exact float?")
        a.jcc("ne", "slow")
        if step.kind is Unbox.PARAM and step.size_bytes == 4:
            is_direct = bool(argument.register) and not self.is_spilled
            register = self.a.vector[argument.register] if is_direct else XMM15
            a.cvtsd2ss_xm(register, obj, offset)
            if not is_direct:
                slot = self.frame.value(way.number) if self.is_spilled else argument.stack_offset
                a.movss_mx(RSP, slot, register)
            return
        if step.kind is Unbox.FLOAT:
            is_direct = bool(argument.register) and not self.is_spilled
            register = self.a.vector[argument.register] if is_direct else XMM15
            a.cvtsd2ss_xm(register, obj, offset)
            a.movd_rx(register, R11)
            a.has_all32_ri(R11, 0x7F800000)
            a.jcc("e", "slow")
            if not is_direct:
                slot = self.frame.value(way.number) if self.is_spilled else argument.stack_offset
                a.movss_mx(RSP, slot, register)
            return
        if self.is_spilled:
            a.mov_rm(RAX, obj, offset)
            a.mov_mr(RSP, self.frame.value(way.number), RAX)
        elif argument.register:
            a.movsd_xm(self.a.vector[argument.register], obj, offset)
        elif argument.eightbyte_class is Class.X87:
            a.fld64_m(obj, offset)
            a.fstp80_m(RSP, argument.stack_offset)
        else:
            a.mov_rm(RAX, obj, offset)
            a.mov_mr(RSP, argument.stack_offset, RAX)

    # -- cold blocks of the inline path ----------------------------------------------------------------
    def _emit_cold_unboxing(self) -> None:
        for way, obj, destination in self.others:
            self._emit_other_int(way, obj, destination)
        if self.others:
            self._emit_other()
        for way, destination in self.nulls:
            self._emit_none(way, destination)

    def _emit_other_int(self, way: _Way, obj: int, destination: int) -> None:
        """An int that is not one positive digit: let `other` read it, then see whether it fits."""
        a, step = self.a, way.step
        a.label(f"other_{way.number}")
        if obj != RAX:
            a.mov_rr(RAX, obj)
        a.call_near("other")
        extension = _EXTENSIONS.get((step.size_bytes, step.kind))
        if step.kind is Unbox.PARAM:
            if step.size_bytes == 4:
                self._wrap(step, RAX)
        elif extension is not None:
            getattr(a, extension)(R11, RAX)
            a.note("the same when extended from its size?")
            a.cmp_rr(R11, RAX)
            a.jcc("ne", "slow")
        elif step.kind is Unbox.UNSIGNED:
            a.test_rr(RAX, RAX)
            a.jcc("s", "slow")
        if destination != RAX:
            if destination == RDI and not self.is_spilled and not self.reads_self_slot:
                self._emit_target(in_self_slot=False)
            a.mov_rr(destination, RAX)
        a.jmp(f"value_{way.number}")

    def _emit_other(self) -> None:
        """A subroutine of this gate: rax = the value of the int at rax, if it has at most two digits.

        Zero and negative ints of one digit, positive ints of two; the others go the slow way.
        """
        a = self.a
        form = self.layout.ints
        assert form is not None  # _is_inline
        a.label("other")
        a.mov_rm(R11, RAX, form.tag_offset)
        if form.is_tagged:
            a.note("more than one digit?")
            a.cmp_ri(R11, 16)
            a.jcc("ae", "two_digits")
            a.mov32_rm(RAX, RAX, form.digit_offset)
            a.note("sign = 1 - (tag & 3)")
            a.and32_ri(R11, 3)
            a.neg_r(R11)
            a.add_ri(R11, 1)
        else:
            a.note("more than one digit?")
            a.add_ri(R11, 1)
            a.cmp_ri(R11, 2)
            a.jcc("a", "two_digits")
            a.mov32_rm(RAX, RAX, form.digit_offset)
            a.sub_ri(R11, 1)
        a.imul_rr(RAX, R11)
        a.ret_near()
        a.label("two_digits")
        a.note("two digits, positive?")
        a.cmp_mi(RAX, form.tag_offset, 16 if form.is_tagged else 2)
        a.jcc("ne", "longer")
        a.mov32_rm(R11, RAX, form.digit_offset + 4)
        a.mov32_rm(RAX, RAX, form.digit_offset)
        a.shl_ri(R11, DIGIT_BITS)
        a.add_rr(RAX, R11)
        a.ret_near()
        a.label("longer")
        a.drop_return()
        a.jmp("slow")

    def _emit_none(self, way: _Way, destination: int) -> None:
        """None is NULL."""
        a = self.a
        a.label(f"none_{way.number}")
        a.note("None is NULL")
        a.cmp_rl(RAX, "Py_None")
        a.jcc("ne", "slow")
        if destination == RDI and not self.is_spilled and not self.reads_self_slot:
            self._emit_target(in_self_slot=False)
        a.xor32_rr(destination, destination)
        if destination == RAX:
            self._deliver(way, RAX)
        a.jmp(f"next_{way.number}")

    # -- the slow path ---------------------------------------------------------------------------------
    def _emit_slow(self) -> None:
        """Convert every argument by the shared routine, into the value slots."""
        a, frame = self.a, self.frame
        a.label("slow")
        if self.has_inline_path:
            a.note("start again")
            a.mov_rm(RDI, RSP, frame.self_slot)
        self.reads_self_slot = True
        if self.conversion.ctypes is not None:
            a.mov_mr(RSP, frame.args_slot, RSI)
        a.lea(RDX, RSP, frame.values)
        a.lea(RCX, RSP, frame.views)
        if frame.view_count:
            a.mov32_mi(RSP, frame.in_use_slot, 1)
        a.call_l("callgate_convert")
        a.test32_rr(RAX, RAX)
        a.jcc("ne", "failed")

    def _emit_loads(self) -> None:
        """Bring the converted values from their slots to where C expects them."""
        a, frame = self.a, self.frame
        for way in self.ways:
            if is_copied_by_call(way.argument):
                a.lea(RDI, RSP, way.argument.memory_offset)
                a.mov_rm(RSI, RSP, frame.value(way.number))
                a.mov_ri(RDX, way.argument.size_bytes)
                a.call_l("memcpy")
        # a quad is made in the first vector register: that of the argument that travels there may stay
        quads = sorted((way for way in self.ways if way.argument.is_quad), key=self._is_made_in_place)
        for way in quads:
            a.fld64_m(RSP, frame.value(way.number))
            if self._is_made_in_place(way):
                a.double_to_quad()
            else:
                a.fstp80_m(RSP, self._quad_place(way))
        for way in sorted(self.ways, key=lambda way: bool(way.argument.registers)):
            slot, argument = frame.value(way.number), way.argument
            if way.step.kind in _BY_ADDRESS:
                if is_copied_by_call(argument):
                    self._deliver_copy(argument)
                else:
                    a.mov_rm(RAX, RSP, slot)
                    self._deliver_memory(argument, RAX)
            elif argument.eightbyte_class is Class.X87:
                a.fld64_m(RSP, slot)
                a.fstp80_m(RSP, argument.stack_offset)
            elif argument.is_quad:
                if argument.register and not self._is_made_in_place(way):
                    a.movups_xm(a.vector[argument.register], RSP, self._quad_place(way))
            elif not argument.register:
                a.mov_rm(RAX, RSP, slot)
                self._store_on_stack(argument, RAX)
            elif argument.eightbyte_class is Class.SSE:
                is_float = way.step.kind is Unbox.FLOAT or (way.step.kind is Unbox.PARAM and way.step.size_bytes == 4)
                load = a.movss_xm if is_float else a.movsd_xm
                load(self.a.vector[argument.register], RSP, slot)
            else:
                a.mov_rm(self.a.general[argument.register], RSP, slot)

    def _is_made_in_place(self, way: _Way) -> bool:
        return bool(way.argument.register) and self.a.vector[way.argument.register] == XMM0

    def _quad_place(self, way: _Way) -> int:
        """Where a quad lies before the call: on the stack, or where its register is loaded from."""
        if not way.argument.register:
            return way.argument.stack_offset
        return self.frame.quads + 16 * sum(other.argument.is_quad for other in self.ways[: way.number])

    # -- the call --------------------------------------------------------------------------------------
    def _emit_ready(self) -> None:
        """Spilled gates: what must happen between conversion and call."""
        a, frame, conversion = self.a, self.frame, self.conversion
        a.label("ready")
        if not self.is_spilled:
            return
        self._make_records()
        if self.rules.swaps_errno:
            a.note("where ctypes keeps errno")
            a.call_l("callgate_errno_space")
            a.mov_mr(RSP, frame.errno_slot, RAX)
            a.test_rr(RAX, RAX)
            a.jcc("e", "no_errno_space")
        if conversion.is_on_stack:
            self._emit_target(in_self_slot=True)
            self._load_stack(R10, self.target_register)
            emit_claim(a, self.layout, R10, RAX, "stack_taken")
        if conversion.is_blocking:
            a.note("release the GIL")
            a.call_l("PyEval_SaveThread")
            a.keep_result_m(RSP, frame.state_slot)
        match conversion.saved_error:
            case SavedError.ERRNO:
                a.call_l("__errno_location")
                a.note("errno = 0")
                a.clear_result32_m()
            case SavedError.LAST:
                a.note("the last error = 0")
                a.xor32_rr(RDI, RDI)
                a.call_l("SetLastError")
            case SavedError.NONE:
                pass
            case _:
                unreachable(conversion.saved_error)
        if self.rules.swaps_errno:
            self._swap_errno()
        self._emit_loads()
        if self.makes_result:
            a.note("where the result goes")
            a.mov_rm(RAX, RSP, self._made_result)
            a.mov_rm(self.a.general[self.plan.result_pointer], RAX, self.layout.cdata_pointer_offset)
        self._load_target()

    @property
    def _made_result(self) -> int:
        """The slot of the object made for a result in memory: boxing uses the result slot, and no pieces come."""
        return self.frame.wide_slot

    @property
    def _made_slots(self) -> list[tuple[int, int]]:
        """The slots of the objects made before the call, and their operands."""
        made = [(self.frame.out(index), 1 + index) for index in self.made_outs]
        return [(self._made_result, 0), *made] if self.makes_result else made

    def _make_records(self) -> None:
        """Make the objects that C writes into."""
        a, made = self.a, self._made_slots
        for slot, _ in made:
            a.mov_mi(RSP, slot, 0)
        for slot, operand in made:
            a.note("an object for C to fill")
            self._new_record(operand)
            a.mov_mr(RSP, slot, RAX)
            a.test_rr(RAX, RAX)
            a.jcc("e", "give_up")

    def _emit_outs(self) -> None:
        """Give C the addresses of the Out storage, which starts as zero."""
        a = self.a
        for index, out in enumerate(self.conversion.outs):
            argument = self.plan.arguments[out.position]
            offset = self.frame.out(index)
            a.note(f"out {index + 1}")
            if out.box.kind is Box.STRUCT:
                register = self.a.general[argument.register] if argument.register else RAX
                a.mov_rm(register, RSP, offset)
                a.mov_rm(register, register, self.layout.cdata_pointer_offset)
                if not argument.register:
                    a.mov_mr(RSP, argument.stack_offset, RAX)
                continue
            a.mov_mi(RSP, offset, 0)
            if out.box.size_bytes > 8:
                a.mov_mi(RSP, offset + 8, 0)
            if argument.register:
                a.lea(self.a.general[argument.register], RSP, offset)
            else:
                a.lea(RAX, RSP, offset)
                a.mov_mr(RSP, argument.stack_offset, RAX)

    def _emit_call_and_after(self) -> None:
        a, frame, conversion = self.a, self.frame, self.conversion
        self._emit_outs()
        if conversion.is_on_stack:
            self._load_stack(R10, self.target_register)
            if not self.is_spilled:
                emit_claim(a, self.layout, R10, RAX, "stack_taken")
            emit_go(a, self.plan.stack_bytes)
        if self.plan.is_variadic:
            a.vector_count(self.plan.vector_registers)
        for argument in self.plan.arguments:
            if argument.twin:
                a.movq_rx(a.vector[argument.register], a.general[argument.twin])
        if frame.saved:
            self._mark_registers()
        a.note("call C")
        a.call_m(
            self.target_register,
            self.layout.bytes_data_offset + DATA_TARGET,
            gives_rax=self.plan.result.eightbyte_class is Class.INTEGER,
        )
        if frame.saved:
            self._compare_registers()
        if conversion.is_on_stack:
            emit_come_back(a, self.plan.stack_bytes)
            if not conversion.is_blocking:
                emit_release(a, self.layout, R10, R11)
        if self.plan.result.is_quad:
            a.quad_to_double()
        is_followed = conversion.is_blocking or self.rules.swaps_errno or conversion.saved_error is not SavedError.NONE
        is_saved = is_followed and not self.makes_result and not self.is_several_words
        if self.is_several_words:
            self._store_pieces()
        if is_saved:
            self._save_result()
        match conversion.saved_error:
            case SavedError.ERRNO:
                a.call_l("__errno_location")
                a.mov32_rm(RAX, RAX, 0)
                a.mov32_mr(RSP, frame.errno_slot, RAX)
            case SavedError.LAST:
                a.call_l("GetLastError")
                a.mov32_mr(RSP, frame.errno_slot, RAX)
            case SavedError.NONE:
                pass
            case _:
                unreachable(conversion.saved_error)
        if self.rules.swaps_errno:
            self._swap_errno()
        if conversion.is_blocking:
            a.note("take the GIL")
            a.mov_rm(RDI, RSP, frame.state_slot)
            a.call_l("PyEval_RestoreThread")
            if conversion.is_on_stack:
                self._emit_target(in_self_slot=True)
                self._load_stack(R10, self.target_register)
                emit_release(a, self.layout, R10, R11)
        if is_saved:
            self._restore_result()
        if self.rules.checks_error:
            a.note("did C set an exception?")
            a.jmp("raised")
        else:
            a.note("did a callback raise?")
            a.mov_rl(RCX, "raised_count")
            a.cmp_mi(RCX, 0, 0)
            a.jcc("ne", "raised")
        a.label("not_raised")
        self._extend_result()
        self._emit_judgement()
        self._emit_boxing()

    # -- the check that C brings back what is the caller's (CALLGATE_CHECK) ---------------------------------
    def _mark_registers(self) -> None:
        """Put the stack pointer into every register that C must bring back, so that any change shows."""
        a = self.a
        a.note("marked: they must come back, and the stack pointer")
        a.lea(R10, RSP)
        for register in self.frame.saved:
            a.mov_rr(register, R10)

    def _compare_registers(self) -> None:
        a = self.a
        a.note("did C bring them back?")
        a.lea(R10, RSP)
        for register in self.frame.saved:
            a.cmp_rr(register, R10)
            a.jcc("ne", "changed")

    def _emit_changed(self) -> None:
        """Something is changed: tell the gate what, which raises.  r10 = the stack pointer as it came back.

        The stack pointer is right if any of the marks equals it.  Otherwise the first or the last mark, whichever is
        near, is what it was; with none the stack is lost.
        """
        a, frame = self.a, self.frame
        a.label("changed")
        for register in frame.saved:
            a.cmp_rr(register, R10)
            a.jcc("e", "stack_known")
        for register in (frame.saved[0], frame.saved[-1]):
            a.mov_rr(R11, register)
            a.sub_rr(R11, R10)
            a.add_ri(R11, _NEAR_BYTES)
            a.note("near?")
            a.cmp_ri(R11, 2 * _NEAR_BYTES)
            a.jcc("a", f"not_{register}")
            a.note("the stack pointer as it was")
            a.lea(RSP, register)
            a.jmp("stack_known")
            a.label(f"not_{register}")
        a.label("stack_known")
        a.lea(R11, RSP)
        if self.conversion.is_on_stack:
            a.note("back")
            a.mov_rm(RCX, RSP, self.plan.stack_bytes)
            a.set_stack(RCX)
        for index, register in enumerate((R11, R10, *frame.saved)):
            a.mov_mr(RSP, frame.check_slot + 8 * index, register)
        if self.is_several_words:
            self._store_pieces()
        else:
            self._save_result()
        if self.rules.swaps_errno:
            self._swap_errno()
        if self.conversion.is_blocking:
            a.note("take the GIL")
            a.mov_rm(RDI, RSP, frame.state_slot)
            a.call_l("PyEval_RestoreThread")
        if self.conversion.is_on_stack:
            self._load_target()
            self._load_stack(R10, self.target_register)
            emit_release(a, self.layout, R10, R11)
        a.note("an exception that waits comes first")
        a.call_l(self._raised_routine())
        a.jcc("ne", "raising")
        a.mov_rm(RDI, RSP, frame.self_slot)
        a.lea(RSI, RSP, frame.check_slot)
        a.call_l("callgate_changed")
        a.jmp("raising")

    def _swap_errno(self) -> None:
        """Exchange errno with ctypes' copy of it."""
        a = self.a
        a.call_l("__errno_location")
        a.mov_rm(RDX, RSP, self.frame.errno_slot)
        a.mov32_rm(RCX, RAX, 0)
        a.mov32_rm(RSI, RDX, 0)
        a.mov32_mr(RAX, 0, RSI)
        a.mov32_mr(RDX, 0, RCX)

    def _store_pieces(self) -> None:
        """Keep a result of several words in memory, as it lies in C's."""
        a, slot = self.a, self.frame.wide_slot
        pieces = self.plan.result.pieces
        covered = sum(8 for piece in pieces if piece.eightbyte_class is not Class.X87)
        for offset in (0, 8):
            if offset < self.plan.result.size_bytes and covered < self.plan.result.size_bytes:
                a.note("what no register brings is zero")
                a.mov_mi(RSP, slot + offset, 0)
        for piece in self.plan.result.pieces:
            if piece.eightbyte_class is Class.X87:
                a.fstp80_m(RSP, slot)
            elif piece.size_bytes == 16:
                a.movups_mx(RSP, slot + piece.offset_bytes, self.a.vector[piece.register])
            elif piece.eightbyte_class is Class.SSE:
                store = a.movss_mx if piece.size_bytes == 4 else a.movsd_mx
                store(RSP, slot + piece.offset_bytes, self.a.vector[piece.register])
            else:
                a.mov_mr(RSP, slot + piece.offset_bytes, self.a.general[piece.register])

    def _save_result(self) -> None:
        slot = self.frame.result_slot
        klass = self.plan.result.eightbyte_class
        if klass is Class.INTEGER:
            self.a.keep_result_m(RSP, slot)
        elif klass is Class.SSE:
            self.a.movsd_mx(RSP, slot, XMM0)
        elif klass is Class.X87:
            self.a.fstp64_m(RSP, slot)

    def _restore_result(self) -> None:
        slot = self.frame.result_slot
        klass = self.plan.result.eightbyte_class
        if klass is Class.INTEGER:
            self.a.mov_rm(RAX, RSP, slot)
        elif klass is Class.SSE:
            self.a.movsd_xm(XMM0, RSP, slot)
        elif klass is Class.X87:
            self.a.fld64_m(RSP, slot)

    def _extend_result(self) -> None:
        """Widen rax to 64 bits: the upper bits of a narrow result are undefined (psABI 3.2.3, "Returning")."""
        result = self.conversion.result
        if result.kind in _NOT_EXTENDED:
            return
        self._extend(result)

    def _emit_judgement(self) -> None:
        """Compare the raw result with what means failure."""
        a = self.a
        judgement, result = self.conversion.judgement, self.conversion.result
        if judgement in (Judgement.NEVER, Judgement.PREDICATE):
            return
        if result.kind in _NOT_JUDGED:
            raise DeclarationError(f"fails_if cannot judge this result: {judgement.name.lower()}")
        a.note(f"failed if {judgement.name.lower()}")
        match judgement:
            case Judgement.NEGATIVE:
                a.test_rr(RAX, RAX)
                a.jcc("s", "judged")
            case Judgement.MINUS_ONE:
                if result.size_bytes == 4:
                    a.cmp32_ri(RAX, -1)
                else:
                    is_narrow = result.is_unsigned and result.size_bytes < 4
                    a.cmp_ri(RAX, (1 << 8 * result.size_bytes) - 1 if is_narrow else -1)
                a.jcc("e", "judged")
            case Judgement.ZERO:
                a.test_rr(RAX, RAX)
                a.jcc("e", "judged")
            case Judgement.NONZERO:
                a.test_rr(RAX, RAX)
                a.jcc("ne", "judged")
            case Judgement.NEVER | Judgement.PREDICATE:
                pass
            case _:
                unreachable(judgement)

    # -- boxing ----------------------------------------------------------------------------------------
    def _emit_boxing(self) -> None:
        a, frame, conversion = self.a, self.frame, self.conversion
        if self.boxes_plainly:
            self._box_result(is_tail=True)
            return
        is_kept = not conversion.drops_result and conversion.result.kind is not Box.NONE
        if conversion.judgement is Judgement.PREDICATE:
            self._box_result(is_tail=False)
            a.test_rr(RAX, RAX)
            a.jcc("e", "give_up" if self._made_slots else "leave")
            a.note("the predicate")
            a.mov_rm(RDI, RSP, frame.self_slot)
            a.mov_rr(RSI, RAX)
            a.mov32_rm(RDX, RSP, frame.errno_slot)
            a.note("takes over the result; gives it back, or 0")
            a.call_l("callgate_judge")
            a.test_rr(RAX, RAX)
            a.jcc("e", "give_up" if self._made_slots else "leave")
            if not is_kept:
                a.mov_rr(RDI, RAX)
                a.call_l("Py_DecRef")
        elif self.rules.calls_errcheck:
            self._box_result(is_tail=False)
            self._call_errcheck()
            is_kept = True
        elif is_kept and not conversion.outs:
            self._box_result(is_tail=False)
        elif is_kept and not self.makes_result:
            self._save_result_for_tuple()
        if conversion.outs:
            self._box_outs(is_kept=is_kept)
        elif not is_kept:
            self._box_none()
        a.label("leave")
        self._emit_leave()

    def _load_length(self, step: BoxStep, operand: int) -> None:
        a = self.a
        if operand:
            a.note("where all Outs lie, to be freed if this one fails")
            a.lea(RCX, RSP, self.frame.outs)
        elif step.length_step is not None:
            a.mov_rm(RCX, RSP, self.frame.value(step.length_step))
        elif step.length_out is not None:
            out = self.conversion.outs[step.length_out]
            unsigned = {1: a.movzx8_rm, 2: a.movzx16_rm, 4: a.mov32_rm}
            signed = {1: a.movsx8_rm, 2: a.movsx16_rm, 4: a.movsxd_rm}
            load = (signed if out.box.kind is Box.SIGNED else unsigned).get(out.box.size_bytes, a.mov_rm)
            load(RCX, RSP, self.frame.out(step.length_out))
        else:
            a.xor32_rr(RCX, RCX)

    def _call_errcheck(self) -> None:
        """Let errcheck have the last word on the object in rax, which it takes over."""
        a = self.a
        a.test_rr(RAX, RAX)
        a.jcc("e", "leave")
        a.mov_rr(RSI, RAX)
        a.mov_rm(RDI, RSP, self.frame.self_slot)
        a.mov_rm(RDI, RDI, self.layout.gate_data_offset)
        a.add_ri(RDI, self.layout.bytes_data_offset + result_operand_offset(self.step_count, 1))
        a.mov_rm(RDX, RSP, self.frame.args_slot)
        a.mov_ri(RCX, len(self.ways))
        a.note("errcheck(result, function, arguments)")
        a.call_l("callgate_errcheck")

    def _box_result(self, *, is_tail: bool) -> None:
        """The result as an object in rax."""
        result = self.conversion.result
        if self.makes_result:
            self.a.mov_rm(RAX, RSP, self._made_result)
            self.a.note("the caller's now")
            self.a.mov_mi(RSP, self._made_result, 0)
            self._finish_box(is_tail=is_tail)
        elif result.kind in (Box.STRUCT, Box.WIDE):
            self._box_memory(result, "result", 0, self.frame.wide_slot, is_tail=is_tail)
        else:
            self._box(result, "result", 0, is_tail=is_tail)

    def _save_result_for_tuple(self) -> None:
        kind = self.conversion.result.kind
        if self.is_several_words:
            return  # in memory already
        if kind in (Box.DOUBLE, Box.FLOAT):
            self.a.movsd_mx(RSP, self.frame.result_slot, XMM0)
        elif kind is Box.LONG_DOUBLE:
            self.a.fstp64_m(RSP, self.frame.result_slot)
        else:
            self.a.mov_mr(RSP, self.frame.result_slot, RAX)

    def _box_outs(self, *, is_kept: bool) -> None:
        """Box the outs, and the result before them where it is kept: one value alone, more in a tuple."""
        a, frame, conversion = self.a, self.frame, self.conversion
        count = len(conversion.outs) + is_kept
        is_judged_object = conversion.judgement is Judgement.PREDICATE
        if count == 1:
            self._box_out(0)
            return
        if is_kept and is_judged_object:
            a.mov_mr(RSP, frame.result_slot, RAX)
        a.mov_ri(RDI, count)
        a.call_l("PyTuple_New")
        a.mov_mr(RSP, frame.value_slot, RAX)
        a.test_rr(RAX, RAX)
        a.jcc("e", "no_tuple")
        position = 0
        if is_kept:
            if is_judged_object:
                a.mov_rm(RAX, RSP, frame.result_slot)
            else:
                if not self.makes_result and not self.is_several_words:
                    self._load_result()
                self._box_result(is_tail=False)
            self._put_in_tuple(position)
            position += 1
        for index in range(len(conversion.outs)):
            self._box_out(index)
            self._put_in_tuple(position)
            position += 1
        a.mov_rm(RAX, RSP, frame.value_slot)
        a.jmp("leave")
        a.label("tuple_failed")
        a.mov_rm(RDI, RSP, frame.value_slot)
        a.call_l("Py_DecRef")
        if self._made_slots:
            a.jmp("give_up")
        else:
            a.xor32_rr(RAX, RAX)
            a.jmp("leave")
        a.label("no_tuple")
        if is_kept and is_judged_object:
            a.mov_rm(RDI, RSP, frame.result_slot)
            a.call_l("Py_DecRef")
        if self._made_slots:
            a.jmp("give_up")
        else:
            a.xor32_rr(RAX, RAX)

    def _box_out(self, index: int) -> None:
        """What C stored in an Out, as an object in rax."""
        box = self.conversion.outs[index].box
        offset = self.frame.out(index)
        if box.kind is Box.STRUCT:
            self.a.mov_rm(RAX, RSP, offset)
            self.a.note("the caller's now")
            self.a.mov_mi(RSP, offset, 0)
        elif box.kind is Box.WIDE:
            self._box_memory(box, f"out_{index}", 1 + index, offset, is_tail=False)
        else:
            self._load_out(index)
            self._box(box, f"out_{index}", 1 + index, is_tail=False)

    def _put_in_tuple(self, position: int) -> None:
        a = self.a
        a.test_rr(RAX, RAX)
        a.jcc("e", "tuple_failed")
        a.mov_rm(RDI, RSP, self.frame.value_slot)
        a.mov_ri(RSI, position)
        a.mov_rr(RDX, RAX)
        a.note("steals the reference")
        a.call_l("PyTuple_SetItem")

    def _load_result(self) -> None:
        kind = self.conversion.result.kind
        slot = self.frame.result_slot
        if kind in (Box.DOUBLE, Box.FLOAT):
            self.a.movsd_xm(XMM0, RSP, slot)
        elif kind is Box.LONG_DOUBLE:
            self.a.fld64_m(RSP, slot)
        else:
            self.a.mov_rm(RAX, RSP, slot)

    def _load_out(self, index: int) -> None:
        """Load what C stored in an Out, widened as its boxing expects it."""
        a = self.a
        step = self.conversion.outs[index].box
        offset = self.frame.out(index)
        match step.kind:
            case Box.DOUBLE:
                a.movsd_xm(XMM0, RSP, offset)
            case Box.FLOAT:
                a.movss_xm(XMM0, RSP, offset)
            case Box.LONG_DOUBLE:
                a.fld80_m(RSP, offset)
            case _:
                a.mov_rm(RAX, RSP, offset)
                self._extend(step)

    def _emit_leave(self) -> None:
        """Give up the views, keep the result in rax, return."""
        a, frame = self.a, self.frame
        if frame.view_count:
            a.cmp32_mi(RSP, frame.in_use_slot, 0)
            a.jcc("ne", "release")
            a.label("released")
        self._leave_frame()
        a.ret()

    # -- errors ----------------------------------------------------------------------------------------
    def _emit_errors(self) -> None:
        a, frame = self.a, self.frame
        has_leave = not self.boxes_plainly
        if frame.view_count:
            a.label("release")
            a.mov_mr(RSP, frame.value_slot, RAX)
            a.lea(RDI, RSP, frame.views)
            a.mov_ri(RSI, frame.view_count)
            a.call_l("callgate_release")
            a.mov_rm(RAX, RSP, frame.value_slot)
            a.jmp("released")
        if self.conversion.judgement not in (Judgement.NEVER, Judgement.PREDICATE):
            a.label("judged")
            a.mov_rm(RDI, RSP, frame.self_slot)
            a.mov_rr(RSI, RAX)
            a.mov32_rm(RDX, RSP, frame.errno_slot)
            a.call_l("callgate_fail")
            self._leave_empty(has_leave)
        self._emit_raised(has_leave)
        if frame.saved:
            self._emit_changed()
        if self.conversion.is_on_stack:
            a.label("stack_taken")
            a.mov_rm(RDI, RSP, frame.self_slot)
            a.call_l("callgate_refuse_stack")
            self._leave_empty(has_leave)
            a.note("a thread that may have no stack for signal handlers")
            a.label("new_thread")
            a.mov_mr(RSP, frame.args_slot, RSI)
            a.mov_rr(RSI, RAX)
            a.call_l("callgate_prepare_stack")
            a.test32_rr(RAX, RAX)
            a.jcc("ne", "failed")
            a.mov_rm(RDI, RSP, frame.self_slot)
            a.mov_rm(RSI, RSP, frame.args_slot)
            a.jmp("bound")
        if self._made_slots:
            a.note("the objects that were made for C")
            a.label("give_up")
            for slot, _ in self._made_slots:
                a.mov_rm(RDI, RSP, slot)
                a.call_l("Py_DecRef")
            a.xor32_rr(RAX, RAX)
            if has_leave:
                a.jmp("leave")
            else:
                self._leave_frame()
                a.ret()
        if self.rules.swaps_errno:
            a.label("no_errno_space")
            a.xor32_rr(RAX, RAX)
            self._leave_empty(has_leave)
        if self.conversion.ctypes is not None:
            a.note("keywords, or another count: as the ctypes function has it")
            a.label("unusual")
            self._leave_frame()
            a.jmp_l("callgate_original")
            if self.ways:
                self._emit_failed_as_ctypes()
            return
        a.note("keywords, or a wrong count")
        a.label("unusual")
        a.lea(R8, RSP, frame.keywords)
        a.note("0: the arguments are in order")
        a.call_l("callgate_arrange")
        a.test32_rr(RAX, RAX)
        a.jcc("ne", "failed")
        a.mov_rm(RDI, RSP, frame.self_slot)
        a.lea(RSI, RSP, frame.keywords)
        a.jmp("bound")
        a.note("the exception is set")
        a.label("failed")
        a.xor32_rr(RAX, RAX)
        self._leave_frame()
        a.ret()

    def _emit_failed_as_ctypes(self) -> None:
        """An exception is set; CallOriginal says that ctypes can pass what a gate cannot."""
        a, frame = self.a, self.frame
        a.label("failed")
        a.mov_rl(RDI, "CallOriginal")
        a.call_l("PyErr_ExceptionMatches")
        a.test32_rr(RAX, RAX)
        a.jcc("e", "failed_for_good")
        a.call_l("PyErr_Clear")
        a.mov_rm(RDI, RSP, frame.self_slot)
        a.mov_rm(RSI, RSP, frame.args_slot)
        a.mov_ri(RDX, len(self.ways))
        a.xor32_rr(RCX, RCX)
        self._leave_frame()
        a.jmp_l("callgate_original")
        a.label("failed_for_good")
        a.xor32_rr(RAX, RAX)
        self._leave_frame()
        a.ret()

    def _leave_empty(self, has_leave: bool) -> None:
        """End with an exception: rax is 0."""
        if self._made_slots:
            self.a.jmp("give_up")
        elif has_leave:
            self.a.jmp("leave")
        else:
            self._leave_frame()
            self.a.ret()

    def _raised_routine(self) -> str:
        return "callgate_error_set" if self.rules.checks_error else "callgate_raised"

    def _emit_raised(self, has_leave: bool) -> None:
        """Some callback raised: was it one of this thread's, so that its exception is this call's?"""
        a = self.a
        a.label("raised")
        is_x87 = self.plan.result.eightbyte_class is Class.X87 and not self.is_several_words
        if is_x87:
            self._save_result()
        a.note("keeps rax and xmm0")
        a.call_l(self._raised_routine())
        if is_x87:
            self._restore_result()
        a.jcc("e", "not_raised")
        a.label("raising")
        a.xor32_rr(RAX, RAX)
        self._leave_empty(has_leave)


_NOT_EXTENDED = FLOATING_BOXES | POINTER_BOXES | {Box.NONE, Box.STRUCT, Box.WIDE}
_NOT_JUDGED = FLOATING_BOXES | {Box.NONE, Box.STRUCT, Box.WIDE}
