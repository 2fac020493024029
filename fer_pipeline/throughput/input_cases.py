"""Ways to feed the network: shuffled and randomly mirrored batches of the same faces."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES, IMAGE_SIZE
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import allocator
from fer_pipeline.input_pipeline import augment
from fer_pipeline.input_pipeline import batches as batches_lib
from fer_pipeline.throughput import torch_rivals
from fer_pipeline.throughput.cases import Case
from fer_pipeline.throughput.rounds import for_seconds

if TYPE_CHECKING:
    import tensorflow as tf

#: The case that ratios refer to.
BASELINE = "ImageDataGenerator (the notebook's)"

#: The cases of a quick look.
QUICK = (BASELINE, "PyTorch DataLoader", "ours, memory", "tf.data, one batch again and again")

#: Pictures in the folder, enough for the largest batch; writing more takes longer.
MAX_FILES = 4096

#: Images of an epoch: FER-2013's training set. Smaller sets are repeated up to it, because what
#: our pipeline pays when an epoch starts is spread over that many there.
EPOCH_IMAGES = 28_709

#: Gives files of about FER-2013's size.
_JPEG_QUALITY = 95

_SEED = 0


def class_folders(train: Split, scratch: Path) -> Path:
    """Some training images as ``<scratch>/faces/train``, a folder of JPEGs a class, written once.

    It is a data source's ``train``. Beside it, ``images.npy`` and ``labels.npy`` hold the same
    images over and over, as many as an epoch takes.
    """
    root = scratch / "faces" / "train"
    if root.exists():
        return root
    import tensorflow as tf

    count = min(len(train.labels), MAX_FILES)
    chosen = np.linspace(0, len(train.labels) - 1, count).astype(np.int64)
    part = Split(np.ascontiguousarray(train.images[chosen]), train.labels[chosen])
    for name in CLASS_NAMES:
        (root / name).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(*part, strict=True)):
        jpeg = tf.io.encode_jpeg(image, quality=_JPEG_QUALITY).numpy()
        (root / CLASS_NAMES[label] / f"{i:06d}.jpg").write_bytes(jpeg)
    # A data source has test images too; one of each class is enough.
    for name in {CLASS_NAMES[label] for label in part.labels}:
        file = next((root / name).iterdir())
        copy = root.with_name("test") / name / file.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(file.read_bytes())
    for name, array in zip(("images", "labels"), repeated(part, EPOCH_IMAGES), strict=True):
        np.save(root.with_name(f"{name}.npy"), array)
    return root


def epoch_beside(folder: Path, *, mapped: bool = False) -> Split:
    """The images of an epoch that ``class_folders`` has left; ``mapped`` leaves them on disk."""
    images = np.load(folder.with_name("images.npy"), mmap_mode="r" if mapped else None)
    return Split(images, np.load(folder.with_name("labels.npy")))


def repeated(split: Split, size: int) -> Split:
    """The split's images over and over until there are ``size``, or more if it has more."""
    if len(split.labels) >= size:
        return split
    positions = np.arange(size) % len(split.labels)
    return Split(split.images[positions], split.labels[positions])


def cases(folder: str, batch_size: int, seconds: float, workers: int = 0) -> list[Case]:
    """Ways to deliver shuffled and randomly mirrored batches of the same images.

    Each is consumed as a training loop would, epoch after epoch: what is made in Python there,
    ``tf.data`` by a compiled loop. All but the readers of files hold the images of an epoch. Pixels
    are float32 from Keras' readers of files, uint8 from all others;
    ``image_dataset_from_directory`` is shuffled once, since what is cached is whole batches. The
    last two are limits: what ``tf.data`` delivers without any work, and gathering the images
    without anything else.

    Args:
      folder: ``class_folders``'.
      batch_size: images of a batch.
      seconds: of one round.
      workers: processes of a second PyTorch DataLoader; 0 leaves it out.
    """
    root = Path(folder)
    found = []

    def add(name: str, make: Callable[[], Callable[[], int]], **facts: str) -> None:
        found.append(Case(name, lambda: for_seconds(make(), seconds), facts))

    def loader(**options: Any) -> Callable[[], Callable[[], int]]:
        return lambda: torch_rivals.loader(epoch_beside(root), batch_size, **options)

    add(BASELINE, lambda: _generated(root, batch_size))
    add("image_dataset_from_directory", lambda: _from_directory(root, batch_size))
    add("tf.data, element by element", lambda: _by_element(epoch_beside(root), batch_size))
    add("PyTorch DataLoader", loader())
    if workers:
        add(f"PyTorch DataLoader, {workers} processes", loader(workers=workers))
    add("PyTorch DataLoader, whole batches", loader(whole_batches=True))
    for cache, split in (
        ("memory", lambda: epoch_beside(root)),
        ("disk", lambda: epoch_beside(root, mapped=True)),
        ("none", lambda: _undecoded(root)),
    ):
        add(f"ours, {cache}", lambda split=split: _ours(split(), batch_size), kind="ours")
    same_batch = "tf.data, one batch again and again"
    add(same_batch, lambda: _same_batch(epoch_beside(root), batch_size), kind="limit")
    gather = "NumPy's gather alone"
    add(gather, lambda: _gather(epoch_beside(root).images, batch_size), kind="limit")
    return found


def generator(folder: Path, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The notebook's training generator: float32 ``[B, 48, 48, 1]``, one-hot float32 ``[B, 7]``.

    Raises:
      ImportError: without Pillow.
    """
    import tensorflow as tf

    if importlib.util.find_spec("PIL") is None:
        raise ImportError("it needs Pillow; pip install pillow")
    images = tf.keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True)
    # It prints how many files it found.
    with contextlib.redirect_stdout(io.StringIO()):
        return images.flow_from_directory(
            folder,
            target_size=(IMAGE_SIZE, IMAGE_SIZE),
            color_mode="grayscale",
            batch_size=batch_size,
            class_mode="categorical",
            shuffle=True,
            seed=_SEED,
        )


def _generated(folder: Path, batch_size: int) -> Callable[[], int]:
    batches = generator(folder, batch_size)
    return lambda: len(next(batches)[0])


def endless(train: Split, batch_size: int) -> tf.data.Dataset:
    """Our own training batches, epoch after epoch."""
    return batches_lib.training_batches(
        train, batch_size=batch_size, seed=_SEED, epoch=0, epochs=None
    )


def _from_directory(folder: Path, batch_size: int) -> Callable[[], int]:
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder,
        color_mode="grayscale",
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        batch_size=batch_size,
        seed=_SEED,
        verbose=False,
    )
    dataset = dataset.cache().map(_flip, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return consumer(dataset, batch_size)


def _by_element(split: Split, batch_size: int) -> Callable[[], int]:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(tuple(split)).cache()
    dataset = dataset.shuffle(len(split.labels), seed=_SEED).map(_flip, tf.data.AUTOTUNE)
    return consumer(dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE), batch_size)


def _same_batch(split: Split, batch_size: int) -> Callable[[], int]:
    import tensorflow as tf

    batch = tuple(part[:batch_size] for part in split)
    return consumer(tf.data.Dataset.from_tensors(batch), batch_size)


def _flip(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    import tensorflow as tf

    return tf.image.random_flip_left_right(images), labels


def consumer(dataset: tf.data.Dataset, batch_size: int) -> Callable[[], int]:
    """Takes about 4,096 images at a time from an endless repetition of a dataset."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def consume(batches: tf.data.Iterator, steps: tf.Tensor) -> tf.Tensor:
        images = tf.constant(0)
        for _ in tf.range(steps):
            _, labels = next(batches)
            images += tf.shape(labels)[0]
        return images

    batches, steps = iter(dataset.repeat()), tf.constant(max(1, MAX_FILES // batch_size))
    return lambda: int(consume(batches, steps))


def _ours(split: Split, batch_size: int) -> Callable[[], int]:
    allocator.retain_freed_memory()
    return consumer(endless(split, batch_size), batch_size)


def _undecoded(folder: Path) -> Split:
    return datasets.load(folder.parent, cache="none").splits.train


def _gather(images: np.ndarray, batch_size: int) -> Callable[[], int]:
    """Takes a shuffled epoch at a time."""
    epochs = itertools.count()

    def step() -> int:
        order = augment.epoch_order(len(images), seed=_SEED, epoch=next(epochs))
        starts = range(0, len(order), batch_size)
        return sum(len(images[order[start : start + batch_size]]) for start in starts)

    return step
