"""Batched, stateless image operations: the same seed, epoch and step give the same result."""

from __future__ import annotations

import numpy as np

#: Domains of the random streams, so that the order and the flips of one epoch are independent.
_ORDER, _FLIP = 0, 1


def epoch_order(size: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the training images: a permutation, int64 ``[size]``.

    It is a function of its arguments alone: whoever resumes inside an epoch, and every worker of
    a distributed job, computes the same one.
    """
    return _generator(_ORDER, seed, epoch).permutation(size)


def flip_mask(size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Which positions of an epoch are mirrored, each with probability 1/2: bool ``[size]``.

    Position ``step * batch_size + i`` belongs to image ``i`` of that step's batch.
    """
    return _generator(_FLIP, seed, epoch).random(size, dtype=np.float32) < 0.5


def flip_horizontally(images: np.ndarray, mask: np.ndarray) -> None:
    """Mirrors in place the images ``[B, H, W, C]`` where the bool ``mask`` ``[B]`` is true."""
    images[mask] = images[mask, :, ::-1]


def _generator(domain: int, seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([domain, seed, epoch])))
