"""The reliability diagram: how often a network is right, by how certain it is."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_pipeline.evaluation.calibration import BINS, Calibration

_DIAGONAL, _RIGHT, _OVER, _UNDER = "0.35", "#1f77b4", "#f4b183", "#9ecae1"


def diagram(after: Calibration, before: Calibration | None = None) -> Figure:
    """Draws accuracy by confidence, and below it how many images there are of each confidence.

    The bars are how often the network is right, the dashed line is how often it should be: as often
    as it says. Between bar and line lies the gap.

    Args:
      after: of the network that is delivered.
      before: of the same without its temperature; None where it has none.
    """
    shown = {"with its temperature": after} if before else {"": after}
    if before:
        shown = {"as it was trained": before} | shown
    figure = Figure(figsize=(4.5 * len(shown), 4.6), layout="constrained")
    grid = figure.subplots(
        2, len(shown), squeeze=False, sharex=True, sharey="row", height_ratios=(4, 1)
    )
    for column, (name, calibration) in zip(grid.T, shown.items(), strict=True):
        _draw(*column, calibration)
        title = f"calibration error {calibration.ece:.1%}"
        column[0].set_title(f"{name}: {title}" if name else title, fontsize=10)
        column[1].set_xlabel("probability of the named class")
    grid[0, 0].set_ylabel("share of right answers")
    grid[1, 0].set_ylabel("images")
    grid[0, 0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _draw(upper: Axes, lower: Axes, calibration: Calibration) -> None:
    filled = [row for row in calibration.bins if row.count]
    middles, width = [(row.low + row.high) / 2 for row in filled], 0.9 / BINS
    accuracy = np.array([row.accuracy for row in filled])
    confidence = np.array([row.confidence for row in filled])
    over, under = np.maximum(confidence - accuracy, 0), np.maximum(accuracy - confidence, 0)
    upper.bar(middles, accuracy, width, color=_RIGHT, label="right")
    upper.bar(middles, over, width, accuracy, color=_OVER, label="missing: too sure")
    upper.bar(middles, under, width, confidence, color=_UNDER, label="more than it says")
    upper.plot((0, 1), (0, 1), color=_DIAGONAL, linestyle="--", linewidth=1)
    upper.set_ylim(0, 1)
    lower.bar(middles, [row.count for row in filled], width, color="0.6")
    lower.set_xlim(0, 1)
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
        axis.set_axisbelow(True)
