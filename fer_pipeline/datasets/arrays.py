"""Faces that are given as arrays instead of being read from a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fer_pipeline.datasets.splits import LazyImages, Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE


def checked(splits: Splits, parts: Sequence[str] = ("train", "validation", "test")) -> Splits:
    """The same faces with labels as the steps take them: NumPy's own whole numbers are longer.

    Args:
      splits: images uint8 ``[N, 48, 48, 1]`` and labels of any whole numbers ``[N]``; votes for
        each training image, if there are any.
      parts: those that are used; the others stay as they are.

    Returns:
      The same with int32 labels and float32 votes.

    Raises:
      UserError: images, labels or votes are of another kind, there are not as many of each, or a
        label is of no class.
    """
    classes = len(splits.classes)
    found = {name: _checked_part(name, getattr(splits, name), classes) for name in parts}
    splits = splits._replace(**found)
    if "train" not in found or splits.train_votes is None:
        return splits
    votes, count = np.asarray(splits.train_votes, np.float32), len(splits.train.labels)
    if votes.shape != (count, classes):
        raise UserError(
            f"train_votes: are {list(votes.shape)}, not one for each of {count:,} training images "
            f"and {classes:,} classes; give others to Splits"
        )
    return splits._replace(train_votes=votes)


def _checked_part(name: str, part: Split, classes: int) -> Split:
    try:
        images, labels = part
        if not isinstance(images, LazyImages):
            images = np.asarray(images)
        labels = np.asarray(labels)
    # Of images of several sizes, for example, NumPy makes no array.
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: is no array of images and one of labels ({error}); give others to Splits"
        ) from error
    if images.dtype != np.uint8 or images.shape[1:] != FACE_SHAPE:
        problem = f"its images are {images.dtype} {list(images.shape)}, not uint8 [N, 48, 48, 1]"
    elif labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        problem = (
            f"its labels are {labels.dtype} {list(labels.shape)}, not a whole number for each of "
            f"its {len(images):,} images"
        )
    elif not len(labels):
        problem = "it has no images"
    elif not 0 <= labels.min() <= labels.max() < classes:
        problem = (
            f"has labels from {labels.min()} to {labels.max()}, and the {classes:,} classes are 0 "
            f"to {classes - 1}"
        )
    else:
        return Split(images, labels.astype(np.int32))
    raise UserError(f"{name}: {problem}; give others to Splits")
