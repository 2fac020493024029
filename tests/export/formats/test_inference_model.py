import numpy as np
import pytest

from export.formats.inference_model import inference_model
from fer_pipeline.errors import UserError
from fer_pipeline.inference.keras_loader import predict_probabilities


def test_gives_the_probabilities_of_the_trained_network(faces, weights, reference_model):
    model = inference_model(weights)
    assert all(layer.compute_dtype == "float32" for layer in model.layers)
    # 280 images are four full batches and a remainder.
    found = predict_probabilities(model, faces.images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference_model, atol=1e-6)


def test_refuses_weights_of_another_network(weights):
    with pytest.raises(UserError, match="another network"):
        inference_model(weights[:-1])
    with pytest.raises(UserError, match="another network"):
        inference_model([*weights[:-1], np.zeros(8, np.float32)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_weights_that_are_not_finite(weights, value):
    broken = [array.copy() for array in weights]
    broken[1][0] = value
    with pytest.raises(UserError, match="conv2d/bias"):
        inference_model(broken)
