"""The plateau schedule against Keras' own callback, loss by loss; the linear one by its values."""

import json

import keras
import numpy as np
import pytest

from fer_pipeline.training.schedules import LinearSchedule, PlateauSchedule

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


def linear(epochs=4, warmup=0.25):
    return LinearSchedule(0.8, warmup=warmup, steps_per_epoch=5, epochs=epochs)


def all_rates(schedule, epochs=4, calls=(5,)):
    rates = []
    for _ in range(epochs):
        first = 0
        for count in calls:
            rates.extend(schedule.rates(first, count))
            first += count
        schedule.update(1.0)
    return rates


def test_the_linear_rate_rises_to_its_peak_and_falls_towards_zero():
    expected = [0.8 * step / 5 for step in range(1, 6)]
    expected += [0.8 * step / 15 for step in range(15, 0, -1)]
    np.testing.assert_allclose(all_rates(linear()), expected, rtol=1e-6)
    # However an epoch is cut into calls.
    np.testing.assert_array_equal(all_rates(linear(), calls=(1, 3, 1)), all_rates(linear()))


def test_without_warm_up_the_first_step_has_the_peak():
    assert all_rates(linear(warmup=0.0))[0] == np.float32(0.8)
    assert min(all_rates(linear(warmup=1.0))) > 0


def test_an_epoch_shows_the_rate_of_its_last_step():
    schedule = linear()
    rates = all_rates(linear())
    for epoch in range(4):
        assert schedule.learning_rate == rates[5 * epoch + 4]
        schedule.update(float("nan"))


@pytest.mark.parametrize("cut", range(4))
def test_a_restored_linear_schedule_continues(cut):
    first, second = linear(), linear()
    rates = all_rates(first, cut)
    second.restore(json.loads(json.dumps(first.state())))
    assert rates + all_rates(second, 4 - cut) == all_rates(linear())


def test_the_plateaus_rates_are_those_of_its_epoch():
    schedule = PlateauSchedule(5e-4)
    np.testing.assert_array_equal(schedule.rates(7, 3), np.full(3, 5e-4, np.float32))
