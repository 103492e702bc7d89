"""Compiled modules on disk: where they are kept, under what names, how they are read and thrown away.

A file is named by its key: SHA-256 of the module's bytes and of all that its code depends on.  Only modules whose every
body was found valid are written, so what has a file need not be checked again: finding other bytes with the same key
is finding a collision of SHA-256, and who may write to the folder may run code as this user anyway.  Who else could
have written is what `runtime.checked_file` looks at, on the opened file; what it refuses is compiled anew.

    0    32 bytes   the key, so that a file under another's name is not taken for it
    32   3 words    the size of the code, the number of functions, the number of sites
    64              code, then a word for each function's start, then the sites (compile.module.CompiledModule)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from array import array
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from callgate import __version__
from callgate.errors import ImageError
from callgate.runtime.checked_file import MappedFile, map_checked, write_checked
from callgate.target import HOST
from callgate.wasm.compile.function import Options
from callgate.wasm.compile.module import ENGINE_VERSION, CompiledModule

LEAST_BYTES: Final = 16 << 10
"""Smaller modules are compiled sooner than a file pays."""
MOST_BYTES: Final = 512 << 20
"""What the files may take together; those that were not used for longest make room."""
_ABANDONED_S: Final = 3600
"""How old the file of a process that died while it wrote is at least."""
_SUFFIX: Final = ".image"
_HEADER: Final = struct.Struct("<32s3Q8x")


class Cached(NamedTuple):
    """A module's code as it lies in a mapped file, which must live as long."""

    compiled: CompiledModule
    file: MappedFile
    address: int


def cache_folder() -> Path | None:
    """Where compiled modules are kept; None where CALLGATE_CACHE is set to nothing, or nobody knows a place."""
    chosen = os.environ.get("CALLGATE_CACHE")
    if chosen is not None:
        return Path(chosen).expanduser() / "wasm" if chosen else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:  # a relative path is to be ignored (XDG base directory specification)
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "callgate" / "wasm"
    except RuntimeError:
        return None


def key_of(data: bytes, options: Options) -> bytes:
    """What tells a compiled module from all others."""
    target = HOST.name if HOST is not None else ""
    facts = (ENGINE_VERSION, __version__, target, options.is_guarded, *sorted(options.features))
    digest = hashlib.sha256(_compiler_digest())
    digest.update(repr(facts).encode())
    digest.update(hashlib.sha256(data).digest())
    return digest.digest()


@cache
def _compiler_digest() -> bytes:
    """A digest of the compiler's sources, where they are at hand: a changed compiler gives other code."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    with contextlib.suppress(OSError):
        for pattern in ("wasm/compile/*.py", "wasm/validate.py", "asm/x86_64/*.py"):
            for path in sorted(package.glob(pattern)):
                digest.update(path.read_bytes())
    return digest.digest()


def path_of(folder: Path, key: bytes) -> Path:
    """The file of a key."""
    return folder / f"{key.hex()}{_SUFFIX}"


def map_module(path: Path, key: bytes, *, is_guarded: bool) -> Cached:
    """Map the file of a compiled module; ImageError, which says what is wrong, or OSError."""
    file = map_checked(str(path))
    data = file.data
    sizes = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0, 0)
    found, code_bytes, functions, sites = sizes
    starts_at = _HEADER.size + code_bytes
    sites_at = starts_at + 4 * functions
    if found != key or len(data) != sites_at + 12 * sites:
        raise ImageError(f"{path} is not run: it is another module's; remove it")
    with contextlib.suppress(OSError):  # when it was used is when it was changed
        os.utime(path, follow_symlinks=False)
    compiled = CompiledModule(
        data[_HEADER.size : starts_at], data[starts_at:sites_at].cast("I"), data[sites_at:].cast("I"), is_guarded
    )
    return Cached(compiled, file, file.address + _HEADER.size)


def store(folder: Path, key: bytes, compiled: CompiledModule) -> None:
    """Write a compiled module, for its owner's eyes only; OSError where that cannot be."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    code = bytes(compiled.code) + bytes(-len(compiled.code) % 4)
    contents = b"".join(
        (
            _HEADER.pack(key, len(code), len(compiled.starts), len(compiled.sites) // 3),
            code,
            array("I", compiled.starts).tobytes(),
            array("I", compiled.sites).tobytes(),
        )
    )
    evict(folder, MOST_BYTES - len(contents))
    write_checked(str(path_of(folder, key)), contents, 0o600)


def evict(folder: Path, most_bytes: int) -> None:
    """Remove the files that were not used for longest until the others take no more; and what the dead have left."""
    files = []
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process has removed it
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(_SUFFIX):
                    files.append((status.st_mtime, status.st_size, entry.path))
                elif f"{_SUFFIX}." in entry.name and now - status.st_mtime > _ABANDONED_S:
                    os.unlink(entry.path)
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
