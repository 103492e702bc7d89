"""Callees built by gcc that write down what reaches them: the oracle of every call.

Here are the C types as the oracle sees them, the records of one function and its arguments, and the C source made of
them.  Nothing is drawn here and nothing of callgate is used.

A callee fills `seen` anew: 16 bytes an argument, the value's bytes first, FILL behind them.  For a pointer it copies
what is pointed to.  It checks that the stack was aligned, writes through the pointers it was told to, overwrites
every register that the convention lets it, sets errno, and returns a constant.  (The file is long because a record and
the C text that it becomes are read together.)
"""

from __future__ import annotations

import ctypes
import math
import os
import shlex
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

SLOT_BYTES = 16
MAXIMUM_PARAMETERS = 20
SEEN_BYTES = SLOT_BYTES * MAXIMUM_PARAMETERS
FILL = 0xEE
NULL_SEEN = b"<null>"
STRING_BYTES = 15
"""How much of a string is seen: with its NULs, as strncpy writes it."""
WIDE_CHARACTERS = 3
COMPILER = shlex.split(os.environ.get("CALLGATE_CC", "gcc"))
"""What builds callees for the processor that these tests run on."""
IS_QUAD = bytes(ctypes.c_longdouble(1.0))[14:] == b"\xff\x3f"
"""Whether a long double is IEEE's binary128, as on 64-bit Arm, and not x87's."""
LONG_DOUBLE_BYTES = 16 if IS_QUAD else 10
"""The size of its value."""


class Kind(Enum):
    """How Python holds a value of a C type."""

    SIGNED = "int"
    UNSIGNED = "int, not negative"
    FLOATING = "float"
    BOOLEAN = "bool"
    CHARACTER = "bytes of length 1"
    WIDE_CHARACTER = "str of length 1"
    STRING = "bytes, or None for NULL"
    DECODED = "str from UTF-8, or None for NULL"
    WIDE_STRING = "str, or None for NULL"
    POINTER = "a ctypes pointer, or None for NULL"
    NOTHING = "None"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A C arithmetic type; `size_bytes` is that of its value: LONG_DOUBLE_BYTES for long double."""

    spelling: str
    kind: Kind
    ctypes_class: type

    @property
    def size_bytes(self) -> int:
        return LONG_DOUBLE_BYTES if self.ctypes_class is ctypes.c_longdouble else ctypes.sizeof(self.ctypes_class)

    @property
    def is_narrow(self) -> bool:
        """Whether the C integer promotions widen it."""
        return self.kind is not Kind.FLOATING and self.size_bytes < 4

    def encode(self, value: object) -> bytes:
        """The bytes of a value in memory."""
        match self.kind, value:
            case Kind.FLOATING, float():
                if self.ctypes_class is ctypes.c_longdouble:
                    return long_double(value)
                return struct.pack("<f" if self.size_bytes == 4 else "<d", value)
            case Kind.CHARACTER, bytes():
                return value
            case Kind.WIDE_CHARACTER, str():
                return ord(value).to_bytes(self.size_bytes, "little")
            case ((Kind.SIGNED | Kind.UNSIGNED | Kind.BOOLEAN), int()):
                return value.to_bytes(self.size_bytes, "little", signed=self.kind is Kind.SIGNED)
        raise TypeError(f"{value!r} is no {self.spelling}")


def long_double(value: float) -> bytes:
    """A double as long double: x87's 80 bits (Intel SDM volume 1, 4.2.2), or IEEE 754's binary128.

    Both have the same sign and exponent; binary128 does not write the first bit of the significand.
    """
    sign = 0x8000 if math.copysign(1.0, value) < 0 else 0
    if math.isnan(value):
        significand, exponent = 0xC000000000000000, 0x7FFF
    elif math.isinf(value):
        significand, exponent = 1 << 63, 0x7FFF
    elif value == 0:
        significand, exponent = 0, 0
    else:
        fraction, power = math.frexp(abs(value))
        significand, exponent = int(fraction * (1 << 53)) << 11, power - 1 + 16383
    if IS_QUAD:
        return (significand << 49 & (1 << 112) - 1 | (sign | exponent) << 112).to_bytes(16, "little")
    return significand.to_bytes(8, "little") + (sign | exponent).to_bytes(2, "little")


SCALARS = (
    Scalar("signed char", Kind.SIGNED, ctypes.c_byte),
    Scalar("unsigned char", Kind.UNSIGNED, ctypes.c_ubyte),
    Scalar("short", Kind.SIGNED, ctypes.c_short),
    Scalar("unsigned short", Kind.UNSIGNED, ctypes.c_ushort),
    Scalar("int", Kind.SIGNED, ctypes.c_int),
    Scalar("unsigned int", Kind.UNSIGNED, ctypes.c_uint),
    Scalar("long", Kind.SIGNED, ctypes.c_long),
    Scalar("unsigned long", Kind.UNSIGNED, ctypes.c_ulong),
    Scalar("long long", Kind.SIGNED, ctypes.c_longlong),
    Scalar("unsigned long long", Kind.UNSIGNED, ctypes.c_ulonglong),
    Scalar("int8_t", Kind.SIGNED, ctypes.c_int8),
    Scalar("int16_t", Kind.SIGNED, ctypes.c_int16),
    Scalar("int32_t", Kind.SIGNED, ctypes.c_int32),
    Scalar("int64_t", Kind.SIGNED, ctypes.c_int64),
    Scalar("uint8_t", Kind.UNSIGNED, ctypes.c_uint8),
    Scalar("uint16_t", Kind.UNSIGNED, ctypes.c_uint16),
    Scalar("uint32_t", Kind.UNSIGNED, ctypes.c_uint32),
    Scalar("uint64_t", Kind.UNSIGNED, ctypes.c_uint64),
    Scalar("size_t", Kind.UNSIGNED, ctypes.c_size_t),
    Scalar("ssize_t", Kind.SIGNED, ctypes.c_ssize_t),
    Scalar("float", Kind.FLOATING, ctypes.c_float),
    Scalar("double", Kind.FLOATING, ctypes.c_double),
    Scalar("long double", Kind.FLOATING, ctypes.c_longdouble),
    Scalar("_Bool", Kind.BOOLEAN, ctypes.c_bool),
    Scalar("char", Kind.CHARACTER, ctypes.c_char),
    Scalar("wchar_t", Kind.WIDE_CHARACTER, ctypes.c_wchar),
)
NUMBERS = (Kind.SIGNED, Kind.UNSIGNED, Kind.FLOATING, Kind.BOOLEAN, Kind.CHARACTER, Kind.WIDE_CHARACTER, Kind.NOTHING)
BY_SPELLING = {scalar.spelling: scalar for scalar in SCALARS}


class Observed(Enum):
    """What a callee copies into an argument's slot."""

    VALUE = "see"
    MEMORY = "see_memory"
    STRING = "see_string"
    WIDE_STRING = "see_wide_string"


@dataclass(frozen=True, slots=True)
class Returned:
    """The result, or what an Out parameter gets: its declared type, its bytes, the Python value expected.

    `text` are the bytes of a returned string with its NUL.  `garbage` fills the rest of the eightbyte, whose value the
    convention leaves open; the callee then has a wider type than the declaration.
    """

    spelling: str
    kind: Kind
    data: bytes = b""
    python: object = None
    scalar: Scalar | None = None
    text: bytes = b""
    garbage: bytes = b""

    @property
    def callee_spelling(self) -> str:
        if not self.garbage:
            return self.spelling
        return "double" if self.kind is Kind.FLOATING else "unsigned long"

    def stored(self, index: int) -> list[str]:
        """What the callee does with an Out parameter."""
        if self.text:
            return [static_text(f"text{index}", self.text), f"*(const void **)a{index} = text{index};"]
        return [f"memcpy(a{index}, (unsigned char[]){braced(self.data)}, {len(self.data)});"]

    def statements(self) -> list[str]:
        """How the callee returns it."""
        if self.text:
            return [static_text("text", self.text), "return (void *)text;"]
        if not self.data:
            return []
        data = self.data + self.garbage
        return [
            f"{declared(self.callee_spelling, 'result')};",
            f"memcpy(&result, (unsigned char[]){braced(data)}, {len(data)});",
            "return result;",
        ]


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter and what is passed for it.

    `spelling` is the declared type.  `make` gives the Python object, a new one each time; `plain` is the value that
    it stands for, None for pointers.  `seen` are the bytes that must arrive.  Where `is_promoted`, the callee takes a
    narrow integer as the int that callers make of it.  `written` is what the callee stores through the pointer.

    Of an Out parameter `seen` is the storage, which starts as zero, and `out` is what the callee stores in it: Python
    passes nothing and gets that back.
    """

    spelling: str
    observed: Observed
    seen: bytes
    make: Callable[[], object]
    scalar: Scalar | None = None
    plain: object = None
    is_promoted: bool = False
    written: bytes = b""
    out: Returned | None = None

    def statements(self, index: int) -> list[str]:
        """What the callee does with it."""
        name = f"a{index}"
        lines = []
        match self.observed:
            case Observed.VALUE:
                lines.append(f"see({index}, &{name}, {len(self.seen)});")
            case Observed.MEMORY:
                lines.append(f"see_memory({index}, {name}, {len(self.seen)});")
            case Observed.STRING | Observed.WIDE_STRING:
                lines.append(f"{self.observed.value}({index}, {name});")
        if self.written:
            lines.append(
                f"if ({name}) memcpy((void *){name}, (unsigned char[]){braced(self.written)}, {len(self.written)});"
            )
        if self.out:
            lines += self.out.stored(index)
        return lines


@dataclass(frozen=True, slots=True)
class Options:
    """How an annotated function is declared beside its types; `errno` is what the callee leaves there.

    `is_status`: the int result is a Status.  `has_error`: an `error=` makes the exception.  `fails_if` is the word, or
    "predicate" for a function that says `predicate_answer` of whatever it is given.
    """

    is_blocking: bool = False
    fails_if: str = ""
    predicate_answer: bool = False
    has_error: bool = False
    is_status: bool = False
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Signature:
    """A function and one call of it.

    The last `keyword_count` arguments are passed by name.  `options` is None where C text declares the function;
    else annotations do, and there may be Out parameters.
    """

    name: str
    arguments: tuple[Argument, ...]
    returned: Returned
    keyword_count: int = 0
    options: Options | None = None

    @property
    def prototype(self) -> str:
        """The declaration: `int32_t f17(double a0, unsigned char a1);`"""
        parameters = ", ".join(declared(argument.spelling, f"a{i}") for i, argument in enumerate(self.arguments))
        return declared(self.returned.spelling, f"{self.name}({parameters or 'void'});")

    @property
    def definition(self) -> str:
        """The callee's C source."""
        parameters, statements = [], []
        for index, argument in enumerate(self.arguments):
            parameters.append(declared("int" if argument.is_promoted else argument.spelling, f"a{index}"))
            statements += argument.statements(index)
        head = declared(self.returned.callee_spelling, f"{self.name}({', '.join(parameters) or 'void'})")
        lines = ["START", *statements, "scramble();"]
        if self.options:
            lines.append(f"errno = {self.options.errno};")
        lines += self.returned.statements()
        return head + "\n{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    @property
    def seen(self) -> bytes:
        """What `seen` must hold after the call."""
        slots = b"".join(argument.seen.ljust(SLOT_BYTES, bytes((FILL,))) for argument in self.arguments)
        return slots.ljust(SEEN_BYTES, bytes((FILL,)))

    def without_promotion(self) -> Signature:
        """The same with a callee that looks at no more than each narrow integer's own bytes.

        For callers that go through libffi, which promotes in registers and not on the stack.  psABI 3.2.3 leaves the
        upper bits open, gcc and clang set them as callers, and clang's callees rely on it.
        """
        arguments = (
            replace(argument, is_promoted=False, seen=argument.seen[: argument.scalar.size_bytes])
            if argument.is_promoted and argument.scalar
            else argument
            for argument in self.arguments
        )
        return replace(self, arguments=tuple(arguments))

    @property
    def passed(self) -> dict[str, Argument]:
        """The parameters that Python passes, by name."""
        return {f"a{index}": argument for index, argument in enumerate(self.arguments) if not argument.out}

    @property
    def failure(self) -> tuple[str, int] | None:
        """The class of the exception that the result means, and the number in it; None where it means success."""
        options, result = self.options, self.returned.python
        if not options:
            return None
        code = result if isinstance(result, int) else 0
        is_pointer = self.returned.kind not in NUMBERS
        fails_if = options.fails_if or (
            ("null" if is_pointer else "nonzero") if options.has_error else "nonzero" if options.is_status else ""
        )
        all_ones = b"\xff" * len(self.returned.data)
        fails = {
            "": False,
            "negative": code < 0,
            "minus_one": self.returned.data == all_ones,
            "null": result is None,
            "nonzero": result != 0,
            "predicate": options.predicate_answer,
        }[fails_if]
        if not fails:
            return None
        if options.has_error:
            return "Failure", code
        return ("OSError", options.errno) if options.fails_if else ("CallError", code)

    @property
    def results(self) -> list[Returned]:
        """What the call gives in Python: the result unless it is void or a Status, and what the Out parameters got."""
        is_dropped = self.returned.kind is Kind.NOTHING or (self.options and self.options.is_status)
        outs = [argument.out for argument in self.arguments if argument.out]
        return ([] if is_dropped else [self.returned]) + outs


def declared(spelling: str, name: str) -> str:
    """`const int *` and `p` give `const int *p`."""
    return f"{spelling}{name}" if spelling.endswith("*") else f"{spelling} {name}"


def static_text(name: str, text: bytes) -> str:
    return f"static const unsigned char {name}[] __attribute__((aligned(4))) = {braced(text)};"


def braced(data: bytes) -> str:
    return "{" + ",".join(map(str, data)) + "}"


SCRAMBLE = f"""\
static __attribute__((noinline)) void scramble(void)
{{
#ifdef __x86_64__
    __asm__ volatile(
        "mov $-0x5a5a5a5b, %%rax\\n mov %%rax, %%rcx\\n mov %%rax, %%rdx\\n mov %%rax, %%rsi\\n mov %%rax, %%rdi\\n"
        "mov %%rax, %%r8\\n mov %%rax, %%r9\\n mov %%rax, %%r10\\n mov %%rax, %%r11\\n"
        {" ".join(f'"pcmpeqb %%xmm{n}, %%xmm{n}' + chr(92) + 'n"' for n in range(16))}
        ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc",
        {", ".join(f'"xmm{n}"' for n in range(16))});
#elif defined(__aarch64__)
    __asm__ volatile(  /* gcc brings back the lower halves of v8 to v15, and no more of them */
        {" ".join(f'"movn x{n}, #0x5a5a' + chr(92) + 'n"' for n in range(19))}
        {" ".join(f'"movi v{n}.16b, #255' + chr(92) + 'n"' for n in range(32))}
        ::: {", ".join(f'"x{n}"' for n in range(19))}, "memory", "cc",
        {", ".join(f'"v{n}"' for n in range(32))});
#endif
}}
"""
"""C text: `scramble()` overwrites every register that a callee may overwrite."""

_PRELUDE = f"""\
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <wchar.h>

unsigned char seen[{SEEN_BYTES}];
unsigned char misaligned;

#define START \\
    memset(seen, {FILL}, sizeof seen); \\
    misaligned = (uintptr_t)__builtin_frame_address(0) % 16;

static void see(int index, const void *value, size_t size)
{{
    memcpy(seen + {SLOT_BYTES} * index, value, size);
}}

static void see_null(int index)
{{
    see(index, "{NULL_SEEN.decode()}", {len(NULL_SEEN)});
}}

static void see_memory(int index, const void *memory, size_t size)
{{
    memory ? see(index, memory, size) : see_null(index);
}}

static void see_string(int index, const char *text)
{{
    char copy[{STRING_BYTES}];
    text ? see(index, strncpy(copy, text, sizeof copy), sizeof copy) : see_null(index);
}}

static void see_wide_string(int index, const wchar_t *text)
{{
    wchar_t copy[{WIDE_CHARACTERS}];
    text ? see(index, wcsncpy(copy, text, {WIDE_CHARACTERS}), sizeof copy) : see_null(index);
}}

{SCRAMBLE}"""


def source(signatures: Sequence[Signature]) -> str:
    """The C source of a library with all the callees."""
    return _PRELUDE + "".join(f"\n{signature.definition}" for signature in signatures)


def build(signatures: Sequence[Signature], directory: Path, optimization: int = 0) -> Path:
    """Compile the callees into a shared library in `directory` and return its path.

    Raises RuntimeError with the compiler's words where it fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text, library = directory / "callees.c", directory / "callees.so"
    text.write_text(source(signatures))
    command = [*COMPILER, f"-O{optimization}", "-w", "-shared", "-fPIC", "-o", str(library), str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")
    return library
