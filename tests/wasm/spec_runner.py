"""The specification's scripts, as wast2json writes them, run against callgate.wasm.

A script is a list of commands: modules to load, functions to call, and assertions of what comes of it.  Assertions about
the text format are counted by themselves and not run: callgate reads binaries only.  Values are compared by their bits, so
calls go through `Instance.call_raw`, except where references travel.

As a program it runs scripts in a child process each, which survives what an engine does wrong:

    python tests/wasm/spec_runner.py --engine compiled                  # everything of v2, tail-call and extended-const
    python tests/wasm/spec_runner.py --engine portable v2/i32 v2/simd_const
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from callgate import f32, f64, i32, i64, wasm

PROJECT = Path(__file__).resolve().parent.parent.parent
SUITES = Path(os.environ.get("CALLGATE_WASM_SUITES", PROJECT / ".cache" / "wasm-suites"))
"""Where `scripts/wasm-suites` puts the scripts; CALLGATE_WASM_SUITES names another folder."""

TOTALS = {  # suite: scripts, assertions, of which about the text format
    "v2": (148, 52_230, 1_091),
    "tail-call": (2, 113, 11),
    "extended-const": (3, 104, 3),
}
ENGINES = ("compiled", "portable")
GUARDED = "guarded"
"""A mode beside these: compiled, with guard pages in place of checks."""
UNCACHED: dict[str, Any] = {"cache": False}
"""What all modules are loaded with."""
LANE_BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64}
REFERENCES = ("externref", "funcref")
Json = dict[str, Any]


class Extern(NamedTuple):
    """The host's object behind `ref.extern NUMBER` of a script."""

    number: str


class Outcome(NamedTuple):
    """What a script came to: assertions run (failed ones too), those about the text format, and a line a failure."""

    checked: int
    about_text: int
    failures: list[str]


def scripts(suite: str) -> list[Path]:
    """The scripts of a suite, in order of their names; none where the suite is not there."""
    return sorted((SUITES / suite).glob("*.json"))


def assertions(script: Path) -> Counter[bool]:
    """How many assertions a script has, counted without running it: the key says whether it is about the text format."""
    commands = json.loads(script.read_text(encoding="utf-8"))["commands"]
    return Counter(is_about_text(command) for command in commands if command["type"].startswith("assert_"))


def is_about_text(command: Json) -> bool:
    """Is this a module in the text format?"""
    return bool(command.get("module_type") == "text")


def lanes(value: Json) -> list[tuple[str, int, str]]:
    """A value as (text, bits, kind) for each of its lanes; a scalar is one lane."""
    if value["type"] == "v128":
        return [(text, LANE_BITS[value["lane_type"]], value["lane_type"]) for text in value["value"]]
    return [(value["value"], LANE_BITS[value["type"]], value["type"])]


def words_of(value: Json) -> list[int]:
    """An argument as words of 64 bits, the low one first."""
    number = 0
    width = 0
    for text, bits, _ in lanes(value):
        number |= (int(text) & (1 << bits) - 1) << width
        width += bits
    return [number >> at & (1 << 64) - 1 for at in range(0, width, 64)]


def split_words(words: Sequence[int], expected: Sequence[Json]) -> Iterator[int]:
    """The results of a raw call, a number each."""
    rest = list(words)
    for value in expected:
        number = rest.pop(0)
        yield number | rest.pop(0) << 64 if value["type"] == "v128" else number
    if rest:
        raise ValueError(f"{len(rest)} words more than the results need")


def matches(number: int, expected: Json) -> bool:
    """Has a result the bits that a script expects, or a NaN of the kind it names, in every lane?"""
    for text, bits, kind in lanes(expected):
        lane = number & (1 << bits) - 1
        number >>= bits
        if text.startswith("nan:"):
            quiet = 0x7FC00000 if kind == "f32" else 0x7FF8000000000000
            # core specification, 4.3.3: a canonical NaN has its payload's highest bit alone, an arithmetic one has it too
            mask = (1 << bits - 1) - 1 if text == "nan:canonical" else quiet
            if lane & mask != quiet:
                return False
        elif lane != int(text) & (1 << bits) - 1:
            return False
    return expected["type"] == "v128" or number == 0  # a word's upper half is zero


def reference_of(value: Json) -> object:
    """An argument of a call that takes references, as Python has it."""
    if value["type"] in REFERENCES:
        return None if value["value"] == "null" else Extern(value["value"])
    if value["type"] in ("f32", "f64"):
        raise NotImplementedError("a float beside a reference")
    return int(value["value"])


def bits_of(found: float, kind: str) -> int:
    """The bits of a number as Python has it; not for NaN."""
    if kind in ("f32", "f64"):
        return int.from_bytes(struct.pack("<f" if kind == "f32" else "<d", found), "little")
    return int(found) & (1 << LANE_BITS[kind]) - 1


def spectest(bounds: str) -> dict[str, object]:
    """The module `spectest` that scripts import: functions that print nothing here, a table, a memory, globals."""

    def nothing() -> None: ...
    def one_i32(a: i32, /) -> None: ...
    def one_i64(a: i64, /) -> None: ...
    def one_f32(a: f32, /) -> None: ...
    def one_f64(a: f64, /) -> None: ...
    def i32_and_f32(a: i32, b: f32, /) -> None: ...
    def two_f64(a: f64, b: f64, /) -> None: ...

    functions: dict[str, Callable[..., None]] = {
        "print": nothing,
        "print_i32": one_i32,
        "print_i64": one_i64,
        "print_f32": one_f32,
        "print_f64": one_f64,
        "print_i32_f32": i32_and_f32,
        "print_f64_f64": two_f64,
    }
    return {
        **{name: wasm.host("spectest", name)(function) for name, function in functions.items()},
        "global_i32": wasm.Global("i32", 666),
        "global_i64": wasm.Global("i64", 666),
        "global_f32": wasm.Global("f32", 666.6),
        "global_f64": wasm.Global("f64", 666.6),
        "table": wasm.Table("funcref", 10, 20),
        "memory": wasm.Memory(1, 2, bounds=bounds),
    }


class Script:
    """One script under way: its modules by name, what is registered for import, and what went wrong."""

    def __init__(self, path: Path, engine: str | None) -> None:
        self.path = path
        self.engine = "compiled" if engine == GUARDED else engine
        self.bounds = "guarded" if engine == GUARDED else "checked"
        self.registered: dict[str, object] = {"spectest": spectest(self.bounds)}
        self.instances: list[Any] = []
        self.named: dict[str, Any] = {}
        self.failures: list[str] = []

    def run(self) -> Outcome:
        """Run every command; a module that does not load fails what asks it too."""
        checked = about_text = 0
        for command in json.loads(self.path.read_text(encoding="utf-8"))["commands"]:
            is_assertion = command["type"].startswith("assert_")
            if is_about_text(command):
                about_text += is_assertion
                continue
            checked += is_assertion
            try:
                problem = getattr(self, command["type"])(command)
            except Exception as error:  # whatever comes is this command's failure
                problem = f"{type(error).__name__}: {error}"
            if problem:
                what = repr(command["action"]["field"]) if "action" in command else command.get("filename", "")
                self.failures.append(f"{self.path.stem}.wast:{command['line']}: {command['type']} {what}: {problem}")
        for instance in reversed(self.instances):
            instance.close()
        return Outcome(checked, about_text, self.failures)

    def instantiate(self, command: Json) -> Any:
        """The instance of a command's module."""
        data = (self.path.parent / command["filename"]).read_bytes()
        module = wasm.Module(data, engine=self.engine, bounds=self.bounds, **UNCACHED)
        instance: wasm.Instance[Any] = module.instantiate(imports=self.registered)
        self.instances.append(instance)
        return instance

    def instance_of(self, name: str | None) -> Any:
        """The instance that a command names, or the last one."""
        return self.named[name] if name else self.named[""]

    def act(self, action: Json, expected: Sequence[Json] = ()) -> object:
        """Do what an action says.  The result: words of a raw call, or objects where references travel."""
        instance = self.instance_of(action.get("module"))
        field = action["field"]
        if action["type"] == "get":
            return instance.exports[field].value
        arguments = action["args"]
        if any(value["type"] in REFERENCES for value in (*arguments, *expected)):
            return instance.exports[field](*map(reference_of, arguments))
        return instance.call_raw(field, [word for value in arguments for word in words_of(value)])

    def compare(self, result: Any, action: Json, expected: Sequence[Json]) -> str | None:
        """What is wrong with an action's result, if anything."""
        if action["type"] == "get" or any(value["type"] in REFERENCES for value in expected):
            values = [result] if len(expected) == 1 else list(result)
            for found, value in zip(values, expected, strict=True):
                right = (
                    (found is None if value["value"] == "null" else found == Extern(value["value"]))
                    if value["type"] in REFERENCES
                    else matches(bits_of(found, value["type"]), value)
                )
                if not right:
                    return f"result {found!r}, expected {value['value']}"
            return None
        if any(value["type"] in REFERENCES for value in action["args"]):  # references in, numbers out
            values = [] if result is None else [result]
            result = [bits_of(found, value["type"]) for found, value in zip(values, expected, strict=True)]
        for number, value in zip(split_words(result, expected), expected, strict=True):
            if not matches(number, value):
                texts = [text for text, _, _ in lanes(value)]
                wanted = " ".join(f"{int(text):#x}" if text.isdigit() else text for text in texts)
                return f"result {number:#x}, expected {value['type']} {value.get('lane_type', '')} {wanted}"
        return None

    # ----- the commands, named as in the scripts; each tells what is wrong or gives None -----

    def module(self, command: Json) -> None:
        """A module that must load; the following commands mean it until the next one."""
        self.named[""] = None
        if "name" in command:
            self.named[command["name"]] = None
        instance = self.instantiate(command)
        self.named[""] = instance
        if "name" in command:
            self.named[command["name"]] = instance

    def register(self, command: Json) -> None:
        """An instance becomes a module to import from."""
        self.registered[command["as"]] = self.instance_of(command.get("name"))

    def action(self, command: Json) -> None:
        """A call whose result is not looked at."""
        self.act(command["action"], command.get("expected", ()))

    def assert_return(self, command: Json) -> str | None:
        """A call gives these results."""
        expected = command["expected"]
        return self.compare(self.act(command["action"], expected), command["action"], expected)

    def assert_trap(self, command: Json) -> str | None:
        """A call traps, and the trap's text begins as the script says."""
        try:
            result = self.act(command["action"], command.get("expected", ()))
        except wasm.Trap as trap:
            return None if str(trap).startswith(command["text"]) else f"{trap}, expected {command['text']}"
        return f"result {result!r}, expected a trap: {command['text']}"

    assert_exhaustion = assert_trap

    def refuse(self, command: Json, *errors: type[Exception]) -> str | Exception:
        """The error with which a module is refused, which must be one of these."""
        try:
            self.instantiate(command)
        except errors as error:
            return error
        return f"accepted, expected {errors[0].__name__}: {command['text']}"

    def assert_invalid(self, command: Json) -> str | None:
        """A module that does not validate."""
        refused = self.refuse(command, wasm.ValidationError)
        return refused if isinstance(refused, str) else None

    def assert_malformed(self, command: Json) -> str | None:
        """Bytes that are no module."""
        refused = self.refuse(command, wasm.BinaryError)
        return refused if isinstance(refused, str) else None

    def assert_unlinkable(self, command: Json) -> str | None:
        """A module whose imports are missing or of other types; all are listed, so the text is somewhere in it."""
        refused = self.refuse(command, wasm.LinkError)
        if isinstance(refused, str) or command["text"] in str(refused):
            return refused if isinstance(refused, str) else None
        return f"{refused}, expected {command['text']}"

    def assert_uninstantiable(self, command: Json) -> str | None:
        """A module that traps while it is instantiated."""
        refused = self.refuse(command, wasm.Trap)
        if isinstance(refused, str) or str(refused).startswith(command["text"]):
            return refused if isinstance(refused, str) else None
        return f"{refused}, expected {command['text']}"


def run_script(path: Path, engine: str | None) -> Outcome:
    """Run one script in this process, in the mode of this name or the one that callgate chooses."""
    return Script(path, engine).run()


def run_apart(path: Path, engine: str, timeout_s: float) -> Outcome:
    """Run one script in a process of its own."""
    counted = assertions(path)
    command = [sys.executable, __file__, "--engine", engine, "--here", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(counted[False], counted[True], [f"{path.stem}: not done after {timeout_s:.0f} s"])
    try:
        checked, about_text, failures = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return Outcome(counted[False], counted[True], [f"{path.stem}: ended with status {done.returncode}: {last}"])
    return Outcome(checked, about_text, failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=(*ENGINES, GUARDED), default="portable")
    parser.add_argument("--jobs", type=int, default=1, help="children at a time")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="for one script")
    parser.add_argument("--lines", type=int, default=3, help="failures shown of each script")
    parser.add_argument("--here", type=Path, help="run this script in this process and print its outcome as JSON")
    parser.add_argument("names", nargs="*", help="SUITE or SUITE/SCRIPT")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run_script(given.here, given.engine)))
        return 0
    chosen = [
        path for name in given.names or TOTALS for path in ([SUITES / f"{name}.json"] if "/" in name else scripts(name))
    ]
    if not chosen:
        parser.error(f"no scripts in {SUITES}: run scripts/wasm-suites")
    started = time.monotonic()
    passed = about_text = files = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for path, outcome in zip(
            chosen, pool.map(lambda path: run_apart(path, given.engine, given.timeout), chosen), strict=True
        ):
            about_text += outcome.about_text
            passed += max(0, outcome.checked - len(outcome.failures))
            files += not outcome.failures
            if outcome.failures:
                print(f"{path.parent.name}/{path.stem}: {len(outcome.failures)} failures, {outcome.checked} assertions")
                for line in outcome.failures[: given.lines]:
                    print(f"    {line[:300]}")
    total = sum(assertions(path)[False] for path in chosen)
    print(
        f"{given.engine}: {files} of {len(chosen)} scripts whole; about {passed:,} of {total:,} assertions, "
        f"{about_text:,} more are about the text format; {time.monotonic() - started:.0f} s"
    )
    return 0 if files == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
