"""Who competes: the ways to feed and to train the network that the benchmark compares."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import augment, input_pipeline
from fer_pipeline.contest import Contender, for_seconds
from fer_pipeline.datasets.splits import Split
from fer_pipeline.expressions import CLASS_NAMES, IMAGE_SIZE

if TYPE_CHECKING:
    import tensorflow as tf

#: The rows that ratios refer to.
INPUT_BASELINE = "ImageDataGenerator (the seed's)"
TRAIN_BASELINE = "Keras fit, float32"

#: Pictures in the folder; more change no contender's speed, and writing them takes longer.
MAX_FILES = 4096

#: Images of an epoch: FER-2013's training set. Smaller sets are repeated up to it, because what
#: our pipeline pays when an epoch starts is spread over that many there.
EPOCH_IMAGES = 28_709

#: Gives files of about FER-2013's size.
_JPEG_QUALITY = 95

_SEED = 0
_LEARNING_RATE = 5e-4


@contextlib.contextmanager
def class_folders(train: Split) -> Iterator[tuple[Path, Split]]:
    """Some training images as a folder of JPEGs a class, removed afterwards.

    Yields:
      The folder that holds the class folders, and the images that went into it.
    """
    import tensorflow as tf

    count = min(len(train.labels), MAX_FILES)
    chosen = np.linspace(0, len(train.labels) - 1, count).astype(np.int64)
    part = Split(np.ascontiguousarray(train.images[chosen]), train.labels[chosen])
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        root = Path(scratch) / "faces"
        for name in CLASS_NAMES:
            (root / name).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(*part, strict=True)):
            jpeg = tf.io.encode_jpeg(image, quality=_JPEG_QUALITY).numpy()
            (root / CLASS_NAMES[label] / f"{i:06d}.jpg").write_bytes(jpeg)
        yield root, part


def repeated(split: Split, size: int) -> Split:
    """The split's images over and over until there are ``size``, or more if it has more."""
    if len(split.labels) >= size:
        return split
    positions = np.arange(size) % len(split.labels)
    return Split(split.images[positions], split.labels[positions])


def input_contenders(
    folder: Path, part: Split, *, batch_size: int, seconds: float
) -> list[Contender]:
    """Ways to deliver shuffled and randomly mirrored batches of the same images.

    Each is consumed as a training loop would, epoch after epoch: the generator in Python,
    ``tf.data`` by a compiled loop. The last two are ceilings: what ``tf.data`` delivers without any
    work, and the work without ``tf.data``.

    Args:
      folder: class folders of image files; a file may be written beside it.
      part: the same images decoded.
      batch_size: images of a batch.
      seconds: of one round.
    """
    epoch = repeated(part, EPOCH_IMAGES)
    np.save(folder.parent / "images.npy", epoch.images)
    mapped = Split(np.load(folder.parent / "images.npy", mmap_mode="r"), epoch.labels)
    sources = {
        INPUT_BASELINE: lambda: _generator(folder, batch_size),
        "image_dataset_from_directory": lambda: _from_directory(folder, batch_size),
        "tf.data, element by element": lambda: _by_element(part, batch_size),
        "ours, memory": lambda: _ours(epoch, batch_size),
        "ours, disk": lambda: _ours(mapped, batch_size),
        "tf.data, one batch again and again": lambda: _same_batch(epoch, batch_size),
        "NumPy's gather alone": lambda: _gather(epoch.images, batch_size),
    }
    contenders = []
    for name, make_step in sources.items():
        try:
            contenders.append(Contender(name, for_seconds(make_step(), seconds)))
        except ImportError as error:
            contenders.append(Contender(name, None, f"not measured: {error}"))
    return contenders


def train_contenders(train: Split, *, batch_size: int, steps: int) -> list[Contender]:
    """Ways to take optimizer steps on the network, all fed by our input pipeline.

    Args:
      train: training images, repeated as often as needed.
      batch_size: images of a step.
      steps: of one round.
    """
    from fer_pipeline.precision import resolve

    train = repeated(train, batch_size * steps)
    contenders = [Contender(TRAIN_BASELINE, _keras_fit(train, batch_size, steps))]
    for policy in dict.fromkeys(["float32", resolve("auto")]):
        contenders.append(Contender(f"ours, {policy}", _our_loop(train, batch_size, steps, policy)))
    return contenders


def _generator(folder: Path, batch_size: int) -> Callable[[], int]:
    import tensorflow as tf

    if importlib.util.find_spec("PIL") is None:
        raise ImportError("it needs Pillow; pip install pillow")
    generator = tf.keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True)
    # It prints how many files it found.
    with contextlib.redirect_stdout(io.StringIO()):
        batches = generator.flow_from_directory(
            folder,
            target_size=(IMAGE_SIZE, IMAGE_SIZE),
            color_mode="grayscale",
            batch_size=batch_size,
            class_mode="categorical",
            shuffle=True,
            seed=_SEED,
        )
    return lambda: len(next(batches)[0])


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
    dataset = dataset.cache().map(_flip).prefetch(tf.data.AUTOTUNE)
    return _consumer(dataset, batch_size)


def _by_element(part: Split, batch_size: int) -> Callable[[], int]:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(tuple(part)).cache()
    dataset = dataset.shuffle(len(part.labels), seed=_SEED).map(_flip, tf.data.AUTOTUNE)
    return _consumer(dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE), batch_size)


def _same_batch(split: Split, batch_size: int) -> Callable[[], int]:
    import tensorflow as tf

    batch = tuple(part[:batch_size] for part in split)
    return _consumer(tf.data.Dataset.from_tensors(batch), batch_size)


def _flip(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    import tensorflow as tf

    return tf.image.random_flip_left_right(images), labels


def _consumer(dataset: tf.data.Dataset, batch_size: int) -> Callable[[], int]:
    """Takes about 4,096 images at a time from an endless repetition of a dataset."""
    take, batches = _compiled_consumer(), iter(dataset.repeat())
    steps = max(1, MAX_FILES // batch_size)
    return lambda: take(batches, steps)


def _ours(split: Split, batch_size: int) -> Callable[[], int]:
    return _consumer(_endless(split, batch_size), batch_size)


def _compiled_consumer() -> Callable[[tf.data.Iterator, int], int]:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def consume(batches: tf.data.Iterator, steps: tf.Tensor) -> tf.Tensor:
        images = tf.constant(0)
        for _ in tf.range(steps):
            _, labels = next(batches)
            images += tf.shape(labels)[0]
        return images

    return lambda batches, steps: int(consume(batches, tf.constant(steps)))


def _gather(images: np.ndarray, batch_size: int) -> Callable[[], int]:
    """Takes a shuffled epoch at a time."""
    epochs = itertools.count()

    def step() -> int:
        order = augment.epoch_order(len(images), seed=_SEED, epoch=next(epochs))
        starts = range(0, len(order), batch_size)
        return sum(len(images[order[start : start + batch_size]]) for start in starts)

    return step


def _endless(train: Split, batch_size: int) -> tf.data.Dataset:
    return input_pipeline.training_batches(
        train, batch_size=batch_size, seed=_SEED, epoch=0, epochs=None
    )


def _keras_fit(train: Split, batch_size: int, steps: int) -> Callable[[], int]:
    import keras

    from fer_pipeline.model import build_model

    model = build_model()
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), "sparse_categorical_crossentropy")
    batches = _endless(train, batch_size)

    def run() -> int:
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return steps * batch_size

    return run


def _our_loop(train: Split, batch_size: int, steps: int, policy: str) -> Callable[[], int]:
    import tensorflow as tf

    from fer_pipeline import steps as compiled
    from fer_pipeline import training
    from fer_pipeline.model import build_training_model

    recipe = training.Recipe(learning_rate=_LEARNING_RATE, precision=policy)
    model = build_training_model(dtype_policy=policy)
    optimizer = training.make_optimizer(recipe)
    optimizer.build(model.trainable_variables)
    train_steps = compiled.compile_train_steps(model, optimizer)
    batches, sizes = iter(_endless(train, batch_size)), tf.fill([steps], batch_size)

    def run() -> int:
        rows = train_steps(batches, sizes).numpy()
        return int(rows[:, compiled.IMAGES].sum())

    return run
