"""Opens Keras' files, a pair or Keras 3's archive, and runs Keras models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline.inference import runtime_worker, strangers
from fer_pipeline.inference.export_files import MODEL_WEIGHTS

if TYPE_CHECKING:
    import keras

#: Where float32 is computed in full: a GPU may multiply it in TF32, of which 10 bits are right.
DEVICE = "/CPU:0"


def load(path: Path, *, trust: bool = False) -> keras.Model:
    """Opens a model with Keras 3, as README shows it to users, on the CPU and without XLA.

    Args:
      path: ``model.json``, whose weights lie beside it, or a ``.keras`` file.
      trust: whether it may ask for more than an export of this software needs.

    Raises:
      UserError: it asks for more (``strangers``).
      Exception: whatever a damaged file makes Keras, h5py, zipfile and json raise.
    """
    import h5py
    import keras
    import tensorflow as tf

    weights = path.with_name(MODEL_WEIGHTS) if path.suffix == ".json" else None
    if not trust:
        if weights:
            with h5py.File(weights) as file:
                strangers.check_hdf5(file, weights)
        strangers.check_keras(path)
    with tf.device(DEVICE):
        if weights:
            model = keras.models.model_from_json(path.read_text(encoding="utf-8"))
            model.load_weights(weights)
        else:
            model = keras.models.load_model(path, compile=False)
    # By default Keras compiles by XLA on a GPU.
    model.jit_compile = False
    return model


def predict_probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Runs a Keras model over uint8 images ``[N, 48, 48, C]``: float32 ``[N, C]``."""
    import tensorflow as tf

    # predict_on_batch keeps one compiled function for full batches and one for the remainder.
    with tf.device(DEVICE):
        return runtime_worker.in_batches(
            lambda part: model.predict_on_batch(part.astype(np.float32)),
            images,
            model.inputs[0].shape[0],
        )
