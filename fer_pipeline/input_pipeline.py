"""Splits -> tf.data: shuffle, batch, flip, prefetch, all in uint8.

The faces were decoded once, into an array, a memory map or a lazily read folder
(``datasets``); here an epoch is a list of positions in it. Pixels stay uint8 up to the device: the
cast to float costs a quarter of the memory traffic there, and ten times the throughput here.
"""

from __future__ import annotations

import functools
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
_CHUNK = 4096

#: Chunks kept ready while one is used: enough to ride out a slow read, 38 MB of memory.
_PREFETCH = 4


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    epochs: int = 1,
) -> tf.data.Dataset:
    """Shuffled and randomly mirrored training batches of one epoch or several in a row.

    In an epoch every image appears exactly once; its last batch holds what is left and is not
    padded. One dataset of many epochs starts once, and gathers the next epoch's first batches
    while the last ones are used.

    Args:
      split: the training images and labels.
      batch_size: images of a batch.
      seed: seed of the order and of the flips.
      epoch: the first epoch, from zero; order and flips are a function of ``(seed, epoch)``.
      first_step: batches of the first epoch to leave out, for a resumed one.
      epochs: how many.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``).
    """
    size = len(split.labels)

    # Two: while an epoch ends, the next one is begun ahead.
    @functools.lru_cache(maxsize=2)
    def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
        order = augment.epoch_order(size, seed=seed, epoch=number)
        return order, augment.flip_mask(size, seed=seed, epoch=number)

    def fetch(passed: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        order, mirrored = drawn(epoch + passed)
        images = split.images[order[part]]
        augment.flip_horizontally(images, mirrored[part])
        return images, split.labels[order[part]]

    return _batches(fetch, size, batch_size, first_step=first_step, epochs=epochs)


def evaluation_batches(split: Split, *, batch_size: int) -> tf.data.Dataset:
    """The images of a split in their own order, neither shuffled nor mirrored.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``).
    """

    def fetch(_: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(split.images[part]), split.labels[part]

    return _batches(fetch, len(split.labels), batch_size)


def num_steps(size: int, batch_size: int) -> int:
    """Batches an epoch of ``size`` images takes, the partial last one counted."""
    return -(-size // batch_size)


def _batches(
    fetch: Callable[[int, slice], tuple[np.ndarray, np.ndarray]],
    size: int,
    batch_size: int,
    *,
    first_step: int = 0,
    epochs: int = 1,
) -> tf.data.Dataset:
    """Batches of ``fetch(epoch, slice)`` over ``size`` positions, ``epochs`` times.

    NumPy gathers the images: it is faster than ``tf.gather``, and a graph that closed over them as
    a constant would copy them and take seconds to start.
    """
    import tensorflow as tf

    chunk = max(1, _CHUNK // batch_size) * batch_size
    # No chunk reaches into the next epoch, and neither does a batch.
    chunks = [
        (epoch, start)
        for epoch in range(epochs)
        for start in range(0 if epoch else first_step * batch_size, size, chunk)
    ]
    sizes = [batch_size] * (size // batch_size) + [size % batch_size] * (size % batch_size > 0)
    sizes = sizes[first_step:] + sizes * (epochs - 1)

    def fetch_chunk(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epoch, start = place.tolist()
        return fetch(epoch, slice(start, min(start + chunk, size)))

    def load(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(
            fetch_chunk, (place,), (tf.uint8, tf.int32), stateful=False
        )
        images.set_shape((None, IMAGE_SIZE, IMAGE_SIZE, 1))
        labels.set_shape((None,))
        return images, labels

    # Nothing here is left to tune, and the tuner's bookkeeping costs a fifth of the throughput.
    options = tf.data.Options()
    options.autotune.enabled = False
    places = tf.data.Dataset.from_tensor_slices(np.array(chunks, np.int64).reshape(-1, 2))
    batches = places.map(load).prefetch(_PREFETCH).rebatch(np.array(sizes or [1], np.int64))
    known_length = tf.data.experimental.assert_cardinality(len(sizes))
    return batches.apply(known_length).with_options(options)
