"""Memory that is freed and asked for again costs no page faults, and no setting does harm."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_pipeline.devices import allocator

#: Parameters of mallopt, from <malloc.h>.
TRIM, MMAP, ARENAS = -1, -3, -8

FAULTS = """
import ctypes
import resource
import numpy as np
from fer_pipeline.devices import allocator
mallopt = ctypes.CDLL(None).mallopt
if {limit}:
    # As older versions of glibc, which refuse more than 32 MiB.
    limited = lambda name, value: 0 if name == -3 and value > {limit} else mallopt(name, value)
    ctypes.CDLL = lambda _: type("Library", (), dict(mallopt=staticmethod(limited)))
if {keep}:
    allocator._pays = lambda: True
    allocator.retain_freed_memory()
else:
    # As TensorFlow sets it where it reads from a generator.
    mallopt(-1, 128 * 1024)
for _ in range(3):
    np.ones(2**{power})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**{power})
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep, limit=0, power=22):
    code = FAULTS.format(keep=keep, limit=limit, power=power)
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept():
    # 32 MiB are 8,192 pages, twenty times.
    assert faults(keep=True) < 8_192 < faults(keep=False)


def test_freed_memory_is_kept_by_an_older_library():
    # 16 MiB are 4,096 pages, twenty times.
    assert faults(keep=True, limit=2**25, power=21) < 4_096


@pytest.fixture
def settings(monkeypatch):
    """What is set of a library that accepts ``M_MMAP_THRESHOLD`` up to ``limit``, in order."""
    found = SimpleNamespace(limit=2**40, accepted=[])

    def mallopt(name, value):
        if name == MMAP and value > found.limit:
            return 0
        found.accepted.append((name, value))
        return 1

    found.library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: found.library)
    monkeypatch.setattr(allocator, "cpu_flags", lambda: {"avx2"})
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(()))
    return found


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (2**40, [(MMAP, 2**30), (TRIM, 2**30), (ARENAS, 1)]),
        (2**25, [(MMAP, 2**25), (TRIM, 2**30), (ARENAS, 1)]),
        # The trim threshold alone would have every block above 128 KiB mapped anew.
        (0, []),
    ],
)
def test_nothing_else_is_set_where_the_threshold_of_mmap_is_refused(limit, expected, settings):
    settings.limit = limit
    allocator.retain_freed_memory()
    assert settings.accepted == expected


def test_a_library_without_settings_is_left_alone(settings):
    settings.library = SimpleNamespace()
    allocator.retain_freed_memory()
    assert not settings.accepted


@pytest.mark.parametrize(
    ("flags", "devices", "visible", "is_set"),
    [
        ({"avx2"}, [], None, True),
        ({"avx2", "avx512f"}, [], None, True),
        ({"avx2", "avx512f", "avx512_vnni"}, [], None, False),
        ({"avx2", "avx_vnni"}, [], None, False),
        (set(), [], None, False),
        ({"avx2"}, ["/dev/nvidia0"], None, False),
        ({"avx2"}, ["/dev/nvidia0"], "0", False),
        ({"avx2"}, ["/dev/nvidia0"], "-1", True),
    ],
)
def test_memory_is_kept_where_that_pays(flags, devices, visible, is_set, settings, monkeypatch):
    monkeypatch.setattr(allocator, "cpu_flags", lambda: flags)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(devices))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    allocator.retain_freed_memory()
    assert bool(settings.accepted) == is_set


@pytest.mark.parametrize(
    ("flags", "chosen", "is_set"),
    [({"avx2", "avx512_vnni"}, "0", True), ({"avx2"}, "1", False), ({"avx2"}, "0", True)],
)
def test_whoever_chooses_tensorflows_kernels_is_heard(flags, chosen, is_set, settings, monkeypatch):
    monkeypatch.setattr(allocator, "cpu_flags", lambda: flags)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    allocator.retain_freed_memory()
    assert bool(settings.accepted) == is_set
