"""Every image once an epoch, in a reproducible order, mirrored where the mask says so."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices.cluster import Shard
from fer_pipeline.input_pipeline import augment
from fer_pipeline.input_pipeline import batches as batches_lib


class Lazy:
    """The least that a streamed source offers: a length, and arrays by positions or slice."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, key):
        assert isinstance(key, slice) or key.dtype == np.int64
        return self._images[key].copy()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that a few thousand images are several chunks."""
    monkeypatch.setattr(batches_lib, "_CHUNK", 1024)


def numbered(size):
    """Faces that carry their number in the left half of a row, so that a mirrored one shows it."""
    images = np.random.default_rng(0).integers(0, 256, (size, 48, 48, 1)).astype(np.uint8)
    images[:, 0, :, 0] = 0
    images[:, 0, 0, 0] = np.arange(size) % 256
    images[:, 0, 1, 0] = np.arange(size) // 256
    images[:, 0, 2, 0] = 255
    return Split(images, (np.arange(size) % 7).astype(np.int32))


def as_lists(dataset):
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    return [b[0] for b in batches], [b[1] for b in batches]


def number_of(image):
    """The image's number, and whether it is mirrored, from its pixels alone."""
    mirrored = image[0, 2, 0] != 255
    row = np.flip(image[0, :, 0]) if mirrored else image[0, :, 0]
    assert row[2] == 255
    return int(row[0]) + 256 * int(row[1]), mirrored


# More than one chunk, exactly one, less than one, one image a batch, and a batch beyond a chunk.
@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(2500, 64), (1024, 64), (130, 64), (64, 64), (1, 64), (5, 1), (1300, 1100), (700, 1000)],
)
def test_every_image_appears_once_and_the_last_batch_is_what_is_left(size, batch_size):
    split = numbered(size)
    dataset = batches_lib.training_batches(split, batch_size=batch_size, seed=1, epoch=0)
    images, labels = as_lists(dataset)
    full, rest = divmod(size, batch_size)
    assert [len(batch) for batch in images] == [batch_size] * full + [rest] * (rest > 0)
    assert [len(batch) for batch in labels] == [len(batch) for batch in images]
    assert len(images) == len(dataset) == batches_lib.num_steps(size, batch_size)
    numbers = [number_of(image)[0] for batch in images for image in batch]
    assert sorted(numbers) == list(range(size))
    np.testing.assert_array_equal(np.concatenate(labels), split.labels[numbers])


def test_images_are_mirrored_exactly_where_the_mask_says():
    split = numbered(1500)
    images, _ = as_lists(batches_lib.training_batches(split, batch_size=64, seed=5, epoch=2))
    mask = augment.flip_mask(1500, seed=5, epoch=2)
    order = augment.epoch_order(1500, seed=5, epoch=2)
    for position, image in enumerate(np.concatenate(images)):
        number, mirrored = number_of(image)
        assert number == order[position]
        assert mirrored == mask[position]
        original = split.images[number, :, :, 0]
        expected = np.fliplr(original) if mirrored else original
        np.testing.assert_array_equal(image[:, :, 0], expected)


def test_the_source_is_left_as_it_was():
    split = numbered(200)
    before = split.images.copy()
    as_lists(batches_lib.training_batches(split, batch_size=64, seed=0, epoch=0))
    np.testing.assert_array_equal(split.images, before)


def test_batches_are_a_function_of_seed_and_epoch():
    split = numbered(300)

    def epoch(seed, number):
        dataset = batches_lib.training_batches(split, batch_size=32, seed=seed, epoch=number)
        images, labels = as_lists(dataset)
        return np.concatenate(images), np.concatenate(labels)

    first, again = epoch(1, 7), epoch(1, 7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for seed, number in ((1, 8), (2, 7)):
        other = epoch(seed, number)[0]
        same = np.count_nonzero((first[0] == other).all(axis=(1, 2, 3)))
        assert same < 10


@pytest.mark.parametrize("first_step", [0, 1, 16, 17, 39, 40])
def test_a_resumed_epoch_goes_on_with_the_very_next_batch(first_step):
    split = numbered(2530)
    options = {"batch_size": 64, "seed": 3, "epoch": 1}
    whole = as_lists(batches_lib.training_batches(split, **options))
    rest = as_lists(batches_lib.training_batches(split, **options, first_step=first_step))
    for all_parts, parts in zip(whole, rest, strict=True):
        assert len(parts) == len(all_parts) - first_step
        for expected, found in zip(all_parts[first_step:], parts, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("first_step", [0, 17, 39])
def test_several_epochs_are_the_single_ones_in_a_row(first_step):
    split = numbered(2530)
    options = {"batch_size": 64, "seed": 3}
    several = as_lists(
        batches_lib.training_batches(split, **options, epoch=4, first_step=first_step, epochs=3)
    )
    single = [
        as_lists(batches_lib.training_batches(split, **options, epoch=4 + i, first_step=skipped))
        for i, skipped in enumerate((first_step, 0, 0))
    ]
    for found, *expected in zip(several, *single, strict=True):
        expected = list(itertools.chain(*expected))
        assert len(found) == len(expected)
        for ours, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("first_step", [0, 3])
def test_an_endless_dataset_goes_on_with_the_next_epoch(first_step):
    split = numbered(150)
    options = {"batch_size": 64, "seed": 3}
    endless = batches_lib.training_batches(
        split, **options, epoch=1, first_step=first_step, epochs=None
    )
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    found = as_lists(endless.take(9 - first_step))
    expected = as_lists(
        batches_lib.training_batches(split, **options, epoch=1, first_step=first_step, epochs=3)
    )
    for ours, wanted in zip(found, expected, strict=True):
        assert [len(batch) for batch in ours] == [64, 64, 22] * (3 - (first_step > 0))
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(wanted))


# The last batch has 13, 1 and 2 images: an uneven part, no image for some, one for each.
@pytest.mark.parametrize("size", [141, 129, 130])
@pytest.mark.parametrize(("workers", "local"), [(2, 1), (1, 2), (3, 1), (2, 2)])
def test_the_shares_of_all_processes_put_together_are_the_batches(size, workers, local):
    split = numbered(size)
    options = {"batch_size": 64, "seed": 3, "epoch": 1, "epochs": 2}
    whole = as_lists(batches_lib.training_batches(split, **options))
    replicas = workers * local
    of_workers = [
        as_lists(
            batches_lib.training_batches(
                split, **options, shard=Shard(worker * local, local, replicas)
            )
        )
        for worker in range(workers)
    ]
    for kind in (0, 1):
        for step, expected in enumerate(whole[kind]):
            parts = [
                part
                for worker in of_workers
                for part in worker[kind][step * local : (step + 1) * local]
            ]
            assert len(parts) == replicas
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_evaluation_batches_are_the_split_in_its_order():
    split = numbered(1100)
    images, labels = as_lists(batches_lib.evaluation_batches(split, batch_size=256))
    assert [len(batch) for batch in images] == [256] * 4 + [76]
    np.testing.assert_array_equal(np.concatenate(images), split.images)
    np.testing.assert_array_equal(np.concatenate(labels), split.labels)


@pytest.mark.parametrize("kind", ["memmap", "lazy"])
def test_every_kind_of_source_gives_the_same_batches(kind, tmp_path):
    split = numbered(1100)
    if kind == "memmap":
        np.save(tmp_path / "images.npy", split.images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
    else:
        images = Lazy(split.images)
    other = Split(images, split.labels)
    for make, options in (
        (batches_lib.training_batches, {"seed": 0, "epoch": 0}),
        (batches_lib.evaluation_batches, {}),
    ):
        expected = as_lists(make(split, batch_size=64, **options))
        found = as_lists(make(other, batch_size=64, **options))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))


def test_batches_are_uint8_and_int32_of_known_shape():
    split = numbered(10)
    for dataset in (
        batches_lib.training_batches(split, batch_size=4, seed=0, epoch=0),
        batches_lib.evaluation_batches(split, batch_size=4),
    ):
        images, labels = dataset.element_spec
        assert images == tf.TensorSpec((None, 48, 48, 1), tf.uint8)
        assert labels == tf.TensorSpec((None,), tf.int32)
        assert next(iter(dataset))[0].shape == (4, 48, 48, 1)


def test_images_are_let_go_with_the_last_dataset_or_iterator_made_of_them():
    split = numbered(3000)
    images = weakref.ref(split.images)
    datasets = [batches_lib.training_batches(split, batch_size=64, seed=0, epoch=0, epochs=None)]
    del split
    datasets.append(datasets[0].map(lambda images, labels: (images, labels + 1)))
    iterator = iter(datasets[1])
    while datasets:
        datasets.pop(0)
        gc.collect()
        assert next(iterator)[0].shape == (64, 48, 48, 1)
        assert images() is not None
    del iterator
    gc.collect()
    assert images() is None


@pytest.mark.parametrize("strategy", ["OneDeviceStrategy", "MirroredStrategy"])
def test_an_iterator_over_devices_keeps_the_images(strategy):
    split = numbered(3000)
    images = weakref.ref(split.images)
    devices = "/cpu:0" if strategy == "OneDeviceStrategy" else ["/cpu:0"]
    spread = getattr(tf.distribute, strategy)(devices)
    options = {"batch_size": 60, "seed": 0, "epoch": 0, "epochs": None}
    iterator = iter(
        spread.distribute_datasets_from_function(
            lambda _, split=split: batches_lib.training_batches(split, **options)
        )
    )
    del split
    gc.collect()
    for _ in range(60):
        assert next(iterator)[0].shape == (60, 48, 48, 1)
    assert images() is not None
