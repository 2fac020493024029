"""Images by their positions, some of them mirrored, in as few passes over memory as can be."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fer_pipeline.datasets.gather import take
from fer_pipeline.input_pipeline import augment

#: The largest data set, in bytes, that is kept with its mirror images beside it: twice FER-2013.
#: The table of both takes twice as much again.
_MAX_MIRRORED = 2**27


def take_mirrored(images: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function ``(rows, mask) -> take(images, rows)``, mirrored where the bool ``[B]`` mask is.

    Images in memory that are not too many are mirrored once for all, at the first call, into a
    table of both, twice their size: to choose between an image and its mirror image is then a
    matter of the row, and costs half of mirroring what was taken.
    """

    @functools.cache
    def table() -> np.ndarray:
        both = np.empty((2, *images.shape), images.dtype)
        both[0], both[1] = images, images[:, :, ::-1]
        return both.reshape(-1, *images.shape[1:])

    def choose(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return take(table(), rows + len(images) * mask)

    def flip(rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        taken = take(images, rows)
        augment.flip_horizontally(taken, mask)
        return taken

    in_memory = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
    return choose if in_memory and images.nbytes <= _MAX_MIRRORED else flip
