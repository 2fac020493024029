"""What an export holds: each artifact's files, its runtime and the gates it has to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from export.spec.gates import DYNAMIC_RANGE, EXACT, FLOAT16, INT8, Gate
from fer_pipeline.errors import UserError
from fer_pipeline.inference.export_files import MODEL_JSON, MODEL_WEIGHTS, PATHS

#: Most images of a TFLite file's fixed batch. The largest activation, the first convolution's,
#: takes 144 MiB in float32 then.
MAX_TFLITE_BATCH = 256


class Artifact(NamedTuple):
    """One format of the exported model.

    Attributes:
      path: file or folder that its runtime opens, relative to the export folder.
      runtime: ``"keras"``, ``"saved_model"`` or ``"tflite"``.
      gate: what it is held to.
      what: one line that helps to choose a file.
      channels: of its images, 1 (grey) or 3 (RGB).
    """

    path: str
    runtime: str
    gate: Gate
    what: str
    channels: int = 1

    @property
    def files(self) -> tuple[str, ...]:
        """The files and folders it consists of, relative to the export folder."""
        return (MODEL_JSON, MODEL_WEIGHTS) if self.path == MODEL_JSON else (self.path,)

    @property
    def can_mirror(self) -> bool:
        """Whether ``--mirror`` is for it; Keras' files stay the network that was trained."""
        return self.runtime != "keras"


_MEDIAPIPE = "MediaPipe Tasks with a batch of 1"

#: Every format by the name that ``--formats`` takes, in the order of the final table.
ARTIFACTS: dict[str, Artifact] = {
    name: Artifact(PATHS[name], *described)
    for name, described in {
        "keras": ("keras", EXACT, "Keras 2 and 3: model_from_json, then load_weights"),
        "keras_v3": ("keras", EXACT, "Keras 3: load_model"),
        "saved_model": ("saved_model", EXACT, "TensorFlow and TF Serving"),
        "float32": ("tflite", EXACT, "LiteRT, the reference on a phone"),
        "float16": ("tflite", FLOAT16, "LiteRT, GPU delegates"),
        "dynamic_range": ("tflite", DYNAMIC_RANGE, "LiteRT, 8-bit weights, float32 ends"),
        "int8": ("tflite", INT8, "LiteRT, integers only: CPU, DSP and NPU delegates"),
        "float32_rgb": ("tflite", EXACT, f"LiteRT with colour images; {_MEDIAPIPE}", 3),
        "int8_rgb": ("tflite", INT8, f"LiteRT with colour images, integers only; {_MEDIAPIPE}", 3),
    }.items()
}


def choose(formats: Sequence[str] | str | None) -> dict[str, Artifact]:
    """The artifacts with these names, in the table's order; None means all.

    Args:
      formats: a list of names, or one text with commas between them as the flag takes it.

    Raises:
      UserError: a name is unknown, or there is none.
    """
    if formats is None:
        return dict(ARTIFACTS)
    names = formats.split(",") if isinstance(formats, str) else formats
    wanted = [name.strip() for name in names if name.strip()]
    unknown = [name for name in wanted if name not in ARTIFACTS]
    if "web" in unknown:
        raise UserError(
            "--formats: a web page is made of a run that is trained: python -m export "
            "--run_dir=RUN --formats=web"
        )
    if unknown or not wanted:
        problem = f"unknown format {unknown[0]!r}" if unknown else "no format given"
        raise UserError(f"--formats: {problem}; choose from {', '.join(ARTIFACTS)}")
    return {name: artifact for name, artifact in ARTIFACTS.items() if name in wanted}


def with_accuracy_drop(artifacts: dict[str, Artifact], points: float | None) -> dict[str, Artifact]:
    """The artifacts with another limit for the loss of accuracy, in percentage points.

    Those whose gate has no such limit get none; None leaves all as they are.
    """
    if points is None:
        return artifacts
    return {
        name: artifact._replace(gate=artifact.gate._replace(accuracy_drop=points))
        if artifact.gate.accuracy_drop is not None
        else artifact
        for name, artifact in artifacts.items()
    }


def check_tflite_batch(size: int) -> None:
    """Refuses a batch size that the TFLite files cannot have.

    Raises:
      UserError: it is not from 1 to ``MAX_TFLITE_BATCH``.
    """
    if not 1 <= size <= MAX_TFLITE_BATCH:
        raise UserError(f"--tflite_batch={size}: choose from 1 to {MAX_TFLITE_BATCH} images a call")
