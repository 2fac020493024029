"""Finds faces of any size in a picture, with BlazeFace in two passes.

The network sees a face only if it takes up a tenth to two thirds of its small input. So a large
picture is looked at several times: as a whole, and at larger scales in overlapping tiles. Whatever
may be a face is then looked at once more, at the size that the network knows best: this tells
faces from textures and gives boxes of the same proportions for faces of all sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fer_pipeline.inference.faces import blazeface, boxes, views

if TYPE_CHECKING:
    from PIL import Image

NETWORK = blazeface.FULL_RANGE

#: Pixels of the network's input from which most faces are seen: BUILD_NOTES.md, "Faces".
_SEEN = 18

#: The lowest score in the first pass, and by default in the second.
_MAYBE, _SURE = 0.4, 0.55

#: Sides of a view in the second pass, in widths of the box.
_SECOND_LOOK = 4.0

#: Boxes that share this part (intersection over union) are of one face; MediaPipe's value.
_SAME = 0.3

#: So are two if this part of the smaller one is in the other: a tile may show half a face.
_INSIDE = 0.7


class Face(NamedTuple):
    """A face in a picture.

    Attributes:
      box: left, top, width and height in pixels of the upright picture, from the brows to the chin;
        it may reach beyond the picture.
      score: how sure the detector is, in 0..1.
      points: float32 ``[6, 2]``, x and y of the person's right eye and left eye, tip of the nose,
        mouth, right ear and left ear.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray


#: RGB uint8 ``[H, W, 3]`` -> its faces, the surest first.
Detector = Callable[[np.ndarray], list[Face]]


def open_detector(*, smallest: float = 40, lowest: float = _SURE) -> Detector:
    """Opens the face detector.

    Args:
      smallest: width in pixels of the faces to look for; smaller ones cost more time. In pictures
        more than 3,400 pixels long, the smallest ones found are longer by as much.
      lowest: score below which nothing counts as a face.

    Returns:
      A function of one picture, for one thread at a time.

    Raises:
      UserError: the extra ``faces`` is not installed.
    """
    network = blazeface.open_network(NETWORK)
    finest = smallest * NETWORK.size / _SEEN

    def detect(picture: np.ndarray) -> list[Face]:
        from PIL import Image

        image, (height, width) = Image.fromarray(picture), picture.shape[:2]
        # A face that fills the picture is seen only with a rim around it.
        for sides in (views.sides(height, width, finest), views.with_rim(height, width)):
            if found := _search(network, image, sides, lowest):
                return found
        return []

    return detect


def _search(
    network: blazeface.Run, image: Image.Image, sides: list[float], lowest: float
) -> list[Face]:
    """The faces in a picture that views of these sides show."""
    maybe = [
        _whole(_in_pixels(network(pixels, _MAYBE), view), view, image.size)
        for view, pixels in views.pyramid(image, sides, NETWORK.size)
    ]
    maybe = _joined(maybe)
    sure = [_look_again(network, image, maybe.boxes[group[0]], lowest) for group in _groups(maybe)]
    if not sure:
        return []
    sure = _joined(sure)
    return [_face(sure, group[0]) for group in _groups(sure)]


def _look_again(
    network: blazeface.Run, image: Image.Image, box: np.ndarray, lowest: float
) -> blazeface.Found:
    """Looks at what may be a face from the right distance, and finds one face or none."""
    centre, side = (box[:2] + box[2:]) / 2, _SECOND_LOOK * (box[2:] - box[:2]).max()
    view = views.View(*(centre - side / 2).tolist(), float(side))
    pixels = views.look(image, view, NETWORK.size)
    found = _in_pixels(network(pixels, lowest), view)
    shares, _ = boxes.overlaps(box, found.boxes)
    found = found.only(shares > _SAME)
    if not found.scores.size:
        return found
    # MediaPipe's weighted non-maximum suppression: the mean of those much like the surest.
    shares, _ = boxes.overlaps(found.boxes[found.scores.argmax()], found.boxes)
    alike = found.only(shares > _SAME)
    weights = alike.scores / alike.scores.sum()
    means = (np.tensordot(weights, values, 1) for values in (alike.boxes, alike.points))
    return blazeface.Found(*(mean[np.newaxis] for mean in means), alike.scores.max(keepdims=True))


def _in_pixels(found: blazeface.Found, view: views.View) -> blazeface.Found:
    """What was found in a view, in pixels of the picture."""
    corner, side = np.array([view.left, view.top], np.float32), np.float32(view.side)
    return blazeface.Found(
        found.boxes * side + np.tile(corner, 2), found.points * side + corner, found.scores
    )


def _whole(found: blazeface.Found, view: views.View, size: tuple[int, int]) -> blazeface.Found:
    """Leaves out the faces that a view cuts off, but not those that the picture itself does."""
    low = np.array([view.left, view.top])
    high = low + view.side
    cut = (found.boxes[:, :2] < low) & (low > 0)
    cut |= (found.boxes[:, 2:] > high) & (high < np.array(size))
    return found.only(~cut.any(axis=1))


def _joined(parts: list[blazeface.Found]) -> blazeface.Found:
    return blazeface.Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _groups(found: blazeface.Found) -> list[np.ndarray]:
    return boxes.group_same(found.boxes, found.scores, union=_SAME, inside=_INSIDE)


def _face(found: blazeface.Found, index: int) -> Face:
    left, top, right, bottom = found.boxes[index].tolist()
    box = (left, top, right - left, bottom - top)
    return Face(box, float(found.scores[index]), found.points[index])
