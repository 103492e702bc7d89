"""Random valid modules.

A module is made of a seed alone.  Its functions take and give values of every type, in expressions of every instruction
of `callgate.wasm.opcodes`, nested blocks, loops, tables of branches, direct, indirect and tail calls, on a memory, a table
and globals.  What is exported has i64 parameters and results only, so that any engine can be asked.

Two things make outcomes comparable.  A NaN that arithmetic makes is replaced by one bit pattern at once, for engines may
choose among many.  Loops and calls are counted in two globals, so that everything ends early, at the same point.

`outcomes` runs and compares them.  It is long because every construct of the language has a method that draws it.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, Signature, opcode, section, signed, unsigned, vector, vector_of

from callgate.wasm.binary import Kind, decode
from callgate.wasm.opcodes import INSTRUCTIONS, Instruction
from callgate.wasm.types import F32, F64, FUNCREF, I32, I64, V128

NUMBERS = (I32, I64, F32, F64, V128)
TYPES = (*NUMBERS, FUNCREF)
VOID = 0x40
MOST_FUEL, MOST_DEPTH = 3000, 30
MOST_PAGES, TABLE_SIZE = 4, 12
FUEL, DEPTH = 0, 1
"""The numbers of two globals."""

_ARITHMETIC = {"add", "sub", "mul", "div", "min", "max", "sqrt", "ceil", "floor", "trunc", "nearest"}
_ARITHMETIC |= {"demote_f64", "promote_f32", "demote_f64x2_zero", "promote_low_f32x4"}
_EDGES = {
    I32: (0, 1, -1, 2, 7, 31, 32, 255, 65535, 65536, -(1 << 31), (1 << 31) - 1),
    I64: (0, 1, -1, 63, 64, 1 << 32, (1 << 32) - 1, -(1 << 63), (1 << 63) - 1, -(1 << 31)),
    F32: (0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FA00001, 0x4F000000, 1),
    F64: (0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0x7FF4 << 48, 0x41E << 52, 1),
}


def _is_arithmetic(row: Instruction) -> bool:
    """May it make a NaN out of something else?"""
    kind, _, verb = row.name.partition(".")
    return kind in ("f32", "f64", "f32x4", "f64x2") and verb in _ARITHMETIC


def _plain_rows() -> dict[int, list[Instruction]]:
    """Instructions that give one value of a type and need operands, perhaps a memarg or a lane, but nothing else."""
    rows: dict[int, list[Instruction]] = {one: [] for one in TYPES}
    for row in INSTRUCTIONS.values():
        is_access = any(kind.startswith("memory") and kind != "memory" for kind in row.immediates)
        is_plain = all(kind.startswith("lane") for kind in row.immediates)
        if row.parameters and len(row.results) == 1 and (is_access or is_plain):
            rows[row.results[0]].append(row)
    return rows


PLAIN = _plain_rows()
STORES = [row for row in INSTRUCTIONS.values() if row.parameters and not row.results and "store" in row.name]


class Label(NamedTuple):
    """A label in scope: the type of what a branch to it carries."""

    types: tuple[int, ...]


class Module:
    """A module in the making: its types, and the functions' signatures, which bodies call."""

    def __init__(self, seed: int, *, with_simd: bool = True) -> None:
        self.random = random.Random(seed)
        self.numbers = NUMBERS if with_simd else NUMBERS[:-1]
        self.types: list[Signature] = []
        self.functions = [self.signature() for _ in range(self.random.randint(2, 6))]
        for signature in [*self.functions[:2]]:  # some share a type, for indirect calls
            self.functions.append(signature)
        self.table = [self.random.randrange(len(self.functions)) for _ in range(TABLE_SIZE - 4)]
        self.globals = [*self.numbers, FUNCREF]
        for signature in self.functions:
            self.type_index(signature)

    def signature(self) -> Signature:
        """A random function type."""
        parameters = tuple(self.random.choices(self.numbers, k=self.random.randint(0, 4)))
        results = tuple(self.random.choices(self.numbers, k=self.random.choice((0, 1, 1, 1, 2, 3))))
        return Signature(parameters, results)

    def type_index(self, signature: Signature) -> int:
        """The number of a type, made now if there is none."""
        if signature not in self.types:
            self.types.append(signature)
        return self.types.index(signature)

    def binary(self) -> bytes:
        """The whole module."""
        bodies = [Body(self, number).whole() for number in range(len(self.functions))]
        declared = [self.type_index(signature) for signature in self.functions]
        exports = []
        for number in range(len(self.functions)):
            signature, body = self.wrapper(number)
            exports.append(self.export(f"f{number}", 0, len(declared)))
            declared.append(self.type_index(signature))
            bodies.append(body)
        for name, (signature, body) in {"refuel": self.refuel(), "globals": self.global_getter()}.items():
            exports.append(self.export(name, 0, len(declared)))
            declared.append(self.type_index(signature))
            bodies.append(body)
        exports.append(self.export("memory", 2, 0))
        kinds = [I32, I32, *self.globals]
        cells = [bytes([kind, 1]) + self.constant(kind) + b"\x0b" for kind in kinds]
        references = [unsigned(number) for number in self.table]
        passive = [unsigned(self.random.randrange(len(self.functions))) for _ in range(4)]
        everyone = [unsigned(number) for number in range(len(self.functions))]
        elements = [
            b"\x00" + opcode("i32.const") + signed(2) + b"\x0b" + vector(references),
            b"\x01\x00" + vector(passive),
            b"\x03\x00" + vector(everyone),
        ]
        text = self.random.randbytes(200)
        segments = [
            b"\x00" + opcode("i32.const") + signed(64) + b"\x0b" + vector_of(text),
            b"\x01" + vector_of(text[::-1]),
        ]
        signatures = [b"\x60" + vector_of(bytes(one.parameters)) + vector_of(bytes(one.results)) for one in self.types]
        return MAGIC + b"".join(
            (
                section(1, vector(signatures)),
                section(3, vector([unsigned(index) for index in declared])),
                section(4, vector([bytes([FUNCREF, 1]) + unsigned(TABLE_SIZE) + unsigned(TABLE_SIZE + 4)])),
                section(5, vector([b"\x01\x01" + unsigned(MOST_PAGES)])),
                section(6, vector(cells)),
                section(7, vector(exports)),
                section(9, vector(elements)),
                section(12, unsigned(len(segments))),
                section(10, vector([unsigned(len(body)) + body for body in bodies])),
                section(11, vector(segments)),
            )
        )

    @staticmethod
    def export(name: str, kind: int, number: int) -> bytes:
        """An entry of the section of exports."""
        return vector_of(name.encode()) + bytes([kind]) + unsigned(number)

    def constant(self, kind: int) -> bytes:
        """An instruction that pushes a constant, often an edge of its type."""
        draw = self.random
        match kind:
            case 0x7F | 0x7E:
                bits = 32 if kind == I32 else 64
                number = draw.choice(_EDGES[kind]) if draw.random() < 0.5 else draw.getrandbits(bits) - (1 << bits - 1)
                return opcode("i32.const" if kind == I32 else "i64.const") + signed(number)
            case 0x7D:
                number = draw.choice(_EDGES[F32]) if draw.random() < 0.5 else draw.getrandbits(32)
                if draw.random() < 0.5:
                    return opcode("f32.const") + struct.pack("<f", draw.randint(-1000, 1000) / 8)
                return opcode("f32.const") + number.to_bytes(4, "little")
            case 0x7C:
                number = draw.choice(_EDGES[F64]) if draw.random() < 0.5 else draw.getrandbits(64)
                if draw.random() < 0.5:
                    return opcode("f64.const") + struct.pack("<d", draw.randint(-(10**6), 10**6) / 16)
                return opcode("f64.const") + number.to_bytes(8, "little")
            case 0x7B:
                return opcode("v128.const") + draw.randbytes(16)
            case _:
                if draw.random() < 0.1:
                    return opcode("ref.null") + bytes([FUNCREF])
                return opcode("ref.func") + unsigned(draw.randrange(len(self.functions)))

    def to_i64(self, kind: int, local: int) -> bytes:
        """A local of any type as an i64 on the stack."""
        get = opcode("local.get") + unsigned(local)
        match kind:
            case 0x7F:
                return get + opcode("i64.extend_i32_u")
            case 0x7E:
                return get
            case 0x7D:
                return get + opcode("i32.reinterpret_f32") + opcode("i64.extend_i32_u")
            case 0x7C:
                return get + opcode("i64.reinterpret_f64")
            case 0x7B:
                low = get + opcode("i64x2.extract_lane") + b"\0"
                high = get + opcode("i64x2.extract_lane") + b"\1"
                return low + high + opcode("i64.const") + signed(7) + opcode("i64.rotl") + opcode("i64.xor")
            case _:
                return get + opcode("ref.is_null") + opcode("i64.extend_i32_u")

    @staticmethod
    def from_i64(kind: int, local: int) -> bytes:
        """An i64 parameter as a value of any type on the stack."""
        get = opcode("local.get") + unsigned(local)
        match kind:
            case 0x7F:
                return get + opcode("i32.wrap_i64")
            case 0x7E:
                return get
            case 0x7D:
                return get + opcode("i32.wrap_i64") + opcode("f32.reinterpret_i32")
            case 0x7C:
                return get + opcode("f64.reinterpret_i64")
            case _:
                return get + opcode("i64x2.splat")

    def wrapper(self, number: int) -> tuple[Signature, bytes]:
        """A function of i64 around another one."""
        signature = self.functions[number]
        count = len(signature.parameters)
        code = b"".join(self.from_i64(kind, local) for local, kind in enumerate(signature.parameters))
        code += opcode("call") + unsigned(number)
        locals_ = [count + place for place in range(len(signature.results))]
        code += b"".join(opcode("local.set") + unsigned(local) for local in reversed(locals_))
        code += b"".join(self.to_i64(kind, local) for kind, local in zip(signature.results, locals_, strict=True))
        declared = vector([b"\x01" + bytes([kind]) for kind in signature.results])
        return Signature((I64,) * count, (I64,) * len(signature.results)), declared + code + b"\x0b"

    def refuel(self) -> tuple[Signature, bytes]:
        """A function that sets the two counting globals."""
        code = b""
        for number, value in ((FUEL, MOST_FUEL), (DEPTH, 0)):
            code += opcode("i32.const") + signed(value) + opcode("global.set") + unsigned(number)
        return Signature((), ()), b"\0" + code + b"\x0b"

    def global_getter(self) -> tuple[Signature, bytes]:
        """A function that gives every global."""
        kinds = [I32, I32, *self.globals]
        code = b""
        for number, kind in enumerate(kinds):
            code += opcode("global.get") + unsigned(number) + opcode("local.set") + unsigned(number)
            code += self.to_i64(kind, number)
        return Signature((), (I64,) * len(kinds)), vector([b"\x01" + bytes([kind]) for kind in kinds]) + code + b"\x0b"


class Body:
    """The body of one function in the making; `code` grows."""

    def __init__(self, module: Module, number: int) -> None:
        self.module = module
        self.random = module.random
        self.signature = module.functions[number]
        self.locals = [*self.signature.parameters]
        self.declared: list[int] = []
        self.labels: list[Label] = [Label(self.signature.results)]
        self.code = bytearray()
        self.budget = self.random.randint(40, 250)
        for kind in (*module.numbers, FUNCREF):
            for _ in range(self.random.randint(1, 3)):
                self.new_local(kind)
        self.scratch = {kind: self.new_local(kind) for kind in (F32, F64, *({V128} & {*module.numbers}))}

    def new_local(self, kind: int) -> int:
        """A further local variable."""
        self.locals.append(kind)
        self.declared.append(kind)
        return len(self.locals) - 1

    def add(self, name: str, *immediates: int | bytes) -> None:
        """Append an instruction."""
        self.code += opcode(name)
        for one in immediates:
            self.code += unsigned(one) if isinstance(one, int) else one

    def number(self, value: int) -> None:
        """Append i32.const."""
        self.add("i32.const", signed(value))

    def whole(self) -> bytes:
        """Generate everything: the locals' declaration and the code."""
        self.count(DEPTH, 1)
        self.add("global.get", DEPTH)
        self.number(MOST_DEPTH)
        self.add("i32.gt_s")
        self.count(FUEL, -1)
        self.add("global.get", FUEL)
        self.number(0)
        self.add("i32.lt_s")
        self.add("i32.or")
        self.add("if", bytes([VOID]))
        self.leave([self.module.constant(kind) for kind in self.signature.results])
        self.add("end")
        for _ in range(self.random.randint(1, 5)):
            self.statement(4)
        for kind in self.signature.results:
            self.expression(kind, 3)
        self.count(DEPTH, -1)
        declared = vector([b"\x01" + bytes([kind]) for kind in self.declared])
        return declared + bytes(self.code) + b"\x0b"

    def count(self, cell: int, by: int) -> None:
        """Add to a counting global."""
        self.add("global.get", cell)
        self.number(by)
        self.add("i32.add")
        self.add("global.set", cell)

    def leave(self, values: Sequence[bytes]) -> None:
        """Return these values."""
        for value in values:
            self.code += value
        self.count(DEPTH, -1)
        self.add("return")

    # ----- expressions: each leaves one value -----

    def expression(self, kind: int, depth: int) -> None:
        """Append code that pushes a value of a type."""
        self.budget -= 1
        if depth <= 0 or self.budget <= 0:
            self.leaf(kind)
            return
        choices: list[tuple[int, Callable[[int, int], None]]] = [
            (12, self.operation),
            (3, self.variable),
            (2, self.selection),
            (2, self.conditional),
            (2, self.block_value),
            (2, self.called),
            (1, self.tee),
            (1, self.with_parameter),
        ]
        if kind == I32:
            choices.append((2, self.state))
        if kind == FUNCREF:
            choices = [
                (2, self.variable),
                (2, self.selection),
                (2, self.table_element),
                (1, self.tee),
                (1, self.conditional),
            ]
        (choice,) = self.random.choices([make for _, make in choices], [weight for weight, _ in choices])
        choice(kind, depth - 1)

    def leaf(self, kind: int) -> None:
        """A constant or a variable."""
        if self.random.random() < 0.4:
            self.code += self.module.constant(kind)
        else:
            self.variable(kind, 0)

    def local_of(self, kind: int) -> int | None:
        """A random local of a type."""
        having = [
            number for number, one in enumerate(self.locals) if one == kind and number not in self.scratch.values()
        ]
        return self.random.choice(having) if having else None

    def variable(self, kind: int, depth: int) -> None:
        """A local's value, or a global's."""
        local = self.local_of(kind)
        if local is None or self.random.random() < 0.15:
            cells = [number + 2 for number, one in enumerate(self.module.globals) if one == kind]
            self.add("global.get", self.random.choice(cells))
        else:
            self.add("local.get", local)

    def tee(self, kind: int, depth: int) -> None:
        """A value that goes to a local too."""
        self.expression(kind, depth)
        local = self.local_of(kind)
        if local is not None:
            self.add("local.tee", local)

    def operation(self, kind: int, depth: int) -> None:
        """A random instruction of the table with this result."""
        row = self.random.choice(PLAIN[kind])
        while V128 in (row.parameters or ()) and V128 not in self.module.numbers:
            row = self.random.choice(PLAIN[kind])
        name = row.name
        if ".trunc_f" in name and self.random.random() < 0.9:  # nearly always traps
            name = name.replace("trunc_", "trunc_sat_")
        assert row.parameters
        is_access = row.immediates[:1] and row.immediates[0].startswith("memory")
        for place, parameter in enumerate(row.parameters):
            if place == 0 and is_access:
                self.address(depth)
            else:
                self.expression(parameter, depth)
        if (".div_" in name or ".rem_" in name) and self.random.random() < 0.9:
            one = opcode("i32.const" if kind == I32 else "i64.const") + signed(self.random.choice((1, 1, 5, 128)))
            self.code += one + opcode("i32.or" if kind == I32 else "i64.or")
        self.code += opcode(name)
        for immediate in row.immediates:
            self.immediate(immediate)
        if _is_arithmetic(row):
            self.canonical(kind, row.name)

    def immediate(self, kind: str) -> None:
        """A memarg, a lane or lanes."""
        draw = self.random
        if kind == "lanes32":
            self.code += bytes(draw.randrange(32) for _ in range(16))
        elif kind.startswith("lane"):
            self.code.append(draw.randrange(int(kind.removeprefix("lane"))))
        else:
            alignment = draw.randrange(int(kind.removeprefix("memory")).bit_length())
            offset = draw.choice((0, 0, 0, 1, 3, 8, 100, 5000))
            if draw.random() < 0.01:
                offset = draw.choice((65520, 65536, 1 << 31, (1 << 32) - 1))
            self.code += unsigned(alignment) + unsigned(offset)

    def address(self, depth: int) -> None:
        """An address, nearly always within the first page."""
        self.expression(I32, depth)
        if self.random.random() < 0.97:
            self.number(self.random.choice((0xFF, 0x3FF, 0xEFFF)))
            self.add("i32.and")

    def canonical(self, kind: int, name: str) -> None:
        """Replace a NaN on the stack by one pattern of bits."""
        scratch = self.scratch[kind]
        self.add("local.tee", scratch)
        if kind == V128:
            lanes = (
                struct.pack("<I", 0x7FC00000) * 4 if name.startswith("f32x4") else struct.pack("<Q", 0x7FF8 << 48) * 2
            )
            self.add("v128.const", lanes)
        elif kind == F32:
            self.add("f32.const", struct.pack("<I", 0x7FC00000))
        else:
            self.add("f64.const", struct.pack("<Q", 0x7FF8 << 48))
        self.add("local.get", scratch)
        self.add("local.get", scratch)
        if kind == V128:
            self.add("f32x4.eq" if name.startswith("f32x4") else "f64x2.eq")
            self.add("v128.bitselect")
        else:
            self.add("f32.eq" if kind == F32 else "f64.eq")
            self.add("select")

    def selection(self, kind: int, depth: int) -> None:
        """One of two values."""
        self.expression(kind, depth)
        self.expression(kind, depth)
        self.expression(I32, depth)
        if kind == FUNCREF or self.random.random() < 0.3:
            self.code += b"\x1c" + vector([bytes([kind])])
        else:
            self.add("select")

    def conditional(self, kind: int, depth: int) -> None:
        """if with a result."""
        self.expression(I32, depth)
        self.add("if", bytes([kind]))
        with_label = Label((kind,))
        self.labels.append(with_label)
        if self.random.random() < 0.3:
            self.statement(depth)
        self.expression(kind, depth)
        self.add("else")
        self.expression(kind, depth)
        self.labels.pop()
        self.add("end")

    def block_value(self, kind: int, depth: int) -> None:
        """A block with a result, perhaps left early."""
        self.add("block", bytes([kind]))
        self.labels.append(Label((kind,)))
        for _ in range(self.random.randint(0, 2)):
            self.statement(depth)
        self.expression(kind, depth)
        if self.random.random() < 0.6:
            self.expression(I32, depth)
            self.add("br_if", 0)
            if self.random.random() < 0.5:
                self.add("drop")
                self.expression(kind, depth)
        self.labels.pop()
        self.add("end")

    def with_parameter(self, kind: int, depth: int) -> None:
        """A block that takes a value from the stack outside."""
        given = self.random.choice(self.module.numbers)
        self.expression(given, depth)
        self.add("block", signed(self.module.type_index(Signature((given,), (kind,)))))
        self.labels.append(Label((kind,)))
        local = self.local_of(given)
        if local is None:
            self.add("drop")
        else:
            self.add("local.set", local)
        self.expression(kind, depth)
        self.labels.pop()
        self.add("end")

    def called(self, kind: int, depth: int) -> None:
        """A call of a function that gives a value of this type among others; or a plainer expression where none does."""
        having = [number for number, one in enumerate(self.module.functions) if kind in one.results]
        if not having:
            self.operation(kind, depth)
            return
        number = self.random.choice(having)
        self.call(number, depth)
        results = self.module.functions[number].results
        kept = self.new_local(kind)
        for place in reversed(range(len(results))):
            if place == results.index(kind):
                self.add("local.set", kept)
            else:
                self.add("drop")
        self.add("local.get", kept)

    def call(self, number: int, depth: int) -> None:
        """Arguments and a call, directly or through the table."""
        signature = self.module.functions[number]
        for parameter in signature.parameters:
            self.expression(parameter, depth)
        if self.random.random() < 0.3:
            self.place_of(signature, depth)
            self.add("call_indirect", self.module.type_index(signature), 0)
        else:
            self.add("call", number)

    def place_of(self, signature: Signature, depth: int) -> None:
        """Where the table had a function of this type at first, nearly always."""
        functions = self.module.functions
        places = [place + 2 for place, number in enumerate(self.module.table) if functions[number] == signature]
        if places and self.random.random() < 0.93:
            self.number(self.random.choice(places))
        else:
            self.table_index(depth)

    def table_index(self, depth: int) -> None:
        """A place in the table, nearly always there."""
        if self.random.random() < 0.7:
            self.number(self.random.randrange(2, TABLE_SIZE - 2))
            return
        self.expression(I32, depth)
        if self.random.random() < 0.9:
            self.number(7)
            self.add("i32.and")

    def table_element(self, kind: int, depth: int) -> None:
        """A reference out of the table."""
        self.table_index(depth)
        self.add("table.get", 0)

    def state(self, kind: int, depth: int) -> None:
        """A number that tells of the memory, the table or a reference."""
        match self.random.randrange(5):
            case 0:
                self.add("memory.size", 0)
            case 1:
                self.number(self.random.choice((0, 1, 1, 9)))
                self.add("memory.grow", 0)
            case 2:
                self.add("table.size", 0)
            case 3:
                self.expression(FUNCREF, depth)
                self.number(self.random.choice((0, 1, 9)))
                self.add("table.grow", 0)
            case _:
                self.expression(FUNCREF, depth)
                self.add("ref.is_null")

    # ----- statements: each leaves the stack as it was -----

    def statement(self, depth: int) -> None:
        """Append code that leaves no value."""
        self.budget -= 1
        if depth <= 0 or self.budget <= 0:
            self.assignment(0)
            return
        choices: list[tuple[int, Callable[[int], None]]] = [
            (6, self.assignment),
            (5, self.store),
            (3, self.loop),
            (3, self.branch),
            (2, self.switch),
            (2, self.choice),
            (2, self.bulk),
            (2, self.table_statement),
            (1, self.dropped),
            (1, self.early_return),
            (1, self.dead_code),
            (1, self.rare),
        ]
        (choice,) = self.random.choices([make for _, make in choices], [weight for weight, _ in choices])
        choice(depth - 1)

    def assignment(self, depth: int) -> None:
        """A local or a global gets a value."""
        kind = self.random.choice((*self.module.numbers, FUNCREF))
        self.expression(kind, depth)
        local = self.local_of(kind)
        if local is None or self.random.random() < 0.2:
            cells = [number + 2 for number, one in enumerate(self.module.globals) if one == kind]
            self.add("global.set", self.random.choice(cells))
        else:
            self.add("local.set", local)

    def store(self, depth: int) -> None:
        """A store of any width."""
        row = self.random.choice(STORES)
        assert row.parameters
        if row.parameters[1] not in self.module.numbers:
            return
        self.address(depth)
        self.expression(row.parameters[1], depth)
        self.code += opcode(row.name)
        for immediate in row.immediates:
            self.immediate(immediate)

    def loop(self, depth: int) -> None:
        """A loop of a few turns; whatever branches to it uses fuel."""
        counter = self.new_local(I32)
        self.scratch[-counter] = counter  # nobody else writes it
        self.number(self.random.randint(1, 6))
        self.add("local.set", counter)
        self.add("block", bytes([VOID]))
        self.labels.append(Label(()))
        self.add("loop", bytes([VOID]))
        self.labels.append(Label(()))
        self.count(FUEL, -1)
        self.add("global.get", FUEL)
        self.number(0)
        self.add("i32.lt_s")
        self.add("br_if", 1)
        for _ in range(self.random.randint(1, 3)):
            self.statement(depth)
        self.add("local.get", counter)
        self.number(1)
        self.add("i32.sub")
        self.add("local.tee", counter)
        self.add("br_if", 0)
        self.labels.pop()
        self.add("end")
        self.labels.pop()
        self.add("end")

    def branch(self, depth: int) -> None:
        """A conditional branch to any label but the function's, with what it carries."""
        if len(self.labels) == 1:
            self.assignment(depth)
            return
        distance = self.random.randrange(len(self.labels) - 1)
        types = self.labels[-1 - distance].types
        for kind in types:
            self.expression(kind, depth)
        self.expression(I32, depth)
        self.add("br_if", distance)
        for _ in types:
            self.add("drop")

    def switch(self, depth: int) -> None:
        """A table of branches."""
        cases = self.random.randint(1, 4)
        for _ in range(cases + 1):
            self.add("block", bytes([VOID]))
            self.labels.append(Label(()))
        self.expression(I32, depth)
        if self.random.random() < 0.7:
            self.number(7)
            self.add("i32.and")
        self.code += opcode("br_table") + vector([unsigned(self.random.randint(0, cases)) for _ in range(cases)])
        self.code += unsigned(self.random.randint(0, cases))
        for _ in range(cases + 1):
            self.labels.pop()
            self.add("end")
            if self.labels and self.random.random() < 0.8:
                self.statement(depth)

    def choice(self, depth: int) -> None:
        """if without a result."""
        self.expression(I32, depth)
        self.add("if", bytes([VOID]))
        self.labels.append(Label(()))
        self.statement(depth)
        if self.random.random() < 0.5:
            self.add("else")
            self.statement(depth)
        self.labels.pop()
        self.add("end")

    def small(self, most: int) -> None:
        """A small number, rarely any."""
        if self.random.random() < 0.97:
            self.number(self.random.randint(0, most))
        else:
            self.expression(I32, 0)

    def bulk(self, depth: int) -> None:
        """memory.fill, copy or init, and data.drop."""
        self.address(depth)
        match self.random.randrange(4):
            case 0:
                self.expression(I32, depth)
                self.small(300)
                self.add("memory.fill", 0)
            case 1:
                self.address(depth)
                self.small(300)
                self.add("memory.copy", 0, 0)
            case 2:
                self.small(100)
                self.small(100)
                self.add("memory.init", self.random.choice((1, 1, 1, 0)), 0)
            case _:
                self.add("drop")
                if self.random.random() < 0.3:
                    self.add("data.drop", 1)

    def table_statement(self, depth: int) -> None:
        """table.set, fill, copy or init, and elem.drop."""
        match self.random.randrange(5):
            case 0:
                self.table_index(depth)
                self.expression(FUNCREF, depth)
                self.add("table.set", 0)
            case 1:
                self.small(TABLE_SIZE - 2)
                self.expression(FUNCREF, depth)
                self.small(2)
                self.add("table.fill", 0)
            case 2:
                self.small(TABLE_SIZE - 2)
                self.small(TABLE_SIZE - 2)
                self.small(2)
                self.add("table.copy", 0, 0)
            case 3:
                self.small(TABLE_SIZE - 4)
                self.small(2)
                self.small(2)
                self.add("table.init", 1, 0)
            case _:
                if self.random.random() < 0.2:
                    self.add("elem.drop", 1)

    def dropped(self, depth: int) -> None:
        """A call whose results nobody wants."""
        number = self.random.randrange(len(self.module.functions))
        self.call(number, depth)
        for _ in self.module.functions[number].results:
            self.add("drop")

    def early_return(self, depth: int) -> None:
        """A return or a tail call under a condition."""
        self.expression(I32, depth)
        self.add("if", bytes([VOID]))
        self.labels.append(Label(()))
        same = [number for number, one in enumerate(self.module.functions) if one.results == self.signature.results]
        number = self.random.choice(same)
        signature = self.module.functions[number]
        if self.random.random() < 0.5:
            for kind in self.signature.results:
                self.expression(kind, depth)
            self.leave(())
        else:
            for parameter in signature.parameters:
                self.expression(parameter, depth)
            if self.random.random() < 0.5:
                self.count(DEPTH, -1)
                self.add("return_call", number)
            else:
                self.place_of(signature, 0)
                self.count(DEPTH, -1)
                self.add("return_call_indirect", self.module.type_index(signature), 0)
        self.labels.pop()
        self.add("end")

    def rare(self, depth: int) -> None:
        """nop, and unreachable under a condition that hardly ever holds."""
        self.add("nop")
        self.expression(I32, depth)
        self.number(0x7FF)
        self.add("i32.and")
        self.number(0x123)
        self.add("i32.eq")
        self.add("if", bytes([VOID]))
        self.add("unreachable")
        self.add("end")

    def dead_code(self, depth: int) -> None:
        """Code behind a branch, which only validation sees."""
        self.add("block", bytes([VOID]))
        self.labels.append(Label(()))
        self.add("br", 0)
        match self.random.randrange(3):
            case 0:
                self.statement(depth)
            case 1:
                self.add("i32.add")
                self.add("drop")
            case _:
                self.add("unreachable")
                self.add("select")
                self.add("drop")
        self.labels.pop()
        self.add("end")


def random_module(seed: int, *, with_simd: bool = True) -> bytes:
    """The module of a seed."""
    return Module(seed, with_simd=with_simd).binary()


def random_calls(seed: int, data: bytes) -> list[tuple[str, tuple[int, ...]]]:
    """Which exports to call with what, some twice."""
    module = decode(data)
    draw = random.Random(seed + 1)
    calls = []
    for export in module.exports:
        if export.kind is Kind.FUNCTION and export.name.startswith("f"):
            count = len(module.types[module.functions[export.number]].parameters)
            for _ in range(3):
                calls.append(
                    (
                        export.name,
                        tuple(
                            draw.choice(_EDGES[I64]) if draw.random() < 0.3 else draw.getrandbits(64) - (1 << 63)
                            for _ in range(count)
                        ),
                    )
                )
    draw.shuffle(calls)
    return calls
