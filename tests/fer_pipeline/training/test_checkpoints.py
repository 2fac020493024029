"""Checkpoints hold everything, are kept sparingly, and damage is noticed."""

import hashlib
import io
import struct
import zipfile

import keras
import numpy as np
import pytest

from fer_pipeline import atomic_files, run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.training import checkpoints


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


def save(run, model, optimizer, state, *, best=False):
    return checkpoints.save(run, checkpoints.capture(model, optimizer, state), best=best)


def names_in(run):
    return sorted(path.name for path in (run / run_dir.CHECKPOINTS).iterdir())


def values(model, optimizer):
    return [np.asarray(variable) for variable in [*model.variables, *optimizer.variables]]


def test_every_variable_comes_back_the_dropout_seed_included(tmp_path):
    model, optimizer = model_and_optimizer(1)
    model(np.ones((2, 4)), training=True)
    path = save(tmp_path, model, optimizer, {"epoch": 1, "note": [1.5]})
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
        save(tmp_path, model, optimizer, {"epoch": epoch}, best=epoch == 2)
    assert names_in(tmp_path) == ["best.npz", "epoch_0003.npz", "epoch_0004.npz"]
    assert checkpoints.load_weights(tmp_path, "best")[1].tolist() == [2.0, 2.0, 2.0]
    assert checkpoints.load_weights(tmp_path, "last")[1].tolist() == [4.0, 4.0, 4.0]
    assert checkpoints.load_end(tmp_path, "last").state["epoch"] == 4
    assert checkpoints.load_end(tmp_path, "best").state["epoch"] == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_named_and_the_one_before_is_used(tmp_path, damage):
    model, optimizer = model_and_optimizer(1)
    for epoch in (1, 2):
        path = save(tmp_path, model, optimizer, {"epoch": epoch})
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
    assert checkpoints.progress(tmp_path) == (1, 0)
    path = save(tmp_path, model, optimizer, {"epoch": 2})
    assert checkpoints.load(path).state["epoch"] == 2


def test_all_damaged_is_no_fresh_start(tmp_path):
    model, optimizer = model_and_optimizer(1)
    save(tmp_path, model, optimizer, {"epoch": 1}).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match="--overwrite"):
            checkpoints.load_latest(tmp_path)


@pytest.mark.parametrize("left", ["damaged", "missing"])
def test_the_best_is_continued_from_where_it_is_all_that_is_left_of_its_epoch(tmp_path, left):
    """Or the epoch would be trained anew, and the best be of an attempt that history lacks."""
    model, optimizer = model_and_optimizer(1)
    save(tmp_path, model, optimizer, {"epoch": 1})
    model.layers[0].bias.assign(np.full(3, 2.0))
    path = save(tmp_path, model, optimizer, {"epoch": 2}, best=True)
    path.write_bytes(b"") if left == "damaged" else path.unlink()
    found = checkpoints.load_latest(tmp_path, str)
    assert found.state == {"epoch": 2}
    np.testing.assert_array_equal(found.weights[1], np.full(3, 2.0))
    assert checkpoints.load_end(tmp_path, "last").state == {"epoch": 2}


def test_a_folder_without_checkpoints(tmp_path):
    assert checkpoints.load_latest(tmp_path) is None
    with pytest.raises(UserError, match="no best checkpoint"):
        checkpoints.load_weights(tmp_path, "best")


def test_one_inside_an_epoch_is_newer_than_its_beginning_and_older_than_its_end(tmp_path):
    model, optimizer = model_and_optimizer(1)
    for state in ({"epoch": 9}, {"epoch": 9, "step": 2}, {"epoch": 9, "step": 10}):
        model.layers[0].bias.assign(np.full(3, 9.0 + state.get("step", 0)))
        save(tmp_path, model, optimizer, state)
    assert checkpoints.load_latest(tmp_path).state["step"] == 10
    assert checkpoints.progress(tmp_path) == (9, 10)
    assert names_in(tmp_path) == [
        "epoch_0009.npz",
        "epoch_0009_step_000002.npz",
        "epoch_0009_step_000010.npz",
    ]
    # What is exported meanwhile is the end of an epoch.
    np.testing.assert_array_equal(checkpoints.load_weights(tmp_path)[1], [9.0, 9.0, 9.0])
    save(tmp_path, model, optimizer, {"epoch": 10})
    assert names_in(tmp_path) == ["epoch_0009_step_000010.npz", "epoch_0010.npz"]
    assert checkpoints.latest(tmp_path).name == "epoch_0010.npz"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_variable_that_is_not_finite_is_not_written(tmp_path, value):
    model, optimizer = model_and_optimizer(1)
    good = save(tmp_path, model, optimizer, {"epoch": 1})
    model.layers[0].bias.assign([0.0, value, 0.0])
    with pytest.raises(UserError, match=r"weights is not finite.*epoch_0001\.npz"):
        save(tmp_path, model, optimizer, {"epoch": 2})
    assert list((tmp_path / run_dir.CHECKPOINTS).iterdir()) == [good]


def test_whatever_byte_changes_is_noticed():
    model, optimizer = model_and_optimizer(1)
    whole = checkpoints.capture(model, optimizer, {"epoch": 1})
    content = checkpoints.pack(whole)
    assert len(np.load(io.BytesIO(content)).files) == 1 + sum(map(len, whole[:3]))
    for place in [*np.random.default_rng(0).integers(0, len(content), 200), *range(-70, 0)]:
        changed = bytearray(content)
        changed[place] ^= 1
        # The two bytes that say how long the checksum is have no say in where it is looked for.
        if place in (-66, -65):
            continue
        with pytest.raises(ValueError, match="checksum"):
            checkpoints.unpack(bytes(changed))


def test_the_space_that_is_needed_is_that_of_the_files_to_come(tmp_path):
    model, optimizer = model_and_optimizer(1)
    checkpoint = checkpoints.capture(model, optimizer, {"epoch": 1})
    assert checkpoints.size(checkpoint) == sum(v.nbytes for v in values(model, optimizer))
    assert checkpoints.space_needed(tmp_path / "not" / "there", 100) == 500
    save(tmp_path, model, optimizer, {"epoch": 1}, best=True)
    assert checkpoints.space_needed(tmp_path, 100) == 300


def test_other_files_in_the_folder_are_no_checkpoints(tmp_path):
    model, optimizer = model_and_optimizer(1)
    path = save(tmp_path, model, optimizer, {"epoch": 2})
    for name in ("epoch_0003_backup.npz", "epoch_9.npz", "epoch_0009_step_12 (1).npz"):
        (path.parent / name).write_bytes(b"")
    assert checkpoints.latest(tmp_path) == path
    assert checkpoints.progress(tmp_path) == (2, 0)
    for epoch in (3, 4, 5):
        save(tmp_path, model, optimizer, {"epoch": epoch})
    assert (path.parent / "epoch_0003_backup.npz").exists()


def test_killed_between_an_epochs_file_and_the_best_the_best_is_made_up_for(tmp_path, monkeypatch):
    model, optimizer = model_and_optimizer(1)
    save(tmp_path, model, optimizer, {"epoch": 1}, best=True)
    before = checkpoints.load(tmp_path / run_dir.CHECKPOINTS / "best.npz")
    model.layers[0].bias.assign(np.full(3, 2.0))
    second = checkpoints.capture(model, optimizer, {"epoch": 2})
    atomic_write, written = atomic_files.atomic_write, []

    def killed_at_the_second(target):
        written.append(target.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        return atomic_write(target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "atomic_write", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(tmp_path, second, best=True)
    # History has the second epoch, whose file is there; the best is still the first.
    assert written == ["epoch_0002.npz", "best.npz"]
    assert checkpoints.progress(tmp_path) == (2, 0)
    assert checkpoints.load_end(tmp_path, "best").state == before.state == {"epoch": 1}
    checkpoints.restore_best(tmp_path, second)
    assert checkpoints.load_end(tmp_path, "best").state == {"epoch": 2}
    np.testing.assert_array_equal(checkpoints.load_weights(tmp_path, "best")[1], np.full(3, 2.0))


def test_a_write_that_fails_is_one_line_and_costs_nothing(tmp_path, monkeypatch):
    model, optimizer = model_and_optimizer(1)
    good = save(tmp_path, model, optimizer, {"epoch": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=r"epoch_0002\.npz: cannot be written \(No space left"):
        save(tmp_path, model, optimizer, {"epoch": 2})
    assert list((tmp_path / run_dir.CHECKPOINTS).iterdir()) == [good]
    assert checkpoints.load(good).state == {"epoch": 1}


def test_weights_and_epoch_are_of_one_file_whatever_a_training_writes(tmp_path, monkeypatch):
    model, optimizer = model_and_optimizer(1)
    save(tmp_path, model, optimizer, {"epoch": 1})
    load = checkpoints.load

    def overtaken(path):
        # Another epoch ends between the choice of the file and its reading.
        monkeypatch.setattr(checkpoints, "load", load)
        path.unlink()
        model.layers[0].bias.assign(np.full(3, 2.0))
        save(tmp_path, model, optimizer, {"epoch": 2})
        return load(path)

    monkeypatch.setattr(checkpoints, "load", overtaken)
    found = checkpoints.load_end(tmp_path)
    assert found.state["epoch"] == 2
    np.testing.assert_array_equal(found.weights[1], [2.0, 2.0, 2.0])


def packed_anew(values, method):
    """A checkpoint of one array with a right checksum, compressed by a method of ``zipfile``."""
    whole = io.BytesIO(checkpoints.pack(checkpoints.Checkpoint([values], [], [], {"epoch": 1})))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as packed, zipfile.ZipFile(whole) as archive:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    body = content.getvalue()[:-2]
    return body + struct.pack("<H", 64) + hashlib.sha256(body).hexdigest().encode()


def test_one_that_unpacks_to_more_than_its_size_is_refused():
    trap = packed_anew(np.zeros(10**6, np.float32), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="unpack to more than its size"):
        checkpoints.unpack(trap)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_one_that_is_compressed_is_refused_whatever_size_it_names(method):
    # Noise does not shrink, so that the sizes alone look right.
    noise = np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)
    with pytest.raises(ValueError, match="is compressed"):
        checkpoints.unpack(packed_anew(noise, method))


def test_one_that_names_no_epoch_is_damaged():
    checkpoint = checkpoints.Checkpoint([], [], [], {"step": 1})
    with pytest.raises(ValueError, match="its epoch is missing"):
        checkpoints.unpack(checkpoints.pack(checkpoint))
