"""Shuffling and flipping, as functions of the seed, the epoch and the position."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fer_pipeline.datasets.gather import take

#: Numbers of the random streams, so that the order and the flips of an epoch are independent.
_ORDER, _FLIP = 0, 1

#: The largest data set, in bytes, of which a second table with all flipped images is kept: twice
#: FER-2013. The table has twice its size.
_MAX_MIRRORED = 2**27


def epoch_order(size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draws the order of an epoch's training images: a permutation, int64 ``[size]``.

    It depends on the arguments alone, so a resumed run and all workers of a distributed one compute
    the same order.
    """
    return _generator(_ORDER, seed, epoch).permutation(size)


def flip_mask(size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draws which positions of an epoch are flipped, with probability 1/2: bool ``[size]``.

    Position ``step * batch_size + i`` belongs to image ``i`` of that step's batch.
    """
    return _generator(_FLIP, seed, epoch).random(size, dtype=np.float32) < 0.5


def flip_horizontally(images: np.ndarray, mask: np.ndarray) -> None:
    """Flips in place the images ``[B, H, W, C]`` where the bool ``mask`` ``[B]`` is true.

    Grey uint8 images whose width is a multiple of 8 are flipped in words of eight pixels, which is
    several times faster: the order of the words of a row is reversed, and the bytes of each word.
    """
    chosen = np.flatnonzero(mask)
    size, height, width, channels = images.shape
    in_words = images.dtype == np.uint8 and channels == 1 and width % 8 == 0
    if in_words and images.flags.c_contiguous:
        words = images.reshape(size, height * width).view(np.uint64)
        mirrored = words[chosen].take(_reversed_rows(height, width // 8), axis=1)
        words[chosen] = mirrored.byteswap(inplace=True)
    else:
        images[chosen] = images[chosen, :, ::-1]


def make_gather(images: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
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
        flip_horizontally(taken, mask)
        return taken

    in_memory = isinstance(images, np.ndarray) and not isinstance(images, np.memmap)
    return choose if in_memory and images.nbytes <= _MAX_MIRRORED else flip


@functools.cache
def _reversed_rows(height: int, width: int) -> np.ndarray:
    """Indices that reverse the rows of a flat grid: int64 ``[height * width]``."""
    return np.arange(height * width).reshape(height, width)[:, ::-1].ravel()


def _generator(domain: int, seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([domain, seed, epoch])))
