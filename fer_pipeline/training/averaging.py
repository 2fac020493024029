"""An exponential moving average of a network's weights, kept in a second network.

The average of the last steps' weights lies nearer to the middle of a minimum than any of them
(Polyak and Juditsky, 1992). Keras' own ``use_ema`` averages trainable variables alone. Here the
moving statistics of batch normalisation are averaged as well, over the same steps: those of the
last weights do not fit averaged ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def make_update(
    averaged: keras.Model,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    momentum: float,
    strategy: tf.distribute.Strategy,
) -> Callable[[], None]:
    """Makes what is to be called in the graph after every step, outside the replicas.

    ``average <- m average + (1 - m) weight``, where m after t updates is
    ``min(momentum, (1 + t) / (10 + t))``: the rule of ``tf.train.ExponentialMovingAverage``, by
    which the first weights are soon forgotten.

    Args:
      averaged: a network like ``model``, whose weights are the averages.
      model: the network that is trained.
      optimizer: counts its updates.
      momentum: the largest, 0..1.
      strategy: under whose scope all three were made.
    """
    import tensorflow as tf

    pairs = [
        (average.value, weight.value)
        for average, weight in zip(averaged.weights, model.weights, strict=True)
    ]

    def step_towards(average: tf.Variable, weight: tf.Tensor, share: tf.Tensor) -> tf.Operation:
        value = tf.convert_to_tensor(weight)
        return average.assign_sub(tf.cast(share, value.dtype) * (average - value))

    def update() -> None:
        updates = tf.cast(tf.convert_to_tensor(optimizer.iterations.value), tf.float64)
        share = 1.0 - tf.minimum(tf.cast(momentum, tf.float64), (1.0 + updates) / (10.0 + updates))
        for average, weight in pairs:
            strategy.extended.update(average, step_towards, args=(weight, share))

    return update
