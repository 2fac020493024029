"""Finds FER-2013's faces in larger scenes and compares the answers for both crops.

    pip install '.[faces]' scikit-image && \
        python tests/proofs/face_margin.py --data=fer2013.zip

A face of the data set has no hair and no neck, and detectors know faces by their heads. So every
48x48 crop is put in the place of the face in one of two portraits in the public domain, enlarged
and so sharp that scaled down it is the same crop again. Around it the portrait is made darker or
lighter, so that no edge shows. The place is known; the detector is not told of it. The side and the
height of the square are chosen on training images (``--choose``), and measured on test images.
Faces that are not found are counted apart.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import sys
import zipfile
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parent))

import detectors

from fer_pipeline import images
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.inference import model_loader, pretrained
from fer_pipeline.inference.faces import crops, detector

_DATA = flags.DEFINE_string("data", None, "fer2013.zip", required=True)
_MODEL = flags.DEFINE_string("model", None, "A file, an export or a run; else the pretrained one.")
_CHOOSE = flags.DEFINE_bool("choose", False, "Training images, and a table of many squares.")
_COUNT = flags.DEFINE_integer("count", 500, "Images.")
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that compose and search.")

#: The square that the package cuts; ``cut`` changes the module's own.
SIDE, UP = crops.SIDE, crops.UP

#: Sides of a pasted crop in pixels, by turns.
SIZES = (72, 144, 288)

#: BlazeFace's box of the portraits' faces: left, top, width.
PORTRAITS = {"astronaut": (174, 70, 103), "grace_hopper": (159, 122, 206)}

#: Part of a crop's side that is its border, whose difference to the portrait is carried outwards.
RING = 1 / 24

#: The difference is computed with crops of this size: it is smooth.
SMALL = 36


@functools.cache
def portrait(name: str, size: int) -> tuple[Image.Image, int, int]:
    """A portrait scaled so that a crop of ``size`` fits over its face; left and top of the crop."""
    left, top, width = PORTRAITS[name]
    scale = size / (1.15 * width)
    picture = detectors.photograph(name).convert("L")
    picture = picture.resize([round(s * scale) for s in picture.size], Image.Resampling.LANCZOS)
    x, y = (left + width / 2) * scale, (top + 0.48 * width) * scale
    corner = round(x - 1.5 * size), round(y - 1.2 * size)
    picture = picture.crop((*corner, corner[0] + 3 * size, corner[1] + 3 * size))
    return picture, round(x - size / 2) - corner[0], round(y - size / 2) - corner[1]


def compose(crop: np.ndarray, size: int, name: str) -> tuple[np.ndarray, tuple]:
    """The crop in a portrait, and its box: left, top, size."""
    face = enlarged(crop, size)
    scene, left, top = portrait(name, size)
    light = lighting(crop, *portrait(name, SMALL)).resize(scene.size, Image.Resampling.BICUBIC)
    lit = np.clip(np.asarray(scene, np.float32) + np.asarray(light), 0, 255).astype(np.uint8)
    scene = Image.fromarray(lit)
    scene.paste(face, (left, top))
    return np.asarray(scene.convert("RGB")), (left, top, size)


def enlarged(crop: np.ndarray, size: int) -> Image.Image:
    """A picture of this size that gives the crop when it is scaled down, by back-projection.

    A photograph has the details that a blurred enlargement lacks.
    """
    levels = Image.fromarray(crop.astype(np.float32))
    picture = np.zeros((size, size), np.float32)
    for _ in range(8):
        down = Image.fromarray(picture).resize(levels.size, Image.Resampling.BILINEAR)
        missing = Image.fromarray(np.asarray(levels) - np.asarray(down))
        picture += np.asarray(missing.resize((size, size), Image.Resampling.BICUBIC))
        picture = picture.clip(0, 255)
    return Image.fromarray(np.rint(picture).astype(np.uint8))


def lighting(crop: np.ndarray, scene: Image.Image, left: int, top: int) -> Image.Image:
    """What to add to a small portrait so that a crop has no edge in it."""
    face = Image.fromarray(crop).resize((SMALL, SMALL), Image.Resampling.BILINEAR)
    levels = np.asarray(scene, np.float32)
    place = np.s_[top : top + SMALL, left : left + SMALL]
    ring = np.ones((SMALL, SMALL), bool)
    thick = max(1, round(RING * SMALL))
    ring[thick:-thick, thick:-thick] = False
    difference, known = np.zeros_like(levels), np.zeros_like(levels)
    difference[place] = np.where(ring, np.asarray(face, np.float32) - levels[place], 0)
    known[place] = ring
    # Normalised convolution: the nearest parts of the border count most.
    carried = weight = 1e-9
    for sigma in 0.5 * 2.0 ** np.arange(6):
        carried = carried + gaussian_filter(difference, sigma) / sigma**2
        weight = weight + gaussian_filter(known, sigma) / sigma**2
    return Image.fromarray((carried / weight).astype(np.float32))


def read(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a split, uint8 ``[N, 48, 48]``, and their labels."""
    with zipfile.ZipFile(_DATA.value) as archive:
        names = [n for n in archive.namelist() if f"/{split}/" in f"/{n}" and n.endswith(".jpg")]
        names = np.random.default_rng(0).permutation(sorted(names))[:count]
        crops_ = [np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names]
    return np.stack(crops_), np.array([CLASS_NAMES.index(n.split("/")[-2]) for n in names])


def cut(scene: np.ndarray, box: tuple, side: float, up: float) -> np.ndarray:
    crops.SIDE, crops.UP = side, up
    return crops.cut(scene, box)


def find(job: tuple[int, np.ndarray]) -> tuple[np.ndarray, tuple, tuple | None]:
    """A crop in a portrait, the place it was put at, and the box that the detector finds there."""
    i, crop = job
    scene, (left, top, size) = compose(crop, SIZES[i % 3], list(PORTRAITS)[i // 3 % 2])
    centre = np.array([left, top]) + size / 2
    near = [
        face.box
        for face in open_detector()(scene)
        if np.abs(np.add(face.box[:2], np.divide(face.box[2:], 2)) - centre).max() < 0.4 * size
    ]
    return scene, (left, top, size, size), near[0] if near else None


@functools.cache
def open_detector() -> detector.Detector:
    return detector.open_detector()


def main(_) -> None:
    faces, labels = read("train" if _CHOOSE.value else "test", _COUNT.value)
    with multiprocessing.get_context("spawn").Pool(_WORKERS.value) as pool:
        scenes, places, boxes = zip(*pool.imap(find, enumerate(faces), 8), strict=True)
    found = [i for i, box in enumerate(boxes) if box]
    print(f"found {len(found)} of {len(faces)}: {len(found) / len(faces):.1%}")

    path = Path(_MODEL.value) if _MODEL.value else pretrained.pretrained_path()
    model = model_loader.open_model(path)

    def right(chosen: list[np.ndarray]) -> np.ndarray:
        return model(np.stack(chosen)).argmax(axis=1) == labels[found]

    original = right([images.to_face(faces[i]) for i in found])
    print(f"original crops: {original.mean():.2%}")
    exact = right([cut(scenes[i], places[i], 1.0, 0.0) for i in found])
    print(f"cut at the known place: {exact.mean():.2%}")

    sides = (1.0, 1.06, 1.09, 1.12, 1.15, 1.18, 1.24, 1.4) if _CHOOSE.value else (SIDE,)
    ups = (0.0, 0.03, 0.06) if _CHOOSE.value else (UP,)
    measured = {
        (s, u): right([cut(scenes[i], boxes[i], s, u) for i in found]) for s in sides for u in ups
    }
    print(
        "\n| side | " + " | ".join(f"up {up:+.2f}" for up in ups), "|\n|", "---|" * (1 + len(ups))
    )
    for side in sides:
        print(
            "|",
            " | ".join([f"{side:.2f}", *(f"{measured[side, up].mean():.2%}" for up in ups)]),
            "|",
        )
    best = max(measured.values(), key=np.mean)
    lost, won = (original & ~best).sum(), (best & ~original).sum()
    spread = np.sqrt(lost + won) / len(found)
    print(f"\nlost {original.mean() - best.mean():+.2%} (standard error {spread:.2%})")
    ratios = np.array(
        [
            (places[i][2] / w, (top + h / 2 - places[i][1] - places[i][2] / 2) / w)
            for i in found
            for _, top, w, h in [boxes[i]]
        ]
    )
    print("side and up of the data set's own crops: medians", np.median(ratios, axis=0).round(3))


if __name__ == "__main__":
    app.run(main)
