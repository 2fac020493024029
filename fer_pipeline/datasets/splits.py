"""Faces and labels in three splits, as every data source returns them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import CLASS_NAMES, NUM_CLASSES
from fer_pipeline.images import FACE_SHAPE
from fer_pipeline.terminal.tables import format_table, shortened

#: Where an image is in its source: in ``train/``, in ``validation/`` or ``val/``, in ``test/`` with
#: one of Kaggle's two names, or in ``test/`` with another name. Sources list their images in this
#: order, so without ``validation_fraction`` every split is contiguous. Or it is in no split folder,
#: and so are all the others.
TRAIN, VALIDATION, PUBLIC_TEST, TEST, PRIVATE_TEST, UNSPLIT = range(6)


class LazyImages:
    """Faces that are read when they are indexed: decoded, or copied from a cache on disk.

    Indexed like an array along its first axis: ``images[7]`` is uint8 ``[48, 48, 1]``,
    ``images[0:64]`` and ``images[positions]`` are uint8 ``[B, 48, 48, 1]``. Nothing is kept.

    Args:
      read: returns the faces at int64 ``[B]`` positions in the source; is called from several
        threads. Its exceptions are raised by indexing.
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
        """Selects images, without reading them."""
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
        return arrays when they are indexed.
      labels: int32 ``[N]``, indices into the classes of its ``Splits``.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray


class Splits(NamedTuple):
    """The three parts of a data set.

    Attributes:
      train: the weights are fitted to it.
      validation: the learning rate and the best checkpoint depend on it.
      test: the reported metrics are computed on it.
      selected_on: ``"validation"``, or ``"test"`` if the source has no validation images and
        the test images are used as both.
      classes: what the labels mean, in their order.
      train_votes: float32 ``[N, C]``, what people say of the training images, as shares of each
        class, to be trained on in the place of the labels; or None.
      label_digest: SHA-256 of the file that the labels come from, if not from the source's own.
    """

    train: Split
    validation: Split
    test: Split
    selected_on: str = "validation"
    classes: tuple[str, ...] = CLASS_NAMES
    train_votes: np.ndarray | None = None
    label_digest: str = ""


class Faces(NamedTuple):
    """All images of a source, in its own order.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, ``TRAIN`` to ``UNSPLIT``.
      converted: number of images that were not 48x48 grey.
      skipped: names of unreadable images that were skipped.
      left_out: names of files among the images that are not images.
      hashes: ``splitting.pixel_hashes(images)``, if they are known already.
      rows: int64 ``[N]``, where each is in its source: the number of its file in the listing, or
        its row in the CSV, as a spreadsheet counts. None where the source has no such places.
      classes: what the labels mean, in their order.
      votes: float32 ``[N, C]`` as in ``Splits``, or None.
      label_digest: as in ``Splits``.
      unread: names of folders beside those of the splits, whose images were not read.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    groups: np.ndarray
    converted: int = 0
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    hashes: np.ndarray | None = None
    rows: np.ndarray | None = None
    classes: tuple[str, ...] = CLASS_NAMES
    votes: np.ndarray | None = None
    label_digest: str = ""
    unread: tuple[str, ...] = ()


def class_counts(split: Split, num_classes: int = NUM_CLASSES) -> np.ndarray:
    """Counts the images of each class: int64 ``[num_classes]``."""
    return np.bincount(split.labels, minlength=num_classes)


def class_table(splits: Splits) -> str:
    """Formats the number of images of each class and split for the terminal."""
    parts = {"train": splits.train}
    if splits.selected_on == "test":
        parts["validation = test"] = splits.test
    else:
        parts |= {"validation": splits.validation, "test": splits.test}
    columns = {name: class_counts(part, len(splits.classes)) for name, part in parts.items()}
    rows = [
        (name, *(f"{n:,}" for n in row))
        for name, *row in zip(splits.classes, *columns.values(), strict=True)
    ]
    total = ("all", *(f"{counts.sum():,}" for counts in columns.values()))
    return format_table([("class", *columns), *shortened(rows), total])


def chunks(images: np.ndarray | LazyImages, size: int = 4096) -> Iterator[np.ndarray]:
    """Yields consecutive parts of a split's images, so that one at a time is in memory."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def images_at(images: np.ndarray | LazyImages, positions: np.ndarray) -> np.ndarray | LazyImages:
    """Selects images at ascending positions; a view where they are contiguous."""
    if isinstance(images, LazyImages):
        return images.subset(positions)
    if positions.size and positions[-1] - positions[0] + 1 == positions.size:
        return images[positions[0] : positions[-1] + 1]
    return images[positions]


def fingerprint(splits: Splits) -> str:
    """SHA-256 over the decoded pixels and labels of all splits, as 64 hex digits.

    Sources that decode to the same arrays in the same order have the same fingerprint, whatever
    their format. A file of other labels, and votes to train on, are part of it.
    """
    digest = hashlib.sha256()
    for split in (splits.train, splits.validation, splits.test):
        digest.update(np.int64(len(split.labels)).tobytes())
        for chunk in chunks(split.images):
            digest.update(np.ascontiguousarray(chunk))
        digest.update(np.ascontiguousarray(split.labels, dtype="<i4"))
    digest.update(splits.label_digest.encode())
    if splits.train_votes is not None:
        digest.update(np.ascontiguousarray(splits.train_votes, dtype="<f4"))
    return digest.hexdigest()
