"""A TFLite file or SavedModel, run in a process of its own behind one interface."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fer_pipeline import child_processes
from fer_pipeline.child_processes import ChildError
from fer_pipeline.errors import UserError

# NumPy is imported inside functions: while the process starts, on another core.
if TYPE_CHECKING:
    import numpy as np

_WORKER = Path(__file__).with_name("runtime_worker.py")

#: The longest that a process may take to open a model or to answer, and what each image adds.
#: A hundred times what is usual: it ends what would never end.
_SECONDS, _SECONDS_AN_IMAGE = 300.0, 1.0


class RuntimeFailedError(Exception):
    """A model could not be opened or run, or took its process down."""


class Runtime(NamedTuple):
    """A model in its runtime. Every function raises RuntimeFailedError when it does not work.

    Attributes:
      io_spec: names, shapes, dtypes and quantisation of inputs and outputs; waits for the model to
        be open.
      predict: uint8 ``[N, 48, 48, C]`` -> float32 ``[N, C]`` probabilities.
      seconds: (uint8 ``[N, 48, 48, C]``, repeats) -> the time of each call, which takes one image
        or, of a TFLite file, its fixed batch.
      classify: uint8 ``[N, 48, 48, 1]`` -> (names, scores); SavedModel alone, None elsewhere.
      encoded: as ``predict``, but the images go to the model as PNG files; SavedModel alone, None
        elsewhere.
      modules: the top-level modules that its process has imported; None for this process.
    """

    io_spec: Callable[[], dict[str, Any]]
    predict: Callable[[np.ndarray], np.ndarray]
    seconds: Callable[[np.ndarray, int], list[float]]
    classify: Callable[[np.ndarray], tuple[list[str], list[float]]] | None = None
    encoded: Callable[[np.ndarray], np.ndarray] | None = None
    modules: Callable[[], list[str]] | None = None


@contextlib.contextmanager
def opened(path: Path, log_path: Path | None = None) -> Iterator[Runtime]:
    """Opens a TFLite file or the version folder of a SavedModel in a child process.

    The process starts at once and is not waited for; the first call waits. When the block ends it
    is killed, which ends calls that other threads are in.

    Args:
      path: of the model.
      log_path: what its native code prints is appended there; None drops it.
    """
    kind = "saved_model" if path.is_dir() else "tflite"
    # -P: the worker's own folder must not shadow modules of the runtime.
    command = [sys.executable, "-P", str(_WORKER), kind, str(path)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        child_processes.worker(command, log_path, shared_log=True) as ask,
    ):
        yield _runtime(ask, Path(scratch), kind)


def _runtime(ask: Callable[..., Any], scratch: Path, kind: str) -> Runtime:
    hello: dict[str, Any] = {}

    def answered(*requests: Any, seconds: float = _SECONDS) -> Any:
        try:
            return ask(*requests, seconds=seconds)
        except ChildError as error:
            told = str(error) if error.refused else f"the runtime {error}"
            raise RuntimeFailedError(told) from error

    def greeting() -> dict[str, Any]:
        if not hello:
            hello.update(answered())
        return hello

    def request(images: np.ndarray, name: str, **arguments: Any) -> dict[str, Any]:
        import numpy as np

        greeting()
        try:
            np.save(scratch / "images.npy", images)
        except OSError as error:
            raise UserError(
                f"{scratch.parent}: no room for the images that a model is asked about "
                f"({error.strerror or error}); make room there, or set TMPDIR to another folder"
            ) from error
        seconds = _SECONDS + _SECONDS_AN_IMAGE * len(images)
        return answered({name: str(scratch / "images.npy"), **arguments}, seconds=seconds)

    def probabilities(images: np.ndarray, name: str) -> np.ndarray:
        import numpy as np

        request(images, name, to=str(scratch / "probabilities.npy"))
        return np.load(scratch / "probabilities.npy")

    def classify(images: np.ndarray) -> tuple[list[str], list[float]]:
        reply = request(images, "classify")
        return reply["labels"], reply["scores"]

    served = kind == "saved_model"
    return Runtime(
        io_spec=lambda: greeting()["io_spec"],
        predict=lambda images: probabilities(images, "predict"),
        seconds=lambda images, repeats: request(images, "time", repeats=repeats)["seconds"],
        classify=classify if served else None,
        encoded=(lambda images: probabilities(images, "encoded")) if served else None,
        modules=lambda: greeting()["modules"],
    )
