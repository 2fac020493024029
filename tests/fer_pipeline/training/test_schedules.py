"""The plateau schedule against Keras' own callback, loss by loss."""

import json

import keras
import numpy as np
import pytest

from fer_pipeline.training.schedules import PlateauSchedule

LOSSES = {
    "falling": [2.0, 1.8, 1.7, 1.6, 1.5],
    "flat": [1.5] * 9,
    "noisy": [1.9, 1.4, 1.6, 1.39995, 1.2, 1.3, 1.25, 1.4, 1.1, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3],
    "not a number": [1.5, float("nan"), float("nan"), 1.4, 1.3],
}


def keras_rates(losses):
    """The learning rate after each epoch as ``ReduceLROnPlateau`` sets it."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(5e-4), loss="mse")
    callback = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", mode="min", factor=0.1, patience=2, min_lr=1e-5
    )
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
    return rates


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES.keys())
def test_it_sets_the_rates_of_keras(losses):
    schedule = PlateauSchedule(5e-4)
    np.testing.assert_allclose(
        [schedule.update(loss) for loss in losses], keras_rates(losses), rtol=1e-6
    )


def test_the_noisy_losses_do_reach_the_floor():
    assert keras_rates(LOSSES["noisy"])[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize("cut", range(15))
def test_a_restored_schedule_continues_as_if_never_stopped(cut):
    losses = LOSSES["noisy"]
    whole = PlateauSchedule(5e-4)
    expected = [whole.update(loss) for loss in losses]
    first = PlateauSchedule(5e-4)
    rates = [first.update(loss) for loss in losses[:cut]]
    second = PlateauSchedule(5e-4)
    second.restore(json.loads(json.dumps(first.state())))
    assert rates + [second.update(loss) for loss in losses[cut:]] == expected
