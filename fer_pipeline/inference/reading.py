"""A picture's bytes, and the faces that are taken from it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.pictures import MAX_BYTES

if TYPE_CHECKING:
    import numpy as np

    from fer_pipeline.inference.sources import Source


class Face(NamedTuple):
    """A face as a model takes it.

    Attributes:
      pixels: uint8 ``[48, 48, 1]``.
      frame: the number of its frame in a video; None in a picture.
      box: left, top, width and height in the picture; None if that was taken whole.
    """

    pixels: np.ndarray
    frame: int | None = None
    box: tuple[int, int, int, int] | None = None


def read_whole(source: Source) -> list[Face]:
    """Takes a whole picture for one face.

    Raises:
      UserError: it cannot be read; says why, but not which file.
    """
    from fer_pipeline import images

    return [Face(images.read_face(read_bytes(source.path)))]


def read_bytes(path: str) -> bytes:
    """Reads a file that may be a picture.

    Raises:
      UserError: it cannot be read, is no file, or is larger than any picture should be.
    """
    try:
        # Without O_NONBLOCK a pipe would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise UserError(f"larger than {MAX_BYTES // 2**20} MiB")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from error
