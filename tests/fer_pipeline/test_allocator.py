"""Memory that is freed and asked for again costs no page faults."""

import subprocess
import sys

FAULTS = """
import resource
import numpy as np
from fer_pipeline import allocator
if {keep}:
    assert allocator.keep_memory()
else:
    # As TensorFlow sets it where it reads from a generator.
    import ctypes
    ctypes.CDLL(None).mallopt(-1, 128 * 1024)
for _ in range(3):
    np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_kept():
    # 32 MiB are 8,192 pages, twenty times.
    assert faults(keep=True) < 8_192 < faults(keep=False)
