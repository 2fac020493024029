"""``golden.npz``: faces and the reference model's probabilities, which travel with an export.

They let anyone run an artifact of the folder and compare, without FER-2013 and without this
project. The faces are drawn, so they show no person.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.errors import UserError
from fer_pipeline.inference import strangers

_FACES = 64
_SEED = 64

#: Of the arrays in the file.
_DTYPES = {
    "images": np.dtype(np.uint8),
    "labels": np.dtype(np.int32),
    "probabilities": np.dtype(np.float32),
    "plain": np.dtype(np.float32),
}
_PLAIN = "plain"

_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error)


class Golden(NamedTuple):
    """What the file holds, under these names.

    Attributes:
      images: uint8 ``[64, 48, 48, 1]``, grey levels 0..255.
      labels: int32 ``[64]``, the expressions that were drawn; of a network with other classes than
        FER-2013's, the classes that it names.
      probabilities: float32 ``[64, C]``, the float32 reference model's.
      plain: where the export is mirrored, float32 ``[64, C]`` of the faces alone, which its Keras
        files give; else None, and not in the file.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    plain: np.ndarray | None = None


def draw_faces() -> tuple[np.ndarray, np.ndarray]:
    """The golden faces and their expressions: images and labels as in ``Golden``."""
    from fer_pipeline.datasets import synthetic

    labels = np.arange(_FACES, dtype=np.int32) % NUM_CLASSES
    return synthetic.render(labels, seed=_SEED), labels


def write(path: Path, golden: Golden) -> None:
    """Writes the file; equal arrays give equal bytes (NumPy stamps members with a fixed date)."""
    arrays = {name: array for name, array in golden._asdict().items() if array is not None}
    np.savez_compressed(path, **arrays)


def read(path: Path, num_classes: int = NUM_CLASSES) -> Golden:
    """Reads the file of a network of so many classes.

    Raises:
      UserError: it is missing, damaged or holds something else.
    """
    try:
        strangers.check_archive(path)
        with zipfile.ZipFile(path) as archive:
            present = f"{_PLAIN}.npy" in archive.namelist()
            names = [name for name in Golden._fields if present or name != _PLAIN]
            golden = Golden(*(_array(archive, name) for name in names))
    # RuntimeError is zipfile's for what it cannot unpack.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, *_BAD_ARCHIVE) as error:
        raise UserError(f"{path}: not readable golden outputs ({error})") from error
    count = golden.labels.size
    answers = [array for array in (golden.probabilities, golden.plain) if array is not None]
    shapes = [golden.images.shape, golden.labels.shape, *(array.shape for array in answers)]
    expected = [(count, IMAGE_SIZE, IMAGE_SIZE, 1), (count,)]
    if count == 0 or shapes != expected + [(count, num_classes)] * len(answers):
        raise UserError(f"{path}: holds arrays of other shapes than golden outputs have")
    labelled = (golden.labels >= 0).all() and (golden.labels < num_classes).all()
    if not labelled or not all(np.isfinite(array).all() for array in answers):
        raise UserError(f"{path}: holds labels or probabilities that are none")
    return golden


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A member; its header is believed only where it fits the member's size."""
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is of another version of NumPy's format")
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
        content = file.read()
    wanted = _DTYPES[name]
    if dtype != wanted or in_columns or math.prod(shape) * wanted.itemsize != len(content):
        raise ValueError(f"{name} is {dtype} {shape}, not {wanted}, or does not fit the file")
    return np.frombuffer(content, wanted).reshape(shape)
