"""The network against the notebook's summary, and the training variant against Keras' layers."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.models import fast_layers
from fer_pipeline.models.notebook_cnn import (
    build_model,
    build_training_model,
    count_layers,
    count_parameters,
)

# Layer names, output shapes and parameter counts as the notebook's `model.summary()` prints them.

#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"

SEED_SUMMARY = """
conv2d 48,48,64 640
batch_normalization 48,48,64 256
activation 48,48,64 0
max_pooling2d 24,24,64 0
dropout 24,24,64 0
conv2d_1 24,24,128 204928
batch_normalization_1 24,24,128 512
activation_1 24,24,128 0
max_pooling2d_1 12,12,128 0
dropout_1 12,12,128 0
conv2d_2 12,12,512 590336
batch_normalization_2 12,12,512 2048
activation_2 12,12,512 0
max_pooling2d_2 6,6,512 0
dropout_2 6,6,512 0
conv2d_3 6,6,512 2359808
batch_normalization_3 6,6,512 2048
activation_3 6,6,512 0
max_pooling2d_3 3,3,512 0
dropout_3 3,3,512 0
flatten 4608 0
dense 256 1179904
batch_normalization_4 256 1024
activation_4 256 0
dropout_4 256 0
dense_1 512 131584
batch_normalization_5 512 2048
activation_5 512 0
dropout_5 512 0
dense_2 7 3591
"""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1)).astype(np.float32)


def parameters(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def test_model_is_the_seeds_layer_by_layer():
    model = build_model()
    rows = [
        f"{layer.name} {','.join(map(str, layer.output.shape[1:]))} {layer.count_params()}"
        for layer in model.layers
    ]
    assert rows == SEED_SUMMARY.split("\n")[1:-1]
    assert parameters(model.weights) == 4_478_727
    assert parameters(model.trainable_weights) == 4_474_759
    assert count_parameters() == 4_478_727
    assert count_layers() == sum(bool(layer.weights) for layer in model.layers)


def test_batch_size_is_fixed_where_asked():
    assert build_model(batch_size=1).input_shape == (1, 48, 48, 1)
    assert build_model().input_shape == (None, 48, 48, 1)


def test_training_model_has_the_weights_and_the_function_of_the_plain_one(images):
    plain, fast = build_model(), build_training_model(seed=1)
    for variable in fast.weights:
        if "moving" in variable.name:
            variable.assign(np.random.default_rng(2).uniform(0.5, 1.5, variable.shape))
    plain.set_weights(fast.get_weights())
    np.testing.assert_allclose(fast(images), plain(images), atol=1e-5)


def without_dropout(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512f"}], ids=["avx2", "avx512"])
def test_a_training_step_has_the_gradients_and_moments_of_keras_layers(images, monkeypatch, flags):
    monkeypatch.setattr("fer_pipeline.models.fast_layers.cpu_flags", lambda: flags)
    fast = without_dropout(build_training_model(seed=3))
    plain = without_dropout(build_model())
    plain.set_weights(fast.get_weights())
    labels = np.array([0, 1, 2, 3, 4, 5])
    found = []
    for model in (fast, plain):
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            )
        found.append((loss, tape.gradient(loss, model.trainable_variables)))
    (fast_loss, fast_gradients), (plain_loss, plain_gradients) = found
    np.testing.assert_allclose(fast_loss, plain_loss, rtol=1e-5)
    for variable, ours, keras_own in zip(
        plain.trainable_variables, fast_gradients, plain_gradients, strict=True
    ):
        # A bias before batch normalisation has no influence: its gradient is mere rounding.
        scale = max(np.abs(keras_own).max(), 1e-2)
        np.testing.assert_allclose(ours, keras_own, atol=2e-4 * scale, err_msg=variable.path)
    for ours, keras_own in zip(
        fast.non_trainable_weights, plain.non_trainable_weights, strict=True
    ):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-4, atol=1e-5)


def test_same_convolution_and_its_gradients_are_tensorflows():
    rng = np.random.default_rng(4)
    inputs = tf.constant(rng.normal(size=(2, 5, 6, 3)), tf.float64)
    kernel = tf.constant(rng.normal(size=(3, 3, 3, 4)), tf.float64)
    upstream = tf.constant(rng.normal(size=(2, 5, 6, 4)), tf.float64)
    found = []
    for convolution in (
        fast_layers.same_convolution,
        lambda x, k: tf.nn.conv2d(x, k, strides=1, padding="SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            outputs = convolution(inputs, kernel)
        found.append([outputs, *tape.gradient(outputs, [inputs, kernel], upstream)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("flags", "policy", "kind"),
    [
        ({"avx2"}, "float32", fast_layers.WinogradConvolution),
        ({"avx2"}, "mixed_bfloat16", fast_layers.Convolution),
        ({"avx2", "avx512f"}, "float32", fast_layers.Convolution),
        (set(), "float32", fast_layers.Convolution),
    ],
)
def test_every_cpu_gets_its_convolutions(images, monkeypatch, flags, policy, kind):
    monkeypatch.setattr("fer_pipeline.models.fast_layers.cpu_flags", lambda: flags)
    model = build_training_model(dtype_policy=policy)
    assert {type(layer) for layer in model.layers if "conv2d" in layer.name} == {kind}
    assert model(images, training=True).shape == (6, 7)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_are_float32_under_every_policy(images, policy):
    model = build_training_model(dtype_policy=policy)
    probabilities = model(images, training=True)
    assert probabilities.dtype == tf.float32
    assert all(variable.dtype == "float32" for variable in model.weights)
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1.0, atol=1e-6)


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (build_training_model(seed=seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    kernels = [weight for weight in first if weight.ndim > 1]
    others = [weight for weight in other if weight.ndim > 1]
    assert len(kernels) == 7
    assert not any(np.array_equal(a, b) for a, b in zip(kernels, others, strict=True))


def test_no_two_layers_draw_the_same_numbers():
    kernels = [w.ravel()[:500] for w in build_training_model(seed=5).get_weights() if w.ndim > 1]
    # Uniform draws of one stream differ by their limits alone, and correlate perfectly.
    correlation = np.corrcoef([kernel / np.abs(kernel).max() for kernel in kernels])
    assert np.abs(correlation - np.eye(len(kernels))).max() < 0.3


class Context(NamedTuple):
    """As much of a replica's context as the layer looks at."""

    replica_id_in_sync_group: int
    num_replicas_in_sync: int


def test_every_replica_drops_other_units_and_no_two_steps_the_same(monkeypatch):
    ones = tf.ones((64, 256))
    masks = []
    for replica in range(3):
        layer = fast_layers.Dropout(0.25, seed=5)
        monkeypatch.setattr(tf.distribute, "get_replica_context", lambda r=replica: Context(r, 3))
        for _ in range(2):
            outputs = layer(ones, training=True).numpy()
            assert set(np.unique(outputs)) == {0.0, np.float32(1 / 0.75)}
            masks.append(outputs > 0)
        np.testing.assert_array_equal(layer(ones, training=False), ones)
    for i, first in enumerate(masks):
        assert abs(first.mean() - 0.75) < 0.02
        for other in masks[i + 1 :]:
            # Independent masks agree on 0.75^2 + 0.25^2 of the units.
            assert abs((first == other).mean() - 0.625) < 0.02


def test_a_single_replica_drops_what_keras_does():
    ones = tf.ones((8, 32))
    ours, keras_layer = (kind(0.25, seed=5) for kind in (fast_layers.Dropout, keras.layers.Dropout))
    for _ in range(2):
        np.testing.assert_array_equal(ours(ones, training=True), keras_layer(ones, training=True))
