"""A small residual network at three widths, for faces of 48x48 grey pixels.

The blocks are those of He et al., "Deep residual learning for image recognition" (2015), with the
shortcut of ResNet-D (He et al., "Bag of tricks", 2018) and the zero-initialised last scale of Goyal
et al., "Accurate, large minibatch SGD" (2017).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES

if TYPE_CHECKING:
    import keras

#: Channels of the three stages; each is two blocks of two 3x3 convolutions. Multiples of 16 fill
#: the vector registers.
WIDTHS = {"tiny": (16, 24, 32), "compact": (32, 64, 112), "wide": (64, 128, 224)}
STEM_KERNEL = 5
BLOCKS_OF_A_STAGE = 2
DROPOUT_RATE = 0.1


def build_model(
    name: str, num_classes: int = NUM_CLASSES, *, batch_size: int | None = None
) -> keras.Model:
    """Builds the float32 network, of Keras' own layers.

    Args:
      name: a key of ``WIDTHS``.
      num_classes: units of the last layer.
      batch_size: the fixed batch size, or None for any.

    Returns:
      A network from grey levels 0..255 ``[batch_size, 48, 48, 1]`` to the float32 probabilities
      ``[batch_size, num_classes]``.
    """
    from keras import layers

    return _network(
        WIDTHS[name],
        num_classes=num_classes,
        batch_size=batch_size,
        dtype_policy="float32",
        seed=None,
        dropout_rate=DROPOUT_RATE,
        convolution=layers.Conv2D,
        batch_normalization=layers.BatchNormalization,
        dropout=layers.Dropout,
    )


def build_training_model(
    name: str,
    num_classes: int = NUM_CLASSES,
    *,
    dtype_policy: str = "float32",
    seed: int = 0,
    replicas: int = 1,
    dropout: float | None = None,
    normalization_momentum: float = 0.99,
) -> keras.Model:
    """Builds the same network for training: same function, same weights, fewer memory passes.

    Args:
      name: a key of ``WIDTHS``.
      num_classes: units of the last layer.
      dtype_policy: a Keras dtype policy; the softmax is float32 under every mixed one.
      seed: seed of the initial weights and of the dropout masks.
      replicas: copies of the network that will train together; see ``notebook_cnn``.
      dropout: rate before the head; None is 0.1.
      normalization_momentum: of batch normalisation's moving statistics.
    """
    from fer_pipeline.models.fast_layers import Dropout, fastest_convolution, fastest_normalization

    return _network(
        WIDTHS[name],
        num_classes=num_classes,
        batch_size=None,
        dtype_policy=dtype_policy,
        seed=seed,
        dropout_rate=DROPOUT_RATE if dropout is None else dropout,
        convolution=fastest_convolution(dtype_policy),
        batch_normalization=functools.partial(
            fastest_normalization(dtype_policy, replicas), momentum=normalization_momentum
        ),
        dropout=Dropout,
    )


def count_parameters(name: str, num_classes: int = NUM_CLASSES) -> int:
    """Parameters of the network, the moving statistics included, without building it."""
    channels = WIDTHS[name][0]
    total = (STEM_KERNEL**2 + 4) * channels
    for stage, width in enumerate(WIDTHS[name]):
        for block in range(BLOCKS_OF_A_STAGE):
            total += (9 * channels + 9 * width + 8) * width
            if stage and not block:
                total += (channels + 4) * width
            channels = width
    return total + (channels + 1) * num_classes


def count_layers(name: str) -> int:
    """Layers with weights, shortcuts and the head included."""
    shortcuts = len(WIDTHS[name]) - 1
    return 2 + 4 * BLOCKS_OF_A_STAGE * len(WIDTHS[name]) + 2 * shortcuts + 1


def _network(
    widths: tuple[int, ...],
    *,
    num_classes: int,
    batch_size: int | None,
    dtype_policy: str,
    seed: int | None,
    dropout_rate: float,
    convolution: type[keras.layers.Conv2D],
    batch_normalization: Callable[..., keras.layers.BatchNormalization],
    dropout: type[keras.layers.Dropout],
) -> keras.Model:
    import keras
    from keras import layers

    streams = iter(range(1000))

    def own_seed() -> int | None:
        """Every layer draws from a stream of its own."""
        stream = next(streams)
        return None if seed is None else seed * 1000 + stream

    def convolve(x, channels: int, kernel_size: int, name: str, *, strides: int = 1):
        # The algorithms of our own are for stride 1.
        layer = convolution if strides == 1 and kernel_size > 1 else layers.Conv2D
        return layer(
            channels,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seed=own_seed()),
            name=name,
            dtype=dtype_policy,
        )(x)

    def normalize(x, name: str, *, gamma: str = "ones"):
        return batch_normalization(gamma_initializer=gamma, name=name, dtype=dtype_policy)(x)

    def relu(x, name: str):
        return layers.Activation("relu", name=name, dtype=dtype_policy)(x)

    def block(x, channels: int, strides: int, name: str):
        shortcut = x
        if strides > 1:
            shortcut = layers.AveragePooling2D(
                strides, name=f"{name}_shortcut_pool", dtype=dtype_policy
            )(shortcut)
            shortcut = convolve(shortcut, channels, 1, f"{name}_shortcut_conv")
            shortcut = normalize(shortcut, f"{name}_shortcut_bn")
        x = convolve(x, channels, 3, f"{name}_conv1", strides=strides)
        x = relu(normalize(x, f"{name}_bn1"), f"{name}_relu1")
        x = convolve(x, channels, 3, f"{name}_conv2")
        # At first the block passes on its shortcut alone.
        x = normalize(x, f"{name}_bn2", gamma="zeros")
        x = layers.Add(name=f"{name}_add", dtype=dtype_policy)([x, shortcut])
        return relu(x, f"{name}_relu2")

    image = keras.Input(batch_shape=(batch_size, IMAGE_SIZE, IMAGE_SIZE, 1), name="image")
    x = convolve(image, widths[0], STEM_KERNEL, "stem_conv", strides=2)
    x = relu(normalize(x, "stem_bn"), "stem_relu")
    for stage, channels in enumerate(widths):
        for index in range(BLOCKS_OF_A_STAGE):
            strides = 2 if stage and not index else 1
            x = block(x, channels, strides, f"stage{stage + 1}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool", dtype=dtype_policy)(x)
    x = dropout(dropout_rate, seed=own_seed(), name="dropout", dtype=dtype_policy)(x)
    head_dtype = "float64" if dtype_policy == "float64" else "float32"
    outputs = layers.Dense(
        num_classes,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=own_seed()),
        name="head",
        dtype=head_dtype,
    )(x)
    return keras.Model(image, outputs, name="compact_cnn")
