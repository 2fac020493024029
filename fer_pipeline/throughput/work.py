"""The network's products: how many operations they take, and weights to measure them with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.models import notebook_cnn


class Product(NamedTuple):
    """A layer that multiplies by a kernel.

    Attributes:
      size: rows and columns of its input and output; 1 for a fully connected layer.
      taps: rows and columns of its kernel.
      channels: of its input.
      filters: channels of its output.
    """

    size: int
    taps: int
    channels: int
    filters: int

    @property
    def flops(self) -> int:
        """Multiplications and additions for one image, forward."""
        return 2 * self.size**2 * self.taps**2 * self.channels * self.filters


def products() -> list[Product]:
    """The network's convolutions and fully connected layers, in order."""
    found, size, channels = [], IMAGE_SIZE, 1
    for filters, taps in notebook_cnn.CONVOLUTIONS:
        found.append(Product(size, taps, channels, filters))
        size, channels = size // 2, filters
    channels *= size**2
    for units in (*notebook_cnn.DENSE_UNITS, NUM_CLASSES):
        found.append(Product(1, 1, channels, units))
        channels = units
    return found


def training_flops() -> int:
    """Operations of a training step for one image: 1.7 billion.

    Every product is done once forward and twice backward, for the gradients of its kernel and of
    its input; the image itself needs none. All else is left out, as is usual.
    """
    layers = products()
    return 3 * sum(layer.flops for layer in layers) - layers[0].flops


def random_weights(*, seed: int = 0) -> list[np.ndarray]:
    """Weights in the shapes and the order of ``build_model().get_weights()``, without Keras.

    Kernels are Glorot's uniform ones (Glorot and Bengio, "Understanding the difficulty of training
    deep feedforward neural networks", 2010), which takes a network as long as any others.
    """
    rng, found = np.random.default_rng(seed), []
    for i, (_, taps, channels, filters) in enumerate(products()):
        limit = np.sqrt(6 / (taps**2 * (channels + filters)))
        window = (taps, taps) if i < len(notebook_cnn.CONVOLUTIONS) else ()
        kernel = rng.uniform(-limit, limit, (*window, channels, filters)).astype(np.float32)
        zeros, ones = np.zeros(filters, np.float32), np.ones(filters, np.float32)
        # Kernel and bias; gamma, beta, moving mean and variance of the batch normalisation.
        found += [kernel, zeros, ones, zeros, zeros, ones]
    # None follows the last layer.
    return found[:-4]
