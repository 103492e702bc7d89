"""The types of WebAssembly: values, functions, tables, memories, globals.  Nothing is decoded or checked here.

A value type is the byte that the binary format gives it (core specification 2.0, 5.3), a plain int: bodies are checked
by comparing millions of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

I32: Final = 0x7F
I64: Final = 0x7E
F32: Final = 0x7D
F64: Final = 0x7C
V128: Final = 0x7B
FUNCREF: Final = 0x70
EXTERNREF: Final = 0x6F

VALUE_TYPES: Final = {
    **{"i32": I32, "i64": I64, "f32": F32, "f64": F64},
    **{"v128": V128, "funcref": FUNCREF, "externref": EXTERNREF},
}
NAMES: Final = {value: name for name, value in VALUE_TYPES.items()}
REFERENCES: Final = (FUNCREF, EXTERNREF)

PAGE_BYTES: Final = 1 << 16
MOST_PAGES: Final = 1 << 16


def spell(types: tuple[int, ...]) -> str:
    """`(i32, f64)`."""
    return f"({', '.join(NAMES[one] for one in types)})"


class FuncType(NamedTuple):
    """A function's parameters and results."""

    parameters: tuple[int, ...]
    results: tuple[int, ...]

    def __str__(self) -> str:
        return f"{spell(self.parameters)} -> {spell(self.results)}"

    def __repr__(self) -> str:
        return f"<{self}>"


class Limits(NamedTuple):
    """How small a memory (in pages of 64 KiB) or a table (in elements) may be and how large (None: as large as any)."""

    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}" if self.maximum is not None else f"{self.minimum} and more"

    def admits(self, minimum: int, maximum: int | None) -> bool:
        """Whether what has these bounds now may be imported under this type (core specification, 4.5.2)."""
        if minimum < self.minimum:
            return False
        return self.maximum is None or (maximum is not None and maximum <= self.maximum)


class TableType(NamedTuple):
    """A table of references."""

    element: int
    limits: Limits

    def __str__(self) -> str:
        return f"table of {NAMES[self.element]}, {self.limits} elements"

    def __repr__(self) -> str:
        return f"<{self}>"


class MemoryType(NamedTuple):
    """A linear memory."""

    limits: Limits

    def __str__(self) -> str:
        return f"memory of {self.limits} pages"

    def __repr__(self) -> str:
        return f"<{self}>"


class GlobalType(NamedTuple):
    """A global variable."""

    value: int
    is_mutable: bool

    def __str__(self) -> str:
        return f"{'mutable' if self.is_mutable else 'constant'} global of {NAMES[self.value]}"

    def __repr__(self) -> str:
        return f"<{self}>"


ExternType = FuncType | TableType | MemoryType | GlobalType
"""The type of an import or an export."""
