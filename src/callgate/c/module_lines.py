"""How generated lines are written and broken: as ruff format would, so that formatting a module changes nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

WIDTH = 120


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The characters of `text` that are in no string, with their positions."""
    quote, is_escaped = "", False
    for position, character in enumerate(text):
        if quote:
            if not is_escaped and character == quote:
                quote = ""
            is_escaped = character == "\\" and not is_escaped
        elif character in "\"'":
            quote = character
        else:
            yield position, character


def _split(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators that stand outside of brackets and strings."""
    parts, depth, start = [], 0, 0
    for position, character in _outside_strings(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()]


def _last_bracket(text: str) -> tuple[int, int] | None:
    """The outermost bracket pair that ends last, and has something in it."""
    depth, start, found = 0, 0, None
    for position, character in _outside_strings(text):
        if character in "([{":
            if not depth:
                start = position
            depth += 1
        elif character in ")]}":
            depth -= 1
            if not depth and position > start + 1:
                found = (start, position)
    return found


def folded(text: str, indent: int = 0) -> list[str]:
    """A simple statement on as many lines as it needs: brackets are opened, their content goes between.

    A subscript or a call has its content on one line if that fits, a list one item a line.
    """
    margin = " " * indent
    if indent + len(text) <= WIDTH:
        return [margin + text]
    if text.startswith("def "):
        return _folded_def(text, indent)
    name, colon, annotation = text.partition(": ")
    is_annotated = bool(colon) and name.isidentifier()
    is_item = text.endswith(",")
    first, *rest = _split((annotation if is_annotated else text).removesuffix(","), "|")
    if rest and is_item:
        *others, last = [f"{margin}| {operand}" for operand in rest]
        return [*folded(f"{name}: {first}" if is_annotated else first, indent), *others, f"{last},"]
    if rest and is_annotated:
        return [f"{margin}{name}: (", *_folded_union([first, *rest], indent + 4), f"{margin})"]
    brackets = _last_bracket(text)
    if brackets is None:
        return [margin + text]
    start, end = brackets
    head, body, tail = text[: start + 1], text[start + 1 : end], text[end:]
    is_display = len(head) == 1 or not (head[-2].isalnum() or head[-2] in "_])")
    if not is_display and indent + 4 + len(body) <= WIDTH:
        return [margin + head, f"{margin}    {body}", margin + tail]
    return [margin + head, *_folded_items(body, indent + 4), margin + tail]


def _folded_items(body: str, indent: int) -> list[str]:
    """The items between brackets, one a line."""
    return [line for part in _split(body.removesuffix(","), ",") for line in folded(f"{part},", indent)]


def _folded_def(text: str, indent: int) -> list[str]:
    """A function: its parameters on a line or one a line, then its result."""
    margin = " " * indent
    brackets = _def_brackets(text)
    assert brackets is not None  # it is one
    start, end = brackets
    head, body, tail = text[: start + 1], text[start + 1 : end], text[end:]
    inner = [f"{margin}    {body}"] if indent + 4 + len(body) <= WIDTH else _folded_items(body, indent + 4)
    if indent + len(tail) <= WIDTH:
        return [margin + head, *inner, margin + tail]
    result, colon, rest = tail.removeprefix(") -> ").rpartition(":")
    return [
        margin + head,
        *inner,
        f"{margin}) -> (",
        *_folded_union(_split(result, "|"), indent + 4),
        f"{margin}){colon}{rest}",
    ]


def _folded_union(operands: list[str], indent: int) -> list[str]:
    """`A | B` within parentheses: on one line, or an operand a line."""
    margin = " " * indent
    whole = " | ".join(operands)
    if indent + len(whole) <= WIDTH:
        return [margin + whole]
    first, *rest = operands
    return [*folded(first, indent), *(f"{margin}| {operand}" for operand in rest)]


def _def_brackets(text: str) -> tuple[int, int] | None:
    """The parentheses around the parameters."""
    start = text.index("(")
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[position], 0)
        if not depth:
            return start, position
    return None


def docstring(text: str, indent: int) -> list[str]:
    """A docstring, indented, as short as it can be written."""
    margin = " " * indent
    if not text:
        return []
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [line for part in escaped.split("\n") for line in _wrapped(part, WIDTH - indent - 6)]
    if lines[0].startswith('"'):
        lines[0] = " " + lines[0]
    if len(lines) == 1 and not lines[0].endswith('"') and indent + len(lines[0]) + 6 <= WIDTH:
        return [f'{margin}"""{lines[0]}"""']
    return [f'{margin}"""{lines[0]}', *(f"{margin}{line}" if line else "" for line in lines[1:]), f'{margin}"""']


def _wrapped(line: str, width: int) -> Iterator[str]:
    if len(line) <= width:
        yield line
        return
    margin = line[: len(line) - len(line.lstrip())][:40]
    wrapped = textwrap.wrap(
        line.strip(),
        max(40, width - len(margin)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for part in wrapped:
        yield margin + part


def with_remark(line: str, remark: str, indent: int) -> list[str]:
    """A line with a comment: behind it, or above it where it does not fit."""
    margin = " " * indent
    lines = folded(line, indent)
    if not remark:
        return lines
    if len(lines) == 1 and len(lines[0]) + len(remark) + 4 <= WIDTH:
        return [f"{lines[0]}  # {remark}"]
    comment = textwrap.wrap(remark, WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
    return [*(f"{margin}# {part}" for part in comment), *lines]


def literal(value: int | float | str | bytes, is_hexadecimal: bool) -> str:
    """A number or a text as the formatter writes it."""
    if isinstance(value, int) and is_hexadecimal:
        return f"{'-' if value < 0 else ''}0x{abs(value):X}"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bytes):
        text = repr(value)
        return f'b"{text[2:-1]}"' if text[1] == "'" and '"' not in text and "\\'" not in text else text
    return repr(value)


def quoted(text: str) -> str:
    """A string literal with the quotation marks that the formatter wants: double, unless single ones save escapes."""
    single = repr(text)
    if single[0] == '"' or '"' in text:
        return single
    inner = single[1:-1].replace("\\'", "'")
    return f'"{inner}"'
