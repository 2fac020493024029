"""One file a checkpoint: every variable and every counter a run needs to continue.

A checkpoint is an ``.npz`` of arrays plus one JSON string of scalars. ``tf.train.Checkpoint`` of
a Keras model leaves the dropout layers' seeds out, so that a resumed run draws other masks; a flat
dump of ``model.variables`` and ``optimizer.variables`` does not.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import keras

_BEST = "best.npz"
_EPOCH = "epoch_{:04d}.npz"
_KEEP = 2


class Checkpoint(NamedTuple):
    """What a file held.

    Attributes:
      weights: as ``keras.Model.get_weights()`` gives them, float32.
      other: the model's remaining variables: the states of its random generators.
      optimizer: the optimizer's variables.
      state: JSON scalars: epoch, schedule, history.
    """

    weights: list[np.ndarray]
    other: list[np.ndarray]
    optimizer: list[np.ndarray]
    state: dict[str, Any]


def save(
    run: Path,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    state: dict[str, Any],
    *,
    best: bool,
) -> Path:
    """Writes the checkpoint of ``state["epoch"]`` finished epochs and returns its path.

    The last two are kept, and with ``best`` the file also becomes the best one. Every file
    appears whole or not at all.
    """
    folder = run / run_dir.CHECKPOINTS
    weights = model.weights
    arrays = _numbered("weights", weights)
    arrays |= _numbered("other", _beyond(model.variables, weights))
    arrays |= _numbered("optimizer", optimizer.variables)
    path = folder / _EPOCH.format(state["epoch"])
    with run_dir.whole_file(path) as temporary:
        np.savez(temporary, state=np.array(json.dumps(state)), **arrays)
    if best:
        # A copy and not a link: what damages one file should not take both.
        with run_dir.whole_file(folder / _BEST) as temporary:
            shutil.copyfile(path, temporary)
    for old in _by_age(folder)[:-_KEEP]:
        old.unlink()
    return path


def load(path: Path) -> Checkpoint:
    """Reads one file.

    Raises:
      UserError: the file is missing or damaged (its arrays carry CRC-32 checksums).
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            groups = [
                [file[name] for name in sorted(file.files) if name.startswith(f"{group}/")]
                for group in ("weights", "other", "optimizer")
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged; delete it to use the one before") from error
    return Checkpoint(*groups, state)


def load_latest(run: Path, warn: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none at all.

    A damaged one is named to ``warn`` and set aside as ``*.damaged``, so that it no longer counts
    as the newest.

    Raises:
      UserError: there are checkpoints, and all of them are damaged.
    """
    damaged = []
    for path in reversed(_by_age(run / run_dir.CHECKPOINTS)):
        try:
            checkpoint = load(path)
        except UserError:
            damaged.append(path)
            continue
        for newer in damaged:
            newer.rename(newer.with_suffix(".damaged"))
            warn(f"{newer}: damaged and set aside; using {path.name}")
        return checkpoint
    if damaged:
        raise UserError(f"{run}: all its checkpoints are damaged; pass --overwrite to start anew")
    return None


def latest_epoch(run: Path) -> int:
    """Epochs that the newest checkpoint holds, by its name; 0 where there is none."""
    paths = _by_age(run / run_dir.CHECKPOINTS)
    return int(paths[-1].stem.removeprefix("epoch_")) if paths else 0


def load_weights(run: Path, which: str = "last") -> list[np.ndarray]:
    """The float32 weights of a run's last or best checkpoint, for ``set_weights``.

    Raises:
      UserError: there is none, or it is damaged.
    """
    folder = run / run_dir.CHECKPOINTS
    paths = _by_age(folder)
    path = folder / _BEST if which == "best" else paths[-1] if paths else None
    if path is None or not path.exists():
        raise UserError(f"{run}: no {which} checkpoint; train it first with --run_dir={run}")
    return load(path).weights


def restore(
    checkpoint: Checkpoint, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Puts a checkpoint's values into a model and a built optimizer of the same configuration."""
    targets = (model.weights, _beyond(model.variables, model.weights), optimizer.variables)
    for variables, values in zip(targets, checkpoint[:3], strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch_*.npz"))


def _beyond(variables: list[keras.Variable], known: list[keras.Variable]) -> list[keras.Variable]:
    ids = {id(variable) for variable in known}
    return [variable for variable in variables if id(variable) not in ids]


def _numbered(group: str, variables: list[keras.Variable]) -> dict[str, np.ndarray]:
    return {f"{group}/{i:03d}": np.asarray(variable) for i, variable in enumerate(variables)}
