"""The faces in ordinary photographs, and copies of them with boxes and labels."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fer_pipeline.atomic_files import atomic_write
from fer_pipeline.errors import UserError
from fer_pipeline.inference import reading
from fer_pipeline.inference.results import Prediction, Unreadable

if TYPE_CHECKING:
    import numpy as np

    from fer_pipeline.inference.predictor import Read
    from fer_pipeline.inference.sources import Source

#: Whether faces are looked for: always, never, or in all but pictures of one face.
Faces = Literal["auto", "always", "never"]

#: The faces in a picture: uint8 ``[H, W]`` or ``[H, W, C]``, C from 1 to 4.
Find = Callable[["np.ndarray"], list[reading.Face]]

#: With ``auto``, pictures up to this many pixels wide and high are faces cut out already.
_CUT_OUT = 64

#: What a copy says of where it comes from.
ORIGIN = "fer_pipeline.predict --annotated"

#: Bytes at either end of a file in which that stands: a film has it at its end.
_LOOKED_AT = 2**16


def open_finder(faces: Faces, *, smallest: float = 40) -> Find:
    """Makes the function that finds the faces in a picture.

    * ``"never"``: every picture is one face.
    * ``"always"``: faces are looked for in every picture.
    * ``"auto"``: a picture up to 64 pixels wide and high is one face, and so is one whose only face
      fills it (``crops.fills``); in all others faces are looked for.

    Args:
      faces: which of these.
      smallest: width in pixels of the faces to look for.

    Returns:
      A function for any number of threads. Its faces are in order from left to right. It raises
      UserError where the extra ``faces`` is needed and not installed, and the errors of
      ``images.to_face`` for what is no picture.
    """
    of_thread = threading.local()

    def find(picture: np.ndarray) -> list[reading.Face]:
        from fer_pipeline import images

        picture = images.to_colour(picture)
        height, width = picture.shape[:2]
        if faces == "never" or (faces == "auto" and max(height, width) <= _CUT_OUT):
            return [reading.Face(images.to_face(picture))]
        from fer_pipeline.inference.faces import crops, detector

        if not hasattr(of_thread, "detect"):
            of_thread.detect = detector.open_detector(smallest=smallest)
        found = sorted(of_thread.detect(picture), key=lambda face: face.box[:2])
        if faces == "auto" and len(found) == 1 and crops.fills(height, width, found[0].box):
            return [reading.Face(images.to_face(picture))]
        return [
            reading.Face(crops.cut(picture, face.box), box=whole_pixels(face.box)) for face in found
        ]

    return find


def open_reader(faces: Faces, *, smallest: float = 40) -> Read:
    """Makes the function that reads the faces in a picture file; see ``open_finder``.

    It raises UserError, without the file's name, for a picture that cannot be read, too.
    """
    if faces == "never":
        return reading.read_whole
    find = open_finder(faces, smallest=smallest)

    def read(source: Source) -> list[reading.Face]:
        from fer_pipeline import images

        return find(images.read_colour(reading.read_bytes(source.path)))

    return read


def whole_pixels(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """A box in whole pixels: left, top, width, height."""
    left, top, width, height = box
    return round(left), round(top), round(width), round(height)


def annotate_copies(
    parts: Iterable[list[Prediction | Unreadable]], folder: Path
) -> Iterator[list[Prediction | Unreadable]]:
    """Passes predictions on, and writes a copy of each of their pictures with boxes and labels.

    A copy has the name of its picture, with a number if several have the same. JPEGs stay JPEGs;
    of everything else the copy is a PNG. It takes the place of an older copy and of nothing else.

    Args:
      parts: from ``predictor.predictions``; those of one picture are together.
      folder: made if it is not there.

    Raises:
      UserError: a copy cannot be written, or would take the place of another file.
    """
    names: set[str] = set()
    for part in parts:
        good = (one for one in part if isinstance(one, Prediction))
        for file, found in itertools.groupby(good, key=lambda one: one.file):
            path = folder / unused_name(file, ".jpg" if _is_jpeg(file) else ".png", names)
            write_copy(file, list(found), path)
        yield part


def unused_name(file: str, suffix: str, names: set[str]) -> str:
    """A name for a file's copy that no other file of this run has; it is added to ``names``."""
    stem = Path(file).stem
    name = next(
        name
        for number in itertools.count(1)
        if (name := f"{stem}{f'-{number}' if number > 1 else ''}{suffix}") not in names
    )
    names.add(name)
    return name


def check_replaceable(file: str, path: Path) -> None:
    """Raises UserError if a copy would take the place of its original, or of anything but a copy.

    Args:
      file: the original: a file, or the number or address of a camera.
      path: where the copy will be written.
    """
    if not path.exists():
        return
    if os.path.exists(file) and os.path.samefile(file, path):
        raise UserError(f"--annotated: {path} is the original; name another folder")
    try:
        with open(path, "rb") as content:
            ends = content.read(_LOOKED_AT)
            content.seek(-min(_LOOKED_AT, path.stat().st_size), os.SEEK_END)
            ends += content.read()
    except OSError as error:
        raise UserError(f"--annotated: {path} cannot be read ({error.strerror})") from error
    if ORIGIN.encode() not in ends:
        raise UserError(
            f"--annotated: {path} is no copy of an earlier start and is kept; name another folder"
        )


def write_copy(file: str, found: Sequence[Prediction], path: Path) -> None:
    """Writes the copy of one picture.

    Raises:
      UserError: it cannot be written or is another file, or the picture cannot be read any more.
    """
    from PIL import Image, PngImagePlugin

    from fer_pipeline import images
    from fer_pipeline.inference.faces import annotate

    check_replaceable(file, path)
    picture = images.read_colour(reading.read_bytes(file))
    drawn = annotate.draw(picture, marks(found))
    with atomic_write(path) as temporary:
        # At a lower quality the thin letters get a halo.
        options = {"quality": 92, "subsampling": 0, "comment": ORIGIN}
        if path.suffix == ".png":
            options = {"pnginfo": PngImagePlugin.PngInfo()}
            options["pnginfo"].add_text("Software", ORIGIN)
        Image.fromarray(drawn).save(temporary, **options)


def marks(found: Sequence[Prediction]) -> list:
    """What to draw for predictions: of every face the class and its probability."""
    from fer_pipeline.inference.faces import annotate

    return [
        annotate.Mark(one.box, list(one.probabilities).index(one.label), mark_text(one))
        for one in found
        if one.label is not None
    ]


def mark_text(one: Prediction) -> str:
    """For example ``happy 93 %``, and ``3 happy 93 %`` for the third face of a film."""
    number = "" if one.track is None else f"{one.track} "
    return f"{number}{one.label} {one.probabilities[one.label]:.0%}".replace("%", " %")


def _is_jpeg(file: str) -> bool:
    return file.lower().endswith((".jpg", ".jpeg"))
