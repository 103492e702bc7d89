"""Finding, loading, searching and closing shared libraries."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import struct
import sys
from collections.abc import Iterator, Sequence

from callgate.errors import LibraryNotFoundError, SymbolNotFoundError
from callgate.runtime.addresses import function_address
from callgate.runtime.exported_names import elf_symbols, pe_exports
from callgate.runtime.lifetime import untrack
from callgate.runtime.process_bound import not_copied
from callgate.runtime.unwind import LOOK
from callgate.target import IS_MACOS, IS_WINDOWS

_dlsym = getattr(_ctypes, "dlsym", None)
_dlclose = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary", None)


class SharedLibrary:
    """A loaded library; closed when the last gate and Library that use it are gone.

    `name` is what was asked for, `path` the file (or the name by which the loader found it).
    """

    __slots__ = ("__weakref__", "_cdll", "handle", "name", "path")

    def __init__(self, cdll: ctypes.CDLL, name: str, path: str) -> None:
        self._cdll = cdll
        self.handle = cdll._handle
        self.name = name
        self.path = path
        untrack(self)

    __reduce__ = not_copied("open the library there")

    def __repr__(self) -> str:
        return f"<shared library {self.path}>"

    def __str__(self) -> str:
        return os.path.basename(self.path)

    def find(self, symbol: str) -> int | None:
        """The address of a symbol, or None."""
        if _dlsym is not None:
            try:
                address: int = _dlsym(self.handle, symbol)
            except OSError:
                return None
            return address or None
        try:
            return function_address(self._cdll, symbol)
        except AttributeError:
            return None

    def address(self, symbol: str) -> int:
        """The address of a symbol; SymbolNotFoundError names the nearest ones."""
        found = self.find(symbol)
        if found is None:
            raise SymbolNotFoundError(f"{self} has no symbol {symbol!r}{_suggestion(symbol, self._exported())}")
        return found

    def variable_address(self, symbol: str) -> int:
        """The address of a variable: of the one that all of the process uses.

        A program that names a library's variable has memory of its own for it, which the loader tells everybody to use
        (gABI "Relocation", R_X86_64_COPY); dlsym gives the library's, which then nobody uses.
        """
        address = self.address(symbol)
        if IS_WINDOWS or IS_MACOS or _dlsym is None:
            return address
        try:
            first: int = _dlsym(ctypes.CDLL(None)._handle, symbol)
        except OSError:
            return address
        return first if first != address and _is_in_program(first) else address

    def _exported(self) -> list[str]:
        try:
            if IS_WINDOWS:  # a handle is where the DLL is mapped
                return list(pe_exports(self.handle))
            return list(elf_symbols(_loaded_path(self.handle) or self.path))
        except (OSError, ValueError, struct.error):
            return []  # not a file to be read, or no ELF: there is just no suggestion

    def __del__(self) -> None:
        if _dlclose is not None and self.path != _PROCESS and not sys.is_finalizing():
            _dlclose(self.handle)


_PROCESS = "the process"


def _suggestion(symbol: str, exported: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(symbol, exported, 3)
    return f"; the nearest are {', '.join(near)}" if near else ""


class _LinkMap(ctypes.Structure):  # struct link_map of <link.h>
    _fields_ = (("l_addr", ctypes.c_size_t), ("l_name", ctypes.c_char_p), ("l_ld", ctypes.c_void_p))


class _DlInfo(ctypes.Structure):  # Dl_info of <dlfcn.h>
    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


def _link_map(handle: int) -> _LinkMap | None:
    """What the loader keeps for a handle (dlinfo with RTLD_DI_LINKMAP)."""
    try:
        dlinfo = ctypes.CDLL(None).dlinfo
    except (AttributeError, TypeError, OSError):
        return None
    entry = ctypes.c_void_p()
    if dlinfo(ctypes.c_void_p(handle), 2, ctypes.byref(entry)) or not entry.value:
        return None
    return _LinkMap.from_address(entry.value)


def _loaded_path(handle: int) -> str | None:
    """The file behind a handle."""
    entry = _link_map(handle)
    return os.fsdecode(entry.l_name) if entry is not None and entry.l_name else None


def _is_in_program(address: int) -> bool:
    """Whether an address lies in the program itself, not in a library."""
    process = ctypes.CDLL(None)
    program = _link_map(process._handle)
    if program is None:
        return False
    bases = []
    for inside in (address, program.l_ld):  # l_ld is the program's dynamic section
        info = _DlInfo()
        if not process.dladdr(ctypes.c_void_p(inside), ctypes.byref(info)):
            return False
        bases.append(info.dli_fbase)
    return bool(bases[0] == bases[1])


def _library_folders() -> list[str]:
    """Where the Linux loaders look, the user's folders first (ld.so(8); musl's ld-musl-*.path is for its own root)."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    triplet = getattr(sys.implementation, "_multiarch", "")
    for root in ("/usr/local/lib", "/lib", "/usr/lib"):
        folders += [f"{root}/{triplet}", root] if triplet else [root]
    folders += ["/lib64", "/usr/lib64"]
    try:
        for entry in sorted(os.scandir("/etc/ld.so.conf.d"), key=lambda entry: entry.name):
            with open(entry.path, encoding="utf-8", errors="replace") as file:
                folders += [line.strip() for line in file if line.startswith("/")]
    except OSError:
        pass  # musl, and systems without extra folders
    return [folder for folder in dict.fromkeys(folders) if folder]


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.partition(".so.")[2].split("."))


_found: dict[str, str] = {}
"""What each short name was found to mean: looking through the folders again takes longer than loading."""


def _candidates(name: str) -> Iterator[str]:
    """What may be meant by a short name, most likely first."""
    if name in _found:
        yield _found[name]
    if IS_WINDOWS:
        yield f"{name}.dll"
        yield f"lib{name}.dll"
        if name in ("c", "m"):
            yield "ucrtbase.dll"
        return
    if IS_MACOS:
        yield f"lib{name}.dylib"
        yield f"/usr/lib/lib{name}.dylib"
        yield f"/System/Library/Frameworks/{name}.framework/{name}"
        return
    yield f"lib{name}.so"
    prefix = f"lib{name}.so."
    for folder in _library_folders():
        try:
            found = [entry for entry in os.listdir(folder) if entry.startswith(prefix)]
        except OSError:
            continue  # no such folder here
        for entry in sorted(found, key=_version, reverse=True):
            yield entry  # what the process has of that name already, or the loader finds, goes before the file
            yield os.path.join(folder, entry)


def _is_file_name(name: str) -> bool:
    return "/" in name or "\\" in name or ".so" in name or name.endswith((".dll", ".dylib", ".pyd"))


def open_library(name: str | os.PathLike[str] | Sequence[str] | None) -> SharedLibrary:
    """Load a library by short name ("m"), file name, path, or the first of several that loads; None is the process.

    Raises LibraryNotFoundError, which tells what was tried and why it failed.
    """
    if name is None:
        if IS_WINDOWS:
            raise LibraryNotFoundError('Windows finds no symbol without its DLL: name one, as in load("ucrtbase")')
        return SharedLibrary(ctypes.CDLL(None), "None", _PROCESS)
    wanted = [os.fspath(name)] if isinstance(name, (str, os.PathLike)) else [os.fspath(one) for one in name]
    if not wanted:
        raise ValueError("load() needs at least one candidate")
    tried = []
    for one in wanted:
        if not isinstance(one, str) or not one:
            raise TypeError(f"a library's name must be a non-empty str, not {one!r}")
        for candidate in (one,) if _is_file_name(one) else _candidates(one):
            try:
                cdll = ctypes.CDLL(candidate)
            except OSError as problem:
                reason = str(problem)
                tried.append(reason if candidate in reason else f"{candidate}: {reason}")
                continue
            _found[one] = candidate
            LOOK.loaded(candidate)
            return SharedLibrary(cdll, one, candidate)
    what = " or ".join(repr(one) for one in wanted)
    raise LibraryNotFoundError(f"cannot load {what}; tried:\n  " + "\n  ".join(tried))
