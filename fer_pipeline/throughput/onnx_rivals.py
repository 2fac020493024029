"""The network as ONNX files for ONNX Runtime, for comparison; needs the extra ``bench``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.models import notebook_cnn
from fer_pipeline.throughput import work
from fer_pipeline.throughput.torch_rivals import channels_first, require

#: Keras' default.
_EPSILON = 1e-3

#: Of the file format; ONNX Runtime 1.20 and newer read it.
_OPSET, _IR_VERSION = 21, 10


def write_float32(weights: Sequence[np.ndarray], path: Path) -> None:
    """Writes the network: ``image`` float32 ``[B, 1, 48, 48]`` -> ``probabilities`` ``[B, 7]``.

    The weights are in the order of ``build_model().get_weights()``.

    Raises:
      ImportError: without ONNX Runtime.
    """
    require("ONNX Runtime", "onnx", "onnxruntime")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, remaining = [], [], iter(weights)
    value = "image"

    def add(operator: str, arrays: Sequence[np.ndarray] = (), **attributes: object) -> None:
        nonlocal value
        names = [f"{operator}_{len(nodes)}_{i}" for i in range(len(arrays))]
        constants.extend(map(numpy_helper.from_array, arrays, names))
        output = f"{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, [value, *names], [output], **attributes))
        value = output

    def normalize() -> None:
        gamma, beta, mean, variance = (next(remaining) for _ in range(4))
        add("BatchNormalization", [gamma, beta, mean, variance], epsilon=_EPSILON)
        add("Relu")

    products = work.products()
    flatten_at = len(notebook_cnn.CONVOLUTIONS)
    for i, (_, taps, *_) in enumerate(products):
        kernel, bias = next(remaining), next(remaining)
        if i < flatten_at:
            turned = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            add("Conv", [turned, bias], pads=[taps // 2] * 4, kernel_shape=[taps, taps])
            normalize()
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            continue
        if i == flatten_at:
            add("Flatten")
            kernel = channels_first(kernel)
        add("Gemm", [kernel, bias])
        if i < len(products) - 1:
            normalize()
    add("Softmax", axis=1)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "fer",
        [tensor("image", TensorProto.FLOAT, ["batch", 1, IMAGE_SIZE, IMAGE_SIZE])],
        [tensor(value, TensorProto.FLOAT, ["batch", NUM_CLASSES])],
        constants,
    )
    written = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(written)
    onnx.save(written, path)


def write_int8(float32: Path, path: Path, images: np.ndarray) -> None:
    """Quantises a file of ``write_float32`` statically: 8-bit weights a channel, 8-bit activations.

    It is calibrated on ``images``, uint8 ``[N, 48, 48, 1]``.

    Raises:
      ImportError: without ONNX Runtime.
    """
    require("ONNX Runtime", "onnx", "onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(np.array_split(images, -(-len(images) // 64)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"image": inputs(batch)}

    # Its optimiser folds batch normalisation into the convolutions, as others do.
    folded = path.with_suffix(".folded.onnx")
    quant_pre_process(str(float32), str(folded), skip_symbolic_shape=True)
    quantize_static(
        str(folded), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True
    )


def inference(path: Path, images: np.ndarray, *, threads: int) -> Callable[[], np.ndarray]:
    """A call of ONNX Runtime on uint8 ``[B, 48, 48, 1]``: probabilities float32 ``[B, 7]``.

    Raises:
      ImportError: without onnxruntime.
    """
    require("ONNX Runtime", "onnx", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {"image": inputs(images)}
    return lambda: session.run(None, given)[0]


def inputs(images: np.ndarray) -> np.ndarray:
    """uint8 ``[B, 48, 48, 1]`` as the files take it."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
