"""What is the same whatever runtime a model runs in: its ends, its batches, its refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.errors import UserError

#: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, 7]``.
Model = Callable[[np.ndarray], np.ndarray]

_FACE = (IMAGE_SIZE, IMAGE_SIZE, 1)

#: Images at a time where the model leaves it open.
BATCH = 64


def in_batches(run: Model, images: np.ndarray, fixed: int | None) -> np.ndarray:
    """``run`` over parts of the images: of a fixed size, or of up to 64."""
    size = fixed or BATCH
    parts = [np.empty((0, NUM_CLASSES), np.float32)]
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part) if fixed else 0
        # Filled up with the last image: every image's answer is its own.
        filled = np.concatenate([part, part[-1:].repeat(missing, axis=0)])
        parts.append(np.asarray(run(filled))[: len(part)])
    return np.concatenate(parts)


def check_ends(
    path: Path, inputs: list, outputs: list, *, channels: tuple[int, ...] = (1,)
) -> None:
    """Raises UserError where the shapes are not those of a face and seven probabilities."""
    faces, probabilities = ([tuple(s)[1:] for s in shapes] for shapes in (inputs, outputs))
    if faces not in [[(*_FACE[:2], c)] for c in channels] or probabilities != [(NUM_CLASSES,)]:
        shown = " -> ".join(", ".join(map(str, shapes)) for shapes in (faces, probabilities))
        raise UserError(
            f"{path}: another kind of model, {shown} an image, where {_FACE} -> ({NUM_CLASSES},) "
            "is wanted"
        )


def refuse(path: Path, error: Exception) -> NoReturn:
    """Raises the UserError for a model that its runtime does not open or run."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(f"{path}: damaged or not a model ({reason}); export it again") from error
