"""Random structs and unions by value on both engines: as arguments, as results, as Out parameters.

"ms_abi" is the native engine with the calling convention of 64-bit Windows, which gcc compiles callees for on x86-64 too.

CALLGATE_STRUCTS is how many functions are drawn (2,000 by default, a third for each), CALLGATE_SEED the seed of the
first batch.  Callees built by gcc write down the bytes that reach them and return given ones; padding is not compared.
Each batch runs in a forked child, so that a crash is a failure with a name; a failing function is made smaller by
leaving arguments out before it is shown.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import callgate
from callgate.abi.plan import Class
from callgate.abi.sysv import eightbyte_classes
from callgate.c.types import CType, Pointer, Record
from callgate.target import X86_64_LINUX
from fuzz.classes import Classes, can_be_written, ctypes_scalar, words
from fuzz.generate import Index, Real, Whole
from fuzz.isolation import Watch, isolated
from fuzz.records import ENUMERATIONS
from fuzz.values import (
    BYTES,
    IS_COMPILED,
    MAXIMUM_SEEN,
    NOT_COMPILED,
    STRING,
    TARGET,
    Function,
    Value,
    as_ms_abi,
    call_by_ms_abi,
    compile_library,
    functions_of_sizes,
    python_functions,
    source,
)

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason=NOT_COMPILED)

ENGINES = ("native", "ctypes", *(["ms_abi"] if TARGET is X86_64_LINUX else []))
BATCH = 250
COUNT = int(os.environ.get("CALLGATE_STRUCTS", "2000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))


# -- ways to declare --------------------------------------------------------------------------------------------------


class Written:
    """Functions declared by annotations, and the classes of their records."""

    def __init__(self, path: Path, engine: str) -> None:
        self.library = callgate.load(str(path), engine=engine)
        self.classes = Classes()

    def function(self, function: Function, options: dict[str, Any]) -> Callable[..., Any]:
        arguments = [self.annotation(value.ctype) for value in function.arguments]
        outs = [callgate.Out[self.classes.annotation(value.ctype)] for value in function.outs]
        returned = self.classes.annotation(function.result.ctype) if function.result else None
        names = [f"a{index}" for index in range(len(arguments) + len(outs))]
        scope: dict[str, Any] = {}
        exec(f"def {function.name}({', '.join(names)}): ...", scope)
        declared = scope[function.name]
        declared.__annotations__ = dict(zip([*names, "return"], [*arguments, *outs, returned], strict=True))
        return self.library.function(**options)(declared)  # type: ignore[no-any-return]

    def annotation(self, ctype: CType) -> Any:
        match ctype:
            case Pointer(to=Record() as record, is_const=is_const):
                return (callgate.Readable if is_const else callgate.Writable)[self.classes.of(record)]
            case Pointer():
                return {STRING: callgate.cstr, BYTES: callgate.Readable[ctypes.c_ubyte]}[ctype]
        return self.classes.annotation(ctype)

    def class_of(self, record: Record) -> Any:
        return self.classes.of(record)

    def python(self, value: Value) -> Any:
        """The Python value of what lies in memory."""
        if isinstance(value.ctype, Record):
            return self.class_of(value.ctype).from_buffer_copy(value.image)
        if isinstance(value.ctype, Pointer) and isinstance(value.ctype.to, Record):
            return self.class_of(value.ctype.to).from_buffer_copy(value.image)
        if isinstance(value.ctype, Pointer):
            return value.image.rstrip(b"\0") if value.ctype == STRING else value.image
        return ctypes_scalar(value.ctype).from_buffer_copy(value.image).value


class Read(Written):
    """A function declared by C text, and the classes that the library makes of its records."""

    def __init__(self, path: Path, engine: str, function: Function) -> None:
        text = f"{ENUMERATIONS}{function.without_unused_records().records}{function.prototype};"
        self.library = callgate.load(str(path), text, engine=engine)

    def function(self, function: Function, options: dict[str, Any]) -> Callable[..., Any]:
        return getattr(self.library, function.name)  # type: ignore[no-any-return]

    def class_of(self, record: Record) -> Any:
        return getattr(self.library, record.name)


def is_writable(function: Function) -> bool:
    """Whether classes can say its types."""
    types = [*(value.ctype for value in (*function.arguments, *function.outs)), function.result_type]
    return all(can_be_written(ctype.to if isinstance(ctype, Pointer) else ctype) for ctype in types)


def is_readable(function: Function) -> bool:
    """Whether C text can say all of it: not what comes back through pointers, nor `#pragma pack`."""
    has_pointers = any(isinstance(value.ctype, Pointer) for value in function.arguments)
    return not function.outs and not has_pointers and "#pragma" not in function.without_unused_records().records


def draw_options(random: Random, function: Function) -> dict[str, Any]:
    """Options that make other code: the GIL released, errno saved, the result judged (none fails)."""
    options: dict[str, Any] = {}
    if random.random() < 0.25:
        options["blocking"] = True
    if function.result and random.random() < 0.2:
        options["fails_if"] = lambda _: False
    return options


def draw_passed(random: Random, value: Value, plain: Any) -> Any:
    """What is passed: sometimes not the plain object, so that the slow path converts."""
    if value.ctype == STRING:
        return plain.decode() if random.random() < 0.6 else plain
    if isinstance(value.ctype, Pointer) and isinstance(value.ctype.to, Record):
        return random.choice((lambda item: item, ctypes.pointer, ctypes.byref, lambda item: (type(item) * 1)(item)))(
            plain
        )
    if value.ctype == BYTES:
        return random.choice((bytes, bytearray, list, memoryview, ctypes.create_string_buffer))(plain)
    if random.random() > 0.05 or isinstance(value.ctype, Record):
        return plain
    if type(plain) is int:
        return random.choice((Index, Whole))(plain)
    return Real(plain) if type(plain) is float else plain


def has_garbage(value: Value, image: bytes) -> bool:
    """Whether bytes that no register of a result brings are not zero; by AAPCS64 registers bring all of them."""
    if TARGET is not X86_64_LINUX:
        return False
    classes = eightbyte_classes(value.ctype, X86_64_LINUX)
    if Class.X87 in classes:
        return any(image[10:])
    return any(any(image[8 * index : 8 * index + 8]) for index, one in enumerate(classes) if one is Class.NO_CLASS)


def image_of(value: Value, returned: object) -> bytes:
    """The memory of a Python value that came back."""
    if isinstance(value.ctype, Record):
        return bytes(returned)  # type: ignore[call-overload, no-any-return]
    return bytes(ctypes_scalar(value.ctype)(returned))


# -- one call ---------------------------------------------------------------------------------------------------------


def problems_of(
    function: Function, bound: Callable[..., Any], written: Written, library: ctypes.CDLL, random: Random
) -> list[str]:
    seen = (ctypes.c_char * MAXIMUM_SEEN).in_dll(library, "seen")
    objects = [draw_passed(random, value, written.python(value)) for value in function.arguments]
    before = [
        bytes(item) if isinstance(item, ctypes.Structure | ctypes.Union | ctypes.Array) else b"" for item in objects
    ]
    by_position = len(objects) - (random.randint(0, len(objects)) if random.random() < 0.1 else 0)
    by_name = {f"a{index}": item for index, item in enumerate(objects) if index >= by_position}
    returned = bound(*objects[:by_position], **by_name)
    problems = function.problems(seen.raw)
    if ctypes.c_ubyte.in_dll(library, "misaligned").value:
        problems.append("the stack was not aligned to 16 bytes")
    for index, (value, item, image) in enumerate(zip(function.arguments, objects, before, strict=True)):
        if image and bytes(item) != (bytes(~byte & 0xFF for byte in image) if value.is_inverted else image):
            problems.append(f"a{index} holds {bytes(item).hex(' ')} afterwards")
    expected = [*([function.result] if function.result else []), *function.outs]
    results = returned if len(expected) > 1 else (returned,)
    if not expected:
        return problems if returned is None else [*problems, f"{returned!r} came back"]
    for value, item in zip(expected, results, strict=True):
        image = image_of(value, item)
        if value.differs(image):
            problems.append(f"{words(item)} came back: {value.shown(image)}, expected {value.shown(value.image)}")
        is_in_registers = value is function.result and not function.attribute
        if is_in_registers and isinstance(value.ctype, Record) and has_garbage(value, image):
            problems.append(f"padding that nobody returned is not zero in {image.hex(' ')}")
        if isinstance(value.ctype, Record) and type(item) is not written.class_of(value.ctype):
            problems.append(f"a {type(item).__name__} came back")
    return problems


def problems_in(path: Path, engine: str, batch: Sequence[Function], watch: Watch) -> dict[int, str]:
    if engine == "ms_abi":  # the process is a child of its own
        call_by_ms_abi()
        engine = "native"
    library = ctypes.CDLL(str(path))
    written = Written(path, engine)
    found = {}
    for index, function in enumerate(batch):
        watch(index)
        random = Random(function.name + function.records)  # the same while arguments are left out
        options = draw_options(random, function)
        is_written = is_writable(function) and random.random() < 0.6
        try:
            way = written if is_written or not is_readable(function) else Read(path, engine, function)
            bound = way.function(function, options)
            problems = problems_of(function, bound, way, library, random)
            if callgate.gate(bound).engine != engine:
                problems.append(f"the engine is {callgate.gate(bound).engine}")
        except Exception:
            problems = [traceback.format_exc(limit=-3)]
        if problems:
            found[index] = "\n".join([*problems, f"options {', '.join(options) or 'none'}"])
    return found


# -- batches ----------------------------------------------------------------------------------------------------------


def built(batch: Sequence[Function], directory: Path, engine: str, optimization: int) -> dict[int, str]:
    with TemporaryDirectory(dir=directory) as folder:
        path = compile_library(source(batch), Path(folder), optimization)
        return isolated(lambda watch: problems_in(path, engine, batch, watch))


def smallest(function: Function, directory: Path, engine: str, optimization: int) -> tuple[Function, str]:
    """The function without the arguments that it fails without."""
    problem = built([function], directory, engine, optimization).get(0, "")
    candidates = [replace(function, result=None), replace(function, outs=())]
    index = len(function.arguments)
    while problem and (candidates or index):
        if not candidates:
            index -= 1
            rest = function.arguments[:index] + function.arguments[index + 1 :]
            candidates = [replace(function, arguments=rest)]
        candidate = candidates.pop()
        if still := built([candidate], directory, engine, optimization).get(0):
            function, problem = candidate, still
    return function.without_unused_records(), problem


@pytest.mark.parametrize("engine", ENGINES)
def test_random_structs(engine: str, tmp_path: Path) -> None:
    """The engines see functions of their own."""
    called = 0
    for number, done in enumerate(range(0, COUNT // 3, BATCH)):
        seed = SEED + len(ENGINES) * number + ENGINES.index(engine)
        drawn = python_functions(seed, min(BATCH, COUNT // 3 - done))
        batch = [function for function in drawn if is_writable(function) or is_readable(function)]
        if engine == "ms_abi":
            batch = as_ms_abi(batch)
        optimization = 2 * (number % 2)
        found = built(batch, tmp_path, engine, optimization)
        reports = []
        for index, problem in sorted(found.items())[:3]:
            small, words = smallest(batch[index], tmp_path, engine, optimization)
            reports.append(f"{small.records}{small.prototype}\n{words or problem}")
        assert not found, f"{engine}: {len(found)} of CALLGATE_SEED={seed} (-O{optimization}):\n" + "\n\n".join(reports)
        called += len(batch)
    print(f"{engine}: {called} functions, CALLGATE_SEED={SEED}", file=sys.stderr)
    assert called >= COUNT // 6


def test_structs_of_each_size(tmp_path: Path) -> None:
    """By the convention of Windows: what travels in a slot, and what by reference, in registers and behind them."""
    if "ms_abi" not in ENGINES:
        pytest.skip("gcc has that convention on x86-64 alone")
    batch = as_ms_abi(functions_of_sizes(SEED, range(1, 26)))
    assert len(batch) == 25
    for optimization in (0, 2):
        assert built(batch, tmp_path, "ms_abi", optimization) == {}
