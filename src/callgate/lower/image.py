"""Images: the machine code of many gates as one piece of bytes, made ahead of time.  Pure: nothing is mapped here.

An image has all that gates of one target and one object layout need: the routines that gates and callbacks share, a
batch of thunks, and the code of each shape.  It knows no address.  Literals are reached through a table that ends where
the file begins; whoever maps the file fills it, one slot for each of `symbols`:

    lower addresses
    |  slot n-1 … slot 1, slot 0 |  TABLE_BYTES at most, data
    |  head                      |  HEAD_BYTES, of whoever writes the file
    |  contents                  |  as below
    higher addresses

The contents, little-endian, each part at a multiple of 64:

    directory   8 words of 4 bytes: offset and size of each of the parts that follow
    facts       lines `name=value`: for what the image was made
    symbols     lines: what the slots of the table are to hold, from slot 0
    labels      lines `offset name`: the routines, by their offset in the contents
    shapes      24 bytes each, in the order of their keys: key (16), offset in the contents, size
    code        the rest
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from callgate.abi.plan import CallPlan
from callgate.asm.code import Code, relocate
from callgate.c.types import VOID
from callgate.cpython.conversion import CallbackConversion, Conversion
from callgate.errors import EngineError, ImageError
from callgate.lower.callback import lower_slot_thunks
from callgate.lower.callback_routines import lower_callback_routines
from callgate.lower.machine import Machine, check_code_is_made
from callgate.lower.routines import lower_routines

FORMAT = 1
HEAD_BYTES = 64
TABLE_BYTES = 1 << 13
ALIGNMENT = 64
THUNK_COUNT = 256

_PARTS = 4
_DIRECTORY = struct.Struct(f"<{2 * _PARTS}I")
_SHAPE = struct.Struct("<16sII")


class Piece(NamedTuple):
    """One piece of code: `key` is that of its shape, b"" for routines; `title` is for people."""

    key: bytes
    title: str
    code: Code


class Placed(NamedTuple):
    """A piece at its offset in the contents."""

    piece: Piece
    offset: int


class Image(NamedTuple):
    """What an image has in it; offsets are those in its contents.  A shape has its offset and its size in bytes."""

    facts: Mapping[str, str]
    symbols: tuple[str, ...]
    labels: Mapping[str, int]
    shapes: Mapping[bytes, tuple[int, int]]


class Built(NamedTuple):
    """An image and what it was made of; the code begins at `code_offset` of the contents."""

    contents: bytes
    code_offset: int
    placed: tuple[Placed, ...]
    symbols: tuple[str, ...]


def shape_key(conversion: Conversion | CallbackConversion, plan: CallPlan) -> bytes:
    """What a shape is found by: equal for functions that share machine code, in every process and on every host."""
    from hashlib import sha256  # most processes have no images

    places = None
    if conversion.depends_on_plan:  # on where values travel, not on the names of their types
        places = plan._replace(
            arguments=tuple(argument._replace(type=VOID) for argument in plan.arguments),
            result=plan.result._replace(type=VOID),
        )
    return sha256(repr((conversion, places)).encode()).digest()[:16]


def image_facts(machine: Machine, python: str, version: str) -> dict[str, str]:
    """What must be the same where an image is made and where it runs: format, callgate, target, Python, its objects.

    `python` is as in "3.13", `version` that of callgate.
    """
    facts = {"format": str(FORMAT), "callgate": version, "target": machine.target.name, "Python": python}
    for name, value in machine.layout._asdict().items():
        if name != "name":
            facts[name] = repr(value)
    return facts


def slot_distance(slot: int) -> int:
    """From a slot of the table to the contents, in bytes."""
    return HEAD_BYTES + 8 * (slot + 1)


def build_image(machine: Machine, facts: Mapping[str, str], shapes: Iterable[Piece], *, with_listing: bool) -> Built:
    """Put an image together; the same shapes give the same bytes, in whatever order they come.

    `facts` are those of `image_facts`.  With listings the shapes must have theirs.  Raises EngineError for a target
    that has no lowering, and where there is more code than its instructions reach across.
    """
    check_code_is_made(machine)
    by_key = {shape.key: shape for shape in shapes}
    pieces = [
        Piece(b"", "the routines that all gates share", lower_routines(machine, with_listing=with_listing)),
        Piece(b"", "the routines of callbacks", lower_callback_routines(machine, with_listing=with_listing)),
        Piece(
            b"",
            "what C enters a callback by",
            lower_slot_thunks(THUNK_COUNT, machine.target, with_listing=with_listing),
        ),
        *(by_key[key] for key in sorted(by_key)),
    ]
    symbols = tuple(sorted({relocation.symbol for piece in pieces for relocation in piece.code.relocations}))
    if 8 * len(symbols) > TABLE_BYTES:
        raise AssertionError(f"{len(symbols)} literals")
    lines = "".join(f"{name}={value}\n" for name, value in facts.items()).encode()
    names = "".join(f"{symbol}\n" for symbol in symbols).encode()
    labels_bytes = len(_lines_of_labels(pieces, 0))  # wherever the code begins: offsets have eight digits
    sizes = (len(lines), len(names), labels_bytes, _SHAPE.size * len(by_key))
    offsets = []
    end = _aligned(_DIRECTORY.size)
    for size in sizes:
        offsets.append(end)
        end = _aligned(end + size)
    code_offset = end
    placed = []
    for piece in pieces:
        placed.append(Placed(piece, end))
        end = _aligned(end + len(piece.code.data))
    contents = bytearray(end)
    _DIRECTORY.pack_into(contents, 0, *(word for pair in zip(offsets, sizes, strict=True) for word in pair))
    table = b"".join(
        _SHAPE.pack(one.piece.key, one.offset, len(one.piece.code.data)) for one in placed if one.piece.key
    )
    for offset, part in zip(offsets, (lines, names, _lines_of_labels(pieces, code_offset), table), strict=True):
        contents[offset : offset + len(part)] = part
    slots = {symbol: slot for slot, symbol in enumerate(symbols)}
    for piece, offset in placed:
        contents[offset : offset + len(piece.code.data)] = _linked(piece.code, offset, slots)
    return Built(bytes(contents), code_offset, tuple(placed), symbols)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def _lines_of_labels(pieces: Iterable[Piece], offset: int) -> bytes:
    lines = []
    for piece in pieces:
        lines += [
            f"{offset + place:08x} {label}\n"
            for label, place in piece.code.labels.items()
            if not piece.key and label.startswith("callgate_")
        ]
        offset = _aligned(offset + len(piece.code.data))
    return "".join(lines).encode()


def _linked(code: Code, offset: int, slots: Mapping[str, int]) -> bytes:
    """Code at an offset of the contents, its literals resolved to slots of the table."""
    data = bytearray(code.data)
    for site, kind, symbol, addend in code.relocations:
        try:
            relocate(data, site, kind, addend - (offset + site) - slot_distance(slots[symbol]))
        except EngineError:
            raise EngineError(
                f"the code is more than instructions reach across ({offset:,} bytes); divide the module"
            ) from None
    return bytes(data)


def read_image(contents: bytes | memoryview) -> Image:
    """What is in an image, its code apart; ImageError where the contents are none."""
    try:
        directory = _DIRECTORY.unpack_from(contents)
        parts = []
        for offset, size in zip(directory[::2], directory[1::2], strict=True):
            if offset + size > len(contents):
                raise ImageError("the image's directory leads beyond its end")
            parts.append(bytes(contents[offset : offset + size]))
        facts = dict(line.split("=", 1) for line in parts[0].decode().splitlines())
        symbols = tuple(parts[1].decode().splitlines())
        labels = {name: int(place, 16) for place, name in (line.split(" ") for line in parts[2].decode().splitlines())}
        shapes = {key: (offset, size) for key, offset, size in _SHAPE.iter_unpack(parts[3])}
    except (ValueError, struct.error) as problem:
        raise ImageError(f"this is no image: {problem}") from None
    ends = [offset + size for offset, size in shapes.values()]
    if min([0, *labels.values()]) < 0 or max([0, *labels.values(), *ends]) > len(contents):
        raise ImageError("the image's code lies beyond its end")
    if 8 * len(symbols) > TABLE_BYTES:
        raise ImageError("the image's table has more slots than any")
    return Image(facts, symbols, labels, shapes)


def check_facts(made_for: Mapping[str, str], here: Mapping[str, str]) -> None:
    """ImageError where an image was made for something else than what is here; it says what differs."""
    if made_for == here:
        return
    for name in ("format", "callgate", "target", "Python"):
        if made_for.get(name) != here[name]:
            raise ImageError(f"it is for {name} {made_for.get(name)}, and this is {here[name]}")
    different = [
        f"{name} is {made_for.get(name)} there and {here.get(name)} here"
        for name in sorted({*made_for, *here})
        if made_for.get(name) != here.get(name)
    ]
    raise ImageError(f"it is for a Python with other objects: {', '.join(different)}")
