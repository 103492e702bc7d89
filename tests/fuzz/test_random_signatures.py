"""Random signatures on both engines, against callees built by gcc.

CALLGATE_SIGNATURES is how many (10,000 by default, half on each engine), CALLGATE_SEED the seed of the first batch.  A
failure says how to repeat its batch.  A long run, with progress on stderr:

    CALLGATE_SIGNATURES=1000000 CALLGATE_SEED=$RANDOM python -m pytest -s tests/fuzz/test_random_signatures.py

Each batch runs in a forked child, so that a crash is a failure with a name too.  A failing signature is made smaller
by leaving arguments out before it is shown.  (The file is long because it holds three things that are of no use alone:
the ways to call, the judgement of one call, the batches.)
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import callgate
from fuzz.generate import signatures, strategy
from fuzz.isolation import Watch, isolated
from oracle.abi_targets import (
    BY_SPELLING,
    COMPILER,
    SEEN_BYTES,
    SLOT_BYTES,
    Argument,
    Kind,
    Observed,
    Options,
    Returned,
    Signature,
    build,
)

pytestmark = pytest.mark.skipif(
    not (shutil.which(COMPILER[0]) and hasattr(os, "fork") and sys.maxsize > 1 << 32 and sys.byteorder == "little"),
    reason=f"needs {COMPILER[0]}, fork and a 64-bit little-endian machine",
)

ENGINES = ("native", "ctypes")
PLAIN = "plain ctypes"
BATCH = 500
COUNT = int(os.environ.get("CALLGATE_SIGNATURES", "10000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))

Bind = Callable[[Path, Sequence[Signature]], Callable[[Signature], Callable[..., object]]]
"""Makes callable what a library holds: the engines of callgate, or plain ctypes for the check of the oracle itself."""


# -- ways to call -----------------------------------------------------------------------------------------------------


def bind_callgate(engine: str) -> Bind:
    def bind(path: Path, batch: Sequence[Signature]) -> Callable[[Signature], Callable[..., object]]:
        text = "\n".join(signature.prototype for signature in batch if not signature.options)
        library = callgate.load(str(path), text or None, engine=engine)

        def function_of(signature: Signature) -> Callable[..., object]:
            if signature.options:
                function = library.function(**keyword_options(signature.options))(annotated(signature))
            else:
                function = getattr(library, signature.name)
            assert callgate.gate(function).engine == engine
            return function

        return function_of

    return bind


class Failure(Exception):
    """What `error=` makes of a result."""


def keyword_options(options: Options) -> dict[str, Any]:
    """The keywords of `library.function`."""
    keywords: dict[str, Any] = {}
    if options.is_blocking:
        keywords["blocking"] = True
    if options.fails_if:
        answer = options.predicate_answer
        keywords["fails_if"] = (lambda _: answer) if options.fails_if == "predicate" else options.fails_if
    if options.has_error:
        keywords["error"] = Failure
    return keywords


def annotated(signature: Signature) -> Callable[..., object]:
    """The declaration of a signature as a function of Python."""
    names = [f"a{index}" for index in range(len(signature.arguments))]
    scope: dict[str, Any] = {}
    exec(f"def {signature.name}({', '.join(names)}): ...", scope)
    annotations = [*map(annotation_of_argument, signature.arguments), annotation_of_result(signature)]
    function = scope[signature.name]
    function.__annotations__ = dict(zip([*names, "return"], annotations, strict=True))
    return function


def annotation_of_argument(argument: Argument) -> Any:
    if argument.out:
        return callgate.Out[annotation_of_returned(argument.out)]
    if argument.scalar:
        return argument.scalar.ctypes_class
    if argument.observed is Observed.STRING:
        return callgate.cstr | None
    if argument.observed is Observed.WIDE_STRING:
        return callgate.wstr | None
    pointee = argument.spelling.removesuffix("*").removeprefix("const ").strip()
    if pointee == "void" and argument.observed is Observed.VALUE:
        return callgate.Ptr[None] | None
    element = None if pointee == "void" else BY_SPELLING[pointee].ctypes_class
    marker = callgate.Readable if argument.spelling.startswith("const ") else callgate.Writable
    return marker[element] | None


def annotation_of_returned(returned: Returned) -> Any:
    match returned.kind:
        case Kind.NOTHING:
            return None
        case Kind.STRING:
            return bytes | None
        case Kind.DECODED:
            return str | None
        case Kind.WIDE_STRING:
            return callgate.wstr | None
        case Kind.POINTER:
            return callgate.Ptr[returned.scalar and returned.scalar.ctypes_class] | None
    assert returned.scalar
    return returned.scalar.ctypes_class


def annotation_of_result(signature: Signature) -> Any:
    if signature.options and signature.options.is_status:
        return callgate.Status
    return annotation_of_returned(signature.returned)


def address_of(thing: object) -> int | None:
    """The address that a pointer argument stands for, found without callgate."""
    match thing:
        case None | int():
            return thing
        case bytes() | ctypes.c_char_p() | ctypes.c_void_p():
            return ctypes.cast(thing, ctypes.c_void_p).value
    memory = memory_of(thing)
    if memory.readonly:
        return ctypes.cast(memory.obj, ctypes.c_void_p).value
    return ctypes.addressof((ctypes.c_char * memory.nbytes).from_buffer(memory))


def bind_ctypes(path: Path, batch: Sequence[Signature]) -> Callable[[Signature], Callable[..., object]]:
    library = ctypes.CDLL(str(path))

    def function_of(signature: Signature) -> Callable[..., object]:
        returned = signature.returned
        pointee = returned.scalar and returned.scalar.ctypes_class
        function = library[signature.name]
        function.restype = {
            Kind.NOTHING: None,
            Kind.STRING: ctypes.c_char_p,
            Kind.WIDE_STRING: ctypes.c_wchar_p,
            Kind.POINTER: ctypes.POINTER(pointee) if pointee else ctypes.c_void_p,
        }.get(returned.kind, pointee)

        def call(*objects: object, **named: object) -> object:
            kept: list[object] = []
            for argument, thing in zip(signature.arguments, (*objects, *named.values()), strict=True):
                if argument.scalar:
                    kept.append(argument.scalar.ctypes_class(argument.plain))
                elif isinstance(thing, str):
                    is_wide = argument.spelling == "const wchar_t *"
                    kept.append(ctypes.c_wchar_p(thing) if is_wide else ctypes.c_char_p(thing.encode()))
                elif isinstance(thing, list):
                    kept.append(ctypes.create_string_buffer(argument.seen, SLOT_BYTES))
                else:
                    kept.append(ctypes.c_void_p(address_of(thing)))
            result = function(*kept)
            if returned.kind is not Kind.POINTER:
                return result
            if not pointee:  # an int or None
                return ctypes.c_void_p(result) if result else None
            return result or None

        return call

    return function_of


# -- one call ---------------------------------------------------------------------------------------------------------


def memory_of(thing: object) -> memoryview:
    """The memory behind a buffer, a byref or a pointer."""
    if isinstance(thing, ctypes._Pointer):
        thing = thing.contents
    return memoryview(getattr(thing, "_obj", thing)).cast("B")  # type: ignore[arg-type]


def results_problem(signature: Signature, result: object) -> str:
    """What is wrong with what a call returned, or ""."""
    if signature.failure:
        return f"returned {result!r}, expected {signature.failure}"
    expected = signature.results
    if not expected:
        return "" if result is None else f"result {result!r}, expected None"
    if len(expected) == 1:
        return result_problem(expected[0], result)
    if type(result) is not tuple or len(result) != len(expected):
        return f"result {result!r}, expected a tuple of {len(expected)}"
    return "\n".join(filter(None, map(result_problem, expected, result)))


def failure_problem(signature: Signature, exception: Exception) -> str:
    """What is wrong with an exception, or ""."""
    failure = (type(exception).__name__, exception.args[0] if exception.args else None)
    if isinstance(exception, OSError):
        failure = ("OSError", exception.errno)
    elif isinstance(exception, callgate.CallError):
        failure = ("CallError", exception.code)
    if failure == signature.failure:
        return ""
    return "".join(traceback.format_exception(exception, limit=-1)) + f"expected {signature.failure or 'none'}"


def result_problem(returned: Returned, result: object) -> str:
    """What is wrong with one value, or ""."""
    expected = returned.python
    if returned.kind is Kind.POINTER and expected is not None:
        pointee = returned.scalar and returned.scalar.ctypes_class
        cls = ctypes.POINTER(pointee) if pointee else ctypes.c_void_p
        is_right = isinstance(result, cls) and ctypes.cast(result, ctypes.c_void_p).value == expected
        expected = f"{cls.__name__} to {expected:#x}"
        if is_right or not isinstance(result, (ctypes._Pointer, ctypes.c_void_p)):
            return "" if is_right else f"result {result!r}, expected {expected}"
        return f"result {result!r} to {ctypes.cast(result, ctypes.c_void_p).value or 0:#x}, expected {expected}"
    is_right = type(result) is type(expected) and result == expected
    if isinstance(expected, float) and isinstance(result, float):
        both_nan = math.isnan(expected) and math.isnan(result)
        is_right = both_nan or struct.pack("<d", expected) == struct.pack("<d", result)
    return "" if is_right else f"result {result!r}, expected {expected!r}"


def problem_of(signature: Signature, function: Callable[..., object], library: ctypes.CDLL) -> str:
    """Call the function and tell all that is wrong, or ""."""
    seen = (ctypes.c_char * SEEN_BYTES).in_dll(library, "seen")
    ctypes.memset(seen, 0, SEEN_BYTES)
    arguments = signature.passed
    objects = {name: argument.make() for name, argument in arguments.items()}
    by_position = len(objects) - signature.keyword_count
    problems = []
    try:
        result = function(*[*objects.values()][:by_position], **dict([*objects.items()][by_position:]))
    except Exception as exception:
        problems.append(failure_problem(signature, exception))
    else:
        problems.append(results_problem(signature, result))
    if seen.raw != signature.seen:
        for index in range(SEEN_BYTES // SLOT_BYTES):
            slot = slice(SLOT_BYTES * index, SLOT_BYTES * (index + 1))
            if seen.raw[slot] != signature.seen[slot]:
                problems.append(f"a{index} seen {seen.raw[slot].hex(' ')}, expected {signature.seen[slot].hex(' ')}")
    for name, argument in arguments.items():
        written = argument.written
        if written and memory_of(objects[name])[: len(written)].tobytes() != written:
            problems.append(f"{name} holds {memory_of(objects[name]).hex(' ')}, expected {written.hex(' ')} there")
    if ctypes.c_ubyte.in_dll(library, "misaligned").value:
        problems.append("the stack was not aligned to 16 bytes")
    return "\n".join(filter(None, problems))


def problems_in(bind: Bind, path: Path, batch: Sequence[Signature], watch: Watch) -> dict[int, str]:
    """The problems of a batch by the signature's place; `watch` hears what is called next."""
    problems = {}
    library = ctypes.CDLL(str(path))
    function_of = bind(path, batch)
    for index, signature in enumerate(batch):
        watch(index)
        try:
            function = function_of(signature)
        except Exception:
            problems[index] = traceback.format_exc(limit=-1)
            continue
        if problem := problem_of(signature, function, library):
            problems[index] = problem
    return problems


def as_called(engine: str, batch: Sequence[Signature]) -> list[Signature]:
    """What may be asked of an engine: annotations of callgate, promotion on the stack of all but libffi."""
    if engine == PLAIN:
        batch = [signature for signature in batch if not signature.options]
    return [signature if engine == "native" else signature.without_promotion() for signature in batch]


# -- batches ----------------------------------------------------------------------------------------------------------


def built(batch: Sequence[Signature], directory: Path, bind: Bind, optimization: int) -> dict[int, str]:
    """Build a batch, call all of it, and leave nothing behind."""
    with TemporaryDirectory(dir=directory) as folder:
        path = build(batch, Path(folder), optimization)
        return isolated(lambda watch: problems_in(bind, path, batch, watch))


def smallest(signature: Signature, bind: Bind, directory: Path, optimization: int) -> tuple[Signature, str]:
    """A failing signature without the arguments that it fails without, and its problem."""

    def attempt(candidate: Signature) -> str:
        return built([candidate], directory, bind, optimization).get(0, "")

    problem = attempt(signature)
    if not problem:
        return signature, ""
    plain = replace(signature.options, is_blocking=False) if signature.options else None
    candidates = [replace(signature, options=plain), replace(signature, keyword_count=0)]
    index = len(signature.arguments)
    while candidates or index:
        if not candidates:
            index -= 1
            rest = signature.arguments[:index] + signature.arguments[index + 1 :]
            candidate = replace(signature, arguments=rest)
            candidates = [replace(candidate, keyword_count=min(signature.keyword_count, len(candidate.passed)))]
        candidate = candidates.pop()
        if still := attempt(candidate):
            signature, problem = candidate, still
    return signature, problem


def description(signature: Signature, problem: str) -> str:
    arguments = ", ".join(f"{argument.make()!r}" for argument in signature.passed.values())
    by_name = f"  # the last {signature.keyword_count} by name" if signature.keyword_count else ""
    declared = signature.prototype
    if signature.options:
        declared = f"{annotated(signature).__annotations__}\n{keyword_options(signature.options)}"
    return f"{declared}\n{signature.name}({arguments}){by_name}\n{problem}\n\n{signature.definition}"


def check(bind: Bind, engine: str, count: int, directory: Path, offset: int, step: int) -> None:
    """Draw, build and call `count` signatures; fail with the problems of the first batch that has any, made small.

    Batch n is drawn from SEED + n * step + offset, so that engines see signatures of their own.
    """
    started = monotonic()
    reports: list[str] = []
    for batch_number, done in enumerate(range(0, count, BATCH)):
        base = SEED + batch_number * step
        seed = base + offset
        optimization = base // step % 2
        batch = as_called(engine, signatures(seed, min(BATCH, count - done)))
        for index, problem in built(batch, directory, bind, optimization).items():
            if len(reports) < 5:
                small, words = smallest(batch[index], bind, directory, optimization)
                if not words:
                    small, words = batch[index], f"only after the {index} functions before it: {problem}"
                again = f"CALLGATE_SEED={base} CALLGATE_SIGNATURES={2 * BATCH}"
                reports.append(f"{engine}, f{index} of {again} (-O{optimization}):\n{description(small, words)}")
        if count >= 20 * BATCH and batch_number % 10 == 9:
            rate = (done + BATCH) / (monotonic() - started)
            print(
                f"{engine}: {done + BATCH:,} of {count:,} signatures, {rate:.0f}/s, CALLGATE_SEED={base}",
                file=sys.stderr,
            )
        if reports:
            break
    assert not reports, "\n\n".join(reports)


def test_the_oracle_agrees_with_plain_ctypes(tmp_path: Path) -> None:
    check(bind_ctypes, PLAIN, min(BATCH, COUNT), tmp_path, 0, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_random_signatures(engine: str, tmp_path: Path) -> None:
    """The engines take turns: even batches are native, odd ones ctypes."""
    check(bind_callgate(engine), engine, COUNT // 2, tmp_path, ENGINES.index(engine), len(ENGINES))


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(strategy(), min_size=1, max_size=6), engine=st.sampled_from(ENGINES))
def test_signatures_that_shrink(tmp_path_factory: pytest.TempPathFactory, batch: list[Signature], engine: str) -> None:
    named = [replace(signature, name=f"f{index}") for index, signature in enumerate(batch)]
    batch = as_called(engine, named)
    problems = built(batch, tmp_path_factory.mktemp("shrinking"), bind_callgate(engine), 0)
    assert not problems, "\n\n".join(description(batch[index], problem) for index, problem in problems.items())
