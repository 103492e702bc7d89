"""Random structs and unions against gcc and ctypes: sizes, alignments, offsets, and the bits of bit-fields.

CALLGATE_RECORDS is how many are drawn (10,000 by default; the records inside them are compared as well), CALLGATE_SEED
the seed.  gcc compiles each batch to a library of constants: for every record its size, its alignment and its members'
offsets; for every bit-field the record with all bits of that one set and all others clear.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from callgate.c import types as c
from callgate.c.declarations import parse
from callgate.c.layout import RecordLayout, record_layout
from callgate.c.types import Array, CType, Enumeration, Member, Pointer, Record, Scalar, spell
from callgate.errors import DeclarationError
from callgate.target import AARCH64_LINUX, AARCH64_MACOS, HOST, X86_64_LINUX, Target
from fuzz.records import ENUMERATIONS, Drawn, Shape, draw_record, inside, reachable
from oracle.mach_o import as_elf, zig_compiler

COUNT = int(os.environ.get("CALLGATE_RECORDS", "10000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
BATCH = 500
TEXT_SHAPE = Shape(has_pragma=False)
MS_LAYOUT = X86_64_LINUX._replace(name="x86_64-linux (ms-bitfields)", system="windows")
"""Linux's types laid out as on Windows, which gcc has an option for."""


class Compiler(NamedTuple):
    """A compiler that lays records out for `target`; `command` compiles C, `is_cross` for another processor."""

    target: Target
    command: tuple[str, ...]
    is_cross: bool = False


COMPILERS = {
    "itanium": Compiler(X86_64_LINUX, ("gcc",)),
    "ms": Compiler(MS_LAYOUT, ("gcc", "-mms-bitfields")),
    "aarch64": Compiler(AARCH64_LINUX, ("aarch64-linux-gnu-gcc",), is_cross=True),
    "aarch64-macos": Compiler(AARCH64_MACOS, ("zig",), is_cross=True),
}
DATA_DIRECTIVES = {".xword": ".quad", ".word": ".long", ".hword": ".short", ".align": ".p2align"}
"""What assembler text for Arm calls data, and what x86-64's calls it."""

pytestmark = pytest.mark.skipif(HOST != X86_64_LINUX, reason="compares with this machine's compiler and ctypes")


def bit_offset(
    layout: RecordLayout, target_member: Member, around: tuple[Member, ...], target: Target = X86_64_LINUX
) -> int:
    """Where a member begins, through the anonymous members around it."""
    offset = 0
    for member in (*around, target_member):
        (place,) = [place for place in layout.places if place.member == member]
        offset += place.bit_offset
        if member != target_member:
            assert isinstance(member.type, Record)
            layout = record_layout(member.type, target)
    return offset


def all_ones(member: Member) -> str:
    """The initializer that sets every bit."""
    return "1" if member.type == c.BOOL else "-1"


def constants(number: int, record: Record) -> str:
    """The C definitions that tell how gcc lays a record out."""
    tag = spell(record)
    plain, images = [], []
    for _, member in reachable(record):
        if member.bits is None:
            plain.append(f"offsetof({tag}, {member.name})")
        else:
            images.append(
                f"const union {{ {tag} record; unsigned char bytes[sizeof({tag})]; }} image{number}_{member.name} = "
                f"{{ .record = {{ .{member.name} = {all_ones(member)} }} }};"
            )
    numbers = ", ".join([f"sizeof({tag})", f"_Alignof({tag})", *plain])
    return "\n".join([f"const unsigned long numbers{number}[] = {{ {numbers} }};", *images])


def build(drawn: Sequence[Drawn], records: Sequence[Record], directory: Path, compiler: Compiler) -> ctypes.CDLL:
    """The constants as a library for this processor: of what another one's compiler makes, the data is taken over."""
    text = "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n" + ENUMERATIONS
    text += "\n".join(one.text for one in drawn)
    text += "\n" + "\n".join(constants(number, record) for number, record in enumerate(records))
    directory.mkdir()  # of its own: the loader takes a path that it has open already for the same library
    source, data, library = directory / "records.c", directory / "records.s", directory / "records.so"
    source.write_text(text)
    is_macos = compiler.target is AARCH64_MACOS
    command = zig_compiler("aarch64-macos") if is_macos else compiler.command
    run(*command, "-w", "-Wno-packed-bitfield-compat", "-fPIC", "-S", "-o", data, source)
    if is_macos:
        data.write_text(as_elf(data.read_text("latin-1")), "latin-1")
    elif compiler.is_cross:
        lines = [line for line in data.read_text().splitlines() if not line.startswith("\t.arch")]
        directives = re.compile(r"\.(?:xword|word|hword|align)\b")
        data.write_text(
            "\n".join(directives.sub(lambda match: DATA_DIRECTIVES[match[0]], line) for line in lines) + "\n"
        )
    run("gcc", "-shared", "-Wl,-z,noexecstack", "-o", library, data)
    return ctypes.CDLL(str(library))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[:4000]


def is_disputed(record: Record, target: Target) -> bool:
    """Whether gcc and clang do not agree about a record that the other one's rules are for.

    On Windows: unions whose bit-fields are packed or have no width.  With clang: bit-fields with an alignment of their
    own.
    """
    bit_fields = [(one, member) for one in inside(record) for member in one.members or () if member.bits is not None]
    if target is MS_LAYOUT:
        return any(one.tag == "union" and (one.pack_bytes or not member.bits) for one, member in bit_fields)
    if target is AARCH64_MACOS:
        return any(member.align_bytes for _, member in bit_fields)
    return False


def problems_of(number: int, record: Record, library: ctypes.CDLL, target: Target) -> list[str]:
    """How callgate's layout differs from gcc's."""
    layout = record_layout(record, target)
    members = list(reachable(record))
    plain = [(around, member) for around, member in members if member.bits is None]
    numbers = list((ctypes.c_ulong * (2 + len(plain))).in_dll(library, f"numbers{number}"))
    names = ["size", "alignment", *(f"offset of {member.name}" for _, member in plain)]
    ours = [layout.size_bytes, layout.align_bytes]
    ours += [bit_offset(layout, member, around, target) // 8 for around, member in plain]
    problems = [
        f"{name} is {theirs}, not {mine}"
        for name, theirs, mine in zip(names, numbers, ours, strict=True)
        if theirs != mine
    ]
    for around, member in members:
        if member.bits is not None and numbers[0]:
            image = (ctypes.c_ubyte * numbers[0]).in_dll(library, f"image{number}_{member.name}")
            theirs = int.from_bytes(bytes(image), "little")
            mine = ((1 << member.bits) - 1) << bit_offset(layout, member, around, target)
            if theirs != mine:
                problems.append(f"bits of {member.name} are {theirs:#x}, not {mine:#x}")
    return problems


@pytest.mark.parametrize("name", COMPILERS)
def test_records_against_gcc(name: str, tmp_path: Path) -> None:
    print(f"CALLGATE_SEED={SEED}")
    compiler = COMPILERS[name]
    for needed in ("gcc", compiler.command[0]):
        if needed != "zig" and not shutil.which(needed):
            pytest.skip(f"needs {needed}")
    target = compiler.target
    is_ms = target is MS_LAYOUT
    shape = Shape(has_alignment=not is_ms)
    compared = 0
    count = COUNT if name == "itanium" else COUNT // 4
    for first in range(0, count, BATCH):
        random = Random(SEED * 1_000_003 + first)
        drawn = [draw_record(random, f"r{number}", shape) for number in range(min(BATCH, count - first))]
        whole = {record.name: one for one in drawn for record in one.parts}
        records = [record for one in drawn for record in one.parts if not is_disputed(record, target)]
        library = build(drawn, records, tmp_path / str(first), compiler)
        found = [(record, problems_of(number, record, library, target)) for number, record in enumerate(records)]
        wrong = sorted(((len(whole[r.name].text), r, p) for r, p in found if p), key=lambda triple: triple[0])
        reports = [
            f"{spell(record)}\n  " + "\n  ".join(problems) + f"\n{whole[record.name].text}"
            for _, record, problems in wrong
        ]
        assert not wrong, f"{len(wrong)} of {len(records)} with CALLGATE_SEED={SEED}:\n" + "\n\n".join(reports[:5])
        compared += len(records)
    assert compared >= count


# -- ctypes -----------------------------------------------------------------------------------------------------------

_CTYPES = {
    **{
        name.removeprefix("c_"): getattr(ctypes, name) for name in ("c_float", "c_double", "c_short", "c_int", "c_long")
    },
    **{f"{name}_t": getattr(ctypes, f"c_{name}") for name in ("int8", "int16", "int32", "int64")},
    **{f"u{name}_t": getattr(ctypes, f"c_u{name}") for name in ("int8", "int16", "int32", "int64")},
    "signed char": ctypes.c_byte,
    "unsigned char": ctypes.c_ubyte,
    "unsigned short": ctypes.c_ushort,
    "unsigned int": ctypes.c_uint,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "ssize_t": ctypes.c_ssize_t,
    "long double": ctypes.c_longdouble,
    "_Bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "wchar_t": ctypes.c_wchar,
}


def ctypes_class(ctype: CType) -> Any:
    """The ctypes class of a type, or LookupError where ctypes has none."""
    match ctype:
        case Scalar(name=name):
            return _CTYPES[name]
        case Enumeration(base=base):
            return _CTYPES[base.name]
        case Pointer():
            return ctypes.c_void_p
        case Array(element=element, length=length):
            return ctypes_class(element) * length
        case Record():
            return ctypes_record(ctype)
    raise LookupError(spell(ctype))


def ctypes_record(record: Record) -> Any:
    fields = []
    scope: dict[str, Any] = (
        {"_anonymous_": [], "_pack_": record.pack_bytes} if record.pack_bytes else {"_anonymous_": []}
    )
    if record.align_bytes or not record.members:
        raise LookupError("ctypes before 3.13 aligns nothing")
    for index, member in enumerate(record.members):
        if member.bits is not None or member.align_bytes:
            raise LookupError(member.name)
        name = member.name or f"anonymous{index}"
        if member.is_anonymous:
            scope["_anonymous_"].append(name)
        fields.append((name, ctypes_class(member.type)))
    base: type = ctypes.Union if record.tag == "union" else ctypes.Structure
    return type(record.name, (base,), {**scope, "_fields_": fields})


def test_records_against_ctypes() -> None:
    print(f"CALLGATE_SEED={SEED}")
    random = Random(SEED)
    shape = Shape(has_bit_fields=False, has_wide=False)
    compared = 0
    for number in range(COUNT):
        for record in draw_record(random, f"r{number}", shape).parts:
            try:
                cls = ctypes_record(record)
            except LookupError:
                continue
            layout = record_layout(record, X86_64_LINUX)
            mine = {member.name: bit_offset(layout, member, around) // 8 for around, member in reachable(record)}
            theirs = {member.name: getattr(cls, member.name).offset for _, member in reachable(record)}
            assert (layout.size_bytes, layout.align_bytes, mine) == (
                ctypes.sizeof(cls),
                ctypes.alignment(cls),
                theirs,
            ), f"CALLGATE_SEED={SEED}: {record}"
            compared += 1
    assert compared > COUNT // 2


# -- what C does not allow --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (None, "struct s is incomplete: it has no size"),
        ([Member("x", c.FLOAT, 3)], "bit-field 'x' of struct s must be of an integer type, not float"),
        ([Member("x", Pointer(c.INT), 3)], "bit-field 'x' of struct s must be of an integer type, not int *"),
        ([Member("x", c.INT, 33)], "bit-field 'x' of struct s has 33 bits; int allows 1 to 32"),
        ([Member("x", c.BOOL, 2)], "bit-field 'x' of struct s has 2 bits; _Bool allows 1 to 1"),
        ([Member("x", c.INT, 0)], "bit-field 'x' of struct s has 0 bits; int allows 1 to 32"),
        ([Member("", c.SHORT, 17)], "bit-field '(unnamed)' of struct s has 17 bits; short allows 1 to 16"),
        ([Member("x", c.VOID)], "member 'x' of struct s has no size: void"),
        (
            [Member("x", Array(c.INT, 0)), Member("y", c.INT)],
            "member 'x' of struct s: an array without a length must be the last member of a struct",
        ),
        ([Member("x", Record("t"))], "struct t is incomplete: it has no size"),
    ],
)
def test_what_has_no_layout(members: list[Member] | None, problem: str) -> None:
    record = Record("s", "struct", None if members is None else tuple(members))
    with pytest.raises(DeclarationError) as caught:
        record_layout(record, X86_64_LINUX)
    assert str(caught.value) == problem


# -- C text -----------------------------------------------------------------------------------------------------------


def flattened(record: Record) -> list[tuple[str, int, int | None]]:
    """The reachable members with their bit offsets and widths."""
    layout = record_layout(record, X86_64_LINUX)
    return [(member.name, bit_offset(layout, member, around), member.bits) for around, member in reachable(record)]


def test_the_text_of_records_is_read_as_gcc_does() -> None:
    """What C text declares lies where the drawn record does, which is where gcc puts it."""
    print(f"CALLGATE_SEED={SEED}")
    random = Random(SEED)
    compared = 0
    while compared < COUNT // 10:
        drawn = [draw_record(random, f"r{number}", TEXT_SHAPE) for number in range(20)]
        read = parse(ENUMERATIONS + "\n".join(one.text for one in drawn), X86_64_LINUX).records
        for one in drawn:
            for record in one.parts:
                if not record.members:
                    continue
                layout, found = record_layout(record, X86_64_LINUX), record_layout(read[record.name], X86_64_LINUX)
                assert (found.size_bytes, found.align_bytes, flattened(read[record.name])) == (
                    (layout.size_bytes, layout.align_bytes, flattened(record))
                ), f"CALLGATE_SEED={SEED}\n{one.text}"
                compared += 1
