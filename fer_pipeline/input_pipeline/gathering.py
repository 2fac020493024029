"""Gathers images, some of them flipped, with few passes over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fer_pipeline.datasets.gather import take
from fer_pipeline.input_pipeline import augment

#: The largest data set, in bytes, of which a second table with all flipped images is kept: twice
#: FER-2013. The table has twice its size.
_MAX_MIRRORED = 2**27


def take_mirrored(images: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Makes a function ``(rows, mask) -> take(images, rows)``, flipped where the bool mask is true.

    If the images are in memory and not too many, the first call makes a table of the images and
    their flipped copies. Gathering from it takes half the time of flipping what was gathered.
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
