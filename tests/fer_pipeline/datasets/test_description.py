"""What a folder holds, counted by the one who made it."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import description, splitting, synthetic


def encode(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def faces_of():
    """Noise, and none like another."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.integers(0, 256, shape or (48, 48)).astype(np.uint8)


@pytest.fixture
def source(tmp_path, faces_of):
    """Three training images and a test image of each class, and some that are there again."""
    files = {}
    for name in CLASS_NAMES:
        files |= {f"train/{name}/{i}.png": encode(faces_of()) for i in range(3)}
        files[f"test/{name}/0.png"] = encode(faces_of())
    repeated = files["train/happy/0.png"]
    files["train/sad/same.png"] = files["test/happy/same.png"] = repeated
    files["train/fear/black.png"] = encode(np.zeros((48, 48), np.uint8))
    files["test/fear/nearly black.png"] = encode(
        np.full((48, 48), 7, np.uint8) + np.eye(48, dtype=np.uint8)
    )
    files["train/angry/large.jpg"] = encode(faces_of(60, 50, 3), "JPEG")
    files["train/angry/grey.jpg"] = encode(faces_of(), "JPEG")
    files["test/angry/palette.gif"] = encode(faces_of(), "GIF")
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


@pytest.fixture
def described(source):
    faces = datasets.read(source)
    return description.describe(source, faces, splitting.positions(str(source), faces))


def test_classes_splits_and_formats(described):
    assert described.splits == ("train", "test")
    assert described.counts[:, :3].tolist() == [[5, 3, 4], [2, 1, 2]]
    assert described.counts.sum(axis=1).tolist() == [25, 10]
    assert described.formats == [
        ("PNG 48x48 L", 32),
        ("GIF 48x48 L", 1),
        ("JPEG 48x48 L", 1),
        ("JPEG 50x60 RGB", 1),
    ]
    assert described.faces.converted == 1


def test_repeated_and_blank_images(described, source):
    copies = described.copies
    assert (copies.groups, copies.images, copies.conflicting) == (1, 3, 1)
    assert (copies.within, copies.in_train) == ((2, 0), (0, 1))
    [group] = described.conflicts
    named = datasets.names(source, described.faces, group)
    assert sorted(named) == ["test/happy/same.png", "train/happy/0.png", "train/sad/same.png"]
    assert datasets.names(source, described.faces, described.constant) == ["train/fear/black.png"]
    assert sorted(datasets.names(source, described.faces, described.blank)) == [
        "test/fear/nearly black.png",
        "train/fear/black.png",
    ]


def test_mean_faces_are_those_of_training_images(described):
    faces, train = described.faces, described.places.train
    for label in range(7):
        own = faces.images[train][faces.labels[train] == label].astype(float)
        np.testing.assert_allclose(described.means[label], own.mean(axis=0), atol=0.5)


def test_synthetic_faces_and_other_classes(monkeypatch):
    few = functools.partial(synthetic.load, train=40, validation=14, test=20)
    monkeypatch.setattr(synthetic, "load", few)
    faces = datasets.read("synthetic")
    own = datasets.load("synthetic").splits
    places = splitting.positions("synthetic", faces)
    for name in ("train", "validation", "test"):
        part = getattr(own, name)
        np.testing.assert_array_equal(faces.images[getattr(places, name)], part.images)
        np.testing.assert_array_equal(faces.labels[getattr(places, name)], part.labels)
    names = [*CLASS_NAMES, "none of these"]
    found = description.describe("synthetic", faces, places, classes=names)
    assert found.counts.shape == (3, 8)
    assert found.counts[:, 7].tolist() == [0, 0, 0]
    assert found.formats == []
    assert not found.means[7].any()
