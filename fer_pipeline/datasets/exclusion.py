"""Leaves images out of a data set that a file lists.

The file is what ``fer_pipeline.describe`` writes, or any list of one image a line:

* a CSV file whose header has a column ``sha256``. With a column ``label`` (a class name) only
  images of that label are meant, so that of two equal images the rightly labelled one stays. A
  spreadsheet may have saved it with semicolons or tabs in the place of commas;
* or a plain text, each line of which is an image's path in the source (``row 17`` for a CSV
  source), or the 64 hex digits of its ``splitting.content_hashes``, which mean every copy. A first
  line ``name``, ``path`` or ``sha256`` is a header.

Blank lines and lines that begin with ``#`` are ignored. Test images always stay.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline.datasets.splits import Split, Splits, chunks
from fer_pipeline.datasets.splitting import content_hashes
from fer_pipeline.errors import UserError

#: Bytes of the largest list that is read: more than a million lines.
_MAX_BYTES = 2**28

_HASH = re.compile(r"[0-9a-f]{64}")
_HEADERS = ("name", "path", "sha256")

#: What stands between the columns of a CSV file, as spreadsheets of several languages save it.
_DELIMITERS = ",;\t"

#: What a spreadsheet takes for a formula, full-width signs included; and the same after the
#: apostrophes that ``as_cell`` writes.
_FORMULA = re.compile("'*\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


class Line(NamedTuple):
    """A line of the file: which images it means.

    Attributes:
      number: of the line, from 1.
      text: what it says, for messages.
      digest: the images' content hash; None where it is a path.
      label: the name of the only class that is meant; None means all.
    """

    number: int
    text: str
    digest: str | None = None
    label: str | None = None


class Exclusion(NamedTuple):
    """A list of images to leave out: its file, and what that says."""

    path: str
    lines: list[Line]


class Excluded(NamedTuple):
    """What a list has left out.

    Attributes:
      path: of the list.
      train: training images that were left out.
      validation: validation images that were.
      lines: how many lines the list has.
      kept_test: how many of them mean test images, which stay.
      unmatched: those that mean no image at all.
    """

    path: str
    train: int
    validation: int
    lines: int
    kept_test: int
    unmatched: list[Line]


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, as 64 hex digits.

    Raises:
      UserError: it cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        size = os.stat(path).st_size
        if not os.path.isfile(path):
            raise UserError(f"--exclude={path}: not a file; name a list of images")
        if size > _MAX_BYTES:
            raise UserError(f"--exclude={path}: {size:,} bytes are no list of images")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--exclude={path}: {error.strerror}; check the path") from error


def read(path: str | os.PathLike[str]) -> Exclusion:
    """Reads a list.

    Raises:
      UserError: it cannot be read, or a line of a CSV file has no hash; names the line.
    """
    try:
        text = _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"--exclude={path}: is no text in UTF-8; save it as such") from error
    columns, delimiter = _header(text)
    if len(columns) > 1:
        _, *rows = _rows(path, text, delimiter)
        lines = [_parse_row(path, number, row, columns) for number, row in rows]
    else:
        numbered = [
            (i, line.rstrip("\n")) for i, line in enumerate(io.StringIO(text, newline=None), 1)
        ]
        rows = [(i, line) for i, line in numbered if not _says_nothing(line)]
        if rows and rows[0][1].strip().lower() in _HEADERS:
            rows = rows[1:]
        lines = [_parse_line(i, line) for i, line in rows]
    return Exclusion(os.fspath(path), lines)


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _header(text: str) -> tuple[list[str], str]:
    """The columns of a CSV file with hashes and what stands between them; none of another text."""
    lines = io.StringIO(text, newline=None)
    first = next((line for line in lines if not _says_nothing(line)), "")
    for delimiter in _DELIMITERS:
        columns = [name.strip() for name in _fields(first, delimiter)]
        if "sha256" in columns:
            return columns, delimiter
    return [], ""


def _fields(line: str, delimiter: str = ",") -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # A field of more than 131,072 characters.
        return []


def _rows(
    path: str | os.PathLike[str], text: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that say something, with the number of each one's first line."""
    # A name may hold a line break.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in reader:
            if any(map(str.strip, row)) and not row[0].lstrip().startswith("#"):
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"--exclude={path}: line {number} cannot be read ({error}); correct or remove it"
        ) from error


def _parse_row(
    path: str | os.PathLike[str], number: int, fields: Sequence[str], columns: Sequence[str]
) -> Line:
    row = dict(zip(columns, fields, strict=False))
    found = row.get("sha256", "").strip().lower()
    if not _HASH.fullmatch(found):
        raise UserError(
            f"--exclude={path}: line {number} has no SHA-256 in its column sha256 "
            f"({found[:20]!r}); correct or remove it"
        )
    label = row.get("label", "")
    return Line(
        number, row.get("name") or found, found, _from_cell(label) if label.strip() else None
    )


def as_cell(text: str) -> str:
    """The name of a class as a spreadsheet shows it: with an apostrophe where it were a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _from_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def as_path_cell(name: str) -> str:
    """An image's path as a spreadsheet shows it and a list may have it: no formula, no comment."""
    return f"./{name}" if name.lstrip().startswith("#") or _FORMULA.match(name) else name


def _parse_line(number: int, line: str) -> Line:
    found = line.strip().lower()
    return Line(number, line, found if _HASH.fullmatch(found) else None)


def _path(line: str, names: Container[str]) -> str:
    """The image's name that a line means: the line itself, if there is an image of this name."""
    if line in names:
        return line
    # Spreadsheets quote a cell that has a comma; shells complete a path with ./
    fields = _fields(line.strip())
    path = fields[0] if len(fields) == 1 else line.strip()
    return path.replace("\\", "/").removeprefix("./")


def describe(excluded: Excluded) -> str:
    """Says in a line or three what a list has left out."""
    said = [
        f"{excluded.path}: left out {excluded.train:,} training and {excluded.validation:,} "
        f"validation images, by {_lines(excluded.lines)}"
    ]
    if excluded.kept_test:
        said.append(f"test images, which stay, are meant by {_lines(excluded.kept_test)}")
    if excluded.unmatched:
        first = excluded.unmatched[0]
        said.append(
            f"no image is meant by {_lines(len(excluded.unmatched))}, first line {first.number}: "
            f"{first.text.strip()[:100]}"
        )
    return "\n".join(said)


def _lines(count: int) -> str:
    return f"{count:,} line{'' if count == 1 else 's'}"


def apply(
    splits: Splits,
    exclusion: Exclusion,
    names_of: Callable[[], Sequence[Sequence[str]]] | None = None,
) -> tuple[Splits, Excluded]:
    """Leaves the listed images out of training and validation.

    Args:
      splits: the data. Validation images that are the test images, too, stay.
      exclusion: the list.
      names_of: names of the images of training, validation and test; asked only if there are paths
        in the list. None where images have no names.

    Raises:
      UserError: a class is left without training or validation images.
    """
    hashed = any(line.digest for line in exclusion.lines)
    named = names_of and any(line.digest is None for line in exclusion.lines)
    all_names = names_of() if named else [None] * 3
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    known = {name for part in all_names for name in part or ()}
    wanted = _index(exclusion.lines, splits.classes, known)
    hit, masks = {}, {}
    for (use, part), part_names in zip(parts.items(), all_names, strict=True):
        if use == "validation" and splits.selected_on == "test":
            continue
        masks[use], hit[use] = _match(part, wanted, part_names, hashed=hashed)
    kept = {
        use: _keep(exclusion.path, use, parts[use], ~mask, splits.classes)
        for use, mask in masks.items()
        if use != "test" and mask.any()
    }
    if splits.train_votes is not None:
        splits = splits._replace(train_votes=splits.train_votes[~masks["train"]])
    anywhere = set().union(*hit.values())
    excluded = Excluded(
        path=exclusion.path,
        train=int(masks["train"].sum()),
        validation=int(masks["validation"].sum()) if "validation" in masks else 0,
        lines=len(exclusion.lines),
        kept_test=len(hit["test"]),
        unmatched=[line for line in exclusion.lines if line.number not in anywhere],
    )
    return splits._replace(**kept), excluded


#: By hash or path: the label that is meant, None for all, and the number of the line.
_Wanted = dict[str, list[tuple[int | None, int]]]


def _index(lines: Sequence[Line], classes: Sequence[str], names: Container[str]) -> _Wanted:
    # The list may be of the same folders under the names that a flag gave them.
    place_of = classes_lib.matcher(classes)
    found: _Wanted = {}
    for line in lines:
        label = None
        if line.label is not None:
            # Blanks belong to a name, or were typed after a comma.
            places = map(place_of, (line.label, line.label.strip()))
            # What no class has means nothing.
            label = next((place for place in places if place is not None), -1)
        found.setdefault(line.digest or _path(line.text, names), []).append((label, line.number))
    return found


def _match(
    part: Split, wanted: _Wanted, names: Sequence[str] | None, *, hashed: bool
) -> tuple[np.ndarray, set[int]]:
    """Which images are meant, bool ``[N]``, and the numbers of the lines that mean one."""
    mask, lines = np.zeros(len(part.labels), bool), set()

    def look(keys: Sequence[str]) -> None:
        for i, key in enumerate(keys):
            for label, number in wanted.get(key, ()):
                if label is None or label == part.labels[i]:
                    mask[i] = True
                    lines.add(number)

    if hashed:
        look([digest for chunk in chunks(part.images) for digest in content_hashes(chunk)])
    look(names or ())
    return mask, lines


def _keep(path: str, use: str, part: Split, kept: np.ndarray, classes: Sequence[str]) -> Split:
    missing = set(part.labels.tolist()) - set(part.labels[kept].tolist())
    if missing:
        what = {"train": "training"}.get(use, use)
        names = ", ".join(classes[label] for label in sorted(missing))
        raise UserError(f"--exclude={path}: leaves no {what} image of {names}; shorten the list")
    places = np.flatnonzero(kept)
    images = part.images
    taken = images[places] if isinstance(images, np.ndarray) else images.subset(places)
    return part._replace(images=taken, labels=part.labels[places])
