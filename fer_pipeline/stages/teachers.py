"""The teachers of a run: other runs, whose answers its network also learns."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_pipeline import atomic_files, run_dir
from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES, NUM_CLASSES
from fer_pipeline.devices import precision
from fer_pipeline.errors import UserError
from fer_pipeline.inference import model_loader, pretrained
from fer_pipeline.run_record import classes_of
from fer_pipeline.training import checkpoints, distillation


def digest(weights: Sequence[np.ndarray]) -> str:
    """What tells a teacher's weights from others: the first 16 digits of their SHA-256."""
    found = hashlib.sha256()
    for array in weights:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def names(teacher: str | None) -> list[str]:
    """What ``--teacher`` lists: run directories, or ``pretrained``.

    They are a row of CSV: a path with a comma stands in double quotes.

    Raises:
      UserError: it lists nothing, or holds a line break.
    """
    text = (teacher or "").strip()
    # In quotes CSV takes one; the record, which quotes commas alone, could not be read again.
    if set("\r\n") & set(text):
        raise UserError("--teacher: holds a line break; name runs by a path without one")
    found = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    found = [name for name in found if name]
    if teacher is not None and not found:
        raise UserError(f"--teacher={teacher}: names no run; name one or leave it out")
    return found


def places(teacher: str | None) -> str | None:
    """``--teacher`` as ``config.json`` has it: the same from every folder."""
    found = names(teacher)
    paths = [name if name == pretrained.NAME else os.path.abspath(name) for name in found]
    return classes_lib.as_text(paths) or None


def check(runs: Sequence[str]) -> None:
    """Raises UserError where one is no run, or has no weights that can be read."""
    for run in runs:
        if run == pretrained.NAME:
            pretrained.weights_path()
            pretrained.network_name()
        else:
            run_dir.read_config(Path(run))
            checkpoints.load_end(Path(run))


def check_classes(runs: Sequence[str], classes: Sequence[str]) -> None:
    """Raises UserError where one has other classes, or the same in another order."""
    for run in runs:
        own = CLASS_NAMES if run == pretrained.NAME else classes_of(run_dir.read_config(Path(run)))
        if problem := classes_lib.unlike(classes, own):
            raise UserError(
                f"--teacher={run}: has {problem}, and the data {classes_lib.listed(classes)}; "
                "leave it out or name one that was trained on these classes"
            )


def digests(runs: Sequence[str]) -> list[str]:
    """``digest`` of the weights of runs.

    Raises:
      UserError: one is no run, or has no checkpoint that can be read.
    """
    return [
        digest(
            model_loader.pretrained_network().get_weights()
            if run == pretrained.NAME
            else checkpoints.load_weights(Path(run))
        )
        for run in runs
    ]


def targets_of_runs(
    runs: Sequence[str],
    images: np.ndarray,
    *,
    temperature: float,
    path: Path | None = None,
    num_classes: int = NUM_CLASSES,
) -> np.ndarray | None:
    """``distillation.teacher_targets`` of the last epochs of runs; None where there are no runs.

    Args:
      runs: run directories.
      images: uint8 ``[N, 48, 48, 1]``.
      temperature: see ``distillation``.
      path: where they are kept; a file of earlier is used.
      num_classes: that the teachers have.

    Raises:
      UserError: as ``inference.model_loader.reference_model``.
    """
    if not runs:
        return None
    kept = read_targets(path, len(images), num_classes) if path else None
    if kept is not None:
        return kept
    teachers = [
        model_loader.pretrained_network()
        if run == pretrained.NAME
        else model_loader.reference_model(Path(run), "last", as_trained=True)
        for run in runs
    ]
    with precision.true_float32():
        targets = distillation.teacher_targets(teachers, images, temperature=temperature)
    if path:
        save_targets(path, targets)
    return targets


def read_targets(path: Path, count: int, num_classes: int = NUM_CLASSES) -> np.ndarray | None:
    """Reads targets ``[count, num_classes]``; None if there are none or the file is damaged."""
    try:
        targets = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    right = targets.shape == (count, num_classes) and targets.dtype == np.float32
    return targets if right else None


def save_targets(path: Path, targets: np.ndarray) -> None:
    """Writes targets as ``.npy``, whole or not at all."""
    with atomic_files.atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.save(file, targets)
