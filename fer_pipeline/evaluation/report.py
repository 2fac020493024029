"""``report.html``: one run, or several side by side, as one file that shows itself.

It refers to nothing outside but the exported files of its runs, by relative links; style, charts
and pictures are inside, and there is no script.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_pipeline import atomic_files, datasets, run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import (
    page,
    report_data,
    report_figures,
    report_summary,
    report_tables,
)
from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_data import RunData

#: By which a report of this software is known from another file.
GENERATOR = "fer_pipeline report"

#: Bytes at the start of a file in which that stands.
_HEAD = 400


def write(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Writes the report of one run or several, whole or not at all.

    Args:
      runs: run directories, at least one.
      output: the file; None is ``report.html`` in the directory of the only run, and in the working
        directory for several.

    Returns:
      The file.

    Raises:
      UserError: one is no run, or is there twice, one of its files is damaged, ``output`` is
        another file or cannot be written.
    """
    if output is None:
        output = runs[0] / run_dir.REPORT if len(runs) == 1 else Path(run_dir.REPORT)
    check_replaceable(output)
    atomic_files.write_text(output, build(runs, folder=output.parent))
    return output


def update(run: Path) -> None:
    """Writes a run's own report; a line says why where it cannot be.

    A report is no reason to stop a training, or to call an export failed. A directory that is no
    run has none.
    """
    if not (run / run_dir.CONFIG).exists():
        return
    try:
        write([run])
    except UserError as error:
        print(f"no report: {error}", flush=True)


def check_replaceable(output: Path) -> None:
    """Checks that a report can take a file's place.

    Raises:
      UserError: it is a directory, or a file that is no report.
    """
    if output.is_dir():
        raise UserError(f"--output={output}: is a directory; name a file in it")
    if not output.exists():
        return
    try:
        with open(output, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UserError(f"--output={output}: cannot be read ({error.strerror})") from error
    if head and GENERATOR.encode() not in head:
        raise UserError(
            f"{output}: is not a report of this software and is kept; name another --output"
        )


def build(runs: Sequence[Path], *, folder: Path) -> str:
    """The report as HTML.

    Args:
      runs: run directories, at least one.
      folder: where the file will lie, for its links.

    Raises:
      UserError: as ``write``.
    """
    resolved = [run.resolve() for run in runs]
    for i, run in enumerate(resolved):
        if run in resolved[:i]:
            raise UserError(f"{runs[i]}: is named twice")
    names = [run.name for run in resolved]
    # Where the last part of two paths is the same, all of them.
    labels = [
        str(run) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)
    ]
    found = [report_data.read(run, label) for run, label in zip(runs, labels, strict=True)]
    title = labels[0] if len(found) == 1 else f"{len(found)} runs side by side"
    sections = list(_sections(found, folder))
    body = element(
        "body",
        element("a", "Skip to the figures", href="#figures", class_="skip"),
        element("header", _heading(found, title), _contents(sections)),
        element("main", _notes(found), *(section for *_, section in sections), id="figures"),
        element("footer", _footer(found), class_="soft"),
    )
    return page.document(title, body, generator=GENERATOR)


def _heading(runs: Sequence[RunData], title: str) -> Markup:
    sources = (run.config["data"] for run in runs)
    data = " and ".join(
        dict.fromkeys(
            "synthetic faces" if source == datasets.SYNTHETIC else Path(source).name
            for source in sources
        )
    )
    expressions = all(run.classes == CLASS_NAMES for run in runs)
    what = "Facial expressions" if expressions else "Classes"
    lead = f"{what} from 48x48 grey faces, trained on {data}."
    return join(element("h1", title), element("p", lead, class_="lead"))


def _contents(sections: Sequence[tuple[str, str, Markup]]) -> Markup:
    links = (element("li", element("a", title, href=f"#{key}")) for key, title, _ in sections)
    return element("nav", element("ul", links), aria_label="Contents")


def _notes(runs: Sequence[RunData]) -> Markup | None:
    several = len(runs) > 1
    lines = [
        f"{run.label}: {note}" if several else note
        for run in runs
        for note in report_summary.notes(run)
    ]
    if several and len({run.config["fingerprint"] for run in runs}) > 1:
        lines.insert(
            0, "The runs have different data, so their figures cannot be compared as such."
        )
    if not lines:
        return None
    items = element("ul", (element("li", line) for line in lines))
    return element("div", items, class_="notes", role="note")


def _sections(runs: Sequence[RunData], folder: Path) -> Iterator[tuple[str, str, Markup]]:
    """Key, title and content of every section that has any."""
    tables, figures = report_tables, report_figures
    files = functools.partial(tables.files, folder=folder)
    parts = {
        "headline": ("Results", report_summary.headline(runs)),
        "training": ("What was trained on what", report_summary.training_facts(runs)),
        "images": ("Images", tables.per_run(runs, tables.class_counts)),
        "curves": ("Curves", figures.curves(runs)),
        "confusion": ("Confusion matrix", tables.per_run(runs, figures.confusion_matrix)),
        "classes": ("Classes", tables.per_run(runs, tables.per_class)),
        "calibration": ("Calibration", tables.per_run(runs, figures.reliability)),
        "wrong": ("Most confidently wrong", tables.per_run(runs, figures.wrong_faces)),
        "files": ("Files", tables.per_run(runs, files, wide=True)),
        "configuration": ("Configuration", tables.configuration(runs)),
        "reproduce": ("Reproduce", tables.per_run(runs, tables.reproduce)),
    }
    for key, (title, content) in parts.items():
        if content is not None:
            heading = element("h2", title, id=f"{key}-title")
            section = element("section", heading, content, id=key, aria_labelledby=f"{key}-title")
            yield key, title, section


def _footer(runs: Sequence[RunData]) -> str:
    version = runs[0].config["versions"].get("fer_pipeline", "")
    return f"Made by fer_pipeline {version} from the files of the run directory.".replace("  ", " ")
