"""An export is built beside the old one and takes its place as a directory, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fer_pipeline import run_dir

_LOCK = ".export.lock"
_PREFIX = ".export-"
_NEXT = "next"
_PREVIOUS = "previous"
_SCRATCH = "scratch"


@contextlib.contextmanager
def staged(run: Path) -> Iterator[tuple[Path, Path]]:
    """Yields two empty directories on the run's own disk: the next export, and one for scratch.

    Neither outlives the block; ``publish`` or ``keep_failed`` moves the export out before. What
    an export that was killed left behind is put in order first.

    Raises:
      UserError: another process exports this run, or the run directory cannot be written.
    """
    # Not the lock of training: a run may be exported while it trains.
    with run_dir.locked(run, _LOCK, busy="another process is exporting it; wait"):
        recover(run)
        workshop = Path(tempfile.mkdtemp(dir=run, prefix=_PREFIX))
        try:
            for name in (_NEXT, _SCRATCH):
                (workshop / name).mkdir()
            yield workshop / _NEXT, workshop / _SCRATCH
        finally:
            _clear(run, workshop)


def recover(run: Path) -> None:
    """Puts back an export that a killed process had moved away, and deletes what it left."""
    for workshop in run.glob(f"{_PREFIX}*"):
        _clear(run, workshop)


def _clear(run: Path, workshop: Path) -> None:
    if (workshop / _PREVIOUS).exists() and not (run / run_dir.EXPORT).exists():
        (workshop / _PREVIOUS).rename(run / run_dir.EXPORT)
    shutil.rmtree(workshop)


def publish(run: Path, new: Path) -> None:
    """Puts ``new``, from ``staged``, in the place of the run's export, and drops a failed one.

    No call replaces a directory that is not empty, so the old one is moved away first. If the
    second rename does not happen, the end of ``staged`` puts the old one back; if the process is
    killed between the two, the next ``staged`` does.
    """
    target = run / run_dir.EXPORT
    _flush(new)
    if target.exists():
        target.rename(new.with_name(_PREVIOUS))
    new.rename(target)
    shutil.rmtree(run / run_dir.EXPORT_FAILED, ignore_errors=True)


def keep_failed(run: Path, new: Path) -> Path:
    """Moves ``new``, from ``staged``, to ``export.failed``, in place of an older one."""
    target = run / run_dir.EXPORT_FAILED
    shutil.rmtree(target, ignore_errors=True)
    return new.rename(target)


def _flush(folder: Path) -> None:
    """Has every file on disk before the rename that makes it count."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
