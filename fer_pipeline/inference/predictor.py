"""Pictures in, predictions out: as a stream for the command, as a list for a program."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fer_pipeline import cores
from fer_pipeline.errors import UserError
from fer_pipeline.inference import classifier as classifier_lib
from fer_pipeline.inference import reading, sources, streaming
from fer_pipeline.inference.classifier import Classifier
from fer_pipeline.inference.reading import Face
from fer_pipeline.inference.results import Prediction, Unreadable, printable
from fer_pipeline.inference.sources import Source

if TYPE_CHECKING:
    import numpy as np

#: Pictures that go through together, and the bytes of files after which there are no more.
_BATCH, _BATCH_BYTES = 64, 2**20

#: The faces in a picture; it raises UserError, without the file's name, where that is unreadable.
Read = Callable[[Source], Sequence[Face]]


def predictions(
    pictures: Iterable[Source],
    *,
    model: str | os.PathLike[str] | None = None,
    tta: bool = False,
    trust: bool = False,
    workers: int | None = None,
    read: Read = reading.read_whole,
    classes: Sequence[str] | None = None,
) -> Iterator[list[Prediction | Unreadable]]:
    """Asks a model about pictures, in the order in which they come, a part of them at a time.

    The model is opened with the first picture that may be readable.

    Args:
      pictures: from ``sources.expand``; each is opened only when its turn comes.
      model: whatever ``model_loader.opened`` takes; None for the pretrained model.
      tta: whether to average a face and its mirror image.
      trust: whether a SavedModel or Keras file may ask for more than an export needs.
      workers: processes that run a TFLite file; by default one for each core.
      read: finds the faces in a picture; called from several threads.
      classes: the model's, if they are known.

    Raises:
      UserError: the model cannot be opened or run.
    """
    pictures = iter(pictures)
    for first in pictures:
        if not first.problem:
            break
        yield [Unreadable(first.path, first.problem)]
    else:
        return
    workers = workers or cores.usable()
    names = classes or classifier_lib.class_names(model, trust=trust)

    def weight(picture: Source) -> float:
        return max(1 / _BATCH, picture.size / _BATCH_BYTES)

    with classifier_lib.open_classifier(model, tta=tta, trust=trust, processes=workers) as classify:
        # One thread more than processes: it reads while they compute.
        yield from streaming.in_order(
            itertools.chain([first], pictures),
            lambda batch: _answers(batch, classify, read, names),
            threads=workers + 1,
            weight=weight,
        )


def _answers(
    pictures: Sequence[Source], classify: Classifier, read: Read, classes: Sequence[str]
) -> list[Prediction | Unreadable]:
    found = [_faces(picture, read) for picture in pictures]
    faces = [face for part in found if not isinstance(part, Unreadable) for face in part]
    rows = iter(_classified(faces, classify))
    answers: list[Prediction | Unreadable] = []
    for picture, part in zip(pictures, found, strict=True):
        if isinstance(part, Unreadable):
            answers.append(part)
            continue
        if not part:
            answers.append(Prediction.of_nobody(picture.path))
        answers += [
            Prediction.of(next(rows), classes, file=picture.path, frame=face.frame, box=face.box)
            for face in part
        ]
    return answers


def _faces(picture: Source, read: Read) -> Sequence[Face] | Unreadable:
    if picture.problem:
        return Unreadable(picture.path, picture.problem)
    try:
        return read(picture)
    except UserError as error:
        return Unreadable(picture.path, str(error))


def _classified(faces: Sequence[Face], classify: Classifier) -> list[list[float]]:
    import numpy as np

    return classify(np.stack([face.pixels for face in faces])).tolist() if faces else []


def predict(
    pictures: str | os.PathLike[str] | np.ndarray | Iterable[str | os.PathLike[str] | np.ndarray],
    *,
    model: str | os.PathLike[str] | None = None,
    tta: bool = False,
    trust: bool = False,
    on_bad_image: str = "fail",
    read: Read = reading.read_whole,
) -> list[Prediction]:
    """Names the expression on pictures of faces.

    Args:
      pictures: a path, glob or folder, or several; or pixels 0..255 as uint8: faces
        ``[N, 48, 48, 1]``, a picture ``[H, W]`` or ``[H, W, 3]`` (RGB), or several of these.
      model: a .tflite file, a SavedModel folder, an export's ``model.json`` or ``.keras``, an
        export or a run directory; None for the pretrained model.
      tta: whether to average a face and its mirror image: a little better, in twice the time.
      trust: whether a SavedModel or Keras file may ask for more than an export needs.
      on_bad_image: ``"skip"`` leaves out what cannot be read, ``"fail"`` raises.
      read: finds the faces in a picture file; by default it is one face as a whole.

    Returns:
      A prediction a face, in order.

    Raises:
      UserError: a picture cannot be read, or the model cannot be opened or run.
      TypeError: pixels are not uint8.
      ValueError: they are no picture.
    """
    if isinstance(pictures, str | os.PathLike):
        pictures = [pictures]
    elif not hasattr(pictures, "ndim"):
        pictures = list(pictures)
    is_path = [isinstance(one, str | os.PathLike) for one in pictures]
    if not any(is_path):
        return _of_arrays(pictures, model=model, tta=tta, trust=trust)
    if not all(is_path):
        raise TypeError("paths and arrays together; ask for one kind at a time")
    # "-" is a file here, and standard input the program's own.
    names = (os.fspath(one) for one in pictures)
    found = sources.expand("./-" if name == sources.STDIN else name for name in names)
    answers = []
    with contextlib.closing(
        predictions(found, model=model, tta=tta, trust=trust, read=read)
    ) as parts:
        for one in itertools.chain.from_iterable(parts):
            if isinstance(one, Prediction):
                answers.append(one)
            elif on_bad_image == "fail":
                raise UserError(f"{printable(one.file)}: {one.problem}")
    return answers


def _of_arrays(
    pictures: np.ndarray | Iterable[np.ndarray],
    *,
    model: str | os.PathLike[str] | None,
    tta: bool,
    trust: bool,
) -> list[Prediction]:
    import numpy as np

    from fer_pipeline import images

    if isinstance(pictures, np.ndarray) and pictures.ndim < 4:
        pictures = [pictures]
    faces = [images.to_face(np.asarray(picture)) for picture in pictures]
    if not faces:
        return []
    names = classifier_lib.class_names(model, trust=trust)
    with classifier_lib.open_classifier(model, tta=tta, trust=trust) as classify:
        return [Prediction.of(row, names) for row in classify(np.stack(faces)).tolist()]
