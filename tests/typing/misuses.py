# mypy: disable-error-code="empty-body"
"""What both checkers must refuse: each line marked E, and no other line.

The lines marked `runtime: TypeError` are run one by one: only the call finds the mistake, or finds it as well.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import callgate as cg
from callgate import Opaque, Out, Ptr, Readable, Status, Writable, cstr, f64, i32, u8, ulong, usize

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

# -- names and options
maths.hypott(1.0, 2.0)  # E
cg.load("m", Math, blocking=1.5)  # E
cg.load(5)  # E  # runtime: TypeError
cg.load("m", engine="jit")  # E
cg.load("m", Math, Math)  # E  # runtime: TypeError
libm.function(fails_if="never")  # E
libm.function(symbols="cos")  # E  # runtime: TypeError
libm.function(error=5)  # E
cg.function(at="main")  # E
cg.gate(cos).adress  # E
cg.gate(cos).address = 0  # E
cg.gate("cos")  # E  # runtime: TypeError
cg.explain(5)  # E  # runtime: TypeError
