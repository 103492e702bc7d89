"""The record of a gate, which is `f.__self__`: owns what the function needs, tells about it, raises its errors.

Machine code calls the methods that begin with an underscore when it cannot go on; they are ordinary Python.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from callgate.abi.plan import CallPlan, classify
from callgate.c.annotations import ctypes_of
from callgate.c.types import Array, FunctionType, Pointer, Result, Void, declaration
from callgate.cpython.conversion import Box, Conversion, Judgement, SavedError, Unbox
from callgate.errors import CallError, ConventionError
from callgate.lower.call import accept_bytes, lower_call
from callgate.lower.machine import Machine
from callgate.lower.operations import operations
from callgate.runtime import boxing, params, reference
from callgate.runtime.probe import GateBase
from callgate.runtime.process_bound import not_copied
from callgate.runtime.stack import Stack
from callgate.target import HOST, X86_64_LINUX, Target

MASK_64 = (1 << 64) - 1


class _Last(threading.local):
    errno = 0


LAST = _Last()
"""The errno, or last error, of this thread's last call that failed, or that a predicate judged."""


class Options(NamedTuple):
    """The options of a function's declaration (see `callgate.function`), library-wide ones filled in."""

    symbol: str | None = None
    at: int | None = None
    required: bool = True
    blocking: bool = False
    fails_if: str | Callable[[object], object] | None = None
    error: Callable[[int], BaseException] | str | None = None
    engine: str | None = None
    free: Callable[[object], object] | str | None = None
    length: object = None
    stack_bytes: int | None = None


class Gate(GateBase):
    """A gate: a C function as Python calls it.

    `signature` is the declaration, `address` that of the C function, `library` the library it came from (None for
    a plain address), `engine` "native" or "ctypes".  `plan` tells where the arguments travel, `listing` is the
    annotated machine code, `explain()` all of it.  `original` is the ctypes function whose place an accelerated gate
    takes, `errcheck` what that had; if it `yields`, declaring it anew gives the place back.  `stack` is the Stack of a
    function with `stack_bytes=`.
    """

    __slots__ = (
        "__weakref__",
        "_bind_pointer",
        "_formals",
        "_kept",
        "_machine",
        "_shape",
        "address",
        "conversion",
        "engine",
        "errcheck",
        "library",
        "options",
        "original",
        "signature",
        "stack",
        "yields",
    )
    __reduce__ = not_copied("declare the function there")

    def __init__(
        self,
        signature: FunctionType,
        conversion: Conversion,
        address: int,
        library: object,
        options: Options,
        engine: str,
        machine: Machine | None,
    ) -> None:
        self.signature = signature
        self.conversion = conversion
        self.address = address
        self.library = library
        self.options = options
        self.engine = engine
        self._machine = machine
        self.original: object = None
        self.errcheck: object = None
        self.yields = False
        self.stack: Stack | None = None
        self._bind_pointer: Callable[[FunctionType, int, Gate], Callable[..., object]] | None = None
        self._formals: tuple[reference.Formal, ...] | None = None
        self._kept: object = None
        self._shape: object = None

    # -- for people -------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        origin = f" of {self.library_name}" if self.library is not None else f" at {self.address:#x}"
        return f"<gate {declaration(self.signature)}{origin}, {self.engine}>"

    @property
    def name(self) -> str:
        """The function's name in Python."""
        return self.signature.name

    @property
    def library_name(self) -> str:
        """The name of the library, "" for a plain address."""
        name = getattr(self.library, "_name", self.library)  # of a CDLL
        return "" if name is None else str(name)

    @property
    def target(self) -> Target:
        """The target whose calling convention the gate follows."""
        return self._machine.target if self._machine is not None else HOST or X86_64_LINUX

    @property
    def plan(self) -> CallPlan:
        """Where the arguments and the result travel."""
        return classify(self.signature, self.target)

    @property
    def listing(self) -> str:
        """The annotated machine code, or "" for the ctypes engine."""
        if self.engine != "native" or self._machine is None:
            return ""
        return lower_call(self.plan, self.conversion, self._machine, with_listing=True).listing()

    @property
    def code_bytes(self) -> int:
        """The size of the machine code in bytes, shared by all gates of the same shape; 0 for the ctypes engine."""
        size: int = getattr(self._shape, "code_bytes", 0)
        return size

    @property
    def code_address(self) -> int:
        """Where the machine code lies, or 0 for the ctypes engine."""
        block = getattr(self._shape, "block", None)
        return block.address if block is not None else 0

    @property
    def inside_address(self) -> int:
        """Where other machine code enters it."""
        return self.code_address + accept_bytes(self._machine.target) if self._machine is not None else 0

    def explain(self) -> str:
        """Declaration, layout, plan and annotated machine code, as text."""
        parts = [declaration(self.signature), f"engine: {self.engine}, C function at {self.address:#x}"]
        parts.append(str(self.plan))
        if self.engine == "native" and self._machine is not None:
            parts.append(f"layout: {self._machine.layout.name}, code: {self.code_bytes} bytes")
            parts.append(self.listing)
        return "\n\n".join(parts)

    # -- for the engines -------------------------------------------------------------------------------------
    @property
    def formals(self) -> tuple[reference.Formal, ...]:
        """The parameters that Python passes, as the reference conversion needs them."""
        if self._formals is None:
            signature = self.signature
            self._formals = tuple(
                reference.Formal(
                    signature.name,
                    number,
                    signature.parameters[position],
                    step,
                    _element(signature, position, step.kind),
                    None,
                    self.engine,
                )
                for number, (step, position) in enumerate(
                    zip(self.conversion.steps, self.conversion.positions, strict=True), 1
                )
            )
        return self._formals

    @property
    def keyword_names(self) -> tuple[str | None, ...]:
        """The names by which arguments may be given; None where only by position."""
        signature = self.signature
        parameters, first = signature.parameters, signature.positional_only
        named = [sys.intern(parameters[position].name) for position in self.conversion.positions[first:]]
        return (None,) * first + tuple(named)

    def _convert(self, index: int, thing: object) -> tuple[int, object]:
        value, owner = reference.to_value(self.formals[index], thing)
        if isinstance(value, float):
            size = self.conversion.steps[index].size_bytes
            value = int.from_bytes(struct.pack("<f" if size == 4 else "<d", value), "little")
        return value & MASK_64, owner

    def _refuse_arguments(self, count: int, keywords: tuple[str, ...] = ()) -> NoReturn:
        placeholders = (None,) * count
        reference.place_keywords(self.signature.name, self.keyword_names, placeholders, dict.fromkeys(keywords))
        raise AssertionError("the machine code refused arguments that are right")

    def _decode(self, index: int, given: object) -> tuple[int, object]:
        """The word for what a from_param gave back."""
        formal = self.formals[index]
        word, owner = params.word_of(formal.number, formal.step, given)
        return word & MASK_64, owner

    def _argument_error(self, index: int, problem: BaseException) -> NoReturn:
        raise params.argument_error(index + 1, problem) from None

    def _refuse_null(self, which: int) -> NoReturn:
        name = self.signature.name
        if self.original is not None:
            raise ValueError("PyObject is NULL")  # ctypes' words; no other result of an accelerated gate refuses it
        if which:
            outs = [parameter for parameter in self.signature.parameters if parameter.out is not None]
            name_of_out = outs[which - 1].name
            raise ValueError(f"{name}() left {name_of_out} NULL; declare it `Out[X | None]` to get None")
        raise ValueError(f"{name}() returned NULL; declare the result `X | None` to get None")

    def _refuse_changed(self, words: int) -> NoReturn:
        """A checked call did not bring back what is the caller's: `words` is where its frame says what came."""
        target = self.target
        names = operations(target).callee_saved.values()
        before, after, *registers = (ctypes.c_uint64 * (2 + len(names))).from_address(words)
        changed = [name for name, word in zip(names, registers, strict=True) if word != before]
        problems = []
        if after != before:
            distance = f"{abs(after - before)} bytes {'above' if after > before else 'below'} where it was"
            problems.append(f"left the stack pointer {distance}")
        if changed:
            problems.append(f"did not bring back {', '.join(changed)}")
        origin = f" of {self.library_name}" if self.library is not None else f" at {self.address:#x}"
        raise ConventionError(
            f"{self.signature.name}(){origin} {' and '.join(problems)}: it does not follow the calling convention "
            f"{target.calling_convention}. Compile it for that, or see whether this is the function that is meant"
        )

    def _prepare_stack(self) -> None:
        assert self.stack is not None  # machine code knows its node
        self.stack._prepare_stack()

    def _refuse_stack(self) -> NoReturn:
        assert self.stack is not None
        self.stack._refuse_stack()

    def _fail(self, code: int, errno: int) -> NoReturn:
        result = self.conversion.result
        is_signed = result.kind is Box.SIGNED or (result.kind is Box.ENUM and not result.is_unsigned)
        raise self.failure(code if is_signed else code & MASK_64, errno)

    def failure(self, code: int, errno: int) -> BaseException:
        """The exception for a failing result."""
        number = self._keep_error(errno)
        error = self.options.error
        if callable(error):
            exception = error(code)
            if not isinstance(exception, BaseException):
                raise TypeError(
                    f"{self.signature.name}(): error= must return an exception, not {reference.type_name(exception)}"
                )
            return exception
        name = self.signature.name
        match self.conversion.saved_error:
            case SavedError.NONE:
                return CallError(name, code)
            case SavedError.ERRNO if number:
                return OSError(number, os.strerror(number))
            case SavedError.LAST if number:
                explained: OSError = vars(ctypes)["WinError"](number)
                return explained
            case saved:
                what = "errno" if saved is SavedError.ERRNO else "last error"
                return OSError(0, f"{name}() failed with result {code} and set no {what}")

    def _keep_error(self, word: int) -> int:
        """Keep the system's error of a call that is judged; as the C int that it is."""
        number = ctypes.c_int(word).value
        if self.conversion.saved_error is not SavedError.NONE:
            LAST.errno = number
        return number

    def _box(self, which: int, word: int, length: int = 0) -> object:
        """What machine code leaves to Python: `word` is the pointer, or the address of a value of several words."""
        if not which:
            return boxing.box_word(self.signature.result, word, self, length)
        try:
            if not word:
                self._refuse_null(which)
            return boxing.box_word(self.outs[which - 1], word, self)
        except BaseException:
            # `length` is where the Outs lie, 16 bytes each
            words = [ctypes.c_uint64.from_address(length + 16 * index).value for index in range(len(self.outs))]
            self._free_outs(words, which)
            raise

    @property
    def outs(self) -> list[Result]:
        """What the Out parameters give back."""
        return [parameter.out for parameter in self.signature.parameters if parameter.out is not None]

    def _free_outs(self, words: list[int], which: int) -> None:
        """Release the Outs behind number `which`, which could not be read."""
        for out, word in list(zip(self.outs, words, strict=True))[which:]:
            if out.is_owned and word:
                boxing.release(self, word)

    def _judge(self, result: object, errno: int) -> None:
        self._keep_error(errno)
        predicate = self.options.fails_if
        assert callable(predicate)  # Judgement.PREDICATE
        if predicate(result):
            code = int(result) if isinstance(result, int) else 0
            raise self.failure(code, errno)


def _element(signature: FunctionType, position: int, kind: Unbox) -> type | None:
    """The ctypes class of what a pointer parameter points to, None for void and for values."""
    if kind is Unbox.STRING:
        return ctypes.c_char
    parameter = signature.parameters[position]
    if kind in (Unbox.BUFFER, Unbox.RECORD) and isinstance(parameter.python_type, type):
        return parameter.python_type
    if kind is Unbox.HANDLE and isinstance(parameter.python_type, type):
        pointee = getattr(parameter.python_type, "_type_", None)
        return pointee if isinstance(pointee, type) else None
    ctype = parameter.type
    if kind is Unbox.BUFFER and isinstance(ctype, Array):
        return ctypes_of(ctype.element, {})
    if kind is Unbox.BUFFER and isinstance(ctype, Pointer) and not isinstance(ctype.to, Void):
        return ctypes_of(ctype.to, {})
    return None


def judgement_of(options: Options, *, is_status: bool) -> Judgement:
    """When a result means failure: `fails_if`, or non-zero for a Status and wherever `error` is given.

    A function of Windows that leaves a last error gives FALSE or NULL.
    """
    fails_if = options.fails_if
    if fails_if is None and isinstance(options.error, str):
        return Judgement.ZERO
    if fails_if is None:
        return Judgement.NONZERO if is_status or options.error is not None else Judgement.NEVER
    if isinstance(fails_if, str):
        return JUDGEMENTS[fails_if]
    return Judgement.PREDICATE


JUDGEMENTS = {
    "negative": Judgement.NEGATIVE,
    "minus_one": Judgement.MINUS_ONE,
    "null": Judgement.ZERO,
    "nonzero": Judgement.NONZERO,
}
"""The names that `fails_if` takes."""
