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
    Array,
    Callback,
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    Struct,
    Union,
    VarArg,
    Writable,
    bool_,
    char,
    cstr,
    f32,
    f64,
    field,
    i32,
    i64,
    int_,
    long,
    u8,
    u32,
    u64,
    uint,
    ulong,
    usize,
    wchar,
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


# -- structs: by pointer, by value, as results -------------------------------------------------------------------------
class tm(Struct):
    """A calendar time."""

    tm_sec: int_
    tm_min: int_
    tm_hour: int_
    tm_mday: int_
    tm_mon: int_
    tm_year: int_
    tm_wday: int_
    tm_yday: int_
    tm_isdst: int_
    tm_gmtoff: long
    tm_zone: Ptr[char]


class ldiv_t(Struct):
    """A quotient and a remainder."""

    quot: long
    rem: long


class in_addr(Struct):
    """An IPv4 address in network order."""

    s_addr: u32


class utsname(Struct):
    """What the system is called."""

    sysname: Array[char] = field(length=65)
    nodename: Array[char] = field(length=65)
    release: Array[char] = field(length=65)
    version: Array[char] = field(length=65)
    machine: Array[char] = field(length=65)
    domainname: Array[char] = field(length=65)


@libc.function(fails_if="null")
def gmtime(when: Readable[i64]) -> Ptr[tm]: ...


@libc.function
def timegm(when: Writable[tm]) -> i64: ...


@libc.function
def ldiv(dividend: long, divisor: long) -> ldiv_t: ...


@libc.function
def inet_ntoa(address: in_addr) -> str: ...


@libc.function(fails_if="minus_one")
def uname(name: Writable[utsname]) -> i32: ...


noon = tm(0, 0, 12, tm_mday=1, tm_year=70)
seconds: int = timegm(noon)
assert seconds == 43200 and noon.tm_wday == 4 and tm().tm_year == 0
noon.tm_mday += 31
assert timegm(ctypes.byref(noon)) == 32 * 86400 - 43200 and (noon.tm_mon, noon.tm_mday) == (1, 1)
then: Ptr[tm] = gmtime(ctypes.c_int64(86400 * 365))
year: int = then.contents.tm_year
assert (year, then[0].tm_mday, ctypes.sizeof(tm)) == (71, 1, 56)
then.contents.tm_year = 72
assert timegm(then) == 86400 * (365 + 365)
halves: ldiv_t = ldiv(-7, 2)
assert (halves.quot, halves.rem) == (-3, -1) and repr(halves) == "ldiv_t(quot=-3, rem=-1)"
assert inet_ntoa(in_addr(0x0100007F)) == "127.0.0.1"
system = utsname()
uname(system)
system_name: bytes = system.sysname
assert system_name == b"Linux" or system_name
system.nodename = b"here"
assert system.nodename == b"here"


class shape(Union):
    """Members that share their memory."""

    bits: u64
    real: f64
    octets: Array[u8] = field(length=8)


class header(Struct, pack=1):
    """Bit-fields, arrays, members of members."""

    kind: uint = field(bits=3)
    rest: uint = field(bits=29)
    label: Array[wchar] = field(length=4)
    body: shape
    points: Array[ldiv_t] = field(length=2)


block = header(kind=5)
block.rest = 7
block.label = "abcd"
block.body.real = 1.0
block.body.octets[0] = 1
block.points[1].quot = 9
block.points = (ldiv_t(1, 2), ldiv_t(3))
octets_of: list[int] = [*block.body.octets[:2]]
label: str = block.label
assert (block.kind, block.rest, label, octets_of) == (5, 7, "abcd", [1, 0])
assert block.body.bits == 0x3FF0000000000001 and len(block.points) == 2
assert [point.quot for point in block.points] == [1, 3] and ctypes.sizeof(header) == 4 + 16 + 8 + 32


# -- functions that C calls ---------------------------------------------------------------------------------------------
@libc.function
def qsort(base: Writable[i32], count: usize, size: usize, compare: Callable[[Ptr[i32], Ptr[i32]], i32]) -> None: ...


@libc.function(symbol="qsort")
def sort_names(
    base: Writable[char], count: usize, size: usize, compare: Callable[[Ptr[char], Ptr[char]], i32]
) -> None: ...


@libc.function
def strcmp(a: Ptr[char], b: Ptr[char]) -> i32: ...


@libc.function
def bsearch(
    key: Readable[i32], base: Readable[i32], count: usize, size: usize, compare: Callable[[Ptr[i32], Ptr[i32]], i32]
) -> Ptr[i32] | None: ...


numbers = array("i", [3, 1, 2])
qsort(numbers, len(numbers), numbers.itemsize, lambda a, b: a[0] - b[0])
assert numbers.tolist() == [1, 2, 3]
found = bsearch(ctypes.c_int(2), numbers, 3, 4, lambda a, b: a[0] - b[0])
assert found is not None and found[0] == 2
names = bytearray(b"c\0a\0b\0")
sort_names(names, 3, 2, strcmp)  # a gate: C calls C
assert names == b"a\0b\0c\0"


class sqlite3_context(Opaque):
    """Where an SQL function leaves its result."""


class sqlite3_value(Opaque):
    """An argument of an SQL function."""


SqlFunction = Callback[[Ptr[sqlite3_context], i32, Ptr[Ptr[sqlite3_value]]], None]


@sqlite.function(error=sqlite_error)
def sqlite3_create_function(
    connection: Ptr[sqlite3],
    name: cstr,
    count: i32,
    encoding: i32,
    data: Ptr[None] | None,
    function: SqlFunction | None,
    step: SqlFunction | None,
    final: Callback[[Ptr[sqlite3_context]], None] | None,
) -> Status: ...


@sqlite.function(blocking=False)
def sqlite3_value_int64(value: Ptr[sqlite3_value]) -> i64: ...


@sqlite.function(blocking=False)
def sqlite3_result_int64(context: Ptr[sqlite3_context], value: i64) -> None: ...


@cg.callback
def sql_sum(context: Ptr[sqlite3_context], count: i32, values: Ptr[Ptr[sqlite3_value]]) -> None:
    sqlite3_result_int64(context, sum(sqlite3_value_int64(values[index]) for index in range(count)))


@sqlite.function(symbol="sqlite3_exec", error=sqlite_error)
def for_each_row(
    connection: Ptr[sqlite3],
    sql: cstr,
    row: Callable[[Ptr[None] | None, i32, Ptr[bytes], Ptr[bytes]], i32] | None,
    data: Ptr[None] | None,
    message: Ptr[bytes] | None,
) -> Status: ...


database = sqlite3_open(":memory:")
sqlite3_create_function(database, "py_sum", -1, 1, None, sql_sum, None, None)
table: list[dict[bytes, bytes]] = []


def on_row(data: Ptr[None] | None, count: int, values: Ptr[bytes], columns: Ptr[bytes]) -> int:
    table.append({columns[index]: values[index] for index in range(count)})
    return 0


for_each_row(database, "select py_sum(1, 2, 3) as total, 'x' as x", on_row, None, None)
assert table == [{b"total": b"6", b"x": b"x"}]
sqlite3_close(database)
sql_sum.close()


@cg.callback
def difference(a: Ptr[i32], b: Ptr[i32]) -> i32:
    return a[0] - b[0]


@libc.function(symbol="qsort")
def sort_with(base: Writable[i32], count: usize, size: usize, compare: Callback[[Ptr[i32], Ptr[i32]], i32]) -> None: ...


numbers = array("i", [6, 4, 5])
sort_with(numbers, 3, 4, difference)
qsort(numbers, 3, 4, difference)
assert numbers.tolist() == [4, 5, 6]


# -- variable arguments, errno, ownership, variables ---------------------------------------------------------------------
@libc.function
def snprintf(text: Writable[char], size: usize, format: cstr, *values: VarArg) -> i32: ...


@libc.function
def sscanf(text: cstr, format: cstr, *places: VarArg) -> i32: ...


line = bytearray(64)
written: int = snprintf(line, len(line), "%d %s %.2f %lld", 5, "abc", 2.5, ctypes.c_longlong(1 << 40))
assert line[:written] == b"5 abc 2.50 1099511627776" and snprintf(None or line, 64, b"plain") == 5
assert snprintf(line, 64, "%p %s", difference, None) > 8 and line.startswith(b"0x")
scanned = ctypes.c_int()
assert sscanf("17 rest", "%d", ctypes.byref(scanned)) == 1 and scanned.value == 17


# -- results that are released, arrays of known length, errno -------------------------------------------------------------
@libc.function(fails_if="null", free="free")
def strdup(text: cstr) -> str: ...


@libc.function(fails_if="null", free=free)
def strndup(text: cstr, size: usize) -> bytes: ...


@libz.function(length=256)
def get_crc_table() -> Array[u32]: ...


@libc.function(symbol="memcpy", length="size")
def copied_to(dest: Writable[u8], source: Readable[u8], size: usize) -> Array[u8]: ...


text_copy: str = strdup("copied")
assert text_copy == "copied" and strndup("copied", 4) == b"copi"
second: int = get_crc_table()[1]
assert second == 0x77073096 and len(get_crc_table()) == 256 and max(get_crc_table()) > second
seven = (ctypes.c_uint8 * 8)()
assert bytes(copied_to(seven, b"seven", 5)) == b"seven"
try:
    close(-1)
except OSError as problem:
    last_errno: int = cg.errno()
    assert last_errno == problem.errno == errno.EBADF

# -- variables -----------------------------------------------------------------------------------------------------------
opterr = cg.variable(libc, "opterr", int_)
reports: int = opterr.value
opterr.value = 0
assert reports == 1 and cg.variable(libc, "opterr", ctypes.c_int).value == 0
environment: Ptr[bytes] = cg.variable(libc, "environ", Ptr[bytes])
assert b"=" in environment[0] or not environment[0]

# -- what ctypes has declared already ----------------------------------------------------------------------------------
ctypes_library = ctypes.CDLL(None if "cos" in cg.load(None) else "libm.so.6")
ctypes_library.cos.argtypes, ctypes_library.cos.restype = [ctypes.c_double], ctypes.c_double
ctypes_library.sin.restype = ctypes.c_double
unaccelerated = ctypes_library.cos
report: cg.Report = cg.accelerate(ctypes_library, blocking=False, skip=["tan"])
fast: tuple[str, ...] = report.fast
reasons: dict[str, str] = report.left
assert fast == ("cos",) and list(reasons) == ["sin"] and "argtypes" in reasons["sin"]
assert ctypes_library.cos(0.0) == 1.0 and cg.gate(ctypes_library.cos).name == "cos"
report.undo()
assert ctypes_library.cos is unaccelerated
assert not cg.accelerate(ctypes.PyDLL(None), only=("abs",)).fast and not cg.accelerate(zlib).fast

print("tasks done")
