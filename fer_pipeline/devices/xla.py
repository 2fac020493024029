"""Whether training steps are compiled by XLA."""

from __future__ import annotations

from collections.abc import Sequence

from fer_pipeline.errors import UserError
from fer_pipeline.gpus import Gpu

#: The first NVIDIA architecture that the XLA of TensorFlow 2.21 compiles code for that is too old.
_TOO_NEW = (12, 0)


def resolve(
    jit_compile: str, trained_on: Sequence[Gpu], *, replicas: int, deterministic: bool
) -> bool:
    """Whether to compile by XLA.

    ``auto`` does on a single GPU, where that can be done and gives the same bits every time. (On a
    CPU it is five times slower.)

    Raises:
      UserError: it is asked for on several devices.
    """
    if jit_compile == "auto":
        return (
            replicas == 1
            and not deterministic
            and any(gpu.capability < _TOO_NEW for gpu in trained_on)
        )
    if jit_compile == "true" and replicas > 1:
        raise UserError(
            f"--jit_compile=true: is for one device and not {replicas}; leave it on auto"
        )
    return jit_compile == "true"
