"""`callgate run`: run a Python program; with --accelerate its ctypes functions become gates while it loads."""

from __future__ import annotations

import argparse
import atexit
import ctypes
import gc
import os
import runpy
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.acceleration import Report, accelerate_functions
from callgate.c.names import FUNCTION_POINTER
from callgate.cli.terminal import CommandError
from callgate.errors import EngineError
from callgate.runtime.engine import native_engine

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

QUIET_S = 0.02
"""How long no function must have been looked up before those that were count as declared."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "run",
        help="run a Python program, with its ctypes functions made fast",
        description="Run a Python script, or a module with -m, as python itself would. With --accelerate the ctypes "
        "functions that it declares, its packages' too, become gates.",
        epilog="example: callgate run --accelerate -m pytest tests",
    )
    parser.add_argument("--accelerate", action="store_true", help="make declared ctypes functions fast")
    parser.add_argument("--report", action="store_true", help="say on stderr at the end what became fast and what not")
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is the name of a module")
    parser.add_argument("program", metavar="PROGRAM", help="a script, or a module with -m")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="the program's arguments")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Run the program.  What it raises and exits with is its own; CommandError where there is no such script."""
    sys.argv[:] = [arguments.program, *arguments.arguments]
    watch = Watch() if arguments.accelerate else None
    if watch is not None:
        watch.start()
        if arguments.report:
            atexit.register(watch.tell)
    if arguments.module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments.program, run_name="__main__", alter_sys=True)
        return
    if not Path(arguments.program).exists():
        raise CommandError(f"there is no script {arguments.program!r}")
    if Path(arguments.program).is_file():
        sys.path.insert(0, str(Path(arguments.program).resolve().parent))
    runpy.run_path(arguments.program, run_name="__main__")


class Watch:
    """Makes ctypes functions fast soon after they are declared: after an import, or when nothing was looked up a while.

    A function that is declared anew afterwards becomes the ctypes function again, so nothing changes but the speed.
    """

    def __init__(self) -> None:
        self.report = Report()
        self._seen: dict[int, Any] = {}
        self._looked_up = 0.0
        self._wake = threading.Event()
        self._sweeping = threading.Lock()

    def start(self) -> None:
        """Begin to watch: libraries say when a function is looked up for the first time."""
        try:
            native_engine()  # its own functions are not the program's
        except EngineError as reason:
            raise CommandError(f"nothing can be made fast here: {reason}") from None
        self._seen = {id(thing): thing for thing in gc.get_objects() if isinstance(thing, FUNCTION_POINTER)}
        looking_up: Any = ctypes.CDLL.__getitem__

        def look_up(library: ctypes.CDLL, name: Any) -> Any:
            self._looked_up = time.monotonic()
            self._wake.set()
            return looking_up(library, name)

        ctypes.CDLL.__getitem__ = look_up  # type: ignore[method-assign]  # Python already, and called once a name
        importing = __builtins__["__import__"] if isinstance(__builtins__, dict) else __builtins__.__import__
        depth = threading.local()

        def import_and_sweep(*given: Any, **named: Any) -> Any:
            depth.count = getattr(depth, "count", 0) + 1
            try:
                return importing(*given, **named)
            finally:
                depth.count -= 1
                if not depth.count and self._looked_up:
                    self.sweep()

        import builtins

        builtins.__import__ = import_and_sweep
        threading.Thread(target=self._sweep_when_quiet, name="callgate accelerate", daemon=True).start()

    def _sweep_when_quiet(self) -> None:
        while True:
            self._wake.wait()
            while time.monotonic() - self._looked_up < QUIET_S and self._looked_up:
                time.sleep(QUIET_S)
            self._wake.clear()
            if self._looked_up:
                self.sweep()

    def sweep(self) -> None:
        """Make every function fast that is declared and was not seen before."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            self._looked_up = 0.0
            found = []
            for thing in gc.get_objects():
                if isinstance(thing, FUNCTION_POINTER) and id(thing) not in self._seen and _is_declared(thing):
                    self._seen[id(thing)] = thing
                    found.append((thing.__name__ if hasattr(thing, "__name__") else "function", thing))
            accelerate_functions(found, self.report, None, yields=True)
        finally:
            self._sweeping.release()

    def tell(self) -> None:
        """Say what became fast."""
        report = self.report
        print(f"callgate: {len(report.fast)} functions made fast, {len(report.left)} left", file=sys.stderr)
        for reason, count in Counter(report.left.values()).most_common():
            print(f"  {count} left: {reason}", file=sys.stderr)


def _is_declared(function: Any) -> bool:
    """Whether a function of a library (not a callback, not one of ctypes' own) has argtypes."""
    if function.argtypes is None or type(function).__module__ == "callgate.runtime.ctypes_engine":
        return False
    return type(function) is not ctypes.pythonapi._FuncPtr
