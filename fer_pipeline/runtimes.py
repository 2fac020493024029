"""Opens whatever a run leaves, each in its own runtime, and asks it for probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_pipeline import (
    checkpoints,
    integrity,
    model_calls,
    model_processes,
    run_dir,
    strangers,
)
from fer_pipeline.errors import UserError
from fer_pipeline.model_calls import Model

if TYPE_CHECKING:
    import keras

_KINDS = (
    "a .tflite file, a SavedModel folder, an export's model.json or .keras, an export, or a run "
    "directory"
)

#: Bytes 4 to 8 of a TFLite flatbuffer, and where they are.
_TFLITE_MAGIC, _TFLITE_MAGIC_AT = b"TFL3", slice(4, 8)

#: Keras' weights beside its ``model.json``.
_KERAS_WEIGHTS = "model_weights.h5"
_KERAS_SUFFIX = ".keras"
_SAVED_MODEL = "saved_model.pb"

#: Which of an export's models answers for all: the exact ones first, and of these the quickest.
_PREFERRED = (
    "float32",
    "keras_v3",
    "keras",
    "saved_model",
    "float32_rgb",
    "float16",
    "dynamic_range",
    "int8",
    "int8_rgb",
)


def open_model(path: Path, *, trust: bool = False) -> Model:
    """Opens a model; its kind is told from what is at ``path``.

    A file of an export is held to the export's manifest first, and SavedModels and Keras files to
    what an export of this software needs (``strangers``).

    Args:
      path: of the model.
      trust: whether a SavedModel or Keras file may ask for more than that.

    Raises:
      UserError: nothing is there, it is none of the known kinds, is damaged, asks for more, or
        takes or gives something else than a face and seven probabilities. The model itself may
        raise it too.
    """
    run_dir.recover_export(path)
    try:
        return _open_model(path, trust)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open_model(path: Path, trust: bool) -> Model:
    if path.is_dir():
        if (path / run_dir.CONFIG).is_file():
            return _keras_function(twin(path), path)
        if version := _saved_model_version(path):
            integrity.check(version)
            if not trust:
                strangers.check_saved_model(version)
            return lambda images: model_processes.probabilities(version, images)
        if model := _exported_model(path):
            return _open_model(model, trust)
    elif path.suffix == ".json" and path.is_file():
        return _keras_json(path, trust)
    elif path.is_file():
        integrity.check(path)
        if path.suffix == _KERAS_SUFFIX:
            return _keras_function(_keras_archive(path, trust), path)
        if _first_bytes(path)[_TFLITE_MAGIC_AT] == _TFLITE_MAGIC:
            return lambda images: model_processes.probabilities(path, images)
    else:
        raise UserError(f"{path}: no such file or folder; name {_KINDS}")
    raise UserError(f"{path}: not a model; name {_KINDS}")


def _exported_model(folder: Path) -> Path | None:
    """The model of an export that answers for it; None where the folder is no export."""
    manifest = integrity.read_export(folder)
    artifacts = manifest.get("artifacts") if manifest else None
    for name in _PREFERRED if isinstance(artifacts, dict) else ():
        entry = artifacts.get(name)
        # One that was kept back for its failures answers by its own name alone.
        if not isinstance(entry, dict) or entry.get("failures"):
            continue
        path = entry.get("path")
        # A path that leads elsewhere is not among the files that the manifest lists.
        if any(file == path or file.startswith(f"{path}/") for file in manifest["files"]):
            return folder / path
    return None


def twin(run: Path, which: str | None = None) -> keras.Model:
    """The float32 network with a run's weights.

    Args:
      run: the run directory.
      which: ``"last"`` or ``"best"`` checkpoint; None for the one that the run exported.

    Raises:
      UserError: it is no run, or has no such checkpoint or another network's.
    """
    config = run_dir.read_config(run)
    which = which or config.get("export_checkpoint", "last")
    weights = checkpoints.load_weights(run, which)

    from fer_pipeline.networks import build_model

    model = build_model(config.get("model", "notebook"))
    try:
        model.set_weights(weights)
    except ValueError as error:
        raise UserError(f"{run}: its checkpoint is not of this network; train again") from error
    return model


def _first_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _saved_model_version(path: Path) -> Path | None:
    """The version folder: ``path`` itself, or the one with the largest number in it."""
    if (path / _SAVED_MODEL).is_file():
        return path
    versions = [p for p in path.iterdir() if p.name.isdecimal() and (p / _SAVED_MODEL).is_file()]
    return max(versions, key=lambda version: int(version.name), default=None)


def _keras_json(path: Path, trust: bool) -> Model:
    import h5py
    import keras

    weights = path.with_name(_KERAS_WEIGHTS)
    if not weights.is_file():
        raise UserError(f"{weights}: not there; it belongs beside {path.name}")
    for file in (path, weights):
        integrity.check(file)
    try:
        if not trust:
            with h5py.File(weights) as file:
                strangers.check_hdf5(file, weights)
            strangers.check_keras(path)
        model = keras.models.model_from_json(path.read_text(encoding="utf-8"))
        model.load_weights(weights)
    except UserError:
        raise
    # A damaged file makes Keras, h5py and json raise nearly anything.
    except Exception as error:
        model_calls.refuse(path, error)
    return _keras_function(model, path)


def _keras_archive(path: Path, trust: bool) -> keras.Model:
    import keras

    try:
        if not trust:
            strangers.check_keras(path)
        return keras.models.load_model(path, compile=False)
    except UserError:
        raise
    # As above, and zipfile's errors.
    except Exception as error:
        model_calls.refuse(path, error)


def _keras_function(model: keras.Model, path: Path) -> Model:
    import tensorflow as tf

    model_calls.check_ends(
        path, [tensor.shape for tensor in model.inputs], [tensor.shape for tensor in model.outputs]
    )
    fixed = model.inputs[0].shape[0]

    @tf.function(reduce_retracing=True, jit_compile=False)
    def run(faces: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(faces, tf.float32), training=False)

    def guarded(images: np.ndarray) -> np.ndarray:
        try:
            return model_calls.in_batches(run, images, fixed)
        # Layers that do not fit together, or that take more memory than there is.
        except Exception as error:
            model_calls.refuse(path, error)

    return guarded
