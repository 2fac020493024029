"""A training that has gone wrong stops at the step where it did."""

import numpy as np
import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.training import guards

WHERE = guards.TrainingPosition(epoch=2, step=10, learning_rate=5e-4, run=None)


def rows(losses, overflows=None):
    overflows = [0.0] * len(losses) if overflows is None else overflows
    return np.array([[loss, 1.0, 4.0, flag] for loss, flag in zip(losses, overflows, strict=True)])


def test_finite_losses_pass():
    assert guards.check(rows([1.0, 2.0]), WHERE, scale=None, consecutive_overflows=0) == 0


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_the_first_loss_that_is_not_finite_is_named(loss, tmp_path):
    path = tmp_path / "checkpoints" / "epoch_0001.npz"
    path.parent.mkdir()
    path.write_bytes(b"")
    said = (
        f"epoch 2, step 12: the loss is {loss:g} at learning rate 0.0005; the last good checkpoint "
        f"is {path}; start anew with a lower --learning_rate"
    )
    position = WHERE._replace(run=tmp_path)
    with pytest.raises(UserError) as error:
        guards.check(rows([1.0, loss, np.nan]), position, scale=None, consecutive_overflows=0)
    assert str(error.value) == said


def test_skipped_updates_are_counted_over_calls_and_forgiven_after_a_good_one():
    consecutive_overflows = guards.check(
        rows([1.0, np.nan], [0, 1]), WHERE, scale=2.0**14, consecutive_overflows=0
    )
    assert consecutive_overflows == 1
    assert (
        guards.check(
            rows([np.inf] * 3, [1] * 3),
            WHERE,
            scale=2.0**11,
            consecutive_overflows=consecutive_overflows,
        )
        == 4
    )
    assert guards.check(rows([1.0], [0]), WHERE, scale=2.0**11, consecutive_overflows=4) == 0


def test_twenty_skips_in_a_row_stop():
    with pytest.raises(UserError, match="step 12: 20 updates in a row overflowed"):
        guards.check(rows([1.0] * 5, [1] * 5), WHERE, scale=2.0**20, consecutive_overflows=18)


def test_a_loss_scale_below_one_stops():
    assert guards.check(rows([1.0], [1]), WHERE, scale=1.0, consecutive_overflows=0) == 1
    with pytest.raises(UserError, match=r"the loss scale has fallen to 0\.5"):
        guards.check(rows([1.0], [1]), WHERE, scale=0.5, consecutive_overflows=0)
