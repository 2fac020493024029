"""Weights of the classes against their formulas and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.datasets.splits import class_counts
from fer_pipeline.training import class_weights, distillation, steps

#: Training images of FER-2013, in the order of the class names.
FER2013 = np.array([3995, 436, 4097, 7215, 4965, 4830, 3171])


def test_balanced_is_inverse_to_the_counts():
    found = class_weights.make("balanced", FER2013)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [28709 / (7 * n) for n in FER2013.tolist()], rtol=1e-6)


def test_effective_counts_every_further_image_a_thousandth_less():
    found = class_weights.make("effective", FER2013)
    # The sum of the shares 0.999^i of its images, in the place of the formula's closed form.
    effective = np.array([sum(0.999**i for i in range(n)) for n in FER2013.tolist()])
    ratios = effective[3] / effective
    np.testing.assert_allclose(found / found[3], ratios, rtol=1e-5)
    assert found[1] == pytest.approx(2.72, abs=0.005)


@pytest.mark.parametrize("kind", ["balanced", "effective"])
@pytest.mark.parametrize("counts", [FER2013, [5, 1, 0, 20], [3, 3]])
def test_the_mean_weight_of_an_image_is_one(kind, counts):
    found = class_weights.make(kind, np.array(counts))
    assert len(found) == len(counts)
    images = np.repeat(found, counts)
    assert images.mean() == pytest.approx(1.0, rel=1e-5)
    assert ((found > 0) == (np.array(counts) > 0)).all()


def test_without_weights_there_are_none():
    assert class_weights.make("none", FER2013) is None


def test_weighted_steps_train_as_keras_fit_does(splits):
    """The last of the three batches is smaller."""
    weights = class_weights.make("balanced", class_counts(splits.train))
    batches = tf.data.Dataset.from_tensor_slices(tuple(splits.train)).batch(8)
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(7, activation="softmax"),
        ]
        models.append(keras.Sequential([keras.Input((48, 48, 1)), *layers]))
    ours, theirs = models
    theirs.compile(keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy")
    by_label = dict(enumerate(weights.tolist()))
    theirs.fit(batches, epochs=2, shuffle=False, class_weight=by_label, verbose=0)
    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(ours.trainable_variables)
    objective = distillation.objective(class_weights=weights)
    train_steps = steps.compile_train_steps(ours, optimizer, objective=objective)
    for _ in range(2):
        train_steps(iter(batches), tf.constant([8, 8, 4]))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
