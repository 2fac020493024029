"""Cuts a source that names no splits into training, validation and test, by its pictures.

A picture's hash, as a share of all possible ones, says which part it is in: below 0.8 it is for
training, from 0.9 on for the test, and between them for validation. So a picture is in the same
part whatever is added, removed or renamed, and in whatever order pictures are read; and equal ones
are in the same part, even those of different classes. Of similar ones that is not so: what groups
them would have to move some whenever a picture links two groups.

A class of few pictures may have none in a part. The pictures of this class that are nearest to
that part, in the order of their hashes, are then moved into it. These alone may be in another part
when pictures are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline.errors import UserError

#: The shares of the hashes at which validation and test begin.
_VALIDATION_FROM, _TEST_FROM = 0.8, 0.9

#: Fewest pictures of a class for training; and in all, with one for validation and one to test.
_TRAINING, _PICTURES = 2, 4


class Cut(NamedTuple):
    """Where the images of a source were cut.

    Attributes:
      parts: int8 ``[N]``: 0 is training, 1 validation, 2 test.
      moved: how many pictures of each class its part of the hashes does not say, by its name.
    """

    parts: np.ndarray
    moved: dict[str, int]


def cut(
    source: str,
    hashes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    validation_fraction: float | None = None,
) -> Cut:
    """Cuts images into three parts, each with every class.

    Args:
      source: its name in error messages.
      hashes: uint64 ``[N]``, ``splitting.pixel_hashes``: equal where the images are.
      labels: int32 ``[N]``.
      classes: their names.
      validation_fraction: this part of the images that are not for the test is for validation, in
        place of a ninth; they are those with the highest hashes.

    Raises:
      UserError: a class has fewer than four pictures.
    """
    pictures, picture_of = np.unique(hashes, return_inverse=True)
    fraction = validation_fraction
    begin = _VALIDATION_FROM if fraction is None else _TEST_FROM * (1 - fraction)
    parts = np.searchsorted([begin, _TEST_FROM], pictures / 2.0**64, side="right").astype(np.int8)
    # The same picture may have several labels; the lowest is used.
    class_of = np.full(len(pictures), len(classes))
    np.minimum.at(class_of, picture_of, labels)
    counts = np.bincount(class_of, minlength=len(classes))
    if few := [name for name, n in zip(classes, counts, strict=True) if n < _PICTURES]:
        raise UserError(
            f"{source}: fewer than {_PICTURES} different pictures of {classes_lib.listed(few)}; a "
            "class needs two to train on, one for validation and one to test: add some, or make "
            "train/ and test/ folders"
        )
    moved = {}
    for label, name in enumerate(classes):
        # In the order of their hashes, as ``pictures`` are.
        members = np.flatnonzero(class_of == label)
        wanted = _filled(parts[members])
        if changed := int((wanted != parts[members]).sum()):
            moved[name] = changed
        parts[members] = wanted
    return Cut(parts[picture_of], moved)


def _filled(parts: np.ndarray) -> np.ndarray:
    """Ascending parts of four or more pictures, with as few changes as leave none of them empty."""
    count = len(parts)
    test_from = np.clip(np.sum(parts < 2), _TRAINING + 1, count - 1)
    validation_from = np.clip(np.sum(parts < 1), _TRAINING, test_from - 1)
    sizes = [validation_from, test_from - validation_from, count - test_from]
    return np.repeat(np.arange(3, dtype=np.int8), sizes)


def describe(found: Cut) -> str:
    """One line that says how a source was cut."""
    line = "no part is named: images are cut into train, validation and test by their content"
    if not found.moved:
        return line
    moved = ", ".join(f"{n:,} of {classes_lib.quoted(name)}" for name, n in found.moved.items())
    return f"{line}; moved, for each part to have every class: {moved}"
