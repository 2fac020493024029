"""The report's parts that are text and tables: what was trained, how good, what was made."""

from __future__ import annotations

import json
import math
import os
import statistics
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fer_pipeline import run_dir, run_record
from fer_pipeline.evaluation import reproduction
from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_data import Artifact, Measured, RunData

#: Standard deviations of a normal variable within which 95 % of it lie.
_Z = 1.959964


def per_run(runs: Sequence[RunData], draw: Callable[[RunData], Markup | None]) -> Markup | None:
    """What ``draw`` makes of each run, side by side where there are several; None of nothing."""
    found = [(run, content) for run in runs if (content := draw(run)) is not None]
    if not found:
        return None
    if len(runs) == 1:
        return found[0][1]
    blocks = (element("div", element("h3", run.label), content) for run, content in found)
    return element("div", blocks, class_="side")


def comparison_table(runs: Sequence[RunData], rows: dict[str, Sequence[str]]) -> Markup:
    """A row for each name with a value for each run; rows whose values differ are marked."""
    lines = [
        element(
            "tr",
            element("th", name, scope="row"),
            (element("td", value) for value in values),
            class_="differs" if len(set(values)) > 1 else None,
        )
        for name, values in rows.items()
    ]
    head = None
    if len(runs) > 1:
        labels = (element("th", run.label, scope="col") for run in runs)
        head = element("thead", element("tr", element("td", "≠ marks what differs"), labels))
    width = f"--runs:{len(runs)}" if head else None
    table = element("table", head, element("tbody", lines), class_="text", style=width)
    return scroll(table, "Runs side by side") if head else table


def scroll(table: Markup, name: str) -> Markup:
    """A table that is scrolled by itself where the page is narrow, by the keyboard, too."""
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


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
        for name in _names(columns)
    }
    return comparison_table(runs, rows)


def _card(name: str, figure: _Figure) -> Markup:
    small = figure.detail or figure.meaning
    value = element("dd", figure.value, element("small", small) if small else None)
    return element("div", element("dt", name), value)


def _names(columns: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all rows, each once, in the order of the columns."""
    return list(dict.fromkeys(name for column in columns for name in column))


def _headline(run: RunData) -> dict[str, _Figure]:
    found = {}
    if test := run.test:
        low, high = wilson_interval(test.accuracy, test.images)
        between = f"95% interval {low:.1%} to {high:.1%}"
        found["Test accuracy"] = _Figure(f"{test.accuracy:.2%}", between)
        found["Macro F1"] = _Figure(f"{test.macro_f1:.3f}", meaning="mean of the classes")
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
        found["Smallest file"] = _Figure(_megabytes(smallest.size), smallest.path)
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
    rows = {name: [column.get(name, "-") for column in columns] for name in _names(columns)}
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
        "Precision": ("precision", "{}"),
        "Seed": ("seed", "{}"),
    }
    found = {
        "Data": Path(config["data"]).name,
        "Network": f"{_network(run)}, {run.parameters:,} parameters",
        "Recipe": config.get("recipe", "notebook"),
    }
    for name, (key, form) in recipe.items():
        if config.get(key) not in (None, ""):
            found[name] = form.format(config[key])
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


def class_counts(run: RunData) -> Markup | None:
    """Images of every class and split; bars show the training images."""
    if not run.counts:
        return None
    splits = list(run.counts)
    most = max(1, *run.counts[splits[0]])
    head = [element("td", "class"), *(element("th", split, scope="col") for split in splits)]
    body = []
    for i, name in enumerate(run.classes):
        cells = [element("td", f"{run.counts[split][i]:,}") for split in splits]
        share = run.counts[splits[0]][i] / most
        bar = element("span", element("i"), class_="meter", style=f"--s:{share:.3f}")
        cells[0] = element("td", f"{run.counts[splits[0]][i]:,}", bar)
        body.append(element("tr", element("th", name, scope="row"), cells))
    totals = (element("td", f"{sum(run.counts[split]):,}") for split in splits)
    return element(
        "table",
        element("caption", "Images by class and split"),
        element("thead", element("tr", head)),
        element("tbody", body),
        element("tfoot", element("tr", element("th", "all", scope="row"), totals)),
        class_="counts",
    )


def per_class(run: RunData) -> Markup | None:
    """Precision, recall, F1 and support of every class on the test images."""
    test = run.test
    if not test:
        return None
    names = ("precision", "recall", "F1", "images")
    head = [element("td", "class"), *(element("th", name, scope="col") for name in names)]
    body = []
    for name, row in test.per_class.items():
        bar = element("span", element("i"), class_="meter", style=f"--s:{row.f1:.3f}")
        cells = [
            element("td", f"{row.precision:.3f}"),
            element("td", f"{row.recall:.3f}"),
            element("td", f"{row.f1:.3f}", bar),
            element("td", f"{row.support:,}"),
        ]
        body.append(element("tr", element("th", name, scope="row"), cells))
    return element(
        "table",
        element("caption", f"On {test.images:,} test images"),
        element("thead", element("tr", head)),
        element("tbody", body),
        element("tfoot", element("tr", _means(test))),
        class_="per-class",
    )


def _means(test: Measured) -> list[Markup]:
    rows = list(test.per_class.values())
    means = [statistics.fmean(getattr(row, key) for row in rows) for key in ("precision", "recall")]
    cells = [*means, test.macro_f1]
    return [
        element("th", "mean", scope="row"),
        *(element("td", f"{value:.3f}") for value in cells),
        element("td", f"{test.images:,}"),
    ]


def files(run: RunData, *, folder: Path) -> Markup | None:
    """The exported files with their figures, and links from ``folder``, where the report lies."""
    export = run.export
    if not export:
        return None
    several = any(artifact.images > 1 for artifact in export.artifacts)
    latency = "latency, p50 / p90" + (" of a call" if several else "")
    names = ("size", "accuracy", "agreement", "largest difference", latency)
    head = [element("td", "file"), *(element("th", name, scope="col") for name in names)]
    body = [
        element(
            "tr",
            element(
                "th",
                _link(run, artifact, folder),
                element("br"),
                element("small", artifact.what),
                scope="row",
            ),
            (element("td", cell) for cell in _figures(artifact)),
        )
        for artifact in export.artifacts
    ]
    table = element(
        "table", element("thead", element("tr", head)), element("tbody", body), class_="files"
    )
    text = (
        f"Measured on {export.images:,} {export.split} images, each file in its own runtime; "
        "agreement and difference are with the float32 network. "
        f"Latency on {export.machine}; LiteRT on one thread."
    )
    return join(element("p", text, class_="soft"), scroll(table, f"Exported files of {run.label}"))


def _figures(artifact: Artifact) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    per_call = f" / {artifact.images} images" if artifact.images > 1 else ""
    latency = (
        f"{shown(artifact.p50_ms, '{:.2f}')} / {shown(artifact.p90_ms, '{:.2f}')} ms{per_call}"
    )
    return [
        _megabytes(artifact.size),
        shown(artifact.accuracy, "{:.2%}"),
        shown(artifact.agreement, "{:.2%}"),
        shown(artifact.max_difference, "{:.1e}"),
        "-" if artifact.p50_ms is None else latency,
    ]


def _link(run: RunData, artifact: Artifact, folder: Path) -> Markup | str:
    """A relative link; plain text where the file is not there or outside of the export."""
    export = run.path / run_dir.EXPORT
    target = export / artifact.path
    if not target.exists() or not target.resolve().is_relative_to(export.resolve()):
        return artifact.path
    relative = Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
    slash = "/" if target.is_dir() else ""
    return element("a", artifact.path, href=urllib.parse.quote(relative) + slash)


def configuration(runs: Sequence[RunData]) -> Markup:
    """All of ``config.json``."""
    rows = {
        name: [_as_text(run.config[name]) if name in run.config else "-" for run in runs]
        for name in _names([run.config for run in runs])
    }
    return comparison_table(runs, rows)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def reproduce(run: RunData) -> Markup:
    """The commands that train the run again, and check what it left."""
    parts = [
        element("p", "Train it again, in a run directory of its own:"),
        element("pre", element("code", reproduction.training_command(run.path, run.config))),
    ]
    if run.export:
        parts += [
            element("p", "Check the exported files against their hashes and golden faces:"),
            element("pre", element("code", reproduction.verify_command(run.path))),
        ]
    return join(*parts)


def _network(run: RunData) -> str:
    return run.config.get("model", "notebook")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
