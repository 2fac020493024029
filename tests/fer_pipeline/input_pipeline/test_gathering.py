"""Images by position, some mirrored, from arrays, memory maps and streamed sources."""

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.datasets import gather
from fer_pipeline.input_pipeline import augment


class Streamed:
    """Gives arrays when it is indexed, and is none."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        return self._images[rows].copy()


def mapped(images, folder):
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (50, 48, 48, 1)).astype(np.uint8)


ROWS = np.array([3, 3, 49, 0, 17], np.int64)


@pytest.mark.parametrize("kind", ["array", "strided array", "memmap", "streamed"])
def test_images_are_those_of_the_rows(kind, images, tmp_path):
    source = {
        "array": lambda: images,
        "strided array": lambda: np.repeat(images, 2, axis=0)[::2],
        "memmap": lambda: mapped(images, tmp_path),
        "streamed": lambda: Streamed(images),
    }[kind]()
    before = images.copy()
    taken = gather.take(source, ROWS)
    np.testing.assert_array_equal(taken, np.stack([before[row] for row in ROWS]))
    taken[:] = 0
    np.testing.assert_array_equal(source[ROWS], before[ROWS])


def test_no_rows_are_no_images(images):
    assert gather.take(images, ROWS[:0]).shape == (0, 48, 48, 1)


def test_tensorflow_takes_the_array_over_without_a_copy(images):
    addresses = []

    def give(rows):
        taken = gather.take(images, rows)
        addresses.append(taken.ctypes.data)
        return taken

    def receive(tensor):
        addresses.append(tensor.ctypes.data)
        return tensor.sum(dtype=np.int64)

    @tf.function
    def through(rows):
        return tf.numpy_function(receive, [tf.numpy_function(give, [rows], tf.uint8)], tf.int64)

    assert through(tf.constant(ROWS)) == images[ROWS].sum(dtype=np.int64)
    given, received = addresses
    assert given == received


@pytest.mark.parametrize(
    "kind", ["array", "Fortran's array", "too large an array", "memmap", "streamed"]
)
def test_images_are_mirrored_where_the_mask_is_true(kind, images, tmp_path, monkeypatch):
    before = images.copy()
    if kind == "too large an array":
        monkeypatch.setattr(augment, "_MAX_MIRRORED", images.nbytes - 1)
    source = {
        "Fortran's array": lambda: np.asfortranarray(images),
        "memmap": lambda: mapped(images, tmp_path),
        "streamed": lambda: Streamed(images),
    }
    take = augment.make_gather(source.get(kind, lambda: images)())
    mask = np.array([True, False, True, True, False])
    expected = [
        np.fliplr(images[row]) if flip else images[row]
        for row, flip in zip(ROWS, mask, strict=True)
    ]
    flipped = []
    flip = augment.flip_horizontally
    monkeypatch.setattr(augment, "flip_horizontally", lambda *given: flipped.append(flip(*given)))
    for _ in range(2):
        np.testing.assert_array_equal(take(ROWS, mask), np.stack(expected))
    np.testing.assert_array_equal(images, before)
    # What is in the table of both needs no more mirroring.
    assert len(flipped) == (0 if kind in ("array", "Fortran's array") else 2)
