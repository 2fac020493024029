"""The figures of a run, drawn without pyplot, so without a display or global state."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from fer_pipeline import atomic_files
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split, Splits, class_counts
from fer_pipeline.evaluation.page import MOST_CLASSES

if TYPE_CHECKING:
    import keras

    from fer_pipeline.training.loop import EpochLog

#: Okabe and Ito's blue and vermilion, which the colour-blind tell apart, and a grey.
_TRAIN, _VALIDATION, _TEST = "#0072b2", "#d55e00", "#7f7f7f"

#: Lines that are told apart without colours, too.
_TRAINED = {"color": _TRAIN, "linestyle": "-"}
_HELD_OUT = {"color": _VALIDATION, "linestyle": "--"}

#: README shows figures about 800 pixels wide.
_DPI = 110


def samples(split: Split, classes: Sequence[str] = CLASS_NAMES, *, columns: int = 9) -> Figure:
    """Draws a row of examples for every class, evenly spaced through the split.

    Of more than 40 classes it draws the first 40.
    """
    classes = classes[:MOST_CLASSES]
    rows = len(classes)
    figure = Figure(figsize=(0.75 * columns + 1.1, 0.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for label, (name, row) in enumerate(zip(classes, axes, strict=True)):
        found = np.flatnonzero(split.labels == label)
        spread = np.linspace(0, len(found) - 1, min(columns, len(found))).astype(int)
        chosen = np.unique(found[spread]) if len(found) else found
        for axis in row:
            axis.axis("off")
        for axis, image in zip(row, split.images[chosen], strict=False):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        row[0].text(
            -0.12,
            0.5,
            name,
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=11,
            parse_math=False,
        )
    return figure


def counts(splits: Splits) -> Figure:
    """Draws the number of images of each class and split, as grouped bars."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis = figure.subplots()
    parts = {"train": (splits.train, _TRAIN)}
    if splits.selected_on == "validation":
        parts["validation"] = (splits.validation, _VALIDATION)
    parts["test"] = (splits.test, _TEST)
    width = 0.8 / len(parts)
    classes = splits.classes
    for i, (name, (split, colour)) in enumerate(parts.items()):
        places = np.arange(len(classes)) + (i - (len(parts) - 1) / 2) * width
        counts = class_counts(split, len(classes))
        bars = axis.bar(places, counts, width, label=name, color=colour)
        if len(classes) > MOST_CLASSES:
            continue
        labels = [f"{count:,}" for count in counts]
        # Three bars of a class, or two of many, have no room for labels side by side.
        upright = len(parts) > 2 or len(classes) > len(CLASS_NAMES)
        axis.bar_label(bars, labels, fontsize=8, rotation=90 if upright else 0, padding=2)
    axis.margins(y=0.16)
    if len(classes) <= MOST_CLASSES:
        turned = {"rotation": 90} if len(classes) > len(CLASS_NAMES) else {}
        axis.set_xticks(range(len(classes)), classes, parse_math=False, **turned)
    else:
        axis.set_xlabel(f"{len(classes):,} classes, in the order of labels.txt")
    axis.set_ylabel("images")
    figure.legend(loc="outside upper right", ncols=len(parts), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def curves(history: Sequence[EpochLog], *, selected_on: str = "validation") -> Figure:
    """Draws loss, accuracy and learning rate of every epoch, each in a panel of its own."""
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row.epoch for row in history]
    held_out = "validation" if selected_on == "validation" else "validation (test images)"
    for axis, what, unit in ((loss, "loss", " (nats)"), (accuracy, "accuracy", "")):
        for prefix, name, style in (("train", "train", _TRAINED), ("val", held_out, _HELD_OUT)):
            values = [getattr(row, f"{prefix}_{what}") for row in history]
            axis.plot(epochs, values, marker="o", markersize=3, label=name, **style)
        axis.set_title(what + unit, fontsize=11, loc="left")
    edges = [epochs[0] - 0.5, *(epoch + 0.5 for epoch in epochs)]
    rates = [row.learning_rate for row in history]
    rate.stairs(rates, edges, baseline=None, color="0.35", linewidth=1.5)
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    rate.set_title("learning rate", fontsize=11, loc="center")
    for axis in (loss, accuracy, rate):
        axis.set_xlim(edges[0], edges[-1])
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def confusion_matrix(
    confusion: np.ndarray, classes: Sequence[str] = CLASS_NAMES, *, title: str
) -> Figure:
    """Draws counts int ``[C, C]``, shaded by the share of the true class, which is the row.

    The counts of more than 20 classes, and the names of more than 40, are left out.
    """
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    larger = max(1.0, min(len(classes), 2 * len(CLASS_NAMES)) / len(CLASS_NAMES))
    figure = Figure(figsize=(6.6 * larger, 5.8 * larger), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*confusion.shape) if len(classes) <= MOST_CLASSES // 2 else ():
        axis.text(
            j,
            i,
            f"{confusion[i, j]:,}\n{share[i, j]:.0%}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if share[i, j] > 0.62 else "black",
        )
    if len(classes) <= MOST_CLASSES:
        turned = {"rotation": 30 if len(classes) <= len(CLASS_NAMES) else 90, "ha": "right"}
        axis.set_xticks(range(len(classes)), classes, parse_math=False, **turned)
        axis.set_yticks(range(len(classes)), classes, parse_math=False)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
    return figure


def architecture(model: keras.Model) -> Figure:
    """Draws the network's layers from top to bottom, with output shapes and parameters."""
    rows = [("input", "image", model.input_shape[1:], 0)]
    rows += [
        (type(layer).__name__, layer.name, layer.output.shape[1:], layer.count_params())
        for layer in model.layers
        if type(layer).__name__ != "InputLayer"
    ]
    largest = max(row[3] for row in rows)
    figure = Figure(figsize=(7.5, 0.22 * len(rows) + 0.6), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, 10)
    axis.set_ylim(len(rows) + 0.6, -1.4)
    axis.axis("off")
    text = {"va": "center", "fontsize": 8}
    for x, title in ((0.3, "layer"), (5.2, "output"), (7.6, "parameters")):
        axis.text(x, -0.8, title, fontweight="bold", **text)
    places = range(len(rows))
    axis.barh(places, 9.6, 0.76, left=0.2, color=[_shade(kind) for kind, *_ in rows])
    # Each layer's share of the parameters.
    axis.barh(places, [row[3] / largest for row in rows], 0.4, left=8.7, color=_TRAIN)
    for i, (kind, name, shape, parameters) in enumerate(rows):
        axis.text(0.35, i, kind, **text)
        axis.text(2.4, i, name, color="0.35", **text)
        axis.text(5.2, i, " x ".join(str(size) for size in shape), **text)
        axis.text(8.5, i, f"{parameters:,}" if parameters else "", ha="right", **text)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)
    axis.text(
        9.75,
        len(rows) + 0.1,
        f"{model.count_params():,} parameters, {trainable:,} trainable",
        ha="right",
        fontweight="bold",
        **text,
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with atomic_files.atomic_write(path) as temporary, warnings.catch_warnings():
        # A class may be named in a script that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format="png", dpi=_DPI)


def _shade(kind: str) -> str:
    if kind in ("Conv2D", "Dense"):
        return "#dbe9f6"
    return "#eef3ea" if kind == "BatchNormalization" else "#f5f5f5"
