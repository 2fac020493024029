"""README's first command as a CPU without AVX-512 would run it, where this one has it.

    python tests/proofs/without_avx512.py --epochs=15

Takes the flags of ``python -m fer_pipeline.train``. oneDNN is held to AVX2, and the package does
not see the CPU's newer instructions, so that it trains in float32 with Winograd's convolutions.
"""

from __future__ import annotations

import os

os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"

# Set before TensorFlow and all that asks for the flags are imported.
from fer_pipeline.devices import precision

_of_this_cpu = precision.cpu_flags


def _older() -> set[str]:
    return {flag for flag in _of_this_cpu() if not flag.startswith(("avx512", "amx"))}


if __name__ == "__main__":
    precision.cpu_flags = _older
    from fer_pipeline.train import run

    run()
