"""Compiled steps: many in one execution, on one or several replicas, without Python in between.

A step returns its metrics, ``[loss_sum, correct, images, overflows]`` over the whole batch. They
are returned step by step and added up later, so that the sums do not depend on the number of steps
in an execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Columns of a row: sum of the losses in nats, right answers, images, and the replicas whose scaled
#: gradients overflowed.
LOSS, CORRECT, IMAGES, OVERFLOWS = range(4)


def compile_train_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    strategy: tf.distribute.Strategy | None = None,
    jit_batch_size: int | None = None,
    objective: Callable[..., tf.Tensor] | None = None,
    after_step: Callable[[], None] | None = None,
) -> Callable[..., tf.Tensor]:
    """Compiles ``(iterator, sizes, rates) -> rows`` over training batches.

    The loss of a step is the mean of the objective over its whole batch, the partial last
    one included, whatever share of it a replica holds. With a ``LossScaleOptimizer`` an overflow on
    any replica skips the update on all of them: Keras looks at the gradients before they are added
    up, so those of the last layer are made infinite everywhere first.

    Args:
      model: takes float32 ``[B, 48, 48, 1]``, gives probabilities ``[B, C]``.
      optimizer: built for the model's trainable variables.
      strategy: under whose scope both were made; None is the default one.
      jit_batch_size: XLA compiles the steps over batches of this size; None leaves it out. Batches
        of another size, such as the partial last one of an epoch, run without it: XLA compiles anew
        for every size, and that takes longer than such steps ever do.
      objective: ``(labels, probabilities, targets, votes) -> losses [B]``, see ``distillation``;
        None is ``cross_entropy``.
      after_step: called in the graph after every step, outside the replicas; see ``averaging``.

    Returns:
      A function of an iterator over (uint8 ``[B, 48, 48, 1]``, int32 ``[B]``), spread over the
      strategy's replicas, and of the int32 sizes ``[S]`` of the next S whole batches. It gives
      rows ``[S, 4]`` in the dtype of the probabilities. A third element of a batch is a dict that
      may hold ``draws`` (``augmentation_draws``), ``targets`` and ``votes`` (``distillation``).
      The third argument is the float32 learning rates ``[S]``; without it the optimizer keeps the
      one it has.
    """
    import keras
    import tensorflow as tf

    from fer_pipeline.input_pipeline import augment_on_device

    strategy = strategy or tf.distribute.get_strategy()
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    objective = objective or (
        lambda labels, probabilities, *_: cross_entropy(labels, probabilities)
    )

    def step(images: tf.Tensor, labels: tf.Tensor, size: tf.Tensor, extras: dict) -> tf.Tensor:
        if "draws" in extras:
            faces = augment_on_device.apply(images, extras["draws"])
        else:
            faces = tf.cast(images, tf.float32)
        with tf.GradientTape() as tape:
            probabilities = model(faces, training=True)
            losses = objective(labels, probabilities, extras.get("targets"), extras.get("votes"))
            mean = tf.reduce_sum(losses) / tf.cast(size, losses.dtype)
            loss = optimizer.scale_loss(mean)
        gradients = tape.gradient(loss, model.trainable_variables)
        overflows = _overflows(gradients) if scaled else False
        row = _all_replicas(_row(labels, probabilities, losses, overflows))
        if scaled:
            last = gradients[-1]
            infinite = tf.cast(float("inf"), last.dtype)
            gradients[-1] = tf.where(row[OVERFLOWS] > 0, infinite, last)
        optimizer.apply(gradients, model.trainable_variables)
        return row

    compiled = tf.function(step, jit_compile=True)

    def run(images: tf.Tensor, labels: tf.Tensor, size: tf.Tensor, extras: dict) -> tf.Tensor:
        batch = images, labels, size, extras
        if jit_batch_size is None:
            return step(*batch)
        return tf.cond(size == jit_batch_size, lambda: compiled(*batch), lambda: step(*batch))

    @tf.function(reduce_retracing=True)
    def train_steps(
        iterator: tf.data.Iterator, sizes: tf.Tensor, rates: tf.Tensor | None = None
    ) -> tf.Tensor:
        rows = tf.TensorArray(_row_dtype(model), tf.size(sizes), element_shape=[4])
        for i in tf.range(tf.size(sizes)):
            images, labels, *rest = next(iterator)
            if rates is not None:
                optimizer.learning_rate = rates[i]
            extras = rest[0] if rest else {}
            replicas = strategy.run(run, args=(images, labels, sizes[i], extras))
            if after_step is not None:
                after_step()
            rows = rows.write(i, strategy.experimental_local_results(replicas)[0])
        return rows.stack()

    return train_steps


def compile_evaluate_steps(
    model: keras.Model, *, strategy: tf.distribute.Strategy | None = None
) -> Callable[[tf.data.Iterator, tf.Tensor], tf.Tensor]:
    """Compiles ``(iterator, steps) -> rows`` in inference mode; see ``compile_train_steps``.

    ``steps`` is an int32 scalar.
    """
    import tensorflow as tf

    strategy = strategy or tf.distribute.get_strategy()

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        probabilities = model(tf.cast(images, tf.float32), training=False)
        losses = cross_entropy(labels, probabilities)
        return _all_replicas(_row(labels, probabilities, losses, False))

    @tf.function(reduce_retracing=True)
    def evaluate_steps(iterator: tf.data.Iterator, steps: tf.Tensor) -> tf.Tensor:
        rows = tf.TensorArray(_row_dtype(model), steps, element_shape=[4])
        for i in tf.range(steps):
            replicas = strategy.run(step, args=next(iterator))
            rows = rows.write(i, strategy.experimental_local_results(replicas)[0])
        return rows.stack()

    return evaluate_steps


def accumulate_metrics(metric_sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Adds the rows ``[S, 4]`` of some steps to sums of losses, right answers and images.

    In float64 and one by one, so that the sums of an epoch do not depend on where it was cut. A
    step whose update was skipped and whose loss is not finite does not count.
    """
    lost = (rows[:, OVERFLOWS] > 0) & ~np.isfinite(rows[:, LOSS])
    counted = rows[~lost, :OVERFLOWS].astype(np.float64)
    return np.concatenate([metric_sums[np.newaxis], counted]).cumsum(axis=0)[-1]


def cross_entropy(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Cross-entropy in nats ``[B]`` of int32 ``[B]`` and a network's probabilities ``[B, C]``.

    Keras takes it from the logits, which its softmax keeps with the probabilities, so that a
    probability too small for float32 still has its loss. The one definition that training,
    validation and ``metrics.json`` share.
    """
    import keras

    return keras.losses.sparse_categorical_crossentropy(labels, probabilities)


def _row(
    labels: tf.Tensor, probabilities: tf.Tensor, losses: tf.Tensor, overflows: tf.Tensor | bool
) -> tf.Tensor:
    import tensorflow as tf

    predicted = tf.argmax(probabilities, axis=-1, output_type=labels.dtype)
    return tf.stack(
        [
            tf.reduce_sum(losses),
            tf.reduce_sum(tf.cast(predicted == labels, losses.dtype)),
            tf.reduce_sum(tf.ones_like(losses)),
            tf.cast(overflows, losses.dtype),
        ]
    )


def _row_dtype(model: keras.Model) -> str:
    return model.layers[-1].compute_dtype


def _overflows(gradients: list[tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
    return tf.logical_not(tf.reduce_all(tf.stack(finite)))


def _all_replicas(row: tf.Tensor) -> tf.Tensor:
    """The sum of a tensor over all replicas; a single one adds nothing to its graph."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return row
    return context.all_reduce(tf.distribute.ReduceOp.SUM, row)
