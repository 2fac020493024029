"""Moves, turns, scales and cuts images in the step, on the device: gathers and interpolation.

Plain operations that XLA compiles and every device has.
"""

from __future__ import annotations

import tensorflow as tf

#: What a square that is cut out shows: the middle of the grey levels.
GREY = 127.5


def apply(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Applies the draws of ``augmentation.draw``.

    Args:
      images: uint8 ``[B, H, W, 1]``.
      draws: float32 ``[B, 9]``.

    Returns:
      float32 ``[B, H, W, 1]``, bilinearly interpolated; beyond its edge an image goes on with the
      edge's pixels.
    """
    height, width = images.shape[1], images.shape[2]
    rows, columns = _sources(draws, height, width)
    moved = _interpolate(tf.reshape(images, [-1, height * width]), rows, columns, height, width)
    cut = _inside(draws, height, width)
    return tf.reshape(tf.where(cut, GREY, moved), [-1, height, width, 1])


def _sources(draws: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where every pixel of the result comes from: float32 ``[B, H * W]`` rows and columns."""
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y, x = tf.meshgrid(
        tf.range(height, dtype=tf.float32) - middle_y,
        tf.range(width, dtype=tf.float32) - middle_x,
        indexing="ij",
    )
    y, x = tf.reshape(y, [1, -1]), tf.reshape(x, [1, -1])
    a, b, c, d, e, f = (draws[:, i : i + 1] for i in range(6))
    rows = a * y + b * x + (c + middle_y)
    columns = d * y + e * x + (f + middle_x)
    return (
        tf.clip_by_value(rows, 0.0, height - 1.0),
        tf.clip_by_value(columns, 0.0, width - 1.0),
    )


def _interpolate(
    flat: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    """Bilinear samples of uint8 ``[B, H * W]`` at positions inside the image: float32."""
    top = tf.minimum(tf.floor(rows), height - 2.0)
    left = tf.minimum(tf.floor(columns), width - 2.0)
    down, right = rows - top, columns - left
    first = tf.cast(top * width + left, tf.int32)

    def at(offset: int) -> tf.Tensor:
        return tf.cast(tf.gather(flat, first + offset, batch_dims=1), tf.float32)

    upper = at(0) * (1.0 - right) + at(1) * right
    lower = at(width) * (1.0 - right) + at(width + 1) * right
    return upper * (1.0 - down) + lower * down


def _inside(draws: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Which pixels are cut out: bool ``[B, H * W]``."""
    y = tf.abs(tf.range(height, dtype=tf.float32) + 0.5 - draws[:, 6:7])
    x = tf.abs(tf.range(width, dtype=tf.float32) + 0.5 - draws[:, 7:8])
    half = draws[:, 8:9]
    inside = (y < half)[:, :, tf.newaxis] & (x < half)[:, tf.newaxis, :]
    return tf.reshape(inside, [-1, height * width])
