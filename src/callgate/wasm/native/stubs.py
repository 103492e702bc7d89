"""The code between C and Wasm in this process, one stub for each function type; the callbacks behind it."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callgate.asm.code import Code
from callgate.c.types import INT64, CallbackType, Parameter, Passing, Result, Returning
from callgate.errors import EngineError
from callgate.runtime.addresses import c_address
from callgate.runtime.callbacks import Callback
from callgate.runtime.code_memory import MEMORY, Block
from callgate.runtime.engine import native_engine
from callgate.target import HOST, Target
from callgate.wasm.compile.stubs import (
    lower_area_entry,
    lower_area_host,
    lower_common,
    lower_entry,
    lower_host,
)
from callgate.wasm.errors import TRAPS, ClosedError, UninitializedElement, add_frames
from callgate.wasm.native.backtraces import backtrace
from callgate.wasm.native.words import MASK
from callgate.wasm.types import FuncType

if TYPE_CHECKING:
    from callgate.wasm.native.core import Core
    from callgate.wasm.native.hosts import AreaHost


class Stubs:
    """The code between C and Wasm, one for each function type; the callbacks behind it."""

    def __init__(self) -> None:
        engine = native_engine()
        self._resolve_name = engine.address_of
        self._callbacks = {
            "wasm_trap": _callback("trap", 5, _trap, returns=False),
            "wasm_poll": _callback("poll", 1, _poll, returns=True),
            "wasm_raised": _callback("raised", 4, _raised, returns=False),
            "wasm_adopt": _callback("adopt", 2, _adopt, returns=True),
            "wasm_compile": _callback("compile", 2, _compile, returns=True),
            "wasm_move": _callback("move", 4, _move, returns=True),
            "wasm_fill": _callback("fill", 4, _fill, returns=True),
        }
        self.host_callback = _callback("host", 3, _call_host, returns=False)
        code = lower_common()
        self._common = self.publish(code)
        self.labels = {label: self._common.address + offset for label, offset in code.labels.items()}
        self._entries: dict[tuple[str, FuncType], Block] = {}

    def publish(self, code: Code, **symbols: int) -> Block:
        """Publish code; `symbols` are addresses besides those that are known here."""

        def resolve(symbol: str) -> int:
            if symbol in symbols:
                return symbols[symbol]
            if symbol in self._callbacks:
                return self._callbacks[symbol].address
            if symbol == "wasm_unwind":
                return self.labels["unwind"]
            if symbol in ("memmove", "memset"):
                return c_address(symbol)
            return self._resolve_name(symbol)

        return MEMORY.publish(code, resolve)

    def stub(self, kind: str, signature: FuncType) -> int:
        """The address of the entry, the area entry, the host or the area host stub for a type."""
        block = self._entries.get((kind, signature))
        if block is None:
            match kind:
                case "entry":
                    code = lower_entry(signature, _target())
                case "area_entry":
                    code = lower_area_entry(signature)
                case "host":
                    code = lower_host(signature, _target())
                case _:
                    code = lower_area_host(signature)
            block = self._entries.setdefault((kind, signature), self.publish(code))  # threads may race
        return block.address


def _target() -> Target:
    if HOST is None:
        raise EngineError("no calling convention is known for this machine")
    return HOST


_STUBS: list[Stubs] = []


def stubs() -> Stubs:
    """The process's stubs, made when first needed; where two threads make some, the first ones are used."""
    if not _STUBS:
        _STUBS.append(Stubs())
    return _STUBS[0]


def _callback(name: str, count: int, function: Callable[..., Any], *, returns: bool) -> Callback:
    """A callback that takes words."""
    result = Parameter("", INT64, Passing.VALUE) if returns else None
    declared = CallbackType(f"wasm_{name}", tuple(Result(INT64, Returning.VALUE) for _ in range(count)), result)
    return Callback(function, declared, "native")


# -- what code asks of Python -----------------------------------------------------------------------------------------

CORES: weakref.WeakValueDictionary[int, Core] = weakref.WeakValueDictionary()
"""Instances by the address of their vmctx."""
HOSTS: weakref.WeakValueDictionary[int, AreaHost] = weakref.WeakValueDictionary()
"""Host functions that are called with the area, by their record."""


def _trap(number: int, site: int, stack: int, activation: int, detail: int) -> None:
    trap = TRAPS[number]
    text = f"{trap.text} {detail & MASK}" if trap is UninitializedElement else trap.text
    raise trap(text, backtrace(site, stack, activation))


def _core_at(vmctx: int) -> Core:
    core = CORES.get(vmctx)
    if core is None:
        raise taken_apart()
    return core


def taken_apart() -> ClosedError:
    """For finalizers of a cycle with an instance in it, which the collector is taking apart."""
    return ClosedError("the instance is being taken apart by the garbage collector")


def _poll(vmctx: int) -> int:
    return _core_at(vmctx).poll()


def _adopt(vmctx: int, thread: int) -> int:
    return _core_at(vmctx).adopt(thread)


def _raised(problem: int, site: int, stack: int, activation: int) -> None:
    """An exception is about to leave WebAssembly code: tell it where it was."""
    add_frames(ctypes.cast(problem, ctypes.py_object).value, backtrace(site, stack, activation))


def _compile(vmctx: int, record: int) -> int:
    return _core_at(vmctx).compile_function(record)


def _move(vmctx: int, to: int, source: int, count: int) -> int:
    _core_at(vmctx).move(to, source, count)
    return 1


def _fill(vmctx: int, to: int, byte: int, count: int) -> int:
    _core_at(vmctx).fill(to, byte, count)
    return 1


def _call_host(area: int, record: int, first: int) -> None:
    """A host function of a type that C functions don't have; the first result goes to an address of its own."""
    host = HOSTS.get(record)
    if host is None:
        raise taken_apart()
    host(area, first)
