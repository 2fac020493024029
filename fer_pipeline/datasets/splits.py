"""What every data source yields: uint8 faces and labels in three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import CLASS_NAMES, NUM_CLASSES
from fer_pipeline.images import FACE_SHAPE
from fer_pipeline.terminal.tables import format_table

#: Where an image lay in its source: in ``train/``, in ``validation/`` or ``val/``, in ``test/``
#: under one of Kaggle's two names, or in ``test/`` under any other. Sources list their images in
#: this order, so that every split without ``validation_fraction`` is a contiguous part.
TRAIN, VALIDATION, PUBLIC_TEST, TEST, PRIVATE_TEST = range(5)


class LazyImages:
    """Faces that are read when they are asked for: decoded, or copied from a cache on disk.

    Indexed like an array along its first axis: ``images[7]`` is uint8 ``[48, 48, 1]``,
    ``images[0:64]`` and ``images[positions]`` are uint8 ``[B, 48, 48, 1]``. Nothing is kept.

    Args:
      read: gives the faces at int64 ``[B]`` positions in the source; safe to call from several
        threads. What it raises comes out of an access.
      positions: in the source, of these faces: int64 ``[N]``.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], positions: np.ndarray):
        self._read = read
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *FACE_SHAPE)

    def subset(self, positions: np.ndarray) -> LazyImages:
        """The images at some positions, as lazy as these."""
        return LazyImages(self._read, self._positions[positions])

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(key, (int, np.integer)):
            return self._read(self._positions[[key]])[0]
        return self._read(self._positions[key])

    def __array__(self, dtype=None, copy=None):
        raise TypeError("these images are streamed from disk; index them to get an array")


class Split(NamedTuple):
    """Faces and their expressions.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``, grey levels 0..255: an array, or ``LazyImages``, which
        give arrays when they are indexed.
      labels: int32 ``[N]``, indices into ``expressions.CLASS_NAMES``.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray


class Splits(NamedTuple):
    """The three parts of a data set.

    Attributes:
      train: what the weights are fitted to.
      validation: what steers the learning rate and picks the best checkpoint.
      test: what is reported.
      selected_on: ``"validation"``, or ``"test"`` where the source has no validation images of
        its own and the test images serve as both.
    """

    train: Split
    validation: Split
    test: Split
    selected_on: str = "validation"


class Faces(NamedTuple):
    """All images of a source, in its own order.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, ``TRAIN`` to ``PRIVATE_TEST``.
      converted: images that were not 48x48 grey before.
      skipped: names of unreadable images that were left out.
      left_out: names of files among the images that are none.
      hashes: ``splitting.pixel_hashes(images)`` where they are known already.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    groups: np.ndarray
    converted: int = 0
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    hashes: np.ndarray | None = None


def class_counts(split: Split) -> np.ndarray:
    """Images of each class: int64 ``[7]``."""
    return np.bincount(split.labels, minlength=NUM_CLASSES)


def class_table(splits: Splits) -> str:
    """Images of each class and split, as lines of aligned text for the terminal."""
    columns = {"train": class_counts(splits.train)}
    if splits.selected_on == "test":
        columns["validation = test"] = class_counts(splits.test)
    else:
        columns["validation"] = class_counts(splits.validation)
        columns["test"] = class_counts(splits.test)
    rows = zip(*([*counts, counts.sum()] for counts in columns.values()), strict=True)
    named = zip((*CLASS_NAMES, "all"), rows, strict=True)
    return format_table(
        [("class", *columns), *((name, *(f"{n:,}" for n in row)) for name, row in named)]
    )


def chunks(images: np.ndarray | LazyImages, size: int = 4096) -> Iterator[np.ndarray]:
    """Consecutive parts of a split's images, so that one part at a time is in memory."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def fingerprint(splits: Splits) -> str:
    """SHA-256 over the decoded pixels and labels of all splits, as 64 hex digits.

    Two sources that decode to the same arrays in the same order have the same fingerprint,
    whatever container they came in.
    """
    digest = hashlib.sha256()
    for split in (splits.train, splits.validation, splits.test):
        digest.update(np.int64(len(split.labels)).tobytes())
        for chunk in chunks(split.images):
            digest.update(np.ascontiguousarray(chunk))
        digest.update(np.ascontiguousarray(split.labels, dtype="<i4"))
    return digest.hexdigest()
