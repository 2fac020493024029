"""Keeps the C library from giving memory back that the next step asks for again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from fer_pipeline import gpus
from fer_pipeline.devices.precision import cpu_flags

#: Parameters of mallopt(3), from glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

#: CPU flags any of which has TensorFlow 2.21 turn on its oneDNN operators, unless it is told else.
_ONEDNN_FLAGS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}

_LARGE = 2**30

#: The largest ``M_MMAP_THRESHOLD`` that older versions of glibc accept, ``HEAP_MAX_SIZE / 2``.
_LARGEST_BEFORE = 2**25


def retain_freed_memory() -> None:
    """Has malloc keep freed memory for the process, in one arena, where that is known to pay.

    A training step frees and asks for the same hundreds of megabytes again and again. Where glibc
    returns them to the system in between, every page is cleared and mapped anew. With TensorFlow's
    own kernels that is up to a tenth of the step, with oneDNN's next to nothing, and where a GPU
    trains one arena would only have the threads wait for one another. There nothing is set, nor
    elsewhere than with glibc.
    """
    if not _pays() or not (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        return
    # The order matters. Setting any threshold ends the adapting of the other. With that for mmap
    # left at its first 128 KiB every larger block would be mapped anew, which is worse than before.
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGE, _LARGEST_BEFORE)):
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, 1)


def _pays() -> bool:
    """Whether this CPU trains itself, and by TensorFlow's own kernels.

    NVIDIA's devices are looked for, because asking TensorFlow would take seconds.
    """
    flags = cpu_flags()
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    onednn = chosen == "1" if chosen in ("0", "1") else bool(flags & _ONEDNN_FLAGS)
    on_gpu = not gpus.are_hidden() and any(Path("/dev").glob("nvidia[0-9]*"))
    return "avx2" in flags and not onednn and not on_gpu
