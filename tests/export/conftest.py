"""One export of a narrow network, made once and copied by whoever damages it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Split

#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"

CONVOLUTIONS = ((8, 3), (8, 5), (16, 3), (32, 3))
DENSE_UNITS = (64, 128)


#: A temperature as ``metrics.json`` and a manifest hold it.
TEMPERATURE = {
    "value": 1.25,
    "fitted_on": "validation",
    "ece_before": 0.1234,
    "ece_after": 0.0321,
    "accuracy_before": 0.75,
    "accuracy_after": 0.75,
}


class Exported(NamedTuple):
    """A finished export: the run, what ``export_run`` returned and what it said."""

    run: Path
    reports: list
    said: str

    @property
    def folder(self) -> Path:
        return self.run / "export"


def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{NETWORK}.CONVOLUTIONS", CONVOLUTIONS)
    monkeypatch.setattr(f"{NETWORK}.DENSE_UNITS", DENSE_UNITS)


@pytest.fixture(autouse=True)
def _narrow_network(monkeypatch):
    """The notebook's layers with few filters: the same graph, a hundredth of the work."""
    _narrow(monkeypatch)


@pytest.fixture(scope="session")
def narrow():
    """Does the same for a block: ``with pytest.MonkeyPatch.context() as patch: narrow(patch)``."""
    return _narrow


@pytest.fixture(scope="session")
def pool():
    labels = np.arange(840, dtype=np.int32) % 7
    return Split(synthetic.render(labels, seed=1), labels)


@pytest.fixture(scope="session")
def network(pool):
    """Random features, batch statistics of the faces, and a last layer fitted by ridge regression.

    It stands for a trained network, and no training is needed for it. Nothing of ``export`` made
    it.
    """
    import keras

    from fer_pipeline.models.notebook_cnn import build_model

    with pytest.MonkeyPatch.context() as monkeypatch:
        _narrow(monkeypatch)
        keras.utils.set_random_seed(0)
        model = build_model()
    values = pool.images.astype(np.float32)
    for layer in model.layers[:-1]:
        if isinstance(layer, keras.layers.BatchNormalization):
            axes = tuple(range(values.ndim - 1))
            layer.moving_mean.assign(values.mean(axes))
            layer.moving_variance.assign(values.var(axes))
        values = np.asarray(layer(values, training=False))
    gram = values.T @ values + 30.0 * np.eye(values.shape[1])
    kernel = np.linalg.solve(gram, values.T @ (4.0 * np.eye(7)[pool.labels] - 1.0))
    model.layers[-1].set_weights([kernel, np.zeros(7)])
    return model


@pytest.fixture(scope="session")
def weights(network):
    return network.get_weights()


@pytest.fixture(scope="session")
def faces(pool, network):
    """The 40 faces of each class that the network is most certain of.

    So few filters lose more to 8 bits than the real network's do, and would miss its gates on
    faces that lie between two classes.
    """
    found = network.predict(pool.images.astype(np.float32), verbose=0)
    right = np.eye(7, dtype=bool)[pool.labels]
    margin = found[right] - np.where(right, 0.0, found).max(axis=1)
    by_margin = np.argsort(-margin, kind="stable")
    chosen = [by_margin[pool.labels[by_margin] == label][:40] for label in range(7)]
    positions = np.stack(chosen, axis=1).ravel()
    return Split(pool.images[positions], pool.labels[positions])


@pytest.fixture(scope="session")
def reference_model(faces, network):
    """The network's probabilities on ``faces``: float32 ``[280, 7]``."""
    return network.predict(faces.images.astype(np.float32), verbose=0)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, faces, weights):
    from export.pipeline import export_run

    run = tmp_path_factory.mktemp("run")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        _narrow(monkeypatch)
        reports = export_run(
            run,
            weights,
            train=faces,
            evaluation=faces,
            config={"seed": 3, "data": "synthetic", "teacher": "/home/me/runs/wide"},
            metrics=None,
            log_path=run / "tf.log",
            say=said.append,
        )
    return Exported(run, reports, "\n".join(said))


@pytest.fixture
def temperature_record():
    return dict(TEMPERATURE)


@pytest.fixture(scope="session")
def compact(pool):
    """The tiny residual network, with batch statistics of the faces and a fitted head.

    Like ``network`` it stands for a trained one.
    """
    import keras

    from fer_pipeline.models import networks

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


@pytest.fixture(scope="session")
def certain(pool, compact):
    """The faces that it is most certain of from both sides, as in ``faces``."""
    images = pool.images.astype(np.float32)
    found = sum(compact.predict(view, verbose=0) for view in (images, images[:, :, ::-1]))
    first, second = np.sort(found, axis=1)[:, :-3:-1].T
    chosen = np.argsort(second - first, kind="stable")[:280]
    return Split(pool.images[chosen], pool.labels[chosen])


@pytest.fixture(scope="session")
def compact_export(compact, certain, tmp_path_factory):
    """The whole export of ``compact``, mirrored and with a temperature."""
    from export import pipeline

    run = tmp_path_factory.mktemp("compact")
    pipeline.export_run(
        run,
        compact.get_weights(),
        train=certain,
        evaluation=certain,
        config={"seed": 3, "data": "synthetic", "model": "tiny", "optimizer": "muon"},
        metrics=None,
        log_path=run / "tf.log",
        temperature=TEMPERATURE,
        mirror=True,
        say=lambda _: None,
    )
    return run / "export"


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(exported.folder, tmp_path / "export"))


@pytest.fixture(scope="session")
def rewrite_manifest():
    """Changes a folder's manifest and its hash, as somebody would who covers an exchange up."""

    def rewrite(folder, change):
        stored = json.loads((folder / "manifest.json").read_text())
        change(stored)
        text = json.dumps(stored, indent=2) + "\n"
        (folder / "manifest.json").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")

    return rewrite


@pytest.fixture
def small(copy, rewrite_manifest):
    """The float32 file alone, under a manifest of its own: verified without TensorFlow."""
    kept = {"model_float32.tflite", "golden.npz", "manifest.json", "manifest.sha256"}
    for path in sorted(copy.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name not in kept:
            path.unlink()

    def only_float32(stored):
        stored["artifacts"] = {"float32": stored["artifacts"]["float32"]}
        stored["files"] = {name: stored["files"][name] for name in stored["files"] if name in kept}

    rewrite_manifest(copy, only_float32)
    return copy
