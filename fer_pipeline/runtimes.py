"""Opens whatever a run leaves, each in its own runtime, and asks it for probabilities.

A model is a function from uint8 ``[N, 48, 48, 1]`` to float32 ``[N, 7]``. TFLite files run in a
process of their own (``python -m fer_pipeline.runtimes MODEL``, images in, probabilities out, as
.npy streams): LiteRT checks a file as it reads it, but a damaged one can still crash it.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from fer_pipeline import checkpoints, integrity, run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import IMAGE_SIZE, NUM_CLASSES

if TYPE_CHECKING:
    import keras

#: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, 7]``.
Model = Callable[[np.ndarray], np.ndarray]

_KINDS = "a .tflite file, a SavedModel folder, an export's model.json or .keras, or a run directory"
_FACE = (IMAGE_SIZE, IMAGE_SIZE, 1)

#: Bytes 4 to 8 of a TFLite flatbuffer, and where they are.
_TFLITE_MAGIC, _TFLITE_MAGIC_AT = b"TFL3", slice(4, 8)

#: Status of a child process whose last line on stderr is a UserError's.
_REFUSED = 3

#: Keras' weights beside its ``model.json``.
_KERAS_WEIGHTS = "model_weights.h5"
_KERAS_SUFFIX = ".keras"
_SAVED_MODEL = "saved_model.pb"


def open_model(path: Path) -> Model:
    """Opens a model; its kind is told from what is at ``path``.

    A file of an export is held to the export's manifest first.

    Raises:
      UserError: nothing is there, it is none of the known kinds, is damaged, or takes or gives
        something else than a face and seven probabilities. The model itself may raise it too.
    """
    try:
        return _open_model(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open_model(path: Path) -> Model:
    if path.is_dir():
        if (path / run_dir.CONFIG).is_file():
            return _keras_function(twin(path), path)
        if version := _saved_model_version(path):
            integrity.check(version)
            return _saved_model(version)
    elif path.suffix == ".json" and path.is_file():
        return _keras_json(path)
    elif path.is_file():
        integrity.check(path)
        if path.suffix == _KERAS_SUFFIX:
            return _keras_function(_keras_archive(path), path)
        if _first_bytes(path)[_TFLITE_MAGIC_AT] == _TFLITE_MAGIC:
            return lambda images: _in_child(path, images)
    else:
        raise UserError(f"{path}: no such file or folder; name {_KINDS}")
    raise UserError(f"{path}: not a model; name {_KINDS}")


def twin(run: Path, which: str | None = None) -> keras.Model:
    """The float32 network with a run's weights.

    Args:
      run: the run directory.
      which: ``"last"`` or ``"best"`` checkpoint; None for the one that the run exported.

    Raises:
      UserError: it is no run, or has no such checkpoint or another network's.
    """
    if which is None:
        which = run_dir.read_config(run).get("export_checkpoint", "last")
    weights = checkpoints.load_weights(run, which)

    from fer_pipeline.model import build_model

    model = build_model()
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


def tflite_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Runs a TFLite file in this process.

    A model for RGB gets the grey face in three equal channels: the face that every other model
    sees, converted and resized as ``faces`` does it. Quantised inputs and outputs are converted by
    their tensors' scale and zero point.

    Raises:
      UserError: LiteRT refuses the file, or its input or output is another.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        _refuse(path, error)
    shapes = [i["shape"] for i in inputs], [o["shape"] for o in outputs]
    _check_contract(path, *shapes, channels=(1, 3))
    batch, *_, channels = inputs[0]["shape"]
    probabilities = np.empty((len(images), NUM_CLASSES), np.float32)
    for start in range(0, len(images), batch):
        # A last batch that is not full is filled up with its last image.
        positions = np.minimum(np.arange(start, start + batch), len(images) - 1)
        faces = images[positions].repeat(channels, axis=-1)
        interpreter.set_tensor(inputs[0]["index"], _quantised(faces, inputs[0]))
        try:
            interpreter.invoke()
        except RuntimeError as error:
            _refuse(path, error)
        answers = _dequantised(interpreter.get_tensor(outputs[0]["index"]), outputs[0])
        probabilities[start : start + batch] = answers[: len(images) - start]
    return probabilities


def _quantised(images: np.ndarray, details: dict) -> np.ndarray:
    """Grey levels as a tensor with these details takes them; a scale of 0 means no quantisation."""
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not scale:
        return images.astype(dtype)
    limits = np.iinfo(dtype)
    values = np.rint(images / scale) + zero_point
    return np.clip(values, limits.min, limits.max).astype(dtype)


def _dequantised(values: np.ndarray, details: dict) -> np.ndarray:
    scale, zero_point = details["quantization"]
    values = values.astype(np.float32)
    return (values - zero_point) * np.float32(scale) if scale else values


def _in_child(path: Path, images: np.ndarray) -> np.ndarray:
    """``tflite_probabilities`` in a child process."""
    stream = io.BytesIO()
    np.save(stream, images)
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    ended = subprocess.run(
        [sys.executable, "-m", "fer_pipeline.runtimes", str(path)],
        input=stream.getvalue(),
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if ended.returncode == 0:
        return np.load(io.BytesIO(ended.stdout), allow_pickle=False)
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise UserError(f"{path}: damaged (LiteRT crashed with {name}); export it again")
    message = ended.stderr.decode(errors="replace").strip()
    if ended.returncode == _REFUSED:
        raise UserError(message.splitlines()[-1])
    raise RuntimeError(message)


def _child(path: Path) -> int:
    """What the child process does: images from stdin, probabilities to stdout."""
    try:
        probabilities = tflite_probabilities(path, np.load(io.BytesIO(sys.stdin.buffer.read())))
    except UserError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    stream = io.BytesIO()
    np.save(stream, probabilities)
    sys.stdout.buffer.write(stream.getvalue())
    return 0


def _saved_model_version(path: Path) -> Path | None:
    """The version folder: ``path`` itself, or the one with the largest number in it."""
    if (path / _SAVED_MODEL).is_file():
        return path
    versions = [p for p in path.iterdir() if p.name.isdecimal() and (p / _SAVED_MODEL).is_file()]
    return max(versions, key=lambda version: int(version.name), default=None)


def _saved_model(path: Path) -> Model:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
        inputs = serve.structured_input_signature[1]
        outputs = serve.structured_outputs
        _check_contract(
            path, [i.shape for i in inputs.values()], [o.shape for o in outputs.values()]
        )
    except UserError:
        raise
    # A damaged folder makes TensorFlow raise nearly anything: OSError, KeyError, its own errors.
    except Exception as error:
        _refuse(path, error)
    [(input_name, spec)], [output_name] = inputs.items(), outputs

    def probabilities(images: np.ndarray) -> np.ndarray:
        # A model of a fixed batch gets one image at a time.
        parts = [images] if spec.shape[0] is None else np.split(images, len(images))
        # By way of the module, which has to outlive its signatures.
        serve = loaded.signatures["serving_default"]
        try:
            results = [serve(**{input_name: tf.cast(p, spec.dtype)})[output_name] for p in parts]
        except tf.errors.OpError as error:
            _refuse(path, error)
        return np.concatenate(results)

    return probabilities


def _keras_json(path: Path) -> Model:
    import keras

    weights = path.with_name(_KERAS_WEIGHTS)
    if not weights.is_file():
        raise UserError(f"{weights}: not there; it belongs beside {path.name}")
    for file in (path, weights):
        integrity.check(file)
    try:
        model = keras.models.model_from_json(path.read_text(encoding="utf-8"))
        model.load_weights(weights)
    # A damaged file makes Keras, h5py and json raise nearly anything.
    except Exception as error:
        _refuse(path, error)
    return _keras_function(model, path)


def _keras_archive(path: Path) -> keras.Model:
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    # As above, and zipfile's errors.
    except Exception as error:
        _refuse(path, error)


def _keras_function(model: keras.Model, path: Path) -> Model:
    _check_contract(
        path, [tensor.shape for tensor in model.inputs], [tensor.shape for tensor in model.outputs]
    )
    return lambda images: np.asarray(model(images.astype(np.float32), training=False))


def _check_contract(
    path: Path, inputs: list, outputs: list, *, channels: tuple[int, ...] = (1,)
) -> None:
    """Raises UserError where the shapes are not those of a face and seven probabilities."""
    faces, probabilities = ([tuple(s)[1:] for s in shapes] for shapes in (inputs, outputs))
    if faces not in [[(*_FACE[:2], c)] for c in channels] or probabilities != [(NUM_CLASSES,)]:
        shown = " -> ".join(", ".join(map(str, shapes)) for shapes in (faces, probabilities))
        raise UserError(
            f"{path}: another kind of model, {shown} an image, where {_FACE} -> ({NUM_CLASSES},) "
            "is wanted"
        )


def _refuse(path: Path, error: Exception) -> NoReturn:
    reason = " ".join(str(error).split())[:200]
    raise UserError(f"{path}: damaged or not a model ({reason}); export it again") from error


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
