"""What the assemblers of all architectures share: labels, notes, the listing, and rows that remember what they encoded.

An architecture's `Assembler` derives from Emitter and adds its rows, plain methods that `describe` has been told of;
its `ListingAssembler` derives from Listing and that one.  Nothing here knows an instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from callgate.asm.code import Code, Line, Relocation

Row = Callable[..., None]


class Emitter:
    """Appends instructions to `code`; `finish()` resolves the labels and returns the Code."""

    __slots__ = ("_comment", "_fixups", "_labels", "_recorded", "_relocations", "code")

    def __init__(self) -> None:
        self.code = bytearray()
        self._labels: dict[str, int] = {}
        self._fixups: list[tuple[int, str, str]] = []  # site, kind as a relocation's, label
        self._relocations: list[Relocation] = []

    def label(self, name: str) -> None:
        """Give the place that follows a name."""
        if name in self._labels:
            raise AssertionError(f"label {name} is defined twice")
        self._labels[name] = len(self.code)

    def note(self, comment: str) -> None:
        """Comment the next line of the listing; nothing where no listing is made."""

    def data(self, content: bytes, text: str) -> None:
        """Append bytes that are no instruction; `text` is what the listing says of them."""
        self.code += content

    def finish(self) -> Code:
        """Resolve the labels and return what was assembled."""
        for site, kind, label in self._fixups:
            self._resolve(site, kind, label, self._labels[label] - site)
        return Code(bytes(self.code), tuple(self._relocations), self._labels, self._lines())

    def _resolve(self, site: int, kind: str, label: str, distance: int) -> None:
        """Write the distance from a site to its label into the instruction there."""
        raise NotImplementedError

    def _lines(self) -> tuple[Line, ...]:
        return ()


class Listing(Emitter):
    """What an assembler needs besides to record the text of every line."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self._recorded: list[tuple[int, bool, str, str]] = []  # offset, is an instruction, text, comment
        self._comment = ""

    def note(self, comment: str) -> None:
        self._comment = comment

    def label(self, name: str) -> None:
        super().label(name)
        self.record(len(self.code), is_instruction=False, text=name)

    def data(self, content: bytes, text: str) -> None:
        if content:
            self.record(len(self.code), is_instruction=True, text=text)
            self.code += content

    @property
    def line_count(self) -> int:
        """How many lines there are so far."""
        return len(self._recorded)

    def record(self, offset: int, *, is_instruction: bool, text: str) -> None:
        """Note a line that begins at an offset."""
        self._recorded.append((offset, is_instruction, text, self._comment))
        self._comment = ""

    def _lines(self) -> tuple[Line, ...]:
        lines = []
        end = len(self.code)
        for offset, is_instruction, text, comment in reversed(self._recorded):
            lines.append(Line(offset, end - offset if is_instruction else 0, text, comment))
            if is_instruction:
                end = offset
        return tuple(reversed(lines))


def describe(emit: Row, operands: str, text: Callable[..., str]) -> None:
    """Attach to a row's function what the listing and the oracle need: its operand letters and its text."""
    emit.operands = operands  # type: ignore[attr-defined]
    emit.text = text  # type: ignore[attr-defined]


def rows_of(assembler: type[Emitter]) -> dict[str, Row]:
    """Every row of an assembler by name."""
    return {name: function for name, function in vars(assembler).items() if hasattr(function, "operands")}


_MOST_REMEMBERED = 1 << 12


def remember(assembler: type[Emitter], rows: Mapping[str, Row], placed: str) -> None:
    """Let rows keep what they have encoded, as gates repeat the same few hundred instructions.

    A row with one of the operand letters `placed` depends on where it stands and is left as it is.
    """
    for name, emit in rows.items():
        if not set(emit.operands) & set(placed):  # type: ignore[attr-defined]
            setattr(assembler, name, _remembering(emit))


def _remembering(emit: Row) -> Row:
    encodings: dict[tuple[object, ...], bytes] = {}

    def emit_remembered(self: Emitter, *operands: object) -> None:
        encoded = encodings.get(operands)
        if encoded is not None:
            self.code += encoded
            return
        start = len(self.code)
        emit(self, *operands)
        if len(encodings) < _MOST_REMEMBERED:
            encodings[operands] = bytes(self.code[start:])

    return emit_remembered


def record(assembler: type[Listing], rows: Mapping[str, Row]) -> None:
    """Let the rows of a listing assembler record their text."""
    for name, emit in rows.items():
        setattr(assembler, name, _recording(emit))


def _recording(emit: Row) -> Row:
    text: Callable[..., str] = emit.text  # type: ignore[attr-defined]

    def emit_and_record(self: Listing, /, *operands: Any, **named: Any) -> None:
        start = len(self.code)
        emit(self, *operands, **named)
        self.record(start, is_instruction=True, text=text(*operands, **named))

    return emit_and_record
