"""What counts as near enough to the float32 twin."""

import keras
import numpy as np
import pytest

from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import metrics
from fer_pipeline.stages import run


def network(bias):
    """Always the same answer, whatever the face."""
    model = keras.Sequential(
        [keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Dense(7, "softmax")]
    )
    model.layers[-1].set_weights([np.zeros((2304, 7)), np.array(bias, float)])
    return model


def test_a_twin_that_answers_otherwise_is_refused(tmp_path):
    split = Split(np.zeros((30, 48, 48, 1), np.uint8), np.zeros(30, np.int32))
    opened = run.Run(
        tmp_path, Splits(split, split, split), Config(precision="mixed_float16"), {}, None
    )
    trained = network([1, 0, 0, 0, 0, 0, 0])
    near = run.compare_with_reference(opened, trained, network([0.9, 0, 0, 0, 0, 0, 0]))
    assert near["agreement"] == 1.0
    e, f = np.exp(1.0), np.exp(0.9)
    assert near["max_probability_difference"] == pytest.approx(e / (e + 6) - f / (f + 6), rel=1e-4)
    with pytest.raises(UserError, match=r"agree on 0\.00% of 30 images.*--precision=float32"):
        run.compare_with_reference(opened, trained, network([0, 1, 0, 0, 0, 0, 0]))


def test_the_twin_is_compared_over_the_whole_split(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_REFERENCE_IMAGES", 3)
    images = np.arange(101, dtype=np.uint8)[:, None, None, None] * np.ones((48, 48, 1), np.uint8)
    split = Split(images, np.zeros(101, np.int32))
    seen = []
    monkeypatch.setattr(
        "fer_pipeline.evaluation.metrics.predict",
        lambda model, few: (
            seen.append(few.images[:, 0, 0, 0].tolist())
            or metrics.Predictions(np.eye(7)[[0, 0, 0]], np.zeros(3))
        ),
    )
    opened = run.Run(tmp_path, Splits(split, split, split), Config(precision="float32"), {}, None)
    run.compare_with_reference(opened, None, None)
    assert seen == [[0, 50, 100]] * 2
