# mypy: disable-error-code="empty-body"
"""What both checkers must refuse: each line marked E, and no other line.

The lines marked `runtime: TypeError` are run one by one: only the call finds the mistake, or finds it as well.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
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
    VarArg,
    Writable,
    char,
    cstr,
    f64,
    field,
    i32,
    long,
    u8,
    u32,
    ulong,
    usize,
)

libm = cg.load("m")
libc = cg.load("c")
libz = cg.load("z")
sqlite = cg.load("sqlite3")


class sqlite3(Opaque): ...


class sqlite3_stmt(Opaque): ...


@libm.function
def cos(x: f64) -> f64: ...


@libm.function
def modf(x: f64, integral: Out[f64]) -> f64: ...


@libc.function
def posix_memalign(memory: Out[Ptr[u8]], alignment: usize, size: usize) -> Status: ...


@libc.function
def calloc(count: usize, size: usize) -> Ptr[i32] | None: ...


@libc.function
def free(memory: Ptr[i32]) -> None: ...


@libc.function(required=False)
def labs(x: i32) -> i32: ...


@libc.function
def strlen(text: cstr) -> usize: ...


@libz.function
def compress(dest: Writable[u8], dest_length: Writable[ulong], source: Readable[u8], length: ulong) -> Status: ...


@libz.function
def adler32(adler: ulong, data: Readable[u8], length: ulong) -> ulong: ...


@sqlite.function
def sqlite3_open(path: cstr, connection: Out[Ptr[sqlite3]]) -> Status: ...


@sqlite.function
def sqlite3_close(connection: Ptr[sqlite3]) -> i32: ...


@sqlite.function
def sqlite3_step(statement: Ptr[sqlite3_stmt]) -> i32: ...


class in_addr(Struct):
    s_addr: u32


class ldiv_t(Struct):
    quot: long
    rem: long


class block(Struct):
    name: Array[char] = field(length=8)
    octets: Array[u8] = field(length=8)
    pairs: Array[ldiv_t] = field(length=2)


@libc.function
def inet_ntoa(address: in_addr) -> str: ...


@libc.function
def ldiv(dividend: long, divisor: long) -> ldiv_t: ...


@libc.function
def memset(memory: Ptr[ldiv_t], value: i32, size: usize) -> Ptr[ldiv_t]: ...


@libc.function
def qsort(base: Writable[i32], count: usize, size: usize, compare: Callable[[Ptr[i32], Ptr[i32]], i32]) -> None: ...


@libc.function(symbol="qsort")
def sort_with(base: Writable[i32], count: usize, size: usize, compare: Callback[[Ptr[i32], Ptr[i32]], i32]) -> None: ...


@libc.function
def snprintf(text: Writable[char], size: usize, format: cstr, *values: VarArg) -> i32: ...


@cg.callback
def compare_ints(a: Ptr[i32], b: Ptr[i32]) -> i32:
    return a[0] - b[0]


@cg.callback
def compare_reals(a: Ptr[f64], b: Ptr[f64]) -> i32:
    return a[0] > b[0]


class Math(Protocol):
    def hypot(self, x: f64, y: f64, /) -> f64: ...

    @cg.function
    def frexp(self, x: f64, exponent: Out[i32], /) -> f64: ...


maths = cg.load("m", Math)
dest = bytearray(64)
size = ctypes.c_ulong(64)
database = sqlite3_open(":memory:")
memory = calloc(1, 4)
assert memory is not None
thing = block()
numbers = array("i", [3, 1, 2])
ctypes_libm = ctypes.CDLL(None)

# -- arguments
cos("x")  # E  # runtime: TypeError
cos(None)  # E  # runtime: TypeError
cos()  # E  # runtime: TypeError
cos(1.0, 2.0)  # E  # runtime: TypeError
cos(y=1.0)  # E  # runtime: TypeError
modf(1.0, 2.0)  # E  # runtime: TypeError
strlen(5)  # E  # runtime: TypeError
strlen(bytearray(b"abc"))  # E  # runtime: TypeError
maths.hypot(1.0, "2")  # E  # runtime: TypeError
maths.hypot(x=1.0, y=2.0)  # E  # runtime: TypeError
maths.frexp(1.0, 2)  # E  # runtime: TypeError
posix_memalign(64, align=64)  # E  # runtime: TypeError
posix_memalign(64.0, 64)  # E  # runtime: TypeError

# -- buffers; no checker knows what the items are, nor that bytes are read-only
compress([1, 2, 3], size, b"", 0)  # E  # runtime: TypeError
compress(dest, 64, b"", 0)  # E  # runtime: TypeError
compress(dest, size, "text", 4)  # E  # runtime: TypeError
compress(dest, size, None, 0)  # E  # runtime: TypeError
compress(dest, size, ["a"], 0)  # E  # runtime: TypeError
compress(b"read-only", size, b"", 0)  # runtime: TypeError
compress(dest, bytearray(8), b"", 0)  # runtime: TypeError
adler32(1, (1, 2), 2)  # E  # runtime: TypeError
adler32(1, database, 2)  # E  # runtime: TypeError

# -- handles
sqlite3_close(None)  # E  # runtime: TypeError
sqlite3_close(0)  # E  # runtime: TypeError
sqlite3_close(memory)  # E  # runtime: TypeError
sqlite3_step(database)  # E  # runtime: TypeError
free(calloc(1, 4))  # E
memory[0] = "x"  # E  # runtime: TypeError
memory.contents.value  # E
memory["0"]  # E  # runtime: TypeError
labs(5)  # E

# -- results
text: str = cos(0.0)  # E
fraction: float = modf(1.0)  # E
whole: str = modf(1.0)[1]  # E
exponent: float = maths.frexp(8.0)  # E
connection: Ptr[sqlite3_stmt] = sqlite3_open(":memory:")  # E
cos(0.0).upper()  # E
len(modf(1.0)[0])  # E  # runtime: TypeError

# -- structs
inet_ntoa(1)  # E  # runtime: TypeError
inet_ntoa(None)  # E  # runtime: TypeError
inet_ntoa(ldiv(1, 1))  # E  # runtime: TypeError
inet_ntoa(memory)  # E  # runtime: TypeError
memset(thing.name, 0, 1)  # E  # runtime: TypeError
memset(memory, 0, 1)  # E  # runtime: TypeError
thing.nam  # E
thing.nam = b""  # E
thing.name.encode()  # E
thing.name = "text"  # E  # runtime: TypeError
thing.octets = 5  # E  # runtime: TypeError
thing.octets[0] = "x"  # E  # runtime: TypeError
thing.octets["0"]  # E  # runtime: TypeError
thing.pairs[0].quott  # E
thing.pairs[0].quot = "1"  # E  # runtime: TypeError
thing.pairs = (1, 2)  # E
ldiv(1, 1).quot.upper()  # E
remainder: str = ldiv(1, 1).rem  # E
memset(None, 0, 0).contents.quott  # E  # runtime: TypeError
field(bit=3)  # E  # runtime: TypeError

# -- functions that C calls
qsort(numbers, 3, 4, lambda a: 0)  # E
qsort(numbers, 3, 4, lambda a, b: "x")  # E
qsort(numbers, 3, 4, None)  # E  # runtime: TypeError
qsort(numbers, 3, 4, 5)  # E  # runtime: TypeError
qsort(numbers, 3, 4, strlen)  # E
qsort(numbers, 3, 4, compare_reals)  # E
sort_with(numbers, 3, 4, lambda a, b: 0)  # E  # runtime: TypeError
sort_with(numbers, 3, 4, compare_reals)  # E
compare_ints.closed  # E
compare_ints.close(5)  # E  # runtime: TypeError
cg.callback(5)  # E  # runtime: TypeError

# -- variable arguments
snprintf(dest, 64, "%p", object())  # E  # runtime: TypeError
snprintf(dest, 64, "%d", [1])  # E  # runtime: TypeError
snprintf(dest, 64, "%p", lambda: 0)  # E  # runtime: TypeError
snprintf(dest, 64)  # E  # runtime: TypeError
snprintf(dest, 64, "%d", value=1)  # E  # runtime: TypeError

# -- names and options
maths.hypott(1.0, 2.0)  # E
cg.load("m", Math, blocking=1.5)  # E
cg.load(5)  # E  # runtime: TypeError
cg.load("m", engine="jit")  # E
cg.load("m", Math, Math)  # E  # runtime: TypeError
libm.function(fails_if="never")  # E
libm.function(symbols="cos")  # E  # runtime: TypeError
libm.function(error=5)  # E
libm.function(error="first")  # E
cg.function(at="main")  # E
cg.gate(cos).adress  # E
cg.gate(cos).address = 0  # E
cg.gate("cos")  # E  # runtime: TypeError
cg.explain(5)  # E  # runtime: TypeError
cg.variable(libc, 5, i32)  # E  # runtime: TypeError
cg.variable(ctypes_libm, "opterr", i32)  # E  # runtime: TypeError
cg.variable(libc, "opterr", i32).value = "x"  # E  # runtime: TypeError
cg.variable(libc, "opterr", in_addr).value  # E
cg.accelerate("m")  # E  # runtime: TypeError
cg.accelerate(ctypes_libm, only=5)  # E  # runtime: TypeError
cg.accelerate(ctypes_libm, blocking="no")  # E
cg.accelerate(ctypes_libm).fasst  # E
cg.accelerate(ctypes_libm).fast = ()  # E
cg.accelerate(ctypes_libm).fast.append("cos")  # E
libc.function(free=5)  # E
libc.function(length=1.5)  # E
cg.errno(5)  # E  # runtime: TypeError
