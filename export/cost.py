"""What writing an artifact takes; the benchmark runs it as a process of its own.

``python -m export.cost FORMAT FOLDER`` writes one format of the network with random weights into a
folder that exists and prints a line of JSON: seconds, and MiB at most in memory, with TensorFlow
loaded and nothing written before (``idle``) and in all (``peak``).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from export import artifacts as catalogue
from fer_pipeline import native_log
from fer_pipeline.datasets import synthetic
from fer_pipeline.datasets.splits import Split

#: Images to calibrate on, as many of each class.
_IMAGES = 700


def measure(name: str, folder: Path) -> dict[str, float]:
    """Writes the format and returns ``seconds``, ``idle`` and ``peak``.

    Raises:
      UserError: there is no such format.
    """
    chosen = catalogue.chosen([name])
    from export.inference_model import inference_model
    from export.pipeline import write_artifacts
    from fer_pipeline.model import build_training_model

    labels = np.arange(_IMAGES, dtype=np.int32) % 7
    train = Split(synthetic.render(labels, seed=0), labels)
    model = inference_model(build_training_model(seed=0).get_weights())
    idle = _peak()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        list(write_artifacts(folder, Path(scratch), model, chosen, train, seed=0))
    return {"seconds": time.perf_counter() - start, "idle": idle, "peak": _peak()}


def _peak() -> float:
    """MiB of this program that were in memory at once, as Linux counts them.

    ``getrusage`` would count what the process held before it became this program.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    with native_log.redirected("/dev/null"):
        found = measure(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps(found))
