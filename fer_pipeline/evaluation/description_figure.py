"""``description.png``: images by class and split, and the mean face of every class."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_pipeline.datasets.description import Description

#: Okabe and Ito's blue and vermilion, which the colour-blind tell apart, and a grey.
_COLOURS = ("#0072b2", "#d55e00", "#7f7f7f")


def draw(found: Description) -> Figure:
    """Draws the counts as grouped bars, with the mean faces below the classes."""
    classes, splits = len(found.classes), len(found.splits)
    figure = Figure(figsize=(max(6, 1.3 * classes), 4.6), layout="constrained")
    grid = figure.add_gridspec(2, classes, height_ratios=(3, 1.3))
    axis = figure.add_subplot(grid[0, :])
    width = 0.8 / splits
    for i, (name, counts) in enumerate(zip(found.splits, found.counts, strict=True)):
        at = np.arange(classes) + (i - (splits - 1) / 2) * width
        bars = axis.bar(at, counts, width, label=name, color=_COLOURS[i])
        labels = [f"{count:,}" for count in counts]
        axis.bar_label(bars, labels, fontsize=8, rotation=90 if splits > 2 else 0, padding=2)
    axis.margins(x=0.02, y=0.16)
    axis.set_xlim(-0.5, classes - 0.5)
    axis.set_xticks(range(classes), found.classes)
    axis.set_ylabel("images")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=splits, frameon=False)
    for label, image in enumerate(found.means):
        face = figure.add_subplot(grid[1, label])
        face.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        face.axis("off")
    return figure
