"""Checks that stop a training that has diverged."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from fer_pipeline.errors import UserError
from fer_pipeline.training import checkpoints, steps

#: Updates that loss scaling may skip in a row. Each one halves the scale, which starts at 2^15 in
#: Keras: after 20 it is far below 1, where scaling no longer helps float16.
_MAX_SKIPS = 20


class TrainingPosition(NamedTuple):
    """The position of a training, for an error message.

    Attributes:
      epoch: counted from one.
      step: steps done in that epoch.
      learning_rate: in use.
      run: the run directory, whose newest checkpoint is the last good one; None keeps nothing.
    """

    epoch: int
    step: int
    learning_rate: float
    run: Path | None


def check(
    step_metrics: np.ndarray,
    position: TrainingPosition,
    *,
    scale: float | None,
    consecutive_overflows: int,
) -> int:
    """Checks the metrics of some steps.

    Args:
      step_metrics: float ``[S, 4]``, see ``steps``.
      position: before the first of these steps.
      scale: the loss scale after the last; None without loss scaling.
      consecutive_overflows: updates skipped in a row just before the first.

    Returns:
      Updates skipped in a row at the end.

    Raises:
      UserError: without loss scaling, at the first loss that is NaN or infinite; with it, where 20
        updates in a row overflow or the scale falls below 1.
    """
    overflowed = position
    for step, row in enumerate(step_metrics, position.step + 1):
        position = position._replace(step=step)
        if row[steps.OVERFLOWS]:
            overflowed = position
        consecutive_overflows = consecutive_overflows + 1 if row[steps.OVERFLOWS] else 0
        if consecutive_overflows >= _MAX_SKIPS:
            stop(position, f"{consecutive_overflows} updates in a row overflowed in float16")
        if not row[steps.OVERFLOWS] and not np.isfinite(row[steps.LOSS]):
            stop(position, f"the loss is {row[steps.LOSS]:g}")
    if scale is not None and scale < 1:
        stop(overflowed, f"the loss scale has fallen to {scale:g}")
    return consecutive_overflows


def stop(position: TrainingPosition, problem: str) -> NoReturn:
    """Raises a UserError with the problem and the position."""
    checkpoint = checkpoints.latest(position.run) if position.run else None
    raise UserError(
        f"epoch {position.epoch}, step {position.step}: {problem} at learning rate "
        f"{position.learning_rate:g}; the last good checkpoint is {checkpoint or 'none'}; "
        "start anew with a lower --learning_rate"
    )
