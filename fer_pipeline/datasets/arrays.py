"""Faces that are given as arrays instead of being read from a source."""

from __future__ import annotations

import numpy as np

from fer_pipeline.datasets.splits import LazyImages, Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE


def checked(splits: Splits) -> Splits:
    """The same faces with labels as the steps take them: NumPy's own whole numbers are longer.

    Args:
      splits: images uint8 ``[N, 48, 48, 1]`` and labels of any whole numbers ``[N]``.

    Returns:
      The same with int32 labels.

    Raises:
      UserError: images or labels of a part are of another kind, or there are not as many of both.
    """
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    return splits._replace(**{name: _checked_part(name, part) for name, part in parts.items()})


def _checked_part(name: str, part: Split) -> Split:
    images, labels = part.images, np.asarray(part.labels)
    if not isinstance(images, LazyImages):
        images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != FACE_SHAPE:
        problem = f"its images are {images.dtype} {list(images.shape)}, not uint8 [N, 48, 48, 1]"
    elif labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        problem = (
            f"its labels are {labels.dtype} {list(labels.shape)}, not a whole number for each of "
            f"its {len(images):,} images"
        )
    elif not len(labels):
        problem = "it has no images"
    else:
        short = labels.astype(np.int32)
        if (short == labels).all():
            return Split(images, short)
        problem = f"its labels are up to {labels.max()}, more than there can be classes"
    raise UserError(f"{name}: {problem}; give others to Splits")
