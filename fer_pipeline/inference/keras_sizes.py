"""What a Keras model takes, told from its configuration before any of it is allocated."""

from __future__ import annotations

import concurrent.futures
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fer_pipeline.inference import runtime_worker

if TYPE_CHECKING:
    import keras

#: Of float32, in which inference computes.
_BYTES_A_VALUE = 4


def measure(config: bytes) -> tuple[int, int]:
    """The sizes of a model with this JSON configuration.

    Returns:
      Bytes of all variables; and of the inputs and every layer's first output, for one batch.

    Raises:
      Exception: whatever a damaged configuration makes Keras raise.
    """
    # Keras keeps a list of the variables that a stateless scope left uninitialised, and fills them
    # all in when the next one ends. The list is the thread's, so it ends with this one.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(_measure, config).result()


def _measure(config: bytes) -> tuple[int, int]:
    import keras

    value: dict[str, Any] = json.loads(config)
    # Nothing is trained.
    value.pop("compile_config", None)
    with keras.StatelessScope(initialize_variables=False):
        model = keras.models.model_from_json(json.dumps(value))
    # By identity: an input layer's output is the model's input.
    tensors = {id(t): t for t in (*model.inputs, *(layer.output for layer in _layers(model)))}
    shapes = [
        [runtime_worker.BATCH if size is None else size for size in tensor.shape]
        for tensor in tensors.values()
    ]
    variables = [variable.shape for variable in model.variables]
    return tuple(_BYTES_A_VALUE * sum(map(math.prod, part)) for part in (variables, shapes))


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    """A model's layers, and those of the models among them."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
