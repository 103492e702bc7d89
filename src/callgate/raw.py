"""Calls without types: words to any address, on the thread's stack or on one of their own.

Nothing is declared, so nothing is checked but that words are words: a wrong address or a wrong argument ends the
process or worse.  What has a declaration is better called through it.

>>> import callgate
>>> from callgate import raw
>>> labs = callgate.load("c", "long labs(long n);").labs
>>> raw.call(callgate.gate(labs).address, -5)
5
>>> stack = callgate.Stack(1 << 16)
>>> raw.call_on(stack, callgate.gate(labs).address, -6)
6
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import wraps
from operator import index
from typing import Any, NoReturn, TypeVar

from callgate.errors import EngineError
from callgate.lower.raw import MOST_WORDS
from callgate.lower.stacks import has_stacks
from callgate.runtime.callbacks import PENDING
from callgate.runtime.engine import choose, is_native_asked_for
from callgate.runtime.reference import type_name
from callgate.runtime.stack import Stack
from callgate.target import DATA_MODEL

__all__ = ["call", "call_on"]

_F = TypeVar("_F", bound=Callable[..., int])


def call(address: int, /, *words: int) -> int:
    """Call the C function at an address with 0 to 32 words; its result, read as a signed word.

    A word is an int from -2**63 to 2**64 - 1; the result is one from -2**63 on (`& 2**64 - 1` reads it as unsigned).
    The GIL is held.  With CALLGATE_ENGINE=ctypes, and where no machine code can be made, ctypes calls.

    Raises TypeError for what is no int and for too many words, OverflowError for an int that is no word, ValueError
    for the address 0, and what a callback raised.
    """
    return _call(*(_word("call", number, thing) for number, thing in enumerate((address, *words))))


def call_on(stack: Stack, address: int, /, *words: int) -> int:
    """The same on a stack of its own.

    What C calls back runs on the thread's stack again.  An overflow ends the process with a message.  Where ctypes
    calls, the call runs on the thread's own stack.  Raises RuntimeError where a call is running on the stack already,
    in another thread or further out in this one.
    """
    if type(stack) is not Stack:
        _call_on_refuses_stack(stack)
    given = [_word("call_on", number, thing) for number, thing in enumerate((address, *words), 1)]
    stack._claim()
    try:
        return _call(*given)
    finally:
        stack._release()


def _call(address: int, *words: int) -> int:
    """The call by ctypes."""
    function = ctypes.PYFUNCTYPE(ctypes.c_int64, *(ctypes.c_uint64,) * len(words))(address)
    PENDING.enter()
    try:
        result: int = function(*words)
    finally:
        PENDING.leave()
    return result


def _word(function: str, position: int, thing: object) -> int:
    """The word for an argument that machine code does not read itself."""
    where = f"{function}() argument {position + 1}"
    if not hasattr(thing, "__index__"):
        raise TypeError(f"{where} must be int, not {type_name(thing)}")
    number = index(thing)
    if not -(1 << 63) <= number < 1 << 64:
        raise OverflowError(f"{where} must be in {-(1 << 63)}..{(1 << 64) - 1} (a word), not {_shown(number)}")
    if not number and position == _ADDRESS[function]:
        raise ValueError(f"{where} must be the address of a function, not 0")
    return number


_ADDRESS = {"call": 0, "call_on": 1}
"""Which argument is the address."""


def _shown(number: int) -> str:
    """An int as messages show it: long ones by their size."""
    return str(number) if number.bit_length() <= 128 else f"an int of {number.bit_length()} bits"


def _check_count(function: str, fixed: int, count: int) -> None:
    if count < fixed:
        raise TypeError(f"{function}() takes at least {fixed} argument{'s' * (fixed > 1)} ({count} given)")
    if count > fixed + MOST_WORDS:
        raise TypeError(f"{function}() takes at most {fixed + MOST_WORDS} arguments ({count} given)")


# -- what machine code calls ---------------------------------------------------------------------------
def _call_word(position: int, thing: object) -> int:
    return _word("call", position, thing)


def _call_on_word(position: int, thing: object) -> int:
    return _word("call_on", position, thing)


def _call_refuses_count(count: int) -> None:
    _check_count("call", 1, count)


def _call_on_refuses_count(count: int) -> None:
    _check_count("call_on", 2, count)


def _call_on_refuses_stack(thing: object) -> NoReturn:
    if type(thing) is Stack:
        raise TypeError("call_on() argument 1 must be a Stack that Stack(size_bytes) made")
    raise TypeError(f"call_on() argument 1 must be Stack, not {type_name(thing)}")


def _installed(reference: _F, fixed: int) -> _F:
    """The builtin in place of a function above, where machine code can be made; `fixed` arguments come before words."""
    parameters = f"({'stack, ' * (fixed - 1)}address, /, *words)"
    try:
        native = choose(None)
        if native is not None and (reference.__name__ == "call" or has_stacks(DATA_MODEL)):
            return native.install_raw(sys.modules[__name__], reference, parameters)
    except EngineError:
        if is_native_asked_for(None):
            raise

    @wraps(reference)
    def counted(*given: Any) -> int:
        _check_count(reference.__name__, fixed, len(given))
        return reference(*given)

    del counted.__wrapped__  # it tells of parameters as the builtin does
    counted.__text_signature__ = parameters  # type: ignore[attr-defined]
    return counted  # type: ignore[return-value]


call = _installed(call, 1)
call_on = _installed(call_on, 2)
