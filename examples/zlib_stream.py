# mypy: disable-error-code="empty-body"
"""Compress a stream piece by piece with zlib: a C struct that keeps the state, filled in by both sides.

`compress()` wants everything at once.  `deflate()` takes what there is and gives what it has, so a stream of any length
passes through two buffers of a fixed size.  Needs zlib.  Run it: python examples/zlib_stream.py
"""

import ctypes
import zlib  # Python's own binding, to check the result against
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

import callgate as cg
from callgate import Ptr, Readable, Status, Struct, Writable, cstr, i32, u8, uint, ulong

NO_FLUSH, FINISH, STREAM_ERROR = 0, 4, -2  # as zlib.h defines them
ROOM = 4096


# The struct as zlib.h has it.  `z_stream()` is zeroed, which to zlib means: use malloc and free.
class z_stream(Struct):
    next_in: bytes  # what to read (const unsigned char *), and how much of it is left
    avail_in: uint
    total_in: ulong
    next_out: Ptr[u8]  # where to write, and how much room is left
    avail_out: uint
    total_out: ulong
    msg: bytes
    state: Ptr[None]  # the rest is zlib's own business
    zalloc: Ptr[None]
    zfree: Ptr[None]
    opaque: Ptr[None]
    data_type: i32
    adler: ulong
    reserved: ulong


class Zlib(Protocol):
    def zlibVersion(self) -> str: ...
    def zError(self, code: i32, /) -> str: ...
    def crc32(self, crc: ulong, data: Readable[u8], size: uint, /) -> ulong: ...

    # In the header `deflateInit` is a macro: it passes the version and the size, so that zlib can refuse a stranger.
    def deflateInit_(self, stream: Writable[z_stream], level: i32, version: cstr, size: i32, /) -> Status: ...
    # A piece takes a while, so other threads may run meanwhile. Of the errors, "nothing to do" (-5) is none.
    @cg.function(blocking=True, fails_if=lambda status: status == STREAM_ERROR)
    def deflate(self, stream: Writable[z_stream], flush: i32, /) -> i32: ...
    def deflateEnd(self, stream: Writable[z_stream], /) -> i32: ...


class ZlibError(Exception): ...


def failed(code: int) -> ZlibError:
    return ZlibError(z.zError(code))


z = cg.load("z", Zlib, error=failed)


def deflated(pieces: Iterable[bytes], level: int = 6) -> Iterator[bytes]:
    """The pieces compressed, in pieces of at most 4 KiB."""
    stream = z_stream()
    room = (ctypes.c_uint8 * ROOM)()
    z.deflateInit_(stream, level, z.zlibVersion(), ctypes.sizeof(z_stream))
    try:
        for piece, flush in chain(((piece, NO_FLUSH) for piece in pieces), [(b"", FINISH)]):
            stream.next_in = piece  # C reads the bytes where they are; the struct keeps them alive
            stream.avail_in = len(piece)
            stream.avail_out = 0
            while stream.avail_out == 0:  # the room was full, so there may be more
                stream.next_out = ctypes.cast(room, Ptr[u8])
                stream.avail_out = ROOM
                z.deflate(stream, flush)  # moves the pointers and counts the rest down
                yield bytes(room[: ROOM - stream.avail_out])
    finally:
        z.deflateEnd(stream)


def verses(count: int) -> Iterator[bytes]:
    """A song that is never in memory as a whole."""
    for left in range(count, 0, -1):
        yield f"{left} green bottles hanging on the wall, and if one green bottle should accidentally fall\n".encode()


def main() -> None:
    checksum, size = 0, 0

    def counted() -> Iterator[bytes]:
        nonlocal checksum, size
        for verse in verses(20_000):
            checksum = z.crc32(checksum, verse, len(verse))
            size += len(verse)
            yield verse

    packed = b"".join(deflated(counted()))
    print(f"zlib {z.zlibVersion()}: {size:,} bytes in, {len(packed):,} bytes out, crc32 {checksum:#010x}")

    text = zlib.decompress(packed)
    assert len(text) == size and zlib.crc32(text) == checksum
    print(text.decode().splitlines()[-1])

    # The library judges, the declaration turns its verdict into an exception.
    try:
        list(deflated([b"..."], level=42))
    except ZlibError as problem:
        print("level 42:", problem)


if __name__ == "__main__":
    main()
