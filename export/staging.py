"""An export is built beside the old one and takes its place as a directory, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError

#: Errors of the system that the user can put right.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

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
    with run_dir.locked(run, run_dir.EXPORT_LOCK, busy="another process is exporting it; wait"):
        recover(run)
        workshop = Path(tempfile.mkdtemp(dir=run, prefix=run_dir.EXPORT_WORKSHOP))
        try:
            for name in (_NEXT, _SCRATCH):
                (workshop / name).mkdir()
            yield workshop / _NEXT, workshop / _SCRATCH
        finally:
            _clear(run, workshop)


@contextlib.contextmanager
def no_room_explained(run: Path) -> Iterator[None]:
    """Turns whatever a writer raises where a disk is full or closed to it into a UserError."""
    try:
        yield
    except UserError:
        raise
    # TensorFlow, h5py and processes of their own each have another kind of error for it.
    except Exception as error:
        said = f"{getattr(error, 'strerror', None) or ''} {error}"
        reason = next((os.strerror(code) for code in _NO_ROOM if os.strerror(code) in said), None)
        if not reason:
            raise
        raise UserError(
            f"{run}: cannot be written ({reason}); the export was not replaced"
        ) from error


def recover(run: Path) -> None:
    """Puts back an export that a killed process had moved away, and deletes what it left."""
    for workshop in run.glob(f"{run_dir.EXPORT_WORKSHOP}*"):
        _clear(run, workshop)


def _clear(run: Path, workshop: Path) -> None:
    if os.path.lexists(workshop / _PREVIOUS) and not os.path.lexists(run / run_dir.EXPORT):
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
    if os.path.lexists(target):
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
