"""A run's directory: names of its files, locks, and checks before anything is written."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_pipeline import classes as classes_lib
from fer_pipeline.atomic_files import TEMPORARY
from fer_pipeline.errors import UserError
from fer_pipeline.run_record import record_problem

CONFIG = "config.json"
HISTORY = "history.csv"
TIMING = "timing.csv"
METRICS = "metrics.json"
REPORT = "report.html"
TF_LOG = "tf.log"
TENSORBOARD = "tensorboard"
TARGETS = "targets.npy"
FIGURES = "figures"
CHECKPOINTS = "checkpoints"
EXPORT = "export"
EXPORT_FAILED = "export.failed"
#: The lock of exports, and the prefix of the folder in which one is written.
EXPORT_LOCK, EXPORT_WORKSHOP = ".export.lock", ".export-"
#: The message if another process has that lock.
EXPORTING = "another process is exporting it; wait"
#: In that folder: the previous export, between two renames.
PREVIOUS = "previous"
_LOCK = ".lock"
_BUSY = "another process is training there; wait or name another one"

#: Everything a run writes: what ``--overwrite`` deletes.
_WRITTEN = (
    CONFIG,
    HISTORY,
    TIMING,
    TARGETS,
    METRICS,
    REPORT,
    TF_LOG,
    TENSORBOARD,
    FIGURES,
    CHECKPOINTS,
    EXPORT,
    EXPORT_FAILED,
)

SAMPLES_FIGURE = f"{FIGURES}/samples.png"
CLASS_COUNTS_FIGURE = f"{FIGURES}/class_counts.png"
CURVES_FIGURE = f"{FIGURES}/curves.png"
CONFUSION_MATRIX_FIGURE = f"{FIGURES}/confusion_matrix.png"
RELIABILITY_FIGURE = f"{FIGURES}/reliability.png"
ARCHITECTURE_FIGURE = f"{FIGURES}/architecture.png"

#: Images of every class by split, and the faces that the network is most certain and wrong about.
CLASS_COUNTS = f"{FIGURES}/class_counts.json"
CONFIDENTLY_WRONG = f"{FIGURES}/confidently_wrong.npz"


def read_config(run: Path) -> dict[str, Any]:
    """Reads a run's ``config.json``.

    Raises:
      UserError: it is missing, damaged or not written by a training run.
    """
    config = _read_object(run / CONFIG, {"data": str, "fingerprint": str, "versions": dict})
    if problem := record_problem(config):
        raise UserError(f"{run / CONFIG}: {problem}")
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


def check_same_config(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that a run is continued with the configuration of its start.

    Args:
      run: its directory.
      before: its configuration.
      now: the settings that must be the same.

    Raises:
      UserError: names the first setting that differs.
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
        elif name == "initial_weights":
            problem = "other --init_weights, or they have been trained further; pass"
        elif name == "exclude_sha256":
            problem = f"{'another' if before[name] else 'no'} --exclude list; pass that, or"
        elif name == "devices":
            problem = f"{before[name]} devices, not {value}, and --deterministic; pass"
        else:
            was, is_now = map(_as_flag, (before[name], value))
            problem = f"--{name}={was}, not {is_now}; pass that to continue it,"
        raise UserError(
            f"{run}: was started with {problem} --overwrite to start anew, or another --run_dir"
        )


def _as_flag(value: Any) -> Any:
    """A recorded setting as its flag takes it."""
    if isinstance(value, list):
        return classes_lib.as_text(value)
    return str(value).lower() if isinstance(value, bool) else value


@contextlib.contextmanager
def owned(run: Path) -> Iterator[None]:
    """Locks the run directory for one training, and removes unfinished files of a killed one.

    Raises:
      UserError: another process trains there, or the directory cannot be made or written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--run_dir={run}: cannot be made ({error.strerror})") from error
    with locked(run, _LOCK, busy=_BUSY):
        for folder in (run, run / CHECKPOINTS, run / FIGURES):
            for temporary in folder.glob(f"{TEMPORARY}*"):
                temporary.unlink()
        yield


def check_free(run: Path) -> None:
    """Checks that no process trains in an existing run directory.

    Raises:
      UserError: one does.
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
      busy: the message if another process holds it.
      wait: called once before waiting for that process; None raises instead.

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
    """Restores an export that its process had moved when it was killed between two renames.

    To be called before an export is read. Nothing happens if there is an export, if there is
    nothing to restore, or if the directory cannot be written.

    Args:
      path: the run directory, its export, or something in that.
    """
    # The path itself first: a run may be below a folder with the name of an export.
    exports = (above for above in (path, *path.parents) if above.name == EXPORT)
    run = next(filter(_lacks_export, (path, *(export.parent for export in exports))), None)
    if run is None:
        return
    # A living process has the lock and will finish its renames.
    with (
        contextlib.suppress(UserError, OSError),
        locked(run, EXPORT_LOCK, busy=EXPORTING, wait=lambda: None),
    ):
        clear_workshops(run)


def _lacks_export(run: Path) -> bool:
    moved = any(os.path.lexists(workshop / PREVIOUS) for workshop in _workshops(run))
    return moved and not os.path.lexists(run / EXPORT)


def _workshops(run: Path) -> list[Path]:
    """Finds the folders in which exports are written; files and links are not ours."""
    found = run.glob(f"{EXPORT_WORKSHOP}*")
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def clear_workshops(run: Path) -> None:
    """Calls ``clear_workshop`` for all; the caller holds the export lock."""
    for workshop in _workshops(run):
        clear_workshop(run, workshop)


def clear_workshop(run: Path, workshop: Path) -> None:
    """Restores an export that was moved, and deletes a workshop."""
    if os.path.lexists(workshop / PREVIOUS) and not os.path.lexists(run / EXPORT):
        (workshop / PREVIOUS).rename(run / EXPORT)
    shutil.rmtree(workshop)


def clear(run: Path) -> None:
    """Deletes what a run writes from its directory, and nothing else.

    ``config.json`` is deleted last: without it the directory is not recognised as a run. The caller
    holds the locks of training and of exporting.
    """
    for path in (*_workshops(run), *(run / name for name in reversed(_WRITTEN))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_cleared(run: Path, path: Path) -> bool:
    """Whether ``path`` is that run, or is a file or folder that ``clear`` deletes with it."""
    own, target = run.resolve(), path.resolve()
    written = (own / name for name in _WRITTEN)
    return target == own or any(target.is_relative_to(place) for place in written)


def check_space(run: Path, needed: int, what: str) -> None:
    """Checks that ``needed`` bytes are free where a run is written.

    Raises:
      UserError: they are not; the message says ``what`` they are for.
    """
    free = shutil.disk_usage(nearest_existing(run)).free
    if free < needed:
        raise UserError(
            f"--run_dir={run}: {free / 1e6:,.0f} MB are free and {what} need {needed / 1e6:,.0f} "
            "MB; make room or name another directory"
        )


def size_written(run: Path) -> int:
    """Adds up the bytes of what ``clear`` deletes."""
    files = (file for name in _WRITTEN for file in (run / name, *(run / name).rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def check_usable(run: Path) -> None:
    """Checks that a run may be written to ``run``.

    Raises:
      UserError: it is a file, a directory with something other than a run, or cannot be written.
    """
    if run.exists() and not run.is_dir():
        raise UserError(f"--run_dir={run}: is a file; name a directory")
    parent = nearest_existing(run)
    if not os.access(parent, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"--run_dir={run}: {parent} cannot be written; name another directory")
    if not run.is_dir():
        return
    names = (path.name for path in run.iterdir())
    # A killed training or export leaves these.
    left = (TEMPORARY, EXPORT_WORKSHOP)
    strangers = sorted(n for n in names if n not in (_LOCK, EXPORT_LOCK) and not n.startswith(left))
    if CONFIG in strangers:
        read_config(run)
    elif strangers:
        raise UserError(
            f"--run_dir={run}: holds {strangers[0]} but no {CONFIG}, so it is no run; "
            "name a new directory"
        )


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(above for above in (path, *path.absolute().parents) if above.exists())
