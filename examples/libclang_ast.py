# mypy: disable-error-code="empty-body"
"""List the functions of a C file with libclang: cursors and types are structs passed and returned by value.

Needs libclang: `pip install libclang`, or Debian's libclang1.  Run it: python examples/libclang_ast.py [file.c]
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import callgate as cg
from callgate import Array, Opaque, Out, Ptr, Readable, Struct, cstr, field, i32, uint, ulong

PROGRAM = """
typedef struct { double x, y; } point;
enum color { RED, GREEN = 3 };
static double dot(point a, point b) { return a.x * b.x + a.y * b.y; }
point *nearest(const point *points, unsigned long count, point to, double *distance);
int printf(const char *format, ...);
int main(void) { point p = {3, 4}; printf("%g", dot(p, p)); return 0; }
"""


class Index(Opaque): ...


class TranslationUnit(Opaque): ...


class UnsavedFile(Struct):
    name: cstr
    contents: cstr
    length: ulong


class String(Struct):  # 16 bytes: comes back in two registers
    data: Ptr[None]
    flags: uint


class Cursor(Struct):  # 32 bytes: travels through memory
    kind: i32
    xdata: i32
    data: Array[Ptr[None]] = field(length=3)


class Type(Struct):  # 24 bytes: memory as well
    kind: i32
    data: Array[Ptr[None]] = field(length=2)


class Location(Struct):
    data: Array[Ptr[None]] = field(length=2)
    offset: uint


STRUCT, ENUM, FUNCTION = 2, 5, 8  # kinds of cursors
BREAK, CONTINUE, RECURSE = range(3)  # what a visitor returns


class Clang(Protocol):
    @cg.function(fails_if="null", free="clang_disposeIndex")
    def clang_createIndex(self, excludes_headers: i32, shows_diagnostics: i32, /) -> Ptr[Index]: ...
    @cg.function(fails_if="null", free="clang_disposeTranslationUnit", blocking=True)
    def clang_parseTranslationUnit(
        self,
        index: Ptr[Index],
        file: cstr,
        arguments: Ptr[bytes] | None,
        argument_count: i32,
        unsaved: Readable[UnsavedFile],
        unsaved_count: uint,
        options: uint,
        /,
    ) -> Ptr[TranslationUnit]: ...  # fmt: skip
    def clang_getTranslationUnitCursor(self, unit: Ptr[TranslationUnit], /) -> Cursor: ...

    # The visitor is called during the call, so any Python callable will do; it gets structs by value.
    def clang_visitChildren(
        self, parent: Cursor, visitor: Callable[[Cursor, Cursor, Ptr[None] | None], i32], data: Ptr[None] | None, /
    ) -> uint: ...
    def clang_getCursorKind(self, cursor: Cursor, /) -> i32: ...
    def clang_getCursorSpelling(self, cursor: Cursor, /) -> String: ...
    def clang_getCursorType(self, cursor: Cursor, /) -> Type: ...
    def clang_getCursorResultType(self, cursor: Cursor, /) -> Type: ...
    def clang_getTypeSpelling(self, type: Type, /) -> String: ...
    def clang_Type_getSizeOf(self, type: Type, /) -> cg.longlong: ...
    def clang_Cursor_getNumArguments(self, cursor: Cursor, /) -> i32: ...
    def clang_Cursor_getArgument(self, cursor: Cursor, at: uint, /) -> Cursor: ...
    def clang_isCursorDefinition(self, cursor: Cursor, /) -> uint: ...
    def clang_getCursorLocation(self, cursor: Cursor, /) -> Location: ...
    @cg.function
    def clang_getFileLocation(
        self, location: Location, file: Out[Ptr[None]], line: Out[uint], column: Out[uint], offset: Out[uint], /
    ) -> None: ...
    def clang_getCString(self, string: String, /) -> str: ...
    def clang_disposeString(self, string: String, /) -> None: ...


def _candidates() -> list[str]:
    """The library inside the package `libclang`, if it is installed, then the system's."""
    package = importlib.util.find_spec("clang")
    folders = (package.submodule_search_locations or []) if package else []
    found = [str(Path(folder, "native", "libclang.so")) for folder in folders]
    return [*found, "clang", *(f"libclang-{version}.so.1" for version in range(21, 13, -1)), "libclang-14.so.13"]


clang = cg.load([name for name in _candidates() if not name.startswith("/") or Path(name).exists()], Clang)


def text(string: String) -> str:
    """The text of a CXString, which has to be given back."""
    copied = clang.clang_getCString(string)
    clang.clang_disposeString(string)
    return copied


def children(parent: Cursor) -> list[Cursor]:
    found: list[Cursor] = []

    def visit(cursor: Cursor, _: Cursor, data: Ptr[None] | None) -> int:
        found.append(cursor)
        return CONTINUE

    clang.clang_visitChildren(parent, visit, None)
    return found


def signature(function: Cursor) -> str:
    """A function's declaration, put together from cursors and types."""
    count = clang.clang_Cursor_getNumArguments(function)
    arguments = [clang.clang_Cursor_getArgument(function, at) for at in range(count)]
    listed = [
        f"{text(clang.clang_getTypeSpelling(clang.clang_getCursorType(a)))} {text(clang.clang_getCursorSpelling(a))}"
        for a in arguments
    ]
    result = text(clang.clang_getTypeSpelling(clang.clang_getCursorResultType(function)))
    return f"{result} {text(clang.clang_getCursorSpelling(function))}({', '.join(listed)})"


def main(name: str, program: bytes) -> None:
    index = clang.clang_createIndex(0, 1)
    unsaved = UnsavedFile(name.encode(), program, len(program))
    unit = clang.clang_parseTranslationUnit(index, name, None, 0, unsaved, 1, 0)
    for cursor in children(clang.clang_getTranslationUnitCursor(unit)):
        kind = clang.clang_getCursorKind(cursor)
        _, line, _, _ = clang.clang_getFileLocation(clang.clang_getCursorLocation(cursor))
        if kind == FUNCTION:
            what = "defines " if clang.clang_isCursorDefinition(cursor) else "declares"
            print(f"{line:4} {what} {signature(cursor)}")
        elif kind == STRUCT:
            size = clang.clang_Type_getSizeOf(clang.clang_getCursorType(cursor))
            members = ", ".join(text(clang.clang_getCursorSpelling(member)) for member in children(cursor))
            print(f"{line:4} struct of {size} bytes: {members}")
        elif kind == ENUM:
            print(f"{line:4} enum: {', '.join(text(clang.clang_getCursorSpelling(one)) for one in children(cursor))}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], Path(sys.argv[1]).read_bytes())
    else:
        main("program.c", PROGRAM.encode())
