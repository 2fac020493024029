"""What each artifact takes and gives: names, shapes, dtypes, quantisation, and in words."""

from __future__ import annotations

from typing import Any

from export.spec.artifacts import ARTIFACTS
from fer_pipeline.classes import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES

PREPROCESSING = (
    "Crop the face, convert it to grey (BT.601: 0.299 R + 0.587 G + 0.114 B), resize it to 48x48"
    " with antialiasing (bilinear over the area that a pixel covers) and pass grey levels 0..255 as"
    " they are: no division, no mean to subtract. The RGB models take the crop in colour at 48x48,"
    " resized in the same way, levels 0..255, and convert it themselves."
)
POSTPROCESSING = (
    "Probabilities in the order of the labels; they sum to 1. Where the output is uint8,"
    " probability = value / 256; these seven, each rounded, sum to 1 within 0.014. Of equal values"
    " take the first."
)

_IMAGE = [IMAGE_SIZE, IMAGE_SIZE, 1]


def _tensor(name: str, shape: list[int | None], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype}


#: Names of the last layer: the notebook's network, the compact one.
_HEADS = ("dense_2", "head")

_KERAS = {
    "inputs": [_tensor("image", [None, *_IMAGE], "float32")],
    "outputs": [_tensor(_HEADS[0], [None, NUM_CLASSES], "float32")],
}
_SAVED_MODEL = {
    "signatures": {
        "serving_default": {
            "inputs": [_tensor("image", [None, *_IMAGE], "float32")],
            "outputs": [_tensor("probabilities", [None, NUM_CLASSES], "float32")],
        },
        "classify": {
            "inputs": [_tensor("image", [None, *_IMAGE], "uint8")],
            "outputs": [_tensor("label", [None], "string"), _tensor("score", [None], "float32")],
        },
        "serve_encoded": {
            "inputs": [_tensor("image_bytes", [None], "string")],
            "outputs": [_tensor("probabilities", [None, NUM_CLASSES], "float32")],
        },
    }
}


def get_io_spec(name: str, tflite_batch: int = 1) -> dict[str, Any]:
    """What a format's runtime must report of it, as JSON; None in a shape is any size.

    LiteRT's batch is fixed. The int8 models take bytes (scale 1, zero point 0) and give 256ths.
    """
    artifact = ARTIFACTS[name]
    if artifact.runtime != "tflite":
        return _SAVED_MODEL if artifact.runtime == "saved_model" else _KERAS
    int8 = name.startswith("int8")

    def tensor(end: str, shape: list[int], scale: float) -> dict[str, Any]:
        quantization = {"scale": scale, "zero_point": 0} if int8 else None
        described = _tensor(end, [tflite_batch, *shape], "uint8" if int8 else "float32")
        return described | {"quantization": quantization}

    image = [IMAGE_SIZE, IMAGE_SIZE, artifact.channels]
    return {
        "inputs": [tensor("image", image, 1.0)],
        "outputs": [tensor("probabilities", [NUM_CLASSES], 1 / 256)],
    }


def get_io_specs(name: str, tflite_batch: int = 1) -> list[dict[str, Any]]:
    """``get_io_spec`` of every network: Keras calls a model's output by its last layer."""
    agreed = get_io_spec(name, tflite_batch)
    if agreed is not _KERAS:
        return [agreed]
    [output] = agreed["outputs"]
    return [agreed | {"outputs": [output | {"name": head}]} for head in _HEADS]


def format_labels() -> str:
    """``labels.txt``: the class names in output order, one a line."""
    return "".join(f"{name}\n" for name in CLASS_NAMES)
