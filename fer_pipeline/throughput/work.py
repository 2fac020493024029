"""How many operations the network takes, by the definition of its layers."""

from __future__ import annotations

from typing import NamedTuple

from fer_pipeline import model
from fer_pipeline.expressions import IMAGE_SIZE, NUM_CLASSES


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
    for filters, taps in model.CONVOLUTIONS:
        found.append(Product(size, taps, channels, filters))
        size, channels = size // 2, filters
    channels *= size**2
    for units in (*model.DENSE_UNITS, NUM_CLASSES):
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
