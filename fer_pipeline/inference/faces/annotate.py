"""Draws boxes and labels on a copy of a picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

#: A colour for each class in turn, told apart by the colour-blind too: Okabe and Ito's palette,
#: whose black is a grey here. https://jfly.uni-koeln.de/color/
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#F0E442", "#BBBBBB", "#56B4E9", "#E69F00")

#: Smaller pictures are enlarged so far, by a whole number, that a label can be read.
_LEAST = 320

#: Height of the letters: this part of the shorter side of the picture, but no smaller.
_LETTERS, _LEAST_LETTERS = 1 / 36, 13

Box = tuple[float, float, float, float]


class Mark(NamedTuple):
    """What to draw for a face.

    Attributes:
      box: left, top, width and height in pixels; None where the picture was taken whole.
      place: of the class among all, which gives the colour.
      text: what is written; one line.
    """

    box: Box | None
    place: int
    text: str


def draw(picture: np.ndarray, marks: Sequence[Mark], *, enlarge: bool = True) -> np.ndarray:
    """Draws marks on a copy of a picture: uint8 RGB ``[H, W, 3]`` -> ``[kH, kW, 3]``.

    Labels lie inside the picture, and where there is room, neither on faces nor on each other.

    Args:
      picture: is not changed.
      marks: one for each face.
      enlarge: whether a small picture is enlarged by a whole number k, so that one can read it.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    scale = -(-_LEAST // max(image.size)) if enlarge else 1
    if scale > 1:
        size = (scale * image.width, scale * image.height)
        image = image.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    letters = max(_LEAST_LETTERS, round(_LETTERS * min(image.size)))
    thick = max(2, letters // 7)
    boxes = [[scale * edge for edge in mark.box] if mark.box else None for mark in marks]
    for box, mark in zip(boxes, marks, strict=True):
        if box:
            left, top, width, height = box
            corners = [left, top, left + width, top + height]
            pen.rectangle(corners, outline=_colour(mark), width=thick)
    taken: list[Box] = []
    for box, mark in zip(boxes, marks, strict=True):
        font = _font(_fitting(mark.text, letters, image.width))
        width, height = _size(mark.text, font)
        others = [other for other in boxes if other and other is not box]
        left, top = place(box, (width, height), image.size, taken, others)
        taken.append((left, top, width, height))
        pen.rectangle([left, top, left + width, top + height], fill=_colour(mark))
        centre = (left + width / 2, top + height / 2)
        pen.text(centre, mark.text, fill="black", font=font, anchor="mm")
    return np.array(image)


def _colour(mark: Mark) -> str:
    return COLOURS[mark.place % len(COLOURS)]


def _fitting(text: str, letters: int, width: int) -> int:
    """The largest size of letters, up to ``letters``, in which a text is no wider than that."""
    while letters > 6 and _size(text, _font(letters))[0] > width:
        letters -= 1
    return letters


@functools.cache
def _font(letters: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(letters)


def _size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height of a label, the same height for all texts."""
    return round(font.getlength(text) + 0.6 * font.size), round(1.35 * font.size)


def place(
    box: Box | None,
    label: tuple[int, int],
    picture: tuple[int, int],
    taken: Sequence[Box],
    faces: Sequence[Box],
) -> tuple[int, int]:
    """Left and top of a label: the first place near its face where it covers the least.

    Args:
      box: the face's; None for a label of the whole picture.
      label, picture: width and height.
      taken: labels that are there already.
      faces: boxes of other faces.
    """
    left, top, width, height = box or (0, 0, *picture)
    above, below = top - label[1], top + height
    inside = (left, top), (left, below - label[1])
    around = [(left, above), (left, below), (left + width - label[0], above)]
    around += [(left + width - label[0], below), (left + width, top), (left - label[0], top)]
    places = [*around, *inside] if box else inside

    def held(x: float, y: float) -> tuple[int, int]:
        free = picture[0] - label[0] - 1, picture[1] - label[1] - 1
        return tuple(round(min(max(0, v), max(0, f))) for v, f in zip((x, y), free, strict=True))

    def covered(corner: tuple[int, int]) -> float:
        own = (*corner, *label)
        # To cover another label is worse than to cover a part of a face.
        face = _shared(own, box) if box else 0
        return (
            4 * sum(_shared(own, other) for other in taken)
            + 2 * sum(_shared(own, other) for other in faces)
            + face
        )

    return min((held(*corner) for corner in places), key=covered)


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes share."""
    sides = (
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis])
        for axis in (0, 1)
    )
    width, height = (max(0.0, side) for side in sides)
    return width * height
