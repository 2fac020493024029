"""Counts what a data set holds more than once, and where its labels disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Repeats(NamedTuple):
    """Images that are there more than once, by any measure of what is the same.

    Attributes:
      groups: how many are there at least twice.
      images: the images in these groups.
      conflicting: the groups whose images have different labels.
      within: by split, its images that are there again in the same split.
      in_train: by split, its images that are in the first split, too; of that one, 0.
    """

    groups: int
    images: int
    conflicting: int
    within: tuple[int, ...]
    in_train: tuple[int, ...]


def count(keys: np.ndarray, labels: np.ndarray, split_of: np.ndarray, splits: int) -> Repeats:
    """Counts repeated images.

    Args:
      keys: ``[N]``; images with equal keys are the same.
      labels: int ``[N]``.
      split_of: int ``[N]``, the number of each image's split; negative is none.
      splits: how many there are.
    """
    used = split_of >= 0
    split_of, labels = split_of[used], labels[used]
    _, group_of, sizes = np.unique(keys[used], return_inverse=True, return_counts=True)
    # Images of each group in each split.
    table = np.zeros((len(sizes), splits), np.int64)
    np.add.at(table, (group_of, split_of), 1)
    known = table[:, 0] > 0
    return Repeats(
        groups=int((sizes > 1).sum()),
        images=int(sizes[sizes > 1].sum()),
        conflicting=int(_conflicting(group_of, labels, len(sizes)).sum()),
        within=tuple(int(column[column > 1].sum()) for column in table.T),
        in_train=(0, *(int(column[known].sum()) for column in table.T[1:])),
    )


def _conflicting(group_of: np.ndarray, labels: np.ndarray, groups: int) -> np.ndarray:
    """Which groups have images of different labels: bool ``[groups]``."""
    lowest, highest = np.full(groups, np.iinfo(np.int64).max), np.full(groups, -1)
    np.minimum.at(lowest, group_of, labels)
    np.maximum.at(highest, group_of, labels)
    return lowest < highest


def conflicts(keys: np.ndarray, labels: np.ndarray, *, most: int) -> list[np.ndarray]:
    """The groups of equal images whose labels disagree most.

    They are ordered by the entropy of their labels times their size: the nats that their labels
    lack to agree. Equal ones keep the order of their first images.

    Args:
      keys: ``[N]``; images with equal keys are the same.
      labels: int ``[N]``.
      most: how many to return.

    Returns:
      Positions of the images of each group, int64 ``[K]``, ascending.
    """
    _, group_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    chosen = np.flatnonzero(_conflicting(group_of, labels, len(sizes)))
    order = np.argsort(group_of, kind="stable")
    ends = np.cumsum(sizes)
    found = [order[ends[i] - sizes[i] : ends[i]] for i in chosen]
    found.sort(key=lambda places: (-_disagreement(labels[places]), places[0]))
    return found[:most]


def _disagreement(labels: Sequence[int] | np.ndarray) -> float:
    """Entropy of labels in nats (Shannon, 1948), times their number."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(-(counts * np.log(counts / counts.sum())).sum())
