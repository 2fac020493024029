"""The CNN of the seed notebook, layer by layer: 4,478,727 parameters, 4,474,759 trainable."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from fer_pipeline.expressions import IMAGE_SIZE, NUM_CLASSES

if TYPE_CHECKING:
    import keras

#: Filters and kernel size of each convolution block.
CONVOLUTIONS = ((64, 3), (128, 5), (512, 3), (512, 3))
#: Units of each hidden fully connected block.
DENSE_UNITS = (256, 512)
DROPOUT_RATE = 0.25


def build_model(*, batch_size: int | None = None) -> keras.Sequential:
    """Builds the float32 network, of Keras' own layers, with the names Keras gave the seed's.

    Its input is ``[batch_size, 48, 48, 1]`` of grey levels 0..255 (the seed does not rescale, so
    neither does anything here); its output is float32 ``[batch_size, 7]``: the probabilities of
    ``expressions.CLASS_NAMES``.

    Args:
      batch_size: the fixed batch size, or None for any.
    """
    from keras import layers

    return _sequential(
        batch_size=batch_size,
        dtype_policy="float32",
        seed=None,
        convolution=layers.Conv2D,
        batch_normalization=layers.BatchNormalization,
        dropout=layers.Dropout,
        pool_before_activation=False,
    )


def count_parameters() -> int:
    """Parameters of the network, the moving statistics included, without building it."""
    pixels, channels, total = IMAGE_SIZE, 1, 0
    for filters, kernel_size in CONVOLUTIONS:
        # Kernel and bias, and the four vectors of batch normalisation.
        total += (kernel_size**2 * channels + 1 + 4) * filters
        pixels, channels = pixels // 2, filters
    units = pixels**2 * channels
    for size in DENSE_UNITS:
        total += (units + 1 + 4) * size
        units = size
    return total + (units + 1) * NUM_CLASSES


def build_training_model(
    *,
    dtype_policy: str = "float32",
    seed: int = 0,
    replicas: int = 1,
    dropout: float | None = None,
    normalization_momentum: float = 0.99,
) -> keras.Sequential:
    """Builds the same network for training: same function, same weights, fewer memory passes.

    ``get_weights()`` of this model and of ``build_model()`` are interchangeable. It differs in how
    it computes: batch normalisation by the fused kernel, ReLU after pooling (both are monotone, so
    they commute, and a quarter of the values is left), and on a CPU convolutions by other
    algorithms.

    Args:
      dtype_policy: a Keras dtype policy, such as ``"mixed_bfloat16"``. The softmax is float32 under
        every mixed one: in 16 bits it loses the small probabilities.
      seed: seed of the initial weights and of the dropout masks.
      replicas: copies of the network that will train together. With several, batch normalisation
        is over the batches of all of them, by Keras' layer: the fused kernel knows its own alone.
        The same goes for float64, which that kernel does not compute in.
      dropout: rate before the head, and none elsewhere; None is the seed's 0.25 after every block.
      normalization_momentum: of batch normalisation's moving statistics.
    """
    from fer_pipeline.fast_layers import Dropout, fastest_convolution, fastest_normalization

    return _sequential(
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

    count: dict[str, int] = {}
    blocks = len(CONVOLUTIONS) + len(DENSE_UNITS)
    before_the_head = [0.0] * (blocks - 1) + [dropout_rate]
    rates = iter([DROPOUT_RATE] * blocks if dropout_rate is None else before_the_head)

    def options(name: str) -> dict[str, str]:
        """Keras' automatic names: the first of a kind has no number."""
        index = count.get(name, 0)
        count[name] = index + 1
        return {"name": f"{name}_{index}" if index else name, "dtype": dtype_policy}

    def seed_of(layer_index: int) -> int | None:
        """Every layer draws from a stream of its own."""
        return None if seed is None else seed * 1000 + layer_index

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=seed_of(len(model.layers)))

    model = keras.Sequential(name="sequential")
    model.add(keras.Input(batch_shape=(batch_size, IMAGE_SIZE, IMAGE_SIZE, 1), name="image"))
    for filters, kernel_size in CONVOLUTIONS:
        model.add(
            convolution(
                filters,
                kernel_size,
                padding="same",
                kernel_initializer=initializer(),
                **options("conv2d"),
            )
        )
        model.add(batch_normalization(**options("batch_normalization")))
        activation = layers.Activation("relu", **options("activation"))
        pooling = layers.MaxPooling2D(2, **options("max_pooling2d"))
        for layer in (pooling, activation) if pool_before_activation else (activation, pooling):
            model.add(layer)
        model.add(dropout(next(rates), seed=seed_of(len(model.layers)), **options("dropout")))
    model.add(layers.Flatten(**options("flatten")))
    for units in DENSE_UNITS:
        model.add(layers.Dense(units, kernel_initializer=initializer(), **options("dense")))
        model.add(batch_normalization(**options("batch_normalization")))
        model.add(layers.Activation("relu", **options("activation")))
        model.add(dropout(next(rates), seed=seed_of(len(model.layers)), **options("dropout")))
    model.add(
        layers.Dense(
            NUM_CLASSES,
            activation="softmax",
            kernel_initializer=initializer(),
            **options("dense") | {"dtype": "float64" if dtype_policy == "float64" else "float32"},
        )
    )
    return model
