"""Faces in Kaggle's CSV files: ``fer2013.csv`` and ``icml_face_data.csv``.

A row is an emotion from 0 to 6, 2,304 grey levels separated by spaces, and a usage. Columns are
found by the header, in any order and with spaces around the names: the second file's are
``emotion, Usage, pixels``. Without a usage, as in the challenge's own ``train.csv``, ``hash_cut``
makes the splits. No field contains a line break, so a row is a line.

Source: Goodfellow et al., "Challenges in representation learning: a report on three machine
learning contests", 2013.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files, layout
from fer_pipeline.datasets.splits import TRAIN, UNSPLIT, Faces
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE, OnBadImage

#: Classes in the order of the file's numbers, which is not that of ``CLASS_NAMES``.
_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LABELS = {str(code): CLASS_NAMES.index(name) for code, name in enumerate(_EMOTIONS)}
_CODES = ", ".join(f"{code} {name}" for code, name in enumerate(_EMOTIONS))

_GROUPS = {"training": TRAIN, **layout.FAMILIES}

#: Characters in a header that show another kind of file.
_OTHER_FORMATS = {
    "\0": "its encoding is UTF-16 or UTF-32",
    ";": "its columns are separated by semicolons",
    "\t": "its columns are separated by tabs",
    "|": "its columns are separated by bars",
}

_COLUMNS = ("emotion", "pixels", "usage")
_NUM_PIXELS = int(np.prod(FACE_SHAPE))

#: Characters of the longest line that is read. A face has at most 9,300.
_MAX_LINE = 2**16


def read(path: str | os.PathLike[str], *, on_bad_image: OnBadImage = "fail") -> Faces:
    """Reads a CSV file, or the only CSV file in a .zip, into memory.

    Args:
      path: of the file.
      on_bad_image: ``"fail"`` stops at a row that is not a labelled face, ``"skip"`` skips it.

    Returns:
      The images in the order of the rows.

    Raises:
      UserError: names the file and what is wrong with its header, or with which row. Rows are
        counted as a spreadsheet does: the header is row 1.
    """
    source = os.fspath(path)
    pixels, labels, groups, numbers, skipped = bytearray(), [], [], [], []
    with warnings.catch_warnings():
        # NumPy before 2.3 only warns of text that is not a number.
        warnings.simplefilter("error", DeprecationWarning)
        rows = _read_rows(source)
        emotion, faces, usage = _find_columns(source, next(rows, None))
        for number, row in rows:
            try:
                if len(row) <= max(emotion, faces, usage or 0):
                    raise ValueError(f"has {len(row)} columns, fewer than the header")
                label = _LABELS.get(row[emotion])
                group = UNSPLIT if usage is None else _GROUPS.get(row[usage].lower())
                if label is None:
                    raise ValueError(f"has emotion {_quote(row[emotion])}, not one of {_CODES}")
                if group is None:
                    names = "Training, PublicTest, PrivateTest"
                    raise ValueError(f"has Usage {_quote(row[usage])}, not one of {names}")
                pixels += _parse_face(row[faces])
            except ValueError as error:
                if on_bad_image == "fail":
                    raise UserError(
                        f"{source}: row {number} {error}; correct or remove it, or pass "
                        "--on_bad_image=skip"
                    ) from None
                skipped.append(f"{source}: row {number}")
                continue
            labels.append(label)
            groups.append(group)
            numbers.append(number)
    if not labels:
        raise UserError(f"{source}: no faces below its header; fetch the file again")
    return Faces(
        images=np.frombuffer(pixels, np.uint8).reshape(-1, *FACE_SHAPE),
        labels=np.array(labels, np.int32),
        groups=np.array(groups, np.int8),
        skipped=tuple(skipped),
        rows=np.array(numbers, np.int64),
    )


def csv_members(names: Iterable[str]) -> list[str]:
    """Selects a .zip's members that are CSV files."""
    return [n for n in names if n.lower().endswith(".csv") and not files.is_system_file(n)]


def _read_rows(source: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that is not blank, and its fields, without quotes and spaces.

    Bytes that are not UTF-8 make bad fields.
    """
    try:
        with contextlib.ExitStack() as stack:
            if zipfile.is_zipfile(source):
                members = {member.filename: member for member in files.open_zip(source)}
                names = csv_members(members)
                if len(names) != 1:
                    found = ", ".join(sorted(map(files.printable, names)))
                    what = f"several CSV files ({found})" if names else "no CSV file in it"
                    raise UserError(f"{source}: {what}; unpack it and pass one")
                files.check_readable(source, [members[names[0]]])
                archive = stack.enter_context(zipfile.ZipFile(source))
                binary = stack.enter_context(archive.open(members[names[0]]))
            else:
                binary = stack.enter_context(open(source, "rb"))
            file = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace")
            for number in itertools.count(1):
                line = file.readline(_MAX_LINE)
                if len(line) == _MAX_LINE:
                    what = f"row {number} has {_MAX_LINE:,} characters or more"
                    raise UserError(f"{source}: {what}; fetch it again")
                if not line:
                    return
                fields = [field.strip(' \t\r\n"') for field in _fields(line)]
                if any(fields):
                    yield number, fields
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{source}: damaged ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{source}: {error.strerror or error}; check the path") from error


def _fields(line: str) -> list[str]:
    """The fields of a line; one in quotes may hold commas. A quote without its second is none."""
    if '"' in line and line.count('"') % 2 == 0:
        with contextlib.suppress(csv.Error):
            return next(csv.reader([line], skipinitialspace=True))
    return line.split(",")


def _find_columns(
    source: str, header: tuple[int, Sequence[str]] | None
) -> tuple[int, int, int | None]:
    """Finds the columns of emotion, pixels and usage; None where there is no usage."""
    if header is None:
        raise UserError(f"{source}: empty file; fetch it again")
    names = [name.lower() for name in header[1]]
    missing = [name for name in _COLUMNS[:2] if name not in names]
    if missing:
        found = ", ".join(name[:40] for name in names[:8])
        for mark, what in _OTHER_FORMATS.items():
            if mark in found:
                raise UserError(f"{source}: {what}; save it as UTF-8 with commas between columns")
        raise UserError(
            f"{source}: row 1 has no column {' or '.join(missing)} (it has {found}); "
            "expected a header with emotion,pixels,Usage"
        )
    emotion, pixels, usage = (names.index(n) if n in names else None for n in _COLUMNS)
    return emotion, pixels, usage


def _parse_face(field: str) -> bytes:
    """Parses the grey levels in a field, to 2,304 bytes."""
    try:
        # The fastest way to parse these numbers; int64, because overflow is silent.
        levels = np.fromstring(field, np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        strange = next((t for t in field.split() if not t.isdecimal()), "none")
        raise ValueError(f"has a pixel that is no number: {_quote(strange)}") from None
    if levels.size != _NUM_PIXELS:
        raise ValueError(f"has {levels.size:,} pixels, not {_NUM_PIXELS:,} (48x48)")
    if levels.min() < 0 or levels.max() > 255:
        strange = levels[(levels < 0) | (levels > 255)][0]
        raise ValueError(f"has a pixel of {strange}, not 0 to 255")
    return levels.astype(np.uint8).tobytes()


def _quote(field: str) -> str:
    return repr(field if len(field) <= 20 else field[:20] + "...")
