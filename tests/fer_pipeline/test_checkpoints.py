"""Checkpoints hold everything, are kept sparingly, and damage is noticed."""

import keras
import numpy as np
import pytest

from fer_pipeline import checkpoints, run_dir
from fer_pipeline.errors import UserError


def model_and_optimizer(seed):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=seed),
        ]
    )
    optimizer = keras.optimizers.Adam(seed * 1e-3)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def values(model, optimizer):
    return [np.asarray(variable) for variable in [*model.variables, *optimizer.variables]]


def test_every_variable_comes_back_the_dropout_seed_included(tmp_path):
    model, optimizer = model_and_optimizer(1)
    model(np.ones((2, 4)), training=True)
    path = checkpoints.save(tmp_path, model, optimizer, {"epoch": 1, "note": [1.5]}, best=False)
    other, other_optimizer = model_and_optimizer(2)
    checkpoint = checkpoints.load(path)
    checkpoints.restore(checkpoint, other, other_optimizer)
    assert checkpoint.state == {"epoch": 1, "note": [1.5]}
    for ours, theirs in zip(values(other, other_optimizer), values(model, optimizer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    data = np.ones((8, 4), np.float32)
    np.testing.assert_array_equal(model(data, training=True), other(data, training=True))


def test_the_last_two_and_the_best_are_kept(tmp_path):
    model, optimizer = model_and_optimizer(1)
    for epoch in (1, 2, 3, 4):
        model.layers[0].bias.assign(np.full(3, float(epoch)))
        checkpoints.save(tmp_path, model, optimizer, {"epoch": epoch}, best=epoch == 2)
    names = sorted(path.name for path in (tmp_path / run_dir.CHECKPOINTS).iterdir())
    assert names == ["best.npz", "epoch_0003.npz", "epoch_0004.npz"]
    assert checkpoints.load_weights(tmp_path, "best")[1].tolist() == [2.0, 2.0, 2.0]
    assert checkpoints.load_weights(tmp_path, "last")[1].tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_named_and_the_one_before_is_used(tmp_path, damage):
    model, optimizer = model_and_optimizer(1)
    for epoch in (1, 2):
        path = checkpoints.save(tmp_path, model, optimizer, {"epoch": epoch}, best=False)
    content = bytearray(path.read_bytes())
    if damage == "changed":
        # A byte of an array's data, so that only its checksum can tell.
        place = content.index(np.asarray(model.layers[0].kernel).tobytes())
        content[place] ^= 1
    path.write_bytes({"truncated": content[:-40], "changed": content, "empty": b""}[damage])
    said = []
    assert checkpoints.load_latest(tmp_path, said.append).state["epoch"] == 1
    assert len(said) == 1
    assert "epoch_0002.npz" in said[0]
    # It no longer counts as the newest, so that the next ones are not deleted in its favour.
    assert checkpoints.latest_epoch(tmp_path) == 1
    path = checkpoints.save(tmp_path, model, optimizer, {"epoch": 2}, best=False)
    assert checkpoints.load(path).state["epoch"] == 2


def test_all_damaged_is_no_fresh_start(tmp_path):
    model, optimizer = model_and_optimizer(1)
    checkpoints.save(tmp_path, model, optimizer, {"epoch": 1}, best=True).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match="--overwrite"):
            checkpoints.load_latest(tmp_path)
    # The best one is a file of its own.
    assert len(checkpoints.load_weights(tmp_path, "best")) == len(model.weights)


def test_a_folder_without_checkpoints(tmp_path):
    assert checkpoints.load_latest(tmp_path) is None
    with pytest.raises(UserError, match="no best checkpoint"):
        checkpoints.load_weights(tmp_path, "best")
