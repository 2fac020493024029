"""What a report is about: a run's files, read and checked. Every part but the first may be missing.

Everything is converted here, so that a damaged file is named and drawing can rely on what it gets.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import mistakes
from fer_pipeline.evaluation.mistakes import Mistakes
from fer_pipeline.models import networks
from fer_pipeline.run_record import classes_of

T = TypeVar("T")

#: The splits in the order in which they are shown.
SPLITS = ("train", "validation", "test")

#: What is known of an epoch without its row of ``timing.csv``.
_UNTIMED = {"seconds": None, "images_per_second": None}

#: What parsing and converting a file of something else raises.
_DAMAGES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_MANIFEST, _FAILED_REPORT = "manifest.json", "report.json"


class Epoch(NamedTuple):
    """A row of ``history.csv`` with its row of ``timing.csv``; seconds are None without one."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float | None
    images_per_second: float | None


class ClassFigures(NamedTuple):
    """Precision, recall and F1 of a class, 0..1, and its number of images."""

    precision: float
    recall: float
    f1: float
    support: int


class Bin(NamedTuple):
    """Predictions whose probability is above ``low`` and at most ``high``; mean and hits of them.

    ``confidence`` and ``accuracy`` mean nothing where ``count`` is 0.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class Measured(NamedTuple):
    """A split's part of ``metrics.json``; ``confusion`` has true classes as rows."""

    images: int
    accuracy: float
    loss: float
    macro_f1: float
    balanced_accuracy: float
    per_class: dict[str, ClassFigures]
    confusion: list[list[int]]
    ece: float | None
    bins: list[Bin]


class Temperature(NamedTuple):
    """The temperature that calibrates the network, and the calibration error around it."""

    value: float
    fitted_on: str
    ece_before: float
    ece_after: float


class Metrics(NamedTuple):
    """``metrics.json``: of which weights, on what, and how good."""

    trained_epochs: int
    epoch: int | None
    checkpoint: str
    selected_on: str
    splits: dict[str, Measured]
    temperature: Temperature | None


class Artifact(NamedTuple):
    """A file of the export; what was not measured is None. ``images`` are those of one call."""

    path: str
    what: str
    size: int
    accuracy: float | None
    agreement: float | None
    max_difference: float | None
    p50_ms: float | None
    p90_ms: float | None
    images: int


class Export(NamedTuple):
    """``export/manifest.json``; ``kept_back`` has the reasons by file."""

    epoch: int | None
    images: int
    split: str
    artifacts: list[Artifact]
    kept_back: dict[str, str]
    machine: str
    warnings: list[str]


class RunData(NamedTuple):
    """A run directory as a report shows it.

    Attributes:
      path: the directory.
      label: how it is called among the runs of the report.
      config: ``config.json``.
      parameters: of the network.
      history: a row an epoch, maybe none.
      counts: images of every class by split; empty where they are not known.
      metrics, export, mistakes: None where there is none.
      failed: what the newest export that missed its gates says, by file; empty without one.
    """

    path: Path
    label: str
    config: dict[str, Any]
    parameters: int
    history: list[Epoch]
    counts: dict[str, list[int]]
    metrics: Metrics | None
    mistakes: Mistakes | None
    export: Export | None
    failed: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return classes_of(self.config)

    @property
    def test(self) -> Measured | None:
        """The figures on the test images."""
        return self.metrics.splits["test"] if self.metrics else None


def read(run: Path, label: str | None = None) -> RunData:
    """Reads a run directory.

    Args:
      run: the directory.
      label: how to call it; None is its name.

    Raises:
      UserError: it is no run, or one of its files is damaged.
    """
    config = run_dir.read_config(run)
    metrics = _read(run / run_dir.METRICS, _numbers_checked, _to_metrics)
    wrong = run / run_dir.CONFIDENTLY_WRONG
    counts = _read(run / run_dir.CLASS_COUNTS, _numbers_checked, _to_counts) or {}
    if not counts and metrics:
        counts = _counts_of(metrics)
    return RunData(
        path=run,
        label=label or run.resolve().name,
        config=config,
        parameters=networks.count_parameters(
            config.get("model", "notebook"), len(classes_of(config))
        ),
        history=_read_history(run),
        counts=counts,
        metrics=metrics,
        mistakes=mistakes.load(wrong, len(classes_of(config)))
        if metrics and wrong.exists()
        else None,
        export=_read(run / run_dir.EXPORT / _MANIFEST, _numbers_checked, _to_export),
        failed=_read(run / run_dir.EXPORT_FAILED / _FAILED_REPORT, _numbers_checked, _to_failures)
        or {},
    )


def _read(path: Path, parse: Callable[[str], Any], convert: Callable[[Any], T]) -> T | None:
    """A file's converted content; None where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); restore it or delete it") from error
    try:
        return convert(parse(text))
    except _DAMAGES as error:
        raise UserError(
            f"{path}: not as this software writes it ({error!r}); restore it or delete it"
        ) from error


def _numbers_checked(text: str) -> Any:
    """The value of a JSON text whose numbers are finite and no larger than sizes of files are."""
    return json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:
        raise ValueError(f"{text[:20]}... is too large")
    return number


def _share(value: Any) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(f"{share:g} is no share of the images")
    return share


def _rows(text: str) -> list[dict[str, float]]:
    rows = csv.DictReader(text.splitlines())
    return [{name: _finite(value) for name, value in row.items()} for row in rows]


def _read_history(run: Path) -> list[Epoch]:
    timing = _read(run / run_dir.TIMING, _rows, _to_timing) or {}

    def convert(rows: list[dict[str, float]]) -> list[Epoch]:
        epochs = [row | {"epoch": int(row["epoch"])} for row in rows]
        return [Epoch(**row, **timing.get(row["epoch"], _UNTIMED)) for row in epochs]

    return _read(run / run_dir.HISTORY, _rows, convert) or []


def _to_timing(rows: list[dict[str, float]]) -> dict[int, dict[str, float]]:
    return {
        int(row["epoch"]): {
            "seconds": row["train_seconds"] + row["validation_seconds"],
            "images_per_second": row["images_per_second"],
        }
        for row in rows
    }


def _to_counts(value: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name: [int(n) for n in value[name]] for name in SPLITS if name in value}


def _counts_of(metrics: Metrics) -> dict[str, list[int]]:
    """The images of every class by what each split was measured on."""
    shown = [s for s in SPLITS if s != "validation" or metrics.selected_on == "validation"]
    return {
        name: [row.support for row in metrics.splits[name].per_class.values()] for name in shown
    }


def _to_metrics(value: dict[str, Any]) -> Metrics:
    temperature = value.get("temperature")
    return Metrics(
        trained_epochs=int(value["epochs"]),
        epoch=_or_none(int, value.get("epoch")),
        checkpoint=str(value["checkpoint"]),
        selected_on=str(value["model_selected_on"]),
        splits={name: _to_measured(value[name]) for name in SPLITS},
        temperature=Temperature(
            float(temperature["value"]),
            str(temperature["fitted_on"]),
            float(temperature["ece_before"]),
            float(temperature["ece_after"]),
        )
        if temperature
        else None,
    )


def _to_measured(value: dict[str, Any]) -> Measured:
    calibration = value.get("calibration") or {}
    bins = [
        Bin(
            float(part["low"]),
            float(part["high"]),
            int(part["count"]),
            float(part["confidence"] or 0),
            float(part["accuracy"] or 0),
        )
        for part in calibration.get("bins", ())
    ]
    per_class = {
        name: ClassFigures(
            float(row["precision"]), float(row["recall"]), float(row["f1"]), int(row["support"])
        )
        for name, row in value["per_class"].items()
    }
    confusion = [[int(n) for n in row] for row in value["confusion"]]
    if {len(per_class)} != {len(confusion), *map(len, confusion)}:
        raise ValueError("the confusion matrix has another size than the list of classes")
    return Measured(
        int(value["images"]),
        _share(value["accuracy"]),
        float(value["loss"]),
        float(value["macro_f1"]),
        # Earlier versions of this software did not write it down.
        statistics.fmean([row.recall for row in per_class.values() if row.support] or [0.0]),
        per_class,
        confusion,
        _or_none(float, calibration.get("ece")),
        bins,
    )


def _to_export(value: dict[str, Any]) -> Export:
    evaluation, machine = value["evaluation"], value.get("machine") or {}
    cores = machine.get("cores")
    return Export(
        epoch=_or_none(int, value["weights"]["epoch"]),
        images=int(evaluation["images"]),
        split=str(evaluation["split"]),
        artifacts=[_to_artifact(entry) for entry in value["artifacts"].values()],
        kept_back={
            str(entry["path"]): ", ".join(entry["failures"])
            for entry in value.get("kept_back", {}).values()
        },
        machine=f"{machine.get('processor', 'not known')}" + (f", {cores} cores" if cores else ""),
        warnings=[str(line) for line in value.get("warnings", ())],
    )


def _to_artifact(entry: dict[str, Any]) -> Artifact:
    latency = entry.get("latency") or {}
    return Artifact(
        path=str(entry["path"]),
        what=str(entry.get("for", "")),
        size=int(entry["size"]),
        accuracy=_or_none(float, entry.get("accuracy")),
        agreement=_or_none(float, entry.get("agreement")),
        max_difference=_or_none(float, entry.get("max_difference")),
        p50_ms=_or_none(float, latency.get("p50_ms")),
        p90_ms=_or_none(float, latency.get("p90_ms")),
        images=int(latency.get("images", 1)),
    )


def _to_failures(value: list[dict[str, Any]]) -> dict[str, str]:
    return {str(row["path"]): ", ".join(row["failures"]) for row in value if row["failures"]}


def _or_none(kind: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else kind(value)
