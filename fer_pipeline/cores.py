"""The number of CPU cores."""

from __future__ import annotations

import os


def usable() -> int:
    """Counts the CPU cores of this process's affinity mask (``taskset``, containers)."""
    return len(os.sched_getaffinity(0))
