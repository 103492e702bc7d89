"""Reading and writing the members of random Struct and Union classes, against the layout that gcc has.

CALLGATE_RECORDS is how many records are drawn (3,000 by default), CALLGATE_SEED the seed.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from random import Random
from typing import Any

from callgate.c import types as c
from callgate.c.layout import record_layout, size_bytes
from callgate.c.types import Array, Member, Record
from callgate.target import DATA_MODEL
from fuzz.classes import Classes, can_be_written, python_value
from fuzz.records import Shape, draw_record, reachable
from fuzz.values import draw_value

COUNT = int(os.environ.get("CALLGATE_RECORDS", "3000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
SHAPE = Shape(has_wide=False, has_open_arrays=False)


def bit_offset(record: Record, around: tuple[Member, ...], member: Member) -> int:
    """Where a member begins, through the anonymous members around it."""
    offset = 0
    for step in (*around, member):
        (place,) = [place for place in record_layout(record, DATA_MODEL).places if place.member == step]
        offset += place.bit_offset
        if isinstance(step.type, Record):
            record = step.type
    return offset


def same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


def outside(cls: Any) -> list[str]:
    """The bit-fields that ctypes reads from memory that is not the record's."""
    found = []
    for name, field_type, *bits in getattr(cls, "_fields_", ()):
        if bits:
            descriptor = getattr(cls, name)
            end = descriptor.offset + ctypes.sizeof(field_type)
            is_inside = descriptor.offset >= 0 and end <= ctypes.sizeof(cls)
            fits = sys.version_info >= (3, 14) or (descriptor.size & 0xFFFF) + bits[0] <= 8 * ctypes.sizeof(field_type)
            if not (is_inside and fits):
                found.append(name)
    return found


def problems_of(random: Random, record: Record, cls: Any) -> list[str]:
    """What is wrong with a class: its size, what its members read as, and the bytes that writing them leaves."""
    size = size_bytes(record, DATA_MODEL)
    if ctypes.sizeof(cls) != size:
        return [f"{ctypes.sizeof(cls)} bytes, not {size}"]
    problems = []
    if any(bytes(cls())):
        problems.append("a new one is not zero")
    problems += [f"{name} is accessed outside of the record" for name in outside(cls)]
    image = draw_value(random, record).image
    filled = cls.from_buffer_copy(image)
    for around, member in reachable(record):
        is_array = isinstance(member.type, Array)
        one, count = (Member("", member.type.element), member.type.length) if is_array else (member, 1)
        if isinstance(one.type, Array | Record):
            continue
        bits = 8 * size_bytes(one.type, DATA_MODEL) if one.bits is None else one.bits
        offset = bit_offset(record, around, member)
        whole = (int.from_bytes(image, "little") >> offset) & ((1 << bits * count) - 1)
        try:
            values = [python_value(one, (whole >> bits * index) & ((1 << bits) - 1)) for index in range(count)]
        except ValueError:  # the bits of another member of a union are no character
            continue
        read = getattr(filled, member.name)
        if is_array and one.type in (c.CHAR, c.WCHAR):
            nul: Any = b"\0" if one.type == c.CHAR else "\0"
            text = nul[:0].join(values)
            if read != text.split(nul)[0]:
                problems.append(f"{member.name} is {read!r}, expected {text!r} up to its NUL")
            continue
        found = [read[index] for index in range(count)] if is_array else [read]
        if not all(map(same, found, values)):
            problems.append(f"{member.name} is {found}, expected {values}")
        if one.type in (c.FLOAT, c.DOUBLE, c.LONG_DOUBLE):
            continue  # another NaN, or a long double that is no double, has other bytes
        if one.type == c.BOOL:
            whole = sum(bool(value) << bits * index for index, value in enumerate(values))
        written = cls()
        if is_array:
            for index, value in enumerate(values):
                getattr(written, member.name)[index] = value
        else:
            setattr(written, member.name, values[0])
        expected = (whole << offset).to_bytes(size, "little")
        if bytes(written) != expected:
            problems.append(f"{member.name} = {values} gives {bytes(written).hex(' ')}, expected {expected.hex(' ')}")
    return problems


def test_members() -> None:
    print(f"CALLGATE_SEED={SEED}")
    random = Random(SEED)
    compared = 0
    for number in range(COUNT):
        drawn = draw_record(random, f"r{number}", SHAPE)
        if not can_be_written(drawn.record):
            continue
        problems = problems_of(random, drawn.record, Classes().of(drawn.record))
        assert not problems, "\n".join([f"CALLGATE_SEED={SEED}", *problems, drawn.text])
        compared += 1
    assert compared > COUNT // 2
