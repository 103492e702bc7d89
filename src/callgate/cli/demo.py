"""`callgate demo`: real libraries of this system, called. What is printed as source is what has just been run."""

from __future__ import annotations

import argparse
import platform
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate import __version__
from callgate.cli import bench
from callgate.cli.rows import ROWS
from callgate.cli.terminal import heading
from callgate.errors import LibraryNotFoundError
from callgate.library import gate, load

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_WIDTH = 100
_ASKED = 43
"""The columns of what is evaluated, before its value."""


class _Part(NamedTuple):
    """One library: the declarations, shown and run, and the expressions, each shown with its value or exception."""

    title: str
    library: str
    declarations: str
    expressions: tuple[str, ...]


_LIBM = _Part(
    "libm: a Bessel function, which Python's math module lacks",
    "m",
    'm = cg.load("m", "double j0(double x);")',
    ("m.j0(0)", "m.j0(2.404825557695773)"),
)

_LIBC = _Part(
    "libc: numbers, strings, a buffer to fill, errno",
    "c",
    '''
    c = cg.load("c", """
        int abs(int n);
        int getpid(void);
        int gethostname(char *name, size_t size);
        unsigned long strtoul(const char *s, char **end, int base);
    """)
    @c.function
    def strerror(code: i32) -> str: ...
    @c.function(fails_if="minus_one")
    def access(path: cstr, mode: i32) -> i32: ...
    ''',
    (
        "c.getpid()",
        'c.strtoul("0xC0FFEE", None, 16)',
        "c.gethostname(name := bytearray(64), 64)",
        'name.partition(b"\\0")[0].decode()',
        "strerror(2)",
        'access("/", 0)',
        'access("/no/such/file", 0)',
    ),
)

_ZLIB = _Part(
    "zlib: buffers without copies, and a status that becomes an exception",
    "z",
    """
    class ZlibError(Exception): ...
    class Zlib(Protocol):
        def zError(self, code: i32, /) -> str: ...
        def crc32(self, crc: ulong, data: Readable[u8], size: uint, /) -> ulong: ...
        def compressBound(self, size: ulong, /) -> ulong: ...
        def compress(self, to: Writable[u8], to_size: Writable[ulong],
                     data: Readable[u8], size: ulong, /) -> Status: ...
        def uncompress(self, to: Writable[u8], to_size: Writable[ulong],
                       data: Readable[u8], size: ulong, /) -> Status: ...

    z = cg.load("z", Zlib, error=lambda code: ZlibError(z.zError(code)))
    text = b"the quick brown fox jumps over the lazy dog, " * 100
    small, back = bytearray(z.compressBound(len(text))), bytearray(len(text))
    n, k = c_ulong(len(small)), c_ulong(len(back))
    """,
    (
        "hex(z.crc32(0, text, len(text)))",
        "z.compress(small, n, text, len(text))",
        "len(text), n.value",
        "z.uncompress(back, k, small, n.value)",
        "back == text",
        "z.uncompress(bytearray(9), c_ulong(9), small, n.value)",
    ),
)

_SQLITE = _Part(
    "sqlite3: handles, results through pointers, error messages of the library",
    "sqlite3",
    """
    class sqlite3(Opaque): ...
    class sqlite3_stmt(Opaque): ...
    class SqliteError(Exception): ...
    class Sqlite(Protocol):
        def sqlite3_errmsg(self, db: Ptr[sqlite3], /) -> str: ...
        @cg.function
        def sqlite3_open(self, path: cstr, db: Out[Ptr[sqlite3]], /) -> Status: ...
        @cg.function
        def sqlite3_prepare_v2(self, db: Ptr[sqlite3], sql: cstr, size: i32, stmt: Out[Ptr[sqlite3_stmt]],
                               rest: Out[Ptr[u8]], /) -> Status: ...
        def sqlite3_step(self, stmt: Ptr[sqlite3_stmt], /) -> i32: ...
        def sqlite3_column_int(self, stmt: Ptr[sqlite3_stmt], column: i32, /) -> i32: ...
        def sqlite3_column_text(self, stmt: Ptr[sqlite3_stmt], column: i32, /) -> str: ...
        def sqlite3_finalize(self, stmt: Ptr[sqlite3_stmt], /) -> i32: ...
        def sqlite3_close(self, db: Ptr[sqlite3], /) -> i32: ...

    s = cg.load("sqlite3", Sqlite, error=lambda code: SqliteError(s.sqlite3_errmsg(db)))
    def run(sql):
        statement, _ = s.sqlite3_prepare_v2(db, sql, -1)
        while s.sqlite3_step(statement) == 100:  # SQLITE_ROW
            yield s.sqlite3_column_int(statement, 0), s.sqlite3_column_text(statement, 1)
        s.sqlite3_finalize(statement)

    db = s.sqlite3_open(":memory:")
    for sql in ("create table planet (moons int, name text)",
                "insert into planet values (2, 'Mars'), (95, 'Jupiter'), (146, 'Saturn')"):
        list(run(sql))
    """,
    (
        'list(run("select * from planets"))',
        'rows := list(run("select * from planet"))',
        "s.sqlite3_close(db)",
    ),
)

_ERRORS = _Part(
    "Mistakes: never a wrong number, never a crash",
    "",
    "",
    (
        "c.abs(2**31)",
        'c.abs("7")',
        "c.abs(7.0)",
        "c.abs()",
        'm.j0("0")',
        "c.getpidd()",
        'cg.load("m", "duble j1(double x);")',
    ),
)


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="call libm, libc, zlib and sqlite3, see errors, machine code and costs",
        description="Call real libraries of this system through gates: libm, libc, zlib and sqlite3 where they are "
        "found. Shows the declarations, the results, some errors, the machine code of one gate and what calls cost.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> None:
    """Print the demonstration."""
    print(heading(f"callgate {__version__}, {platform.python_implementation()} {platform.python_version()}"))
    scope = _names()
    for part in (_LIBM, _LIBC, _ZLIB, _SQLITE):
        if _can_load(part):
            _show(part, scope)
            if part is _LIBM:
                print("\n" + "\n".join(_plotted(scope["m"].j0)))
            elif part is _SQLITE:
                print("\n" + "\n".join(_planets(scope["rows"])))
    _show(_ERRORS, scope)
    _title("The machine code of j0's gate, up to the call (callgate explain 'double j0(double x)' has all)")
    print(textwrap.indent(_fast_path(scope["m"].j0), "  "))
    _title("What a call costs here (callgate bench measures longer)")
    report = bench.measure(list(ROWS), is_quick=True, has_binding=False)
    print(textwrap.indent("\n".join(bench.table(report)), "  "))


def _names() -> dict[str, Any]:
    """What the parts' source may use."""
    scope: dict[str, Any] = {"__name__": "demo"}
    imports = """
        import callgate as cg
        from callgate import Opaque, Out, Ptr, Readable, Status, Writable, cstr, i32, u8, uint, ulong
        from ctypes import c_ulong
        from typing import Protocol
    """
    _execute(imports, scope)
    return scope


def _execute(source: str, scope: dict[str, Any]) -> None:
    exec(compile(textwrap.dedent(source), "<demo>", "exec", dont_inherit=True), scope)


def _title(text: str) -> None:
    print(f"\n{heading(text)}")


def _can_load(part: _Part) -> bool:
    try:
        load(part.library)
    except LibraryNotFoundError:
        _title(part.title)
        print(f"  lib{part.library} is not on this system, so this part is left out.")
        return False
    return True


def _show(part: _Part, scope: dict[str, Any]) -> None:
    _title(part.title)
    source = textwrap.dedent(part.declarations).strip()
    if source:
        print(textwrap.indent(source, "  "))
        _execute(source, scope)
        print()
    for expression in part.expressions:
        value = _evaluated(expression, scope)
        if len(expression) < _ASKED and 2 + _ASKED + len(value) <= _WIDTH:
            print(f"  {expression:<{_ASKED}}{value}")
        else:
            print(f"  {expression}")
            print(textwrap.fill(value, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8))


def _evaluated(expression: str, scope: dict[str, Any]) -> str:
    """The value of an expression as the interactive interpreter shows it; for an exception its first line."""
    try:
        return repr(eval(f"({expression})", scope))
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}".splitlines()[0]


def _plotted(function: Any, last: float = 30.0, columns: int = 80) -> list[str]:
    """The graph of a function from 0 to `last`; its values lie in -0.4 … 1, a line is 0.2."""
    heights = [round(5 * function(last * column / (columns - 1))) for column in range(columns)]
    lines = []
    for height in range(5, -3, -1):
        marks = "".join("●" if height == one else " " if height else "─" for one in heights)
        lines.append(f"  {height / 5:4.1f} ┤{marks.rstrip()}")
    return lines


def _planets(rows: list[tuple[int, str]]) -> list[str]:
    return ["  planet   moons", "  ───────  ─────", *(f"  {name:<7}  {moons:>5}" for moons, name in rows)]


def _fast_path(function: Any) -> str:
    """A gate's listing up to the call of C, or what there is instead."""
    record = gate(function)
    if record.engine != "native":
        return f"{record.engine} engine: there is no machine code here"
    lines = record.listing.splitlines()
    last = next((number for number, line in enumerate(lines) if "call C" in line), len(lines) - 1)
    return "\n".join([*lines[: last + 1], f"  … {len(lines) - last - 1} more lines, {record.code_bytes} bytes in all"])
