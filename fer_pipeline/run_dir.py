"""Names of every file a run writes, atomic writes, and one owner at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_pipeline import networks
from fer_pipeline.errors import UserError

CONFIG = "config.json"
HISTORY = "history.csv"
TIMING = "timing.csv"
METRICS = "metrics.json"
TF_LOG = "tf.log"
TENSORBOARD = "tensorboard"
TARGETS = "targets.npy"
FIGURES = "figures"
CHECKPOINTS = "checkpoints"
EXPORT = "export"
EXPORT_FAILED = "export.failed"
#: Held while an export is written, and the beginning of the name of the folder it is written in.
EXPORT_LOCK, EXPORT_WORKSHOP = ".export.lock", ".export-"
#: What to say to whoever wants that lock meanwhile.
EXPORTING = "another process is exporting it; wait"
#: In that folder: the export that was there before, between two renames.
PREVIOUS = "previous"
_LOCK = ".lock"
_BUSY = "another process is training there; wait or name another one"
_TEMPORARY = ".tmp-"

#: Everything a run writes: what ``--overwrite`` deletes.
_WRITTEN = (
    CONFIG,
    HISTORY,
    TIMING,
    TARGETS,
    METRICS,
    TF_LOG,
    TENSORBOARD,
    FIGURES,
    CHECKPOINTS,
    EXPORT,
    EXPORT_FAILED,
)

#: What a configuration may say of reading faces and of weights; older ones may say less.
_CONFIG_TYPES = {
    "seed": int,
    "validation_fraction": float,
    "on_bad_image": str,
    "cache": str,
    "cache_dir": str,
    "export_checkpoint": str,
}

SAMPLES_FIGURE = f"{FIGURES}/samples.png"
CLASS_COUNTS_FIGURE = f"{FIGURES}/class_counts.png"
CURVES_FIGURE = f"{FIGURES}/curves.png"
CONFUSION_MATRIX_FIGURE = f"{FIGURES}/confusion_matrix.png"
ARCHITECTURE_FIGURE = f"{FIGURES}/architecture.png"


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it there when the block succeeds.

    The file is flushed to disk before the rename, so that a reader, or a machine that loses
    power, sees the old file or the new one and nothing between. When the block raises, ``path``
    is left as it was. The temporary file keeps the suffix of ``path``, since writers such as
    matplotlib and Keras choose the format by it.

    Raises:
      UserError: the file cannot be written: no space, no permission.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a run directory is as readable as its owner's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); put that right and start the "
            "same command again"
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all.

    Raises:
      ValueError: it holds NaN or infinity, for which JSON has no word.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_config(run: Path) -> dict[str, Any]:
    """Reads a run's ``config.json``.

    Raises:
      UserError: it is missing, damaged or not written by a training run.
    """
    config = _read_object(run / CONFIG, {"data": str, "fingerprint": str, "versions": dict})
    for name, kind in _CONFIG_TYPES.items():
        if not isinstance(config.get(name), kind | None):
            raise UserError(f"{run / CONFIG}: its {name} is {config[name]!r:.50}; restore it")
    fraction, seed = config.get("validation_fraction"), config.get("seed")
    for name, right in (
        ("validation_fraction", fraction is None or 0 < fraction < 1),
        ("seed", seed is None or seed >= 0),
    ):
        if not right:
            raise UserError(f"{run / CONFIG}: its {name} is {config[name]!r:.50}; restore it")
    for name, known in (("export_checkpoint", ("last", "best")), ("model", networks.NAMES)):
        if config.get(name) not in (None, *known):
            raise UserError(f"{run / CONFIG}: its {name} is {config[name]!r:.50}; restore it")
    return config


def read_metrics(run: Path) -> dict[str, Any]:
    """Reads a run's ``metrics.json``.

    Raises:
      UserError: it is missing, damaged or not written by a training run.
    """
    return _read_object(run / METRICS, {"epochs": int, "checkpoint": str})


def _read_object(path: Path, expected: dict[str, type]) -> dict[str, Any]:
    """Reads a JSON object that has at least these keys, with values of these types."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; name the directory of a training run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); restore it or delete it") from error
    if not isinstance(value, dict) or not all(
        isinstance(value.get(key), kind) for key, kind in expected.items()
    ):
        raise UserError(f"{path}: not written by a training run; restore it or delete it")
    return value


def refuse_another(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run is continued with the configuration it was started with.

    Args:
      run: its directory.
      before: what identified it when it was started.
      now: what identifies it now.

    Raises:
      UserError: names the first thing that differs.
    """
    for name, value in now.items():
        if name in before and before[name] == value:
            continue
        if name not in before:
            problem = f"an older version, which did not record its {name}; pass"
        elif name == "fingerprint":
            problem = "other images; pass"
        elif name == "teachers":
            problem = "other teachers, or they have been trained further; pass"
        elif name == "devices":
            problem = f"{before[name]} devices, not {value}, and --deterministic; pass"
        else:
            was, is_now = (
                str(v).lower() if isinstance(v, bool) else v for v in (before[name], value)
            )
            problem = f"--{name}={was}, not {is_now}; pass that to continue it,"
        raise UserError(
            f"{run}: was started with {problem} --overwrite to start anew, or another --run_dir"
        )


@contextlib.contextmanager
def owned(run: Path) -> Iterator[None]:
    """Holds the run directory for one training, and clears what a killed one left half-written.

    Raises:
      UserError: another process trains there, or the directory cannot be made or written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run_dir={run}: cannot be made ({error.strerror})") from error
    with locked(run, _LOCK, busy=_BUSY):
        for folder in (run, run / CHECKPOINTS, run / FIGURES):
            for temporary in folder.glob(f"{_TEMPORARY}*"):
                temporary.unlink()
        yield


def check_free(run: Path) -> None:
    """Checks that nobody trains in a run directory that is there.

    Raises:
      UserError: another process does.
    """
    with locked(run, _LOCK, busy=_BUSY):
        pass


@contextlib.contextmanager
def locked(
    run: Path, name: str, *, busy: str, wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Holds the lock file ``name`` in a run directory.

    The lock ends with the process, however it ends.

    Args:
      run: the run directory.
      name: of the file.
      busy: says in words that another process holds it.
      wait: called once before waiting for that process; None refuses instead.

    Raises:
      UserError: another process holds it and there is no ``wait``, or the directory cannot be
        written.
    """
    try:
        handle = os.open(run / name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"--run_dir={run}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise UserError(f"--run_dir={run}: {busy}") from error
            wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"--run_dir={run}: its file system keeps no locks ({error.strerror}); name a "
                "directory on a local disk"
            ) from error
        yield
    finally:
        os.close(handle)


def recover_export(path: Path) -> None:
    """Puts an export back that its process had moved away when it was killed between two renames.

    For whoever wants to read: nothing happens where there is an export, where there is nothing to
    put back, or where the directory cannot be written.

    Args:
      path: the run directory, its export, or something in that.
    """
    # The path itself first: runs may lie below a folder that is called as an export is.
    exports = (above for above in (path, *path.parents) if above.name == EXPORT)
    run = next(filter(_lacks_export, (path, *(export.parent for export in exports))), None)
    if run is None:
        return
    # A process that lives holds the lock and is about to end what it began.
    with (
        contextlib.suppress(UserError, OSError),
        locked(run, EXPORT_LOCK, busy=EXPORTING, wait=lambda: None),
    ):
        clear_workshops(run)


def _lacks_export(run: Path) -> bool:
    moved = any(os.path.lexists(workshop / PREVIOUS) for workshop in _workshops(run))
    return moved and not os.path.lexists(run / EXPORT)


def _workshops(run: Path) -> list[Path]:
    """Folders alone: a file or a link of such a name is somebody else's."""
    found = run.glob(f"{EXPORT_WORKSHOP}*")
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def clear_workshops(run: Path) -> None:
    """``clear_workshop`` of all; for whoever holds the export lock, with which none is in use."""
    for workshop in _workshops(run):
        clear_workshop(run, workshop)


def clear_workshop(run: Path, workshop: Path) -> None:
    """Puts back an export that had been moved away, and deletes a workshop."""
    if os.path.lexists(workshop / PREVIOUS) and not os.path.lexists(run / EXPORT):
        (workshop / PREVIOUS).rename(run / EXPORT)
    shutil.rmtree(workshop)


def clear(run: Path) -> None:
    """Deletes what a run writes from its directory, and nothing else that may lie there.

    ``config.json`` goes last: without it the directory would no longer be taken for a run. The
    caller holds the locks of training and of exporting.
    """
    for path in (*_workshops(run), *(run / name for name in reversed(_WRITTEN))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_space(run: Path, needed: int, what: str) -> None:
    """Checks that ``needed`` bytes are free where a run is written.

    Raises:
      UserError: they are not; ``what`` says in the message what they are for.
    """
    free = shutil.disk_usage(existing(run)).free
    if free < needed:
        raise UserError(
            f"--run_dir={run}: {free / 1e6:,.0f} MB are free and {what} need {needed / 1e6:,.0f} "
            "MB; make room or name another directory"
        )


def size_written(run: Path) -> int:
    """Bytes of what ``clear`` deletes."""
    files = (file for name in _WRITTEN for file in (run / name, *(run / name).rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def check_usable(run: Path) -> None:
    """Checks that a run may be written to ``run``.

    Raises:
      UserError: it is a file, a directory that holds something else than a run, or cannot be
        written.
    """
    if run.exists() and not run.is_dir():
        raise UserError(f"--run_dir={run}: is a file; name a directory")
    parent = existing(run)
    if not os.access(parent, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"--run_dir={run}: {parent} cannot be written; name another directory")
    if not run.is_dir():
        return
    names = (path.name for path in run.iterdir())
    # A start or an export that was killed leaves these.
    left = (_TEMPORARY, EXPORT_WORKSHOP)
    strangers = sorted(n for n in names if n not in (_LOCK, EXPORT_LOCK) and not n.startswith(left))
    if CONFIG in strangers:
        read_config(run)
    elif strangers:
        raise UserError(
            f"--run_dir={run}: holds {strangers[0]} but no {CONFIG}, so it is no run; "
            "name a new directory"
        )


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(above for above in (path, *path.absolute().parents) if above.exists())
