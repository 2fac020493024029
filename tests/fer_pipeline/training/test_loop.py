"""The loop against Keras' ``fit``, and a resumed run against an uninterrupted one."""

import csv
import dataclasses
import os
import signal
from typing import NamedTuple

import keras
import numpy as np
import pytest

from fer_pipeline import recipes
from fer_pipeline.config import Config
from fer_pipeline.devices import strategy
from fer_pipeline.devices.cluster import WorkerInfo
from fer_pipeline.errors import UserError
from fer_pipeline.run_record import known_resume_key
from fer_pipeline.terminal import interruption
from fer_pipeline.training import checkpoints, loop
from fer_pipeline.training import epoch as epoch_lib
from fer_pipeline.training.state import EpochLog, EpochTiming

#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"


@pytest.fixture(autouse=True)
def narrow_network(monkeypatch):
    """The notebook's layers with few filters: the same graph, a hundredth of the work."""
    monkeypatch.setattr(f"{NETWORK}.CONVOLUTIONS", ((4, 3), (4, 5), (8, 3), (8, 3)))
    monkeypatch.setattr(f"{NETWORK}.DENSE_UNITS", (16, 16))


def make_config(**settings):
    """Settings of a small training whose result does not depend on the device."""
    return recipes.resolve(Config(**{"precision": "float32", "jit_compile": "false"} | settings))


def test_a_run_continued_from_its_files_is_the_uninterrupted_one(splits, tmp_path):
    config = make_config(epochs=3, batch_size=8, seed=7)
    whole = loop.train(splits, config, log=lambda line: None)

    first = make_config(epochs=1, batch_size=8, seed=7)
    loop.train(splits, first, run=tmp_path, log=lambda line: None)
    said = []
    resumed = loop.train(splits, config, run=tmp_path, log=said.append)

    assert said == ["continuing after epoch 1"]
    assert resumed.history == whole.history
    assert [row.epoch for row in resumed.timing] == [1, 2, 3]
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        checkpoints.load_weights(tmp_path), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it is run."""


def test_killed_inside_an_epoch_and_continued_it_is_the_uninterrupted_one(
    splits, tmp_path, monkeypatch
):
    config = make_config(epochs=2, batch_size=4, seed=7)
    whole = loop.train(splits, config, log=lambda line: None)

    def killed_after(count):
        plain, saved = checkpoints.save, []

        def save(*arguments, **options):
            saved.append(plain(*arguments, **options))
            if len(saved) == count:
                raise KilledError

        return save

    often = dataclasses.replace(config, checkpoint_minutes=0.0, steps_per_execution=2)
    said = []
    # Of a 5-step epoch: after steps 4, then after 2 of the next one (its first call is left out).
    for count in (2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", killed_after(count))
            with pytest.raises(KilledError):
                loop.train(splits, often, run=tmp_path, log=said.append)
    # As many steps a call as it likes.
    resumed = loop.train(splits, config, run=tmp_path, log=said.append)

    assert said == ["continuing after epoch 0, step 4", "continuing after epoch 1, step 2"]
    assert resumed.history == whole.history
    for ours, theirs in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(resumed.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_a_checkpoint(splits, tmp_path, number, status):
    class Sender(keras.callbacks.Callback):
        """In the second epoch, before its first step."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                os.kill(os.getpid(), number)

    config = make_config(epochs=2, batch_size=4, steps_per_execution=3)
    with pytest.raises(interruption.InterruptedByUser, match="after epoch 1, step 3") as stop:
        loop.train(
            splits,
            config,
            run=tmp_path,
            callbacks=[Sender()],
            log=lambda line: None,
        )
    assert stop.value.status == status
    newest = checkpoints.load_latest(tmp_path)
    assert (newest.state["epoch"], newest.state["step"]) == (1, 3)


def test_at_the_start_a_signal_waits_for_a_single_step(splits, tmp_path):
    """What a step costs is not known yet: on a slow machine eight may outlast a grace period."""

    class Sender(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    config = make_config(epochs=1, batch_size=4)
    with pytest.raises(interruption.InterruptedByUser, match="after epoch 0, step 1: saved"):
        loop.train(splits, config, run=tmp_path, callbacks=[Sender()], log=str)


def test_a_finished_run_has_its_best_epoch_again_and_is_no_other_training(splits, tmp_path):
    config, own = make_config(epochs=1, batch_size=16), {"fingerprint": "a"}
    loop.train(splits, config, run=tmp_path, resume_key=own, log=str)
    # As if it had been killed between the two copies of its checkpoint.
    best = tmp_path / "checkpoints" / "best.npz"
    content = best.read_bytes()
    best.unlink()
    loop.train(splits, config, run=tmp_path, resume_key=own, log=str)
    assert checkpoints.unpack(best.read_bytes()).state == checkpoints.unpack(content).state
    other = make_config(epochs=2, batch_size=8)
    with pytest.raises(UserError, match="--batch_size=16, not 8"):
        loop.train(splits, other, run=tmp_path, log=str)
    with pytest.raises(UserError, match="other images"):
        loop.train(splits, config, run=tmp_path, resume_key={"fingerprint": "b"}, log=str)


def test_keras_callbacks_see_what_fit_would_show_them(splits, tmp_path):
    seen = []
    config = make_config(epochs=4, batch_size=16)
    log = tmp_path / "log.csv"
    callbacks = [
        # No validation loss is smaller than the first by this much, so the third epoch is the last.
        keras.callbacks.EarlyStopping(patience=2, min_delta=1e6),
        keras.callbacks.CSVLogger(log),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(epoch),
            on_train_end=lambda logs: seen.append("end"),
        ),
        keras.callbacks.TensorBoard(tmp_path / "tensorboard", write_graph=False),
    ]
    trained = loop.train(splits, config, callbacks=callbacks, log=str)
    assert len(trained.history) == 3
    assert seen == [0, 1, 2, "end"]
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, trained.history, strict=True):
        assert int(row["epoch"]) == expected.epoch - 1
        assert float(row["loss"]) == expected.train_loss
        assert float(row["val_loss"]) == expected.val_loss
        assert float(row["accuracy"]) == expected.train_accuracy
        assert float(row["val_accuracy"]) == expected.val_accuracy
        assert float(row["learning_rate"]) == expected.learning_rate
    assert list((tmp_path / "tensorboard").rglob("events.*"))


def test_a_call_takes_about_a_second():
    assert epoch_lib.next_steps_per_execution(8, 0.1) == 16
    assert epoch_lib.next_steps_per_execution(8, 1.0) == 8
    assert epoch_lib.next_steps_per_execution(8, 3.0) == 4
    assert epoch_lib.next_steps_per_execution(1, 30.0) == 1
    assert epoch_lib.next_steps_per_execution(1024, 0.1) == 1024


@pytest.mark.slow
def test_xla_gives_the_same_training(splits, monkeypatch):
    """In float16; two whole batches are compiled, and a partial one is not."""
    # XLA draws dropout masks by an algorithm of its own.
    monkeypatch.setattr(f"{NETWORK}.DROPOUT_RATE", 0.0)
    config = make_config(epochs=1, batch_size=8, precision="mixed_float16")
    plain = loop.train(splits, config, log=str)
    fused = loop.train(splits, dataclasses.replace(config, jit_compile="true"), log=str)
    np.testing.assert_allclose(fused.history, plain.history, rtol=2e-2)
    pairs = zip(fused.model.trainable_weights, plain.model.trainable_weights, strict=True)
    for ours, theirs in pairs:
        # Adam turns a gradient that is mere rounding into a step of the learning rate, either way.
        np.testing.assert_allclose(ours, theirs, atol=3 * 2 * config.learning_rate)


class TwoDevices(NamedTuple):
    """As much of a job as ``check_devices`` looks at."""

    replicas: int = 2


def test_only_the_chief_draws_a_progress_bar(splits, monkeypatch):
    drawn = []

    class Bar:
        def __init__(self, title, *_, **__):
            drawn.append(title)

        update = close = lambda *_: None

    class Follower(WorkerInfo):
        chief = False

    monkeypatch.setattr(loop, "Progress", Bar)
    for worker in (Follower(), WorkerInfo()):
        devices = strategy.Devices(strategy.join("one_device").strategy, worker)
        loop.train(splits, make_config(epochs=1, batch_size=20), devices=devices, log=str)
        assert drawn == ([] if worker.chief is False else ["epoch 1/1"])


def test_an_older_checkpoint_that_lacks_a_setting_had_its_default(splits, tmp_path, monkeypatch):
    def of_older_version(config):
        names = ("batch_size", "learning_rate", "seed", "precision")
        return {name: known_resume_key(config)[name] for name in names}

    config, said = make_config(epochs=1, batch_size=10), []
    devices = strategy.join("one_device")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "known_resume_key", of_older_version)
        session = loop._open(splits, config, devices, tmp_path, {}, None)
    session.state.step = 1
    del session.resume_key["classes"]
    session.save()
    assert set(checkpoints.load_latest(tmp_path).state["identity"]) < set(known_resume_key(config))
    assert len(loop.train(splits, config, run=tmp_path, log=said.append).history) == 1
    assert said == ["continuing after epoch 0, step 1"]


def test_a_batch_that_leaves_a_replica_without_an_image_is_refused(splits):
    with pytest.raises(UserError, match="--batch_size=1: it, 20 training and 9 validation images"):
        loop.check_devices(splits, make_config(batch_size=1), TwoDevices())


def test_hooks_see_every_epoch_once_its_checkpoint_is_safe(splits, tmp_path):
    seen = []

    def hook(history, timing):
        newest = checkpoints.load_latest(tmp_path)
        seen.append((history[-1].epoch, timing[-1].epoch, newest.state["epoch"]))

    config = make_config(epochs=2, batch_size=16)
    loop.train(splits, config, run=tmp_path, hooks=[hook], log=lambda line: None)
    assert seen == [(1, 1, 1), (2, 2, 2)]
    # A process that was killed between a checkpoint and its hooks is caught up with.
    loop.train(splits, config, run=tmp_path, hooks=[hook], log=lambda line: None)
    assert seen[2:] == [(2, 2, 2)]


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_checkpoints(splits, tmp_path):
    diverging = make_config(epochs=3, batch_size=4, learning_rate=1e30)
    with pytest.raises(
        UserError, match=r"epoch 1, step 2: the loss is nan at learning rate 1e\+30"
    ):
        loop.train(splits, diverging, run=tmp_path, log=lambda line: None)
    assert checkpoints.load_latest(tmp_path) is None


def test_what_is_said_of_an_epoch_fits_a_terminal_of_80_characters():
    row = EpochLog(100, 5e-4, 1.25, 0.5, 10.5, 0.25)
    summaries = loop._summaries(row, EpochTiming(100, 100.0, 23.4, 12345.6))
    assert summaries[0].endswith("  val_accuracy 0.2500  123.4 s  12346 images/s")
    assert summaries[1].endswith("acc 0.5000  val_loss 10.5000  val_acc 0.2500  123.4 s")
    assert [len(f"epoch 99/100  {one}") <= 80 for one in summaries] == [False, True, True]
    assert len(f"epoch 10000/10000  {summaries[2]}") <= 80
