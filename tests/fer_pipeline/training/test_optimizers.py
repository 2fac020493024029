"""Muon against its formulas in NumPy, by singular value decomposition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.training import optimizers

A, B, C = 3.4445, -4.7750, 2.0315


def quintic(matrix):
    """What five Newton-Schulz steps converge from, singular value by singular value."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    values /= np.linalg.norm(values)
    for _ in range(5):
        values = A * values + B * values**3 + C * values**5
    return (left * values) @ right


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


MATRICES = {
    "long": some(200, 16),
    "wide": some(8, 24),
    "square": some(24, 24),
    "nearly of rank 3": some(90, 3) @ some(3, 20, seed=1) + 1e-4 * some(90, 20, seed=2),
    "tiny numbers": 1e-20 * some(40, 8),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_singular_values_go_by_the_quintic_and_vectors_stay(matrix):
    # The norm is kept from being zero, so next to nothing stays next to nothing.
    expected = quintic(matrix) if np.linalg.norm(matrix) > 1e-6 else np.zeros_like(matrix)
    found = optimizers.newton_schulz(tf.constant(matrix)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("iterate", [optimizers.by_products, optimizers.by_gram_matrix])
def test_both_ways_to_iterate_give_the_same(iterate):
    matrix = MATRICES["long"] / np.linalg.norm(MATRICES["long"])
    np.testing.assert_allclose(iterate(tf.constant(matrix), 5).numpy(), quintic(matrix), atol=1e-4)


def test_a_gradient_of_zeros_moves_nothing():
    assert not optimizers.newton_schulz(tf.zeros([6, 3])).numpy().any()


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, name="first"),
            keras.layers.Conv2D(8, 3, use_bias=False, name="hidden"),
            keras.layers.Conv2D(12, 1, use_bias=False, name="wide"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(7, name="head"),
        ]
    )


def gradients_of(variables, step):
    return [some(*v.shape, seed=10 * step + i) for i, v in enumerate(variables)]


def by_muon(kernel, momentum, gradient, rate):
    """A kernel and its momentum after a step."""
    columns = kernel.shape[-1]
    momentum = 0.95 * momentum + gradient
    matrix = (gradient + 0.95 * momentum).reshape(-1, columns)
    direction = quintic(matrix).reshape(kernel.shape) * np.sqrt(columns / min(matrix.shape))
    moved = kernel * np.sqrt(columns) / np.linalg.norm(kernel) - rate * direction
    return moved * np.sqrt(columns) / np.linalg.norm(moved), momentum


def by_adam(value, moments, gradient, rate, step, decay):
    first = 0.9 * moments[0] + 0.1 * gradient
    second = 0.999 * moments[1] + 0.001 * gradient.astype(np.float64) ** 2
    corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
    moved = value * (1 - rate * decay) - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-7)
    return moved, (first, second)


@pytest.mark.parametrize("loss_scaling", [False, True])
def test_two_steps_of_muon_are_those_of_its_formulas(loss_scaling):
    model = network()
    optimizer = optimizers.make(
        "muon", 0.012, model=model, weight_decay=0.05, loss_scaling=loss_scaling
    )
    optimizer.build(model.trainable_variables)
    scale = 2.0**15 if loss_scaling else 1.0
    names = [v.path.split("/")[-2] for v in model.trainable_variables]
    values = [v.numpy().astype(np.float64) for v in model.trainable_variables]
    memory = [0.0 if name in ("hidden", "wide") else (0.0, 0.0) for name in names]
    apply = tf.function(lambda *given: optimizer.apply(list(given), model.trainable_variables))
    for step in (1, 2):
        given = gradients_of(model.trainable_variables, step)
        apply(*[tf.constant(scale * gradient) for gradient in given])
        for i, gradient in enumerate(given):
            if names[i] in ("hidden", "wide"):
                values[i], memory[i] = by_muon(values[i], memory[i], gradient, 0.012)
            else:
                decay = 0.05 if names[i] == "head" and gradient.ndim > 1 else 0.0
                values[i], memory[i] = by_adam(values[i], memory[i], gradient, 0.002, step, decay)
    for variable, expected in zip(model.trainable_variables, values, strict=True):
        np.testing.assert_allclose(variable, expected, atol=2e-5, err_msg=variable.path)


def test_adamw_decays_kernels_alone():
    model = network()
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = optimizers.make("adamw", 0.1, model=model, weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.apply([tf.zeros(v.shape) for v in model.trainable_variables])
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, old * (0.95 if old.ndim > 1 else 1.0), rtol=1e-6)


def test_adam_is_keras_own():
    optimizer = optimizers.make("adam", 5e-4, model=network())
    assert type(optimizer) is keras.optimizers.Adam
    plain = keras.optimizers.Adam(5e-4, name=optimizer.name)
    assert optimizer.get_config() == plain.get_config()


def _place(weight):
    """``head/kernel``: the path without the model's name, which is another for every model."""
    return weight.path.partition("/")[2]


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("frozen", [("first",), ("first", "hidden", "wide", "norm")])
def test_what_is_frozen_stays_and_the_rest_goes_by_the_same_rule(name, frozen):
    """The hidden kernels are Muon's and the head is AdamW's, whatever is frozen before them."""
    found = []
    for names in ((), frozen):
        model = network()
        for layer in model.layers:
            layer.trainable = layer.name not in names
        before = {_place(weight): weight.numpy() for weight in model.weights}
        optimizer = optimizers.make(name, 0.01, model=model, weight_decay=0.1)
        optimizer.build(model.trainable_variables)
        given = {_place(v): some(*v.shape, seed=len(_place(v))) for v in model.trainable_variables}
        optimizer.apply(list(given.values()), model.trainable_variables)
        found.append({_place(weight): weight.numpy() for weight in model.weights})
        for path, value in found[-1].items():
            moves = path in given
            assert (value != before[path]).any() == moves, path
    for path in given:
        np.testing.assert_array_equal(found[1][path], found[0][path])
