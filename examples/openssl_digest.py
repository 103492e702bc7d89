# mypy: disable-error-code="empty-body"
"""SHA-256 and others with OpenSSL's EVP interface: handles that free themselves, buffers without copies.

Needs libcrypto of OpenSSL 3 (Debian: libssl3).  Run it: python examples/openssl_digest.py
"""

import hashlib
from collections.abc import Iterable
from ctypes import c_uint
from typing import Protocol

import callgate as cg
from callgate import Opaque, Ptr, Readable, Writable, cstr, i32, u8, uint, ulong, usize


class EVP_MD(Opaque): ...


class EVP_MD_CTX(Opaque): ...


# Here 1 is success. The errors wait in a queue of OpenSSL's; its last one is the message.
class Crypto(Protocol):
    def ERR_get_error(self) -> ulong: ...
    def ERR_reason_error_string(self, code: ulong, /) -> str | None: ...
    def EVP_MD_get_size(self, md: Ptr[EVP_MD], /) -> i32: ...

    # What these two return is ours: EVP_MD_free and EVP_MD_CTX_free are called when the handles are collected.
    @cg.function(fails_if="null", free="EVP_MD_free")
    def EVP_MD_fetch(self, library: Ptr[None] | None, name: cstr, wanted: cstr | None, /) -> Ptr[EVP_MD]: ...
    @cg.function(fails_if="null", free="EVP_MD_CTX_free")
    def EVP_MD_CTX_new(self) -> Ptr[EVP_MD_CTX]: ...
    @cg.function(fails_if=lambda done: done != 1)
    def EVP_DigestInit_ex(self, ctx: Ptr[EVP_MD_CTX], md: Ptr[EVP_MD], engine: Ptr[None] | None, /) -> i32: ...
    @cg.function(fails_if=lambda done: done != 1, blocking=True)
    def EVP_DigestUpdate(self, ctx: Ptr[EVP_MD_CTX], data: Readable[u8], size: usize, /) -> i32: ...
    @cg.function(fails_if=lambda done: done != 1)
    def EVP_DigestFinal_ex(self, ctx: Ptr[EVP_MD_CTX], to: Writable[u8], size: Writable[uint], /) -> i32: ...


class CryptoError(Exception): ...


def failed(_: int) -> CryptoError:
    return CryptoError(crypto.ERR_reason_error_string(crypto.ERR_get_error()) or "unknown")


crypto = cg.load(("crypto", "libcrypto.so.3"), Crypto, error=failed)


def digest(name: str, pieces: Iterable[bytes | bytearray | memoryview]) -> bytes:
    """The digest of the pieces in a row."""
    md = crypto.EVP_MD_fetch(None, name, None)
    context = crypto.EVP_MD_CTX_new()
    crypto.EVP_DigestInit_ex(context, md, None)
    for piece in pieces:
        crypto.EVP_DigestUpdate(context, piece, len(piece))
    result, size = bytearray(crypto.EVP_MD_get_size(md)), c_uint()
    crypto.EVP_DigestFinal_ex(context, result, size)
    assert size.value == len(result)
    return bytes(result)


def main() -> None:
    pieces: list[bytes | bytearray | memoryview] = [
        b"The quick brown fox ",
        bytearray(b"jumps over "),
        memoryview(b"the lazy dog"),
    ]
    for name in ("md5", "sha256", "sha3-256", "blake2s256"):
        found = digest(name, pieces)
        assert found == hashlib.new(name, b"".join(pieces)).digest()
        print(f"{name:<11} {found.hex()}")
    try:
        digest("sha257", pieces)
    except CryptoError as problem:
        print("CryptoError:", problem)


if __name__ == "__main__":
    main()
