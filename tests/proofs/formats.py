"""Who reads which format, and how far its grey levels are from Pillow's.

    python tests/proofs/formats.py

Prints a table of the files of ``tests/fer_pipeline/test_pictures.py``: the reader, the largest
difference to Pillow's decoding, and to the pixels that the file was made of where they are known.
Pillow has no 16-bit grey levels to compare with.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "fer_pipeline"))

import test_pictures as made

from fer_pipeline import images, pictures
from fer_pipeline.terminal import native_log


def main() -> None:
    print("| file | reader | to Pillow | to what it was made of |\n|---|---|---|---|")
    for kind, (encoded, colours) in sorted(made.KINDS.items()):
        [face] = images.decode_faces([encoded], [kind]).images[..., 0]
        reader = "TensorFlow" if pictures.read_plain_header(encoded) else "Pillow"
        with Image.open(io.BytesIO(encoded)) as image:
            theirs = made.weighted(np.asarray(image.convert("RGB")))
        to_pillow = "" if "16 bits" in kind else difference(face, theirs)
        to_source = "" if colours is None else difference(face, made.weighted(colours))
        print(f"| {kind} | {reader} | {to_pillow} | {to_source} |")


def difference(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.abs(ours.astype(int) - theirs).max())


if __name__ == "__main__":
    with native_log.redirected("/dev/null"):
        main()
