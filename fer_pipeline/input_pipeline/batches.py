"""Splits -> tf.data: shuffle, batch, flip, prefetch, all in uint8.

``datasets`` has decoded the faces into an array, a memory map or ``LazyImages``; an epoch is a list
of positions in it. Pixels stay uint8 up to the device: the cast to float costs a quarter of the
memory traffic there, and ten times the throughput here.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE
from fer_pipeline.datasets import gather
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices.cluster import WHOLE, Shard
from fer_pipeline.input_pipeline import augment

if TYPE_CHECKING:
    import tensorflow as tf

#: Images that one call into Python gathers. A call costs half a millisecond of thread switches, as
#: much as gathering some hundred images, so its result is divided into several batches.
_CHUNK = 2048

#: Chunks that are gathered ahead, 38 MB of memory: enough to bridge a slow read.
_PREFETCH = 8

#: The function that gathers the chunks of each living dataset, by the dataset's number.
#:
#: TensorFlow never frees a function that a graph calls, nor the images that it refers to. So all
#: graphs call the same function, which looks up the dataset here.
_FETCHERS: dict[int, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {}
_numbers = itertools.count()


def _fetch_chunk(number: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _FETCHERS[int(number)](int(index))


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    epochs: int | None = 1,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Shuffled and randomly mirrored training batches of one epoch or several in a row.

    In an epoch every image appears exactly once; its last batch may be smaller and is not padded.
    A dataset of many epochs starts once, and gathers the next epoch's first batches while the last
    ones are used.

    Args:
      split: the training images and labels.
      batch_size: images of a batch, over all replicas.
      seed: of the order and of the flips.
      epoch: the first epoch, from zero; order and flips depend on ``(seed, epoch)`` and are the
        same for every replica.
      first_step: number of batches of the first epoch to skip, to resume it.
      epochs: how many; None is without end.
      shard: the part of every batch to gather.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``), ``shard.count`` elements a batch.
    """
    size = len(split.labels)
    take = augment.make_gather(split.images)

    # Two: the next epoch is gathered ahead while one ends.
    @functools.lru_cache(maxsize=2)
    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        order = augment.epoch_order(size, seed=seed, epoch=number)
        return order, augment.flip_mask(size, seed=seed, epoch=number)

    def fetch(passed: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order, mirrored = draw(epoch + passed)
        chosen = order[positions]
        return take(chosen, mirrored[positions]), split.labels[chosen]

    return _batches(fetch, size, batch_size, first_step=first_step, epochs=epochs, shard=shard)


def evaluation_batches(
    split: Split, *, batch_size: int, epochs: int | None = 1, shard: Shard = WHOLE
) -> tf.data.Dataset:
    """The images of a split in their own order, neither shuffled nor mirrored.

    Args:
      split: the images and labels.
      batch_size: images of a batch, over all replicas.
      epochs: how many; None is without end.
      shard: the part of every batch to gather.

    Returns:
      A dataset of (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``), ``shard.count`` elements a batch.
    """

    def fetch(_: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return gather.take(split.images, positions), split.labels[positions]

    return _batches(fetch, len(split.labels), batch_size, epochs=epochs, shard=shard)


def num_steps(size: int, batch_size: int) -> int:
    """The number of batches of an epoch of ``size`` images, with a partial last one."""
    return -(-size // batch_size)


def _parts(size: int, batch_size: int, shard: Shard) -> list[range]:
    """The epoch's positions in each element of a process, in order."""
    first, count, replicas = shard
    return [
        range(start + length * r // replicas, start + length * (r + 1) // replicas)
        for start in range(0, size, batch_size)
        for length in [min(batch_size, size - start)]
        for r in range(first, first + count)
    ]


def _batches(
    fetch: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    size: int,
    batch_size: int,
    *,
    first_step: int = 0,
    epochs: int | None = 1,
    shard: Shard,
) -> tf.data.Dataset:
    """Batches of ``fetch(epoch, positions)`` over ``size`` positions, ``epochs`` times.

    NumPy gathers the images: it is faster than ``tf.gather``, and a graph that closed over them as
    a constant would copy them and take seconds to start.
    """
    import tensorflow as tf

    parts = _parts(size, batch_size, shard)
    positions = np.fromiter(itertools.chain(*parts), np.int64)
    sizes = np.array([len(part) for part in parts], np.int64)
    skipped = first_step * shard.count
    # No chunk spans two epochs.
    later = range(0, len(positions), _CHUNK)
    first = range(int(sizes[:skipped].sum()), len(positions), _CHUNK)

    def fetch_chunk(index: int) -> tuple[np.ndarray, np.ndarray]:
        if index < len(first):
            epoch, start = 0, first[index]
        else:
            epoch, chunk = divmod(index - len(first), len(later))
            epoch, start = epoch + 1, later[chunk]
        return fetch(epoch, positions[start : start + _CHUNK])

    number = next(_numbers)

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(
            _fetch_chunk, (number, index), (tf.uint8, tf.int32), stateful=False
        )
        images.set_shape((None, IMAGE_SIZE, IMAGE_SIZE, 1))
        labels.set_shape((None,))
        return images, labels

    if epochs is None:
        indices, elements = tf.data.Dataset.counter(), tf.data.INFINITE_CARDINALITY
    else:
        indices = tf.data.Dataset.range(len(first) + (epochs - 1) * len(later))
        elements = len(sizes) * epochs - skipped
    # Iterators, and datasets derived from this one, keep it alive.
    _FETCHERS[number] = fetch_chunk
    weakref.finalize(indices, _FETCHERS.pop, number).atexit = False
    # There is nothing to tune, and autotuning costs a fifth of the throughput.
    options = tf.data.Options()
    options.autotune.enabled = False
    chunks = indices.map(load).prefetch(_PREFETCH)
    # ``rebatch`` repeats the sizes, so they start where this dataset does.
    batches = chunks.rebatch(np.roll(sizes, -skipped))
    known_length = tf.data.experimental.assert_cardinality(elements)
    return batches.apply(known_length).with_options(options)
