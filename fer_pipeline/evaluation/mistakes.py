"""The faces that a network is wrong about and most certain of: chosen, kept and read back."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline import atomic_files
from fer_pipeline.classes import NUM_CLASSES
from fer_pipeline.datasets.splits import Split
from fer_pipeline.errors import UserError

#: How many are kept: some rows of small pictures in a report.
COUNT = 24


class Mistakes(NamedTuple):
    """Faces whose most probable class is not their label, the most certain ones first.

    Attributes:
      positions: int64 ``[K]``, where they are in their split.
      images: uint8 ``[K, 48, 48, 1]``.
      labels: int32 ``[K]``.
      probabilities: float32 ``[K, C]``.
    """

    positions: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def find(split: Split, probabilities: np.ndarray, *, count: int = COUNT) -> Mistakes:
    """The ``count`` wrongly named faces of a split whose wrong name is the most probable.

    Args:
      split: the faces; only those that are chosen are read.
      probabilities: float32 ``[N, C]``, what the network says of each.
      count: how many to choose; fewer where fewer are wrong.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != split.labels)
    # Equal probabilities keep the order of the split.
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    chosen = wrong[order][:count]
    return Mistakes(
        positions=chosen,
        images=np.asarray(split.images[chosen]),
        labels=split.labels[chosen],
        probabilities=probabilities[chosen],
    )


def save(mistakes: Mistakes, path: Path) -> None:
    """Writes them as ``.npz``, whole or not at all."""
    with atomic_files.atomic_write(path) as temporary:
        np.savez_compressed(temporary, **mistakes._asdict())


def load(path: Path, num_classes: int = NUM_CLASSES) -> Mistakes:
    """Reads what ``save`` wrote of a network of so many classes.

    Raises:
      UserError: the file is damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Mistakes(**{name: arrays[name] for name in Mistakes._fields})
        count = len(found.labels)
        expected = ((count,), (count, 48, 48, 1), (count,), (count, num_classes))
        if tuple(array.shape for array in found) != expected or found.images.dtype != np.uint8:
            raise ValueError("its arrays have other shapes")
        if count and not 0 <= found.labels.min() <= found.labels.max() < num_classes:
            raise ValueError("its labels are of other classes")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}); delete it") from error
    return found
