"""The elements of tables, and ids of function types, as compiled code reads them."""

from __future__ import annotations

import ctypes
from itertools import count as counting
from typing import Any, Final

from callgate.wasm.native.words import Words, word_at
from callgate.wasm.store import Table, encode_reference
from callgate.wasm.types import FuncType

_TYPE_IDS: dict[FuncType, int] = {}
_IDS: Final = counting(1)


def type_id(signature: FuncType) -> int:
    """A number for a function type, the same in all modules of the process."""
    return _TYPE_IDS.get(signature) or _TYPE_IDS.setdefault(signature, next(_IDS))


class Elements:
    """The elements of a table as compiled code reads them."""

    def __init__(self, table: Table) -> None:
        self.places: list[int] = []  # in vmctx
        elements = [encode_reference(table.type.element, one, table.store) for one in table.elements]
        table.elements = []
        self.count = len(elements)
        self.words: Any = (Words * max(1, self.count))(*elements)
        self._former: list[Any] = []  # an instance that is being taken apart may still look there

    def tell(self, place: int) -> None:
        """Write where the elements are into an instance."""
        word_at(place).value = ctypes.addressof(self.words)
        word_at(place + 8).value = self.count

    def grow(self, more: int, word: int) -> None:
        """Append a word so many times."""
        before, count = self.count, self.count + more
        if count > len(self.words):
            self._former.append(self.words)
            words = (Words * max(count, 2 * before))()
            ctypes.memmove(words, self.words, 8 * before)
            self.words = words
        if word:
            self.words[before:count] = [word] * more
        self.count = count
        for place in self.places:
            self.tell(place)
