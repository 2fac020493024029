"""Cuts a face out of a picture as FER-2013's faces were cut: uint8 48x48, grey.

How large the square is and where it lies is measured: ``tests/proofs/face_margin.py`` finds
FER-2013's own faces in larger scenes and compares the classes of both crops.
"""

from __future__ import annotations

import numpy as np

from fer_pipeline import images

#: The side of the square in widths of the detector's box, and how far its centre lies above that of
#: the box, in the same unit.
SIDE, UP = 1.14, 0.04

#: A picture is taken whole if the square of its only face is at least this part of both sides.
_FILLS = 0.75

Box = tuple[float, float, float, float]


def square(box: Box) -> tuple[int, int, int]:
    """The square to cut for a detector's box: left, top and side in pixels, all whole."""
    left, top, width, height = box
    wide = max(width, height)
    side = max(1, round(SIDE * wide))
    x, y = left + width / 2, top + height / 2 - UP * wide
    return round(x - side / 2), round(y - side / 2), side


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """The face in a detector's box, as the classifier takes it.

    Beyond the picture its border pixels are repeated. Colours become grey and the square is scaled
    as ``images.to_face`` does it with a picture file.

    Args:
      picture: uint8 ``[H, W, 3]``, RGB.
      box: left, top, width, height in pixels, at least a pixel of it inside.

    Returns:
      uint8 ``[48, 48, 1]``.
    """
    left, top, side = square(box)
    rows, columns = (
        np.arange(start, start + side).clip(0, length - 1)
        for start, length in ((top, picture.shape[0]), (left, picture.shape[1]))
    )
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return images.to_face(inside[rows - rows[0]][:, columns - columns[0]])


def fills(height: int, width: int, box: Box) -> bool:
    """Whether the only face in a picture fills it, so that the picture is a crop already."""
    side = square(box)[2]
    return side >= _FILLS * max(height, width)
