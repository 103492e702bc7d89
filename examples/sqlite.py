# mypy: disable-error-code="empty-body"
"""A small database module on SQLite's C interface: handles, callbacks in both directions, strings that must be freed.

Needs libsqlite3.  Run it: python examples/sqlite.py
"""

from collections.abc import Callable, Iterator
from ctypes import cast
from typing import Any, Protocol, TypeAlias

import callgate as cg
from callgate import Callback, Opaque, Out, Ptr, Readable, Status, VarArg, char, cstr, f64, i32, i64, u8


class sqlite3(Opaque): ...


class sqlite3_stmt(Opaque): ...


class sqlite3_context(Opaque): ...


class sqlite3_value(Opaque): ...


Db: TypeAlias = Ptr[sqlite3]
Statement: TypeAlias = Ptr[sqlite3_stmt]
Context: TypeAlias = Ptr[sqlite3_context]
Value: TypeAlias = Ptr[sqlite3_value]
# What sqlite3_exec calls for each row while it runs: any Python callable will do.
OnRow = Callable[[Ptr[None] | None, i32, Ptr[bytes], Ptr[bytes]], i32]
# What SQLite keeps, and calls whenever a query needs it: an object made by @cg.callback, which we keep alive.
Function = Callback[[Context, i32, Ptr[Value]], None]


class Sqlite(Protocol):
    def sqlite3_errmsg(self, db: Db, /) -> str: ...
    def sqlite3_errstr(self, code: i32, /) -> str: ...
    @cg.function
    def sqlite3_open(self, path: cstr, db: Out[Db], /) -> Status: ...
    def sqlite3_close(self, db: Db, /) -> Status: ...
    def sqlite3_exec(
        self, db: Db, sql: cstr, row: OnRow | None, user: Ptr[None] | None, message: Ptr[bytes] | None, /
    ) -> Status: ...

    @cg.function
    def sqlite3_prepare_v2(
        self, db: Db, sql: cstr, size: i32, made: Out[Statement], rest: Out[Ptr[u8]], /
    ) -> Status: ...
    @cg.function(blocking=True)  # a query may take long
    def sqlite3_step(self, statement: Statement, /) -> i32: ...
    def sqlite3_finalize(self, statement: Statement, /) -> i32: ...
    def sqlite3_bind_int64(self, statement: Statement, at: i32, value: i64, /) -> Status: ...
    def sqlite3_bind_double(self, statement: Statement, at: i32, value: f64, /) -> Status: ...
    def sqlite3_bind_text(
        self, s: Statement, at: i32, text: Readable[u8], size: i32, owner: Ptr[None], /
    ) -> Status: ...
    def sqlite3_column_count(self, statement: Statement, /) -> i32: ...
    def sqlite3_column_value(self, statement: Statement, at: i32, /) -> Value: ...

    def sqlite3_value_type(self, value: Value, /) -> i32: ...
    def sqlite3_value_int64(self, value: Value, /) -> i64: ...
    def sqlite3_value_double(self, value: Value, /) -> f64: ...
    def sqlite3_value_text(self, value: Value, /) -> Ptr[char]: ...
    def sqlite3_value_bytes(self, value: Value, /) -> i32: ...

    def sqlite3_create_function(
        self,
        db: Db,
        name: cstr,
        arguments: i32,
        encoding: i32,
        user: Ptr[None] | None,
        function: Function,
        step: Ptr[None] | None,
        final: Ptr[None] | None,
        /,
    ) -> Status: ...  # fmt: skip
    def sqlite3_result_double(self, context: Context, value: f64, /) -> None: ...
    def sqlite3_result_error(self, context: Context, message: cstr, size: i32, /) -> None: ...

    # These return memory that is ours: the text is copied, then given back with sqlite3_free.
    @cg.function(free="sqlite3_free")
    def sqlite3_mprintf(self, form: cstr, /, *values: VarArg) -> str: ...
    @cg.function(free="sqlite3_free")
    def sqlite3_expanded_sql(self, statement: Statement, /) -> str: ...


class SqliteError(Exception): ...


def failed(code: int) -> SqliteError:
    return SqliteError(s.sqlite3_errstr(code))


s = cg.load("sqlite3", Sqlite, error=failed)

UTF8, INTEGER, FLOAT, TEXT, ROW, DONE = 1, 1, 2, 3, 100, 101
COPY = cast(-1, Ptr[None])  # SQLITE_TRANSIENT, (void *)-1: SQLite makes a copy of its own


def as_python(value: Value) -> Any:
    """What a value of SQLite is in Python."""
    kind = s.sqlite3_value_type(value)
    if kind == INTEGER:
        return s.sqlite3_value_int64(value)
    if kind == FLOAT:
        return s.sqlite3_value_double(value)
    return s.sqlite3_value_text(value)[: s.sqlite3_value_bytes(value)].decode() if kind == TEXT else None


class Database:
    """A connection: `execute(sql, *values)` gives rows, `define(name, function)` teaches SQL a Python function."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = s.sqlite3_open(path)
        self._functions: list[object] = []  # SQLite knows only their addresses
        self._cause: Exception | None = None

    def close(self) -> None:
        s.sqlite3_close(self._db)

    def execute(self, sql: str, *values: int | float | str) -> Iterator[tuple[Any, ...]]:
        statement, _ = s.sqlite3_prepare_v2(self._db, sql, -1)
        try:
            for at, value in enumerate(values, 1):
                if isinstance(value, int):
                    s.sqlite3_bind_int64(statement, at, value)
                elif isinstance(value, float):
                    s.sqlite3_bind_double(statement, at, value)
                else:
                    text = value.encode()
                    s.sqlite3_bind_text(statement, at, text, len(text), COPY)
            columns = range(s.sqlite3_column_count(statement))
            while (status := s.sqlite3_step(statement)) == ROW:
                yield tuple(as_python(s.sqlite3_column_value(statement, at)) for at in columns)
            if status != DONE:
                cause, self._cause = self._cause, None
                raise SqliteError(f"{s.sqlite3_errmsg(self._db)} in: {s.sqlite3_expanded_sql(statement)}") from cause
        finally:
            s.sqlite3_finalize(statement)

    def each(self, sql: str, row: Callable[[dict[str, str]], object]) -> None:
        """Call `row` for every row, as text: SQLite calls Python here, and what `row` raises comes out of `each`."""

        def on_row(_: Ptr[None] | None, count: int, values: Ptr[bytes], names: Ptr[bytes]) -> int:
            row({names[i].decode(): values[i].decode() for i in range(count)})
            return 0

        s.sqlite3_exec(self._db, sql, on_row, None, None)

    def define(self, name: str, function: Callable[..., float]) -> None:
        """Make a Python function of numbers and texts known to SQL."""

        @cg.callback
        def called(context: Context, count: i32, values: Ptr[Value]) -> None:
            try:
                s.sqlite3_result_double(context, function(*(as_python(values[i]) for i in range(count))))
            except Exception as problem:
                self._cause = problem  # SQL sees an error, the caller of execute() the exception behind it
                s.sqlite3_result_error(context, f"{name}(): {problem}", -1)

        s.sqlite3_create_function(self._db, name, -1, UTF8, None, called, None, None)
        self._functions.append(called)


def main() -> None:
    db = Database()
    list(db.execute("create table planet (name text, moons int, radius real)"))
    for planet in (("Mars", 2, 3389.5), ("Jupiter", 95, 69911.0), ("Saturn", 146, 58232.0)):
        list(db.execute("insert into planet values (?, ?, ?)", *planet))

    # SQL calls Python.
    db.define("volume", lambda radius: 4 / 3 * 3.141592653589793 * radius**3)
    for name, moons, volume in db.execute("select name, moons, volume(radius) from planet order by 3"):
        print(f"{name:<8} {moons:>3} moons  {volume:.3g} km³")

    # An exception in Python becomes an error in SQL, and an exception in Python again.
    db.define("per_moon", lambda radius, moons: radius / moons)
    try:
        list(db.execute("select per_moon(radius, moons - 2) from planet where name = ?", "Mars"))
    except SqliteError as problem:
        print(f"SqliteError: {problem} (from {problem.__cause__!r})")

    # A plain callable for one call, and an exception that passes straight through C.
    db.each("select name, moons from planet where moons > 100", lambda row: print("many moons:", row))
    try:
        db.each("select '?' as moons from planet", lambda row: print(int(row["moons"])))
    except ValueError as problem:
        print("ValueError:", problem)

    # %Q quotes a text for SQL. The result is a Python str; the C string behind it is free again.
    print(s.sqlite3_mprintf("select %Q || %d", "it's ", 42))
    db.close()


if __name__ == "__main__":
    main()
