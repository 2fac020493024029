"""The faces in films: found frame by frame, followed, and answered for with smoothed values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.inference.results import Prediction

if TYPE_CHECKING:
    import numpy as np

    from fer_pipeline.inference.classifier import Classifier
    from fer_pipeline.inference.faces.detector import Detector
    from fer_pipeline.inference.faces.tracking import Track
    from fer_pipeline.inference.faces.video import Frame

#: Width in pixels of the faces that are looked for in a film. Half as much takes twice the time.
SMALLEST = 64

#: Gets every frame with its marks; False ends the film.
Show = Callable[["np.ndarray"], bool]


def predictions(
    frames: Iterable[Frame],
    file: str,
    *,
    detect: Detector,
    classify: Classifier,
    classes: Sequence[str] = CLASS_NAMES,
    every: int = 1,
    smooth: float = 0.5,
    copy: Path | None = None,
    show: Show | None = None,
) -> Iterator[list[Prediction]]:
    """Answers for the faces in a film.

    Args:
      frames: from ``video.read`` or ``video.watch``.
      file: the name in the answers.
      detect: finds the faces; from ``detector.open_detector``.
      classify: answers for them.
      classes: the names of its answers.
      every: looks at every how many frames.
      smooth: share of the past in a face's probabilities, from 0 to below 1 (``tracking.follow``).
      copy: where to write the film with boxes and labels; between two looks they stay.
      show: shows every frame with boxes and labels.

    Yields:
      The faces of a frame at which it looks, from left to right; at the end of a film without any
      face one prediction that says so.
    """
    from fer_pipeline.inference.faces import annotate, photographs, tracking, video

    tracks, found, seen = tracking.Tracks(), [], False
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(video.write(copy, photographs.ORIGIN)) if copy else None
        for frame in frames:
            pixels = None
            if frame.number % every == 0:
                pixels = frame.pixels()
                tracks, now = _look(pixels, tracks, detect, classify, smooth)
                found = [_prediction(track, classes, file, frame.number) for track in now]
                seen = seen or bool(found)
                yield found
            if not (add or show):
                continue
            pixels = frame.pixels() if pixels is None else pixels
            drawn = annotate.draw(pixels, photographs.marks(found), enlarge=False)
            if add:
                add(frame.seconds, drawn)
            if show and not show(drawn):
                break
    if not seen:
        yield [Prediction.of_nobody(file)]


def _look(
    pixels: np.ndarray,
    tracks: tuple,
    detect: Detector,
    classify: Classifier,
    smooth: float,
) -> tuple[tuple, list]:
    """Finds, classifies and follows the faces of one frame."""
    import numpy as np

    from fer_pipeline.inference.faces import crops, tracking

    boxes = [face.box for face in sorted(detect(pixels), key=lambda face: face.box[:2])]
    rows = np.zeros((0, 1))
    if boxes:
        rows = classify(np.stack([crops.cut(pixels, box) for box in boxes]))
    return tracking.follow(tracks, boxes, rows, smooth=smooth)


def _prediction(track: Track, classes: Sequence[str], file: str, frame: int) -> Prediction:
    from fer_pipeline.inference.faces import photographs

    return Prediction.of(
        track.probabilities.tolist(),
        classes,
        file=file,
        frame=frame,
        box=photographs.whole_pixels(track.box),
        track=track.number,
    )
