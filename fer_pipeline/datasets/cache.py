"""Decoded faces on disk, so that a second start decodes nothing and needs no TensorFlow.

An entry is a folder of its own, named after the source and a key over the source's files and all
options that decide its contents::

    <cache_dir>/fer2013-0123456789abcdef/images.npy   uint8 [N, 48, 48, 1]
                                         labels.npy   int32 [N]
                                         splits.json  which rows are which split

It is written beside its final name and renamed when it is complete. Two processes may do so at the
same time; the first to finish wins. Entries of sources that changed or went away are not removed:
the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import Split, Splits, chunks
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES
from fer_pipeline.faces import FACE_SHAPE

_IMAGES, _LABELS, _SPLITS = "images.npy", "labels.npy", "splits.json"

#: To be raised when faces are decoded differently or the files of an entry change.
_VERSION = 1

#: Gives the uint8 array of a shape that is to hold decoded images.
Allocate = Callable[[tuple[int, ...]], np.ndarray]


class Entry(NamedTuple):
    """What an entry holds; ``splits`` are read-only memmaps."""

    splits: Splits
    converted: int
    skipped: tuple[str, ...]


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/fer_pipeline``, or ``~/.cache/fer_pipeline`` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fer_pipeline"


def entry_folder(
    cache_dir: str | os.PathLike[str] | None, name: str, source_digest: str, options: Any
) -> Path:
    """Where the entry of a source lies.

    Args:
      cache_dir: the cache, or None for ``default_folder()``.
      name: of the source, for people who look into the cache.
      source_digest: changes when the source's files do.
      options: JSON-able; whatever else decides the arrays.
    """
    parts = [_VERSION, splitting.RULE_VERSION, CLASS_NAMES, FACE_SHAPE, source_digest, options]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return (Path(cache_dir) if cache_dir else default_folder()) / f"{name}-{key}"


def load(folder: Path) -> Entry | None:
    """Maps an entry into memory; None where there is none, or a damaged one."""
    try:
        about = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))
        images = np.load(folder / _IMAGES, mmap_mode="r")
        labels = np.load(folder / _LABELS)
        rows = [range(*about["rows"][part]) for part in ("train", "validation", "test")]
        count = max(part.stop for part in rows)
        if images.shape != (count, *FACE_SHAPE) or images.dtype != np.uint8:
            return None
        if labels.shape != (count,) or labels.dtype != np.int32:
            return None
        splits = [Split(images[r.start : r.stop], labels[r.start : r.stop]) for r in rows]
        return Entry(
            Splits(*splits, selected_on=about["selected_on"]),
            about["converted"],
            tuple(about["skipped"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def store(
    folder: Path,
    decode: Callable[[Allocate], splitting.Faces],
    assign: Callable[[splitting.Faces], splitting.Assignment],
) -> Entry:
    """Decodes a source into a new entry, with no more than a chunk of images in memory.

    Args:
      folder: of the entry; what is there is replaced.
      decode: decodes all images, into the array that it is to allocate by the function it is
        given, or into memory.
      assign: divides them into splits.

    Raises:
      UserError: what the two functions raise, or that the cache cannot be written.
    """
    with _new_folder(folder) as temporary:
        staged = temporary / "staged.npy"

        faces = decode(functools.partial(_new_images, staged))
        assignment = assign(faces)
        parts = [assignment.train, assignment.validation]
        if assignment.selected_on != "test":
            parts.append(assignment.test)
        positions = np.concatenate(parts)
        in_order = np.array_equal(positions, np.arange(len(faces.labels)))
        if in_order and not faces.skipped and staged.exists():
            staged.rename(temporary / _IMAGES)
        else:
            _write_rows(temporary / _IMAGES, faces.images, positions)
            staged.unlink(missing_ok=True)
        np.save(temporary / _LABELS, faces.labels[positions])
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        about = {
            "rows": {
                "train": ends[0:2],
                "validation": ends[1:3],
                "test": ends[-2:],
            },
            "selected_on": assignment.selected_on,
            "converted": faces.converted,
            "skipped": faces.skipped,
        }
        (temporary / _SPLITS).write_text(json.dumps(about), encoding="utf-8")
    entry = load(folder)
    if entry is None:
        raise UserError(f"{folder}: the cache just written is gone; try again or --cache=memory")
    return entry


def _new_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A writable memmap over a new .npy file."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    # A full disk is an error here, and would be a crash when a page is written.
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def _write_rows(path: Path, images: np.ndarray, positions: np.ndarray) -> None:
    """Writes some images to a .npy file, a chunk at a time."""
    rows = _new_images(path, (len(positions), *FACE_SHAPE))
    end = 0
    for chunk in chunks(positions):
        rows[end : end + len(chunk)] = images[chunk]
        end += len(chunk)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``folder`` when the block succeeds."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    try:
        yield temporary
        for path in temporary.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        if load(folder) is None:
            # A damaged entry; a folder cannot be renamed onto one that is not empty.
            shutil.rmtree(folder, ignore_errors=True)
        # Where another process was first, its entry is as good.
        with contextlib.suppress(FileExistsError):
            _rename(temporary, folder)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, folder: Path) -> None:
    """Renames a folder; raises FileExistsError where the new name is taken."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if folder.exists():
            raise FileExistsError(folder) from error
        raise


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: cannot write the cache ({error.strerror}); pass --cache=memory, or "
        "--cache_dir with a folder that can be written"
    )
