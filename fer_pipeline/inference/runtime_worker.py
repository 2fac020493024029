"""Opens a TFLite file or SavedModel in its own runtime and answers requests, in its own process.

Run by path (``python -P runtime_worker.py tflite model.tflite``), it imports NumPy, the one runtime
that is asked for and nothing of this project: it shows what any other program will see, and when a
damaged file takes the process down, the caller lives. TFLite files are opened by LiteRT without
TensorFlow, SavedModels by TensorFlow without Keras.

Requests and replies are lines of JSON. The first reply, before any request, is
``{"io_spec": ..., "modules": [...]}``. Requests:

  ``{"predict": IN, "to": OUT}``: reads uint8 ``[N, 48, 48, C]`` from the .npy file IN and writes
  float32 ``[N, C]`` probabilities to OUT; replies ``{}``.
  ``{"time": IN, "repeats": R}``: runs R calls, of one image or of a fixed batch; replies
  ``{"seconds": [...]}``.
  ``{"classify": IN}``: SavedModel alone; replies ``{"labels": [...], "scores": [...]}``.
  ``{"encoded": IN, "to": OUT}``: SavedModel alone; as ``predict``, but each image is made a PNG
  first and goes to the signature that decodes image files; replies ``{}``.

A reply ``{"error": "..."}`` says what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Images at a time where the model leaves it open.
BATCH = 64


class Opened(NamedTuple):
    """A model in its runtime.

    Attributes:
      io_spec: its inputs and outputs, as JSON.
      batch: images that ``run`` takes, no fewer; None where it takes any number.
      prepare: uint8 pixels -> what the model's input takes.
      run: prepared batch -> float32 probabilities.
      classify: uint8 pixels -> names and scores, or None.
      encoded: uint8 pixels -> float32 probabilities by way of image files, or None.
    """

    io_spec: dict[str, Any]
    batch: int | None
    prepare: Callable[[np.ndarray], np.ndarray]
    run: Callable[[np.ndarray], np.ndarray]
    classify: Callable[[np.ndarray], tuple[list[str], list[float]]] | None = None
    encoded: Callable[[np.ndarray], np.ndarray] | None = None


def in_batches(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, fixed: int | None
) -> np.ndarray:
    """``run`` over parts of the images: of a fixed size, or of up to 64. Gives float32 [N, C]."""
    size = fixed or BATCH
    if not len(images):
        # The model alone knows how many classes there are.
        blank = np.zeros((fixed or 1, *images.shape[1:]), images.dtype)
        return np.asarray(run(blank))[:0]
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part) if fixed else 0
        # Filled up with the last image: every image's answer is its own.
        filled = np.concatenate([part, part[-1:].repeat(missing, axis=0)])
        parts.append(np.asarray(run(filled))[: len(part)])
    return np.concatenate(parts)


def open_tflite(path: str, threads: int = 1) -> Opened:
    """One thread by default: callers run several files side by side."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    source, target = inputs[0], outputs[0]

    def run(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"]).astype(np.float32)
        scale, zero_point = target["quantization"]
        return (values - zero_point) * np.float32(scale) if scale else values

    # Files of other converters may have no signature, or several.
    names = {"inputs": [one["name"] for one in inputs], "outputs": [one["name"] for one in outputs]}
    signatures = list(interpreter.get_signature_list().values())
    names = signatures[0] if len(signatures) == 1 else names
    io_spec = {
        "inputs": [_tensor(n, d) for n, d in zip(names["inputs"], inputs, strict=True)],
        "outputs": [_tensor(n, d) for n, d in zip(names["outputs"], outputs, strict=True)],
    }
    batch = int(source["shape"][0]) if len(source["shape"]) else None
    return Opened(io_spec, batch, lambda images: quantized(images, source), run)


def quantized(images: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Grey levels as a tensor with these details takes them; a scale of 0 means no quantisation."""
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    # An export's inputs take grey levels as they are.
    if not scale or (scale, zero_point, dtype) == (1, 0, images.dtype):
        return images.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    values = np.rint(images / scale) + zero_point
    return np.clip(values, limits.min, limits.max).astype(dtype)


def _tensor(name: str, details: dict[str, Any]) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    return {
        "name": name,
        "shape": [int(n) for n in details["shape_signature"]],
        "dtype": np.dtype(details["dtype"]).name,
        "quantization": {"scale": scale, "zero_point": zero_point} if scale else None,
    }


def open_saved_model(path: str) -> Opened:
    """With the import of Keras made impossible."""
    sys.modules["keras"] = None
    import tensorflow as tf

    signatures = tf.saved_model.load(path).signatures
    serve = signatures["serving_default"]
    # The caller checks the number of inputs and outputs before it asks for a prediction.
    source, spec = next(iter(serve.structured_input_signature[1].items()))
    target = next(iter(serve.structured_outputs))

    def classify(images: np.ndarray) -> tuple[list[str], list[float]]:
        result = signatures["classify"](image=tf.constant(images))
        labels = [label.decode() for label in result["label"].numpy()]
        return labels, result["score"].numpy().tolist()

    def encoded(images: np.ndarray) -> np.ndarray:
        files = tf.stack([tf.io.encode_png(image) for image in images])
        return signatures["serve_encoded"](image_bytes=files)["probabilities"].numpy()

    io_spec = {
        "signatures": {
            name: {
                "inputs": _specs(signature.structured_input_signature[1]),
                "outputs": _specs(signature.structured_outputs),
            }
            for name, signature in signatures.items()
        }
    }
    return Opened(
        io_spec,
        spec.shape[0] if spec.shape.rank else None,
        lambda images: images.astype(spec.dtype.as_numpy_dtype),
        lambda batch: serve(**{source: tf.constant(batch)})[target].numpy(),
        classify,
        encoded,
    )


def _specs(specs: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": spec.shape.as_list() if spec.shape.rank is not None else None,
            "dtype": spec.dtype.name,
        }
        for name, spec in sorted(specs.items())
    ]


def answer(opened: Opened, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request."""
    if "classify" in request:
        labels, scores = opened.classify(np.load(request["classify"]))
        return {"labels": labels, "scores": scores}
    if "encoded" in request:
        np.save(request["to"], opened.encoded(np.load(request["encoded"])))
        return {}
    if "predict" in request:
        images = np.load(request["predict"])
        found = in_batches(lambda part: opened.run(opened.prepare(part)), images, opened.batch)
        np.save(request["to"], found)
        return {}
    inputs = opened.prepare(np.load(request["time"]))
    return {"seconds": call_seconds(opened.run, inputs, opened.batch or 1, request["repeats"])}


def call_seconds(
    run: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, size: int, repeats: int
) -> list[float]:
    """The time of each of so many calls, with so many images a call."""
    seconds = []
    for i in range(repeats):
        batch = inputs[np.arange(i * size, (i + 1) * size) % len(inputs)]
        start = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - start)
    return seconds


def serve(
    prepare: Callable[[], tuple[Any, Callable[[Any], Any]]],
    refusals: type[Exception] = Exception,
) -> None:
    """Answers a ``child_processes.worker``'s requests on stdin until it closes.

    Args:
      prepare: returns the first reply and the function that answers requests.
      refusals: exceptions of both that are replied as ``{"error": ...}``. After any other exception
        the process ends.
    """
    # What native code prints to stdout must not mix with the replies.
    stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(value: Any) -> None:
        stdout.write(json.dumps(value) + "\n")

    try:
        first, respond = prepare()
    except refusals as error:
        reply({"error": _one_line(error, refusals)})
        return
    reply(first)
    for line in sys.stdin:
        try:
            reply(respond(json.loads(line)))
        except refusals as error:
            reply({"error": _one_line(error, refusals)})


def _one_line(error: Exception, refusals: type[Exception]) -> str:
    # An exception that may be any says too little without its type.
    kind = f"{type(error).__name__}: " if refusals is Exception else ""
    return " ".join(f"{kind}{error}".split())[:300]


def main(kind: str, path: str) -> None:
    """Serves the model until the pipe closes."""

    def prepare() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
        opened = {"tflite": open_tflite, "saved_model": open_saved_model}[kind](path)
        roots = {name.partition(".")[0] for name, module in sys.modules.items() if module}
        hello = {"io_spec": opened.io_spec, "modules": sorted(roots)}
        return hello, lambda request: answer(opened, request)

    serve(prepare)


if __name__ == "__main__":
    main(*sys.argv[1:])
