"""The CNN of the notebook, layer by layer: 4,478,727 parameters with seven classes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES

if TYPE_CHECKING:
    import keras

#: Filters and kernel size of each convolution block.
CONVOLUTIONS = ((64, 3), (128, 5), (512, 3), (512, 3))
#: Units of each hidden fully connected block.
DENSE_UNITS = (256, 512)
DROPOUT_RATE = 0.25


def build_model(
    num_classes: int = NUM_CLASSES, *, batch_size: int | None = None
) -> keras.Sequential:
    """Builds the float32 network, of Keras' own layers, named as in the notebook.

    Its input is ``[batch_size, 48, 48, 1]``, grey levels 0..255, which are not rescaled, as in the
    notebook. Its output is float32 ``[batch_size, num_classes]``: the probabilities.

    Args:
      num_classes: units of the last layer.
      batch_size: the fixed batch size, or None for any.
    """
    from keras import layers

    return _sequential(
        num_classes=num_classes,
        batch_size=batch_size,
        dtype_policy="float32",
        seed=None,
        convolution=layers.Conv2D,
        batch_normalization=layers.BatchNormalization,
        dropout=layers.Dropout,
        pool_before_activation=False,
    )


def count_parameters(num_classes: int = NUM_CLASSES) -> int:
    """Counts the parameters and moving statistics of the network, without building it."""
    pixels, channels, total = IMAGE_SIZE, 1, 0
    for filters, kernel_size in CONVOLUTIONS:
        # Kernel, bias, and the four vectors of batch normalisation.
        total += (kernel_size**2 * channels + 1 + 4) * filters
        pixels, channels = pixels // 2, filters
    units = pixels**2 * channels
    for size in DENSE_UNITS:
        total += (units + 1 + 4) * size
        units = size
    return total + (units + 1) * num_classes


def count_layers() -> int:
    """Layers with weights: each block has two, and the head is the last."""
    return 2 * (len(CONVOLUTIONS) + len(DENSE_UNITS)) + 1


def build_training_model(
    num_classes: int = NUM_CLASSES,
    *,
    dtype_policy: str = "float32",
    seed: int = 0,
    replicas: int = 1,
    dropout: float | None = None,
    normalization_momentum: float = 0.99,
) -> keras.Sequential:
    """Builds the same network for training: same function, same weights, less time.

    ``get_weights()`` of this model and of ``build_model`` are interchangeable. It differs in the
    computation: batch normalisation by the fused kernel, ReLU after pooling (both are monotone, so
    they commute, and a quarter of the values is left), and on a CPU convolutions by other
    algorithms.

    Args:
      num_classes: units of the last layer.
      dtype_policy: a Keras dtype policy, such as ``"mixed_bfloat16"``. The softmax is float32 under
        every mixed one: 16 bits are too few for small probabilities.
      seed: of the initial weights and of the dropout masks.
      replicas: copies of the network that train together. With several, Keras' layer normalises
        over the batches of all of them: the fused kernel has only its own. It does not support
        float64 either.
      dropout: rate before the last layer, and none elsewhere; None is 0.25 after every block.
      normalization_momentum: of batch normalisation's moving statistics.
    """
    from fer_pipeline.models.fast_layers import Dropout, fastest_convolution, fastest_normalization

    return _sequential(
        num_classes=num_classes,
        batch_size=None,
        dtype_policy=dtype_policy,
        seed=seed,
        convolution=fastest_convolution(dtype_policy),
        batch_normalization=functools.partial(
            fastest_normalization(dtype_policy, replicas), momentum=normalization_momentum
        ),
        dropout=Dropout,
        dropout_rate=dropout,
        pool_before_activation=True,
    )


def _sequential(
    *,
    num_classes: int,
    batch_size: int | None,
    dtype_policy: str,
    seed: int | None,
    convolution: type[keras.layers.Conv2D],
    batch_normalization: Callable[..., keras.layers.BatchNormalization],
    dropout: type[keras.layers.Dropout],
    pool_before_activation: bool,
    dropout_rate: float | None = None,
) -> keras.Sequential:
    import keras
    from keras import layers

    count: Counter[str] = Counter()
    model = keras.Sequential(name="sequential")

    def layer_seed() -> int | None:
        """The seed of the next layer: every layer has its own random stream."""
        return None if seed is None else seed * 1000 + len(model.layers)

    def add(
        layer: Callable[..., keras.layers.Layer], name: str, *args: Any, **options: Any
    ) -> None:
        """Adds a layer, named as Keras does: the first of a kind has no number."""
        numbered = f"{name}_{count[name]}" if count[name] else name
        count[name] += 1
        model.add(layer(*args, name=numbered, **{"dtype": dtype_policy} | options))

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=layer_seed())

    blocks = len(CONVOLUTIONS) + len(DENSE_UNITS)
    last_only = [0.0] * (blocks - 1) + [dropout_rate]
    rates = iter([DROPOUT_RATE] * blocks if dropout_rate is None else last_only)
    activation = (layers.Activation, "activation", "relu")
    pooling = (layers.MaxPooling2D, "max_pooling2d", 2)
    model.add(keras.Input(batch_shape=(batch_size, IMAGE_SIZE, IMAGE_SIZE, 1), name="image"))
    for filters, size in CONVOLUTIONS:
        kernel = {"padding": "same", "kernel_initializer": initializer()}
        add(convolution, "conv2d", filters, size, **kernel)
        add(batch_normalization, "batch_normalization")
        for layer in (pooling, activation) if pool_before_activation else (activation, pooling):
            add(*layer)
        add(dropout, "dropout", next(rates), seed=layer_seed())
    add(layers.Flatten, "flatten")
    for units in DENSE_UNITS:
        add(layers.Dense, "dense", units, kernel_initializer=initializer())
        add(batch_normalization, "batch_normalization")
        add(*activation)
        add(dropout, "dropout", next(rates), seed=layer_seed())
    output = {"activation": "softmax", "kernel_initializer": initializer()}
    output["dtype"] = "float64" if dtype_policy == "float64" else "float32"
    add(layers.Dense, "dense", num_classes, **output)
    return model
