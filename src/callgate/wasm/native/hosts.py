"""Imported functions: what Wasm code calls for a function of Python, of C or of another instance."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callgate.c.types import CallbackType, Parameter, Passing, Result, Returning
from callgate.runtime.callbacks import Callback
from callgate.wasm.compile.layout import area_of
from callgate.wasm.compile.stubs import HOST_BYTES, HOST_KEY, c_type, has_direct_stub
from callgate.wasm.host import HostFunction
from callgate.wasm.native.stubs import HOSTS, stubs
from callgate.wasm.native.words import Words, word_at
from callgate.wasm.store import Function, Store, pack, unpack
from callgate.wasm.types import REFERENCES, V128, FuncType

if TYPE_CHECKING:
    from callgate.wasm.native.core import Core


def host_words(core: Core, function: Any, signature: FuncType) -> tuple[int, int]:
    """Code and vmctx to call an imported function with."""
    core.kept.append(function)
    if isinstance(function, Function):
        if not {*signature.parameters, *signature.results}.isdisjoint(REFERENCES):
            function.owner.share()
            core.share_with(function.owner.store)
        return word_at(function.record).value, word_at(function.record + 8).value
    record = (Words * (HOST_BYTES // 8))()
    core.kept.append(record)
    address = ctypes.addressof(record)
    if function.address:
        record[2] = function.address
        return stubs().stub("host", signature), address
    if has_direct_stub(signature):
        callback = _callback_of(core, function, signature)
        core.kept.append(callback)
        record[2] = callback.address
        return stubs().stub("host", signature), address
    record[2] = stubs().host_callback.address
    record[HOST_KEY // 8] = address
    host = AreaHost(_bound(core, function), function, signature, core.store)
    HOSTS[address] = host
    core.kept.append(host)
    return stubs().stub("area_host", signature), address


def _callback_of(core: Core, function: HostFunction[..., Any], signature: FuncType) -> Callback:
    """What C calls for a host function; the same for all instances, if it doesn't want to know which."""
    if function.callback is not None:
        return function.callback  # type: ignore[no-any-return]
    declared = function.declared
    if declared is None:
        result = Parameter("", c_type(signature.results[0]), Passing.VALUE) if signature.results else None
        parameters = tuple([Result(c_type(value), Returning.VALUE) for value in signature.parameters])
        declared = CallbackType(function.name, parameters, result)
    callback = Callback(_bound(core, function), declared, "native")
    if not function.takes_instance and function.module:
        function.callback = callback
    return callback


def _bound(core: Core, function: HostFunction[..., Any]) -> Callable[..., Any]:
    """A host function's Python function, with the calling instance where it wants that."""
    if not function.takes_instance:
        return function.function
    plain, reference = function.function, weakref.ref(core)

    def call(*arguments: Any) -> Any:
        core = reference()
        assert core is not None  # it calls
        return plain(core.facade(), *arguments)

    return call


class AreaHost:
    """A host function that is called with the area."""

    __slots__ = ("__weakref__", "_arguments", "_call", "_name", "_results", "_store")

    def __init__(
        self, call: Callable[..., Any], function: HostFunction[..., Any], signature: FuncType, store: Store
    ) -> None:
        area = area_of(signature)
        self._call = call
        self._name = getattr(function, "__name__", function.name)
        self._store = store
        values = function.values or (None,) * len(signature.parameters)
        self._arguments = list(zip(signature.parameters, area.arguments, values, strict=True))
        self._results = list(zip(signature.results, (0, *area.results), strict=False))

    def __call__(self, area: int, first: int) -> None:
        arguments = [read_value(kind, area + offset, self._store) for kind, offset, _ in self._arguments]
        results = self._call(
            *[
                thing if value is None else value.present(thing)
                for thing, (_, _, value) in zip(arguments, self._arguments, strict=True)
            ]
        )
        where, count = f"the result of {self._name}()", len(self._results)
        if not count:
            return
        if count == 1:
            results = (results,)
        elif not isinstance(results, (tuple, list)):
            raise TypeError(f"{where} must be a tuple of {count} values, not {type(results).__name__}")
        elif len(results) != count:
            raise ValueError(f"{where} must be a tuple of {count} values, not of {len(results)}")
        for number, ((kind, offset), thing) in enumerate(zip(self._results, results, strict=True)):
            what = where if count == 1 else f"item {number} of {where}"
            write_value(kind, area + offset if number else first, thing, what, self._store)


def read_value(kind: int, address: int, store: Store) -> Any:
    """A value in memory as Python has it."""
    return unpack(kind, word_at(address).value, word_at(address + 8).value if kind == V128 else 0, store)


def write_value(kind: int, address: int, thing: Any, where: str, store: Store) -> None:
    """A Python value to memory; TypeError, OverflowError or ValueError for one that is none of the type."""
    low, high = pack(kind, thing, where, store)
    word_at(address).value = low
    if kind == V128:
        word_at(address + 8).value = high
