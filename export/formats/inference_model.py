"""The float32 reference model: the network that every artifact is made from and compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline.errors import UserError
from fer_pipeline.inference import keras_loader
from fer_pipeline.models import networks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras


def inference_model(weights: Sequence[np.ndarray]) -> keras.Model:
    """Builds the float32 network, for any batch size, with trained weights.

    Args:
      weights: float32 arrays in the order of ``get_weights()`` of one of ``networks``, which the
        number of parameters tells.

    Raises:
      UserError: number or shapes of the weights are those of another network, or some are not
        finite.
    """
    import tensorflow as tf

    # The last ones are the biases of the last layer, one for each class.
    num_classes = max(1, np.size(weights[-1])) if len(weights) else 1
    size = sum(np.size(array) for array in weights)
    name = networks.name_of(size, num_classes) or "notebook"
    with tf.device(keras_loader.DEVICE):
        model = networks.build_model(name, num_classes)
    # By default Keras compiles by XLA on a GPU.
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
