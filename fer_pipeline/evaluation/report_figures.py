"""The report's figures: curves, confusion matrix, reliability diagram, and faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fer_pipeline.evaluation import page
from fer_pipeline.evaluation import report_charts as charts
from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_data import Epoch, RunData
from fer_pipeline.evaluation.report_tables import per_run, scroll

#: Shares of a row from which a cell of the confusion matrix is so dark that its text changes.
_MID, _HIGH = 0.52, 0.72

#: Classes of the largest confusion matrix that is shown, and rows of what is shown in its place.
_MOST_CLASSES = 40


def curves(runs: Sequence[RunData]) -> Markup | None:
    """Loss, accuracy and learning rate by epoch: of one run, or the validation of several."""
    runs = [run for run in runs if run.history]
    if not runs:
        return None
    held_out = "validation"
    if len(runs) == 1:
        lines = {"training": (0, runs[0], "train"), held_out: (1, runs[0], "val")}
    else:
        lines = {run.label: (i % charts.STYLES, run, "val") for i, run in enumerate(runs)}
    figures = [
        _figure(
            name,
            unit,
            [
                charts.Series(label, style, _points(run, f"{prefix}_{field}"))
                for label, (style, run, prefix) in lines.items()
            ],
            show,
        )
        for name, unit, field, show in (
            ("Loss", "cross-entropy, nats", "loss", "{:.3f}".format),
            ("Accuracy", "share of the images", "accuracy", "{:.1%}".format),
        )
    ]
    rates = [
        charts.Series(
            "learning rate" if len(runs) == 1 else run.label,
            i % charts.STYLES,
            _points(run, "learning_rate"),
        )
        for i, run in enumerate(runs)
    ]
    figures.append(
        _figure("Learning rate", "at the end of the epoch", rates, "{:.3g}".format, steps=True)
    )
    legend = element("ul", (_key(label, line[0]) for label, line in lines.items()), class_="legend")
    several = len(runs) > 1
    return join(
        element("p", "On the validation images.", class_="soft") if several else None,
        legend,
        element("div", figures, class_="side"),
        per_run(runs, _epochs_table),
    )


def _figure(
    name: str,
    unit: str,
    series: Sequence[charts.Series],
    show: Callable[[float], str],
    *,
    steps: bool = False,
) -> Markup:
    newest = "; ".join(f"{line.name} {show(line.points[-1][1])}" for line in series if line.points)
    chart = charts.line_chart(
        f"{name} by epoch. At the last one: {newest}.", series, show=show, steps=steps
    )
    caption = element("figcaption", element("b", name), f", {unit}")
    return element("figure", caption, chart, class_=f"figure-{name.lower().replace(' ', '-')}")


def _points(run: RunData, field: str) -> list[tuple[float, float]]:
    return [(row.epoch, getattr(row, field)) for row in run.history]


def _key(label: str, style: int) -> Markup:
    line = element("g", element("path", d="M0 6L35 6"), class_=f"line style-{style}")
    return element("li", element("svg", line, viewBox="0 0 35 12", aria_hidden="true"), label)


def _epochs_table(run: RunData) -> Markup:
    """Every epoch in figures, folded."""
    names = (
        "epoch",
        "learning rate",
        "training loss",
        "validation loss",
        "training accuracy",
        "validation accuracy",
        "seconds",
        "images/s",
    )
    head = element("thead", element("tr", (element("th", name, scope="col") for name in names)))
    rows = (element("tr", (element("td", cell) for cell in _cells(row))) for row in run.history)
    table = element("table", head, element("tbody", rows))
    name = f"Every epoch of {run.label}"
    return element("details", element("summary", "Every epoch in figures"), scroll(table, name))


def _cells(row: Epoch) -> list[str]:
    return [
        str(row.epoch),
        f"{row.learning_rate:.3g}",
        f"{row.train_loss:.4f}",
        f"{row.val_loss:.4f}",
        f"{row.train_accuracy:.2%}",
        f"{row.val_accuracy:.2%}",
        "-" if row.seconds is None else f"{row.seconds:,.1f}",
        "-" if row.images_per_second is None else f"{row.images_per_second:,.0f}",
    ]


def confusion_matrix(run: RunData) -> Markup | None:
    """Counts and shares of the true class; a table, so that it is read without eyes, too."""
    test = run.test
    if not test:
        return None
    names = run.classes
    if len(names) > _MOST_CLASSES:
        return _confusions(test.confusion, names)
    head = [element("td"), *(element("th", name, scope="col") for name in names)]
    rows = []
    for i, (name, counts) in enumerate(zip(names, test.confusion, strict=True)):
        total = sum(counts)
        cells = [
            _cell(name, other, count, total, right=i == j)
            for j, (other, count) in enumerate(zip(names, counts, strict=True))
        ]
        rows.append(element("tr", element("th", name, scope="row"), cells))
    table = element(
        "table",
        element("caption", "Rows: what the face is. Columns: what the network says."),
        element("thead", element("tr", head)),
        element("tbody", rows),
        class_="matrix",
    )
    return element("figure", table, class_="figure-confusion")


def _confusions(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """The most frequent confusions of so many classes that no page has room for the matrix."""
    pairs = [
        (count, i, j)
        for i, counts in enumerate(confusion)
        for j, count in enumerate(counts)
        if count and i != j
    ]
    head = ("the face is", "the network says", "images", "of the class")
    rows = [
        (names[i], names[j], f"{count:,}", f"{count / sum(confusion[i]):.1%}")
        for count, i, j in sorted(pairs, key=lambda pair: -pair[0])[:_MOST_CLASSES]
    ]
    table = element(
        "table",
        element("caption", "The most frequent confusions."),
        element("thead", element("tr", (element("th", cell, scope="col") for cell in head))),
        element("tbody", (element("tr", (element("td", cell) for cell in row)) for row in rows)),
        class_="text",
    )
    return element("figure", table, class_="figure-confusion")


def _cell(name: str, other: str, count: int, total: int, *, right: bool) -> Markup:
    share = count / total if total else 0.0
    shade = "high" if share >= _HIGH else "mid" if share >= _MID else None
    return element(
        "td",
        f"{count:,}",
        element("small", f"{share:.0%}"),
        class_=" ".join(filter(None, [shade, "right" if right else None])) or None,
        style=f"--s:{share:.3f}",
        title=f"{count:,} of {total:,} faces of “{name}” are called “{other}”: {share:.1%}",
    )


def reliability(run: RunData) -> Markup | None:
    """How far the network's probabilities are to be believed, on the test images."""
    test = run.test
    if not test or not test.bins:
        return None
    error = f", expected calibration error {test.ece:.2%}" if test.ece is not None else ""
    chart = charts.reliability_chart(
        f"Reliability diagram of {test.images:,} test images{error}.", test.bins
    )
    caption = element(
        "figcaption", element("b", "Reliability"), f" of {test.images:,} test images{error}"
    )
    text = "Bars: how often names of that confidence are right. Outlines: how far that is from it."
    return element(
        "figure", caption, chart, element("p", text, class_="soft"), class_="figure-reliability"
    )


def wrong_faces(run: RunData) -> Markup | None:
    """The faces that the network is wrong about and most certain of."""
    found = run.mistakes
    if found is None:
        return None
    if not len(found.labels):
        return element("p", "The network names every test face correctly.", class_="soft")
    names = run.classes
    items = []
    for image, label, row, place in zip(
        found.images, found.labels, found.probabilities, found.positions, strict=True
    ):
        true, said = names[label], names[int(row.argmax())]
        text = f"A face labelled {true} that the network calls {said}, with {row.max():.1%}"
        picture = element("img", src=page.picture(image), alt=text, width=48, height=48)
        lines = element(
            "p",
            element("b", f"{said} {row.max():.1%}"),
            element("br"),
            f"is {true}, {row[label]:.1%}",
        )
        items.append(element("li", picture, lines, title=f"test image {place}"))
    lead = "The network is most certain of these wrong names: what it says, and what the label is."
    return join(element("p", lead, class_="soft"), element("ul", items, class_="faces"))
