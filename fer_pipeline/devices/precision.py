"""Which dtype policy this device earns."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_pipeline.gpus import Gpu

#: First NVIDIA architecture with float16 tensor cores (NVIDIA, "Training With Mixed Precision").
_TENSOR_CORES = (7, 0)

#: CPU flags whose instructions multiply bfloat16; emulated, it is slower than float32. AMX gains
#: on any CPU, AVX-512 on AMD's: a training step of the compact network took two thirds of float32's
#: processor time on Zen 4, and 1.6 times as much on an Intel Xeon (``BUILD_NOTES.md``).
_AMX, _AVX512 = "amx_bf16", "avx512_bf16"
_AMD = "AuthenticAMD"


def resolve(precision: str, gpus: Sequence[Gpu]) -> str:
    """The Keras dtype policy for ``--precision`` on the GPUs that train, or without any on a CPU.

    ``auto`` is mixed_float16 on GPUs of compute capability 7.0 or more, mixed_bfloat16 on a CPU
    where that was measured to be faster (with AMX, or AMD's with AVX-512's instructions for it),
    and float32 elsewhere. Any other value is returned as it is. A GPU is not given bfloat16: it
    multiplies both equally fast, and float16 keeps three more binary digits.
    """
    if precision != "auto":
        return precision
    return choose([gpu.capability for gpu in gpus], cpu_flags(), cpu_vendor())


def choose(gpu_capabilities: list[tuple[int, int]], flags: set[str], vendor: str = "") -> str:
    """The policy for GPUs of these compute capabilities, or, without any, for a CPU.

    Several GPUs share one policy, so the weakest decides.

    Args:
      gpu_capabilities: of all that train.
      flags: ``cpu_flags``.
      vendor: ``cpu_vendor``.
    """
    if gpu_capabilities:
        return "mixed_float16" if min(gpu_capabilities) >= _TENSOR_CORES else "float32"
    faster = _AMX in flags or (_AVX512 in flags and vendor == _AMD)
    return "mixed_bfloat16" if faster else "float32"


@contextlib.contextmanager
def true_float32() -> Iterator[None]:
    """Has GPUs multiply float32 in full inside the block.

    By default TensorFlow lets Ampere and newer GPUs round the operands of products to TF32, which
    has 10 bits of mantissa in place of 23. No other runtime does, so what stands for the float32
    network must not either.
    """
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def cpu_flags(path: str = "/proc/cpuinfo") -> set[str]:
    """The instruction-set flags of the first CPU, as Linux reports them; empty elsewhere."""
    facts = _cpu_facts(path)
    return set((facts.get("flags") or facts.get("Features") or "").split())


def cpu_vendor(path: str = "/proc/cpuinfo") -> str:
    """Who made the first CPU, as Linux reports it (``AuthenticAMD``); empty elsewhere."""
    return _cpu_facts(path).get("vendor_id", "")


def cpu_model(path: str = "/proc/cpuinfo") -> str:
    """The CPU's name, as Linux reports it; elsewhere as Python does."""
    return _cpu_facts(path).get("model name") or platform.processor() or platform.machine()


def _cpu_facts(path: str) -> dict[str, str]:
    """What Linux says about the first CPU, by name."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
