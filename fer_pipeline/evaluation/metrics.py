"""Accuracy, per-class report and confusion matrix of a model on a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import Split, chunks
from fer_pipeline.evaluation import calibration as calibration_lib
from fer_pipeline.evaluation.calibration import Calibration
from fer_pipeline.input_pipeline import batches as batches_lib
from fer_pipeline.terminal.tables import format_table, shortened
from fer_pipeline.training import steps

if TYPE_CHECKING:
    import keras

_BATCH = 256


class Predictions(NamedTuple):
    """A model's predictions on a split.

    Attributes:
      probabilities: float32 ``[N, C]``.
      losses: float32 ``[N]``, the cross-entropy of each image in nats, as ``steps`` defines it.
    """

    probabilities: np.ndarray
    losses: np.ndarray


class ClassReport(NamedTuple):
    """Metrics of one class; its support is the number of images of that class."""

    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(NamedTuple):
    """Metrics of a model on a split.

    Attributes:
      accuracy: share of images whose largest probability is the right class.
      loss: mean categorical cross-entropy in nats.
      confusion: int64 ``[C, C]``; rows are true classes, columns predicted ones.
      calibration: how far the probabilities are from how often they are right.
      classes: their names, in the order of the labels.
    """

    accuracy: float
    loss: float
    confusion: np.ndarray
    calibration: Calibration
    classes: tuple[str, ...] = CLASS_NAMES

    @property
    def per_class(self) -> dict[str, ClassReport]:
        """Precision, recall and F1 of every class (van Rijsbergen, 1979); 0 if undefined."""
        hits = np.diag(self.confusion).astype(float)
        precision = _ratio(hits, self.confusion.sum(axis=0))
        recall = _ratio(hits, self.confusion.sum(axis=1))
        f1 = _ratio(2 * precision * recall, precision + recall)
        support = self.confusion.sum(axis=1)
        rows = zip(precision, recall, f1, support, strict=True)
        return {
            name: ClassReport(float(p), float(r), float(f), int(s))
            for name, (p, r, f, s) in zip(self.classes, rows, strict=True)
        }

    @property
    def macro_f1(self) -> float:
        """The unweighted mean of the classes' F1."""
        return float(np.mean([report.f1 for report in self.per_class.values()]))

    @property
    def balanced_accuracy(self) -> float:
        """The unweighted mean of the recall of the classes that occur (Brodersen et al., 2010)."""
        found = [report.recall for report in self.per_class.values() if report.support]
        return float(np.mean(found)) if found else 0.0


def predict(model: keras.Model, split: Split) -> Predictions:
    """Computes a model's predictions on every image of a split."""
    import tensorflow as tf

    # One trace for batches of any size.
    images_spec = tf.TensorSpec([None, *split.images.shape[1:]], tf.uint8)

    @tf.function(input_signature=[images_spec, tf.TensorSpec([None], tf.int32)])
    def forward(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities = model(tf.cast(images, tf.float32), training=False)
        return probabilities, steps.cross_entropy(labels, probabilities)

    batches = batches_lib.evaluation_batches(split, batch_size=_BATCH)
    found = [[part.numpy() for part in forward(*batch)] for batch in batches]
    return Predictions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def score(
    predictions: Predictions, labels: np.ndarray, classes: Sequence[str] = CLASS_NAMES
) -> Evaluation:
    """Compares a model's predictions with the true labels ``[N]``, places in ``classes``."""
    predicted = predictions.probabilities.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return Evaluation(
        accuracy=float(np.mean(predicted == labels)),
        loss=float(predictions.losses.mean(dtype=np.float64)),
        confusion=confusion,
        calibration=calibration_lib.measure(predictions.probabilities, labels),
        classes=tuple(classes),
    )


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Converts an evaluation to its form in ``metrics.json``."""
    return {
        "images": int(evaluation.confusion.sum()),
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "macro_f1": evaluation.macro_f1,
        "balanced_accuracy": evaluation.balanced_accuracy,
        "per_class": {name: row._asdict() for name, row in evaluation.per_class.items()},
        "confusion": evaluation.confusion.tolist(),
        "calibration": calibration_lib.as_json(evaluation.calibration),
    }


def without_duplicates(
    predictions: Predictions,
    split: Split,
    train: Split,
    classes: Sequence[str] = CLASS_NAMES,
) -> dict[str, Any] | None:
    """``as_json`` of the images that no training image equals pixel by pixel.

    A network may know the others by heart: of FER-2013's PublicTest one in twelve.

    Args:
      predictions: of every image of ``split``.
      split: what was predicted.
      train: what the network was trained on.
      classes: what the labels mean.

    Returns:
      None where no image is left.
    """
    known, asked = (
        np.concatenate([splitting.pixel_hashes(chunk) for chunk in chunks(part.images)])
        for part in (train, split)
    )
    new = ~np.isin(asked, known)
    if not new.any():
        return None
    kept = Predictions(predictions.probabilities[new], predictions.losses[new])
    return as_json(score(kept, split.labels[new], classes))


def format_report(evaluation: Evaluation) -> str:
    """Formats the metrics of each class for the terminal."""
    rows = []
    for name, (*ratios, support) in evaluation.per_class.items():
        rows.append((name, *(f"{ratio:.3f}" for ratio in ratios), f"{support:,}"))
    header = ("", "precision", "recall", "F1", "images")
    return format_table([header, *shortened(rows)], min_width=8)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, 0 where the denominator is 0."""
    quotient = np.zeros(len(numerator))
    return np.divide(numerator, denominator, out=quotient, where=denominator > 0)
