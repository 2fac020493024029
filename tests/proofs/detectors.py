"""Compares face detectors on pictures that are put together from free photographs.

    pip install '.[faces]' scikit-image 'opencv-python-headless<5'
    python tests/proofs/detectors.py

Two faces, scikit-image's ``astronaut`` and Matplotlib's ``grace_hopper.jpg`` (NASA and US Navy, in
the public domain), are pasted with their hair and a soft edge into scikit-image's photographs
without people: alone at widths from 40 to 800 pixels, turned, and in groups of six. A face is found
if a box shares 40 % (intersection over union) with its own. Prints a table: the share of faces
found, wrong boxes a picture, milliseconds a picture on one thread.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fer_pipeline.inference.faces import blazeface, boxes, detector

#: Left, top, width, height of the face, drawn by hand from the brows to the chin and ear to ear.
FACES = {"astronaut": (177, 72, 98, 98), "grace_hopper": (162, 126, 200, 200)}

#: Photographs without people.
SCENES = ("brick", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket", "text")


@functools.cache
def photograph(name: str) -> Image.Image:
    if name == "grace_hopper":
        from matplotlib import cbook

        path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    else:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        path = next(folder.glob(f"{name}.*"))
    return Image.open(path).convert("RGB")


def paste(scene: Image.Image, name: str, left: int, top: int, width: int, degrees: float) -> tuple:
    """Pastes a face of this width, turned about its centre, and returns its box."""
    x, y, side, _ = FACES[name]
    rim = 0.45 * side  # The hair and the chin belong to it.
    scale = width / side
    head = photograph(name).crop((x - rim, y - 1.4 * rim, x + side + rim, y + side + 0.6 * rim))
    head = head.resize([round(length * scale) for length in head.size], Image.Resampling.BICUBIC)
    mask = Image.new("L", head.size)
    ImageDraw.Draw(mask).ellipse([0.03 * s for s in head.size] + [0.97 * s for s in head.size], 255)
    mask = mask.filter(ImageFilter.GaussianBlur(0.02 * width))
    centre = ((rim + side / 2) * scale, (1.4 * rim + side / 2) * scale)
    turned = [one.rotate(degrees, Image.Resampling.BICUBIC, center=centre) for one in (head, mask)]
    corner = round(left - rim * scale), round(top - 1.4 * rim * scale)
    scene.paste(turned[0], corner, turned[1])
    return left, top, width, width


def scene(name: str, size: tuple[int, int]) -> Image.Image:
    return photograph(name).resize(size, Image.Resampling.BICUBIC)


def alone(width: int, size: tuple[int, int], degrees: float = 0):
    """Each face in four places of four scenes."""
    rng = np.random.default_rng(width + int(degrees))
    room = [max(1, length - width) for length in size]
    for name in FACES:
        for background in SCENES[:4]:
            picture = scene(background, size)
            left, top = (int(length * rng.uniform(0.2, 0.8)) for length in room)
            yield picture, [paste(picture, name, left, top, width, degrees)]


def groups(size: tuple[int, int]):
    """Six faces of different sizes, in two rows."""
    rng = np.random.default_rng(6)
    column = size[0] // 3
    for background in SCENES:
        picture = scene(background, size)
        truths = []
        for place in range(6):
            width = int(rng.uniform(40, 0.45 * column))
            left = place % 3 * column + int(rng.uniform(0.3, 0.7) * (column - width))
            top = int((0.3 + 0.5 * (place // 3)) * size[1] - width / 2)
            name = list(FACES)[rng.integers(2)]
            truths.append(paste(picture, name, left, top, width, rng.uniform(-15, 15)))
        yield picture, truths


def nobody(size: tuple[int, int]):
    for background in SCENES:
        yield scene(background, size), []


CASES = {
    **{f"{w} px in 640x480": functools.partial(alone, w, (640, 480)) for w in (40, 64, 128, 256)},
    **{f"{w} px in 1920x1080": functools.partial(alone, w, (1920, 1080)) for w in (40, 512)},
    **{f"{w} px in 4000x3000": functools.partial(alone, w, (4000, 3000)) for w in (40, 800)},
    **{
        f"128 px, turned by {d}": functools.partial(alone, 128, (640, 480), d)
        for d in (15, 30, 45, 60, 90)
    },
    "six faces in 1280x720": functools.partial(groups, (1280, 720)),
    "nobody in 640x480": functools.partial(nobody, (640, 480)),
    "nobody in 1920x1080": functools.partial(nobody, (1920, 1080)),
}


def one_network(network):
    """A BlazeFace network over the whole picture alone, as MediaPipe runs it."""
    find = blazeface.open_network(network)

    def detect(picture):
        height, width = picture.shape[:2]
        side = max(height, width)
        square = Image.new("RGB", (side, side))
        square.paste(Image.fromarray(picture))
        small = square.resize((network.size,) * 2, Image.Resampling.BILINEAR)
        found = find(np.asarray(small), 0.6)
        groups = boxes.group_same(found.boxes, found.scores, union=0.3, inside=0.7)
        chosen = found.boxes[[group[0] for group in groups]] * side
        return np.concatenate([chosen[:, :2], chosen[:, 2:] - chosen[:, :2]], axis=1)

    return detect


def haar():
    import cv2

    cv2.setNumThreads(1)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    return lambda picture: cascade.detectMultiScale(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 1.1, 5, minSize=(32, 32)
    )


def ours(**options):
    detect = detector.open_detector(**options)
    return lambda picture: [face.box for face in detect(picture)]


def shared(one, other):
    one, other = (np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]]) for b in (one, other))
    return boxes.overlaps(one, other[np.newaxis])[0][0]


def measure(detect, case):
    found = wrong = truths = 0
    times = []
    for picture, faces in case():
        pixels = np.asarray(picture)
        start = time.perf_counter()
        answers = list(detect(pixels))
        times.append(time.perf_counter() - start)
        hit = sum(any(shared(box, answer) > 0.4 for answer in answers) for box in faces)
        found, truths = found + hit, truths + len(faces)
        wrong += sum(not any(shared(box, answer) > 0.4 for box in faces) for answer in answers)
    share = f"{found / truths:.0%}, " if truths else ""
    return f"{share}{wrong / len(times):.1f} wrong, {1e3 * np.median(times):.0f} ms"


def main() -> None:
    detectors = {
        "tiles, full range": ours(),
        "whole, full range": one_network(blazeface.FULL_RANGE),
        "whole, short range": one_network(blazeface.SHORT_RANGE),
        "whole, back camera": one_network(blazeface.BACK_CAMERA),
        "Haar cascade": haar(),
    }
    chosen = sys.argv[1:] or detectors
    detectors = {
        name: detect for name, detect in detectors.items() if any(c in name for c in chosen)
    }
    print("|", " | ".join(["pictures", *detectors]), "|\n|", "---|" * (1 + len(detectors)))
    for name, case in CASES.items():
        cells = [measure(detect, case) for detect in detectors.values()]
        print("|", " | ".join([name, *cells]), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
