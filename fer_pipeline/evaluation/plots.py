"""The figures of a run, drawn without pyplot, so without a display or global state."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from fer_pipeline import atomic_files
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split, Splits, class_counts

if TYPE_CHECKING:
    import keras

    from fer_pipeline.training.loop import EpochLog

_TRAIN, _VALIDATION, _TEST = "#1f77b4", "#d95f02", "#7f7f7f"
_DPI = 110


def samples(split: Split, *, columns: int = 9) -> Figure:
    """Draws a row of examples for every class, evenly spaced through the split."""
    rows = len(CLASS_NAMES)
    figure = Figure(figsize=(0.75 * columns + 1.1, 0.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for label, (name, row) in enumerate(zip(CLASS_NAMES, axes, strict=True)):
        found = np.flatnonzero(split.labels == label)
        spread = np.linspace(0, len(found) - 1, min(columns, len(found))).astype(int)
        chosen = np.unique(found[spread]) if len(found) else found
        for axis in row:
            axis.axis("off")
        for axis, image in zip(row, split.images[chosen], strict=False):
            axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        row[0].text(
            -0.12, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=11
        )
    return figure


def counts(splits: Splits) -> Figure:
    """Draws the number of images of each class and split, as grouped bars."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    parts = {"train": (splits.train, _TRAIN)}
    if splits.selected_on == "validation":
        parts["validation"] = (splits.validation, _VALIDATION)
    parts["test"] = (splits.test, _TEST)
    width = 0.8 / len(parts)
    for i, (name, (split, colour)) in enumerate(parts.items()):
        places = np.arange(len(CLASS_NAMES)) + (i - (len(parts) - 1) / 2) * width
        bars = axis.bar(places, class_counts(split), width, label=name, color=colour)
        axis.bar_label(bars, fontsize=6)
    axis.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axis.set_ylabel("images")
    figure.legend(loc="outside upper right", ncols=len(parts), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def curves(history: Sequence[EpochLog], *, selected_on: str = "validation") -> Figure:
    """Draws loss and accuracy of every epoch; dotted lines mark a lower learning rate."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row.epoch for row in history]
    held_out = "validation" if selected_on == "validation" else "validation (test images)"
    for axis, what, unit in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), (" (nats)", ""), strict=True
    ):
        for prefix, name, colour in (("train", "train", _TRAIN), ("val", held_out, _VALIDATION)):
            values = [getattr(row, f"{prefix}_{what}") for row in history]
            axis.plot(epochs, values, marker="o", markersize=3, color=colour, label=name)
        for before, after in itertools.pairwise(history):
            if after.learning_rate < before.learning_rate:
                axis.axvline(after.epoch - 0.5, color="0.6", linestyle=":", linewidth=1)
                axis.annotate(
                    f"lr {after.learning_rate:.0e}",
                    (after.epoch - 0.45, 0.98),
                    xycoords=("data", "axes fraction"),
                    va="top",
                    fontsize=7,
                    color="0.4",
                )
        axis.set_xlabel("epoch")
        axis.set_ylabel(what + unit)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
    figure.axes[0].legend(frameon=False)
    return figure


def confusion_matrix(confusion: np.ndarray, *, title: str) -> Figure:
    """Draws counts int ``[7, 7]``, shaded by the share of the true class, which is the row."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*confusion.shape):
        axis.text(
            j,
            i,
            f"{confusion[i, j]:,}\n{share[i, j]:.0%}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share[i, j] > 0.5 else "black",
        )
    axis.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=30, ha="right")
    axis.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
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
    ]
    largest = max(row[3] for row in rows)
    figure = Figure(figsize=(7.5, 0.3 * len(rows) + 0.7))
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
    with atomic_files.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def _shade(kind: str) -> str:
    if kind in ("Conv2D", "Dense"):
        return "#dbe9f6"
    return "#eef3ea" if kind == "BatchNormalization" else "#f5f5f5"
