"""The whole export of a network that is a graph and not a row of layers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export import pipeline
from export.spec.artifacts import ARTIFACTS
from fer_pipeline.inference import model_loader
from fer_pipeline.models import networks


@pytest.fixture(scope="module")
def compact(pool):
    """The tiny network with the faces' batch statistics and a head fitted by ridge regression.

    Like ``network`` it stands for a trained one.
    """
    import keras

    model = networks.build_training_model("tiny", seed=0, dropout=0.0, normalization_momentum=0.0)
    for layer in model.layers:
        if layer.name.endswith("_bn2"):
            layer.gamma.assign(np.full(layer.gamma.shape, 0.5, np.float32))
    images = pool.images.astype(np.float32)
    model(images, training=True)
    pooled = keras.Model(model.input, model.get_layer("pool").output)
    values = pooled.predict(images, verbose=0)
    center, spread = values.mean(axis=0), values.std(axis=0)
    scaled = (values - center) / spread
    gram = scaled.T @ scaled + 1.0 * np.eye(values.shape[1])
    kernel = np.linalg.solve(gram, scaled.T @ (6.0 * np.eye(7)[pool.labels] - 1.0))
    kernel /= spread[:, np.newaxis]
    model.get_layer("head").set_weights([kernel, -center @ kernel])
    twin = networks.build_model("tiny")
    twin.set_weights(model.get_weights())
    return twin


@pytest.fixture(scope="module")
def certain(pool, compact):
    """The faces that it is most certain of, as in ``faces``."""
    from fer_pipeline.datasets.splits import Split

    found = compact.predict(pool.images.astype(np.float32), verbose=0)
    first, second = np.sort(found, axis=1)[:, :-3:-1].T
    chosen = np.argsort(second - first, kind="stable")[:280]
    return Split(pool.images[chosen], pool.labels[chosen])


@pytest.fixture(scope="module")
def folder(compact, certain, tmp_path_factory):
    run = tmp_path_factory.mktemp("compact")
    pipeline.export_run(
        run,
        compact.get_weights(),
        train=certain,
        evaluation=certain,
        config={"seed": 3, "data": "synthetic", "model": "tiny", "optimizer": "muon"},
        metrics=None,
        log_path=run / "tf.log",
        say=lambda _: None,
    )
    return run / "export"


def test_every_file_passes_its_gates(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["artifacts"]) == set(ARTIFACTS)
    # Had one missed its gate, the export would have ended with an error.
    assert not (folder.parent / "export.failed").exists()


def test_the_tiny_int8_file_is_at_most_100_kb(folder):
    assert (folder / "model_int8.tflite").stat().st_size <= 100_000


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_both_keras_load_the_pair(folder, compact, certain, library):
    library = pytest.importorskip(library)
    model = library.models.model_from_json((folder / "model.json").read_text())
    model.load_weights(folder / "model_weights.h5")
    images = certain.images[:40].astype(np.float32)
    expected = compact.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["model.json", "model.keras", "saved_model/1"])
def test_predict_takes_it_for_no_strangers(folder, compact, certain, name):
    images = certain.images[:40]
    expected = compact.predict(images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(model_loader.open_model(folder / name)(images), expected, atol=1e-5)


def test_the_card_says_which_network_and_optimizer(folder):
    card = (folder / "MODEL_CARD.md").read_text()
    assert "six residual blocks" in card
    assert "Muon" in card
