"""Finds the classes of a source, and the split and class of its images, from their paths.

Paths are relative to the source, with ``/`` between their parts. A source is flat if it has class
folders and no folder that is named like a split; ``hash_cut`` makes its splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES, FEWEST, MOST, are_fer2013
from fer_pipeline.datasets import files as files_lib
from fer_pipeline.datasets.files import Files, printable
from fer_pipeline.datasets.splits import PRIVATE_TEST, PUBLIC_TEST, TEST, TRAIN, UNSPLIT, VALIDATION
from fer_pipeline.errors import UserError

#: Names of split folders.
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": TEST,
    "testing": TEST,
}

#: Kaggle's two halves of ``test/``: by the part of a file name before its first ``_``, and in the
#: CSV by the usage.
FAMILIES = {"publictest": PUBLIC_TEST, "privatetest": PRIVATE_TEST}

#: How many folders deep ``train/``, or the class folders of a flat source, may be.
MAX_DEPTH = 3


class Listing(NamedTuple):
    """The images of a source, undecoded, sorted by split, class and name.

    Attributes:
      files: the image files.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, ``TRAIN`` to ``UNSPLIT`` of ``splits``.
      left_out: names of the other files in the split folders, or in those of a flat source.
      classes: what the labels mean, in their order.
      unread: names of the folders beside those of the splits, whose images are not read.
    """

    files: Files
    labels: np.ndarray
    groups: np.ndarray
    left_out: tuple[str, ...]
    classes: tuple[str, ...] = CLASS_NAMES
    unread: tuple[str, ...] = ()


class _Image(NamedTuple):
    """An image by the parts of its name: what its class folder lies in, that, and all of it.

    ``top`` is ``""``, or a path that ends in ``/``.
    """

    group: int
    top: str
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
        folders in ``train/``, or in a flat source, sorted. Where these are FER-2013's, in upper
        or lower case, the classes have its names.

    Raises:
      UserError: an image is in no class folder; the classes are too few, too many or badly named;
        or a split or class is missing or one too many.
    """
    prefix, flat = find_root(source, folders)
    found, left_out = _find_images(source, prefix, names, files_of, flat=flat)
    tops = {UNSPLIT: prefix} if flat else _find_splits(source, prefix, folders)
    given = classes is not None
    classes = tuple(classes if given else _find_classes(source, tops, folders, found))
    label_of = classes_lib.matcher(classes)
    rows, present = [], set()
    for image in found:
        label = label_of(image.folder)
        if label is None:
            where = printable(f"{source}/{image.top}{image.folder}")
            problem = "not among --classes" if given else f"{tops[TRAIN]} has no such class"
            raise UserError(
                f"{where}: {problem}; rename or remove it, the classes are "
                f"{classes_lib.listed(classes)}"
            )
        present.add((image.group, label))
        rows.append((image.half, label, image.name))
    rows.sort()
    _check_complete(source, tops, folders, classes, present)
    return Listing(
        files_of([name for _, _, name in rows]),
        np.array([label for _, label, _ in rows], np.int32),
        np.array([group for group, _, _ in rows], np.int8),
        left_out,
        classes,
        unread_folders(source, folders),
    )


def _find_images(
    source: str,
    prefix: str,
    names: Iterable[str],
    files_of: Callable[[Sequence[str]], Files],
    *,
    flat: bool,
) -> tuple[list[_Image], tuple[str, ...]]:
    """The images in split folders, or in those of a flat source, and the other files there."""
    found, left_out = [], []
    for name in names:
        split = name.removeprefix(prefix).partition("/")[0]
        group = UNSPLIT if flat else SPLITS.get(split.lower())
        if group is None or not name.startswith(prefix):
            continue
        if not files_lib.is_image(name, files_of):
            left_out.append(printable(f"{source}/{name}"))
            continue
        top = prefix if flat else f"{prefix}{split}/"
        folder, inside, _ = name.removeprefix(top).partition("/")
        if not inside:
            raise UserError(
                f"{printable(f'{source}/{name}')}: in no class folder; move it to {top}<class>/"
                + ("" if flat else f", or rename {split}/ if that is a class")
            )
        found.append(_Image(group, top, folder, name))
    return found, tuple(sorted(left_out))


def _find_splits(source: str, prefix: str, folders: set[str]) -> dict[int, str]:
    """The split folders, with a ``/``, by group: ``train/``, and at most one of each other."""
    splits: dict[int, str] = {}
    for folder in sorted(f for f in folders if f.startswith(prefix)):
        group = SPLITS.get(folder[len(prefix) :].lower())
        if group in splits:
            raise UserError(f"{source}: has both {splits[group]} and {folder}/; keep one of them")
        if group is not None:
            splits[group] = f"{folder}/"
    if TRAIN not in splits:
        others = ", ".join(splits.values())
        raise UserError(
            f"{source}: has {others} but no {prefix}train/; add the training images, or rename "
            f"{others} if that is a class"
        )
    return splits


def unread_folders(source: str, folders: set[str]) -> tuple[str, ...]:
    """The folders beside those of the splits, and beside the folders that these lie in.

    The arguments are those of ``find_root``, and so are the errors.
    """
    prefix, flat = find_root(source, folders)
    if flat:
        return ()
    steps = [place for place, character in enumerate(prefix) if character == "/"]
    tops = ["", *(prefix[: step + 1] for step in steps)]
    beside = {folder for top in tops for folder in _children(folders, top)}
    beside -= {top.rstrip("/") for top in tops}
    splits = {f for f in _children(folders, prefix) if last_part(f) in SPLITS}
    return tuple(sorted(map(printable, beside - splits)))


def describe_unread(names: Sequence[str]) -> str:
    """One line that names the folders that were not read."""
    shown = classes_lib.listed([f"{name}/" for name in names])
    return f"beside train/ and not read, as they are named like no split: {shown}"


def _find_classes(
    source: str, tops: dict[int, str], folders: set[str], found: Sequence[_Image]
) -> tuple[str, ...]:
    """The classes that the folders in ``train/``, or in a flat source, are."""
    group = min(tops)
    top = tops[group]
    names = {f.removeprefix(top) for f in _children(folders, top)}
    with_images = {image.folder for image in found if image.group == group}
    # A folder of something else beside FER-2013's is no eighth class.
    if are_fer2013(names) or are_fer2013(with_images):
        return CLASS_NAMES
    for name in sorted(names):
        if problem := classes_lib.problem_of_name(name):
            raise UserError(f"{printable(f'{source}/{top}{name}')}: {problem}; rename it")
    if (twice := classes_lib.repeated(sorted(names))) is not None:
        raise UserError(
            f"{printable(f'{source}/{top}{twice}')}: there twice, its accents written in two ways; "
            "put the images of both into one of them"
        )
    if not FEWEST <= len(names) <= MOST:
        counted = {0: "no class folders", 1: f"one class folder, {min(names, default='')}"}
        where = printable(f"{source}/{top}").rstrip("/")
        raise UserError(
            f"{where}: has {counted.get(len(names), f'{len(names):,} class folders')}; "
            f"{FEWEST} to {MOST:,} classes can be told apart"
        )
    return tuple(sorted(names))


def _check_complete(
    source: str,
    tops: dict[int, str],
    folders: set[str],
    classes: Sequence[str],
    present: set[tuple[int, int]],
) -> None:
    """Checks that every split folder, or a flat source, has an image of every class.

    ``present`` are the pairs of split and class that have one.
    """
    lower = {folder.lower() for folder in folders}
    for group, top in tops.items():
        for label, name in enumerate(classes):
            if (group, label) not in present:
                there = f"{top}{name}".lower() in lower
                where = printable(f"{source}/{top}{name}")
                needed = f"every split needs images of {classes_lib.listed(classes)}"
                if group == UNSPLIT:
                    needed = "every folder is a class and needs images; add some or remove it"
                raise UserError(f"{where}: {'no images in it' if there else 'not there'}; {needed}")


def find_root(source: str, folders: set[str]) -> tuple[str, bool]:
    """Finds the parent of the split folders, or of the class folders of a flat source.

    Args:
      source: its name in error messages.
      folders: all folders in it, or those of the first ``MAX_DEPTH`` levels.

    Returns:
      ``""``, or a path that ends in ``/``; and whether the source is flat.

    Raises:
      UserError: there are no folders, or several data sets, or splits below ``MAX_DEPTH`` levels.
    """
    parents = {f[: len(f) - len(last_part(f))] for f in folders if last_part(f) in SPLITS}
    depth = min((parent.count("/") for parent in parents), default=MAX_DEPTH)
    if depth >= MAX_DEPTH and (parents or not folders):
        found = sorted(folder for folder in folders if "/" not in folder)
        seen = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        raise UserError(
            f"{source}: no class folders in it (found {seen or 'no folders'}); expected a folder "
            "for every class, or train/ and test/ with these in each"
        )
    if not parents:
        return _find_flat_root(folders), True
    nearest = sorted(parent for parent in parents if parent.count("/") == depth)
    if len(nearest) > 1:
        raise UserError(f"{source}: several data sets ({', '.join(nearest)}); pass one of them")
    return nearest[0], False


def _find_flat_root(folders: set[str]) -> str:
    """The parent of class folders: archives are often packed with a folder around these."""
    prefix = ""
    for _ in range(MAX_DEPTH - 1):
        inside = _children(folders, prefix)
        if len(inside) != 1 or not _children(folders, f"{inside[0]}/"):
            break
        prefix = f"{inside[0]}/"
    return prefix


def _children(folders: set[str], top: str) -> list[str]:
    """The folders directly in one that is given with its ``/``; ``""`` is the source."""
    return [f for f in folders if f.startswith(top) and "/" not in f[len(top) :]]


def last_part(folder: str) -> str:
    """The last part of a path, in lower case."""
    return folder.rpartition("/")[2].lower()
