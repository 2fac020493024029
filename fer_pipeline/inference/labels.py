"""What a model's answers are called: the classes that its export, its file or its folder names."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES, NUM_CLASSES
from fer_pipeline.errors import UserError
from fer_pipeline.inference import integrity, strangers
from fer_pipeline.inference.export_files import LABELS, MANIFEST, MODEL_WEIGHTS

#: Bytes of the largest file of labels that is read: a thousand names of the longest kind.
_MOST_BYTES = 2**20

#: What ``zipfile`` raises of a file that is no archive, a damaged one, or lacks the labels.
_NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, LookupError, ValueError, RuntimeError, EOFError)

#: What ``h5py`` raises of a file that is no HDF5, a damaged one, or lacks the labels.
_NO_HDF5 = (OSError, LookupError, AttributeError, ValueError, RuntimeError, TypeError)


def find(path: Path) -> tuple[str, ...] | None:
    """The names of a model's answers; None where nothing says them.

    They are in the manifest of the export that the model lies in; or else inside the file or the
    SavedModel, those of ``model.json`` in the weights beside it; or else in a ``labels.txt`` there.

    Args:
      path: of the model file, or of the version folder of a SavedModel.

    Raises:
      UserError: the manifest or the labels are damaged.
    """
    for folder in path.resolve().parents[: integrity.LEVELS]:
        manifest = integrity.read_export(folder)
        if manifest is not None:
            return of_manifest(folder, manifest)
    text = _inside(path)
    if text is not None:
        return _names(path, text)
    beside = path.with_name(LABELS)
    return _names(beside, _read(beside)) if beside.is_file() else None


def of_manifest(folder: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
    """The labels of an export's manifest; older ones without any had FER-2013's."""
    names, run = manifest.get("labels", list(CLASS_NAMES)), manifest.get("run")
    trained_on = run.get("classes", list(CLASS_NAMES)) if isinstance(run, dict) else names
    if names != trained_on or not isinstance(names, list) or classes_lib.problem_of(names):
        raise UserError(
            f"{folder / MANIFEST}: its labels are not those that the model answers with; export it "
            "again"
        )
    return tuple(names)


def unnamed(count: int, expected: Sequence[str] = ()) -> tuple[str, ...]:
    """What answers are called that nothing names.

    Seven are FER-2013's, in its order; others are those expected if as many, else have numbers.
    """
    if count == NUM_CLASSES:
        return CLASS_NAMES
    if count == len(expected):
        return tuple(expected)
    return tuple(f"class {place}" for place in range(count))


def _inside(path: Path) -> str | None:
    """The labels that a SavedModel, a TFLite file or a Keras file brings along."""
    if path.is_dir():
        asset = path / "assets" / LABELS
        return _read(asset) if asset.is_file() else None
    weights = path.with_name(MODEL_WEIGHTS) if path.suffix == ".json" else path
    if weights.suffix == ".h5":
        return _in_hdf5(weights)
    with open(path, "rb") as file:
        return in_archive(file)


def _in_hdf5(path: Path) -> str | None:
    """The text of the labels in a file of weights; None where there are none.

    A damaged file has none: whoever reads its weights says what is wrong with it.
    """
    import h5py

    with contextlib.suppress(UserError, *_NO_HDF5), h5py.File(path) as file:
        strangers.check_hdf5(file, path)
        labels = file[LABELS]
        if labels.dtype == "uint8" and labels.size <= _MOST_BYTES:
            return bytes(labels[()]).decode(errors="replace")
    return None


def in_archive(file: BinaryIO) -> str | None:
    """The text of the labels in the archive at a file's end; None where there are none.

    A TFLite file without metadata is no archive, and other files have no labels.
    """
    with contextlib.suppress(*_NO_ARCHIVE), zipfile.ZipFile(file) as archive:
        member = archive.getinfo(LABELS)
        if member.compress_type in strangers.COMPRESSIONS and member.file_size <= _MOST_BYTES:
            with archive.open(member) as labels:
                # Without a number it would unpack all that is there, whatever the archive says.
                return labels.read(_MOST_BYTES).decode(errors="replace")
    return None


def _read(path: Path) -> str:
    with open(path, "rb") as file:
        # Some editors begin a file with a mark of its encoding.
        return file.read(_MOST_BYTES).decode("utf-8-sig", errors="replace")


def _names(path: Path, text: str) -> tuple[str, ...]:
    # No name holds a character that ends a line.
    names = tuple(text.rstrip("\r\n").splitlines())
    if problem := classes_lib.problem_of(names):
        raise UserError(f"{path}: its labels: {problem}; correct them or export the model again")
    return names
