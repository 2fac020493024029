"""Decoded faces on disk, so that a second start decodes nothing and needs no TensorFlow.

An entry is a folder named after the source and a key: a hash of the source's files and of all
options that its contents depend on::

    <cache_dir>/fer2013-0123456789abcdef/images.u8  uint8 [N, 48, 48, 1], raw pixels
                                         about.npz  everything else, and checksums of the images

It is written as ``.fer2013-0123456789abcdef.partial`` and renamed when it is complete. The process
that writes it locks ``.fer2013-0123456789abcdef.lock``; others wait and then read the entry.
Entries of sources that changed or were deleted stay; the folder may be deleted at any time.
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

from fer_pipeline.datasets import gather
from fer_pipeline.datasets.splits import Faces, LazyImages, chunks
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE

_IMAGES, _ABOUT = "images.u8", "about.npz"

#: To be raised when faces are decoded differently or the files of an entry change their format.
_VERSION = 5

#: Images that share a checksum.
_CHUNK = 4096

#: Bytes of a source's name in the name of its entry; a file name may have 255.
_MAX_NAME = 100

#: Names of entries that are being written, or that a killed process left unfinished.
_UNFINISHED = re.compile(r"\.(.+-[0-9a-f]{16})\.(?!lock$).+")

#: Allocates the uint8 array of a given shape for the decoded images.
Allocate = Callable[[tuple[int, ...]], np.ndarray]


def entry_folder(
    cache_dir: str | os.PathLike[str] | None, name: str, source_digest: str, options: Any
) -> Path:
    """Finds the path of a source's entry.

    Args:
      cache_dir: the cache; None is ``$XDG_CACHE_HOME/fer_pipeline``, or where that is not set
        ``~/.cache/fer_pipeline``.
      name: of the source, for people who look into the cache.
      source_digest: a hash that changes when the source's files do.
      options: JSON-able; whatever else the arrays depend on.

    Raises:
      UserError: the home folder is not known.
    """
    parts = [_VERSION, FACE_SHAPE, source_digest, options]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    cache = cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "fer_pipeline")
    short = os.fsencode(name)[:_MAX_NAME].decode(errors="ignore")
    try:
        return Path(cache).expanduser() / f"{short}-{key}"
    except RuntimeError as error:
        raise UserError(f"{cache}: no home folder is known; pass --cache_dir") from error


def load(folder: Path) -> Faces | None:
    """Opens an entry; None if there is none or it is damaged.

    The images are memory-mapped, and their checksums compared when they are first read.
    """
    try:
        with np.load(folder / _ABOUT) as file:  # Checks its own checksums.
            about = dict(file)
        count = len(about["labels"])
        images = np.memmap(folder / _IMAGES, np.uint8, "r").reshape(count, *FACE_SHAPE)
        return Faces(
            LazyImages(_checked_reader(folder, images, about["checksums"]), np.arange(count)),
            about["labels"],
            about["groups"],
            converted=int(about["converted"]),
            skipped=tuple(about["skipped"].tolist()),
            left_out=tuple(about["left_out"].tolist()),
            rows=about.get("rows"),
            classes=tuple(about["classes"].tolist()),
            unread=tuple(about["unread"].tolist()),
        )
    except Exception:  # Damaged files make NumPy raise many kinds.
        return None


def _checked_reader(
    folder: Path, images: np.ndarray, checksums: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that reads faces of an entry, and compares each chunk's checksum once."""
    unread = set(range(len(checksums)))

    def read(positions: np.ndarray) -> np.ndarray:
        for i in unread and unread.intersection((positions // _CHUNK).tolist()):
            if zlib.crc32(images[i * _CHUNK : (i + 1) * _CHUNK]) != checksums[i]:
                with _naming_cache(folder):
                    (folder / _ABOUT).unlink(missing_ok=True)
                raise UserError(
                    f"{folder}: damaged on the disk; start again to decode the images anew"
                )
            unread.discard(i)
        return gather.take(images, positions)

    return read


def store(
    folder: Path, decode: Callable[[Allocate], Faces], check_source: Callable[[], None]
) -> tuple[Faces, bool]:
    """Decodes a source into a new entry, with no more than a chunk of images in memory.

    Args:
      folder: of the entry; a damaged one is replaced.
      decode: decodes all images, into an array from the function that it is given, or into
        memory.
      check_source: raises if the source has changed since ``folder`` was named.

    Returns:
      The entry, and whether it was decoded here, not by another process in the meantime.

    Raises:
      UserError: from the two functions, or because the cache cannot be written.
    """
    with _naming_cache(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in folder.parent.iterdir():
            if unfinished := _UNFINISHED.fullmatch(path.name):
                with (
                    contextlib.suppress(OSError),
                    _locked(path.with_name(unfinished[1]), wait=False),
                ):
                    shutil.rmtree(path, ignore_errors=True)
        with _locked(folder) as partial:
            entry = load(folder)
            if entry is not None:
                return entry, False
            if folder.exists():
                shutil.rmtree(folder)
            partial.mkdir()
            _write(partial, decode(lambda shape: _new_images(partial / _IMAGES, shape)))
            check_source()
            partial.rename(folder)
            entry = load(folder)
    if entry is None:
        raise UserError(f"{folder}: the cache just written is gone; try again or --cache=memory")
    return entry, True


def _write(partial: Path, faces: Faces) -> None:
    """Writes the files of an entry; the images only if ``decode`` has not."""
    count = len(faces.labels)
    if not (partial / _IMAGES).exists():
        _new_images(partial / _IMAGES, (count, *FACE_SHAPE))[:] = faces.images
    # Images that could not be read leave room at the end.
    os.truncate(partial / _IMAGES, count * int(np.prod(FACE_SHAPE)))
    checksums = [zlib.crc32(np.ascontiguousarray(chunk)) for chunk in chunks(faces.images, _CHUNK)]
    notes = {name: value for name, value in faces._asdict().items() if value is not None}
    # Labels of another file are put on after reading.
    for name in ("images", "hashes", "votes", "label_digest"):
        notes.pop(name, None)
    np.savez(partial / _ABOUT, checksums=np.array(checksums, np.uint32), **notes)
    for path in partial.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _new_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A writable memmap over a new file."""
    with open(path, "wb") as file:
        # On a full disk this raises; without it, writing a page would crash the process.
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
    return np.memmap(path, np.uint8, "r+", shape=shape)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[Path]:
    """Locks an entry, and yields an unused path to write it at.

    Whatever is still at that path at the end is removed.

    Raises:
      BlockingIOError: another process has the lock, and ``wait`` is False.
    """
    lock = folder.with_name(f".{folder.name}.lock")
    with contextlib.suppress(FileExistsError):
        lock.touch(exist_ok=False)
        lock.chmod(0o666)  # It is empty, so other users of the cache can do no harm.
    # NFS locks only files that are open for writing.
    with open(lock, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _naming_cache(folder: Path) -> Iterator[None]:
    """Turns an ``OSError`` into a ``UserError`` that names the cache."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the cache ({error.strerror}); pass --cache=memory, or "
            "--cache_dir with a folder that can be written"
        ) from error
