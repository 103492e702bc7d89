"""`callgate doctor`: whether gates run as machine code here, on what that rests, and what to do where it fails."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import platform
import sys
import warnings
from typing import TYPE_CHECKING, NamedTuple

import callgate
from callgate.asm.code import Code
from callgate.cli.terminal import importing
from callgate.errors import CallgateError, EngineError
from callgate.runtime.code_memory import MEMORY, CodeMemory
from callgate.runtime.engine import IMAGES, native_engine, what_forbids_images
from callgate.runtime.executable import Rung
from callgate.runtime.image import THIS_PYTHON, image_name
from callgate.runtime.probe import probe
from callgate.target import DATA_MODEL, HOST, IS_FREE_THREADED

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

OK, OFF, FAILS = "ok", "off", "fails"
"""What is as it should be; what is missed but replaced; what keeps gates from being machine code."""

_PLATFORMS = "use one of the systems and Pythons under “What runs where” in the README; until then ctypes serves"


class Fact(NamedTuple):
    """A fact of a layout: its field, what is inline thanks to it, what is so without it, since which Python."""

    field: str
    name: str
    lacking: str
    since: tuple[int, int] = (3, 10)


_NEVER = (4, 0)
_FACTS = (
    Fact("ints", "ints", "the form of ints is unknown: the C API converts them"),
    Fact("float_value_offset", "floats", "the form of floats is unknown: the C API converts them"),
    Fact("small_ints", "shared ints", "the shared ints are not one array: the C API makes ints of results"),
    Fact("has_inline_bytes", "bytes", "the size of bytes is not where expected: the C API reads them"),
    Fact("carg_value_offset", "byref()", "what byref() makes is unknown: Python converts it"),
    Fact("has_immortals", "immortals", "None, True and False are counted: gates count them too", (3, 12)),
    Fact(
        "has_free_lists",
        "free lists",
        "the lists of freed ints and floats are not found: the C API makes those of results",
        _NEVER if IS_FREE_THREADED else (3, 14),
    ),
)


_REPORT = "report it, with the text of this command"


class Finding(NamedTuple):
    """One line of the report; `remedy` is empty where there is nothing to do."""

    subject: str
    status: str
    text: str
    remedy: str = ""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="say whether machine code runs here, and what to do where it does not",
        description="Look at this Python, processor, object layout and executable memory, make a gate and call it. "
        "The exit code is 0 where gates are machine code, 1 where the ctypes engine takes their place.",
    )
    parser.add_argument(
        "module", metavar="MODULE", nargs="?", help="import this module, and say whether its images are used"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them keeps gates from being machine code.

    Raises CommandError for a module that cannot be imported.
    """
    images = _images(arguments.module) if arguments.module is not None else []
    findings = [*examine(), *images]
    failing = [finding for finding in findings if finding.status == FAILS]
    if arguments.json:
        print(json.dumps({"native": not failing, "findings": [one._asdict() for one in findings]}, indent=2))
    else:
        print(f"callgate {callgate.__version__}\n")
        for subject, status, text, remedy in findings:
            print(f"{status:<6}{subject:<10}{text}")
            if remedy:
                print(f"{'':16}-> {remedy}")
        print(f"\n{_conclusion(failing, any(image.status == OK for image in images))}")
    return 1 if failing else 0


def _conclusion(failing: list[Finding], has_image: bool) -> str:
    if not failing:
        return "gates are machine code here"
    if failing[0].subject == "callbacks":
        return f"gates are machine code here, but there are no callbacks: {failing[0].text}"
    served = " what the image has not" if has_image else ""
    return f"the ctypes engine serves here{served}: {failing[0].text}"


def _images(module: str) -> list[Finding]:
    """What became of the images of a module, and of what it imports."""
    with importing(module), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the findings say it
        importlib.import_module(module)
    variable = what_forbids_images()
    if variable:
        text = f"none is looked for where {variable}={os.environ[variable]} is set"
        return [Finding("image", OFF, text, f"unset {variable}")]
    if not IMAGES and HOST is not None:
        name = image_name(module, THIS_PYTHON, HOST)
        remedy = "put it beside the module's file, or name its folder in CALLGATE_IMAGES"
        return [Finding("image", OFF, f"{module} has none that is called {name} and looked for here", remedy)]
    return [
        Finding("image", OFF, problem) if problem else Finding("image", OK, f"{path}: in use")
        for path, problem in IMAGES.items()
    ]


def examine() -> list[Finding]:
    """Everything that there is to say, the causes before what follows from them."""
    causes = [*_target(), *_layout(), *_memory()]
    return [*_python(), *causes, *_engine(any(cause.status == FAILS for cause in causes)), _wasm()]


def _python() -> list[Finding]:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    lock = "free-threaded" if IS_FREE_THREADED else "with the GIL"
    return [Finding("python", OK, f"{name}, {8 * ctypes.sizeof(ctypes.c_void_p)}-bit, {lock}, {sys.executable}")]


def _target() -> list[Finding]:
    if HOST is None:
        where = f"{DATA_MODEL.architecture or 'this processor'} on {DATA_MODEL.system}"
        return [Finding("target", FAILS, f"no machine code can be made for {where} yet", _PLATFORMS)]
    return [Finding("target", OK, f"{HOST.name}, calling convention {HOST.calling_convention}")]


def _layout() -> list[Finding]:
    try:
        layout = probe()
    except EngineError as reason:
        return [Finding("layout", FAILS, str(reason), _PLATFORMS)]
    facts = [fact for fact in _FACTS if sys.version_info >= fact.since]
    known = [fact.name for fact in facts if getattr(layout, fact.field) not in (None, False)]
    return [
        Finding("layout", OK, f"{layout.name}, read inline: {', '.join(known) or 'nothing'}"),
        *(Finding("layout", OFF, fact.lacking) for fact in facts if fact.name not in known),
    ]


def _memory() -> list[Finding]:
    """Each rung is tried, also those that the engine has no need of."""
    refusals = {rung.name: _refusal(rung) for rung in MEMORY.ladder}
    status = OFF if None in refusals.values() else FAILS
    return [
        Finding("memory", OK, f"{rung.name}: allowed")
        if reason is None
        else Finding("memory", status, f"{rung.name}: {reason}", rung.remedy)
        for rung, reason in ((rung, refusals[rung.name]) for rung in MEMORY.ladder)
    ]


def _refusal(rung: Rung) -> str | None:
    """Why a rung is refused; None where code can be published on it."""
    memory = CodeMemory((rung,))
    try:
        memory.publish(Code(bytes(16), (), {}), int)
    except EngineError:
        return memory.refusals[rung.name]
    return None


def _engine(is_explained: bool) -> list[Finding]:
    wanted = os.environ.get("CALLGATE_ENGINE") or "native"
    if wanted != "native":
        text = "asks for the ctypes engine" if wanted == "ctypes" else "no such engine"
        return [Finding("engine", FAILS, f"CALLGATE_ENGINE={wanted}: {text}", "unset CALLGATE_ENGINE")]
    try:
        native_engine()
        _call_a_gate()
    except Exception as problem:  # whatever it is, it is what there is to say
        return [Finding("engine", FAILS, _told(problem), "" if is_explained else _REPORT)]
    findings = [Finding("engine", OK, f"native, on {MEMORY.rung}: a gate returned what it should")]
    try:
        _call_a_callback()
    except Exception as problem:
        remedy = f'give functions that take callbacks engine="ctypes"; {_REPORT}'
        return [*findings, Finding("callbacks", FAILS, _told(problem), remedy)]
    return [*findings, Finding("callbacks", OK, "native: a callback returned what it should")]


_ADD = bytes.fromhex("0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b")
"""A module that exports `add`, of two i32."""


def _wasm() -> Finding:
    """How WebAssembly modules run: where they are not compiled, Python runs them."""
    from callgate.wasm.instance import choose_engine, cpu_features, load

    instance = load(_ADD, cache=False)
    total = instance.exports.add(20, 22)
    if total != 42:
        return Finding("wasm", FAILS, f"a module returned {total}, not 42", _REPORT)
    if instance.module.engine == "compiled":
        features = ", ".join(sorted(cpu_features()))
        return Finding("wasm", OK, f"compiled, with {features}: a module returned what it should")
    reason = f"CALLGATE_ENGINE={os.environ.get('CALLGATE_ENGINE')} asks for it"
    try:
        choose_engine("compiled")
    except EngineError as problem:
        reason = str(problem).partition("; engine=")[0]
    return Finding("wasm", OFF, f"portable mode: {reason}")


def _told(problem: Exception) -> str:
    is_ours = isinstance(problem, (CallgateError, AssertionError))
    return str(problem) if is_ours else f"{type(problem).__name__}: {problem}"


def _call_a_gate() -> None:
    """Call a C function that any CPython has; AssertionError for a wrong result."""
    address = ctypes.cast(ctypes.pythonapi.PyOS_mystrnicmp, ctypes.c_void_p).value or 0
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ssize_t)
    compare = callgate.gate_from(prototype(address), engine="native")
    if compare(b"Callgate!", b"cALLGATE?", 8) != 0 or compare(b"a", b"b", 1) >= 0:
        raise AssertionError("a gate returned something wrong")


def _call_a_callback() -> None:
    """The same for a callback."""

    def triple(number: callgate.i32) -> callgate.i32:
        return 3 * number

    back = callgate.callback(triple, engine="native")
    called = callgate.gate_from(ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int)(back.address), engine="native")
    if called(-14) != -42:
        raise AssertionError("a callback returned something wrong")
