"""Opens whatever a run leaves, each in its own runtime, and asks it for probabilities."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from fer_pipeline import run_dir
from fer_pipeline.classes import FEWEST, IMAGE_SIZE
from fer_pipeline.errors import UserError
from fer_pipeline.inference import (
    export_files,
    integrity,
    labels,
    pretrained,
    runtime_client,
    runtime_pool,
)
from fer_pipeline.run_record import classes_of
from fer_pipeline.terminal import native_log

if TYPE_CHECKING:
    import keras
    import numpy as np

#: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, C]``.
Model = Callable[["np.ndarray"], "np.ndarray"]

_Kind = Literal["run", "saved_model", "keras", "tflite"]

_KINDS = (
    "a .tflite file, a SavedModel folder, an export's model.json or .keras, an export, or a run "
    "directory"
)

#: Bytes 4 to 8 of a TFLite flatbuffer.
_TFLITE_MAGIC = b"TFL3"


@contextlib.contextmanager
def opened(path: Path, *, trust: bool = False, processes: int = 1) -> Iterator[Model]:
    """Opens a model for as long as the block lasts; its kind is told from what is at ``path``.

    A file of an export is held to the export's manifest first, and SavedModels and Keras files to
    what an export of this software needs (``strangers``). A TFLite file is opened without
    importing TensorFlow. The model may be called from several threads.

    Args:
      path: of the model.
      trust: whether a SavedModel or Keras file may ask for more than that.
      processes: how many may run a TFLite file.

    Raises:
      UserError: nothing is there, it is none of the known kinds, is damaged, asks for more, or
        takes or gives something else than a face and a probability for each of its classes. The
        model itself may raise it too.
    """
    kind, path = _find(path)
    with contextlib.ExitStack() as stack:
        if kind != "tflite":
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            stack.enter_context(native_log.redirected(Path(scratch) / "tf.log"))
        if kind in ("run", "keras"):
            yield _keras_model(kind, path, trust)
            return
        _check_graph(kind, path, trust)
        # TensorFlow uses all cores in one process.
        processes = processes if kind == "tflite" else 1
        with _reading(path):
            names = labels.find(path)
        borrow = stack.enter_context(runtime_pool.opened(path, processes))
        yield functools.partial(_run_apart, path, borrow, names)


def open_model(path: Path, *, trust: bool = False) -> Model:
    """As ``opened``, for a call or two: a process is started for each call where one is needed."""
    kind, path = _find(path)
    if kind in ("run", "keras"):
        return _keras_model(kind, path, trust)
    _check_graph(kind, path, trust)
    with _reading(path):
        names = labels.find(path)

    def predict(images: np.ndarray) -> np.ndarray:
        with runtime_pool.opened(path) as borrow:
            return _run_apart(path, borrow, names, images)

    return predict


def class_names(
    path: Path, *, trust: bool = False, expected: Sequence[str] = ()
) -> tuple[str, ...]:
    """The names of a model's answers, in their order.

    Where nothing names them the model is opened to count them, see ``labels.unnamed``.

    Args:
      path: of the model.
      trust: as for ``opened``.
      expected: what answers without names are called, if they are as many and not seven.

    Raises:
      UserError: as ``opened``.
    """
    return named_classes(path) or labels.unnamed(_count_answers(path, trust), expected)


def named_classes(path: Path) -> tuple[str, ...] | None:
    """The names that a model brings along; None where nothing names its answers.

    A run's are in its ``config.json``, those of other models where ``labels.find`` looks.

    Raises:
      UserError: there is no model, or its labels are damaged.
    """
    kind, path = _find(path)
    with _reading(path):
        return classes_of(run_dir.read_config(path)) if kind == "run" else labels.find(path)


def _count_answers(path: Path, trust: bool) -> int:
    """The number of probabilities that a model gives of a face."""
    kind, path = _find(path)
    if kind == "keras":
        with _reading(path):
            model = _load_keras(path, trust)
        return _check_shapes(path, *_keras_shapes(model))
    _check_graph(kind, path, trust)
    try:
        with runtime_pool.opened(path) as borrow, borrow() as runtime:
            inputs, outputs = _served_shapes(runtime)
            return _check_shapes(path, inputs, outputs, channels=_channels(path))
    except runtime_client.RuntimeFailedError as error:
        _refuse(path, error)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _find(path: Path) -> tuple[_Kind, Path]:
    """The kind of a model, and its file or folder, which its manifest has been compared with."""
    run_dir.recover_export(path)
    with _reading(path):
        return _find_readable(path)


def _find_readable(path: Path) -> tuple[_Kind, Path]:
    if path.is_dir():
        if (path / run_dir.CONFIG).is_file():
            return "run", path
        if version := _saved_model_version(path):
            integrity.check(version)
            return "saved_model", version
        if model := _exported_model(path):
            return _find_readable(model)
    elif path.suffix == ".json" and path.is_file():
        weights = path.with_name(export_files.MODEL_WEIGHTS)
        if not weights.is_file():
            raise UserError(f"{weights}: not there; it belongs beside {path.name}")
        integrity.check(path)
        integrity.check(weights)
        return "keras", path
    elif path.is_file():
        integrity.check(path)
        if path.suffix == ".keras":
            return "keras", path
        with open(path, "rb") as file:
            magic = file.read(8)[4:]
        if magic == _TFLITE_MAGIC:
            return "tflite", path
    else:
        raise UserError(f"{path}: no such file or folder; name {_KINDS}")
    raise UserError(f"{path}: not a model; name {_KINDS}")


def _check_graph(kind: _Kind, path: Path, trust: bool) -> None:
    """Refuses a SavedModel that asks for more than an export of this software needs."""
    if kind == "saved_model" and not trust:
        from fer_pipeline.inference import strangers

        with _reading(path):
            strangers.check_saved_model(path)


def _exported_model(folder: Path) -> Path | None:
    """The model of an export that answers for it; None where the folder is no export."""
    manifest = integrity.read_export(folder)
    artifacts = manifest.get("artifacts") if manifest else None
    for name in export_files.PREFERRED if isinstance(artifacts, dict) else ():
        entry = artifacts.get(name)
        # One that was kept back for its failures answers by its own name alone.
        if not isinstance(entry, dict) or entry.get("failures"):
            continue
        path = entry.get("path")
        # A path that leads elsewhere is not among the files that the manifest lists.
        if any(file == path or file.startswith(f"{path}/") for file in manifest["files"]):
            return folder / path
    return None


def reference_model(
    run: Path, which: str | None = None, *, as_trained: bool = False
) -> keras.Model:
    """The float32 network with a run's weights.

    Args:
      run: the run directory.
      which: ``"last"`` or ``"best"`` checkpoint; None for the one that the run exported.
      as_trained: leaves out the temperature that the run delivers them with.

    Raises:
      UserError: it is no run, or has no such checkpoint or another network's.
    """
    from fer_pipeline.training import checkpoints

    config = run_dir.read_config(run)
    which = which or config.get("export_checkpoint", "last")
    checkpoint = checkpoints.load_end(run, which)

    from fer_pipeline.evaluation import temperature
    from fer_pipeline.models.networks import build_model

    model = build_model(config.get("model", "notebook"), len(classes_of(config)))
    try:
        model.set_weights(
            checkpoint.weights
            if as_trained
            else temperature.delivered_weights(run, which, checkpoint)
        )
    except ValueError as error:
        raise UserError(f"{run}: its checkpoint is not of this network; train again") from error
    return model


def pretrained_network() -> keras.Model:
    """The float32 network with the pretrained weights, which were kept as float16.

    They are as the folder delivers them: their temperature is folded in.

    Raises:
      UserError: this copy of the package has none, or they are damaged.
    """
    from fer_pipeline.models.networks import build_model

    path = pretrained.weights_path()
    integrity.check(path)
    model = build_model(pretrained.network_name())
    with _reading(path):
        try:
            model.load_weights(path)
        # Weights of another network, or none.
        except (ValueError, KeyError) as error:
            _refuse(path, error)
    return model


def _saved_model_version(path: Path) -> Path | None:
    """The version folder: ``path`` itself, or the one with the largest number in it."""
    graph = export_files.SAVED_MODEL_GRAPH
    if (path / graph).is_file():
        return path
    versions = [p for p in path.iterdir() if p.name.isdecimal() and (p / graph).is_file()]
    return max(versions, key=lambda version: int(version.name), default=None)


def _keras_model(kind: _Kind, path: Path, trust: bool) -> Model:
    with _reading(path):
        if kind == "run":
            return _keras_function(path, reference_model(path), None)
        return _keras_function(path, _load_keras(path, trust), labels.find(path))


def _load_keras(path: Path, trust: bool) -> keras.Model:
    from fer_pipeline.inference import keras_loader

    try:
        return keras_loader.load(path, trust=trust)
    except (UserError, OSError):
        raise
    # A damaged file makes Keras, h5py, zipfile and json raise nearly anything.
    except Exception as error:
        _refuse(path, error)


def _keras_shapes(model: keras.Model) -> tuple[list, list]:
    return [t.shape for t in model.inputs], [t.shape for t in model.outputs]


def _keras_function(path: Path, model: keras.Model, names: tuple[str, ...] | None) -> Model:
    from fer_pipeline.inference import keras_loader

    _check_shapes(path, *_keras_shapes(model), names=names)
    # Its computation uses all cores by itself.
    lock = threading.Lock()

    def predict(images: np.ndarray) -> np.ndarray:
        try:
            with lock:
                return keras_loader.predict_probabilities(model, images)
        # Layers that do not fit together, or that take more memory than there is.
        except Exception as error:
            _refuse(path, error)

    return predict


def _run_apart(
    path: Path,
    borrow: runtime_pool.Borrow,
    names: tuple[str, ...] | None,
    images: np.ndarray,
) -> np.ndarray:
    """The probabilities of a TFLite file or SavedModel, computed in a child process.

    A TFLite model for RGB gets the grey face in three equal channels: the face that every other
    model sees.
    """
    try:
        with borrow() as runtime:
            inputs, outputs = _served_shapes(runtime)
            _check_shapes(path, inputs, outputs, channels=_channels(path), names=names)
            return runtime.predict(images.repeat(inputs[0][-1], axis=-1))
    except runtime_client.RuntimeFailedError as error:
        _refuse(path, error)


def _served_shapes(runtime: runtime_client.Runtime) -> tuple[list, list]:
    """The shapes of the inputs and outputs of a model in its runtime."""
    io_spec: dict[str, Any] = runtime.io_spec()
    called = io_spec.get("signatures", {}).get("serving_default", io_spec)
    inputs, outputs = ([t["shape"] for t in called[end]] for end in ("inputs", "outputs"))
    return inputs, outputs


def _channels(path: Path) -> tuple[int, ...]:
    """The channels that the images of a SavedModel or a TFLite file may have."""
    return (1,) if path.is_dir() else (1, 3)


def _check_shapes(
    path: Path,
    inputs: list,
    outputs: list,
    *,
    channels: tuple[int, ...] = (1,),
    names: tuple[str, ...] | None = None,
) -> int:
    """The number of classes that a model answers with.

    Raises:
      UserError: the shapes are not those of a face and of a probability for each class, of which
        there are as many as ``names``; None if it is not known how many.
    """
    faces, probabilities = ([tuple(s or ())[1:] for s in shapes] for shapes in (inputs, outputs))
    face = (IMAGE_SIZE, IMAGE_SIZE, 1)
    count = probabilities[0][0] if [len(shape) for shape in probabilities] == [1] else None
    named = names is None or count == len(names)
    if faces in [[(*face[:2], c)] for c in channels] and (count or 0) >= FEWEST and named:
        return count
    shown = " -> ".join(", ".join(map(str, shapes)) for shapes in (faces, probabilities))
    wanted = f"({len(names)},)" if names else "(classes,)"
    raise UserError(
        f"{path}: another kind of model, {shown} an image, where {face} -> {wanted} is wanted"
    )


def _refuse(path: Path, error: Exception) -> NoReturn:
    """Raises the UserError for a model that its runtime does not open or run."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(f"{path}: damaged or not a model ({reason}); export it again") from error
