"""The notebook's layers with the same weights and the same function, computed faster.

Only training uses them. Exported models have Keras' own layers and the same weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from fer_pipeline.devices.precision import cpu_flags
from fer_pipeline.models import winograd

#: Input channels from which each algorithm is faster (the network has 1, 64, 128 and 512).
_MANY_CHANNELS = 64
_WINOGRAD_CHANNELS = 128

#: Rows and columns of outputs that Winograd's algorithm computes together; the first that divides
#: the image's is used.
_TILES = (4, 3)


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' BatchNormalization over the last axis, training through ``FusedBatchNormV3``.

    Keras 3 computes moments and normalises in separate elementwise passes. TensorFlow's kernel of
    Ioffe and Szegedy's "Batch Normalization" (2015) takes one in each direction, in float32 under
    every policy. It returns the unbiased variance; Keras tracks the biased one, so it is scaled
    before the moving average.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask=None) -> tf.Tensor:
        """Normalises ``[B, H, W, C]`` or ``[B, C]`` with the batch's moments when ``training``."""
        # One that is not trained goes by its moving statistics, as Keras' does.
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        flat = inputs.shape.rank == 2
        images = inputs[:, tf.newaxis, tf.newaxis, :] if flat else inputs
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(images) / images.shape[-1], tf.float32)
        biased = variance * ((count - 1.0) / count)
        self._track(self.moving_mean, mean)
        self._track(self.moving_variance, biased)
        return tf.squeeze(outputs, [1, 2]) if flat else outputs

    def _track(self, moving: keras.Variable, value: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + tf.cast(value, moving.dtype) * (1.0 - self.momentum))


class Convolution(layers.Conv2D):
    """Keras' Conv2D, "same" padding and stride 1, with its input's gradient as a convolution.

    The gradient with respect to the input is itself a "same" convolution, with the kernel rotated
    by 180 degrees and its channels exchanged. On a CPU with many channels oneDNN's forward kernels
    are faster than its backward-data kernels; with few channels Keras' own is used.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """``[B, H, W, C_in]`` and ``[k, k, C_in, C_out]`` (k odd) -> ``[B, H, W, C_out]``."""
        if inputs.shape[-1] < _MANY_CHANNELS:
            return super().convolution_op(inputs, kernel)
        return same_convolution(inputs, tf.convert_to_tensor(kernel))


class WinogradConvolution(Convolution):
    """The same, by Winograd's algorithm for 3x3 kernels and many channels of a square image."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """``[B, H, W, C_in]`` and ``[k, k, C_in, C_out]`` (k odd) -> ``[B, H, W, C_out]``."""
        rows, columns, channels = inputs.shape[1:]
        tile = next((tile for tile in _TILES if rows % tile == 0), None)
        if (
            self.kernel_size != (3, 3)
            or channels < _WINOGRAD_CHANNELS
            or rows != columns
            or not tile
        ):
            return super().convolution_op(inputs, kernel)
        return winograd.convolution(inputs, tf.convert_to_tensor(kernel), tile=tile)


@tf.custom_gradient
def same_convolution(inputs: tf.Tensor, kernel: tf.Tensor):
    """``tf.nn.conv2d`` (stride 1, "SAME", odd kernel); its input gradient is a convolution too."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rotated = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
        return (
            tf.nn.conv2d(upstream, rotated, strides=1, padding="SAME"),
            tf.raw_ops.Conv2DBackpropFilter(
                input=inputs,
                filter_sizes=tf.shape(kernel),
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding="SAME",
            ),
        )

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradient


class Dropout(layers.Dropout):
    """Keras' Dropout, with a different mask on every replica; with one replica, Keras' masks.

    All replicas have the same seed and count of steps, and would otherwise drop the same units of
    different images.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops units of ``[B, ...]`` when ``training``."""
        context = tf.distribute.get_replica_context()
        if not training or not self.rate or not context or context.num_replicas_in_sync == 1:
            return super().call(inputs, training=training)
        seed, count = tf.unstack(self.seed_generator.next())
        replica = tf.cast(context.replica_id_in_sync_group, count.dtype)
        # A different number for every replica and step.
        mask_seed = tf.stack([seed, count * context.num_replicas_in_sync + replica])
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, tf.cast(mask_seed, tf.int32))


def fastest_convolution(dtype_policy: str) -> type[keras.layers.Conv2D]:
    """Chooses the fastest convolution layer for this device.

    Winograd's algorithm needs fewer multiplications and more memory traffic, which is faster on
    CPUs with 256-bit vectors. With 512 bits it has not been measured, and 16-bit numbers are too
    imprecise for it.
    """
    if tf.config.list_physical_devices("GPU"):
        return layers.Conv2D
    flags = cpu_flags()
    narrow = "avx2" in flags and "avx512f" not in flags
    wide_enough = dtype_policy in ("float32", "float64")
    return WinogradConvolution if narrow and wide_enough else Convolution


def fastest_normalization(
    dtype_policy: str, replicas: int
) -> Callable[..., layers.BatchNormalization]:
    """Chooses the fastest layer that normalises batches.

    With several replicas it is Keras', which normalises over the batches of all of them: the fused
    kernel has only its own. It does not support float64 either.
    """
    if replicas > 1 or dtype_policy == "float64":
        return functools.partial(layers.BatchNormalization, synchronized=replicas > 1)
    return FusedBatchNormalization
