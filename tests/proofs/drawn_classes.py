"""Draws a folder of three invented classes, to walk from a folder to answers.

    python tests/proofs/drawn_classes.py --out=drawn

Writes ``drawn/faces/<class>/0001.png`` and so on, and a new face of each class as
``drawn/<class>.png``. Each class is a mixture of facial action units that no expression of FER-2013
is; who is drawn, pose and light do not depend on the class.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from fer_pipeline.classes import IMAGE_SIZE
from fer_pipeline.datasets import face_renderer
from fer_pipeline.datasets.face_look import LOOK_SIZE, look_from_uniform

_OUT = flags.DEFINE_string("out", None, "A folder that is not there yet.", required=True)
_COUNT = flags.DEFINE_integer("count", 100, "Images of each class.", lower_bound=1)

#: The action units of each class: brows up over a wide smile, eyes pressed shut over a stretched
#: mouth, and a wrinkled nose over tight lips.
CLASSES = {"amazed": (1, 2, 12, 26), "strained": (4, 6, 7, 20), "wry": (2, 9, 23)}


def draw(name: str, count: int, seed: int) -> np.ndarray:
    """Draws faces of one class: uint8 ``[N, 48, 48]``."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    active = np.isin(face_renderer.PAINTED_UNITS, CLASSES[name])
    strength = rng.uniform(0.6, 1.0, (count, len(active)))
    noise = rng.uniform(-1, 1, (count, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)
    look = look_from_uniform(rng.random((count, LOOK_SIZE)))
    return face_renderer.paint(look, strength * active, noise)


def main(argv: list[str]) -> None:
    root = Path(_OUT.value)
    for name in CLASSES:
        folder = root / "faces" / name
        folder.mkdir(parents=True)
        for i, image in enumerate(draw(name, _COUNT.value, seed=0), start=1):
            Image.fromarray(image).save(folder / f"{i:04}.png")
        [new] = draw(name, 1, seed=1)
        Image.fromarray(new).save(root / f"{name}.png")
    print(f"{_COUNT.value:,} faces each of {', '.join(CLASSES)} in {root / 'faces'}")


if __name__ == "__main__":
    app.run(main)
