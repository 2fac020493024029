"""What a training minimises: labels, smoothed, and what teachers say of the same faces.

Hinton et al., "Distilling the knowledge in a neural network" (2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Faces at a time that a teacher looks at.
_BATCH = 256

#: The smallest normal float32: a probability below it is none whose logarithm says anything.
_SMALLEST = np.finfo(np.float32).tiny


def teacher_targets(
    teachers: Sequence[keras.Model], images: np.ndarray, *, temperature: float
) -> np.ndarray:
    """What the teachers say of faces at a temperature: float32 ``[N, C]``, rows of sum 1.

    The mean of all teachers' softened probabilities of a face and of its mirror image: a student
    sees both, and they are the same face.

    Args:
      teachers: float32 networks from grey levels ``[B, 48, 48, 1]`` to probabilities ``[B, C]``.
      images: uint8 ``[N, 48, 48, 1]``.
      temperature: what logits are divided by before the softmax.
    """
    total = np.zeros((len(images), teachers[0].output_shape[-1]))
    for teacher in teachers:
        for start in range(0, len(images), _BATCH):
            faces = images[start : start + _BATCH].astype(np.float32)
            for view in (faces, faces[:, :, ::-1]):
                answers = np.asarray(teacher.predict_on_batch(view))
                total[start : start + len(faces)] += soften(answers, temperature)
    return (total / (2 * len(teachers))).astype(np.float32)


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``[N, C]`` as the softmax of their logits over ``temperature``: float64."""
    scaled = np.log(np.maximum(probabilities, _SMALLEST).astype(np.float64)) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def objective(
    *,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    distill: float = 0.0,
    class_weights: np.ndarray | None = None,
) -> Callable[..., tf.Tensor]:
    """Makes the loss ``(labels, probabilities, targets, votes) -> losses``, in nats ``[B]``.

    ``distill * T^2 * CE(targets, softmax(logits / T)) + (1 - distill) * w * CE(labels)``, the
    labels smoothed (Szegedy et al., 2016): ``label_smoothing`` of their weight is spread evenly
    over the classes. The factor ``T^2`` is Hinton's: the gradients of soft targets shrink by it.
    Without targets it is the second cross-entropy alone.

    ``votes`` is the share of people who named each class, ``[B, C]``, or None. It takes the place
    of the label (the "cross-entropy loss" of Barsoum et al., 2016).

    Args:
      label_smoothing: see above.
      temperature: T.
      distill: see above.
      class_weights: w, by the label of an image, float32 ``[C]``; None is 1. See
        ``class_weights.make``.
    """
    import keras
    import tensorflow as tf

    from fer_pipeline.training.steps import cross_entropy

    def of_labels(
        labels: tf.Tensor, probabilities: tf.Tensor, votes: tf.Tensor | None
    ) -> tf.Tensor:
        if votes is None and not label_smoothing:
            return cross_entropy(labels, probabilities)
        if votes is None:
            votes = tf.one_hot(labels, probabilities.shape[-1])
        return keras.losses.categorical_crossentropy(
            tf.cast(votes, probabilities.dtype), probabilities, label_smoothing=label_smoothing
        )

    def losses(
        labels: tf.Tensor,
        probabilities: tf.Tensor,
        targets: tf.Tensor | None,
        votes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        hard = of_labels(labels, probabilities, votes)
        if class_weights is not None:
            hard *= tf.gather(tf.constant(class_weights, hard.dtype), labels)
        if targets is None:
            return hard
        # Keras' softmax keeps its logits with the probabilities.
        softened = tf.nn.log_softmax(probabilities._keras_logits / temperature)
        soft = -tf.reduce_sum(tf.cast(targets, softened.dtype) * softened, axis=-1)
        return distill * temperature**2 * soft + (1.0 - distill) * hard

    return losses
