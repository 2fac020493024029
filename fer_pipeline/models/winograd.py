"""Convolutions with fewer multiplications: the algorithms of Toom, Cook and Winograd.

A tile of m outputs of a filter with r taps needs n = m + r - 1 multiplications instead of m r, and
its square in two dimensions: F(4x4, 3x3) takes 36, the definition 144. Here a multiplication is a
matrix product over channels, so BLAS does nearly all of the work.

S. Winograd, "Arithmetic Complexity of Computations" (1980); A. Lavin and S. Gray, "Fast Algorithms
for Convolutional Neural Networks" (2016), whose names F(m, r), A, B and G are used.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

#: Where the polynomials are evaluated, besides infinity; the first n - 1 of them are used. Small
#: and with small inverses: the matrices' norms bound the rounding error. With these the largest
#: error of a 3x3 layer of this network is 5e-6 of its largest output, that of the definition 3e-7.
#: Their products and sums are exact in float64.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)


class Transforms(NamedTuple):
    """y = A^T [(G g) * (B^T d)] for n inputs d and r taps g; float64.

    Attributes:
      outputs: A^T, ``[m, n]``.
      inputs: B^T, ``[n, n]``.
      kernel: G, ``[n, r]``.
    """

    outputs: np.ndarray
    inputs: np.ndarray
    kernel: np.ndarray


@functools.cache
def transforms(tile: int, taps: int) -> Transforms:
    """The matrices of F(tile, taps) in one dimension, exact but for the last rounding.

    The product of two polynomials, evaluated at n points, is the product of their values. Its
    transposition, by Tellegen's principle, is the filter: evaluating becomes A and G, and the
    inverse of the evaluation of n coefficients, transposed, becomes B^T.

    Raises:
      ValueError: more points are needed than there are.
    """
    size = tile + taps - 1
    if size - 1 > len(_POINTS):
        raise ValueError(f"F({tile}, {taps}) needs {size - 1} points, there are {len(_POINTS)}")
    points = np.array(_POINTS[: size - 1])
    # Lagrange's polynomials, whose coefficients are the inverse: each is 0 at all points but one,
    # the last at all.
    zeros = [*(np.delete(points, i) for i in range(size - 1)), points]
    inputs = np.zeros((size, size))
    for row, others in zip(inputs, zeros, strict=True):
        row[: len(others) + 1] = np.polynomial.polynomial.polyfromroots(others)
    at_point = np.array([*(np.prod(points[i] - zeros[i]) for i in range(size - 1)), 1.0])
    # The rows of one may be scaled if those of the other are scaled back.
    scale = np.max(np.abs(inputs), axis=1)
    return Transforms(
        outputs=_evaluation(points, tile).T,
        inputs=inputs / scale[:, np.newaxis],
        kernel=_evaluation(points, taps) * (scale / at_point)[:, np.newaxis],
    )


def convolution(inputs: tf.Tensor, kernel: tf.Tensor, *, tile: int) -> tf.Tensor:
    """``tf.nn.conv2d`` (stride 1, "SAME") by F(tile x tile, r x r); differentiable.

    Args:
      inputs: ``[B, H, H, C_in]``, float; H is static and a multiple of ``tile``.
      kernel: ``[r, r, C_in, C_out]``; r is odd and at most ``tile + 1``.
      tile: m, rows and columns of the outputs that are computed together.

    Returns:
      ``[B, H, H, C_out]``.
    """
    import tensorflow as tf

    taps, _, channels, filters = kernel.shape
    size, tiles = tile + taps - 1, inputs.shape[1] // tile
    # One matrix for both dimensions of a tile.
    to_outputs, to_inputs, to_kernel = (
        tf.constant(np.kron(matrix, matrix), inputs.dtype) for matrix in transforms(tile, taps)
    )
    patches = _patches(inputs, tile=tile, size=size, border=taps // 2)
    points = tf.matmul(to_inputs, tf.reshape(patches, [size**2, -1]))
    kernels = tf.matmul(to_kernel, tf.reshape(kernel, [taps**2, -1]))
    # A loop: on a CPU a batched product of the same matrices is up to three times slower.
    products = [
        tf.matmul(point, kernel_point)
        for point, kernel_point in zip(
            tf.unstack(tf.reshape(points, [size**2, -1, channels])),
            tf.unstack(tf.reshape(kernels, [size**2, channels, filters])),
            strict=True,
        )
    ]
    outputs = tf.matmul(to_outputs, tf.reshape(tf.stack(products), [size**2, -1]))
    outputs = tf.reshape(outputs, [tile, tile, -1, tiles, tiles, filters])
    outputs = tf.transpose(outputs, [2, 3, 0, 4, 1, 5])
    return tf.reshape(outputs, [-1, *inputs.shape[1:3], filters])


def _patches(inputs: tf.Tensor, *, tile: int, size: int, border: int) -> tf.Tensor:
    """Overlapping patches of ``[B, H, W, C]``: ``[size, size, B * tiles, tiles * C]``.

    Positions in a tile come first. Those beyond ``tile`` are the next tile's first ones, so one
    shift in each direction is enough; a slice for each position would be ``size ** 2`` copies.
    """
    import tensorflow as tf

    _, rows, _, channels = inputs.shape
    tiles, overlap = rows // tile, size - tile
    # One more tile than outputs have, as the neighbour of the last one.
    padding = [border, (tiles + 1) * tile - rows - border]
    padded = tf.pad(inputs, [[0, 0], padding, padding, [0, 0]])
    split = tf.reshape(padded, [-1, tiles + 1, tile, tiles + 1, tile, channels])
    by_position = tf.transpose(split, [2, 4, 0, 1, 3, 5])
    width = (tiles + 1) * channels
    x = tf.reshape(by_position, [tile, -1, tiles + 1, width])
    here = tf.slice(x, [0, 0, 0, 0], [tile, -1, tiles, width])
    below = tf.slice(x, [0, 0, 1, 0], [overlap, -1, tiles, width])
    x = tf.reshape(tf.concat([here, below], axis=0), [size, tile, -1, width])
    here = tf.slice(x, [0, 0, 0, 0], [size, tile, -1, tiles * channels])
    right = tf.slice(x, [0, 0, 0, channels], [size, overlap, -1, tiles * channels])
    return tf.concat([here, right], axis=1)


def _evaluation(points: np.ndarray, coefficients: int) -> np.ndarray:
    """The matrix from a polynomial's coefficients to its values at the points and infinity."""
    at_infinity = np.eye(1, coefficients, coefficients - 1)
    return np.vstack([np.vander(points, coefficients, increasing=True), at_infinity])
