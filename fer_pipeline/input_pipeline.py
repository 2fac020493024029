"""Splits -> tf.data: shuffle, batch, flip, prefetch, all in uint8.

The faces were decoded once, into an array, a memory map or a lazily read folder
(``datasets``); here an epoch is a list of positions in it. Pixels stay uint8 up to the device: the
cast to float costs a quarter of the memory traffic there, and ten times the throughput here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import augment
from fer_pipeline.datasets.splits import Split
from fer_pipeline.expressions import IMAGE_SIZE

if TYPE_CHECKING:
    import tensorflow as tf

#: Batches kept ready: enough to ride out a slow read, little enough to cost no memory.
_PREFETCH = 8


def training_batches(
    split: Split, *, batch_size: int, seed: int, epoch: int, first_step: int = 0
) -> tf.data.Dataset:
    """One epoch of shuffled and randomly mirrored training batches.

    Every image appears exactly once; the last batch holds what is left and is not padded.

    Args:
      split: the training images and labels.
      batch_size: images of a batch.
      seed: seed of the order and of the flips.
      epoch: zero-based epoch; the order and the flips are a function of ``(seed, epoch)``.
      first_step: batches to leave out at the start, for a resumed epoch.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``).
    """
    size = len(split.labels)
    order = augment.epoch_order(size, seed=seed, epoch=epoch)
    mirrored = augment.flip_mask(size, seed=seed, epoch=epoch)

    def fetch(step: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(step * batch_size, (step + 1) * batch_size)
        images = split.images[order[part]]
        augment.flip_horizontally(images, mirrored[part])
        return images, split.labels[order[part]]

    return _batches(fetch, first_step, num_steps(size, batch_size))


def evaluation_batches(split: Split, *, batch_size: int) -> tf.data.Dataset:
    """The images of a split in their own order, neither shuffled nor mirrored.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``).
    """

    def fetch(step: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(step * batch_size, (step + 1) * batch_size)
        return np.asarray(split.images[part]), split.labels[part]

    return _batches(fetch, 0, num_steps(len(split.labels), batch_size))


def num_steps(size: int, batch_size: int) -> int:
    """Batches an epoch of ``size`` images takes, the partial last one counted."""
    return -(-size // batch_size)


def _batches(fetch, first_step: int, last_step: int) -> tf.data.Dataset:
    """A dataset of ``fetch(step)`` for the steps in between.

    NumPy gathers the batch: it is faster than ``tf.gather``, and a graph that closed over the
    images as a constant would copy them and take seconds to start.
    """
    import tensorflow as tf

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(fetch, (step,), (tf.uint8, tf.int32), stateful=False)
        images.set_shape((None, IMAGE_SIZE, IMAGE_SIZE, 1))
        labels.set_shape((None,))
        return images, labels

    steps = tf.data.Dataset.range(first_step, last_step)
    return steps.map(load, num_parallel_calls=1, deterministic=True).prefetch(_PREFETCH)
