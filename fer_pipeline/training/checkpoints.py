"""Checkpoints: one file with every variable and counter that a run needs to continue.

A checkpoint is an ``.npz`` of arrays plus one JSON string of scalars. ``tf.train.Checkpoint`` of
a Keras model leaves the dropout layers' seeds out, so that a resumed run draws other masks; a flat
dump of ``model.variables`` and ``optimizer.variables`` does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import atomic_files, run_dir
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import keras

_BEST = "best.npz"
_EPOCH = "epoch_{:04d}.npz"
_STEP = "epoch_{:04d}_step_{:06d}.npz"
#: Only these names are checkpoints of the run; other files in the folder are ignored.
_NAME = re.compile(r"epoch_(\d{4,})(?:_step_(\d{6,}))?\.npz")
_KEEP = 2

#: Number of checkpoints that have to fit on the disk: those kept, the end of the last epoch, the
#: best, and the next one while it is written.
_FILES = _KEEP + 3

#: Hexadecimal digits of SHA-256.
_DIGEST_SIZE = 64

_GROUPS = ("weights", "other", "optimizer")


class Checkpoint(NamedTuple):
    """The content of a checkpoint file.

    Attributes:
      weights: as ``keras.Model.get_weights()`` gives them, float32; under ``--ema`` the averages.
      other: the model's remaining variables: the states of its random generators; and under
        ``--ema`` its weights.
      optimizer: the optimizer's variables, a loss scale and its counter among them.
      state: JSON scalars; ``epoch`` and ``step`` are those finished, the rest is the loop's.
    """

    weights: list[np.ndarray]
    other: list[np.ndarray]
    optimizer: list[np.ndarray]
    state: dict[str, Any]


def capture(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    state: dict[str, Any],
    averaged: keras.Model | None = None,
) -> Checkpoint:
    """Reads every variable of a model, of a built optimizer, and of averaged weights."""
    groups = _variables(model, optimizer, averaged)
    return Checkpoint(*([np.asarray(variable) for variable in group] for group in groups), state)


def restore(
    checkpoint: Checkpoint,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    averaged: keras.Model | None = None,
) -> None:
    """Assigns a checkpoint's values to what it was captured of, in the same configuration."""
    groups = _variables(model, optimizer, averaged)
    for variables, values in zip(groups, checkpoint[:3], strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def save(run: Path, checkpoint: Checkpoint, *, best: bool = False) -> Path:
    """Saves a checkpoint and returns its path.

    The last two checkpoints are kept, the last one at the end of an epoch, and the best. ``best``
    says that this is the best. Every file appears whole or not at all.

    Raises:
      UserError: a variable is NaN or infinite, or the file cannot be written; the files that were
        there are left as they were.
    """
    for group, arrays in zip(_GROUPS, checkpoint[:3], strict=True):
        if not all(np.isfinite(array).all() for array in arrays):
            raise UserError(
                f"{run}: a variable among {group} is not finite, so no checkpoint is written; "
                f"the last good one is {latest(run) or 'none'}; start anew with a lower "
                "--learning_rate"
            )
    folder = run / run_dir.CHECKPOINTS
    epoch, step = checkpoint.state["epoch"], checkpoint.state.get("step", 0)
    path = folder / (_STEP.format(epoch, step) if step else _EPOCH.format(epoch))
    content = pack(checkpoint)
    # The best is written second: if the run is killed in between, restore_best writes it when the
    # run is continued. It is a copy, not a link, so that one damaged file does not damage both.
    for target in (path, folder / _BEST) if best else (path,):
        with atomic_files.atomic_write(target) as temporary:
            temporary.write_bytes(content)
    kept = {*_by_age(folder)[-_KEEP:], *_epoch_ends(folder)[-1:]}
    for old in set(_by_age(folder)) - kept:
        # A file that cannot be deleted does no harm.
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def restore_best(run: Path, checkpoint: Checkpoint) -> None:
    """Saves ``checkpoint``, the end of an epoch, as the best one if it is not saved as such.

    This is for a run that was killed after it had saved an epoch and before the copy of it that is
    kept as the best.
    """
    folder = run / run_dir.CHECKPOINTS
    best = _readable_best(folder)
    if best and best.state["epoch"] == checkpoint.state["epoch"]:
        return
    with atomic_files.atomic_write(folder / _BEST) as temporary:
        temporary.write_bytes(pack(checkpoint))


def pack(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint's file."""
    arrays = {
        f"{group}/{i:03d}": array
        for group, members in zip(_GROUPS, checkpoint[:3], strict=True)
        for i, array in enumerate(members)
    }
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array(json.dumps(checkpoint.state)), **arrays)
    # The archive ends with the length of its comment, none so far.
    body = buffer.getvalue()[:-2]
    return body + struct.pack("<H", _DIGEST_SIZE) + _digest(body)


def unpack(content: bytes) -> Checkpoint:
    """The checkpoint in a file's bytes.

    Raises:
      ValueError: they are damaged, by the SHA-256 of everything that is the archive's comment.
    """
    body, comment = content[: -2 - _DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if comment != _digest(body):
        raise ValueError("its checksum is wrong")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
        # Checkpoints are not compressed. A compressed file may unpack to any size.
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("it would unpack to more than its size")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            groups = [
                [file[name] for name in sorted(file.files) if name.startswith(f"{group}/")]
                for group in _GROUPS
            ]
    except (KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise ValueError("its epoch is missing")
    return Checkpoint(*groups, state)


def load(path: Path) -> Checkpoint:
    """Reads one file.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        return unpack(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); put that right") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged; export another checkpoint or train it again") from error


def load_latest(run: Path, warn: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none at all.

    This may be the best one, if no other file of its epoch is left. A damaged file is passed to
    ``warn`` and renamed ``*.damaged``, so that it no longer counts as the newest.

    Raises:
      UserError: there are checkpoints, and all of them are damaged.
    """
    folder = run / run_dir.CHECKPOINTS
    found, name, damaged = None, "", []
    for path in reversed(_by_age(folder)):
        try:
            found, name = unpack(path.read_bytes()), path.name
            break
        except ValueError:
            damaged.append(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); put that right") from error
    best = _readable_best(folder)
    is_newest = best and (found is None or _progress(best) > _progress(found))
    found, name = (best, _BEST) if is_newest else (found, name)
    if damaged and not found:
        raise UserError(f"{run}: all its checkpoints are damaged; pass --overwrite to start anew")
    for path in damaged:
        path.rename(path.with_suffix(".damaged"))
        warn(f"{path}: damaged and set aside; using {name}")
    if is_newest:
        with atomic_files.atomic_write(folder / _EPOCH.format(best.state["epoch"])) as temporary:
            temporary.write_bytes(pack(best))
    return found


def _readable_best(folder: Path) -> Checkpoint | None:
    try:
        return unpack((folder / _BEST).read_bytes())
    except (OSError, ValueError):
        return None


def _progress(checkpoint: Checkpoint) -> tuple[int, int]:
    return checkpoint.state["epoch"], checkpoint.state.get("step", 0)


def latest(run: Path) -> Path | None:
    """The newest checkpoint's file, damaged or not; None where there is none."""
    paths = _by_age(run / run_dir.CHECKPOINTS)
    return paths[-1] if paths else None


def progress(run: Path) -> tuple[int, int]:
    """Epochs that are finished, and steps of the next one, by the newest checkpoint's name."""
    path = latest(run)
    return _age(path) if path else (0, 0)


def load_end(run: Path, which: str = "last") -> Checkpoint:
    """The checkpoint of a run's last or best finished epoch; ``state["epoch"]`` says which it is.

    Weights and epoch are read from one file at once, so they match even if a training saves
    checkpoints at the same time.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = _epoch_end(run, which)
    while True:
        try:
            return load(path)
        except UserError:
            newer = _epoch_end(run, which)
            if newer == path:
                raise
            # A training has just finished another epoch and deleted this file.
            path = newer


def load_weights(run: Path, which: str = "last") -> list[np.ndarray]:
    """The float32 weights of ``load_end``, for ``set_weights``."""
    return load_end(run, which).weights


def _epoch_end(run: Path, which: str) -> Path:
    folder = run / run_dir.CHECKPOINTS
    path = next(reversed(_epoch_ends(folder)), None) if which == "last" else folder / _BEST
    if path is None or (which == "best" and not path.exists()):
        raise UserError(f"{run}: no {which} checkpoint; train it first with --run_dir={run}")
    return path


def size(checkpoint: Checkpoint) -> int:
    """Bytes of a checkpoint's arrays, which is nearly all of its file."""
    return sum(array.nbytes for arrays in checkpoint[:3] for array in arrays)


def space_needed(run: Path, size: int, *, anew: bool = False) -> int:
    """Bytes that a run's checkpoints, of ``size`` bytes each, will take.

    Args:
      run: its directory; what is there already is taken off.
      size: of one.
      anew: nothing is taken off: what is there will be deleted.
    """
    folder = run / run_dir.CHECKPOINTS
    there = 0 if anew else len(_by_age(folder)) + (folder / _BEST).exists()
    return size * max(1, _FILES - there)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _by_age(folder: Path) -> list[Path]:
    named = (path for path in folder.glob("epoch_*.npz") if _NAME.fullmatch(path.name))
    return sorted(named, key=_age)


def _epoch_ends(folder: Path) -> list[Path]:
    return [path for path in _by_age(folder) if not _age(path)[1]]


def _age(path: Path) -> tuple[int, int]:
    """Epochs and, within the next one, steps that a file's name says are finished."""
    epoch, step = _NAME.fullmatch(path.name).groups(default="0")
    return int(epoch), int(step)


def _variables(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, averaged: keras.Model | None
) -> tuple[list[keras.Variable], list[keras.Variable], list[keras.Variable]]:
    """The weights that count, the model's other variables and the optimizer's."""
    known = {id(variable) for variable in model.weights}
    other = [variable for variable in model.variables if id(variable) not in known]
    if averaged is not None:
        return averaged.weights, [*other, *model.weights], optimizer.variables
    return model.weights, other, optimizer.variables
