"""The pipeline as functions, for notebooks and programs: ``import fer_pipeline``.

From a folder of faces to files for a phone::

    import fer_pipeline

    faces = fer_pipeline.load_data("faces")
    run = fer_pipeline.train(
        faces, run="runs/mine", epochs=15, model="compact", recipe="tuned", formats=["int8"]
    )
    print(run.metrics["test"]["accuracy"])

    print(fer_pipeline.evaluate(f"{run.export}/model_int8.tflite", faces).macro_f1)
    [answer] = fer_pipeline.predict("face.jpg", model=run.export)
    print(answer.label, answer.probabilities[answer.label])

Everything that is wrong with an argument is a ``fer_pipeline.errors.UserError``; arrays that are no
pictures are a ``TypeError`` or a ``ValueError``, as with NumPy.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline import datasets, export_package, run_dir
from fer_pipeline.classes import AUTO
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE
from fer_pipeline.terminal import native_log

if TYPE_CHECKING:
    from fer_pipeline.inference.faces.program import Picture
    from fer_pipeline.inference.model_loader import Model
    from fer_pipeline.inference.results import Prediction

#: Where faces are: a source as for ``--data``, or the faces.
Data = str | os.PathLike[str] | Splits


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run that is trained.

    Attributes:
      path: the run directory.
      export: the folder of verified files in it; None where nothing was exported.
      metrics: what ``metrics.json`` holds.
      history: a row an epoch: losses in nats, accuracies, learning rate.
    """

    path: str
    export: str | None
    metrics: dict[str, Any]
    history: list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """Metrics of a model on faces.

    Attributes:
      images: how many faces.
      accuracy: share of them that are named rightly.
      loss: mean cross-entropy in nats.
      macro_f1: unweighted mean of the classes' F1.
      balanced_accuracy: unweighted mean of the recall of the classes that occur.
      per_class: precision, recall, F1 and support of every class, by its name.
      confusion: counts; rows are true classes, columns predicted ones.
      calibration: ``ece``, the expected calibration error, and the bins it is made of.
    """

    images: int
    accuracy: float
    loss: float
    macro_f1: float
    balanced_accuracy: float
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]
    calibration: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ExportedFile:
    """A file of an export, as it was verified.

    Attributes:
      format: one of ``export.spec.artifacts.ARTIFACTS``.
      path: of the file or folder.
      bytes: its size.
      accuracy: on the validation images; None where it was not measured.
      agreement: share of them for which it names the float32 network's class.
      milliseconds: median of a call with one face, on one thread.
    """

    format: str
    path: str
    bytes: int
    accuracy: float | None
    agreement: float
    milliseconds: float | None


def load_data(source: str | os.PathLike[str] = datasets.SYNTHETIC, **options: Any) -> Splits:
    """Loads faces: three splits of uint8 ``[N, 48, 48, 1]`` images and int32 ``[N]`` labels.

    Args:
      source: a folder or .zip of ``train/<class>/`` and ``test/<class>/`` or of ``<class>/``,
        which is cut into splits by the content of its images, Kaggle's CSV,
        ``"kaggle:owner/name"``, or ``"synthetic"``.
      **options: the others of ``datasets.load``, such as ``validation_fraction=0.1`` and
        ``ferplus="fer2013new.csv"``.

    Raises:
      UserError: the source or an option is wrong; says what to do.
    """
    return datasets.load(source, **options).splits


def train(
    data: Data = datasets.SYNTHETIC,
    *,
    run: str | os.PathLike[str] | None = None,
    export: bool = True,
    formats: Sequence[str] | str | None = None,
    verbose: bool = True,
    **settings: Any,
) -> TrainedRun:
    """Trains, evaluates and exports a network, as ``python -m fer_pipeline.train`` does.

    The run directory is locked meanwhile. The same call continues a run that was interrupted.

    Args:
      data: a source of faces, or what ``load_data`` gave.
      run: the run directory; by default one in ``runs/`` that is named after data and settings.
      export: whether to write and verify ``<run>/export``.
      formats: what to export; None is everything.
      verbose: whether to print what happens.
      **settings: fields of ``config.Config``, such as ``epochs=15`` and ``model="compact"``.

    Raises:
      UserError: bad data or settings, a run that is finished or was started otherwise, or an
        exported file that missed its gate.
    """
    export_package.load()
    from export.spec import artifacts

    # A mistake in them shows before anything is trained.
    artifacts.choose(formats)
    if formats is not None and not export:
        raise UserError("formats: has no effect with export=False; leave one of them out")
    splits = data if isinstance(data, Splits) else None
    source = datasets.ARRAYS if splits else os.fspath(data)
    config = Config(data=source, run_dir=os.fspath(run) if run else None, **settings)
    from export import pipeline
    from fer_pipeline import stages

    export_stage = functools.partial(pipeline.export_run, formats=formats) if export else None
    with _printing(verbose):
        path = stages.run_training(config, export_stage, splits)
    with open(path / run_dir.HISTORY, encoding="utf-8") as file:
        history = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    exported = str(path / run_dir.EXPORT) if export else None
    return TrainedRun(str(path), exported, run_dir.read_metrics(path), history)


def evaluate(
    model: str | os.PathLike[str] | TrainedRun | None = None,
    data: Data | None = None,
    *,
    split: str = "test",
) -> EvaluatedModel:
    """Measures a model on faces; writes nothing.

    Args:
      model: a run, an export, or one of its files; None is the pretrained model.
      data: a source of faces, or what ``load_data`` gave; None is the run's own.
      split: ``"train"``, ``"validation"`` or ``"test"``; or ``"all"`` of a source, which needs no
        such parts then.

    Raises:
      UserError: no such model, data or split; or no data is given where the model is no run.
    """
    from fer_pipeline.datasets import arrays
    from fer_pipeline.evaluation import metrics
    from fer_pipeline.inference import model_loader, pretrained
    from fer_pipeline.stages import evaluation

    if split not in ("train", "validation", "test", "all"):
        raise UserError(f"split={split!r}: name train, validation, test or all")
    if split == "all" and isinstance(data, Splits):
        raise UserError("split='all': these data have parts; name one of them")
    path = Path(_path(model)) if model is not None else None
    with _quiet():
        if path and (path / run_dir.CONFIG).is_file() and not isinstance(data, Splits):
            source = None if data is None else os.fspath(data)
            found = evaluation.evaluate_run(path, source, split=split).evaluation
        elif data is None:
            raise UserError("evaluate: name the data, which only a run knows by itself")
        else:
            model_path = path or pretrained.pretrained_path()
            classes = model_loader.named_classes(model_path) or AUTO
            if isinstance(data, Splits):
                source = arrays.checked(data, [split])
            elif split == "all":
                source = datasets.read(data, classes=classes)
            else:
                source = load_data(data, classes=classes, write_cache=False)
            whole = split == "all"
            faces = Split(source.images, source.labels) if whole else getattr(source, split)
            found = evaluation.evaluate_model(model_path, faces, source.classes)
    return EvaluatedModel(**metrics.as_json(found))


def load_model(path: str | os.PathLike[str] | TrainedRun | None = None) -> Model:
    """Opens a model as a function: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, C]`` probabilities.

    The function raises TypeError for arrays of another type, and ValueError for those of another
    shape.

    Args:
      path: a .tflite file, a SavedModel, Keras files, an export or a run; None is the pretrained
        model.

    Raises:
      UserError: nothing is there, or it is damaged or no model of faces.
    """
    from fer_pipeline.inference import model_loader, pretrained

    chosen = pretrained.pretrained_path() if path is None else Path(_path(path))
    model = model_loader.open_model(chosen)

    def answer(images: np.ndarray) -> np.ndarray:
        faces = np.asarray(images)
        if faces.dtype != np.uint8:
            raise TypeError(f"faces want uint8 grey levels 0..255, not {faces.dtype}")
        if faces.ndim != 4 or faces.shape[1:] != FACE_SHAPE:
            raise ValueError(f"faces want [N, 48, 48, 1], not {[*faces.shape]}")
        return model(faces)

    return answer


def export_model(
    run: str | os.PathLike[str] | TrainedRun,
    *,
    verbose: bool = True,
    **options: Any,
) -> list[ExportedFile]:
    """Exports a trained run again, as ``python -m export --run_dir`` does.

    Args:
      run: the run directory.
      verbose: whether to print what happens.
      **options: those of ``export.again.export_again``, such as ``formats=["int8"]``.

    Raises:
      UserError: it is no run, its data has changed, or a file missed its gate.
    """
    export_package.load()
    from export import again

    folder = Path(_path(run)) / run_dir.EXPORT
    with _printing(verbose):
        reports = again.export_again(Path(_path(run)), **options)
    return [
        ExportedFile(
            format=report.name,
            path=str(folder / report.path),
            bytes=report.size,
            accuracy=report.comparison.accuracy,
            agreement=report.comparison.agreement,
            milliseconds=report.latency.p50_ms if report.latency else None,
        )
        for report in reports
    ]


def predict(
    pictures: Picture | Iterable[Picture],
    *,
    model: str | os.PathLike[str] | TrainedRun | None = None,
    **options: Any,
) -> list[Prediction]:
    """Finds the faces in pictures and names their expressions, as the command ``predict`` does.

    The whole of what it takes, returns and raises is in ``inference.faces.program.predict``::

        for face in fer_pipeline.predict("photo.jpg"):
            print(face.box, face.label)

    Args:
      pictures: paths of pictures, folders or films, Pillow images, or uint8 pixels; one or several.
      model: a run, an export, or one of its files; None is the pretrained model.
      **options: such as ``faces="never"``, which takes every picture as one face.

    Returns:
      A prediction a face. Where faces were looked for it has their box; a picture without one has
      a prediction whose label is None.
    """
    from fer_pipeline.inference.faces import program

    return program.predict(pictures, model=None if model is None else _path(model), **options)


def _path(model: str | os.PathLike[str] | TrainedRun) -> str:
    return model.path if isinstance(model, TrainedRun) else os.fspath(model)


@contextlib.contextmanager
def _printing(wanted: bool) -> Iterator[None]:
    """Drops what is printed inside the block unless it is wanted."""
    with contextlib.ExitStack() as stack:
        if not wanted:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what TensorFlow prints on its start off the screen."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        yield
