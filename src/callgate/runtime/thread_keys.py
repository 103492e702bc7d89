"""Keys of words that each thread has its own of: a new one for callgate, and Python's for a thread's state."""

from __future__ import annotations

import ctypes

from callgate.errors import EngineError
from callgate.lower.callback import NO_STATE_KEY
from callgate.target import IS_WINDOWS

_MOST_KEYS = 1088  # TLS_MINIMUM_AVAILABLE and the expansion slots; PTHREAD_KEYS_MAX is 1024
_NO_KEY = 0xFFFF_FFFF  # FLS_OUT_OF_INDEXES


def new_key(ended: int) -> int:
    """A key; when a thread ends whose word is not 0, the function at address `ended` is called with that word."""
    key = ctypes.c_uint()
    if IS_WINDOWS:
        allocate = ctypes.CDLL("kernel32").FlsAlloc  # what TlsAlloc gives knows no end of a thread
        allocate.argtypes, allocate.restype = [ctypes.c_void_p], ctypes.c_uint
        key.value = allocate(ended)
        is_refused = key.value == _NO_KEY
    else:
        create = ctypes.CDLL(None).pthread_key_create
        create.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        is_refused = bool(create(ctypes.addressof(key), ended))
    if is_refused:
        raise EngineError("the system has no key left for the states of foreign threads")
    return key.value


def python_key() -> int:
    """The key under which Python itself keeps a thread's state; `NO_STATE_KEY` where it has none (3.15)."""
    get = ctypes.CDLL("kernel32").TlsGetValue if IS_WINDOWS else ctypes.CDLL(None).pthread_getspecific
    get.restype = ctypes.c_void_p
    state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyGILState_GetThisThreadState", ctypes.pythonapi))()
    for key in range(_MOST_KEYS):
        if get(ctypes.c_uint(key)) == state:
            return key
    return NO_STATE_KEY
