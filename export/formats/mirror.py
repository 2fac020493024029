"""Answers for a face and its mirror image at once, which are the same expression.

The mean of the two is right more often than either. A mirrored graph makes it inside: the face and
its reverse go through the network as one batch, so the weights are there once. Files of Keras' own
keep the plain network, to be trained on: Keras 2 has no layer that reverses an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def averaged(answer: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes of float32 ``[N, 48, 48, C] -> [N, K]`` the mean over a face and its mirror image.

    Made of operators that keep the scale of what they take: a slice with step -1 and, for the mean,
    an average pool, whose output is in the softmax' 256ths. So an int8 file rounds twice, each time
    by up to half a 256th: the answers of both views, and their mean.
    """
    import tensorflow as tf

    def run(image: tf.Tensor) -> tf.Tensor:
        both = answer(tf.concat([image, image[:, :, ::-1]], axis=0))
        num_classes = both.shape[-1]
        pairs = tf.reshape(both, [1, 2, -1, num_classes])
        mean = tf.nn.avg_pool2d(pairs, ksize=(2, 1), strides=1, padding="VALID")
        return tf.reshape(mean, [-1, num_classes])

    return run


def reference(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, *, mirror: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the files of an export are compared with.

    Args:
      predict: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, K]``, the plain network.
      images: what it is asked about.
      mirror: whether the files are mirrored.

    Returns:
      Float32 ``[N, K]``: the mean over both views and the plain answers, for files that are not
      mirrored; or the plain answers alone and None.
    """
    plain = predict(images)
    if not mirror:
        return plain, None
    reverse = predict(np.ascontiguousarray(images[:, :, ::-1]))
    return (plain + reverse) / np.float32(2), plain
