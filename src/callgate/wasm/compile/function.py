"""One body to machine code, in one pass: control, calls and locals; the rest is in modules beside this one.

Values stay in registers or unread in locals until something needs them elsewhere (`values`).  The locals that are
used most, in loops above all, have a register for the whole function.  A comparison in front of its branch, a result in
front of its `local.set` are one piece: instructions look at the one that follows.

The frame, from rsp up:

    outgoing     results and arguments of calls (layout.Area), as large as the largest
    slots        of the operand stack, one for each position
    locals       those without a register, and the places of float locals around calls
    vmctx        rbx, where functions of other instances are called
    saved        the pins this function uses, pushed
                 return address
    incoming     results and arguments; arguments without a register stay there

Depth never changes between prologue and epilogue, so a return address tells how large its frame is: backtraces need no
more than a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any, Final, NamedTuple

from callgate.asm.code import Code
from callgate.asm.x86_64.avx import AvxAssembler, AvxListingAssembler
from callgate.asm.x86_64.registers import R8, RAX, RCX, RSP
from callgate.wasm.compile.layout import (
    ACTIVATION,
    ACTIVATION_LIMIT,
    COUNTER,
    HIDDEN,
    IMPORT_CODE,
    IMPORT_VMCTX,
    MEMORY,
    MEMORY_BASE,
    PINS,
    POLL,
    RECORD_CODE,
    RECORD_TYPE,
    RECORD_VMCTX,
    TRAP,
    VMCTX,
    XMM_PINS,
    Area,
    VmLayout,
    area_of,
)
from callgate.wasm.compile.values import CONSTANT, LOCAL, REGISTER, SLOT, WINDOW, XMM, XMM_TYPES, Entry, Values
from callgate.wasm.errors import (
    TRAPS,
    IndirectCallMismatch,
    StackExhausted,
    Trap,
    UndefinedElement,
    UninitializedElement,
    Unreachable,
)
from callgate.wasm.types import F32, F64, I32, V128, FuncType
from callgate.wasm.validate import BLOCK, ELSE, IF, LOOP, Body, Context

LITTLE_FRAME_BYTES: Final = 1024
"""Functions that call nothing and take no more than this do not look how much stack is left."""
TRAP_NUMBERS: Final = {trap: number for number, trap in enumerate(TRAPS)}
CONDITION_TAKERS: Final = frozenset((0x0D, 0x04, 0x1B, 0x45))
"""br_if, if, select and i32.eqz: a comparison in front of one stays in the flags."""
NEGATED: Final = {
    **{"e": "ne", "ne": "e", "b": "ae", "ae": "b", "be": "a", "a": "be"},
    **{"l": "ge", "ge": "l", "le": "g", "g": "le", "s": "ns", "ns": "s", "p": "np", "np": "p"},
}


class Site(NamedTuple):
    """A place that backtraces can name: an offset in the code behind a call, and the instruction's in the module.

    `depth_bytes` is the distance from rsp there to the return address.
    """

    code: int
    module: int
    depth_bytes: int


class Compiled(NamedTuple):
    """A function's code.

    `calls` are the places of 32-bit distances to other functions of the module, with the function's number.
    """

    data: bytes
    calls: tuple[tuple[int, int], ...]
    sites: tuple[Site, ...]
    listing: str


Emitters = Mapping[int, Callable[["FunctionCompiler", Any], None]]


class Options(NamedTuple):
    """What code is made for: bounds checks or guard pages, and what the processor has."""

    is_guarded: bool
    features: frozenset[str]


class Shared(NamedTuple):
    """What all functions of a module share while they are compiled."""

    context: Context
    layout: VmLayout
    areas: tuple[Area, ...]  # by type index
    options: Options
    minimum_bytes: int  # that the memory has always
    has_vectors: bool  # in types of functions or globals
    hidden: dict[str, int]  # numbers of the imports that stand for instructions
    is_lazy: bool  # calls go by the records of functions, which are compiled when first called


class _Frame:
    """A block that is open."""

    __slots__ = ("base", "else_entries", "else_label", "label", "opcode", "type")

    def __init__(self, opcode: int, type: FuncType, base: int, label: str) -> None:
        self.opcode = opcode
        self.type = type
        self.base = base
        self.label = label
        self.else_label = ""
        self.else_entries: list[Entry] = []

    @property
    def label_types(self) -> tuple[int, ...]:
        """What a branch to it takes along."""
        return self.type.parameters if self.opcode == LOOP else self.type.results


class FunctionCompiler(Values):
    """The compilation of one body."""

    __slots__ = (
        *("area", "body", "calls", "checked", "cold", "condition", "constants", "epilogue", "frame_bytes", "frames"),
        *(
            "has_avx",
            "instructions",
            "labels",
            "next",
            "offset",
            "options",
            "outgoing_bytes",
            "saved",
            "shared",
            "sites",
        ),
        *("has_avx", "used", "vmctx_home", "xmm_saved"),
    )

    def __init__(self, shared: Shared, body: Body, *, has_listing: bool = False) -> None:
        super().__init__(AvxListingAssembler() if has_listing else AvxAssembler())
        self.shared = shared
        self.options = shared.options
        self.has_avx = "avx" in shared.options.features
        self.body = body
        self.instructions = body.instructions
        self.next = 0  # the number of the instruction behind the one in work
        self.offset = 0
        self.types = body.locals
        self.used = list(compress(range(len(body.locals)), body.weights))  # of 50,000 locals few may be
        self.area = area_of(body.type)
        self.calls: list[tuple[int, int]] = []
        self.sites: list[Site] = []
        self.cold: list[Callable[[], None]] = []
        self.constants: dict[tuple[int, int], str] = {}
        self.labels = 0
        self.condition = ""  # the flags have the value on top of the stack
        self.checked: dict[int, int] = {}  # how far behind the address in a local accesses are known to be in bounds
        self.frames: list[_Frame] = []
        self.epilogue = "return"
        self._lay_out()

    # -- the frame ----------------------------------------------------------------------------------------------------
    def _lay_out(self) -> None:
        body, module = self.body, self.shared.context.module
        outgoing = 0
        calls_others = False
        imported = module.imported_functions
        has_vectors = self.shared.has_vectors or V128 in body.locals
        has_calls = False
        for opcode, immediate, _ in body.instructions:
            if opcode in {16, 18}:
                area = self.shared.areas[module.functions[immediate]]
                calls_others = calls_others or immediate < imported
            elif opcode in {17, 19}:
                area = self.shared.areas[immediate[0]]
                calls_others = True
            elif opcode >= 0x3F:
                if opcode >= 0xFD00:
                    has_vectors = True
                elif opcode >= 0xFC08 or opcode == 0x40:
                    calls_others = has_calls = True
                    outgoing = max(outgoing, 48)
                continue
            else:
                continue
            has_calls = True
            outgoing = max(outgoing, area.size_bytes)
        self.slot_bytes = 16 if has_vectors else 8
        self.outgoing_bytes = outgoing
        self.first_slot = outgoing
        offset = outgoing + self.slot_bytes * body.deepest
        self._choose_pins()
        first_variable = len(body.type.parameters)
        homes = [0] * len(body.locals)
        for local in self.used:
            value = body.locals[local]
            if local >= first_variable and (self.pins[local] < 0 or (value in XMM_TYPES and has_calls)):
                homes[local] = offset
                offset += 16 if value == V128 else 8
        self.vmctx_home = -1
        if calls_others:
            self.vmctx_home = offset
            offset += 8
        pinned = [local for local in self.used if self.pins[local] >= 0]
        taken = {self.pins[local] for local in pinned if body.locals[local] not in XMM_TYPES}
        self.saved = [pin for pin in PINS if pin in taken]
        self.xmm_saved = [local for local in pinned if body.locals[local] in XMM_TYPES]
        self.frame_bytes = offset
        incoming = offset + 8 * len(self.saved) + 8
        for local in range(first_variable):
            homes[local] = incoming + self.area.arguments[local]
        self.homes = homes
        is_little = not has_calls and offset <= LITTLE_FRAME_BYTES
        self._emit_prologue(incoming, is_little=is_little)

    def _choose_pins(self) -> None:
        """Give the locals that are used most a register."""
        body = self.body
        self.pins = [-1] * len(body.locals)
        integers = []
        floats = []
        for local in self.used:
            weight = body.weights[local]
            if body.locals[local] in XMM_TYPES:
                if weight > 1 + 2 * body.calls:  # a call stores and loads it
                    floats.append((-weight, local))
            elif weight > 2:
                integers.append((-weight, local))
        for candidates, registers in ((integers, PINS), (floats, XMM_PINS)):
            candidates.sort()
            for (_, local), register in zip(candidates, registers, strict=False):
                self.pins[local] = register

    def _emit_prologue(self, incoming: int, *, is_little: bool) -> None:
        a = self.a
        a.label("entry")
        if not is_little:
            if self.frame_bytes > LITTLE_FRAME_BYTES:
                a.lea(RAX, RSP, -self.frame_bytes)
                a.cmp_rm(RAX, ACTIVATION, ACTIVATION_LIMIT)
            else:
                a.cmp_rm(RSP, ACTIVATION, ACTIVATION_LIMIT)
            a.jcc("b", "exhausted")
            a.sub32_mi(VMCTX, COUNTER, 1)
            a.jcc("s", "poll_entry")
            a.label("polled")
            self.cold.append(self._emit_entry_slow_paths)
        for pin in self.saved:
            a.push(pin)
        if self.frame_bytes:
            a.sub_ri(RSP, self.frame_bytes)
        if self.vmctx_home >= 0:
            a.mov_mr(RSP, self.vmctx_home, VMCTX)
        self._initialize_locals()

    def _emit_entry_slow_paths(self) -> None:
        """Out of line, before the frame is made."""
        a = self.a
        a.label("exhausted")
        offset = self.instructions[0][2]
        a.note(StackExhausted.text)
        a.mov_ri(RAX, TRAP_NUMBERS[StackExhausted])
        a.call_m(VMCTX, TRAP)
        self.sites.append(Site(len(a.code), offset, 0))
        a.label("poll_entry")
        a.note("signals, limits, other threads")
        a.call_m(VMCTX, POLL)
        self.sites.append(Site(len(a.code), offset, 0))
        a.jmp("polled")

    def _initialize_locals(self) -> None:
        """Load the parameters that have a register; zero the variables."""
        a, body = self.a, self.body
        parameters = len(body.type.parameters)
        zero_is_ready = False
        for local in self.used:
            value, pin = body.locals[local], self.pins[local]
            if local < parameters:
                if pin >= 0:
                    home = self.homes[local]
                    if value == I32:
                        a.mov32_rm(pin, RSP, home)
                    elif value == F64:
                        a.movsd_xm(pin, RSP, home)
                    elif value == F32:
                        a.movss_xm(pin, RSP, home)
                    elif value == V128:
                        a.movups_xm(pin, RSP, home)
                    else:
                        a.mov_rm(pin, RSP, home)
                continue
            if pin >= 0:
                if value in XMM_TYPES:
                    a.xorps_xx(pin, pin)
                else:
                    a.xor32_rr(pin, pin)
                continue
            if not zero_is_ready:
                a.xor32_rr(RAX, RAX)
                zero_is_ready = True
            a.mov_mr(RSP, self.homes[local], RAX)
            if value == V128:
                a.mov_mr(RSP, self.homes[local] + 8, RAX)

    # -- the whole ----------------------------------------------------------------------------------------------------
    def compile(self) -> Compiled:
        """Compile the body."""
        self.frames.append(_Frame(BLOCK, FuncType((), self.body.type.results), 0, self.epilogue))
        self._emit_instructions()
        self._emit_cold()
        self._emit_constants()
        code = self.a.finish()
        return Compiled(code.data, tuple(self.calls), tuple(self.sites), self._listing(code))

    def _emit_instructions(self) -> None:
        emitters = self._emitters()
        instructions, stack = self.instructions, self.stack
        count = len(instructions)
        while self.next < count:
            opcode, immediate, self.offset = instructions[self.next]
            self.next += 1
            before = len(stack)
            emitters[opcode](self, immediate)
            if len(stack) > WINDOW:
                self.narrow(before)

    def _emitters(self) -> Emitters:
        """What compiles each instruction, by opcode."""
        from callgate.wasm.compile.dispatch import EMITTERS

        return EMITTERS

    def _emit_cold(self) -> None:
        """What is seldom run, behind the rest."""
        for emit in self.cold:
            emit()
        self.cold.clear()  # they refer to this compiler, which is gone the sooner without them

    def _listing(self, code: Code) -> str:
        return code.listing() if code.lines else ""

    def _emit_constants(self) -> None:
        """The constants of the function, behind its code."""
        a = self.a
        for (size, bits), label in sorted(self.constants.items(), reverse=True):
            a.data(b"\xcc" * (-len(a.code) % size), "(alignment)")
            a.label(label)
            a.data(bits.to_bytes(size, "little"), f"{bits:#0{2 + 2 * size}x}")

    def reach(self, opcode: int, callee: int) -> None:
        """A call (E8 cd) or a jump (E9 cd) to a function of the module, whose distance is filled in later."""
        code = self.a.code
        code.append(opcode)
        self.calls.append((len(code), callee))
        code += b"\0\0\0\0"

    def label(self) -> str:
        """A new label."""
        self.labels += 1
        return f"L{self.labels}"

    def constant(self, size_bytes: int, bits: int) -> str:
        """The label of a constant."""
        key = size_bytes, bits
        label = self.constants.get(key)
        if label is None:
            label = self.constants[key] = f"C{len(self.constants)}"
        return label

    def constant_of(self, value: int, bits: int) -> str:
        """The label of a constant of a float type or v128."""
        return self.constant(8 if value == F64 else 4 if value == F32 else 16, bits)

    def constant_xmm(self, register: int, value: int, bits: int) -> None:
        a = self.a
        if not bits:
            a.xorps_xx(register, register)
            return
        move = a.movsd_xL if value == F64 else a.movss_xL if value == F32 else a.movups_xL
        move(register, self.constant_of(value, bits))

    def trap_if(self, condition: str, trap: type[Trap], detail: int = R8) -> None:
        """Trap where a condition holds; the place is known by the return address of a call out of line.

        `detail` is the register of a number for the trap's text.
        """
        label = self.label()
        self.a.jcc(condition, label)
        offset = self.offset

        def emit() -> None:
            a = self.a
            a.label(label)
            if detail != R8:
                a.mov32_rr(R8, detail)
            self._emit_trap(trap, offset)

        self.cold.append(emit)

    def _emit_trap(self, trap: type[Trap], offset: int) -> None:
        a = self.a
        a.note(trap.text)
        a.mov_ri(RAX, TRAP_NUMBERS[trap])
        a.call_m(VMCTX, TRAP)
        self.site(offset)

    def site(self, offset: int) -> None:
        """The code that has just called stands for an instruction."""
        self.sites.append(Site(len(self.a.code), offset, self.frame_bytes + 8 * len(self.saved)))

    def site_of_access(self) -> None:
        """The access that follows may fault, which the handler of faults turns into a trap."""
        self.sites.append(Site(len(self.a.code), self.offset, self.frame_bytes + 8 * len(self.saved)))

    def load_home(self, local: int) -> None:
        """Load the register of a float local from its place in the frame."""
        value, pin, home = self.types[local], self.pins[local], self.homes[local]
        (self.a.movsd_xm if value == F64 else self.a.movss_xm if value == F32 else self.a.movups_xm)(pin, RSP, home)

    # -- looking ahead ------------------------------------------------------------------------------------------------
    def following(self) -> int:
        """The opcode of the instruction that follows."""
        return self.instructions[self.next][0]

    def pin_that_follows(self) -> int:
        """The register of the local that the next instruction sets to the result of this one; -1 for none."""
        opcode, local, _ = self.instructions[self.next]
        if opcode in {33, 34}:
            return self.pins[int(local)]
        return -1

    def set_local(self) -> None:
        """The result of this instruction is in the register of the local that the next one sets: that one is done."""
        opcode, local, _ = self.instructions[self.next]
        self.next += 1
        self.checked.pop(local, None)
        if opcode == 0x22:
            self.stack.append(Entry(LOCAL, self.types[local], local))

    def finish(self, register: int, target: int, value: int) -> None:
        """The result is in a temporary, or where `target` is not -1 in the local that is set next."""
        if target >= 0:
            self.set_local()
        elif value in XMM_TYPES:
            self.push_xmm(register, value)
        else:
            self.push(register, value)

    def settle_following(self) -> None:
        """The next instruction sets a local, which this one is going to write: read it for who still wants it."""
        self.settle(self.instructions[self.next][1])

    def finish_condition(self, condition: str) -> None:
        """The flags have the result: leave it there for the instruction that follows, or make a number of it."""
        if self.following() in CONDITION_TAKERS:
            self.condition = condition
            self.stack.append(Entry(CONSTANT, I32, 0))  # stands for the flags
            return
        register = self.take()
        self.a.setcc(condition, register)
        self.a.movzx8_rr(register, register)
        self.push(register, I32)

    def pop_condition(self) -> str:
        """Take an i32 as a condition of the flags: other than zero."""
        position = len(self.stack) - 1
        entry = self.stack.pop()
        if self.condition:
            condition, self.condition = self.condition, ""
            return condition
        register = self.gpr(entry, position)
        self.a.test32_rr(register, register)
        self.release(register)
        return "ne"


# -- locals and globals -----------------------------------------------------------------------------------------------


def local_get(c: FunctionCompiler, local: int) -> None:
    c.stack.append(Entry(LOCAL, c.types[local], local))


def _write_local(c: FunctionCompiler, local: int, entry: Entry, position: int) -> None:
    """Move a value to a local.  A register it is in stays the caller's."""
    c.settle(local)
    c.checked.pop(local, None)
    value = c.types[local]
    pin = c.pins[local]
    if pin < 0:
        c.store(RSP, c.homes[local], entry, position)
    elif value in XMM_TYPES:
        c.load_xmm(pin, entry, position)
    elif entry.place == CONSTANT and not entry.payload:
        c.a.xor32_rr(pin, pin)
    else:
        c.load(pin, entry, position)


def local_set(c: FunctionCompiler, local: int) -> None:
    entry = c.stack.pop()
    if entry.place == LOCAL and entry.payload == local:
        return
    _write_local(c, local, entry, len(c.stack))
    drop_entry(c, entry)


def local_tee(c: FunctionCompiler, local: int) -> None:
    entry = c.stack.pop()
    if entry.place == LOCAL and entry.payload == local:
        c.stack.append(entry)
        return
    _write_local(c, local, entry, len(c.stack))
    if c.pins[local] < 0 and entry.place in (REGISTER, XMM, CONSTANT):
        c.stack.append(entry)
    else:
        drop_entry(c, entry)
        c.stack.append(Entry(LOCAL, c.types[local], local))


def drop_entry(c: FunctionCompiler, entry: Entry) -> None:
    """A value that is not wanted any more."""
    if entry.place == REGISTER:
        c.free.append(entry.payload)
    elif entry.place == XMM:
        c.free_xmm.append(entry.payload)


def drop(c: FunctionCompiler, _: object) -> None:
    drop_entry(c, c.stack.pop())


def nop(c: FunctionCompiler, _: object) -> None:
    pass


def number(value: int) -> Callable[[FunctionCompiler, int], None]:
    """The constants."""

    def emit(c: FunctionCompiler, bits: int) -> None:
        c.stack.append(Entry(CONSTANT, value, bits))

    return emit


def _global_place(c: FunctionCompiler, number: int) -> tuple[int, int, int]:
    """Base, offset and, to be released, the temporary of a global."""
    module = c.shared.context.module
    offset = c.shared.layout.global_at(number)
    if number < module.imported_globals and module.globals[number].is_mutable:
        register = c.take()
        c.a.mov_rm(register, VMCTX, offset)
        return register, 0, register
    return VMCTX, offset, -1


def global_get(c: FunctionCompiler, number: int) -> None:
    value = c.shared.context.module.globals[number].value
    base, offset, temporary = _global_place(c, number)
    a = c.a
    if value in XMM_TYPES:
        register = c.take_xmm()
        (a.movsd_xm if value == F64 else a.movss_xm if value == F32 else a.movups_xm)(register, base, offset)
        if temporary >= 0:
            c.release(temporary)
        c.push_xmm(register, value)
        return
    pin = c.pin_that_follows() if temporary < 0 else -1
    if pin >= 0:
        c.settle_following()
        (a.mov32_rm if value == I32 else a.mov_rm)(pin, base, offset)
        c.set_local()
        return
    register = temporary if temporary >= 0 else c.take()
    (a.mov32_rm if value == I32 else a.mov_rm)(register, base, offset)
    c.push(register, value)


def global_set(c: FunctionCompiler, number: int) -> None:
    entry = c.stack.pop()
    base, offset, temporary = _global_place(c, number)
    c.store(base, offset, entry, len(c.stack))
    if temporary >= 0:
        c.release(temporary)
    drop_entry(c, entry)


# -- blocks -----------------------------------------------------------------------------------------------------------


def _open(c: FunctionCompiler, opcode: int, type: FuncType) -> _Frame:
    frame = _Frame(opcode, type, len(c.stack) - len(type.parameters), c.label())
    c.frames.append(frame)
    return frame


def _parameters_to_slots(c: FunctionCompiler, count: int) -> None:
    """The parameters of a loop must lie where branches put them."""
    first = len(c.stack) - count
    for position in range(first, len(c.stack)):
        entry = c.stack[position]
        if entry.place != SLOT:
            c.store(RSP, c.slot(position), entry, position)
            drop_entry(c, entry)
            c.stack[position] = Entry(SLOT, entry.type, 0)


def block(c: FunctionCompiler, type: FuncType) -> None:
    c.flush()
    _open(c, BLOCK, type)


def loop(c: FunctionCompiler, type: FuncType) -> None:
    c.flush()
    _parameters_to_slots(c, len(type.parameters))
    frame = _open(c, LOOP, type)
    c.checked.clear()
    a = c.a
    a.label(frame.label)
    a.sub32_mi(VMCTX, COUNTER, 1)
    slow, back, offset = c.label(), c.label(), c.offset
    a.jcc("s", slow)
    a.label(back)

    def emit() -> None:
        a.label(slow)
        a.note("signals, limits, other threads")
        a.call_m(VMCTX, POLL)
        c.site(offset)
        a.jmp(back)

    c.cold.append(emit)


def if_(c: FunctionCompiler, type: FuncType) -> None:
    condition = c.pop_condition()
    c.flush()
    _parameters_to_slots(c, len(type.parameters))
    frame = _open(c, IF, type)
    frame.else_label = c.label()
    frame.else_entries = c.stack[frame.base :]  # what is deeper stays as it is
    c.a.jcc(NEGATED[condition], frame.else_label)


def else_(c: FunctionCompiler, is_reached: bool) -> None:
    frame = c.frames[-1]
    if is_reached:
        _make_room(c, frame)
        _move_results(c, frame)
        c.a.jmp(frame.label)
    frame.opcode = ELSE
    c.a.label(frame.else_label)
    c.checked.clear()
    c.stack[frame.base :] = frame.else_entries
    c.release_all()


def end(c: FunctionCompiler, is_reached: bool) -> None:
    frame = c.frames.pop()
    if is_reached and frame.opcode != LOOP:
        _make_room(c, frame)
        _move_results(c, frame)
    a = c.a
    results = frame.type.results
    if not c.frames:
        a.label(c.epilogue)
        _emit_epilogue(c)
        a.ret()
        return
    if frame.opcode == IF:  # without else: what it takes is what it leaves
        if results:
            a.jmp(frame.label) if is_reached else None
            a.label(frame.else_label)
            c.stack[frame.base :] = frame.else_entries
            c.release_all()
            _move_results(c, frame)
        else:
            a.label(frame.else_label)
    if frame.opcode == LOOP:
        # what falls out of a loop comes from one place: its results are where they are, those of dead code anywhere
        if not is_reached:
            del c.stack[frame.base :]
            c.release_all()
            _push_results(c, frame)
        return
    del c.stack[frame.base :]
    c.release_all()
    a.label(frame.label)
    c.checked.clear()
    _push_results(c, frame)


def _push_results(c: FunctionCompiler, frame: _Frame) -> None:
    """Results of a block as `_move_results` puts them."""
    results = frame.type.results
    if len(results) == 1:
        if results[0] in XMM_TYPES:
            c.free_xmm.remove(0)
            c.push_xmm(0, results[0])
        else:
            c.free.remove(RAX)
            c.push(RAX, results[0])
    else:
        c.stack += [Entry(SLOT, value, 0) for value in results]


def _move_results(c: FunctionCompiler, frame: _Frame) -> None:
    """Bring what a branch to a block takes along to where the block wants it.  The stack stays as it is described.

    One result of a block travels in rax or xmm0; several, and the parameters of a loop, in the slots.
    """
    types = frame.label_types
    count = len(types)
    if not count:
        return
    first = len(c.stack) - count
    if not c.frames or frame is c.frames[0]:
        _move_to_return(c, types, first)
        return
    if count == 1 and frame.opcode != LOOP:
        entry = c.stack[first]
        if types[0] in XMM_TYPES:
            c.load_xmm(0, entry, first)
        else:
            c.load(RAX, entry, first)
        return
    _move_to_slots(c, types, first, frame.base)


def _move_to_slots(c: FunctionCompiler, types: tuple[int, ...], first: int, base: int) -> None:
    """Copy the top of the stack to lower slots, the lowest first.

    What is in registers there, below or above, is not touched: copies go through a register that has nothing.
    """
    for index in range(len(types)):
        position = first + index
        entry = c.stack[position]
        target = c.slot(base + index)
        if entry.place == SLOT and c.slot(position) == target:
            continue
        _copy(c, entry, position, target)


def _copy(c: FunctionCompiler, entry: Entry, position: int, target: int) -> None:
    """Store a value in the frame without changing which registers are in use."""
    value = entry.type
    if entry.place in (REGISTER, XMM) or (entry.place == LOCAL and c.pins[entry.payload] >= 0):
        c.store(RSP, target, entry, position)
        return
    if value in XMM_TYPES:
        scratch = c.free_xmm[-1] if c.free_xmm else -1
        if scratch < 0:
            raise AssertionError("no XMM register is free at a branch")
        c.load_xmm(scratch, entry, position)
        c.store_xmm(RSP, target, scratch, value)
        return
    if entry.place == CONSTANT and (value == I32 or -(1 << 31) <= entry.payload < 1 << 31):
        c.store(RSP, target, entry, position)
        return
    scratch = c.free[-1] if c.free else -1
    if scratch < 0:
        raise AssertionError("no register is free at a branch")
    c.load(scratch, entry, position)
    (c.a.mov32_mr if value == I32 else c.a.mov_mr)(RSP, target, scratch)


def _move_to_return(c: FunctionCompiler, types: tuple[int, ...], first: int) -> None:
    """Results of the function: the first in rax or xmm0, the others where the caller looks for them."""
    incoming = c.frame_bytes + 8 * len(c.saved) + 8
    for index in range(1, len(types)):
        _copy(c, c.stack[first + index], first + index, incoming + c.area.results[index - 1])
    entry = c.stack[first]
    if types[0] in XMM_TYPES:
        c.load_xmm(0, entry, first)
    else:
        c.load(RAX, entry, first)


def _emit_epilogue(c: FunctionCompiler) -> None:
    a = c.a
    if c.frame_bytes:
        a.add_ri(RSP, c.frame_bytes)
    for pin in reversed(c.saved):
        a.pop(pin)


# -- branches ---------------------------------------------------------------------------------------------------------


def br(c: FunctionCompiler, depth: int) -> None:
    frame = c.frames[-1 - depth]
    _make_room(c, frame)
    _move_results(c, frame)
    c.a.jmp(frame.label)


def _make_room(c: FunctionCompiler, frame: _Frame) -> None:
    """Moves to a label need a register of each kind; where none is free, values go to their slots."""
    needs_slots = len(frame.label_types) > 1 or (frame.opcode == LOOP and frame.label_types)
    if needs_slots and not (c.free and c.free_xmm):
        c.spill()


def br_if(c: FunctionCompiler, depth: int) -> None:
    frame = c.frames[-1 - depth]
    types = frame.label_types
    if types and (len(types) > 1 or frame.opcode == LOOP) and (len(c.free) < 2 or len(c.free_xmm) < 2):
        c.spill()  # moves only, which leave the flags
    condition = c.pop_condition()
    if not types:
        c.a.jcc(condition, frame.label)
        return
    over = c.label()
    c.a.jcc(NEGATED[condition], over)
    _move_results(c, frame)
    c.a.jmp(frame.label)
    c.a.label(over)


def br_table(c: FunctionCompiler, depths: tuple[int, ...]) -> None:
    a = c.a
    position = len(c.stack) - 1
    index = c.own(c.stack.pop(), position)
    frame = c.frames[-1 - depths[-1]]
    if frame.label_types:
        c.spill()
    default = _jump_target(c, depths[-1])
    targets = {depths[-1]: default}
    count = len(depths) - 1
    if not count:
        c.release(index)
        a.jmp(default)
        _emit_jump_targets(c, targets)
        return
    for depth in dict.fromkeys(depths):
        if depth not in targets:
            targets[depth] = _jump_target(c, depth)
    a.cmp32_ri(index, count)
    a.jcc("ae", default)
    table = c.take()
    label = c.label()
    a.lea_label(table, label)
    a.shl_ri(index, 2)
    a.movsxd_rn(index, table, index, 0)
    a.add_rr(index, table)
    a.jmp_r(index)
    c.release(index)
    c.release(table)
    _emit_jump_targets(c, targets)
    names = [targets[depth] for depth in depths[:-1]]

    def emit() -> None:
        a.data(b"\xcc" * (-len(a.code) % 4), "(alignment)")
        a.label(label)
        start = len(a.code)
        for name in names:
            a.distance(name, len(a.code) - start)

    c.cold.append(emit)


def _jump_target(c: FunctionCompiler, depth: int) -> str:
    """The label to jump to for a depth: the block's own, or that of the moves to it."""
    frame = c.frames[-1 - depth]
    return c.label() if frame.label_types else frame.label


def _emit_jump_targets(c: FunctionCompiler, targets: dict[int, str]) -> None:
    for depth, label in targets.items():
        frame = c.frames[-1 - depth]
        if frame.label_types:
            c.a.label(label)
            _move_results(c, frame)
            c.a.jmp(frame.label)


def return_(c: FunctionCompiler, _: object) -> None:
    br(c, len(c.frames) - 1)


def unreachable(c: FunctionCompiler, _: object) -> None:
    c._emit_trap(Unreachable, c.offset)


# -- calls ------------------------------------------------------------------------------------------------------------


def _pass_arguments(c: FunctionCompiler, signature: FuncType, area: Area) -> None:
    """Take the arguments off the stack into the outgoing area; what is below is out of the registers."""
    count = len(signature.parameters)
    first = len(c.stack) - count
    for index in range(count):
        entry = c.stack[first + index]
        c.store(RSP, area.arguments[index], entry, first + index)
        drop_entry(c, entry)
        c.stack[first + index] = Entry(SLOT, entry.type, 0)  # it is passed; nothing moves it again
    del c.stack[first:]
    c.spill()


def _save_floats(c: FunctionCompiler) -> None:
    for local in c.xmm_saved:
        c.store_xmm(RSP, c.homes[local], c.pins[local], c.types[local])


def _restore_floats(c: FunctionCompiler) -> None:
    for local in c.xmm_saved:
        c.load_home(local)


def _take_results(c: FunctionCompiler, results: tuple[int, ...], area: Area) -> None:
    """Push what a call has left."""
    _restore_floats(c)
    if not results:
        return
    if results[0] in XMM_TYPES:
        c.free_xmm.remove(0)
        c.push_xmm(0, results[0])
    else:
        c.free.remove(RAX)
        c.push(RAX, results[0])
    for value, offset in zip(results[1:], area.results, strict=True):
        target = c.slot(len(c.stack))
        if value == V128:
            scratch = c.free_xmm[-1]
            c.a.movups_xm(scratch, RSP, offset)
            c.a.movups_mx(RSP, target, scratch)
        else:
            c.a.mov_rm(RCX, RSP, offset)
            c.a.mov_mr(RSP, target, RCX)
        c.stack.append(Entry(SLOT, value, 0))
    c.narrow(len(c.stack) - len(results))  # the arguments may have been as many: the stack has not grown


def call(c: FunctionCompiler, callee: int) -> None:
    module = c.shared.context.module
    signature = c.shared.context.functions[callee]
    area = c.shared.areas[module.functions[callee]]
    _pass_arguments(c, signature, area)
    _save_floats(c)
    if callee < module.imported_functions:
        _call_import(c, callee)
    elif c.shared.is_lazy:
        c.a.call_m(VMCTX, c.shared.layout.record_at(callee) + RECORD_CODE)
        c.site(c.offset)
    else:
        c.reach(0xE8, callee)
        c.site(c.offset)
    _take_results(c, signature.results, area)


def _call_import(c: FunctionCompiler, number: int) -> None:
    """Call a function of another instance, or a host function, whose stub takes what it needs for a vmctx."""
    a = c.a
    place = c.shared.layout.import_at(number)
    a.mov_rm(RAX, VMCTX, place + IMPORT_CODE)
    a.mov_rm(VMCTX, VMCTX, place + IMPORT_VMCTX)
    _call_elsewhere(c)


def _call_elsewhere(c: FunctionCompiler) -> None:
    """Call rax; rbx is the callee's."""
    a = c.a
    a.mov_rm(MEMORY, VMCTX, MEMORY_BASE)
    a.call_r(RAX)
    c.site(c.offset)
    a.mov_rm(VMCTX, RSP, c.vmctx_home)
    a.mov_rm(MEMORY, VMCTX, MEMORY_BASE)


def call_hidden(name: str, *, immediates: int = 0, result: int = 0) -> Callable[[FunctionCompiler, object], None]:
    """An instruction that is a call of a host function; its immediates are passed behind its operands, as i32."""

    def emit(c: FunctionCompiler, immediate: object) -> None:
        numbers = immediate if isinstance(immediate, tuple) else (immediate,) if immediates else ()
        for one in numbers:
            c.stack.append(Entry(CONSTANT, I32, one))
        count = HIDDEN_OPERANDS[name] + immediates
        types = tuple(entry.type for entry in c.stack[len(c.stack) - count :])
        signature = FuncType(types, (result,) if result else ())
        area = area_of(signature)
        _pass_arguments(c, signature, area)
        _save_floats(c)
        _call_import(c, c.shared.hidden[name])
        _take_results(c, signature.results, area)

    return emit


HIDDEN_OPERANDS: Final = {
    **{"memory.grow": 1, "memory.init": 3, "data.drop": 0, "table.grow": 2},
    **{"table.fill": 3, "table.copy": 3, "table.init": 3, "elem.drop": 0},
}
assert set(HIDDEN_OPERANDS) == set(HIDDEN)


def _load_record(c: FunctionCompiler, type_index: int, table: int) -> int:
    """The record that an indirect call means, in a temporary; traps where there is none or one of another type."""
    a = c.a
    position = len(c.stack) - 1
    index = c.own(c.stack.pop(), position)
    place = c.shared.layout.table_at(table)
    a.cmp_rm(index, VMCTX, place + 8)
    c.trap_if("ae", UndefinedElement)
    record = c.take()
    a.mov32_rr(record, index)
    a.shl_ri(record, 3)
    a.add_rm(record, VMCTX, place)
    a.mov_rm(record, record, 0)
    a.test_rr(record, record)
    c.trap_if("e", UninitializedElement, index)
    a.mov32_rm(index, VMCTX, c.shared.layout.type_at(type_index))
    a.cmp32_rm(index, record, RECORD_TYPE)
    c.trap_if("ne", IndirectCallMismatch)
    c.release(index)
    return record


def call_indirect(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    signature = c.shared.context.module.types[type_index]
    area = c.shared.areas[type_index]
    record = _load_record(c, type_index, table)
    _pass_arguments(c, signature, area)
    _save_floats(c)
    a = c.a
    a.mov_rm(VMCTX, record, RECORD_VMCTX)
    a.mov_rm(RAX, record, RECORD_CODE)
    c.release(record)
    _call_elsewhere(c)
    _take_results(c, signature.results, area)


# -- tail calls -------------------------------------------------------------------------------------------------------


def _tail_arguments(c: FunctionCompiler, signature: FuncType, area: Area) -> None:
    """Move the arguments of a tail call to where this function's own lie, by way of slots: they may be read there."""
    count = len(signature.parameters)
    first = len(c.stack) - count
    c.flush()
    incoming = c.frame_bytes + 8 * len(c.saved) + 8
    for index in range(count):
        _copy(c, c.stack[first + index], first + index, incoming + area.arguments[index])
    del c.stack[first:]


def return_call(c: FunctionCompiler, callee: int) -> None:
    module = c.shared.context.module
    signature = c.shared.context.functions[callee]
    area = c.shared.areas[module.functions[callee]]
    if callee < module.imported_functions or area.size_bytes > c.area.size_bytes:
        call(c, callee)
        return_(c, None)
        return
    _tail_arguments(c, signature, area)
    _emit_epilogue(c)
    if c.shared.is_lazy:
        c.a.jmp_m(VMCTX, c.shared.layout.record_at(callee) + RECORD_CODE)
        return
    c.reach(0xE9, callee)


def return_call_indirect(c: FunctionCompiler, immediate: tuple[int, int]) -> None:
    type_index, table = immediate
    signature = c.shared.context.module.types[type_index]
    area = c.shared.areas[type_index]
    if area.size_bytes > c.area.size_bytes:
        call_indirect(c, immediate)
        return_(c, None)
        return
    a = c.a
    record = _load_record(c, type_index, table)
    c.flush()
    base = c.frames[-1].base
    stack = c.stack[base:]
    other, scratch = c.label(), c.take()
    a.mov_rm(scratch, record, RECORD_VMCTX)
    a.cmp_rr(scratch, VMCTX)
    c.release(scratch)
    a.jcc("ne", other)
    _tail_arguments(c, signature, area)
    a.mov_rm(RAX, record, RECORD_CODE)
    _emit_epilogue(c)
    a.jmp_r(RAX)
    c.stack[base:] = stack
    a.label(other)
    _pass_arguments(c, signature, area)
    _save_floats(c)
    a.mov_rm(VMCTX, record, RECORD_VMCTX)
    a.mov_rm(RAX, record, RECORD_CODE)
    c.release(record)
    _call_elsewhere(c)
    _take_results(c, signature.results, area)
    return_(c, None)
