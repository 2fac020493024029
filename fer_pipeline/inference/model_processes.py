"""TFLite files and SavedModels, each run in a process of its own.

What is damaged can crash a runtime, and what is meant badly can keep it busy for ever. The process
is ``python -m fer_pipeline.inference.model_processes MODEL``: images in, probabilities out, as .npy
streams.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from fer_pipeline import child_processes
from fer_pipeline.errors import UserError
from fer_pipeline.inference import model_calls

#: Status of a child process whose last line on stderr is a UserError's.
_REFUSED = 3

#: The longest that a process may take, and what each image adds to it.
_SECONDS, _SECONDS_AN_IMAGE = 300.0, 1.0


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
        model_calls.refuse(path, error)
    shapes = [i["shape"] for i in inputs], [o["shape"] for o in outputs]
    model_calls.check_ends(path, *shapes, channels=(1, 3))
    batch, *_, channels = inputs[0]["shape"]

    def run(faces: np.ndarray) -> np.ndarray:
        values = _quantised(faces.repeat(channels, axis=-1), inputs[0])
        interpreter.set_tensor(inputs[0]["index"], values)
        try:
            interpreter.invoke()
        except RuntimeError as error:
            model_calls.refuse(path, error)
        return _dequantised(interpreter.get_tensor(outputs[0]["index"]), outputs[0])

    return model_calls.in_batches(run, images, int(batch))


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


def saved_model_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Runs a SavedModel in this process.

    Raises:
      UserError: TensorFlow refuses it, or its input or output is another.
    """
    # What is wrong is said below, in one line.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
        inputs = serve.structured_input_signature[1]
        outputs = serve.structured_outputs
        model_calls.check_ends(
            path, [i.shape for i in inputs.values()], [o.shape for o in outputs.values()]
        )
        [(input_name, spec)], [output_name] = inputs.items(), outputs

        def run(faces: np.ndarray) -> np.ndarray:
            return serve(**{input_name: tf.cast(faces, spec.dtype)})[output_name].numpy()

        return model_calls.in_batches(run, images, spec.shape[0])
    except UserError:
        raise
    # A damaged folder makes TensorFlow raise nearly anything: OSError, KeyError, its own errors.
    except Exception as error:
        model_calls.refuse(path, error)


def probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of a TFLite file or SavedModel, computed in a child process."""
    stream = io.BytesIO()
    np.save(stream, images)
    seconds = _SECONDS + _SECONDS_AN_IMAGE * len(images)
    try:
        ended = subprocess.run(
            child_processes.command("fer_pipeline.inference.model_processes", str(path)),
            input=stream.getvalue(),
            capture_output=True,
            check=False,
            env=child_processes.environment(),
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{path}: gave no answer within {seconds:.0f} s; export it again"
        ) from error
    if ended.returncode == 0:
        return np.load(io.BytesIO(ended.stdout))
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise UserError(f"{path}: damaged (its runtime crashed with {name}); export it again")
    message = ended.stderr.decode(errors="replace").strip()
    if ended.returncode == _REFUSED:
        raise UserError(message.splitlines()[-1])
    raise RuntimeError(message)


def _child(path: Path) -> int:
    """What the child process does: images from stdin, probabilities to stdout."""
    # What native code prints to stdout must not mix with the probabilities.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    run = saved_model_probabilities if path.is_dir() else tflite_probabilities
    try:
        probabilities = run(path, np.load(io.BytesIO(sys.stdin.buffer.read())))
    except UserError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    stream = io.BytesIO()
    np.save(stream, probabilities)
    with answer:
        answer.write(stream.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
