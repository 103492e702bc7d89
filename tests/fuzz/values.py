"""Values of any C type as bytes in memory, and functions that take and return them by value.

What is passed and what comes back is raw memory on both sides: an image of the type's size, of which the bits that
belong to members count (`Value.mask`) and padding does not.  The C text of a callee writes down what reached it and
returns an image that is spelt out byte by byte.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from callgate.c import types as c
from callgate.c.layout import align_bytes, record_layout, size_bytes
from callgate.c.types import Array, CType, Kind, Pointer, Record, Scalar, spell
from callgate.lower.machine import Machine
from callgate.runtime import engine as engines
from callgate.runtime.native import NativeEngine
from callgate.target import AARCH64_LINUX, HOST, X86_64_LINUX, Target
from fuzz.generate import draw_float
from fuzz.records import ENUMERATIONS, Drawn, Shape, draw_record, inside, reachable
from oracle.abi_targets import COMPILER, FILL, LONG_DOUBLE_BYTES, SCRAMBLE, braced, long_double

TARGET = AARCH64_LINUX if HOST == AARCH64_LINUX else X86_64_LINUX
"""What values are drawn for."""
IS_COMPILED = bool(shutil.which(COMPILER[0])) and HOST == TARGET and hasattr(os, "fork")
NOT_COMPILED = f"needs {COMPILER[0]} and fork on x86-64 or AArch64 Linux"
"""Whether callees can be built and called here, and what is said where not."""

MAXIMUM_SEEN = 1 << 16
"""How many bytes of arguments a callee writes down at most."""

SCALARS = (
    *(c.SIGNED_CHAR, c.UNSIGNED_CHAR, c.SHORT, c.UNSIGNED_SHORT, c.INT, c.UNSIGNED_INT, c.LONG, c.UNSIGNED_LONG),
    *(c.LONG_LONG, c.UNSIGNED_LONG_LONG, c.INT8, c.UINT16, c.INT32, c.UINT64, c.SIZE, c.BOOL, c.CHAR, c.WCHAR),
    *(c.FLOAT, c.FLOAT, c.FLOAT, c.DOUBLE, c.DOUBLE, c.DOUBLE, c.DOUBLE, c.LONG_DOUBLE),
)
STRING = Pointer(c.CHAR, True)
BYTES = Pointer(c.UNSIGNED_CHAR, True)
POINTED_BYTES = 16
"""How much of the memory behind a STRING or BYTES parameter counts; its Value has that for its image."""
WIDE_SCALARS = (c.INT128, c.UNSIGNED_INT128, c.FLOAT_COMPLEX, c.DOUBLE_COMPLEX)


@dataclass(frozen=True, slots=True)
class Value:
    """A value in memory: `image` of the type's size, and `mask` with the bits that count."""

    ctype: CType
    image: bytes
    mask: bytes

    def differs(self, seen: bytes) -> bool:
        """Whether other bytes are another value."""
        return any((a ^ b) & m for a, b, m in zip(self.image, seen, self.mask, strict=True))

    @property
    def is_inverted(self) -> bool:
        """Whether it is a struct that the callee gets a pointer to, and leaves with all bits inverted."""
        return isinstance(self.ctype, Pointer) and isinstance(self.ctype.to, Record) and not self.ctype.is_const

    def shown(self, seen: bytes) -> str:
        """Bytes in hex, padding as dots."""
        return " ".join(f"{byte:02x}" if mask else ".." for byte, mask in zip(seen, self.mask, strict=True))


def draw_value(random: Random, ctype: CType) -> Value:
    """A value of a type; bytes without meaning are random too."""
    if isinstance(ctype, Pointer) and isinstance(ctype.to, Record):
        pointed = draw_value(random, ctype.to)
        return replace(pointed, ctype=ctype)
    if ctype in (STRING, BYTES):
        text = bytes(random.randint(1, 0x7F) for _ in range(random.randint(0, POINTED_BYTES)))
        return Value(ctype, text.ljust(POINTED_BYTES, b"\0"), b"\xff" * POINTED_BYTES)
    size = size_bytes(ctype, TARGET)
    image, mask = _draw_bits(random, ctype)
    image |= random.getrandbits(8 * size + 1) & ~mask & ((1 << 8 * size) - 1)
    return Value(ctype, image.to_bytes(size, "little"), mask.to_bytes(size, "little"))


def _draw_bits(random: Random, ctype: CType) -> tuple[int, int]:
    """The image and the mask of a value as numbers, little-endian."""
    match ctype:
        case Record(tag=tag):
            image = mask = 0
            for place in record_layout(ctype, TARGET).places:
                member = place.member
                if member.bits is not None:
                    bits, covered = random.getrandbits(member.bits + 1) >> 1, (1 << member.bits) - 1
                    if not member.name:
                        covered = 0
                else:
                    bits, covered = _draw_bits(random, member.type)
                covered <<= place.bit_offset
                # of a union's members one gives the bits where they meet
                keep = mask if tag == "union" and random.random() < 0.5 else 0
                image = (image & (~covered | keep)) | ((bits << place.bit_offset) & covered & ~keep)
                mask |= covered
            return image, mask
        case Array(element=element, length=length):
            step = 8 * size_bytes(element, TARGET)
            image = mask = 0
            for index in range(length):
                bits, covered = _draw_bits(random, element)
                image |= bits << step * index
                mask |= covered << step * index
            return image, mask
        case Scalar(kind=Kind.BOOLEAN):
            return random.getrandbits(1), 0xFF
        case Scalar(name="long double"):
            value = draw_float(random)
            return int.from_bytes(long_double(value), "little"), (1 << 8 * LONG_DOUBLE_BYTES) - 1
        case Scalar(kind=Kind.FLOATING, name=name):
            return int.from_bytes(_float_bytes(random, name), "little"), (1 << 8 * len(_float_bytes(random, name))) - 1
        case Scalar(kind=Kind.WIDE_CHARACTER):
            return random.choice((0, 65, 0xFF, 0x20AC, 0x10FFFF, random.randrange(0xD800))), (1 << 32) - 1
    bits = 8 * size_bytes(ctype, TARGET)
    edges = (0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1)
    return random.choice((random.choice(edges), random.getrandbits(bits), random.getrandbits(bits))), (1 << bits) - 1


def _float_bytes(random: Random, name: str) -> bytes:
    value = draw_float(random)
    if name == "double":
        return struct.pack("<d", value)
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


# -- functions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """A function of values, one call of it, and the records that its types need.

    `outs` are what it stores through the pointers that are its last parameters, `attribute` is what its definition
    begins with.
    """

    name: str
    arguments: tuple[Value, ...]
    result: Value | None
    drawn: tuple[Drawn, ...] = ()
    outs: tuple[Value, ...] = ()
    attribute: str = ""

    @property
    def result_type(self) -> CType:
        return self.result.ctype if self.result else c.VOID

    @property
    def prototype(self) -> str:
        """The declaration: `struct r f17(double a0, struct s a1)`."""
        types = [*(value.ctype for value in self.arguments), *(Pointer(value.ctype) for value in self.outs)]
        parameters = ", ".join(spell(ctype, f"a{index}") for index, ctype in enumerate(types))
        return spell(self.result_type, f"{self.name}({parameters or 'void'})")

    @property
    def records(self) -> str:
        """The definitions of the records."""
        return "".join(f"{one.text}\n" for one in self.drawn)

    def without_unused_records(self) -> Function:
        """The same with no records but those of its values."""
        values = (*self.arguments, *self.outs, *((self.result,) if self.result else ()))
        types = [value.ctype.to if isinstance(value.ctype, Pointer) else value.ctype for value in values]
        used = {record.name for ctype in types for record in inside(ctype)}
        return replace(self, drawn=tuple(one for one in self.drawn if used & {part.name for part in one.parts}))

    @property
    def definition(self) -> str:
        """The callee's C source."""
        lines = ["START"]
        offset = 0
        for index, argument in enumerate(self.arguments):
            if argument.ctype == STRING:
                lines.append(f"strncpy((char *)seen + {offset}, a{index}, {POINTED_BYTES});")
            elif argument.ctype == BYTES:
                lines.append(f"memcpy(seen + {offset}, a{index}, {POINTED_BYTES});")
            elif isinstance(argument.ctype, Pointer) and isinstance(argument.ctype.to, Record):
                lines.append(f"memcpy(seen + {offset}, a{index}, {len(argument.image)});")
                if argument.is_inverted:
                    lines.append(f"invert(a{index}, {len(argument.image)});")
            else:
                lines.append(f"memcpy(seen + {offset}, &a{index}, {len(argument.image)});")
            offset += len(argument.image)
        for index, value in enumerate(self.outs, len(self.arguments)):
            lines.append(f"memcpy(a{index}, (unsigned char[]){braced(value.image or bytes(1))}, {len(value.image)});")
        lines.append("scramble();")
        if self.result:
            image = self.result.image
            lines += [f"{spell(self.result.ctype, 'result')};"]
            if image:
                lines.append(f"memcpy(&result, (unsigned char[]){braced(image)}, {len(image)});")
            lines.append("return result;")
        return self.attribute + self.prototype + "\n{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    def problems(self, seen: bytes) -> list[str]:
        """What arrived otherwise than it was passed."""
        problems = []
        offset = 0
        for index, argument in enumerate(self.arguments):
            arrived = seen[offset : offset + len(argument.image)]
            if argument.differs(arrived):
                problems.append(f"a{index} seen {argument.shown(arrived)}, expected {argument.shown(argument.image)}")
            offset += len(argument.image)
        if seen[offset:].strip(bytes((FILL,))):
            problems.append("more was seen than passed")
        return problems

    def result_problem(self, returned: bytes) -> str:
        if not self.result or not self.result.differs(returned):
            return ""
        return f"result {self.result.shown(returned)}, expected {self.result.shown(self.result.image)}"


SMALL = Shape(most_members=4, has_open_arrays=False, has_wide=False)
LARGE = Shape(most_members=40, has_open_arrays=False, has_wide=False)


def draw_by_value(random: Random, name: str, *, has_wide: bool = False) -> Drawn:
    """A record to pass by value: two of three fit into registers.

    Left out is what compilers disagree about: records of nothing but unnamed bit-fields (no C, 6.7.2.1p8), unnamed
    bit-fields in unions, bit-fields of 16, 32, 64 or 128 bits that may be misaligned, arrays of structs in packed
    ones, whose last eightbyte may be padding, and in packed ones bit-fields that are aligned or of 128-bit types (gcc
    and clang).  So is what callgate refuses, alignment to more than 16.
    """
    shape = random.choice((SMALL, SMALL, SMALL, LARGE))._replace(
        has_wide=has_wide,
        has_alignment=random.random() < 0.3,
        has_pragma=random.random() < 0.3,
        has_bit_fields=random.random() < 0.3,
    )
    most_bytes = random.choice((16, 16, 16, 16, 48, 1000))
    drawn = draw_record(random, name, shape)
    while size_bytes(drawn.record, TARGET) > most_bytes or any(map(_is_left_out, drawn.parts)):
        drawn = draw_record(random, name, shape)
    return drawn


def _is_left_out(whole: Record) -> bool:
    if align_bytes(whole, TARGET) > 16:
        return True
    is_packed = any(record.pack_bytes for record in inside(whole))
    for record in inside(whole):
        arrays = [member.type for member in record.members or () if isinstance(member.type, Array)]
        if is_packed and any(any(inside(array)) for array in arrays):
            return True
        bit_fields = [member for member in record.members or () if member.bits is not None]
        has_unnamed = any(not member.name for member in bit_fields)
        if has_unnamed and (record.tag == "union" or not any(reachable(record))):
            return True
        if any(member.bits in (16, 32, 64, 128) and (is_packed or not member.name) for member in bit_fields):
            return True
        if is_packed and any(member.align_bytes or size_bytes(member.type, TARGET) > 8 for member in bit_fields):
            return True
    return False


def draw_type(random: Random, drawn: Sequence[Drawn], scalars: Sequence[CType]) -> CType:
    if drawn and random.random() < 0.6:
        return random.choice(random.choice(drawn).parts)
    return random.choice(scalars)


def draw_function(
    random: Random,
    name: str,
    *,
    has_wide: bool = False,
    has_outs: bool = False,
    more_scalars: tuple[CType, ...] = (),
) -> Function:
    """A function of 0 to 20 parameters, half of them records, and up to two Out parameters."""
    drawn = tuple(draw_by_value(random, f"{name}r{n}", has_wide=has_wide) for n in range(random.randint(1, 3)))
    integers = tuple(s for s in SCALARS if s.kind is not Kind.FLOATING)
    scalars = (*random.choice((SCALARS, SCALARS, SCALARS, integers, (c.DOUBLE, c.FLOAT))), *more_scalars)
    if has_wide:
        scalars += WIDE_SCALARS
    count = random.randint(0, random.choice((2, 5, 10, 20)))
    types = [draw_type(random, drawn, scalars) for _ in range(count)]
    if has_outs:  # Python's way to pass: pointers to structs too
        types = [
            Pointer(ctype, random.random() < 0.5) if isinstance(ctype, Record) and random.random() < 0.15 else ctype
            for ctype in types
        ]
    arguments = tuple(draw_value(random, ctype) for ctype in types)
    result = None
    if random.random() < 0.9:
        ctype = draw_type(random, drawn, scalars)
        while ctype in (STRING, BYTES):
            ctype = draw_type(random, drawn, scalars)
        result = draw_value(random, ctype)
    outs: tuple[Value, ...] = ()
    if has_outs and random.random() < 0.3:
        records = [part for one in drawn for part in one.parts]
        outs = tuple(draw_value(random, random.choice(records)) for _ in range(random.randint(1, 2)))
    return Function(name, arguments, result, drawn, outs)


def functions(seed: int, count: int, *, has_wide: bool = False) -> list[Function]:
    """`count` functions named f0, f1, … that depend on the seed alone."""
    random = Random(seed)
    return [draw_function(random, f"f{index}", has_wide=has_wide) for index in range(count)]


def python_functions(seed: int, count: int) -> list[Function]:
    """The same with all that Python passes: strings, buffers and Out parameters too."""
    random = Random(seed)
    return [
        draw_function(random, f"f{index}", has_outs=True, more_scalars=random.choice(((), (STRING, BYTES))))
        for index in range(count)
    ]


def functions_of_sizes(seed: int, sizes: Iterable[int]) -> list[Function]:
    """A function for each size of a struct, which travels in every place, between integers and floats, and comes back."""
    random = Random(seed)
    made = []
    for size in sizes:
        name = f"sized{size}"
        record = Record(name, members=(c.Member("bytes", Array(c.UNSIGNED_CHAR, size)),))
        drawn = Drawn(record, f"struct {name} {{ unsigned char bytes[{size}]; }};", (record,))
        types = (record, c.DOUBLE, record, c.INT, record, c.FLOAT, record, record)
        arguments = tuple(draw_value(random, ctype) for ctype in types[size % 3 :])
        made.append(Function(f"f{size}", arguments, draw_value(random, record), (drawn,)))
    return made


MS_ABI = X86_64_LINUX._replace(name="x86_64-linux (ms_abi)", calling_convention="win64")
"""The calling convention of Windows with Linux's types, as gcc has it for functions with the attribute ms_abi."""


def call_by_ms_abi() -> None:
    """From now on the gates of this process, a child of its own, call by that convention."""
    native = engines._made["native"] = NativeEngine()
    native.machine = Machine(MS_ABI, native.machine.layout)


def as_ms_abi(batch: Sequence[Function]) -> list[Function]:
    """The functions with the calling convention of Windows, without those that callgate refuses there."""
    return [replace(one, attribute="__attribute__((ms_abi)) ") for one in batch if _is_in_win64(one)]


def _is_in_win64(function: Function) -> bool:
    types = [*(value.ctype for value in function.arguments), *((function.result.ctype,) if function.result else ())]
    return all(ctype != c.LONG_DOUBLE and size_bytes(ctype, X86_64_LINUX) for ctype in types)


def as_aarch64(batch: Sequence[Function], target: Target) -> list[Function]:
    """The functions whose types are the same there: no unnamed bit-fields, and no long double of another size."""
    return [one for one in batch if all(map(_is_in_aarch64, one.drawn)) and _has_same_floats(one, target)]


def _is_in_aarch64(drawn: Drawn) -> bool:
    members = [member for part in drawn.parts for record in inside(part) for member in record.members or ()]
    return all(member.name or member.bits is None for member in members)


def _has_same_floats(function: Function, target: Target) -> bool:
    same = target.long_double_bytes == X86_64_LINUX.long_double_bytes
    return same or not any("long double" in text for text in (function.prototype, function.records))


HEADERS = "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n#include <sys/types.h>\n#include <wchar.h>\n"
PRELUDE = f"""\
{HEADERS}
unsigned char seen[{MAXIMUM_SEEN}];
unsigned char misaligned;

#define START \\
    memset(seen, {FILL}, sizeof seen); \\
    misaligned = (uintptr_t)__builtin_frame_address(0) % 16;

static void invert(void *memory, size_t size)
{{
    for (unsigned char *byte = memory; size--; byte++)
        *byte = ~*byte;
}}

{SCRAMBLE}
{ENUMERATIONS}"""


def compile_library(text: str, directory: Path, optimization: int = 0) -> Path:
    """Build a shared library from C text."""
    source, library = directory / "callees.c", directory / "callees.so"
    source.write_text(text)
    command = [*COMPILER, f"-O{optimization}", "-w", "-Wno-psabi", "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]
    return library


def source(batch: Sequence[Function]) -> str:
    """The C source of a library with all the callees."""
    return PRELUDE + "".join(f"\n{function.records}{function.definition}" for function in batch)
