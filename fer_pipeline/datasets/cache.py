"""Decoded faces on disk, so that a second start decodes nothing and needs no TensorFlow.

An entry is a folder of its own, named after the source and a key over the source's files and all
options that decide its contents::

    <cache_dir>/fer2013-0123456789abcdef/images.u8   uint8 [N, 48, 48, 1], pixels alone
                                         labels.npy  int32 [N]
                                         groups.npy  int8 [N]
                                         about.json  all else, and checksums

It is written as ``.fer2013-0123456789abcdef.partial`` and renamed when it is complete. Who writes
it holds a lock on that folder, which ends with the process; others wait and read what was written.
Entries of sources that changed or went away are not removed: the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_pipeline import gathering
from fer_pipeline.datasets.splits import LazyImages, chunks
from fer_pipeline.datasets.splitting import Faces
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES
from fer_pipeline.faces import FACE_SHAPE

_IMAGES, _LABELS, _GROUPS, _ABOUT = "images.u8", "labels.npy", "groups.npy", "about.json"

#: To be raised when faces are decoded differently or the files of an entry change.
_VERSION = 2

#: Images that share a checksum.
_CHUNK = 4096

#: Bytes of a source's name that go into the name of its entry; a file's name may have 255.
_MAX_NAME = 100

#: Names of entries that somebody writes, or wrote when he was killed.
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{16}\..+")

#: Gives the uint8 array of a shape that is to hold decoded images.
Allocate = Callable[[tuple[int, ...]], np.ndarray]


def entry_folder(
    cache_dir: str | os.PathLike[str] | None, name: str, source_digest: str, options: Any
) -> Path:
    """Where the entry of a source lies.

    Args:
      cache_dir: the cache; None is ``$XDG_CACHE_HOME/fer_pipeline``, or where that is not set
        ``~/.cache/fer_pipeline``.
      name: of the source, for people who look into the cache.
      source_digest: changes when the source's files do.
      options: JSON-able; whatever else decides the arrays.

    Raises:
      UserError: there is no home folder.
    """
    parts = [_VERSION, CLASS_NAMES, FACE_SHAPE, source_digest, options]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    cache = cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "fer_pipeline")
    short = os.fsencode(name)[:_MAX_NAME].decode(errors="ignore")
    try:
        return Path(cache).expanduser() / f"{short}-{key}"
    except RuntimeError as error:
        raise UserError(f"{cache}: no home folder is known; pass --cache_dir") from error


def load(folder: Path) -> Faces | None:
    """Opens an entry; None where there is none, or a damaged one.

    The images are mapped into memory, and their checksums compared when they are first asked for.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        labels, groups = np.load(folder / _LABELS), np.load(folder / _GROUPS)
        if about["labels"] != zlib.crc32(labels) or about["groups"] != zlib.crc32(groups):
            return None
        images = np.memmap(folder / _IMAGES, np.uint8, "r").reshape(len(labels), *FACE_SHAPE)
        read = _Checked(folder, images, about["images"])
        notes = {name: tuple(about[name]) for name in ("skipped", "left_out")}
        lazy = LazyImages(read, np.arange(len(labels)))
        return Faces(lazy, labels, groups, converted=about["converted"], **notes)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


class _Checked:
    """Copies faces out of an entry, each part of which is compared with its checksum once.

    Raises:
      UserError: the pixels are not those that were written; the entry is then no longer one.
    """

    def __init__(self, folder: Path, images: np.ndarray, checksums: list[int]):
        self._folder = folder
        self._images = images
        self._checksums = checksums
        self._unread = set(range(len(checksums)))

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        if self._unread:
            for i in self._unread.intersection((positions // _CHUNK).tolist()):
                if zlib.crc32(self._images[i * _CHUNK : (i + 1) * _CHUNK]) != self._checksums[i]:
                    self._refuse()
                self._unread.discard(i)
        return gathering.take(self._images, positions)

    def _refuse(self) -> None:
        try:
            (self._folder / _ABOUT).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        raise UserError(
            f"{self._folder}: damaged on the disk; start again to decode the images anew"
        )


def store(
    folder: Path, decode: Callable[[Allocate], Faces], check_source: Callable[[], None]
) -> tuple[Faces, bool]:
    """Decodes a source into a new entry, with no more than a chunk of images in memory.

    Args:
      folder: of the entry; a damaged one is replaced.
      decode: decodes all images, into the array that it is to allocate by the function it is
        given, or into memory.
      check_source: raises if the source is no longer what ``folder`` is named after.

    Returns:
      The entry, and whether it was decoded here and not by another process in the meantime.

    Raises:
      UserError: what the two functions raise, or that the cache cannot be written.
    """
    try:
        with _locked(folder) as partial:
            entry = load(folder)
            if entry is not None:
                return entry, False
            if folder.exists():
                shutil.rmtree(folder)
            _write(partial, decode(lambda shape: _new_images(partial / _IMAGES, shape)))
            check_source()
            partial.rename(folder)
            entry = load(folder)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    if entry is None:
        raise UserError(f"{folder}: the cache just written is gone; try again or --cache=memory")
    return entry, True


def _write(partial: Path, faces: Faces) -> None:
    """Writes the files of an entry, the images unless they are there."""
    count = len(faces.labels)
    if not (partial / _IMAGES).exists():
        _new_images(partial / _IMAGES, (count, *FACE_SHAPE))[:] = faces.images
    # Less than was allocated where some could not be read.
    os.truncate(partial / _IMAGES, count * int(np.prod(FACE_SHAPE)))
    np.save(partial / _LABELS, faces.labels)
    np.save(partial / _GROUPS, faces.groups)
    about = {
        "images": [zlib.crc32(np.ascontiguousarray(c)) for c in chunks(faces.images, _CHUNK)],
        "labels": zlib.crc32(faces.labels),
        "groups": zlib.crc32(faces.groups),
        "converted": faces.converted,
        "skipped": faces.skipped,
        "left_out": faces.left_out,
    }
    (partial / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    for path in partial.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _new_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A writable memmap over a new file."""
    with open(path, "wb") as file:
        # A full disk is an error here, and would be a crash when a page is written.
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
    return np.memmap(path, np.uint8, "r+", shape=shape)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to make an entry of, as soon as nobody else makes the same one.

    It is removed unless it is renamed, and so are those of processes that were killed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            with contextlib.suppress(OSError):
                held = _hold(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if held is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(held)
    partial, held = folder.with_name(f".{folder.name}.partial"), None
    while held is None:
        partial.mkdir(exist_ok=True)
        held = _hold(partial, fcntl.LOCK_EX)
    try:
        for path in partial.iterdir():
            path.unlink()
        yield partial
    finally:
        # Once it is renamed, a folder of this name is somebody else's.
        if _is(held, partial):
            shutil.rmtree(partial, ignore_errors=True)
        os.close(held)


def _hold(path: Path, operation: int) -> int | None:
    """A descriptor that locks a folder until it is closed.

    None if another process has the lock, or had it and has renamed or removed the folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, operation)
        if _is(descriptor, path):
            return descriptor
    os.close(descriptor)
    return None


def _is(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to what was opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: cannot write the cache ({error.strerror}); pass --cache=memory, or "
        "--cache_dir with a folder that can be written"
    )
