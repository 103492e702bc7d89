"""Names of C as names of Python: keywords, prefixes, what Python would mangle, and what is taken already."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence

MODULE_RESERVED = frozenset(
    (
        *("cg", "lib", "annotations", "bytes", "cast", "ctypes"),
        *("IntEnum", "IntFlag", "Protocol", "TYPE_CHECKING", "NOT_BOUND"),
    )
)
"""Names of a generated module that mean something else there."""

FUNCTION_RESERVED = frozenset(("function", "bytes"))
"""`Library.function` declares functions; `bytes` is an annotation."""

MEMBER_RESERVED = frozenset(("_fields_", "_pack_", "_anonymous_", "_align_", "_layout_"))
ENUM_RESERVED = frozenset(("mro", "name", "value"))


def identifier(name: str, taken: Iterable[str] = (), reserved: frozenset[str] = frozenset()) -> str:
    """A Python identifier for a C name, none of `taken`.

    >>> identifier("lambda"), identifier("__data"), identifier("x", ["x"])
    ('lambda_', 'data', 'x_')
    """
    made = name.replace("$", "_")
    if made.startswith("__"):  # mangled in a class
        made = made.lstrip("_") or "_"
    if not made.isidentifier():
        made = f"_{made}"
    if keyword.iskeyword(made) or made in reserved:
        made += "_"
    while made in taken:
        made += "_"
    return made


def without_prefix(name: str, prefixes: Sequence[str]) -> str:
    """A name without the first of `prefixes` that leaves a usable one."""
    for prefix in prefixes:
        rest = name.removeprefix(prefix)
        if rest != name and rest.isidentifier() and not keyword.iskeyword(rest):
            return rest
    return name


def class_name(header: str) -> str:
    """The name of the Protocol for a header: `curl/curl.h` gives Curl.

    >>> class_name("SDL2/SDL.h"), class_name("my-lib.h")
    ('SDL', 'MyLib')
    """
    stem = header.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    words = "".join(character if character.isalnum() else " " for character in stem).split()
    made = "".join(word[:1].upper() + word[1:] for word in words)
    return made if made.isidentifier() else f"Lib{made}"
