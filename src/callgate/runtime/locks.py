"""Locks of the process: what a thread, a finalizer, a signal handler and a forked child may meet at the same place."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A lock that its holder may take again, and that a forked child finds free.

    Another thread may hold it when a thread forks; in the child that thread is gone, and would never give it back.  So
    the child has a lock of its own: `with lock.here:`.  A holder that forks gives back, on either side, what it took.
    """

    here: threading.RLock

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.here = threading.RLock()
