"""The tuned recipe through the loop: continued, in float16, by the step."""

import dataclasses

import numpy as np
import pytest

from fer_pipeline import recipes
from fer_pipeline.config import Config
from fer_pipeline.devices import strategy
from fer_pipeline.errors import UserError
from fer_pipeline.input_pipeline import augment, training_batches
from fer_pipeline.models import compact_cnn, networks
from fer_pipeline.training import checkpoints, distillation, loop, optimizers
from fer_pipeline.training import epoch as epoch_lib

TARGETS = np.random.default_rng(5).dirichlet(np.ones(7), 20).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def narrow_network():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(compact_cnn.WIDTHS, "tiny", (4, 4, 8))
        yield


def tuned(**changes):
    chosen = {"model": "tiny", "recipe": "tuned", "epochs": 2, "seed": 7, "batch_size": 4}
    chosen |= {"augment": "flip,shift:3,cutout:8", "precision": "float32", "jit_compile": "false"}
    return recipes.resolve(Config(**chosen | changes))


def opened(splits, config, targets=None):
    return loop._open(splits, config, strategy.join("one_device"), None, {}, targets)


def quiet(_):
    pass


# With loss scaling and averaged weights there is the most to keep.
FULL = {"precision": "mixed_float16", "ema": 0.8, "class_weight": "effective", "freeze": 4}


@pytest.fixture(scope="module")
def voted(splits):
    """Faces whose labels are the votes of people."""
    return splits._replace(train_votes=TARGETS[::-1])


@pytest.fixture(scope="module")
def first(narrow_network):
    """All but the head's, and every vector off its zeros and ones."""
    rng = np.random.default_rng(3)
    weights = networks.build_training_model("tiny").get_weights()[:-2]
    moved = [w if w.ndim > 1 else w + rng.uniform(0.1, 0.5, w.shape) for w in weights]
    return [w.astype(np.float32) for w in moved]


@pytest.fixture(scope="module")
def whole(voted, first):
    """A training that nothing interrupts."""
    return loop.train(voted, tuned(**FULL), targets=TARGETS, initial=first, log=quiet)


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it is run."""


@pytest.mark.slow
def test_killed_inside_an_epoch_and_continued_it_is_the_uninterrupted_one(
    voted, first, whole, tmp_path, monkeypatch
):
    config = tuned(**FULL)
    assert np.isfinite([row.train_loss for row in whole.history]).all()
    plain, saved = checkpoints.save, []

    def save(*arguments, **options):
        saved.append(plain(*arguments, **options))
        # Of two epochs of 5 steps: after steps 2, 4 and 5, the epoch, and step 2 of the next one.
        if len(saved) == 5:
            raise KilledError

    often = dataclasses.replace(config, checkpoint_minutes=0.0, steps_per_execution=2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        with pytest.raises(KilledError):
            loop.train(voted, often, run=tmp_path, targets=TARGETS, initial=first, log=quiet)
    said = []
    resumed = loop.train(voted, config, run=tmp_path, targets=TARGETS, log=said.append)
    assert said == ["continuing after epoch 1, step 2"]
    assert resumed.history == whole.history
    for part in ("model", "optimizer"):
        ours, theirs = (getattr(run, part).variables for run in (resumed, whole))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    # What counts is what is validated: under --ema the averages.
    checkpoint = checkpoints.load_end(tmp_path)
    for one, other in zip(checkpoint.weights, resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    resumed.model.compile(loss="sparse_categorical_crossentropy")
    loss = resumed.model.evaluate(*voted.validation, verbose=0)
    assert resumed.history[-1].val_loss == pytest.approx(loss, rel=1e-3)
    # The weights that go on with the training are others, and are kept.
    [average] = [array for array in checkpoint.weights if array.shape == (3, 3, 4, 8)]
    [kernel] = [array for array in checkpoint.other if array.shape == (3, 3, 4, 8)]
    assert (kernel != average).any()
    # Of two convolutions and two normalisations.
    same = [
        (one == other).all() for one, other in zip(resumed.model.get_weights(), first, strict=False)
    ]
    assert same == [True] * 10 + [False] * (len(first) - 10)


def test_history_has_the_rate_of_an_epochs_last_step(whole):
    # 10 steps, of which round(0.05 * 10) = 0 rise.
    rates = [row.learning_rate for row in whole.history]
    np.testing.assert_allclose(rates, [0.012 * 6 / 10, 0.012 / 10], rtol=1e-6)
    assert float(np.asarray(whole.optimizer.learning_rate)) == pytest.approx(0.0012)


def test_every_setting_reaches_what_computes_with_it(splits):
    config = tuned(weight_decay=0.03, dropout=0.3, normalization_momentum=0.7, warmup=0.3)
    session = opened(splits, config)
    assert isinstance(session.optimizer, optimizers.Muon)
    # Keras multiplies the decay by the learning rate, of which AdamW's is a share.
    assert session.optimizer.weight_decay == pytest.approx(0.03 / 6)
    assert session.model.get_layer("dropout").rate == 0.3
    assert session.model.get_layer("stem_bn").momentum == 0.7
    # Of 10 steps 3 rise.
    np.testing.assert_allclose(session.state.schedule.rates(2, 2), 0.012, rtol=1e-6)
    assert [extra.name for extra in epoch_lib.extras(session)] == ["draws"]


def test_the_objective_gets_the_recipes_numbers(splits, monkeypatch):
    given = {}
    plain = distillation.objective
    monkeypatch.setattr(
        distillation, "objective", lambda **options: given.update(options) or plain(**options)
    )
    chosen = {"label_smoothing": 0.2, "temperature": 3.0, "distill": 0.6}
    session = opened(splits, tuned(**chosen, class_weight="balanced"), TARGETS)
    epoch_lib.compile_epoch(session)
    weights = given.pop("class_weights")
    assert given == chosen
    counts = [(splits.train.labels == label).sum() for label in range(7)]
    present = [n for n in counts if n]
    expected = [20 / (len(present) * n) if n else 0 for n in counts]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert [extra.name for extra in epoch_lib.extras(session)] == ["draws", "targets"]


def test_more_epochs_are_another_run_where_the_schedule_depends_on_them(splits, tmp_path):
    devices = strategy.join("one_device")
    loop._open(splits, tuned(epochs=1), devices, tmp_path, {}, None).save()
    with pytest.raises(UserError, match="--epochs=1, not 2"):
        loop.train(splits, tuned(epochs=2), run=tmp_path, log=quiet)


def test_extras_are_joined_by_row_and_by_position(splits):
    session = opened(splits, tuned(batch_size=6), TARGETS)
    batches = training_batches(
        splits.train,
        batch_size=6,
        seed=7,
        epoch=1,
        first_step=1,
        flip=False,
        extras=epoch_lib.extras(session),
    )
    order = augment.epoch_order(20, seed=7, epoch=1)[6:]
    draws = {extra.name: extra for extra in epoch_lib.extras(session)}["draws"].of(
        1, order, np.arange(6, 20)
    )
    found = [
        (images.numpy(), labels.numpy(), extras["targets"].numpy(), extras["draws"].numpy())
        for images, labels, extras in batches
    ]
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    train = splits.train
    expected = (train.images[order], train.labels[order], TARGETS[order], draws)
    for ours, theirs in zip(columns, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
