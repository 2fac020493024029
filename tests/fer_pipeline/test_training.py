"""The loop against Keras' ``fit``, and a resumed run against an uninterrupted one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline import checkpoints, training
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError


def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)
    return Split(images, rng.integers(0, 7, count).astype(np.int32))


@pytest.fixture(scope="module")
def splits():
    return Splits(split(20, 0), split(9, 1), split(9, 2))


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
    optimizer = training.make_optimizer(training.Recipe())
    optimizer.build(model.trainable_variables)
    train_steps = training.compile_train_steps(model, optimizer)
    for epoch in range(3):
        totals = train_steps(iter(batches(part, 8)), tf.constant(3)).numpy()
        assert totals[2] == 20
        np.testing.assert_allclose(totals[0] / 20, record["loss"][epoch], rtol=1e-5)
        np.testing.assert_allclose(totals[1] / 20, record["accuracy"][epoch], rtol=1e-6)
    for ours, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_evaluation_is_keras_evaluate(splits):
    model = small_model()
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(batches(splits.validation, 9), verbose=0)
    steps = training.compile_evaluate_steps(model)
    np.testing.assert_allclose(training.evaluate(steps, splits.validation), expected, rtol=1e-5)


def test_float16_loss_scaling_leaves_the_gradients_of_float32(splits):
    """The scale is 2^15; without the division before Adam the moments would show it."""
    part = splits.train
    moments = []
    for policy in ("float32", "mixed_float16"):
        model = small_model(policy)
        optimizer = training.make_optimizer(training.Recipe(precision=policy))
        optimizer.build(model.trainable_variables)
        training.compile_train_steps(model, optimizer)(iter(batches(part, 20)), tf.constant(1))
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        moments.append([np.asarray(v) for v in inner.variables if "momentum" in v.path])
    float32, float16 = moments
    assert len(float32) == len(model.trainable_variables)
    for plain, scaled in zip(float32, float16, strict=True):
        np.testing.assert_allclose(scaled, plain, atol=0.02 * np.abs(plain).max() + 1e-7)


def test_a_run_continued_from_its_files_is_the_uninterrupted_one(splits, tmp_path):
    recipe = training.Recipe(epochs=3, batch_size=8, seed=7)
    whole = training.train(splits, recipe, say=lambda line: None)

    first = training.Recipe(epochs=1, batch_size=8, seed=7)
    training.train(splits, first, run=tmp_path, say=lambda line: None)
    said = []
    resumed = training.train(splits, recipe, run=tmp_path, say=said.append)

    assert said == ["continuing after epoch 1"]
    assert resumed.history == whole.history
    assert [row.epoch for row in resumed.timing] == [1, 2, 3]
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        checkpoints.load_weights(tmp_path), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_hooks_see_every_epoch_once_its_checkpoint_is_safe(splits, tmp_path):
    seen = []

    def hook(history, timing):
        newest = checkpoints.load_latest(tmp_path)
        seen.append((history[-1].epoch, timing[-1].epoch, newest.state["epoch"]))

    recipe = training.Recipe(epochs=2, batch_size=16)
    training.train(splits, recipe, run=tmp_path, hooks=[hook], say=lambda line: None)
    assert seen == [(1, 1, 1), (2, 2, 2)]
    # A process that was killed between a checkpoint and its hooks is caught up with.
    training.train(splits, recipe, run=tmp_path, hooks=[hook], say=lambda line: None)
    assert seen[2:] == [(2, 2, 2)]


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_checkpoints(splits, tmp_path):
    diverging = training.Recipe(epochs=3, batch_size=4, learning_rate=1e30)
    with pytest.raises(UserError, match=r"epoch 1: the loss is .* learning rate 1e\+30"):
        training.train(splits, diverging, run=tmp_path, say=lambda line: None)
    assert checkpoints.load_latest(tmp_path) is None
