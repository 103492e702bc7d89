"""What belongs to this process: memory, code, open libraries.  A copy would give it back a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


def not_copied(advice: str) -> Callable[[object], NoReturn]:
    """A `__reduce__` for a class whose objects can be neither copied nor pickled: TypeError, with what to do instead.

    >>> class Door:
    ...     __reduce__ = not_copied("open one there")
    >>> Door().__reduce__()
    Traceback (most recent call last):
    ...
    TypeError: cannot copy or pickle 'Door', which belongs to this process; open one there
    """

    def refuse(thing: object) -> NoReturn:
        raise TypeError(f"cannot copy or pickle {type(thing).__name__!r}, which belongs to this process; {advice}")

    return refuse
