"""Artifacts opened in their own runtimes: Keras files in this process, others in their own."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.formats.rgb import colour_images
from export.spec.artifacts import Artifact
from fer_pipeline.errors import UserError
from fer_pipeline.inference import keras_loader, runtime_client, runtime_worker, strangers
from fer_pipeline.inference.runtime_client import Runtime, RuntimeFailedError

__all__ = ["Runtime", "RuntimeFailedError", "opened"]


@contextlib.contextmanager
def opened(
    artifact: Artifact, folder: Path, log_path: Path | None, *, trust: bool = False
) -> Iterator[Runtime]:
    """Opens an artifact: Keras files in this process, the others each in a child process.

    What runs code is looked at first: an artifact that asks for more than an export of this
    software needs does not work, see ``strangers``. An artifact for colour images is given
    ``rgb.colour_images`` of the grey ones.

    When the block ends, calls that other threads are in end soon: a child is killed, and Keras
    stops before the next batch.

    Args:
      artifact: what to open.
      folder: of the export.
      log_path: what the child's native code prints is appended there; None drops it.
      trust: runs whatever the artifact asks for.
    """
    path = folder / artifact.path
    if artifact.runtime == "keras":
        closed = threading.Event()
        try:
            yield _keras(path, closed, trust)
        finally:
            closed.set()
        return
    if artifact.runtime == "saved_model" and not trust:
        try:
            strangers.check_saved_model(path)
        # What is wrong with it fails this artifact alone.
        except Exception as error:
            yield _broken(error)
            return
    with runtime_client.opened(path, log_path) as runtime:
        if artifact.channels == 3:
            runtime = runtime._replace(
                predict=lambda images, run=runtime.predict: run(colour_images(images)),
                seconds=lambda images, n, run=runtime.seconds: run(colour_images(images), n),
            )
        yield runtime


def _keras(path: Path, closed: threading.Event, trust: bool) -> Runtime:
    try:
        model = keras_loader.load(path, trust=trust)
    # Whatever a damaged file makes Keras, h5py or json raise, it is a failed artifact.
    except Exception as error:
        return _broken(error)

    def run(images: np.ndarray) -> np.ndarray:
        if closed.is_set():
            raise RuntimeFailedError("the runtime was closed")
        return keras_loader.predict_probabilities(model, images)

    def predict(images: np.ndarray) -> np.ndarray:
        return runtime_worker.in_batches(run, images, None)

    def seconds(images: np.ndarray, repeats: int) -> list[float]:
        return runtime_worker.call_seconds(run, images, 1, repeats)

    def io_spec() -> dict[str, Any]:
        return {
            "inputs": [_tensor(tensor.name, tensor) for tensor in model.inputs],
            "outputs": [_tensor(model.layers[-1].name, tensor) for tensor in model.outputs],
        }

    return Runtime(*(_guarded(call) for call in (io_spec, predict, seconds)))


def _tensor(name: str, tensor: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype)}


def _guarded(call: Callable) -> Callable:
    """The call; whatever another kind of model makes Keras raise becomes a RuntimeFailedError."""

    @functools.wraps(call)
    def guarded(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RuntimeFailedError:
            raise
        except Exception as error:
            raise _failure(error) from error

    return guarded


def _failure(error: Exception) -> RuntimeFailedError:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return RuntimeFailedError(" ".join(f"{kind}{error}".split())[:300])


def _broken(error: Exception) -> Runtime:
    """A runtime whose every call fails, for this reason."""

    def fail(*_: Any) -> Any:
        raise _failure(error)

    return Runtime(fail, fail, fail)
