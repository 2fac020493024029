"""Finds the split and class of a source's images from their paths.

Paths are relative to the source, with ``/`` between their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files as files_lib
from fer_pipeline.datasets.files import Files, printable
from fer_pipeline.datasets.splits import PRIVATE_TEST, PUBLIC_TEST, TEST, TRAIN, VALIDATION
from fer_pipeline.errors import UserError

#: Names of split folders.
SPLITS = {
    "train": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": TEST,
}

#: Kaggle's two halves of ``test/``: by the part of a file name before its first ``_``, and in the
#: CSV by the usage.
FAMILIES = {"publictest": PUBLIC_TEST, "privatetest": PRIVATE_TEST}

_LABELS = {name: label for label, name in enumerate(CLASS_NAMES)}
_CLASSES = ", ".join(CLASS_NAMES)

#: How many folders deep ``train/`` may be.
MAX_DEPTH = 3


class Listing(NamedTuple):
    """The images of a source, undecoded, sorted by split, class and name.

    Attributes:
      files: the image files.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, ``TRAIN`` to ``PRIVATE_TEST`` of ``splits``.
      left_out: names of the other files in the split folders.
    """

    files: Files
    labels: np.ndarray
    groups: np.ndarray
    left_out: tuple[str, ...]


def list_images(
    source: str,
    names: Iterable[str],
    folders: set[str],
    files_of: Callable[[Sequence[str]], Files],
) -> Listing:
    """Finds the images among a source's files.

    Args:
      source: its name in error messages.
      names: of its files.
      folders: all folders in it.
      files_of: opens the files of given names, to read those without an image's suffix.

    Raises:
      UserError: an image is in no class folder, or a split or class is missing.
    """
    prefix = find_prefix(source, folders)
    rows, left_out, present = [], [], set()
    for name in names:
        split, *inner = name.removeprefix(prefix).split("/")
        group = SPLITS.get(split.lower())
        if group is None or not name.startswith(prefix):
            continue
        if not files_lib.is_image(name, files_of):
            left_out.append(printable(f"{source}/{name}"))
            continue
        if len(inner) < 2:
            raise UserError(f"{source}/{name}: in no class folder; move it to one of {_CLASSES}")
        label = _LABELS.get(inner[0].lower())
        if label is None:
            raise UserError(
                f"{source}/{prefix}{split}/{inner[0]}: not a class; rename or remove the folder, "
                f"the classes are {_CLASSES}"
            )
        present.add((group, label))
        if group == TEST:
            family = inner[-1].lower().partition("_")[0]
            group = FAMILIES.get(family, group)
        rows.append((group, label, name))
    rows.sort()
    _check_complete(source, prefix, folders, present)
    return Listing(
        files_of([name for _, _, name in rows]),
        np.array([label for _, label, _ in rows], np.int32),
        np.array([group for group, _, _ in rows], np.int8),
        tuple(sorted(left_out)),
    )


def _check_complete(
    source: str, prefix: str, folders: set[str], present: set[tuple[int, int]]
) -> None:
    """Checks that there is ``train/``, and in every split folder an image of every class.

    ``present`` are the pairs of split and class that have one.
    """
    splits: dict[int, str] = {}
    for folder in sorted(f for f in folders if f.startswith(prefix)):
        group = SPLITS.get(folder[len(prefix) :].lower())
        if group in splits:
            raise UserError(f"{source}: has both {splits[group]}/ and {folder}/; keep one of them")
        if group is not None:
            splits[group] = folder
    if TRAIN not in splits:
        others = ", ".join(f"{folder}/" for folder in splits.values())
        raise UserError(f"{source}: has {others} but no {prefix}train/; add the training images")
    lower = {folder.lower() for folder in folders}
    for group, folder in splits.items():
        for label, name in enumerate(CLASS_NAMES):
            if (group, label) not in present:
                there = f"{folder}/{name}".lower() in lower
                raise UserError(
                    f"{source}/{folder}/{name}: {'no images in it' if there else 'not there'}; "
                    f"every split needs images of {_CLASSES}"
                )


def find_prefix(source: str, folders: set[str]) -> str:
    """Finds the parent of the split folders: ``""``, or a path that ends in ``/``."""
    parents = {f[: len(f) - len(last_part(f))] for f in folders if last_part(f) in SPLITS}
    depth = min((parent.count("/") for parent in parents), default=MAX_DEPTH)
    if depth >= MAX_DEPTH:
        found = sorted(folder for folder in folders if "/" not in folder)
        seen = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        raise UserError(
            f"{source}: no train/<class>/ folders in it (found {seen or 'no folders'}); "
            f"expected train/ and test/, each with {_CLASSES}"
        )
    nearest = sorted(parent for parent in parents if parent.count("/") == depth)
    if len(nearest) > 1:
        raise UserError(f"{source}: several data sets ({', '.join(nearest)}); pass one of them")
    return nearest[0]


def last_part(folder: str) -> str:
    """The last part of a path, in lower case."""
    return folder.rpartition("/")[2].lower()
