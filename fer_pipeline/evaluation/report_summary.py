"""The report's summary: the first figures, what was trained on what, and what is missing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fer_pipeline import classes as classes_lib
from fer_pipeline import run_record
from fer_pipeline.evaluation.markup import Markup, element
from fer_pipeline.evaluation.report_data import RunData
from fer_pipeline.evaluation.report_tables import comparison_table, megabytes, row_names

#: Standard deviations of a normal variable within which 95 % of it lie.
_Z = 1.959964


def notes(run: RunData) -> list[str]:
    """What is missing or not of one piece in a run, a sentence each."""
    found, trained, planned = [], len(run.history), run.config.get("epochs")
    if planned and trained < planned:
        found.append(
            f"The training is not finished: {trained} of {planned} epochs. "
            "The same command continues it."
        )
    metrics, export = run.metrics, run.export
    if not metrics:
        found.append("The network has not been evaluated yet.")
    elif metrics.trained_epochs < trained:
        found.append(
            f"It was last evaluated after epoch {metrics.trained_epochs}; {trained} are trained."
        )
    if not export:
        found.append("Nothing has been exported yet.")
    elif metrics and None not in (export.epoch, metrics.epoch) and export.epoch != metrics.epoch:
        found.append(
            f"The exported files have the weights of epoch {export.epoch}, the figures are those "
            f"of epoch {metrics.epoch}."
        )
    kept_back = run.failed or (export.kept_back if export else {})
    found += [f"Kept back by the export: {path} ({why})." for path, why in kept_back.items()]
    return found + [f"Warning: {line}." for line in (export.warnings if export else ())]


class _Figure(NamedTuple):
    """A headline figure: what it is of this run, and what it is of any run."""

    value: str
    detail: str | None = None
    meaning: str | None = None


def headline(runs: Sequence[RunData]) -> Markup:
    """The figures that one asks for first."""
    columns = [_headline(run) for run in runs]
    if len(runs) == 1:
        return element(
            "dl", (_card(name, figure) for name, figure in columns[0].items()), class_="headline"
        )
    rows = {
        name: [
            " · ".join(filter(None, column[name][:2])) if name in column else "-"
            for column in columns
        ]
        for name in row_names(columns)
    }
    return comparison_table(runs, rows)


def _card(name: str, figure: _Figure) -> Markup:
    small = figure.detail or figure.meaning
    value = element("dd", figure.value, element("small", small) if small else None)
    return element("div", element("dt", name), value)


def _headline(run: RunData) -> dict[str, _Figure]:
    found = {}
    if test := run.test:
        low, high = wilson_interval(test.accuracy, test.images)
        between = f"95% interval {low:.1%} to {high:.1%}"
        found["Test accuracy"] = _Figure(f"{test.accuracy:.2%}", between)
        found["Macro F1"] = _Figure(f"{test.macro_f1:.3f}", meaning="mean of the classes")
        found["Balanced accuracy"] = _Figure(
            f"{test.balanced_accuracy:.2%}", meaning="mean recall of the classes"
        )
        found["Test loss"] = _Figure(f"{test.loss:.4f}", meaning="cross-entropy, nats")
        if test.ece is not None:
            meaning = "expected, on the test images"
            found["Calibration error"] = _Figure(f"{test.ece:.2%}", meaning=meaning)
    elif run.history:
        best = max(run.history, key=lambda row: row.val_accuracy)
        newest = f"{run.history[-1].val_accuracy:.2%}"
        found["Validation accuracy"] = _Figure(newest, meaning="newest epoch")
        found["Best so far"] = _Figure(f"{best.val_accuracy:.2%}", f"epoch {best.epoch}")
    found["Parameters"] = _Figure(f"{run.parameters:,}", f"network “{_network(run)}”")
    if run.history:
        seconds = [row.seconds for row in run.history if row.seconds is not None]
        planned = run.config.get("epochs")
        of = f" of {planned}" if planned and planned > len(run.history) else ""
        took = f"{_duration(sum(seconds))} of training" if seconds else None
        found["Epochs"] = _Figure(f"{len(run.history)}{of}", took)
    if run.export and run.export.artifacts:
        smallest = min(run.export.artifacts, key=lambda artifact: artifact.size)
        found["Smallest file"] = _Figure(megabytes(smallest.size), smallest.path)
    return found


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was measured on ``count`` images (Wilson, 1927)."""
    spread = _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return centre - half, centre + half


def training_facts(runs: Sequence[RunData]) -> Markup:
    """What was trained on what: data, network, recipe, machine."""
    columns = [_facts(run) for run in runs]
    rows = {name: [column.get(name, "-") for column in columns] for name in row_names(columns)}
    return comparison_table(runs, rows)


def _facts(run: RunData) -> dict[str, str]:
    config, metrics = run_record.with_defaults(run.config), run.metrics
    recipe = {
        "Optimizer": ("optimizer", "{}"),
        "Learning rate": ("learning_rate", "{:g}"),
        "Schedule": ("schedule", "{}"),
        "Batch size": ("batch_size", "{}"),
        "Augmentation": ("augment", "{}"),
        "Label smoothing": ("label_smoothing", "{:g}"),
        "Teachers": ("teacher", "{}"),
        "Started from": ("init_weights", "{}"),
        "Precision": ("precision", "{}"),
        "Seed": ("seed", "{}"),
    }
    found = {
        "Data": Path(config["data"]).name,
        "Classes": classes_lib.listed(run.classes),
        "Network": f"{_network(run)}, {run.parameters:,} parameters",
        "Recipe": config.get("recipe", "notebook"),
    }
    for name, (key, form) in recipe.items():
        if config.get(key) not in (None, ""):
            found[name] = form.format(config[key])
    if config["ema"]:
        found["Moving average of the weights"] = f"momentum {config['ema']}"
    if config["class_weight"] != "none":
        found["Class weights"] = config["class_weight"]
    if config.get("ferplus"):
        found["Labels"] = f"FER+, {config['ferplus_labels']}"
    speeds = [row.images_per_second for row in run.history if row.images_per_second is not None]
    if speeds:
        found["Speed"] = f"{statistics.median(speeds):,.0f} images/s (median of the epochs)"
    if metrics:
        steered = "the test images" if metrics.selected_on == "test" else "images of their own"
        found["Validated on"] = steered
        found["Weights"] = f"{metrics.checkpoint} checkpoint" + (
            f", epoch {metrics.epoch}" if metrics.epoch is not None else ""
        )
        if temperature := metrics.temperature:
            found["Temperature"] = (
                f"{temperature.value:.3f}, fitted on {temperature.fitted_on}; calibration error "
                f"{temperature.ece_before:.2%} before, {temperature.ece_after:.2%} after"
            )
    versions = config["versions"]
    found["Software"] = ", ".join(f"{name} {version}" for name, version in versions.items()) or "-"
    return found


def _network(run: RunData) -> str:
    return run.config.get("model", "notebook")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
