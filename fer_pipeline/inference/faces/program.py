"""Answers for a program: pictures of any kind in, a list of predictions out."""

from __future__ import annotations

import contextlib
import itertools
import os
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fer_pipeline.errors import UserError
from fer_pipeline.inference import classifier, sources
from fer_pipeline.inference.faces import asking, extra, photographs
from fer_pipeline.inference.results import Prediction, printable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Picture = str | os.PathLike[str] | np.ndarray | Image.Image

_ON_BAD_IMAGE = ("fail", "skip")


def predict(
    pictures: Picture | Iterable[Picture],
    *,
    model: str | os.PathLike[str] | None = None,
    faces: photographs.Faces = "auto",
    tta: bool = False,
    trust: bool = False,
    on_bad_image: str = "fail",
) -> list[Prediction]:
    """Names the expression on every face in pictures, as ``python -m fer_pipeline.predict`` does.

    Args:
      pictures: a path, glob or folder, or several, films among them; or a picture, or several: a
        Pillow image, or pixels 0..255 as uint8 ``[H, W]`` or ``[H, W, 3]`` (RGB), also stacked as
        ``[N, H, W, C]``.
      model: a .tflite file, a SavedModel folder, an export's ``model.json`` or ``.keras``, an
        export or a run directory; None for the pretrained model.
      faces: whether faces are looked for. ``"auto"``: in all but pictures of up to 64x64 pixels
        and those that their only face fills; ``"always"``: in all; ``"never"``: in none, every
        picture is one face.
      tta: whether to average a face and its mirror image: a little better, in twice the time. The
        pretrained model does so by itself.
      trust: whether a SavedModel or Keras file may ask for more than an export needs.
      on_bad_image: ``"skip"`` leaves out what cannot be read, ``"fail"`` raises.

    Returns:
      A prediction a face, from left to right, in the order of the pictures; films come last. A
      picture without a face has one, whose label is None. ``box`` is None where a picture was taken
      whole. ``file`` is a path as it was given or found, and None for pixels; where there are
      several of these, ``frame`` is the number of the picture, from 0.

    Raises:
      UserError: a picture cannot be read, the model cannot be opened or run, faces are to be looked
        for and the extra ``faces`` is not installed, or an argument has another value.
      TypeError: pixels are not uint8, or there are paths and pixels together.
      ValueError: they are no picture.
    """
    for name, value, choices in (
        ("faces", faces, typing.get_args(photographs.Faces)),
        ("on_bad_image", on_bad_image, _ON_BAD_IMAGE),
    ):
        if value not in choices:
            raise UserError(f"{name}={value!r}: must be one of {', '.join(choices)}")
    model = None if model is None else os.fspath(model)
    question = asking.Question(model=model, tta=tta, trust=trust, faces=faces)
    single = _is_single(pictures)
    listed = [pictures] if single else pictures if hasattr(pictures, "ndim") else list(pictures)
    is_path = [isinstance(one, str | os.PathLike) for one in listed]
    if not any(is_path):
        return _of_pixels(listed, question, numbered=not single)
    if not all(is_path):
        raise TypeError("paths and arrays together; ask for one kind at a time")
    return _of_paths([os.fspath(one) for one in listed], question, on_bad_image)


def _is_single(pictures: Any) -> bool:
    """Whether it is one path or picture, and not several."""
    if hasattr(pictures, "ndim"):
        return pictures.ndim < 4
    # A Pillow image is known by this method, so that Pillow is not imported for it.
    return isinstance(pictures, str | os.PathLike) or hasattr(pictures, "getexif")


def _of_paths(
    paths: Sequence[str], question: asking.Question, on_bad_image: str
) -> list[Prediction]:
    # "-" is a file here, and standard input the program's own.
    found = sources.expand("./-" if path == sources.STDIN else path for path in paths)
    answers = []
    with contextlib.closing(asking.of_files(found, question)) as parts:
        for one in itertools.chain.from_iterable(parts):
            if isinstance(one, Prediction):
                answers.append(one)
            # What is not installed is no fault of the picture.
            elif on_bad_image == "fail" or extra.is_missing(one.problem):
                raise UserError(f"{printable(one.file)}: {one.problem}")
    return answers


def _of_pixels(
    pictures: Iterable[np.ndarray | Image.Image], question: asking.Question, *, numbered: bool
) -> list[Prediction]:
    import numpy as np

    find = photographs.open_finder(question.faces)
    found = [find(_pixels(picture)) for picture in pictures]
    crops = [face.pixels for part in found for face in part]
    rows: Iterator[list[float]] = iter([])
    names: Sequence[str] = ()
    if crops:
        names = classifier.class_names(question.model, trust=question.trust)
        with classifier.open_classifier(
            question.model, tta=question.tta, trust=question.trust
        ) as classify:
            rows = iter(classify(np.stack(crops)).tolist())
    answers = []
    for i, part in enumerate(found):
        number = i if numbered else None
        answers += [Prediction.of(next(rows), names, frame=number, box=face.box) for face in part]
        if not part:
            answers.append(Prediction(None, number, None, None, None, None))
    return answers


def _pixels(picture: np.ndarray | Image.Image) -> np.ndarray:
    if hasattr(picture, "getexif"):
        from fer_pipeline import pictures

        return pictures.from_pillow(picture)
    import numpy as np

    return np.asarray(picture)
