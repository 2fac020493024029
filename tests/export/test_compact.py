"""The whole export of a network that is no row of layers, mirrored and with a temperature."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export import audit
from export.delivery import contents
from export.formats import rgb, tflite
from export.spec import golden
from export.spec.artifacts import ARTIFACTS
from fer_pipeline.inference import model_loader


@pytest.fixture(scope="module")
def views(compact, certain):
    """What the network says of 40 faces, and of the same in reverse."""
    images = certain.images[:40].astype(np.float32)
    both = [compact.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
    # Or a mirrored graph could not be told from a plain one.
    assert np.abs(both[0] - both[1]).max() > 0.05
    return both


def test_every_file_passes_its_gates(compact_export):
    manifest = json.loads((compact_export / "manifest.json").read_text())
    assert set(manifest["artifacts"]) == set(ARTIFACTS)
    # Had one missed its gate, the export would have ended with an error.
    assert not (compact_export.parent / "export.failed").exists()


def test_the_tiny_int8_file_is_at_most_100_kb(compact_export):
    assert (compact_export / "model_int8.tflite").stat().st_size <= 100_000


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_both_keras_load_the_pair_which_is_plain(compact_export, views, certain, library):
    library = pytest.importorskip(library)
    model = library.models.model_from_json((compact_export / "model.json").read_text())
    model.load_weights(compact_export / "model_weights.h5")
    images = certain.images[:40].astype(np.float32)
    np.testing.assert_allclose(model.predict(images, verbose=0), views[0], atol=1e-5)


@pytest.mark.parametrize("name", ["model.keras", "saved_model/1", "model_float32.tflite"])
def test_what_predict_opens_gives_the_mean_of_both_views_where_it_is_mirrored(
    compact_export, views, certain, name
):
    expected = views[0] if name == "model.keras" else (views[0] + views[1]) / 2
    found = model_loader.open_model(compact_export / name)(certain.images[:40])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["int8", "int8_rgb"])
def test_a_mirrored_int8_file_gives_256ths_and_holds_its_weights_once(
    compact_export, views, certain, litert, name
):
    content = (compact_export / f"model_{name}.tflite").read_bytes()
    graph = tflite.describe(content)
    # 8 bits: half the bytes are weights, each of which is there once.
    assert len(graph.weights) == len({tensor.name for tensor in graph.weights}) == 16
    assert graph.inputs[0].shape[0] == 1
    images = certain.images[:40]
    images = rgb.colour_images(images) if name == "int8_rgb" else images
    found = litert(content, images)
    assert found.dtype == np.uint8
    assert np.abs(found / 256 - (views[0] + views[1]) / 2).max() < 0.1
    assert "mirror image" in content.decode("latin-1")


def test_golden_faces_and_manifest_tell_both(compact_export, compact):
    found = golden.read(compact_export / "golden.npz")
    images = found.images.astype(np.float32)
    plain, reverse = (compact.predict(v, verbose=0) for v in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(found.plain, plain, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, (plain + reverse) / 2, atol=1e-6)
    stored = contents.check_files(compact_export)
    assert stored["mirror"] is True
    plain = {name for name, entry in stored["artifacts"].items() if not entry["mirrored"]}
    assert plain == {"keras", "keras_v3"}


def test_an_audit_on_data_compares_each_file_with_its_own(compact_export, certain, views):
    images = certain.images[:40]
    arguments = (images, None, False, True)
    mean, plain, stood_in = audit._reference_probabilities(compact_export, ARTIFACTS, *arguments)
    np.testing.assert_allclose(mean, (views[0] + views[1]) / 2, atol=1e-5)
    np.testing.assert_allclose(plain, views[0], atol=1e-5)
    assert stood_in is None
    # Without Keras' files the mirrored ones are all that there is.
    alone = {"float32": ARTIFACTS["float32"]}
    mean, plain, stood_in = audit._reference_probabilities(compact_export, alone, *arguments)
    np.testing.assert_allclose(mean, (views[0] + views[1]) / 2, atol=1e-5)
    assert (plain, stood_in) == (None, "float32")


def test_the_card_says_what_the_network_is_and_how_it_answers(compact_export, certain, compact):
    card = (compact_export / "MODEL_CARD.md").read_text()
    assert "six residual blocks" in card
    assert "Muon" in card
    found = compact.predict(certain.images.astype(np.float32), verbose=0)
    accuracy = np.mean(found.argmax(axis=1) == certain.labels)
    assert f"{accuracy:.2%} without the mirror image" in card
    assert "Not mirrored: `model.json`, `model.keras`" in card
    assert "a temperature of 1.250, which was fitted on the validation images" in card
    assert "0.1234 and 0.0321" in card
