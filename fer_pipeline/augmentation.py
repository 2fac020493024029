"""What ``--augment`` says: how far training images are changed."""

from __future__ import annotations

import dataclasses
import functools
import math

from fer_pipeline.classes import IMAGE_SIZE

#: What of ``--augment`` takes an amount, and the largest there is.
_LARGEST = {"shift": IMAGE_SIZE // 2, "rotate": 180.0, "zoom": 0.9, "cutout": IMAGE_SIZE}


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
      ValueError: names the part.
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
            raise ValueError(f"{part!r} is none of flip, {known}")
        found[name] = number
    return Augmentation(**found)
