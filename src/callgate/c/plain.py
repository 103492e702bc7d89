"""Plain prototypes, read without a parser: most C text is `double hypot(double x, double y);` and its like.

`read_plain` takes nothing but prototypes of known type words, `const` before them, stars, and names.  Whatever else
stands in a text, a mistake included, leaves all of it to `declarations`, whose reading of the same text is the same
(the tests compare them) and whose errors have a place.  So this is no second grammar with a life of its own, only the
way past a parser that takes longer to import than a program's first hundred calls take to bind.
"""

from __future__ import annotations

import re

from callgate.c.known_names import (
    IGNORED_WITH_PARENTHESES,
    IGNORED_WORDS,
    QUALIFIERS,
    REPLACED_WORDS,
    SPECIFIERS,
    STATEMENT_KEYWORDS,
    STORAGE,
    TYPE_KEYWORDS,
)
from callgate.c.passing import CannotBind, parameter_of, python_name, result_of
from callgate.c.types import CType, FunctionType, Parameter, Pointer, Void

_TOKENS = re.compile(r"[A-Za-z_]\w*|[*(),;]|[^ \t\n]")
_INTEGERS = ("", "short", "unsigned short", "unsigned", "long", "unsigned long", "long long", "unsigned long long")
_SPELLINGS: dict[tuple[str, ...], CType] = {
    **{words: ctype for words, ctype in SPECIFIERS.items() if words},
    **{tuple(sorted(["int", *words.split()])): SPECIFIERS[tuple(sorted(words.split()))] for words in _INTEGERS},
}
_TYPE_WORDS = frozenset(word for words in _SPELLINGS for word in words)
_NO_NAMES = (
    TYPE_KEYWORDS
    | QUALIFIERS
    | STORAGE
    | STATEMENT_KEYWORDS
    | IGNORED_WORDS
    | IGNORED_WITH_PARENTHESES
    | REPLACED_WORDS.keys()
)
_MOST_STARS = 4


class _NotPlain(Exception):
    """The text is for the full reader."""


def read_plain(text: str, known: dict[str, CType]) -> dict[str, FunctionType] | None:
    """The functions of a text of plain prototypes, or None where it is not that.

    `known` are the type names that need no typedef.  The last `;` may be missing only before nothing but space.
    """
    tokens = _TOKENS.findall(text)
    functions: dict[str, FunctionType] = {}
    position = 0
    try:
        while position < len(tokens):
            function, position = _prototype(tokens, position, known)
            if function.name in functions:
                return None
            functions[function.name] = function
    except (_NotPlain, CannotBind, IndexError):
        return None
    return functions or None


def _prototype(tokens: list[str], position: int, known: dict[str, CType]) -> tuple[FunctionType, int]:
    ctype, position = _type(tokens, position, known)
    name = _name(tokens[position], known)
    if tokens[position + 1] != "(":
        raise _NotPlain
    position += 2
    parameters: list[Parameter] = []
    if tokens[position] == "void" and tokens[position + 1] == ")":
        position += 1
    elif tokens[position] != ")":
        while True:
            parameter, position = _parameter(tokens, position, known)
            parameters.append(parameter)
            if tokens[position] != ",":
                break
            position += 1
    if tokens[position] != ")" or tokens[position + 1] != ";":
        raise _NotPlain
    names = [parameter.name for parameter in parameters]
    is_named = all(names) and len(set(names)) == len(names)
    return (
        FunctionType(name, tuple(parameters), result_of(ctype), False, 0 if is_named else len(names)),
        position + 2,
    )


def _parameter(tokens: list[str], position: int, known: dict[str, CType]) -> tuple[Parameter, int]:
    ctype, position = _type(tokens, position, known)
    if isinstance(ctype, Void):
        raise _NotPlain
    name = ""
    if tokens[position] not in (",", ")"):
        name = python_name(_name(tokens[position], known))
        position += 1
    return parameter_of(name, ctype), position


def _type(tokens: list[str], position: int, known: dict[str, CType]) -> tuple[CType, int]:
    """`const`? type words `*`*: const belongs to what is pointed to, and means nothing on a value."""
    is_const = tokens[position] == "const"
    first = position = position + is_const
    while tokens[position] in _TYPE_WORDS:
        position += 1
    ctype: CType | None
    if position == first:
        ctype = known.get(tokens[position])
        position += 1
    else:
        ctype = _SPELLINGS.get(tuple(sorted(tokens[first:position])))
    if ctype is None or (is_const and isinstance(ctype, Pointer)):
        raise _NotPlain
    stars = 0
    while tokens[position] == "*":
        ctype = Pointer(ctype, is_const)
        is_const = False
        position += 1
        stars += 1
    if stars > _MOST_STARS:
        raise _NotPlain
    return ctype, position


def _name(token: str, known: dict[str, CType]) -> str:
    if not (token[0].isalpha() or token[0] == "_") or token in known or token in _NO_NAMES or token.startswith("__"):
        raise _NotPlain
    return token
