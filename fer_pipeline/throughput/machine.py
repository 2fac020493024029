"""What the figures depend on: the CPU and its instruction sets, cores, GPUs and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from fer_pipeline import cores, gpus
from fer_pipeline.devices.precision import cpu_flags, cpu_model

#: Instruction sets that decide how fast this network runs on a CPU.
_FLAGS_THAT_MATTER = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16")

_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "torch", "onnxruntime", "pillow")

#: Dense operations a second of one GPU for 16 bits, for TF32, and for true float32, which no tensor
#: core multiplies (NVIDIA H100 Tensor Core GPU and H200 data sheets: SXM without sparsity; NVIDIA
#: A100 data sheet).
_PEAKS = {
    "H100": {"16 bits": 989e12, "TF32": 495e12, "float32": 67e12},
    "H200": {"16 bits": 989e12, "TF32": 495e12, "float32": 67e12},
    "A100": {"16 bits": 312e12, "TF32": 156e12, "float32": 19.5e12},
}

#: First NVIDIA architecture that multiplies TF32 (NVIDIA A100 Tensor Core GPU Architecture).
_TF32 = (8, 0)


def describe() -> dict[str, Any]:
    """The machine and the versions of whatever competes, as JSON."""
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "cpu_flags": [flag for flag in _FLAGS_THAT_MATTER if flag in flags],
        "cores": cores.usable(),
        "gpus": gpu_names(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def format_line(machine: dict[str, Any]) -> str:
    """``describe()`` in one line for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({' '.join(machine['cpu_flags']) or 'plain'}),"
        f" {', '.join(machine['gpus']) or 'no GPU'}, load {machine['load_average']}; {versions}"
    )


def gpu_names() -> list[str]:
    """The names of the GPUs that TensorFlow sees."""
    return [gpu.name for gpu in gpus.visible()]


def hide_gpus() -> None:
    """Leaves the GPUs to other processes: TensorFlow computes without them here.

    It has to come before anything that TensorFlow computes.
    """
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def available_memory() -> int | None:
    """Bytes that programs could take without swapping, as Linux reckons; None elsewhere."""
    try:
        return 1024 * _kib("/proc/meminfo", "MemAvailable")
    except (OSError, ValueError):
        return None


def process_mib(field: str) -> float:
    """MiB of this process as Linux counts them: ``VmHWM`` is the most that it had at one time.

    ``getrusage`` would count what the process held before it became this program. ``RssAnon`` is
    what is in memory now and not backed by a file.
    """
    return _kib("/proc/self/status", field) / 1024


def _kib(path: str, field: str) -> int:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1])


def arithmetic(policy: str) -> str:
    """In what the first device multiplies under a dtype policy: 16 bits, TF32 or float32.

    TensorFlow has float32 multiplied in TF32 wherever a GPU can, and our rounds have PyTorch do so
    too. NVIDIA's libraries do not while ``NVIDIA_TF32_OVERRIDE`` is 0.
    """
    if policy != "float32":
        return "16 bits"
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        able = details(gpu).get("compute_capability", (0, 0)) >= _TF32
        if able and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
            return "TF32"
    return "float32"


def peak_flops(kind: str) -> float | None:
    """Operations a second that the first GPU can do of an ``arithmetic``; None if not known."""
    for gpu in gpu_names()[:1]:
        for name, peaks in _PEAKS.items():
            if name in gpu:
                return peaks[kind]
    return None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
