import numpy as np
import pytest

from export import golden
from fer_pipeline.errors import UserError


@pytest.fixture
def value():
    images, labels = golden.faces()
    return golden.Golden(images, labels, np.full((64, 7), 1 / 7, np.float32))


def test_holds_64_faces_of_all_classes(value):
    assert value.images.shape == (64, 48, 48, 1)
    assert value.images.dtype == np.uint8
    assert np.bincount(value.labels).tolist() == [10, 9, 9, 9, 9, 9, 9]


def test_reads_back_what_was_written_byte_for_byte_alike(value, tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    golden.write(first, value)
    golden.write(second, golden.read(first))
    assert first.read_bytes() == second.read_bytes()
    for ours, original in zip(golden.read(second), value, strict=True):
        np.testing.assert_array_equal(ours, original)


def test_the_export_holds_the_networks_probabilities(exported, weights):
    from fer_pipeline.model import build_model

    model = build_model()
    model.set_weights(weights)
    with np.load(exported.folder / "golden.npz") as file:
        found = model.predict(file["images"].astype(np.float32), verbose=0)
        np.testing.assert_allclose(file["probabilities"], found, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"golden\.npz"):
        golden.read(path)


def test_missing_arrays_and_strange_shapes_are_named(value, tmp_path):
    path = tmp_path / "golden.npz"
    np.savez(path, images=value.images)
    with pytest.raises(UserError, match="not readable"):
        golden.read(path)
    golden.write(path, value._replace(images=value.images[:5]))
    with pytest.raises(UserError, match="other shapes"):
        golden.read(path)
