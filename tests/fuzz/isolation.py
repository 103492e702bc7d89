"""Batches that run in a forked child, so that a crash is a failure with a name."""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import struct
import traceback
from collections.abc import Callable

Watch = Callable[[int], None]


def isolated(problems: Callable[[Watch], dict[int, str]]) -> dict[int, str]:
    """`problems` run in a child process; its death is the problem of the one that it told `watch` of last."""
    current = mmap.mmap(-1, 8)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        faulthandler.disable()  # the parent tells what died
        try:
            found = problems(lambda index: current.__setitem__(slice(8), struct.pack("q", index)))
        except BaseException:
            found = {0: traceback.format_exc()}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if answer and not status:
        found = pickle.loads(answer)
        assert isinstance(found, dict)
        return found
    return {struct.unpack("q", current[:8])[0]: f"the process died, wait status {status}"}
