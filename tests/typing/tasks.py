# mypy: disable-error-code="empty-body"
"""What programs write with callgate, in every form of declaration: runs as it stands, and both checkers accept it.

The annotated names (`root: float = …`) hold the checkers to the result types; the asserts hold the program to them.
"""

from __future__ import annotations

import ctypes
import errno
import zlib
from array import array
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Protocol

import callgate as cg
from callgate import (
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    Writable,
    bool_,
    char,
    cstr,
    f32,
    f64,
    i32,
    i64,
    int_,
    long,
    u8,
    uint,
    ulong,
    usize,
)

# -- single functions: the math library ------------------------------------------------------------------------------
libm = cg.load("m")


@libm.function
def cos(x: f64) -> f64: ...


@libm.function
def sqrtf(x: f32) -> f32: ...


@libm.function
def modf(x: f64, integral: Out[f64]) -> f64: ...


@libm.function
def remquo(x: f64, y: f64, quotient: Out[int_]) -> f64: ...


one: float = cos(0)
assert one == 1.0 and cos(x=0.0) == 1.0 and sqrtf(9) == 3.0
fraction, whole = modf(-3.25)
both: tuple[float, float] = modf(0.5)
assert (fraction, whole) == (-0.25, -3.0) and both == (0.5, 0.0)
remainder: tuple[float, int] = remquo(7.0, 2.0)
assert remainder == (-1.0, 4)


# -- buffers, and a status that becomes the program's own exception ---------------------------------------------------
class ZError(Exception):
    """A status of zlib."""


libz = cg.load("z", error=ZError)


@libz.function
def compressBound(length: ulong) -> ulong: ...


@libz.function
def compress(dest: Writable[u8], dest_length: Writable[ulong], source: Readable[u8], length: ulong) -> Status: ...


@libz.function(error=lambda status: ZError(f"inflating: {status}"))
def uncompress(dest: Writable[u8], dest_length: Writable[ulong], source: Readable[u8], length: ulong) -> Status: ...


@libz.function
def zlibVersion() -> str: ...


text = b"to and fro " * 50
packed = bytearray(compressBound(len(text)))
packed_length = ctypes.c_ulong(len(packed))
compress(packed, packed_length, text, len(text))
del packed[packed_length.value :]
unpacked = array("B", bytes(len(text)))
uncompress(unpacked, ctypes.byref(ctypes.c_ulong(len(text))), memoryview(packed), length=len(packed))
assert unpacked.tobytes() == text == zlib.decompress(packed)
compress(bytearray(64), ctypes.c_ulong(64), [1, 2, 3], 3)  # a list is copied where C only reads
try:
    uncompress(bytearray(3), ctypes.c_ulong(3), packed, len(packed))
except ZError as problem:
    assert problem.args == ("inflating: -5",)
else:
    raise AssertionError("3 bytes hold no 550")
version: str = zlibVersion()
assert version[0] == "1"


# -- handles: a database ----------------------------------------------------------------------------------------------
class sqlite3(Opaque):
    """A connection."""


class sqlite3_stmt(Opaque):
    """A prepared statement."""


class SqliteError(Exception):
    """A status of SQLite."""


class Step(IntEnum):
    """What sqlite3_step found."""

    ROW = 100
    DONE = 101


def sqlite_error(status: int) -> SqliteError:
    return SqliteError(sqlite3_errstr(status))


sqlite = cg.load("sqlite3", blocking=True)


@sqlite.function(blocking=False)
def sqlite3_errstr(status: i32) -> str: ...


@sqlite.function(error=sqlite_error)
def sqlite3_open(path: cstr, connection: Out[Ptr[sqlite3]]) -> Status: ...


@sqlite.function(error=sqlite_error, symbol="sqlite3_prepare_v2")
def prepare(
    connection: Ptr[sqlite3], sql: cstr, size: i32, statement: Out[Ptr[sqlite3_stmt]], rest: Out[Ptr[char]]
) -> Status: ...


@sqlite.function(error=sqlite_error)
def sqlite3_exec(
    connection: Ptr[sqlite3], sql: cstr, row: Ptr[None] | None, data: Ptr[None] | None, message: Ptr[bytes] | None
) -> Status: ...


@sqlite.function
def sqlite3_step(statement: Ptr[sqlite3_stmt]) -> Step: ...


@sqlite.function
def sqlite3_column_int64(statement: Ptr[sqlite3_stmt], column: i32) -> i64: ...


@sqlite.function
def sqlite3_column_text(statement: Ptr[sqlite3_stmt], column: i32) -> str | None: ...


@sqlite.function
def sqlite3_complete(sql: cstr) -> bool_: ...


@sqlite.function(error=sqlite_error)
def sqlite3_finalize(statement: Ptr[sqlite3_stmt]) -> Status: ...


@sqlite.function(error=sqlite_error)
def sqlite3_close(connection: Ptr[sqlite3]) -> Status: ...


database: Ptr[sqlite3] = sqlite3_open(":memory:")
assert database
sqlite3_exec(database, "create table pair (a, b); insert into pair values (1, 'x'), (2, null)", None, None, None)
statement, rest = prepare(database, b"select a, b from pair order by a; tail", -1)
assert rest[0] == b" "
rows: list[tuple[int, str | None]] = []
while sqlite3_step(statement) is Step.ROW:
    rows.append((sqlite3_column_int64(statement, 0), sqlite3_column_text(statement, 1)))
assert rows == [(1, "x"), (2, None)]
sqlite3_finalize(statement)
complete: bool = sqlite3_complete("select 1;")
assert complete is True
try:
    sqlite3_exec(database, "selec", None, None, None)
except SqliteError as problem:
    assert str(problem) == "SQL logic error"
else:
    raise AssertionError("that is no SQL")
sqlite3_close(database)


# -- a typed interface --------------------------------------------------------------------------------------------------
class Math(Protocol):
    """A part of the math library."""

    def hypot(self, x: f64, y: f64, /) -> f64:
        """The length of (x, y)."""
        ...

    def ldexp(self, x: f64, exponent: int_) -> f64: ...

    @cg.function
    def frexp(self, x: f64, exponent: Out[int_], /) -> f64: ...

    @cg.function(symbol="lgamma_r")
    def log_gamma(self, x: f64, sign: Out[int_]) -> f64: ...


maths = cg.load(("no-such-library", "m"), Math)
length: float = maths.hypot(3, 4)
parts: tuple[float, int] = maths.frexp(8.0)
assert (length, parts) == (5.0, (0.5, 4)) and maths.ldexp(0.5, exponent=4) == 8.0
assert maths.log_gamma(-0.5)[1] == -1
squared: list[float] = [maths.ldexp(x, 1) for x in (1.0, 2.0)]
assert squared == [2.0, 4.0]


class Memory(Protocol):
    """Functions whose Out parameter comes first."""

    @cg.function
    def posix_memalign(self, memory: Out[Ptr[None]], alignment: usize, size: usize) -> Status: ...

    def free(self, memory: Ptr[None] | None, /) -> None: ...


allocator = cg.load("c", Memory)
aligned: Ptr[None] = allocator.posix_memalign(alignment=64, size=100)
assert aligned.value and aligned.value % 64 == 0
allocator.free(aligned)


# -- C text, and a Protocol that types it ------------------------------------------------------------------------------
CHECKSUMS = """
    #define Z_BEST 9
    unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len);
    unsigned long adler32(unsigned long adler, const unsigned char *buf, unsigned int len);
"""


class Checksums(Protocol):
    """The checksums of zlib."""

    def crc32(self, crc: ulong, buf: Readable[u8] | None, len: uint, /) -> ulong: ...

    def adler32(self, adler: ulong, buf: Readable[u8] | None, len: uint, /) -> ulong: ...


checksums = cg.load("z", CHECKSUMS, Checksums)
checked: int = checksums.crc32(0, b"hello", 5)
assert checked == zlib.crc32(b"hello") and checksums.adler32(0, None, 0) == 1
untyped = cg.load("z", CHECKSUMS)
assert untyped.crc32(0, bytearray(b"hello"), 5) == untyped["crc32"](0, [104, 101, 108, 108, 111], 5) == checked
assert untyped.Z_BEST == 9 and "adler32" in untyped and "adler33" not in untyped

# -- failures: errno, NULL, a predicate -------------------------------------------------------------------------------
libc = cg.load("c")


@libc.function(fails_if="minus_one")
def close(descriptor: i32) -> i32: ...


@libc.function(fails_if="null")
def realpath(path: cstr, resolved: Writable[char] | None) -> str: ...


@libc.function(fails_if=lambda count: count > 3, error=lambda count: OverflowError(count))
def strlen(text: cstr) -> usize: ...


try:
    close(-1)
except OSError as problem:
    assert problem.errno == errno.EBADF
else:
    raise AssertionError("-1 is no descriptor")
buffer = ctypes.create_string_buffer(4097)
assert realpath("/", buffer) == "/" == buffer.value.decode()
try:
    realpath("/no/such/file", buffer)
except FileNotFoundError as problem:
    assert problem.strerror
else:
    raise AssertionError("no such file")
assert strlen("abc") == 3
try:
    strlen("abcd")
except OverflowError as problem:
    assert problem.args == (4,)
else:
    raise AssertionError("4 is more than 3")


class Access(IntFlag):
    """What access() asks for."""

    EXISTS = 0
    EXECUTE = 1
    READ = 4


@libc.function(fails_if="minus_one")
def access(path: cstr, mode: Access) -> i32: ...


assert access("/", Access.READ | Access.EXECUTE) == 0


@libc.function(required=False)
def no_such_function(x: i32) -> i32: ...


@libc.function(required=False)
def labs(x: long) -> long: ...


assert no_such_function is None
assert labs is not None
assert labs(-5) == 5


# -- an address, and the record of a gate -----------------------------------------------------------------------------
@cg.function(at=cg.gate(cos).address)
def cosine(x: f64, /) -> f64: ...


@cg.function(at=cg.gate(modf).address, engine="ctypes")
def split(x: f64, integral: Out[f64]) -> f64: ...


applied: list[float] = [*map(cosine, [0.0, 0.0])]
assert applied == [1.0, 1.0] and split(2.5) == (0.5, 2.0)


def twice(function: Callable[[float], float], x: float) -> float:
    return function(function(x))


assert twice(sqrtf, 16.0) == 2.0 and twice(cosine, 0.0) == cos(1.0)

record: cg.Gate = cg.gate(cosine)
assert record.name == "cosine" and record.address == cg.gate(cos).address and record.library is None
assert record.engine in ("native", "ctypes") and cg.gate(split).engine == "ctypes"
assert (record.code_bytes > 0) is (record.code_address > 0) is bool(record.listing) is (record.engine == "native")
assert str(record.plan) in record.explain() and record.signature.result
assert "double x" in cg.explain(cosine) and "call" in cg.explain("int abs(int n);", target="x86_64-linux")

ctypes_cos = ctypes.CDLL(None if "cos" in cg.load(None) else "libm.so.6").cos
ctypes_cos.argtypes, ctypes_cos.restype = [ctypes.c_double], ctypes.c_double
assert cg.gate_from(ctypes_cos)(0.0) == 1.0


@libc.function
def posix_memalign(memory: Out[Ptr[u8]], alignment: usize, size: usize) -> Status: ...


# -- memory that C owns -----------------------------------------------------------------------------------------------
class div_t(ctypes.Structure):
    """What ctypes calls a structure does for callgate."""

    _fields_ = [("quot", ctypes.c_int), ("rem", ctypes.c_int)]  # noqa: RUF012  # as ctypes documents it

    quot: int
    rem: int


@libc.function
def calloc(count: usize, size: usize) -> Ptr[None] | None: ...


@libc.function
def memcpy(dest: Writable[None], source: Readable[None], size: usize) -> Ptr[None]: ...


@libc.function
def free(memory: Ptr[None]) -> None: ...


memory = calloc(4, 4)
assert memory is not None
assert memory and isinstance(memory.value, int)
ints = ctypes.cast(memory, Ptr[i32])
ints[1] = 7
memcpy(ints, array("i", [5]), 4)
memcpy(memory, ctypes.byref(ctypes.c_int(6)), 4)
first: int = ints[0]
assert (first, ints[1], ints[:4]) == (6, 7, [6, 7, 0, 0])
quotient = ctypes.cast(memory, Ptr[div_t])
assert (quotient.contents.quot, quotient[0].rem) == (6, 7)
free(memory)
octets: Ptr[u8] = posix_memalign(size=16, alignment=32)
memcpy(octets, b"seven", 5)
assert bytes(octets[:5]) == b"seven"
free(ctypes.cast(octets, Ptr[None]))

print("tasks done")
