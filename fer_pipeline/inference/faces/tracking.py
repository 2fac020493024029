"""Follows faces from frame to frame, and smooths what is said of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline.inference.faces import boxes

#: Two boxes are of one face if, made twice as wide and high, they share this part (intersection
#: over union). So a face may move by three quarters of its width between two looks.
_SAME = 0.2

#: Looks for which a face may be out of sight and keep its number.
_PATIENCE = 10

Box = tuple[float, float, float, float]


class Track(NamedTuple):
    """A face that is followed.

    Attributes:
      number: from 1, never given twice.
      box: left, top, width, height, where it was seen last.
      probabilities: float ``[C]``, smoothed.
      missed: looks since then.
    """

    number: int
    box: Box
    probabilities: np.ndarray
    missed: int = 0


class Tracks(NamedTuple):
    """All faces that are followed, and the number of the next new one."""

    current: tuple[Track, ...] = ()
    next_number: int = 1


def follow(
    tracks: Tracks, found: Sequence[Box], probabilities: np.ndarray, *, smooth: float
) -> tuple[Tracks, list[Track]]:
    """Gives the faces of a frame to the tracks that they continue, the nearest pairs first.

    Tracks that were seen in the last look come before those that wait: when a face passes behind
    another, the one in front keeps its number.

    Args:
      tracks: after the frame before.
      found: a box for each face.
      probabilities: float ``[N, C]``, the model's answers for them.
      smooth: exponential smoothing: the share of the past in a new value; 0 for none.

    Returns:
      The tracks now, and the track of each face, in order.
    """
    pairs = [
        (share, track, face)
        for track, known in enumerate(tracks.current)
        for face, share in enumerate(_closeness(known.box, found))
        if share >= _SAME
    ]
    of_face: dict[int, Track] = {}
    free = set(range(len(tracks.current)))
    for _, track, face in sorted(
        pairs, key=lambda pair: (tracks.current[pair[1]].missed > 0, -pair[0])
    ):
        if track in free and face not in of_face:
            free.remove(track)
            of_face[face] = tracks.current[track]
    numbers = itertools.count(tracks.next_number)
    now = []
    for face, (box, row) in enumerate(zip(found, probabilities, strict=True)):
        if known := of_face.get(face):
            now.append(Track(known.number, box, smooth * known.probabilities + (1 - smooth) * row))
        else:
            now.append(Track(next(numbers), box, row))
    lost = (tracks.current[track] for track in sorted(free))
    waiting = [track._replace(missed=track.missed + 1) for track in lost]
    waiting = [track for track in waiting if track.missed <= _PATIENCE]
    return Tracks((*now, *waiting), next(numbers)), now


def _closeness(box: Box, others: Sequence[Box]) -> np.ndarray:
    """Intersection over union of boxes that are made twice as large: ``[N]``."""
    return boxes.overlaps(_doubled([box])[0], _doubled(others))[0]


def _doubled(given: Sequence[Box]) -> np.ndarray:
    corner, size = np.split(np.array(given, np.float64).reshape(-1, 4), 2, axis=1)
    return np.concatenate([corner - size / 2, corner + 1.5 * size], axis=1)
