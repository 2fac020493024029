"""Evaluates a model on faces: a run's own, or others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline import run_dir
from fer_pipeline.datasets import run_data
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.devices import precision
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import metrics
from fer_pipeline.evaluation.metrics import Evaluation
from fer_pipeline.inference import labels, model_loader


class Evaluated(NamedTuple):
    """The metrics, the faces they were measured on, and whether these are the run's own."""

    evaluation: Evaluation
    data: str
    own: bool


def evaluate_run(
    run: Path,
    data: str | None = None,
    *,
    split: str = "test",
    which: str | None = None,
    on_bad_image: str | None = None,
    ferplus: str | None = None,
) -> Evaluated:
    """Evaluates the float32 network of a run; writes nothing.

    Args:
      run: the run directory.
      data: a source, as for ``datasets.load``; None is the run's own.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      which: ``"last"`` or ``"best"`` checkpoint; None for the one that the run exported.
      on_bad_image: overrides the run's.
      ferplus: as for ``run_data.load``.

    Raises:
      UserError: as ``model_loader.reference_model`` and ``datasets.load``.
    """
    run_dir.recover_export(run)
    config = run_dir.read_config(run)
    model = model_loader.reference_model(run, which)
    loaded = run_data.load(config, data, on_bad_image=on_bad_image, keep=False, ferplus=ferplus)
    faces = getattr(loaded.splits, split)
    with precision.true_float32():
        found = metrics.score(metrics.predict(model, faces), faces.labels, loaded.splits.classes)
    return Evaluated(found, data or config["data"], loaded.own)


def evaluate_model(path: Path, faces: Splits, *, split: str = "test") -> Evaluation:
    """Evaluates any model that ``model_loader.open_model`` opens.

    Raises:
      UserError: as that; or the model has other classes than the faces.
    """
    from fer_pipeline.training import steps

    names = model_loader.class_names(path)
    # Answers that nothing names are those of the faces, if they are as many.
    if labels.are_numbers(names) and len(names) == len(faces.classes):
        names = faces.classes
    if problem := classes_lib.unlike(faces.classes, names):
        raise UserError(f"{path}: has {problem}, and the data {classes_lib.listed(faces.classes)}")
    part: Split = getattr(faces, split)
    probabilities = model_loader.open_model(path)(np.asarray(part.images[:]))
    losses = steps.cross_entropy(part.labels, probabilities).numpy()
    predictions = metrics.Predictions(probabilities, losses)
    return metrics.score(predictions, part.labels, faces.classes)
