"""Temperature scaling: one number by which a network's logits are divided.

Guo et al., "On Calibration of Modern Neural Networks" (2017). The softmax of logits over a
temperature names the same classes, with probabilities that are nearer to how often it is right.

Checkpoints hold the weights as they were trained. What a run delivers has the temperature folded
into its last layer, by ``fold``, where the weights leave the checkpoint: once for all exported
files and the network that they are compared with, and once in ``delivered_weights`` for whoever
opens the run itself. Runs that teach are asked as they were trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import run_dir
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import calibration, metrics
from fer_pipeline.evaluation.calibration import Calibration
from fer_pipeline.training.distillation import soften

if TYPE_CHECKING:
    import keras

    from fer_pipeline.training.checkpoints import Checkpoint

#: The smallest and largest temperature.
BOUNDS = (0.1, 10.0)

#: Fewer images tell no temperature: it would be off by more than it mends (``BUILD_NOTES.md``).
FEWEST_IMAGES = 50

#: Steps of the search. Each leaves 0.618 of the interval: in the end 1e-9 of it.
_STEPS = 44

#: Nearer to a bound than this share of it, a temperature counts as having run into it.
_AT_BOUND = 1e-3


class Fitted(NamedTuple):
    """A temperature, and what it does to the test images.

    Attributes:
      value: the temperature.
      fitted_on: ``"validation"``; or ``"test"`` where the test images are the validation images.
      before: calibration of the test images without it.
      after: and with it.
      accuracy_before: accuracy on the test images without it, 0..1.
      accuracy_after: and with it.
    """

    value: float
    fitted_on: str
    before: Calibration
    after: Calibration
    accuracy_before: float
    accuracy_after: float


def fit(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """The temperature of the smallest mean cross-entropy, by golden-section search (Kiefer, 1953).

    The cross-entropy has one minimum: it is convex in the reciprocal of the temperature.

    Args:
      probabilities: ``[N, C]``; their logarithms are logits.
      labels: int ``[N]``.

    Returns:
      None where the images do not tell: they are fewer than ``FEWEST_IMAGES``, a probability is not
      finite, or the best temperature is a bound. So it is where every image is named rightly, and
      the more certainly the better.
    """
    if len(labels) < FEWEST_IMAGES or not np.isfinite(probabilities).all():
        return None
    rows = np.arange(len(labels))

    def loss(exponent: float) -> float:
        scaled = soften(probabilities, math.exp(exponent))[rows, labels]
        return float(-np.log(np.maximum(scaled, np.finfo(np.float64).tiny)).mean())

    share = (math.sqrt(5) - 1) / 2
    low, high = (math.log(bound) for bound in BOUNDS)
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = loss(right)
    value = math.exp((low + high) / 2)
    ran_out = any(abs(value / bound - 1) < _AT_BOUND for bound in BOUNDS)
    return None if ran_out else value


def fold(weights: Sequence[np.ndarray], value: float | None) -> list[np.ndarray]:
    """Weights whose network gives the softmax of the logits over a temperature.

    Args:
      weights: in the order of ``get_weights()``; the last two are the last layer's kernel and bias.
      value: the temperature; None changes nothing.
    """
    if value is None:
        return list(weights)
    *others, kernel, bias = weights
    return [*others, (kernel / value).astype(kernel.dtype), (bias / value).astype(bias.dtype)]


def calibrate(model: keras.Model, splits: Splits) -> Fitted | None:
    """Fits a network's temperature on the validation images and measures it on the test images.

    Args:
      model: the float32 network as it was trained.
      splits: the data; ``validation`` may be the test images.

    Returns:
      None where no temperature can be told (``fit``).
    """
    validation = metrics.predict(model, splits.validation)
    value = fit(validation.probabilities, splits.validation.labels)
    if value is None:
        return None
    test, labels = validation, splits.test.labels
    if splits.selected_on != "test":
        test = metrics.predict(model, splits.test)
    scaled = soften(test.probabilities, value)
    return Fitted(
        value,
        splits.selected_on,
        calibration.measure(test.probabilities, labels),
        calibration.measure(scaled, labels),
        float(np.mean(test.probabilities.argmax(axis=1) == labels)),
        float(np.mean(scaled.argmax(axis=1) == labels)),
    )


def as_json(fitted: Fitted) -> dict[str, Any]:
    """A temperature in its form in ``metrics.json`` and in an export's manifest."""
    return {
        "value": fitted.value,
        "fitted_on": fitted.fitted_on,
        "measured_on": "test",
        "ece_before": fitted.before.ece,
        "ece_after": fitted.after.ece,
        "accuracy_before": fitted.accuracy_before,
        "accuracy_after": fitted.accuracy_after,
    }


def describe(found: dict[str, Any] | None, images: int) -> str:
    """One line about a temperature in the form of ``as_json``, looked for on so many images."""
    if not found and images < FEWEST_IMAGES:
        return (
            f"the probabilities stay as they are: to fit a temperature takes {FEWEST_IMAGES} "
            f"validation images, and there are {images}"
        )
    if not found:
        return "the probabilities stay as they are: the validation images tell no temperature"
    fitted_on = "validation" if found["fitted_on"] == "validation" else "test (also validation)"
    return (
        f"temperature {found['value']:.3f}, fitted on the {fitted_on} images: calibration error of "
        f"the test images {found['ece_before']:.4f} before, {found['ece_after']:.4f} after"
    )


def recorded(run: Path, which: str, epoch: int) -> dict[str, Any] | None:
    """The temperature that a run delivers weights with, in the form of ``as_json``.

    That of its export if this is of the same weights; else that of ``metrics.json`` under the same
    condition. None where there is none.

    Args:
      run: the run directory.
      which: the checkpoint, ``"last"`` or ``"best"``.
      epoch: how many epochs made its weights.

    Raises:
      UserError: ``metrics.json`` is damaged, or a temperature is no number above 0.
    """
    run_dir.recover_export(run)
    path = run / run_dir.EXPORT / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
        about = manifest["weights"]["checkpoint"], manifest["weights"]["epoch"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        about = None
    if about == (which, epoch):
        return _checked(path, manifest.get("temperature"))
    path = run / run_dir.METRICS
    if not path.exists():
        return None
    found = run_dir.read_metrics(run)
    same = (found["checkpoint"], found.get("epoch")) == (which, epoch)
    return _checked(path, found.get("temperature")) if same else None


def _checked(path: Path, found: Any) -> dict[str, Any] | None:
    if found is not None and not is_valid(found):
        raise UserError(f"{path}: its temperature is none; evaluate or export the run again")
    return found


def is_valid(found: Any) -> bool:
    """Whether a value has the form of ``as_json``."""
    numbers = ("value", "ece_before", "ece_after", "accuracy_before", "accuracy_after")
    return (
        isinstance(found, dict)
        and found.get("fitted_on") in ("validation", "test")
        and all(isinstance(found.get(name), float | int) for name in numbers)
        and BOUNDS[0] <= found["value"] <= BOUNDS[1]
        and all(0 <= found[name] <= 1 for name in numbers[1:])
    )


def delivered_weights(run: Path, which: str, checkpoint: Checkpoint) -> list[np.ndarray]:
    """A checkpoint's weights as the run delivers them, its temperature folded in.

    Raises:
      UserError: as ``recorded``.
    """
    found = recorded(run, which, checkpoint.state["epoch"])
    return fold(checkpoint.weights, found["value"] if found else None)
