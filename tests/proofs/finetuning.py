"""Fine-tuning the pretrained model against training from scratch, with few images of other classes.

    python tests/proofs/finetuning.py fer2013.zip
    python tests/proofs/finetuning.py synthetic
    python tests/proofs/finetuning.py fer2013.zip --try

Three classes are made of FER-2013's: positive (happy), calm (neutral) and negative (angry, sad,
fear, disgust). The images are FER-2013's PublicTest ones that equal no training image: the
pretrained model was trained on the others alone. 250 of each class are for testing, and the
training images are drawn anew for every seed from the rest. With ``synthetic`` they are drawn.
All ways have the network ``compact`` and the same epochs. ``--try`` compares settings instead, on
images that are cut from the training images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fer_pipeline import datasets, recipes
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.inference import pretrained
from fer_pipeline.stages import initial_weights
from fer_pipeline.training import loop

CLASSES = {
    "calm": ("neutral",),
    "negative": ("angry", "sad", "fear", "disgust"),
    "positive": ("happy",),
}
TEST_IMAGES = 250

#: Of a class in training, and in ``--try`` in validation.
POOL, CUT = 300, 150

#: Epochs by the training images of a class.
EPOCHS = {30: 20, 100: 12, 300: 8}

FINETUNED = {"recipe": "finetune", "init_weights": pretrained.NAME}

#: What is compared, by its name in the table.
WAYS = {
    "fine-tuned": FINETUNED,
    "the last layer alone": FINETUNED | {"freeze": "backbone", "learning_rate": 1e-2},
    "from scratch": {"recipe": "tuned", "model": "compact"},
}

#: What ``--try`` changes about the recipe ``finetune``.
TRIED: tuple[dict[str, Any], ...] = (
    {},
    {"learning_rate": 1e-3},
    {"learning_rate": 3e-3},
    {"freeze": "13"},
    {"freeze": "26"},
    {"freeze": "backbone", "learning_rate": 1e-2},
    {"optimizer": "muon", "learning_rate": 2e-3},
    {"augment": "flip,shift:2"},
    {"batch_size": 16},
)


def faces_of(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Faces and their labels in ``CLASSES``, as many of a class as there are."""
    if source == datasets.SYNTHETIC:
        named = np.arange(7000) % len(CLASS_NAMES)
        images = synthetic.render(named, seed=99)
    else:
        splits = datasets.load(source).splits
        known = {image.tobytes() for image in splits.train.images}
        new = [image.tobytes() not in known for image in splits.test.images]
        images, named = splits.test.images[new], splits.test.labels[new]
    meant = {old: place for place, names in enumerate(CLASSES.values()) for old in names}
    labels = np.array([meant.get(name, -1) for name in CLASS_NAMES])[named]
    return images[labels >= 0], labels[labels >= 0].astype(np.int32)


def parts_of(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of training images, of others that are cut from their pool, and of test images."""
    train, cut, test = [], [], []
    for place in range(len(CLASSES)):
        of_class = np.random.default_rng(place).permutation(np.flatnonzero(labels == place))
        test.append(of_class[:TEST_IMAGES])
        pool = of_class[TEST_IMAGES:][: max(POOL, size)]
        pool = np.random.default_rng([seed, place]).permutation(pool)
        train.append(pool[:size])
        cut.append(pool[size:][:CUT])
    return np.concatenate(train), np.concatenate(cut), np.concatenate(test)


def accuracy(
    images: np.ndarray, labels: np.ndarray, parts: tuple[np.ndarray, np.ndarray], **settings: Any
) -> tuple[float, float]:
    """Trains on the first part and returns the accuracy on the second, and seconds of CPU time."""
    train, other = (Split(images[part], labels[part]) for part in parts)
    # What is validated after every epoch decides nothing here.
    few = Split(train.images[:9], train.labels[:9])
    splits = Splits(train, few, other, classes=tuple(CLASSES))
    config = Config(epochs=EPOCHS[len(parts[0]) // len(CLASSES)], precision="float32", **settings)
    config = recipes.resolve(initial_weights.with_network(config))
    weights = None
    if config.init_weights:
        found = initial_weights.load(config.init_weights)
        weights = initial_weights.fit(
            found, config.model, splits.classes, source=config.init_weights
        )
    begun = time.process_time()
    trained = loop.train(splits, config, initial=weights, log=lambda line: None)
    seconds = time.process_time() - begun
    probabilities = trained.model.predict(other.images.astype(np.float32), 250, verbose=0)
    return float(np.mean(probabilities.argmax(axis=1) == other.labels)), seconds


def compared(source: str, sizes: list[int], seeds: int) -> Iterator[str]:
    """Rows of the table of ``WAYS``."""
    images, labels = faces_of(source)
    yield "| images of a class | epochs | way | test accuracy | from - to | CPU seconds |"
    yield "|---|---|---|---|---|---|"
    for size in sizes:
        for name, way in WAYS.items():
            found, seconds = [], []
            for seed in range(seeds):
                train, _, test = parts_of(labels, size, seed)
                reached, took = accuracy(images, labels, (train, test), seed=seed, **way)
                found.append(reached)
                seconds.append(took)
            yield (
                f"| {size} | {EPOCHS[size]} | {name} | {np.mean(found):.1%} | {min(found):.1%} - "
                f"{max(found):.1%} | {np.median(seconds):.0f} |"
            )


def tried(source: str, sizes: list[int], seeds: int) -> Iterator[str]:
    """Rows of the table of settings."""
    images, labels = faces_of(source)
    yield "| images of a class | settings | accuracy on images cut from training | from - to |"
    yield "|---|---|---|---|"
    for size in sizes:
        for settings in TRIED:
            found = []
            for seed in range(seeds):
                train, cut, _ = parts_of(labels, size, seed)
                chosen = FINETUNED | settings | {"seed": seed}
                found.append(accuracy(images, labels, (train, cut), **chosen)[0])
            shown = ", ".join(f"{name}={value}" for name, value in settings.items())
            yield (
                f"| {size} | {shown or 'the recipe'} | {np.mean(found):.1%} | {min(found):.1%} - "
                f"{max(found):.1%} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="fer2013.zip, or synthetic")
    parser.add_argument("--sizes", type=int, nargs="+", choices=EPOCHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--try", dest="trying", action="store_true", help="compare settings")
    chosen = parser.parse_args()
    # With 300 a class there is none left to compare settings on.
    sizes = chosen.sizes or [size for size in EPOCHS if not chosen.trying or size < POOL]
    table = tried if chosen.trying else compared
    for row in table(chosen.source, sizes, chosen.seeds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
