"""Random valid modules of another kind than `random_modules`: straight code with many values on the stack.

Bodies are drawn an instruction at a time, with the stack of types at hand: up to a hundred values of every type stay
below whatever comes next, locals are read long before they are wanted and written in between, blocks, branches and calls
take along up to seventy values.  So every register is in use nearly always, which expressions seldom bring about.

Values leave by a checksum in a global, into which a NaN goes as one bit pattern; no instruction is drawn that would show
the bits of a NaN otherwise.  Loops use up a counter and trap at its end.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from encoding import MAGIC, Signature, opcode, section, signed, unsigned, vector, vector_of

from callgate.wasm.opcodes import INSTRUCTIONS, Instruction
from callgate.wasm.types import F32, F64, I32, I64, V128

STACK_CALLS: list[tuple[str, tuple[int, ...]]] = [("run", ()), ("run", ())]
"""What to call in such a module."""

_TYPES = (I32, I64, F32, F64, V128)
_NAMES = {I32: "i32", I64: "i64", F32: "f32", F64: "f64"}
_SUM, _FIRST_CELL, _FUEL, _CONSTANT = 0, 1, 6, 7
"""The numbers of globals: the checksum, one of each type, rounds that are left, one that is not mutable in effect."""
_MOST_FUEL = 2000
_MAKES_NANS = {"add", "sub", "mul", "div", "min", "max", "sqrt", "ceil", "floor", "trunc", "nearest"}
_MAKES_NANS |= {"demote_f64x2_zero", "promote_low_f32x4"}
_SHOWS_NANS = {f"{kind}.{verb}" for kind in ("f32", "f64") for verb in ("copysign", "store")}
_SHOWS_NANS |= {f"{kind}.{verb}" for kind in ("f32x4", "f64x2") for verb in ("splat", "replace_lane")}
_SHOWS_NANS |= {"i32.reinterpret_f32", "i64.reinterpret_f64"}
_EDGES = {
    I32: (0, 1, -1, 2, 31, 32, 33, 255, -(1 << 31), (1 << 31) - 1, 65535),
    I64: (0, 1, -1, 63, 64, 1 << 32, (1 << 32) - 1, -(1 << 63), (1 << 63) - 1, -(1 << 31), 1 << 31),
}
_F32_EDGES = (0.0, -0.0, 1.0, -1.0, 2147483648.0, 4294967296.0, 1e-40, float("inf"))
_F64_EDGES = (0.0, -0.0, 1.0, -1.0, 2147483648.0, 4294967295.5, 9.3e18, 1e-310, float("inf"))


def _is_access(row: Instruction) -> bool:
    return any(kind.startswith("memory") and kind != "memory" for kind in row.immediates)


def _rows() -> list[Instruction]:
    """Instructions with operands of numbers, and a memarg, lanes or no immediate."""
    rows = []
    for row in INSTRUCTIONS.values():
        kind, _, verb = row.name.partition(".")
        if not row.parameters or not {*row.parameters, *row.results} <= {*_TYPES}:
            continue
        if not _is_access(row) and not all(one.startswith("lane") for one in row.immediates):
            continue
        if row.name not in _SHOWS_NANS and not (kind in ("f32x4", "f64x2") and verb in _MAKES_NANS):
            rows.append(row)
    return rows


_ROWS = _rows()
_SCALAR_ROWS = [row for row in _ROWS if V128 not in (*row.parameters, *row.results)]


class _Body:
    """A function in the making; `stack` has the types of the values that its code leaves."""

    def __init__(self, module: _Module, number: int) -> None:
        self.module, self.number, self.draw = module, number, module.draw
        parameters, self.results = module.functions[number]
        count = self.draw.choice((self.draw.randint(2, 8), self.draw.randint(10, 60)))  # all in registers, or not
        self.variables = [*self.draw.choices(module.types, k=count), *module.types]
        self.locals = [*parameters, *self.variables]
        self.often = [self.draw.randrange(len(self.locals)) for _ in range(3)]
        self.code = bytearray()
        self.stack: list[int] = []
        self.left = self.draw.randint(60, 400)

    def whole(self) -> bytes:
        """Locals and code."""
        self.instructions(0, 3, [self.results])
        self.sum_down_to(0)
        for kind in self.results:
            self.read(kind)
        return vector([b"\1" + bytes([kind]) for kind in self.variables]) + bytes(self.code) + b"\x0b"

    # -- values ----------------------------------------------------------------------------------------------------
    def add(self, name: str, *immediates: int) -> None:
        """An instruction whose immediates are unsigned numbers."""
        self.code += opcode(name) + b"".join(map(unsigned, immediates))

    def number_of(self, kind: int, value: int) -> None:
        """An integer constant."""
        self.code += opcode(f"{_NAMES[kind]}.const") + signed(value)

    def local_of(self, kind: int) -> int:
        """A local of a type, often one of the few that are used most."""
        often = [local for local in self.often if self.locals[local] == kind]
        if often and self.draw.random() < 0.5:
            return self.draw.choice(often)
        return self.draw.choice([local for local, one in enumerate(self.locals) if one == kind])

    def read(self, kind: int) -> None:
        """Code that gives a value of a type, which is not noted on the stack."""
        chance = self.draw.random()
        if chance < 0.2:
            self.code += self.module.constant(kind)
        elif chance < 0.3:
            self.add("global.get", _FIRST_CELL + _TYPES.index(kind))
        else:
            self.add("local.get", self.local_of(kind))

    def push(self, kind: int) -> None:
        """The same, and noted."""
        self.read(kind)
        self.stack.append(kind)

    def want(self, kinds: tuple[int, ...], base: int) -> None:
        """Values of these types on top; those that are there are taken where they fit."""
        for count in range(min(len(kinds), len(self.stack) - base), 0, -1):
            if tuple(self.stack[-count:]) == kinds[:count] and self.draw.random() < 0.8:
                kinds = kinds[count:]
                break
        for kind in kinds:
            self.push(kind)

    def take(self, count: int) -> None:
        """So many values are gone."""
        del self.stack[len(self.stack) - count :]

    def sum_one(self) -> None:
        """Take the top into the checksum, by way of a local of its type that is there for this."""
        kind = self.stack.pop()
        scratch = max(local for local, one in enumerate(self.locals) if one == kind)
        if kind in (F32, F64):
            name, other = _NAMES[kind], struct.pack("<f" if kind == F32 else "<d", 7.0)
            self.add("local.tee", scratch)
            self.code += opcode(f"{name}.const") + other
            self.add("local.get", scratch)
            self.add("local.get", scratch)
            self.add(f"{name}.eq")
            self.add("select")
            self.add("i32.reinterpret_f32" if kind == F32 else "i64.reinterpret_f64")
        elif kind == V128:
            self.add("local.tee", scratch)
            self.add("i64x2.extract_lane", 0)
            self.add("local.get", scratch)
            self.add("i64x2.extract_lane", 1)
            self.number_of(I64, 13)
            self.add("i64.rotl")
            self.add("i64.xor")
        if kind in (I32, F32):
            self.add("i64.extend_i32_u")
        self.add("global.get", _SUM)
        self.number_of(I64, 5)
        self.add("i64.rotl")
        self.add("i64.xor")
        self.add("global.set", _SUM)

    def sum_down_to(self, height: int) -> None:
        """Take all values above."""
        while len(self.stack) > height:
            self.sum_one()

    # -- instructions ----------------------------------------------------------------------------------------------
    def instructions(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """Some instructions, which leave the values below `base` alone."""
        choices = (
            *(
                (28, self.value),
                (32, self.row),
                (6, self.to_local),
                (4, self.select),
                (2, self.dropped),
                (3, self.call),
            ),
            *((8, self.block), (5, self.branch), (2, self.bulk), (2, self.to_global), (3, self.state)),
            *((2, self.table), (6, self.fewer)),
        )
        weights = [weight for weight, _ in choices]
        for _ in range(self.draw.randint(3, 40) if depth < 3 else self.draw.randint(30, 200)):
            if self.left <= 0:
                return
            self.left -= 1
            ((_, make),) = self.draw.choices(choices, weights)
            make(base, depth, labels)

    def value(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """A value."""
        self.push(self.draw.choice(self.module.types))

    def row(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """An instruction of the table; addresses, divisors and what is converted are tamed nearly always."""
        row = self.draw.choice(_ROWS if V128 in self.module.types and self.draw.random() < 0.5 else _SCALAR_ROWS)
        if "trunc_f" in row.name and self.draw.random() < 0.93:
            return
        if _is_access(row):
            self.push(I32)
            self.number_of(I32, self.draw.choice((0xFF, 0x3FF, 0xEFFF)))
            self.add("i32.and")
            if self.draw.random() < 0.3:
                self.add("local.tee", self.local_of(I32))
            for kind in row.parameters[1:]:
                self.push(kind)
        elif ("div_" in row.name or "rem_" in row.name) and self.draw.random() < 0.9:
            kind = row.parameters[1]
            self.want(row.parameters[:1], base)
            self.push(kind)
            self.number_of(kind, self.draw.choice((1, 3, 7, -2, 64)))
            self.add("i32.or" if kind == I32 else "i64.or")
            if self.draw.random() < 0.5:
                self.add("local.tee", self.local_of(kind))
        else:
            self.want(row.parameters, base)
        self.code += opcode(row.name)
        for immediate in row.immediates:
            if immediate == "lanes32":
                self.code += bytes(self.draw.randrange(32) for _ in range(16))
            elif immediate.startswith("lane"):
                self.code.append(self.draw.randrange(int(immediate[4:])))
            else:
                self.code += unsigned(0) + unsigned(self.draw.choice((0, 0, 1, 3, 8, 100, 127, 128, 129, 4000)))
        self.take(len(row.parameters))
        self.stack += row.results
        if row.results:
            self.maybe_to_local()

    def maybe_to_local(self) -> None:
        """The result goes to a local, often enough."""
        if self.draw.random() < 0.4:
            self.to_local(0, 0, [])

    def to_local(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """local.set or local.tee."""
        if len(self.stack) <= base:
            return
        kind = self.stack[-1]
        if self.draw.random() < 0.5:
            self.add("local.tee", self.local_of(kind))
        else:
            self.add("local.set", self.local_of(kind))
            self.stack.pop()

    def to_global(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """global.set."""
        kind = self.draw.choice(self.module.types)
        self.want((kind,), base)
        self.add("global.set", _FIRST_CELL + _TYPES.index(kind))
        self.stack.pop()

    def select(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """One of two."""
        kind = self.draw.choice(self.module.types)
        self.push(kind)
        self.push(kind)
        self.condition()
        self.add("select")
        self.stack.pop()
        self.maybe_to_local()

    def dropped(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """A value that nobody wants."""
        if len(self.stack) > base:
            self.add("drop")
            self.stack.pop()

    def fewer(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """Where there are many values, one into the checksum."""
        if len(self.stack) - base > self.draw.choice((5, 12, 90)):
            self.sum_one()

    def state(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """A global of one value, or how large the memory was."""
        if self.draw.random() < 0.6:
            self.add("global.get", _CONSTANT)
        else:
            self.number_of(I32, self.draw.choice((0, 0, 1)))
            self.add("memory.grow", 0)
        self.stack.append(I32)

    def bulk(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """memory.copy or memory.fill."""
        for mask in (0x7FFF, 0x7FFF, 0xFF):
            self.push(I32)
            self.number_of(I32, mask)
            self.add("i32.and")
        self.take(3)
        if self.draw.random() < 0.5:
            self.add("memory.copy", 0, 0)
        else:
            self.add("memory.fill", 0)

    def call(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """A call of a later function, so that calls end."""
        if self.number + 1 >= len(self.module.functions):
            return
        callee = self.draw.randrange(self.number + 1, len(self.module.functions))
        signature = self.module.functions[callee]
        self.want(signature.parameters, base)
        if self.draw.random() < 0.4:
            self.number_of(I32, callee)
            self.add("call_indirect", self.module.type_index(signature), 0)
        else:
            self.add("call", callee)
        self.take(len(signature.parameters))
        self.stack += signature.results

    # -- control ---------------------------------------------------------------------------------------------------
    def condition(self) -> None:
        """An i32 that is not noted: a value, or what compares two."""
        chance = self.draw.random()
        if chance < 0.3:
            self.read(I32)
            return
        if chance < 0.8:
            kind = self.draw.choice((I32, I64, F32, F64))
            integers = ("eq", "ne", "lt_s", "lt_u", "gt_s", "ge_u", "le_s", "gt_u")
            verb = self.draw.choice(integers if kind in (I32, I64) else ("eq", "ne", "lt", "le", "gt", "ge"))
            self.read(kind)
            self.read(kind)
            self.add(f"{_NAMES[kind]}.{verb}")
        elif V128 in self.module.types and chance < 0.9:
            self.read(V128)
            self.add(self.draw.choice(("v128.any_true", "i8x16.all_true", "i64x2.all_true")))
        else:
            self.read(I64)
            self.add("i64.eqz")
        while self.draw.random() < 0.25:
            self.add("i32.eqz")

    def branch(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """br_if with what it takes along, which stays where it is not taken."""
        distance = self.draw.randrange(len(labels))
        self.want(labels[-1 - distance], base)
        self.condition()
        self.add("br_if", distance)

    def table(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """A block that ends by br_table among labels of one type, or now and then goes on."""
        carried = self.draw.choice(labels)
        same = [distance + 1 for distance in range(len(labels)) if labels[-1 - distance] == carried]
        self.add("block")
        self.code.append(0x40)
        for kind in carried:
            self.read(kind)
        self.read(I32)
        if self.draw.random() < 0.7:
            self.number_of(I32, 7)
            self.add("i32.and")
            self.add("local.tee", self.local_of(I32))
        if self.draw.random() < 0.7:
            self.number_of(I32, 3)
            self.add("i32.eq")
            self.add("br_if", self.draw.choice(same))
            for _ in carried:
                self.add("drop")
        else:
            targets = self.draw.choices(same, k=self.draw.randint(0, 9))
            self.add("br_table")
            self.code += vector([unsigned(one) for one in targets]) + unsigned(self.draw.choice(same))
        self.add("end")

    def block(self, base: int, depth: int, labels: list[tuple[int, ...]]) -> None:
        """block, loop, or if with or without an else."""
        if not depth:
            return
        name = self.draw.choice(("block", "block", "loop", "if", "if"))
        parameters = tuple(self.draw.choices(self.module.types, k=self.draw.choice((0, 0, 1, 2, 4))))
        results = tuple(self.draw.choices(self.module.types, k=self.draw.choice((0, 1, 1, 2, 3, 5))))
        self.want(parameters, base)
        if name == "if":
            self.condition()
        self.add(name)
        if not parameters and len(results) <= 1:
            self.code += bytes(results) or b"\x40"
        else:
            self.code += signed(self.module.type_index(Signature(parameters, results)))
        self.take(len(parameters))
        height = len(self.stack)
        within = [*labels, parameters if name == "loop" else results]
        if name == "loop":
            self.stack += parameters
            self.use_fuel()
        for _ in range(2 if name == "if" else 1):
            self.stack[height:] = parameters
            self.instructions(height, depth - 1, within)
            self.leave(height, results)
            if name == "if":
                self.add("else")
                name = ""
        self.add("end")
        self.stack[height:] = results

    def use_fuel(self) -> None:
        """A round of a loop."""
        self.add("global.get", _FUEL)
        self.number_of(I32, 1)
        self.add("i32.sub")
        self.add("global.set", _FUEL)
        self.add("global.get", _FUEL)
        self.number_of(I32, 0)
        self.add("i32.lt_s")
        self.add("if")
        self.code.append(0x40)
        self.add("unreachable")
        self.add("end")

    def leave(self, height: int, results: tuple[int, ...]) -> None:
        """The values of a block as its type says."""
        if tuple(self.stack[height:]) == results and self.draw.random() < 0.5:
            return
        if self.draw.random() < 0.5:
            self.sum_down_to(height)
        while len(self.stack) > height:
            self.add("drop")
            self.stack.pop()
        for kind in results:
            self.read(kind)


class _Module:
    """A module in the making: function 0 is what is called, each may call later ones."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.types = _TYPES if self.draw.random() < 0.5 else _TYPES[:-1]
        is_wide = self.draw.random() < 0.25
        self.signatures: list[Signature] = []
        self.functions = [Signature((), ())]
        for _ in range(self.draw.randint(2, 4)):
            parameters = self.draw.choice((0, 5, 20, 70) if is_wide else (0, 1, 2, 4, 8))
            results = self.draw.choice((1, 2, 8, 40, 70) if is_wide else (0, 1, 1, 2, 3))
            self.functions.append(
                Signature(
                    tuple(self.draw.choices(self.types, k=parameters)), tuple(self.draw.choices(self.types, k=results))
                )
            )

    def type_index(self, signature: Signature) -> int:
        """The number of a type, made now if there is none."""
        if signature not in self.signatures:
            self.signatures.append(signature)
        return self.signatures.index(signature)

    def constant(self, kind: int) -> bytes:
        """An instruction that gives a value of a type."""
        draw = self.draw
        if kind in (I32, I64):
            bits = 32 if kind == I32 else 64
            is_edge = draw.random() < 0.6
            value = draw.choice(_EDGES[kind]) if is_edge else draw.getrandbits(bits) - (1 << bits - 1)
            return opcode(f"{_NAMES[kind]}.const") + signed(value)
        if kind == F32:
            return opcode("f32.const") + struct.pack("<f", draw.choice((*_F32_EDGES, draw.uniform(-1e6, 1e6))))
        if kind == F64:
            return opcode("f64.const") + struct.pack("<d", draw.choice((*_F64_EDGES, draw.uniform(-1e9, 1e9))))
        return opcode("v128.const") + draw.randbytes(16)

    def binary(self) -> bytes:
        """The whole module."""
        bodies = [_Body(self, number).whole() for number in range(len(self.functions))]
        refuel = b"\0" + opcode("i32.const") + signed(_MOST_FUEL) + opcode("global.set") + unsigned(_FUEL) + b"\x0b"
        total = b"\0" + opcode("global.get") + unsigned(_SUM) + b"\x0b"
        declared = [*self.functions, Signature((), ()), Signature((), (I64,))]
        functions = [unsigned(self.type_index(signature)) for signature in declared]
        types = [b"\x60" + vector_of(bytes(one)) + vector_of(bytes(two)) for one, two in self.signatures]
        count = len(self.functions)
        exports = [vector_of(b"run") + b"\0\0", vector_of(b"memory") + b"\2\0"]
        exports += [vector_of(b"refuel") + b"\0" + unsigned(count), vector_of(b"globals") + b"\0" + unsigned(count + 1)]
        values = [(I64, opcode("i64.const") + signed(0)), *[(kind, self.constant(kind)) for kind in _TYPES]]
        values += [(I32, opcode("i32.const") + signed(_MOST_FUEL)), (I32, opcode("i32.const") + signed(3))]
        cells = [bytes([kind, 1]) + value + b"\x0b" for kind, value in values]
        out = MAGIC + section(1, vector(types)) + section(3, vector(functions))
        out += section(4, vector([b"\x70\0" + unsigned(count)])) + section(5, vector([b"\1\1\4"]))
        out += section(6, vector(cells)) + section(7, vector(exports))
        out += section(9, vector([b"\0\x41\0\x0b" + vector([unsigned(one) for one in range(count)])]))
        out += section(10, vector([vector_of(body) for body in [*bodies, refuel, total]]))
        return out + section(11, vector([b"\0\x41\0\x0b" + vector_of(self.draw.randbytes(4096))]))


def random_stack_module(seed: int) -> bytes:
    """The module of a seed."""
    return _Module(seed).binary()
