"""The types of callgate, as a type checker sees them: what the caller passes and gets, not the C types.

A name that begins with an underscore exists only here.
"""

import os
from _ctypes import _CData
from collections.abc import Callable, Iterable, Iterator, Sequence
from ctypes import CDLL, Structure, _CArgObject, _Pointer
from ctypes import Union as _CUnion
from types import ModuleType
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from _typeshed import ReadableBuffer, WriteableBuffer
from typing_extensions import Never, Self, TypeVarTuple, Unpack

from callgate import raw as raw
from callgate import wasm as wasm
from callgate.abi.plan import CallPlan
from callgate.c.types import CallbackType, FunctionType
from callgate.errors import CallError as CallError
from callgate.errors import CallgateError as CallgateError
from callgate.errors import ConventionError as ConventionError
from callgate.errors import DeclarationError as DeclarationError
from callgate.errors import EngineError as EngineError
from callgate.errors import LibraryNotFoundError as LibraryNotFoundError
from callgate.errors import SymbolNotFoundError as SymbolNotFoundError
from callgate.runtime.stack import Stack as Stack

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

__version__: Final[str]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_T_contra = TypeVar("_T_contra", contravariant=True)
_R = TypeVar("_R")
_S = TypeVar("_S")
_CT = TypeVar("_CT", bound=_CData)
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")
_L = TypeVar("_L")
_N_co = TypeVar("_N_co", covariant=True)
_Ts = TypeVarTuple("_Ts")
_Record = TypeVar("_Record", bound=Structure | _CUnion)

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

VarArg: TypeAlias = int | float | str | bytes | _CData | _CArgObject | Callback[..., Any] | None

class Out(Generic[_T]):
    """`Out[T]`: `T *` that the function fills.  It is not passed; its value is returned."""

class Status(int):
    """An int result that says whether the call failed; judged by `fails_if` and `error`, then dropped."""

# -- structs and unions ----------------------------------------------------------------------------------------------
# No dataclass_transform: members begin as zero, so `point()` and `point(1.0)` are right, and it would want all of them.
class Struct(Structure):
    """A C struct whose members are its annotations: `class point(Struct): x: f64; y: f64`; `point()` is all zero.

    `class header(Struct, pack=1)` packs the members, `align=16` aligns the whole.
    """

    def __init_subclass__(cls, *, pack: int = 0, align: int = 0) -> None: ...
    __getattr__: None  # type: ignore[assignment, misc]  # members that are declared, and no others
    __setattr__: None  # type: ignore[assignment, misc]

class Union(_CUnion):
    """A C union whose members are its annotations."""

    def __init_subclass__(cls, *, pack: int = 0, align: int = 0) -> None: ...
    __getattr__: None  # type: ignore[assignment, misc]
    __setattr__: None  # type: ignore[assignment, misc]

class Array(_CData, Generic[_T]):
    """An array as a member, `name: Array[char] = field(length=8)`, or as a result, of the `length` of its function.

    A member of char is bytes, one of wchar str.
    """

    @overload
    def __getitem__(self, index: int, /) -> _T: ...
    @overload
    def __getitem__(self, items: slice, /) -> Sequence[_T]: ...
    @overload
    def __setitem__(self, index: int, value: _T, /) -> None: ...
    @overload
    def __setitem__(self, items: slice, values: Sequence[_T], /) -> None: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __len__(self) -> int: ...
    @overload
    def __get__(self: Array[bytes], record: Structure | _CUnion, owner: object, /) -> bytes: ...
    @overload
    def __get__(self: Array[str], record: Structure | _CUnion, owner: object, /) -> str: ...
    @overload
    def __get__(self, record: object, owner: object, /) -> Self: ...
    @overload
    def __set__(self: Array[bytes], record: Structure | _CUnion, value: bytes, /) -> None: ...
    @overload
    def __set__(self: Array[str], record: Structure | _CUnion, value: str, /) -> None: ...
    @overload
    def __set__(self, record: object, value: Array[_T] | tuple[_T, ...], /) -> None: ...

def field(
    *, bits: int | None = None, length: int | None = None, align: int | None = None, anonymous: bool = False
) -> Any: ...

# -- functions that C calls ------------------------------------------------------------------------------------------
class Callback(Generic[_P, _R]):
    """`Callback[[A, B], R]`: a function pointer that C keeps, made by `@callback`.

    C may call it until `close()`, and as long as the program refers to it.  `address` is what C gets.
    """

    @property
    def __name__(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def engine(self) -> _Engine: ...
    @property
    def signature(self) -> CallbackType: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def close(self) -> None: ...

def callback(function: Callable[_P, _R], /, *, engine: _Engine | None = None) -> Callback[_P, _R]: ...

# -- declarations ----------------------------------------------------------------------------------------------------
_Engine: TypeAlias = Literal["native", "ctypes"]
_FailsIf: TypeAlias = Literal["negative", "minus_one", "null", "nonzero"] | Callable[[Any], object]
_Error: TypeAlias = Callable[[int], BaseException] | Literal["last"]
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
        free: str | Callable[..., object] | None = None,
        length: int | str | type[int] | None = None,
        stack_bytes: int | None = None,
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
        free: str | Callable[..., object] | None = None,
        length: int | str | type[int] | None = None,
        stack_bytes: int | None = None,
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

# -- variables -------------------------------------------------------------------------------------------------------
class _Variable(Protocol[_T]):
    """A scalar in C's memory."""

    value: _T

@overload
def variable(library: Library, name: str, declared: type[_CT], /) -> _CT: ...  # type: ignore[overload-overlap]
@overload
def variable(library: Library, name: str, declared: type[_T], /) -> _Variable[_T]: ...

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
    def library_name(self) -> str: ...
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

# -- errors ------------------------------------------------------------------------------------------------------------
def errno() -> int: ...

# -- what ctypes has declared already --------------------------------------------------------------------------------
class Report:
    """What `accelerate` did: the functions that are gates now, the reasons for the others, and the way back."""

    @property
    def fast(self) -> tuple[str, ...]: ...
    @property
    def left(self) -> dict[str, str]: ...
    def undo(self) -> None: ...

def accelerate(
    target: CDLL | ModuleType,
    /,
    *,
    blocking: bool | None = None,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
) -> Report: ...
