"""How many CPU cores there are to work with."""

from __future__ import annotations

import os


def usable() -> int:
    """CPU cores that this process may use, as its affinity says (``taskset``, a container)."""
    return len(os.sched_getaffinity(0))
