"""Ways to run the network: the exported files in their runtimes, and the same elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fer_pipeline.throughput import onnx_rivals, torch_rivals
from fer_pipeline.throughput.cases import Case, case_or_note

#: The case that ratios refer to.
BASELINE = "model_float32.tflite, 1 thread"


def cases(
    folder: Path, weights: Sequence[np.ndarray], images: np.ndarray, *, cores: int
) -> list[Case]:
    """Calls of one image, and of a batch where a runtime takes one.

    Args:
      folder: of exported files; those that are there compete.
      weights: for what is not exported, in the order of ``build_model().get_weights()``.
      images: uint8 ``[B, 48, 48, 1]``, the batch; its first one is the single image.
      cores: threads of the runs with all threads.
    """
    one, ours = images[:1], {"kind": "ours"}
    threads = dict.fromkeys((1, cores))
    found = [
        Case(f"{path.name}, {_threads(n)}", _calling(tflite(path, one, threads=n), one), facts=ours)
        for path in sorted(folder.glob("*.tflite"))
        for n in threads
    ]
    for batch in (one, images):
        size = f"batch {len(batch)}"
        if (folder / "saved_model").is_dir():
            served = _saved_model(folder / "saved_model" / "1", batch)
            found.append(Case(f"SavedModel, {size}", _calling(served, batch), facts=ours))
        found.append(Case(f"Keras, {size}", _calling(_keras(weights, batch), batch)))
        found.append(
            case_or_note(
                f"PyTorch, {size}",
                lambda batch=batch: _calling(torch_rivals.inference(weights, batch), batch),
            )
        )
    float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
    writers = {
        float32: lambda: onnx_rivals.write_float32(weights, float32),
        int8: lambda: onnx_rivals.write_int8(float32, int8, images),
    }
    for path, write in writers.items():
        for n in threads:

            def make(path: Path = path, write: Callable = write, n: int = n) -> Callable[[], int]:
                if not path.exists():
                    write()
                return _calling(onnx_rivals.inference(path, one, threads=n), one)

            found.append(case_or_note(f"ONNX Runtime, {path.stem}, {_threads(n)}", make))
    return found


def tflite(path: Path, images: np.ndarray, *, threads: int) -> Callable[[], np.ndarray]:
    """A call of LiteRT on as many images as the file takes, in this process.

    Args:
      path: the file.
      images: uint8 ``[B, 48, 48, 1]``; grey is repeated where the file wants RGB.
      threads: of the interpreter.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    given = images.repeat(source["shape"][-1], axis=-1).astype(source["dtype"])

    def call() -> np.ndarray:
        interpreter.set_tensor(source["index"], given)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return call


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _calling(call: Callable[[], object], images: np.ndarray) -> Callable[[], int]:
    def run() -> int:
        call()
        return len(images)

    return run


def _saved_model(path: Path, images: np.ndarray) -> Callable[[], np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    given = tf.constant(images, tf.float32)
    return lambda: loaded.signatures["serving_default"](image=given)["probabilities"].numpy()


def _keras(weights: Sequence[np.ndarray], images: np.ndarray) -> Callable[[], np.ndarray]:
    from fer_pipeline.model import build_model

    model = build_model()
    model.set_weights(weights)
    given = images.astype(np.float32)
    return lambda: model.predict_on_batch(given)
