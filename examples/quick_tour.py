# mypy: disable-error-code="empty-body"
"""A tour of callgate in one script: the ways to declare a C function, and what declarations can say.

Needs libm, libc and zlib. Run it: python examples/quick_tour.py
"""

import ctypes
from array import array
from typing import Protocol

import callgate as cg
from callgate import Opaque, Out, Ptr, Readable, Status, Writable, cstr, f64, i32, u8, uint, ulong


# 1. A typed interface: the form for programs and packages. Type checkers know `m.hypot` and the result of `m.modf`.
class LibM(Protocol):
    def hypot(self, x: f64, y: f64) -> f64:
        "Length of the vector (x, y)."

    @cg.function
    def modf(self, x: f64, whole: Out[f64], /) -> f64: ...  # the Out parameter is not passed: it is returned


m = cg.load("m", LibM)
assert m.hypot(3, 4) == m.hypot(x=3.0, y=4.0) == 5.0  # names work, because the declaration gives them without "/"
assert m.modf(2.5) == (0.5, 2.0)

# 2. Single functions, for scripts. `fails_if` says which results are errors; they become OSError with errno.
libc = cg.load("c")


@libc.function(fails_if="minus_one")
def access(path: cstr, mode: i32) -> i32: ...


assert access("/", 0) == 0
try:
    access("/no/such/file", 0)
except FileNotFoundError as problem:
    print("access:", problem)

# 3. C text, as the header has it. Buffers pass without copies: bytes, bytearray, array, NumPy arrays.
z = cg.load("z", "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len);")
assert z.crc32(0, b"hello", 5) == z.crc32(0, bytearray(b"hello"), 5) == 0x3610A686

# 4. What ctypes has declared already.
labs = ctypes.CDLL(None).labs
labs.argtypes, labs.restype = [ctypes.c_long], ctypes.c_long
assert cg.gate_from(labs)(-7) == 7

# 5. An address, from wherever it comes.
absolute = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value


@cg.function(at=absolute)
def distance(n: i32) -> i32: ...


assert distance(-3) == 3


# A Status is judged and dropped: here non-zero raises what `error` makes of it. Readable and Writable are the caller's.
class ZlibError(Exception): ...


class Zlib(Protocol):
    def crc32(self, crc: ulong, buf: Readable[u8], size: uint, /) -> ulong: ...
    def compress(self, to: Writable[u8], to_size: Writable[ulong], source: Readable[u8], size: ulong, /) -> Status: ...


zlib = cg.load("z", Zlib, error=lambda code: ZlibError(f"zlib status {code}"))
packed, size = bytearray(100), ctypes.c_ulong(100)
zlib.compress(packed, size, b"hello " * 100, 600)
assert size.value < 30
try:
    zlib.compress(bytearray(3), ctypes.c_ulong(3), b"hello", 5)
except ZlibError as problem:
    print("compress:", problem)
assert zlib.crc32(0, array("B", b"hello"), 5) == 0x3610A686


# Handles are pointers to what only C knows; `X | None` is a pointer that may be NULL.
class FILE(Opaque): ...


@libc.function(fails_if="null")
def fopen(path: cstr, mode: cstr) -> Ptr[FILE]: ...
@libc.function
def fputs(text: cstr, file: Ptr[FILE]) -> i32: ...
@libc.function
def fclose(file: Ptr[FILE]) -> i32: ...
@libc.function
def getenv(name: cstr) -> str | None: ...


null = fopen("/dev/null", "w")
assert bool(null) and fputs("unread", null) >= 0 and fclose(null) == 0
assert getenv("NO_SUCH_VARIABLE") is None

# Nothing is silently wrong. (A type checker finds two of these mistakes before they run.)
mistakes = (
    lambda: distance(2**31),
    lambda: distance(1.5),  # type: ignore[arg-type]
    lambda: m.hypot(1.0),  # type: ignore[call-arg]
    lambda: libc["getpidd"],
)
for mistake in mistakes:
    try:
        mistake()
    except (OverflowError, TypeError, AttributeError) as problem:
        print(f"{type(problem).__name__}: {problem}")
    else:
        raise AssertionError("accepted")

# Every gate tells about itself.
record = cg.gate(m.hypot)
print(record, record.engine, record.plan, sep="\n")
assert cg.explain("double hypot(double x, double y)").startswith("double hypot(double x, double y)")
