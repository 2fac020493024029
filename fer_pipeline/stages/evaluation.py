"""Evaluates a model on faces: a run's own, or others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline import datasets, run_dir
from fer_pipeline.datasets import run_data
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import precision
from fer_pipeline.evaluation import metrics
from fer_pipeline.evaluation.metrics import Evaluation
from fer_pipeline.inference import model_loader


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
        found = metrics.score(metrics.predict(model, faces), faces.labels)
    return Evaluated(found, data or config["data"], loaded.own)


def evaluate_model(model: model_loader.Model, faces: Split) -> Evaluation:
    """Evaluates any model that ``model_loader.open_model`` opens."""
    from fer_pipeline.training import steps

    probabilities = model(np.asarray(faces.images[:]))
    losses = steps.cross_entropy(faces.labels, probabilities).numpy()
    return metrics.score(metrics.Predictions(probabilities, losses), faces.labels)


def load_split(source: str, split: str) -> Split:
    """One split of a source, as ``datasets.load`` splits it."""
    return getattr(datasets.load(source, write_cache=False).splits, split)
