"""Files of machine code: written so that damage shows, mapped only where nobody else can have written them.

What is checked is the opened file, and that is what is mapped: a name that points elsewhere meanwhile changes nothing.
What the contents mean belongs to who writes them.

    offset 0   16 bytes   "callgate image 1"
           16   8 bytes   the size of the contents in bytes, little-endian
           24   8 bytes   zeros
           32  32 bytes   SHA-256 of the contents
           64             the contents
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from callgate.errors import ImageError
from callgate.runtime.lifetime import untrack
from callgate.runtime.posix_memory import ANONYMOUS, EXECUTE, FIXED, PRIVATE, READ, WRITE, get_libc, in_pages
from callgate.target import IS_WINDOWS

MAGIC = b"callgate image 1"
_HEADER = struct.Struct("<16sQQ32s")
HEADER_BYTES = _HEADER.size  # 64, a line of the instruction cache
_BUILD_ANEW = "build it anew with `callgate build`"


def write_checked(path: str, contents: bytes, mode: int = 0o644) -> None:
    """Write a file that `map_checked` takes; `mode` says who may read it.  Raises OSError."""
    write_whole(path, _HEADER.pack(MAGIC, len(contents), 0, hashlib.sha256(contents).digest()) + contents, mode)


def write_whole(path: str, data: bytes, mode: int = 0o644) -> None:
    """Put a new file in a place, all of it or nothing: who has the old one mapped keeps it.

    What a symbolic link of that name leads to stays as it is.  Raises OSError.
    """
    folder, name = os.path.split(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


class MappedFile:
    """A mapped file: `address` of its contents, which are readable and executable as long as this lives.

    `table_address` is that of writable memory in front of the file, a multiple of pages with `table_bytes` or more,
    which ends where the file begins, HEADER_BYTES before the contents.
    """

    __slots__ = ("__weakref__", "_mapped_bytes", "_start", "address", "size_bytes", "table_address")

    def __init__(self, start: int, mapped_bytes: int, file_address: int, size_bytes: int) -> None:
        self._start = start
        self._mapped_bytes = mapped_bytes
        self.table_address = start
        self.address = file_address + HEADER_BYTES
        self.size_bytes = size_bytes
        untrack(self)

    @property
    def data(self) -> memoryview:
        """The contents; valid as long as this lives."""
        view = memoryview((ctypes.c_ubyte * self.size_bytes).from_address(self.address))
        return view.cast("B").toreadonly()

    def protect_table(self) -> None:
        """From now on the table in front of the file is read only."""
        table_bytes = self.address - HEADER_BYTES - self._start
        if table_bytes:
            get_libc().mprotect(self._start, table_bytes, READ)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_finalizing():  # code may be called until the process's end, which unmaps as well
            get_libc().munmap(self._start, self._mapped_bytes)


def map_checked(path: str, table_bytes: int = 0) -> MappedFile:
    """Map a file of `write_checked` readable and executable, with room for a table of addresses in front of it.

    The file and its folder must belong to this process's user or to root, and nobody else may have the right to write
    to them; the file must not be a symbolic link, and its contents must be what was written.  Raises ImageError, which
    says what is wrong and what to do.

    Nothing guards against the owner, who may change the file while it is mapped: `write_checked` never does.
    """
    if IS_WINDOWS:
        _refuse(path, "files of machine code are not mapped on Windows", "leave it: gates are made when bound")
    folder, name = os.path.split(os.path.abspath(path))
    try:
        folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_hands(path, f"its folder {folder}", os.fstat(folder_descriptor))
            # O_NONBLOCK: opening a pipe must not wait
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(name, flags, dir_fd=folder_descriptor)
        finally:
            os.close(folder_descriptor)
    except ImageError:
        raise
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            _refuse(path, "it is a symbolic link", "name the file itself, or copy it there")
        _refuse(path, f"it cannot be opened ({problem.strerror})", _BUILD_ANEW)
    try:
        return _map(path, descriptor, table_bytes)
    except ImageError:
        raise
    except OSError as problem:
        _refuse(path, f"it cannot be mapped ({problem.strerror})", "allow the process more memory (ulimit -v)")
    finally:
        os.close(descriptor)


def why_refused(path: str) -> str:
    """Why `map_checked` does not map a file, "" where it does."""
    try:
        map_checked(path)
    except ImageError as problem:
        return str(problem)
    return ""


def _refuse(path: str, problem: str, remedy: str) -> NoReturn:
    raise ImageError(f"{path} is not run: {problem}; {remedy}")


def _check_hands(path: str, what: str, status: os.stat_result) -> None:
    """Refuse what others than this process's user and root own or may write to."""
    user = os.geteuid()
    if status.st_uid not in (0, user):
        _refuse(
            path,
            f"{what} belongs to user {status.st_uid}, not to root or user {user}, who runs this",
            "build it as the user who runs it, or give it to root",
        )
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)  # with an ACL, the group's bits are the most it grants
    if others:
        _refuse(
            path,
            f"{what} may be written by others than its owner (mode {stat.S_IMODE(status.st_mode):o})",
            "chmod go-w, and build it anew if you do not trust them",
        )


def _map(path: str, descriptor: int, table_bytes: int) -> MappedFile:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        _refuse(path, "it is not a regular file", "name the file that was built")
    _check_hands(path, "it", status)
    header = os.pread(descriptor, HEADER_BYTES, 0)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        _refuse(path, "it is not an image of this version of callgate", _BUILD_ANEW)
    _, size_bytes, zeros, digest = _HEADER.unpack(header)
    if zeros:
        _refuse(path, "its head is damaged", _BUILD_ANEW)
    if not size_bytes:
        _refuse(path, "it has no contents", _BUILD_ANEW)
    if status.st_size != HEADER_BYTES + size_bytes:
        _refuse(path, f"it has {status.st_size} bytes, not {HEADER_BYTES + size_bytes}", _BUILD_ANEW)
    libc = get_libc()
    table_bytes = in_pages(table_bytes)
    mapped_bytes = table_bytes + in_pages(HEADER_BYTES + size_bytes)
    start = libc.mmap(mapped_bytes, READ | WRITE, PRIVATE | ANONYMOUS, -1)
    mapped = MappedFile(start, mapped_bytes, start + table_bytes, size_bytes)
    try:
        libc.mmap(mapped_bytes - table_bytes, READ | EXECUTE, PRIVATE | FIXED, descriptor, start + table_bytes)
    except OSError as problem:
        _refuse(
            path,
            f"it cannot be mapped executable ({problem.strerror})",
            "put it on a file system that is not mounted noexec, or let the security policy allow it",
        )
    if hashlib.sha256(mapped.data).digest() != digest:
        _refuse(path, "its contents are not what was written (wrong checksum)", _BUILD_ANEW)
    return mapped
