"""What the figures depend on: the CPU and its instruction sets, cores, GPUs and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from fer_pipeline.precision import cpu_flags, cpu_model

#: Instruction sets that decide how fast this network runs on a CPU.
_FLAGS_THAT_MATTER = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16")

_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "torch", "onnxruntime", "pillow")

#: Dense operations a second of one GPU's units for 16 bits, and for float32 by way of TF32, which
#: TensorFlow uses on them (NVIDIA H100 Tensor Core GPU and H200 data sheets: SXM without sparsity;
#: NVIDIA A100 data sheet).
_PEAKS = {"H100": (989e12, 495e12), "H200": (989e12, 495e12), "A100": (312e12, 156e12)}


def facts() -> dict[str, Any]:
    """The machine and the versions of whatever competes, as JSON."""
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "cpu_flags": [flag for flag in _FLAGS_THAT_MATTER if flag in flags],
        "cores": cores(),
        "gpus": gpu_names(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def line(machine: dict[str, Any]) -> str:
    """``facts()`` in one line for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['cpu_flags']) or 'plain'}),"
        f" {', '.join(machine['gpus']) or 'no GPU'}, load {machine['load_average']}; {versions}"
    )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def gpu_names() -> list[str]:
    """The names of the GPUs that TensorFlow sees."""
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def available_memory() -> int | None:
    """Bytes that programs could take without swapping, as Linux reckons; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0].split()[1]) if found else None


def peak_flops(policy: str) -> float | None:
    """Operations a second that the first GPU can do under a dtype policy; None if not known."""
    for gpu in gpu_names()[:1]:
        for name, (of_16_bits, of_float32) in _PEAKS.items():
            if name in gpu:
                return of_float32 if policy == "float32" else of_16_bits
    return None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
