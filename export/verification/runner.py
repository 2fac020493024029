"""Opens one artifact in its own runtime and serves it on a pipe, in a process of its own.

Run by path (``python -P runner.py tflite model.tflite``), it imports NumPy, the one runtime that
is asked for and nothing of this project, so that what it shows is what a stranger will see; and
when a damaged file takes the runtime's process down, the caller lives. TFLite files are opened by
LiteRT without TensorFlow, SavedModels by TensorFlow without Keras.

Requests and replies are lines of JSON. The first reply, before any request, is
``{"contract": ..., "modules": [...]}``. Requests:

  ``{"predict": IN, "to": OUT}``: reads uint8 ``[N, 48, 48, C]`` from the .npy file IN and writes
  float32 ``[N, 7]`` probabilities to OUT; replies ``{}``.
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

#: Images at a time where the batch is free.
_BATCH = 64


class Opened(NamedTuple):
    """An artifact in its runtime.

    Attributes:
      contract: its inputs and outputs, as JSON.
      batch: images that ``run`` takes at a time.
      fixed: whether it takes no fewer.
      prepare: uint8 pixels -> what the model's input takes.
      run: prepared batch -> float32 probabilities.
      classify: uint8 pixels -> names and scores, or None.
      encoded: uint8 pixels -> float32 probabilities by way of image files, or None.
    """

    contract: dict[str, Any]
    batch: int
    fixed: bool
    prepare: Callable[[np.ndarray], np.ndarray]
    run: Callable[[np.ndarray], np.ndarray]
    classify: Callable[[np.ndarray], tuple[list[str], list[float]]] | None = None
    encoded: Callable[[np.ndarray], np.ndarray] | None = None


def open_tflite(path: str) -> Opened:
    """One thread: the caller runs several files side by side."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    source, target = inputs[0], outputs[0]

    def prepare(images: np.ndarray) -> np.ndarray:
        scale, zero_point = source["quantization"]
        # A scale of 0 says that the tensor is not quantised.
        values = np.rint(images / scale) + zero_point if scale else images
        return values.astype(source["dtype"])

    def run(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])
        scale, zero_point = target["quantization"]
        if scale:
            values = (values.astype(np.float32) - zero_point) * scale
        return values.astype(np.float32)

    [names] = interpreter.get_signature_list().values()
    contract = {
        "inputs": [_tensor(n, d) for n, d in zip(names["inputs"], inputs, strict=True)],
        "outputs": [_tensor(n, d) for n, d in zip(names["outputs"], outputs, strict=True)],
    }
    return Opened(contract, int(source["shape"][0]), True, prepare, run)


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

    loaded = tf.saved_model.load(path)
    serve, classify = loaded.signatures["serving_default"], loaded.signatures["classify"]

    def labels_and_scores(images: np.ndarray) -> tuple[list[str], list[float]]:
        result = classify(image=tf.constant(images))
        labels = [label.decode() for label in result["label"].numpy()]
        return labels, result["score"].numpy().tolist()

    def encoded(images: np.ndarray) -> np.ndarray:
        files = tf.stack([tf.io.encode_png(image) for image in images])
        return loaded.signatures["serve_encoded"](image_bytes=files)["probabilities"].numpy()

    contract = {
        "signatures": {
            name: {
                "inputs": _specs(signature.structured_input_signature[1]),
                "outputs": _specs(signature.structured_outputs),
            }
            for name, signature in loaded.signatures.items()
        }
    }
    return Opened(
        contract,
        _BATCH,
        False,
        lambda images: images.astype(np.float32),
        lambda batch: serve(image=tf.constant(batch))["probabilities"].numpy(),
        labels_and_scores,
        encoded,
    )


def _specs(specs: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}
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
        inputs = np.load(request["predict"])
        parts = [
            _run_up_to(opened, inputs[start : start + opened.batch])
            for start in range(0, len(inputs), opened.batch)
        ]
        np.save(request["to"], np.concatenate(parts))
        return {}
    inputs = opened.prepare(np.load(request["time"]))
    size = opened.batch if opened.fixed else 1
    seconds = []
    for i in range(request["repeats"]):
        batch = inputs[np.arange(i * size, (i + 1) * size) % len(inputs)]
        start = time.perf_counter()
        opened.run(batch)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def _run_up_to(opened: Opened, images: np.ndarray) -> np.ndarray:
    """Probabilities of as many images as a call takes, or fewer: a fixed batch is filled up."""
    missing = opened.batch - len(images) if opened.fixed else 0
    # With the last image: whatever the others are, every image's answer is its own.
    filled = np.concatenate([images, images[-1:].repeat(missing, axis=0)])
    return opened.run(opened.prepare(filled))[: len(images)]


def main(kind: str, path: str) -> None:
    """Serves until the pipe closes."""
    # What native code prints to stdout must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(value: dict[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")

    try:
        opened = {"tflite": open_tflite, "saved_model": open_saved_model}[kind](path)
    except Exception as error:
        reply({"error": _one_line(error)})
        return
    roots = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    reply({"contract": opened.contract, "modules": sorted(roots)})
    for line in sys.stdin:
        try:
            reply(answer(opened, json.loads(line)))
        except Exception as error:
            reply({"error": _one_line(error)})


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


if __name__ == "__main__":
    main(*sys.argv[1:])
