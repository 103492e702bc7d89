"""Random variadic calls on both engines: a callee built by gcc takes its arguments with va_arg as a format says.

"ms_abi" is the native engine with the calling convention of 64-bit Windows, which gcc compiles callees for here too; not
for variable arguments that are structs, which gcc's va_arg then looks for in the wrong place.

CALLGATE_VARIADICS is how many calls are drawn (4,000 by default, a third for each engine), CALLGATE_SEED the seed of the
first batch.  A letter of the format is one argument:

    i u  int, unsigned int     l m  long, unsigned long     d  double     D  long double
    p    void *                s    const char *            A B C …  a struct or union of the batch
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import ascii_uppercase
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import callgate
from callgate.c import types as c
from callgate.c.types import spell
from callgate.target import X86_64_LINUX
from fuzz.classes import Classes, can_be_written, ctypes_scalar, words
from fuzz.generate import Index, Real, Whole, draw_float, draw_int
from fuzz.isolation import Watch, isolated
from fuzz.records import ENUMERATIONS, Drawn
from fuzz.values import (
    FILL,
    IS_COMPILED,
    MAXIMUM_SEEN,
    NOT_COMPILED,
    PRELUDE,
    TARGET,
    Value,
    call_by_ms_abi,
    compile_library,
    draw_by_value,
    draw_value,
)
from oracle.abi_targets import LONG_DOUBLE_BYTES, long_double

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason=NOT_COMPILED)

ENGINES = ("native", "ctypes", *(["ms_abi"] if TARGET is X86_64_LINUX else []))
BATCH = 500
COUNT = int(os.environ.get("CALLGATE_VARIADICS", "4000"))
SEED = int(os.environ.get("CALLGATE_SEED", "1"))
RECORDS = ascii_uppercase.replace("D", "")[:12]
STRING_BYTES = 16


@dataclass(frozen=True, slots=True)
class Passed:
    """One variable argument: its letter in the format, how Python passes it, and what the callee must see."""

    letter: str
    make: Callable[[Classes], Any]
    seen: Value


def value(ctype: c.CType, image: bytes) -> Value:
    return Value(ctype, image, b"\xff" * len(image))


def draw_integer(random: Random) -> Passed:
    """An int of Python is C's int; others say their type, and the narrow ones are promoted (C11 6.5.2.2p6-7)."""
    if random.random() < 0.4:
        number = draw_int(random, -(1 << 31), (1 << 31) - 1)
        passed: Any = number
        if random.random() < 0.2:
            passed = bool(number) if number in (0, 1) else random.choice((Index, Whole))(number)
        return Passed("i", lambda _: passed, value(c.INT, struct.pack("<i", number)))
    cls: Any = random.choice(
        (
            *(ctypes.c_byte, ctypes.c_ubyte, ctypes.c_short, ctypes.c_ushort, ctypes.c_int, ctypes.c_uint),
            *(ctypes.c_long, ctypes.c_ulong, ctypes.c_int64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_bool),
        )
    )
    size = ctypes.sizeof(cls)
    is_unsigned = cls(-1).value > 0
    bits = 1 if cls is ctypes.c_bool else 8 * size
    number = (
        draw_int(random, 0, (1 << bits) - 1) if is_unsigned else draw_int(random, -(1 << bits - 1), (1 << bits - 1) - 1)
    )
    letter = ("m" if is_unsigned else "l") if size == 8 else ("u" if size == 4 and is_unsigned else "i")
    return Passed(
        letter,
        lambda _: cls(number),
        value(c.LONG if size == 8 else c.INT, number.to_bytes(max(4, size), "little", signed=number < 0)),
    )


def draw_floating(random: Random) -> Passed:
    """A float is double, c_float is promoted to it."""
    number = draw_float(random)
    match random.randrange(10):
        case 3:
            return Passed("d", lambda _: Real(number), value(c.DOUBLE, struct.pack("<d", number)))
        case 0:
            number = float(random.randint(-1000, 1000)) / 8
            return Passed("d", lambda _: ctypes.c_float(number), value(c.DOUBLE, struct.pack("<d", number)))
        case 1:
            return Passed("D", lambda _: ctypes.c_longdouble(number), value(c.LONG_DOUBLE, long_double(number)))
        case 2:
            return Passed("d", lambda _: ctypes.c_double(number), value(c.DOUBLE, struct.pack("<d", number)))
        case _:
            return Passed("d", lambda _: number, value(c.DOUBLE, struct.pack("<d", number)))


def draw_pointer(random: Random) -> Passed:
    """Strings, memory, addresses and NULL."""
    number = draw_int(random, 0, (1 << 64) - 1)
    address = value(c.VOID_POINTER, number.to_bytes(8, "little"))
    text = "".join(random.choice("aé€z ") for _ in range(random.randrange(8)))
    data = bytes(random.randint(1, 255) for _ in range(random.randrange(STRING_BYTES)))
    as_text = value(c.VOID_POINTER, text.encode()[:STRING_BYTES].ljust(STRING_BYTES, b"\0"))
    as_data = value(c.VOID_POINTER, data.ljust(STRING_BYTES, b"\0"))
    pointed = ctypes.create_string_buffer(data, 2 * STRING_BYTES)
    choices = (
        Passed("s", lambda _: text, as_text),
        Passed("s", lambda _: data, as_data),
        Passed("s", lambda _: ctypes.c_char_p(data), as_data),
        Passed("s", lambda _: ctypes.create_string_buffer(data, 2 * STRING_BYTES), as_data),
        Passed("s", lambda _: ctypes.pointer(pointed), as_data),
        Passed("s", lambda _: ctypes.byref(pointed), as_data),
        Passed("p", lambda _: ctypes.c_void_p(number), address),
        Passed("p", lambda _: None, value(c.VOID_POINTER, bytes(8))),
    )
    return random.choice(choices)


def draw_record(random: Random, letter: str, drawn: Drawn) -> Passed:
    image = draw_value(random, drawn.record)
    return Passed(letter, lambda classes: classes.of(drawn.record).from_buffer_copy(image.image), image)


def draw_call(random: Random, records: dict[str, Drawn], engine: str) -> list[Passed]:
    """The variable arguments of a call."""
    call = draw_any_call(random, records)
    if engine == "ms_abi":
        call = [passed for passed in call if passed.letter != "D" and passed.letter not in records]
    return call


def draw_any_call(random: Random, records: dict[str, Drawn]) -> list[Passed]:
    count = random.randint(0, random.choice((2, 6, 20)))
    weights = random.choice(((1, 1, 1, 1), (1, 8, 1, 1), (8, 1, 0, 0), (0, 1, 0, 0), (2, 2, 2, 0)))
    draws = (
        draw_integer,
        draw_floating,
        draw_pointer,
        lambda random: draw_record(random, *random.choice([*records.items()])),
    )
    return [random.choices(draws, weights)[0](random) for _ in range(count)]


def draw_records(random: Random) -> dict[str, Drawn]:
    """The records of a batch by letter."""
    found: dict[str, Drawn] = {}
    while len(found) < len(RECORDS):
        letter = RECORDS[len(found)]
        drawn = draw_by_value(random, letter)
        if can_be_written(drawn.record):
            found[letter] = drawn
    return found


# -- C ----------------------------------------------------------------------------------------------------------------

FIXED = ("i", "d", "p", "iiiii", "dddddddd", "A", "diA")
"""The parameters before the format of each callee, by letter."""
TYPES = {"i": c.INT, "u": c.UNSIGNED_INT, "l": c.LONG, "m": c.UNSIGNED_LONG, "d": c.DOUBLE, "D": c.LONG_DOUBLE}


MS_ABI_LISTS = """
#undef va_copy
#undef va_start
#undef va_end
#define va_list __builtin_ms_va_list
#define va_copy(list, other) list = other  /* gcc copies one of System V outside of such a function */
#define va_start __builtin_ms_va_start
#define va_end(list)
"""


def source(records: dict[str, Drawn], engine: str) -> str:
    """The callees `take0`, `take1`, …: they differ in the parameters before the format."""
    cases = [
        f"case '{letter}': {{ {spell(ctype, 'x')} = va_arg(list, {spell(ctype)}); SEE(x, {LONG_DOUBLE_BYTES if letter == 'D' else 'sizeof x'}); }}"
        for letter, ctype in TYPES.items()
    ]
    is_ms_abi = engine == "ms_abi"
    cases += [
        f"case '{letter}': {{ {spell(one.record, 'x')} = va_arg(list, {spell(one.record)}); SEE(x, sizeof x); }}"
        for letter, one in records.items()
    ]
    callees = []
    for number, fixed in enumerate(FIXED):
        parameters = [spell(type_of(letter, records), f"a{index}") for index, letter in enumerate(fixed)]
        seen = "".join(f" SEE(a{index}, sizeof a{index});" for index in range(len(fixed)))
        callees.append(
            f"{'__attribute__((ms_abi)) ' * is_ms_abi}long take{number}({', '.join(parameters)}, const char *format, ...)\n"
            "{\n    START\n    va_list list;\n    unsigned char *next = seen;\n"
            f"   {seen}\n    va_start(list, format);\n    take(next, format, &list);\n    va_end(list);\n    scramble();\n    return -7;\n}}\n"
        )
    return f"""{PRELUDE}
#include <stdarg.h>
{MS_ABI_LISTS * is_ms_abi}
#define SEE(x, size) memcpy(next, &x, size); next += size; break
{"".join(one.text + chr(10) for one in records.values())}
typedef struct {{ va_list list; }} *lists;
static void take(unsigned char *next, const char *format, va_list *passed)
{{
    va_list list;
    va_copy(list, *passed);
    for (; *format; format++)
        switch (*format) {{
        {chr(10).join("        " + case for case in cases).strip()}
        case 'p': {{ void *x = va_arg(list, void *); SEE(x, sizeof x); }}
        case 's': {{ char x[{STRING_BYTES}]; strncpy(x, va_arg(list, const char *), sizeof x); SEE(x, sizeof x); }}
        }}
    va_end(list);
}}
#undef SEE
#define SEE(x, size) memcpy(next, &x, size); next += size
{"".join(callees)}
/* how many vector registers the caller says that it used, where it does */
#ifdef __x86_64__
long vectors(const char *format, ...);
__asm__(".globl vectors\\n vectors:\\n movzbl %al, %eax\\n ret");
#else
long vectors(const char *format, ...) {{ return 8; }}
#endif
"""


def type_of(letter: str, records: dict[str, Drawn]) -> c.CType:
    if letter in records:
        return records[letter].record
    return c.VOID_POINTER if letter == "p" else TYPES[letter]


# -- calls ------------------------------------------------------------------------------------------------------------


class Take:
    """A callee as Python declares it; every third by C text, every third with `blocking=True`."""

    def __init__(self, path: Path, engine: str, number: int, records: dict[str, Drawn], classes: Classes) -> None:
        fixed = FIXED[number]
        self.types = [type_of(letter, records) for letter in fixed]
        names = [f"a{index}" for index in range(len(fixed))]
        is_text = number % 3 == 2 and not any(
            "#pragma" in records[letter].text for letter in fixed if letter in records
        )
        if is_text:
            parameters = ", ".join(map(spell, self.types, names))
            texts = "".join(records[letter].text for letter in set(fixed) if letter in records)
            text = f"{ENUMERATIONS}{texts}long take{number}({parameters}, const char *format, ...);"
            library = callgate.load(str(path), text, engine=engine)
            self.class_of = lambda record: getattr(library, record.name)
            self.call = getattr(library, f"take{number}")
            return
        scope: dict[str, Any] = {}
        exec(f"def take{number}({', '.join(names)}, format, *values): ...", scope)
        function = scope[f"take{number}"]
        annotations = [
            callgate.Ptr[None] | None if ctype == c.VOID_POINTER else classes.annotation(ctype) for ctype in self.types
        ]
        function.__annotations__ = {
            **dict(zip(names, annotations, strict=True)),
            "format": callgate.cstr,
            "values": callgate.VarArg,
            "return": callgate.long,
        }
        library = callgate.load(str(path), engine=engine)
        self.class_of = classes.of
        self.call = library.function(blocking=number % 3 == 1)(function)

    def fixed(self, values: Sequence[Value]) -> list[Any]:
        """The Python values of the parameters before the format."""
        return [
            self.class_of(value.ctype).from_buffer_copy(value.image)
            if isinstance(value.ctype, c.Record)
            else ctypes_scalar(value.ctype).from_buffer_copy(value.image).value
            for value in values
        ]


def problems_in(
    path: Path, engine: str, records: dict[str, Drawn], calls: Sequence[list[Passed]], seed: int, watch: Watch
) -> dict[int, str]:
    is_ms_abi = engine == "ms_abi"
    if is_ms_abi:  # the process is a child of its own
        call_by_ms_abi()
        engine = "native"
    random = Random(seed)
    seen = (ctypes.c_char * MAXIMUM_SEEN).in_dll(ctypes.CDLL(str(path)), "seen")
    classes = Classes()
    takes = [Take(path, engine, number, records, classes) for number in range(len(FIXED))]
    library = callgate.load(str(path), engine=engine)

    @library.function  # type: ignore[untyped-decorator]
    def vectors(format: callgate.cstr, *values: callgate.VarArg) -> callgate.long: ...

    found = {}
    for index, call in enumerate(calls):
        watch(index)
        number = index % len(FIXED)
        fixed = [draw_value(random, ctype) for ctype in takes[number].types]
        first = takes[number].fixed(fixed)
        format = "".join(passed.letter for passed in call)
        values = [passed.make(classes) for passed in call]
        try:
            problems = [] if takes[number].call(*first, format, *values) == -7 else ["-7 did not come back"]
            problems += differences([*fixed, *(passed.seen for passed in call)], seen.raw)
            doubles = sum(passed.letter == "d" for passed in call)
            if not is_ms_abi and not set(format) & set(RECORDS):
                used = vectors(format, *values)
                if not min(doubles, 8) <= used <= 8:
                    problems.append(f"al is {used}, with {doubles} doubles")
        except Exception:
            problems = [traceback.format_exc(limit=-2)]
        if problems:
            shown = ", ".join(map(words, [*first, format, *values]))
            found[index] = "\n".join([f"take{number}({shown})", *problems])
    return found


def differences(expected: Sequence[Value], seen: bytes) -> list[str]:
    problems = []
    offset = 0
    for index, one in enumerate(expected):
        arrived = seen[offset : offset + len(one.image)]
        if one.differs(arrived):
            problems.append(f"value {index} seen {one.shown(arrived)}, expected {one.shown(one.image)}")
        offset += len(one.image)
    if seen[offset:].strip(bytes((FILL,))):
        problems.append("more was seen than passed")
    return problems


def problems_of(seed: int, count: int, directory: Path, engine: str, optimization: int) -> dict[int, str]:
    """The problems of the calls that a seed draws."""
    random = Random(seed)
    records = draw_records(random)
    calls = [draw_call(random, records, engine) for _ in range(count)]
    with TemporaryDirectory(dir=directory) as folder:
        path = compile_library(source(records, engine), Path(folder), optimization)
        return isolated(lambda watch: problems_in(path, engine, records, calls, seed, watch))


@pytest.mark.parametrize("engine", ENGINES)
def test_random_variadic_calls(engine: str, tmp_path: Path) -> None:
    """The engines see calls of their own."""
    for number, done in enumerate(range(0, COUNT // 3, BATCH)):
        seed = SEED + len(ENGINES) * number + ENGINES.index(engine)
        found = problems_of(seed, min(BATCH, COUNT // 3 - done), tmp_path, engine, 2 * (number % 2))
        reports = sorted(found.values(), key=len)[:5]
        assert not found, f"{engine}: {len(found)} of CALLGATE_SEED={seed}:\n" + "\n\n".join(reports)
    print(f"{engine}: {COUNT // 3} calls, CALLGATE_SEED={SEED}", file=sys.stderr)
