"""Artifacts opened in their own runtimes behind one interface: predict, time, classify, decode."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.formats.rgb import colour_images
from export.spec.artifacts import Artifact
from fer_pipeline import gpus
from fer_pipeline.errors import UserError
from fer_pipeline.inference import strangers

_RUNNER = Path(__file__).with_name("runner.py")

#: The longest that a child may take to open an artifact or to answer, and what each image adds.
#: A hundred times what is usual: it ends what would never end.
_SECONDS, _SECONDS_AN_IMAGE = 300.0, 1.0


class RuntimeFailedError(Exception):
    """An artifact could not be opened or run, or took its process down."""


class Runtime(NamedTuple):
    """An artifact in its runtime. Every function raises RuntimeFailedError when it does not work.

    Attributes:
      contract: names, shapes, dtypes and quantisation of inputs and outputs; waits for the
        artifact to be open.
      predict: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, 7]`` probabilities. An artifact for colour
        images is given ``rgb.colour_images`` of these, whose grey they are.
      seconds: (uint8 ``[N, 48, 48, 1]``, repeats) -> the time of each call, which takes one image
        or, of a TFLite file, its fixed batch.
      classify: uint8 ``[N, 48, 48, 1]`` -> (names, scores); SavedModel alone, None elsewhere.
      encoded: as ``predict``, but the images go to the model as PNG files; SavedModel alone, None
        elsewhere.
      modules: the top-level modules that its process has imported; None for this process.
    """

    contract: Callable[[], dict[str, Any]]
    predict: Callable[[np.ndarray], np.ndarray]
    seconds: Callable[[np.ndarray, int], list[float]]
    classify: Callable[[np.ndarray], tuple[list[str], list[float]]] | None = None
    encoded: Callable[[np.ndarray], np.ndarray] | None = None
    modules: Callable[[], list[str]] | None = None


@contextlib.contextmanager
def opened(
    artifact: Artifact, folder: Path, log_path: Path | None, *, trust: bool = False
) -> Iterator[Runtime]:
    """Opens an artifact: Keras files in this process, the others each in a child process.

    What runs code is looked at first: an artifact that asks for more than an export of this
    software needs does not work, see ``strangers``.

    A child starts at once and is not waited for; the first call waits. When the block ends, calls
    that other threads are in end soon: a child is killed, and Keras stops before the next batch.

    Args:
      artifact: what to open.
      folder: of the export.
      log_path: what the child's native code prints is appended there; None drops it.
      trust: runs whatever the artifact asks for.
    """
    if not trust and (problem := _problem(artifact, folder)):
        yield _broken(problem)
        return
    if artifact.runtime == "keras":
        closed = threading.Event()
        try:
            yield _keras(folder / artifact.path, closed)
        finally:
            closed.set()
        return
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context(open(log_path or os.devnull, "ab"))
        process = subprocess.Popen(
            # -P: the runner's own folder must not shadow modules of the runtime.
            [sys.executable, "-P", str(_RUNNER), artifact.runtime, str(folder / artifact.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            # What is proved is a file on any machine, so no GPU, which rounds otherwise.
            env=gpus.hidden(os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}),
        )
        stack.callback(_end, process)
        yield _child(process, artifact, scratch)


def _problem(artifact: Artifact, folder: Path) -> RuntimeFailedError | None:
    """Why an artifact is not opened at all; None where nothing is wrong with what it asks for."""
    try:
        if artifact.runtime == "saved_model":
            strangers.check_saved_model(folder / artifact.path)
        if artifact.runtime == "keras":
            strangers.check_keras(folder / artifact.path)
    # A damaged file makes the parsers of json, zipfile and h5py raise nearly anything.
    except Exception as error:
        return RuntimeFailedError(_one_line(error))
    return None


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def _child(process: subprocess.Popen, artifact: Artifact, scratch: Path) -> Runtime:
    hello: dict[str, Any] = {}

    def receive(seconds: float) -> dict[str, Any]:
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise RuntimeFailedError(f"the runtime did not answer within {seconds:.0f} s")
        # A crash may cut a reply off.
        if not line.endswith("\n"):
            raise RuntimeFailedError(_ending(process.wait()))
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise RuntimeFailedError("the runtime's process gave no reply") from error
        if "error" in reply:
            raise RuntimeFailedError(reply["error"])
        return reply

    def greeting() -> dict[str, Any]:
        if not hello:
            hello.update(receive(_SECONDS))
        return hello

    def ask(images: np.ndarray, command: str, **arguments: Any) -> dict[str, Any]:
        greeting()
        given = colour_images(images) if artifact.channels == 3 else images
        np.save(scratch / "images.npy", given)
        request = {command: str(scratch / "images.npy"), **arguments}
        # A process that has ended since is reported by receive().
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
        return receive(_SECONDS + _SECONDS_AN_IMAGE * len(images))

    def probabilities(images: np.ndarray, command: str) -> np.ndarray:
        ask(images, command, to=str(scratch / "probabilities.npy"))
        return np.load(scratch / "probabilities.npy")

    def classify(images: np.ndarray) -> tuple[list[str], list[float]]:
        reply = ask(images, "classify")
        return reply["labels"], reply["scores"]

    served = artifact.runtime == "saved_model"
    return Runtime(
        contract=lambda: greeting()["contract"],
        predict=lambda images: probabilities(images, "predict"),
        seconds=lambda images, repeats: ask(images, "time", repeats=repeats)["seconds"],
        classify=classify if served else None,
        encoded=(lambda images: probabilities(images, "encoded")) if served else None,
        modules=lambda: greeting()["modules"],
    )


def _ending(status: int) -> str:
    """What a process's exit status says."""
    if status < 0:
        return f"the runtime crashed with {signal.Signals(-status).name}"
    return f"the runtime's process ended with status {status}"


def _keras(path: Path, closed: threading.Event) -> Runtime:
    from export.formats import inference_model, keras_files

    try:
        model = keras_files.load(path)
    except Exception as error:
        # Whatever a damaged file makes Keras, h5py or json raise, it is a failed artifact.
        return _broken(RuntimeFailedError(_one_line(error)))

    def predict(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), inference_model.BATCH):
            if closed.is_set():
                raise RuntimeFailedError("the runtime was closed")
            part = images[start : start + inference_model.BATCH]
            parts.append(inference_model.probabilities(model, part))
        return np.concatenate(parts)

    def seconds(images: np.ndarray, repeats: int) -> list[float]:
        times = []
        for i in range(repeats):
            start = time.perf_counter()
            inference_model.probabilities(model, images[i % len(images)][None])
            times.append(time.perf_counter() - start)
        return times

    def contract() -> dict[str, Any]:
        return {
            "inputs": [_keras_tensor(tensor.name, tensor) for tensor in model.inputs],
            "outputs": [_keras_tensor(model.layers[-1].name, tensor) for tensor in model.outputs],
        }

    return Runtime(*(_guarded(call) for call in (contract, predict, seconds)))


def _guarded(call: Callable) -> Callable:
    """The call, with whatever another kind of model makes Keras raise told as a failure."""

    @functools.wraps(call)
    def guarded(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RuntimeFailedError:
            raise
        except Exception as error:
            raise RuntimeFailedError(_one_line(error)) from error

    return guarded


def _one_line(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:300]


def _keras_tensor(name: str, tensor: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype)}


def _broken(failure: RuntimeFailedError) -> Runtime:
    def fail(*_: Any) -> Any:
        raise failure

    return Runtime(fail, fail, fail)
