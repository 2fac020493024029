"""The RGB front: the same network for 48x48 colour images, as camera pipelines hand them over.

Grey is a weighted sum of the three channels and the first convolution is linear, so the two are
one convolution over three channels. Folded, they cost no operator more than the grey network's, and
no grey image in between is rounded to 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

#: Red, green and blue in grey: ITU-R BT.601, section 2.5.1, as in ``fer_pipeline.images``.
GREY_WEIGHTS = (0.299, 0.587, 0.114)

#: Changes of (red, green, blue) that leave 299 R + 587 G + 114 B as it is: the two shortest.
_SAME_GREY = np.array([[-15, 9, -7], [-11, -1, 34]])

#: How far a drawn colour may go along each of them, and the side of a patch of one colour: as large
#: as the first kernels' reach, or wrong weights would average out.
_STEPS, _PATCH = 4, 6


def rgb_model(model: keras.Model) -> keras.Model:
    """The network for colour images: of ``image`` RGB it gives what ``model`` gives of its grey.

    Args:
      model: takes float32 ``[N, 48, 48, 1]``; begins with a convolution.

    Returns:
      Takes float32 ``[N, 48, 48, 3]``, levels 0..255. Grey is not rounded on the way.
    """
    import keras

    batch, height, width, _ = model.input_shape
    source = keras.Input(batch_shape=(batch, height, width, 3), name="image")
    colour = keras.models.clone_model(model, input_tensors=source)
    # The first convolution's kernel comes first.
    kernel, *others = model.get_weights()
    weights = np.reshape(GREY_WEIGHTS, (1, 1, 3, 1))
    colour.set_weights([(weights * kernel).astype(np.float32), *others])
    return colour


def colour_images(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Colour images whose grey is, to the last bit, the given one.

    So the reference model's probabilities of the grey images are those of these. Every second
    image, the first among them, stays grey in three equal channels; the others get patches of
    random colours. A pixel whose colour would leave 0..255 stays grey.

    Args:
      images: uint8 ``[N, 48, 48, 1]``.
      seed: of the colours.

    Returns:
      uint8 ``[N, 48, 48, 3]``.
    """
    count, height, width, _ = images.shape
    shape = (count, -(-height // _PATCH), -(-width // _PATCH), len(_SAME_GREY))
    steps = np.random.default_rng(seed).integers(-_STEPS, _STEPS, shape, endpoint=True)
    steps[::2] = 0
    offsets = (steps @ _SAME_GREY).repeat(_PATCH, axis=1).repeat(_PATCH, axis=2)
    coloured = images + offsets[:, :height, :width]
    inside = np.all((coloured >= 0) & (coloured <= 255), axis=-1, keepdims=True)
    return np.where(inside, coloured, images).astype(np.uint8)
