"""Shuffling and flipping as functions of the seed, the epoch and the position."""

from __future__ import annotations

import functools

import numpy as np

#: Numbers of the random streams, so that the order and the flips of an epoch are independent.
_ORDER, _FLIP = 0, 1


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


@functools.cache
def _reversed_rows(height: int, width: int) -> np.ndarray:
    """Indices that reverse the rows of a flat grid: int64 ``[height * width]``."""
    return np.arange(height * width).reshape(height, width)[:, ::-1].ravel()


def _generator(domain: int, seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([domain, seed, epoch])))
