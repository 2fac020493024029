"""Finds the classes of a source, and the split and class of its images, from their paths.

Paths are relative to the source, with ``/`` between their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES, FEWEST, MOST, are_fer2013
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

#: How many folders deep ``train/`` may be.
MAX_DEPTH = 3


class Listing(NamedTuple):
    """The images of a source, undecoded, sorted by split, class and name.

    Attributes:
      files: the image files.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, ``TRAIN`` to ``PRIVATE_TEST`` of ``splits``.
      left_out: names of the other files in the split folders.
      classes: what the labels mean, in their order.
    """

    files: Files
    labels: np.ndarray
    groups: np.ndarray
    left_out: tuple[str, ...]
    classes: tuple[str, ...] = CLASS_NAMES


class _Image(NamedTuple):
    """An image by the parts of its name: its split, its class folder, and the name itself."""

    group: int
    split: str
    folder: str
    name: str

    @property
    def half(self) -> int:
        """The group; of ``test/`` also which of Kaggle's halves."""
        family = self.name.rpartition("/")[2].lower().partition("_")[0]
        return FAMILIES.get(family, self.group) if self.group == TEST else self.group


def list_images(
    source: str,
    names: Iterable[str],
    folders: set[str],
    files_of: Callable[[Sequence[str]], Files],
    classes: Sequence[str] | None = None,
) -> Listing:
    """Finds the images among a source's files.

    Args:
      source: its name in error messages.
      names: of its files.
      folders: all folders in it.
      files_of: opens the files of given names, to read those without an image's suffix.
      classes: names and order of the classes, which have to be those of the folders; None is the
        folders in ``train/``, sorted. Where these are FER-2013's, in upper or lower case, the
        classes have its names.

    Raises:
      UserError: an image is in no class folder; the classes are too few, too many or badly named;
        or a split or class is missing or one too many.
    """
    prefix = find_prefix(source, folders)
    found, left_out = _find_images(source, prefix, names, files_of)
    splits = _find_splits(source, prefix, folders)
    given = classes is not None
    classes = tuple(classes if given else _find_classes(source, splits[TRAIN], folders, found))
    label_of = classes_lib.matcher(classes)
    rows, present = [], set()
    for image in found:
        label = label_of(image.folder)
        if label is None:
            where = printable(f"{source}/{prefix}{image.split}/{image.folder}")
            problem = "not among --classes" if given else f"{splits[TRAIN]}/ has no such class"
            raise UserError(
                f"{where}: {problem}; rename or remove it, the classes are "
                f"{classes_lib.listed(classes)}"
            )
        present.add((image.group, label))
        rows.append((image.half, label, image.name))
    rows.sort()
    _check_complete(source, splits, folders, classes, present)
    return Listing(
        files_of([name for _, _, name in rows]),
        np.array([label for _, label, _ in rows], np.int32),
        np.array([group for group, _, _ in rows], np.int8),
        left_out,
        classes,
    )


def _find_images(
    source: str,
    prefix: str,
    names: Iterable[str],
    files_of: Callable[[Sequence[str]], Files],
) -> tuple[list[_Image], tuple[str, ...]]:
    """The images in split folders, and the names of the other files there."""
    found, left_out = [], []
    for name in names:
        split, *inner = name.removeprefix(prefix).split("/")
        group = SPLITS.get(split.lower())
        if group is None or not name.startswith(prefix):
            continue
        if not files_lib.is_image(name, files_of):
            left_out.append(printable(f"{source}/{name}"))
            continue
        if len(inner) < 2:
            raise UserError(
                f"{printable(f'{source}/{name}')}: in no class folder; move it to "
                f"{prefix}{split}/<class>/"
            )
        found.append(_Image(group, split, inner[0], name))
    return found, tuple(sorted(left_out))


def _find_splits(source: str, prefix: str, folders: set[str]) -> dict[int, str]:
    """The split folders by their group; there is ``train/``, and no two are for the same."""
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
    return splits


def _find_classes(
    source: str, train: str, folders: set[str], found: Sequence[_Image]
) -> tuple[str, ...]:
    """The classes that the folders in ``train/`` are."""
    inside = {f.removeprefix(f"{train}/") for f in folders if f.startswith(f"{train}/")}
    names = {name for name in inside if "/" not in name}
    with_images = {image.folder for image in found if image.group == TRAIN}
    # A folder of something else beside FER-2013's is no eighth class.
    if are_fer2013(names) or are_fer2013(with_images):
        return CLASS_NAMES
    for name in sorted(names):
        if problem := classes_lib.problem_of_name(name):
            raise UserError(f"{printable(f'{source}/{train}/{name}')}: {problem}; rename it")
    if not FEWEST <= len(names) <= MOST:
        counted = {0: "no class folders", 1: f"one class folder, {min(names, default='')}"}
        raise UserError(
            f"{source}/{train}: has {counted.get(len(names), f'{len(names):,} class folders')}; "
            f"{FEWEST} to {MOST:,} classes can be told apart"
        )
    return tuple(sorted(names))


def _check_complete(
    source: str,
    splits: dict[int, str],
    folders: set[str],
    classes: Sequence[str],
    present: set[tuple[int, int]],
) -> None:
    """Checks that every split folder has an image of every class.

    ``present`` are the pairs of split and class that have one.
    """
    lower = {folder.lower() for folder in folders}
    for group, folder in splits.items():
        for label, name in enumerate(classes):
            if (group, label) not in present:
                there = f"{folder}/{name}".lower() in lower
                where = printable(f"{source}/{folder}/{name}")
                raise UserError(
                    f"{where}: {'no images in it' if there else 'not there'}; "
                    f"every split needs images of {classes_lib.listed(classes)}"
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
            "expected train/ and test/, each with a folder for every class"
        )
    nearest = sorted(parent for parent in parents if parent.count("/") == depth)
    if len(nearest) > 1:
        raise UserError(f"{source}: several data sets ({', '.join(nearest)}); pass one of them")
    return nearest[0]


def last_part(folder: str) -> str:
    """The last part of a path, in lower case."""
    return folder.rpartition("/")[2].lower()
