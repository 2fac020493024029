"""Optimizers: Adam, AdamW, and Muon with convolution kernels seen as matrices.

Muon is Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): the step
of a matrix is its momentum with all singular values brought near one, by the Newton-Schulz
iteration. Kernels keep their norm and go by a relative rate, as in Jordan's "94% on CIFAR-10 in
3.29 seconds" (2024).
"""

from __future__ import annotations

import math
import re

import keras
import tensorflow as tf

#: Coefficients of Jordan's quintic: the steepest at zero that keeps what it converges to near one.
QUINTIC = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5

#: Under Muon, what is no matrix goes by AdamW at this share of its rate: 0.002 where it is 0.012.
ADAMW_SHARE = 1 / 6

#: Keeps the norm of a gradient of zeros from being divided by.
_TINY = 1e-7


def make(
    name: str,
    learning_rate: float,
    *,
    model: keras.Model,
    weight_decay: float = 0.0,
    loss_scaling: bool = False,
) -> keras.optimizers.Optimizer:
    """Makes an optimizer for a network; it still has to be built.

    Args:
      name: ``"adam"`` (Kingma and Ba, 2015) with Keras' defaults; ``"adamw"`` (Loshchilov and
        Hutter, 2019); or ``"muon"``, for every kernel but the first and the head's, with AdamW for
        the rest.
      learning_rate: at the start. Muon's is relative to a kernel's norm.
      model: its layers of weights in their order; the last one is the head. What is frozen is left
        out.
      weight_decay: of AdamW, times the learning rate a step. Of all kernels, and with Muon of the
        head's alone: the norm of the others is fixed.
      loss_scaling: whether to scale losses dynamically, for float16.
    """
    kernels = [weight for weight in model.weights if len(weight.shape) > 1]
    if name == "adam":
        optimizer = keras.optimizers.Adam(learning_rate)
    elif name == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay(_others(model, kernels))
    else:
        first, *_, head = kernels
        optimizer = Muon(
            learning_rate,
            weight_decay=weight_decay * ADAMW_SHARE,
            adam_lr_ratio=ADAMW_SHARE,
            exclude_layers=[f"^{re.escape(kernel.path)}$" for kernel in (first, head)],
        )
        optimizer.exclude_from_weight_decay(_others(model, [head]))
    return keras.optimizers.LossScaleOptimizer(optimizer) if loss_scaling else optimizer


def _others(model: keras.Model, decayed: list[keras.Variable]) -> list[keras.Variable]:
    known = {id(variable) for variable in decayed}
    return [variable for variable in model.trainable_variables if id(variable) not in known]


class Muon(keras.optimizers.Muon):
    """Keras' Muon that takes convolution kernels too, and keeps the norm of what it updates.

    A kernel ``[kh, kw, c_in, c_out]`` counts as the matrix ``[kh * kw * c_in, c_out]``. After a
    step it is scaled to the norm ``sqrt(c_out)``, and the step is of that norm times the learning
    rate. Only kernels before a normalisation may go by it: their size does not matter.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        excluded = any(re.search(pattern, variable.path) for pattern in self.exclude_layers)
        return len(variable.shape) < 2 or excluded

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        # That of Keras' optimizers, which knows strategies, in place of its Muon's.
        super(keras.optimizers.Muon, self)._apply_weight_decay(variables)

    def _muon_update_step(self, gradient, variable, lr, m) -> None:
        momentum = tf.convert_to_tensor(m) * self.momentum + gradient
        self.assign(m, momentum)
        nesterov = gradient + self.momentum * momentum
        columns = variable.shape[-1]
        step = newton_schulz(tf.reshape(nesterov, [-1, columns]), self.ns_steps)
        rows = math.prod(variable.shape[:-1])
        norm = math.sqrt(columns)
        # With fewer rows than columns there are as many singular values as rows.
        step *= math.sqrt(columns / min(rows, columns)) * tf.cast(lr, step.dtype)
        moved = _scaled(tf.convert_to_tensor(variable), norm) - tf.reshape(step, variable.shape)
        self.assign(variable, _scaled(moved, norm))


def _scaled(value: tf.Tensor, norm: float) -> tf.Tensor:
    return value * (norm / (tf.norm(value) + _TINY))


def newton_schulz(matrix: tf.Tensor, steps: int = NEWTON_SCHULZ_STEPS) -> tf.Tensor:
    """Brings the singular values of a float ``[n, m]`` near one; its singular vectors stay.

    On a CPU the iteration runs on the Gram matrix, which is faster where a matrix is long; see
    ``by_gram_matrix``. That takes float32 in full, and a GPU may multiply it in TF32.
    """
    iterate = by_products if tf.config.list_physical_devices("GPU") else by_gram_matrix
    wide = matrix.shape[0] < matrix.shape[1]
    long = tf.transpose(matrix) if wide else matrix
    result = iterate(long / (tf.norm(long) + _TINY), steps)
    return tf.transpose(result) if wide else result


def by_products(x: tf.Tensor, steps: int) -> tf.Tensor:
    """``x <- a x + b x (x'x) + c x (x'x)^2``, for ``[n, m]`` of a norm up to one."""
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = tf.matmul(x, x, transpose_a=True)
        x = a * x + tf.matmul(x, b * gram + c * tf.matmul(gram, gram))
    return x


def by_gram_matrix(x: tf.Tensor, steps: int) -> tf.Tensor:
    """The same with two products of size ``[n, m]`` in all, in place of two a step.

    A step multiplies ``x`` by a polynomial of the Gram matrix ``x'x``, and the next Gram matrix is
    a polynomial of the last, so that the ``[m, m]`` matrices alone go round.
    """
    a, b, c = QUINTIC
    gram = tf.matmul(x, x, transpose_a=True)
    identity = tf.eye(x.shape[1], dtype=x.dtype)
    product = None
    for step in range(steps):
        polynomial = a * identity + b * gram + c * tf.matmul(gram, gram)
        product = polynomial if product is None else tf.matmul(product, polynomial)
        if step < steps - 1:
            gram = tf.matmul(polynomial, tf.matmul(gram, polynomial))
    return tf.matmul(x, product)
