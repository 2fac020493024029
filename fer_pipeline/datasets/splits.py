"""What every data source yields: uint8 faces and labels in three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fer_pipeline.expressions import CLASS_NAMES, NUM_CLASSES


class Split(NamedTuple):
    """Faces and their expressions.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``, grey levels 0..255: an array, a memmap, or for sources
        streamed from disk a ``folders.LazyImages``, which gives arrays when it is indexed.
      labels: int32 ``[N]``, indices into ``expressions.CLASS_NAMES``.
    """

    images: np.ndarray
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
    rows = [("class", *columns)]
    rows += [
        (name, *(f"{counts[label]:,}" for counts in columns.values()))
        for label, name in enumerate(CLASS_NAMES)
    ]
    rows.append(("all", *(f"{counts.sum():,}" for counts in columns.values())))
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows
    )


def chunks(images: np.ndarray, size: int = 4096) -> Iterator[np.ndarray]:
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
