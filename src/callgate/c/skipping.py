"""Which words of C text to skip: the walk over declarations that prepares a text for a parser of plain C.

It finds the words no C parser knows (export macros, prototype macros, trailing attributes) and the mistakes that
deserve a plain sentence (a missing semicolon, an unknown type name).  What goes is blanked in place, so positions
stay true.  Nothing here knows what a type means: `declarations`.  Long because it is a grammar, one method a rule.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from callgate.c.known_names import (
    ATTRIBUTES_OF_THE_CALL,
    IGNORED_WITH_PARENTHESES,
    IGNORED_WORDS,
    KNOWN_MACROS,
    QUALIFIERS,
    REPLACED_WORDS,
    STATEMENT_KEYWORDS,
    STORAGE,
    TYPE_KEYWORDS,
)
from callgate.c.record_attributes import LayoutAttribute, is_layout_word, layout_attributes
from callgate.c.source import Comment, Macro, Source, Token, blank_comments, blank_directives, tokenize

DEEPEST_NESTING = 50
"""Brackets inside brackets; C promises 63 for declarators (C11 5.2.4.1), and the parser behind is recursive."""


class Cleaned(NamedTuple):
    """What a parser needs: `text` has the length and the lines of the source.

    `words` are the identifiers left in it, `declared` the typedef names it declares, `starts` the offsets where
    its external declarations begin, `attributes` those skipped words that change a call, `layouts` those that change
    a struct; `is_empty` where nothing was declared at all.
    """

    text: str
    words: frozenset[str]
    declared: frozenset[str]
    starts: tuple[int, ...]
    attributes: tuple[Token, ...]
    layouts: tuple[LayoutAttribute, ...]
    macros: dict[str, Macro]
    comments: tuple[Comment, ...]
    is_empty: bool


def clean(source: Source, known: frozenset[str]) -> Cleaned:
    """Blank all that a parser of plain C declarations does not understand; `known` are the type names to expect."""
    uncommented, comments = blank_comments(source)
    undirected, macros = blank_directives(source, uncommented)
    walk = _Walk(source, tokenize(source, undirected), known, macros)
    walk.translation_unit()
    words = {token.text for token in walk.tokens if token.kind == "word"}
    numbers = {name: macro for name, macro in macros.items() if macro.body}
    layouts = layout_attributes(source.text, walk.layout_words)
    expressions = [*(macro.body for macro in numbers.values()), *(attribute.argument for attribute in layouts)]
    words.update(word for expression in expressions for word in re.findall(r"[A-Za-z_]\w*", expression))
    return Cleaned(
        walk.edited(undirected),
        frozenset(words),
        frozenset(walk.declared),
        tuple(walk.starts),
        tuple(walk.attributes),
        layouts,
        numbers,
        comments,
        is_empty=not (walk.starts or walk.has_skipped or numbers),
    )


_CAPITALS = re.compile(r"_*[A-Z][A-Z0-9_]*")
_LAYOUT_MACRO = re.compile(r"_*(?:[A-Z0-9]+_+)*(?:PACK|PACKED|ALIGN|ALIGNED)[0-9]*(?:_[A-Z0-9_]*)?")
_CLOSER = {"(": ")", "[": "]", "{": "}"}
_DECLARATION_WORDS = TYPE_KEYWORDS | QUALIFIERS | STORAGE


def _is_macro_name(word: str) -> bool:
    return _CAPITALS.fullmatch(word) is not None or word in KNOWN_MACROS


def _is_layout_macro(word: str) -> bool:
    """`__packed` and `__aligned(8)`, as the BSDs and Linux have them."""
    return word.startswith("__") and is_layout_word(word)


class _Walk:
    """One pass over the tokens of a translation unit (C11 6.9), remembering what to blank.

    Methods named after grammar rules take the index of their first token and return the index after their last.
    """

    def __init__(self, source: Source, tokens: list[Token], known: frozenset[str], macros: dict[str, Macro]) -> None:
        self.source = source
        self.macros = macros
        self.known = known
        self.types = set(known)
        self.declared: set[str] = set()
        self.starts: list[int] = []
        self.attributes: list[Token] = []
        self.layout_words: list[tuple[int, str]] = []
        self.has_skipped = False
        self.open_records = 0  # the structs and unions whose members are being read
        self.edits: list[tuple[int, int, str]] = []
        self.tokens = self._drop(tokens)
        self.match = self._match_brackets()

    def edited(self, text: str) -> str:
        characters = list(re.sub(r"[\r\f\v\ufeff]", " ", text))
        for start, end, replacement in self.edits:
            for position in range(start, end):
                if characters[position] != "\n":
                    characters[position] = " "
            characters[start : start + len(replacement)] = replacement
        return "".join(characters)

    # tokens

    def _word(self, i: int) -> str:
        """The word at `i`, or "" where there is none."""
        token = self.tokens[min(i, len(self.tokens) - 1)]
        return token.text if token.kind == "word" else ""

    def _text(self, i: int) -> str:
        return self.tokens[min(i, len(self.tokens) - 1)].text

    def _hide(self, first: int, last: int) -> None:
        self.edits.append((self.tokens[first].start, self.tokens[last].end, ""))

    def _hide_macro(self, first: int, last: int) -> None:
        """Hide a macro; in a struct it may change the layout, and then its name must say how."""
        if self.open_records:
            self._check_layout(first)
        self._hide(first, last)

    def _check_layout(self, i: int) -> None:
        """Refuse a macro that packs or aligns, by its name: the layout would be wrong without it."""
        word = self._word(i)
        if _LAYOUT_MACRO.fullmatch(word):
            self._fail(
                f"what '{word}' does to the layout is not known: write __attribute__((packed)) or"
                " __attribute__((aligned(n))) in its place",
                i,
            )

    def _fail(self, message: str, i: int) -> NoReturn:
        raise self.source.error(message, self.tokens[i].start)

    def _missing(self, mark: str, i: int) -> NoReturn:
        """Something must stand before token `i`: point behind the one before it."""
        before = self.tokens[i - 1]
        raise self.source.error(f"'{mark}' is missing after '{before.text}'", before.end)

    # words that go at once

    def _drop(self, tokens: list[Token]) -> list[Token]:
        kept: list[Token] = []
        braces_to_drop: set[int] = set()
        i = 0
        while i < len(tokens):
            token, text = tokens[i], tokens[i].text
            after = i + 1
            if i in braces_to_drop:
                pass
            elif text == "[" and tokens[after].text == "[" and tokens[after].start == token.end:
                after = self._group_end(tokens, i)  # C23 attributes: [[nodiscard]]
            elif text == "extern" and tokens[after].kind == "string":
                if tokens[after].text != '"C"':
                    raise self.source.error(f"the linkage {tokens[after].text} is not C", tokens[after].start)
                if tokens[i + 2].text == "{":
                    braces_to_drop.add(self._group_end(tokens, i + 2) - 1)
                    after = i + 3
                else:
                    kept.append(token)
                    i, after = i + 1, i + 2
            elif token.kind != "word":
                kept.append(token)
                i = after
                continue
            elif text in REPLACED_WORDS:
                self.edits.append((token.start, token.end, REPLACED_WORDS[text]))
                kept.append(Token("word", REPLACED_WORDS[text], token.start))
                i = after
                continue
            elif text in IGNORED_WITH_PARENTHESES or text.startswith("__attr") or _is_layout_macro(text):
                if tokens[after].text == "(" and text != "__packed":
                    after = self._group_end(tokens, after)
                self.attributes += [t for t in tokens[i:after] if t.text.strip("_") in ATTRIBUTES_OF_THE_CALL]
                self.layout_words += [(t.start, t.text) for t in tokens[i:after] if t.kind == "word"]
            elif text not in IGNORED_WORDS and (text not in self.macros or self.macros[text].body):
                kept.append(token)
                i = after
                continue
            self.edits.append((tokens[i].start, tokens[after - 1].end, ""))
            i = after
        return kept

    def _group_end(self, tokens: list[Token], opener: int) -> int:
        opens = tokens[opener].text
        depth = 0
        for i in range(opener, len(tokens)):
            depth += (tokens[i].text == opens) - (tokens[i].text == _CLOSER[opens])
            if depth == 0:
                return i + 1
        raise self.source.error(f"'{opens}' is never closed", tokens[opener].start)

    def _match_brackets(self) -> dict[int, int]:
        """The closer of every opener; statements in a function's body may hold ';' inside parentheses."""
        match: dict[int, int] = {}
        stack: list[int] = []
        body = None
        for i, token in enumerate(self.tokens):
            if token.text in _CLOSER and token.kind == "punctuation":
                if body is None and token.text == "{" and self._is_body(i):
                    body = i
                stack.append(i)
                if len(stack) > DEEPEST_NESTING:
                    self._fail(f"nested more than {DEEPEST_NESTING} deep", i)
            elif token.text in (")", "]", "}") and token.kind == "punctuation":
                if not stack:
                    self._fail(f"'{token.text}' closes nothing", i)
                opener = stack.pop()
                if _CLOSER[self._text(opener)] != token.text:
                    self._fail(f"'{self._text(opener)}' is never closed", opener)
                match[opener] = i
                if opener == body:
                    body = None
            elif token.text == ";" and body is None and stack and self._text(stack[-1]) != "{":
                self._fail(f"'{self._text(stack[-1])}' is never closed", stack[-1])
        if stack:
            self._fail(f"'{self._text(stack[-1])}' is never closed", stack[-1])
        return match

    def _is_body(self, i: int) -> bool:
        """Does the '{' at `i` open a function's body?  (Trailing macros may stand before it.)"""
        while i > 0 and self._word(i - 1) and self._word(i - 1) not in _DECLARATION_WORDS:
            i -= 1
        return i > 0 and self._text(i - 1) == ")"

    # declarations

    def translation_unit(self) -> None:
        i = 0
        while self.tokens[i].kind != "end":
            i = self._external_declaration(i)

    def _external_declaration(self, start: int) -> int:
        if self._text(start) == ";":
            self._hide(start, start)
            return start + 1
        if self._word(start) in ("_Static_assert", "static_assert"):
            end = self._declaration_end(start)
            self._hide(start, end)
            return end + 1
        if self._is_skipped(start):
            end = self._declaration_end(start)
            end = self.match.get(end, end)
            self._hide(start, end)
            self.has_skipped = True
            return end + 1
        self.starts.append(self.tokens[start].start)
        i, is_typedef = self._specifiers(start, is_parameter=False)
        while self._text(i) != ";":
            i, name = self._declarator(i, is_parameter=False)
            i = self._trailing_words(i)
            if self._text(i) == "=":
                i = self._initializer_end(i)
            if self._text(i) == "{":
                if not name:
                    self._fail("'{' is not expected here", i)
                self._hide(i, self.match[i])
                self.edits.append((self.tokens[i].start, self.tokens[i].start, ";"))
                return self.match[i] + 1
            if is_typedef and name:
                self.types.add(name)
                self.declared.add(name)
            if self._text(i) == ",":
                i += 1
            elif self._text(i) != ";":
                self._separator_missing(";", i)
        return i + 1

    def _declaration_end(self, i: int) -> int:
        """The ';' that ends a declaration, or the '{' of its body."""
        while self._text(i) != ";":
            if self.tokens[i].kind == "end" or self._text(i) == "}":
                self._missing(";", i)
            if i in self.match:
                if self._text(i) == "{" and self._is_body(i):
                    return i
                i = self.match[i]
            i += 1
        return i

    def _is_skipped(self, i: int) -> bool:
        """A static function has no symbol; what else is static is nobody's business outside the file."""
        while self._word(i) and self._word(i) != "typedef":
            if self._word(i) == "static":
                return True
            i += 1
        return False

    def _initializer_end(self, i: int) -> int:
        while self.tokens[i].kind != "end" and self._text(i) not in (",", ";"):
            i = self.match.get(i, i) + 1
        return i

    def _trailing_words(self, i: int) -> int:
        """Blank attributes-by-macro between a declarator and its ';': `SDL_PRINTF_VARARG_FUNC(2)`, `__foo`."""
        while self._word(i) and self._word(i) not in _DECLARATION_WORDS and self._word(i) not in self.types:
            if not (_is_macro_name(self._word(i)) or self._word(i).startswith("__")):
                break
            last = self.match[i + 1] if self._text(i + 1) == "(" else i
            if self._text(last + 1) not in (";", ",", ")", "{") and not self._word(last + 1):
                break
            if last > i and self._word(last + 1) and not _is_macro_name(self._word(last + 1)):
                break  # a prototype of its own: the ';' before it is what is missing
            self._hide_macro(i, last)
            i = last + 1
        return i

    def _separator_missing(self, mark: str, i: int) -> NoReturn:
        token = self.tokens[i]
        if token.kind in ("word", "end") or token.text in ("{", "}"):
            last = i  # what was blanked in between is not what misses it
            while any(start <= self.tokens[last - 1].start < end for start, end, _ in self.edits):
                last -= 1
            self._missing(mark, last)
        self._fail(f"'{token.text}' is not expected here: '{mark}' may be missing before it", i)

    def _specifiers(self, start: int, is_parameter: bool) -> tuple[int, bool]:
        """declaration-specifiers (C11 6.7): returns the index after them and whether there is a typedef."""
        i = start
        is_typed = is_typedef = False
        macros: list[int] = []
        while word := self._word(i):
            if word in ("struct", "union", "enum"):
                i, is_typed = self._tagged(i, is_parameter), True
                continue
            if word == "_Atomic" and self._text(i + 1) == "(":
                i, is_typed = self.match[i + 1] + 1, True
                continue
            if word in TYPE_KEYWORDS:
                is_typed = True
            elif word in QUALIFIERS or word in STORAGE:
                is_typedef |= word == "typedef"
            elif word in STATEMENT_KEYWORDS:
                self._fail(f"'{word}' is not expected in a declaration", i)
            elif word in self.types and not is_typed:
                if is_typedef and macros and self._text(i + 1) == ";":
                    self._unknown_type(macros[-1], is_parameter)
                is_typed = True
            elif self._has_type_ahead(i):
                if is_typed and not _is_macro_name(word):
                    self._missing("," if is_parameter else ";", i + 1)
                if not _is_macro_name(word):
                    self._unknown_type(i, is_parameter)
                macros.append(i)
            elif is_typed:
                break
            else:
                self._unknown_type(i, is_parameter)
            i += 1
        if not is_typed:
            self._no_type(start, i, is_parameter)
        for macro in macros:
            self._hide_macro(macro, macro)
        return i, is_typedef

    def _has_type_ahead(self, i: int) -> bool:
        """Does a later word of this run of words name a type?"""
        i += 1
        while word := self._word(i):
            if word in TYPE_KEYWORDS or word in self.types:
                return True
            i += 1
        return False

    def _tagged(self, i: int, is_parameter: bool) -> int:
        """struct-or-union-specifier, enum-specifier (C11 6.7.2.1, 6.7.2.2)."""
        is_enum = self._word(i) == "enum"
        i += 1
        while self._word(i) and self._word(i + 1) and self._text(i + 2) == "{" and _is_macro_name(self._word(i)):
            self._check_layout(i)
            self._hide(i, i)
            i += 1
        if self._text(i + 1) == "{":
            self._check_layout(i)
        has_tag = bool(self._word(i)) and self._word(i) not in _DECLARATION_WORDS
        i += has_tag
        if self._text(i) != "{":
            if not has_tag:
                self._fail("a tag or '{' is expected after 'struct', 'union' or 'enum'", i)
            return i
        end = self.match[i]
        if not is_enum:
            self.open_records += 1
            self._members(i + 1, end)
            self.open_records -= 1
        self._check_layout(end + 1)
        following = self._word(end + 1)
        if following in TYPE_KEYWORDS or following in STORAGE or (following in self.known and self._word(end + 2)):
            self._missing("," if is_parameter else ";", end + 1)
        return end + 1

    def _members(self, i: int, end: int) -> None:
        while i < end:
            if self._text(i) == ";":
                i += 1
                continue
            if self._word(i) in ("_Static_assert", "static_assert"):
                last = self._declaration_end(i)
                self._hide(i, last)
                i = last + 1
                continue
            i, _ = self._specifiers(i, is_parameter=False)
            while self._text(i) != ";":
                i, _ = self._declarator(i, is_parameter=False)
                i = self._trailing_words(i)
                if self._text(i) == ":":
                    i = self._initializer_end(i)
                if self._text(i) == ",":
                    i += 1
                elif self._text(i) != ";":
                    self._separator_missing(";", i)
            i += 1

    def _declarator(self, i: int, is_parameter: bool) -> tuple[int, str]:
        """declarator or abstract-declarator (C11 6.7.6, 6.7.7): returns the index after it and the name or ""."""
        name = ""
        while not name:
            if self._text(i) == "*" or self._word(i) in QUALIFIERS:
                i += 1
            elif self._word(i) in TYPE_KEYWORDS or self._word(i) in STORAGE:
                break
            elif self._word(i):
                i, name = self._name(i, is_parameter)
            elif self._text(i) == "(" and self._is_nested(i + 1):
                end = self.match[i]
                i, name = self._declarator(i + 1, is_parameter)
                if i != end:
                    self._separator_missing(")", i)
                i += 1
                break
            else:
                break
        while self._text(i) in ("(", "[") or self._is_prototype_macro(i):
            if self._word(i):
                last = self.match[i + 1]
                self._hide(i, i + 1)
                self._hide(last, last)
                self._parameters(i + 2)
                i = last + 1
                continue
            if self._text(i) == "(":
                self._parameters(i)
            i = self.match[i] + 1
        return i, name

    def _is_nested(self, i: int) -> bool:
        """After '(': a declarator, rather than a parameter list?"""
        word = self._word(i)
        if not word:
            return self._text(i) in ("*", "(", "[")
        return word not in _DECLARATION_WORDS and word not in self.types and not self._has_type_ahead(i)

    def _is_prototype_macro(self, i: int) -> bool:
        """`OF((int a))`, `__P((void))`: a word with doubled parentheses."""
        if not self._word(i) or self._text(i + 1) != "(" or self._text(i + 2) != "(":
            return False
        return self.match[i + 2] + 1 == self.match[i + 1]

    def _name(self, start: int, is_parameter: bool) -> tuple[int, str]:
        """The declared name among the words at `start`, the macros around it blanked."""
        words = [start]
        while self._word(words[-1] + 1) and not self._is_prototype_macro(words[-1] + 1):
            if self._word(words[-1] + 1) in TYPE_KEYWORDS or self._word(words[-1] + 1) in STORAGE:
                self._missing("," if is_parameter else ";", words[-1] + 1)
            words.append(words[-1] + 1)
        after = words[-1] + 1
        ordinary = [i for i in words if not _is_macro_name(self._word(i)) and self._word(i) not in QUALIFIERS]
        if self._text(after) == "*" or (self._text(after) == "(" and self._text(after + 1) == "*"):
            if ordinary:
                self._fail(f"'{self._word(ordinary[0])}' is not known here: not a type, a qualifier or a macro", start)
            for i in words:
                if self._word(i) not in QUALIFIERS:
                    self._hide_macro(i, i)
            return after, ""
        if len(ordinary) > 1:
            if self._word(ordinary[1]) in self.types:
                self._missing("," if is_parameter else ";", ordinary[1])
            self._fail(
                f"'{self._word(ordinary[0])}' is not known here: not a type, a qualifier or a macro", ordinary[0]
            )
        name = ordinary[0] if ordinary else words[-1]
        if name != words[-1] and self._text(after) == "(" and not is_parameter:
            if self.open_records:
                self._check_layout(words[-1])
            self._missing(";", name + 1)
        for i in words:
            if i != name and self._word(i) not in QUALIFIERS:
                self._hide_macro(i, i)
        if self._word(name) in STATEMENT_KEYWORDS:
            self._fail(f"'{self._word(name)}' is a keyword, not a name", name)
        return after, self._word(name)

    def _parameters(self, opener: int) -> None:
        """parameter-type-list (C11 6.7.6.3) between the '(' at `opener` and its ')'."""
        end = self.match[opener]
        i = opener + 1
        while i < end:
            if self._text(i) == "...":
                i += 1
            elif self._text(i) in (",", ")"):
                self._fail("a parameter is missing here", i)
            else:
                i, _ = self._specifiers(i, is_parameter=True)
                i, _ = self._declarator(i, is_parameter=True)
                i = self._trailing_words(i)
            if i < end and self._text(i) != ",":
                self._separator_missing(",", i)
            i += 1
            if i == end:
                self._fail("a parameter is missing here", i)

    # mistakes

    def _no_type(self, start: int, i: int, is_parameter: bool) -> NoReturn:
        token = self.tokens[i]
        if i == start:
            what = f"'{token.text}'" if token.text else "the end of the text"
            self._fail(
                f"a {'parameter' if is_parameter else 'declaration'} must begin with its type, not with {what}", i
            )
        self._fail(f"a type is missing after '{self._text(i - 1)}': C has no implicit int", start)

    def _unknown_type(self, start: int, is_parameter: bool) -> NoReturn:
        """No word of the run at `start` is a type: find the one that should be."""
        words = []
        i = start
        while self._word(i) and (i == start or not self._is_prototype_macro(i)):
            if self._word(i) not in QUALIFIERS:
                words.append(i)
            i += 1
        after = self._text(i)
        declares = after != "*" and not (after == "(" and self._is_nested(i + 1) and self._text(i + 1) == "*")
        if declares and len(words) == 1:
            self._nameless(words[0], after, is_parameter)
        candidates = words[:-1] if declares else words
        if len(words) > 1 and self._has_type_ahead(start):
            candidates = words[:1]
        unlikely = [i for i in candidates if self._word(i) not in KNOWN_MACROS]
        blamed = (unlikely or candidates)[-1]
        word = self._word(blamed)
        if word in self.macros:
            self._fail(f"unknown type name '{word}': it is a #define, but not of a number; write a typedef", blamed)
        hint = f"typedef struct {word} {word};" if after == "*" else f"typedef int {word};"
        self._fail(f"unknown type name '{word}': declare it first, for instance '{hint}'", blamed)

    def _nameless(self, i: int, after: str, is_parameter: bool) -> NoReturn:
        """One word where a type and a name should be."""
        word = self._word(i)
        if is_parameter:
            if word.islower() and after in (",", ")"):
                hint = f"if it is a parameter's name (K&R style), write its type too: 'int {word}'"
            else:
                hint = f"declare it first, for instance 'typedef int {word};'"
            self._fail(f"unknown type name '{word}': {hint}", i)
        if after == "(" and (_is_macro_name(word) or word.startswith("__")):
            self._fail(
                f"'{word}(...)' looks like a macro, which only a preprocessor expands: paste the prototype itself"
                " (gcc -E prints it)",
                i,
            )
        if after == "(":
            self._fail(f"'{word}' has no result type: C has no implicit int; write 'int {word}(...)' or 'void'", i)
        self._fail(f"'{word}' is not a type: a declaration looks like 'double cos(double x);'", i)
