"""The GPUs that TensorFlow sees, and settings for them.

Importing this module is free.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Hides the GPUs from CUDA, and so from TensorFlow, in this process and its children.
_VISIBLE, _NONE = "CUDA_VISIBLE_DEVICES", "-1"

#: Makes TensorFlow allocate GPU memory as needed ("Use a GPU" in TensorFlow's guide). By default
#: the first process allocates all of it, and a second one fails.
_GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"

#: Files of an NVIDIA driver.
_DRIVER_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/version")


class Gpu(NamedTuple):
    """A GPU: its number, its name and its CUDA compute capability, as (major, minor)."""

    index: int
    name: str
    capability: tuple[int, int]


def visible() -> list[Gpu]:
    """Lists the GPUs that TensorFlow can use in this process, in its order; imports TensorFlow."""
    import tensorflow as tf

    found = []
    for index, device in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", "unknown")
        found.append(Gpu(index, name, tuple(details.get("compute_capability", (0, 0)))))
    return found


def allow_growth() -> None:
    """Makes this process and its children allocate GPU memory as needed, unless the user chose.

    To be called before TensorFlow's first operation.
    """
    os.environ.setdefault(_GROWTH, "true")


def hide() -> None:
    """Hides all GPUs from this process and its children, before TensorFlow's first operation."""
    os.environ[_VISIBLE] = _NONE


def hidden(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child process that sees no GPU."""
    return dict(environ) | {_VISIBLE: _NONE}


def are_hidden(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether all GPUs are hidden from this process."""
    return environ.get(_VISIBLE, "0").strip() in ("", _NONE)


def unused_gpu_hint(
    environ: Mapping[str, str] = os.environ, driver_files: Sequence[str] = _DRIVER_FILES
) -> str | None:
    """A hint if this host has an NVIDIA driver and TensorFlow sees no GPU; else None.

    There is no hint if CUDA_VISIBLE_DEVICES hides all GPUs.
    """
    if are_hidden(environ):
        return None
    if not any(Path(file).exists() for file in driver_files):
        return None
    return (
        "this host has an NVIDIA driver, but TensorFlow sees no GPU: pip install '.[gpu]' brings "
        "the CUDA libraries (README.md names the drivers that they need)"
    )


def training_line(gpus: Sequence[Gpu], policy: str, cores: int) -> str:
    """Describes the devices that train, and the dtype policy.

    Args:
      gpus: those that train; empty if the CPU does.
      policy: a Keras dtype policy.
      cores: CPU cores that this process may use.
    """
    named = [
        f"GPU {gpu.index}: {gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        for gpu in gpus
    ]
    devices = "; ".join(named) or f"{cores} CPU {'core' if cores == 1 else 'cores'}"
    return f"training on {devices}{',' if gpus else ''} in {policy}"
