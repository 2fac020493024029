"""Rows are added up the same way however they were cut."""

import numpy as np

from fer_pipeline.training import steps


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
