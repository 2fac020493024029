import io
import zipfile

import numpy as np
import pytest

from export.spec import golden
from fer_pipeline.errors import UserError


@pytest.fixture
def value():
    images, labels = golden.draw_faces()
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
    from fer_pipeline.models.notebook_cnn import build_model

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


def _npz(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def _npy(array, **header):
    """The bytes of an .npy file whose header may say something else."""
    stream = io.BytesIO()
    about = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue() + array.tobytes()


GOOD = {
    "images": np.zeros((2, 48, 48, 1), np.uint8),
    "labels": np.zeros(2, np.int32),
    "probabilities": np.zeros((2, 7), np.float32),
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        # 20 PiB, which NumPy would try to allocate.
        ("images", _npy(GOOD["images"], shape=(10**13, 48, 48, 1))),
        ("images", _npy(GOOD["images"].astype("f4"))),
        ("images", _npy(GOOD["images"], fortran_order=True)),
        ("images", _npy(GOOD["images"], descr="|O")),
        ("images", b"no array"),
        ("images", b""),
        ("labels", _npy(np.array([0, 7], np.int32))),
        ("labels", _npy(np.array([0, -1], np.int32))),
        ("labels", _npy(np.int32(3))),
        ("probabilities", _npy(np.full((2, 7), np.nan, np.float32))),
        ("probabilities", _npy(GOOD["probabilities"][:1])),
    ],
)
def test_odd_arrays_are_one_line(tmp_path, name, content):
    path = tmp_path / "golden.npz"
    _npz(path, **{key: _npy(array) for key, array in GOOD.items()})
    assert len(golden.read(path).labels) == 2
    _npz(path, **({key: _npy(array) for key, array in GOOD.items()} | {name: content}))
    with pytest.raises(UserError, match=r"golden\.npz: ") as caught:
        golden.read(path)
    assert "\n" not in str(caught.value)


def test_one_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_pipeline.inference.strangers.MAX_UNPACKED", 2**20)
    path = tmp_path / "golden.npz"
    _npz(path, images=b"\0" * 2**22)
    with pytest.raises(UserError, match="would unpack to 4 MB, more than 1"):
        golden.read(path)


def test_one_of_another_compression_is_refused(tmp_path):
    path = tmp_path / "golden.npz"
    _npz(path, zipfile.ZIP_BZIP2, **{key: _npy(array) for key, array in GOOD.items()})
    with pytest.raises(UserError, match=r"golden\.npz: compressed by other than DEFLATE"):
        golden.read(path)
