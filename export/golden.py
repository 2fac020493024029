"""``golden.npz``: faces and the twin's probabilities, the proof that travels with an export.

Whoever receives the folder can run an artifact on these faces, which are drawn and so are nobody's,
and compare, without FER-2013 and without this project.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_pipeline.errors import UserError
from fer_pipeline.expressions import IMAGE_SIZE, NUM_CLASSES

_FACES = 64
_SEED = 64


class Golden(NamedTuple):
    """What the file holds, under these names.

    Attributes:
      images: uint8 ``[64, 48, 48, 1]``, grey levels 0..255.
      labels: int32 ``[64]``, the expressions that were drawn.
      probabilities: float32 ``[64, 7]``, the float32 twin's.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def faces() -> tuple[np.ndarray, np.ndarray]:
    """The golden faces and their expressions: images and labels as in ``Golden``."""
    from fer_pipeline.datasets import synthetic

    labels = np.arange(_FACES, dtype=np.int32) % NUM_CLASSES
    return synthetic.render(labels, seed=_SEED), labels


def write(path: Path, golden: Golden) -> None:
    """Writes the file; equal arrays give equal bytes (NumPy stamps members with a fixed date)."""
    np.savez_compressed(path, **golden._asdict())


def read(path: Path) -> Golden:
    """Reads the file.

    Raises:
      UserError: it is missing, damaged or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            golden = Golden(*(file[name] for name in Golden._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable golden outputs ({error})") from error
    count = len(golden.labels)
    expected = ((count, IMAGE_SIZE, IMAGE_SIZE, 1), (count,), (count, NUM_CLASSES))
    if count == 0 or tuple(array.shape for array in golden) != expected:
        raise UserError(f"{path}: holds arrays of other shapes than golden outputs have")
    return golden
