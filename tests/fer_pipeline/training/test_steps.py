"""Steps against Keras' ``fit`` and ``evaluate``, and their metrics against sums by hand."""

import keras
import numpy as np
import tensorflow as tf

from fer_pipeline import recipes
from fer_pipeline.config import Config
from fer_pipeline.training import averaging, loop, steps

#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"


def small_model(policy="float32"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.MaxPooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu", dtype=policy),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(7, activation="softmax", dtype="float32"),
        ]
    )


def batches(part, size):
    return tf.data.Dataset.from_tensor_slices(tuple(part)).batch(size)


def test_steps_train_as_keras_fit_does_the_partial_batch_included(splits):
    part = splits.train
    reference = small_model()
    reference.compile(
        optimizer=keras.optimizers.Adam(5e-4),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    record = reference.fit(batches(part, 8), epochs=3, shuffle=False, verbose=0).history

    model = small_model()
    optimizer = loop.make_optimizer(recipes.resolve(Config()), model)
    optimizer.build(model.trainable_variables)
    train_steps = steps.compile_train_steps(model, optimizer)
    for epoch in range(3):
        rows = train_steps(iter(batches(part, 8)), tf.constant([8, 8, 4])).numpy()
        assert rows[:, steps.IMAGES].tolist() == [8, 8, 4]
        totals = rows.sum(axis=0)
        np.testing.assert_allclose(totals[0] / 20, record["loss"][epoch], rtol=1e-5)
        np.testing.assert_allclose(totals[1] / 20, record["accuracy"][epoch], rtol=1e-6)
    for ours, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_averages_are_those_of_every_step_and_of_the_moving_statistics(splits):
    model, averaged = small_model(), small_model()
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)
    update = averaging.make_update(
        averaged, model, optimizer, momentum=0.3, strategy=tf.distribute.get_strategy()
    )
    train_steps = steps.compile_train_steps(model, optimizer, after_step=update)
    expected = model.get_weights()
    iterator = iter(batches(splits.train, 4))
    for t in range(1, 6):
        train_steps(iterator, tf.constant([4]))
        # (1 + t) / (10 + t) is above 0.3 from the fourth update on.
        m = min(0.3, (1 + t) / (10 + t))
        expected = [m * a + (1 - m) * w for a, w in zip(expected, model.get_weights(), strict=True)]
    for ours, theirs in zip(averaged.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not np.allclose(averaged.get_weights()[-3], model.get_weights()[-3])


def test_evaluation_is_keras_evaluate(splits):
    model = small_model()
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(batches(splits.validation, 9), verbose=0)
    rows = steps.compile_evaluate_steps(model)(iter(batches(splits.validation, 5)), tf.constant(2))
    loss, correct, images = steps.accumulate_metrics(np.zeros(3), rows.numpy())
    assert images == 9
    np.testing.assert_allclose([loss / 9, correct / 9], expected, rtol=1e-5)


def test_float16_loss_scaling_leaves_the_gradients_of_float32(splits):
    """The scale is 2^15; without the division before Adam the moments would show it."""
    part = splits.train
    moments = []
    for policy in ("float32", "mixed_float16"):
        model = small_model(policy)
        config = recipes.resolve(Config(precision=policy))
        optimizer = loop.make_optimizer(config, model)
        optimizer.build(model.trainable_variables)
        steps.compile_train_steps(model, optimizer)(iter(batches(part, 20)), tf.constant([20]))
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        moments.append([np.asarray(v) for v in inner.variables if "momentum" in v.path])
    float32, float16 = moments
    assert len(float32) == len(model.trainable_variables)
    for plain, scaled in zip(float32, float16, strict=True):
        np.testing.assert_allclose(scaled, plain, atol=0.02 * np.abs(plain).max() + 1e-7)


def test_sums_do_not_depend_on_where_an_epoch_was_cut():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((1000, 3)), np.zeros(1000)]).astype(np.float32)
    whole = steps.accumulate_metrics(np.zeros(3), rows)
    expected = [float(np.sum(rows[:, i].astype(np.longdouble))) for i in range(3)]
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    for cut in (1, 17, 999):
        parts = steps.accumulate_metrics(
            steps.accumulate_metrics(np.zeros(3), rows[:cut]), rows[cut:]
        )
        np.testing.assert_array_equal(parts, whole)


def test_a_loss_that_is_not_finite_is_seen_unless_its_update_was_skipped():
    rows = np.array([[1.0, 2, 4, 0], [np.nan, 1, 4, 0]])
    assert np.isnan(steps.accumulate_metrics(np.zeros(3), rows)[0])


def test_a_step_that_was_skipped_for_its_infinite_loss_does_not_count():
    rows = np.array([[1.0, 2, 4, 0], [np.nan, 1, 4, 1], [np.inf, 1, 4, 2], [3.0, 1, 4, 0]])
    assert steps.accumulate_metrics(np.zeros(3), rows).tolist() == [4.0, 3.0, 8.0]


def test_an_epoch_whose_updates_were_all_skipped_has_a_loss():
    """As the first steps under loss scaling often are; their losses are those of the network."""
    rows = np.array([[8.0, 2, 4, 1], [4.0, 1, 2, 1]])
    assert steps.accumulate_metrics(np.zeros(3), rows).tolist() == [12.0, 3.0, 6.0]
