"""FER+: ten people's votes in the place of FER-2013's labels.

``fer2013new.csv`` has a row for each row of ``fer2013.csv``, in the same order: ``Usage``, ``Image
name``, and how many people voted for each of eight expressions, ``unknown`` and ``NF`` (no face).
Rows without a name are of images that are no faces.

What a label is follows Barsoum et al., "Training deep networks for facial expression recognition
with crowd-sourced label distribution" (2016), and the program of its authors: what a single person
voted for is left out as an outlier, and the label is what more than half of the other votes are
for. A tie therefore has no label. Differing from them, contempt is no label, as FER-2013 lacks it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import layout
from fer_pipeline.datasets.splits import TRAIN, UNSPLIT, Faces, images_at
from fer_pipeline.errors import UserError

#: The columns of votes and the classes they are for; the last three are for none.
_CLASS_OF = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": None,
    "unknown": None,
    "nf": None,
}
_COLUMNS = tuple(_CLASS_OF)

_GROUPS = {"training": TRAIN, **layout.FAMILIES}

#: Bytes of the largest file that is read. Microsoft's has two million.
_MAX_BYTES = 2**26


class Votes(NamedTuple):
    """The rows of a file.

    Attributes:
      counts: int32 ``[N, 10]``, votes for what ``_COLUMNS`` names.
      named: bool ``[N]``, whether a row names an image.
      groups: int8 ``[N]``, as in ``Faces``.
      digest: SHA-256 of the file, hexadecimal.
    """

    counts: np.ndarray
    named: np.ndarray
    groups: np.ndarray
    digest: str


class Relabelled(NamedTuple):
    """Faces with the labels of FER+.

    Attributes:
      faces: those that have one.
      note: how many these are, and why the others have none.
    """

    faces: Faces
    note: str


def read(path: str | os.PathLike[str]) -> Votes:
    """Reads ``fer2013new.csv``.

    Raises:
      UserError: names the file and what is wrong with its header, or with which row; the header is
        row 1.
    """
    content = _read_bytes(Path(path))
    rows = _rows(path, content)
    columns = _find_columns(path, next(rows, (1, []))[1])
    usage, image, *votes = columns
    counts, named, groups = [], [], []
    for number, row in rows:
        if not any(row):
            continue
        try:
            if len(row) <= max(columns):
                raise ValueError(f"has {len(row)} columns, fewer than the header")
            groups.append(_group(row[usage]))
            counts.append([_count(row[column]) for column in votes])
            named.append(bool(row[image].strip()))
        except ValueError as error:
            raise UserError(f"{path}: row {number} {error}; fetch it again") from None
    return Votes(
        np.array(counts, np.int32).reshape(-1, len(_COLUMNS)),
        np.array(named, bool),
        np.array(groups, np.int8),
        hashlib.sha256(content).hexdigest(),
    )


def check(path: str | os.PathLike[str]) -> None:
    """Checks that there is such a file, and that its header is one of FER+.

    Raises:
      UserError: as ``read``.
    """
    content = _read_bytes(Path(path), most=2**12)
    _find_columns(path, next(_rows(path, content), (1, []))[1])


def relabel(
    source: str, faces: Faces, path: str | os.PathLike[str], *, distribution: bool = False
) -> Relabelled:
    """Labels the faces of ``fer2013.csv`` by the votes in ``fer2013new.csv``.

    Args:
      source: the name of the faces in error messages.
      faces: all of them, in the order of the rows.
      path: of ``fer2013new.csv``.
      distribution: whether to keep the votes themselves, too, to train on.

    Raises:
      UserError: as ``read``; or its rows are not those of the faces.
    """
    votes = read(path)
    _check_rows(source, faces, path, votes)
    winner, distributions = count(votes.counts)
    labels = np.array([_label(column) for column in _COLUMNS] + [-1], np.int32)[winner]
    kept = np.flatnonzero(votes.named & (labels >= 0))
    if not kept.size:
        raise UserError(f"{path}: no face has a label; fetch it again")
    found = faces._replace(
        images=images_at(faces.images, kept),
        labels=labels[kept],
        groups=faces.groups[kept],
        rows=None if faces.rows is None else faces.rows[kept],
        hashes=None if faces.hashes is None else faces.hashes[kept],
        votes=distributions[kept] if distribution else None,
        label_digest=votes.digest,
    )
    return Relabelled(found, _describe(winner, votes.named, len(kept)))


def count(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts votes by the rule above.

    Args:
      counts: int ``[N, 10]``.

    Returns:
      The column with the majority, int64 ``[N]``, or 10 where there is none; and the votes for the
      seven classes as shares of their sum, float32 ``[N, 7]``, zeros where there are none.
    """
    heard = np.where(counts > 1, counts, 0)
    most = heard.argmax(axis=1)
    majority = 2 * heard.max(axis=1) > heard.sum(axis=1)
    order = [_label(column) for column in _COLUMNS]
    shares = np.zeros((len(counts), len(CLASS_NAMES)))
    for column, label in enumerate(order):
        if label >= 0:
            shares[:, label] = heard[:, column]
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    return np.where(majority, most, len(_COLUMNS)), shares.astype(np.float32)


def _label(column: str) -> int:
    name = _CLASS_OF[column]
    return -1 if name is None else CLASS_NAMES.index(name)


def _describe(winner: np.ndarray, named: np.ndarray, kept: int) -> str:
    reasons = {
        "without an image name": ~named,
        "contempt": named & (winner == _COLUMNS.index("contempt")),
        "unknown": named & (winner == _COLUMNS.index("unknown")),
        "no face": named & (winner == _COLUMNS.index("nf")),
        "without a majority": named & (winner == len(_COLUMNS)),
    }
    dropped = ", ".join(f"{mask.sum():,} {what}" for what, mask in reasons.items() if mask.any())
    left_out = f"; left out: {dropped}" if dropped else ""
    return f"FER+ has labels for {kept:,} of {len(winner):,} faces{left_out}"


def _check_rows(source: str, faces: Faces, path: str | os.PathLike[str], votes: Votes) -> None:
    """Checks that row by row both files are of the same images, as far as they tell."""
    if faces.skipped:
        raise UserError(
            f"{source}: {len(faces.skipped):,} rows were skipped, first {faces.skipped[0]}, so "
            "that those of --ferplus cannot be told apart; fetch it again"
        )
    if len(votes.groups) != len(faces.labels):
        raise UserError(
            f"{path}: has {len(votes.groups):,} rows, and {source} has {len(faces.labels):,}; both "
            "have to be of the same faces in the same order"
        )
    # A file without a usage has nothing to compare.
    differing = np.flatnonzero((votes.groups != faces.groups) & (faces.groups != UNSPLIT))
    if differing.size:
        raise UserError(
            f"{path}: row {differing[0] + 2} has another Usage than that row of {source}; both "
            "have to be of the same faces in the same order"
        )


def _read_bytes(path: Path, most: int = _MAX_BYTES) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: too large for labels of FER+; check the path")
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check --ferplus") from error


def _rows(path: str | os.PathLike[str], content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file with their numbers from 1."""
    text = content.decode("utf-8-sig", errors="replace")
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            yield number, row
    except csv.Error as error:
        raise UserError(f"{path}: row {number + 1} is no CSV ({error}); fetch it again") from error


def _find_columns(path: str | os.PathLike[str], header: Sequence[str]) -> list[int]:
    """The columns of usage, image name and the votes, in the order of ``_COLUMNS``."""
    names = [name.strip().lower() for name in header]
    wanted = ("usage", "image name", *_COLUMNS)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(
            f"{path}: row 1 has no column {', '.join(missing)}; pass the file fer2013new.csv of "
            "Microsoft's FERPlus as --ferplus"
        )
    return [names.index(name) for name in wanted]


def _group(usage: str) -> int:
    group = _GROUPS.get(usage.strip().lower())
    if group is None:
        raise ValueError(f"has Usage {usage[:20]!r}, not Training, PublicTest or PrivateTest")
    return group


def _count(field: str) -> int:
    text = field.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise ValueError(f"has {field[:20]!r} where a number of votes belongs")
    return int(text)
