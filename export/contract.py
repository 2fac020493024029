"""What each artifact takes and gives: names, shapes, dtypes, quantisation, and in words."""

from __future__ import annotations

from typing import Any

from export.artifacts import ARTIFACTS
from fer_pipeline.expressions import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES

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


def _tflite(
    dtype: str, input_scale: float | None, output_scale: float | None, channels: int = 1
) -> dict[str, Any]:
    image = [1, IMAGE_SIZE, IMAGE_SIZE, channels]

    def tensor(name: str, shape: list[int], scale: float | None) -> dict[str, Any]:
        quantization = {"scale": scale, "zero_point": 0} if scale else None
        return _tensor(name, shape, dtype) | {"quantization": quantization}

    return {
        "inputs": [tensor("image", image, input_scale)],
        "outputs": [tensor("probabilities", [1, NUM_CLASSES], output_scale)],
    }


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

#: By format: what its runtime must report of it. LiteRT's batch is fixed, here at one image;
#: None in a shape is any size. The int8 model takes bytes (scale 1, zero point 0) and gives 256ths.
CONTRACTS: dict[str, dict[str, Any]] = {
    "keras": _KERAS,
    "keras_v3": _KERAS,
    "saved_model": _SAVED_MODEL,
    "float32": _tflite("float32", None, None),
    "float16": _tflite("float32", None, None),
    "dynamic_range": _tflite("float32", None, None),
    "int8": _tflite("uint8", 1.0, 1 / 256),
    "float32_rgb": _tflite("float32", None, None, channels=3),
    "int8_rgb": _tflite("uint8", 1.0, 1 / 256, channels=3),
}


def contract_of(name: str, tflite_batch: int = 1) -> dict[str, Any]:
    """``CONTRACTS[name]`` for TFLite files of another fixed batch than one image."""
    agreed = CONTRACTS[name]
    if ARTIFACTS[name].runtime != "tflite":
        return agreed
    return {
        end: [tensor | {"shape": [tflite_batch, *tensor["shape"][1:]]} for tensor in tensors]
        for end, tensors in agreed.items()
    }


def contracts_of(name: str, tflite_batch: int = 1) -> list[dict[str, Any]]:
    """``contract_of`` every network: Keras calls a model's output by its last layer."""
    agreed = contract_of(name, tflite_batch)
    if agreed is not _KERAS:
        return [agreed]
    [output] = agreed["outputs"]
    return [agreed | {"outputs": [output | {"name": head}]} for head in _HEADS]


def labels_text() -> str:
    """``labels.txt``: the class names in output order, one a line."""
    return "".join(f"{name}\n" for name in CLASS_NAMES)
