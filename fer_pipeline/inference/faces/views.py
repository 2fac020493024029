"""Square views of a picture, as a network with a small square input gets to see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: Side of the view that shows a picture with a rim, in longer sides of the picture.
_WITH_RIM = 1.5

#: What two views side by side share at least: the faces that fit in here are whole in one of them.
_OVERLAP = 0.25

#: The finest views are an eighth as wide as the picture. There are up to 110 of these.
_MAX_STEPS = 3


class View(NamedTuple):
    """A square part of a picture, in its pixels; it may reach beyond the picture."""

    left: float
    top: float
    side: float


def sides(height: int, width: int, finest: float) -> list[float]:
    """The sides of the views of a picture in pixels: the picture's longer side, then ever smaller.

    Args:
      height, width: of the picture.
      finest: side of the smallest views wanted. In a very large picture they stay larger, since
        every halving takes four times as many of them.
    """
    longer = max(height, width)
    steps = min(_MAX_STEPS, max(0, math.ceil(math.log2(longer / finest))))
    finest = max(finest, longer / 2**_MAX_STEPS)
    ratio = (longer / finest) ** (1 / steps) if steps else 1.0
    return [longer / ratio**step for step in range(steps + 1)]


def with_rim(height: int, width: int) -> list[float]:
    """The side of a view in which a face that fills the picture is not too large."""
    return [_WITH_RIM * max(height, width)]


def tiles(height: int, width: int, side: float) -> list[View]:
    """Views of one size that cover a picture, each sharing a quarter with the next at least."""

    def starts(length: int) -> np.ndarray:
        free = length - side
        if free <= 0:
            return np.array([free / 2])
        return np.linspace(0, free, 1 + math.ceil(free / (side * (1 - _OVERLAP))))

    return [View(left, top, side) for top in starts(height) for left in starts(width)]


def pyramid(
    image: Image.Image, wanted: Sequence[float], size: int
) -> Iterator[tuple[View, np.ndarray]]:
    """Every view of a picture and its pixels.

    Args:
      image: in RGB.
      wanted: sides of the views, the largest first.
      size: height and width of what is returned.

    Yields:
      The view, and uint8 ``[size, size, 3]``, black where the view reaches beyond the picture.
    """
    width, height = image.size
    # From the finest to the coarsest, each scaled down from the one before.
    for side in reversed(wanted):
        scale = size / side
        image = _resized(image, max(1, round(width * scale)), max(1, round(height * scale)))
        for view in tiles(height, width, side):
            left, top = round(view.left * scale), round(view.top * scale)
            yield view, np.asarray(image.crop((left, top, left + size, top + size)))


def look(image: Image.Image, view: View, size: int) -> np.ndarray:
    """The pixels of one view of an RGB image: uint8 ``[size, size, 3]``, black beyond its rim."""
    left, top, right, bottom = (
        round(edge) for edge in (view.left, view.top, view.left + view.side, view.top + view.side)
    )
    part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return np.asarray(_resized(part, size, size))


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    from PIL import Image

    # First by a whole number, which is quick: the detector does not see the difference.
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1)
