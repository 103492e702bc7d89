"""`callgate run`: run a Python program; with --accelerate its ctypes functions become gates while it loads."""

from __future__ import annotations

import argparse
import atexit
import builtins
import ctypes
import io
import os
import runpy
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from callgate.acceleration import Report, accelerate_functions
from callgate.c.names import FUNCTION_POINTER
from callgate.cli.terminal import CommandError
from callgate.errors import EngineError
from callgate.runtime.engine import is_ctypes_asked_for, native_engine

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
    watch = Watch() if arguments.accelerate else None
    code, names = _module(arguments.program) if arguments.module else _script(arguments.program)
    sys.argv[:] = [names["__file__"] if arguments.module else arguments.program, *arguments.arguments]
    if arguments.module:
        sys.path[0] = os.getcwd()
    elif sys.path[0] != arguments.program:  # a folder or archive, which is there already
        sys.path[0] = str(Path(arguments.program).resolve().parent)
    main = ModuleType("__main__")
    main.__dict__.update(names)
    sys.modules["__main__"] = main  # stays: threads and atexit functions go on when the program's text has run
    if watch is not None:
        watch.start()
        if arguments.report:
            atexit.register(watch.tell)
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as problem:  # whatever the program does not catch ends it as python would
        problem.__traceback__ = _own_frames(problem.__traceback__)
        sys.excepthook(type(problem), problem, problem.__traceback__)
        raise SystemExit(130 if isinstance(problem, KeyboardInterrupt) else 1) from None


def _script(path: str) -> tuple[CodeType, dict[str, Any]]:
    """The code of a script, or of the __main__ of a folder or archive, and what its module begins with."""
    if not Path(path).exists():
        raise CommandError(f"there is no script {path!r}")
    if Path(path).is_dir() or zipfile.is_zipfile(path):
        sys.path[0] = path
        _, spec, code = runpy._get_main_module_details()  # type: ignore[attr-defined]
        return code, {"__file__": code.co_filename, "__spec__": spec, "__package__": ""}
    with io.open_code(os.path.abspath(path)) as file:
        code = compile(file.read(), path, "exec")
    return code, {"__file__": path, "__spec__": None, "__package__": None, "__builtins__": builtins}


def _module(name: str) -> tuple[CodeType, dict[str, Any]]:
    """The same for a module, or the __main__ of a package."""
    sys.path[0] = os.getcwd()
    try:
        _, spec, code = runpy._get_module_details(name)  # type: ignore[attr-defined]
    except ImportError as problem:
        raise CommandError(str(problem)) from None
    return code, {
        "__file__": code.co_filename,
        "__spec__": spec,
        "__package__": spec.parent,
        "__loader__": spec.loader,
        "__builtins__": builtins,
    }


def _own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this module."""
    if traceback is None:
        return None
    rest = _own_frames(traceback.tb_next)
    if traceback.tb_frame.f_code.co_filename == __file__:
        return rest
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


class Watch:
    """Makes ctypes functions fast soon after they are declared: after an import, or when nothing was looked up a while.

    A function that is declared anew afterwards becomes the ctypes function again, so nothing changes but the speed.
    """

    def __init__(self) -> None:
        self.report = Report()
        self._found: dict[int, Any] = {}  # functions not yet fast
        self._done: dict[int, Any] = {}
        self._modules: set[str] = set()
        self._looked_up = 0.0
        self._wake = threading.Event()
        self._sweeping = threading.Lock()
        self._has_thread = False

    def start(self) -> None:
        """Begin to watch: libraries say when a function is looked up for the first time."""
        if is_ctypes_asked_for():  # the program stays as it is
            return
        try:
            native_engine()  # its own functions are not the program's
        except EngineError as reason:
            raise CommandError(f"nothing can be made fast here: {reason}") from None
        self._modules.update(sys.modules)
        depth = threading.local()  # of imports
        looking_up: Any = ctypes.CDLL.__getitem__

        def look_up(library: ctypes.CDLL, name: Any) -> Any:
            function = looking_up(library, name)
            if _is_called_by_callgate(sys._getframe(1)):
                return function
            self._found[id(function)] = function
            self._looked_up = time.monotonic()
            if not getattr(depth, "count", 0):  # else the end of the import is soon enough
                self._sweep_soon()
            return function

        ctypes.CDLL.__getitem__ = look_up  # type: ignore[method-assign]  # Python already, and called once a name
        importing = builtins.__import__

        def import_and_sweep(*given: Any, **named: Any) -> Any:
            depth.count = getattr(depth, "count", 0) + 1
            try:
                return importing(*given, **named)
            finally:
                depth.count -= 1
                if not depth.count and (self._looked_up or len(sys.modules) != len(self._modules)):
                    self._look_through_modules()
                    self.sweep()

        builtins.__import__ = import_and_sweep

    def _sweep_soon(self) -> None:
        """Sweep beside the program; the thread begins when first wanted, since a second one makes all calls dearer."""
        self._wake.set()
        if not self._has_thread:
            self._has_thread = True
            threading.Thread(target=self._sweep_when_quiet, name="callgate accelerate", daemon=True).start()

    def _look_through_modules(self) -> None:
        """Functions made by a prototype are looked up in no library; modules have them as their globals."""
        for name in sys.modules.keys() - self._modules:
            module = sys.modules.get(name)
            if isinstance(module, ModuleType) and not name.startswith("callgate"):
                for thing in list(vars(module).values()):
                    if isinstance(thing, FUNCTION_POINTER) and id(thing) not in self._done:
                        self._found[id(thing)] = thing
        self._modules = set(sys.modules)

    def _sweep_when_quiet(self) -> None:
        while True:
            self._wake.wait()
            while time.monotonic() - self._looked_up < QUIET_S and self._looked_up:
                time.sleep(QUIET_S)
            self._wake.clear()
            if self._looked_up:
                self.sweep(is_beside_program=True)

    def sweep(self, *, is_beside_program: bool = False) -> None:
        """Make every function fast that is declared by now."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            self._looked_up = 0.0
            declared = [function for function in list(self._found.values()) if _is_declared(function)]
            for function in declared:
                self._done[id(function)] = self._found.pop(id(function))
            named = [(getattr(function, "__name__", "function"), function) for function in declared]
            accelerate_functions(named, self.report, None, yields=True, only_in_modules=is_beside_program)
        finally:
            self._sweeping.release()

    def tell(self) -> None:
        """Say what became fast."""
        if is_ctypes_asked_for():
            print("callgate: nothing made fast, since CALLGATE_ENGINE=ctypes asks for ctypes", file=sys.stderr)
            return
        report = self.report
        left = Counter(report.left.values())
        left["argtypes is not set, so ctypes converts each argument by its own type"] += len(self._found)
        print(f"callgate: {len(report.fast)} functions made fast, {sum(left.values())} left", file=sys.stderr)
        for reason, count in (+left).most_common():
            print(f"  {count} left: {reason}", file=sys.stderr)


def _is_called_by_callgate(frame: FrameType | None) -> bool:
    """Whether it is callgate itself that looks a function up, directly or by an attribute."""
    while frame is not None and frame.f_globals.get("__name__") == "ctypes":
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("callgate.")


def _is_declared(function: Any) -> bool:
    """Whether a function has argtypes and is none of the interpreter's own."""
    return function.argtypes is not None and type(function) is not ctypes.pythonapi._FuncPtr
