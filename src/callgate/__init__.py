"""callgate: native calls from Python at the cost of a hand-written C extension, with nothing to compile.

The names of declarations are here at once; what binds them is imported when first used, so that `import callgate`
costs little more than `import ctypes`.  The types of everything are in `__init__.pyi`.
"""

from __future__ import annotations

from callgate.c.names import (
    Array,
    Opaque,
    Out,
    Ptr,
    Readable,
    Status,
    VarArg,
    Writable,
    bool_,
    char,
    cstr,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    int_,
    isize,
    long,
    longdouble,
    longlong,
    short,
    u8,
    u16,
    u32,
    u64,
    uint,
    ulong,
    ulonglong,
    ushort,
    usize,
    wchar,
    wstr,
)
from callgate.errors import (
    CallError,
    CallgateError,
    ConventionError,
    DeclarationError,
    EngineError,
    LibraryNotFoundError,
    SymbolNotFoundError,
)

__version__ = "0.1.0"

_LAZY = {
    "Callback": "callgate.runtime.callbacks",
    "Gate": "callgate.runtime.gate",
    "Library": "callgate.library",
    "Report": "callgate.acceleration",
    "Stack": "callgate.runtime.stack",
    "Struct": "callgate.c.structures",
    "Union": "callgate.c.structures",
    "accelerate": "callgate.acceleration",
    "callback": "callgate.library",
    "errno": "callgate.library",
    "explain": "callgate.explanation",
    "field": "callgate.c.structures",
    "function": "callgate.library",
    "gate": "callgate.library",
    "gate_from": "callgate.library",
    "load": "callgate.library",
    "raw": "",
    "variable": "callgate.library",
    "wasm": "",
}

__all__ = [
    "Array",
    "CallError",
    "Callback",
    "CallgateError",
    "ConventionError",
    "DeclarationError",
    "EngineError",
    "Gate",
    "Library",
    "LibraryNotFoundError",
    "Opaque",
    "Out",
    "Ptr",
    "Readable",
    "Report",
    "Stack",
    "Status",
    "Struct",
    "SymbolNotFoundError",
    "Union",
    "VarArg",
    "Writable",
    "accelerate",
    "bool_",
    "callback",
    "char",
    "cstr",
    "errno",
    "explain",
    "f32",
    "f64",
    "field",
    "function",
    "gate",
    "gate_from",
    "i8",
    "i16",
    "i32",
    "i64",
    "int_",
    "isize",
    "load",
    "long",
    "longdouble",
    "longlong",
    "raw",
    "short",
    "u8",
    "u16",
    "u32",
    "u64",
    "uint",
    "ulong",
    "ulonglong",
    "ushort",
    "usize",
    "variable",
    "wasm",
    "wchar",
    "wstr",
]


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'callgate' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(module), name) if module else import_module(f"callgate.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
