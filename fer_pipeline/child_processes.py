"""How this software starts Python processes of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fer_pipeline import gpus


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of this software; ``environment`` goes with it.

    ``-P`` keeps the working folder out of it, where a user's own files may have the same names.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(*, gpu: bool = False) -> dict[str, str]:
    """The environment in which a child finds these packages, and GPUs only if it may.

    A child that does not need a GPU sees none: its answers are those of any machine, and a training
    may be using the GPU.
    """
    gpus.allow_growth()
    root = str(Path(__file__).parents[1])
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    found = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return found if gpu else gpus.hidden(found)
