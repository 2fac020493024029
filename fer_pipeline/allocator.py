"""Keeps the C library from giving memory back that the next step asks for again."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3), from glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_LARGE = 2**30


def keep_memory() -> bool:
    """Has malloc keep freed memory for the process, in one arena; whether it can be told to.

    A training step frees and asks for the same hundreds of megabytes again and again. Where glibc
    returns them to the system in between, every page is cleared and mapped anew, which takes a
    tenth of the step on a CPU. Elsewhere than with glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_TRIM_THRESHOLD: _LARGE, _M_MMAP_THRESHOLD: _LARGE, _M_ARENA_MAX: 1}
    return all([mallopt(parameter, value) for parameter, value in settings.items()])
