"""Evaluates a model on faces: a run's own, or others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline import run_dir
from fer_pipeline.datasets import run_data
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import precision
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import metrics
from fer_pipeline.evaluation.metrics import Evaluation
from fer_pipeline.inference import model_loader
from fer_pipeline.run_record import classes_of


class Evaluated(NamedTuple):
    """Metrics and what they were measured on.

    Attributes:
      evaluation: the metrics.
      data: the source of the faces.
      own: whether these are the run's own.
      unread: names of folders of the source whose images were not read.
    """

    evaluation: Evaluation
    data: str
    own: bool
    unread: tuple[str, ...] = ()


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
      split: ``"train"``, ``"validation"`` or ``"test"``, or ``"all"`` of other data.
      which: ``"last"`` or ``"best"`` checkpoint; None for the one that the run exported.
      on_bad_image: overrides the run's.
      ferplus: as for ``run_data.load``.

    Raises:
      UserError: as ``model_loader.reference_model`` and ``datasets.load``.
    """
    run_dir.recover_export(run)
    config = run_dir.read_config(run)
    model = model_loader.reference_model(run, which)
    options = {"on_bad_image": on_bad_image, "ferplus": ferplus}
    if split == "all":
        if data is None:
            raise UserError("--split=all: name other data, the run has seen most of its own")
        faces, own = run_data.read_all(config, data, **options), False
        unread = faces.unread
    else:
        unread = ()
        loaded = run_data.load(config, data, keep=False, **options)
        faces, own = getattr(loaded.splits, split), loaded.own
    with precision.true_float32():
        found = metrics.score(metrics.predict(model, faces), faces.labels, classes_of(config))
    return Evaluated(found, data or config["data"], own, unread)


def evaluate_model(path: Path, faces: Split, classes: Sequence[str]) -> Evaluation:
    """Evaluates any model that ``model_loader.open_model`` opens.

    Args:
      path: of the model; for answers that nothing names see ``labels.unnamed``.
      faces: to ask it about.
      classes: what the labels mean, in their order.

    Raises:
      UserError: as ``open_model``; or the model has other classes than the faces.
    """
    from fer_pipeline.training import steps

    names = model_loader.class_names(path, expected=classes)
    if problem := classes_lib.unlike(classes, names):
        raise UserError(f"{path}: has {problem}, and the data {classes_lib.listed(classes)}")
    probabilities = model_loader.open_model(path)(np.asarray(faces.images[:]))
    losses = steps.cross_entropy(faces.labels, probabilities).numpy()
    predictions = metrics.Predictions(probabilities, losses)
    return metrics.score(predictions, faces.labels, classes)
