"""An export is built beside the old one and takes its place as a directory, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError

#: Errors of the system that the user can put right.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

#: Of ``linux/fs.h`` and ``fcntl.h``: exchange, and paths from the current folder.
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


class Workshop(NamedTuple):
    """Where one export is made, on the run's own disk, while its process holds the run's lock.

    ``publish`` moves ``next`` out, the export in the making, and ``keep_failed`` moves ``failed``
    out, what missed its gates. ``scratch`` is for what is needed on the way, and ``run`` the run
    directory.
    """

    run: Path
    next: Path
    failed: Path
    scratch: Path


@contextlib.contextmanager
def staged(run: Path, *, wait: Callable[[], None] | None = None) -> Iterator[Workshop]:
    """Holds the export lock of a run and yields empty directories, which do not outlive the block.

    Weights that are read inside the block stay the newest ones that are exported: no other process
    can export this run meanwhile. What an export that was killed left behind is put in order first.

    Args:
      run: the run directory.
      wait: called once before waiting for another process that exports this run; None does not
        wait.

    Raises:
      UserError: another process exports this run, or the run directory cannot be written.
    """
    # Not the lock of training: a run may be exported while it trains.
    with run_dir.locked(run, run_dir.EXPORT_LOCK, busy=run_dir.EXPORTING, wait=wait):
        run_dir.clear_workshops(run)
        with no_room_explained(run):
            workshop = _workshop(run)
        try:
            yield workshop
        finally:
            run_dir.clear_workshop(run, workshop.next.parent)


def _workshop(run: Path) -> Workshop:
    folder = Path(tempfile.mkdtemp(dir=run, prefix=run_dir.EXPORT_WORKSHOP))
    workshop = Workshop(run, folder / "next", folder / "failed", folder / "scratch")
    for path in workshop[1:]:
        path.mkdir()
    return workshop


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


def publish(workshop: Workshop, *, drop_failed: bool = True) -> None:
    """Puts the new export in the place of the run's export, and drops an older failed one.

    Where the system can exchange two directories (Linux' ``renameat2``), there is an export at
    every moment. Elsewhere no call replaces a directory that is not empty, so the old one is moved
    away first. If the second rename does not happen, the end of ``staged`` puts the old one back;
    if the process is killed between the two, the next command on this run does.
    """
    target = workshop.run / run_dir.EXPORT
    flush(workshop.next)
    if not target.is_symlink() and target.is_dir() and exchange(workshop.next, target):
        _flush_names(workshop.run)
    else:
        if os.path.lexists(target):
            target.rename(workshop.next.with_name(run_dir.PREVIOUS))
        workshop.next.rename(target)
        _flush_names(workshop.run)
    if drop_failed:
        shutil.rmtree(workshop.run / run_dir.EXPORT_FAILED, ignore_errors=True)


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder on the target's disk, which is gone in the end if it was not moved."""
    with no_room_explained(target):
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            (folder / "next").mkdir()
            yield folder / "next"
        finally:
            shutil.rmtree(folder)


def check_replaceable(target: Path, what: str, is_older: Callable[[], bool]) -> None:
    """Refuses to write where something else is.

    Args:
      target: what ``--output_dir`` names.
      what: the folder is, with its article.
      is_older: whether what lies there may be replaced; asked where there is anything.

    Raises:
      UserError: it holds something else, is no folder, or lies in none.
    """
    if not target.parent.is_dir():
        raise UserError(f"--output_dir={target}: {target.parent} is no directory; make it first")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"--output_dir={target}: is no directory; name another one")
    if target.is_dir() and any(target.iterdir()) and not is_older():
        raise UserError(
            f"--output_dir={target}: holds other files than {what}; name another directory or "
            "empty it"
        )


def replace(folder: Path, target: Path) -> None:
    """Puts a folder from ``beside`` in the place of an older one, which is left in its place."""
    flush(folder)
    if target.is_dir() and exchange(folder, target):
        return
    previous = folder.with_name("previous")
    if target.is_dir():
        target.rename(previous)
    try:
        folder.rename(target)
    except OSError:
        if previous.is_dir():
            previous.rename(target)
        raise


def exchange(first: Path, second: Path) -> bool:
    """Exchanges two paths of one file system in one step; False where the system cannot.

    Raises:
      OSError: it can, and does not: no permission, a path is missing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    paths = (os.fsencode(first.absolute()), os.fsencode(second.absolute()))
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    # What kernels and file systems say that have no such call (man 2 renameat2).
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def keep_failed(workshop: Workshop) -> Path:
    """Moves what missed its gates to ``export.failed``, in place of an older one."""
    target = workshop.run / run_dir.EXPORT_FAILED
    shutil.rmtree(target, ignore_errors=True)
    return workshop.failed.rename(target)


def flush(folder: Path) -> None:
    """Has every file on disk before the rename that makes it count."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    """Has the renames on disk, where the file system allows it for a directory."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
