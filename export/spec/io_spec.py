"""What each artifact takes and gives: names, shapes, dtypes, quantisation, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from export.spec.artifacts import ARTIFACTS
from fer_pipeline.classes import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES

PREPROCESSING = (
    "Crop the face, convert it to grey (BT.601: 0.299 R + 0.587 G + 0.114 B), resize it to 48x48"
    " with antialiasing (bilinear over the area that a pixel covers) and pass grey levels 0..255 as"
    " they are: no division, no mean to subtract. The RGB models take the crop in colour at 48x48,"
    " resized in the same way, levels 0..255, and convert it themselves."
)
#: Small numbers in words.
_WORDS = dict(enumerate("two three four five six seven eight nine".split(), start=2))


def in_words(number: int) -> str:
    """A number for a sentence: small ones as a word."""
    return _WORDS.get(number, f"{number:,}")


def format_postprocessing(num_classes: int = NUM_CLASSES, *, mirror: bool = False) -> str:
    """What the outputs mean. Each of the uint8 ones is rounded by up to half a 256th.

    A mirrored file rounds twice: what the network says of each view, and their mean.
    """
    roundings = 2 if mirror else 1
    rounding = math.ceil(1000 * roundings * num_classes / 512) / 1000
    return (
        "Probabilities in the order of the labels; they sum to 1. Where the output is uint8,"
        f" probability = value / 256; these {in_words(num_classes)}, each"
        f" rounded, sum to 1 within {rounding:g}. Of equal values take the first."
    )


_IMAGE = [IMAGE_SIZE, IMAGE_SIZE, 1]


def _tensor(name: str, shape: list[int | None], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype}


#: Names of the last layer: the notebook's network, the compact one.
_HEADS = ("dense_2", "head")


def _keras(num_classes: int) -> dict[str, Any]:
    return {
        "inputs": [_tensor("image", [None, *_IMAGE], "float32")],
        "outputs": [_tensor(_HEADS[0], [None, num_classes], "float32")],
    }


def _saved_model(num_classes: int) -> dict[str, Any]:
    probabilities = [_tensor("probabilities", [None, num_classes], "float32")]
    return {
        "signatures": {
            "serving_default": {
                "inputs": [_tensor("image", [None, *_IMAGE], "float32")],
                "outputs": probabilities,
            },
            "classify": {
                "inputs": [_tensor("image", [None, *_IMAGE], "uint8")],
                "outputs": [
                    _tensor("label", [None], "string"),
                    _tensor("score", [None], "float32"),
                ],
            },
            "serve_encoded": {
                "inputs": [_tensor("image_bytes", [None], "string")],
                "outputs": probabilities,
            },
        }
    }


def get_io_spec(name: str, tflite_batch: int = 1, num_classes: int = NUM_CLASSES) -> dict[str, Any]:
    """What a format's runtime must report of it, as JSON; None in a shape is any size.

    LiteRT's batch is fixed. The int8 models take bytes (scale 1, zero point 0) and give 256ths.
    """
    artifact = ARTIFACTS[name]
    if artifact.runtime != "tflite":
        return (_saved_model if artifact.runtime == "saved_model" else _keras)(num_classes)
    int8 = name.startswith("int8")

    def tensor(end: str, shape: list[int], scale: float) -> dict[str, Any]:
        quantization = {"scale": scale, "zero_point": 0} if int8 else None
        described = _tensor(end, [tflite_batch, *shape], "uint8" if int8 else "float32")
        return described | {"quantization": quantization}

    image = [IMAGE_SIZE, IMAGE_SIZE, artifact.channels]
    return {
        "inputs": [tensor("image", image, 1.0)],
        "outputs": [tensor("probabilities", [num_classes], 1 / 256)],
    }


def get_io_specs(
    name: str, tflite_batch: int = 1, num_classes: int = NUM_CLASSES
) -> list[dict[str, Any]]:
    """``get_io_spec`` of every network: Keras calls a model's output by its last layer."""
    agreed = get_io_spec(name, tflite_batch, num_classes)
    if ARTIFACTS[name].runtime != "keras":
        return [agreed]
    [output] = agreed["outputs"]
    return [agreed | {"outputs": [output | {"name": head}]} for head in _HEADS]


def format_labels(classes: Sequence[str] = CLASS_NAMES) -> str:
    """``labels.txt``: the class names in output order, one a line."""
    return "".join(f"{name}\n" for name in classes)


def parse_labels(text: str) -> tuple[str, ...]:
    """The class names in a ``labels.txt``; none of them holds what ends a line."""
    return tuple(text.splitlines())
