"""Random structs and unions: as the records of `callgate.c.types` and as the C text that means the same.

Member names are unique within a drawn record, anonymous members' included, so that each can be reached by name.
Everything depends on the `random.Random` that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from callgate.c import types as c
from callgate.c.types import Array, CType, Enumeration, FunctionPrototype, Kind, Member, Pointer, Record, Scalar

ENUMERATIONS = """\
enum plain { PLAIN_ZERO, PLAIN_SEVEN = 7 };
enum minus { MINUS_ONE = -1 };
enum large { LARGE = 0x123456789abcdef };
"""
"""The C text of the enums that members may have."""

_ENUMS = (
    Enumeration("plain", c.UNSIGNED_INT, (("PLAIN_ZERO", 0), ("PLAIN_SEVEN", 7))),
    Enumeration("minus", c.INT, (("MINUS_ONE", -1),)),
    Enumeration("large", c.LONG, (("LARGE", 0x123456789ABCDEF),)),
)
_INTEGERS = (
    *(c.SIGNED_CHAR, c.UNSIGNED_CHAR, c.SHORT, c.UNSIGNED_SHORT, c.INT, c.UNSIGNED_INT, c.LONG, c.UNSIGNED_LONG),
    *(c.LONG_LONG, c.UNSIGNED_LONG_LONG, c.INT8, c.INT16, c.INT32, c.INT64, c.UINT8, c.UINT16, c.UINT32, c.UINT64),
    *(c.SIZE, c.SSIZE, c.BOOL),
)
_FLOATS = (c.FLOAT, c.FLOAT, c.DOUBLE, c.DOUBLE, c.LONG_DOUBLE)
_CHARACTERS = (c.CHAR, c.WCHAR)
_POINTERS = (
    Pointer(c.VOID),
    Pointer(c.INT),
    Pointer(c.CHAR, True),
    Pointer(Pointer(c.DOUBLE)),
    Pointer(FunctionPrototype("int (*)(void *, double)")),
)
_WIDE = (c.INT128, c.UNSIGNED_INT128, c.FLOAT_COMPLEX, c.DOUBLE_COMPLEX)
"""What only lies in memory: no Python value stands for it."""


class Shape(NamedTuple):
    """What may be drawn.

    `most_members` of one record; `has_bit_fields`, `has_alignment` (attributes `packed` and `aligned`), `has_pragma`
    (`#pragma pack`), `has_wide` (128-bit integers and complex numbers), `has_open_arrays` (flexible array members),
    `has_inline` (anonymous members, and members of unnamed types).
    """

    most_members: int = 12
    has_bit_fields: bool = True
    has_alignment: bool = True
    has_pragma: bool = True
    has_wide: bool = True
    has_open_arrays: bool = True
    has_inline: bool = True


class Drawn(NamedTuple):
    """A record, the C text that defines it and those in it, and these: the ones with a tag of their own, itself last."""

    record: Record
    text: str
    parts: tuple[Record, ...]


class _Drawer:
    """The state of drawing one record: what is defined so far."""

    def __init__(self, random: Random, name: str, shape: Shape) -> None:
        self.random = random
        self.name = name
        self.shape = shape
        self.definitions: list[str] = []
        self.parts: list[Record] = []
        self.member_count = 0

    def tagged(self, depth: int) -> Record:
        """Define one more record with a tag."""
        random = self.random
        pragma = random.choice((1, 2, 4, 8, 16)) if self.shape.has_pragma and random.random() < 0.15 else 0
        # Those inside are defined first: the name is given when this one is.
        record, body = self.record(depth, pragma)
        record = record._replace(name=f"{self.name}_{len(self.parts)}")
        text = body.replace("?", record.name, 1) + ";"
        if pragma:
            text = f"#pragma pack(push, {pragma})\n{text}\n#pragma pack(pop)"
        self.definitions.append(text)
        self.parts.append(record)
        return record

    def record(self, depth: int, pragma: int) -> tuple[Record, str]:
        """A record and its text, with "?" for the tag; `pragma` is the `#pragma pack` that is in force."""
        random = self.random
        tag = "union" if random.random() < 0.2 else "struct"
        packing, pack_bytes, align_bytes = "", pragma, 0
        if self.shape.has_alignment:
            if not pragma and random.random() < 0.15:
                packing, pack_bytes = " __attribute__((packed))", 1
            if random.random() < 0.1:
                align_bytes = random.choice((1, 2, 4, 8, 16, 32))
                packing += f" __attribute__((aligned({align_bytes})))"
        count = random.randint(1, random.choice((2, 4, self.shape.most_members)))
        if random.random() < 0.01:
            count = 0
        # A record is of one kind or of all: bit-fields meet most often when there is little else.
        bit_field_share = random.choice((0.0, 0.0, 0.3, 0.9)) if self.shape.has_bit_fields else 0.0
        pools = (
            None,
            None,
            None,
            None,
            _FLOATS[:-1],
            (random.choice(_INTEGERS),),
            (c.LONG_DOUBLE, c.LONG_DOUBLE, c.LONG),
        )
        pool = random.choice(pools)
        members: list[Member] = []
        lines: list[str] = []
        for index in range(count):
            is_last = index == count - 1 and depth == 0 and tag == "struct" and any(m.name for m in members)
            if random.random() < bit_field_share:
                member, line = self.bit_field(pragma, pool)
            elif self.shape.has_open_arrays and is_last and random.random() < 0.1:
                member, line = self.open_array()
            else:
                member, line = self.plain_member(depth, pragma, pool)
            members.append(member)
            lines.append(line)
        body = "".join(f"    {line}\n" for line in lines)
        return Record("(anonymous)", tag, tuple(members), pack_bytes, align_bytes), f"{tag} ? {{\n{body}}}{packing}"

    def fresh_name(self) -> str:
        self.member_count += 1
        return f"m{self.member_count - 1}"

    def alignment(self, pragma: int) -> tuple[int, str]:
        """What a member's attribute asks for, and its text; no more than the pragma allows comes of it."""
        if not self.shape.has_alignment or self.random.random() < 0.93:
            return 0, ""
        asked = self.random.choice((1, 2, 4, 8, 16, 32))
        return min(asked, pragma or asked), f" __attribute__((aligned({asked})))"

    def plain_member(self, depth: int, pragma: int, pool: tuple[Scalar, ...] | None) -> tuple[Member, str]:
        random = self.random
        align_bytes, attribute = self.alignment(pragma)
        kind = random.random()
        if self.shape.has_inline and depth < 2 and kind < 0.08:
            record, text = self.record(depth + 1, pragma)
            text = text.replace(" ?", "", 1).replace("\n", "\n    ")
            if random.random() < 0.6:  # anonymous: its members count as the outer record's
                return Member("", record, None, 0, True), f"{text};"
            name = self.fresh_name()
            return Member(name, record, None, align_bytes), f"{text} {name}{attribute};"
        ctype: CType
        if depth < 2 and kind < 0.2:
            ctype = random.choice(self.parts) if self.parts and random.random() < 0.5 else self.tagged(depth + 1)
        elif pool:
            ctype = random.choice(pool)
        else:
            pools: list[tuple[CType, ...]] = [_INTEGERS, _INTEGERS, _INTEGERS, _FLOATS, _CHARACTERS, _POINTERS, _ENUMS]
            if self.shape.has_wide:
                pools.append(_WIDE)
            ctype = random.choice(random.choice(pools))
        if random.random() < 0.2:
            ctype = Array(ctype, random.choice((1, 2, 3, 3, 5, 8)))
            if random.random() < 0.15:
                ctype = Array(ctype, random.randint(1, 3))
        name = self.fresh_name()
        return Member(name, ctype, None, align_bytes), f"{c.spell(ctype, name)}{attribute};"

    def bit_field(self, pragma: int, pool: tuple[Scalar, ...] | None) -> tuple[Member, str]:
        random = self.random
        integers: tuple[CType, ...] = tuple(s for s in pool or () if s in _INTEGERS) or (
            *_INTEGERS,
            *_CHARACTERS,
            *_ENUMS,
        )
        if self.shape.has_wide and random.random() < 0.05:
            integers = _WIDE[:2]
        ctype = random.choice(integers)
        most = widest(ctype)
        bits = random.choice((1, most, random.randint(1, most), random.randint(1, min(most, 7))))
        name = ""
        if random.random() < 0.9:
            name = self.fresh_name()
        elif random.random() < 0.6:
            bits = 0
        align_bytes, attribute = self.alignment(pragma) if name else (0, "")
        return Member(name, ctype, bits, align_bytes), f"{c.spell(ctype, name)} : {bits}{attribute};"

    def open_array(self) -> tuple[Member, str]:
        ctype = self.random.choice((c.CHAR, c.SHORT, c.DOUBLE, c.LONG_DOUBLE, *self.parts))
        name = self.fresh_name()
        return Member(name, Array(ctype, 0)), f"{c.spell(ctype, name)}[];"


def widest(ctype: CType) -> int:
    """The most bits that a bit-field of an integer type has (LP64)."""
    if isinstance(ctype, Enumeration):
        ctype = ctype.base
    assert isinstance(ctype, Scalar)
    if ctype.kind is Kind.BOOLEAN:
        return 1
    for size_bytes, names in {
        1: ("char", "int8"),
        2: ("short", "int16"),
        16: ("__int128",),
        8: ("long", "64", "size_t"),
    }.items():
        if any(name in ctype.name for name in names):
            return 8 * size_bytes
    return 32


def draw_record(random: Random, name: str, shape: Shape) -> Drawn:
    """A record with the tag `name` and a number, and all that it is made of."""
    drawer = _Drawer(random, name, shape)
    record = drawer.tagged(0)
    return Drawn(record, "\n".join(drawer.definitions), tuple(drawer.parts))


def reachable(record: Record) -> Iterator[tuple[tuple[Member, ...], Member]]:
    """The named members of a record, those of anonymous ones too, each with the anonymous members around it."""
    for member in record.members or ():
        if member.is_anonymous and isinstance(member.type, Record):
            for around, inner in reachable(member.type):
                yield (member, *around), inner
        elif member.name:
            yield (), member


def inside(ctype: CType) -> Iterator[Record]:
    """All records that lie within a type, itself too."""
    if isinstance(ctype, Array):
        yield from inside(ctype.element)
    if isinstance(ctype, Record):
        yield ctype
        for member in ctype.members or ():
            yield from inside(member.type)
