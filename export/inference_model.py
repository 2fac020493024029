"""The float32 twin: the network that every artifact is made from and compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import networks
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

#: Where the twin is computed: a GPU may multiply float32 in TF32, of which 10 bits are right.
DEVICE = "/CPU:0"

#: Images at a time when a whole split is predicted: large enough to fill the cores' caches.
BATCH = 64


def inference_model(weights: Sequence[np.ndarray]) -> keras.Model:
    """Builds the float32 network, for any batch size, with trained weights.

    Args:
      weights: float32 arrays in the order of ``get_weights()`` of one of ``networks``; which of
        them it is shows by how many parameters there are.

    Raises:
      UserError: number or shapes of the weights are those of another network, or some are not
        finite.
    """
    import tensorflow as tf

    name = networks.name_of(sum(np.size(array) for array in weights)) or "notebook"
    with tf.device(DEVICE):
        model = networks.build_model(name)
    # On a GPU Keras compiles by XLA what nobody asked it to.
    model.jit_compile = False
    expected = [tuple(variable.shape) for variable in model.weights]
    given = [np.shape(array) for array in weights]
    if expected != given:
        raise UserError(
            f"weights: {len(given)} arrays that do not fit the network's {len(expected)};"
            " the checkpoint is of another network"
        )
    for variable, array in zip(model.weights, weights, strict=True):
        if not np.isfinite(array).all():
            raise UserError(f"weights: {variable.path} holds NaN or infinity; nothing to export")
    model.set_weights(weights)
    return model


def probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Runs a Keras model over images: float32 ``[N, 7]``.

    Args:
      model: takes float32 ``[B, 48, 48, 1]`` for any B.
      images: uint8 ``[N, 48, 48, 1]``.
    """
    import tensorflow as tf

    # predict_on_batch keeps one compiled function for full batches and one for the remainder.
    with tf.device(DEVICE):
        parts = [
            model.predict_on_batch(images[start : start + BATCH].astype(np.float32))
            for start in range(0, len(images), BATCH)
        ]
    return np.concatenate(parts)
