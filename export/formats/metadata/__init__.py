"""TFLite Metadata: what a file's input and output mean, inside the file.

The standard (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata) puts a second
flatbuffer, whose schema is ``metadata_schema.fbs`` of tensorflow/tflite-support with the identifier
``M001``, into a buffer of the model that its metadata entry ``TFLITE_METADATA`` names, and appends
files such as the labels to the model as a zip archive of stored members. MediaPipe Tasks and
Android Studio read it; an interpreter passes over it.

Written here field by field: the library that would do it, ``tflite-support``, wants protobuf 3,
with which TensorFlow cannot be installed, and no other package for Python ships its schema.
"""

from __future__ import annotations

from export.formats.metadata.reader import read
from export.formats.metadata.schema import ModelInfo, TensorInfo
from export.formats.metadata.writer import with_metadata
from export.spec.artifacts import ARTIFACTS, LABELS
from export.spec.contract import CONTRACTS, POSTPROCESSING, labels_text
from fer_pipeline import __version__

__all__ = ["ModelInfo", "TensorInfo", "describe", "problems", "read", "with_metadata"]

_TITLE = "fer_pipeline facial expressions"
_WHAT = (
    "Names the expression of a face: angry, disgust, fear, happy, neutral, sad or surprise."
    " The input is a cropped face of 48x48 pixels, resized with antialiasing."
)
_LICENSE_TEXT = (
    "Of the software that made it: Apache-2.0. Of the weights: see MODEL_CARD.md; those fitted to"
    " FER-2013 are for research."
)
_INPUTS = {
    1: "A face in grey levels 0..255, as they are: nothing to divide or subtract.",
    3: "A face in RGB levels 0..255, as they are: nothing to divide or subtract.",
}


def describe(name: str) -> ModelInfo:
    """What the file of a TFLite format from ``artifacts.ARTIFACTS`` says of itself."""
    [source], [target] = CONTRACTS[name]["inputs"], CONTRACTS[name]["outputs"]
    channels = ARTIFACTS[name].channels
    image = TensorInfo(source["name"], _INPUTS[channels], channels, (0.0, 1.0), (0.0, 255.0), None)
    probabilities = TensorInfo(target["name"], POSTPROCESSING, None, None, (0.0, 1.0), LABELS)
    return ModelInfo(
        f"{_TITLE} ({name})",
        _WHAT,
        __version__,
        "fer_pipeline",
        _LICENSE_TEXT,
        image,
        probabilities,
    )


def problems(content: bytes, name: str) -> tuple[str, ...]:
    """What is wrong with the metadata of a format's file, a line each; empty when nothing."""
    try:
        info, labels = read(content)
    except ValueError as error:
        return (str(error),)
    found = []
    if _facts(info) != _facts(describe(name)):
        found.append("its metadata describes other inputs or outputs")
    if labels != labels_text():
        found.append(f"its {LABELS} holds other labels")
    return tuple(found)


def _facts(info: ModelInfo) -> list[TensorInfo]:
    """What a program goes by; another version of the software may describe it in other words."""
    return [tensor._replace(description="") for tensor in (info.image, info.probabilities)]
