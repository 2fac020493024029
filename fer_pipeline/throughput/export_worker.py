"""What writing an artifact takes; the benchmark runs it as a process of its own.

``python -m fer_pipeline.throughput.export_worker FORMAT FOLDER`` prints ``null`` when it is ready.
For each line that it reads it writes the format, of the network with random weights, into the
folder, which exists, and prints as JSON what that took: seconds, and MiB in memory at most, before
it began (``idle``) and in all (``peak``).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from export.spec import artifacts
from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Split
from fer_pipeline.throughput.processes import replies

#: Images to calibrate on, as many of each class.
_IMAGES = 700


def prepare(name: str, folder: Path) -> Callable[[], dict[str, float]]:
    """Gets ready to write the format; the function that it returns does it and says what it took.

    Raises:
      UserError: there is no such format.
    """
    chosen = artifacts.chosen([name])
    from export.formats.inference_model import inference_model
    from export.pipeline import write_artifacts
    from fer_pipeline.models.notebook_cnn import build_training_model

    labels = np.arange(_IMAGES, dtype=np.int32) % 7
    train = Split(synthetic.render(labels, seed=0), labels)
    model = inference_model(build_training_model(seed=0).get_weights())

    def write() -> dict[str, float]:
        idle, start = _peak(), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            list(write_artifacts(folder, Path(scratch), model, chosen, train, seed=0))
        return {"seconds": time.perf_counter() - start, "idle": idle, "peak": _peak()}

    return write


def _peak() -> float:
    """MiB of this program that were in memory at once, as Linux counts them.

    ``getrusage`` would count what the process held before it became this program.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _serve(name: str, folder: str) -> None:
    reply = replies()
    write = prepare(name, Path(folder))
    reply(None)
    for _ in sys.stdin:
        reply(write())


if __name__ == "__main__":
    _serve(*sys.argv[1:])
