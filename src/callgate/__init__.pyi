"""The types of callgate, as a type checker sees them: what the caller passes and gets, not the C types.

A name that begins with an underscore exists only here.
"""

import os
from collections.abc import Callable, Sequence
from ctypes import Structure, Union, _CArgObject, _Pointer
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from _typeshed import ReadableBuffer, WriteableBuffer
from typing_extensions import Never, TypeVarTuple, Unpack

from callgate.abi.plan import CallPlan
from callgate.c.types import FunctionType
from callgate.errors import CallError as CallError
from callgate.errors import CallgateError as CallgateError
from callgate.errors import DeclarationError as DeclarationError
from callgate.errors import EngineError as EngineError
from callgate.errors import LibraryNotFoundError as LibraryNotFoundError
from callgate.errors import SymbolNotFoundError as SymbolNotFoundError

__all__ = [
    "CallError",
    "CallgateError",
    "DeclarationError",
    "EngineError",
    "Gate",
    "Library",
    "LibraryNotFoundError",
    "Opaque",
    "Out",
    "Ptr",
    "Readable",
    "Status",
    "SymbolNotFoundError",
    "Writable",
    "bool_",
    "char",
    "cstr",
    "explain",
    "f32",
    "f64",
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
    "wchar",
    "wstr",
]

__version__: Final[str]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_T_contra = TypeVar("_T_contra", contravariant=True)
_R = TypeVar("_R")
_S = TypeVar("_S")
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")
_L = TypeVar("_L")
_N_co = TypeVar("_N_co", covariant=True)
_Ts = TypeVarTuple("_Ts")
_Record = TypeVar("_Record", bound=Structure | Union)

# -- scalars: what the caller passes and gets ------------------------------------------------------------------------
f32: TypeAlias = float
f64: TypeAlias = float
longdouble: TypeAlias = float
i8: TypeAlias = int
i16: TypeAlias = int
i32: TypeAlias = int
i64: TypeAlias = int
u8: TypeAlias = int
u16: TypeAlias = int
u32: TypeAlias = int
u64: TypeAlias = int
isize: TypeAlias = int
usize: TypeAlias = int
short: TypeAlias = int
ushort: TypeAlias = int
int_: TypeAlias = int
uint: TypeAlias = int
long: TypeAlias = int
ulong: TypeAlias = int
longlong: TypeAlias = int
ulonglong: TypeAlias = int
bool_: TypeAlias = bool
char: TypeAlias = bytes
wchar: TypeAlias = str
cstr: TypeAlias = str | bytes
wstr: TypeAlias = str

# -- pointers --------------------------------------------------------------------------------------------------------
class Ptr(_Pointer[Any], Generic[_T]):
    """A pointer: handles and results.  False for NULL; `ctypes.cast(address, Ptr[T])` makes one."""

    @property
    def contents(self: Ptr[_Record]) -> _Record: ...
    @property
    def value(self: Ptr[None]) -> int | None: ...
    @overload
    def __getitem__(self, index: int, /) -> _T: ...
    @overload
    def __getitem__(self: Ptr[bytes], items: slice, /) -> Any: ...  # bytes for char *, a list for char **
    @overload
    def __getitem__(self, items: slice, /) -> list[_T]: ...
    def __setitem__(self, index: int, value: _T, /) -> None: ...
    def __bool__(self) -> bool: ...
    def _points_to(self, item: _T | None, /) -> None: ...
    __buffer__: None  # type: ignore[assignment]

class Opaque:
    """Base class of handles whose contents only C knows: `class sqlite3(Opaque): ...`, used as `Ptr[sqlite3]`."""

class _PointsTo(Protocol[_T_contra]):
    """A Ptr to T; any Ptr at all where T is None, as for `void *`."""

    def _points_to(self, item: _T_contra, /) -> None: ...

class _HasArrayInterface(Protocol):
    """An ndarray, which is no Buffer in NumPy's stubs before Python 3.12."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

Readable: TypeAlias = ReadableBuffer | _HasArrayInterface | _PointsTo[_T] | _CArgObject | list[_T]
Writable: TypeAlias = WriteableBuffer | _HasArrayInterface | _PointsTo[_T] | _CArgObject

class Out(Generic[_T]):
    """`Out[T]`: `T *` that the function fills.  It is not passed; its value is returned."""

class Status(int):
    """An int result that says whether the call failed; judged by `fails_if` and `error`, then dropped."""

# -- declarations ----------------------------------------------------------------------------------------------------
_Engine: TypeAlias = Literal["native", "ctypes"]
_FailsIf: TypeAlias = Literal["negative", "minus_one", "null", "nonzero"] | Callable[[Any], object]
_Error: TypeAlias = Callable[[int], BaseException]
_Name: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None

class _Declare(Protocol[_N_co]):
    """`@function` and `@function(...)`; `_N_co` is None where the function may be missing, else Never.

    Trailing Out parameters come first (C's habit), then leading ones (of functions, then of methods of a Protocol),
    each without and with a result; then functions without Out, whose parameters keep their names.
    """

    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B], Out[_C], Out[_D]], Status | None], /
    ) -> Callable[[Unpack[_Ts]], tuple[_A, _B, _C, _D]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B], Out[_C]], Status | None], /
    ) -> Callable[[Unpack[_Ts]], tuple[_A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B]], Status | None], /
    ) -> Callable[[Unpack[_Ts]], tuple[_A, _B]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A]], Status | None], /
    ) -> Callable[[Unpack[_Ts]], _A] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[Out[_A], Out[_B], Out[_C], _P], Status | None], /
    ) -> Callable[_P, tuple[_A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], Out[_B], Out[_C], _P], Status | None], /
    ) -> Callable[Concatenate[_S, _P], tuple[_A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[Out[_A], Out[_B], _P], Status | None], /
    ) -> Callable[_P, tuple[_A, _B]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], Out[_B], _P], Status | None], /
    ) -> Callable[Concatenate[_S, _P], tuple[_A, _B]] | _N_co: ...
    @overload
    def __call__(self, declared: Callable[Concatenate[Out[_A], _P], Status | None], /) -> Callable[_P, _A] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], _P], Status | None], /
    ) -> Callable[Concatenate[_S, _P], _A] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B], Out[_C], Out[_D]], _R], /
    ) -> Callable[[Unpack[_Ts]], tuple[_R, _A, _B, _C, _D]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B], Out[_C]], _R], /
    ) -> Callable[[Unpack[_Ts]], tuple[_R, _A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A], Out[_B]], _R], /
    ) -> Callable[[Unpack[_Ts]], tuple[_R, _A, _B]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[[Unpack[_Ts], Out[_A]], _R], /
    ) -> Callable[[Unpack[_Ts]], tuple[_R, _A]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[Out[_A], Out[_B], Out[_C], _P], _R], /
    ) -> Callable[_P, tuple[_R, _A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], Out[_B], Out[_C], _P], _R], /
    ) -> Callable[Concatenate[_S, _P], tuple[_R, _A, _B, _C]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[Out[_A], Out[_B], _P], _R], /
    ) -> Callable[_P, tuple[_R, _A, _B]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], Out[_B], _P], _R], /
    ) -> Callable[Concatenate[_S, _P], tuple[_R, _A, _B]] | _N_co: ...
    @overload
    def __call__(self, declared: Callable[Concatenate[Out[_A], _P], _R], /) -> Callable[_P, tuple[_R, _A]] | _N_co: ...
    @overload
    def __call__(
        self, declared: Callable[Concatenate[_S, Out[_A], _P], _R], /
    ) -> Callable[Concatenate[_S, _P], tuple[_R, _A]] | _N_co: ...
    @overload
    def __call__(self, declared: Callable[_P, Status], /) -> Callable[_P, None] | _N_co: ...
    @overload
    def __call__(self, declared: Callable[_P, _R], /) -> Callable[_P, _R] | _N_co: ...
    @overload
    def __call__(
        self,
        *,
        symbol: str | None = None,
        at: int | None = None,
        required: Literal[True] = True,
        blocking: bool = False,
        fails_if: _FailsIf | None = None,
        error: _Error | None = None,
        engine: _Engine | None = None,
    ) -> _Declare[Never]: ...
    @overload
    def __call__(
        self,
        *,
        symbol: str | None = None,
        at: int | None = None,
        required: bool,
        blocking: bool = False,
        fails_if: _FailsIf | None = None,
        error: _Error | None = None,
        engine: _Engine | None = None,
    ) -> _Declare[None]: ...

function: _Declare[Never]

class Library:
    """A loaded library and the functions declared for it, as attributes and by `library["name"]`."""

    @property
    def function(self) -> _Declare[Never]: ...
    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, name: str) -> Any: ...
    def __contains__(self, name: object) -> bool: ...

@overload
def load(
    name: _Name,
    declarations: str | None = None,
    typed: None = None,
    /,
    *,
    blocking: bool = False,
    error: _Error | None = None,
    engine: _Engine | None = None,
) -> Library: ...
@overload
def load(
    name: _Name,
    declarations: Callable[..., _L],  # the Protocol class; type[_L] would refuse it for being abstract
    typed: None = None,
    /,
    *,
    blocking: bool = False,
    error: _Error | None = None,
    engine: _Engine | None = None,
) -> _L: ...
@overload
def load(
    name: _Name,
    declarations: str,
    typed: Callable[..., _L],
    /,
    *,
    blocking: bool = False,
    error: _Error | None = None,
    engine: _Engine | None = None,
) -> _L: ...

# -- gates -----------------------------------------------------------------------------------------------------------
class Gate:
    """The record of a gate: what it is declared as, where its arguments travel, its machine code."""

    @property
    def name(self) -> str: ...
    @property
    def signature(self) -> FunctionType: ...
    @property
    def address(self) -> int: ...
    @property
    def library(self) -> object: ...
    @property
    def engine(self) -> _Engine: ...
    @property
    def plan(self) -> CallPlan: ...
    @property
    def listing(self) -> str: ...
    @property
    def code_bytes(self) -> int: ...
    @property
    def code_address(self) -> int: ...
    def explain(self) -> str: ...

def gate(function: Callable[..., Any]) -> Gate: ...
def gate_from(
    function: Callable[..., Any], /, *, blocking: bool = False, engine: _Engine | None = None
) -> Callable[..., Any]: ...
def explain(function: str | Callable[..., Any], *, target: str | None = None, layout: str | None = None) -> str: ...
