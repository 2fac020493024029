"""Augmentation of a training: what is drawn for every position of an epoch.

The draws are made by NumPy beside the order and the flips (``augment``), and applied on the device
(``augment_on_device``).
"""

from __future__ import annotations

import numpy as np

from fer_pipeline.augmentation import Augmentation
from fer_pipeline.classes import IMAGE_SIZE

#: Share of a training, at its end, over which everything but the flip fades out.
FADE = 0.1

#: Domain of the random stream; see ``augment``.
_STREAM = 2

#: Columns of ``draw``: the affine map of ``augment_on_device``, then the box that is cut out.
COLUMNS = 9


def draw(augmentation: Augmentation, strengths: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Draws the changes of every position of an epoch.

    Args:
      augmentation: how far they go at most.
      strengths: float ``[N]``, 0 to 1: the share of it at every position; see ``strengths``.
      seed: of the training.
      epoch: from zero. The draws are a function of the arguments alone.

    Returns:
      float32 ``[N, 9]``: ``a b c d e f``, so that row ``y`` and column ``x`` of the result, both
      counted from the middle of the image, are taken from row ``a y + b x + c`` and column
      ``d y + e x + f`` of the image, counted likewise; then row, column and half the side of the
      square to cut out, counted from the first pixel.
    """
    generator = np.random.Generator(
        np.random.Philox(np.random.SeedSequence([_STREAM, seed, epoch]))
    )
    size = len(strengths)
    uniform = generator.uniform(-1.0, 1.0, (6, size))
    zoom = 1.0 + uniform[0] * augmentation.zoom * strengths
    angle = np.deg2rad(uniform[1] * augmentation.rotate * strengths)
    reach = augmentation.shift * strengths
    # Whole pixels, all equally likely: between pixels an image blurs.
    shifts = np.clip(np.rint(uniform[2:4] * (reach + 0.5)), -np.ceil(reach), np.ceil(reach))
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    corners = np.floor((uniform[4:6] + 1.0) / 2.0 * IMAGE_SIZE)
    half = augmentation.cutout * strengths / 2.0
    rows = [cosine, -sine, shifts[0], sine, cosine, shifts[1], *corners, half]
    return np.stack(rows, axis=1).astype(np.float32)


def strengths(first: int, count: int, total: int) -> np.ndarray:
    """How strong augmentation is at the images ``first`` to ``first + count`` of ``total``.

    float64 ``[count]``: 1, and over the last tenth of the training falling linearly to 0.
    """
    left = 1.0 - (first + np.arange(count)) / total
    return np.clip(left / FADE, 0.0, 1.0)
