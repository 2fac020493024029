"""Pictures in, predictions out, as a stream; ``faces.program`` makes a list of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from fer_pipeline import cores
from fer_pipeline.errors import UserError
from fer_pipeline.inference import classifier as classifier_lib
from fer_pipeline.inference import reading, streaming
from fer_pipeline.inference.classifier import Classifier
from fer_pipeline.inference.reading import Face
from fer_pipeline.inference.results import Prediction, Unreadable
from fer_pipeline.inference.sources import Source

#: Pictures that go through together, and the bytes of files after which there are no more: few
#: photographs, in which faces are looked for first, and many faces that are cut out.
_BATCH, _BATCH_BYTES = 64, 2**18

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
    pictures: Iterable[Source], classify: Classifier, read: Read, classes: Sequence[str]
) -> list[Prediction | Unreadable]:
    found = [(picture, _faces(picture, read)) for picture in pictures]
    faces = [face for _, part in found if not isinstance(part, Unreadable) for face in part]
    rows = iter(_classified(faces, classify))
    answers: list[Prediction | Unreadable] = []
    for picture, part in found:
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
