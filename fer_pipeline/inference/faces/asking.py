"""Answers for whatever is named on a command line: pictures, films, a camera."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.inference import classifier, predictor
from fer_pipeline.inference.faces import films, photographs, video
from fer_pipeline.inference.results import Prediction, Unreadable

if TYPE_CHECKING:
    from fer_pipeline.inference.sources import Source


class Question(NamedTuple):
    """What is asked of pictures and films.

    Attributes:
      model: path of a model; None for the pretrained one.
      tta: whether to average a face and its mirror image.
      trust: whether the model may ask for more than an export needs.
      workers: processes for the model; None for one a core.
      faces: ``"auto"``, ``"always"`` or ``"never"``; films are always searched.
      annotated: folder for copies with boxes and labels; None for none.
      every: looks at every how many frames of a film.
      smooth: share of the past in a face's probabilities in a film.
      classes: the model's, if they are known.
    """

    model: str | None = None
    tta: bool = False
    trust: bool = False
    workers: int | None = None
    faces: photographs.Faces = "auto"
    annotated: Path | None = None
    every: int = 1
    smooth: float = 0.5
    classes: tuple[str, ...] | None = None


def of_files(
    found: Iterable[Source], question: Question
) -> Iterator[list[Prediction | Unreadable]]:
    """Answers for pictures as they come, and then for the films among them.

    Raises:
      UserError: the model cannot be used, a copy cannot be written, or a film needs the extra
        ``faces``.
    """
    put_aside: list[Source] = []

    def pictures() -> Iterator[Source]:
        for source in found:
            if not source.problem and video.is_video(source.path):
                put_aside.append(source)
            else:
                yield source

    parts = predictor.predictions(
        pictures(),
        model=question.model,
        tta=question.tta,
        trust=question.trust,
        workers=question.workers,
        read=photographs.open_reader(question.faces),
        classes=question.classes,
    )
    with contextlib.closing(parts):
        copied = photographs.annotate_copies(parts, question.annotated)
        yield from copied if question.annotated else parts
    names: set[str] = set()
    for film in put_aside:
        if question.faces == "never":
            raise UserError(f"{film.path}: --faces=never is for pictures; leave it out for films")
        try:
            # FFmpeg takes what is before a colon for a protocol, but not in an absolute path.
            frames = video.read(os.path.abspath(film.path))
            yield from _of_film(film.path, frames, question, names)
        except video.UnreadableError as error:
            yield [Unreadable(film.path, str(error))]


def of_camera(
    camera: str, question: Question, show: films.Show | None = None
) -> Iterator[list[Prediction | Unreadable]]:
    """Answers for what a camera sees, until it ends or its window is closed.

    Args:
      camera: its number, or a file or an address in its place.
      question: what is asked.
      show: shows the frames with boxes and labels.

    Raises:
      UserError: as ``of_files``, and if the camera cannot be used.
    """
    try:
        yield from _of_film(camera, video.watch(camera), question, set(), show)
    except video.UnreadableError as error:
        raise UserError(f"--camera={camera}: {error}") from error


def _of_film(
    file: str,
    frames: Iterator[video.Frame],
    question: Question,
    names: set[str],
    show: films.Show | None = None,
) -> Iterator[list[Prediction]]:
    from fer_pipeline.inference.faces import detector

    copy = None
    if question.annotated:
        name = f"camera{file}" if file.isdecimal() else file
        copy = question.annotated / photographs.unused_name(name, ".mp4", names)
        photographs.check_replaceable(file, copy)
    classes = question.classes or classifier.class_names(question.model, trust=question.trust)
    options: dict[str, Any] = {"tta": question.tta, "trust": question.trust}
    with (
        classifier.open_classifier(question.model, **options) as classify,
        contextlib.closing(frames),
        contextlib.closing(
            films.predictions(
                frames,
                file,
                detect=detector.open_detector(smallest=films.SMALLEST),
                classify=classify,
                classes=classes,
                every=question.every,
                smooth=question.smooth,
                copy=copy,
                show=show,
            )
        ) as parts,
    ):
        yield from parts
