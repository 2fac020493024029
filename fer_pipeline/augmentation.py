"""Augmentation of a training: what is drawn for every position of an epoch.

The draws are made by NumPy beside the order and the flips (``augment``), and applied on the device
(``augment_on_device``).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from fer_pipeline.errors import UserError
from fer_pipeline.expressions import IMAGE_SIZE

#: Share of a training, at its end, over which everything but the flip fades out.
FADE = 0.1

#: Domain of the random stream; see ``augment``.
_STREAM = 2

#: What of ``--augment`` takes an amount, and the largest there is.
_LARGEST = {"shift": IMAGE_SIZE // 2, "rotate": 180.0, "zoom": 0.9, "cutout": IMAGE_SIZE}

#: Columns of ``draw``: the affine map of ``augment_on_device``, then the box that is cut out.
COLUMNS = 9


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training images are changed at most.

    Attributes:
      flip: mirrored with probability 1/2.
      shift: whole pixels along each axis.
      rotate: degrees to either side.
      zoom: share of the size, larger or smaller.
      cutout: side of a grey square, in pixels (DeVries and Taylor, "Improved regularization of
        convolutional neural networks with cutout", 2017).
    """

    flip: bool = True
    shift: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    cutout: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether there is anything to draw but the flip."""
        return bool(self.shift or self.rotate or self.zoom or self.cutout)


@functools.cache
def parse(text: str) -> Augmentation:
    """Reads ``"flip,shift:3,rotate:8,zoom:0.08,cutout:8"``; ``"none"`` leaves images as they are.

    Raises:
      UserError: names the flag and the part.
    """
    found: dict[str, float | bool] = {"flip": False}
    for part in text.split(",") if text != "none" else []:
        name, _, amount = part.strip().partition(":")
        if name == "flip" and not amount:
            found["flip"] = True
            continue
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if name not in _LARGEST or not 0 <= number <= _LARGEST[name]:
            known = ", ".join(f"{key}:0..{value:g}" for key, value in _LARGEST.items())
            raise UserError(f"--augment={text}: {part!r} is none of flip, {known}")
        found[name] = number
    return Augmentation(**found)


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
