"""The report's tables: images, classes, files, configuration, and runs side by side."""

from __future__ import annotations

import json
import os
import statistics
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import run_dir
from fer_pipeline.evaluation import reproduction
from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_data import Artifact, Measured, RunData


def per_run(
    runs: Sequence[RunData], draw: Callable[[RunData], Markup | None], *, wide: bool = False
) -> Markup | None:
    """What ``draw`` makes of each run; None where it makes nothing of any.

    Several are side by side, or one below the other if they are ``wide``.
    """
    found = [(run, content) for run in runs if (content := draw(run)) is not None]
    if not found:
        return None
    if len(runs) == 1:
        return found[0][1]
    blocks = (element("div", element("h3", run.label), content) for run, content in found)
    return element("div", blocks, class_=None if wide else "side")


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


def row_names(columns: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all rows, each once, in the order of the columns."""
    return list(dict.fromkeys(name for column in columns for name in column))


def scroll(table: Markup, name: str) -> Markup:
    """A table that is scrolled by itself where the page is narrow, by the keyboard, too."""
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


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
        megabytes(artifact.size),
        shown(artifact.accuracy, "{:.2%}"),
        shown(artifact.agreement, "{:.2%}"),
        shown(artifact.max_difference, "{:.1e}"),
        "-" if artifact.p50_ms is None else latency,
    ]


def _link(run: RunData, artifact: Artifact, folder: Path) -> Markup | str:
    """A relative link; plain text where the file is not there or outside of the export."""
    export = run.path / run_dir.EXPORT
    target = export / artifact.path
    # A name that no file can have is an error for pathlib.
    if not os.path.exists(target) or not target.resolve().is_relative_to(export.resolve()):
        return artifact.path
    relative = os.path.relpath(target.resolve(), folder.resolve())
    slash = "/" if target.is_dir() else ""
    return element("a", artifact.path, href=urllib.parse.quote(os.fsencode(relative)) + slash)


def configuration(runs: Sequence[RunData]) -> Markup:
    """All of ``config.json``."""
    rows = {
        name: [_as_text(run.config[name]) if name in run.config else "-" for run in runs]
        for name in row_names([run.config for run in runs])
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


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
