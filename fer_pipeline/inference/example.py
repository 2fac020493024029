"""A picture of a face to try the software with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from fer_pipeline.atomic_files import atomic_write
from fer_pipeline.errors import UserError

#: The face: its class in ``CLASS_NAMES`` and its seed.
_LABEL, _SEED = 3, 0


#: The file, if no other is named.
_NAME = "face.jpg"


def write_example(names: Sequence[str] = ()) -> str:
    """Writes a synthetic, happy face of 48x48 grey pixels as a JPEG, and returns its path.

    A file of that content is left as it is.

    Args:
      names: the file, or none for ``face.jpg``.

    Raises:
      UserError: more names than one, another file is there, or it cannot be written.
    """
    if len(names) > 1 or "-" in names:
        raise UserError(f"--example: writes one picture; give one name, or none for {_NAME}")
    path = Path(*names or [_NAME])
    import numpy as np
    from PIL import Image

    from fer_pipeline.datasets import synthetic

    face = synthetic.render(np.array([_LABEL]), seed=_SEED)[0, ..., 0]
    encoded = io.BytesIO()
    Image.fromarray(face).save(encoded, "JPEG", quality=95)
    content = encoded.getvalue()
    if not (path.is_file() and path.read_bytes() == content):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path}: is there already; name another file for the example")
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return str(path)
