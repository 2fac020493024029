"""What a data set is: classes, splits, sizes, repeated images, blank ones, mean faces."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fer_pipeline import cores, datasets, pictures
from fer_pipeline.datasets import duplicates, near_duplicates, splitting
from fer_pipeline.datasets.duplicates import Repeats
from fer_pipeline.datasets.files import Files
from fer_pipeline.datasets.splits import Faces
from fer_pipeline.datasets.splitting import Positions
from fer_pipeline.errors import UserError

#: Standard deviation in grey levels below which an image shows nothing. On FER-2013 none lies
#: between 0, that of its constant images, and 42.
_BLANK = 8.0

#: Groups of conflicting images that are kept.
_CONFLICTS = 36

_FILES = 512


class Description(NamedTuple):
    """What is known of a data set. Positions are those among all ``faces``.

    Attributes:
      source: its name.
      classes: the names of the classes, in the order of the labels.
      faces: all images.
      places: which images belong to which split.
      split_of: int64 ``[N]``, an index into ``splits``; -1 for images that no split uses.
      splits: ``("train", "validation", "test")``, or without validation where the test images are
        used for it.
      counts: int64 ``[splits, classes]``, images.
      formats: files by format, width, height and colour mode, as in ``"JPEG 48x48 L"``, the most
        frequent first; empty for a source without files.
      hashes: uint64 ``[N]``, ``splitting.pixel_hashes``.
      photographs: uint64 ``[N]``, ``near_duplicates.group``: equal for images of one photograph.
      copies: images that are equal pixel by pixel.
      similar: images of the same photograph.
      constant: positions of images with a single grey level.
      blank: positions of images with a standard deviation below 8 levels, these included.
      means: uint8 ``[classes, 48, 48, 1]``, mean of each class's training images.
      conflicts: equal images with different labels, positions by group, the worst ones first.
    """

    source: str
    classes: tuple[str, ...]
    faces: Faces
    places: Positions
    split_of: np.ndarray
    splits: tuple[str, ...]
    counts: np.ndarray
    formats: list[tuple[str, int]]
    hashes: np.ndarray
    photographs: np.ndarray
    copies: Repeats
    similar: Repeats
    constant: np.ndarray
    blank: np.ndarray
    means: np.ndarray
    conflicts: list[np.ndarray]


def describe(
    source: str | os.PathLike[str],
    faces: Faces,
    places: Positions,
) -> Description:
    """Describes a data set.

    Args:
      source: where it came from; its files are read again for their formats.
      faces: all its images, in memory.
      places: its splits.

    Raises:
      UserError: a file can no longer be read.
    """
    splits = ("train", "test") if places.selected_on == "test" else ("train", "validation", "test")
    split_of = np.full(len(faces.labels), -1)
    for i, name in enumerate(splits):
        split_of[getattr(places, name)] = i
    classes = faces.classes
    hashes = splitting.pixel_hashes(faces.images)
    photographs = near_duplicates.group(faces.images, hashes)
    flat = faces.images.reshape(len(faces.images), -1)
    deviations = _deviations(flat)
    used = split_of >= 0
    counts = np.zeros((len(splits), len(classes)), np.int64)
    np.add.at(counts, (split_of[used], faces.labels[used]), 1)
    blank = np.flatnonzero(used & (deviations < _BLANK))
    return Description(
        source=datasets.source_name(source),
        classes=classes,
        faces=faces,
        places=places,
        split_of=split_of,
        splits=splits,
        counts=counts,
        formats=formats(datasets.image_files(source, faces.classes), faces.rows),
        hashes=hashes,
        photographs=photographs,
        copies=duplicates.count(hashes, faces.labels, split_of, len(splits)),
        similar=duplicates.count(photographs, faces.labels, split_of, len(splits)),
        constant=blank[deviations[blank] == 0],
        blank=blank,
        means=mean_faces(faces.images[places.train], faces.labels[places.train], len(classes)),
        conflicts=_used_conflicts(hashes, faces.labels, np.flatnonzero(used)),
    )


def _used_conflicts(hashes: np.ndarray, labels: np.ndarray, used: np.ndarray) -> list[np.ndarray]:
    found = duplicates.conflicts(hashes[used], labels[used], most=_CONFLICTS)
    return [used[group] for group in found]


def _deviations(flat: np.ndarray) -> np.ndarray:
    """Standard deviation of the pixels of each image: uint8 ``[N, P]`` -> float64 ``[N]``."""
    found = np.empty(len(flat))
    # Image by image: as floats all of them would take gigabytes.
    for i, image in enumerate(flat):
        found[i] = image.std()
    return found


def mean_faces(images: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean of the images of each class, rounded: uint8 ``[classes, 48, 48, 1]``; 0 without any."""
    means = np.zeros((classes, *images.shape[1:]), np.uint8)
    for label in range(classes):
        of_class = np.flatnonzero(labels == label)
        total = np.zeros(images.shape[1:], np.int64)
        for start in range(0, len(of_class), _FILES):
            total += images[of_class[start : start + _FILES]].sum(axis=0, dtype=np.int64)
        means[label] = np.round(total / max(len(of_class), 1))
    return means


def formats(files: Files | None, rows: np.ndarray | None) -> list[tuple[str, int]]:
    """Counts files by format, size and colour mode, before any conversion.

    Args:
      files: of the source; None where it has none.
      rows: int64 ``[N]``, the numbers of the files to look at.

    Returns:
      ``("JPEG 48x48 L", 32298)`` and the like, the most frequent first.
    """
    if files is None or rows is None:
        return []

    def look(start: int) -> Counter[str]:
        return Counter(_format(files, row) for row in rows[start : start + _FILES])

    with ThreadPoolExecutor(cores.usable() + 1) as pool:
        found = sum(pool.map(look, range(0, len(rows), _FILES)), Counter())
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _format(files: Files, row: int) -> str:
    try:
        kind, width, height, mode = pictures.read_header(files.read(row))
    except UserError:
        raise
    except Exception:  # Damaged files make Pillow raise many kinds.
        return "unreadable"
    return f"{kind} {width}x{height} {mode}"
