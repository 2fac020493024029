"""The TFLite family: float32, float16, dynamic range and int8, each for a fixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.formats import metadata
from export.spec.io_spec import format_labels
from fer_pipeline.classes import CLASS_NAMES

#: Calibration images, or one of each class if there are more classes.
_CALIBRATION = 210

#: The operators of the int8 model: 8-bit kernels and, at its ends, uint8 <-> int8.
INT8_OPERATORS = frozenset(
    """
    ADD AVERAGE_POOL_2D CONV_2D FULLY_CONNECTED MAX_POOL_2D MEAN QUANTIZE RESHAPE SOFTMAX
    """.split()
)

#: What a mirrored one needs besides.
MIRROR_OPERATORS = frozenset({"CONCATENATION", "STRIDED_SLICE"})


def calibration_images(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Draws the images that the int8 model's ranges are measured on.

    Up to 210, or one of each class, as evenly over the classes as the data allows: a class with too
    few images leaves its share to the others. One more image, a copy of the first with a black and
    a white pixel, makes certain that the input's range is 0..255, hence its scale 1 and its zero
    point 0, and that a phone may pass camera bytes as they are.

    Args:
      images: uint8 ``[N, 48, 48, 1]``, N at least 1; training images.
      labels: int ``[N]``.
      seed: of the draw.

    Returns:
      uint8 ``[M, 48, 48, 1]``, M at most 211, or 1 more than classes.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    # Rank of each image within its class: those of rank 0 come first, one of each class.
    rank = np.empty(len(labels), np.int64)
    classes = np.unique(labels)
    for label in classes:
        members = np.flatnonzero(shuffled == label)
        rank[members] = np.arange(len(members))
    by_rank = order[np.argsort(rank, kind="stable")]
    drawn = images[by_rank[: max(_CALIBRATION, len(classes))]]
    extremes = drawn[:1].copy()
    extremes[0, 0, :2, 0] = 0, 255
    return np.concatenate([drawn, extremes])


def convert(
    source: Path,
    name: str,
    calibration: np.ndarray | None = None,
    batch_size: int = 1,
    *,
    mirror: bool = False,
    classes: Sequence[str] = CLASS_NAMES,
) -> bytes:
    """Converts a fixed-batch SavedModel into a TFLite file with metadata.

    Args:
      source: folder from ``saved_model.write_fixed_batch``.
      name: a TFLite format of ``artifacts.ARTIFACTS``.
      calibration: uint8 ``[M, 48, 48, C]``, from ``calibration_images``; int8 alone needs it.
      batch_size: the SavedModel's.
      mirror: whether that is mirrored.
      classes: the names of its outputs.

    Raises:
      ValueError: the int8 model is not what phones need: uint8 ends with input scale 1 and zero
        point 0, integer operators alone, a scale per output channel.
    """
    import tensorflow as tf

    # The RGB formats differ in the network that was saved.
    kind = name.removesuffix("_rgb")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":

        def representative() -> Iterator[list[np.ndarray]]:
            for start in range(0, len(calibration), batch_size):
                # A last batch that is not full takes some images once more.
                positions = np.arange(start, start + batch_size) % len(calibration)
                yield [calibration[positions].astype(np.float32)]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        # The Python type uint8 at both ends: LiteRT.js and cameras know no int8.
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
    content = converter.convert()
    if kind == "int8":
        problems = find_int8_problems(describe(content), mirror=mirror)
        if problems:
            raise ValueError(f"the int8 conversion went wrong: {'; '.join(problems)}")
    return metadata.with_metadata(content, name, format_labels(classes), mirror=mirror)


class Tensor(NamedTuple):
    """A tensor of a flatbuffer.

    Attributes:
      name: as stored.
      dtype: the schema's name, such as ``"INT8"``.
      shape: -1 where it is not fixed.
      scales: one, one per channel, or none.
      zero_points: as many.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]


class Graph(NamedTuple):
    """What a flatbuffer says about its main graph; ``weights`` are those of its matrix products.

    Attributes:
      operators: the schema's names, in execution order.
      tensors: all of them.
      inputs: the graph's.
      outputs: the graph's.
      weights: second input of every CONV_2D and FULLY_CONNECTED.
    """

    operators: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]


def describe(content: bytes) -> Graph:
    """Reads a TFLite flatbuffer by its schema, without an interpreter."""
    from ai_edge_litert import schema_py_generated as schema

    operator_names, type_names = _names(schema.BuiltinOperator), _names(schema.TensorType)
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    tensors = tuple(_tensor(stored, type_names[stored.type]) for stored in graph.tensors)
    codes = [operator_names[code.builtinCode] for code in model.operatorCodes]
    names = tuple(codes[operator.opcodeIndex] for operator in graph.operators)
    products = ("CONV_2D", "FULLY_CONNECTED")
    return Graph(
        operators=names,
        tensors=tensors,
        inputs=tuple(tensors[i] for i in graph.inputs),
        outputs=tuple(tensors[i] for i in graph.outputs),
        weights=tuple(
            tensors[operator.inputs[1]]
            for operator, name in zip(graph.operators, names, strict=True)
            if name in products
        ),
    )


def _tensor(stored: Any, dtype: str) -> Tensor:
    shape = stored.shape if stored.shapeSignature is None else stored.shapeSignature
    scales = getattr(stored.quantization, "scale", None)
    zero_points = () if scales is None else stored.quantization.zeroPoint
    name = stored.name.decode()
    return Tensor(name, dtype, *(_numbers(one) for one in (shape, scales, zero_points)))


def _numbers(values: np.ndarray | list | None) -> tuple:
    return () if values is None else tuple(np.atleast_1d(values).tolist())


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def find_int8_problems(graph: Graph, *, mirror: bool = False) -> list[str]:
    """What keeps a graph from being the integer model of this project; empty when nothing."""
    problems = []
    [source], [target] = graph.inputs, graph.outputs
    if (source.dtype, source.scales, source.zero_points) != ("UINT8", (1.0,), (0,)):
        problems.append(f"input {source.dtype} {source.scales} {source.zero_points}")
    if (target.dtype, target.scales, target.zero_points) != ("UINT8", (1 / 256,), (0,)):
        problems.append(f"output {target.dtype} {target.scales} {target.zero_points}")
    known = INT8_OPERATORS | MIRROR_OPERATORS if mirror else INT8_OPERATORS
    strangers = sorted(set(graph.operators) - known)
    if strangers:
        problems.append(f"operators {', '.join(strangers)}")
    floats = [tensor.name for tensor in graph.tensors if tensor.dtype.startswith("FLOAT")]
    if floats:
        problems.append(f"float tensors, the first {floats[0]}")
    # The output channel is the first axis of both kinds of weights.
    for weights in graph.weights:
        if weights.dtype != "INT8" or len(weights.scales) != weights.shape[0]:
            problems.append(
                f"{weights.name}: {weights.dtype} with {len(weights.scales)} scales for"
                f" {weights.shape[0]} channels"
            )
    return problems
