"""Runs Keras callbacks from this loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_pipeline.training.state import EpochLog

if TYPE_CHECKING:
    import keras


def callback_list(
    callbacks: Sequence[keras.callbacks.Callback],
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
) -> keras.callbacks.CallbackList:
    """The callbacks as one, for the model that is trained; its ``optimizer`` is set for them."""
    import keras

    # Some callbacks, TensorBoard's among them, look for the optimizer at the model.
    model.optimizer = optimizer
    return keras.callbacks.CallbackList(list(callbacks), model=model)


def keras_logs(log: EpochLog) -> dict[str, float]:
    """An epoch under the names that Keras' ``fit`` gives it."""
    return {
        "loss": log.train_loss,
        "accuracy": log.train_accuracy,
        "val_loss": log.val_loss,
        "val_accuracy": log.val_accuracy,
        "learning_rate": log.learning_rate,
    }
