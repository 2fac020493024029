"""Splits -> tf.data: shuffle, batch, flip, prefetch, all in uint8.

The faces were decoded once, into an array, a memory map or a lazily read folder
(``datasets``); here an epoch is a list of positions in it. Pixels stay uint8 up to the device: the
cast to float costs a quarter of the memory traffic there, and ten times the throughput here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import augment
from fer_pipeline.datasets.splits import Split
from fer_pipeline.expressions import IMAGE_SIZE

if TYPE_CHECKING:
    import tensorflow as tf

#: Images that one call into Python gathers. A call costs half a millisecond of thread switches, as
#: much as gathering some hundred images, so several batches are cut from what it returns.
_CHUNK = 1024

#: Chunks kept ready while one is used: enough to ride out a slow read, a few megabytes of memory.
_PREFETCH = 2


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

    def fetch(part: slice) -> tuple[np.ndarray, np.ndarray]:
        images = split.images[order[part]]
        augment.flip_horizontally(images, mirrored[part])
        return images, split.labels[order[part]]

    return _batches(fetch, first_step * batch_size, size, batch_size)


def evaluation_batches(split: Split, *, batch_size: int) -> tf.data.Dataset:
    """The images of a split in their own order, neither shuffled nor mirrored.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``).
    """

    def fetch(part: slice) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(split.images[part]), split.labels[part]

    return _batches(fetch, 0, len(split.labels), batch_size)


def num_steps(size: int, batch_size: int) -> int:
    """Batches an epoch of ``size`` images takes, the partial last one counted."""
    return -(-size // batch_size)


def _batches(
    fetch: Callable[[slice], tuple[np.ndarray, np.ndarray]], start: int, end: int, batch_size: int
) -> tf.data.Dataset:
    """Batches of ``fetch(slice)`` over the positions from ``start`` to ``end``.

    NumPy gathers the images: it is faster than ``tf.gather``, and a graph that closed over them as
    a constant would copy them and take seconds to start.
    """
    import tensorflow as tf

    chunk = max(1, _CHUNK // batch_size) * batch_size

    def fetch_chunk(position: int) -> tuple[np.ndarray, np.ndarray]:
        return fetch(slice(position, min(position + chunk, end)))

    def load(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(
            fetch_chunk, (position,), (tf.uint8, tf.int32), stateful=False
        )
        images.set_shape((None, IMAGE_SIZE, IMAGE_SIZE, 1))
        labels.set_shape((None,))
        return images, labels

    # Nothing here is left to tune, and the tuner's bookkeeping costs a fifth of the throughput.
    options = tf.data.Options()
    options.autotune.enabled = False
    chunks = tf.data.Dataset.range(start, end, chunk).map(load).prefetch(_PREFETCH)
    steps = num_steps(max(end - start, 0), batch_size)
    known_length = tf.data.experimental.assert_cardinality(steps)
    return chunks.rebatch(batch_size).apply(known_length).with_options(options)
