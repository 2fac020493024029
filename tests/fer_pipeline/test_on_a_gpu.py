"""What only a GPU can show: ``pytest --gpu``. The rest of the suite then runs beside it, too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline import gpus
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.devices import precision, strategy
from fer_pipeline.models.notebook_cnn import build_model
from fer_pipeline.training import loop

pytestmark = pytest.mark.gpu


def faces(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)
    return Split(images, rng.integers(0, 7, count).astype(np.int32))


def test_a_training_with_the_choices_of_auto_runs_there():
    devices = strategy.join("auto", batch_size=64)
    trained_on = strategy.training_gpus(devices)
    policy = precision.resolve("auto", trained_on)
    assert gpus.training_line(trained_on, policy, 1).startswith("training on GPU 0: ")
    trained = loop.train(
        Splits(faces(150, 0), faces(20, 1), faces(20, 1)),
        Config(epochs=2),
        devices=devices,
        log=str,
    )
    assert np.isfinite(trained.history).all()
    assert all("GPU" in variable.value.device for variable in trained.model.trainable_variables)


def test_in_true_float32_it_answers_as_the_cpu_does():
    images = faces(64, 2).images.astype(np.float32)
    keras.utils.set_random_seed(0)
    model = build_model()
    with precision.true_float32():
        on_gpu = model(images, training=False).numpy()
    with tf.device("CPU:0"):
        reference_model = build_model()
        reference_model.set_weights(model.get_weights())
        on_cpu = reference_model(images, training=False).numpy()
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-5)
