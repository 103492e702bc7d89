"""One body to machine code, in one pass: what all instructions share; they are in the modules that `dispatch` lists.

Values stay in registers or unread in locals until something needs them elsewhere (`values`).  The locals that are
used most, in loops above all, have a register for the whole function.  A comparison in front of its branch, a result in
front of its `local.set` are one piece: instructions look at the one that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any, Final, NamedTuple

from callgate.asm.code import Code
from callgate.asm.x86_64.avx import AvxAssembler, AvxListingAssembler
from callgate.asm.x86_64.registers import R8, RAX, RSP
from callgate.errors import EngineError
from callgate.wasm.compile.frame import lay_out
from callgate.wasm.compile.layout import TRAP, TRAP_NUMBERS, VMCTX, Area, VmLayout, area_of
from callgate.wasm.compile.values import CONSTANT, LOCAL, WINDOW, XMM_TYPES, Entry, Values
from callgate.wasm.errors import Trap
from callgate.wasm.types import F32, F64, I32, FuncType
from callgate.wasm.validate import BLOCK, LOOP, Body, Context

FEW_VALUES: Final = 4
"""Branches and calls with no more than so many are not looked at: their code is linear by itself."""
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
    most_code_bytes: int  # of all functions together
    is_lazy: bool  # calls go by the records of functions, which are compiled when first called


def too_much_code(shared: Shared) -> EngineError:
    """For modules whose blocks and calls take so many values along that moving them is nearly all of the code."""
    return EngineError(
        f"the module would become more than {shared.most_code_bytes} bytes of machine code, most of them to move the "
        'values that its branches and calls take along; engine="portable" runs it'
    )


class OpenBlock:
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
        *("has_avx", "instructions", "labels", "next", "offset", "options", "outgoing_bytes", "saved", "shared"),
        *("sites", "used", "vmctx_home", "xmm_saved"),
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
        self.frames: list[OpenBlock] = []
        self.epilogue = "return"
        self.frame_bytes = self.outgoing_bytes = 0
        self.vmctx_home = -1  # where rbx is kept, -1 where it is never another's
        self.saved: list[int] = []  # the pins that the frame brings back
        self.xmm_saved: list[int] = []  # the float locals that calls store
        lay_out(self)

    # -- the whole ----------------------------------------------------------------------------------------------------
    def compile(self) -> Compiled:
        """Compile the body."""
        self.frames.append(OpenBlock(BLOCK, FuncType((), self.body.type.results), 0, self.epilogue))
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

    def bound_code(self, values: int) -> None:
        """A few bytes of a body may move a thousand values: code stays linear in the size of the bodies."""
        if values > FEW_VALUES and len(self.a.code) > self.shared.most_code_bytes:
            raise too_much_code(self.shared)

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
            self.emit_trap(trap, offset)

        self.cold.append(emit)

    def emit_trap(self, trap: type[Trap], offset: int) -> None:
        """Trap here."""
        a = self.a
        a.note(trap.text)
        a.mov_ri(RAX, TRAP_NUMBERS[trap])
        a.call_m(VMCTX, TRAP)
        self.site(offset)

    def site(self, offset: int) -> None:
        """The code that has just called stands for an instruction."""
        self.sites.append(Site(len(self.a.code), offset, self.frame_bytes + 8 * len(self.saved)))

    def site_at_entry(self, offset: int) -> None:
        """As `site`, before the frame is made."""
        self.sites.append(Site(len(self.a.code), offset, 0))

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
