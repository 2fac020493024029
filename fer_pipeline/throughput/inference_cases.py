"""Ways to run the network: the exported files in their runtimes, and the same elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fer_pipeline.inference import runtime_worker
from fer_pipeline.throughput import onnx_rivals, torch_rivals, work
from fer_pipeline.throughput.cases import Case, Round
from fer_pipeline.throughput.rounds import timed

#: The images, in the folder of the files.
IMAGES = "images.npy"

#: The case that ratios refer to.
BASELINE = "model_float32.tflite, 1 thread"


#: Beginnings of the names of the cases of a quick look.
QUICK = ("model_", "ONNX Runtime")


def cases(folder: str, cores: int, on_gpu: bool = False) -> list[Case]:
    """Calls of one image, and of a batch where a runtime takes one.

    Args:
      folder: of exported files; those that are there compete. ``images.npy`` beside them, uint8
        ``[B, 48, 48, 1]``, is the batch, and its first one the single image. What is not exported
        has random weights, which take as long.
      cores: threads of the runs with all threads.
      on_gpu: whether SavedModel, Keras and PyTorch run on a GPU. LiteRT and ONNX Runtime do not.
    """
    root = Path(folder)
    batch = len(np.load(root / IMAGES, mmap_mode="r"))
    threads, ours = dict.fromkeys((1, cores)), {"kind": "ours"}

    def calling(make: Callable[..., Callable], size: int, *args: object) -> Callable[[], Round]:
        def prepare() -> Round:
            call = make(np.load(root / IMAGES)[:size], *args)

            def run() -> int:
                call()
                return size

            return timed(run)

        return prepare

    found = [
        Case(f"{path.name}, {_threads(n)}", calling(_tflite, 1, path, n), ours)
        for path in sorted(root.glob("*.tflite"))
        for n in threads
    ]
    for size in (1, batch):
        rivals = {"Keras": _keras, "PyTorch": functools.partial(_torch, on_gpu=on_gpu)}
        if (root / "saved_model").is_dir():
            served = calling(_saved_model, size, root / "saved_model" / "1")
            found.append(Case(f"SavedModel, batch {size}", served, ours, gpu=on_gpu))
        for name, make in rivals.items():
            found.append(Case(f"{name}, batch {size}", calling(make, size), gpu=on_gpu))
    for dtype in ("float32", "int8"):
        for n in threads:
            name = f"ONNX Runtime, {dtype}, {_threads(n)}"
            found.append(Case(name, calling(_onnx, 1, root, dtype, n)))
    return found


def _tflite(images: np.ndarray, path: Path, threads: int) -> Callable[[], np.ndarray]:
    opened = runtime_worker.open_tflite(str(path), threads)
    channels = opened.io_spec["inputs"][0]["shape"][-1]
    given = opened.prepare(images.repeat(channels, axis=-1))
    return lambda: opened.run(given)


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _saved_model(images: np.ndarray, path: Path) -> Callable[[], np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    given = tf.constant(images, tf.float32)
    return lambda: loaded.signatures["serving_default"](image=given)["probabilities"].numpy()


def _keras(images: np.ndarray) -> Callable[[], np.ndarray]:
    from fer_pipeline.models.notebook_cnn import build_model

    model, given = build_model(), images.astype(np.float32)
    return lambda: model.predict_on_batch(given)


def _torch(images: np.ndarray, *, on_gpu: bool) -> Callable[[], np.ndarray]:
    return torch_rivals.inference(work.random_weights(), images, on_gpu=on_gpu)


def write_onnx(folder: Path) -> None:
    """Writes the files that ONNX Runtime's cases open, calibrated on ``images.npy``.

    Raises:
      ImportError: without onnx or onnxruntime.
    """
    float32 = folder / "float32.onnx"
    onnx_rivals.write_float32(work.random_weights(), float32)
    onnx_rivals.write_int8(float32, folder / "int8.onnx", np.load(folder / IMAGES))


def _onnx(images: np.ndarray, folder: Path, dtype: str, threads: int) -> Callable[[], np.ndarray]:
    path = folder / f"{dtype}.onnx"
    if not path.exists():
        raise ImportError("it needs ONNX Runtime; pip install '.[bench]'")
    return onnx_rivals.inference(path, images, threads=threads)
